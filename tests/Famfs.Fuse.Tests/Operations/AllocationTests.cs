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

namespace Famfs.Fuse.Tests.Operations;

/// <summary>Counts managed bytes on the thread of a worker.</summary>
public sealed class AllocationTests : IDisposable
{
    private readonly TestFileSystem _system = new();
    private readonly Session.SharedMemory _memory = new(4 * TestFileSystem.Unit);

    public void Dispose()
    {
        _system.Dispose();
        _memory.Dispose();
    }

    [Fact]
    public void No_kind_of_request_allocates()
    {
        _system.AddDevice(0, _memory.Open());
        InodeNumber directory = _system.AddDirectory(InodeNumber.Root, "d");
        InodeNumber file = _system.AddFile(directory, "f", 100_000);
        InodeNumber link = _system.AddSymlink(directory, "l", "target");
        _system.Tree.SetExtendedAttribute(file, "user.note"u8, "hello"u8);
        (string Name, byte[] Message)[] requests =
        [
            ("LOOKUP", Ask(FuseOpcode.FUSE_LOOKUP, directory, RequestDriver.Terminated("f"))),
            ("LOOKUP negative", Ask(FuseOpcode.FUSE_LOOKUP, directory, RequestDriver.Terminated("missing"))),
            ("GETATTR", Ask(FuseOpcode.FUSE_GETATTR, file, Bytes(new GetAttrIn()))),
            ("STATX", Ask(FuseOpcode.FUSE_STATX, file, Bytes(new StatxIn()))),
            ("SETATTR", Ask(FuseOpcode.FUSE_SETATTR, file, Bytes(new SetAttrIn { Valid = 1 }))),
            ("ACCESS", Ask(FuseOpcode.FUSE_ACCESS, file, Bytes(new AccessIn { Mask = 4 }))),
            ("READLINK", Ask(FuseOpcode.FUSE_READLINK, link, [])),
            ("STATFS", Ask(FuseOpcode.FUSE_STATFS, InodeNumber.Root, [])),
            ("OPEN", Ask(FuseOpcode.FUSE_OPEN, file, Bytes(new OpenIn()))),
            ("READ", Ask(FuseOpcode.FUSE_READ, file, Bytes(new ReadIn { Offset = 4096, SizeBytes = 65536 }))),
            ("WRITE", Ask(FuseOpcode.FUSE_WRITE, file, [.. Bytes(new WriteIn { Offset = 10, SizeBytes = 3000 }), .. new byte[3000]])),
            ("FLUSH", Ask(FuseOpcode.FUSE_FLUSH, file, Bytes(new FlushIn()))),
            ("FSYNC", Ask(FuseOpcode.FUSE_FSYNC, file, Bytes(new FsyncIn()))),
            ("RELEASE", Ask(FuseOpcode.FUSE_RELEASE, file, Bytes(new ReleaseIn()))),
            ("OPENDIR", Ask(FuseOpcode.FUSE_OPENDIR, directory, Bytes(new OpenIn()))),
            ("READDIR", Ask(FuseOpcode.FUSE_READDIR, directory, Bytes(new ReadIn { Handle = 1, SizeBytes = 4096 }))),
            ("READDIRPLUS", Ask(FuseOpcode.FUSE_READDIRPLUS, directory, Bytes(new ReadIn { Handle = 1, SizeBytes = 4096 }))),
            ("RELEASEDIR", Ask(FuseOpcode.FUSE_RELEASEDIR, directory, Bytes(new ReleaseIn { Handle = 1 }))),
            ("GETXATTR map", Ask(FuseOpcode.FUSE_GETXATTR, file, [.. Bytes(new GetXattrIn { SizeBytes = 500 }), .. "user.famfs.map\0"u8])),
            ("GETXATTR layout", Ask(FuseOpcode.FUSE_GETXATTR, file, [.. Bytes(new GetXattrIn { SizeBytes = 500 }), .. "user.famfs.layout\0"u8])),
            ("GETXATTR uuid", Ask(FuseOpcode.FUSE_GETXATTR, InodeNumber.Root, [.. Bytes(new GetXattrIn { SizeBytes = 500 }), .. "user.famfs.uuid\0"u8])),
            ("GETXATTR stored", Ask(FuseOpcode.FUSE_GETXATTR, file, [.. Bytes(new GetXattrIn { SizeBytes = 500 }), .. "user.note\0"u8])),
            ("LISTXATTR", Ask(FuseOpcode.FUSE_LISTXATTR, file, Bytes(new GetXattrIn { SizeBytes = 500 }))),
            ("FORGET", Ask(FuseOpcode.FUSE_FORGET, file, Bytes(new ForgetIn { LookupCount = 1 }))),
            ("MKDIR", Ask(FuseOpcode.FUSE_MKDIR, file, [0, 0, 0, 0, 0, 0, 0, 0, 97, 0])),
            ("RENAME2", Ask(FuseOpcode.FUSE_RENAME2, directory, [.. Bytes(new Rename2In { NewParent = directory.Value }), .. "f\0g\0"u8])),
            ("SETXATTR", Ask(FuseOpcode.FUSE_SETXATTR, file, [.. Bytes(new SetXattrIn { SizeBytes = 1 }), .. "user.a\0b"u8])),
            ("INTERRUPT", Ask(FuseOpcode.FUSE_INTERRUPT, InodeNumber.None, Bytes(new InterruptIn { Unique = 4 }))),
            ("unknown", Ask((FuseOpcode)54, file, [])),
            ("garbage", new byte[41]),
        ];

        Assert.True(MeasureRequests(DialectTable.Stock, requests) >= 20_000);
    }

