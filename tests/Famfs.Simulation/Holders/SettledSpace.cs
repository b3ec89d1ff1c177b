using System.Text;
using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Namespace;
using Famfs.Master.Role;
using Famfs.Master.State;
using Famfs.TestSupport.Dax;
using Famfs.V1;

namespace Famfs.Simulation.Holders;

/// <summary>
/// The one history, as whoever sees everything has it: every record that a master showed, a host replayed or a new master began
/// with, and what it makes of names and space. It never changes what it has.
/// </summary>
internal sealed class SettledSpace : IReplayObserver, IDisposable
{
    private readonly FakeSharedMemory _memory;
    private readonly ReplayState _state;
    private readonly TreeReader _reader;
    private readonly List<byte[]> _frames = []; // by sequence − 1
    private readonly Dictionary<ulong, string> _names = []; // namespaces by sequence
    private readonly Dictionary<ulong, MapExtent[]> _owned = []; // by inode: not given back
    private readonly Dictionary<ulong, MapExtent[]> _ever = [];
    private readonly Dictionary<ulong, Term> _acknowledged = []; // by sequence: what is not in the history yet

    public SettledSpace(FakeSharedMemory memory, LogPosition start)
    {
        _memory = memory;
        _state = new(start, 7, this);
        _reader = _state.Tree.RegisterReader();
    }

    /// <summary>Space became free, or a file's: asks whether anybody reaches it. The file is 0 when it became free.</summary>
    public Action<ulong, MapExtent>? Changed { get; set; }

    public ReplayState State => _state;

    /// <summary>Records, by type.</summary>
    public Dictionary<RecordType, int> Made { get; } = [];

    public ulong Last => _state.Position.Sequence.Value;

    /// <summary>A record reserves a byte to a term, and none has given it to another since.</summary>
    public bool IsReservedTo(Term term, long offset) =>
        _state.Reservations.Any(r => r.Term == term && r.Extents.Any(e => offset >= e.OffsetBytes && offset < e.OffsetBytes + e.LengthBytes));

    /// <summary>Which block of the host table a host has.</summary>
    public int? SlotOf(Guid host) => _state.Hosts.TryGetValue(host, out HostRecord? record) ? record.Slot : null;

    /// <summary>A byte that segments of the log have.</summary>
    public bool IsOfLog(long offset)
    {
        foreach (OwnedSegment segment in _state.Segments)
        {
            if (offset >= segment.Extent.OffsetBytes && offset < segment.Extent.OffsetBytes + segment.Extent.LengthBytes)
                return true;
        }
        return false;
    }

    /// <summary>Every file whose space is not free, with it.</summary>
    public IReadOnlyDictionary<ulong, MapExtent[]> Owned => _owned;

    /// <summary>Frames that somebody relies on, one after another. A gap is filled from the memory first.</summary>
    public void Rely(string who, ReadOnlySpan<byte> frames)
    {
        while (!frames.IsEmpty)
        {
            RecordFrame frame = RecordFrame.ReadVerified(frames);
            ReadOnlySpan<byte> bytes = frames[..frame.PaddedBytes];
            ulong sequence = frame.Sequence.Value;
            if (sequence > Last + 1)
                Read();
            if (sequence > Last + 1)
                throw new InvalidOperationException($"P1 broken: {who} relies on record {sequence}, and {Last} is the last one");
            if (sequence <= Last)
            {
                if (!_frames[(int)sequence - 1].AsSpan().SequenceEqual(bytes))
                    throw new InvalidOperationException($"P1 broken: {who} relies on another record {sequence} than somebody before");
            }
            else
            {
                _frames.Add(bytes.ToArray());
                Made[frame.Type] = Made.GetValueOrDefault(frame.Type) + 1;
                _state.ApplyFrames(bytes);
                _names[sequence] = Describe(_reader);
                if (_acknowledged.Remove(sequence, out Term term))
                    RequireTerm(sequence, term);
            }
            frames = frames[frame.PaddedBytes..];
        }
    }

    /// <summary>A caller was told that its change is made, at this position. Its record is in the history, or will be: a claimant may keep
    /// readers from it for now.</summary>
    public void RequireKept(LogPosition position)
    {
        ulong sequence = position.Sequence.Value;
        if (sequence > Last)
            _acknowledged[sequence] = position.Term;
        else
            RequireTerm(sequence, position.Term);
    }

    /// <summary>Nothing that was acknowledged is missing from the history, now that all of it was read.</summary>
    public void RequireAllKept()
    {
        if (_acknowledged.Count > 0)
            throw new InvalidOperationException($"P1 broken: record {_acknowledged.Keys.Max()} was acknowledged, and {Last} is the last one");
    }

    /// <summary>A namespace that somebody has at a position is the one of that position.</summary>
    public void RequireSame(string who, LogPosition position, TreeReader reader)
    {
        string has = Describe(reader);
        if (_names.TryGetValue(position.Sequence.Value, out string? names) && names != has)
            throw new InvalidOperationException($"{who} at {position} has the names\n{has}\nand should have\n{names}");
    }

    /// <summary>Extents that were given to a file after they had been another's.</summary>
    public long Reuses { get; private set; }

