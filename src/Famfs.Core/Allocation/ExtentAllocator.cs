using System.Globalization;
using System.Numerics;
using Famfs.Core.Namespace;
using Famfs.V1;

namespace Famfs.Core.Allocation;

/// <summary>Free space of a pool of devices. Everything is free until replay reserves what the log says is
/// used. Not a source of truth: the same reservations in any order give the same state.
/// <para>Placement: the lowest run that is long enough, on the device with most free space
/// (contiguous), or on distinct random devices (strips). Lowest fit rather than best fit: over 2 M
/// allocations of churn on 1 TiB (measured) neither wins for the longest run that is left (uniform 1..64
/// units, 90 % full: 19,803 units against 39,655; heavy tail to 4,096 units, 90 %: 2,423 against 1,131) and
/// best fit leaves half as many runs, but it needs an index of all runs by length, which grows with
/// fragmentation and leaves the processor's cache.</para>
/// <para>Single-threaded; owned by the master's loop.</para></summary>
public sealed class ExtentAllocator
{
    /// <summary>Largest chunk: the famfs kernel keeps it in 32 bits.</summary>
    public const long MaxChunkBytes = 2L << 30;

    // Sums of lengths stay below 2^63 with room for rounding. Chosen.
    private const long MaxPoolBytes = 1L << 62;

    private readonly List<FreeSpaceTree?> _devices = [];

    // Allowed devices of the request in hand, without repetitions; in random order for strips.
    private int[] _candidates = new int[8];
    private ulong[] _seen = new ulong[1];
    private int _candidateCount;

    /// <summary>An empty pool of units of <paramref name="unitBytes"/>, a power of two.</summary>
    public ExtentAllocator(long unitBytes = 2L << 20)
    {
        if (unitBytes <= 0 || !BitOperations.IsPow2(unitBytes) || unitBytes > MaxChunkBytes)
            throw new ArgumentOutOfRangeException(nameof(unitBytes), unitBytes, "a unit is a power of two of at most 2 GiB");
        UnitBytes = unitBytes;
    }

    /// <summary>Bytes of the allocation unit.</summary>
    public long UnitBytes { get; }

    /// <summary>Bytes of all devices.</summary>
    public long CapacityBytes { get; private set; }

    /// <summary>Bytes free on all devices.</summary>
    public long FreeBytes { get; private set; }

    /// <summary>Bytes of the longest free run of any device. O(devices).</summary>
    public long LargestFreeRunBytes
    {
        get
        {
            long largest = 0;
            foreach (FreeSpaceTree? device in _devices)
                largest = Math.Max(largest, device is null ? 0 : device.LongestRun * UnitBytes);
            return largest;
        }
    }

    /// <summary>Adds a device, wholly free. What is beyond its last whole unit is never used.</summary>
    /// <exception cref="FamfsException">BAD_REQUEST: the index is taken, or the length is less than a unit
    /// or more than the limit.</exception>
    public void AddDevice(DeviceIndex index, long lengthBytes)
    {
        long units = lengthBytes / UnitBytes;
        if (units < 1)
            throw Bad(ErrorReason.BadRequest, $"device {index}: {lengthBytes} bytes are less than one unit of {UnitBytes}", UnitBytes);
        if (units > FreeSpaceTree.MaxUnits)
            throw Bad(ErrorReason.BadRequest, $"device {index}: more than {FreeSpaceTree.MaxUnits} units of {UnitBytes} bytes", FreeSpaceTree.MaxUnits * UnitBytes);
        if (units * UnitBytes > MaxPoolBytes - CapacityBytes)
            throw Bad(ErrorReason.BadRequest, $"device {index}: the pool would be larger than {MaxPoolBytes} bytes", MaxPoolBytes);
        if (HasDevice(index))
            throw Bad(ErrorReason.BadRequest, $"device {index} is in the pool already", 0);
        while (_devices.Count <= index.Value)
            _devices.Add(null);
        _devices[index.Value] = new FreeSpaceTree((uint)units);
        CapacityBytes += units * UnitBytes;
        FreeBytes += units * UnitBytes;
    }

