using System.Collections.Immutable;
using Famfs.Core.Format;
using Famfs.V1;
using Google.Protobuf;

namespace Famfs.Core.Namespace;

/// <summary>A segment space that the log gives to a term, or the first one of a slot (term 0).</summary>
public readonly record struct OwnedSegment(InodeNumber Inode, int Slot, Term Term, MapExtent Extent);

/// <summary>Space that a record gives to a term to store to, beside segments: a file being zeroed (SAFETY S7, S10).</summary>
public readonly record struct Reservation(InodeNumber Inode, Term Term, ImmutableArray<MapExtent> Extents);

/// <summary>A host in the log: where its lines are and how it is called.</summary>
public sealed record HostRecord(Guid Host, int Slot, string Name, ByteString MachineDigest);

/// <summary>A mount that is proved unable to touch memory any more; without a mount id every mount of the host.</summary>
public readonly record struct GoneRecord(Guid Host, Guid Mount, GoneEvidence Evidence, string Detail);

/// <summary>The last forgetting of a block of the host table: when, of whom, and the counters and mounts of the lines that its entries
/// had.</summary>
public readonly record struct ForgottenBlock(LogSequence Sequence, Guid Host, int Slot, ImmutableArray<ulong> LineCounters, ImmutableArray<Guid> LineMounts)
{
    /// <summary>The line that an entry had then.</summary>
    public bool Has(int entry, ulong counter, Guid mount)
    {
        int index = entry % MediaLayout.EntriesPerHost;
        return LineCounters[index] == counter && LineMounts[index] == mount;
    }
}

/// <summary>
/// Everything the log says, as of <see cref="Position"/>: state is nothing but replay(log). Apply is
/// called by one thread, the owner; <see cref="Tree"/> may be read through its readers by any, and the
/// properties marked so by any. A record that contradicts the state throws MEDIA_CORRUPT and the state is
/// as before it. A shortage of this process (<see cref="FamfsException.IsShortage"/>) passes as it is; the state is as before the
/// record unless <see cref="TornAt"/> names it.
/// </summary>
public sealed partial class ReplayState : IDisposable
{
    private readonly IReplayObserver? _observer;

    // Its own from the start: however many others read the tree, a record is applied.
    private readonly TreeReader _reader;
    private readonly MapExtent[] _extents = new MapExtent[InodeTree.MaxExtentsPerFile];
    private readonly List<MapExtent> _excluded = [];
    private readonly SubtreeEntryRemoved _onRemoved;
    private readonly ulong _startGeneration;
    private ulong _framesGeneration; // that the frames at hand are of, or less

    // Owner: the applying thread; published whole for other readers.
    private volatile Tables _tables = new();
    private bool _begun; // the record at hand may have changed something
    private ulong _applied;
    private long _capacityBytes;
    private long _usedBytes;
    private long _pendingReclaimBytes;

    /// <summary>An empty state of the file system that <paramref name="start"/> names.</summary>
    public ReplayState(LogPosition start, UInt128 hashKey, IReplayObserver? observer = null)
    {
        Position = start;
        _startGeneration = start.Generation;
        Tree = new InodeTree(hashKey);
        _reader = Tree.RegisterReader();
        _observer = observer;
        _onRemoved = OnRemoved;
    }

    /// <summary>The namespace.</summary>
    public InodeTree Tree { get; }

    /// <summary>A record of which a part may be here, because this process ran short of something while it was applied; none: 0. Nothing
    /// can follow it here. Owner's thread.</summary>
    public LogSequence TornAt { get; private set; }

    /// <summary>Last applied record. Owner's thread.</summary>
    public LogPosition Position { get; private set; }

    /// <summary>The first record. Any thread; null before it.</summary>
    public FileSystemCreated? FileSystem => _tables.FileSystem;

    /// <summary>Bytes of the allocation unit. Any thread.</summary>
    public long UnitBytes => (long)(_tables.FileSystem?.UnitBytes ?? MediaLayout.UnitBytes);

    /// <summary>Devices by index. Any thread.</summary>
    public ImmutableArray<DeviceAdded> Devices => _tables.Devices;

    /// <summary>Registered hosts. Any thread.</summary>
    public ImmutableDictionary<Guid, HostRecord> Hosts => _tables.Hosts;

    /// <summary>Blocks of the host table that were taken from a host, by slot; another may have one by now. Any thread.</summary>
    public ImmutableDictionary<int, ForgottenBlock> ForgottenBlocks => _tables.ForgottenBlocks;

    /// <summary>The host that has a block of the host table; empty: none. Any thread.</summary>
    public Guid FindBlockOwner(int slot)
    {
        foreach (HostRecord host in _tables.Hosts.Values)
        {
            if (host.Slot == slot)
                return host.Host;
        }
        return Guid.Empty;
    }

    /// <summary>Whether a line of the host table came, after its block was taken from a host, from a mount of another host than the one
    /// that has the block now. It may hide a line of the owner's (SAFETY S11). A host that had the block before others may have stored it
    /// with any counter, so what was there is known by counter and mount. Any thread.</summary>
    public bool IsForeign(int entry, MountLine line)
    {
        Tables tables = _tables;
        int slot = entry / MediaLayout.EntriesPerHost;
        return tables.ForgottenBlocks.TryGetValue(slot, out ForgottenBlock forgotten)
            && !forgotten.Has(entry, line.Counter, line.Mount)
            && !(tables.Hosts.TryGetValue(line.Host, out HostRecord? host) && host.Slot == slot)
            && FindBlockOwner(slot) != Guid.Empty;
    }

