using System.Text.Json;
using Xunit;

namespace Famfs.EndToEnd;

/// <summary>What a probe is told, by exit code.</summary>
public sealed class HealthTests
{
    [Fact]
    public void A_master_is_well_while_it_serves()
    {
        using Cluster cluster = Cluster.Create(64L << 20);
        (ServerProcess process, string master) = cluster.StartMaster("a");
        Assert.Equal($"{master}: serving\n", cluster.Famfs("health", master).ReplaceLineEndings("\n"));
        cluster.Famfs("health", "--master", master, "--live");
        using JsonDocument told = JsonDocument.Parse(cluster.Famfs("health", master, "--json"));
        Assert.Equal((master, true, true), (told.RootElement.GetProperty("target").GetString(), told.RootElement.GetProperty("live").GetBoolean(), told.RootElement.GetProperty("ready").GetBoolean()));
        foreach (string kind in (string[])["--live", "--ready"])
        {
            process.Signal("STOP");
            Says(cluster, 9, "did not answer in time", "health", master, kind, "--timeout", "2");
            process.Signal("CONT");
            cluster.Famfs("health", master, kind, "--timeout", "60");
        }
        process.Signal("TERM");
        Assert.Equal(0, process.AwaitExit());
        Says(cluster, 6, "no master answers", "health", master);
        Says(cluster, 2, "exclude each other", "health", master, "--live", "--ready");
    }

    [Fact]
    public void A_mount_lives_while_it_answers_and_is_ready_when_files_can_be_opened()
    {
        using Cluster cluster = Cluster.Create(64L << 20);
        // Of a host that no master has registered yet.
        (ServerProcess waiting, string early) = cluster.LaunchDaemon("b", [.. cluster.DeviceArguments()]);
        Cluster.Await("the mount", () => File.ReadAllText("/proc/self/mounts").Contains($" {early} fuse.famfs", StringComparison.Ordinal));
        cluster.Famfs("health", early, "--live", "--timeout", "60");
        Says(cluster, 1, "names are served, files cannot be opened: ", "health", early, "--timeout", "60");
        string master = cluster.StartMaster("a").Address;
        string place = cluster.Mount("a", master).Path;
        Assert.Equal($"{place}: files can be opened\n", cluster.Famfs("health", place).ReplaceLineEndings("\n"));
        Says(cluster, 3, "no famfs is mounted there", "health", cluster.NewDirectory("elsewhere"));
        Says(cluster, 3, "no famfs is mounted there", "health", Path.Combine(place, "below"));
        waiting.Signal("STOP");
        Says(cluster, 9, "does not answer within 2 s", "health", early, "--live", "--timeout", "2");
        waiting.Signal("CONT");
        waiting.Signal("KILL");
        waiting.AwaitExit();
        Says(cluster, 8, "daemon of this mount is gone", "health", early, "--live", "--timeout", "60");
    }

    private static void Says(Cluster cluster, int expected, string text, params string[] arguments)
    {
        (int exit, string output) = cluster.TryFamfs(arguments);
        Assert.True(exit == expected && output.Contains(text, StringComparison.Ordinal), $"famfs {string.Join(' ', arguments)} exited with {exit}: {output}");
    }
}
