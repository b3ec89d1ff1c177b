using Famfs.Core;
using Famfs.Core.Allocation;
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

/// <summary>From devices to an active master: claim, replay, activate. How each is done is the format's.</summary>
internal static class Recovery
{
    /// <summary>What came out. The claim is held for as long as the master may write.</summary>
    public sealed record Result(RecoveredState State, ILogWriter Writer, LogIndex Index, MasterClaim Claim);

    /// <summary>Becomes master, or throws why not; nothing has been written in that case unless a claim was
    /// made and lost to a higher one.</summary>
    public static async Task<Result> RunAsync(DevicePool pool, HostIdentity host, bool takeOver, string systemUuidFile, TimeProvider clock, Random random, CancellationToken cancel)
    {
        MasterClaim claim = await pool.Format.ClaimAsync(pool, new()
        {
            Host = host,
            TakeOver = takeOver,
            SystemUuidFile = systemUuidFile,
            Clock = clock,
            Survey = reader => Survey(pool, reader, random),
        }, cancel).ConfigureAwait(false);
        try
        {
            RecoveredState state = new(pool, clock, random);
            LogIndex index = new();
            Replay(claim.Reader, state.State, index);
            state.GoLive();
            List<(int Slot, SegmentSpace Space)> segments = [];
            foreach (OwnedSegment segment in state.State.Segments)
                segments.Add((segment.Slot, new(segment.Extent.Device, segment.Extent.OffsetBytes, segment.Extent.LengthBytes)));
            return new(state, claim.Activate(state.State.MasterSlots, segments), index, claim);
        }
        catch
        {
            claim.Dispose();
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

    /// <summary>Reads the log as any reader may.</summary>
    private static LogSurvey Survey(DevicePool pool, ILogReader reader, Random random)
    {
        using ReplayState state = new(new(pool.Primary.FileSystem, pool.Primary.Generation, default, default), RecoveredState.RandomKey(random));
        PollVerdict verdict;
        while ((verdict = reader.Poll(out LogBlock block)) == PollVerdict.Records)
            state.ApplyFrames(block.Frames.Span);
        return new(verdict == PollVerdict.UpToDate, state.MasterSlots, state.LastTermStarted, state.TermHasEnded);
    }
}
