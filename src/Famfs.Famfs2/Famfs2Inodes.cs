using Famfs.Core;
using Famfs.Core.Format;

namespace Famfs.Famfs2;

/// <summary>Inode numbers of what a famfs-2 file system uses itself. Every number from 2 up belongs to a log entry, so these are
/// the last ones that the namespace can hold, which no log is long enough to reach.</summary>
public static class Famfs2Inodes
{
    private const ulong First = InodeNumber.Max - 0xFFFF;
    private const ulong FirstSuperblock = First + 0x1000;

    /// <summary>The hidden directories and the log.</summary>
    public static SystemInodes System { get; } = new(new(First), new(First + 1), new(First + 2));

    /// <summary>The superblock unit of a device.</summary>
    public static InodeNumber SuperblockOf(DeviceIndex device) => new(FirstSuperblock + device.Value);
}
