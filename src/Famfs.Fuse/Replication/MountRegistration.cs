using System.Collections.Immutable;
using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.Core.Namespace;
using Famfs.Fuse.Operations;
using Famfs.V1;

namespace Famfs.Fuse.Replication;

/// <summary>
/// This mount's line in the host table (SAFETY S11). The gate stays shut until the line is in memory *and*
/// the log has been read after that; the line moves at least once a second and with every acknowledgement.
/// Everything but <see cref="Admit"/> is called by the daemon's upkeep thread.
/// <para>Under policy <c>lease</c> the line also states within which time the mount gives up its files when the line cannot be written
/// (SAFETY S15, docs/decisions/0077). A lease begins before a write of the line and is renewed by one that is in memory before the last
/// one is over. One that is over is never renewed.</para>
/// </summary>
internal sealed class MountRegistration(Replica replica, HostIdentity host, Guid mount, TimeProvider clock) : IOpenGate
{
    /// <summary>Longest pause between two writes of the line.</summary>
    private static readonly TimeSpan Renewal = TimeSpan.FromSeconds(1);

    /// <summary>Writes within a lease, at least (chosen: one that fails once or twice does not end the mount).</summary>
    private const int WritesInLease = 5;

    private MountLineTable _table = new(replica.Pool, host.Locks);
    private MountLine? _line;
    private int _entry = -1;

    // The entry's lock on this host. What it keeps apart are daemons that look for an entry; once the line is written,
    // that keeps the entry taken.
    private IDisposable? _held;
    private long _written;
    private bool _resumed; // of a former daemon, and not written by this one yet
    private ulong _attempted; // counter of the line that was stored last, or was to be
    private TimeSpan? _lease; // null: not decided yet; zero: none. For good
    private int _leaseMs; // 0: none has begun. Written by the upkeep thread after what follows, read by workers before it
    private long _leaseEnds; // by the clock
    private TimeSpan _renewal = Renewal;
    private bool _isInherited; // the line was a former daemon's, and programs may have files open with it
    private bool _wasRegistered; // the log had a block for this host when it was looked at last
    private long _coveredTimestamp; // when foreign lines were looked for last; 0: never
    private readonly TwinWatch _twins = new(host, clock);

    // Set once by the upkeep thread, read by workers.
    private volatile bool _open;

    // The last record that was read before this mount opened anything.
    private LogSequence _openedAt;

    // What the log has of the end of this mount. For good.
    private GoneRecord? _end;
    private string? _problem;
    private bool _isOver;
    private int _grantedSlot = -1; // one word: another thread sets it

    /// <summary>What the mount speaks, as the line says it: the number of a dialect floor, 0 for stock. Set before the first
    /// <see cref="Advance"/>.</summary>
    public uint DialectNumber { get; set; }

    /// <summary>Leaves what a successor needs to prove that this mount is gone. Called before the mount's line is written the first
    /// time.</summary>
    public Action LeaveReceipt { get; set; } = static () => { };

    /// <summary>What this mount has released; null: nothing. Set before the first <see cref="Advance"/>.</summary>
    public Func<ReleaseStatement>? Releases { get; set; }

    /// <summary>Takes what older mounts of this host may have left in its caches; false when it cannot now. Set before the first
    /// <see cref="EndOlder"/>.</summary>
    public Func<bool> TakeOver { get; set; } = static () => true;

    /// <summary>Mounts whose line this one has ended. Replaced by the upkeep thread, read by any.</summary>
    public ImmutableHashSet<Guid> Ended { get; private set; } = [];

    /// <summary>Called with the entry of the host table that the mount's line is about to be in.</summary>
    public Action<int> EntryTaken { get; set; } = static _ => { };

    /// <summary>False: the line is not written yet, because it would acknowledge what has not been looked after. Set before the first
    /// <see cref="Advance"/>.</summary>
    public Func<bool> MayAcknowledge { get; set; } = static () => true;

    /// <summary>Mounts of this host's boot, but for this one, that have had a line and of which nothing else is known. Set before the first
    /// <see cref="Advance"/>.</summary>
    public Func<IReadOnlyCollection<Guid>> OlderMounts { get; set; } = static () => [];

