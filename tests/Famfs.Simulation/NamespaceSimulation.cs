using System.Text;
using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.Core.Namespace;
using Famfs.Master.Changes;
using Famfs.Master.Role;
using Famfs.Master.State;
using Famfs.TestSupport;
using Famfs.TestSupport.Dax;
using Famfs.V1;

namespace Famfs.Simulation;

/// <summary>
/// The promises about names and space with the real changes, replay and allocator: callers create, remove, rename and replace at
/// random, hosts replay with any delay and keep files open, removed directories are taken apart at any time, masters are replaced
/// by others that have only the log.
/// <para>Checked at every step: a change is allowed or refused as POSIX has it (<see cref="NamespaceModel"/>); namespaces are equal at
/// equal positions; an open file keeps its map wherever it is open; no byte belongs to two inodes, those included that were
/// removed; space is accounted to the unit.</para>
/// </summary>
internal sealed class NamespaceSimulation : IDisposable
{
    private const int Hosts = 3;
    private const int DeviceUnits = 512;

    private static readonly string[] s_names = ["a", "b", "c"];

    private readonly Random _random;
    private readonly NamespaceModel _model = new();
    private readonly DevicePool _pool;
    private readonly RecordBatch _batch = new();
    private readonly List<byte[]> _log = []; // frames after those of mkfs
    private readonly Dictionary<ulong, string> _states = []; // of each position
    private readonly Dictionary<ulong, MapExtent[]> _extents = []; // of every file ever made
    private readonly HashSet<ulong> _deleted = [];
    private readonly Host[] _hosts;
    private MasterState _state = null!;
    private ChangeContext _context = null!;
    private int _term = 1;

    public NamespaceSimulation(int seed)
    {
        _random = new(seed);
        FakeSharedMemory memory = new(DeviceUnits * (long)MediaLayout.UnitBytes, seed, coherent: true) { AccidentOneIn = 0 };
        NativeFormatter.Format([memory.Attach("mkfs")], new() { Host = new(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11), Clock = TimeProvider.System });
        _pool = TestFormats.All.Open([memory.Attach("master")]);
        Start();
        _hosts = [.. Enumerable.Range(0, Hosts).Select(_ => new Host(_pool))];
        Record();
    }

    /// <summary>Records that were made, of each kind.</summary>
    public Dictionary<RecordType, int> Made { get; } = [];

    public void Run(int steps)
    {
        for (int step = 0; step < steps; step++)
        {
            Change();
            if (_random.Next(2) == 0)
                _state.Replay.TakeApart(_random.Next(1, 5));
            foreach (Host host in _hosts)
                host.Go(_random, _log, _states);
            if (_random.Next(60) == 0)
                Restart();
            if (_random.Next(200) == 0)
                Replace(_random.Next(Hosts));
            if (step % 10 == 0)
                RequireAccounts();
        }
        foreach (Host host in _hosts)
            host.GoTo(_log.Count, _log, _states);
        while (_state.Replay.HasSubtrees)
            _state.Replay.TakeApart(3);
        RequireAccounts();
        Require(_state.Replay.PendingReclaimBytes == _deleted.Sum(BytesOf), "the bytes of removed files are not the pending ones");
        Require(_deleted.Order().SequenceEqual(_state.Replay.Tree.EnumerateDeleted().Select(i => i.Value).Order()), "removed files are not the deleted ones");
    }

    public void Dispose()
    {
        foreach (Host host in _hosts)
            host.Dispose();
        _context.Dispose();
        _state.Replay.Dispose();
        _pool.Dispose();
    }

    private void Start()
    {
        _state = new(_pool, TimeProvider.System, new Random(_random.Next()));
        Recovery.Replay(_pool.Format.OpenReader(_pool, TimeProvider.System), _state.Replay, new LogIndex());
        foreach (byte[] frames in _log)
            _state.Replay.ApplyFrames(frames);
        _state.GoLive();
        _context = new(_state, _batch, TimeProvider.System, new Random(_random.Next()));
    }

