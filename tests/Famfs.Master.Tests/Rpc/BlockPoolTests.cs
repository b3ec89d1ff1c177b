using System.Buffers;
using System.Runtime.InteropServices;
using Famfs.Master.Rpc;
using Xunit;

namespace Famfs.Master.Tests.Rpc;

public sealed class BlockPoolTests
{
    private readonly BlockPool _pool = new();

    [Fact]
    public void Blocks_are_used_again_and_no_more_are_kept_than_the_limit()
    {
        List<IMemoryOwner<byte>> rented = [.. Enumerable.Range(0, BlockPool.KeptBlocks + 100).Select(_ => _pool.Rent(BlockPool.BlockBytes))];
        HashSet<byte[]> arrays = [.. rented.Select(ArrayOf)];
        Assert.Equal(rented.Count, arrays.Count);
        foreach (IMemoryOwner<byte> one in rented)
            one.Dispose();
        Assert.Equal(BlockPool.KeptBlocks, _pool.Kept);
        Assert.All(Enumerable.Range(0, BlockPool.KeptBlocks), _ => Assert.Contains(ArrayOf(_pool.Rent()), arrays));
        Assert.Equal(0, _pool.Kept);
        Assert.DoesNotContain(ArrayOf(_pool.Rent()), arrays);
    }

    [Fact]
    public void A_block_that_is_returned_twice_is_given_to_one()
    {
        IMemoryOwner<byte> block = _pool.Rent();
        block.Dispose();
        block.Dispose();
        Assert.NotSame(ArrayOf(_pool.Rent()), ArrayOf(_pool.Rent()));
    }

    [Fact]
    public void More_than_a_block_is_refused_and_a_pool_that_is_disposed_keeps_nothing()
    {
        Assert.Throws<ArgumentOutOfRangeException>(() => _pool.Rent(BlockPool.BlockBytes + 1));
        IMemoryOwner<byte> block = _pool.Rent();
        byte[] array = ArrayOf(block);
        _pool.Dispose();
        block.Dispose();
        Assert.NotSame(array, ArrayOf(_pool.Rent()));
    }

    private static byte[] ArrayOf(IMemoryOwner<byte> owner)
    {
        Assert.True(MemoryMarshal.TryGetArray(owner.Memory, out ArraySegment<byte> segment));
        return segment.Array!;
    }
}
