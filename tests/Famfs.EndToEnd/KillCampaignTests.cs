using System.Buffers.Binary;
using System.Collections.Concurrent;
using System.Globalization;
using Famfs.Client;
using Famfs.V1;
using Xunit;

namespace Famfs.EndToEnd;

/// <summary>
/// Masters, daemons and both are killed at random points under load, again and again, on one file system. After every
/// kill the victims are started anew, and what was acknowledged must be there. <c>FAMFS_KILLS</c> says how many kills,
/// <c>FAMFS_KILL_SEED</c> repeats the choice of victims, <c>FAMFS_KILL_REPORT</c> names a file for the figures.
/// </summary>
public sealed class KillCampaignTests : IDisposable
{
    private const int KillsInEveryRun = 8;
    private const int KillsBetweenChecks = 10;
    private const int Creators = 3;
    private const int BulkFiles = 64;
    private const int MostFilesBetweenKills = 300;
    private const int FileBytes = 4096;

    private readonly ConcurrentQueue<FileInfoOf> _acknowledged = new();

    // Files that may still be asked for: twice what is waited for before a kill, so that the kill meets the load.
    private readonly SemaphoreSlim _allowed = new(0);
    private volatile FileInfoOf? _last;
    private long _count;

    public void Dispose() => _allowed.Dispose();

    [Fact]
    public async Task Whoever_is_killed_nothing_acknowledged_is_lost_and_no_two_files_share_memory()
    {
        int kills = Number("FAMFS_KILLS") ?? KillsInEveryRun;
        int seed = Number("FAMFS_KILL_SEED") ?? Random.Shared.Next();
        using Cluster cluster = Cluster.Create(deviceBytes: 1L << 40);
        (ServerProcess master, string address) = cluster.StartMaster("a");
        Dictionary<string, (ServerProcess Process, string Path)> mounts = new() { ["a"] = cluster.Mount("a", address), ["b"] = cluster.Mount("b", address) };
        Random random = new(seed);
        Dictionary<string, int> victims = [];
        List<FileInfoOf> written = [];
        using CancellationTokenSource done = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        Task[] load = [.. Enumerable.Range(0, Creators).Select(c => CreateOneByOneAsync(address, c, done.Token)), CreateInBulkAsync(address, done.Token)];
        try
        {
            for (int kill = 1; kill <= kills; kill++)
            {
                string[] killed = random.Next(4) switch { 0 => ["a"], 1 => ["b"], 2 => ["master"], _ => ["master", random.Next(2) == 0 ? "a" : "b"] };
                string kind = string.Join("+", killed.Select(k => k == "master" ? k : "daemon"));
                victims[kind] = victims.GetValueOrDefault(kind) + 1;
                // A random point of the load, counted in what it has done.
                if (_allowed.CurrentCount is var left and < 2 * MostFilesBetweenKills)
                    _allowed.Release((2 * MostFilesBetweenKills) - left);
                long until = Volatile.Read(ref _count) + random.Next(MostFilesBetweenKills);
                Cluster.Await($"{until} files", () => Volatile.Read(ref _count) >= until || load.Any(t => t.IsFaulted));
                if (load.FirstOrDefault(t => t.IsFaulted) is { } failed)
                    await failed;
                foreach (string victim in killed)
                    (victim == "master" ? master : mounts[victim].Process).Signal("KILL");
                foreach (string victim in killed)
                    Assert.NotEqual(0, (victim == "master" ? master : mounts[victim].Process).AwaitExit());
                if (killed.Contains("master"))
                    master = cluster.StartMasterAt("a", address);
                foreach (string victim in killed.Where(k => k != "master"))
                {
                    cluster.Famfs("umount", mounts[victim].Path);
                    mounts[victim] = cluster.Mount(victim, address);
                }
                // The other mount was not touched, and follows.
                FileInfoOf? last = _last;
                foreach ((_, string path) in mounts.Values)
                    Cluster.Await($"{last?.Path} at {path} after kill {kill} ({kind}, seed {seed})", () => last is null || File.Exists(Path.Combine(path, last.Path)));
                if (kill % KillsBetweenChecks == 0 || kill == kills)
                    await CheckAsync(address, written, mounts["a"].Path, mounts["b"].Path, seed);
            }
            await done.CancelAsync();
            await Task.WhenAll(load);
            await CheckAsync(address, written, mounts["b"].Path, mounts["a"].Path, seed);
        }
        finally
        {
            await done.CancelAsync();
        }
        master.Signal("TERM");
        Assert.Equal(0, master.AwaitExit());
        Assert.Empty(cluster.Check().Findings);
        if (Environment.GetEnvironmentVariable("FAMFS_KILL_REPORT") is { Length: > 0 } report)
        {
            await File.WriteAllTextAsync(report, string.Create(CultureInfo.InvariantCulture,
                $"{kills} kills (seed {seed}): {string.Join(", ", victims.OrderBy(v => v.Key, StringComparer.Ordinal).Select(v => $"{v.Key} {v.Value}"))}; {written.Count} acknowledged files, 0 lost, 0 with shared memory\n"), TestContext.Current.CancellationToken);
        }
    }

