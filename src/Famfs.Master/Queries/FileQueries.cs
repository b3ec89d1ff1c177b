using System.Text;
using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Namespace;
using Famfs.Master.State;
using Famfs.V1;
using FileInfo = Famfs.V1.FileInfo;

namespace Famfs.Master.Queries;

/// <summary>Files and directories, as they stand.</summary>
internal static class FileQueries
{
    /// <summary>Finds an inode by path or, when that is null, by number. Throws NOT_FOUND, NOT_A_DIRECTORY or BAD_PATH, and
    /// NOT_PERMITTED where <paramref name="user"/> may not search a directory above it.</summary>
    public static InodeAttributes Find(StateReader reader, string? path, ulong inode, Credentials? user = null)
    {
        if (path is not null)
            return Walk(reader, path, user);
        using TreeScope scope = reader.Tree.Enter();
        if (!scope.TryGet(new(inode), out InodeAttributes found) || found.Kind is not (InodeKind.File or InodeKind.Directory or InodeKind.Symlink)
            || found.Status != InodeStatus.Published)
            throw new FamfsException(ErrorReason.NotFound, $"inode {inode}: does not exist");
        // Its names are not told to whoever may not go there.
        InodeNumber at = found.Inode;
        while (user is not null && at != InodeNumber.Root)
        {
            if (!scope.TryGetName(at, out at, out _) || !scope.TryGet(at, out InodeAttributes directory))
                throw new FamfsException(ErrorReason.NotPermitted, $"inode {inode}: user {user.Uid} may not use an inode without a name");
            Permissions.Require(user, directory, Access.Search, $"a directory above inode {inode}");
        }
        return found;
    }

    /// <summary>The path that is meant: <paramref name="path"/>, or by the names of now that of <paramref name="place"/>. Throws NOT_FOUND
    /// and BAD_PATH.</summary>
    public static string Resolve(StateReader reader, string path, Place? place)
    {
        if (place is null)
            return path;
        if (path.Length > 0)
            throw new FamfsException(ErrorReason.BadRequest, $"{FileSystemPath.Show(path)}: a path and a place are given; give one of them");
        if (place.Name.Length == 0 || place.Name.Contains('/', StringComparison.Ordinal))
            throw new FamfsException(ErrorReason.BadPath, $"\"{FileSystemPath.Show(place.Name)}\" is not the name of an entry") { Path = FileSystemPath.Show(place.Name) };
        using TreeScope scope = reader.Tree.Enter();
        if (place.Directory is 0 or > InodeNumber.Max || !scope.TryGet(new(place.Directory), out InodeAttributes found) || found.Kind != InodeKind.Directory || found.Status != InodeStatus.Published)
            throw new FamfsException(ErrorReason.NotFound, $"directory {place.Directory}: does not exist");
        string above = PathOf(scope, found.Inode);
        return above.Length == 0 ? place.Name : $"{above}/{place.Name}";
    }

    /// <summary>Describes an inode.</summary>
    public static FileInfo Describe(StateReader reader, in InodeAttributes attributes, string path, bool withMap)
    {
        using TreeScope scope = reader.Tree.Enter();
        return Describe(scope, attributes, path, withMap);
    }

    /// <summary>Describes an inode as it is seen in a scope.</summary>
    public static FileInfo Describe(TreeScope scope, in InodeAttributes attributes, string path, bool withMap)
    {
        FileInfo info = new()
        {
            Inode = attributes.Inode.Value,
            Path = path,
            Kind = attributes.Kind switch { InodeKind.File => FileKind.File, InodeKind.Directory => FileKind.Directory, _ => FileKind.Symlink },
            Mode = attributes.Mode,
            Uid = attributes.Uid,
            Gid = attributes.Gid,
            SizeBytes = attributes.SizeBytes,
            ModifyTimeNs = attributes.ModifyTimeNs,
            State = (InodeState)attributes.Status,
        };
        if (attributes.Kind == InodeKind.Symlink && scope.TryGetSymlinkTarget(attributes.Inode, out ReadOnlySpan<byte> target))
            info.SymlinkTarget = Encoding.UTF8.GetString(target);
        if (withMap && attributes.Kind == InodeKind.File && scope.TryGetMap(attributes.Inode, out MapView map))
        {
            FileMap described = new() { ChunkBytes = map.ChunkBytes };
            for (int i = 0; i < map.ExtentCount; i++)
                described.Extents.Add(new Extent { Device = map[i].Device.Value, OffsetBytes = (ulong)map[i].OffsetBytes, LengthBytes = (ulong)map[i].LengthBytes });
            info.Map = described;
        }
        return info;
    }

    /// <summary>Describes an inode that a request has made, by the names that it has now; as deleted when it is gone.</summary>
    public static FileInfo DescribeMade(StateReader reader, InodeNumber inode, bool withMap = false)
    {
        using TreeScope scope = reader.Tree.Enter();
        return scope.TryGet(inode, out InodeAttributes attributes)
            ? Describe(scope, attributes, PathOf(scope, inode), withMap)
            : new FileInfo { Inode = inode.Value, State = InodeState.Deleted };
    }

