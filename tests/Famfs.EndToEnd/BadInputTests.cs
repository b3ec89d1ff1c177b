using System.Diagnostics;
using System.Globalization;
using System.Security.Cryptography;
using Famfs.Client;
using Famfs.Core;
using Famfs.Core.Interop;
using Xunit;

namespace Famfs.EndToEnd;

/// <summary>Bad input to the real command against real masters, mounts and devices: one line that names the
/// thing, the documented exit code, nothing changed.</summary>
public sealed class BadInputTests
{
    private const long DeviceBytes = 32L << 20;

    [Fact]
    public void Sizes_paths_and_layouts_that_cannot_be_are_refused()
    {
        using Cluster cluster = Cluster.Create(DeviceBytes);
        string master = cluster.StartMaster("a").Address;
        string a = cluster.Mount("a", master).Path;
        cluster.Famfs("creat", "--size", "1", Path.Combine(a, "there"));
        cluster.Famfs("mkdir", Path.Combine(a, "d"));
        string longest = new('n', 255);

        Row[] rows =
        [
            new(2, "at least 1 byte", "creat", "--size", "0", "f"),
            new(2, "at least 1 byte", "creat", "--size", "-1", "f"),
            new(2, "soon", "creat", "--size", "soon", "f"),
            new(2, "2^63 - 1", "creat", "--size", "8388608T", "f"),
            new(5, "f: no space for", "creat", "--size", "8388607T", "f"),
            new(5, "space", "creat", "--size", "1T", "f"),
            new(5, "space", "creat", "--size", "1T", "--interleave", "2", "f"),
            new(2, "is the root itself", "creat", "--size", "1", "/"),
            new(2, "\"..\"", "creat", "--size", "1", "../f"),
            new(2, "\"..\"", "creat", "--size", "1", "d/../f"),
            new(2, "\".\"", "creat", "--size", "1", "d/./f"),
            new(2, "empty component", "creat", "--size", "1", "d//f"),
            new(2, "256 bytes, the limit is 255", "creat", "--size", "1", longest + "n"),
            new(2, "256 bytes, the limit is 255", "creat", "--size", "1", "d/" + new string('ä', 128)),
            new(2, "the limit is 4095", "creat", "--size", "1", string.Join('/', Enumerable.Repeat(longest, 16)) + "/f"),
            new(2, ".meta", "creat", "--size", "1", ".meta/f"),
            new(2, ".staged", "creat", "--size", "1", ".staged/f"),
            new(2, "256 bytes", "mkdir", longest + "n"),
            new(3, "no/f", "creat", "--size", "1", "no/f"),
            new(1, "there", "creat", "--size", "1", "there/f"),
            new(4, "there", "creat", "--size", "1", "there"),
            new(4, "there", "creat", "--size", "2", "--if-same", "there"),
            new(4, "d", "creat", "--size", "1", "d"),
            new(4, "there", "mkdir", "there"),
            new(2, "strips", "creat", "--size", "8M", "--interleave", "4097", "f"),
            new(2, "chunk", "creat", "--size", "8M", "--interleave", "2:1K", "f"),
            new(2, "power of two", "creat", "--size", "8M", "--interleave", "2:3M", "f"),
            new(7, "device 9", "creat", "--size", "8M", "--device", "9", "f"),
            new(3, "gone", "stat", "gone"),
            new(3, "gone", "ls", "gone"),
            new(3, "gone", "getmap", "gone"),
        ];
        string before = State(cluster, master);
        foreach (Row row in rows)
            Refused(cluster, row with { Arguments = ["--master", master, .. row.Arguments] });
        // Through the mount the same, as far as the kernel's own rules let a path get there.
        Refused(cluster, new(2, "256 bytes, the limit is 255", "creat", "--size", "1", Path.Combine(a, longest + "n")));
        Refused(cluster, new(2, "at least 1 byte", "creat", "--size", "0", Path.Combine(a, "f")));
        Refused(cluster, new(5, "space", "creat", "--size", "1T", Path.Combine(a, "f")));
        Assert.Equal(before, State(cluster, master));
        Assert.Equal(["d", "there"], Directory.GetFileSystemEntries(a).Select(e => Path.GetFileName(e)).Order());

        cluster.Famfs("--master", master, "creat", "--size", "1", longest);
        cluster.Famfs("wait", "--master", master);
        Assert.True(File.Exists(Path.Combine(a, longest)));
    }

