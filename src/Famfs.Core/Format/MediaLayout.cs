namespace Famfs.Core.Format;

/// <summary>
/// Where things are on the media of the native format (docs/format.md draws them; a test holds the two
/// together). All integers are little endian, all reserved bytes zero and checked. Uuids are 16 raw bytes
/// in text order.
/// <code>
/// device 0                                         every further device
/// 0x000000  superblock (4 KiB)                     0x000000  superblock
/// 0x010000  anchor area, 64 slots of 8 KiB         0x1FF000  superblock, second copy
/// 0x1FF000  superblock, second copy                0x200000  extents
/// 0x200000  host table (units given by mkfs)
/// then      first log segment of slot 0, extents
/// </code>
/// </summary>
public static class MediaLayout
{
    /// <summary>Allocation unit: 2 MiB, the size of a huge page.</summary>
    public const int UnitBytes = 2 << 20;

    /// <summary>The unit of some file systems of the earlier format, which the native one never has.</summary>
    public const int SmallUnitBytes = 4096;

    /// <summary>Bytes of a superblock copy that are written and checked.</summary>
    public const int SuperblockBytes = 4096;

    /// <summary>Offset of the second superblock copy.</summary>
    public const long SuperblockCopyOffset = UnitBytes - SuperblockBytes;

    /// <summary>Offset of the anchor area on device 0.</summary>
    public const long AnchorOffset = 0x10000;

    /// <summary>Bytes of one anchor slot.</summary>
    public const int AnchorStride = 8192;

    /// <summary>Offset of the host table on device 0.</summary>
    public const long HostTableOffset = UnitBytes;

    /// <summary>Bytes of one mount's entry in the host table: two alternating copies.</summary>
    public const int HostEntryBytes = 512;

    /// <summary>Mount entries in the block of one host.</summary>
    public const int EntriesPerHost = 8;

    /// <summary>Bytes of a segment's header; its frames follow.</summary>
    public const int SegmentHeaderBytes = 4096;

    /// <summary>Largest record, frame header included.</summary>
    public const int MaxRecordBytes = 64 * 1024;

    /// <summary>Largest batch that is published at once.</summary>
    public const int MaxBatchBytes = 4 << 20;

    /// <summary>Newest segments that an anchor lists; older ones are found through segment headers.</summary>
    public const int MaxChainInAnchor = 32;

    /// <summary>Smallest device 0: superblock, host table, first segment and one unit for a file.</summary>
    public const long MinPrimaryBytes = 4L * UnitBytes;

    /// <summary>Smallest further device: superblock and one unit for a file.</summary>
    public const long MinSecondaryBytes = 2L * UnitBytes;

    /// <summary>Most devices of a pool (the tree packs a device index in 16 bits; chosen).</summary>
    public const int MaxDevices = 4096;

    /// <summary>The root directory's inode.</summary>
    public const ulong RootInode = 1;

    /// <summary>Inode of the hidden directory <c>.meta</c>.</summary>
    public const ulong MetaInode = 2;

    /// <summary>Inode of device 0's superblock unit.</summary>
    public const ulong SuperblockInode = 3;

    /// <summary>Inode of the host table.</summary>
    public const ulong HostTableInode = 4;

    /// <summary>Inode of the first log segment.</summary>
    public const ulong FirstSegmentInode = 5;

    /// <summary>Inode of the hidden directory <c>.staged</c>.</summary>
    public const ulong StagedInode = 6;

    /// <summary>First inode number given to anything else.</summary>
    public const ulong FirstFreeInode = 16;

    /// <summary>First of the node ids that never are inode numbers: windows and other things of one mount.</summary>
    public const ulong FirstPrivateNode = InodeNumber.Max + 1;
}
