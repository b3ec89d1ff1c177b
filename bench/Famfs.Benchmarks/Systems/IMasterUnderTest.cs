using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using Grpc.Net.Client;

namespace Famfs.Benchmarks.Systems;

/// <summary>A metadata server that can be asked to create names, acknowledged when durable by its own
/// standard.</summary>
internal interface IMasterUnderTest : IAsyncDisposable
{
    string Name { get; }

    /// <summary>Starts the server and the client's connection. Throws NotAvailableException when a piece is
    /// missing.</summary>
    Task StartAsync(CancellationToken cancellation);

    /// <summary>Makes a directory for the names of one round.</summary>
    Task MakeDirectoryAsync(string name, CancellationToken cancellation);

    /// <summary>Creates one name in one call. Number 0 is the connection that everything else goes over, each other
    /// number one of its own.</summary>
    Task CreateAsync(string path, int connection, CancellationToken cancellation);

    /// <summary>Creates names in the bulk form that the server has, until the time is over; returns how many
    /// were acknowledged and in how many seconds.</summary>
    Task<(long Count, double Seconds)> CreateInBulkAsync(string directory, double seconds, CancellationToken cancellation);
}

/// <summary>Clients of one server by number, each with a connection of its own, made when it is first asked for.</summary>
internal sealed class Connections<T>(string address, Func<GrpcChannel, T> makeClient) : IDisposable where T : class
{
    private readonly ConcurrentDictionary<int, (GrpcChannel Channel, T Client)> _made = new();

    public T this[int number] => _made.GetOrAdd(number, static (_, self) => self.Make(), this).Client;

    public void Dispose()
    {
        foreach ((GrpcChannel channel, _) in _made.Values)
            channel.Dispose();
    }

    private (GrpcChannel Channel, T Client) Make()
    {
        GrpcChannel channel = GrpcChannel.ForAddress(address);
        return (channel, makeClient(channel));
    }
}

internal static class LocalPort
{
    /// <summary>A TCP port of the loopback interface that was free just now.</summary>
    public static int Free()
    {
        using TcpListener listener = new(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }
}
