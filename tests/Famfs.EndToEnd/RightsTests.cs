using System.Diagnostics;
using System.Runtime.Versioning;
using Famfs.Client;
using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Interop;
using Famfs.V1;
using Xunit;

namespace Famfs.EndToEnd;

/// <summary>What an ordinary user may do, and where a master listens when nothing is said.</summary>
[SupportedOSPlatform("linux")]
public sealed class RightsTests
{
    private const uint Nobody = 65534;

    [Fact]
    public void An_ordinary_user_makes_files_only_as_itself_and_only_where_it_may()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        string master = StartAtSocket(cluster);
        string a = cluster.Mount("a", master).Path;
        cluster.Famfs("mkdir", "--mode", "1777", Path.Combine(a, "tmp"));
        cluster.Famfs("mkdir", "--mode", "700", Path.Combine(a, "own"));
        cluster.Famfs("creat", "--size", "1", "--mode", "4755", "--wait", "all", Path.Combine(a, "own", "f"));

        // The example of the fault, by the mount and by the socket.
        Refused("/: user 65534 may not make anything in it", "creat", "--size", "1", "--uid", "0", "--mode", "4755", Path.Combine(a, "evil"));
        Refused("/: user 65534 may not make anything in it", "creat", "--size", "1", "--uid", "0", "--mode", "4755", "--master", master, "evil");
        Refused("tmp/evil: user 65534 may not make it for user 0", "creat", "--size", "1", "--uid", "0", "--mode", "4755", Path.Combine(a, "tmp", "evil"));
        Refused("own: user 65534 may not", "mkdir", Path.Combine(a, "own", "d"));
        Refused("own: user 65534 may not search it", "chmod", "777", "--master", master, "own/f");
        Refused("own: user 65534 may not", "ls", "--master", master, "own");
        Refused("a check needs root or a certificate", "check", "--master", master);
        Refused("a compaction needs root or a certificate", "log", "compact", "--master", master);
        Refused("changing a policy needs root or a certificate", "policy", "--master", master, "--dialect-floor", "B");
        Assert.Equal(["own", "tmp"], Directory.EnumerateFileSystemEntries(a).Select(Path.GetFileName).Order());
        Assert.Empty(Directory.EnumerateFileSystemEntries(Path.Combine(a, "tmp")));

