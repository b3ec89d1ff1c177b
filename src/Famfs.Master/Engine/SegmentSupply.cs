using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Namespace;
using Famfs.Master.Changes;
using Famfs.V1;

namespace Famfs.Master.Engine;

/// <summary>Keeps a segment in reserve for a log that grows, so that one is there when the one being written is full. Engine's
/// thread.</summary>
/// <param name="log">The log; null: it does not grow, and bytes do not limit it.</param>
/// <param name="context">What the records that reserve segments are appended through.</param>
internal sealed class SegmentSupply(ISegmentedLog? log, ChangeContext context)
{
    // Recorded and published: this term may write there (SAFETY S7).
    private SegmentSpace? _reserved = log?.Spare;

    // Recorded in the batch at hand.
    private SegmentSpace? _pending;

    /// <summary>Whether the next batch may go on in another segment.</summary>
    public bool HasReserve => _reserved is not null;

    /// <summary>The space, or a part of it, is in reserve, or will be.</summary>
    public bool Holds(SegmentSpace space) => IsIn(_reserved, space) || IsIn(_pending, space);

    private static bool IsIn(SegmentSpace? part, SegmentSpace space) =>
        part is { } p && p.Device == space.Device && p.Offset >= space.Offset && p.Offset < space.Offset + space.LengthBytes;

    /// <summary>Bytes of frames that operations may append to the next batch; negative in a log that is nearly full.</summary>
    public long RoomBytes => Math.Min(MediaLayout.MaxBatchBytes, log?.RemainingBytes ?? long.MaxValue) - ChangeContext.ReservationMargin;

    /// <summary>Before a batch: goes on in the segment in reserve when what is left is too little for
    /// <paramref name="needed"/> bytes.</summary>
    public void Advance(long needed)
    {
        if (_reserved is not { } space || RoomBytes >= Math.Max(needed, ChangeContext.ReservationMargin))
            return;
        log!.Advance(space);
        _reserved = null;
    }

    /// <summary>First of a batch: half way through a segment the next one is reserved, so that one is always there; at once when
    /// there is less than half a unit, because a term may go on in the small rest of an older segment, and the slot must
    /// have room for a next term; and when an operation needs more than is left.</summary>
    public void ReserveIfNeeded(long needed)
    {
        if (log is null || _reserved is not null || _pending is not null || (log.RemainingBytes > Math.Max(log.SegmentCapacityBytes, MediaLayout.UnitBytes) / 2 && RoomBytes >= needed))
            return;
        if (needed > MediaLayout.MaxBatchBytes - ChangeContext.ReservationMargin)
            return;
        long least = (needed + ChangeContext.ReservationMargin + MediaLayout.SegmentHeaderBytes + MediaLayout.UnitBytes - 1) / MediaLayout.UnitBytes * MediaLayout.UnitBytes;
        long length = Math.Max(least, Math.Min(64L << 20, MediaLayout.UnitBytes * (long)Math.Max(1, log.SegmentCount)));
        while (length >= least)
        {
            if (context.TryAllocateRun(length, out MapExtent extent))
            {
                context.Append(RecordType.SegmentReserved, new SegmentReserved
                {
                    TimeNs = context.NowNs,
                    Inode = context.NextInode.Value,
                    Extent = new() { Device = extent.Device.Value, OffsetBytes = (ulong)extent.OffsetBytes, LengthBytes = (ulong)extent.LengthBytes },
                });
                _pending = new(extent.Device, extent.OffsetBytes, extent.LengthBytes);
                return;
            }
            length = length / 2 / MediaLayout.UnitBytes * MediaLayout.UnitBytes;
        }
    }

    /// <summary>The batch is published and checked: from now on what it reserved is this term's to write (SAFETY S7).</summary>
    public void Confirm()
    {
        if (_pending is not { } space)
            return;
        _reserved = space;
        _pending = null;
    }
}
