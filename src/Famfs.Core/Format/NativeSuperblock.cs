using Famfs.V1;

namespace Famfs.Core.Format;

/// <summary>What the first bytes of a device say it is.</summary>
public enum SuperblockVerdict
{
    /// <summary>A superblock of the format that is asked for, intact.</summary>
    Good,

    /// <summary>A superblock of another known major of the format, its head intact.</summary>
    OtherMajor,

    /// <summary>All zero: never formatted.</summary>
    Blank,

    /// <summary>Something else.</summary>
    Foreign,

    /// <summary>The famfs magic, but a checksum, a reserved byte or a field is wrong.</summary>
    Damaged,

    /// <summary>Of a version, or with an incompatible feature, that is not known here.</summary>
    Unsupported,
}

/// <summary>
/// The superblock of the native format: written once by mkfs (device 0) or AddDevice (others), never
/// changed. Two copies, at 0 and at <see cref="MediaLayout.SuperblockCopyOffset"/>.
/// <code>
///    0   8  magic 0x87B282FF             the first 104 bytes are those of all majors (<see cref="SuperblockHead"/>),
///    8   8  version 1000                 so that existing tools see version and major and refuse
///   16   8  offset of the first segment
///   24   8  length of the first segment
///   32   8  unit bytes
///   40 4+4  major 3, minor 0
///   48  16  file-system uuid
///   64  16  device uuid
///   80  16  host that ran mkfs
///   96   8  zlib CRC-32 of [0, 96)
///  104   4  flags: 1 device 0, 2 further device
///  112   8  device length
///  136  64  device name
///  512      extension, 512 bytes:
///   +0   8  magic "FAMFSX3\0"
///   +8 4+4  extension version 1, length 512
///  +16   8  incompatible features        unknown bit: refuse
///  +24   8  read-only-compatible         unknown bit: read only
///  +32   8  compatible features          unknown bit: fine
///  +40   8  unit bytes
///  +48 4+4  device index, flags (1 coherent)
///  +56   8  anchor area offset           (device 0; zero elsewhere, down to +104)
///  +64 4+4  anchor stride, slot count
///  +72 8+8  host table offset, length
///  +88 4+4  host entry bytes, entries per host
///  +96 8+8  first segment offset, length
/// +112   8  generation at mkfs
/// +120   8  time of creation, ns
/// +128  64  label
/// +508   4  CRC-32C of superblock [0, 200) and extension [0, 508)
/// </code>
/// Stay in step with docs/format.md and tests/golden/native.
/// </summary>
public sealed record NativeSuperblock : DeviceIdentity
{
    /// <summary>Version word of the native format.</summary>
    public const ulong NativeVersion = 1000;

    /// <summary>Features that a reader must know; none yet.</summary>
    public const ulong KnownIncompatible = 0;

    /// <summary>Features that a writer must know; none yet.</summary>
    public const ulong KnownReadOnlyCompatible = 0;

    /// <summary>Most bytes of a label or device name in UTF-8; a NUL follows.</summary>
    public const int MaxTextBytes = 63;

    private const int ExtensionOffset = 512;
    private const int ExtensionBytes = 512;
    private const int SharedBytes = 200;
    private const uint Major = 3;

    /// <summary>Version word and major of the format of the existing C tools, which the head tells apart from this one.</summary>
    private const ulong OtherVersion = 48;
    private const uint OtherMajor = 2;
    private const ulong ExtensionMagic = 0x0033_5853_464D_4146; // "FAMFSX3\0"

    public required Guid MkfsHost { get; init; }
    public long CreatedNs { get; init; }
    public ulong IncompatibleFeatures { get; init; }
    public ulong ReadOnlyCompatibleFeatures { get; init; }
    public ulong CompatibleFeatures { get; init; }

    /// <summary>Device 0 only: a whole unit. mkfs puts it at <see cref="MediaLayout.HostTableOffset"/>; where
    /// the log of a migrated file system was, it is somewhere else.</summary>
    public long HostTableOffset { get; init; } = MediaLayout.HostTableOffset;

    /// <summary>Device 0 only; 0 elsewhere.</summary>
    public long HostTableLengthBytes { get; init; }

    /// <summary>Device 0 only; 0 elsewhere.</summary>
    public long FirstSegmentOffset { get; init; }

    /// <summary>Device 0 only; 0 elsewhere.</summary>
    public long FirstSegmentLengthBytes { get; init; }

    /// <summary>Device 0 holds the anchors and the host table.</summary>
    public bool IsPrimary => Index.Value == 0;

    /// <summary>Entries in the host table.</summary>
    public int HostEntryCount => (int)(HostTableLengthBytes / MediaLayout.HostEntryBytes);

