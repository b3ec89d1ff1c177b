using System.Runtime.InteropServices;

namespace Famfs.Core.Namespace;

/// <summary>
/// Where a file's bytes are. Valid inside the <see cref="TreeScope"/> it came from.
/// <para>Simple (<see cref="ChunkBytes"/> 0): the extents follow each other in file order. Interleaved: the
/// extents are N strips; file byte `offset` is in chunk k = offset / C, on strip k mod N, at strip offset
/// (k / N) · C + offset mod C.</para>
/// </summary>
public readonly unsafe ref struct MapView
{
    private readonly MapExtent _single;
    private readonly StoredExtent* _extents;

    internal MapView(ulong sizeBytes, ulong mapWord)
    {
        SizeBytes = sizeBytes;
        if (mapWord == 0)
            return;
        if (InodeMap.IsInline(mapWord))
        {
            ExtentCount = 1;
            _single = InodeMap.Inline(mapWord, sizeBytes);
            return;
        }

        byte* block = InodeMap.Block(mapWord);
        ChunkBytes = *(ulong*)block;
        ExtentCount = InodeMap.Count(mapWord);
        _extents = (StoredExtent*)(block + InodeMap.HeaderBytes);
    }

    /// <summary>A map of one extent, which is the whole file.</summary>
    public MapView(MapExtent whole)
    {
        SizeBytes = (ulong)whole.LengthBytes;
        ExtentCount = 1;
        _single = whole;
    }

    /// <summary>Size of the file in bytes.</summary>
    public ulong SizeBytes { get; }

    /// <summary>Bytes of a chunk of an interleaved map; 0: simple.</summary>
    public ulong ChunkBytes { get; }

    /// <summary>Number of extents, or of strips.</summary>
    public int ExtentCount { get; }

    /// <summary>An extent or strip.</summary>
    public MapExtent this[int index]
    {
        get
        {
            ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((uint)index, (uint)ExtentCount, nameof(index));
            return _extents == null ? _single : _extents[index].ToExtent();
        }
    }

    /// <summary>Finds file byte <paramref name="offset"/>: its device, its offset there in bytes, and how many
    /// bytes from it follow each other both in the file and on the device, up to the end of the extent, chunk
    /// or file. False outside the file and where the map does not cover it.</summary>
    public bool TryResolve(long offset, out DeviceIndex device, out long deviceOffset, out long contiguousBytes)
    {
        device = default;
        deviceOffset = contiguousBytes = 0;
        if (offset < 0 || (ulong)offset >= SizeBytes || ExtentCount == 0)
            return false;

        long inFile = (long)Math.Min(SizeBytes - (ulong)offset, long.MaxValue);
        MapExtent extent;
        long within;
        long run;
        if (_extents == null)
        {
            extent = _single;
            within = offset;
            run = inFile;
        }
        else if (ChunkBytes == 0)
        {
            // The last extent that starts at or before the offset; empty ones come before it.
            int low = 0;
            int high = ExtentCount - 1;
            while (low < high)
            {
                int middle = (low + high + 1) >> 1;
                if (_extents[middle].FileOffset <= offset)
                    low = middle;
                else
                    high = middle - 1;
            }

            extent = _extents[low].ToExtent();
            within = offset - _extents[low].FileOffset;
            run = inFile;
        }
        else
        {
            long chunkBytes = (long)ChunkBytes;
            long chunk = offset / chunkBytes;
            long inChunk = offset % chunkBytes;
            extent = _extents[chunk % ExtentCount].ToExtent();
            within = (chunk / ExtentCount * chunkBytes) + inChunk;
            run = Math.Min(inFile, chunkBytes - inChunk);
        }

        if (within >= extent.LengthBytes)
            return false;
        device = extent.Device;
        deviceOffset = extent.OffsetBytes + within;
        contiguousBytes = Math.Min(run, extent.LengthBytes - within);
        return true;
    }
}

/// <summary>An extent in a map block.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct StoredExtent
{
    public long OffsetBytes;
    public long LengthBytes;

    /// <summary>Sum of the lengths before it; of no use in interleaved maps.</summary>
    public long FileOffset;
    public ushort Device;

    public readonly MapExtent ToExtent() => new(new DeviceIndex(Device), OffsetBytes, LengthBytes);
}

