using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.V1;

namespace Famfs.Core.Log.Native;

/// <summary>
/// Compares the header of every log segment with what leads to it: the active copy for the newest, the header behind it for the
/// older ones. A header that is not as its writer made it is proposed anew. What it says is known from the active copy and the
/// records, except an older segment's predecessor. That one is found by looking at every page of every device, for a header
/// whose records end exactly where the damaged header's begin.
/// <para>Its repair stores what the writer stored, at a place that is never written again while the segment is in the log.</para>
/// </summary>
internal sealed class SegmentHeaderCheck(DevicePool pool, CheckReport report)
{
    private const string Code = "segment-header";

    private readonly Guid _fileSystem = pool.Primary.FileSystem;
    private readonly byte[] _block = new byte[MediaLayout.SegmentHeaderBytes];
    private List<SegmentHeader>? _scanned;

    // How the generation begins; null: with the first record, or it cannot be read.
    private GenerationOrigin? _origin;

    /// <summary>Walks from the newest segment to the first.</summary>
    public void Run(ActiveAnchor active)
    {
        if (active.Generation > pool.Primary.Generation && active.Chain[0] is { AbsoluteStart: 0 } begin && IsPresent(begin))
        {
            try
            {
                _origin = GenerationOrigin.Read(pool, begin, active.Generation);
            }
            catch (FamfsException error) when (error.Reason == ErrorReason.MediaCorrupt)
            {
                report.Add(Code, Name(begin), error.Message);
            }
        }
        for (int i = active.Chain.Length - 1; i > 0; i--)
        {
            if (!Compare(active, active.Chain[i], active.Chain[i - 1]))
                return;
        }
        SegmentRef first = active.Chain[0];
        for (long left = active.SegmentCount - active.Chain.Length; first.AbsoluteStart > 0; left--)
        {
            if (left <= 0)
            {
                report.Add(Code, Name(first), $"the log should begin here, after {active.SegmentCount} segments, and does not");
                return;
            }
            if (!IsPresent(first))
                return;
            SegmentRef? predecessor = Read(first) is { } header && IsOf(header, active, first) ? header.Predecessor : FindPredecessor(active, first);
            if (predecessor is null)
            {
                report.Add(Code, Name(first), "is damaged, and no segment is found whose records end where its own begin: the records before it are not read");
                return;
            }
            if (!Compare(active, first, predecessor))
                return;
            first = predecessor.Value;
        }
        Compare(active, first, null);
    }

    private static string Name(SegmentRef segment) => $"log segment {segment.Id:x}, device {segment.Device} at {segment.Offset}";

    private bool IsOf(SegmentHeader header, ActiveAnchor active, SegmentRef segment) =>
        header.FileSystem == _fileSystem && header.Generation == active.Generation && header.Segment.Id == segment.Id
        && header.Segment.AbsoluteStart == segment.AbsoluteStart;

    private bool IsPresent(SegmentRef segment)
    {
        if (pool.Find(segment.Device) is { } device && segment.Offset <= device.LengthBytes - segment.LengthBytes)
            return true;
        report.Add(Code, Name(segment), "is on a device that is not among those given");
        return false;
    }

    /// <summary>False: older segments cannot be looked at.</summary>
    private bool Compare(ActiveAnchor active, SegmentRef segment, SegmentRef? predecessor)
    {
        if (!IsPresent(segment) || (predecessor is { } before && !IsPresent(before)))
            return false;
        LogSequence? previous = FindPrevious(active, segment, predecessor);
        SegmentHeader? found = Read(segment);
        SegmentRef open = segment with { SealedBytes = SegmentRef.Open };
        if (found is not null && found.FileSystem == _fileSystem && found.Generation == active.Generation && found.Segment == open
            && found.Predecessor == predecessor && (previous is null || found.PreviousSequence == previous))
            return true;
        report.Add(Code, Name(segment), found is null ? "its header is damaged" : "its header is another one");
        if (previous is not null)
        {
            byte[] bytes = new byte[MediaLayout.SegmentHeaderBytes];
            new SegmentHeader(_fileSystem, active.Generation, open, previous.Value, predecessor).Format(bytes);
            report.Repairs.Add(new(Code, pool.Require(segment.Device), segment.Offset, bytes, $"the header of log segment {segment.Id:x} is written from the anchor and the records around it"));
        }
        return true;
    }

    /// <summary>Sequence of the record before a segment's first: from that one, or from the last of the predecessor.</summary>
    private LogSequence? FindPrevious(ActiveAnchor active, SegmentRef segment, SegmentRef? predecessor)
    {
        FrameRun first = FrameRun.Follow(pool, _fileSystem, active.Generation, segment, segment.AbsoluteStart, segment.AbsoluteEnd, limit: 1);
        if (first.Count > 0)
            return new(first.First.Value - 1);
        if (_origin is not null && segment.AbsoluteStart < _origin.EndOffset)
            return _origin.Last;
        if (predecessor is not { SealedBytes: > 0 } before)
            return null;
        FrameRun all = FrameRun.Follow(pool, _fileSystem, active.Generation, before, before.AbsoluteStart, before.AbsoluteEnd);
        return all.End == before.AbsoluteEnd ? all.Last : null;
    }

    private SegmentRef? FindPredecessor(ActiveAnchor active, SegmentRef segment)
    {
        if (FindPrevious(active, segment, null) is not { } previous)
            return null;
        SegmentRef? found = null;
        foreach (SegmentHeader header in _scanned ??= Scan(active))
        {
            SegmentRef candidate = header.Segment with { SealedBytes = segment.AbsoluteStart - header.Segment.AbsoluteStart };
            if (candidate.SealedBytes <= 0 || candidate.SealedBytes > candidate.CapacityBytes || candidate.Term > segment.Term || candidate.Id == segment.Id)
                continue;
            FrameRun run = FrameRun.Follow(pool, _fileSystem, active.Generation, candidate, candidate.AbsoluteStart, candidate.AbsoluteEnd);
            if (run.End != candidate.AbsoluteEnd || run.Last != previous)
                continue;
            // Two claimants that read the same end: which one was followed is not known here.
            if (found is not null)
                return null;
            found = candidate;
        }
        return found;
    }

    private List<SegmentHeader> Scan(ActiveAnchor active)
    {
        List<SegmentHeader> headers = [];
        foreach (DeviceIndex index in pool.Present)
        {
            DaxDevice device = pool.Require(index);
            for (long offset = MediaLayout.UnitBytes; offset <= device.LengthBytes - MediaLayout.SegmentHeaderBytes; offset += MediaLayout.SegmentHeaderBytes)
            {
                device.Invalidate(offset, DaxDevice.LineBytes);
                device.Read(offset, _block.AsSpan(0, DaxDevice.LineBytes));
                if (!SegmentHeader.MayBegin(_block))
                    continue;
                device.Invalidate(offset, _block.Length);
                device.Read(offset, _block);
                if (SegmentHeader.TryParse(_block, out SegmentHeader? header) && header!.FileSystem == _fileSystem && header.Generation == active.Generation
                    && header.Segment.Device == index && header.Segment.Offset == offset && header.Segment.LengthBytes <= device.LengthBytes - offset)
                    headers.Add(header);
            }
        }
        return headers;
    }

    private SegmentHeader? Read(SegmentRef segment)
    {
        DaxDevice device = pool.Require(segment.Device);
        device.Invalidate(segment.Offset, _block.Length);
        device.Read(segment.Offset, _block);
        return SegmentHeader.TryParse(_block, out SegmentHeader? header) ? header : null;
    }
}
