using System.Text;
using Famfs.V1;
using Microsoft.Win32.SafeHandles;

namespace Famfs.Core.Interop;

/// <summary>A file opened through a mount, with its extended attributes. As long as it is open, or one page of
/// it is mapped, the mount holds the file: its extents are not given to another (SAFETY S12, S13).</summary>
public sealed class MountedFile : IDisposable
{
    private readonly OpenFile _file;

    private MountedFile(string path, OpenFile file, bool writable, long lengthBytes)
    {
        Path = path;
        _file = file;
        Writable = writable;
        LengthBytes = lengthBytes;
    }

    /// <summary>Where it was opened.</summary>
    public string Path { get; }

    /// <summary>Opened for writing too.</summary>
    public bool Writable { get; }

    /// <summary>Size when it was opened.</summary>
    public long LengthBytes { get; }

    internal int Descriptor => _file.Descriptor;

    /// <summary>Opens a regular file. Errors: NOT_FOUND, IS_A_DIRECTORY, READ_ONLY (permission), BAD_REQUEST.</summary>
    public static MountedFile Open(string path, bool writable)
    {
        int descriptor = Libc.open(path, (writable ? Libc.O_RDWR : Libc.O_RDONLY) | Libc.O_CLOEXEC | Libc.O_NONBLOCK, 0);
        if (descriptor < 0)
            throw PathErrors.Of(path, Errno.Last);
        OpenFile file = new(descriptor);
        Libc.statx_buffer attributes = file.ReadAttributes();
        if ((attributes.Mode & Libc.S_IFMT) == Libc.S_IFREG)
            return new(path, file, writable, (long)attributes.Size);
        file.Dispose();
        throw (attributes.Mode & Libc.S_IFMT) == Libc.S_IFDIR
            ? new FamfsException(ErrorReason.IsADirectory, $"{path}: is a directory") { Path = path }
            : new FamfsException(ErrorReason.BadRequest, $"{path}: is not a regular file") { Path = path };
    }

