using System.Runtime.InteropServices;

// Names of C types are lower case.
#pragma warning disable CS8981

namespace Famfs.Core.Interop;

/// <summary>Calls of the C library that the client side needs besides <see cref="Libc"/>: extended attributes,
/// mounts, starting other programs. Named as in C; each sets the error number read by <see cref="Errno.Last"/>.</summary>
internal static unsafe partial class LibcMap
{
    private const string Library = "libc";

    // linux/fs.h, sys/mount.h
    public const int MNT_FORCE = 1;
    public const int MNT_DETACH = 2;
    public const int UMOUNT_NOFOLLOW = 8;
    public const int MS_RDONLY = 1;
    public const int MS_NOSUID = 2;
    public const int MS_NODEV = 4;
    public const int MS_NOEXEC = 8;
    public const int MS_REMOUNT = 32;

    // signal.h
    public const int SIGTERM = 15;

    // errno values that only these calls give
    public const int E2BIG = 7;
    public const int EPIPE = 32;
    public const int ERANGE = 34;
    public const int ENODATA = 61;
    public const int ENOTCONN = 107;
    public const int ESTALE = 116;
    public const int EDQUOT = 122;

    // limits.h, linux/limits.h
    public const int PATH_MAX = 4096;
    public const int XATTR_SIZE_MAX = 65536;

    // spawn.h, sys/wait.h, fcntl.h
    public const short POSIX_SPAWN_SETSIGMASK = 0x08;
    public const short POSIX_SPAWN_SETSID = 0x80;
    public const int WNOHANG = 1;
    public const int O_WRONLY = 1;
    public const int O_CREAT = 0x40;
    public const int O_APPEND = 0x400;
    public const int F_GETFD = 1;
    public const int FD_CLOEXEC = 1;

    // signal.h, poll.h
    public const int SIGPIPE = 13;
    public const int SIGXFSZ = 25;
    public const nint SIG_IGN = 1;
    public const short POLLOUT = 4;
    public const short POLLERR = 8;

    /// <summary>struct pollfd.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct pollfd
    {
        /// <summary>fd.</summary>
        public int Descriptor;

        /// <summary>events.</summary>
        public short Events;

        /// <summary>revents.</summary>
        public short Returned;
    }

    /// <summary>Room for posix_spawnattr_t (336 bytes in glibc and musl) and posix_spawn_file_actions_t (80),
    /// whose insides are the library's own. Chosen with slack.</summary>
    public const int SpawnObjectBytes = 1024;

    [LibraryImport(Library, SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial nint getxattr(string path, string name, byte* value, nuint size);

    [LibraryImport(Library, SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial nint fgetxattr(int fd, string name, byte* value, nuint size);

    [LibraryImport(Library, SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial nint listxattr(string path, byte* list, nuint size);

    [LibraryImport(Library, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int getpwnam_r(string name, byte* entry, byte* buffer, nuint size, byte** result);

    [LibraryImport(Library)]
    public static partial int getpwuid_r(uint uid, byte* entry, byte* buffer, nuint size, byte** result);

    [LibraryImport(Library, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int getgrnam_r(string name, byte* entry, byte* buffer, nuint size, byte** result);

    [LibraryImport(Library, SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int umount2(string target, int flags);

    [LibraryImport(Library, SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int mount(string source, string target, string? type, nuint flags, string? data);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int kill(int pid, int signal);

    [LibraryImport(Library, SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial byte* realpath(string path, byte* resolved);

    [LibraryImport(Library, SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int execv(string path, byte** arguments);

    [LibraryImport(Library, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int posix_spawn(int* pid, string path, byte* actions, byte* attributes, byte** arguments, byte** environment);

    [LibraryImport(Library)]
    public static partial int posix_spawnattr_init(byte* attributes);

    [LibraryImport(Library)]
    public static partial int posix_spawnattr_setflags(byte* attributes, short flags);

    [LibraryImport(Library)]
    public static partial int posix_spawnattr_destroy(byte* attributes);

    [LibraryImport(Library)]
    public static partial int posix_spawn_file_actions_init(byte* actions);

    [LibraryImport(Library, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int posix_spawn_file_actions_addopen(byte* actions, int fd, string path, int flags, uint mode);

    [LibraryImport(Library)]
    public static partial int posix_spawn_file_actions_adddup2(byte* actions, int fd, int newfd);

    [LibraryImport(Library, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int posix_spawn_file_actions_addchdir_np(byte* actions, string path);

    [LibraryImport(Library)]
    public static partial int posix_spawn_file_actions_addclosefrom_np(byte* actions, int from);

    [LibraryImport(Library)]
    public static partial int posix_spawn_file_actions_destroy(byte* actions);

    [LibraryImport(Library)]
    public static partial uint geteuid();

    [LibraryImport(Library)]
    public static partial uint getegid();

    [LibraryImport(Library, SetLastError = true)]
    public static partial int waitpid(int pid, int* status, int options);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int dup2(int fd, int newfd);

    [LibraryImport(Library, SetLastError = true)]
    public static partial int poll(pollfd* wishes, nuint count, int milliseconds);

    [LibraryImport(Library, SetLastError = true)]
    public static partial nint signal(int number, nint handler);

    [LibraryImport(Library)]
    public static partial void _exit(int status);
}
