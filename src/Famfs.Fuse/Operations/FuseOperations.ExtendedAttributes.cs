using Famfs.Core;
using Famfs.Core.Namespace;
using Famfs.Fuse.Protocol;

namespace Famfs.Fuse.Operations;

// GETXATTR and LISTXATTR. Attributes of our own, all text:
//   user.famfs.ino     inode number                                        everything
//   user.famfs.map     as Famfs.Core.Format.MapText has it                 files, also those in .meta; where the mount has a lease, those alone
//   user.famfs.layout  "contiguous extents=N" | "interleaved strips=N chunk=BYTES"   files
//   user.famfs.file-damage   why reads and writes of it answer EIO; absent while nothing is known   files
//   user.famfs.uuid, .mount, .position, .master, .log-master, .registration, .dialect, .devices, .requests, .failures, .damage,
//   .missing-devices, .version, .keeper, .lease   of the mount, where known
// Those of the mount are listed at the root and given everywhere: where a directory or a file is bound to another place, the root
// may be out of sight.
// The prefix user.famfs. is ours: what the log may have under it is not shown.
public sealed partial class FuseOperations
{
    private static ReadOnlySpan<byte> OwnPrefix => "user.famfs."u8;

    private static readonly MountAttribute[] MountAttributes = Enum.GetValues<MountAttribute>();

    private FuseReply GetExtendedAttribute(in FuseRequest request, WorkerState worker)
    {
        uint room = request.Fixed<GetXattrIn>().SizeBytes;
        ReadOnlySpan<byte> name = request.Name;
        var inode = new InodeNumber(request.NodeId);
        using TreeScope scope = worker.Reader.Enter();
        if (!TryGetNode(request.NodeId, scope, out InodeAttributes attributes))
            return Errno.ESTALE;
        if (name.StartsWith(OwnPrefix))
        {
            Span<byte> body = worker.Reply.Body;
            return TryWriteOwn(attributes, name[OwnPrefix.Length..], scope, body, out int bytes, out bool tooLong)
                ? Sized(room, bytes, worker)
                : tooLong ? Errno.E2BIG : Errno.ENODATA;
        }
        if (!scope.TryGetExtendedAttribute(inode, name, out ReadOnlySpan<byte> value))
            return Errno.ENODATA;
        if (room != 0 && room >= value.Length)
            value.CopyTo(worker.Reply.RequireBody(value.Length));
        return Sized(room, value.Length, worker);
    }

    private FuseReply ListExtendedAttributes(in FuseRequest request, WorkerState worker)
    {
        uint room = request.Fixed<GetXattrIn>().SizeBytes;
        var inode = new InodeNumber(request.NodeId);
        using TreeScope scope = worker.Reader.Enter();
        if (!TryGetNode(request.NodeId, scope, out InodeAttributes attributes))
            return Errno.ESTALE;
        var list = new NameList(worker.Reply.Body);
        list.Add(OwnPrefix, "ino"u8);
        if (attributes.Kind is InodeKind.File or InodeKind.System)
        {
            list.Add(OwnPrefix, "map"u8);
            list.Add(OwnPrefix, "layout"u8);
            Span<byte> damage = stackalloc byte[256];
            if (TryGetMap(request.NodeId, scope, out MapView map) && TryWriteFileDamage(map, damage, out _))
                list.Add(OwnPrefix, "file-damage"u8);
        }
        if (inode == InodeNumber.Root)
        {
            Span<byte> scratch = stackalloc byte[4096];
            foreach (MountAttribute attribute in MountAttributes)
            {
                if (_description.TryWrite(attribute, scratch, out _))
                    list.Add(OwnPrefix, NameOf(attribute));
            }
        }
        ExtendedAttributes stored = scope.ListExtendedAttributes(inode);
        while (stored.MoveNext())
        {
            if (!stored.Name.StartsWith(OwnPrefix))
                list.Add(stored.Name, default);
        }
        return list.Overflowed ? Errno.E2BIG : Sized(room, list.LengthBytes, worker);
    }

    // The body holds `bytes` bytes unless the caller only asked how many there are.
    private static FuseReply Sized(uint room, int bytes, WorkerState worker)
    {
        if (room == 0)
            return worker.Reply.Ok(new GetXattrOut { SizeBytes = (uint)bytes });
        return room < bytes ? Errno.ERANGE : worker.Reply.Ok(bytes);
    }

    private bool TryWriteOwn(
        in InodeAttributes attributes, ReadOnlySpan<byte> name, in TreeScope scope, Span<byte> target, out int bytes, out bool tooLong)
    {
        tooLong = false;
        if (name.SequenceEqual("ino"u8))
            return attributes.Inode.Value.TryFormat(target, out bytes);
        if (attributes.Kind is InodeKind.File or InodeKind.System && TryGetMap(attributes.Inode.Value, scope, out MapView map))
        {
            if (name.SequenceEqual("map"u8))
            {
                if (attributes.Kind == InodeKind.File && HasLease(target))
                {
                    bytes = 0;
                    return false;
                }
                bool fits = TryWriteMap(map, target, out bytes);
                tooLong = !fits;
                return fits;
            }
            if (name.SequenceEqual("layout"u8))
                return TryWriteLayout(map, target, out bytes);
            if (name.SequenceEqual("file-damage"u8))
                return TryWriteFileDamage(map, target, out bytes);
        }
        bytes = 0;
        foreach (MountAttribute attribute in MountAttributes)
        {
            if (name.SequenceEqual(NameOf(attribute)))
                return _description.TryWrite(attribute, target, out bytes);
        }
        return false;
    }

