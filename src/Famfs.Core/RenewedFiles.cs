using Famfs.Core.Interop;
using Famfs.V1;

namespace Famfs.Core;

/// <summary>
/// Something that is read from files, and read again when one of them has changed: a certificate that is replaced once a month is
/// used without a restart. Files are looked at when the value is asked for, through links, so that a link that is moved, as by
/// Kubernetes, is a change, too. What cannot be read leaves the value as it was. Any thread.
/// </summary>
/// <typeparam name="T">What is made of the files.</typeparam>
public sealed class RenewedFiles<T>
    where T : class
{
    private readonly string[] _paths;
    private readonly Func<T> _read;
    private readonly Lock _guard = new();

    // Written under _guard, published whole.
    private volatile Version _version;

    // Guarded by _guard. What was refused is not read again until it changes.
    private FileStatus?[] _refused = [];

    /// <summary>Reads the files the first time. <paramref name="read"/> throws <see cref="FamfsException"/> when they cannot be used,
    /// and so does this.</summary>
    public RenewedFiles(IReadOnlyList<string> paths, Func<T> read)
    {
        _paths = [.. paths];
        _read = read;
        // Before they are read: a change in between is seen the next time.
        FileStatus?[] seen = Look();
        _version = new(seen, read());
    }

    /// <summary>Called with the cause when changed files are not taken, once for each change. Nothing by default.</summary>
    public Action<string> Refused { get; set; } = static _ => { };

    /// <summary>Called after changed files have been taken. Nothing by default.</summary>
    public Action Renewed { get; set; } = static () => { };

    /// <summary>What the files say now, or have said when they could be used the last time.</summary>
    public T Current
    {
        get
        {
            if (Look().AsSpan().SequenceEqual(_version.Seen))
                return _version.Value;
            lock (_guard)
            {
                FileStatus?[] seen = Look();
                if (seen.AsSpan().SequenceEqual(_version.Seen) || seen.AsSpan().SequenceEqual(_refused))
                    return _version.Value;
                try
                {
                    _version = new(seen, _read());
                    Renewed();
                }
                catch (FamfsException error)
                {
                    _refused = seen;
                    Refused(error.Message);
                }
                return _version.Value;
            }
        }
    }

    /// <summary>What tells one content of the files from another: who is at their names, and when it was written. Reading moves the
    /// time of access, which is left out.</summary>
    private FileStatus?[] Look() => [.. _paths.Select(path => FileStatus.TryRead(path, followLinks: true, out _) is { } status ? status with { AccessTimeNs = 0 } : (FileStatus?)null)];

    private sealed record Version(FileStatus?[] Seen, T Value);
}
