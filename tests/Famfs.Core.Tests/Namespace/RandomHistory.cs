using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Namespace;
using Famfs.V1;
using Google.Protobuf;

namespace Famfs.Core.Tests.Namespace;

/// <summary>Random records of every type that a native log has, each of which follows from those before it; applied to every state
/// that is given.</summary>
internal sealed class RandomHistory
{
    public static readonly Guid FileSystem = new("00112233-4455-4677-8899-aabbccddeeff");

    private const int DeviceUnits = 4096;

    private readonly Random _random;
    private readonly RecordBatch _batch = new();
    private readonly List<ReplayState> _states;
    private readonly List<Entry> _named = [];
    private readonly List<ulong> _staged = [];
    private readonly List<ulong> _deleted = [];
    private readonly HashSet<ulong> _zeroing = [];
    private readonly List<ulong> _segments = [];
    private ulong _term = 64;
    private ulong _next = MediaLayout.FirstFreeInode;
    private ulong _nextUnit = 2;
    private long _now = 1_000_000;
    private int _slots;
    private readonly List<(Guid Host, uint Block)> _registered = [];
    private readonly List<uint> _free = [];
    private int _hosts;
    private uint _devices;
    private ulong _unique;

    public RandomHistory(int seed, params ReplayState[] states)
    {
        _random = new(seed);
        _states = [.. states];
        Add(RecordType.FileSystemCreated, new FileSystemCreated
        {
            TimeNs = Now(), FileSystemUuid = FileSystem.ToByteString(), Generation = 1, UnitBytes = MediaLayout.UnitBytes,
            RootInode = MediaLayout.RootInode, RootMode = 0x1ED, SuperblockInode = 3, HostTableInode = 4, Label = "random",
            HostTable = new() { OffsetBytes = MediaLayout.UnitBytes, LengthBytes = MediaLayout.UnitBytes },
        });
        AddDevice();
        Grant();
        StartTerm();
    }

    /// <summary>Whom the records go to from now on.</summary>
    public void GoOnWith(params ReplayState[] states)
    {
        _states.Clear();
        _states.AddRange(states);
    }

    /// <summary>Adds a number of records.</summary>
    public void Run(int records)
    {
        for (int i = 0; i < records; i++)
            Step();
    }

    private void Step()
    {
        switch (_random.Next(24))
        {
            case 0 when _devices < 4:
                AddDevice();
                break;
            case 1 when _slots < 5:
                Grant();
                break;
            case 2 when _random.Next(3) == 0:
                if (_random.Next(2) == 0)
                    Add(RecordType.TermEnded, new TermEnded { TimeNs = Now() });
                StartTerm();
                break;
            case 3:
                AddHostRecord();
                break;
            case 4:
                Add(RecordType.PolicySet, _random.Next(2) == 0 ? new PolicySet { TimeNs = Now(), DialectFloor = (uint)_random.Next(5) } : new PolicySet { TimeNs = Now(), LeaseMs = 1000, RequestId = RequestId() });
                break;
            case 5:
                ulong segment = _next++;
                Add(RecordType.SegmentReserved, new SegmentReserved { TimeNs = Now(), Inode = segment, Extent = Units(1 + _random.Next(3)) });
                _segments.Add(segment);
                break;
            case 6 when _segments.Count > 0:
                ulong old = TakeOne(_segments);
                Add(RecordType.Deleted, new Deleted { TimeNs = Now(), Inode = old });
                _deleted.Add(old);
                break;
            case 7 when _deleted.Count > 0:
                ulong zeroed = _deleted[_random.Next(_deleted.Count)];
                if (_zeroing.Add(zeroed))
                    Add(RecordType.ZeroingStarted, new ZeroingStarted { TimeNs = Now(), Inode = zeroed });
                break;
            case 8 when _zeroing.Count > 0:
                ulong free = _zeroing.ElementAt(_random.Next(_zeroing.Count));
                Add(RecordType.ExtentsReclaimed, new ExtentsReclaimed { TimeNs = Now(), Inode = free });
                _zeroing.Remove(free);
                _deleted.Remove(free);
                break;
            case 9 or 10 when _named.Count > 0:
                Remove(_named[_random.Next(_named.Count)]);
                break;
            case 11 or 12 when _named.Count > 0:
                Rename(_named[_random.Next(_named.Count)]);
                break;
            case 13 or 14 when _named.Count > 0:
                SetAttributes(_named[_random.Next(_named.Count)].Inode);
                break;
            case 15 when _named.Exists(e => e.Kind == InodeKind.File):
                Entry written = Choose(InodeKind.File);
                FilesWritten times = new() { TimeNs = Now() };
                times.Inodes.Add(written.Inode);
                times.TimesNs.Add(_now - _random.Next(5000));
                Add(RecordType.FilesWritten, times);
                break;
            case 16 when _staged.Count > 0:
                Publish();
                break;
            case 17:
                ulong staged = _next++;
                Add(RecordType.FileCreated, NewFile(staged, new() { Staged = true, OwnerMount = Guid.NewGuid().ToByteString() }));
                _staged.Add(staged);
                break;
            case 18:
                MakeDirectory();
                break;
            case 19:
                Entry link = NewEntry(InodeKind.Symlink);
                Add(RecordType.SymlinkMade, new SymlinkMade { TimeNs = Now(), Inode = link.Inode, Parent = link.Parent, Name = link.Name, Uid = 7, Target = ByteString.CopyFromUtf8(new string('t', 1 + _random.Next(300))), RequestId = RequestId() });
                break;
            default:
                Entry file = NewEntry(InodeKind.File);
                Add(RecordType.FileCreated, NewFile(file.Inode, new() { Parent = file.Parent, Name = file.Name, RequestId = RequestId(), RequestDigest = 5 }));
                break;
        }
    }