    [Fact]
    public void Devices_that_are_not_what_they_should_be_are_not_mounted()
    {
        using Cluster cluster = Cluster.Create(DeviceBytes);
        using Cluster other = Cluster.Create(DeviceBytes);
        string place = cluster.NewDirectory("place");
        string foreign = cluster.NewDevice("foreign", DeviceBytes);
        File.WriteAllBytes(foreign, RandomNumberGenerator.GetBytes((int)DeviceBytes));
        string blank = cluster.NewDevice("blank", DeviceBytes);
        string small = cluster.NewDevice("small", 4096);
        string truncated = cluster.NewDevice("truncated", DeviceBytes);
        File.Copy(cluster.Devices[1], truncated, overwrite: true);
        using (FileStream file = File.OpenWrite(truncated))
            file.SetLength(DeviceBytes / 2);

        string[] all = [.. cluster.Devices, .. other.Devices, foreign, blank, small, truncated];
        string[] before = [.. all.Select(Digest)];
        Row[] rows =
        [
            new(7, "not a famfs", "mount", cluster.Devices[0], foreign, place),
            new(7, "blank", "mount", blank, place),
            new(2, small, "mount", small, place),
            new(7, "truncated", "mount", cluster.Devices[0], truncated, place),
            new(7, "belongs to file system", "mount", cluster.Devices[0], other.Devices[1], place),
            new(7, "both it and", "mount", cluster.Devices[0], other.Devices[0], place),
            new(7, "already here", "mount", cluster.Devices[0], cluster.Devices[1], cluster.Devices[1], place),
            new(7, "none is the first device", "mount", cluster.Devices[1], place),
            new(3, "/nowhere/device", "mount", "/nowhere/device", place),
            new(7, "none is the first device", "mount", place, place),
            new(3, "/nowhere/place", "mount", cluster.Devices[0], "/nowhere/place"),
            new(7, "not a famfs", "log", "dump", foreign),
        ];
        foreach (Row row in rows)
            Refused(cluster, row.Arguments[0] == "mount" ? row with { Arguments = [.. row.Arguments, "--host-state", cluster.StateOf("a")] } : row);
        Assert.Equal(before, all.Select(Digest));
        Assert.DoesNotContain(place, File.ReadAllText("/proc/self/mounts"), StringComparison.Ordinal);

        // The programs behind it say the same when they are started without it.
        ServerProcess master = cluster.Launch("Famfs.Master", "famfs-master", ["--host-state", cluster.StateOf("a"), "--device", cluster.Devices[0], "--device", other.Devices[1]]);
        Assert.Equal(1, master.AwaitExit());
        Assert.Contains("belongs to file system", master.Output, StringComparison.Ordinal);
        ServerProcess daemon = cluster.Launch("Famfs.Fuse", "famfsd", ["--host-state", cluster.StateOf("a"), "--device", cluster.Devices[0], "--device", truncated, place]);
        Assert.Equal(1, daemon.AwaitExit());
        Assert.Contains("truncated", daemon.Output, StringComparison.Ordinal);
        Assert.Equal(before, all.Select(Digest));
    }

