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

    [Fact]
    public void Without_a_master_the_mount_answers_what_it_can_and_says_so()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 256L << 20);
        (ServerProcess process, string master) = cluster.StartMaster("a");
        string path = cluster.Mount("a", master).Path;
        cluster.Famfs("mkdir", path + "/d");
        cluster.Famfs("creat", "--size", "5000", "--mode", "640", path + "/d/f");
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

    private static bool IsMounted(string path) => File.ReadAllText("/proc/self/mounts").Contains($" {path} ", StringComparison.Ordinal);
}
