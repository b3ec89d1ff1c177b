using System.Buffers.Binary;
using System.Collections.Concurrent;
using System.Net.Sockets;
using System.Text;
using Xunit;
using Errno = Famfs.Fuse.Protocol.Errno;

namespace Famfs.Fuse.Tests.Kernel;

/// <summary>The kernel would not go on with this reply: a mistake of the server, never of a program.</summary>
internal sealed class KernelRejectsException(string why) : Exception(why);

/// <summary>A range of a device, as the kernel has it from a map.</summary>
internal readonly record struct KernelExtent(uint Device, ulong Offset, ulong Length);

/// <summary>A map as the kernel keeps it. <see cref="ChunkBytes"/> 0: the extents follow each other.</summary>
internal sealed record KernelMap(ulong FileBytes, ulong ChunkBytes, IReadOnlyList<KernelExtent> Extents)
{
    /// <summary>Where a byte of the file is.</summary>
    public (uint Device, ulong Offset) Resolve(ulong offset)
    {
        if (ChunkBytes != 0)
        {
            ulong chunk = offset / ChunkBytes;
            KernelExtent strip = Extents[(int)(chunk % (ulong)Extents.Count)];
            ulong within = (chunk / (ulong)Extents.Count * ChunkBytes) + (offset % ChunkBytes);
            return within < strip.Length ? (strip.Device, strip.Offset + within) : throw new KernelRejectsException($"byte {offset} is beyond its strip");
        }
        foreach (KernelExtent extent in Extents)
        {
            if (offset < extent.Length)
                return (extent.Device, extent.Offset + offset);
            offset -= extent.Length;
        }
        throw new KernelRejectsException($"byte {offset} is beyond the extents");
    }
}

/// <summary>
/// The kernel's side of FUSE with famfs, one generation of it, over sockets: sends what a kernel sends, in its order,
/// and takes no reply that a kernel would not take. Byte layouts are written out here once more, from the description
/// of the interface and not from the server's structs.
/// <para>One thread drives it. <see cref="TakePushedDevice"/> may be called from any.</para>
/// </summary>
internal sealed class KernelDouble(KernelGeneration generation) : IDisposable
{
    private const ulong Unit = 2 << 20;
    private static readonly TimeSpan ReplyTimeout = TimeSpan.FromSeconds(30); // generous: a hang, not a speed
    private readonly BlockingCollection<Socket> _attached = [];
    private readonly List<Socket> _workers = [];
    private readonly Dictionary<ulong, KernelMap> _maps = [];
    private readonly Dictionary<uint, string> _devices = [];
    private readonly byte[] _buffer = new byte[1 << 20];
    private readonly ManualResetEventSlim _booted = new();
    private Socket? _first;
    private ulong _unique;
    private int _next;
    private bool _disposed;
    private bool _breaksReads;

    /// <summary>Dax character devices of this host, by path; a value is what taking it fails with.</summary>
    public ConcurrentDictionary<string, Errno> DeviceNodes { get; } = [];

    /// <summary>Offered without famfs, as to a process without CAP_SYS_RAWIO.</summary>
    public bool HidesFmaps { get; init; }

    /// <summary>From now on the server's reads fail with EIO, each at the next message.</summary>
    public bool BreaksReads { get => Volatile.Read(ref _breaksReads); set => Volatile.Write(ref _breaksReads, value); }

    /// <summary>What the push ioctl answers; null: as the generation does.</summary>
    public Errno? PushAnswer { get; init; }

    /// <summary>The server asked for maps.</summary>
    public bool FmapsAgreed { get; private set; }

    /// <summary>Requests sent, by opcode.</summary>
    public Dictionary<uint, int> Sent { get; } = [];

    /// <summary>Devices the kernel holds, by index.</summary>
    public IReadOnlyDictionary<uint, string> Devices => _devices;

    /// <summary>The other end of a transport of the server.</summary>
    public void Attach(Socket socket) => _attached.Add(socket);

