using System.Globalization;
using Famfs.Benchmarks.Measurement;
using Famfs.Benchmarks.Report;
using Famfs.Benchmarks.Systems;
using Famfs.V1;

namespace Famfs.Benchmarks.Rows;

/// <summary>P10 and P17: how long a mount of a large file system takes, from its log and from a snapshot, and what a daemon weighs that
/// has nothing to do.</summary>
internal sealed class StartRows(BenchmarkRun run, Scratch scratch)
{
    private const int Directories = 1000;
    private const int FilesPerDirectory = 1000;
    private const long UnitBytes = 2L << 20;
    private const double MiB = 1 << 20;

    // Chosen: the collector and the thread pool have given back by then what starting took.
    private static readonly TimeSpan s_idle = TimeSpan.FromSeconds(3);

    public async Task MeasureAsync()
    {
        RowDefinition memory = new("P10", "resident memory of an idle daemon, empty file system", "MiB", "–", [Goal.OursAtMost(60)], [Goal.OursAtMost(60)]);
        await run.AddAsync(memory, [], async () =>
        {
            await using FamfsCluster cluster = await FamfsCluster.StartAsync(scratch, run.Installation, 1L << 30, run.Cancellation);
            List<double> resident = [];
            for (int i = 0; i < 3; i++)
            {
                await using ListedMount mount = await cluster.MountAndListAsync("idle", run.Cancellation);
                await Task.Delay(s_idle, run.Cancellation);
                resident.Add(mount.ResidentBytes / MiB);
            }
            return new Row(memory) { Ours = Statistics.Median(resident) };
        });

        RowDefinition start = new("P10", "start of a mount with 1,000,000 files → first ls", "ms", "–", [Goal.OursAtMost(1500)], [Goal.OursAtMost(1500)]);
        RowDefinition grown = new("P10", "resident memory of a daemon, 1,000,000 files", "MiB", "–", [], []);
        RowDefinition snapshot = new("P17", "start of a mount with a snapshot of 1,000,000 files → first ls", "ms", "a log of them", [Goal.RatioAtMost(1)], [Goal.RatioAtMost(1)]);
        List<double> residentWithFiles = [];
        List<Sample> ofLog = [], ofSnapshot = [];
        await run.AddAsync(start, [], async () =>
        {
            await using FamfsCluster cluster = await FamfsCluster.StartAsync(scratch, run.Installation, (Directories * FilesPerDirectory * UnitBytes) + (8L << 30), run.Cancellation);
            for (int d = 0; d < Directories; d++)
                await cluster.Client.MakeDirectoryAsync(new MakeDirectoryRequest { Path = Directory(d) }, cancellationToken: run.Cancellation);
            await cluster.CreateFilesAsync(Enumerable.Range(0, Directories * FilesPerDirectory).Select(i => $"{Directory(i / FilesPerDirectory)}/{MountContent.FileName(i)}"), 4096, run.Cancellation);
            await MountAsync(cluster, ofLog, residentWithFiles);
            await cluster.Client.CompactAsync(new CompactRequest(), cancellationToken: run.Cancellation);
            await MountAsync(cluster, ofSnapshot, []);
            return new Row(start) { Ours = Statistics.Median(ofLog.Select(s => s.PerSecond)), OursSamples = ofLog };
        });
        await run.AddAsync(snapshot, [], () => ofSnapshot.Count == 0
            ? throw new NotAvailableException("the row before it failed, or was not asked for")
            : Task.FromResult(new Row(snapshot)
            {
                Baseline = Statistics.Median(ofLog.Select(s => s.PerSecond)),
                Ours = Statistics.Median(ofSnapshot.Select(s => s.PerSecond)),
                Ratio = Statistics.Median(ofSnapshot.Select(s => s.PerSecond)) / Statistics.Median(ofLog.Select(s => s.PerSecond)),
                BaselineSamples = ofLog,
                OursSamples = ofSnapshot,
            }));
        await run.AddAsync(grown, [], () => residentWithFiles.Count > 0
            ? Task.FromResult(new Row(grown) { Ours = Statistics.Median(residentWithFiles) })
            : throw new NotAvailableException("the row before it failed"));
    }

    private async Task MountAsync(FamfsCluster cluster, List<Sample> samples, List<double> resident)
    {
        for (int i = 0; i < (run.Options.Quick ? 3 : run.Options.Rounds); i++)
        {
            await using ListedMount mount = await cluster.MountAndListAsync("million", run.Cancellation);
            if (mount.Entries != Directories)
                throw new InvalidOperationException($"the root directory has {mount.Entries} entries instead of {Directories}");
            samples.Add(new(mount.UntilListed.TotalMilliseconds));
            resident.Add(mount.ResidentBytes / MiB);
        }
    }

    private static string Directory(int number) => string.Create(CultureInfo.InvariantCulture, $"directory-{number:D4}");
}
