using System.Buffers.Binary;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.V1;

namespace Famfs.Core.Log.Native;

/// <summary>
/// Reads the log of the native format from memory: bootstrap, tailing, and a claimant's replay. Each poll is SAFETY S5: invalidate
/// and read the tail; invalidate and read records; invalidate and re-read all claims; hand out the records
/// only if no higher term appeared. What a master on this very host has stored may be read before it is in
/// memory, so anchor and tail are flushed between reading and that last check. The frames' checksums, dense
/// sequences and terms are verified before a block is handed out; bad bytes are invalidated and read again for a second,
/// then reported as MEDIA_CORRUPT, unless a takeover explains them (SAFETY S25).
/// <para>A claimant that has come to the tail goes on with the whole frames behind it: it adopts them (SAFETY S26). Nobody else
/// does; who finds them behind a tail that stands still says that the tail is lost.</para>
/// One thread at a time.
/// </summary>
public sealed class LogReader : ILogReader
{
    /// <summary>Bytes read at a time (chosen: keeps a block in the second-level cache).</summary>
    private const int BlockBytes = 512 * 1024;

    private const int CorruptAttempts = 8;
    private const int AnchorAttempts = 1000;

    /// <summary>How long what looks damaged is looked at again: ten ticks of a master, which stores its tail at each.</summary>
    private static readonly TimeSpan LookAgainFor = TimeSpan.FromSeconds(1);

    /// <summary>How often all anchor slots are read whole (chosen: 0.3 MiB each time).</summary>
    private static readonly TimeSpan AnchorsEvery = TimeSpan.FromSeconds(1);

    private readonly DevicePool _pool;
    private readonly AnchorArea _anchors;
    private readonly TimeProvider _clock;
    private readonly byte[] _buffer = GC.AllocateUninitializedArray<byte>(BlockBytes);

    // The claim that is the reader's own (a claimant replays below it); zero for everybody else.
    private readonly Term _own;
    private ActiveAnchor? _anchor;
    private SegmentRef[] _chain = [];
    private bool _resumed;

    // The record before the next frame. In a snapshot: none.
    private LogPosition _at;

    private long _offset;

    // The last record that was handed out in an earlier generation, and its place there, while it is looked for in this one.
    private LogPosition? _had;
    private long _hadOffset;

    // Where the snapshot ends that the generation begins with; how many of its frames were read; what it stands for.
    private long _snapshotEnd;
    private ulong _snapshotFrames;
    private GenerationOrigin? _origin;

    // The generation being read is over: what its last active copy said, with its newest segment sealed where the snapshot of the
    // next one begins. Null: it is the one that the anchor names.
    private ActiveAnchor? _former;

    // The anchor's slot names another generation than the anchor that was read.
    private bool _isOtherGeneration;

    // What is read belongs to a generation that is over: where it is damaged, it may be gone.
    private bool _isInFormer;

    // Highest claim when the poll began; tells damage from memory that changed hands during the poll.
    private Term _highestAtStart;

    // What looks damaged, and since when.
    private Suspicion? _suspicion;
    private long _suspectedAt;

    // When all anchor slots were read last.
    private long _anchorsAt;

    // A claimant at the tail: from here on frames count that no tail covers, and the tail is not read again.
    private bool _adopting;
    private bool _adopted;

    /// <summary>Reads from the start of the log. <paramref name="clock"/>: measures how long something has looked damaged.
    /// <paramref name="own"/>: the term that the caller has claimed and whose claim therefore does not unsettle it.</summary>
    public LogReader(DevicePool pool, TimeProvider clock, Term own = default)
    {
        _pool = pool;
        _own = own;
        _clock = clock;
        _anchors = new(pool.PrimaryDevice, pool.Primary.FileSystem);
        _at = new(pool.Primary.FileSystem, pool.Primary.Generation, default, default);
    }

    /// <inheritdoc/>
    public LogPosition Position => _had ?? _at;

    /// <inheritdoc/>
    public long Offset => _had is null ? _offset : _hadOffset;

    /// <summary>The anchor that the reader follows; null before the first poll.</summary>
    public ActiveAnchor? Anchor => _anchor;

    /// <summary>The whole chain of segments, oldest first.</summary>
    public IReadOnlyList<SegmentRef> Chain => _chain;

