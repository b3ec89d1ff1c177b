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

/// <summary>
/// Promise P1 with the real log code: masters in different slots take over from each other at any moment,
/// readers tail, processes pause, die and restart between any two accesses to memory, hosts crash and lose
/// what their caches had not written back. In most runs one line of memory is damaged at some moment.
/// <para>Checked all the time: everything that a reader is handed, that a master acknowledges, or that a
/// master is active behind, is one history (<see cref="SettledHistory"/>); positions never go back; nobody
/// acknowledges after a higher claim; a reader that says that there is no more has all that was acknowledged; nobody
/// calls sound memory corrupt. In the end a last master and all readers come to the same history, or the damage is said.</para>
/// </summary>
internal sealed class LogSimulation
{
    private const int MasterCount = 3;

    /// <summary>Bytes of a batch at whose stores a master waits for a claimant.</summary>
    private const int MeetingBytes = 256;

    /// <summary>How long, in steps.</summary>
    private const int LongestWait = 3000;

    /// <summary>Records of the largest snapshot: a larger one takes most of a run's steps.</summary>
    private const int LargestSnapshot = 800;
    private const int TailOffset = 2 * AnchorClaim.Size;
    private const long SmallSegment = 5 * MediaLayout.SegmentHeaderBytes;
    private const long MemoryBytes = 64L * MediaLayout.UnitBytes;

    private static readonly Guid s_fileSystem = new("5eed5eed-1111-4111-8111-111111111111");

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
    private readonly int _dawdling;
    private readonly int _doomOneIn;

    // A master waits at one in so many of its stores until another one adopts what is there; 0: never.
    private readonly int _meetsOneIn;

    // A master compacts the log instead of one in so many batches.
    private readonly int _compactsOneIn;

    // The highest generation that was entered.
    private ulong _newestGeneration = 1;

    // Of every slot: its master, which waits so, or has just gone on.
    private readonly SimulatedProcess?[] _waiting = new SimulatedProcess?[MasterCount];

    // Of every slot: it takes over now, because somebody waits for that.
    private readonly bool[] _summoned = new bool[MasterCount];

    // Processes between their claim and their active copy.
    private readonly HashSet<SimulatedProcess> _claimants = [];

    // Two masters are processes of one machine, as two hosts: they share a cache, and power.
    private readonly bool _sharesCache;
    private readonly LineDamage? _damage;
    private readonly SimulationCounts _counts = new();

    // What claimants have adopted, whether they became active or not: its place and its bytes.
    private readonly List<(long Place, byte[] Frames)> _adopted = [];

    // Of every slot: the number of claims of all slots when it had claimed last; 0: not yet.
    private readonly int[] _claimedAt = new int[MasterCount];

    // Of every slot: claims in a row that led to nothing.
    private readonly int[] _overtaken = new int[MasterCount];

    // A process died in the middle of a claim or an active copy of the slot, which may have torn it.
    private readonly bool[] _diedWriting = new bool[MasterCount];

    // The slot has had a term that was active.
    private readonly bool[] _wasActive = new bool[MasterCount];
    private ulong _nextValue;

    // Segments of the history, at most.
    private int _segments = 2;

    // Of every slot: where its master stores next, or would have.
    private readonly long[] _ends = new long[MasterCount];

    // Of every slot: the step at which its master began what ends with a tail; and that of the damage.
    private readonly long[] _actedAt = new long[MasterCount];
    private long _damageStep;

    // The highest term whose claim was in memory whole.
    private Term _highestClaim;

