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

/// <summary>What all mounts together still have: absence of a word is a hold.</summary>
public sealed class HoldsTests : IDisposable
{
    private static readonly LogSequence s_newest = new(1000);

    private readonly DaxDevice _device;
    private readonly DevicePool _pool;
    private readonly MasterState _state;
    private readonly MountRegistry _mounts;
    private readonly MountLineTable _table;
    private readonly Clock _clock = new();
    private readonly Guid _host = Guid.NewGuid();

    public HoldsTests()
    {
        _device = new FakeSharedMemory(64L << 20, seed: 1, coherent: true) { AccidentOneIn = 0, Name = "fake" }.Attach("master");
        NativeFormatter.Format([_device], new() { Host = _host, Clock = TimeProvider.System });
        _pool = TestFormats.All.Open([_device]);
        _table = new(_pool);
        _state = new(_pool, _clock, new Random(1));
        _mounts = new(_state, _table, _clock);
        Apply(RecordType.FileSystemCreated, new FileSystemCreated { FileSystemUuid = _pool.Primary.FileSystem.ToByteString(), UnitBytes = MediaLayout.UnitBytes, RootInode = 1, Generation = _pool.Primary.Generation, RootMode = 0x1ED, HostTableInode = 4, HostTable = new() { OffsetBytes = 2 << 20, LengthBytes = 2 << 20 } });
        Apply(RecordType.HostRegistered, new HostRegistered { HostId = _host.ToByteString(), HostSlot = 0, Name = "alpha" });
    }

    public void Dispose() => _state.Dispose();

    [Fact]
    public void Without_mounts_everything_is_released()
    {
        Holds holds = Find();
        Assert.Equal((s_newest, 0, 0), (holds.Released, holds.Held.Count, holds.Explain(s_newest).Count));
    }

    [Fact]
    public void The_mount_that_has_released_least_decides_and_every_exception_counts()
    {
        MountLine released = NewLine() with { ReleasedWatermark = new(50), Exceptions = [new(7)] };
        Write(0, released);
        Write(1, NewLine() with { ReleasedWatermark = new(40), Exceptions = [new(8), new(9)] });
        Holds holds = Find();
        Assert.Equal(40UL, holds.Released.Value);
        Assert.Equal([7UL, 8, 9], holds.Held.Select(i => i.Value).Order().ToArray());
        // One that has said nothing yet has everything.
        MountLine untold = NewLine();
        Write(2, untold);
        Assert.Equal(0UL, Find().Released.Value);
        Assert.Equal(3, Find().Explain(s_newest).Count);
        Assert.Equal(3, Find().FindHolders(s_newest).Count);
        Write(0, released with { Counter = 2, Exceptions = [] });
        Write(1, released with { Counter = 2, Mount = Guid.NewGuid(), Exceptions = [] });
        Assert.Equal([untold.Mount], Find().FindHolders(new(50)));
    }

    [Theory]
    [InlineData(GoneEvidence.SuperblockGone, true)]
    [InlineData(GoneEvidence.NewBoot, true)]
    [InlineData(GoneEvidence.Fenced, true)]
    [InlineData(GoneEvidence.LossAccepted, false)]
    public void Only_who_is_proved_gone_counts_no_more(GoneEvidence evidence, bool isGone)
    {
        MountLine line = NewLine() with { ReleasedWatermark = new(10), Exceptions = [new(7)] };
        Write(0, line);
        _ = Find();
        _clock.Now = TimeSpan.FromHours(1);
        Assert.Contains("silent for 3600 s", Assert.Single(Find().Explain(s_newest)), StringComparison.Ordinal);
        Assert.Equal(10UL, Find().Released.Value);
        Apply(RecordType.HostGone, new HostGone { HostId = _host.ToByteString(), MountId = line.Mount.ToByteString(), Evidence = evidence });
        Holds holds = Find();
        Assert.Equal(isGone ? (1000UL, 0) : (10UL, 1), (holds.Released.Value, holds.Held.Count));
    }

