using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Namespace;
using Famfs.V1;
using Xunit;

namespace Famfs.Core.Tests.Namespace;

/// <summary>What the log says of hosts that were forgotten, and of lines in the blocks that they had.</summary>
public sealed class ForgottenHostTests : IDisposable
{
    private static readonly Guid s_fileSystem = new("00112233-4455-4677-8899-aabbccddeeff");

    private readonly Guid _first = Guid.NewGuid();
    private readonly Guid _second = Guid.NewGuid();
    private readonly RecordBatch _batch = new();
    private readonly ReplayState _state = NewState();

    public ForgottenHostTests()
    {
        Apply(RecordType.FileSystemCreated, new FileSystemCreated { FileSystemUuid = s_fileSystem.ToByteString(), Generation = 1, UnitBytes = MediaLayout.UnitBytes, RootInode = 1, HostTableInode = 99, HostTable = new() { OffsetBytes = 32UL * MediaLayout.UnitBytes, LengthBytes = MediaLayout.UnitBytes } });
        Apply(RecordType.DeviceAdded, new DeviceAdded { LengthBytes = 64L * MediaLayout.UnitBytes, DeviceUuid = Guid.NewGuid().ToByteString(), SuperblockInode = 100 });
        Register(_first, 1);
    }

    public void Dispose() => _state.Dispose();

    [Fact]
    public void A_host_that_is_forgotten_has_no_block_and_another_can_have_it()
    {
        Forget(_first, 1, 3, 0, 7);
        Assert.Empty(_state.Hosts);
        Assert.Equal(Guid.Empty, _state.FindBlockOwner(1));
        ForgottenBlock block = _state.ForgottenBlocks[1];
        Assert.Equal((_state.Position.Sequence, _first, 1), (block.Sequence, block.Host, block.Slot));
        Assert.Equal([3UL, 0, 7, 0, 0, 0, 0, 0], block.LineCounters);
        Register(_second, 1);
        Register(_first, 2);
        Assert.Equal((_second, _first), (_state.FindBlockOwner(1), _state.FindBlockOwner(2)));
        // The table is read as far as it was ever given.
        Assert.Equal(3, _state.HostSlots);
    }

    [Theory]
    [InlineData(MountState.Live)]
    [InlineData(MountState.Ended)]
    public void A_line_is_foreign_when_it_came_after_the_forgetting_and_the_block_is_anothers(MountState state)
    {
        const int Entry = (1 * MediaLayout.EntriesPerHost) + 2;
        MountLine line = new() { Counter = 8, State = state, Host = _first, Boot = Guid.NewGuid(), Mount = Guid.NewGuid() };
        Assert.False(_state.IsForeign(Entry, line));
        Forget(_first, 1, 3, 0, 7);
        Assert.False(_state.IsForeign(Entry, line)); // nobody's line can be beneath it
        Register(_second, 1);
        Assert.True(_state.IsForeign(Entry, line));
        Assert.False(_state.IsForeign(Entry, line with { Counter = 7, Mount = s_mount }));
        // One that had the block before the host that was forgotten last: its counters are what they were then.
        Assert.True(_state.IsForeign(Entry, line with { Counter = 7 }));
        Assert.True(_state.IsForeign(Entry, line with { Counter = 6, Mount = s_mount }));
        Assert.True(_state.IsForeign(Entry, line with { Counter = 2 }));
        Assert.False(_state.IsForeign(Entry, line with { Host = _second }));
        Assert.True(_state.IsForeign(Entry, line with { Host = Guid.NewGuid() }));
        Register(_first, 2);
        Assert.True(_state.IsForeign(Entry, line)); // it has another block now
        Forget(_second, 1, 3, 0, 9);
        Register(Guid.NewGuid(), 1);
        Assert.False(_state.IsForeign(Entry, line with { Counter = 9, Mount = s_mount }));
        Assert.True(_state.IsForeign(Entry, line));
        Assert.True(_state.IsForeign(Entry, line with { Counter = 10 }));
        Assert.False(_state.IsForeign(2, line)); // of a block that nobody has lost
    }

    [Fact]
    public void What_cannot_be_forgotten_contradicts_the_log()
    {
        foreach (HostForgotten bad in (HostForgotten[])
        [
            Record(_second, 1), // not registered
            Record(_first, 0), // another's block
            Record(_first, uint.MaxValue),
            new() { HostId = _first.ToByteString(), HostSlot = 1, LineCounters = { 1, 2 }, LineMounts = { Record(_first, 1).LineMounts } },
            new() { HostId = _first.ToByteString(), HostSlot = 1, LineCounters = { Record(_first, 1).LineCounters } },
        ])
            Assert.Equal(ErrorReason.MediaCorrupt, Assert.Throws<FamfsException>(() => Apply(RecordType.HostForgotten, bad)).Reason);
        Assert.Equal([_first], _state.Hosts.Keys);
    }

    /// <summary>A program that does not know the record must not give a block to others, nor open files of one.</summary>
    [Fact]
    public void The_record_and_its_place_in_a_snapshot_are_not_skippable()
    {
        LogPosition at = _state.Position;
        _batch.Start(at.Sequence, new(64), seed: 0);
        RecordFrame frame = RecordFrame.ReadVerified(_batch.Add((RecordType)99, Record(_first, 1)));
        Assert.Equal(FrameFlags.None, frame.Flags & FrameFlags.Skippable);
        byte[] bytes = _batch.Frames.ToArray();
        Assert.Equal(ErrorReason.NotSupportedByFormat, Assert.Throws<FamfsException>(() => _state.ApplyFrames(bytes)).Reason);
    }

    // Of the lines that are there when a host is forgotten.
    private static readonly Guid s_mount = Guid.NewGuid();

    private static ReplayState NewState() => new(new(s_fileSystem, 1, default, default), default);

    private static HostForgotten Record(Guid host, uint slot, params ulong[] counters) =>
        new() { HostId = host.ToByteString(), HostSlot = slot, LineCounters = { counters.Concat(Enumerable.Repeat(0UL, MediaLayout.EntriesPerHost - counters.Length)) }, LineMounts = { Enumerable.Range(0, MediaLayout.EntriesPerHost).Select(i => i < counters.Length && counters[i] > 0 ? s_mount.ToByteString() : Google.Protobuf.ByteString.Empty) } };

    private void Forget(Guid host, uint slot, params ulong[] counters) => Apply(RecordType.HostForgotten, Record(host, slot, counters));

    private void Register(Guid host, uint slot) => Apply(RecordType.HostRegistered, new HostRegistered { HostId = host.ToByteString(), HostSlot = slot });

    private void Apply(RecordType type, Google.Protobuf.IMessage record)
    {
        _batch.Start(_state.Position.Sequence, new(64), seed: 0);
        _batch.Add(type, record);
        _state.ApplyFrames(_batch.Frames);
    }
}