    /// <summary>The last poll found nothing behind <see cref="Position"/>.</summary>
    public bool CaughtUp { get; private set; }

    /// <summary>The first record that a claimant has adopted; null: none.</summary>
    public LogSequence? AdoptedFrom { get; private set; }

    /// <summary>Damage in the newest segment is the end, if nothing whole follows it: the tail is too high, or the last record is
    /// lost. For a repair only (SAFETY S24: no other claimant shortens the log).</summary>
    internal bool EndsAtDamage { get; init; }

    /// <summary>A reader from the start hands out every record after this one as a record, also where a snapshot stands for it; it
    /// begins in the generation that has it. Null: with the newest snapshot.</summary>
    public LogSequence? WholeAfter { get; init; }

    /// <summary>A log that was compacted is read. Else it is refused with NOT_SUPPORTED_BY_FORMAT.</summary>
    public bool EntersGenerations { get; init; } = true;

    /// <inheritdoc/>
    public string Divergence { get; private set; } = "";

    /// <summary>The next frame is of a snapshot.</summary>
    private bool IsInSnapshot => _offset < _snapshotEnd;

    /// <inheritdoc/>
    public string TailDamage { get; private set; } = "";

    /// <inheritdoc/>
    public bool TailMayBeRight { get; private set; }

    /// <inheritdoc/>
    public void Resume(LogPosition position, long offset)
    {
        _at = position;
        _had = null;
        _offset = offset;
        _snapshotEnd = 0;
        _former = null;
        _resumed = true;
    }

    /// <inheritdoc/>
    /// <exception cref="FamfsException">Also NOT_MASTER, when a claimant is itself overtaken.</exception>
    public PollVerdict Poll(out LogBlock block)
    {
        CaughtUp = false;
        block = default;
        PollVerdict verdict;
        try
        {
            verdict = PollOnce(out block);
        }
        catch (FamfsException error) when (error.Reason == ErrorReason.MediaCorrupt && WasOvertaken())
        {
            // A deposed master's slot may be written anew while somebody still reads what it left.
            return PollVerdict.TakeoverPending;
        }
        catch (FamfsException error) when (error.Reason == ErrorReason.MediaCorrupt && !Suspect(new(error.Message, _offset, default)))
        {
            return PollVerdict.LookAgain;
        }
        catch (FamfsException error) when (error.Reason == ErrorReason.MediaCorrupt && _isInFormer)
        {
            Divergence = $"generation {Position.Generation} of the log, of which this reader has record {Position}, is over and cannot be read any more ({error.Message})";
            return PollVerdict.Diverged;
        }
        if (verdict is not (PollVerdict.LookAgain or PollVerdict.TailLost))
            _suspicion = null;
        CaughtUp = verdict == PollVerdict.UpToDate;
        return verdict;
    }

    private PollVerdict PollOnce(out LogBlock block)
    {
        block = default;
        _isInFormer = false;
        Term highest = _highestAtStart = _anchors.ReadHighestClaim();
        if (_own.Value != 0)
        {
            RequireOwnIsHighest(highest);
            highest = default;
            if (_adopting)
                return Adopt(out block);
        }
        // Lower: the claim of the term that is followed is gone, and another may be.
        if (_anchor is null || _resumed || (_own.Value == 0 && highest != _anchor.Term))
        {
            PollVerdict followed = Follow(highest);
            if (followed != PollVerdict.UpToDate)
                return followed;
        }
        else if (_clock.GetElapsedTime(_anchorsAt) >= AnchorsEvery)
        {
            RequireSoundAnchors();
        }

        do
        {
            // Where a generation is over, and read to its end, the next one is entered.
            if (_former is not null && _offset >= _former.Chain[^1].AbsoluteEnd)
            {
                PollVerdict followed = Follow(highest);
                if (followed != PollVerdict.UpToDate)
                    return followed;
            }
            _isInFormer = _former is not null;
            TailWord word = default;
            TailVerdict said = TailVerdict.Published;
            if ((_former?.Chain[^1].AbsoluteEnd ?? LookAtTail(out word, out said)) is not { } tail)
            {
                if (!_isOtherGeneration)
                    return PollVerdict.TakeoverPending;
                // The master went on to another generation.
                PollVerdict followed = Follow(highest);
                if (followed != PollVerdict.UpToDate)
                    return followed;
                continue;
            }
            if (_offset >= tail)
                return AtTail(word, said, tail, out block);
            if (!TryReadFrames(tail, out SegmentRef segment, out int read, out int count, out LogPosition last))
                return AtTail(word, said, tail, out block);

            // Only now is it known that no one had started to take over when the tail was in memory.
            _anchors.WriteBackTail(_anchor!);
            Term after = _anchors.ReadHighestClaim();
            if (after != (_own.Value == 0 ? _anchor!.Term : _own))
                return PollVerdict.TakeoverPending;
            if (_had is not { } had)
            {
                block = Take(segment, read, count, last);
                return PollVerdict.Records;
            }
            if (!TryPass(had, read, count, last, out int passed, out int passedCount))
                return PollVerdict.Diverged;
            if (passed < read)
            {
                block = Take(segment, read, count, last, passed, passedCount);
                return PollVerdict.Records;
            }
        }
        while (true);
    }

