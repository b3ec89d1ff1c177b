using Famfs.Core.Dialects;
using Famfs.Core;
using Famfs.Core.Allocation;
using Famfs.Core.Check;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.Master.Changes;
using Famfs.Master.Engine;
using Famfs.Master.Role;
using Famfs.TestSupport;
using Famfs.V1;
using Google.Protobuf;
using Xunit;

namespace Famfs.Master.Tests.Engine;

/// <summary>The engine on file-backed devices, without gRPC.</summary>
public sealed class MasterEngineTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-master-").FullName;
    private readonly string[] _paths;
    private readonly HostIdentity _host = new(Guid.NewGuid(), Guid.NewGuid(), new byte[32], "test");

    public MasterEngineTests()
    {
        _paths = [Path.Combine(_directory, "0"), Path.Combine(_directory, "1")];
        List<DaxDevice> devices = [];
        foreach (string path in _paths)
        {
            using (FileStream file = File.Create(path))
                file.SetLength(128L << 20);
            devices.Add(DaxDevice.Open(path));
        }
        NativeFormatter.Format(devices, new() { Host = _host.Host, Clock = TimeProvider.System });
        devices.ForEach(d => d.Dispose());
    }

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Fact]
    public async Task Created_files_are_there_after_a_restart_and_a_repeated_request_makes_none()
    {
        CreateFileRequest request = new() { RequestId = Guid.CreateVersion7().ToByteString(), Path = "f", SizeBytes = 5 };
        ulong inode;
        await using (RunningMaster master = await StartAsync())
        {
            inode = (await master.CreateAsync(request)).File.Inode;
            Assert.Equal(inode, (await master.CreateAsync(request)).File.Inode);
        }
        await using RunningMaster again = await StartAsync();
        CreateFileReply repeated = await again.CreateAsync(request);
        Assert.Equal(inode, repeated.File.Inode);
        Assert.Equal("f", repeated.File.Path);
        request.SizeBytes = 6;
        Assert.Equal(ErrorReason.BadRequest, (await Assert.ThrowsAsync<FamfsException>(() => again.CreateAsync(request))).Reason);
    }

    [Theory]
    [InlineData("f", 0UL, ErrorReason.BadSize)]
    [InlineData("f", ulong.MaxValue, ErrorReason.BadSize)]
    [InlineData("f", 1UL << 40, ErrorReason.NoSpace)]
    [InlineData("/f", 1UL, ErrorReason.BadPath)]
    [InlineData("no/f", 1UL, ErrorReason.NotFound)]
    [InlineData("there/f", 1UL, ErrorReason.NotADirectory)]
    [InlineData("there", 1UL, ErrorReason.Exists)]
    public async Task Refused_creations_say_why_and_change_nothing(string path, ulong size, ErrorReason reason)
    {
        await using RunningMaster master = await StartAsync();
        await master.CreateAsync(new() { Path = "there", SizeBytes = 1 });
        LogPosition before = await master.PositionAsync();
        long free = await master.FreeBytesAsync();
        Assert.Equal(reason, (await Assert.ThrowsAsync<FamfsException>(() => master.CreateAsync(new() { Path = path, SizeBytes = size }))).Reason);
        Assert.Equal(before, await master.PositionAsync());
        Assert.Equal(free, await master.FreeBytesAsync());
    }

    [Fact]
    public async Task A_record_that_cannot_be_applied_ends_the_term_and_is_not_published()
    {
        await using (RunningMaster master = await StartAsync())
        {
            await master.CreateAsync(new() { Path = "before", SizeBytes = 1 });
            FamfsException error = await Assert.ThrowsAsync<FamfsException>(() => master.DecideAsync(context =>
            {
                // What looks after request ids has no such share, and fails: as for want of memory, in the middle of a record.
                context.State.RequestShare = int.MaxValue;
                context.Append(RecordType.DirectoryMade, new DirectoryMade
                {
                    Inode = context.NextInode.Value,
                    Parent = InodeNumber.Root.Value,
                    Name = ByteString.CopyFromUtf8("half"),
                    RequestId = Guid.CreateVersion7().ToByteString(),
                    RequestDigest = 1,
                });
                return true;
            }));
            Assert.Equal(ErrorReason.NotMaster, error.Reason);
            await Assert.ThrowsAnyAsync<Exception>(() => master.Engine.Completion.WaitAsync(TimeSpan.FromMinutes(2), TestContext.Current.CancellationToken));
        }
        await using RunningMaster again = await StartAsync();
        Assert.Equal("before", (await again.DescribeAsync("before")).Path);
        Assert.Equal(ErrorReason.NotFound, (await Assert.ThrowsAsync<FamfsException>(() => again.DescribeAsync("half"))).Reason);
    }

    [Fact]
    public async Task Existing_file_is_opened_if_it_is_the_same_and_refused_if_not()
    {
        await using RunningMaster master = await StartAsync();
        ulong inode = (await master.CreateAsync(new() { Path = "f", SizeBytes = 3 })).File.Inode;
        CreateFileReply same = await master.CreateAsync(new() { Path = "f", SizeBytes = 3, IfExists = IfExists.OpenIfSame });
        Assert.True(same.Existed);
        Assert.Equal(inode, same.File.Inode);
        Assert.Equal(ErrorReason.ExistsDifferent, (await Assert.ThrowsAsync<FamfsException>(() => master.CreateAsync(new() { Path = "f", SizeBytes = 4, IfExists = IfExists.OpenIfSame }))).Reason);
    }

    [Fact]
    public async Task Log_grows_over_many_segments_and_is_replayed_whole()
    {
        await using (RunningMaster master = await StartAsync())
        {
            // Directories take log only, with names that fill it.
            for (int i = 0; i < 30_000; i++)
            {
                string name = string.Create(System.Globalization.CultureInfo.InvariantCulture, $"{i:d8}{new string('x', 240)}");
                await master.MakeDirectoryAsync(name);
            }
            Assert.True(await master.QueryAsync(_ => master.Engine.SegmentCount) > 2);
        }
        await using RunningMaster again = await StartAsync();
        Assert.Equal(30_001, await again.DirectoryCountAsync());
    }

    [Fact]
    public async Task A_dialect_floor_holds_after_a_restart_and_keeps_creators_within_what_it_can_map()
    {
        ByteString id = Guid.CreateVersion7().ToByteString();
        SetPolicyReply set;
        await using (RunningMaster master = await StartAsync())
        {
            Assert.Equal("none", FmapLimits.NameOfFloor(await master.QueryAsync(e => e.State.Replay.Policy.DialectFloor)));
            set = await master.SetPolicyAsync(new() { RequestId = id, DialectFloor = "d" });
            Assert.Equal("D", set.DialectFloor);
        }
        await using RunningMaster again = await StartAsync();
        Assert.Equal(4u, await again.QueryAsync(e => e.State.Replay.Policy.DialectFloor));

        // Too many chunks for the message: refused with the limit when asked for, and not chosen when not.
        const ulong Chunks = ((16 << 20) - 32) / 24;
        ulong tooLarge = (Chunks + 1) * (2 << 20);
        LogPosition before = await again.PositionAsync();
        FamfsException error = await Assert.ThrowsAsync<FamfsException>(() => again.CreateAsync(new() { Path = "f", SizeBytes = tooLarge, Layout = new() { Kind = LayoutKind.Interleaved } }));
        Assert.Equal((ErrorReason.BadLayout, Chunks), (error.Reason, error.Limit));
        Assert.Contains("the dialect floor is D", error.Message);
        Assert.Equal(ErrorReason.NoSpace, (await Assert.ThrowsAsync<FamfsException>(() => again.CreateAsync(new() { Path = "f", SizeBytes = tooLarge }))).Reason);
        Assert.Equal(before, await again.PositionAsync());
        Assert.NotEqual(0UL, (await again.CreateAsync(new() { Path = "f", SizeBytes = 8 << 20, Layout = new() { Kind = LayoutKind.Interleaved } })).File.Map.ChunkBytes);

        // The same request again is the same change; the floor can be taken away.
        Assert.Equal(set, await again.SetPolicyAsync(new() { RequestId = id, DialectFloor = "d" }));
        Assert.Equal(ErrorReason.BadRequest, (await Assert.ThrowsAsync<FamfsException>(() => again.SetPolicyAsync(new() { RequestId = id, DialectFloor = "B" }))).Reason);
        Assert.Equal("none", (await again.SetPolicyAsync(new() { DialectFloor = "none" })).DialectFloor);
        Assert.Equal(ErrorReason.NoSpace, (await Assert.ThrowsAsync<FamfsException>(() => again.CreateAsync(new() { Path = "g", SizeBytes = tooLarge, Layout = new() { Kind = LayoutKind.Interleaved } }))).Reason);
    }

    [Fact]
    public async Task Under_a_floor_the_log_stays_on_devices_that_every_kernel_can_map()
    {
        // Device 24 is out of reach of B: a log segment there would hide the log from such hosts.
        string directory = Directory.CreateDirectory(Path.Combine(_directory, "many")).FullName;
        List<DaxDevice> devices = [];
        for (int i = 0; i < 25; i++)
        {
            string path = Path.Combine(directory, $"{i:d2}");
            using (FileStream file = File.Create(path))
                file.SetLength(i is 0 or 24 ? 16L << 20 : 4L << 20);
            devices.Add(DaxDevice.Open(path));
        }
        NativeFormatter.Format(devices, new() { Host = _host.Host, Clock = TimeProvider.System, MaxHosts = 1 });
        devices.ForEach(d => d.Dispose());
        await using RunningMaster master = await StartAsync([.. Directory.GetFiles(directory).Order(StringComparer.Ordinal)]);
        foreach ((string floor, int beyond) in ((string, int)[])[("B", 0), ("none", 1)])
        {
            await master.SetPolicyAsync(new() { DialectFloor = floor });
            int found = await master.DecideAsync(e =>
            {
                int outOfReach = 0;
                while (e.TryAllocateRun(4 << 20, out MapExtent extent))
                    outOfReach += extent.Device.Value >= 24 ? 1 : 0;
                return outOfReach;
            });
            Assert.True(found > 0 == beyond > 0, $"floor {floor}: {found} runs on device 24");
        }
    }

    [Fact]
    public async Task A_policy_that_means_nothing_is_refused_and_one_of_a_newer_version_stops_creations()
    {
        await using RunningMaster master = await StartAsync();
        LogPosition before = await master.PositionAsync();
        FamfsException unknown = await Assert.ThrowsAsync<FamfsException>(() => master.SetPolicyAsync(new() { DialectFloor = "C" }));
        Assert.Equal((ErrorReason.BadRequest, "dialect floor 'C': must be none, A, B0, B, D"), (unknown.Reason, unknown.Message));
        Assert.Equal(ErrorReason.BadRequest, (await Assert.ThrowsAsync<FamfsException>(() => master.SetPolicyAsync(new()))).Reason);
        Assert.Equal(before, await master.PositionAsync());

        await master.DecideAsync(e =>
        {
            e.Append(RecordType.PolicySet, new PolicySet { TimeNs = e.NowNs, DialectFloor = 99 });
            return true;
        });
        Assert.Equal(ErrorReason.NotSupportedByFormat, (await Assert.ThrowsAsync<FamfsException>(() => master.CreateAsync(new() { Path = "f", SizeBytes = 1 }))).Reason);
        Assert.Equal("99", FmapLimits.NameOfFloor(99));
    }

    [Fact]
    public async Task Bulk_and_single_creations_share_no_space()
    {
        await using (RunningMaster master = await StartAsync())
        {
            List<Task> creations = [];
            for (int i = 0; i < 40; i++)
            {
                int n = i;
                creations.Add(master.CreateAsync(new() { Path = $"f{n}", SizeBytes = 1, Layout = new() { Kind = n % 2 == 0 ? LayoutKind.Interleaved : LayoutKind.Contiguous } }));
            }
            await Task.WhenAll(creations);
        }
        using DevicePool pool = Open();
        CheckResult check = FileSystemCheck.Run(pool, TimeProvider.System);
        Assert.Empty(check.Findings);
        Assert.Equal(40, check.Files);
    }

    [Fact]
    public async Task Each_record_is_known_with_its_term_and_no_other_record_is()
    {
        List<LogPosition> ends = [];
        for (int start = 0; start < 3; start++)
        {
            await using RunningMaster master = await StartAsync();
            for (int file = 0; file < start; file++)
                await master.CreateAsync(new() { Path = $"{start}-{file}", SizeBytes = 1 });
            LogPosition end = await master.PositionAsync();
            ends.Add(end);
            Assert.Equal(end.Term, master.State.Replay.FindTerm(end.Sequence));
            Assert.Null(master.State.Replay.FindTerm(end.Sequence.Next));
            Assert.Null(master.State.Replay.FindTerm(default));
        }
        await using RunningMaster last = await StartAsync();
        await last.CreateAsync(new() { Path = "last", SizeBytes = 1 });
        Assert.All(ends, end => Assert.Equal(end.Term, last.State.Replay.FindTerm(end.Sequence)));
        Assert.Equal(ends[0].Term, last.State.Replay.FindTerm(ends[0].Sequence.Next)); // the end of the term
        Assert.Equal(ends[1].Term, last.State.Replay.FindTerm(ends[0].Sequence.Next.Next)); // the start of the next
    }

    private DevicePool Open() => TestFormats.All.Open([.. _paths.Select(p => DaxDevice.Open(p))]);

    /// <summary>The end of a term proves that its master stores to no removed file any more (SAFETY S8).</summary>
    [Fact]
    public async Task A_term_ends_after_its_zeroing()
    {
        Recovery.Result recovered = await RecoverAsync();
        Zeroing zeroing = new(() => recovered.Writer.Position.Sequence);
        await using (RunningMaster master = new(recovered, zeroing: zeroing))
            await master.CreateAsync(new() { Path = "f", SizeBytes = 1 });
        await using RunningMaster again = await StartAsync();
        Assert.True(again.State.Replay.IsProvedEnded(recovered.Writer.Term));
        // Of the former term only its end came after that.
        Assert.Equal(recovered.Writer.Position.Sequence, zeroing.StoppedAt!.Value.Next);
    }

    private async Task<RunningMaster> StartAsync(IReadOnlyList<string>? paths = null) => new(await RecoverAsync(paths));

    private Task<Recovery.Result> RecoverAsync(IReadOnlyList<string>? paths = null) =>
        Recovery.RunAsync(paths is null ? Open() : TestFormats.All.Open([.. paths.Select(p => DaxDevice.Open(p))]), _host, takeOver: false, "", TimeProvider.System, new Random(1), TestContext.Current.CancellationToken);

    /// <summary>Remembers up to where the log was published when it was told to end.</summary>
    private sealed class Zeroing(Func<LogSequence> published) : ISpaceZeroing
    {
        public LogSequence? StoppedAt { get; private set; }

        public void Start(NewSpace space, Action zeroed) => zeroed();

        public void Stop() => StoppedAt ??= published();
    }
}
