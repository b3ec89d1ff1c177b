using System.Globalization;
using Famfs.Core.Dialects;
using Famfs.Core;
using Famfs.Core.Allocation;
using Famfs.Core.Format;
using Famfs.Core.Log.Native;
using Famfs.Core.Namespace;
using Famfs.Master.Changes;
using Famfs.Master.Queries;
using Famfs.Master.State;
using Famfs.V1;

namespace Famfs.Master.Holders;

/// <summary>
/// Who has acknowledged what: fed by the Subscribe streams and by the lines in memory, asked by waits and
/// Barrier. Silence removes nobody (SAFETY S12, S14). Guard: <c>_gate</c>; never held while calling out.
/// </summary>
internal sealed class MountRegistry(MasterState state, MountLineTable table, TimeProvider clock)
{
    /// <summary>How long a mount may be still before it is called silent (lines tick every second).</summary>
    public static readonly TimeSpan SilentAfter = TimeSpan.FromSeconds(5);

    /// <summary>Shortest time between two looks at a host's lines because somebody unknown asked for one (chosen: a look takes a
    /// hundredth of it).</summary>
    public static readonly TimeSpan HintPause = TimeSpan.FromMilliseconds(1);

    /// <summary>Most mounts that all Barriers may name which name more than one (chosen). What waits for one mount or for all is
    /// limited with the calls.</summary>
    public const int MaxWaitedMounts = 65536;

    /// <summary>Most of them of one caller, so that nobody takes all (chosen: a quarter).</summary>
    public const int MaxWaitedOfCaller = MaxWaitedMounts / 4;

    /// <summary>Most deleted files that streams of all mounts may name (chosen: 2 MiB). What is beyond counts when lines say it.</summary>
    public const int MaxHeld = 1 << 18;

    private const int MaxMountPoint = 128;

    // A line moves every second.
    private static readonly TimeSpan Watch = TimeSpan.FromSeconds(2);

    private readonly Lock _gate = new();
    private readonly Lock _scanning = new();
    private readonly Dictionary<Guid, MountView> _mounts = [];
    private readonly List<Waiter> _waiters = [];
    private int _waitedMounts; // guarded by _gate: what all waiters name
    private readonly DevicePresence _presence = new(state, clock); // under _gate
    private readonly Dictionary<string, int> _waitedOf = []; // guarded by _gate: by caller, none that has 0
    private FamfsException? _over; // guarded by _gate: nobody is waited for any more
    private long _scans; // begun; written under _scanning
    private long _lastScan; // the number of the last one that came to its end; under _scanning
    private int _unreadable; // lines that may be anybody's, those of _foreign included
    private IReadOnlyList<(int Entry, MountLine Line)> _foreign = [];

    // Guarded by _gate. By host; as many as are registered.
    private readonly Dictionary<Guid, Hints> _hints = [];

    /// <summary>Which mounts are gone.</summary>
    public GoneMounts Gone { get; } = new(state, clock);

    /// <summary>A stream said hello for a mount. <paramref name="known"/>: its caller is known; else what it says is a hint, which
    /// is shown and counts for nothing (SAFETY S28). <paramref name="address"/>: where it calls from.</summary>
    public void Subscribed(Guid mount, Guid host, Guid boot, string dialect, string version, string mountPoint = "", string address = "", bool known = true, DevicesSaid? devices = null, bool followsGenerations = false)
    {
        lock (_gate)
        {
            MountView view = Require(mount, host, known);
            view.Streams++; // a mount that connects anew may do so before its last stream is known to be over
            if (known)
                view.KnownStreams++;
            if (view.Host != host)
                return; // somebody else's mount
            view.Boot = boot;
            view.Dialect = dialect;
            view.Version = version;
            // Whoever says hello may say anything; what is kept for each mount is bounded.
            view.Address = address;
            view.Devices = devices;
            view.FollowsGenerations = followsGenerations;
            view.MountPoint = mountPoint.Length > MaxMountPoint ? mountPoint[..MaxMountPoint] : mountPoint;
            if (known || !view.InTable)
                view.LastMovedTimestamp = clock.GetTimestamp();
            LookAtDevicesOf(view);
        }
    }

