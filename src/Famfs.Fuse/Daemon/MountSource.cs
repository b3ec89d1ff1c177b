using Famfs.Core.Format;

namespace Famfs.Fuse.Daemon;

/// <summary>The SOURCE of a mount, as findmnt(8) and df(1) show it: tells several file systems of one host apart.</summary>
internal static class MountSource
{
    // Chosen: as many as people tell uuids apart by.
    private const int ShortUuid = 8;

    /// <summary>The label, or the first digits of the uuid. What a table cannot show is replaced.</summary>
    public static string Of(DeviceIdentity primary) => primary.Label.Length == 0
        ? primary.FileSystem.ToString()[..ShortUuid]
        : string.Concat(primary.Label.Select(c => char.IsControl(c) ? '?' : c));
}