    public LogSimulation(int seed)
    {
        _seed = seed;
        _random = new(seed);
        bool coherent = _random.Next(4) == 0;
        _readers = _random.Next(2, 4);
        _steps = _random.Next(10_000, 40_000);
        // Turns that a master waits before it takes over: hardly any, or time for others to serve.
        _patience = Choose(30, 300, 2000, 4000);
        // Turns between what a claimant has read and its active copy.
        _dawdling = Choose(0, 0, 30, 300);
        _doomOneIn = Choose(3, 10, 1000);
        _meetsOneIn = Choose(0, 4, 16);
        _compactsOneIn = Choose(int.MaxValue, int.MaxValue, 2, 6);
        if (_compactsOneIn != int.MaxValue)
        {
            // It takes some thousands of steps, which others leave a master in some runs alone.
            _steps *= 3;
            _patience = Choose(2000, 8000, 16_000);
        }
        _sharesCache = _random.Next(3) == 0;
        _memory = new(MemoryBytes, _random.Next(), coherent)
        {
            LateLines = true,
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
            LongestBoot = Choose(20, 2000),
        };
        _clock = new StepClock(() => _scheduler!.Step);
        _damage = _random.Next(4) == 0 ? null : new(_memory, new(_random.Next()), MasterCount, s_fileSystem, _steps);
        _scheduler = new(_random.Next(), _memory, chaos, IsQuiet, IsDecisive)
        {
            BeforeAccess = OnAccess,
        };
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
            _scheduler.Spawn(MasterName(slot), MachineOf(slot), process => LiveAsMaster(process, own, random));
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
        try
        {
            if (_scheduler.Failure is { } failure)
                throw failure;
            Conclude();
        }
        catch (Exception error)
        {
            throw new InvalidOperationException($"seed {_seed}{(_damage is { Done: true } ? $" ({_damage})" : "")}: {error.Message}", error);
        }
        _counts.Add(Count.Steps, _scheduler.Step);
        _counts.Add(Count.Switches, _scheduler.Switches);
        _counts.Add(Count.Pauses, _scheduler.Pauses);
        _counts.Add(Count.Kills, _scheduler.Kills);
        _counts.Add(Count.Crashes, _scheduler.Crashes);
        _counts.Add(Count.Records, _settled.Records.Count);
        _counts.Add(Count.Acknowledged, _settled.Acknowledged);
        _counts.Add(Count.Evictions, _memory.Evicted);
        _counts.Add(Count.LateLines, _memory.LandedLate);
        _counts.Add(Count.SharedCaches, _sharesCache ? 1 : 0);
        return _counts;
    }

    /// <summary>Superblocks do not change, slots that nobody uses are read at every turn and hold no secrets, nor does space that
    /// nobody has stored to.</summary>
    private bool IsQuiet(string operation, long offset) =>
        offset < MediaLayout.AnchorOffset
        || (offset >= MediaLayout.AnchorOffset + (long)MasterCount * MediaLayout.AnchorStride && offset < MediaLayout.HostTableOffset)
        || (operation is FakeOperation.Load or FakeOperation.Invalidate && _memory.IsUntouched(offset));

    /// <summary>Claims and tails; and where a master stores while somebody else adopts what is there.</summary>
    private bool IsDecisive(long offset) => IsClaimOrTail(offset) || _ends.Contains(offset);

    private static bool IsClaimOrTail(long offset) =>
        offset >= MediaLayout.AnchorOffset && offset < MediaLayout.HostTableOffset && (offset - MediaLayout.AnchorOffset) % MediaLayout.AnchorStride < 3 * DaxDevice.LineBytes;

    private string MachineOf(int slot) => HostName(_sharesCache && slot == 1 ? 0 : slot);

    private void OnAccess(string operation, long offset)
    {
        if (_scheduler.Quiescing)
            return;
        _damage?.Pass(_scheduler.Step, operation, offset);
        if (_damage is { Done: true } && _damageStep == 0)
            _damageStep = _scheduler.Step + 1;
        if (_meetsOneIn > 0 && Array.FindIndex(_ends, e => offset >= e && offset < e + MeetingBytes) is >= 0 and var slot)
            Meet(operation, slot, offset == _ends[slot]);
    }

    /// <summary>Lets a master that stores at the end of the log and a claimant that looks there meet: left to chance that is rare. The
    /// one waits with its store, the other one with its load, and then the first one before it writes back.</summary>
    private void Meet(string operation, int slot, bool atEnd)
    {
        SimulatedProcess self = _scheduler.Current;
        long now = _scheduler.Step;
        if (self == _waiting[slot])
        {
            if (operation == FakeOperation.WriteBack && atEnd)
                (_waiting[slot], self.PausedUntil) = (null, now + _random.Next(200));
        }
        else if (_claimants.Contains(self))
        {
            if (operation != FakeOperation.Load || !atEnd || _waiting[slot] is not { } other || other.PausedUntil <= now)
                return;
            other.PausedUntil = now;
            self.PausedUntil = now + _random.Next(100);
        }
        else if (operation == FakeOperation.Store && self.Name == MasterName(slot) && _random.Next(_meetsOneIn) == 0)
        {
            (_waiting[slot], self.PausedUntil) = (self, now + LongestWait);
            // Slots 0 and 1 are those that may share a cache.
            _summoned[slot < 2 && _random.Next(3) > 0 ? 1 - slot : (slot + 1 + _random.Next(MasterCount - 1)) % MasterCount] = true;
        }
    }

