using System.Collections.Immutable;
using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Log;
using Famfs.Core.Namespace;
using Famfs.Fuse.Operations;
using Famfs.Fuse.Session;
using Famfs.V1;

namespace Famfs.Fuse.Replication;

/// <summary>
/// This host's copy of the namespace: applies records from the memory or from the master's stream, whichever is there,
/// in one order (SAFETY S21). What they change goes on through <see cref="NotifyBridge"/> and <see cref="AckGate"/>.
/// <para>Guard: <c>_applying</c> makes whoever brings records the one writer of the tree for that moment. It
/// is never held while the kernel or the master is waited for.</para>
/// </summary>
internal sealed class Replica : ICapacity, IDisposable
{
    private readonly Lock _applying = new();
    private readonly ReplayState _state;
    private readonly Guid _host;
    private readonly NotifyBridge _bridge;
    private readonly Func<ILogReader, ILogReader> _around;

    // Guard: _applying.
    private readonly TimeProvider _clock;
    private ILogReader _reader;
    private long _offset; // log offset after the last record applied
    private ulong _generation; // the generation that it is an offset of; the reader may be in a later one
    private bool _readerBehind;
    private bool _damageIsFinal;
    private bool _untold; // what is applied is not told to the bridge
    private (LogSequence After, Action Begin)? _telling; // a kernel has everything up to there, and is told what comes after

    private ImmutableArray<OwnedSegment> _left = []; // the upkeep thread's: former segments that this process has let go of

    // Written under _applying, read anywhere.
    private volatile PositionBox _position;
    private volatile FamfsException? _damage;
    private volatile bool _isOfOtherHistory;

    /// <summary>An empty copy. <paramref name="around"/>: goes around each reader of the memory; null: nothing does.</summary>
    public Replica(DevicePool pool, Guid host, UInt128 hashKey, TimeProvider clock, Func<ILogReader, ILogReader>? around = null)
    {
        _clock = clock;
        _around = around ?? (reader => reader);
        Pool = pool;
        _host = host;
        LogPosition start = new(pool.Primary.FileSystem, pool.Primary.Generation, default, default);
        _generation = start.Generation;
        Gate = new(start);
        // The position is that of the record before.
        Reused = new(device => (device.Value < _state!.Devices.Length && _state.Devices[device.Value].Coherent) || _state!.Position.Sequence.Value < RefreshedTo.Value);
        _bridge = new(Gate, Reused);
        _state = new(start, hashKey, _bridge);
        _bridge.Read(_state.Tree);
        _reader = _around(pool.Format.OpenReader(pool, _clock));
        Files = new(_state, pool.Format.SystemInodes.Meta);
        _position = new(start);
    }

    /// <summary>The devices of this host. Changes once, before there is a mount.</summary>
    public DevicePool Pool { get; private set; }

    /// <summary>Up to where records were applied, told and may be acknowledged.</summary>
    public AckGate Gate { get; }

    /// <summary>What this host's caches may have of space from before; any thread.</summary>
    public ReusedSpace Reused { get; }

    /// <summary>Space that was given back up to this record is in no cache of this host any more. Set before the log is read, or when that
    /// is done.</summary>
    public LogSequence RefreshedTo { get; set; }

    /// <summary>What lies in <c>.meta</c>; any thread.</summary>
    public MetaFiles Files { get; }

    /// <summary>What lies in <c>.meta/window</c>; any thread.</summary>
    public WindowTable Windows { get; } = new();

    /// <summary>The namespace, for readers.</summary>
    public InodeTree Tree => _state.Tree;

    /// <summary>The small tables, as of now; any thread.</summary>
    public ReplayState State => _state;

    /// <summary>Last record applied; any thread.</summary>
    public LogPosition Position => _position.Value;

    /// <inheritdoc/>
    public PoolCapacity Capacity
    {
        get
        {
            long total = _state.CapacityBytes;
            long pending = _state.PendingReclaimBytes;
            return new((ulong)total, (ulong)Math.Max(0, total - _state.UsedBytes), (ulong)Math.Max(0, pending));
        }
    }

    /// <summary>What keeps this host from the end of the log, or null: the mount goes on with what it has, and nobody may
    /// write through it. It goes when the memory is right again, unless <see cref="DamageIsFinal"/>.</summary>
    public FamfsException? Damage => _damage;

