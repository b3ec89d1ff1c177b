using System.Text;
using Famfs.Core;
using Famfs.Core.Namespace;
using Famfs.Master.State;
using Famfs.V1;

namespace Famfs.Master.Queries;

/// <summary>What is known of removed files that mounts have not released.</summary>
internal static class HeldFileQueries
{
    /// <summary>Longest path that is told, in UTF-8 bytes (chosen: so many fit an answer). Of a longer one the name alone is.</summary>
    public const int MaxPathBytes = 1024;

    /// <summary>Adds to files, which have their inodes, their space, and what they were called. <paramref name="withNames"/>: the caller
    /// may know names of directories that it may not search.</summary>
    public static bool Complete(StateReader reader, IEnumerable<HeldFile> files, bool withNames)
    {
        using TreeScope scope = reader.Tree.Enter();
        foreach (HeldFile file in files)
        {
            InodeNumber inode = new(file.Inode);
            if (scope.TryGetMap(inode, out MapView map))
            {
                for (int i = 0; i < map.ExtentCount; i++)
                    file.SpaceBytes += (ulong)map[i].LengthBytes;
            }
            if (reader.State.RemovedNames.Find(inode) is not { } removed)
                continue;
            file.RemoveTimeNs = removed.TimeNs;
            if (!withNames)
                continue;
            file.Name = Encoding.UTF8.GetString(removed.Name);
            // A directory that is gone has no path, and one below a removed one is on its way.
            if (!IsInTree(scope, removed.Parent))
                continue;
            string above = FileQueries.PathOf(scope, removed.Parent);
            string path = above.Length > 0 ? $"{above}/{file.Name}" : file.Name;
            if (Encoding.UTF8.GetByteCount(path) <= MaxPathBytes)
                file.Path = path;
        }
        return true;
    }

    private static bool IsInTree(in TreeScope scope, InodeNumber directory)
    {
        while (directory != InodeNumber.Root)
        {
            if (!scope.TryGetName(directory, out directory, out _))
                return false;
        }
        return true;
    }
}
