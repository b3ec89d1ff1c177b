using Famfs.Client;
using Famfs.Core;
using Famfs.Core.Interop;
using Famfs.V1;
using Xunit;

namespace Famfs.EndToEnd;

/// <summary><see cref="FamfsFile.Map"/> through real mounts: what is stored through one host is what the others
/// load and read, and the mapped file counts as in use (SAFETY S13).</summary>
public sealed class MappedFileTests
{
    private const int Unit = 2 << 20;

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData(LayoutKind.Contiguous, (5 * Unit) + 123)]
    [InlineData(LayoutKind.Interleaved, (7 * Unit) + 1)]
    public async Task Stores_through_one_mount_are_loaded_and_read_through_the_other(LayoutKind kind, int size)
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        string master = cluster.StartMaster("a").Address;
        string a = cluster.Mount("a", master).Path;
        string b = cluster.Mount("b", master).Path;
        // A file of the other layout before it, so that offsets in the file and on the devices differ.
        cluster.Famfs("creat", "--size", "3M", Path.Combine(a, "before"));
        string[] layout = kind == LayoutKind.Contiguous ? ["--contiguous"] : ["--interleave", "2:2M"];
        cluster.Famfs(["creat", "--size", size.ToString(System.Globalization.CultureInfo.InvariantCulture), .. layout, "--wait", "all", Path.Combine(a, "f")]);
        byte[] first = Content(1, size);
        byte[] second = Content(2, size);

        using (MappedRange throughA = FamfsFile.Map(Path.Combine(a, "f"), writable: true))
        using (MappedRange throughB = FamfsFile.Map(Path.Combine(b, "f")))
        {
            Assert.Equal(size, throughA.LengthBytes);
            Assert.Equal(kind == LayoutKind.Contiguous ? 1 : 8, throughB.PieceCount);
            first.CopyTo(throughA.Span(0, size));
            Assert.True(throughB.Span(0, size).SequenceEqual(first));
            Assert.Equal(first, await File.ReadAllBytesAsync(Path.Combine(b, "f"), Cancel));
            Assert.Equal(first, await File.ReadAllBytesAsync(Path.Combine(a, "f"), Cancel));

            await using (FileStream file = new(Path.Combine(b, "f"), FileMode.Open, FileAccess.Write))
                await file.WriteAsync(second, Cancel);
            Assert.True(throughA.Span(0, size).SequenceEqual(second));
            Assert.Equal(["a/f", "b/f"], Pins(a, b));
        }
        Assert.Empty(Pins(a, b));
        Assert.Empty(cluster.Check().Findings);
    }

    [Fact]
    public void A_mapping_keeps_its_mount_busy_and_outlives_a_forced_umount()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        string master = cluster.StartMaster("a").Address;
        (ServerProcess daemon, string a) = cluster.Mount("a", master);
        string file = Path.Combine(a, "f");
        cluster.Famfs("creat", "--size", "3M", file);

        using (MappedRange range = FamfsFile.Map(file, writable: true))
        {
            (int exit, string output) = cluster.TryFamfs("umount", a);
            Assert.Equal(1, exit);
            Assert.Contains($"{a}: busy, used by ", output, StringComparison.Ordinal);
            // A program that another test is just starting shows this process's mappings, too, and is named after it.
            Assert.Contains(string.Create(System.Globalization.CultureInfo.InvariantCulture, $"({Environment.ProcessId})"), output, StringComparison.Ordinal);
            Assert.Contains("; end its users", output, StringComparison.Ordinal);
            Assert.False(daemon.HasExited);
            Assert.Equal(3 << 20, new System.IO.FileInfo(file).Length);

            cluster.Famfs("umount", "--force", a);
            Assert.False(File.Exists(file));
            // Detached, not gone: the memory is held for as long as it is mapped, and so is the daemon's line.
            range.Span(0, 5).Fill(7);
            Assert.Equal(new byte[] { 7, 7, 7, 7, 7 }, range.Span(0, 5).ToArray());
            Assert.False(daemon.HasExited);
            Assert.Contains("live", cluster.Famfs("hosts", "--master", master), StringComparison.Ordinal);
        }
        Assert.Equal(0, daemon.AwaitExit());
        // Nobody holds the memory any more, and the mount has said so before it ended.
        Assert.Contains("clean", cluster.Famfs("hosts", "--all", "--master", master), StringComparison.Ordinal);
        // Without a mount there is nobody to hold the file for a mapping.
        Assert.Equal(ErrorReason.BadRequest, Assert.Throws<FamfsException>(() => FamfsFile.Map(file)).Reason);
    }

    [Fact]
    public void What_cannot_be_mapped_is_refused_by_name()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        string master = cluster.StartMaster("a").Address;
        string a = cluster.Mount("a", master).Path;
        cluster.Famfs("mkdir", Path.Combine(a, "d"));
        Assert.Equal(ErrorReason.NotFound, Assert.Throws<FamfsException>(() => FamfsFile.Map(Path.Combine(a, "nobody made this"))).Reason);
        Assert.Equal(ErrorReason.IsADirectory, Assert.Throws<FamfsException>(() => FamfsFile.Map(Path.Combine(a, "d"))).Reason);
        Assert.Equal(ErrorReason.BadRequest, Assert.Throws<FamfsException>(() => FamfsFile.Map(cluster.Devices[0])).Reason);
    }

    [Theory]
    [InlineData("native")]
    [InlineData("famfs-2")]
    public void A_device_that_is_no_longer_where_the_mount_says_is_not_mapped(string formatOfTheOther)
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        string a = cluster.Mount("a", cluster.StartMaster("a").Address).Path;
        string file = Path.Combine(a, "f");
        cluster.Famfs("creat", "--size", "3M", "--contiguous", "--device", "0", file);
        string other = cluster.NewDevice("other", 64L << 20);
        string[] options = formatOfTheOther == "native" ? ["--host-state", cluster.StateOf("b")] : ["--system-uuid-file", Path.Combine(cluster.NewDirectory("other"), "system_uuid")];
        cluster.Famfs(["mkfs", "--format", formatOfTheOther, .. options, other]);

        string named = cluster.Devices[0];
        string aside = other + ".aside";
        File.Move(named, aside);
        File.Move(other, named);
        try
        {
            FamfsException refused = Assert.Throws<FamfsException>(() => FamfsFile.Map(file, writable: true));
            Assert.Equal(ErrorReason.WrongFilesystem, refused.Reason);
            Assert.StartsWith($"{named}: is device ", refused.Message, StringComparison.Ordinal);
            // The same place in the hands of a master that takes the mount for its devices.
            (ServerProcess second, _) = cluster.LaunchMasterWith("b", "--device", a);
            Assert.Equal(1, second.AwaitExit());
            Assert.Contains($"{named}: is device ", second.Output, StringComparison.Ordinal);
        }
        finally
        {
            File.Move(named, other);
            File.Move(aside, named);
        }
        FamfsFile.Map(file, writable: true).Dispose();
    }

    private static IEnumerable<string> Pins(params string[] mounts) => File.ReadLines("/proc/self/maps")
        .Where(l => l.Contains(" ---p ", StringComparison.Ordinal) && mounts.Any(m => l.Contains(m + "/", StringComparison.Ordinal)))
        .Select(l => string.Join('/', l.Split('/')[^2..])).Order();

    private static byte[] Content(int seed, int size)
    {
        byte[] content = new byte[size];
        new Random(seed).NextBytes(content);
        return content;
    }
}
