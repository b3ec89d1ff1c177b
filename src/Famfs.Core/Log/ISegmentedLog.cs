using Famfs.Core.Format;

namespace Famfs.Core.Log;

/// <summary>The part of a writer whose log grows by segments, which it reserves by records of its own.</summary>
public interface ISegmentedLog
{
    /// <summary>Segments of the generation.</summary>
    int SegmentCount { get; }

    /// <summary>Bytes of frames that still fit in the segment being written.</summary>
    long RemainingBytes { get; }

    /// <summary>Bytes of frames that the segment being written can hold in all.</summary>
    long SegmentCapacityBytes { get; }

    /// <summary>Space that earlier terms reserved and left empty, when the term began: the place for the next segment. Null:
    /// there is none worth it.</summary>
    SegmentSpace? Spare { get; }

    /// <summary>A segment of the log is in <paramref name="space"/>. The engine's thread.</summary>
    bool Uses(SegmentSpace space);

    /// <summary>Invalidates and reads the highest term that was claimed in a slot; 0: none. Null: that cannot be read. The engine's
    /// thread.</summary>
    Term? ReadClaim(int slot);

    /// <summary>Goes on in a reserved extent, which a published and checked record gave to this term (SAFETY S7).</summary>
    void Advance(SegmentSpace extent);

    /// <summary>Begins to write another generation, which nobody follows before <see cref="Enter"/>. Its snapshot stands for all that
    /// <paramref name="reader"/>, a reader of this log, has handed out: records of this term at the end. The engine's thread or another
    /// one, which then owns what is given.</summary>
    /// <param name="reader">Where the snapshot stands.</param>
    /// <param name="takeSpace">Gives space of at least so many bytes, which a published and checked record gave to this term
    /// (SAFETY S7). Called by whoever writes the generation.</param>
    INextGeneration BeginGeneration(ILogReader reader, Func<long, SegmentSpace> takeSpace);

    /// <summary>Goes on in a generation that is complete and has every record of this one: one step for all readers. The engine's
    /// thread.</summary>
    void Enter(INextGeneration next);
}

/// <summary>A generation of the log that is being written and nobody follows yet: a snapshot, then records as they are in the log.
/// One thread.</summary>
public interface INextGeneration : IFrameSink
{
    /// <summary>Its number.</summary>
    ulong Generation { get; }

    /// <summary>Last record that the snapshot stands for.</summary>
    LogSequence SnapshotLast { get; }

    /// <summary>Last record that is in it, as part of the snapshot or after that.</summary>
    LogSequence Last { get; }

    /// <summary>Its spaces so far.</summary>
    IReadOnlyList<SegmentSpace> Spaces { get; }

    /// <summary>Bytes of frames that still fit in the newest one.</summary>
    long RemainingBytes { get; }

    /// <summary>Frames that are in it, those of the snapshot among them.</summary>
    long FrameCount { get; }

    /// <summary>After <see cref="EndSnapshot"/>: where record <see cref="SnapshotLast"/> ends in it, so that a reader may begin there.</summary>
    (LogPosition Last, long Offset) AfterSnapshot { get; }

    /// <summary>The snapshot is whole: records follow.</summary>
    void EndSnapshot();

    /// <summary>Adds records that follow <see cref="Last"/>.</summary>
    void Add(in LogBlock records);

    /// <summary>Takes another space unless so many bytes still fit in the newest one, in which the log goes on.</summary>
    void RequireRoom(long bytes);

    /// <summary>Writes everything out and reads it again, from the memory. Throws MEDIA_CORRUPT where it is not what was written.
    /// More records may be added, and then this is called again.</summary>
    void Complete();
}

/// <summary>Space for a segment: a range of one device, bytes.</summary>
public readonly record struct SegmentSpace(DeviceIndex Device, long Offset, long LengthBytes);
