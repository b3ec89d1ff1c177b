using Famfs.Core.Namespace;
using Xunit;

namespace Famfs.Core.Tests.Namespace;

public sealed class MapViewTests
{
    private const long Unit = 4096;

    [Fact]
    public void Every_byte_resolves_as_by_brute_force()
    {
        Random random = new(11);
        using InodeTree tree = new(5);
        tree.MakeRoot(InodeNumber.Root, 0, 0, 0, 1);
        using TreeReader reader = tree.RegisterReader();
        for (ulong inode = 2; inode < 300; inode++)
        {
            int count = random.Next(1, 6);
            long chunk = random.Next(2) == 0 ? 0 : random.Next(2) == 0 ? 16 : 48;
            MapExtent[] extents = new MapExtent[count];
            long total = 0;
            for (int i = 0; i < count; i++)
            {
                long length = chunk == 0 ? random.Next(4) == 0 ? 0 : random.Next(1, 200) : chunk * random.Next(1, 5);
                extents[i] = new(new DeviceIndex((ushort)random.Next(3)), random.Next(10_000), length);
                total += length;
            }

            ulong size = (ulong)random.NextInt64(total + 40);
            tree.CreateFile(new(inode), InodeNumber.Root, TreeModel.Bytes($"{inode}"), 0, 0, 0, size, (ulong)chunk, extents, 1);
            using TreeScope scope = reader.Enter();
            Assert.True(scope.TryGetMap(new(inode), out MapView map));
            for (long offset = -2; offset < (long)size + 3; offset++)
                Check(map, extents, chunk, size, offset);
        }
    }

    [Theory]
    [InlineData(0, 0, 0)]
    [InlineData(1, 0, 2 << 20)]
    [InlineData(2 << 20, 5L << 21, 2 << 20)]
    [InlineData((2 << 20) + 1, 5L << 21, 4 << 20)]
    [InlineData(4096, 3 * Unit, 4096)]
    [InlineData(4097, 3 * Unit, 8192)]
    [InlineData(4097, 100, 8192)]
    [InlineData(4097, (1L << 58) - Unit, 8192)]
    [InlineData(4097, 1L << 58, 8192)]
    [InlineData(10, 0, 10)]
    [InlineData(0, Unit, 4096)]
    [InlineData(100, 0, 1L << 40)]
    public void A_single_extent_comes_back_as_it_was_stored(ulong size, long offset, long length)
    {
        using InodeTree tree = new(5);
        tree.MakeRoot(InodeNumber.Root, 0, 0, 0, 1);
        using TreeReader reader = tree.RegisterReader();
        MapExtent extent = new(new DeviceIndex(65535), offset, length);
        tree.CreateFile(new(2), InodeNumber.Root, "f"u8, 0, 0, 0, size, 0, [extent], 1);
        using TreeScope scope = reader.Enter();
        Assert.True(scope.TryGetMap(new(2), out MapView map));
        Assert.Equal(1, map.ExtentCount);
        Assert.Equal(extent, map[0]);
        Assert.Equal(0u, map.ChunkBytes);
        if (size == 0)
            return;
        Assert.True(map.TryResolve((long)size - 1, out DeviceIndex device, out long deviceOffset, out long contiguous));
        Assert.Equal(extent.Device, device);
        Assert.Equal(offset + (long)size - 1, deviceOffset);
        Assert.Equal(1, contiguous);
    }

    [Fact]
    public void A_file_larger_than_any_offset_resolves_only_what_its_map_covers()
    {
        using InodeTree tree = new(5);
        tree.MakeRoot(InodeNumber.Root, 0, 0, 0, 1);
        using TreeReader reader = tree.RegisterReader();
        tree.CreateFile(new(2), InodeNumber.Root, "f"u8, 0, 0, 0, ulong.MaxValue, 0, [new(default, 0, 4096)], 1);
        tree.CreateFile(new(3), InodeNumber.Root, "g"u8, 0, 0, 0, ulong.MaxValue, long.MaxValue, [new(default, 0, 4096), new(default, 4096, 4096)], 1);
        using TreeScope scope = reader.Enter();
        foreach (ulong inode in new ulong[] { 2, 3 })
        {
            Assert.True(scope.TryGetMap(new(inode), out MapView map));
            Assert.True(map.TryResolve(4095, out _, out _, out long contiguous));
            Assert.Equal(1, contiguous);
            Assert.False(map.TryResolve(4096, out _, out _, out _));
            Assert.Equal(inode == 3, map.TryResolve(long.MaxValue, out _, out _, out _));
        }
    }

    private static void Check(MapView map, MapExtent[] extents, long chunk, ulong size, long offset)
    {
        bool expected = Place(extents, chunk, size, offset, out DeviceIndex device, out long deviceOffset);
        Assert.Equal(expected, map.TryResolve(offset, out DeviceIndex foundDevice, out long foundOffset, out long contiguous));
        if (!expected)
            return;
        Assert.Equal(device, foundDevice);
        Assert.Equal(deviceOffset, foundOffset);
        Assert.True(contiguous > 0);
        Assert.True(Place(extents, chunk, size, offset + contiguous - 1, out DeviceIndex lastDevice, out long last));
        Assert.Equal(device, lastDevice);
        Assert.Equal(deviceOffset + contiguous - 1, last);
        // It ends only where something ends: the file, an extent, a chunk.
        bool more = Place(extents, chunk, size, offset + contiguous, out _, out long after);
        bool boundary = chunk != 0 ? (offset + contiguous) % chunk == 0 : extents.Any(extent => extent.OffsetBytes + extent.LengthBytes == last + 1);
        Assert.True(!more || boundary || after != last + 1);
    }

    /// <summary>Walks the map byte by byte in file order, as the layout is defined.</summary>
    private static bool Place(MapExtent[] extents, long chunk, ulong size, long offset, out DeviceIndex device, out long deviceOffset)
    {
        device = default;
        deviceOffset = 0;
        if (offset < 0 || (ulong)offset >= size)
            return false;
        if (chunk == 0)
        {
            long start = 0;
            foreach (MapExtent extent in extents)
            {
                if (offset < start + extent.LengthBytes)
                {
                    device = extent.Device;
                    deviceOffset = extent.OffsetBytes + offset - start;
                    return true;
                }

                start += extent.LengthBytes;
            }

            return false;
        }

        long[] filled = new long[extents.Length];
        long at = 0;
        for (int strip = 0; ; strip = (strip + 1) % extents.Length)
        {
            if (offset < at + chunk)
            {
                device = extents[strip].Device;
                deviceOffset = extents[strip].OffsetBytes + filled[strip] + (offset - at);
                return filled[strip] + (offset - at) < extents[strip].LengthBytes;
            }

            filled[strip] += chunk;
            at += chunk;
        }
    }
}