    /// <summary>Slots of the host table that may be in use: one more than the highest granted. Any thread.</summary>
    public int HostSlots => _tables.HostSlots;

    /// <summary>Master slots: slot → host. Any thread.</summary>
    public ImmutableDictionary<int, Guid> MasterSlots => _tables.MasterSlots;

    /// <summary>Segment spaces. Any thread.</summary>
    public ImmutableArray<OwnedSegment> Segments => _tables.Segments;

    /// <summary>Segment spaces that were deleted and are not reclaimed, in the order of deletion: a master of their slot may still store
    /// there (SAFETY S8). Any thread.</summary>
    public ImmutableArray<OwnedSegment> FormerSegments => _tables.FormerSegments;

    /// <summary>Space that is being zeroed, with the term that does it. Any thread.</summary>
    public ImmutableArray<Reservation> Reservations => _tables.Reservations;

    /// <summary>Whether the log proves that the master of a term stores to what was reserved to it no more (SAFETY S8, S14): its term ended
    /// in order, or a later one of its slot started, whose master has the lock that the process of this one held as long as it
    /// lived, or all of its host is recorded as gone since. Any thread.</summary>
    public bool IsProvedEnded(Term term)
    {
        Tables tables = _tables;
        if (tables.EndsInOrder.ContainsKey(term))
            return true;
        LogSequence first = default;
        foreach ((LogSequence began, Term other) in tables.TermStarts)
        {
            if (other.Slot == term.Slot && other > term)
                return true;
            if (other == term)
                first = began;
        }
        return tables.MasterSlots.TryGetValue(term.Slot, out Guid host)
            && tables.GoneHosts.TryGetValue(host, out (LogSequence Sequence, GoneRecord Record) all) && all.Sequence.Value > first.Value
            && all.Record.Evidence is not GoneEvidence.LossAccepted;
    }

    /// <summary>Whether the log proves that no process of a slot stores to the spaces of the slot any more, whatever it has read, where
    /// <paramref name="claimed"/> is the highest term that was claimed there. Who has claimed and has no record yet may be about to store.
    /// Any thread.</summary>
    public bool IsSlotAtRest(Term claimed) => claimed.Value == 0 || (_tables.TermStarts.Any(start => start.Term == claimed) && IsProvedEnded(claimed));

    /// <summary>Term of the last <c>TermStarted</c>; none before the first. Any thread.</summary>
    public Term LastStartedTerm => _tables.LastStartedTerm;

    /// <summary>Mounts that records name as gone, by mount id; <see cref="FindGone"/> knows those that go with their host too. Any
    /// thread.</summary>
    public ImmutableDictionary<Guid, GoneRecord> Gone => _tables.Gone;

    /// <summary>What the log says of the end of a mount, or null. Any thread.</summary>
    /// <param name="host">The mount's host.</param>
    /// <param name="mount">The mount.</param>
    /// <param name="replayed">The last record that the mount is known to have replayed. A record that ends all mounts of a host
    /// is about those which had not replayed it: a later one replays it before its first open.</param>
    public GoneRecord? FindGone(Guid host, Guid mount, LogSequence replayed)
    {
        Tables tables = _tables;
        if (tables.Gone.TryGetValue(mount, out GoneRecord record))
            return record;
        return tables.GoneHosts.TryGetValue(host, out (LogSequence Sequence, GoneRecord Record) all) && replayed.Value < all.Sequence.Value ? all.Record : null;
    }

    /// <summary>An operator went on without records that the mount had. Any thread.</summary>
    public bool IsLossAccepted(Guid mount) => _tables.LossAccepted.Contains(mount);

    /// <summary>The latest start of a term, and whether it has ended. Any thread.</summary>
    public TermStarted? LastTermStarted => _tables.LastTermStarted;

    /// <summary>True when the last record is the clean end of its term. Any thread.</summary>
    public bool TermHasEnded => _tables.TermHasEnded;

    /// <summary>Policies in force. Any thread.</summary>
    public PolicySet Policy => _tables.Policy;

    /// <summary>Term of an applied record; null for one that is not in this history as far as it is applied
    /// here (a position names both, SAFETY S5). Any thread.</summary>
    public Term? FindTerm(LogSequence sequence)
    {
        ImmutableArray<(LogSequence First, Term Term)> terms = _tables.TermStarts;
        int low = 0;
        int high = terms.Length - 1;
        while (low < high)
        {
            int middle = (low + high + 1) / 2;
            if (terms[middle].First.Value <= sequence.Value)
                low = middle;
            else
                high = middle - 1;
        }
        return terms.Length > 0 && terms[low].First.Value <= sequence.Value && sequence.Value <= Volatile.Read(ref _applied) ? terms[low].Term : null;
    }

    /// <summary>Next inode number to give. Owner's thread.</summary>
    public InodeNumber NextInode { get; private set; } = new(MediaLayout.FirstFreeInode);

    /// <summary>Entries of another format that have no effect. Owner's thread.</summary>
    public long IgnoredCount { get; private set; }

    /// <summary>Extents of files in such entries, which may overlap anything. Existing tools see those files, so
    /// what is free of this space is not given away. Owner's thread.</summary>
    public IReadOnlyList<MapExtent> ExcludedExtents => _excluded;

