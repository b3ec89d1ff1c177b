using System.Diagnostics;
using System.Runtime.Versioning;
using Famfs.Core.Interop;
using Famfs.Core.Log;
using Xunit;

namespace Famfs.EndToEnd;

/// <summary>Times of files whose content programs change, with real mounts on a stock kernel.</summary>
[SupportedOSPlatform("linux")]
public sealed class WrittenTimesTests
{
    [Fact]
    public void Writing_moves_the_time_at_once_here_and_after_close_everywhere_and_tools_see_it()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        (ServerProcess master, string address) = cluster.StartMaster("a");
        string a = cluster.Mount("a", address).Path;
        string b = cluster.Mount("b", address).Path;
        string copy = Path.Combine(cluster.NewDirectory("out"), "copy");
        cluster.Famfs("creat", "--size", "4096", "--wait", "all", Path.Combine(a, "f"));
        long made = ModifiedAt(Path.Combine(a, "f"));
        Assert.Equal(made, ModifiedAt(Path.Combine(b, "f")));
        Run("cp", "-p", Path.Combine(b, "f"), copy);

        long written;
        using (FileStream file = Open(Path.Combine(a, "f")))
        {
            file.Write("one"u8);
            written = ModifiedAt(Path.Combine(a, "f"));
            Assert.True(written > made, $"{written} after {made}");
            Python("import os, sys; s = os.stat(sys.argv[1]); assert s.st_ctime_ns == s.st_mtime_ns, s", Path.Combine(a, "f"));
            file.Write("two"u8);
            Assert.True(ModifiedAt(Path.Combine(a, "f")) > written);
            written = ModifiedAt(Path.Combine(a, "f"));
        }
        Cluster.Await("the time on the other host", () => ModifiedAt(Path.Combine(b, "f")) != made);
        // What this host showed is what the log has.
        Assert.Equal((written, written), (ModifiedAt(Path.Combine(b, "f")), ModifiedAt(Path.Combine(a, "f"))));
        Run("cp", "-u", Path.Combine(b, "f"), copy);
        Assert.StartsWith("onetwo", File.ReadAllText(copy), StringComparison.Ordinal);

