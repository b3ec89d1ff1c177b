using Famfs.Core;
using Famfs.Core.Namespace;
using Famfs.Fuse.Protocol;

namespace Famfs.Fuse.Operations;

// OPENDIR, READDIR, READDIRPLUS, RELEASEDIR. Offsets given to the kernel: 1 after ".", 2 after "..", and the
// tree's cookie + 2 after a child, so a listing goes on where it stopped whatever was added or removed.
public sealed partial class FuseOperations
{
    private const ulong AfterDot = 1;
    private const ulong AfterDotDot = 2;

    private FuseReply OpenDirectory(in FuseRequest request, WorkerState worker)
    {
        using (TreeScope scope = worker.Reader.Enter())
        {
            if (!TryGetNode(request.NodeId, scope, out InodeAttributes attributes))
                return Errno.ESTALE;
            if (attributes.Kind != InodeKind.Directory)
                return Errno.ENOTDIR;
            if (FindHidden(request.NodeId) is not null)
                return worker.Reply.Ok(new OpenOut());
        }
        return worker.Reply.Ok(new OpenOut { Handle = _directories.Open(), OpenFlags = _directoryOpenFlags });
    }

    private FuseReply ReleaseDirectory(in FuseRequest request, WorkerState worker)
    {
        _directories.Close(request.Fixed<ReleaseIn>().Handle);
        return worker.Reply.Ok();
    }

    private FuseReply ReadDirectory(in FuseRequest request, WorkerState worker, bool plus)
    {
        ref readonly ReadIn wish = ref request.Fixed<ReadIn>();
        var directory = new InodeNumber(request.NodeId);
        Span<byte> body = worker.Reply.Body;
        var writer = new DirectoryWriter(body[..(int)Math.Min(wish.SizeBytes, (uint)body.Length)], plus);

        using TreeScope scope = worker.Reader.Enter();
        if (FindHidden(request.NodeId) is { } hidden)
            return ReadHidden(hidden, wish, plus, worker);
        if (!scope.TryGet(directory, out InodeAttributes self))
            return Errno.ESTALE;
        if (self.Kind != InodeKind.Directory)
            return Errno.ENOTDIR;

        // Node id 0 in their entry: "." and ".." count as no lookup.
        if (wish.Offset < AfterDot && !writer.TryAdd("."u8, directory.Value, AfterDot, FuseConstants.DT_DIR, default))
            return worker.Reply.Ok(writer.LengthBytes);
        ulong parent = directory == InodeNumber.Root ? directory.Value : self.Parent.Value;
        if (wish.Offset < AfterDotDot && !writer.TryAdd(".."u8, parent, AfterDotDot, FuseConstants.DT_DIR, default))
            return worker.Reply.Ok(writer.LengthBytes);

        ulong cookie = wish.Offset > AfterDotDot ? wish.Offset - AfterDotDot : 0;
        ulong lastOffset = 0;
        InodeNumber lastChild = default;
        DirectoryEntries entries = scope.List(directory, cookie, _directories.Hint(wish.Handle, wish.Offset));
        while (entries.MoveNext())
        {
            InodeAttributes child = entries.Attributes;
            ulong offset = entries.Cookie + AfterDotDot;
            EntryOut entry = default;
            if (plus)
            {
                // KernelPresence: mark first, then read what is told. A child that just went away is told as a
                // name only, for which the kernel will ask if it matters.
                _presence.Mark(child.Inode);
                if (scope.TryGet(child.Inode, out InodeAttributes attributes) && IsVisible(attributes))
                    entry = EntryOf(attributes, scope, _cache.AttributesValidSeconds);
            }
            if (!writer.TryAdd(entries.Name, child.Inode.Value, offset, TypeOf(child.Kind), entry))
                break;
            lastOffset = offset;
            lastChild = child.Inode;
        }
        if (lastOffset != 0)
            _directories.Remember(wish.Handle, lastOffset, lastChild);
        return worker.Reply.Ok(writer.LengthBytes);
    }

    private static uint TypeOf(InodeKind kind) => kind switch
    {
        InodeKind.Directory => FuseConstants.DT_DIR,
        InodeKind.Symlink => FuseConstants.DT_LNK,
        _ => FuseConstants.DT_REG,
    };
}
