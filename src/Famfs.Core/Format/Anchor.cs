namespace Famfs.Core.Format;

/// <summary>One piece of the log: frames [<see cref="AbsoluteStart"/>, + <see cref="SealedBytes"/>) of the
/// generation's log stand on <see cref="Device"/> behind the header at <see cref="Offset"/>.</summary>
/// <param name="Id">Unique in the generation: term · 2^16 + count. Seeds the frames' CRCs.</param>
/// <param name="Term">Term that began it.</param>
/// <param name="Device">Device it stands on.</param>
/// <param name="Offset">Device offset of its header, bytes.</param>
/// <param name="LengthBytes">From the header to the end of the space it may fill.</param>
/// <param name="AbsoluteStart">Log offset of its first frame, bytes.</param>
/// <param name="SealedBytes">Bytes of frames; <see cref="Open"/> for the last one, which ends at the tail.</param>
public readonly record struct SegmentRef(ulong Id, Term Term, DeviceIndex Device, long Offset, long LengthBytes, long AbsoluteStart, long SealedBytes)
{
    /// <summary>Bytes of one reference on the media.</summary>
    public const int Size = 56;

    /// <summary>Sealed length of the segment that is being written.</summary>
    public const long Open = -1;

    /// <summary>Bytes of frames it can hold.</summary>
    public long CapacityBytes => LengthBytes - MediaLayout.SegmentHeaderBytes;

    /// <summary>Log offset behind its last possible frame, or behind its sealed ones.</summary>
    public long AbsoluteEnd => AbsoluteStart + (SealedBytes == Open ? CapacityBytes : SealedBytes);

    /// <summary>Device offset of a log offset inside it.</summary>
    public long DeviceOffsetOf(long logOffset) => Offset + MediaLayout.SegmentHeaderBytes + (logOffset - AbsoluteStart);

    /// <summary>True when all fields are in the ranges that a writer gives them.</summary>
    public bool IsPlausible =>
        Id != 0 && Term.Value != 0 && Offset > 0 && Offset % MediaLayout.SegmentHeaderBytes == 0
        && LengthBytes > MediaLayout.SegmentHeaderBytes && LengthBytes <= long.MaxValue - Offset
        && AbsoluteStart >= 0 && AbsoluteStart % RecordFrame.Alignment == 0
        && (SealedBytes == Open || (SealedBytes >= 0 && SealedBytes <= CapacityBytes && SealedBytes % RecordFrame.Alignment == 0));

    internal void Format(Span<byte> block)
    {
        FieldWriter w = new(block);
        w.U64(0, Id);
        w.U64(8, Term.Value);
        w.U32(16, Device.Value);
        w.I64(24, Offset);
        w.I64(32, LengthBytes);
        w.I64(40, AbsoluteStart);
        w.I64(48, SealedBytes);
    }

    internal static SegmentRef Parse(ReadOnlySpan<byte> block)
    {
        FieldReader r = new(block);
        return new(r.U64(0), new(r.U64(8)), new((ushort)r.U32(16)), r.I64(24), r.I64(32), r.I64(40), r.I64(48));
    }
}

/// <summary>
/// A claim on mastership: one cache line, written before anything is read (SAFETY S2). A slot has two, used
/// in turn, so that a torn write never hides the claim before it; they stay when the term becomes active.
/// <code>
///  0  8  counter, odd: line A, even: line B; grows with every claim of the slot
///  8  8  term
/// 16 16  master id
/// 32 16  host id
/// 48  8  generation
/// 60  4  CRC-32C of [0, 60), seeded with (file system, 0, slot)
/// </code>
/// </summary>
public readonly record struct AnchorClaim(ulong Counter, Term Term, Guid Master, Guid Host, ulong Generation)
{
    /// <summary>Bytes on the media.</summary>
    public const int Size = 64;

    public void Format(Span<byte> line, Guid fileSystem, int slot)
    {
        line = line[..Size];
        line.Clear();
        FieldWriter w = new(line);
        w.U64(0, Counter);
        w.U64(8, Term.Value);
        w.Uuid(16, Master);
        w.Uuid(32, Host);
        w.U64(48, Generation);
        w.U32(60, ~Crc32C.Append(Crc32C.Seed(fileSystem, 0, (ulong)slot), line[..60]));
    }

    public static bool TryParse(ReadOnlySpan<byte> line, Guid fileSystem, int slot, out AnchorClaim claim)
    {
        line = line[..Size];
        FieldReader r = new(line);
        claim = new(r.U64(0), new(r.U64(8)), r.Uuid(16), r.Uuid(32), r.U64(48));
        return r.U32(60) == ~Crc32C.Append(Crc32C.Seed(fileSystem, 0, (ulong)slot), line[..60])
            && r.IsZero(56, 4) && claim.Term.Slot == slot && claim.Counter != 0 && claim.Term.Value != 0;
    }
}

