using System.Buffers.Binary;
using System.Diagnostics;
using System.Globalization;
using System.Runtime.Versioning;
using Famfs.Client;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.V1;
using Xunit;

namespace Famfs.EndToEnd;

/// <summary>
/// A mount that a keeper keeps while its daemon is killed and replaced under programs that notice nothing. <c>FAMFS_SURVIVE_KILLS</c>
/// and <c>FAMFS_SURVIVE_UPGRADES</c> say how often, <c>FAMFS_SURVIVE_REPORT</c> names a file for the figures.
/// </summary>
[SupportedOSPlatform("linux")]
public sealed class SurviveTests
{
    private const int DataBytes = 4 << 20;
    private const int BlockBytes = 64 << 10;

    [Fact]
    public async Task Programs_notice_nothing_of_a_daemon_that_is_killed_or_replaced()
    {
        int kills = Number("FAMFS_SURVIVE_KILLS") ?? 3;
        int upgrades = Number("FAMFS_SURVIVE_UPGRADES") ?? 2;
        using KeptHost host = KeptHost.Begin(deviceBytes: 1L << 30);
        (Cluster cluster, string path, ServerProcess daemon) = (host.Cluster, host.Path, host.Daemon);
        await PrepareAsync(cluster, path, host.Address);
        Guid mount = LineOf(cluster).Mount;

        string scratch = Directory.CreateTempSubdirectory("famfs-survive-").FullName;
        (string counts, string stop) = (Path.Combine(scratch, "counts"), Path.Combine(scratch, "stop"));
        using ServerProcess load = new("python3", ["-B", Path.Combine(AppContext.BaseDirectory, "Python", "survive.py"), path, counts, stop, .. FindFio()]);
        try
        {
            AwaitProgress(load, counts, "at first", daemon);
            List<double> killed = [], replaced = [];
            for (int round = 0; round < kills + upgrades; round++)
            {
                // Spread among each other, the same in each run.
                bool upgrade = (long)(round + 1) * upgrades / (kills + upgrades) > (long)round * upgrades / (kills + upgrades);
                ServerProcess former = daemon;
                long start = Stopwatch.GetTimestamp();
                if (!upgrade)
                    former.Signal("KILL");
                daemon = host.TakeOver();
                (upgrade ? replaced : killed).Add(Stopwatch.GetElapsedTime(start).TotalMilliseconds);
                int exit = former.AwaitExit();
                Assert.True((exit == 0) == upgrade, $"round {round}: the former daemon exited with {exit}: {former.Output}");
                AwaitProgress(load, counts, $"after round {round} ({(upgrade ? "upgrade" : "kill")})", daemon);
            }
            File.WriteAllText(stop, "");
            Assert.True(load.AwaitExit() == 0, load.Output);
            Assert.Equal("", load.Output);
            MountLine line = LineOf(cluster);
            Assert.Equal((mount, MountState.Live), (line.Mount, line.State));
            Report(kills, upgrades, killed, replaced, ReadCounts(counts));

            // An orderly end is one: nothing is left, and nothing is kept.
            daemon.Signal("TERM");
            Assert.Equal(0, daemon.AwaitExit());
            Assert.DoesNotContain(File.ReadLines("/proc/self/mounts"), m => m.Split(' ')[1] == path);
            Assert.Equal("", cluster.ListKept("a"));
            Assert.Equal(MountState.Ended, LineOf(cluster).State);
        }
        finally
        {
            Directory.Delete(scratch, recursive: true);
        }
        host.Keeper!.Signal("TERM");
        Assert.Equal(0, host.Keeper.AwaitExit());
    }

    [Fact]
    public void Without_a_keeper_a_mount_dies_with_its_daemon_and_a_second_daemon_is_refused()
    {
        using KeptHost host = KeptHost.Begin(kept: false);
        ServerProcess second = host.Launch();
        Assert.Equal(1, second.AwaitExit());
        Assert.Contains("a famfs is mounted there", second.Output, StringComparison.Ordinal);
        host.Kill();
        Assert.Throws<IOException>(() => Directory.GetFiles(host.Path));
    }

