using Microsoft.Extensions.Logging;

namespace Famfs.Master.Rpc;

/// <summary>Counts messages that could not be parsed and tells the operator, at most once in <see cref="Pause"/>: whoever
/// reaches the port can send them without end. Any thread.</summary>
internal sealed class MalformedMessages(ILogger<MalformedMessages> log, TimeProvider clock)
{
    /// <summary>Shortest time between two lines of the log (chosen).</summary>
    public static readonly TimeSpan Pause = TimeSpan.FromMinutes(1);

    private readonly Lock _gate = new();
    private long _total; // guarded by _gate
    private long? _saidTimestamp; // guarded by _gate

    /// <summary>Messages refused since the start.</summary>
    public long Total
    {
        get
        {
            lock (_gate)
                return _total;
        }
    }

    /// <summary>Counts one message of <paramref name="method"/>, refused for <paramref name="cause"/>.</summary>
    public void Count(string method, string cause)
    {
        long total;
        lock (_gate)
        {
            total = ++_total;
            if (_saidTimestamp is { } said && clock.GetElapsedTime(said) < Pause)
                return;
            _saidTimestamp = clock.GetTimestamp();
        }
        MasterLog.Malformed(log, method, cause, total);
    }
}