    /// <summary>Those of them whose superblock is gone. Set before the first <see cref="Advance"/>.</summary>
    public Func<IReadOnlyCollection<Guid>> GoneMountsOfHost { get; set; } = static () => [];

    /// <summary>Set when the master has said which block is this host's; the log says it too. Any thread.</summary>
    public int? GrantedSlot
    {
        get => Volatile.Read(ref _grantedSlot) is >= 0 and int slot ? slot : null;
        set => Volatile.Write(ref _grantedSlot, value ?? -1);
    }

    /// <summary>A line is to be written, and this host has no block that it could be in. Set by the upkeep thread.</summary>
    public bool WantsBlock { get; private set; }

    /// <summary>What kept <see cref="Advance"/> from its end the last time, or null. Set by the upkeep thread, read by any.</summary>
    public string? Problem
    {
        get => Volatile.Read(ref _problem);
        set => Volatile.Write(ref _problem, value);
    }

    /// <summary>False in a format without a host table: there is nothing to register in, and nothing is
    /// ever reused that a registration could protect.</summary>
    public bool IsNeeded => replica.Pool.Format.Limits.HasHostTable;

    /// <summary>Whether the mount can give up its files in time: nothing reaches memory without its daemon. Asked once, when the line is
    /// about to be written the first time. Set before the first <see cref="Advance"/>.</summary>
    public Func<bool> MayGiveLease { get; set; } = static () => false;

    /// <summary>The line states a lease, or will. Null: that is not decided yet. Upkeep thread.</summary>
    public bool? HasLease => _lease is { } lease ? lease > TimeSpan.Zero : null;

    /// <summary>What the line states, in milliseconds; 0: nothing. Any thread.</summary>
    public uint LeaseMs => (uint)Volatile.Read(ref _leaseMs);

    /// <summary>It may have no file any more: the log has that this mount is gone, or its lease has run out. Any thread, at any
    /// time: one that answers a request asks first.</summary>
    public bool IsOver
    {
        get => Volatile.Read(ref _isOver) || IsLeaseOver;
        private set => Volatile.Write(ref _isOver, value);
    }

    /// <summary>True when OPEN is answered.</summary>
    public bool IsOpen => _open || !IsNeeded;

    public OpenVerdict Admit(InodeNumber inode) => _open || !IsNeeded ? OpenVerdict.Open : OpenVerdict.HostDown;

    /// <summary>Goes on with the line that a former daemon of this mount wrote. False when it is not there: then the mount takes a new
    /// one. Before the log is read.</summary>
    public bool TryResume(int entry)
    {
        if (!IsNeeded || (uint)entry >= (uint)_table.EntryCount)
            return false;
        MountLine? line = _table.ReadBlock(entry / MediaLayout.EntriesPerHost).Find(e => e.Index == entry).Line;
        if (line is not { State: MountState.Live } || line.Mount != mount || line.Host != host.Host)
            return false;
        // Nobody kept the time meanwhile.
        _lease = TimeSpan.FromMilliseconds(line.LeaseMs);
        if (line.LeaseMs > 0)
            BeginLease(_lease.Value, long.MinValue / 2);
        (_entry, _line, _resumed, _isInherited) = (entry, line, true, true);
        return true;
    }

    /// <summary>The line, as it was written last; null while there is none.</summary>
    public MountLine? Line => _line;

    /// <summary>After <see cref="TryResume"/>: the line stood in memory all the while, and the log has been read to its end since. OPEN is
    /// answered.</summary>
    public void OpenResumed() => _open = _resumed && !IsOver && !IsBlockOfOther && replica.State.FindGone(host.Host, mount, new(ulong.MaxValue)) is null;

