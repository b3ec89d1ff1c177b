using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.V1;

namespace Famfs.Core.Log.Native;

/// <summary>
/// Appends to the log as the master of one term. <see cref="Publish"/> is the commit order of the media:
/// record bytes, write back, fence, tail, write back, fence, check the claims; only when it returns may
/// anything be acknowledged (SAFETY S3). Deposition is final, and so is any failure once a store was made:
/// readers may have applied a batch whose publishing failed here, so nothing else may ever take its place.
/// It is remembered and thrown at every later call. One thread: the engine's.
/// </summary>
public sealed class LogWriter : ILogWriter, ISegmentedLog
{
    /// <summary>Counters that one statement takes: each active copy is in memory twice.</summary>
    private const int CopiesAtOnce = 2;

    private readonly DevicePool _pool;
    private readonly AnchorArea _anchors;
    private readonly List<SegmentRef> _chain;

    // The first of the two copies in memory, whose counter tails carry.
    private ActiveAnchor _anchor;
    private long _tail;
    private ulong _segmentsStarted;
    private FamfsException? _ended;

    internal LogWriter(DevicePool pool, AnchorArea anchors, ActiveAnchor anchor, IEnumerable<SegmentRef> chain, ulong segmentsStarted)
    {
        _pool = pool;
        _anchors = anchors;
        _anchor = anchor;
        _chain = [.. chain];
        _tail = anchor.StartTail;
        _segmentsStarted = segmentsStarted;
        Position = new(pool.Primary.FileSystem, anchor.Generation, anchor.StartSequence, anchor.StartTerm);
    }

    /// <summary>The term.</summary>
    public Term Term => _anchor.Term;

    /// <summary>Last record that is published and checked.</summary>
    public LogPosition Position { get; private set; }

    /// <summary>Log offset behind it, bytes.</summary>
    public long Tail => _tail;

    /// <summary>The segment being written.</summary>
    public SegmentRef Segment => _chain[^1];

    /// <summary>Id of the segment being written.</summary>
    public ulong SegmentId => _chain[^1].Id;

    /// <summary>Segments of the generation.</summary>
    public int SegmentCount => _chain.Count;

    /// <summary>Seed of the frames' CRCs in the segment being written.</summary>
    public uint Seed => Crc32C.Seed(Position.FileSystem, Position.Generation, SegmentId);

    /// <inheritdoc/>
    public SegmentSpace? Spare { get; internal init; }

    /// <summary>Bytes that still fit in the segment being written.</summary>
    public long RemainingBytes => _chain[^1].AbsoluteEnd - _tail;

    /// <summary>Bytes the segment being written can hold in all.</summary>
    public long SegmentCapacityBytes => _chain[^1].CapacityBytes;

    /// <inheritdoc/>
    public long RemainingRecords => long.MaxValue;

    /// <inheritdoc/>
    public ISegmentedLog Segments => this;

    /// <summary>Publishes a batch and checks that nobody has taken over; an empty one only checks. Throws
    /// NOT_MASTER when somebody has, MEDIA_CORRUPT when memory failed: then nothing of the batch may be
    /// acknowledged or shown to anybody.</summary>
    public void Publish(RecordBatch batch)
    {
        RequireMaster();
        if (batch.Count == 0)
        {
            Check();
            return;
        }
        if (batch.LengthBytes > RemainingBytes)
            throw new InvalidOperationException($"batch of {batch.LengthBytes} bytes, segment has {RemainingBytes}");
        if (!batch.Continues(Position.Sequence, Term, Seed))
            throw new InvalidOperationException($"batch was not started behind {Position} in segment {SegmentId:x}");
        SegmentRef segment = _chain[^1];
        DaxDevice device = _pool.Require(segment.Device);
        long place = segment.DeviceOffsetOf(_tail);
        long tail = _tail + batch.LengthBytes;
        EndOnFailure(() =>
        {
            device.Write(place, batch.Frames);
            device.WriteBack(place, batch.LengthBytes);
            // Readers on other hosts must find whole records below any tail they see.
            device.Fence();
            _anchors.WriteTail(_anchor, tail);
            Check();
        });
        _tail = tail;
        Position = Position with { Sequence = batch.Last, Term = Term };
    }

    /// <summary>Re-reads all claims (SAFETY S3); throws, now and ever after, NOT_MASTER unless the own claim is the highest, and
    /// MEDIA_CORRUPT when one cannot be read. A claim that is not there any more may have been hidden together with a higher one.</summary>
    public void Check()
    {
        RequireMaster();
        EndOnFailure(() =>
        {
            Term highest = _anchors.ReadHighestClaim();
            if (highest != Term)
                throw new FamfsException(ErrorReason.NotMaster, $"term {Term} is over: {(highest > Term ? $"term {highest} has taken over" : "its claim cannot be read any more")}");
        });
    }

