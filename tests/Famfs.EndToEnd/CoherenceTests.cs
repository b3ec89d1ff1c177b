using System.IO.MemoryMappedFiles;
using Microsoft.Win32.SafeHandles;
using Xunit;

namespace Famfs.EndToEnd;

/// <summary>What read, write and mmap give on a stock kernel: README's table, row by row, between real
/// mounts.</summary>
public sealed class CoherenceTests
{
    private const int FileBytes = 64 * 1024;

    [Fact]
    public void Open_files_of_direct_mounts_see_writes_of_other_hosts_at_once()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        string master = cluster.StartMaster("a").Address;
        string a = cluster.Mount("a", master).Path;
        string b = cluster.Mount("b", master, "-o", "cache=direct").Path;
        cluster.Famfs("creat", "--size", "64K", "--wait", "all", Path.Combine(a, "f"));
        using SafeFileHandle onA = Open(a);
        using SafeFileHandle onB = Open(b);
        for (byte value = 1; value < 50; value++)
        {
            Write(value % 2 == 0 ? onA : onB, value);
            Assert.Equal(value, Read(onA));
            Assert.Equal(value, Read(onB));
        }
    }

    [Fact]
    public void With_close_to_open_reads_are_cached_a_new_open_sees_other_hosts_writes_and_writes_go_through()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        string master = cluster.StartMaster("a").Address;
        string direct = cluster.Mount("a", master).Path;
        string cached = cluster.Mount("b", master, "-o", "cache=close-to-open").Path;
        cluster.Famfs("creat", "--size", "64K", "--wait", "all", Path.Combine(direct, "f"));
        using SafeFileHandle writer = Open(direct);
        Write(writer, 1);

        using (SafeFileHandle open = Open(cached))
        {
            Assert.Equal(1, Read(open));
            Write(writer, 2);
            Assert.Equal(2, Read(writer));
            Assert.Equal(1, Read(open)); // from this host's page cache
            using (SafeFileHandle anew = Open(cached))
                Assert.Equal(2, Read(anew));

            Write(open, 3);
            Assert.Equal(3, Read(open));
            Assert.Equal(3, Read(writer)); // went through, without close or fsync
        }
        Write(writer, 4);
        using SafeFileHandle last = Open(cached);
        Assert.Equal(4, Read(last));
    }

    [Theory]
    [InlineData("cache=direct")]
    [InlineData("cache=close-to-open")]
    public void Stores_into_a_shared_mapping_of_the_mounted_file_arrive_with_msync(string mode)
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        string master = cluster.StartMaster("a").Address;
        string a = cluster.Mount("a", master, "-o", mode).Path;
        string b = cluster.Mount("b", master).Path;
        Assert.SkipUnless(mode == "cache=close-to-open" || Environment.OSVersion.Version >= new Version(6, 6), $"Linux {Environment.OSVersion.Version} does not map files that are open for direct I/O; 6.6 does");
        cluster.Famfs("creat", "--size", "64K", "--wait", "all", Path.Combine(a, "f"));
        using SafeFileHandle onB = Open(b);
        Write(onB, 1);

        using MemoryMappedFile file = MemoryMappedFile.CreateFromFile(Path.Combine(a, "f"), FileMode.Open, null, FileBytes);
        using MemoryMappedViewAccessor view = file.CreateViewAccessor();
        Assert.Equal(1, view.ReadByte(FileBytes - 1));
        for (int i = 0; i < FileBytes; i++)
            view.Write(i, (byte)9);
        view.Flush();
        Assert.Equal(9, Read(onB));
    }

    private static SafeFileHandle Open(string mount) => File.OpenHandle(Path.Combine(mount, "f"), FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite);

    private static void Write(SafeFileHandle file, byte value)
    {
        byte[] content = new byte[FileBytes];
        content.AsSpan().Fill(value);
        RandomAccess.Write(file, content, 0);
    }

    /// <summary>The value that fills the file; fails when it is not the same everywhere.</summary>
    private static byte Read(SafeFileHandle file)
    {
        byte[] content = new byte[FileBytes];
        Assert.Equal(FileBytes, RandomAccess.Read(file, content, 0));
        Assert.Equal(-1, content.AsSpan().IndexOfAnyExcept(content[0]));
        return content[0];
    }
}
