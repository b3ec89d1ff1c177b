using Microsoft.Extensions.Hosting;

namespace Famfs.Master;

/// <summary>
/// Gives memory back to the system when little is asked for. The runtime collects when something is allocated; a master
/// that was busy and now is not would keep what it had. The collection stops the process for some milliseconds, so it waits until
/// nobody minds.
/// </summary>
internal sealed class IdleMemory(TimeProvider clock) : BackgroundService
{
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(1);

    /// <summary>Allocated since the last time: below this nothing is worth it (chosen).</summary>
    private const long WorthBytes = 16L << 20;

    /// <summary>Allocated in an interval: above this the process is busy (chosen: more than watching and a few callers take).</summary>
    private const long BusyBytes = 4L << 20;

    /// <summary>When it collects, after the last busy interval: soon, and when the server has given up its own buffers, which it
    /// does by and by (chosen).</summary>
    private static readonly TimeSpan[] s_after = [TimeSpan.FromSeconds(2), TimeSpan.FromSeconds(15), TimeSpan.FromSeconds(45)];

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using PeriodicTimer timer = new(Interval, clock);
        long begun = GC.GetTotalAllocatedBytes();
        long before = begun;
        long busyTimestamp = clock.GetTimestamp();
        int done = s_after.Length;
        while (await timer.WaitForNextTickAsync(stoppingToken).ConfigureAwait(false))
        {
            long now = GC.GetTotalAllocatedBytes();
            bool busy = now - before > BusyBytes;
            before = now;
            // What comes little by little counts, too.
            if (now - begun > WorthBytes)
            {
                (begun, busyTimestamp, done) = (now, clock.GetTimestamp(), 0);
                continue;
            }
            if (busy)
            {
                busyTimestamp = clock.GetTimestamp();
                continue;
            }
            if (done == s_after.Length || clock.GetElapsedTime(busyTimestamp) < s_after[done])
                continue;
            // Aggressive: what is free goes back to the system.
            GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive, blocking: true, compacting: true);
            done++;
        }
    }
}
