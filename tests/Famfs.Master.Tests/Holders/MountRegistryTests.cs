using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.Master.Changes;
using Famfs.Master.Holders;
using Famfs.Master.State;
using Famfs.TestSupport;
using Famfs.TestSupport.Dax;
using Famfs.V1;
using Xunit;

namespace Famfs.Master.Tests.Holders;

public sealed class MountRegistryTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-mounts-").FullName;
    private readonly DevicePool _pool;
    private readonly MasterState _state;
    private readonly MountRegistry _mounts;
    private readonly MountLineTable _table;
    private readonly SettableClock _clock = new();

    public MountRegistryTests()
    {
        string path = Path.Combine(_directory, "0");
        using (FileStream file = File.Create(path))
            file.SetLength(16 << 20);
        using (DaxDevice device = DaxDevice.Open(path))
            NativeFormatter.Format([device], new() { Host = Guid.NewGuid(), Clock = TimeProvider.System });
        _pool = TestFormats.All.Open([DaxDevice.Open(path)]);
        _table = new(_pool);
        _state = new(_pool, _clock, new Random(1));
        _mounts = new(_state, _table, _clock);
        Apply(RecordType.FileSystemCreated, new FileSystemCreated { FileSystemUuid = _pool.Primary.FileSystem.ToByteString(), UnitBytes = MediaLayout.UnitBytes, RootInode = 1, Generation = _pool.Primary.Generation, RootMode = 0x1ED, HostTableInode = 4, HostTable = new() { OffsetBytes = 2 << 20, LengthBytes = 2 << 20 } });
        Apply(RecordType.DeviceAdded, new DeviceAdded { Index = 0, LengthBytes = 16 << 20, SuperblockInode = 3 });
        Apply(RecordType.HostRegistered, new HostRegistered { HostId = Guid.NewGuid().ToByteString(), HostSlot = 0 });
    }

    public void Dispose()
    {
        _state.Dispose();
        Directory.Delete(_directory, recursive: true);
    }

    [Fact]
    public void A_mount_that_connects_anew_stays_subscribed_when_its_older_stream_ends_later()
    {
        (Guid mount, Guid host) = (Guid.NewGuid(), Guid.NewGuid());
        _mounts.Subscribed(mount, host, Guid.NewGuid(), "stock", "1");
        _mounts.Subscribed(mount, host, Guid.NewGuid(), "stock", "1");
        _mounts.Unsubscribed(mount);
        Assert.True(_mounts.IsOf(mount, host));
        _mounts.Unsubscribed(mount);
        Assert.False(_mounts.IsOf(mount, host));
    }

    [Fact]
    public void A_mount_is_described_with_what_it_told_and_where_it_came_from()
    {
        _mounts.Subscribed(Guid.NewGuid(), Guid.NewGuid(), Guid.NewGuid(), "stock", "1.2.3", "/mnt/a", "10.0.0.7");
        HostStatus described = Assert.Single(_mounts.Describe(default));
        Assert.Equal(("/mnt/a", "1.2.3", "10.0.0.7"), (described.MountPoint, described.Version, described.Address));
    }

    [Fact]
    public async Task A_wait_for_all_counts_the_lines_of_granted_slots_with_and_without_a_stream()
    {
        MountLine line = new() { Counter = 1, State = MountState.Live, Host = Guid.NewGuid(), Boot = Guid.NewGuid(), Mount = Guid.NewGuid() };
        _table.Write(MediaLayout.EntriesPerHost, line); // of host slot 1
        _mounts.Scan();
        Assert.Equal(0, await _mounts.WaitAsync(new(5), [], TestContext.Current.CancellationToken));
        Apply(RecordType.HostRegistered, new HostRegistered { HostId = line.Host.ToByteString(), HostSlot = 1 });
        Assert.Single(_mounts.Scan());
        Task<int> waiting = _mounts.WaitAsync(new(5), [], TestContext.Current.CancellationToken);
        Assert.Equal([line.Mount], _mounts.Missing(new(5), []));
        Assert.False(waiting.IsCompleted);
        _table.Write(MediaLayout.EntriesPerHost, line with { Counter = 2, ReplayedSequence = new(5) });
        _mounts.Scan();
        Assert.Equal(1, await waiting.WaitAsync(TimeSpan.FromMinutes(1), TestContext.Current.CancellationToken));
    }

    [Fact]
    public async Task What_a_stranger_says_counts_when_the_line_says_it()
    {
        Guid host = Guid.NewGuid();
        Apply(RecordType.HostRegistered, new HostRegistered { HostId = host.ToByteString(), HostSlot = 1 });
        MountLine line = new() { Counter = 1, State = MountState.Live, Host = host, Boot = Guid.NewGuid(), Mount = Guid.NewGuid() };
        // It names a mount of another host before that one's line is seen, and one that is not there at all.
        _mounts.Subscribed(line.Mount, Guid.NewGuid(), Guid.NewGuid(), "stock", "1", known: false);
        _mounts.Subscribed(Guid.NewGuid(), host, Guid.NewGuid(), "stock", "1", known: false);
        Assert.Equal(0, await _mounts.WaitAsync(new(5), [], TestContext.Current.CancellationToken));
        Assert.False(_mounts.IsOf(line.Mount, host));
        _table.Write(MediaLayout.EntriesPerHost, line);
        await _mounts.HintedAsync(host);
        Assert.True(_mounts.IsOf(line.Mount, host));
        Task<int> waiting = _mounts.WaitAsync(new(5), [], TestContext.Current.CancellationToken);
        await _mounts.HintedAsync(host);
        Assert.False(waiting.IsCompleted);
        _table.Write(MediaLayout.EntriesPerHost, line with { Counter = 2, ReplayedSequence = new(5) });
        await _mounts.HintedAsync(host);
        Assert.Equal(1, await waiting.WaitAsync(TimeSpan.FromMinutes(1), TestContext.Current.CancellationToken));
        // Nobody's host has no lines.
        await _mounts.HintedAsync(Guid.NewGuid());
    }

    /// <summary>A delay of less than a millisecond is over at once, on the thread that asked for it. That has the gate, which a look takes
    /// after another lock; and what was done there and then was taken for the look to come.</summary>
    [Fact]
    public async Task A_look_that_is_nearly_due_is_followed_by_others()
    {
        Guid host = Guid.NewGuid();
        Apply(RecordType.HostRegistered, new HostRegistered { HostId = host.ToByteString(), HostSlot = 1 });
        MountLine line = new() { Counter = 1, State = MountState.Live, Host = host, Boot = Guid.NewGuid(), Mount = Guid.NewGuid() };
        for (ulong i = 1; i < 10; i++)
        {
            _clock.Now += MountRegistry.HintPause / 2;
            _table.Write(MediaLayout.EntriesPerHost, line with { Counter = i, ReplayedSequence = new(i) });
            await _mounts.HintedAsync(host).WaitAsync(TimeSpan.FromMinutes(1), TestContext.Current.CancellationToken);
            Assert.Equal(i, Assert.Single(_mounts.Describe(default)).Position.Sequence);
        }
    }

    /// <summary>A hundred callers at once do not read the table a hundred times, one after another.</summary>
    [Fact]
    public void Of_callers_that_come_at_the_same_time_one_reads_the_lines_for_all()
    {
        FakeSharedMemory memory = new(16 << 20, seed: 1, coherent: true) { AccidentOneIn = 0 };
        DaxDevice device = memory.Attach("master");
        NativeFormatter.Format([device], new() { Host = Guid.NewGuid(), Clock = TimeProvider.System });
        using DevicePool pool = TestFormats.All.Open([device]);
        MountLineTable table = new(pool);
        table.Write(0, new() { Counter = 1, State = MountState.Live, Host = Guid.NewGuid(), Boot = Guid.NewGuid(), Mount = Guid.NewGuid() });
        MountRegistry mounts = new(_state, table, _clock);
        int reads = 0;
        long meanwhile = 0;
        memory.BeforeAccess = (_, operation, offset) =>
        {
            if (operation != FakeOperation.Load || offset != MediaLayout.HostTableOffset)
                return;
            reads++;
            meanwhile = mounts.ScansBegun;
        };
        long before = mounts.ScansBegun;
        mounts.ScanSince(before);
        Assert.Equal(1, reads);
        for (int i = 0; i < 20; i++)
            mounts.ScanSince(before);
        Assert.Equal(1, reads);
        // What was read before a caller came may be older than what it wants to see.
        mounts.ScanSince(meanwhile);
        Assert.Equal(2, reads);
        mounts.ScanOnce();
        Assert.Equal(3, reads);
        // One that failed is nobody's.
        before = mounts.ScansBegun;
        memory.Poison(MediaLayout.HostTableOffset, 1, "master");
        Assert.ThrowsAny<Exception>(mounts.ScanOnce);
        memory.ClearPoison();
        mounts.ScanSince(before);
        Assert.Equal(5, reads);
    }

    /// <summary>Its caller asks the next master, and is not kept until its connection is cut.</summary>
    [Fact]
    public async Task Who_waits_for_mounts_when_the_master_stops_is_told_so()
    {
        Guid mount = Guid.NewGuid();
        Task<int> waiting = _mounts.WaitAsync(new(5), [mount], TestContext.Current.CancellationToken);
        Assert.False(waiting.IsCompleted);
        _mounts.EndWaits(new(ErrorReason.NotMaster, "the master is stopping"));
        FamfsException error = await Assert.ThrowsAsync<FamfsException>(() => waiting.WaitAsync(TimeSpan.FromMinutes(1)));
        Assert.Equal((ErrorReason.NotMaster, "the master is stopping"), (error.Reason, error.Message));
        error = await Assert.ThrowsAsync<FamfsException>(() => _mounts.WaitAsync(new(5), [mount], TestContext.Current.CancellationToken).WaitAsync(TimeSpan.FromMinutes(1)));
        Assert.Equal(ErrorReason.NotMaster, error.Reason);
    }

    [Fact]
    public void Only_a_mount_of_its_host_with_a_line_that_is_not_over_can_have_written()
    {
        MountLine line = new() { Counter = 1, State = MountState.Live, Host = Guid.NewGuid(), Boot = Guid.NewGuid(), Mount = Guid.NewGuid() };
        _mounts.Subscribed(line.Mount, line.Host, Guid.NewGuid(), "stock", "1");
        Assert.False(_mounts.HasLine(line.Mount, line.Host));
        _table.Write(0, line);
        _mounts.Scan();
        Assert.True(_mounts.HasLine(line.Mount, line.Host));
        Assert.False(_mounts.HasLine(line.Mount, Guid.NewGuid()));
        Assert.False(_mounts.HasLine(Guid.NewGuid(), line.Host));
        _table.Write(0, line with { Counter = 2, State = MountState.Ended });
        _mounts.Scan();
        Assert.False(_mounts.HasLine(line.Mount, line.Host));
    }

    [Fact]
    public void A_lines_dialect_is_known_without_a_stream_and_a_mount_that_cannot_map_all_is_named()
    {
        MountLine line = new() { Counter = 1, State = MountState.Live, Host = Guid.NewGuid(), Boot = Guid.NewGuid(), Mount = Guid.NewGuid(), Dialect = 3 };
        _table.Write(0, line);
        _table.Write(1, line with { Mount = Guid.NewGuid(), Dialect = 0 });
        _mounts.Scan();
        Assert.Equal(["B", "stock"], _mounts.Describe(default).Select(h => h.Dialect).Order());

        // One device and no floor, or a floor that it can do: nothing to say.
        Assert.Empty(_mounts.FindGaps());
        Apply(RecordType.PolicySet, new PolicySet { DialectFloor = 1 });
        Assert.Empty(_mounts.FindGaps());

        Apply(RecordType.PolicySet, new PolicySet { DialectFloor = 4 });
        string gap = Assert.Single(_mounts.FindGaps());
        Assert.Contains($"mount {line.Mount} of host {line.Host} speaks dialect B", gap, StringComparison.Ordinal);
        Assert.Contains("floor D they may have space on devices from index 24 on", gap, StringComparison.Ordinal);
        Apply(RecordType.PolicySet, new PolicySet { DialectFloor = 99 });
        Assert.Empty(_mounts.FindGaps());

        Apply(RecordType.PolicySet, new PolicySet { DialectFloor = 4 });
        _table.Write(0, line with { Counter = 2, State = MountState.Ended });
        _mounts.Scan();
        Assert.Empty(_mounts.FindGaps());
    }

    [Fact]
    public void A_mount_without_a_line_is_silent_only_while_it_is_behind()
    {
        LogPosition master = new(_pool.Primary.FileSystem, 0, new(5), default);
        (Guid subscribed, Guid line) = (Guid.NewGuid(), Guid.NewGuid());
        _mounts.Subscribed(subscribed, Guid.NewGuid(), Guid.NewGuid(), "stock", "1");
        _table.Write(0, new MountLine { Counter = 1, State = MountState.Live, Host = Guid.NewGuid(), Boot = Guid.NewGuid(), Mount = line, ReplayedSequence = new(5) });
        _mounts.Scan();
        HostState Of(Guid mount) => Assert.Single(_mounts.Describe(master), h => h.MountId.ToGuid("mount") == mount).State;
        Assert.Equal((HostState.Lagging, HostState.Live), (Of(subscribed), Of(line)));
        _clock.Now += MountRegistry.SilentAfter + TimeSpan.FromSeconds(1);
        Assert.Equal((HostState.Silent, HostState.Silent), (Of(subscribed), Of(line)));
        _mounts.Acknowledged(subscribed, master);
        _clock.Now += MountRegistry.SilentAfter + TimeSpan.FromSeconds(1);
        Assert.Equal(HostState.Live, Of(subscribed));
    }

    /// <summary>Each mount by what its own line states, and by the policy that is in force.</summary>
    [Fact]
    public void A_line_that_stands_still_for_its_lease_and_the_grace_tells_that_its_mount_is_gone()
    {
        (Guid leased, Guid longer, Guid without, Guid ended) = (Guid.NewGuid(), Guid.NewGuid(), Guid.NewGuid(), Guid.NewGuid());
        MountLine line = new() { Counter = 1, State = MountState.Live, Host = Guid.NewGuid(), Boot = Guid.NewGuid(), Mount = leased, LeaseMs = 10_000 };
        _table.Write(0, line);
        _table.Write(1, line with { Mount = longer, LeaseMs = 60_000 });
        _table.Write(2, line with { Mount = without, LeaseMs = 0 });
        _table.Write(3, line with { Mount = ended, State = MountState.Ended });
        Apply(RecordType.PolicySet, new PolicySet { Reclaim = ReclaimPolicy.Lease, LeaseMs = 20_000, LeaseGraceMs = 5_000 });
        IEnumerable<Guid> Gone() => _mounts.LookForGone().Select(end => end.Mount);
        Assert.Empty(Gone());
        _clock.Now += TimeSpan.FromSeconds(14.9);
        Assert.Empty(Gone());
        // What a stream tells is no renewal.
        _mounts.Subscribed(leased, line.Host, line.Boot, "stock", "1");
        _mounts.Acknowledged(leased, new(_pool.Primary.FileSystem, 0, new(9), default));
        _mounts.SaidReleased(leased, line.Host, new(9), []);
        _clock.Now += TimeSpan.FromSeconds(0.1);
        Assert.Equal([leased], Gone());
        MountEnd end = Assert.Single(_mounts.LookForGone());
        Assert.Equal((line.Host, GoneEvidence.LeaseExpired, "its line has not moved for 15.0 s; its lease is 10 s, the grace 5 s"), (end.Host, end.Evidence, end.Detail));
        Assert.Equal([10_000u, 60_000u, 0u, 10_000u], ((Guid[])[leased, longer, without, ended]).Select(m => Of(m).LeaseMs));
        Assert.Equal((0u, 45_000u), (Of(leased).LeaseRemainingMs, Of(longer).LeaseRemainingMs));
        // It moves; then it is looked at afresh, however late.
        _table.Write(0, line with { Counter = 2 });
        Assert.Empty(Gone());
        _clock.Now += TimeSpan.FromSeconds(14.9);
        Assert.Empty(Gone());
        Apply(RecordType.PolicySet, new PolicySet { Reclaim = ReclaimPolicy.Confirmed });
        _clock.Now += TimeSpan.FromHours(1);
        Assert.Empty(Gone());
        Apply(RecordType.PolicySet, new PolicySet { Reclaim = ReclaimPolicy.Lease });
        Assert.Equal([leased, longer], Gone().OrderBy(m => m == leased ? 0 : 1));
        Apply(RecordType.HostGone, new HostGone { HostId = line.Host.ToByteString(), MountId = leased.ToByteString(), Evidence = GoneEvidence.LeaseExpired });
        Assert.Equal([longer], Gone());
        HostStatus Of(Guid mount) => Assert.Single(_mounts.Describe(default), h => h.MountId.ToGuid("mount") == mount);
    }

    /// <summary>Another master saw it move; this one has seen it once.</summary>
    [Fact]
    public void A_lease_counts_from_when_this_master_saw_the_line_and_again_after_it_could_not_be_read()
    {
        MountLine line = new() { Counter = 7, State = MountState.Live, Host = Guid.NewGuid(), Boot = Guid.NewGuid(), Mount = Guid.NewGuid(), LeaseMs = 10_000 };
        _table.Write(0, line);
        Apply(RecordType.PolicySet, new PolicySet { Reclaim = ReclaimPolicy.Lease, LeaseGraceMs = 5_000 });
        // Its stream was there before.
        _mounts.Subscribed(line.Mount, line.Host, line.Boot, "stock", "1");
        _clock.Now += TimeSpan.FromHours(1);
        Assert.Empty(_mounts.LookForGone());
        _clock.Now += TimeSpan.FromSeconds(14);
        Assert.Empty(_mounts.LookForGone());
        long place = ((NativeSuperblock)_pool.Primary).HostTableOffset;
        byte[] bytes = new byte[MediaLayout.HostEntryBytes];
        _pool.PrimaryDevice.Read(place, bytes);
        _pool.PrimaryDevice.Write(place + 40, [1, 2, 3]);
        _clock.Now += TimeSpan.FromHours(1);
        Assert.Empty(_mounts.LookForGone());
        _pool.PrimaryDevice.Write(place, bytes);
        Assert.Empty(_mounts.LookForGone());
        _clock.Now += TimeSpan.FromSeconds(15);
        Assert.Single(_mounts.LookForGone());
    }

    /// <summary>A mount renewed its lease, and the line that did it was damaged before this master saw it. What is left is the line before.</summary>
    [Fact]
    public void A_lease_goes_on_when_a_newer_line_was_there_and_is_lost()
    {
        MountLine line = new() { Counter = 7, State = MountState.Live, Host = Guid.NewGuid(), Boot = Guid.NewGuid(), Mount = Guid.NewGuid(), LeaseMs = 10_000 };
        _table.Write(0, line with { Counter = 6 });
        _table.Write(0, line);
        Apply(RecordType.PolicySet, new PolicySet { Reclaim = ReclaimPolicy.Lease, LeaseGraceMs = 5_000 });
        Assert.Empty(_mounts.LookForGone());
        _clock.Now += TimeSpan.FromSeconds(14);
        _table.Write(0, line with { Counter = 8 });
        _pool.PrimaryDevice.Write(((NativeSuperblock)_pool.Primary).HostTableOffset + MountLine.Size + 40, [1, 2, 3]);
        Assert.Empty(_mounts.LookForGone());
        _clock.Now += TimeSpan.FromSeconds(14);
        Assert.Empty(_mounts.LookForGone());
        _clock.Now += TimeSpan.FromSeconds(1);
        Assert.Single(_mounts.LookForGone());
    }

    /// <summary>The master is stopped between its look at the clock and at the lines, or after both. Only what has stood still up to the
    /// first look counts, because what was renewed before that is seen.</summary>
    [Fact]
    public void A_lease_counts_up_to_before_the_lines_are_read()
    {
        MountLine line = new() { Counter = 1, State = MountState.Live, Host = Guid.NewGuid(), Boot = Guid.NewGuid(), Mount = Guid.NewGuid(), LeaseMs = 10_000 };
        _table.Write(0, line);
        Apply(RecordType.PolicySet, new PolicySet { Reclaim = ReclaimPolicy.Lease, LeaseGraceMs = 5_000 });
        Assert.Empty(_mounts.LookForGone());
        _clock.Now += TimeSpan.FromSeconds(14);
        _clock.StepOnce = TimeSpan.FromHours(1);
        Assert.Empty(_mounts.LookForGone());
        Assert.Single(_mounts.LookForGone());
    }

    [Fact]
    public void Mounts_without_a_lease_are_named_with_the_cause()
    {
        MountLine line = new() { Counter = 1, State = MountState.Live, Host = Guid.NewGuid(), Boot = Guid.NewGuid(), Mount = Guid.NewGuid() };
        _table.Write(0, line);
        _table.Write(1, line with { Mount = Guid.NewGuid(), Dialect = 3 });
        _table.Write(2, line with { Mount = Guid.NewGuid(), LeaseMs = 1 });
        _table.Write(3, line with { Mount = Guid.NewGuid(), State = MountState.Ended });
        _mounts.Scan();
        IReadOnlyList<string> without = _mounts.FindThoseWithoutLease();
        Assert.Equal(2, without.Count);
        Assert.Single(without, text => text.Contains("begun before the policy", StringComparison.Ordinal));
        Assert.Single(without, text => text.Contains("its kernel reaches memory without its daemon", StringComparison.Ordinal));
    }

    /// <summary>An operator states that a host is gone. Its lines are watched all the same (SAFETY S14).</summary>
    [Theory]
    [InlineData("nothing", false)]
    [InlineData("its line", true)]
    [InlineData("its stream", true)]
    [InlineData("another mount", true)]
    [InlineData("its end", false)]
    public async Task Who_moves_while_an_operator_waits_is_not_gone(string what, bool isAlive)
    {
        WaitedClock clock = new();
        MountRegistry mounts = new(_state, _table, clock);
        MountLine line = new() { Counter = 1, State = MountState.Live, Host = Guid.NewGuid(), Boot = Guid.NewGuid(), Mount = Guid.NewGuid() };
        _table.Write(0, line);
        Task<Guid> watch = mounts.RequireStillAsync(line.Host, Guid.Empty, TestContext.Current.CancellationToken);
        await clock.Waits.WaitAsync(TimeSpan.FromMinutes(1), TestContext.Current.CancellationToken);
        if (what == "its line")
            _table.Write(0, line with { Counter = 2 });
        else if (what == "its stream")
            mounts.Subscribed(line.Mount, line.Host, line.Boot, "stock", "");
        else if (what == "another mount")
            _table.Write(1, line with { Mount = Guid.NewGuid() });
        else if (what == "its end")
            _table.Write(0, line with { Counter = 2, State = MountState.Ended });
        clock.Pass();
        if (isAlive)
            Assert.Equal(ErrorReason.HostConflict, (await Assert.ThrowsAsync<FamfsException>(() => watch)).Reason);
        else
            Assert.Equal(line.Host, await watch);
    }

    [Fact]
    public async Task Waits_name_only_so_many_mounts_and_what_ended_counts_no_more()
    {
        List<Guid> names = [.. Enumerable.Range(0, MountRegistry.MaxWaitedOfCaller).Select(_ => Guid.NewGuid())];
        for (int round = 0; round < 2; round++)
        {
            using CancellationTokenSource over = new();
            List<Task<int>> all = [];
            foreach (string caller in (string[])["a", "b", "c", "d"])
            {
                // The same mount twice is one.
                all.Add(_mounts.WaitAsync(new(5), [.. names, names[0]], over.Token, caller));
                Assert.False(all[^1].IsCompleted);
                if (caller != "a")
                    continue;
                FamfsException own = await Assert.ThrowsAsync<FamfsException>(() => _mounts.WaitAsync(new(5), names[..2], over.Token, caller));
                Assert.Equal((ErrorReason.Overloaded, (ulong)MountRegistry.MaxWaitedOfCaller), (own.Reason, own.Limit));
            }
            FamfsException refused = await Assert.ThrowsAsync<FamfsException>(() => _mounts.WaitAsync(new(5), names[..2], over.Token, "e"));
            Assert.Equal((ErrorReason.Overloaded, (ulong)MountRegistry.MaxWaitedMounts), (refused.Reason, refused.Limit));
            // What waits after a change, for one mount or for all, is kept out by nobody's Barriers.
            all.Add(_mounts.WaitAsync(new(5), names[..1], over.Token, "a"));
            Assert.False(all[^1].IsCompleted);
            Assert.Equal(0, await _mounts.WaitAsync(new(5), [], TestContext.Current.CancellationToken, "a"));
            await over.CancelAsync();
            foreach (Task<int> wait in all)
                await Assert.ThrowsAnyAsync<OperationCanceledException>(() => wait);
        }
    }

    [Fact]
    public void Mounts_are_described_in_the_order_of_their_ids_some_at_a_time()
    {
        List<Guid> mounts = [.. Enumerable.Range(0, 5).Select(_ => Guid.NewGuid())];
        foreach (Guid mount in mounts)
            _mounts.Subscribed(mount, Guid.NewGuid(), Guid.NewGuid(), "stock", "1");
        List<Guid> seen = [];
        while (_mounts.Describe(default, seen.LastOrDefault(), 2) is { Count: > 0 } some)
        {
            Assert.InRange(some.Count, 1, 2);
            seen.AddRange(some.Select(h => h.MountId.ToGuid("mount")));
        }
        Assert.Equal(mounts.OrderBy(m => m.ToByteString().ToByteArray(), Comparer<byte[]>.Create((a, b) => a.AsSpan().SequenceCompareTo(b))), seen);
    }

    private sealed class SettableClock : TimeProvider
    {
        public TimeSpan Now { get; set; }

        /// <summary>Passes after the next look.</summary>
        public TimeSpan StepOnce { get; set; }

        public override long TimestampFrequency => TimeSpan.TicksPerSecond;

        public override long GetTimestamp()
        {
            TimeSpan now = Now;
            (Now, StepOnce) = (Now + StepOnce, default);
            return now.Ticks;
        }
    }

    /// <summary>Whoever waits by it waits until it is told to pass.</summary>
    private sealed class WaitedClock : TimeProvider
    {
        private readonly TaskCompletionSource _waits = new(TaskCreationOptions.RunContinuationsAsynchronously);
        private Action _passed = static () => { };

        public Task Waits => _waits.Task;

        public void Pass() => _passed();

        public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
        {
            _passed = () => callback(state);
            _waits.TrySetResult();
            return new Timer(static _ => { });
        }
    }

    private void Apply(RecordType type, Google.Protobuf.IMessage payload)
    {
        RecordBatch batch = new();
        batch.Start(_state.Replay.Position.Sequence, new(64), seed: 0);
        batch.Add(type, payload);
        _state.Replay.ApplyFrames(batch.Frames);
    }
}
