using System.Globalization;
using System.Runtime.InteropServices;
using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.Core.Namespace;
using Famfs.Master.Changes;
using Famfs.Master.Holders;
using Famfs.Master.Role;
using Famfs.TestSupport;
using Famfs.TestSupport.Dax;
using Famfs.V1;
using Google.Protobuf;

namespace Famfs.Simulation.Holders;

/// <summary>What the runs went through.</summary>
internal sealed class HolderCounts
{
    public long Steps;
    public long Kills;
    public long Crashes;
    public long Pauses;
    public long Terms;
    public long Opens;
    public long Touches;
    public long Reuses;
    public long Lulls;
    public int Uses;
    public long Changes;
    public long Acknowledged;
    public long Evictions;
    public long Impostors;
    public long Damages;
    public long StreamReleases;
    public long Leases;
    public long Expired;
    public long Forgets;
    public long ForeignLines;
    public int Meetings;
    public int Met;
    public int Aborts;

    /// <summary>What programs, clients and operators did.</summary>
    public long Operations => Opens + Touches + Changes + Evictions + Impostors;

    public override string ToString() => $"steps {Steps}, kills {Kills}, crashes {Crashes}, pauses {Pauses}, terms {Terms}, opens {Opens}, touches {Touches}, changes {Changes}, acknowledged {Acknowledged}, evictions {Evictions}, space used again {Reuses}, mounts with a lease {Leases}, expired {Expired}";
}

/// <summary>
/// Promise P2 with the real code: hosts mount, look up, open, load and store, unmount; daemons and masters pause at any access for
/// any time, are killed and start again; hosts lose power; masters take over from each other; files are made, replaced, removed,
/// and their space is zeroed and given to others; messages are lost and repeated.
/// <para>Checked all the time: nobody reaches a byte that is another file's, is zeroed or is free; what is loaded from a file was
/// stored to that file; the history is one, and so are namespaces at equal positions; space is somebody's or free, once. In the end
/// everything that is not in use comes back.</para>
/// </summary>
internal sealed class HolderSimulation : IDisposable
{
    // A pool that files fill; and one in which a mount can hold more than its line names.
    private const int FewUnits = 40;
    private const int ManyUnits = 96;
    private const int MostHistory = 4000;
    private const int LongestLull = 40_000;
    private const int LongestTakeOver = 200_000;
    private const int MostRemoved = 5; // files that wait for their holders, when another one is removed; a directory may have more
    private const long CalmStepsWithoutLease = 240_000;
    private const long CalmStepsOfLease = 480_000; // time is slower there, and what stands still is gone after a time
    private const long MostCalms = 8; // of these many steps, whoever serves
    private const long CalmTicks = 10;
    private const long CalmTicksOfLease = 1; // else a lease would be fewer steps than one look at the host table takes
    public const int MostHosts = 8;

    // The first host that has no master.
    private const int FirstGuest = 2;

    private static readonly string[] s_paths = ["a", "b", "c", "d/a", "d/b", "d", "e/a", "e", .. Enumerable.Range(0, 8).Select(i => $"f{i}")];
    private static readonly string[] s_manyPaths = [.. s_paths, .. Enumerable.Range(8, 24).Select(i => $"f{i}")];
    private static readonly Guid s_fileSystem = new("5eed5eed-2222-4222-8222-222222222222");

    private readonly int _seed;
    private readonly Random _random;
    private readonly SimulatedHost[] _hosts;
    private readonly List<SimulatedMaster> _masters = [];
    private readonly List<SimulatedMaster> _everyMaster = [];
    private readonly List<(SimulatedLife Life, IDisposable What)> _buried = [];
    private readonly Queue<string> _history = [];
    private readonly long _steps; // of anything that happens, from the first master on
    private long _lastStep = long.MaxValue; // of them
    private readonly int _lossOneIn;
    private readonly int _masterPatience;
    private readonly int _logSwitchOneIn;
    private readonly bool _isCrowded;
    private readonly int _earlierTerms;
    private readonly bool _isForgetful; // two hosts share a block: an operator forgets one, and the other has it
    private long _damageAt;
    private long _ids;
    private int _claiming;
    private int _turn; // of the two masters: who serves when all is calm
    private long _calmSince = -1;
    private (long Ticks, long Step, long Rate) _time = (0, 0, 1); // what the clock was at a step, and goes by in each since
    private long _calmServed; // steps of the calm in which a master served