    /// <summary>The damage is of a kind that does not heal: what was read contradicts itself, or the format knows no terms.</summary>
    public bool DamageIsFinal
    {
        get
        {
            lock (_applying)
                return _damageIsFinal;
        }
    }

    /// <summary>What was applied is not in the history any more: records were lost, or the memory was made anew. What a name
    /// here leads to may be another file's by now. For good; any thread.</summary>
    public bool IsOfOtherHistory => _isOfOtherHistory;

    /// <summary>Reads the memory to its end, for a start. Damage ends it where it is found: what came before is
    /// served, and the damage given. Throws when not even the file system's first record can be read.</summary>
    /// <param name="after">A kernel that another daemon served has been told everything up to there.</param>
    /// <param name="beginTelling">Called once, before the first record after it is applied, or at the end: attaches whoever tells that
    /// kernel.</param>
    public FamfsException? Bootstrap(LogSequence after, Action beginTelling)
    {
        lock (_applying)
        {
            _telling = (after, beginTelling);
            // The kernel is told of single records, not of a snapshot.
            _reader = _around(Pool.Format.OpenReader(Pool, _clock, wholeAfter: after));
        }
        FamfsException? damage = Bootstrap();
        lock (_applying)
            BeginTelling(new(ulong.MaxValue));
        return damage;
    }

    /// <inheritdoc cref="Bootstrap(LogSequence, Action)"/>
    public FamfsException? Bootstrap()
    {
        try
        {
            PollVerdict verdict;
            while ((verdict = PollMemory()) is PollVerdict.Records or PollVerdict.LookAgain)
            {
                if (verdict == PollVerdict.LookAgain)
                    Thread.Sleep(LogPolling.LookAgainInterval);
            }
        }
        catch (FamfsException error) when (_state.FileSystem is not null && !_state.IsInSnapshot && _state.TornAt.Value == 0 && ReferenceEquals(error, _damage))
        {
            // What came before it is applied.
        }
        if (_state.FileSystem is null || _state.IsInSnapshot)
            throw new FamfsException(ErrorReason.MediaCorrupt, $"{Pool.PrimaryDevice.Path}: a master is taking over and the log cannot be read yet, or it is damaged; try again");
        return _damage;
    }

    /// <summary>Writes back and drops what this host's caches may have of a file's space where a device is not coherent (SAFETY S12).
    /// False when that is not known: a device is not reached here. Errors: <see cref="DeviceFaultException"/> where memory faults,
    /// OVERLOADED where nobody else can read the tree.</summary>
    /// <param name="inode">The file.</param>
    /// <param name="find">Gives a device; null: it is not reached.</param>
    public bool TryPurge(InodeNumber inode, Func<DeviceIndex, DaxDevice?> find) => ListToPurge(inode, zeroing: true).TrueForAll(extent =>
    {
        if (find(extent.Device) is not { } device)
            return false;
        Purge(device, extent.OffsetBytes, extent.LengthBytes);
        return true;
    });

    /// <summary>The same where the kernel holds the devices and has no such inode. <paramref name="flush"/> does it with the memory of the file
    /// of so many bytes, part by part; it is false when it cannot. Errors: its.</summary>
    public bool TryPurge(InodeNumber inode, Func<InodeNumber, Action<DaxDevice, long, long>, bool> flush) =>
        ListToPurge(inode, zeroing: false).Count == 0 || flush(inode, Purge);

    /// <summary>Does <paramref name="use"/> with a file's space on devices that are not coherent, part by part, where this process has them
    /// mapped. False when a device is not reached here. Errors: those of <paramref name="use"/>; OVERLOADED where nobody else can read
    /// the tree.</summary>
    /// <param name="inode">The file.</param>
    /// <param name="find">Gives a device; null: it is not reached.</param>
    /// <param name="use">Is given a device, and a part of it as offset and bytes.</param>
    public bool TryUse(InodeNumber inode, Func<DeviceIndex, DaxDevice?> find, Action<DaxDevice, long, long> use) =>
        ListToPurge(inode, zeroing: false).SelectMany(Split).All(part =>
        {
            if (find(part.Device) is not { } device)
                return false;
            use(device, part.OffsetBytes, part.LengthBytes);
            return true;
        });

    private static void Purge(DaxDevice device, long offset, long length)
    {
        device.WriteBack(offset, length);
        device.Fence();
        device.Invalidate(offset, length);
    }

