using Famfs.Client;
using Famfs.Core.Check;
using Famfs.Core.Format;
using Famfs.Famfs2.Codec;
using Famfs.V1;
using Xunit;

namespace Famfs.EndToEnd;

/// <summary>A famfs-2 file system with real masters, daemons and mounts.</summary>
[System.Runtime.Versioning.SupportedOSPlatform("linux")]
[Trait("Programs", "Both")]
public sealed class Famfs2Tests : IDisposable
{
    private const string Ready = "has no host table";

    private readonly string _systems = Directory.CreateTempSubdirectory("famfs-system-").FullName;

    public void Dispose() => Directory.Delete(_systems, recursive: true);

    [Fact]
    public async Task Files_made_on_famfs_2_are_on_both_hosts_with_their_content_and_outlive_master_and_mounts()
    {
        using Cluster cluster = Cluster.Create(1L << 30, "--format", "famfs-2", "--loglen", "16M", "--system-uuid-file", SystemOf("a"));
        (ServerProcess process, string address) = cluster.StartMaster("a", "--system-uuid-file", SystemOf("a"));
        (ServerProcess mounted, string a) = cluster.MountWhen(Ready, "a", address);
        (ServerProcess mountedB, string b) = cluster.MountWhen(Ready, "b", address);
        cluster.Famfs("mkdir", "-p", "--mode", "750", Path.Combine(a, "d/e"));
        cluster.Famfs("creat", "--size", "5M", "--interleave", "2", Path.Combine(a, "d/e/f"));
        byte[] content = new byte[5 << 20];
        Assert.Equal(content, File.ReadAllBytes(Path.Combine(a, "d/e/f")));
        new Random(1).NextBytes(content);
        using (FileStream file = File.OpenWrite(Path.Combine(a, "d/e/f")))
            file.Write(content);
        using (FamfsClient client = Cluster.Connect(address))
        {
            Assert.Equal(2u, (await client.BarrierAsync(new(), cancel: TestContext.Current.CancellationToken)).MountCount);
            GetStatusReply status = await client.GetStatusAsync(cancel: TestContext.Current.CancellationToken);
            Assert.Equal("famfs-2", status.Format);
            Assert.Contains(status.Warnings, w => w.Contains("one writer", StringComparison.Ordinal));
        }
        Assert.Equal(content, File.ReadAllBytes(Path.Combine(b, "d/e/f")));
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute | UnixFileMode.GroupRead | UnixFileMode.GroupExecute, File.GetUnixFileMode(Path.Combine(b, "d/e")));
        (int exit, string output) = cluster.TryFamfs("rm", Path.Combine(a, "d/e/f"));
        Assert.Equal(10, exit);
        Assert.Contains("native", output, StringComparison.Ordinal);

        // Online, through the mount and through the master.
        Assert.Contains("0 error(s)", cluster.Famfs("check", b), StringComparison.Ordinal);
        Assert.Contains("0 error(s)", cluster.Famfs("check", "--master", address), StringComparison.Ordinal);
        Assert.Contains("a master of this host is running", cluster.TryFamfs(["migrate", "--system-uuid-file", SystemOf("a"), "--host-state", cluster.StateOf("a"), .. cluster.Devices]).Output, StringComparison.Ordinal);

        // The master dies; both mounts go on, a mount made anew needs none, and the next master goes on behind.
        process.Signal("KILL");
        process.AwaitExit();
        cluster.Famfs("umount", a);
        mounted.AwaitExit();
        (mounted, a) = cluster.MountWhen(Ready, "a", address);
        Assert.Equal(content, File.ReadAllBytes(Path.Combine(a, "d/e/f")));
        (int refused, string why) = Exit(cluster.LaunchMaster("b", "--system-uuid-file", SystemOf("b")).Process);
        Assert.Equal(1, refused);
        Assert.Contains("--take-over", why, StringComparison.Ordinal);
        (ServerProcess last, string next) = cluster.StartMaster("b", "--system-uuid-file", SystemOf("b"), "--take-over");
        cluster.Famfs("--master", next, "creat", "--size", "1", "d/g");
        Cluster.Await("the mount showing the file", () => File.Exists(Path.Combine(b, "d/g")));
        CheckResult check = cluster.Check();
        Assert.Empty(check.Findings);
        Assert.Equal((2L, 3L), (check.Files, check.Directories));

