using System.Net.Sockets;
using System.Runtime.Versioning;
using System.Text;
using Famfs.Core;
using Famfs.Core.Interop;
using Famfs.Fuse.Keeper;
using Famfs.V1;
using Microsoft.Win32.SafeHandles;
using Xunit;

namespace Famfs.Fuse.Tests.Keeper;

/// <summary>A keeper on a socket of its own, and those who use it.</summary>
[SupportedOSPlatform("linux")]
public sealed class KeeperServerTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-keeper-").FullName;
    private readonly CancellationTokenSource _end = new();
    private readonly List<string> _letGo = []; // by its thread
    private readonly KeeperServer _server;
    private readonly Thread _thread;

    public KeeperServerTests()
    {
        _server = KeeperServer.Start(SocketPath, static _ => { }, key =>
        {
            _letGo.Add(key);
            return null;
        });
        _thread = new(() => _server.Run(_end.Token));
        _thread.Start();
    }

    private string SocketPath => Path.Combine(_directory, "keeper", "socket");

    public void Dispose()
    {
        _end.Cancel();
        _thread.Join();
        _server.Dispose();
        _end.Dispose();
        Directory.Delete(_directory, recursive: true);
    }

    [Fact]
    public void What_one_process_put_the_next_one_gets_when_the_first_is_gone()
    {
        using MemoryFile file = MemoryFile.Create("test", 4096);
        file.Write(0, "kept"u8);
        SocketKeeper first = Connect();
        Assert.Equal(TakeOutcome.Absent, first.TryTake("/a", out _, out _));
        first.Keep("/a", [file.Descriptor, file.Descriptor]);
        using SocketKeeper second = Connect();
        Assert.Equal(TakeOutcome.Busy, second.TryTake("/a", out SafeFileHandle[] none, out int holder));
        Assert.Equal((0, Environment.ProcessId), (none.Length, holder));
        // The first hears that it is waited for, once.
        Await(() => first.Poll() == KeeperNews.Leave);
        Assert.Equal(KeeperNews.None, first.Poll());
        Assert.Throws<IOException>(() => second.Keep("/a", [file.Descriptor]));
        first.Dispose();
        Assert.Equal($"0 2 /a", AwaitList(second, list => list.StartsWith("0 ", StringComparison.Ordinal)));
        Assert.Equal(TakeOutcome.Taken, second.TryTake("/a", out SafeFileHandle[] taken, out _));
        Assert.Equal(2, taken.Length);
        using (MemoryFile again = MemoryFile.Adopt(taken[0]))
        {
            byte[] bytes = new byte[4];
            again.Read(0, bytes);
            Assert.Equal("kept"u8.ToArray(), bytes);
        }
        taken[1].Dispose();
        Assert.Equal($"{Environment.ProcessId} 2 /a", ListOf(second));
        second.Drop("/a");
        second.Drop("/a");
        Assert.Equal("", ListOf(second));
    }

    [Fact]
    public void Who_waits_is_told_when_the_holder_has_left()
    {
        using MemoryFile file = MemoryFile.Create("test", 4096);
        SocketKeeper first = Connect();
        first.Keep("/a", [file.Descriptor]);
        using SocketKeeper second = Connect();
        using SocketKeeper third = Connect();
        Assert.Equal(TakeOutcome.Busy, second.TryTake("/a", out _, out _));
        Assert.Equal(TakeOutcome.Busy, third.TryTake("/a", out _, out _));
        first.Keep("/a", [file.Descriptor]); // more of it: nobody has left
        Assert.False(second.AwaitLeft(TimeSpan.Zero));
        first.Dispose();
        Assert.True(second.AwaitLeft(TimeSpan.FromMinutes(2)));
        Assert.True(third.AwaitLeft(TimeSpan.FromMinutes(2)));
        Assert.Equal(TakeOutcome.Taken, second.TryTake("/a", out SafeFileHandle[] taken, out _));
        taken[0].Dispose();
        Assert.Equal(TakeOutcome.Busy, third.TryTake("/a", out _, out _));
        second.Drop("/a");
        Assert.True(third.AwaitLeft(TimeSpan.FromMinutes(2)));
        Assert.Equal(TakeOutcome.Absent, third.TryTake("/a", out _, out _));
    }

    [Fact]
    public void What_nobody_holds_is_let_go_and_closed_when_it_ends_and_the_rest_is_only_closed()
    {
        using MemoryFile file = MemoryFile.Create("test", 4096);
        using AnonymousPipe left = new();
        using AnonymousPipe held = new();
        SocketKeeper first = Connect();
        first.Keep("/left", [left.Write]);
        left.Write.Dispose();
        using SocketKeeper second = Connect();
        second.Keep("/held", [held.Write]);
        held.Write.Dispose();
        first.Dispose();
        AwaitList(second, list => list.StartsWith($"{Environment.ProcessId} 1 /held\n0 ", StringComparison.Ordinal));
        Assert.Empty(_letGo);
        _end.Cancel();
        _thread.Join();
        Assert.Equal(["/left"], _letGo);
        Await(left.IsAtEnd);
        Assert.False(held.IsAtEnd());
        _server.Dispose();
        Await(held.IsAtEnd);
    }

    [Fact]
    public void What_nobody_has_held_for_too_long_is_let_go()
    {
        string path = Path.Combine(_directory, "impatient", "socket");
        List<string> letGo = [];
        using CancellationTokenSource end = new();
        using KeeperServer impatient = KeeperServer.Start(path, static _ => { }, key =>
        {
            lock (letGo)
                letGo.Add(key);
            return null;
        }, TimeSpan.FromMilliseconds(1));
        Thread thread = new(() => impatient.Run(end.Token));
        thread.Start();
        using MemoryFile file = MemoryFile.Create("test", 4096);
        SocketKeeper first = SocketKeeper.TryConnect(path)!;
        using SocketKeeper second = SocketKeeper.TryConnect(path)!;
        first.Keep("/a", [file.Descriptor]);
        second.Keep("/b", [file.Descriptor]);
        first.Dispose();
        Assert.Equal($"{Environment.ProcessId} 1 /b", AwaitList(second, list => !list.Contains("/a", StringComparison.Ordinal)));
        lock (letGo)
            Assert.Equal(["/a"], letGo);
        end.Cancel();
        thread.Join();
    }

    [Fact]
    public void Told_to_end_it_waits_for_the_next_holder_of_what_was_left_just_now()
    {
        string path = Path.Combine(_directory, "ending", "socket");
        List<string> letGo = [];
        using CancellationTokenSource end = new();
        using KeeperServer ending = KeeperServer.Start(path, static _ => { }, key =>
        {
            letGo.Add(key);
            return null;
        }, lastPatience: TimeSpan.FromMinutes(2));
        Thread thread = new(() => ending.Run(end.Token));
        thread.Start();
        using MemoryFile file = MemoryFile.Create("test", 4096);
        SocketKeeper first = SocketKeeper.TryConnect(path)!;
        first.Keep("/a", [file.Descriptor]);
        first.Dispose();
        end.Cancel();
        using SocketKeeper second = SocketKeeper.TryConnect(path)!;
        Assert.Equal(TakeOutcome.Taken, second.TryTake("/a", out SafeFileHandle[] taken, out _));
        foreach (SafeFileHandle descriptor in taken)
            descriptor.Dispose();
        thread.Join();
        Assert.Empty(letGo);
    }

    [Fact]
    public void A_put_takes_the_place_of_what_was_there_and_its_files_are_closed()
    {
        using SocketKeeper keeper = Connect();
        using AnonymousPipe pipe = new();
        keeper.Keep("/a", [pipe.Write]);
        pipe.Write.Dispose();
        Assert.False(pipe.IsAtEnd());
        using MemoryFile file = MemoryFile.Create("test", 4096);
        keeper.Keep("/a", [file.Descriptor]);
        Await(pipe.IsAtEnd);
    }

    [Fact]
    public void Its_end_is_news_and_closes_what_it_has()
    {
        using SocketKeeper keeper = Connect();
        using AnonymousPipe pipe = new();
        keeper.Keep("/a", [pipe.Write]);
        pipe.Write.Dispose();
        Assert.Equal(KeeperNews.None, keeper.Poll());
        _end.Cancel();
        _thread.Join();
        _server.Dispose();
        Await(() => keeper.Poll() == KeeperNews.Lost);
        Await(pipe.IsAtEnd);
        Assert.Throws<IOException>(() => ListOf(keeper));
        Assert.Null(SocketKeeper.TryConnect(SocketPath));
    }

    [Fact]
    public void There_is_one_keeper_at_a_place_and_it_is_its_owners_alone()
    {
        FamfsException refusal = Assert.Throws<FamfsException>(() => KeeperServer.Start(SocketPath, static _ => { }, static _ => null));
        Assert.Equal(ErrorReason.Exists, refusal.Reason);
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute, File.GetUnixFileMode(Path.GetDirectoryName(SocketPath)!));
        using SocketKeeper keeper = Connect();
        Assert.Equal("", ListOf(keeper));
    }

    [Fact]
    public void The_place_of_one_that_has_died_is_taken()
    {
        string path = Path.Combine(_directory, "dead", "socket");
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        using (Socket dead = new(AddressFamily.Unix, SocketType.Seqpacket, ProtocolType.Unspecified))
            dead.Bind(new UnixDomainSocketEndPoint(path));
        File.WriteAllText(path + ".left", "");
        Assert.Null(SocketKeeper.TryConnect(path));
        using KeeperServer server = KeeperServer.Start(path, static _ => { }, static _ => null);
    }

    [Theory]
    [InlineData("2\nlist\n", "version 2")]
    [InlineData("1\nlist", "three parts")]
    [InlineData("1\nfetch\n/a", "put, get, drop and list")]
    [InlineData("1\nput\n/a", "nothing was given")]
    [InlineData("1\nget\n", "1 to 512 bytes")]
    [InlineData("1\nget\n/a\nb", "no line end")]
    public void A_message_that_is_none_is_refused_in_a_line_and_the_next_one_is_heard(string message, string words)
    {
        using Socket socket = ConnectSocket();
        KeeperMessage answer = Ask(socket, Encoding.UTF8.GetBytes(message));
        Assert.Equal(KeeperMessage.Refused, answer.Word);
        Assert.Contains(words, answer.Rest, StringComparison.Ordinal);
        Assert.Equal(new KeeperMessage(KeeperMessage.Ok, ""), Ask(socket, "1\nlist\n"u8));
    }

    [Fact]
    public void What_is_too_much_is_refused_and_none_of_its_files_stays_open()
    {
        using Socket socket = ConnectSocket();
        using AnonymousPipe pipe = new();
        byte[] message = new byte[KeeperMessage.MaxBytes + 1];
        Encoding.UTF8.GetBytes("1\nput\n/").CopyTo(message, 0);
        DescriptorSocket.Send(socket, message, [pipe.Write]);
        pipe.Write.Dispose();
        Assert.Equal(KeeperMessage.Refused, Receive(socket).Word);
        Await(pipe.IsAtEnd);
        Assert.Equal(KeeperMessage.Refused, Ask(socket, "1\nput\n"u8).Word);

        using SocketKeeper keeper = Connect();
        using MemoryFile file = MemoryFile.Create("test", 4096);
        for (int i = 0; i < KeeperServer.MaxEntries; i++)
            keeper.Keep($"/{i}", [file.Descriptor]);
        IOException refusal = Assert.Throws<IOException>(() => keeper.Keep("/more", [file.Descriptor]));
        Assert.Contains($"{KeeperServer.MaxEntries}", refusal.Message, StringComparison.Ordinal);
        keeper.Keep("/0", [.. Enumerable.Repeat(file.Descriptor, DescriptorSocket.MaxDescriptors)]);
        Assert.Throws<IOException>(() => keeper.Keep("/0", [.. Enumerable.Repeat(file.Descriptor, DescriptorSocket.MaxDescriptors + 1)]));
    }

    [Fact]
    public void There_are_so_many_connections_and_no_more()
    {
        List<Socket> sockets = [.. Enumerable.Range(0, KeeperServer.MaxConnections).Select(_ => ConnectSocket())];
        foreach (Socket socket in sockets)
            Assert.Equal(KeeperMessage.Ok, Ask(socket, "1\nlist\n"u8).Word);
        using (Socket more = ConnectSocket())
            Assert.Equal(KeeperMessage.Refused, Receive(more).Word);
        sockets[0].Dispose();
        Await(() =>
        {
            using Socket next = ConnectSocket();
            try
            {
                return Ask(next, "1\nlist\n"u8).Word == KeeperMessage.Ok;
            }
            catch (SocketException)
            {
                return false; // refused before it asked
            }
        });
        sockets.ForEach(s => s.Dispose());
    }

    private SocketKeeper Connect() => SocketKeeper.TryConnect(SocketPath)!;

    private Socket ConnectSocket()
    {
        Socket socket = new(AddressFamily.Unix, SocketType.Seqpacket, ProtocolType.Unspecified) { ReceiveTimeout = 60_000 };
        socket.Connect(new UnixDomainSocketEndPoint(SocketPath));
        return socket;
    }

    private static KeeperMessage Ask(Socket socket, ReadOnlySpan<byte> message)
    {
        DescriptorSocket.Send(socket, message, []);
        return Receive(socket);
    }

    private static KeeperMessage Receive(Socket socket)
    {
        byte[] bytes = new byte[KeeperMessage.MaxBytes];
        int length = DescriptorSocket.Receive(socket, bytes, out _);
        return length == 0 ? default : KeeperMessage.Parse(bytes.AsSpan(0, length));
    }

    private static string ListOf(SocketKeeper keeper) => string.Join('\n', keeper.List().Select(k => $"{k.Holder} {k.Count} {k.Key}"));

    private static string AwaitList(SocketKeeper keeper, Func<string, bool> condition)
    {
        string list = "";
        Await(() => condition(list = ListOf(keeper)));
        return list;
    }

    private static void Await(Func<bool> condition) => Assert.True(SpinWait.SpinUntil(condition, TimeSpan.FromMinutes(2)));

    /// <summary>Shows whether anybody still has its writing end.</summary>
    private sealed class AnonymousPipe : IDisposable
    {
        private readonly System.IO.Pipes.AnonymousPipeServerStream _read = new(System.IO.Pipes.PipeDirection.In);
        private readonly Task<int> _end;

        public AnonymousPipe()
        {
            Write = new(_read.ClientSafePipeHandle.DangerousGetHandle(), ownsHandle: true);
            _read.ClientSafePipeHandle.SetHandleAsInvalid();
            _end = Task.Run(() => _read.Read(new byte[1]));
        }

        public SafeFileHandle Write { get; }

        public bool IsAtEnd() => _end.Wait(0);

        public void Dispose()
        {
            Write.Dispose();
            _read.Dispose();
        }
    }
}
