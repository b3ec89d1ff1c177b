using Famfs.Core.Format;

namespace Famfs.Famfs2.Codec;

/// <summary>Types of entries.</summary>
public enum Famfs2EntryType : uint
{
    File = 0,
    Directory = 1,

    /// <summary>Never written, undefined.</summary>
    Delete = 2,
    AddDevice = 3,
    Invalid = 4,
}

/// <summary>What a reader finds at an entry's place.</summary>
public enum Famfs2EntryVerdict
{
    /// <summary>Checksum and sequence are right. Says nothing of what the entry means.</summary>
    Good,

    /// <summary>The checksum is wrong.</summary>
    BadChecksum,

    /// <summary>The sequence is not the entry's index.</summary>
    BadSequence,
}

/// <summary>
/// An entry of the famfs-2 log, as bytes that are looked at in place.
/// <code>
///   0   8  sequence, equal to the index (famfs_log_entry_seqnum)
///   8   4  type (famfs_log_entry_type)
///  12   4  padding
///  16 520  payload: see <see cref="Famfs2File"/>, <see cref="Famfs2Directory"/>, <see cref="Famfs2Device"/>
/// 536   8  CRC-32 of [0, 536) (famfs_log_entry_crc)
/// </code>
/// Writers zero all padding and unused bytes; readers do not rely on that.
/// </summary>
public readonly ref struct Famfs2Entry
{
    /// <summary>Bytes.</summary>
    public const int Size = Famfs2Layout.EntryBytes;

    private readonly ReadOnlySpan<byte> _bytes;

    /// <summary>Looks at the first <see cref="Size"/> bytes.</summary>
    public Famfs2Entry(ReadOnlySpan<byte> bytes) => _bytes = bytes[..Size];

    /// <summary>The bytes.</summary>
    public ReadOnlySpan<byte> Bytes => _bytes;

    public ulong Sequence => new FieldReader(_bytes).U64(0);

    public Famfs2EntryType Type => (Famfs2EntryType)new FieldReader(_bytes).U32(8);

    /// <summary>The checksum as stored.</summary>
    public ulong StoredCrc => new FieldReader(_bytes).U64(Famfs2Layout.EntryCrcOffset);

    /// <summary>Judges the entry at the place of <paramref name="index"/>.</summary>
    public Famfs2EntryVerdict Judge(ulong index)
    {
        if (StoredCrc != Crc32.Compute(_bytes[..Famfs2Layout.EntryCrcOffset]))
            return Famfs2EntryVerdict.BadChecksum;
        return Sequence == index ? Famfs2EntryVerdict.Good : Famfs2EntryVerdict.BadSequence;
    }

    /// <summary>Zeroes an entry and writes what all types share but the checksum.</summary>
    internal static void Begin(Span<byte> entry, ulong sequence, Famfs2EntryType type)
    {
        entry[..Size].Clear();
        FieldWriter w = new(entry);
        w.U64(0, sequence);
        w.U32(8, (uint)type);
    }

    /// <summary>Writes the checksum.</summary>
    internal static void End(Span<byte> entry) =>
        new FieldWriter(entry).U64(Famfs2Layout.EntryCrcOffset, Crc32.Compute(entry[..Famfs2Layout.EntryCrcOffset]));
}

/// <summary>A path as an entry stores it: 80 bytes, relative, ended by a NUL.</summary>
internal static class Famfs2Path
{
    /// <summary>The bytes up to the NUL; all 80 when there is none.</summary>
    public static ReadOnlySpan<byte> Of(ReadOnlySpan<byte> field, out bool terminated)
    {
        int end = field[..Famfs2Layout.PathBytes].IndexOf((byte)0);
        terminated = end >= 0;
        return field[..(terminated ? end : Famfs2Layout.PathBytes)];
    }
}

/// <summary>
/// Payload of a file, offsets in the entry. Parsing takes whatever is there; what it means is judged by who
/// replays or checks it.
/// <code>
///  16  8  size (famfs_fc_size)
///  24  4  flags, writers store 2 (famfs_fc_flags)
///  28  4  uid        32  4  gid        36  4  mode, permission bits
///  40 80  path
/// 120  4  extent type: 0 simple, 1 interleaved (fmap_ext_type)
/// 128  8  count (fmap_nextents); interleaved: 1
/// 136     simple: 16 extents of 24 bytes
/// 136  8  interleaved: strips (ie_nstrips)
/// 144  8  chunk bytes (ie_chunk_size)
/// 152     16 extents of 24 bytes
/// </code>
/// An extent is device index (8), offset (8), length (8).
/// </summary>
public sealed record Famfs2File
{
    /// <summary>Extent type of simple extents.</summary>
    public const uint Simple = 0;

    /// <summary>Extent type of strips.</summary>
    public const uint Interleaved = 1;

    /// <summary>What writers store in <see cref="Flags"/>.</summary>
    public const uint UsualFlags = 2;

    private const int PathOffset = 40;
    private const int SimpleOffset = 136;
    private const int StripsOffset = 152;
    private const int ExtentBytes = 24;

    public required ulong SizeBytes { get; init; }
    public uint Flags { get; init; } = UsualFlags;
    public uint Uid { get; init; }
    public uint Gid { get; init; }
    public uint Mode { get; init; }

    /// <summary>The path without its NUL; 80 bytes when there is none.</summary>
    public required ReadOnlyMemory<byte> Path { get; init; }

    /// <summary>A NUL ends the path.</summary>
    public bool PathTerminated => Path.Length < Famfs2Layout.PathBytes;
    public uint ExtentType { get; init; }

