using System.Globalization;
using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.Core.Namespace;
using Famfs.Master.Changes;
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
    public long Changes;
    public long Evictions;

    public override string ToString() => $"steps {Steps}, kills {Kills}, crashes {Crashes}, pauses {Pauses}, terms {Terms}, opens {Opens}, changes {Changes}, evictions {Evictions}";
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
    private const int DeviceUnits = 40;
    private const int MostHistory = 4000;
    private const long CalmSteps = 60_000;
    private const long CalmTicks = 10;

    private static readonly string[] s_paths = ["a", "b", "c", "d/a", "d/b", "d", "e/a", "e"];
    private static readonly Guid s_fileSystem = new("5eed5eed-2222-4222-8222-222222222222");

    private readonly int _seed;
    private readonly Random _random;
    private readonly SimulatedHost[] _hosts;
    private readonly List<SimulatedMaster> _masters = [];
    private readonly List<(SimulatedLife Life, IDisposable What)> _buried = [];
    private readonly Queue<string> _history = [];
    private readonly long _steps;
    private readonly int _lossOneIn;
    private readonly int _masterPatience;
    private long _ids;
    private int _claiming;
    private int _turn; // of the two masters: who serves when all is calm
    private long _calmSince = -1;

    public HolderSimulation(int seed)
    {
        _seed = seed;
        _random = new(seed);
        bool coherent = _random.Next(3) == 0;
        _steps = _random.Next(8_000, 25_000);
        _masterPatience = Choose(100, 600, 2500);
        MountPatience = Choose(50, 400);
        UnmountOneIn = Choose(100, 600, 100_000);
        MostOpen = Choose(1, 3, 24);
        _lossOneIn = Choose(0, 4, 20);
        Memory = new(DeviceUnits * (long)MediaLayout.UnitBytes, _random.Next(), coherent)
        {
            LateLines = true,
            AccidentOneIn = Choose(0, 3, 8, 40),
            CacheLines = Choose(64, 1024, 8192),
        };
        ChaosOptions chaos = new()
        {
            LoadSwitchOneIn = Choose(2, 10, 50),
            SwitchOneIn = Choose(1, 2, 6),
            PauseOneIn = Choose(0, 60, 200, 1000),
            LongestPause = Choose(300, 2000, 10_000),
            DecisivePauseOneIn = Choose(0, 20, 100),
            KillOneIn = Choose(0, 600, 3000),
            CrashOneIn = Choose(0, 3000, 12_000),
            LongestBoot = Choose(20, 2000),
        };
        Clock = new StepClock(this);
        Scheduler = new(_random.Next(), Memory, chaos, IsQuiet, IsDecisive)
        {
            AtAccess = OnAccess,
            HostCrashed = host => Array.Find(_hosts!, h => h.Name == host)?.Crash(),
        };
        Space = new(Memory, new(s_fileSystem, 1, default, default)) { Changed = OnSpaceChanged };
        bool famfsKernels = _random.Next(3) == 0;
        _hosts = [.. Enumerable.Range(0, 3).Select(i => new SimulatedHost(this, HostName(i), HostId(i), famfsKernels && _random.Next(2) == 0, _random.Next(2) == 0 ? 45u : 31u))];
    }

    public CooperativeScheduler Scheduler { get; }

    public FakeSharedMemory Memory { get; }

    public TimeProvider Clock { get; }

    public SettledSpace Space { get; }

    public HolderCounts Counts { get; } = new();

    public RegistrationLimit Registrations { get; } = new();

    public int HostCapacity => 8;

    public int MountPatience { get; }

    public int UnmountOneIn { get; }

    public int MostOpen { get; }

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
                int daemons = host.ReachesMemory || host != _hosts[0] ? 1 : 2;
                for (int daemon = 0; daemon < daemons; daemon++)
                {
                    Random random = new(_random.Next());
                    int place = daemon;
                    Scheduler.Spawn($"daemon-{host.Name}-{daemon}", host.Name, process => Whole(process, () => host.LiveAsDaemon(process, random)));
                    foreach ((string kind, int number) in new[] { ("notifier", 0), ("releases", 1), ("worker", 2) })
                        Scheduler.Spawn($"{kind}-{host.Name}-{daemon}", host.Name, process => Whole(process, () => host.LiveAsThread(process, place, number)));
                }
                Random programs = new(_random.Next());
                Scheduler.Spawn($"program-{host.Name}", host.Name, process => host.LiveAsProgram(process, programs));
            }
            Random client = new(_random.Next());
            Scheduler.Spawn("client", "host-client", _ => LiveAsClient(client));
            Random second = new(_random.Next());
            Scheduler.Spawn("client-2", "host-client-2", _ => LiveAsClient(second));
            Scheduler.Spawn("end", "host-end", _ => WatchForEnd());
            Scheduler.Run(long.MaxValue);
            if (Scheduler.Failure is { } failure)
                throw failure;
        }
        catch (Exception error)
        {
            throw new InvalidOperationException($"seed {_seed}: {error.Message}\n  last: {string.Join("\n  ", _history.TakeLast(40))}", error);
        }
        Counts.Steps = Scheduler.Step;
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

    public string AnyPath(Random random) => s_paths[random.Next(s_paths.Length)];

    /// <summary>Whether a message comes through.</summary>
    public bool IsDelivered() => Scheduler.IsCalm || _lossOneIn == 0 || _random.Next(_lossOneIn) != 0;

    /// <summary>A master that serves, or takes itself for one.</summary>
    public SimulatedMaster? AnyMaster()
    {
        SimulatedMaster[] serving = [.. _masters.Where(m => !m.HasEnded && !m.Life.IsOver)];
        return serving.Length == 0 ? null : serving[_random.Next(serving.Length)];
    }

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

    /// <summary>What was loaded from a file is its own, or zero.</summary>
    public void RequireOwn(string who, OpenFile file, ulong word)
    {
        if (word != 0 && word != file.Inode.Number)
            throw new InvalidOperationException($"P2 broken: {who} loads {word} from inode {file.Inode.Number}");
    }

    private static string HostName(int index) => $"host-{index}";

    private static Guid HostId(int index) => new(index + 1, 0x2222, 0x4222, 0x82, 0x22, 0x22, 0x22, 0x22, 0x22, 0x22, 0x22);

    private bool IsQuiet(string operation, long offset) =>
        offset < MediaLayout.AnchorOffset
        || (offset >= MediaLayout.AnchorOffset + 2L * MediaLayout.AnchorStride && offset < MediaLayout.HostTableOffset)
        // What is in active copies is the matter of LogSimulation.
        || (operation is FakeOperation.Load && offset >= MediaLayout.AnchorOffset && offset < MediaLayout.HostTableOffset && !IsDecisive(offset))
        || (operation is FakeOperation.Load or FakeOperation.Invalidate && Memory.IsUntouched(offset));

    private static bool IsDecisive(long offset) =>
        (offset >= MediaLayout.AnchorOffset && offset < MediaLayout.HostTableOffset && (offset - MediaLayout.AnchorOffset) % MediaLayout.AnchorStride < 3 * DaxDevice.LineBytes)
        || (offset >= MediaLayout.HostTableOffset && offset < MediaLayout.HostTableOffset + 8L * MediaLayout.EntriesPerHost * MediaLayout.HostEntryBytes);

    private void Prepare()
    {
        using (DaxDevice device = Memory.Attach(HostName(0)))
            NativeFormatter.Format([device], new() { Host = HostId(0), Clock = Clock, FileSystem = s_fileSystem, MaxHosts = HostCapacity });
        DevicePool pool = TestFormats.All.Open([Memory.Attach(HostName(0))]);
        HostIdentity identity = _hosts[0].Identity;
        Recovery.Result recovered = Recovery.RunAsync(pool, identity, takeOver: true, "", Clock, new(1), default).GetAwaiter().GetResult();
        Space.Read();
        using (SimulatedMaster first = new(this, HostName(0), identity, recovered, Memory, Clock, new(2)))
            first.ServeAlone(new MasterSlotGrant(new() { HostId = HostId(1).ToByteString() }));
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
        Scheduler.Sleep(random.Next(1, Scheduler.IsCalm ? 200 : _masterPatience));
        // When all is calm, one takes over: an operator sees to that.
        if (Scheduler.Quiescing || (Scheduler.IsCalm && (AnyMaster() is not null || _claiming > 0 || slot != _turn)))
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
        Counts.Terms++;
        Note($"term {master.Term} serves at {recovered.State.Replay.Position}");
        try
        {
            Space.Read();
            RequireSpace(master);
            master.Serve();
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
        SimulatedMaster? master = _masters.Find(m => m.Term.Slot == slot && !m.Life.IsOver && !m.HasEnded && !m.HasReclaimer);
        if (master is null)
        {
            Scheduler.Sleep(30);
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
                if (random.Next(30) == 0 && AnyMaster() is { } ended)
                    ended.IsToEnd = true;
                if (!IsDelivered() || AnyMaster() is not { } master)
                {
                    Scheduler.Sleep(50);
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
            EvictSometimes(random);
            Scheduler.Sleep(random.Next(1, 200));
        }
    }

    private Task Ask(Random random, ByteString id, SimulatedMaster master)
    {
        string path = AnyPath(random);
        Counts.Changes++;
        switch (random.Next(10))
        {
            case 0 or 1 or 2 or 3 or 4:
                return master.Send(new FileCreation(new() { RequestId = id, Path = path, SizeBytes = (ulong)random.Next(1, 3 * MediaLayout.UnitBytes) }));
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
        for (int patience = random.Next(5, 400); patience > 0 && !answer.IsCompleted && !master.Life.IsOver && !Scheduler.Quiescing; patience--)
            Scheduler.Sleep(5);
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

    /// <summary>First anything happens, then nothing new: what is not in use must come back, and everybody must serve.</summary>
    private void WatchForEnd()
    {
        while (!Scheduler.Quiescing)
        {
            if (_calmSince < 0 && Scheduler.Step >= _steps)
            {
                Scheduler.IsCalm = true;
                _calmSince = Scheduler.Step;
                Note("calm");
            }
            // What a former master may still store to is free when its slot has another term.
            if (_calmSince >= 0 && (Scheduler.Step - _calmSince) / (CalmSteps / 4) % 2 != _turn)
            {
                _turn = 1 - _turn;
                foreach (SimulatedMaster master in _masters)
                    master.IsToEnd = true;
            }
            if (_calmSince >= 0 && IsDone())
                Scheduler.Finish();
            else if (_calmSince >= 0 && Scheduler.Step > _calmSince + CalmSteps)
                throw new InvalidOperationException($"what is not in use does not come back: {Space.State.Tree.DeletedCount} files wait for {string.Join("; ", AnyMaster()?.State.ReclaimWaits ?? ["a master"])}; the log ends at {Space.Last}; {string.Join("; ", _hosts.SelectMany(h => h.Mounts))}");
            Scheduler.Sleep(50);
        }
    }

    private bool IsDone()
    {
        if (AnyMaster() is not { } master || master.State.Replay.Position.Sequence.Value != Space.Last || Space.State.Tree.DeletedCount > 0 || _masters.Count != 1)
            return false;
        if (_hosts.Any(h => h.Mounts.Count == 0 || h.Mounts.Any(m => !m.IsOpen || m.Replica.Position.Sequence.Value != Space.Last)))
            return false;
        RequireSpace(master);
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
        foreach (SimulatedHost host in _hosts)
        {
            foreach (OpenFile file in host.Reachable)
            {
                if (file.Inode.Number != inode && file.Extents.Any(e => SettledSpace.Overlap(e, extent)))
                    throw new InvalidOperationException($"P2 broken: {extent} {(inode == 0 ? "becomes free" : $"becomes inode {inode}")}, and {host.Name} reaches it as inode {file.Inode.Number}");
            }
        }
    }

    /// <summary>What is stored to, at this moment, is reached by nobody else; and who stores may.</summary>
    private void OnAccess(string operation, long offset)
    {
        if (operation == FakeOperation.Zero)
        {
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

    /// <summary>Time as steps, 0.2 ms each; when all is calm it runs faster.</summary>
    private sealed class StepClock(HolderSimulation simulation) : TimeProvider
    {
        private long Now => simulation._calmSince < 0 ? simulation.Scheduler?.Step ?? 0 : simulation._calmSince + (simulation.Scheduler.Step - simulation._calmSince) * CalmTicks;

        public override long TimestampFrequency => 5000;

        public override long GetTimestamp() => Now;

        public override DateTimeOffset GetUtcNow() => DateTimeOffset.UnixEpoch.AddDays(1).AddMilliseconds(Now / 5.0);
    }
}