    private void AddHostRecord()
    {
        Guid host = new(_random.Next(1, 8), 1, 1, 1, 1, 1, 1, 1, 1, 1, 1);
        Guid mount = new(_random.Next(1, 20), 2, 1, 1, 1, 1, 1, 1, 1, 1, 1);
        switch (_random.Next(6))
        {
            case 0 or 1:
                Guid registered = Guid.NewGuid();
                uint block = (uint)_hosts++;
                if (_free.Count > 0 && _random.Next(2) == 0)
                {
                    (block, _hosts) = (_free[^1], _hosts - 1);
                    _free.RemoveAt(_free.Count - 1);
                }
                _registered.Add((registered, block));
                Add(RecordType.HostRegistered, new HostRegistered { TimeNs = Now(), HostId = registered.ToByteString(), HostSlot = block, Name = $"host {_hosts}", MachineDigest = ByteString.CopyFromUtf8("digest") });
                break;
            case 2 when _registered.Count > 0:
                (Guid forgotten, uint of) = _registered[0];
                _registered.RemoveAt(0);
                _free.Add(of);
                Add(RecordType.HostForgotten, new HostForgotten { TimeNs = Now(), HostId = forgotten.ToByteString(), HostSlot = of, RequestId = RequestId(), LineCounters = { Enumerable.Range(0, 8).Select(_ => (ulong)_random.Next(3)) }, LineMounts = { Enumerable.Range(0, 8).Select(i => i % 2 == 0 ? ByteString.Empty : RequestId()) } });
                break;
            case 3:
                Add(RecordType.HostGone, new HostGone { TimeNs = Now(), HostId = host.ToByteString(), MountId = mount.ToByteString(), Evidence = GoneEvidence.LossAccepted, Detail = "accepted" });
                break;
            case 4:
                Add(RecordType.HostGone, new HostGone { TimeNs = Now(), HostId = host.ToByteString(), MountId = mount.ToByteString(), Evidence = GoneEvidence.Operator, Detail = "gone" });
                break;
            default:
                Add(RecordType.HostGone, new HostGone { TimeNs = Now(), HostId = host.ToByteString(), Evidence = GoneEvidence.NewBoot, Detail = "booted" });
                break;
        }
    }

    private void Remove(Entry entry)
    {
        Add(RecordType.Deleted, new Deleted { TimeNs = Now(), Inode = entry.Inode, Parent = entry.Parent, Name = entry.Name, RequestId = RequestId() });
        Forget(entry);
    }

