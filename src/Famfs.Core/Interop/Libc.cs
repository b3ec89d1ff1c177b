using System.Runtime.InteropServices;

// Names of C types are lower case.
#pragma warning disable CS8981

namespace Famfs.Core.Interop;

/// <summary>Calls of the C library, named as in C. Every one that can fail sets the error number read by
/// <see cref="Errno.Last"/>. None suppresses the garbage collector's transition: a thread that touches
/// memory served by this very process must not hold up a collection (SAFETY S22).</summary>
public static unsafe partial class Libc
{
    private const string Library = "libc";

    // fcntl.h
    public const int O_RDONLY = 0;
    public const int O_RDWR = 2;
    public const int O_NONBLOCK = 0x800;
    public const int O_CLOEXEC = 0x80000;
    public const int F_OFD_SETLK = 37;
    public const int F_ADD_SEALS = 1033;
    public const int F_SEAL_SEAL = 1;
    public const int F_SEAL_SHRINK = 2;
    public const int F_SEAL_GROW = 4;
    public const short F_RDLCK = 0;
    public const short F_WRLCK = 1;
    public const short F_UNLCK = 2;
    public const int W_OK = 2;
    public const int X_OK = 1;
    public const int AT_FDCWD = -100;
    public const int AT_SYMLINK_NOFOLLOW = 0x100;
    public const int AT_EMPTY_PATH = 0x1000;
    public const int AT_STATX_DONT_SYNC = 0x4000;
    public const int FALLOC_FL_KEEP_SIZE = 1;
    public const int FALLOC_FL_PUNCH_HOLE = 2;

    // sys/stat.h
    public const int S_IFMT = 0xF000;
    public const int S_IFCHR = 0x2000;
    public const int S_IFLNK = 0xA000;
    public const int S_IFDIR = 0x4000;
    public const int S_IFBLK = 0x6000;
    public const int S_IFREG = 0x8000;
    public const int S_IFSOCK = 0xC000;
    public const uint STATX_BASIC_STATS = 0x7FF;

    // sys/mman.h
    public const int PROT_NONE = 0;
    public const int PROT_READ = 1;
    public const int PROT_WRITE = 2;
    public const int PROT_EXEC = 4;
    public const int MAP_SHARED = 1;
    public const int MAP_PRIVATE = 2;
    public const int MAP_FIXED = 0x10;
    public const int MAP_ANONYMOUS = 0x20;
    public const int MAP_NORESERVE = 0x4000;
    public const int MADV_DONTFORK = 10;
    public const int MADV_HUGEPAGE = 14;
    public const int MADV_DONTDUMP = 16;
    public const uint MFD_CLOEXEC = 1;
    public const uint MFD_ALLOW_SEALING = 2;
    public static readonly nint MAP_FAILED = -1;

    // limits.h: most pieces one vectored call takes
    public const int IOV_MAX = 1024;

    /// <summary>struct iovec.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct iovec
    {
        /// <summary>iov_base.</summary>
        public byte* Base;

        /// <summary>iov_len.</summary>
        public nuint Length;
    }

    /// <summary>struct flock of 64-bit Linux, 32 bytes.</summary>
    [StructLayout(LayoutKind.Explicit, Size = 32)]
    public struct flock
    {
        /// <summary>l_type.</summary>
        [FieldOffset(0)]
        public short Type;

        /// <summary>l_whence.</summary>
        [FieldOffset(2)]
        public short Whence;

        /// <summary>l_start.</summary>
        [FieldOffset(8)]
        public long Start;

        /// <summary>l_len.</summary>
        [FieldOffset(16)]
        public long Length;

        /// <summary>l_pid: 0 for locks of an open file description.</summary>
        [FieldOffset(24)]
        public int Pid;
    }

    /// <summary>struct statx (linux/stat.h), 256 bytes, the same on every architecture.</summary>
    [StructLayout(LayoutKind.Explicit, Size = 256)]
    public struct statx_buffer
    {
        /// <summary>stx_nlink.</summary>
        [FieldOffset(16)]
        public uint LinkCount;

        /// <summary>stx_uid.</summary>
        [FieldOffset(20)]
        public uint Uid;

        /// <summary>stx_gid.</summary>
        [FieldOffset(24)]
        public uint Gid;

