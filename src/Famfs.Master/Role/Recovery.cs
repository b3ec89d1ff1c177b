using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Log;
using Famfs.Core.Namespace;
using Famfs.Master.State;
using Famfs.V1;

namespace Famfs.Master.Role;

/// <summary>From devices to an active term: find the slot of this host, take its lock, refuse beside a living
/// master, claim, replay, activate.</summary>
internal static class Recovery
{
    /// <summary>What came out.</summary>
    public sealed record Result(MasterState State, ILogWriter Writer, LogIndex Index, Guid Master, int Slot, IDisposable SlotLock);

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
            MasterState state = new(pool, clock, random);
            LogIndex index = new();
            Replay(mastership.Reader, state.Replay, index);
            state.GoLive();
            if (!state.Replay.MasterSlots.TryGetValue(slot, out Guid owner) || owner != host.Host)
                throw new FamfsException(ErrorReason.NotMaster, $"master slot {slot} is not this host's in the log");
            List<SegmentSpace> own = [];
            foreach (OwnedSegment segment in state.Replay.Segments)
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
        using ReplayState state = new(new(pool.Primary.FileSystem, pool.Primary.Generation, default, default), MasterState.RandomKey(random));
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
