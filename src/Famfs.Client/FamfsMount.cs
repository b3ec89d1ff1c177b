using System.Globalization;
using System.Text;
using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Interop;
using Famfs.V1;

namespace Famfs.Client;

/// <summary>One line of the kernel's table of mounts (proc_pid_mountinfo(5)).</summary>
/// <param name="DeviceNumber">major:minor of the mounted file system.</param>
/// <param name="Root">Directory of the file system that is shown, <c>/</c> unless it is a bind mount.</param>
/// <param name="MountPoint">Where.</param>
/// <param name="FileSystemType">Type, for FUSE with its subtype.</param>
/// <param name="ReadOnly">Nothing can be written through it.</param>
public sealed record MountEntry(string DeviceNumber, string Root, string MountPoint, string FileSystemType, bool ReadOnly)
{
    /// <summary>Programs on it cannot be run.</summary>
    public bool ForbidsPrograms { get; init; }

    /// <summary>What is mounted on it appears in other mount name spaces, too (mount_namespaces(7)).</summary>
    public bool IsShared { get; init; }

    /// <summary>The table as this process sees it.</summary>
    public const string TablePath = "/proc/self/mountinfo";

    // As many as the kernel follows (path_resolution(7)).
    private const int MaxLinks = 40;

    /// <summary>Reads a table; what is no line of it is left out, because the kernel may add kinds.</summary>
    public static IReadOnlyList<MountEntry> ReadTable(string tablePath = TablePath)
    {
        List<MountEntry> entries = [];
        foreach (string line in File.ReadLines(tablePath))
        {
            string[] fields = line.Split(' ');
            int separator = Array.IndexOf(fields, "-");
            if (separator >= 6 && fields.Length > separator + 1)
                entries.Add(new(fields[2], Unescape(fields[3]), Unescape(fields[4]), fields[separator + 1], fields[5].Split(',').Contains("ro"))
                {
                    ForbidsPrograms = fields[5].Split(',').Contains("noexec"),
                    IsShared = fields[6..separator].Any(f => f.StartsWith("shared:", StringComparison.Ordinal)),
                });
        }
        return entries;
    }

    /// <summary>The mount that a path is on, by its name alone: nothing is asked, and a link is not followed.</summary>
    public static MountEntry? Covering(string path, string tablePath = TablePath)
    {
        MountEntry? best = null;
        foreach (MountEntry entry in ReadTable(tablePath))
        {
            bool covers = entry.MountPoint == "/" || path == entry.MountPoint
                || (path.StartsWith(entry.MountPoint, StringComparison.Ordinal) && path[entry.MountPoint.Length] == '/');
            // Of two mounts at one place the later is what is seen.
            if (covers && (best is null || entry.MountPoint.Length >= best.MountPoint.Length))
                best = entry;
        }
        return best;
    }

    /// <summary>The one name of a place to mount on: absolute, without links, <c>.</c>, <c>..</c> or a slash at the end. A mount
    /// there is not asked, so a dead one has a name, too.</summary>
    public static string PlaceOf(string path, string tablePath = TablePath)
    {
        string place = Path.TrimEndingDirectorySeparator(Path.GetFullPath(path));
        HashSet<string> mounted = [.. ReadTable(tablePath).Select(e => e.MountPoint)];
        for (int links = 0; links < MaxLinks; links++)
        {
            if (mounted.Contains(place) || Path.GetDirectoryName(place) is not { } parent)
                return place;
            place = Path.Combine(PathAttributes.Resolve(parent, out _) ?? parent, Path.GetFileName(place));
            if (mounted.Contains(place) || new System.IO.FileInfo(place).LinkTarget is not { } target)
                return place;
            place = Path.TrimEndingDirectorySeparator(Path.GetFullPath(target, Path.GetDirectoryName(place)!));
        }
        return place;
    }

