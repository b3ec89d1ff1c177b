using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.V1;

namespace Famfs.Core.Log.Native;

/// <summary>
/// Reads the log of the native format from memory: bootstrap, tailing, and a claimant's replay. Each poll is SAFETY S5: invalidate
/// and read the tail; invalidate and read records; invalidate and re-read all claims; hand out the records
/// only if no higher term appeared. What a master on this very host has stored may be read before it is in
/// memory, so anchor and tail are flushed between reading and that last check. The frames' checksums, dense
/// sequences and terms are verified before a block is handed out; bad bytes are invalidated and read again,
/// then reported as MEDIA_CORRUPT, unless a takeover explains them.
/// One thread at a time.
/// </summary>
public sealed class LogReader : ILogReader
{
    /// <summary>Bytes read at a time (chosen: keeps a block in the second-level cache).</summary>
    private const int BlockBytes = 512 * 1024;

    private const int CorruptAttempts = 8;
    private const int AnchorAttempts = 1000;

    private readonly DevicePool _pool;
    private readonly AnchorArea _anchors;
    private readonly byte[] _buffer = new byte[BlockBytes];

    // The claim that is the reader's own (a claimant replays below it); zero for everybody else.
    private readonly Term _own;
    private ActiveAnchor? _anchor;
    private SegmentRef[] _chain = [];
    private bool _resumed;

    // Highest claim when the poll began; tells damage from memory that changed hands during the poll.
    private Term _highestAtStart;

    /// <summary>Reads from the start of the log. <paramref name="own"/>: the term that the caller has claimed
    /// and whose claim therefore does not unsettle it.</summary>
    public LogReader(DevicePool pool, Term own = default)
    {
        _pool = pool;
        _own = own;
        _anchors = new(pool.PrimaryDevice, pool.Primary.FileSystem);
        Position = new(pool.Primary.FileSystem, pool.Primary.Generation, default, default);
    }

    /// <inheritdoc/>
    public LogPosition Position { get; private set; }

    /// <inheritdoc/>
    public long Offset { get; private set; }

    /// <summary>The anchor that the reader follows; null before the first poll.</summary>
    public ActiveAnchor? Anchor => _anchor;

    /// <summary>The whole chain of segments, oldest first.</summary>
    public IReadOnlyList<SegmentRef> Chain => _chain;

    /// <summary>The last poll found nothing behind <see cref="Position"/>.</summary>
    public bool CaughtUp { get; private set; }

    /// <inheritdoc/>
    public void Resume(LogPosition position, long offset)
    {
        Position = position;
        Offset = offset;
        _resumed = true;
    }

    /// <inheritdoc/>
    /// <exception cref="FamfsException">Also NOT_MASTER, when a claimant is itself overtaken.</exception>
    public PollVerdict Poll(out LogBlock block)
    {
        CaughtUp = false;
        try
        {
            PollVerdict verdict = PollOnce(out block);
            CaughtUp = verdict == PollVerdict.UpToDate;
            return verdict;
        }
        catch (FamfsException error) when (error.Reason == ErrorReason.MediaCorrupt && WasOvertaken())
        {
            // A deposed master's slot may be written anew while somebody still reads what it left.
            block = default;
            return PollVerdict.TakeoverPending;
        }
    }

    private PollVerdict PollOnce(out LogBlock block)
    {
        block = default;
        Term highest = _highestAtStart = _anchors.ReadHighestClaim();
        if (highest == _own && _own.Value != 0)
            highest = default;
        else if (_own.Value != 0 && highest > _own)
            throw new FamfsException(ErrorReason.NotMaster, $"term {highest} was claimed above own term {_own}");

        if (_anchor is null || _resumed || highest > _anchor.Term)
        {
            PollVerdict followed = Follow(highest);
            if (followed != PollVerdict.UpToDate)
                return followed;
        }

        if (ReadTail() is not { } tail)
            return PollVerdict.TakeoverPending;
        if (Offset > tail)
            return PollVerdict.Diverged;
        if (Offset == tail)
            return PollVerdict.UpToDate;
        int read = ReadFrames(tail, out SegmentRef segment, out int count, out LogPosition last);

        // Only now is it known that no one had started to take over when the tail was in memory.
        _anchors.WriteBackTail(_anchor!);
        Term after = _anchors.ReadHighestClaim();
        if (after > _anchor!.Term && after != _own)
            return PollVerdict.TakeoverPending;
        block = new(_buffer.AsMemory(0, read), count, Position.Sequence.Next, Position.Generation, segment.Id, Offset + read);
        Position = last;
        Offset += read;
        return PollVerdict.Records;
    }

