using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.TestSupport;
using Famfs.TestSupport.Dax;
using Famfs.TestSupport.Log;
using Famfs.V1;

namespace Famfs.Simulation;

/// <summary>What a run went through, for the sums that are printed.</summary>
internal readonly record struct SimulationCounts(long Steps, long Switches, int Pauses, int Kills, int Crashes, int Claims, int Terms, int Deposed, int Advances, int Records, int Acknowledged, int Unsettled);

/// <summary>
/// Promise P1 with the real log code: masters in different slots take over from each other at any moment,
/// readers tail, processes pause, die and restart between any two accesses to memory, hosts crash and lose
/// what their caches had not written back.
/// <para>Checked all the time: everything that a reader is handed, that a master acknowledges, or that a
/// master is active behind, is one history (<see cref="SettledHistory"/>); positions never go back; nobody
/// calls sound memory corrupt. In the end a last master and all readers come to the same history.</para>
/// </summary>
internal sealed class LogSimulation
{
    private const int MasterCount = 3;
    private const long SmallSegment = 5 * MediaLayout.SegmentHeaderBytes;
    private const long MemoryBytes = 64L * MediaLayout.UnitBytes;

    private readonly int _seed;
    private readonly Random _random;
    private readonly FakeSharedMemory _memory;
    private readonly CooperativeScheduler _scheduler;
    private readonly TimeProvider _clock;
    private readonly SettledHistory _settled = new();
    private readonly List<LogReader> _lastReaders = [];
    private readonly int _readers;
    private readonly long _steps;
    private readonly int _patience;
    private ulong _nextValue;
    private int _claims;
    private int _terms;
    private int _deposed;
    private int _advances;
    private int _unsettled;

    public LogSimulation(int seed)
    {
        _seed = seed;
        _random = new(seed);
        bool coherent = _random.Next(4) == 0;
        _readers = _random.Next(2, 4);
        _steps = _random.Next(8000, 24_000);
        // Turns that a master waits before it takes over: hardly any, or time for others to serve.
        _patience = Choose(50, 500, 2000);
        _memory = new(MemoryBytes, _random.Next(), coherent)
        {
            AccidentOneIn = Choose(0, 3, 8, 40),
            CacheLines = Choose(64, 1024, 8192),
        };
        ChaosOptions chaos = new()
        {
            LoadSwitchOneIn = Choose(2, 10, 50),
            SwitchOneIn = Choose(1, 2, 6, 20),
            PauseOneIn = Choose(0, 30, 100, 400),
            LongestPause = Choose(300, 1500, 4000),
            DecisivePauseOneIn = Choose(0, 5, 20),
            KillOneIn = Choose(0, 1000, 4000),
            CrashOneIn = Choose(0, 1500, 6000),
        };
        // Slots that nobody uses are read at every turn and hold no secrets.
        long unusedSlots = MediaLayout.AnchorOffset + (long)MasterCount * MediaLayout.AnchorStride;
        _clock = new StepClock(() => _scheduler!.Step);
        _scheduler = new(_random.Next(), _memory, chaos, offset => offset >= unusedSlots && offset < MediaLayout.HostTableOffset, IsClaimOrTail);
    }

    /// <summary>Runs to the end; throws on the first violation.</summary>
    public SimulationCounts Run()
    {
        using CooperativeScheduler scheduler = _scheduler;
        Prepare();
        for (int slot = 0; slot < MasterCount; slot++)
        {
            int own = slot;
            Random random = new(_random.Next());
            _scheduler.Spawn($"master-{slot}", HostName(slot), process => LiveAsMaster(process, own, random));
        }
        for (int i = 0; i < _readers; i++)
        {
            // The first readers share a host, and so a cache, with a master; the last has its own.
            Random random = new(_random.Next());
            int index = i;
            _lastReaders.Add(null!);
            _scheduler.Spawn($"reader-{i}", i == _readers - 1 ? "host-r" : HostName(i), process => LiveAsReader(process, index, random));
        }
        _scheduler.Run(_steps);
        if (_scheduler.Failure is { } failure)
            throw new InvalidOperationException($"seed {_seed}: {failure.Message}", failure);
        Conclude();
        return new(_scheduler.Step, _scheduler.Switches, _scheduler.Pauses, _scheduler.Kills, _scheduler.Crashes, _claims, _terms, _deposed, _advances, _settled.Records.Count, _settled.Acknowledged, _unsettled);
    }