    [Theory]
    [InlineData("famfsd", "--device is missing; see famfsd --help")]
    [InlineData("famfsd --device DEVICE", "mountpoint is missing; see famfsd --help")]
    [InlineData("famfsd --device DEVICE --workers", "--workers: its value is missing; see famfsd --help")]
    [InlineData("famfsd --device DEVICE --workers many PLACE", "--workers: must be 0 to 256")]
    [InlineData("famfsd --device DEVICE --entry-timeout-ms soon PLACE", "--entry-timeout-ms: must be 0 or more, at most 2147483647")]
    [InlineData("famfsd --device DEVICE --wrokers 3 PLACE", "--wrokers: unknown option; see famfsd --help")]
    [InlineData("famfsd --device DEVICE -o wr PLACE", "-o wr: unknown mount option; known are ro, rw, noexec, exec, cache=direct, cache=close-to-open, allow-other, no-allow-other, locks=local, locks=refuse, notime")]
    [InlineData("famfsd --device DEVICE --master foo PLACE", "--master: 'foo' is not an address of a master; write http://host:port, https://host:port or unix:/path")]
    [InlineData("famfsd --device DEVICE @options PLACE", "PLACE: unknown command or argument; see famfsd --help")]
    [InlineData("famfs-master --device DEVICE --listen http://127.0.0.1", "--listen http://127.0.0.1: must be http://IP:PORT, https://IP:PORT or unix:/PATH; localhost and * are good for IP")]
    [InlineData("famfs-master", "--device is missing; see famfs-master --help")]
    [InlineData("famfs-master DEVICE", "DEVICE: unknown command or argument; see famfs-master --help")]
    [InlineData("famfs-master --device DEVICE --lisen http://127.0.0.1:1", "--lisen: unknown option; see famfs-master --help")]
    [InlineData("famfs-master --device DEVICE --advertise bogus", "--advertise bogus: must be http://HOST:PORT or https://HOST:PORT, of this host")]
    [InlineData("famfs-master --device DEVICE --advertise unix:/run/socket", "--advertise unix:/run/socket: must be http://HOST:PORT or https://HOST:PORT, of this host")]
    [InlineData("famfs-master --device DEVICE --listen http://*:0", "--listen http://*:0: is no address that others can call; say with --advertise which is")]
    [InlineData("famfs-master --device DEVICE --listen http://0.0.0.0:0", "--listen http://0.0.0.0:0: is no address that others can call; say with --advertise which is")]
    [InlineData("famfs-master --device DEVICE --listen unix:/nowhere/socket", "--listen unix:/nowhere/socket: there is no directory /nowhere")]
    public void A_wrong_command_line_of_a_server_is_one_line_and_changes_nothing(string line, string cause)
    {
        using Cluster cluster = Cluster.Create(DeviceBytes);
        string Put(string text) => text.Replace("DEVICE", cluster.Devices[0], StringComparison.Ordinal).Replace("PLACE", cluster.NewDirectory("place"), StringComparison.Ordinal);
        string before = Digest(cluster.Devices[0]);
        string[] words = [.. line.Split(' ').Select(Put)];

        ServerProcess server = cluster.Launch(words[0] == "famfsd" ? "Famfs.Fuse" : "Famfs.Master", words[0], words[1..]);

        Assert.Equal(1, server.AwaitExit());
        Assert.Equal($"{words[0]}: {Put(cause)}", server.Output.Trim());
        Assert.Equal(before, Digest(cluster.Devices[0]));
    }

    [Fact]
    public void A_master_that_cannot_listen_names_the_address()
    {
        using Cluster cluster = Cluster.Create(DeviceBytes);
        ServerProcess master = cluster.Launch("Famfs.Master", "famfs-master", ["--host-state", cluster.StateOf("a"), .. cluster.Devices.SelectMany(d => (string[])["--device", d]), "--listen", "http://127.0.0.1:0", "--listen", "http://192.0.2.9:7733"]);
        Assert.Equal(1, master.AwaitExit());
        Assert.Contains("famfs-master: --listen 192.0.2.9:7733: Cannot assign requested address", master.Output, StringComparison.Ordinal);
        Assert.DoesNotContain("127.0.0.1", master.Output, StringComparison.Ordinal);
    }

    [Fact]
    public void A_master_that_listens_everywhere_says_at_which_address_it_is_called()
    {
        using Cluster cluster = Cluster.Create(DeviceBytes);
        ServerProcess master = cluster.Launch("Famfs.Master", "famfs-master", ["--host-state", cluster.StateOf("a"), .. cluster.Devices.SelectMany(d => (string[])["--device", d]), "--listen", "http://*:0", "--advertise", "http://host.example:7733"]);
        master.Await("listening on http://*:0");
        master.Await("whoever reaches http://*:0 may change the file system");
        // All that it says is one line for each.
        Assert.Equal(["info:", "warning:"], master.Output.Trim().Split('\n').Select(l => l.Split(' ')[1]));
    }