    [Theory]
    [InlineData("A")]
    [InlineData("B0")]
    [InlineData("B")]
    [InlineData("D")]
    public void No_request_of_a_famfs_kernel_allocates(string name)
    {
        Dialect dialect = DialectTable.Find(name)!;
        _system.AddDevice(0, _memory.Open());
        _system.KernelDevices.Add("/dev/dax0.0", 1L << 40, default(DeviceIndex));
        InodeNumber simple = _system.AddFile(InodeNumber.Root, "simple", 100_000);
        MapExtent[] strips = [.. Enumerable.Range(0, 32).Select(i => new MapExtent(default, i * 100 * TestFileSystem.Unit, 100 * TestFileSystem.Unit))];
        InodeNumber striped = _system.AddFile(InodeNumber.Root, "striped", 3200 * TestFileSystem.Unit, 0x1A4, (ulong)TestFileSystem.Unit, strips);
        var opcode = (FuseOpcode)dialect.FmapOpcode!.Value;
        bool saysRoom = dialect.Sizing != FmapSizing.FixedRoom;
        byte[] Room(uint bytes) => saysRoom ? Bytes(new GetXattrIn { SizeBytes = bytes }) : [];
        List<(string Name, byte[] Message)> requests =
        [
            ("OPEN", Ask(FuseOpcode.FUSE_OPEN, simple, Bytes(new OpenIn()))),
            ("OPEN striped", Ask(FuseOpcode.FUSE_OPEN, striped, Bytes(new OpenIn()))),
            ("GET_FMAP", Ask(opcode, simple, Room(4096))),
            ("GET_FMAP short", Ask(opcode, striped, Room(64))),
            ("GET_FMAP striped", Ask(opcode, striped, Room(1 << 20))),
            ("GET_FMAP of nothing", Ask(opcode, new InodeNumber(4711), Room(4096))),
        ];
        if (dialect.DaxDeviceOpcode is { } device)
            requests.Add(("GET_DAXDEV", Ask((FuseOpcode)device, default, [])));
        Assert.True(MeasureRequests(dialect, requests) >= 1000 * requests.Count);
    }

    private long MeasureRequests(Dialect dialect, IEnumerable<(string Name, byte[] Message)> requests)
    {
        var negotiated = new Negotiated(dialect, 45, InitNegotiation.Accepted, 1 << 20, 256);
        var transport = new OneRequest();
        using TreeReader reader = _system.Tree.RegisterReader();
        var operations = new FuseOperations(_system.Dependencies, new KernelPresence(), new CachePolicy(), negotiated);
        using var reading = new RequestReader(transport, operations.Requests, negotiated.MaxWriteBytes);
        var replies = new ReplyWriter(transport);
        var worker = new FuseWorker(reading, operations, replies, new WorkerState(reader, new ReplyBuffer(), reading.Buffer, replies, operations.Failures));
        foreach ((string name, byte[] message) in requests)
        {
            transport.Request = message;
            // The least of several rounds: a collection meanwhile, for other threads, charges this one for what is left
            // of its allocation context. What a request allocates is in every round.
            long allocated = long.MaxValue;
            for (int round = 0; round < 8 && allocated > 0; round++)
            {
                long before = GC.GetAllocatedBytesForCurrentThread();
                for (int i = 0; i < 1000; i++)
                    worker.Step();
                allocated = Math.Min(allocated, GC.GetAllocatedBytesForCurrentThread() - before);
            }

            Assert.True(allocated == 0, $"{name}: {allocated} bytes for 1000 requests");
        }
        Assert.Null(operations.Failures.Last);
        return transport.Replies;
    }

    private static byte[] Ask(FuseOpcode opcode, InodeNumber node, byte[] body) => RequestDriver.Message(opcode, 2, node.Value, body);

    private static byte[] Bytes<T>(T value)
        where T : unmanaged => MemoryMarshal.AsBytes(new ReadOnlySpan<T>(in value)).ToArray();

    private sealed class OneRequest : IFuseTransport
    {
        public byte[] Request { get; set; } = [];

        public int Replies { get; private set; }

        public int Read(Span<byte> buffer)
        {
            Request.CopyTo(buffer);
            return Request.Length;
        }

        public int Write(ReadOnlySpan<byte> head, ReadOnlySpan<MemoryPiece> pieces)
        {
            Replies++;
            return head.Length;
        }
    }
}
