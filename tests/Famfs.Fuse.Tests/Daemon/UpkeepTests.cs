using Famfs.Fuse.Daemon;
using Microsoft.Extensions.Logging;
using Xunit;

namespace Famfs.Fuse.Tests.Daemon;

public sealed class UpkeepTests
{
    private static readonly TimeSpan Hang = TimeSpan.FromSeconds(60);
    private readonly RecordingLog _log = new();
    private readonly AutoResetEvent _urgent = new(false);

    [Fact]
    public async Task What_is_urgent_runs_alone_and_between_the_turns()
    {
        int line = 0;
        int others = 0;
        using CancellationTokenSource ending = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        Task running = new Upkeep([new("other", () => Count(ref others)), new("line", () => Count(ref line))], () => true, _log, _urgent, 1).RunAsync(ending.Token);
        long begun = System.Diagnostics.Stopwatch.GetTimestamp();
        while (Volatile.Read(ref line) < 2000)
        {
            Assert.True(System.Diagnostics.Stopwatch.GetElapsedTime(begun) < Hang);
            _urgent.Set();
            await Task.Yield();
        }
        await ending.CancelAsync();
        await running.WaitAsync(Hang, CancellationToken.None);
        // A turn every 20 ms, however often the line is written; with each line there would be as many.
        Assert.True(others < line / 2, $"{others} turns for {line} lines");
    }

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
            () => false, _log, _urgent, 0);
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
            () => true, _log, _urgent, 0);
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
