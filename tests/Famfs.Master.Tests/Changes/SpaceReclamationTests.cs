using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Namespace;
using Famfs.Master.Changes;
using Famfs.V1;
using Google.Protobuf;
using Xunit;

namespace Famfs.Master.Tests.Changes;

/// <summary>Which deleted files a term may zero, and when their space is free.</summary>
public sealed class SpaceReclamationTests
{
    private static readonly HashSet<InodeNumber> s_none = [];

    [Fact]
    public void A_file_is_reserved_to_the_term_then_its_space_is_free()
    {
        using Deciding on = new();
        long free = on.State.Allocator.FreeBytes;
        InodeNumber inode = Remove(on, "f");
        on.Begin();
        ReservedFiles reserved = on.Decide(new ZeroingStart(Mark(on), s_none));
        Assert.Equal([RecordType.ZeroingStarted], on.Types());
        Assert.True(reserved.IsWhole);
        ReservedFile file = Assert.Single(reserved.Files);
        Assert.Equal((inode, MediaLayout.UnitBytes), (file.Inode, file.Bytes));
        Assert.Equal(MediaLayout.UnitBytes, free - on.State.Allocator.FreeBytes);
        // It is under way: not twice.
        reserved = on.Decide(new ZeroingStart(Mark(on), s_none));
        Assert.Empty(reserved.Files);
        Assert.Empty(reserved.Quarantined);
        on.Begin();
        Assert.Equal(1, on.Decide(new SpaceReturn([inode])));
        Assert.Equal([RecordType.ExtentsReclaimed], on.Types());
        Assert.Equal((free, 0L, 0L), (on.State.Allocator.FreeBytes, on.State.Replay.PendingReclaimBytes, on.State.Replay.Tree.DeletedCount));
    }

    [Fact]
    public void What_is_held_and_what_was_deleted_after_the_mark_stays()
    {
        using Deciding on = new();
        InodeNumber held = Remove(on, "held");
        InodeNumber released = Remove(on, "released");
        DeletionMark mark = Mark(on);
        InodeNumber later = Remove(on, "later");
        ReservedFiles reserved = on.Decide(new ZeroingStart(mark, new HashSet<InodeNumber> { held }));
        Assert.Equal([released], reserved.Files.Select(f => f.Inode));
        Assert.Equal([held], reserved.Held);
        // The one that was held, once it is released too; what was never deleted is left out.
        reserved = on.Decide(new ZeroingStart([held, new(InodeNumber.Max)]));
        Assert.Equal([held], reserved.Files.Select(f => f.Inode));
        Assert.Equal([later], on.Decide(new ZeroingStart(Mark(on), s_none)).Files.Select(f => f.Inode));
    }

    [Fact]
    public void A_mark_that_is_not_in_the_list_bounds_nothing()
    {
        using Deciding on = new();
        Remove(on, "f");
        Assert.Throws<InvalidOperationException>(() => new ZeroingStart(new(on.Context.Position, new(12345)), s_none).Decide(on.Context));
        Assert.Empty(on.State.Replay.Reservations);
    }

    [Fact]
    public void A_full_log_takes_the_records_that_make_room()
    {
        using Deciding on = new();
        InodeNumber inode = Remove(on, "f");
        on.Begin(roomBytes: 0);
        Assert.Equal([inode], on.Decide(new ZeroingStart(Mark(on), s_none)).Files.Select(f => f.Inode));
        Assert.Equal(1, on.Decide(new SpaceReturn([inode])));
        Assert.Equal(0L, on.State.Replay.PendingReclaimBytes);
    }

    /// <summary>What it recorded may be another file's: who takes all for failed would zero that one.</summary>
    [Fact]
    public void A_log_that_becomes_full_in_between_says_what_was_given_back()
    {
        using Deciding on = new();
        List<InodeNumber> inodes = [.. Enumerable.Range(0, 3).Select(i => Remove(on, $"f{i}"))];
        on.Decide(new ZeroingStart(Mark(on), s_none));
        FamfsException full = new(ErrorReason.LogFull, "the log is full");
        SpaceReturn none = new(inodes);
        Assert.False(none.GiveUp(on.Context, full));
        SpaceReturn some = new(inodes);
        on.Begin(roomBytes: -MediaLayout.MaxRecordBytes + RecordBatch.FrameBytes(64) + 16);
        Assert.Equal(VerdictKind.NextBatch, some.Decide(on.Context).Kind);
        Assert.Equal([RecordType.ExtentsReclaimed], on.Types().Distinct());
        int recorded = on.Types().Count;
        Assert.Equal(1, recorded);
        Assert.True(some.GiveUp(on.Context, full));
        Assert.Equal((recorded, 3 - recorded), (some.Reply, (int)on.State.Replay.Tree.DeletedCount));
    }

