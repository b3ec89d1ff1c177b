using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.Master.Holders;
using Famfs.Master.State;
using Famfs.TestSupport;
using Famfs.TestSupport.Dax;
using Famfs.V1;
using Xunit;

namespace Famfs.Master.Tests.Holders;

/// <summary>A line that came late into the block of another host may hide one of the owner's: somebody who holds everything.</summary>
public sealed class ForeignLineTests : IDisposable
{
    private const int Entry = 2;

    private static readonly LogSequence s_newest = new(1000);

    private readonly Guid _former = Guid.NewGuid();
    private readonly Guid _owner = Guid.NewGuid();
    private readonly DevicePool _pool;
    private readonly MasterState _state;
    private readonly MountRegistry _mounts;
    private readonly MountLineTable _table;
    private readonly MountLine _own;
    private readonly MountLine _late;

    public ForeignLineTests()
    {
        DaxDevice device = new FakeSharedMemory(64L << 20, seed: 1, coherent: true) { AccidentOneIn = 0, Name = "fake" }.Attach("master");
        NativeFormatter.Format([device], new() { Host = _owner, Clock = TimeProvider.System });
        _pool = TestFormats.All.Open([device]);
        _table = new(_pool);
        _state = new(_pool, TimeProvider.System, new Random(1));
        _mounts = new(_state, _table, TimeProvider.System);
        Apply(RecordType.FileSystemCreated, new FileSystemCreated { FileSystemUuid = _pool.Primary.FileSystem.ToByteString(), UnitBytes = MediaLayout.UnitBytes, RootInode = 1, Generation = _pool.Primary.Generation, RootMode = 0x1ED, HostTableInode = 4, HostTable = new() { OffsetBytes = 2 << 20, LengthBytes = 2 << 20 } });
        Apply(RecordType.HostRegistered, new HostRegistered { HostId = _former.ToByteString(), HostSlot = 0, Name = "former" });
        _late = new() { Counter = 4, State = MountState.Ended, Host = _former, Boot = Guid.NewGuid(), Mount = Guid.NewGuid(), ReleasedWatermark = s_newest, ReplayedSequence = s_newest };
        _table.Write(Entry, _late);
        Apply(RecordType.HostForgotten, new HostForgotten { HostId = _former.ToByteString(), HostSlot = 0, LineCounters = { 0, 0, 4, 0, 0, 0, 0, 0 }, LineMounts = { Mounts() } });
        Apply(RecordType.HostRegistered, new HostRegistered { HostId = _owner.ToByteString(), HostSlot = 0, Name = "owner" });
        _own = _late with { Counter = 5, State = MountState.Live, Host = _owner, Mount = Guid.NewGuid(), ReleasedWatermark = new(10), Exceptions = [new(7)] };
    }

    public void Dispose() => _state.Dispose();

    [Theory]
    [InlineData(MountState.Live)]
    [InlineData(MountState.Ended)]
    public async Task It_holds_everything_until_the_owner_covers_it_and_is_named_wherever_somebody_looks(MountState state)
    {
        // What was there when the host was forgotten holds nothing.
        Assert.Equal((s_newest, 0), (Find().Released, Find().Explain(s_newest).Count));
        _table.Write(Entry, _own);
        _table.Write(Entry, _own with { Counter = 6 });
        Assert.Equal((10UL, 7UL), (Find().Released.Value, Assert.Single(Find().Held).Value));

        // Both copies, so nothing tells of the owner's mount; what the line itself says would release it.
        _table.Write(Entry, _late with { Counter = 7, State = state });
        _table.Write(Entry, _late with { Counter = 8, State = state });
        Holds hidden = Find();
        Assert.Equal(0UL, hidden.Released.Value);
        string waits = Assert.Single(hidden.Explain(s_newest));
        Assert.Contains($"line {Entry} of the host table: mount {_late.Mount} of host {_former}, which was forgotten, wrote into the block of host owner", waits, StringComparison.Ordinal);
        Assert.Empty(hidden.FindHolders(s_newest));
        HostStatus shown = Assert.Single(_mounts.Describe(default));
        Assert.Equal((HostState.Silent, _former), (shown.State, shown.HostId.ToGuid("host")));
        Assert.Contains($"line {Entry} of the host table", shown.Name, StringComparison.Ordinal);
        Assert.Empty(_mounts.Describe(default, after: Guid.AllBitsSet, limit: 5));

        // A wait for all has no end, and nobody silent is looked for: it may live.
        Assert.Equal([Guid.Empty], _mounts.Missing(new(5), []));
        Task<int> waiting = _mounts.WaitAsync(new(5), [], TestContext.Current.CancellationToken);
        Assert.False(waiting.IsCompleted);
        Assert.Empty(_mounts.FindSilentHosts(new HashSet<Guid> { _late.Mount, _own.Mount }, TimeSpan.Zero, TimeProvider.System.GetTimestamp()));
        Assert.False(_mounts.HasLine(_late.Mount, _former));
        Assert.Contains("of a forgotten host", Assert.Single(_mounts.FindThoseThatStay()), StringComparison.Ordinal);
        // A look at one host's lines takes it for no mount either.
        await _mounts.HintedAsync(_owner);
        Assert.False(_mounts.HasLine(_late.Mount, _former));

        _table.Write(Entry, _own with { Counter = 9 });
        Assert.Equal((10UL, 7UL), (Find().Released.Value, Assert.Single(Find().Held).Value));
        Assert.Equal(1, await waiting.WaitAsync(TimeSpan.FromMinutes(1), TestContext.Current.CancellationToken));
    }

    [Fact]
    public void A_late_line_in_a_block_that_nobody_has_is_a_mount_of_its_host()
    {
        Apply(RecordType.HostForgotten, new HostForgotten { HostId = _owner.ToByteString(), HostSlot = 0, LineCounters = { 0, 0, 4, 0, 0, 0, 0, 0 }, LineMounts = { Mounts() } });
        _table.Write(Entry, _late with { Counter = 5, State = MountState.Live, ReleasedWatermark = new(3) });
        Assert.Equal(3UL, Find().Released.Value);
        Assert.Equal([_late.Mount], Find().FindHolders(s_newest));
        Assert.True(_mounts.HasLine(_late.Mount, _former));
    }

    [Fact]
    public void A_stream_of_a_mount_is_found_by_its_host_whoever_calls()
    {
        Assert.Null(_mounts.FindStream(_owner));
        _mounts.Subscribed(_own.Mount, _owner, Guid.NewGuid(), "stock", "1", address: "10.0.0.7", known: false);
        Assert.Equal($"its mount {_own.Mount} at 10.0.0.7 follows the log", _mounts.FindStream(_owner));
        Assert.Null(_mounts.FindStream(_former));
        _mounts.Unsubscribed(_own.Mount, known: false);
        Assert.Null(_mounts.FindStream(_owner));
    }

    private IEnumerable<Google.Protobuf.ByteString> Mounts() => Enumerable.Range(0, MediaLayout.EntriesPerHost).Select(i => i == Entry ? _late.Mount.ToByteString() : Google.Protobuf.ByteString.Empty);

    private Holds Find()
    {
        _ = _mounts.Scan();
        return _mounts.FindHolds(s_newest);
    }

    private void Apply(RecordType type, Google.Protobuf.IMessage record)
    {
        RecordBatch batch = new();
        batch.Start(_state.Replay.Position.Sequence, new(64), seed: 0);
        batch.Add(type, record);
        _state.Replay.ApplyFrames(batch.Frames);
    }
}
