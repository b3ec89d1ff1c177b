using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.V1;

namespace Famfs.Core.Log.Native;

/// <summary>What one anchor slot holds: its highest claim and its latest active copy.</summary>
/// <param name="Claim">Highest valid claim; null when none was ever made.</param>
/// <param name="Active">Latest valid active copy; null when the slot never became active.</param>
/// <param name="Damage">What is wrong with it, so that it may hide a higher term or the way to the log (SAFETY S6, S24); empty: nothing.</param>
public readonly record struct SlotState(AnchorClaim? Claim, ActiveAnchor? Active, string Damage)
{
    /// <summary>It may hide a higher term, or where a term's history goes on.</summary>
    public bool Unreadable => Damage.Length > 0;

    /// <summary>Highest term that the slot shows, claimed or active.</summary>
    public Term HighestTerm => new(Math.Max(Claim?.Term.Value ?? 0, Active?.Term.Value ?? 0));
}

/// <summary>
/// The anchor area of device 0: reads every slot, writes this master's own. A slot of 8 KiB:
/// <code>
///    0  claim, odd counters       64  claim, even counters
///  128  tail word                136  heartbeat counter (its own line with the tail)
/// 2048  active copy, odd        4096  active copy, even
/// </code>
/// Claims alone decide who is highest: an active copy is always preceded by its claim, and claims never
/// regress. Each claim is in both lines and each active copy in both places, one after the other, so that no line alone hides
/// a term or its history (SAFETY S24). Not thread safe; each user has its own.
/// </summary>
public sealed class AnchorArea
{
    private const int ClaimBytes = 2 * AnchorClaim.Size;
    private const int TailOffset = 128;
    private const int HeartbeatOffset = 136;
    private const int ActiveOffset = 2048;
    
    /// <summary>Looks at what is no claim or no active copy (chosen). Of each there are two, and one at most is being stored, so that a
    /// look between two stores finds none of them whole only by chance.</summary>
    private const int MaxAttempts = 100;
    private const string UnreadableClaim = "its claim is damaged and may hide a newer master";

    private readonly DaxDevice _device;
    private readonly Guid _fileSystem;
    private readonly long[] _claimOffsets = new long[Term.SlotCount];
    private readonly byte[] _claims = new byte[Term.SlotCount * ClaimBytes];
    private readonly byte[] _parsedClaims = new byte[Term.SlotCount * ClaimBytes];
    private readonly byte[] _block = new byte[ActiveAnchor.Size];
    private Term _parsedHighest;
    private bool _parsed;

    /// <summary>Looks at the anchors on <paramref name="device"/>, which is device 0.</summary>
    public AnchorArea(DaxDevice device, Guid fileSystem)
    {
        _device = device;
        _fileSystem = fileSystem;
        for (int slot = 0; slot < Term.SlotCount; slot++)
            _claimOffsets[slot] = OffsetOf(slot);
    }

    /// <summary>Invalidates and reads the claims of all slots, and gives the highest term claimed: the check of
    /// SAFETY S3 and S5. Throws MEDIA_CORRUPT when a slot may hide a higher one.</summary>
    public Term ReadHighestClaim()
    {
        for (int attempt = 0; ; attempt++)
        {
            foreach (long offset in _claimOffsets)
                _device.Invalidate(offset, ClaimBytes);
            _device.ReadPieces(_claimOffsets, ClaimBytes, _claims);
            // Claims change at takeovers only; unchanged bytes have been judged before.
            if (_parsed && _claims.AsSpan().SequenceEqual(_parsedClaims))
                return _parsedHighest;
            ulong highest = 0;
            int unreadable = -1;
            string damage = "";
            for (int slot = 0; slot < Term.SlotCount; slot++)
            {
                ClaimLines lines = ParseClaims(_claims.AsSpan(slot * ClaimBytes, ClaimBytes), slot, out AnchorClaim? claim);
                highest = Math.Max(highest, claim?.Term.Value ?? 0);
                if (lines != ClaimLines.Sound && FindDamage(slot, lines) is { Length: > 0 } found)
                    (unreadable, damage) = (slot, found);
            }
            if (unreadable < 0)
            {
                _claims.CopyTo(_parsedClaims, 0);
                _parsedHighest = new(highest);
                _parsed = true;
                return _parsedHighest;
            }
            // A line caught while it is stored is whole a moment later.
            if (attempt == MaxAttempts)
                throw DamagedSlot(unreadable, damage);
            Thread.SpinWait(100);
        }
    }