    /// <summary>Passes over records that were handed out before. False: the last of them is another one here.</summary>
    private bool TryPass(LogPosition had, int read, int count, LogPosition last, out int passed, out int passedCount)
    {
        passed = read;
        passedCount = count;
        if (last.Sequence.Value < had.Sequence.Value)
        {
            (_at, _offset) = (last, _offset + read);
            return true;
        }
        passed = 0;
        passedCount = 0;
        RecordFrame frame;
        do
        {
            frame = RecordFrame.ReadVerified(_buffer.AsSpan(passed, read - passed));
            passed += frame.PaddedBytes;
            passedCount++;
        }
        while (frame.Sequence != had.Sequence);
        if (frame.Term != had.Term)
        {
            Divergence = $"record {had}, which this reader has, is of term {frame.Term} in generation {_at.Generation}";
            return false;
        }
        _had = null;
        if (passed == read)
            (_at, _offset) = (last, _offset + read);
        return true;
    }

    private LogBlock Take(SegmentRef segment, int read, int count, LogPosition last, int passed = 0, int passedCount = 0)
    {
        LogSequence first = passed > 0 ? RecordFrame.ReadVerified(_buffer.AsSpan(passed, read - passed)).Sequence : _at.Sequence.Next;
        LogBlock block = new(_buffer.AsMemory(passed, read - passed), count - passedCount, first, _at.Generation, segment.Id, _offset + read) { IsSnapshot = IsInSnapshot };
        if (IsInSnapshot)
        {
            _snapshotFrames += (ulong)count;
            if (_offset + read == _snapshotEnd)
                last = _at with { Sequence = _origin!.Last, Term = new(_origin.Begin.LastTerm) };
        }
        _at = last;
        _offset += read;
        return block;
    }

    /// <summary>Nothing more is published, as far as the tail says. For a claimant what lies behind it counts from here on. For
    /// anybody else a whole frame there, a tail that cannot be, or one behind what was read is looked at for a
    /// second: a master that lives stores its tail in that time.</summary>
    private PollVerdict AtTail(TailWord word, TailVerdict said, long tail, out LogBlock block)
    {
        block = default;
        if (_former is not null)
            throw new FamfsException(ErrorReason.MediaCorrupt, $"generation {_former.Generation} of the log ends at {Position}, before the snapshot of the next one begins");
        if (_own.Value != 0)
        {
            _adopting = true;
            return Adopt(out block);
        }
        string damage = said is TailVerdict.After or TailVerdict.Impossible ? "is none that a master stores"
            : _offset > tail ? "is before what was read"
            : IsFrameNext() ? _offset < tail ? "is inside a record" : "is before whole records"
            : "";
        if (damage.Length == 0)
            return PollVerdict.UpToDate;
        // The master may have stored the tail since it was read, or another may be taking over.
        if (_anchors.ReadTailWord(_anchor!.Term.Slot) != word)
            return PollVerdict.LookAgain;
        if (_anchors.ReadHighestClaim() > _anchor.Term)
            return PollVerdict.TakeoverPending;
        if (!Suspect(new(damage, _offset, word)))
            return PollVerdict.LookAgain;
        TailMayBeRight = said == TailVerdict.Published && _offset == tail;
        TailDamage = $"{_pool.PrimaryDevice.Path}: tail-lost: the tail of term {_anchor.Term} {damage}: what comes after {Position} is not shown until a master starts";
        return PollVerdict.TailLost;
    }

