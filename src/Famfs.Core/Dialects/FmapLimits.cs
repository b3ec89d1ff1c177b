using System.Globalization;
using Famfs.Core.Allocation;
using Famfs.Core.Format;
using Famfs.V1;

namespace Famfs.Core.Dialects;

/// <summary>
/// Which maps a generation of the famfs kernel takes. The daemon checks every map against those of its kernel;
/// the master checks new files against those of the least capable kernel in the cluster, the dialect floor
/// (docs/kernel-dialects.md has the table).
/// </summary>
/// <param name="Dialect">Name of the generation.</param>
/// <param name="FloorNumber">How PolicySet.dialect_floor names it; frozen. 0 there is "no floor".</param>
/// <param name="MaxExtents">Most simple extents of a file.</param>
/// <param name="MaxStrips">Most strips of an interleaved file.</param>
/// <param name="MaxDevices">Device indices are below this.</param>
/// <param name="MaxMessageBytes">Most bytes of a map as the kernel reads it.</param>
/// <param name="TakesInterleaved">False: an interleaved file is given as one simple extent per chunk.</param>
public sealed record FmapLimits(
    string Dialect, uint FloorNumber, int MaxExtents, int MaxStrips, int MaxDevices, int MaxMessageBytes, bool TakesInterleaved)
{
    /// <summary>Offsets and lengths of extents, and chunks, are multiples of this.</summary>
    public const long AlignmentBytes = MediaLayout.UnitBytes;

    /// <summary>Bytes of a map's head.</summary>
    public const int HeaderBytes = 32;

    /// <summary>Bytes of an extent, of a strip, and of the head of strips.</summary>
    public const int ExtentBytes = 24;

    /// <summary>Name of the dialect of a kernel without famfs, which maps nothing and so has no limits.</summary>
    public const string StockDialect = "stock";

    private const string NoFloor = "none";
    private const int LargestMessageD = 16 << 20;

    /// <summary>Of dialect A.</summary>
    public static readonly FmapLimits A = new("A", 1, 32, 32, 24, 32768, TakesInterleaved: true);

    /// <summary>Of dialect B0.</summary>
    public static readonly FmapLimits B0 = A with { Dialect = "B0", FloorNumber = 2 };

    /// <summary>Of dialect B.</summary>
    public static readonly FmapLimits B = A with { Dialect = "B", FloorNumber = 3 };

    /// <summary>Of dialect D: extents are bounded by the message only.</summary>
    public static readonly FmapLimits D = new(
        "D", 4, (LargestMessageD - HeaderBytes) / ExtentBytes, int.MaxValue, 64, LargestMessageD, TakesInterleaved: false);

    /// <summary>All of them, by <see cref="FloorNumber"/>.</summary>
    public static IReadOnlyList<FmapLimits> All { get; } = [A, B0, B, D];

    /// <summary>The limits that a policy's dialect floor imposes; null when there is no floor. Errors:
    /// NOT_SUPPORTED_BY_FORMAT for a number of a newer version, whose limits are not known here.</summary>
    public static FmapLimits? OfFloor(uint floorNumber)
    {
        if (floorNumber == 0)
            return null;
        return floorNumber <= All.Count
            ? All[(int)floorNumber - 1]
            : throw new FamfsException(ErrorReason.NotSupportedByFormat, Text($"the dialect floor is {floorNumber}, which this version does not know")) { Limit = (ulong)All.Count };
    }

    /// <summary>How a floor is named to people: <c>none</c>, a dialect, or the number of a newer version.</summary>
    public static string NameOfFloor(uint floorNumber) => floorNumber switch
    {
        0 => NoFloor,
        _ when floorNumber <= All.Count => All[(int)floorNumber - 1].Dialect,
        _ => floorNumber.ToString(CultureInfo.InvariantCulture),
    };

    /// <summary>The number of a floor's name. Errors: BAD_REQUEST, which says what there is.</summary>
    public static uint ParseFloor(string name)
    {
        if (name == NoFloor)
            return 0;
        return All.FirstOrDefault(limits => limits.Dialect.Equals(name, StringComparison.OrdinalIgnoreCase))?.FloorNumber
            ?? throw new FamfsException(ErrorReason.BadRequest, $"dialect floor '{name}': must be {NoFloor}, {string.Join(", ", All.Select(limits => limits.Dialect))}");
    }

    /// <summary>The dialect that a line of the host table names: <c>stock</c> for 0, else as a floor of that number.</summary>
    public static string NameOfDialect(uint number) => number == 0 ? StockDialect : NameOfFloor(number);

    /// <summary>What new files may have that such a kernel cannot map, under a floor or none: one phrase, or null when there is nothing.
    /// Without a floor only what this pool has room for counts, so that a small cluster of one kind is told nothing.</summary>
    /// <param name="floor">The limits in force for creations; null: none.</param>
    /// <param name="deviceCount">Devices of the pool.</param>
    /// <param name="capacityBytes">Bytes of all devices: no file is larger.</param>
    public string? FindGap(FmapLimits? floor, int deviceCount, long capacityBytes)
    {
        if ((floor?.MaxDevices ?? deviceCount) > MaxDevices)
            return Text($"space on devices from index {MaxDevices} on");
        return !TakesInterleaved && floor?.TakesInterleaved != false && ChunksOf(capacityBytes, AlignmentBytes) > MaxExtents
            ? Text($"more than {MaxExtents} chunks when they are interleaved")
            : null;
    }

    /// <summary>Narrows a request for space to what these kernels can map, so that whatever the allocator chooses fits.</summary>
    /// <param name="request">What a creator asks; sound.</param>
    /// <param name="deviceCount">Devices of the pool.</param>
    /// <exception cref="FamfsException">BAD_LAYOUT with the limit, when what is asked explicitly does not fit.</exception>
    public AllocationRequest Constrain(AllocationRequest request, int deviceCount)
    {
        if (request.Devices is { Count: > 0 } devices)
        {
            foreach (DeviceIndex device in devices)
            {
                if (device.Value >= MaxDevices)
                    throw Bad(Text($"device {device} is out of reach: its devices are below {MaxDevices}"), MaxDevices);
            }
        }
        else if (deviceCount > MaxDevices)
        {
            request = request with { Devices = [.. Enumerable.Range(0, MaxDevices).Select(i => new DeviceIndex((ushort)i))] };
        }
        if (request.Strips > MaxStrips)
            throw Bad(Text($"{request.Strips} strips: at most {MaxStrips}"), MaxStrips);
        long chunk = request.ChunkBytes == 0 ? AlignmentBytes : request.ChunkBytes;
        if (!TakesInterleaved && request.Kind != LayoutKind.Contiguous && ChunksOf(request.SizeBytes, chunk) > MaxExtents)
        {
            if (request.Kind == LayoutKind.Interleaved)
                throw Bad(Text($"{request.SizeBytes} bytes in chunks of {chunk} are {ChunksOf(request.SizeBytes, chunk)} extents: at most {MaxExtents}; larger chunks or a contiguous file fit"), MaxExtents);
            request = request with { Kind = LayoutKind.Contiguous };
        }
        return request with
        {
            MaxExtents = Math.Min(request.MaxExtents == 0 ? AllocationRequest.KernelMaxExtents : request.MaxExtents, MaxExtents),
            MaxStrips = Math.Min(request.MaxStrips == 0 ? AllocationRequest.KernelMaxExtents : request.MaxStrips, MaxStrips),
        };
    }

    /// <summary>Chunks of a file.</summary>
    public static long ChunksOf(long sizeBytes, long chunkBytes) => (sizeBytes / chunkBytes) + (sizeBytes % chunkBytes == 0 ? 0 : 1);

    private FamfsException Bad(string what, long limit) =>
        new(ErrorReason.BadLayout, $"the dialect floor is {Dialect}: {what}") { Limit = (ulong)limit };

    private static string Text(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
