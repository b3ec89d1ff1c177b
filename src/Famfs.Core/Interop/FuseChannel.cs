using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Famfs.Core.Interop;

/// <summary>
/// One descriptor of <c>/dev/fuse</c>. Calls return a count, or a negative error number (linux/errno.h):
/// an error is a normal outcome here (EINTR, ENOENT, ENODEV), and an exception per outcome would cost
/// what a whole request costs.
/// <para>Threads: reads and writes from any thread; <see cref="Dispose"/> only once no thread is inside a
/// call. The connection ends with the last of its descriptors.</para>
/// </summary>
public sealed unsafe class FuseChannel : IDisposable
{
    /// <summary>Most pieces of one reply: IOV_MAX less the one for the header.</summary>
    public const int MaxPieces = 1023;

    private const string DevicePath = "/dev/fuse";
    private int _fd;

    private FuseChannel(int fd) => _fd = fd;

    /// <summary>The descriptor's number, for the mount option <c>fd=</c>.</summary>
    public int Descriptor => _fd;

    /// <summary>Opens a descriptor with no connection yet. Throws <see cref="IOException"/> whose HResult is
    /// the error number.</summary>
    public static FuseChannel Open()
    {
        int fd = LibcFuse.Open(DevicePath, LibcFuse.O_RDWR | LibcFuse.O_CLOEXEC);
        return fd >= 0 ? new FuseChannel(fd) : throw Failure($"open {DevicePath}");
    }

    /// <summary>Goes on with a descriptor that another process had; <paramref name="descriptor"/> is this object's from then on.</summary>
    public static FuseChannel Adopt(SafeFileHandle descriptor)
    {
        int fd = (int)descriptor.DangerousGetHandle();
        descriptor.SetHandleAsInvalid();
        return new FuseChannel(fd);
    }

    /// <summary>Another number of this descriptor, for a process that keeps it. Throws <see cref="IOException"/>.</summary>
    public SafeFileHandle Duplicate()
    {
        int fd = Libc.fcntl_int(_fd, LibcFuse.F_DUPFD_CLOEXEC, 0);
        return fd >= 0 ? new SafeFileHandle(fd, ownsHandle: true) : throw Failure("fcntl F_DUPFD_CLOEXEC");
    }

    /// <summary>The kernel still serves this connection: it was neither unmounted nor aborted.</summary>
    public bool IsConnected
    {
        get
        {
            LibcMap.pollfd wish = new() { Descriptor = _fd };
            return LibcMap.poll(&wish, 1, 0) >= 0 && (wish.Returned & LibcMap.POLLERR) == 0;
        }
    }

    /// <summary>Opens another descriptor of the same connection, with a queue of its own for requests in
    /// flight, so that several threads need not share one lock. Only after mount. Throws
    /// <see cref="IOException"/>.</summary>
    public FuseChannel Clone()
    {
        FuseChannel clone = Open();
        uint source = (uint)_fd;
        if (LibcFuse.Ioctl(clone._fd, LibcFuse.FUSE_DEV_IOC_CLONE, &source) == 0)
            return clone;
        IOException failure = Failure("ioctl FUSE_DEV_IOC_CLONE");
        clone.Dispose();
        throw failure;
    }

    /// <summary>Waits for one request and reads it whole. Returns its bytes, or a negative error number.</summary>
    public int Read(Span<byte> buffer)
    {
        fixed (byte* address = buffer)
        {
            nint count = LibcFuse.Read(_fd, address, (nuint)buffer.Length);
            return count >= 0 ? (int)count : -Marshal.GetLastPInvokeError();
        }
    }

    /// <summary>Writes one message. Returns its bytes, or a negative error number.</summary>
    public int Write(ReadOnlySpan<byte> message)
    {
        fixed (byte* address = message)
        {
            nint count = LibcFuse.Write(_fd, address, (nuint)message.Length);
            return count >= 0 ? (int)count : -Marshal.GetLastPInvokeError();
        }
    }

    /// <summary>Writes one message whose end is copied by the kernel from <paramref name="pieces"/>, of which
    /// there are at most <see cref="MaxPieces"/>. Returns its bytes, or a negative error number: EFAULT when
    /// a page of a piece cannot be read.</summary>
    [SkipLocalsInit]
    public int Write(ReadOnlySpan<byte> head, ReadOnlySpan<MemoryPiece> pieces)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(pieces.Length, MaxPieces);
        MemoryPiece* vector = stackalloc MemoryPiece[pieces.Length + 1];
        fixed (byte* address = head)
        {
            vector[0] = new MemoryPiece((nint)address, head.Length);
            for (int i = 0; i < pieces.Length; i++)
                vector[i + 1] = pieces[i];
            nint count = LibcFuse.WriteVector(_fd, vector, pieces.Length + 1);
            return count >= 0 ? (int)count : -Marshal.GetLastPInvokeError();
        }
    }

    /// <summary>An ioctl on this descriptor with a structure as argument. Returns what the kernel does, or a negative
    /// error number.</summary>
    public int Control(uint request, Span<byte> argument)
    {
        fixed (byte* address = argument)
        {
            int result = LibcFuse.Ioctl(_fd, request, address);
            return result >= 0 ? result : -Marshal.GetLastPInvokeError();
        }
    }

    /// <summary>mount(2). Returns 0 or a negative error number.</summary>
    public static int Mount(string source, string target, string type, ulong flags, string data) =>
        LibcFuse.Mount(source, target, type, (nuint)flags, data) == 0 ? 0 : -Marshal.GetLastPInvokeError();

    /// <summary>umount2(2). Returns 0 or a negative error number.</summary>
    public static int Unmount(string target, int flags) =>
        LibcFuse.Unmount(target, flags) == 0 ? 0 : -Marshal.GetLastPInvokeError();

    /// <summary>The device number (st_dev) of the file system mounted at a path, without asking that file system's
    /// server. False when there is no such path.</summary>
    public static bool TryGetDevice(string path, out uint major, out uint minor)
    {
        LibcFuse.DeviceOfStatx result = default;
        int outcome = LibcFuse.Statx(LibcFuse.AT_FDCWD, path, LibcFuse.AT_STATX_DONT_SYNC | LibcFuse.AT_NO_AUTOMOUNT, 0, &result);
        (major, minor) = (result.Major, result.Minor);
        return outcome == 0;
    }

    /// <summary>Closes the descriptor.</summary>
    public void Dispose()
    {
        int fd = Interlocked.Exchange(ref _fd, -1);
        if (fd >= 0)
            _ = LibcFuse.Close(fd); // nothing is buffered behind /dev/fuse, so there is no error to lose
    }

    private static IOException Failure(string what)
    {
        int errno = Marshal.GetLastPInvokeError();
        return new IOException($"{what}: {Marshal.GetPInvokeErrorMessage(errno)}", errno);
    }
}