    // A file's space on devices that are not coherent. What is being zeroed, every mount has let go of.
    private List<MapExtent> ListToPurge(InodeNumber inode, bool zeroing)
    {
        List<MapExtent> extents = [];
        ImmutableArray<DeviceAdded> devices = _state.Devices;
        if (devices.All(device => device.Coherent))
            return extents;
        using TreeReader reader = Tree.RegisterReader();
        using TreeScope scope = reader.Enter();
        if (!scope.TryGetMap(inode, out MapView map, out InodeStatus status) || map.SizeBytes == 0 || (status == InodeStatus.Zeroing && !zeroing))
            return extents;
        for (int i = 0; i < map.ExtentCount; i++)
        {
            if (!devices[map[i].Device.Value].Coherent)
                extents.Add(map[i]);
        }
        return extents;
    }

    /// <summary>Called again and again while removed files are purged, which may take long. Set before the first.</summary>
    public Action BetweenPurges { get; set; } = static () => { };

    /// <summary>Bytes that are purged between two of these calls (chosen: a second's of slow memory).</summary>
    internal long PurgeStepBytes { get; init; } = 1L << 30;

    /// <summary>Purges every deleted file that is not reclaimed, as a former mount of this host may have left it. For a start. Gives
    /// the cause where memory faults, the last one.</summary>
    public string? PurgeDeleted()
    {
        string? cause = null;
        foreach (InodeNumber inode in ListDeleted())
        {
            foreach (MapExtent part in ListToPurge(inode, zeroing: true).SelectMany(Split))
            {
                // Where a device is not here, no line of it is.
                if (Pool.Find(part.Device) is not { } device)
                    continue;
                try
                {
                    Purge(device, part.OffsetBytes, part.LengthBytes);
                }
                catch (DeviceFaultException fault)
                {
                    cause = $"removed file {inode}: its lines stay in this host's caches: {fault.Message}";
                    break;
                }
                BetweenPurges();
            }
            BetweenPurges();
        }
        return cause;
    }

    // Records may be applied while these are purged: what is given back meanwhile has left the list that the tree has.
    private List<InodeNumber> ListDeleted()
    {
        lock (_applying)
            return [.. Tree.EnumerateDeleted()];
    }

    private IEnumerable<MapExtent> Split(MapExtent extent)
    {
        for (long done = 0; done < extent.LengthBytes; done += PurgeStepBytes)
            yield return new(extent.Device, extent.OffsetBytes + done, Math.Min(PurgeStepBytes, extent.LengthBytes - done));
    }

    /// <summary>What mounts of this host that are gone may have left in its caches becomes this mount's to purge, before anybody is told
    /// that they are gone (SAFETY S12, S14). They knew no file that is not in the log now. False when not everything can be purged, or
    /// the end of the log is not reached. Upkeep thread.</summary>
    /// <param name="held">What this mount may have: it purges that itself, before it releases it.</param>
    /// <param name="purge">Purges a file that the kernel has not, where the kernel has the devices; else null.</param>
    public bool TryTakeOver(HeldFiles held, Func<InodeNumber, bool>? purge = null)
    {
        PollVerdict verdict;
        while ((verdict = PollMemory()) == PollVerdict.Records)
        {
        }
        if (verdict != PollVerdict.UpToDate)
            return false;
        held.TakeOver(_state.NextInode);
        return purge is null ? PurgeDeleted() is null : ListDeleted().TrueForAll(inode =>
        {
            BetweenPurges();
            return held.Holds(inode) || purge(inode);
        });
    }

    /// <summary>Purges every file of which this host's caches may have lines, for the end of a mount: nobody does it afterwards. Errors as
    /// <see cref="TryPurge(InodeNumber, Func{DeviceIndex, DaxDevice})"/>.</summary>
    /// <param name="held">Which these are.</param>
    /// <param name="pool">The devices. Where one is not here, no line of it is.</param>
    public void PurgeAtEnd(HeldFiles held, DevicePool pool)
    {
        if (_state.Devices.All(device => device.Coherent))
            return;
        List<InodeNumber> files = [];
        using (TreeReader reader = Tree.RegisterReader())
        {
            InodeNumber last = InodeNumber.None;
            while (true)
            {
                using TreeScope scope = reader.Enter();
                if (!scope.TryGetNext(last, out InodeAttributes found))
                    break;
                last = found.Inode;
                if (found.Kind == InodeKind.File && held.MayHaveLines(last))
                    files.Add(last);
            }
        }
        foreach (InodeNumber inode in files)
            _ = TryPurge(inode, pool.Find);
    }

