using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Reflection;
using Famfs.Client;
using Famfs.Core.Check;
using Famfs.Core.Dax;
using Famfs.Core.Log;
using Famfs.TestSupport;
using Xunit;

namespace Famfs.EndToEnd;

/// <summary>
/// Real processes on real shared memory: two device files in /dev/shm, masters, and one daemon per host, each
/// host with an identity of its own. Everything that was started is stopped, unmounted and removed at the end.
/// </summary>
internal sealed class Cluster : IDisposable
{
    /// <summary>Longest wait for anything (chosen: far above what a loaded machine takes).</summary>
    public static readonly TimeSpan Patience = TimeSpan.FromMinutes(3);

    /// <summary>Between two looks at a condition: who waits without it takes a processor from what it waits for (chosen).</summary>
    public static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(1);

    private const string PortRange = "/proc/sys/net/ipv4/ip_local_port_range";

    private static readonly HashSet<int> s_ports = []; // guards itself

    private readonly string _root = Directory.CreateTempSubdirectory("famfs-e2e-").FullName;
    private readonly List<ServerProcess> _processes = [];
    private readonly List<ServerProcess> _keepers = [];
    private readonly List<string> _furtherDevices = [];

    private Cluster(long deviceBytes)
    {
        foreach (int i in (ReadOnlySpan<int>)[0, 1])
        {
            string path = $"/dev/shm/{Path.GetFileName(_root)}.{i}";
            using (FileStream file = File.Create(path))
                file.SetLength(deviceBytes);
            Devices.Add(path);
        }
    }

    public List<string> Devices { get; } = [];

    /// <summary>Finds the devices of this cluster and no others.</summary>
    public string DevicePattern => $"/dev/shm/{Path.GetFileName(_root)}.*";

