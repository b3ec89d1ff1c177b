using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Namespace;
using Famfs.Master.Changes;
using Famfs.Master.Queries;
using Famfs.V1;
using Google.Protobuf;
using Xunit;

namespace Famfs.Master.Tests.Changes;

/// <summary>Directories, mounts, master slots, policies, terms.</summary>
public sealed class OtherChangesTests
{
    [Fact]
    public void Missing_parents_are_records_of_their_own_and_the_id_is_in_the_last()
    {
        using Deciding on = new();
        MakeDirectoryRequest request = new() { RequestId = Guid.CreateVersion7(on.Clock.Now).ToByteString(), Path = "a/b/c", Parents = true, Mode = 0x1C0, ModeSet = true };
        MakeDirectoryReply made = on.Decide(new DirectoryCreation(request));
        Assert.Equal(Enumerable.Repeat(RecordType.DirectoryMade, 3), on.Types());
        Assert.Equal(made.Directory, on.Decide(new DirectoryCreation(request)).Directory);
        Assert.Equal(3, on.Batch.Count);
        Assert.True(on.Decide(new DirectoryCreation(new() { Path = "a/b", Parents = true })).Existed);
        Assert.Equal(ErrorReason.Exists, on.Refuse(new DirectoryCreation(new() { Path = "a/b" })).Reason);
        Assert.Equal(ErrorReason.NotFound, on.Refuse(new DirectoryCreation(new() { Path = "x/y" })).Reason);
        Assert.Equal(ErrorReason.BadRequest, on.Refuse(new DirectoryCreation(new() { Path = "z", Mode = 0x1000 })).Reason);
    }

    [Fact]
    public void Parents_that_do_not_fit_are_not_made_in_part()
    {
        using Deciding on = new();
        on.Begin(roomBytes: 200);
        Assert.Equal(VerdictKind.NextBatch, new DirectoryCreation(new() { Path = "a/b/c", Parents = true }).Decide(on.Context).Kind);
        Assert.Empty(on.Types());
    }

    [Fact]
    public void A_host_gets_one_slot_however_often_its_mounts_come_and_a_copy_of_it_none()
    {
        using Deciding on = new();
        HostClaim host = new(Guid.NewGuid(), ByteString.CopyFromUtf8("machine"), "name");
        // A Hello registers nothing.
        Assert.Equal(-1, on.Decide(Admit(host)).Slot);
        Assert.Empty(on.Types());
        int slot = on.Decide(Register(host));
        Assert.Equal((slot, slot), (on.Decide(Register(host)), on.Decide(Admit(host)).Slot));
        Assert.NotEqual(slot, on.Decide(Register(new(Guid.NewGuid(), ByteString.Empty, "other"))));
        Assert.Equal([RecordType.HostRegistered, RecordType.HostRegistered], on.Types());
        HostClaim copy = host with { MachineDigest = ByteString.CopyFromUtf8("another") };
        Assert.Equal((ErrorReason.HostConflict, ErrorReason.HostConflict), (on.Refuse(Admit(copy)).Reason, on.Refuse(Register(copy)).Reason));
        foreach (HostClaim bad in (HostClaim[])[new(Guid.Empty, ByteString.Empty, ""), new(Guid.NewGuid(), ByteString.CopyFrom(new byte[65]), "")])
            Assert.Equal((ErrorReason.BadRequest, ErrorReason.BadRequest), (on.Refuse(Admit(bad)).Reason, on.Refuse(Register(bad)).Reason));
        FamfsException full = on.Refuse(Register(new(Guid.NewGuid(), ByteString.Empty, ""), capacity: 2));
        Assert.Equal((ErrorReason.NoSpace, "the host table is full: it has room for 2 hosts, and as many are registered; `famfs hosts forget` takes the block of a host that is not used any more"), (full.Reason, full.Message));
        Assert.Equal(-1, on.Decide(new MountAdmission(new(host, Guid.Empty, new()), [])).Slot);
    }