    /// <summary>An extended attribute as text; null when the file has none of that name.</summary>
    public unsafe string? ReadAttribute(string name)
    {
        byte[] value = new byte[LibcMap.XATTR_SIZE_MAX];
        fixed (byte* place = value)
        {
            nint length = LibcMap.fgetxattr(Descriptor, name, place, (nuint)value.Length);
            return length < 0 ? PathErrors.AbsentOrThrow(Path, name, Errno.Last) : Encoding.UTF8.GetString(value, 0, (int)length);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _file.Dispose();
}

/// <summary>Reads extended attributes by path, and resolves paths as the C library does.</summary>
public static unsafe class PathAttributes
{
    /// <summary>An extended attribute as text; null when the path has none of that name or the file system
    /// has no attributes at all. Errors as of a lookup.</summary>
    public static string? Read(string path, string name)
    {
        byte[] value = new byte[LibcMap.XATTR_SIZE_MAX];
        fixed (byte* place = value)
        {
            nint length = LibcMap.getxattr(path, name, place, (nuint)value.Length);
            return length < 0 ? PathErrors.AbsentOrThrow(path, name, Errno.Last) : Encoding.UTF8.GetString(value, 0, (int)length);
        }
    }

    /// <summary>The user attributes of a path with their values; none where the file system has no attributes at all.</summary>
    public static List<(byte[] Name, byte[] Value)> ReadUser(string path)
    {
        byte[] names = new byte[LibcMap.XATTR_SIZE_MAX];
        byte[] value = new byte[LibcMap.XATTR_SIZE_MAX];
        List<(byte[], byte[])> found = [];
        fixed (byte* list = names, place = value)
        {
            nint length = LibcMap.listxattr(path, list, (nuint)names.Length);
            if (length < 0)
                return Errno.Last == Errno.EOPNOTSUPP ? found : throw PathErrors.Of(path, Errno.Last);
            ReadOnlySpan<byte> rest = names.AsSpan(0, (int)length);
            while (!rest.IsEmpty)
            {
                ReadOnlySpan<byte> name = rest[..rest.IndexOf((byte)0)];
                rest = rest[(name.Length + 1)..];
                if (!name.StartsWith("user."u8))
                    continue;
                nint bytes = LibcMap.getxattr(path, Encoding.UTF8.GetString(name), place, (nuint)value.Length);
                if (bytes >= 0)
                    found.Add((name.ToArray(), value[..(int)bytes]));
                // Removed since the list was made.
                else if (Errno.Last != LibcMap.ENODATA)
                    throw PathErrors.Of(path, Errno.Last);
            }
        }
        return found;
    }

    /// <summary>True for a directory, also one that cannot be looked at because the daemon mounted on it is gone.</summary>
    public static bool IsDirectoryOrDead(string path)
    {
        Libc.statx_buffer attributes;
        return Libc.statx(Libc.AT_FDCWD, path, 0, Libc.STATX_BASIC_STATS, &attributes) == 0
            ? (attributes.Mode & Libc.S_IFMT) == Libc.S_IFDIR
            : Errno.Last == LibcMap.ENOTCONN;
    }

    /// <summary>Whether a path is a symbolic link that somebody else made than root or this process's user: such a link says nothing
    /// about what this process may use.</summary>
    public static bool IsLinkOfAnother(string path)
    {
        Libc.statx_buffer attributes;
        return Libc.statx(Libc.AT_FDCWD, path, Libc.AT_SYMLINK_NOFOLLOW, Libc.STATX_BASIC_STATS, &attributes) == 0
            && (attributes.Mode & Libc.S_IFMT) == Libc.S_IFLNK && attributes.Uid != 0 && attributes.Uid != LibcMap.geteuid();
    }

    /// <summary>The path without symbolic links, <c>.</c> and <c>..</c>; null when it cannot be reached, with
    /// the error number.</summary>
    public static string? Resolve(string path, out int errno)
    {
        byte[] resolved = new byte[LibcMap.PATH_MAX];
        fixed (byte* place = resolved)
        {
            if (LibcMap.realpath(path, place) is null)
            {
                errno = Errno.Last;
                return null;
            }
        }
        errno = 0;
        return Encoding.UTF8.GetString(resolved.AsSpan(0, resolved.AsSpan().IndexOf((byte)0)));
    }
}

/// <summary>Puts the error number of a call on a path into an error of the domain.</summary>
public static class PathErrors
{
    /// <summary>Error number of a mount whose daemon is gone.</summary>
    public const int ENOTCONN = LibcMap.ENOTCONN;

    /// <summary>Error number of memory that cannot be read, or that the mount's host does not have.</summary>
    public const int EIO = Errno.EIO;

    /// <summary>Error number of writing to what is mounted read-only.</summary>
    public const int EROFS = Errno.EROFS;

    /// <summary>The error that says what stands in the way of <paramref name="path"/>.</summary>
    public static FamfsException Of(string path, int errno) => new(errno switch
    {
        Errno.ENOENT => ErrorReason.NotFound,
        Errno.ENOTDIR => ErrorReason.NotADirectory,
        Errno.EISDIR => ErrorReason.IsADirectory,
        Errno.EEXIST => ErrorReason.Exists,
        Errno.ENOSPC => ErrorReason.NoSpace,
        Errno.EACCES or Errno.EPERM or Errno.EROFS => ErrorReason.ReadOnly,
        LibcMap.ENOTCONN => ErrorReason.HostGone,
        LibcMap.ESTALE => ErrorReason.NotFound,
        Errno.EINVAL => ErrorReason.BadRequest,
        _ => ErrorReason.Unspecified,
    }, errno == LibcMap.ENOTCONN ? $"{path}: the daemon of this mount is gone (errno {errno}); `famfs umount` cleans it" : $"{path}: {Errno.Describe(errno)}")
    { Path = path };

    internal static string? AbsentOrThrow(string path, string name, int errno) => errno switch
    {
        LibcMap.ENODATA or Errno.EOPNOTSUPP => null,
        LibcMap.E2BIG or LibcMap.ERANGE => throw new FamfsException(ErrorReason.BadSize, $"{path}: attribute {name} is larger than the kernel passes on ({LibcMap.XATTR_SIZE_MAX} bytes)") { Path = path, Limit = LibcMap.XATTR_SIZE_MAX },
        _ => throw Of(path, errno),
    };
}