        /// <summary>stx_mode.</summary>
        [FieldOffset(28)]
        public ushort Mode;

        /// <summary>stx_ino.</summary>
        [FieldOffset(32)]
        public ulong Inode;

        /// <summary>stx_size.</summary>
        [FieldOffset(40)]
        public ulong Size;

        /// <summary>stx_atime.tv_sec.</summary>
        [FieldOffset(64)]
        public long AccessSeconds;

        /// <summary>stx_atime.tv_nsec.</summary>
        [FieldOffset(72)]
        public uint AccessNanoseconds;

        /// <summary>stx_mtime.tv_sec.</summary>
        [FieldOffset(112)]
        public long ModifySeconds;

        /// <summary>stx_mtime.tv_nsec.</summary>
        [FieldOffset(120)]
        public uint ModifyNanoseconds;

        /// <summary>stx_rdev_major.</summary>
        [FieldOffset(128)]
        public uint RdevMajor;

        /// <summary>stx_rdev_minor.</summary>
        [FieldOffset(132)]
        public uint RdevMinor;

        /// <summary>stx_dev_major.</summary>
        [FieldOffset(136)]
        public uint DevMajor;

        /// <summary>stx_dev_minor.</summary>
        [FieldOffset(140)]
        public uint DevMinor;
    }

    [LibraryImport(Library, SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int open(string path, int flags, uint mode);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int close(int fd);

    [LibraryImport(Library, SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int access(string path, int mode);

    [LibraryImport(Library, SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int chmod(string path, uint mode);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int fsync(int fd);

    /// <summary>Of time.h: time since boot, with the time in which the machine was suspended.</summary>
    public const int CLOCK_BOOTTIME = 7;

    /// <summary>struct timespec of time.h on 64-bit Linux.</summary>
    public struct timespec
    {
        public long Seconds;
        public long Nanoseconds;
    }

    [LibraryImport(Library), SuppressGCTransition]
    public static partial int clock_gettime(int clock, timespec* time);

    /// <summary>LOCK_EX | LOCK_NB of sys/file.h.</summary>
    public const int LOCK_EX_NB = 2 | 4;

    /// <summary>Of sys/file.h.</summary>
    public const int LOCK_UN = 8;

    [LibraryImport(Library, EntryPoint = "flock", SetLastError = true)]
    public static partial int flock_whole(int fd, int operation);

    [LibraryImport(Library, SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int link(string oldpath, string newpath);

    [LibraryImport(Library, SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int statx(int dirfd, string path, int flags, uint mask, statx_buffer* result);

    [LibraryImport(Library, SetLastError = true)]
    public static partial nint read(int fd, byte* buffer, nuint count);

    [LibraryImport(Library, SetLastError = true)]
    public static partial nint write(int fd, byte* buffer, nuint count);

    [LibraryImport(Library, SetLastError = true)]
    public static partial nint pread(int fd, byte* buffer, nuint count, long offset);

    [LibraryImport(Library, SetLastError = true)]
    public static partial nint pwrite(int fd, byte* buffer, nuint count, long offset);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int fallocate(int fd, int mode, long offset, long length);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int ftruncate(int fd, long length);

    /// <summary>fcntl with a struct flock argument.</summary>
    [LibraryImport(Library, EntryPoint = "fcntl", SetLastError = true)]
    public static partial int fcntl_flock(int fd, int command, flock* argument);

    /// <summary>fcntl with an int argument.</summary>
    [LibraryImport(Library, EntryPoint = "fcntl", SetLastError = true)]
    public static partial int fcntl_int(int fd, int command, int argument);

    [LibraryImport(Library, SetLastError = true)]
    public static partial nint mmap(nint address, nuint length, int protection, int flags, int fd, long offset);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int munmap(nint address, nuint length);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int mprotect(nint address, nuint length, int protection);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int madvise(nint address, nuint length, int advice);

    [LibraryImport(Library, SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int memfd_create(string name, uint flags);

    [LibraryImport(Library, SetLastError = true)]
    public static partial nint process_vm_readv(int pid, iovec* local, nuint localCount, iovec* remote, nuint remoteCount, nuint flags);

    [LibraryImport(Library, SetLastError = true)]
    public static partial nint process_vm_writev(int pid, iovec* local, nuint localCount, iovec* remote, nuint remoteCount, nuint flags);
}
