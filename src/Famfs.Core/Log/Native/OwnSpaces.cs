using Famfs.Core.Dax;
using Famfs.Core.Format;

namespace Famfs.Core.Log.Native;

/// <summary>
/// The spaces that the log gives to one master slot, and how much of each is used (SAFETY S26). That is found in the space itself:
/// behind every segment header in it, of whatever term, stand whole frames, and nothing may be stored before their end. Segments
/// that active copies name are followed even where their header is damaged.
/// Another claimant may have adopted frames that the slot's terms stored and never published, in a history that this
/// claimant does not follow, and it may still become active. The slot's own host sees all that any claimant saw.
/// <para>Where a bad frame is followed by whole ones, it may be damage in the middle of such a history. The rest of that space is left
/// alone; where there is no other space, everything to the last whole frame is.</para>
/// </summary>
internal sealed class OwnSpaces
{
    /// <summary>Bytes looked at together: a record may reach over half of them.</summary>
    private const int WindowBytes = 2 * MediaLayout.MaxRecordBytes;

    private readonly DevicePool _pool;
    private readonly Guid _fileSystem;
    private readonly List<SegmentSpace> _own;
    private readonly Dictionary<SegmentSpace, Use> _uses = [];
    private readonly IReadOnlyList<(ulong Generation, SegmentRef Segment)> _known;
    private readonly byte[] _window = new byte[WindowBytes];
    private readonly byte[] _header = new byte[MediaLayout.SegmentHeaderBytes];

    /// <summary>Looks at <paramref name="own"/> as far as it is asked for. <paramref name="known"/>: sealed segments that are known to be
    /// used, whatever is found in the space, each with its generation.</summary>
    public OwnSpaces(DevicePool pool, IReadOnlyList<SegmentSpace> own, IReadOnlyList<(ulong Generation, SegmentRef Segment)> known)
    {
        _pool = pool;
        _fileSystem = pool.Primary.FileSystem;
        _own = [.. own];
        _known = known;
    }

    /// <summary>True when a sealed segment is in one of the spaces, and nothing is stored behind it there.</summary>
    public bool EndsWith(SegmentRef segment)
    {
        if (!_own.Any(s => Contains(s, segment)))
            return false;
        Use use = Find(_own.First(s => Contains(s, segment)));
        return !use.IsBroken && use.EndBytes == EndIn(use.Space, segment);
    }

    /// <summary>Gives the largest free rest of any space, from a page on, if it has at least <paramref name="leastBytes"/>; it is
    /// not given again.</summary>
    /// <param name="leastBytes">Header included.</param>
    /// <param name="last">A space whose rest should be left alone is better than none.</param>
    public SegmentSpace? TakePlace(long leastBytes, bool last)
    {
        // What is known to be used alone may leave too little, and then the space need not be read.
        List<Use> uses = [.. _own.Where(s => s.LengthBytes - StartOf(KnownEnd(s)) >= leastBytes).Select(Find).Where(u => u.Space.LengthBytes - StartOf(u.EndBytes) >= leastBytes && (last || !u.IsBroken))];
        if (uses.Count == 0)
            return null;
        Use best = uses.OrderBy(u => u.IsBroken).ThenBy(u => StartOf(u.EndBytes) - u.Space.LengthBytes).First();
        _own.Remove(best.Space);
        long start = StartOf(best.EndBytes);
        return new(best.Space.Device, best.Space.Offset + start, best.Space.LengthBytes - start);
    }

    /// <summary>The space of a segment is not given.</summary>
    public void Keep(SegmentRef segment) => _own.RemoveAll(s => Contains(s, segment));

    private static long StartOf(long usedBytes) => (usedBytes + MediaLayout.SegmentHeaderBytes - 1) / MediaLayout.SegmentHeaderBytes * MediaLayout.SegmentHeaderBytes;

    private static bool Contains(SegmentSpace space, SegmentRef segment) =>
        segment.Device == space.Device && segment.Offset >= space.Offset && segment.Offset < space.Offset + space.LengthBytes;

    private static long EndIn(SegmentSpace space, SegmentRef segment) => segment.Offset - space.Offset + MediaLayout.SegmentHeaderBytes + segment.SealedBytes;

    private long KnownEnd(SegmentSpace space) => _known.Where(s => Contains(space, s.Segment)).Select(s => EndIn(space, s.Segment)).DefaultIfEmpty(0).Max();

    private Use Find(SegmentSpace space)
    {
        if (!_uses.TryGetValue(space, out Use use))
            _uses[space] = use = Walk(space);
        return use;
    }

