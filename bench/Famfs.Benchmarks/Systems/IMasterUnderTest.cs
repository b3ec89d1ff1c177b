using System.Net;
using System.Net.Sockets;

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

    /// <summary>Creates one name in one call.</summary>
    Task CreateAsync(string path, CancellationToken cancellation);

    /// <summary>Creates names in the bulk form that the server has, until the time is over; returns how many
    /// were acknowledged and in how many seconds.</summary>
    Task<(long Count, double Seconds)> CreateInBulkAsync(string directory, double seconds, CancellationToken cancellation);
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
