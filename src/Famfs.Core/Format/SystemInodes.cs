namespace Famfs.Core.Format;

/// <summary>
/// Inode numbers of what a file system uses itself. In the native format they are the first ones; in famfs-2
/// every number from 2 up belongs to a log entry, so there they are the last ones that the namespace can
/// hold, which no log is long enough to reach.
/// </summary>
/// <param name="Meta">The hidden directory <c>.meta</c>.</param>
/// <param name="Staged">The hidden directory <c>.staged</c>.</param>
/// <param name="Log">The first log segment; famfs-2: the log.</param>
public sealed record SystemInodes(InodeNumber Meta, InodeNumber Staged, InodeNumber Log)
{
    private const ulong Famfs2First = InodeNumber.Max - 0xFFFF;
    private const ulong Famfs2FirstSuperblock = Famfs2First + 0x1000;

    /// <summary>Those of the native format.</summary>
    public static SystemInodes Native { get; } = new(new(MediaLayout.MetaInode), new(MediaLayout.StagedInode), new(MediaLayout.FirstSegmentInode));

    /// <summary>Those of famfs-2.</summary>
    public static SystemInodes Famfs2 { get; } = new(new(Famfs2First), new(Famfs2First + 1), new(Famfs2First + 2));

    /// <summary>famfs-2: the superblock unit of a device. (In the native format the record says it.)</summary>
    public static InodeNumber Famfs2Superblock(DeviceIndex device) => new(Famfs2FirstSuperblock + device.Value);
}
