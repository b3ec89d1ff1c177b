using System.Globalization;
using System.Security.Cryptography;
using Famfs.Core;
using Famfs.Core.Namespace;
using Famfs.Fuse.Operations;
using Famfs.Fuse.Session;
using Xunit;

namespace Famfs.Fuse.Tests.Session;

/// <summary>The real kernel, real programs. Programs run in processes of their own.</summary>
public sealed class RealMountTests : IDisposable
{
    private const long Unit = TestFileSystem.Unit;
    private static readonly InodeNumber Root = InodeNumber.Root;
    private readonly SharedMemory _memory = new(16 * Unit);
    private readonly List<TestFileSystem> _systems = [];

    public void Dispose()
    {
        foreach (TestFileSystem system in _systems)
            system.Dispose();
        _memory.Dispose();
    }

    private TestFileSystem NewSystem()
    {
        var system = new TestFileSystem();
        _systems.Add(system);
        system.AddDevice(0, _memory.Open());
        return system;
    }

    [Fact]
    public void Programs_list_stat_read_and_write_a_mounted_tree()
    {
        TestFileSystem system = NewSystem();
        InodeNumber directory = system.AddDirectory(Root, "dir");
        system.AddFile(directory, "small", 5, unit: 0);
        InodeNumber large = system.AddFile(Root, "large", (3 * Unit) + 123, unit: 1);
        system.AddSymlink(Root, "link", "dir/small");
        _memory.Write(0, "hello"u8.ToArray());
        byte[] data = RandomBytes((3 * (int)Unit) + 123);
        _memory.Write(Unit, data);

        using RealMount mount = RealMount.Start(system);
        Assert.Equal("dir\nlarge\nlink", mount.Require("ls"));
        Assert.Equal("hello", mount.Require("cat dir/small"));
        Assert.Equal("hello", mount.Require("cat link"));
        Assert.Equal("dir/small", mount.Require("readlink link"));
        Assert.Equal(".\n./dir\n./dir/small\n./large\n./link", mount.Require("find . | sort"));
        Assert.Equal(
            $"{(3 * Unit) + 123} {4 * Unit / 512} 4096 644 1 {large} regular file 1700000000.123456789",
            mount.Require("stat -c '%s %b %o %a %h %i %F %.9Y' large"));
        Assert.Equal(Convert.ToHexStringLower(SHA256.HashData(data)), mount.Require("sha256sum < large | cut -d' ' -f1"));
        mount.Require("cp large /dev/null && cat large | cmp - large && dd if=large of=/dev/null bs=1000003 status=none");
        mount.Require("printf WORLD | dd of=dir/small conv=notrunc status=none");
        Assert.Equal("WORLD"u8.ToArray(), _memory.Read(0, 5));
        Assert.Equal($"famfs-test {mount.Path} fuse.famfs", mount.Require("grep \" $PWD \" /proc/self/mounts | cut -d' ' -f1-3"));
        Assert.Equal("4096 16384 4096", mount.Require("stat -f -c '%S %b %a' ."));
        Assert.Equal(mount.Mount.ConnectionNumber.ToString(CultureInfo.InvariantCulture), mount.Require("stat -c %Hd,%Ld . | cut -d, -f2"));
        Assert.Null(mount.Mount.LastFailure);
        Assert.Equal(0, mount.Mount.Statistics.Failures);
    }

    [Fact]
    public void A_striped_file_is_read_and_written_whole_by_large_requests()
    {
        TestFileSystem system = NewSystem();
        using var second = new SharedMemory(8 * Unit);
        system.AddDevice(1, second.Open());
        system.AddFile(Root, "striped", (4 * Unit) - 5, 0x1A4, (ulong)Unit, new MapExtent(new DeviceIndex(1), Unit, 2 * Unit), new MapExtent(new DeviceIndex(0), 3 * Unit, 2 * Unit));
        byte[] data = RandomBytes((4 * (int)Unit) - 5);
        string source = Path.GetTempFileName();
        try
        {
            File.WriteAllBytes(source, data);
            using RealMount mount = RealMount.Start(system);
            mount.Require($"dd if='{source}' of=striped bs=1M conv=notrunc status=none && cmp '{source}' striped");
            Assert.Equal(data[..(int)Unit], second.Read(Unit, (int)Unit));
            Assert.Equal(data[(int)Unit..(2 * (int)Unit)], _memory.Read(3 * Unit, (int)Unit));
            Assert.Equal(data[(3 * (int)Unit)..], _memory.Read(4 * Unit, (int)Unit - 5));
        }
        finally
        {
            File.Delete(source);
        }
    }

