using System.Diagnostics;
using System.Globalization;
using Famfs.Benchmarks.Measurement;
using Famfs.Benchmarks.Report;
using Famfs.Benchmarks.Systems;
using Famfs.V1;

namespace Famfs.Benchmarks.Rows;

/// <summary>P9: what hosts cost the master, and what a slow one costs the others. The hosts are connections of this
/// process (<see cref="SimulatedHost"/>).</summary>
internal sealed class SubscriberRows(BenchmarkRun run, Scratch scratch)
{
    private const int FewHosts = 10;

    // Enough of them that what the runtime does meanwhile is little of it.
    private const int RecordsTimesHosts = 5000;
    private const int FewestRecords = 100;
    private const int MostRecords = 2000;

    // A managed master compiles what is called often once more, in the background.
    private const int WarmUps = 4;
    private const int SlowRounds = 3;
    private const int FloodFiles = 50_000;

    private FamfsCluster _cluster = null!;
    private long _next;

    public async Task MeasureAsync()
    {
        await using Side<FamfsCluster> ours = await run.StartClusterAsync(scratch, 1L << 40, "--max-hosts", "4096");
        if (ours.System is not null)
            _cluster = ours.System;
        int[] counts = run.Options.Quick ? [1, 100] : [1, 100, 1000];
        Dictionary<int, double[]> costs = [];
        foreach (int count in (int[])[FewHosts, .. counts])
        {
            RowDefinition definition = new("P9", string.Create(CultureInfo.InvariantCulture, $"master's CPU per record and host, {count} host(s)"), "µs", $"{FewHosts} hosts",
                [], count > FewHosts ? [Goal.RatioAtMost(1.2)] : []);
            await run.AddAsync(definition, [ours], async () =>
            {
                if (ours.System is null)
                    return new Row(definition);
                costs[count] = await MeasureCostAsync(count);
                double few = Statistics.Median(costs[FewHosts]);
                return new Row(definition)
                {
                    Baseline = few,
                    Ours = Statistics.Median(costs[count]),
                    Ratio = Statistics.Median(costs[count]) / few,
                    OursSamples = [.. costs[count].Select(c => new Sample(c))],
                };
            });
        }

        RowDefinition slow = new("P9", "create called → record at a host, p50, one of 11 hosts never reads", "µs", "all read", [Goal.RatioAtMost(1.1)], [Goal.RatioAtMost(1.1)]);
        await run.AddAsync(slow, [ours], async () => ours.System is null ? new Row(slow) : await MeasureSlowAsync(slow));
    }

    /// <summary>One creation is one record in one batch, so one message to each host and one acknowledgement back. What a
    /// record costs without hosts is taken off.</summary>
    private async Task<double[]> MeasureCostAsync(int count)
    {
        int records = Math.Clamp(RecordsTimesHosts / count, FewestRecords, MostRecords);
        List<SimulatedHost> first = await ConnectAsync(count);
        try
        {
            for (int i = 0; i < WarmUps; i++)
                await CreateAsync(records, first);
        }
        finally
        {
            await DisconnectAsync(first);
        }
        await CreateAsync(records, []);
        List<double> costs = [];
        for (int round = 0; round < run.Options.Rounds; round++)
        {
            double alone = await CreateAsync(records, []);
            List<SimulatedHost> hosts = await ConnectAsync(count);
            try
            {
                await CreateAsync(FewestRecords, hosts);
                costs.Add((await CreateAsync(records, hosts) - alone) / count);
            }
            finally
            {
                await DisconnectAsync(hosts);
            }
        }
        return [.. costs];
    }

    // Processor time of the master per record, µs.
    private async Task<double> CreateAsync(int records, List<SimulatedHost> hosts)
    {
        double before = _cluster.MasterCpuMicroseconds;
        for (int i = 0; i < records; i++)
            await _cluster.Client.CreateFileAsync(FamfsCluster.Create(NextName(), 4096), cancellationToken: run.Cancellation);
        BarrierRequest everybody = new();
        everybody.MountIds.AddRange(hosts.Select(h => h.MountId));
        if (hosts.Count > 0)
            await _cluster.Client.BarrierAsync(everybody, cancellationToken: run.Cancellation);
        return (_cluster.MasterCpuMicroseconds - before) / records;
    }

    private async Task<Row> MeasureSlowAsync(RowDefinition definition)
    {
        List<SimulatedHost> hosts = await ConnectAsync(FewHosts);
        try
        {
            List<Sample> all = [], oneDeaf = [];
            for (int round = 0; round < SlowRounds; round++)
            {
                all.Add(await LatencyAsync(hosts[0]));
                await using SimulatedHost deaf = await SimulatedHost.StartAsync(_cluster.SocketPath, FewHosts, await PositionAsync(), deaf: true, run.Cancellation);
                // More than its connection and its queue take.
                await _cluster.CreateFilesAsync(Enumerable.Range(0, FloodFiles).Select(_ => NextName()), 4096, run.Cancellation);
                oneDeaf.Add(await LatencyAsync(hosts[0]));
            }
            return new Row(definition)
            {
                Baseline = Statistics.Median(all.Select(s => s.P50Us)),
                Ours = Statistics.Median(oneDeaf.Select(s => s.P50Us)),
                Ratio = Statistics.Median(all.Zip(oneDeaf, (a, d) => d.P50Us / a.P50Us)),
                BaselineP99Us = Statistics.Median(all.Select(s => s.P99Us)),
                OursP99Us = Statistics.Median(oneDeaf.Select(s => s.P99Us)),
                BaselineSamples = all,
                OursSamples = oneDeaf,
            };
        }
        finally
        {
            await DisconnectAsync(hosts);
        }
    }

    private async Task<Sample> LatencyAsync(SimulatedHost host)
    {
        const int Count = 500;
        double[] latencies = new double[Count];
        for (int i = 0; i < Count; i++)
        {
            // The record may be at the host before its creator has the answer.
            TaskCompletionSource<ulong> seen = new(TaskCreationOptions.RunContinuationsAsynchronously);
            void OnReceived(ulong sequence) => seen.TrySetResult(sequence);
            host.Received += OnReceived;
            long begin = Stopwatch.GetTimestamp();
            await _cluster.Client.CreateFileAsync(FamfsCluster.Create(NextName(), 4096), cancellationToken: run.Cancellation);
            await seen.Task.WaitAsync(run.Cancellation);
            latencies[i] = Stopwatch.GetElapsedTime(begin).TotalMicroseconds;
            host.Received -= OnReceived;
        }
        Array.Sort(latencies);
        return new(double.NaN, Statistics.Percentile(latencies, 0.5), Statistics.Percentile(latencies, 0.99), latencies[^1]);
    }

    private async Task<List<SimulatedHost>> ConnectAsync(int count)
    {
        List<SimulatedHost> hosts = [];
        try
        {
            Position position = await PositionAsync();
            while (hosts.Count < count)
                hosts.Add(await SimulatedHost.StartAsync(_cluster.SocketPath, hosts.Count, position, deaf: false, run.Cancellation));
            return hosts;
        }
        catch
        {
            await DisconnectAsync(hosts);
            throw;
        }
    }

    private static async Task DisconnectAsync(List<SimulatedHost> hosts)
    {
        foreach (SimulatedHost host in hosts)
            await host.DisposeAsync();
    }

    private async Task<Position> PositionAsync() => (await _cluster.Client.GetStatusAsync(new GetStatusRequest(), cancellationToken: run.Cancellation)).Position;

    private string NextName() => MountContent.FileName(_next++);
}
