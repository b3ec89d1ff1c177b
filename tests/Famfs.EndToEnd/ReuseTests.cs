using System.Diagnostics;
using System.Runtime.Versioning;
using Famfs.Client;
using Famfs.Core.Check;
using Famfs.Core.Log;
using Famfs.V1;
using Xunit;

namespace Famfs.EndToEnd;

/// <summary>Space of removed files: given to others when every mount has let go, and not before (SAFETY S12, S14, S17).</summary>
[SupportedOSPlatform("linux")]
public sealed class ReuseTests
{
    internal const long MiB = 1L << 20;

    // A file that takes more than half of what is free: a second one has no place next to it.
    internal const string Size = "80MiB";

    [Fact]
    public void Space_of_a_removed_file_comes_back_as_zeros()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64 * MiB);
        string address = cluster.StartMaster("a").Address;
        (string a, string b) = (cluster.Mount("a", address).Path, cluster.Mount("b", address).Path);
        ulong free = Status(address).FreeBytes;
        for (int round = 1; round <= 3; round++)
        {
            Create(cluster, $"{a}/f");
            Assert.Equal(0, Count(b + "/f", x => x != 0));
            Fill($"{b}/f", (byte)round);
            Assert.Equal(80 * MiB, Count(a + "/f", x => x == round));
            // By its removal, then by being replaced.
            if (round == 2)
            {
                cluster.Famfs("creat", "--size", "1", $"{a}/g");
                cluster.Famfs("mv", $"{a}/g", $"{a}/f");
            }
            cluster.Famfs("rm", "--wait", "all", $"{a}/f");
            Cluster.Await("all space is free", () => Status(address) is { PendingReclaimBytes: 0 } status && status.FreeBytes == free);
        }
        Assert.DoesNotContain(cluster.Check().Findings, f => f.Severity == FindingSeverity.Error);
    }

    [Fact]
    public void Space_comes_back_no_faster_than_the_operator_allows()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64 * MiB);
        string address = cluster.StartMaster("a", "--zeroing-rate", "16").Address;
        string a = cluster.Mount("a", address).Path;
        Create(cluster, $"{a}/f");
        Fill($"{a}/f", 1);
        long began = Stopwatch.GetTimestamp();
        cluster.Famfs("rm", $"{a}/f");
        (int exit, string text) = cluster.TryFamfs("--timeout", "120s", "creat", "--size", Size, "--wait-space", $"{a}/g");
        TimeSpan took = Stopwatch.GetElapsedTime(began);
        Assert.True(exit == 0, text);
        // 80 MiB take 5 s, but for the last step.
        Assert.True(took > TimeSpan.FromSeconds(4.5), $"{took}");
        Assert.Equal(0, Count($"{a}/g", x => x != 0));
    }

    [Theory]
    [InlineData("")]
    [InlineData("STOP")]
    public async Task Nothing_is_reused_while_another_host_has_it_open(string signal)
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64 * MiB);
        string address = cluster.StartMaster("a").Address;
        string a = cluster.Mount("a", address).Path;
        (ServerProcess daemon, string b) = cluster.Mount("b", address);
        Create(cluster, $"{a}/f");
        Fill($"{a}/f", 1);
        Task<(int Exit, string Text)> waiting;
        using (FileStream open = File.OpenRead($"{b}/f"))
        {
            Assert.Equal(1, open.ReadByte());
            if (signal.Length > 0)
                daemon.Signal(signal);
            cluster.Famfs("rm", $"{a}/f");
            // Until the mount is silent, if it is to be.
            string refusal = "";
            Cluster.Await("the refusal names the mount", () => (refusal = Refusal(cluster, $"{a}/g")).Contains(b, StringComparison.Ordinal) && (signal.Length == 0 || refusal.Contains("silent for", StringComparison.Ordinal)));
            Assert.Contains(signal.Length == 0 ? "has 1 file open" : "has not released them", refusal, StringComparison.Ordinal);
            Assert.Contains($"{80 * MiB} bytes are pending", refusal, StringComparison.Ordinal);
            if (signal.Length > 0)
                daemon.Signal("CONT");
            Cluster.Await("the name is gone there", () => !File.Exists($"{b}/f"));
            Assert.Contains("has 1 file open", Refusal(cluster, $"{a}/g", until: "has 1 file open"), StringComparison.Ordinal);
            Assert.Equal(1, open.ReadByte());
            open.Position = (80 * MiB) - 1;
            Assert.Equal(1, open.ReadByte());
            (int exit, string text) = cluster.TryFamfs("--timeout", "3s", "creat", "--size", Size, "--wait-space", $"{a}/g");
            Assert.Equal(5, exit);
            Assert.Contains("has 1 file open", text, StringComparison.Ordinal);
            waiting = Task.Run(() => cluster.TryFamfs("--timeout", "120s", "creat", "--size", Size, "--wait-space", "--wait", "all", $"{a}/g"));
        }
        (int created, string said) = await waiting;
        Assert.True(created == 0, said);
        Assert.Equal(0, Count($"{b}/g", x => x != 0));
    }

    [Fact]
    public void Many_files_that_a_host_keeps_open_hold_up_only_their_own_space()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 256 * MiB);
        string socket = $"unix:{Path.Combine(cluster.NewDirectory("run"), "master.sock")}";
        string address = cluster.StartMaster("a", "--listen", socket).Address;
        string a = cluster.Mount("a", address).Path;
        string b = cluster.Mount("b", socket).Path;
        string c = cluster.Mount("c", address).Path;
        List<FileStream> open = [];
        try
        {
            // More than a line can name. The mount is known to its master, and says so by its stream.
            string[] names = [.. Enumerable.Range(0, 40).Select(i => $"{a}/{i}")];
            CreateAll(address, a, names);
            open.AddRange(names.Select(name => File.OpenRead($"{b}/{Path.GetFileName(name)}")));
            cluster.Famfs(["rm", "--wait", "all", .. names]);
            cluster.Famfs("creat", "--size", "20MiB", $"{a}/f");
            cluster.Famfs("rm", $"{a}/f");
            Cluster.Await("what nobody has is given back", () => Status(address).PendingReclaimBytes == 80 * MiB);
            Assert.Contains("has 40 files open", cluster.Famfs("df", a), StringComparison.Ordinal);
            // With the names that they had.
            string held = cluster.Famfs("hosts", "--held", "--limit", "39", "--master", socket);
            Assert.Equal(39, held.Split('\n').Count(line => line.Contains($" {2 * MiB} ", StringComparison.Ordinal) && names.Contains($"{a}/{line.Split(' ')[^1]}")));
            Assert.Contains($"{b}: and 1 more", held, StringComparison.Ordinal);
            open.ForEach(file => file.Dispose());
            open.Clear();
            Cluster.Await("all is given back", () => Status(address).PendingReclaimBytes == 0);
            // A stranger's stream frees nothing: its line alone counts.
            CreateAll(address, a, names);
            open.AddRange(names.Select(name => File.OpenRead($"{c}/{Path.GetFileName(name)}")));
            cluster.Famfs(["rm", "--wait", "all", .. names]);
            Cluster.Await("the line names what it can", () => cluster.Famfs("df", a).Contains("has 16 files open", StringComparison.Ordinal));
            Assert.Equal((ulong)(80 * MiB), Status(address).PendingReclaimBytes);
        }
        finally
        {
            open.ForEach(file => file.Dispose());
        }
    }

    [Fact]
    public void A_killed_daemon_holds_what_it_had_until_it_is_proved_gone()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64 * MiB);
        string address = cluster.StartMaster("a").Address;
        string a = cluster.Mount("a", address).Path;
        (ServerProcess daemon, string b) = cluster.Mount("b", address);
        Create(cluster, $"{a}/f");
        using (File.OpenRead($"{b}/f"))
        {
            daemon.Signal("KILL");
            daemon.AwaitExit();
            cluster.Famfs("rm", $"{a}/f");
            Assert.Contains("silent for", Refusal(cluster, $"{a}/g", until: "silent for"), StringComparison.Ordinal);
        }
        // The next mount of that host proves it.
        cluster.TryFamfs("umount", b);
        cluster.Mount("b", address);
        Create(cluster, $"{a}/g");
    }

    [Fact]
    public void An_operator_declares_a_silent_mount_gone_and_no_living_one()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64 * MiB);
        string socket = $"unix:{Path.Combine(cluster.NewDirectory("run"), "master.sock")}";
        string address = cluster.StartMaster("a", "--listen", socket).Address;
        string a = cluster.Mount("a", address).Path;
        (ServerProcess daemon, string b) = cluster.Mount("b", address);
        Create(cluster, $"{a}/f");
        string mount = FamfsMount.FindAll().Single(m => m.MountPoint == b).RequireMountId().ToString();
        using FileStream open = File.OpenRead($"{b}/f");
        (int exit, string text) = cluster.TryFamfs("--master", socket, "hosts", "evict", mount);
        Assert.Equal(2, exit);
        Assert.Contains("needs --fenced", text, StringComparison.Ordinal);
        (exit, text) = cluster.TryFamfs("--master", socket, "hosts", "evict", mount, "--fenced");
        Assert.NotEqual(0, exit);
        Assert.Contains("is alive", text, StringComparison.Ordinal);
        // Nobody knows who is behind an open port.
        (exit, text) = cluster.TryFamfs("--master", address, "hosts", "evict", mount, "--fenced");
        Assert.NotEqual(0, exit);
        Assert.Contains("needs root at the master's unix socket", text, StringComparison.Ordinal);
        daemon.Signal("KILL");
        daemon.AwaitExit();
        cluster.Famfs("rm", $"{a}/f");
        _ = Refusal(cluster, $"{a}/g", until: "silent for");
        Cluster.Await("the mount is declared gone", () => cluster.TryFamfs("--master", socket, "hosts", "evict", mount, "--fenced", "--detail", "switched off").Exit == 0);
        Create(cluster, $"{a}/g");
        Assert.Contains("gone (fenced)", cluster.Famfs("hosts", "--all", a), StringComparison.Ordinal);
        Assert.Contains("was recorded as gone before", cluster.Famfs("--master", socket, "hosts", "evict", mount, "--fenced"), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_copy_waits_for_space_that_a_host_still_has()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64 * MiB);
        string address = cluster.StartMaster("a").Address;
        (string a, string b) = (cluster.Mount("a", address).Path, cluster.Mount("b", address).Path);
        string tree = cluster.NewDirectory("tree");
        foreach ((string name, long bytes) in ((string, long)[])[("small", 3), ("large", 80 * MiB)])
        {
            using FileStream file = new(Path.Combine(tree, name), FileMode.Create, FileAccess.Write);
            file.SetLength(bytes - 1);
            file.Position = bytes - 1;
            file.WriteByte(7);
        }
        Create(cluster, $"{a}/f");
        Task<(int Exit, string Text)> waiting;
        using (File.OpenRead($"{b}/f"))
        {
            cluster.Famfs("rm", "--wait", "all", $"{a}/f");
            Assert.Contains("has 1 file open", Refusal(cluster, $"{a}/g", until: "has 1 file open"), StringComparison.Ordinal);
            (int refused, string text) = cluster.TryFamfs("cp", "-r", tree, $"{a}/");
            Assert.True(refused == 5, text);
            (refused, text) = cluster.TryFamfs("--timeout", "3s", "cp", "-r", "--wait-space", "-T", tree, $"{a}/tree");
            Assert.True(refused == 5 && text.Contains("has 1 file open", StringComparison.Ordinal), text);
            waiting = Task.Run(() => cluster.TryFamfs("--timeout", "120s", "cp", "-r", "--wait-space", "-T", tree, $"{a}/tree"));
        }
        (int exit, string said) = await waiting;
        Assert.True(exit == 0, said);
        Assert.Equal(7, File.ReadAllBytes($"{a}/tree/small")[2]);
        byte[] content = File.ReadAllBytes($"{a}/tree/large");
        Assert.Equal((80 * MiB, 1), (content.LongLength, content.Count(x => x == 7)));
    }

    [Fact]
    public void A_master_that_was_killed_while_space_was_on_its_way_leaves_it_to_the_next()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 1L << 30);
        (ServerProcess master, string address) = cluster.StartMaster("a");
        string a = cluster.Mount("a", address).Path;
        ulong free = Status(address).FreeBytes;
        for (int round = 0; round < 5; round++)
        {
            string[] names = [.. Enumerable.Range(0, 20).Select(i => $"{a}/{i}")];
            CreateAll(address, a, names, 40 * MiB);
            cluster.Famfs(["rm", .. names]);
            master.Signal("KILL");
            master.AwaitExit();
            (master, address) = cluster.StartMaster("a");
            Cluster.Await("all space is free", () => Status(address) is { PendingReclaimBytes: 0 } status && status.FreeBytes == free);
        }
        Assert.DoesNotContain(cluster.Check().Findings, f => f.Severity == FindingSeverity.Error);
    }

    internal static void Create(Cluster cluster, string path)
    {
        string last = "";
        Cluster.Await($"space for {path}", () =>
        {
            (int exit, last) = cluster.TryFamfs("creat", "--size", Size, "--wait", "all", path);
            Assert.True(exit is 0 or 5, last);
            return exit == 0;
        });
    }

    private static void CreateAll(string address, string mountPoint, string[] paths, long bytes = 2 * MiB)
    {
        using FamfsClient client = Cluster.Connect(address);
        foreach (string path in paths)
            client.CreateFileAsync(new() { Path = path[(mountPoint.Length + 1)..], SizeBytes = (ulong)bytes, Wait = new() { Kind = WaitKind.All } }).GetAwaiter().GetResult();
    }

    internal static string Refusal(Cluster cluster, string path, string until = "")
    {
        string text = "";
        Cluster.Await($"a refusal with {until}", () =>
        {
            (int exit, text) = cluster.TryFamfs("creat", "--size", Size, path);
            Assert.True(exit == 5, $"{exit}: {text}");
            return text.Contains(until, StringComparison.Ordinal);
        });
        return text;
    }

    internal static void Fill(string path, byte value)
    {
        using FileStream file = new(path, FileMode.Open, FileAccess.Write);
        byte[] piece = new byte[MiB];
        piece.AsSpan().Fill(value);
        for (int i = 0; i < 80; i++)
            file.Write(piece);
    }

    internal static long Count(string path, Func<byte, bool> which) => File.ReadAllBytes(path).LongCount(which);

    internal static long Count(FileStream file, Func<byte, bool> which)
    {
        byte[] content = new byte[file.Length];
        file.Position = 0;
        file.ReadExactly(content);
        return content.LongCount(which);
    }

    private static GetStatusReply Status(string address)
    {
        using FamfsClient client = Cluster.Connect(address);
        return client.GetStatusAsync().GetAwaiter().GetResult();
    }
}