/// <summary>
/// The active copy of an anchor slot: which segments make up the log that its term continues. Two copies
/// used in turn.
/// <code>
///    0   8  counter; parity picks the copy; grows with every write
///    8   8  term
///   16   8  generation
///   24  16  master id
///   40  16  host id
///   56   8  counter of this term's first active copy
///   64   8  start tail: log offset where this term's own records begin
///   72   8  sequence of the record before it
///   80   8  term of that record
///   88 4+4  references that follow; segments of the whole generation
///   96      reserved
///  192  56  × 32: newest segments, oldest first
/// 2044   4  CRC-32C of [0, 2044), seeded with (file system, 1, slot)
/// </code>
/// </summary>
public sealed record ActiveAnchor
{
    /// <summary>Bytes on the media.</summary>
    public const int Size = 2048;

    private const int ChainOffset = 192;

    public required ulong Counter { get; init; }
    public required Term Term { get; init; }
    public required ulong Generation { get; init; }
    public required Guid Master { get; init; }
    public required Guid Host { get; init; }
    public required ulong FirstCounter { get; init; }
    public required long StartTail { get; init; }
    public required LogSequence StartSequence { get; init; }
    public required Term StartTerm { get; init; }
    public required uint SegmentCount { get; init; }

    /// <summary>Newest segments of the chain, oldest first; the last one is open.</summary>
    public required SegmentRef[] Chain { get; init; }

    public void Format(Span<byte> block, Guid fileSystem)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(Chain.Length, MediaLayout.MaxChainInAnchor);
        block = block[..Size];
        block.Clear();
        FieldWriter w = new(block);
        w.U64(0, Counter);
        w.U64(8, Term.Value);
        w.U64(16, Generation);
        w.Uuid(24, Master);
        w.Uuid(40, Host);
        w.U64(56, FirstCounter);
        w.I64(64, StartTail);
        w.U64(72, StartSequence.Value);
        w.U64(80, StartTerm.Value);
        w.U32(88, (uint)Chain.Length);
        w.U32(92, SegmentCount);
        for (int i = 0; i < Chain.Length; i++)
            Chain[i].Format(block[(ChainOffset + i * SegmentRef.Size)..]);
        w.U32(2044, ~Crc32C.Append(Crc32C.Seed(fileSystem, 1, (ulong)Term.Slot), block[..2044]));
    }

    public static bool TryParse(ReadOnlySpan<byte> block, Guid fileSystem, int slot, out ActiveAnchor? anchor)
    {
        anchor = null;
        block = block[..Size];
        FieldReader r = new(block);
        // Most slots were never used, and everybody looks at all of them.
        if (r.U64(0) == 0)
            return false;
        if (r.U32(2044) != ~Crc32C.Append(Crc32C.Seed(fileSystem, 1, (ulong)slot), block[..2044]))
            return false;
        uint count = r.U32(88);
        Term term = new(r.U64(8));
        if (count is 0 or > MediaLayout.MaxChainInAnchor || term.Slot != slot || term.Value == 0)
            return false;
        SegmentRef[] chain = new SegmentRef[count];
        for (int i = 0; i < chain.Length; i++)
        {
            chain[i] = SegmentRef.Parse(block[(ChainOffset + i * SegmentRef.Size)..]);
            bool last = i == chain.Length - 1;
            if (!chain[i].IsPlausible || (chain[i].SealedBytes == SegmentRef.Open) != last
                || (i > 0 && chain[i].AbsoluteStart != chain[i - 1].AbsoluteEnd))
                return false;
        }
        anchor = new()
        {
            Counter = r.U64(0),
            Term = term,
            Generation = r.U64(16),
            Master = r.Uuid(24),
            Host = r.Uuid(40),
            FirstCounter = r.U64(56),
            StartTail = r.I64(64),
            StartSequence = new(r.U64(72)),
            StartTerm = new(r.U64(80)),
            SegmentCount = r.U32(92),
            Chain = chain,
        };
        // The term starts inside the last segment of its first copy; later copies list segments behind it.
        if (anchor.StartTail < 0 || anchor.StartTail > chain[^1].AbsoluteEnd || anchor.StartTail % RecordFrame.Alignment != 0
            || (anchor.Counter == anchor.FirstCounter && anchor.StartTail < chain[^1].AbsoluteStart)
            || anchor.FirstCounter > anchor.Counter || anchor.SegmentCount < count)
            return false;
        // One canonical encoding: reserved bytes are zero.
        Span<byte> canonical = stackalloc byte[Size];
        anchor.Format(canonical, fileSystem);
        return canonical.SequenceEqual(block);
    }
}