    /// <summary>The kernel writes space, tab, newline and backslash of a path as \ooo.</summary>
    private static string Unescape(string field)
    {
        if (!field.Contains('\\', StringComparison.Ordinal))
            return field;
        byte[] bytes = Encoding.UTF8.GetBytes(field);
        int length = 0;
        for (int i = 0; i < bytes.Length; i++)
        {
            bool escape = bytes[i] == '\\' && i + 3 < bytes.Length && bytes.AsSpan(i + 1, 3).IndexOfAnyExceptInRange((byte)'0', (byte)'7') < 0;
            bytes[length++] = escape ? (byte)(((bytes[i + 1] - '0') << 6) | ((bytes[i + 2] - '0') << 3) | (bytes[i + 3] - '0')) : bytes[i];
            i += escape ? 3 : 0;
        }
        return Encoding.UTF8.GetString(bytes, 0, length);
    }
}

/// <summary>
/// A famfs mount on this host, and what it says about the file system (extended attributes of everything on it):
/// <code>
/// user.famfs.uuid      file system                user.famfs.master    address of the master, while it is reached
/// user.famfs.mount     this mount                 user.famfs.dialect   "stock", or a famfs kernel's
/// user.famfs.log-master  address of the master of the newest term, as the log has it
/// user.famfs.damage    why it is read-only, if damage is why
/// user.famfs.devices   lines "index uuid path"
/// user.famfs.missing-devices  lines "index uuid": devices of the pool that this host lacks
/// user.famfs.version   of its daemon
/// user.famfs.keeper    what keeps it beyond the death of its daemon, while something does
/// user.famfs.lease     milliseconds within which it gives up its files when it cannot write its line, if it does
/// </code>
/// </summary>
public sealed class FamfsMount
{
    /// <summary>Type under which the daemon mounts.</summary>
    public const string FileSystemType = "fuse.famfs";

    /// <summary>Dialect of a kernel without famfs.</summary>
    public const string StockDialect = "stock";

    private static readonly string[] s_attributes = ["uuid", "mount", "position", "master", "log-master", "registration", "dialect", "damage", "devices", "missing-devices", "version", "keeper", "lease"];

    /// <summary>Registered: files can be opened.</summary>
    public const string Registered = "registered";

    /// <summary>It is not known yet whether the master registers the mount.</summary>
    public const string RegistrationPending = "pending";

    /// <summary>Begins the reason when files will not be opened until somebody does something.</summary>
    public const string RegistrationRefused = "refused: ";

    private readonly string _root;

    // Set together for a mount that was asked: then its attributes are not read again.
    private readonly Dictionary<string, string>? _said;
    private readonly FamfsException? _refusal;

    private FamfsMount(MountEntry entry)
        : this(entry.MountPoint, entry.Root, entry.ReadOnly, null, null)
    {
    }

    private FamfsMount(string mountPoint, string root, bool readOnly, Dictionary<string, string>? said, FamfsException? refusal)
    {
        MountPoint = mountPoint;
        _root = root;
        IsReadOnly = readOnly;
        _said = said;
        _refusal = refusal;
    }

    /// <summary>Where it is mounted.</summary>
    public string MountPoint { get; }

    /// <summary>Nothing can be written through it.</summary>
    public bool IsReadOnly { get; }

    /// <summary>When it was asked, its daemon was gone.</summary>
    public bool IsDead => _refusal?.Reason == ErrorReason.HostGone;

    /// <summary>All famfs mounts.</summary>
    public static IReadOnlyList<FamfsMount> FindAll(string tablePath = MountEntry.TablePath) =>
        [.. MountEntry.ReadTable(tablePath).Where(e => e.FileSystemType == FileSystemType).Select(e => new FamfsMount(e))];

    /// <summary>Each mounted famfs once, whatever parts of it are bound to other places, too: its whole tree where that is in sight.</summary>
    public static IReadOnlyList<FamfsMount> FindDistinct(string tablePath = MountEntry.TablePath) =>
        [.. MountEntry.ReadTable(tablePath).Where(e => e.FileSystemType == FileSystemType).GroupBy(e => e.DeviceNumber)
            .Select(same => new FamfsMount(same.FirstOrDefault(e => e.Root == "/") ?? same.First()))];

    /// <summary>The famfs mount that <paramref name="path"/> is on, or would be; null when it is on another
    /// file system. <paramref name="resolved"/>: the path without links.</summary>
    public static FamfsMount? Find(string path, out string resolved, string tablePath = MountEntry.TablePath)
    {
        resolved = ResolveExisting(path);
        return Covering(resolved, tablePath) ?? Covering(resolved = Path.GetFullPath(path), tablePath);
    }

