using System.Globalization;
using Famfs.Core.Allocation;
using Famfs.Core.Namespace;
using Famfs.V1;
using Xunit;

namespace Famfs.Core.Tests.Allocation;

public sealed class ExtentAllocatorTests
{
    private const long Unit = 2L << 20;
    private static readonly DeviceIndex Device0 = new(0);
    private static readonly DeviceIndex Device1 = new(1);

    // Around every boundary of words, leaves and inner nodes of the tree.
    public static TheoryData<int> Sizes => [1, 2, 63, 64, 65, 511, 512, 513, 8191, 8192, 8193, 20_000];

    [Theory]
    [MemberData(nameof(Sizes))]
    public void A_device_behaves_like_a_bitmap(int units)
    {
        for (int seed = 0; seed < 6; seed++)
        {
            var random = new Random(seed);
            var pool = new ExtentAllocator(4096);
            pool.AddDevice(Device0, units * 4096L + 4095);
            bool[] used = new bool[units];
            int longestRun = seed % 2 == 0 ? 10 : units;
            var extents = new List<MapExtent>();
            for (int i = 0; i < 400; i++)
            {
                int start = random.Next(units);
                int count = random.Next(1, Math.Min(longestRun, units - start) + 1);
                var extent = new MapExtent(Device0, start * 4096L, count * 4096L);
                bool allUsed = used.AsSpan(start, count).IndexOf(false) < 0;
                bool allFree = used.AsSpan(start, count).IndexOf(true) < 0;
                Assert.Equal(allFree, pool.IsFree(extent));
                switch (random.Next(3))
                {
                    case 0:
                        Assert.Equal(allFree, pool.TryReserve(extent));
                        if (allFree)
                            used.AsSpan(start, count).Fill(true);
                        break;
                    case 1:
                        Assert.Equal(allUsed, pool.TryFree(extent));
                        if (allUsed)
                            used.AsSpan(start, count).Clear();
                        break;
                    default:
                        // The lowest run that is long enough.
                        var request = new AllocationRequest(count * 4096L - random.Next(4096)) { Kind = LayoutKind.Contiguous, MaxExtents = 1 };
                        int expected = LowestFit(used, count);
                        Assert.Equal(expected >= 0, pool.TryAllocate(request, random, extents, out long chunk));
                        Assert.Equal(0, chunk);
                        if (expected >= 0)
                        {
                            Assert.Equal([new MapExtent(Device0, expected * 4096L, count * 4096L)], extents);
                            used.AsSpan(expected, count).Fill(true);
                        }
                        else
                        {
                            Assert.Empty(extents);
                        }

                        break;
                }

                if (units < 1000 || i % 20 == 0)
                    RequireSame(used, pool, $"{units} units, seed {seed}, step {i}");
            }
        }
    }

