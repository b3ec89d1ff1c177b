using Famfs.Core.Format;

namespace Famfs.Famfs2.Codec;

/// <summary>What a reader finds at the log header's place.</summary>
public enum Famfs2HeaderVerdict
{
    /// <summary>Intact, and both counters agree.</summary>
    Good,

    /// <summary>Intact, but the counters differ or exceed the log: a writer is between its two stores, or died
    /// there.</summary>
    Skewed,

    /// <summary>Magic, length, last index or checksum are wrong.</summary>
    Damaged,
}

/// <summary>
/// The header of the famfs-2 log.
/// <code>
///  0  8  magic 0xBADCAFEF00D (famfs_log_magic)
///  8  8  length of the log (famfs_log_len)
/// 16  8  last index = (length − 48) / 544 − 1 (famfs_log_last_index)
/// 24  8  CRC-32 of [0, 24) (famfs_log_crc)
/// 32  8  next sequence (famfs_log_next_seqnum)   ┐ not covered; equal at all times
/// 40  8  next index (famfs_log_next_index)       ┘
/// </code>
/// All of it is in one cache line, with the first 16 bytes of entry 0. Full when next index exceeds last index.
/// </summary>
public readonly record struct Famfs2LogHeader(long LengthBytes, ulong NextSequence, ulong NextIndex)
{
    /// <summary>Bytes.</summary>
    public const int Size = Famfs2Layout.HeaderBytes;

    /// <summary>Where the counters are, and their bytes.</summary>
    public const int CountersOffset = 32;

    /// <summary>Bytes of both counters.</summary>
    public const int CountersBytes = 16;

    private const ulong Magic = 0xBADCAFEF00D;

    /// <summary>Index of the last entry there is room for.</summary>
    public ulong LastIndex => Famfs2Layout.LastIndexOf(LengthBytes);

    /// <summary>Entries that both counters vouch for.</summary>
    public ulong ConfirmedEntries => Math.Min(Math.Min(NextSequence, NextIndex), LastIndex + 1);

    /// <summary>Fills the first <see cref="Size"/> bytes of <paramref name="block"/>.</summary>
    public void Format(Span<byte> block)
    {
        block = block[..Size];
        FieldWriter w = new(block);
        w.U64(0, Magic);
        w.I64(8, LengthBytes);
        w.U64(16, LastIndex);
        w.U64(24, Crc32.Compute(block[..24]));
        w.U64(32, NextSequence);
        w.U64(40, NextIndex);
    }

    /// <summary>How many of magic, length and last index are those of a log of <paramref name="logLengthBytes"/>: what still
    /// says that a damaged header is one.</summary>
    public static int CountRight(ReadOnlySpan<byte> block, long logLengthBytes)
    {
        FieldReader r = new(block[..Size]);
        return (r.U64(0) == Magic ? 1 : 0) + (r.I64(8) == logLengthBytes ? 1 : 0) + (r.U64(16) == Famfs2Layout.LastIndexOf(logLengthBytes) ? 1 : 0);
    }

    /// <summary>Judges the first <see cref="Size"/> bytes of <paramref name="block"/>, which belong to a log of
    /// <paramref name="logLengthBytes"/>.</summary>
    public static Famfs2HeaderVerdict Parse(ReadOnlySpan<byte> block, long logLengthBytes, out Famfs2LogHeader header, out string cause)
    {
        FieldReader r = new(block[..Size]);
        header = new(logLengthBytes, r.U64(32), r.U64(40));
        cause = "";
        if (r.U64(0) != Magic)
            cause = "log header magic is wrong";
        else if (r.U64(24) != Crc32.Compute(block[..24]))
            cause = "log header checksum is wrong";
        else if (r.I64(8) != logLengthBytes)
            cause = $"log header has length {r.U64(8)}, the superblock {logLengthBytes}";
        else if (r.U64(16) != header.LastIndex)
            cause = $"log header has last index {r.U64(16)}, the length gives {header.LastIndex}";
        if (cause.Length > 0)
            return Famfs2HeaderVerdict.Damaged;
        if (header.NextSequence == header.NextIndex && header.NextIndex <= header.LastIndex + 1)
            return Famfs2HeaderVerdict.Good;
        cause = $"log header has next sequence {header.NextSequence} and next index {header.NextIndex} of {header.LastIndex + 1}";
        return Famfs2HeaderVerdict.Skewed;
    }
}
