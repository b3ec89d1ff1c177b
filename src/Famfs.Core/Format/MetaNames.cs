using System.Globalization;
using System.Text;

namespace Famfs.Core.Format;

/// <summary>
/// Names in the hidden directory <c>.meta</c> of a mount, under which the file system's own memory can be reached:
/// <code>
/// superblock            unit 0 of device 0: superblock and anchors
/// superblock-INDEX      unit 0 of a further device
/// hosts                 the host table
/// segment-INODE         space of log segments
/// window/D-O-L          space that is reserved to a writer of this host: device, offset, length in bytes
/// revoke-INODE          a file of a mount that is over, as long as its kernel may have it
/// flush-RANDOM          a file of the mount whose space its daemon flushes, which alone knows the name, for as long as it does
/// </code>
/// Numbers are decimal without leading zeros, so a thing has one name.
/// </summary>
public static class MetaNames
{
    /// <summary>The directory, in the root.</summary>
    public const string Directory = ".meta";

    /// <summary>Unit 0 of device 0.</summary>
    public const string Superblock = "superblock";

    /// <summary>The host table.</summary>
    public const string Hosts = "hosts";

    /// <summary>Before the inode number of a segment's space.</summary>
    public const string SegmentPrefix = "segment-";

    /// <summary>Directory of the windows.</summary>
    public const string Windows = "window";

    /// <summary>Longest name in <c>.meta</c> and <c>window</c>: a window's, three numbers of 20 digits at most.</summary>
    public const int MaxBytes = 64;

    /// <summary>Name of the superblock unit of a device.</summary>
    public static string OfSuperblock(DeviceIndex index) =>
        index.Value == 0 ? Superblock : string.Create(CultureInfo.InvariantCulture, $"{Superblock}-{index.Value}");

    /// <summary>Writes the name of a device's superblock unit; its bytes. <paramref name="name"/> has <see cref="MaxBytes"/>.</summary>
    public static int FormatSuperblock(DeviceIndex index, Span<byte> name)
    {
        int length = Encoding.UTF8.GetBytes(Superblock, name);
        return index.Value == 0 ? length : FormatNumber("-"u8, index.Value, name, length);
    }

    /// <summary>Writes the name of a segment's space; its bytes.</summary>
    public static int FormatSegment(InodeNumber inode, Span<byte> name) =>
        FormatNumber(default, inode.Value, name, Encoding.UTF8.GetBytes(SegmentPrefix, name));

    /// <summary>Writes the name of a window; its bytes.</summary>
    public static int FormatWindow(in MapExtent extent, Span<byte> name)
    {
        int length = FormatNumber(default, extent.Device.Value, name, 0);
        length = FormatNumber("-"u8, (ulong)extent.OffsetBytes, name, length);
        return FormatNumber("-"u8, (ulong)extent.LengthBytes, name, length);
    }

    /// <summary>The range that the name of a writer's window tells; false for another name.</summary>
    public static bool TryParseWindow(string name, out MapExtent extent)
    {
        string[] parts = name.Split('-');
        if (parts.Length == 3
            && ushort.TryParse(parts[0], NumberStyles.None, CultureInfo.InvariantCulture, out ushort device)
            && long.TryParse(parts[1], NumberStyles.None, CultureInfo.InvariantCulture, out long offset)
            && long.TryParse(parts[2], NumberStyles.None, CultureInfo.InvariantCulture, out long length))
        {
            extent = new(new(device), offset, length);
            return true;
        }
        extent = default;
        return false;
    }

    /// <summary>Before the inode number of a file that is taken away from a kernel.</summary>
    public const string RevokePrefix = "revoke-";

    /// <summary>The name by which a daemon takes a file away from the kernel of its own mount.</summary>
    public static string OfRevoked(InodeNumber inode) => string.Create(CultureInfo.InvariantCulture, $"{RevokePrefix}{inode.Value}");

    /// <summary>The file of such a name, UTF-8; false for another name.</summary>
    public static bool TryParseRevoked(ReadOnlySpan<byte> name, out InodeNumber inode)
    {
        ReadOnlySpan<byte> prefix = "revoke-"u8;
        inode = InodeNumber.None;
        if (!name.StartsWith(prefix) || name.Length == prefix.Length || name[prefix.Length] == (byte)'0'
            || !ulong.TryParse(name[prefix.Length..], NumberStyles.None, CultureInfo.InvariantCulture, out ulong number))
            return false;
        inode = new(number);
        return true;
    }

    /// <summary>Before what nobody can guess in the name of a file that a daemon flushes.</summary>
    public const string FlushPrefix = "flush-";

    private static int FormatNumber(ReadOnlySpan<byte> before, ulong number, Span<byte> name, int length)
    {
        before.CopyTo(name[length..]);
        length += before.Length;
        _ = number.TryFormat(name[length..], out int digits, provider: CultureInfo.InvariantCulture);
        return length + digits;
    }
}
