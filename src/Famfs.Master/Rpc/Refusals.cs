using Famfs.Core;
using Famfs.V1;
using Microsoft.Extensions.Logging;

namespace Famfs.Master.Rpc;

/// <summary>Counts calls that were refused, by reason, and tells the operator rarely (<see cref="RareEntries{TKind}"/>), with how many there
/// were. Any thread.</summary>
internal sealed class Refusals(ILogger<Refusals> log, TimeProvider clock)
{
    private readonly RareEntries<ErrorReason> _reasons = new(clock);

    /// <summary>Counts one refusal. What is no refusal (a caller that broke off, a fault of the master) is left to others.</summary>
    public void Count(string method, Exception error)
    {
        if (error is FamfsException { Reason: not ErrorReason.Unspecified } refusal && _reasons.Count(refusal.Reason, out long total))
            MasterLog.Refused(log, method, refusal.Reason, refusal.Message, total);
    }
}