    /// <summary>Simple extents, or 1 interleaved one.</summary>
    public ulong Count { get; init; }

    /// <summary>Interleaved: number of strips.</summary>
    public ulong StripCount { get; init; }

    /// <summary>Interleaved: bytes of a chunk.</summary>
    public ulong ChunkBytes { get; init; }

    /// <summary>The extents or strips that the counts name; empty when a count is more than 16.</summary>
    public required IReadOnlyList<Famfs2Extent> Extents { get; init; }

    /// <summary>Reads the payload of an entry of this type.</summary>
    public static Famfs2File Parse(Famfs2Entry entry)
    {
        FieldReader r = new(entry.Bytes);
        uint type = r.U32(120);
        ulong count = r.U64(128);
        bool interleaved = type == Interleaved;
        ulong strips = interleaved ? r.U64(136) : 0;
        ulong named = type > Interleaved ? 0 : interleaved ? strips : count;
        Famfs2Extent[] extents = new Famfs2Extent[named <= Famfs2Layout.MaxExtents ? named : 0];
        for (int i = 0; i < extents.Length; i++)
        {
            int at = (interleaved ? StripsOffset : SimpleOffset) + (i * ExtentBytes);
            extents[i] = new(r.U64(at), r.U64(at + 8), r.U64(at + 16));
        }
        return new()
        {
            SizeBytes = r.U64(16),
            Flags = r.U32(24),
            Uid = r.U32(28),
            Gid = r.U32(32),
            Mode = r.U32(36),
            Path = Famfs2Path.Of(entry.Bytes[PathOffset..], out _).ToArray(),
            ExtentType = type,
            Count = count,
            StripCount = strips,
            ChunkBytes = interleaved ? r.U64(144) : 0,
            Extents = extents,
        };
    }

    /// <summary>Fills an entry; everything unused is zero.</summary>
    public void Format(Span<byte> entry, ulong sequence)
    {
        Famfs2Entry.Begin(entry, sequence, Famfs2EntryType.File);
        FieldWriter w = new(entry);
        w.U64(16, SizeBytes);
        w.U32(24, Flags);
        w.U32(28, Uid);
        w.U32(32, Gid);
        w.U32(36, Mode);
        Path.Span.CopyTo(entry.Slice(PathOffset, Famfs2Layout.PathBytes));
        w.U32(120, ExtentType);
        w.U64(128, Count);
        bool interleaved = ExtentType == Interleaved;
        if (interleaved)
        {
            w.U64(136, StripCount);
            w.U64(144, ChunkBytes);
        }
        for (int i = 0; i < Extents.Count; i++)
        {
            int at = (interleaved ? StripsOffset : SimpleOffset) + (i * ExtentBytes);
            w.U64(at, Extents[i].Device);
            w.U64(at + 8, Extents[i].OffsetBytes);
            w.U64(at + 16, Extents[i].LengthBytes);
        }
        Famfs2Entry.End(entry);
    }
}

/// <summary>A range of a device as an entry says it, unchecked.</summary>
public readonly record struct Famfs2Extent(ulong Device, ulong OffsetBytes, ulong LengthBytes);

/// <summary>
/// Payload of a directory, offsets in the entry.
/// <code>
/// 16  4  uid        20  4  gid        24  4  mode, permission bits
/// 28 80  path
/// </code>
/// </summary>
public sealed record Famfs2Directory
{
    private const int PathOffset = 28;

    public uint Uid { get; init; }
    public uint Gid { get; init; }
    public uint Mode { get; init; }

    /// <summary>The path without its NUL; 80 bytes when there is none.</summary>
    public required ReadOnlyMemory<byte> Path { get; init; }

    /// <summary>Reads the payload of an entry of this type.</summary>
    public static Famfs2Directory Parse(Famfs2Entry entry)
    {
        FieldReader r = new(entry.Bytes);
        return new() { Uid = r.U32(16), Gid = r.U32(20), Mode = r.U32(24), Path = Famfs2Path.Of(entry.Bytes[PathOffset..], out _).ToArray() };
    }

    /// <summary>Fills an entry; everything unused is zero.</summary>
    public void Format(Span<byte> entry, ulong sequence)
    {
        Famfs2Entry.Begin(entry, sequence, Famfs2EntryType.Directory);
        FieldWriter w = new(entry);
        w.U32(16, Uid);
        w.U32(20, Gid);
        w.U32(24, Mode);
        Path.Span.CopyTo(entry.Slice(PathOffset, Famfs2Layout.PathBytes));
        Famfs2Entry.End(entry);
    }
}

/// <summary>
/// Payload of a device that joins, offsets in the entry.
/// <code>
/// 16  8  size (dd_size)        24 16  uuid (dd_uuid)        40  4  index (dd_index)
/// </code>
/// </summary>
public sealed record Famfs2Device(ulong LengthBytes, Guid Device, uint Index)
{
    /// <summary>Reads the payload of an entry of this type.</summary>
    public static Famfs2Device Parse(Famfs2Entry entry)
    {
        FieldReader r = new(entry.Bytes);
        return new(r.U64(16), r.Uuid(24), r.U32(40));
    }

    /// <summary>Fills an entry; everything unused is zero.</summary>
    public void Format(Span<byte> entry, ulong sequence)
    {
        Famfs2Entry.Begin(entry, sequence, Famfs2EntryType.AddDevice);
        FieldWriter w = new(entry);
        w.U64(16, LengthBytes);
        w.Uuid(24, Device);
        w.U32(40, Index);
        Famfs2Entry.End(entry);
    }
}
