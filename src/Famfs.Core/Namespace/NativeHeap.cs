using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Famfs.Core.Namespace;

/// <summary>
/// Native memory in size classes, for the writer thread alone. Blocks never move and carry no header: who
/// frees a block says how long it is. A slab of 256 KiB holds blocks of one class; slabs come from regions
/// of 1 MiB, and a region whose slabs are all free goes back to the operating system (one such region is
/// kept, so that a count that swings around a boundary does not map and unmap).
/// <para>Sizes are chosen: 256 KiB loses 1.6 % to the slab's header for pages of 4 KiB. With 1 MiB one block that
/// stays does not hold much else, the number of mappings stays low (10,000 at 100 M files of the 65,530 the
/// kernel allows), and alignment costs a quarter of the address space, but no memory.</para>
/// </summary>
internal sealed unsafe class NativeHeap : IDisposable
{
    /// <summary>Largest block from a slab; larger ones come from the operating system one by one.</summary>
    public const int LargestSlabBlockBytes = 4096;

    private const int SlabBytes = 256 << 10;
    private const int SlabsPerRegion = 4;
    private const int RegionBytes = SlabBytes * SlabsPerRegion;
    private const int SlabHeaderBytes = 64;
    private const int SmallClasses = 16;
    private const int ClassCount = SmallClasses + (4 * 5);

    // All fields: writer thread, except that _bytes is read by any.
    private readonly nint[] _partial = new nint[ClassCount];
    private readonly List<Region?> _regions = [];
    private readonly SortedSet<int> _regionsWithRoom = [];
    private int _emptyRegions;
    private long _bytes;
    private long _usedBytes;

    /// <summary>Bytes taken from the operating system.</summary>
    public long Bytes => Volatile.Read(ref _bytes);

    /// <summary>Bytes of the blocks in use, rounded up to their classes.</summary>
    public long UsedBytes => Volatile.Read(ref _usedBytes);

    /// <summary>A block of at least <paramref name="bytes"/>, content undefined; 8-byte aligned, blocks of 4096
    /// bytes and large ones that are zeroed: 64-byte and 16-byte aligned.</summary>
    public byte* Allocate(int bytes)
    {
        if (bytes > LargestSlabBlockBytes)
        {
            byte* large = (byte*)NativeMemory.Alloc((nuint)bytes);
            RequirePackable(large, bytes);
            _bytes += bytes;
            _usedBytes += bytes;
            return large;
        }

        int index = ClassOf(bytes);
        Slab* slab = (Slab*)_partial[index];
        if (slab == null)
            slab = TakeSlab(index);
        byte* block = slab->Free;
        if (block != null)
        {
            slab->Free = *(byte**)block;
        }
        else
        {
            block = (byte*)slab + slab->Fresh;
            slab->Fresh += slab->BlockBytes;
        }

        slab->Live++;
        _usedBytes += slab->BlockBytes;
        if (slab->Free == null && slab->Fresh + slab->BlockBytes > SlabBytes)
            Leave(slab);
        return block;
    }

    /// <summary>A zeroed block from the operating system, for tables: pages not touched cost nothing.</summary>
    public byte* AllocateTable(long bytes)
    {
        byte* table = (byte*)NativeMemory.AllocZeroed((nuint)bytes);
        RequirePackable(table, bytes);
        _bytes += bytes;
        _usedBytes += bytes;
        return table;
    }

    /// <summary>Gives back what <see cref="Allocate"/> gave for the same number of bytes.</summary>
    public void Free(byte* block, int bytes)
    {
        if (bytes > LargestSlabBlockBytes)
        {
            FreeTable(block, bytes);
            return;
        }

        Slab* slab = (Slab*)((ulong)block & ~(ulong)(SlabBytes - 1));
#if DEBUG
        // A reader that keeps a pointer too long meets this pattern in a test, not a plausible old value: an
        // even version, so that it does not wait, and an address that faults.
        new Span<byte>(block, slab->BlockBytes).Fill(0xEE);
#endif
        bool full = slab->Free == null && slab->Fresh + slab->BlockBytes > SlabBytes;
        *(byte**)block = slab->Free;
        slab->Free = block;
        slab->Live--;
        _usedBytes -= slab->BlockBytes;
        if (slab->Live == 0)
        {
            if (!full)
                Leave(slab);
            ReturnSlab(slab);
        }
        else if (full)
        {
            Join(slab);
        }
    }

    /// <summary>Gives back what <see cref="AllocateTable"/> gave for the same number of bytes.</summary>
    public void FreeTable(byte* table, long bytes)
    {
#if DEBUG
        NativeMemory.Fill(table, (nuint)bytes, 0xEE);
#endif
        NativeMemory.Free(table);
        _bytes -= bytes;
        _usedBytes -= bytes;
    }

