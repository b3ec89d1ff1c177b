using Famfs.Client;
using Famfs.Core.Interop;
using Xunit;

namespace Famfs.EndToEnd;

/// <summary>A master that is somewhere else from now on, and mounts that are behind.</summary>
public sealed class MasterMoveTests
{
    [Fact]
    public void What_is_wrong_on_a_host_keeps_its_mount_from_the_master_no_longer_than_it_lasts()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        (ServerProcess master, string address) = cluster.StartMaster("a");
        (ServerProcess daemon, string b) = cluster.Mount("b", address);
        string receipts = Assert.Single(Directory.GetDirectories(Path.Combine(cluster.StateOf("b"), "mounts")));
        string bad = Path.Combine(receipts, Guid.NewGuid().ToString());
        File.CreateSymbolicLink(bad, bad);
        master.Signal("KILL");
        master.AwaitExit();
        cluster.StartMasterAt("a", address);
        daemon.Await("Too many levels of symbolic links");
        File.Delete(bad);
        Cluster.Await("it follows", () => PathAttributes.Read(b, "user.famfs.master") == address);
    }

    [Fact]
    public void Mounts_and_commands_find_a_master_that_started_at_another_address()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 256L << 20);
        (ServerProcess first, string old) = cluster.StartMaster("a");
        string a = cluster.Mount("a", old).Path;
        (ServerProcess unled, string b) = cluster.LaunchDaemon("b", [.. cluster.Devices.SelectMany(d => (string[])["--device", d])]);
        unled.Await("subscribed to the master at");
        first.Signal("KILL");
        first.AwaitExit();
        // Of a mount that reaches no master, the log says where one was.
        Cluster.Await("both mounts are without a master", () => MasterOf(a) is null && MasterOf(b) is null);
        using ServerProcess early = Cluster.StartFamfs("creat", "--size", "4K", "--timeout", "600", Path.Combine(a, "early"));
        string moved = cluster.StartMaster("a").Address;
        Assert.Equal(0, early.AwaitExit());
        cluster.Famfs("creat", "--size", "4K", "--wait", "all", Path.Combine(b, "late"));
        Cluster.Await("both mounts know the new master", () => MasterOf(a) == moved && MasterOf(b) == moved);
        Assert.True(File.Exists(Path.Combine(a, "late")));
    }

    [Fact]
    public void A_command_and_a_mount_leave_a_stopped_master_for_the_one_that_took_over()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 256L << 20);
        (ServerProcess first, string old) = cluster.StartMaster("a");
        string a = cluster.Mount("a", old).Path;
        cluster.Famfs("master-slot", "--master", old, "--host-state", cluster.StateOf("b"));
        first.Signal("STOP");
        // It would have the stopped one's attention for all of its time, which is longer than the test has patience.
        using ServerProcess begun = Cluster.StartFamfs("creat", "--size", "4K", "--timeout", "600", Path.Combine(a, "begun"));
        string moved = cluster.StartMaster("b", "--take-over").Address;
        Assert.True(begun.AwaitExit() == 0, begun.Output);
        Cluster.Await("the mount knows the new master", () => MasterOf(a) == moved);
        Assert.True(File.Exists(Path.Combine(a, "begun")));
    }

    [Fact]
    public void A_wait_in_vain_names_the_host_and_the_mount_that_is_behind()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 256L << 20);
        string master = cluster.StartMaster("a").Address;
        string a = cluster.Mount("a", master).Path;
        (ServerProcess behind, string b) = cluster.Mount("b", master);
        behind.Signal("STOP");
        string named = $"not yet seen by: {Environment.MachineName} {b} (";
        (int exit, string output) = cluster.TryFamfs("creat", "--size", "4K", "--wait", "all", "--timeout", "3", Path.Combine(a, "f"));
        Assert.True(exit == 9, $"{exit}: {output}");
        Assert.StartsWith("famfs: made, and " + named, output, StringComparison.Ordinal);
        (exit, output) = cluster.TryFamfs("wait", "--master", master, "--timeout", "1");
        Assert.True(exit == 9, $"{exit}: {output}");
        Assert.StartsWith("famfs: " + named, output, StringComparison.Ordinal);
        behind.Signal("CONT");
        cluster.Famfs("wait", a);
    }

    private static string? MasterOf(string mount) => FamfsMount.Require(mount, out _).ReadMasterAddress();
}
