using System.Diagnostics;
using System.Globalization;
using System.IO.MemoryMappedFiles;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Famfs.Benchmarks.Measurement;
using Famfs.Benchmarks.Report;
using Famfs.Benchmarks.Systems;
using Famfs.V1;
using Google.Protobuf;

namespace Famfs.Benchmarks.Rows;

/// <summary>P14 and P15: removing a large subtree, what others notice of it, and how soon space of removed files is free again.</summary>
internal sealed partial class RemovalRows(BenchmarkRun run, Scratch scratch)
{
    private const int Directories = 1000;
    private const int FilesPerDirectory = 1000;
    private const long UnitBytes = 2L << 20;
    private const string Tree = "tree";

    // They take memory, and a descriptor each: fewer than are aimed at.
    private const int FreedFiles = 500;
    private const long FileBytes = 2 * UnitBytes;
    // Zeroing is measured in parts, because the file that it is done to takes memory too.
    private const int Parts = 4;
    private const int KeepSize = 1;
    private const int PunchHole = 2;
    private const int Callers = 16;
    private const int Rounds = 3;

    // Space comes back at a rate that no measurement of the removal is disturbed by, and that takes no memory to speak of.
    private static readonly string[] s_slowZeroing = ["--zeroing-rate", "1"];
    private static readonly TimeSpan s_pause = TimeSpan.FromMilliseconds(1);

    private int _next;

    public async Task MeasureAsync()
    {
        if (run.Options.Wants("P14"))
        {
            await MeasureSubtreeAsync();
            await MeasureSteadyAsync();
        }
        if (run.Options.Wants("P15"))
            await MeasureFreedAsync();
    }

    private async Task MeasureSubtreeAsync()
    {
        RowDefinition acknowledged = new("P14", "1,000,000 files removed as one subtree → acknowledged", "ms", "–", [Goal.OursAtMost(50)], [Goal.OursAtMost(50)]);
        RowDefinition gone = new("P14", "the same → gone on two mounts", "ms", "–", [Goal.OursAtMost(2000)], [Goal.OursAtMost(2000)]);
        RowDefinition others = new("P14", "longest of the lone creates while they are taken apart, beyond alone", "ms", "alone", [Goal.OursAtMost(20)], [Goal.OursAtMost(20)]);
        List<double> goneMs = [], longest = [], alone = [];
        await run.AddAsync(acknowledged, [], async () =>
        {
            await using FamfsCluster cluster = await FamfsCluster.StartAsync(scratch, run.Installation, (Directories * FilesPerDirectory * UnitBytes) + (64L << 30), run.Cancellation, [], s_slowZeroing);
            await cluster.CreateFilesAsync(["probe"], 4096, run.Cancellation);
            string[] mounts = [await cluster.MountAsync("first", "probe", [], run.Cancellation), await cluster.MountAsync("second", "probe", [], run.Cancellation)];
            await MakeTreeAsync(cluster);
            await cluster.Client.BarrierAsync(new BarrierRequest(), cancellationToken: run.Cancellation);
            string deep = Path.Combine(Tree, DirectoryName(Directories - 1), MountContent.FileName(FilesPerDirectory - 1));
            foreach (string mount in mounts)
            {
                if (!File.Exists(Path.Combine(mount, deep)))
                    throw new InvalidOperationException($"{mount} does not show {deep}");
            }
            alone.Add(await LongestCreateAsync(cluster, () => Task.FromResult(false), TimeSpan.FromSeconds(2)));
            long begin = Stopwatch.GetTimestamp();
            MutationReply reply = await cluster.Client.RemoveAsync(Removal(Tree, recursive: true), cancellationToken: run.Cancellation);
            double acknowledgedMs = Stopwatch.GetElapsedTime(begin).TotalMilliseconds;
            Task<double> creating = LongestCreateAsync(cluster, async () => (await cluster.Client.GetStatusAsync(new GetStatusRequest(), cancellationToken: run.Cancellation)).FileCount < Directories, TimeSpan.FromMinutes(5));
            while (mounts.Any(mount => File.Exists(Path.Combine(mount, deep)) || Directory.Exists(Path.Combine(mount, Tree))))
                await Task.Delay(s_pause, run.Cancellation);
            goneMs.Add(Stopwatch.GetElapsedTime(begin).TotalMilliseconds);
            await cluster.Client.BarrierAsync(new BarrierRequest { Position = reply.Position }, cancellationToken: run.Cancellation);
            longest.Add(await creating);
            return new Row(acknowledged) { Ours = acknowledgedMs };
        });
        await run.AddAsync(gone, [], () => Of(gone, goneMs));
        await run.AddAsync(others, [], () => longest.Count == 0
            ? throw new NotAvailableException("the row before it failed")
            : Task.FromResult(new Row(others) { Baseline = alone[0], Ours = longest[0] - alone[0], Ratio = longest[0] / alone[0] }));

        static Task<Row> Of(RowDefinition definition, List<double> values) => values.Count > 0
            ? Task.FromResult(new Row(definition) { Ours = values[0] })
            : throw new NotAvailableException("the row before it failed");
    }

