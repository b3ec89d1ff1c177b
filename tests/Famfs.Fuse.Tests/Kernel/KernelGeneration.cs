namespace Famfs.Fuse.Tests.Kernel;

/// <summary>
/// What a kernel of one generation does, from the published description and in plain numbers: nothing here is taken
/// from the server that is tested.
/// </summary>
/// <param name="Name">The dialect's name, for test names and the daemon's own words.</param>
/// <param name="Minor">FUSE minor version in INIT.</param>
/// <param name="FmapBit">Bit of FUSE_DAX_FMAP in the flags, −1 where there is none.</param>
internal sealed record KernelGeneration(string Name, uint Minor, int FmapBit)
{
    /// <summary>Opcode of GET_FMAP.</summary>
    public uint GetFmap { get; init; }

    /// <summary>Opcode of GET_DAXDEV; 0 where devices are pushed.</summary>
    public uint GetDaxDevice { get; init; }

    /// <summary>GET_FMAP has a payload of 8 bytes that begins with the size of the kernel's buffer.</summary>
    public bool SaysRoom { get; init; }

    /// <summary>The buffer of the first GET_FMAP.</summary>
    public int FirstRoom { get; init; } = 4096;

    /// <summary>Device indices are below this.</summary>
    public uint MaxDevices { get; init; } = 24;

    /// <summary>Most extents of a map, and most strips.</summary>
    public uint MaxExtents { get; init; } = 32;

    /// <summary>Takes interleaved extents.</summary>
    public bool Interleaved { get; init; } = true;

    /// <summary>A short reply is the header with the size in it, and not 4 bytes.</summary>
    public bool HeaderWhenShort { get; init; }

    /// <summary>Devices are pushed by an ioctl.</summary>
    public bool Pushed => GetFmap != 0 && GetDaxDevice == 0;

    public static readonly KernelGeneration Stock = new("stock", 45, -1);

    /// <summary>Its first buffer is small here, so that a second round is needed.</summary>
    public static readonly KernelGeneration A = new("A", 42, 42) { GetFmap = 53, GetDaxDevice = 54, SaysRoom = true, FirstRoom = 128 };

    public static readonly KernelGeneration B0 = new("B0", 44, 43) { GetFmap = 53, GetDaxDevice = 54 };

    public static readonly KernelGeneration B = new("B", 46, 43) { GetFmap = 54, GetDaxDevice = 55 };

    public static readonly KernelGeneration D = new("D", 46, 43)
    {
        GetFmap = 54,
        SaysRoom = true,
        MaxDevices = 64,
        MaxExtents = uint.MaxValue,
        Interleaved = false,
        HeaderWhenShort = true,
    };

    /// <summary>All that serve maps.</summary>
    public static readonly KernelGeneration[] Famfs = [A, B0, B, D];

    public override string ToString() => Name;
}
