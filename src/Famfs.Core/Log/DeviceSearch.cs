using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.V1;

namespace Famfs.Core.Log;

/// <summary>
/// Where the devices of one file system may be on this host, as its operator says. A place is one of
/// <code>
/// a path                                         must be a device of the file system when the pool is opened
/// a pattern: * or ? in its last component        whatever is there of the file system is used,
/// a directory                                    everything else there is ignored
/// the mount point of the file system, alone      all devices that its daemon has, through the mount
/// </code>
/// A device that the log names and that the pool lacks is looked for in all places again, by its uuid: it
/// may have been added, plugged in or bound to its driver later. Owner: one thread at a time.
/// </summary>
/// <param name="places">Where to look.</param>
/// <param name="formats">What to recognise.</param>
/// <param name="clock">For the pauses between looks.</param>
/// <param name="wanted">The file system that is meant; null: the only one.</param>
public sealed class DeviceSearch(IReadOnlyList<string> places, MediaFormats formats, TimeProvider clock, FileSystemName? wanted = null)
{
    /// <summary>Takes in what it can of <paramref name="wanted"/> out of <paramref name="paths"/>, in another way than by mapping devices.
    /// Adds to <paramref name="causes"/>, by the device's uuid, why one that is wanted stays away.</summary>
    /// <returns>What was attached to <paramref name="pool"/>.</returns>
    public delegate IReadOnlyList<DeviceIndex> Attacher(DevicePool pool, IReadOnlyList<DeviceAdded> wanted, IReadOnlyList<string> paths, Dictionary<Guid, string> causes);

    // Chosen: a device that somebody has just added is there soon; one that stays away costs a look now and then.
    private static readonly TimeSpan FirstPause = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan LongestPause = TimeSpan.FromSeconds(30);

    // Owner's thread.
    private readonly Dictionary<Guid, string> _missing = []; // with the cause as last reported
    private long _lookedAt;
    private TimeSpan _pause;
    private MetaDirectory? _mount;
    private readonly List<(DeviceIndex Index, string Cause)> _copies = []; // as of Open

    /// <summary>The paths that must be devices of the file system.</summary>
    public IReadOnlyList<string> Required => [.. places.Where(p => !IsSearched(p))];

    /// <summary>What is in the other places now; any of it may be a device of the file system.</summary>
    public IReadOnlyList<string> Found => [.. places.Where(IsSearched).SelectMany(Expand)];

    /// <summary>Opens the pool of the one file system whose device 0 is in the places. Errors: as
    /// <see cref="DaxDevice.Open(string, bool, bool?)"/> for the paths; DEVICE_MISSING without a device 0;
    /// WRONG_FILESYSTEM for paths of another file system than is wanted, or several first devices.</summary>
    public DevicePool Open(bool readOnly = false)
    {
        DevicePool pool = OpenAny(readOnly);
        try
        {
            wanted?.Require(pool, places[0]);
            return pool;
        }
        catch
        {
            pool.Dispose();
            throw;
        }
    }

    private DevicePool OpenAny(bool readOnly)
    {
        List<DaxDevice> opened = [];
        try
        {
            if (places.FirstOrDefault(MetaDirectory.IsMountPoint) is { } mountPoint)
            {
                if (places.Count > 1)
                    throw new FamfsException(ErrorReason.BadRequest, $"{mountPoint}: a mount point stands for all devices of its file system and is given alone") { Path = mountPoint };
                _mount = new(mountPoint, readOnly, formats, clock);
                opened.AddRange(_mount.OpenDevices());
                return formats.Open(opened);
            }
            foreach (string path in places.Where(p => !IsSearched(p)))
                opened.Add(DaxDevice.Open(path, readOnly));
            if (places.Any(IsSearched))
                AddFound(opened, readOnly);
            DevicePool pool = formats.Open(opened);
            foreach ((DeviceIndex index, string cause) in _copies)
                pool.ExplainAbsence(index, cause);
            return pool;
        }
        catch
        {
            foreach (DaxDevice device in opened)
                device.Dispose();
            throw;
        }
    }

