using System.Text.Json;
using Famfs.Benchmarks.Measurement;
using Famfs.Benchmarks.Report;
using Famfs.Benchmarks.Systems;

namespace Famfs.Benchmarks.Rows;

/// <summary>P5 and P6: replay into the namespace and the memory it takes, each in a process of its own.</summary>
internal sealed class ReplayRows(BenchmarkRun run)
{
    private const int NameBytes = 24;

    // An inode is a line of 64 bytes. Its part of the table of inodes is beyond that.
    private const double RemovedBytes = 64.5;

    public async Task MeasureAsync()
    {
        RowDefinition replay = new("P5", "replay of 1,000,000 creations", "records/CPU s", "scan with CRC only",
            [Goal.OursAtLeast(1e6)], [Goal.RatioAtLeast(0.15), Goal.OursAtLeast(2e6)]);
        await run.AddAsync(replay, [], async () =>
        {
            List<Sample> scans = [], replays = [];
            ReplayResult result = await ChildAsync(ReplayChild.Replay, run.Options.Rounds);
            scans.AddRange(result.ScansPerSecond.Select(r => new Sample(r, double.NaN, double.NaN, double.NaN)));
            replays.AddRange(result.ReplaysPerSecond.Select(r => new Sample(r, double.NaN, double.NaN, double.NaN)));
            Row row = new(replay)
            {
                Baseline = Statistics.Median(result.ScansPerSecond),
                Ours = Statistics.Median(result.ReplaysPerSecond),
                Ratio = Statistics.Median(result.ScansPerSecond.Zip(result.ReplaysPerSecond, (s, r) => r / s)),
                RatioQuartiles = Statistics.Quartiles(result.ScansPerSecond.Zip(result.ReplaysPerSecond, (s, r) => r / s)),
                BaselineSamples = scans,
                OursSamples = replays,
            };
            return result.Missing is null ? row : row with { Reason = result.Missing, IsNotAvailable = true };
        });

        RowDefinition memory = new("P6", "memory per file at 1,000,000 files", "B", "–",
            [Goal.OursAtMost(160 + NameBytes)], [Goal.OursAtMost(100 + NameBytes)]);
        List<double> removed = [];
        await run.AddAsync(memory, [], async () =>
        {
            List<double> bytes = [];
            removed.Clear();
            for (int i = 0; i < 3; i++)
            {
                ReplayResult result = await ChildAsync(ReplayChild.Memory, 1);
                if (result.Missing is not null)
                    throw new NotAvailableException(result.Missing);
                bytes.Add(result.BytesPerFile ?? throw new InvalidOperationException("the memory process measured nothing"));
                removed.Add(result.BytesPerRemovedFile ?? throw new InvalidOperationException("the memory process removed nothing"));
            }
            return new Row(memory) { Ours = Statistics.Median(bytes) };
        });
        RowDefinition pending = new("P6", "the same of a removed file until its space is free", "B", "–", [Goal.OursAtMost(RemovedBytes)], [Goal.OursAtMost(RemovedBytes)]);
        await run.AddAsync(pending, [], () => removed.Count == 0
            ? throw new NotAvailableException("the row before it failed")
            : Task.FromResult(new Row(pending) { Ours = Statistics.Median(removed) }));
    }

    private async Task<ReplayResult> ChildAsync(string what, int rounds)
    {
        string text = await ChildProcess.ReadAllAsync(Environment.ProcessPath!, [ReplayChild.Verb, what, $"{rounds}"], run.Cancellation);
        return JsonSerializer.Deserialize<ReplayResult>(text) ?? throw new InvalidOperationException($"no result from the {what} process");
    }
}
