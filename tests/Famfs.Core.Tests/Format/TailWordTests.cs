using Famfs.Core.Format;
using Xunit;

namespace Famfs.Core.Tests.Format;

/// <summary>The decision of <see cref="TailWord.Judge"/> against an oracle that enumerates counters instead
/// of subtracting them: every tag, for anchors whose counters lie at, before and across the wrap.</summary>
public sealed class TailWordTests
{
    private const long Start = 4096;
    private static readonly SegmentRef s_open = new(1, new(64), new(0), 0x600000, 0x200000, 1024, SegmentRef.Open);

    [Theory]
    [InlineData(1UL, 0UL)]
    [InlineData(1UL, 1UL)]
    [InlineData(2UL, 255UL)]
    [InlineData(40_000UL, 3UL)]
    [InlineData(65_535UL, 0UL)]
    [InlineData(65_535UL, 2UL)]
    [InlineData(65_536UL, 1UL)]
    [InlineData(1_000_000_000_000UL, 256UL)]
    public void Every_relation_of_tag_counter_and_offset_has_its_verdict(ulong first, ulong more)
    {
        ActiveAnchor anchor = Anchor(first, first + more);
        Dictionary<ushort, char> meaning = [];
        for (ulong counter = first; counter <= first + more; counter++)
            meaning[(ushort)counter] = 'o';
        for (ulong back = 1; back <= 32768; back++)
            meaning.TryAdd(unchecked((ushort)(first - back)), 'e');
        long end = s_open.AbsoluteEnd;
        for (int tag = 0; tag <= ushort.MaxValue; tag++)
        {
            char means = meaning.GetValueOrDefault((ushort)tag, 'l');
            foreach (long offset in new[] { 0, Start - 8, Start, Start + 4, Start + 8, end - 8, end, end + 8, TailWord.MaxOffset })
            {
                (TailVerdict, long) expected = means switch
                {
                    'o' when offset >= Start && offset <= end && offset % 8 == 0 => (TailVerdict.Published, offset),
                    'o' => (TailVerdict.Impossible, Start),
                    'e' => (TailVerdict.Before, Start),
                    _ => (TailVerdict.After, Start),
                };
                (TailVerdict, long) actual = (new TailWord(offset, (ulong)tag).Judge(anchor, out long tail), tail);
                if (actual != expected)
                    Assert.Fail($"counters {first}..{first + more}, tag {tag} ({means}), offset {offset}: {actual} instead of {expected}");
            }
        }
    }

    [Fact]
    public void A_line_that_was_never_written_is_an_empty_term()
    {
        Assert.Equal(TailVerdict.Before, default(TailWord).Judge(Anchor(1, 1), out long tail));
        Assert.Equal(Start, tail);
    }

    [Theory]
    [InlineData(5UL, 4UL, false)]
    [InlineData(5UL, 5UL, false)]
    [InlineData(5UL, 6UL, true)]
    [InlineData(5UL, 32772UL, true)]
    [InlineData(5UL, 32773UL, false)]
    [InlineData(65_535UL, 65_536UL, true)]
    [InlineData(65_536UL, 65_535UL, false)]
    public void A_word_of_a_later_copy_is_told_across_the_wrap(ulong counter, ulong tag, bool after) =>
        Assert.Equal(after, new TailWord(0, tag).IsAfter(Anchor(1, counter)));

    [Fact]
    public void Offset_and_tag_are_packed_as_documented()
    {
        TailWord word = new(0x0000_1234_5678_9ABC, 0xFFFF_FFFF_FFFF_BEEF);
        Assert.Equal(0xBEEF_1234_5678_9ABCUL, word.Value);
        Assert.Equal(0x1234_5678_9ABC, word.LogOffset);
        Assert.Equal(0xBEEF, word.Tag);
        Assert.Throws<ArgumentOutOfRangeException>(() => new TailWord(TailWord.MaxOffset + 1, 1));
        Assert.Throws<ArgumentOutOfRangeException>(() => new TailWord(-8, 1));
    }

    private static ActiveAnchor Anchor(ulong first, ulong counter) => NativeSamples.Active with
    {
        Counter = counter,
        FirstCounter = first,
        StartTail = Start,
        SegmentCount = 1,
        Chain = [s_open],
    };
}