    /// <summary>Files that are new get content through one mount; then the content of all is read through the other. The master
    /// still names each as it was acknowledged.</summary>
    private async Task CheckAsync(string address, List<FileInfoOf> written, string writer, string reader, int seed)
    {
        while (_acknowledged.TryDequeue(out FileInfoOf? file))
        {
            string path = Path.Combine(writer, file.Path);
            Cluster.Await($"{file.Path} at the writing mount (seed {seed})", () => File.Exists(path));
            using FileStream stream = new(path, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite, bufferSize: 0);
            stream.Write(file.Content());
            written.Add(file);
        }
        byte[] content = new byte[FileBytes];
        foreach (FileInfoOf file in written)
        {
            string path = Path.Combine(reader, file.Path);
            Cluster.Await($"{file.Path} at the reading mount (seed {seed})", () => File.Exists(path));
            using FileStream stream = new(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite, bufferSize: 0);
            stream.ReadExactly(content);
            Assert.True(content.AsSpan().SequenceEqual(file.Content()), $"{file.Path} has other bytes (seed {seed})");
        }
        using FamfsClient client = Cluster.Connect(address);
        Dictionary<string, Famfs.V1.FileInfo> listed = [];
        await foreach (Famfs.V1.FileInfo entry in client.ListDirectoryAsync(new() { WithMaps = true }, cancel: TestContext.Current.CancellationToken))
            listed.Add(entry.Path.TrimStart('/'), entry);
        HashSet<(uint, ulong)> units = [];
        foreach (FileInfoOf file in written)
        {
            Assert.True(listed.TryGetValue(file.Path, out Famfs.V1.FileInfo? found), $"{file.Path} is lost (seed {seed})");
            Assert.Equal(file.Inode, found.Inode);
        }
        foreach (Extent extent in listed.Values.SelectMany(f => f.Map?.Extents ?? []))
            Assert.True(units.Add((extent.Device, extent.OffsetBytes)), $"two files begin at {extent.OffsetBytes} of device {extent.Device} (seed {seed})");
    }

    private async Task CreateOneByOneAsync(string address, int creator, CancellationToken cancel)
    {
        using FamfsClient client = Cluster.Connect(address);
        for (int i = 0; !cancel.IsCancellationRequested; i++)
        {
            try
            {
                await _allowed.WaitAsync(cancel);
                string path = $"c{creator}-{i}";
                CreateFileReply reply = await client.CreateFileAsync(new() { Path = path, SizeBytes = FileBytes }, cancel: cancel);
                Acknowledged(path, reply.File.Inode);
            }
            catch (OperationCanceledException) when (cancel.IsCancellationRequested)
            {
                return;
            }
        }
    }

    private async Task CreateInBulkAsync(string address, CancellationToken cancel)
    {
        using FamfsClient client = Cluster.Connect(address);
        for (int round = 0; !cancel.IsCancellationRequested; round++)
        {
            try
            {
                for (int i = 0; i < BulkFiles; i++)
                    await _allowed.WaitAsync(cancel);
                CreateFileRequest[] files = [.. Enumerable.Range(0, BulkFiles).Select(i => new CreateFileRequest { Path = $"bulk{round}-{i}", SizeBytes = FileBytes })];
                await foreach (CreateFileResult result in client.CreateFilesAsync(files, cancel: cancel))
                    Acknowledged(result.Reply.File.Path.TrimStart('/'), result.Reply.File.Inode);
            }
            catch (OperationCanceledException) when (cancel.IsCancellationRequested)
            {
                return;
            }
        }
    }

    private void Acknowledged(string path, ulong inode)
    {
        FileInfoOf file = new(path, inode);
        _acknowledged.Enqueue(file);
        _last = file;
        Interlocked.Increment(ref _count);
    }

    private static int? Number(string variable) =>
        Environment.GetEnvironmentVariable(variable) is { Length: > 0 } text ? int.Parse(text, CultureInfo.InvariantCulture) : null;

    private sealed record FileInfoOf(string Path, ulong Inode)
    {
        /// <summary>Bytes that no other file has: the inode, all over.</summary>
        public byte[] Content()
        {
            byte[] content = new byte[FileBytes];
            for (int at = 0; at < FileBytes; at += sizeof(ulong))
                BinaryPrimitives.WriteUInt64LittleEndian(content.AsSpan(at), Inode);
            return content;
        }
    }
}