    public HolderSimulation(int seed)
    {
        _seed = seed;
        _random = new(seed);
        // Drawn apart, so that the others of a seed stay what they are.
        Random lease = new(seed * 31 + 5);
        if (lease.Next(3) == 0)
            (LeaseMs, GraceMs) = (lease.Next(2) == 0 ? 1000u : 3000u, lease.Next(2) == 0 ? 20u : 200u);
        Meetings = new(this, new(seed * 17 + 3));
        // What programs store stays in caches for long, and their kernels reach memory: who does not flush is found out.
        Random lingering = new(seed * 13 + 11);
        bool lingers = lingering.Next(3) == 0;
        FlushesOneIn = lingers ? 8 : 2;
        bool coherent = _random.Next(3) == 0 && !lingers;
        _steps = _random.Next(12_000, 40_000);
        _masterPatience = Choose(500, 4000, 20_000);
        MountPatience = lingers ? Choose(50, 400, 10_000) : Choose(50, 400);
        LongestIdle = Choose(40, 200, 1000);
        UnmountOneIn = Choose(100, 600, 100_000);
        _isCrowded = _random.Next(5) == 0;
        MostOpen = _isCrowded ? 24 : Choose(1, 3, 24);
        MostInLine = Choose(1, 3, MountLine.MaxExceptions);
        _earlierTerms = _random.Next(8) == 0 ? 70 : 0;
        _damageAt = _random.Next(2) == 0 ? _random.NextInt64(_steps) : long.MaxValue;
        _lossOneIn = Choose(0, 5, 50, 500);
        _logSwitchOneIn = Choose(1, 20, 100);
        Memory = new((_isCrowded ? ManyUnits : FewUnits) * (long)MediaLayout.UnitBytes, _random.Next(), coherent)
        {
            LateLines = true,
            AccidentOneIn = Choose(0, 3, 8, 40),
            CacheLines = Choose(64, 1024, 8192),
        };
        if (lingers)
            (Memory.AccidentOneIn, Memory.CacheLines) = (lingering.Next(2) == 0 ? 0 : 400, 8192);
        ChaosOptions chaos = new()
        {
            LoadSwitchOneIn = Choose(2, 10, 50),
            SwitchOneIn = Choose(1, 2, 6),
            PauseOneIn = Choose(0, 60, 200, 1000),
            LongestPause = Choose(300, 2000, 10_000),
            DecisivePauseOneIn = Choose(0, 20, 100),
            KillOneIn = lingers ? Choose(150, 600) : Choose(0, 200, 1000),
            CrashOneIn = Choose(0, 1000, 4000),
            LongestBoot = Choose(20, 2000),
        };
        Clock = new StepClock(this);
        Scheduler = new(_random.Next(), Memory, chaos, IsQuiet, IsDecisive)
        {
            SkipsIdleTime = true,
            IsBrief = IsBrief,
            AtAccess = OnAccess,
            BeforeAccess = Meetings.Meet,
            HostCrashed = host => Array.Find(_hosts!, h => h.Name == host)?.Crash(),
        };
        Space = new(Memory, new(s_fileSystem, 1, default, default)) { Changed = OnSpaceChanged };
        Memory.Landed = OnLanded;
        bool famfsKernels = _random.Next(3) == 0 || lingers;
        _isForgetful = new Random(seed ^ 0x0F06E7).Next(3) == 0;
        _hosts = [.. Enumerable.Range(0, _isForgetful ? 4 : 3).Select(i => new SimulatedHost(this, HostName(i), HostId(i), famfsKernels && (_random.Next(2) == 0 || lingers), _random.Next(2) == 0 ? 45u : 31u))];
        // Of two words in a line, on memory that is not coherent, the later store of one host takes the other's back.
        WordsOfLine = 1 + (seed % 2);
        Words = new(ordersStores: WordsOfLine == 1 && !_hosts.Any(h => h.ReachesMemory));
    }

    public CooperativeScheduler Scheduler { get; }

    public FakeSharedMemory Memory { get; }

    public TimeProvider Clock { get; }

    public SettledSpace Space { get; }

    /// <summary>Words that programs use in each line.</summary>
    public int WordsOfLine { get; }

    /// <summary>What programs store.</summary>
    public StoredWords Words { get; }

    public HolderCounts Counts { get; } = new();

    public HolderMeetings Meetings { get; }

    /// <summary>All that served, those that have ended included.</summary>
    public IReadOnlyList<SimulatedMaster> EveryMaster => _everyMaster;

    public IReadOnlyList<SimulatedHost> Hosts => _hosts;

    public RegistrationLimit Registrations { get; } = new();

    /// <summary>In the end everybody has a block.</summary>
    public int HostCapacity => _isForgetful && !Scheduler.IsCalm ? 3 : MostHosts;

    /// <summary>Under policy <c>lease</c>; 0: policy <c>confirmed</c>. The product's are longer than a run.</summary>
    public uint LeaseMs { get; }

    public uint GraceMs { get; }

    public int MountPatience { get; }

    public int LongestIdle { get; }

    public int UnmountOneIn { get; }

    /// <summary>One in so many stores of a program, where its kernel reaches memory, is written back by it.</summary>
    public int FlushesOneIn { get; }

    /// <summary>Of hosts that may be forgotten, mounts end often.</summary>
    public int UnmountOneInOf(SimulatedHost host) => _isForgetful && Array.IndexOf(_hosts, host) >= FirstGuest ? Math.Min(UnmountOneIn, 60) : UnmountOneIn;

    public int MostOpen { get; }

    /// <summary>Held files that a line names at most; the product's number takes many.</summary>
    public int MostInLine { get; }

    /// <summary>The last things that happened.</summary>
    public IEnumerable<string> History => _history;

    /// <summary>Prints everything as it happens.</summary>
    public Action<string>? Print { get; set; }

