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
    private readonly HashSet<Guid> _missing = [];
    private long _lookedAt;
    private TimeSpan _pause;
    private MetaDirectory? _mount;

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
            return formats.Open(opened);
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
    /// Gives what happened since the last call: each missing device is reported once.</summary>
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
        bool news = wanted.Any(d => !_missing.Contains(UuidOf(d)));
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
        foreach (DeviceClaim found in _mount is null && attacher is null ? Read(places.SelectMany(Expand), here) : [])
        {
            DeviceAdded? device = wanted.Find(d => UuidOf(d) == found.Device && (found.Identity is null || d.Index == found.Identity.Index.Value) && found.FileSystem == pool.Primary.FileSystem && found.Format == pool.Format);
            if (device is null || pool.Find(new((ushort)device.Index)) is not null)
                continue;
            if (TryAttach(pool, found.Path, out string cause))
                attached.Add(new((ushort)device.Index));
            else
                causes[found.Device] = cause;
        }
        foreach (DeviceAdded device in wanted.Where(d => pool.Find(new((ushort)d.Index)) is null))
        {
            if (_missing.Add(UuidOf(device)))
                missing.Add((device, causes.GetValueOrDefault(UuidOf(device), $"not found at {string.Join(", ", places)}")));
        }
        _missing.RemoveWhere(uuid => !wanted.Any(d => UuidOf(d) == uuid && pool.Find(new((ushort)d.Index)) is null));
        _lookedAt = clock.GetTimestamp();
        return new(attached, missing);
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
        IReadOnlyList<DeviceClaim> chosen = MediaFormats.Choose(given, [.. Read(places.Where(IsSearched).SelectMany(Expand), here)], wanted);
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
