using System.Globalization;
using Famfs.Core.Interop;
using Famfs.Fuse.Protocol;
using Errno = Famfs.Fuse.Protocol.Errno;

namespace Famfs.Fuse.Session;

/// <summary>mount(2) and umount2(2) of one file system of type <c>fuse.famfs</c>.</summary>
public static class MountPoint
{
    // sys/mount.h
    private const ulong MS_RDONLY = 1;
    private const ulong MS_NOSUID = 2;
    private const ulong MS_NODEV = 4;
    private const ulong MS_NOEXEC = 8;
    private const ulong MS_REMOUNT = 32;
    private const ulong MS_BIND = 4096;
    private const int MNT_FORCE = 1;
    private const int MNT_DETACH = 2;

    // Subtype after the dot, so that /proc/self/mounts shows whose it is.
    private const string TypeName = "fuse.famfs";

    /// <summary>Mounts. Works as root, and in a user namespace in which the caller is root
    /// (<c>unshare -Urm</c>). Throws <see cref="IOException"/> whose HResult is the error number.</summary>
    public static void Mount(FuseMountOptions options, int descriptor, int maxReadBytes)
    {
        // user_id and group_id name who may use the mount without allow_other: the caller, in its namespace.
        string data = string.Create(
            CultureInfo.InvariantCulture,
            $"fd={descriptor},rootmode=40000,user_id=0,group_id=0,default_permissions,max_read={maxReadBytes}{(options.AllowOther ? ",allow_other" : "")}");
        ulong flags = FlagsOf(options) | (options.ReadOnly ? MS_RDONLY : 0);
        Require(FuseChannel.Mount(options.Source, options.MountPoint, TypeName, flags, data), $"mount {options.MountPoint}");
    }

    /// <summary>Forbids writing through this mount, and not through others of the same file system. Throws
    /// <see cref="IOException"/>.</summary>
    public static void MakeReadOnly(FuseMountOptions options) =>
        Require(FuseChannel.Mount("none", options.MountPoint, "none", MS_REMOUNT | MS_BIND | MS_RDONLY | FlagsOf(options), ""), $"remount {options.MountPoint} read-only");

    /// <summary>Allows writing through this mount again. Throws <see cref="IOException"/>.</summary>
    public static void MakeWritable(FuseMountOptions options) =>
        Require(FuseChannel.Mount("none", options.MountPoint, "none", MS_REMOUNT | MS_BIND | FlagsOf(options), ""), $"remount {options.MountPoint} for writing");

    /// <summary>Takes the mount out of the name space; open files go on until they are closed. False when nothing is
    /// mounted there.</summary>
    public static bool Detach(string path) => Unmount(path, MNT_DETACH);

    /// <summary>Unmounts if no file is open; throws <see cref="IOException"/> with EBUSY otherwise. False when
    /// nothing is mounted there.</summary>
    public static bool UnmountIdle(string path) => Unmount(path, 0);

    /// <summary>Ends the connection, failing what is open, and takes the mount out of the name space. False when
    /// nothing is mounted there.</summary>
    public static bool Abort(string path) => Unmount(path, MNT_FORCE | MNT_DETACH);

    /// <summary>Lets the kernel read ahead that far in files it caches. False when it may not be changed from here (in
    /// a container, usually); reads are correct all the same.</summary>
    public static bool TrySetReadAhead(uint deviceMinor, int kibibytes)
    {
        try
        {
            File.WriteAllText(
                string.Create(CultureInfo.InvariantCulture, $"/sys/class/bdi/0:{deviceMinor}/read_ahead_kb"), kibibytes.ToString(CultureInfo.InvariantCulture));
            return true;
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }

    // A remount sets all of them anew.
    private static ulong FlagsOf(FuseMountOptions options) => MS_NOSUID | MS_NODEV | (options.NoExec ? MS_NOEXEC : 0);

    private static bool Unmount(string path, int flags)
    {
        int result = FuseChannel.Unmount(path, flags);
        if ((Errno)(-result) is Errno.EINVAL or Errno.ENOENT)
            return false;
        Require(result, $"umount {path}");
        return true;
    }

    private static void Require(int result, string what)
    {
        if (result < 0)
            throw new IOException($"{what}: {System.Runtime.InteropServices.Marshal.GetPInvokeErrorMessage(-result)}", -result);
    }
}
