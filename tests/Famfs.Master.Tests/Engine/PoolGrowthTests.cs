using System.Globalization;
using Famfs.Core;
using Famfs.Core.Check;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.Master.Changes;
using Famfs.Master.Queries;
using Famfs.Master.Role;
using Famfs.TestSupport;
using Famfs.V1;
using Xunit;

namespace Famfs.Master.Tests.Engine;

/// <summary>Pools and logs that fill up and grow: devices added while running, many segments, no space.</summary>
public sealed class PoolGrowthTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-growth-").FullName;
    private readonly List<string> _paths = [];
    private readonly HostIdentity _host = new(Guid.NewGuid(), Guid.NewGuid(), new byte[32], "first");
    private readonly HostIdentity _other = new(Guid.NewGuid(), Guid.NewGuid(), new byte[32], "second");

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Fact]
    public async Task Files_on_a_device_added_while_running_leave_its_superblock_alone()
    {
        Format(16, 16);
        string added = MakeFile("added", 16);
        await using (RunningMaster master = await StartAsync())
        {
            await AddAsync(master, new() { Path = added });
            Assert.Equal(ErrorReason.NoSpace, (await FillAsync(master, "f")).Reason);
        }
        _paths.Add(added);
        await using (RunningMaster again = await StartAsync())
            Assert.Equal(0, await again.FreeBytesAsync());
        AssertSound();
    }

    [Fact]
    public async Task Memory_that_is_in_the_pool_is_not_formatted_again_whatever_force_says()
    {
        Format(16, 16);
        string symbolic = Path.Combine(_directory, "symbolic");
        File.CreateSymbolicLink(symbolic, _paths[0]);
        string missing = _paths[1];
        byte[] before = File.ReadAllBytes(missing);
        await using (RunningMaster master = await StartAsync(_paths[0]))
        {
            foreach (string path in (string[])[_paths[0], symbolic, missing])
                Assert.Equal(ErrorReason.Exists, (await Assert.ThrowsAsync<FamfsException>(() => AddAsync(master, new() { Path = path, Force = true }))).Reason);
        }
        Assert.Equal(before, File.ReadAllBytes(missing));
        AssertSound();
    }

    [Fact]
    public async Task Device_is_zeroed_between_two_operations_of_the_engine_and_is_nobody_elses_meanwhile()
    {
        Format(16, 16);
        string added = MakeFile("added", 16);
        File.WriteAllBytes(added, [.. Enumerable.Repeat((byte)0xA5, 16 << 20)]);
        AddDeviceRequest request = new() { Path = added, Force = true, Zero = true, RequestId = Guid.CreateVersion7().ToByteString() };
        await using (RunningMaster master = await StartAsync())
        {
            using (DaxDevice refused = Places.Open(added))
            {
                // It is only looked at so far: a caller that goes away leaves it as it was.
                await master.RunAsync(new DevicePreparation(request, refused));
            }
            Assert.Null(await master.RunAsync(new DeviceAdmission(request)));
            DaxDevice device = Places.Open(added);
            await master.RunAsync(new DevicePreparation(request, device));
            await MakeAsync(master, "made-meanwhile");
            foreach (bool zero in new[] { true, false })
                Assert.Contains("is in use", (await Assert.ThrowsAsync<FamfsException>(() => AddAsync(master, new() { Path = added, Force = true, Zero = zero }))).Message, StringComparison.Ordinal);
            Assert.All(File.ReadAllBytes(added), b => Assert.Equal(0xA5, b));
            device.Zero(0, device.LengthBytes);
            Assert.False(DeviceQueries.IsInPool(master.State, device));
            Assert.Equal(2U, (await master.RunAsync(new DeviceAddition(request, device))).Device.Index);
            Assert.True(DeviceQueries.IsInPool(master.State, device));
            Assert.Equal(2U, (await master.RunAsync(new DeviceAdmission(request)))!.Device.Index);
            Assert.Equal(2U, (await AddAsync(master, request)).Device.Index);
        }
        _paths.Add(added);
        Assert.All(File.ReadAllBytes(added)[(int)MediaLayout.UnitBytes..], b => Assert.Equal(0, b));
        AssertSound();
    }

    [Theory]
    [InlineData("")]
    [InlineData("a\0b")]
    [InlineData("/nowhere/at/all")]
    public async Task Device_that_cannot_be_opened_is_refused_and_the_master_goes_on(string path)
    {
        Format(16);
        await using RunningMaster master = await StartAsync();
        await Assert.ThrowsAsync<FamfsException>(() => AddAsync(master, new() { Path = path }));
        await MakeAsync(master, "still-there");
    }

    [Fact]
    public async Task Operation_that_breaks_before_it_appended_fails_alone()
    {
        Format(16);
        await using RunningMaster master = await StartAsync();
        await Assert.ThrowsAsync<ArgumentException>(() => master.DecideAsync<int>(_ => throw new ArgumentException("not foreseen")));
        await MakeAsync(master, "still-there");
    }

    [Fact]
    public async Task Bulk_message_larger_than_a_batch_and_a_segment_is_decided_whole()
    {
        const int Files = 14_000;
        Format(32 * 1024);
        await using (RunningMaster master = await StartAsync())
        {
            CreateFilesReply reply = await BulkAsync(master, Files);
            Assert.Equal(Files, reply.Results.Count);
            Assert.All(reply.Results, r => Assert.Equal(CreateFileResult.ResultOneofCase.Reply, r.ResultCase));
            Assert.True(await master.QueryAsync(_ => master.Engine.LogBytes) > MediaLayout.MaxBatchBytes);
        }
        AssertSound();
    }

    [Fact]
    public async Task Bulk_message_that_fills_the_log_says_of_each_file_what_came_of_it()
    {
        Format(16);
        await using RunningMaster master = await StartAsync();
        Assert.Equal(ErrorReason.NoSpace, (await FillAsync(master, "f")).Reason);
        await Assert.ThrowsAsync<FamfsException>(() => MakeManyAsync(master, "d", 20_000));
        CreateFilesReply reply = await BulkAsync(master, 3);
        Assert.All(reply.Results, r => Assert.Equal(ErrorReason.LogFull, r.Error.Reason));
        Assert.Equal(3, reply.Results.Count);
    }

    [Fact]
    public async Task Deepest_path_is_made_with_its_parents_at_once()
    {
        Format(64);
        await using RunningMaster master = await StartAsync();
        for (int i = 0; i < 8; i++)
            await MakeAsync(master, string.Join('/', Enumerable.Repeat(((char)('a' + i)).ToString(), 2048)), parents: true);
        Assert.Equal((8 * 2048) + 1, await master.DirectoryCountAsync());
    }

    [Fact]
    public async Task Full_log_takes_a_device_also_after_many_restarts_and_goes_on_there()
    {
        Format(16);
        await using (RunningMaster master = await StartAsync())
        {
            Assert.Equal(ErrorReason.NoSpace, (await FillAsync(master, "f")).Reason);
            Assert.Equal(ErrorReason.LogFull, (await Assert.ThrowsAsync<FamfsException>(() => MakeManyAsync(master, "d", 20_000))).Reason);
            // Short names fit where long ones do not any more.
            await Assert.ThrowsAsync<FamfsException>(() => MakeManyAsync(master, "e", 20_000, nameBytes: 7));
        }
        for (int i = 0; i < 200; i++)
            await (await StartAsync()).DisposeAsync();
        string added = MakeFile("added", 64);
        await using (RunningMaster master = await StartAsync())
        {
            await AddAsync(master, new() { Path = added });
            await MakeManyAsync(master, "g", 10_000);
        }
        _paths.Add(added);
        await using (RunningMaster again = await StartAsync())
            await MakeAsync(again, "h");
        AssertSound();
    }

    [Fact]
    public async Task Two_hosts_that_take_turns_for_hundreds_of_segments_lose_nothing_and_find_room()
    {
        Format(512);
        using DevicePool watching = TestFormats.All.Open([.. _paths.Select(p => DaxDevice.Open(p))]);
        LogReader early = new(watching, TimeProvider.System);
        while (early.Poll(out _) == PollVerdict.Records)
        {
        }
        await using (RunningMaster first = await StartAsync())
            await first.RunAsync(new MasterSlotGrant(new() { HostId = _other.Host.ToByteString() }));
        const int Turns = 300;
        for (int i = 0; i < Turns; i++)
        {
            await using RunningMaster master = await StartAsync(host: i % 2 == 0 ? _other : _host);
            await MakeManyAsync(master, string.Create(CultureInfo.InvariantCulture, $"t{i:d4}-"), 3);
        }
        await using (RunningMaster last = await StartAsync())
        {
            Assert.Equal((3 * Turns) + 1, await last.DirectoryCountAsync());
            Assert.True(await last.QueryAsync(_ => last.Engine.SegmentCount) > 256);
            await MakeManyAsync(last, "more", 20_000);
        }
        PollVerdict verdict;
        while ((verdict = early.Poll(out _)) == PollVerdict.Records)
        {
        }
        Assert.Equal(PollVerdict.UpToDate, verdict);
        AssertSound();
    }

    private static Task MakeAsync(RunningMaster master, string path, bool parents = false) => master.MakeDirectoryAsync(path, parents);

    private static async Task MakeManyAsync(RunningMaster master, string prefix, int count, int nameBytes = 250)
    {
        for (int done = 0; done < count; done += 1000)
            await Task.WhenAll(Enumerable.Range(done, Math.Min(1000, count - done)).Select(i => MakeAsync(master, prefix + i.ToString(CultureInfo.InvariantCulture).PadLeft(nameBytes - prefix.Length, '0'))));
    }

    private DevicePlaces Places => new([_directory]);

    // As the service does it.
    private async Task<AddDeviceReply> AddAsync(RunningMaster master, AddDeviceRequest request)
    {
        if (await master.RunAsync(new DeviceAdmission(request)) is { } added)
            return added;
        DaxDevice device = Places.Open(request.Path);
        try
        {
            if (request.Zero)
                await master.RunAsync(new DevicePreparation(request, device));
            return await master.RunAsync(new DeviceAddition(request, device));
        }
        finally
        {
            if (!DeviceQueries.IsInPool(master.State, device))
                device.Dispose();
        }
    }

    /// <summary>Makes files of one unit until there is no space; gives the error.</summary>
    private static async Task<FamfsException> FillAsync(RunningMaster master, string prefix)
    {
        for (int i = 0; ; i++)
        {
            try
            {
                await master.CreateAsync(new() { Path = $"{prefix}{i}", SizeBytes = 1 });
            }
            catch (FamfsException error)
            {
                return error;
            }
        }
    }

    private static Task<CreateFilesReply> BulkAsync(RunningMaster master, int files)
    {
        CreateFilesRequest request = new() { OmitMaps = true };
        for (int i = 0; i < files; i++)
            request.Files.Add(new CreateFileRequest { Path = i.ToString("d6", CultureInfo.InvariantCulture) + new string('n', 240), SizeBytes = 1 });
        return master.RunAsync(new FilesCreation(request));
    }

    private void Format(params ReadOnlySpan<int> mebibytes)
    {
        foreach (int size in mebibytes)
            _paths.Add(MakeFile($"device{_paths.Count}", size));
        List<DaxDevice> devices = [.. _paths.Select(p => DaxDevice.Open(p))];
        NativeFormatter.Format(devices, new() { Host = _host.Host, Clock = TimeProvider.System });
        devices.ForEach(d => d.Dispose());
    }

    private string MakeFile(string name, int mebibytes)
    {
        string path = Path.Combine(_directory, name);
        using FileStream file = File.Create(path);
        file.SetLength((long)mebibytes << 20);
        return path;
    }

    private async Task<RunningMaster> StartAsync(string? only = null, HostIdentity? host = null)
    {
        DevicePool pool = TestFormats.All.Open([.. _paths.Where(p => only is null || p == only).Select(p => DaxDevice.Open(p))]);
        return new(await Recovery.RunAsync(pool, host ?? _host, takeOver: true, "", TimeProvider.System, new Random(1), TestContext.Current.CancellationToken));
    }

    private void AssertSound()
    {
        using DevicePool pool = TestFormats.All.Open([.. _paths.Select(p => DaxDevice.Open(p, readOnly: true))]);
        Assert.Empty(FileSystemCheck.Run(pool, TimeProvider.System).Findings);
    }
}