    [Fact]
    public void Files_of_every_layout_never_overlap_and_freeing_them_restores_the_pool()
    {
        for (int seed = 0; seed < 40; seed++)
        {
            var random = new Random(seed);
            ExtentAllocator pool = Pool([.. Enumerable.Range(0, random.Next(1, 6)).Select(_ => random.Next(1, 700) * Unit)]);
            int devices = Enumerable.Range(0, 8).Count(d => pool.HasDevice(new DeviceIndex((ushort)d)));
            var files = new List<List<MapExtent>>();
            var used = new HashSet<(int Device, long Unit)>();
            for (int i = 0; i < 400; i++)
            {
                if (files.Count > 0 && random.Next(3) == 0)
                {
                    int k = random.Next(files.Count);
                    foreach (MapExtent extent in files[k])
                    {
                        pool.Free(extent);
                        foreach (var unit in Units(extent))
                            used.Remove(unit);
                    }

                    files.RemoveAt(k);
                    continue;
                }

                var request = new AllocationRequest(random.NextInt64(1, random.Next(1, 200) * Unit))
                {
                    Kind = (LayoutKind)random.Next(3),
                    Strips = random.Next(5) == 0 ? random.Next(33) : 0,
                    ChunkBytes = random.Next(2) == 0 ? 0 : Unit << random.Next(4),
                    Devices = random.Next(3) == 0 ? [new DeviceIndex((ushort)random.Next(devices)), new DeviceIndex((ushort)random.Next(devices))] : null,
                    MaxExtents = random.Next(5),
                };
                var extents = new List<MapExtent>();
                long freeBefore = pool.FreeBytes;
                if (!pool.TryAllocate(request, random, extents, out long chunk))
                {
                    Assert.Equal(freeBefore, pool.FreeBytes);
                    Assert.Empty(extents);
                    continue;
                }

                RequireHolds(request, extents, chunk);
                foreach (MapExtent extent in extents)
                {
                    Assert.True(request.Devices?.Contains(extent.Device) ?? true);
                    Assert.False(pool.IsFree(extent));
                    foreach (var unit in Units(extent))
                        Assert.True(used.Add(unit), $"seed {seed}: unit {unit} is in two files");
                }

                files.Add(extents);
                Assert.Equal(pool.CapacityBytes - used.Count * Unit, pool.FreeBytes);
            }

            // Replay in another order gives the same free space.
            ExtentAllocator replayed = Pool([.. Enumerable.Range(0, devices).Select(d => pool.DeviceCapacityBytes(new DeviceIndex((ushort)d)))]);
            foreach (MapExtent extent in files.SelectMany(f => f).OrderBy(_ => random.Next()))
                replayed.Reserve(extent);
            for (int d = 0; d < devices; d++)
                Assert.Equal(pool.FreeRuns(new DeviceIndex((ushort)d)), replayed.FreeRuns(new DeviceIndex((ushort)d)));

            foreach (MapExtent extent in files.SelectMany(f => f))
                pool.Free(extent);
            Assert.Equal(pool.CapacityBytes, pool.FreeBytes);
            for (int d = 0; d < devices; d++)
                Assert.Equal([new MapExtent(new DeviceIndex((ushort)d), 0, pool.DeviceCapacityBytes(new DeviceIndex((ushort)d)))], pool.FreeRuns(new DeviceIndex((ushort)d)));
        }

        static IEnumerable<(int Device, long Unit)> Units(MapExtent extent)
        {
            for (long at = 0; at < extent.LengthBytes; at += Unit)
                yield return (extent.Device.Value, extent.OffsetBytes + at);
        }
    }

    [Theory]
    [InlineData(0.5)]
    [InlineData(0.9)]
    [InlineData(0.99)]
    public void A_pool_of_64_TiB_fills_and_empties(double full)
    {
        const long Length = 64L << 40;
        ExtentAllocator pool = Pool(Length);
        var random = new Random(1);
        var extents = new List<MapExtent>();
        var live = new List<MapExtent>();
        while (pool.FreeBytes > Length * (1 - full))
        {
            long most = Math.Min(256L << 30, pool.FreeBytes - (long)(Length * (1 - full)) + Unit);
            Assert.True(pool.TryAllocate(new AllocationRequest(random.NextInt64(1, most + 1)) { Kind = LayoutKind.Contiguous }, random, extents, out _));
            live.AddRange(extents);
        }

        for (int i = 0; i < 20_000; i++)
        {
            int k = random.Next(live.Count);
            pool.Free(live[k]);
            long most = Math.Min(64L << 30, pool.FreeBytes);
            Assert.True(pool.TryAllocate(new AllocationRequest(random.NextInt64(1, most + 1)) { Kind = LayoutKind.Contiguous, MaxExtents = 1 }, random, extents, out _)
                || pool.LargestFreeRunBytes < most);
            if (extents.Count == 0)
                pool.Reserve(live[k]);
            else
                live[k] = extents[0];
        }

        Assert.Equal(Length - live.Sum(e => e.LengthBytes), pool.FreeBytes);
        foreach (MapExtent extent in live)
            pool.Free(extent);
        Assert.Equal(Length, pool.LargestFreeRunBytes);
    }

