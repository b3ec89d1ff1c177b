using System.Runtime.InteropServices;
using Famfs.Fuse.Dialects;
using Famfs.Fuse.Protocol;
using Xunit;

namespace Famfs.Fuse.Tests.Dialects;

public sealed class InitNegotiationTests
{
    // INIT of Linux 6.18, as read from /dev/fuse.
    private static readonly byte[] Linux618 =
    [
        0x07, 0x00, 0x00, 0x00, // major 7
        0x2d, 0x00, 0x00, 0x00, // minor 45
        0x00, 0x00, 0x02, 0x00, // max_readahead 128 KiB
        0xfb, 0xff, 0xff, 0x73, // flags
        0xfd, 0x05, 0x00, 0x00, // flags2: all known but HAS_INODE_DAX and OVER_IO_URING
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // unused
    ];

    [Fact]
    public void A_mainline_kernel_gets_what_is_accepted_of_what_it_offers()
    {
        InitIn offer = MemoryMarshal.Read<InitIn>(Linux618);
        Assert.True(TryNegotiate(offer, 256, out InitOut reply, out Negotiated? negotiated));
        byte[] expected =
        [
            0x07, 0x00, 0x00, 0x00, // major
            0x2d, 0x00, 0x00, 0x00, // minor 45
            0x00, 0x00, 0x02, 0x00, // max_readahead: the kernel's
            0x31, 0xe0, 0xe4, 0x50, // flags: see InitNegotiation.Accepted
            0x40, 0x00, // max_background 64
            0x30, 0x00, // congestion_threshold 48
            0x00, 0x00, 0x10, 0x00, // max_write 1 MiB
            0x01, 0x00, 0x00, 0x00, // time_gran 1 ns
            0x00, 0x01, // max_pages 256
            0x00, 0x00, // map_alignment
            0x10, 0x00, 0x00, 0x00, // flags2: DIRECT_IO_ALLOW_MMAP
            0x00, 0x00, 0x00, 0x00, // max_stack_depth
            0x00, 0x00, // request_timeout
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // unused
        ];
        Assert.Equal(expected, MemoryMarshal.AsBytes(new ReadOnlySpan<InitOut>(in reply)).ToArray());
        Assert.Same(DialectTable.Stock, negotiated!.Dialect);
        Assert.True(negotiated.HasEpoch);
        Assert.Equal((1 << 20, 256, 45u), (negotiated.MaxWriteBytes, negotiated.MaxPages, negotiated.Minor));
    }

    [Theory]
    [InlineData(InitFlags.FUSE_WRITEBACK_CACHE)]
    [InlineData(InitFlags.FUSE_ATOMIC_O_TRUNC)]
    [InlineData(InitFlags.FUSE_AUTO_INVAL_DATA)]
    [InlineData(InitFlags.FUSE_NO_OPEN_SUPPORT)]
    [InlineData(InitFlags.FUSE_NO_OPENDIR_SUPPORT)]
    [InlineData(InitFlags.FUSE_POSIX_LOCKS)]
    [InlineData(InitFlags.FUSE_FLOCK_LOCKS)]
    [InlineData(InitFlags.FUSE_POSIX_ACL)]
    [InlineData(InitFlags.FUSE_SETXATTR_EXT)]
    [InlineData(InitFlags.FUSE_PASSTHROUGH)]
    [InlineData(InitFlags.FUSE_REQUEST_TIMEOUT)]
    [InlineData(InitFlags.FUSE_DAX_FMAP)]
    public void What_would_take_a_decision_away_from_the_log_is_never_accepted(InitFlags flag)
    {
        Assert.True(TryNegotiate(Offer(45, ulong.MaxValue), 256, out InitOut reply, out _));
        Assert.Equal(0UL, (reply.Flags | ((ulong)reply.Flags2 << 32)) & (ulong)flag);
    }

    [Fact]
    public void Nothing_is_accepted_that_was_not_offered()
    {
        for (int bit = 0; bit < 64; bit++)
        {
            Assert.True(TryNegotiate(Offer(45, ~(1UL << bit)), 256, out InitOut reply, out _));
            Assert.Equal(0UL, (reply.Flags | ((ulong)reply.Flags2 << 32)) & (1UL << bit));
        }
        Assert.True(TryNegotiate(Offer(31, 0), 256, out InitOut none, out Negotiated? negotiated));
        Assert.Equal((0u, 0u), (none.Flags, none.Flags2));
        Assert.Equal(32, negotiated!.MaxPages);
        Assert.False(negotiated.HasEpoch);
    }

    [Fact]
    public void The_high_flags_count_only_with_INIT_EXT()
    {
        InitIn offer = Offer(45, ulong.MaxValue & ~(ulong)InitFlags.FUSE_INIT_EXT);
        Assert.True(TryNegotiate(offer, 256, out InitOut reply, out Negotiated? negotiated));
        Assert.Equal(0u, reply.Flags2);
        Assert.False(negotiated!.Flags.HasFlag(InitFlags.FUSE_DIRECT_IO_ALLOW_MMAP));
    }

    [Theory]
    [InlineData(7, 30)]
    [InlineData(6, 45)]
    [InlineData(8, 0)]
    public void A_kernel_that_is_too_old_or_of_another_major_version_is_refused(uint major, uint minor)
    {
        InitIn offer = Offer(minor, ulong.MaxValue);
        offer.Major = major;
        Assert.False(TryNegotiate(offer, 256, out _, out _));
    }

    [Fact]
    public void A_newer_minor_version_is_answered_with_ours_and_requests_are_bounded()
    {
        Assert.True(TryNegotiate(Offer(99, ulong.MaxValue), 1 << 20, out InitOut reply, out _));
        Assert.Equal((45u, 1024, 4u << 20), (reply.Minor, reply.MaxPages, reply.MaxWriteBytes));
    }

    private static bool TryNegotiate(in InitIn offer, int maxPages, out InitOut reply, out Negotiated? negotiated) =>
        InitNegotiation.TryNegotiate(offer, maxPages, DialectWish.Stock, out reply, out negotiated, out _);

    private static InitIn Offer(uint minor, ulong flags) =>
        new() { Major = 7, Minor = minor, MaxReadaheadBytes = 131072, Flags = (uint)flags, Flags2 = (uint)(flags >> 32) };
}