    /// <summary>True when this version may not write.</summary>
    public bool ReadOnly => (ReadOnlyCompatibleFeatures & ~KnownReadOnlyCompatible) != 0;

    /// <summary>Fills <paramref name="block"/> (<see cref="MediaLayout.SuperblockBytes"/> bytes).</summary>
    public void Format(Span<byte> block)
    {
        block = block[..MediaLayout.SuperblockBytes];
        block.Clear();
        FieldWriter w = new(block);
        w.U64(0, SuperblockHead.Magic);
        w.U64(8, NativeVersion);
        w.I64(16, FirstSegmentOffset);
        w.I64(24, FirstSegmentLengthBytes);
        w.U64(32, MediaLayout.UnitBytes);
        w.U32(40, Major);
        w.U32(44, 0);
        w.Uuid(48, FileSystem);
        w.Uuid(64, Device);
        w.Uuid(80, MkfsHost);
        w.U64(96, Crc32.Compute(block[..96]));
        w.U32(104, IsPrimary ? 1u : 2u);
        w.I64(112, DeviceLengthBytes);
        w.Text(136, 64, DeviceName);

        Span<byte> extension = block.Slice(ExtensionOffset, ExtensionBytes);
        FieldWriter x = new(extension);
        x.U64(0, ExtensionMagic);
        x.U32(8, 1);
        x.U32(12, ExtensionBytes);
        x.U64(16, IncompatibleFeatures);
        x.U64(24, ReadOnlyCompatibleFeatures);
        x.U64(32, CompatibleFeatures);
        x.U64(40, MediaLayout.UnitBytes);
        x.U32(48, Index.Value);
        x.U32(52, Coherent ? 1u : 0u);
        if (IsPrimary)
        {
            x.I64(56, MediaLayout.AnchorOffset);
            x.U32(64, MediaLayout.AnchorStride);
            x.U32(68, Term.SlotCount);
            x.I64(72, HostTableOffset);
            x.I64(80, HostTableLengthBytes);
            x.U32(88, MediaLayout.HostEntryBytes);
            x.U32(92, MediaLayout.EntriesPerHost);
            x.I64(96, FirstSegmentOffset);
            x.I64(104, FirstSegmentLengthBytes);
        }
        x.U64(112, Generation);
        x.I64(120, CreatedNs);
        x.Text(128, 64, Label);
        x.U32(508, ExtensionCrc(block));
    }

    /// <summary>Judges <paramref name="block"/> (<see cref="MediaLayout.SuperblockBytes"/> bytes); gives the
    /// superblock when the verdict is <see cref="SuperblockVerdict.Good"/>, else a one-line cause.</summary>
    public static SuperblockVerdict Parse(ReadOnlySpan<byte> block, out NativeSuperblock? superblock, out string cause)
    {
        superblock = null;
        cause = "";
        block = block[..MediaLayout.SuperblockBytes];
        FieldReader r = new(block);
        if (r.U64(0) != SuperblockHead.Magic)
        {
            if (r.U64(ExtensionOffset) == ExtensionMagic)
            {
                cause = "superblock magic is wrong, its extension is there";
                return SuperblockVerdict.Damaged;
            }
            bool blank = r.IsZero(0, block.Length);
            cause = blank ? "not formatted" : "not a famfs device";
            return blank ? SuperblockVerdict.Blank : SuperblockVerdict.Foreign;
        }
        if (!SuperblockHead.TryParse(block, out SuperblockHead head))
        {
            cause = "superblock checksum is wrong";
            return SuperblockVerdict.Damaged;
        }
        if (head is { Version: OtherVersion, Major: OtherMajor })
        {
            cause = $"format of major {OtherMajor}, not {Major}";
            return SuperblockVerdict.OtherMajor;
        }
        if (head is not { Version: NativeVersion, Major: Major })
        {
            cause = $"unknown format version {head.Version}, major {head.Major}";
            return SuperblockVerdict.Unsupported;
        }

        ReadOnlySpan<byte> extension = block.Slice(ExtensionOffset, ExtensionBytes);
        FieldReader x = new(extension);
        if (x.U64(0) != ExtensionMagic || x.U32(508) != ExtensionCrc(block))
        {
            cause = "superblock extension checksum is wrong";
            return SuperblockVerdict.Damaged;
        }
        if (x.U32(8) != 1 || x.U32(12) != ExtensionBytes || (x.U64(16) & ~KnownIncompatible) != 0)
        {
            cause = $"incompatible features 0x{x.U64(16):x}, extension version {x.U32(8)}: made by a newer version";
            return SuperblockVerdict.Unsupported;
        }
        NativeSuperblock parsed = new()
        {
            FileSystem = r.Uuid(48),
            Device = r.Uuid(64),
            MkfsHost = r.Uuid(80),
            Index = new((ushort)x.U32(48)),
            DeviceLengthBytes = r.I64(112),
            Coherent = (x.U32(52) & 1) != 0,
            DeviceName = r.Text(136, 64),
            Label = x.Text(128, 64),
            CreatedNs = x.I64(120),
            Generation = x.U64(112),
            IncompatibleFeatures = x.U64(16),
            ReadOnlyCompatibleFeatures = x.U64(24),
            CompatibleFeatures = x.U64(32),
            HostTableOffset = x.U32(48) == 0 ? x.I64(72) : MediaLayout.HostTableOffset,
            HostTableLengthBytes = x.I64(80),
            FirstSegmentOffset = x.I64(96),
            FirstSegmentLengthBytes = x.I64(104),
        };
        // One canonical encoding: whatever this version would not write itself is damage, reserved bytes included.
        Span<byte> canonical = stackalloc byte[MediaLayout.SuperblockBytes];
        parsed.Format(canonical);
        if (!canonical.SequenceEqual(block))
        {
            cause = "superblock has bytes set that are reserved, or fields out of range";
            return SuperblockVerdict.Damaged;
        }
        if (parsed.FindFieldError() is { } error)
        {
            cause = error;
            return SuperblockVerdict.Damaged;
        }
        superblock = parsed;
        return SuperblockVerdict.Good;
    }

