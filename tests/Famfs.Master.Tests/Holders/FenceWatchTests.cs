using System.Collections.Concurrent;
using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log.Native;
using Famfs.Core.Namespace;
using Famfs.Master.Holders;
using Famfs.Master.Role;
using Famfs.TestSupport;
using Famfs.TestSupport.Dax;
using Famfs.V1;
using Microsoft.Extensions.Logging;
using Xunit;

namespace Famfs.Master.Tests.Holders;

/// <summary>A command's success is evidence for mounts that stand still, and nothing else is.</summary>
public sealed class FenceWatchTests : IAsyncLifetime
{
    private static readonly TimeSpan s_after = TimeSpan.FromSeconds(60);

    private readonly FakeSharedMemory _memory = new(64L << 20, seed: 1, coherent: true) { AccidentOneIn = 0 };
    private readonly HostIdentity _own = new(Guid.NewGuid(), Guid.NewGuid(), new byte[32], "test");
    private readonly Clock _clock = new();
    private readonly Lines _log = new();
    private readonly ConcurrentQueue<SilentHost> _ran = new();
    private readonly Guid _host = Guid.NewGuid();
    private readonly Guid _boot = Guid.NewGuid();
    private readonly CancellationTokenSource _stopping = new();
    private Func<SilentHost, CancellationToken, Task<FenceOutcome>> _run = (_, _) => Task.FromResult(Proved);
    private RunningMaster _master = null!;
    private MountRegistry _mounts = null!;
    private FenceWatch _watch = null!;

    public async ValueTask InitializeAsync()
    {
        using (DaxDevice device = _memory.Attach("master"))
            NativeFormatter.Format([device], new() { Host = _own.Host, Clock = TimeProvider.System });
        _master = new(await Recovery.RunAsync(TestFormats.All.Open([_memory.Attach("master")]), _own, takeOver: false, "", TimeProvider.System, new Random(1), Cancel));
        _mounts = new(_master.State, new(_master.State.Pool), _clock);
        await RegisterAsync(_own.Host, 0, "alpha");
        await RegisterAsync(_host, 1, "beta");
        _watch = new(_master.Engine, _master.State, _mounts, _own.Host, s_after, (host, cancel) =>
        {
            _ran.Enqueue(host);
            return _run(host, cancel);
        }, "/fence", _clock, _log, _stopping.Token);
    }

    public async ValueTask DisposeAsync()
    {
        await _watch.StopAsync(CancellationToken.None);
        _watch.Dispose();
        await _master.DisposeAsync();
        _stopping.Dispose();
    }

    [Fact]
    public async Task A_silent_host_is_fenced_once_and_all_its_mounts_of_that_boot_are_gone()
    {
        MountLine[] lines = [Write(0, 1), Write(1, 1)];
        MountLine ended = Write(2, 1, l => l with { State = MountState.Ended });
        await StartAsync(lines[1].Mount);
        await ShowNothingHappensAsync();
        _clock.Ahead += s_after;
        await AwaitAsync(() => lines.All(IsGone));
        await ShowNothingHappensAsync();
        SilentHost ran = Assert.Single(_ran);
        Assert.Equal((_host, _boot, "beta"), (ran.Host, ran.Boot, ran.Name));
        Assert.Equal(lines.Select(l => l.Mount).Order(), ran.Mounts.Select(m => m.Mount));
        Assert.False(IsGone(ended));
        Assert.Equal(GoneEvidence.Fenced, _master.State.FindGone(_host, lines[0].Mount, default)?.Evidence);
        Assert.Contains(_log, l => l.Contains($"mount {lines[0].Mount} of host {_host} is gone: fence command, code 0 after 1.5 s: /fence", StringComparison.Ordinal));
        Assert.Contains(_log, l => l.Contains("fence command for host beta", StringComparison.Ordinal) && l.Contains("it is off", StringComparison.Ordinal));
    }

