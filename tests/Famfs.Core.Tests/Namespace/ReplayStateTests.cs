using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Namespace;
using Famfs.V1;
using Google.Protobuf;
using Xunit;

namespace Famfs.Core.Tests.Namespace;

public sealed class ReplayStateTests : IDisposable
{
    private static readonly Guid s_fileSystem = new("00112233-4455-4677-8899-aabbccddeeff");
    private static readonly Guid s_host = Guid.NewGuid();

    private readonly Observer _observer = new();
    private readonly RecordBatch _batch = new();
    private readonly ReplayState _state;

    public ReplayStateTests()
    {
        _state = new(new(s_fileSystem, 1, default, default), default, _observer);
        Apply(RecordType.FileSystemCreated, new FileSystemCreated
        {
            FileSystemUuid = s_fileSystem.ToByteString(),
            Generation = 1,
            UnitBytes = MediaLayout.UnitBytes,
            RootInode = MediaLayout.RootInode,
            HostTableInode = 99,
            HostTable = new() { OffsetBytes = 32UL * MediaLayout.UnitBytes, LengthBytes = MediaLayout.UnitBytes },
        });
        Apply(RecordType.DeviceAdded, new DeviceAdded { LengthBytes = 64L * MediaLayout.UnitBytes, DeviceUuid = Guid.NewGuid().ToByteString(), SuperblockInode = 100 });
    }

    public void Dispose() => _state.Dispose();

    [Fact]
    public void A_host_that_is_gone_takes_with_it_the_mounts_that_had_not_replayed_that()
    {
        (Guid mount, Guid later, Guid other) = (Guid.NewGuid(), Guid.NewGuid(), Guid.NewGuid());
        LogSequence before = _state.Position.Sequence;
        Apply(RecordType.HostGone, new HostGone { HostId = s_host.ToByteString(), Evidence = GoneEvidence.Fenced, Detail = "power switch" });

        Assert.Equal(GoneEvidence.Fenced, _state.FindGone(s_host, mount, before)!.Value.Evidence);
        // A mount that began after the record has replayed it before its first open: it holds memory.
        Assert.Null(_state.FindGone(s_host, later, _state.Position.Sequence));
        Assert.Null(_state.FindGone(other, mount, before));
        Assert.Empty(_state.Gone);

        // A mount that the log names is gone wherever it was.
        Apply(RecordType.HostGone, new HostGone { HostId = s_host.ToByteString(), MountId = later.ToByteString(), Evidence = GoneEvidence.Operator });
        Assert.Equal(GoneEvidence.Operator, _state.FindGone(s_host, later, _state.Position.Sequence)!.Value.Evidence);
        Assert.Equal([later], _state.Gone.Keys);
    }

    [Fact]
    public void The_end_of_a_term_that_zeroed_is_proof_unless_it_was_adopted()
    {
        MakeFile(101);
        Apply(RecordType.Deleted, new Deleted { Inode = 101, Parent = MediaLayout.RootInode, Name = ByteString.CopyFromUtf8("f") });
        Apply(RecordType.ZeroingStarted, new ZeroingStarted { Inode = 101 });
        Term term = Assert.Single(_state.Reservations).Term;
        Assert.False(_state.IsProvedEnded(term));
        Assert.Equal(ErrorReason.MediaCorrupt, Assert.Throws<FamfsException>(() => Apply(RecordType.ZeroingStarted, new ZeroingStarted { Inode = 101 })).Reason);
        Apply(RecordType.TermEnded, new TermEnded());
        LogSequence end = _state.Position.Sequence;
        Assert.True(_state.IsProvedEnded(term));
        Apply(RecordType.TermStarted, new TermStarted { Slot = 1, AdoptedFrom = end.Value }, new(129));
        Assert.False(_state.IsProvedEnded(term));
        // A later term of the same slot has the lock that its process had.
        Apply(RecordType.TermStarted, new TermStarted { Slot = 0 }, new(192));
        Assert.True(_state.IsProvedEnded(term));
        Apply(RecordType.ZeroingStarted, new ZeroingStarted { Inode = 101 }, new(192));
        Assert.Equal(new Term(192), Assert.Single(_state.Reservations).Term);
    }

