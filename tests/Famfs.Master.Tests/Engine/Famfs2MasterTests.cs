using Famfs.Core;
using Famfs.Core.Check;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Namespace;
using Famfs.Famfs2;
using Famfs.Famfs2.Codec;
using Famfs.TestSupport;
using Famfs.TestSupport.Dax;
using Famfs.TestSupport.Famfs2;
using Famfs.Master.Changes;
using Famfs.Master.Queries;
using Famfs.Master.Role;
using Famfs.V1;
using Xunit;
using FileInfo = Famfs.V1.FileInfo;

namespace Famfs.Master.Tests.Engine;

/// <summary>The engine on a famfs-2 file system in files, without gRPC.</summary>
public sealed class Famfs2MasterTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-2-").FullName;
    private readonly string[] _paths;
    private readonly string _system;

    public Famfs2MasterTests()
    {
        _paths = [Path.Combine(_directory, "0"), Path.Combine(_directory, "1")];
        _system = Path.Combine(_directory, "opt", "system_uuid");
        List<DaxDevice> devices = [];
        foreach (string path in _paths)
        {
            using (FileStream file = File.Create(path))
                file.SetLength(128L << 20);
            devices.Add(DaxDevice.Open(path));
        }
        Famfs2Formatter.Format(devices, new() { System = Famfs2SystemUuid.ReadOrMake(_system) });
        devices.ForEach(d => d.Dispose());
    }

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Fact]
    public async Task Created_files_are_there_after_a_restart_with_inode_2_plus_index_and_the_same_tree_for_every_reader()
    {
        List<FileInfo2> made = [];
        await using (RunningMaster master = Start())
        {
            made.Add(new(await master.MakeDirectoryAsync("d")));
            made.Add(new((await master.CreateAsync(new() { Path = "d/f", SizeBytes = 5, Uid = 7 })).File));
            made.Add(new((await master.CreateAsync(new() { Path = "d/g", SizeBytes = 16 << 20, Layout = new() { Kind = LayoutKind.Interleaved } })).File));
        }
        // Index 0 is the second device.
        Assert.Equal([3UL, 4UL, 5UL], made.Select(m => m.Inode));
        await using RunningMaster again = Start();
        made[0] = made[0] with { SizeBytes = 2 };
        foreach (FileInfo2 info in made)
            Assert.Equal(info, new(await again.QueryAsync(reader => FileQueries.Describe(reader, FileQueries.Find(reader, null, info.Inode), info.Path, true))));
        Assert.Equal(0, made[1].TimeNs);
        Assert.Equal(6UL, (await again.CreateAsync(new() { Path = "h", SizeBytes = 1 })).File.Inode);
        using DevicePool pool = Open();
        CheckResult check = FileSystemCheck.Run(pool, TimeProvider.System);
        Assert.Empty(check.Findings);
        Assert.Equal((3L, 2L), (check.Files, check.Directories));
    }

    [Fact]
    public async Task What_the_format_cannot_hold_is_refused_with_the_format_that_can_and_nothing_changes()
    {
        await using RunningMaster master = Start();
        LogPosition before = await master.PositionAsync();
        long free = await master.FreeBytesAsync();
        string longest = new('p', Famfs2Layout.MaxPathBytes);
        foreach (Func<Task> refused in (Func<Task>[])[
            () => master.CreateAsync(new() { Path = longest + "p", SizeBytes = 1 }),
            () => master.MakeDirectoryAsync(longest + "p"),
            () => master.MakeDirectoryAsync($"{longest[..40]}/{longest[..39]}", parents: true),
            () => master.CreateAsync(new() { Path = "f", SizeBytes = 1, State = CreateState.Staged }),
            () => master.CreateAsync(new() { Path = "f", SizeBytes = 1, Layout = new() { Kind = LayoutKind.Interleaved, Strips = 17 } }),
            () => master.SetPolicyAsync(new() { DialectFloor = "B" }),
            () => master.RunAsync(new MasterSlotGrant(new() { HostId = Guid.NewGuid().ToByteString() })),
        ])
        {
            FamfsException error = await Assert.ThrowsAsync<FamfsException>(refused);
            Assert.Equal(ErrorReason.NotSupportedByFormat, error.Reason);
            Assert.Contains("native", error.Message, StringComparison.Ordinal);
        }
        foreach (string call in new[] { "Remove", "Rename", "PublishFile", "SetAttributes", "Compact" })
            Assert.Equal(ErrorReason.NotSupportedByFormat, master.State.Format.FindRefusal(call)!.Reason);
        Assert.Equal(before, await master.PositionAsync());
        Assert.Equal(free, await master.FreeBytesAsync());
        Assert.Equal(longest, (await master.CreateAsync(new() { Path = longest, SizeBytes = 1 })).File.Path);
    }

    [Fact]
    public async Task A_repeated_request_gets_the_first_answer_until_a_restart_and_then_OPEN_IF_SAME_does()
    {
        CreateFileRequest request = new() { RequestId = Guid.CreateVersion7().ToByteString(), Path = "f", SizeBytes = 5 };
        ulong inode;
        await using (RunningMaster master = Start())
        {
            inode = (await master.CreateAsync(request)).File.Inode;
            Assert.Equal(inode, (await master.CreateAsync(request)).File.Inode);
        }
        await using RunningMaster again = Start();
        Assert.Equal(ErrorReason.Exists, (await Assert.ThrowsAsync<FamfsException>(() => again.CreateAsync(request))).Reason);
        request.IfExists = IfExists.OpenIfSame;
        CreateFileReply same = await again.CreateAsync(request);
        Assert.Equal((inode, true), (same.File.Inode, same.Existed));
    }

    [Fact]
    public async Task Another_system_is_refused_unless_it_adopts_and_then_the_first_one_ends()
    {
        await using RunningMaster master = Start();
        string other = Path.Combine(_directory, "other", "system_uuid");
        FamfsException error = Assert.Throws<FamfsException>(() => Start(other));
        Assert.Equal(ErrorReason.NotMaster, error.Reason);
        Assert.False(File.Exists(other));
        Famfs2SystemUuid.ReadOrMake(other);
        // On this one host the lock would keep the second master out; another host has a lock of its own.
        using (DevicePool pool = Open())
            Assert.Equal(ErrorReason.NotMaster, Assert.Throws<FamfsException>(() => Famfs2Mastership.Take(pool, Famfs2SystemUuid.Read(other)!.Value, takeOver: false)).Reason);
        using (DevicePool pool = Open())
            Famfs2Mastership.Take(pool, Famfs2SystemUuid.Read(other)!.Value, takeOver: true);
        await Assert.ThrowsAsync<FamfsException>(() => master.CreateAsync(new() { Path = "f", SizeBytes = 1 }));
        Assert.Equal(ErrorReason.NotMaster, (await Assert.ThrowsAsync<FamfsException>(() => master.Engine.Completion)).Reason);
    }

    [Fact]
    public async Task Two_masters_on_one_host_exclude_each_other()
    {
        await using RunningMaster master = Start();
        Assert.Equal(ErrorReason.NotMaster, Assert.Throws<FamfsException>(() => Start()).Reason);
    }

    [Fact]
    public async Task New_files_are_zero_whatever_the_memory_held()
    {
        byte[] noise = new byte[4 << 20];
        new Random(1).NextBytes(noise);
        using (FileStream device = File.OpenWrite(_paths[0]))
        {
            device.Position = Famfs2Layout.LogOffset + Famfs2Layout.MinLogBytes;
            while (device.Position < 100 << 20)
                device.Write(noise);
        }
        await using RunningMaster master = Start();
        CreateFileReply made = await master.CreateAsync(new() { Path = "f", SizeBytes = 10 << 20, Layout = new() { Kind = LayoutKind.Contiguous, Devices = { 0 } } });
        byte[] content = File.ReadAllBytes(_paths[0]);
        foreach (Extent extent in made.File.Map.Extents)
            Assert.False(content.AsSpan((int)extent.OffsetBytes, (int)extent.LengthBytes).ContainsAnyExcept((byte)0));
    }

    [Fact]
    public async Task While_a_slow_device_is_zeroed_requests_are_answered_and_the_tail_is_looked_at_and_nothing_names_the_space()
    {
        SlowMemory slow = new();
        await using RunningMaster master = slow.Start();
        long free = await master.FreeBytesAsync();
        CreateFileRequest request = new() { RequestId = Guid.CreateVersion7().ToByteString(), Path = "slow", SizeBytes = 8 << 20 };
        slow.Blocks = true;
        Task<CreateFileReply> creating = master.CreateAsync(request);
        Task<CreateFileReply> again = master.CreateAsync(request);
        Assert.True(slow.Reached.Wait(TimeSpan.FromMinutes(3)));
        await master.MakeDirectoryAsync("d");
        // The engine's own beat is a look at the header ten times a second.
        int looks = slow.HeaderLooks;
        SpinWait.SpinUntil(() => slow.HeaderLooks > looks + 100, TimeSpan.FromMinutes(3));
        Assert.InRange(slow.HeaderLooks, looks + 101, int.MaxValue);
        Assert.False(creating.IsCompleted);
        Assert.False(again.IsCompleted);
        // Its space is nobody else's, and one that repeats itself takes no more; another host sees no entry of it.
        Assert.Equal(free - (8 << 20), await master.FreeBytesAsync());
        Assert.Equal(["2 d"], slow.Names());
        slow.Release();
        ulong inode = (await creating).File.Inode;
        Assert.Equal(inode, (await again).File.Inode);
        Assert.Equal(3UL, inode);
        Assert.Equal(["2 d", "3 slow"], slow.Names());
        Assert.Equal(free - (8 << 20), await master.FreeBytesAsync());
    }

    [Fact]
    public async Task Space_of_a_file_that_comes_too_late_is_free_again_and_a_bulk_goes_on_with_the_next()
    {
        SlowMemory slow = new();
        await using RunningMaster master = slow.Start();
        long free = await master.FreeBytesAsync();
        slow.Blocks = true;
        CreateFilesRequest files = new();
        files.Files.Add(new CreateFileRequest { Path = "x", SizeBytes = 8 << 20 });
        files.Files.Add(new CreateFileRequest { Path = "y", SizeBytes = 2 << 20 });
        Task<CreateFilesReply> bulk = master.RunAsync(new FilesCreation(files));
        Assert.True(slow.Reached.Wait(TimeSpan.FromMinutes(3)));
        await master.MakeDirectoryAsync("x");
        slow.Release();
        CreateFilesReply reply = await bulk;
        Assert.Equal([ErrorReason.Exists, ErrorReason.Unspecified], reply.Results.Select(r => r.Error?.Reason ?? ErrorReason.Unspecified));
        Assert.Equal(2U << 20, reply.Results[1].Reply.File.SizeBytes);
        Assert.Equal(free - (2 << 20), await master.FreeBytesAsync());
        using DevicePool pool = slow.Open("other");
        Assert.Empty(FileSystemCheck.Run(pool, TimeProvider.System).Findings);
    }

    [Fact]
    public async Task Memory_that_faults_while_it_is_zeroed_fails_its_file_and_not_the_master()
    {
        SlowMemory slow = new();
        await using RunningMaster master = slow.Start();
        long free = await master.FreeBytesAsync();
        slow.Memory.Poison(Famfs2Layout.LogOffset + Famfs2Layout.MinLogBytes, slow.Memory.LengthBytes - Famfs2Layout.LogOffset - Famfs2Layout.MinLogBytes);
        FamfsException error = await Assert.ThrowsAsync<FamfsException>(() => master.CreateAsync(new() { Path = "f", SizeBytes = 1 }));
        Assert.Contains("cannot be zeroed", error.Message, StringComparison.Ordinal);
        Assert.Equal(free, await master.FreeBytesAsync());
        Assert.Equal("d", (await master.MakeDirectoryAsync("d")).Path);
    }

    [Fact]
    public async Task A_master_that_stops_while_it_zeroes_says_so_and_leaves_no_trace_of_the_file()
    {
        SlowMemory slow = new();
        RunningMaster master = slow.Start();
        slow.Blocks = true;
        Task<CreateFileReply> creating = master.CreateAsync(new() { Path = "slow", SizeBytes = 8 << 20 });
        Assert.True(slow.Reached.Wait(TimeSpan.FromMinutes(3)));
        ValueTask ending = master.DisposeAsync();
        slow.Release();
        await ending;
        Assert.Equal(ErrorReason.NotMaster, (await Assert.ThrowsAsync<FamfsException>(() => creating)).Reason);
        Assert.Empty(slow.Names());
        await using RunningMaster next = slow.Start();
        Assert.Equal(2UL, (await next.CreateAsync(new() { Path = "f", SizeBytes = 1 })).File.Inode);
    }

    [Fact]
    public async Task Entries_that_the_existing_tools_append_meanwhile_end_mastership_although_nothing_is_asked_for()
    {
        await using (RunningMaster master = Start())
            await TheirsEndsAsync(master);
        await using RunningMaster again = Start();
        Assert.Equal(4UL, (await again.DescribeAsync("theirs")).Inode);
    }

    private async Task TheirsEndsAsync(RunningMaster master)
    {
        await master.MakeDirectoryAsync("ours");
        using (FileStream device = File.OpenWrite(_paths[0]))
        {
            byte[] entry = new byte[Famfs2Entry.Size];
            new Famfs2Directory { Path = "theirs"u8.ToArray() }.Format(entry, 2);
            device.Position = Famfs2Layout.EntryOffset(2);
            device.Write(entry);
            byte[] header = new byte[Famfs2LogHeader.Size];
            new Famfs2LogHeader(Famfs2Layout.MinLogBytes, 3, 3).Format(header);
            device.Position = Famfs2Layout.LogOffset;
            device.Write(header);
        }
        FamfsException error = await Assert.ThrowsAsync<FamfsException>(() => master.Engine.Completion.WaitAsync(TimeSpan.FromMinutes(3)));
        Assert.Equal(ErrorReason.NotMaster, error.Reason);
        Assert.Contains("the log has 3 entries, this master has written 2", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_full_log_is_said_and_the_file_system_goes_on_serving()
    {
        await using (RunningMaster master = Start())
        {
            int room = (int)Famfs2Layout.LastIndexOf(Famfs2Layout.MinLogBytes);
            List<Task<FileInfo>> making = [.. Enumerable.Range(0, room).Select(i => master.MakeDirectoryAsync($"d{i}"))];
            await Task.WhenAll(making);
            FamfsException error = await Assert.ThrowsAsync<FamfsException>(() => master.MakeDirectoryAsync("more"));
            Assert.Equal(ErrorReason.LogFull, error.Reason);
            Assert.Equal(ErrorReason.LogFull, (await Assert.ThrowsAsync<FamfsException>(() => master.CreateAsync(new() { Path = "more", SizeBytes = 1 }))).Reason);
            await master.DescribeAsync("d0");
        }
        await using RunningMaster again = Start();
        Assert.Equal(Famfs2Layout.LastIndexOf(Famfs2Layout.MinLogBytes) + 1, (ulong)await again.DirectoryCountAsync());
    }

    [Fact]
    public async Task A_damaged_log_gets_no_master()
    {
        await using (RunningMaster master = Start())
            await master.MakeDirectoryAsync("d");
        using (FileStream device = File.OpenWrite(_paths[0]))
        {
            device.Position = Famfs2Layout.EntryOffset(1) + 100;
            device.WriteByte(0x55);
        }
        Assert.Equal(ErrorReason.MediaCorrupt, Assert.Throws<FamfsException>(() => Start()).Reason);
    }

    /// <summary>Existing tools see a file in each of these entries; here none has an effect.</summary>
    [Fact]
    public async Task Space_of_entries_that_are_passed_over_is_never_given_to_another_file()
    {
        const ulong Unit = Famfs2Image.Unit;
        Famfs2Image image = new(units: 32);
        image.Add(Famfs2Image.File("f", 1, Famfs2Image.Extent(10, 2)));
        image.Add(Famfs2Image.File("never-made/x", 1, Famfs2Image.Extent(20, 2)));
        image.Add(Famfs2Image.File("overlaps", 1, Famfs2Image.Extent(11, 2)));
        image.Add(Famfs2Image.File("f", 1, Famfs2Image.Extent(14)));
        image.Add(Famfs2Image.File("unaligned", 1, new Famfs2Extent(0, (16 * Unit) + 4096, Unit)));
        image.Add(Famfs2Image.File("past the end", 1, Famfs2Image.Extent(31, 2)));
        image.Add(Famfs2Image.File("nowhere", 1, Famfs2Image.Extent(6, 1, device: 1), new Famfs2Extent(0, ulong.MaxValue, ulong.MaxValue)));
        image.Add(Famfs2Image.Interleaved("../strips", 1, Unit, Famfs2Image.Extent(24), Famfs2Image.Extent(26)));
        int[] theirs = [10, 11, 12, 14, 16, 17, 20, 21, 24, 26, 31];
        foreach (int unit in theirs)
            image.Memory.WriteMemory((long)unit * Famfs2Image.Unit, [(byte)unit, 0x55]);
        string system = Path.Combine(_directory, "images");
        File.WriteAllText(system, $"{image.Superblock.System}");
        await using RunningMaster master = new(Recover(image.Open(), system));
        List<int> ours = [];
        while (await master.FreeBytesAsync() > 0)
        {
            foreach (Extent extent in (await master.CreateAsync(new() { Path = $"new{ours.Count}", SizeBytes = 1 })).File.Map.Extents)
                ours.Add((int)(extent.OffsetBytes / Unit));
        }
        Assert.Equal(Enumerable.Range(Famfs2Image.FirstFreeUnit, 32 - Famfs2Image.FirstFreeUnit).Except(theirs), ours.Order());
        byte[] kept = new byte[2];
        foreach (int unit in theirs)
        {
            image.Memory.ReadMemory((long)unit * Famfs2Image.Unit, kept);
            Assert.Equal([(byte)unit, 0x55], kept);
        }
    }

    private DevicePool Open() => TestFormats.All.Open([.. _paths.Select(p => DaxDevice.Open(p))]);

    // The claim of this format waits for nothing.
    private static Recovery.Result Recover(DevicePool pool, string systemFile) =>
        Recovery.RunAsync(pool, new HostIdentity(Guid.NewGuid(), Guid.NewGuid(), new byte[32], "host"), takeOver: false, systemFile, TimeProvider.System, new Random(1), CancellationToken.None).GetAwaiter().GetResult();

    private RunningMaster Start(string? system = null) => new(Recover(Open(), system ?? _system));

    private sealed record FileInfo2(ulong Inode, string Path, uint Mode, uint Uid, ulong SizeBytes, string Map, long TimeNs)
    {
        public FileInfo2(FileInfo info)
            : this(info.Inode, info.Path, info.Mode, info.Uid, info.SizeBytes, info.Map?.ToString() ?? "", info.ModifyTimeNs)
        {
        }
    }

    /// <summary>A file system in memory that can be made to stop where it is zeroed.</summary>
    private sealed class SlowMemory
    {
        private const string MasterHost = "master";

        private static readonly Guid s_system = Guid.NewGuid();
        private readonly ManualResetEventSlim _released = new();
        private readonly string _systemFile = Path.Combine(Path.GetTempPath(), Guid.NewGuid().ToString());
        private volatile bool _blocks;
        private int _looks;

        public SlowMemory()
        {
            Memory = new(128L << 20, 1, coherent: true) { AccidentOneIn = 0 };
            Famfs2Formatter.Format([Memory.Attach(MasterHost)], new() { System = s_system });
            Memory.Settle();
            Memory.BeforeAccess = (host, operation, offset) =>
            {
                if (host == MasterHost && offset / 64 == Famfs2Layout.LogOffset / 64 && operation == FakeOperation.Load)
                    Interlocked.Increment(ref _looks);
                if (host != MasterHost || operation != FakeOperation.Zero)
                    return;
                Reached.Set();
                if (_blocks)
                    _released.Wait(TimeSpan.FromMinutes(5));
            };
        }

        public FakeSharedMemory Memory { get; }

        public ManualResetEventSlim Reached { get; } = new();

        public int HeaderLooks => Volatile.Read(ref _looks);

        public bool Blocks
        {
            set => _blocks = value;
        }

        public void Release()
        {
            _blocks = false;
            _released.Set();
        }

        public DevicePool Open(string host) => TestFormats.All.Open([Memory.Attach(host)]);

        public RunningMaster Start()
        {
            File.WriteAllText(_systemFile, $"{s_system}");
            try
            {
                return new(Recover(Open(MasterHost), _systemFile));
            }
            finally
            {
                File.Delete(_systemFile);
            }
        }

        /// <summary>What another host finds: inode numbers and paths.</summary>
        public string[] Names()
        {
            using DevicePool pool = Open("other");
            using ReplayState state = new(new(pool.Primary.FileSystem, 0, default, default), default);
            ILogReader reader = pool.Format.OpenReader(pool, TimeProvider.System);
            while (reader.Poll(out LogBlock block) == PollVerdict.Records)
                state.ApplyFrames(block.Frames.Span);
            return [.. Famfs2Image.Describe(state.Tree).Select(line => string.Join(' ', line.Split(' ')[..2]))];
        }
    }
}
