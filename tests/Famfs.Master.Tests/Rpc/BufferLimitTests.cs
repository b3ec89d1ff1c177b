using System.Buffers;
using Famfs.Master.Rpc;
using Microsoft.AspNetCore.Connections;
using Xunit;

namespace Famfs.Master.Tests.Rpc;

/// <summary>Buffers of all connections, without a server.</summary>
public sealed class BufferLimitTests
{
    private const int Block = 4096;

    [Fact]
    public void Whoever_holds_most_is_closed_when_another_asks_and_nobody_else()
    {
        BufferLimit limit = new(6 * Block);
        (Peer Peer, BufferLimit.Connection Part)[] all = [.. Enumerable.Range(0, 3).Select(_ => Open(limit))];
        List<IMemoryOwner<byte>> blocks = [Rent(all[0].Part), Rent(all[1].Part), Rent(all[1].Part)];
        List<IMemoryOwner<byte>> most = [Rent(all[2].Part), Rent(all[2].Part), Rent(all[2].Part)];
        Assert.Equal(6 * Block, limit.Held);
        Assert.All(all, one => Assert.Null(one.Peer.Cause));

        // The smallest asks for one more, and gets it.
        blocks.Add(Rent(all[0].Part));
        Assert.Equal("buffers of all connections take more than 24576 bytes, the limit, and this one's most of them", all[2].Peer.Cause);
        Assert.Null(all[0].Peer.Cause);
        Assert.Null(all[1].Peer.Cause);
        Assert.Equal((4 * Block, 3 * Block), (limit.Held, all[2].Part.Held));

        // What it held does not count again when it comes back, and what it takes until it has ended counts for nobody.
        most.Add(Rent(all[2].Part));
        most.ForEach(block => block.Dispose());
        most.ForEach(block => block.Dispose());
        Assert.Equal((4 * Block, 0L), (limit.Held, all[2].Part.Held));
        blocks.AddRange([Rent(all[0].Part), Rent(all[1].Part)]);
        Assert.Null(all[0].Peer.Cause);
        Assert.Null(all[1].Peer.Cause);
        Assert.Equal(6 * Block, limit.Held);

        blocks.ForEach(block => block.Dispose());
        Assert.Equal(0, limit.Held);
    }

    [Fact]
    public void A_connection_that_has_ended_counts_for_nothing_though_its_blocks_come_back_later()
    {
        BufferLimit limit = new(2 * Block);
        (Peer ended, BufferLimit.Connection part) = Open(limit);
        IMemoryOwner<byte> late = Rent(part);
        part.Dispose();
        Assert.Equal(0, limit.Held);
        late.Dispose();
        Assert.Equal(0, limit.Held);

        // Nor is it the one that is closed.
        (Peer other, BufferLimit.Connection next) = Open(limit);
        for (int i = 0; i < 3; i++)
            Rent(next);
        Assert.Null(ended.Cause);
        Assert.NotNull(other.Cause);
        Assert.Equal(0, limit.Held);
    }

    private static (Peer Peer, BufferLimit.Connection Part) Open(BufferLimit limit)
    {
        Peer peer = new();
        BufferLimit.Connection part = limit.Open(peer);
        // The server takes its buffers there.
        Assert.Same(part, peer.Features.Get<Microsoft.AspNetCore.Connections.Features.IMemoryPoolFeature>()!.MemoryPool);
        return (peer, part);
    }

    private static IMemoryOwner<byte> Rent(BufferLimit.Connection part)
    {
        IMemoryOwner<byte> block = part.Rent(Block);
        Assert.Equal(Block, block.Memory.Length);
        return block;
    }

    private sealed class Peer : DefaultConnectionContext
    {
        public string? Cause { get; private set; }

        public override void Abort(ConnectionAbortedException abortReason) => Cause = abortReason.Message;
    }
}
