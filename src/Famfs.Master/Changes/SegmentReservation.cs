using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.V1;

namespace Famfs.Master.Changes;

/// <summary>Reserves space for log segments to this term. The reply is the space, which the term may store to (SAFETY S7). Errors:
/// NO_SPACE, LOG_FULL.</summary>
/// <param name="leastBytes">The least that is of use.</param>
/// <param name="wishBytes">The most that is taken; not less.</param>
internal sealed class SegmentReservation(long leastBytes, long wishBytes) : Change<SegmentSpace>
{
    private const int PayloadBytes = 96;

    /// <inheritdoc/>
    public override Verdict Decide(ChangeContext context)
    {
        if (!context.HasRoom(1, PayloadBytes, out Verdict verdict))
            return verdict;
        long least = RoundUp(leastBytes);
        for (long length = RoundUp(wishBytes); length >= least; length = length > least ? Math.Max(least, length / 2 / MediaLayout.UnitBytes * MediaLayout.UnitBytes) : 0)
        {
            if (!context.TryAllocateRun(length, out MapExtent extent))
                continue;
            context.Append(RecordType.SegmentReserved, new SegmentReserved
            {
                TimeNs = context.NowNs,
                Inode = context.NextInode.Value,
                Extent = new() { Device = extent.Device.Value, OffsetBytes = (ulong)extent.OffsetBytes, LengthBytes = (ulong)extent.LengthBytes },
            });
            Reply = new(extent.Device, extent.OffsetBytes, extent.LengthBytes);
            return Verdict.Done;
        }
        throw new FamfsException(ErrorReason.NoSpace, $"no device has a run of {least} free bytes for the log") { Limit = (ulong)context.State.Allocator.FreeBytes };
    }

    private static long RoundUp(long bytes) => (bytes + MediaLayout.UnitBytes - 1) / MediaLayout.UnitBytes * MediaLayout.UnitBytes;
}