    [Fact]
    public void A_slot_is_at_rest_when_the_last_that_claimed_it_has_a_record_and_has_ended()
    {
        Apply(RecordType.TermStarted, new TermStarted { Slot = 0 }, new(128));
        Assert.True(_state.IsSlotAtRest(default));
        Assert.False(_state.IsSlotAtRest(new(128)));
        Apply(RecordType.TermEnded, new TermEnded(), new(128));
        Assert.True(_state.IsSlotAtRest(new(128)));
        // Somebody has claimed it since, and has read who knows how much; also after the host was gone and came back.
        Assert.False(_state.IsSlotAtRest(new(192)));
        Apply(RecordType.MasterSlotGranted, new MasterSlotGranted { HostId = s_host.ToByteString(), SegmentInode = 98, Segment = new() { OffsetBytes = 40UL * MediaLayout.UnitBytes, LengthBytes = MediaLayout.UnitBytes } }, new(128));
        Apply(RecordType.HostGone, new HostGone { HostId = s_host.ToByteString(), Evidence = GoneEvidence.Fenced }, new(128));
        Assert.False(_state.IsSlotAtRest(new(192)));
        // A later term of the slot proves that the earlier one has ended, and nothing about itself.
        Apply(RecordType.TermStarted, new TermStarted { Slot = 0 }, new(192));
        Assert.False(_state.IsSlotAtRest(new(192)));
        Apply(RecordType.TermEnded, new TermEnded(), new(192));
        LogSequence end = _state.Position.Sequence;
        Assert.True(_state.IsSlotAtRest(new(192)));
        // An end that was adopted may have been stored by a master that went on.
        Apply(RecordType.TermStarted, new TermStarted { Slot = 1, AdoptedFrom = end.Value }, new(193));
        Assert.False(_state.IsSlotAtRest(new(192)));
        Assert.True(_state.IsProvedEnded(new(128)));
    }

    /// <summary>Whatever its end was worth: by a later record it stores there.</summary>
    [Fact]
    public void A_term_that_is_given_space_after_its_end_has_not_ended()
    {
        MakeFile(101);
        Apply(RecordType.Deleted, new Deleted { Inode = 101, Parent = MediaLayout.RootInode, Name = ByteString.CopyFromUtf8("f") });
        Term term = new(65);
        Apply(RecordType.TermStarted, new TermStarted { Slot = 1 }, term);
        foreach ((RecordType type, IMessage record) in (ReadOnlySpan<(RecordType, IMessage)>)
        [
            (RecordType.SegmentReserved, new SegmentReserved { Inode = 102, Extent = new() { OffsetBytes = 50UL * MediaLayout.UnitBytes, LengthBytes = MediaLayout.UnitBytes } }),
            (RecordType.ZeroingStarted, new ZeroingStarted { Inode = 101 }),
        ])
        {
            Apply(RecordType.TermEnded, new TermEnded(), term);
            Assert.True(_state.IsProvedEnded(term));
            Assert.True(_state.IsSlotAtRest(term));
            Apply(type, record, term);
            Assert.False(_state.IsProvedEnded(term));
            Assert.False(_state.IsSlotAtRest(term));
        }
    }

    [Fact]
    public void A_deleted_segment_is_known_with_its_slot_until_it_is_reclaimed()
    {
        Apply(RecordType.SegmentReserved, new SegmentReserved { Inode = 101, Extent = new() { OffsetBytes = 50UL * MediaLayout.UnitBytes, LengthBytes = MediaLayout.UnitBytes } }, new(129));
        OwnedSegment segment = Assert.Single(_state.Segments, s => s.Inode.Value == 101);
        Apply(RecordType.Deleted, new Deleted { Inode = 101 }, new(129));
        Assert.DoesNotContain(segment, _state.Segments);
        Assert.Equal([segment], _state.FormerSegments);
        Apply(RecordType.ZeroingStarted, new ZeroingStarted { Inode = 101 }, new(129));
        Assert.Equal([segment], _state.FormerSegments);
        Apply(RecordType.ExtentsReclaimed, new ExtentsReclaimed { Inode = 101 }, new(129));
        Assert.Empty(_state.FormerSegments);
    }

