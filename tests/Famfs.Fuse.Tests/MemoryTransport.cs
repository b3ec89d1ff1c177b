using System.Buffers.Binary;
using System.Runtime.InteropServices;
using Famfs.Core;
using Famfs.Core.Interop;
using Famfs.Core.Namespace;
using Famfs.Fuse.Dialects;
using Famfs.Fuse.Operations;
using Famfs.Fuse.Protocol;
using Famfs.Fuse.Session;
using Xunit;
using Errno = Famfs.Fuse.Protocol.Errno;

namespace Famfs.Fuse.Tests;

/// <summary>The kernel as an array: one request to read, every reply kept.</summary>
internal sealed class MemoryTransport : IFuseTransport
{
    private readonly Queue<byte[]> _requests = new();

    public List<byte[]> Replies { get; } = [];

    /// <summary>Result of the next write instead of success; used once.</summary>
    public Errno FailNextWrite { get; set; }

    public void Enqueue(byte[] request) => _requests.Enqueue(request);

    public int Read(Span<byte> buffer)
    {
        if (!_requests.TryDequeue(out byte[]? request))
            return -(int)Errno.ENODEV;
        request.CopyTo(buffer);
        return request.Length;
    }

    public unsafe int Write(ReadOnlySpan<byte> head, ReadOnlySpan<MemoryPiece> pieces)
    {
        if (FailNextWrite != Errno.None)
        {
            int result = -(int)FailNextWrite;
            FailNextWrite = Errno.None;
            return result;
        }
        var message = new MemoryStream();
        message.Write(head);
        foreach (MemoryPiece piece in pieces)
            message.Write(new ReadOnlySpan<byte>((void*)piece.Address, (int)piece.LengthBytes));
        Replies.Add(message.ToArray());
        return (int)message.Length;
    }
}

/// <summary>One worker over arrays: requests as bytes in, replies as bytes out.</summary>
internal sealed class RequestDriver : IDisposable
{
    private readonly MemoryTransport _transport = new();
    private readonly TreeReader _reader;
    private readonly RequestReader _requests;
    private readonly FuseWorker _worker;
    private ulong _unique = 2;

    public RequestDriver(TestFileSystem system, CachePolicy? cache = null, Dialect? dialect = null)
    {
        var negotiated = new Negotiated(dialect ?? DialectTable.Stock, 45, InitNegotiation.Accepted, 1 << 20, 256);
        Presence = new KernelPresence();
        _reader = system.Tree.RegisterReader();
        Operations = new FuseOperations(system.Dependencies, Presence, cache ?? new CachePolicy(), negotiated);
        _requests = new RequestReader(_transport, Operations.Requests, negotiated.MaxWriteBytes);
        var replies = new ReplyWriter(_transport);
        _worker = new FuseWorker(_requests, Operations, replies, new WorkerState(_reader, new ReplyBuffer(), _requests.Buffer, replies, Operations.Failures));
    }

    public KernelPresence Presence { get; }

    public FuseOperations Operations { get; }

    public MemoryTransport Transport => _transport;

    public WorkerCounters Counters => _worker.Counters;

    public Exception? LastFailure => Operations.Failures.Last;

    public void Dispose()
    {
        _reader.Dispose();
        _requests.Dispose();
    }

    public static byte[] Message(FuseOpcode opcode, ulong unique, ulong node, ReadOnlySpan<byte> body, uint uid = 0, uint gid = 0)
    {
        byte[] message = new byte[40 + body.Length];
        BinaryPrimitives.WriteInt32LittleEndian(message, message.Length);
        BinaryPrimitives.WriteUInt32LittleEndian(message.AsSpan(4), (uint)opcode);
        BinaryPrimitives.WriteUInt64LittleEndian(message.AsSpan(8), unique);
        BinaryPrimitives.WriteUInt64LittleEndian(message.AsSpan(16), node);
        BinaryPrimitives.WriteUInt32LittleEndian(message.AsSpan(24), uid);
        BinaryPrimitives.WriteUInt32LittleEndian(message.AsSpan(28), gid);
        body.CopyTo(message.AsSpan(40));
        return message;
    }

    /// <summary>Handles one message; the replies to it, as they are.</summary>
    public List<byte[]> Raw(byte[] message)
    {
        _transport.Replies.Clear();
        _transport.Enqueue(message);
        Assert.Equal(ReadOutcome.Message, _worker.Step());
        return _transport.Replies;
    }

    /// <summary>Asks and expects exactly one reply, to this request.</summary>
    public (Errno Errno, byte[] Body) Ask(FuseOpcode opcode, InodeNumber node, ReadOnlySpan<byte> body = default, uint uid = 0, uint gid = 0)
    {
        ulong unique = _unique += 2;
        byte[] reply = Assert.Single(Raw(Message(opcode, unique, node.Value, body, uid, gid)));
        Assert.Equal(reply.Length, BinaryPrimitives.ReadInt32LittleEndian(reply));
        Assert.Equal(unique, BinaryPrimitives.ReadUInt64LittleEndian(reply.AsSpan(8)));
        if (BinaryPrimitives.ReadInt32LittleEndian(reply.AsSpan(4)) == 0 && Operations.Requests.Find((uint)opcode)!.OutBytes is { } bytes)
            Assert.Equal(16 + bytes, reply.Length);
        return ((Errno)(-BinaryPrimitives.ReadInt32LittleEndian(reply.AsSpan(4))), reply[16..]);
    }

    public (Errno Errno, byte[] Body) Ask<T>(FuseOpcode opcode, InodeNumber node, T body, ReadOnlySpan<byte> rest = default)
        where T : unmanaged =>
        Ask(opcode, node, [.. MemoryMarshal.AsBytes(new ReadOnlySpan<T>(in body)), .. rest]);

    /// <summary>Asks and expects success with a struct.</summary>
    public TReply Require<T, TReply>(FuseOpcode opcode, InodeNumber node, T body, ReadOnlySpan<byte> rest = default)
        where T : unmanaged
        where TReply : unmanaged
    {
        (Errno errno, byte[] reply) = Ask(opcode, node, body, rest);
        Assert.Equal(Errno.None, errno);
        Assert.Equal(System.Runtime.CompilerServices.Unsafe.SizeOf<TReply>(), reply.Length);
        return MemoryMarshal.Read<TReply>(reply);
    }

    public (Errno Errno, EntryOut Entry) Lookup(InodeNumber parent, string name)
    {
        (Errno errno, byte[] body) = Ask(FuseOpcode.FUSE_LOOKUP, parent, Terminated(name));
        return (errno, errno == Errno.None ? MemoryMarshal.Read<EntryOut>(body) : default);
    }

    public (Errno Errno, byte[] Data) Read(InodeNumber node, long offset, int size) =>
        Ask(FuseOpcode.FUSE_READ, node, new ReadIn { Offset = (ulong)offset, SizeBytes = (uint)size });

    public (Errno Errno, int Written) Write(InodeNumber node, long offset, byte[] data, uint flags = 0)
    {
        (Errno errno, byte[] body) = Ask(FuseOpcode.FUSE_WRITE, node, new WriteIn { Offset = (ulong)offset, SizeBytes = (uint)data.Length, WriteFlags = flags }, data);
        return (errno, errno == Errno.None ? (int)MemoryMarshal.Read<WriteOut>(body).SizeBytes : 0);
    }

    public static byte[] Terminated(string name) => [.. System.Text.Encoding.UTF8.GetBytes(name), 0];
}