/// <summary>
/// Packing of a map into the word of an inode:
/// <code>
/// 0                       no extent
/// bits 1..0 = 1           one simple extent: device 16 bits (63..48), start in units of 4 KiB 46 bits (47..2),
///                         length = size rounded up to 2 MiB
/// bits 1..0 = 2           the same, length = size rounded up to 4 KiB
/// bits 1..0 = 3           pointer to a block (8-byte aligned) with the count of extents in the upper 16 bits
/// </code>
/// The block: chunk bytes (8), reserved (8), then one <see cref="StoredExtent"/> per extent. A block never
/// changes; a view that outlives the inode sees it until its scope ends.
/// </summary>
internal static unsafe class InodeMap
{
    public const int HeaderBytes = 16;

    private const ulong TagMask = 3;
    private const ulong TagLargeUnit = 1;
    private const ulong TagSmallUnit = 2;
    private const ulong TagBlock = 3;
    private const int SmallUnitBits = 12;
    private const long SmallUnit = 1L << SmallUnitBits;
    private const long LargeUnit = 2L << 20;
    private const int InlineStartBits = 46;

    public static bool IsInline(ulong word) => (word & TagMask) != TagBlock;

    public static byte* Block(ulong word) => (byte*)(word & InodeWords.PointerMask & ~TagMask);

    public static int Count(ulong word) => InodeWords.Upper(word);

    public static int BlockBytes(int extents) => HeaderBytes + (extents * sizeof(StoredExtent));

    public static MapExtent Inline(ulong word, ulong sizeBytes)
    {
        long start = (long)((word >> 2) & ((1UL << InlineStartBits) - 1)) << SmallUnitBits;
        long unit = (word & TagMask) == TagLargeUnit ? LargeUnit : SmallUnit;
        return new(new DeviceIndex((ushort)InodeWords.Upper(word)), start, RoundUp(sizeBytes, unit));
    }

    /// <summary>The word for a checked map; allocates a block when the map does not fit the word.</summary>
    public static ulong Store(NativeHeap heap, ulong sizeBytes, ulong chunkBytes, ReadOnlySpan<MapExtent> extents)
    {
        if (extents.IsEmpty)
            return 0;
        if (extents.Length == 1 && chunkBytes == 0 && extents[0].OffsetBytes % SmallUnit == 0 && sizeBytes <= long.MaxValue - LargeUnit
            && extents[0].OffsetBytes >> (SmallUnitBits + InlineStartBits) == 0)
        {
            ulong start = (ulong)extents[0].OffsetBytes >> SmallUnitBits;
            ulong word = ((ulong)extents[0].Device.Value << InodeWords.PointerBits) | (start << 2);
            if (extents[0].LengthBytes == RoundUp(sizeBytes, LargeUnit))
                return word | TagLargeUnit;
            if (extents[0].LengthBytes == RoundUp(sizeBytes, SmallUnit))
                return word | TagSmallUnit;
        }

        byte* block = heap.Allocate(BlockBytes(extents.Length));
        *(ulong*)block = chunkBytes;
        *(ulong*)(block + 8) = 0;
        StoredExtent* stored = (StoredExtent*)(block + HeaderBytes);
        long fileOffset = 0;
        for (int i = 0; i < extents.Length; i++)
        {
            stored[i] = new StoredExtent
            {
                OffsetBytes = extents[i].OffsetBytes,
                LengthBytes = extents[i].LengthBytes,
                FileOffset = fileOffset,
                Device = extents[i].Device.Value,
            };
            fileOffset += extents[i].LengthBytes;
        }

        return InodeWords.Pack(block, extents.Length) | TagBlock;
    }

    /// <summary>Retires the block of a map that no record names any more.</summary>
    public static void Retire(ReaderEpochs epochs, ulong word)
    {
        if (!IsInline(word))
            epochs.Retire(Block(word), BlockBytes(Count(word)));
    }

    private static long RoundUp(ulong bytes, long unit) => (long)((bytes + (ulong)unit - 1) & ~((ulong)unit - 1));
}
