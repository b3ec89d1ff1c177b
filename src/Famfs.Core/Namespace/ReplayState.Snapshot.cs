using System.Collections.Immutable;
using Famfs.Core.Format;
using Famfs.V1;
using Google.Protobuf;

namespace Famfs.Core.Namespace;

/// <summary>What only an observer knows of the records before a snapshot.</summary>
/// <param name="Requests">Request ids that are remembered, the oldest first.</param>
/// <param name="DroppedMs">Ids made up to this time, ms since 1970, may have been forgotten for want of room; −1: none.</param>
public sealed record RememberedRequests(IEnumerable<RequestTrace> Requests, long DroppedMs)
{
    /// <summary>No ids, and none forgotten.</summary>
    public static readonly RememberedRequests None = new([], -1);
}

/// <summary>
/// The state as records, and back (SAFETY S19): docs/format.md, "Snapshot". A state that is read from a snapshot equals the one that was
/// written in all that anybody can see, the places in directories and the order of deleted files included.
/// </summary>
public sealed partial class ReplayState
{
    // Items of a SnapshotState record are added up to this many bytes; the largest one, with a 64 KiB policy, is never added to others.
    private const int TargetBytes = 32 * 1024;

    // Request ids of a record (chosen: it has up to 34 KB).
    private const int RequestsPerRecord = 512;

    private const int RequestIdBytes = 16;

    // Of the snapshot that is being read; null: none.
    private SnapshotBegin? _snapshot;
    private ulong _snapshotFrames;

    /// <summary>A part of a snapshot is here, not all of it: this is no state yet. Owner's thread.</summary>
    public bool IsInSnapshot => _snapshot is not null;

    /// <summary>The log goes on in this generation; positions are of it from here on. Owner's thread.</summary>
    public void EnterGeneration(ulong generation)
    {
        if (generation > Position.Generation)
            Position = Position with { Generation = generation };
    }

    /// <summary>Writes the state. Nobody changes it meanwhile. Frames number themselves from 1: the caller has written
    /// SnapshotBegin. Gives the frames written.</summary>
    /// <param name="sink">Takes them.</param>
    /// <param name="term">Who writes.</param>
    /// <param name="requests">Request ids that are remembered.</param>
    /// <param name="cancel">Ends it.</param>
    public ulong WriteSnapshot(IFrameSink sink, Term term, RememberedRequests requests, CancellationToken cancel)
    {
        if (HasSubtrees)
            TakeApart(int.MaxValue);
        SnapshotFrames frames = new(sink, term, cancel);
        foreach (SnapshotState part in DescribeTables(requests.DroppedMs))
            frames.Add(RecordType.SnapshotState, part);
        foreach (ForgottenBlock block in _tables.ForgottenBlocks.Values.OrderBy(b => b.Slot))
        {
            HostForgotten record = new() { HostId = block.Host.ToByteString(), HostSlot = (uint)block.Slot, LineCounters = { block.LineCounters }, LineMounts = { block.LineMounts.Select(m => m == Guid.Empty ? ByteString.Empty : m.ToByteString()) } };
            frames.Add(RecordType.SnapshotHostForgotten, new SnapshotHostForgotten { Sequence = block.Sequence.Value, Record = record });
        }
        using (TreeReader reader = Tree.RegisterReader())
            WriteInodes(frames, reader);
        foreach (RequestTrace[] some in requests.Requests.Chunk(RequestsPerRecord))
            frames.Add(RecordType.SnapshotRequests, Describe(some));
        frames.Add(RecordType.SnapshotEnd, new SnapshotEnd { Frames = frames.Count + 1 });
        return frames.Count;
    }

