using Famfs.Core;
using Famfs.Core.Namespace;
using Famfs.Master.State;
using Famfs.V1;

namespace Famfs.Master.Queries;

/// <summary>
/// What a user may do in the tree, as Linux decides it for a file system without access control lists. Rules over attributes
/// and credentials alone; without credentials nothing is refused. Errors are NOT_PERMITTED.
/// </summary>
internal static class Permissions
{
    /// <summary>S_ISUID.</summary>
    public const uint SetUid = 0x800;

    /// <summary>S_ISGID.</summary>
    public const uint SetGid = 0x400;

    private const uint Sticky = 0x200;
    private const uint GroupExecute = 0x8;

    /// <summary>Throws unless <paramref name="user"/> has the access. <paramref name="path"/> names the inode in the error.</summary>
    public static void Require(Credentials? user, in InodeAttributes inode, Access wanted, string path)
    {
        if (user is not null && !user.May(inode, wanted))
            throw Refused(path, $"user {user.Uid} may not {Describe(wanted, inode.Kind)} it");
    }

    /// <summary>Whether <paramref name="user"/> may learn what is in a file, and where.</summary>
    public static bool MayRead(Credentials? user, in InodeAttributes inode) => user is null || user.May(inode, Access.Read);

    /// <summary>What is asked for an inode that is made. A process in a user namespace of its own names its user by another number than
    /// the kernel tells here.</summary>
    public static Ownership Wish(Credentials? user, uint mode, uint uid, uint gid, bool ownerIsCaller) =>
        ownerIsCaller && user is not null ? new(mode, user.Uid, user.Gid) : new(mode, uid, gid);

    /// <summary>Attributes of an inode that is made in <paramref name="parent"/>. In a set-gid directory it gets that one's group,
    /// whoever makes it, and a directory the bit, too. Throws for an owner or a group that the user could not give it.</summary>
    public static Ownership OfNew(Credentials? user, bool mayGiveSetId, in InodeAttributes parent, in Ownership wish, bool isDirectory, string path)
    {
        (uint mode, uint uid, uint gid) = wish;
        if (user is not null && uid != user.Uid)
            throw Refused(path, $"user {user.Uid} may not make it for user {uid}");
        if (user is not null && !user.IsIn(gid))
            throw Refused(path, $"user {user.Uid} is not in group {gid}");
        if (!isDirectory)
            RequireSetId(mayGiveSetId, mode, path);
        if ((parent.Mode & SetGid) == 0)
            return new(mode, uid, gid);
        gid = parent.Gid;
        if (isDirectory)
            mode |= SetGid;
        else if ((mode & GroupExecute) != 0 && user?.IsIn(gid) == false)
            mode &= ~SetGid;
        return new(mode, uid, gid);
    }

    /// <summary>Attributes of an inode after a change of owner, group or mode, of which null stays as it is. A change of owner takes
    /// the set-id bits of a file away, also for root, unless the mode is set, too. Throws for what the user may not change.</summary>
    public static Ownership OfChange(Credentials? user, bool mayGiveSetId, in InodeAttributes found, uint? mode, uint? uid, uint? gid, string path)
    {
        bool owns = user is null || user.Uid == found.Uid;
        if (uid is { } newUid && user is not null && !(owns && newUid == found.Uid))
            throw Refused(path, $"user {user.Uid} may not give it to user {newUid}");
        if (gid is { } newGid && user is not null && !(owns && (newGid == found.Gid || user.IsIn(newGid))))
            throw Refused(path, $"user {user.Uid} may not give it to group {newGid}");
        if (mode is not null)
            RequireOwner(user, found, "change its mode", path);
        Ownership now = new(found.Mode, uid ?? found.Uid, gid ?? found.Gid);
        if (mode is { } wished)
        {
            if (found.Kind != InodeKind.Directory)
                RequireSetId(mayGiveSetId, wished, path);
            return now with { Mode = user?.IsIn(now.Gid) == false ? wished & ~SetGid : wished };
        }
        if ((uid is null && gid is null) || found.Kind == InodeKind.Directory)
            return now;
        uint kept = found.Mode & ~SetUid;
        // Without the group's execute bit it once meant mandatory locks.
        if ((kept & GroupExecute) != 0 || user?.IsIn(found.Gid) == false)
            kept &= ~SetGid;
        return now with { Mode = kept };
    }

    /// <summary>Throws unless the user owns the inode.</summary>
    public static void RequireOwner(Credentials? user, in InodeAttributes inode, string what, string path)
    {
        if (user is not null && user.Uid != inode.Uid)
            throw Refused(path, $"user {user.Uid} may not {what}; user {inode.Uid} owns it");
    }

    /// <summary>Throws unless the user may set both times to now: the owner may, and who may write (utimensat(2)).</summary>
    public static void RequireTouch(Credentials? user, in InodeAttributes inode, string path)
    {
        if (user is not null && user.Uid != inode.Uid)
            Require(user, inode, Access.Write, path);
    }

    /// <summary>Throws unless the user may change user attributes: who may write may, and of a sticky directory the owner.</summary>
    public static void RequireAttributes(Credentials? user, in InodeAttributes inode, string path)
    {
        if (inode.Kind == InodeKind.Directory && (inode.Mode & Sticky) != 0)
            RequireOwner(user, inode, "change its attributes", path);
        Require(user, inode, Access.Write, path);
    }

    /// <summary>Throws unless the user may take an inode's name out of a directory: it may write and search that, and where the directory is
    /// sticky one of the two is its own.</summary>
    public static void RequireRemoval(Credentials? user, in InodeAttributes directory, in InodeAttributes inode, string directoryPath, string path)
    {
        if (user is null)
            return;
        if (!MayRemoveFrom(user, directory))
            throw RefusedRemoval(user, directoryPath);
        if (IsStickyFor(user, directory) && user.Uid != inode.Uid)
            throw Refused(path, $"user {user.Uid} may not remove or rename it in a sticky directory; user {inode.Uid} owns it");
    }

    /// <summary>Whether the user may take names out of a directory, as far as its mode says.</summary>
    public static bool MayRemoveFrom(Credentials user, in InodeAttributes directory) => user.May(directory, Access.Write | Access.Search);

    /// <summary>Whether the user may remove only what is its own from a directory.</summary>
    public static bool IsStickyFor(Credentials user, in InodeAttributes directory) => (directory.Mode & Sticky) != 0 && user.Uid != directory.Uid;

    /// <summary>The refusal of <see cref="MayRemoveFrom"/>.</summary>
    public static FamfsException RefusedRemoval(Credentials user, string directoryPath) => Refused(directoryPath, $"user {user.Uid} may not remove anything from it");

    private static void RequireSetId(bool mayGive, uint mode, string path)
    {
        if (!mayGive && (mode & (SetUid | SetGid)) != 0)
            throw Refused(path, $"mode 0{Convert.ToString(mode, 8)} has set-id bits, which a caller that is not known may not give; use a unix socket or a certificate");
    }

    private static string Describe(Access wanted, InodeKind kind) => wanted switch
    {
        Access.Search => "search",
        Access.Read => "read",
        Access.Read | Access.Search => "read and search",
        _ => kind == InodeKind.Directory ? "make anything in" : "write",
    };

    private static FamfsException Refused(string path, string why)
    {
        string shown = path.Length == 0 ? "/" : FileSystemPath.Show(path);
        return new(ErrorReason.NotPermitted, $"{shown}: {why}") { Path = shown };
    }
}

/// <summary>Mode and owner of an inode.</summary>
internal readonly record struct Ownership(uint Mode, uint Uid, uint Gid);
