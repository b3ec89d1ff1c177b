using Famfs.Core.Allocation;
using Famfs.Core.Dialects;
using Famfs.V1;
using Xunit;

namespace Famfs.Core.Tests.Dialects;

public sealed class FmapLimitsTests
{
    private const long Unit = 2 << 20;

    [Fact]
    public void Floors_have_names_and_numbers_and_zero_is_none()
    {
        Assert.Null(FmapLimits.OfFloor(0));
        foreach (FmapLimits limits in FmapLimits.All)
        {
            Assert.Same(limits, FmapLimits.OfFloor(limits.FloorNumber));
            Assert.Equal(limits.FloorNumber, FmapLimits.ParseFloor(limits.Dialect));
            Assert.Equal(limits.Dialect, FmapLimits.NameOfFloor(limits.FloorNumber));
        }
        Assert.Equal((0u, "none"), (FmapLimits.ParseFloor("none"), FmapLimits.NameOfFloor(0)));
        Assert.Equal(ErrorReason.NotSupportedByFormat, Assert.Throws<FamfsException>(() => FmapLimits.OfFloor(5)).Reason);
        Assert.Equal(ErrorReason.BadRequest, Assert.Throws<FamfsException>(() => FmapLimits.ParseFloor("5")).Reason);
    }

    [Fact]
    public void Devices_out_of_a_floors_reach_are_not_used_and_naming_one_is_refused()
    {
        Assert.Null(FmapLimits.B.Constrain(new(Unit), deviceCount: 24).Devices);
        Assert.Equal(24, FmapLimits.B.Constrain(new(Unit), deviceCount: 25).Devices!.Count);
        Assert.Equal(64, FmapLimits.D.Constrain(new(Unit), deviceCount: 100).Devices!.Count);
        AllocationRequest named = new(Unit) { Devices = [new(3), new(23)] };
        Assert.Equal(named.Devices, FmapLimits.B.Constrain(named, deviceCount: 40).Devices);
        FamfsException error = Assert.Throws<FamfsException>(() => FmapLimits.B.Constrain(named with { Devices = [new(24)] }, deviceCount: 40));
        Assert.Equal((ErrorReason.BadLayout, 24UL), (error.Reason, error.Limit));
    }

    [Fact]
    public void Whatever_is_allocated_under_a_floor_is_within_its_limits()
    {
        Random random = new(1);
        ExtentAllocator allocator = new(Unit);
        for (ushort device = 0; device < 70; device++)
            allocator.AddDevice(new(device), 64 * Unit);
        List<MapExtent> extents = [];
        foreach (FmapLimits limits in FmapLimits.All)
        {
            for (int i = 0; i < 200; i++)
            {
                AllocationRequest wish = new(random.NextInt64(1, 200 * Unit)) { Kind = (LayoutKind)random.Next(3), ChunkBytes = random.Next(3) * Unit };
                if (!allocator.TryAllocate(limits.Constrain(wish, 70), random, extents, out long chunk))
                    continue;
                Assert.All(extents, extent => Assert.True(extent.Device.Value < limits.MaxDevices));
                Assert.InRange(extents.Count, 1, chunk == 0 ? limits.MaxExtents : limits.MaxStrips);
                if (i % 2 == 0)
                    extents.ForEach(extent => allocator.Free(extent)); // the rest stays, so that runs get short
            }
        }
    }

    [Fact]
    public void Sixteen_mebibytes_of_map_are_the_limit_where_chunks_are_unrolled()
    {
        long largest = FmapLimits.D.MaxExtents * Unit;
        Assert.Equal(LayoutKind.Interleaved, FmapLimits.D.Constrain(new(largest) { Kind = LayoutKind.Interleaved }, 1).Kind);
        Assert.Equal(LayoutKind.Auto, FmapLimits.D.Constrain(new(largest), 1).Kind);
        Assert.Equal(LayoutKind.Contiguous, FmapLimits.D.Constrain(new(largest + 1), 1).Kind);
        Assert.Equal(LayoutKind.Interleaved, FmapLimits.D.Constrain(new(largest + 1) { Kind = LayoutKind.Interleaved, ChunkBytes = 2 * Unit }, 1).Kind);
        FamfsException error = Assert.Throws<FamfsException>(() => FmapLimits.D.Constrain(new(largest + 1) { Kind = LayoutKind.Interleaved }, 1));
        Assert.Equal((ErrorReason.BadLayout, 699049UL), (error.Reason, error.Limit));
        Assert.Equal(LayoutKind.Interleaved, FmapLimits.B.Constrain(new(largest + 1) { Kind = LayoutKind.Interleaved }, 1).Kind);
    }

    [Fact]
    public void What_a_kernel_cannot_map_of_what_may_be_made_is_said()
    {
        const long Small = 1L << 40;
        const long Large = 2L << 40;
        Assert.Null(FmapLimits.B.FindGap(null, 24, Large));
        Assert.Equal("space on devices from index 24 on", FmapLimits.B.FindGap(null, 25, Small));
        Assert.Null(FmapLimits.B.FindGap(FmapLimits.A, 100, Large));
        Assert.NotNull(FmapLimits.B.FindGap(FmapLimits.D, 1, Small));
        Assert.Null(FmapLimits.D.FindGap(null, 64, Small));
        Assert.NotNull(FmapLimits.D.FindGap(null, 65, Small));

        // The other limits leave an interleaved file whole, which D has to unroll.
        Assert.Null(FmapLimits.D.FindGap(FmapLimits.B, 1, Small));
        Assert.Equal("more than 699049 chunks when they are interleaved", FmapLimits.D.FindGap(FmapLimits.B, 1, Large));
        Assert.NotNull(FmapLimits.D.FindGap(null, 1, Large));
        Assert.Null(FmapLimits.D.FindGap(FmapLimits.D, 100, Large));
        Assert.Equal(("stock", "B", "7"), (FmapLimits.NameOfDialect(0), FmapLimits.NameOfDialect(3), FmapLimits.NameOfDialect(7)));
    }
}
