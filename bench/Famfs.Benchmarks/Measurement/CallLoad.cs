using System.Diagnostics;

namespace Famfs.Benchmarks.Measurement;

/// <summary>Calls something asynchronous from a fixed number of loops for a fixed time.</summary>
internal static class CallLoad
{
    /// <summary>Every loop waits for its call before it makes the next. The call is given the number of its loop, and
    /// a number that no other call of this load has.</summary>
    public static async Task<Sample> RunAsync(int inFlight, double seconds, Func<int, long, Task> call, CancellationToken cancellation)
    {
        long next = -1;
        long begin = Stopwatch.GetTimestamp();
        long end = begin + (long)(seconds * Stopwatch.Frequency);
        List<double>[] latencies = await Task.WhenAll(Enumerable.Range(0, inFlight).Select(loop => Task.Run(() => LoopAsync(loop), cancellation)));
        double elapsed = Stopwatch.GetElapsedTime(begin).TotalSeconds;
        double[] sorted = [.. latencies.SelectMany(l => l).Order()];
        return new(sorted.Length / elapsed, Statistics.Percentile(sorted, 0.5), Statistics.Percentile(sorted, 0.99), sorted[^1]);

        async Task<List<double>> LoopAsync(int loop)
        {
            List<double> mine = new(65536);
            long before = Stopwatch.GetTimestamp();
            while (before < end)
            {
                cancellation.ThrowIfCancellationRequested();
                await call(loop, Interlocked.Increment(ref next));
                long after = Stopwatch.GetTimestamp();
                mine.Add(Stopwatch.GetElapsedTime(before, after).TotalMicroseconds);
                before = after;
            }
            return mine;
        }
    }
}
