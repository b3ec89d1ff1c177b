using System.IO.MemoryMappedFiles;
using System.Runtime.Versioning;
using Famfs.Client;
using Famfs.Core;
using Famfs.Core.Interop;
using Xunit;

namespace Famfs.EndToEnd;

/// <summary>Policy <c>lease</c> (SAFETY S15, S16): a mount that cannot write its line gives up its files in time, and its space is used
/// again without anybody who proves that it is gone.</summary>
[SupportedOSPlatform("linux")]
public sealed class LeaseTests
{
    [Fact]
    public void A_stopped_daemon_loses_its_files_when_its_lease_has_run_out_and_never_shows_what_came_after_them()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64 * ReuseTests.MiB);
        (string socket, string a) = Begin(cluster);
        // Begun before the policy: of this one only other evidence counts.
        (ServerProcess older, string c) = cluster.Mount("c", socket);
        string said = cluster.Famfs("policy", "--reclaim", "lease", "--lease", "5s", "--grace", "1s", "--master", socket);
        Assert.Contains("reuse          lease of 5 s, grace 1 s", said, StringComparison.Ordinal);
        Assert.Contains($"{c} has no lease: it was begun before the policy", said, StringComparison.Ordinal);
        Assert.Equal("", PathAttributes.Read(c, "user.famfs.lease") ?? "");
        (ServerProcess daemon, string b) = cluster.Mount("b", socket);
        Assert.Equal("5000", PathAttributes.Read(b, "user.famfs.lease"));
        Assert.Contains("reuse lease of 5 s, grace 1 s", cluster.Famfs("status", "--master", socket), StringComparison.Ordinal);
        ReuseTests.Create(cluster, $"{a}/f");
        ReuseTests.Fill($"{a}/f", 1);
        // A mapping of the devices would not notice that the lease has run out.
        FamfsException refused = Assert.Throws<FamfsException>(() => FamfsFile.Map($"{b}/f"));
        Assert.Contains("has a lease of 5000 ms (policy lease)", refused.Message, StringComparison.Ordinal);
        FamfsFile.Map($"{c}/f").Dispose();
        Assert.Equal((null, true), (PathAttributes.Read($"{b}/f", "user.famfs.map"), PathAttributes.Read($"{c}/f", "user.famfs.map")?.Length > 0));
        Assert.Contains("size ", cluster.Famfs("getmap", $"{b}/f"), StringComparison.Ordinal);
        using FileStream open = File.Open($"{b}/f", FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite);
        using MemoryMappedFile mapped = MemoryMappedFile.CreateFromFile($"{b}/f", FileMode.Open);
        using MemoryMappedViewAccessor view = mapped.CreateViewAccessor();
        Assert.Equal((1, 1), (open.ReadByte(), view.ReadByte(40 * ReuseTests.MiB)));
        daemon.Signal("STOP");
        cluster.Famfs("rm", $"{a}/f");
        (int exit, string text) = cluster.TryFamfs("--timeout", "120s", "creat", "--size", ReuseTests.Size, "--wait-space", $"{a}/g");
        Assert.True(exit == 0, text);
        ReuseTests.Fill($"{a}/g", 2);
        Assert.Contains("gone (lease_expired)", cluster.Famfs("hosts", "--all", "--master", socket), StringComparison.Ordinal);
        daemon.Signal("CONT");
        // No request that is read from now on is served from memory.
        Assert.ThrowsAny<IOException>(() => open.ReadExactly(new byte[4096]));
        // It finds its lease over, or the log's word that it is gone, whatever it looks at first.
        daemon.Await("this mount is over");
        Assert.ThrowsAny<IOException>(() => RandomAccess.Write(open.SafeFileHandle, new byte[4096], 0));
        Cluster.Await("the old name is gone there", () => !File.Exists($"{b}/f"));
        Assert.ThrowsAny<IOException>(() => File.OpenRead($"{b}/g"));
        Assert.Equal(80 * ReuseTests.MiB, ReuseTests.Count($"{a}/g", x => x == 2));
        view.Dispose();
        mapped.Dispose();
        open.Dispose();
        // Mounted again, it has all.
        cluster.Famfs("umount", b);
        Assert.Equal(0, daemon.AwaitExit());
        b = cluster.Mount("b", socket).Path;
        Assert.Equal(80 * ReuseTests.MiB, ReuseTests.Count($"{b}/g", x => x == 2));

        // The mount without a lease holds what it has, for as long as it is stopped.
        using (File.OpenRead($"{c}/g"))
        {
            older.Signal("STOP");
            cluster.Famfs("rm", $"{a}/g");
            (exit, text) = cluster.TryFamfs("--timeout", "10s", "creat", "--size", ReuseTests.Size, "--wait-space", $"{a}/h");
            Assert.True(exit == 5 && text.Contains(c, StringComparison.Ordinal), $"{exit}: {text}");
            older.Signal("CONT");
        }
        ReuseTests.Create(cluster, $"{a}/h");
    }

    [Fact]
    public void A_killed_daemon_is_gone_when_its_lease_has_run_out_and_one_that_is_cut_off_renews_it()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64 * ReuseTests.MiB);
        (string socket, string a) = Begin(cluster);
        cluster.Famfs("policy", "--reclaim", "lease", "--lease", "5s", "--grace", "1s", "--master", socket);
        cluster.StartKeeper("b");
        (ServerProcess daemon, string b) = cluster.Mount("b", socket);
        daemon.Await("under policy lease a mount without a daemon could not be revoked in time");
        // Follows by memory alone, once its host has a block.
        cluster.Famfs("umount", cluster.Mount("d", socket).Path);
        (ServerProcess cut, string d) = cluster.Mount("d", $"unix:{Path.Combine(cluster.NewDirectory("nobody"), "master.sock")}");
        ReuseTests.Create(cluster, $"{a}/f");
        ReuseTests.Fill($"{a}/f", 1);
        using (FileStream open = File.OpenRead($"{d}/f"))
        {
            using (File.OpenRead($"{b}/f"))
            {
                daemon.Signal("KILL");
                daemon.AwaitExit();
                cluster.Famfs("rm", $"{a}/f");
                // Longer than lease and grace. By then the killed one counts no more.
                Cluster.Await("the killed one is gone", () => cluster.Famfs("hosts", "--all", "--master", socket).Contains("gone (lease_expired)", StringComparison.Ordinal));
                (int exit, string text) = cluster.TryFamfs("--timeout", "8s", "creat", "--size", ReuseTests.Size, "--wait-space", $"{a}/g");
                Assert.True(exit == 5 && text.Contains("has 1 file open", StringComparison.Ordinal) && !text.Contains(b, StringComparison.Ordinal), $"{exit}: {text}");
            }
            open.Position = (80 * ReuseTests.MiB) - 1;
            Assert.Equal(1, open.ReadByte());
        }
        ReuseTests.Create(cluster, $"{a}/g");
        Assert.False(cut.HasExited);
        cluster.TryFamfs("umount", b);
        // By policy confirmed nothing runs out any more, and what was begun with a lease keeps it.
        Assert.Contains("reuse          confirmed", cluster.Famfs("policy", "--reclaim", "confirmed", "--master", socket), StringComparison.Ordinal);
        Assert.Equal("5000", PathAttributes.Read(d, "user.famfs.lease"));
        cut.Signal("STOP");
        (int stopped, string waits) = cluster.TryFamfs("--timeout", "10s", "wait", "--master", socket);
        Assert.DoesNotContain("lease_expired", string.Concat(cluster.Famfs("hosts", "--all", "--master", socket).Split('\n').Where(line => line.Contains(d, StringComparison.Ordinal))), StringComparison.Ordinal);
        Assert.True(stopped is 0 or 9, waits);
        cut.Signal("CONT");
    }

    // A master that takes policies from whoever is root here, and a mount of its host.
    private static (string Socket, string Path) Begin(Cluster cluster)
    {
        string socket = $"unix:{Path.Combine(cluster.NewDirectory("run"), "master.sock")}";
        string address = cluster.StartMaster("a", "--listen", socket).Address;
        return (socket, cluster.Mount("a", address).Path);
    }
}