    [Fact]
    public void An_ended_line_has_nothing_and_one_that_cannot_be_read_has_everything()
    {
        MountLine line = NewLine() with { ReleasedWatermark = new(10), Exceptions = [new(7)] };
        Write(0, line with { State = MountState.Ended });
        Assert.Equal(s_newest, Find().Released);
        // Beside the end, damage may hide a mount that has the entry now.
        long entry = ((NativeSuperblock)_pool.Primary).HostTableOffset;
        _device.Write(entry + (line.Counter % 2 == 1 ? MountLine.Size : 0), [1, 2, 3]);
        Holds holds = Find();
        Assert.Equal(0UL, holds.Released.Value);
        Assert.Contains("unreadable", Assert.Single(holds.Explain(s_newest)), StringComparison.Ordinal);
    }

    [Fact]
    public void A_stream_counts_where_it_goes_farther_than_the_line_and_neither_takes_anything_back()
    {
        MountLine line = NewLine() with { ReleasedWatermark = new(20), Exceptions = [new(5), new(6)] };
        Write(0, line);
        _ = Find();
        Say(line, 50, 5, 6, 7);
        Assert.Equal((50UL, "5 6 7"), Found());
        // An earlier statement comes late, and the line lags.
        Say(line, 30, 5, 6);
        Write(0, line with { Counter = 2, ReleasedWatermark = new(40), Exceptions = [new(5)] });
        Assert.Equal((50UL, "5 6 7"), Found());
        // Of two with one watermark the one that names fewer came later.
        Say(line, 50, 6);
        Say(line, 50, 6, 7);
        Assert.Equal((50UL, "6"), Found());
        Write(0, line with { Counter = 3, ReleasedWatermark = new(50), Exceptions = [new(6)] });
        Assert.Equal((50UL, "6"), Found());
        Write(0, line with { Counter = 4, ReleasedWatermark = new(60), Exceptions = [new(6), new(70)] });
        Assert.Equal((60UL, "6 70"), Found());
    }

    /// <summary>Its newer copy is damaged. What a mount has told to be released stays so.</summary>
    [Fact]
    public void A_line_that_goes_back_takes_nothing_back()
    {
        MountLine line = NewLine() with { ReleasedWatermark = new(20), Exceptions = [new(5)] };
        Write(0, line);
        Write(0, line with { Counter = 2, ReleasedWatermark = new(40), Exceptions = [new(5), new(30)] });
        Assert.Equal((40UL, "5 30"), Found());
        _device.Write(((NativeSuperblock)_pool.Primary).HostTableOffset + MountLine.Size, [1, 2, 3]);
        Assert.Equal((40UL, "5 30"), Found());
        Assert.Equal((40UL, "5 30"), Found());
    }

    [Fact]
    public void A_stream_of_another_host_or_of_a_mount_without_a_line_frees_nothing()
    {
        MountLine line = NewLine() with { ReleasedWatermark = new(20), Exceptions = [new(5)] };
        Write(0, line);
        _ = Find();
        Say(line with { Host = Guid.NewGuid() }, 50);
        Say(line with { Mount = Guid.NewGuid() }, 50);
        Assert.Equal((20UL, "5"), Found());
    }