    private static string MasterName(int slot) => $"master-{slot}";

    private static string HostName(int slot) => $"host-{slot}";

    private static Guid HostId(int slot) => new(slot + 1, 0x1111, 0x4111, 0x81, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11);

    private void Prepare()
    {
        using (DaxDevice device = _memory.Attach(HostName(0)))
        {
            NativeFormatter.Format([device], new() { Host = HostId(0), Clock = new FrozenClock(), FileSystem = s_fileSystem, MaxHosts = 1 });
        }
        using DevicePool pool = OpenPool(HostName(0));
        TestMaster first = TestMaster.Start(pool, 0, HostId(0), HostId(100));
        for (int slot = 1; slot < MasterCount; slot++)
            first.Grant(slot, HostId(slot));
        _wasActive[0] = true;
        _settled.Rely("setup", first.History.Records);
        _memory.Settle();
    }

    private DevicePool OpenPool(string host) => TestFormats.All.Open([_memory.Attach(host)]);

    private void LiveAsMaster(SimulatedProcess process, int slot, Random random)
    {
        _claimants.Remove(process);
        if (_waiting[slot] == process)
            _waiting[slot] = null;
        // Who was overtaken waits longer, or nobody would ever serve.
        for (int turns = random.Next(_patience << Math.Min(_overtaken[slot], 2)); turns > 0 && !_summoned[slot] && !_scheduler.Quiescing; turns--)
            _scheduler.Yield();
        _summoned[slot] = false;
        FakeDaxDevice device = _memory.Attach(process.Host);
        if (!device.TryLockByte(slot, out IDisposable? held))
            throw new InvalidOperationException($"the lock of slot {slot} is held by nobody who lives");
        using IDisposable slotLock = held;
        using DevicePool pool = TestFormats.All.Open([device]);
        try
        {
            Guid id = new(random.Next(1, int.MaxValue), 1, 0x4111, 0x81, 1, 1, 1, 1, 1, 1, 1);
            Mastership mastership = Writing(slot, () => Mastership.Claim(pool, slot, HostId(slot), id, _clock));
            CountClaim(slot);
            _claimants.Add(process);
            _highestClaim = new(Math.Max(_highestClaim.Value, mastership.Term.Value));
            int reliedOnAtClaim = _settled.Records.Count;
            LogHistory history = TestMaster.Replay(mastership.Reader, pool, block => Adopt(mastership.Reader, block));
            if (random.Next(2) == 0)
                _scheduler.Yield(random.Next(_dawdling + 1));
            RequireAdopted(process.Name);
            if (random.Next(_doomOneIn) == 0)
                _scheduler.Doom(process, host: random.Next(2) == 0, steps: 300);
            _claimants.Remove(process);
            _actedAt[slot] = _scheduler.Step;
            TestMaster master = Writing(slot, () => TestMaster.Activate(mastership, history));
            _overtaken[slot] = 0;
            _wasActive[slot] = true;
            RequireTail(process, slot, master);
            _counts.Add(Count.Terms);
            _segments++;
            _counts.Add(Count.Adoptions, mastership.Reader.AdoptedFrom is null ? 0 : 1);
            // The check behind the anchor has passed: whoever claims from now on finds it. It may have been
            // overtaken since, so it has not always what others rely on by now.
            SettledHistory.RequireWhole($"{process.Name} term {master.Writer.Term}", master.History.Records.Count, reliedOnAtClaim);
            _settled.Rely($"{process.Name} term {master.Writer.Term}", master.History.Records);
            Serve(process, slot, pool, master, random);
        }
        catch (FamfsException error) when (error.Reason == ErrorReason.NotMaster)
        {
            _overtaken[slot]++;
            _counts.Add(Count.Depositions);
        }
        catch (FamfsException error) when (error.Reason == ErrorReason.MediaCorrupt && _damage is { Done: true })
        {
            // Said, and nothing done: that is all that is asked of somebody who meets damage.
            _counts.Add(Count.MastersRefused);
            _scheduler.Yield();
        }
    }

