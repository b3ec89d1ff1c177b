using System.Collections.Concurrent;
using System.Globalization;
using System.Text.Json;
using Famfs.Client;
using Famfs.Core;
using Famfs.Core.Check;
using Famfs.Core.Interop;
using Famfs.Core.Log;
using Famfs.V1;
using Xunit;

namespace Famfs.EndToEnd;

/// <summary>The log is compacted under mounts that serve, and everybody is killed meanwhile (docs/decisions/0068).</summary>
public sealed class CompactionTests
{
    private const long MiB = 1L << 20;

    // Directories of the ballast: a compaction of so many takes long enough to be killed.
    private const int Ballast = 20_000;
    private const int Kills = 8;

    [Fact]
    public async Task Mounts_follow_a_log_that_is_compacted_and_later_ones_begin_with_what_it_came_to()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 128 * MiB);
        (ServerProcess master, string address) = cluster.StartMaster("a");
        (string a, string b) = (cluster.Mount("a", address).Path, cluster.Mount("b", address).Path);
        using FamfsClient client = Cluster.Connect(address);
        cluster.Famfs("creat", "--size", "4096", $"{a}/open");
        using (FileStream file = new($"{a}/open", FileMode.Open, FileAccess.ReadWrite))
            file.Write([.. Enumerable.Repeat((byte)7, 4096)]);
        cluster.Famfs("creat", "--size", "4096", $"{a}/removed");
        await ForAllAsync(2000, i => client.MakeDirectoryAsync(new() { Path = $"d{i}" }));
        await ForAllAsync(1900, i => client.RemoveAsync(new() { Path = $"d{i}" }));
        List<string> names = [.. Enumerable.Range(1900, 100).Select(i => $"d{i}"), "open"];
        using (FileStream open = File.OpenRead($"{b}/open"))
        using (FileStream removed = File.OpenRead($"{b}/removed"))
        {
            cluster.Famfs("rm", $"{a}/removed");
            for (ulong generation = 2; generation < 5; generation++)
            {
                using JsonDocument reply = JsonDocument.Parse(cluster.Famfs("log", "compact", "--json", a));
                Dictionary<string, ulong> of = reply.RootElement.EnumerateObject().ToDictionary(p => p.Name, p => p.Value.GetUInt64());
                Assert.Equal(generation, of["generation"]);
                if (generation == 2)
                {
                    Assert.InRange(of["records_before"], 3900u, 4100u);
                    // Ids of requests are remembered for 15 minutes, so that those that came before are all in the snapshot, many in a record.
                    Assert.InRange(of["records_after"], 110u, 200u);
                    Assert.NotEqual(0u, of["log_bytes_after"]);
                }
                // Both follow, and change it through their mounts.
                Directory.CreateDirectory($"{a}/a{generation}");
                Directory.CreateDirectory($"{b}/b{generation}");
                names.AddRange([$"a{generation}", $"b{generation}"]);
                await client.BarrierAsync(new());
                Assert.Equal(names.Order(StringComparer.Ordinal), Names(a));
                Assert.Equal(names.Order(StringComparer.Ordinal), Names(b));
                Assert.Equal(7, open.ReadByte());
            }
            Cluster.Await("the open file is named", () => cluster.Famfs("df", a).Contains("has 1 file open", StringComparison.Ordinal));
        }
        // Segments that no mount reads any more are given back, as the file is.
        Cluster.Await("all is given back", () => client.GetStatusAsync().GetAwaiter().GetResult().PendingReclaimBytes == 0);
        string c = cluster.Mount("c", address).Path;
        Assert.Equal(names.Order(StringComparer.Ordinal), Names(c));
        Assert.Equal(7, File.ReadAllBytes($"{c}/open")[4095]);

        // What reads the memory itself.
        string dump = cluster.Famfs("log", "dump", c);
        Assert.StartsWith("snapshot 0 term ", dump, StringComparison.Ordinal);
        Assert.Contains(" generation_changed ", dump, StringComparison.Ordinal);
        Assert.Contains("\"d1950\"", dump, StringComparison.Ordinal);
        Assert.DoesNotContain("\"d1050\"", dump, StringComparison.Ordinal);
        string export = Path.Combine(cluster.NewDirectory("export"), "log");
        cluster.Famfs("log", "export", export, c);
        Assert.DoesNotContain(cluster.Check().Findings, f => f.Severity == FindingSeverity.Error);
        master.Signal("TERM");
        Assert.Equal(0, master.AwaitExit());
        foreach (string mount in (string[])[a, b, c])
            cluster.Famfs("umount", mount);
        Assert.DoesNotContain(cluster.Check().Findings, f => f.Severity == FindingSeverity.Error);
        cluster.Famfs(["log", "import", "--force", "--host-state", cluster.StateOf("a"), export, .. cluster.Devices]);
        address = cluster.StartMaster("a").Address;
        a = cluster.Mount("a", address).Path;
        Assert.Equal(names.Order(StringComparer.Ordinal), Names(a));
        Assert.Equal(7, File.ReadAllBytes($"{a}/open")[0]);
        using JsonDocument again = JsonDocument.Parse(cluster.Famfs("log", "compact", "--json", a));
        Assert.Equal(6u, again.RootElement.GetProperty("generation").GetUInt64());
        Assert.Equal(names.Order(StringComparer.Ordinal), Names(a));
    }

    [Fact]
    public async Task A_daemon_that_is_stopped_over_two_compactions_follows_when_it_is_continued()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 128 * MiB);
        string address = cluster.StartMaster("a").Address;
        string a = cluster.Mount("a", address).Path;
        (ServerProcess daemon, string b) = cluster.Mount("b", address);
        using FamfsClient client = Cluster.Connect(address);
        await AgeAsync(client, "first");
        cluster.Famfs("creat", "--size", "4096", $"{a}/f");
        using (FileStream file = new($"{a}/f", FileMode.Open, FileAccess.ReadWrite))
            file.Write([.. Enumerable.Repeat((byte)7, 4096)]);
        using FileStream open = File.OpenRead($"{b}/f");
        Assert.Equal(7, open.ReadByte());
        daemon.Signal("STOP");
        cluster.Famfs("rm", $"{a}/f");
        await AgeAsync(client, "second");
        cluster.Famfs("log", "compact", a);
        await AgeAsync(client, "third");
        cluster.Famfs("log", "compact", a);
        await AgeAsync(client, "fourth");
        Assert.NotEqual(0UL, (await client.GetStatusAsync()).PendingReclaimBytes);
        daemon.Signal("CONT");
        await client.BarrierAsync(new());
        Assert.Equal(["first", "fourth", "second", "third"], Names(b));
        Assert.Equal(7, open.ReadByte()); // removed, and open here
        Assert.Equal(3UL, (await client.GetStatusAsync()).Position.Generation);
        open.Dispose();
        Cluster.Await("all is given back", () => client.GetStatusAsync().GetAwaiter().GetResult().PendingReclaimBytes == 0);
        Assert.DoesNotContain(cluster.Check().Findings, f => f.Severity == FindingSeverity.Error);
    }

    [Fact]
    public async Task A_host_that_is_cut_off_follows_a_compacted_log_by_memory()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 128 * MiB);
        using NetworkPair network = NetworkPair.Create();
        string socket = $"unix:{Path.Combine(cluster.NewDirectory("run"), "master.sock")}";
        string address = $"http://{NetworkPair.FirstAddress}:7070";
        ServerProcess master = cluster.LaunchBy(network.First, "Famfs.Master", "famfs-master",
            ["--host-state", cluster.StateOf("a"), .. cluster.DeviceArguments(), "--listen", socket, "--listen", address]);
        master.Await("listening on");
        string a = cluster.Mount("a", socket).Path;
        string b = cluster.NewDirectory("b");
        ServerProcess daemon = cluster.LaunchBy(network.Second, "Famfs.Fuse", "famfsd", ["--host-state", cluster.StateOf("b"), .. cluster.DeviceArguments(), "--master", address, b]);
        daemon.Await("registered in the host table");
        daemon.Await("subscribed to the master");
        using FamfsClient client = Cluster.Connect(socket);
        await AgeAsync(client, "first");
        network.Cut();
        daemon.Await("following the log in memory");
        cluster.Famfs("log", "compact", a);
        await AgeAsync(client, "second");
        Cluster.Await("its names are there", () => Names(b) is ["first", "second"]);
        cluster.Famfs("log", "compact", a);
        await AgeAsync(client, "third");
        Cluster.Await("and those of another generation", () => Names(b) is ["first", "second", "third"]);
        // Nothing of the former generations is waited for.
        Cluster.Await("all is given back", () => client.GetStatusAsync().GetAwaiter().GetResult().PendingReclaimBytes == 0);
        network.Mend();
        Cluster.Await("it has its master again", () => PathAttributes.Read(b, "user.famfs.master") == address);
        Directory.CreateDirectory($"{b}/fourth");
        await client.BarrierAsync(new());
        Assert.Equal(["first", "fourth", "second", "third"], Names(a));
    }

    [Fact]
    public async Task Whoever_is_killed_during_a_compaction_nothing_acknowledged_is_lost()
    {
        int seed = int.TryParse(Environment.GetEnvironmentVariable("FAMFS_KILL_SEED"), CultureInfo.InvariantCulture, out int given) ? given : Random.Shared.Next();
        Random random = new(seed);
        using Cluster cluster = Cluster.Create(deviceBytes: 512 * MiB);
        (ServerProcess master, string address) = cluster.StartMaster("a");
        (string a, string b) = (cluster.Mount("a", address).Path, "");
        (ServerProcess daemon, b) = cluster.Mount("b", address);
        using FamfsClient client = Cluster.Connect(address);
        await client.MakeDirectoryAsync(new() { Path = "ballast" });
        await ForAllAsync(Ballast, i => client.MakeDirectoryAsync(new() { Path = $"ballast/{i}" }));
        ConcurrentQueue<string> made = [];
        using CancellationTokenSource over = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        Task[] load =
        [
            .. Enumerable.Range(0, 3).Select(worker => MakeAsync(address, worker, made, over.Token)),
            CompactAsync(address, over.Token),
        ];
        try
        {
            ulong entered = 1;
            for (int kill = 1; kill <= Kills; kill++)
            {
                // Somewhere in the first or second compaction after the last kill.
                ulong until = entered + (ulong)random.Next(2);
                Cluster.Await($"generation {until} (seed {seed})", () => Status(client) is { } status && (entered = status.Position.Generation) >= until || load.Any(t => t.IsFaulted));
                await Task.Delay(random.Next(400), TestContext.Current.CancellationToken);
                if (load.FirstOrDefault(t => t.IsFaulted) is { } failed)
                    await failed;
                ServerProcess victim = random.Next(3) == 0 ? daemon : master;
                victim.Signal("KILL");
                Assert.NotEqual(0, victim.AwaitExit());
                if (victim == master)
                {
                    master = cluster.StartMasterAt("a", address);
                }
                else
                {
                    cluster.Famfs("umount", b);
                    (daemon, b) = cluster.Mount("b", address);
                }
                string[] names = [.. made];
                foreach (string path in (string[])[a, b])
                {
                    string[] lost = [];
                    Cluster.Await($"what was acknowledged at {path} after kill {kill} (seed {seed})", () => (lost = [.. names.Except(Names(path))]).Length == 0, instead: () => $"{lost.Length} names, {lost[0]} first");
                }
            }
            Cluster.Await("another compaction", () => Status(client) is { } status && status.Position.Generation > entered || load.Any(t => t.IsFaulted));
            await over.CancelAsync();
            await Task.WhenAll(load);
        }
        finally
        {
            await over.CancelAsync();
        }
        await client.BarrierAsync(new());
        string[] all = [.. made.Append("ballast").Order(StringComparer.Ordinal)];
        Assert.Empty(all.Except(Names(a)));
        Assert.Equal(Names(a), Names(b));
        Assert.Equal(Ballast, Directory.GetDirectories($"{b}/ballast").Length);
        master.Signal("TERM");
        Assert.Equal(0, master.AwaitExit());
        Assert.DoesNotContain(cluster.Check().Findings, f => f.Severity == FindingSeverity.Error);
    }

    // One directory, and changes that come to nothing.
    private static async Task AgeAsync(FamfsClient client, string stays)
    {
        await ForAllAsync(200, i => client.MakeDirectoryAsync(new() { Path = $"{stays}{i}" }));
        await ForAllAsync(200, i => client.RemoveAsync(new() { Path = $"{stays}{i}" }));
        await client.MakeDirectoryAsync(new() { Path = stays });
    }

    private static async Task MakeAsync(string address, int worker, ConcurrentQueue<string> made, CancellationToken over)
    {
        using FamfsClient client = Cluster.Connect(address);
        for (int i = 0; !over.IsCancellationRequested; i++)
        {
            string name = $"w{worker}-{i}";
            await client.MakeDirectoryAsync(new() { Path = name }, cancel: CancellationToken.None);
            if (i % 2 == 0)
                made.Enqueue(name);
            else
                await client.RemoveAsync(new() { Path = name }, cancel: CancellationToken.None);
            // Some hundred a second are enough, and are listed soon.
            await Task.Delay(Cluster.Pause, CancellationToken.None);
        }
    }

    private static async Task CompactAsync(string address, CancellationToken over)
    {
        using FamfsClient client = Cluster.Connect(address);
        while (!over.IsCancellationRequested)
        {
            try
            {
                await client.CompactAsync(new(), cancel: CancellationToken.None);
            }
            catch (FamfsException error) when (error.Reason is ErrorReason.NotSupportedByFormat or ErrorReason.Overloaded)
            {
                // A new master has not heard of all mounts yet.
                await Task.Delay(Cluster.Pause, CancellationToken.None);
            }
        }
    }

    private static GetStatusReply? Status(FamfsClient client)
    {
        try
        {
            return client.GetStatusAsync().GetAwaiter().GetResult();
        }
        catch (FamfsException)
        {
            return null;
        }
    }

    private static Task ForAllAsync(int count, Func<int, Task> make) =>
        Parallel.ForEachAsync(Enumerable.Range(0, count), new ParallelOptions { MaxDegreeOfParallelism = 64 }, async (i, _) => await make(i));

    private static string[] Names(string path) => [.. Directory.GetFileSystemEntries(path).Select(e => Path.GetFileName(e)).Where(n => n[0] != '.').Order(StringComparer.Ordinal)];
}