    public HolderCounts Run()
    {
        try
        {
            Prepare();
            for (int slot = 0; slot < 2; slot++)
            {
                int own = slot;
                Random random = new(_random.Next());
                Scheduler.Spawn($"master-{slot}", HostName(slot), process => LiveAsMaster(process, own, random));
                Scheduler.Spawn($"reclaimer-{slot}", HostName(slot), process => LiveAsReclaimer(process, own));
            }
            foreach (SimulatedHost host in _hosts)
            {
                // A famfs kernel has one mount at a time; the next daemon may begin while the one before still ends.
                int daemons = host.ReachesMemory || host == _hosts[0] || (_isForgetful && Array.IndexOf(_hosts, host) >= FirstGuest) ? 2 : 1;
                for (int daemon = 0; daemon < daemons; daemon++)
                {
                    Random random = new(_random.Next());
                    Scheduler.Spawn($"daemon-{host.Name}-{daemon}", host.Name, process => Whole(process, () => host.LiveAsDaemon(process, random)));
                    foreach ((string kind, int number) in new[] { ("notifier", 0), ("releases", 1), ("worker", 2), ("opens", SimulatedHost.FirstOpens) }.Where(k => host.ReachesMemory || k.Item2 != SimulatedHost.FirstOpens))
                        Scheduler.Spawn($"{kind}-{host.Name}-{daemon}", host.Name, process => Whole(process, () => host.LiveAsThread(process, number)));
                }
                for (int program = 0; program < 2; program++)
                {
                    Random random = new(_random.Next());
                    Scheduler.Spawn($"program-{host.Name}-{program}", host.Name, process => host.LiveAsProgram(process, random));
                }
            }
            Random client = new(_random.Next());
            Scheduler.Spawn("client", "host-client", _ => LiveAsClient(client));
            Random second = new(_random.Next());
            Scheduler.Spawn("client-2", "host-client-2", _ => LiveAsClient(second));
            Random weather = new(_random.Next());
            Scheduler.Spawn("weather", "host-weather", _ => LiveAsWeather(weather));
            Scheduler.Spawn("end", "host-end", _ => WatchForEnd());
            Scheduler.Run(long.MaxValue);
            if (Scheduler.Failure is { } failure)
                throw failure;
        }
        catch (Exception error)
        {
            throw new InvalidOperationException($"seed {_seed}: {error.Message}\n  last: {string.Join("\n  ", _history.TakeLast(40))}", error);
        }
        Counts.Steps = Scheduler.Work;
        Counts.Reuses = Space.Reuses;
        Counts.Kills = Scheduler.Kills;
        Counts.Crashes = Scheduler.Crashes;
        Counts.Pauses = Scheduler.Pauses;
        return Counts;
    }

    public void Dispose()
    {
        foreach ((_, IDisposable what) in _buried)
            what.Dispose();
        Scheduler.Dispose();
        Space.Dispose();
    }

    public void Note(string what)
    {
        string line = string.Create(CultureInfo.InvariantCulture, $"{Scheduler.Step,7} {what}");
        Print?.Invoke(line);
        _history.Enqueue(line);
        if (_history.Count > MostHistory)
            _history.Dequeue();
    }

    public Guid NextId()
    {
        byte[] bytes = new byte[16];
        new Random((int)++_ids * 7919 + _seed).NextBytes(bytes);
        return new(bytes);
    }

    public string AnyPath(Random random)
    {
        string[] paths = _isCrowded ? s_manyPaths : s_paths;
        return paths[random.Next(paths.Length)];
    }

    /// <summary>Whether a message comes through.</summary>
    public bool IsDelivered() => Scheduler.IsCalm || Scheduler.IsLull || _lossOneIn == 0 || _random.Next(_lossOneIn) != 0;

    /// <summary>A master that serves, or takes itself for one.</summary>
    public SimulatedMaster? AnyMaster()
    {
        SimulatedMaster[] serving = [.. _masters.Where(m => !m.HasEnded && !m.Life.IsOver)];
        return serving.Length == 0 ? null : serving[_random.Next(serving.Length)];
    }

    public bool HasMaster => _masters.Exists(m => !m.HasEnded && !m.Life.IsOver);

    private long CalmSteps => LeaseMs == 0 ? CalmStepsWithoutLease : CalmStepsOfLease;

    /// <summary>To be disposed when its threads have left it.</summary>
    public void Bury(SimulatedLife life, IDisposable what) => _buried.Add((life, what));

    /// <summary>A file that was opened is there, and nobody zeroes it or has given it back.</summary>
    public void RequireReach(string who, OpenFile file)
    {
        if (!Space.MayTouch(file.Inode.Number))
            throw new InvalidOperationException($"P2 broken: {who} has inode {file.Inode.Number} open, which is {Space.StatusOf(file.Inode.Number)?.ToString() ?? "given back"}");
        foreach (MapExtent extent in file.Extents)
        {
            foreach ((ulong other, MapExtent[] owned) in Space.Owned)
            {
                if (other != file.Inode.Number && owned.Any(o => SettledSpace.Overlap(o, extent)))
                    throw new InvalidOperationException($"P2 broken: {who} reaches {extent} as inode {file.Inode.Number}, which is of inode {other}");
            }
        }
    }

    private static string HostName(int index) => $"host-{index}";

    private static Guid HostId(int index) => new(index + 1, 0x2222, 0x4222, 0x82, 0x22, 0x22, 0x22, 0x22, 0x22, 0x22, 0x22);

    private bool IsQuiet(string operation, long offset) =>
        offset < MediaLayout.AnchorOffset
        || (offset >= MediaLayout.AnchorOffset + 2L * MediaLayout.AnchorStride && offset < MediaLayout.HostTableOffset)
        // What is in active copies is the matter of LogSimulation.
        || (operation is FakeOperation.Load && offset >= MediaLayout.AnchorOffset && offset < MediaLayout.HostTableOffset && !IsDecisive(offset))
        || (operation is FakeOperation.Load or FakeOperation.Invalidate && Memory.IsUntouched(offset));

    // What happens between two accesses to the log is the matter of LogSimulation.
    private bool IsBrief(long offset) =>
        _logSwitchOneIn > 1
        && ((offset >= MediaLayout.AnchorOffset && offset < MediaLayout.HostTableOffset) || Space.IsOfLog(offset))
        && _random.Next(_logSwitchOneIn) > 0;

    private static bool IsDecisive(long offset) =>
        (offset >= MediaLayout.AnchorOffset && offset < MediaLayout.HostTableOffset && (offset - MediaLayout.AnchorOffset) % MediaLayout.AnchorStride < 3 * DaxDevice.LineBytes)
        || (offset >= MediaLayout.HostTableOffset && offset < MediaLayout.HostTableOffset + 8L * MediaLayout.EntriesPerHost * MediaLayout.HostEntryBytes);