    /// <summary>Sends INIT and takes the reply; then the server's workers attach.</summary>
    public void Boot()
    {
        _first = _attached.Take();
        ulong offered = 0x3_FFFF_FFFF & ~(1UL << 31); // all of mainline's but reserved ones, INIT_EXT among them
        offered |= 0x1F4UL << 32;
        if (generation.Minor >= 43)
            offered |= 1UL << 42; // FUSE_REQUEST_TIMEOUT
        if (generation.FmapBit >= 0 && !HidesFmaps)
            offered |= 1UL << generation.FmapBit;
        byte[] offer = new byte[64];
        BinaryPrimitives.WriteUInt32LittleEndian(offer, 7);
        BinaryPrimitives.WriteUInt32LittleEndian(offer.AsSpan(4), generation.Minor);
        BinaryPrimitives.WriteUInt32LittleEndian(offer.AsSpan(8), 131072);
        BinaryPrimitives.WriteUInt32LittleEndian(offer.AsSpan(12), (uint)offered);
        BinaryPrimitives.WriteUInt32LittleEndian(offer.AsSpan(16), (uint)(offered >> 32));
        Socket socket = _first;
        (Errno errno, byte[] reply) = Exchange(socket, 26, 0, offer);
        if (errno != Errno.None)
            return; // the server has given up, and says why itself

        Reject(reply.Length != 64, $"INIT: {reply.Length} bytes");
        uint flags = U32(reply, 12);
        ulong agreed = flags | ((flags & (1u << 30)) != 0 ? (ulong)U32(reply, 32) << 32 : 0);
        Reject(U32(reply, 0) != 7 || U32(reply, 4) > generation.Minor, "INIT: version");
        Reject((agreed & ~offered) != 0, $"INIT: flags {agreed & ~offered:x} were not offered");
        Reject((flags & (1u << 30)) == 0 && U32(reply, 32) != 0, "INIT: flags2 without INIT_EXT");
        Reject((agreed & ((1UL << 3) | (1UL << 12) | (1UL << 16))) != 0, "INIT: ATOMIC_O_TRUNC, AUTO_INVAL_DATA or WRITEBACK_CACHE");
        Reject(U32(reply, 20) < 4096, "INIT: max_write");
        FmapsAgreed = generation.FmapBit >= 0 && !HidesFmaps && (agreed & (1UL << generation.FmapBit)) != 0;
        Reject(generation.Minor >= 43 && (agreed & (1UL << 42)) != 0, "INIT: a request timeout that nobody has set");
        _booted.Set();
    }

    /// <summary>Takes the workers' transports, <paramref name="count"/> of them.</summary>
    public void AttachWorkers(int count)
    {
        while (_workers.Count < count)
            _workers.Add(_attached.Take());
    }

    /// <summary>The push ioctl of dialect D; of any other generation, an ioctl it does not have.</summary>
    public Errno TakePushedDevice(string path, uint index)
    {
        // A kernel has taken the reply to INIT when the server's write returns; here it is read a little later.
        if (!_booted.Wait(ReplyTimeout))
            throw new KernelRejectsException("a device was pushed before INIT was answered");
        if (PushAnswer is { } answer)
            return answer;
        if (!generation.Pushed || !FmapsAgreed)
            return Errno.ENOTTY;
        lock (_devices)
        {
            if (index >= generation.MaxDevices || index != _devices.Count)
                return Errno.EINVAL;
            if (!DeviceNodes.TryGetValue(path, out Errno errno))
                return Errno.ENOENT;
            if (errno == Errno.None)
                _devices.Add(index, path);
            return errno;
        }
    }

    /// <summary>The path of a device the kernel holds.</summary>
    public string PathOf(uint index)
    {
        lock (_devices)
            return _devices[index];
    }

    /// <summary>Sends any request to one of the workers; the reply as it is.</summary>
    public (Errno Errno, byte[] Body) Ask(uint opcode, ulong node, ReadOnlySpan<byte> body = default) =>
        Exchange(_workers[_next++ % _workers.Count], opcode, node, body);

