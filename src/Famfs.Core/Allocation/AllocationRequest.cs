using Famfs.V1;

namespace Famfs.Core.Allocation;

/// <summary>What a new file asks of the pool (PROTOCOL "Layout wish").</summary>
public readonly record struct AllocationRequest
{
    /// <summary>Most extents and most strips that a kernel takes (famfs fmap limits).</summary>
    public const int KernelMaxExtents = 32;

    /// <summary>Asks for <paramref name="sizeBytes"/> in the layout the pool finds best.</summary>
    public AllocationRequest(long sizeBytes) => SizeBytes = sizeBytes;

    /// <summary>Bytes of the file, at least 1.</summary>
    public long SizeBytes { get; init; }

    /// <summary>AUTO: interleaved over all devices when there are several and the file has a chunk for each
    /// strip, contiguous otherwise and when the strips do not fit.</summary>
    public LayoutKind Kind { get; init; }

    /// <summary>Strips of an interleaved file, at most <see cref="MaxStrips"/>; 0: one per allowed device, as
    /// far as that limit.</summary>
    public int Strips { get; init; }

    /// <summary>Chunk of an interleaved file: a power of two, a multiple of the unit, at most
    /// <see cref="ExtentAllocator.MaxChunkBytes"/>; 0: one unit.</summary>
    public long ChunkBytes { get; init; }

    /// <summary>Devices it may be on; null or empty: all.</summary>
    public IReadOnlyList<DeviceIndex>? Devices { get; init; }

    /// <summary>Most simple extents of a contiguous file that no single run can hold: 1 to 32, fewer in
    /// some formats; 0: 32.</summary>
    public int MaxExtents { get; init; }

    /// <summary>Most strips of an interleaved file: 1 to 32, fewer in some formats; 0: 32.</summary>
    public int MaxStrips { get; init; }
}
