using System.Numerics;
using System.Runtime.InteropServices;
using Famfs.Core.Dialects;
using Famfs.Core;
using Famfs.Core.Allocation;
using Famfs.Core.Namespace;
using Famfs.Fuse.Protocol;

namespace Famfs.Fuse.Dialects;

/// <summary>What is wrong with a map before a kernel sees it.</summary>
public enum FmapVerdict : byte
{
    Ok = 0,

    /// <summary>There is no extent.</summary>
    NoExtents,

    /// <summary>An offset or length is negative, zero (length), or no multiple of 2 MiB.</summary>
    Misaligned,

    /// <summary>The kernel does not have this device: it is not on this host.</summary>
    UnknownDevice,

    /// <summary>An extent reaches beyond the end of its device.</summary>
    PastDeviceEnd,

    /// <summary>The extents, or what a strip has, hold less than the file.</summary>
    TooShort,

    /// <summary>The chunk is no power of two, no multiple of 2 MiB, or 4 GiB and more.</summary>
    BadChunk,

    // From here on, IsInexpressible: the map may be sound, but this dialect cannot express it.

    /// <summary>More extents than the dialect takes; where extents are bounded by the message only, more than it holds.</summary>
    TooManyExtents,

    /// <summary>More strips than the dialect takes.</summary>
    TooManyStrips,

    /// <summary>The kernel's index of the device is not below the dialect's limit.</summary>
    DeviceOutOfReach,
}

/// <summary>
/// A file's map as the kernel takes it. The kernel checks some of what is checked here and believes the rest; an extent
/// beyond its device, or a strip shorter than its share, would give programs memory that is not the file's.
/// <para>Nothing here allocates. Source: ../docs/kernel-dialects.md, <see cref="FmapHeader"/>.</para>
/// </summary>
public static class FmapEncoder
{
    /// <summary>The verdict says that another dialect could serve the file.</summary>
    public static bool IsInexpressible(FmapVerdict verdict) => verdict >= FmapVerdict.TooManyExtents;

    /// <summary>Checks a map; gives the bytes of its message when it is sound.</summary>
    public static FmapVerdict Check(in MapView map, FmapLimits limits, KernelDevices devices, out int messageBytes)
    {
        messageBytes = 0;
        if (map.ExtentCount == 0 || map.SizeBytes == 0 || map.SizeBytes > long.MaxValue)
            return FmapVerdict.NoExtents;
        bool interleaved = map.ChunkBytes != 0;
        if (interleaved && !IsChunk(map.ChunkBytes))
            return FmapVerdict.BadChunk;
        if (interleaved && map.ExtentCount > limits.MaxStrips)
            return FmapVerdict.TooManyStrips;
        long extents = interleaved && !limits.TakesInterleaved ? FmapLimits.ChunksOf((long)map.SizeBytes, (long)map.ChunkBytes) : map.ExtentCount;
        if (extents > limits.MaxExtents)
            return FmapVerdict.TooManyExtents;

        bool outOfReach = false;
        ulong sum = 0;
        for (int i = 0; i < map.ExtentCount; i++)
        {
            MapExtent extent = map[i];
            if (extent.OffsetBytes < 0 || extent.LengthBytes <= 0
                || extent.OffsetBytes % FmapLimits.AlignmentBytes != 0 || extent.LengthBytes % FmapLimits.AlignmentBytes != 0)
                return FmapVerdict.Misaligned;
            KernelDevice? device = devices.Find(extent.Device);
            if (device is null)
                return FmapVerdict.UnknownDevice;
            outOfReach |= device.Index >= limits.MaxDevices;
            if (extent.OffsetBytes > device.LengthBytes - extent.LengthBytes)
                return FmapVerdict.PastDeviceEnd;
            if (interleaved && extent.LengthBytes < ShareOf(i, map))
                return FmapVerdict.TooShort;
            if (sum < map.SizeBytes)
                sum += (ulong)extent.LengthBytes; // both are below 2^63
        }
        if (!interleaved && sum < map.SizeBytes)
            return FmapVerdict.TooShort;
        if (outOfReach)
            return FmapVerdict.DeviceOutOfReach;

        // Within MaxMessageBytes, which the limits of extents and strips see to.
        messageBytes = FmapLimits.HeaderBytes + (FmapLimits.ExtentBytes * ((int)extents + (interleaved && limits.TakesInterleaved ? 1 : 0)));
        return FmapVerdict.Ok;
    }

