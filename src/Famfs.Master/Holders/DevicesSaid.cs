using Famfs.Core;
using Famfs.V1;

namespace Famfs.Master.Holders;

/// <summary>What a mount says of the pool's devices on its host. Immutable.</summary>
internal sealed class DevicesSaid
{
    /// <summary>Most devices that a message may name as missing (chosen: who lacks more names the first of them).</summary>
    public const int MaxNamed = 256;

    // What an answer of ListHosts has for each mount (chosen).
    private const int MaxDescribed = 16;

    private readonly int _count;
    private readonly ushort[] _missing; // ascending

    private DevicesSaid(int count, ushort[] missing) => (_count, _missing) = (count, missing);

    /// <summary>Takes a message. <paramref name="deviceCount"/>: devices that the log has. Throws BAD_REQUEST for what no mount can
    /// mean.</summary>
    public static DevicesSaid Parse(MissingDevices said, int deviceCount)
    {
        if (said.Indices.Count > MaxNamed)
            throw new FamfsException(ErrorReason.BadRequest, $"missing_devices names {said.Indices.Count} devices, the limit is {MaxNamed}") { Limit = MaxNamed };
        if (said.DeviceCount > deviceCount)
            throw new FamfsException(ErrorReason.BadRequest, $"missing_devices counts {said.DeviceCount} devices, the log has {deviceCount}") { Limit = (ulong)deviceCount };
        ushort[] missing = new ushort[said.Indices.Count];
        for (int i = 0; i < missing.Length; i++)
        {
            uint index = said.Indices[i];
            if (index == 0 || index >= said.DeviceCount || (i > 0 && index <= said.Indices[i - 1]))
                throw new FamfsException(ErrorReason.BadRequest, $"missing_devices: device {index}: the indices are 1 to {(long)said.DeviceCount - 1} here, ascending");
            missing[i] = (ushort)index;
        }
        return new((int)said.DeviceCount, missing);
    }

    /// <summary>The mount has looked for the devices below this index.</summary>
    public int Count => _count;

    /// <summary>Those of them that it lacks, ascending.</summary>
    public IReadOnlyList<ushort> Missing => _missing;

    /// <summary>The message, for an answer.</summary>
    public MissingDevices Describe()
    {
        bool whole = _missing.Length <= MaxDescribed;
        MissingDevices said = new() { DeviceCount = (uint)(whole ? _count : _missing[MaxDescribed - 1] + 1) };
        said.Indices.AddRange(_missing.Take(MaxDescribed).Select(m => (uint)m));
        return said;
    }
}
