using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Interop;
using Famfs.V1;

namespace Famfs.Core.Log;

/// <summary>
/// The devices that a program may take because its operator named where they are: a path, a pattern or a directory each
/// (<see cref="DeviceSearch"/>). What is not there and what is elsewhere get the same answer: a caller learns nothing about
/// other files of this host. Any thread.
/// </summary>
/// <param name="places">Places; what is in them counts at the moment of the question.</param>
public sealed class DevicePlaces(IReadOnlyList<string> places)
{
    /// <summary>Opens a device that is in one of the places, whatever path leads to it, to be written. Errors: NOT_FOUND when there is
    /// none; those of <see cref="DaxDevice.Open(string, bool, bool?)"/>.</summary>
    public DaxDevice Open(string path)
    {
        DeviceArgument argument = DeviceArgument.Parse(path);
        string real = Find(argument) ?? throw NotHere(path);
        DaxDevice device = DaxDevice.Open(path);
        try
        {
            // A link may have been changed between the two.
            return Find(argument) == real ? device : throw NotHere(path);
        }
        catch
        {
            device.Dispose();
            throw;
        }
    }

    /// <summary>The path without links of what <paramref name="argument"/> leads to, if an entry of a place leads there, too, and begins
    /// at the same offset: elsewhere in the file may be the memory of another device.</summary>
    private string? Find(DeviceArgument argument) =>
        PathAttributes.Resolve(argument.Path, out _) is { } real
        && Entries().Any(e => e.OffsetBytes == argument.OffsetBytes && PathAttributes.Resolve(e.Path, out _) == real) ? real : null;

    private IEnumerable<DeviceArgument> Entries()
    {
        foreach (string place in places)
        {
            if (!DeviceSearch.IsSearched(place))
            {
                yield return DeviceArgument.Parse(place);
                continue;
            }
            // Files of the file system itself are no devices for it.
            if (MetaDirectory.IsMountPoint(place))
                continue;
            foreach (string entry in DeviceSearch.Expand(place).Where(e => !PathAttributes.IsLinkOfAnother(e)))
                yield return new(entry, 0);
        }
    }

    private static FamfsException NotHere(string path) =>
        new(ErrorReason.NotFound, $"{path}: not found among the devices that this master may take; --device or --allow-device of famfs-master names where they are") { Path = path };
}
