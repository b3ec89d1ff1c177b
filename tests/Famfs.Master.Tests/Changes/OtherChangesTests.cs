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
        int slot = on.Decide(Admit(host)).Slot;
        Assert.Equal(slot, on.Decide(Admit(host)).Slot);
        Assert.NotEqual(slot, on.Decide(Admit(new(Guid.NewGuid(), ByteString.Empty, "other"))).Slot);
        Assert.Equal([RecordType.HostRegistered, RecordType.HostRegistered], on.Types());
        Assert.Equal(ErrorReason.HostConflict, on.Refuse(Admit(host with { MachineDigest = ByteString.CopyFromUtf8("another") })).Reason);
        Assert.Equal(ErrorReason.BadRequest, on.Refuse(Admit(new(Guid.Empty, ByteString.Empty, ""))).Reason);
        Assert.Equal(ErrorReason.BadRequest, on.Refuse(Admit(new(Guid.NewGuid(), ByteString.CopyFrom(new byte[65]), ""))).Reason);
        Assert.Equal(ErrorReason.NoSpace, on.Refuse(Admit(new(Guid.NewGuid(), ByteString.Empty, ""), capacity: 2)).Reason);
        Assert.Equal(-1, on.Decide(new MountAdmission(new(host, Guid.Empty, new()), 64, [])).Slot);
    }

    [Fact]
    public void A_position_of_another_history_is_not_admitted()
    {
        using Deciding on = new();
        HostClaim host = new(Guid.NewGuid(), ByteString.Empty, "");
        Position here = on.Context.Position.ToMessage();
        Assert.Equal(0, on.Decide(new MountAdmission(new(host, Guid.NewGuid(), here), 64, [])).Slot);
        Position later = new(here) { Sequence = here.Sequence + 100 };
        Assert.Equal(ErrorReason.StaleGeneration, on.Refuse(new MountAdmission(new(host, Guid.NewGuid(), later), 64, [])).Reason);
        Position elsewhere = new(here) { FileSystemUuid = Guid.NewGuid().ToByteString() };
        Assert.Equal(ErrorReason.WrongFilesystem, on.Refuse(new MountAdmission(new(host, Guid.NewGuid(), elsewhere), 64, [])).Reason);
    }

    [Fact]
    public void An_end_is_recorded_once_and_the_mount_is_not_admitted_again()
    {
        using Deciding on = new();
        HostClaim host = new(Guid.NewGuid(), ByteString.Empty, "");
        MountEnd end = new(host.Host, Guid.NewGuid(), GoneEvidence.CleanUnmount, new string('d', 300));
        on.Decide(new MountAdmission(new(host, Guid.NewGuid(), new()), 64, [end, end]));
        Assert.Equal([RecordType.HostRegistered, RecordType.HostGone], on.Types());
        Assert.False(on.Decide(new MountGone(end)));
        Assert.True(on.Decide(new MountGone(end with { Mount = Guid.NewGuid() })));
        Assert.Equal(GoneEvidence.CleanUnmount, on.State.FindGone(end.Host, end.Mount, default)!.Value.Evidence);
        Assert.Equal(ErrorReason.HostGone, on.Refuse(new MountAdmission(new(host, end.Mount, new()), 64, [])).Reason);
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

    private static MountAdmission Admit(HostClaim host, int capacity = 64) => new(new(host, Guid.NewGuid(), new()), capacity, []);
}
