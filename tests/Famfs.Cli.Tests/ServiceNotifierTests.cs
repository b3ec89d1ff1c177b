using System.Net.Sockets;
using System.Text;
using Famfs.CommandLine;

namespace Famfs.Cli.Tests;

public sealed class ServiceNotifierTests
{
    private readonly Dictionary<string, string> _environment = [];

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void The_manager_hears_each_word_at_a_path_and_at_an_abstract_name(bool isAbstract)
    {
        string directory = Directory.CreateTempSubdirectory("famfs-notify-").FullName;
        try
        {
            string name = Path.Combine(directory, "socket");
            using Socket manager = new(AddressFamily.Unix, SocketType.Dgram, ProtocolType.Unspecified) { ReceiveTimeout = 60_000 };
            manager.Bind(new UnixDomainSocketEndPoint((isAbstract ? "\0" : "") + name));
            _environment["NOTIFY_SOCKET"] = (isAbstract ? "@" : "") + name;
            ServiceNotifier service = Of();

            service.Ready("serves\nwell");
            service.Alive();
            service.Status("so");
            service.Stopping();
            Assert.Equal(["READY=1\nSTATUS=serves well", "WATCHDOG=1", "STATUS=so", "STOPPING=1\nSTATUS=ending"], Enumerable.Range(0, 4).Select(_ => Receive(manager)));
        }
        finally
        {
            Directory.Delete(directory, recursive: true);
        }
    }

    [Fact]
    public void Without_a_manager_nothing_is_told_and_nothing_fails()
    {
        Of().Ready("x");
        _environment["NOTIFY_SOCKET"] = "/nowhere/socket";
        Of().Ready("x");
        _environment["NOTIFY_SOCKET"] = "relative";
        Of().Ready("x");
    }

    [Theory]
    [InlineData("60000000", null, 30_000)]
    [InlineData("60000000", "7", 30_000)]
    [InlineData("60000000", "8", null)]
    [InlineData("0", null, null)]
    [InlineData("x", null, null)]
    [InlineData(null, null, null)]
    public void Signs_of_life_come_twice_as_often_as_they_are_waited_for(string? microseconds, string? processId, int? expectedMs)
    {
        _environment["NOTIFY_SOCKET"] = "/x";
        if (microseconds is not null)
            _environment["WATCHDOG_USEC"] = microseconds;
        if (processId is not null)
            _environment["WATCHDOG_PID"] = processId;
        Assert.Equal(expectedMs, Of().WatchdogInterval?.TotalMilliseconds);
        _environment.Remove("NOTIFY_SOCKET");
        Assert.Null(Of().WatchdogInterval);
    }

    private ServiceNotifier Of() => new(_environment.GetValueOrDefault, processId: 7);

    private static string Receive(Socket socket)
    {
        byte[] buffer = new byte[1024];
        return Encoding.UTF8.GetString(buffer, 0, socket.Receive(buffer));
    }
}
