using Famfs.Core.Dialects;
using Famfs.V1;

namespace Famfs.Master.State;

/// <summary>The policies of a file system, as replies tell them.</summary>
internal static class InForce
{
    /// <summary>What the log has, with what holds where it has nothing; a lease's times only under policy <c>lease</c>.</summary>
    public static SetPolicyReply Describe(PolicySet policy)
    {
        bool isLease = policy.Reclaim == ReclaimPolicy.Lease;
        return new()
        {
            DialectFloor = FmapLimits.NameOfFloor(policy.DialectFloor),
            Reclaim = isLease ? ReclaimPolicy.Lease : ReclaimPolicy.Confirmed,
            LeaseMs = isLease ? policy.LeaseMs : 0,
            LeaseGraceMs = isLease ? policy.LeaseGraceMs : 0,
        };
    }
}
