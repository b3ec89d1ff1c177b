using System.Collections.Concurrent;
using Famfs.Core;
using Famfs.Core.Log;
using Famfs.Core.Namespace;
using Famfs.Fuse.Operations;
using Famfs.Fuse.Session;
using Famfs.V1;

namespace Famfs.Fuse.Daemon;

/// <summary>
/// This host's copy of the namespace: replays records from the memory or from the master's stream, whichever
/// is there, in one order, and tells the kernel's notifier what changed (SAFETY S21: apply here, notify on
/// the notifier's thread).
/// <para>Guard: <c>_applying</c> makes whoever brings records the one writer of the tree for that moment. It
/// is never held while the kernel or the master is waited for.</para>
/// </summary>
internal sealed class Replica : IReplayObserver, IDisposable
{
    private readonly Lock _applying = new();
    private readonly ReplayState _state;
    private readonly Guid _host;

    // Guard: _applying.
    private ILogReader _reader;
    private readonly ConcurrentQueue<LogPosition> _applied = new();

    // Guard: _applying.
    private readonly TreeReader _reading;
    private long _offset;
    private bool _readerBehind;

    // Written under _applying, read anywhere.
    private volatile PositionBox _position;
    private volatile PositionBox _notified = null!;

    // Guard: _acknowledging. A device that joined is looked for before what follows is acknowledged: who was told that this
    // mount has a file may use it.
    private readonly object _acknowledging = new();
    private ulong _heldBehind = ulong.MaxValue; // last sequence that may be acknowledged meanwhile
    private ulong _joinedBehind; // a device joined behind this one

    private volatile KernelNotifier? _notifier;
    private volatile FamfsException? _damage;

    public Replica(DevicePool pool, Guid host, UInt128 hashKey)
    {
        Pool = pool;
        _host = host;
        LogPosition start = new(pool.Primary.FileSystem, pool.Primary.Generation, default, default);
        _state = new(start, hashKey, this);
        _reader = pool.Format.OpenReader(pool);
        Files = new(_state, pool.Format.SystemInodes.Meta);
        _reading = _state.Tree.RegisterReader();
        _position = new(start);
        Notified = start;
    }

    /// <summary>The devices of this host. Changes once, before there is a mount.</summary>
    public DevicePool Pool { get; private set; }

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

    /// <summary>Last record that the kernel was told of too; any thread (written by the notifier's).</summary>
    public LogPosition Notified
    {
        get => _notified.Value;
        private set => _notified = new(value);
    }

    /// <summary>What stopped replay of the memory for good, or null: the mount goes on with what it has, and nobody may
    /// write through it.</summary>
    public FamfsException? Damage => _damage;

    /// <summary>Reads the memory to its end, for a start. Damage ends it where it is found: what came before is
    /// served, and the damage given. Throws when not even the file system's first record can be read.</summary>
    public FamfsException? Bootstrap()
    {
        try
        {
            while (PollMemory() == PollVerdict.Records)
            {
            }
        }
        catch (FamfsException error) when (_state.FileSystem is not null && ReferenceEquals(error, _damage))
        {
            // What came before it is applied.
        }
        if (_state.FileSystem is null)
            throw new FamfsException(ErrorReason.MediaCorrupt, $"{Pool.PrimaryDevice.Path}: a master is taking over and the log cannot be read yet, or it is damaged; try again");
        return _damage;
    }

    /// <summary>Called with each position that has been applied and notified, and whose devices were looked for, on the
    /// thread that did the last of these. Must neither block nor throw.</summary>
    public event Action<LogPosition>? Acknowledgeable;

    /// <summary>The devices that records up to <paramref name="position"/> name were looked for, found or not.</summary>
    public void DevicesLookedFor(LogPosition position)
    {
        lock (_acknowledging)
        {
            if (_heldBehind == ulong.MaxValue || position.Sequence.Value <= _joinedBehind)
                return;
            _heldBehind = ulong.MaxValue;
            Acknowledgeable?.Invoke(Notified);
        }
    }

