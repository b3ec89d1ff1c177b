using Famfs.Core.Format;
using Famfs.V1;
using Google.Protobuf;

namespace Famfs.Master.Changes;

/// <summary>A mount that can touch memory no more, and how that is known. Of an empty mount: all that the host has by now.</summary>
internal readonly record struct MountEnd(Guid Host, Guid Mount, GoneEvidence Evidence, string Detail);

/// <summary>Records that a mount can touch memory no more. The evidence has been looked at. The reply says whether it was not
/// recorded before.</summary>
internal sealed class MountGone(MountEnd end) : Change<bool>
{
    // A HostGone record takes less.
    private const int RecordBytes = 1024;

    /// <summary>Most characters of a detail.</summary>
    public const int MaxDetail = 200;

    /// <inheritdoc/>
    public override Verdict Decide(ChangeContext context)
    {
        Verdict verdict = Append(context, end, out bool recorded);
        Reply = recorded;
        return verdict;
    }

    /// <summary>Appends the record as a part of another change.</summary>
    public static Verdict Append(ChangeContext context, in MountEnd end, out bool recorded)
    {
        recorded = false;
        // That a loss is accepted is another thing than being gone: it ends the comparing of a line.
        // Nor does it prove that the mount is gone.
        if (!context.State.Format.HasHostTable
            || (context.State.FindGone(end.Host, end.Mount, new(ulong.MaxValue)) is { } known
                && (end.Evidence == GoneEvidence.LossAccepted ? context.State.Replay.IsLossAccepted(end.Mount) : known.Evidence != GoneEvidence.LossAccepted)))
            return Verdict.Done;
        if (!context.HasRoom(1, RecordBytes, out Verdict verdict))
            return verdict;
        context.Append(RecordType.HostGone, new HostGone
        {
            TimeNs = context.NowNs,
            HostId = end.Host.ToByteString(),
            MountId = end.Mount == Guid.Empty ? ByteString.Empty : end.Mount.ToByteString(),
            Evidence = end.Evidence,
            Detail = end.Detail.Length > MaxDetail ? end.Detail[..MaxDetail] : end.Detail,
        });
        recorded = true;
        return Verdict.Done;
    }
}
