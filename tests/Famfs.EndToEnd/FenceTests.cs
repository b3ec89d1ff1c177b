using System.Globalization;
using System.Runtime.Versioning;
using Xunit;

namespace Famfs.EndToEnd;

/// <summary>A fence command's exit code 0 gives the space of a silent host's files back; nothing else that it does (SAFETY S14).</summary>
[SupportedOSPlatform("linux")]
public sealed class FenceTests
{
    [Fact]
    public void What_a_silent_host_holds_is_reused_when_the_command_has_fenced_it()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64 * ReuseTests.MiB);
        string fenced = Path.Combine(cluster.NewDirectory("fence"), "fenced");
        string pid = Path.Combine(cluster.NewDirectory("fence"), "pid");
        // The file of the process id comes when the test lets it.
        string command = Script(cluster, $"env | grep ^FAMFS_FENCE_ > {fenced}.new; kill -9 $(cat {pid}) && mv {fenced}.new {fenced} && echo switched off");
        (ServerProcess master, string address) = cluster.StartMaster("a", "--fence-command", command, "--fence-after", "6");
        string a = cluster.Mount("a", address).Path;
        (ServerProcess daemon, string b) = cluster.Mount("b", address);
        ReuseTests.Create(cluster, $"{a}/f");
        ReuseTests.Fill($"{a}/f", 1);
        using (FileStream open = File.OpenRead($"{b}/f"))
        {
            File.WriteAllText(pid, daemon.Id.ToString(CultureInfo.InvariantCulture));
            daemon.Signal("STOP");
            cluster.Famfs("rm", $"{a}/f");
            ReuseTests.Create(cluster, $"{a}/g");
            Assert.True(File.Exists(fenced), "there is space although nobody was fenced");
            Assert.Throws<IOException>(() => open.ReadByte());
        }
        Assert.Equal(0, ReuseTests.Count($"{a}/g", x => x != 0));
        master.Await("is gone: fence command, code 0");
        Assert.Contains("switched off", master.Output, StringComparison.Ordinal);
        string told = File.ReadAllText(fenced);
        Assert.Contains($"{b}\n", told, StringComparison.Ordinal);
        Assert.Contains($"FAMFS_FENCE_BOOT_ID={File.ReadAllText("/proc/sys/kernel/random/boot_id").Trim()}\n", told, StringComparison.Ordinal);
        Assert.Contains("gone (fenced)", cluster.Famfs("hosts", "--all", a), StringComparison.Ordinal);
        // It comes back as another mount.
        cluster.TryFamfs("umount", b);
        b = cluster.Mount("b", address).Path;
        Assert.Equal(0, ReuseTests.Count($"{b}/g", x => x != 0));
    }

    [Theory]
    [InlineData("exit 1", "ended with code 1")]
    [InlineData("exec sleep 1000", "did not end within 1 s")]
    [InlineData("", "cannot be started")]
    public void Nothing_is_reused_when_the_command_has_failed(string script, string failure)
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64 * ReuseTests.MiB);
        string command = script.Length > 0 ? Script(cluster, script) : Path.Combine(cluster.NewDirectory("fence"), "missing");
        (ServerProcess master, string address) = cluster.StartMaster("a", "--fence-command", command, "--fence-after", "6", "--fence-timeout", "1");
        if (script.Length == 0)
            master.Await("is not there; it is tried all the same");
        string a = cluster.Mount("a", address).Path;
        (ServerProcess daemon, string b) = cluster.Mount("b", address);
        ReuseTests.Create(cluster, $"{a}/f");
        ReuseTests.Fill($"{a}/f", 1);
        using FileStream open = File.OpenRead($"{b}/f");
        daemon.Signal("STOP");
        cluster.Famfs("rm", $"{a}/f");
        master.Await(failure);
        Assert.Contains(b, ReuseTests.Refusal(cluster, $"{a}/g", until: "silent for"), StringComparison.Ordinal);
        daemon.Signal("CONT");
        Cluster.Await("the name is gone there", () => !File.Exists($"{b}/f"));
        Assert.Contains("has 1 file open", ReuseTests.Refusal(cluster, $"{a}/g", until: "has 1 file open"), StringComparison.Ordinal);
        Assert.Equal(80 * ReuseTests.MiB, ReuseTests.Count(open, x => x == 1));
        Assert.DoesNotContain("gone (fenced)", cluster.Famfs("hosts", "--all", a), StringComparison.Ordinal);
    }

    [Fact]
    public void A_command_ends_with_its_master()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64 * ReuseTests.MiB);
        string pid = Path.Combine(cluster.NewDirectory("fence"), "pid");
        string command = Script(cluster, $"echo $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 1000");
        (ServerProcess master, string address) = cluster.StartMaster("a", "--fence-command", command, "--fence-after", "5", "--fence-timeout", "3600");
        string a = cluster.Mount("a", address).Path;
        (ServerProcess daemon, string b) = cluster.Mount("b", address);
        ReuseTests.Create(cluster, $"{a}/f");
        using (File.OpenRead($"{b}/f"))
        {
            daemon.Signal("KILL");
            daemon.AwaitExit();
            cluster.Famfs("rm", $"{a}/f");
            Cluster.Await("the command runs", () => File.Exists(pid));
        }
        master.Signal("TERM");
        Assert.Equal(0, master.AwaitExit());
        string id = File.ReadAllText(pid).Trim();
        Cluster.Await("the command has ended", () => !Directory.Exists($"/proc/{id}"));
    }

    [Theory]
    [InlineData("must be the absolute path", "--fence-command", "fence")]
    [InlineData("--fence-after 4: must be 5 to 86400 seconds", "--fence-command", "/bin/true", "--fence-after", "4")]
    [InlineData("--fence-after 86401: must be 5 to 86400 seconds", "--fence-command", "/bin/true", "--fence-after", "86401")]
    [InlineData("--fence-timeout 0: must be 1 to 3600 seconds", "--fence-command", "/bin/true", "--fence-timeout", "0")]
    [InlineData("--fence-timeout 1m: must be 1 to 3600 seconds", "--fence-command", "/bin/true", "--fence-timeout", "1m")]
    [InlineData("--fence-after: needs --fence-command", "--fence-after", "60")]
    public void Wrong_words_are_refused(string refusal, params string[] arguments)
    {
        using ServerProcess master = new(Cluster.Program("Famfs.Master", "famfs-master"), ["--device", "/dev/null", .. arguments]);
        Assert.Equal(1, master.AwaitExit());
        Assert.Contains(refusal, master.Output, StringComparison.Ordinal);
    }

    private static string Script(Cluster cluster, string script)
    {
        string path = Path.Combine(cluster.NewDirectory("fence"), "fence.sh");
        // Written by another process: a file that is open for writing while this one starts a program cannot be executed.
        using ServerProcess write = new("/bin/sh", ["-c", "printf '#!/bin/sh\\n%s\\n' \"$1\" > \"$2\" && chmod 755 \"$2\"", "sh", script, path]);
        Assert.True(write.AwaitExit() == 0, write.Output);
        return path;
    }
}
