using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Namespace;
using Famfs.Master.Queries;
using Famfs.Master.State;
using Famfs.V1;
using Google.Protobuf;

namespace Famfs.Master.Changes;

/// <summary>Gives a file, a symbolic link or a directory another name, in the place of what has it when that is asked for: of a file
/// nobody ever finds the name without one of the two. The rules are those of rename(2).</summary>
internal sealed class Renaming(RenameRequest request) : Change<MutationReply>
{
    // A record without its names takes less.
    private const int RecordBytes = 160;

    private const string NotEmptyText = "is a directory and not empty";

    // What is meant, by the names of the turn at hand.
    private string _oldPath = "";
    private string _newPath = "";

    /// <inheritdoc/>
    public override Verdict Decide(ChangeContext context)
    {
        Guid id = request.RequestId.ToGuid("request_id");
        ulong digest = RequestDigest.Of(request);
        if (context.TryFindMade(id, digest, RecordType.Renamed, out RequestTrace trace))
        {
            Reply = new() { Position = context.PositionOf(trace) };
            return Verdict.Done;
        }
        context.State.Format.Require("renaming");
        _oldPath = FileQueries.Resolve(context.Reader, request.OldPath, request.OldAt);
        _newPath = FileQueries.Resolve(context.Reader, request.NewPath, request.NewAt);
        List<byte[]> from = FileSystemPath.Parse(_oldPath, allowRoot: false);
        List<byte[]> to = FileSystemPath.Parse(_newPath, allowRoot: false);
        Credentials? user = context.Caller.User;
        InodeAttributes oldParent = FileQueries.RequireParent(context.Reader, from, _oldPath, user);
        InodeAttributes newParent = FileQueries.RequireParent(context.Reader, to, _newPath, user);
        InodeAttributes moved;
        InodeAttributes replaced;
        bool replaces;
        using (TreeScope scope = context.Reader.Tree.Enter())
        {
            if (!scope.TryLookup(oldParent.Inode, from[^1], out moved))
                throw FileQueries.PathError(ErrorReason.NotFound, _oldPath, from, from.Count - 1, "does not exist");
            replaces = scope.TryLookup(newParent.Inode, to[^1], out replaced);
            if (replaces && !request.Replace)
                throw Refused(ErrorReason.Exists, to, "exists");
            if (moved.Kind == InodeKind.Directory && IsInside(scope, newParent.Inode, moved.Inode))
                throw Bad($"{Show(_oldPath)}: cannot become a part of itself, {Show(_newPath)}");
            // What it would replace is above it.
            if (replaces && replaced.Kind == InodeKind.Directory && IsInside(scope, oldParent.Inode, replaced.Inode))
                throw Refused(ErrorReason.NotEmpty, to, NotEmptyText);
        }
        if (replaces && replaced.Inode == moved.Inode)
        {
            Reply = new() { Position = context.Position.ToMessage() };
            return Verdict.Done;
        }
        Judge(user, from, to, oldParent, newParent, moved, replaces ? replaced : null);
        if (!context.HasRoom(1, RecordBytes + from[^1].Length + to[^1].Length, out Verdict verdict))
            return verdict;
        Renamed record = new()
        {
            TimeNs = context.NowNs,
            Inode = moved.Inode.Value,
            OldParent = oldParent.Inode.Value,
            OldName = ByteString.CopyFrom(from[^1]),
            NewParent = newParent.Inode.Value,
            NewName = ByteString.CopyFrom(to[^1]),
            ReplacedInode = replaces ? replaced.Inode.Value : 0,
        };
        if (id != Guid.Empty)
            (record.RequestId, record.RequestDigest) = (request.RequestId, digest);
        context.Append(RecordType.Renamed, record);
        Reply = new() { Position = context.Position.ToMessage() };
        return Verdict.Done;
    }

    /// <summary>Rights, and what may replace what, in the kernel's order: who may not do it learns nothing else.</summary>
    private void Judge(Credentials? user, List<byte[]> from, List<byte[]> to, in InodeAttributes oldParent, in InodeAttributes newParent, in InodeAttributes moved, InodeAttributes? replaced)
    {
        bool isDirectory = moved.Kind == InodeKind.Directory;
        string target = FileQueries.PathUpTo(to, to.Count - 1);
        Permissions.RequireRemoval(user, oldParent, moved, FileQueries.PathUpTo(from, from.Count - 1), _oldPath);
        if (replaced is { } old)
        {
            Permissions.RequireRemoval(user, newParent, old, target, _newPath);
            if (isDirectory && old.Kind != InodeKind.Directory)
                throw Refused(ErrorReason.NotADirectory, to, "is not a directory, which a directory could replace");
            if (!isDirectory && old.Kind == InodeKind.Directory)
                throw Refused(ErrorReason.IsADirectory, to, "is a directory, which only a directory can replace");
        }
        else
        {
            Permissions.Require(user, newParent, Access.Write | Access.Search, target);
        }
        // Its entry ".." changes.
        if (isDirectory && oldParent.Inode != newParent.Inode)
            Permissions.Require(user, moved, Access.Write, _oldPath);
        if (replaced is { Kind: InodeKind.Directory, SizeBytes: > 0 })
            throw Refused(ErrorReason.NotEmpty, to, NotEmptyText);
    }

    private FamfsException Refused(ErrorReason reason, List<byte[]> to, string why) => FileQueries.PathError(reason, _newPath, to, to.Count - 1, why);

    /// <summary>Whether <paramref name="inode"/> is <paramref name="directory"/> or below it.</summary>
    private static bool IsInside(in TreeScope scope, InodeNumber inode, InodeNumber directory)
    {
        while (inode != directory)
        {
            if (!scope.TryGetName(inode, out inode, out _))
                return false;
        }
        return true;
    }

    private static string Show(string path) => FileSystemPath.Show(path);

    private FamfsException Bad(string why) => new(ErrorReason.BadPath, why) { Path = Show(_newPath) };
}
