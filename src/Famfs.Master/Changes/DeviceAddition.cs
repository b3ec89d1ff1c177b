using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Namespace;
using Famfs.Master.Queries;
using Famfs.V1;

namespace Famfs.Master.Changes;

/// <summary>Looks at a request to add a device, before anything follows its path: that may lead to a mount that does not answer. The
/// reply is null, or that of an equal request which has added the device already.</summary>
internal sealed class DeviceAdmission(AddDeviceRequest request) : Change<AddDeviceReply?>
{
    /// <inheritdoc/>
    public override Verdict Decide(ChangeContext context)
    {
        context.Caller.RequireAdministrator("adding a device");
        Reply = DeviceAddition.FindEqual(context, request, out _);
        if (Reply is null)
            DeviceAddition.RequirePath(context, request);
        return Verdict.Done;
    }
}

/// <summary>Checks a device that is to be zeroed before it is added. It appends nothing. The device is the caller's.</summary>
internal sealed class DevicePreparation(AddDeviceRequest request, DaxDevice device) : Change<bool>
{
    /// <inheritdoc/>
    public override Verdict Decide(ChangeContext context)
    {
        context.Caller.RequireAdministrator("adding a device");
        DeviceAddition.RequireNotInPool(context, device);
        context.State.Pool.Format.RequireJoinable(device, request.Force);
        Reply = true;
        return Verdict.Done;
    }
}

/// <summary>Formats a device and adds it to the pool, or finds the one that an equal request added.</summary>
/// <param name="request">What is asked for.</param>
/// <param name="device">The device, open; the pool's when this has succeeded, else the caller's
/// (<see cref="DeviceQueries.IsInPool"/>).</param>
internal sealed class DeviceAddition(AddDeviceRequest request, DaxDevice device) : Change<AddDeviceReply>
{
    // A DeviceAdded record takes less: texts are cut to 200 characters at most.
    private const int RecordBytes = 1024;

    /// <inheritdoc/>
    public override Verdict Decide(ChangeContext context)
    {
        context.Caller.RequireAdministrator("adding a device");
        if (FindEqual(context, request, out ulong digest) is { } added)
        {
            Reply = added;
            return Verdict.Done;
        }
        RequirePath(context, request);
        if (!context.HasRoomForGrowth(RecordBytes, out Verdict verdict))
            return verdict;
        RequireNotInPool(context, device);
        if (request.HasCoherent)
            device.Coherent = request.Coherent;
        DeviceIndex index = new((ushort)context.State.Replay.Devices.Length);
        // The device's own superblock is written before the record: a crash in between leaves a device that is
        // not in the pool and that --force formats again.
        DevicePool pool = context.State.Pool;
        (DeviceIdentity identity, DeviceAdded record) = pool.Format.PrepareDevice(pool, device, index, context.NextInode, request.Force, context.Clock);
        record.TimeNs = context.NowNs;
        record.RequestId = request.RequestId;
        record.RequestDigest = request.RequestId.IsEmpty ? 0 : digest;
        pool.Attach(device, identity);
        context.Append(RecordType.DeviceAdded, record);
        Reply = new() { Device = DeviceQueries.Describe(context.State, index.Value), Position = context.Position.ToMessage() };
        return Verdict.Done;
    }

    /// <summary>The reply of an equal request that has added the device already, or null.</summary>
    public static AddDeviceReply? FindEqual(ChangeContext context, AddDeviceRequest request, out ulong digest)
    {
        digest = RequestDigest.Of(request);
        if (!context.TryFindMade(request.RequestId.ToGuid("request_id"), digest, RecordType.DeviceAdded, out RequestTrace trace))
            return null;
        uint added = context.State.Replay.Devices.First(d => d.RequestId == request.RequestId).Index;
        return new() { Device = DeviceQueries.Describe(context.State, added), Position = context.PositionOf(trace) };
    }

    /// <summary>Throws INVALID_ARGUMENT for a path that names no device, or a pool that takes no more.</summary>
    public static void RequirePath(ChangeContext context, AddDeviceRequest request)
    {
        if (request.Path.Length == 0 || request.Path.Contains('\0', StringComparison.Ordinal))
            throw new FamfsException(ErrorReason.BadRequest, "path of the device is empty or has a NUL character");
        if (context.State.Replay.Devices.Length >= MediaLayout.MaxDevices)
            throw new FamfsException(ErrorReason.BadRequest, $"the pool has {MediaLayout.MaxDevices} devices, which is the limit") { Limit = MediaLayout.MaxDevices };
    }

    /// <summary>Whatever force says, memory that is in the pool is not given to it again: by another path, or as a
    /// device that is only missing on this host.</summary>
    public static void RequireNotInPool(ChangeContext context, DaxDevice device)
    {
        DevicePool pool = context.State.Pool;
        bool here = pool.Present.Any(i => pool.Require(i).MemoryIdentity == device.MemoryIdentity);
        bool known = pool.Format.ReadUuids(device) is { } uuids
            && context.State.Replay.Devices.Any(d => d.DeviceUuid.ToGuid("device_uuid") == uuids.Device);
        if (here || known)
            throw new FamfsException(ErrorReason.Exists, $"{device.Path}: is in the pool already") { Path = device.Path };
    }
}
