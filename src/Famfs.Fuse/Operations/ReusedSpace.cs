using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Log;
using Famfs.Core.Namespace;

namespace Famfs.Fuse.Operations;

/// <summary>
/// Space of devices that are not coherent which was given back and may belong to another file now: this host's caches may still
/// have its lines as they were (SAFETY S18). They are dropped before the first OPEN there.
/// <para>Guard: <c>_gate</c>, also while lines are dropped: who opens the same file waits for that. Any thread.</para>
/// </summary>
/// <param name="isCoherent">Whether a device of the log was declared coherent.</param>
public sealed class ReusedSpace(Func<DeviceIndex, bool> isCoherent)
{
    private readonly Lock _gate = new();
    private readonly List<MapExtent> _ranges = []; // guarded by _gate; apart from each other
    private volatile bool _any;

    /// <summary>Space that was given back. Whoever applies records, before anybody is told of them.</summary>
    public void Add(ReadOnlySpan<MapExtent> extents)
    {
        lock (_gate)
        {
            foreach (MapExtent extent in extents)
            {
                if (isCoherent(extent.Device))
                    continue;
                // It may have been given back before, and not been opened since.
                Subtract(extent, static _ => true);
                _ranges.Add(extent);
                _any = true;
            }
        }
    }

    /// <summary>Drops what this host's caches have of a file's space from before. False when it cannot: a device is not reached here.
    /// Throws <see cref="DeviceFaultException"/> where memory faults.</summary>
    public bool TryRefresh(in MapView map, IDeviceResolver devices)
    {
        if (!_any)
            return true;
        lock (_gate)
        {
            for (int i = 0; i < map.ExtentCount; i++)
            {
                if (!Subtract(map[i], range => Drop(devices.Resolve(range.Device), range)))
                    return false;
            }
            _any = _ranges.Count > 0;
        }
        return true;
    }

    /// <summary>Drops all of it, as far as <paramref name="pool"/> has its devices.</summary>
    public void RefreshAll(DevicePool pool)
    {
        lock (_gate)
        {
            _ranges.RemoveAll(range => Drop(pool.Find(range.Device), range));
            _any = _ranges.Count > 0;
        }
    }

    private static bool Drop(DaxDevice? device, in MapExtent range)
    {
        device?.Invalidate(range.OffsetBytes, range.LengthBytes);
        return device is not null;
    }

    // Takes what the extent covers out of the ranges, part by part, as long as `take` agrees.
    private bool Subtract(MapExtent extent, Func<MapExtent, bool> take)
    {
        for (int i = _ranges.Count - 1; i >= 0; i--)
        {
            MapExtent range = _ranges[i];
            long start = Math.Max(range.OffsetBytes, extent.OffsetBytes);
            long end = Math.Min(range.OffsetBytes + range.LengthBytes, extent.OffsetBytes + extent.LengthBytes);
            if (range.Device != extent.Device || start >= end)
                continue;
            if (!take(new(range.Device, start, end - start)))
                return false;
            _ranges.RemoveAt(i);
            if (range.OffsetBytes < start)
                _ranges.Add(new(range.Device, range.OffsetBytes, start - range.OffsetBytes));
            if (end < range.OffsetBytes + range.LengthBytes)
                _ranges.Add(new(range.Device, end, range.OffsetBytes + range.LengthBytes - end));
        }
        return true;
    }
}
