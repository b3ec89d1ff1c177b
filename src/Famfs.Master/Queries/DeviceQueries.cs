using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Master.State;
using Famfs.V1;

namespace Famfs.Master.Queries;

/// <summary>The devices of the pool, as they stand.</summary>
internal static class DeviceQueries
{
    /// <summary>Describes a device of the pool; its path is empty when this host has not got it. Engine's thread.</summary>
    public static DeviceInfo Describe(MasterState state, uint index)
    {
        DeviceAdded added = state.Replay.Devices[(int)index];
        DeviceIndex i = new((ushort)index);
        return new()
        {
            Index = index,
            DeviceUuid = added.DeviceUuid,
            LengthBytes = added.LengthBytes,
            FreeBytes = (ulong)state.Allocator.DeviceFreeBytes(i),
            LargestFreeBytes = (ulong)state.Allocator.DeviceLargestFreeRunBytes(i),
            Coherent = added.Coherent,
            Name = added.Name,
            Path = state.Pool.Find(i)?.Path ?? "",
        };
    }

    /// <summary>All of them.</summary>
    public static ListDevicesReply List(MasterState state)
    {
        ListDevicesReply reply = new();
        for (uint i = 0; i < state.Replay.Devices.Length; i++)
            reply.Devices.Add(Describe(state, i));
        return reply;
    }

    /// <summary>Whether the pool has taken this very device. Any thread.</summary>
    public static bool IsInPool(MasterState state, DaxDevice device) => state.Pool.Present.Any(i => state.Pool.Require(i) == device);
}