    /// <summary>Sends a request to one worker and waits for no reply; gives its name.</summary>
    public ulong Post(int worker, uint opcode, ulong node, ReadOnlySpan<byte> body) => Send(_workers[worker], opcode, node, body);

    /// <summary>Sends a request again that was read and not answered; gives its unique, which says so.</summary>
    public ulong PostAgain(int worker, ulong unique, uint opcode, ulong node, ReadOnlySpan<byte> body)
    {
        const ulong Resent = 1UL << 63;
        Assert.Equal(40 + body.Length, _workers[worker].Send(RequestDriver.Message((Famfs.Fuse.Protocol.FuseOpcode)opcode, unique | Resent, node, body)));
        return unique | Resent;
    }

    /// <summary>INTERRUPT of a request, to any worker: the kernel has one queue for all of them.</summary>
    public void Interrupt(int worker, ulong unique) => Send(_workers[worker], 36, 0, BitConverter.GetBytes(unique));

    /// <summary>The reply to a posted request, which comes where that was read.</summary>
    public (Errno Errno, byte[] Body) Await(int worker, ulong unique) => Receive(_workers[worker], 0, unique);

    /// <summary>LOOKUP; gives node id and size.</summary>
    public (ulong Node, ulong Size) Lookup(ulong parent, string name)
    {
        (Errno errno, byte[] entry) = Ask(1, parent, [.. Encoding.UTF8.GetBytes(name), 0]);
        Reject(errno != Errno.None || entry.Length != 128, $"LOOKUP {name}: {errno}, {entry.Length} bytes");
        return (U64(entry, 0), U64(entry, 48));
    }

    /// <summary>GETATTR; gives the size.</summary>
    public ulong SizeOf(ulong node)
    {
        (Errno errno, byte[] attributes) = Ask(3, node, new byte[16]);
        Reject(errno != Errno.None || attributes.Length != 104, $"GETATTR: {errno}, {attributes.Length} bytes");
        return U64(attributes, 24);
    }

    /// <summary>open(2): OPEN, then the map and the devices it names unless the kernel has them. The errno the program
    /// sees; <paramref name="map"/> is null on a stock kernel.</summary>
    public Errno Open(ulong node, out KernelMap? map, uint openFlags = 2)
    {
        map = null;
        byte[] request = new byte[8];
        BinaryPrimitives.WriteUInt32LittleEndian(request, openFlags);
        (Errno errno, byte[] opened) = Ask(14, node, request);
        if (errno != Errno.None)
            return errno;
        Reject(opened.Length != 16, $"OPEN: {opened.Length} bytes");
        uint flags = U32(opened, 8);
        if (!FmapsAgreed)
        {
            Reject((flags & 3) == 2, "OPEN: caches are kept although others write to the memory");
            return Errno.None;
        }
        Reject((flags & 1) != 0 || (flags & 2) == 0, $"OPEN: flags {flags:x}, not KEEP_CACHE alone");
        if (_maps.TryGetValue(node, out map))
            return Errno.None;
        errno = FetchMap(node, out byte[] message);
        if (errno != Errno.None)
            return errno;
        KernelMap fetched = Parse(message);
        foreach (KernelExtent extent in fetched.Extents)
        {
            errno = RequireDevice(extent.Device);
            if (errno != Errno.None)
                return errno;
        }
        Reject(fetched.FileBytes != SizeOf(node), "GET_FMAP: another size than GETATTR's; the kernel would mark the file bad");
        _maps.Add(node, map = fetched);
        return Errno.None;
    }

