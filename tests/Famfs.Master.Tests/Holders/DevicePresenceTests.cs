using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Log.Native;
using Famfs.Master.Changes;
using Famfs.Master.Holders;
using Famfs.Master.State;
using Famfs.Master.Tests.Changes;
using Famfs.V1;
using Xunit;

namespace Famfs.Master.Tests.Holders;

/// <summary>Which devices new files avoid: what mounts say, what they leave unsaid, and for how long that counts.</summary>
public sealed class DevicePresenceTests : IDisposable
{
    private static readonly TimeSpan s_tick = TimeSpan.FromSeconds(1);

    private readonly Deciding _on = new(devices: 3);
    private readonly MountLineTable _table;
    private readonly MountRegistry _mounts;
    private readonly Guid _host = Guid.NewGuid();
    private readonly Guid _mount = Guid.NewGuid();
    private ulong _counter;

    public DevicePresenceTests()
    {
        _table = new(_on.State.Pool);
        _mounts = new(_on.State, _table, _on.Clock);
        _on.Context.Append(RecordType.HostRegistered, new HostRegistered { HostId = _host.ToByteString(), HostSlot = 0, Name = "worker" });
        Refresh();
    }

    public void Dispose() => _on.Dispose();

    [Fact]
    public void A_device_that_a_mount_lacks_is_avoided_until_the_mount_says_that_it_has_it()
    {
        Subscribe(Said(3, 2));
        Assert.Equal((false, false, true), (Avoids(0), Avoids(1), Avoids(2)));
        DeviceAbsence absence = Assert.Single(_mounts.Absences);
        Assert.Equal((2, _mount, true, null), (absence.Device, absence.Mount, absence.Lacks, absence.Released));
        Assert.StartsWith("worker /mnt lacks device 2: files on it answer EIO there; new files avoid it", absence.ToString(), StringComparison.Ordinal);
        Assert.Equal("device 2 is missing at worker /mnt", _on.State.Avoidance.FindCause(2));
        Refresh(TimeSpan.FromHours(1));
        Assert.True(Avoids(2)); // a mount that lives is waited for, however long

        _mounts.SaidDevices(_mount, _host, Said(3));
        Assert.False(Avoids(2));
        Assert.Empty(_mounts.Absences);
    }

    [Fact]
    public void A_device_that_has_just_joined_is_avoided_until_every_mount_has_looked_for_it()
    {
        Subscribe(Said(3));
        Guid second = Guid.NewGuid();
        _mounts.Subscribed(second, Guid.NewGuid(), Guid.NewGuid(), "stock", "1", devices: Said(3));
        Join();
        Assert.True(Avoids(3)); // before anybody has looked at the mounts
        Refresh();
        Assert.True(Avoids(3));
        Assert.Equal(2, _mounts.Absences.Count(a => !a.Lacks));
        Assert.Contains("has not told whether it has device 3; new files avoid it for up to 60 s", _mounts.Absences[0].ToString(), StringComparison.Ordinal);
        _mounts.SaidDevices(_mount, _host, Said(4));
        Assert.True(Avoids(3));
        _mounts.Unsubscribed(second);
        Refresh();
        Assert.False(Avoids(3));
    }

