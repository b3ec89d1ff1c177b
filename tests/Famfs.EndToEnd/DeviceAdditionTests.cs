using System.Globalization;
using Famfs.Client;
using Famfs.Core.Interop;
using Xunit;

namespace Famfs.EndToEnd;

/// <summary>A pool that grows while it is used: nobody mounts anew, nobody restarts.</summary>
public sealed class DeviceAdditionTests
{
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_device_added_online_is_used_by_running_mounts_and_by_the_next_master(bool directory)
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 32L << 20);
        string pattern = directory ? cluster.NewDirectory("devices") : cluster.DevicePattern;
        if (directory)
        {
            foreach (string device in cluster.Devices)
                File.CreateSymbolicLink(Path.Combine(pattern, Path.GetFileName(device)), device);
        }
        (ServerProcess process, string master) = cluster.LaunchMasterWith("a", "--device", pattern);
        process.Await("listening on");
        (ServerProcess daemonA, string a) = cluster.LaunchDaemon("a", ["--device", pattern, "--master", master]);
        (ServerProcess daemonB, string b) = cluster.LaunchDaemon("b", ["--device", pattern, "--master", master]);
        daemonA.Await("registered in the host table");
        daemonB.Await("registered in the host table");

        string third = cluster.NewDevice("2", 32L << 20);
        if (directory)
            File.CreateSymbolicLink(Path.Combine(pattern, "another"), third);
        cluster.Famfs("devices", "add", "--master", master, third);
        Create(cluster, a, "on2", 2);
        daemonA.Await("device 2 is");
        daemonB.Await("device 2 is");
        cluster.Famfs("verify", "--seed", "2", Path.Combine(a, "on2"));
        cluster.Famfs("verify", "--seed", "2", Path.Combine(b, "on2"));
        using (MappedRange range = FamfsFile.Map(Path.Combine(b, "on2")))
            Assert.Equal(3 << 20, range.LengthBytes);

        process.Signal("TERM");
        Assert.Equal(0, process.AwaitExit());
        (process, master) = cluster.LaunchMasterWith("a", "--device", pattern);
        process.Await("listening on");
        string list = cluster.Famfs("devices", "list", "--master", master);
        Assert.DoesNotContain("missing", list, StringComparison.Ordinal);
        Assert.Equal(4, list.Split('\n', StringSplitOptions.RemoveEmptyEntries).Length);
        cluster.Famfs("creat", "--master", master, "--size", "3M", "--contiguous", "--device", "2", "again");
        Cluster.Await("the file of the next master", () => File.Exists(Path.Combine(b, "again")));
        Assert.Equal(new byte[4096], File.ReadAllBytes(Path.Combine(b, "again"))[..4096]);
        cluster.Devices.Add(third);
        Assert.Empty(cluster.Check().Findings);
    }

    [Fact]
    public void A_device_that_a_host_cannot_find_costs_only_what_is_on_it_and_is_named_once()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 32L << 20);
        string master = cluster.StartMaster("a", "--allow-device", cluster.DevicePattern).Address;
        (ServerProcess daemon, string a) = cluster.Mount("a", master);
        string late = cluster.NewDirectory("late");
        (ServerProcess watching, string b) = cluster.LaunchDaemon("b", [.. cluster.Devices.SelectMany(d => (string[])["--device", d]), "--device", late, "--master", master]);
        watching.Await("registered in the host table");

        string third = cluster.NewDevice("2", 32L << 20);
        string uuid = cluster.Famfs("devices", "add", "--master", master, third, "-o", "json").Split('"').First(w => Guid.TryParse(w, out _));
        cluster.Famfs("creat", "--size", "3M", "--contiguous", "--device", "2", Path.Combine(a, "on2"));
        daemon.Await($"device 2 ({uuid}) is not on this host");
        Assert.Throws<IOException>(() => File.ReadAllBytes(Path.Combine(a, "on2")));
        Create(cluster, a, "on0", 0);
        cluster.Famfs("verify", "--seed", "0", Path.Combine(a, "on0"));

        // What appears in a searched place later is found there.
        watching.Await($"device 2 ({uuid}) is not on this host");
        File.CreateSymbolicLink(Path.Combine(late, "here"), third);
        watching.Await("device 2 is");
        Assert.Equal(3 << 20, File.ReadAllBytes(Path.Combine(b, "on2")).Length);
        Assert.Equal(2, daemon.Output.Split(uuid).Length);
        Assert.Equal(2, watching.Output.Split(uuid).Length);
    }

    [Fact]
    public async Task A_status_counts_the_missing_devices_that_it_does_not_name()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 32L << 20);
        (ServerProcess process, string master) = cluster.StartMaster("a", "--allow-device", cluster.DevicePattern);
        using (FamfsClient client = new(new FamfsClientOptions { Addresses = [master] }))
        {
            for (int i = 2; i < 20; i++)
                await client.AddDeviceAsync(new() { Path = cluster.NewDevice(i.ToString(CultureInfo.InvariantCulture), 4L << 20) }, cancel: TestContext.Current.CancellationToken);
        }
        process.Signal("TERM");
        Assert.Equal(0, process.AwaitExit());
        (_, master) = cluster.StartMaster("a");
        using FamfsClient again = new(new FamfsClientOptions { Addresses = [master] });
        List<string> warnings = [.. (await again.GetStatusAsync(cancel: TestContext.Current.CancellationToken)).Warnings];
        Assert.Equal(16, warnings.Count(w => w.EndsWith("is missing on the master's host", StringComparison.Ordinal)));
        Assert.Contains("and 2 more like these", warnings);
    }

    private static void Create(Cluster cluster, string mount, string name, int device)
    {
        string number = device.ToString(CultureInfo.InvariantCulture);
        cluster.Famfs("creat", "--size", "3M", "--contiguous", "--device", number, "--randomize", "--seed", number, "--wait", "all", Path.Combine(mount, name));
    }
}