    private void Adopt(LogReader reader, LogBlock block)
    {
        if (reader.AdoptedFrom is not { } from || block.FirstSequence.Value < from.Value)
            return;
        SegmentRef segment = reader.Chain.First(s => s.Id == block.SegmentId);
        _adopted.Add((segment.DeviceOffsetOf(block.EndOffset - block.Frames.Length), block.Frames.ToArray()));
        // At once: later the one who stored it may have written it back himself.
        RequireInMemory(_adopted[^1], "the claimant");
    }

    /// <summary>What any claimant has adopted is in memory, and stays there as it was, whoever has become active since: that claimant
    /// may still do so (SAFETY S26).</summary>
    private void RequireAdopted(string who)
    {
        foreach ((long Place, byte[] Frames) adopted in _adopted)
            RequireInMemory(adopted, who);
    }

    private void RequireInMemory((long Place, byte[] Frames) adopted, string who)
    {
        byte[] now = new byte[adopted.Frames.Length];
        _memory.ReadMemory(adopted.Place, now);
        if (!now.AsSpan().SequenceEqual(adopted.Frames) && !(_damage is { Done: true } && _damage.Place < adopted.Place + now.Length && adopted.Place < _damage.Place + DaxDevice.LineBytes))
            throw new InvalidOperationException($"P1 broken: frames at {adopted.Place} that a claimant adopted are not in memory when {who} looks");
    }

    /// <summary>A slot that claims again, and others have claimed meanwhile, meets what they have made of what it left.</summary>
    private void CountClaim(int slot)
    {
        long claims = _counts.Add(Count.Claims);
        _counts.Add(Count.RestartsBehindOthers, _claimedAt[slot] > 0 && claims > _claimedAt[slot] + 1 ? 1 : 0);
        _claimedAt[slot] = (int)claims;
    }

    /// <summary>Does what writes claims or active copies.</summary>
    private T Writing<T>(int slot, Func<T> act)
    {
        try
        {
            return act();
        }
        catch (Exception error) when (error is not FamfsException)
        {
            _diedWriting[slot] = true;
            throw;
        }
    }

    private void Serve(SimulatedProcess process, int slot, DevicePool pool, TestMaster master, Random random)
    {
        for (int batches = random.Next(1, 25); batches > 0 && !_scheduler.Quiescing; batches--)
        {
            _ends[slot] = master.Writer.Segment.DeviceOffsetOf(master.Writer.Tail);
            int known = master.History.Records.Count;
            Term claimed = _highestClaim;
            if (random.Next(_compactsOneIn) == 0 && master.Writer.RemainingBytes >= 12_000 && master.History.Records.Count < LargestSnapshot && master.History.FreeOffset + (16 * MediaLayout.UnitBytes) < MemoryBytes)
            {
                _actedAt[slot] = _scheduler.Step;
                if (random.Next(_doomOneIn) == 0)
                    _scheduler.Doom(process, host: random.Next(2) == 0, steps: 1000);
                ulong generation = master.Writer.Position.Generation;
                bool small = random.Next(2) == 0;
                _counts.Add(Count.CompactionsBegun);
                if (Writing(slot, () => master.TryCompact(pool, _clock, least => small ? SmallSegment : least, () => master.PublishValues([.. Enumerable.Range(0, random.Next(1, 5)).Select(_ => ++_nextValue)]))))
                {
                    RequireTail(process, slot, master);
                    _counts.Add(Count.Compactions);
                    _newestGeneration = Math.Max(_newestGeneration, generation + 1);
                }
                _segments++;
            }
            else if (random.Next(4) == 0 || master.Writer.RemainingBytes < 32_000)
            {
                _actedAt[slot] = _scheduler.Step;
                Writing(slot, () => GoOn(master, random));
                RequireTail(process, slot, master);
                _counts.Add(Count.Advances);
                _segments++;
            }
            else
            {
                // Now and then enough to reach over pages, the grain in which a slot's space is given out.
                int count = random.Next(12) == 0 ? random.Next(200, 400) : random.Next(4) == 0 ? random.Next(40, 120) : random.Next(1, 4);
                ulong[] values = [.. Enumerable.Range(0, count).Select(_ => ++_nextValue)];
                // Frames that are stored and not published are what the next claimant has to judge.
                if (random.Next(_doomOneIn) == 0)
                    _scheduler.Doom(process, host: random.Next(4) == 0, steps: 20 + 3 * count);
                master.PublishValues(values);
            }
            // It has returned: its caller is answered.
            RequireNoClaimAbove(process, master, claimed);
            HistoryRecord[] made = [.. master.History.Records.Skip(known)];
            _settled.Rely($"{process.Name} term {master.Writer.Term}", made);
            foreach (HistoryRecord record in made)
                _settled.Acknowledge(record.Sequence);
            if (random.Next(5) == 0)
            {
                claimed = _highestClaim;
                if (_damage?.StrikeTail(slot) == true)
                    _damageStep = _scheduler.Step;
                _actedAt[slot] = _scheduler.Step;
                master.Writer.Tick((ulong)batches);
                RequireNoClaimAbove(process, master, claimed);
                RequireTail(process, slot, master);
            }
            _scheduler.Yield(random.Next(3));
        }
    }