    [Fact]
    public void Hosts_are_registered_by_those_who_may_be_hosts_and_by_strangers_only_so_many_an_hour()
    {
        using Deciding on = new();
        RegistrationLimit limit = new();
        HostRegistration New() => new(new(Guid.NewGuid(), ByteString.Empty, ""), 4096, limit);
        on.Context.Caller = new(CallerKind.Process) { Uid = 1001, Gid = 2001 };
        Assert.Equal(ErrorReason.NotPermitted, on.Refuse(New()).Reason);
        on.Context.Caller = Caller.Unknown;
        HostClaim first = new(Guid.NewGuid(), ByteString.Empty, "");
        int slot = on.Decide(new HostRegistration(first, 4096, limit));
        on.Clock.Now += TimeSpan.FromMinutes(30);
        for (int i = 1; i < RegistrationLimit.MostOfCaller; i++)
            on.Decide(New());
        FamfsException own = on.Refuse(New());
        Assert.Equal((ErrorReason.Overloaded, (ulong)RegistrationLimit.MostOfCaller), (own.Reason, own.Limit));
        on.Context.Caller = Caller.Unknown with { Address = "10.0.0.1" };
        for (int i = RegistrationLimit.MostOfCaller; i < RegistrationLimit.MostInAnHour; i++)
            on.Decide(New());
        on.Context.Caller = Caller.Unknown with { Address = "10.0.0.2" };
        FamfsException refused = on.Refuse(New());
        Assert.Equal((ErrorReason.Overloaded, (ulong)RegistrationLimit.MostInAnHour), (refused.Reason, refused.Limit));
        // Who is registered already, or known, is not held up.
        Assert.Equal(slot, on.Decide(new HostRegistration(first, 4096, limit)));
        foreach (Caller known in (Caller[])[new(CallerKind.Process) { IsPrivileged = true }, new(CallerKind.Certificate)])
        {
            on.Context.Caller = known;
            on.Decide(New());
        }
        on.Context.Caller = Caller.Unknown;
        on.Clock.Now += TimeSpan.FromMinutes(30);
        on.Decide(New());
        on.Refuse(New());
    }

    [Fact]
    public void Strangers_leave_a_part_of_the_host_table_to_those_who_are_known()
    {
        using Deciding on = new();
        RegistrationLimit limit = new();
        on.Context.Caller = Caller.Unknown;
        int there = on.State.Replay.Hosts.Count;
        int capacity = 40;
        HostRegistration New() => new(new(Guid.NewGuid(), ByteString.Empty, ""), capacity, limit);
        for (int i = there; i < 35; i++)
            on.Decide(New());
        FamfsException refused = on.Refuse(New());
        Assert.Equal((ErrorReason.NoSpace, 35ul), (refused.Reason, refused.Limit));
        on.Context.Caller = new(CallerKind.Certificate);
        for (int i = 35; i < capacity; i++)
            on.Decide(New());
        Assert.Equal((ErrorReason.NoSpace, (ulong)capacity), (on.Refuse(New()).Reason, on.Refuse(New()).Limit));
    }

    [Fact]
    public void A_position_of_another_history_is_not_admitted()
    {
        using Deciding on = new();
        HostClaim host = new(Guid.NewGuid(), ByteString.Empty, "");
        Position here = on.Context.Position.ToMessage();
        Assert.Equal(-1, on.Decide(new MountAdmission(new(host, Guid.NewGuid(), here), [])).Slot);
        Position later = new(here) { Sequence = here.Sequence + 100 };
        Assert.Equal(ErrorReason.StaleGeneration, on.Refuse(new MountAdmission(new(host, Guid.NewGuid(), later), [])).Reason);
        Position elsewhere = new(here) { FileSystemUuid = Guid.NewGuid().ToByteString() };
        Assert.Equal(ErrorReason.WrongFilesystem, on.Refuse(new MountAdmission(new(host, Guid.NewGuid(), elsewhere), [])).Reason);
    }

    [Fact]
    public void An_end_is_recorded_once_and_the_mount_is_not_admitted_again()
    {
        using Deciding on = new();
        HostClaim host = new(Guid.NewGuid(), ByteString.Empty, "");
        MountEnd end = new(host.Host, Guid.NewGuid(), GoneEvidence.CleanUnmount, new string('d', 300));
        on.Decide(new MountAdmission(new(host, Guid.NewGuid(), new()), [end, end]));
        Assert.Equal([RecordType.HostGone], on.Types());
        Assert.False(on.Decide(new MountGone(end)));
        Assert.True(on.Decide(new MountGone(end with { Mount = Guid.NewGuid() })));
        Assert.Equal(GoneEvidence.CleanUnmount, on.State.FindGone(end.Host, end.Mount, default)!.Value.Evidence);
        Assert.Equal(ErrorReason.HostGone, on.Refuse(new MountAdmission(new(host, end.Mount, new()), [])).Reason);
    }

    [Fact]
    public void A_master_slot_is_granted_once_per_host_with_a_segment()
    {
        using Deciding on = new();
        GrantMasterSlotRequest request = new() { HostId = Guid.NewGuid().ToByteString() };
        long free = on.State.Allocator.FreeBytes;
        Assert.Equal(1u, on.Decide(new MasterSlotGrant(request)).Slot);
        Assert.Equal(free - MediaLayout.UnitBytes, on.State.Allocator.FreeBytes);
        Assert.Equal(1u, on.Decide(new MasterSlotGrant(request)).Slot);
        Assert.Equal(0u, on.Decide(new MasterSlotGrant(new() { HostId = on.Host.ToByteString() })).Slot);
        Assert.Equal([RecordType.MasterSlotGranted], on.Types());
        Assert.Equal(ErrorReason.BadRequest, on.Refuse(new MasterSlotGrant(new())).Reason);
        GrantMasterSlotRequest ahead = new() { HostId = Guid.NewGuid().ToByteString(), RequestId = Guid.CreateVersion7(on.Clock.Now.AddSeconds(3)).ToByteString() };
        Assert.NotEqual(0u, on.Refuse(new MasterSlotGrant(ahead)).MasterTimeMs);
    }

