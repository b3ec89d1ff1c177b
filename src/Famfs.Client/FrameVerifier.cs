using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.V1;

namespace Famfs.Client;

/// <summary>What is wrong with a stream of pushed records.</summary>
public enum SubscriptionFault
{
    /// <summary>A record is missing or comes twice.</summary>
    Gap,

    /// <summary>A frame's checksum or reserved bytes are wrong, or the bytes end inside it.</summary>
    Corrupt,

    /// <summary>A record was written by a lower term than the one before it.</summary>
    TermBackwards,

    /// <summary>The records are of another file system or generation.</summary>
    WrongHistory,

    /// <summary>A message that has no place there.</summary>
    OutOfPlace,
}

/// <summary>The stream must not be followed any further: the host resumes from its own position.</summary>
/// <param name="fault">What is wrong.</param>
/// <param name="position">The last good record.</param>
/// <param name="message">One line.</param>
public sealed class SubscriptionBrokenException(SubscriptionFault fault, LogPosition position, string message) : Exception(message)
{
    /// <summary>What is wrong.</summary>
    public SubscriptionFault Fault => fault;

    /// <summary>The last good record.</summary>
    public LogPosition Position => position;
}

/// <summary>
/// Checks pushed frames before anybody sees them: checksum seeded with the place they claim, dense sequence,
/// term that never falls (PROTOCOL, subscriber rule 1). One thread at a time.
/// </summary>
internal sealed class FrameVerifier
{
    private ulong _snapshotFrames;
    private bool _inSnapshot;

    public FrameVerifier(LogPosition position) => Position = position;

    /// <summary>The last good record.</summary>
    public LogPosition Position { get; private set; }

    /// <summary>Checks a message of records. Throws <see cref="SubscriptionBrokenException"/> and leaves
    /// <see cref="Position"/> where it was.</summary>
    public LogBlock Verify(Records records)
    {
        if (_inSnapshot)
            throw Broken(SubscriptionFault.OutOfPlace, "records came inside a snapshot");
        // A master that compacts the log goes on in another generation of it; who is late passes over to it at an earlier record, and
        // may pass several. That no record is left out, the sequence says.
        if (records.Generation < Position.Generation)
            throw Broken(SubscriptionFault.WrongHistory, $"records are of generation {records.Generation}");
        if (records.FirstSequence != Position.Sequence.Next.Value)
            throw Broken(SubscriptionFault.Gap, $"the next record sent is {records.FirstSequence}");
        ReadOnlySpan<byte> bytes = records.Frames.Span;
        uint seed = Crc32C.Seed(Position.FileSystem, records.Generation, records.SegmentId);
        LogPosition last = Position with { Generation = records.Generation };
        int at = 0;
        int count = 0;
        while (at < bytes.Length)
        {
            RecordFrame frame = RequireFrame(bytes, at, seed);
            if (frame.Flags.HasFlag(FrameFlags.Snapshot))
                throw Broken(SubscriptionFault.OutOfPlace, $"a {frame.Type} record does not belong behind {last}");
            if (frame.Sequence != last.Sequence.Next)
                throw Broken(SubscriptionFault.Gap, $"record {frame.Sequence} follows {last}");
            if (frame.Term < last.Term)
                throw Broken(SubscriptionFault.TermBackwards, $"record {frame.Sequence} of term {frame.Term} follows {last}");
            last = last with { Sequence = frame.Sequence, Term = frame.Term };
            at += frame.PaddedBytes;
            count++;
        }
        if (count == 0)
            throw Broken(SubscriptionFault.OutOfPlace, "a message of records holds none");
        Position = last;
        return new(records.Frames.Memory, count, new(records.FirstSequence), records.Generation, records.SegmentId, (long)records.EndOffset);
    }

    /// <summary>Checks a part of a snapshot; with the last one <see cref="Position"/> becomes the snapshot's.</summary>
    public LogBlock Verify(SnapshotChunk chunk)
    {
        ulong first = _inSnapshot ? _snapshotFrames : 0;
        ulong number = first;
        ReadOnlySpan<byte> bytes = chunk.Frames.Span;
        uint seed = Crc32C.Seed(Position.FileSystem, chunk.Generation, chunk.SegmentId);
        int at = 0;
        bool ended = false;
        while (at < bytes.Length)
        {
            RecordFrame frame = RequireFrame(bytes, at, seed);
            if (frame.Sequence.Value != number)
                throw Broken(SubscriptionFault.Gap, $"frame {frame.Sequence} of a snapshot stands where {number} is due");
            if (ended || !frame.Flags.HasFlag(FrameFlags.Snapshot) || (frame.Type == RecordType.SnapshotBegin) != (number == 0))
                throw Broken(SubscriptionFault.OutOfPlace, $"frame {number} of a snapshot is a {frame.Type}");
            ended = frame.Type == RecordType.SnapshotEnd;
            at += frame.PaddedBytes;
            number++;
        }
        if (ended != chunk.Last)
            throw Broken(SubscriptionFault.OutOfPlace, chunk.Last ? "a snapshot stops before its end" : "a snapshot goes on behind its end");
        int count = (int)(number - first);
        _snapshotFrames = number;
        _inSnapshot = !chunk.Last;
        if (chunk.Last)
        {
            if (chunk.Position is null || !chunk.Position.FileSystemUuid.TryToGuid(out Guid fileSystem) || fileSystem != Position.FileSystem)
                throw Broken(SubscriptionFault.WrongHistory, "a snapshot ends without a position in this file system");
            Position = new(fileSystem, chunk.Position.Generation, new(chunk.Position.Sequence), new(chunk.Position.Term));
        }
        return new(chunk.Frames.Memory, count, new(first), chunk.Generation, chunk.SegmentId, (long)chunk.EndOffset);
    }

    private RecordFrame RequireFrame(ReadOnlySpan<byte> bytes, int at, uint seed) =>
        RecordFrame.Parse(bytes[at..], seed, out RecordFrame frame) switch
        {
            FrameVerdict.Good => frame,
            FrameVerdict.Torn => throw Broken(SubscriptionFault.Corrupt, $"the message ends inside the frame at byte {at}"),
            _ => throw Broken(SubscriptionFault.Corrupt, $"the frame at byte {at} of the message is damaged"),
        };

    private SubscriptionBrokenException Broken(SubscriptionFault fault, string what) => new(fault, Position, $"subscription at {Position}: {what}");
}
