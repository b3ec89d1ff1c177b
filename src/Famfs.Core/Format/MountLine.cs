namespace Famfs.Core.Format;

/// <summary>State of a mount in its host-table entry.</summary>
public enum MountState : uint
{
    Free = 0,
    Live = 1,

    /// <summary>Unmounted in order: holds nothing any more.</summary>
    Ended = 2,
}

/// <summary>
/// One mount's entry in the host table, written only by that mount: two copies of 256 bytes used in turn,
/// so that a torn write leaves the one before it. Entry n of the block of host slot h is at
/// (h · 8 + n) · 512.
/// <code>
///    0   8  counter; parity picks the copy; every write renews the lease
///    8 4+4  state; number of exceptions
///   16  16  host id
///   32  16  boot id
///   48  16  mount id
///   64 8+8  replayed sequence, its term
///   80   8  generation
///   88   8  released watermark: every inode deleted at or below this sequence is released …
///   96 4+4  dialect; lease in ms, within which the mount gives itself up when it cannot write this; 0: it does not
///  104   8  CLOCK_BOOTTIME of the write, ns (for people)
///  112   8  × 16: … but these
///  240      reserved
///  252   4  CRC-32C of [0, 252), seeded with (file system, 2, entry)
/// </code>
/// </summary>
public sealed record MountLine
{
    /// <summary>Bytes of one copy.</summary>
    public const int Size = 256;

    /// <summary>Most inodes that a line can except from its released watermark.</summary>
    public const int MaxExceptions = 16;

    public required ulong Counter { get; init; }
    public required MountState State { get; init; }
    public required Guid Host { get; init; }
    public required Guid Boot { get; init; }
    public required Guid Mount { get; init; }
    public LogSequence ReplayedSequence { get; init; }
    public Term ReplayedTerm { get; init; }
    public ulong Generation { get; init; }
    public LogSequence ReleasedWatermark { get; init; }
    public uint Dialect { get; init; }

    /// <summary>Milliseconds after which the mount has given up all its files when it could not write its line (SAFETY S15): a statement
    /// of the mount, the same in all its lines. 0: it states nothing.</summary>
    public uint LeaseMs { get; init; }
    public long WrittenBootNs { get; init; }
    public InodeNumber[] Exceptions { get; init; } = [];

    public void Format(Span<byte> block, Guid fileSystem, int entry)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(Exceptions.Length, MaxExceptions);
        block = block[..Size];
        block.Clear();
        FieldWriter w = new(block);
        w.U64(0, Counter);
        w.U32(8, (uint)State);
        w.U32(12, (uint)Exceptions.Length);
        w.Uuid(16, Host);
        w.Uuid(32, Boot);
        w.Uuid(48, Mount);
        w.U64(64, ReplayedSequence.Value);
        w.U64(72, ReplayedTerm.Value);
        w.U64(80, Generation);
        w.U64(88, ReleasedWatermark.Value);
        w.U32(96, Dialect);
        w.U32(100, LeaseMs);
        w.I64(104, WrittenBootNs);
        for (int i = 0; i < Exceptions.Length; i++)
            w.U64(112 + i * 8, Exceptions[i].Value);
        w.U32(252, ~Crc32C.Append(Crc32C.Seed(fileSystem, 2, (ulong)entry), block[..252]));
    }

    public static bool TryParse(ReadOnlySpan<byte> block, Guid fileSystem, int entry, out MountLine? line)
    {
        line = null;
        block = block[..Size];
        FieldReader r = new(block);
        if (r.U32(252) != ~Crc32C.Append(Crc32C.Seed(fileSystem, 2, (ulong)entry), block[..252])
            || r.U64(0) == 0 || r.U32(12) > MaxExceptions || r.U32(8) is 0 or > (uint)MountState.Ended)
            return false;
        InodeNumber[] exceptions = new InodeNumber[r.U32(12)];
        for (int i = 0; i < exceptions.Length; i++)
            exceptions[i] = new(r.U64(112 + i * 8));
        MountLine parsed = new()
        {
            Counter = r.U64(0),
            State = (MountState)r.U32(8),
            Host = r.Uuid(16),
            Boot = r.Uuid(32),
            Mount = r.Uuid(48),
            ReplayedSequence = new(r.U64(64)),
            ReplayedTerm = new(r.U64(72)),
            Generation = r.U64(80),
            ReleasedWatermark = new(r.U64(88)),
            Dialect = r.U32(96),
            LeaseMs = r.U32(100),
            WrittenBootNs = r.I64(104),
            Exceptions = exceptions,
        };
        // One canonical encoding: reserved bytes are zero.
        Span<byte> canonical = stackalloc byte[Size];
        parsed.Format(canonical, fileSystem, entry);
        if (!canonical.SequenceEqual(block))
            return false;
        line = parsed;
        return true;
    }
}
