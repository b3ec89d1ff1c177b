using Famfs.Core;
using Famfs.Core.Allocation;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Namespace;
using Famfs.V1;

namespace Famfs.Master.State;

/// <summary>What a master knows: the state replayed from the log, and the free space and the request ids that follow from
/// it. All of it can be had again by reading the log. Owned by the engine's thread once it runs, but for what
/// <see cref="ReplayState"/> marks as readable by any thread.</summary>
internal sealed class MasterState : IReplayObserver, IDisposable
{
    private readonly TimeProvider _clock;
    private bool _live;
    private TreeReader? _reader; // of what replay tells

    // Any thread: replaced whole by whoever looks at the mounts.
    private volatile DeviceAvoidance _avoidance = DeviceAvoidance.None;
    private volatile IReadOnlyList<string> _reclaimWaits = [];
    private volatile IReadOnlySet<Guid> _reclaimHolders = new HashSet<Guid>();

    public MasterState(DevicePool pool, TimeProvider clock, Random random)
    {
        _clock = clock;
        Pool = pool;
        Format = new(pool);
        Allocator = new ExtentAllocator(pool.UnitBytes);
        Requests = new(clock);
        Replay = new(new(pool.Primary.FileSystem, pool.Primary.Generation, default, default), RandomKey(random), this);
    }

    /// <summary>The devices. Any thread.</summary>
    public DevicePool Pool { get; }

    /// <summary>What the media format can express. Any thread.</summary>
    public FormatRules Format { get; }

    /// <summary>The replayed log.</summary>
    public ReplayState Replay { get; }

    /// <summary>Free space.</summary>
    public ExtentAllocator Allocator { get; }

    /// <summary>Devices that new files avoid. Any thread.</summary>
    public DeviceAvoidance Avoidance
    {
        get => _avoidance;
        set => _avoidance = value;
    }

    /// <summary>Whom space of removed files waits for, each as a phrase. Any thread.</summary>
    public IReadOnlyList<string> ReclaimWaits
    {
        get => _reclaimWaits;
        set => _reclaimWaits = value;
    }

    /// <summary>The mounts among those of <see cref="ReclaimWaits"/>, all of them. Never changed, but replaced. Any thread.</summary>
    public IReadOnlySet<Guid> ReclaimHolders
    {
        get => _reclaimHolders;
        set => _reclaimHolders = value;
    }

    /// <summary>Known request ids.</summary>
    public RecentRequests Requests { get; }

    /// <summary>Times of modification that records have given lately.</summary>
    public SetTimes SetTimes { get; } = new();

    /// <summary>What removed files were called.</summary>
    public RemovedNames RemovedNames { get; } = new();

    /// <summary>The share of <see cref="Requests"/> that the caller at hand has. What is replayed is in that of the log, because
    /// records do not say who asked.</summary>
    public int RequestShare { get; set; } = RecentRequests.LogShare;

    /// <summary>Finds the record that a request of the caller at hand has made. Errors as
    /// <see cref="RecentRequests.TryFind"/>.</summary>
    public bool TryFindRequest(Guid id, ulong digest, out RequestTrace trace) => Requests.TryFind(id, digest, out trace, RequestShare);

    /// <summary>Uuid of the file system. Any thread.</summary>
    public Guid FileSystem => Pool.Primary.FileSystem;

    /// <summary>Number of the inode that the next record makes.</summary>
    public InodeNumber NextInode => Format.NextInode(Replay);

    /// <summary>Whether the log says that a mount of a host can touch memory no more. Any thread.</summary>
    public bool IsGone(Guid host, Guid mount, LogSequence replayed) => FindGone(host, mount, replayed) is not null;

    /// <inheritdoc cref="ReplayState.FindGone"/>
    public GoneRecord? FindGone(Guid host, Guid mount, LogSequence replayed) => Replay.FindGone(host, mount, replayed);

    /// <summary>Key of the name hash: random, so that nobody can choose names that collide.</summary>
    public static UInt128 RandomKey(Random random) => new((ulong)random.NextInt64(), (ulong)random.NextInt64());

