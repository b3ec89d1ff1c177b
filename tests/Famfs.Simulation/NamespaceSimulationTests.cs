using System.Globalization;
using Famfs.V1;
using Xunit;

namespace Famfs.Simulation;

/// <summary>FAMFS_SEED=n runs one seed; FAMFS_SEEDS=n runs n of them, FAMFS_FIRST_SEED=n from there.</summary>
public sealed class NamespaceSimulationTests
{
    private const int DefaultSeeds = 60;
    private const int Steps = 600;

    [Fact]
    public void Names_and_space_are_the_same_for_everybody_whatever_is_removed_and_renamed()
    {
        int first = Setting("FAMFS_SEED") ?? Setting("FAMFS_FIRST_SEED") ?? 1;
        int count = Setting("FAMFS_SEED") is null ? Setting("FAMFS_SEEDS") ?? DefaultSeeds : 1;
        Dictionary<RecordType, int> made = [];
        for (int seed = first; seed < first + count; seed++)
        {
            using NamespaceSimulation simulation = new(seed);
            try
            {
                simulation.Run(Steps);
            }
            catch (Exception error)
            {
                throw new InvalidOperationException($"seed {seed}: {error.Message}\n  repeat: FAMFS_SEED={seed} dotnet test tests/Famfs.Simulation/Famfs.Simulation.csproj", error);
            }
            foreach ((RecordType type, int many) in simulation.Made)
                made[type] = made.GetValueOrDefault(type) + many;
        }
        // A situation that never occurs is not tested.
        Assert.All((RecordType[])[RecordType.FileCreated, RecordType.DirectoryMade, RecordType.Deleted, RecordType.Renamed], type => Assert.True(made.GetValueOrDefault(type) > count * 10, $"{type}: {made.GetValueOrDefault(type)}"));
    }

    private static int? Setting(string name) =>
        Environment.GetEnvironmentVariable(name) is { Length: > 0 } text ? int.Parse(text, CultureInfo.InvariantCulture) : null;
}
