using Microsoft.Extensions.Logging;

namespace Famfs.Master.Rpc;

/// <summary>Counts messages that could not be parsed and tells the operator rarely (<see cref="RareEntries{TKind}"/>): whoever reaches the
/// port can send them without end. They are one kind. Any thread.</summary>
internal sealed class MalformedMessages(ILogger<MalformedMessages> log, TimeProvider clock)
{
    private readonly RareEntries<Type> _kinds = new(clock);

    /// <summary>Counts one message of <paramref name="method"/>, refused for <paramref name="cause"/>.</summary>
    public void Count(string method, string cause)
    {
        if (_kinds.Count(typeof(MalformedMessages), out long total))
            MasterLog.Malformed(log, method, cause, total);
    }
}
