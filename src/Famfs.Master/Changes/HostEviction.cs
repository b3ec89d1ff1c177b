using Famfs.Core;
using Famfs.Core.Format;
using Famfs.V1;

namespace Famfs.Master.Changes;

/// <summary>
/// An operator states that a mount, or all of a host, can touch the memory no more (SAFETY S14). Nobody else's word counts: whoever
/// states it falsely gives memory away that is in use, so the caller must be known (S28).
/// </summary>
internal sealed class HostEviction : Change<EvictHostReply>
{
    private readonly EvictHostRequest _request;

    /// <summary>Takes a request. Throws NOT_PERMITTED for a caller that may not, BAD_REQUEST for what nobody can mean.</summary>
    public HostEviction(EvictHostRequest request, Caller caller)
    {
        _request = request;
        caller.RequireAdministrator("declaring a host gone");
        if (caller.Kind == CallerKind.Unknown)
            throw new FamfsException(ErrorReason.NotPermitted, "declaring a host gone needs root at the master's unix socket, or a certificate; nobody knows who is behind an open port");
        Host = request.HostId.ToGuid("host_id");
        Mount = request.MountId.ToGuid("mount_id");
        if (Host == Guid.Empty && Mount == Guid.Empty)
            throw new FamfsException(ErrorReason.BadRequest, "neither host_id nor mount_id names whom");
        if (request.Evidence is not (GoneEvidence.Fenced or GoneEvidence.Operator))
            throw new FamfsException(ErrorReason.BadRequest, $"evidence is FENCED or OPERATOR, not {(int)request.Evidence}");
        if (request.Detail.Length > MountGone.MaxDetail)
            throw new FamfsException(ErrorReason.BadRequest, $"detail has {request.Detail.Length} characters, the limit is {MountGone.MaxDetail}") { Limit = MountGone.MaxDetail };
    }

    /// <summary>The host; empty: the one of <see cref="Mount"/>.</summary>
    public Guid Host { get; private set; }

    /// <summary>The mount; empty: all of <see cref="Host"/>.</summary>
    public Guid Mount { get; }

    /// <summary>Whose mount it is, where the request does not name the host.</summary>
    public void SetHost(Guid host) => Host = host;

    /// <inheritdoc/>
    public override Verdict Decide(ChangeContext context)
    {
        context.State.Format.Require("a host table");
        Verdict verdict = MountGone.Append(context, new(Host, Mount, _request.Evidence, _request.Detail), out bool recorded);
        if (verdict.Kind != VerdictKind.Done)
            return verdict;
        Reply = new() { Position = context.Position.ToMessage(), Recorded = recorded };
        return Verdict.Done;
    }
}
