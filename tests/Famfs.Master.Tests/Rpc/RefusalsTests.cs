using Famfs.Core;
using Famfs.Master.Rpc;
using Famfs.V1;
using Microsoft.Extensions.Logging;
using Xunit;

namespace Famfs.Master.Tests.Rpc;

/// <summary>An operator sees which calls are refused, and not one line for each.</summary>
public sealed class RefusalsTests
{
    [Fact]
    public void Each_reason_is_said_at_most_once_a_minute_with_its_count()
    {
        Lines log = new();
        ManualClock clock = new();
        Refusals refusals = new(log, clock);

        refusals.Count("GetFile", new FamfsException(ErrorReason.NotFound, "a: does not exist"));
        refusals.Count("GetFile", new FamfsException(ErrorReason.NotFound, "b: does not exist"));
        refusals.Count("MakeDirectory", new FamfsException(ErrorReason.Exists, "c: exists"));
        refusals.Count("MakeDirectory", new OperationCanceledException());
        refusals.Count("MakeDirectory", new InvalidOperationException());
        clock.Advance(RareEntries<Type>.Pause - TimeSpan.FromSeconds(1));
        refusals.Count("GetFile", new FamfsException(ErrorReason.NotFound, "d: does not exist"));
        clock.Advance(TimeSpan.FromSeconds(1));
        refusals.Count("GetMap", new FamfsException(ErrorReason.NotFound, "e: does not exist"));

        Assert.Equal(
        [
            "GetFile was refused: NotFound: a: does not exist (1 for this reason since the start)",
            "MakeDirectory was refused: Exists: c: exists (1 for this reason since the start)",
            "GetMap was refused: NotFound: e: does not exist (4 for this reason since the start)",
        ], log.Said);
    }

    private sealed class Lines : ILogger<Refusals>
    {
        public List<string> Said { get; } = [];

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) => Said.Add(formatter(state, exception));
    }

    private sealed class ManualClock : TimeProvider
    {
        private long _ticks;

        public override long TimestampFrequency => TimeSpan.TicksPerSecond;

        public void Advance(TimeSpan time) => _ticks += time.Ticks;

        public override long GetTimestamp() => _ticks;
    }
}
