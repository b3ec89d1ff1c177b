using System.Globalization;
using Famfs.Client;
using Famfs.Core;
using Famfs.Core.Interop;
using Famfs.V1;

namespace Famfs.Cli.Verbs;

/// <summary>What a copy does with symbolic links. Links cannot be made in famfs by this version, so one that is not followed is
/// named and left out.</summary>
internal enum LinkChoice
{
    /// <summary>Those that are given are followed, and below them those that lead to files.</summary>
    Files,

    /// <summary>All are followed (<c>-L</c>).</summary>
    Follow,

    /// <summary>None is (<c>-P</c>).</summary>
    Never,
}

/// <summary>One thing to copy.</summary>
/// <param name="Source">Path on the host.</param>
/// <param name="Destination">Path on the mount.</param>
/// <param name="Status">Of the source, links followed.</param>
internal sealed record CopyItem(string Source, string Destination, FileStatus Status)
{
    public bool IsDirectory => Status.Type == FileType.Directory;
}

/// <summary>
/// What a copy is going to do, found out before anything is made: every file and directory that can be copied, parents before
/// children, and an error for each thing that cannot. Nothing is opened but directories, so neither a fifo nor a cycle of links
/// holds it up.
/// </summary>
internal sealed class CopyPlan
{
    // Their files say 0 bytes and have content.
    private static readonly string[] s_unsized = ["proc", "sysfs", "cgroup", "cgroup2", "debugfs", "tracefs", "securityfs"];

    private readonly bool _recursive;
    private readonly LinkChoice _links;
    private readonly bool _skipEmpty;
    private readonly HashSet<(ulong Device, ulong Inode)> _destination = [];
    private readonly Dictionary<string, CopyItem> _planned = new(StringComparer.Ordinal);
    private Dictionary<string, string>? _types;

    private CopyPlan(string destination, bool recursive, LinkChoice links, bool skipEmpty)
    {
        (_recursive, _links, _skipEmpty) = (recursive, links, skipEmpty);
        // The destination and all above it: a source that is one of them would be copied into itself.
        for (string? at = Path.GetFullPath(destination); at is not null; at = Path.GetDirectoryName(at))
        {
            if (FileStatus.TryRead(at, true, out _) is { } status)
                _destination.Add((status.Device, status.Inode));
        }
    }

    /// <summary>In the order to copy.</summary>
    public List<CopyItem> Items { get; } = [];

    /// <summary>One for each thing that cannot be copied; what lies below it is not in the plan.</summary>
    public List<FamfsException> Problems { get; } = [];

    /// <summary>Empty files that were left out because that was asked for.</summary>
    public long SkippedEmpty { get; private set; }

    /// <summary>Bytes of all files.</summary>
    public long Bytes => Items.Where(i => !i.IsDirectory).Sum(i => i.Status.SizeBytes);

