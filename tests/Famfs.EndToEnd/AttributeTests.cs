using System.Diagnostics;
using System.Runtime.Versioning;
using Famfs.Core.Interop;
using Xunit;

namespace Famfs.EndToEnd;

/// <summary>Attributes that the command changes, as another host's kernel shows them.</summary>
[SupportedOSPlatform("linux")]
public sealed class AttributeTests
{
    private const uint Nobody = 65534;

    [Fact]
    public void Mode_owner_times_and_attributes_reach_every_kernel_and_outlive_the_master()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        (ServerProcess master, string address) = cluster.StartMaster("a");
        string a = cluster.Mount("a", address).Path;
        string b = cluster.Mount("b", address).Path;
        cluster.Famfs("mkdir", Path.Combine(a, "d"));
        cluster.Famfs("creat", "--size", "4096", "--wait", "all", Path.Combine(a, "d", "f"));
        // Kernels know the old attributes now.
        Assert.Equal(0x1A4u, FileStatus.Read(Path.Combine(b, "d", "f"), true).Mode);
        using (FileStream file = new(Path.Combine(b, "d", "f"), FileMode.Open, FileAccess.Write))
            file.Write("content"u8);

        cluster.Famfs("chmod", "u+x,o=", "--wait", "all", Path.Combine(a, "d", "f"));
        cluster.Famfs("chown", "7:8", "--wait", "all", Path.Combine(a, "d", "f"));
        cluster.Famfs("touch", "-d", "2001-02-03T04:05:06Z", "--wait", "all", Path.Combine(a, "d", "f"));
        cluster.Famfs("chown", "-R", ":daemon", "--wait", "all", Path.Combine(a, "d"));

        FileStatus expected = FileStatus.Read(Path.Combine(a, "d", "f"), true);
        Assert.Equal((0x1E0u, 7u, 1u, 981173106_000_000_000L, 981173106_000_000_000L), (expected.Mode, expected.Uid, expected.Gid, expected.ModifyTimeNs, expected.AccessTimeNs));
        Assert.Equal(1u, FileStatus.Read(Path.Combine(b, "d"), true).Gid);
        Assert.Equal(expected with { Device = 0 }, FileStatus.Read(Path.Combine(b, "d", "f"), true) with { Device = 0 });
        Assert.StartsWith("content", File.ReadAllText(Path.Combine(a, "d", "f")), StringComparison.Ordinal);

