using System.Numerics;
using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Namespace;

namespace Famfs.Fuse.Operations;

/// <summary>
/// Space of devices that are not coherent which was given back and may belong to another file now: this host's caches may still
/// have its lines as they were (SAFETY S18). They are dropped before the first OPEN there.
/// <para>A bit for each unit, 64 KiB for a device of 1 TiB: what is given back a million times, and never opened here, costs no more.</para>
/// <para>Guard: <c>_gate</c>, never while lines are dropped: a large file takes long, and records are applied meanwhile. Two who open the
/// same file both drop what is marked. Any thread.</para>
/// </summary>
/// <param name="isCoherent">Whether a device of the log was declared coherent.</param>
public sealed class ReusedSpace(Func<DeviceIndex, bool> isCoherent)
{
    private const long UnitBytes = MediaLayout.UnitBytes;

    // Chosen: some tens of milliseconds, so that of two who open a file the second has little left to do.
    private const long StepUnits = (64L << 20) / UnitBytes;

    private readonly Lock _gate = new(); // guards the block below
    private readonly Dictionary<DeviceIndex, ulong[]> _units = [];
    private long _marked; // bits that are set
    private volatile bool _any;

    /// <summary>Space that was given back, in whole units. Whoever applies records, before anybody is told of them.</summary>
    public void Add(ReadOnlySpan<MapExtent> extents)
    {
        lock (_gate)
        {
            foreach (MapExtent extent in extents)
            {
                if (isCoherent(extent.Device))
                    continue;
                long end = EndOf(extent);
                ulong[] words = _units.GetValueOrDefault(extent.Device, []);
                if (words.Length * 64L < end)
                {
                    Array.Resize(ref words, (int)Math.Max((end + 63) / 64, words.Length * 2L));
                    _units[extent.Device] = words;
                }
                Mark(words, extent.OffsetBytes / UnitBytes, end, isReused: true);
            }
        }
    }

    /// <summary>Whether there is any.</summary>
    public bool HasAny => _any;

    /// <summary>Whether any of this space is still to be dropped.</summary>
    public bool IsReused(ReadOnlySpan<MapExtent> extents)
    {
        if (!_any)
            return false;
        lock (_gate)
        {
            foreach (MapExtent extent in extents)
            {
                if (!_units.TryGetValue(extent.Device, out ulong[]? words))
                    continue;
                long end = Math.Min(EndOf(extent), words.Length * 64L);
                if (Find(words, extent.OffsetBytes / UnitBytes, end, isReused: true) < end)
                    return true;
            }
            return false;
        }
    }

    /// <summary>This space is in no cache of this host any more. Who calls it keeps the file that has it from being given back.</summary>
    public void Refreshed(ReadOnlySpan<MapExtent> extents)
    {
        lock (_gate)
        {
            foreach (MapExtent extent in extents)
            {
                if (_units.TryGetValue(extent.Device, out ulong[]? words))
                    Mark(words, Math.Min(extent.OffsetBytes / UnitBytes, words.Length * 64L), Math.Min(EndOf(extent), words.Length * 64L), isReused: false);
            }
        }
    }

    /// <summary>Bytes of this space that are still to be dropped.</summary>
    public long CountReused(ReadOnlySpan<MapExtent> extents)
    {
        long units = 0;
        if (!_any)
            return 0;
        lock (_gate)
        {
            foreach (MapExtent extent in extents)
            {
                if (!_units.TryGetValue(extent.Device, out ulong[]? words))
                    continue;
                long end = Math.Min(EndOf(extent), words.Length * 64L);
                for (long at = extent.OffsetBytes / UnitBytes; (at = Find(words, at, end, isReused: true)) < end;)
                {
                    long stop = Find(words, at, end, isReused: false);
                    units += stop - at;
                    at = stop;
                }
            }
        }
        return units * UnitBytes;
    }

    /// <summary>Drops what this host's caches have of a file's space from before. False when it cannot: a device is not reached here.
    /// Throws <see cref="DeviceFaultException"/> where memory faults. Who calls it keeps the file that has the space from being given
    /// back.</summary>
    public bool TryRefresh(in MapView map, IDeviceResolver devices)
    {
        if (!_any)
            return true;
        for (int i = 0; i < map.ExtentCount; i++)
        {
            MapExtent extent = map[i];
            if (!TryDrop(extent.Device, extent.OffsetBytes / UnitBytes, EndOf(extent), devices.Resolve))
                return false;
        }
        return true;
    }

    /// <summary>Drops all of it, as far as <paramref name="pool"/> has its devices. Before anybody is served or tells of more.</summary>
    public void RefreshAll(DevicePool pool)
    {
        DeviceIndex[] devices;
        lock (_gate)
            devices = [.. _units.Keys];
        foreach (DeviceIndex device in devices)
            TryDrop(device, 0, long.MaxValue, pool.Find);
    }

    private static long EndOf(MapExtent extent) => (extent.OffsetBytes + extent.LengthBytes) / UnitBytes;

    private bool TryDrop(DeviceIndex index, long first, long end, Func<DeviceIndex, DaxDevice?> find)
    {
        while (TryFind(index, ref first, end, out long stop))
        {
            if (find(index) is not { } device)
                return false;
            device.Invalidate(first * UnitBytes, (stop - first) * UnitBytes);
            lock (_gate)
                Mark(_units[index], first, stop, isReused: false);
            first = stop;
        }
        return true;
    }

    // The next run of units, as far as one step drops it.
    private bool TryFind(DeviceIndex index, ref long first, long end, out long stop)
    {
        lock (_gate)
        {
            stop = 0;
            if (!_units.TryGetValue(index, out ulong[]? words))
                return false;
            end = Math.Min(end, words.Length * 64L);
            if ((first = Find(words, first, end, isReused: true)) >= end)
                return false;
            stop = Find(words, first, Math.Min(end, first + StepUnits), isReused: false);
            return true;
        }
    }

    /// <summary>The first unit of that kind, or the end.</summary>
    private static long Find(ulong[] words, long at, long end, bool isReused)
    {
        while (at < end)
        {
            ulong rest = (isReused ? words[at / 64] : ~words[at / 64]) >> (int)(at % 64);
            if (rest != 0)
                return Math.Min(end, at + BitOperations.TrailingZeroCount(rest));
            at += 64 - (at % 64);
        }
        return end;
    }

    private void Mark(ulong[] words, long first, long end, bool isReused)
    {
        for (long at = first; at < end; at += 64 - (at % 64))
        {
            int count = (int)Math.Min(end - at, 64 - (at % 64));
            ulong mask = (ulong.MaxValue >> (64 - count)) << (int)(at % 64);
            ref ulong word = ref words[at / 64];
            ulong marked = isReused ? word | mask : word & ~mask;
            _marked += BitOperations.PopCount(marked) - BitOperations.PopCount(word);
            word = marked;
        }
        _any = _marked > 0;
    }
}