    [Fact]
    public void A_keeper_that_dies_ends_nothing_and_the_next_one_is_given_the_mount()
    {
        // It comes after the daemon.
        using KeptHost host = KeptHost.Begin(kept: false);
        (Cluster cluster, string path, ServerProcess daemon) = (host.Cluster, host.Path, host.Daemon);
        cluster.Famfs("creat", "--size", "4096", Path.Combine(path, "f"));
        using FileStream open = File.OpenRead(Path.Combine(path, "f"));
        ServerProcess keeper = cluster.StartKeeper("a");
        daemon.Await("is kept");
        keeper.Signal("KILL");
        keeper.AwaitExit();
        daemon.Await("is not kept, it ends with this daemon: the keeper has ended");
        Assert.Equal(4096, open.Read(new byte[8192]));
        keeper = cluster.StartKeeper("a");
        Cluster.Await("the mount at the next keeper", () => cluster.ListKept("a").Contains(path, StringComparison.Ordinal));
        host.Kill();
        host.TakeOver();
        Assert.Equal("f", Path.GetFileName(Assert.Single(Directory.GetFiles(path))));

        // With both gone the mount ends, and says so.
        keeper.Signal("KILL");
        keeper.AwaitExit();
        host.Kill();
        open.Position = 0;
        Assert.Throws<IOException>(() => open.Read(new byte[8192]));
    }

    [Fact]
    public void What_is_kept_of_a_mount_that_was_taken_away_is_dropped_and_mounted_anew()
    {
        using KeptHost host = KeptHost.Begin();
        (Cluster cluster, string path) = (host.Cluster, host.Path);
        Guid before = LineOf(cluster).Mount;
        host.Kill();
        using (Process umount = Process.Start("umount", ["-i", "-c", path]))
            umount.WaitForExit();
        Assert.Contains(path, cluster.ListKept("a"), StringComparison.Ordinal);
        ServerProcess daemon = host.Launch();
        daemon.Await("is over (it is not mounted there any more): mounting again");
        daemon.Await("registered in the host table");
        Assert.Contains(LinesOf(cluster), l => l.State == MountState.Live && l.Mount != before);
    }

    [Fact]
    public async Task A_file_that_was_removed_while_no_daemon_ran_is_held_as_long_as_it_is_open()
    {
        using KeptHost host = KeptHost.Begin();
        (Cluster cluster, string path) = (host.Cluster, host.Path);
        cluster.Famfs("creat", "--size", "4096", Path.Combine(path, "held"));
        cluster.Famfs("creat", "--size", "4096", Path.Combine(path, "seen"));
        using FileStream open = new(Path.Combine(path, "held"), FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite | FileShare.Delete, bufferSize: 0);
        open.Write("mine"u8);
        Assert.True(File.Exists(Path.Combine(path, "seen")));
        host.Kill();
        using (FamfsClient client = Cluster.Connect(host.Address))
        {
            foreach (string name in (string[])["held", "seen"])
                await client.RemoveAsync(new() { At = new() { Directory = 1, Name = name }, Kind = RemoveKind.File }, cancel: TestContext.Current.CancellationToken);
        }
        host.TakeOver();
        // The kernel knew both names, and is told.
        Cluster.Await("the end of the names", () => Directory.GetFiles(path).Length == 0 && !File.Exists(Path.Combine(path, "seen")) && !File.Exists(Path.Combine(path, "held")));
        Cluster.Await("a line that says what is held", () => LineOf(cluster) is { Exceptions.Length: 1 } line && line.ReleasedWatermark == line.ReplayedSequence);
        byte[] content = new byte[4];
        open.Position = 0;
        open.ReadExactly(content);
        Assert.Equal("mine"u8.ToArray(), content);
        open.Dispose();
        Cluster.Await("a line that holds nothing", () => LineOf(cluster).Exceptions.Length == 0);
    }

