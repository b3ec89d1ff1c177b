using Famfs.Core;
using Famfs.Core.Namespace;
using Famfs.Fuse.Protocol;

namespace Famfs.Fuse.Operations;

// LOOKUP and READLINK.
public sealed partial class FuseOperations
{
    // A name can move while it is being looked up; each further turn needs another change in between.
    private const int MaxLookupTurns = 8;

    private FuseReply Lookup(in FuseRequest request, WorkerState worker)
    {
        ReadOnlySpan<byte> name = request.Name;
        if (name.Length > FuseConstants.NAME_MAX)
            return Errno.ENAMETOOLONG;
        var parent = new InodeNumber(request.NodeId);
        using TreeScope scope = worker.Reader.Enter();
        if (name is [(byte)'.'] or [(byte)'.', (byte)'.'])
            return LookupOfHandle(parent, dotDot: name.Length == 2, scope, worker);
        if (IsHiddenName(parent.Value, name))
        {
            return FindHidden(null, name) is { } directory
                ? worker.Reply.Ok(UncachedEntryOf(AttributesOf(directory, scope), scope))
                : Errno.ENOENT;
        }
        if (FindHidden(parent.Value) is { } hidden)
            return LookupInHidden(hidden, name, request.Header.Pid, scope, worker);

        for (int turn = 0; turn < MaxLookupTurns; turn++)
        {
            if (!scope.TryLookup(parent, name, out InodeAttributes child))
            {
                if (!scope.TryGet(parent, out InodeAttributes holder))
                    return Errno.ESTALE;
                // A removed directory has no names, and will have none: nothing of it is to be cached.
                if (holder.Status == InodeStatus.Deleted)
                    return holder.Kind == InodeKind.Directory ? Errno.ENOENT : Errno.ESTALE;
                if (holder.Kind != InodeKind.Directory)
                    return Errno.ENOTDIR;
                return _cache.EntryValidSeconds == 0
                    ? Errno.ENOENT
                    : worker.Reply.Ok(new EntryOut { EntryValidSeconds = _cache.EntryValidSeconds });
            }

            // KernelPresence: mark first, then read what is told.
            _presence.Mark(child.Inode);
            if (!scope.TryGet(child.Inode, out InodeAttributes attributes) || attributes.Status != InodeStatus.Published)
                continue;
            return worker.Reply.Ok(EntryOf(attributes, scope, _cache.AttributesValidSeconds));
        }
        return Errno.EAGAIN;
    }

    // NFS export: the kernel has a node id and wants the inode, or its parent. No lock orders this against
    // invalidations, as the parent's lock does for a lookup by name, so the attributes may not be cached.
    private FuseReply LookupOfHandle(InodeNumber node, bool dotDot, in TreeScope scope, WorkerState worker)
    {
        if (!TryGetNode(node.Value, scope, out InodeAttributes attributes) || !IsVisible(attributes))
            return Errno.ESTALE;
        if (dotDot && node != InodeNumber.Root)
            node = attributes.Parent;
        _presence.Mark(node);
        if (!TryGetNode(node.Value, scope, out attributes) || !IsVisible(attributes))
            return Errno.ESTALE;
        return worker.Reply.Ok(EntryOf(attributes, scope, attributesValidSeconds: 0));
    }

    private EntryOut EntryOf(in InodeAttributes attributes, in TreeScope scope, ulong attributesValidSeconds) => new()
    {
        NodeId = attributes.Inode.Value,
        EntryValidSeconds = _cache.EntryValidSeconds,
        AttributesValidSeconds = attributesValidSeconds,
        Attributes = NodeAttributesOf(attributes, scope),
    };

    private static bool IsVisible(in InodeAttributes attributes) =>
        attributes.Status == InodeStatus.Published && attributes.Kind is InodeKind.File or InodeKind.Directory or InodeKind.Symlink;

    private static FuseReply ReadLink(in FuseRequest request, WorkerState worker)
    {
        using TreeScope scope = worker.Reader.Enter();
        if (scope.TryGetSymlinkTarget(new InodeNumber(request.NodeId), out ReadOnlySpan<byte> target))
            return worker.Reply.Ok(target);
        return scope.TryGet(new InodeNumber(request.NodeId), out _) ? Errno.EINVAL : Errno.ESTALE;
    }
}