    [Fact]
    public void What_a_mount_has_is_listed_in_parts_that_end_before_a_mount_that_is_too_much()
    {
        List<MountLine> lines = [];
        for (int i = 0; i < 3; i++)
        {
            lines.Add(NewLine() with { ReleasedWatermark = new(20), Exceptions = [new(9), new(5), new(7)] });
            Write(i, lines[i]);
        }
        _ = Find();
        _state.ReclaimHolders = new HashSet<Guid> { lines[0].Mount };
        Assert.All(_mounts.Describe(default), m => Assert.Empty(m.HeldFiles));
        IReadOnlyList<HostStatus> listed = _mounts.Describe(default, heldLimit: 2);
        Assert.All(listed, m => Assert.Equal([5UL, 7], m.HeldFiles.Select(f => f.Inode)));
        Assert.All(listed, m => Assert.Equal(m.MountId.ToGuid("mount id") == lines[0].Mount, m.HoldsSpace));
        listed = _mounts.Describe(default, heldLimit: 2, heldInAll: 5);
        Assert.Equal(2, listed.Count);
        Guid last = listed[^1].MountId.ToGuid("mount id");
        Assert.True(_mounts.HasAfter(last));
        HostStatus rest = Assert.Single(_mounts.Describe(default, last, heldLimit: 4, heldInAll: 1));
        Assert.Equal((3, false), (rest.HeldFiles.Count, _mounts.HasAfter(rest.MountId.ToGuid("mount id"))));
        Apply(RecordType.HostGone, new HostGone { HostId = _host.ToByteString(), MountId = rest.MountId, Evidence = GoneEvidence.Fenced });
        Assert.Empty(Assert.Single(_mounts.Describe(default, last, heldLimit: 4)).HeldFiles);
    }

    [Fact]
    public void Streams_may_name_so_many_files_in_all()
    {
        MountLine first = NewLine() with { ReleasedWatermark = new(20) };
        MountLine second = NewLine() with { ReleasedWatermark = new(20) };
        Write(0, first);
        Write(1, second);
        _ = Find();
        ulong[] many = [.. Enumerable.Range(1, MountRegistry.MaxHeld).Select(i => (ulong)i)];
        Say(first, 50, many);
        Say(second, 50, 7);
        Assert.Equal(20UL, Find().Released.Value);
        Say(first, 51, many[1..]);
        Say(second, 50, 7);
        Assert.Equal(50UL, Find().Released.Value);
    }

    [Fact]
    public void Of_many_mounts_some_are_named()
    {
        for (int i = 0; i < 40; i++)
        {
            Guid host = Guid.NewGuid();
            Apply(RecordType.HostRegistered, new HostRegistered { HostId = host.ToByteString(), HostSlot = (uint)(i + 1), Name = $"h{i:00}" });
            Write((i + 1) * MediaLayout.EntriesPerHost, NewLine() with { Host = host });
        }
        IReadOnlyList<string> waits = Find().Explain(s_newest);
        Assert.Equal((17, "24 more mounts"), (waits.Count, waits[^1]));
        Assert.StartsWith("h00 ", waits[0], StringComparison.Ordinal);
    }

    private Holds Find()
    {
        _mounts.Scan();
        return _mounts.FindHolds(s_newest);
    }

    private void Say(MountLine of, ulong watermark, params ulong[] held) => _mounts.SaidReleased(of.Mount, of.Host, new(watermark), [.. held.Select(inode => new InodeNumber(inode))]);

    private (ulong Watermark, string Held) Found()
    {
        Holds holds = Find();
        return (holds.Released.Value, string.Join(' ', holds.Held.Select(inode => inode.Value).Order()));
    }

    private MountLine NewLine() => new() { Counter = 1, State = MountState.Live, Host = _host, Boot = Guid.NewGuid(), Mount = Guid.NewGuid() };

    private void Write(int entry, MountLine line) => _table.Write(entry, line);

    private void Apply(RecordType type, Google.Protobuf.IMessage payload)
    {
        RecordBatch batch = new();
        batch.Start(_state.Replay.Position.Sequence, new(64), seed: 0);
        batch.Add(type, payload);
        _state.Replay.ApplyFrames(batch.Frames);
    }

    private sealed class Clock : TimeProvider
    {
        public TimeSpan Now { get; set; }

        public override long TimestampFrequency => TimeSpan.TicksPerSecond;

        public override long GetTimestamp() => Now.Ticks;
    }
}
