using Famfs.TestSupport.Log;

namespace Famfs.Simulation;

/// <summary>The one history of promise P1: grows with everything that anybody was entitled to rely on — a
/// reader was handed it, a master acknowledged it or became active behind it — and never changes.</summary>
internal sealed class SettledHistory
{
    private readonly List<HistoryRecord> _records = [];
    private readonly HashSet<ulong> _acknowledged = [];

    public IReadOnlyList<HistoryRecord> Records => _records;

    public int Acknowledged => _acknowledged.Count;

    /// <summary>Sequence of the last record that a caller was told of; 0: none.</summary>
    public ulong LastAcknowledged { get; private set; }

    /// <summary>Somebody relies on <paramref name="records"/>, which begin with sequence 1 or go on where their
    /// user had been before.</summary>
    public void Rely(string who, IEnumerable<HistoryRecord> records)
    {
        foreach (HistoryRecord record in records)
        {
            int index = (int)record.Sequence - 1;
            if (index > _records.Count)
                throw new InvalidOperationException($"P1 broken: {who} relies on {record}, but nobody on record {_records.Count + 1}");
            if (index == _records.Count)
                _records.Add(record);
            else if (_records[index] != record)
                throw new InvalidOperationException($"P1 broken: {who} relies on {record}, somebody before it relied on {_records[index]}");
        }
    }

    /// <summary>A master that is active has everything that anybody relied on when its claim was in memory.</summary>
    public static void RequireWhole(string who, int count, int reliedOn)
    {
        if (count < reliedOn)
            throw new InvalidOperationException($"P1 broken: {who} became active with {count} records, {reliedOn} were relied on when it claimed");
    }

    /// <summary>A caller was told that its change is made.</summary>
    public void Acknowledge(ulong sequence)
    {
        _acknowledged.Add(sequence);
        LastAcknowledged = Math.Max(LastAcknowledged, sequence);
    }
}