    [Fact]
    public void A_place_that_has_a_mount_gets_no_second_one()
    {
        using Cluster cluster = Cluster.Create(DeviceBytes);
        string master = cluster.StartMaster("a").Address;
        string a = cluster.Mount("a", master).Path;
        string before = State(cluster, master);
        Refused(cluster, new(4, "is mounted there", ["mount", "--host-state", cluster.StateOf("a"), .. cluster.Devices, a]));
        Assert.Equal(before, State(cluster, master));
        Assert.Single(File.ReadLines("/proc/self/mounts"), l => l.Contains($" {a} ", StringComparison.Ordinal));
    }

    [Fact]
    public void Of_two_mounts_at_one_place_at_the_same_time_one_is_refused()
    {
        using Cluster cluster = Cluster.Create(DeviceBytes);
        string place = cluster.NewDirectory("place");
        // What the other one holds until its daemon has mounted.
        using IDisposable? other = DirectoryTurn.TryTake(place);
        Assert.NotNull(other);
        Refused(cluster, new(4, "another famfs mount is at work there", ["mount", "--host-state", cluster.StateOf("a"), .. cluster.Devices, place]));
        Assert.DoesNotContain(place, File.ReadAllText("/proc/self/mounts"), StringComparison.Ordinal);
    }

    [Fact]
    public void No_file_is_made_through_a_read_only_mount_that_nobody_there_could_fill()
    {
        using Cluster cluster = Cluster.Create(DeviceBytes);
        string master = cluster.StartMaster("a").Address;
        (ServerProcess daemon, string place) = cluster.LaunchDaemon("a", ["--master", master, "-o", "ro", .. cluster.Devices.SelectMany(d => (string[])["--device", d])]);
        daemon.Await("registered in the host table");
        string source = Path.Combine(cluster.NewDirectory("sources"), "source");
        File.WriteAllText(source, "content");
        string before = State(cluster, master);
        Refused(cluster, new(8, $"{place}: is mounted read-only", "cp", source, Path.Combine(place, "f")));
        Refused(cluster, new(8, $"{place}: is mounted read-only", "creat", "--size", "1", "--randomize", Path.Combine(place, "f")));
        Assert.Equal(before, State(cluster, master));
    }