    /// <summary>The famfs mount that a path seems to be on, by its name alone; null when it is none. Nothing is asked, so it does
    /// not hang, and a link is not followed.</summary>
    public static FamfsMount? FindByName(string path, string tablePath = MountEntry.TablePath) => Covering(Path.GetFullPath(path), tablePath);

    /// <summary>The mount of the same file system that shows all of it, where this one may show a part; null when none is in sight.
    /// Nothing is asked.</summary>
    public FamfsMount? FindWhole(string tablePath = MountEntry.TablePath)
    {
        MountEntry[] entries = [.. MountEntry.ReadTable(tablePath).Where(e => e.FileSystemType == FileSystemType)];
        string? device = entries.LastOrDefault(e => e.MountPoint == MountPoint)?.DeviceNumber;
        return entries.FirstOrDefault(e => e.DeviceNumber == device && e.Root == "/") is { } whole ? new(whole) : null;
    }

    /// <summary>The mount of <paramref name="path"/>; throws BAD_REQUEST when it is on no famfs mount.</summary>
    public static FamfsMount Require(string path, out string resolved, string tablePath = MountEntry.TablePath) =>
        Find(path, out resolved, tablePath) ?? throw new FamfsException(ErrorReason.BadRequest, $"{path}: not on a famfs mount") { Path = path };

    /// <summary>The path from the file system's root, without a leading slash; the root is empty.</summary>
    public string ToFileSystemPath(string resolvedPath)
    {
        string below = resolvedPath[(MountPoint == "/" ? 0 : MountPoint.Length)..].Trim('/');
        string root = _root.Trim('/');
        return root.Length == 0 ? below : below.Length == 0 ? root : $"{root}/{below}";
    }

    /// <summary>An attribute of the mount; null when the daemon does not give it.</summary>
    public string? ReadAttribute(string name)
    {
        if (_refusal is not null)
            throw new FamfsException(_refusal.Reason, _refusal.Message, _refusal) { Path = _refusal.Path };
        return _said is null ? PathAttributes.Read(MountPoint, name)?.TrimEnd('\n', '\0') : _said.GetValueOrDefault(name);
    }

    /// <summary>The file system. Throws WRONG_FILESYSTEM when the mount does not say.</summary>
    public Guid RequireFileSystem() => RequireId("user.famfs.uuid");

    /// <summary>This mount's id. Throws WRONG_FILESYSTEM when the mount does not say.</summary>
    public Guid RequireMountId() => RequireId("user.famfs.mount");

    /// <summary>Address of the master, while the daemon reaches it.</summary>
    public string? ReadMasterAddress() => ReadAttribute("user.famfs.master") is { Length: > 0 } address ? address : null;

    /// <summary>Address of the master of the newest term, when the log names one. Nobody has asked it yet which file system it
    /// serves.</summary>
    public string? ReadLogMasterAddress() => ReadAttribute("user.famfs.log-master") is { Length: > 0 } address ? address : null;

    /// <summary><see cref="Registered"/>, <see cref="RegistrationPending"/>, or why files cannot be opened.</summary>
    public string ReadRegistration() => ReadAttribute("user.famfs.registration") is { Length: > 0 } said ? said : Registered;

    /// <summary>What the daemon speaks with this kernel; <see cref="StockDialect"/> when it does not say.</summary>
    public string ReadDialect() => ReadAttribute("user.famfs.dialect") is { Length: > 0 } dialect ? dialect : StockDialect;

    /// <summary>Version of the daemon; null when it does not say.</summary>
    public string? ReadVersion() => ReadAttribute("user.famfs.version") is { Length: > 0 } version ? version : null;

    /// <summary>What keeps the mount beyond the death of its daemon; null: nothing does.</summary>
    public string? ReadKeeper() => ReadAttribute("user.famfs.keeper") is { Length: > 0 } keeper ? keeper : null;

    /// <summary>Why the daemon follows the log no further and lets nobody write, or null.</summary>
    public string? ReadDamage() => ReadAttribute("user.famfs.damage") is { Length: > 0 } damage ? damage : null;

