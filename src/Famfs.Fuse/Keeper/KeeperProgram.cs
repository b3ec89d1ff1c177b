using System.Text;
using Famfs.CommandLine;
using Famfs.Core;
using Famfs.V1;

namespace Famfs.Fuse.Keeper;

/// <summary><c>famfs-keeper</c>: this program by another name, as a daemon's keeper has to be there and has to be nothing else. It
/// starts nothing of what a daemon needs.</summary>
internal static class KeeperProgram
{
    private const string Name = "famfs-keeper";
    private const int Failed = 1;

    private const string Help = """
        famfs-keeper [--host-state DIR]

        Keeps the descriptors of this host's famfs mounts, so that a mount outlives its daemon: the next famfsd at its place goes on
        with it. Runs until it is told to end. A mount whose daemon runs outlives the keeper; one that has none then ends with it.

          --host-state DIR  directory of this host's identity (default: $FAMFS_STATE_DIR or /var/lib/famfs)
          --list            shows what is kept: process (0: none), descriptors, mount point
        """;

    /// <summary>Whether the program was started by that name, or with it as its first word.</summary>
    public static bool IsCalled(string[] args, out string[] rest)
    {
        rest = args;
        if (Path.GetFileName(ReadOwnName()) == Name)
            return true;
        if (args is not [$"--{Name}", ..])
            return false;
        rest = args[1..];
        return true;
    }

    /// <summary>Runs until it is told to end; gives the exit status.</summary>
    public static int Run(string[] args, TerminationSignals signals)
    {
        try
        {
            string? directory = null;
            bool list = false;
            for (int i = 0; i < args.Length; i++)
            {
                switch (args[i])
                {
                    case "--host-state" when i + 1 < args.Length:
                        directory = args[++i];
                        break;
                    case "--list":
                        list = true;
                        break;
                    case "--help" or "-h":
                        Console.Out.WriteLine(Help);
                        return 0;
                    default:
                        throw new FamfsException(ErrorReason.BadRequest, $"{args[i]}: is not known here; --help tells what is");
                }
            }
            string path = SocketKeeper.PathIn(Path.GetFullPath(HostIdentity.StateDirectoryOf(directory, Environment.GetEnvironmentVariable(HostIdentity.StateDirectoryVariable))));
            if (list)
                return List(path);
            using KeeperServer server = KeeperServer.Start(path, line => Console.Out.WriteLine(line));
            ServiceNotifier.OfProcess().Ready("keeps mounts");
            Console.Out.WriteLine($"listening at {path}");
            server.Run(signals.Token);
            Console.Out.WriteLine($"ended; {server.EntryCount} mounts are not kept any more");
            GC.KeepAlive(signals);
            return 0;
        }
        catch (Exception error) when (error is FamfsException or IOException or UnauthorizedAccessException)
        {
            Console.Error.WriteLine($"{Name}: {error.Message}");
            return Failed;
        }
    }

    private static int List(string path)
    {
        using SocketKeeper keeper = SocketKeeper.TryConnect(path) ?? throw new FamfsException(ErrorReason.NotFound, $"{path}: no keeper of this user listens there") { Path = path };
        string kept = keeper.List();
        if (kept.Length > 0)
            Console.Out.WriteLine(kept);
        return 0;
    }

    private static string ReadOwnName()
    {
        try
        {
            string line = File.ReadAllText("/proc/self/cmdline", Encoding.UTF8);
            return line[..Math.Max(0, line.IndexOf('\0', StringComparison.Ordinal))];
        }
        catch (IOException)
        {
            return "";
        }
    }
}
