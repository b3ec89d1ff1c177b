using System.Net.Sockets;
using System.Text;
using Famfs.Core.Interop;
using Famfs.Fuse.Keeper;
using Microsoft.Win32.SafeHandles;
using Xunit;

namespace Famfs.Fuse.Tests.Keeper;

/// <summary>The descriptor store of a service manager, which is played by the test.</summary>
public sealed class ServiceStoreTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-store-").FullName;
    private readonly Dictionary<string, string> _environment = [];
    private readonly Socket _manager = new(AddressFamily.Unix, SocketType.Dgram, ProtocolType.Unspecified) { ReceiveTimeout = 60_000 };

    public ServiceStoreTests()
    {
        string name = Path.Combine(_directory, "notify");
        _manager.Bind(new UnixDomainSocketEndPoint(name));
        _environment["NOTIFY_SOCKET"] = name;
        _environment["FDSTORE"] = "512";
    }

    public void Dispose()
    {
        _manager.Dispose();
        Directory.Delete(_directory, recursive: true);
    }

    [Fact]
    public void The_manager_is_given_every_file_by_one_name_and_told_to_drop_them_by_it()
    {
        using ServiceStore store = Open()!;
        using MemoryFile file = MemoryFile.Create("test", 4096);
        file.Write(0, "kept"u8);
        store.Keep("/a", [.. Enumerable.Repeat(file.Descriptor, DescriptorSocket.MaxDescriptors + 2)]);
        Assert.Equal(("FDSTORE=1\nFDNAME=famfs", DescriptorSocket.MaxDescriptors), Receive(out SafeFileHandle[] first));
        Assert.Equal(("FDSTORE=1\nFDNAME=famfs", 2), Receive(out SafeFileHandle[] rest));
        byte[] bytes = new byte[4];
        RandomAccess.Read(rest[1], bytes, 0);
        Assert.Equal("kept"u8.ToArray(), bytes);
        foreach (SafeFileHandle descriptor in (SafeFileHandle[])[.. first, .. rest])
            descriptor.Dispose();
        store.Drop("/a");
        Assert.Equal(("FDSTOREREMOVE=1\nFDNAME=famfs", 0), Receive(out _));
        Assert.Equal((TakeOutcome.Absent, KeeperNews.None), (store.TryTake("/a", out _, out _), store.Poll()));
    }

    [Theory]
    [InlineData("FDSTORE", null)]
    [InlineData("FDSTORE", "0")]
    [InlineData("FDSTORE", "many")]
    [InlineData("NOTIFY_SOCKET", null)]
    [InlineData("NOTIFY_SOCKET", "/nowhere/socket")]
    public void Where_the_manager_offers_none_there_is_none(string variable, string? value)
    {
        _environment.Remove(variable);
        if (value is not null)
            _environment[variable] = value;
        Assert.Null(Open());
    }

    [Fact]
    public void What_was_given_to_another_process_is_not_taken()
    {
        _environment["LISTEN_PID"] = "1";
        _environment["LISTEN_FDS"] = "2";
        _environment["LISTEN_FDNAMES"] = "famfs:famfs";
        using ServiceStore store = Open()!;
        Assert.Equal(TakeOutcome.Absent, store.TryTake("/a", out _, out _));
    }

    [Fact]
    public void A_manager_that_is_gone_is_an_error()
    {
        using ServiceStore store = Open()!;
        _manager.Dispose();
        using MemoryFile file = MemoryFile.Create("test", 4096);
        Assert.Throws<IOException>(() => store.Keep("/a", [file.Descriptor]));
    }

    private ServiceStore? Open() => ServiceStore.TryOpen(_environment.GetValueOrDefault, Environment.ProcessId);

    private (string Text, int Files) Receive(out SafeFileHandle[] descriptors)
    {
        byte[] bytes = new byte[4096];
        int length = DescriptorSocket.Receive(_manager, bytes, out descriptors);
        return (Encoding.UTF8.GetString(bytes, 0, length), descriptors.Length);
    }
}