    private IEnumerable<SnapshotState> DescribeTables(long droppedMs)
    {
        Tables tables = _tables;
        SnapshotState part = new()
        {
            FileSystem = tables.FileSystem,
            NextInode = NextInode.Value,
            HighestTerm = HighestTerm.Value,
            HostSlots = (uint)tables.HostSlots,
            LastTermStarted = tables.LastTermStarted,
            LastStartedTerm = tables.LastStartedTerm.Value,
            TermHasEnded = tables.TermHasEnded,
            RequestsDroppedMs = droppedMs,
        };
        int bytes = part.CalculateSize();
        foreach ((int itemBytes, Action<SnapshotState> add) in Items(tables))
        {
            if (bytes + itemBytes > TargetBytes)
            {
                yield return part;
                part = new();
                bytes = 0;
            }
            add(part);
            bytes += itemBytes;
        }
        yield return part;
    }

    private static IEnumerable<(int Bytes, Action<SnapshotState> Add)> Items(Tables tables)
    {
        // Tag and length of an item in its list, at most.
        const int Head = 8;
        foreach (DeviceAdded device in tables.Devices)
            yield return (Head + device.CalculateSize(), s => s.Devices.Add(device));
        foreach ((int slot, Guid host) in tables.MasterSlots.OrderBy(s => s.Key))
        {
            MasterSlotGranted granted = new() { Slot = (uint)slot, HostId = host.ToByteString() };
            yield return (Head + granted.CalculateSize(), s => s.MasterSlots.Add(granted));
        }
        foreach (HostRecord host in tables.Hosts.Values.OrderBy(h => h.Slot))
        {
            HostRegistered registered = new() { HostId = host.Host.ToByteString(), HostSlot = (uint)host.Slot, Name = host.Name, MachineDigest = host.MachineDigest };
            yield return (Head + registered.CalculateSize(), s => s.Hosts.Add(registered));
        }
        foreach (GoneRecord gone in tables.Gone.Values.OrderBy(g => g.Mount))
        {
            HostGone record = Describe(gone);
            yield return (Head + record.CalculateSize(), s => s.Gone.Add(record));
        }
        yield return (Head + tables.Policy.CalculateSize(), s => s.Policies.Add(tables.Policy));
        foreach (OwnedSegment segment in tables.Segments.Concat(tables.FormerSegments))
        {
            SnapshotSegment owned = new() { Inode = segment.Inode.Value, Term = segment.Term.Value, Extent = Describe(segment.Extent), Slot = (uint)segment.Slot };
            yield return (Head + owned.CalculateSize(), s => s.Segments.Add(owned));
        }
        foreach ((LogSequence first, Term term) in tables.TermStarts)
            yield return (Head + 22, s => s.Terms.Add(new SnapshotTerm { Sequence = first.Value, Term = term.Value }));
        foreach ((Term term, LogSequence sequence) in tables.EndsInOrder.OrderBy(e => e.Key.Value))
            yield return (Head + 22, s => s.EndedTerms.Add(new SnapshotTerm { Sequence = sequence.Value, Term = term.Value }));
        foreach (Guid mount in tables.LossAccepted.Order())
            yield return (Head + 18, s => s.LossesAccepted.Add(mount.ToByteString()));
        foreach ((LogSequence sequence, GoneRecord record) in tables.GoneHosts.Values.OrderBy(g => g.Record.Host))
        {
            SnapshotHostGone gone = new() { Sequence = sequence.Value, Record = Describe(record) };
            yield return (Head + gone.CalculateSize(), s => s.GoneHosts.Add(gone));
        }
        foreach (Reservation reservation in tables.Reservations)
            yield return (Head + 22, s => s.Zeroing.Add(new SnapshotTerm { Sequence = reservation.Inode.Value, Term = reservation.Term.Value }));
    }

    private static SnapshotRequests Describe(RequestTrace[] requests)
    {
        SnapshotRequests record = new();
        byte[] ids = new byte[requests.Length * RequestIdBytes];
        for (int i = 0; i < requests.Length; i++)
        {
            RequestTrace request = requests[i];
            request.RequestId.TryWriteBytes(ids.AsSpan(i * RequestIdBytes), bigEndian: true, out _);
            record.RequestDigests.Add(request.Digest);
            record.TimesNs.Add(request.TimeNs);
            record.Sequences.Add(request.Sequence.Value);
            record.Terms.Add(request.Term.Value);
            record.Inodes.Add(request.Inode.Value);
            record.RecordTypes.Add((uint)request.Type);
        }
        record.RequestIds = UnsafeByteOperations.UnsafeWrap(ids);
        return record;
    }

