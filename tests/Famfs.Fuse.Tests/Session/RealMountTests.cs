using Famfs.Core;
using Famfs.Core.Namespace;
using Famfs.Fuse.Operations;
using Xunit;

namespace Famfs.Fuse.Tests.Session;

public sealed class RealMountTests : IDisposable
{
    private const long Unit = TestFileSystem.Unit;
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
        InodeNumber directory = system.AddDirectory(InodeNumber.Root, "dir");
        system.AddFile(directory, "small", 5, unit: 0);
        system.AddFile(InodeNumber.Root, "large", (3 * Unit) + 123, unit: 1);
        system.AddSymlink(InodeNumber.Root, "link", "dir/small");
        _memory.Write(0, "hello"u8.ToArray());
        byte[] data = new byte[(3 * Unit) + 123];
        new Random(1).NextBytes(data);
        _memory.Write(Unit, data);

        using RealMount mount = RealMount.Start(system);
        Assert.Equal("dir\nlarge\nlink", mount.Require("ls"));
        Assert.Equal("hello", mount.Require("cat dir/small"));
        Assert.Equal("hello", mount.Require("cat link"));
        Assert.Equal("dir/small", mount.Require("readlink link"));
        Assert.Equal(".\n./dir\n./dir/small\n./large\n./link", mount.Require("find . | sort"));
        Assert.Equal(string.Create(null, $"{(3 * Unit) + 123} {4 * Unit / 512} 4096 644 1 4 regular file 1700000000.123456789"), mount.Require("stat -c '%s %b %o %a %h %i %F %.9Y' large"));
        Assert.Equal(Convert.ToHexStringLower(System.Security.Cryptography.SHA256.HashData(data)), mount.Require("sha256sum < large | cut -d' ' -f1"));
        mount.Require("printf WORLD | dd of=dir/small conv=notrunc status=none");
        Assert.Equal("WORLD"u8.ToArray(), _memory.Read(0, 5));
        Assert.Contains("fuse.famfs", mount.Require("grep \" $PWD \" /proc/self/mounts"), StringComparison.Ordinal);
        Assert.Equal("4096 16384 4096", mount.Require("stat -f -c '%S %b %a' ."));
    }
}
