using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.Core.Namespace;
using Famfs.Fuse.Operations;
using Famfs.Fuse.Replication;
using Famfs.TestSupport;
using Famfs.TestSupport.Dax;
using Famfs.TestSupport.Log;
using Famfs.V1;
using Xunit;

namespace Famfs.Fuse.Tests.Replication;

/// <summary>Daemons of a host that was forgotten, and of the one that has its block now, over one memory beside a master.</summary>
public sealed class ForgottenHostTests : IDisposable
{
    private readonly FakeSharedMemory _memory = new(64L * MediaLayout.UnitBytes, seed: 1) { AccidentOneIn = 0 };
    private readonly HostIdentity _first = new(Guid.NewGuid(), Guid.NewGuid(), new byte[32], "first");
    private readonly HostIdentity _second = new(Guid.NewGuid(), Guid.NewGuid(), new byte[32], "second");
    private readonly HastyClock _clock = new(1100);
    private readonly DevicePool _pool;
    private readonly MountLineTable _table;
    private readonly TestMaster _master;
    private readonly List<Replica> _replicas = [];

    public ForgottenHostTests()
    {
        Guid host = Guid.NewGuid();
        using (DaxDevice device = _memory.Attach("master"))
            NativeFormatter.Format([device], new() { Host = host, Clock = TimeProvider.System });
        _pool = TestFormats.All.Open([_memory.Attach("master")]);
        _table = new(_pool);
        _master = TestMaster.Start(_pool, 0, host);
        Register(_first, 0);
    }

    public void Dispose()
    {
        _replicas.ForEach(r => r.Dispose());
        _pool.Dispose();
    }

    /// <summary>It read which entry is free, and wakes up when another host's mount has that entry and has opened files.</summary>
    [Fact]
    public void A_daemon_that_was_paused_before_its_first_write_opens_nothing_and_hides_no_holder_for_good()
    {
        MountRegistration paused = NewRegistration(_first, Guid.NewGuid(), out Replica _);
        Guid mount = Guid.NewGuid();
        MountRegistration? owner = null;
        BeforeFirstWriteOf(_first, () =>
        {
            Assert.Empty(_table.ReadBlock(0));
            Forget(_first, 0);
            Assert.Empty(_table.ReadBlock(0));
            Register(_second, 0);
            owner = NewRegistration(_second, mount, out Replica _);
            owner.Advance();
            Assert.Equal(OpenVerdict.Open, owner.Admit(InodeNumber.Root));
        });
        paused.Advance();
        Assert.NotNull(owner);
        Assert.Equal((OpenVerdict.HostDown, false), (paused.Admit(InodeNumber.Root), paused.HasLine));
        // Its line is where the owner's was, and stays: an end would hide that one as well.
        ReplayState seen = Follow();
        HostEntry hidden = Assert.Single(_table.ReadBlock(0));
        Assert.Equal((_first.Host, MountState.Live), (hidden.Line!.Host, hidden.Line.State));
        Assert.True(seen.IsForeign(hidden.Index, hidden.Line));

        owner.Advance();
        HostEntry covered = Assert.Single(_table.ReadBlock(0));
        Assert.Equal((mount, MountState.Live), (covered.Line!.Mount, covered.Line.State));
        Assert.False(seen.IsForeign(covered.Index, covered.Line));

        // One that has stored more often has higher counters.
        foreach (ulong counter in (ulong[])[39, 40])
            _table.Write(hidden.Index, hidden.Line with { Counter = counter, State = MountState.Ended });
        owner.Advance();
        Assert.Equal((mount, MountState.Live), (Assert.Single(_table.ReadBlock(0)).Line!.Mount, Assert.Single(_table.ReadBlock(0)).Line!.State));

        // It asks for a block, and has one as any host.
        paused.Advance();
        Assert.True(paused.WantsBlock);
        Register(_first, 1);
        paused.GrantedSlot = 1;
        paused.Advance();
        Assert.Equal(OpenVerdict.Open, paused.Admit(InodeNumber.Root));
        Assert.Equal(_first.Host, Assert.Single(_table.ReadBlock(1)).Line!.Host);
        Assert.Equal(mount, Assert.Single(_table.ReadBlock(0)).Line!.Mount);
    }

