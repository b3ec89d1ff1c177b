using Famfs.Core.Format;

namespace Famfs.Core.Log;

/// <summary>What a device says of its place in a file system. Which device is the first may take all of them together
/// (<see cref="MediaFormat.FindFirst"/>).</summary>
public class DeviceClaim
{
    /// <summary>Format of the device's superblock, which is sound.</summary>
    public required MediaFormat Format { get; init; }

    /// <summary>Path of the device.</summary>
    public required string Path { get; init; }

    /// <summary>Uuid of the file system.</summary>
    public required Guid FileSystem { get; init; }

    /// <summary>Uuid of the device.</summary>
    public required Guid Device { get; init; }

    /// <summary>All that the pool must know of the device; null where only the log says which device it is.</summary>
    public DeviceIdentity? Identity { get; init; }

    /// <summary>The device is as long as it says; a shorter one is ignored unless it was asked for.</summary>
    public bool IsWhole { get; init; } = true;

    /// <summary>What leads to a log is on the device. Only such a device can be opened as the first.</summary>
    public virtual bool HasLog => Identity?.Index.Value == 0;

    /// <summary>What at most one device of a file system is.</summary>
    public string Key => Identity?.Index.ToString() ?? Device.ToString();

    /// <summary>As a first device: <paramref name="further"/>, of the same file system, is one of its devices.</summary>
    public virtual bool Names(DeviceClaim further) => true;
}
