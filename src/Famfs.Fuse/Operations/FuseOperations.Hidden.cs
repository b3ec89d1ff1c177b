using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Namespace;
using Famfs.Fuse.Protocol;

namespace Famfs.Fuse.Operations;

// Hidden directories (HiddenDirectory): found by name, listed nowhere, for root alone. Names in them are not cached: a
// segment appears when its record is replayed, and nobody looks often.
public sealed partial class FuseOperations
{
    private const uint HiddenDirectoryMode = 0x1C0; // 0700
    private const uint HiddenFileMode = 0x180; // 0600

    // The directory with that node id, or null.
    private HiddenDirectory? FindHidden(ulong node)
    {
        foreach (HiddenDirectory directory in _hidden)
        {
            if (directory.Node == node)
                return directory;
        }
        return null;
    }

    // The directory of that name in a hidden one, or in the root (null); null when there is none.
    private HiddenDirectory? FindHidden(HiddenDirectory? parent, ReadOnlySpan<byte> name)
    {
        foreach (HiddenDirectory directory in _hidden)
        {
            if (directory.Parent == parent && name.SequenceEqual(directory.Name))
                return directory;
        }
        return null;
    }

    // A name that no file of the log can have, whether there is such a directory or not.
    private static bool IsHiddenName(ulong parent, ReadOnlySpan<byte> name)
    {
        if (parent != InodeNumber.Root.Value)
            return false;
        foreach (byte[] hidden in HiddenDirectory.Names)
        {
            if (name.SequenceEqual(hidden))
                return true;
        }
        return false;
    }

    // What no program may change: such a directory, and what is private to this mount.
    private bool IsHidden(ulong node) => node >= MediaLayout.FirstPrivateNode || FindHidden(node) is not null;

    // Attributes of any node: an inode of the log, a hidden directory, or what is private to this mount.
    private bool TryGetNode(ulong node, in TreeScope scope, out InodeAttributes attributes)
    {
        if (FindHidden(node) is { } directory)
        {
            attributes = AttributesOf(directory, scope);
            return true;
        }
        if (node < MediaLayout.FirstPrivateNode)
            return scope.TryGet(new InodeNumber(node), out attributes);
        foreach (HiddenDirectory holder in _hidden)
        {
            if (holder.TryGetPrivate(node, out MapExtent extent))
            {
                attributes = AttributesOf(holder, scope) with
                {
                    Inode = new InodeNumber(node),
                    Parent = new InodeNumber(holder.Node),
                    Kind = InodeKind.System,
                    Mode = HiddenFileMode,
                    SizeBytes = (ulong)extent.LengthBytes,
                    LinkCount = 0, // the kernel keeps no inode of it that nobody uses
                };
                return true;
            }
        }
        attributes = default;
        return false;
    }

    private bool TryGetMap(ulong node, in TreeScope scope, out MapView map)
    {
        // What is being zeroed is on its way to another file: nobody has it, or only one who was declared gone.
        if (node < MediaLayout.FirstPrivateNode)
            return scope.TryGetMap(new InodeNumber(node), out map, out InodeStatus status) && status != InodeStatus.Zeroing;
        foreach (HiddenDirectory holder in _hidden)
        {
            if (holder.TryGetPrivate(node, out MapExtent extent))
            {
                map = new MapView(extent);
                return true;
            }
        }
        map = default;
        return false;
    }

    // Can be opened: a file, or what a hidden directory shows.
    private bool HasContent(in InodeAttributes attributes) =>
        attributes.Kind == InodeKind.File || (attributes.Kind == InodeKind.System && _hidden.Length > 0);

    private FuseReply LookupInHidden(HiddenDirectory directory, ReadOnlySpan<byte> name, uint thread, in TreeScope scope, WorkerState worker)
    {
        if (FindHidden(directory, name) is { } child)
            return worker.Reply.Ok(UncachedEntryOf(AttributesOf(child, scope), scope));

        // KernelPresence: mark first, then read what is told; a name by its directory, before it is looked up.
        _presence.Mark(new InodeNumber(directory.Node));
        if (_flushDoor?.TryEnter(name, thread, out InodeNumber visited) == true)
        {
            _presence.Mark(visited);
            return TryGetNode(visited.Value, scope, out InodeAttributes known) ? worker.Reply.Ok(UncachedEntryOf(known, scope)) : Errno.ENOENT;
        }
        // Also one that is not in the log any more: the kernel may have it yet.
        if (_isRevoked() && MetaNames.TryParseRevoked(name, out InodeNumber revoked))
            return worker.Reply.Ok(UncachedEntryOf(new() { Inode = revoked, Parent = new(directory.Node), Kind = InodeKind.File }, scope));
        if (!directory.TryFind(name, out ulong file))
            return Errno.ENOENT;
        _presence.Mark(new InodeNumber(file));
        return TryGetNode(file, scope, out InodeAttributes attributes) && attributes.Status == InodeStatus.Published
            ? worker.Reply.Ok(UncachedEntryOf(attributes, scope))
            : Errno.ENOENT;
    }

    // Offsets after those of "." and "..": directories in it, then files at their node ids. READDIRPLUS is given names
    // only, for which the kernel then asks.
    private FuseReply ReadHidden(HiddenDirectory directory, in ReadIn wish, bool plus, WorkerState worker)
    {
        Span<byte> body = worker.Reply.Body;
        var writer = new DirectoryWriter(body[..(int)Math.Min(wish.SizeBytes, (uint)body.Length)], plus);
        if (wish.Offset < AfterDot && !writer.TryAdd("."u8, directory.Node, AfterDot, FuseConstants.DT_DIR, default))
            return worker.Reply.Ok(writer.LengthBytes);
        ulong parent = directory.Parent?.Node ?? InodeNumber.Root.Value;
        if (wish.Offset < AfterDotDot && !writer.TryAdd(".."u8, parent, AfterDotDot, FuseConstants.DT_DIR, default))
            return worker.Reply.Ok(writer.LengthBytes);
        ulong offset = AfterDotDot;
        foreach (HiddenDirectory child in _hidden)
        {
            offset++;
            if (child.Parent == directory && wish.Offset < offset && !writer.TryAdd(child.Name, child.Node, offset, FuseConstants.DT_DIR, default))
                return worker.Reply.Ok(writer.LengthBytes);
        }
        ulong last = wish.Offset > offset ? wish.Offset - offset : 0;
        Span<byte> name = stackalloc byte[MetaNames.MaxBytes];
        while (directory.TryGetNext(last, name, out int length, out ulong file))
        {
            last = file;
            if (!writer.TryAdd(name[..length], file, offset + file, FuseConstants.DT_REG, default))
                break;
        }
        return worker.Reply.Ok(writer.LengthBytes);
    }

    private EntryOut UncachedEntryOf(in InodeAttributes attributes, in TreeScope scope) =>
        EntryOf(attributes, scope, _cache.AttributesValidSeconds) with { EntryValidSeconds = 0 };

    private static InodeAttributes AttributesOf(HiddenDirectory directory, in TreeScope scope)
    {
        _ = scope.TryGet(InodeNumber.Root, out InodeAttributes root);
        return root with
        {
            Inode = new InodeNumber(directory.Node),
            Parent = directory.Parent is { } parent ? new InodeNumber(parent.Node) : InodeNumber.Root,
            Kind = InodeKind.Directory,
            Status = InodeStatus.Published,
            Mode = HiddenDirectoryMode,
            Uid = 0,
            Gid = 0,
            SizeBytes = 0,
            LinkCount = 2,
        };
    }
}