    /// <summary>Highest term of any record. Owner's thread.</summary>
    public Term HighestTerm { get; private set; }

    /// <summary>Bytes of all devices. Any thread.</summary>
    public long CapacityBytes => Volatile.Read(ref _capacityBytes);

    /// <summary>Bytes of extents in use, the file system's own included. Any thread.</summary>
    public long UsedBytes => Volatile.Read(ref _usedBytes);

    /// <summary>Bytes of deleted files that are not reclaimed. What lies below a removed directory counts when it is taken apart. Any
    /// thread.</summary>
    public long PendingReclaimBytes => Volatile.Read(ref _pendingReclaimBytes);

    /// <summary>Removed directories are not taken apart when their record is applied: the owner does it, by <see cref="TakeApart"/>,
    /// before the next look at anything that counts. Owner's thread.</summary>
    public bool LeavesSubtrees { get; set; }

    /// <summary>There is something for <see cref="TakeApart"/> to do. Any thread.</summary>
    public bool HasSubtrees => Tree.RemovedDirectoryCount != 0;

    /// <summary>Takes up to <paramref name="most"/> inodes of removed directories apart; gives how many. What comes of it does not
    /// depend on when it is done. Owner's thread. After a shortage of this process, which passes as it is, the state is torn.</summary>
    public int TakeApart(int most) => Tree.TakeApart(most, _onRemoved);

    /// <summary>Applies frames whose checksums have been verified. Gives the number applied.</summary>
    public int ApplyFrames(ReadOnlySpan<byte> frames)
    {
        int count = 0;
        foreach (RecordFrame frame in new RecordFrames(frames))
        {
            Apply(frame);
            count++;
        }
        return count;
    }

    /// <summary>Applies frames of <paramref name="generation"/>, as <see cref="ApplyFrames(ReadOnlySpan{byte})"/>. Positions are of it
    /// with the first.</summary>
    public int ApplyFrames(ulong generation, ReadOnlySpan<byte> frames)
    {
        _framesGeneration = Math.Max(_framesGeneration, generation);
        return ApplyFrames(frames);
    }

    /// <summary>Applies one record. Throws MEDIA_CORRUPT when it cannot follow what is there, and
    /// NOT_SUPPORTED_BY_FORMAT for a type that this version must know and does not.</summary>
    public void Apply(in RecordFrame frame)
    {
        bool isOfSnapshot = (frame.Flags & FrameFlags.Snapshot) != 0;
        if (!isOfSnapshot && (_snapshot is not null || frame.Sequence != Position.Sequence.Next || frame.Term < HighestTerm))
            throw Contradiction($"record {frame.Sequence} of term {frame.Term} follows {Position}", null);
        _begun = false;
        _observer?.RecordBegins(RecordHead.RequestIdOf(frame.Payload));
        try
        {
            if (isOfSnapshot)
                ApplySnapshotFrame(frame);
            else
                Dispatch(frame);
        }
        catch (InvalidProtocolBufferException error)
        {
            throw Contradiction($"record {frame.Sequence} ({frame.Type}) cannot be decoded", error);
        }
        // What this process is short of says nothing about the log.
        catch (Exception error) when (FamfsException.IsShortage(error))
        {
            if (_begun)
                TornAt = frame.Sequence;
            throw;
        }
        catch (FamfsException error) when (error.Reason is not (ErrorReason.MediaCorrupt or ErrorReason.NotSupportedByFormat))
        {
            throw Contradiction($"record {frame.Sequence} ({frame.Type}): {error.Message}", error);
        }
        if (isOfSnapshot)
            return;
        if (_tables.TermStarts.IsEmpty || frame.Term != HighestTerm)
            _tables = _tables with { TermStarts = _tables.TermStarts.Add((frame.Sequence, frame.Term)) };
        Position = Position with { Generation = Math.Max(Position.Generation, _framesGeneration), Sequence = frame.Sequence, Term = frame.Term };
        HighestTerm = frame.Term;
        Volatile.Write(ref _applied, frame.Sequence.Value);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _reader.Dispose();
        Tree.Dispose();
    }