    [Fact]
    public async Task What_fails_records_nothing_and_is_tried_again_after_growing_pauses()
    {
        MountLine line = Write(0, 1);
        _run = (_, _) => Task.FromResult(Proved with { Failure = "ended with code 1" });
        await StartAsync(line.Mount);
        foreach ((int runs, int pause) in new[] { (1, 60), (2, 60), (3, 120) })
        {
            _clock.Ahead += TimeSpan.FromSeconds(pause - 5);
            await ShowNothingHappensAsync(runs - 1);
            _clock.Ahead += TimeSpan.FromSeconds(10);
            await AwaitAsync(() => _ran.Count == runs);
            await ShowNothingHappensAsync(runs);
        }
        Assert.False(IsGone(line));
        Assert.Equal(3, _log.Count(l => l.Contains("is not fenced: the fence command ended with code 1", StringComparison.Ordinal)));
        Assert.Contains(_log, l => l.Contains("run again in 240 s", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("in the run")]
    [InlineData("after the run")]
    [InlineData("another mount of that boot")]
    [InlineData("a stream")]
    [InlineData("a line that cannot be read")]
    public async Task A_host_that_moves_although_it_is_fenced_is_not_gone(string what)
    {
        MountLine line = Write(0, 1);
        bool moved = false;
        void Move()
        {
            if (moved)
                return;
            moved = true;
            if (what == "a stream")
                _mounts.Subscribed(line.Mount, _host, _boot, "stock", "1");
            else if (what.StartsWith("another", StringComparison.Ordinal))
                Write(1, 1);
            else if (what.StartsWith("a line", StringComparison.Ordinal))
                Damage(0);
            else
                Write(0, 2, _ => line with { Counter = line.Counter + 1 });
        }
        if (what == "after the run")
            _clock.BeforeTimer = due => { if (due == FenceWatch.Watch) Move(); };
        else
            _run = (_, _) => { Move(); return Task.FromResult(Proved); };
        await StartAsync(line.Mount);
        _clock.Ahead += s_after;
        await AwaitAsync(() => _log.Any(l => l.Contains("came back", StringComparison.Ordinal)) || IsGone(line));
        Assert.False(IsGone(line));
        await ShowNothingHappensAsync(1);
        // It stands still for long again: then the command proves it.
        if (what == "a stream")
            _mounts.Unsubscribed(line.Mount);
        if (what.StartsWith("a line", StringComparison.Ordinal))
            Write(0, 1, _ => line);
        await ShowNothingHappensAsync(1);
        _clock.Ahead += TimeSpan.FromSeconds(130);
        await AwaitAsync(() => IsGone(line));
        Assert.Equal(2, _ran.Count);
    }

    [Theory]
    [InlineData("another mount moves")]
    [InlineData("a mount of a later boot moves")]
    [InlineData("a stream is open")]
    [InlineData("a line cannot be read")]
    [InlineData("nothing waits")]
    [InlineData("another mount is waited for")]
    [InlineData("its own host")]
    public async Task A_host_that_lives_or_that_nothing_waits_for_is_left_alone(string what)
    {
        Guid boot = what == "a mount of a later boot moves" ? Guid.NewGuid() : _boot;
        MountLine line = what == "its own host" ? Write(0, 1, l => l with { Host = _own.Host }, slot: 0) : Write(0, 1);
        await StartAsync(what switch { "nothing waits" => [], "another mount is waited for" => [Guid.NewGuid()], _ => [line.Mount] });
        bool lives = what.EndsWith("moves", StringComparison.Ordinal);
        MountLine other = lives ? Write(1, 1, l => l with { Boot = boot }) : line;
        if (what == "a stream is open")
            _mounts.Subscribed(line.Mount, _host, _boot, "stock", "1");
        if (what == "a line cannot be read")
            Damage(1);
        await ShowNothingHappensAsync();
        for (int i = 0; i < 4; i++)
        {
            // Unseen: as if this process had been stopped meanwhile.
            if (lives)
                Write(1, 1, _ => other = other with { Counter = other.Counter + 1 });
            _clock.Ahead += 2 * s_after;
            await ShowNothingHappensAsync();
        }
        Assert.False(IsGone(line));
        Assert.Equal(what == "its own host" ? 1 : 0, _log.Count(l => l.Contains("this master runs there", StringComparison.Ordinal)));
    }

    [Fact]
    public async Task A_pause_of_the_master_in_the_middle_of_a_look_is_no_silence_of_a_host()
    {
        MountLine line = Write(0, 1);
        Write(MediaLayout.EntriesPerHost - 1, 1, l => l with { State = MountState.Ended });
        await StartAsync(line.Mount);
        await ShowNothingHappensAsync();
        long last = TableOffset + (2 * MediaLayout.EntriesPerHost * MediaLayout.HostEntryBytes) - DaxDevice.LineBytes;
        int pauses = 0;
        _memory.BeforeAccess = (_, operation, offset) =>
        {
            // The mount's line has been read in this look.
            if (operation != FakeOperation.Load || offset != last || pauses == 3)
                return;
            pauses++;
            _clock.Ahead += 2 * s_after;
            line = Write(0, 1, _ => line with { Counter = line.Counter + 1 });
        };
        await AwaitAsync(() => Volatile.Read(ref pauses) == 3);
        await ShowNothingHappensAsync(0);
        Assert.False(IsGone(line));
    }

    [Fact]
    public async Task One_runs_at_a_time_for_a_host_and_few_for_all_and_all_end_with_the_master()
    {
        List<MountLine> lines = [Write(0, 1), Write(1, 1, l => l with { Boot = Guid.NewGuid() })];
        for (int slot = 2; slot < 8; slot++)
        {
            Guid host = Guid.NewGuid();
            await RegisterAsync(host, slot, $"h{slot}");
            lines.Add(Write(0, 1, l => l with { Host = host }, slot));
        }
        int ended = 0;
        _run = async (_, cancel) =>
        {
            try
            {
                await Task.Delay(Timeout.Infinite, cancel);
            }
            finally
            {
                Interlocked.Increment(ref ended);
            }
            return Proved;
        };
        await StartAsync([.. lines.Select(l => l.Mount)]);
        await ShowNothingHappensAsync();
        _clock.Ahead += s_after;
        await AwaitAsync(() => _ran.Count == FenceWatch.MaxRuns);
        await ShowNothingHappensAsync(FenceWatch.MaxRuns);
        Assert.Equal(FenceWatch.MaxRuns, _ran.Select(r => r.Host).Distinct().Count());
        await _stopping.CancelAsync();
        await _watch.ExecuteTask!.WaitAsync(TimeSpan.FromMinutes(1), Cancel);
        Assert.Equal(FenceWatch.MaxRuns, ended);
        Assert.DoesNotContain(lines, IsGone);
    }

    private static FenceOutcome Proved => new(null, TimeSpan.FromSeconds(1.5), ["it is off"]);

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    private async Task StartAsync(params Guid[] waited)
    {
        _master.State.ReclaimHolders = waited.ToHashSet();
        _mounts.Scan();
        await _watch.StartAsync(Cancel);
    }

    private bool IsGone(MountLine line) => _master.State.FindGone(line.Host, line.Mount, line.ReplayedSequence) is not null;

    /// <summary>Lets many looks go by.</summary>
    private async Task ShowNothingHappensAsync(int runs = -1)
    {
        int before = runs < 0 ? _ran.Count : runs;
        int looks = _clock.Looks;
        await AwaitAsync(() => _clock.Looks > looks + 5);
        Assert.Equal(before, _ran.Count);
    }

    private static async Task AwaitAsync(Func<bool> condition)
    {
        long start = TimeProvider.System.GetTimestamp();
        while (!condition())
        {
            Assert.True(TimeProvider.System.GetElapsedTime(start) < TimeSpan.FromSeconds(60), "it does not happen");
            await Task.Delay(5, Cancel);
        }
    }

    private Task RegisterAsync(Guid host, int slot, string name) => _master.DecideAsync(context =>
    {
        context.Append(RecordType.HostRegistered, new HostRegistered { HostId = host.ToByteString(), HostSlot = (uint)slot, Name = name });
        return true;
    });

    private MountLine Write(int entry, ulong counter, Func<MountLine, MountLine>? change = null, int slot = 1)
    {
        MountLine line = new() { Counter = counter, State = MountState.Live, Host = _host, Boot = _boot, Mount = Guid.NewGuid() };
        line = change?.Invoke(line) ?? line;
        new MountLineTable(_master.State.Pool).Write((slot * MediaLayout.EntriesPerHost) + entry, line);
        return line;
    }

    private long TableOffset => ((NativeSuperblock)_master.State.Pool.Primary).HostTableOffset;

    private void Damage(int entry) => _master.State.Pool.PrimaryDevice.Write(
        TableOffset + ((MediaLayout.EntriesPerHost + entry) * MediaLayout.HostEntryBytes), [.. Enumerable.Repeat((byte)1, MediaLayout.HostEntryBytes)]);

    private sealed class Lines : ConcurrentQueue<string>, ILogger<FenceWatch>
    {
        public IDisposable? BeginScope<TState>(TState state) where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) => Enqueue(formatter(state, exception));
    }

    /// <summary>Pauses are a hundredth as long as they are to be; what time it is stands still, but for what the test tells.</summary>
    private sealed class Clock : TimeProvider
    {
        private int _looks;
        private long _ahead;

        public TimeSpan Ahead
        {
            get => new(Interlocked.Read(ref _ahead));
            set => Interlocked.Exchange(ref _ahead, value.Ticks);
        }

        public int Looks => Volatile.Read(ref _looks);

        public Action<TimeSpan>? BeforeTimer { get; set; }

        public override long TimestampFrequency => TimeSpan.TicksPerSecond;

        public override long GetTimestamp() => Ahead.Ticks;

        public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
        {
            if (dueTime == FenceWatch.Interval)
                Interlocked.Increment(ref _looks);
            BeforeTimer?.Invoke(dueTime);
            return System.CreateTimer(callback, state, dueTime > TimeSpan.Zero ? dueTime / 100 : dueTime, period);
        }
    }
}
