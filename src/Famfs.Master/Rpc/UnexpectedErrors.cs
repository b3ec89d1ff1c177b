using Microsoft.Extensions.Logging;

namespace Famfs.Master.Rpc;

/// <summary>Counts calls that failed by a fault of the master, which their callers see as INTERNAL, and tells the operator: each
/// kind, which is a method and a type of exception, at most once in <see cref="Pause"/>. Any thread.</summary>
internal sealed class UnexpectedErrors(ILogger<UnexpectedErrors> log, TimeProvider clock)
{
    /// <summary>Shortest time between two entries of one kind in the log (chosen).</summary>
    public static readonly TimeSpan Pause = TimeSpan.FromMinutes(1);

    private readonly Lock _gate = new();

    // Guarded by _gate. Bounded by the methods and the types of exceptions that there are.
    private readonly Dictionary<(string Method, Type Kind), (long Total, long SaidTimestamp)> _kinds = [];

    /// <summary>Counts one failure of <paramref name="method"/>.</summary>
    public void Count(string method, Exception error)
    {
        (string, Type) kind = (method, error.GetType());
        long total;
        lock (_gate)
        {
            bool known = _kinds.TryGetValue(kind, out (long Total, long SaidTimestamp) before);
            total = before.Total + 1;
            bool say = !known || clock.GetElapsedTime(before.SaidTimestamp) >= Pause;
            _kinds[kind] = (total, say ? clock.GetTimestamp() : before.SaidTimestamp);
            if (!say)
                return;
        }
        MasterLog.Unexpected(log, method, error.GetType().Name, total, error);
    }
}
