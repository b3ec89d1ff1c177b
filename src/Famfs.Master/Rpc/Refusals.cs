using Famfs.Core;
using Famfs.V1;
using Microsoft.Extensions.Logging;

namespace Famfs.Master.Rpc;

/// <summary>Counts calls that were refused, and tells the operator: each reason at most once in <see cref="Pause"/>, with how many there were.
/// Any thread.</summary>
internal sealed class Refusals(ILogger<Refusals> log, TimeProvider clock)
{
    /// <summary>Shortest time between two entries of one reason in the log (chosen).</summary>
    public static readonly TimeSpan Pause = TimeSpan.FromMinutes(1);

    private readonly Lock _gate = new();

    // Guarded by _gate. Bounded by the reasons that there are.
    private readonly Dictionary<ErrorReason, (long Total, long SaidTimestamp)> _reasons = [];

    /// <summary>Counts one refusal. What is no refusal (a caller that broke off, a fault of the master) is left to others.</summary>
    public void Count(string method, Exception error)
    {
        if (error is not FamfsException { Reason: not ErrorReason.Unspecified } refusal)
            return;
        long total;
        lock (_gate)
        {
            bool known = _reasons.TryGetValue(refusal.Reason, out (long Total, long SaidTimestamp) before);
            total = before.Total + 1;
            bool say = !known || clock.GetElapsedTime(before.SaidTimestamp) >= Pause;
            _reasons[refusal.Reason] = (total, say ? clock.GetTimestamp() : before.SaidTimestamp);
            if (!say)
                return;
        }
        MasterLog.Refused(log, method, refusal.Reason, refusal.Message, total);
    }
}