    /// <summary>Attaches what <paramref name="known"/> (the log's devices) names and the pool lacks, as far as it
    /// is found. Costs nothing while nothing is missing; what stays missing is looked for every second first, every 30 s later.
    /// Gives what happened since the last call: each missing device is reported once, and again when another cause is found. Of
    /// several copies of a device none is taken, unless one is in the places by its path.</summary>
    /// <param name="pool">To attach to.</param>
    /// <param name="known">The log's devices.</param>
    /// <param name="attacher">How, where this process cannot map devices; null: by mapping them.</param>
    public DeviceSearchResult Look(DevicePool pool, IReadOnlyList<DeviceAdded> known, Attacher? attacher = null)
    {
        // Asked every few milliseconds.
        bool whole = true;
        for (int i = 0; i < known.Count && whole; i++)
            whole = pool.Find(new((ushort)known[i].Index)) is not null;
        if (whole)
            return DeviceSearchResult.Nothing;
        List<DeviceAdded> wanted = [.. known.Where(d => pool.Find(new((ushort)d.Index)) is null)];
        bool news = wanted.Any(d => !_missing.ContainsKey(UuidOf(d)));
        if (!news && clock.GetElapsedTime(_lookedAt) < _pause)
            return DeviceSearchResult.Nothing;
        _pause = news ? FirstPause : TimeSpan.FromTicks(Math.Min(_pause.Ticks * 2, LongestPause.Ticks));
        List<DeviceIndex> attached = [];
        List<(DeviceAdded, string)> missing = [];
        Dictionary<Guid, string> causes = [];
        HashSet<string> here = [.. pool.Present.Select(i => pool.Require(i).MemoryIdentity)];
        if (attacher is not null)
            attached.AddRange(attacher(pool, wanted, [.. places.SelectMany(Expand)], causes));
        else if (_mount is not null)
            attached.AddRange(AttachFromMount(_mount, pool, wanted));
        List<DeviceClaim> read = _mount is null && attacher is null ? [.. Read(places.SelectMany(Expand), here)] : [];
        foreach (DeviceAdded device in wanted.Where(d => pool.Find(new((ushort)d.Index)) is null))
        {
            Guid uuid = UuidOf(device);
            List<string> found = [.. read.Where(f => f.Device == uuid && (f.Identity is null || device.Index == f.Identity.Index.Value) && f.FileSystem == pool.Primary.FileSystem && f.Format == pool.Format).Select(f => f.Path)];
            if (found.Count == 0)
                continue;
            if (ChooseNamed(found) is not { } path)
                causes[uuid] = ExplainCopies(found, device.Index, uuid);
            else if (TryAttach(pool, path, out string cause))
                attached.Add(new((ushort)device.Index));
            else
                causes[uuid] = cause;
        }
        foreach (DeviceAdded device in wanted.Where(d => pool.Find(new((ushort)d.Index)) is null))
        {
            string cause = causes.GetValueOrDefault(UuidOf(device), $"not found at {string.Join(", ", places)}");
            pool.ExplainAbsence(new((ushort)device.Index), cause);
            if (!_missing.TryGetValue(UuidOf(device), out string? said) || (said != cause && causes.ContainsKey(UuidOf(device))))
                missing.Add((device, cause));
            _missing[UuidOf(device)] = cause;
        }
        foreach (Guid uuid in _missing.Keys.Where(uuid => !wanted.Any(d => UuidOf(d) == uuid && pool.Find(new((ushort)d.Index)) is null)).ToList())
            _missing.Remove(uuid);
        _lookedAt = clock.GetTimestamp();
        return new(attached, missing);
    }

