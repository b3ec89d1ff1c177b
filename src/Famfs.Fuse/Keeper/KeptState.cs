using System.Buffers.Binary;
using System.Globalization;
using System.Text;
using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Interop;
using Famfs.Fuse.Dialects;
using Famfs.Fuse.Protocol;
using Microsoft.Win32.SafeHandles;

namespace Famfs.Fuse.Keeper;

/// <summary>What a mount is, for the daemon that takes it over.</summary>
/// <param name="FileSystem">Its file system.</param>
/// <param name="Mount">Its id.</param>
/// <param name="Connection">Number of its connection in the kernel.</param>
/// <param name="Negotiated">What was agreed on at INIT, which is not sent again.</param>
/// <param name="Entry">Of the host table, where its line is or is about to be; −1: none.</param>
/// <param name="Generation">How often it was taken over: tells its daemons apart.</param>
/// <param name="Devices">Those that its kernel holds; null: none, the daemon maps them.</param>
internal sealed record KeptMount(Guid FileSystem, Guid Mount, uint Connection, Negotiated Negotiated, int Entry, uint Generation, KeptDevices? Devices = null);

/// <summary>
/// The memory of a mount that outlives its daemon, a <see cref="MemoryFile"/> that a keeper has beside the descriptors. Little
/// endian, ids big endian:
/// <code>
///    0  "FAMFSKPT"
///    8  u32 version = 1          12  i32 entry of the host table, −1: none
///   16  file system (uuid)       32  mount (uuid)
///   48  u32 connection           52  u32 generation
///   56  u64 INIT flags agreed    64  u64 INIT flags offered
///   72  u32 minor agreed         76  u32 minor of the kernel
///   80  u32 max write bytes      84  u32 max pages
///   88  name of the dialect, 16 bytes, NUL at its end
///  104  <see cref="KeptDevices"/>, zeros to the end
/// 4092  u32 CRC of the bytes before
/// 4096  <see cref="SlotCount"/> slots of 32 bytes: u64 unique of a request without its bit 63 (0: free), id (16), i64 time in ns
/// </code>
/// A slot has the request id under which a change goes to the master, written before it goes there: a request that the kernel sends
/// again finds it. A daemon of another version refuses the state and changes nothing.
/// <para>Guard of the slots: their owner's. Of the rest: <c>_writing</c>.</para>
/// </summary>
internal sealed class KeptState : IDisposable
{
    /// <summary>Slots: twice as many as requests may wait, so that those of a dead daemon stay a while.</summary>
    public const int SlotCount = 2048;

    private const uint Version = 1;
    private const int HeaderBytes = 4096;
    private const int ChecksumOffset = HeaderBytes - sizeof(uint);
    private const int SlotBytes = 32;
    private const int NameBytes = 16;
    private const int DevicesOffset = 104;
    private const long TotalBytes = HeaderBytes + ((long)SlotCount * SlotBytes);

    private readonly MemoryFile _memory;
    private readonly Lock _writing = new();

    private KeptState(MemoryFile memory, KeptMount mount) => (_memory, Mount) = (memory, mount);

    /// <summary>What the mount is.</summary>
    public KeptMount Mount { get; private set; }

    /// <summary>For the keeper.</summary>
    public SafeFileHandle Descriptor => _memory.Descriptor;

    private static ReadOnlySpan<byte> Magic => "FAMFSKPT"u8;

    /// <summary>Makes the state of a new mount. Throws <see cref="IOException"/>.</summary>
    public static KeptState Create(KeptMount mount)
    {
        KeptState state = new(MemoryFile.Create("famfs-mount", TotalBytes), mount);
        state.Write(mount);
        return state;
    }

    /// <summary>Reads the state of a mount that is taken over; <paramref name="descriptor"/> is this object's from then on. Throws
    /// <see cref="IOException"/> with what is wrong with it.</summary>
    public static KeptState Adopt(SafeFileHandle descriptor)
    {
        MemoryFile memory = MemoryFile.Adopt(descriptor);
        try
        {
            if (memory.LengthBytes != TotalBytes)
                throw new IOException($"the kept state has {memory.LengthBytes} bytes, not {TotalBytes}: another version made it");
            byte[] header = new byte[HeaderBytes];
            memory.Read(0, header);
            return new(memory, Parse(header));
        }
        catch
        {
            memory.Dispose();
            throw;
        }
    }

    /// <summary>Stores that the mount is about to have this entry of the host table.</summary>
    public void SetEntry(int entry) => Change(mount => mount with { Entry = entry });

    /// <summary>Stores what the kernel holds. Throws <see cref="IOException"/> when that is too much; what was stored stays.</summary>
    public void SetDevices(KeptDevices? devices) => Change(mount => mount with
    {
        Devices = devices is not null && mount.Devices is { } before && before.RefreshedTo.Value > devices.RefreshedTo.Value
            ? devices with { RefreshedTo = before.RefreshedTo }
            : devices,
    });

    /// <summary>Stores that space which was given back up to there is in no cache of this host any more.</summary>
    public void SetRefreshedTo(LogSequence sequence) => Change(mount => mount.Devices is { } devices && devices.RefreshedTo.Value < sequence.Value
        ? mount with { Devices = devices with { RefreshedTo = sequence } }
        : mount);

    /// <summary>Whether a file of this size can be the memory of a mount.</summary>
    public static bool IsSize(long lengthBytes) => lengthBytes == TotalBytes;