    [Fact]
    public void Programs_map_files_and_their_stores_reach_the_memory()
    {
        TestFileSystem system = NewSystem();
        system.AddFile(Root, "f", Unit);
        _memory.Write(4096, "before"u8.ToArray());
        using RealMount mount = RealMount.Start(system);
        Assert.Equal("before", mount.Require(
            """
            python3 - <<'END'
            import mmap, os
            fd = os.open('f', os.O_RDWR)
            m = mmap.mmap(fd, 1 << 20)
            print(m[4096:4102].decode())
            m[8192:8197] = b'after'
            m.flush()
            END
            """));
        Assert.Equal("after"u8.ToArray(), _memory.Read(8192, 5));
    }

    [Fact]
    public void Space_is_never_added_and_writes_end_at_the_end()
    {
        TestFileSystem system = NewSystem();
        system.AddFile(Root, "f", 10);
        using RealMount mount = RealMount.Start(system);
        Assert.Contains("No space left", mount.Shell("printf 0123456789abc > /dev/null; printf 0123456789abc | dd of=f conv=notrunc bs=13 status=none").Error, StringComparison.Ordinal);
        Assert.Equal("0123456789", mount.Require("cat f"));
        Assert.Contains("No space left", mount.Shell("printf x >> f").Error, StringComparison.Ordinal);
        Assert.Contains("Operation not permitted", mount.Shell("truncate -s 5 f").Error, StringComparison.Ordinal);
        Assert.Contains("Operation not permitted", mount.Shell("printf x > f").Error, StringComparison.Ordinal);
        mount.Require("truncate -s 10 f && fallocate -l 10 f");
        Assert.Contains("Operation not permitted", mount.Shell("fallocate -l 11 f").Error, StringComparison.Ordinal);
        Assert.Equal("0123456789", mount.Require("cat f"));
        Assert.Equal("10", mount.Require("stat -c %s f"));
    }

    [Theory]
    [InlineData("mkdir d")]
    [InlineData("touch new")]
    [InlineData("ln -s x l")]
    [InlineData("ln f l")]
    [InlineData("mv f g")]
    [InlineData("rm f")]
    [InlineData("rmdir e")]
    [InlineData("chmod 600 f")]
    [InlineData("touch f")]
    [InlineData("mkfifo p")]
    [InlineData("setfattr -n user.x -v y f || python3 -c 'import os; os.setxattr(\"f\", \"user.x\", b\"y\")'")]
    public void The_namespace_is_not_changed_through_the_mount(string command)
    {
        TestFileSystem system = NewSystem();
        system.AddFile(Root, "f", 10);
        system.AddDirectory(Root, "e");
        using RealMount mount = RealMount.Start(system);
        ShellResult result = mount.Shell(command);
        Assert.NotEqual(0, result.ExitCode);
        Assert.Contains("Operation not permitted", result.Error, StringComparison.Ordinal);
        Assert.Equal("e\nf", mount.Require("ls"));
    }

    [Fact]
    public void What_the_kernel_need_not_ask_for_works_all_the_same()
    {
        TestFileSystem system = NewSystem();
        system.AddFile(Root, "f", Unit);
        system.AddFile(Root, "g", Unit, unit: 1);
        using RealMount mount = RealMount.Start(system);
        mount.Require(
            """
            python3 - <<'END'
            import fcntl, os, select
            fd = os.open('f', os.O_RDWR)
            os.write(fd, b'x' * 100)
            os.fsync(fd); os.fdatasync(fd)
            d = os.open('.', os.O_RDONLY); os.fsync(d)
            assert os.lseek(fd, 0, os.SEEK_DATA) == 0
            assert os.lseek(fd, 0, os.SEEK_HOLE) == 2 << 20
            g = os.open('g', os.O_RDWR)
            assert os.copy_file_range(fd, g, 4096, 0, 0) == 4096
            assert os.pread(g, 100, 0) == b'x' * 100
            p = select.poll(); p.register(fd); assert p.poll(0)
            fcntl.lockf(fd, fcntl.LOCK_EX); fcntl.flock(g, fcntl.LOCK_EX)
            try:
                fcntl.ioctl(fd, 0x1234)
            except OSError as e:
                assert e.errno == 25, e
            try:
                os.open('.', os.O_TMPFILE | os.O_RDWR)
            except OSError as e:
                assert e.errno == 95, e
            os.close(fd); os.close(g)
            END
            """);
    }

