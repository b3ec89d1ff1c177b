using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log.Native;
using Famfs.Master.Changes;
using Famfs.Master.Queries;
using Famfs.Master.Role;
using Famfs.Master.State;
using Famfs.TestSupport;
using Famfs.TestSupport.Dax;
using Famfs.V1;
using Xunit;

namespace Famfs.Master.Tests.Engine;

/// <summary>What a master knows of files that are removed and not reclaimed: as long as it runs, and after it has read the log.</summary>
public sealed class HeldFileTests
{
    private readonly FakeSharedMemory _memory = new(64L << 20, seed: 1, coherent: true) { AccidentOneIn = 0 };
    private readonly HostIdentity _host = new(Guid.NewGuid(), Guid.NewGuid(), new byte[32], "test");

    [Fact]
    public async Task Removed_files_have_the_paths_and_times_that_they_had_also_for_the_next_master()
    {
        using (DaxDevice device = _memory.Attach("master"))
            NativeFormatter.Format([device], new() { Host = _host.Host, Clock = TimeProvider.System });
        long began = TimeProvider.System.GetUtcNow().ToUnixTimeMilliseconds();
        List<ulong> inodes = [];
        List<(string Path, string Name)> told = [];
        await using (RunningMaster master = await StartAsync())
        {
            foreach (string directory in (string[])["d/e", "gone/deep"])
                await master.MakeDirectoryAsync(directory, parents: true);
            foreach (string path in (string[])["d/e/removed", "d/replaced", "gone/deep/below", "d/other", "stays"])
                inodes.Add((await master.CreateAsync(new() { Path = path, SizeBytes = 5 })).File.Inode);
            await master.RunAsync(new Removal(new() { Path = "d/e/removed", RequestId = Guid.CreateVersion7().ToByteString() }));
            await master.RunAsync(new Renaming(new() { OldPath = "d/other", NewPath = "d/replaced", Replace = true, RequestId = Guid.CreateVersion7().ToByteString() }));
            await master.RunAsync(new Removal(new() { Path = "gone", Recursive = true, RequestId = Guid.CreateVersion7().ToByteString() }));
            // The directories' own names change: a path is where the file would be now.
            await master.RunAsync(new Renaming(new() { OldPath = "d", NewPath = "moved", RequestId = Guid.CreateVersion7().ToByteString() }));
            await AwaitAsync(async () => (await DescribeAsync(master, inodes, true)).Take(3).All(f => f.Name.Length > 0));
            List<HeldFile> files = await DescribeAsync(master, inodes, true);
            told = [.. files.Select(f => (f.Path, f.Name))];
            Assert.Equal([("moved/e/removed", "removed"), ("moved/replaced", "replaced"), ("", "below"), ("", ""), ("", "")], told);
            Assert.All(files, f => Assert.Equal((ulong)MediaLayout.UnitBytes, f.SpaceBytes));
            Assert.All(files.Take(3), f => Assert.InRange(f.RemoveTimeNs / 1_000_000, began - 1, TimeProvider.System.GetUtcNow().ToUnixTimeMilliseconds()));
            // An ordinary user is not told names.
            Assert.All(await DescribeAsync(master, inodes, false), f => Assert.Equal("", f.Path + f.Name));
        }
        await using (RunningMaster next = await StartAsync())
        {
            List<HeldFile> files = await DescribeAsync(next, inodes, true);
            Assert.Equal(told, files.Select(f => (f.Path, f.Name)));
            Assert.All(files.Take(3), f => Assert.InRange(f.RemoveTimeNs / 1_000_000, began - 1, TimeProvider.System.GetUtcNow().ToUnixTimeMilliseconds()));
            // What is free again is forgotten.
            await next.DecideAsync(context =>
            {
                context.Append(RecordType.ZeroingStarted, new ZeroingStarted { Inode = inodes[0] });
                context.Append(RecordType.ExtentsReclaimed, new ExtentsReclaimed { Inode = inodes[0] });
                return true;
            });
            Assert.Equal(("", "", 0UL), (await DescribeAsync(next, inodes, true)).Select(f => (f.Path, f.Name, f.SpaceBytes)).First());
        }
    }

    [Fact]
    public void So_many_names_are_kept_and_the_first_ones_stay()
    {
        RemovedNames names = new();
        for (ulong i = 1; i <= RemovedNames.MaxNames + 1; i++)
        {
            names.RecordBegins();
            names.Add(new(i), InodeNumber.Root, [(byte)'f'], 0);
            names.SetTime((long)i);
        }
        Assert.Equal(1, names.Find(new(1))?.TimeNs);
        Assert.Null(names.Find(new(RemovedNames.MaxNames + 1)));
        names.Forget(new(1));
        names.Add(new(RemovedNames.MaxNames + 1), InodeNumber.Root, [(byte)'f'], 7);
        Assert.Equal(7, names.Find(new(RemovedNames.MaxNames + 1))?.TimeNs);
        // What comes after its record's time has that time, and nothing of another record.
        names.RecordBegins();
        names.Forget(new(2));
        names.SetTime(9);
        names.Add(new(2), InodeNumber.Root, [(byte)'f'], 0);
        names.RecordBegins();
        names.Forget(new(3));
        names.Add(new(3), InodeNumber.Root, [(byte)'f'], 0);
        names.RecordBegins();
        names.SetTime(10);
        Assert.Equal((9, 0), (names.Find(new(2))?.TimeNs, names.Find(new(3))?.TimeNs));
    }

    private async Task<RunningMaster> StartAsync() =>
        new(await Recovery.RunAsync(TestFormats.All.Open([_memory.Attach("master")]), _host, takeOver: false, "", TimeProvider.System, new Random(1), TestContext.Current.CancellationToken));

    private static Task<List<HeldFile>> DescribeAsync(RunningMaster master, IEnumerable<ulong> inodes, bool withNames) => master.QueryAsync(reader =>
    {
        List<HeldFile> files = [.. inodes.Select(i => new HeldFile { Inode = i })];
        HeldFileQueries.Complete(reader, files, withNames);
        return files;
    });

    private static async Task AwaitAsync(Func<Task<bool>> condition)
    {
        long start = TimeProvider.System.GetTimestamp();
        while (!await condition())
        {
            Assert.True(TimeProvider.System.GetElapsedTime(start) < TimeSpan.FromSeconds(60), "it does not happen");
            await Task.Delay(5, TestContext.Current.CancellationToken);
        }
    }
}