    /// <summary>Takes the next step there is to take: claim a line, open the gate, renew. Throws HOST_CONFLICT
    /// when another machine lives under this host's id, NO_SPACE when all lines of the block are in use.</summary>
    public void Advance()
    {
        if (!IsNeeded)
            return;
        // A record that ends all mounts of this host is about one that was open before it, too.
        if (replica.State.FindGone(host.Host, mount, _open ? _openedAt : new(ulong.MaxValue)) is { } end)
            _end = end;
        if (_end is { } known)
        {
            // Its entry may be another mount's already, and what it has open may be given away.
            _open = false;
            IsOver = true;
            throw new FamfsException(ErrorReason.HostGone, $"the log has that this mount is gone ({known.Evidence}): mount it anew");
        }
        RequireLease();
        if (_resumed && !_open && IsBlockOfOther)
            (_line, _resumed, _isInherited) = (null, false, false); // it has opened nothing there, and the owner covers the line
        LookAtBlock();
        if (_line is null)
        {
            int? slot = Slot;
            WantsBlock = slot is null;
            if (slot is null || !_twins.StandStill(_table.ReadBlock(slot.Value)))
                return;
            LeaveReceipt();
            Claim(slot.Value);
        }
        if (_resumed && !MayGoOn())
            return;
        RenewLease(); // also while the log cannot be read
        if (!_open)
        {
            // Only what is read after the line was written back is known to include every Deleted record of a
            // master that did not see the line, or that took it for one that was over.
            bool counted = IsCounted;
            PollVerdict verdict;
            while ((verdict = replica.PollMemory()) == PollVerdict.Records)
            {
            }
            // The host was forgotten while this daemon was about to write: what it has written is in nobody's block, or in another
            // host's, where it may hide a line.
            if (verdict == PollVerdict.UpToDate && !_isInherited && IsOutside)
            {
                Withdraw();
                return;
            }
            // Behind a tail that is lost, a file may be deleted and its space another's.
            if (verdict == PollVerdict.UpToDate && counted && IsCounted)
            {
                _openedAt = replica.Position.Sequence;
                _open = true;
            }
        }
        if (replica.Gate.Acknowledged.Sequence != _line!.ReplayedSequence || clock.GetElapsedTime(_written) >= _renewal || HasReleasedMore())
            Write(_line with { Counter = _line.Counter + 1 });
        if (Slot is { } own && replica.State.ForgottenBlocks.ContainsKey(own) && (_coveredTimestamp == 0 || clock.GetElapsedTime(_coveredTimestamp) >= Renewal))
        {
            Cover(own);
            _coveredTimestamp = clock.GetTimestamp();
        }
    }

    /// <summary>Ends the lines of older mounts of this host of which it is proved that they are gone (SAFETY S14): whoever has the
    /// memory can say so there, and nobody has to be believed. Gives those of <paramref name="gone"/> that nothing is left to be
    /// said of: their line has ended, or there is none. A line whose daemon still ends is left to it.</summary>
    public IReadOnlyList<Guid> EndOlder(IReadOnlyCollection<Guid> gone)
    {
        // Also without a line of its own: those that are gone may have taken all.
        if (gone.Count == 0 || Slot is not { } slot)
            return [];
        List<HostEntry> entries = _table.ReadBlock(slot);
        HashSet<Guid> open = [];
        foreach (HostEntry entry in entries)
        {
            if (entry.Line is not { State: MountState.Live } line || !gone.Contains(line.Mount))
                continue;
            // Its daemon may still store to files: it has the lock for as long as it lives.
            if (_table.TryLock(entry.Index, out IDisposable? held))
            {
                using (held)
                {
                    if (!TakeOver())
                    {
                        open.Add(line.Mount);
                        continue;
                    }
                    MountLine end = line with { Counter = line.Counter + 1, State = MountState.Ended };
                    _table.Write(entry.Index, end);
                    // Into the other copy too: a damaged line must not bring back what the mount held.
                    _table.Write(entry.Index, end with { Counter = end.Counter + 1 });
                    Ended = Ended.Add(line.Mount);
                }
            }
            else
            {
                open.Add(line.Mount);
            }
        }
        // What cannot be read may be the line of one of them, and what another host wrote may hide one.
        return entries.Any(entry => entry.Line is not { } line || replica.State.IsForeign(entry.Index, line)) ? [] : [.. gone.Where(mount => !open.Contains(mount))];
    }

