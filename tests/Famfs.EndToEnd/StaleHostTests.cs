using System.IO.MemoryMappedFiles;
using System.Runtime.Versioning;
using Famfs.Client;
using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Interop;
using Famfs.Core.Log;
using Famfs.V1;
using Xunit;

namespace Famfs.EndToEnd;

/// <summary>Hosts that are cut off, taken away, booted anew or impersonated while files that they have are removed: never other bytes, no
/// reuse before there is evidence, and reuse as soon as there is (SAFETY S11 to S14, S28).</summary>
[SupportedOSPlatform("linux")]
public sealed class StaleHostTests
{
    [Fact]
    public void A_host_that_is_cut_off_follows_by_memory_and_holds_up_only_what_it_has()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64 * ReuseTests.MiB);
        using NetworkPair network = NetworkPair.Create();
        string socket = $"unix:{Path.Combine(cluster.NewDirectory("run"), "master.sock")}";
        string address = $"http://{NetworkPair.FirstAddress}:7070";
        ServerProcess master = cluster.LaunchBy(network.First, "Famfs.Master", "famfs-master",
            ["--host-state", cluster.StateOf("a"), .. cluster.DeviceArguments(), "--listen", socket, "--listen", address]);
        master.Await("listening on");
        string a = cluster.Mount("a", socket).Path;
        string b = cluster.NewDirectory("b");
        ServerProcess daemon = cluster.LaunchBy(network.Second, "Famfs.Fuse", "famfsd", ["--host-state", cluster.StateOf("b"), .. cluster.DeviceArguments(), "--master", address, b]);
        daemon.Await("registered in the host table");
        daemon.Await("subscribed to the master");
        ReuseTests.Create(cluster, $"{a}/f");
        ReuseTests.Fill($"{a}/f", 1);
        using (FileStream open = File.OpenRead($"{b}/f"))
        {
            network.Cut();
            daemon.Await("following the log in memory");
            cluster.Famfs("rm", $"{a}/f");
            Cluster.Await("the name is gone there", () => !File.Exists($"{b}/f"));
            Assert.Contains("has 1 file open", ReuseTests.Refusal(cluster, $"{a}/g", until: "has 1 file open"), StringComparison.Ordinal);
            Assert.Equal(1, open.ReadByte());
            open.Position = (80 * ReuseTests.MiB) - 1;
            Assert.Equal(1, open.ReadByte());
        }
        // Its line says that it has let go, and that it has the record of the new file.
        ReuseTests.Create(cluster, $"{a}/g");
        Assert.Equal(0, ReuseTests.Count($"{b}/g", x => x != 0));
        Assert.Throws<IOException>(() => Directory.CreateDirectory($"{b}/d"));
        network.Mend();
        Cluster.Await("it has its master again", () => PathAttributes.Read(b, "user.famfs.master") == address);
        Directory.CreateDirectory($"{b}/d");
        Cluster.Await("its change is everywhere", () => Directory.Exists($"{a}/d"));
    }

    [Fact]
    public void A_mount_that_was_taken_away_lazily_holds_what_a_program_has_mapped()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64 * ReuseTests.MiB);
        string address = cluster.StartMaster("a").Address;
        string a = cluster.Mount("a", address).Path;
        (ServerProcess daemon, string b) = cluster.Mount("b", address);
        ReuseTests.Create(cluster, $"{a}/f");
        ReuseTests.Fill($"{a}/f", 1);
        using (MemoryMappedFile mapped = MemoryMappedFile.CreateFromFile($"{b}/f", FileMode.Open))
        using (MemoryMappedViewAccessor view = mapped.CreateViewAccessor())
        {
            Assert.Equal(1, view.ReadByte(0));
            using (ServerProcess umount = new("umount", ["-l", b]))
                Assert.True(umount.AwaitExit() == 0, umount.Output);
            cluster.Famfs("rm", $"{a}/f");
            Assert.Contains("has 1 file open", ReuseTests.Refusal(cluster, $"{a}/g", until: "has 1 file open"), StringComparison.Ordinal);
            // A page that nobody has touched yet.
            Assert.Equal(1, view.ReadByte((80 * ReuseTests.MiB) - 1));
            Assert.False(daemon.HasExited);
        }
        // With the last mapping the mount ends, in order.
        Assert.Equal(0, daemon.AwaitExit());
        ReuseTests.Create(cluster, $"{a}/g");
    }

    [Fact]
    public void A_host_that_has_booted_anew_proves_that_its_former_mounts_are_gone_unless_one_lives()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64 * ReuseTests.MiB);
        string address = cluster.StartMaster("a").Address;
        string a = cluster.Mount("a", address).Path;
        (ServerProcess daemon, string b) = cluster.Mount("b", address);
        ReuseTests.Create(cluster, $"{a}/f");
        using FileStream open = File.OpenRead($"{b}/f");
        cluster.Famfs("rm", $"{a}/f");
        // Another machine with a copy of its state: it gets no line, because the line of the first moves.
        ServerProcess twin = BootAnew(cluster, address);
        twin.Await("another machine is mounted under this host's id");
        twin.Signal("TERM");
        Assert.Equal(0, twin.AwaitExit());
        Assert.DoesNotContain("registered in the host table", twin.Output, StringComparison.Ordinal);
        Assert.Contains("has 1 file open", ReuseTests.Refusal(cluster, $"{a}/g", until: "has 1 file open"), StringComparison.Ordinal);
        // The boot that its memory ended with.
        daemon.Signal("KILL");
        daemon.AwaitExit();
        Assert.Contains("silent for", ReuseTests.Refusal(cluster, $"{a}/g", until: "silent for"), StringComparison.Ordinal);
        ServerProcess next = BootAnew(cluster, address);
        next.Await("registered in the host table");
        ReuseTests.Create(cluster, $"{a}/g");
        Assert.Contains("gone (new_boot)", cluster.Famfs("hosts", "--all", a), StringComparison.Ordinal);
        next.Signal("TERM");
        Assert.Equal(0, next.AwaitExit());
    }

    [Fact]
    public async Task Nobody_releases_for_a_mount_that_is_silent()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64 * ReuseTests.MiB);
        string address = cluster.StartMaster("a").Address;
        string a = cluster.Mount("a", address).Path;
        (ServerProcess daemon, string b) = cluster.Mount("b", address);
        ReuseTests.Create(cluster, $"{a}/f");
        ReuseTests.Fill($"{a}/f", 1);
        using FamfsClient client = Cluster.Connect(address);
        HostStatus victim = (await client.ListHostsAsync(cancel: Cancel)).Hosts.Single(h => h.MountPoint == b);
        using (FileStream open = File.OpenRead($"{b}/f"))
        {
            daemon.Signal("STOP");
            cluster.Famfs("rm", $"{a}/f");
            ReuseTests.Refusal(cluster, $"{a}/g", until: "silent for");
            Position newest = (await client.GetStatusAsync(cancel: Cancel)).Position;
            Guid[] hosts = [victim.HostId.ToGuid("host_id"), Guid.NewGuid()];
            Guid[] mounts = [victim.MountId.ToGuid("mount_id"), Guid.NewGuid()];
            foreach ((Guid host, Guid mount) in hosts.SelectMany(h => mounts.Select(m => (h, m))))
            {
                // As the mount itself, as a later mount of its host that has seen it end, as others that claim either.
                Hello hello = new() { HostId = host.ToByteString(), MountId = mount.ToByteString(), BootId = victim.BootId, Position = newest };
                if (mount != victim.MountId.ToGuid("mount_id"))
                    hello.OlderMounts.Add(new OlderMount { MountId = victim.MountId, Evidence = GoneEvidence.SuperblockGone, Detail = "a lie" });
                LogSubscriber subscriber = new(client);
                Stranger stranger = new(hello);
                using CancellationTokenSource over = CancellationTokenSource.CreateLinkedTokenSource(Cancel);
                Task stream = subscriber.RunOnceAsync(stranger, over.Token);
                await Task.WhenAny(stream, stranger.Welcomed.Task).WaitAsync(Cluster.Patience, Cancel);
                subscriber.Acknowledge(new(newest.FileSystemUuid.ToGuid("file_system_uuid"), newest.Generation, new(newest.Sequence), new(newest.Term)));
                subscriber.Report(new Released { Watermark = newest });
                // Longer than a look at all lines takes, and than evidence is watched.
                (int exit, string text) = cluster.TryFamfs("--timeout", "4s", "creat", "--size", ReuseTests.Size, "--wait-space", $"{a}/g");
                Assert.True(exit == 5 && text.Contains(b, StringComparison.Ordinal), $"as {host} {mount}: {exit}, {text}");
                await over.CancelAsync();
                await stream.ContinueWith(_ => { }, TaskScheduler.Default);
            }
            daemon.Signal("CONT");
            Cluster.Await("the name is gone there", () => !File.Exists($"{b}/f"));
            Assert.Equal(80 * ReuseTests.MiB, ReuseTests.Count(open, x => x == 1));
        }
        ReuseTests.Create(cluster, $"{a}/g");
    }

    // Loads a byte of its mapping again and again; 3: it was another file's.
    private const string Mapper = "import mmap, sys, time\nf = open(sys.argv[1], 'rb')\nm = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)\nprint('mapped' if m[0] == 1 else 'wrong', flush=True)\nwhile m[0] == 1: time.sleep(0.01)\nsys.exit(3)\n";

    [Fact]
    public void A_mount_that_is_declared_gone_and_is_not_loses_its_files()
    {
        const int BusError = 128 + 7;
        using Cluster cluster = Cluster.Create(deviceBytes: 64 * ReuseTests.MiB);
        string socket = $"unix:{Path.Combine(cluster.NewDirectory("run"), "master.sock")}";
        string address = cluster.StartMaster("a", "--listen", socket).Address;
        string a = cluster.Mount("a", address).Path;
        (ServerProcess daemon, string b) = cluster.Mount("b", address);
        ReuseTests.Create(cluster, $"{a}/f");
        ReuseTests.Fill($"{a}/f", 1);
        string mount = FamfsMount.FindAll().Single(m => m.MountPoint == b).RequireMountId().ToString();
        using (FileStream open = File.OpenRead($"{b}/f"))
        using (ServerProcess mapper = new("python3", ["-c", Mapper, $"{b}/f"]))
        {
            Assert.Equal(1, open.ReadByte());
            mapper.Await("mapped");
            daemon.Signal("STOP");
            Cluster.Await("it is declared gone", () => cluster.TryFamfs("--master", socket, "hosts", "evict", mount, "--fenced", "--detail", "a lie").Exit == 0);
            cluster.Famfs("rm", $"{a}/f");
            ReuseTests.Create(cluster, $"{a}/g");
            ReuseTests.Fill($"{a}/g", 2);
            daemon.Signal("CONT");
            daemon.Await("programs have lost its files");
            open.Position = (80 * ReuseTests.MiB) - 1;
            Assert.Throws<IOException>(() => open.ReadByte());
            Assert.Equal(BusError, mapper.AwaitExit());
            Assert.ThrowsAny<IOException>(() => File.ReadAllBytes($"{b}/g"));
        }
        Assert.Equal(80 * ReuseTests.MiB, ReuseTests.Count($"{a}/g", x => x == 2));
        cluster.Famfs("umount", b);
        Assert.Equal(0, daemon.AwaitExit());
    }

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    /// <summary>A daemon of host b in a boot of its own. Its mount is in a mount namespace that ends with it.</summary>
    private static ServerProcess BootAnew(Cluster cluster, string address)
    {
        string boot = Path.Combine(cluster.NewDirectory("boot"), "boot_id");
        File.WriteAllText(boot, $"{Guid.NewGuid()}\n");
        string script = $"mount --bind {boot} /proc/sys/kernel/random/boot_id && exec \"$@\"";
        return cluster.LaunchBy(["unshare", "-m", "bash", "-c", script, "bash"], "Famfs.Fuse", "famfsd",
            ["--host-state", cluster.StateOf("b"), .. cluster.DeviceArguments(), "--master", address, cluster.NewDirectory("later")]);
    }
}