    [Fact]
    public void Extended_attributes_show_the_map()
    {
        TestFileSystem system = NewSystem();
        InodeNumber file = system.AddFile(Root, "f", 10, unit: 3);
        using RealMount mount = RealMount.Start(system);
        Assert.Equal(
            $"['user.famfs.ino', 'user.famfs.layout', 'user.famfs.map'] {file} size 10 chunk 0|0 {3 * Unit} {Unit}| 0:42@64",
            mount.Require("""python3 -c "import os; g=lambda f,n: os.getxattr(f,'user.famfs.'+n).decode(); print(sorted(os.listxattr('f')), g('f','ino'), g('f','map').replace(chr(10),'|'), g('.','position'))" """));
    }

    [Fact]
    public void Names_are_served_before_the_host_is_registered_and_files_are_not()
    {
        TestFileSystem system = NewSystem();
        system.Verdict = OpenVerdict.HostDown;
        system.AddFile(Root, "f", 10);
        using RealMount mount = RealMount.Start(system);
        Assert.Equal("f", mount.Require("ls"));
        Assert.Contains("Host is down", mount.Shell("cat f").Error, StringComparison.Ordinal);
        system.Verdict = OpenVerdict.Open;
        mount.Require("cat f");
    }

    [Fact]
    public void A_large_directory_is_listed_whole_with_and_without_attributes()
    {
        TestFileSystem system = NewSystem();
        InodeNumber directory = system.AddDirectory(Root, "d");
        for (int i = 0; i < 5000; i++)
            system.AddSymlink(directory, $"name-with-some-length-{i:D5}", "target");
        using RealMount mount = RealMount.Start(system);
        Assert.Equal("5000", mount.Require("ls -U d | sort -u | wc -l"));
        Assert.Equal("5001", mount.Require("ls -lU d | wc -l")); // and "total"
        Assert.Equal("5000", mount.Require("find d -type l | wc -l"));
        Assert.Equal("5000", mount.Require("ls -U d | wc -l"));
    }

    [Fact]
    public void Concurrent_readers_and_writers_each_get_what_they_asked_for()
    {
        TestFileSystem system = NewSystem();
        byte[] data = RandomBytes(8 * (int)Unit);
        _memory.Write(0, data);
        for (int i = 0; i < 8; i++)
            system.AddFile(Root, $"f{i}", Unit, unit: i);
        system.AddFile(Root, "scratch", 4 * Unit, unit: 8);
        using RealMount mount = RealMount.Start(system, workers: 4);
        string expected = string.Join('\n', Enumerable.Range(0, 8).Select(i => Convert.ToHexStringLower(SHA256.HashData(data.AsSpan(i * (int)Unit, (int)Unit)))));
        Assert.Equal(expected, mount.Require(
            """
            for w in 0 1 2 3; do
              for n in $(seq 20); do dd if=/dev/zero bs=64k count=32 seek=$((w * 32)) of=scratch conv=notrunc status=none; done &
            done
            for i in 0 1 2 3 4 5 6 7; do
              for n in $(seq 10); do cat f$i; done | split -b 2M --filter sha256sum | sort -u | cut -d' ' -f1 > /tmp/famfs-fuse-$$-$i &
            done
            wait
            for i in 0 1 2 3 4 5 6 7; do cat /tmp/famfs-fuse-$$-$i; rm /tmp/famfs-fuse-$$-$i; done
            """));
    }

    [Fact]
    public void Two_mounts_of_one_memory_see_each_others_writes_at_once_through_open_files()
    {
        TestFileSystem one = NewSystem(), two = NewSystem();
        one.AddFile(Root, "f", Unit);
        two.AddFile(Root, "f", Unit);
        using RealMount here = RealMount.Start(one), there = RealMount.Start(two);
        here.Require(
            $$"""
            python3 - '{{there.Path}}' <<'END'
            import os, sys
            a = os.open('f', os.O_RDWR)
            b = os.open(sys.argv[1] + '/f', os.O_RDWR)
            for i in range(1000):
                word = b'%08d' % i
                at = (i * 4099) % 2000000
                os.pwrite(a, word, at)
                assert os.pread(b, 8, at) == word, (i, os.pread(b, 8, at))
                os.pwrite(b, word[::-1], at)
                assert os.pread(a, 8, at) == word[::-1]
            END
            """);
    }