    [Fact]
    public void Mkfs_overwrites_nothing_that_is_used_or_unasked_for()
    {
        using Cluster cluster = Cluster.Create(DeviceBytes);
        string foreign = cluster.NewDevice("foreign", DeviceBytes);
        File.WriteAllBytes(foreign, RandomNumberGenerator.GetBytes((int)DeviceBytes));
        string blank = cluster.NewDevice("blank", DeviceBytes);
        string alias = Path.Combine(cluster.NewDirectory("links"), "alias");
        File.CreateSymbolicLink(alias, blank);
        string small = cluster.NewDevice("small", 4L << 20);
        string[] all = [.. cluster.Devices, foreign, blank, small];
        string[] before = [.. all.Select(Digest)];
        Row[] rows =
        [
            new(4, "--force", "mkfs", cluster.Devices[0]),
            new(4, "--force", "mkfs", blank, cluster.Devices[1]),
            new(4, "--force", "mkfs", foreign),
            new(2, "are needed", "mkfs", small),
            new(2, "given twice", "mkfs", blank, blank),
            new(2, alias, "mkfs", blank, alias),
            new(2, "directory", "mkfs", "/tmp"),
            new(3, "/nowhere/device", "mkfs", blank, "/nowhere/device"),
            new(2, "63 bytes", "mkfs", "--label", new string('l', 64), blank),
            new(2, "number of hosts", "mkfs", "--max-hosts", "0", blank),
        ];
        foreach (Row row in rows)
            Refused(cluster, row with { Arguments = [.. row.Arguments, "--host-state", cluster.StateOf("a")] });
        Assert.Equal(before, all.Select(Digest));

        (ServerProcess process, string master) = cluster.StartMaster("a", "--allow-device", foreign, "--allow-device", $"{cluster.Devices[1]}.*");
        string state = State(cluster, master);
        Refused(cluster, new(4, "is running", "mkfs", "--force", "--host-state", cluster.StateOf("a"), cluster.Devices[0]));
        Refused(cluster, new(4, "in the pool", "devices", "add", "--master", master, cluster.Devices[1]));
        Refused(cluster, new(4, "--force", "devices", "add", "--master", master, foreign));
        File.Delete(alias);
        File.CreateSymbolicLink(alias, cluster.Devices[1]);
        Refused(cluster, new(4, "in the pool", "devices", "add", "--force", "--master", master, alias));
        // What is absent, what is elsewhere, what is no device, and memory inside a device of the pool get one answer.
        string secret = Path.Combine(cluster.NewDirectory("elsewhere"), "secret");
        using (FileStream file = File.Create(secret))
            file.SetLength(64 << 20);
        string byLink = $"{cluster.Devices[1]}.link";
        File.CreateSymbolicLink(byLink, secret);
        using (Process chown = Process.Start("chown", ["-h", "65534", byLink]))
            chown.WaitForExit();
        try
        {
            foreach (string path in (string[])["/nowhere/device", secret, "/etc/passwd", "/etc/shadow-", cluster.NewDirectory("elsewhere"), $"{cluster.Devices[0]}:offset=8M", $"{cluster.Devices[0]}/../x", byLink])
            {
                string answer = Refused(cluster, new(3, path, "devices", "add", "--force", "--zero", "--master", master, path));
                Assert.Contains("--allow-device", answer, StringComparison.Ordinal);
                Assert.Equal(answer.Replace(path, "PATH", StringComparison.Ordinal), Refused(cluster, new(3, "/nowhere", "devices", "add", "--master", master, "/nowhere")).Replace("/nowhere", "PATH", StringComparison.Ordinal));
            }
        }
        finally
        {
            File.Delete(byLink);
        }
        Assert.All(File.ReadAllBytes(secret), b => Assert.Equal(0, b));
        Assert.Equal(state, State(cluster, master));
        cluster.Mount("a", master);
        process.Signal("KILL");
        process.AwaitExit();
        Refused(cluster, new(4, "a mount of its file system is alive", "mkfs", "--force", "--host-state", cluster.StateOf("a"), cluster.Devices[0]));
        string export = Path.Combine(cluster.NewDirectory("export"), "log");
        cluster.Famfs(["log", "export", export, .. cluster.Devices]);
        Refused(cluster, new(4, "a mount of its file system is alive", ["log", "import", "--force", export, "--host-state", cluster.StateOf("a"), .. cluster.Devices]));
        Assert.Empty(cluster.Check().Findings);
    }

    [Fact]
    public void A_master_that_is_down_or_of_another_file_system_is_named()
    {
        using Cluster cluster = Cluster.Create(DeviceBytes);
        using Cluster other = Cluster.Create(DeviceBytes);
        (ServerProcess process, string master) = cluster.StartMaster("a");
        string wrong = other.StartMaster("a").Address;
        string a = cluster.Mount("a", master).Path;
        string place = cluster.NewDirectory("place");
        string state = State(other, wrong);

        Refused(cluster, new(7, "file system", ["mount", "--master", wrong, "--host-state", cluster.StateOf("a"), .. cluster.Devices, place]));
        Assert.DoesNotContain(place, File.ReadAllText("/proc/self/mounts"), StringComparison.Ordinal);
        Refused(other, new(1, "is running", ["master", "--host-state", other.StateOf("a"), "--device", other.Devices[0], "--listen", "http://127.0.0.1:0"]), "famfs-master: ");
        Assert.Equal(state, State(other, wrong));

        process.Signal("KILL");
        process.AwaitExit();
        foreach (string[] verb in (string[][])[["creat", "--size", "1"], ["mkdir"]])
            Refused(cluster, new(6, master["http://".Length..], [.. verb, "--timeout", "4", Path.Combine(a, "f")]));
        // What the mount can answer, it does.
        foreach (string verb in (string[])["ls", "stat", "getmap"])
            Refused(cluster, new(3, "No such file or directory", verb, "--timeout", "4", Path.Combine(a, "f")));
        foreach (string verb in (string[])["status", "df", "hosts", "wait"])
            Refused(cluster, new(6, master["http://".Length..], verb, "--timeout", "4", "--master", master));
        Assert.Empty(Directory.GetFileSystemEntries(a));
        // Somebody takes the call, but is no master.
        using System.Net.Sockets.TcpListener listener = new(System.Net.IPAddress.Loopback, 0);
        listener.Start();
        Refused(cluster, new(9, "did not answer in time", "status", "--timeout", "1", "--master", $"http://{listener.LocalEndpoint}"));
    }

