using System.Runtime.InteropServices;
using Famfs.Core;
using Famfs.Core.Namespace;
using Famfs.Fuse.Dialects;
using Famfs.Fuse.Operations;
using Famfs.Fuse.Protocol;

namespace Famfs.Fuse.Session;

/// <summary>Whether the kernel has an inode.</summary>
public enum InodePresence
{
    /// <summary>It answered ENOENT: this kernel has no such inode, so nobody on this host can touch its memory
    /// through this mount (SAFETY S12).</summary>
    Absent,
    Present,

    /// <summary>The connection is over, or another error: nothing is known.</summary>
    Unknown,
}

/// <summary>
/// Tells the kernel what replay has changed: the second stage of SAFETY S21, on a thread of its own.
/// <para>Use, from the one thread that applies records: change the tree; say what was changed by
/// <see cref="EntryChanged"/>, <see cref="EntryDeleted"/>, <see cref="AttributesChanged"/>,
/// <see cref="ContentChanged"/>; then <see cref="Applied"/>. None of these waits for the kernel. When everything
/// up to a sequence has been told, <see cref="NotifiedUpTo"/> says so, and only then may that position be
/// acknowledged.</para>
/// <para>Why nothing stale stays cached. The kernel looks names up and lists under a shared lock of the
/// directory, until it has put the result in its caches; INVAL_ENTRY takes that lock exclusively. So after
/// INVAL_ENTRY(directory, any name) has returned, every reply about that directory which was made before the
/// change is in the caches, and what is invalidated next is really gone. Therefore a change in a directory is
/// INVAL_ENTRY(directory, name), then INVAL_INODE(directory) for its attributes and cached listing; and a
/// change of an inode's attributes is INVAL_ENTRY(its directory, ".") — no entry can have that name, so it only
/// waits for the lock — then INVAL_INODE. Replies to GETATTR need no lock: the kernel drops one that was
/// overtaken by INVAL_INODE by itself.</para>
/// <para>So what is told about an inode may come late, once, after many names: names wait in a queue, inodes in a
/// set, and the set is told when the names that were added with it have been. A thousand files created in one
/// directory cost a thousand messages and three, not four thousand, of which each waits for whoever lists it.</para>
/// <para>ENOENT from the kernel is normal: it did not have it.</para>
/// </summary>
public sealed class KernelNotifier : IDisposable
{
    private const int EntriesPerScope = 256;

    private readonly IFuseTransport _transport;
    private readonly KernelPresence _presence;
    private readonly bool _hasEpoch;
    private readonly bool _hasPrune;
    private readonly Thread? _thread;

    // Of the notifying thread.
    private readonly TreeReader _reader;
    private readonly byte[] _message = GC.AllocateArray<byte>(Notification.MaxBytes, pinned: true);
    private Dictionary<InodeNumber, InodeChange> _taken = [];

    private readonly object _gate = new(); // guards the block below; held for a copy, never for a call of the kernel
    private readonly NotificationQueue _queue;
    private Dictionary<InodeNumber, InodeChange> _inodes = [];
    private ulong _applied;
    private bool _coarse;
    private volatile bool _stopping;
    private readonly CancellationTokenSource _stop = new(); // cancelled when it is set

    private ulong _notified; // written by the thread, or under _gate while it has nothing to do
    private long _sent;
    private long _refused;
    private int _lastRefusal;
    private long _coarseRounds;

    /// <summary>Makes a notifier and starts its thread. <paramref name="limitBytes"/> bounds what may wait; beyond
    /// it a kernel that has epochs is told to look everything up again, and for one that has not the queue grows
    /// on, because nothing may be lost. <paramref name="hasThread"/>: else its owner calls <see cref="TellWaiting"/>, on one thread.</summary>
    public KernelNotifier(IFuseTransport transport, KernelPresence presence, InodeTree tree, Negotiated negotiated, int limitBytes, bool hasThread = true)
    {
        _transport = transport;
        _presence = presence;
        _hasEpoch = negotiated.HasEpoch;
        _hasPrune = negotiated.HasPrune;
        _queue = new NotificationQueue(limitBytes);
        _reader = tree.RegisterReader();
        if (!hasThread)
            return;
        _thread = new Thread(Run) { IsBackground = true, Name = "fuse-notify" };
        _thread.Start();
    }