    private static bool IsClaimOrTail(long offset) =>
        offset >= MediaLayout.AnchorOffset && offset < MediaLayout.HostTableOffset && (offset - MediaLayout.AnchorOffset) % MediaLayout.AnchorStride < 3 * DaxDevice.LineBytes;

    private static string HostName(int slot) => $"host-{slot}";

    private static Guid HostId(int slot) => new(slot + 1, 0x1111, 0x4111, 0x81, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11);

    private void Prepare()
    {
        using (DaxDevice device = _memory.Attach(HostName(0)))
        {
            NativeFormatter.Format([device], new() { Host = HostId(0), Clock = new FrozenClock(), FileSystem = new("5eed5eed-1111-4111-8111-111111111111"), MaxHosts = 1 });
        }
        using DevicePool pool = OpenPool(HostName(0));
        TestMaster first = TestMaster.Start(pool, 0, HostId(0), HostId(100));
        for (int slot = 1; slot < MasterCount; slot++)
            first.Grant(slot, HostId(slot));
        _settled.Rely("setup", first.History.Records);
        _memory.Settle();
    }

    private DevicePool OpenPool(string host) => TestFormats.All.Open([_memory.Attach(host)]);

    private void LiveAsMaster(SimulatedProcess process, int slot, Random random)
    {
        for (int idle = random.Next(_patience); idle > 0; idle--)
            _scheduler.Yield();
        FakeDaxDevice device = _memory.Attach(process.Host);
        if (!device.TryLockByte(slot, out IDisposable? held))
            throw new InvalidOperationException($"the lock of slot {slot} is held by nobody who lives");
        using IDisposable slotLock = held;
        using DevicePool pool = TestFormats.All.Open([device]);
        try
        {
            _claims++;
            Mastership mastership = Mastership.Claim(pool, slot, HostId(slot), new Guid(random.Next(1, int.MaxValue), 1, 0x4111, 0x81, 1, 1, 1, 1, 1, 1, 1), _clock);
            int reliedOnAtClaim = _settled.Records.Count;
            TestMaster master = TestMaster.Activate(mastership, TestMaster.Replay(mastership.Reader, pool));
            _terms++;
            // The check behind the anchor has passed: whoever claims from now on finds it. It may have been
            // overtaken since, so it has not always what others rely on by now.
            SettledHistory.RequireWhole($"{process.Name} term {master.Writer.Term}", master.History.Records.Count, reliedOnAtClaim);
            _settled.Rely($"{process.Name} term {master.Writer.Term}", master.History.Records);
            Serve(process, master, random);
        }
        catch (FamfsException error) when (error.Reason == ErrorReason.NotMaster)
        {
            _deposed++;
        }
    }

    private void Serve(SimulatedProcess process, TestMaster master, Random random)
    {
        for (int batches = random.Next(1, 25); batches > 0 && !_scheduler.Quiescing; batches--)
        {
            int known = master.History.Records.Count;
            if (random.Next(4) == 0 || master.Writer.RemainingBytes < 8000)
            {
                master.GoOn(SmallSegment);
                _advances++;
            }
            else
            {
                // Now and then enough to reach over a page, the grain in which a slot's space is given out.
                int count = random.Next(4) == 0 ? random.Next(40, 120) : random.Next(1, 4);
                ulong[] values = [.. Enumerable.Range(0, count).Select(_ => ++_nextValue)];
                master.PublishValues(values);
            }
            // Publish has returned: its caller is answered.
            HistoryRecord[] made = [.. master.History.Records.Skip(known)];
            _settled.Rely($"{process.Name} term {master.Writer.Term}", made);
            foreach (HistoryRecord record in made)
                _settled.Acknowledge(record.Sequence);
            if (random.Next(5) == 0)
                master.Writer.Tick((ulong)batches);
            for (int idle = random.Next(3); idle > 0; idle--)
                _scheduler.Yield();
        }
    }

