using System.Diagnostics;
using System.Net.Sockets;
using Famfs.Core.Dax;
using Famfs.Core.Interop;
using Famfs.TestSupport.Dax;
using Famfs.V1;
using Xunit;

namespace Famfs.Core.Tests.Dax;

public sealed class MappedDaxDeviceTests : IDisposable
{
    private const long Unit = MappedDaxDevice.UnitBytes;
    private readonly DeviceFile _file = new(2 * Unit);

    public void Dispose() => _file.Dispose();

    [Theory]
    [InlineData("/no/such/device", ErrorReason.NotFound, "no such file")]
    [InlineData("/dev/null/x", ErrorReason.NotFound, "no such file")]
    [InlineData("/tmp", ErrorReason.BadRequest, "is a directory")]
    [InlineData("/dev/null", ErrorReason.BadRequest, "not of the dax subsystem")]
    public void What_cannot_be_a_device_is_refused_with_its_path_and_the_cause(string path, ErrorReason reason, string cause)
    {
        foreach (bool readOnly in new[] { false, true })
        {
            var error = Assert.Throws<FamfsException>(() => DaxDevice.Open(path, readOnly));
            Assert.Equal(reason, error.Reason);
            Assert.Equal(path, error.Path);
            Assert.StartsWith(path + ": ", error.Message, StringComparison.Ordinal);
            Assert.Contains(cause, error.Message, StringComparison.Ordinal);
            Assert.DoesNotContain('\n', error.Message);
        }
    }

