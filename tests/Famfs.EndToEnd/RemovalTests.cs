using System.Diagnostics;
using System.Globalization;
using System.Runtime.Versioning;
using Famfs.Client;
using Famfs.Core.Check;
using Famfs.Core.Log;
using Famfs.V1;
using Xunit;

namespace Famfs.EndToEnd;

/// <summary>Files that are removed, renamed and replaced, with real mounts on a stock kernel.</summary>
[SupportedOSPlatform("linux")]
public sealed class RemovalTests(ITestOutputHelper output)
{
    /// <summary>What the programs of a test begin with.</summary>
    private const string Prelude = """
        import errno, mmap, os, subprocess, sys
        famfs, a, b = sys.argv[1:4]
        def run(*words): subprocess.run([famfs, *words], check=True)
        def fails(expected, act):
            try: act()
            except OSError as e: assert e.errno in (expected if isinstance(expected, tuple) else (expected,)), (errno.errorcode[e.errno], expected); return
            raise AssertionError("no error")
        class Held:
            "A file that is open and mapped."
            def __init__(self, path, byte):
                self.byte = byte
                self.fd = os.open(path, os.O_RDWR)
                self.map = mmap.mmap(self.fd, 8192)
            def check(self, links):
                assert os.fstat(self.fd).st_nlink == links, os.fstat(self.fd)
                assert os.fstat(self.fd).st_size == 8192
                for at in (0, 8191):
                    assert os.pread(self.fd, 1, at) == self.byte, (at, os.pread(self.fd, 1, at))
                    assert self.map[at:at + 1] == self.byte
            def write(self):
                # What is gone for others is a file all the same for who has it.
                assert os.pwrite(self.fd, self.byte, 100) == 1
                self.map[200:201] = self.byte
                self.map.flush()
        def fill(path, byte):
            run("creat", "--size", "8192", "--wait", "all", path)
            with open(path, "r+b") as f: f.write(byte * 8192)

        """;