    /// <summary>What began after a higher claim was in memory is not acknowledged, whatever line of that claim is lost.</summary>
    private static void RequireNoClaimAbove(SimulatedProcess process, TestMaster master, Term claimed)
    {
        if (claimed > master.Writer.Term)
            throw new InvalidOperationException($"P1 broken: {process.Name} acknowledges in term {master.Writer.Term} what began after the claim of term {claimed}");
    }

    /// <summary>Behind each active copy and each tick the tail is in memory, and belongs to that copy, whatever the line was before
    /// (SAFETY S25); unless it was damaged at this very moment.</summary>
    private void RequireTail(SimulatedProcess process, int slot, TestMaster master)
    {
        long anchor = MediaLayout.AnchorOffset + (long)slot * MediaLayout.AnchorStride;
        byte[] word = new byte[sizeof(ulong)];
        _memory.ReadMemory(anchor + TailOffset, word);
        TailWord tail = new(BitConverter.ToUInt64(word));
        bool isOfCopy = LineDamage.NewestOf(_memory, s_fileSystem, slot) is not { } newest || (ushort)(newest.Counter - tail.Tag) <= 1;
        if ((tail.LogOffset != master.Writer.Tail || !isOfCopy) && !(_damage is { Done: true } && _damage.Place >= anchor && _damage.Place < anchor + MediaLayout.AnchorStride && _damageStep > _actedAt[slot]))
            throw new InvalidOperationException($"S25 broken: the tail of {process.Name} is {tail.LogOffset} in memory with tag {tail.Tag}, and should be {master.Writer.Tail}");
    }

    private static bool GoOn(TestMaster master, Random random)
    {
        if (random.Next(2) == 0 && master.TryGoOnInSpare())
            return true;
        bool large = random.Next(5) == 0 && master.History.FreeOffset + 2 * MediaLayout.UnitBytes < MemoryBytes;
        master.GoOn(large ? MediaLayout.UnitBytes : SmallSegment);
        return true;
    }

