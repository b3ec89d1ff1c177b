using System.Runtime.InteropServices;

namespace Famfs.Core.Interop;

/// <summary>
/// A mount that is attached to no directory and reached through its descriptor only (fsopen(2), fsmount(2), open_tree(2);
/// Linux 5.2). It ends when the descriptor and every file opened through it are closed. Made before it is used by
/// whoever serves it; opening files needs that server to run.
/// </summary>
public sealed class DetachedMount : IDisposable
{
    private readonly OpenFile _mount;

    private DetachedMount(OpenFile mount) => _mount = mount;

    /// <summary>A directory path by which this process, and no other, reaches the mount.</summary>
    public string Path => $"/proc/self/fd/{_mount.Descriptor}";

    /// <summary>Makes a file system of a type with options, name and value, a null value for a flag. Throws
    /// <see cref="IOException"/> whose HResult is the error number.</summary>
    public static DetachedMount Create(string type, IEnumerable<KeyValuePair<string, string?>> options)
    {
        int context = LibcFuse.OpenFileSystem(LibcFuse.SYS_fsopen, type, LibcFuse.FSOPEN_CLOEXEC);
        if (context < 0)
            throw Failure($"fsopen {type}");
        using OpenFile configured = new(context);
        foreach ((string name, string? value) in options)
        {
            int command = value is null ? LibcFuse.FSCONFIG_SET_FLAG : LibcFuse.FSCONFIG_SET_STRING;
            if (LibcFuse.ConfigureFileSystem(LibcFuse.SYS_fsconfig, context, command, name, value, 0) != 0)
                throw Failure($"fsconfig {type} {name}={value}");
        }
        if (LibcFuse.ConfigureFileSystem(LibcFuse.SYS_fsconfig, context, LibcFuse.FSCONFIG_CMD_CREATE, null, null, 0) != 0)
            throw Failure($"fsconfig {type}");
        int mount = LibcFuse.MakeMount(LibcFuse.SYS_fsmount, context, LibcFuse.FSMOUNT_CLOEXEC, LibcFuse.MOUNT_ATTR_NOSUID | LibcFuse.MOUNT_ATTR_NODEV);
        return mount >= 0 ? new(new(mount)) : throw Failure($"fsmount {type}");
    }

    /// <summary>Another mount of the file system that is mounted at a path: files opened through it do not keep the path
    /// from being unmounted, but keep the file system. Throws <see cref="IOException"/>.</summary>
    public static DetachedMount CloneOf(string mountPoint)
    {
        int mount = LibcFuse.OpenTree(LibcFuse.SYS_open_tree, LibcFuse.AT_FDCWD, mountPoint, LibcFuse.OPEN_TREE_CLONE | LibcFuse.O_CLOEXEC);
        return mount >= 0 ? new(new(mount)) : throw Failure($"open_tree {mountPoint}");
    }

    /// <inheritdoc/>
    public void Dispose() => _mount.Dispose();

    private static IOException Failure(string what)
    {
        int errno = Marshal.GetLastPInvokeError();
        return new IOException($"{what}: {Marshal.GetPInvokeErrorMessage(errno)}", errno);
    }
}
