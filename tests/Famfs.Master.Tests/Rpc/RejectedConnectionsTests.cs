using System.Net;
using System.Net.Sockets;
using Famfs.Master.Rpc;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Xunit;

namespace Famfs.Master.Tests.Rpc;

/// <summary>Connections beyond the limit of the server itself, which rejects them before anything of a master's sees them.</summary>
public sealed class RejectedConnectionsTests
{
    [Fact]
    public async Task An_operator_hears_of_them_at_once_and_then_once_a_minute_with_their_number()
    {
        Lines log = new();
        ManualClock clock = new();
        using RejectedConnections rejected = new(log, clock);
        await rejected.StartAsync(TestContext.Current.CancellationToken);
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder(new WebApplicationOptions { Args = ["--hostBuilder:reloadConfigOnChange=false"] });
        builder.Logging.ClearProviders();
        builder.WebHost.ConfigureKestrel(kestrel =>
        {
            kestrel.Limits.MaxConcurrentConnections = 1;
            kestrel.Listen(IPAddress.Loopback, 0, listen => listen.Protocols = HttpProtocols.Http2);
        });
        await using WebApplication server = builder.Build();
        await server.StartAsync(TestContext.Current.CancellationToken);
        IPEndPoint place = new(IPAddress.Loopback, new Uri(Assert.Single(server.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses)).Port);

        using Socket first = await ConnectAsync(place);
        for (int i = 0; i < 5; i++)
            await RequireRejectedAsync(place);
        string said = Assert.Single(log.Said);
        Assert.Equal($"a connection was rejected: there are {CallLimits.ConnectionsHere}, the limit (1 since the start)", said);

        clock.Passed += RareEntries<string>.Pause;
        await RequireRejectedAsync(place);
        Assert.Equal(2, log.Said.Count);
        Assert.EndsWith("the limit (6 since the start)", log.Said[1], StringComparison.Ordinal);

        // From its end on nobody listens.
        rejected.Dispose();
        clock.Passed += RareEntries<string>.Pause;
        await RequireRejectedAsync(place);
        Assert.Equal(2, log.Said.Count);
    }

    /// <summary>The server closes it. It has counted it before.</summary>
    private static async Task RequireRejectedAsync(IPEndPoint place)
    {
        using Socket socket = await ConnectAsync(place);
        try
        {
            Assert.Equal(0, await socket.ReceiveAsync(new byte[1], TestContext.Current.CancellationToken).AsTask().WaitAsync(TimeSpan.FromMinutes(2)));
        }
        catch (SocketException error)
        {
            Assert.Equal(SocketError.ConnectionReset, error.SocketErrorCode);
        }
    }

    private static async Task<Socket> ConnectAsync(IPEndPoint place)
    {
        Socket socket = new(SocketType.Stream, ProtocolType.Tcp);
        await socket.ConnectAsync(place, TestContext.Current.CancellationToken);
        return socket;
    }

    private sealed class Lines : ILogger<RejectedConnections>
    {
        private readonly List<string> _said = [];

        public IReadOnlyList<string> Said
        {
            get
            {
                lock (_said)
                    return [.. _said];
            }
        }

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
        {
            lock (_said)
                _said.Add(formatter(state, exception));
        }
    }

    private sealed class ManualClock : TimeProvider
    {
        public TimeSpan Passed { get; set; }

        public override long TimestampFrequency => TimeSpan.TicksPerSecond;

        public override long GetTimestamp() => Passed.Ticks;
    }
}