    [Fact]
    public void Close_to_open_caching_shows_anothers_write_to_the_next_open()
    {
        TestFileSystem one = NewSystem(), two = NewSystem();
        one.AddFile(Root, "f", Unit);
        two.AddFile(Root, "f", Unit);
        using RealMount here = RealMount.Start(one, new CachePolicy(CacheMode.CloseToOpen)), there = RealMount.Start(two, new CachePolicy(CacheMode.CloseToOpen));
        here.Require("cat f > /dev/null");
        there.Require("printf hello | dd of=f conv=notrunc status=none");
        Assert.Equal("hello", here.Require("head -c 5 f"));
    }

    [Fact]
    public void Cached_reads_read_ahead_further_than_the_kernel_would()
    {
        TestFileSystem system = NewSystem();
        using RealMount mount = RealMount.Start(system, new CachePolicy(CacheMode.CloseToOpen));
        string path = $"/sys/class/bdi/0:{mount.Mount.ConnectionNumber}/read_ahead_kb";
        Assert.SkipUnless(File.Exists(path), $"no {path}");
        Assert.Equal("1024", File.ReadAllText(path).Trim());
    }

    [Fact]
    public void A_mount_point_behind_a_symbolic_link_is_unmounted_again()
    {
        RealMount.RequirePossible();
        string target = Directory.CreateTempSubdirectory("famfs-fuse-test-").FullName;
        string link = target + "-link";
        try
        {
            File.CreateSymbolicLink(link, target);
            using (FuseMount.Start(new FuseMountOptions(link), NewSystem().Dependencies))
                Assert.Equal("fuse.famfs", ShellResult.Run("/", $"grep ' {target} ' /proc/self/mounts | cut -d' ' -f3").Output);
            Assert.Equal("", ShellResult.Run("/", $"grep ' {target} ' /proc/self/mounts; true").Output);
        }
        finally
        {
            _ = MountPoint.Detach(target); // false: as it should be
            File.Delete(link);
            Directory.Delete(target);
        }
    }

    [Fact]
    public void A_truncated_device_is_EIO_and_nobody_is_killed()
    {
        TestFileSystem system = NewSystem();
        system.AddFile(Root, "low", Unit);
        system.AddFile(Root, "high", Unit, unit: 10);
        using RealMount mount = RealMount.Start(system);
        mount.Require("cat low high > /dev/null");
        _memory.Truncate(5 * Unit);
        Assert.Contains("Input/output error", mount.Shell("cat high").Error, StringComparison.Ordinal);
        Assert.Contains("Input/output error", mount.Shell("printf x | dd of=high conv=notrunc").Error, StringComparison.Ordinal);
        mount.Require("cat low > /dev/null && ls -l high");
        Assert.True(mount.Mount.Statistics.Faults >= 2);
        _memory.Truncate(16 * Unit);
        mount.Require("cat high > /dev/null");
    }

    [Fact]
    public void Stop_ends_a_mount_that_is_in_use_and_leaves_nothing_behind()
    {
        TestFileSystem system = NewSystem();
        system.AddFile(Root, "f", 10);
        RealMount mount = RealMount.Start(system);
        string path = mount.Path;
        Assert.Equal(path, ShellResult.Run("/", $"grep -o '{path}' /proc/self/mounts").Output);
        using (FileStream open = File.OpenRead(Path.Combine(path, "f")))
        {
            Assert.Equal(16, Assert.Throws<IOException>(mount.Mount.Unmount).HResult); // EBUSY
            Assert.False(mount.Mount.Completion.IsCompleted);
            mount.Mount.Stop();
            Assert.True(mount.Mount.Completion.IsCompletedSuccessfully);
            Assert.Throws<IOException>(() => open.ReadByte()); // ENOTCONN
        }
        mount.Dispose();
        Assert.Equal("", ShellResult.Run("/", $"grep -o '{path}' /proc/self/mounts; true").Output);
        Assert.False(Directory.Exists(path));
    }

    [Fact]
    public async Task An_unmount_by_someone_else_completes_the_mount()
    {
        TestFileSystem system = NewSystem();
        using RealMount mount = RealMount.Start(system);
        Assert.Equal(0, ShellResult.Run("/", $"umount '{mount.Path}'").ExitCode);
        await mount.Mount.Completion.WaitAsync(TimeSpan.FromSeconds(60));
    }

    [Fact]
    public void Abort_fails_what_is_open()
    {
        TestFileSystem system = NewSystem();
        system.AddFile(Root, "f", 10);
        using RealMount mount = RealMount.Start(system);
        using FileStream open = File.OpenRead(Path.Combine(mount.Path, "f"));
        mount.Mount.Abort();
        Assert.Throws<IOException>(() => open.ReadByte());
    }

