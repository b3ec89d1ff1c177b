using Famfs.Core;
using Famfs.Core.Allocation;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Namespace;
using Famfs.V1;

namespace Famfs.Master;

/// <summary>What a master works on: the state replayed from the log, the free space and the request ids that
/// follow from it. Owned by the engine's thread once recovery is done.</summary>
internal sealed class RecoveredState : IReplayObserver, IDisposable
{
    private readonly TimeProvider _clock;
    private bool _live;

    public RecoveredState(DevicePool pool, TimeProvider clock, Random random)
    {
        _clock = clock;
        Pool = pool;
        Allocator = new ExtentAllocator(pool.UnitBytes);
        Requests = new(clock);
        State = new(new(pool.Primary.FileSystem, pool.Primary.Generation, default, default), RandomKey(random), this);
    }

    public DevicePool Pool { get; }

    public ReplayState State { get; }

    public ExtentAllocator Allocator { get; }

    public RequestWindow Requests { get; }

    /// <summary>Key of the name hash: random, so that nobody can choose names that collide.</summary>
    public static UInt128 RandomKey(Random random) => new((ulong)random.NextInt64(), (ulong)random.NextInt64());

    /// <summary>From now on the engine allocates what its records take.</summary>
    public void GoLive()
    {
        // Last: it may overlap what any other record takes.
        foreach (MapExtent extent in State.WithheldExtents)
            Allocator.ReserveRest(extent);
        _live = true;
    }

    public void EntryChanged(InodeNumber parent, ReadOnlySpan<byte> name)
    {
    }

    public void InodeChanged(InodeNumber inode)
    {
    }

    public void FileDeleted(InodeNumber inode)
    {
    }

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

    public void ExtentsFreed(InodeNumber inode, ReadOnlySpan<MapExtent> extents)
    {
        foreach (MapExtent extent in extents)
            Allocator.Free(extent);
    }

    public void DeviceAdded(DeviceAdded device)
    {
        DeviceIndex index = new((ushort)device.Index);
        Allocator.AddDevice(index, (long)device.LengthBytes);
        // Replay takes the superblock's unit as it takes every extent; a live engine takes only what it has allocated itself.
        if (_live && !Allocator.TryReserve(new(index, 0, MediaLayout.UnitBytes)))
            throw new FamfsException(ErrorReason.MediaCorrupt, $"device {index}: its superblock is in use by another inode");
    }

    // A format without times keeps no request ids either: what is seen here is made now.
    public void RequestSeen(in RequestTrace request) =>
        Requests.Add(request.TimeNs != 0 ? request : request with { TimeNs = _clock.GetUtcNow().ToUnixTimeMilliseconds() * 1_000_000 });

    public void Dispose()
    {
        State.Dispose();
        Pool.Dispose();
    }
}

/// <summary>From devices to an active term: find the slot of this host, take its lock, refuse beside a living
/// master, claim, replay, activate.</summary>
internal static class Recovery
{
    /// <summary>What came out.</summary>
    public sealed record Result(RecoveredState State, ILogWriter Writer, LogIndex Index, Guid Master, int Slot, IDisposable SlotLock);

    /// <summary>How long heartbeats are watched before a start (chosen: ten times their interval).</summary>
    private static readonly TimeSpan DetectionWindow = TimeSpan.FromSeconds(1);

