using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Namespace;
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
/// Admits a mount: checks that its position is in this history and that it is not gone, gives its host a block of lines in the
/// host table (SAFETY S11), and records which older mounts of the host are gone.
/// </summary>
/// <param name="claim">What it says.</param>
/// <param name="hostCapacity">Hosts that the host table has room for.</param>
/// <param name="gone">Its host's older mounts, with evidence that has been looked at.</param>
internal sealed class MountAdmission(MountClaim claim, int hostCapacity, IReadOnlyList<MountEnd> gone) : Change<Admission>
{
    // A SHA-512. What hosts of this version send is a SHA-256.
    private const int MaxDigestBytes = 64;

    // A HostRegistered record takes less: texts are cut to 200 characters at most.
    private const int RecordBytes = 1024;

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
        if (claim.Host.Host == Guid.Empty)
            throw new FamfsException(ErrorReason.BadRequest, "host_id is empty");
        if (!context.State.Format.HasHostTable)
            return Verdict.Done;
        Verdict verdict = RegisterHost(context, out int slot);
        if (verdict.Kind != VerdictKind.Done)
            return verdict;
        foreach (MountEnd end in gone)
        {
            verdict = MountGone.Append(context, end, out _);
            if (verdict.Kind != VerdictKind.Done)
                return verdict;
        }
        Reply = new(slot, context.Position);
        return Verdict.Done;
    }

    private Verdict RegisterHost(ChangeContext context, out int slot)
    {
        HostClaim host = claim.Host;
        if (host.MachineDigest.Length > MaxDigestBytes)
            throw new FamfsException(ErrorReason.BadRequest, $"machine_digest has {host.MachineDigest.Length} bytes, the limit is {MaxDigestBytes}") { Limit = MaxDigestBytes };
        if (context.State.Replay.Hosts.TryGetValue(host.Host, out HostRecord? known))
        {
            if (known.MachineDigest != host.MachineDigest && !known.MachineDigest.IsEmpty)
                throw new FamfsException(ErrorReason.HostConflict, $"host id {host.Host} is bound to another machine (\"{known.Name}\"); its state directory was copied");
            slot = known.Slot;
            return Verdict.Done;
        }
        HashSet<int> taken = [.. context.State.Replay.Hosts.Values.Select(h => h.Slot)];
        slot = Enumerable.Range(0, hostCapacity).FirstOrDefault(s => !taken.Contains(s), -1);
        if (slot < 0)
            throw new FamfsException(ErrorReason.NoSpace, $"the host table has room for {hostCapacity} hosts and all are registered") { Limit = (ulong)hostCapacity };
        if (!context.HasRoom(1, RecordBytes, out Verdict verdict))
            return verdict;
        context.Append(RecordType.HostRegistered, new HostRegistered
        {
            TimeNs = context.NowNs,
            HostId = host.Host.ToByteString(),
            HostSlot = (uint)slot,
            MachineDigest = host.MachineDigest,
            Name = host.Name.Length > 64 ? host.Name[..64] : host.Name,
        });
        return Verdict.Done;
    }
}