    /// <summary>A daemon more has it.</summary>
    public void SetNextGeneration() => Change(mount => mount with { Generation = mount.Generation + 1 });

    private void Change(Func<KeptMount, KeptMount> change)
    {
        lock (_writing)
        {
            KeptMount changed = change(Mount);
            if (changed != Mount)
                Write(changed);
        }
    }

    /// <summary>A slot; the unique is 0 when it is free.</summary>
    public (ulong Unique, Guid Id, long TimeNs) ReadSlot(int slot)
    {
        Span<byte> bytes = stackalloc byte[SlotBytes];
        _memory.Read(OffsetOf(slot), bytes);
        return (BinaryPrimitives.ReadUInt64LittleEndian(bytes), new Guid(bytes.Slice(8, 16), bigEndian: true), BinaryPrimitives.ReadInt64LittleEndian(bytes[24..]));
    }

    /// <summary>Stores a slot.</summary>
    public void WriteSlot(int slot, ulong unique, Guid id, long timeNs)
    {
        Span<byte> bytes = stackalloc byte[SlotBytes];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, unique);
        _ = id.TryWriteBytes(bytes.Slice(8, 16), bigEndian: true, out _);
        BinaryPrimitives.WriteInt64LittleEndian(bytes[24..], timeNs);
        _memory.Write(OffsetOf(slot), bytes);
    }

    /// <inheritdoc/>
    public void Dispose() => _memory.Dispose();

    private static long OffsetOf(int slot) => HeaderBytes + ((long)slot * SlotBytes);

    // One page in one call: there as a whole, or as it was.
    private void Write(KeptMount mount)
    {
        byte[] header = new byte[HeaderBytes];
        Span<byte> bytes = header;
        Magic.CopyTo(bytes);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes[8..], Version);
        BinaryPrimitives.WriteInt32LittleEndian(bytes[12..], mount.Entry);
        _ = mount.FileSystem.TryWriteBytes(bytes.Slice(16, 16), bigEndian: true, out _);
        _ = mount.Mount.TryWriteBytes(bytes.Slice(32, 16), bigEndian: true, out _);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes[48..], mount.Connection);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes[52..], mount.Generation);
        Negotiated agreed = mount.Negotiated;
        BinaryPrimitives.WriteUInt64LittleEndian(bytes[56..], (ulong)agreed.Flags);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes[64..], agreed.Offered);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes[72..], agreed.Minor);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes[76..], agreed.KernelMinor);
        BinaryPrimitives.WriteInt32LittleEndian(bytes[80..], agreed.MaxWriteBytes);
        BinaryPrimitives.WriteInt32LittleEndian(bytes[84..], agreed.MaxPages);
        Encoding.ASCII.GetBytes(agreed.Dialect.Name, bytes.Slice(88, NameBytes - 1));
        mount.Devices?.Format(bytes[DevicesOffset..ChecksumOffset]);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes[ChecksumOffset..], Crc32C.Compute(bytes[..ChecksumOffset]));
        _memory.Write(0, header);
        Mount = mount;
    }

    private static KeptMount Parse(ReadOnlySpan<byte> bytes)
    {
        if (!bytes.StartsWith(Magic))
            throw new IOException("the kept state is of no famfs mount");
        uint version = BinaryPrimitives.ReadUInt32LittleEndian(bytes[8..]);
        if (version != Version)
            throw new IOException(string.Create(CultureInfo.InvariantCulture, $"the kept state has version {version}, this program knows {Version}"));
        if (Crc32C.Compute(bytes[..ChecksumOffset]) != BinaryPrimitives.ReadUInt32LittleEndian(bytes[ChecksumOffset..]))
            throw new IOException("the kept state is damaged");
        ReadOnlySpan<byte> text = bytes.Slice(88, NameBytes);
        string name = Encoding.ASCII.GetString(text[..Math.Max(0, text.IndexOf((byte)0))]);
        Dialect dialect = DialectTable.Find(name) ?? throw new IOException($"the kept state has the dialect '{name}', which is not known here");
        int maxWrite = BinaryPrimitives.ReadInt32LittleEndian(bytes[80..]);
        int maxPages = BinaryPrimitives.ReadInt32LittleEndian(bytes[84..]);
        if (maxPages is < 1 or > InitNegotiation.MaxPagesLimit || maxWrite != maxPages * InitNegotiation.PageBytes)
            throw new IOException(string.Create(CultureInfo.InvariantCulture, $"the kept state has requests of {maxPages} pages and {maxWrite} bytes; the limit is {InitNegotiation.MaxPagesLimit} pages"));
        return new(
            new(bytes.Slice(16, 16), bigEndian: true),
            new(bytes.Slice(32, 16), bigEndian: true),
            BinaryPrimitives.ReadUInt32LittleEndian(bytes[48..]),
            new(dialect, BinaryPrimitives.ReadUInt32LittleEndian(bytes[72..]), (InitFlags)BinaryPrimitives.ReadUInt64LittleEndian(bytes[56..]), maxWrite, maxPages)
            {
                KernelMinor = BinaryPrimitives.ReadUInt32LittleEndian(bytes[76..]),
                Offered = BinaryPrimitives.ReadUInt64LittleEndian(bytes[64..]),
            },
            BinaryPrimitives.ReadInt32LittleEndian(bytes[12..]),
            BinaryPrimitives.ReadUInt32LittleEndian(bytes[52..]),
            KeptDevices.Parse(bytes[DevicesOffset..ChecksumOffset]));
    }
}
