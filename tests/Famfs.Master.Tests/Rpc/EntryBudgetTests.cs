using Famfs.Master.Rpc;
using Xunit;

namespace Famfs.Master.Tests.Rpc;

/// <summary>Log entries that differ, of what callers can make happen without end.</summary>
public sealed class EntryBudgetTests
{
    [Fact]
    public void So_many_pass_in_a_minute_and_the_next_minute_tells_how_many_did_not()
    {
        ManualClock clock = new();
        EntryBudget budget = new(clock, most: 3);
        for (int i = 0; i < 3; i++)
            Assert.Equal((true, 0L), May(budget));
        for (int i = 0; i < 5; i++)
            Assert.Equal((false, 0L), May(budget));
        clock.Passed += RareEntries<int>.Pause - TimeSpan.FromTicks(1);
        Assert.Equal((false, 0L), May(budget));
        clock.Passed += TimeSpan.FromTicks(1);
        // Told once.
        Assert.Equal((true, 6L), May(budget));
        Assert.Equal((true, 0L), May(budget));
        Assert.Equal((true, 0L), May(budget));
        Assert.Equal((false, 0L), May(budget));
        clock.Passed += RareEntries<int>.Pause;
        Assert.Equal((true, 1L), May(budget));
    }

    private static (bool May, long LeftOut) May(EntryBudget budget) => (budget.May(out long leftOut), leftOut);

    private sealed class ManualClock : TimeProvider
    {
        public TimeSpan Passed { get; set; }

        public override long TimestampFrequency => TimeSpan.TicksPerSecond;

        public override long GetTimestamp() => Passed.Ticks;
    }
}