    /// <summary>Attaches a device that somebody names, to a pool whose log knows <paramref name="known"/>. Errors, after which nothing has
    /// changed: those of <see cref="DaxDevice.Open"/> and of a device that is none of a file system; WRONG_FILESYSTEM for another
    /// file system's; EXISTS for one that is here; BAD_REQUEST for one that the log does not have.</summary>
    public DeviceIndex Attach(DevicePool pool, IReadOnlyList<DeviceAdded> known, string path)
    {
        if (_mount is not null)
            throw new FamfsException(ErrorReason.BadRequest, $"{path}: the devices are reached through a mount; attach it to that one") { Path = path };
        DeviceClaim claim;
        // For loads only: what is refused is not touched.
        using (DaxDevice device = DaxDevice.Open(path, readOnly: true, coherent: true))
        {
            claim = formats.Recognize(device) ?? throw formats.Default.Explain(device);
            RequireWanted(pool, known, claim.FileSystem, claim.Device, path, index => pool.Find(index)?.MemoryIdentity == device.MemoryIdentity);
        }
        DaxDevice attached = DaxDevice.Open(path);
        try
        {
            DeviceIndex index = pool.Attach(attached);
            _missing.Remove(claim.Device);
            return index;
        }
        catch
        {
            attached.Dispose();
            throw;
        }
    }

    /// <summary>Throws unless a device with these uuids is one that <paramref name="pool"/> lacks and the log knows.</summary>
    /// <param name="pool">The pool.</param>
    /// <param name="known">The log's devices.</param>
    /// <param name="fileSystem">Uuid of the file system in the device's superblock.</param>
    /// <param name="device">Uuid of the device in it.</param>
    /// <param name="path">Where it is, for messages.</param>
    /// <param name="isThis">Whether it is the very memory that the pool has under an index.</param>
    public static DeviceIndex RequireWanted(DevicePool pool, IReadOnlyList<DeviceAdded> known, Guid fileSystem, Guid device, string path, Func<DeviceIndex, bool> isThis)
    {
        if (fileSystem != pool.Primary.FileSystem)
            throw new FamfsException(ErrorReason.WrongFilesystem, $"{path}: belongs to file system {fileSystem}, not {pool.Primary.FileSystem}") { Path = path };
        if (known.FirstOrDefault(d => UuidOf(d) == device) is not { } wanted)
            throw new FamfsException(ErrorReason.BadRequest, $"{path}: is device {device}, which the log of file system {fileSystem} does not have; `famfs devices add` adds one") { Path = path };
        DeviceIndex index = new((ushort)wanted.Index);
        if (pool.Find(index) is { } here)
            throw new FamfsException(ErrorReason.Exists, isThis(index) ? $"{path}: is device {index} of this mount already{(here.Path == path ? "" : $", as {here.Path}")}" : $"{path}: is a copy of device {index}, which is here as {here.Path}") { Path = path };
        return index;
    }

    private static List<DeviceIndex> AttachFromMount(MetaDirectory mount, DevicePool pool, List<DeviceAdded> wanted)
    {
        List<DeviceIndex> attached = [];
        foreach (DaxDevice device in mount.OpenDevices(wanted.Select(UuidOf)))
        {
            try
            {
                attached.Add(pool.Attach(device));
            }
            catch (Exception error) when (error is FamfsException or DeviceFaultException or IOException)
            {
                // Not this time; it stays missing.
                device.Dispose();
            }
        }
        return attached;
    }

    /// <summary>The one path, or of several copies the only one that the places name; null when nothing tells which is meant.</summary>
    public string? ChooseNamed(IReadOnlyList<string> copies)
    {
        List<string> named = [.. copies.Where(c => places.Any(p => !IsSearched(p) && Path.GetFullPath(p) == Path.GetFullPath(c)))];
        return copies.Count == 1 ? copies[0] : named.Count == 1 ? named[0] : null;
    }

    /// <summary>Why none of several copies of a device is taken.</summary>
    public static string ExplainCopies(IEnumerable<string> paths, uint index, Guid device) =>
        $"{string.Join(" and ", paths)} are both device {index} ({device}): one is a copy; name the path of the one that is meant";

    private static Guid UuidOf(DeviceAdded device) => device.DeviceUuid.ToGuid("device_uuid");

