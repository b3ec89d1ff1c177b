using System.Runtime.InteropServices;

namespace Famfs.CommandLine;

/// <summary>
/// Being told to end, by any signal whose plain meaning that is, however often and at whatever moment, as one cancellation. While this
/// object is kept alive no such signal ends the process by itself: what has to be left in order is left in order.
/// </summary>
/// <param name="Token">Cancelled by the first signal.</param>
/// <param name="Leave">Cancelled with it when that was SIGUSR2: what is served is to be left to another process, where that can be.</param>
/// <param name="Registrations">Kept to the end of the process: taken back before, a late signal would end it.</param>
public sealed record TerminationSignals(CancellationToken Token, CancellationToken Leave, IReadOnlyList<object> Registrations)
{
    // signal(7); the runtime has names for some.
    private const PosixSignal SIGUSR1 = (PosixSignal)10;
    private const PosixSignal SIGUSR2 = (PosixSignal)12;
    private const PosixSignal SIGALRM = (PosixSignal)14;

    /// <summary>Begins to catch them.</summary>
    public static TerminationSignals Catch()
    {
        CancellationTokenSource told = new();
        CancellationTokenSource leave = new();
        void OnSignal(PosixSignalContext context)
        {
            context.Cancel = true;
            if (context.Signal == SIGUSR2 && !told.IsCancellationRequested)
                leave.Cancel();
            told.Cancel();
        }
        PosixSignal[] signals = [PosixSignal.SIGTERM, PosixSignal.SIGINT, PosixSignal.SIGHUP, PosixSignal.SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM];
        return new(told.Token, leave.Token, [.. signals.Select(signal => PosixSignalRegistration.Create(signal, OnSignal))]);
    }
}
