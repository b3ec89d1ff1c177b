using Famfs.CommandLine;
using Famfs.Master.Changes;
using Famfs.Master.Engine;
using Microsoft.Extensions.Hosting;

namespace Famfs.Master.Holders;

/// <summary>Tells the service manager that the master lives as long as its engine answers. An engine that hangs holds every caller,
/// and is replaced sooner by a new start than by anybody's patience.</summary>
internal sealed class ServiceWatch(ServiceNotifier service, MasterEngine engine, TimeProvider clock) : BackgroundService
{
    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        if (service.WatchdogInterval is not { } interval)
            return;
        using PeriodicTimer timer = new(interval, clock);
        do
        {
            try
            {
                await engine.QueryAsync(Caller.Master, state => state.Position).ConfigureAwait(false);
                service.Alive();
            }
            catch (Exception error) when (error is not OperationCanceledException)
            {
                // A busy engine is asked again; one that has ended takes the process with it.
            }
        }
        while (await timer.WaitForNextTickAsync(stoppingToken).ConfigureAwait(false));
    }
}
