using System.Runtime.InteropServices;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.V1;

namespace Famfs.Core.Log.Native;

/// <summary>What one anchor slot holds: its highest claim and its latest active copy.</summary>
/// <param name="Claim">Highest valid claim; null when none was ever made.</param>
/// <param name="Active">Latest valid active copy; null when the slot never became active.</param>
/// <param name="Unreadable">Neither all zero nor valid: it may hide a higher term (SAFETY S6).</param>
public readonly record struct SlotState(AnchorClaim? Claim, ActiveAnchor? Active, bool Unreadable)
{
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
/// regress. Not thread safe; each user has its own.
/// </summary>
public sealed class AnchorArea
{
    private const int ClaimBytes = 2 * AnchorClaim.Size;
    private const int TailOffset = 128;
    private const int HeartbeatOffset = 136;
    private const int ActiveOffset = 2048;
    private const int MaxAttempts = 1000;

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
            for (int slot = 0; slot < Term.SlotCount; slot++)
            {
                if (ParseClaims(_claims.AsSpan(slot * ClaimBytes, ClaimBytes), slot, out AnchorClaim? claim))
                    highest = Math.Max(highest, claim?.Term.Value ?? 0);
                else
                    unreadable = slot;
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
                throw new FamfsException(ErrorReason.MediaCorrupt, $"{_device.Path}: anchor slot {unreadable} is damaged and may hide a newer master; run `famfs check`") { Path = _device.Path };
            Thread.SpinWait(100);
        }
    }

    /// <summary>Invalidates and reads one slot whole.</summary>
    public SlotState ReadSlot(int slot)
    {
        long offset = OffsetOf(slot);
        for (int attempt = 0; ; attempt++)
        {
            _device.Invalidate(offset, ClaimBytes);
            Span<byte> lines = _block.AsSpan(0, ClaimBytes);
            _device.Read(offset, lines);
            bool readable = ParseClaims(lines, slot, out AnchorClaim? claim);
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
            // A crash tears the one copy that was being written, behind a claim that is there.
            bool unreadable = !readable || (active is null && (damaged == 2 || (damaged == 1 && claim is null)));
            if (!unreadable || attempt == MaxAttempts)
                return new(claim, active, unreadable);
            Thread.SpinWait(100);
        }
    }

    /// <summary>Invalidates and reads the published tail of <paramref name="anchor"/>'s term. Null: the anchor
    /// has been rewritten and must be read again.</summary>
    public long? ReadTail(ActiveAnchor anchor)
    {
        long offset = OffsetOf(anchor.Term.Slot) + TailOffset;
        _device.Invalidate(offset, DaxDevice.LineBytes);
        return new TailWord(_device.ReadWord(offset)).TailOf(anchor);
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

    /// <summary>Writes a claim of the own slot and reads it back from memory (SAFETY S2 step 1).</summary>
    public AnchorClaim WriteClaim(int slot, Term term, Guid master, Guid host, ulong generation)
    {
        SlotState before = ReadSlot(slot);
        AnchorClaim claim = new((before.Claim?.Counter ?? 0) + 1, term, master, host, generation);
        Span<byte> line = stackalloc byte[AnchorClaim.Size];
        Span<byte> back = stackalloc byte[AnchorClaim.Size];
        claim.Format(line, _fileSystem, slot);
        long offset = OffsetOf(slot) + (claim.Counter % 2 == 1 ? 0 : AnchorClaim.Size);
        Persist(offset, line);
        _device.Invalidate(offset, AnchorClaim.Size);
        _device.Read(offset, back);
        if (!back.SequenceEqual(line))
            throw new FamfsException(ErrorReason.NotMaster, $"{_device.Path}: anchor slot {slot} is written by somebody else at the same time") { Path = _device.Path };
        return claim;
    }

    /// <summary>Writes the next active copy of the own slot, over the older of the two.</summary>
    public void WriteActive(ActiveAnchor anchor)
    {
        anchor.Format(_block, _fileSystem);
        Persist(OffsetOf(anchor.Term.Slot) + ActiveOffset + (anchor.Counter % 2 == 1 ? 0 : ActiveAnchor.Size), _block);
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

    /// <summary>Stores the own heartbeat counter (SAFETY S4).</summary>
    public void WriteHeartbeat(int slot, ulong counter)
    {
        long offset = OffsetOf(slot) + HeartbeatOffset;
        _device.WriteWord(offset, counter);
        _device.WriteBack(offset, DaxDevice.LineBytes);
        _device.Fence();
    }

    private static long OffsetOf(int slot) => MediaLayout.AnchorOffset + (long)slot * MediaLayout.AnchorStride;

    /// <summary>False when no line is a claim and one may have been: a claim that is whole has no word of zeros,
    /// so a line that has one was torn by a crash on its way into a slot never claimed before. Its claimant
    /// has read nothing yet.</summary>
    private bool ParseClaims(ReadOnlySpan<byte> lines, int slot, out AnchorClaim? claim)
    {
        claim = null;
        bool damaged = false;
        for (int i = 0; i < 2; i++)
        {
            ReadOnlySpan<byte> line = lines.Slice(i * AnchorClaim.Size, AnchorClaim.Size);
            if (!AnchorClaim.TryParse(line, _fileSystem, slot, out AnchorClaim parsed))
                damaged |= !MemoryMarshal.Cast<byte, ulong>(line).Contains(0UL);
            else if (claim is null || parsed.Term > claim.Value.Term)
                claim = parsed;
        }
        return claim is not null || !damaged;
    }

    private void Persist(long offset, ReadOnlySpan<byte> bytes)
    {
        _device.Write(offset, bytes);
        _device.WriteBack(offset, bytes.Length);
        _device.Fence();
    }
}