    /// <summary>A mount of a host says what it has of the devices. What a caller that is not known says counts when the mount has a
    /// line.</summary>
    public void SaidDevices(Guid mount, Guid host, DevicesSaid devices)
    {
        lock (_gate)
        {
            if (!_mounts.TryGetValue(mount, out MountView? view) || view.Host != host)
                return;
            view.Devices = devices;
            LookAtDevicesOf(view);
        }
    }

    /// <summary>Looks at which mounts lack which devices now; gives the absences. Called regularly, and when a device has joined.
    /// <paramref name="newest"/>: last published record.</summary>
    public IReadOnlyList<DeviceAbsence> Refresh(LogSequence newest)
    {
        lock (_gate)
        {
            state.Avoidance = _presence.LookAtAll(_mounts.Values.Where(v => v.Counts && !Gone.IsGone(v)), newest);
            return _presence.Absences;
        }
    }

    /// <summary>The absences as of the last look.</summary>
    public IReadOnlyList<DeviceAbsence> Absences
    {
        get
        {
            lock (_gate)
                return _presence.Absences;
        }
    }

    // Under _gate.
    private void LookAtDevicesOf(MountView view)
    {
        if (_presence.LookAt(view, view.Counts && !Gone.IsGone(view)) is { } avoidance)
            state.Avoidance = avoidance;
    }

    /// <summary>A mount's stream ended. <paramref name="known"/>: as when it began.</summary>
    public void Unsubscribed(Guid mount, bool known = true)
    {
        List<Waiter> done;
        lock (_gate)
        {
            if (_mounts.TryGetValue(mount, out MountView? view))
            {
                view.Streams--;
                if (known)
                    view.KnownStreams--;
                view.StreamlessTimestamp = clock.GetTimestamp();
                if (view.Streams == 0 && !view.InTable)
                    _mounts.Remove(mount);
            }
            done = TakeDone();
        }
        Complete(done);
    }

    /// <summary>A mount acknowledged a position: replayed, and its kernel notified.</summary>
    public void Acknowledged(Guid mount, LogPosition position)
    {
        List<Waiter> done;
        lock (_gate)
        {
            if (!_mounts.TryGetValue(mount, out MountView? view))
                return;
            view.LastMovedTimestamp = clock.GetTimestamp();
            if (position.Sequence.Value > view.Acknowledged.Sequence.Value)
                view.Acknowledged = position;
            done = TakeDone();
        }
        Complete(done);
    }

    /// <summary>A known caller's stream says what its mount has released.</summary>
    public void SaidReleased(Guid mount, Guid host, LogSequence watermark, IReadOnlyList<InodeNumber> held)
    {
        lock (_gate)
        {
            if (!_mounts.TryGetValue(mount, out MountView? view) || view.Host != host)
                return;
            ReleasedFiles said = new(watermark, held);
            if (said.GoesFartherThan(view.Released) && held.Count + _mounts.Values.Sum(v => v == view ? 0 : v.StreamReleased?.Held.Count ?? 0) <= MaxHeld)
                view.StreamReleased = said;
        }
    }

    /// <summary>A caller that is not known says that a mount has moved: the lines of its host are looked at, which alone count. At
    /// most once in <see cref="HintPause"/> for each host: who comes meanwhile waits for the look that comes after.</summary>
    public async Task HintedAsync(Guid host)
    {
        if (!state.Replay.Hosts.TryGetValue(host, out HostRecord? record))
            return;
        Task look;
        lock (_gate)
        {
            if (!_hints.TryGetValue(host, out Hints? hints))
                _hints.Add(host, hints = new());
            look = hints.Next ??= LookLaterAsync(hints, record.Slot);
        }
        await look.ConfigureAwait(false);
    }

    private async Task LookLaterAsync(Hints hints, int slot)
    {
        TimeSpan left = hints.LookedTimestamp == 0 ? TimeSpan.Zero : HintPause - clock.GetElapsedTime(hints.LookedTimestamp);
        // The caller has the gate, and a look takes it after _scanning. A delay of less than a millisecond is over at once.
        await Task.Yield();
        if (left > TimeSpan.Zero)
            await Task.Delay(left, clock).ConfigureAwait(false);
        List<Waiter> done;
        lock (_scanning)
        {
            // Whoever comes from here on may tell of what comes after this look.
            lock (_gate)
                (hints.Next, hints.LookedTimestamp) = (null, clock.GetTimestamp());
            List<HostEntry> entries = table.ReadBlock(slot);
            lock (_gate)
            {
                foreach (HostEntry entry in entries)
                {
                    if (entry.Line is { } line && !state.Replay.IsForeign(entry.Index, line))
                        Take(line, entry.Digest);
                }
                done = TakeDone();
            }
        }
        Complete(done);
    }

