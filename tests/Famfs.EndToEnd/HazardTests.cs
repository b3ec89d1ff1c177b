using Famfs.Client;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.TestSupport;
using Xunit;

namespace Famfs.EndToEnd;

/// <summary>Things that go wrong on one host: programs at the same time, killed, stopped, told to overwrite.</summary>
public sealed class HazardTests
{
    [Fact]
    public void Mounts_of_a_host_that_start_at_the_same_time_have_a_line_each()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 256L << 20);
        string master = cluster.StartMaster("a").Address;
        List<ServerProcess> daemons = [];
        for (int i = 0; i < 6; i++)
            daemons.Add(cluster.LaunchMount("a", $"mount-{i}", master).Process);
        foreach (ServerProcess daemon in daemons)
            daemon.Await("registered in the host table");
        Assert.Equal(6, Lines(cluster).Count(l => l.State == MountState.Live));
    }

    [Fact]
    public void Daemon_told_to_stop_takes_its_mount_away_although_a_file_is_open()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 256L << 20);
        string master = cluster.StartMaster("a").Address;
        (ServerProcess daemon, string path) = cluster.Mount("a", master);
        cluster.Famfs("creat", "--size", "4K", Path.Combine(path, "f"));
        using (FileStream open = File.OpenRead(Path.Combine(path, "f")))
        {
            daemon.Signal("TERM");
            Assert.Equal(0, daemon.AwaitExit());
            Assert.DoesNotContain($" {path} ", File.ReadAllText("/proc/self/mounts"), StringComparison.Ordinal);
        }
        Assert.True(File.Exists(Path.Combine(cluster.Mount("a", master).Path, "f")));
    }

    [Fact]
    public async Task Master_that_was_killed_starts_again_on_its_unix_socket()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        string address = $"unix:{cluster.StateOf("a")}/master.sock";
        ServerProcess killed = cluster.StartMasterAt("a", address);
        killed.Signal("KILL");
        killed.AwaitExit();
        cluster.StartMasterAt("a", address);
        using FamfsClient client = Cluster.Connect(address);
        await client.CreateFileAsync(new() { Path = "f", SizeBytes = 1 }, cancel: TestContext.Current.CancellationToken);
    }

    [Theory]
    [InlineData("CONT")]
    [InlineData("STOP")]
    public void Mkfs_does_not_overwrite_what_a_master_of_this_host_uses_whatever_the_order_of_devices(string signal)
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        ServerProcess master = cluster.StartMaster("a").Process;
        master.Signal(signal);
        (int exit, string output) = cluster.TryFamfs("mkfs", "--force", "--host-state", cluster.StateOf("a"), cluster.Devices[1], cluster.Devices[0]);
        Assert.Equal(4, exit);
        Assert.Contains(cluster.Devices[0], output, StringComparison.Ordinal);
        Assert.Empty(cluster.Check().Findings);
    }

    [Fact]
    public void Mkfs_does_not_overwrite_what_a_stopped_daemon_of_this_host_uses()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        (ServerProcess master, string address) = cluster.StartMaster("a");
        ServerProcess daemon = cluster.Mount("a", address).Process;
        master.Signal("TERM");
        master.AwaitExit();
        daemon.Signal("STOP");
        (int exit, string output) = cluster.TryFamfs(["mkfs", "--force", "--host-state", cluster.StateOf("a"), .. cluster.Devices]);
        daemon.Signal("CONT");
        Assert.Equal(4, exit);
        Assert.Contains("a mount of its file system is alive", output, StringComparison.Ordinal);
    }

    [Fact]
    public void A_further_device_of_a_pool_in_use_is_given_neither_to_mkfs_nor_to_another_pool()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        using Cluster other = Cluster.Create(deviceBytes: 64L << 20);
        (ServerProcess master, string address) = cluster.StartMaster("a");
        ServerProcess daemon = cluster.Mount("a", address).Process;
        string otherAddress = other.StartMaster("a", "--allow-device", cluster.Devices[1]).Address;
        master.Signal("TERM");
        master.AwaitExit();
        daemon.Signal("STOP"); // still in use: by the mount
        foreach ((string[] command, string cause) in (ReadOnlySpan<(string[], string)>)
        [
            // Its host's own state directory tells, and then the device.
            (["mkfs", "--force", "--host-state", cluster.StateOf("a"), cluster.Devices[1]], "a master or a mount of its file system"),
            (["mkfs", "--force", "--host-state", cluster.NewDirectory("elsewhere"), cluster.Devices[1]], "is in use by a master, a mount or a tool of this host"),
            (["devices", "add", "--force", "--master", otherAddress, cluster.Devices[1]], "is in use by a master, a mount or a tool of this host"),
        ])
        {
            (int exit, string output) = cluster.TryFamfs(command);
            Assert.Equal(4, exit);
            Assert.Contains($"{cluster.Devices[1]}: {cause}", output, StringComparison.Ordinal);
        }
        daemon.Signal("CONT");
        Assert.Empty(cluster.Check().Findings);
    }

    private static List<MountLine> Lines(Cluster cluster)
    {
        using DevicePool pool = TestFormats.All.Open([.. cluster.Devices.Select(d => DaxDevice.Open(d, readOnly: true))]);
        return [.. new MountLineTable(pool).ReadInUse().Select(e => e.Line).OfType<MountLine>()];
    }
}