    private void Dispatch(in RecordFrame frame)
    {
        if (frame.Type != RecordType.TermEnded && _tables.TermHasEnded)
            _tables = _tables with { TermHasEnded = false };
        switch (frame.Type)
        {
            case RecordType.FileCreated:
                _begun = true;
                ApplyFileCreated(frame);
                break;
            case RecordType.DirectoryMade:
                _begun = true;
                ApplyDirectoryMade(frame);
                break;
            case RecordType.FileSystemCreated:
                ApplyFileSystemCreated(Parse(FileSystemCreated.Parser, frame));
                break;
            case RecordType.DeviceAdded:
                ApplyDeviceAdded(Parse(DeviceAdded.Parser, frame), frame);
                break;
            case RecordType.MasterSlotGranted:
                ApplyMasterSlotGranted(Parse(MasterSlotGranted.Parser, frame), frame);
                break;
            case RecordType.TermStarted:
                ApplyTermStarted(Parse(TermStarted.Parser, frame), frame.Term);
                break;
            case RecordType.TermEnded:
                ApplyTermEnded(frame);
                break;
            case RecordType.SegmentReserved:
                ApplySegmentReserved(Parse(SegmentReserved.Parser, frame), frame);
                break;
            case RecordType.HostRegistered:
                ApplyHostRegistered(Parse(HostRegistered.Parser, frame), frame);
                break;
            case RecordType.HostForgotten:
                ApplyHostForgotten(Parse(HostForgotten.Parser, frame), frame);
                break;
            case RecordType.HostGone:
                ApplyHostGone(Parse(HostGone.Parser, frame), frame.Sequence);
                break;
            case RecordType.SymlinkMade:
                ApplySymlinkMade(Parse(SymlinkMade.Parser, frame), frame);
                break;
            case RecordType.FilePublished:
                ApplyFilePublished(Parse(FilePublished.Parser, frame), frame);
                break;
            case RecordType.Renamed:
                ApplyRenamed(Parse(Renamed.Parser, frame), frame);
                break;
            case RecordType.AttributesSet:
                ApplyAttributesSet(Parse(AttributesSet.Parser, frame), frame);
                break;
            case RecordType.FilesWritten:
                ApplyFilesWritten(Parse(FilesWritten.Parser, frame));
                break;
            case RecordType.Deleted:
                ApplyDeleted(Parse(Deleted.Parser, frame), frame);
                break;
            case RecordType.ZeroingStarted:
                ApplyZeroingStarted(Inode(Parse(ZeroingStarted.Parser, frame).Inode), frame.Term);
                break;
            case RecordType.ExtentsReclaimed:
                ApplyExtentsReclaimed(Inode(Parse(ExtentsReclaimed.Parser, frame).Inode));
                break;
            case RecordType.PolicySet:
                ApplyPolicySet(Parse(PolicySet.Parser, frame), frame);
                break;
            case RecordType.GenerationChanged:
                ApplyGenerationChanged(Parse(GenerationChanged.Parser, frame), frame);
                break;
            case RecordType.EntryIgnored:
                ApplyEntryIgnored(Parse(EntryIgnored.Parser, frame));
                break;
            default:
                if ((frame.Flags & FrameFlags.Skippable) == 0)
                    throw new FamfsException(ErrorReason.NotSupportedByFormat, $"record {frame.Sequence} has type {(int)frame.Type}, which this version does not know: made by a newer version");
                break;
        }
    }

    /// <summary>Decodes a record. What fails behind this may have changed something.</summary>
    private T Parse<T>(MessageParser<T> parser, in RecordFrame frame)
        where T : IMessage<T>
    {
        T record = parser.ParseFrom(frame.Payload);
        _begun = true;
        return record;
    }

    private void ApplyEntryIgnored(EntryIgnored r)
    {
        _excluded.AddRange([.. r.Extents.Select(RequireExtent)]);
        IgnoredCount++;
    }

    private void ApplyFileCreated(in RecordFrame frame)
    {
        if (!FileCreatedRecord.TryRead(frame.Payload, _extents, out FileCreatedRecord r))
            throw Contradiction($"record {frame.Sequence} (FileCreated) cannot be decoded", null);
        ReadOnlySpan<MapExtent> extents = r.Extents;
        long bytes = RequireExtents(extents);
        InodeNumber inode = Inode(r.Inode.Value);
        if (r.Staged)
        {
            if (r.OwnerMount.Length != 16)
                throw Contradiction($"record {frame.Sequence}: staged file of no mount", null);
            Tree.CreateStaged(inode, new(r.OwnerMount, bigEndian: true), r.Mode, r.Uid, r.Gid, r.SizeBytes, r.ChunkBytes, extents, r.TimeNs);
        }
        else
        {
            Tree.CreateFile(inode, Inode(r.Parent.Value), r.Name, r.Mode, r.Uid, r.Gid, r.SizeBytes, r.ChunkBytes, extents, r.TimeNs);
        }
        OnExtentsTaken(inode, extents, bytes);
        if (!r.Staged)
            OnLinked(Inode(r.Parent.Value), r.Name);
        OnRequest(frame, r.RequestId, r.RequestDigest, r.TimeNs, inode);
    }

    private void ApplyDirectoryMade(in RecordFrame frame)
    {
        if (!DirectoryMadeRecord.TryRead(frame.Payload, out DirectoryMadeRecord r))
            throw Contradiction($"record {frame.Sequence} (DirectoryMade) cannot be decoded", null);
        InodeNumber inode = Inode(r.Inode.Value);
        Tree.MakeDirectory(inode, Inode(r.Parent.Value), r.Name, r.Mode, r.Uid, r.Gid, r.TimeNs);
        NextAfter(inode);
        OnLinked(Inode(r.Parent.Value), r.Name);
        OnRequest(frame, r.RequestId, r.RequestDigest, r.TimeNs, inode);
    }

    private void ApplyFileSystemCreated(FileSystemCreated r)
    {
        if (_tables.FileSystem is not null)
            throw Contradiction("a second FileSystemCreated", null);
        RequireFileSystem(r, Position.Generation);
        Tree.MakeRoot(Inode(r.RootInode), r.RootMode, r.RootUid, r.RootGid, r.TimeNs);
        _tables = _tables with { FileSystem = r };
    }

    private void RequireFileSystem(FileSystemCreated r, ulong generation)
    {
        // Units of 4 KiB are of a format without generations.
        bool unitFits = r.UnitBytes == MediaLayout.UnitBytes || (r.UnitBytes == MediaLayout.SmallUnitBytes && r.Generation == 0);
        if (r.FileSystemUuid.ToGuid("uuid") != Position.FileSystem || r.Generation != generation || !unitFits)
            throw Contradiction($"the log is of file system {r.FileSystemUuid.ToGuid("uuid")} with units of {r.UnitBytes}", null);
    }