    /// <summary>True when the same has looked damaged for long enough to say it.</summary>
    private bool Suspect(Suspicion what)
    {
        if (_suspicion != what)
        {
            _suspicion = what;
            _suspectedAt = _clock.GetTimestamp();
        }
        return _clock.GetElapsedTime(_suspectedAt) >= LookAgainFor;
    }

    /// <summary>
    /// The last step of a claimant: whole frames of exactly the followed term, behind its tail, to the first that is none. What
    /// the term's master acknowledged is among them, whatever became of its tail; the others it may still be storing.
    /// What was read may be in the cache of this machine only, where that master runs as another host: it is written back and
    /// read again before it counts.
    /// </summary>
    private PollVerdict Adopt(out LogBlock block)
    {
        block = default;
        if (_adopted)
            return PollVerdict.UpToDate;
        SegmentRef segment = _chain[^1];
        DaxDevice device = _pool.Require(segment.Device);
        uint seed = Crc32C.Seed(_at.FileSystem, _at.Generation, segment.Id);
        long place = segment.DeviceOffsetOf(_offset);
        int read = (int)Math.Min(segment.AbsoluteEnd - _offset, BlockBytes);
        int count = 0;
        LogPosition last = _at;
        for (int pass = 0; pass < 2 && read > 0; pass++)
        {
            device.Invalidate(place, read);
            device.Read(place, _buffer.AsSpan(0, read));
            Verify(_buffer.AsSpan(0, read), seed, adopting: true, out read, out count, out last, out _);
            // In memory before it is read for good.
            if (pass == 0)
            {
                device.WriteBack(place, read);
                device.Fence();
            }
        }
        RequireOwnIsHighest(_anchors.ReadHighestClaim());
        if (read == 0)
        {
            _adopted = true;
            return PollVerdict.UpToDate;
        }
        AdoptedFrom ??= _at.Sequence.Next;
        block = Take(segment, read, count, last);
        return PollVerdict.Records;
    }

    /// <summary>A whole frame of the followed term is the next one, whatever the tail says.</summary>
    private bool IsFrameNext()
    {
        SegmentRef segment = _chain[^1];
        if (_offset < segment.AbsoluteStart || _offset < _anchor!.StartTail)
            return false;
        DaxDevice device = _pool.Require(segment.Device);
        long place = segment.DeviceOffsetOf(_offset);
        int room = (int)Math.Min(segment.AbsoluteEnd - _offset, MediaLayout.MaxRecordBytes);
        if (room < RecordFrame.HeaderBytes)
            return false;
        device.Invalidate(place, RecordFrame.HeaderBytes);
        device.Read(place, _buffer.AsSpan(0, RecordFrame.HeaderBytes));
        int bytes = RecordFrame.PaddedLength((int)Math.Clamp(BinaryPrimitives.ReadUInt32LittleEndian(_buffer), 0, MediaLayout.MaxRecordBytes));
        if (bytes < RecordFrame.HeaderBytes || bytes > room)
            return false;
        device.Invalidate(place, bytes);
        device.Read(place, _buffer.AsSpan(0, bytes));
        Verify(_buffer.AsSpan(0, bytes), Crc32C.Seed(_at.FileSystem, _at.Generation, segment.Id), adopting: true, out _, out int count, out _, out _);
        return count > 0;
    }

    private void RequireOwnIsHighest(Term highest)
    {
        if (highest != _own)
        {
            throw new FamfsException(ErrorReason.NotMaster, highest > _own
                ? $"term {highest} was claimed above own term {_own}"
                : $"the claim of own term {_own} cannot be read any more");
        }
    }

    private bool WasOvertaken() => _anchors.ReadHighestClaim() > _highestAtStart;

    private void RequireSoundAnchors()
    {
        _anchors.RequireSound();
        _anchorsAt = _clock.GetTimestamp();
    }

