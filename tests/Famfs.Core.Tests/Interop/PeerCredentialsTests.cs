using System.Net;
using System.Net.Sockets;
using Famfs.Core.Interop;
using Xunit;

namespace Famfs.Core.Tests.Interop;

public sealed class PeerCredentialsTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-peer-").FullName;

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Fact]
    public void The_kernel_says_which_process_connected()
    {
        using Socket listening = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        UnixDomainSocketEndPoint place = new(Path.Combine(_directory, "socket"));
        listening.Bind(place);
        listening.Listen();
        using Socket connecting = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        connecting.Connect(place);
        using Socket accepted = listening.Accept();
        (uint uid, uint gid) = OwnIds();
        Assert.Equal(new PeerCredentials(Environment.ProcessId, uid, gid), PeerCredentials.Read(accepted));
    }

    [Fact]
    public void A_socket_of_a_network_has_no_such_peer()
    {
        using Socket listening = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        listening.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        listening.Listen();
        using Socket connecting = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        connecting.Connect(listening.LocalEndPoint!);
        using Socket accepted = listening.Accept();
        // Linux answers for any socket, and for this one with ids that are nobody's.
        Assert.Equal(new PeerCredentials(0, uint.MaxValue, uint.MaxValue), PeerCredentials.Read(accepted));
    }

    private static (uint Uid, uint Gid) OwnIds()
    {
        uint Of(string field) => uint.Parse(File.ReadLines("/proc/self/status").First(l => l.StartsWith(field, StringComparison.Ordinal)).Split('\t')[2], System.Globalization.CultureInfo.InvariantCulture);
        return (Of("Uid:"), Of("Gid:"));
    }
}
