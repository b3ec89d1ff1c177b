using Famfs.Core.Format;
using Xunit;

namespace Famfs.Core.Tests.Format;

/// <summary>Fields that are out of range are rejected though the checksum is right; what a writer makes in the
/// course of a term is accepted.</summary>
public sealed class AnchorRulesTests
{
    private static readonly ActiveAnchor s_active = NativeSamples.Active;
    private static readonly SegmentRef s_open = NativeSamples.OpenOne;
    private static readonly SegmentRef s_sealed = NativeSamples.Sealed;

    public static TheoryData<string> Broken => [.. s_broken.Keys];

    private static readonly Dictionary<string, ActiveAnchor> s_broken = new()
    {
        ["counter 0"] = s_active with { Counter = 0, FirstCounter = 0 },
        ["first counter above counter"] = s_active with { FirstCounter = s_active.Counter + 1 },
        ["start tail behind the last segment"] = s_active with { StartTail = s_open.AbsoluteEnd + 8 },
        ["start tail not aligned"] = s_active with { StartTail = s_active.StartTail + 1 },
        ["start tail negative"] = s_active with { StartTail = -8 },
        ["first copy starts before its last segment"] = s_active with { FirstCounter = s_active.Counter },
        ["fewer segments in all than listed"] = s_active with { SegmentCount = 1 },
        ["no segments"] = s_active with { Chain = [] },
        ["last segment sealed"] = s_active with { Chain = [s_sealed] },
        ["an open segment before the last"] = s_active with { Chain = [s_sealed with { SealedBytes = SegmentRef.Open }, s_open] },
        ["a gap between segments"] = s_active with { Chain = [s_sealed with { SealedBytes = s_sealed.SealedBytes - 8 }, s_open] },
        ["sealed beyond its capacity"] = s_active with { Chain = [s_sealed with { SealedBytes = s_sealed.CapacityBytes + 8 }, s_open] },
        ["segment without id"] = s_active with { Chain = [s_open with { Id = 0 }] },
        ["segment without term"] = s_active with { Chain = [s_open with { Term = default }] },
        ["segment on the superblock"] = s_active with { Chain = [s_open with { Offset = 0 }] },
        ["segment not aligned"] = s_active with { Chain = [s_open with { Offset = s_open.Offset + 64 }] },
        ["segment that is a header only"] = s_active with { Chain = [s_open with { LengthBytes = 4096 }] },
        ["segment past the end of everything"] = s_active with { Chain = [s_open with { LengthBytes = long.MaxValue }] },
    };

    [Theory]
    [MemberData(nameof(Broken))]
    public void An_active_copy_out_of_range_is_rejected(string what)
    {
        byte[] block = new byte[ActiveAnchor.Size];
        s_broken[what].Format(block, NativeSamples.FileSystem);
        Assert.False(ActiveAnchor.TryParse(block, NativeSamples.FileSystem, NativeSamples.Slot, out _));
    }

    [Fact]
    public void A_term_that_has_gone_on_to_many_segments_keeps_its_start_tail()
    {
        SegmentRef[] chain = new SegmentRef[MediaLayout.MaxChainInAnchor];
        long start = 1 << 20;
        for (int i = 0; i < chain.Length; i++)
        {
            bool last = i == chain.Length - 1;
            chain[i] = new((s_active.Term.Value << 16) + (ulong)i + 9, s_active.Term, new(0), 0x600000 + i * 0x200000L, 0x200000, start, last ? SegmentRef.Open : 4096);
            start += 4096;
        }
        ActiveAnchor anchor = s_active with { StartTail = 4096, SegmentCount = 41, Chain = chain };
        byte[] block = new byte[ActiveAnchor.Size];
        anchor.Format(block, NativeSamples.FileSystem);
        Assert.True(ActiveAnchor.TryParse(block, NativeSamples.FileSystem, NativeSamples.Slot, out ActiveAnchor? read));
        NativeSamples.RequireEqual(anchor, read);
    }

    [Fact]
    public void More_segments_than_an_anchor_lists_are_refused_when_written()
    {
        ActiveAnchor anchor = s_active with { Chain = [.. Enumerable.Repeat(s_open, MediaLayout.MaxChainInAnchor + 1)] };
        Assert.ThrowsAny<ArgumentException>(() => anchor.Format(new byte[ActiveAnchor.Size], NativeSamples.FileSystem));
    }

    [Fact]
    public void Claims_without_counter_or_term_or_of_another_slot_are_rejected()
    {
        foreach (AnchorClaim claim in new[]
        {
            NativeSamples.Claim with { Counter = 0 },
            NativeSamples.Claim with { Term = new(NativeSamples.Term.Value + 1) },
        })
        {
            byte[] line = new byte[AnchorClaim.Size];
            claim.Format(line, NativeSamples.FileSystem, NativeSamples.Slot);
            Assert.False(AnchorClaim.TryParse(line, NativeSamples.FileSystem, NativeSamples.Slot, out _));
        }
        byte[] zeroTerm = new byte[AnchorClaim.Size];
        (NativeSamples.Claim with { Term = default }).Format(zeroTerm, NativeSamples.FileSystem, 0);
        Assert.False(AnchorClaim.TryParse(zeroTerm, NativeSamples.FileSystem, 0, out _));
    }

    [Fact]
    public void Segment_headers_that_contradict_themselves_are_rejected()
    {
        SegmentHeader header = NativeSamples.Header;
        foreach (SegmentHeader broken in new[]
        {
            header with { Predecessor = NativeSamples.Sealed with { SealedBytes = SegmentRef.Open } },
            header with { Predecessor = NativeSamples.Sealed with { SealedBytes = NativeSamples.Sealed.SealedBytes - 8 } },
            header with { Predecessor = null },
            header with { Segment = NativeSamples.OpenOne with { Term = default } },
        })
        {
            byte[] block = new byte[MediaLayout.SegmentHeaderBytes];
            broken.Format(block);
            Assert.False(SegmentHeader.TryParse(block, out _));
        }
    }

    [Fact]
    public void Host_lines_out_of_range_are_rejected_and_too_many_exceptions_are_refused()
    {
        foreach (MountLine broken in new[]
        {
            NativeSamples.Line with { Counter = 0 },
            NativeSamples.Line with { State = MountState.Free },
            NativeSamples.Line with { State = (MountState)3 },
        })
        {
            byte[] block = new byte[MountLine.Size];
            broken.Format(block, NativeSamples.FileSystem, NativeSamples.HostEntry);
            Assert.False(MountLine.TryParse(block, NativeSamples.FileSystem, NativeSamples.HostEntry, out _));
        }
        MountLine full = NativeSamples.Line with { Exceptions = [.. Enumerable.Range(1, MountLine.MaxExceptions).Select(i => new InodeNumber((ulong)i))] };
        byte[] bytes = new byte[MountLine.Size];
        full.Format(bytes, NativeSamples.FileSystem, NativeSamples.HostEntry);
        Assert.True(MountLine.TryParse(bytes, NativeSamples.FileSystem, NativeSamples.HostEntry, out MountLine? read));
        NativeSamples.RequireEqual(full, read);
        MountLine tooMany = full with { Exceptions = [.. full.Exceptions, new(17)] };
        Assert.ThrowsAny<ArgumentException>(() => tooMany.Format(bytes, NativeSamples.FileSystem, NativeSamples.HostEntry));
    }
}
