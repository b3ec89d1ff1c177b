using Famfs.Core.Format;
using Famfs.V1;

namespace Famfs.Core.Log.Native;

/// <summary>
/// Becoming master (SAFETY S2): claim, then read everything, then become active. The caller replays
/// <see cref="Reader"/> to its end between <see cref="Claim"/> and <see cref="Activate"/>. The caller holds
/// the exclusive lock of the slot on its host from before <see cref="Claim"/> for as long as it may write.
/// </summary>
public sealed class Mastership
{
    /// <summary>Least space of an own segment worth going on in (chosen: room for a term's first records).</summary>
    private const long MinSegmentBytes = MediaLayout.SegmentHeaderBytes + 2L * MediaLayout.MaxRecordBytes;

    /// <summary>Least space kept for the next segment instead of reserving more (chosen: half of the least reservation).</summary>
    private const long MinSpareBytes = MediaLayout.UnitBytes / 2;

    private readonly DevicePool _pool;
    private readonly AnchorArea _anchors;
    private readonly AnchorClaim _claim;

    private Mastership(DevicePool pool, AnchorArea anchors, AnchorClaim claim, TimeProvider clock, bool endsAtDamage, bool entersGenerations)
    {
        _pool = pool;
        _anchors = anchors;
        _claim = claim;
        Reader = new(pool, clock, claim.Term) { EndsAtDamage = endsAtDamage, EntersGenerations = entersGenerations };
    }

    /// <summary>The claimed term.</summary>
    public Term Term => _claim.Term;

    /// <summary>Reads the log as it stood when the claim was made; poll it until it is up to date.</summary>
    public LogReader Reader { get; }

    /// <summary>Watches all heartbeats for <paramref name="window"/>; gives the slot of a master that lives, or
    /// null (SAFETY S4). Slot <paramref name="ownSlot"/> is not watched: its lock is held here.</summary>
    public static async Task<int?> DetectLiveMasterAsync(DevicePool pool, int ownSlot, TimeSpan window, TimeProvider clock, CancellationToken cancel)
    {
        AnchorArea anchors = new(pool.PrimaryDevice, pool.Primary.FileSystem);
        ulong[] before = new ulong[Term.SlotCount];
        for (int slot = 0; slot < Term.SlotCount; slot++)
            before[slot] = anchors.ReadHeartbeat(slot);
        long start = clock.GetTimestamp();
        while (clock.GetElapsedTime(start) < window)
        {
            await Task.Delay(TimeSpan.FromMilliseconds(20), clock, cancel).ConfigureAwait(false);
            for (int slot = 0; slot < Term.SlotCount; slot++)
            {
                if (slot != ownSlot && anchors.ReadHeartbeat(slot) != before[slot])
                    return slot;
            }
        }
        return null;
    }

    /// <summary>Writes a claim above every term that memory shows, before anything else is read. <paramref name="endsAtDamage"/>: as
    /// <see cref="ClaimRequest.EndsAtDamage"/>. <paramref name="entersGenerations"/>: as <see cref="LogReader.EntersGenerations"/>.</summary>
    public static Mastership Claim(DevicePool pool, int slot, Guid host, Guid master, TimeProvider clock, bool endsAtDamage = false, bool entersGenerations = true)
    {
        AnchorArea anchors = new(pool.PrimaryDevice, pool.Primary.FileSystem);
        ulong highest = 0;
        for (int s = 0; s < Term.SlotCount; s++)
        {
            highest = Math.Max(highest, anchors.RequireSlot(s).HighestTerm.Value);
        }
        AnchorClaim claim = anchors.WriteClaim(slot, Term.After(new(highest), slot), master, host, pool.Primary.Generation);
        return new(pool, anchors, claim, clock, endsAtDamage, entersGenerations);
    }

