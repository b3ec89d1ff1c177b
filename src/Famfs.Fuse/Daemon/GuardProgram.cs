using System.Globalization;
using Famfs.Core.Interop;
using Famfs.Fuse.Keeper;
using Famfs.Fuse.Session;

namespace Famfs.Fuse.Daemon;

/// <summary>
/// <c>famfsd --famfs-guard</c>: sees to it that a mount ends with its daemon (docs/decisions/0073). The kernel ends the connection
/// when the daemon's files are closed. A killed daemon keeps them open while one of its threads waits in the kernel for the lock of a
/// directory; who has that lock may wait for the daemon's answer. Then every program at the mount would wait for ever.
/// </summary>
internal static class GuardProgram
{
    /// <summary>First word of its arguments: then the process of the daemon, the number of the connection, the mount point.</summary>
    public const string Option = "--famfs-guard";

    /// <summary>What the daemon writes to its standard input when another process keeps the mount: it is not to be ended.</summary>
    public const byte Kept = (byte)'k';

    /// <summary>The contrary, and what holds at the start.</summary>
    public const byte Unkept = (byte)'u';

    private const int BadCall = 2;

    // Chosen: how long programs may hang, against a file of /proc that is read so often.
    private static readonly TimeSpan s_look = TimeSpan.FromSeconds(1);

    // Chosen: a killed process that nothing holds up has ended by then.
    private static readonly TimeSpan s_lookAgain = TimeSpan.FromMilliseconds(200);

    /// <summary>Runs until the daemon's files are closed; gives the exit status.</summary>
    public static int Run(string[] args)
    {
        if (args is not [var process, var connection, var place]
            || !int.TryParse(process, NumberStyles.None, CultureInfo.InvariantCulture, out int daemon)
            || !uint.TryParse(connection, NumberStyles.None, CultureInfo.InvariantCulture, out uint number))
        {
            return BadCall;
        }
        using ManualResetEventSlim closed = new();
        int state = Unkept;
        Thread reader = new(() =>
        {
            using Stream input = Console.OpenStandardInput();
            for (int next; (next = input.ReadByte()) >= 0;)
                Volatile.Write(ref state, next);
            closed.Set();
        }) { IsBackground = true };
        reader.Start();
        bool wasDying = false;
        bool said = false;
        while (!closed.Wait(wasDying ? s_lookAgain : s_look))
        {
            bool isDying = Volatile.Read(ref state) == Unkept && HolderProcess.IsDying(daemon);
            if (isDying && wasDying)
            {
                string? cause = End(number, place);
                if (!said)
                    Console.Error.WriteLine($"famfsd: the daemon of {place} was killed while the kernel waited for it; {cause ?? "the mount is dead now, and its programs get errors"}");
                said = true;
            }
            wasDying = isDying;
        }
        return 0;
    }

    /// <summary>Ends the connection; gives why it cannot, or null. Ending one that has ended is no fault.</summary>
    private static string? End(uint number, string place)
    {
        try
        {
            using DetachedMount connections = DetachedMount.Create("fusectl", []);
            using FileStream abort = new(Path.Combine(connections.Path, number.ToString(CultureInfo.InvariantCulture), "abort"), FileMode.Open, FileAccess.Write, FileShare.ReadWrite, 0);
            abort.Write("1"u8);
            return null;
        }
        catch (Exception error) when (error is DirectoryNotFoundException or FileNotFoundException)
        {
            return null;
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            // In a user namespace connections are not shown.
            try
            {
                if (FuseChannel.TryGetDevice(place, out uint major, out uint minor) && (major, minor) == (0, number))
                    _ = MountPoint.Abort(place);
                return null;
            }
            catch (IOException second)
            {
                return $"its connection {number} cannot be ended: {error.Message}; {second.Message}";
            }
        }
    }
}