    /// <summary>Finds the highest active anchor and checks that what was read is in its history.</summary>
    private PollVerdict Follow(Term highestClaim)
    {
        ActiveAnchor? active = null;
        if (highestClaim.Value != 0)
        {
            active = _anchors.RequireSlot(highestClaim.Slot).Active;
            if (active is null || active.Term != highestClaim || !IsAnnounced(active))
                return PollVerdict.TakeoverPending;
            // A term whose claim is hidden would be above this one.
            RequireSoundAnchors();
        }
        else
        {
            // A claimant: everybody who claimed earlier and became active counts, whatever came of the others.
            for (int s = 0; s < Term.SlotCount; s++)
            {
                SlotState slot = _anchors.RequireSlot(s);
                if (slot.Active is not null && (active is null || slot.Active.Term > active.Term))
                    active = slot.Active;
            }
            if (active is null)
                throw new FamfsException(ErrorReason.MediaCorrupt, $"{_pool.PrimaryDevice.Path}: no anchor slot is active: mkfs did not finish");
            _anchorsAt = _clock.GetTimestamp();
        }
        if (_anchor is not null && active.Term < _anchor.Term)
            return PollVerdict.TakeoverPending;
        if (active.Generation > _at.Generation || (_offset == 0 && active.Generation > _pool.Primary.Generation))
            return Enter(active);
        SegmentRef[] chain = LoadChain(active);
        if (_offset > 0 && !IsInHistory(active))
            return PollVerdict.Diverged;
        _anchor = active;
        _chain = chain;
        _former = null;
        _resumed = false;
        _isOtherGeneration = false;
        return PollVerdict.UpToDate;
    }

    /// <summary>
    /// The log goes on in a later generation. A reader from the start begins with its snapshot. Another one needs the records after what
    /// it has: they are in the newest generation whose snapshot does not stand for one of them. That may be the reader's own, which
    /// then is read to where the snapshot of the next one begins.
    /// </summary>
    private PollVerdict Enter(ActiveAnchor active)
    {
        if (!EntersGenerations)
            throw new FamfsException(ErrorReason.NotSupportedByFormat, $"{_pool.PrimaryDevice.Path}: the log was compacted, to generation {active.Generation}: this version reads none but {_pool.Primary.Generation}") { Path = _pool.PrimaryDevice.Path };
        ActiveAnchor at = active;
        ActiveAnchor? former = null;
        while (true)
        {
            SegmentRef[] chain = LoadChain(at);
            if (at.Generation == _at.Generation)
            {
                // Also in the middle of its snapshot.
                if (at.Generation != _pool.Primary.Generation && _offset == 0 && !IsInSnapshot)
                    return Commit(active, former, chain, GenerationOrigin.Read(_pool, chain[0], at.Generation));
                if (_offset > 0 && !IsInHistory(at))
                    return PollVerdict.Diverged;
                return Commit(active, former, chain, null);
            }
            GenerationOrigin origin = GenerationOrigin.Read(_pool, chain[0], at.Generation);
            bool isFresh = _offset == 0;
            bool stands = isFresh
                ? WholeAfter is { } after && after.Value < origin.Last.Value
                : IsInSnapshot || Position.Sequence.Value < origin.Last.Value;
            if (!stands)
                return Commit(active, former, chain, origin);
            _isInFormer = true;
            at = former = origin.DescribePrevious()
                ?? throw new FamfsException(ErrorReason.MediaCorrupt, $"{_pool.PrimaryDevice.Path}: the snapshot of generation {at.Generation} names an end of the generation before it that cannot be");
            if (at.Generation < _at.Generation)
            {
                Divergence = $"generation {_at.Generation}, of which this reader has record {Position}, is not in the log";
                return PollVerdict.Diverged;
            }
        }
    }