    /// <summary>Reads the lines in memory of the hosts that are registered, and gives them. Called regularly, and before a
    /// wait for all counts its mounts.</summary>
    public IReadOnlyList<HostEntry> Scan()
    {
        List<Waiter> done;
        List<HostEntry> entries;
        lock (_scanning)
            entries = ScanLocked(out done);
        Complete(done);
        return entries;
    }

    /// <summary>The same for a caller that needs the lines as they are now, and not the list: of callers that come at the same time, one
    /// reads for all.</summary>
    public void ScanOnce() => ScanSince(ScansBegun);

    /// <summary>How many looks at the lines have begun.</summary>
    internal long ScansBegun => Volatile.Read(ref _scans);

    /// <summary><see cref="ScanOnce"/> of a caller that came when so many looks had begun.</summary>
    internal void ScanSince(long begun)
    {
        List<Waiter> done = [];
        lock (_scanning)
        {
            // One that began after the call has seen all that was in memory then.
            if (_lastScan <= begun)
                _ = ScanLocked(out done);
        }
        Complete(done);
    }

    private List<HostEntry> ScanLocked(out List<Waiter> done)
    {
        long number = _scans + 1;
        Volatile.Write(ref _scans, number);
        List<HostEntry> entries = table.ReadInUse(state.Replay.HostSlots);
        lock (_gate)
        {
            Merge(entries);
            done = TakeDone();
        }
        _lastScan = number;
        return entries;
    }

    /// <summary>The master stops: who waits for mounts is told so at once, and so is who comes later.</summary>
    public void EndWaits(FamfsException error)
    {
        List<Waiter> waiting;
        lock (_gate)
        {
            _over ??= error;
            waiting = [.. _waiters];
        }
        foreach (Waiter waiter in waiting)
            waiter.Completion.TrySetException(error);
    }

    /// <summary>Completes when every mount of <paramref name="mounts"/> (empty: all that count) has
    /// acknowledged <paramref name="sequence"/>; gives their number. Throws OVERLOADED when waits name more than
    /// <see cref="MaxWaitedMounts"/> already, or those of <paramref name="caller"/> more than
    /// <see cref="MaxWaitedOfCaller"/>.</summary>
    public async Task<int> WaitAsync(LogSequence sequence, IReadOnlyList<Guid> mounts, CancellationToken cancel, string caller = "")
    {
        Waiter waiter = new(sequence, [.. mounts.Distinct()]);
        lock (_gate)
        {
            if (IsDone(waiter))
                return waiter.Counted;
            if (_over is { } over)
                throw over;
            int ofCaller = _waitedOf.GetValueOrDefault(caller) + waiter.Weight;
            if (waiter.Weight > 0 && _waitedMounts + waiter.Weight > MaxWaitedMounts)
                throw new FamfsException(ErrorReason.Overloaded, $"waits for {MaxWaitedMounts} mounts are under way, the limit") { Limit = MaxWaitedMounts };
            if (waiter.Weight > 0 && ofCaller > MaxWaitedOfCaller)
                throw new FamfsException(ErrorReason.Overloaded, $"waits of {caller} for {MaxWaitedOfCaller} mounts are under way, the limit") { Limit = MaxWaitedOfCaller };
            _waiters.Add(waiter);
            _waitedMounts += waiter.Weight;
            if (waiter.Weight > 0)
                _waitedOf[caller] = ofCaller;
        }
        try
        {
            await waiter.Completion.Task.WaitAsync(cancel).ConfigureAwait(false);
            return waiter.Counted;
        }
        finally
        {
            lock (_gate)
            {
                _waiters.Remove(waiter);
                _waitedMounts -= waiter.Weight;
                if (waiter.Weight > 0 && (_waitedOf[caller] -= waiter.Weight) == 0)
                    _waitedOf.Remove(caller);
            }
        }
    }

    /// <summary>True when a line or a stream says that the mount is of that host.</summary>
    public bool IsOf(Guid mount, Guid host)
    {
        lock (_gate)
            return mount != Guid.Empty && _mounts.TryGetValue(mount, out MountView? view) && view.IsBound && view.Host == host;
    }

