using Microsoft.Extensions.Logging;

namespace Famfs.Master.Rpc;

/// <summary>Counts calls that failed by a fault of the master, which their callers see as INTERNAL, and tells the operator rarely
/// (<see cref="RareEntries{TKind}"/>). A kind is a method and a type of exception. Any thread.</summary>
internal sealed class UnexpectedErrors(ILogger<UnexpectedErrors> log, TimeProvider clock)
{
    private readonly RareEntries<(string Method, Type Kind)> _kinds = new(clock);

    /// <summary>Counts one failure of <paramref name="method"/>.</summary>
    public void Count(string method, Exception error)
    {
        if (_kinds.Count((method, error.GetType()), out long total))
            MasterLog.Unexpected(log, method, error.GetType().Name, total, error);
    }
}
