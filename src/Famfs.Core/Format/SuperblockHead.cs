namespace Famfs.Core.Format;

/// <summary>
/// The first 104 bytes of a superblock. All majors of the format lay them out alike, so that a program of one major sees
/// that a device is of another, and of which file system.
/// <code>
///    0   8  magic 0x87B282FF
///    8   8  version
///   40 4+4  major, minor
///   48  16  file-system uuid
///   64  16  device uuid
///   96   8  zlib CRC-32 of [0, 96)
/// </code>
/// </summary>
/// <param name="Version">Version word.</param>
/// <param name="Major">Major of the format.</param>
/// <param name="FileSystem">Uuid of the file system.</param>
/// <param name="Device">Uuid of the device.</param>
public readonly record struct SuperblockHead(ulong Version, uint Major, Guid FileSystem, Guid Device)
{
    /// <summary>Bytes.</summary>
    public const int Size = 104;

    /// <summary>Magic of all majors.</summary>
    public const ulong Magic = 0x87B282FF;

    /// <summary>Reads the head of <paramref name="block"/>; false when its magic or checksum is wrong.</summary>
    public static bool TryParse(ReadOnlySpan<byte> block, out SuperblockHead head)
    {
        FieldReader r = new(block[..Size]);
        bool good = r.U64(0) == Magic && r.U64(96) == Crc32.Compute(block[..96]);
        head = good ? new(r.U64(8), r.U32(40), r.Uuid(48), r.Uuid(64)) : default;
        return good;
    }
}