    [Fact]
    public void What_was_before_a_term_does_not_prove_its_end()
    {
        Term term = new(128);
        void Gone(GoneEvidence evidence, Term of) => Apply(RecordType.HostGone, new HostGone { HostId = s_host.ToByteString(), Evidence = evidence }, of);
        Apply(RecordType.MasterSlotGranted, new MasterSlotGranted { HostId = s_host.ToByteString(), SegmentInode = 98, Segment = new() { OffsetBytes = 40UL * MediaLayout.UnitBytes, LengthBytes = MediaLayout.UnitBytes } });
        MakeFile(101);
        Gone(GoneEvidence.Fenced, new(64));
        // The host is back, and its master has a later term of the same slot.
        Apply(RecordType.TermStarted, new TermStarted { Slot = 0 }, term);
        Apply(RecordType.Deleted, new Deleted { Inode = 101, Parent = MediaLayout.RootInode, Name = ByteString.CopyFromUtf8("f") }, term);
        Apply(RecordType.ZeroingStarted, new ZeroingStarted { Inode = 101 }, term);
        Assert.False(_state.IsProvedEnded(term));
        Gone(GoneEvidence.LossAccepted, term);
        Assert.False(_state.IsProvedEnded(term));
        Gone(GoneEvidence.Operator, term);
        Assert.True(_state.IsProvedEnded(term));
    }

    [Fact]
    public void Who_went_on_without_a_mounts_records_has_not_proved_that_it_is_gone()
    {
        Guid mount = Guid.NewGuid();
        void Gone(GoneEvidence evidence) => Apply(RecordType.HostGone, new HostGone { HostId = s_host.ToByteString(), MountId = mount.ToByteString(), Evidence = evidence });
        Gone(GoneEvidence.LossAccepted);
        Assert.True(_state.IsLossAccepted(mount));
        Gone(GoneEvidence.NewBoot);
        Gone(GoneEvidence.LossAccepted);
        Assert.Equal((true, GoneEvidence.NewBoot), (_state.IsLossAccepted(mount), _state.FindGone(s_host, mount, default)!.Value.Evidence));
    }

    [Fact]
    public void A_file_is_deleted_also_when_nobody_else_can_read_the_tree()
    {
        MakeFile(101);
        List<TreeReader> readers = [];
        try
        {
            Action add = () => readers.Add(_state.Tree.RegisterReader());
            FamfsException? full = null;
            while (full is null)
                full = Record.Exception(add) as FamfsException;
            Assert.Equal(ErrorReason.Overloaded, full.Reason);
            Apply(RecordType.Deleted, new Deleted { Inode = 101, Parent = MediaLayout.RootInode, Name = ByteString.CopyFromUtf8("f") });
            Assert.Equal(MediaLayout.UnitBytes, _state.PendingReclaimBytes);
        }
        finally
        {
            readers.ForEach(r => r.Dispose());
        }
    }

    [Fact]
    public void What_is_short_while_a_record_is_applied_is_not_called_damage()
    {
        MakeFile(101);
        _observer.Deleting = () => throw new FamfsException(ErrorReason.Overloaded, "no room");
        FamfsException error = Assert.Throws<FamfsException>(() => Apply(RecordType.Deleted, new Deleted { Inode = 101, Parent = MediaLayout.RootInode, Name = ByteString.CopyFromUtf8("f") }));
        Assert.Equal(ErrorReason.Overloaded, error.Reason);
    }

    [Fact]
    public void A_shortage_in_the_middle_of_a_record_is_told_from_one_before_it()
    {
        MakeFile(101);
        Assert.Equal(0UL, _state.TornAt.Value);
        LogPosition before = _state.Position;
        _observer.Deleting = () => throw new OutOfMemoryException();
        Assert.Throws<OutOfMemoryException>(() => Apply(RecordType.Deleted, new Deleted { Inode = 101, Parent = MediaLayout.RootInode, Name = ByteString.CopyFromUtf8("f") }));
        Assert.Equal((before, before.Sequence.Next), (_state.Position, _state.TornAt));
    }