    private static bool TryAttach(DevicePool pool, string path, out string cause)
    {
        cause = "";
        DaxDevice? device = null;
        try
        {
            device = DaxDevice.Open(path);
            pool.Attach(device);
            return true;
        }
        catch (Exception error) when (error is FamfsException or DeviceFaultException or IOException)
        {
            device?.Dispose();
            cause = error.Message;
            return false;
        }
    }

    /// <summary>The devices in searched places that belong to the same file system as the paths, or to the only one that is
    /// there.</summary>
    private void AddFound(List<DaxDevice> opened, bool readOnly)
    {
        HashSet<string> here = [.. opened.Select(d => d.MemoryIdentity)];
        List<DeviceClaim> given = [.. opened.Select(d => formats.Recognize(d) ?? throw formats.Default.Explain(d))];
        List<DeviceClaim> found = [.. Read(places.Where(IsSearched).SelectMany(Expand), here)];
        IReadOnlyList<DeviceClaim> chosen = MediaFormats.Choose(given, found, wanted);
        // Those that are left out because each is a copy of another; whoever needs one is told.
        Guid? own = chosen.Concat(given).FirstOrDefault()?.FileSystem;
        foreach (IGrouping<Guid, DeviceClaim> copies in found.Except(chosen).Where(f => f.FileSystem == own && given.All(g => g.Device != f.Device)).GroupBy(f => f.Device))
        {
            if (copies.Count() > 1 && copies.First().Identity is { } identity)
                _copies.Add((identity.Index, ExplainCopies(copies.Select(c => c.Path), identity.Index.Value, copies.Key)));
        }
        if (chosen.Count == 0 && !given.Any(g => g.HasLog || g.Identity is null))
        {
            string? unmatched = opened.Count == 0 ? places.FirstOrDefault(p => IsPattern(p) && !Expand(p).Any()) : null;
            if (unmatched is not null)
                throw new FamfsException(ErrorReason.DeviceMissing, $"{unmatched}: nothing is there that matches") { Path = unmatched };
            throw new FamfsException(ErrorReason.DeviceMissing, $"{string.Join(", ", places)}: none is the first device (index 0) of a file system{(wanted is null ? "" : $" that is called {wanted}")}") { Path = places[0] };
        }
        opened.AddRange(chosen.Select(c => DaxDevice.Open(c.Path, readOnly)));
    }

    /// <summary>What is recognised behind <paramref name="paths"/>; everything else there is somebody else's business.</summary>
    private IEnumerable<DeviceClaim> Read(IEnumerable<string> paths, HashSet<string> seen)
    {
        foreach (string path in paths)
        {
            DeviceClaim? claim;
            try
            {
                // For loads only: what is ignored is not touched.
                using DaxDevice device = DaxDevice.Open(path, readOnly: true, coherent: true);
                if (!seen.Add(device.MemoryIdentity))
                    continue;
                claim = formats.Recognize(device);
            }
            catch (Exception error) when (error is FamfsException or DeviceFaultException or IOException)
            {
                continue;
            }
            if (claim is not null)
                yield return claim;
        }
    }

    internal static bool IsSearched(string place) => !File.Exists(place) && (IsPattern(place) || Directory.Exists(place));

    private static bool IsPattern(string place) => Path.GetFileName(place).AsSpan().ContainsAny('*', '?');

    internal static IEnumerable<string> Expand(string place)
    {
        if (!IsSearched(place))
            return [place];
        string directory = IsPattern(place) ? Path.GetDirectoryName(Path.GetFullPath(place))! : place;
        return Directory.Exists(directory) ? Directory.EnumerateFiles(directory, IsPattern(place) ? Path.GetFileName(place) : "*").Order(StringComparer.Ordinal) : [];
    }
}

/// <summary>What a look for missing devices brought.</summary>
/// <param name="Attached">Found and attached now.</param>
/// <param name="Missing">Found to be missing now, with the cause; files on them answer EIO.</param>
public sealed record DeviceSearchResult(IReadOnlyList<DeviceIndex> Attached, IReadOnlyList<(DeviceAdded Device, string Cause)> Missing)
{
    /// <summary>No news.</summary>
    public static readonly DeviceSearchResult Nothing = new([], []);
}
