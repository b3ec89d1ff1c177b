using Famfs.Client;
using Xunit;

namespace Famfs.EndToEnd;

/// <summary>A mount point in the place of devices, on whatever kernel this is; and what the mount's hidden directory shows.</summary>
public sealed class MountAsDeviceTests
{
    [Fact]
    public async Task A_master_and_tools_take_the_mount_point_for_the_devices_and_a_dead_mount_is_said_to_be_dead()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 256L << 20);
        (ServerProcess first, string address) = cluster.StartMaster("a");
        (ServerProcess daemon, string mount) = cluster.Mount("a", address);
        using (FamfsClient client = Cluster.Connect(address))
            await client.CreateFileAsync(new() { Path = "f", SizeBytes = 1 << 20, Wait = new() { Kind = Famfs.V1.WaitKind.All } }, cancel: TestContext.Current.CancellationToken);
        Assert.Equal(["f"], Directory.GetFileSystemEntries(mount).Select(Path.GetFileName));
        Assert.Equal(["hosts", "segment-5", "superblock", "superblock-1"], Directory.GetFiles(Path.Combine(mount, ".meta")).Select(Path.GetFileName).Order(StringComparer.Ordinal));
        byte[] unit = File.ReadAllBytes(Path.Combine(mount, ".meta", "superblock-1"));
        Assert.True(unit.AsSpan(0, 4096).SequenceEqual(File.ReadAllBytes(cluster.Devices[1]).AsSpan(0, 4096)));
        Assert.Contains("file_created", cluster.Famfs("log", "dump", mount), StringComparison.Ordinal);
        string export = Path.Combine(cluster.NewDirectory("exports"), "log");
        Assert.Contains("record(s)", cluster.Famfs("log", "export", export, mount), StringComparison.Ordinal);
        Assert.NotEqual(0, new System.IO.FileInfo(export).Length);

        // The slot's lock is the devices', whichever way they were named.
        (ServerProcess second, _) = cluster.LaunchMasterWith("a", "--device", mount);
        Assert.Equal(1, second.AwaitExit());
        Assert.Contains("a master of this host is running", second.Output, StringComparison.Ordinal);
        first.Signal("TERM");
        first.AwaitExit();
        (ServerProcess third, string next) = cluster.LaunchMasterWith("a", "--device", mount);
        third.Await("listening on");
        using (FamfsClient client = Cluster.Connect(next))
            Assert.Equal(1u << 20, (await client.GetFileAsync(new() { Path = "f" }, cancel: TestContext.Current.CancellationToken)).File.SizeBytes);
        third.Signal("TERM");
        Assert.Equal(0, third.AwaitExit());

        daemon.Signal("KILL");
        daemon.AwaitExit();
        (ServerProcess fourth, _) = cluster.LaunchMasterWith("a", "--device", mount);
        Assert.Equal(1, fourth.AwaitExit());
        Assert.Contains($"{mount}: the daemon of this mount is gone", fourth.Output, StringComparison.Ordinal);
    }
}