    /// <summary>Plans like cp: into <paramref name="destination"/> when that is a directory, as it otherwise, or always
    /// (<paramref name="asDestination"/>). Throws NOT_A_DIRECTORY when the destination must be one and is none.</summary>
    public static CopyPlan Make(IReadOnlyList<string> sources, string destination, bool recursive, LinkChoice links = LinkChoice.Files, bool skipEmpty = false, bool asDestination = false)
    {
        if (asDestination && sources.Count > 1)
            throw CliOptions.Usage("-T is for a single source");
        bool into = !asDestination && FileStatus.TryRead(destination, true, out _) is { Type: FileType.Directory };
        if (!into && sources.Count > 1)
            throw new FamfsException(ErrorReason.NotADirectory, $"{destination}: is not a directory; several sources need one") { Path = destination };
        if (!into && destination.EndsWith('/') && FileStatus.TryRead(sources[0], true, out _) is not { Type: FileType.Directory })
            throw new FamfsException(ErrorReason.NotADirectory, $"{destination}: is not a directory") { Path = destination };
        CopyPlan plan = new(destination, recursive, links, skipEmpty);
        foreach (string source in sources)
        {
            // "a/." is the content of a.
            bool content = Path.GetFileName(source) is "." or "..";
            string name = Path.GetFileName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(source)));
            plan.AddGiven(source, into && !content ? Path.Combine(destination, name) : Path.TrimEndingDirectorySeparator(destination));
        }
        return plan;
    }

    private void AddGiven(string source, string destination)
    {
        if (FileStatus.TryRead(source, followLinks: _links != LinkChoice.Never, out int errno) is not { } status)
            Problem(PathErrors.Of(source, errno));
        else if (status.Type == FileType.Directory && !_recursive)
            Problem(ErrorReason.IsADirectory, source, "is a directory; use -r");
        else
            Add(source, destination, status, []);
    }

    private void AddBelow(string source, string destination, List<(ulong Device, ulong Inode)> above)
    {
        if (source.Contains('\uFFFD', StringComparison.Ordinal))
        {
            Problem(ErrorReason.BadPath, source, "has a name that is no UTF-8");
            return;
        }
        if (FileStatus.TryRead(source, followLinks: false, out int errno) is not { } status)
        {
            Problem(PathErrors.Of(source, errno));
            return;
        }
        if (status.Type == FileType.SymbolicLink && _links != LinkChoice.Never)
        {
            if (FileStatus.TryRead(source, followLinks: true, out errno) is not { } target)
            {
                Problem(ErrorReason.NotFound, source, $"is a symbolic link to nothing that can be reached: {Errno.Describe(errno)}");
                return;
            }
            if (target.Type != FileType.Directory || _links == LinkChoice.Follow)
                status = target;
        }
        Add(source, destination, status, above);
    }

    private void Add(string source, string destination, FileStatus status, List<(ulong Device, ulong Inode)> above)
    {
        switch (status.Type)
        {
            case FileType.Regular:
                AddFile(source, destination, status);
                break;
            case FileType.Directory:
                AddDirectory(source, destination, status, above);
                break;
            case FileType.SymbolicLink:
                Problem(ErrorReason.BadRequest, source, _links == LinkChoice.Never ? "is a symbolic link; famfs has none yet" : "is a symbolic link to a directory; -L follows it");
                break;
            default:
                Problem(ErrorReason.BadRequest, source, "is a fifo, a socket or a device, and has no content to copy");
                break;
        }
    }

    private void AddFile(string source, string destination, FileStatus status)
    {
        if (status.SizeBytes == 0)
        {
            if (TypeOf(status) is { } type && s_unsized.Contains(type))
                Problem(ErrorReason.BadSize, source, $"is a file of {type}, whose size nobody knows before it is read; copy its content to a file first");
            else if (_skipEmpty)
                SkippedEmpty++;
            else
                Problem(new FamfsException(ErrorReason.BadSize, $"{source}: is empty; a famfs file has at least 1 byte (--skip-empty leaves such files out)") { Path = source, Limit = 1 });
        }
        else if (FileStatus.TryRead(destination, true, out _) is { } present && (present.Device, present.Inode) == (status.Device, status.Inode))
            Problem(ErrorReason.BadRequest, source, $"is the same file as {destination}");
        else if (_planned.TryGetValue(destination, out CopyItem? first))
            Problem(ErrorReason.Exists, destination, $"will not overwrite just-created {(first.IsDirectory ? "directory" : "file")} with {source}");
        else
            Plan(new(source, destination, status));
    }

    /// <summary>The type of the file system that a file is on; null when the table of mounts does not say.</summary>
    private string? TypeOf(in FileStatus status)
    {
        if (_types is null)
        {
            _types = [];
            foreach (MountEntry entry in MountEntry.ReadTable())
                _types[entry.DeviceNumber] = entry.FileSystemType;
        }
        return _types.GetValueOrDefault(string.Create(CultureInfo.InvariantCulture, $"{status.Device >> 32}:{(uint)status.Device}"));
    }

    private void AddDirectory(string source, string destination, FileStatus status, List<(ulong Device, ulong Inode)> above)
    {
        (ulong, ulong) identity = (status.Device, status.Inode);
        if (_destination.Contains(identity))
        {
            Problem(ErrorReason.BadRequest, source, $"cannot be copied into itself, {destination}");
            return;
        }
        if (above.Contains(identity))
        {
            Problem(ErrorReason.BadRequest, source, "is a directory that it lies in itself: a cycle of links");
            return;
        }
        // Directories of one name become one.
        if (_planned.TryGetValue(destination, out CopyItem? first))
        {
            if (!first.IsDirectory)
            {
                Problem(ErrorReason.Exists, destination, $"will not overwrite just-created file with {source}");
                return;
            }
        }
        else
            Plan(new(source, destination, status));
        string[] names;
        try
        {
            names = [.. Directory.EnumerateFileSystemEntries(source).Order(StringComparer.Ordinal)];
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            Problem(ErrorReason.ReadOnly, source, $"cannot be listed: {e.Message}");
            return;
        }
        above.Add(identity);
        foreach (string entry in names)
            AddBelow(entry, Path.Combine(destination, Path.GetFileName(entry)), above);
        above.RemoveAt(above.Count - 1);
    }

    private void Plan(CopyItem item)
    {
        Items.Add(item);
        _planned.Add(item.Destination, item);
    }

    private void Problem(FamfsException problem) => Problems.Add(problem);

    private void Problem(ErrorReason reason, string path, string why) => Problem(new FamfsException(reason, $"{path}: {why}") { Path = path });
}