    /// <summary>Says that this mount holds nothing any more. Only after its superblock is gone, when the memory may have
    /// to be reached in another way: through <paramref name="pool"/>. False when its line is still there and may count: whoever mounts here
    /// next ends it.</summary>
    public bool End(DevicePool pool)
    {
        _open = false;
        if (_line is not null)
            _table = new(pool, host.Locks);
        bool isOver = _line is null || _end is not null;
        if (!isOver && MayEnd())
        {
            Store(_line! with { Counter = _line.Counter + 1, State = MountState.Ended });
            Store(_line with { Counter = _line.Counter + 1 }); // as EndOlder does
            isOver = true;
        }
        ReleaseLock();
        return isOver;
    }

    // What is there may be another mount's by now, when its lock had to be given up before. In a block that nobody has it is this one's, as
    // in Withdraw.
    private bool MayEnd()
    {
        if (IsBlockOfOther || (_held is null && !_table.TryLock(_entry, out _held)))
            return false;
        return _table.ReadBlock(BlockOfEntry).Find(e => e.Index == _entry) is not { Line: { } line } || line.Mount == mount;
    }

    /// <summary>Gives up the lock of the entry, which is an open file of this very mount where the kernel holds the devices, and
    /// would keep it alive. Upkeep thread, or after it.</summary>
    public void ReleaseLock() => Interlocked.Exchange(ref _held, null)?.Dispose();

    // The block of this host's lines.
    private int? Slot => replica.State.Hosts.TryGetValue(host.Host, out HostRecord? record) ? record.Slot : GrantedSlot;

    // A master that reads the line as it is takes this mount for one that holds memory.
    private bool IsCounted => replica.State.FindGone(host.Host, mount, _line!.ReplayedSequence) is null;

    // Where the entry at hand is, whatever the log says of this host.
    private int BlockOfEntry => _entry / MediaLayout.EntriesPerHost;

    // The log has forgotten the block of the entry, and has not given it to this host again.
    private bool IsOutside => replica.State.ForgottenBlocks.ContainsKey(BlockOfEntry) && replica.State.FindBlockOwner(BlockOfEntry) != host.Host;

    // The same, and another host has it.
    private bool IsBlockOfOther => IsOutside && replica.State.FindBlockOwner(BlockOfEntry) != Guid.Empty;

    // A block that a master named before its host was forgotten is this host's no more.
    private void LookAtBlock()
    {
        bool isRegistered = replica.State.Hosts.ContainsKey(host.Host);
        if (_wasRegistered && !isRegistered)
            GrantedSlot = null;
        _wasRegistered = isRegistered;
    }

    /// <summary>Takes back a line that is not in a block of this host, and with which nothing was opened. A block that nobody has is given to
    /// nobody while the line is there, so it can be ended without storing to a line of another. In another's block it is left: what is
    /// stored there may hide a line, and the owner covers it. The next line is in a block that the master gives.</summary>
    private void Withdraw()
    {
        if (!IsBlockOfOther)
        {
            // Of no mount: the line that comes is this one's, and it alone.
            MountLine end = _line! with { Mount = Guid.NewGuid(), State = MountState.Ended };
            _table.Write(_entry, end with { Counter = end.Counter + 1 });
            _table.Write(_entry, end with { Counter = end.Counter + 2 });
        }
        // No master counts by that line any more. One that did before would have let the lease run out first.
        RequireLease();
        Volatile.Write(ref _leaseMs, 0);
        _line = null;
        GrantedSlot = null;
        ReleaseLock();
    }

    /// <summary>Writes the line when it is due, in the middle of what may take longer than a lease. Upkeep thread.</summary>
    public void RenewLease()
    {
        if (LeaseMs > 0 && _line is not null && !_resumed && clock.GetElapsedTime(_written) >= _renewal)
            Write(_line with { Counter = _line.Counter + 1 });
    }

    /// <summary>Covers lines that mounts of forgotten hosts have written into this host's block: they may hide a line of one of its mounts,
    /// so to masters they hold everything. A line of this mount is written again. Where no daemon of this host is, an ended line is
    /// written, when no mount of this host is without a line that could be there.</summary>
    private void Cover(int slot)
    {
        List<HostEntry> block = _table.ReadBlock(slot);
        foreach (HostEntry entry in block)
        {
            if (entry.Line is not { } foreign || !replica.State.IsForeign(entry.Index, foreign))
                continue;
            if (_line is not null && entry.Index == _entry)
            {
                Write(_line with { Counter = Math.Max(_line.Counter, foreign.Counter) + 1 });
                Write(_line with { Counter = _line.Counter + 1 });
            }
            else if (_table.TryLock(entry.Index, out IDisposable? held))
            {
                using (held)
                    CoverFree(slot, entry.Index);
            }
        }
    }

