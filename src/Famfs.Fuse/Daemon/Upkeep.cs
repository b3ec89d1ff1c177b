using System.Diagnostics;
using Microsoft.Extensions.Logging;

namespace Famfs.Fuse.Daemon;

/// <summary>What came of one step.</summary>
internal enum StepOutcome
{
    /// <summary>Nothing more to do this turn.</summary>
    Done = 0,

    /// <summary>There may be more: the next turn comes at once.</summary>
    More,

    /// <summary>Upkeep is over.</summary>
    End,
}

/// <summary>One thing that has to be done again and again.</summary>
/// <param name="Name">What it does.</param>
/// <param name="Run">Does it. An exception is said, and the next turn tries again.</param>
internal sealed record UpkeepStep(string Name, Func<StepOutcome> Run);

/// <summary>
/// Runs steps in turn, on one thread, until cancelled or a step ends it. One that fails keeps no other from its turn: what
/// is served stays served, and the mount's line goes on moving. The same trouble is said once.
/// </summary>
/// <param name="steps">In this order.</param>
/// <param name="isPushed">True while others bring what the steps look for: then a turn now and then is enough.</param>
/// <param name="log">For trouble.</param>
/// <param name="urgent">Set when the step of that name is due at once.</param>
/// <param name="urgentStep">Number of that step.</param>
internal sealed class Upkeep(IReadOnlyList<UpkeepStep> steps, Func<bool> isPushed, ILogger log, WaitHandle urgent, int urgentStep)
{
    private static readonly TimeSpan MinPause = TimeSpan.FromMilliseconds(1);
    private static readonly TimeSpan MaxPause = TimeSpan.FromMilliseconds(100);
    private static readonly TimeSpan PauseWhilePushed = TimeSpan.FromMilliseconds(20);

    private readonly string?[] _said = new string?[steps.Count];

    /// <summary>Takes a thread of its own; the task ends with it, and never fails.</summary>
    public Task RunAsync(CancellationToken cancel) =>
        Task.Factory.StartNew(() => Run(cancel), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);

    private void Run(CancellationToken cancel)
    {
        TimeSpan pause = MinPause;
        while (!cancel.IsCancellationRequested)
        {
            StepOutcome outcome = Turn(out bool failed);
            if (outcome == StepOutcome.End)
                return;
            bool pushed = isPushed();
            pause = failed ? MaxPause : outcome == StepOutcome.More || pushed ? MinPause : TimeSpan.FromTicks(Math.Min(pause.Ticks * 2, MaxPause.Ticks));
            if (outcome == StepOutcome.Done || failed)
                Pause(pushed ? PauseWhilePushed : pause, cancel);
        }
    }

    private void Pause(TimeSpan pause, CancellationToken cancel)
    {
        long since = Stopwatch.GetTimestamp();
        TimeSpan left = pause;
        while (left > TimeSpan.Zero && WaitHandle.WaitAny([cancel.WaitHandle, urgent], left) == 1)
        {
            Try(urgentStep, out _);
            left = pause - Stopwatch.GetElapsedTime(since);
        }
    }

    private StepOutcome Turn(out bool failed)
    {
        StepOutcome outcome = StepOutcome.Done;
        failed = false;
        for (int i = 0; i < steps.Count; i++)
        {
            StepOutcome one = Try(i, out bool thrown);
            failed |= thrown;
            if (one == StepOutcome.End)
                return one;
            if (one == StepOutcome.More)
                outcome = one;
        }
        return outcome;
    }

    private StepOutcome Try(int step, out bool failed)
    {
        failed = false;
        try
        {
            return steps[step].Run();
        }
        catch (Exception error)
        {
            failed = true;
            if (!_said.Contains(error.Message))
                DaemonLog.Problem(log, error.Message);
            _said[step] = error.Message;
            return StepOutcome.Done;
        }
    }
}