    /// <summary>What must end before the kernel is told a name in a directory, or null: a change that a program waits for, whose lock of
    /// the directory the notification would wait for inside the kernel, where nobody can end it. What begins later is not waited
    /// for. Set before the first change; called on the notifying thread.</summary>
    public Func<InodeNumber, Task?>? Locked { get; set; }

    /// <summary>Every change up to here is known to the kernel.</summary>
    public LogSequence NotifiedUpTo => new(Volatile.Read(ref _notified));

    /// <summary>Notifications handed to the kernel.</summary>
    public long Sent => Volatile.Read(ref _sent);

    /// <summary>Notifications answered with another error than ENOENT.</summary>
    public long Refused => Volatile.Read(ref _refused);

    /// <summary>The last of those errors.</summary>
    public Errno LastRefusal => (Errno)Volatile.Read(ref _lastRefusal);

    /// <summary>Times the queue overflowed and everything was invalidated. For tests.</summary>
    public long CoarseRounds => Volatile.Read(ref _coarseRounds);

    /// <summary>Called on the notifying thread after <see cref="NotifiedUpTo"/> has grown. Must neither block nor throw.</summary>
    public event Action<LogSequence>? Notified;

    /// <summary>A name was added to a directory, or now means another inode, or is gone by a rename.</summary>
    public void EntryChanged(InodeNumber parent, ReadOnlySpan<byte> name)
    {
        if (!_presence.MayHave(parent))
            return;
        Span<byte> message = stackalloc byte[Notification.MaxBytes];
        Add(message[..Notification.InvalidateEntry(message, parent.Value, name)], parent, new(InodeNumber.None, Content: true));
    }

    /// <summary>A name was deleted with what it named; programs that watch it are told.</summary>
    public void EntryDeleted(InodeNumber parent, InodeNumber child, ReadOnlySpan<byte> name)
    {
        if (!_presence.MayHave(parent))
            return;
        Span<byte> message = stackalloc byte[Notification.MaxBytes];
        Add(message[..Notification.Delete(message, parent.Value, child.Value, name)], parent, new(InodeNumber.None, Content: true));
    }

    /// <summary>Mode, owner, times, link count or extended attributes of an inode changed, its data did not. Also
    /// for the directory in which an entry changed, whose own times and counts change:
    /// <paramref name="parent"/> is where the inode has its name.</summary>
    public void AttributesChanged(InodeNumber inode, InodeNumber parent)
    {
        if (_presence.MayHave(inode))
            Add([], inode, new(parent, Content: false));
    }

    /// <summary>Cached pages and attributes of an inode are not true any more.</summary>
    public void ContentChanged(InodeNumber inode)
    {
        if (_presence.MayHave(inode))
            Add([], inode, new(InodeNumber.None, Content: true));
    }

    /// <summary>Everything is to be looked up again: after a resync whose difference is not known.</summary>
    public void EverythingChanged()
    {
        lock (_gate)
        {
            if (!_hasEpoch)
                throw new NotSupportedException($"the kernel has no {nameof(FuseConstants.FUSE_NOTIFY_INC_EPOCH)}: changes must be told one by one");
            DegradeLocked();
        }
    }

    /// <summary>All changes up to <paramref name="sequence"/> are in the tree and have been told to this object.</summary>
    public void Applied(LogSequence sequence)
    {
        lock (_gate)
        {
            _applied = sequence.Value;
            Monitor.Pulse(_gate);
        }
    }

    /// <summary>Asks the kernel whether it has an inode, from the calling thread, which must not be a worker. Drops
    /// the inode's cached attributes.</summary>
    public InodePresence Probe(InodeNumber inode)
    {
        Span<byte> message = stackalloc byte[Notification.MaxBytes];
        int result = _transport.Write(message[..Notification.InvalidateInode(message, inode.Value, -1, 0)], default);
        return result >= 0 ? InodePresence.Present
            : (Errno)(-result) == Errno.ENOENT ? InodePresence.Absent
            : InodePresence.Unknown;
    }

