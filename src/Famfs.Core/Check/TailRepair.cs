using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Namespace;
using Famfs.V1;

namespace Famfs.Core.Check;

/// <summary>
/// Makes the end of a log good that nobody publishes: by a take-over, as a master makes it (SAFETY S2, S26). It claims in this
/// host's own slot, adopts whole records behind the tail, becomes active and ends its term. So it stores to no line of another
/// slot, whose host may start a master at any moment. Where the tail is too high, the log ends with the last whole record, if
/// nothing whole follows.
/// </summary>
public static class TailRepair
{
    /// <summary>What the term says that made it.</summary>
    private const string Version = "famfs check";

    /// <summary>Takes over and ends; gives the last record. Errors: NOT_MASTER: a master lives, or this host has no slot;
    /// MEDIA_CORRUPT: the log cannot be read to its end, or a mount has records that are lost.</summary>
    public static async Task<LogPosition> RunAsync(DevicePool pool, HostIdentity host, TimeProvider clock, CancellationToken cancel)
    {
        using MasterClaim claim = await pool.Format.ClaimAsync(pool, new()
        {
            Host = host,
            SystemUuidFile = "",
            EndsAtDamage = true,
            Clock = clock,
            Survey = reader => Survey(pool, reader),
        }, cancel).ConfigureAwait(false);
        using ReplayState state = NewState(pool);
        if (Replay(claim.Reader, state) is var verdict and not PollVerdict.UpToDate)
            throw new FamfsException(ErrorReason.NotMaster, $"{pool.PrimaryDevice.Path}: the log cannot be read to its end: {verdict}") { Path = pool.PrimaryDevice.Path };
        if (claim.HostLines.FirstOrDefault(l => HostHistory.Contradicts(l, state)) is { } lost)
            throw new FamfsException(ErrorReason.MediaCorrupt, $"{pool.PrimaryDevice.Path}: {HostHistory.Explain(lost, state)}") { Path = pool.PrimaryDevice.Path };

        ILogWriter writer = claim.Activate(state.MasterSlots, [.. state.Segments.Select(s => (s.Slot, new SegmentSpace(s.Extent.Device, s.Extent.OffsetBytes, s.Extent.LengthBytes)))]);
        long now = (clock.GetUtcNow() - DateTimeOffset.UnixEpoch).Ticks * TimeSpan.NanosecondsPerTick;
        RecordBatch batch = new();
        batch.Start(writer.Position.Sequence, writer.Term, writer.Seed);
        batch.Add(RecordType.TermStarted, new TermStarted
        {
            TimeNs = now,
            Slot = (uint)claim.Slot,
            HostId = host.Host.ToByteString(),
            BootId = host.Boot.ToByteString(),
            MasterId = claim.Master.ToByteString(),
            Version = Version,
            AdoptedFrom = claim.AdoptedFrom?.Value ?? 0,
        });
        batch.Add(RecordType.TermEnded, new TermEnded { TimeNs = now });
        writer.Publish(batch);
        return writer.Position;
    }

    private static ReplayState NewState(DevicePool pool) => new(new(pool.Primary.FileSystem, pool.Primary.Generation, default, default), default);

    private static LogSurvey Survey(DevicePool pool, ILogReader reader)
    {
        using ReplayState state = NewState(pool);
        bool reachedEnd = false;
        try
        {
            reachedEnd = Replay(reader, state) == PollVerdict.UpToDate;
        }
        catch (FamfsException error) when (error.Reason == ErrorReason.MediaCorrupt)
        {
            // What comes before the damage names the slots; the claimant judges the damage itself.
        }
        return new(reachedEnd, state.MasterSlots, state.LastTermStarted, state.TermHasEnded);
    }

    private static PollVerdict Replay(ILogReader reader, ReplayState state)
    {
        PollVerdict verdict;
        while ((verdict = reader.PollSettled(out LogBlock block)) == PollVerdict.Records)
            state.ApplyFrames(block.Generation, block.Frames.Span);
        return verdict;
    }
}