        master.Signal("KILL");
        master.AwaitExit();
        string c = cluster.Mount("c", cluster.StartMaster("a").Address).Path;
        Assert.Equal(expected with { Device = 0 }, FileStatus.Read(Path.Combine(c, "d", "f"), true) with { Device = 0 });
    }

    [Fact]
    public void A_wrong_owner_mode_time_or_path_is_named_and_the_others_are_changed()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        string a = cluster.Mount("a", cluster.StartMaster("a").Address).Path;
        cluster.Famfs("creat", "--size", "1", Path.Combine(a, "f"));
        Refused(cluster, 2, "no-such-user", "chown", "no-such-user", Path.Combine(a, "f"));
        Refused(cluster, 2, "no-such-group", "chown", ":no-such-group", Path.Combine(a, "f"));
        Refused(cluster, 2, "'u+q'", "chmod", "u+q", Path.Combine(a, "f"));
        Refused(cluster, 2, "'yesterday-ish'", "touch", "-d", "yesterday-ish", Path.Combine(a, "f"));
        Refused(cluster, 3, "none", "chmod", "600", Path.Combine(a, "none"), Path.Combine(a, "f"));
        Assert.Equal(0x180u, FileStatus.Read(Path.Combine(a, "f"), true).Mode);
    }

    [Theory]
    [InlineData("444")]
    [InlineData("400")]
    [InlineData("555")]
    [InlineData("4755")]
    public void A_source_that_nobody_may_write_is_copied_whole_by_an_ordinary_user(string mode)
    {
        Assert.SkipUnless(ProcessOwner.Uid == 0, "needs root, to become an ordinary user");
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        string master = "unix:" + Path.Combine(cluster.NewDirectory("run"), "socket");
        cluster.StartMasterAt("a", master);
        string a = cluster.Mount("a", master).Path;
        cluster.Famfs("chmod", "1777", a);
        string source = Path.Combine(Directory.CreateTempSubdirectory("famfs-copied-").FullName, "source");
        try
        {
            File.WriteAllText(source, "content of " + mode);
            Run("chown", "-R", $"{Nobody}:{Nobody}", Path.GetDirectoryName(source)!);
            Run("chmod", mode, source);
            RunAsNobody("cp", source, Path.Combine(a, "copy"));
            RunAsNobody("cp", "-p", source, Path.Combine(a, "kept"));
            Assert.Equal("content of " + mode, File.ReadAllText(Path.Combine(a, "copy")));
            FileStatus copy = FileStatus.Read(Path.Combine(a, "copy"), true);
            FileStatus kept = FileStatus.Read(Path.Combine(a, "kept"), true);
            uint bits = Convert.ToUInt32(mode, 8);
            Assert.Equal((bits & 0x1FF, Nobody, Nobody), (copy.Mode, copy.Uid, copy.Gid));
            Assert.Equal((bits, Nobody, FileStatus.Read(source, true).ModifyTimeNs), (kept.Mode, kept.Uid, kept.ModifyTimeNs));
            // Nothing is left to write, so it need not be writable.
            RunAsNobody("cp", source, Path.Combine(a, "copy"));
        }
        finally
        {
            Directory.Delete(Path.GetDirectoryName(source)!, recursive: true);
        }
    }

    [Fact]
    public void What_cannot_be_copied_is_named_and_the_rest_arrives()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        string a = cluster.Mount("a", cluster.StartMaster("a").Address).Path;
        string source = cluster.NewDirectory("source");
        File.WriteAllText(Path.Combine(source, "file"), "content");
        File.WriteAllText(Path.Combine(source, "empty"), "");
        Run("mkfifo", Path.Combine(source, "fifo"));
        File.CreateSymbolicLink(Path.Combine(source, "loop"), source);
        Run("setfattr", "-n", "user.kind", "-v", "test", Path.Combine(source, "file"));

        (int exit, string output) = cluster.TryFamfs("cp", "-r", "-p", source, Path.Combine(a, "copy"));
        Assert.Equal(1, exit);
        foreach (string name in new[] { "empty", "fifo", "loop" })
            Assert.Contains(Path.Combine(source, name), output, StringComparison.Ordinal);
        Assert.Equal("content", File.ReadAllText(Path.Combine(a, "copy", "file")));
        Assert.Equal("test", PathAttributes.Read(Path.Combine(a, "copy", "file"), "user.kind"));
        Assert.Equal(FileStatus.Read(source, true).ModifyTimeNs, FileStatus.Read(Path.Combine(a, "copy"), true).ModifyTimeNs);

        Refused(cluster, 1, "is not a directory", "cp", Path.Combine(source, "file"), Path.Combine(a, "newdir") + "/");
        Assert.False(File.Exists(Path.Combine(a, "newdir")));
        Refused(cluster, 2, "into itself", "cp", "-r", Path.Combine(a, "copy"), Path.Combine(a, "copy", "deeper"));
        Refused(cluster, 2, "plain cp", "cp", Path.Combine(a, "copy", "file"), cluster.NewDirectory("out"));
        string other = cluster.NewDirectory("other");
        File.WriteAllText(Path.Combine(other, "file"), "another");
        Refused(cluster, 1, "will not overwrite just-created", "cp", Path.Combine(source, "file"), Path.Combine(other, "file"), a);
        Assert.Equal("content", File.ReadAllText(Path.Combine(a, "file")));
        Assert.Contains("would copy 1 file(s)", cluster.Famfs("cp", "--dry-run", Path.Combine(other, "file"), Path.Combine(a, "dry")), StringComparison.Ordinal);
        Assert.False(File.Exists(Path.Combine(a, "dry")));
    }

    private static void Refused(Cluster cluster, int code, string named, params string[] arguments)
    {
        (int exit, string output) = cluster.TryFamfs(arguments);
        Assert.True(exit == code && output.Contains(named, StringComparison.Ordinal), $"famfs {string.Join(' ', arguments)}: {exit}, {output}");
    }

    /// <summary>As a user who may write nothing that is not its own. It may reach the programs and the mount, though the directories
    /// above them are this test's own.</summary>
    private static void RunAsNobody(params string[] arguments) =>
        Run("setpriv",
        [
            "--reuid", $"{Nobody}", "--regid", $"{Nobody}", "--clear-groups",
            "--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search",
            Cluster.Program("Famfs.Cli", "famfs"), .. arguments,
        ]);

    private static void Run(string program, params string[] arguments)
    {
        using Process process = Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardError = true, RedirectStandardOutput = true })!;
        Task<string> output = process.StandardOutput.ReadToEndAsync();
        string error = process.StandardError.ReadToEnd();
        process.WaitForExit();
        Assert.True(process.ExitCode == 0, $"{program} {string.Join(' ', arguments)}: {process.ExitCode}, {error}{output.Result}");
    }
}
