using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Famfs2.Codec;

namespace Famfs.Famfs2;

/// <summary>A device of a famfs-2 pool, with its superblock as it was read.</summary>
internal sealed record Famfs2Identity : DeviceIdentity
{
    public required Famfs2Superblock Superblock { get; init; }

    /// <summary>Describes a device that the log calls <paramref name="index"/>. Whether it is coherent is not on the media:
    /// <paramref name="device"/> says it.</summary>
    public static Famfs2Identity Of(Famfs2Superblock superblock, DaxDevice device, DeviceIndex index) => new()
    {
        FileSystem = superblock.FileSystem,
        Device = superblock.Device,
        Index = index,
        DeviceLengthBytes = superblock.DeviceLengthBytes / superblock.UnitBytes * superblock.UnitBytes,
        Coherent = device.Coherent,
        DeviceName = superblock.DeviceName,
        Generation = 0,
        Superblock = superblock,
    };
}