    [Theory]
    [InlineData(0, "is empty; a first device has at least 8388608 bytes, a further one 4194304")]
    [InlineData(1, "less than one unit of 2097152; a first device has at least 8388608 bytes, a further one 4194304")]
    [InlineData(Unit - 1, "less than one unit")]
    public void A_file_that_is_too_small_is_refused(long length, string cause)
    {
        _file.SetLength(length);
        var error = Assert.Throws<FamfsException>(() => DaxDevice.Open(_file.Path));
        Assert.Equal(ErrorReason.BadRequest, error.Reason);
        Assert.Contains(cause, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_block_device_is_refused()
    {
        string? block = Directory.Exists("/sys/block")
            ? Directory.GetFileSystemEntries("/sys/block").Select(e => "/dev/" + Path.GetFileName(e)).FirstOrDefault(File.Exists)
            : null;
        Assert.SkipWhen(block is null, "no block device here");
        Assert.Contains("block device", Assert.Throws<FamfsException>(() => DaxDevice.Open(block, readOnly: true)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_socket_is_refused_without_being_opened()
    {
        string path = Path.Combine(Path.GetTempPath(), $"famfs-{Guid.NewGuid():N}.sock");
        using var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        socket.Bind(new UnixDomainSocketEndPoint(path));
        try
        {
            Assert.Contains("neither", Assert.Throws<FamfsException>(() => DaxDevice.Open(path)).Message, StringComparison.Ordinal);
        }
        finally
        {
            File.Delete(path);
        }
    }

    [Fact]
    public void A_file_that_may_not_be_opened_is_refused()
    {
        Assert.SkipWhen(Environment.IsPrivilegedProcess, "root may open every file");
#pragma warning disable CA1416 // Linux only, like all of this.
        File.SetUnixFileMode(_file.Path, UnixFileMode.UserRead);
#pragma warning restore CA1416
        var error = Assert.Throws<FamfsException>(() => DaxDevice.Open(_file.Path));
        Assert.Equal(ErrorReason.ReadOnly, error.Reason);
        Assert.Contains("permission denied", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_devdax_device_is_described_by_its_sysfs_directory()
    {
        string sys = Directory.CreateTempSubdirectory("famfs-sysfs-").FullName;
        try
        {
            var attributes = new DevDaxAttributes(sys);
            Assert.False(attributes.Exists);
            Assert.Equal("", attributes.ReadDriver());
            Assert.Equal(0, attributes.ReadAlignmentBytes());
            Assert.Equal(ErrorReason.DeviceMissing, Assert.Throws<FamfsException>(() => attributes.ReadLengthBytes("/dev/dax0.0")).Reason);
            File.WriteAllText(Path.Combine(sys, "size"), "68719476736\n");
            File.WriteAllText(Path.Combine(sys, "align"), "1073741824\n");
            File.CreateSymbolicLink(Path.Combine(sys, "subsystem"), "../../bus/dax");
            File.CreateSymbolicLink(Path.Combine(sys, "driver"), "../../bus/dax/drivers/fsdev_dax");
            Assert.True(attributes.Exists);
            Assert.Equal(64L << 30, attributes.ReadLengthBytes("/dev/dax0.0"));
            Assert.Equal(1L << 30, attributes.ReadAlignmentBytes());
            Assert.Equal("fsdev_dax", attributes.ReadDriver());
            File.WriteAllText(Path.Combine(sys, "size"), "-1");
            Assert.Throws<FamfsException>(() => attributes.ReadLengthBytes("/dev/dax0.0"));
        }
        finally
        {
            Directory.Delete(sys, true);
        }
    }

    [Fact]
    public void The_mapping_starts_at_a_huge_page_and_covers_the_whole_file()
    {
        _file.SetLength(3 * Unit + 12345);
        using DaxDevice device = DaxDevice.Open(_file.Path);
        Assert.Equal(3 * Unit + 12345, device.LengthBytes);
        Assert.True(device.TryGetAddress(0, device.LengthBytes, out nint address));
        Assert.Equal(0, address % Unit);
        Assert.True(device.TryGetAddress(77, 1, out nint inside));
        Assert.Equal(address + 77, inside);
        device.Write(device.LengthBytes - 3, new byte[] { 1, 2, 3 });
        byte[] end = File.ReadAllBytes(_file.Path)[^3..];
        Assert.Equal(new byte[] { 1, 2, 3 }, end);
        Assert.Equal(3 * Unit + 12345, new System.IO.FileInfo(_file.Path).Length);
    }

    [Fact]
    public void Kinds_are_coherent_unless_declared_otherwise()
    {
        using DaxDevice device = DaxDevice.Open(_file.Path);
        Assert.True(device.Coherent);
        Assert.Equal("none", ((MappedDaxDevice)device).FlushName);
        if (LineFlush.Detect() is [var best, ..])
        {
            device.Coherent = false;
            Assert.Equal(best, ((MappedDaxDevice)device).FlushName);
        }
        else
        {
            Assert.Equal(ErrorReason.BadRequest, Assert.Throws<FamfsException>(() => device.Coherent = false).Reason);
        }
    }

    [Fact]
    public void A_device_opened_read_only_is_read_and_not_changed()
    {
        File.WriteAllBytes(_file.Path, [.. Enumerable.Repeat((byte)5, (int)Unit)]);
        using DaxDevice device = DaxDevice.Open(_file.Path, readOnly: true);
        Assert.True(device.ReadOnly);
        Assert.Equal(0x0505050505050505UL, device.ReadWord(4096));
        foreach (Action change in new Action[]
        {
            () => device.Write(0, new byte[1]),
            () => device.WriteWord(0, 1),
            () => device.Zero(0, 1),
            () => device.TryLockByte(0, out _),
        })
        {
            Assert.Equal(ErrorReason.ReadOnly, Assert.Throws<FamfsException>(change).Reason);
        }

        Assert.Equal(5, File.ReadAllBytes(_file.Path)[0]);
    }

    [Theory]
    [InlineData(true, false)]
    [InlineData(false, false)]
    [InlineData(true, true)]
    [InlineData(false, true)]
    public void A_file_that_shrank_faults_and_does_not_grow_again(bool coherent, bool bounce)
    {
        Assert.SkipUnless(coherent || LineFlush.Detect().Length > 0, "no cache-line flush here");
        using DaxDevice device = MappedDaxDevice.Open(_file.Path, false, coherent, bounce ? () => new BounceFileCopy() : FaultSafeCopy.Detect);
        byte[] bytes = new byte[64 * 1024];
        device.Write(Unit, bytes);
        _file.SetLength(Unit + 4096);
        device.Read(Unit, bytes.AsSpan(0, 4096));
        device.Write(Unit, bytes.AsSpan(0, 4096));
        foreach (Action access in new Action[]
        {
            () => device.Read(Unit, bytes),
            () => device.Read(Unit + 4096, bytes.AsSpan(0, 1)),
            () => device.Write(Unit, bytes),
            () => device.ReadPieces([0, Unit, 2 * Unit - 64, 64], 64, bytes),
            () => device.ReadWord(Unit + 8192),
            () => device.WriteWord(Unit + 8192, 1),
            () => device.Zero(Unit + 100, 10_000),
            () => device.Zero(Unit, Unit),
        })
        {
            var fault = Assert.Throws<DeviceFaultException>(access);
            Assert.Contains("shrank", fault.Message, StringComparison.Ordinal);
            Assert.Contains(_file.Path, fault.Message, StringComparison.Ordinal);
        }

        if (!coherent)
        {
            Assert.Throws<DeviceFaultException>(() => device.WriteBack(Unit, 8192));
            Assert.Throws<DeviceFaultException>(() => device.WriteBack(0, 2 * Unit));
            Assert.Throws<DeviceFaultException>(() => device.Invalidate(2 * Unit - 64, 64));
        }

        Assert.Equal(Unit + 4096, new System.IO.FileInfo(_file.Path).Length);
        _file.SetLength(2 * Unit);
        device.Read(Unit, bytes);
    }

    [Fact]
    public void A_gather_that_faults_names_the_piece()
    {
        using DaxDevice device = DaxDevice.Open(_file.Path);
        _file.SetLength(Unit);
        long[] offsets = [.. Enumerable.Range(0, 1500).Select(i => (long)i * 64)];
        offsets[1200] = Unit + 640;
        var fault = Assert.Throws<DeviceFaultException>(() => device.ReadPieces(offsets, 64, new byte[1500 * 64]));
        Assert.Contains($"at {Unit + 640}:", fault.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Zeroing_gives_the_memory_of_a_sparse_file_back()
    {
        using DaxDevice device = DaxDevice.Open(_file.Path);
        device.Write(0, Enumerable.Repeat((byte)1, (int)(2 * Unit)).ToArray());
        long before = AllocatedBytes(_file.Path);
        device.Zero(4096, 2 * Unit - 4096);
        long after = AllocatedBytes(_file.Path);
        Assert.SkipUnless(before > after, "this file system does not punch holes");
        Assert.True(after <= Unit, $"{after} bytes are still allocated");
    }

    [Fact]
    public void A_lock_dies_with_the_process_that_held_it()
    {
        Assert.SkipUnless(File.Exists("/usr/bin/python3"), "needs python3 as the second process");
        using DaxDevice device = DaxDevice.Open(_file.Path);

        // struct flock: l_type, l_whence, l_start, l_len, l_pid; 37 is F_OFD_SETLK.
        const string Script =
            "import fcntl,struct,sys\n" +
            "f=open(sys.argv[1],'r+b')\n" +
            "fcntl.fcntl(f,37,struct.pack('hhxxxxqqixxxx',fcntl.F_WRLCK,0,7,1,0))\n" +
            "print('held',flush=True)\n" +
            "sys.stdin.readline()\n";
        var start = new ProcessStartInfo("/usr/bin/python3") { RedirectStandardInput = true, RedirectStandardOutput = true };
        start.ArgumentList.Add("-c");
        start.ArgumentList.Add(Script);
        start.ArgumentList.Add(_file.Path);
        using Process holder = Process.Start(start)!;
        try
        {
            Assert.Equal("held", holder.StandardOutput.ReadLine());
            Assert.False(device.TryLockByte(7, out _));
            Assert.True(device.TryLockByte(8, out IDisposable? neighbour));
            neighbour.Dispose();
        }
        finally
        {
            holder.Kill();
            holder.WaitForExit();
        }

        Assert.True(device.TryLockByte(7, out IDisposable? held));
        held.Dispose();
    }

    [Fact]
    public void Those_who_use_a_device_together_keep_out_whoever_wants_it_alone()
    {
        using DaxDevice formatting = DaxDevice.Open(_file.Path);
        using (DaxDevice reader = DaxDevice.Open(_file.Path, readOnly: true))
        using (DaxDevice user = DaxDevice.Open(_file.Path))
        {
            Assert.True(reader.TryUse(alone: false));
            Assert.False(formatting.TryUse(alone: true));
            Assert.True(user.TryUse(alone: false));
            Assert.True(formatting.TryUse(alone: false));
            Assert.False(formatting.TryUse(alone: true));
        }
        Assert.True(formatting.TryUse(alone: true));
        using DaxDevice late = DaxDevice.Open(_file.Path);
        Assert.False(late.TryUse(alone: false));
        Assert.True(late.TryLockByte(0, out IDisposable? held)); // locks by number are others
        held.Dispose();
        Assert.True(formatting.TryUse(alone: false));
        Assert.True(late.TryUse(alone: false));
    }

    [Fact]
    public void Same_memory_is_known_by_any_path_and_other_memory_is_not_taken_for_it()
    {
        string link = _file.Path + ".link";
        string other = _file.Path + ".other";
        File.CreateSymbolicLink(link, _file.Path);
        File.Copy(_file.Path, other);
        try
        {
            using DaxDevice device = DaxDevice.Open(_file.Path);
            using DaxDevice same = DaxDevice.Open(link, readOnly: true);
            using DaxDevice different = DaxDevice.Open(other);
            Assert.Equal(device.MemoryIdentity, same.MemoryIdentity);
            Assert.NotEqual(device.MemoryIdentity, different.MemoryIdentity);
        }
        finally
        {
            File.Delete(link);
            File.Delete(other);
        }
    }

    [Fact]
    public void A_lock_is_on_the_file_that_was_opened_not_on_its_name()
    {
        using DaxDevice device = DaxDevice.Open(_file.Path);
        File.Delete(_file.Path);
        File.WriteAllText(_file.Path, "another");
        Assert.True(device.TryLockByte(0, out IDisposable? held));
        using (held)
            Assert.False(device.TryLockByte(0, out _));
    }

    private static unsafe long AllocatedBytes(string path)
    {
        byte* attributes = stackalloc byte[256];
        Assert.Equal(0, Libc.statx(Libc.AT_FDCWD, path, 0, Libc.STATX_BASIC_STATS, (Libc.statx_buffer*)attributes));
        return (long)((ulong*)attributes)[6] * 512;
    }
}
