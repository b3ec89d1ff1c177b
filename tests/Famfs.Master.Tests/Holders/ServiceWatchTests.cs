using System.Collections.Concurrent;
using Famfs.CommandLine;
using Famfs.Master.Holders;
using Xunit;

namespace Famfs.Master.Tests.Holders;

public sealed class ServiceWatchTests
{
    // Far above what it takes.
    private static readonly TimeSpan s_patience = TimeSpan.FromMinutes(1);

    [Fact]
    public async Task An_engine_that_does_not_answer_is_told_of_until_it_does_and_is_asked_no_second_time()
    {
        CancellationToken cancel = TestContext.Current.CancellationToken;
        BlockingCollection<bool> told = [];
        TaskCompletionSource hangs = new(TaskCreationOptions.RunContinuationsAsynchronously);
        int asked = 0;
        Task Ask() => Interlocked.Increment(ref asked) == 2 ? hangs.Task : Task.CompletedTask;
        QuickClock clock = new();
        using ServiceWatch watch = new(new ServiceNotifier(_ => null, 1), Ask, told.Add, clock);
        await watch.StartAsync(cancel);
        Assert.True(Take(told));
        Assert.False(Take(told));
        // The times at which it would have asked again.
        int before = clock.Fired;
        Assert.True(SpinWait.SpinUntil(() => clock.Fired > before + 10, s_patience));
        Assert.Equal((2, 0), (Volatile.Read(ref asked), told.Count));
        hangs.SetResult();
        Assert.True(Take(told));
        Assert.True(Take(told));
        await watch.StopAsync(cancel);
    }

    [Fact]
    public async Task A_question_that_fails_ends_nothing()
    {
        CancellationToken cancel = TestContext.Current.CancellationToken;
        BlockingCollection<bool> told = [];
        int asked = 0;
        Task Ask() => Interlocked.Increment(ref asked) == 1 ? Task.FromException(new InvalidOperationException("too much to do")) : Task.CompletedTask;
        using ServiceWatch watch = new(new ServiceNotifier(_ => null, 1), Ask, told.Add, new QuickClock());
        await watch.StartAsync(cancel);
        Assert.True(Take(told));
        await watch.StopAsync(cancel);
    }

    private static bool Take(BlockingCollection<bool> told)
    {
        Assert.True(told.TryTake(out bool answers, s_patience), "nothing was told");
        return answers;
    }

    /// <summary>Time goes by a thousand times as fast.</summary>
    private sealed class QuickClock : TimeProvider
    {
        private int _fired;

        public int Fired => Volatile.Read(ref _fired);

        public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period) => System.CreateTimer(
            own =>
            {
                Interlocked.Increment(ref _fired);
                callback(own);
            }, state, Quick(dueTime), Quick(period));

        private static TimeSpan Quick(TimeSpan time) => time > TimeSpan.Zero ? TimeSpan.FromMilliseconds(Math.Max(1, time.TotalMilliseconds / 1000)) : time;
    }
}
