using System.Text;
using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Namespace;
using Famfs.Master.Queries;
using Famfs.Master.State;
using Famfs.V1;
using Google.Protobuf;

namespace Famfs.Master.Changes;

/// <summary>Makes a symbolic link. What it leads to is not looked at.</summary>
internal sealed class SymlinkCreation(MakeSymlinkRequest request) : Change<MakeSymlinkReply>
{
    // A record without its name and target takes less.
    private const int RecordBytes = 128;

    private const uint LinkMode = 0x1FF;

    /// <inheritdoc/>
    public override Verdict Decide(ChangeContext context)
    {
        Guid id = request.RequestId.ToGuid("request_id");
        ulong digest = RequestDigest.Of(request);
        if (context.TryFindMade(id, digest, RecordType.SymlinkMade, out RequestTrace trace))
        {
            Reply = new() { Position = context.PositionOf(trace), Link = FileQueries.DescribeMade(context.Reader, trace.Inode) };
            return Verdict.Done;
        }
        context.State.Format.Require("symbolic links");
        string path = FileQueries.Resolve(context.Reader, request.Path, request.At);
        List<byte[]> components = FileSystemPath.Parse(path, allowRoot: false);
        ByteString target = RequireTarget();
        Credentials? user = context.Caller.User;
        InodeAttributes parent = FileQueries.RequireParent(context.Reader, components, path, user);
        using (TreeScope scope = context.Reader.Tree.Enter())
        {
            if (scope.TryLookup(parent.Inode, components[^1], out _))
                throw FileQueries.PathError(ErrorReason.Exists, path, components, components.Count - 1, "exists");
        }
        Permissions.Require(user, parent, Access.Write | Access.Search, FileQueries.PathUpTo(components, components.Count - 1));
        // A link has no set-id bits, so nothing else is asked for.
        Ownership owner = Permissions.OfNew(user, mayGiveSetId: true, parent, Permissions.Wish(user, LinkMode, request.Uid, request.Gid, request.OwnerIsCaller), isDirectory: false, path);
        if (!context.HasRoom(1, RecordBytes + components[^1].Length + target.Length, out Verdict verdict))
            return verdict;
        InodeNumber inode = context.NextInode;
        SymlinkMade record = new()
        {
            TimeNs = context.NowNs,
            Inode = inode.Value,
            Parent = parent.Inode.Value,
            Name = ByteString.CopyFrom(components[^1]),
            Uid = owner.Uid,
            Gid = owner.Gid,
            Target = target,
        };
        if (id != Guid.Empty)
            (record.RequestId, record.RequestDigest) = (request.RequestId, digest);
        context.Append(RecordType.SymlinkMade, record);
        Reply = new() { Position = context.Position.ToMessage(), Link = FileQueries.DescribeMade(context.Reader, inode) };
        return Verdict.Done;
    }

    private ByteString RequireTarget()
    {
        int bytes = Encoding.UTF8.GetByteCount(request.Target);
        if (bytes is 0 or > InodeTree.MaxSymlinkTargetBytes || request.Target.Contains('\0', StringComparison.Ordinal) || request.Target.Contains('\uFFFD', StringComparison.Ordinal))
            throw new FamfsException(ErrorReason.BadRequest, $"a target of {bytes} bytes: 1 to {InodeTree.MaxSymlinkTargetBytes} bytes of UTF-8 without NUL are taken") { Limit = InodeTree.MaxSymlinkTargetBytes };
        return ByteString.CopyFromUtf8(request.Target);
    }
}