    /// <summary>Goes on in a reserved extent. The extent was given to this term by a published and checked
    /// SegmentReserved record (SAFETY S7).</summary>
    public void Advance(SegmentSpace extent)
    {
        RequireMaster();
        SegmentRef sealedSegment = _chain[^1] with { SealedBytes = _tail - _chain[^1].AbsoluteStart };
        EndOnFailure(() =>
        {
            SegmentRef next = WriteSegmentHeader(_pool, Position.FileSystem, Position.Generation, NextSegmentId(), Term, extent, _tail, Position.Sequence, sealedSegment);
            _chain[^1] = sealedSegment;
            _chain.Add(next);
            // The anchor that names the segment precedes any tail inside it (SAFETY S6).
            _anchor = _anchor with
            {
                Counter = _anchor.Counter + CopiesAtOnce,
                SegmentCount = (uint)_chain.Count,
                Chain = NewestOf(_chain),
            };
            Announce();
        });
    }

    /// <summary>Checks, then stores the tail and moves the heartbeat (SAFETY S4, S25). Called by the engine's thread between batches,
    /// never after publishing has failed or ended: readers may have what the tail here does not cover. Every tenth looks at all
    /// anchors whole.</summary>
    public void Tick(ulong counter)
    {
        Check();
        EndOnFailure(() =>
        {
            if (counter % 10 == 0)
                _anchors.RequireSound();
            _anchors.WriteHeartbeat(_anchor, _tail, counter);
        });
    }

    /// <summary>Writes the active copies, then the tail that belongs to them, so that a tail of before is known to be lost; then
    /// checks.</summary>
    internal void Announce()
    {
        _anchors.WriteActive(_anchor);
        _anchors.WriteTail(_anchor, _tail);
        Check();
    }

    internal static SegmentRef WriteSegmentHeader(DevicePool pool, Guid fileSystem, ulong generation, ulong id, Term term, SegmentSpace extent, long absoluteStart, LogSequence previous, SegmentRef? predecessor)
    {
        SegmentRef segment = new(id, term, extent.Device, extent.Offset, extent.LengthBytes, absoluteStart, SegmentRef.Open);
        byte[] block = new byte[MediaLayout.SegmentHeaderBytes];
        new SegmentHeader(fileSystem, generation, segment, previous, predecessor).Format(block);
        DaxDevice device = pool.Require(extent.Device);
        device.Write(extent.Offset, block);
        device.WriteBack(extent.Offset, block.Length);
        device.Fence();
        return segment;
    }

    internal static SegmentRef[] NewestOf(List<SegmentRef> chain) =>
        [.. chain[Math.Max(0, chain.Count - MediaLayout.MaxChainInAnchor)..]];

    /// <inheritdoc/>
    public bool Uses(SegmentSpace space) =>
        _chain.Exists(s => s.Device == space.Device && s.Offset < space.Offset + space.LengthBytes && space.Offset < s.Offset + s.LengthBytes);

    /// <inheritdoc/>
    public Term? ReadClaim(int slot)
    {
        SlotState state = _anchors.ReadSlot(slot);
        return state.Unreadable ? null : state.HighestTerm;
    }

    /// <inheritdoc/>
    public INextGeneration BeginGeneration(ILogReader reader, Func<long, SegmentSpace> takeSpace)
    {
        RequireMaster();
        return new NextGeneration(_pool, (LogReader)reader, Term, NextSegmentId, takeSpace);
    }

    /// <inheritdoc/>
    public void Enter(INextGeneration next)
    {
        RequireMaster();
        NextGeneration generation = (NextGeneration)next;
        if (generation.Last != Position.Sequence || generation.Generation != Position.Generation + 1)
            throw new InvalidOperationException($"generation {generation.Generation} ends with record {generation.Last}, the log with {Position}");
        EndOnFailure(() =>
        {
            _chain.Clear();
            _chain.AddRange(generation.Chain);
            _tail = generation.Tail;
            Position = Position with { Generation = generation.Generation };
            // As a term that begins here: a tail word of before, whose offset is one of the generation before, does not count.
            ulong counter = _anchor.Counter + CopiesAtOnce;
            _anchor = _anchor with
            {
                Counter = counter,
                FirstCounter = counter,
                Generation = generation.Generation,
                StartTail = _tail,
                StartSequence = Position.Sequence,
                StartTerm = Position.Term,
                SegmentCount = (uint)_chain.Count,
                Chain = NewestOf(_chain),
            };
            Announce();
        });
    }

    /// <summary>Id of the segment that a term begins as the <paramref name="count"/>th. LOG_FULL where it would be another term's.</summary>
    internal static ulong SegmentIdOf(Term term, ulong count) => count <= ushort.MaxValue
        ? (term.Value << 16) + count
        : throw new FamfsException(ErrorReason.LogFull, $"term {term} has begun {ushort.MaxValue} log segments, the limit; start the master again") { Limit = ushort.MaxValue };

    // Of the engine's thread, and of one that writes the next generation meanwhile.
    private ulong NextSegmentId() => SegmentIdOf(Term, Interlocked.Increment(ref _segmentsStarted));

    private void EndOnFailure(Action publishing)
    {
        try
        {
            publishing();
        }
        catch (Exception error)
        {
            _ended ??= error as FamfsException ?? new(ErrorReason.MediaCorrupt, $"term {Term} ended itself: publishing behind {Position} failed: {error.Message}", error);
            throw;
        }
    }

    private void RequireMaster()
    {
        if (_ended is not null)
            throw new FamfsException(_ended.Reason, _ended.Message, _ended);
    }
}
