using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Master.Changes;
using Famfs.Master.State;
using Famfs.V1;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace Famfs.Master.Engine;

/// <summary>Has the log compacted when it is much longer than what it comes to, or in many segments. Owner of the fields: its own
/// loop.</summary>
/// <param name="engine">Tells how long the log is.</param>
/// <param name="compaction">Does it.</param>
/// <param name="index">Tells how long its snapshot is.</param>
/// <param name="clock">Between two looks.</param>
/// <param name="log">Told why it fails.</param>
/// <param name="leastBytes">A shorter log is left alone.</param>
internal sealed class CompactionWatch(MasterEngine engine, LogCompaction compaction, LogIndex index, TimeProvider clock, ILogger<CompactionWatch> log, long leastBytes = CompactionWatch.LeastBytes) : BackgroundService
{
    /// <summary>A shorter log is left alone (chosen: a mount reads it in half a second).</summary>
    public const long LeastBytes = 64L << 20;

    /// <summary>And one of less, whatever is free: nothing would be won (MEDIA-FORMAT: two units).</summary>
    public const long SmallestBytes = 2 * MediaLayout.UnitBytes;

    /// <summary>How many times as long as what it comes to (chosen: a log in which nothing is removed is not compacted, and writing it
    /// again costs a third of what was written since).</summary>
    public const long Ratio = 4;

    /// <summary>Segments in which it is compacted whatever its length (MEDIA-FORMAT: 256).</summary>
    public const int MostSegments = 256;

    /// <summary>Between two looks (chosen).</summary>
    internal static readonly TimeSpan Interval = TimeSpan.FromSeconds(5);

    /// <summary>Before another try: doubled with each that fails (chosen).</summary>
    internal static readonly TimeSpan FirstPause = TimeSpan.FromMinutes(1);
    internal static readonly TimeSpan LongestPause = TimeSpan.FromHours(1);

    private string _said = "";
    private TimeSpan _pause = FirstPause;

    /// <summary>Whether a log is to be compacted.</summary>
    /// <param name="bytes">Its length.</param>
    /// <param name="segments">The segments that it is in.</param>
    /// <param name="snapshotBytes">Length of the snapshot that it begins with; 0: of none.</param>
    /// <param name="live">Inodes and requests that a snapshot would have.</param>
    /// <param name="freeBytes">Space that is free: a log that is as long is compacted earlier.</param>
    /// <param name="leastBytes">A shorter log is left alone.</param>
    public static bool IsDue(long bytes, int segments, long snapshotBytes, long live, long freeBytes, long leastBytes = LeastBytes)
    {
        long least = Math.Min(leastBytes, Math.Max(freeBytes, SmallestBytes));
        long rest = Math.Max(snapshotBytes, live * LogCompaction.InodeBytes);
        // Where the snapshot alone takes many, more of them are no reason.
        return (bytes >= least && bytes >= Ratio * rest) || segments >= MostSegments + (Ratio * rest / LogCompaction.LargestSpaceBytes);
    }

    /// <summary>One look, and a compaction if it is due. Gives when to look again.</summary>
    internal async Task<TimeSpan> RunTurnAsync()
    {
        try
        {
            (long bytes, int segments, long live, long free) = await engine.QueryAsync(Caller.Master, reader => (engine.LogBytes, engine.SegmentCount, reader.State.Replay.Tree.InodeCount + reader.State.Requests.Count, reader.State.Allocator.FreeBytes)).ConfigureAwait(false);
            if (IsDue(bytes, segments, index.FirstOffset, live, free, leastBytes))
                _ = await compaction.RunAsync().ConfigureAwait(false);
            _said = "";
            _pause = FirstPause;
            return Interval;
        }
        catch (Exception error) when (error is not (OperationCanceledException or FamfsException { Reason: ErrorReason.NotMaster }))
        {
            if (error.Message != _said)
                MasterLog.CompactionFails(log, _said = error.Message);
            TimeSpan pause = _pause;
            _pause = pause * 2 < LongestPause ? pause * 2 : LongestPause;
            return pause;
        }
    }

    /// <inheritdoc/>
    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        if (!compaction.IsPossible)
            return;
        try
        {
            TimeSpan pause = Interval;
            while (true)
            {
                await Task.Delay(pause, clock, stoppingToken).ConfigureAwait(false);
                pause = await RunTurnAsync().WaitAsync(stoppingToken).ConfigureAwait(false);
            }
        }
        catch (OperationCanceledException) when (stoppingToken.IsCancellationRequested)
        {
        }
        catch (FamfsException error) when (error.Reason == ErrorReason.NotMaster)
        {
            // The engine tells why.
        }
    }
}
