using Famfs.Core.Dialects;
using Famfs.Core;
using Famfs.Core.Allocation;
using Famfs.Core.Format;
using Famfs.Core.Namespace;
using Famfs.Master.State;
using Famfs.V1;

namespace Famfs.Master.Changes;

/// <summary>Changes policies of the file system. What is not named stays.</summary>
internal sealed class PolicyChange(SetPolicyRequest request) : Change<SetPolicyReply>
{
    /// <summary>Shortest lease: a line moves every second, and a busy host is late now and then.</summary>
    public const uint MinLeaseMs = 5_000;

    /// <summary>Shortest grace: within it a request that was begun has to end.</summary>
    public const uint MinGraceMs = 1_000;

    /// <summary>The grace is at least this part of the lease: a clock that is being set right may run a twelfth faster or slower.</summary>
    public const uint GraceShare = 5;

    /// <summary>Longest lease, and longest grace (chosen: an hour).</summary>
    public const uint MaxLeaseMs = 3_600_000;

    /// <summary>Lease where none was ever given (chosen: longer than a host is held up by its load).</summary>
    public const uint DefaultLeaseMs = 30_000;

    /// <summary>Grace where none was ever given.</summary>
    public const uint DefaultGraceMs = 10_000;

    // A PolicySet record takes less.
    private const int RecordBytes = 512;

    /// <inheritdoc/>
    public override Verdict Decide(ChangeContext context)
    {
        context.Caller.RequireAdministrator("changing a policy");
        ulong digest = RequestDigest.Of(request);
        if (context.TryFindMade(request.RequestId.ToGuid("request_id"), digest, RecordType.PolicySet, out RequestTrace trace))
        {
            Reply = InForce.Describe(context.State.Replay.Policy);
            Reply.Position = context.PositionOf(trace);
            return Verdict.Done;
        }
        if (!request.HasDialectFloor && !request.HasReclaim && !request.HasLeaseMs && !request.HasLeaseGraceMs)
            throw new FamfsException(ErrorReason.BadRequest, "the request names no policy");
        if (context.Caller.Kind == CallerKind.Unknown && (request.HasReclaim || request.HasLeaseMs || request.HasLeaseGraceMs))
            throw new FamfsException(ErrorReason.NotPermitted, "changing what gives memory to others needs root at the master's unix socket, or a certificate; nobody knows who is behind an open port");
        context.State.Format.Require(request.HasDialectFloor ? "a dialect floor" : "a policy of reuse");
        PolicySet set = new()
        {
            TimeNs = context.NowNs,
            RequestId = request.RequestId,
            RequestDigest = request.RequestId.IsEmpty ? 0 : digest,
        };
        if (request.HasDialectFloor)
            set.DialectFloor = FmapLimits.ParseFloor(request.DialectFloor);
        SetReclaim(set, context.State.Replay.Policy);
        if (!context.HasRoom(1, RecordBytes, out Verdict verdict))
            return verdict;
        context.Append(RecordType.PolicySet, set);
        PolicySet inForce = context.State.Replay.Policy.Clone();
        inForce.MergeFrom(set);
        Reply = InForce.Describe(inForce);
        Reply.Position = context.Position.ToMessage();
        return Verdict.Done;
    }

    private void SetReclaim(PolicySet set, PolicySet before)
    {
        if (request.HasReclaim)
        {
            if (request.Reclaim is not (ReclaimPolicy.Confirmed or ReclaimPolicy.Lease))
                throw new FamfsException(ErrorReason.BadRequest, $"policy of reuse {(int)request.Reclaim} is not known; confirmed or lease");
            set.Reclaim = request.Reclaim;
        }
        if ((request.HasReclaim ? request.Reclaim : before.Reclaim) != ReclaimPolicy.Lease)
        {
            if (request.HasLeaseMs || request.HasLeaseGraceMs)
                throw new FamfsException(ErrorReason.BadRequest, "a lease or a grace goes with policy lease only");
            return;
        }
        if (request.HasLeaseMs)
            set.LeaseMs = Within("lease", request.LeaseMs, MinLeaseMs);
        else if (before.LeaseMs == 0)
            set.LeaseMs = DefaultLeaseMs;
        if (request.HasLeaseGraceMs)
            set.LeaseGraceMs = Within("grace", request.LeaseGraceMs, MinGraceMs);
        else if (before.LeaseGraceMs == 0)
            set.LeaseGraceMs = DefaultGraceMs;
        (uint lease, uint grace) = (set.HasLeaseMs ? set.LeaseMs : before.LeaseMs, set.HasLeaseGraceMs ? set.LeaseGraceMs : before.LeaseGraceMs);
        if (grace < lease / GraceShare)
            throw new FamfsException(ErrorReason.BadRequest, $"a grace of {grace} ms is less than a fifth of the lease of {lease} ms, and clocks do not all run at the same speed") { Limit = lease / GraceShare };
    }

    private static uint Within(string name, uint ms, uint least) => ms >= least && ms <= MaxLeaseMs
        ? ms
        : throw new FamfsException(ErrorReason.BadRequest, $"a {name} of {ms} ms is not within {least} to {MaxLeaseMs} ms") { Limit = ms < least ? least : MaxLeaseMs };
}
