using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Log.Native;
using Famfs.Master.Changes;
using Famfs.V1;
using Google.Protobuf;
using Xunit;

namespace Famfs.Master.Tests.Changes;

/// <summary>A host is forgotten when nothing of it is left, and its block given to another when nobody wrote there since.</summary>
public sealed class HostForgettingTests : IDisposable
{
    private const int Capacity = 3;

    private readonly Deciding _on = new();
    private readonly MountLineTable _table;
    private readonly HostClaim _first = new(Guid.NewGuid(), ByteString.CopyFromUtf8("machine"), "first");
    private readonly HostClaim _second = new(Guid.NewGuid(), ByteString.Empty, "second");
    private readonly HostClaim _third = new(Guid.NewGuid(), ByteString.Empty, "third");
    private readonly HostClaim _fourth = new(Guid.NewGuid(), ByteString.Empty, "fourth");

    public HostForgettingTests()
    {
        _table = new(_on.State.Pool);
        Assert.Equal((0, 1, 2), (_on.Decide(Register(_first)), _on.Decide(Register(_second)), _on.Decide(Register(_third))));
        _on.Begin();
    }

    public void Dispose() => _on.Dispose();

    [Fact]
    public void Its_block_is_given_to_another_host_when_the_record_was_published_and_not_before()
    {
        Assert.Equal(ErrorReason.NoSpace, _on.Refuse(Register(_fourth)).Reason);
        Write(8 + 3, Line(_second, 6, MountState.Ended));
        ForgetHostReply reply = _on.Decide(Forget(_second));
        Assert.Equal((1u, _second.Host, _on.Context.Position.Sequence.Value), (reply.HostSlot, reply.HostId.ToGuid("host"), reply.Position.Sequence));
        Assert.Equal([RecordType.HostForgotten], _on.Types());
        Assert.Equal([0UL, 0, 0, 6, 0, 0, 0, 0], _on.State.Replay.ForgottenBlocks[1].LineCounters);
        // A daemon that is about to write cannot have read a record of this batch.
        Assert.Equal(VerdictKind.NextBatch, Register(_fourth).Decide(_on.Context).Kind);
        _on.Begin();
        Assert.Equal(1, _on.Decide(Register(_fourth)));
        // The one that was forgotten is a host as any other now.
        Assert.Equal(ErrorReason.NoSpace, _on.Refuse(Register(_second)).Reason);
        _on.Decide(Forget(_third));
        _on.Begin();
        Assert.Equal(2, _on.Decide(Register(_second)));
    }

    [Theory]
    [InlineData("late live")]
    [InlineData("late ended")]
    [InlineData("new entry")]
    [InlineData("unreadable")]
    [InlineData("older")]
    [InlineData("another mount with the same counter")]
    public void A_block_in_which_a_line_came_after_the_record_is_its_hosts_only(string what)
    {
        Write(8, Line(_second, 6, MountState.Ended));
        _on.Decide(Forget(_second));
        _on.Begin();
        switch (what)
        {
            case "late live":
                Write(8, Line(_second, 7, MountState.Live));
                break;
            case "late ended":
                Write(8, Line(_second, 8, MountState.Ended));
                break;
            case "new entry":
                Write(8 + 5, Line(_second, 1, MountState.Live));
                break;
            case "unreadable":
                Damage(8, 1);
                break;
            case "another mount with the same counter":
                Write(8, Line(_second, 6, MountState.Live));
                break;
            default:
                Write(8, Line(_second, 5, MountState.Live));
                Damage(8, 0);
                break;
        }
        FamfsException refused = _on.Refuse(Register(_fourth));
        Assert.Equal(ErrorReason.NoSpace, refused.Reason);
        Assert.Contains("1 block has a line that was written after its host was forgotten", refused.Message, StringComparison.Ordinal);
        Assert.Contains("`famfs hosts forget`", refused.Message, StringComparison.Ordinal);
        Assert.Equal(1, _on.Decide(Register(_second)));
    }

    [Fact]
    public void A_block_that_nobody_has_had_is_given_first()
    {
        _on.Decide(Forget(_first));
        _on.Begin();
        Assert.Equal(3, _on.Decide(new HostRegistration(_fourth, 4, new())));
        Assert.Equal(0, _on.Decide(new HostRegistration(_first, 4, new()))); // its own
    }