    /// <summary>True for a mount of that host that has a line, and is not gone: only such a one has opened a file.</summary>
    public bool HasLine(Guid mount, Guid host)
    {
        lock (_gate)
            return _mounts.TryGetValue(mount, out MountView? view) && view.InTable && view.Host == host && !Gone.IsGone(view);
    }

    /// <summary>The mounts that a wait is short of; <see cref="Guid.Empty"/> for lines that cannot be read.</summary>
    public HashSet<Guid> Missing(LogSequence sequence, IReadOnlyList<Guid> mounts)
    {
        lock (_gate)
        {
            Waiter waiter = new(sequence, mounts);
            if (mounts.Count > 0)
                return [.. mounts.Where(m => !_mounts.TryGetValue(m, out MountView? view) || !Reached(view, waiter))];
            HashSet<Guid> missing = [.. _mounts.Values.Where(v => v.Counts && !Gone.IsGone(v) && !Reached(v, waiter)).Select(v => v.Mount)];
            if (_unreadable > 0)
                missing.Add(Guid.Empty);
            return missing;
        }
    }

    /// <summary>The mounts as they stand, copied: in the order of their ids, at most <paramref name="limit"/> behind
    /// <paramref name="after"/>. <paramref name="heldLimit"/>: so many held files of each are named, by their inodes alone, and the list
    /// ends before a mount with which it would name more than <paramref name="heldInAll"/>.</summary>
    public IReadOnlyList<HostStatus> Describe(LogPosition master, Guid after = default, int limit = int.MaxValue, int heldLimit = 0, int heldInAll = int.MaxValue)
    {
        IReadOnlySet<Guid> holding = state.ReclaimHolders;
        lock (_gate)
        {
            List<HostStatus> list = [];
            int named = 0;
            // They have no id by which a list could be continued: before the first.
            foreach ((int entry, MountLine line) in after == Guid.Empty ? _foreign : [])
                list.Add(new() { HostId = line.Host.ToByteString(), BootId = line.Boot.ToByteString(), Name = $"({ExplainForeign(entry, line)})", State = HostState.Silent, HoldsSpace = state.ReclaimWaits.Count > 0 });
            foreach (MountView view in _mounts.Values.Where(v => v.Mount.CompareTo(after) > 0).OrderBy(v => v.Mount).Take(limit))
            {
                GoneEvidence? gone = Gone.Find(view);
                List<HeldFile> held = gone is null && heldLimit > 0 ? [.. view.Released.Held.OrderBy(i => i.Value).Take(heldLimit).Select(i => new HeldFile { Inode = i.Value })] : [];
                named += held.Count;
                if (named > heldInAll && list.Count > 0)
                    break;
                ulong lag = master.Sequence.Value - Math.Min(master.Sequence.Value, view.Acknowledged.Sequence.Value);
                TimeSpan silent = clock.GetElapsedTime(view.LastMovedTimestamp);
                // Without a line, in a format without a host table, a mount that has everything has nothing to say: its stream is up, or it were not here.
                bool isSilent = silent > SilentAfter && (view.InTable || lag > 0);
                list.Add(new()
                {
                    HostId = view.Host.ToByteString(),
                    Name = state.Replay.Hosts.TryGetValue(view.Host, out HostRecord? host) ? host.Name : "",
                    MountId = view.Mount.ToByteString(),
                    BootId = view.Boot.ToByteString(),
                    State = gone is not null ? HostState.Gone : isSilent ? HostState.Silent : lag > 0 ? HostState.Lagging : HostState.Live,
                    Evidence = gone ?? GoneEvidence.Unspecified,
                    Position = view.Acknowledged.ToMessage(),
                    LagRecords = gone is not null ? 0 : lag,
                    SilentMs = (ulong)silent.TotalMilliseconds,
                    Subscribed = view.Streams > 0,
                    Dialect = view.Dialect,
                    Version = view.Version,
                    MountPoint = view.MountPoint,
                    Address = view.Address,
                    HeldInodes = (ulong)view.Released.Held.Count,
                    HoldsSpace = holding.Contains(view.Mount),
                    LeaseMs = view.LeaseMs,
                    LeaseRemainingMs = gone is null ? RemainingOf(view) : 0,
                    HeldFiles = { held },
                    MissingDevices = view.Streams > 0 ? view.Devices?.Describe() : null,
                });
            }
            return list;
        }
    }

