using System.Text;
using Famfs.Client;
using Xunit;

namespace Famfs.EndToEnd;

/// <summary>A log that is damaged while it is followed.</summary>
public sealed class DamageTests : IDisposable
{
    /// <summary>An address where nobody listens.</summary>
    private const string Nobody = "http://127.0.0.1:9";

    private readonly string _systems = Directory.CreateTempSubdirectory("famfs-systems-").FullName;

    public void Dispose() => Directory.Delete(_systems, recursive: true);

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Damage_that_a_mount_meets_makes_it_read_only_and_log_and_status_say_so(bool native)
    {
        string system = Path.Combine(_systems, "system_uuid");
        using Cluster cluster = native ? Cluster.Create(256L << 20) : Cluster.Create(256L << 20, "--format", "famfs-2", "--system-uuid-file", system);
        // The log names an address where nobody listens, so the memory is followed, where the damage is.
        string master = cluster.StartMaster("a", native ? ["--advertise", Nobody] : ["--system-uuid-file", system]).Address;
        if (native)
        {
            // Once known to a master, a host can mount without one.
            (ServerProcess first, string there) = cluster.Mount("b", master);
            cluster.Famfs("umount", there);
            first.AwaitExit();
        }
        cluster.Famfs("--master", master, "creat", "--size", "4K", "good");
        (ServerProcess daemon, string mount) = cluster.MountWhen(native ? "registered in the host table" : "mounted file system", "b", Nobody);
        using FileStream open = OpenForWriting(Path.Combine(mount, "good"));
        open.Write("before"u8);
        open.Flush();

        daemon.Signal("STOP");
        cluster.Famfs("--master", master, "creat", "--size", "4K", "damaged-name");
        Damage(cluster.Devices[0], "damaged-name"u8);
        daemon.Signal("CONT");
        daemon.Await("read-only from now on");

        Assert.Equal("before", Read(Path.Combine(mount, "good")));
        open.Position = 0;
        Assert.Equal(30, Assert.ThrowsAny<IOException>(() =>
        {
            open.Write("after"u8);
            open.Flush();
        }).HResult); // EROFS
        Assert.Equal(30, Assert.ThrowsAny<IOException>(() => OpenForWriting(Path.Combine(mount, "good"))).HResult);
        open.Dispose();
        Cluster.Await("the read-only mount", () => FamfsMount.Require(mount, out _).IsReadOnly);
        Assert.Contains("is wrong", FamfsMount.Require(mount, out _).ReadDamage(), StringComparison.Ordinal);
        Assert.Contains($"{mount} is read-only: ", cluster.Famfs("--master", master, "status", mount), StringComparison.Ordinal);
        Assert.Single(Directory.GetFiles(mount));
    }

    // Unbuffered: what is written goes to the kernel.
    private static FileStream OpenForWriting(string path) => new(path, FileMode.Open, FileAccess.Write, FileShare.ReadWrite, bufferSize: 0);

    private static string Read(string path)
    {
        using FileStream file = new(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
        byte[] bytes = new byte[6];
        file.ReadExactly(bytes);
        return Encoding.ASCII.GetString(bytes);
    }

    private static void Damage(string device, ReadOnlySpan<byte> found)
    {
        using FileStream file = new(device, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite);
        byte[] bytes = new byte[32 << 20];
        file.ReadExactly(bytes);
        int at = bytes.AsSpan().IndexOf(found);
        Assert.True(at > 0);
        file.Position = at;
        file.WriteByte((byte)'D');
    }
}