    /// <summary>Mounts report in any order, and more than once.</summary>
    [Fact]
    public void Of_the_times_at_which_mounts_wrote_a_file_the_later_wins_in_whatever_order_they_are_recorded()
    {
        const int Files = 5;
        for (int seed = 0; seed < 50; seed++)
        {
            Random random = new(seed);
            using Replaying one = new();
            using Replaying other = new();
            for (ulong inode = 101; inode < 101 + Files; inode++)
            {
                one.MakeFile(inode);
                other.MakeFile(inode);
            }
            long[] latest = new long[Files];
            List<FilesWritten> records = [];
            for (int i = 0; i < 12; i++)
            {
                FilesWritten record = new() { TimeNs = 1000, MountId = Guid.NewGuid().ToByteString() };
                for (int n = random.Next(1, 8); n > 0; n--)
                {
                    int file = random.Next(Files);
                    long time = random.Next(-500, 1000);
                    latest[file] = Math.Max(latest[file], time);
                    record.Inodes.Add(101 + (ulong)file);
                    record.TimesNs.Add(time);
                }
                records.Add(record);
            }
            FilesWritten[] shuffled = [.. records, records[0]];
            random.Shuffle(shuffled);
            records.ForEach(r => one.Apply(RecordType.FilesWritten, r));
            foreach (FilesWritten record in shuffled)
                other.Apply(RecordType.FilesWritten, record);
            for (int file = 0; file < Files; file++)
            {
                // A file was made at 0, and is accessed by nobody.
                InodeAttributes found = one.Read(101 + (ulong)file);
                Assert.True((latest[file], latest[file], 0L) == (found.ModifyTimeNs, found.ChangeTimeNs, found.AccessTimeNs), $"seed {seed}, file {file}: {found.ModifyTimeNs}, not {latest[file]}");
                Assert.Equal(found, other.Read(101 + (ulong)file));
            }
        }
    }

    [Fact]
    public void A_written_file_has_its_attributes_told_and_a_time_that_is_set_is_told_as_such()
    {
        using Replaying on = new();
        on.MakeFile(101);
        on.Apply(RecordType.AttributesSet, new AttributesSet { TimeNs = 50, Inode = 101, ModifyTimeNs = 900 });
        on.Observer.Told.Clear();
        on.Apply(RecordType.FilesWritten, new FilesWritten { TimeNs = 100, Inodes = { 101 }, TimesNs = { 100 } });
        Assert.Equal(["attributes 101"], on.Observer.Told);
        // Each of the two times is the later one.
        Assert.Equal((900L, 100L), (on.Read(101).ModifyTimeNs, on.Read(101).ChangeTimeNs));
        on.Observer.Told.Clear();
        on.Apply(RecordType.AttributesSet, new AttributesSet { TimeNs = 200, Inode = 101, Mode = 1 });
        on.Apply(RecordType.AttributesSet, new AttributesSet { TimeNs = 200, Inode = 101, ModifyTimeNs = 5 });
        Assert.Equal(["attributes 101", $"time 101 at {on.State.Position.Sequence}", "attributes 101"], on.Observer.Told);
        Assert.Equal(5, on.Read(101).ModifyTimeNs);
    }

    [Theory]
    [InlineData(new ulong[] { 101 }, new long[0])]
    [InlineData(new ulong[] { 101, 999 }, new long[] { 5, 5 })]
    [InlineData(new ulong[] { 101, 0 }, new long[] { 5, 5 })]
    [InlineData(new ulong[] { 101, ulong.MaxValue }, new long[] { 5, 5 })]
    [InlineData(new ulong[] { 101, MediaLayout.RootInode }, new long[] { 5, 5 })]
    public void A_record_about_what_was_never_written_changes_nothing(ulong[] inodes, long[] times)
    {
        using Replaying on = new();
        on.MakeFile(101);
        (LogPosition position, InodeAttributes before) = (on.State.Position, on.Read(101));
        FilesWritten record = new() { TimeNs = 10, Inodes = { inodes }, TimesNs = { times } };
        Assert.Equal(ErrorReason.MediaCorrupt, Assert.Throws<FamfsException>(() => on.Apply(RecordType.FilesWritten, record)).Reason);
        Assert.Equal((position, before), (on.State.Position, on.Read(101)));
    }

