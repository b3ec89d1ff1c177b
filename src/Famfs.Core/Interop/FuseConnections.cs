using System.Globalization;

namespace Famfs.Core.Interop;

/// <summary>
/// The FUSE connections of this kernel, by number: the evidence that a superblock is gone (SAFETY S14). Seen
/// through the control file system where it is mounted, else, with the privilege to mount it, through an
/// instance of it that is attached nowhere.
/// </summary>
public sealed class FuseConnections : IDisposable
{
    private const string MountedAt = "/sys/fs/fuse/connections";

    private readonly OpenFile? _detached;

    // A file of the connection that is known to live: the kernel gives its number to another one as soon as it is gone, and this file
    // stays its own, and has no link from then on. Null: it cannot be opened.
    private OpenFile? _living;
    private uint _livingNumber;

    private FuseConnections(OpenFile? detached, bool visible)
    {
        _detached = detached;
        Visible = visible;
    }

    /// <summary>The kernel shows connections here at all; only then does absence mean anything.</summary>
    public bool Visible { get; }

    /// <summary>Looks for a way to see connections, of which <paramref name="living"/>, known to live, must be
    /// one.</summary>
    public static FuseConnections Open(uint living)
    {
        FuseConnections mounted = new(null, visible: true);
        if (!mounted.IsGone(living))
            return mounted.Watching(living);
        if (MountDetached() is not { } root)
            return new(null, visible: false);
        FuseConnections detached = new(root, visible: true);
        if (!detached.IsGone(living))
            return detached.Watching(living);
        root.Dispose();
        return new(null, visible: false);
    }

    /// <summary>True when the superblock of a connection is gone. False also while that cannot be seen, as where the number is another's by
    /// now; of the one that <see cref="Open"/> was called with, this is seen all the same.</summary>
    public unsafe bool IsGone(uint connection)
    {
        if (!Visible)
            return false;
        if (_living is not null && connection == _livingNumber && _living.ReadAttributes().LinkCount == 0)
            return true;
        string name = connection.ToString(CultureInfo.InvariantCulture);
        Libc.statx_buffer ignored;
        int result = _detached is null
            ? Libc.statx(Libc.AT_FDCWD, $"{MountedAt}/{name}", 0, Libc.STATX_BASIC_STATS, &ignored)
            : Libc.statx(_detached.Descriptor, name, 0, Libc.STATX_BASIC_STATS, &ignored);
        return result != 0 && Errno.Last == Errno.ENOENT;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _living?.Dispose();
        _detached?.Dispose();
    }

    private FuseConnections Watching(uint living)
    {
        string directory = _detached is null ? MountedAt : $"/proc/self/fd/{_detached.Descriptor}";
        OpenFile file = new(Libc.open(string.Create(CultureInfo.InvariantCulture, $"{directory}/{living}/waiting"), Libc.O_RDONLY | Libc.O_CLOEXEC, 0));
        if (!file.IsInvalid && file.ReadAttributes().LinkCount > 0)
            (_living, _livingNumber) = (file, living);
        else
            file.Dispose();
        return this;
    }

    /// <summary>Null without the privilege, or on a kernel before 5.2.</summary>
    private static OpenFile? MountDetached()
    {
        int context = LibcFuse.OpenFileSystem(LibcFuse.SYS_fsopen, "fusectl", LibcFuse.FSOPEN_CLOEXEC);
        if (context < 0)
            return null;
        using OpenFile configuration = new(context);
        if (LibcFuse.ConfigureFileSystem(LibcFuse.SYS_fsconfig, context, LibcFuse.FSCONFIG_CMD_CREATE, null, null, 0) != 0)
            return null;
        int root = LibcFuse.MakeMount(LibcFuse.SYS_fsmount, context, LibcFuse.FSMOUNT_CLOEXEC, 0);
        return root < 0 ? null : new(root);
    }
}