    private void ApplyDeviceAdded(DeviceAdded r, in RecordFrame frame)
    {
        RequireNextDevice(r);
        _tables = _tables with { Devices = _tables.Devices.Add(r) };
        Volatile.Write(ref _capacityBytes, _capacityBytes + (long)r.LengthBytes);
        _observer?.DeviceAdded(r);
        MakeSystem(Inode(r.SuperblockInode), new(new((ushort)r.Index), 0, MediaLayout.UnitBytes), r.TimeNs);
        if (r.Index == 0)
        {
            FileSystemCreated created = _tables.FileSystem ?? throw Contradiction("a device before the file system", null);
            // A format without generations has no host table.
            if (created.HostTable is not null || created.Generation != 0)
                MakeSystem(Inode(created.HostTableInode), RequireExtent(created.HostTable), r.TimeNs);
        }
        OnRequest(frame, r.RequestId.Span, r.RequestDigest, r.TimeNs, default);
    }

    private void RequireNextDevice(DeviceAdded r)
    {
        if (r.Index != _tables.Devices.Length || r.Index >= MediaLayout.MaxDevices)
            throw Contradiction($"device {r.Index} follows {_tables.Devices.Length} devices", null);
        if (r.LengthBytes == 0 || r.LengthBytes % (ulong)UnitBytes != 0 || r.LengthBytes > long.MaxValue)
            throw Contradiction($"device {r.Index} of {r.LengthBytes} bytes", null);
    }

    private void ApplyMasterSlotGranted(MasterSlotGranted r, in RecordFrame frame)
    {
        if (r.Slot >= Term.SlotCount || _tables.MasterSlots.ContainsKey((int)r.Slot))
            throw Contradiction($"master slot {r.Slot} is granted twice or does not exist", null);
        MapExtent extent = RequireExtent(r.Segment);
        MakeSystem(Inode(r.SegmentInode), extent, r.TimeNs);
        _tables = _tables with
        {
            MasterSlots = _tables.MasterSlots.Add((int)r.Slot, r.HostId.ToGuid("host id")),
            Segments = _tables.Segments.Add(new(Inode(r.SegmentInode), (int)r.Slot, default, extent)),
        };
        OnRequest(frame, r.RequestId.Span, r.RequestDigest, r.TimeNs, default);
    }

    private void ApplySegmentReserved(SegmentReserved r, in RecordFrame frame)
    {
        MapExtent extent = RequireExtent(r.Extent);
        MakeSystem(Inode(r.Inode), extent, r.TimeNs);
        _tables = _tables with { Segments = _tables.Segments.Add(new(Inode(r.Inode), frame.Term.Slot, frame.Term, extent)) };
        Stores(frame.Term);
    }

    private void ApplyHostRegistered(HostRegistered r, in RecordFrame frame)
    {
        HostRecord host = new(r.HostId.ToGuid("host id"), (int)r.HostSlot, r.Name, r.MachineDigest);
        if (host.Host == Guid.Empty || _tables.Hosts.Values.Any(h => h.Slot == host.Slot && h.Host != host.Host))
            throw Contradiction($"host slot {host.Slot} is given twice", null);
        _tables = _tables with { Hosts = _tables.Hosts.SetItem(host.Host, host), HostSlots = Math.Max(_tables.HostSlots, host.Slot + 1) };
        OnRequest(frame, r.RequestId.Span, r.RequestDigest, r.TimeNs, default);
    }

    private void ApplyHostForgotten(HostForgotten r, in RecordFrame frame)
    {
        ForgottenBlock block = Parse(r, frame.Sequence);
        if (!_tables.Hosts.TryGetValue(block.Host, out HostRecord? host) || host.Slot != block.Slot)
            throw Contradiction($"host {block.Host} is forgotten and does not have block {block.Slot}", null);
        _tables = _tables with { Hosts = _tables.Hosts.Remove(block.Host), ForgottenBlocks = _tables.ForgottenBlocks.SetItem(block.Slot, block) };
        OnRequest(frame, r.RequestId.Span, r.RequestDigest, r.TimeNs, default);
    }

    private ForgottenBlock Parse(HostForgotten r, LogSequence sequence)
    {
        if (r.LineCounters.Count != MediaLayout.EntriesPerHost || r.LineMounts.Count != MediaLayout.EntriesPerHost || r.HostSlot > int.MaxValue / MediaLayout.EntriesPerHost)
            throw Contradiction($"block {r.HostSlot} is forgotten with {r.LineCounters.Count} lines", null);
        return new(sequence, r.HostId.ToGuid("host id"), (int)r.HostSlot, [.. r.LineCounters], [.. r.LineMounts.Select(m => m.ToGuid("line mount"))]);
    }

    private void ApplyHostGone(HostGone r, LogSequence sequence)
    {
        GoneRecord gone = new(r.HostId.ToGuid("host id"), r.MountId.ToGuid("mount id"), r.Evidence, r.Detail);
        if (gone.Mount == Guid.Empty)
        {
            _tables = _tables with { GoneHosts = _tables.GoneHosts.SetItem(gone.Host, (sequence, gone)) };
            return;
        }
        bool accepts = gone.Evidence == GoneEvidence.LossAccepted;
        // An operator who goes on without a mount's records says nothing about the mount.
        if (!accepts || !_tables.Gone.ContainsKey(gone.Mount))
            _tables = _tables with { Gone = _tables.Gone.SetItem(gone.Mount, gone) };
        if (accepts)
            _tables = _tables with { LossAccepted = _tables.LossAccepted.Add(gone.Mount) };
    }

