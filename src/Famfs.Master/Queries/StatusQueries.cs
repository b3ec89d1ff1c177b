using Famfs.Core.Allocation;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Master.State;
using Famfs.V1;

namespace Famfs.Master.Queries;

/// <summary>What an operator asks first.</summary>
internal static class StatusQueries
{
    /// <summary>What the state says of the file system; what the process knows of itself is the caller's to add.</summary>
    public static GetStatusReply Describe(MasterState state)
    {
        SetPolicyReply policy = InForce.Describe(state.Replay.Policy);
        GetStatusReply reply = new()
        {
            FileSystemUuid = state.FileSystem.ToByteString(),
            Label = state.Pool.Primary.Label,
            Format = state.Format.Name,
            Position = state.Replay.Position.ToMessage(),
            CapacityBytes = (ulong)state.Allocator.CapacityBytes,
            FreeBytes = (ulong)state.Allocator.FreeBytes,
            LargestFreeBytes = (ulong)state.Allocator.LargestFreeRunBytes,
            FileCount = (ulong)state.Replay.Tree.FileCount,
            DirectoryCount = (ulong)state.Replay.Tree.DirectoryCount,
            PendingReclaimBytes = (ulong)state.Replay.PendingReclaimBytes,
            LogReservedBytes = (ulong)state.Replay.Segments.Sum(s => s.Extent.LengthBytes),
            HostCount = (uint)state.Replay.Hosts.Count,
            Reclaim = policy.Reclaim,
            LeaseMs = policy.LeaseMs,
            LeaseGraceMs = policy.LeaseGraceMs,
            DialectFloor = policy.DialectFloor,
        };
        reply.Devices.AddRange(DeviceQueries.List(state).Devices);
        reply.ReclaimWaits.AddRange(state.ReclaimWaits);
        reply.Warnings.AddRange(state.Format.FindWarnings(reply.Devices.Count));
        return reply;
    }

    /// <summary>Devices that this host lacks, each as a sentence.</summary>
    public static IEnumerable<string> FindMissing(GetStatusReply status, DevicePool pool)
    {
        foreach (DeviceInfo device in status.Devices)
        {
            if (device.Path.Length == 0)
                yield return $"device {device.Index} ({(device.Name.Length > 0 ? device.Name : device.DeviceUuid.ToGuid("device uuid"))}) is missing on the master's host{(pool.FindAbsence(new((ushort)device.Index)) is { } cause ? $": {cause}" : "")}";
        }
    }
}