    private static async Task PrepareAsync(Cluster cluster, string path, string address)
    {
        foreach (string name in (string[])["data", "log", "fio"])
            cluster.Famfs("creat", "--size", DataBytes.ToString(CultureInfo.InvariantCulture), Path.Combine(path, name));
        using (FileStream data = new(Path.Combine(path, "data"), FileMode.Open, FileAccess.Write, FileShare.ReadWrite))
        {
            byte[] block = new byte[BlockBytes];
            for (ulong i = 0; i < DataBytes / BlockBytes; i++)
            {
                for (int at = 0; at < block.Length; at += sizeof(ulong))
                    BinaryPrimitives.WriteUInt64LittleEndian(block.AsSpan(at), unchecked(i * 0x9E3779B97F4A7C15));
                data.Write(block);
            }
        }
        using FamfsClient client = Cluster.Connect(address);
        await MakeAsync(client);
        Cluster.Await("the last name", () => Directory.Exists(Path.Combine(path, "many", "n1999")) && File.Exists(Path.Combine(path, "tree", "d4", "f4")));
    }

    private static async Task MakeAsync(FamfsClient client)
    {
        foreach (string directory in (string[])["many", .. Enumerable.Range(0, 2000).Select(i => $"many/n{i}"), "tree", "tree/d0", "tree/d1", "tree/d2", "tree/d3", "tree/d4"])
            await client.MakeDirectoryAsync(new() { Path = directory });
        CreateFileRequest[] files = [.. Enumerable.Range(0, 25).Select(i => new CreateFileRequest { Path = $"tree/d{i / 5}/f{i % 5}", SizeBytes = 4096 })];
        await foreach (CreateFileResult result in client.CreateFilesAsync(files))
            Assert.Null(result.Error);
    }

    private static void AwaitProgress(ServerProcess load, string counts, string when, ServerProcess daemon)
    {
        ulong[] before = ReadCounts(counts);
        long start = Stopwatch.GetTimestamp();
        while (true)
        {
            ulong[] now = ReadCounts(counts);
            if (now.Length > 0 && now.Select((count, i) => count >= (i < before.Length ? before[i] : 0) + 2).All(enough => enough))
                return;
            // A program that has failed, or one that hangs.
            bool failed = load.HasExited || load.Output.Length > 0 || Stopwatch.GetElapsedTime(start) > Cluster.Patience;
            Assert.False(failed, $"{when}: {load.Output} from {string.Join(' ', before)} to {string.Join(' ', now)}; {daemon.Output}");
            Thread.Sleep(Cluster.Pause);
        }
    }

    private static ulong[] ReadCounts(string path) =>
        File.Exists(path) ? [.. File.ReadAllBytes(path).Chunk(sizeof(ulong)).Where(c => c.Length == sizeof(ulong)).Select(c => BinaryPrimitives.ReadUInt64LittleEndian(c))] : [];

    private static string[] FindFio() =>
        [.. (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':').Select(d => Path.Combine(d, "fio")).Where(File.Exists).Take(1)];

    private static MountLine LineOf(Cluster cluster) => Assert.Single(LinesOf(cluster));

    private static List<MountLine> LinesOf(Cluster cluster)
    {
        using DevicePool pool = cluster.OpenPool();
        return [.. new MountLineTable(pool).ReadInUse().Select(e => e.Line!)];
    }

    private static void Report(int kills, int upgrades, List<double> killed, List<double> replaced, ulong[] counts)
    {
        if (Environment.GetEnvironmentVariable("FAMFS_SURVIVE_REPORT") is not { Length: > 0 } report)
            return;
        static string Of(List<double> times) => times.Count == 0 ? "none" : string.Create(CultureInfo.InvariantCulture, $"median {times.Order().ElementAt(times.Count / 2):0} ms, longest {times.Max():0} ms");
        File.WriteAllText(report, string.Create(CultureInfo.InvariantCulture,
            $"{kills} kills ({Of(killed)} until the next daemon serves), {upgrades} upgrades ({Of(replaced)}); rounds of reader, mapped, writer, lister, finder, opener, changers, scanner{(FindFio().Length == 0 ? " (fio is not installed)" : ", fio verify")}: {string.Join(", ", counts)}; 0 failed calls, 0 wrong bytes\n"));
    }

    private static int? Number(string variable) => int.TryParse(Environment.GetEnvironmentVariable(variable), CultureInfo.InvariantCulture, out int number) ? number : null;
}
