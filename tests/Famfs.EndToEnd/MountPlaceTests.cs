using System.Diagnostics;
using System.Text.Json;
using Famfs.Client;
using Famfs.Core.Interop;
using Xunit;

namespace Famfs.EndToEnd;

/// <summary>Where a mount is, by whatever name or part it is reached.</summary>
public sealed class MountPlaceTests
{
    [Fact]
    public void A_directory_and_a_file_bound_elsewhere_work_as_through_the_mount()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 256L << 20);
        string master = cluster.StartMaster("a").Address;
        string path = cluster.Mount("a", master).Path;
        cluster.Famfs("mkdir", path + "/models");
        cluster.Famfs("creat", "--size", "4096", path + "/models/f");
        string directory = cluster.NewDirectory("bound");
        string file = directory + "-file";
        File.WriteAllText(file, "");
        Run("mount", "--bind", path + "/models", directory);
        Run("mount", "--bind", path + "/models/f", file);

        cluster.Famfs("creat", "--size", "4096", directory + "/new");
        Assert.True(File.Exists(path + "/models/new"));
        Assert.Contains("new", cluster.Famfs("ls", directory), StringComparison.Ordinal);
        Assert.Equal(cluster.Famfs("getmap", path + "/models/f"), cluster.Famfs("getmap", file));
        using (MappedRange range = FamfsFile.Map(file, writable: true))
            range.Span(0, 1)[0] = 7;
        using (MappedRange range = FamfsFile.Map(directory + "/f"))
            Assert.Equal(7, range.Span(0, 1)[0]);
        // Of one file system that is mounted once, none need be named.
        Guid uuid = FamfsMount.Require(directory, out _).RequireFileSystem();
        // Mounts of tests beside this one are not asked: their daemons may be stopped.
        string first = Assert.Single(FamfsMount.FindDistinct(), m => m.MountPoint.StartsWith(Path.GetDirectoryName(path)!, StringComparison.Ordinal) && m.RequireFileSystem() == uuid).MountPoint;
        Assert.Equal(path, first);
    }

    [Fact]
    public void Standing_in_a_mount_names_it()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        string master = cluster.StartMaster("a").Address;
        string a = cluster.Mount("a", master).Path;
        cluster.Mount("b", master);
        using ServerProcess status = new("/bin/sh", ["-c", "cd \"$0\" && exec \"$1\" df", a, Cluster.Program("Famfs.Cli", "famfs")]);
        Assert.True(status.AwaitExit() == 0, status.Output);
    }

    [Fact]
    public void A_daemon_keeps_busy_nothing_of_who_has_mounted()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        string master = cluster.StartMaster("a").Address;
        string a = cluster.Mount("a", master).Path;
        cluster.Famfs("creat", "--size", "4096", a + "/f");
        string place = cluster.NewDirectory("place");
        // Whoever mounts stands in a mount and has a file of it open; what is named is relative.
        string state = Path.GetRelativePath(Path.GetDirectoryName(a)!, cluster.StateOf("b"));
        using ServerProcess mount = new("/bin/sh",
        [
            "-c", "cd \"$0\" && exec 7<f && exec \"$2\" mount --host-state ../" + state + " --master " + master + " " + string.Join(' ', cluster.Devices) + " \"$1\"",
            a, place, Cluster.Program("Famfs.Cli", "famfs"),
        ], new() { ["PATH"] = $"{Path.GetDirectoryName(Cluster.Program("Famfs.Fuse", "famfsd"))}:{Environment.GetEnvironmentVariable("PATH")}" });
        Assert.True(mount.AwaitExit() == 0, mount.Output);
        Assert.Equal(["f"], Directory.EnumerateFileSystemEntries(place).Select(Path.GetFileName));
        Assert.Empty(MountCalls.FindHolders(a));
        cluster.Famfs("umount", a);
        cluster.Famfs("umount", place);
    }

    [Fact]
    public void A_place_has_one_name_and_takes_one_mount()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        (ServerProcess running, string master) = cluster.StartMaster("a");
        string place = cluster.NewDirectory("place");
        string link = place + "-link";
        File.CreateSymbolicLink(link, place);
        string[] mount = ["mount", "--host-state", cluster.StateOf("a"), "--master", master, .. cluster.Devices];

        Assert.Equal(place, cluster.Famfs([.. mount, place + "/"]).Trim());
        foreach (string name in (string[])[place, place + "/", link, link + "/"])
        {
            (int exit, string output) = cluster.TryFamfs([.. mount, name]);
            Assert.Equal(4, exit);
            Assert.Contains("a famfs is mounted there", output, StringComparison.Ordinal);
        }
        ServerProcess second = cluster.Launch("Famfs.Fuse", "famfsd", ["--host-state", cluster.StateOf("b"), "--device", cluster.Devices[0], "--device", cluster.Devices[1], "--master", master, link]);
        Assert.Equal(1, second.AwaitExit());
        Assert.Contains("a famfs is mounted there", second.Output, StringComparison.Ordinal);
        cluster.Famfs("umount", link);
        Assert.DoesNotContain($" {place} ", File.ReadAllText("/proc/self/mounts"), StringComparison.Ordinal);
        Assert.Equal(place, cluster.Famfs([.. mount, link]).Trim());
        cluster.Famfs("umount", place + "/");
        // A host that is registered needs no master, and is told that there is none.
        running.Signal("TERM");
        Assert.Equal(0, running.AwaitExit());
        (int mounted, string told) = cluster.TryFamfs([.. mount, place]);
        Assert.True(mounted == 0 && told.Contains($"{place}: no master answers at {master}: Connection refused; the mount follows the log in memory", StringComparison.Ordinal), $"{mounted}: {told}");
        cluster.Famfs("umount", place);
    }

    [Fact]
    public void A_dead_mount_is_taken_away_and_a_busy_one_is_refused_with_its_holders()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        string master = cluster.StartMaster("a").Address;
        (ServerProcess daemon, string path) = cluster.Mount("a", master);
        string[] mount = ["mount", "--host-state", cluster.StateOf("a"), "--master", master, .. cluster.Devices, path];
        using (ServerProcess holder = new("/bin/sh", ["-c", "cd \"$0\" && echo inside && read line", path], redirectInput: true))
        {
            holder.Await("inside");
            daemon.Signal("KILL");
            daemon.AwaitExit();
            (int exit, string output) = cluster.TryFamfs(mount);
            Assert.Equal(4, exit);
            Assert.Contains("whose daemon is gone is mounted there and in use by sh (", output, StringComparison.Ordinal);
            ServerProcess refused = cluster.Launch("Famfs.Fuse", "famfsd", ["--host-state", cluster.StateOf("a"), "--device", cluster.Devices[0], path]);
            Assert.Equal(1, refused.AwaitExit());
            Assert.Contains("`famfs umount` takes it away", refused.Output, StringComparison.Ordinal);
            Assert.Contains($" {path} ", File.ReadAllText("/proc/self/mounts"), StringComparison.Ordinal);
            holder.Signal("KILL");
            holder.AwaitExit();
        }
        Assert.Contains("it was unmounted", cluster.Famfs(mount), StringComparison.Ordinal);
        Assert.Single(File.ReadLines("/proc/self/mounts"), l => l.Contains($" {path} ", StringComparison.Ordinal));
        cluster.Famfs("umount", path);
    }

    [Fact]
    public void A_held_mount_whose_daemon_is_gone_is_shown_with_its_holders_and_a_running_daemon_reports_its_end()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        string master = cluster.StartMaster("a").Address;
        (ServerProcess daemon, string path) = cluster.Mount("a", master);
        // Another mount of the same host, which lives on.
        (ServerProcess running, _) = cluster.LaunchMount("a", "second", master);
        running.Await("registered in the host table");
        cluster.Famfs("creat", "--size", "2M", "--wait", "all", Path.Combine(path, "f"));
        int id;
        using (ServerProcess holder = new("/bin/sh", ["-c", "exec 3<\"$0/f\" && echo open && read line", path], redirectInput: true))
        {
            holder.Await("open");
            id = holder.Id;
            daemon.Signal("KILL");
            daemon.AwaitExit();
            Cluster.Await("the holder being named", () => cluster.Famfs("hosts", "--master", master).Contains($"{path}: its daemon is gone, and it is held by sh ({id}); end them", StringComparison.Ordinal));
            using (JsonDocument json = JsonDocument.Parse(cluster.Famfs("hosts", "--master", master, "--json")))
            {
                JsonElement mount = json.RootElement.GetProperty("hosts").EnumerateArray().Single(h => h.GetProperty("mount_point").GetString() == path);
                Assert.Equal(id, Assert.Single(mount.GetProperty("holders").EnumerateArray()).GetProperty("process_id").GetInt32());
                Assert.Equal("silent", mount.GetProperty("state").GetString());
            }
            holder.Signal("KILL");
            holder.AwaitExit();
        }
        Cluster.Await("nobody holding it", () => cluster.Famfs("hosts", "--master", master).Contains("no process that this user may look at holds it", StringComparison.Ordinal));
        cluster.Famfs("umount", path);

        // Nobody mounts or restarts anything: the daemon that runs sees that the kernel has let go.
        Cluster.Await("the mount being gone", () => cluster.Famfs("hosts", "--all", "--master", master).Split('\n').Any(l => l.Contains($" {path} ", StringComparison.Ordinal) && l.Contains(" gone (", StringComparison.Ordinal)));
        cluster.Famfs("wait", "--master", master);
    }

    [Fact]
    public void A_mount_is_waited_for_while_there_is_an_address_that_was_not_tried()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        (ServerProcess process, string master) = cluster.StartMaster("a");
        string path = cluster.NewDirectory("b");
        string[] mount = ["mount", "--host-state", cluster.StateOf("b"), .. cluster.Devices, path];
        // The socket comes first, and nobody is there.
        string nobody = "unix:" + Path.Combine(cluster.NewDirectory("run"), "none.sock");
        Assert.Equal(path, cluster.Famfs([.. mount, "--master", nobody, "--master", master]).Trim());
        cluster.Famfs("creat", "--size", "1M", "--randomize", Path.Combine(path, "f"));
        cluster.Famfs("umount", path);

        // With none in reach it returns, and says so. The log has no block for this host.
        process.Signal("TERM");
        Assert.Equal(0, process.AwaitExit());
        mount[2] = cluster.StateOf("c");
        Assert.Contains("files cannot be opened: no master is reached", cluster.Famfs([.. mount, "--master", nobody, "--master", master]), StringComparison.Ordinal);
        cluster.Famfs("umount", path);
    }

    [Fact]
    public void What_is_mounted_on_a_mount_is_named()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        (_, string a) = cluster.Mount("a", cluster.StartMaster("a").Address);
        string below = Path.Combine(a, "d");
        cluster.Famfs("mkdir", below);
        Run("mount", "-t", "tmpfs", "none", below);
        try
        {
            (int exit, string output) = cluster.TryFamfs("umount", a);
            Assert.Equal(1, exit);
            Assert.Contains($"busy, used by the mount at {below}; end its users", output, StringComparison.Ordinal);
        }
        finally
        {
            Run("umount", below);
        }
        cluster.Famfs("umount", a);
    }

    private static void Run(string program, params string[] arguments)
    {
        using Process process = Process.Start(program, arguments);
        process.WaitForExit();
        Assert.Equal(0, process.ExitCode);
    }
}