    [Fact]
    public void A_removed_file_is_gone_on_both_hosts_and_who_has_it_open_or_mapped_keeps_it()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        string address = cluster.StartMaster("a").Address;
        (string a, string b) = (cluster.Mount("a", address).Path, cluster.Mount("b", address).Path);
        Python(a, b, """
            fill(a + "/f", b"1")
            # Both kernels know the name, the attributes, and that there is no other.
            for m in (a, b):
                assert os.stat(m + "/f").st_nlink == 1 and os.listdir(m) == ["f"]
                assert not os.path.exists(m + "/g")
            here, there = Held(a + "/f", b"1"), Held(b + "/f", b"1")
            inode = os.stat(a + "/f").st_ino
            run("rm", "--wait", "all", a + "/f")
            for m in (a, b):
                fails(errno.ENOENT, lambda: os.stat(m + "/f"))
                fails(errno.ENOENT, lambda: os.open(m + "/f", os.O_RDONLY))
                assert os.listdir(m) == []
            for held in (here, there): held.check(0)
            # The same name again is another file, in other memory.
            fill(b + "/f", b"2")
            assert os.stat(a + "/f").st_ino != inode
            for held in (here, there):
                held.write()
                held.check(0)
            assert open(a + "/f", "rb").read() == b"2" * 8192
            """);
        Assert.DoesNotContain(cluster.Check().Findings, f => f.Severity == FindingSeverity.Error);
    }

    [Fact]
    public void A_replaced_file_stays_with_who_has_it_and_a_renamed_one_is_found_under_its_new_name_only()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        string address = cluster.StartMaster("a").Address;
        (string a, string b) = (cluster.Mount("a", address).Path, cluster.Mount("b", address).Path);
        Python(a, b, """
            fill(a + "/new", b"n")
            fill(a + "/old", b"o")
            run("mkdir", "-p", "--wait", "all", a + "/d/e", a + "/x")
            for m in (a, b):
                assert sorted(os.listdir(m)) == ["d", "new", "old", "x"]
                assert os.stat(m + "/d").st_nlink == 3 and os.stat(m + "/x").st_nlink == 2
            held = [Held(m + "/" + name, byte) for m in (a, b) for name, byte in (("old", b"o"), ("new", b"n"))]
            inode = os.stat(a + "/new").st_ino
            run("mv", "--wait", "all", a + "/new", a + "/old")
            for h in held: h.check(0 if h.byte == b"o" else 1)
            for m in (a, b):
                fails(errno.ENOENT, lambda: os.stat(m + "/new"))
                assert os.stat(m + "/old").st_ino == inode
                assert open(m + "/old", "rb").read() == b"n" * 8192
            # A directory with what is in it, into another one, and both link counts.
            run("mv", "--wait", "all", a + "/old", a + "/d/e")
            run("mv", "--wait", "all", a + "/d/e", a + "/x/f")
            for m in (a, b):
                assert sorted(os.listdir(m)) == ["d", "x"]
                assert os.stat(m + "/d").st_nlink == 2 and os.stat(m + "/x").st_nlink == 3
                assert os.listdir(m + "/d") == [] and os.listdir(m + "/x/f") == ["old"]
                assert open(m + "/x/f/old", "rb").read() == b"n" * 8192
                fails(errno.ENOENT, lambda: os.stat(m + "/d/e"))
            for h in held: h.check(0 if h.byte == b"o" else 1)
            # What stands in a directory that is moved and then removed.
            os.chdir(b + "/x/f")
            run("mv", "--wait", "all", a + "/x/f", a + "/g")
            assert os.listdir(".") == ["old"]
            run("rm", "-r", "--wait", "all", a + "/g")
            fails((errno.ENOENT, errno.ESTALE), lambda: os.stat("old"))
            for h in held: h.check(0)
            """);
        Assert.DoesNotContain(cluster.Check().Findings, f => f.Severity == FindingSeverity.Error);
    }

    [Fact]
    public void The_command_does_as_rm_and_mv_do()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        string address = cluster.StartMaster("a").Address;
        string a = cluster.Mount("a", address).Path;
        cluster.Famfs("mkdir", "-p", $"{a}/d/e");
        foreach (string name in (string[])["f", "g", "d/h"])
            cluster.Famfs("creat", "--size", "1", $"{a}/{name}");

        Assert.Equal(3, cluster.TryFamfs("rm", $"{a}/none").Exit);
        Assert.Equal((0, ""), cluster.TryFamfs("rm", "-f", $"{a}/none"));
        (int exit, string text) = cluster.TryFamfs("rm", $"{a}/d");
        Assert.Equal(1, exit);
        Assert.Contains("d: is a directory and not empty", text, StringComparison.Ordinal);
        Assert.Equal(2, cluster.TryFamfs("rm", "-r", $"{a}/d/..").Exit);
        Assert.Equal(4, cluster.TryFamfs("mv", "-n", $"{a}/f", $"{a}/g").Exit);
        Assert.Equal(1, cluster.TryFamfs("mv", "-T", $"{a}/f", $"{a}/d").Exit);
        Assert.Equal(2, cluster.TryFamfs("mv", $"{a}/f", $"{a}/d/h", $"{a}/g").Exit);
        cluster.Famfs("mv", $"{a}/f", $"{a}/g", $"{a}/d/");
        Assert.Equal(["e", "f", "g", "h"], Directory.EnumerateFileSystemEntries($"{a}/d").Select(Path.GetFileName).Order());
        cluster.Famfs("mv", $"{a}/d/f", $"{a}/d/g");
        Assert.Equal(2, cluster.TryFamfs("mv", $"{a}/d", $"{a}/d/e/i").Exit);
        // A link outside that leads in is not what it leads to.
        string link = Path.Combine(cluster.NewDirectory("links"), "l");
        File.CreateSymbolicLink(link, $"{a}/d/g");
        Assert.Equal(2, cluster.TryFamfs("rm", link).Exit);
        Assert.True(File.Exists($"{a}/d/g"));
        Assert.Contains("\"waited\": \"mount\"", cluster.Famfs("rm", "-r", "--json", $"{a}/d"), StringComparison.Ordinal);
        Assert.Empty(Directory.EnumerateFileSystemEntries(a));
    }

    [Fact]
    public async Task Twenty_thousand_files_go_by_one_call_and_all_hosts_are_without_them()
    {
        const int Files = 20_000;
        using Cluster cluster = Cluster.Create(deviceBytes: 32L << 30);
        (ServerProcess master, string address) = cluster.StartMaster("a");
        (string a, string b) = (cluster.Mount("a", address).Path, cluster.Mount("b", address).Path);
        using FamfsClient client = Cluster.Connect(address);
        for (int i = 0; i < 20; i++)
            await client.MakeDirectoryAsync(new() { Path = $"tree/{i}", Parents = true }, cancel: TestContext.Current.CancellationToken);
        IEnumerable<CreateFileRequest> files = Enumerable.Range(0, Files).Select(i => new CreateFileRequest { Path = $"tree/{i % 20}/{i}", SizeBytes = 1 });
        await foreach (CreateFileResult result in client.CreateFilesAsync(files, cancel: TestContext.Current.CancellationToken))
            Assert.NotNull(result.Reply);
        await client.BarrierAsync(new(), cancel: TestContext.Current.CancellationToken);
        // Half of it is known to one kernel.
        Assert.Equal(Files / 20, Directory.EnumerateFiles($"{b}/tree/7").Count(f => new System.IO.FileInfo(f).Length == 1));
        GetStatusReply before = await client.GetStatusAsync(cancel: TestContext.Current.CancellationToken);

        long start = Stopwatch.GetTimestamp();
        await client.RemoveAsync(new() { Path = "tree", Recursive = true }, cancel: TestContext.Current.CancellationToken);
        TimeSpan acknowledged = Stopwatch.GetElapsedTime(start);
        await client.BarrierAsync(new(), cancel: TestContext.Current.CancellationToken);
        TimeSpan gone = Stopwatch.GetElapsedTime(start);
        output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{Files} files: acknowledged after {acknowledged.TotalMilliseconds:0.0} ms, gone on both hosts after {gone.TotalMilliseconds:0.0} ms"));
        foreach (string mount in (string[])[a, b])
        {
            Assert.False(Directory.Exists($"{mount}/tree"));
            Assert.False(File.Exists($"{mount}/tree/7/7"));
        }
        GetStatusReply after = before;
        Cluster.Await("all of it is taken apart, and its space free", () => (after = client.GetStatusAsync().GetAwaiter().GetResult()) is { FileCount: 0, DirectoryCount: 1, PendingReclaimBytes: 0 });
        // The log has grown meanwhile.
        Assert.Equal(before.FreeBytes + before.LogReservedBytes + ((ulong)Files << 21), after.FreeBytes + after.LogReservedBytes);
        // So it is for who replays the log.
        master.Signal("KILL");
        master.AwaitExit();
        (_, address) = cluster.StartMaster("a");
        using FamfsClient next = Cluster.Connect(address);
        after = await next.GetStatusAsync(cancel: TestContext.Current.CancellationToken);
        Assert.Equal((0UL, 1UL, 0UL), (after.FileCount, after.DirectoryCount, after.PendingReclaimBytes));
        Assert.DoesNotContain(cluster.Check().Findings, f => f.Severity == FindingSeverity.Error);
    }

    [Fact]
    public void Space_of_removed_files_is_pending_and_whoever_finds_none_is_told()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        string address = cluster.StartMaster("a").Address;
        string a = cluster.Mount("a", address).Path;
        cluster.Famfs("creat", "--size", "32MiB", $"{a}/f");
        DriveInfo full = new(a);
        (long total, long free, long available) = (full.TotalSize, full.TotalFreeSpace, full.AvailableFreeSpace);
        Assert.Equal(free, available);
        // Who has it open keeps it from being given away.
        using FileStream open = File.OpenRead($"{a}/f");
        cluster.Famfs("rm", "--wait", "all", $"{a}/f");
        DriveInfo after = new(a);
        Assert.Equal((total, free + (32 << 20), available), (after.TotalSize, after.TotalFreeSpace, after.AvailableFreeSpace));
        Assert.Contains("32.0M of USED are pending: of files that were removed, and not free yet", cluster.Famfs("df", a), StringComparison.Ordinal);
        Assert.Contains($"\"pending_reclaim_bytes\": {32 << 20}", cluster.Famfs("df", "--json", a), StringComparison.Ordinal);
        (int exit, string text) = cluster.TryFamfs("creat", "--size", "90MiB", $"{a}/g");
        Assert.Equal(5, exit);
        Assert.Contains($"{32 << 20} bytes are pending, of files that were removed: they", text, StringComparison.Ordinal);
    }

    private static void Python(string a, string b, string program)
    {
        using Process process = Process.Start(new ProcessStartInfo("python3", ["-c", Prelude + program, Cluster.Program("Famfs.Cli", "famfs"), a, b]) { RedirectStandardError = true, RedirectStandardOutput = true })!;
        Task<string> written = process.StandardOutput.ReadToEndAsync();
        string error = process.StandardError.ReadToEnd();
        process.WaitForExit();
        Assert.True(process.ExitCode == 0, $"python3: {process.ExitCode}, {error}{written.Result}");
    }
}
