using Famfs.TestSupport.Dax;

namespace Famfs.Simulation;

/// <summary>A simulated process was killed; its host goes on.</summary>
internal sealed class ProcessKilledException() : Exception("killed");

/// <summary>What threads of the simulation die with: a process of an operating system, or that system.</summary>
internal sealed class SimulatedLife
{
    /// <summary>It was killed, or its host crashed. Its threads end at their next access.</summary>
    public bool IsOver { get; set; }

    /// <summary>Threads that are in it.</summary>
    public int Threads { get; set; }
}

/// <summary>One thread of the simulation. It runs only while it holds the baton.</summary>
internal sealed class SimulatedProcess(string name, string host) : IDisposable
{
    public string Name { get; } = name;

    public string Host { get; } = host;

    /// <summary>Set when it is this process' turn.</summary>
    public AutoResetEvent Turn { get; } = new(false);

    /// <summary>Not scheduled before this step: a pause (SIGSTOP, a hypervisor, a page fault that takes a minute).</summary>
    public long PausedUntil { get; set; }

    /// <summary>Has nothing to do before this step.</summary>
    public long SleepsUntil { get; set; }

    /// <summary>It has something to do earlier when this holds.</summary>
    public Func<bool>? WakesWhen { get; set; }

    /// <summary>Dies at its next access.</summary>
    public bool Killed { get; set; }

    /// <summary>What it dies with; null: it is a process of its own.</summary>
    public SimulatedLife? Life { get; set; }

    /// <summary>A kill takes its whole life, not only itself.</summary>
    public bool DiesWhole { get; set; }

    /// <summary>What it does is not interrupted, because it holds a lock that others would really wait for.</summary>
    public bool IsUninterrupted { get; set; }

    /// <summary>Dies at this step; 0: not for sure.</summary>
    public long DiesAt { get; set; }

    /// <summary>Its host loses power then.</summary>
    public bool DiesWithHost { get; set; }

    public bool Done { get; set; }

    public void Dispose() => Turn.Dispose();
}

/// <summary>How often which accident happens; drawn from the seed.</summary>
internal sealed record ChaosOptions
{
    /// <summary>One in this many loads is a switch point; other accesses always are.</summary>
    public required int LoadSwitchOneIn { get; init; }

    /// <summary>At a switch point the baton is passed on one time in this many.</summary>
    public required int SwitchOneIn { get; init; }

    /// <summary>One in this many switch points pauses its process for long.</summary>
    public required int PauseOneIn { get; init; }

    /// <summary>One in this many accesses that decide something (<see cref="CooperativeScheduler"/>) pauses its
    /// process for long.</summary>
    public required int DecisivePauseOneIn { get; init; }

    /// <summary>Steps of the longest pause.</summary>
    public required int LongestPause { get; init; }

    /// <summary>One in this many switch points kills its process.</summary>
    public required int KillOneIn { get; init; }

    /// <summary>One in this many switch points crashes its host.</summary>
    public required int CrashOneIn { get; init; }

    /// <summary>Steps before the processes of a crashed host run again, at most.</summary>
    public required int LongestBoot { get; init; }
}

/// <summary>
/// Runs real code on real threads, one at a time: whoever holds the baton runs until a switch point, where
/// the seed decides who goes on. So a run is a function of its seed. Switch points are the accesses of
/// <see cref="FakeSharedMemory"/> and <see cref="Yield()"/>. Accesses to quiet offsets are none; the decisive
/// ones, where the protocol's windows begin and end, are paused at more often.
/// </summary>
internal sealed class CooperativeScheduler(int seed, FakeSharedMemory memory, ChaosOptions chaos, Func<string, long, bool> isQuiet, Func<long, bool> isDecisive) : IDisposable
{
    private static readonly TimeSpan s_stuck = TimeSpan.FromMinutes(15);

    [ThreadStatic]
    private static bool t_isOfSimulation;

    // Touched by the holder of the baton only.
    private readonly Random _random = new(seed);
    private readonly List<SimulatedProcess> _processes = [];
    private readonly List<SimulatedProcess> _awake = []; // of Pick
    private readonly List<Thread> _threads = [];
    private readonly SemaphoreSlim _allDone = new(0);
    private SimulatedProcess? _current;
    private OneProcessor? _processor; // set before the threads are started
    private long _lastStep;

    /// <summary>Switch points so far; with <see cref="SkipsIdleTime"/> also the time that was skipped.</summary>
    public long Step { get; private set; }

    /// <summary>Switch points so far.</summary>
    public long Work { get; private set; }

