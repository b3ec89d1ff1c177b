using Famfs.Core.Allocation;
using Famfs.Core.Dialects;
using Famfs.Fuse.Dialects;
using Famfs.Fuse.Operations;
using Famfs.Fuse.Protocol;
using Xunit;

namespace Famfs.Fuse.Tests.Dialects;

public sealed class DialectTableTests
{
    private const ulong Bit42 = 1UL << 42;
    private const ulong Bit43 = 1UL << 43;

    // The decision written out: (minor, bit 42, bit 43) to a name.
    private static string Expected(uint minor, bool bit42, bool bit43) => (minor, bit42, bit43) switch
    {
        ( < 31, _, _) => "too old",
        (42, true, _) => "A", // where mainline has no meaning of bit 42
        (44, _, true) => "B0",
        ( >= 45, _, true) => "B", // or D, which INIT does not tell
        _ => "stock", // bit 42 from 7.43 on is FUSE_REQUEST_TIMEOUT
    };

    public static TheoryData<uint> Minors => [.. Enumerable.Range(0, 80).Select(m => (uint)m), 1000, uint.MaxValue];

    [Theory]
    [MemberData(nameof(Minors))]
    public void Every_minor_version_with_every_combination_of_the_flags_has_one_dialect(uint minor)
    {
        for (int bits = 0; bits < 8; bits++)
        {
            bool extended = (bits & 4) != 0;
            ulong flags = ((bits & 1) != 0 ? Bit42 : 0) | ((bits & 2) != 0 ? Bit43 : 0) | (extended ? 1UL << 30 : 0);
            var offer = new InitIn { Major = 7, Minor = minor, Flags = (uint)flags, Flags2 = (uint)(flags >> 32) };
            string expected = Expected(minor, extended && (bits & 1) != 0, extended && (bits & 2) != 0);

            bool agreed = InitNegotiation.TryNegotiate(offer, 256, new DialectWish(null, WantsFmaps: true), out InitOut reply, out Negotiated? negotiated, out string? cause);
            Assert.Equal(expected, agreed ? negotiated!.Dialect.Name : "too old");
            Assert.Equal(agreed, cause is null);
            ulong asked = ((ulong)reply.Flags2 << 32) & (Bit42 | Bit43);
            Assert.Equal(expected switch { "A" => Bit42, "B0" or "B" => Bit43, _ => 0UL }, asked);

            // Without devices that the kernel can take, and by force, it is never asked for.
            foreach (DialectWish wish in new[] { new DialectWish(null, WantsFmaps: false), DialectWish.Stock, new DialectWish(DialectTable.Stock, WantsFmaps: true) })
            {
                Assert.Equal(agreed, InitNegotiation.TryNegotiate(offer, 256, wish, out reply, out negotiated, out _));
                Assert.Equal(0UL, ((ulong)reply.Flags2 << 32) & (Bit42 | Bit43));
                Assert.Equal(agreed ? "stock" : null, negotiated?.Dialect.Name);
            }

            // Forced, a dialect is agreed on exactly where the kernel looks like it.
            foreach (Dialect forced in DialectTable.All)
            {
                bool fits = forced == DialectTable.Stock ? agreed : expected == (forced == DialectTable.D ? "B" : forced.Name);
                Assert.Equal(fits, InitNegotiation.TryNegotiate(offer, 256, new DialectWish(forced, WantsFmaps: false), out reply, out negotiated, out cause));
                Assert.Equal(fits ? forced : null, negotiated?.Dialect);
                if (!fits && agreed)
                    Assert.Contains($"dialect {forced.Name} is not offered", cause);
            }
        }
    }

    [Fact]
    public void Every_answer_to_the_push_of_a_first_device_decides_between_B_and_D()
    {
        Errno[] notD = [Errno.ENOTTY, Errno.ENOSYS, Errno.EINVAL, Errno.EPERM];
        foreach (Errno errno in Enum.GetValues<Errno>())
        {
            bool settled = DialectTable.ResolveFromPush(errno, out Dialect dialect);
            Assert.Equal(notD.Contains(errno) ? DialectTable.B : DialectTable.D, dialect);
            Assert.Equal(errno == Errno.None || notD.Contains(errno), settled);
        }
    }

    [Fact]
    public void Opcodes_53_to_55_mean_what_the_dialect_says_and_all_others_the_same_in_each()
    {
        static (string?, string?, string?) Names(Dialect d) => (FuseOperations.RequestsOf(d).Find(53)?.Name, FuseOperations.RequestsOf(d).Find(54)?.Name, FuseOperations.RequestsOf(d).Find(55)?.Name);
        Assert.Equal(("COPY_FILE_RANGE_64", null, null), Names(DialectTable.Stock));
        Assert.Equal(("GET_FMAP", "GET_DAXDEV", null), Names(DialectTable.A));
        Assert.Equal(("GET_FMAP", "GET_DAXDEV", null), Names(DialectTable.B0));
        Assert.Equal(("COPY_FILE_RANGE_64", "GET_FMAP", "GET_DAXDEV"), Names(DialectTable.B));
        Assert.Equal(("COPY_FILE_RANGE_64", "GET_FMAP", null), Names(DialectTable.D));
        Assert.Equal((8, 0, 0, 8), (FuseOperations.RequestsOf(DialectTable.A).Find(53)!.InBytes, FuseOperations.RequestsOf(DialectTable.B0).Find(53)!.InBytes, FuseOperations.RequestsOf(DialectTable.B).Find(54)!.InBytes, FuseOperations.RequestsOf(DialectTable.D).Find(54)!.InBytes));
        foreach (Dialect dialect in DialectTable.All)
        {
            for (uint opcode = 0; opcode < 53; opcode++)
                Assert.Same(FuseOperations.StockRequests.Find(opcode), FuseOperations.RequestsOf(dialect).Find(opcode));
        }
    }

    [Fact]
    public void A_famfs_dialect_keeps_the_page_cache_out_of_the_way_and_stock_leaves_it_to_the_mount()
    {
        Assert.Null(DialectTable.Stock.OpenFlags);
        Assert.All(DialectTable.All.Where(d => d.Fmaps is not null), d => Assert.Equal(FuseConstants.FOPEN_KEEP_CACHE, d.OpenFlags));
    }

    [Fact]
    public void The_numbers_of_the_dialect_floor_are_frozen()
    {
        Assert.Equal(["A", "B0", "B", "D"], FmapLimits.All.Select(l => l.Dialect));
        Assert.Equal([1u, 2u, 3u, 4u], FmapLimits.All.Select(l => l.FloorNumber));
        Assert.Equal(DialectTable.All.Where(d => d.Fmaps is not null).Select(d => d.Name), FmapLimits.All.Select(l => l.Dialect));
        Assert.All(DialectTable.All.Where(d => d.Fmaps is not null), d => Assert.Equal(d.Name, d.Fmaps!.Dialect));
    }
}