    /// <summary>Becomes master, or throws why not; nothing has been written in that case unless a claim was
    /// made and lost to a higher one.</summary>
    public static async Task<Result> RunAsync(DevicePool pool, HostIdentity host, bool takeOver, TimeProvider clock, Random random, CancellationToken cancel)
    {
        if (pool.Primary.ReadOnly)
            throw new FamfsException(ErrorReason.ReadOnly, $"{pool.PrimaryDevice.Path}: has features that this version can only read");
        (int slot, TermStarted? last, bool ended) = FindSlot(pool, host, random);
        if (!pool.PrimaryDevice.TryLockByte(slot, out IDisposable? slotLock))
            throw new FamfsException(ErrorReason.NotMaster, $"{pool.PrimaryDevice.Path}: a master of this host is running (slot {slot} is locked)");
        try
        {
            if (!takeOver && !ended)
            {
                int? living = await Mastership.DetectLiveMasterAsync(pool, slot, DetectionWindow, clock, cancel).ConfigureAwait(false);
                if (living is not null)
                {
                    throw new FamfsException(ErrorReason.NotMaster,
                        $"{pool.PrimaryDevice.Path}: the master of slot {living} is running{(last is { Address.Length: > 0 } ? $" at {last.Address}" : "")}; --take-over replaces it")
                    { MasterAddress = last?.Address ?? "" };
                }
            }
            Guid master = Guid.NewGuid();
            Mastership mastership = Mastership.Claim(pool, slot, host.Host, master);
            RecoveredState state = new(pool, clock, random);
            LogIndex index = new();
            Replay(mastership.Reader, state.State, index);
            state.GoLive();
            if (!state.State.MasterSlots.TryGetValue(slot, out Guid owner) || owner != host.Host)
                throw new FamfsException(ErrorReason.NotMaster, $"master slot {slot} is not this host's in the log");
            List<SegmentSpace> own = [];
            foreach (OwnedSegment segment in state.State.Segments)
            {
                if (segment.Slot == slot)
                    own.Add(new(segment.Extent.Device, segment.Extent.OffsetBytes, segment.Extent.LengthBytes));
            }
            LogWriter writer = mastership.Activate(own);
            return new(state, writer, index, master, slot, slotLock);
        }
        catch
        {
            slotLock.Dispose();
            throw;
        }
    }

    /// <summary>Applies the whole log.</summary>
    public static void Replay(ILogReader reader, ReplayState state, LogIndex index)
    {
        while (true)
        {
            index.Add(reader.Position, reader.Offset);
            switch (reader.Poll(out LogBlock block))
            {
                case PollVerdict.Records:
                    state.ApplyFrames(block.Frames.Span);
                    break;
                case PollVerdict.UpToDate:
                    return;
                case PollVerdict.Unsettled:
                    throw new FamfsException(ErrorReason.NotMaster, "another master is taking over at this moment");
                default:
                    throw new FamfsException(ErrorReason.StaleGeneration, "the log was rewritten while it was read");
            }
        }
    }

    /// <summary>Reads the log as any reader may, for the slot that it gives to this host.</summary>
    private static (int Slot, TermStarted? Last, bool Ended) FindSlot(DevicePool pool, HostIdentity host, Random random)
    {
        AnchorArea anchors = new(pool.PrimaryDevice, pool.Primary.FileSystem);
        using ReplayState state = new(new(pool.Primary.FileSystem, pool.Primary.Generation, default, default), RecoveredState.RandomKey(random));
        LogReader reader = new(pool);
        PollVerdict verdict;
        while ((verdict = reader.Poll(out LogBlock block)) == PollVerdict.Records)
            state.ApplyFrames(block.Frames.Span);
        foreach ((int slot, Guid owner) in state.MasterSlots)
        {
            if (owner == host.Host)
                return (slot, state.LastTermStarted, state.TermHasEnded && verdict == PollVerdict.UpToDate && reader.Anchor!.Term == reader.Position.Term);
        }
        // A claim that never became active hides the rest of the log; what is this host's beyond doubt is the
        // slot in which it has claimed before, and slot 0 for the host that ran mkfs.
        for (int slot = 0; slot < Term.SlotCount; slot++)
        {
            if (anchors.ReadSlot(slot).Claim is { } claim && claim.Host == host.Host)
                return (slot, state.LastTermStarted, false);
        }
        if (pool.Primary.MkfsHost == host.Host)
            return (0, state.LastTermStarted, false);
        throw new FamfsException(ErrorReason.NotMaster,
            $"host {host.Host} has no master slot in this file system; while a master runs, `famfs master-slot` on this host asks for one")
        { MasterAddress = state.LastTermStarted?.Address ?? "" };
    }
}