    private void ApplySymlinkMade(SymlinkMade r, in RecordFrame frame)
    {
        InodeNumber inode = Inode(r.Inode);
        Tree.MakeSymlink(inode, Inode(r.Parent), r.Name.Span, r.Target.Span, r.Uid, r.Gid, r.TimeNs);
        NextAfter(inode);
        OnLinked(Inode(r.Parent), r.Name.Span);
        OnRequest(frame, r.RequestId.Span, r.RequestDigest, r.TimeNs, inode);
    }

    private void ApplyFilePublished(FilePublished r, in RecordFrame frame)
    {
        Tree.Publish(Inode(r.Inode), Inode(r.Parent), r.Name.Span, new(r.ReplacedInode), r.TimeNs);
        Replaced(new(r.ReplacedInode));
        OnReplaced(new(r.Parent), new(r.ReplacedInode), r.Name.Span);
        OnLinked(Inode(r.Parent), r.Name.Span);
        OnRequest(frame, r.RequestId.Span, r.RequestDigest, r.TimeNs, Inode(r.Inode));
    }

    private void ApplyRenamed(Renamed r, in RecordFrame frame)
    {
        RequireName(Inode(r.Inode), new(r.OldParent), r.OldName.Span, frame);
        Tree.Rename(Inode(r.Inode), Inode(r.NewParent), r.NewName.Span, new(r.ReplacedInode), r.TimeNs);
        Replaced(new(r.ReplacedInode));
        OnReplaced(new(r.NewParent), new(r.ReplacedInode), r.NewName.Span);
        OnLinked(Inode(r.OldParent), r.OldName.Span);
        OnLinked(Inode(r.NewParent), r.NewName.Span);
        _observer?.InodeChanged(Inode(r.Inode));
        OnRequest(frame, r.RequestId.Span, r.RequestDigest, r.TimeNs, Inode(r.Inode));
    }

    private void ApplyAttributesSet(AttributesSet r, in RecordFrame frame)
    {
        InodeNumber inode = Inode(r.Inode);
        Tree.SetAttributes(inode,
            r.HasMode ? r.Mode : null, r.HasUid ? r.Uid : null, r.HasGid ? r.Gid : null,
            r.HasAccessTimeNs ? r.AccessTimeNs : null, r.HasModifyTimeNs ? r.ModifyTimeNs : null, r.TimeNs);
        foreach (ExtendedAttribute attribute in r.Attributes)
        {
            if (attribute.Removed)
                Tree.RemoveExtendedAttribute(inode, attribute.Name.Span);
            else
                Tree.SetExtendedAttribute(inode, attribute.Name.Span, attribute.Value.Span);
        }
        if (r.HasModifyTimeNs)
            _observer?.ModifyTimeSet(inode, frame.Sequence);
        _observer?.InodeChanged(inode);
        OnRequest(frame, r.RequestId.Span, r.RequestDigest, r.TimeNs, inode);
    }

    private void ApplyFilesWritten(FilesWritten r)
    {
        if (r.Inodes.Count != r.TimesNs.Count)
            throw Contradiction($"{r.Inodes.Count} files were written at {r.TimesNs.Count} times", null);
        using (TreeScope scope = _reader.Enter())
        {
            foreach (ulong written in r.Inodes)
            {
                if (!scope.TryGet(Inode(written), out InodeAttributes found) || found.Kind != InodeKind.File)
                    throw Contradiction($"inode {written} was written and is no file", null);
            }
        }
        for (int i = 0; i < r.Inodes.Count; i++)
        {
            Tree.MoveTimes(new(r.Inodes[i]), r.TimesNs[i]);
            _observer?.InodeChanged(new(r.Inodes[i]));
        }
    }

    private void ApplyDeleted(Deleted r, in RecordFrame frame)
    {
        InodeNumber inode = Inode(r.Inode);
        InodeNumber parent = new(r.Parent);
        RequireName(inode, parent, r.Name.Span, frame);
        Tree.Remove(inode, r.TimeNs);
        if (parent == InodeNumber.None)
            RemoveSegment(inode);
        Replaced(inode);
        if (parent != InodeNumber.None)
        {
            _observer?.EntryRemoved(parent, inode, r.Name.Span);
            _observer?.InodeChanged(parent);
        }
        OnRequest(frame, r.RequestId.Span, r.RequestDigest, r.TimeNs, inode);
        if (!LeavesSubtrees)
            TakeApart(int.MaxValue);
    }

    // The space of a deleted segment is still one to which masters of its slot store.
    private void RemoveSegment(InodeNumber inode)
    {
        Tables tables = _tables;
        foreach (OwnedSegment segment in tables.Segments)
        {
            if (segment.Inode != inode)
                continue;
            _tables = tables with { Segments = tables.Segments.Remove(segment), FormerSegments = tables.FormerSegments.Add(segment) };
            return;
        }
    }