    /// <summary>The device is in the pool.</summary>
    public bool HasDevice(DeviceIndex index) => index.Value < _devices.Count && _devices[index.Value] is not null;

    /// <summary>Usable bytes of one device. Errors: DEVICE_MISSING.</summary>
    public long DeviceCapacityBytes(DeviceIndex index) => Require(index).Units * UnitBytes;

    /// <summary>Free bytes of one device. Errors: DEVICE_MISSING.</summary>
    public long DeviceFreeBytes(DeviceIndex index) => Require(index).FreeUnits * UnitBytes;

    /// <summary>Bytes of the longest free run of one device. Errors: DEVICE_MISSING.</summary>
    public long DeviceLargestFreeRunBytes(DeviceIndex index) => Require(index).LongestRun * UnitBytes;

    /// <summary>The free runs of one device in ascending order, a copy. Errors: DEVICE_MISSING.</summary>
    public IReadOnlyList<MapExtent> FreeRuns(DeviceIndex index) =>
        Require(index).FreeRuns().ConvertAll(run => new MapExtent(index, run.Start * UnitBytes, run.Count * UnitBytes));

    /// <summary>Marks an extent used. False, and nothing changes, when part of it is used already or it is
    /// not whole units of a device of the pool.</summary>
    public bool TryReserve(in MapExtent extent)
    {
        if (!TryUnits(extent, out FreeSpaceTree? device, out uint start, out uint count) || !device!.IsFree(start, count))
            return false;
        device.Mark(start, count, free: false);
        FreeBytes -= extent.LengthBytes;
        return true;
    }

    /// <summary>Marks used what is free of an extent inside the pool.</summary>
    /// <exception cref="FamfsException">MEDIA_CORRUPT: it is not whole units of a device of the pool.</exception>
    public void ReserveRest(in MapExtent extent)
    {
        if (!TryUnits(extent, out FreeSpaceTree? device, out uint start, out uint count))
            Reserve(extent);
        // Halves until each is of one kind.
        Stack<(uint Start, uint Count)> parts = new([(start, count)]);
        while (parts.TryPop(out (uint Start, uint Count) part))
        {
            if (device!.IsFree(part.Start, part.Count))
            {
                device.Mark(part.Start, part.Count, free: false);
                FreeBytes -= part.Count * UnitBytes;
            }
            else if (!device.IsUsed(part.Start, part.Count))
            {
                uint half = part.Count / 2;
                parts.Push((part.Start, half));
                parts.Push((part.Start + half, part.Count - half));
            }
        }
    }

    /// <summary>Marks an extent free. False, and nothing changes, when part of it is free already or it is
    /// not whole units of a device of the pool.</summary>
    public bool TryFree(in MapExtent extent)
    {
        if (!TryUnits(extent, out FreeSpaceTree? device, out uint start, out uint count) || !device!.IsUsed(start, count))
            return false;
        device.Mark(start, count, free: true);
        FreeBytes += extent.LengthBytes;
        return true;
    }

    /// <summary>As <see cref="TryReserve"/>, for an extent that must be free.</summary>
    /// <exception cref="FamfsException">MEDIA_CORRUPT: two records claim the same memory, or it does not
    /// exist.</exception>
    public void Reserve(in MapExtent extent)
    {
        if (!TryReserve(extent))
            throw Bad(ErrorReason.MediaCorrupt, $"{Describe(extent)} cannot be used: {WhyNot(extent, "part of it is used already")}", 0);
    }