    /// <summary>Another master, which has the log and nothing else.</summary>
    private void Restart()
    {
        _context.Dispose();
        _state.Replay.Dispose();
        _term++;
        Start();
        RequireSame("a new master", _state.Replay);
    }

    /// <summary>A host that comes anew.</summary>
    private void Replace(int host)
    {
        _hosts[host].Dispose();
        _hosts[host] = new(_pool);
    }

    private void Change()
    {
        string path = AnyPath();
        string to = AnyPath();
        bool flag = _random.Next(2) == 0;
        switch (_random.Next(10))
        {
            case 0 or 1 or 2:
                Compare($"create {path}", _model.RefuseNew(path), new FileCreation(new() { Path = path, SizeBytes = (ulong)_random.Next(1, 3 * MediaLayout.UnitBytes) }), reply =>
                {
                    _model.Add(path, reply.File.Inode, false);
                    _extents.Add(reply.File.Inode, [.. reply.File.Map.Extents.Select(e => new MapExtent(new((ushort)e.Device), (long)e.OffsetBytes, (long)e.LengthBytes))]);
                });
                break;
            case 3 or 4:
                Compare($"mkdir {path}", _model.RefuseNew(path), new DirectoryCreation(new() { Path = path }), reply => _model.Add(path, reply.Directory.Inode, true));
                break;
            case 5 or 6:
                Compare($"remove {path} {flag}", _model.RefuseRemoval(path, flag), new Removal(new() { Path = path, Recursive = flag }), _ => _deleted.UnionWith(_model.Remove(path)));
                break;
            default:
                Compare($"rename {path} {to} {flag}", _model.RefuseRename(path, to, flag), new Renaming(new() { OldPath = path, NewPath = to, Replace = flag }), _ =>
                {
                    if (_model.Rename(path, to) is var replaced and not 0)
                        _deleted.Add(replaced);
                });
                break;
        }
    }

    private void Compare<T>(string what, ErrorReason? expected, Change<T> change, Action<T> made)
    {
        _batch.Start(_context.Position.Sequence, new((ulong)_term * 64), 0);
        _context.Begin(new((ulong)_term * 64), 0, 1 << 20, long.MaxValue, 0);
        _context.BeginTurn(long.MaxValue);
        ErrorReason? reason = null;
        try
        {
            Require(change.Decide(_context).Kind == VerdictKind.Done, $"{what}: is not decided at once");
        }
        catch (FamfsException error)
        {
            reason = error.Reason;
        }
        if (reason == ErrorReason.NoSpace && expected is null)
            return;
        Require(reason == expected, $"{what}: {reason?.ToString() ?? "done"}, and should be {expected?.ToString() ?? "done"}");
        if (reason is not null)
            return;
        made(change.Reply);
        for (ReadOnlySpan<byte> frames = _batch.Frames; !frames.IsEmpty;)
        {
            RecordFrame frame = RecordFrame.ReadVerified(frames);
            Made[frame.Type] = Made.GetValueOrDefault(frame.Type) + 1;
            _log.Add(frames[..frame.PaddedBytes].ToArray());
            frames = frames[frame.PaddedBytes..];
        }
        Record();
        RequireSame(what, _state.Replay);
        Require(_states[_state.Replay.Position.Sequence.Value] == string.Join('\n', _model.Lines), $"{what}: the tree is not the model's");
    }

    private void Record() => _states[_state.Replay.Position.Sequence.Value] = Describe(_state.Replay);

    private void RequireSame(string who, ReplayState state) =>
        Require(Describe(state) == _states[state.Position.Sequence.Value], $"{who}: the namespace at {state.Position} is another one");

