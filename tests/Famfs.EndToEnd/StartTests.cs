using Xunit;

namespace Famfs.EndToEnd;

/// <summary>What a host may lack: a program works without it, or ends with one line that names it.</summary>
[Trait("Programs", "Both")]
public sealed class StartTests
{
    // In a mount namespace of its own, in which the libraries of TLS cannot be loaded.
    private const string WithoutTls = """
        set -e
        for library in $(ldconfig -p | awk '/libssl|libcrypto/ { print $NF }' | sort -u); do mount --bind /dev/null "$library"; done
        famfs mkfs --force --label a-label --host-state "$STATE" "$DEVICE"
        famfs-master --host-state "$STATE" --device "$DEVICE" --listen "unix:$STATE/socket" &
        master=$!
        trap 'famfs umount --force "$MOUNT" || true; kill $master; wait $master || true' EXIT
        export FAMFS_MASTER=unix:$STATE/socket
        famfs status --timeout 3m
        famfs mount --timeout 3m --host-state "$STATE" "$DEVICE" "$MOUNT"
        famfs creat --timeout 3m --size 4K --randomize "$MOUNT/f"
        famfs verify "$MOUNT/f"
        famfs check "$DEVICE"
        famfs doctor "$MOUNT" || true
        findmnt -n -o SOURCE "$MOUNT"
        cat "$STATE"/famfsd*.log
        famfs umount "$MOUNT"
        for line in "status --master https://127.0.0.1:1" "status --ca-file /etc/hostname" "mount --certificate-file /etc/hostname --key-file /etc/hostname $DEVICE $MOUNT"; do
            code=0
            famfs $line --timeout 1s 2>"$STATE/refusal" || code=$?
            echo "refused with $code: $(cat "$STATE/refusal")"
        done
        """;

    [Fact]
    public void Without_libssl_nothing_fails_but_TLS_which_names_the_package()
    {
        using Cluster cluster = Cluster.Create(64L << 20);
        Dictionary<string, string> environment = new()
        {
            ["PATH"] = ProgramPath(),
            ["STATE"] = cluster.NewDirectory("state-without-tls"),
            ["DEVICE"] = cluster.Devices[0],
            ["MOUNT"] = cluster.NewDirectory("mount"),
        };

        using ServerProcess shell = new("/usr/bin/unshare", ["-m", "bash", "-c", WithoutTls], environment);
        int exit = shell.AwaitExit();

        Assert.True(exit == 0, shell.Output);
        Assert.DoesNotContain("No usable version", shell.Output, StringComparison.Ordinal);
        Assert.Contains("locks of files (flock, fcntl) exclude programs of one host only", shell.Output, StringComparison.Ordinal); // doctor
        Assert.Contains("locks of files (flock, fcntl) exclude programs of this host only", shell.Output, StringComparison.Ordinal); // the log
        Assert.Contains("a-label", shell.Output.Split('\n').Select(line => line.Trim()));
        Assert.Equal(3, shell.Output.Split('\n').Count(line => line.StartsWith("refused with 1: famfs: TLS and certificates need libssl", StringComparison.Ordinal) && line.Contains("libssl3 (Debian", StringComparison.Ordinal)));
    }