    /// <summary>Frees every region. Large blocks and tables are freed by who has them.</summary>
    public void Dispose()
    {
        foreach (Region? region in _regions)
        {
            if (region is not null)
                NativeMemory.AlignedFree((void*)region.Base);
        }

        _regions.Clear();
        _regionsWithRoom.Clear();
        Array.Clear(_partial);
    }

    private static int ClassOf(int bytes)
    {
        if (bytes <= 8 * SmallClasses)
            return bytes <= 0 ? 0 : (bytes - 1) >> 3;
        // Four classes per doubling: 160, 192, 224, 256, 320, …, 4096.
        int log = BitOperations.Log2((uint)(bytes - 1));
        int quarter = ((bytes - 1) >> (log - 2)) & 3;
        return SmallClasses + ((log - 7) * 4) + quarter;
    }

    private static int BlockBytesOf(int index)
    {
        if (index < SmallClasses)
            return (index + 1) * 8;
        int log = 7 + ((index - SmallClasses) >> 2);
        int quarter = (index - SmallClasses) & 3;
        return (1 << log) + ((quarter + 1) << (log - 2));
    }

    private static void RequirePackable(byte* pointer, long bytes)
    {
        // Packed words keep 48 bits of a pointer. User addresses have 47 or 48 bits on x86-64 and arm64
        // unless a mapping asks for more, which no allocator does.
        if ((((ulong)pointer + (ulong)bytes) & ~InodeWords.PointerMask) != 0)
            throw new PlatformNotSupportedException("native addresses above 48 bits are not supported");
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private Slab* TakeSlab(int index)
    {
        int regionIndex;
        Region region;
        if (_regionsWithRoom.Count > 0)
        {
            // The lowest first, so that the highest can become empty and go.
            regionIndex = _regionsWithRoom.Min;
            region = _regions[regionIndex]!;
            if (region.FreeSlabs == Region.AllFree)
                _emptyRegions--;
        }
        else
        {
            nint memory = (nint)NativeMemory.AlignedAlloc(RegionBytes, SlabBytes);
            RequirePackable((byte*)memory, RegionBytes);
            region = new Region(memory);
            regionIndex = _regions.IndexOf(null);
            if (regionIndex < 0)
            {
                regionIndex = _regions.Count;
                _regions.Add(region);
            }
            else
            {
                _regions[regionIndex] = region;
            }

            _regionsWithRoom.Add(regionIndex);
            _bytes += RegionBytes;
        }

        int slabIndex = BitOperations.TrailingZeroCount(region.FreeSlabs);
        region.FreeSlabs &= (ushort)~(1 << slabIndex);
        if (region.FreeSlabs == 0)
            _regionsWithRoom.Remove(regionIndex);

        Slab* slab = (Slab*)(region.Base + (slabIndex * (nint)SlabBytes));
        *slab = new Slab { Fresh = SlabHeaderBytes, BlockBytes = BlockBytesOf(index), ClassIndex = index, RegionIndex = regionIndex };
        Join(slab);
        return slab;
    }

    private void ReturnSlab(Slab* slab)
    {
        int regionIndex = slab->RegionIndex;
        Region region = _regions[regionIndex]!;
        region.FreeSlabs |= (ushort)(1 << (int)(((nint)slab - region.Base) / SlabBytes));
        _regionsWithRoom.Add(regionIndex);
        if (region.FreeSlabs != Region.AllFree)
            return;
        if (_emptyRegions == 0)
        {
            _emptyRegions = 1;
            return;
        }

        _regionsWithRoom.Remove(regionIndex);
        _regions[regionIndex] = null;
        NativeMemory.AlignedFree((void*)region.Base);
        _bytes -= RegionBytes;
    }

    private void Join(Slab* slab)
    {
        Slab* head = (Slab*)_partial[slab->ClassIndex];
        slab->Previous = null;
        slab->Next = head;
        if (head != null)
            head->Previous = slab;
        _partial[slab->ClassIndex] = (nint)slab;
    }

    private void Leave(Slab* slab)
    {
        if (slab->Previous != null)
            slab->Previous->Next = slab->Next;
        else
            _partial[slab->ClassIndex] = (nint)slab->Next;
        if (slab->Next != null)
            slab->Next->Previous = slab->Previous;
    }

    private sealed class Region(nint memory)
    {
        public const ushort AllFree = (1 << SlabsPerRegion) - 1;

        public readonly nint Base = memory;
        public ushort FreeSlabs = AllFree;
    }

    /// <summary>At the start of each slab.</summary>
    [StructLayout(LayoutKind.Sequential, Size = SlabHeaderBytes)]
    private struct Slab
    {
        public byte* Free;
        public Slab* Next;
        public Slab* Previous;
        public int Fresh;
        public int Live;
        public int BlockBytes;
        public int ClassIndex;
        public int RegionIndex;
    }
}
