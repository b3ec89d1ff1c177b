using System.Net;
using System.Net.Sockets;
using Famfs.Master.Rpc;
using Famfs.TestSupport;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Xunit;

namespace Famfs.Master.Tests.Rpc;

/// <summary>Connections that say nothing, on a server with a master's endpoints.</summary>
public sealed class ConnectionGateTests : IDisposable
{
    private const int Limit = 20;
    private const int BufferBytes = 2 << 20;

    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-gate-").FullName;
    private readonly SettableTimers _clock = new();
    private readonly ConnectionGate _gate;
    private readonly BufferLimit _buffers = new(BufferBytes);

    public ConnectionGateTests() => _gate = new(_clock, Limit);

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task However_many_connect_and_say_nothing_whoever_speaks_is_served(bool unix)
    {
        await using WebApplication server = await ServeAsync(unix);
        List<Socket> silent = [];
        try
        {
            for (int i = 0; i < 3 * Limit; i++)
            {
                silent.Add(Connect(server, unix));
                // Each has been noticed before the next comes, so that the order is known: it is counted, or the oldest made
                // room for it.
                if (i < Limit)
                    await WaitAsync(() => _gate.SilentCount == i + 1);
                else
                    Assert.True(await IsClosedAsync(silent[i - Limit]));
            }
            Assert.All(silent[(2 * Limit)..], socket => Assert.False(socket.Poll(0, SelectMode.SelectRead)));
            Assert.Equal("served", await AskAsync(server, unix));
        }
        finally
        {
            silent.ForEach(socket => socket.Dispose());
        }
    }

    [Theory]
    [InlineData("")]
    [InlineData("PRI * HTTP/2.0\r\n")]
    public async Task A_connection_that_does_not_finish_saying_what_it_speaks_is_closed_in_time(string said)
    {
        await using WebApplication server = await ServeAsync(unix: false);
        using Socket socket = Connect(server, unix: false);
        await socket.SendAsync(System.Text.Encoding.ASCII.GetBytes(said), TestContext.Current.CancellationToken);
        await WaitAsync(() => _gate.SilentCount == 1 && _clock.Running == 1);
        Assert.False(socket.Poll(0, SelectMode.SelectRead));
        _clock.FireAll();
        Assert.True(await IsClosedAsync(socket));
        await WaitAsync(() => _gate.SilentCount == 0);
    }

    [Fact]
    public async Task A_connection_that_was_let_in_is_not_among_the_silent()
    {
        await using WebApplication server = await ServeAsync(unix: false);
        Assert.Equal("served", await AskAsync(server, unix: false));
        Assert.Equal((0, 0), (_gate.SilentCount, _clock.Running));
    }

