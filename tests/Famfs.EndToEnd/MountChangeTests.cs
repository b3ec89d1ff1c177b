using System.Diagnostics;
using System.Globalization;
using System.Runtime.Versioning;
using Famfs.Core.Log;
using Xunit;

namespace Famfs.EndToEnd;

/// <summary>Names and attributes that programs change through a mount, with real mounts on a stock kernel.</summary>
[SupportedOSPlatform("linux")]
public sealed class MountChangeTests
{
    /// <summary>What the programs of a test begin with.</summary>
    private const string Prelude = """
        import errno, mmap, os, stat, subprocess, sys, threading, time
        famfs, a, b = sys.argv[1:4]
        def run(*words): subprocess.run([famfs, *words], check=True)
        def fails(expected, act):
            try: act()
            except OSError as e: assert e.errno == expected, (errno.errorcode.get(e.errno, e.errno), errno.errorcode[expected]); return
            raise AssertionError("no " + errno.errorcode[expected])
        def there(what, condition):
            end = time.monotonic() + 180
            while not condition():
                assert time.monotonic() < end, what
        def gone(path):
            try: os.lstat(path)
            except FileNotFoundError: return True
            return False
        class As:
            "Another user, in this thread's file system calls."
            def __init__(self, uid, *groups): self.uid, self.groups = uid, groups
            def __enter__(self): os.setgroups(self.groups); os.setegid(self.groups[0]); os.seteuid(self.uid)
            def __exit__(self, *_): os.seteuid(0); os.setegid(0); os.setgroups([])

        """;

