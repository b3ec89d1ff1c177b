using System.Globalization;
using System.Net.Sockets;
using System.Text;

namespace Famfs.CommandLine;

/// <summary>
/// What a program tells the service manager that started it, by the protocol of sd_notify(3): one datagram to the socket of
/// <c>$NOTIFY_SOCKET</c>. Without one nothing is told. Any thread.
/// </summary>
public sealed class ServiceNotifier
{
    private readonly string? _socket;

    /// <summary>Of an environment, for the process <paramref name="processId"/>.</summary>
    public ServiceNotifier(Func<string, string?> variable, int processId)
    {
        // An abstract name begins with @ in the variable and with NUL in an address.
        if (variable("NOTIFY_SOCKET") is ['/' or '@', _, ..] said)
            _socket = said[0] == '@' ? "\0" + said[1..] : said;
        // Both as sd_watchdog_enabled(3) reads them.
        bool isOurs = variable("WATCHDOG_PID") is not { Length: > 0 } pid || pid == processId.ToString(CultureInfo.InvariantCulture);
        if (_socket is not null && isOurs && long.TryParse(variable("WATCHDOG_USEC"), NumberStyles.None, CultureInfo.InvariantCulture, out long microseconds) && microseconds > 0)
            WatchdogInterval = TimeSpan.FromMicroseconds(microseconds / 2.0);
    }

    /// <summary>That of this process.</summary>
    public static ServiceNotifier OfProcess() => new(Environment.GetEnvironmentVariable, Environment.ProcessId);

    /// <summary>How often <see cref="Alive"/> is to be told, half of what is waited for; null: not at all.</summary>
    public TimeSpan? WatchdogInterval { get; }

    /// <summary>The program does its work from now on.</summary>
    public void Ready(string status) => Tell("READY=1\n" + LineOf(status));

    /// <summary>One line for people.</summary>
    public void Status(string status) => Tell(LineOf(status));

    /// <summary>It was told to end, and ends.</summary>
    public void Stopping() => Tell("STOPPING=1\n" + LineOf("ending"));

    /// <summary>It goes on as it should.</summary>
    public void Alive() => Tell("WATCHDOG=1");

    private static string LineOf(string status) => "STATUS=" + status.ReplaceLineEndings(" ");

    private void Tell(string text)
    {
        if (_socket is null)
            return;
        try
        {
            using Socket socket = new(AddressFamily.Unix, SocketType.Dgram, ProtocolType.Unspecified);
            socket.SendTo(Encoding.UTF8.GetBytes(text), new UnixDomainSocketEndPoint(_socket));
        }
        catch (SocketException)
        {
            // The manager misses it, says so by a time-out of its own, and knows better than this program what to do then.
        }
    }
}
