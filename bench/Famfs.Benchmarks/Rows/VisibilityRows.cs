using System.Diagnostics;
using Famfs.Benchmarks.Measurement;
using Famfs.Benchmarks.Report;
using Famfs.Benchmarks.Systems;

namespace Famfs.Benchmarks.Rows;

/// <summary>P7: how long until somebody else sees a creation.</summary>
internal sealed class VisibilityRows(BenchmarkRun run, Scratch scratch)
{
    private const int SamplesPerRound = 100;

    public async Task MeasureAsync()
    {
        IVisibilityUnderTest candidate = run.Options.SelfCheck ? new EtcdVisibility(scratch) : new FamfsVisibility(scratch, run.Installation);
        await using Side<IVisibilityUnderTest> etcd = await BenchmarkRun.StartAsync<IVisibilityUnderTest>(new EtcdVisibility(scratch), s => s.StartAsync(run.Cancellation));
        await using Side<IVisibilityUnderTest> ours = await BenchmarkRun.StartAsync(candidate, s => s.StartAsync(run.Cancellation));

        long number = 0;
        await AddAsync(new("P7", "create acknowledged → stat elsewhere, p50", "µs", "etcd put → event",
            [Goal.RatioAtMost(2)], [Goal.RatioAtMost(1), Goal.P99RatioAtMost(1)]), v => v.VisibleUs - v.AcknowledgedUs);
        // Both sides from the call: the event of etcd may come before its acknowledgement.
        await AddAsync(new("P7", "create called → stat elsewhere, p50", "µs", "etcd put → event", [], []), v => v.VisibleUs);

        Task AddAsync(RowDefinition definition, Func<Visibility, double> ofOurs) => run.AddAsync(definition, [etcd, ours], async () =>
            Row.Of(definition, await run.PairAsync(
                etcd.System is { } b ? _ => RoundAsync(b, v => v.VisibleUs) : null,
                ours.System is { } o ? _ => RoundAsync(o, run.Options.SelfCheck ? v => v.VisibleUs : ofOurs) : null), s => s.P50Us));

        async Task<Sample> RoundAsync(IVisibilityUnderTest system, Func<Visibility, double> value)
        {
            double[] latencies = new double[SamplesPerRound];
            long begin = Stopwatch.GetTimestamp();
            for (int i = 0; i < SamplesPerRound; i++)
                latencies[i] = value(await system.MeasureAsync(number++, run.Cancellation));
            double perSecond = SamplesPerRound / Stopwatch.GetElapsedTime(begin).TotalSeconds;
            Array.Sort(latencies);
            return new(perSecond, Statistics.Percentile(latencies, 0.5), Statistics.Percentile(latencies, 0.99), latencies[^1]);
        }
    }
}
