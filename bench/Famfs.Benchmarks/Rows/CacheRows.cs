using System.Globalization;
using Famfs.Benchmarks.Measurement;
using Famfs.Benchmarks.Report;
using Famfs.Benchmarks.Systems;
using Famfs.V1;

namespace Famfs.Benchmarks.Rows;

/// <summary>P2: what the kernel knows already. The mount as it is without options, against the same tree on tmpfs.</summary>
internal sealed class CacheRows(BenchmarkRun run, Scratch scratch)
{
    private const int Files = 100_000;

    private readonly LoadProgram _load = new(Path.Combine(run.Options.BaselineFolder, "load"));

    public async Task MeasureAsync()
    {
        string tmpfs = scratch.MakeDirectory("tmpfs");
        string tree = Directory.CreateDirectory(Path.Combine(tmpfs, MountContent.Tree)).FullName;
        for (int i = 0; i < Files; i++)
            File.WriteAllBytes(Path.Combine(tree, MountContent.FileName(i)), []);
        string mountPoint = "";
        await using Side<CachedMount> ours = await BenchmarkRun.StartAsync(new CachedMount(scratch, run.Installation), async m => mountPoint = await m.StartAsync(run.Cancellation));

        foreach (int threads in new[] { 1, 2 })
        {
            RowDefinition definition = new("P2", string.Create(CultureInfo.InvariantCulture, $"stat of a warm tree of {Files:N0} files, {threads} thread(s)"), "ops/s", "tmpfs",
                [Goal.RatioAtLeast(0.8)], [Goal.RatioAtLeast(0.8)]);
            MountLoad load = new("stat", MountContent.Tree, threads);
            await run.AddAsync(definition, [ours], async () => Row.OfRates(definition, await run.PairAsync(
                _ => _load.RunAsync(load, tmpfs, run.Options.RoundSeconds, run.Cancellation),
                ours.System is null ? null : _ => _load.RunAsync(load, mountPoint, run.Options.RoundSeconds, run.Cancellation))));
        }

        // Listing the names and asking for the count cost the same however long the load runs.
        RowDefinition upcalls = new("P2", "messages to the daemon by ten times as many", "messages", "–", [Goal.OursAtMost(0)], [Goal.OursAtMost(0)]);
        await run.AddAsync(upcalls, [ours], async () =>
        {
            if (ours.System is null)
                return new Row(upcalls);
            long few = await CountAsync(run.Options.RoundSeconds / 10);
            long many = await CountAsync(run.Options.RoundSeconds);
            return new Row(upcalls) { Ours = many - few };
        });

        async Task<long> CountAsync(double seconds)
        {
            long before = await CachedMount.RequestsAsync(mountPoint, run.Cancellation);
            await _load.RunAsync(new("stat", MountContent.Tree, 1), mountPoint, seconds, run.Cancellation);
            return await CachedMount.RequestsAsync(mountPoint, run.Cancellation) - before;
        }
    }

    /// <summary>A mount whose kernel has seen every file.</summary>
    private sealed class CachedMount(Scratch scratch, FamfsInstallation installation) : IAsyncDisposable
    {
        private const long UnitBytes = 2L << 20;

        private FamfsCluster? _cluster;

        public async Task<string> StartAsync(CancellationToken cancellation)
        {
            _cluster = await FamfsCluster.StartAsync(scratch, installation, (Files * UnitBytes) + (1L << 30), cancellation);
            await _cluster.Client.MakeDirectoryAsync(new MakeDirectoryRequest { Path = MountContent.Tree }, cancellationToken: cancellation);
            await _cluster.CreateFilesAsync(Enumerable.Range(0, Files).Select(i => $"{MountContent.Tree}/{MountContent.FileName(i)}"), 4096, cancellation);
            string mountPoint = await _cluster.MountAsync("famfsd", $"{MountContent.Tree}/{MountContent.FileName(0)}", [], cancellation);
            foreach (System.IO.FileInfo file in new DirectoryInfo(Path.Combine(mountPoint, MountContent.Tree)).EnumerateFiles())
                _ = file.Length;
            return mountPoint;
        }

        /// <summary>Messages that the kernel has sent, this question's own included.</summary>
        public static async Task<long> RequestsAsync(string mountPoint, CancellationToken cancellation)
        {
            const string Program = "/usr/bin/getfattr";
            if (!File.Exists(Program))
                throw new NotAvailableException($"{Program} (package attr) is missing");
            string text = await ChildProcess.ReadAllAsync(Program, ["--only-values", "-n", "user.famfs.requests", mountPoint], cancellation);
            return long.Parse(text, CultureInfo.InvariantCulture);
        }

        public ValueTask DisposeAsync() => _cluster?.DisposeAsync() ?? ValueTask.CompletedTask;
    }
}
