using Famfs.Core.Format;

namespace Famfs.Core.Log;

/// <summary>What a poll of the log found.</summary>
public enum PollVerdict
{
    /// <summary>Frames to apply.</summary>
    Records,

    /// <summary>Nothing new.</summary>
    UpToDate,

    /// <summary>A higher term is claimed and not active yet: what follows is not settled, so nothing may be
    /// applied until it is.</summary>
    TakeoverPending,

    /// <summary>What comes next looks damaged and is looked at again for a second before it is said; poll again soon.</summary>
    LookAgain,

    /// <summary>Records lie behind the end that the log tells, or that end cannot be read, and nobody makes it right: what was read
    /// may be served, and nothing written. It may end at any poll, when a master starts.</summary>
    TailLost,

    /// <summary>What this reader has applied is not in the history of the current master: resync.</summary>
    Diverged,
}

/// <summary>Frames of one segment that passed every check.</summary>
/// <param name="Frames">Whole frames; valid until the next poll.</param>
/// <param name="Count">Number of frames.</param>
/// <param name="FirstSequence">Sequence of the first.</param>
/// <param name="Generation">Generation of the log.</param>
/// <param name="SegmentId">Segment that seeds their CRCs.</param>
/// <param name="EndOffset">Log offset behind the last.</param>
public readonly record struct LogBlock(ReadOnlyMemory<byte> Frames, int Count, LogSequence FirstSequence, ulong Generation, ulong SegmentId, long EndOffset)
{
    /// <summary>The frames are of a snapshot, and number themselves from 0: <see cref="FirstSequence"/> does not count.</summary>
    public bool IsSnapshot { get; init; }

    /// <summary>The frames, one after another.</summary>
    public RecordFrames Records => new(Frames.Span);
}

/// <summary>
/// The records of a file system, read from its memory in order, whatever its media format: always the same
/// frames. What replays, checks or prints a log needs no more than this. One thread at a time.
/// </summary>
public interface ILogReader
{
    /// <summary>The last record handed out.</summary>
    LogPosition Position { get; }

    /// <summary>Log offset behind it, bytes of the log on the media.</summary>
    long Offset { get; }

    /// <summary>Takes over a place that was reached by other means (records pushed by the master).</summary>
    void Resume(LogPosition position, long offset);

    /// <summary>What the last <see cref="PollVerdict.TailLost"/> was about, for people.</summary>
    string TailDamage => "";

    /// <summary>The tail of the last <see cref="PollVerdict.TailLost"/> may be right, and what lies behind it a batch that was never
    /// published: its master died on the way.</summary>
    bool TailMayBeRight => false;

    /// <summary>Why the last verdict was <see cref="PollVerdict.Diverged"/>, for people; empty: not known.</summary>
    string Divergence => "";

    /// <summary>Gives the next records, if any are published and settled. Throws MEDIA_CORRUPT when memory is
    /// damaged and has been for a second, NOT_SUPPORTED_BY_FORMAT at a record of a kind that must be understood and is not.</summary>
    PollVerdict Poll(out LogBlock block);
}

/// <summary>Polling for those who have nothing else to do meanwhile.</summary>
public static class LogPolling
{
    /// <summary>Time between two looks at what looks damaged.</summary>
    public static readonly TimeSpan LookAgainInterval = TimeSpan.FromMilliseconds(20);

    /// <summary>Polls until the verdict is another one than <see cref="PollVerdict.LookAgain"/>: about a second at most. Errors as
    /// <see cref="ILogReader.Poll"/>.</summary>
    public static PollVerdict PollSettled(this ILogReader reader, out LogBlock block)
    {
        PollVerdict verdict;
        while ((verdict = reader.Poll(out block)) == PollVerdict.LookAgain)
            Thread.Sleep(LookAgainInterval);
        return verdict;
    }
}