    private static HostGone Describe(GoneRecord gone) => new()
    {
        HostId = gone.Host.ToByteString(),
        MountId = gone.Mount == Guid.Empty ? ByteString.Empty : gone.Mount.ToByteString(),
        Evidence = gone.Evidence,
        Detail = gone.Detail,
    };

    private static Extent Describe(MapExtent extent) =>
        new() { Device = extent.Device.Value, OffsetBytes = (ulong)extent.OffsetBytes, LengthBytes = (ulong)extent.LengthBytes };

    /// <summary>Directories before what is in them, children in the order of their places; then what has no name; then what is deleted,
    /// in that order.</summary>
    private void WriteInodes(SnapshotFrames frames, TreeReader reader)
    {
        Queue<InodeNumber> waiting = new();
        if (Tree.Root != InodeNumber.None)
        {
            using TreeScope scope = reader.Enter();
            scope.TryGet(Tree.Root, out InodeAttributes root);
            WriteInode(frames, scope, root, Tree.Root, default, 0);
            waiting.Enqueue(Tree.Root);
        }
        while (waiting.TryDequeue(out InodeNumber directory))
        {
            using TreeScope scope = reader.Enter();
            DirectoryEntries entries = scope.List(directory, 0);
            while (entries.MoveNext())
            {
                WriteInode(frames, scope, entries.Attributes, directory, entries.Name, entries.Cookie);
                if (entries.Attributes.Kind == InodeKind.Directory)
                    waiting.Enqueue(entries.Attributes.Inode);
            }
        }
        using (TreeScope scope = reader.Enter())
        {
            for (InodeNumber at = InodeNumber.None; scope.TryGetNext(at, out InodeAttributes found); at = found.Inode)
            {
                if ((found.Kind == InodeKind.System && found.Status == InodeStatus.Published) || found.Status == InodeStatus.Staged)
                    WriteInode(frames, scope, found, InodeNumber.None, default, 0);
            }
            foreach (InodeNumber deleted in Tree.EnumerateDeleted())
            {
                scope.TryGet(deleted, out InodeAttributes found);
                WriteInode(frames, scope, found, InodeNumber.None, default, 0);
            }
        }
    }

    private void WriteInode(SnapshotFrames frames, in TreeScope scope, in InodeAttributes inode, InodeNumber parent, ReadOnlySpan<byte> name, ulong cookie)
    {
        SnapshotInodeRecord record = new()
        {
            ChangeTimeNs = inode.ChangeTimeNs,
            AccessTimeNs = inode.AccessTimeNs,
            ModifyTimeNs = inode.ModifyTimeNs,
            Inode = inode.Inode,
            Parent = parent,
            Name = name,
            Mode = inode.Mode | inode.Kind switch
            {
                InodeKind.Directory => SnapshotInodeRecord.DirectoryType,
                InodeKind.File => SnapshotInodeRecord.FileType,
                InodeKind.Symlink => SnapshotInodeRecord.SymlinkType,
                _ => SnapshotInodeRecord.SystemType,
            },
            Uid = inode.Uid,
            Gid = inode.Gid,
            State = (InodeState)(int)inode.Status,
            Cookie = cookie,
            LastCookie = inode.Kind == InodeKind.Directory ? Tree.LastCookieOf(inode.Inode) : 0,
        };
        if (inode.Kind is InodeKind.File or InodeKind.System && scope.TryGetMap(inode.Inode, out MapView map))
        {
            for (int i = 0; i < map.ExtentCount; i++)
                _extents[i] = map[i];
            record.SizeBytes = inode.Kind == InodeKind.File ? inode.SizeBytes : 0;
            record.ChunkBytes = map.ChunkBytes;
            record.Extents = _extents.AsSpan(0, map.ExtentCount);
        }
        if (inode.Kind == InodeKind.Symlink && scope.TryGetSymlinkTarget(inode.Inode, out ReadOnlySpan<byte> target))
            record.Target = target;
        if (scope.TryGetOwnerMount(inode.Inode, out Guid owner))
            record.OwnerMount = owner.ToByteArray(bigEndian: true);

        Span<byte> payload = frames.Reserve(RecordFrame.MaxPayloadBytes);
        int bytes = record.Write(payload);
        ExtendedAttributes each = scope.ListExtendedAttributes(inode.Inode);
        while (each.MoveNext())
        {
            if (bytes + SnapshotInodeRecord.AttributeBytes(each.Name, each.Value) > payload.Length)
            {
                frames.Commit(bytes, RecordType.SnapshotInode);
                payload = frames.Reserve(RecordFrame.MaxPayloadBytes);
                bytes = new SnapshotInodeRecord { Inode = inode.Inode }.Write(payload);
            }
            bytes += SnapshotInodeRecord.WriteAttribute(payload[bytes..], each.Name, each.Value);
        }
        frames.Commit(bytes, RecordType.SnapshotInode);
    }

