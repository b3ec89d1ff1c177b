using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.V1;

namespace Famfs.Core.Log.Native;

/// <summary>
/// A generation that is being written. Nothing of it counts before an active copy names it, so the order of its stores does not
/// matter: all are fenced, and read again, before that.
/// </summary>
internal sealed class NextGeneration : INextGeneration
{
    /// <summary>Bytes that gather before they are stored (chosen: keeps them in the second-level cache).</summary>
    private const int BufferBytes = 512 * 1024;

    private const long LeastSpaceBytes = MediaLayout.SegmentHeaderBytes + (4L * MediaLayout.MaxRecordBytes);

    private readonly DevicePool _pool;
    private readonly Func<ulong> _nextId;
    private readonly Func<long, SegmentSpace> _takeSpace;
    private readonly Term _term;
    private readonly SnapshotBegin _begin;
    private readonly List<SegmentRef> _chain = [];
    private readonly List<SegmentSpace> _spaces = [];
    private readonly byte[] _buffer = new byte[BufferBytes];
    private int _filled;
    private uint _seed;
    private long _written; // log offset where the buffer goes
    private int _reserved;
    private readonly int _beginBytes;

    // Log offset up to which the memory was read again.
    private long _verified;

    public NextGeneration(DevicePool pool, LogReader reader, Term term, Func<ulong> nextId, Func<long, SegmentSpace> takeSpace)
    {
        LogPosition at = reader.Position;
        ActiveAnchor anchor = reader.Anchor ?? throw new InvalidOperationException("the reader has read nothing");
        if (anchor.Term != term)
            throw new FamfsException(ErrorReason.NotMaster, $"term {term} is over: the log is of term {anchor.Term}");
        if (at.Term != term || anchor.Generation != at.Generation)
            throw new InvalidOperationException($"the reader is at {at}, which is not of term {term}");
        _pool = pool;
        _term = term;
        _nextId = nextId;
        _takeSpace = takeSpace;
        Generation = at.Generation + 1;
        SnapshotLast = Last = at.Sequence;
        int newest = reader.Chain.ToList().FindLastIndex(s => s.AbsoluteStart < reader.Offset);
        SegmentRef last = reader.Chain[newest];
        _begin = new()
        {
            FileSystemUuid = at.FileSystem.ToByteString(),
            Generation = Generation,
            Sequence = at.Sequence.Next.Value,
            LastTerm = at.Term.Value,
            // Not known yet; of the same length as what is.
            EndOffset = RecordFrame.Alignment,
            Previous = new()
            {
                Generation = at.Generation,
                SegmentCount = (uint)newest + 1,
                Term = term.Value,
                StartTail = (ulong)Math.Min(anchor.StartTail, reader.Offset),
                StartSequence = anchor.StartSequence.Value,
                StartTerm = anchor.StartTerm.Value,
                Last = new()
                {
                    Id = last.Id,
                    Term = last.Term.Value,
                    Device = last.Device.Value,
                    OffsetBytes = (ulong)last.Offset,
                    LengthBytes = (ulong)last.LengthBytes,
                    AbsoluteStart = (ulong)last.AbsoluteStart,
                    EndOffset = (ulong)reader.Offset,
                },
            },
        };
        BeginSegment();
        _written += _beginBytes = GenerationOrigin.Format(at.FileSystem, pool.Primary.Generation, _chain[0].Id, _begin, term, out _).Length;
    }

    /// <inheritdoc/>
    public ulong Generation { get; }

    /// <inheritdoc/>
    public LogSequence SnapshotLast { get; }

    /// <inheritdoc/>
    public LogSequence Last { get; private set; }

    /// <inheritdoc/>
    public IReadOnlyList<SegmentSpace> Spaces => _spaces;

    /// <summary>Its segments; the last one is open.</summary>
    public IReadOnlyList<SegmentRef> Chain => _chain;

    /// <summary>Log offset after its last record.</summary>
    public long Tail => _written + _filled;

    /// <inheritdoc/>
    public long RemainingBytes => _chain[^1].AbsoluteEnd - Tail;

    /// <inheritdoc/>
    public long FrameCount { get; private set; } = 1; // the one that begins the snapshot

    /// <inheritdoc/>
    public (LogPosition Last, long Offset) AfterSnapshot => (new(FileSystem, Generation, SnapshotLast, new(_begin.LastTerm)), (long)_begin.EndOffset);

    private Guid FileSystem => _pool.Primary.FileSystem;

    /// <inheritdoc/>
    public Span<byte> Reserve(int maxBytes)
    {
        int frame = RecordBatch.FrameBytes(maxBytes);
        // What a record takes in the end is not known here.
        if (RemainingBytes < frame)
            BeginSegment();
        if (_filled + frame > _buffer.Length)
            Flush();
        _reserved = maxBytes;
        return _buffer.AsSpan(_filled + RecordFrame.HeaderBytes, maxBytes);
    }

