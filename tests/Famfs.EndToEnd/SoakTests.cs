using System.Diagnostics;
using System.Globalization;
using Famfs.Client;
using Famfs.Core.Check;
using Famfs.Core.Log;
using Famfs.V1;
using Xunit;

namespace Famfs.EndToEnd;

/// <summary>
/// Four clients make, fill, verify, hold, rename and remove files on three mounts of a pool that is nearly full, while masters, daemons and
/// their own programs are killed, stopped and replaced. <c>FAMFS_SOAK_MINUTES</c> says how long, <c>FAMFS_SOAK_SEED</c> repeats the choices
/// (not the moments), <c>FAMFS_SOAK_REPORT</c> names a file for the figures.
/// </summary>
public sealed class SoakTests
{
    private const int FaultsInEveryRun = 8;
    private const int Clients = 4;
    private const int MostOperationsBetweenFaults = 40;

    [Fact]
    public async Task Every_byte_is_of_its_file_and_no_unit_is_lost_whatever_is_killed()
    {
        double? minutes = double.TryParse(Environment.GetEnvironmentVariable("FAMFS_SOAK_MINUTES"), CultureInfo.InvariantCulture, out double number) ? number : null;
        int seed = int.TryParse(Environment.GetEnvironmentVariable("FAMFS_SOAK_SEED"), CultureInfo.InvariantCulture, out int given) ? given : Random.Shared.Next();
        TestContext.Current.TestOutputHelper?.WriteLine($"FAMFS_SOAK_SEED={seed}");
        using Cluster cluster = Cluster.Create(deviceBytes: 256L << 20);
        (ServerProcess master, string address) = cluster.StartMaster("a");
        Dictionary<string, ServerProcess> daemons = [];
        List<SoakMount> mounts = [];
        foreach (string host in (string[])["a", "b", "c"])
        {
            (daemons[host], string path) = cluster.Mount(host, address);
            mounts.Add(new(host, path));
        }
        using FamfsClient asks = Cluster.Connect(address);
        GetStatusReply before = await asks.GetStatusAsync();

        SoakWorld world = new(address, [.. mounts]);
        Random random = new(seed);
        SoakClient[] clients = [.. Enumerable.Range(0, Clients).Select(i => new SoakClient(world, i, unchecked(seed + i)))];
        Dictionary<string, int> faults = [];
        string last = "";
        double fullest = 0;
        long start = Stopwatch.GetTimestamp();
        try
        {
            Task[] running = [.. clients.Select(c => Task.Run(c.RunAsync))];
            for (int fault = 0; minutes is null ? fault < FaultsInEveryRun : Stopwatch.GetElapsedTime(start).TotalMinutes < minutes; fault++)
            {
                await OperationsAsync(world, random.Next(MostOperationsBetweenFaults));
                GetStatusReply status = await asks.GetStatusAsync();
                fullest = Math.Max(fullest, 1 - ((double)status.FreeBytes / status.CapacityBytes));
                SoakMount mount = mounts[random.Next(mounts.Count)];
                // Each kind comes in every run.
                int kind = fault < 6 ? fault : random.Next(6);
                string name = kind switch { 0 => "master", 1 => "daemon", 2 => "master and daemon", 3 => "program", 4 => "stopped daemon", _ => "orderly mount" };
                faults[name] = faults.GetValueOrDefault(name) + 1;
                last = $"{name} of {mount.Host} at {Stopwatch.GetElapsedTime(start)}";
                switch (name)
                {
                    case "program":
                        clients[random.Next(Clients)].KillWorker();
                        break;
                    case "stopped daemon":
                        daemons[mount.Host].Signal("STOP");
                        Cluster.Await($"{mount.Host} is silent", () => asks.ListHostsAsync().GetAwaiter().GetResult().Hosts.Any(h => h.State == HostState.Silent));
                        daemons[mount.Host].Signal("CONT");
                        break;
                    case "orderly mount":
                        await LetGoAsync(world, clients, mount);
                        cluster.Famfs("umount", mount.Path);
                        Assert.Equal(0, daemons[mount.Host].AwaitExit());
                        daemons[mount.Host] = cluster.Mount(mount.Host, address).Process;
                        mount.IsUsable = true;
                        break;
                    default:
                        bool killsMaster = name.StartsWith("master", StringComparison.Ordinal), killsDaemon = name.EndsWith("daemon", StringComparison.Ordinal);
                        mount.MayFail = killsDaemon;
                        world.Master.MayFail = killsMaster;
                        if (killsDaemon)
                            daemons[mount.Host].Signal("KILL");
                        if (killsMaster)
                            master.Signal("KILL");
                        if (killsMaster)
                        {
                            master.AwaitExit();
                            master = cluster.StartMasterAt("a", address);
                        }
                        if (killsDaemon)
                        {
                            daemons[mount.Host].AwaitExit();
                            // Others go on, and some hold what its kernel still has.
                            await OperationsAsync(world, random.Next(MostOperationsBetweenFaults));
                            await LetGoAsync(world, clients, mount);
                            cluster.Famfs("umount", mount.Path);
                            daemons[mount.Host] = cluster.Mount(mount.Host, address).Process;
                            mount.IsUsable = true;
                        }
                        mount.MayFail = false;
                        // Until it has found the master again, a mount refuses changes.
                        if (killsMaster)
                            Cluster.Await("all mounts follow", () => asks.ListHostsAsync().GetAwaiter().GetResult().Hosts.Count(h => h.Subscribed) == mounts.Count,
                                instead: () => $"{string.Join("; ", asks.ListHostsAsync().GetAwaiter().GetResult().Hosts.Select(h => $"{h.Name} {h.State} {(h.Subscribed ? "follows" : "no stream")}"))}\n{string.Join('\n', daemons.Select(d => $"daemon of {d.Key}:\n{d.Value.Output}"))}master:\n{master.Output}");
                        world.Master.MayFail = false;
                        break;
                }
            }
            world.IsOver = true;
            await Task.WhenAll(running);
        }
        catch (Exception error)
        {
            static string End(ServerProcess process) => process.Output.Length > 4000 ? process.Output[^4000..] : process.Output;
            throw new InvalidOperationException($"{error.Message} after {Stopwatch.GetElapsedTime(start)}, faults so far: {string.Join(", ", faults)}, the last {last}\n{string.Join('\n', daemons.Select(d => $"daemon of {d.Key}:\n{End(d.Value)}"))}master:\n{End(master)}", error);
        }
        finally
        {
            world.IsOver = true;
            foreach (SoakClient client in clients)
                client.Dispose();
        }

        // Nothing is left, to the unit: what is not free is the log's.
        foreach (SoakClient client in clients)
            await asks.RemoveAsync(new() { Path = client.Home, Recursive = true });
        GetStatusReply after = before;
        Cluster.Await("all space is free", () =>
        {
            after = asks.GetStatusAsync().GetAwaiter().GetResult();
            return after.PendingReclaimBytes == 0;
        });
        Assert.Equal((before.FileCount, before.DirectoryCount), (after.FileCount, after.DirectoryCount));
        Assert.Equal(before.FreeBytes + before.LogReservedBytes, after.FreeBytes + after.LogReservedBytes);
        foreach (SoakMount mount in mounts)
            Cluster.Await($"{mount.Path} is empty", () => Directory.GetFileSystemEntries(mount.Path).Length == 0);
        master.Signal("TERM");
        Assert.Equal(0, master.AwaitExit());
        Assert.DoesNotContain(cluster.Check().Findings, f => f.Severity == FindingSeverity.Error);
        Report(seed, Stopwatch.GetElapsedTime(start), fullest, faults, clients, after.SegmentCount);
    }

