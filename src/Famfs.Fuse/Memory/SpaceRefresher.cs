using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Namespace;
using Famfs.Fuse.Operations;
using Famfs.Fuse.Protocol;

namespace Famfs.Fuse.Memory;

/// <summary>
/// Drops this host's lines of space that was given back, where no worker reaches the memory (SAFETY S18): all of it, as soon as it
/// comes, on a thread of its own. An OPEN of a file there waits until that is done. It comes before anybody may map the file, so the
/// kernel has no second inode there while a window is open. How far it is, is stored for the next daemon of a kept mount before an
/// OPEN is answered: what the next one drops again, nobody has mapped.
/// <para>Guard: <c>_gate</c>, held for a few instructions.</para>
/// </summary>
/// <param name="reused">The space.</param>
internal sealed class SpaceRefresher(ReusedSpace reused) : IOpenDelay, IDisposable
{
    // Between two tries of what is not possible yet, first and at most (chosen: usually the kernel lets go of a window at once).
    private static readonly TimeSpan FirstPause = TimeSpan.FromMilliseconds(1);
    private static readonly TimeSpan LongestPause = TimeSpan.FromSeconds(1);

    private readonly object _gate = new(); // guards the block below
    private readonly List<DelayedOpen> _waiting = [];
    private bool _news;
    private bool _stopping;

    private Thread? _thread;

    /// <summary>Begins, when the mount is reached.</summary>
    /// <param name="use">As of <see cref="SpaceWindows.TryUse"/>.</param>
    /// <param name="position">Up to where records were applied.</param>
    /// <param name="done">Space that was given back up to there is in no cache of this host any more. On this object's thread.</param>
    public void Start(Func<MapExtent, Action<DaxDevice>, bool> use, Func<LogSequence> position, Action<LogSequence> done)
    {
        reused.Added += Wake;
        _thread = new(() => Run(use, position, done)) { IsBackground = true, Name = "reused space" };
        _thread.Start();
    }

    /// <inheritdoc/>
    public bool IsNeeded(ReadOnlySpan<MapExtent> extents) => reused.IsReused(extents);

    /// <inheritdoc/>
    public IMutation Wait(MapExtent[] extents) => new DelayedOpen(this, extents);

    /// <summary>Ends its thread. Who waits is not answered. More than once.</summary>
    public void Dispose()
    {
        reused.Added -= Wake;
        lock (_gate)
        {
            _stopping = true;
            Monitor.Pulse(_gate);
        }
        _thread?.Join();
    }

    private void Wake()
    {
        lock (_gate)
        {
            _news = true;
            Monitor.Pulse(_gate);
        }
    }

    private void Run(Func<MapExtent, Action<DaxDevice>, bool> use, Func<LogSequence> position, Action<LogSequence> done)
    {
        _news = true; // what was there before
        while (true)
        {
            lock (_gate)
            {
                while (!_news && !_stopping)
                    Monitor.Wait(_gate);
                if (_stopping)
                    return;
                _news = false;
            }
            // In this order: what was given back up to there is taken.
            LogSequence upTo = position();
            IReadOnlyList<MapExtent> taken = reused.Take();
            foreach (MapExtent extent in taken)
            {
                if (!Refresh(use, extent))
                    return;
            }
            if (taken.Count > 0)
            {
                done(upTo);
                reused.Refreshed();
            }
            Answer(extents => !reused.IsReused(extents), Errno.None);
        }
    }

    // False: told to stop.
    private bool Refresh(Func<MapExtent, Action<DaxDevice>, bool> use, MapExtent extent)
    {
        TimeSpan pause = FirstPause;
        while (true)
        {
            bool faults = false;
            try
            {
                if (use(extent, static memory => memory.Invalidate(0, memory.LengthBytes)))
                    return true;
            }
            catch (Exception error) when (error is DeviceFaultException or FamfsException)
            {
                faults = true;
            }
            // Memory that faults may heal; meanwhile nobody waits for it.
            if (faults)
                Answer(extents => Array.Exists(extents, extent.Overlaps), Errno.EIO);
            lock (_gate)
            {
                if (!_stopping)
                    Monitor.Wait(_gate, pause);
                if (_stopping)
                    return false;
            }
            pause = TimeSpan.FromTicks(Math.Min(pause.Ticks * 2, LongestPause.Ticks));
        }
    }

    private void Answer(Predicate<MapExtent[]> which, Errno errno)
    {
        List<DelayedOpen> answered = [];
        lock (_gate)
        {
            for (int i = _waiting.Count - 1; i >= 0; i--)
            {
                if (!which(_waiting[i].Extents))
                    continue;
                answered.Add(_waiting[i]);
                _waiting.RemoveAt(i);
            }
        }
        foreach (DelayedOpen open in answered)
            open.End(errno);
    }

    private void Add(DelayedOpen open)
    {
        lock (_gate)
        {
            _waiting.Add(open);
            _news = true; // it may have become ready meanwhile
            Monitor.Pulse(_gate);
        }
    }

    private bool TryRemove(DelayedOpen open)
    {
        lock (_gate)
            return _waiting.Remove(open);
    }

    private sealed class DelayedOpen(SpaceRefresher owner, MapExtent[] extents) : IMutation
    {
        private PendingReply? _reply;

        public MapExtent[] Extents => extents;

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