    private void Prepare()
    {
        using (DaxDevice device = Memory.Attach(HostName(0)))
            NativeFormatter.Format([device], new() { Host = HostId(0), Clock = Clock, FileSystem = s_fileSystem, MaxHosts = MostHosts });
        DevicePool pool = TestFormats.All.Open([Memory.Attach(HostName(0))]);
        HostIdentity identity = _hosts[0].Identity;
        Recovery.Result recovered = Recovery.RunAsync(pool, identity, takeOver: true, "", Clock, new(1), default).GetAwaiter().GetResult();
        Space.Read();
        using (SimulatedMaster first = new(this, HostName(0), identity, recovered, Memory, Clock, new(2)))
            first.ServeAlone(new MasterSlotGrant(new() { HostId = HostId(1).ToByteString() }), LeaseMs == 0 ? null : new LeasePolicy(LeaseMs, GraceMs));
        for (int term = 0; term < _earlierTerms; term++)
        {
            SimulatedHost host = _hosts[term % 2];
            recovered = Recovery.RunAsync(TestFormats.All.Open([Memory.Attach(host.Name)]), host.Identity, takeOver: true, "", Clock, new(term), default).GetAwaiter().GetResult();
            using SimulatedMaster next = new(this, host.Name, host.Identity, recovered, Memory, Clock, new(term));
            next.ServeAlone(new MasterSlotGrant(new() { HostId = HostId(1).ToByteString() }));
        }
        Memory.Settle();
    }

    private void Whole(SimulatedProcess process, Action live)
    {
        process.DiesWhole = true;
        live();
    }

    private void LiveAsMaster(SimulatedProcess process, int slot, Random random)
    {
        process.DiesWhole = true;
        Scheduler.Sleep(random.Next(1, Scheduler.IsCalm ? 200 : HasMaster ? _masterPatience : 300));
        // When all is calm, one takes over: an operator sees to that.
        if (Scheduler.Quiescing || (Scheduler.IsCalm && (AnyMaster() is not null || _claiming > 0 || slot != _turn)) || (Scheduler.IsLull && HasMaster))
            return;
        SimulatedHost host = _hosts[slot];
        if (host.IsOff)
            return;
        HostIdentity identity = host.Identity;
        DevicePool pool = TestFormats.All.Open([Memory.Attach(host.Name)]);
        Recovery.Result recovered;
        try
        {
            _claiming++;
            recovered = Recovery.RunAsync(pool, identity, takeOver: true, "", Clock, new(random.Next()), default).GetAwaiter().GetResult();
        }
        catch (Exception error)
        {
            pool.Dispose();
            if (error is FamfsException { Reason: ErrorReason.NotMaster })
                return;
            throw;
        }
        finally
        {
            _claiming--;
        }
        SimulatedMaster master = new(this, host.Name, identity, recovered, Memory, Clock, random);
        process.Life = master.Life;
        master.Life.Threads++;
        _masters.Add(master);
        _everyMaster.Add(master);
        Counts.Terms++;
        Note($"term {master.Term} serves at {recovered.State.Replay.Position}");
        try
        {
            Space.Read();
            RequireSpace(master);
            master.Serve();
            // The process ends when its threads have: what these store meanwhile is stored after the term.
            if (Meetings.Take && !Scheduler.IsCalm)
                Scheduler.WaitFor(() => master.Life.Threads <= 1, HolderMeetings.LongestSteps);
        }
        finally
        {
            Note($"term {master.Term} {(master.Life.IsOver ? "is killed" : "ends")}");
            master.Life.IsOver = true;
            master.Life.Threads--;
            process.Life = null;
            _masters.Remove(master);
            Bury(master.Life, master);
        }
    }

    private void LiveAsReclaimer(SimulatedProcess process, int slot)
    {
        process.DiesWhole = true;
        bool IsWithout(SimulatedMaster master) => master.Term.Slot == slot && !master.Life.IsOver && !master.HasEnded && !master.HasReclaimer;
        if (_masters.Find(IsWithout) is not { } master)
        {
            Scheduler.WaitFor(() => _masters.Exists(IsWithout), 2000);
            return;
        }
        process.Life = master.Life;
        master.Life.Threads++;
        master.HasReclaimer = true;
        try
        {
            master.Reclaim();
        }
        finally
        {
            master.Life.Threads--;
            process.Life = null;
        }
    }

    /// <summary>Makes and removes, through whoever says that it is the master. Messages are lost and repeated.</summary>
    private void LiveAsClient(Random random)
    {
        while (!Scheduler.Quiescing)
        {
            DisposeBuried();
            if (Scheduler.IsCalm)
            {
                Scheduler.Sleep(50);
                continue;
            }
            ByteString id = RequestId(random);
            for (int attempt = random.Next(3); attempt >= 0; attempt--)
            {
                if (random.Next(30) == 0 && !Scheduler.IsLull && AnyMaster() is { } ended)
                    ended.IsToEnd = true;
                if (!IsDelivered() || AnyMaster() is not { } master)
                {
                    Scheduler.WaitFor(() => HasMaster, 500);
                    continue;
                }
                int shape = random.Next();
                try
                {
                    Wait(random, Ask(new(shape), id, master), master);
                }
                catch (FamfsException)
                {
                    // Refused, or nobody knows.
                }
                if (random.Next(3) > 0)
                    break;
            }
            if (!Scheduler.IsLull)
                EvictSometimes(random);
            ForgetSometimes(random);
            ImpersonateSometimes(random);
            DamageOnce(random);
            Scheduler.Sleep(random.Next(1, 200));
        }
    }