    /// <summary>Goes on with the same devices reached in another way. The pool so far is given back to the caller.</summary>
    public DevicePool SwitchPool(DevicePool pool)
    {
        lock (_applying)
        {
            DevicePool before = Pool;
            Pool = pool;
            _reader = _around(pool.Format.OpenReader(pool, _clock));
            _readerBehind = true;
            return before;
        }
    }

    /// <summary>Closes what this process has open of log segments that were deleted, where it reaches memory through its own mount: else the
    /// mount would never release them (SAFETY S12). Nothing here reads them any more: the record that deletes a segment is in a
    /// generation that goes on without it. Upkeep thread, which alone lists what is open.</summary>
    public void LetGoOfFormerSegments()
    {
        ImmutableArray<OwnedSegment> former = _state.FormerSegments;
        if (former == _left)
            return;
        lock (_applying)
        {
            foreach (OwnedSegment segment in former.Except(_left))
                Pool.Find(segment.Extent.Device)?.LetGo(segment.Extent.OffsetBytes, segment.Extent.LengthBytes);
        }
        _left = former;
    }

    /// <summary>Everything applied from now on is told to <paramref name="notifier"/>, and to <paramref name="written"/> which times of
    /// files it sets, and to <paramref name="held"/> which files are deleted. Programs that wait for <paramref name="changes"/> are
    /// answered when these are applied.</summary>
    public void Attach(KernelNotifier notifier, WrittenFiles? written = null, HeldFiles? held = null, MountChanges? changes = null)
    {
        lock (_applying)
            _bridge.Attach(notifier, written, held, changes);
    }

    /// <summary>Shows written files as the log has them when it has them.</summary>
    public void Settle(WrittenFiles written)
    {
        lock (_applying)
        {
            if (!_untold && written.Settle(_state.Position.Sequence) is { Count: > 0 } settled)
                _bridge.Settled(settled, _state.Position);
        }
    }

    /// <summary>Reads the memory once and applies what is published there. Damage is thrown, and looked for again at the next call
    /// unless it is final. OVERLOADED: this process is short of something; the next call goes on where this one ended.</summary>
    public PollVerdict PollMemory()
    {
        lock (_applying)
        {
            if (_damageIsFinal)
                throw _damage!;
            if (_untold)
                Tell();
            if (_readerBehind)
            {
                _reader.Resume(Position with { Generation = _generation }, _offset);
                _readerBehind = false;
            }
            PollVerdict verdict;
            LogBlock block;
            try
            {
                verdict = _reader.Poll(out block);
                // Without terms there is one history. A log that is shorter was made anew, and its entries are not what follows here.
                if (verdict == PollVerdict.Diverged && !Pool.Format.Limits.HasTerms)
                    throw new FamfsException(ErrorReason.MediaCorrupt, $"{Pool.PrimaryDevice.Path}: the log has fewer entries than were read from it: somebody has rewritten it") { Path = Pool.PrimaryDevice.Path };
            }
            catch (FamfsException error) when (error.Reason is ErrorReason.MediaCorrupt or ErrorReason.NotSupportedByFormat or ErrorReason.WrongFilesystem)
            {
                _damage = error;
                _damageIsFinal = error.Reason != ErrorReason.MediaCorrupt || !Pool.Format.Limits.HasTerms;
                throw;
            }
            catch (Exception error) when (FamfsException.IsShortage(error))
            {
                // Within a snapshot it has handed out everything before, and nobody else knows where it is.
                _readerBehind = !_state.IsInSnapshot;
                throw Shortage(error);
            }
            if (verdict == PollVerdict.Diverged)
            {
                string cause = _reader.Divergence.Length > 0 ? _reader.Divergence : $"record {Position}, which this mount has, is not in the log any more";
                _damage = new(ErrorReason.StaleGeneration, $"{Pool.PrimaryDevice.Path}: {cause}: unmount and mount again") { Path = Pool.PrimaryDevice.Path };
                _damageIsFinal = true;
                _isOfOtherHistory = true;
                throw _damage;
            }
            if (verdict == PollVerdict.TailLost)
                _damage = new(ErrorReason.MediaCorrupt, _reader.TailDamage) { Path = Pool.PrimaryDevice.Path };
            else if (verdict is PollVerdict.Records or PollVerdict.UpToDate)
                _damage = null;
            if (verdict == PollVerdict.Records)
                Apply(block, 0);
            return verdict;
        }
    }