        // In one record for all files, that outlives the master.
        string[] names = [.. Enumerable.Range(0, 20).Select(i => $"g{i}")];
        foreach (string name in names)
            cluster.Famfs("creat", "--size", "1", "--wait", "all", Path.Combine(a, name));
        int before = RecordsOf(cluster, a).Count;
        foreach (string name in names)
        {
            using FileStream file = Open(Path.Combine(a, name));
            file.WriteByte(1);
        }
        long[] times = [.. names.Select(n => ModifiedAt(Path.Combine(a, n)))];
        Cluster.Await("all times on the other host", () => names.Select(n => ModifiedAt(Path.Combine(b, n))).SequenceEqual(times));
        // On a machine that is busy they may have been closed over more than a second.
        Assert.InRange(RecordsOf(cluster, a).Count - before, 1, names.Length / 2);
        master.Signal("KILL");
        master.AwaitExit();
        string c = cluster.Mount("c", cluster.StartMaster("a").Address).Path;
        Assert.Equal(times, names.Select(n => ModifiedAt(Path.Combine(c, n))));
        Assert.DoesNotContain(cluster.Check().Findings, f => f.Severity == FindingSeverity.Error);
    }

    [Fact]
    public void Stores_into_a_mapping_move_the_time_when_they_are_written_back_and_those_into_the_memory_itself_do_not()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        string a = cluster.Mount("a", cluster.StartMaster("a").Address).Path;
        string path = Path.Combine(a, "f");
        cluster.Famfs("creat", "--size", "8192", path);
        long made = ModifiedAt(path);
        using (MappedRange raw = Client.FamfsFile.Map(path, writable: true))
        {
            raw.Span(0, 8192).Fill(7);
            Assert.Equal(made, ModifiedAt(path));
        }
        Python("""
            import mmap, os, sys
            path = sys.argv[1]
            def times(): return os.stat(path).st_mtime_ns
            fd = os.open(path, os.O_RDWR)
            m = mmap.mmap(fd, 8192)
            before = times()
            m[0] = 1
            m.flush()
            synced = times()
            assert synced > before, (before, synced)
            m[4096] = 2
            m.close()
            os.close(fd)
            assert times() > synced, (synced, times())
            """, path);
        Assert.True(ModifiedAt(path) > made);
    }

    [Fact]
    public void The_other_hosts_pages_stay_when_a_time_moves()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        string address = cluster.StartMaster("a").Address;
        string a = cluster.Mount("a", address).Path;
        string b = cluster.Mount("b", address).Path;
        cluster.Famfs("creat", "--size", "4096", "--wait", "all", Path.Combine(a, "f"));
        using (FileStream file = Open(Path.Combine(a, "f")))
            file.Write("old"u8);
        Python("""
            import mmap, os, sys, time
            a, b = sys.argv[1:]
            fd = os.open(b, os.O_RDONLY)
            m = mmap.mmap(fd, 4096, prot=mmap.PROT_READ)
            first = m[0:3]
            assert first == b"old", first
            before = os.stat(b).st_mtime_ns
            w = os.open(a, os.O_WRONLY)
            os.pwrite(w, b"new", 0)
            os.close(w)
            written = os.stat(a).st_mtime_ns
            end = time.monotonic() + 180
            while os.stat(b).st_mtime_ns != written:
                assert time.monotonic() < end, "the time did not come"
            # An ordinary mapping shows this host's page cache, which nobody has dropped; a read shows the memory.
            assert m[0:3] == b"old", m[0:3]
            assert os.pread(fd, 3, 0) == b"new"
            """, Path.Combine(a, "f"), Path.Combine(b, "f"));
    }

    [Fact]
    public void A_time_that_is_set_after_the_writing_stays_and_writing_after_that_moves_it()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        string address = cluster.StartMaster("a").Address;
        string a = cluster.Mount("a", address).Path;
        string b = cluster.Mount("b", address).Path;
        string path = Path.Combine(a, "f");
        const long Set = 981173106_000_000_000;
        for (int round = 0; round < 5; round++)
        {
            string source = cluster.NewDirectory("source") + "/f";
            File.WriteAllText(source, $"content {round}");
            Run("touch", "-d", "2001-02-03T04:05:06Z", source);
            cluster.Famfs("cp", "-p", source, Path.Combine(a, $"f{round}"));
            cluster.Famfs("wait", a);
            Assert.Equal((Set, Set), (ModifiedAt(Path.Combine(a, $"f{round}")), ModifiedAt(Path.Combine(b, $"f{round}"))));
        }
        cluster.Famfs("creat", "--size", "1", path);
        using (FileStream file = Open(path))
        {
            file.WriteByte(1);
            cluster.Famfs("touch", "-d", "2001-02-03T04:05:06Z", "--wait", "all", path);
            Assert.Equal(Set, ModifiedAt(path));
            file.Position = 0;
            file.WriteByte(2);
            Assert.True(ModifiedAt(path) > Set);
        }
        long written = ModifiedAt(path);
        Cluster.Await("the time on the other host", () => ModifiedAt(Path.Combine(b, "f")) == written);
        // What was closed long ago was not told after the time was set.
        Assert.All(Enumerable.Range(0, 5), round => Assert.Equal(Set, ModifiedAt(Path.Combine(b, $"f{round}"))));
    }

    [Fact]
    public void Without_a_master_the_time_is_shown_here_and_the_log_has_it_when_there_is_one()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        (ServerProcess master, string address) = cluster.StartMaster("a");
        string a = cluster.Mount("a", address).Path;
        string b = cluster.Mount("b", address).Path;
        cluster.Famfs("creat", "--size", "4096", "--wait", "all", Path.Combine(a, "f"));
        long made = ModifiedAt(Path.Combine(a, "f"));
        master.Signal("KILL");
        master.AwaitExit();
        using (FileStream file = Open(Path.Combine(a, "f")))
            file.Write("x"u8);
        long written = ModifiedAt(Path.Combine(a, "f"));
        Assert.True(written > made);
        Assert.Equal(made, ModifiedAt(Path.Combine(b, "f")));
        cluster.StartMasterAt("a", address);
        Cluster.Await("the time on the other host", () => ModifiedAt(Path.Combine(b, "f")) == written);
    }

    [Fact]
    public void A_mount_that_ends_tells_what_it_knows_first()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        string address = cluster.StartMaster("a").Address;
        string b = cluster.Mount("b", address).Path;
        for (int round = 0; round < 2; round++)
        {
            (ServerProcess daemon, string a) = cluster.Mount("a", address);
            string name = $"f{round}";
            cluster.Famfs("creat", "--size", "4096", "--wait", "all", Path.Combine(a, name));
            using (FileStream file = Open(Path.Combine(a, name)))
                file.Write("x"u8);
            long written = ModifiedAt(Path.Combine(a, name));
            if (round == 0)
                cluster.Famfs("umount", a);
            else
                daemon.Signal("TERM");
            Assert.Equal(0, daemon.AwaitExit());
            Cluster.Await("the time on the other host", () => ModifiedAt(Path.Combine(b, name)) == written);
        }
    }

    [Fact]
    public void With_notime_writing_moves_no_time_and_makes_no_record()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        string address = cluster.StartMaster("a").Address;
        (ServerProcess daemon, string a) = cluster.Mount("a", address, "-o", "notime");
        string b = cluster.Mount("b", address).Path;
        cluster.Famfs("creat", "--size", "4096", "--wait", "all", Path.Combine(a, "f"));
        long made = ModifiedAt(Path.Combine(a, "f"));
        using (FileStream file = Open(Path.Combine(a, "f")))
            file.Write("x"u8);
        Assert.Equal(made, ModifiedAt(Path.Combine(a, "f")));
        cluster.Famfs("umount", a);
        Assert.Equal(0, daemon.AwaitExit());
        Assert.Empty(RecordsOf(cluster, b));
        Assert.Equal(made, ModifiedAt(Path.Combine(b, "f")));
    }

    private static long ModifiedAt(string path) => FileStatus.Read(path, true).ModifyTimeNs;

    // Without a buffer: each write is one.
    private static FileStream Open(string path) => new(path, FileMode.Open, FileAccess.Write, FileShare.ReadWrite, bufferSize: 0);

    private static List<string> RecordsOf(Cluster cluster, string path) =>
        [.. cluster.Famfs("log", "dump", path).Split('\n').Where(l => l.Contains(" files_written {", StringComparison.Ordinal))];

    private static void Python(string program, params string[] arguments) => Run("python3", ["-c", program, .. arguments]);

    private static void Run(string program, params string[] arguments)
    {
        using Process process = Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardError = true, RedirectStandardOutput = true })!;
        Task<string> output = process.StandardOutput.ReadToEndAsync();
        string error = process.StandardError.ReadToEnd();
        process.WaitForExit();
        Assert.True(process.ExitCode == 0, $"{program} {string.Join(' ', arguments)}: {process.ExitCode}, {error}{output.Result}");
    }
}