    /// <summary>Invalidates and reads all slots whole. Throws MEDIA_CORRUPT when one is damaged: an active copy above the claim
    /// of its slot, or a term without a readable one, does not show in the claims alone (SAFETY S24).</summary>
    public void RequireSound()
    {
        for (int slot = 0; slot < Term.SlotCount; slot++)
            RequireSlot(slot);
    }

    /// <summary>Invalidates and reads one slot whole. Throws MEDIA_CORRUPT when it is damaged.</summary>
    public SlotState RequireSlot(int slot)
    {
        SlotState state = ReadSlot(slot);
        return state.Unreadable ? throw DamagedSlot(slot, state.Damage) : state;
    }

    /// <summary>Invalidates and reads one slot whole.</summary>
    public SlotState ReadSlot(int slot) => ReadSlot(slot, MaxAttempts);

    private SlotState ReadSlot(int slot, int attempts)
    {
        Span<byte> lines = stackalloc byte[ClaimBytes];
        long offset = OffsetOf(slot);
        for (int attempt = 1; ; attempt++)
        {
            // In the reverse of the order in which a master stores them: a tail says that active copies are in memory,
            // and they say that their claim is.
            TailWord tail = ReadTailWord(slot);
            ActiveAnchor? active = null;
            int damaged = 0;
            for (int copy = 0; copy < 2; copy++)
            {
                long place = offset + ActiveOffset + copy * ActiveAnchor.Size;
                _device.Invalidate(place, ActiveAnchor.Size);
                _device.Read(place, _block);
                if (ActiveAnchor.TryParse(_block, _fileSystem, slot, out ActiveAnchor? parsed))
                    active = active is null || parsed!.Counter > active.Counter ? parsed : active;
                else
                    damaged += _block.AsSpan().ContainsAnyExcept((byte)0) ? 1 : 0;
                // A process of this host may have stored it and not written it back: what is judged here must
                // be what other hosts find.
                _device.Invalidate(place, ActiveAnchor.Size);
            }
            _device.Invalidate(offset, ClaimBytes);
            _device.Read(offset, lines);
            ClaimLines readable = ParseClaims(lines, slot, out AnchorClaim? claim);
            string damage = JudgeSlot(readable, claim, active, damaged, tail);
            if (damage.Length == 0 || attempt >= attempts)
                return new(claim, active, damage);
            Thread.SpinWait(100);
        }
    }

    /// <summary>For a check: names a claim line, an active copy or a tail of a sound slot that is not as its master stored it, so that what
    /// is in the other one is in memory once, or what was never used is no longer zero. Empty: none. A term with a tail has its claim in both lines and its newest active
    /// copy in both places (SAFETY S24).</summary>
    public string FindLostCopy(int slot)
    {
        string lost = "";
        for (int attempt = 0; attempt == 0 || (lost.Length > 0 && attempt < MaxAttempts); attempt++)
        {
            // A master that lives may be storing it.
            Thread.SpinWait(attempt == 0 ? 0 : 100);
            lost = LookForLostCopy(slot);
        }
        return lost;
    }