    /// <summary>Applies a frame of a snapshot; with its last one the state is whole.</summary>
    private void ApplySnapshotFrame(in RecordFrame frame)
    {
        if (frame.Sequence.Value != _snapshotFrames || (frame.Type == RecordType.SnapshotBegin) != (_snapshot is null))
            throw Contradiction($"frame {frame.Sequence} of a snapshot, a {frame.Type}, where frame {_snapshotFrames} is due", null);
        _begun = true;
        switch (frame.Type)
        {
            case RecordType.SnapshotBegin:
                Begin(SnapshotBegin.Parser.ParseFrom(frame.Payload));
                break;
            case RecordType.SnapshotState:
                Restore(SnapshotState.Parser.ParseFrom(frame.Payload));
                break;
            case RecordType.SnapshotHostForgotten:
                SnapshotHostForgotten f = SnapshotHostForgotten.Parser.ParseFrom(frame.Payload);
                ForgottenBlock block = Parse(f.Record ?? new(), new(f.Sequence));
                _tables = _tables with { ForgottenBlocks = _tables.ForgottenBlocks.SetItem(block.Slot, block) };
                break;
            case RecordType.SnapshotInode:
                RestoreInode(frame);
                break;
            case RecordType.SnapshotRequest:
                SnapshotRequest r = SnapshotRequest.Parser.ParseFrom(frame.Payload);
                _observer?.RequestSeen(new(r.RequestId.ToGuid("request id"), r.RequestDigest, r.TimeNs, (RecordType)r.RecordType, new(r.Inode), new(r.Sequence), new(r.Term)));
                break;
            case RecordType.SnapshotRequests:
                if (_observer is { FollowsRequests: true })
                    Tell(SnapshotRequests.Parser.ParseFrom(frame.Payload), frame.Sequence, _observer);
                break;
            case RecordType.SnapshotEnd:
                End(SnapshotEnd.Parser.ParseFrom(frame.Payload));
                return;
            default:
                throw new FamfsException(ErrorReason.NotSupportedByFormat, $"frame {frame.Sequence} of a snapshot has type {(int)frame.Type}, which this version does not know: made by a newer version");
        }
        _snapshotFrames++;
    }

    private void Begin(SnapshotBegin r)
    {
        if (Position.Sequence.Value != 0 || _tables.FileSystem is not null)
            throw Contradiction($"a snapshot follows {Position}", null);
        if (r.FileSystemUuid.ToGuid("uuid") != Position.FileSystem || r.Generation < Position.Generation || r.Sequence == 0)
            throw Contradiction($"a snapshot of file system {r.FileSystemUuid.ToGuid("uuid")}, generation {r.Generation}", null);
        EnterGeneration(r.Generation);
        _snapshot = r;
    }