    /// <summary>As <see cref="TryFree"/>, for an extent that must be used.</summary>
    /// <exception cref="FamfsException">MEDIA_CORRUPT: it is free already, or does not exist.</exception>
    public void Free(in MapExtent extent)
    {
        if (!TryFree(extent))
            throw Bad(ErrorReason.MediaCorrupt, $"{Describe(extent)} cannot be freed: {WhyNot(extent, "part of it is free already")}", 0);
    }

    /// <summary>True when every unit of an extent inside the pool is free.</summary>
    public bool IsFree(in MapExtent extent) =>
        TryUnits(extent, out FreeSpaceTree? device, out uint start, out uint count) && device!.IsFree(start, count);

    /// <summary>Allocates for one file.</summary>
    /// <param name="request">What is asked.</param>
    /// <param name="random">Chooses among devices for strips.</param>
    /// <param name="extents">Emptied, then given the extents in file order, or the strips. To undo, give each
    /// to <see cref="Free"/>.</param>
    /// <param name="chunkBytes">0: the extents follow each other; otherwise they are strips of this
    /// chunk.</param>
    /// <returns>False, and nothing changes, when there is no space: see <see cref="NoSpace"/>.</returns>
    /// <exception cref="FamfsException">BAD_SIZE, BAD_LAYOUT (with the limit), DEVICE_MISSING: the request is
    /// one that no pool state can serve.</exception>
    public bool TryAllocate(in AllocationRequest request, Random random, List<MapExtent> extents, out long chunkBytes)
    {
        extents.Clear();
        chunkBytes = 0;
        long allowed = RequireSound(request, out int strips, out long chunk);
        if (request.SizeBytes > allowed)
            return false;
        bool interleave = request.Kind == LayoutKind.Interleaved
            || (request.Kind == LayoutKind.Auto && _candidateCount > 1 && request.SizeBytes / chunk >= strips);

        // Two strips on one device gain nothing that AUTO is after.
        bool share = request.Kind == LayoutKind.Interleaved || strips > _candidateCount;
        if (interleave && TryStrips(request.SizeBytes, strips, chunk, share, random, extents))
        {
            chunkBytes = chunk;
            return true;
        }

        return request.Kind != LayoutKind.Interleaved && TryRuns(request.SizeBytes, request.MaxExtents == 0 ? AllocationRequest.KernelMaxExtents : request.MaxExtents, extents);
    }

    /// <summary>As <see cref="TryAllocate"/>, for a caller that wants every failure as an exception.</summary>
    /// <returns>The chunk in bytes, 0 when the extents follow each other.</returns>
    /// <exception cref="FamfsException">Also NO_SPACE.</exception>
    public long Allocate(in AllocationRequest request, Random random, List<MapExtent> extents) =>
        TryAllocate(request, random, extents, out long chunkBytes) ? chunkBytes : throw NoSpace(request);

    /// <summary>The error of a request that <see cref="TryAllocate"/> could not serve: NO_SPACE, its limit the
    /// longest free run of the allowed devices in bytes.</summary>
    public FamfsException NoSpace(in AllocationRequest request)
    {
        long capacity = RequireSound(request, out _, out _);
        long free = 0;
        long largest = 0;
        for (int i = 0; i < _candidateCount; i++)
        {
            FreeSpaceTree device = _devices[_candidates[i]]!;
            free += device.FreeUnits * UnitBytes;
            largest = Math.Max(largest, device.LongestRun * UnitBytes);
        }

        return Bad(
            ErrorReason.NoSpace,
            string.Create(CultureInfo.InvariantCulture, $"no space for {request.SizeBytes} bytes: {free} of {capacity} bytes are free, the largest free run has {largest}"),
            largest);
    }

    private static string Describe(in MapExtent extent) =>
        string.Create(CultureInfo.InvariantCulture, $"extent {extent.OffsetBytes}+{extent.LengthBytes} of device {extent.Device}");

    private static FamfsException Bad(ErrorReason reason, string message, long limit) =>
        new(reason, message) { Limit = (ulong)limit };

