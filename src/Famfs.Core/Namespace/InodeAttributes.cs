namespace Famfs.Core.Namespace;

/// <summary>What an inode is.</summary>
public enum InodeKind : byte
{
    None = 0,
    File = 1,
    Directory = 2,
    Symlink = 3,

    /// <summary>Memory the file system uses itself: superblock unit, host table, log segment. Has extents,
    /// no name outside <c>.meta</c>.</summary>
    System = 4,
}

/// <summary>Where an inode is in its life.</summary>
public enum InodeStatus : byte
{
    None = 0,
    Published = 1,

    /// <summary>Being filled by its owning mount; has no name.</summary>
    Staged = 2,

    /// <summary>Nameless, its extents still held by whoever had it. Also what lies below a removed directory and is not taken
    /// apart yet.</summary>
    Deleted = 3,

    /// <summary>Released by every holder, being zeroed.</summary>
    Zeroing = 4,
}

/// <summary>One inode's attributes, a consistent copy.</summary>
public struct InodeAttributes
{
    public InodeNumber Inode;
    public InodeNumber Parent;
    public InodeKind Kind;
    public InodeStatus Status;

    /// <summary>Permission bits (07777).</summary>
    public uint Mode;
    public uint Uid;
    public uint Gid;

    /// <summary>File: bytes. Symlink: bytes of the target. Directory: number of entries.</summary>
    public ulong SizeBytes;

    /// <summary>Directory: 2 + subdirectories. Else 1. 0 once deleted or below a directory that is.</summary>
    public uint LinkCount;
    public long AccessTimeNs;
    public long ModifyTimeNs;
    public long ChangeTimeNs;
}