    /// <summary>Nobody gets the block while the line is there. It ends as the line of a mount that never was: another line of this mount,
    /// which holds memory, may be read before it.</summary>
    [Fact]
    public void A_line_in_a_block_that_nobody_has_is_ended_by_its_daemon_and_says_nothing_of_its_mount()
    {
        Guid mount = Guid.NewGuid();
        MountRegistration paused = NewRegistration(_first, mount, out Replica _);
        BeforeFirstWriteOf(_first, () => Forget(_first, 0));
        paused.Advance();
        Assert.Equal((OpenVerdict.HostDown, false), (paused.Admit(InodeNumber.Root), paused.HasLine));
        MountLine ended = Assert.Single(_table.ReadBlock(0)).Line!;
        Assert.Equal((MountState.Ended, _first.Host, 4UL), (ended.State, ended.Host, ended.Counter));
        Assert.NotEqual(mount, ended.Mount);
        paused.Advance();
        Assert.True(paused.WantsBlock);
        Assert.Equal(4UL, Assert.Single(_table.ReadBlock(0)).Line!.Counter);
        // The same block, because nobody else can have it.
        Register(_first, 0);
        paused.GrantedSlot = 0;
        paused.Advance();
        Assert.Equal((OpenVerdict.Open, mount), (paused.Admit(InodeNumber.Root), Assert.Single(_table.ReadBlock(0)).Line!.Mount));
    }

    /// <summary>The host may have the same block again, and then nobody would know what that line is of. In another's block it is that
    /// host's to cover.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_mount_that_ends_where_its_host_was_forgotten_ends_its_line_unless_the_block_is_anothers(bool isOfOther)
    {
        Guid mount = Guid.NewGuid();
        MountRegistration registration = NewRegistration(_first, mount, out Replica replica);
        registration.Advance();
        Assert.Equal((mount, MountState.Live), (Assert.Single(_table.ReadBlock(0)).Line!.Mount, Assert.Single(_table.ReadBlock(0)).Line!.State));
        Forget(_first, 0);
        if (isOfOther)
            Register(_second, 0);
        Drain(replica);
        Assert.Equal(!isOfOther, registration.End(replica.Pool));
        MountLine line = Assert.Single(_table.ReadBlock(0)).Line!;
        Assert.Equal((mount, isOfOther ? MountState.Live : MountState.Ended), (line.Mount, line.State));
    }

    /// <summary>The lease was of a line that is taken back. The mount waits for a block for longer than that.</summary>
    [Fact]
    public void A_lease_ends_with_the_line_that_is_withdrawn_and_begins_again_with_the_next()
    {
        _master.Publish(RecordType.PolicySet, new PolicySet { Reclaim = ReclaimPolicy.Lease, LeaseMs = 600_000, LeaseGraceMs = 600_000 });
        MountRegistration paused = NewRegistration(_first, Guid.NewGuid(), out Replica _);
        paused.MayGiveLease = () => true;
        BeforeFirstWriteOf(_first, () => Forget(_first, 0));
        paused.Advance();
        Assert.Equal((false, 0u, true), (paused.HasLine, paused.LeaseMs, paused.HasLease));
        // Each look takes a second.
        for (int look = 0; look < 700; look++)
            _ = _clock.GetTimestamp();
        Assert.False(paused.IsOver);
        paused.Advance();
        Register(_first, 0);
        paused.GrantedSlot = 0;
        paused.Advance();
        Assert.Equal((OpenVerdict.Open, 600_000u), (paused.Admit(InodeNumber.Root), Assert.Single(_table.ReadBlock(0)).Line!.LeaseMs));
        for (int look = 0; look < 700; look++)
            _ = _clock.GetTimestamp();
        Assert.True(paused.IsOver);
    }

    [Fact]
    public void A_daemon_that_reads_that_its_host_was_forgotten_writes_no_line_into_the_block_that_a_master_named_before()
    {
        MountRegistration registration = NewRegistration(_first, Guid.NewGuid(), out Replica replica);
        registration.MayAcknowledge = () => false;
        registration.GrantedSlot = 0;
        _table.Write(0, new() { Counter = 1, State = MountState.Live, Host = _first.Host, Boot = Guid.NewGuid(), Mount = Guid.NewGuid() });
        registration.Advance(); // watches for a twin
        Assert.False(registration.HasLine);
        _table.Write(0, new() { Counter = 2, State = MountState.Ended, Host = _first.Host, Boot = Guid.NewGuid(), Mount = Guid.NewGuid() });
        Forget(_first, 0, 2);
        Drain(replica);
        registration.Advance();
        Assert.Equal((true, false), (registration.WantsBlock, registration.HasLine));
        Assert.Equal(2UL, Assert.Single(_table.ReadBlock(0)).Line!.Counter);
        // One that a master names after that is good at once.
        Register(_first, 1);
        registration.GrantedSlot = 1;
        registration.Advance();
        Assert.Equal(OpenVerdict.Open, registration.Admit(InodeNumber.Root));
    }

