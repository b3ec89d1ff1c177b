using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Interop;
using Famfs.Fuse.Dialects;
using Famfs.Fuse.Session;
using Xunit;

namespace Famfs.Fuse.Tests.Session;

/// <summary>Mounts without a place, on this machine's kernel.</summary>
public sealed class PrivateMountTests : IDisposable
{
    private readonly SharedMemory _memory = new(8 << 20);
    private readonly TestFileSystem _system = new();

    public PrivateMountTests()
    {
        _system.AddDevice(0, _memory.Open());
        _system.AddFile(InodeNumber.Root, "0", 4 << 20);
    }

    public void Dispose()
    {
        _system.Dispose();
        _memory.Dispose();
    }

    [Fact]
    public void A_private_mount_is_in_no_table_and_its_files_are_open_to_this_process()
    {
        RealMount.RequirePossible();
        _memory.Write(100, [1, 2, 3]);
        using (PrivateMount mount = PrivateMount.Start(DialectWish.Stock, null, _system.Dependencies))
        {
            Assert.True(FuseChannel.TryGetDevice(mount.Path + "/0", out uint major, out uint minor));
            Assert.DoesNotContain($" {major}:{minor} ", File.ReadAllText("/proc/self/mountinfo"), StringComparison.Ordinal);
            using FileStream file = File.OpenRead(mount.Path + "/0");
            Assert.Equal(4 << 20, file.Length);
            byte[] bytes = new byte[3];
            file.Position = 100;
            file.ReadExactly(bytes);
            Assert.Equal([1, 2, 3], bytes);
        }
    }

    [Fact]
    public void A_device_is_read_through_a_private_mount_and_its_connection_ends_with_it()
    {
        RealMount.RequirePossible();
        string connection;
        _memory.Write(4096, [42]);
        using (PrivateMount mount = PrivateMount.Start(DialectWish.Stock, null, _system.Dependencies))
        using (MappedDaxDevice device = MappedDaxDevice.OpenFile(mount.Path + "/0", "the device", readOnly: true, coherent: true))
        {
            byte[] seen = new byte[1];
            device.Read(4096, seen);
            Assert.Equal((42, "the device"), (seen[0], device.Path));
            Assert.True(FuseChannel.TryGetDevice(mount.Path + "/0", out _, out uint minor));
            connection = $"/sys/fs/fuse/connections/{minor}";
            Assert.SkipUnless(Directory.Exists(connection), "the kernel does not show its FUSE connections here");
        }
        Assert.False(Directory.Exists(connection));
    }

    [Fact]
    public void A_dialect_that_the_kernel_does_not_speak_ends_the_attempt()
    {
        RealMount.RequirePossible();
        Exception error = Assert.Throws<NotSupportedException>(() => PrivateMount.Start(new DialectWish(DialectTable.A, WantsFmaps: true), null, _system.Dependencies));
        Assert.Contains("dialect A is not offered", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_way_inside_does_not_keep_the_mount_busy_but_keeps_it_alive_until_it_is_given_up()
    {
        using RealMount mount = RealMount.Start(_system);
        DetachedMount inside = mount.Mount.OpenInside();
        FileStream open = File.OpenRead(inside.Path + "/0");
        Assert.True(mount.Mount.IsAttached);

        Assert.Equal("", mount.Require($"cd / && umount '{mount.Path}'"));

        Assert.False(mount.Mount.IsAttached);
        Assert.Equal(4 << 20, open.Length);
        Assert.Equal(42, Reread(open, 42));
        Assert.False(mount.Mount.Completion.IsCompleted);
        open.Dispose();
        inside.Dispose();
        await mount.Mount.Completion.WaitAsync(TimeSpan.FromMinutes(1), TestContext.Current.CancellationToken);
    }

    [Fact]
    public void A_mount_made_read_only_is_so_for_others_and_not_for_the_way_inside()
    {
        using RealMount mount = RealMount.Start(_system);
        using (DetachedMount inside = mount.Mount.OpenInside())
        {
            mount.Mount.MakeReadOnly();
            Assert.Contains("Read-only file system", mount.Shell("echo x | dd of=0 conv=notrunc").Error, StringComparison.Ordinal);
            using FileStream open = new(inside.Path + "/0", FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite, bufferSize: 0);
            open.Write([9]);
            Assert.Equal([9], _memory.Read(0, 1));
        }
        mount.Require("dd if=0 of=/dev/null bs=1 count=1");
    }

    private int Reread(FileStream open, byte value)
    {
        _memory.Write(0, [value]);
        open.Position = 0;
        return open.ReadByte();
    }
}
