using System.Text;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.V1;
using Google.Protobuf;

namespace Famfs.Master.Rpc;

/// <summary>
/// How large an answer may be. gRPC libraries refuse received messages of more than 4 MiB unless told otherwise, and
/// metadata of more than 8 KiB. A caller whose request was carried out must not lose the answer to that.
/// </summary>
internal static class ReplyLimits
{
    /// <summary>Most bytes of one message of a stream (chosen: a quarter of what every library takes).</summary>
    public const int MessageBytes = 1 << 20;

    /// <summary>Most bytes of the elements in one message; the rest is for the fields around them.</summary>
    public const int ElementBytes = MessageBytes - 1024;

    /// <summary>Most items of a list in a unary answer that grows with the cluster (chosen).</summary>
    public const int ListedItems = 16;

    // Of the text of an error, which has 1 KiB; the rest is for what is said around the names.
    private const int NamesBytes = 900;

    /// <summary>Takes a list apart so that each part fits a message. An element that is larger by itself is a part of its own;
    /// an empty list is one empty part.</summary>
    public static IEnumerable<Range> Split<T>(IReadOnlyList<T> elements)
        where T : IMessage
    {
        const int TagAndLength = 6;
        int start = 0;
        int bytes = 0;
        for (int i = 0; i < elements.Count; i++)
        {
            int size = elements[i].CalculateSize() + TagAndLength;
            if (bytes + size > ElementBytes && i > start)
            {
                yield return start..i;
                (start, bytes) = (i, 0);
            }
            bytes += size;
        }
        if (start < elements.Count || elements.Count == 0)
            yield return start..elements.Count;
    }

    /// <summary>Takes records of a log in <paramref name="format"/> apart at frames, so that each part has at most
    /// <paramref name="most"/> bytes of them and says where it ends.</summary>
    public static IEnumerable<Records> Split(Records whole, MediaFormat format, int most = ElementBytes)
    {
        int start = 0;
        ulong sequence = whole.FirstSequence;
        while (start < whole.Frames.Length)
        {
            (int length, ulong count) = Fill(whole.Frames.Span[start..], most);
            yield return new()
            {
                FirstSequence = sequence,
                Generation = whole.Generation,
                SegmentId = whole.SegmentId,
                EndOffset = (ulong)format.OffsetBehind(new(sequence + count - 1), (long)whole.EndOffset, whole.Frames.Length - start - length),
                Frames = ByteString.CopyFrom(whole.Frames.Span.Slice(start, length)),
            };
            sequence += count;
            start += length;
        }
    }

    // At least one frame: none is as large as a message.
    private static (int Bytes, ulong Count) Fill(ReadOnlySpan<byte> frames, int most)
    {
        int bytes = 0;
        ulong count = 0;
        while (bytes < frames.Length)
        {
            int frame = RecordFrame.ReadVerified(frames[bytes..]).PaddedBytes;
            if (bytes + frame > most && count > 0)
                break;
            bytes += frame;
            count++;
        }
        return (bytes, count);
    }

    /// <summary>Says which mounts are missing, as far as a line has room: "HOST MOUNTPOINT (state)" for those that are known, and how
    /// many others there are.</summary>
    public static string Name(IReadOnlySet<Guid> missing, IReadOnlyList<HostStatus> known)
    {
        List<string> names = [.. known.Select(Name)];
        HashSet<Guid> described = [.. known.Select(h => h.MountId.ToGuid("mount id"))];
        names.AddRange(missing.Where(m => !described.Contains(m)).Select(m => m == Guid.Empty ? "an unreadable line of the host table" : $"mount {m} (unknown)"));
        int said = 0;
        for (int bytes = 0; said < names.Count && said < ListedItems; said++)
        {
            bytes += Encoding.UTF8.GetByteCount(names[said]) + 2;
            if (said > 0 && bytes > NamesBytes)
                break;
        }
        string others = names.Count > said ? $" and {names.Count - said} others" : "";
        return string.Join(", ", names.Take(said)) + others;
    }

    private static string Name(HostStatus mount)
    {
        string host = mount.Name.Length > 0 ? mount.Name : mount.HostId.ToGuid("host id").ToString();
        string place = mount.MountPoint.Length > 0 ? mount.MountPoint : $"mount {mount.MountId.ToGuid("mount id")}";
        return $"{StatusMap.Cut(host)} {StatusMap.Cut(place)} ({mount.State.ToString().ToLowerInvariant()})";
    }

    /// <summary>At most <see cref="ListedItems"/> lines, and how many more there are.</summary>
    public static IEnumerable<string> Shorten(IReadOnlyList<string> lines) => lines.Count <= ListedItems
        ? lines
        : [.. lines.Take(ListedItems), $"and {lines.Count - ListedItems} more like these"];
}
