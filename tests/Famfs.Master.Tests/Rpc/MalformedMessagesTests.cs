using Famfs.Master.Rpc;
using Microsoft.Extensions.Logging;
using Xunit;

namespace Famfs.Master.Tests.Rpc;

public sealed class MalformedMessagesTests
{
    [Fact]
    public void The_first_is_told_at_once_and_then_one_a_minute_with_the_count()
    {
        Lines log = new();
        ManualClock clock = new();
        MalformedMessages malformed = new(log, clock);
        for (int i = 0; i < 1000; i++)
            malformed.Count("CreateFile", "cut off");
        Assert.Contains("(1 such", Assert.Single(log.Said), StringComparison.Ordinal);
        clock.Passed += RareEntries<Type>.Pause;
        malformed.Count("Subscribe", "cut off");
        malformed.Count("Subscribe", "cut off");
        Assert.Equal(2, log.Said.Count);
        Assert.Contains("Subscribe", log.Said[1], StringComparison.Ordinal);
        Assert.Contains("(1001 such", log.Said[1], StringComparison.Ordinal);
        clock.Passed += RareEntries<Type>.Pause;
        malformed.Count("Subscribe", "cut off");
        Assert.Contains("(1003 such", log.Said[2], StringComparison.Ordinal);
    }

    private sealed class ManualClock : TimeProvider
    {
        public TimeSpan Passed { get; set; }

        public override long TimestampFrequency => TimeSpan.TicksPerSecond;

        public override long GetTimestamp() => Passed.Ticks;
    }

    private sealed class Lines : ILogger<MalformedMessages>
    {
        public List<string> Said { get; } = [];

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) => Said.Add(formatter(state, exception));
    }
}
