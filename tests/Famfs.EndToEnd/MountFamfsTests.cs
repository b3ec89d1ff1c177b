using Famfs.Core.Log;
using Xunit;

namespace Famfs.EndToEnd;

/// <summary>mount(8), umount(8), findmnt(8) and df(1) of the host with <c>mount.famfs</c>. Everything in mount namespaces of their own, whose
/// /sbin has the helper.</summary>
public sealed class MountFamfsTests
{
    // Links to all of the host's, and the helper under both of its names. mount(8) looks in no other directory.
    private const string Prelude = """
        set -eu
        exec 2>&1 # what is said in the order in which it is said
        mkdir "$WORK/sbin" && mount --bind /usr/sbin "$WORK/sbin" && mount -t tmpfs none /usr/sbin
        for program in "$WORK"/sbin/*; do ln -s "$program" /usr/sbin/; done
        for name in mount.famfs mount.fuse.famfs; do ln -sf "$FAMFS" /usr/sbin/$name; done
        [ /sbin -ef /usr/sbin ] || mount --bind /usr/sbin /sbin
        ln -sf "$FAMFSD" /usr/sbin/famfsd # mount(8) passes no PATH on
        trap 'umount -l "$MOUNT" 2>/dev/null || true' EXIT

        """;

    [Fact]
    public void Mount_of_the_host_mounts_by_label_uuid_and_place_and_umount_ends_it()
    {
        using Cluster cluster = Cluster.Create(64L << 20, "--label", "a-label", "--host-state", "STATE");
        string output = Run(cluster, """
            options=master=$MASTER,host-state=$STATE,_netdev,nofail,x-systemd.requires=x.service,comment=mine
            mount -t famfs -o "$options,device=$DEVICES" a-label "$MOUNT"
            findmnt -n -o SOURCE,FSTYPE,TARGET "$MOUNT"
            df --output=source,target "$MOUNT" | tail -1
            findmnt -n -o OPTIONS "$MOUNT" | tr , '\n' | grep -x -e rw -e nosuid
            "$FAMFS" mkdir "$MOUNT/d" >/dev/null && ls "$MOUNT"
            mount -t famfs -o "$options,device=$DEVICES" a-label "$MOUNT" || echo "second: $?"
            umount "$MOUNT"
            findmnt "$MOUNT" || echo gone
            mount -t famfs -o "ro,$options,device=$DEVICES" "$UUID" "$MOUNT" && findmnt -n -o OPTIONS "$MOUNT" | tr , '\n' | grep -x ro && umount "$MOUNT"
            mount -t famfs -o "$options" "$DEVICES" "$MOUNT" && ls "$MOUNT" && umount "$MOUNT"
            mount -f -v -t famfs -o "$options,device=$DEVICES" a-label "$MOUNT"
            findmnt "$MOUNT" || echo gone
            """);
        string[] lines = [.. output.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(l => string.Join(' ', l.Split(' ', StringSplitOptions.RemoveEmptyEntries)))];
        string mount = MountOf(cluster);
        Assert.Equal(
            [
                $"a-label fuse.famfs {mount}", $"a-label {mount}", "rw", "nosuid", "d",
                $"mount.famfs: {mount}: a famfs is mounted there", "second: 32", "gone", "ro", "d",
                "mount.famfs: found a-label; nothing is mounted (-f)", "gone",
            ], lines.Where(l => !l.StartsWith("mount.famfs: a-label at", StringComparison.Ordinal)));
    }

