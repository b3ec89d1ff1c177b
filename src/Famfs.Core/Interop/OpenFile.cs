using Microsoft.Win32.SafeHandles;

namespace Famfs.Core.Interop;

/// <summary>An open file descriptor, closed exactly once.</summary>
internal sealed class OpenFile : SafeHandleMinusOneIsInvalid
{
    public OpenFile(int descriptor)
        : base(ownsHandle: true) => SetHandle(descriptor);

    public int Descriptor => (int)handle;

    /// <summary>Attributes of the open file. Errors: IOException.</summary>
    public unsafe Libc.statx_buffer ReadAttributes()
    {
        Libc.statx_buffer attributes;
        if (Libc.statx(Descriptor, "", Libc.AT_EMPTY_PATH, Libc.STATX_BASIC_STATS, &attributes) != 0)
            throw new IOException($"statx of descriptor {Descriptor}: {Errno.Describe(Errno.Last)}");
        return attributes;
    }

    /// <summary>Brings the names in a directory to the disk: a file that is flushed may lack its name after a crash. Errors:
    /// IOException.</summary>
    public static void FlushDirectory(string path)
    {
        using OpenFile directory = new(Libc.open(path, Libc.O_RDONLY | Libc.O_CLOEXEC, 0));
        if (directory.IsInvalid || Libc.fsync(directory.Descriptor) != 0)
            throw new IOException($"{path}: cannot be flushed to the disk: {Errno.Describe(Errno.Last)}");
    }

    protected override bool ReleaseHandle() => Libc.close((int)handle) == 0;
}
