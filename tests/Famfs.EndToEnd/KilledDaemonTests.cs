using System.Runtime.InteropServices;
using System.Runtime.Versioning;
using Xunit;

namespace Famfs.EndToEnd;

/// <summary>A daemon that is killed while one of its threads waits in the kernel, where no signal reaches it.</summary>
[SupportedOSPlatform("linux")]
public sealed class KilledDaemonTests
{
    private const string Python = "/usr/bin/python3";

    [Fact]
    public void Programs_of_its_mount_get_errors_and_do_not_wait_for_ever()
    {
        Assert.SkipUnless(File.Exists(Python), "python3 is not there");
        Assert.SkipUnless(RuntimeInformation.ProcessArchitecture == Architecture.X64, "the script that holds a directory's lock has the numbers of x86-64");
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        string address = cluster.StartMaster("a").Address;
        string a = cluster.Mount("a", address).Path;
        (ServerProcess daemon, string b) = cluster.Mount("b", address);
        cluster.Famfs("mkdir", "--wait", "all", $"{a}/d");
        using ServerProcess lister = new(Python, ["-B", Path.Combine(AppContext.BaseDirectory, "Python", "hold_directory.py"), $"{b}/d"], redirectInput: true);
        try
        {
            Cluster.Await("the list begins", () => lister.HasExited || lister.Output.Contains("ready", StringComparison.Ordinal));
            Assert.SkipWhen(lister.HasExited, $"no program can be held where it lists a directory here: {lister.Output.Trim()}");
            lister.CloseInput();
            Cluster.Await("the lock is held", () => File.ReadAllText($"/proc/{lister.Id}/syscall").StartsWith("217 ", StringComparison.Ordinal));
            cluster.Famfs("creat", "--size", "1", $"{a}/d/f");
            // The kernel is told of the new name, and waits for the lock.
            Cluster.Await("the daemon waits in the kernel", () => StateOf(daemon.Id, "fuse-notify") == 'D');
            daemon.Signal("KILL");
            Cluster.Await("it is as good as dead", () => StateOf(daemon.Id, null) == 'Z');
            using ServerProcess stat = new("stat", [$"{b}/nothing"]);
            Assert.NotEqual(0, stat.AwaitExit());
            Assert.Matches("not connected|connection abort", stat.Output);
            // That it was ended is not because the thread came back.
            Assert.Equal('D', StateOf(daemon.Id, "fuse-notify"));
            Cluster.Await("the log says so", () => daemon.Output.Contains("was killed while the kernel waited for it", StringComparison.Ordinal));
        }
        finally
        {
            lister.Signal("KILL");
        }
        daemon.AwaitExit();
        cluster.Famfs("umount", b);
    }

    [Fact]
    public void Nothing_of_a_daemon_is_left_that_ends_or_is_killed()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        string address = cluster.StartMaster("a").Address;
        foreach (string signal in (string[])["TERM", "KILL"])
        {
            (ServerProcess daemon, string b) = cluster.Mount("b", address);
            int[] guards = [];
            Cluster.Await("it has a guard", () => (guards = GuardsOf(daemon.Id)).Length == 1);
            daemon.Signal(signal);
            daemon.AwaitExit();
            Cluster.Await("the guard has ended", () => !Directory.Exists($"/proc/{guards[0]}"));
            if (signal == "KILL")
                cluster.Famfs("umount", b);
        }
    }

    /// <summary>State of a thread as /proc shows it, by name or the first of the process; ' ' when it is not there.</summary>
    private static char StateOf(int process, string? thread)
    {
        string tasks = $"/proc/{process}/task";
        try
        {
            foreach (string task in thread is null ? [$"{tasks}/{process}"] : Directory.GetDirectories(tasks))
            {
                // The name is in parentheses, and may have any of them in it.
                string stat = File.Exists($"{task}/stat") ? File.ReadAllText($"{task}/stat") : "";
                int end = stat.LastIndexOf(')');
                if (end >= 0 && (thread is null || stat[(stat.IndexOf('(', StringComparison.Ordinal) + 1)..end] == thread))
                    return stat[end + 2];
            }
        }
        catch (IOException)
        {
            // A thread has ended between two looks.
        }
        return ' ';
    }

    private static int[] GuardsOf(int daemon) =>
        [.. Directory.EnumerateDirectories("/proc").Select(Path.GetFileName).Where(name => int.TryParse(name, out _)).Select(int.Parse!).Where(id => IsGuardOf(id, daemon))];

    private static bool IsGuardOf(int process, int daemon)
    {
        try
        {
            return File.ReadAllText($"/proc/{process}/cmdline").Split('\0') is [_, "--famfs-guard", var of, ..] && of == $"{daemon}";
        }
        catch (IOException)
        {
            return false; // it has ended
        }
    }
}
