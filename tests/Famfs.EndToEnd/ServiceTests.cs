using System.Net.Sockets;
using System.Text;
using Xunit;

namespace Famfs.EndToEnd;

/// <summary>Master and daemon as a service manager starts them: by configuration files alone, telling how they fare.</summary>
[Trait("Programs", "Both")]
public sealed class ServiceTests
{
    [Fact]
    public void Programs_start_from_files_and_tell_when_they_serve_live_and_end()
    {
        using Cluster cluster = Cluster.Create(64L << 20, "--label", "a-label", "--host-state", "STATE");
        string directory = cluster.NewDirectory("conf"), mount = Path.Combine(cluster.NewDirectory("mounts"), "made", "pool"), socket = Path.Combine(cluster.NewDirectory("run"), "master.sock");
        File.WriteAllText(Path.Combine(directory, "a.conf"), $"""
            host-state = {cluster.StateOf("a")}
            [famfs-master]
            device = {cluster.DevicePattern}
            file-system = a-label
            listen = unix:{socket}
            [famfsd]
            device = {cluster.DevicePattern}
            master = unix:{socket}
            [famfsd pool]
            mountpoint = {mount}
            option = ro

            """);
        using NotifySocket manager = new(cluster.NewDirectory("notify"));
        Dictionary<string, string> environment = new() { ["FAMFS_CONFIG_DIR"] = directory, ["NOTIFY_SOCKET"] = manager.Path, ["WATCHDOG_USEC"] = "1000000", ["FAMFS_HOST_NAME"] = "a-node" };

        ServerProcess master = cluster.Launch("Famfs.Master", "famfs-master", [], environment);
        Assert.Contains("listening on unix:" + socket, manager.Await("READY=1"), StringComparison.Ordinal);
        manager.Await("WATCHDOG=1");
        ServerProcess absent = cluster.Launch("Famfs.Fuse", "famfsd", ["--instance", "pool"], environment);
        Assert.Equal(1, absent.AwaitExit());
        Assert.Contains($"{mount}: is not a directory", absent.Output, StringComparison.Ordinal);
        ServerProcess daemon = cluster.Launch("Famfs.Fuse", "famfsd", ["--replace-dead", "--make-mountpoint", "--instance", "pool"], environment);
        Assert.Contains($"{mount}: mounted", manager.Await("READY=1"), StringComparison.Ordinal);
        Assert.Contains($" {mount} fuse.famfs ro,", File.ReadAllText("/proc/self/mounts"), StringComparison.Ordinal);

        // In a container, this machine's name is none.
        Assert.Contains("a-node", cluster.Famfs("hosts", "--master", "unix:" + socket), StringComparison.Ordinal);

        // A daemon that ends without order is followed by one that takes its mount's place.
        daemon.Signal("KILL");
        daemon.AwaitExit();
        ServerProcess next = cluster.Launch("Famfs.Fuse", "famfsd", ["--replace-dead", "--instance", "pool"], environment);
        manager.Await("READY=1");
        next.Signal("TERM");
        manager.Await("STOPPING=1");
        Assert.Equal(0, next.AwaitExit());
        Assert.DoesNotContain($" {mount} ", File.ReadAllText("/proc/self/mounts"), StringComparison.Ordinal);
        master.Signal("TERM");
        manager.Await("STOPPING=1");
        Assert.Equal(0, master.AwaitExit());

        // What is wrong in a file is one line with its place, for all three alike.
        File.AppendAllText(Path.Combine(directory, "a.conf"), "[famfs-master]\nlisten = nonsense\n[famfsd other]\nworkers = 300\n");
        ServerProcess refused = cluster.Launch("Famfs.Master", "famfs-master", [], environment);
        Assert.Equal(1, refused.AwaitExit());
        Assert.Contains($"famfs-master: {directory}/a.conf:13: listen: ", refused.Output, StringComparison.Ordinal);
        (int exit, string output) = cluster.TryFamfs(environment, "config");
        Assert.Equal(2, exit);
        Assert.Contains($"{directory}/a.conf:13: listen: ", output, StringComparison.Ordinal);
        Assert.Contains($"{directory}/a.conf:15: workers: must be 0 to 256", output, StringComparison.Ordinal);
    }

    /// <summary>The socket of a service manager.</summary>
    private sealed class NotifySocket : IDisposable
    {
        private readonly Socket _socket = new(AddressFamily.Unix, SocketType.Dgram, ProtocolType.Unspecified) { ReceiveTimeout = (int)Cluster.Patience.TotalMilliseconds };

        public NotifySocket(string directory)
        {
            Path = System.IO.Path.Combine(directory, "socket");
            _socket.Bind(new UnixDomainSocketEndPoint(Path));
        }

        public string Path { get; }

        /// <summary>The next message with this line.</summary>
        public string Await(string line)
        {
            byte[] buffer = new byte[4096];
            while (true)
            {
                string message = Encoding.UTF8.GetString(buffer, 0, _socket.Receive(buffer));
                if (message.Split('\n').Contains(line))
                    return message;
            }
        }

        public void Dispose() => _socket.Dispose();
    }
}
