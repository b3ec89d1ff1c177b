using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Namespace;
using Famfs.Fuse.Operations;
using Famfs.Fuse.Session;

namespace Famfs.Fuse.Replication;

/// <summary>What a mount has released: every file deleted up to <paramref name="Watermark"/>, but for those it names.</summary>
/// <param name="Watermark">A position that this mount has acknowledged.</param>
/// <param name="Exceptions">The one deleted first comes first.</param>
internal readonly record struct ReleaseStatement(LogSequence Watermark, InodeNumber[] Exceptions);

/// <summary>
/// Deleted files that this host may still have, and the positive statement of what it has released (SAFETY S12). A file is
/// released when the kernel has answered that it has no such inode, and where the host's caches may have lines of it that others do
/// not see, these are written back and dropped. What the kernel never heard of is released at once: from the record on
/// nobody gets it.
/// <para>Guard: <c>_gate</c>, held for a few instructions. The kernel is asked by a thread of its own.</para>
/// </summary>
internal sealed class HeldFiles : IDisposable
{
    /// <summary>Between two rounds of questions, first and at most (chosen: a program closes a file at any time, and a question
    /// costs some microseconds).</summary>
    private static readonly TimeSpan FirstPause = TimeSpan.FromMilliseconds(5);
    private static readonly TimeSpan LongestPause = TimeSpan.FromSeconds(1);

    private const int AskedAtOnce = 256;

    private readonly AckGate _acknowledged;
    private readonly KernelNotifier _notifier;
    private readonly KernelPresence _presence;
    private readonly KernelPresence _mapped;
    private readonly Func<InodeNumber, bool> _purge;
    private readonly Func<InodeNumber, bool> _mustHold;
    private readonly Thread? _thread;

    private readonly object _gate = new(); // guards the block below
    private readonly Dictionary<InodeNumber, LinkedListNode<Held>> _held = [];
    private readonly LinkedList<Held> _order = []; // the one deleted first comes first
    private bool _news;
    private bool _hasAsked;
    private volatile bool _stopping; // read without it, too: a purge takes long

    // Files below this number may have lines in this host's caches that a mount left which is gone. Written by upkeep.
    private ulong _ofOlderMounts;

    /// <summary>Begins with what a former daemon of this mount had not released; with nothing where there was none: a kernel that has
    /// just mounted has no inode.</summary>
    /// <param name="acknowledged">How far this mount is.</param>
    /// <param name="notifier">Asks the kernel.</param>
    /// <param name="presence">What the kernel may have.</param>
    /// <param name="purge">Writes back and drops a file's lines from this host's caches; false when it cannot: the file stays held.
    /// Called by a thread of this object.</param>
    /// <param name="mustHold">Whether a file stays held that the kernel never heard of: its space must not become another's while this
    /// mount is there. Called by whoever applies records.</param>
    /// <param name="hasThread">Whether it asks on a thread of its own; else its owner calls <see cref="AskAll"/>, on one thread.</param>
    /// <param name="before">Files that were deleted before, and the positions at or after which; in the order of these.</param>
    /// <param name="mapped">Files whose content the kernel may have, of which alone this host's caches have lines by this mount; null:
    /// those of <paramref name="presence"/>.</param>
    public HeldFiles(
        AckGate acknowledged, KernelNotifier notifier, KernelPresence presence, Func<InodeNumber, bool> purge, Func<InodeNumber, bool> mustHold,
        bool hasThread = true, IEnumerable<(InodeNumber Inode, LogSequence DeletedAt)>? before = null, KernelPresence? mapped = null)
    {
        _mapped = mapped ?? presence;
        (_acknowledged, _notifier, _presence, _purge, _mustHold) = (acknowledged, notifier, presence, purge, mustHold);
        foreach ((InodeNumber inode, LogSequence deletedAt) in before ?? [])
            _held.Add(inode, _order.AddLast(new Held(inode, deletedAt)));
        _hasAsked = _held.Count == 0;
        if (!hasThread)
            return;
        _thread = new(Run) { IsBackground = true, Name = "releases" };
        _thread.Start();
    }

    /// <summary>The releases of a mount.</summary>
    /// <param name="replica">Its copy of the namespace.</param>
    /// <param name="notifier">Asks its kernel.</param>
    /// <param name="presence">What that kernel may have.</param>
    /// <param name="find">Gives a device; null: it is not reached.</param>
    /// <param name="purge">Purges a file that the kernel has not, where the kernel has the devices; null: it is done by
    /// <paramref name="find"/>.</param>
    /// <param name="hasThread">As of the constructor.</param>
    /// <param name="before">As of the constructor.</param>
    /// <param name="mapped">As of the constructor.</param>
    public static HeldFiles Of(Replica replica, KernelNotifier notifier, KernelPresence presence, Func<DeviceIndex, DaxDevice?> find, Func<InodeNumber, bool>? purge = null, bool hasThread = true, IEnumerable<(InodeNumber Inode, LogSequence DeletedAt)>? before = null, KernelPresence? mapped = null)
    {
        HeldFiles? held = null;
        // Where all devices are coherent, there is nothing to purge.
        bool MustHold(InodeNumber inode) => held!.IsOfOlderMount(inode) && !replica.TryPurge(inode, static _ => null);
        bool Purge(InodeNumber inode) => !held!.MayHaveLines(inode) || (purge is null ? replica.TryPurge(inode, find) : purge(inode));
        held = new(replica.Gate, notifier, presence, Purge, MustHold, hasThread, before, mapped);
        return held;
    }