    [Theory]
    [InlineData("nothing else is known", true)]
    [InlineData("a mount without a line", false)]
    [InlineData("a mount with a line", true)]
    [InlineData("a mount that the log calls gone", true)]
    [InlineData("a mount whose superblock is gone", true)]
    [InlineData("the caches cannot be taken over", false)]
    [InlineData("a daemon has the entry", false)]
    public void A_foreign_line_is_covered_where_no_mount_of_the_host_can_be_beneath_it(string what, bool isCovered)
    {
        const int Entry = 3;
        Guid older = Guid.NewGuid();
        MountLine foreign = GiveBlockToSecond(Entry);
        MountRegistration owner = NewRegistration(_second, Guid.NewGuid(), out Replica _);
        int taken = 0;
        owner.TakeOver = () =>
        {
            taken++;
            return what != "the caches cannot be taken over";
        };
        if (what != "nothing else is known")
            owner.OlderMounts = () => [older];
        if (what is "a mount whose superblock is gone" or "the caches cannot be taken over")
            owner.GoneMountsOfHost = () => [older];
        if (what == "a mount with a line")
            _table.Write(5, foreign with { Counter = 1, Host = _second.Host, Boot = _second.Boot, Mount = older });
        if (what == "a mount that the log calls gone")
            _master.Publish(RecordType.HostGone, new HostGone { HostId = _second.Host.ToByteString(), MountId = older.ToByteString(), Evidence = GoneEvidence.Fenced });
        MountLineTable theirs = new(TestFormats.All.Open([_memory.Attach(_second.Name)]));
        IDisposable? held = null;
        if (what == "a daemon has the entry")
        {
            owner.OlderMounts = () => [];
            Assert.True(theirs.TryLock(Entry, out held));
        }

        owner.Advance();
        Assert.Equal(OpenVerdict.Open, owner.Admit(InodeNumber.Root));
        MountLine now = Assert.Single(_table.ReadBlock(0), e => e.Index == Entry).Line!;
        if (isCovered)
            Assert.Equal((_second.Host, MountState.Ended, foreign.Counter + 2), (now.Host, now.State, now.Counter));
        else
            Assert.Equal(foreign.Mount, now.Mount);
        Assert.Equal(what is "a mount whose superblock is gone" or "the caches cannot be taken over" ? 1 : 0, taken);
        held?.Dispose();
    }

    [Theory]
    [InlineData(MountState.Live)]
    [InlineData(MountState.Ended)]
    public void A_mount_takes_no_entry_with_a_foreign_line_and_ends_no_older_mount_beside_it(MountState state)
    {
        const int Entry = 0;
        MountLine foreign = GiveBlockToSecond(Entry, state);
        MountRegistration owner = NewRegistration(_second, Guid.NewGuid(), out Replica _);
        Guid older = Guid.NewGuid();
        owner.OlderMounts = () => [older];
        owner.Advance();
        Assert.Equal([foreign.Mount, owner.Line!.Mount], _table.ReadBlock(0).Select(e => e.Line!.Mount));
        // Its line may be beneath: its receipt stays.
        Assert.Empty(owner.EndOlder([older]));
    }

    /// <summary>A store of the late line tore: which line it was cannot be read any more.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_torn_entry_of_such_a_block_is_taken_where_no_mount_of_the_host_can_be_beneath_it(bool hasReceipt)
    {
        const int Entry = 3;
        _ = GiveBlockToSecond(Entry, MountState.Ended);
        _memory.WriteMemory(((NativeSuperblock)_pool.Primary).HostTableOffset + (Entry * MediaLayout.HostEntryBytes) + 40, [1, 2, 3]);
        Assert.True(Assert.Single(_table.ReadBlock(0)).IsUnfinished);
        MountRegistration owner = NewRegistration(_second, Guid.NewGuid(), out Replica _);
        owner.OlderMounts = () => hasReceipt ? [Guid.NewGuid()] : [];
        owner.Advance();
        Assert.Equal(hasReceipt ? 0 : Entry, Assert.Single(_table.ReadBlock(0), e => e.Line?.Host == _second.Host).Index);
    }

    [Fact]
    public void A_line_of_another_host_in_the_block_is_no_twins()
    {
        TwinWatch watch = new(_second, _clock);
        MountLine line = new() { Counter = 3, State = MountState.Live, Host = _first.Host, Boot = _first.Boot, Mount = Guid.NewGuid() };
        Assert.True(watch.StandStill([new(0, line, Unreadable: false)]));
        Assert.True(watch.StandStill([new(0, line with { Counter = 4 }, Unreadable: false)]));
    }

