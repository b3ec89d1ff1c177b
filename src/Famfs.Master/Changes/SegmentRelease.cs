using Famfs.Core;
using Famfs.Core.Namespace;
using Famfs.V1;

namespace Famfs.Master.Changes;

/// <summary>Deletes log segments that the log does not have any more, after it has gone on in another generation.
/// They are given back as files are (SAFETY S9): a mount that may still read one has not released it.</summary>
/// <param name="segments">Their inodes.</param>
internal sealed class SegmentRelease(IReadOnlyList<InodeNumber> segments) : Change<int>
{
    private const int PayloadBytes = 64;

    private int _done;

    /// <inheritdoc/>
    public override Verdict Decide(ChangeContext context)
    {
        for (; _done < segments.Count; _done++)
        {
            // It makes room: also where the log is full.
            if (!context.HasRoom(1, PayloadBytes, out Verdict verdict) && !context.HasRoomForGrowth(PayloadBytes, out verdict))
                return verdict;
            context.Append(RecordType.Deleted, new Deleted { TimeNs = context.NowNs, Inode = segments[_done].Value });
        }
        Reply = _done;
        return Verdict.Done;
    }
}