    private void LiveAsReader(SimulatedProcess process, int index, Random random)
    {
        using FakeDaxDevice device = _memory.Attach(process.Host);
        DevicePool pool = TestFormats.All.Open([device]);
        LogReader reader = new(pool, _clock);
        LogReader? before = _lastReaders[index];
        if (before is not null && before.Position.Sequence.Value > 0 && random.Next(3) == 0)
            reader.Resume(before.Position, before.Offset);
        _lastReaders[index] = reader;
        LogHistory records = new(pool.Primary.FileSystem);
        bool inSnapshot = false;
        PollVerdict last = default;
        while (!_scheduler.Quiescing)
        {
            LogPosition position = reader.Position;
            long offset = reader.Offset;
            ulong acknowledged = _settled.LastAcknowledged;
            PollVerdict verdict = Poll(reader, out LogBlock block, out bool isDamageSaid);
            isDamageSaid |= verdict == PollVerdict.TailLost;
            if (isDamageSaid && last is not (PollVerdict.LookAgain or PollVerdict.TailLost))
                throw new InvalidOperationException($"S25 broken: {process.Name} at {position} says damage without having looked again");
            last = verdict;
            (LogPosition now, bool sameGeneration) = (reader.Position, reader.Position.Generation == position.Generation);
            if (now.Sequence.Value < position.Sequence.Value || now.Term < position.Term || now.Generation < position.Generation || (sameGeneration && reader.Offset < offset))
                throw new InvalidOperationException($"P1 broken: {process.Name} went back from {position} to {reader.Position}");
            switch (verdict)
            {
                case PollVerdict.Records:
                    _counts.Add(Count.LateReads, position.Sequence.Value > 0 && block.Generation < _newestGeneration ? 1 : 0);
                    _counts.Add(Count.GenerationsPassed, position.Sequence.Value > 0 && !sameGeneration ? 1 : 0);
                    // The frames of a snapshot come in several blocks, and count from the first.
                    records = block.IsSnapshot && !inSnapshot || !block.IsSnapshot ? new(pool.Primary.FileSystem) : records;
                    inSnapshot = block.IsSnapshot;
                    records.Apply(block);
                    _settled.Rely(process.Name, records.Records);
                    break;
                case PollVerdict.UpToDate:
                    RequireAll(process.Name, reader, acknowledged);
                    _scheduler.Yield();
                    break;
                case PollVerdict.TakeoverPending:
                    _counts.Add(Count.UnsettledPolls);
                    _scheduler.Yield();
                    break;
                case PollVerdict.TailLost:
                    _counts.Add(Count.TailsLost);
                    _scheduler.Yield();
                    break;
                default:
                    _scheduler.Yield();
                    break;
            }
        }
    }

    /// <summary>A poll. What cannot be read, and may be damaged, counts as looked at again.</summary>
    private PollVerdict Poll(LogReader reader, out LogBlock block, out bool isDamageSaid)
    {
        LogPosition position = reader.Position;
        block = default;
        isDamageSaid = false;
        try
        {
            PollVerdict verdict = reader.Poll(out block);
            // Damage in a generation that is over is the end for who still reads it.
            if (verdict == PollVerdict.Diverged && reader.Divergence.Contains("is over and cannot be read any more", StringComparison.Ordinal) && _damage is { Done: true })
            {
                _counts.Add(Count.ReadersRefused);
                isDamageSaid = true;
                return PollVerdict.LookAgain;
            }
            return verdict != PollVerdict.Diverged ? verdict : throw new InvalidOperationException($"P1 broken: a reader at {position} is told that its past is another one");
        }
        catch (FamfsException error) when (error.Reason == ErrorReason.MediaCorrupt && _damage is { Done: true })
        {
            _counts.Add(Count.ReadersRefused);
            isDamageSaid = true;
            return PollVerdict.LookAgain;
        }
    }

    /// <summary>Damage hides no acknowledged record from a reader without its being said.</summary>
    private static void RequireAll(string who, LogReader reader, ulong acknowledged)
    {
        if (reader.Position.Sequence.Value < acknowledged)
            throw new InvalidOperationException($"P1 broken: {who} says that it has everything at {reader.Position}, and record {acknowledged} is acknowledged");
    }

    /// <summary>Quiet again: one more master, and everybody has to come to its history.</summary>
    private void Conclude()
    {
        RequireAdopted("everybody");
        _damage?.Strike();
        // While nobody serves, and nobody heals.
        ReadAlone("a reader before the last master");
        int slot = _random.Next(MasterCount);
        using DevicePool pool = OpenPool(MachineOf(slot));
        TestMaster last;
        try
        {
            last = TestMaster.Start(pool, slot, HostId(slot), HostId(101));
        }
        catch (FamfsException error) when (error.Reason == ErrorReason.MediaCorrupt && _damage is { Done: true })
        {
            ConcludeRefused(error);
            return;
        }
        CountEnd(healed: true);
        SettledHistory.RequireWhole("the last master", last.History.Records.Count, _settled.Records.Count);
        last.PublishValues(++_nextValue);
        _settled.Rely("the last master", last.History.Records);
        for (int i = 0; i < _readers; i++)
        {
            // A reader whose host has crashed or whose process has died since goes on from its position.
            using DevicePool fresh = OpenPool($"host-{i}");
            LogReader reader = new(fresh, new HastyClock());
            LogReader before = _lastReaders[i];
            if (before.Position.Sequence.Value > 0)
                reader.Resume(before.Position, before.Offset);
            RequireEnd($"reader-{i}", reader, last);
        }
        using DevicePool other = OpenPool("host-new");
        RequireEnd("a new reader", new LogReader(other, new HastyClock()), last);
        if (_settled.Records.Count != last.History.Records.Count)
            throw new InvalidOperationException($"{_settled.Records.Count} records are relied on, the last master has {last.History.Records.Count}");
        ulong[] values = [.. last.History.Records.Where(r => r.Type == RecordType.DirectoryMade).Select(r => Convert.ToUInt64(r.Payload[..16], 16))];
        if (values.Distinct().Count() != values.Length)
            throw new InvalidOperationException("a value is in the history twice");
        RequireApart(last.Mastership.Reader.Chain);
    }