    /// <summary>Has the kernel drop what it has of an inode's content, and its mappings, from the calling thread, which must not be a
    /// worker.</summary>
    public void DropContent(InodeNumber inode)
    {
        Span<byte> message = stackalloc byte[Notification.MaxBytes];
        _ = _transport.Write(message[..Notification.InvalidateInode(message, inode.Value, 0, 0)], default); // ENOENT: it had none
    }

    /// <summary>Has the kernel drop a name at once, from the calling thread, which must not be a worker.</summary>
    public void DropEntry(InodeNumber parent, ReadOnlySpan<byte> name)
    {
        Span<byte> message = stackalloc byte[Notification.MaxBytes];
        _ = _transport.Write(message[..Notification.InvalidateEntry(message, parent.Value, name)], default); // ENOENT: it had none
    }

    /// <summary>As <see cref="Probe"/>, after asking a kernel that can (7.45) to drop the inode unless it is in use.
    /// An older one keeps a deleted inode cached when its name was invalidated by an epoch only; there the caller
    /// repeats <see cref="EntryDeleted"/> now and then.</summary>
    public InodePresence Release(InodeNumber inode)
    {
        if (_hasPrune)
        {
            Span<byte> message = stackalloc byte[Notification.MaxBytes];
            _ = _transport.Write(message[..Notification.Prune(message, inode.Value)], default); // the probe tells what came of it
        }
        return Probe(inode);
    }

    /// <summary>Sends nothing more, and does not wait for the thread.</summary>
    public void BeginStop()
    {
        lock (_gate)
        {
            if (_stopping)
                return;
            _stopping = true;
            Monitor.Pulse(_gate);
        }
        _stop.Cancel();
    }

    /// <summary>Stops the thread; what still waits is not sent. Called when the connection is over, or with it, or when another daemon
    /// goes on.</summary>
    public void Dispose()
    {
        BeginStop();
        _thread?.Join();
        _stop.Dispose();
        _reader.Dispose();
    }

    // A message about a name, if there is one, and what it changes about an inode.
    private void Add(ReadOnlySpan<byte> message, InodeNumber inode, InodeChange change)
    {
        lock (_gate)
        {
            if (_coarse)
                return; // everything is about to be invalidated anyway
            if (!message.IsEmpty && !_queue.TryAdd(message, unlimited: !_hasEpoch))
            {
                DegradeLocked();
                return;
            }
            ref InodeChange known = ref CollectionsMarshal.GetValueRefOrAddDefault(_inodes, inode, out bool exists);
            known = exists ? known.And(change) : change;
        }
    }

    private void DegradeLocked()
    {
        _queue.Clear();
        _inodes.Clear();
        _coarse = true;
        Monitor.Pulse(_gate);
    }

    // Under _gate.
    private bool HasWaiting => _coarse || _queue.Taken != _queue.Added || _inodes.Count > 0 || _applied != _notified;

    private void Run()
    {
        while (true)
        {
            lock (_gate)
            {
                while (!_stopping && !HasWaiting)
                    Monitor.Wait(_gate);
                if (_stopping)
                    return;
            }
            TellWaiting();
        }
    }

    /// <summary>Tells the kernel what waits. Gives whether there was anything. The notifying thread.</summary>
    internal bool TellWaiting()
    {
        // Everything that belongs to `target` was added before it was set, so it is told once the queue has
        // moved past `until`, the coarse round, if there is one, is done, and then `_taken` is.
        byte[] message = _message;
        ulong target;
        long until;
        lock (_gate)
        {
            if (_stopping || !HasWaiting)
                return false;
            target = _applied;
            until = _queue.Added;
            (_taken, _inodes) = (_inodes, _taken);
        }
        while (true)
        {
            bool coarse;
            int bytes = 0;
            lock (_gate)
            {
                if (_stopping)
                    return true;
                coarse = _coarse;
                _coarse = false; // changes from here on are queued again, behind the round that starts now
                if (!coarse)
                {
                    if (_queue.Taken >= until)
                        break;
                    bytes = _queue.Take(message);
                }
            }
            if (coarse)
                InvalidateEverything(message, _reader);
            else
                SendName(message.AsSpan(0, bytes), new(Notification.ParentOf(message)));
        }
        foreach ((InodeNumber inode, InodeChange change) in _taken)
        {
            if (_stopping)
                return true;
            Send(message, inode, change);
        }
        _taken.Clear();
        // Whoever was to be told of the last ones was not, when the end came then.
        if (_stopping || target == _notified)
            return true;
        Volatile.Write(ref _notified, target);
        Notified?.Invoke(new LogSequence(target));
        return true;
    }