    // Whoever maps the devices by it would not notice that the lease has run out (SAFETY S13). The text is overwritten.
    private bool HasLease(Span<byte> scratch) => _description.TryWrite(MountAttribute.Lease, scratch, out _);

    private static bool TryWriteMap(in MapView map, Span<byte> target, out int bytes)
    {
        // The text that Famfs.Core.Format.MapText reads; a test holds the two together.
        var text = new AsciiText(target);
        text.Add("size "u8);
        text.Add(map.SizeBytes);
        text.Add(" chunk "u8);
        text.Add(map.ChunkBytes);
        text.Add("\n"u8);
        for (int i = 0; i < map.ExtentCount; i++)
        {
            MapExtent extent = map[i];
            text.Add(extent.Device.Value);
            text.Add(" "u8);
            text.Add((ulong)extent.OffsetBytes);
            text.Add(" "u8);
            text.Add((ulong)extent.LengthBytes);
            text.Add("\n"u8);
        }
        return text.IsComplete(out bytes);
    }

    private static bool TryWriteLayout(in MapView map, Span<byte> target, out int bytes)
    {
        var text = new AsciiText(target);
        text.Add(map.ChunkBytes == 0 ? "contiguous extents="u8 : "interleaved strips="u8);
        text.Add((ulong)map.ExtentCount);
        if (map.ChunkBytes != 0)
        {
            text.Add(" chunk="u8);
            text.Add(map.ChunkBytes);
        }
        return text.IsComplete(out bytes);
    }

    /// <summary>Names the first device of the map that this host lacks; false when it has all.</summary>
    private bool TryWriteFileDamage(in MapView map, Span<byte> target, out int bytes)
    {
        bytes = 0;
        for (int i = 0; i < map.ExtentCount; i++)
        {
            if (IsHere(map[i].Device))
                continue;
            var text = new AsciiText(target);
            text.Add("device "u8);
            text.Add(map[i].Device.Value);
            text.Add(" of the pool is not on this host: what is on it answers EIO"u8);
            return text.IsComplete(out bytes);
        }
        return false;
    }

    // Where the kernel does the reading, what counts is what it was given.
    private bool IsHere(DeviceIndex device) => _dialect.Fmaps is null ? _devices.Resolve(device) is not null : _kernelDevices.Find(device) is not null;

    private static ReadOnlySpan<byte> NameOf(MountAttribute attribute) => attribute switch
    {
        MountAttribute.Uuid => "uuid"u8,
        MountAttribute.Mount => "mount"u8,
        MountAttribute.Position => "position"u8,
        MountAttribute.Master => "master"u8,
        MountAttribute.Registration => "registration"u8,
        MountAttribute.LogMaster => "log-master"u8,
        MountAttribute.Dialect => "dialect"u8,
        MountAttribute.Requests => "requests"u8,
        MountAttribute.Failures => "failures"u8,
        MountAttribute.Damage => "damage"u8,
        MountAttribute.MissingDevices => "missing-devices"u8,
        MountAttribute.Version => "version"u8,
        MountAttribute.Keeper => "keeper"u8,
        MountAttribute.Lease => "lease"u8,
        _ => "devices"u8,
    };

    // Not interpolated: the handlers of the library box numbers until they have been compiled twice.
    private ref struct AsciiText(Span<byte> target)
    {
        private readonly Span<byte> _target = target;
        private int _length;
        private bool _overflowed;

        public void Add(ReadOnlySpan<byte> text)
        {
            if (!text.TryCopyTo(_target[_length..]))
                _overflowed = true;
            else
                _length += text.Length;
        }

        public void Add(ulong number)
        {
            if (!number.TryFormat(_target[_length..], out int written))
                _overflowed = true;
            _length += written;
        }

        public readonly bool IsComplete(out int bytes)
        {
            bytes = _length;
            return !_overflowed;
        }
    }

    // Names, each with its NUL.
    private ref struct NameList(Span<byte> target)
    {
        private readonly Span<byte> _target = target;

        public int LengthBytes { get; private set; }

        public bool Overflowed { get; private set; }

        public void Add(ReadOnlySpan<byte> prefix, ReadOnlySpan<byte> name)
        {
            int size = prefix.Length + name.Length + 1;
            if (size > _target.Length - LengthBytes)
            {
                Overflowed = true;
                return;
            }
            Span<byte> place = _target.Slice(LengthBytes, size);
            prefix.CopyTo(place);
            name.CopyTo(place[prefix.Length..]);
            place[^1] = 0;
            LengthBytes += size;
        }
    }
}
