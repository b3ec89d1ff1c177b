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

/// <summary>
/// Locks of an open file, exclusive or shared. Giving one up is a call of its own, never the mere closing of the file: a
/// program that another thread is starting has a copy of the descriptor until it executes, and the lock would last as long.
/// </summary>
internal sealed class FileLock : IDisposable
{
    private readonly OpenFile _file;

    /// <summary>Owns <paramref name="file"/>, whose locks it gives up before it closes it.</summary>
    public FileLock(OpenFile file) => _file = file;

    /// <summary>Takes or changes the lock of <paramref name="count"/> bytes from <paramref name="start"/> on for this open file
    /// (F_OFD_SETLK); with a count of 0, of all. False when another open file has one that excludes it; then <paramref name="errno"/>
    /// is 0, else that of the failed call.</summary>
    public static unsafe bool TryTake(OpenFile file, short type, long start, long count, out int errno)
    {
        var request = new Libc.flock { Type = type, Start = start, Length = count };
        errno = Libc.fcntl_flock(file.Descriptor, Libc.F_OFD_SETLK, &request) == 0 ? 0 : Errno.Last;
        if (errno is Errno.EAGAIN or Errno.EACCES)
        {
            errno = 0;
            return false;
        }
        return errno == 0;
    }

    /// <summary>Takes the lock of the whole file (flock). False as <see cref="TryTake"/>.</summary>
    public static bool TryTakeWhole(OpenFile file, out int errno)
    {
        errno = Libc.flock_whole(file.Descriptor, Libc.LOCK_EX_NB) == 0 ? 0 : Errno.Last;
        if (errno != Errno.EAGAIN)
            return errno == 0;
        errno = 0;
        return false;
    }

    /// <summary>Gives up every lock of an open file that may have copies.</summary>
    public static void Release(OpenFile file)
    {
        // Neither can fail for a file that is open.
        _ = TryTake(file, Libc.F_UNLCK, 0, 0, out _);
        _ = Libc.flock_whole(file.Descriptor, Libc.LOCK_UN);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_file.IsClosed)
            return;
        Release(_file);
        _file.Dispose();
    }
}