    private string ExplainForeign(int entry, MountLine line)
    {
        Guid owner = state.Replay.FindBlockOwner(entry / MediaLayout.EntriesPerHost);
        string name = state.Replay.Hosts.TryGetValue(owner, out HostRecord? host) && host.Name.Length > 0 ? host.Name : owner.ToString();
        return $"line {entry} of the host table: mount {line.Mount} of host {line.Host}, which was forgotten, wrote into the block of host {name}; a mount there makes it good";
    }

    /// <summary>A stream of a mount of a host, as a phrase, or null. What callers say that are not known counts here too.</summary>
    public string? FindStream(Guid host)
    {
        lock (_gate)
        {
            return _mounts.Values.FirstOrDefault(v => v.Host == host && v.Streams > 0) is { } view
                ? $"its mount {view.Mount}{(view.Address.Length > 0 ? $" at {view.Address}" : "")} follows the log"
                : null;
        }
    }

    /// <summary>There is a mount whose id comes after that one.</summary>
    public bool HasAfter(Guid mount)
    {
        lock (_gate)
            return _mounts.Keys.Any(m => m.CompareTo(mount) > 0);
    }

    /// <summary>Watches the mounts of a host that are to be declared gone, or one of them (SAFETY S28). Throws NOT_FOUND when there is
    /// none, HOST_CONFLICT when one moves or has a stream.</summary>
    /// <param name="host">The host; empty: whichever <paramref name="mount"/> is of.</param>
    /// <param name="mount">The mount; empty: all of the host.</param>
    /// <param name="cancel">Ends the watch.</param>
    /// <returns>The host.</returns>
    public async Task<Guid> RequireStillAsync(Guid host, Guid mount, CancellationToken cancel)
    {
        Scan();
        Dictionary<Guid, (Guid Host, ulong Counter, bool HasStream)> before = LookAt(host, mount);
        if (before.Count == 0 && (mount != Guid.Empty || !state.Replay.Hosts.ContainsKey(host)))
            throw new FamfsException(ErrorReason.NotFound, mount != Guid.Empty ? $"mount {mount} is not in the host table{(host == Guid.Empty ? "" : $" as one of host {host}")}" : $"host {host} is not registered");
        await Task.Delay(Watch, clock, cancel).ConfigureAwait(false);
        Scan();
        foreach ((Guid moved, (Guid of, ulong counter, bool hasStream)) in LookAt(host, mount))
        {
            host = of;
            if (!before.TryGetValue(moved, out (Guid, ulong Counter, bool) known) || known.Counter != counter || hasStream)
                throw new FamfsException(ErrorReason.HostConflict, $"mount {moved} moves: it is alive; cut its host off from the memory first");
        }
        return host != Guid.Empty ? host : before.Values.First().Host; // it has ended meanwhile
    }

    // Lines of mounts that count, and whether a stream of a caller that is known says the same, at one moment.
    private Dictionary<Guid, (Guid Host, ulong Counter, bool HasStream)> LookAt(Guid host, Guid mount)
    {
        lock (_gate)
        {
            return _mounts.Values.Where(v => v.InTable && (host == Guid.Empty || v.Host == host) && (mount == Guid.Empty || v.Mount == mount) && !v.Ended)
                .ToDictionary(v => v.Mount, v => (v.Host, v.LineCounter, v.KnownStreams > 0));
        }
    }

    /// <summary>What mounts still have of the deleted files, as the lines said that were read last, and streams of known callers. Absence of a word is a hold
    /// (SAFETY S12): every line in use counts that is not proved to be gone, and one that cannot be read has everything.</summary>
    public Holds FindHolds(LogSequence newest)
    {
        lock (_gate)
        {
            Holds holds = new() { Released = _unreadable > 0 ? default : newest };
            int damaged = _unreadable - _foreign.Count;
            if (damaged > 0)
                holds.Add(default, $"{damaged} unreadable {(damaged == 1 ? "line" : "lines")} of the host table (`famfs check` names them)");
            foreach ((int entry, MountLine line) in _foreign)
                holds.Add(default, ExplainForeign(entry, line));
            foreach (MountView view in _mounts.Values)
            {
                if (!MayHold(view))
                    continue;
                holds.Add(view.Released.Watermark, view.Released.Held, view.Mount, DevicePresence.NameOf(state, view), clock.GetElapsedTime(view.LastMovedTimestamp));
            }
            return holds;
        }
    }

