using System.Collections.Concurrent;
using System.Globalization;
using Famfs.V1;
using Xunit;

namespace Famfs.Simulation.Holders;

/// <summary>FAMFS_SEED=n runs one seed and prints its history; FAMFS_SEEDS=n runs n of them, FAMFS_FIRST_SEED=n from there.</summary>
public sealed class HolderSimulationTests(ITestOutputHelper output)
{
    private const int DefaultSeeds = 40;

    [Fact]
    public void No_byte_is_reached_as_two_files_and_everything_comes_back()
    {
        if (Setting("FAMFS_SEED") is { } one)
        {
            using HolderSimulation simulation = new(one) { Print = output.WriteLine };
            output.WriteLine($"seed {one}: {simulation.Run()}");
            return;
        }
        int first = Setting("FAMFS_FIRST_SEED") ?? 1;
        int count = Setting("FAMFS_SEEDS") ?? DefaultSeeds;
        ConcurrentBag<(int Seed, Exception Error)> failures = [];
        ConcurrentBag<(HolderCounts Counts, Dictionary<RecordType, int> Made)> runs = [];
        Parallel.For(first, first + count, new ParallelOptions { MaxDegreeOfParallelism = Environment.ProcessorCount }, (seed, loop) =>
        {
            try
            {
                using HolderSimulation simulation = new(seed);
                HolderCounts counts = simulation.Run();
                runs.Add((counts, simulation.Space.Made));
            }
            catch (Exception error)
            {
                failures.Add((seed, error));
                if (failures.Count >= 5)
                    loop.Stop();
            }
        });
        Dictionary<RecordType, int> made = [];
        foreach ((RecordType type, int many) in runs.SelectMany(r => r.Made))
            made[type] = made.GetValueOrDefault(type) + many;
        output.WriteLine($"{runs.Count} seeds from {first}: steps {runs.Sum(r => r.Counts.Steps)}, kills {runs.Sum(r => r.Counts.Kills)}, crashes {runs.Sum(r => r.Counts.Crashes)}, terms {runs.Sum(r => r.Counts.Terms)}, opens {runs.Sum(r => r.Counts.Opens)}, space used again {runs.Sum(r => r.Counts.Reuses)}, touches {runs.Sum(r => r.Counts.Touches)}, changes {runs.Sum(r => r.Counts.Changes)}, acknowledged {runs.Sum(r => r.Counts.Acknowledged)}, evictions {runs.Sum(r => r.Counts.Evictions)}, impostors {runs.Sum(r => r.Counts.Impostors)}, damaged lines {runs.Sum(r => r.Counts.Damages)}, releases by stream {runs.Sum(r => r.Counts.StreamReleases)}, hosts forgotten {runs.Sum(r => r.Counts.Forgets)}, looks at foreign lines {runs.Sum(r => r.Counts.ForeignLines)}, meetings {runs.Sum(r => r.Counts.Met)} of {runs.Sum(r => r.Counts.Meetings)}, aborted mounts {runs.Sum(r => r.Counts.Aborts)}, mounts with a lease {runs.Sum(r => r.Counts.Leases)}, expired {runs.Sum(r => r.Counts.Expired)}, operations {runs.Sum(r => r.Counts.Operations)}; {string.Join(", ", made.Select(m => $"{m.Key} {m.Value}"))}");
        Assert.True(failures.IsEmpty, string.Join("\n", failures.OrderBy(f => f.Seed).Select(f =>
            $"{f.Error.Message}\n  repeat: FAMFS_SEED={f.Seed} dotnet test tests/Famfs.Simulation/Famfs.Simulation.csproj\n{f.Error.InnerException}")));
        // A situation that never occurs is not tested.
        if (count >= DefaultSeeds)
        {
            Assert.All((RecordType[])[RecordType.FileCreated, RecordType.Deleted, RecordType.Renamed, RecordType.ZeroingStarted, RecordType.ExtentsReclaimed, RecordType.HostRegistered, RecordType.HostGone, RecordType.HostForgotten, RecordType.TermEnded],
                type => Assert.True(made.GetValueOrDefault(type) > 0, $"{type} never occurs"));
            Assert.True(runs.Sum(r => r.Counts.Expired) > 0, "no lease runs out");
            Assert.True(runs.Sum(r => r.Counts.Met) > 0, "nobody meets");
        }
    }

    [Fact]
    public void A_seed_gives_the_same_run_twice()
    {
        foreach (int seed in (int[])[1, 2, 3])
        {
            using HolderSimulation first = new(seed);
            using HolderSimulation second = new(seed);
            Assert.Equal($"{first.Run()} {first.Space.Last}", $"{second.Run()} {second.Space.Last}");
        }
    }

    private static int? Setting(string name) =>
        Environment.GetEnvironmentVariable(name) is { Length: > 0 } text ? int.Parse(text, CultureInfo.InvariantCulture) : null;
}
