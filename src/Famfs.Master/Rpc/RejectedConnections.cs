using System.Diagnostics.Metrics;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace Famfs.Master.Rpc;

/// <summary>Tells the operator rarely of connections that the server rejected because it has too many: its own log has an entry for
/// each.</summary>
internal sealed class RejectedConnections(ILogger<RejectedConnections> log, TimeProvider clock) : IHostedService, IDisposable
{
    // The server's metrics (ASP.NET Core, built-in metrics).
    private const string Meter = "Microsoft.AspNetCore.Server.Kestrel";
    private const string Rejected = "kestrel.rejected_connections";

    private readonly MeterListener _listener = new();
    private readonly RareEntries<string> _entries = new(clock);

    /// <inheritdoc/>
    public Task StartAsync(CancellationToken cancellationToken)
    {
        _listener.InstrumentPublished = (instrument, listener) =>
        {
            if (instrument.Meter.Name == Meter && instrument.Name == Rejected)
                listener.EnableMeasurementEvents(instrument);
        };
        _listener.SetMeasurementEventCallback<long>((_, _, _, _) =>
        {
            if (_entries.Count(Rejected, out long total))
                MasterLog.Rejected(log, CallLimits.ConnectionsHere, total);
        });
        _listener.Start();
        return Task.CompletedTask;
    }

    /// <inheritdoc/>
    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    /// <inheritdoc/>
    public void Dispose() => _listener.Dispose();
}