    // Under the entry's lock: no daemon of this host writes there.
    private void CoverFree(int slot, int index)
    {
        // In this order: who writes its line after the look at the block has left its receipt before it, or is under the lock.
        IReadOnlyCollection<Guid> older = OlderMounts();
        List<HostEntry> block = _table.ReadBlock(slot);
        if (block.Find(e => e.Index == index).Line is not { } foreign || !replica.State.IsForeign(index, foreign))
            return;
        if (!IsNobodyBeneath(older, block))
            return;
        MountLine end = new() { Counter = foreign.Counter + 1, State = MountState.Ended, Host = host.Host, Boot = host.Boot, Mount = Guid.NewGuid() };
        _table.Write(index, end);
        _table.Write(index, end with { Counter = end.Counter + 1 });
    }

    // Each mount of this host that is known has a line that can be read, or is gone and its caches are taken over.
    private bool IsNobodyBeneath(IReadOnlyCollection<Guid> older, List<HostEntry> block)
    {
        HashSet<Guid> hidden = [.. older.Where(m => replica.State.FindGone(host.Host, m, new(ulong.MaxValue)) is not { Evidence: not GoneEvidence.LossAccepted })];
        hidden.ExceptWith(block.Where(e => e.Line?.Host == host.Host).Select(e => e.Line!.Mount));
        return hidden.Count == 0 || (hidden.IsSubsetOf(GoneMountsOfHost()) && TakeOver());
    }

    /// <summary>A line was written, so one is to be ended.</summary>
    public bool HasLine => _line is not null;

    // What the former daemon had acknowledged stays acknowledged, and its lock goes with the last of its threads.
    private bool MayGoOn()
    {
        if (replica.Gate.Acknowledged.Sequence.Value < _line!.ReplayedSequence.Value || !MayAcknowledge())
            return false;
        if (_held is null && !_table.TryLock(_entry, out _held))
            return false;
        _resumed = false;
        return true;
    }

    private bool HasReleasedMore() => Releases?.Invoke() is { } now && (now.Watermark != _line!.ReleasedWatermark || !now.Exceptions.AsSpan().SequenceEqual(_line.Exceptions));

    private void Write(MountLine line)
    {
        long before = clock.GetTimestamp();
        if (_lease is { } lease && lease > TimeSpan.Zero)
        {
            RequireLease();
            if (_leaseMs == 0)
                BeginLease(lease, before); // this line may be read before it is known to be there
            Store(line);
            if (!_table.IsInMemory(_entry, _line!))
                throw new DeviceFaultException($"{replica.Pool.PrimaryDevice.Path}: the line of this mount is not in memory as it was written");
            // A master that has seen no newer line counts from the one before.
            RequireLease();
            BeginLease(lease, before);
        }
        else
        {
            Store(line);
        }
        _written = clock.GetTimestamp();
    }

    // From when the line was about to be written.
    private void BeginLease(TimeSpan lease, long before)
    {
        Volatile.Write(ref _leaseEnds, before + (long)(lease.TotalSeconds * clock.TimestampFrequency));
        Volatile.Write(ref _leaseMs, (int)lease.TotalMilliseconds);
    }

    private bool IsLeaseOver => Volatile.Read(ref _leaseMs) != 0 && clock.GetTimestamp() >= Volatile.Read(ref _leaseEnds);

    // One that is over has perhaps been seen by a master. So the mount is, for good.
    private void RequireLease()
    {
        if (!IsOver)
            return;
        _open = false;
        IsOver = true;
        throw new FamfsException(ErrorReason.HostGone, $"this mount could not write its line within its lease of {_lease?.TotalSeconds:0.###} s, and has given up its files: mount it anew");
    }