    [Fact]
    public void Memory_follows_fragmentation_not_the_length_of_the_device()
    {
        var tree = new FreeSpaceTree(FreeSpaceTree.MaxUnits);
        for (uint i = 0; i < 1000; i++)
            tree.Mark(i * 2_000_000, 1_000_000, free: false);
        Assert.InRange(tree.MemoryBytes, 1, 2 << 20);
        for (uint i = 0; i < 1000; i++)
            tree.Mark(i * 2_000_000, 1_000_000, free: true);
        Assert.Equal(FreeSpaceTree.MaxUnits, tree.LongestRun);

        // What was given back is used again.
        long before = tree.MemoryBytes;
        for (int round = 0; round < 20; round++)
        {
            for (uint i = 0; i < 1000; i++)
                tree.Mark(i * 2_000_000 + 7, 1_000_001, free: false);
            for (uint i = 0; i < 1000; i++)
                tree.Mark(i * 2_000_000 + 7, 1_000_001, free: true);
        }

        Assert.InRange(tree.MemoryBytes, before, before * 2);
        var every = new FreeSpaceTree(1 << 22);
        for (uint i = 0; i < 1 << 22; i += 2)
            every.Mark(i, 1, free: false);
        Assert.InRange(every.MemoryBytes, 1, (1 << 22) / 3);
    }

    [Fact]
    public void A_contiguous_file_is_one_extent_on_the_emptiest_device_that_holds_it()
    {
        ExtentAllocator pool = Pool(10 * Unit, 20 * Unit);
        var extents = new List<MapExtent>();
        pool.Allocate(new AllocationRequest(5 * Unit - 1) { Kind = LayoutKind.Contiguous }, new Random(1), extents);
        Assert.Equal([new MapExtent(Device1, 0, 5 * Unit)], extents);

        // Device 1 has more space, but only device 0 has 8 units in a row.
        pool.Reserve(new MapExtent(Device1, 12 * Unit, Unit));
        pool.Allocate(new AllocationRequest(8 * Unit) { Kind = LayoutKind.Contiguous }, new Random(1), extents);
        Assert.Equal([new MapExtent(Device0, 0, 8 * Unit)], extents);
    }

    [Fact]
    public void A_contiguous_file_too_long_for_every_run_takes_the_longest_ones()
    {
        ExtentAllocator pool = Pool(10 * Unit, 10 * Unit);
        pool.Reserve(new MapExtent(Device0, 6 * Unit, Unit));
        pool.Reserve(new MapExtent(Device1, 4 * Unit, Unit));
        var extents = new List<MapExtent>();
        Assert.Equal(0, pool.Allocate(new AllocationRequest(12 * Unit) { Kind = LayoutKind.Contiguous }, new Random(1), extents));
        Assert.Equal([new MapExtent(Device0, 0, 6 * Unit), new MapExtent(Device1, 5 * Unit, 5 * Unit)], extents.Take(2));
        Assert.Equal(12 * Unit, extents.Sum(e => e.LengthBytes));
        Assert.Equal(3, extents.Count);
    }

    [Fact]
    public void A_file_that_needs_more_extents_than_allowed_has_no_space_and_takes_nothing()
    {
        ExtentAllocator pool = Pool(200 * Unit);
        for (int i = 0; i < 200; i += 2)
            pool.Reserve(new MapExtent(Device0, i * Unit, Unit));
        var extents = new List<MapExtent>();
        var fits = new AllocationRequest(32 * Unit);
        pool.Allocate(fits, new Random(1), extents);
        Assert.Equal(32, extents.Count);
        extents.ForEach(e => pool.Free(e));
        long free = pool.FreeBytes;
        foreach (var request in new[] { new AllocationRequest(32 * Unit + 1), new AllocationRequest(4 * Unit) { MaxExtents = 3 }, new AllocationRequest(101 * Unit), new AllocationRequest(long.MaxValue) })
        {
            var error = Assert.Throws<FamfsException>(() => pool.Allocate(request, new Random(1), extents));
            Assert.Equal(ErrorReason.NoSpace, error.Reason);
            Assert.Equal((ulong)Unit, error.Limit);
            Assert.Contains(free.ToString(CultureInfo.InvariantCulture), error.Message, StringComparison.Ordinal);
            Assert.Equal(free, pool.FreeBytes);
            Assert.Empty(extents);
        }
    }