    private async Task MakeTreeAsync(FamfsCluster cluster)
    {
        await cluster.Client.MakeDirectoryAsync(new MakeDirectoryRequest { Path = Tree }, cancellationToken: run.Cancellation);
        for (int d = 0; d < Directories; d++)
            await cluster.Client.MakeDirectoryAsync(new MakeDirectoryRequest { Path = $"{Tree}/{DirectoryName(d)}" }, cancellationToken: run.Cancellation);
        await cluster.CreateFilesAsync(Enumerable.Range(0, Directories * FilesPerDirectory).Select(i => $"{Tree}/{DirectoryName(i / FilesPerDirectory)}/{MountContent.FileName(i % FilesPerDirectory)}"), 4096, run.Cancellation);
    }

    // Milliseconds of the longest of creates that come one after the other, until there is nothing left to be done.
    private async Task<double> LongestCreateAsync(FamfsCluster cluster, Func<Task<bool>> isDone, TimeSpan atMost)
    {
        double longest = 0;
        long begin = Stopwatch.GetTimestamp();
        for (int i = 0; Stopwatch.GetElapsedTime(begin) < atMost; i++)
        {
            long before = Stopwatch.GetTimestamp();
            await cluster.Client.CreateFileAsync(FamfsCluster.Create($"lone-{_next++}", 4096), cancellationToken: run.Cancellation);
            longest = Math.Max(longest, Stopwatch.GetElapsedTime(before).TotalMilliseconds);
            if (i % 64 == 63 && await isDone())
                break;
            await Task.Delay(s_pause, run.Cancellation);
        }
        return longest;
    }

    private async Task MeasureSteadyAsync()
    {
        RowDefinition steady = new("P14", $"creates and removals in turn, {Callers} callers", "ops/s", "create alone", [Goal.RatioAtLeast(0.7)], [Goal.RatioAtLeast(0.7)]);
        await using Side<FamfsCluster> side = await run.StartClusterAsync(scratch, 64L << 40, [], s_slowZeroing);
        await run.AddAsync(steady, [side], async () => side.System is not { } cluster ? new Row(steady) : Row.OfRates(steady, await run.PairAsync(
            _ => RateAsync(cluster, removes: false),
            _ => RateAsync(cluster, removes: true))));
    }

    private async Task<Sample> RateAsync(FamfsCluster cluster, bool removes)
    {
        long done = 0;
        long begin = Stopwatch.GetTimestamp();
        await Task.WhenAll(Enumerable.Range(0, Callers).Select(async _ =>
        {
            while (Stopwatch.GetElapsedTime(begin).TotalSeconds < run.Options.RoundSeconds)
            {
                string name = $"steady-{Interlocked.Increment(ref _next)}";
                await cluster.Client.CreateFileAsync(FamfsCluster.Create(name, 4096), cancellationToken: run.Cancellation);
                if (removes)
                    await cluster.Client.RemoveAsync(Removal(name), cancellationToken: run.Cancellation);
                Interlocked.Add(ref done, removes ? 2 : 1);
            }
        }));
        return new(done / Stopwatch.GetElapsedTime(begin).TotalSeconds);
    }