    /// <summary>The last record that its kernel was told of; null when the daemon does not say.</summary>
    public LogPosition? ReadPosition()
    {
        // generation:sequence@term
        string[] parts = (ReadAttribute("user.famfs.position") ?? "").Split(':', '@');
        return parts.Length == 3 && ulong.TryParse(parts[0], NumberStyles.None, CultureInfo.InvariantCulture, out ulong generation)
            && ulong.TryParse(parts[1], NumberStyles.None, CultureInfo.InvariantCulture, out ulong sequence)
            && ulong.TryParse(parts[2], NumberStyles.None, CultureInfo.InvariantCulture, out ulong term)
            ? new(RequireFileSystem(), generation, new(sequence), new(term))
            : null;
    }

    /// <summary>Where the devices are on this host, by index.</summary>
    public IReadOnlyDictionary<uint, MountDevice> ReadDevices() => DeviceListText.Parse(ReadAttribute("user.famfs.devices") ?? "", MountPoint);

    /// <summary>The devices of the pool that this host lacks, by index, each with its uuid. Files on them answer EIO here. Throws
    /// WRONG_FILESYSTEM when the mount says something else.</summary>
    public IReadOnlyDictionary<uint, Guid> ReadMissingDevices() => DeviceListText.ParseMissing(ReadAttribute("user.famfs.missing-devices") ?? "", MountPoint);

    /// <summary>This mount with all that it says now. What keeps it from saying it is thrown when an attribute is asked for.</summary>
    internal FamfsMount Asked()
    {
        Dictionary<string, string> said = [];
        FamfsException? refusal = null;
        try
        {
            foreach (string name in s_attributes)
            {
                if (ReadAttribute("user.famfs." + name) is { } value)
                    said.Add("user.famfs." + name, value);
            }
        }
        catch (FamfsException error)
        {
            refusal = error;
        }
        return new(MountPoint, _root, IsReadOnly, said, refusal);
    }

    /// <summary>This mount, which could not be asked: <paramref name="refusal"/> is thrown for each attribute.</summary>
    public FamfsMount Refusing(FamfsException refusal) => new(MountPoint, _root, IsReadOnly, [], refusal);

    internal void Write(BinaryWriter writer)
    {
        writer.Write(MountPoint);
        writer.Write(_root);
        writer.Write(IsReadOnly);
        writer.Write((int)(_refusal?.Reason ?? 0));
        writer.Write(_refusal?.Message ?? "");
        writer.Write(_said?.Count ?? 0);
        foreach ((string name, string value) in _said ?? [])
        {
            writer.Write(name);
            writer.Write(value);
        }
    }

    internal static FamfsMount Read(BinaryReader reader)
    {
        (string mountPoint, string root, bool readOnly) = (reader.ReadString(), reader.ReadString(), reader.ReadBoolean());
        (int reason, string message) = (reader.ReadInt32(), reader.ReadString());
        Dictionary<string, string> said = [];
        for (int left = reader.ReadInt32(); left > 0; left--)
            said.Add(reader.ReadString(), reader.ReadString());
        return new(mountPoint, root, readOnly, said, message.Length == 0 ? null : new((ErrorReason)reason, message) { Path = mountPoint });
    }

    private static FamfsMount? Covering(string path, string tablePath) =>
        MountEntry.Covering(path, tablePath) is { FileSystemType: FileSystemType } entry ? new(entry) : null;

    /// <summary>Resolves links in the part of the path that exists; what is to be made keeps its name.</summary>
    private static string ResolveExisting(string path)
    {
        string full = Path.GetFullPath(path);
        string rest = "";
        for (string? head = full; head is not null; head = Path.GetDirectoryName(head))
        {
            if (PathAttributes.Resolve(head, out _) is { } resolved)
                return rest.Length == 0 ? resolved : Path.Combine(resolved, rest);
            rest = rest.Length == 0 ? Path.GetFileName(head) : Path.Combine(Path.GetFileName(head), rest);
        }
        return full;
    }

    private Guid RequireId(string name) => Guid.TryParse(ReadAttribute(name), out Guid id)
        ? id
        : throw new FamfsException(ErrorReason.WrongFilesystem, $"{MountPoint}: does not say {name}; is its daemon of this version?") { Path = MountPoint };
}