    /// <summary>Waits until the clients have done so many operations; fails when one of them failed.</summary>
    private static async Task OperationsAsync(SoakWorld world, int count)
    {
        for (int i = 0; i < count; i++)
            await world.Progress.ReadAsync(TestContext.Current.CancellationToken).AsTask().WaitAsync(Cluster.Patience);
    }

    private static async Task LetGoAsync(SoakWorld world, SoakClient[] clients, SoakMount mount)
    {
        mount.IsUsable = false;
        foreach (SoakClient client in clients)
        {
            // The round that runs now may not have seen it.
            int now = client.Rounds;
            while (client.Rounds < now + 2)
                await OperationsAsync(world, 1);
        }
    }

    private static void Report(int seed, TimeSpan took, double fullest, Dictionary<string, int> faults, SoakClient[] clients, uint segments)
    {
        if (Environment.GetEnvironmentVariable("FAMFS_SOAK_REPORT") is not { Length: > 0 } report)
            return;
        static string Of<T>(IEnumerable<KeyValuePair<string, T>> counts) => string.Join(", ", counts.OrderBy(c => c.Key, StringComparer.Ordinal).Select(c => $"{c.Key} {c.Value}"));
        var done = clients.SelectMany(c => c.Done).GroupBy(d => d.Key).Select(g => KeyValuePair.Create(g.Key, g.Sum(d => d.Value)));
        File.WriteAllText(report, string.Create(CultureInfo.InvariantCulture,
            $"soak of {took.TotalMinutes:0.0} minutes (seed {seed}), fullest {fullest:P0}, {segments} segments; faults: {Of(faults)}; operations: {Of(done)}; 0 foreign bytes, 0 units lost\n"));
    }
}