    /// <summary>GET_FMAP with the generation's dance about sizes; the whole message.</summary>
    public Errno FetchMap(ulong node, out byte[] message)
    {
        int room = generation.FirstRoom;
        for (int round = 0; ; round++)
        {
            byte[] request = generation.SaysRoom ? new byte[8] : [];
            if (generation.SaysRoom)
                BinaryPrimitives.WriteInt32LittleEndian(request, room);
            (Errno errno, message) = Ask(generation.GetFmap, node, request);
            if (errno != Errno.None)
                return errno;
            Reject(message.Length > room, $"GET_FMAP: {message.Length} bytes into a buffer of {room}");
            if (generation.HeaderWhenShort)
            {
                Reject(message.Length < 32, $"GET_FMAP: {message.Length} bytes");
                uint total = U32(message, 12);
                Reject(total is < 56 or > 16 << 20, $"GET_FMAP: says {total} bytes");
                if (total == message.Length)
                    return Errno.None;
                Reject(message.Length != 32 || total <= room || round > 0, $"GET_FMAP: {message.Length} of {total} bytes into a buffer of {room}");
                room = (int)total;
            }
            else
            {
                if (message.Length != 4)
                    return Errno.None;
                uint total = U32(message, 0);
                Reject(total <= room || total > 32768 || round > 0, $"GET_FMAP: wants {total} bytes, the buffer has {room}");
                room = (int)total;
            }
        }
    }

    /// <summary>SETATTR of a size, as truncate(2) and O_TRUNC send it.</summary>
    public Errno Truncate(ulong node, ulong size)
    {
        byte[] request = new byte[88];
        BinaryPrimitives.WriteUInt32LittleEndian(request, 1 << 3);
        BinaryPrimitives.WriteUInt64LittleEndian(request.AsSpan(16), size);
        (Errno errno, byte[] reply) = Ask(4, node, request);
        if (errno == Errno.None)
            Reject(_maps.TryGetValue(node, out KernelMap? map) && U64(reply, 24) != map.FileBytes, "SETATTR: a size that is not the map's");
        return errno;
    }

    /// <summary>The last FORGET of an inode: its map goes with it.</summary>
    public void Forget(ulong node)
    {
        _maps.Remove(node);
        byte[] request = new byte[8];
        request[0] = 1;
        Send(_workers[0], 2, node, request);
    }

    /// <summary>Nothing has come that nobody asked for.</summary>
    public void RequireSilence()
    {
        foreach (Socket worker in _workers)
            Reject(worker.Available != 0, $"{worker.Available} bytes nobody asked for");
    }

    public void Dispose()
    {
        if (_disposed)
            return;
        _disposed = true;
        _first?.Dispose();
        foreach (Socket worker in _workers)
            worker.Dispose();
        while (_attached.TryTake(out Socket? socket))
            socket.Dispose();
        _attached.Dispose();
        _booted.Dispose();
    }

    private Errno RequireDevice(uint index)
    {
        lock (_devices)
        {
            if (_devices.ContainsKey(index))
                return Errno.None;
        }
        Reject(generation.Pushed, $"GET_FMAP: names device {index}, which was not pushed");
        (Errno errno, byte[] reply) = Ask(generation.GetDaxDevice, index);
        if (errno != Errno.None)
            return errno;
        Reject(reply.Length != 280, $"GET_DAXDEV: {reply.Length} bytes");
        Reject(BinaryPrimitives.ReadUInt16LittleEndian(reply) != index, "GET_DAXDEV: another index");
        Reject(reply.AsSpan(2, 22).ContainsAnyExcept((byte)0), "GET_DAXDEV: reserved bytes");
        ReadOnlySpan<byte> name = reply.AsSpan(24);
        int end = name.IndexOf((byte)0);
        Reject(end <= 0 || name[end..].ContainsAnyExcept((byte)0) || name[0] != '/', "GET_DAXDEV: not one NUL-terminated path");
        string path = Encoding.UTF8.GetString(name[..end]);
        if (!DeviceNodes.TryGetValue(path, out errno))
            return Errno.ENOENT;
        lock (_devices)
        {
            if (errno == Errno.None)
                _devices.Add(index, path);
        }
        return errno;
    }