    [Fact]
    public void A_mount_point_that_does_not_exist_is_an_error_and_not_a_leak()
    {
        RealMount.RequirePossible();
        TestFileSystem system = NewSystem();
        IOException error = Assert.Throws<IOException>(() => FuseMount.Start(new FuseMountOptions("/nonexistent/famfs"), system.Dependencies));
        Assert.Equal(2, error.HResult); // ENOENT
    }

    [Fact]
    public void A_killed_server_leaves_a_mount_that_can_be_detached()
    {
        using var server = new ServerProcess(_memory, 2, 100, "direct");
        Assert.Equal("f0\nf1", ShellResult.Run(server.Path, "ls").Output);
        server.Kill();
        Assert.Contains("not connected", ShellResult.Run("/", $"stat '{server.Path}'").Error, StringComparison.Ordinal);
        Assert.True(MountPoint.Detach(server.Path));
        Assert.Empty(Directory.GetFileSystemEntries(server.Path));
        Assert.False(MountPoint.Detach(server.Path));
    }

    [Fact]
    public void A_mount_in_a_user_namespace_needs_no_privilege_outside()
    {
        RealMount.RequirePossible();
        ShellResult probe = ShellResult.Run("/", "unshare -Urm true");
        Assert.SkipUnless(probe.ExitCode == 0, $"unshare -Urm does not work here: {probe.Error}");
        using var server = new ServerProcess(_memory, 2, 100, "direct", ["unshare", "-Urm"]);
        Assert.Equal("f0 f1 fuse.famfs", ShellResult.Run("/", $"nsenter -t {server.Id} -U -m --preserve-credentials bash -c 'cd {server.Path} && cat f0 >/dev/null && echo $(ls) $(grep {server.Path} /proc/self/mounts | cut -d\" \" -f3)'").Output);
        server.Quit();
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Locks_are_of_this_host_or_refused(bool refused)
    {
        const string Lock =
            """
            python3 - <<'END'
            import errno, fcntl
            f = open('f', 'r+b')
            for name, call in (
                ('flock', lambda: fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)),
                ('flock shared', lambda: fcntl.flock(f, fcntl.LOCK_SH)),
                ('flock given back', lambda: fcntl.flock(f, fcntl.LOCK_UN)),
                ('fcntl', lambda: fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)),
                ('fcntl waiting', lambda: fcntl.lockf(f, fcntl.LOCK_EX)),
                ('fcntl given back', lambda: fcntl.lockf(f, fcntl.LOCK_UN))):
                try:
                    call()
                    print(name, 'done')
                except OSError as error:
                    print(name, errno.errorcode[error.errno])
            END
            """;
        using TestFileSystem system = new();
        system.AddFile(Root, "f", 4096);
        using RealMount mount = RealMount.Start(system, adjust: options => options with { Dialect = options.Dialect with { RefusesLocks = refused } });

        string result = refused ? "ENOLCK" : "done";
        Assert.Equal(
            $"flock {result}\nflock shared {result}\nflock given back done\nfcntl {result}\nfcntl waiting {result}\nfcntl given back done",
            mount.Require(Lock));
    }

    [Fact]
    public void A_server_allocates_nothing_per_request()
    {
        using var server = new ServerProcess(_memory, 8, 100_000, "uncached");
        const string Script =
            """
            python3 - <<'END'
            import os
            for n in range(ROUNDS):
                for i in range(8):
                    name = 'f%d' % i
                    os.stat(name)
                    fd = os.open(name, os.O_RDWR)
                    os.pread(fd, 4096, 4096)
                    os.pwrite(fd, b'x' * 512, 100)
                    os.close(fd)
                os.listdir('.')
            END
            """;
        Assert.Equal(0, ShellResult.Run(server.Path, Script.Replace("ROUNDS", "100", StringComparison.Ordinal)).ExitCode); // warm
        (long requests, long allocated) = server.Statistics();
        Assert.Equal(0, ShellResult.Run(server.Path, Script.Replace("ROUNDS", "1500", StringComparison.Ordinal)).ExitCode);
        (long requestsAfter, long allocatedAfter) = server.Statistics();
        Assert.True(requestsAfter - requests > 80_000, $"{requestsAfter - requests} requests");

        // What remains is of the runtime (tiered compilation, this very question), not per request.
        double perRequest = (double)(allocatedAfter - allocated) / (requestsAfter - requests);
        Assert.True(perRequest < 1, $"{perRequest} bytes per request");
        server.Quit();
    }

    private static byte[] RandomBytes(int length)
    {
        byte[] bytes = new byte[length];
        new Random(length).NextBytes(bytes);
        return bytes;
    }
}
