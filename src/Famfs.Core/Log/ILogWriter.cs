using Famfs.Core.Format;

namespace Famfs.Core.Log;

/// <summary>
/// Appends to the log of a file system as its one master, whatever the media format. Deposition is final, and so
/// is any failure once a store was made; either is thrown at every later call. One thread.
/// </summary>
public interface ILogWriter
{
    /// <summary>The term; 0 in a format without.</summary>
    Term Term { get; }

    /// <summary>Last record that is published and checked.</summary>
    LogPosition Position { get; }

    /// <summary>Log offset behind it, bytes.</summary>
    long Tail { get; }

    /// <summary>Id of the segment being written.</summary>
    ulong SegmentId { get; }

    /// <summary>Segments of the generation.</summary>
    int SegmentCount { get; }

    /// <summary>Seed of the frames' CRCs in the segment being written.</summary>
    uint Seed { get; }

    /// <summary>Bytes of frames that still fit in the segment being written.</summary>
    long RemainingBytes { get; }

    /// <summary>Bytes of frames the segment being written can hold in all; 0 when it is the only one there can be.</summary>
    long SegmentCapacityBytes { get; }

    /// <summary>Space that earlier terms reserved and left empty, when the term began: the place for the next segment. Null:
    /// there is none worth it.</summary>
    SegmentSpace? Spare { get; }

    /// <summary>Records that still fit in the log; <see cref="long.MaxValue"/> where only space limits them.</summary>
    long RemainingRecords { get; }

    /// <summary>Publishes a batch and checks that nobody has taken over; an empty one only checks. Throws
    /// NOT_MASTER when somebody has, MEDIA_CORRUPT when memory failed: then nothing of the batch may be
    /// acknowledged or shown to anybody.</summary>
    void Publish(RecordBatch batch);

    /// <summary>Checks that nobody has taken over; throws NOT_MASTER otherwise, now and ever after.</summary>
    void Check();

    /// <summary>Goes on in a reserved extent.</summary>
    void Advance(SegmentSpace extent);

    /// <summary>Shows others that this master lives.</summary>
    void Tick(ulong counter);
}