    private Task Ask(Random random, ByteString id, SimulatedMaster master)
    {
        string path = AnyPath(random);
        Counts.Changes++;
        // Most of a pool that is nearly full is files that there are, as in use.
        int what = random.Next(10);
        if (what is 6 or 7 or 8 && Space.State.Tree.DeletedCount >= MostRemoved)
            what = 0;
        if (what is 7 or 8 && Space.AnyFile(random) is { Length: > 0 } file)
            path = file;
        switch (what)
        {
            case 0 or 1 or 2 or 3 or 4:
                return master.Send(new FileCreation(new() { RequestId = id, Path = path, SizeBytes = (ulong)random.Next(1, (_isCrowded ? 1 : 3) * MediaLayout.UnitBytes) | (2 * DaxDevice.LineBytes) }));
            case 5:
                return master.Send(new DirectoryCreation(new() { RequestId = id, Path = path }));
            case 6 or 7 or 8:
                return master.Send(new Removal(new() { RequestId = id, Path = path, Recursive = random.Next(2) == 0 }));
            default:
                return master.Send(new Renaming(new() { RequestId = id, OldPath = path, NewPath = AnyPath(random), Replace = random.Next(3) > 0 }));
        }
    }

    private void Wait(Random random, Task answer, SimulatedMaster master)
    {
        Scheduler.WaitFor(() => answer.IsCompleted || master.Life.IsOver, random.Next(25, 2000));
        Position? position = !answer.IsCompletedSuccessfully ? null : answer switch
        {
            Task<CreateFileReply> made => made.Result.Position,
            Task<MakeDirectoryReply> made => made.Result.Position,
            Task<MutationReply> made => made.Result.Position,
            _ => null,
        };
        if (position is not null)
        {
            Counts.Acknowledged++;
            Space.RequireKept(new(s_fileSystem, position.Generation, new(position.Sequence), new(position.Term)));
        }
        if (answer.IsCompleted && IsDelivered())
            answer.GetAwaiter().GetResult();
        else if (answer.IsFaulted)
            _ = answer.Exception;
    }

    /// <summary>An operator switches a host off, states that it is gone, and switches it on when that is recorded or refused.</summary>
    private void EvictSometimes(Random random)
    {
        SimulatedHost host = _hosts[random.Next(_hosts.Length)];
        if (random.Next(60) != 0 || host.IsOff)
            return;
        host.IsOff = true;
        Scheduler.Crash(host.Name);
        Scheduler.Sleep(random.Next(1, 500));
        Memory.SettleLost(host.Name);
        if (AnyMaster() is { } master)
        {
            Counts.Evictions++;
            Note($"operator: {host.Name} is gone");
            try
            {
                Caller root = new(CallerKind.Certificate) { Subject = "CN=operator" };
                Task answer = master.Send(new HostEviction(new() { HostId = host.Identity.Host.ToByteString(), Evidence = GoneEvidence.Fenced }, root));
                while (!answer.IsCompleted && !master.Life.IsOver && !Scheduler.Quiescing)
                    Scheduler.Sleep(20);
            }
            catch (FamfsException)
            {
                // Deposed meanwhile.
            }
        }
        host.IsOff = false;
    }

    /// <summary>An operator takes the block from a host that has no master, as the service does; and looks away sometimes before that has
    /// looked at the lines again, as when the master dies there.</summary>
    private void ForgetSometimes(Random random)
    {
        if (!_isForgetful)
            return;
        Counts.ForeignLines += Entries().Count(e => e.Line is { } line && Space.State.IsForeign(e.Index, line));
        SimulatedHost host = _hosts[FirstGuest + random.Next(_hosts.Length - FirstGuest)];
        if (AnyMaster() is not { } master || !master.State.Replay.Hosts.ContainsKey(host.Identity.Host))
            return;
        Caller root = new(CallerKind.Certificate) { Subject = "CN=operator" };
        HostForgetting forgetting = new(new() { HostId = host.Identity.Host.ToByteString() }, root) { FindStream = random.Next(2) == 0 ? _ => null : master.Registry.FindStream };
        try
        {
            Task<ForgetHostReply> answer = master.Send(forgetting);
            Scheduler.WaitFor(() => answer.IsCompleted || master.Life.IsOver, 2000);
            if (!answer.IsCompleted || forgetting.Forgotten is not { } forgotten)
            {
                _ = answer.ContinueWith(a => a.Exception, TaskScheduler.Default);
                return;
            }
            answer.GetAwaiter().GetResult();
            Counts.Forgets++;
            Note($"operator: {host.Name} is forgotten, block {forgotten.Slot}");
            using DevicePool pool = TestFormats.All.Open([Memory.Attach("host-client")]);
            if (random.Next(2) == 0 && master.State.Replay.ForgottenBlocks.TryGetValue(forgotten.Slot, out ForgottenBlock block) && !HostForgetting.IsUntouched(pool, block))
            {
                Note($"operator: {host.Name} was mounting");
                _ = master.Send(new HostRegistration(new(host.Identity.Host, forgotten.MachineDigest, host.Name), HostCapacity, Registrations));
            }
        }
        catch (FamfsException)
        {
            // Something of it is left, or the master was deposed.
        }
    }

