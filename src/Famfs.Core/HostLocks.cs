using System.Diagnostics.CodeAnalysis;
using Famfs.Core.Interop;
using Famfs.V1;

namespace Famfs.Core;

/// <summary>
/// Locks among the processes of one host, on files in its state directory (SAFETY S29): a lock on a device excludes only those
/// that use the same device node, and a container has nodes of its own. A file per file system, <c>locks/UUID</c>, which is
/// empty and stays; a lock is one of its bytes, numbered as the locks of device 0 are. Any thread.
/// </summary>
public sealed class HostLocks
{
    private const string FolderName = "locks";

    // Owner alone: who may open the file may hold up the host's masters.
    private const uint FileMode = 0b110_000_000;

    private readonly string? _stateDirectory;

    // A tool finds nobody where no host has left anything, and leaves nothing itself.
    private readonly bool _mayBeAbsent;

    private HostLocks(string? stateDirectory, bool mayBeAbsent)
    {
        _stateDirectory = stateDirectory;
        _mayBeAbsent = mayBeAbsent;
    }

    /// <summary>Every lock of it can be had: there is no state directory.</summary>
    public static HostLocks None { get; } = new(null, mayBeAbsent: true);

    /// <summary>The locks of a host that has its identity in <paramref name="stateDirectory"/>.</summary>
    public static HostLocks In(string stateDirectory) => new(stateDirectory, mayBeAbsent: false);

    /// <summary>The same for a tool, which may run where there is no state directory or where it may not write to it: then nobody
    /// holds a lock there that was never made.</summary>
    public static HostLocks OfTool(string stateDirectory) => new(stateDirectory, mayBeAbsent: true);

    /// <summary>Path of the locks of a file system; null for <see cref="None"/>.</summary>
    public string? PathOf(Guid fileSystem) => _stateDirectory is null ? null : Path.Combine(_stateDirectory, FolderName, fileSystem.ToString("D"));

    /// <summary>Takes the locks <paramref name="first"/> to <paramref name="first"/> + <paramref name="count"/> - 1 of a file system;
    /// with a count of 0 all from the first on. False while anybody has one of them, this process included. Disposing
    /// <paramref name="held"/> releases them, as does the death of the process. Errors: <see cref="FamfsException"/> with the path
    /// when the file cannot be made or opened.</summary>
    public bool TryLock(Guid fileSystem, long first, long count, [NotNullWhen(true)] out IDisposable? held)
    {
        held = null;
        OpenFile? file = Open(fileSystem, out string path);
        if (file is null)
        {
            held = new Nothing();
            return true;
        }
        try
        {
            if (FileLock.TryTake(file, Libc.F_WRLCK, first, count, out int errno))
                held = new FileLock(file);
            else if (errno != 0)
                throw PathErrors.Of(path, errno);
        }
        finally
        {
            if (held is null)
                file.Dispose();
        }
        return held is not null;
    }

    private OpenFile? Open(Guid fileSystem, out string path)
    {
        path = PathOf(fileSystem) ?? "";
        if (_stateDirectory is null || (_mayBeAbsent && !Directory.Exists(_stateDirectory)))
            return null;
        string folder = Path.Combine(_stateDirectory, FolderName);
        try
        {
            Directory.CreateDirectory(folder);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            if (_mayBeAbsent && !Path.Exists(folder))
                return null;
            throw new FamfsException(ErrorReason.ReadOnly, $"{folder}: the locks of this host cannot be kept: {error.Message}", error) { Path = folder };
        }
        int descriptor = Libc.open(path, Libc.O_RDWR | LibcMap.O_CREAT | Libc.O_CLOEXEC, FileMode);
        if (descriptor >= 0)
            return new(descriptor);
        int errno = Errno.Last;
        return _mayBeAbsent && errno is Errno.EACCES or Errno.EPERM or Errno.EROFS && !File.Exists(path) ? null : throw PathErrors.Of(path, errno);
    }

    private sealed class Nothing : IDisposable
    {
        public void Dispose()
        {
        }
    }
}
