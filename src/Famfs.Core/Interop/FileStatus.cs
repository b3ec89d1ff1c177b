using System.Runtime.InteropServices;

namespace Famfs.Core.Interop;

/// <summary>What a name of a host's file system leads to.</summary>
public enum FileType
{
    /// <summary>Fifo or device: nothing that has content of its own.</summary>
    Other,

    /// <summary>Regular file.</summary>
    Regular,

    /// <summary>Directory.</summary>
    Directory,

    /// <summary>Symbolic link; only where links are not followed.</summary>
    SymbolicLink,

    /// <summary>Name of a unix socket.</summary>
    Socket,
}

/// <summary>Attributes of a file of this host, as statx(2) gives them.</summary>
/// <param name="Type">What it is.</param>
/// <param name="Mode">Permission bits, at most 07777.</param>
/// <param name="Uid">Owner.</param>
/// <param name="Gid">Group.</param>
/// <param name="SizeBytes">Size in bytes.</param>
/// <param name="Device">Number of the device with the file's file system; with <paramref name="Inode"/> it names the file.</param>
/// <param name="Inode">Number of the file there.</param>
/// <param name="AccessTimeNs">Nanoseconds since 1970.</param>
/// <param name="ModifyTimeNs">Nanoseconds since 1970.</param>
public readonly record struct FileStatus(FileType Type, uint Mode, uint Uid, uint Gid, long SizeBytes, ulong Device, ulong Inode, long AccessTimeNs, long ModifyTimeNs)
{
    private const int NanosecondsPerSecond = 1_000_000_000;

    /// <summary>The attributes of what a path leads to, or of the link itself. Null with the error number where there is nothing
    /// that can be looked at. Opens nothing: a fifo does not wait for its other end.</summary>
    public static unsafe FileStatus? TryRead(string path, bool followLinks, out int errno)
    {
        Libc.statx_buffer found;
        if (Libc.statx(Libc.AT_FDCWD, path, followLinks ? 0 : Libc.AT_SYMLINK_NOFOLLOW, Libc.STATX_BASIC_STATS, &found) != 0)
        {
            errno = Errno.Last;
            return null;
        }
        errno = 0;
        return Of(found);
    }

    /// <summary>The attributes of an open file, as this host knows them: whoever serves it is not asked. Throws <see cref="IOException"/>.</summary>
    public static unsafe FileStatus ReadKnown(SafeHandle file)
    {
        bool added = false;
        try
        {
            file.DangerousAddRef(ref added);
            Libc.statx_buffer found;
            if (Libc.statx((int)file.DangerousGetHandle(), "", Libc.AT_EMPTY_PATH | Libc.AT_STATX_DONT_SYNC, Libc.STATX_BASIC_STATS, &found) != 0)
                throw new IOException($"statx of an open file: {Errno.Describe(Errno.Last)}");
            return Of(found);
        }
        finally
        {
            if (added)
                file.DangerousRelease();
        }
    }

    private static FileStatus Of(in Libc.statx_buffer found)
    {
        FileType type = (found.Mode & Libc.S_IFMT) switch
        {
            Libc.S_IFREG => FileType.Regular,
            Libc.S_IFDIR => FileType.Directory,
            Libc.S_IFLNK => FileType.SymbolicLink,
            Libc.S_IFSOCK => FileType.Socket,
            _ => FileType.Other,
        };
        return new(
            type, found.Mode & 0xFFFu, found.Uid, found.Gid, (long)found.Size,
            ((ulong)found.DevMajor << 32) | found.DevMinor, found.Inode,
            (found.AccessSeconds * NanosecondsPerSecond) + found.AccessNanoseconds,
            (found.ModifySeconds * NanosecondsPerSecond) + found.ModifyNanoseconds);
    }

    /// <summary>As <see cref="TryRead"/>; throws the error of a lookup.</summary>
    public static FileStatus Read(string path, bool followLinks) =>
        TryRead(path, followLinks, out int errno) ?? throw PathErrors.Of(path, errno);
}
