using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Namespace;
using Famfs.Fuse.Protocol;

namespace Famfs.Fuse.Operations;

// The hidden directory .meta: found by name, listed nowhere, for root alone. Its files are the file system's own inodes,
// under the names of MetaNames; their node ids are inode numbers like any other's. Only the directory itself, the
// directory "window" and what is in that are not inodes of the log. Names here are not cached: a segment appears when
// its record is replayed, and nobody looks often.
public sealed partial class FuseOperations
{
    // Offsets in a listing of .meta, after those of "." and "..": "window", then files at this plus their inode number.
    private const ulong AfterWindows = 3;

    private const uint MetaDirectoryMode = 0x1C0; // 0700
    private const uint MetaFileMode = 0x180; // 0600

    private bool IsMetaDirectory(ulong node) => _meta is not null && (node == _meta.Directory.Value || node == WindowTable.DirectoryNode);

    // Attributes of any node: an inode of the log, .meta and what is private to this mount.
    private bool TryGetNode(ulong node, in TreeScope scope, out InodeAttributes attributes)
    {
        if (IsMetaDirectory(node))
        {
            attributes = MetaDirectoryAttributes(node, scope);
            return true;
        }
        if (node < MediaLayout.FirstPrivateNode)
            return scope.TryGet(new InodeNumber(node), out attributes);
        attributes = default;
        if (_meta is null || _windows.Find(node) is not { } window)
            return false;
        attributes = WindowAttributes(window, MetaDirectoryAttributes(WindowTable.DirectoryNode, scope));
        return true;
    }

    // Can be opened: a file, or what .meta shows.
    private bool HasContent(in InodeAttributes attributes) =>
        attributes.Kind == InodeKind.File || (attributes.Kind == InodeKind.System && _meta is not null);

    private bool TryGetMap(ulong node, in TreeScope scope, out MapView map)
    {
        if (node < MediaLayout.FirstPrivateNode)
            return scope.TryGetMap(new InodeNumber(node), out map);
        Window? window = _meta is null ? null : _windows.Find(node);
        map = window is null ? default : new MapView(window.Extent);
        return window is not null;
    }

    private FuseReply LookupInMeta(ulong directory, ReadOnlySpan<byte> name, in TreeScope scope, WorkerState worker)
    {
        if (directory == _meta!.Directory.Value && name.SequenceEqual("window"u8))
            return worker.Reply.Ok(UncachedEntryOf(MetaDirectoryAttributes(WindowTable.DirectoryNode, scope), scope));
        if (directory == WindowTable.DirectoryNode)
        {
            // KernelPresence: mark first, then read what is told; a name by its directory, before it is looked up.
            _presence.Mark(new InodeNumber(directory));
            if (_windows.Find(name) is not { } window)
                return Errno.ENOENT;
            _presence.Mark(new InodeNumber(window.Node));
            return TryGetNode(window.Node, scope, out InodeAttributes reserved)
                ? worker.Reply.Ok(UncachedEntryOf(reserved, scope))
                : Errno.ENOENT;
        }
        if (!_meta!.TryFind(name, out InodeNumber inode))
            return Errno.ENOENT;
        _presence.Mark(inode);
        return scope.TryGet(inode, out InodeAttributes attributes) && attributes.Status == InodeStatus.Published
            ? worker.Reply.Ok(UncachedEntryOf(attributes, scope))
            : Errno.ENOENT;
    }

    // READDIRPLUS is given names only, for which the kernel then asks.
    private FuseReply ReadMetaDirectory(ulong directory, in ReadIn wish, bool plus, WorkerState worker)
    {
        Span<byte> body = worker.Reply.Body;
        var writer = new DirectoryWriter(body[..(int)Math.Min(wish.SizeBytes, (uint)body.Length)], plus);
        bool inWindows = directory == WindowTable.DirectoryNode;
        if (wish.Offset < AfterDot && !writer.TryAdd("."u8, directory, AfterDot, FuseConstants.DT_DIR, default))
            return worker.Reply.Ok(writer.LengthBytes);
        if (wish.Offset < AfterDotDot && !writer.TryAdd(".."u8, inWindows ? _meta!.Directory.Value : InodeNumber.Root.Value, AfterDotDot, FuseConstants.DT_DIR, default))
            return worker.Reply.Ok(writer.LengthBytes);
        if (inWindows)
        {
            foreach (Window window in _windows.Open)
            {
                ulong offset = AfterWindows + window.Node;
                if (wish.Offset < offset && !writer.TryAdd(window.Name, window.Node, offset, FuseConstants.DT_REG, default))
                    break;
            }
            return worker.Reply.Ok(writer.LengthBytes);
        }
        if (wish.Offset < AfterWindows && !writer.TryAdd("window"u8, WindowTable.DirectoryNode, AfterWindows, FuseConstants.DT_DIR, default))
            return worker.Reply.Ok(writer.LengthBytes);
        var last = new InodeNumber(wish.Offset > AfterWindows ? wish.Offset - AfterWindows : 0);
        Span<byte> name = stackalloc byte[MetaNames.MaxBytes];
        while (_meta!.TryGetNext(last, name, out int length, out MetaFile file))
        {
            last = file.Inode;
            if (!writer.TryAdd(name[..length], last.Value, AfterWindows + last.Value, FuseConstants.DT_REG, default))
                break;
        }
        return worker.Reply.Ok(writer.LengthBytes);
    }

    private EntryOut UncachedEntryOf(in InodeAttributes attributes, in TreeScope scope) =>
        EntryOf(attributes, scope, _cache.AttributesValidSeconds) with { EntryValidSeconds = 0 };

    private InodeAttributes MetaDirectoryAttributes(ulong node, in TreeScope scope)
    {
        _ = scope.TryGet(InodeNumber.Root, out InodeAttributes root);
        return root with
        {
            Inode = new InodeNumber(node),
            Parent = node == WindowTable.DirectoryNode ? _meta!.Directory : InodeNumber.Root,
            Kind = InodeKind.Directory,
            Status = InodeStatus.Published,
            Mode = MetaDirectoryMode,
            Uid = 0,
            Gid = 0,
            SizeBytes = 0,
            LinkCount = 2,
        };
    }

    private static InodeAttributes WindowAttributes(Window window, in InodeAttributes directory) => directory with
    {
        Inode = new InodeNumber(window.Node),
        Parent = directory.Inode,
        Kind = InodeKind.System,
        Mode = MetaFileMode,
        SizeBytes = (ulong)window.Extent.LengthBytes,
        LinkCount = 1,
    };
}
