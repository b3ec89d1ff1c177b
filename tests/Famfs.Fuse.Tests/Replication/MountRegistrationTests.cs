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
using Google.Protobuf;
using Xunit;

namespace Famfs.Fuse.Tests.Replication;

/// <summary>A mount's line, over the memory of a file system that was just made.</summary>
public sealed class MountRegistrationTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-registration-").FullName;
    private readonly HostIdentity _host = new(Guid.NewGuid(), Guid.NewGuid(), new byte[32], "test");

    private string DevicePath => Path.Combine(_directory, "0");

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Theory]
    [InlineData(0u)]
    [InlineData(3u)]
    public void The_line_says_what_the_mount_speaks_from_its_first_write_to_its_last(uint dialect)
    {
        using Replica replica = Replicate();
        MountLineTable table = new(replica.Pool);
        MountRegistration registration = new(replica, _host, Guid.NewGuid(), TimeProvider.System) { DialectNumber = dialect, GrantedSlot = 0 };
        int left = 0;
        registration.LeaveReceipt = () =>
        {
            // A daemon that is killed between the two leaves a receipt too many, and never a line that nobody can end.
            Assert.Empty(table.ReadBlock(0));
            left++;
        };
        Assert.Equal(OpenVerdict.HostDown, registration.Admit(InodeNumber.Root));

        registration.Advance();

        Assert.Equal(1, left);
        // Both copies are the mount's before anything is opened.
        Assert.Equal(2UL, Assert.Single(table.ReadBlock(0)).Line!.Counter);
        MountLine line = Assert.Single(table.ReadBlock(0)).Line!;
        Assert.Equal((dialect, MountState.Live, OpenVerdict.Open), (line.Dialect, line.State, registration.Admit(InodeNumber.Root)));
        registration.End(replica.Pool);
        line = Assert.Single(table.ReadBlock(0)).Line!;
        Assert.Equal((dialect, MountState.Ended, OpenVerdict.HostDown), (line.Dialect, line.State, registration.Admit(InodeNumber.Root)));
    }

    [Fact]
    public void The_line_says_what_was_released_and_is_written_again_when_more_was()
    {
        using Replica replica = Replicate();
        MountLineTable table = new(replica.Pool);
        ReleaseStatement released = new(new(3), [new(7), new(8)]);
        MountRegistration registration = new(replica, _host, Guid.NewGuid(), TimeProvider.System) { GrantedSlot = 0, Releases = () => released };
        foreach (ReleaseStatement now in (ReleaseStatement[])[released, new(new(3), [new(8)]), new(new(4), [new(8)])])
        {
            released = now;
            registration.Advance();
            MountLine line = Assert.Single(table.ReadBlock(0)).Line!;
            Assert.Equal(now.Watermark, line.ReleasedWatermark);
            Assert.Equal(now.Exceptions, line.Exceptions);
        }
    }

    /// <summary>Whoever can prove that an older mount of its host is gone writes so into its line, and nobody has to be believed.</summary>
    [Fact]
    public void Lines_of_older_mounts_that_are_gone_are_ended_and_those_of_living_daemons_left_alone()
    {
        using Replica replica = Replicate();
        using DevicePool others = TestFormats.All.Open([DaxDevice.Open(DevicePath)]);
        MountLineTable table = new(others);
        (Guid dead, Guid living, Guid ended, Guid without, Guid killed) = (Guid.NewGuid(), Guid.NewGuid(), Guid.NewGuid(), Guid.NewGuid(), Guid.NewGuid());
        MountLine line = new() { Counter = 5, State = MountState.Live, Host = _host.Host, Boot = _host.Boot, Mount = dead, ReplayedSequence = new(1) };
        table.Write(0, line);
        table.Write(1, line with { Mount = living });
        table.Write(2, line with { Mount = ended, State = MountState.Ended });
        table.Write(3, line with { Mount = killed }); // its daemon has no lock any more, and its kernel has files open
        Assert.True(table.TryLock(1, out IDisposable? held));
        MountRegistration registration = new(replica, _host, Guid.NewGuid(), TimeProvider.System) { GrantedSlot = 0 };
        registration.Advance();
        Assert.Equal([dead, ended, without], registration.EndOlder([dead, living, ended, without]));
        List<HostEntry> entries = table.ReadBlock(0);
        MountLine Of(Guid mount) => Assert.Single(entries, e => e.Line?.Mount == mount).Line!;
        Assert.Equal((MountState.Ended, 7UL, 1UL), (Of(dead).State, Of(dead).Counter, Of(dead).ReplayedSequence.Value));
        Assert.Equal((MountState.Live, 5UL), (Of(living).State, Of(living).Counter));
        Assert.Equal((MountState.Live, 5UL), (Of(killed).State, Of(killed).Counter));
        held.Dispose();
        Assert.Equal([living], registration.EndOlder([living]));
    }

    /// <summary>The daemon in a container has a node of the device of its own, which here is a copy of it.</summary>
    [Fact]
    public void Two_mounts_of_a_host_take_different_entries_also_when_no_lock_on_the_device_is_between_them()
    {
        using Replica replica = Replicate();
        File.Copy(DevicePath, DevicePath + " by another node");
        using Replica another = new(TestFormats.All.Open([DaxDevice.Open(DevicePath + " by another node")]), _host.Host, default, TimeProvider.System);
        Assert.Null(another.Bootstrap());
        HostIdentity host = _host with { Locks = HostLocks.In(Path.Combine(_directory, "state")) };
        foreach ((Replica of, int entry) in new[] { (replica, 0), (another, 1) })
        {
            new MountRegistration(of, host, Guid.NewGuid(), TimeProvider.System) { GrantedSlot = 0 }.Advance();
            Assert.Equal(entry, Assert.Single(new MountLineTable(of.Pool).ReadBlock(0)).Index);
        }
    }

    [Fact]
    public void A_mount_that_the_log_calls_gone_opens_nothing_and_writes_no_line_any_more()
    {
        using Replica replica = Replicate();
        Guid mount = Guid.NewGuid();
        MountRegistration registration = new(replica, _host, mount, TimeProvider.System) { GrantedSlot = 0 };
        registration.Advance();
        Assert.Equal(OpenVerdict.Open, registration.Admit(InodeNumber.Root));
        RecordBatch batch = new();
        batch.Start(replica.State.Position.Sequence, new(64), seed: 0);
        batch.Add(RecordType.HostGone, new HostGone { HostId = _host.Host.ToByteString(), MountId = mount.ToByteString(), Evidence = GoneEvidence.Fenced });
        replica.State.ApplyFrames(batch.Frames);
        ulong counter = Assert.Single(new MountLineTable(replica.Pool).ReadBlock(0)).Line!.Counter;
        for (int i = 0; i < 2; i++)
            Assert.Equal(ErrorReason.HostGone, Assert.Throws<FamfsException>(registration.Advance).Reason);
        Assert.Equal(OpenVerdict.HostDown, registration.Admit(InodeNumber.Root));
        Assert.Equal(counter, Assert.Single(new MountLineTable(replica.Pool).ReadBlock(0)).Line!.Counter);
    }

    /// <summary>A master that ends all mounts of a host takes every line for over that has not the record.</summary>
    [Fact]
    public void A_mount_opens_nothing_while_its_line_is_from_before_the_end_of_all_mounts_of_its_host()
    {
        using Replica replica = Replicate();
        MountLineTable table = new(replica.Pool);
        LogPosition before = replica.Position;
        EndAll(replica, Guid.Empty);
        MountRegistration registration = new(replica, _host, Guid.NewGuid(), TimeProvider.System) { GrantedSlot = 0 };
        registration.Advance();
        registration.Advance();
        Assert.Equal((before.Sequence, OpenVerdict.HostDown), (Assert.Single(table.ReadBlock(0)).Line!.ReplayedSequence, registration.Admit(InodeNumber.Root)));
        replica.Gate.Applied(replica.State.Position, told: true);
        registration.Advance();
        // It counts from now on; what was removed meanwhile is read once more.
        Assert.Equal((before.Sequence.Next, OpenVerdict.HostDown), (Assert.Single(table.ReadBlock(0)).Line!.ReplayedSequence, registration.Admit(InodeNumber.Root)));
        registration.Advance();
        Assert.Equal(OpenVerdict.Open, registration.Admit(InodeNumber.Root));
    }

    [Fact]
    public void A_mount_that_was_open_when_all_mounts_of_its_host_ended_is_over()
    {
        using Replica replica = Replicate();
        MountRegistration registration = new(replica, _host, Guid.NewGuid(), TimeProvider.System) { GrantedSlot = 0 };
        registration.Advance();
        Assert.Equal(OpenVerdict.Open, registration.Admit(InodeNumber.Root));
        EndAll(replica, Guid.Empty);
        replica.Gate.Applied(replica.State.Position, told: true);
        for (int i = 0; i < 2; i++)
            Assert.Equal(ErrorReason.HostGone, Assert.Throws<FamfsException>(registration.Advance).Reason);
        Assert.Equal(OpenVerdict.HostDown, registration.Admit(InodeNumber.Root));
        Assert.NotEqual(replica.State.Position.Sequence, Assert.Single(new MountLineTable(replica.Pool).ReadBlock(0)).Line!.ReplayedSequence);
    }

    /// <summary>A host lost its power while a mount wrote its line the first time. To masters somebody is there.</summary>
    [Theory]
    [InlineData(0)]
    [InlineData(4)]
    public void An_entry_whose_first_line_tore_is_taken_before_others_and_made_good(ulong former)
    {
        using Replica replica = Replicate();
        MountLineTable table = new(replica.Pool);
        int entry = MediaLayout.EntriesPerHost - 1;
        MountLine line = new() { Counter = former, State = MountState.Ended, Host = _host.Host, Boot = Guid.NewGuid(), Mount = Guid.NewGuid() };
        if (former > 0)
            table.Write(entry, line);
        table.Write(entry, line with { Counter = former + 1, State = MountState.Live, Mount = Guid.NewGuid() });
        long place = ((NativeSuperblock)replica.Pool.Primary).HostTableOffset + ((long)entry * MediaLayout.HostEntryBytes) + ((former + 1) % 2 == 1 ? 0 : MountLine.Size);
        replica.Pool.PrimaryDevice.Write(place + 40, [1, 2, 3]);
        Assert.True(Assert.Single(table.ReadBlock(0)).Unreadable);
        Guid mount = Guid.NewGuid();
        MountRegistration registration = new(replica, _host, mount, TimeProvider.System) { GrantedSlot = 0 };
        registration.Advance();
        HostEntry now = Assert.Single(table.ReadBlock(0));
        Assert.Equal((entry, mount, former + 2, false), (now.Index, now.Line!.Mount, now.Line.Counter, now.HasLostCopy));
        Assert.Equal(OpenVerdict.Open, registration.Admit(InodeNumber.Root));
    }

    /// <summary>Damage of a line that has ended leaves no older line that holds memory: the host's next mount makes it good.</summary>
    [Theory]
    [InlineData(0, false)]
    [InlineData(MountLine.Size, false)]
    [InlineData(0, true)]
    [InlineData(MountLine.Size, true)]
    public void A_damaged_line_brings_back_no_mount_that_has_ended(int copy, bool byAnother)
    {
        using Replica replica = Replicate();
        Guid ended = Guid.NewGuid();
        MountRegistration registration = new(replica, _host, ended, TimeProvider.System) { GrantedSlot = 0 };
        registration.Advance();
        int entry = Assert.Single(new MountLineTable(replica.Pool).ReadBlock(0)).Index;
        if (byAnother)
        {
            registration.ReleaseLock();
            MountRegistration other = new(replica, _host, Guid.NewGuid(), TimeProvider.System) { GrantedSlot = 0 };
            Assert.Equal([ended], other.EndOlder([ended]));
        }
        else
        {
            registration.End(replica.Pool);
        }
        long place = ((NativeSuperblock)replica.Pool.Primary).HostTableOffset + ((long)entry * MediaLayout.HostEntryBytes) + copy;
        replica.Pool.PrimaryDevice.Write(place + 40, [1, 2, 3]);
        HostEntry damaged = Assert.Single(new MountLineTable(replica.Pool).ReadBlock(0));
        Assert.True(damaged is { Line: null, IsUnfinished: true }, $"{damaged}");
        Guid next = Guid.NewGuid();
        new MountRegistration(replica, _host, next, TimeProvider.System) { GrantedSlot = 0 }.Advance();
        HostEntry now = Assert.Single(new MountLineTable(replica.Pool).ReadBlock(0));
        Assert.Equal((entry, next, false), (now.Index, now.Line!.Mount, now.HasLostCopy));
    }

    /// <summary>Dead mounts may have taken all lines of a host. Whoever ends them purges first what they have left in the caches.</summary>
    [Fact]
    public void Older_mounts_are_ended_without_an_own_line_and_only_when_their_lines_are_taken_over()
    {
        using Replica replica = Replicate();
        MountLineTable table = new(replica.Pool);
        Guid[] dead = [.. Enumerable.Range(0, MediaLayout.EntriesPerHost).Select(_ => Guid.NewGuid())];
        for (int entry = 0; entry < dead.Length; entry++)
            table.Write(entry, new() { Counter = 1, State = MountState.Live, Host = _host.Host, Boot = _host.Boot, Mount = dead[entry] });
        bool takes = false;
        MountRegistration registration = new(replica, _host, Guid.NewGuid(), TimeProvider.System) { GrantedSlot = 0, TakeOver = () => takes };
        Assert.Equal(ErrorReason.NoSpace, Assert.Throws<FamfsException>(registration.Advance).Reason);
        Assert.Empty(registration.EndOlder([dead[3]]));
        Assert.All(table.ReadBlock(0), entry => Assert.Equal(MountState.Live, entry.Line!.State));
        takes = true;
        Assert.Equal([dead[3]], registration.EndOlder([dead[3]]));
        Assert.Equal([dead[3]], registration.Ended);
        registration.Advance();
        Assert.Equal(OpenVerdict.Open, registration.Admit(InodeNumber.Root));
    }

    [Theory]
    [InlineData(4UL, true)]
    [InlineData(3UL, false)]
    [InlineData(2UL, false)] // its newer copy is damaged
    public void A_line_of_another_boot_is_a_twins_when_it_moves_on(ulong later, bool isTwin)
    {
        TwinWatch watch = new(_host, new HastyClock(3000));
        MountLine line = new() { Counter = 3, State = MountState.Live, Host = _host.Host, Boot = Guid.NewGuid(), Mount = Guid.NewGuid() };
        Assert.False(watch.StandStill([new(0, line, Unreadable: false)]));
        bool Look() => watch.StandStill([new(0, line with { Counter = later }, Unreadable: false)]);
        if (isTwin)
            Assert.Equal(ErrorReason.HostConflict, Assert.Throws<FamfsException>(() => Look()).Reason);
        else
            Assert.True(Look());
    }

    [Fact]
    public void An_entry_is_not_kept_locked_when_the_table_cannot_be_read_once()
    {
        FakeSharedMemory memory = new(40L * MediaLayout.UnitBytes, seed: 1) { AccidentOneIn = 0 };
        using (DaxDevice device = memory.Attach("host"))
            NativeFormatter.Format([device], new() { Host = _host.Host, Clock = TimeProvider.System });
        using Replica replica = new(TestFormats.All.Open([memory.Attach("host")]), _host.Host, default, TimeProvider.System);
        Assert.Null(replica.Bootstrap());
        MountRegistration registration = new(replica, _host, Guid.NewGuid(), TimeProvider.System) { GrantedSlot = 0 };
        bool locked = false;
        memory.BeforeAccess = (_, operation, _) =>
        {
            if (locked && operation == FakeOperation.Load)
                throw new IOException("of the test");
            locked |= operation == FakeOperation.Lock;
        };
        Assert.Throws<IOException>(registration.Advance);
        memory.BeforeAccess = null;
        registration.Advance();
        Assert.Equal(0, Assert.Single(new MountLineTable(replica.Pool).ReadBlock(0)).Index);
    }

    /// <summary>Whatever access it is that fails, and how often.</summary>
    [Fact]
    public void A_line_that_cannot_be_written_takes_one_entry_whenever_that_is_and_opens_nothing_before_both_copies_are_there()
    {
        int accesses = 0;
        for (int failing = 0; failing <= accesses; failing++)
        {
            FakeSharedMemory memory = new(40L * MediaLayout.UnitBytes, seed: 1) { AccidentOneIn = 0 };
            using (DaxDevice device = memory.Attach("host"))
                NativeFormatter.Format([device], new() { Host = _host.Host, Clock = TimeProvider.System });
            using Replica replica = new(TestFormats.All.Open([memory.Attach("host")]), _host.Host, default, TimeProvider.System);
            Assert.Null(replica.Bootstrap());
            Guid mount = Guid.NewGuid();
            MountRegistration registration = new(replica, _host, mount, TimeProvider.System) { GrantedSlot = 0 };
            int count = 0;
            for (int attempt = 0; attempt < 3 && !registration.IsOpen; attempt++)
            {
                count = 0;
                memory.BeforeAccess = (_, _, _) =>
                {
                    if (count++ == failing && attempt < 2)
                        throw new IOException("of the test");
                };
                Exception? failure = Record.Exception(registration.Advance);
                memory.BeforeAccess = null;
                Assert.Equal(attempt < 2 && count > failing, failure is IOException);
                if (failure is null)
                    Assert.True(registration.IsOpen);
                if (registration.IsOpen)
                    Assert.InRange(Assert.Single(new MountLineTable(replica.Pool).ReadBlock(0)).Line!.Counter, 2UL, 8UL);
            }
            accesses = Math.Max(accesses, count);
            Assert.True(registration.IsOpen);
            HostEntry entry = Assert.Single(new MountLineTable(replica.Pool).ReadBlock(0));
            Assert.Equal((0, mount), (entry.Index, entry.Line!.Mount));
        }
        Assert.InRange(accesses, 10, 10_000);
    }

    /// <summary>What a mount states once is for as long as it lives: a master counts by it, whatever the policy is later.</summary>
    [Theory]
    [InlineData(ReclaimPolicy.Lease, true, 10_000u)]
    [InlineData(ReclaimPolicy.Lease, false, 0u)] // a famfs kernel, or a kept mount
    [InlineData(ReclaimPolicy.Confirmed, true, 0u)]
    public void The_line_states_the_lease_of_the_policy_that_the_mount_was_begun_under(ReclaimPolicy policy, bool may, uint stated)
    {
        using Replica replica = Replicate();
        ManualClock clock = new();
        Apply(replica, RecordType.PolicySet, new PolicySet { Reclaim = policy, LeaseMs = 10_000, LeaseGraceMs = 1000 });
        MountRegistration registration = new(replica, _host, Guid.NewGuid(), clock) { GrantedSlot = 0, MayGiveLease = () => may };
        MountLineTable table = new(replica.Pool);
        registration.Advance();
        Assert.Equal((stated, stated), (Assert.Single(table.ReadBlock(0)).Line!.LeaseMs, registration.LeaseMs));
        Apply(replica, RecordType.PolicySet, new PolicySet { Reclaim = policy == ReclaimPolicy.Lease ? ReclaimPolicy.Confirmed : ReclaimPolicy.Lease, LeaseMs = 60_000 });
        clock.Now += TimeSpan.FromSeconds(2);
        registration.Advance();
        Assert.Equal((stated, 3UL), (Assert.Single(table.ReadBlock(0)).Line!.LeaseMs, Assert.Single(table.ReadBlock(0)).Line!.Counter));
        clock.Now += TimeSpan.FromHours(1);
        Assert.Equal(stated > 0, registration.IsOver);
    }

    /// <summary>The first line may be in memory though its write failed.</summary>
    [Fact]
    public void A_lease_is_that_of_the_first_write_also_when_it_failed()
    {
        (FakeSharedMemory memory, Replica made) = ReplicateFake();
        using Replica replica = made;
        (MountRegistration registration, ManualClock clock) = Lease(memory, replica, number =>
        {
            if (number == 2)
                throw new IOException("of the test");
        });
        Assert.Throws<IOException>(registration.Advance);
        Apply(replica, RecordType.PolicySet, new PolicySet { Reclaim = ReclaimPolicy.Confirmed });
        clock.Now += TimeSpan.FromSeconds(1);
        registration.Advance();
        Assert.Equal((10_000u, OpenVerdict.Open), (Assert.Single(new MountLineTable(replica.Pool).ReadBlock(0)).Line!.LeaseMs, registration.Admit(InodeNumber.Root)));
        clock.Now += TimeSpan.FromSeconds(10);
        Assert.True(registration.IsOver);
    }

    /// <summary>The log says that it is gone, its host was forgotten, or another has the entry: what is there may be another mount's line.</summary>
    [Theory]
    [InlineData("gone")]
    [InlineData("another mount")]
    [InlineData("another host")]
    [InlineData("")]
    public void A_mount_that_has_ended_stores_no_end_over_the_line_of_another(string what)
    {
        using Replica replica = Replicate();
        Guid mount = Guid.NewGuid();
        MountRegistration registration = new(replica, _host, mount, TimeProvider.System) { GrantedSlot = 0 };
        registration.Advance();
        MountLineTable table = new(replica.Pool);
        MountLine line = Assert.Single(table.ReadBlock(0)).Line!;
        if (what == "gone")
        {
            EndAll(replica, mount);
            Assert.Throws<FamfsException>(registration.Advance);
        }
        else if (what == "another mount")
        {
            registration.ReleaseLock();
            line = line with { Counter = line.Counter + 2, Mount = Guid.NewGuid() };
            table.Write(0, line);
        }
        else if (what == "another host")
        {
            Guid next = Guid.NewGuid();
            Apply(replica, RecordType.HostRegistered, new HostRegistered { HostId = _host.Host.ToByteString(), HostSlot = 0 });
            Apply(replica, RecordType.HostForgotten, new HostForgotten { HostId = _host.Host.ToByteString(), HostSlot = 0, LineCounters = { Enumerable.Repeat(0UL, 8) }, LineMounts = { Enumerable.Repeat(ByteString.Empty, 8) } });
            Apply(replica, RecordType.HostRegistered, new HostRegistered { HostId = next.ToByteString(), HostSlot = 0 });
        }
        registration.End(replica.Pool);
        MountLine now = Assert.Single(table.ReadBlock(0)).Line!;
        Assert.Equal(what.Length > 0 ? (line.Counter, line.Mount, MountState.Live) : (line.Counter + 2, mount, MountState.Ended), (now.Counter, now.Mount, now.State));
    }

    /// <summary>From the last write that was begun, and not renewed after that: a master may have counted it as gone.</summary>
    [Fact]
    public void A_lease_that_has_run_out_ends_the_mount_for_good()
    {
        (FakeSharedMemory memory, Replica made) = ReplicateFake();
        using Replica replica = made;
        (MountRegistration registration, ManualClock clock) = Lease(memory, replica, _ => { });
        MountLineTable table = new(replica.Pool);
        registration.Advance();
        clock.Now += TimeSpan.FromSeconds(9.9);
        registration.Advance();
        ulong counter = Assert.Single(table.ReadBlock(0)).Line!.Counter;
        Assert.Equal((3UL, OpenVerdict.Open, false), (counter, registration.Admit(InodeNumber.Root), registration.IsOver));
        clock.Now += TimeSpan.FromSeconds(9.999);
        Assert.False(registration.IsOver);
        // Whoever asks knows it before the upkeep does.
        clock.Now += TimeSpan.FromSeconds(0.001);
        Assert.True(registration.IsOver);
        for (int i = 0; i < 2; i++)
        {
            FamfsException over = Assert.Throws<FamfsException>(registration.Advance);
            Assert.Equal(ErrorReason.HostGone, over.Reason);
            Assert.Contains("within its lease of 10 s", over.Message, StringComparison.Ordinal);
        }
        Assert.Equal(OpenVerdict.HostDown, registration.Admit(InodeNumber.Root));
        Assert.Equal(counter, Assert.Single(table.ReadBlock(0)).Line!.Counter);
        // That it has ended is true, and may be stated.
        registration.End(replica.Pool);
        Assert.Equal(MountState.Ended, Assert.Single(table.ReadBlock(0)).Line!.State);
    }

    /// <summary>A master may see the line, and counts from then.</summary>
    [Fact]
    public void A_lease_begins_with_a_first_write_that_fails()
    {
        (FakeSharedMemory memory, Replica replica) = ReplicateFake();
        using (replica)
        {
            bool stored = false;
            (MountRegistration registration, ManualClock clock) = Lease(memory, replica, _ => stored = true);
            Action<string, string, long> look = memory.BeforeAccess!;
            memory.BeforeAccess = (host, operation, offset) =>
            {
                look(host, operation, offset);
                if (stored && operation == FakeOperation.Fence)
                    throw new IOException("of the test");
            };
            Assert.Throws<IOException>(registration.Advance);
            memory.BeforeAccess = null;
            clock.Now += TimeSpan.FromSeconds(10);
            Assert.Equal(ErrorReason.HostGone, Assert.Throws<FamfsException>(registration.Advance).Reason);
            Assert.Equal((true, OpenVerdict.HostDown), (registration.IsOver, registration.Admit(InodeNumber.Root)));
        }
    }

    /// <summary>The daemon is paused while it writes its line: at its first write, and at a later one.</summary>
    [Theory]
    [InlineData(1, 10.0, true)]
    [InlineData(1, 4.9, false)]
    [InlineData(2, 10.0, true)]
    [InlineData(3, 8.0, true)] // 2 s after the write before it
    [InlineData(3, 7.9, false)]
    public void A_line_that_was_in_memory_too_late_renews_nothing(int write, double seconds, bool isOver)
    {
        (FakeSharedMemory memory, Replica made) = ReplicateFake();
        using Replica replica = made;
        ManualClock paused = null!;
        (MountRegistration registration, ManualClock clock) = Lease(memory, replica, number =>
        {
            if (number == write)
                paused.Now += TimeSpan.FromSeconds(seconds);
        });
        paused = clock;
        for (int turn = 0; turn < 2; turn++)
        {
            Exception? failure = Record.Exception(registration.Advance);
            clock.Now += TimeSpan.FromSeconds(turn == 0 && write == 3 ? 2 : 0);
            if (failure is not null)
                break;
        }
        Assert.Equal((isOver, isOver ? OpenVerdict.HostDown : OpenVerdict.Open), (registration.IsOver, registration.Admit(InodeNumber.Root)));
        if (isOver)
            Assert.Equal(ErrorReason.HostGone, Assert.Throws<FamfsException>(registration.Advance).Reason);
        else
            registration.Advance();
    }

    /// <summary>A pause counts from before the write: what came into memory then may be seen at once.</summary>
    [Fact]
    public void A_lease_begins_before_the_write_that_renews_it()
    {
        (FakeSharedMemory memory, Replica made) = ReplicateFake();
        using Replica replica = made;
        ManualClock paused = null!;
        (MountRegistration registration, ManualClock clock) = Lease(memory, replica, number => paused.Now += TimeSpan.FromSeconds(number == 3 ? 3 : 0));
        paused = clock;
        registration.Advance();
        clock.Now += TimeSpan.FromSeconds(2);
        registration.Advance();
        clock.Now += TimeSpan.FromSeconds(6.9);
        Assert.False(registration.IsOver);
        clock.Now += TimeSpan.FromSeconds(0.1);
        Assert.True(registration.IsOver);
    }

    /// <summary>The failed write may be in memory, and a master counts from when it saw it. The same counter again would not move.</summary>
    [Fact]
    public void A_write_that_failed_is_followed_by_one_of_a_higher_counter_in_the_same_copy()
    {
        (FakeSharedMemory memory, Replica made) = ReplicateFake();
        using Replica replica = made;
        (MountRegistration registration, ManualClock clock) = Lease(memory, replica, number =>
        {
            if (number is 3 or 4)
                throw new IOException("of the test");
        });
        registration.Advance();
        clock.Now += TimeSpan.FromSeconds(3);
        Assert.Throws<IOException>(registration.Advance);
        Assert.Throws<IOException>(registration.Advance);
        registration.Advance();
        Assert.Equal(7UL, Assert.Single(new MountLineTable(replica.Pool).ReadBlock(0)).Line!.Counter);
        clock.Now += TimeSpan.FromSeconds(3);
        registration.Advance();
        Assert.Equal(8UL, Assert.Single(new MountLineTable(replica.Pool).ReadBlock(0)).Line!.Counter);
    }

    /// <summary>A master reads what is there, and sees no line that has moved.</summary>
    [Fact]
    public void A_line_that_is_not_in_memory_as_it_was_written_renews_nothing()
    {
        (FakeSharedMemory memory, Replica made) = ReplicateFake();
        using Replica replica = made;
        (MountRegistration registration, ManualClock clock) = Lease(memory, replica, _ => { });
        registration.Advance();
        long table = ((NativeSuperblock)replica.Pool.Primary).HostTableOffset;
        memory.BeforeAccess = (_, operation, offset) =>
        {
            if (operation == FakeOperation.Invalidate && offset >= table && offset < table + MountLine.Size)
                memory.WriteMemory(table + 40, [1, 2, 3]);
        };
        clock.Now += TimeSpan.FromSeconds(5);
        Assert.Throws<DeviceFaultException>(registration.Advance);
        clock.Now += TimeSpan.FromSeconds(4.9);
        Assert.False(registration.IsOver);
        clock.Now += TimeSpan.FromSeconds(0.1);
        Assert.True(registration.IsOver);
    }

    /// <summary>The end of the log cannot be read for longer than a lease, by damage that heals.</summary>
    [Fact]
    public void A_lease_is_renewed_also_while_the_log_cannot_be_read()
    {
        (FakeSharedMemory memory, Replica made) = ReplicateFake();
        using Replica replica = made;
        (MountRegistration registration, ManualClock clock) = Lease(memory, replica, _ => { });
        long start = MediaLayout.AnchorOffset;
        long table = ((NativeSuperblock)replica.Pool.Primary).HostTableOffset;
        memory.BeforeAccess = (_, operation, offset) =>
        {
            if (operation == FakeOperation.Load && offset >= start && offset < table)
                throw new IOException("of the test");
        };
        for (int turn = 0; turn < 5; turn++)
        {
            Assert.Throws<IOException>(registration.Advance);
            clock.Now += TimeSpan.FromSeconds(4);
        }
        Assert.Equal((false, OpenVerdict.HostDown), (registration.IsOver, registration.Admit(InodeNumber.Root)));
        memory.BeforeAccess = null;
        registration.Advance();
        Assert.Equal(OpenVerdict.Open, registration.Admit(InodeNumber.Root));
    }

    /// <summary>Nobody kept the time while there was no daemon.</summary>
    [Fact]
    public void A_line_with_a_lease_is_resumed_by_nobody()
    {
        using Replica replica = Replicate();
        Guid mount = Guid.NewGuid();
        MountLine line = new() { Counter = 4, State = MountState.Live, Host = _host.Host, Boot = _host.Boot, Mount = mount, LeaseMs = 3_600_000 };
        new MountLineTable(replica.Pool).Write(0, line);
        MountRegistration registration = new(replica, _host, mount, TimeProvider.System) { GrantedSlot = 0 };
        Assert.True(registration.TryResume(0));
        registration.OpenResumed();
        Assert.Equal((true, OpenVerdict.HostDown), (registration.IsOver, registration.Admit(InodeNumber.Root)));
        Assert.Equal(ErrorReason.HostGone, Assert.Throws<FamfsException>(registration.Advance).Reason);
        Assert.Equal(4UL, Assert.Single(new MountLineTable(replica.Pool).ReadBlock(0)).Line!.Counter);
    }

    // A lease of 10 s; writing: called within each write of the line, with its number from 1.
    private (MountRegistration Registration, ManualClock Clock) Lease(FakeSharedMemory memory, Replica replica, Action<int> writing)
    {
        ManualClock clock = new();
        Apply(replica, RecordType.PolicySet, new PolicySet { Reclaim = ReclaimPolicy.Lease, LeaseMs = 10_000, LeaseGraceMs = 1000 });
        long table = ((NativeSuperblock)replica.Pool.Primary).HostTableOffset;
        int writes = 0;
        memory.BeforeAccess = (_, operation, offset) =>
        {
            if (operation == FakeOperation.Store && offset >= table && offset < table + MediaLayout.HostEntryBytes && (offset - table) % MountLine.Size == 0)
                writing(++writes);
        };
        return (new(replica, _host, Guid.NewGuid(), clock) { GrantedSlot = 0, MayGiveLease = () => true }, clock);
    }

    private (FakeSharedMemory, Replica) ReplicateFake()
    {
        FakeSharedMemory memory = new(40L * MediaLayout.UnitBytes, seed: 1) { AccidentOneIn = 0 };
        using (DaxDevice device = memory.Attach("host"))
            NativeFormatter.Format([device], new() { Host = _host.Host, Clock = TimeProvider.System });
        Replica replica = new(TestFormats.All.Open([memory.Attach("host")]), _host.Host, default, TimeProvider.System);
        Assert.Null(replica.Bootstrap());
        return (memory, replica);
    }

    private static void Apply(Replica replica, RecordType type, IMessage payload)
    {
        RecordBatch batch = new();
        batch.Start(replica.State.Position.Sequence, new(64), seed: 0);
        batch.Add(type, payload);
        replica.State.ApplyFrames(batch.Frames);
    }

    private sealed class ManualClock : TimeProvider
    {
        public TimeSpan Now { get; set; } = TimeSpan.FromDays(1);

        public override long TimestampFrequency => TimeSpan.TicksPerSecond;

        public override long GetTimestamp() => Now.Ticks;
    }

    private void EndAll(Replica replica, Guid mount)
    {
        RecordBatch batch = new();
        batch.Start(replica.State.Position.Sequence, new(64), seed: 0);
        batch.Add(RecordType.HostGone, new HostGone { HostId = _host.Host.ToByteString(), MountId = mount.ToByteString(), Evidence = GoneEvidence.Fenced });
        replica.State.ApplyFrames(batch.Frames);
    }

    /// <summary>What a mount of a file system that was just made has replayed.</summary>
    private Replica Replicate()
    {
        using (FileStream file = File.Create(DevicePath))
            file.SetLength(16 << 20);
        using (DaxDevice device = DaxDevice.Open(DevicePath))
            NativeFormatter.Format([device], new() { Host = _host.Host, Clock = TimeProvider.System });
        Replica replica = new(TestFormats.All.Open([DaxDevice.Open(DevicePath)]), _host.Host, default, TimeProvider.System);
        Assert.Null(replica.Bootstrap());
        return replica;
    }
}
