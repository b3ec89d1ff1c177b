using Famfs.Core.Dialects;
using Famfs.Core;
using Famfs.Core.Allocation;
using Famfs.Core.Format;
using Famfs.Core.Namespace;
using Famfs.V1;

namespace Famfs.Master.Changes;

/// <summary>Changes a policy of the file system. What is not named stays.</summary>
internal sealed class PolicyChange(SetPolicyRequest request) : Change<SetPolicyReply>
{
    // A PolicySet record takes less.
    private const int RecordBytes = 512;

    /// <inheritdoc/>
    public override Verdict Decide(ChangeContext context)
    {
        context.Caller.RequireAdministrator("changing a policy");
        ulong digest = RequestDigest.Of(request);
        if (context.TryFindMade(request.RequestId.ToGuid("request_id"), digest, RecordType.PolicySet, out RequestTrace trace))
        {
            Reply = new() { DialectFloor = FmapLimits.NameOfFloor(context.State.Replay.Policy.DialectFloor), Position = context.PositionOf(trace) };
            return Verdict.Done;
        }
        if (!request.HasDialectFloor)
            throw new FamfsException(ErrorReason.BadRequest, "the request names no policy");
        context.State.Format.Require("a dialect floor");
        uint floor = FmapLimits.ParseFloor(request.DialectFloor);
        if (!context.HasRoom(1, RecordBytes, out Verdict verdict))
            return verdict;
        context.Append(RecordType.PolicySet, new PolicySet
        {
            TimeNs = context.NowNs,
            RequestId = request.RequestId,
            RequestDigest = request.RequestId.IsEmpty ? 0 : digest,
            DialectFloor = floor,
        });
        Reply = new() { DialectFloor = FmapLimits.NameOfFloor(floor), Position = context.Position.ToMessage() };
        return Verdict.Done;
    }
}
