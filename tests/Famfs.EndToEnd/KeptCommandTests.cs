using System.Diagnostics;
using System.Runtime.Versioning;
using Famfs.Core.Format;
using Famfs.Core.Log.Native;
using Xunit;

namespace Famfs.EndToEnd;

/// <summary>What the command does with mounts that a keeper keeps.</summary>
[SupportedOSPlatform("linux")]
public sealed class KeptCommandTests
{
    [Fact]
    public void A_mount_that_is_kept_is_reported_continued_and_unmounted_by_the_command()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        string address = cluster.StartMaster("a").Address;
        string path = cluster.NewDirectory("a");
        Dictionary<string, string> here = new() { ["FAMFS_STATE_DIR"] = cluster.StateOf("a") };
        string[] mount = ["mount", "--host-state", cluster.StateOf("a"), "--master", address, .. cluster.Devices, path];
        (int exit, string output) = cluster.TryFamfs(here, "doctor");
        Assert.Contains("keeper        none of this user", output, StringComparison.Ordinal);
        cluster.StartKeeper("a");
        string first = cluster.Famfs(mount);
        Assert.Contains($"{path}: is kept by famfs-keeper: it outlives its daemon", first, StringComparison.Ordinal);
        int daemon = DaemonOf(cluster, path);
        (_, output) = cluster.TryFamfs(here, "doctor");
        Assert.Contains($"keeper        famfs-keeper, keeps 1 mount: {path}", output, StringComparison.Ordinal);
        Assert.DoesNotContain("has no daemon", output, StringComparison.Ordinal);
        // One that is served is mounted, as it was before there were keepers.
        (exit, output) = cluster.TryFamfs(mount);
        Assert.NotEqual(0, exit);
        Assert.Contains("a famfs is mounted there", output, StringComparison.Ordinal);

        cluster.Famfs("creat", "--size", "4096", Path.Combine(path, "f"));
        using FileStream open = new(Path.Combine(path, "f"), FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite, bufferSize: 0);
        Kill(cluster, path, daemon);
        (exit, output) = cluster.TryFamfs(here, "doctor");
        Assert.Equal(1, exit);
        Assert.Contains($"MISSING       {path}: is kept and has no daemon; programs that use it wait", output, StringComparison.Ordinal);
        // It is in use: its programs wait for the next daemon.
        (exit, output) = cluster.TryFamfs(here, "umount", path);
        Assert.NotEqual(0, exit);
        Assert.Contains($"{path}: busy, and kept without a daemon", output, StringComparison.Ordinal);
        output = cluster.Famfs(mount);
        Assert.Contains($"{path}: was kept without a daemon; the new one continues", output, StringComparison.Ordinal);
        Assert.Contains("is kept by famfs-keeper", output, StringComparison.Ordinal);
        Assert.Equal(4096, open.Read(new byte[8192]));

        // Detached, it ends for who has a file open.
        Kill(cluster, path, DaemonOf(cluster, path));
        (exit, output) = cluster.TryFamfs(here, "umount", "--force", path);
        Assert.True(exit == 0, output);
        Assert.Equal("", cluster.ListKept("a"));
        open.Position = 0;
        Assert.Throws<IOException>(() => open.Read(new byte[8192]));
        Assert.DoesNotContain(File.ReadLines("/proc/self/mounts"), m => m.Split(' ')[1] == path);
    }

    [Fact]
    public void An_idle_mount_without_a_daemon_is_unmounted_and_its_place_is_mounted_again()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        string address = cluster.StartMaster("a").Address;
        string path = cluster.NewDirectory("a");
        cluster.StartKeeper("a");
        string[] mount = ["mount", "--host-state", cluster.StateOf("a"), "--master", address, .. cluster.Devices, path];
        cluster.Famfs(mount);
        Kill(cluster, path, DaemonOf(cluster, path));
        cluster.Famfs("umount", "--host-state", cluster.StateOf("a"), path);
        Assert.Equal("", cluster.ListKept("a"));
        Assert.DoesNotContain(File.ReadLines("/proc/self/mounts"), m => m.Split(' ')[1] == path);
        string output = cluster.Famfs(mount);
        Assert.DoesNotContain("was kept", output, StringComparison.Ordinal);
        // The line of the one before ends when the next mount has seen that the kernel has it no more.
        Cluster.Await("the end of the former line", () => States(cluster).Order().SequenceEqual([MountState.Live, MountState.Ended]) || States(cluster).SequenceEqual([MountState.Live]));
        cluster.Famfs("umount", "--host-state", cluster.StateOf("a"), path);
        Cluster.Await("the end of the mount at the keeper", () => cluster.ListKept("a").Length == 0);
    }

    private static MountState[] States(Cluster cluster)
    {
        using Famfs.Core.Log.DevicePool pool = cluster.OpenPool();
        return [.. new MountLineTable(pool).ReadInUse().Select(e => e.Line!.State)];
    }

    private static int DaemonOf(Cluster cluster, string path)
    {
        string line = Assert.Single(cluster.ListKept("a").Split('\n'), l => l.EndsWith(" " + path, StringComparison.Ordinal));
        return int.Parse(line.Split(' ')[0], System.Globalization.CultureInfo.InvariantCulture);
    }

    private static void Kill(Cluster cluster, string path, int daemon)
    {
        // By a child, which closes the files that are open here as long as somebody answers: the kernel asks the daemon the first time that
        // one is closed, and a child that waits for that before it is another program holds up all that comes after it.
        using (Process kill = Process.Start("kill", ["-KILL", daemon.ToString(System.Globalization.CultureInfo.InvariantCulture)]))
            kill.WaitForExit();
        Cluster.Await("the end of the daemon", () => DaemonOf(cluster, path) == 0);
    }
}