    [Fact]
    public void A_mount_that_says_nothing_holds_back_only_what_is_new_and_for_a_minute()
    {
        Subscribe(null);
        Join();
        Refresh();
        Assert.Equal((false, true), (Avoids(2), Avoids(3)));
        Refresh(DevicePresence.Patience - s_tick);
        Assert.True(Avoids(3));
        Refresh(s_tick);
        Assert.False(Avoids(3));
        Assert.EndsWith("it has been without a word of its devices for 60 s, so new files use the device", Assert.Single(_mounts.Absences).ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public void A_mount_that_is_silent_for_a_minute_holds_nothing_back()
    {
        Subscribe(Said(3, 1, 2));
        Refresh(DevicePresence.Patience - s_tick, moves: false);
        Assert.Equal((true, true), (Avoids(1), Avoids(2)));
        Refresh(s_tick, moves: false);
        Assert.Equal((false, false), (Avoids(1), Avoids(2)));
        Assert.All(_mounts.Absences, a => Assert.EndsWith("it has been silent for 60 s, so new files use the device", a.ToString(), StringComparison.Ordinal));
        Refresh(s_tick);
        Assert.Equal((true, true), (Avoids(1), Avoids(2))); // it is back
    }

    [Fact]
    public void A_mount_that_lags_for_a_minute_holds_nothing_back_and_one_that_follows_does()
    {
        Subscribe(Said(3, 2));
        ulong replayed = 1;
        for (int second = 0; second < 120; second++)
            Refresh(s_tick, newest: ++replayed + 5, replayed: replayed); // always behind, and never for long
        Assert.True(Avoids(2));
        // It is to acknowledge now what was published up to five seconds ago.
        for (int second = 0; second < 54; second++)
            Refresh(s_tick, newest: replayed + 10, replayed: replayed);
        Assert.True(Avoids(2));
        for (int second = 54; second < 61; second++)
            Refresh(s_tick, newest: replayed + 10, replayed: replayed);
        Assert.False(Avoids(2));
        Assert.Equal("lagging", Assert.Single(_mounts.Absences).Released);
    }

    [Fact]
    public void The_last_word_of_a_mount_whose_stream_broke_counts_for_a_minute_and_is_not_shown()
    {
        Subscribe(Said(3, 2));
        Assert.Equal([2u], Assert.Single(_mounts.Describe(default)).MissingDevices.Indices);
        _mounts.Unsubscribed(_mount);
        Refresh();
        Assert.Null(Assert.Single(_mounts.Describe(default)).MissingDevices);
        Refresh(DevicePresence.Patience - s_tick);
        Assert.True(Avoids(2));
        // One that has lost its stream long ago may still find what joins now.
        Refresh(s_tick);
        Assert.False(Avoids(2));
        Join();
        Refresh();
        Assert.Equal((false, true), (Avoids(2), Avoids(3)));
        Refresh(DevicePresence.Patience);
        Assert.False(Avoids(3));
        Assert.All(_mounts.Absences, a => Assert.Equal("without a stream", a.Released));
    }

    [Fact]
    public void Only_a_mount_that_counts_holds_a_device_back()
    {
        // A stranger's, without a line, and one that has ended in order.
        _mounts.Subscribed(_mount, _host, Guid.NewGuid(), "stock", "1", known: false, devices: Said(3, 1));
        Refresh(moves: false);
        Assert.False(Avoids(1));
        Write(MountState.Live);
        Refresh(moves: false);
        Assert.True(Avoids(1));
        // Nobody speaks for the mount of another host.
        _mounts.SaidDevices(_mount, Guid.NewGuid(), Said(3));
        Assert.True(Avoids(1));
        Write(MountState.Ended);
        Refresh(moves: false);
        Assert.False(Avoids(1));
    }

    [Fact]
    public void Several_mounts_are_named_up_to_three()
    {
        for (int i = 0; i < 5; i++)
            _mounts.Subscribed(Guid.NewGuid(), _host, Guid.NewGuid(), "stock", "1", $"/mnt/{i}", devices: Said(3, 2));
        Assert.Equal("device 2 is missing at worker /mnt/0, worker /mnt/1, worker /mnt/2 (5 mounts in all)", _on.State.Avoidance.FindCause(2));
    }

    [Theory]
    [InlineData(4, new uint[0], "missing_devices counts 4 devices, the log has 3")]
    [InlineData(3, new uint[] { 0 }, "device 0: the indices are 1 to 2 here, ascending")]
    [InlineData(3, new uint[] { 3 }, "device 3: the indices are 1 to 2 here")]
    [InlineData(3, new uint[] { 2, 1 }, "device 1: the indices")]
    [InlineData(3, new uint[] { 1, 1 }, "device 1: the indices")]
    [InlineData(2, new uint[] { 2 }, "device 2: the indices are 1 to 1 here")]
    public void What_no_mount_can_mean_is_refused(uint count, uint[] indices, string cause)
    {
        FamfsException error = Assert.Throws<FamfsException>(() => DevicesSaid.Parse(new() { DeviceCount = count, Indices = { indices } }, 3));
        Assert.Equal(ErrorReason.BadRequest, error.Reason);
        Assert.Contains(cause, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_long_list_is_refused_beyond_its_limit_and_shown_up_to_another()
    {
        MissingDevices said = new() { DeviceCount = 300, Indices = { Enumerable.Range(1, 256).Select(i => (uint)i) } };
        MissingDevices shown = DevicesSaid.Parse(said, 300).Describe();
        Assert.Equal((16, 17u), (shown.Indices.Count, shown.DeviceCount));
        said.Indices.Add(257);
        Assert.Equal(256UL, Assert.Throws<FamfsException>(() => DevicesSaid.Parse(said, 300)).Limit);
    }

    [Fact]
    public void New_files_of_each_kind_avoid_a_device_and_a_caller_that_names_it_is_warned()
    {
        Subscribe(Said(3, 1));
        foreach (LayoutKind kind in Enum.GetValues<LayoutKind>())
        {
            for (int i = 0; i < 6; i++)
                Assert.DoesNotContain(1u, Create($"{kind}{i}", kind, out _).Extents.Select(e => e.Device));
        }
        FileMap named = Create("named", LayoutKind.Interleaved, out IList<string> warnings, 0, 1);
        Assert.Equal([0u, 1u], named.Extents.Select(e => e.Device).Order());
        Assert.Equal(["device 1 is missing at worker /mnt"], warnings);
        Create("elsewhere", LayoutKind.Contiguous, out warnings, 2);
        Assert.Empty(warnings);

        // Of many files in one message one tells.
        CreateFilesRequest many = new() { Files = { Enumerable.Range(0, 3).Select(i => new CreateFileRequest { Path = $"many{i}", SizeBytes = 1, Layout = new() { Devices = { 1 } } }) } };
        Assert.Equal([1, 0, 0], _on.Decide(new FilesCreation(many)).Results.Select(r => r.Reply.Warnings.Count));
    }

    [Fact]
    public void Without_space_elsewhere_the_error_says_what_is_avoided_and_why()
    {
        Subscribe(Said(3, 1, 2));
        FamfsException error = _on.Refuse(new FileCreation(new() { Path = "large", SizeBytes = 100 << 20 }));
        Assert.Equal(ErrorReason.NoSpace, error.Reason);
        Assert.EndsWith("; new files avoid 2 devices: device 1 is missing at worker /mnt", error.Message, StringComparison.Ordinal);
        _mounts.SaidDevices(_mount, _host, Said(3));
        Create("large", LayoutKind.Auto, out _, size: 100 << 20);
    }

    [Fact]
    public void A_piece_of_the_log_is_put_on_a_device_that_mounts_lack_only_if_there_is_no_other()
    {
        Subscribe(Said(3, 1));
        Assert.True(_on.Context.TryAllocateRun(40 << 20, out MapExtent extent));
        Assert.Equal(0, extent.Device.Value);
        Assert.True(_on.Context.TryAllocateRun(60 << 20, out extent));
        Assert.Equal(2, extent.Device.Value);
        Assert.True(_on.Context.TryAllocateRun(60 << 20, out extent));
        Assert.Equal(1, extent.Device.Value);
    }

    private FileMap Create(string path, LayoutKind kind, out IList<string> warnings, params uint[] devices) => Create(path, kind, out warnings, 4 << 20, devices);

    private FileMap Create(string path, LayoutKind kind, out IList<string> warnings, ulong size, uint[]? devices = null)
    {
        CreateFileReply reply = _on.Decide(new FileCreation(new() { Path = path, SizeBytes = size, Layout = new() { Kind = kind, Devices = { devices ?? [] } } }));
        warnings = reply.Warnings;
        return reply.File.Map;
    }

    private bool Avoids(int device) => _on.State.Avoidance.Avoids(device);

    private static DevicesSaid Said(uint count, params uint[] missing) => DevicesSaid.Parse(new() { DeviceCount = count, Indices = { missing } }, 4);

    private void Subscribe(DevicesSaid? devices)
    {
        Write(MountState.Live);
        _mounts.Scan();
        _mounts.Subscribed(_mount, _host, Guid.NewGuid(), "stock", "1", "/mnt", devices: devices);
    }

    private void Join() => _on.Context.Append(RecordType.DeviceAdded, new DeviceAdded
    {
        Index = (uint)_on.State.Replay.Devices.Length,
        DeviceUuid = Guid.NewGuid().ToByteString(),
        LengthBytes = 64 << 20,
        SuperblockInode = _on.Context.NextInode.Value,
    });

    /// <summary>Time passes, in which the mount's line moves or not; then the mounts are looked at.</summary>
    private void Refresh(TimeSpan time = default, bool moves = true, ulong newest = 1, ulong replayed = 1)
    {
        _on.Clock.Now += time;
        if (moves && time > TimeSpan.Zero)
            Write(MountState.Live, replayed);
        _mounts.Scan();
        _mounts.Refresh(new(newest));
    }

    private void Write(MountState state, ulong replayed = 1) => _table.Write(0, new MountLine
    {
        Counter = ++_counter,
        State = state,
        Host = _host,
        Boot = Guid.NewGuid(),
        Mount = _mount,
        Generation = 1,
        ReplayedSequence = new(replayed),
    });
}