    [Fact]
    public void Strips_go_to_distinct_devices_chosen_at_random()
    {
        var chosen = new HashSet<ushort>();
        for (int seed = 0; seed < 50; seed++)
        {
            ExtentAllocator pool = Pool([.. Enumerable.Repeat(100 * Unit, 8)]);
            var extents = new List<MapExtent>();
            long chunk = pool.Allocate(new AllocationRequest(9 * Unit) { Kind = LayoutKind.Interleaved, Strips = 4, ChunkBytes = 2 * Unit }, new Random(seed), extents);
            Assert.Equal(2 * Unit, chunk);
            Assert.Equal(4, extents.Select(e => e.Device).Distinct().Count());

            // 9 units are 5 chunks of 2 units; 4 strips need 2 chunks each.
            Assert.All(extents, e => Assert.Equal(4 * Unit, e.LengthBytes));
            extents.ForEach(e => chosen.Add(e.Device.Value));
        }

        Assert.Equal(8, chosen.Count);
    }

    [Fact]
    public void Full_devices_are_passed_over_for_strips()
    {
        ExtentAllocator pool = Pool([.. Enumerable.Repeat(10 * Unit, 4)]);
        pool.Reserve(new MapExtent(Device0, 0, 10 * Unit));
        for (int seed = 0; seed < 20; seed++)
        {
            var extents = new List<MapExtent>();
            pool.Allocate(new AllocationRequest(3 * Unit) { Kind = LayoutKind.Interleaved, Strips = 3 }, new Random(seed), extents);
            Assert.Equal([1, 2, 3], extents.Select(e => (int)e.Device.Value).Order());
            extents.ForEach(e => pool.Free(e));
        }
    }

    [Fact]
    public void More_strips_than_devices_share_devices()
    {
        ExtentAllocator pool = Pool(100 * Unit, 100 * Unit);
        var extents = new List<MapExtent>();
        Assert.Equal(Unit, pool.Allocate(new AllocationRequest(32 * Unit) { Kind = LayoutKind.Interleaved, Strips = 32 }, new Random(1), extents));
        Assert.Equal(32, extents.Count);
        Assert.Equal(16, extents.Count(e => e.Device == Device0));
    }

    [Theory]
    [InlineData(1, 100, 0)]
    [InlineData(4, 3, 0)]
    [InlineData(4, 4, 4)]
    [InlineData(4, 100, 4)]
    [InlineData(40, 31, 0)]
    [InlineData(40, 32, 32)]
    public void Auto_interleaves_a_file_with_a_chunk_for_every_strip(int devices, int units, int strips)
    {
        ExtentAllocator pool = Pool([.. Enumerable.Repeat(1000 * Unit, devices)]);
        var extents = new List<MapExtent>();
        long chunk = pool.Allocate(new AllocationRequest(units * Unit), new Random(1), extents);
        Assert.Equal(strips == 0 ? 0 : Unit, chunk);
        Assert.Equal(Math.Max(strips, 1), extents.Count);
    }

    [Fact]
    public void Auto_is_contiguous_when_its_strips_do_not_fit()
    {
        ExtentAllocator pool = Pool(100 * Unit, 2 * Unit);
        var extents = new List<MapExtent>();
        var request = new AllocationRequest(99 * Unit);
        Assert.Equal(0, pool.Allocate(request, new Random(1), extents));
        Assert.Equal([new MapExtent(Device0, 0, 99 * Unit)], extents);
        extents.ForEach(e => pool.Free(e));
        Assert.Equal(ErrorReason.NoSpace, Assert.Throws<FamfsException>(() => pool.Allocate(request with { Kind = LayoutKind.Interleaved, Strips = 3, ChunkBytes = 64 * Unit }, new Random(1), extents)).Reason);
        Assert.Equal(102 * Unit, pool.FreeBytes);
    }