    private KernelMap Parse(byte[] message)
    {
        Reject(message.Length < 56, $"GET_FMAP: {message.Length} bytes");
        Reject(message[0] > 1 || message[1] != 0 || BinaryPrimitives.ReadUInt16LittleEndian(message.AsSpan(2)) != 1, "GET_FMAP: file type or version");
        Reject((!generation.HeaderWhenShort && U32(message, 12) != 0) || U64(message, 24) != 0, "GET_FMAP: reserved fields of the header");
        uint type = U32(message, 4);
        uint count = U32(message, 8);
        ulong fileBytes = U64(message, 16);
        Reject(fileBytes == 0 || type > 1 || (type == 1 && !generation.Interleaved), $"GET_FMAP: type {type}, {fileBytes} bytes");
        Reject(count == 0 || count > generation.MaxExtents, $"GET_FMAP: {count} extents");
        ulong chunkBytes = 0;
        int at = 32;
        if (type == 1)
        {
            Reject(count != 1, $"GET_FMAP: {count} interleaved extents");
            count = U32(message, 32);
            chunkBytes = U32(message, 36);
            Reject(count == 0 || count > generation.MaxExtents, $"GET_FMAP: {count} strips");
            Reject(chunkBytes == 0 || chunkBytes % Unit != 0 || U64(message, 40) != fileBytes || U64(message, 48) != 0, "GET_FMAP: head of the strips");
            at += 24;
        }
        Reject(message.Length != at + (count * 24L), $"GET_FMAP: {message.Length} bytes for {count} extents");
        var extents = new KernelExtent[count];
        ulong sum = 0;
        for (int i = 0; i < extents.Length; i++, at += 24)
        {
            extents[i] = new KernelExtent(U32(message, at), U64(message, at + 8), U64(message, at + 16));
            Reject(U32(message, at + 4) != 0, $"GET_FMAP: reserved field of extent {i}");
            Reject(extents[i].Device >= generation.MaxDevices, $"GET_FMAP: device {extents[i].Device}");
            Reject(extents[i].Offset % Unit != 0 || extents[i].Length % Unit != 0 || extents[i].Length == 0, $"GET_FMAP: extent {i} is not aligned");
            sum += extents[i].Length;
        }
        Reject(sum < fileBytes, "GET_FMAP: shorter than the file");

        // The kernel says so in its log, once, of a regular file that begins where its device does.
        Reject((message[0] == 1) != (extents[0].Offset == 0), "GET_FMAP: file type");
        return new KernelMap(fileBytes, chunkBytes, extents);
    }

    private (Errno Errno, byte[] Body) Exchange(Socket socket, uint opcode, ulong node, ReadOnlySpan<byte> body)
    {
        return Receive(socket, opcode, Send(socket, opcode, node, body));
    }

    private (Errno Errno, byte[] Body) Receive(Socket socket, uint opcode, ulong unique)
    {
        Reject(!socket.Poll(ReplyTimeout, SelectMode.SelectRead), $"no reply to request {opcode}");
        int count = socket.Receive(_buffer);
        Reject(count < 16 || U32(_buffer, 0) != count, $"a reply of {count} bytes");
        Reject(U64(_buffer, 8) != unique, "a reply to another request");
        int error = BinaryPrimitives.ReadInt32LittleEndian(_buffer.AsSpan(4));
        Reject(error is > 0 or <= -1000 || (error != 0 && count != 16), $"a reply of {count} bytes with error {error}");
        return ((Errno)(-error), _buffer[16..count]);
    }

    private ulong Send(Socket socket, uint opcode, ulong node, ReadOnlySpan<byte> body)
    {
        ulong unique = _unique += 2;
        Sent[opcode] = Sent.GetValueOrDefault(opcode) + 1;
        Assert.Equal(40 + body.Length, socket.Send(RequestDriver.Message((Famfs.Fuse.Protocol.FuseOpcode)opcode, unique, node, body)));
        return unique;
    }

    private static void Reject(bool when, string why)
    {
        if (when)
            throw new KernelRejectsException(why);
    }

    private static uint U32(ReadOnlySpan<byte> bytes, int at) => BinaryPrimitives.ReadUInt32LittleEndian(bytes[at..]);

    private static ulong U64(ReadOnlySpan<byte> bytes, int at) => BinaryPrimitives.ReadUInt64LittleEndian(bytes[at..]);
}
