using Famfs.Core.Dax;
using Famfs.V1;

namespace Famfs.Core.Log;

/// <summary>The formats that a program knows, as whoever composes it says. Immutable.</summary>
public sealed class MediaFormats
{
    /// <summary>The first of <paramref name="all"/> is the one that is made by default and that goes before others.</summary>
    public MediaFormats(IReadOnlyList<MediaFormat> all)
    {
        ArgumentOutOfRangeException.ThrowIfZero(all.Count, nameof(all));
        All = [.. all];
    }

    /// <summary>All of them.</summary>
    public IReadOnlyList<MediaFormat> All { get; }

    /// <summary>The first.</summary>
    public MediaFormat Default => All[0];

    /// <summary>Where this host keeps the uuid of its system, with the format that asks for it; null when none does.</summary>
    public MediaFormat? WithSystemUuid => All.FirstOrDefault(f => f.SystemUuidFile is not null);

    /// <summary>What a device says it is; null when it has no sound superblock of any format.</summary>
    public DeviceClaim? Recognize(DaxDevice device) => All.Select(f => f.Recognize(device)).FirstOrDefault(c => c is not null);

    /// <summary>The uuids in the superblock of a device; null when it is no sound one of any format.</summary>
    public (Guid FileSystem, Guid Device)? ReadUuids(DaxDevice device) => All.Select(f => f.ReadUuids(device)).FirstOrDefault(u => u is not null);

    /// <summary>Makes a pool of open devices, which it owns from then on; see <see cref="MediaFormat.Open"/>.</summary>
    public DevicePool Open(IReadOnlyList<DaxDevice> devices) => FindFormat(devices).Open(devices);

    /// <summary>Those devices that are the first of their file system, of each file system that is there. Some may have no
    /// sound log.</summary>
    public IReadOnlyList<DaxDevice> FindFirst(IReadOnlyList<DaxDevice> devices)
    {
        List<(DaxDevice Device, DeviceClaim Claim)> read = [];
        foreach (DaxDevice device in devices)
        {
            if (Recognize(device) is { } claim)
                read.Add((device, claim));
        }
        HashSet<DeviceClaim> first = FindFirst([.. read.Select(r => r.Claim)]);
        return [.. read.Where(r => first.Contains(r.Claim)).Select(r => r.Device)];
    }

    /// <summary>Of open devices those of one file system: the first <paramref name="required"/>, and what
    /// <see cref="Choose"/> finds among the others.</summary>
    public IReadOnlyList<DaxDevice> SelectOwn(IReadOnlyList<DaxDevice> devices, int required, FileSystemName? wanted = null)
    {
        List<DeviceClaim?> claims = [.. devices.Select(Recognize)];
        HashSet<DeviceClaim> chosen = [.. Choose([.. claims.Take(required).OfType<DeviceClaim>()], [.. claims.Skip(required).OfType<DeviceClaim>()], wanted)];
        return [.. devices.Where((_, i) => i < required || (claims[i] is { } claim && chosen.Contains(claim)))];
    }

    /// <summary>
    /// Chooses the devices of one file system: of the one that those <paramref name="given"/> belong to, or else of the only
    /// one of which a first device is <paramref name="found"/>, or that is <paramref name="wanted"/>. What is found of another file
    /// system is ignored, and so is what the first device does not name.
    /// </summary>
    /// <returns>Those of <paramref name="found"/> that belong to it. Without a sound log that of all that may belong: opening
    /// them says what is wrong with it. Empty when there is none.</returns>
    /// <exception cref="FamfsException">WRONG_FILESYSTEM when several first devices are found and none is given.</exception>
    public static IReadOnlyList<DeviceClaim> Choose(IReadOnlyList<DeviceClaim> given, IReadOnlyList<DeviceClaim> found, FileSystemName? wanted = null)
    {
        HashSet<DeviceClaim> first = FindFirst([.. given, .. found]);
        first.RemoveWhere(c => !c.HasLog);
        DeviceClaim? primary = given.FirstOrDefault(first.Contains);
        if (primary is null)
        {
            List<DeviceClaim> candidates = [.. found.Where(f => f.IsWhole && first.Contains(f) && given.All(g => g.FileSystem == f.FileSystem) && wanted?.IsOf(f.FileSystem, f.Identity?.Label) != false)];
            if (candidates.Count > 1)
                throw new FamfsException(ErrorReason.WrongFilesystem, $"{candidates[1].Path}: both it and {candidates[0].Path} are first devices of a file system; name the one that is meant") { Path = candidates[1].Path };
            if (candidates.Count == 0)
                return [.. found.Where(f => f.Identity is null && (given.Count == 0 || f.FileSystem == given[0].FileSystem) && wanted?.IsOf(f.FileSystem, null) != false)];
            primary = candidates[0];
        }
        List<DeviceClaim> own = [.. found.Where(f => f == primary || (f.IsWhole && f.FileSystem == primary.FileSystem && f.Format == primary.Format && primary.Names(f)))];
        // Two that claim one index, or one uuid, are both left out: only the log says which of them it is.
        return [.. own.Where(f => given.All(g => g.Key != f.Key) && own.Count(o => o.Key == f.Key) == 1)];
    }

    private MediaFormat FindFormat(IReadOnlyList<DaxDevice> devices)
    {
        // Another format's devices beside a first device of the default one are what is wrong, and not the other way round.
        if (devices.Any(d => Default.Recognize(d)?.HasLog == true))
            return Default;
        return All.Skip(1).FirstOrDefault(f => devices.Any(f.IsNamedBy)) ?? Default;
    }

    private static HashSet<DeviceClaim> FindFirst(IReadOnlyList<DeviceClaim> claims)
    {
        HashSet<DeviceClaim> first = [];
        foreach (IGrouping<(MediaFormat, Guid), DeviceClaim> one in claims.GroupBy(c => (c.Format, c.FileSystem)))
        {
            List<DeviceClaim> members = [.. one];
            first.UnionWith(members[0].Format.FindFirst(members).Select(i => members[i]));
        }
        return first;
    }
}
