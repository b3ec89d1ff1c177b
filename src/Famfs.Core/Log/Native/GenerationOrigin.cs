using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.V1;
using Google.Protobuf;

namespace Famfs.Core.Log.Native;

/// <summary>
/// How a generation after that of mkfs begins: in its first segment, at log offset 0, a notice for readers that know no snapshots, then
/// the snapshot's first frame, which tells where the snapshot ends and where the generation before it does.
/// </summary>
/// <param name="Begin">The snapshot's first frame.</param>
/// <param name="Term">The term that wrote the snapshot.</param>
/// <param name="BeginOffset">Log offset of that frame.</param>
internal sealed record GenerationOrigin(SnapshotBegin Begin, Term Term, long BeginOffset)
{
    /// <summary>Last record that the snapshot stands for.</summary>
    public LogSequence Last => new(Begin.Sequence - 1);

    /// <summary>Log offset after the snapshot.</summary>
    public long EndOffset => (long)Begin.EndOffset;

    /// <summary>Formats both frames, for the start of a segment.</summary>
    public static byte[] Format(Guid fileSystem, ulong mkfsGeneration, ulong segmentId, SnapshotBegin begin, Term term, out int noticeBytes)
    {
        byte[] notice = new GenerationChanged { NewGeneration = begin.Generation, SnapshotSequence = begin.Sequence }.ToByteArray();
        byte[] payload = begin.ToByteArray();
        noticeBytes = RecordBatch.FrameBytes(notice.Length);
        byte[] frames = new byte[noticeBytes + RecordBatch.FrameBytes(payload.Length)];
        notice.CopyTo(frames, RecordFrame.HeaderBytes);
        payload.CopyTo(frames, noticeBytes + RecordFrame.HeaderBytes);
        // As the first record of a log that such a reader knows: it stops there, and says why.
        RecordFrame.Seal(frames.AsSpan(0, noticeBytes), notice.Length, RecordType.GenerationChanged, FrameFlags.None, new(1), term, Crc32C.Seed(fileSystem, mkfsGeneration, segmentId));
        RecordFrame.Seal(frames.AsSpan(noticeBytes), payload.Length, RecordType.SnapshotBegin, FrameFlags.Snapshot, default, term, Crc32C.Seed(fileSystem, begin.Generation, segmentId));
        return frames;
    }

    /// <summary>Invalidates and reads it. Throws MEDIA_CORRUPT.</summary>
    public static GenerationOrigin Read(DevicePool pool, SegmentRef first, ulong generation)
    {
        DaxDevice device = pool.Require(first.Device);
        byte[] bytes = new byte[Math.Min(2 * MediaLayout.MaxRecordBytes, first.CapacityBytes)];
        long place = first.DeviceOffsetOf(0);
        device.Invalidate(place, bytes.Length);
        device.Read(place, bytes);
        Guid fileSystem = pool.Primary.FileSystem;
        if (RecordFrame.Parse(bytes, Crc32C.Seed(fileSystem, pool.Primary.Generation, first.Id), out RecordFrame notice) != FrameVerdict.Good || notice.Type != RecordType.GenerationChanged)
            throw Damaged(device, first, place, $"the notice that begins generation {generation}");
        int at = notice.PaddedBytes;
        if (RecordFrame.Parse(bytes.AsSpan(at), Crc32C.Seed(fileSystem, generation, first.Id), out RecordFrame frame) != FrameVerdict.Good
            || frame.Type != RecordType.SnapshotBegin || frame.Flags != FrameFlags.Snapshot || frame.Sequence.Value != 0)
            throw Damaged(device, first, place + at, $"the first frame of the snapshot of generation {generation}");
        SnapshotBegin begin;
        try
        {
            begin = SnapshotBegin.Parser.ParseFrom(frame.Payload);
        }
        catch (InvalidProtocolBufferException)
        {
            throw Damaged(device, first, place + at, $"the first frame of the snapshot of generation {generation}");
        }
        if (begin.Generation != generation || begin.Sequence == 0 || begin.EndOffset > (ulong)TailWord.MaxOffset || begin.EndOffset % RecordFrame.Alignment != 0
            || begin.EndOffset <= (ulong)at || begin.Previous?.Last is null || begin.Previous.Generation >= generation)
            throw Damaged(device, first, place + at, $"the first frame of the snapshot of generation {generation}");
        return new(begin, frame.Term, at);
    }

    /// <summary>What an active copy said of the generation before, with the segment that was the newest then, sealed where the snapshot
    /// begins. Null: it says what cannot be.</summary>
    public ActiveAnchor? DescribePrevious()
    {
        PreviousGeneration r = Begin.Previous;
        SegmentReference s = r.Last;
        SegmentRef last = new(s.Id, new(s.Term), new((ushort)s.Device), (long)s.OffsetBytes, (long)s.LengthBytes, (long)s.AbsoluteStart, (long)(s.EndOffset - s.AbsoluteStart));
        if (s.Device >= MediaLayout.MaxDevices || !last.IsPlausible || r.SegmentCount == 0 || r.StartTail > s.EndOffset)
            return null;
        return new()
        {
            Counter = 1,
            FirstCounter = 1,
            Term = new(r.Term),
            Generation = r.Generation,
            Master = default,
            Host = default,
            StartTail = (long)r.StartTail,
            StartSequence = new(r.StartSequence),
            StartTerm = new(r.StartTerm),
            SegmentCount = r.SegmentCount,
            Chain = [last],
        };
    }

    private static FamfsException Damaged(DaxDevice device, SegmentRef first, long place, string what) =>
        new(ErrorReason.MediaCorrupt, $"{device.Path}: {what}, in log segment {first.Id:x} at offset {place}, is damaged") { Path = device.Path };
}