    private void Send(Span<byte> message, InodeNumber inode, InodeChange change)
    {
        if (change.Parent != InodeNumber.None)
            SendName(message[..Notification.InvalidateEntry(message, change.Parent.Value, "."u8)], change.Parent);
        Send(message[..Notification.InvalidateInode(message, inode.Value, change.Content ? 0 : -1, 0)]);
    }

    private void SendName(ReadOnlySpan<byte> message, InodeNumber directory)
    {
        try
        {
            Locked?.Invoke(directory)?.Wait(_stop.Token);
        }
        catch (OperationCanceledException)
        {
            return; // who leaves the mount has less patience than a master may take for its answer
        }
        if (!_stopping)
            Send(message);
    }

    private void Send(ReadOnlySpan<byte> message)
    {
        int result = _transport.Write(message, default);
        Volatile.Write(ref _sent, _sent + 1);
        if (result >= 0)
            return;

        // DELETE of a directory that still has cached children answers ENOTEMPTY, of a mount point EBUSY: both
        // after the entry was invalidated, which is what matters.
        if ((Errno)(-result) is not (Errno.ENOENT or Errno.ENOTEMPTY or Errno.EBUSY or Errno.ENOTDIR or Errno.ENODEV or Errno.ECONNABORTED))
        {
            Volatile.Write(ref _lastRefusal, -result);
            Volatile.Write(ref _refused, _refused + 1);
        }
    }

    // A new epoch makes the kernel look up every name again, known or negative, at its next use, and the answer
    // brings fresh attributes. That leaves what is reached without a name (open files, working directories) and
    // cached listings: INVAL_INODE for every inode of the tree that the kernel may have.
    private void InvalidateEverything(Span<byte> message, TreeReader reader)
    {
        Volatile.Write(ref _coarseRounds, _coarseRounds + 1);
        Send(message[..Notification.IncrementEpoch(message)]);
        var pending = new Stack<InodeNumber>();
        var batch = new List<(InodeNumber Inode, bool Directory)>(EntriesPerScope);
        pending.Push(InodeNumber.Root);
        Send(message[..Notification.InvalidateInode(message, InodeNumber.Root.Value, 0, 0)]);
        while (pending.TryPop(out InodeNumber directory))
        {
            if (_presence.MayHave(directory))
                Send(message[..Notification.InvalidateEntry(message, directory.Value, "."u8)]);
            ulong cookie = 0;
            InodeNumber last = default;
            do
            {
                batch.Clear();
                using (TreeScope scope = reader.Enter())
                {
                    DirectoryEntries entries = scope.List(directory, cookie, last);
                    while (batch.Count < EntriesPerScope && entries.MoveNext())
                    {
                        InodeAttributes child = entries.Attributes;
                        cookie = entries.Cookie;
                        last = child.Inode;
                        batch.Add((child.Inode, child.Kind == InodeKind.Directory));
                    }
                }
                foreach ((InodeNumber inode, bool isDirectory) in batch)
                {
                    if (isDirectory)
                        pending.Push(inode);
                    if (_presence.MayHave(inode))
                        Send(message[..Notification.InvalidateInode(message, inode.Value, isDirectory ? 0 : -1, 0)]);
                }
            }
            while (batch.Count == EntriesPerScope);
        }
    }

    /// <summary>What waits to be told about an inode: <paramref name="Content"/> or only its attributes;
    /// <paramref name="Parent"/> is the directory whose lock to wait for first, or none.</summary>
    private readonly record struct InodeChange(InodeNumber Parent, bool Content)
    {
        /// <summary>Both. An inode with two parents was renamed in between, which waits for the first one's lock.</summary>
        public InodeChange And(InodeChange later) => new(later.Parent == InodeNumber.None ? Parent : later.Parent, Content || later.Content);
    }
}
