namespace Famfs.Core.Format;

/// <summary>
/// Header of a log segment; 4 KiB, its frames follow.
/// <code>
///    0   8  magic "FAMFSSEG"
///    8   8  generation
///   16  16  file-system uuid
///   32  56  this segment (sealed length always "open")
///   88   8  sequence of the record before its first
///   96  56  predecessor with its sealed length; zero in the first segment
///  152      reserved, zero
/// 4092   4  CRC-32C of [0, 4092), seeded with (file system, generation, segment id)
/// </code>
/// </summary>
public sealed record SegmentHeader(Guid FileSystem, ulong Generation, SegmentRef Segment, LogSequence PreviousSequence, SegmentRef? Predecessor)
{
    private const ulong Magic = 0x4745_5353_464D_4146; // "FAMFSSEG"
    private const int CrcOffset = MediaLayout.SegmentHeaderBytes - 4;

    public void Format(Span<byte> block)
    {
        block = block[..MediaLayout.SegmentHeaderBytes];
        block.Clear();
        FieldWriter w = new(block);
        w.U64(0, Magic);
        w.U64(8, Generation);
        w.Uuid(16, FileSystem);
        (Segment with { SealedBytes = SegmentRef.Open }).Format(block[32..]);
        w.U64(88, PreviousSequence.Value);
        Predecessor?.Format(block[96..]);
        w.U32(CrcOffset, ~Crc32C.Append(Crc32C.Seed(FileSystem, Generation, Segment.Id), block[..CrcOffset]));
    }

    /// <summary>False: bytes that begin so are no header.</summary>
    internal static bool MayBegin(ReadOnlySpan<byte> block) => new FieldReader(block).U64(0) == Magic;

    public static bool TryParse(ReadOnlySpan<byte> block, out SegmentHeader? header)
    {
        header = null;
        block = block[..MediaLayout.SegmentHeaderBytes];
        FieldReader r = new(block);
        if (r.U64(0) != Magic)
            return false;
        SegmentRef segment = SegmentRef.Parse(block[32..]);
        SegmentRef predecessor = SegmentRef.Parse(block[96..]);
        bool first = r.IsZero(96, SegmentRef.Size);
        Guid fileSystem = r.Uuid(16);
        ulong generation = r.U64(8);
        if (r.U32(CrcOffset) != ~Crc32C.Append(Crc32C.Seed(fileSystem, generation, segment.Id), block[..CrcOffset])
            || !segment.IsPlausible || first != (segment.AbsoluteStart == 0)
            || (!first && (!predecessor.IsPlausible || predecessor.SealedBytes == SegmentRef.Open || predecessor.AbsoluteEnd != segment.AbsoluteStart)))
            return false;
        SegmentHeader parsed = new(fileSystem, generation, segment, new(r.U64(88)), first ? null : predecessor);
        // One canonical encoding: reserved bytes are zero.
        Span<byte> canonical = stackalloc byte[MediaLayout.SegmentHeaderBytes];
        parsed.Format(canonical);
        if (!canonical.SequenceEqual(block))
            return false;
        header = parsed;
        return true;
    }
}
