using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Master.Queries;
using Famfs.V1;
using Google.Protobuf;

namespace Famfs.Master.Changes;

/// <summary>Who a host says it is.</summary>
internal readonly record struct HostClaim(Guid Host, ByteString MachineDigest, string Name);

/// <summary>What a mount says of itself when it subscribes. <paramref name="Mount"/> is empty for a reader that is no mount.</summary>
internal readonly record struct MountClaim(HostClaim Host, Guid Mount, Position Position);

/// <summary>What came of it: the host's slot in the host table, or −1 when it got none.</summary>
internal readonly record struct Admission(int Slot, LogPosition Position);

/// <summary>
/// Admits a mount: checks that its position is in this history, that it is not gone and that its host is no copy, and records which
/// older mounts of the host are gone. It registers nothing (<see cref="HostRegistration"/>).
/// </summary>
/// <param name="claim">What it says.</param>
/// <param name="gone">Its host's older mounts, with evidence that has been looked at.</param>
internal sealed class MountAdmission(MountClaim claim, IReadOnlyList<MountEnd> gone) : Change<Admission>
{
    /// <inheritdoc/>
    public override Verdict Decide(ChangeContext context)
    {
        Guid fileSystem = claim.Position.FileSystemUuid.ToGuid("file_system_uuid");
        if (fileSystem != Guid.Empty && fileSystem != context.State.FileSystem)
            throw new FamfsException(ErrorReason.WrongFilesystem, $"this is file system {context.State.FileSystem}, not {fileSystem}");
        // Before its position: of a mount whose lost records were given up, that is not in this history for good.
        if (claim.Mount != Guid.Empty && context.State.IsGone(claim.Host.Host, claim.Mount, new(claim.Position.Sequence)))
            throw new FamfsException(ErrorReason.HostGone, $"mount {claim.Mount} was declared gone; mount anew");
        if (claim.Position.Sequence > 0)
            Positions.Require(context.State, claim.Position);
        Reply = new(-1, context.Position);
        if (claim.Mount == Guid.Empty)
            return Verdict.Done;
        HostRegistration.Require(claim.Host);
        if (!context.State.Format.HasHostTable)
            return Verdict.Done;
        int slot = HostRegistration.FindSlot(context, claim.Host);
        foreach (MountEnd end in gone)
        {
            Verdict verdict = MountGone.Append(context, end, out _);
            if (verdict.Kind != VerdictKind.Done)
                return verdict;
        }
        Reply = new(slot, context.Position);
        return Verdict.Done;
    }
}
