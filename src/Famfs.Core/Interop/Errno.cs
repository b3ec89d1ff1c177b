using System.Globalization;
using System.Runtime.InteropServices;

namespace Famfs.Core.Interop;

/// <summary>Error numbers of Linux (asm-generic/errno-base.h, errno.h; equal on x86-64 and arm64) and the
/// one place that puts them into words.</summary>
public static class Errno
{
    public const int EPERM = 1;
    public const int ENOENT = 2;
    public const int EINTR = 4;
    public const int EIO = 5;
    public const int ENXIO = 6;
    public const int EBADF = 9;
    public const int EAGAIN = 11;
    public const int ENOMEM = 12;
    public const int EACCES = 13;
    public const int EFAULT = 14;
    public const int EBUSY = 16;
    public const int EEXIST = 17;
    public const int ENODEV = 19;
    public const int ENOTDIR = 20;
    public const int EISDIR = 21;
    public const int EINVAL = 22;
    public const int EFBIG = 27;
    public const int ENOSPC = 28;
    public const int EROFS = 30;
    public const int ENOSYS = 38;
    public const int EHWPOISON = 133;
    public const int EOPNOTSUPP = 95;

    /// <summary>Error number of this thread's last call through <see cref="Libc"/>.</summary>
    public static int Last => Marshal.GetLastPInvokeError();

    /// <summary>The words of the C library, with the number: <c>Permission denied (errno 13)</c>.</summary>
    public static string Describe(int errno) =>
        string.Create(CultureInfo.InvariantCulture, $"{Marshal.GetPInvokeErrorMessage(errno)} (errno {errno})");
}
