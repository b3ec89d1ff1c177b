using Famfs.Core;
using Famfs.Core.Namespace;
using Famfs.V1;

namespace Famfs.Master.Changes;

/// <summary>How far the list of deleted files went at a position. Whoever has released everything up to that position has released
/// all files up to <see cref="Last"/>.</summary>
/// <param name="Position">The last record then.</param>
/// <param name="Last">The file deleted last then; none: there was none.</param>
internal sealed record DeletionMark(LogPosition Position, InodeNumber Last);

/// <summary>A deleted file that this term may store to.</summary>
/// <param name="Inode">The file.</param>
/// <param name="Extents">Its space.</param>
internal sealed record ReservedFile(InodeNumber Inode, IReadOnlyList<MapExtent> Extents)
{
    /// <summary>Bytes of its space.</summary>
    public long Bytes => Extents.Sum(e => e.LengthBytes);
}

/// <summary>What <see cref="ZeroingStart"/> has found.</summary>
internal sealed class ReservedFiles
{
    /// <summary>Files that are reserved to this term now, the ones deleted first come first.</summary>
    public List<ReservedFile> Files { get; } = [];

    /// <summary>Files that some mount still has.</summary>
    public HashSet<InodeNumber> Held { get; } = [];

    /// <summary>Files, or segments of the log, that a master of an earlier term may still store to.</summary>
    public HashSet<InodeNumber> Quarantined { get; } = [];

    /// <summary>Everything up to the mark was looked at.</summary>
    public bool IsWhole { get; set; }
}

/// <summary>
/// Reserves deleted files to this term, so that it may zero them (SAFETY S7, S17): those up to a mark that no mount has any
/// more, and those that an earlier term reserved and did not finish, once it is proved that it stores no more (S8). A segment of the
/// log is as a file; besides, no master of its slot may have it for one that it may store to.
/// </summary>
internal sealed class ZeroingStart : Change<ReservedFiles>
{
    /// <summary>Most files at once (chosen: a batch of records that takes a millisecond).</summary>
    public const int MaxFiles = 512;

    /// <summary>Bytes after which no other file is added (chosen: space comes back by and by, not all at the end).</summary>
    public const long EnoughBytes = 4L << 30;

    // A record of one inode takes less.
    private const int RecordBytes = 64;

    private readonly DeletionMark? _mark;
    private readonly IReadOnlySet<InodeNumber> _held = new HashSet<InodeNumber>();
    private readonly IReadOnlyList<InodeNumber> _named = [];

    /// <summary>Those up to <paramref name="mark"/>, to where every mount that counts has released, but for
    /// <paramref name="held"/>.</summary>
    public ZeroingStart(DeletionMark mark, IReadOnlySet<InodeNumber> held) => (_mark, _held) = (mark, held);

    /// <summary>These, which every mount that counts has released.</summary>
    public ZeroingStart(IReadOnlyList<InodeNumber> released) => _named = released;

    /// <inheritdoc/>
    public override int Files => MaxFiles;

    /// <inheritdoc/>
    public override Verdict Decide(ChangeContext context)
    {
        ReservedFiles reply = Reply = new();
        List<ReservedFile> found = Find(context, reply);
        foreach (ReservedFile file in found)
        {
            // It makes room: also where the log is full.
            if (!context.HasRoom(1, RecordBytes, out Verdict verdict) && !context.HasRoomForGrowth(RecordBytes, out verdict))
            {
                reply.IsWhole = false;
                return reply.Files.Count > 0 ? Verdict.Done : verdict;
            }
            context.Append(RecordType.ZeroingStarted, new ZeroingStarted { TimeNs = context.NowNs, Inode = file.Inode.Value });
            reply.Files.Add(file);
        }
        return Verdict.Done;
    }

    // The tree must not change during the walk.
    private List<ReservedFile> Find(ChangeContext context, ReservedFiles reply)
    {
        ReplayState replay = context.State.Replay;
        Dictionary<InodeNumber, Term> reserved = replay.Reservations.ToDictionary(r => r.Inode, r => r.Term);
        Dictionary<InodeNumber, int> segments = replay.FormerSegments.ToDictionary(s => s.Inode, s => s.Slot);
        Dictionary<int, bool> rests = [];
        List<ReservedFile> found = [];
        long bytes = 0;
        foreach (InodeNumber inode in _mark is null ? _named.Where(named => IsDeleted(context, named)) : replay.Tree.EnumerateDeleted())
        {
            if (found.Count == MaxFiles || bytes >= EnoughBytes)
                return found;
            bool isReserved = reserved.TryGetValue(inode, out Term term);
            if (isReserved && term == replay.HighestTerm)
            {
                // Under way.
            }
            else if (isReserved && !replay.IsProvedEnded(term))
            {
                reply.Quarantined.Add(inode);
            }
            else if (!isReserved && _held.Contains(inode))
            {
                reply.Held.Add(inode);
            }
            else if (segments.TryGetValue(inode, out int slot) && !IsAtRest(slot))
            {
                reply.Quarantined.Add(inode);
            }
            else
            {
                ReservedFile file = new(inode, ExtentsOf(context, inode));
                found.Add(file);
                bytes += file.Bytes;
            }
            if (inode == _mark?.Last)
            {
                reply.IsWhole = true;
                return found;
            }
        }
        bool IsAtRest(int slot) => rests.TryGetValue(slot, out bool known) ? known : rests[slot] = context.IsSlotAtRest(slot);

        // Where the end of what was released is not in the list, nothing tells where to stop.
        return _mark is null ? found : throw new InvalidOperationException($"inode {_mark.Last} is not among the deleted files");
    }

    private static bool IsDeleted(ChangeContext context, InodeNumber inode)
    {
        using TreeScope scope = context.Reader.Tree.Enter();
        return scope.TryGet(inode, out InodeAttributes found) && found.Status is InodeStatus.Deleted or InodeStatus.Zeroing;
    }

    private static List<MapExtent> ExtentsOf(ChangeContext context, InodeNumber inode)
    {
        List<MapExtent> extents = [];
        using TreeScope scope = context.Reader.Tree.Enter();
        if (scope.TryGetMap(inode, out MapView map))
        {
            for (int i = 0; i < map.ExtentCount; i++)
                extents.Add(map[i]);
        }
        return extents;
    }
}

/// <summary>Gives the space of zeroed files back: with its record a file is gone, and its space free (SAFETY S17). The reply is how
/// many are recorded, from the first on: all, or in a log without room fewer. What is recorded may be another file's.</summary>
/// <param name="zeroed">Files that this term has zeroed, the zeros fenced.</param>
internal sealed class SpaceReturn(IReadOnlyList<InodeNumber> zeroed) : Change<int>
{
    // A record of one inode takes less.
    private const int RecordBytes = 64;

    private int _next;

    /// <inheritdoc/>
    public override int Files => Math.Max(1, zeroed.Count);

    /// <inheritdoc/>
    public override Verdict Decide(ChangeContext context)
    {
        for (; _next < zeroed.Count; _next++)
        {
            // It makes room: also where the log is full.
            if (!context.HasRoom(1, RecordBytes, out Verdict verdict) && !context.HasRoomForGrowth(RecordBytes, out verdict))
                return verdict;
            context.Append(RecordType.ExtentsReclaimed, new ExtentsReclaimed { TimeNs = context.NowNs, Inode = zeroed[_next].Value });
        }
        Reply = _next;
        return Verdict.Done;
    }

    /// <inheritdoc/>
    public override bool GiveUp(ChangeContext context, FamfsException error)
    {
        Reply = _next;
        return _next > 0;
    }
}
