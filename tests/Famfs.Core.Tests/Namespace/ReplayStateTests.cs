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

    private void Apply(RecordType type, IMessage record)
    {
        _batch.Start(_state.Position.Sequence, new(64), 0);
        _batch.Add(type, record);
        _state.ApplyFrames(_batch.Frames);
    }

    private sealed class Observer : IReplayObserver
    {
        public Action Deleting { get; set; } = () => { };

        public void EntryChanged(InodeNumber parent, ReadOnlySpan<byte> name)
        {
        }

        public void InodeChanged(InodeNumber inode)
        {
        }

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