    private async Task MeasureFreedAsync()
    {
        string what = string.Create(CultureInfo.InvariantCulture, $"{FreedFiles:N0} removed files of {FileBytes >> 20} MiB");
        RowDefinition beyond = new("P15", $"{what}: last release → all free, beyond zeroing ÷ 0.7", "ms", "–", [Goal.OursAtMost(200)], [Goal.OursAtMost(200)]);
        RowDefinition whole = new("P15", "the same in all", "ms", "zeroing", [], []);
        RowDefinition stores = new("P15", "zeroing as many bytes through a new mapping: memset", "ms", "a mapping that is warm", [], []);
        List<double> zeroings = [], frees = [], memsets = [], warm = [];
        await run.AddAsync(beyond, [], async () =>
        {
            await using FamfsCluster cluster = await FamfsCluster.StartAsync(scratch, run.Installation, (FreedFiles * FileBytes) + (2L << 30), run.Cancellation);
            await cluster.CreateFilesAsync(["probe"], 4096, run.Cancellation);
            string mount = await cluster.MountAsync("holder", "probe", [], run.Cancellation);
            for (int round = 0; round <= Rounds; round++)
            {
                string folder = $"round-{round}";
                await cluster.Client.MakeDirectoryAsync(new MakeDirectoryRequest { Path = folder }, cancellationToken: run.Cancellation);
                await cluster.CreateFilesAsync(Enumerable.Range(0, FreedFiles).Select(i => $"{folder}/{MountContent.FileName(i)}"), (ulong)FileBytes, run.Cancellation);
                await cluster.Client.BarrierAsync(new BarrierRequest(), cancellationToken: run.Cancellation);
                Fill(Path.Combine(mount, folder));
                (double memset, double again, double punched) = MeasureZeroing(cluster.Device);
                double free = await FreeAsync(cluster, mount, folder);
                if (round == 0)
                    continue; // memory was given to the device only then
                zeroings.Add(Math.Min(memset, punched));
                memsets.Add(memset);
                warm.Add(again);
                frees.Add(free);
            }
            return new Row(beyond) { Ours = Statistics.Median(zeroings.Zip(frees, (z, f) => f - (z / 0.7))) };
        });
        await run.AddAsync(whole, [], () => frees.Count == 0
            ? throw new NotAvailableException("the row before it failed")
            : Task.FromResult(new Row(whole) { Baseline = Statistics.Median(zeroings), Ours = Statistics.Median(frees), Ratio = Statistics.Median(zeroings.Zip(frees, (z, f) => f / z)) }));
        await run.AddAsync(stores, [], () => memsets.Count == 0
            ? throw new NotAvailableException("the row before it failed")
            : Task.FromResult(new Row(stores) { Baseline = Statistics.Median(warm), Ours = Statistics.Median(memsets), Ratio = Statistics.Median(memsets) / Statistics.Median(warm) }));
    }

    private static void Fill(string folder)
    {
        byte[] content = new byte[FileBytes];
        content.AsSpan().Fill(0xA5);
        foreach (string file in Directory.EnumerateFiles(folder))
        {
            using FileStream stream = new(file, FileMode.Open, FileAccess.Write, FileShare.ReadWrite, bufferSize: 0);
            stream.Write(content);
        }
    }

