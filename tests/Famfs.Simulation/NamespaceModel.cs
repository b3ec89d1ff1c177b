using Famfs.V1;

namespace Famfs.Simulation;

/// <summary>What a tree of names should be, in one dictionary from paths to inodes, with the rules of POSIX.</summary>
internal sealed class NamespaceModel
{
    // Inode of each path; the path of a directory has no slash at its end.
    private readonly SortedDictionary<string, (ulong Inode, bool IsDirectory)> _paths = new(StringComparer.Ordinal);

    public IEnumerable<string> Lines => _paths.Select(p => $"{p.Key} {p.Value.Inode}{(p.Value.IsDirectory ? "/" : "")}");

    public IReadOnlyList<string> Paths => [.. _paths.Keys];

    public void Add(string path, ulong inode, bool isDirectory) => _paths.Add(path, (inode, isDirectory));

    /// <summary>Why nothing can be made there; null: it can.</summary>
    public ErrorReason? RefuseNew(string path) => RefuseParent(path) ?? (_paths.ContainsKey(path) ? ErrorReason.Exists : null);

    public ErrorReason? RefuseRemoval(string path, bool recursive) =>
        RefuseParent(path)
        ?? (!_paths.ContainsKey(path) ? ErrorReason.NotFound : !recursive && Below(path).Any() ? ErrorReason.NotEmpty : null);

    /// <summary>Removes what is there; gives the inodes of the files among it.</summary>
    public List<ulong> Remove(string path)
    {
        List<ulong> files = [];
        foreach (string gone in (string[])[.. Below(path), path])
        {
            if (!_paths[gone].IsDirectory)
                files.Add(_paths[gone].Inode);
            _paths.Remove(gone);
        }
        return files;
    }

    public ErrorReason? RefuseRename(string old, string to, bool replace)
    {
        if ((RefuseParent(old) ?? RefuseParent(to)) is { } parent)
            return parent;
        if (!_paths.TryGetValue(old, out (ulong Inode, bool IsDirectory) moved))
            return ErrorReason.NotFound;
        bool exists = _paths.TryGetValue(to, out (ulong Inode, bool IsDirectory) replaced);
        if (exists && !replace)
            return ErrorReason.Exists;
        if (moved.IsDirectory && to.StartsWith(old + "/", StringComparison.Ordinal))
            return ErrorReason.BadPath;
        if (exists && replaced.IsDirectory && old.StartsWith(to + "/", StringComparison.Ordinal))
            return ErrorReason.NotEmpty;
        if (!exists || old == to)
            return null;
        if (moved.IsDirectory != replaced.IsDirectory)
            return moved.IsDirectory ? ErrorReason.NotADirectory : ErrorReason.IsADirectory;
        return replaced.IsDirectory && Below(to).Any() ? ErrorReason.NotEmpty : null;
    }

    /// <summary>Renames; gives the inode of the file that was replaced, or 0.</summary>
    public ulong Rename(string old, string to)
    {
        if (old == to)
            return 0;
        ulong replaced = _paths.TryGetValue(to, out (ulong Inode, bool IsDirectory) target) && !target.IsDirectory ? target.Inode : 0;
        _paths.Remove(to);
        foreach (string path in (string[])[old, .. Below(old)])
        {
            _paths.Remove(path, out (ulong Inode, bool IsDirectory) moved);
            _paths.Add(to + path[old.Length..], moved);
        }
        return replaced;
    }

    private IEnumerable<string> Below(string path) => [.. _paths.Keys.Where(p => p.StartsWith(path + "/", StringComparison.Ordinal))];

    private ErrorReason? RefuseParent(string path)
    {
        for (int slash = path.IndexOf('/'); slash >= 0; slash = path.IndexOf('/', slash + 1))
        {
            if (!_paths.TryGetValue(path[..slash], out (ulong Inode, bool IsDirectory) at))
                return ErrorReason.NotFound;
            if (!at.IsDirectory)
                return ErrorReason.NotADirectory;
        }
        return null;
    }
}
