using Famfs.Core;
using Famfs.Core.Namespace;
using Famfs.Master.State;
using Famfs.V1;

namespace Famfs.Master.Queries;

/// <summary>Whether an ordinary user may remove a directory with all below it, as rm(1) would have to: from each directory that has
/// entries it must be able to remove each of them.</summary>
internal static class SubtreeRights
{
    /// <summary>Most inodes that are looked at (S27: what one turn has).</summary>
    public const int MaxInodes = 1000;

    private const int DirectoryLinks = 2;

    /// <summary>Throws NOT_PERMITTED for the first directory or entry that the user may not remove. Also when that cannot be found out
    /// in one turn; then the error has the limit, and the caller can remove parts of the directory first.</summary>
    public static void Require(StateReader reader, Credentials user, in InodeAttributes top, string path)
    {
        using TreeScope scope = reader.Tree.Enter();
        Stack<InodeAttributes> waiting = new([top]);
        int seen = 1;
        while (waiting.TryPop(out InodeAttributes directory))
        {
            if (directory.SizeBytes == 0)
                continue;
            bool asksEach = Permissions.IsStickyFor(user, directory);
            bool enters = directory.LinkCount > DirectoryLinks;
            if (!Permissions.MayRemoveFrom(user, directory))
                throw Permissions.RefusedRemoval(user, Show(scope, directory.Inode));
            // All that is in it are files of which none has to be looked at.
            if (!asksEach && !enters)
                continue;
            DirectoryEntries entries = scope.List(directory.Inode, 0);
            while (entries.MoveNext())
            {
                if (++seen > MaxInodes)
                    throw new FamfsException(ErrorReason.NotPermitted, $"{FileSystemPath.Show(path)}: has more than {MaxInodes} inodes to judge the rights of user {user.Uid} by; remove parts of it first") { Path = FileSystemPath.Show(path), Limit = MaxInodes };
                if (asksEach && entries.Attributes.Uid != user.Uid)
                    Permissions.RequireRemoval(user, directory, entries.Attributes, Show(scope, directory.Inode), FileQueries.PathOf(scope, entries.Attributes.Inode));
                if (entries.Attributes.Kind == InodeKind.Directory)
                    waiting.Push(entries.Attributes);
            }
        }
    }

    private static string Show(in TreeScope scope, InodeNumber inode) => FileQueries.PathOf(scope, inode);
}