    /// <summary>The hosts of which nothing was heard for a time, neither by a line nor by a stream, of any of their mounts. Of each boot
    /// that a mount of <paramref name="waited"/> is of: all mounts of that boot that may hold memory. None while a line cannot be read:
    /// that may be one that lives, and nothing is given back meanwhile. <paramref name="now"/>: a timestamp from before the lines were
    /// read.</summary>
    public IReadOnlyList<SilentHost> FindSilentHosts(IReadOnlySet<Guid> waited, TimeSpan after, long now)
    {
        lock (_gate)
        {
            List<SilentHost> found = [];
            if (_unreadable > 0)
                return found;
            // What callers that are not known tell is no sign of life, nor of its absence.
            foreach (IGrouping<Guid, MountView> host in _mounts.Values.Where(v => v.IsBound).GroupBy(v => v.Host))
            {
                TimeSpan silent = host.Min(v => clock.GetElapsedTime(v.LastMovedTimestamp, now));
                if (silent < after || host.Any(v => v.KnownStreams > 0))
                    continue;
                string name = state.Replay.Hosts.TryGetValue(host.Key, out HostRecord? record) ? record.Name : "";
                foreach (IGrouping<Guid, MountView> boot in host.Where(MayHold).GroupBy(v => v.Boot).Where(b => b.Any(v => waited.Contains(v.Mount))))
                    found.Add(new(host.Key, name, boot.Key, silent, [.. boot.OrderBy(v => v.Mount).Select(v => new SilentMount(v.Mount, v.MountPoint, v.LineCounter))]));
            }
            return found;
        }
    }

    /// <summary>A mount of that boot of a host that has moved since it was found silent, has come, or may have, because a line cannot be
    /// read; empty: none, as the lines said that were read last, and streams of known callers.</summary>
    public Guid FindMoved(SilentHost host)
    {
        lock (_gate)
        {
            if (_unreadable > 0)
                return host.Mounts[0].Mount;
            foreach (MountView view in _mounts.Values.Where(v => v.IsBound && v.Host == host.Host && v.Boot == host.Boot))
            {
                SilentMount? known = host.Mounts.FirstOrDefault(m => m.Mount == view.Mount);
                if (view.KnownStreams > 0 || (known is null ? MayHold(view) : known.Counter != view.LineCounter))
                    return view.Mount;
            }
            return Guid.Empty;
        }
    }

    // Under _gate. Who went on without its records has not proved that it is gone.
    private bool MayHold(MountView view) => view.InTable && !view.Ended && Gone.Find(view) is null or GoneEvidence.LossAccepted;

    /// <summary>Reads the lines, and gives the mounts of which they tell that they are gone: those of an earlier boot, and under policy
    /// <c>lease</c> those whose lease has run out. To be called regularly.</summary>
    public IReadOnlyList<MountEnd> LookForGone()
    {
        PolicySet policy = state.Replay.Policy;
        // This process may be stopped for long, at any point: a lease counts up to before the lines are read.
        long now = clock.GetTimestamp();
        List<MountEnd> gone = Gone.FindEarlierBoots([.. Scan().Where(e => e.Line is not { } line || !state.Replay.IsForeign(e.Index, line))]);
        if (policy.Reclaim == ReclaimPolicy.Lease)
            gone.AddRange(FindExpired(TimeSpan.FromMilliseconds(policy.LeaseGraceMs), now));
        return gone;
    }

    /// <summary>Mounts whose lease and <paramref name="grace"/> have passed while their line stood still: by their own statement they have
    /// given up their files (SAFETY S15). What streams tell is no renewal. To be called with the lines as they were read after
    /// <paramref name="now"/>, which is a timestamp: a line that was renewed before is seen.</summary>
    private IReadOnlyList<MountEnd> FindExpired(TimeSpan grace, long now)
    {
        lock (_gate)
        {
            List<MountEnd> found = [];
            foreach (MountView view in _mounts.Values.Where(v => v.LeaseMs > 0 && MayHold(v)))
            {
                TimeSpan still = clock.GetElapsedTime(view.LineMovedTimestamp, now);
                if (still >= TimeSpan.FromMilliseconds(view.LeaseMs) + grace)
                    found.Add(new(view.Host, view.Mount, GoneEvidence.LeaseExpired, string.Create(CultureInfo.InvariantCulture, $"its line has not moved for {still.TotalSeconds:0.0} s; its lease is {view.LeaseMs / 1000.0:0.###} s, the grace {grace.TotalSeconds:0.###} s")));
            }
            return found;
        }
    }