    [Fact]
    public void A_policy_of_nothing_or_of_an_unknown_floor_is_refused()
    {
        using Deciding on = new();
        Assert.Equal("D", on.Decide(new PolicyChange(new() { DialectFloor = "d" })).DialectFloor);
        Assert.Equal(ErrorReason.BadRequest, on.Refuse(new PolicyChange(new())).Reason);
        Assert.Equal(ErrorReason.BadRequest, on.Refuse(new PolicyChange(new() { DialectFloor = "C" })).Reason);
    }

    [Fact]
    public void A_policy_of_reuse_keeps_what_is_not_named_and_has_times_with_a_lease_only()
    {
        using Deciding on = new();
        SetPolicyReply reply = on.Decide(new PolicyChange(new() { Reclaim = ReclaimPolicy.Lease }));
        Assert.Equal((ReclaimPolicy.Lease, 30_000u, 10_000u, "none"), (reply.Reclaim, reply.LeaseMs, reply.LeaseGraceMs, reply.DialectFloor));
        reply = on.Decide(new PolicyChange(new() { LeaseMs = 5_000 }));
        Assert.Equal((ReclaimPolicy.Lease, 5_000u, 10_000u), (reply.Reclaim, reply.LeaseMs, reply.LeaseGraceMs));
        reply = on.Decide(new PolicyChange(new() { DialectFloor = "B", LeaseGraceMs = 1_000 }));
        Assert.Equal((5_000u, 1_000u, "B"), (reply.LeaseMs, reply.LeaseGraceMs, reply.DialectFloor));
        foreach (SetPolicyRequest bad in (SetPolicyRequest[])[new() { LeaseMs = 4_999 }, new() { LeaseMs = 3_600_001 }, new() { LeaseGraceMs = 999 }, new() { LeaseGraceMs = 3_600_001 }, new() { Reclaim = ReclaimPolicy.Unspecified }, new() { Reclaim = (ReclaimPolicy)9 }, new() { Reclaim = ReclaimPolicy.Confirmed, LeaseMs = 6_000 }, new() { LeaseMs = 5_005 }, new() { LeaseMs = 60_000, LeaseGraceMs = 11_999 }])
            Assert.Equal(ErrorReason.BadRequest, on.Refuse(new PolicyChange(bad)).Reason);
        reply = on.Decide(new PolicyChange(new() { Reclaim = ReclaimPolicy.Confirmed }));
        Assert.Equal((ReclaimPolicy.Confirmed, 0u, 0u), (reply.Reclaim, reply.LeaseMs, reply.LeaseGraceMs));
        Assert.Equal(ErrorReason.BadRequest, on.Refuse(new PolicyChange(new() { LeaseGraceMs = 2_000 })).Reason);
        // As it was the last time.
        Assert.Equal((5_000u, 1_000u), on.Decide(new PolicyChange(new() { Reclaim = ReclaimPolicy.Lease })) is var last ? (last.LeaseMs, last.LeaseGraceMs) : default);
    }

    [Fact]
    public void A_term_is_announced_only_where_it_leaves_room_for_what_ends_a_full_log()
    {
        using Deciding on = new();
        on.Begin(roomBytes: 4096 - MediaLayout.MaxRecordBytes);
        on.Decide(new TermStart(new() { Address = "a" }));
        TermStart.AppendEnd(on.Context);
        Assert.Empty(on.Types());
        on.Begin();
        on.Decide(new TermStart(new() { Address = "a" }));
        TermStart.AppendEnd(on.Context);
        Assert.Equal([RecordType.TermStarted, RecordType.TermEnded], on.Types());
    }

    [Fact]
    public void The_caller_of_a_change_is_in_its_context()
    {
        using Deciding on = new();
        Assert.Equal(CallerKind.Master, on.Context.Caller.Kind);
        on.Context.Caller = new(CallerKind.Process) { Uid = 7 };
        Assert.Equal(7u, on.Decide(new TestChange<uint>(context => context.Caller.Uid)));
    }

    private static MountAdmission Admit(HostClaim host) => new(new(host, Guid.NewGuid(), new()), []);

    private static HostRegistration Register(HostClaim host, int capacity = 64) => new(host, capacity, new());
}
