using Famfs.Core;
using Famfs.Master.Changes;
using Famfs.Master.Engine;
using Famfs.Master.State;
using Famfs.V1;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace Famfs.Master.Holders;

/// <summary>
/// Has hosts fenced that are silent while space waits for them (SAFETY S14, docs/decisions/0075). What the operator's command states by
/// exit code 0 is evidence; nothing else that it does is. It is run once at a time for each host, and never for the host of this master.
/// <para>Before the mounts are recorded as gone their lines are read twice more. One that has moved since the command was begun is a
/// contradiction: a fenced host stores nothing. Then nothing is recorded.</para>
/// </summary>
/// <param name="engine">Records.</param>
/// <param name="state">Tells whom space waits for.</param>
/// <param name="mounts">Tells who is silent.</param>
/// <param name="ownHost">This master's host.</param>
/// <param name="after">How long a host is silent before the command is run.</param>
/// <param name="run">Runs the command.</param>
/// <param name="name">The command, for people.</param>
/// <param name="clock">The clock.</param>
/// <param name="log">Told of each run, and of what it came to.</param>
/// <param name="stopping">The master stops, or has lost its role.</param>
internal sealed class FenceWatch(IEngine engine, MasterState state, MountRegistry mounts, Guid ownHost, TimeSpan after, Func<SilentHost, CancellationToken, Task<FenceOutcome>> run, string name, TimeProvider clock, ILogger<FenceWatch> log, CancellationToken stopping) : BackgroundService
{
    /// <summary>Between two looks (chosen).</summary>
    internal static readonly TimeSpan Interval = TimeSpan.FromSeconds(1);

    /// <summary>How long lines are watched after the command has ended: they move every second.</summary>
    internal static readonly TimeSpan Watch = TimeSpan.FromSeconds(2);

    /// <summary>Before another run for a host: doubled with each that fails (chosen). So a host fills no log.</summary>
    internal static readonly TimeSpan FirstPause = TimeSpan.FromMinutes(1);
    internal static readonly TimeSpan LongestPause = TimeSpan.FromMinutes(30);

    /// <summary>Most runs at a time (chosen: who has lost many hosts at once has lost a switch, and waits).</summary>
    internal const int MaxRuns = 4;

    // Owner: the watch's own loop.
    private readonly Dictionary<Guid, Run> _runs = [];
    private readonly Dictionary<(Guid Host, Guid Boot), Failure> _failures = [];
    private string _problem = "";
    private bool _saidOwn;

    /// <inheritdoc/>
    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        if (!state.Format.HasHostTable)
            return;
        using CancellationTokenSource either = CancellationTokenSource.CreateLinkedTokenSource(stoppingToken, stopping);
        try
        {
            while (true)
            {
                await Task.Delay(Interval, clock, either.Token).ConfigureAwait(false);
                Look(either.Token);
            }
        }
        catch (OperationCanceledException) when (either.IsCancellationRequested)
        {
        }
        finally
        {
            await either.CancelAsync().ConfigureAwait(false);
            await Task.WhenAll(_runs.Values.Select(r => r.Proved)).ConfigureAwait(false);
        }
    }

    private void Look(CancellationToken cancel)
    {
        foreach ((Guid host, Run run) in _runs.Where(r => r.Value.Proved.IsCompleted).ToList())
        {
            _runs.Remove(host);
            if (run.Proved.Result)
                _failures.Remove(run.Key);
            else
                _failures[run.Key] = new(clock.GetTimestamp(), run.Pause);
        }
        List<SilentHost> silent = FindSilent();
        foreach ((Guid, Guid) key in _failures.Keys.Where(key => !IsPaused(key) && !silent.Any(s => (s.Host, s.Boot) == key)).ToList())
            _failures.Remove(key);
        foreach (SilentHost host in silent)
        {
            (Guid, Guid) key = (host.Host, host.Boot);
            if (host.Host == ownHost)
            {
                if (!_saidOwn)
                    MasterLog.FenceIsNotForOwn(log, host.ToString());
                _saidOwn = true;
            }
            else if (_runs.Count < MaxRuns && !_runs.ContainsKey(host.Host) && !IsPaused(key))
            {
                TimeSpan pause = !_failures.TryGetValue(key, out Failure? before) ? FirstPause : before.Pause * 2 < LongestPause ? before.Pause * 2 : LongestPause;
                _runs.Add(host.Host, new(key, pause, FenceAsync(host, pause, cancel)));
            }
        }
    }

    private List<SilentHost> FindSilent()
    {
        IReadOnlySet<Guid> waited = state.ReclaimHolders;
        if (waited.Count == 0)
            return [];
        try
        {
            // This process may be stopped for long, at any point: silence counts up to before the lines are read.
            long now = clock.GetTimestamp();
            mounts.Scan();
            _problem = "";
            return [.. mounts.FindSilentHosts(waited, after, now)];
        }
        catch (Exception error)
        {
            if (error.Message != _problem)
                MasterLog.WatchFails(log, _problem = error.Message);
            return [];
        }
    }

    private bool IsPaused((Guid, Guid) key) => _failures.TryGetValue(key, out Failure? failed) && clock.GetElapsedTime(failed.Timestamp) < failed.Pause;

    // True: it is proved, and recorded. Throws nothing.
    private async Task<bool> FenceAsync(SilentHost host, TimeSpan pause, CancellationToken cancel)
    {
        try
        {
            MasterLog.FenceBegins(log, host.ToString(), host.Silent.TotalSeconds, host.Mounts.Count, name);
            FenceOutcome outcome = await run(host, cancel).ConfigureAwait(false);
            foreach (string line in outcome.Output)
                MasterLog.FenceTells(log, host.ToString(), line);
            if (outcome.Failure is { } failure)
            {
                MasterLog.FenceFails(log, host.ToString(), failure, pause.TotalSeconds);
                return false;
            }
            // A line that was stored before the end may be seen only now; one that is stored later moves within the watch.
            Guid moved = LookAgain(host);
            if (moved == Guid.Empty)
            {
                await Task.Delay(Watch, clock, cancel).ConfigureAwait(false);
                moved = LookAgain(host);
            }
            if (moved != Guid.Empty)
            {
                MasterLog.FencedCameBack(log, host.ToString(), moved, pause.TotalSeconds);
                return false;
            }
            string detail = $"fence command, code 0 after {outcome.Took.TotalSeconds:0.0} s: {name}";
            foreach (SilentMount mount in host.Mounts)
            {
                if (await engine.RunAsync(new MountGone(new(host.Host, mount.Mount, GoneEvidence.Fenced, detail)), Caller.Master).ConfigureAwait(false))
                    MasterLog.MountGone(log, mount.Mount, host.Host, detail);
            }
            return true;
        }
        catch (Exception error) when (error is OperationCanceledException or FamfsException { Reason: ErrorReason.NotMaster })
        {
            return false; // the master ends, and the engine tells why
        }
        catch (Exception error)
        {
            // A full log: the command is run again, as evidence of then.
            MasterLog.FenceFails(log, host.ToString(), $"ended with 0, and that cannot be recorded: {error.Message}", pause.TotalSeconds);
            return false;
        }
    }

    private Guid LookAgain(SilentHost host)
    {
        mounts.Scan();
        return mounts.FindMoved(host);
    }

    private sealed record Run((Guid Host, Guid Boot) Key, TimeSpan Pause, Task<bool> Proved);

    private sealed record Failure(long Timestamp, TimeSpan Pause);
}
