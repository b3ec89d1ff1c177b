using Famfs.Fuse.Daemon;
using Microsoft.Extensions.Logging;
using Xunit;

namespace Famfs.Fuse.Tests.Daemon;

public sealed class UpkeepTests
{
    private static readonly TimeSpan Hang = TimeSpan.FromSeconds(60);
    private readonly RecordingLog _log = new();

    [Fact]
    public async Task Steps_run_in_turn_and_one_that_fails_keeps_no_other_from_its_turn_and_is_said_once()
    {
        int first = 0;
        int last = 0;
        using CancellationTokenSource ending = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        Upkeep upkeep = new(
            [
                new("first", () => Count(ref first)),
                new("fails", () => throw new IOException("no memory")),
                new("fails for the same reason", () => throw new IOException("no memory")),
                new("last", () => Count(ref last)),
            ],
            () => false, _log);
        Task running = upkeep.RunAsync(ending.Token);
        Assert.True(SpinWait.SpinUntil(() => Volatile.Read(ref last) >= 3, Hang));
        await ending.CancelAsync();
        await running.WaitAsync(Hang, CancellationToken.None);
        Assert.True(first >= 3);
        Assert.Equal(["no memory"], _log.Lines);
    }

    [Fact]
    public async Task Another_trouble_is_said_and_a_step_ends_it()
    {
        int turn = 0;
        Upkeep upkeep = new(
            [
                new("changes its mind", () => ++turn == 4 ? StepOutcome.End : throw new IOException(turn < 3 ? "one" : "two")),
                new("after it", () => StepOutcome.More),
            ],
            () => true, _log);
        await upkeep.RunAsync(TestContext.Current.CancellationToken).WaitAsync(Hang, TestContext.Current.CancellationToken);
        Assert.Equal(["one", "two"], _log.Lines);
        Assert.Equal(4, turn);
    }

    private static StepOutcome Count(ref int count)
    {
        Interlocked.Increment(ref count);
        return StepOutcome.Done;
    }
}

/// <summary>Keeps what is logged.</summary>
internal sealed class RecordingLog : ILogger
{
    private readonly List<string> _lines = [];

    public IReadOnlyList<string> Lines
    {
        get
        {
            lock (_lines)
                return [.. _lines];
        }
    }

    public IDisposable? BeginScope<TState>(TState state)
        where TState : notnull => null;

    public bool IsEnabled(LogLevel logLevel) => true;

    public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
    {
        lock (_lines)
            _lines.Add(formatter(state, exception));
    }
}
