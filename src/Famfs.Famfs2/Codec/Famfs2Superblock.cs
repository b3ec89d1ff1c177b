using System.Text;
using Famfs.Core.Format;

namespace Famfs.Famfs2.Codec;

/// <summary>
/// The superblock of famfs-2.
/// <code>
///   0   8  magic 0x87B282FF (ts_magic)
///   8   8  version 48 (ts_version)
///  16   8  log offset, 0x200000 (ts_log_offset)
///  24   8  log length (ts_log_len)
///  32   8  allocation unit, 2 MiB or 4 KiB (ts_alloc_unit)
///  40 4+4  major 2, minor 2 (ts_omf_ver_major, ts_omf_ver_minor)
///  48  16  file-system uuid (ts_uuid)
///  64  16  device uuid (ts_dev_uuid)
///  80  16  system uuid: the one system that may append (ts_system_uuid)
///  96   8  CRC-32 of [0, 96) (ts_crc)
/// 104   4  flags: 1 first device, 2 further device (ts_sb_flags)     ┐
/// 108   4  -                                                          │ behind the checksum: may be anything,
/// 112   8  device length (dd_size)                                    │ and is kept as it is when the rest is
/// 120  16  device uuid again (dd_uuid)                                │ written anew
/// 136  64  device name (dd_daxdev)                                    ┘
/// </code>
/// Source: docs/format.md; tests/golden/famfs-2 freezes it.
/// </summary>
public sealed record Famfs2Superblock
{
    /// <summary>Bytes.</summary>
    public const int Size = 200;

    /// <summary>Flag of the first device.</summary>
    public const uint PrimaryFlag = 1;

    /// <summary>Flag of a further device.</summary>
    public const uint SecondaryFlag = 2;

    private const int NameBytes = 64;

    public required Guid FileSystem { get; init; }
    public required Guid Device { get; init; }

    /// <summary>The system that may append.</summary>
    public required Guid System { get; init; }
    public required long LogLengthBytes { get; init; }
    public long UnitBytes { get; init; } = MediaLayout.UnitBytes;

    /// <summary>Not covered by the checksum.</summary>
    public uint Flags { get; init; }

    /// <summary>Not covered: what is in the gap.</summary>
    public uint Gap { get; init; }

    /// <summary>Not covered: bytes of the device.</summary>
    public long DeviceLengthBytes { get; init; }

    /// <summary>Not covered: often stale or zero.</summary>
    public Guid DeviceCopy { get; init; }

    /// <summary>Not covered: 64 bytes, a NUL is not sure.</summary>
    public ReadOnlyMemory<byte> RawName { get; init; }

    /// <summary>The device's name up to a NUL.</summary>
    public string DeviceName
    {
        get
        {
            ReadOnlySpan<byte> name = RawName.Span;
            int end = name.IndexOf((byte)0);
            return Encoding.UTF8.GetString(end < 0 ? name : name[..end]);
        }
    }

    /// <summary>A name as it is stored: cut to 63 bytes and a NUL.</summary>
    public static ReadOnlyMemory<byte> StoredName(string name)
    {
        byte[] bytes = new byte[NameBytes];
        new FieldWriter(bytes).Text(0, NameBytes, name);
        return bytes;
    }

    /// <summary>Fills the first <see cref="Size"/> bytes of <paramref name="block"/>.</summary>
    public void Format(Span<byte> block)
    {
        block = block[..Size];
        block.Clear();
        FieldWriter w = new(block);
        w.U64(0, SuperblockHead.Magic);
        w.U64(8, Famfs2Layout.Version);
        w.I64(16, Famfs2Layout.LogOffset);
        w.I64(24, LogLengthBytes);
        w.I64(32, UnitBytes);
        w.U32(40, Famfs2Layout.Major);
        w.U32(44, Famfs2Layout.Minor);
        w.Uuid(48, FileSystem);
        w.Uuid(64, Device);
        w.Uuid(80, System);
        w.U64(96, Crc32.Compute(block[..96]));
        w.U32(104, Flags);
        w.U32(108, Gap);
        w.I64(112, DeviceLengthBytes);
        w.Uuid(120, DeviceCopy);
        RawName.Span.CopyTo(block.Slice(136, NameBytes));
    }

    /// <summary>Judges the first <see cref="Size"/> bytes of <paramref name="block"/>; gives the superblock when the
    /// verdict is <see cref="SuperblockVerdict.Good"/>, else a one-line cause.</summary>
    public static SuperblockVerdict Parse(ReadOnlySpan<byte> block, out Famfs2Superblock? superblock, out string cause)
    {
        superblock = null;
        cause = "";
        block = block[..Size];
        FieldReader r = new(block);
        if (r.U64(0) != SuperblockHead.Magic)
        {
            bool blank = r.IsZero(0, Size);
            cause = blank ? "not formatted" : "not a famfs device";
            return blank ? SuperblockVerdict.Blank : SuperblockVerdict.Foreign;
        }
        if (r.U64(96) != Crc32.Compute(block[..96]))
        {
            cause = "superblock checksum is wrong";
            return SuperblockVerdict.Damaged;
        }
        if (r.U64(8) != Famfs2Layout.Version || r.U32(40) != Famfs2Layout.Major || r.U32(44) != Famfs2Layout.Minor)
        {
            cause = $"format version {r.U64(8)}, major {r.U32(40)}, minor {r.U32(44)} is not famfs-2 (48, 2, 2)";
            return SuperblockVerdict.Unsupported;
        }
        Famfs2Superblock parsed = new()
        {
            FileSystem = r.Uuid(48),
            Device = r.Uuid(64),
            System = r.Uuid(80),
            LogLengthBytes = r.I64(24),
            UnitBytes = r.I64(32),
            Flags = r.U32(104),
            Gap = r.U32(108),
            DeviceLengthBytes = r.I64(112),
            DeviceCopy = r.Uuid(120),
            RawName = block.Slice(136, NameBytes).ToArray(),
        };
        if (r.I64(16) != Famfs2Layout.LogOffset)
            cause = $"log offset {r.U64(16)} is not {Famfs2Layout.LogOffset}";
        else if (!Famfs2Layout.IsLogLength(parsed.LogLengthBytes))
            cause = $"log length {r.U64(24)} is not a power of two from {Famfs2Layout.MinLogBytes} on";
        else if (parsed.UnitBytes is not (MediaLayout.UnitBytes or MediaLayout.SmallUnitBytes))
            cause = $"allocation unit {r.U64(32)} is not {MediaLayout.UnitBytes} or {MediaLayout.SmallUnitBytes}";
        else if (parsed.FileSystem == Guid.Empty || parsed.Device == Guid.Empty)
            cause = "superblock names no file system or device";
        if (cause.Length > 0)
            return SuperblockVerdict.Damaged;
        superblock = parsed;
        return SuperblockVerdict.Good;
    }
}