    /// <summary>Whether an access takes a step and is no switch point.</summary>
    public Func<long, bool>? IsBrief { get; init; }

    /// <summary>Where nobody has anything to do, the next step is the one at which somebody has. Else who would be first comes at
    /// once.</summary>
    public bool SkipsIdleTime { get; init; }

    /// <summary>Called before every access, with its operation and offset.</summary>
    public Action<string, long>? BeforeAccess { get; set; }

    /// <summary>Called at the moment of every access, after others had their turns.</summary>
    public Action<string, long>? AtAccess { get; set; }

    /// <summary>Called when a host has crashed.</summary>
    public Action<string>? HostCrashed { get; set; }

    /// <summary>No more accidents; everybody lives on.</summary>
    public bool IsCalm { get; set; }

    /// <summary>No accidents for now. Who was paused before stays so.</summary>
    public bool IsLull { get; set; }

    /// <summary>This thread is one of a simulation, and not, say, the collector's.</summary>
    public static bool IsOfSimulation => t_isOfSimulation;

    /// <summary>Who runs.</summary>
    public SimulatedProcess Current => _current!;

    /// <summary>Times the baton went to another process.</summary>
    public long Switches { get; private set; }

    public int Pauses { get; private set; }

    public int Kills { get; private set; }

    public int Crashes { get; private set; }

    /// <summary>No more accidents; processes come to an end.</summary>
    public bool Quiescing { get; private set; }

    /// <summary>First violation or unexpected error.</summary>
    public Exception? Failure { get; private set; }

    /// <summary>Adds a process. <paramref name="body"/> is one life: it is called again after a kill or crash
    /// until the simulation quiesces.</summary>
    public void Spawn(string name, string host, Action<SimulatedProcess> body)
    {
        SimulatedProcess process = new(name, host);
        _processes.Add(process);
        _threads.Add(new(() => Live(process, body)) { IsBackground = true, Name = name });
    }

    /// <summary>Runs all processes until <paramref name="steps"/> have passed and all have ended.</summary>
    public void Run(long steps)
    {
        _lastStep = steps;
        using OneProcessor processor = OneProcessor.Take();
        _processor = processor;
        memory.BeforeAccess = (_, operation, offset) => OnAccess(operation, offset);
        foreach (Thread thread in _threads)
            thread.Start();
        _current = _processes[_random.Next(_processes.Count)];
        _current.Turn.Set();
        if (!_allDone.Wait(s_stuck))
            Failure ??= new TimeoutException($"the simulation is stuck at step {Step} in {_current?.Name}");
        else
            _threads.ForEach(t => t.Join());
        memory.BeforeAccess = null;
    }

    /// <summary>The process has nothing to do.</summary>
    public void Yield() => SwitchPoint(always: true);

    /// <summary>The process has nothing to do for some steps, whoever takes these.</summary>
    public void Sleep(int steps)
    {
        _current!.SleepsUntil = Step + steps;
        Yield();
    }

    /// <summary>The process has nothing to do until <paramref name="condition"/> holds, or for some steps. The condition depends on nothing
    /// but what processes of the simulation do.</summary>
    public void WaitFor(Func<bool> condition, int most)
    {
        SimulatedProcess self = _current!;
        self.WakesWhen = condition;
        try
        {
            Sleep(most);
        }
        finally
        {
            self.WakesWhen = null;
        }
    }

    /// <summary>The process does something that another may come before.</summary>
    public void Pass() => SwitchPoint(always: false);

    /// <summary>All processes come to an end.</summary>
    public void Finish() => Quiescing = true;

    /// <summary>A host loses power now: its caches, and all processes of it that have a life.</summary>
    public void Crash(string host)
    {
        memory.Crash(host);
        Crashes++;
        long boots = Step + _random.Next(chaos.LongestBoot) + 1;
        foreach (SimulatedProcess process in _processes.Where(p => p.Host == host))
        {
            process.PausedUntil = Math.Max(process.PausedUntil, boots);
            if (process.Life is { } life)
                life.IsOver = true;
        }
        HostCrashed?.Invoke(host);
    }

    /// <summary>The process has nothing to do for some turns.</summary>
    public void Yield(int turns)
    {
        for (; turns > 0 && !Quiescing; turns--)
            Yield();
    }

    /// <summary>The process is killed, or its host crashes, within so many steps: a death in the middle of something is then likely.</summary>
    public void Doom(SimulatedProcess process, bool host, int steps)
    {
        process.DiesAt = Step + _random.Next(steps) + 1;
        process.DiesWithHost = host;
    }