    private FreeSpaceTree Require(DeviceIndex index) =>
        HasDevice(index) ? _devices[index.Value]! : throw Bad(ErrorReason.DeviceMissing, $"device {index} is not in the pool", 0);

    private string WhyNot(in MapExtent extent, string overlap)
    {
        if (!HasDevice(extent.Device))
            return "the device is not in the pool";
        return TryUnits(extent, out _, out _, out _) ? overlap : $"it is not whole units of {UnitBytes} bytes inside the device's {DeviceCapacityBytes(extent.Device)}";
    }

    private bool TryUnits(in MapExtent extent, out FreeSpaceTree? device, out uint start, out uint count)
    {
        device = HasDevice(extent.Device) ? _devices[extent.Device.Value] : null;
        start = 0;
        count = 0;
        if (device is null || extent.OffsetBytes < 0 || extent.LengthBytes <= 0
            || extent.OffsetBytes % UnitBytes != 0 || extent.LengthBytes % UnitBytes != 0)
        {
            return false;
        }

        long first = extent.OffsetBytes / UnitBytes;
        long units = extent.LengthBytes / UnitBytes;
        if (first > device.Units || units > device.Units - first)
            return false;
        start = (uint)first;
        count = (uint)units;
        return true;
    }

    /// <summary>Checks a request, lists its devices, works out its strips and chunk; the bytes its devices
    /// have.</summary>
    private long RequireSound(in AllocationRequest request, out int strips, out long chunk)
    {
        if (request.SizeBytes <= 0)
            throw Bad(ErrorReason.BadSize, $"a file of {request.SizeBytes} bytes cannot be allocated: the least is 1", 1);
        if (request.MaxExtents is < 0 or > AllocationRequest.KernelMaxExtents)
            throw Bad(ErrorReason.BadLayout, $"{request.MaxExtents} extents: the limit is {AllocationRequest.KernelMaxExtents}", AllocationRequest.KernelMaxExtents);
        if (request.MaxStrips is < 0 or > AllocationRequest.KernelMaxExtents)
            throw Bad(ErrorReason.BadLayout, $"{request.MaxStrips} strips: the limit is {AllocationRequest.KernelMaxExtents}", AllocationRequest.KernelMaxExtents);
        if (request.Kind is < LayoutKind.Auto or > LayoutKind.Interleaved)
            throw Bad(ErrorReason.BadLayout, $"layout kind {(int)request.Kind} is not known", 0);
        int maxStrips = request.MaxStrips == 0 ? AllocationRequest.KernelMaxExtents : request.MaxStrips;
        if (request.Strips < 0 || request.Strips > maxStrips)
            throw Bad(ErrorReason.BadLayout, $"{request.Strips} strips: the limit is {maxStrips}", maxStrips);
        chunk = request.ChunkBytes == 0 ? UnitBytes : request.ChunkBytes;
        if (chunk < UnitBytes || !BitOperations.IsPow2(chunk) || chunk > MaxChunkBytes)
            throw Bad(ErrorReason.BadLayout, $"a chunk of {chunk} bytes: it must be a power of two, at least the unit of {UnitBytes} and at most {MaxChunkBytes}", chunk > MaxChunkBytes ? MaxChunkBytes : UnitBytes);

        long capacity = 0;
        _candidateCount = 0;
        if (_candidates.Length < _devices.Count)
            _candidates = new int[_devices.Count * 2];
        if (request.Devices is { Count: > 0 } wished)
        {
            int words = (_devices.Count + 63) / 64;
            if (_seen.Length < words)
                _seen = new ulong[words * 2];
            Array.Clear(_seen, 0, words);
            for (int i = 0; i < wished.Count; i++)
            {
                DeviceIndex index = wished[i];
                uint units = Require(index).Units;
                ref ulong seen = ref _seen[index.Value / 64];
                if ((seen >> (index.Value % 64) & 1) != 0)
                    continue;
                seen |= 1UL << (index.Value % 64);
                _candidates[_candidateCount++] = index.Value;
                capacity += units * UnitBytes;
            }
        }
        else
        {
            for (int i = 0; i < _devices.Count; i++)
            {
                if (_devices[i] is { } device)
                {
                    _candidates[_candidateCount++] = i;
                    capacity += device.Units * UnitBytes;
                }
            }
        }

        strips = request.Strips > 0 ? request.Strips : Math.Clamp(_candidateCount, 1, maxStrips);
        return capacity;
    }

