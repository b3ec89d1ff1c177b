using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Namespace;
using Famfs.Master.Queries;
using Famfs.Master.State;
using Famfs.V1;
using Google.Protobuf;

namespace Famfs.Master.Changes;

/// <summary>Removes a file, a symbolic link or an empty directory; when asked, a directory with all below it, by one record.
/// A file keeps its space until every mount has released it.</summary>
internal sealed class Removal(RemoveRequest request) : Change<MutationReply>
{
    // A record without its name takes less.
    private const int RecordBytes = 128;

    /// <inheritdoc/>
    public override Verdict Decide(ChangeContext context)
    {
        Guid id = request.RequestId.ToGuid("request_id");
        ulong digest = RequestDigest.Of(request);
        if (context.TryFindMade(id, digest, RecordType.Deleted, out RequestTrace trace))
        {
            Reply = new() { Position = context.PositionOf(trace) };
            return Verdict.Done;
        }
        context.State.Format.Require("removal");
        if (!Enum.IsDefined(request.Kind))
            throw new FamfsException(ErrorReason.BadRequest, $"kind {(int)request.Kind} is not one that this master knows");
        string path = FileQueries.Resolve(context.Reader, request.Path, request.At);
        List<byte[]> components = FileSystemPath.Parse(path, allowRoot: false);
        Credentials? user = context.Caller.User;
        InodeAttributes parent = FileQueries.RequireParent(context.Reader, components, path, user);
        InodeAttributes found;
        using (TreeScope scope = context.Reader.Tree.Enter())
        {
            if (!scope.TryLookup(parent.Inode, components[^1], out found))
                throw FileQueries.PathError(ErrorReason.NotFound, path, components, components.Count - 1, "does not exist");
        }
        Permissions.RequireRemoval(user, parent, found, FileQueries.PathUpTo(components, components.Count - 1), path);
        if (request.Kind == RemoveKind.File && found.Kind == InodeKind.Directory)
            throw FileQueries.PathError(ErrorReason.IsADirectory, path, components, components.Count - 1, "is a directory");
        if (request.Kind == RemoveKind.Directory && found.Kind != InodeKind.Directory)
            throw FileQueries.PathError(ErrorReason.NotADirectory, path, components, components.Count - 1, "is not a directory");
        if (found.Kind == InodeKind.Directory && found.SizeBytes > 0)
        {
            if (!request.Recursive)
                throw FileQueries.PathError(ErrorReason.NotEmpty, path, components, components.Count - 1, "is a directory and not empty");
            if (user is not null)
                SubtreeRights.Require(context.Reader, user, found, path);
        }
        if (!context.HasRoom(1, RecordBytes + components[^1].Length, out Verdict verdict))
            return verdict;
        Deleted record = new() { TimeNs = context.NowNs, Inode = found.Inode.Value, Parent = parent.Inode.Value, Name = ByteString.CopyFrom(components[^1]) };
        if (id != Guid.Empty)
            (record.RequestId, record.RequestDigest) = (request.RequestId, digest);
        context.Append(RecordType.Deleted, record);
        Reply = new() { Position = context.Position.ToMessage() };
        return Verdict.Done;
    }
}

/// <summary>Takes removed directories apart, some inodes a turn, until there is none. The master's own.</summary>
internal sealed class SubtreeDisassembly : Change<bool>
{
    /// <summary>Most inodes between two looks at the clock (chosen: far below a millisecond).</summary>
    private const int Step = 100;

    /// <summary>It takes the turns of one that makes many files.</summary>
    public override int Files => ChangeContext.FilesPerTurn;

    /// <inheritdoc/>
    public override Verdict Decide(ChangeContext context)
    {
        while (context.State.Replay.HasSubtrees)
        {
            context.TakeApart(Step);
            if (context.EndsTurn(Step) && context.State.Replay.HasSubtrees)
                return new(VerdictKind.NextTurn);
        }
        return Verdict.Done;
    }
}
