using Famfs.Core;
using Famfs.Core.Log;
using Famfs.Core.Namespace;
using Famfs.Master.State;
using Famfs.V1;

namespace Famfs.Master.Role;

/// <summary>From devices to an active master: claim, replay, activate. How each is done is the format's.</summary>
internal static class Recovery
{
    /// <summary>What came out. The claim is held for as long as the master may write.</summary>
    public sealed record Result(MasterState State, ILogWriter Writer, LogIndex Index, MasterClaim Claim);

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
            MasterState state = new(pool, clock, random);
            LogIndex index = new();
            Replay(claim.Reader, state.Replay, index);
            state.GoLive();
            List<(int Slot, SegmentSpace Space)> segments = [];
            foreach (OwnedSegment segment in state.Replay.Segments)
                segments.Add((segment.Slot, new(segment.Extent.Device, segment.Extent.OffsetBytes, segment.Extent.LengthBytes)));
            return new(state, claim.Activate(state.Replay.MasterSlots, segments), index, claim);
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
            switch (reader.PollSettled(out LogBlock block))
            {
                case PollVerdict.Records:
                    state.ApplyFrames(block.Frames.Span);
                    break;
                case PollVerdict.UpToDate:
                    return;
                case PollVerdict.TailLost:
                    throw new FamfsException(ErrorReason.MediaCorrupt, reader.TailDamage);
                case PollVerdict.TakeoverPending:
                    throw new FamfsException(ErrorReason.NotMaster, "another master is taking over at this moment");
                default:
                    throw new FamfsException(ErrorReason.StaleGeneration, "the log was rewritten while it was read");
            }
        }
    }

    /// <summary>Reads the log as any reader may.</summary>
    private static LogSurvey Survey(DevicePool pool, ILogReader reader, Random random)
    {
        using ReplayState state = new(new(pool.Primary.FileSystem, pool.Primary.Generation, default, default), MasterState.RandomKey(random));
        PollVerdict verdict;
        // A tail that is lost hides the rest from everybody but a claimant, which is what this one wants to be.
        while ((verdict = reader.PollSettled(out LogBlock block)) == PollVerdict.Records)
            state.ApplyFrames(block.Frames.Span);
        return new(verdict == PollVerdict.UpToDate, state.MasterSlots, state.LastTermStarted, state.TermHasEnded);
    }
}