    [Fact]
    public void Requests_that_no_pool_could_serve_name_the_limit()
    {
        ExtentAllocator pool = Pool(100 * Unit, 100 * Unit);
        var extents = new List<MapExtent>();
        var sound = new AllocationRequest(Unit) { Kind = LayoutKind.Interleaved };
        foreach (var (request, reason, limit) in new (AllocationRequest, ErrorReason, long)[]
        {
            (sound with { SizeBytes = 0 }, ErrorReason.BadSize, 1),
            (sound with { SizeBytes = -1 }, ErrorReason.BadSize, 1),
            (sound with { SizeBytes = long.MinValue }, ErrorReason.BadSize, 1),
            (sound with { Strips = -1 }, ErrorReason.BadLayout, 32),
            (sound with { Strips = 33 }, ErrorReason.BadLayout, 32),
            (sound with { Strips = 17, MaxStrips = 16 }, ErrorReason.BadLayout, 16),
            (sound with { MaxStrips = 33 }, ErrorReason.BadLayout, 32),
            (sound with { MaxExtents = -1 }, ErrorReason.BadLayout, 32),
            (sound with { MaxExtents = 33 }, ErrorReason.BadLayout, 32),
            (sound with { ChunkBytes = -Unit }, ErrorReason.BadLayout, Unit),
            (sound with { ChunkBytes = Unit / 2 }, ErrorReason.BadLayout, Unit),
            (sound with { ChunkBytes = 3 * Unit }, ErrorReason.BadLayout, Unit),
            (sound with { ChunkBytes = 4L << 30 }, ErrorReason.BadLayout, 2L << 30),
            (sound with { ChunkBytes = long.MinValue }, ErrorReason.BadLayout, Unit),
            (sound with { Kind = (LayoutKind)3 }, ErrorReason.BadLayout, 0),
            (sound with { Devices = [new DeviceIndex(2)] }, ErrorReason.DeviceMissing, 0),
        })
        {
            var error = Assert.Throws<FamfsException>(() => pool.TryAllocate(request, new Random(1), extents, out _));
            Assert.Equal((reason, (ulong)limit), (error.Reason, error.Limit));
        }

        Assert.Equal(200 * Unit, pool.FreeBytes);
    }

    [Fact]
    public void Extents_that_are_no_whole_units_of_a_device_are_refused()
    {
        ExtentAllocator pool = Pool(10 * Unit);
        foreach (var extent in new MapExtent[]
        {
            new(Device0, 0, 0), new(Device0, 0, -Unit), new(Device0, -Unit, Unit), new(Device0, 1, Unit), new(Device0, 0, Unit + 1),
            new(Device0, 10 * Unit, Unit), new(Device0, 9 * Unit, 2 * Unit), new(Device0, 0, 11 * Unit), new(Device1, 0, Unit),
            new(Device0, long.MaxValue / Unit * Unit, Unit), new(Device0, Unit, long.MaxValue / Unit * Unit), new(Device0, long.MinValue, Unit),
        })
        {
            Assert.False(pool.TryReserve(extent));
            Assert.False(pool.TryFree(extent));
            Assert.False(pool.IsFree(extent));
            Assert.Equal(ErrorReason.MediaCorrupt, Assert.Throws<FamfsException>(() => pool.Reserve(extent)).Reason);
            Assert.Equal(ErrorReason.MediaCorrupt, Assert.Throws<FamfsException>(() => pool.Free(extent)).Reason);
        }

        pool.Reserve(new MapExtent(Device0, 2 * Unit, 3 * Unit));
        Assert.Contains("used already", Assert.Throws<FamfsException>(() => pool.Reserve(new MapExtent(Device0, 0, 3 * Unit))).Message, StringComparison.Ordinal);
        Assert.Contains("free already", Assert.Throws<FamfsException>(() => pool.Free(new MapExtent(Device0, 4 * Unit, 2 * Unit))).Message, StringComparison.Ordinal);
        Assert.Equal(7 * Unit, pool.FreeBytes);
    }