    /// <summary>No byte twice, whoever may still reach it, and every unit is free or somebody's.</summary>
    private void RequireAccounts()
    {
        MapExtent[] all = [.. _extents.Values.SelectMany(e => e).OrderBy(e => e.OffsetBytes)];
        for (int i = 1; i < all.Length; i++)
            Require(all[i - 1].OffsetBytes + all[i - 1].LengthBytes <= all[i].OffsetBytes, $"P2 broken: {all[i - 1]} and {all[i]}");
        ReplayState replay = _state.Replay;
        Require(replay.UsedBytes + _state.Allocator.FreeBytes == replay.CapacityBytes, $"{replay.UsedBytes} bytes used and {_state.Allocator.FreeBytes} free are not {replay.CapacityBytes}");
    }

    private long BytesOf(ulong inode) => _extents[inode].Sum(e => e.LengthBytes);

    /// <summary>A path that is there, or one below it, or any.</summary>
    private string AnyPath()
    {
        IReadOnlyList<string> paths = _model.Paths;
        string name = s_names[_random.Next(s_names.Length)];
        if (paths.Count == 0 || _random.Next(4) == 0)
            return name;
        string path = paths[_random.Next(paths.Count)];
        return _random.Next(3) == 0 && path.Count(c => c == '/') < 6 ? $"{path}/{name}" : path;
    }

    private static string Describe(ReplayState state)
    {
        List<string> lines = [];
        using TreeReader reader = state.Tree.RegisterReader();
        using TreeScope scope = reader.Enter();
        Collect(scope, InodeNumber.Root, "", lines);
        lines.Sort(StringComparer.Ordinal);
        return string.Join('\n', lines);
    }

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

    private static void Require(bool condition, string what)
    {
        if (!condition)
            throw new InvalidOperationException(what);
    }

    /// <summary>A copy of the namespace that follows the log, with files that programs have open.</summary>
    private sealed class Host : IDisposable
    {
        private readonly ReplayState _replay;
        private readonly TreeReader _reader;
        private readonly Dictionary<ulong, MapExtent[]> _open = [];
        private int _next;

        public Host(DevicePool pool)
        {
            _replay = new(new(pool.Primary.FileSystem, pool.Primary.Generation, default, default), 5);
            Recovery.Replay(pool.Format.OpenReader(pool, TimeProvider.System), _replay, new LogIndex());
            _reader = _replay.Tree.RegisterReader();
        }

        public void Go(Random random, List<byte[]> log, Dictionary<ulong, string> states)
        {
            // As the master does it, or at once.
            _replay.LeavesSubtrees = random.Next(2) == 0;
            if (random.Next(3) == 0)
                _replay.TakeApart(random.Next(1, 4));
            if (random.Next(4) == 0)
                GoTo(random.Next(_next, log.Count + 1), log, states);
            if (random.Next(10) == 0)
                OpenSome(random);
        }

        public void GoTo(int end, List<byte[]> log, Dictionary<ulong, string> states)
        {
            while (_next < end)
                _replay.ApplyFrames(log[_next++]);
            Require(Describe(_replay) == states[_replay.Position.Sequence.Value], $"a host's namespace at {_replay.Position} is another one");
            using TreeScope scope = _reader.Enter();
            foreach ((ulong inode, MapExtent[] extents) in _open)
                Require(MapOf(scope, new(inode)).SequenceEqual(extents), $"open file {inode} has another map");
        }

        public void Dispose()
        {
            _reader.Dispose();
            _replay.Dispose();
        }

        private void OpenSome(Random random)
        {
            using TreeScope scope = _reader.Enter();
            InodeNumber at = new((ulong)random.Next((int)_replay.NextInode.Value));
            if (!scope.TryGetNext(at, out InodeAttributes found) || found.Kind != InodeKind.File)
                return;
            // What OPEN looks at.
            if (found.Status == InodeStatus.Published)
                _open[found.Inode.Value] = MapOf(scope, found.Inode);
        }

        private static MapExtent[] MapOf(in TreeScope scope, InodeNumber inode)
        {
            Require(scope.TryGetMap(inode, out MapView map), $"file {inode} has no map");
            MapExtent[] extents = new MapExtent[map.ExtentCount];
            for (int i = 0; i < extents.Length; i++)
                extents[i] = map[i];
            return extents;
        }
    }
}
