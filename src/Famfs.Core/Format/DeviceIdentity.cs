namespace Famfs.Core.Format;

/// <summary>What a device of a file system is, whatever the format of the media. A format derives what its own superblock
/// says beyond that.</summary>
public record DeviceIdentity
{
    /// <summary>Uuid of the file system.</summary>
    public required Guid FileSystem { get; init; }

    /// <summary>Uuid of the device.</summary>
    public required Guid Device { get; init; }

    /// <summary>Its place in the pool; device 0 holds what leads to the log.</summary>
    public required DeviceIndex Index { get; init; }

    /// <summary>Usable bytes: a multiple of the unit.</summary>
    public required long DeviceLengthBytes { get; init; }

    /// <summary>Stores of one host are seen by the others without a flush.</summary>
    public required bool Coherent { get; init; }

    /// <summary>How the device was called where it was formatted; for people.</summary>
    public string DeviceName { get; init; } = "";

    /// <summary>Name of the file system; empty: it has none.</summary>
    public string Label { get; init; } = "";

    /// <summary>Generation of the log; 0 in a format without.</summary>
    public ulong Generation { get; init; } = 1;
}