    private bool WasOvertaken() => _anchors.ReadHighestClaim() > _highestAtStart;

    /// <summary>Finds the highest active anchor and checks that what was read is in its history.</summary>
    private PollVerdict Follow(Term highestClaim)
    {
        ActiveAnchor? active = null;
        if (highestClaim.Value != 0)
        {
            SlotState slot = _anchors.ReadSlot(highestClaim.Slot);
            if (slot.Active is null || slot.Active.Term != highestClaim)
            {
                // An active term is claimed first, and claims stay.
                if (slot.Active is not null && slot.Active.Term > _anchors.ReadHighestClaim())
                    throw new FamfsException(ErrorReason.MediaCorrupt, $"{_pool.PrimaryDevice.Path}: the claim of active term {slot.Active.Term} is gone; run `famfs check`") { Path = _pool.PrimaryDevice.Path };
                return PollVerdict.TakeoverPending;
            }
            active = slot.Active;
        }
        else
        {
            // A claimant: everybody who claimed earlier and became active counts, whatever came of the others.
            for (int s = 0; s < Term.SlotCount; s++)
            {
                SlotState slot = _anchors.ReadSlot(s);
                if (slot.Unreadable)
                    throw new FamfsException(ErrorReason.MediaCorrupt, $"{_pool.PrimaryDevice.Path}: anchor slot {s} is damaged and may hide a newer master; run `famfs check`");
                if (slot.Active is not null && (active is null || slot.Active.Term > active.Term))
                    active = slot.Active;
            }
            if (active is null)
                throw new FamfsException(ErrorReason.MediaCorrupt, $"{_pool.PrimaryDevice.Path}: no anchor slot is active: mkfs did not finish");
        }
        if (_anchor is not null && active.Term < _anchor.Term)
            return PollVerdict.TakeoverPending;
        SegmentRef[] chain = LoadChain(active);
        if (Offset > 0 && !IsInHistory(active))
            return PollVerdict.Diverged;
        _anchor = active;
        _chain = chain;
        _resumed = false;
        return PollVerdict.UpToDate;
    }

    /// <summary>True when the new term's history contains what this reader has. Whatever was handed out
    /// passed the check of S5, so every later claimant has read a tail at or behind it; a place beyond the
    /// tail that the new term started from means another history (or other memory) all the same.</summary>
    private bool IsInHistory(ActiveAnchor active)
    {
        if (active.Generation != Position.Generation || Position.Term > active.Term)
            return false;
        if (Position.Term == active.Term || Offset < active.StartTail)
            return true;
        return Offset == active.StartTail && Position.Sequence == active.StartSequence && Position.Term == active.StartTerm;
    }

    private SegmentRef[] LoadChain(ActiveAnchor active)
    {
        List<SegmentRef> older = [];
        SegmentRef first = active.Chain[0];
        byte[] block = new byte[MediaLayout.SegmentHeaderBytes];
        while (first.AbsoluteStart > 0)
        {
            DaxDevice device = _pool.Require(first.Device);
            device.Invalidate(first.Offset, block.Length);
            device.Read(first.Offset, block);
            if (!SegmentHeader.TryParse(block, out SegmentHeader? header) || header!.FileSystem != Position.FileSystem
                || header.Generation != active.Generation || header.Segment.Id != first.Id || header.Predecessor is null
                || header.Segment.AbsoluteStart != first.AbsoluteStart || older.Count + active.Chain.Length > active.SegmentCount)
                throw new FamfsException(ErrorReason.MediaCorrupt, $"{device.Path}: header of log segment {first.Id:x} at offset {first.Offset} is damaged") { Path = device.Path };
            first = header.Predecessor.Value;
            older.Add(first);
        }
        older.Reverse();
        return [.. older, .. active.Chain];
    }

