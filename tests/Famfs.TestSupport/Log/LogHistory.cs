using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.V1;
using Google.Protobuf;

namespace Famfs.TestSupport.Log;

/// <summary>A record as a reader was handed it.</summary>
public readonly record struct HistoryRecord(ulong Sequence, ulong Term, RecordType Type, string Payload)
{
    /// <inheritdoc/>
    public override string ToString() => $"{Sequence}@{Term} {Type} {Payload}";
}

/// <summary>What somebody has applied, in order, and what a master needs from it.</summary>
public sealed class LogHistory(Guid fileSystem)
{
    private readonly List<HistoryRecord> _records = [];
    private readonly List<(int Slot, SegmentSpace Space)> _spaces = [];

    /// <summary>Everything, oldest first.</summary>
    public IReadOnlyList<HistoryRecord> Records => _records;

    /// <summary>Offset on device 0 behind everything that the records give away.</summary>
    public long FreeOffset { get; private set; }

    /// <summary>Space for segments of a slot, oldest first.</summary>
    public List<SegmentSpace> SpacesOf(int slot) => [.. _spaces.Where(s => s.Slot == slot).Select(s => s.Space)];

    /// <summary>Appends a block.</summary>
    public void Apply(in LogBlock block) => Apply(block.Frames.Span, block.Generation, block.SegmentId);

    /// <summary>Appends whole frames.</summary>
    public void Apply(ReadOnlySpan<byte> frames, ulong generation, ulong segmentId)
    {
        uint seed = Crc32C.Seed(fileSystem, generation, segmentId);
        while (!frames.IsEmpty)
        {
            if (RecordFrame.Parse(frames, seed, out RecordFrame frame) != FrameVerdict.Good)
                throw new InvalidDataException("a block holds a frame that is not good");
            if ((frame.Flags & FrameFlags.Snapshot) == 0)
                Add(new(frame.Sequence.Value, frame.Term.Value, frame.Type, Convert.ToHexString(frame.Payload)));
            else if (frame.Type == RecordType.SnapshotRequest)
                AddOfSnapshot(SnapshotRequest.Parser.ParseFrom(frame.Payload));
            else if (frame.Type == RecordType.SnapshotState)
                AddSpaces(SnapshotState.Parser.ParseFrom(frame.Payload));
            frames = frames[frame.PaddedBytes..];
        }
    }

    /// <summary>Writes everything as the rest of a snapshot: each record in a frame. Gives the frames.</summary>
    public void WriteSnapshot(IFrameSink sink, Term term)
    {
        ulong number = 1;
        foreach (HistoryRecord record in _records)
        {
            Add(RecordType.SnapshotRequest, new SnapshotRequest
            {
                Sequence = record.Sequence,
                Term = record.Term,
                RecordType = (uint)record.Type,
                RequestId = ByteString.CopyFrom(Convert.FromHexString(record.Payload)),
            });
        }
        Add(RecordType.SnapshotEnd, new SnapshotEnd { Frames = number + 1 });

        void Add(RecordType type, IMessage message)
        {
            int bytes = message.CalculateSize();
            message.WriteTo(sink.Reserve(bytes)[..bytes]);
            sink.Commit(bytes, type, FrameFlags.Snapshot, new(number++), term);
        }
    }

    private void AddSpaces(SnapshotState r)
    {
        foreach (SnapshotSegment segment in r.Segments)
            Take((int)segment.Slot, segment.Extent);
    }

    private void AddOfSnapshot(SnapshotRequest r)
    {
        if (r.Sequence != (ulong)_records.Count + 1)
            throw new InvalidDataException($"a snapshot has record {r.Sequence} after {_records.Count} records");
        Add(new(r.Sequence, r.Term, (RecordType)r.RecordType, Convert.ToHexString(r.RequestId.Span)));
    }

    private void Add(HistoryRecord record)
    {
        _records.Add(record);
        if (record.Type == RecordType.MasterSlotGranted)
        {
            MasterSlotGranted granted = MasterSlotGranted.Parser.ParseFrom(Convert.FromHexString(record.Payload));
            Take((int)granted.Slot, granted.Segment);
        }
        else if (record.Type == RecordType.SegmentReserved)
        {
            Take(new Term(record.Term).Slot, SegmentReserved.Parser.ParseFrom(Convert.FromHexString(record.Payload)).Extent);
        }
    }

    private void Take(int slot, Extent extent)
    {
        _spaces.Add((slot, new(new((ushort)extent.Device), (long)extent.OffsetBytes, (long)extent.LengthBytes)));
        FreeOffset = Math.Max(FreeOffset, (long)(extent.OffsetBytes + extent.LengthBytes));
    }
}
