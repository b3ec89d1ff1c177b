using Famfs.Master.Holders;
using Xunit;

namespace Famfs.Master.Tests.Holders;

/// <summary>Zeroing at a limited rate.</summary>
public sealed class ZeroingPaceTests
{
    private const long MiB = 1L << 20;

    [Fact]
    public void Never_more_than_the_rate_whatever_is_asked_for_and_when()
    {
        ManualClock clock = new();
        ZeroingPace pace = new(100 * MiB, clock);
        Random random = new(1);
        // When each is done at the earliest, if it takes no time itself.
        List<(TimeSpan At, long Bytes)> starts = [];
        for (int i = 0; i < 1000; i++)
        {
            long bytes = random.Next(1, 4) * MiB;
            starts.Add((clock.Now + pace.Reserve(bytes), bytes));
            clock.Advance(TimeSpan.FromMilliseconds(random.Next(100)));
        }
        for (int from = 0; from < starts.Count; from += 37)
        {
            long bytes = 0;
            for (int to = from; to < starts.Count - 1; to++)
            {
                bytes += starts[to].Bytes;
                double seconds = (starts[to + 1].At - starts[from].At).TotalSeconds;
                Assert.True(bytes <= (100 * MiB * seconds) + 1024, $"{bytes} bytes in {seconds} s");
            }
        }
    }

    [Fact]
    public void Who_asks_for_less_than_the_rate_does_not_wait()
    {
        ManualClock clock = new();
        ZeroingPace pace = new(100 * MiB, clock);
        for (int i = 0; i < 100; i++)
        {
            Assert.Equal(TimeSpan.Zero, pace.Reserve(MiB));
            clock.Advance(TimeSpan.FromMilliseconds(10));
        }
        Assert.Equal(TimeSpan.Zero, pace.Reserve(100 * MiB));
        Assert.Equal(1, pace.Reserve(MiB).TotalSeconds, 3);
    }

    [Theory]
    [InlineData(1, 48 * 1024)]
    [InlineData(1000, 50 * MiB)]
    public void Steps_are_whole_pages(long rate, long step) => Assert.Equal(step, new ZeroingPace(rate * MiB, TimeProvider.System).StepBytes);

    private sealed class ManualClock : TimeProvider
    {
        public TimeSpan Now { get; private set; }

        public override long TimestampFrequency => TimeSpan.TicksPerSecond;

        public override long GetTimestamp() => Now.Ticks;

        public void Advance(TimeSpan by) => Now += by;
    }
}