/// <summary>
/// The tail word: alone in its line but for the heartbeat counter at +8, stored as one 8-byte access.
/// Bits 0–47: log offset behind the last published frame. Bits 48–63: low bits of the counter of the active
/// copy it belongs to, so that a tail of an earlier term of the slot is told from one of this term.
/// </summary>
public readonly record struct TailWord(ulong Value)
{
    /// <summary>Largest log offset: 256 TiB of records in one generation.</summary>
    public const long MaxOffset = (1L << 48) - 1;

    public TailWord(long logOffset, ulong anchorCounter)
        : this((ulong)logOffset | (anchorCounter << 48))
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan((ulong)logOffset, (ulong)MaxOffset, nameof(logOffset));
    }

    public long LogOffset => (long)(Value & MaxOffset);

    public ushort Tag => (ushort)(Value >> 48);

    /// <summary>Tells what the word says of <paramref name="anchor"/>'s term.</summary>
    /// <param name="anchor">The latest active copy that was read.</param>
    /// <param name="tail">The published tail, or the start of the term where the word does not say one.</param>
    public TailVerdict Judge(ActiveAnchor anchor, out long tail)
    {
        tail = anchor.StartTail;
        ushort sinceFirst = (ushort)(Tag - (ushort)anchor.FirstCounter);
        if (sinceFirst > anchor.Counter - anchor.FirstCounter)
            return sinceFirst > ushort.MaxValue / 2 ? TailVerdict.Before : TailVerdict.After;
        if (LogOffset < anchor.StartTail || LogOffset > anchor.Chain[^1].AbsoluteEnd || LogOffset % RecordFrame.Alignment != 0)
            return TailVerdict.Impossible;
        tail = LogOffset;
        return TailVerdict.Published;
    }

    /// <summary>The word was stored after a later active copy than <paramref name="anchor"/>.</summary>
    public bool IsAfter(ActiveAnchor anchor) => (ushort)(Tag - (ushort)anchor.Counter) is > 0 and <= ushort.MaxValue / 2;
}

/// <summary>What a tail word says of a term whose active copy was read.</summary>
public enum TailVerdict
{
    /// <summary>The published tail of the term.</summary>
    Published,

    /// <summary>A tail of an earlier term of the slot: the term's first one is not stored yet, or was lost.</summary>
    Before,

    /// <summary>A tail of a later active copy, which must be read; when there is none, the word is damaged.</summary>
    After,

    /// <summary>A tail of the term, outside its log.</summary>
    Impossible,
}
