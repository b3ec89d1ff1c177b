using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
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
        daemon.Await($"of files on device 2 ({uuid}) answer EIO");
        Assert.Equal(3, daemon.Output.Split(uuid).Length); // when it was looked for, and when somebody needed it
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
        Assert.Equal(16, warnings.Count(w => w.Contains("is missing on the master's host", StringComparison.Ordinal)));
        Assert.Contains("and 2 more like these", warnings);
    }

    [Fact]
    public void A_mount_without_a_new_device_is_named_everywhere_and_gets_it_while_it_serves()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 32L << 20);
        string master = cluster.StartMaster("a", "--allow-device", cluster.DevicePattern).Address;
        string here = cluster.NewDirectory("here");
        (ServerProcess daemonA, string a) = cluster.Mount("a", master);
        (ServerProcess daemonB, string b) = cluster.LaunchDaemon("b", [.. cluster.DeviceArguments(), "--device", here, "--master", master]);
        daemonB.Await("registered in the host table");

        // One mount cannot find it, the other can.
        string third = cluster.NewDevice("2", 32L << 20);
        File.CreateSymbolicLink(Path.Combine(here, "third"), third);
        string added = cluster.Famfs("devices", "add", "--master", master, third);
        string line = Assert.Single(added.Split('\n', StringSplitOptions.RemoveEmptyEntries).Skip(1));
        Assert.Matches($"^missing at .* {a}: new files avoid the device", line);
        daemonB.Await("device 2 is");

        string hosts = cluster.Famfs("hosts", "--master", master, "--json");
        using (JsonDocument json = JsonDocument.Parse(hosts))
        {
            Dictionary<string, int[]> lacks = json.RootElement.GetProperty("hosts").EnumerateArray().ToDictionary(h => h.GetProperty("mount_point").GetString()!, h => h.GetProperty("missing_devices").EnumerateArray().Select(i => i.GetInt32()).ToArray());
            Assert.Equal([2], lacks[a]);
            Assert.Empty(lacks[b]);
        }
        Assert.Matches($"{a} .* 2  ", cluster.Famfs("hosts", "--master", master).Split('\n').Single(l => l.Contains(a, StringComparison.Ordinal)));
        Assert.Matches($"warning +.* {a} lacks device 2: files on it answer EIO there; new files avoid it", cluster.Famfs("status", "--master", master));
        (int exit, string doctor) = cluster.TryFamfs("doctor");
        Assert.Equal(1, exit);
        Assert.Matches($"MISSING +{a}: lacks device 2 ", doctor);
        Assert.DoesNotContain($"{b}: lacks", doctor, StringComparison.Ordinal);

        // AUTO and INTERLEAVED keep off it; --device does not, and says what that costs.
        foreach (string[] layout in (string[][])[[], ["--interleave", "2"], ["--contiguous"]])
        {
            string name = Path.Combine(a, $"kept{layout.Length}{string.Join("", layout)}");
            cluster.Famfs(["creat", "--size", "6M", "--randomize", "--wait", "all", .. layout, name]);
            cluster.Famfs("verify", name);
        }
        string warned = cluster.Famfs("creat", "--size", "3M", "--contiguous", "--device", "2", "--wait", "all", Path.Combine(a, "on2"));
        Assert.Matches($"famfs: device 2 is missing at .* {a}\n", warned);

        // Each read fails, the cause is said once, and the mount and the file tell it.
        for (int i = 0; i < 5; i++)
            Assert.Throws<IOException>(() => File.ReadAllBytes(Path.Combine(a, "on2")));
        daemonA.Await("of files on device 2 (");
        Assert.Throws<IOException>(() => File.ReadAllBytes(Path.Combine(a, "on2")));
        Assert.Matches("^2 [0-9a-f-]{36}\n$", PathAttributes.Read(a, "user.famfs.missing-devices")!);
        Assert.StartsWith("device 2 of the pool is not on this host", PathAttributes.Read(Path.Combine(a, "on2"), "user.famfs.file-damage"), StringComparison.Ordinal);
        Assert.Null(PathAttributes.Read(b, "user.famfs.missing-devices"));
        Assert.Null(PathAttributes.Read(Path.Combine(a, "kept0"), "user.famfs.file-damage"));

        // What cannot be attached changes nothing.
        string foreign = cluster.NewDevice("foreign", 32L << 20);
        string other = cluster.NewDevice("other", 32L << 20);
        cluster.Famfs("mkfs", "--host-state", cluster.StateOf("c"), other);
        foreach ((int code, string cause, string[] arguments) in ((int, string, string[])[])
        [
            (7, "belongs to file system", [other, a]),
            (7, foreign, [foreign, a]),
            (3, "no such", [third + "-no", a]),
            (2, here, [here, a]),
            (4, "is device 1 of this mount already", [cluster.Devices[1], a]),
            (2, "not on a famfs mount", [third, here]),
            (2, "DEVICE", [a]),
        ])
        {
            (exit, string refused) = cluster.TryFamfs(["devices", "attach", .. arguments]);
            Assert.True(exit == code && refused.Contains(cause, StringComparison.Ordinal), $"{string.Join(' ', arguments)}: {exit}: {refused}");
        }
        Assert.NotNull(PathAttributes.Read(a, "user.famfs.missing-devices"));

        Assert.Equal($"{third}: device 2 of {a}\n", cluster.Famfs("devices", "attach", third, a));
        daemonA.Await("device 2 is " + third);
        Assert.Equal(3 << 20, File.ReadAllBytes(Path.Combine(a, "on2")).Length);
        Assert.Null(PathAttributes.Read(a, "user.famfs.missing-devices"));
        Cluster.Await("the master hearing of it", () => !cluster.Famfs("status", "--master", master).Contains("lacks device", StringComparison.Ordinal));
        cluster.Famfs("creat", "--size", "12M", "--randomize", "--wait", "all", Path.Combine(a, "over all"));
        Assert.Contains("strips=3", PathAttributes.Read(Path.Combine(a, "over all"), "user.famfs.layout"), StringComparison.Ordinal);
        cluster.Famfs("verify", Path.Combine(b, "over all"));
        (exit, string twice) = cluster.TryFamfs("devices", "attach", third, a);
        Assert.Equal(4, exit);
        Assert.Contains("is device 2 of this mount already", twice, StringComparison.Ordinal);
        Assert.Equal(2, daemonA.Output.Split("of files on device 2 (").Length);
    }

    [Fact]
    public void Two_copies_of_a_device_are_named_by_each_program_until_one_is_meant()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 32L << 20);
        (ServerProcess process, string master) = cluster.StartMaster("a");
        (ServerProcess daemon, string a) = cluster.Mount("a", master);
        cluster.Famfs("creat", "--size", "3M", "--contiguous", "--device", "1", "--randomize", "--wait", "all", Path.Combine(a, "on1"));
        cluster.Famfs("umount", a);
        daemon.AwaitExit();
        process.Signal("TERM");
        Assert.Equal(0, process.AwaitExit());
        string copy = cluster.NewDevice("1copy", 32L << 20);
        File.Copy(cluster.Devices[1], copy, overwrite: true);
        string both = $"{cluster.Devices[1]} and {copy} are both device 1 (";

        (process, master) = cluster.LaunchMasterWith("a", "--device", cluster.DevicePattern);
        process.Await("listening on");
        process.Await(both);
        Assert.Contains(both, cluster.Famfs("status", "--master", master), StringComparison.Ordinal);
        Assert.Contains(both, cluster.TryFamfs("check", "--master", master).Output, StringComparison.Ordinal);
        (daemon, string b) = cluster.LaunchDaemon("b", ["--device", cluster.DevicePattern, "--master", master]);
        daemon.Await(both);
        daemon.Await("registered in the host table");
        Assert.Throws<IOException>(() => File.ReadAllBytes(Path.Combine(b, "on1")));
        cluster.Famfs("devices", "attach", cluster.Devices[1], b);
        cluster.Famfs("verify", Path.Combine(b, "on1"));

        // Named from the start, there is nothing to be told.
        (ServerProcess named, string c) = cluster.LaunchDaemon("c", ["--device", cluster.DevicePattern, "--device", cluster.Devices[1], "--master", master]);
        named.Await("registered in the host table");
        cluster.Famfs("verify", Path.Combine(c, "on1"));
        Assert.DoesNotContain("are both", named.Output, StringComparison.Ordinal);
    }

    [Fact]
    public void A_mount_that_begins_without_a_device_says_so()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 32L << 20);
        string master = cluster.StartMaster("a").Address;
        string point = cluster.NewDirectory("alone");
        string said = cluster.Famfs("mount", "--host-state", cluster.StateOf("b"), "--master", master, cluster.Devices[0], point);
        try
        {
            Assert.Matches($"famfs: {point}: device 1 \\([0-9a-f-]{{36}}\\) of the pool is not on this host; files on it answer EIO", said);
            // Somebody else's request is refused, whatever it is.
            using Process nobody = Process.Start(new ProcessStartInfo("setpriv",
            [
                "--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search",
                Cluster.Program("Famfs.Cli", "famfs"), "devices", "attach", cluster.Devices[1], point,
            ])
            { RedirectStandardError = true })!;
            string refused = nobody.StandardError.ReadToEnd();
            nobody.WaitForExit();
            Assert.Contains("user 65534 may not give devices to this mount", refused, StringComparison.Ordinal);
            Assert.Equal(8, nobody.ExitCode);
            Assert.Equal($"{cluster.Devices[1]}: device 1 of {point}\n", cluster.Famfs("devices", "attach", cluster.Devices[1], point));
        }
        finally
        {
            cluster.Famfs("umount", point);
        }
    }

    private static void Create(Cluster cluster, string mount, string name, int device)
    {
        string number = device.ToString(CultureInfo.InvariantCulture);
        cluster.Famfs("creat", "--size", "3M", "--contiguous", "--device", number, "--randomize", "--seed", number, "--wait", "all", Path.Combine(mount, name));
    }
}
