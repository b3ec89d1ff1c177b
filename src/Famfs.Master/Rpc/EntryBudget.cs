namespace Famfs.Master.Rpc;

/// <summary>
/// Lets through so many log entries in <see cref="RareEntries{TKind}.Pause"/> of what callers can make happen without end, and counts the
/// rest: for entries that differ, where <see cref="RareEntries{TKind}"/> would leave out what matters. Any thread.
/// </summary>
internal sealed class EntryBudget(TimeProvider clock, int most)
{
    private readonly Lock _gate = new();
    private long _since = clock.GetTimestamp(); // guarded by _gate
    private int _let; // guarded by _gate
    private long _leftOut; // guarded by _gate

    /// <summary>Whether an entry may be written. <paramref name="leftOut"/>: entries that were not, in the time before; told once.</summary>
    public bool May(out long leftOut)
    {
        lock (_gate)
        {
            leftOut = 0;
            if (clock.GetElapsedTime(_since) >= RareEntries<int>.Pause)
            {
                leftOut = _leftOut;
                (_since, _let, _leftOut) = (clock.GetTimestamp(), 0, 0);
            }
            if (_let < most)
            {
                _let++;
                return true;
            }
            _leftOut++;
            return false;
        }
    }
}
