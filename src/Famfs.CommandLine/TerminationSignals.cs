using System.Runtime.InteropServices;

namespace Famfs.CommandLine;

/// <summary>
/// Being told to end (SIGTERM, SIGINT, SIGHUP), however often and at whatever moment, as one cancellation. From when it is made to
/// the end of the process no such signal ends the process by itself: what has to be left in order is left in order.
/// </summary>
public static class TerminationSignals
{
    private static readonly CancellationTokenSource s_told = new();

    // Kept for ever: taken back at the end, a late signal would again be what it was before.
    private static readonly List<PosixSignalRegistration> s_registrations = [];

    /// <summary>Begins to catch them; the token is cancelled by the first.</summary>
    public static CancellationToken Catch()
    {
        foreach (PosixSignal signal in (PosixSignal[])[PosixSignal.SIGTERM, PosixSignal.SIGINT, PosixSignal.SIGHUP])
            s_registrations.Add(PosixSignalRegistration.Create(signal, OnSignal));
        return s_told.Token;
    }

    private static void OnSignal(PosixSignalContext context)
    {
        context.Cancel = true;
        s_told.Cancel();
    }
}