    /// <summary>Null: another term has made the anchor's slot its own.</summary>
    private long? ReadTail()
    {
        for (int attempt = 0; attempt < AnchorAttempts; attempt++)
        {
            if (_anchors.ReadTail(_anchor!) is { } tail)
                return tail;
            // The master went on to another segment since the anchor was read.
            SlotState slot = _anchors.ReadSlot(_anchor!.Term.Slot);
            if (slot.Active is not null && slot.Active.Term == _anchor.Term && slot.Active.Counter > _anchor.Counter)
            {
                _chain = ExtendChain(_chain, slot.Active);
                _anchor = slot.Active;
            }
            else if (slot.Active is not null && slot.Active.Term > _anchor.Term)
            {
                // A claimant goes on behind it too when that term is below its own.
                _anchor = null;
                return null;
            }
            else
                Thread.SpinWait(100);
        }
        throw new FamfsException(ErrorReason.MediaCorrupt, $"{_pool.PrimaryDevice.Path}: tail of anchor slot {_anchor!.Term.Slot} is out of its segments");
    }

    private SegmentRef[] ExtendChain(SegmentRef[] chain, ActiveAnchor active)
    {
        SegmentRef oldest = active.Chain[0];
        int known = Array.FindIndex(chain, s => s.Id == oldest.Id);
        return known < 0 ? LoadChain(active) : [.. chain[..known], .. active.Chain];
    }

    private int ReadFrames(long tail, out SegmentRef segment, out int count, out LogPosition last)
    {
        int index = Array.FindLastIndex(_chain, s => s.AbsoluteStart <= Offset);
        segment = _chain[index];
        long end = index == _chain.Length - 1 ? tail : segment.AbsoluteEnd;
        int wanted = (int)Math.Min(end - Offset, BlockBytes);
        DaxDevice device = _pool.Require(segment.Device);
        uint seed = Crc32C.Seed(Position.FileSystem, Position.Generation, segment.Id);
        Span<byte> bytes = _buffer.AsSpan(0, wanted);
        for (int attempt = 0; ; attempt++)
        {
            long place = segment.DeviceOffsetOf(Offset);
            device.Invalidate(place, wanted);
            device.Read(place, bytes);
            if (Verify(bytes, seed, wanted == end - Offset, out int good, out count, out last, out string cause))
                return good;
            if (attempt == CorruptAttempts)
            {
                throw new FamfsException(ErrorReason.MediaCorrupt,
                    $"{device.Path}: record after {Position} in log segment {segment.Id:x} at offset {segment.DeviceOffsetOf(Offset) + good}: {cause}")
                { Path = device.Path };
            }
        }
    }

    private bool Verify(ReadOnlySpan<byte> bytes, uint seed, bool toTheEnd, out int good, out int count, out LogPosition last, out string cause)
    {
        good = 0;
        count = 0;
        last = Position;
        cause = "";
        while (good < bytes.Length)
        {
            FrameVerdict verdict = RecordFrame.Parse(bytes[good..], seed, out RecordFrame frame);
            if (verdict == FrameVerdict.Torn && !toTheEnd && count > 0)
                return true;
            if (verdict != FrameVerdict.Good)
            {
                cause = verdict == FrameVerdict.Torn ? "torn below the published tail" : "checksum is wrong";
                return false;
            }
            // In a segment that a restarted master went on in, an older term's unpublished frames have the right
            // seed and sequence; their term gives them away.
            bool termFits = Offset + good >= _anchor!.StartTail ? frame.Term == _anchor.Term : frame.Term <= _anchor.StartTerm;
            if (frame.Sequence != last.Sequence.Next || frame.Term < last.Term || !termFits)
            {
                cause = $"sequence {frame.Sequence} of term {frame.Term} follows {last}";
                return false;
            }
            last = last with { Sequence = frame.Sequence, Term = frame.Term };
            good += frame.PaddedBytes;
            count++;
        }
        return true;
    }
}
