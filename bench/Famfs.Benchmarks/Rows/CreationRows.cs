using Famfs.Benchmarks.Measurement;
using Famfs.Benchmarks.Report;
using Famfs.Benchmarks.Systems;

namespace Famfs.Benchmarks.Rows;

/// <summary>P4: creations per second against etcd.</summary>
internal sealed class CreationRows(BenchmarkRun run, Scratch scratch)
{
    private const int ManyInFlight = 64;

    // Each kind of load before the first row. Measured: a master's processor time per call falls from 300 to 90 µs within
    // its first 40,000 calls, because its code is compiled meanwhile; etcd does not change.
    private const double WarmUpSeconds = 2;

    public async Task MeasureAsync()
    {
        IMasterUnderTest candidate = run.Options.SelfCheck ? new EtcdServer(scratch) : new FamfsMaster(scratch, run.Installation);
        await using Side<IMasterUnderTest> etcd = await BenchmarkRun.StartAsync<IMasterUnderTest>(new EtcdServer(scratch), s => s.StartAsync(run.Cancellation));
        await using Side<IMasterUnderTest> ours = await BenchmarkRun.StartAsync(candidate, s => s.StartAsync(run.Cancellation));

        if (etcd.System is { } baseline)
            await WarmUpAsync(baseline);
        if (ours.System is { } measured)
            await WarmUpAsync(measured);

        await AddAsync(new("P4", "create, 1 caller", "files/s", "etcd put, 1", [Goal.RatioAtLeast(2)], [Goal.RatioAtLeast(2)]), One, One);
        await AddAsync(new("P4", "create, 64 in flight", "files/s", "etcd put, 64", [Goal.RatioAtLeast(3)], [Goal.RatioAtLeast(5)]), Many, Many);
        await AddAsync(new("P4", "create, 64 connections", "files/s", "etcd put, 64 connections", [Goal.RatioAtLeast(3)], [Goal.RatioAtLeast(5)]), ManyConnections, ManyConnections);
        await AddAsync(new("P4", "create, bulk stream", "files/s", "etcd put, 64", [Goal.RatioAtLeast(20)], [Goal.RatioAtLeast(50)]), Many, Bulk);
        await AddAsync(new("P4", "create, bulk stream", "files/s", "etcd txn of 128 puts", [], []), Bulk, Bulk);

        Task AddAsync(RowDefinition definition, Func<IMasterUnderTest, string, Task<Sample>> ofBaseline, Func<IMasterUnderTest, string, Task<Sample>> ofOurs) =>
            run.AddAsync(definition, [etcd, ours], async () =>
            {
                Guid row = Guid.NewGuid();
                return Row.OfRates(definition, await run.PairAsync(
                    etcd.System is { } b ? round => RoundAsync(b, ofBaseline, $"{row:N}-{round}") : null,
                    ours.System is { } o ? round => RoundAsync(o, ofOurs, $"{row:N}-{round}") : null));
            });
    }

    private async Task WarmUpAsync(IMasterUnderTest system)
    {
        string directory = Guid.NewGuid().ToString("N");
        await system.MakeDirectoryAsync(directory, run.Cancellation);
        await UnaryAsync(system, directory, 1, oneConnection: true, WarmUpSeconds, "one-");
        await UnaryAsync(system, directory, ManyInFlight, oneConnection: true, WarmUpSeconds, "many-");
        await UnaryAsync(system, directory, ManyInFlight, oneConnection: false, WarmUpSeconds, "connections-");
        await system.CreateInBulkAsync(directory, WarmUpSeconds, run.Cancellation);
    }

    private async Task<Sample> RoundAsync(IMasterUnderTest system, Func<IMasterUnderTest, string, Task<Sample>> measure, string directory)
    {
        await system.MakeDirectoryAsync(directory, run.Cancellation);
        return await measure(system, directory);
    }

    private Task<Sample> One(IMasterUnderTest system, string directory) => UnaryAsync(system, directory, 1, oneConnection: true, run.Options.RoundSeconds);

    private Task<Sample> Many(IMasterUnderTest system, string directory) => UnaryAsync(system, directory, ManyInFlight, oneConnection: true, run.Options.RoundSeconds);

    private Task<Sample> ManyConnections(IMasterUnderTest system, string directory) => UnaryAsync(system, directory, ManyInFlight, oneConnection: false, run.Options.RoundSeconds);

    private Task<Sample> UnaryAsync(IMasterUnderTest system, string directory, int inFlight, bool oneConnection, double seconds, string prefix = "") =>
        CallLoad.RunAsync(
            inFlight, seconds,
            (loop, number) => system.CreateAsync($"{directory}/{prefix}{MountContent.FileName(number)}", oneConnection ? 0 : loop + 1, run.Cancellation), run.Cancellation);

    private async Task<Sample> Bulk(IMasterUnderTest system, string directory)
    {
        (long count, double seconds) = await system.CreateInBulkAsync(directory, run.Options.RoundSeconds, run.Cancellation);
        return new(count / seconds, double.NaN, double.NaN, double.NaN);
    }
}