    private void Restore(SnapshotState r)
    {
        Tables tables = _tables;
        if ((r.FileSystem is null) != (tables.FileSystem is not null))
            throw Contradiction("the file system is in another part of a snapshot than the first", null);
        if (r.FileSystem is not null)
        {
            RequireFileSystem(r.FileSystem, _startGeneration);
            tables = tables with
            {
                FileSystem = r.FileSystem,
                HostSlots = (int)r.HostSlots,
                LastTermStarted = r.LastTermStarted,
                LastStartedTerm = new(r.LastStartedTerm),
                TermHasEnded = r.TermHasEnded,
            };
            NextInode = new(r.NextInode);
            HighestTerm = new(r.HighestTerm);
            if (r.RequestsDroppedMs >= 0)
                _observer?.RequestsDropped(r.RequestsDroppedMs);
        }
        if (r.MasterSlots.Any(s => s.Slot >= Term.SlotCount) || r.Segments.Any(s => s.Slot >= Term.SlotCount))
            throw Contradiction("a master slot of a snapshot does not exist", null);
        tables = tables with
        {
            MasterSlots = tables.MasterSlots.SetItems(r.MasterSlots.Select(s => KeyValuePair.Create((int)s.Slot, s.HostId.ToGuid("host id")))),
            Hosts = tables.Hosts.SetItems(r.Hosts.Select(h => h.HostId.ToGuid("host id")).Zip(r.Hosts, (id, h) => KeyValuePair.Create(id, new HostRecord(id, (int)h.HostSlot, h.Name, h.MachineDigest)))),
            Gone = tables.Gone.SetItems(r.Gone.Select(Parse).Select(g => KeyValuePair.Create(g.Mount, g))),
            Policy = r.Policies.Count > 0 ? r.Policies[^1] : tables.Policy,
            TermStarts = tables.TermStarts.AddRange(r.Terms.Select(t => (new LogSequence(t.Sequence), new Term(t.Term)))),
            EndsInOrder = tables.EndsInOrder.SetItems(r.EndedTerms.Select(t => KeyValuePair.Create(new Term(t.Term), new LogSequence(t.Sequence)))),
            LossAccepted = tables.LossAccepted.Union(r.LossesAccepted.Select(m => m.ToGuid("mount id"))),
            GoneHosts = tables.GoneHosts.SetItems(r.GoneHosts.Select(g => (Sequence: new LogSequence(g.Sequence), Record: Parse(g.Record))).Select(g => KeyValuePair.Create(g.Record.Host, g))),
            Reservations = tables.Reservations.AddRange(r.Zeroing.Select(t => new Reservation(new(t.Sequence), new(t.Term), []))),
        };
        _tables = tables;
        foreach (DeviceAdded device in r.Devices)
        {
            RequireNextDevice(device);
            _tables = _tables with { Devices = _tables.Devices.Add(device) };
            Volatile.Write(ref _capacityBytes, _capacityBytes + (long)device.LengthBytes);
            _observer?.DeviceAdded(device);
        }
        // Their extents are those of inodes, which come later.
        _tables = _tables with { Segments = _tables.Segments.AddRange(r.Segments.Select(s => new OwnedSegment(new(s.Inode), (int)s.Slot, new(s.Term), RequireExtent(s.Extent)))) };
    }

    private static GoneRecord Parse(HostGone r) =>
        new(r.HostId.ToGuid("host id"), r.MountId.IsEmpty ? Guid.Empty : r.MountId.ToGuid("mount id"), r.Evidence, r.Detail);

