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

    /// <summary>Id that frames of the place being written are seeded with.</summary>
    ulong SegmentId { get; }

    /// <summary>Seed of the frames' CRCs in the place being written.</summary>
    uint Seed => Crc32C.Seed(Position.FileSystem, Position.Generation, SegmentId);

    /// <summary>Records that still fit in the log; <see cref="long.MaxValue"/> where only space limits them.</summary>
    long RemainingRecords { get; }

    /// <summary>How the log grows; null: it does not, and bytes of frames do not limit it.</summary>
    ISegmentedLog? Segments { get; }

    /// <summary>Publishes a batch and checks that nobody has taken over; an empty one only checks. Throws
    /// NOT_MASTER when somebody has, MEDIA_CORRUPT when memory failed: then nothing of the batch may be
    /// acknowledged or shown to anybody.</summary>
    void Publish(RecordBatch batch);

    /// <summary>Checks that nobody has taken over; throws NOT_MASTER otherwise, now and ever after.</summary>
    void Check();

    /// <summary>Checks, then shows others that this master lives, as far as the format can.</summary>
    void Tick(ulong counter);
}