    private bool TryRuns(long sizeBytes, int maxExtents, List<MapExtent> extents)
    {
        long rest = (sizeBytes - 1) / UnitBytes + 1;
        long free = 0;
        for (int i = 0; i < _candidateCount; i++)
            free += _devices[_candidates[i]]!.FreeUnits;
        if (free < rest)
            return false;
        while (extents.Count < maxExtents)
        {
            // The device with most free space that holds the rest in one run; otherwise the longest run there
            // is, so that the file has as few extents as can be.
            int device = -1;
            int longest = -1;
            for (int i = 0; i < _candidateCount; i++)
            {
                FreeSpaceTree tree = _devices[_candidates[i]]!;
                if (tree.LongestRun >= rest && (device < 0 || tree.FreeUnits > _devices[device]!.FreeUnits))
                    device = _candidates[i];
                if (tree.LongestRun > 0 && (longest < 0 || tree.LongestRun > _devices[longest]!.LongestRun))
                    longest = _candidates[i];
            }

            if (device >= 0)
            {
                Take(device, (uint)rest, extents);
                return true;
            }

            if (longest < 0 || extents.Count == maxExtents - 1)
                break;
            uint run = _devices[longest]!.LongestRun;
            Take(longest, run, extents);
            rest -= run;
        }

        GiveBack(extents);
        return false;
    }

    private bool TryStrips(long sizeBytes, int strips, long chunk, bool share, Random random, List<MapExtent> extents)
    {
        long chunks = (sizeBytes - 1) / chunk + 1;
        long length = ((chunks - 1) / strips + 1) * (chunk / UnitBytes);
        if (length > FreeSpaceTree.MaxUnits)
            return false;
        uint units = (uint)length;

        // A random device for each strip, none twice.
        for (int i = 0; i < _candidateCount && extents.Count < strips; i++)
        {
            int j = random.Next(i, _candidateCount);
            (_candidates[i], _candidates[j]) = (_candidates[j], _candidates[i]);
            if (_devices[_candidates[i]]!.LongestRun >= units)
                Take(_candidates[i], units, extents);
        }

        // More strips than devices that hold one: the emptiest takes another, where that is wanted.
        while (extents.Count < strips)
        {
            int device = -1;
            for (int i = 0; share && i < _candidateCount; i++)
            {
                FreeSpaceTree tree = _devices[_candidates[i]]!;
                if (tree.LongestRun >= units && (device < 0 || tree.FreeUnits > _devices[device]!.FreeUnits))
                    device = _candidates[i];
            }

            if (device < 0)
            {
                GiveBack(extents);
                return false;
            }

            Take(device, units, extents);
        }

        return true;
    }

    private void Take(int device, uint units, List<MapExtent> extents)
    {
        FreeSpaceTree tree = _devices[device]!;
        if (!tree.TryFind(units, out uint start))
            throw new InvalidOperationException($"device {device} has no run of {units} units although its longest has {tree.LongestRun}");
        tree.Mark(start, units, free: false);
        FreeBytes -= units * UnitBytes;
        extents.Add(new MapExtent(new DeviceIndex((ushort)device), start * UnitBytes, units * UnitBytes));
    }

    private void GiveBack(List<MapExtent> extents)
    {
        foreach (MapExtent extent in extents)
            Free(extent);
        extents.Clear();
    }
}