    /// <summary>Goes on with the same devices reached in another way. The pool so far is given back to the caller.</summary>
    public DevicePool Rehost(DevicePool pool)
    {
        lock (_applying)
        {
            DevicePool before = Pool;
            Pool = pool;
            _reader = pool.Format.OpenReader(pool);
            _readerBehind = true;
            return before;
        }
    }

    /// <summary>Everything applied from now on is told to <paramref name="notifier"/>. What was applied before
    /// counts as told: a kernel that has just mounted knows nothing.</summary>
    public void Attach(KernelNotifier notifier)
    {
        lock (_applying)
        {
            notifier.Notified += OnNotified;
            _notifier = notifier;
            Notified = Position;
        }
    }

    /// <summary>Reads the memory once and applies what is settled there. Damage is found once and thrown from then on.</summary>
    public PollVerdict PollMemory()
    {
        lock (_applying)
        {
            if (_damage is not null)
                throw _damage;
            if (_readerBehind)
            {
                _reader.Resume(Position, _offset);
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
                throw;
            }
            if (verdict == PollVerdict.Records)
                Apply(block, 0);
            return verdict;
        }
    }

    /// <summary>Applies verified records of the master's stream; what memory gave already is passed over.</summary>
    public void ApplyPushed(in LogBlock block)
    {
        lock (_applying)
        {
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

    public void EntryChanged(InodeNumber parent, ReadOnlySpan<byte> name) => _notifier?.EntryChanged(parent, name);

    public void InodeChanged(InodeNumber inode)
    {
        if (_notifier is not { } notifier)
            return;
        InodeNumber parent = InodeNumber.None;
        using (TreeScope scope = _reading.Enter())
        {
            if (scope.TryGetName(inode, out InodeNumber named, out _))
                parent = named;
        }
        notifier.AttributesChanged(inode, parent);
    }

    public void FileDeleted(InodeNumber inode) => _notifier?.ContentChanged(inode);

    public void ExtentsTaken(InodeNumber inode, ReadOnlySpan<MapExtent> extents)
    {
    }

    public void ExtentsFreed(InodeNumber inode, ReadOnlySpan<MapExtent> extents)
    {
    }

    public void DeviceAdded(DeviceAdded device)
    {
        // Before there is a mount they are looked for anyway.
        if (_notifier is null)
            return;
        lock (_acknowledging)
        {
            _joinedBehind = Position.Sequence.Value;
            _heldBehind = Math.Min(_heldBehind, _joinedBehind);
        }
    }

    public void RequestSeen(in RequestTrace request)
    {
    }

    public void Dispose()
    {
        _reading.Dispose();
        _state.Dispose();
        Pool.Dispose();
    }

    private void Apply(in LogBlock block, int skip)
    {
        try
        {
            _state.ApplyFrames(block.Frames.Span[skip..]);
        }
        catch (FamfsException error)
        {
            _damage = error;
            throw;
        }
        finally
        {
            // Also when a record in the middle was bad: what came before it is applied.
            _position = new(_state.Position);
        }
        _offset = block.EndOffset;
        foreach (Window closed in Windows.Update(_state, _host))
        {
            _notifier?.EntryChanged(new(WindowTable.DirectoryNode), closed.Name);
            _notifier?.ContentChanged(new(closed.Node));
        }
        if (_notifier is { } notifier)
        {
            _applied.Enqueue(_state.Position);
            notifier.Applied(_state.Position.Sequence);
        }
        else
        {
            Notified = _state.Position;
        }
    }

    private void OnNotified(LogSequence sequence)
    {
        LogPosition last = default;
        while (_applied.TryPeek(out LogPosition next) && next.Sequence.Value <= sequence.Value && _applied.TryDequeue(out next))
            last = next;
        if (last.Sequence.Value == 0)
            return;
        lock (_acknowledging)
        {
            Notified = last;
            if (last.Sequence.Value <= _heldBehind)
                Acknowledgeable?.Invoke(last);
        }
    }

    /// <summary>A position read as one reference.</summary>
    private sealed record PositionBox(LogPosition Value);
}