    /// <summary>The mounts that have no lease, each as a sentence: of these only other evidence counts.</summary>
    public IReadOnlyList<string> FindThoseWithoutLease()
    {
        List<string> without = [];
        lock (_gate)
        {
            if (_unreadable > 0)
                without.Add($"{_unreadable} {(_unreadable == 1 ? "line" : "lines")} of the host table cannot be read or are of a forgotten host (`famfs check` names them): while that is so, no space comes back");
            foreach (MountView view in _mounts.Values.Where(v => v.LeaseMs == 0 && MayHold(v)))
                without.Add($"the mount {DevicePresence.NameOf(state, view)} has no lease: {(view.Dialect is "" or FmapLimits.StockDialect ? "it was begun before the policy, or is kept beyond its daemon" : "its kernel reaches memory without its daemon")}; only other evidence counts that it is gone");
        }
        without.Sort(StringComparer.Ordinal);
        return without;
    }

    private uint RemainingOf(MountView view) =>
        (uint)Math.Max(0, view.LeaseMs - Math.Min(view.LeaseMs, clock.GetElapsedTime(view.LineMovedTimestamp).TotalMilliseconds));

    /// <summary>The mounts whose kernels cannot map every file that may be made now, each as a sentence. A mount that is gone
    /// counts no more; a silent one does.</summary>
    public IReadOnlyList<string> FindGaps()
    {
        uint number = state.Replay.Policy.DialectFloor;
        if (number > FmapLimits.All.Count)
            return []; // a newer version's: nothing is created here
        FmapLimits? floor = FmapLimits.OfFloor(number);
        (int devices, long capacity) = (state.Replay.Devices.Length, state.Replay.CapacityBytes);
        List<string> gaps = [];
        lock (_gate)
        {
            foreach (MountView view in _mounts.Values)
            {
                if (view.Counts && !Gone.IsGone(view)
                    && FmapLimits.All.FirstOrDefault(limits => limits.Dialect == view.Dialect)?.FindGap(floor, devices, capacity) is { } gap)
                {
                    string host = state.Replay.Hosts.TryGetValue(view.Host, out HostRecord? record) && record.Name.Length > 0 ? record.Name : view.Host.ToString();
                    gaps.Add($"mount {view.Mount} of host {host} speaks dialect {view.Dialect} and cannot open all files that may be made: with the dialect floor {FmapLimits.NameOfFloor(number)} they may have {gap}");
                }
            }
        }
        gaps.Sort(StringComparer.Ordinal);
        return gaps;
    }

    /// <summary>The mounts that have not said that they follow the log to another generation, each as a sentence: after a compaction such
    /// a one serves what it has, read-only. Also one that no stream was heard of since this master began.</summary>
    public IReadOnlyList<string> FindThoseThatStay()
    {
        List<string> stay = [];
        lock (_gate)
        {
            foreach (MountView view in _mounts.Values.Where(v => v.Counts && !v.FollowsGenerations && !Gone.IsGone(v)))
            {
                string name = DevicePresence.NameOf(state, view);
                stay.Add(view.Version.Length > 0
                    ? $"the mount {name}, of version {view.Version}, does not follow a compacted log"
                    : $"the mount {name} has had no stream to this master, which does not know whether it follows a compacted log");
            }
            if (_unreadable > 0)
                stay.Add($"{_unreadable} {(_unreadable == 1 ? "line" : "lines")} of the host table cannot be read or are of a forgotten host, and may be those of mounts that do not follow a compacted log");
        }
        stay.Sort(StringComparer.Ordinal);
        return stay;
    }

    private void Merge(List<HostEntry> entries)
    {
        _unreadable = 0;
        HashSet<Guid> seen = [];
        List<(int, MountLine)> foreign = [];
        foreach (HostEntry entry in entries)
        {
            if (entry.Line is not { } line)
            {
                _unreadable++;
                continue;
            }
            // Whatever it says: it may have been stored over a line of the block's owner.
            if (state.Replay.IsForeign(entry.Index, line))
            {
                _unreadable++;
                foreign.Add((entry.Index, line));
                continue;
            }
            seen.Add(line.Mount);
            Take(line, entry.Digest);
        }
        _foreign = foreign;
        foreach (MountView view in _mounts.Values.Where(v => v.InTable && !seen.Contains(v.Mount)).ToList())
        {
            view.InTable = false;
            if (view.Streams == 0)
                _mounts.Remove(view.Mount);
        }
    }