    private string LookForLostCopy(int slot)
    {
        TailWord tail = ReadTailWord(slot);
        ActiveAnchor?[] copies = new ActiveAnchor?[2];
        bool[] isUsed = new bool[2];
        for (int i = 0; i < 2; i++)
        {
            long place = OffsetOf(slot) + ActiveOffset + i * ActiveAnchor.Size;
            _device.Invalidate(place, ActiveAnchor.Size);
            _device.Read(place, _block);
            isUsed[i] = _block.AsSpan().ContainsAnyExcept((byte)0);
            _ = ActiveAnchor.TryParse(_block, _fileSystem, slot, out copies[i]);
        }
        if (tail.Value != 0 && !isUsed[0] && !isUsed[1])
            return "the tail word is damaged, and no term of this slot was active";
        ActiveAnchor? active = copies[0] is null || copies[1]?.Counter > copies[0]!.Counter ? copies[1] : copies[0];
        // The tail carries the counter of the first of two copies.
        bool isAnnounced = active is not null && tail.Value != 0 && (ushort)(active.Counter - tail.Tag) <= 1;
        for (int i = 0; i < 2; i++)
        {
            ulong expected = active is null || !isAnnounced ? 0 : active.Counter - (ushort)(active.Counter - tail.Tag);
            expected += expected % 2 == (ulong)i ? 1UL : 0;
            if (isAnnounced ? copies[i]?.Counter != expected : copies[i] is null && isUsed[i])
                return $"active copy {i + 1} is damaged or old, and {(active is null ? "no term of this slot was active" : "the other one is whole")}";
        }
        Span<byte> lines = stackalloc byte[ClaimBytes];
        _device.Invalidate(OffsetOf(slot), ClaimBytes);
        _device.Read(OffsetOf(slot), lines);
        _ = ParseClaims(lines, slot, out AnchorClaim? claim);
        for (int i = 0; i < 2; i++)
        {
            ReadOnlySpan<byte> line = lines.Slice(i * AnchorClaim.Size, AnchorClaim.Size);
            bool isClaim = AnchorClaim.TryParse(line, _fileSystem, slot, out AnchorClaim parsed);
            bool isTwice = isAnnounced && claim?.Term == active!.Term;
            if (isTwice ? !isClaim || parsed.Term != active!.Term || parsed.Counter % 2 == (ulong)i : !isClaim && line.ContainsAnyExcept((byte)0))
                return $"claim line {i + 1} is damaged or old, and {(claim is null ? "nothing was claimed here" : "the other one is whole")}";
        }
        return "";
    }

    /// <summary>Invalidates and reads a slot's tail word.</summary>
    public TailWord ReadTailWord(int slot)
    {
        long offset = OffsetOf(slot) + TailOffset;
        _device.Invalidate(offset, DaxDevice.LineBytes);
        return new(_device.ReadWord(offset));
    }

    /// <summary>Makes sure that the tail which was read is in memory and not only in this host's cache, where a
    /// master on this host has stored it and not written it back yet: a claimant elsewhere must find it.</summary>
    public void WriteBackTail(ActiveAnchor anchor) => _device.Invalidate(OffsetOf(anchor.Term.Slot) + TailOffset, DaxDevice.LineBytes);

    /// <summary>Invalidates and reads the heartbeat counter of a slot.</summary>
    public ulong ReadHeartbeat(int slot)
    {
        long offset = OffsetOf(slot) + HeartbeatOffset;
        _device.Invalidate(offset, DaxDevice.LineBytes);
        return _device.ReadWord(offset);
    }

    /// <summary>Writes a claim into both lines of the own slot, one after the other, and reads each back from memory
    /// (SAFETY S2 step 1): whichever line is lost from now on, the other one shows the term.</summary>
    public AnchorClaim WriteClaim(int slot, Term term, Guid master, Guid host, ulong generation)
    {
        SlotState before = ReadSlot(slot);
        AnchorClaim claim = new((before.Claim?.Counter ?? 0) + 1, term, master, host, generation);
        WriteClaimLine(slot, claim);
        claim = claim with { Counter = claim.Counter + 1 };
        WriteClaimLine(slot, claim);
        return claim;
    }

    /// <summary>Writes the next active copy of the own slot into both places: over the older one, and when that is in memory, with
    /// the next counter over the other. The next call needs a counter that is 2 higher. Tails carry the counter given here,
    /// which belongs to either copy.</summary>
    public void WriteActive(ActiveAnchor anchor)
    {
        WriteActiveCopy(anchor);
        WriteActiveCopy(anchor with { Counter = anchor.Counter + 1 });
    }

    /// <summary>Publishes a tail: one aligned 8-byte store, written back. Everything below it must have been
    /// written back and fenced before.</summary>
    public void WriteTail(ActiveAnchor anchor, long tail)
    {
        long offset = OffsetOf(anchor.Term.Slot) + TailOffset;
        _device.WriteWord(offset, new TailWord(tail, anchor.Counter).Value);
        _device.WriteBack(offset, DaxDevice.LineBytes);
        _device.Fence();
    }

    /// <summary>Stores the published tail again, and the own heartbeat counter beside it (SAFETY S4, S25): a tail that was damaged
    /// in memory is right again.</summary>
    public void WriteHeartbeat(ActiveAnchor anchor, long tail, ulong counter)
    {
        _device.WriteWord(OffsetOf(anchor.Term.Slot) + HeartbeatOffset, counter);
        WriteTail(anchor, tail);
    }

