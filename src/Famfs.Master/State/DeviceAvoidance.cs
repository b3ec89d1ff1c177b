using Famfs.Core;
using Famfs.Core.Allocation;

namespace Famfs.Master.State;

/// <summary>Which devices new files avoid, because mounts lack them or have not told yet that they have them. Immutable; whoever
/// looks at the mounts makes a new one.</summary>
/// <param name="lookedFor">Devices below this index were looked at; the others are avoided until they are.</param>
/// <param name="causes">The avoided ones, each with the mounts that it is avoided for, as a sentence.</param>
internal sealed class DeviceAvoidance(int lookedFor, IReadOnlyDictionary<int, string> causes)
{
    /// <summary>Nobody looks at mounts: nothing is avoided.</summary>
    public static readonly DeviceAvoidance None = new(int.MaxValue, new Dictionary<int, string>());

    // Made at first need; whichever of two threads makes it, it is the same.
    private volatile Whole? _whole;

    /// <summary>Whether new files avoid the device, unless it is named. Never the first one, which every mount has.</summary>
    public bool Avoids(int index) => index != 0 && (index >= lookedFor || causes.ContainsKey(index));

    /// <summary>Why a device is avoided; null when it is not, or was not looked at yet.</summary>
    public string? FindCause(int index) => causes.GetValueOrDefault(index);

    /// <summary>A request that names no device, narrowed to what need not be avoided of the pool's
    /// <paramref name="deviceCount"/> devices, or of those that it is narrowed to already.</summary>
    public AllocationRequest Narrow(in AllocationRequest request, int deviceCount)
    {
        if (causes.Count == 0 && lookedFor >= deviceCount)
            return request;
        if (request.Devices is { Count: > 0 } wished)
        {
            List<DeviceIndex> left = [.. wished.Where(d => !Avoids(d.Value))];
            // Every narrowing keeps the first device; an empty list would be all.
            return request with { Devices = left.Count > 0 ? left : [new(0)] };
        }
        if (_whole is not { } whole || whole.DeviceCount != deviceCount)
            _whole = whole = new(deviceCount, [.. Enumerable.Range(0, deviceCount).Where(i => !Avoids(i)).Select(i => new DeviceIndex((ushort)i))]);
        return request with { Devices = whole.Left };
    }

    /// <summary>What is to be added to an error of a request that was narrowed and found no space; empty when nothing is avoided.</summary>
    public string Explain(int deviceCount)
    {
        List<string> said = [.. Enumerable.Range(0, deviceCount).Where(Avoids).Select(i => FindCause(i) ?? $"device {i} has just been added")];
        return said.Count == 0 ? "" : $"; new files avoid {(said.Count == 1 ? "a device" : $"{said.Count} devices")}: {said[0]}";
    }

    private sealed record Whole(int DeviceCount, IReadOnlyList<DeviceIndex> Left);
}
