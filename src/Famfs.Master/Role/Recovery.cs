using System.Collections.Immutable;
using Famfs.Core;
using Famfs.Core.Check;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Namespace;
using Famfs.Master.State;
using Famfs.V1;

namespace Famfs.Master.Role;

/// <summary>From devices to an active master: claim, replay, activate. How each is done is the format's.</summary>
internal static class Recovery
{
    /// <summary>A mount that has replayed what the log does not have.</summary>
    public readonly record struct LostRecords(Guid Host, Guid Mount, string Cause);

    /// <summary>What came out. The claim is held for as long as the master may write.</summary>
    public sealed record Result(MasterState State, ILogWriter Writer, LogIndex Index, MasterClaim Claim)
    {
        /// <summary>Mounts whose lost records are given up: to be recorded before anybody is served.</summary>
        public IReadOnlyList<LostRecords> Accepted { get; init; } = [];
    }

    /// <summary>Becomes master, or throws why not; nothing has been written in that case unless a claim was
    /// made and lost to a higher one. <paramref name="acceptLoss"/>: mounts whose lines may contradict the log.</summary>
    public static async Task<Result> RunAsync(DevicePool pool, HostIdentity host, bool takeOver, string systemUuidFile, TimeProvider clock, Random random, CancellationToken cancel, IReadOnlySet<Guid>? acceptLoss = null)
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
            List<LostRecords> accepted = CompareWithLines(pool, claim, state.Replay, acceptLoss ?? ImmutableHashSet<Guid>.Empty);
            state.GoLive();
            List<(int Slot, SegmentSpace Space)> segments = [];
            foreach (OwnedSegment segment in state.Replay.Segments)
                segments.Add((segment.Slot, new(segment.Extent.Device, segment.Extent.OffsetBytes, segment.Extent.LengthBytes)));
            return new(state, claim.Activate(state.Replay.MasterSlots, segments), index, claim) { Accepted = accepted };
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
            // Within a snapshot nobody can go on.
            if (!state.IsInSnapshot)
                index.Add(reader.Position, reader.Offset);
            switch (reader.PollSettled(out LogBlock block))
            {
                case PollVerdict.Records:
                    state.ApplyFrames(block.Generation, block.Frames.Span);
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

    /// <summary>Compares the end of the log with what mounts have replayed (SAFETY S26). Gives the mounts whose loss is accepted;
    /// throws MEDIA_CORRUPT for any other that contradicts the log, NOT_MASTER when a newer master explains it.</summary>
    private static List<LostRecords> CompareWithLines(DevicePool pool, MasterClaim claim, ReplayState state, IReadOnlySet<Guid> acceptLoss)
    {
        List<LostRecords> accepted = [];
        foreach (MountLine line in claim.HostLines)
        {
            if (!HostHistory.Contradicts(line, state))
                continue;
            // A claimant's reader throws when a claim is above its own: then the line is of that term, and nothing is lost.
            _ = claim.Reader.Poll(out _);
            string cause = HostHistory.Explain(line, state);
            if (!acceptLoss.Contains(line.Mount))
            {
                throw new FamfsException(ErrorReason.MediaCorrupt,
                    $"{pool.PrimaryDevice.Path}: {cause}; run `famfs check`; `--accept-loss {line.Mount}` goes on without them, for good")
                { Path = pool.PrimaryDevice.Path };
            }
            accepted.Add(new(line.Host, line.Mount, cause));
        }
        return accepted;
    }

    /// <summary>Reads the log as any reader may.</summary>
    private static LogSurvey Survey(DevicePool pool, ILogReader reader, Random random)
    {
        using ReplayState state = new(new(pool.Primary.FileSystem, pool.Primary.Generation, default, default), MasterState.RandomKey(random));
        PollVerdict verdict;
        // A tail that is lost hides the rest from everybody but a claimant, which is what this one wants to be.
        while ((verdict = reader.PollSettled(out LogBlock block)) == PollVerdict.Records)
            state.ApplyFrames(block.Generation, block.Frames.Span);
        return new(verdict == PollVerdict.UpToDate, state.MasterSlots, state.LastTermStarted, state.TermHasEnded);
    }
}
