namespace Famfs.Master.Rpc;

/// <summary>
/// Counts what callers can make happen without end, by kinds, and tells when the log is due an entry: at once for a kind that is new,
/// then at most once in <see cref="Pause"/>. Any thread.
/// </summary>
internal sealed class RareEntries<TKind>(TimeProvider clock) where TKind : notnull
{
    /// <summary>Shortest time between two entries of one kind (chosen).</summary>
    public static readonly TimeSpan Pause = TimeSpan.FromMinutes(1);

    private readonly Lock _gate = new();

    // Guarded by _gate. Its user's kinds are few.
    private readonly Dictionary<TKind, (long Total, long SaidTimestamp)> _kinds = [];

    /// <summary>Counts one. True: an entry is due. <paramref name="total"/>: of this kind since the start.</summary>
    public bool Count(TKind kind, out long total)
    {
        lock (_gate)
        {
            bool known = _kinds.TryGetValue(kind, out (long Total, long SaidTimestamp) before);
            total = before.Total + 1;
            bool due = !known || clock.GetElapsedTime(before.SaidTimestamp) >= Pause;
            _kinds[kind] = (total, due ? clock.GetTimestamp() : before.SaidTimestamp);
            return due;
        }
    }
}