    /// <summary>Somebody tells a master what is not so: that a mount has released everything, has acknowledged everything, or is gone. It is
    /// a caller that nobody knows, or another host than the mount's (SAFETY S28).</summary>
    private void ImpersonateSometimes(Random random)
    {
        List<SimulatedMount> mounts = [.. _hosts.SelectMany(h => h.Mounts)];
        if (random.Next(4) != 0 || mounts.Count == 0 || AnyMaster() is not { } master)
            return;
        Counts.Impostors++;
        SimulatedMount mount = mounts[random.Next(mounts.Count)];
        bool known = random.Next(2) == 0;
        Guid host = known ? HostId(9) : mount.Host;
        MountRegistry registry = master.Registry;
        LogPosition position = master.State.Replay.Position;
        List<OlderMount> older = [new() { MountId = mount.Id.ToByteString(), Evidence = GoneEvidence.SuperblockGone }];
        MountClaim claim = new(new(host, ByteString.CopyFrom(new byte[32]), "impostor"), known ? NextId() : mount.Id, position.ToMessage());
        try
        {
            Wait(random, master.Send(new MountAdmission(claim, known ? GoneMounts.Accept(host, older, registry) : [])), master);
        }
        catch (FamfsException)
        {
            return;
        }
        // Whose mount it is may be known to this master from its line only.
        bool believed = known && registry.HasLine(mount.Id, mount.Host);
        registry.Subscribed(mount.Id, host, NextId(), "stock", "", known: believed);
        if (believed)
            registry.SaidReleased(mount.Id, host, position.Sequence, []);
        Scheduler.Sleep(random.Next(1, 500));
        registry.Unsubscribed(mount.Id, known: believed);
    }

    /// <summary>One line of one copy of a mount's line is damaged (SAFETY S24); or both copies, of a mount that has files open.</summary>
    private void DamageOnce(Random random)
    {
        if (Scheduler.Work < _damageAt || Scheduler.IsCalm)
            return;
        if (Meetings.DamagesHolder)
        {
            DamageHolder();
            return;
        }
        long entry = MediaLayout.HostTableOffset + random.NextInt64(3L * MediaLayout.EntriesPerHost) * MediaLayout.HostEntryBytes;
        byte[] before = new byte[MediaLayout.HostEntryBytes];
        Memory.ReadMemory(entry, before);
        if (!before.AsSpan().ContainsAnyExcept((byte)0))
            return;
        _damageAt = long.MaxValue;
        Counts.Damages++;
        long at = random.Next(MediaLayout.HostEntryBytes / DaxDevice.LineBytes) * DaxDevice.LineBytes;
        byte[] line = new byte[DaxDevice.LineBytes];
        switch (random.Next(3))
        {
            case 0:
                before.AsSpan((int)at, line.Length).CopyTo(line);
                line[random.Next(line.Length)] ^= (byte)(1 << random.Next(8));
                break;
            case 1:
                line.AsSpan().Fill(0xFF);
                break;
        }
        Note($"line {at / DaxDevice.LineBytes} of entry {(entry - MediaLayout.HostTableOffset) / MediaLayout.HostEntryBytes} is damaged");
        Memory.WriteMemory(entry + at, line);
    }

    // A removed file that a mount has open: what nobody can read holds everything.
    private void DamageHolder()
    {
        HashSet<Guid> holding = [.. _hosts.SelectMany(h => h.Kernels).Where(k => k.Open.Count > 0 && (k.ReachesMemory || !k.IsCut)).Select(k => k.Mount)];
        int at = Entries().FindIndex(e => e.Line is { State: MountState.Live, Exceptions.Length: > 0 } line && holding.Contains(line.Mount));
        if (at < 0)
            return;
        HostEntry found = Entries()[at];
        _damageAt = long.MaxValue;
        Counts.Damages++;
        Note($"both copies of entry {found.Index} are damaged, of mount {found.Line!.Mount.ToString()[..4]}, which has files open");
        for (int copy = 0; copy < 2; copy++)
            Memory.WriteMemory(MediaLayout.HostTableOffset + ((long)found.Index * MediaLayout.HostEntryBytes) + (copy * MountLine.Size) + 40, [1, 2, 3]);
    }

    /// <summary>Entries that nobody can read.</summary>
    private List<HostEntry> UnreadableEntries() => [.. Entries().Where(e => e.Unreadable)];

    /// <summary>The host table, as it is in memory.</summary>
    private List<HostEntry> Entries()
    {
        Action<string, string, long>? hook = Memory.BeforeAccess;
        Memory.BeforeAccess = null;
        try
        {
            using DevicePool pool = TestFormats.All.Open([Memory.Attach($"table-{Scheduler.Step}")]);
            return new MountLineTable(pool).ReadInUse();
        }
        finally
        {
            Memory.BeforeAccess = hook;
        }
    }

    private ByteString RequestId(Random random)
    {
        byte[] id = new byte[16];
        random.NextBytes(id);
        long ms = Clock.GetUtcNow().ToUnixTimeMilliseconds();
        for (int i = 0; i < 6; i++)
            id[i] = (byte)(ms >> (8 * (5 - i)));
        id[6] = (byte)(0x70 | id[6] & 0x0f);
        id[8] = (byte)(0x80 | id[8] & 0x3f);
        return ByteString.CopyFrom(id);
    }

    private void DisposeBuried()
    {
        for (int i = _buried.Count - 1; i >= 0; i--)
        {
            if (_buried[i].Life.Threads > 0)
                continue;
            _buried[i].What.Dispose();
            _buried.RemoveAt(i);
        }
    }