    private void Store(MountLine line)
    {
        // One that failed may be in memory. With its number again, nobody would see that the line has moved.
        if (line.Counter <= _attempted)
            line = line with { Counter = line.Counter + ((_attempted - line.Counter + 2) & ~1ul) };
        _attempted = line.Counter;
        ReleaseStatement released = Releases?.Invoke() ?? new(default, []);
        LogPosition acknowledged = replica.Gate.Acknowledged;
        line = line with
        {
            ReplayedSequence = acknowledged.Sequence,
            ReplayedTerm = acknowledged.Term,
            Generation = acknowledged.Generation,
            ReleasedWatermark = released.Watermark,
            Exceptions = released.Exceptions,
            Dialect = DialectNumber,
            LeaseMs = (uint)(_lease?.TotalMilliseconds ?? 0),
            WrittenBootNs = (long)(clock.GetTimestamp() * (1e9 / clock.TimestampFrequency)),
        };
        _table.Write(_entry, line);
        _line = line;
    }

    // Where memory fails in between, the next try goes on with the same entry: what is stored there is this mount's, and no other entry
    // is locked by it.
    private void Claim(int slot)
    {
        ulong counter;
        if (_held is null)
            _entry = TakeEntry(slot, out counter);
        else
            _ = IsFree(slot, _entry, out counter);
        EntryTaken(_entry);
        // For good, and also when the first write fails: a master may see it.
        _lease ??= replica.State.Policy is { Reclaim: ReclaimPolicy.Lease, LeaseMs: > 0 } policy && MayGiveLease() ? TimeSpan.FromMilliseconds(policy.LeaseMs) : TimeSpan.Zero;
        if (_lease > TimeSpan.Zero && _lease / WritesInLease < _renewal)
            _renewal = _lease.Value / WritesInLease;
        try
        {
            Write(new()
            {
                Counter = counter + 1,
                State = MountState.Live,
                Host = host.Host,
                Boot = host.Boot,
                Mount = mount,
            });
            // Into the other copy too: a damaged line must not leave what a former mount of this entry said.
            Write(_line! with { Counter = _line!.Counter + 1 });
        }
        catch
        {
            _line = null; // nothing is opened before both are there
            throw;
        }
    }

    /// <summary>Finds a free entry, locks it on this host, and makes sure that it is still free.</summary>
    private int TakeEntry(int slot, out ulong counter)
    {
        int first = slot * MediaLayout.EntriesPerHost;
        HashSet<int> unfinished = [.. _table.ReadBlock(slot).Where(e => e.IsUnfinished).Select(e => e.Index)];
        // Nobody else makes these good, and to masters they may hold everything.
        foreach (int entry in Enumerable.Range(first, MediaLayout.EntriesPerHost).OrderByDescending(unfinished.Contains))
        {
            if (!_table.TryLock(entry, out IDisposable? held))
                continue;
            try
            {
                if (IsFree(slot, entry, out counter))
                {
                    (_held, held) = (held, null);
                    return entry;
                }
            }
            finally
            {
                held?.Dispose(); // also when the table cannot be read now
            }
        }
        throw new FamfsException(ErrorReason.NoSpace, $"all {MediaLayout.EntriesPerHost} mounts of host {host.Host} are in use or have not been proved gone; see `famfs hosts`") { Limit = MediaLayout.EntriesPerHost };
    }

    private bool IsFree(int slot, int entry, out ulong counter)
    {
        bool wasAnothers = replica.State.ForgottenBlocks.ContainsKey(slot);
        IReadOnlyCollection<Guid> older = wasAnothers ? OlderMounts() : [];
        List<HostEntry> used = _table.ReadBlock(slot);
        int index = used.FindIndex(u => u.Index == entry);
        counter = index < 0 ? 0 : used[index].Line?.Counter ?? used[index].FormerCounter;
        // What cannot be read may be a foreign line, too.
        bool isMadeGood = index >= 0 && used[index].IsUnfinished && (!wasAnothers || IsNobodyBeneath(older, used));
        return index < 0 || isMadeGood || (used[index].Line is { } line && GoneMounts.IsOver(line, replica.State) && !replica.State.IsForeign(entry, line));
    }
}
