using Xunit;

namespace Famfs.EndToEnd;

/// <summary>What a host may lack: a program works without it, or ends with one line that names it.</summary>
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

    private static string ProgramPath() => string.Join(
        ':',
        Path.GetDirectoryName(Cluster.Program("Famfs.Cli", "famfs")),
        Path.GetDirectoryName(Cluster.Program("Famfs.Fuse", "famfsd")),
        Path.GetDirectoryName(Cluster.Program("Famfs.Master", "famfs-master")),
        Environment.GetEnvironmentVariable("PATH"));
}
