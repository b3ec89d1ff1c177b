using System.Diagnostics;
using System.Globalization;
using Xunit;

namespace Famfs.EndToEnd;

/// <summary>Daemons that do not answer, that are told to end at a bad moment, and mounts without a master.</summary>
public sealed class MountHangTests
{
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Verbs_end_in_their_time_when_the_daemon_is_stopped(bool afterItHasRead)
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 256L << 20);
        string master = cluster.StartMaster("a").Address;
        (ServerProcess daemon, string path) = cluster.Mount("a", master);
        cluster.Famfs("mkdir", path + "/d");
        daemon.Signal("STOP");
        List<ServerProcess> left = [];
        if (afterItHasRead)
        {
            // Who asks now waits in the kernel's queue. Let go and stopped again and again, the daemon is caught between its reading
            // of one of the questions and the answer to it.
            for (int i = 0; i < 8; i++)
                left.Add(new ServerProcess("/bin/ls", ["-l", $"{path}/d"]));
            for (int i = 0; i < 3; i++)
            {
                daemon.Signal("CONT");
                daemon.Signal("STOP");
            }
        }
        foreach (string[] verb in (string[][])[["status", path], ["ls", path + "/d"], ["creat", "--size", "4K", path + "/d/f"], ["stat", path + "/d"], ["df", path], ["hosts", path], ["wait", path], ["check", path]])
        {
            long start = Stopwatch.GetTimestamp();
            (int exit, string output) = cluster.TryFamfs([.. verb, "--timeout", "2"]);
            Assert.True(exit == (verb[0] == "check" ? 8 : 9), $"{verb[0]}: {exit}: {output}");
            Assert.Contains($"the mount at {path} does not answer", output, StringComparison.Ordinal);
            Assert.True(Stopwatch.GetElapsedTime(start) < Cluster.Patience);
        }
        // A question that is about to end is ended by a signal, too.
        using (ServerProcess told = Cluster.StartFamfs("status", "--timeout", "600", path))
        {
            Cluster.Await("the verb asks", () => HasChild(told.Id));
            told.Signal("TERM");
            told.AwaitExit();
        }
        (int mounted, string refusal) = cluster.TryFamfs(["mount", "--host-state", cluster.StateOf("a"), "--master", master, .. cluster.Devices, path]);
        Assert.True(mounted == 4, refusal);
        daemon.Signal("CONT");
        left.ForEach(l => l.Dispose());
        cluster.Famfs("creat", "--size", "4K", path + "/d/f");
    }

    /// <summary>They touch content, in a process of their own that is left behind.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Verbs_that_touch_content_end_in_their_time_when_the_daemon_is_stopped_under_them(bool afterItHasRead)
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 4L << 30);
        (ServerProcess daemon, string path) = cluster.Mount("a", cluster.StartMaster("a").Address);
        string source = cluster.NewDirectory("source") + "/big";
        using (FileStream big = File.Create(source))
            big.SetLength(512L << 20);
        cluster.Famfs("creat", "--size", "512M", "--randomize", path + "/whole");
        foreach (string verb in (string[])["cp", "verify", "creat"])
        {
            // 150 requests are more than its questions, and less than its content. On a machine that is busy it may end before it is caught.
            int exit = 0;
            for (int i = 0; i < 10 && exit == 0; i++)
            {
                string[] line = verb switch
                {
                    "cp" => ["--jobs", "1", source, path + "/copy"],
                    "verify" => [path + "/whole"],
                    _ => ["--size", "512M", "--randomize", $"{path}/random{i}"],
                };
                long before = Requests(path);
                // What it costs to ask for the number.
                long cost = Requests(path) - before;
                int polls = 1;
                using ServerProcess running = Cluster.StartFamfs([verb, .. line, "--timeout", "4"]);
                Cluster.Await($"{verb} touching content", () => Requests(path) - before - (cost * polls++) > 150 || running.HasExited);
                daemon.Signal("STOP");
                for (int again = 0; afterItHasRead && again < 3; again++)
                {
                    // Caught between its reading of a request and the answer to it, sooner or later.
                    daemon.Signal("CONT");
                    daemon.Signal("STOP");
                }
                exit = running.AwaitExit();
                Assert.True(exit == 0 || (exit == 9 && running.Output.Contains($"the mount at {path} does not answer", StringComparison.Ordinal)), $"{verb}: {exit}: {running.Output}");
                // One that is to go on for long is ended by a signal.
                using (ServerProcess told = Cluster.StartFamfs("verify", "--timeout", "600", path + "/whole"))
                {
                    Cluster.Await("the verb works", () => HasChild(told.Id));
                    told.Signal("TERM");
                    told.AwaitExit();
                }
                daemon.Signal("CONT");
            }
            Assert.True(exit == 9, $"{verb} was never caught");
        }
        cluster.Famfs("verify", path + "/whole");
        cluster.Famfs("cp", source, path + "/copy");
        (int differs, string where) = cluster.TryFamfs("verify", "--seed", "1", path + "/whole");
        Assert.True(differs == 1 && where.Contains("byte 0 is", StringComparison.Ordinal), where);
        Assert.Contains("\"files\": 1", cluster.Famfs("cp", "--json", source, path + "/again"), StringComparison.Ordinal);
    }

    [Fact]
    public void Without_a_master_the_mount_answers_what_it_can_and_says_so()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 256L << 20);
        (ServerProcess process, string master) = cluster.StartMaster("a");
        string path = cluster.Mount("a", master).Path;
        cluster.Famfs("mkdir", path + "/d");
        cluster.Famfs("creat", "--size", "5000", "--mode", "640", path + "/d/f");
        ServerProcess other = cluster.Mount("b", master).Process;
        (ServerProcess ended, string third) = cluster.Mount("c", master);
        cluster.Famfs("umount", third);
        Assert.Equal(0, ended.AwaitExit());
        string map = cluster.Famfs("getmap", path + "/d/f");
        string list = cluster.Famfs("ls", "-R", path);
        process.Signal("KILL");
        process.AwaitExit();
        foreach ((string expected, string[] verb) in ((string, string[])[])
            [(map, ["getmap", path + "/d/f"]), (list, ["ls", "-R", path]), ("size      5000 bytes", ["stat", path + "/d/f"]), ("0640", ["stat", path + "/d/f"]), ("all", ["df", path])])
        {
            (int exit, string output) = cluster.TryFamfs([.. verb, "--timeout", "600"]);
            Assert.True(exit == 0, $"{verb[0]}: {exit}: {output}");
            Assert.Contains($"what follows is what the mount at {path} shows", output, StringComparison.Ordinal);
            foreach (string line in expected.Split('\n'))
                Assert.Contains(line, output, StringComparison.Ordinal);
        }
        // Another host's mount is alive, and one is gone.
        string hosts = cluster.Famfs("hosts", path, "--timeout", "600");
        Assert.Contains($"what follows is what the mount at {path} shows", hosts, StringComparison.Ordinal);
        Assert.Matches($@"(?m)^\S+ +{System.Text.RegularExpressions.Regex.Escape(path)} +live ", hosts);
        Assert.Matches(@"(?m)^\S+ +- +live ", hosts);
        Assert.DoesNotContain("clean_unmount", hosts, StringComparison.Ordinal);
        Assert.Contains("gone (clean_unmount)", cluster.Famfs("hosts", "--all", path, "--timeout", "600"), StringComparison.Ordinal);
        other.Signal("KILL");
        other.AwaitExit();
        Assert.Matches(@"(?m)^\S+ +- +silent ", cluster.Famfs("hosts", path, "--timeout", "600"));
        (int alone, string status) = cluster.TryFamfs("status", path, "--timeout", "600");
        Assert.True(alone == 6, status);
        foreach (string shown in (string[])["master       none answers", "space        512.0M", "devices      2 on this host"])
            Assert.Contains(shown, status, StringComparison.Ordinal);
        (int refused, string why) = cluster.TryFamfs("creat", "--size", "1", "--timeout", "1", path + "/g");
        Assert.True(refused == 6, why);
    }

    [Theory]
    [InlineData("TERM", "TERM")]
    [InlineData("INT", "TERM")]
    [InlineData("TERM", "INT", "HUP", "TERM")]
    public void Told_to_end_as_soon_as_the_mount_is_there_and_more_than_once_a_daemon_takes_it_away(params string[] signals)
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        string master = cluster.StartMaster("a").Address;
        for (int round = 0; round < 3; round++)
        {
            (ServerProcess daemon, string path) = cluster.LaunchMount("a", $"m{round}", master);
            Cluster.Await("the mount", () => IsMounted(path) || daemon.HasExited);
            foreach (string signal in signals)
                daemon.Signal(signal);
            Assert.True(daemon.AwaitExit() == 0, daemon.Output);
            Assert.False(IsMounted(path), daemon.Output);
        }
    }

    /// <summary>In each run 10 times, by FAMFS_SIGNAL_RUNS more often; a seed repeats the choice of moments and signals.</summary>
    [Fact]
    public void Told_to_end_at_any_moment_and_more_than_once_a_daemon_never_leaves_a_mount()
    {
        int runs = int.Parse(Environment.GetEnvironmentVariable("FAMFS_SIGNAL_RUNS") is { Length: > 0 } said ? said : "10", CultureInfo.InvariantCulture);
        int seed = int.Parse(Environment.GetEnvironmentVariable("FAMFS_SIGNAL_SEED") is { Length: > 0 } given ? given : Random.Shared.Next(1, int.MaxValue).ToString(CultureInfo.InvariantCulture), CultureInfo.InvariantCulture);
        Random random = new(seed);
        string[][] choices = [["INT", "TERM"], ["TERM", "TERM"], ["TERM", "INT", "HUP", "TERM"], ["HUP", "INT"], ["TERM"]];
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        string master = cluster.StartMaster("a").Address;
        string path = cluster.NewDirectory("m");
        int beforeItBegan = 0;
        for (int run = 0; run < runs; run++)
        {
            string[] signals = choices[random.Next(choices.Length)];
            int stage = random.Next(6);
            string told = $"seed {seed}, run {run}, stage {stage}, {string.Join(' ', signals)}";
            using ServerProcess daemon = new(Cluster.Program("Famfs.Fuse", "famfsd"), ["--host-state", cluster.StateOf("a"), .. cluster.DeviceArguments(), "--master", master, path]);
            // Somebody uses the mount meanwhile, and keeps it busy now and then.
            using ServerProcess user = new("/bin/sh", ["-c", "while [ -d \"$0\" ]; do ls -lR \"$0\" >/dev/null 2>&1; done", path]);
            Cluster.Await(told, () => daemon.HasExited || stage switch
            {
                0 => true,
                1 => Maps(daemon.Id).Contains("coreclr", StringComparison.Ordinal) || Maps(daemon.Id).Contains("famfsd", StringComparison.Ordinal),
                2 => Maps(daemon.Id).Contains("/dev/shm/", StringComparison.Ordinal),
                3 => IsMounted(path),
                4 => daemon.Output.Contains("mounted file system", StringComparison.Ordinal),
                _ => daemon.Output.Contains("registered in", StringComparison.Ordinal),
            });
            Thread.SpinWait(random.Next(2_000_000));
            foreach (string signal in signals)
                daemon.Signal(signal);
            int exit = daemon.AwaitExit();
            // A signal that came before its first line: it has done nothing.
            bool unbegun = exit is 129 or 130 or 143 && daemon.Output.Length == 0;
            Assert.True(exit == 0 || unbegun, $"{told}: {exit}: {daemon.Output}");
            Assert.False(IsMounted(path), $"{told}: {daemon.Output}");
            beforeItBegan += unbegun ? 1 : 0;
        }
        TestContext.Current.TestOutputHelper?.WriteLine($"seed {seed}: {runs} runs, {beforeItBegan} ended before they began, no mount left");
    }

    [Fact]
    public void A_mount_command_returns_when_files_can_be_opened()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        string master = cluster.StartMaster("a").Address;
        string a = cluster.Famfs(["mount", "--host-state", cluster.StateOf("a"), "--master", master, .. cluster.Devices, cluster.NewDirectory("a")]).Trim();
        cluster.Famfs("creat", "--size", "4K", a + "/f");
        string b = cluster.Famfs(["mount", "--host-state", cluster.StateOf("b"), "--master", master, .. cluster.Devices, cluster.NewDirectory("b")]).Trim();
        using (File.OpenRead(b + "/f"))
            cluster.Famfs("wait", a);
        // Without a master in reach it is said why they cannot.
        (int exit, string output) = cluster.TryFamfs(["mount", "--host-state", cluster.StateOf("c"), "--master", "http://127.0.0.1:1", .. cluster.Devices, cluster.NewDirectory("c")]);
        Assert.True(exit == 0, output);
    }

    [Fact]
    public void A_running_daemon_reports_an_older_mount_of_its_host_when_the_last_holder_of_it_ends()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        string master = cluster.StartMaster("a").Address;
        (ServerProcess old, string first) = cluster.Mount("a", master);
        using ServerProcess holder = new("/bin/sh", ["-c", "cd \"$0\" && echo inside && read line", first], redirectInput: true);
        holder.Await("inside");
        old.Signal("KILL");
        old.AwaitExit();
        cluster.Famfs("umount", first);
        (ServerProcess second, string path) = cluster.LaunchMount("a", "second", master);
        second.Await("registered in the host table");
        cluster.Famfs("creat", "--size", "4K", path + "/f");
        (int exit, string output) = cluster.TryFamfs("wait", "--timeout", "1", path);
        Assert.True(exit == 9, output);
        holder.Signal("KILL");
        holder.AwaitExit();
        cluster.Famfs("wait", "--timeout", "120", path);
    }

    private static bool HasChild(int process) => Directory.EnumerateDirectories("/proc").Any(p =>
    {
        try
        {
            // pid (name) state ppid …
            string stat = File.ReadAllText(p + "/stat");
            return stat[(stat.LastIndexOf(')') + 2)..].Split(' ')[1] == process.ToString(CultureInfo.InvariantCulture);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            return false; // no process, or it has ended
        }
    });

    private static long Requests(string path) => long.Parse(Core.Interop.PathAttributes.Read(path, "user.famfs.requests")!, CultureInfo.InvariantCulture);

    // What a process has mapped; nothing when it has ended.
    private static string Maps(int process)
    {
        try
        {
            return File.ReadAllText($"/proc/{process}/maps");
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            return "";
        }
    }

    private static bool IsMounted(string path) => File.ReadAllText("/proc/self/mounts").Contains($" {path} ", StringComparison.Ordinal);
}