    /// <summary>A record that takes a name away names it, and it is what the tree has; both empty for what has none.</summary>
    private void RequireName(InodeNumber inode, InodeNumber parent, ReadOnlySpan<byte> name, in RecordFrame frame)
    {
        using TreeScope scope = _reader.Enter();
        bool has = scope.TryGetName(inode, out InodeNumber hasParent, out ReadOnlySpan<byte> hasName);
        if (has ? hasParent != parent || !hasName.SequenceEqual(name) : parent != InodeNumber.None || name.Length != 0)
            throw Contradiction($"record {frame.Sequence} ({frame.Type}): inode {inode} does not have that name in directory {parent}", null);
    }

    private void ApplyTermStarted(TermStarted r, Term term)
    {
        ImmutableDictionary<Term, LogSequence> ends = _tables.EndsInOrder;
        // An end that was adopted may have been stored by a master that went on.
        if (r.AdoptedFrom != 0)
            ends = ends.RemoveRange(ends.Where(e => e.Value.Value >= r.AdoptedFrom).Select(e => e.Key));
        _tables = _tables with { LastTermStarted = r, LastStartedTerm = term, EndsInOrder = ends };
    }

    private void ApplyTermEnded(in RecordFrame frame)
    {
        _tables = _tables with { TermHasEnded = true };
        Term term = frame.Term;
        // A later term of its slot proves the end of an earlier one by itself.
        ImmutableDictionary<Term, LogSequence> ends = _tables.EndsInOrder.RemoveRange(_tables.EndsInOrder.Keys.Where(other => other.Slot == term.Slot));
        _tables = _tables with { EndsInOrder = ends.SetItem(term, frame.Sequence) };
    }

    // Whatever came before, a term that is given space has not ended.
    private void Stores(Term term)
    {
        if (_tables.EndsInOrder.ContainsKey(term))
            _tables = _tables with { EndsInOrder = _tables.EndsInOrder.Remove(term) };
    }

    private void ApplyZeroingStarted(InodeNumber inode, Term term)
    {
        Stores(term);
        ImmutableArray<Reservation> reservations = _tables.Reservations;
        for (int i = 0; i < reservations.Length; i++)
        {
            if (reservations[i].Inode != inode)
                continue;
            // A master takes over what an earlier one did not finish.
            if (term <= reservations[i].Term)
                throw Contradiction($"inode {inode} is zeroed twice by term {term}", null);
            _tables = _tables with { Reservations = reservations.SetItem(i, reservations[i] with { Term = term }) };
            return;
        }
        Tree.StartZeroing(inode);
        int count = CopyExtents(inode, out _);
        _tables = _tables with { Reservations = reservations.Add(new(inode, term, [.. _extents.AsSpan(0, count)])) };
    }

    private void ApplyExtentsReclaimed(InodeNumber inode)
    {
        int count = CopyExtents(inode, out long bytes);
        Tree.Reclaim(inode);
        _tables = _tables with
        {
            Reservations = _tables.Reservations.RemoveAll(r => r.Inode == inode),
            FormerSegments = _tables.FormerSegments.RemoveAll(s => s.Inode == inode),
        };
        Volatile.Write(ref _usedBytes, _usedBytes - bytes);
        Volatile.Write(ref _pendingReclaimBytes, _pendingReclaimBytes - bytes);
        _observer?.ExtentsFreed(inode, _extents.AsSpan(0, count));
    }

    private void ApplyPolicySet(PolicySet r, in RecordFrame frame)
    {
        PolicySet policy = _tables.Policy.Clone();
        policy.MergeFrom(r);
        _tables = _tables with { Policy = policy };
        OnRequest(frame, r.RequestId.Span, r.RequestDigest, r.TimeNs, default);
    }

    /// <summary>Where the log goes on is what active copies say. The master may have died before, and the log stayed where it was.</summary>
    private void ApplyGenerationChanged(GenerationChanged r, in RecordFrame frame)
    {
        if (r.NewGeneration <= _startGeneration || r.NewGeneration > Math.Max(Position.Generation, _framesGeneration) + 1 || r.SnapshotSequence == 0 || r.SnapshotSequence > frame.Sequence.Value)
            throw Contradiction($"record {frame.Sequence} begins generation {r.NewGeneration} with a snapshot of the records below {r.SnapshotSequence}, and is in generation {Position.Generation}", null);
        OnRequest(frame, r.RequestId.Span, r.RequestDigest, r.TimeNs, default);
    }

    private void OnRemoved(InodeNumber parent, InodeNumber inode, InodeKind kind, ReadOnlySpan<byte> name)
    {
        _observer?.EntryRemoved(parent, inode, name);
        Replaced(inode);
    }

    private void OnReplaced(InodeNumber parent, InodeNumber inode, ReadOnlySpan<byte> name)
    {
        if (inode != InodeNumber.None)
            _observer?.FileReplaced(parent, inode, name);
    }

    /// <summary>A file lost its name and now waits for its holders.</summary>
    private void Replaced(InodeNumber inode)
    {
        if (inode == InodeNumber.None)
            return;
        CopyExtents(inode, out long bytes);
        Volatile.Write(ref _pendingReclaimBytes, _pendingReclaimBytes + bytes);
        _observer?.FileDeleted(inode);
    }

    private int CopyExtents(InodeNumber inode, out long bytes)
    {
        bytes = 0;
        using TreeScope scope = _reader.Enter();
        if (!scope.TryGetMap(inode, out MapView map))
            return 0;
        for (int i = 0; i < map.ExtentCount; i++)
        {
            _extents[i] = map[i];
            bytes += map[i].LengthBytes;
        }
        return map.ExtentCount;
    }

