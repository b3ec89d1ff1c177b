using System.Globalization;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Text;
using Famfs.Core.Interop;
using Microsoft.Win32.SafeHandles;

namespace Famfs.Fuse.Keeper;

/// <summary>
/// The descriptor store of the service manager (sd_notify(3), sd_listen_fds(3)): what a service gives it comes back in
/// <c>$LISTEN_FDS</c> when the service is started anew. It belongs to one service, so to one mount, and the manager itself sees to
/// it that no two processes have it. Of a key nothing is told.
/// </summary>
internal sealed class ServiceStore : IDescriptorKeeper
{
    private const string FileName = "famfs";
    private const int FirstDescriptor = 3;

    private readonly Socket _socket;
    private SafeFileHandle[] _given;

    private ServiceStore(Socket socket, SafeFileHandle[] given) => (_socket, _given) = (socket, given);

    /// <summary>The store of the service that this process is; null where the manager offers none (<c>$FDSTORE</c>).</summary>
    /// <param name="variable">Gives a variable of the environment.</param>
    /// <param name="processId">Of this process.</param>
    public static ServiceStore? TryOpen(Func<string, string?> variable, int processId)
    {
        if (variable("NOTIFY_SOCKET") is not ['/' or '@', _, ..] said || !TryParse(variable("FDSTORE"), out int room) || room <= 0)
            return null;
        Socket socket = new(AddressFamily.Unix, SocketType.Dgram, ProtocolType.Unspecified);
        try
        {
            socket.Connect(new UnixDomainSocketEndPoint(said[0] == '@' ? "\0" + said[1..] : said));
            return new(socket, FindGiven(variable, processId));
        }
        catch (SocketException)
        {
            socket.Dispose();
            return null;
        }
    }

    /// <inheritdoc/>
    public string Name => "systemd";

    /// <inheritdoc/>
    public TakeOutcome TryTake(string key, out SafeFileHandle[] descriptors, out int holder)
    {
        (descriptors, _given, holder) = (_given, [], 0);
        return descriptors.Length > 0 ? TakeOutcome.Taken : TakeOutcome.Absent;
    }

    /// <summary>False: the manager has one process at a time, so none is busy.</summary>
    public bool AwaitLeft(TimeSpan patience) => false;

    // A file that is in the store already is not taken twice.
    /// <inheritdoc/>
    public void Keep(string key, IReadOnlyList<SafeHandle> descriptors)
    {
        foreach (SafeHandle[] part in descriptors.Chunk(DescriptorSocket.MaxDescriptors))
            Tell($"FDSTORE=1\nFDNAME={FileName}", part);
    }

    /// <inheritdoc/>
    public void Drop(string key) => Tell($"FDSTOREREMOVE=1\nFDNAME={FileName}", []);

    /// <inheritdoc/>
    public KeeperNews Poll() => KeeperNews.None;

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (SafeFileHandle unused in _given)
            unused.Dispose();
        _socket.Dispose();
    }

    private static SafeFileHandle[] FindGiven(Func<string, string?> variable, int processId)
    {
        if (!TryParse(variable("LISTEN_PID"), out int meant) || meant != processId || !TryParse(variable("LISTEN_FDS"), out int count) || count is <= 0 or > 1024)
            return [];
        string[] names = (variable("LISTEN_FDNAMES") ?? "").Split(':');
        List<SafeFileHandle> found = [];
        for (int i = 0; i < count; i++)
        {
            int descriptor = FirstDescriptor + i;
            DescriptorSocket.CloseOnExec(descriptor);
            if (i < names.Length && names[i] == FileName)
                found.Add(new SafeFileHandle(descriptor, ownsHandle: true));
        }
        return [.. found];
    }

    private void Tell(string text, IReadOnlyList<SafeHandle> descriptors)
    {
        try
        {
            DescriptorSocket.Send(_socket, Encoding.UTF8.GetBytes(text), descriptors);
        }
        catch (SocketException error)
        {
            throw new IOException($"the service manager's store takes nothing: {error.Message}", error);
        }
    }

    private static bool TryParse(string? text, out int number) => int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out number);
}