    [Fact]
    public void What_a_batch_has_no_room_for_comes_with_the_next_one_and_once()
    {
        using Deciding on = new();
        InodeNumber first = Remove(on, "f");
        InodeNumber second = Remove(on, "g");
        long one = RecordBatch.FrameBytes(64) - MediaLayout.MaxRecordBytes; // of what is left alone otherwise
        on.Begin(one);
        ReservedFiles reserved = on.Decide(new ZeroingStart(Mark(on), s_none));
        Assert.Equal((false, first), (reserved.IsWhole, Assert.Single(reserved.Files).Inode));
        on.Begin(one);
        reserved = on.Decide(new ZeroingStart(Mark(on), s_none));
        Assert.Equal((true, second), (reserved.IsWhole, Assert.Single(reserved.Files).Inode));
        SpaceReturn change = new([first, second]);
        on.Begin(one);
        Assert.Equal(VerdictKind.NextBatch, change.Decide(on.Context).Kind);
        Assert.Equal([RecordType.ExtentsReclaimed], on.Types());
        on.Begin(one);
        Assert.Equal(VerdictKind.Done, change.Decide(on.Context).Kind);
        Assert.Equal([RecordType.ExtentsReclaimed], on.Types());
        Assert.Equal(0L, on.State.Replay.PendingReclaimBytes);
    }

    [Fact]
    public void A_former_terms_reservation_waits_for_the_proof_that_it_stores_no_more()
    {
        using Deciding on = new();
        InodeNumber inode = Remove(on, "f");
        Term first = on.State.Replay.HighestTerm;
        on.Decide(new ZeroingStart(Mark(on), s_none));
        Term second = new(129);
        TakeOver(on, second);
        ReservedFiles reserved = on.Decide(new ZeroingStart(Mark(on), s_none));
        Assert.Empty(reserved.Files);
        Assert.Equal([inode], reserved.Quarantined);
        Assert.False(on.State.Replay.IsProvedEnded(first));
        // A loss that was accepted is no proof, a power switch is.
        on.Context.Append(RecordType.HostGone, new HostGone { HostId = on.Host.ToByteString(), Evidence = GoneEvidence.LossAccepted });
        Assert.False(on.State.Replay.IsProvedEnded(first));
        on.Context.Append(RecordType.HostGone, new HostGone { HostId = on.Host.ToByteString(), Evidence = GoneEvidence.Fenced });
        Assert.True(on.State.Replay.IsProvedEnded(first));
        reserved = on.Decide(new ZeroingStart([inode]));
        // All of it: how far the former term came, nothing tells.
        ReservedFile file = Assert.Single(reserved.Files);
        Assert.Equal((inode, MediaLayout.UnitBytes), (file.Inode, file.Bytes));
        Assert.Equal(second, Assert.Single(on.State.Replay.Reservations).Term);
    }

    /// <summary>A host that was switched off is on again, and its master has another term.</summary>
    [Fact]
    public void The_end_of_a_host_proves_nothing_of_a_term_that_began_after_it()
    {
        using Deciding on = new();
        on.Context.Append(RecordType.HostGone, new HostGone { HostId = on.Host.ToByteString(), Evidence = GoneEvidence.Fenced });
        Term again = new(128);
        Begin(on, again);
        on.Context.Append(RecordType.TermStarted, new TermStarted { Slot = 0, HostId = on.Host.ToByteString() });
        InodeNumber inode = Remove(on, "f");
        on.Decide(new ZeroingStart(Mark(on), s_none));
        TakeOver(on, new(193));
        Assert.False(on.State.Replay.IsProvedEnded(again));
        Assert.Equal([inode], on.Decide(new ZeroingStart(Mark(on), s_none)).Quarantined);
    }

    // A master of another host.
    private static void TakeOver(Deciding on, Term term)
    {
        Guid other = Guid.NewGuid();
        on.Context.Append(RecordType.MasterSlotGranted, new MasterSlotGranted { Slot = 1, HostId = other.ToByteString(), SegmentInode = 99999, Segment = new() { Device = 1, OffsetBytes = 20UL << 21, LengthBytes = 1 << 21 } });
        on.State.Allocator.TryReserve(new(new(1), 20L << 21, 1 << 21));
        Begin(on, term);
        on.Context.Append(RecordType.TermStarted, new TermStarted { Slot = 1, HostId = other.ToByteString() });
    }

    private static void Begin(Deciding on, Term term)
    {
        on.Context.Begin(term, seed: 7, Deciding.Room, long.MaxValue, 0);
        on.Context.BeginTurn(long.MaxValue);
    }

    private static InodeNumber Remove(Deciding on, string path)
    {
        ulong inode = on.Decide(new FileCreation(new() { Path = path, SizeBytes = 1 })).File.Inode;
        on.Decide(new Removal(new() { Path = path }));
        return new(inode);
    }

    private static DeletionMark Mark(Deciding on) => new(on.Context.Position, on.State.Replay.Tree.LastDeleted);
}