    private void Forget(Entry entry)
    {
        _named.Remove(entry);
        // As the record takes it: depth first, in the order of places. Only the set matters here.
        foreach (Entry below in _named.Where(e => e.Parent == entry.Inode).ToList())
            Forget(below);
        if (entry.Kind == InodeKind.File)
            _deleted.Add(entry.Inode);
    }

    private void Rename(Entry entry)
    {
        Entry? replaced = _random.Next(3) == 0 ? _named[_random.Next(_named.Count)] : null;
        ulong parent = replaced?.Parent ?? ChooseDirectory();
        if (replaced is not null && (replaced == entry || (replaced.Kind == InodeKind.Directory) != (entry.Kind == InodeKind.Directory) || _named.Exists(e => e.Parent == replaced.Inode)))
            return;
        for (ulong at = parent; at != MediaLayout.RootInode; at = _named.First(e => e.Inode == at).Parent)
        {
            if (at == entry.Inode)
                return;
        }
        ByteString name = replaced?.Name ?? NewName();
        Add(RecordType.Renamed, new Renamed { TimeNs = Now(), Inode = entry.Inode, OldParent = entry.Parent, OldName = entry.Name, NewParent = parent, NewName = name, ReplacedInode = replaced?.Inode ?? 0, RequestId = RequestId() });
        if (replaced is not null)
            Forget(replaced);
        (entry.Parent, entry.Name) = (parent, name);
    }

    private void SetAttributes(ulong inode)
    {
        AttributesSet set = new() { TimeNs = Now(), Inode = inode, RequestId = RequestId() };
        if (_random.Next(2) == 0)
            set.Mode = (uint)_random.Next(0x1000);
        if (_random.Next(3) == 0)
            (set.Uid, set.Gid) = ((uint)_random.Next(5), uint.MaxValue);
        if (_random.Next(3) == 0)
            set.AccessTimeNs = _random.Next(2) == 0 ? 0 : -_random.NextInt64(long.MaxValue);
        if (_random.Next(3) == 0)
            set.ModifyTimeNs = _random.Next(2) == 0 ? 0 : _random.NextInt64(long.MaxValue);
        ByteString name = ByteString.CopyFromUtf8($"user.{_random.Next(3)}");
        if (_random.Next(2) == 0)
            set.Attributes.Add(new ExtendedAttribute { Name = name, Value = ByteString.CopyFrom(new byte[_random.Next(3) switch { 0 => 0, 1 => 20, _ => 40_000 }]) });
        else if (_random.Next(2) == 0)
            set.Attributes.Add(new ExtendedAttribute { Name = name, Removed = true });
        Add(RecordType.AttributesSet, set);
    }

    private void Publish()
    {
        ulong inode = TakeOne(_staged);
        Entry? replaced = _random.Next(3) == 0 && _named.Exists(e => e.Kind == InodeKind.File) ? Choose(InodeKind.File) : null;
        Entry entry = new(inode, InodeKind.File) { Parent = replaced?.Parent ?? ChooseDirectory(), Name = replaced?.Name ?? NewName() };
        Add(RecordType.FilePublished, new FilePublished { TimeNs = Now(), Inode = inode, Parent = entry.Parent, Name = entry.Name, ReplacedInode = replaced?.Inode ?? 0 });
        if (replaced is not null)
            Forget(replaced);
        _named.Add(entry);
    }

    private void MakeDirectory()
    {
        Entry made = NewEntry(InodeKind.Directory);
        DirectoryMadeRecord record = new() { TimeNs = Now(), Inode = new(made.Inode), Parent = new(made.Parent), Name = made.Name.Span, Mode = 0x1FF, Uid = 1, Gid = 2 };
        byte[] payload = new byte[record.GetByteCount()];
        record.Write(payload);
        Add(RecordType.DirectoryMade, payload);
    }