    [Fact]
    public void A_line_of_fstab_is_mounted_and_remounted_by_its_directory_alone()
    {
        using Cluster cluster = Cluster.Create(64L << 20, "--label", "a-label", "--host-state", "STATE");
        string output = Run(cluster, """
            echo "a-label $MOUNT famfs master=$MASTER,host-state=$STATE,device=$DEVICES,defaults,_netdev,nofail,x-systemd.automount 0 0" > "$WORK/fstab"
            mount -T "$WORK/fstab" "$MOUNT"
            $FAMFS creat --size 4096 "$MOUNT/f"
            exec 3<>"$MOUNT/f"
            mount -T "$WORK/fstab" -o remount,ro "$MOUNT" || echo "busy: $?"
            exec 3<&-
            mount -T "$WORK/fstab" -o remount,ro "$MOUNT"
            dd if=/dev/zero of="$MOUNT/f" bs=4096 count=1 conv=notrunc status=none || echo "read-only"
            mount -o remount,rw "$MOUNT"
            dd if=/dev/zero of="$MOUNT/f" bs=4096 count=1 conv=notrunc status=none && echo "writable"
            mount -T "$WORK/fstab" -o remount,ro "$WORK" || echo "other: $?"
            umount "$MOUNT"
            """);
        Assert.Contains("stays writable: files are open for writing", output, StringComparison.Ordinal);
        Assert.Contains("busy: 32", output, StringComparison.Ordinal);
        Assert.Contains("\nread-only\n", output, StringComparison.Ordinal);
        Assert.Contains("\nwritable\n", output, StringComparison.Ordinal);
        Assert.Contains("other: ", output, StringComparison.Ordinal);
    }

    [Fact]
    public void What_cannot_be_mounted_has_one_line_and_the_bit_of_its_kind()
    {
        using Cluster cluster = Cluster.Create(64L << 20, "--label", "a-label", "--host-state", "STATE");
        string output = Run(cluster, """
            try() { code=0; mount.famfs "$@" || code=$?; echo "= $code"; }
            try a-label
            try a-label "$MOUNT" -o nonsense
            try a-label "$MOUNT" -o master=nonsense
            try a-label "$MOUNT" -N 1
            try a-label "$MOUNT" -t ext4
            try b-label "$MOUNT" -sfnv -o "nonsense,device=$DEVICES"
            try UUID=b "$MOUNT" -o "device=$DEVICES"
            try a-label /nowhere -o "device=$DEVICES"
            FAMFS_CONFIG_DIR=/nowhere try a-label "$MOUNT"
            try none "$MOUNT" -o remount,ro
            """);
        Assert.Equal(
            [1, 1, 1, 1, 1, 32, 1, 32, 1, 32],
            output.Split('\n').Where(l => l.StartsWith("= ", StringComparison.Ordinal)).Select(l => int.Parse(l[2..], System.Globalization.CultureInfo.InvariantCulture)));
        foreach (string text in (string[])["the directory is missing", "-o nonsense: unknown mount option; known are ro", "'nonsense' is not an address of a master", "-N 1: mounting in another name space", "-t ext4: is not famfs", "none is the first device (index 0) of a file system that is called b-label", "UUID=b: is no uuid", "/nowhere: no such directory to mount on", "/nowhere: there is no such directory of configuration files", "no famfs is mounted there"])
            Assert.Contains(text, output, StringComparison.Ordinal);
    }

    private static string MountOf(Cluster cluster) => cluster.NewDirectory("mount");

    private static string Run(Cluster cluster, string script)
    {
        string address = cluster.StartMaster("a").Address;
        Guid uuid;
        using (DevicePool pool = Famfs.TestSupport.TestFormats.All.Open([.. cluster.Devices.Select(d => Famfs.Core.Dax.DaxDevice.Open(d, readOnly: true))]))
            uuid = pool.Primary.FileSystem;
        Dictionary<string, string> environment = new()
        {
            ["FAMFS"] = Cluster.Program("Famfs.Cli", "famfs"),
            ["FAMFSD"] = Cluster.Program("Famfs.Fuse", "famfsd"),
            ["MASTER"] = address,
            ["STATE"] = cluster.StateOf("a"),
            ["DEVICES"] = cluster.DevicePattern,
            ["UUID"] = uuid.ToString(),
            ["MOUNT"] = MountOf(cluster),
            ["WORK"] = cluster.NewDirectory("work"),
        };
        using ServerProcess shell = new("/usr/bin/unshare", ["-m", "bash", "-c", Prelude + script], environment);
        int exit = shell.AwaitExit();
        Assert.True(exit == 0, shell.Output);
        return shell.Output;
    }
}
