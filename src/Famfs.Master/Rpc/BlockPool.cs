using System.Buffers;
using System.Collections.Concurrent;
using Microsoft.AspNetCore.Connections;

namespace Famfs.Master.Rpc;

/// <summary>
/// The server's buffers: blocks of a page. A pool keeps <see cref="KeptBlocks"/> and leaves others to the collector: the server's own
/// pool keeps whatever callers once made it take, for minutes. Blocks are ordinary objects, which are pinned while the kernel fills
/// them: pinned for ever, a few would keep large parts of the heap from being given back. Any thread.
/// </summary>
internal sealed class BlockPool : MemoryPool<byte>
{
    /// <summary>Bytes of a block (the server asks for no more at a time).</summary>
    public const int BlockBytes = 4096;

    /// <summary>Blocks that are kept for the next caller (chosen: 4 MiB; the server has a pool for each processor core).</summary>
    public const int KeptBlocks = 1024;

    private readonly ConcurrentQueue<Block> _kept = new();
    private int _count;

    /// <summary>Blocks that are kept now.</summary>
    public int Kept => Volatile.Read(ref _count);

    /// <inheritdoc/>
    public override int MaxBufferSize => BlockBytes;

    /// <inheritdoc/>
    public override IMemoryOwner<byte> Rent(int minBufferSize = -1)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(minBufferSize, BlockBytes);
        if (_kept.TryDequeue(out Block? block))
            Interlocked.Decrement(ref _count);
        else
            block = new(this);
        block.IsRented = true;
        return block;
    }

    protected override void Dispose(bool disposing)
    {
        // What is rented still is returned to nobody.
        Volatile.Write(ref _count, KeptBlocks);
        _kept.Clear();
    }

    private void Return(Block block)
    {
        if (Interlocked.Increment(ref _count) <= KeptBlocks)
            _kept.Enqueue(block);
        else
            Interlocked.Decrement(ref _count);
    }

    private sealed class Block(BlockPool pool) : IMemoryOwner<byte>
    {
        private readonly byte[] _bytes = GC.AllocateUninitializedArray<byte>(BlockBytes);

        public bool IsRented { get; set; }

        public Memory<byte> Memory => _bytes;

        public void Dispose()
        {
            // A second return would give one block to two callers.
            if (!IsRented)
                return;
            IsRented = false;
            pool.Return(this);
        }
    }

    /// <summary>Makes the pools of a server.</summary>
    internal sealed class Factory : IMemoryPoolFactory<byte>
    {
        /// <inheritdoc/>
        public MemoryPool<byte> Create(MemoryPoolOptions? options = null) => new BlockPool();
    }
}