    /// <summary>Writes a map that <see cref="Check"/> found sound: the whole message, or its header alone when
    /// <paramref name="destination"/> has room for no more (<see cref="FmapSizing.HeaderFirst"/>).</summary>
    /// <returns>Bytes written.</returns>
    public static int Write(in MapView map, FmapLimits limits, KernelDevices devices, int messageBytes, Span<byte> destination)
    {
        bool unroll = map.ChunkBytes != 0 && !limits.TakesInterleaved;
        bool interleaved = map.ChunkBytes != 0 && !unroll;
        var header = new FmapHeader
        {

            // Nothing else begins where a device does, and the kernel wonders about a regular file that would.
            FileType = map[0].OffsetBytes == 0 ? FmapFileType.Superblock : FmapFileType.Regular,
            Version = FuseConstants.FAMFS_FMAP_VERSION,
            ExtentType = interleaved ? FmapExtentType.Interleaved : FmapExtentType.Simple,
            ExtentCount = interleaved ? 1 : (uint)((messageBytes - FmapLimits.HeaderBytes) / FmapLimits.ExtentBytes),
            MessageBytes = limits.TakesInterleaved ? 0 : (uint)messageBytes,
            FileBytes = map.SizeBytes,
        };
        MemoryMarshal.Write(destination, in header);
        if (destination.Length < messageBytes)
            return FmapLimits.HeaderBytes;

        Span<byte> rest = destination[FmapLimits.HeaderBytes..messageBytes];
        if (interleaved)
        {
            var head = new FmapInterleavedExtent { StripCount = (uint)map.ExtentCount, ChunkBytes = (uint)map.ChunkBytes, FileBytes = map.SizeBytes };
            MemoryMarshal.Write(rest, in head);
            rest = rest[FmapLimits.ExtentBytes..];
        }
        Span<FmapSimpleExtent> extents = MemoryMarshal.Cast<byte, FmapSimpleExtent>(rest);
        if (unroll)
        {
            Unroll(map, devices, extents);
            return messageBytes;
        }
        for (int i = 0; i < extents.Length; i++)
            extents[i] = Translate(map[i], devices);
        return messageBytes;
    }

    // One extent per chunk, all as long as a chunk but the last, which is as long as the rest of the file needs.
    private static void Unroll(in MapView map, KernelDevices devices, Span<FmapSimpleExtent> extents)
    {
        long chunkBytes = (long)map.ChunkBytes;
        for (int chunk = 0; chunk < extents.Length; chunk++)
        {
            MapExtent strip = map[chunk % map.ExtentCount];
            long lengthBytes = chunkBytes;
            if (chunk == extents.Length - 1)
            {
                long left = (long)map.SizeBytes - (chunk * chunkBytes);
                lengthBytes = (left + FmapLimits.AlignmentBytes - 1) / FmapLimits.AlignmentBytes * FmapLimits.AlignmentBytes;
            }
            extents[chunk] = Translate(strip with { OffsetBytes = strip.OffsetBytes + (chunk / map.ExtentCount * chunkBytes), LengthBytes = lengthBytes }, devices);
        }
    }

    // What Check has found stays findable: devices are never removed.
    private static FmapSimpleExtent Translate(in MapExtent extent, KernelDevices devices) => new()
    {
        Device = devices.Find(extent.Device)!.Index,
        OffsetBytes = (ulong)extent.OffsetBytes,
        LengthBytes = (ulong)extent.LengthBytes,
    };

    private static bool IsChunk(ulong chunkBytes) =>
        BitOperations.IsPow2(chunkBytes) && chunkBytes >= (ulong)FmapLimits.AlignmentBytes && chunkBytes <= uint.MaxValue;

    // Bytes that the file's chunks need on one strip: whole chunks, and what the last one holds.
    private static long ShareOf(int strip, in MapView map)
    {
        long chunkBytes = (long)map.ChunkBytes;
        long chunks = FmapLimits.ChunksOf((long)map.SizeBytes, chunkBytes);
        if (strip >= chunks)
            return 0;
        long own = ((chunks - 1 - strip) / map.ExtentCount) + 1;
        bool hasLast = (chunks - 1) % map.ExtentCount == strip;
        return hasLast ? ((own - 1) * chunkBytes) + ((long)map.SizeBytes - ((chunks - 1) * chunkBytes)) : own * chunkBytes;
    }
}