    /// <summary>Lists up to <paramref name="limit"/> entries of a directory after a cookie; gives where to go on. Maps go with what
    /// <paramref name="user"/> may read.</summary>
    public static (List<FileInfo> Entries, ulong Cookie, InodeNumber Hint) ListSome(StateReader reader, InodeNumber directory, ulong cookie, InodeNumber hint, int limit, bool withMaps, Credentials? user)
    {
        List<FileInfo> entries = [];
        using TreeScope scope = reader.Tree.Enter();
        DirectoryEntries children = scope.List(directory, cookie, hint);
        while (entries.Count < limit && children.MoveNext())
        {
            cookie = children.Cookie;
            hint = children.Attributes.Inode;
            entries.Add(Describe(scope, children.Attributes, Encoding.UTF8.GetString(children.Name), withMaps && Permissions.MayRead(user, children.Attributes)));
        }
        return (entries, cookie, hint);
    }

    /// <summary>The map of a file, with the devices that it names. Throws IS_A_DIRECTORY for what has none.</summary>
    public static GetMapReply GetMap(StateReader reader, in InodeAttributes attributes, string path)
    {
        if (attributes.Kind != InodeKind.File)
            throw new FamfsException(ErrorReason.IsADirectory, $"{FileSystemPath.Show(path)}: is not a regular file") { Path = FileSystemPath.Show(path) };
        FileInfo info = Describe(reader, attributes, path, true);
        GetMapReply reply = new() { Inode = info.Inode, SizeBytes = info.SizeBytes, Map = info.Map, Position = reader.Position.ToMessage() };
        foreach (uint device in info.Map.Extents.Select(e => e.Device).Distinct())
            reply.Devices.Add(DeviceQueries.Describe(reader.State, device));
        return reply;
    }

    /// <summary>The directory that the last component is or will be in, which <paramref name="user"/> may search. Throws NOT_FOUND,
    /// NOT_A_DIRECTORY or NOT_PERMITTED with the component that is wrong.</summary>
    public static InodeAttributes RequireParent(StateReader reader, List<byte[]> components, string path, Credentials? user)
    {
        using TreeScope scope = reader.Tree.Enter();
        scope.TryGet(InodeNumber.Root, out InodeAttributes at);
        for (int i = 0; i < components.Count; i++)
        {
            RequireSearch(user, at, components, i);
            if (i == components.Count - 1)
                break;
            if (!scope.TryLookup(at.Inode, components[i], out at))
                throw PathError(ErrorReason.NotFound, path, components, i, "does not exist");
            if (at.Kind != InodeKind.Directory)
                throw PathError(ErrorReason.NotADirectory, path, components, i, "is not a directory");
        }
        return at;
    }

    /// <summary>Throws NOT_PERMITTED unless <paramref name="user"/> may search the directory that has the component at
    /// <paramref name="index"/>.</summary>
    public static void RequireSearch(Credentials? user, in InodeAttributes directory, List<byte[]> components, int index)
    {
        if (user is not null && !user.May(directory, Access.Search))
            Permissions.Require(user, directory, Access.Search, PathUpTo(components, index));
    }

    /// <summary>The path of the first <paramref name="count"/> components.</summary>
    public static string PathUpTo(List<byte[]> components, int count) => string.Join('/', components.Take(count).Select(Encoding.UTF8.GetString));

    /// <summary>An error of the component at <paramref name="index"/>.</summary>
    public static FamfsException PathError(ErrorReason reason, string path, List<byte[]> components, int index, string what)
    {
        return new(reason, $"{FileSystemPath.Show(PathUpTo(components, index + 1))}: {what}") { Path = FileSystemPath.Show(path) };
    }

    /// <summary>The path of an inode by the names it has now.</summary>
    public static string PathOf(TreeScope scope, InodeNumber inode)
    {
        List<string> parts = [];
        while (inode != InodeNumber.Root && scope.TryGetName(inode, out InodeNumber parent, out ReadOnlySpan<byte> name))
        {
            parts.Add(Encoding.UTF8.GetString(name));
            inode = parent;
        }
        parts.Reverse();
        return string.Join('/', parts);
    }

    private static InodeAttributes Walk(StateReader reader, string path, Credentials? user)
    {
        List<byte[]> components = FileSystemPath.Parse(path, allowRoot: true);
        using TreeScope scope = reader.Tree.Enter();
        scope.TryGet(InodeNumber.Root, out InodeAttributes at);
        for (int i = 0; i < components.Count; i++)
        {
            if (at.Kind != InodeKind.Directory)
                throw PathError(ErrorReason.NotADirectory, path, components, i - 1, "is not a directory");
            RequireSearch(user, at, components, i);
            if (!scope.TryLookup(at.Inode, components[i], out at))
                throw PathError(ErrorReason.NotFound, path, components, i, "does not exist");
        }
        return at;
    }
}
