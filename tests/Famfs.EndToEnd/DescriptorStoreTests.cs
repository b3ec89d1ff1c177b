using System.Globalization;
using System.Runtime.Versioning;
using Xunit;

namespace Famfs.EndToEnd;

/// <summary>A mount that systemd's descriptor store keeps, and a daemon that is told to leave. A small program stands for systemd.</summary>
[SupportedOSPlatform("linux")]
public sealed class DescriptorStoreTests
{
    [Fact]
    public void A_service_that_is_killed_or_told_to_leave_gets_its_mount_back_from_the_manager()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        string address = cluster.StartMaster("a").Address;
        string path = cluster.NewDirectory("a");
        using ServerProcess manager = StartManager(cluster, path, address);
        manager.Await("registered in the host table");
        manager.Await("is kept");
        cluster.Famfs("creat", "--size", "8192", "--randomize", "--seed", "3", Path.Combine(path, "f"));
        string mount = MountOf(path);
        Assert.Equal("systemd", Attribute(path, "keeper"));
        using FileStream open = new(Path.Combine(path, "f"), FileMode.Open, FileAccess.Read, FileShare.ReadWrite, bufferSize: 0);
        byte[] content = new byte[8192];
        open.ReadExactly(content);

        int former = PidOf(manager);
        foreach ((string signal, string exit) in ((string, string)[])[("KILL", "exited -9"), ("USR2", "exited 0"), ("KILL", "exited -9")])
        {
            int heard = manager.Output.Length;
            Send(signal, former);
            Cluster.Await($"the next daemon after {signal}", () => manager.Output[heard..].Contains("took over", StringComparison.Ordinal) || manager.HasExited);
            Assert.Contains(exit, manager.Output[heard..], StringComparison.Ordinal);
            int next = PidOf(manager);
            Assert.NotEqual(former, next);
            former = next;
            byte[] again = new byte[8192];
            open.Position = 0;
            open.ReadExactly(again);
            Assert.Equal(content, again);
            Assert.Equal(mount, MountOf(path));
            // All of them, and none twice: the memory, the connection, the workers' ones.
            Assert.Equal(StoredAtFirst(manager), LastStored(manager));
        }

        open.Dispose();
        manager.CloseInput();
        Assert.Equal(0, manager.AwaitExit());
        Assert.Contains("files, 0 are left", manager.Output, StringComparison.Ordinal);
        Assert.EndsWith("exited 0", manager.Output.TrimEnd(), StringComparison.Ordinal);
        Assert.DoesNotContain(File.ReadLines("/proc/self/mounts"), m => m.Split(' ')[1] == path);
    }

    [Fact]
    public async Task A_daemon_that_is_told_to_leave_leaves_its_mount_to_the_next_one_and_without_a_keeper_unmounts()
    {
        using KeptHost host = KeptHost.Begin();
        (Cluster cluster, string path, ServerProcess daemon) = (host.Cluster, host.Path, host.Daemon);
        cluster.Famfs("creat", "--size", "4096", Path.Combine(path, "f"));
        using (FileStream open = new(Path.Combine(path, "f"), FileMode.Open, FileAccess.Read, FileShare.ReadWrite, bufferSize: 0))
        {
            daemon.Signal("USR2");
            Assert.Equal(0, daemon.AwaitExit());
            Assert.StartsWith("0 ", cluster.ListKept("a"), StringComparison.Ordinal);
            // A program waits for the next daemon.
            Task<int> reading = Task.Run(() => open.Read(new byte[8192]));
            Task<bool> looking = Task.Run(() => File.Exists(Path.Combine(path, "absent")));
            daemon = host.TakeOver();
            Assert.Equal((4096, false), (await reading, await looking));
        }
        daemon.Signal("TERM");
        Assert.Equal(0, daemon.AwaitExit());
        Assert.Equal("", cluster.ListKept("a"));

        daemon = cluster.LaunchDaemonAt("a", path, host.Address, "--keeper", "none");
        daemon.Await("registered in the host table");
        daemon.Signal("USR2");
        Assert.Equal(0, daemon.AwaitExit());
        Assert.DoesNotContain(File.ReadLines("/proc/self/mounts"), m => m.Split(' ')[1] == path);
    }

    private static ServerProcess StartManager(Cluster cluster, string path, string address) =>
        new("python3", ["-B", Path.Combine(AppContext.BaseDirectory, "Python", "manager.py"), "512", Path.Combine(cluster.NewDirectory("notify"), "socket"),
            Cluster.Program("Famfs.Fuse", "famfsd"), "--host-state", cluster.StateOf("a"), .. cluster.DeviceArguments(), "--master", address, path], redirectInput: true);

    private static int PidOf(ServerProcess manager) => Numbers(manager, "started ")[^1];

    private static int StoredAtFirst(ServerProcess manager) => Numbers(manager, "started ", word: 3)[1];

    private static int LastStored(ServerProcess manager) => Numbers(manager, "stores ")[^1];

    private static int[] Numbers(ServerProcess manager, string first, int word = 1) =>
        [.. manager.Output.Split('\n').Where(l => l.StartsWith(first, StringComparison.Ordinal)).Select(l => int.Parse(l.Split(' ')[word], CultureInfo.InvariantCulture))];

    private static string MountOf(string path) => Attribute(path, "mount");

    private static string Attribute(string path, string name) => Core.Interop.PathAttributes.Read(path, $"user.famfs.{name}")!;

    private static void Send(string signal, int process)
    {
        using System.Diagnostics.Process kill = System.Diagnostics.Process.Start("kill", [$"-{signal}", process.ToString(CultureInfo.InvariantCulture)]);
        kill.WaitForExit();
    }
}