    private Use Walk(SegmentSpace space)
    {
        DaxDevice device = _pool.Require(space.Device);
        Use use = new(space, KnownEnd(space), false);
        // A header that is damaged hides no frames of a segment that an active copy names.
        (ulong Generation, SegmentRef Segment)[] segments = [.. FindHeaders(device, space).Concat(_known.Where(s => Contains(space, s.Segment))).DistinctBy(s => (s.Segment.Offset, s.Segment.Id)).OrderBy(s => s.Segment.Offset)];
        foreach ((ulong generation, SegmentRef segment) in segments)
        {
            long end = segments.FirstOrDefault(s => s.Segment.Offset > segment.Offset) is { Segment.Offset: > 0 } next ? next.Segment.Offset : space.Offset + space.LengthBytes;
            use = WalkFrames(device, use, generation, segment, end);
        }
        return use;
    }

    /// <summary>Segments of every generation: readers that are late read those of one that is over, and one that was never entered may
    /// still be.</summary>
    private List<(ulong Generation, SegmentRef Segment)> FindHeaders(DaxDevice device, SegmentSpace space)
    {
        List<(ulong Generation, SegmentRef Segment)> headers = [];
        for (long place = space.Offset; place + MediaLayout.SegmentHeaderBytes <= space.Offset + space.LengthBytes; place += MediaLayout.SegmentHeaderBytes)
        {
            device.Invalidate(place, DaxDevice.LineBytes);
            device.Read(place, _header.AsSpan(0, DaxDevice.LineBytes));
            if (!SegmentHeader.MayBegin(_header))
                continue;
            device.Invalidate(place, _header.Length);
            device.Read(place, _header);
            if (SegmentHeader.TryParse(_header, out SegmentHeader? header) && header!.FileSystem == _fileSystem && header.Generation >= _pool.Primary.Generation
                && header.Segment.Device == space.Device && header.Segment.Offset == place)
                headers.Add((header.Generation, header.Segment));
        }
        return headers;
    }

    /// <summary>Follows whole frames of a segment, then looks for others before <paramref name="end"/>, a device offset.</summary>
    private Use WalkFrames(DaxDevice device, Use use, ulong generation, SegmentRef segment, long end)
    {
        uint seed = Crc32C.Seed(_fileSystem, generation, segment.Id);
        uint noticeSeed = Crc32C.Seed(_fileSystem, _pool.Primary.Generation, segment.Id);
        long at = segment.DeviceOffsetOf(segment.AbsoluteStart);
        use = use.With(at);
        LogSequence sequence = default;
        Term term = default;
        bool broken = false;
        bool isInSnapshot = false;
        long windowAt = at;
        int filled = 0;
        while (at < end)
        {
            if (at + MediaLayout.MaxRecordBytes > windowAt + filled && windowAt + filled < end)
            {
                windowAt = at;
                filled = (int)Math.Min(WindowBytes, end - at);
                device.Invalidate(windowAt, filled);
                device.Read(windowAt, _window.AsSpan(0, filled));
            }
            ReadOnlySpan<byte> rest = _window.AsSpan((int)(at - windowAt), (int)(windowAt + filled - at));
            // A frame of an older term behind one of a newer is left of a history that nobody can follow any more.
            bool isNotice = generation != _pool.Primary.Generation && at == segment.DeviceOffsetOf(0) && segment.AbsoluteStart == 0;
            if (RecordFrame.Parse(rest, isNotice ? noticeSeed : seed, out RecordFrame frame) == FrameVerdict.Good
                && (isNotice || IsNext(frame, sequence, term, ref isInSnapshot)))
            {
                if (!isNotice)
                    (sequence, term) = (frame.Sequence, frame.Term);
                at += frame.PaddedBytes;
                use = use.With(at) with { IsBroken = use.IsBroken || broken };
                continue;
            }
            broken = true;
            int zeros = rest.IndexOfAnyExcept((byte)0);
            at += Math.Max(RecordFrame.Alignment, (zeros < 0 ? rest.Length : zeros) / RecordFrame.Alignment * RecordFrame.Alignment);
        }
        return use;
    }

    // The frames of a snapshot have numbers of their own.
    private static bool IsNext(in RecordFrame frame, LogSequence sequence, Term term, ref bool isInSnapshot)
    {
        bool isOfSnapshot = (frame.Flags & FrameFlags.Snapshot) != 0;
        if (isOfSnapshot == isInSnapshot && sequence.Value != 0)
            return frame.Sequence.Value > sequence.Value && frame.Term >= term;
        if (isOfSnapshot && sequence.Value != 0)
            return false;
        isInSnapshot = isOfSnapshot;
        return frame.Term >= term;
    }

    /// <summary>How a space is used.</summary>
    /// <param name="Space">The space.</param>
    /// <param name="EndBytes">Behind the last whole frame or header in it, from its start.</param>
    /// <param name="IsBroken">Before that end something is no whole frame.</param>
    private readonly record struct Use(SegmentSpace Space, long EndBytes, bool IsBroken)
    {
        public Use With(long deviceOffset) => this with { EndBytes = Math.Max(EndBytes, deviceOffset - Space.Offset) };
    }
}
