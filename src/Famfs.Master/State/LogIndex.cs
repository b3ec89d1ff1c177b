using Famfs.Core;

namespace Famfs.Master.State;

/// <summary>A sparse index from sequence to log offset, so that a subscriber resumes without reading the log
/// from its start. Guard: itself.</summary>
internal sealed class LogIndex
{
    /// <summary>Bytes of log between two marks (chosen: 16 bytes of index per 64 KiB of log).</summary>
    private const long Spacing = 64 * 1024;

    private readonly Lock _gate = new();
    private readonly List<(LogPosition Before, long Offset)> _marks = [];

    /// <summary>Offers a frame boundary: the record before it, and its offset. Offsets grow within a generation.</summary>
    public void Add(LogPosition before, long offset)
    {
        lock (_gate)
        {
            if (_marks.Count == 0 || before.Generation != _marks[^1].Before.Generation || offset >= _marks[^1].Offset + Spacing)
                _marks.Add((before, offset));
        }
    }

    /// <summary>The log goes on in a generation that has every record after <paramref name="before"/>, from <paramref name="offset"/>
    /// on.</summary>
    public void Enter(LogPosition before, long offset)
    {
        lock (_gate)
        {
            _marks.RemoveAll(mark => mark.Before.Sequence.Value >= before.Sequence.Value);
            _marks.Add((before, offset));
        }
    }

    /// <summary>Where records begin in the newest generation, bytes: after its snapshot, if it begins with one.</summary>
    public long FirstOffset
    {
        get
        {
            lock (_gate)
                return _marks.Find(mark => mark.Before.Generation == _marks[^1].Before.Generation).Offset;
        }
    }

    /// <summary>The last mark at or before <paramref name="sequence"/>.</summary>
    public (LogPosition Before, long Offset) Find(LogSequence sequence)
    {
        lock (_gate)
        {
            int low = 0;
            int high = _marks.Count - 1;
            while (low < high)
            {
                int middle = (low + high + 1) / 2;
                if (_marks[middle].Before.Sequence.Value <= sequence.Value)
                    low = middle;
                else
                    high = middle - 1;
            }
            return _marks[low];
        }
    }
}