    [Fact]
    public void Devices_that_cannot_be_in_a_pool_are_refused()
    {
        var pool = new ExtentAllocator();
        Assert.Equal(ErrorReason.DeviceMissing, Assert.Throws<FamfsException>(() => pool.DeviceFreeBytes(Device0)).Reason);
        Assert.Equal(ErrorReason.NoSpace, Assert.Throws<FamfsException>(() => pool.Allocate(new AllocationRequest(1), new Random(1), [])).Reason);
        foreach (long length in new[] { long.MinValue, -1, 0, Unit - 1, long.MaxValue, (1L << 31) * Unit + Unit })
            Assert.Equal(ErrorReason.BadRequest, Assert.Throws<FamfsException>(() => pool.AddDevice(Device0, length)).Reason);
        pool.AddDevice(Device1, 3 * Unit + 5);
        Assert.False(pool.HasDevice(Device0));
        Assert.Equal(ErrorReason.BadRequest, Assert.Throws<FamfsException>(() => pool.AddDevice(Device1, Unit)).Reason);
        Assert.Equal(3 * Unit, pool.CapacityBytes);
        pool.AddDevice(Device0, (1L << 31) * Unit);
        Assert.Equal((1L << 31) * Unit, pool.LargestFreeRunBytes);
        foreach (long unit in new[] { 0, -1, 3, 4L << 30 })
            Assert.Throws<ArgumentOutOfRangeException>(() => new ExtentAllocator(unit));
    }

    private static ExtentAllocator Pool(params long[] lengths)
    {
        var pool = new ExtentAllocator(Unit);
        for (int i = 0; i < lengths.Length; i++)
            pool.AddDevice(new DeviceIndex((ushort)i), lengths[i]);
        return pool;
    }

    private static int LowestFit(bool[] used, int count)
    {
        int run = 0;
        for (int i = 0; i < used.Length; i++)
        {
            run = used[i] ? 0 : run + 1;
            if (run == count)
                return i - count + 1;
        }

        return -1;
    }

    private static void RequireSame(bool[] used, ExtentAllocator pool, string where)
    {
        var runs = new List<MapExtent>();
        for (int i = 0; i < used.Length; i++)
        {
            if (used[i])
                continue;
            int start = i;
            while (i < used.Length && !used[i])
                i++;
            runs.Add(new MapExtent(Device0, start * 4096L, (i - start) * 4096L));
        }

        Assert.True(runs.SequenceEqual(pool.FreeRuns(Device0)), where);
        Assert.Equal(runs.Sum(r => r.LengthBytes), pool.FreeBytes);
        Assert.Equal(pool.FreeBytes, pool.DeviceFreeBytes(Device0));
        Assert.Equal(runs.Count == 0 ? 0 : runs.Max(r => r.LengthBytes), pool.LargestFreeRunBytes);
    }

    /// <summary>The map holds the file and wastes less than it must.</summary>
    private static void RequireHolds(AllocationRequest request, List<MapExtent> extents, long chunk)
    {
        long total = extents.Sum(e => e.LengthBytes);
        Assert.True(total >= request.SizeBytes);
        Assert.All(extents, e => Assert.Equal(0, e.OffsetBytes % Unit + e.LengthBytes % Unit));
        if (chunk == 0)
        {
            Assert.NotEqual(LayoutKind.Interleaved, request.Kind);
            Assert.True(total - request.SizeBytes < Unit);
            Assert.InRange(extents.Count, 1, request.MaxExtents == 0 ? 32 : request.MaxExtents);
            return;
        }

        Assert.NotEqual(LayoutKind.Contiguous, request.Kind);
        Assert.Equal(request.ChunkBytes == 0 ? Unit : request.ChunkBytes, chunk);
        Assert.InRange(extents.Count, 1, 32);
        long chunks = (request.SizeBytes + chunk - 1) / chunk;
        Assert.All(extents, e => Assert.Equal((chunks + extents.Count - 1) / extents.Count * chunk, e.LengthBytes));
    }
}