    private FileCreated NewFile(ulong inode, FileCreated file)
    {
        int extents = _random.Next(10) == 0 ? 200 : 1 + _random.Next(3);
        bool interleaved = _random.Next(3) == 0;
        file.TimeNs = Now();
        file.Inode = inode;
        file.Mode = (uint)_random.Next(0x1000);
        file.Uid = (uint)_random.Next(3);
        file.Map = new() { ChunkBytes = interleaved ? (ulong)MediaLayout.UnitBytes : 0 };
        for (int i = 0; i < extents; i++)
            file.Map.Extents.Add(Units(1));
        file.SizeBytes = ((ulong)extents * MediaLayout.UnitBytes) - (ulong)_random.Next(MediaLayout.UnitBytes);
        return file;
    }

    private Entry NewEntry(InodeKind kind)
    {
        Entry entry = new(_next++, kind) { Parent = ChooseDirectory(), Name = NewName() };
        _named.Add(entry);
        return entry;
    }

    private Entry Choose(InodeKind kind)
    {
        Entry[] all = [.. _named.Where(e => e.Kind == kind)];
        return all[_random.Next(all.Length)];
    }

    private ulong ChooseDirectory()
    {
        Entry[] all = [.. _named.Where(e => e.Kind == InodeKind.Directory)];
        int i = _random.Next(all.Length + 1);
        return i == all.Length ? MediaLayout.RootInode : all[i].Inode;
    }

    private ulong TakeOne(List<ulong> from)
    {
        ulong taken = from[_random.Next(from.Count)];
        from.Remove(taken);
        return taken;
    }

    // Overlap is the allocator's to notice: none here.
    private Extent Units(int units)
    {
        if (_nextUnit + (ulong)units > DeviceUnits)
            _nextUnit = 2;
        ulong at = _nextUnit;
        _nextUnit += (ulong)units;
        return new() { Device = (uint)_random.Next((int)_devices), OffsetBytes = at * MediaLayout.UnitBytes, LengthBytes = (ulong)units * MediaLayout.UnitBytes };
    }

    private void AddDevice() => Add(RecordType.DeviceAdded, new DeviceAdded
    {
        TimeNs = Now(), Index = _devices++, DeviceUuid = Guid.NewGuid().ToByteString(), LengthBytes = DeviceUnits * (ulong)MediaLayout.UnitBytes,
        SuperblockInode = _devices == 1 ? 3 : _next++, Coherent = _random.Next(2) == 0, Name = "device",
    });

    private void Grant() => Add(RecordType.MasterSlotGranted, new MasterSlotGranted { TimeNs = Now(), Slot = (uint)_slots++, HostId = Guid.NewGuid().ToByteString(), SegmentInode = _next++, Segment = Units(1) });

    private void StartTerm()
    {
        _term += (ulong)_random.Next(1, 100);
        Add(RecordType.TermStarted, new TermStarted
        {
            TimeNs = Now(), Slot = (uint)(_term % 64), HostId = Guid.NewGuid().ToByteString(), Address = "http://10.0.0.1:1",
            AdoptedFrom = _random.Next(3) == 0 && _states[0].Position.Sequence.Value > 10 ? _states[0].Position.Sequence.Value - 3 : 0,
        });
    }

    private ByteString NewName() => ByteString.CopyFromUtf8($"{_unique++}{new string('n', _random.Next(20) == 0 ? 240 : _random.Next(10))}");

    private static ByteString RequestId() => Guid.CreateVersion7().ToByteString();

    private long Now() => _now += _random.Next(3);

    private void Add(RecordType type, IMessage record) => Add(type, record.ToByteArray());

    private void Add(RecordType type, byte[] payload)
    {
        _batch.Start(_states[0].Position.Sequence, new(_term), 1);
        payload.CopyTo(_batch.Reserve(payload.Length));
        ReadOnlySpan<byte> frame = _batch.Commit(payload.Length, type);
        foreach (ReplayState state in _states)
            state.Apply(RecordFrame.ReadVerified(frame));
    }

    private sealed class Entry(ulong inode, InodeKind kind)
    {
        public ulong Inode => inode;

        public InodeKind Kind => kind;

        public ulong Parent { get; set; }

        public ByteString Name { get; set; } = ByteString.Empty;
    }
}