    /// <summary>A daemon withdrew, and its successor finds the line that it left.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_line_that_is_resumed_opens_nothing_in_the_block_of_another_host(bool isAnothers)
    {
        Guid mount = Guid.NewGuid();
        _table.Write(0, new() { Counter = 1, State = MountState.Ended, Host = _first.Host, Boot = _first.Boot, Mount = Guid.NewGuid() });
        Forget(_first, 0, 1);
        if (isAnothers)
            Register(_second, 0);
        _table.Write(0, new() { Counter = 3, State = MountState.Live, Host = _first.Host, Boot = _first.Boot, Mount = mount });
        MountRegistration successor = NewRegistration(_first, mount, out Replica _);
        Assert.True(successor.TryResume(0));
        successor.OpenResumed();
        Assert.Equal(!isAnothers, successor.IsOpen);
        successor.Advance();
        Assert.Equal((!isAnothers, !isAnothers), (successor.IsOpen, successor.HasLine));
        // It was open when its host was forgotten: it keeps its line, which keeps the block from others.
        Assert.Equal((MountState.Live, mount), (Assert.Single(_table.ReadBlock(0)).Line!.State, Assert.Single(_table.ReadBlock(0)).Line!.Mount));
        if (!isAnothers)
            return;
        Register(_first, 1);
        successor.GrantedSlot = 1;
        successor.Advance();
        Assert.Equal((true, mount), (successor.IsOpen, Assert.Single(_table.ReadBlock(1)).Line!.Mount));
    }

    /// <summary>Programs may have files open with it, whoever says when the gate opens.</summary>
    [Fact]
    public void A_line_that_is_resumed_is_never_ended_because_its_host_was_forgotten()
    {
        Guid mount = Guid.NewGuid();
        Forget(_first, 0);
        _table.Write(0, new() { Counter = 3, State = MountState.Live, Host = _first.Host, Boot = _first.Boot, Mount = mount });
        MountRegistration successor = NewRegistration(_first, mount, out Replica _);
        Assert.True(successor.TryResume(0));
        successor.Advance();
        Assert.Equal((true, true), (successor.IsOpen, successor.HasLine));
        Assert.Equal((MountState.Live, mount), (Assert.Single(_table.ReadBlock(0)).Line!.State, Assert.Single(_table.ReadBlock(0)).Line!.Mount));
    }

    private MountLine GiveBlockToSecond(int entry, MountState state = MountState.Live)
    {
        Forget(_first, 0);
        Register(_second, 0);
        MountLine foreign = new() { Counter = 2, State = state, Host = _first.Host, Boot = _first.Boot, Mount = Guid.NewGuid() };
        _table.Write(entry, foreign with { Counter = 1 });
        _table.Write(entry, foreign);
        return foreign;
    }

    private void BeforeFirstWriteOf(HostIdentity host, Action action)
    {
        long start = ((NativeSuperblock)_pool.Primary).HostTableOffset;
        _memory.BeforeAccess = (who, operation, offset) =>
        {
            if (who != host.Name || operation != FakeOperation.Store || offset < start)
                return;
            _memory.BeforeAccess = null;
            action();
        };
    }

    private MountRegistration NewRegistration(HostIdentity host, Guid mount, out Replica replica)
    {
        replica = new(TestFormats.All.Open([_memory.Attach(host.Name)]), host.Host, default, TimeProvider.System);
        _replicas.Add(replica);
        Assert.Null(replica.Bootstrap());
        return new(replica, host, mount, _clock);
    }

    private ReplayState Follow()
    {
        _ = NewRegistration(_first, Guid.NewGuid(), out Replica replica);
        return replica.State;
    }

    private static void Drain(Replica replica)
    {
        while (replica.PollMemory() == PollVerdict.Records)
        {
        }
    }

    private void Register(HostIdentity host, uint slot) => _master.Publish(RecordType.HostRegistered, new HostRegistered { HostId = host.Host.ToByteString(), HostSlot = slot, Name = host.Name });

    private void Forget(HostIdentity host, uint slot, params ulong[] counters) => _master.Publish(RecordType.HostForgotten, new HostForgotten
    {
        HostId = host.Host.ToByteString(),
        HostSlot = slot,
        LineCounters = { counters.Concat(Enumerable.Repeat(0UL, MediaLayout.EntriesPerHost - counters.Length)) },
        LineMounts = { Enumerable.Range(0, MediaLayout.EntriesPerHost).Select(i => _table.ReadBlock((int)slot).Find(e => e.Index % MediaLayout.EntriesPerHost == i).Line is { } line ? line.Mount.ToByteString() : Google.Protobuf.ByteString.Empty) },
    });
}
