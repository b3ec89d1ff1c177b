using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Namespace;
using Famfs.Fuse.Operations;
using Famfs.Fuse.Protocol;
using Famfs.Fuse.Session;

namespace Famfs.Fuse.Memory;

/// <summary>
/// An OPEN of a file in space that was another's before waits until this host's caches have dropped it (SAFETY S18), and until the
/// kernel has no window over it any more. Where the kernel holds the devices no worker reaches the memory. Elsewhere a worker drops
/// what is small by itself, and would keep others' requests waiting for what is large.
/// <para>A thread of its own sees to both, and another to large files, so that nobody waits long for another's file. Where the kernel
/// holds the devices it flushes the file under its own inode, so it may do so again when programs have it mapped: a daemon that takes a
/// mount over need not know what the one before had dropped.</para>
/// <para>Guard: <c>_gate</c>, held for a few instructions.</para>
/// </summary>
/// <param name="reused">The space.</param>
/// <param name="windows">Those of the mount.</param>
/// <param name="flush">As of <see cref="FileFlusher.TryFlush"/>.</param>
/// <param name="inlineBytes">Up to so many bytes are not waited for here: a worker drops them.</param>
internal sealed class OpenDelay(ReusedSpace reused, WindowTable windows, Func<InodeNumber, Action<DaxDevice, long, long>, bool> flush, long inlineBytes = 0) : IOpenDelay, IDisposable
{
    /// <summary>What a worker drops by itself where it reaches the memory (chosen: it takes some tens of milliseconds).</summary>
    public const long MappedInlineBytes = 64L << 20;

    // Between two tries of what is not possible yet, first and at most.
    private static readonly TimeSpan FirstPause = TimeSpan.FromMilliseconds(1);
    private static readonly TimeSpan LongestPause = TimeSpan.FromSeconds(1);

    // Chosen: a master closes a window before it gives the space to a file.
    private static readonly TimeSpan WindowPatience = TimeSpan.FromSeconds(30);

    /// <summary>A file that is larger is large (chosen: it takes some tenths of a second).</summary>
    internal const long LargeBytes = 1L << 30;

    private const int Small = 1;
    private const int Large = 2;

    private readonly object _gate = new(); // guards the block below
    private readonly List<Waiting> _waiting = []; // the oldest first
    private int _news = Small; // whose thread has any: windows that were closed before
    private volatile bool _stopping; // set under it, and looked at between two parts of a file

    private Thread[] _threads = [];

    /// <summary>Begins, when the mount is served.</summary>
    public void Start(KernelNotifier notifier) => Start(window =>
    {
        // By its name, too: a former daemon of this mount gave the same under another node id.
        notifier.DropEntry(new(WindowTable.DirectoryNode), window.Name);
        return notifier.Release(new(window.Node));
    });

    /// <summary>The same with another way to have the kernel let go of a window.</summary>
    internal void Start(Func<Window, InodePresence> release)
    {
        windows.Closed += Wake;
        _threads = [new(() => Run(Small, release)) { Name = "first opens" }, new(() => Run(Large, null)) { Name = "first opens, large" }];
        foreach (Thread thread in _threads)
        {
            thread.IsBackground = true;
            thread.Start();
        }
    }

    /// <summary>An OPEN waits, or a window that was closed.</summary>
    internal bool HasWork
    {
        get
        {
            lock (_gate)
                return _waiting.Count > 0 || windows.HasClosed;
        }
    }

    /// <summary>One turn of its threads: what is possible now.</summary>
    internal void Step(Func<Window, InodePresence> release) => Step(Small | Large, release);

    private void Step(int sizes, Func<Window, InodePresence>? release)
    {
        Waiting[] waiting;
        lock (_gate)
            waiting = [.. _waiting.Where(open => (open.Size & sizes) != 0)];
        if (release is not null && windows.HasClosed)
        {
            windows.Forget([.. windows.ListClosed().Where(window => release(window) == InodePresence.Absent)]);
            Tell(Large);
        }
        foreach (Waiting open in waiting)
        {
            if (Try(open) is { } errno && TryRemove(open))
                open.End(errno);
        }
    }