    /// <summary>Accidents come in storms. In the lulls between them space comes back and is used again: while everybody dies all the time
    /// it never does.</summary>
    private void LiveAsWeather(Random random)
    {
        // After many terms the first take-over takes longer than all that comes then.
        if (_lastStep == long.MaxValue)
        {
            Scheduler.IsLull = true;
            Scheduler.WaitFor(() => HasMaster, LongestTakeOver);
            Scheduler.IsLull = false;
            _lastStep = Scheduler.Work + _steps;
            _damageAt = _damageAt == long.MaxValue ? _damageAt : _damageAt + Scheduler.Work;
        }
        while (!Scheduler.IsCalm && !Scheduler.Quiescing)
        {
            Scheduler.Sleep(random.Next(300, 5000));
            if (Scheduler.IsCalm)
                return;
            (Scheduler.IsLull, Counts.Lulls) = (true, Counts.Lulls + 1);
            SetTime(LeaseMs == 0 ? CalmTicks : CalmTicksOfLease);
            Note("lull");
            long reuses = Space.Reuses + random.Next(1, 5);
            Scheduler.WaitFor(() => Space.Reuses >= reuses, LongestLull);
            Scheduler.IsLull = false;
            if (Scheduler.IsCalm)
                return;
            SetTime(1);
            Note($"storm; {Space.State.Tree.DeletedCount} files wait for {string.Join("; ", AnyMaster()?.State.ReclaimWaits ?? ["a master"])}");
        }
        Scheduler.WaitFor(() => false, 1000);
    }

    // From now on, so many ticks in each step.
    private void SetTime(long rate) => _time = (_time.Ticks + ((Scheduler.Step - _time.Step) * _time.Rate), Scheduler.Step, rate);

    /// <summary>First anything happens, then nothing new: what is not in use must come back, and everybody must serve.</summary>
    private void WatchForEnd()
    {
        int looks = 0;
        long lookedAt = 0;
        while (!Scheduler.Quiescing)
        {
            // To take over costs as many steps as there are terms, and nothing comes back meanwhile.
            if (_calmSince >= 0 && HasMaster)
                _calmServed += Scheduler.Step - lookedAt;
            lookedAt = Scheduler.Step;
            bool isOver = _calmServed > CalmSteps || (_calmSince >= 0 && Scheduler.Step > _calmSince + (MostCalms * CalmSteps));
            if (_calmSince < 0 && Scheduler.Work >= _lastStep)
            {
                Scheduler.IsCalm = true;
                _calmSince = Scheduler.Step;
                SetTime(LeaseMs == 0 ? CalmTicks : CalmTicksOfLease);
                foreach (SimulatedHost host in _hosts)
                    host.IsOff = false;
                Note("calm");
            }
            // What a former master may still store to is free when its slot has another term.
            if (_calmSince >= 0 && _calmServed / (CalmSteps / 4) % 2 != _turn)
            {
                _turn = 1 - _turn;
                foreach (SimulatedMaster master in _masters)
                    master.IsToEnd = true;
            }
            // The next mount of a host makes a damaged entry good, when it has looked long enough for a twin.
            int every = LeaseMs == 0 ? 20 : 100;
            if (_calmSince >= 0 && looks++ % every == every - 1)
            {
                foreach (HostEntry entry in UnreadableEntries())
                    Array.Find(_hosts, h => Space.SlotOf(h.Identity.Host) == entry.HostSlot)?.MountAnew();
            }
            if (_calmSince >= 0 && looks % 20 == 10)
                EvictEarlierBoots();
            if (_calmSince >= 0 && IsDone())
                Scheduler.Finish();
            else if (isOver && UnreadableEntries().Any(e => !e.IsUnfinished))
                Scheduler.Finish(); // both copies are damaged: one by a store that tore; what nobody can read holds everything
            else if (isOver)
                throw new InvalidOperationException($"what is not in use does not come back: {Space.State.Tree.DeletedCount} files wait for {string.Join("; ", AnyMaster()?.State.ReclaimWaits ?? ["a master"])}; the log ends at {Space.Last}; {string.Join("; ", _hosts.SelectMany(h => h.Mounts))}; {string.Join("; ", _hosts.AsEnumerable())}; {string.Join("; ", Entries().Where(e => e.Line is not { State: MountState.Ended }))}; {_buried.Count(b => b.Life.Threads > 0)} that have ended have threads");
            Scheduler.WaitFor(() => _calmSince < 0 && Scheduler.Work >= _lastStep, Scheduler.IsCalm ? 50 : 10_000);
        }
    }

    /// <summary>A host whose block is full of lines of earlier boots can show none of the new one: an operator states that those are gone.</summary>
    private void EvictEarlierBoots()
    {
        foreach (SimulatedHost host in _hosts)
        {
            List<MountLine> dead = [.. Entries().Where(e => e.HostSlot == Space.SlotOf(host.Identity.Host) && e.Line is { State: MountState.Live } line && line.Host == host.Identity.Host && line.Boot != host.Identity.Boot).Select(e => e.Line!)];
            if (dead.Count < MediaLayout.EntriesPerHost || AnyMaster() is not { } master)
                continue;
            Note($"operator: {host.Name} has lines of earlier boots only");
            Caller root = new(CallerKind.Certificate) { Subject = "CN=operator" };
            foreach (MountLine line in dead)
                _ = master.Send(new HostEviction(new() { HostId = line.Host.ToByteString(), MountId = line.Mount.ToByteString(), Evidence = GoneEvidence.Fenced }, root));
        }
    }

    private bool IsDone()
    {
        if (AnyMaster() is not { } master || master.State.Replay.Position.Sequence.Value != Space.Last || Space.State.Tree.DeletedCount > 0 || _masters.Count != 1)
            return false;
        if (_hosts.Any(h => h.Mounts.Count == 0 || h.Mounts.Any(m => !m.IsOpen || m.Replica.Position.Sequence.Value != Space.Last)))
            return false;
        RequireSpace(master);
        Space.RequireAllKept();
        return true;
    }