    [Fact]
    public void A_path_on_a_mount_never_goes_to_the_master_of_another_file_system()
    {
        using Cluster cluster = Cluster.Create(DeviceBytes);
        using Cluster other = Cluster.Create(DeviceBytes);
        (ServerProcess process, string master) = cluster.StartMaster("a");
        string wrong = other.StartMaster("a").Address;
        cluster.Mount("a", master);
        process.Signal("KILL");
        process.AwaitExit();
        // A mount that has never found a master does not say where one is.
        (ServerProcess unled, string again) = cluster.LaunchDaemon("again", [.. cluster.Devices.SelectMany(d => (string[])["--device", d])]);
        unled.Await("mounted file system");
        string state = State(other, wrong);
        (int exit, string output) = cluster.TryFamfs(new Dictionary<string, string> { ["FAMFS_MASTER"] = wrong }, "creat", "--size", "1", "--timeout", "5", Path.Combine(again, "f"));
        Assert.True(exit == 7, $"{exit}: {output}");
        Assert.Equal(state, State(other, wrong));
    }

    [Fact]
    public void A_host_that_lacks_a_device_serves_the_rest_and_says_which_is_missing()
    {
        using Cluster cluster = Cluster.Create(DeviceBytes);
        string master = cluster.StartMaster("a").Address;
        string a = cluster.Mount("a", master).Path;
        for (int device = 0; device < 2; device++)
            cluster.Famfs("creat", "--size", "3M", "--contiguous", "--device", device.ToString(CultureInfo.InvariantCulture), "--randomize", "--seed", "5", Path.Combine(a, $"on{device}"));
        (ServerProcess daemon, string b) = cluster.LaunchDaemon("b", ["--device", cluster.Devices[0], "--master", master]);
        daemon.Await("registered in the host table");
        cluster.Famfs("wait", "--master", master);

        cluster.Famfs("verify", "--seed", "5", Path.Combine(b, "on0"));
        Refused(cluster, new(7, Path.Combine(b, "on1"), "verify", "--seed", "5", Path.Combine(b, "on1")));
        string message = Assert.Throws<FamfsException>(() => FamfsFile.Map(Path.Combine(b, "on1"))).Message;
        Assert.Contains("device 1 is not on this host", message, StringComparison.Ordinal);
        Assert.Equal(2, Directory.GetFiles(b).Length);
        cluster.Famfs("verify", "--seed", "5", Path.Combine(a, "on0"), Path.Combine(a, "on1"));
    }

    /// <summary>Gives the one line that was said.</summary>
    private static string Refused(Cluster cluster, Row row, string prefix = "famfs: ")
    {
        (int exit, string output) = cluster.TryFamfs(row.Arguments);
        string shown = $"famfs {string.Join(' ', row.Arguments)} exited with {exit}: {output}";
        Assert.True(exit == row.Exit, $"expected {row.Exit}, {shown}");
        string[] lines = output.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.True(lines.Length == 1 && lines[0].StartsWith(prefix, StringComparison.Ordinal), shown);
        Assert.True(lines[0].Contains(row.Says, StringComparison.Ordinal), $"'{row.Says}' is not in: {shown}");
        return lines[0];
    }

    /// <summary>What a refused command must leave as it was: the log and the free space.</summary>
    private static string State(Cluster cluster, string master) =>
        string.Join('\n', cluster.Famfs("log", "dump", cluster.Devices[0], cluster.Devices[1]), cluster.Famfs("df", "--master", master, "-o", "json"));

    private static string Digest(string path)
    {
        using FileStream file = File.OpenRead(path);
        return $"{path} {Convert.ToHexString(SHA256.HashData(file))}";
    }

    private sealed record Row(int Exit, string Says, params string[] Arguments);
}
