using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Namespace;
using Famfs.Master.Queries;
using Famfs.Master.State;
using Famfs.V1;
using Google.Protobuf;

namespace Famfs.Master.Changes;

/// <summary>Makes a directory and, when asked, its missing parents.</summary>
internal sealed class DirectoryCreation(MakeDirectoryRequest request) : Change<MakeDirectoryReply>
{
    private const uint DefaultMode = 0x1ED; // 0755

    // The owner must be able to go on into what it made.
    private const uint ParentMode = 0xC0;

    // A DirectoryMade record without its name takes less.
    private const int RecordBytes = 128;

    /// <summary>Directories of the path: it makes those that are not there.</summary>
    public override int Files { get; } = 1 + request.Path.AsSpan().Count('/');

    /// <inheritdoc/>
    public override Verdict Decide(ChangeContext context)
    {
        Guid id = request.RequestId.ToGuid("request_id");
        ulong digest = RequestDigest.Of(request);
        if (context.TryFindMade(id, digest, RecordType.DirectoryMade, out RequestTrace trace))
        {
            Reply = new() { Position = context.PositionOf(trace), Directory = FileQueries.DescribeMade(context.Reader, trace.Inode) };
            return Verdict.Done;
        }
        if (request.At is not null && request.Parents)
            throw new FamfsException(ErrorReason.BadRequest, "missing parents of a place cannot be made; give a path");
        string path = FileQueries.Resolve(context.Reader, request.Path, request.At);
        List<byte[]> components = FileSystemPath.Parse(path, allowRoot: request.Parents);
        context.State.Format.RequirePath(components, path);
        uint mode = Mode.Require(request.Mode, request.ModeSet, DefaultMode);
        Credentials? user = context.Caller.User;
        InodeAttributes at;
        int found = 0;
        using (TreeScope scope = context.Reader.Tree.Enter())
        {
            scope.TryGet(InodeNumber.Root, out at);
            while (found < components.Count)
            {
                FileQueries.RequireSearch(user, at, components, found);
                if (!scope.TryLookup(at.Inode, components[found], out InodeAttributes child))
                    break;
                if (child.Kind != InodeKind.Directory && (found < components.Count - 1 || request.Parents))
                    throw FileQueries.PathError(ErrorReason.NotADirectory, path, components, found, "is not a directory");
                at = child;
                found++;
            }
            if (found == components.Count)
            {
                if (!request.Parents)
                    throw new FamfsException(ErrorReason.Exists, $"{FileSystemPath.Show(path)}: exists") { Path = FileSystemPath.Show(path) };
                Reply = Describe(context, scope, at.Inode, path);
                Reply.Existed = true;
                return Verdict.Done;
            }
        }
        int missing = components.Count - found;
        if (missing > 1 && !request.Parents)
            throw FileQueries.PathError(ErrorReason.NotFound, path, components, found, "does not exist");
        if (user is not null)
            Permissions.Require(user, at, Access.Write, FileQueries.PathUpTo(components, found));
        if (!context.HasRoom(missing, components.Skip(found).Sum(c => (long)RecordBytes + c.Length), out Verdict verdict))
            return verdict;
        for (int i = found; i < components.Count; i++)
        {
            InodeNumber inode = context.NextInode;
            bool last = i == components.Count - 1;
            Ownership wish = Permissions.Wish(user, last ? mode : mode | ParentMode, request.Uid, request.Gid, request.OwnerIsCaller);
            Ownership owner = Permissions.OfNew(user, context.Caller.MayGiveSetId, at, wish, isDirectory: true, path);
            DirectoryMade record = new()
            {
                TimeNs = context.NowNs,
                Inode = inode.Value,
                Parent = at.Inode.Value,
                Name = ByteString.CopyFrom(components[i]),
                Mode = owner.Mode,
                Uid = owner.Uid,
                Gid = owner.Gid,
            };
            // The id goes into the record that completes the request; all of them are published at once.
            if (last && id != Guid.Empty)
            {
                record.RequestId = request.RequestId;
                record.RequestDigest = digest;
            }
            context.Append(RecordType.DirectoryMade, record);
            using TreeScope made = context.Reader.Tree.Enter();
            made.TryGet(inode, out at);
        }
        using TreeScope after = context.Reader.Tree.Enter();
        Reply = Describe(context, after, at.Inode, path);
        return Verdict.Done;
    }

    private MakeDirectoryReply Describe(ChangeContext context, TreeScope scope, InodeNumber inode, string path)
    {
        scope.TryGet(inode, out InodeAttributes attributes);
        return new() { Directory = FileQueries.Describe(scope, attributes, path, false), Position = context.Position.ToMessage() };
    }
}