    /// <summary>No master can start: the damage must be one that allows it, and everybody who can still read has what was
    /// acknowledged, or says that more is there.</summary>
    private void ConcludeRefused(FamfsException error)
    {
        CountEnd(healed: false);
        if (!MayRefuse())
            throw new InvalidOperationException($"no master starts: {error.Message}", error);
        ReadAlone("a new reader");
    }

    /// <summary>Who reads everything has all that was acknowledged, or does not say that it has come to the end.</summary>
    private void ReadAlone(string who)
    {
        using DevicePool other = OpenPool("host-new");
        LogReader reader = new(other, new HastyClock());
        LogHistory history = new(s_fileSystem);
        PollVerdict verdict = PollVerdict.LookAgain;
        for (int i = 0; i < 1000 && verdict is PollVerdict.LookAgain or PollVerdict.Records; i++)
        {
            verdict = Poll(reader, out LogBlock block, out _);
            if (verdict == PollVerdict.Records)
                history.Apply(block);
        }
        _settled.Rely(who, history.Records);
        if (verdict == PollVerdict.UpToDate)
            RequireAll(who, reader, _settled.LastAcknowledged);
    }

    /// <summary>What the table in docs/safety.md allows: a damaged record stops everybody. Elsewhere a second fault must have come
    /// first: the other copy was torn by a death.</summary>
    private bool MayRefuse() => _damage!.Structure switch
    {
        DamagedStructure.Frame => true,
        // A tail that is too high is the same as damaged records.
        DamagedStructure.Tail => _damage.Kind == DamageKind.Flip || !_wasActive[_damage.Slot],
        // Only beyond the segments that an active copy names.
        DamagedStructure.SegmentHeader => _segments > MediaLayout.MaxChainInAnchor,
        _ => _diedWriting[_damage.Slot] || !_wasActive[_damage.Slot],
    };

    private void CountEnd(bool healed)
    {
        if (_damage is { Done: true })
            _counts.Add(_damage.Structure, healed);
    }

    /// <summary>No byte of log space belongs to two segments of the history.</summary>
    private static void RequireApart(IReadOnlyList<SegmentRef> chain)
    {
        SegmentRef[] placed = [.. chain.OrderBy(s => s.Device.Value).ThenBy(s => s.Offset)];
        for (int i = 1; i < placed.Length; i++)
        {
            SegmentRef before = placed[i - 1];
            if (before.Device == placed[i].Device && before.Offset + MediaLayout.SegmentHeaderBytes + Math.Max(0, before.SealedBytes) > placed[i].Offset)
                throw new InvalidOperationException($"P2 broken: log segments {before} and {placed[i]} share bytes");
        }
    }

    private void RequireEnd(string who, LogReader reader, TestMaster last)
    {
        LogHistory history = new(last.Writer.Position.FileSystem);
        PollVerdict verdict;
        while ((verdict = reader.Poll(out LogBlock block)) is PollVerdict.Records or PollVerdict.LookAgain)
        {
            if (verdict == PollVerdict.Records)
                history.Apply(block);
        }
        _settled.Rely(who, history.Records);
        if (verdict == PollVerdict.Diverged && reader.Divergence.Contains("is over and cannot be read any more", StringComparison.Ordinal) && _damage is { Done: true })
            return;
        if (verdict != PollVerdict.UpToDate || reader.Position != last.Writer.Position)
            throw new InvalidOperationException($"{who} ends {verdict} at {reader.Position}, the last master at {last.Writer.Position}");
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
