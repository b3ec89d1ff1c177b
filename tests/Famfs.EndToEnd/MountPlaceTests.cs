using System.Diagnostics;
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
    public void A_place_has_one_name_and_takes_one_mount()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        string master = cluster.StartMaster("a").Address;
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

    private static void Run(string program, params string[] arguments)
    {
        using Process process = Process.Start(program, arguments);
        process.WaitForExit();
        Assert.Equal(0, process.ExitCode);
    }
}