    /// <summary>Goes on in a generation: where <paramref name="origin"/> is given, at its start or after its snapshot, else where the
    /// reader is.</summary>
    private PollVerdict Commit(ActiveAnchor active, ActiveAnchor? former, SegmentRef[] chain, GenerationOrigin? origin)
    {
        // A claimant that claims after this look finds what was read here.
        if (_own.Value == 0 && _anchors.ReadHighestClaim() != active.Term)
            return PollVerdict.TakeoverPending;
        if (origin is not null)
        {
            LogPosition position = Position;
            long offset = Offset;
            bool isFresh = _offset == 0;
            if (!isFresh && position.Sequence == origin.Last && position.Term.Value != origin.Begin.LastTerm)
            {
                Divergence = $"record {position}, which this reader has, is of term {origin.Begin.LastTerm} in generation {origin.Begin.Generation}";
                return PollVerdict.Diverged;
            }
            _origin = origin;
            _snapshotEnd = origin.EndOffset;
            _snapshotFrames = 0;
            _at = _at with { Generation = origin.Begin.Generation, Sequence = isFresh ? default : origin.Last, Term = isFresh ? default : new(origin.Begin.LastTerm) };
            _had = !isFresh && position.Sequence.Value > origin.Last.Value ? position : null;
            _hadOffset = offset;
            _offset = isFresh ? origin.BeginOffset : origin.EndOffset;
        }
        _anchor = active;
        _former = former;
        _chain = chain;
        _resumed = false;
        _isOtherGeneration = false;
        return PollVerdict.UpToDate;
    }

    /// <summary>The term's active copy is in memory twice: the second copy follows the first one, the tail follows both. What a reader had
    /// of a term with one copy would be lost with that copy's line, if its master dies there: nobody could tell that the term
    /// had begun, and the next claimant may go on behind an older one, which adopted less.</summary>
    private bool IsAnnounced(ActiveAnchor active) =>
        active.Counter > active.FirstCounter || _anchors.ReadTailWord(active.Term.Slot).Judge(active, out _) != TailVerdict.Before;