    /// <summary>Becomes active behind what <see cref="Reader"/> has read. <paramref name="own"/>: every space
    /// that the log gives to this slot for segments, oldest first.</summary>
    public LogWriter Activate(IReadOnlyList<SegmentSpace> own)
    {
        if (!Reader.CaughtUp)
            throw new InvalidOperationException("the log is not replayed to its end");
        List<SegmentRef> chain = [.. Reader.Chain];
        long tail = Reader.Offset;
        SegmentRef last = chain[^1] with { SealedBytes = tail - chain[^1].AbsoluteStart };
        ActiveAnchor? previous = _anchors.RequireSlot(Term.Slot).Active;
        OwnSpaces spaces = new(_pool, own, [.. chain[..^1].Append(last).Select(s => (Reader.Position.Generation, s)), .. PublishedBy(previous).Select(s => (previous!.Generation, s))]);
        ulong started = 0;
        if (chain[^1].AbsoluteEnd - tail < MinSegmentBytes || !spaces.EndsWith(last))
        {
            SegmentSpace? place = spaces.TakePlace(MinSegmentBytes, last: true);
            if (place is not null)
            {
                // Seal what was written last and go on in own space, behind everything that earlier terms of this slot used.
                SegmentRef next = LogWriter.WriteSegmentHeader(_pool, Reader.Position.FileSystem, Reader.Position.Generation,
                    (Term.Value << 16) + ++started, Term, place.Value, tail, Reader.Position.Sequence, last);
                chain[^1] = last;
                chain.Add(next);
            }
            else if (!spaces.EndsWith(last))
            {
                throw new FamfsException(ErrorReason.LogFull, "the log segments of this master slot are full");
            }
        }
        ulong counter = (previous?.Counter ?? 0) + 1;
        ActiveAnchor anchor = new()
        {
            Counter = counter,
            FirstCounter = counter,
            Term = Term,
            Generation = Reader.Position.Generation,
            Master = _claim.Master,
            Host = _claim.Host,
            StartTail = tail,
            StartSequence = Reader.Position.Sequence,
            StartTerm = Reader.Position.Term,
            SegmentCount = (uint)chain.Count,
            Chain = LogWriter.NewestOf(chain),
        };
        if (started == 0)
            spaces.Keep(last);
        LogWriter writer = new(_pool, _anchors, anchor, chain, started) { Spare = spaces.TakePlace(MinSpareBytes, last: false) };
        writer.Announce();
        return writer;
    }

    /// <summary>The segments of the slot's previous term, to what it published.</summary>
    private List<SegmentRef> PublishedBy(ActiveAnchor? previous)
    {
        if (previous is null)
            return [];
        SegmentRef last = previous.Chain[^1];
        _anchors.ReadTailWord(Term.Slot).Judge(previous, out long tail);
        return [.. previous.Chain[..^1], last with { SealedBytes = Math.Max(0, tail - last.AbsoluteStart) }];
    }

    /// <summary>Makes the first term of a new file system, on zeroed anchors: mkfs.</summary>
    internal static LogWriter Create(DevicePool pool, Guid host, Guid master)
    {
        AnchorArea anchors = new(pool.PrimaryDevice, pool.Primary.FileSystem);
        Term term = Term.After(default, 0);
        anchors.WriteClaim(0, term, master, host, pool.Primary.Generation);
        NativeSuperblock primary = NativeFormat.SuperblockOf(pool);
        SegmentSpace space = new(new(0), primary.FirstSegmentOffset, primary.FirstSegmentLengthBytes);
        SegmentRef first = LogWriter.WriteSegmentHeader(pool, pool.Primary.FileSystem, pool.Primary.Generation, (term.Value << 16) + 1, term, space, 0, default, null);
        ActiveAnchor anchor = new()
        {
            Counter = 1,
            FirstCounter = 1,
            Term = term,
            Generation = pool.Primary.Generation,
            Master = master,
            Host = host,
            StartTail = 0,
            StartSequence = default,
            StartTerm = default,
            SegmentCount = 1,
            Chain = [first],
        };
        LogWriter writer = new(pool, anchors, anchor, [first], 1);
        writer.Announce();
        return writer;
    }
}