    private void RestoreInode(in RecordFrame frame)
    {
        if (!SnapshotInodeRecord.TryRead(frame.Payload, _extents, out SnapshotInodeRecord r))
            throw Contradiction($"frame {frame.Sequence} of a snapshot (SnapshotInode) cannot be decoded", null);
        InodeNumber inode = Inode(r.Inode.Value);
        if (r.State != InodeState.Unspecified)
        {
            ReadOnlySpan<MapExtent> extents = r.Extents;
            long bytes = RequireExtents(extents);
            if (r.Inode.Value >= NextInode.Value)
                throw Contradiction($"inode {inode} is not below {NextInode}, the next one", null);
            Tree.Restore(r);
            if (!extents.IsEmpty)
            {
                Volatile.Write(ref _usedBytes, _usedBytes + bytes);
                _observer?.ExtentsTaken(inode, extents);
            }
            if (r.State is InodeState.Deleted or InodeState.Zeroing)
            {
                RemoveSegment(inode);
                Volatile.Write(ref _pendingReclaimBytes, _pendingReclaimBytes + bytes);
                _observer?.FileDeleted(inode);
            }
        }
        ReadOnlySpan<byte> attributes = r.Attributes;
        while (!attributes.IsEmpty)
        {
            if (!SnapshotInodeRecord.TryReadAttribute(ref attributes, out ReadOnlySpan<byte> name, out ReadOnlySpan<byte> value))
                throw Contradiction($"frame {frame.Sequence} of a snapshot has an attribute of inode {inode} that cannot be decoded", null);
            Tree.SetExtendedAttribute(inode, name, value);
        }
    }

    private void Tell(SnapshotRequests r, LogSequence frame, IReplayObserver observer)
    {
        int count = r.RequestDigests.Count;
        if (r.RequestIds.Length != count * RequestIdBytes || r.TimesNs.Count != count || r.Sequences.Count != count
            || r.Terms.Count != count || r.Inodes.Count != count || r.RecordTypes.Count != count)
            throw Contradiction($"frame {frame} of a snapshot (SnapshotRequests) has {count} digests and {r.RequestIds.Length} bytes of ids", null);
        for (int i = 0; i < count; i++)
        {
            ReadOnlySpan<byte> id = r.RequestIds.Span.Slice(i * RequestIdBytes, RequestIdBytes);
            observer.RecordBegins(id);
            observer.RequestSeen(new(new Guid(id, bigEndian: true), r.RequestDigests[i], r.TimesNs[i], (RecordType)r.RecordTypes[i], new(r.Inodes[i]), new(r.Sequences[i]), new(r.Terms[i])));
        }
    }

    private void End(SnapshotEnd r)
    {
        if (r.Frames != _snapshotFrames + 1)
            throw Contradiction($"a snapshot of {r.Frames} frames ends with frame {_snapshotFrames}", null);
        if (_tables.FileSystem is null || _tables.Devices.IsEmpty || Tree.Root == InodeNumber.None)
            throw Contradiction("a snapshot without file system, device or root", null);
        ImmutableArray<Reservation> reservations = _tables.Reservations;
        for (int i = 0; i < reservations.Length; i++)
        {
            int count = CopyExtents(reservations[i].Inode, out _);
            reservations = reservations.SetItem(i, reservations[i] with { Extents = [.. _extents.AsSpan(0, count)] });
        }
        _tables = _tables with { Reservations = reservations };
        Position = Position with { Sequence = new(_snapshot!.Sequence - 1), Term = new(_snapshot.LastTerm) };
        Volatile.Write(ref _applied, Position.Sequence.Value);
        _snapshot = null;
        _snapshotFrames = 0;
        _observer?.SnapshotRestored(Position);
    }

    /// <summary>Numbers the frames of a snapshot, after its first one.</summary>
    private sealed class SnapshotFrames(IFrameSink sink, Term term, CancellationToken cancel)
    {
        public ulong Count { get; private set; } = 1;

        public Span<byte> Reserve(int maxBytes) => sink.Reserve(maxBytes);

        public void Commit(int bytes, RecordType type)
        {
            cancel.ThrowIfCancellationRequested();
            sink.Commit(bytes, type, FrameFlags.Snapshot, new(Count++), term);
        }

        public void Add(RecordType type, IMessage payload)
        {
            int size = payload.CalculateSize();
            payload.WriteTo(Reserve(size)[..size]);
            Commit(size, type);
        }
    }
}
