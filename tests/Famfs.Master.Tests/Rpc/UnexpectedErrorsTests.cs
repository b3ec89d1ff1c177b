using Famfs.Core;
using Famfs.Master.Rpc;
using Famfs.V1;
using Grpc.Core;
using Microsoft.Extensions.Logging;
using Xunit;

namespace Famfs.Master.Tests.Rpc;

public sealed class UnexpectedErrorsTests
{
    [Fact]
    public void Each_kind_is_told_at_once_and_then_once_a_minute_with_its_count()
    {
        Lines log = new();
        ManualClock clock = new();
        UnexpectedErrors unexpected = new(log, clock);
        for (int i = 0; i < 1000; i++)
            unexpected.Count("CreateFile", new InvalidOperationException("broken"));
        Assert.Contains("CreateFile failed by a fault of the master, InvalidOperationException (1 of", Assert.Single(log.Said), StringComparison.Ordinal);
        unexpected.Count("CreateFile", new OverflowException());
        unexpected.Count("GetFile", new InvalidOperationException("broken"));
        Assert.Equal(3, log.Said.Count);
        clock.Passed += RareEntries<Type>.Pause;
        unexpected.Count("CreateFile", new InvalidOperationException("broken"));
        Assert.Equal(4, log.Said.Count);
        Assert.Contains("(1001 of", log.Said[3], StringComparison.Ordinal);
    }

    [Fact]
    public void Only_a_fault_of_the_master_keeps_its_cause_for_the_log()
    {
        InvalidOperationException cause = new("broken");
        RpcException internalError = StatusMap.ToRpc(cause);
        Assert.Equal(StatusCode.Internal, internalError.StatusCode);
        Assert.Same(cause, internalError.Status.DebugException);
        Assert.Null(StatusMap.ToRpc(new FamfsException(ErrorReason.BadPath, "no")).Status.DebugException);
    }

    private sealed class ManualClock : TimeProvider
    {
        public TimeSpan Passed { get; set; }

        public override long TimestampFrequency => TimeSpan.TicksPerSecond;

        public override long GetTimestamp() => Passed.Ticks;
    }

    private sealed class Lines : ILogger<UnexpectedErrors>
    {
        public List<string> Said { get; } = [];

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) => Said.Add(formatter(state, exception));
    }
}