    /// <summary>Makes a formatted pool of two sparse devices, or skips the test where FUSE cannot be used. <paramref name="mkfs"/>:
    /// options, where STATE stands for the state of host a.</summary>
    public static Cluster Create(long deviceBytes, params string[] mkfs)
    {
        Assert.SkipUnless(File.Exists("/dev/fuse"), "/dev/fuse is not there");
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "mounting needs root");
        Assert.SkipUnless(Directory.Exists("/dev/shm"), "/dev/shm is not there");
        Cluster cluster = new(deviceBytes);
        try
        {
            cluster.Famfs(["mkfs", .. mkfs.Length > 0 ? mkfs.Select(m => m == "STATE" ? cluster.StateOf("a") : m) : ["--host-state", cluster.StateOf("a")], .. cluster.Devices]);
            return cluster;
        }
        catch
        {
            cluster.Dispose();
            throw;
        }
    }

    public string StateOf(string host) => Path.Combine(_root, "state-" + host);

    /// <summary>Starts a master as <paramref name="host"/>, and waits until it serves.</summary>
    public (ServerProcess Process, string Address) StartMaster(string host, params string[] more)
    {
        (ServerProcess process, string address) = LaunchMaster(host, more);
        process.Await("listening on");
        return (process, address);
    }

    /// <summary>Starts a master as <paramref name="host"/>, which may refuse.</summary>
    public (ServerProcess Process, string Address) LaunchMaster(string host, params string[] more) =>
        LaunchMasterWith(host, [.. DeviceArguments(), .. more]);

    /// <summary>Starts a master as <paramref name="host"/> with these arguments and an address.</summary>
    public (ServerProcess Process, string Address) LaunchMasterWith(string host, params string[] arguments)
    {
        string address = $"http://127.0.0.1:{FreePort()}";
        return (Launch("Famfs.Master", "famfs-master", ["--host-state", StateOf(host), "--listen", address, .. arguments]), address);
    }

    /// <summary>Starts a master as <paramref name="host"/> at an https address.</summary>
    public (ServerProcess Process, string Address) LaunchSecureMaster(string host, params string[] more)
    {
        string address = $"https://127.0.0.1:{FreePort()}";
        return (LaunchSecureMasterAt(host, address, more), address);
    }

    /// <summary>Starts a master as <paramref name="host"/> at an https address that is given.</summary>
    public ServerProcess LaunchSecureMasterAt(string host, string address, params string[] more) =>
        Launch("Famfs.Master", "famfs-master", ["--host-state", StateOf(host), .. DeviceArguments(), "--listen", address, .. more]);

    /// <summary>Starts a master as <paramref name="host"/> on an address that is given, and waits until it serves.</summary>
    public ServerProcess StartMasterAt(string host, string address, params string[] more)
    {
        ServerProcess process = Launch("Famfs.Master", "famfs-master", ["--host-state", StateOf(host), .. DeviceArguments(), "--listen", address, .. more]);
        process.Await("listening on");
        return process;
    }

    /// <summary>Mounts as <paramref name="host"/>, and waits until files can be opened.</summary>
    public (ServerProcess Process, string Path) Mount(string host, string master, params string[] more) =>
        MountWhen("registered in the host table", host, master, more);

    /// <summary>Mounts as <paramref name="host"/>, and waits until the daemon says <paramref name="ready"/>.</summary>
    public (ServerProcess Process, string Path) MountWhen(string ready, string host, string master, params string[] more)
    {
        (ServerProcess process, string path) = LaunchDaemon(host, [.. DeviceArguments(), "--master", master, .. more]);
        process.Await(ready);
        return (process, path);
    }

    /// <summary>Starts a daemon of <paramref name="host"/> on a mount point of that name.</summary>
    public (ServerProcess Process, string Path) LaunchMount(string host, string name, string master)
    {
        string path = NewDirectory(name);
        return (Launch("Famfs.Fuse", "famfsd", ["--host-state", StateOf(host), .. DeviceArguments(), "--master", master, path]), path);
    }

    /// <summary>Starts a daemon as <paramref name="host"/> with these arguments and no others.</summary>
    public (ServerProcess Process, string Path) LaunchDaemon(string host, string[] arguments)
    {
        string path = NewDirectory(host);
        return (Launch("Famfs.Fuse", "famfsd", ["--host-state", StateOf(host), .. arguments, path]), path);
    }

    /// <summary>Starts a daemon of <paramref name="host"/> on a mount point that is not touched: one may be there that nobody serves.</summary>
    public ServerProcess LaunchDaemonAt(string host, string path, string master, params string[] more) =>
        Launch("Famfs.Fuse", "famfsd", ["--host-state", StateOf(host), .. DeviceArguments(), "--master", master, .. more, path]);

    /// <summary>Starts the keeper of a host, and waits until it listens.</summary>
    public ServerProcess StartKeeper(string host)
    {
        ServerProcess keeper = new(Program("Famfs.Fuse", "famfsd"), ["--famfs-keeper", "--host-state", StateOf(host)]);
        _keepers.Add(keeper);
        keeper.Await("listening at");
        return keeper;
    }

    /// <summary>What the keeper of a host has, a line each.</summary>
    public string ListKept(string host)
    {
        using ServerProcess list = new(Program("Famfs.Fuse", "famfsd"), ["--famfs-keeper", "--list", "--host-state", StateOf(host)]);
        Assert.True(list.AwaitExit() == 0, list.Output);
        return list.Output.Trim();
    }

    /// <summary>The devices, for reading.</summary>
    public DevicePool OpenPool() => TestFormats.All.Open([.. Devices.Select(d => DaxDevice.Open(d, readOnly: true))]);

    /// <summary>An empty directory of this cluster.</summary>
    public string NewDirectory(string name) => Directory.CreateDirectory(Path.Combine(_root, name)).FullName;

    /// <summary>A further device file, of zeros, that no file system has.</summary>
    public string NewDevice(string name, long bytes)
    {
        string path = $"/dev/shm/{Path.GetFileName(_root)}.{name}";
        using (FileStream file = File.Create(path))
            file.SetLength(bytes);
        _furtherDevices.Add(path);
        return path;
    }

    /// <summary>Runs the famfs command; gives its output, and throws when it fails.</summary>
    public string Famfs(params string[] arguments)
    {
        (int exit, string output) = TryFamfs(arguments);
        Assert.True(exit == 0, $"famfs {string.Join(' ', arguments)} exited with {exit}: {output}");
        return output;
    }

    /// <summary>Runs the famfs command.</summary>
    public (int Exit, string Output) TryFamfs(params string[] arguments) => TryFamfs([], arguments);

    /// <summary>Runs the famfs command with more environment variables.</summary>
    public (int Exit, string Output) TryFamfs(Dictionary<string, string> environment, params string[] arguments)
    {
        using ServerProcess process = StartFamfs(environment, arguments);
        int exit = process.AwaitExit();
        return (exit, process.Output);
    }

    /// <summary>Starts the famfs command.</summary>
    public static ServerProcess StartFamfs(params string[] arguments) => StartFamfs([], arguments);

    private static ServerProcess StartFamfs(Dictionary<string, string> environment, string[] arguments)
    {
        // It finds the other two where an installed one finds them: beside itself or in PATH.
        string programs = string.Join(':', Path.GetDirectoryName(Program("Famfs.Fuse", "famfsd")), Path.GetDirectoryName(Program("Famfs.Master", "famfs-master")), Environment.GetEnvironmentVariable("PATH"));
        return new(Program("Famfs.Cli", "famfs"), arguments, new(environment) { ["PATH"] = programs });
    }

    /// <summary>Checks the memory itself.</summary>
    public CheckResult Check()
    {
        using DevicePool pool = TestFormats.All.Open([.. Devices.Select(d => DaxDevice.Open(d, readOnly: true))]);
        return FileSystemCheck.Run(pool, TimeProvider.System);
    }

    public static FamfsClient Connect(string address) => new(new FamfsClientOptions { Addresses = [address], Timeout = Patience });

    /// <summary>Waits for a condition; fails with <paramref name="what"/> when it does not come.</summary>
    public static void Await(string what, Func<bool> condition, TimeSpan? patience = null, Func<string>? instead = null)
    {
        long start = Stopwatch.GetTimestamp();
        while (!condition())
        {
            Assert.True(Stopwatch.GetElapsedTime(start) < (patience ?? Patience), $"{what} did not happen within {patience ?? Patience}{(instead is null ? "" : $": {instead()}")}");
            Thread.Sleep(Pause);
        }
    }

    public void Dispose()
    {
        // What nobody serves ends with its keeper.
        foreach (ServerProcess keeper in _keepers)
            keeper.Dispose();
        // Those too that should not have been made.
        foreach (string mount in File.ReadLines("/proc/self/mounts").Select(l => l.Split(' ')[1]).Where(m => m.StartsWith(_root + "/", StringComparison.Ordinal)).ToList())
            TryFamfs("umount", "--force", mount);
        foreach (ServerProcess process in _processes)
            process.Dispose();
        foreach (string device in Devices.Concat(_furtherDevices))
            File.Delete(device);
        Directory.Delete(_root, recursive: true);
    }

    /// <summary>Where the program is that is tested.</summary>
    public static string Program(string project, string name)
    {
        if (Environment.GetEnvironmentVariable("FAMFS_TEST_BIN") is { Length: > 0 } folder)
            return Path.Combine(folder, name);
        Dictionary<string, string?> facts = Assembly.GetExecutingAssembly().GetCustomAttributes<AssemblyMetadataAttribute>().ToDictionary(a => a.Key, a => a.Value);
        string path = Path.Combine(facts["RepositoryRoot"]!, "src", project, "bin", facts["Configuration"]!, "net10.0", name);
        Assert.True(File.Exists(path), $"{path} was not built");
        return path;
    }

    /// <summary>A port that stays free for this test while its master is down: below those that the system gives to whoever connects, and
    /// given to no other test of this process.</summary>
    private static int FreePort()
    {
        const int Lowest = 10_000;
        int end = File.Exists(PortRange) ? int.Parse(File.ReadAllText(PortRange).Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries)[0], CultureInfo.InvariantCulture) : 32_768;
        if (end <= Lowest + 1000)
            return ((IPEndPoint)Bind(0)!).Port;
        while (true)
        {
            int port = Random.Shared.Next(Lowest, end);
            lock (s_ports)
            {
                if (s_ports.Add(port) && Bind(port) is not null)
                    return port;
            }
        }
    }

    private static EndPoint? Bind(int port)
    {
        try
        {
            using TcpListener listener = new(IPAddress.Loopback, port);
            listener.Start();
            return listener.LocalEndpoint;
        }
        catch (SocketException)
        {
            return null;
        }
    }

    /// <summary>The devices, as each program takes them.</summary>
    public IEnumerable<string> DeviceArguments() => Devices.SelectMany(d => (string[])["--device", d]);

    public ServerProcess Launch(string project, string name, string[] arguments, Dictionary<string, string>? environment = null) =>
        LaunchBy([], project, name, arguments, environment);

    /// <summary>Starts one of the programs by another that becomes it: <paramref name="by"/>, a program and its arguments.</summary>
    public ServerProcess LaunchBy(string[] by, string project, string name, string[] arguments, Dictionary<string, string>? environment = null)
    {
        string[] command = [.. by, Program(project, name), .. arguments];
        ServerProcess process = new(command[0], command[1..], environment);
        _processes.Add(process);
        return process;
    }
}
