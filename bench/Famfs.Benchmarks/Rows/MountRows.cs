using Famfs.Benchmarks.Measurement;
using Famfs.Benchmarks.Report;
using Famfs.Benchmarks.Systems;

namespace Famfs.Benchmarks.Rows;

/// <summary>P1 and P3: the mount against passthrough_ll, loaded by the same C program.</summary>
internal sealed class MountRows(BenchmarkRun run, Scratch scratch)
{
    // passthrough_ll searches its inodes one after the other; with more files it would measure that.
    private const int SmallTree = 100;
    private const int LargeTree = 20_000;
    private const long QuickDataBytes = 128L << 20;
    private const long DataBytes = 1L << 30;
    private const int LargeBlockBytes = 1 << 20;

    private readonly LoadProgram _load = new(Path.Combine(run.Options.BaselineFolder, "load"));

    public async Task MeasureAsync()
    {
        await MeasureTreeAsync("small tree", new(SmallTree, run.Options.Quick ? QuickDataBytes : DataBytes), withData: true);
        if (!run.Options.Quick)
            await MeasureTreeAsync("large tree", new(LargeTree, LargeBlockBytes), withData: false);
    }

    private async Task MeasureTreeAsync(string treeName, MountContent content, bool withData)
    {
        string baselinePoint = "", oursPoint = "";
        string program = Path.Combine(run.Options.BaselineFolder, "passthrough_ll");
        IMountUnderTest candidate = run.Options.SelfCheck ? new PassthroughMount(scratch, program) : new FamfsMount(scratch, run.Installation);
        await using Side<IMountUnderTest> baseline = await BenchmarkRun.StartAsync<IMountUnderTest>(
            new PassthroughMount(scratch, program), async m => baselinePoint = await m.StartAsync(content, run.Cancellation));
        await using Side<IMountUnderTest> ours = await BenchmarkRun.StartAsync(
            candidate, async m => oursPoint = await m.StartAsync(content, run.Cancellation));

        foreach ((string mode, string what) in new[] { ("stat", "lookup+getattr"), ("open", "open+release"), ("readdir", "readdir") })
        {
            foreach (int threads in new[] { 1, 2 })
            {
                RowDefinition definition = new("P1", $"{what}, {treeName}, {Threads(threads)}", mode == "readdir" ? "lists/s" : "ops/s", "passthrough_ll",
                    [Goal.RatioAtLeast(0.8)], [Goal.RatioAtLeast(1.0), Goal.P99RatioAtMost(1.2)]);
                await MeasureAsync(definition, new(mode, MountContent.Tree, threads));
            }
        }
        if (!withData)
            return;
        foreach (int threads in run.Options.Quick ? new[] { 1 } : [1, 2])
        {
            foreach (string mode in new[] { "read-random", "read-seq", "write-random", "write-seq" })
            {
                RowDefinition definition = new("P3", $"{Words(mode)} 4 KiB, direct, {Threads(threads)}", "ops/s", "passthrough_ll",
                    [Goal.RatioAtLeast(0.9)], [Goal.RatioAtLeast(1.0)]);
                await MeasureAsync(definition, new(mode, MountContent.Data, threads));
            }
            foreach (string mode in new[] { "read-seq", "write-seq" })
            {
                RowDefinition definition = new("P3", $"{Words(mode)} 1 MiB, direct, {Threads(threads)}", "ops/s", "passthrough_ll",
                    [Goal.RatioAtLeast(2.0)], [Goal.RatioAtLeast(3.0)]);
                await MeasureAsync(definition, new(mode, MountContent.Data, threads, LargeBlockBytes));
            }
        }

        Task MeasureAsync(RowDefinition definition, MountLoad load) => run.AddAsync(definition, [baseline, ours], async () =>
            Row.OfRates(definition, await run.PairAsync(
                baseline.System is null ? null : _ => LoadAsync(load, baselinePoint),
                ours.System is null ? null : _ => LoadAsync(load, oursPoint))));
    }

    private Task<Sample> LoadAsync(MountLoad load, string mountPoint) =>
        _load.RunAsync(load, mountPoint, run.Options.RoundSeconds, run.Cancellation);

    private static string Threads(int count) => count == 1 ? "1 thread" : $"{count} threads";

    private static string Words(string mode) => mode.Replace("-seq", " sequential", StringComparison.Ordinal).Replace("-random", " random", StringComparison.Ordinal);
}