        // Unmounted everywhere and without a master it becomes native, and the file is what it was.
        last.Signal("TERM");
        last.AwaitExit();
        cluster.Famfs("umount", a);
        mounted.AwaitExit();
        (int inUse, string mountedStill) = cluster.TryFamfs(["migrate", "--system-uuid-file", SystemOf("b"), "--host-state", cluster.StateOf("a"), .. cluster.Devices]);
        Assert.Equal(4, inUse);
        Assert.Contains("is in use by a master, a mount or a tool of this host", mountedStill, StringComparison.Ordinal);
        cluster.Famfs("umount", b);
        mountedB.AwaitExit();
        cluster.Famfs(["migrate", "--system-uuid-file", SystemOf("b"), "--host-state", cluster.StateOf("a"), .. cluster.Devices]);
        address = cluster.StartMaster("a").Address;
        a = cluster.Mount("a", address).Path;
        Assert.Equal(content, File.ReadAllBytes(Path.Combine(a, "d/e/f")));
        cluster.Famfs("creat", "--size", "1", Path.Combine(a, "d/h"));
        Assert.Empty(cluster.Check().Findings);
    }

    [Theory]
    [InlineData("damaged")]
    [InlineData("of an undefined type")]
    public void A_log_with_an_entry_that_cannot_be_read_is_mounted_read_only_with_what_comes_before_it(string what)
    {
        using Cluster cluster = Cluster.Create(1L << 30, "--format", "famfs-2", "--system-uuid-file", SystemOf("a"));
        (ServerProcess process, string address) = cluster.StartMaster("a", "--system-uuid-file", SystemOf("a"));
        cluster.Famfs("--master", address, "creat", "--size", "1", "good");
        cluster.Famfs("--master", address, "creat", "--size", "1", "bad");
        process.Signal("TERM");
        process.AwaitExit();
        using (FileStream device = File.Open(cluster.Devices[0], FileMode.Open))
        {
            // Entry 0 is the second device.
            byte[] entry = new byte[Famfs2Entry.Size];
            device.Position = Famfs2Layout.EntryOffset(2);
            device.ReadExactly(entry);
            entry[what == "damaged" ? 50 : 8] = 2;
            if (what != "damaged")
                BitConverter.TryWriteBytes(entry.AsSpan(Famfs2Layout.EntryCrcOffset), (ulong)Crc32.Compute(entry.AsSpan(0, Famfs2Layout.EntryCrcOffset)));
            device.Position = Famfs2Layout.EntryOffset(2);
            device.Write(entry);
        }
        string mount = cluster.MountWhen("mounting read-only", "a", address).Path;
        Cluster.Await("the mount", () => File.Exists(Path.Combine(mount, "good")));
        Assert.False(File.Exists(Path.Combine(mount, "bad")));
        Assert.ThrowsAny<Exception>(() => File.OpenWrite(Path.Combine(mount, "good")).Dispose());
        Assert.Equal([0], File.ReadAllBytes(Path.Combine(mount, "good")));
        (int exit, string output) = Exit(cluster.LaunchMaster("a", "--system-uuid-file", SystemOf("a")).Process);
        Assert.Equal(1, exit);
        Assert.Contains("entry 2", output, StringComparison.Ordinal);
    }

    [Fact]
    public void A_mount_says_that_entries_have_no_effect_and_shows_the_others()
    {
        using Cluster cluster = Cluster.Create(1L << 30, "--format", "famfs-2", "--system-uuid-file", SystemOf("a"));
        using (FileStream device = File.OpenWrite(cluster.Devices[0]))
        {
            // Entry 0 is the second device.
            byte[] entry = new byte[Famfs2Entry.Size];
            foreach ((ulong index, string path) in new[] { (1UL, "../escape"), (2UL, "good") })
            {
                new Famfs2Directory { Path = System.Text.Encoding.ASCII.GetBytes(path), Mode = 0x1ED }.Format(entry, index);
                device.Position = Famfs2Layout.EntryOffset(index);
                device.Write(entry);
            }
            device.Position = Famfs2Layout.LogOffset;
            byte[] header = new byte[Famfs2LogHeader.Size];
            new Famfs2LogHeader(Famfs2Layout.MinLogBytes, 3, 3).Format(header);
            device.Write(header);
        }
        (ServerProcess daemon, string mount) = cluster.MountWhen("mounted file system", "a", "http://127.0.0.1:1");
        Assert.Equal([Path.Combine(mount, "good")], Directory.GetFileSystemEntries(mount));
        Assert.Contains("1 entries of the log have no effect here", daemon.Output, StringComparison.Ordinal);
        Assert.Equal(["path-component"], cluster.Check().Findings.Select(f => f.Code));
    }

    [Fact]
    public void Migrate_and_repair_refuse_beside_a_master_and_migrate_beside_a_mount()
    {
        using Cluster cluster = Cluster.Create(1L << 30, "--format", "famfs-2", "--system-uuid-file", SystemOf("a"));
        string[] migrate = ["migrate", "--host-state", cluster.StateOf("a"), "--system-uuid-file", SystemOf("a"), .. cluster.Devices];
        (ServerProcess master, string address) = cluster.StartMaster("a", "--system-uuid-file", SystemOf("a"));
        (int exit, string output) = cluster.TryFamfs(migrate);
        Assert.True(exit == 4 && output.Contains("a master of this host is running", StringComparison.Ordinal), $"{exit}: {output}");
        (ServerProcess daemon, string mount) = cluster.MountWhen("mounted file system", "a", address);
        cluster.Famfs("creat", "--size", "1", Path.Combine(mount, "f"));
        // Looking is allowed beside both.
        Assert.Contains("0 error(s)", cluster.Famfs(["check", .. cluster.Devices]), StringComparison.Ordinal);
        Assert.Contains("0 error(s)", cluster.Famfs("check", mount), StringComparison.Ordinal);
        master.Signal("TERM");
        master.AwaitExit();
        (exit, output) = cluster.TryFamfs(migrate);
        Assert.True(exit == 4 && output.Contains("is in use by a master, a mount or a tool of this host", StringComparison.Ordinal), $"{exit}: {output}");
        cluster.Famfs("umount", mount);
        daemon.AwaitExit();
        cluster.Famfs(migrate);
        Assert.Contains("native, 1 file(s)", cluster.Famfs(["check", .. cluster.Devices]), StringComparison.Ordinal);
    }

    private static (int Exit, string Output) Exit(ServerProcess process) => (process.AwaitExit(), process.Output);

    private string SystemOf(string host) => Path.Combine(_systems, host, "system_uuid");
}