    /// <inheritdoc/>
    public void Commit(int payloadBytes, RecordType type, FrameFlags flags, LogSequence sequence, Term term)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(payloadBytes, _reserved);
        int padded = RecordBatch.FrameBytes(payloadBytes);
        RecordFrame.Seal(_buffer.AsSpan(_filled, padded), payloadBytes, type, flags, sequence, term, _seed);
        _filled += padded;
        FrameCount++;
    }

    /// <inheritdoc/>
    public void EndSnapshot()
    {
        _begin.EndOffset = (ulong)Tail;
        byte[] frames = GenerationOrigin.Format(FileSystem, _pool.Primary.Generation, _chain[0].Id, _begin, _term, out _);
        if (frames.Length != _beginBytes)
            throw new InvalidOperationException($"the first frames take {frames.Length} bytes, not {_beginBytes}");
        Store(_chain[0], _chain[0].DeviceOffsetOf(0), frames);
    }

    /// <inheritdoc/>
    public void Add(in LogBlock records)
    {
        foreach (RecordFrame frame in records.Records)
        {
            if (frame.Sequence != Last.Next)
                throw new InvalidOperationException($"record {frame.Sequence} follows {Last}");
            frame.Payload.CopyTo(Reserve(frame.Payload.Length));
            Commit(frame.Payload.Length, frame.Type, frame.Flags, frame.Sequence, frame.Term);
            Last = frame.Sequence;
        }
    }

    /// <inheritdoc/>
    public void RequireRoom(long bytes)
    {
        if (RemainingBytes < bytes)
            BeginSegment(bytes + MediaLayout.SegmentHeaderBytes);
    }

    /// <inheritdoc/>
    public void Complete()
    {
        Flush();
        foreach (DeviceIndex device in _spaces.Select(s => s.Device).Distinct())
            _pool.Require(device).Fence();
        byte[] header = new byte[MediaLayout.SegmentHeaderBytes];
        for (int i = 0; i < _chain.Count; i++)
        {
            SegmentRef segment = _chain[i];
            long end = i + 1 < _chain.Count ? segment.AbsoluteEnd : Tail;
            if (end < _verified)
                continue;
            DaxDevice device = _pool.Require(segment.Device);
            device.Invalidate(segment.Offset, header.Length);
            device.Read(segment.Offset, header);
            if (!SegmentHeader.TryParse(header, out SegmentHeader? read) || read!.Generation != Generation || read.Segment.Id != segment.Id)
                throw Damaged(segment, "its header");
            if (i == 0 && _verified == 0 && !IsOriginWhole(segment))
                throw Damaged(segment, "what it begins with");
            long from = Math.Max(_verified, i == 0 ? _beginBytes : segment.AbsoluteStart);
            if (!FrameRun.IsWhole(_pool, FileSystem, Generation, segment, from, end))
                throw Damaged(segment, "a record");
        }
        _verified = Tail;
    }

    private bool IsOriginWhole(SegmentRef first)
    {
        try
        {
            return GenerationOrigin.Read(_pool, first, Generation).Begin.Equals(_begin);
        }
        catch (FamfsException error) when (error.Reason == ErrorReason.MediaCorrupt)
        {
            return false;
        }
    }

    private FamfsException Damaged(SegmentRef segment, string what) =>
        new(ErrorReason.MediaCorrupt, $"{_pool.Require(segment.Device).Path}: {what} in log segment {segment.Id:x} at {segment.Offset} is not what was written: the log stays in its generation");

    private void BeginSegment(long leastBytes = LeastSpaceBytes)
    {
        Flush();
        SegmentSpace space = _takeSpace(Math.Max(leastBytes, LeastSpaceBytes));
        SegmentRef? sealedSegment = null;
        if (_chain.Count > 0)
            _chain[^1] = (sealedSegment = _chain[^1] with { SealedBytes = Tail - _chain[^1].AbsoluteStart }).Value;
        // Records after the snapshot, if it is over, begin there; what a header says of the ones before them is their sequence.
        _chain.Add(LogWriter.WriteSegmentHeader(_pool, FileSystem, Generation, _nextId(), _term, space, Tail, Last, sealedSegment));
        _spaces.Add(space);
        _seed = Crc32C.Seed(FileSystem, Generation, _chain[^1].Id);
    }

    private void Flush()
    {
        if (_filled == 0)
            return;
        SegmentRef segment = _chain[^1];
        Store(segment, segment.DeviceOffsetOf(_written), _buffer.AsSpan(0, _filled));
        _written += _filled;
        _filled = 0;
    }

    private void Store(SegmentRef segment, long place, ReadOnlySpan<byte> bytes)
    {
        DaxDevice device = _pool.Require(segment.Device);
        device.Write(place, bytes);
        device.WriteBack(place, bytes.Length);
    }
}