    /// <summary>From now on whoever appends a record has allocated what it takes, and removed directories are taken apart in turns.</summary>
    public void GoLive()
    {
        // Last: it may overlap what any other record takes.
        foreach (MapExtent extent in Replay.ExcludedExtents)
            Allocator.ReserveRest(extent);
        _live = true;
        Replay.LeavesSubtrees = true;
    }

    /// <inheritdoc/>
    public void RecordBegins(ReadOnlySpan<byte> requestId) => RemovedNames.RecordBegins();

    /// <inheritdoc/>
    public void EntryChanged(InodeNumber parent, ReadOnlySpan<byte> name)
    {
    }

    /// <inheritdoc/>
    public void EntryRemoved(InodeNumber parent, InodeNumber inode, ReadOnlySpan<byte> name) => FileReplaced(parent, inode, name);

    /// <inheritdoc/>
    public void FileReplaced(InodeNumber parent, InodeNumber inode, ReadOnlySpan<byte> name)
    {
        // Nothing else stays when its name is gone.
        if (RemovedNames.IsFull)
            return;
        using TreeScope scope = (_reader ??= Replay.Tree.RegisterReader()).Enter();
        if (scope.TryGet(inode, out InodeAttributes found) && found.Kind == InodeKind.File)
            RemovedNames.Add(inode, parent, name, _live ? _clock.GetUtcNow().ToUnixTimeMilliseconds() * 1_000_000 : 0);
    }

    /// <inheritdoc/>
    public void InodeChanged(InodeNumber inode)
    {
    }

    /// <inheritdoc/>
    public void ModifyTimeSet(InodeNumber inode, LogSequence sequence) => SetTimes.Add(inode, sequence);

    /// <inheritdoc/>
    public void FileDeleted(InodeNumber inode)
    {
    }

    /// <inheritdoc/>
    public void ExtentsTaken(InodeNumber inode, ReadOnlySpan<MapExtent> extents)
    {
        if (_live)
            return;
        foreach (MapExtent extent in extents)
        {
            if (!Allocator.TryReserve(extent))
                throw new FamfsException(ErrorReason.MediaCorrupt, $"inode {inode}: extent {extent.OffsetBytes}+{extent.LengthBytes} of device {extent.Device} is in use by another inode");
        }
    }

    /// <inheritdoc/>
    public void ExtentsFreed(InodeNumber inode, ReadOnlySpan<MapExtent> extents)
    {
        RemovedNames.Forget(inode);
        foreach (MapExtent extent in extents)
            Allocator.Free(extent);
    }

    /// <inheritdoc/>
    public void DeviceAdded(DeviceAdded device)
    {
        DeviceIndex index = new((ushort)device.Index);
        Allocator.AddDevice(index, (long)device.LengthBytes);
        // Replay takes the superblock's unit as it takes every extent; a live master takes only what it has allocated itself.
        if (_live && !Allocator.TryReserve(new(index, 0, MediaLayout.UnitBytes)))
            throw new FamfsException(ErrorReason.MediaCorrupt, $"device {index}: its superblock is in use by another inode");
    }

    // A format without times keeps no request ids either: what is seen here is made now.
    /// <inheritdoc/>
    public void RequestSeen(in RequestTrace request)
    {
        RemovedNames.SetTime(request.TimeNs);
        Requests.Add(request.TimeNs != 0 ? request : request with { TimeNs = _clock.GetUtcNow().ToUnixTimeMilliseconds() * 1_000_000 }, RequestShare);
    }

    /// <inheritdoc/>
    public void RequestsDropped(long madeMs) => Requests.DroppedUpTo(madeMs);

    /// <inheritdoc/>
    public void SnapshotRestored(LogPosition position) => SetTimes.BeginAfter(position.Sequence);

    /// <inheritdoc/>
    public void Dispose()
    {
        _reader?.Dispose();
        Replay.Dispose();
        Pool.Dispose();
    }
}
