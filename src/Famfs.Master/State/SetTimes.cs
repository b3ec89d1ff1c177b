using Famfs.Core;

namespace Famfs.Master.State;

/// <summary>
/// The records that gave a file its time of modification, the newest of them. A mount that says when a file was written says up to
/// where it has followed the log; what a later record has set came after the writing. For the thread that applies records.
/// </summary>
/// <param name="capacity">Most that are remembered (chosen: a copy of many files with their times, while a mount is a second late).</param>
internal sealed class SetTimes(int capacity = 16384)
{
    private readonly Dictionary<InodeNumber, LogSequence> _last = [];
    private readonly Queue<(InodeNumber Inode, LogSequence Sequence)> _order = new();

    /// <summary>All records after this one are known.</summary>
    public LogSequence KnownAfter { get; private set; }

    /// <summary>Remembers one; the oldest goes when there are too many.</summary>
    public void Add(InodeNumber inode, LogSequence sequence)
    {
        _last[inode] = sequence;
        _order.Enqueue((inode, sequence));
        if (_order.Count <= capacity)
            return;
        (InodeNumber oldest, KnownAfter) = _order.Dequeue();
        if (_last[oldest] == KnownAfter)
            _last.Remove(oldest);
    }

    /// <summary>Of records up to <paramref name="sequence"/> nothing is known: a snapshot stands for them.</summary>
    public void BeginAfter(LogSequence sequence) => KnownAfter = sequence;

    /// <summary>Whether a record after <paramref name="sequence"/>, which is not before <see cref="KnownAfter"/>, set the time of an
    /// inode.</summary>
    public bool IsSetAfter(InodeNumber inode, LogSequence sequence) => _last.TryGetValue(inode, out LogSequence last) && last.Value > sequence.Value;
}
