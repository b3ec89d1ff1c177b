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

    /// <inheritdoc/>
    public override Verdict Decide(ChangeContext context)
    {
        Guid id = request.RequestId.ToGuid("request_id");
        ulong digest = RequestDigest.Of(request);
        if (context.State.TryFindRequest(id, digest, out RequestTrace trace))
        {
            if (trace.Type != RecordType.Renamed)
                throw RequestDigest.OtherKind(trace);
            Reply = new() { Position = Positions.ToMessage(trace, context.Position) };
            return Verdict.Done;
        }
        context.State.Format.Require("renaming");
        List<byte[]> from = FileSystemPath.Parse(request.OldPath, allowRoot: false);
        List<byte[]> to = FileSystemPath.Parse(request.NewPath, allowRoot: false);
        Credentials? user = context.Caller.User;
        InodeAttributes oldParent = FileQueries.RequireParent(context.Reader, from, request.OldPath, user);
        InodeAttributes newParent = FileQueries.RequireParent(context.Reader, to, request.NewPath, user);
        InodeAttributes moved;
        InodeAttributes replaced;
        bool replaces;
        using (TreeScope scope = context.Reader.Tree.Enter())
        {
            if (!scope.TryLookup(oldParent.Inode, from[^1], out moved))
                throw FileQueries.PathError(ErrorReason.NotFound, request.OldPath, from, from.Count - 1, "does not exist");
            replaces = scope.TryLookup(newParent.Inode, to[^1], out replaced);
            if (replaces && !request.Replace)
                throw FileQueries.PathError(ErrorReason.Exists, request.NewPath, to, to.Count - 1, "exists");
            if (moved.Kind == InodeKind.Directory && IsInside(scope, newParent.Inode, moved.Inode))
                throw Bad($"{Show(request.OldPath)}: cannot become a part of itself, {Show(request.NewPath)}");
            // What it would replace is above it.
            if (replaces && replaced.Kind == InodeKind.Directory && IsInside(scope, oldParent.Inode, replaced.Inode))
                throw FileQueries.PathError(ErrorReason.NotEmpty, request.NewPath, to, to.Count - 1, "is a directory and not empty");
        }
        if (replaces && replaced.Inode == moved.Inode)
        {
            Reply = new() { Position = context.Position.ToMessage() };
            return Verdict.Done;
        }
        RequireRights(user, from, to, oldParent, newParent, moved, replaces ? replaced : null);
        if (replaces)
            RequireReplaceable(to, moved, replaced);
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

    private void RequireRights(Credentials? user, List<byte[]> from, List<byte[]> to, in InodeAttributes oldParent, in InodeAttributes newParent, in InodeAttributes moved, InodeAttributes? replaced)
    {
        if (user is null)
            return;
        string target = FileQueries.PathUpTo(to, to.Count - 1);
        Permissions.RequireRemoval(user, oldParent, moved, FileQueries.PathUpTo(from, from.Count - 1), request.OldPath);
        if (replaced is { } old)
            Permissions.RequireRemoval(user, newParent, old, target, request.NewPath);
        else
            Permissions.Require(user, newParent, Access.Write | Access.Search, target);
        // Its entry ".." changes.
        if (moved.Kind == InodeKind.Directory && oldParent.Inode != newParent.Inode)
            Permissions.Require(user, moved, Access.Write, request.OldPath);
    }

    private void RequireReplaceable(List<byte[]> to, in InodeAttributes moved, in InodeAttributes replaced)
    {
        bool isDirectory = replaced.Kind == InodeKind.Directory;
        if (moved.Kind == InodeKind.Directory && !isDirectory)
            throw FileQueries.PathError(ErrorReason.NotADirectory, request.NewPath, to, to.Count - 1, "is not a directory, which a directory could replace");
        if (moved.Kind != InodeKind.Directory && isDirectory)
            throw FileQueries.PathError(ErrorReason.IsADirectory, request.NewPath, to, to.Count - 1, "is a directory, which only a directory can replace");
        if (isDirectory && replaced.SizeBytes > 0)
            throw FileQueries.PathError(ErrorReason.NotEmpty, request.NewPath, to, to.Count - 1, "is a directory and not empty");
    }

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

    private FamfsException Bad(string why) => new(ErrorReason.BadPath, why) { Path = Show(request.NewPath) };
}