    // Milliseconds for as many bytes of the same kind of memory, by one thread: by memset through a mapping that was just made, as a
    // master's is of what others wrote; by memset once more; and by punching holes, as each file is freed.
    private static (double Memset, double Again, double Punched) MeasureZeroing(string device)
    {
        string path = device + ".zeroing";
        using FileStream file = new(path, FileMode.Create, FileAccess.ReadWrite, FileShare.None, 1, FileOptions.DeleteOnClose);
        file.SetLength(FreedFiles * FileBytes / Parts);
        double memset = 0, again = 0, punched = 0;
        SetAll(file, 0xA5);
        for (int part = 0; part < Parts; part++)
        {
            (double first, double second) = SetAll(file, 0);
            memset += first;
            again += second;
            using MemoryMappedFile mapped = Map(file);
            using MemoryMappedViewAccessor view = mapped.CreateViewAccessor();
            Set(view, 0xA5);
            long begin = Stopwatch.GetTimestamp();
            for (long at = 0; at < file.Length; at += FileBytes)
            {
                if (fallocate(file.SafeFileHandle, PunchHole | KeepSize, at, FileBytes) != 0)
                    throw new IOException($"{path}: errno {Marshal.GetLastPInvokeError()}");
            }
            punched += Stopwatch.GetElapsedTime(begin).TotalMilliseconds;
            Set(view, 0xA5);
        }
        return (memset, again, punched);
    }

    private static (double First, double Second) SetAll(FileStream file, byte value)
    {
        using MemoryMappedFile mapped = Map(file);
        using MemoryMappedViewAccessor view = mapped.CreateViewAccessor();
        long begin = Stopwatch.GetTimestamp();
        Set(view, value);
        long between = Stopwatch.GetTimestamp();
        Set(view, value);
        return (Stopwatch.GetElapsedTime(begin, between).TotalMilliseconds, Stopwatch.GetElapsedTime(between).TotalMilliseconds);
    }

    private static MemoryMappedFile Map(FileStream file) => MemoryMappedFile.CreateFromFile(file, null, 0, MemoryMappedFileAccess.ReadWrite, HandleInheritability.None, leaveOpen: true);

    private static void Set(MemoryMappedViewAccessor view, byte value)
    {
        nint address = view.SafeMemoryMappedViewHandle.DangerousGetHandle();
        MemoryMarshal.CreateSpan(ref Unsafe.AddByteOffset(ref Unsafe.NullRef<byte>(), address), (int)view.Capacity).Fill(value);
    }

    // Milliseconds from when a program closes the last of the files, which are removed before, until their space is free.
    private async Task<double> FreeAsync(FamfsCluster cluster, string mount, string folder)
    {
        List<FileStream> open = [.. Directory.EnumerateFiles(Path.Combine(mount, folder)).Select(File.OpenRead)];
        ulong before = await FreeBytesAsync(cluster);
        MutationReply reply = await cluster.Client.RemoveAsync(Removal(folder, recursive: true), cancellationToken: run.Cancellation);
        await cluster.Client.BarrierAsync(new BarrierRequest { Position = reply.Position }, cancellationToken: run.Cancellation);
        if (await FreeBytesAsync(cluster) != before)
            throw new InvalidOperationException("space of files that are open was given back");
        open.ForEach(f => f.Dispose());
        long begin = Stopwatch.GetTimestamp();
        while (await FreeBytesAsync(cluster) < before + (ulong)(FreedFiles * FileBytes))
            await Task.Delay(s_pause, run.Cancellation);
        return Stopwatch.GetElapsedTime(begin).TotalMilliseconds;
    }

    private async Task<ulong> FreeBytesAsync(FamfsCluster cluster) => (await cluster.Client.GetStatusAsync(new GetStatusRequest(), cancellationToken: run.Cancellation)).FreeBytes;

    private static RemoveRequest Removal(string path, bool recursive = false) => new()
    {
        RequestId = ByteString.CopyFrom(Guid.CreateVersion7().ToByteArray(bigEndian: true)),
        Path = path,
        Recursive = recursive,
    };

    [LibraryImport("libc", SetLastError = true)]
    private static partial int fallocate(SafeHandle file, int mode, long offset, long length);

    private static string DirectoryName(int number) => string.Create(CultureInfo.InvariantCulture, $"directory-{number:D4}");
}