    /// <summary>True when a block, intact or not, says in version or major that it is of the other known major.</summary>
    public static bool LooksLikeOtherMajor(ReadOnlySpan<byte> block)
    {
        FieldReader r = new(block);
        // Migration makes a superblock native by one store of the version word; no damage of one bit does.
        return r.U64(8) != NativeVersion && (r.U64(8) == OtherVersion || r.U32(40) == OtherMajor);
    }

    /// <summary>The damaged first copy <paramref name="block"/> still names the file system or the device of the second copy
    /// <paramref name="copy"/>. When it names neither, that copy may be of a file system that was there before: mkfs of existing
    /// tools writes 200 bytes and leaves the rest.</summary>
    public static bool IsCopyOf(NativeSuperblock copy, ReadOnlySpan<byte> block)
    {
        FieldReader r = new(block);
        return r.Uuid(48) == copy.FileSystem || r.Uuid(64) == copy.Device;
    }

    /// <summary>The error that tells a user what is in the way of using a device.</summary>
    public static FamfsException ErrorOf(SuperblockVerdict verdict, string path, string cause) =>
        new(verdict switch
        {
            SuperblockVerdict.Damaged => ErrorReason.MediaCorrupt,
            SuperblockVerdict.Unsupported or SuperblockVerdict.OtherMajor => ErrorReason.NotSupportedByFormat,
            _ => ErrorReason.WrongFilesystem,
        }, $"{path}: {cause}")
        { Path = path };

    private string? FindFieldError()
    {
        if (FileSystem == Guid.Empty || Device == Guid.Empty)
            return "superblock names no file system or device";
        if (Index.Value >= MediaLayout.MaxDevices)
            return $"device index {Index} is above {MediaLayout.MaxDevices - 1}";
        if (DeviceLengthBytes % MediaLayout.UnitBytes != 0 || DeviceLengthBytes < (IsPrimary ? MediaLayout.MinPrimaryBytes : MediaLayout.MinSecondaryBytes))
            return $"device length {DeviceLengthBytes} is not usable";
        if (!IsPrimary)
            return FirstSegmentOffset != 0 || FirstSegmentLengthBytes != 0 ? "further device with a first segment" : null;
        if (!IsPlace(HostTableOffset, HostTableLengthBytes))
            return $"host table at {HostTableOffset} of {HostTableLengthBytes} bytes is out of place";
        if (!IsPlace(FirstSegmentOffset, FirstSegmentLengthBytes)
            || (FirstSegmentOffset < HostTableOffset + HostTableLengthBytes && HostTableOffset < FirstSegmentOffset + FirstSegmentLengthBytes))
            return $"first segment at {FirstSegmentOffset} of {FirstSegmentLengthBytes} bytes is out of place";
        return null;
    }

    /// <summary>Whole units of the device behind its first.</summary>
    private bool IsPlace(long offset, long lengthBytes) =>
        offset >= MediaLayout.UnitBytes && offset % MediaLayout.UnitBytes == 0
        && lengthBytes > 0 && lengthBytes % MediaLayout.UnitBytes == 0
        && lengthBytes <= DeviceLengthBytes && offset <= DeviceLengthBytes - lengthBytes;

    private static uint ExtensionCrc(ReadOnlySpan<byte> block) =>
        ~Crc32C.Append(Crc32C.Append(uint.MaxValue, block[..SharedBytes]), block.Slice(ExtensionOffset, 508));
}