    [Fact]
    public async Task One_caller_has_only_so_many_connections_and_gets_one_again_when_one_ends()
    {
        await using WebApplication server = await ServeAsync(unix: false);
        List<HttpClient> clients = [];
        try
        {
            for (int i = 0; i < Limit; i++)
            {
                clients.Add(Client(server, unix: false));
                Assert.Equal("served", await AskAsync(clients[^1]));
            }
            await Assert.ThrowsAnyAsync<HttpRequestException>(() => AskAsync(server, unix: false));
            Assert.All(await Task.WhenAll(clients.Select(AskAsync)), answer => Assert.Equal("served", answer));
            clients[0].Dispose();
            await WaitAsync(async () =>
            {
                try
                {
                    return await AskAsync(server, unix: false) == "served";
                }
                catch (HttpRequestException)
                {
                    return false;
                }
            });
        }
        finally
        {
            clients.ForEach(client => client.Dispose());
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task What_nobody_reads_takes_so_much_in_all_and_whoever_holds_most_is_closed(bool unix)
    {
        await using WebApplication server = await ServeAsync(unix, async context =>
        {
            if (context.Request.Method == HttpMethods.Post)
                await Task.Delay(Timeout.Infinite, context.RequestAborted);
            await context.Response.WriteAsync("served");
        });
        List<HttpClient> clients = [];
        List<Task> posts = [];
        try
        {
            // Each sends half a MiB, which nobody reads: the fifth and later ones are beyond the limit.
            for (int i = 0; i < 3; i++)
                Post();
            await WaitAsync(() => _buffers.Held >= 3 * (500 << 10));
            Assert.All(posts, post => Assert.False(post.IsCompleted));
            for (int i = 0; i < 7; i++)
                Post();
            await WaitAsync(() => posts.Count(post => post.IsCompleted) >= 5);
            // Others may just be asking for a block.
            await WaitAsync(() => _buffers.Held <= BufferBytes);
            Assert.Equal("served", await AskAsync(server, unix));
        }
        finally
        {
            clients.ForEach(client => client.Dispose());
        }
        foreach (Task post in posts)
            await Assert.ThrowsAnyAsync<Exception>(() => post);
        await WaitAsync(() => _buffers.Held == 0);

        void Post()
        {
            clients.Add(Client(server, unix));
            HttpRequestMessage request = new(HttpMethod.Post, "http://localhost/")
            {
                Version = HttpVersion.Version20,
                VersionPolicy = HttpVersionPolicy.RequestVersionExact,
                Content = new ByteArrayContent(new byte[512 << 10]),
            };
            posts.Add(clients[^1].SendAsync(request, TestContext.Current.CancellationToken));
        }
    }

    private async Task<WebApplication> ServeAsync(bool unix, RequestDelegate? answer = null)
    {
        MasterOptions options = new() { Devices = [], Listen = [unix ? $"unix:{_directory}/s" : "http://127.0.0.1:0"], Formats = TestFormats.All, SystemUuidFile = "", Service = new(_ => null, 0) };
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder(new WebApplicationOptions { Args = ["--hostBuilder:reloadConfigOnChange=false"] });
        builder.Logging.ClearProviders();
        builder.Services.AddSingleton(_gate).AddSingleton(new CallBudget(connections: Limit)).AddSingleton(_buffers);
        builder.WebHost.ConfigureKestrel(kestrel =>
        {
            kestrel.ConfigureEndpointDefaults(endpoint => endpoint.Protocols = HttpProtocols.Http2);
            foreach (Action<KestrelServerOptions> endpoint in ListenAddresses.Parse(options))
                endpoint(kestrel);
        });
        WebApplication server = builder.Build();
        server.Run(answer ?? (context => context.Response.WriteAsync("served")));
        await server.StartAsync(TestContext.Current.CancellationToken);
        return server;
    }

    private EndPoint EndPointOf(WebApplication server, bool unix) => unix
        ? new UnixDomainSocketEndPoint($"{_directory}/s")
        : new IPEndPoint(IPAddress.Loopback, new Uri(Assert.Single(server.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses)).Port);

    private Socket Connect(WebApplication server, bool unix)
    {
        Socket socket = unix ? new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified) : new(SocketType.Stream, ProtocolType.Tcp);
        socket.Connect(EndPointOf(server, unix));
        return socket;
    }

    private HttpClient Client(WebApplication server, bool unix) => new(new SocketsHttpHandler
    {
        ConnectCallback = (_, _) => ValueTask.FromResult<Stream>(new NetworkStream(Connect(server, unix), ownsSocket: true)),
    });

    private async Task<string> AskAsync(WebApplication server, bool unix)
    {
        using HttpClient client = Client(server, unix);
        return await AskAsync(client);
    }

    private static async Task<string> AskAsync(HttpClient client)
    {
        using HttpRequestMessage request = new(HttpMethod.Get, "http://localhost/") { Version = HttpVersion.Version20, VersionPolicy = HttpVersionPolicy.RequestVersionExact };
        using HttpResponseMessage response = await client.SendAsync(request, TestContext.Current.CancellationToken);
        return await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken);
    }

    private static async Task<bool> IsClosedAsync(Socket socket)
    {
        try
        {
            return await socket.ReceiveAsync(new byte[1], TestContext.Current.CancellationToken).AsTask().WaitAsync(TimeSpan.FromMinutes(2)) == 0;
        }
        catch (SocketException error) when (error.SocketErrorCode is SocketError.ConnectionReset)
        {
            return true;
        }
    }

    private static Task WaitAsync(Func<bool> condition) => WaitAsync(() => Task.FromResult(condition()));

    private static async Task WaitAsync(Func<Task<bool>> condition)
    {
        using CancellationTokenSource patience = new(TimeSpan.FromMinutes(2));
        while (!await condition())
            await Task.Delay(1, patience.Token);
    }

    /// <summary>Timers that run out when the test says so.</summary>
    private sealed class SettableTimers : TimeProvider
    {
        private readonly Lock _gate = new();
        private readonly List<Timer> _running = [];

        public int Running
        {
            get
            {
                lock (_gate)
                    return _running.Count;
            }
        }

        public void FireAll()
        {
            List<Timer> all;
            lock (_gate)
                all = [.. _running];
            all.ForEach(timer => timer.Fire());
        }

        public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
        {
            Timer timer = new(this, () => callback(state));
            lock (_gate)
                _running.Add(timer);
            return timer;
        }

        private sealed class Timer(SettableTimers owner, Action fire) : ITimer
        {
            public void Fire() => fire();

            public bool Change(TimeSpan dueTime, TimeSpan period) => true;

            public void Dispose()
            {
                lock (owner._gate)
                    owner._running.Remove(this);
            }

            public ValueTask DisposeAsync()
            {
                Dispose();
                return ValueTask.CompletedTask;
            }
        }
    }
}
