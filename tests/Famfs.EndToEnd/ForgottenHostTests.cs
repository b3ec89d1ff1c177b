using System.Runtime.Versioning;
using System.Text.Json;
using Famfs.Client;
using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.V1;
using Xunit;

namespace Famfs.EndToEnd;

/// <summary>A full host table, in which hosts make room for others.</summary>
[SupportedOSPlatform("linux")]
public sealed class ForgottenHostTests
{
    private const int Hosts = 512;

    [Fact]
    public async Task A_host_of_which_nothing_is_left_is_forgotten_and_another_has_its_place()
    {
        // The smallest table there is: one unit.
        using Cluster cluster = Cluster.Create(64 * ReuseTests.MiB, "--max-hosts", "1", "--host-state", "STATE");
        string socket = $"unix:{Path.Combine(cluster.NewDirectory("run"), "master.sock")}";
        string address = cluster.StartMaster("a", "--listen", socket).Address;
        string a = cluster.Mount("a", address).Path;
        (ServerProcess daemon, string b) = cluster.Mount("b", socket);
        ReuseTests.Create(cluster, $"{a}/f");
        string host = HostOf(cluster, b);

        List<Guid> strangers = await FillAsync(socket, from: 2, to: Hosts);

        // No room for a third mount; who says so names the way out.
        (ServerProcess third, string c) = cluster.LaunchMount("c", "c", socket);
        third.Await("files cannot be opened: this host is not registered: the host table is full: it has room for 512 hosts");
        Assert.Contains("`famfs hosts forget`", third.Output, StringComparison.Ordinal);
        Assert.Throws<IOException>(() => File.OpenRead($"{c}/f"));

        // Not while something of it is left, and not for anybody.
        (int exit, string text) = cluster.TryFamfs("--master", socket, "hosts", "forget", host);
        Assert.NotEqual(0, exit);
        Assert.Contains("cannot be forgotten: its mount", text, StringComparison.Ordinal);
        cluster.Famfs("umount", b);
        Assert.Equal(0, daemon.AwaitExit());
        (exit, text) = cluster.TryFamfs("--master", address, "hosts", "forget", host);
        Assert.NotEqual(0, exit);
        Assert.Contains("needs root at the master's unix socket", text, StringComparison.Ordinal);
        (exit, text) = cluster.TryFamfs("--master", socket, "host", "forget", Guid.NewGuid().ToString());
        Assert.NotEqual(0, exit);
        Assert.Contains("is not registered", text, StringComparison.Ordinal);
        // Of a running master's host there is a slot.
        (exit, text) = cluster.TryFamfs("--master", socket, "hosts", "forget", HostOf(cluster, a));
        Assert.NotEqual(0, exit);
        Assert.Contains("it has master slot 0", text, StringComparison.Ordinal);

        string said = "";
        Cluster.Await("the host is forgotten", () => (said = cluster.TryFamfs("--json", "--master", socket, "hosts", "forget", host).Output).Contains("host_slot", StringComparison.Ordinal), instead: () => said);
        using (JsonDocument json = JsonDocument.Parse(said))
            Assert.Equal((host, 1), (json.RootElement.GetProperty("host_id").GetString(), json.RootElement.GetProperty("host_slot").GetInt32()));
        Assert.Contains("host_forgotten", cluster.Famfs(["log", "dump", .. cluster.Devices]), StringComparison.Ordinal);

        // The third asks again by itself.
        Cluster.Await("the third host opens files", () => Opens($"{c}/f"));
        Assert.Equal(HostOf(cluster, c), Assert.Single(LinesOf(cluster, 1), l => l.State == MountState.Live).Host.ToString());
        ReuseTests.Fill($"{c}/f", 3);
        Assert.Equal(80 * ReuseTests.MiB, ReuseTests.Count($"{a}/f", x => x == 3));

        // A removed file comes back while lines of both hosts are in the block.
        cluster.Famfs("rm", $"{a}/f");
        ReuseTests.Create(cluster, $"{a}/g");

        // The one that was forgotten is a stranger, until there is a place again; then it has another.
        (daemon, string again) = cluster.LaunchMount("b", "b", socket);
        daemon.Await("files cannot be opened: this host is not registered: the host table is full");
        Assert.Contains("block 2 of the host table is free", cluster.Famfs("--master", socket, "host", "forget", strangers[0].ToString()), StringComparison.Ordinal);
        Cluster.Await("the first of them opens files", () => Opens($"{again}/g"));
        Assert.Equal(host, HostOf(cluster, again));
        Assert.Equal(host, Assert.Single(LinesOf(cluster, 2)).Host.ToString());
        cluster.Famfs("umount", again);
        Assert.Equal(0, daemon.AwaitExit());
        Assert.DoesNotContain(cluster.Check().Findings, f => f.Code.StartsWith("host-", StringComparison.Ordinal));
    }

    // Hosts that registered and never mounted: each as the master gives the next block.
    private static async Task<List<Guid>> FillAsync(string socket, int from, int to)
    {
        List<Guid> hosts = [];
        using FamfsClient client = Cluster.Connect(socket);
        Position position = (await client.GetStatusAsync(cancel: TestContext.Current.CancellationToken)).Position;
        for (int slot = from; slot < to; slot++)
        {
            Hello hello = new() { HostId = Guid.NewGuid().ToByteString(), MountId = Guid.NewGuid().ToByteString(), BootId = Guid.NewGuid().ToByteString(), Position = position };
            LogSubscriber subscriber = new(client);
            Stranger stranger = new(hello, () => subscriber.Register());
            using CancellationTokenSource over = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
            Task stream = subscriber.RunOnceAsync(stranger, over.Token);
            Registration answer = await stranger.Answered.Task.WaitAsync(Cluster.Patience, over.Token);
            Assert.Equal((null, (uint)slot), (answer.Refusal, answer.HostSlot));
            hosts.Add(hello.HostId.ToGuid("host_id"));
            await over.CancelAsync();
            await stream.ContinueWith(_ => { }, TaskScheduler.Default);
        }
        return hosts;
    }

    private static bool Opens(string path)
    {
        try
        {
            File.OpenRead(path).Dispose();
            return true;
        }
        catch (IOException)
        {
            return false;
        }
    }

    private static string HostOf(Cluster cluster, string mountPoint)
    {
        string mount = FamfsMount.FindAll().Single(m => m.MountPoint == mountPoint).RequireMountId().ToString();
        return Enumerable.Range(0, 3).SelectMany(slot => LinesOf(cluster, slot)).Single(l => l.Mount.ToString() == mount).Host.ToString();
    }

    private static List<MountLine> LinesOf(Cluster cluster, int slot)
    {
        using DevicePool pool = cluster.OpenPool();
        return [.. new MountLineTable(pool).ReadBlock(slot).Select(e => e.Line).OfType<MountLine>()];
    }
}
