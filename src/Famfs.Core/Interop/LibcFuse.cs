using System.Runtime.InteropServices;

namespace Famfs.Core.Interop;

/// <summary>The C library calls that a FUSE session needs, as they are. None of them suppresses the
/// garbage collector's transition: each may block, or may fault on memory that this process serves
/// itself (SAFETY S22).</summary>
internal static unsafe partial class LibcFuse
{
    private const string Library = "libc";

    // fcntl.h
    internal const int O_RDWR = 2;
    internal const int O_CLOEXEC = 0x80000;
    internal const int F_DUPFD_CLOEXEC = 1030;
    internal const int AT_FDCWD = -100;
    internal const int AT_NO_AUTOMOUNT = 0x800;
    internal const int AT_STATX_DONT_SYNC = 0x4000;

    /// <summary>_IOR(229, 0, uint32_t) of linux/fuse.h.</summary>
    internal const nuint FUSE_DEV_IOC_CLONE = 0x8004E500;

    // asm-generic/unistd.h, the same on x86-64; called by number, because C libraries before 2022 have no names for them
    internal const nint SYS_open_tree = 428;
    internal const nint SYS_fsopen = 430;
    internal const nint SYS_fsconfig = 431;
    internal const nint SYS_fsmount = 432;

    // linux/mount.h
    internal const int OPEN_TREE_CLONE = 1;
    internal const int FSOPEN_CLOEXEC = 1;
    internal const int FSMOUNT_CLOEXEC = 1;
    internal const int FSCONFIG_SET_FLAG = 0;
    internal const int FSCONFIG_SET_STRING = 1;
    internal const int FSCONFIG_CMD_CREATE = 6;
    internal const int MOUNT_ATTR_NOSUID = 2;
    internal const int MOUNT_ATTR_NODEV = 4;

    [LibraryImport(Library, EntryPoint = "syscall", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    internal static partial int OpenFileSystem(nint number, string type, nint flags);

    [LibraryImport(Library, EntryPoint = "syscall", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    internal static partial int ConfigureFileSystem(nint number, nint context, nint command, string? key, string? value, nint auxiliary);

    [LibraryImport(Library, EntryPoint = "syscall", SetLastError = true)]
    internal static partial int MakeMount(nint number, nint context, nint flags, nint attributes);

    [LibraryImport(Library, EntryPoint = "syscall", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    internal static partial int OpenTree(nint number, nint directory, string path, nint flags);

    [LibraryImport(Library, EntryPoint = "open", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    internal static partial int Open(string path, int flags);

    [LibraryImport(Library, EntryPoint = "close", SetLastError = true)]
    internal static partial int Close(int fd);

    [LibraryImport(Library, EntryPoint = "read", SetLastError = true)]
    internal static partial nint Read(int fd, byte* buffer, nuint lengthBytes);

    [LibraryImport(Library, EntryPoint = "write", SetLastError = true)]
    internal static partial nint Write(int fd, byte* buffer, nuint lengthBytes);

    [LibraryImport(Library, EntryPoint = "writev", SetLastError = true)]
    internal static partial nint WriteVector(int fd, MemoryPiece* pieces, int count);

    [LibraryImport(Library, EntryPoint = "ioctl", SetLastError = true)]
    internal static partial int Ioctl(int fd, nuint request, void* argument);

    [LibraryImport(Library, EntryPoint = "mount", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    internal static partial int Mount(string source, string target, string type, nuint flags, string data);

    [LibraryImport(Library, EntryPoint = "umount2", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    internal static partial int Unmount(string target, int flags);

    [LibraryImport(Library, EntryPoint = "statx", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    internal static partial int Statx(int directory, string path, int flags, uint mask, DeviceOfStatx* result);

    [LibraryImport(Library, EntryPoint = "pthread_self")]
    internal static partial nint ThreadSelf();

    [LibraryImport(Library, EntryPoint = "pthread_kill")]
    internal static partial int ThreadSignal(nint thread, int signal);

    [LibraryImport(Library, EntryPoint = "sigaction", SetLastError = true)]
    internal static partial int SetSignalAction(int signal, SignalAction* action, SignalAction* old);

    /// <summary>What is needed of struct statx (linux/stat.h), 256 bytes.</summary>
    [StructLayout(LayoutKind.Explicit, Size = 256)]
    internal struct DeviceOfStatx
    {
        /// <summary>stx_dev_major.</summary>
        [FieldOffset(136)]
        internal uint Major;

        /// <summary>stx_dev_minor.</summary>
        [FieldOffset(140)]
        internal uint Minor;
    }

    /// <summary>struct sigaction of glibc and musl on 64-bit Linux, 152 bytes.</summary>
    [StructLayout(LayoutKind.Explicit, Size = 152)]
    internal struct SignalAction
    {
        /// <summary>sa_handler.</summary>
        [FieldOffset(0)]
        internal nint Handler;

        /// <summary>sa_flags; after a 128-byte sa_mask.</summary>
        [FieldOffset(136)]
        internal int Flags;
    }
}
