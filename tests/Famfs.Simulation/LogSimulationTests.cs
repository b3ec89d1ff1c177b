using System.Collections.Concurrent;
using System.Globalization;
using Xunit;

namespace Famfs.Simulation;

/// <summary>FAMFS_SEED=n runs one seed; FAMFS_SEEDS=n runs n of them, FAMFS_FIRST_SEED=n from there.</summary>
public sealed class LogSimulationTests(ITestOutputHelper output)
{
    /// <summary>55 s of processor time, measured with this test; two run side by side on 2 cores.</summary>
    private const int DefaultSeeds = 250;

    [Fact]
    public void Everybody_sees_a_prefix_of_one_history_and_what_is_acknowledged_stays()
    {
        if (Setting("FAMFS_SEED") is { } one)
        {
            output.WriteLine($"seed {one}: {new LogSimulation(one).Run()}");
            return;
        }
        int first = Setting("FAMFS_FIRST_SEED") ?? 1;
        int count = Setting("FAMFS_SEEDS") ?? DefaultSeeds;
        ConcurrentBag<SimulationCounts> runs = [];
        ConcurrentBag<(int Seed, Exception Error)> failures = [];
        Parallel.For(first, first + count, new ParallelOptions { MaxDegreeOfParallelism = Environment.ProcessorCount }, (seed, loop) =>
        {
            try
            {
                runs.Add(new LogSimulation(seed).Run());
            }
            catch (Exception error)
            {
                failures.Add((seed, error));
                if (failures.Count >= 5)
                    loop.Stop();
            }
        });
        SimulationCounts all = new();
        foreach (SimulationCounts run in runs)
            all.Add(run);
        output.WriteLine($"{runs.Count} seeds from {first}: {all}");
        Assert.True(failures.IsEmpty, string.Join("\n", failures.OrderBy(f => f.Seed).Select(f =>
            $"seed {f.Seed}: {f.Error.Message}\n  repeat: FAMFS_SEED={f.Seed} dotnet test tests/Famfs.Simulation/Famfs.Simulation.csproj\n{f.Error}")));
        // A situation that never occurs is not tested.
        if (count >= DefaultSeeds)
            Assert.Empty(all.Missing);
    }

    [Fact]
    public void A_seed_gives_the_same_run_twice()
    {
        foreach (int seed in new[] { 1, 2, 3, 4 })
            Assert.Equal(new LogSimulation(seed).Run().ToString(), new LogSimulation(seed).Run().ToString());
    }

    private static int? Setting(string name) =>
        Environment.GetEnvironmentVariable(name) is { Length: > 0 } text ? int.Parse(text, CultureInfo.InvariantCulture) : null;
}