    /// <summary>Every unit is free, or somebody's.</summary>
    private void RequireSpace(SimulatedMaster master)
    {
        ReplayState replay = master.State.Replay;
        if (replay.UsedBytes + master.State.Allocator.FreeBytes != replay.CapacityBytes)
            throw new InvalidOperationException($"{replay.UsedBytes} bytes used and {master.State.Allocator.FreeBytes} free are not {replay.CapacityBytes}");
        if (replay.Position.Sequence.Value != Space.Last)
            return;
        long owned = Space.Owned.Values.Sum(extents => extents.Sum(e => e.LengthBytes));
        if (replay.UsedBytes != Space.State.UsedBytes || owned > replay.UsedBytes)
            throw new InvalidOperationException($"{replay.UsedBytes} bytes are used, {Space.State.UsedBytes} should be, and files have {owned}");
    }

    /// <summary>Space that changes hands is reached by nobody as what it was.</summary>
    private void OnSpaceChanged(ulong inode, MapExtent extent)
    {
        Note($"units {extent.OffsetBytes / MediaLayout.UnitBytes} to {(extent.OffsetBytes + extent.LengthBytes) / MediaLayout.UnitBytes}: {(inode == 0 ? "free" : $"inode {inode}")}");
        foreach (SimulatedHost host in _hosts)
        {
            foreach (OpenFile file in host.Reachable)
            {
                if (file.Inode.Number != inode && file.Extents.Any(e => SettledSpace.Overlap(e, extent)))
                    throw new InvalidOperationException($"P2 broken: {extent} {(inode == 0 ? "becomes free" : $"becomes inode {inode}")}, and {host.Name} reaches it as inode {file.Inode.Number}");
            }
        }
    }

    /// <summary>What a program has stored reaches the memory while the space is its file's: later it would be among another's bytes.</summary>
    private void OnLanded(long offset, byte[] bytes)
    {
        foreach (ulong word in MemoryMarshal.Cast<byte, ulong>(bytes))
        {
            // What else looks like one, a checksum say, is of a number that nobody has given.
            if (StoredWords.TryGetInode(word, out ulong inode) && inode < Space.State.NextInode.Value && !(Space.MayTouch(inode) && Space.IsOf(inode, offset)))
                throw new InvalidOperationException($"P2 broken: a word of inode {inode}, which is {Space.StatusOf(inode)?.ToString() ?? "given back"}, reaches the memory at {offset} now");
        }
    }

    /// <summary>What is stored to, at this moment, is reached by nobody else; and who stores may.</summary>
    private void OnAccess(string operation, long offset)
    {
        if (operation == FakeOperation.Zero)
        {
            // S7: a record gives the unit to who stores there, and nobody else has it since.
            SimulatedMaster? zeroing = _everyMaster.Find(m => m.Life == Scheduler.Current.Life);
            if (!Space.IsReservedTo(zeroing?.Term ?? default, offset))
                throw new InvalidOperationException($"S7 broken: {Scheduler.Current.Name}, term {zeroing?.Term}, zeroes at {offset}, which no record reserves to it");
            MapExtent unit = new(new(0), offset / MediaLayout.UnitBytes * MediaLayout.UnitBytes, MediaLayout.UnitBytes);
            foreach (SimulatedHost host in _hosts)
            {
                foreach (OpenFile file in host.Reachable)
                {
                    if (file.Extents.Any(e => SettledSpace.Overlap(e, unit)))
                        throw new InvalidOperationException($"P2 broken: {Scheduler.Current.Name} zeroes {unit}, and {host.Name} reaches it as inode {file.Inode.Number}");
                }
            }
            foreach ((ulong inode, MapExtent[] owned) in Space.Owned)
            {
                if (owned.Any(o => SettledSpace.Overlap(o, unit)) && Space.StatusOf(inode) is InodeStatus.Published)
                    throw new InvalidOperationException($"P2 broken: {Scheduler.Current.Name} zeroes {unit}, which is of inode {inode}");
            }
        }
        else if (operation == FakeOperation.Store)
        {
            foreach (SimulatedHost host in _hosts)
            {
                foreach (SimulatedMount mount in host.Mounts)
                {
                    if (mount.Touched != 0 && Scheduler.Current.Life == mount.Life && Scheduler.Current.Name.StartsWith("worker", StringComparison.Ordinal) && !Space.MayTouch(mount.Touched))
                        throw new InvalidOperationException($"P2 broken: {Scheduler.Current.Name} stores to inode {mount.Touched}, which is {Space.StatusOf(mount.Touched)?.ToString() ?? "given back"}");
                }
            }
        }
    }

    private int Choose(params int[] values) => values[_random.Next(values.Length)];

    /// <summary>Sets the policy, with times that the product would refuse.</summary>
    private sealed class LeasePolicy(uint leaseMs, uint graceMs) : Change<bool>
    {
        public override Verdict Decide(ChangeContext context)
        {
            context.Append(RecordType.PolicySet, new PolicySet { TimeNs = context.NowNs, Reclaim = ReclaimPolicy.Lease, LeaseMs = leaseMs, LeaseGraceMs = graceMs });
            return Verdict.Done;
        }
    }

    /// <summary>Time as steps, 0.2 ms each; where there are no accidents it runs faster.</summary>
    private sealed class StepClock(HolderSimulation simulation) : TimeProvider
    {
        private long Now => simulation._time.Ticks + (((simulation.Scheduler?.Step ?? 0) - simulation._time.Step) * simulation._time.Rate);

        public override long TimestampFrequency => 5000;

        public override long GetTimestamp() => Now;

        public override DateTimeOffset GetUtcNow() => DateTimeOffset.UnixEpoch.AddDays(1).AddMilliseconds(Now / 5.0);
    }
}