    /// <summary>Applies verified records of the master's stream; what memory gave already is skipped.</summary>
    public void ApplyPushed(in LogBlock block)
    {
        lock (_applying)
        {
            if (_state.TornAt.Value != 0)
                throw _damage!;
            ulong behind = Position.Sequence.Value + 1;
            if (block.FirstSequence.Value > behind)
                throw new FamfsException(ErrorReason.MediaCorrupt, $"records {behind} to {block.FirstSequence.Value - 1} are missing from the stream");
            int skip = 0;
            for (ulong sequence = block.FirstSequence.Value; sequence < behind && skip < block.Frames.Length; sequence++)
                skip += Core.Format.RecordFrame.ReadVerified(block.Frames.Span[skip..]).PaddedBytes;
            if (skip == block.Frames.Length)
                return;
            Apply(block, skip);
            _readerBehind = true;
        }
    }

    public void Dispose()
    {
        _bridge.Dispose();
        _state.Dispose();
        Pool.Dispose();
    }

    private void Apply(in LogBlock block, int skip)
    {
        LogSequence before = _state.Position.Sequence;
        if (!block.IsSnapshot)
            BeginTelling(new(block.FirstSequence.Value + (ulong)block.Count - 1));
        try
        {
            try
            {
                _state.ApplyFrames(block.Generation, block.Frames.Span[skip..]);
                (_offset, _generation) = (block.EndOffset, block.Generation);
            }
            finally
            {
                // Also when a record in the middle was bad: what came before it is applied.
                _position = new(_state.Position);
            }
            // A part of a snapshot is nothing that could be told.
            if (!_state.IsInSnapshot)
                Tell();
        }
        catch (Exception error) when (FamfsException.IsShortage(error))
        {
            // The reader has gone past the block: it goes back to what is applied. A snapshot ends with its block.
            if (_state.Position.Sequence != before)
                (_offset, _generation) = (block.IsSnapshot ? block.EndOffset : OffsetOfPosition(block), block.Generation);
            _readerBehind = true;
            throw Shortage(error, isTorn: _state.IsInSnapshot);
        }
        catch (FamfsException error)
        {
            _damage = error;
            _damageIsFinal = true;
            throw;
        }
    }

    // A block that reaches beyond the place is told whole: to be told a thing twice costs a call.
    private void BeginTelling(LogSequence upTo)
    {
        if (_telling is not { } telling || upTo.Value <= telling.After.Value)
            return;
        _telling = null;
        telling.Begin();
    }

    /// <summary>Tells what was applied to those who wait for it.</summary>
    private void Tell()
    {
        _untold = true;
        foreach (Window closed in Windows.Update(_state, _host))
            _bridge.PrivateFileGone(new(WindowTable.DirectoryNode), new(closed.Node), closed.Name);
        _bridge.Applied(_state.Position);
        _untold = false;
    }

    /// <summary>The log is not damaged, and what is missing here is looked for again. Only a record of which a part is here ends that.</summary>
    private FamfsException Shortage(Exception error, bool isTorn = false)
    {
        if (_state.TornAt.Value == 0 && !isTorn)
            return error as FamfsException ?? new(ErrorReason.Overloaded, $"memory ran out behind record {Position}; it is tried again", error);
        _damage = new(ErrorReason.Overloaded, $"memory ran out while {(isTorn ? "the snapshot of the log" : $"record {_state.TornAt}")} was applied, a part of it is here: unmount and mount again", error);
        _damageIsFinal = true;
        return _damage;
    }

    /// <summary>Log offset behind the last record applied, which is one of <paramref name="block"/>.</summary>
    private long OffsetOfPosition(in LogBlock block)
    {
        ReadOnlySpan<byte> behind = block.Frames.Span;
        while (behind.Length > 0)
        {
            Core.Format.RecordFrame frame = Core.Format.RecordFrame.ReadVerified(behind);
            if (frame.Sequence.Value > _state.Position.Sequence.Value)
                break;
            behind = behind[frame.PaddedBytes..];
        }
        return Pool.Format.OffsetBehind(_state.Position.Sequence, block.EndOffset, behind.Length);
    }

    /// <summary>A position read as one reference.</summary>
    private sealed record PositionBox(LogPosition Value);
}
