using Famfs.Core;
using Famfs.Core.Format;

namespace Famfs.Famfs2.Codec;

/// <summary>The devices of a famfs-2 file system in the order in which the log adds them: what a device's index
/// is depends on which entries count, so every reader must judge them here.</summary>
public sealed class Famfs2DeviceTable
{
    /// <summary>Most units of a device and most bytes of a pool: what an allocator takes.</summary>
    private const long MaxUnits = 1L << 31;
    private const long MaxPoolBytes = 1L << 62;

    private readonly long _unitBytes;
    private readonly List<(Guid Device, long LengthBytes)> _devices = [];

    /// <summary>A pool of the first device.</summary>
    public Famfs2DeviceTable(Famfs2Superblock primary)
    {
        _unitBytes = primary.UnitBytes;
        _devices.Add((primary.Device, WholeUnits((ulong)primary.DeviceLengthBytes)));
    }

    /// <summary>Devices so far.</summary>
    public int Count => _devices.Count;

    /// <summary>Usable bytes of a device: whole units.</summary>
    public long LengthOf(int index) => _devices[index].LengthBytes;

    /// <summary>The device of that uuid, or null.</summary>
    public DeviceIndex? Find(Guid device)
    {
        int index = _devices.FindIndex(d => d.Device == device);
        return index < 0 ? null : new((ushort)index);
    }

    /// <summary>Adds a device, or gives the code and the cause why it cannot be one; then nothing changes.</summary>
    public (string Code, string Cause)? Add(Famfs2Device device)
    {
        if (device.Index != _devices.Count || device.Index >= MediaLayout.MaxDevices)
            return ("device-index", $"device index {device.Index} where {_devices.Count} is due");
        if (device.Device == Guid.Empty || Find(device.Device) is not null)
            return ("device-uuid", $"device uuid {device.Device} is empty or there already");
        if (device.LengthBytes > long.MaxValue || WholeUnits(device.LengthBytes) < MediaLayout.MinSecondaryBytes
            || WholeUnits(device.LengthBytes) / _unitBytes > MaxUnits || WholeUnits(device.LengthBytes) > MaxPoolBytes - _devices.Sum(d => d.LengthBytes))
            return ("device-size", $"device of {device.LengthBytes} bytes");
        _devices.Add((device.Device, WholeUnits(device.LengthBytes)));
        return null;
    }

    private long WholeUnits(ulong bytes) => (long)(bytes - (bytes % (ulong)_unitBytes));
}