    private static long OffsetOf(int slot) => MediaLayout.AnchorOffset + (long)slot * MediaLayout.AnchorStride;

    /// <summary>What the claim lines of a slot are.</summary>
    private enum ClaimLines
    {
        /// <summary>At least one is a claim, which then is in the other too or its claimant has read nothing yet; or both are zero.</summary>
        Sound,

        /// <summary>One is zero, and the other is no claim: the first claim of the slot, torn by a crash or damaged, or an unused line
        /// that is damaged. Its claimant has read nothing yet, because both lines are stored before anything is read, if the slot was
        /// never active.</summary>
        Torn,

        /// <summary>None is a claim or zero.</summary>
        Damaged,
    }

    private ClaimLines ParseClaims(ReadOnlySpan<byte> lines, int slot, out AnchorClaim? claim)
    {
        claim = null;
        int used = 0;
        for (int i = 0; i < 2; i++)
        {
            ReadOnlySpan<byte> line = lines.Slice(i * AnchorClaim.Size, AnchorClaim.Size);
            if (AnchorClaim.TryParse(line, _fileSystem, slot, out AnchorClaim parsed))
            {
                if (claim is null || parsed.Term > claim.Value.Term)
                    claim = parsed;
                continue;
            }
            used += line.ContainsAnyExcept((byte)0) ? 1 : 0;
        }
        return claim is not null || used == 0 ? ClaimLines.Sound : used == 2 ? ClaimLines.Damaged : ClaimLines.Torn;
    }

    /// <summary>What is wrong with a slot whose claims are not sound; empty: nothing.</summary>
    private string FindDamage(int slot, ClaimLines lines) => lines == ClaimLines.Torn ? ReadSlot(slot, attempts: 1).Damage : UnreadableClaim;

    private static string JudgeSlot(ClaimLines lines, AnchorClaim? claim, ActiveAnchor? active, int damagedCopies, TailWord tail)
    {
        // A tail comes after two active copies. Where both are zero, one line is damaged, and it is the tail's.
        bool wasActive = active is not null || damagedCopies == 2 || (tail.Value != 0 && damagedCopies > 0);
        if (lines == ClaimLines.Damaged || (lines == ClaimLines.Torn && (wasActive || damagedCopies > 0)))
            return UnreadableClaim;
        if (active is not null && (claim is null || active.Term > claim.Value.Term))
            return $"term {active.Term} is active, and its claim is gone: it is damaged and may hide a newer master";
        // A crash tears the one copy that was being written, before any tail of the term; in a slot without a claim it is a line
        // that was never used.
        if (active is null && wasActive)
            return "its active copies are damaged: where the log goes on cannot be read";
        if (active is not null && damagedCopies > 0 && tail.IsAfter(active))
            return $"its newest active copy is damaged: the tail is of a later one than {active.Counter}";
        return "";
    }

    private FamfsException DamagedSlot(int slot, string damage) =>
        new(ErrorReason.MediaCorrupt, $"{_device.Path}: anchor slot {slot}: {damage}; run `famfs check`") { Path = _device.Path };

    private void WriteClaimLine(int slot, AnchorClaim claim)
    {
        Span<byte> line = stackalloc byte[AnchorClaim.Size];
        Span<byte> back = stackalloc byte[AnchorClaim.Size];
        claim.Format(line, _fileSystem, slot);
        long offset = OffsetOf(slot) + (claim.Counter % 2 == 1 ? 0 : AnchorClaim.Size);
        Persist(offset, line);
        _device.Invalidate(offset, AnchorClaim.Size);
        _device.Read(offset, back);
        if (!back.SequenceEqual(line))
            throw new FamfsException(ErrorReason.NotMaster, $"{_device.Path}: anchor slot {slot} is written by somebody else at the same time") { Path = _device.Path };
    }

    private void WriteActiveCopy(ActiveAnchor anchor)
    {
        anchor.Format(_block, _fileSystem);
        Persist(OffsetOf(anchor.Term.Slot) + ActiveOffset + (anchor.Counter % 2 == 1 ? 0 : ActiveAnchor.Size), _block);
    }

    private void Persist(long offset, ReadOnlySpan<byte> bytes)
    {
        _device.Write(offset, bytes);
        _device.WriteBack(offset, bytes.Length);
        _device.Fence();
    }
}