    /// <summary>As a program does that is older than this record.</summary>
    [Fact]
    public void A_reader_skips_a_record_that_it_does_not_know_and_that_it_may_skip()
    {
        using Replaying on = new();
        const RecordType Unknown = (RecordType)9999;
        on.Apply(Unknown, new FilesWritten { Inodes = { 1 } }, FrameFlags.Skippable);
        on.MakeFile(101);
        Assert.Equal(ErrorReason.NotSupportedByFormat, Assert.Throws<FamfsException>(() => on.Apply(Unknown, new FilesWritten())).Reason);
    }

    private void MakeFile(ulong inode)
    {
        FileCreated record = new()
        {
            Inode = inode,
            Parent = MediaLayout.RootInode,
            Name = ByteString.CopyFromUtf8("f"),
            SizeBytes = 1,
            Map = new() { Extents = { new Extent { OffsetBytes = MediaLayout.UnitBytes, LengthBytes = MediaLayout.UnitBytes } } },
        };
        Apply(RecordType.FileCreated, record);
    }

    private void Apply(RecordType type, IMessage record, Term? term = null)
    {
        _batch.Start(_state.Position.Sequence, term ?? new(64), 0);
        _batch.Add(type, record);
        _state.ApplyFrames(_batch.Frames);
    }

    /// <summary>A state with a device of 64 units.</summary>
    private sealed class Replaying : IDisposable
    {
        private readonly RecordBatch _batch = new(1 << 16);

        public Replaying()
        {
            State = new(new(s_fileSystem, 1, default, default), default, Observer);
            Apply(RecordType.FileSystemCreated, new FileSystemCreated
            {
                FileSystemUuid = s_fileSystem.ToByteString(),
                Generation = 1,
                UnitBytes = MediaLayout.UnitBytes,
                RootInode = MediaLayout.RootInode,
                HostTableInode = 99,
                HostTable = new() { OffsetBytes = 32UL * MediaLayout.UnitBytes, LengthBytes = MediaLayout.UnitBytes },
            });
            Apply(RecordType.DeviceAdded, new DeviceAdded { LengthBytes = 64L * MediaLayout.UnitBytes, DeviceUuid = Guid.NewGuid().ToByteString(), SuperblockInode = 100 });
        }

        public Observer Observer { get; } = new();

        public ReplayState State { get; }

        public void MakeFile(ulong inode) => Apply(RecordType.FileCreated, new FileCreated
        {
            Inode = inode,
            Parent = MediaLayout.RootInode,
            Name = ByteString.CopyFromUtf8($"f{inode}"),
            SizeBytes = 1,
            Map = new() { Extents = { new Extent { OffsetBytes = (inode - 100) * MediaLayout.UnitBytes, LengthBytes = MediaLayout.UnitBytes } } },
        });

        public void Apply(RecordType type, IMessage record, FrameFlags flags = FrameFlags.None)
        {
            _batch.Start(State.Position.Sequence, new(64), 0);
            _batch.Add(type, record, flags);
            State.ApplyFrames(_batch.Frames);
        }

        public InodeAttributes Read(ulong inode)
        {
            using TreeReader reader = State.Tree.RegisterReader();
            using TreeScope scope = reader.Enter();
            Assert.True(scope.TryGet(new(inode), out InodeAttributes found));
            return found;
        }

        public void Dispose() => State.Dispose();
    }

    private sealed class Observer : IReplayObserver
    {
        public List<string> Told { get; } = [];

        public Action Deleting { get; set; } = () => { };

        public void EntryChanged(InodeNumber parent, ReadOnlySpan<byte> name)
        {
        }

        public void InodeChanged(InodeNumber inode) => Told.Add($"attributes {inode}");

        public void ModifyTimeSet(InodeNumber inode, LogSequence sequence) => Told.Add($"time {inode} at {sequence}");

        public void FileDeleted(InodeNumber inode) => Deleting();

        public void ExtentsTaken(InodeNumber inode, ReadOnlySpan<MapExtent> extents)
        {
        }

        public void ExtentsFreed(InodeNumber inode, ReadOnlySpan<MapExtent> extents)
        {
        }

        public void DeviceAdded(DeviceAdded device)
        {
        }

        public void RequestSeen(in RequestTrace request)
        {
        }
    }
}