    [Fact]
    public void What_a_program_changes_is_there_when_its_call_returns_and_on_the_other_host_soon()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        string address = cluster.StartMaster("a").Address;
        (string a, string b) = (cluster.Mount("a", address).Path, cluster.Mount("b", address).Path);
        Python(a, b, """
            run("creat", "--size", "8192", "--wait", "all", a + "/f")
            # Both kernels know that these names are not there.
            for m in (a, b):
                for name in ("d", "l", "g", "d2"): assert gone(m + "/" + name)
            os.umask(0o022)
            os.mkdir(a + "/d", 0o777)
            os.mkdir(a + "/d/e")
            os.symlink("d/e", a + "/l")
            assert os.listdir(a + "/l") == [] and os.readlink(a + "/l") == "d/e"
            assert os.stat(a + "/d").st_nlink == 3 and stat.S_IMODE(os.stat(a + "/d").st_mode) == 0o755
            there("the link", lambda: not gone(b + "/l"))
            assert os.readlink(b + "/l") == "d/e" and os.stat(b + "/d").st_nlink == 3
            os.rename(a + "/f", a + "/d/g")
            assert gone(a + "/f") and os.stat(a + "/d/g").st_size == 8192
            there("the new name", lambda: gone(b + "/f") and not gone(b + "/d/g"))
            os.chmod(b + "/d/g", 0o640)
            os.chown(b + "/d/g", 1001, 2001)
            os.utime(b + "/d/g", ns=(5_000_000_007, 7_000_000_009))
            os.setxattr(b + "/d/g", "user.kind", b"x")
            s = os.stat(b + "/d/g")
            assert (stat.S_IMODE(s.st_mode), s.st_uid, s.st_gid, s.st_atime_ns, s.st_mtime_ns) == (0o640, 1001, 2001, 5_000_000_007, 7_000_000_009), s
            there("the attributes", lambda: "user.kind" in os.listxattr(a + "/d/g"))
            s = os.stat(a + "/d/g")
            assert (stat.S_IMODE(s.st_mode), s.st_uid, s.st_gid, s.st_mtime_ns) == (0o640, 1001, 2001, 7_000_000_009), s
            before = time.time_ns()
            os.utime(a + "/d/g")
            assert abs(os.stat(a + "/d/g").st_mtime_ns - before) < 60_000_000_000
            os.removexattr(a + "/d/g", "user.kind")
            assert "user.kind" not in os.listxattr(a + "/d/g")
            fd = os.open(b + "/d/g", os.O_RDWR)
            os.pwrite(fd, b"kept", 0)
            os.unlink(a + "/d/g")
            os.rmdir(a + "/d/e")
            os.unlink(a + "/l")
            os.rename(a + "/d", a + "/d2")
            os.rmdir(a + "/d2")
            assert os.listdir(a) == []
            there("the end", lambda: os.listdir(b) == [])
            assert os.fstat(fd).st_nlink == 0 and os.pread(fd, 4, 0) == b"kept"
            """);
        Assert.DoesNotContain(cluster.Check().Findings, f => f.Severity == FindingSeverity.Error);
    }

    [Fact]
    public void Errors_are_those_of_a_local_file_system()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        string a = cluster.Mount("a", cluster.StartMaster("a").Address).Path;
        Python(a, a, """
            import ctypes
            libc = ctypes.CDLL(None, use_errno=True)
            def renameat2(old, new, flags):
                if libc.renameat2(-100, old.encode(), -100, new.encode(), flags) != 0:
                    raise OSError(ctypes.get_errno(), "renameat2")
            p = lambda name: a + "/" + name
            for name in ("f", "g", "o"): run("creat", "--size", "8192", p(name))
            os.mkdir(p("d")); os.mkdir(p("d/e")); os.mkdir(p("x"))
            long = "n" * 256
            fails(errno.EEXIST, lambda: os.mkdir(p("f")))
            fails(errno.EEXIST, lambda: os.mkdir(p("d")))
            fails(errno.ENOENT, lambda: os.mkdir(p("none/x")))
            fails(errno.ENOTDIR, lambda: os.mkdir(p("f/x")))
            fails(errno.ENAMETOOLONG, lambda: os.mkdir(p(long)))
            fails(errno.EEXIST, lambda: os.symlink("t", p("f")))
            fails(errno.ENAMETOOLONG, lambda: os.symlink("t" * 4096, p("l")))
            fails(errno.ENOENT, lambda: os.unlink(p("none")))
            fails(errno.EISDIR, lambda: os.unlink(p("d")))
            fails(errno.ENOTDIR, lambda: os.unlink(p("f/x")))
            fails(errno.ENOTEMPTY, lambda: os.rmdir(p("d")))
            fails(errno.ENOTDIR, lambda: os.rmdir(p("f")))
            fails(errno.EINVAL, lambda: os.rmdir(p("d/e/.")))
            fails(errno.ENOENT, lambda: os.rename(p("none"), p("y")))
            fails(errno.ENOENT, lambda: os.rename(p("f"), p("none/y")))
            fails(errno.EISDIR, lambda: os.rename(p("f"), p("d")))
            fails(errno.ENOTDIR, lambda: os.rename(p("d"), p("f")))
            fails(errno.ENOTEMPTY, lambda: os.rename(p("x"), p("d")))
            fails(errno.EINVAL, lambda: os.rename(p("d"), p("d/e/y")))
            fails(errno.ENOTEMPTY, lambda: os.rename(p("d/e"), p("d")))
            fails(errno.ENAMETOOLONG, lambda: os.rename(p("f"), p(long)))
            fails(errno.EEXIST, lambda: renameat2(p("f"), p("g"), 1))
            fails(errno.EINVAL, lambda: renameat2(p("f"), p("g"), 2))
            renameat2(p("f"), p("h"), 1)
            renameat2(p("h"), p("f"), 0)
            os.rename(p("f"), p("f"))
            os.rename(p("g"), p("f"))
            assert gone(p("g"))
            os.rename(p("x"), p("d/e"))
            assert gone(p("x"))
            fails(errno.EPERM, lambda: os.link(p("f"), p("y")))
            fails(errno.EPERM, lambda: os.mknod(p("y"), stat.S_IFIFO | 0o600))
            fails(errno.EPERM, lambda: os.open(p("y"), os.O_CREAT | os.O_WRONLY))
            fails(errno.EPERM, lambda: os.truncate(p("f"), 1))
            os.truncate(p("f"), 8192)
            fails(errno.EOPNOTSUPP, lambda: os.setxattr(p("f"), "trusted.x", b"1"))
            fails(errno.EPERM, lambda: os.setxattr(p("f"), "user.famfs.x", b"1"))
            fails(errno.ENODATA, lambda: os.setxattr(p("f"), "user.x", b"1", os.XATTR_REPLACE))
            fails(errno.ENODATA, lambda: os.removexattr(p("f"), "user.x"))
            os.setxattr(p("f"), "user.x", b"1", os.XATTR_CREATE)
            fails(errno.EEXIST, lambda: os.setxattr(p("f"), "user.x", b"2", os.XATTR_CREATE))
            os.setxattr(p("f"), "user.x", b"2", os.XATTR_REPLACE)
            assert os.getxattr(p("f"), "user.x") == b"2"
            fails(errno.E2BIG, lambda: os.setxattr(p("f"), "user.x", b"1" * 65536))
            # Nothing of the file system's own.
            for act in (lambda: os.mkdir(p(".meta/x")), lambda: os.unlink(p(".meta/superblock")), lambda: os.mkdir(p(".staged")), lambda: os.rename(p("f"), p(".meta/x"))):
                try: act()
                except OSError as e: assert e.errno in (errno.EPERM, errno.EACCES, errno.EEXIST, errno.EINVAL), e
                else: raise AssertionError("done")
            # Names need not be ASCII, and must be text.
            os.mkdir(p("ä ü\n"))
            assert "ä ü\n" in os.listdir(a)
            fails(errno.EINVAL, lambda: os.mkdir(p("").encode() + b"\xff"))
            """);
    }

    [Fact]
    public void Rights_are_those_of_the_user_and_sticky_and_set_gid_directories_are_as_elsewhere()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        string a = cluster.Mount("a", cluster.StartMaster("a").Address).Path;
        Python(a, a, """
            # Who stands there needs no right on what is above, which may be closed to all but root.
            os.chdir(a)
            p = lambda name: name
            os.umask(0)
            os.chmod(a, 0o755)
            os.mkdir(p("tmp")); os.chmod(p("tmp"), 0o1777)
            os.mkdir(p("group")); os.chown(p("group"), 0, 2002); os.chmod(p("group"), 0o2775)
            with As(1001, 2001, 2002):
                fails(errno.EACCES, lambda: os.mkdir(p("no")))
                os.mkdir(p("tmp/mine"), 0o755)
                os.mkdir(p("tmp/other"), 0o777)
                os.mkdir(p("group/sub"), 0o755)
                fails(errno.EPERM, lambda: os.chown(p("tmp/mine"), 1002, -1))
                os.chown(p("tmp/mine"), -1, 2002)
                fails(errno.EPERM, lambda: os.chmod(p("tmp"), 0o777))
            s = os.stat(p("tmp/mine"))
            assert (s.st_uid, s.st_gid, stat.S_IMODE(s.st_mode)) == (1001, 2002, 0o755), s
            s = os.stat(p("group/sub"))
            assert (s.st_uid, s.st_gid, stat.S_IMODE(s.st_mode)) == (1001, 2002, 0o2755), s
            with As(1002, 2003):
                # In a sticky directory only what is its own goes.
                fails(errno.EPERM, lambda: os.rmdir(p("tmp/other")))
                fails(errno.EPERM, lambda: os.rename(p("tmp/other"), p("tmp/x")))
                fails(errno.EACCES, lambda: os.mkdir(p("tmp/mine/x")))
                fails(errno.EACCES, lambda: os.mkdir(p("group/x")))
                os.mkdir(p("tmp/other/x"))
                fails(errno.EPERM, lambda: os.chmod(p("tmp/mine"), 0o777))
                fails(errno.EPERM, lambda: os.utime(p("tmp/mine"), (1, 1)))
                fails(errno.EACCES, lambda: os.utime(p("tmp/mine")))
                os.utime(p("tmp/other"))
            with As(1001, 2001):
                # The directory is not sticky, so what is in it goes whoever made it.
                os.rmdir(p("tmp/other/x"))
                os.rmdir(p("tmp/other"))
                os.rename(p("tmp/mine"), p("tmp/renamed"))
            # A master that does not know this host takes no set-id bits of files from it.
            run("creat", "--size", "1", p("f"))
            fails(errno.EPERM, lambda: os.chmod(p("f"), 0o4755))
            os.chmod(p("f"), 0o755)
            """);
    }

    [Fact]
    public void Programs_on_two_hosts_change_the_same_directories_at_once_and_each_name_is_made_once()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        string address = cluster.StartMaster("a").Address;
        (string a, string b) = (cluster.Mount("a", address).Path, cluster.Mount("b", address).Path);
        Python(a, b, """
            # A directory of a name is made by one of four, and moved and removed by one of them.
            made = [0] * 4
            moved = [0] * 4
            failures = []
            def work(me, mount):
                try:
                    for i in range(150):
                        try: os.mkdir(f"{mount}/d{i}"); made[me] += 1
                        except FileExistsError: pass
                        try: os.rename(f"{mount}/d{i}", f"{mount}/m{i}-{me}"); moved[me] += 1
                        except FileNotFoundError: continue
                        os.rmdir(f"{mount}/m{i}-{me}")
                except Exception as e: failures.append(repr(e))
            threads = [threading.Thread(target=work, args=(me, (a, b)[me % 2])) for me in range(4)]
            for t in threads: t.start()
            for t in threads: t.join()
            assert not failures, failures
            there("nothing is left", lambda: os.listdir(a) == [] and os.listdir(b) == [])
            assert sum(made) == sum(moved) and sum(made) >= 150, (made, moved)
            """);
        Assert.DoesNotContain(cluster.Check().Findings, f => f.Severity == FindingSeverity.Error);
    }

    [Fact]
    public void Without_a_master_changes_are_refused_and_names_go_on_and_with_one_they_are_made_again()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        (ServerProcess master, string address) = cluster.StartMaster("a");
        (ServerProcess daemon, string a) = cluster.Mount("a", address);
        Python(a, a, "os.mkdir(a + '/d')");
        master.Signal("KILL");
        master.AwaitExit();
        Python(a, a, """
            # What is on its way when the master dies may wait; afterwards it is refused at once.
            def refused():
                try: os.mkdir(a + "/x")
                except OSError as e: return e.errno == errno.EHOSTDOWN
                os.rmdir(a + "/x")
            there("it is known that there is no master", refused)
            for act in (lambda: os.mkdir(a + "/e"), lambda: os.rmdir(a + "/d"), lambda: os.chmod(a + "/d", 0o700), lambda: os.rename(a + "/d", a + "/e"), lambda: os.symlink("x", a + "/l")):
                fails(errno.EHOSTDOWN, act)
            assert os.listdir(a) == ["d"]
            """);
        daemon.Await("programs that change names or attributes get EHOSTDOWN: no master is reached");
        cluster.StartMasterAt("a", address);
        Python(a, a, """
            def made():
                try: os.mkdir(a + "/e")
                except OSError as e: assert e.errno == errno.EHOSTDOWN, e; return False
                return True
            there("a change", made)
            os.rmdir(a + "/d")
            assert os.listdir(a) == ["e"]
            """);
    }

    [Fact]
    public async Task A_master_that_is_started_again_fails_no_change_of_a_program()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        (ServerProcess master, string address) = cluster.StartMaster("a");
        (_, string a) = cluster.Mount("a", address);
        string told = cluster.NewDirectory("told");
        Task changing = Task.Run(() => Python(a, told, """
            n, failed = 0, 0
            while not os.path.exists(b + "/over"):
                d, e = f"{a}/d{failed}", f"{a}/e{failed}"
                try: os.mkdir(d); os.rename(d, e); os.chmod(e, 0o700); os.rmdir(e)
                except OSError as error:
                    assert error.errno in (errno.EHOSTDOWN, errno.ETIMEDOUT), error
                    failed += 1
                    open(b + "/failed", "w").write(str(error))
                n += 1
                open(b + "/new", "w").write(str(n)); os.rename(b + "/new", b + "/rounds")
            """), TestContext.Current.CancellationToken);
        string rounds = Path.Combine(told, "rounds");
        string failed = Path.Combine(told, "failed");
        int Rounds() => File.Exists(rounds) ? int.Parse(File.ReadAllText(rounds), CultureInfo.InvariantCulture) : 0;
        void Progress()
        {
            int before = Rounds();
            Cluster.Await("a program's changes", () => changing.IsCompleted || Rounds() > before + 2);
        }
        Progress();
        foreach (string signal in (string[])["KILL", "TERM", "KILL"])
        {
            long gone = Stopwatch.GetTimestamp();
            master.Signal(signal);
            master.AwaitExit();
            master = cluster.StartMasterAt("a", address);
            Progress();
            // Longer than a program waits: then it is to be told.
            if (Stopwatch.GetElapsedTime(gone) < TimeSpan.FromSeconds(9))
                Assert.False(File.Exists(failed), $"{signal}: {(File.Exists(failed) ? File.ReadAllText(failed) : "")}");
            File.Delete(failed);
        }
        File.WriteAllText(Path.Combine(told, "over"), "");
        await changing;
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