    private void Take(MountLine line, uint digest)
    {
        MountView view = Require(line.Mount, line.Host, known: true);
        view.Boot = line.Boot;
        // A line that was not seen for a time may have moved.
        // So may one whose newer copy was lost before it was seen.
        if (!view.InTable || view.LineDigest != digest)
            view.LineMovedTimestamp = clock.GetTimestamp();
        view.LineDigest = digest;
        view.InTable = true;
        view.LeaseMs = line.LeaseMs;
        view.Ended = line.State == MountState.Ended;
        // A line that is older than what is known here has lost its newer copy, and says nothing new.
        if (view.ReleasedCounter <= line.Counter)
            (view.LineReleased, view.ReleasedCounter) = (new(line.ReleasedWatermark, line.Exceptions), line.Counter);
        if (view.StreamReleased?.GoesFartherThan(view.LineReleased) == false)
            view.StreamReleased = null;
        if (view.Dialect.Length == 0)
            view.Dialect = FmapLimits.NameOfDialect(line.Dialect);
        if (view.LineCounter != line.Counter)
        {
            view.LineCounter = line.Counter;
            view.LineMovedTimestamp = view.LastMovedTimestamp = clock.GetTimestamp();
        }
        if (line.ReplayedSequence.Value > view.Acknowledged.Sequence.Value)
            view.Acknowledged = new(state.FileSystem, line.Generation, line.ReplayedSequence, line.ReplayedTerm);
    }

    private MountView Require(Guid mount, Guid host, bool known)
    {
        if (!_mounts.TryGetValue(mount, out MountView? view))
            _mounts.Add(mount, view = new() { Mount = mount, Host = host, LastMovedTimestamp = clock.GetTimestamp() });
        if (known && !view.IsBound)
            (view.Host, view.IsBound) = (host, true);
        return view;
    }

    private bool IsDone(Waiter waiter)
    {
        waiter.Counted = 0;
        if (waiter.Mounts.Count > 0)
        {
            // What has acknowledged a position has it for good: it is not looked at again.
            for (; waiter.Next < waiter.Mounts.Count; waiter.Next++)
            {
                if (!_mounts.TryGetValue(waiter.Mounts[waiter.Next], out MountView? view) || !Reached(view, waiter))
                    return false;
            }
            waiter.Counted = waiter.Next;
            return true;
        }
        if (_unreadable > 0)
            return false;
        foreach (MountView view in _mounts.Values)
        {
            if (!view.Counts || Gone.IsGone(view))
                continue;
            if (!Reached(view, waiter))
                return false;
            waiter.Counted++;
        }
        return true;
    }

    private static bool Reached(MountView view, Waiter waiter) => view.Acknowledged.Sequence.Value >= waiter.Sequence.Value;

    private List<Waiter> TakeDone()
    {
        List<Waiter> done = [];
        _waiters.RemoveAll(waiter =>
        {
            bool isDone = IsDone(waiter);
            if (isDone)
                done.Add(waiter);
            return isDone;
        });
        return done;
    }

    private static void Complete(List<Waiter> done)
    {
        foreach (Waiter waiter in done)
            waiter.Completion.TrySetResult();
    }

    /// <summary>The looks at a host's lines that unknown callers asked for.</summary>
    private sealed class Hints
    {
        /// <summary>The look that comes next, if one was asked for.</summary>
        public Task? Next { get; set; }

        /// <summary>When the last one began; 0: there was none.</summary>
        public long LookedTimestamp { get; set; }
    }

    private sealed record Waiter(LogSequence Sequence, IReadOnlyList<Guid> Mounts)
    {
        public TaskCompletionSource Completion { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public int Counted { get; set; }

        /// <summary>The first of them that is not known to have acknowledged.</summary>
        public int Next { get; set; }

        /// <summary>What it counts for: the mounts that it names, if they are several.</summary>
        public int Weight => Mounts.Count > 1 ? Mounts.Count : 0;
    }
}
