using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using Famfs.Client;
using Famfs.CommandLine;
using Famfs.Core;
using Famfs.Core.Interop;
using Famfs.V1;

namespace Famfs.Fuse.Keeper;

/// <summary><c>famfs-keeper</c>: this program by another name, as a daemon's keeper has to be there and has to be nothing else. It
/// starts nothing of what a daemon needs.</summary>
internal static class KeeperProgram
{
    /// <summary>Of the program.</summary>
    public const string Name = "famfs-keeper";

    private const int Failed = 1;

    // Chosen: a day.
    private const int MaxGiveUpSeconds = 86_400;

    // Chosen: above what the restart of a daemon takes on a loaded machine.
    private static readonly TimeSpan s_lastPatience = TimeSpan.FromSeconds(10);

    private const string Help = """
        famfs-keeper [--host-state DIR] [--give-up SECONDS]

        Keeps the descriptors of this host's famfs mounts, so that a mount outlives its daemon: the next famfsd at its place continues.
        Runs until it is told to end. A mount whose daemon runs outlives the keeper; one that has none is unmounted then.

          --host-state DIR  directory of this host's identity (default: $FAMFS_STATE_DIR or /var/lib/famfs)
          --give-up SECONDS unmounts what has had no daemon for so long (default: never)
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
            TimeSpan patience = default;
            for (int i = 0; i < args.Length; i++)
            {
                switch (args[i])
                {
                    case "--host-state" when i + 1 < args.Length:
                        directory = args[++i];
                        break;
                    case "--give-up" when i + 1 < args.Length:
                        if (!int.TryParse(args[++i], NumberStyles.None, CultureInfo.InvariantCulture, out int seconds) || seconds is < 1 or > MaxGiveUpSeconds)
                            throw new FamfsException(ErrorReason.BadRequest, $"--give-up {args[i]}: must be 1 to {MaxGiveUpSeconds} seconds");
                        patience = TimeSpan.FromSeconds(seconds);
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
            string path = KeeperConnection.PathIn(HostIdentity.StateDirectoryOf(directory, Environment.GetEnvironmentVariable(HostIdentity.StateDirectoryVariable)));
            if (list)
                return List(path);
            using KeeperServer server = KeeperServer.Start(path, line => Console.Out.WriteLine(line), Unmount, patience, s_lastPatience);
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

    // Its users get errors from then on. What is at that place and is no famfs is somebody else's.
    private static string? Unmount(string place)
    {
        if (!FamfsMount.FindAll().Any(m => m.MountPoint == place))
            return null;
        int errno = MountCalls.Unmount(place, lazily: true);
        return errno == 0 ? null : $"it cannot be unmounted: {Marshal.GetPInvokeErrorMessage(errno)}";
    }

    private static int List(string path)
    {
        using SocketKeeper keeper = SocketKeeper.TryConnect(path) ?? throw new FamfsException(ErrorReason.NotFound, $"{path}: no keeper of this user listens there") { Path = path };
        foreach (KeptFiles kept in keeper.List())
            Console.Out.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{kept.Holder} {kept.Count} {kept.Key}"));
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