    /// <summary>True when the new term's history contains what this reader has. Whatever was handed out
    /// passed the check of S5, so every later claimant has read a tail at or behind it; a place beyond the
    /// tail that the new term started from means another history (or other memory) all the same.</summary>
    private bool IsInHistory(ActiveAnchor active)
    {
        if (active.Generation != _at.Generation || Position.Term > active.Term)
            return false;
        if (_at.Term == active.Term || _offset < active.StartTail)
            return true;
        return _offset == active.StartTail && _at.Sequence == active.StartSequence && _at.Term == active.StartTerm;
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
            if (!SegmentHeader.TryParse(block, out SegmentHeader? header) || header!.FileSystem != _at.FileSystem
                || header.Generation != active.Generation || header.Segment.Id != first.Id || header.Predecessor is null
                || header.Segment.AbsoluteStart != first.AbsoluteStart || older.Count + active.Chain.Length > active.SegmentCount)
                throw new FamfsException(ErrorReason.MediaCorrupt, $"{device.Path}: header of log segment {first.Id:x} at offset {first.Offset} is damaged") { Path = device.Path };
            first = header.Predecessor.Value;
            older.Add(first);
        }
        older.Reverse();
        return [.. older, .. active.Chain];
    }

    /// <summary>The published tail, as far as it can be read; null: another term has made the anchor's slot its own. What an
    /// active copy has sealed was published and checked before, so the tail is never before the last segment.</summary>
    private long? LookAtTail(out TailWord word, out TailVerdict said)
    {
        for (int attempt = 0; ; attempt++)
        {
            word = _anchors.ReadTailWord(_anchor!.Term.Slot);
            said = word.Judge(_anchor, out long tail);
            if (said is TailVerdict.Published or TailVerdict.Before || attempt == AnchorAttempts)
                return Math.Max(tail, _chain[^1].AbsoluteStart);
            // The master went on to another segment since the anchor was read.
            SlotState slot = _anchors.RequireSlot(_anchor.Term.Slot);
            if (slot.Active is not null && slot.Active.Term == _anchor.Term && slot.Active.Generation != _anchor.Generation)
            {
                _isOtherGeneration = true;
                return null;
            }
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
            {
                // The copy that a tail belongs to is in memory before the tail, so there is none.
                attempt = AnchorAttempts - 1;
            }
        }
    }

    private SegmentRef[] ExtendChain(SegmentRef[] chain, ActiveAnchor active)
    {
        SegmentRef oldest = active.Chain[0];
        int known = Array.FindIndex(chain, s => s.Id == oldest.Id);
        return known < 0 ? LoadChain(active) : [.. chain[..known], .. active.Chain];
    }

    /// <summary>Reads frames below the tail. False: the next one is whole and reaches over the tail, which therefore is none that
    /// a master stores.</summary>
    private bool TryReadFrames(long tail, out SegmentRef segment, out int good, out int count, out LogPosition last)
    {
        int index = Array.FindLastIndex(_chain, s => s.AbsoluteStart <= _offset);
        segment = _chain[index];
        bool isLast = index == _chain.Length - 1;
        long end = isLast ? tail : segment.AbsoluteEnd;
        if (IsInSnapshot)
            end = Math.Min(end, _snapshotEnd);
        int wanted = (int)Math.Min(end - _offset, BlockBytes);
        DaxDevice device = _pool.Require(segment.Device);
        uint seed = Crc32C.Seed(_at.FileSystem, _at.Generation, segment.Id);
        Span<byte> bytes = _buffer.AsSpan(0, wanted);
        for (int attempt = 0; ; attempt++)
        {
            long place = segment.DeviceOffsetOf(_offset);
            device.Invalidate(place, wanted);
            device.Read(place, bytes);
            FrameVerdict verdict = Verify(bytes, seed, adopting: false, out good, out count, out last, out string cause);
            if (verdict == FrameVerdict.Good || (verdict == FrameVerdict.Torn && wanted < end - _offset && count > 0))
                return true;
            if (attempt < CorruptAttempts)
                continue;
            // What comes before is whole.
            if (count > 0)
                return true;
            if (verdict == FrameVerdict.Torn && isLast && _former is null && IsFrameNext())
                return false;
            if (EndsAtDamage && isLast && _former is null && !FrameRun.IsAnyWhole(_pool, _at.FileSystem, _at.Generation, segment, _offset))
                return false;
            throw new FamfsException(ErrorReason.MediaCorrupt,
                $"{device.Path}: record after {Position} in log segment {segment.Id:x} at offset {segment.DeviceOffsetOf(_offset) + good}: {cause}")
            { Path = device.Path };
        }
    }

    /// <summary>Walks whole frames that follow what was read. Good: to the end of the bytes.</summary>
    private FrameVerdict Verify(ReadOnlySpan<byte> bytes, uint seed, bool adopting, out int good, out int count, out LogPosition last, out string cause)
    {
        good = 0;
        count = 0;
        last = _at;
        cause = "";
        while (good < bytes.Length)
        {
            FrameVerdict verdict = RecordFrame.Parse(bytes[good..], seed, out RecordFrame frame);
            if (verdict != FrameVerdict.Good)
            {
                cause = verdict == FrameVerdict.Torn ? "torn below the published tail" : "checksum is wrong";
                return verdict;
            }
            // In a segment that a restarted master went on in, an older term's unpublished frames have the right
            // seed and sequence; their term gives them away.
            ActiveAnchor anchor = _former ?? _anchor!;
            bool termFits = adopting || _offset + good >= anchor.StartTail ? frame.Term == anchor.Term : frame.Term <= anchor.StartTerm;
            bool isOfSnapshot = (frame.Flags & FrameFlags.Snapshot) != 0;
            if (isOfSnapshot != IsInSnapshot)
            {
                cause = isOfSnapshot ? $"a frame of a snapshot follows {last}" : $"record {frame.Sequence} is in a snapshot";
                return FrameVerdict.Corrupt;
            }
            if (isOfSnapshot)
            {
                if (frame.Sequence.Value != _snapshotFrames + (ulong)count || frame.Term != _origin!.Term)
                {
                    cause = $"frame {frame.Sequence} of a snapshot, where frame {_snapshotFrames + (ulong)count} is due";
                    return FrameVerdict.Corrupt;
                }
                good += frame.PaddedBytes;
                count++;
                continue;
            }
            if (frame.Sequence != last.Sequence.Next || frame.Term < last.Term || !termFits)
            {
                cause = $"sequence {frame.Sequence} of term {frame.Term} follows {last}";
                return FrameVerdict.Corrupt;
            }
            last = last with { Sequence = frame.Sequence, Term = frame.Term };
            good += frame.PaddedBytes;
            count++;
        }
        return FrameVerdict.Good;
    }

    /// <summary>What looks damaged: the same again only when nothing has moved.</summary>
    private sealed record Suspicion(string What, long Offset, TailWord Tail);
}