    private void MakeSystem(InodeNumber inode, MapExtent extent, long timeNs)
    {
        ReadOnlySpan<MapExtent> extents = [extent];
        Tree.MakeSystem(inode, timeNs, 0, extents);
        OnExtentsTaken(inode, extents, extent.LengthBytes);
    }

    private void OnExtentsTaken(InodeNumber inode, ReadOnlySpan<MapExtent> extents, long bytes)
    {
        NextAfter(inode);
        Volatile.Write(ref _usedBytes, _usedBytes + bytes);
        _observer?.ExtentsTaken(inode, extents);
    }

    private void OnLinked(InodeNumber parent, ReadOnlySpan<byte> name)
    {
        if (_observer is null)
            return;
        _observer.EntryChanged(parent, name);
        _observer.InodeChanged(parent);
    }

    private void NextAfter(InodeNumber inode)
    {
        if (inode.Value >= NextInode.Value)
            NextInode = new(inode.Value + 1);
    }

    private void OnRequest(in RecordFrame frame, ReadOnlySpan<byte> requestId, ulong digest, long timeNs, InodeNumber inode)
    {
        if (_observer is not null && requestId.Length == 16)
            _observer.RequestSeen(new(new Guid(requestId, bigEndian: true), digest, timeNs, frame.Type, inode, frame.Sequence, frame.Term));
    }

    private MapExtent RequireExtent(Extent? extent)
    {
        if (extent is null || extent.OffsetBytes > long.MaxValue || extent.LengthBytes > long.MaxValue || extent.Device >= MediaLayout.MaxDevices)
            throw Contradiction("an extent out of range", null);
        MapExtent range = new(new((ushort)extent.Device), (long)extent.OffsetBytes, (long)extent.LengthBytes);
        RequireExtents([range]);
        return range;
    }

    /// <summary>Extents are inside known devices and aligned; gives their bytes. Overlap is the allocator's to
    /// notice: only a master keeps what that takes.</summary>
    private long RequireExtents(ReadOnlySpan<MapExtent> extents)
    {
        long bytes = 0;
        ImmutableArray<DeviceAdded> devices = _tables.Devices;
        foreach (MapExtent extent in extents)
        {
            if (extent.Device.Value >= devices.Length
                || extent.OffsetBytes < 0 || extent.LengthBytes <= 0
                || extent.OffsetBytes % UnitBytes != 0 || extent.LengthBytes % UnitBytes != 0
                || (ulong)extent.OffsetBytes > devices[extent.Device.Value].LengthBytes - Math.Min((ulong)extent.LengthBytes, devices[extent.Device.Value].LengthBytes)
                || (ulong)extent.LengthBytes > devices[extent.Device.Value].LengthBytes)
                throw Contradiction($"extent {extent.OffsetBytes}+{extent.LengthBytes} of device {extent.Device} is out of range or not aligned", null);
            bytes += extent.LengthBytes;
        }
        return bytes;
    }

    private InodeNumber Inode(ulong value) =>
        value is 0 or > InodeNumber.Max ? throw Contradiction($"inode {value} is out of range", null) : new(value);

    private FamfsException Contradiction(string what, Exception? inner) =>
        new(ErrorReason.MediaCorrupt, $"log of file system {Position.FileSystem}: {what}", inner);

    /// <summary>The small tables, replaced whole so that other threads read them without locks.</summary>
    private sealed record Tables
    {
        public FileSystemCreated? FileSystem { get; init; }
        public ImmutableArray<DeviceAdded> Devices { get; init; } = [];
        public ImmutableDictionary<Guid, HostRecord> Hosts { get; init; } = ImmutableDictionary<Guid, HostRecord>.Empty;
        public int HostSlots { get; init; }
        public ImmutableDictionary<int, ForgottenBlock> ForgottenBlocks { get; init; } = ImmutableDictionary<int, ForgottenBlock>.Empty;
        public ImmutableDictionary<int, Guid> MasterSlots { get; init; } = ImmutableDictionary<int, Guid>.Empty;
        public ImmutableArray<OwnedSegment> Segments { get; init; } = [];
        public ImmutableArray<OwnedSegment> FormerSegments { get; init; } = [];
        public ImmutableArray<Reservation> Reservations { get; init; } = [];
        public Term LastStartedTerm { get; init; }
        public ImmutableDictionary<Guid, GoneRecord> Gone { get; init; } = ImmutableDictionary<Guid, GoneRecord>.Empty;

        public ImmutableHashSet<Guid> LossAccepted { get; init; } = [];

        /// <summary>Hosts of which every mount was gone, with the record that says so.</summary>
        public ImmutableDictionary<Guid, (LogSequence Sequence, GoneRecord Record)> GoneHosts { get; init; } = ImmutableDictionary<Guid, (LogSequence, GoneRecord)>.Empty;
        public ImmutableArray<(LogSequence First, Term Term)> TermStarts { get; init; } = [];
        public TermStarted? LastTermStarted { get; init; }
        public bool TermHasEnded { get; init; }

        /// <summary>The last term of each slot that ended in order, with the record that says so.</summary>
        public ImmutableDictionary<Term, LogSequence> EndsInOrder { get; init; } = ImmutableDictionary<Term, LogSequence>.Empty;
        public PolicySet Policy { get; init; } = new() { Reclaim = ReclaimPolicy.Confirmed };
    }
}
