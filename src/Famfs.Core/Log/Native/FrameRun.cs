using Famfs.Core.Dax;
using Famfs.Core.Format;

namespace Famfs.Core.Log.Native;

/// <summary>Whole frames that follow each other in a segment, found in memory whatever is published.</summary>
/// <param name="Count">How many.</param>
/// <param name="End">Log offset behind the last, bytes.</param>
/// <param name="First">Sequence of the first; 0 without any.</param>
/// <param name="Last">Sequence of the last; 0 without any.</param>
/// <param name="LastTerm">Term of the last; 0 without any.</param>
internal readonly record struct FrameRun(long Count, long End, LogSequence First, LogSequence Last, Term LastTerm)
{
    /// <summary>Bytes read at a time: more than the largest frame.</summary>
    private const int ReadBytes = 4 * MediaLayout.MaxRecordBytes;

    /// <summary>True when a whole frame is anywhere from log offset <paramref name="from"/> to the end of the segment, whatever its
    /// sequence and term.</summary>
    public static bool IsAnyWhole(DevicePool pool, Guid fileSystem, ulong generation, SegmentRef segment, long from)
    {
        DaxDevice device = pool.Require(segment.Device);
        uint seed = Crc32C.Seed(fileSystem, generation, segment.Id);
        long end = segment.AbsoluteEnd;
        byte[] buffer = GC.AllocateUninitializedArray<byte>((int)Math.Max(0, Math.Min(ReadBytes, end - from)));
        long bufferAt = from;
        int filled = 0;
        long at = from;
        while (at < end)
        {
            if (filled == 0 || (at + MediaLayout.MaxRecordBytes > bufferAt + filled && bufferAt + filled < end))
            {
                bufferAt = at;
                filled = (int)Math.Min(buffer.Length, end - bufferAt);
                device.Invalidate(segment.DeviceOffsetOf(bufferAt), filled);
                device.Read(segment.DeviceOffsetOf(bufferAt), buffer.AsSpan(0, filled));
            }
            ReadOnlySpan<byte> rest = buffer.AsSpan((int)(at - bufferAt), (int)(bufferAt + filled - at));
            if (RecordFrame.Parse(rest, seed, out _) == FrameVerdict.Good)
                return true;
            int zeros = rest.IndexOfAnyExcept((byte)0);
            at += Math.Max(RecordFrame.Alignment, (zeros < 0 ? rest.Length : zeros) / RecordFrame.Alignment * RecordFrame.Alignment);
        }
        return false;
    }

    /// <summary>True when whole frames, whatever their sequence and term, fill the segment from log offset <paramref name="from"/> to
    /// <paramref name="end"/>.</summary>
    public static bool IsWhole(DevicePool pool, Guid fileSystem, ulong generation, SegmentRef segment, long from, long end)
    {
        DaxDevice device = pool.Require(segment.Device);
        uint seed = Crc32C.Seed(fileSystem, generation, segment.Id);
        byte[] buffer = GC.AllocateUninitializedArray<byte>((int)Math.Max(0, Math.Min(ReadBytes, end - from)));
        while (from < end)
        {
            int filled = (int)Math.Min(buffer.Length, end - from);
            device.Invalidate(segment.DeviceOffsetOf(from), filled);
            device.Read(segment.DeviceOffsetOf(from), buffer.AsSpan(0, filled));
            int at = 0;
            FrameVerdict verdict = FrameVerdict.Good;
            while (at < filled && (verdict = RecordFrame.Parse(buffer.AsSpan(at, filled - at), seed, out RecordFrame frame)) == FrameVerdict.Good)
                at += frame.PaddedBytes;
            if (at == 0 || verdict == FrameVerdict.Corrupt)
                return false;
            from += at;
        }
        return from == end;
    }

    /// <summary>Follows frames from log offset <paramref name="from"/> to the first that is bad, out of turn or beyond
    /// <paramref name="end"/>, or at most <paramref name="limit"/> of them. <paramref name="only"/>: a frame of another term ends
    /// the run; zero: any term does that is below the one before it.</summary>
    public static FrameRun Follow(DevicePool pool, Guid fileSystem, ulong generation, SegmentRef segment, long from, long end, Term only = default, long limit = long.MaxValue)
    {
        DaxDevice device = pool.Require(segment.Device);
        uint seed = Crc32C.Seed(fileSystem, generation, segment.Id);
        byte[] buffer = GC.AllocateUninitializedArray<byte>((int)Math.Min(limit == 1 ? MediaLayout.MaxRecordBytes : ReadBytes, end - from));
        FrameRun run = new(0, from, default, default, default);
        long bufferAt = from;
        int filled = 0;
        while (run.End < end && run.Count < limit)
        {
            if (filled == 0 || (run.End + MediaLayout.MaxRecordBytes > bufferAt + filled && bufferAt + filled < end))
            {
                bufferAt = run.End;
                filled = (int)Math.Min(buffer.Length, end - bufferAt);
                device.Invalidate(segment.DeviceOffsetOf(bufferAt), filled);
                device.Read(segment.DeviceOffsetOf(bufferAt), buffer.AsSpan(0, filled));
            }
            if (RecordFrame.Parse(buffer.AsSpan((int)(run.End - bufferAt), (int)(bufferAt + filled - run.End)), seed, out RecordFrame frame) != FrameVerdict.Good
                || (frame.Flags & FrameFlags.Snapshot) != 0
                || (run.Count > 0 && (frame.Sequence != run.Last.Next || frame.Term < run.LastTerm))
                || (only.Value != 0 && frame.Term != only))
                break;
            run = new(run.Count + 1, run.End + frame.PaddedBytes, run.Count == 0 ? frame.Sequence : run.First, frame.Sequence, frame.Term);
        }
        return run;
    }
}