    /// <inheritdoc/>
    public IMutation? Find(InodeNumber inode, in MapView map)
    {
        if (!reused.HasAny && !windows.HasAny)
            return null;
        MapExtent[] extents = new MapExtent[map.ExtentCount];
        for (int i = 0; i < extents.Length; i++)
            extents[i] = map[i];
        return map.SizeBytes > 0 && (reused.CountReused(extents) > inlineBytes || windows.IsCovered(extents)) ? new Waiting(this, inode, extents) : null;
    }

    /// <summary>Ends its thread. Who waits is not answered. More than once.</summary>
    public void Dispose()
    {
        windows.Closed -= Wake;
        lock (_gate)
        {
            _stopping = true;
            Monitor.PulseAll(_gate);
        }
        foreach (Thread thread in _threads)
            thread.Join();
    }

    private void Wake() => Tell(Small);

    private void Tell(int size)
    {
        lock (_gate)
        {
            _news |= size;
            Monitor.PulseAll(_gate);
        }
    }

    // The thread that is given how to release windows sees to them, too.
    private void Run(int size, Func<Window, InodePresence>? release)
    {
        TimeSpan pause = FirstPause;
        while (true)
        {
            lock (_gate)
            {
                bool hasNews = (_news & size) != 0;
                if (!hasNews && !_stopping)
                {
                    bool hasWork = _waiting.Exists(open => open.Size == size) || (release is not null && windows.HasClosed);
                    // Whom the pulse is for, the next turn finds out.
                    _ = hasWork ? Monitor.Wait(_gate, pause) : Monitor.Wait(_gate);
                    hasNews = (_news & size) != 0;
                }
                if (_stopping)
                    return;
                pause = hasNews ? FirstPause : TimeSpan.FromTicks(Math.Min(pause.Ticks * 2, LongestPause.Ticks));
                _news &= ~size;
            }
            Step(size, release);
        }
    }

    // Null: not yet.
    private Errno? Try(Waiting open)
    {
        if (windows.IsCovered(open.Extents))
            return Environment.TickCount64 - open.Since < WindowPatience.TotalMilliseconds ? null : Errno.EIO;
        if (!reused.IsReused(open.Extents))
            return Errno.None;
        try
        {
            if (!flush(open.Inode, Drop))
                return null;
        }
        catch (OperationCanceledException)
        {
            return null;
        }
        catch (Exception error) when (error is DeviceFaultException or FamfsException)
        {
            return Errno.EIO; // memory that faults may heal: the next OPEN tries again
        }
        reused.Refreshed(open.Extents);
        return Errno.None;
    }

    private void Drop(DaxDevice memory, long offset, long length)
    {
        if (_stopping)
            throw new OperationCanceledException();
        memory.Invalidate(offset, length);
    }

    private void Add(Waiting open)
    {
        lock (_gate)
        {
            _waiting.Add(open);
            _news |= open.Size;
            Monitor.PulseAll(_gate);
        }
    }

    private bool TryRemove(Waiting open)
    {
        lock (_gate)
            return _waiting.Remove(open);
    }

    private sealed class Waiting(OpenDelay owner, InodeNumber inode, MapExtent[] extents) : IMutation
    {
        private PendingReply? _reply;

        public InodeNumber Inode => inode;

        public MapExtent[] Extents => extents;

        public int Size { get; } = extents.Sum(extent => extent.LengthBytes) > LargeBytes ? Large : Small;

        public long Since { get; } = Environment.TickCount64;

        public void Begin(PendingReply reply)
        {
            _reply = reply;
            owner.Add(this);
        }

        public void End(Errno errno) => _ = errno == Errno.None ? _reply!.Complete(_reply.Node) : _reply!.Fail(errno);

        public bool TryWithdraw() => owner.TryRemove(this);

        public void Abandon() => owner.TryRemove(this);
    }
}
