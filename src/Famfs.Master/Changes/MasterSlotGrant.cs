using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Master.Queries;
using Famfs.V1;

namespace Famfs.Master.Changes;

/// <summary>Gives a host a master slot with its first segment (SAFETY S1), or finds the one that it has.</summary>
internal sealed class MasterSlotGrant(GrantMasterSlotRequest request) : Change<GrantMasterSlotReply>
{
    // A MasterSlotGranted record takes less.
    private const int RecordBytes = 1024;

    /// <inheritdoc/>
    public override Verdict Decide(ChangeContext context)
    {
        context.Caller.RequireAdministrator("giving a master slot");
        context.State.Format.Require("master slots");
        Guid host = request.HostId.ToGuid("host_id");
        if (host == Guid.Empty)
            throw new FamfsException(ErrorReason.BadRequest, "host_id is empty");
        Guid id = request.RequestId.ToGuid("request_id");
        foreach ((int granted, Guid owner) in context.State.Replay.MasterSlots)
        {
            if (owner == host)
                return Answer(context, granted);
        }
        context.State.Requests.RequireTimely(id);
        int slot = Enumerable.Range(0, Term.SlotCount).FirstOrDefault(s => !context.State.Replay.MasterSlots.ContainsKey(s), -1);
        if (slot < 0)
            throw new FamfsException(ErrorReason.NoSpace, $"all {Term.SlotCount} master slots are granted") { Limit = Term.SlotCount };
        if (!context.HasRoom(1, RecordBytes, out Verdict verdict))
            return verdict;
        if (!context.TryAllocateRun(MediaLayout.UnitBytes, out MapExtent extent))
            throw new FamfsException(ErrorReason.NoSpace, "no space for the first segment of another master slot");
        context.Append(RecordType.MasterSlotGranted, new MasterSlotGranted
        {
            TimeNs = context.NowNs,
            RequestId = request.RequestId,
            RequestDigest = request.RequestId.IsEmpty ? 0 : RequestDigest.Of(request),
            Slot = (uint)slot,
            HostId = host.ToByteString(),
            SegmentInode = context.NextInode.Value,
            Segment = new() { Device = extent.Device.Value, OffsetBytes = (ulong)extent.OffsetBytes, LengthBytes = (ulong)extent.LengthBytes },
        });
        return Answer(context, slot);
    }

    private Verdict Answer(ChangeContext context, int slot)
    {
        Reply = new() { Slot = (uint)slot, Position = context.Position.ToMessage() };
        return Verdict.Done;
    }
}