    [Fact]
    public void What_is_left_of_a_host_is_named()
    {
        MountLine line = Line(_second, 6, MountState.Live);
        Write(8 + 1, line);
        Refuses(_second, $"its mount {line.Mount} has not ended and is not proved to be gone; `famfs hosts` shows it");
        // That its records were given up says nothing about it.
        _on.Decide(new MountGone(new(_second.Host, line.Mount, GoneEvidence.LossAccepted, "")));
        Refuses(_second, $"its mount {line.Mount} has not ended");
        _on.Decide(new MountGone(new(_second.Host, line.Mount, GoneEvidence.Fenced, "")));
        HostForgetting streams = new(new() { HostId = _second.Host.ToByteString() }, Root) { FindStream = host => host == _second.Host ? "its mount m follows the log" : null };
        Assert.EndsWith("cannot be forgotten: its mount m follows the log", _on.Refuse(streams).Message, StringComparison.Ordinal);
        Damage(8 + 1, 0);
        Write(8 + 1, line with { Counter = 9, State = MountState.Ended });
        Damage(8 + 1, 1);
        Refuses(_second, "line 9 of the host table, in its block, cannot be read");
        Write(8 + 1, line with { Counter = 10, State = MountState.Ended });
        Write(8 + 1, line with { Counter = 11, State = MountState.Ended });
        _on.Decide(Forget(_second));

        // A line of a host that had the block before hides what the host has.
        _on.Begin();
        Assert.Equal(1, _on.Decide(Register(_fourth)));
        Write(8 + 1, line with { Counter = 13, State = MountState.Ended });
        Refuses(_fourth, $"line 9 of the host table, in its block, is of mount {line.Mount} of host {_second.Host}, and may hide one of its own");
        Write(8 + 1, Line(_fourth, 14, MountState.Ended));
        _on.Decide(Forget(_fourth));

        // A master of the host stores to the slot's space.
        _on.Decide(new MasterSlotGrant(new() { HostId = _third.Host.ToByteString() }));
        Refuses(_third, "it has master slot 1, which is given for good");

        void Refuses(HostClaim host, string because)
        {
            FamfsException error = _on.Refuse(Forget(host));
            Assert.Equal(ErrorReason.HostConflict, error.Reason);
            Assert.Contains(because, error.Message, StringComparison.Ordinal);
            Assert.DoesNotContain('\n', error.Message);
        }
    }

    [Fact]
    public void A_host_is_named_by_its_id_or_the_name_that_it_registered_with()
    {
        Assert.Equal((ErrorReason.NotFound, $"host {_fourth.Host} is not registered"), Of(_on.Refuse(Forget(_fourth))));
        Assert.Equal((ErrorReason.NotFound, "no host is registered with the name \"nobody\""), Of(_on.Refuse(Named("nobody"))));
        Assert.Equal(0u, _on.Decide(Named("first")).HostSlot);
        _on.Begin();
        _on.Decide(Register(_fourth with { Name = "second" }));
        Assert.Equal(ErrorReason.BadRequest, _on.Refuse(Named("second")).Reason);
        foreach (ForgetHostRequest bad in (ForgetHostRequest[])[new(), new() { Name = new('n', 65) }, new() { Name = "first", HostId = _first.Host.ToByteString() }])
            Assert.Equal(ErrorReason.BadRequest, Assert.Throws<FamfsException>(() => new HostForgetting(bad, Root)).Reason);

        static (ErrorReason, string) Of(FamfsException error) => (error.Reason, error.Message);
    }

    [Fact]
    public void Only_administrators_that_are_known_forget_hosts_and_only_where_there_are_blocks()
    {
        ForgetHostRequest request = new() { HostId = _first.Host.ToByteString() };
        foreach (Caller caller in (Caller[])[Caller.Unknown, new(CallerKind.Process) { Uid = 1000, Gid = 1000 }])
            Assert.Equal(ErrorReason.NotPermitted, Assert.Throws<FamfsException>(() => new HostForgetting(request, caller)).Reason);
        _ = new HostForgetting(request, new(CallerKind.Certificate));
        using Deciding famfs2 = new(famfs2: true);
        Assert.Equal(ErrorReason.NotSupportedByFormat, famfs2.Refuse(new HostForgetting(request, Root)).Reason);
    }

    [Fact]
    public void A_request_that_is_repeated_forgets_once()
    {
        ForgetHostRequest request = new() { HostId = _second.Host.ToByteString(), RequestId = Guid.CreateVersion7(_on.Clock.Now).ToByteString() };
        ForgetHostReply reply = _on.Decide(new HostForgetting(request, Root));
        _on.Begin();
        Assert.Equal(1, _on.Decide(Register(_second)));
        HostForgetting again = new(request, Root);
        Assert.Equal(reply, _on.Decide(again));
        Assert.Null(again.Forgotten);
        // Whether somebody has written there is to be looked at again: the master that made the record may have died before it looked.
        Assert.Equal((1, _second.Host), (again.Block!.Value.Slot, again.Block.Value.Host));
        Assert.Equal([RecordType.HostRegistered], _on.Types());
        request = new(request) { HostId = _third.Host.ToByteString() };
        Assert.Equal(ErrorReason.BadRequest, _on.Refuse(new HostForgetting(request, Root)).Reason);
    }

    private static Caller Root { get; } = new(CallerKind.Process) { IsPrivileged = true };

    private static HostForgetting Forget(HostClaim host) => new(new() { HostId = host.Host.ToByteString() }, Root);

    private static HostForgetting Named(string name) => new(new() { Name = name }, Root);

    private static HostRegistration Register(HostClaim host) => new(host, Capacity, new());

    private static MountLine Line(HostClaim host, ulong counter, MountState state) =>
        new() { Counter = counter, State = state, Host = host.Host, Boot = Guid.NewGuid(), Mount = Guid.NewGuid() };

    private void Write(int entry, MountLine line) => _table.Write(entry, line);

    private void Damage(int entry, int copy)
    {
        long place = ((NativeSuperblock)_on.State.Pool.Primary).HostTableOffset + ((long)entry * MediaLayout.HostEntryBytes) + (copy * MountLine.Size);
        _on.State.Pool.PrimaryDevice.Write(place + 40, [1, 2, 3]);
    }
}
