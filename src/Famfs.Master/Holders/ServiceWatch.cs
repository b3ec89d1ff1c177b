using Famfs.CommandLine;
using Microsoft.Extensions.Hosting;

namespace Famfs.Master.Holders;

/// <summary>Tells the service manager, and whoever asks by grpc.health.v1, that the master lives as long as its engine answers. An
/// engine that hangs holds every caller, and is replaced sooner by a new start than by anybody's patience.</summary>
/// <param name="service">The service manager.</param>
/// <param name="ask">Asks the engine; ends when that has answered.</param>
/// <param name="answers">Told whether the engine answers, at every change and in between.</param>
/// <param name="clock">The clock.</param>
internal sealed class ServiceWatch(ServiceNotifier service, Func<Task> ask, Action<bool> answers, TimeProvider clock) : BackgroundService
{
    /// <summary>What an engine gets to answer. Chosen: its turns take milliseconds, so this is no busy one.</summary>
    public static readonly TimeSpan Patience = TimeSpan.FromSeconds(10);

    // Where no service manager says how often. Chosen.
    private static readonly TimeSpan s_interval = TimeSpan.FromSeconds(2);

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using PeriodicTimer timer = new(service.WatchdogInterval ?? s_interval, clock);
        do
        {
            try
            {
                Task asked = ask();
                try
                {
                    await asked.WaitAsync(Patience, clock, stoppingToken).ConfigureAwait(false);
                }
                catch (TimeoutException)
                {
                    answers(false);
                    // Not asked once more: questions would heap up before an engine that hangs.
                    await asked.WaitAsync(stoppingToken).ConfigureAwait(false);
                }
                answers(true);
                if (service.WatchdogInterval is not null)
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