    private void LiveAsReader(SimulatedProcess process, int index, Random random)
    {
        using FakeDaxDevice device = _memory.Attach(process.Host);
        DevicePool pool = TestFormats.All.Open([device]);
        LogReader reader = new(pool, clock: _clock);
        LogReader? before = _lastReaders[index];
        if (before is not null && before.Position.Sequence.Value > 0 && random.Next(3) == 0)
            reader.Resume(before.Position, before.Offset);
        _lastReaders[index] = reader;
        while (!_scheduler.Quiescing)
        {
            LogPosition position = reader.Position;
            long offset = reader.Offset;
            PollVerdict verdict = reader.Poll(out LogBlock block);
            if (reader.Position.Sequence.Value < position.Sequence.Value || reader.Position.Term < position.Term || reader.Offset < offset)
                throw new InvalidOperationException($"P1 broken: {process.Name} went back from {position} to {reader.Position}");
            switch (verdict)
            {
                case PollVerdict.Records:
                    LogHistory records = new(pool.Primary.FileSystem);
                    records.Apply(block);
                    _settled.Rely(process.Name, records.Records);
                    break;
                case PollVerdict.Diverged:
                    throw new InvalidOperationException($"P1 broken: {process.Name} at {position} is told that its past is another one");
                case PollVerdict.TakeoverPending:
                    _unsettled++;
                    _scheduler.Yield();
                    break;
                default:
                    _scheduler.Yield();
                    break;
            }
        }
    }

    /// <summary>Quiet again: one more master, and everybody has to come to its history.</summary>
    private void Conclude()
    {
        int slot = _random.Next(MasterCount);
        using DevicePool pool = OpenPool(HostName(slot));
        TestMaster last = TestMaster.Start(pool, slot, HostId(slot), HostId(101));
        SettledHistory.RequireWhole("the last master", last.History.Records.Count, _settled.Records.Count);
        last.PublishValues(++_nextValue);
        _settled.Rely("the last master", last.History.Records);
        for (int i = 0; i < _readers; i++)
        {
            // A reader whose host has crashed or whose process has died since goes on from its position.
            using DevicePool fresh = OpenPool($"host-{i}");
            LogReader reader = new(fresh);
            LogReader before = _lastReaders[i];
            if (before.Position.Sequence.Value > 0)
                reader.Resume(before.Position, before.Offset);
            RequireEnd($"reader-{i}", reader, last);
        }
        using DevicePool other = OpenPool("host-new");
        RequireEnd("a new reader", new LogReader(other), last);
        if (_settled.Records.Count != last.History.Records.Count)
            throw new InvalidOperationException($"seed {_seed}: {_settled.Records.Count} records are relied on, the last master has {last.History.Records.Count}");
        ulong[] values = [.. last.History.Records.Where(r => r.Type == RecordType.DirectoryMade).Select(r => Convert.ToUInt64(r.Payload[..16], 16))];
        if (values.Distinct().Count() != values.Length)
            throw new InvalidOperationException($"seed {_seed}: a value is in the history twice");
    }

    private void RequireEnd(string who, LogReader reader, TestMaster last)
    {
        LogHistory history = new(last.Writer.Position.FileSystem);
        PollVerdict verdict;
        while ((verdict = reader.Poll(out LogBlock block)) == PollVerdict.Records)
            history.Apply(block);
        _settled.Rely(who, history.Records);
        if (verdict != PollVerdict.UpToDate || reader.Position != last.Writer.Position)
            throw new InvalidOperationException($"seed {_seed}: {who} ends {verdict} at {reader.Position}, the last master at {last.Writer.Position}");
    }

    private int Choose(params int[] values) => values[_random.Next(values.Length)];

    private sealed class FrozenClock : TimeProvider
    {
        public override DateTimeOffset GetUtcNow() => DateTimeOffset.UnixEpoch;
    }

    /// <summary>Time as steps of the schedule: a second is long enough for several ticks of a master that is not paused.</summary>
    private sealed class StepClock(Func<long> step) : TimeProvider
    {
        public override long TimestampFrequency => 3000;

        public override long GetTimestamp() => step();

        public override DateTimeOffset GetUtcNow() => DateTimeOffset.UnixEpoch;
    }
}
