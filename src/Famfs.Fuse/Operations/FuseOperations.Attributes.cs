using Famfs.Core;
using Famfs.Core.Namespace;
using Famfs.Fuse.Protocol;

namespace Famfs.Fuse.Operations;

// GETATTR, STATX, ACCESS, STATFS.
public sealed partial class FuseOperations
{
    private const ulong SectorBytes = 512;

    // st_blksize, and the block of statfs: a page. Not the allocation unit: C libraries make stdio buffers of
    // st_blksize, and the kernel takes it for the inode's block size, which its page cache wants no larger than
    // a page. Programs that copy use their own, larger buffers anyway.
    private const uint BlockBytes = 4096;

    // More than any file has: an exabyte or four.
    private const ulong RevokedBytes = 1UL << 62;

    private const long NsPerSecond = 1_000_000_000;

    private FuseReply GetAttributes(in FuseRequest request, WorkerState worker)
    {
        using TreeScope scope = worker.Reader.Enter();
        return TryGetNode(request.NodeId, scope, out InodeAttributes attributes)
            ? worker.Reply.Ok(AttrOf(attributes, scope))
            : Errno.ESTALE;
    }

    private AttrOut AttrOf(in InodeAttributes attributes, in TreeScope scope) => new()
    {
        ValidSeconds = _cache.AttributesValidSeconds,
        Attributes = NodeAttributesOf(attributes, scope),
    };

    private FuseReply Statx(in FuseRequest request, WorkerState worker)
    {
        using TreeScope scope = worker.Reader.Enter();
        if (!TryGetNode(request.NodeId, scope, out InodeAttributes attributes))
            return Errno.ESTALE;
        NodeAttributes node = NodeAttributesOf(attributes, scope);
        return worker.Reply.Ok(new StatxOut
        {
            ValidSeconds = _cache.AttributesValidSeconds,
            Stat = new StatxBody
            {
                Mask = FuseConstants.STATX_BASIC_STATS, // no birth time
                BlockSizeBytes = node.BlockSizeBytes,
                LinkCount = node.LinkCount,
                Uid = node.Uid,
                Gid = node.Gid,
                Mode = (ushort)node.Mode,
                Inode = node.Inode,
                SizeBytes = node.SizeBytes,
                Blocks = node.Blocks,
                AccessTime = new StatxTime { Seconds = (long)node.AccessSeconds, Nanoseconds = node.AccessNanoseconds },
                ModifyTime = new StatxTime { Seconds = (long)node.ModifySeconds, Nanoseconds = node.ModifyNanoseconds },
                ChangeTime = new StatxTime { Seconds = (long)node.ChangeSeconds, Nanoseconds = node.ChangeNanoseconds },
            },
        });
    }

    // The mount has default_permissions, so the kernel checks and does not ask; without it, this is what can be
    // said without knowing the caller's supplementary groups.
    private FuseReply Access(in FuseRequest request, WorkerState worker)
    {
        using TreeScope scope = worker.Reader.Enter();
        if (!TryGetNode(request.NodeId, scope, out InodeAttributes attributes))
            return Errno.ESTALE;
        uint wanted = request.Fixed<AccessIn>().Mask & 7;
        InHeader caller = request.Header;
        if (caller.Uid == 0)
        {
            bool executable = attributes.Kind == InodeKind.Directory || (attributes.Mode & 0x49) != 0;
            return (wanted & 1) == 0 || executable ? worker.Reply.Ok() : Errno.EACCES;
        }
        int shift = caller.Uid == attributes.Uid ? 6 : caller.Gid == attributes.Gid ? 3 : 0;
        return (wanted & ~(attributes.Mode >> shift)) == 0 ? worker.Reply.Ok() : Errno.EACCES;
    }

    private FuseReply StatFileSystem(WorkerState worker)
    {
        PoolCapacity capacity = _capacity.Capacity;
        ulong inodes = (ulong)(_tree.FileCount + _tree.DirectoryCount);
        return worker.Reply.Ok(new StatfsOut
        {
            Blocks = capacity.TotalBytes / BlockBytes,
            // As of blocks that only root may take: what nobody uses is more than what anybody can have.
            FreeBlocks = (capacity.FreeBytes + capacity.PendingBytes) / BlockBytes,
            AvailableBlocks = capacity.FreeBytes / BlockBytes,
            Files = InodeNumber.Max,
            FreeFiles = InodeNumber.Max - inodes,
            BlockSizeBytes = BlockBytes,
            FragmentSizeBytes = BlockBytes,
            NameMaxBytes = FuseConstants.NAME_MAX,
        });
    }

    // A kernel that has the file's map gives it up when it is told another size (SAFETY S16): calls fail, and mappings fault. It may
    // not be told the former one again.
    private bool IsToBeUnusable(in InodeAttributes attributes) => _dialect.Fmaps is not null && attributes.Kind == InodeKind.File && _isRevoked();

    private NodeAttributes NodeAttributesOf(in InodeAttributes attributes, in TreeScope scope)
    {
        // What programs of this mount wrote and the log does not have yet. The later time is the one that the log will have.
        long written = _written is not null && attributes.Kind == InodeKind.File && _written.TryGet(attributes.Inode, out long time) ? time : long.MinValue;
        (ulong accessSeconds, uint accessNs) = SplitTime(attributes.AccessTimeNs);
        (ulong modifySeconds, uint modifyNs) = SplitTime(Math.Max(attributes.ModifyTimeNs, written));
        (ulong changeSeconds, uint changeNs) = SplitTime(Math.Max(attributes.ChangeTimeNs, written));
        return new NodeAttributes
        {
            Inode = attributes.Inode.Value,
            SizeBytes = IsToBeUnusable(attributes) ? RevokedBytes : attributes.SizeBytes,
            Blocks = attributes.Kind is InodeKind.File or InodeKind.System && scope.TryGetMap(attributes.Inode, out MapView map) ? AllocatedBytes(map) / SectorBytes : 0,
            AccessSeconds = accessSeconds,
            AccessNanoseconds = accessNs,
            ModifySeconds = modifySeconds,
            ModifyNanoseconds = modifyNs,
            ChangeSeconds = changeSeconds,
            ChangeNanoseconds = changeNs,
            Mode = TypeBits(attributes.Kind) | attributes.Mode,
            LinkCount = attributes.LinkCount,
            Uid = attributes.Uid,
            Gid = attributes.Gid,
            BlockSizeBytes = BlockBytes,
        };
    }

    private static ulong AllocatedBytes(in MapView map)
    {
        ulong bytes = 0;
        for (int i = 0; i < map.ExtentCount; i++)
            bytes += (ulong)map[i].LengthBytes;
        return bytes;
    }

    private static uint TypeBits(InodeKind kind) => kind switch
    {
        InodeKind.Directory => FuseConstants.S_IFDIR,
        InodeKind.Symlink => FuseConstants.S_IFLNK,
        _ => FuseConstants.S_IFREG,
    };

    // Seconds may be negative (before 1970) while nanoseconds never are.
    private static (ulong Seconds, uint Nanoseconds) SplitTime(long timeNs)
    {
        long seconds = Math.DivRem(timeNs, NsPerSecond, out long rest);
        return rest < 0 ? ((ulong)(seconds - 1), (uint)(rest + NsPerSecond)) : ((ulong)seconds, (uint)rest);
    }
}
