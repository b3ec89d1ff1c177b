using Famfs.Core;
using Famfs.Core.Format;

namespace Famfs.Fuse.Operations;

/// <summary>Devices that requests needed and this host lacks, each marked once. Any thread; no lock, no allocation.</summary>
public sealed class MissedDevices
{
    private const int Bits = 64;

    private readonly ulong[] _marks = new ulong[MediaLayout.MaxDevices / Bits];

    /// <summary>A request met the device.</summary>
    public void Mark(DeviceIndex device)
    {
        ref ulong marks = ref _marks[device.Value / Bits % (MediaLayout.MaxDevices / Bits)];
        ulong mark = 1UL << (device.Value % Bits);
        if ((Volatile.Read(ref marks) & mark) == 0)
            Interlocked.Or(ref marks, mark);
    }

    /// <summary>Whether a request has met it.</summary>
    public bool IsMarked(DeviceIndex device) => (Volatile.Read(ref _marks[device.Value / Bits % (MediaLayout.MaxDevices / Bits)]) >> (device.Value % Bits) & 1) != 0;
}