    /// <summary>Called when a file was released. On this object's thread.</summary>
    public event Action? Released;

    /// <summary>The kernel has been asked once for every file that was deleted before this object began.</summary>
    public bool HasAsked
    {
        get
        {
            lock (_gate)
                return _hasAsked;
        }
    }

    /// <summary>Files that are held.</summary>
    public int Count
    {
        get
        {
            lock (_gate)
                return _held.Count;
        }
    }

    /// <summary>A file has lost its name, and the tree says so. Whoever applies records.</summary>
    /// <param name="inode">The file.</param>
    /// <param name="after">A record before the one that deleted it.</param>
    public void Deleted(InodeNumber inode, LogSequence after)
    {
        if (!_presence.MayHave(inode) && !_mustHold(inode))
            return;
        lock (_gate)
        {
            if (_held.ContainsKey(inode))
                return;
            _held.Add(inode, _order.AddLast(new Held(inode, after.Next)));
            _news = true;
            Monitor.Pulse(_gate);
        }
    }

    /// <summary>What mounts of this host that are gone have left in its caches is this mount's to purge from now on: of every file below
    /// <paramref name="next"/>. Upkeep thread.</summary>
    public void TakeOver(InodeNumber next) => Volatile.Write(ref _ofOlderMounts, Math.Max(_ofOlderMounts, next.Value));

    /// <summary>This host's caches may have lines of a file: its kernel may have had its content, or that of a mount that is gone. Any thread.</summary>
    public bool MayHaveLines(InodeNumber inode) => _mapped.MayHave(inode) || IsOfOlderMount(inode);

    private bool IsOfOlderMount(InodeNumber inode) => inode.Value < Volatile.Read(ref _ofOlderMounts);

    /// <summary>What this mount has released, as of now. Any thread.</summary>
    /// <param name="most">Files that can be named. When there are more, the watermark is before the first that is not.</param>
    public ReleaseStatement Describe(int most = MountLine.MaxExceptions)
    {
        // In this order: what was deleted up to this position is in the list already.
        LogSequence watermark = _acknowledged.Acknowledged.Sequence;
        lock (_gate)
        {
            if (_held.Count == 0)
                return new(watermark, []);
            List<InodeNumber> exceptions = [];
            foreach (Held held in _order)
            {
                if (held.DeletedAt.Value > watermark.Value)
                    break;
                if (exceptions.Count == most)
                {
                    // Of those deleted at the same record some may be named already: they were deleted at or below it all the same.
                    watermark = new(held.DeletedAt.Value - 1);
                    exceptions.RemoveAll(inode => _held[inode].Value.DeletedAt.Value > watermark.Value);
                    break;
                }
                exceptions.Add(held.Inode);
            }
            return new(watermark, [.. exceptions]);
        }
    }

    /// <summary>Whether a file is held.</summary>
    public bool Holds(InodeNumber inode)
    {
        lock (_gate)
            return _held.ContainsKey(inode);
    }

    /// <summary>Files that are held, the one deleted first comes first.</summary>
    public IReadOnlyList<InodeNumber> List()
    {
        lock (_gate)
            return [.. _order.Select(held => held.Inode)];
    }

    /// <summary>Ends its thread. More than once.</summary>
    public void Dispose()
    {
        lock (_gate)
        {
            _stopping = true;
            Monitor.Pulse(_gate);
        }
        _thread?.Join();
    }

    private void Run()
    {
        TimeSpan pause = FirstPause;
        while (true)
        {
            lock (_gate)
            {
                while (!_stopping && _held.Count == 0)
                    Monitor.Wait(_gate);
                if (!_stopping && !_news)
                    Monitor.Wait(_gate, pause);
                if (_stopping)
                    return;
                pause = _news ? FirstPause : TimeSpan.FromTicks(Math.Min(pause.Ticks * 2, LongestPause.Ticks));
                _news = false;
            }
            AskAll();
            lock (_gate)
                _hasAsked |= !_stopping;
        }
    }

    /// <summary>Asks the kernel about every file that is held, once, and releases those that it has not. The asking thread.</summary>
    internal void AskAll()
    {
        List<InodeNumber> asked = [];
        LinkedListNode<Held>? next;
        lock (_gate)
            next = _order.First;
        while (next is not null)
        {
            asked.Clear();
            lock (_gate)
            {
                // Only this thread takes anything out.
                for (; next is not null && asked.Count < AskedAtOnce && !_stopping; next = next.Next)
                    asked.Add(next.Value.Inode);
            }
            if (asked.Count == 0)
                return;
            bool released = false;
            foreach (InodeNumber inode in asked)
            {
                if (_stopping)
                    return;
                if (_notifier.Release(inode) != InodePresence.Absent || !TryPurge(inode))
                    continue;
                lock (_gate)
                {
                    if (_held.Remove(inode, out LinkedListNode<Held>? node))
                        _order.Remove(node);
                }
                released = true;
            }
            if (released)
                Released?.Invoke();
        }
    }

    private bool TryPurge(InodeNumber inode)
    {
        try
        {
            return _purge(inode);
        }
        catch (Exception error) when (error is DeviceFaultException or FamfsException)
        {
            return false; // memory that faults may heal: it is asked again
        }
    }

    /// <summary>A deleted file. <paramref name="DeletedAt"/>: at this record or a later one.</summary>
    private readonly record struct Held(InodeNumber Inode, LogSequence DeletedAt);
}
