using System.Net.Sockets;
using Famfs.Core;
using Famfs.Master.Rpc;
using Famfs.TestSupport;
using Famfs.V1;
using Xunit;

namespace Famfs.Master.Tests.Rpc;

/// <summary>What a master does to a path that it is to listen on, and which addresses it refuses.</summary>
[System.Runtime.Versioning.SupportedOSPlatform("linux")]
public sealed class ListenAddressesTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-listen-").FullName;

    private string Place => Path.Combine(_directory, "place");

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Theory]
    [InlineData("file")]
    [InlineData("directory")]
    [InlineData("link to a file")]
    [InlineData("link to a dead socket")]
    [InlineData("link to nothing")]
    public void What_is_no_socket_is_named_and_stays(string kind)
    {
        string target = Path.Combine(_directory, "target");
        switch (kind)
        {
            case "file":
                File.WriteAllText(Place, "precious");
                break;
            case "directory":
                Directory.CreateDirectory(Place);
                break;
            case "link to a dead socket":
                LeaveSocket(target);
                File.CreateSymbolicLink(Place, target);
                break;
            default:
                if (kind == "link to a file")
                    File.WriteAllText(target, "precious");
                File.CreateSymbolicLink(Place, target);
                break;
        }

        foreach (Action act in (Action[])[() => ListenAddresses.Parse(Options("unix:" + Place)), () => ListenAddresses.RemoveDeadSocket("unix:" + Place)])
        {
            FamfsException error = Assert.Throws<FamfsException>(act);
            Assert.Equal(ErrorReason.Exists, error.Reason);
            Assert.Contains($"{Place} is there and is no socket", error.Message, StringComparison.Ordinal);
        }

        Assert.True(Path.Exists(Place) || new System.IO.FileInfo(Place).LinkTarget is not null);
        if (kind.EndsWith("file", StringComparison.Ordinal))
            Assert.Equal("precious", File.ReadAllText(Place));
    }

    [Fact]
    public void A_dead_socket_is_removed_and_one_that_is_listened_on_stays()
    {
        LeaveSocket(Place);
        ListenAddresses.Parse(Options("unix:" + Place));
        ListenAddresses.RemoveDeadSocket("unix:" + Place);
        Assert.False(Path.Exists(Place));

        using Socket living = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        living.Bind(new UnixDomainSocketEndPoint(Place));
        living.Listen();
        ListenAddresses.RemoveDeadSocket("unix:" + Place);
        Assert.True(Path.Exists(Place));
    }

    [Theory]
    [InlineData("http://127.0.0.1")]
    [InlineData("http://[::1]")]
    [InlineData("http://[::1]/")]
    [InlineData("http://*")]
    [InlineData("http://localhost:")]
    public void An_address_without_a_port_is_refused(string address)
    {
        FamfsException error = Assert.Throws<FamfsException>(() => ListenAddresses.Parse(Options(address)));
        Assert.Contains($"--listen {address}: must be http://IP:PORT", error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("http://127.0.0.1:80")]
    [InlineData("http://[::1]:7733/")]
    [InlineData("http://*:7733")]
    public void An_address_with_a_port_is_taken(string address) => Assert.Single(ListenAddresses.Parse(Options(address)));

    private static MasterOptions Options(string listen) => new() { Devices = [], Listen = [listen], Formats = TestFormats.All, SystemUuidFile = "", Service = new(_ => null, 0) };

    /// <summary>As a master that was killed leaves it: bound, and nobody behind it.</summary>
    private static void LeaveSocket(string path)
    {
        using Socket socket = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        socket.Bind(new UnixDomainSocketEndPoint(path));
        socket.Listen();
        // The runtime would remove the name of a socket that it bound.
        File.Move(path, path + ".kept");
        socket.Close();
        File.Move(path + ".kept", path);
    }
}
