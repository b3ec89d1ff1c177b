using System.Diagnostics;
using Famfs.Benchmarks.Measurement;
using Famfs.Benchmarks.Report;
using Famfs.Benchmarks.Systems;
using Famfs.Core.Dax;
using Famfs.Core.Log.Native;
using Famfs.V1;

namespace Famfs.Benchmarks.Rows;

/// <summary>P12: what bulk streams cost a lone caller, and the master's heartbeat. The streams come from a process of their own
/// (<see cref="BulkChild"/>); the lone caller pauses between its calls, as one who is not a load does.</summary>
internal sealed class FairnessRows(BenchmarkRun run, Scratch scratch)
{
    private const int Streams = 16;

    // Of sparse memory. A round makes some hundred thousand files.
    private const long DeviceBytes = 64L << 40;
    private const int Rounds = 3;

    // A p99 of fewer calls is the longest call.
    private const double LeastSeconds = 3;
    private static readonly TimeSpan s_pause = TimeSpan.FromMilliseconds(10);
    private static readonly TimeSpan s_look = TimeSpan.FromMilliseconds(1);

    private FamfsCluster _cluster = null!;
    private int _next;

    public async Task MeasureAsync()
    {
        await using Side<FamfsCluster> ours = await run.StartClusterAsync(scratch, DeviceBytes);
        if (ours.System is not null)
            _cluster = ours.System;
        List<Sample> alone = [], beside = [];
        List<double> gaps = [], gapsAlone = [];
        RowDefinition lone = new("P12", $"lone create beside {Streams} bulk streams, p99", "µs", "alone", [Goal.OursAtMost(50_000)], [Goal.OursAtMost(50_000)]);
        await run.AddAsync(lone, [ours], async () =>
        {
            if (ours.System is null)
                return new Row(lone);
            await MeasureOnceAsync();
            for (int round = 0; round < Rounds; round++)
            {
                (Sample sample, double gap) = await MeasureOnceAsync();
                alone.Add(sample);
                gapsAlone.Add(gap);
                await using ChildProcess load = ChildProcess.Start(scratch, Environment.ProcessPath!, [BulkChild.Verb, _cluster.Address, $"{Streams}", $"load-{round}"]);
                ulong before = await CountAsync();
                await load.WaitUntilAsync(async () => await CountAsync() > before + (Streams * 4096), "the streams were at work", run.Cancellation);
                (sample, gap) = await MeasureOnceAsync();
                beside.Add(sample);
                gaps.Add(gap);
            }
            return new Row(lone)
            {
                Baseline = Statistics.Median(alone.Select(s => s.P99Us)),
                Ours = Statistics.Median(beside.Select(s => s.P99Us)),
                Ratio = Statistics.Median(alone.Zip(beside, (a, b) => b.P99Us / a.P99Us)),
                BaselineP99Us = Statistics.Median(alone.Select(s => s.P99Us)),
                OursP99Us = Statistics.Median(beside.Select(s => s.P99Us)),
                BaselineSamples = alone,
                OursSamples = beside,
            };
        });
        RowDefinition half = new("P12", $"the same, p50", "µs", "alone", [], []);
        await run.AddAsync(half, [ours], () => Task.FromResult(new Row(half)
        {
            Baseline = Statistics.Median(alone.Select(s => s.P50Us)),
            Ours = Statistics.Median(beside.Select(s => s.P50Us)),
            Ratio = Statistics.Median(alone.Zip(beside, (a, b) => b.P50Us / a.P50Us)),
        }));
        RowDefinition beat = new("P12", "longest gap of the heartbeat meanwhile", "ms", "alone", [Goal.OursAtMost(300)], [Goal.OursAtMost(300)]);
        await run.AddAsync(beat, [ours], () => Task.FromResult(new Row(beat)
        {
            Baseline = gapsAlone.DefaultIfEmpty(double.NaN).Max(),
            Ours = gaps.DefaultIfEmpty(double.NaN).Max(),
            Ratio = gaps.DefaultIfEmpty(double.NaN).Max() / gapsAlone.DefaultIfEmpty(double.NaN).Max(),
        }));
    }

    private async Task<ulong> CountAsync() => (await _cluster.Client.GetStatusAsync(new GetStatusRequest(), cancellationToken: run.Cancellation)).FileCount;

    private async Task<(Sample Lone, double GapMs)> MeasureOnceAsync()
    {
        double seconds = Math.Max(run.Options.RoundSeconds, LeastSeconds);
        double gap = 0;
        Thread watch = new(() => gap = WatchHeartbeat(seconds)) { IsBackground = true };
        watch.Start();
        List<double> times = [];
        long begin = Stopwatch.GetTimestamp();
        while (Stopwatch.GetElapsedTime(begin).TotalSeconds < seconds)
        {
            long before = Stopwatch.GetTimestamp();
            await _cluster.Client.CreateFileAsync(FamfsCluster.Create($"lone-{_next++}", 4096), cancellationToken: run.Cancellation);
            times.Add(Stopwatch.GetElapsedTime(before).TotalMicroseconds);
            await Task.Delay(s_pause, run.Cancellation);
        }
        watch.Join();
        double[] sorted = [.. times.Order()];
        return (new(sorted.Length / seconds, Statistics.Percentile(sorted, 0.5), Statistics.Percentile(sorted, 0.99), sorted[^1]), gap);
    }

    private double WatchHeartbeat(double seconds)
    {
        using DaxDevice device = DaxDevice.Open(_cluster.Device);
        AnchorArea anchors = new(device, Guid.Empty);
        ulong seen = anchors.ReadHeartbeat(0);
        long begin = Stopwatch.GetTimestamp(), moved = begin;
        double longest = 0;
        while (Stopwatch.GetElapsedTime(begin).TotalSeconds < seconds)
        {
            Thread.Sleep(s_look);
            ulong value = anchors.ReadHeartbeat(0);
            longest = Math.Max(longest, Stopwatch.GetElapsedTime(moved).TotalMilliseconds);
            if (value != seen)
                (seen, moved) = (value, Stopwatch.GetTimestamp());
        }
        return longest;
    }
}
