using Famfs.Core.Namespace;

namespace Famfs.Master.Queries;

/// <summary>A user as the tree's rules see it.</summary>
/// <param name="Uid">User.</param>
/// <param name="Gid">Group that what it makes gets.</param>
/// <param name="Groups">Further groups.</param>
internal sealed record Credentials(uint Uid, uint Gid, IReadOnlyList<uint> Groups)
{
    /// <summary>Whether it is in a group.</summary>
    public bool IsIn(uint group) => Gid == group || Groups.Contains(group);

    /// <summary>Whether the permission bits of an inode give all of <paramref name="wanted"/>: the class of the first that fits,
    /// owner, group, others, decides alone.</summary>
    public bool May(in InodeAttributes inode, Access wanted)
    {
        uint bits = inode.Uid == Uid ? inode.Mode >> 6 : IsIn(inode.Gid) ? inode.Mode >> 3 : inode.Mode;
        return (bits & (uint)wanted) == (uint)wanted;
    }
}

/// <summary>Permission bits of one class, as in a mode.</summary>
[Flags]
internal enum Access
{
    /// <summary>x, of a directory: use the names in it.</summary>
    Search = 1,

    /// <summary>w.</summary>
    Write = 2,

    /// <summary>r.</summary>
    Read = 4,
}