        Assert.Equal(0, AsNobody("creat", "--size", "1", "--mode", "4750", Path.Combine(a, "tmp", "f")).Exit);
        FileStatus made = FileStatus.Read(Path.Combine(a, "tmp", "f"), true);
        Assert.Equal((0x9E8u, Nobody, Nobody), (made.Mode, made.Uid, made.Gid));
        Refused("tmp/f: user 65534 may not give it to user 0", "chown", "root", Path.Combine(a, "tmp", "f"));
        Assert.Equal(0, AsNobody("chmod", "640", Path.Combine(a, "tmp", "f")).Exit);
        Assert.Equal(0, AsNobody("status", "--master", master).Exit);
        // The mount has the record, which names no address of a socket.
        Assert.Empty(PathAttributes.Read(a, "user.famfs.log-master") ?? "");
    }

    [Fact]
    public void A_master_that_is_given_nothing_is_found_by_whoever_is_given_nothing()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        string run = Path.Combine(cluster.NewDirectory("root"), "run");
        Dictionary<string, string> environment = new() { [MasterSocket.DirectoryVariable] = run };
        ServerProcess master = cluster.Launch("Famfs.Master", "famfs-master", ["--host-state", cluster.StateOf("a"), .. cluster.DeviceArguments()], environment);
        master.Await($"listening on unix:{run}/master.sock");
        Assert.DoesNotContain("whoever reaches", master.Output, StringComparison.Ordinal);
        Assert.Equal(Convert.ToInt32("755", 8), (int)File.GetUnixFileMode(run));
        Assert.Equal(Convert.ToInt32("666", 8), (int)File.GetUnixFileMode($"{run}/master.sock"));

        string place = cluster.NewDirectory("a");
        ServerProcess daemon = cluster.Launch("Famfs.Fuse", "famfsd", ["--host-state", cluster.StateOf("a"), .. cluster.DeviceArguments(), place], environment);
        daemon.Await("registered in the host table");
        (int exit, string output) = cluster.TryFamfs(environment, "creat", "--size", "1", Path.Combine(place, "f"));
        Assert.True(exit == 0, output);
        Assert.True(File.Exists(Path.Combine(place, "f")));

        // A second master of this host takes nothing away from the first.
        ServerProcess second = cluster.Launch("Famfs.Master", "famfs-master", ["--host-state", cluster.StateOf("a"), .. cluster.DeviceArguments()], environment);
        Assert.Equal(1, second.AwaitExit());
        Assert.Equal(0, cluster.TryFamfs(environment, "status", place).Exit);
    }

    [Fact]
    public void An_open_port_is_warned_of_once_and_gives_no_set_id_bits()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        (ServerProcess master, string address) = cluster.StartMaster("a");
        string a = cluster.Mount("a", address).Path;
        master.Await($"whoever reaches {address} may change the file system");
        (int exit, string output) = cluster.TryFamfs("creat", "--size", "1", "--mode", "4755", Path.Combine(a, "f"));
        Assert.Equal(8, exit);
        Assert.Equal("famfs: f: mode 04755 has set-id bits, which a caller that is not known may not give; use a unix socket or a certificate", output.Trim());
        cluster.Famfs("creat", "--size", "1", "--uid", "7", Path.Combine(a, "f"));
        Assert.Equal(7u, FileStatus.Read(Path.Combine(a, "f"), true).Uid);
        Assert.Single(master.Output.Split('\n'), l => l.Contains("whoever reaches", StringComparison.Ordinal));
        // A log names an address that others can call.
        Assert.Equal(address, PathAttributes.Read(a, "user.famfs.log-master"));
    }

    [Fact]
    public async Task A_hello_registers_nobody_and_what_a_stranger_says_counts_for_nothing()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        string address = cluster.StartMaster("a").Address;
        string a = cluster.Mount("a", address).Path;
        using FamfsClient client = Cluster.Connect(address);
        GetStatusReply before = await client.GetStatusAsync(cancel: Cancel);
        using CancellationTokenSource over = CancellationTokenSource.CreateLinkedTokenSource(Cancel);
        Stranger[] strangers = [.. Enumerable.Range(0, 20).Select(_ => Stranger.OfNobody(before.Position))];
        Task[] streams = [.. strangers.Select(s => new LogSubscriber(client).RunOnceAsync(s, over.Token))];
        Welcome[] welcomes = await Task.WhenAll(strangers.Select(s => s.Welcomed.Task)).WaitAsync(Cluster.Patience, Cancel);
        Assert.All(welcomes, w => Assert.Equal((false, true), (w.Registered, w.LinesCount)));
        // They acknowledge nothing, and nobody waits for them; the mount counts by its line.
        cluster.Famfs("creat", "--size", "1", "--wait", "all", Path.Combine(a, "f"));
        Assert.Equal(1u, (await client.BarrierAsync(new(), cancel: Cancel)).MountCount);
        Assert.Equal(before.HostCount, (await client.GetStatusAsync(cancel: Cancel)).HostCount);
        await over.CancelAsync();
        await Task.WhenAll(streams).ContinueWith(_ => { }, TaskScheduler.Default);
    }

    [Fact]
    public async Task A_host_that_gets_no_block_shows_names_and_says_why_in_one_line()
    {
        const int MostInAnHour = 64; // docs/protocol.md, of one caller; one of them is host a
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        string address = cluster.StartMaster("a").Address;
        string a = cluster.Mount("a", address).Path;
        using FamfsClient client = Cluster.Connect(address);
        GetStatusReply before = await client.GetStatusAsync(cancel: Cancel);
        for (int i = 0; i < MostInAnHour; i++)
        {
            using CancellationTokenSource over = CancellationTokenSource.CreateLinkedTokenSource(Cancel);
            LogSubscriber subscriber = new(client);
            Stranger stranger = Stranger.OfNobody(before.Position, () => subscriber.Register());
            Task stream = subscriber.RunOnceAsync(stranger, over.Token);
            Registration answer = await stranger.Answered.Task.WaitAsync(Cluster.Patience, Cancel);
            // Host a was made known by mkfs or by its mount; then the last of these may be the one too many.
            Assert.True(answer.Refusal is null || i == MostInAnHour - 1, answer.Refusal?.Message);
            await over.CancelAsync();
            await stream.ContinueWith(_ => { }, TaskScheduler.Default);
        }
        string b = cluster.NewDirectory("b");
        string log = Path.Combine(cluster.NewDirectory("log"), "b.log");
        (int exit, string output) = cluster.TryFamfs(["mount", "--host-state", cluster.StateOf("b"), "--master", address, "--log", log, .. cluster.Devices, b]);
        const string Cause = "64 hosts were registered within an hour by address 127.0.0.1";
        Assert.Equal(1, exit);
        Assert.Single(output.Split('\n'), l => l.Contains(Cause, StringComparison.Ordinal));
        Assert.Single(File.ReadAllText(log).Split('\n'), l => l.Contains(Cause, StringComparison.Ordinal));
        // It follows all the same.
        cluster.Famfs("creat", "--size", "1", Path.Combine(a, "g"));
        Cluster.Await("the name of a new file", () => File.Exists(Path.Combine(b, "g")));
        cluster.Famfs("umount", b);
    }

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    /// <summary>Starts a master at a unix socket, and gives its address.</summary>
    private static string StartAtSocket(Cluster cluster)
    {
        string address = "unix:" + Path.Combine(cluster.NewDirectory("run"), "socket");
        cluster.StartMasterAt("a", address);
        return address;
    }

    /// <summary>The user is refused, with code 8 and one line.</summary>
    private static void Refused(string cause, params string[] arguments)
    {
        (int exit, string output) = AsNobody(arguments);
        Assert.True(exit == 8 && output.StartsWith($"famfs: {cause}", StringComparison.Ordinal) && output.Trim().Split('\n').Length == 1,
            $"famfs {string.Join(' ', arguments)}: {exit}, {output}");
    }

    /// <summary>It may reach the programs and the mount, though the directories above them are this test's own; the master sees an
    /// ordinary user.</summary>
    private static (int Exit, string Output) AsNobody(params string[] arguments)
    {
        using Process process = Process.Start(new ProcessStartInfo("setpriv",
        [
            "--reuid", $"{Nobody}", "--regid", $"{Nobody}", "--clear-groups",
            "--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search",
            Cluster.Program("Famfs.Cli", "famfs"), .. arguments,
        ])
        { RedirectStandardError = true, RedirectStandardOutput = true })!;
        Task<string> output = process.StandardOutput.ReadToEndAsync();
        string error = process.StandardError.ReadToEnd();
        process.WaitForExit();
        return (process.ExitCode, error + output.Result);
    }
}