    /// <summary>The path of a file that there is; empty: there is none.</summary>
    public string AnyFile(Random random)
    {
        string[] files = [.. Describe(_reader).Split('\n').Where(l => l.Length > 0 && l[^1] != '/').Select(l => l[..l.LastIndexOf(' ')])];
        return files.Length == 0 ? "" : files[random.Next(files.Length)];
    }

    /// <summary>Where a file's space was when it was made; null: nobody made it.</summary>
    public MapExtent[]? EverOf(ulong inode) => _ever.GetValueOrDefault(inode);

    /// <summary>A file's bytes may be loaded and stored by who has it: nobody zeroes it, and it is not given back.</summary>
    public bool MayTouch(ulong inode)
    {
        using TreeScope scope = _reader.Enter();
        return scope.TryGet(new(inode), out InodeAttributes found) && found.Status is InodeStatus.Published or InodeStatus.Deleted;
    }

    /// <summary>A byte is in a file's space, which is not given back.</summary>
    public bool IsOf(ulong inode, long offset) =>
        _owned.TryGetValue(inode, out MapExtent[]? extents) && extents.Any(e => offset >= e.OffsetBytes && offset < e.OffsetBytes + e.LengthBytes);

    public InodeStatus? StatusOf(ulong inode)
    {
        using TreeScope scope = _reader.Enter();
        return scope.TryGet(new(inode), out InodeAttributes found) ? found.Status : null;
    }

    /// <summary>Reads the memory as a host does that has no cache.</summary>
    public void Read()
    {
        Action<string, string, long>? hook = _memory.BeforeAccess;
        _memory.BeforeAccess = null;
        try
        {
            using DevicePool pool = TestSupport.TestFormats.All.Open([_memory.Attach($"observer-{Guid.NewGuid()}")]);
            ILogReader reader = pool.Format.OpenReader(pool, new Famfs.TestSupport.Log.HastyClock());
            while (reader.Poll(out LogBlock block) == PollVerdict.Records)
                Rely("who reads the memory", block.Frames.Span);
        }
        finally
        {
            _memory.BeforeAccess = hook;
        }
    }

    public static string Describe(TreeReader reader)
    {
        List<string> lines = [];
        using TreeScope scope = reader.Enter();
        Collect(scope, InodeNumber.Root, "", lines);
        lines.Sort(StringComparer.Ordinal);
        return string.Join('\n', lines);
    }

    public void Dispose()
    {
        _reader.Dispose();
        _state.Dispose();
    }

    private void RequireTerm(ulong sequence, Term term)
    {
        Term found = RecordFrame.ReadVerified(_frames[(int)sequence - 1]).Term;
        if (found != term)
            throw new InvalidOperationException($"P1 broken: record {sequence} was acknowledged by term {term}, and is of term {found}");
    }

    void IReplayObserver.ExtentsTaken(InodeNumber inode, ReadOnlySpan<MapExtent> extents)
    {
        if (_ever.ContainsKey(inode.Value) && !_owned.ContainsKey(inode.Value))
            throw new InvalidOperationException($"S19 broken: inode {inode} is made again");
        foreach (MapExtent extent in extents)
        {
            foreach ((ulong other, MapExtent[] owned) in _owned)
            {
                if (owned.Any(o => Overlap(o, extent)))
                    throw new InvalidOperationException($"P2 broken: inode {inode} gets {extent}, which inode {other} has");
            }
            Changed?.Invoke(inode.Value, extent);
            MapExtent taken = extent;
            if (_ever.Values.Any(e => e.Any(o => Overlap(o, taken))))
                Reuses++;
        }
        _owned[inode.Value] = _owned.TryGetValue(inode.Value, out MapExtent[]? before) ? [.. before, .. extents] : extents.ToArray();
        _ever[inode.Value] = _owned[inode.Value];
    }

    void IReplayObserver.ExtentsFreed(InodeNumber inode, ReadOnlySpan<MapExtent> extents)
    {
        _owned.Remove(inode.Value);
        foreach (MapExtent extent in extents)
            Changed?.Invoke(0, extent);
    }

    void IReplayObserver.EntryChanged(InodeNumber parent, ReadOnlySpan<byte> name)
    {
    }

    void IReplayObserver.InodeChanged(InodeNumber inode)
    {
    }

    void IReplayObserver.FileDeleted(InodeNumber inode)
    {
    }

    void IReplayObserver.DeviceAdded(DeviceAdded device)
    {
    }

    void IReplayObserver.RequestSeen(in RequestTrace request)
    {
    }

    public static bool Overlap(in MapExtent a, in MapExtent b) =>
        a.Device == b.Device && a.OffsetBytes < b.OffsetBytes + b.LengthBytes && b.OffsetBytes < a.OffsetBytes + a.LengthBytes;

    private static void Collect(in TreeScope scope, InodeNumber directory, string prefix, List<string> lines)
    {
        DirectoryEntries entries = scope.List(directory, 0);
        while (entries.MoveNext())
        {
            InodeAttributes found = entries.Attributes;
            string path = prefix + Encoding.UTF8.GetString(entries.Name);
            lines.Add($"{path} {found.Inode}{(found.Kind == InodeKind.Directory ? "/" : "")}");
            if (found.Kind == InodeKind.Directory)
                Collect(scope, found.Inode, path + "/", lines);
        }
    }
}