    public void Dispose()
    {
        _allDone.Dispose();
        _processes.ForEach(p => p.Dispose());
    }

    private void Live(SimulatedProcess process, Action<SimulatedProcess> body)
    {
        t_isOfSimulation = true;
        _processor!.TakeThread();
        process.Turn.WaitOne();
        while (!Quiescing)
        {
            try
            {
                body(process);
            }
            catch (Exception error) when (error is ProcessKilledException or FakeHostCrashedException or ObjectDisposedException)
            {
                // The next life begins as soon as the schedule allows.
            }
            catch (Exception error)
            {
                Failure ??= new InvalidOperationException($"{process.Name} at step {Step}: {error.Message}", error);
                Quiescing = true;
            }
        }
        process.Done = true;
        if (Pick() is { } next)
            HandTo(next);
        else
            _allDone.Release();
    }

    private void OnAccess(string operation, long offset)
    {
        BeforeAccess?.Invoke(operation, offset);
        Switch(operation, offset);
        AtAccess?.Invoke(operation, offset);
    }

    private void Switch(string operation, long offset)
    {
        if (_current!.IsUninterrupted)
            return;
        if (isQuiet(operation, offset) && operation is not (FakeOperation.Fence or FakeOperation.Lock))
            return;
        if (IsBrief?.Invoke(offset) == true)
        {
            Step++; // who waits for the clock by looking at memory comes to the end of that
            return;
        }
        if (operation is not FakeOperation.Fence && isDecisive(offset) && !Quiescing && !IsCalm && !IsLull && OneIn(chaos.DecisivePauseOneIn))
            Pause(_current!);
        else if (operation == FakeOperation.Load && _current!.PausedUntil <= Step && _random.Next(chaos.LoadSwitchOneIn) != 0)
            return;
        SwitchPoint(always: false);
    }

    private void SwitchPoint(bool always)
    {
        SimulatedProcess self = _current!;
        Step++;
        Work++;
        Quiescing |= Step >= _lastStep;
        if (!Quiescing && !IsCalm && !IsLull)
            Disturb(self);
        if ((always || _random.Next(chaos.SwitchOneIn) == 0 || self.PausedUntil > Step) && Pick() is { } next && next != self)
        {
            Switches++;
            HandTo(next);
            self.Turn.WaitOne();
        }
        if (Failure is not null)
            throw new ProcessKilledException();
        if (self.Life is { IsOver: true })
            throw new ProcessKilledException();
        if (self.Killed)
        {
            self.Killed = false;
            throw new ProcessKilledException();
        }
    }

    private void Disturb(SimulatedProcess self)
    {
        if (OneIn(chaos.PauseOneIn))
            Pause(self);
        bool doomed = self.DiesAt > 0 && self.DiesAt <= Step;
        if (doomed)
            self.DiesAt = 0;
        if (OneIn(chaos.KillOneIn) || (doomed && !self.DiesWithHost))
        {
            if (self is { DiesWhole: true, Life: { } life })
                life.IsOver = true;
            else
                self.Killed = true;
            Kills++;
        }
        if (OneIn(chaos.CrashOneIn) || (doomed && self.DiesWithHost))
            Crash(self.Host);
    }

    private void Pause(SimulatedProcess process)
    {
        // Short ones hit other windows than long ones, which let whole takeovers pass by.
        process.PausedUntil = Step + 1 + (long)(chaos.LongestPause * Math.Pow(_random.NextDouble(), 2));
        Pauses++;
    }

    private bool OneIn(int odds) => odds > 0 && _random.Next(odds) == 0;

    private SimulatedProcess? Pick()
    {
        _awake.Clear();
        SimulatedProcess? soonest = null;
        foreach (SimulatedProcess process in _processes)
        {
            if (process.Done)
                continue;
            if (Quiescing || process.Life is { IsOver: true } || ((IsCalm || process.PausedUntil <= Step) && (process.SleepsUntil <= Step || process.WakesWhen?.Invoke() == true)))
                _awake.Add(process);
            else if (soonest is null || WakesAt(process) < WakesAt(soonest))
                soonest = process;
        }
        if (_awake.Count > 0)
            return _awake[_random.Next(_awake.Count)];
        if (SkipsIdleTime && soonest is not null)
            Step = WakesAt(soonest);
        return soonest;
    }

    private long WakesAt(SimulatedProcess process) => IsCalm ? process.SleepsUntil : Math.Max(process.SleepsUntil, process.PausedUntil);

    private void HandTo(SimulatedProcess next)
    {
        _current = next;
        next.Turn.Set();
    }
}