    [Theory]
    [InlineData("famfs", "status")]
    [InlineData("famfsd", "--device /dev/null /mnt")]
    [InlineData("famfs-master", "--device /dev/null")]
    public void Without_proc_one_line_says_so(string program, string arguments)
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "a mount namespace needs root");
        using ServerProcess shell = new("/usr/bin/unshare", ["-m", "bash", "-c", $"umount -l /proc && exec {program} {arguments}"], new() { ["PATH"] = ProgramPath() });
        int exit = shell.AwaitExit();

        Assert.SkipWhen(shell.Output.Contains("CoreCLR", StringComparison.Ordinal), "the .NET runtime itself does not start without /proc; a native program does");
        Assert.Equal(1, exit);
        Assert.Equal($"{program}: /proc is not mounted; mount it (mount -t proc proc /proc), also in a container or chroot\n", shell.Output);
    }

    [Fact]
    public void With_descriptors_0_1_and_2_closed_a_mount_is_served_and_ends_in_order()
    {
        using Cluster cluster = Cluster.Create(64L << 20);
        string place = cluster.NewDirectory("place");
        (string state, string device) = (cluster.StateOf("a"), cluster.Devices[0]);
        string socket = Path.Combine(cluster.NewDirectory("run"), "s");
        using ServerProcess master = Closed($"exec famfs-master --host-state {state} --device {device} --device {cluster.Devices[1]} --listen unix:{socket}");
        Cluster.Await("a socket", () => File.Exists(socket));
        using ServerProcess daemon = Closed($"exec famfsd --host-state {state} --device {device} --device {cluster.Devices[1]} --master unix:{socket} {place}");
        Cluster.Await("a mount", () => File.ReadAllText("/proc/self/mounts").Contains($" {place} fuse.famfs ", StringComparison.Ordinal));

        foreach (ServerProcess server in (ServerProcess[])[master, daemon])
        {
            Assert.All([0, 1, 2], descriptor => Assert.Equal("/dev/null", new FileInfo($"/proc/{server.Id}/fd/{descriptor}").LinkTarget));
            // Not that of some other name by which it became itself again.
            Assert.StartsWith("famfs", File.ReadAllText($"/proc/{server.Id}/comm"), StringComparison.Ordinal);
        }
        using (ServerProcess command = Closed($"exec famfs mkdir --wait mount {place}/d"))
            Assert.Equal(0, command.AwaitExit());
        Assert.True(Directory.Exists(Path.Combine(place, "d")));
        using (ServerProcess command = Closed($"exec famfs stat '{place}/no such'"))
            Assert.Equal(3, command.AwaitExit());

        daemon.Signal("TERM");
        Assert.Equal(0, daemon.AwaitExit());
        Assert.DoesNotContain($" {place} ", File.ReadAllText("/proc/self/mounts"), StringComparison.Ordinal);
        master.Signal("TERM");
        Assert.Equal(0, master.AwaitExit());

        static ServerProcess Closed(string line) => Shell($"{line} <&- >&- 2>&-");
    }

    [Theory]
    [InlineData("famfs stat 2>/dev/full", 2)]
    [InlineData("famfs stat --timeout 2 --master unix:/nowhere /f 2>/dev/full", 6)]
    [InlineData("famfs --help >/dev/full", 1, "famfs: standard output: No space left on device (errno 28)\n")]
    [InlineData("famfs --help >/dev/full 2>/dev/full", 1)]
    [InlineData("famfsd --device /nowhere --host-state STATE /mnt >/dev/full 2>/dev/full", 1)]
    [InlineData("famfsd --bogus >/dev/full 2>/dev/full", 1)]
    [InlineData("famfs-master --device /nowhere --host-state STATE --listen unix:STATE/s >/dev/full 2>/dev/full", 1)]
    [InlineData("famfs-master --device /nowhere --host-state STATE --listen unix:STATE/s 2>&1 >/dev/full", 1, "famfs-master: /nowhere: no such file or device\n")]
    public void A_full_disk_behind_the_output_changes_no_exit_code(string line, int code, string output = "")
    {
        string state = Directory.CreateTempSubdirectory("famfs-start-").FullName;
        try
        {
            using ServerProcess shell = Shell(line.Replace("STATE", state, StringComparison.Ordinal));
            int exit = shell.AwaitExit();
            Assert.Equal((code, output), (exit, shell.Output));
        }
        finally
        {
            Directory.Delete(state, recursive: true);
        }
    }

    [Fact]
    public void A_daemon_whose_log_is_full_serves()
    {
        using Cluster cluster = Cluster.Create(64L << 20);
        string master = cluster.StartMaster("a").Address;
        string place = cluster.NewDirectory("place");
        using ServerProcess daemon = Shell($"exec famfsd --host-state {cluster.StateOf("a")} --device {cluster.Devices[0]} --device {cluster.Devices[1]} --master {master} {place} >/dev/full 2>&1");
        Cluster.Await("a mount", () => File.ReadAllText("/proc/self/mounts").Contains($" {place} fuse.famfs ", StringComparison.Ordinal));
        cluster.Famfs("creat", "--timeout", "3m", "--size", "4K", "--randomize", Path.Combine(place, "f"));
        cluster.Famfs("verify", Path.Combine(place, "f"));
        // What a copy says is its result: that it is lost is an error, also where another process does the work. The copy is there.
        string source = Path.Combine(cluster.NewDirectory("source"), "g");
        File.WriteAllText(source, "content");
        using (ServerProcess copy = Shell($"exec famfs cp --timeout 3m {source} {place}/g >/dev/full"))
            Assert.Equal((1, "famfs: standard output: No space left on device (errno 28)\n"), (copy.AwaitExit(), copy.Output));
        Assert.Equal("content", File.ReadAllText(Path.Combine(place, "g")));
        daemon.Signal("TERM");
        Assert.Equal(0, daemon.AwaitExit());
    }

    [Fact]
    public void A_daemon_that_may_write_no_file_says_so_and_leaves_no_mount()
    {
        RequirePrlimit();
        using Cluster cluster = Cluster.Create(64L << 20);
        string place = cluster.NewDirectory("place");
        // The .NET runtime keeps its own code in a file in memory, unless it is told not to.
        using ServerProcess daemon = Shell($"exec prlimit --fsize=0 env DOTNET_EnableWriteXorExecute=0 famfsd --host-state {cluster.StateOf("a")} --device {cluster.Devices[0]} --device {cluster.Devices[1]} {place}");
        int exit = daemon.AwaitExit();
        Assert.True(exit == 1, $"{exit}: {daemon.Output}");
        Assert.Single(daemon.Output.Trim().Split('\n'), l => l.StartsWith("famfsd: ", StringComparison.Ordinal) && l.Contains("File too large", StringComparison.Ordinal));
        Assert.DoesNotContain($" {place} ", File.ReadAllText("/proc/self/mounts"), StringComparison.Ordinal);
    }

    /// <summary>No line without a receipt: who comes after could not prove that the mount is gone.</summary>
    [Fact]
    public void A_mount_that_cannot_leave_its_receipt_says_so_and_registers_when_it_can()
    {
        using Cluster cluster = Cluster.Create(64L << 20);
        string master = cluster.StartMaster("a").Address;
        string receipts = Path.Combine(cluster.StateOf("a"), "mounts");
        Directory.CreateDirectory(cluster.StateOf("a"));
        File.WriteAllText(receipts, "");
        (ServerProcess daemon, string place) = cluster.LaunchMount("a", "m", master);
        daemon.Await("subscribed to the master");
        daemon.Await(receipts);
        Assert.DoesNotContain("registered in the host table", daemon.Output, StringComparison.Ordinal);
        File.Delete(receipts);
        daemon.Await("registered in the host table");
        cluster.Famfs("creat", "--size", "4K", place + "/f");
        daemon.Signal("TERM");
        Assert.True(daemon.AwaitExit() == 0, daemon.Output);
        Assert.Empty(Directory.GetFiles(receipts));
    }

    [Theory]
    [InlineData("QUIT")]
    [InlineData("USR1")]
    [InlineData("USR2")]
    [InlineData("ALRM")]
    [InlineData("HUP")]
    public void A_daemon_that_any_signal_tells_to_end_takes_its_mount_away(string signal)
    {
        using Cluster cluster = Cluster.Create(64L << 20);
        (ServerProcess daemon, string place) = cluster.LaunchDaemon("a", [.. cluster.DeviceArguments()]);
        daemon.Await("mounted file system");
        daemon.Signal(signal);
        int exit = daemon.AwaitExit();
        Assert.True(exit == 0, $"{exit}: {daemon.Output}");
        Assert.DoesNotContain($" {place} ", File.ReadAllText("/proc/self/mounts"), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("--nofile=64:64", "64 files may be open, ")]
    [InlineData("--as=2147483648", "the address space is limited to 2097152 KiB, 4194304 KiB are needed; raise the limit (ulimit -v, ")]
    [InlineData("--data=104857600", "the memory for data is limited to 102400 KiB, ")]
    [InlineData("--stack=131072", "the stack of a thread is limited to 128 KiB, 512 KiB are needed; raise the limit (ulimit -s, ")]
    public void A_limit_that_is_too_low_is_one_line(string limit, string cause)
    {
        RequirePrlimit();
        foreach (string program in (string[])["famfs status", "famfsd --device /dev/null /mnt", "famfs-master --device /dev/null"])
        {
            using ServerProcess shell = Shell($"exec prlimit {limit} {program}");
            int exit = shell.AwaitExit();
            Assert.Equal(1, exit);
            Assert.StartsWith($"{program.Split(' ')[0]}: {cause}", shell.Output, StringComparison.Ordinal);
            Assert.EndsWith(" of a systemd unit)\n", shell.Output, StringComparison.Ordinal);
            Assert.Single(shell.Output.Trim().Split('\n'));
        }
    }

    [Fact]
    public void Too_few_threads_for_the_user_are_one_line()
    {
        RequirePrlimit();
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "becoming a user of its own needs root");
        // A user that has nothing else. The runtime itself has some before the program runs.
        foreach (string program in (string[])["famfsd --device /dev/null /mnt", "famfs-master --device /dev/null"])
        {
            using ServerProcess shell = Shell($"exec setpriv --reuid=65432 --regid=65432 --clear-groups prlimit --nproc=14:14 {program}");
            int exit = shell.AwaitExit();
            Assert.SkipWhen(exit is 126 or 127, "the programs lie where another user cannot reach them");
            Assert.True(exit == 1, $"{exit}: {shell.Output}");
            Assert.Matches($"^{program.Split(' ')[0]}: [0-9]+ more threads can be started, 16 are needed; raise the limit of processes \\(ulimit -u, [^\n]*\n$", shell.Output);
        }
    }

    // In name spaces of its own: what a program does wrong here ends with them.
    private const string BadPlaces = """
        refused() { code=0; timeout -k 5 60 "$@" >/mnt/said 2>&1 || code=$?; echo "$code $(cat /mnt/said)"; }
        mount -t tmpfs tmpfs /mnt
        mkdir -p /mnt/ro /mnt/full /mnt/place
        mount -t tmpfs -o size=64k tmpfs /mnt/full
        head -c 1M /dev/zero >/mnt/full/zeros 2>/dev/null
        mount -t tmpfs -o ro tmpfs /mnt/ro
        for place in / /.. /proc/self/root /dev /dev/shm /proc "$STATE"; do
            refused famfs mount --timeout 30 --host-state "$STATE" "$DEVICE" "$place"
            refused famfsd --host-state "$STATE" --device "$DEVICE" "$place"
        done
        refused famfs mount --timeout 30 --host-state /mnt/ro/state "$DEVICE" /mnt/place
        refused famfs mount --timeout 30 --host-state /mnt/ro "$DEVICE" /mnt/place
        refused famfs mount --timeout 30 --host-state /mnt/full "$DEVICE" /mnt/place
        refused famfs mount --timeout 30 --host-state "$STATE" --log /mnt "$DEVICE" /mnt/place
        refused famfs mount --timeout 30 --host-state "$STATE" --log /dev/full "$DEVICE" /mnt/place
        # Other tests have mounts, too.
        grep -c -E " (/|/dev|/dev/shm|/proc|/mnt/.*|$STATE) fuse.famfs " /proc/self/mounts
        """;

    [Fact]
    public void A_place_or_a_log_that_cannot_be_used_is_named_and_nothing_is_mounted()
    {
        using Cluster cluster = Cluster.Create(64L << 20);
        (string state, string device) = (cluster.StateOf("a"), cluster.Devices[0]);
        using ServerProcess shell = new("/usr/bin/unshare", ["-m", "-p", "-f", "--mount-proc", "--kill-child", "bash", "-c", BadPlaces], new() { ["PATH"] = ProgramPath(), ["STATE"] = state, ["DEVICE"] = device });
        shell.AwaitExit();
        string[] root = ["2 famfs: /: is the root of this host; mount on a directory below it", "1 famfsd: /: is the root of this host; mount on a directory below it"];
        string[] Hides(string place, string what) => [$"2 famfs: {place}: a mount there would hide {what}, which is needed", $"1 famfsd: {place}: a mount there would hide {what}, which is needed"];
        string[] expected =
        [
            .. root, .. root, .. root, .. Hides("/dev", "/dev"), .. Hides("/dev/shm", device), .. Hides("/proc", "/proc"), .. Hides(state, state),
            "8 famfs: Read-only file system : '/mnt/ro/state'",
            "8 famfs: /mnt/ro/famfsd-mnt-place.log: Read-only file system (errno 30)",
            "5 famfs: /mnt/full/famfsd-mnt-place.log: No space left on device (errno 28)",
            "1 famfs: /mnt: Is a directory (errno 21)",
            "5 famfs: /dev/full: No space left on device (errno 28)",
            "0",
        ];
        Assert.Equal(expected, shell.Output.Trim().Split('\n'));
    }

    [Fact]
    public void A_mount_point_with_a_long_name_has_a_log()
    {
        using Cluster cluster = Cluster.Create(64L << 20);
        string place = cluster.NewDirectory(Path.Combine("place", new string('n', 200), new string('m', 200)));
        (int exit, string output) = cluster.TryFamfs(["mount", "--no-wait", "--host-state", cluster.StateOf("a"), .. cluster.Devices, place]);
        Assert.True(exit == 0, output);
        cluster.Famfs("umount", place);
        Assert.Single(Directory.GetFiles(cluster.StateOf("a"), "famfsd-*.log"));
    }

    private static void RequirePrlimit() => Assert.SkipUnless(File.Exists("/usr/bin/prlimit"), "prlimit of util-linux is not there");

    private static ServerProcess Shell(string line) => new("/bin/bash", ["-c", line], new() { ["PATH"] = ProgramPath() });

    private static string ProgramPath() => string.Join(
        ':',
        Path.GetDirectoryName(Cluster.Program("Famfs.Cli", "famfs")),
        Path.GetDirectoryName(Cluster.Program("Famfs.Fuse", "famfsd")),
        Path.GetDirectoryName(Cluster.Program("Famfs.Master", "famfs-master")),
        Environment.GetEnvironmentVariable("PATH"));
}
