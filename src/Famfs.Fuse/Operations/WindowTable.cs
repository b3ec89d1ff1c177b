using System.Collections.Immutable;
using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Namespace;

namespace Famfs.Fuse.Operations;

/// <summary>A window in <c>.meta/window</c>: reserved space that a writer of this host may store to.</summary>
/// <param name="Node">Its node id, above every inode number.</param>
/// <param name="Extent">The range.</param>
/// <param name="Term">The term that the range is reserved to.</param>
/// <param name="Name">Its name, UTF-8.</param>
public sealed record Window(ulong Node, MapExtent Extent, Term Term, byte[] Name);

/// <summary>
/// The windows of this mount (SAFETY S10): one for each range that a replayed record reserves to a term of this host's
/// master slot, as long as no later term has started. A window that was closed answers ESTALE for good: its node id is
/// never given again, not even when the same range is reserved again.
/// <para>A kernel that holds the devices must never have two inodes over the same memory that were both mapped. So a window that was
/// closed is remembered until the kernel has let go of it (<see cref="RemembersClosed"/>).</para>
/// <para>Threads: <see cref="Update"/> is called by whoever applies records; the rest by any thread, without lock, but for
/// <see cref="Forget"/>.</para>
/// </summary>
public sealed class WindowTable
{
    /// <summary>Node id of the directory; those of windows are above it.</summary>
    public const ulong DirectoryNode = MediaLayout.FirstPrivateNode;

    // Chosen: a window is opened for gigabytes, so no daemon opens as many.
    private const ulong NodesOfDaemon = 1UL << 24;

    // Replaced whole by the applying thread.
    private volatile Window[] _open = [];

    private readonly Lock _closing = new(); // guards the block below
    private readonly List<Window> _closed = [];
    private volatile bool _hasClosed;

    // Owner: the applying thread.
    private ulong _nextNode = DirectoryNode + 1;
    private ImmutableArray<Reservation> _seen = [];
    private Term _seenTerm;

    /// <summary>Windows that are open now, by node id ascending.</summary>
    public ReadOnlySpan<Window> Open => _open;

    /// <summary>Whether windows that are closed are remembered until <see cref="Forget"/>: set when a kernel may have any.</summary>
    public bool RemembersClosed { get; set; }

    /// <summary>Called when a window was closed. By whoever applies records.</summary>
    public event Action? Closed;

    /// <summary>Whether there are windows that were closed and may be in the kernel.</summary>
    public bool HasClosed => _hasClosed;

    /// <summary>Windows that were closed and may be in the kernel, as of now.</summary>
    public IReadOnlyList<Window> ListClosed()
    {
        lock (_closing)
            return [.. _closed];
    }

    /// <summary>Whether the kernel may have any window.</summary>
    public bool HasAny => _open.Length > 0 || _hasClosed;

    /// <summary>Whether the kernel may have a window over any of this space, an open one or a closed one.</summary>
    public bool IsCovered(MapExtent[] extents)
    {
        bool IsOver(Window window) => Array.Exists(extents, window.Extent.Overlaps);
        // In this order: one that is being closed is in both.
        if (Array.Exists(_open, IsOver))
            return true;
        lock (_closing)
            return _closed.Exists(IsOver);
    }

    /// <summary>The kernel has let go of these closed windows.</summary>
    public void Forget(IReadOnlyCollection<Window> gone)
    {
        lock (_closing)
        {
            _ = _closed.RemoveAll(gone.ToHashSet().Contains);
            _hasClosed = _closed.Count > 0;
        }
    }

    /// <summary>Node ids go on after those that former daemons of this mount may have given; before the first window.</summary>
    public void ContinueAfter(uint generation) => _nextNode = DirectoryNode + 1 + (generation * NodesOfDaemon);

    /// <summary>Opens and closes windows as the state says now, on host <paramref name="host"/>.
    /// Gives the windows that were closed; the kernel must be told of them.</summary>
    public IReadOnlyList<Window> Update(ReplayState state, Guid host)
    {
        ImmutableArray<Reservation> seen = state.Reservations;
        Term term = state.LastStartedTerm;
        if (_seen == seen && _seenTerm == term)
            return [];
        bool ours = state.MasterSlots.TryGetValue(term.Slot, out Guid owner) && owner == host;
        List<MapExtent> wanted = [];
        foreach (Reservation reservation in seen)
        {
            if (ours && reservation.Term == term)
                wanted.AddRange(reservation.Extents);
        }
        Window[] before = _open;
        // Records come in blocks: the same range may have been reserved to one term and be to another now.
        bool StaysOpen(Window window) => window.Term == term && wanted.Contains(window.Extent);
        List<Window> closed = [.. before.Where(w => !StaysOpen(w))];
        List<Window> open = [.. before.Where(StaysOpen)];
        Span<byte> name = stackalloc byte[MetaNames.MaxBytes];
        foreach (MapExtent extent in wanted)
        {
            if (open.Exists(w => w.Extent == extent))
                continue;
            int length = MetaNames.FormatWindow(extent, name);
            open.Add(new(_nextNode++, extent, term, name[..length].ToArray()));
        }
        if (RemembersClosed && closed.Count > 0)
        {
            // Before they are open no longer: whoever asks finds them in one of both.
            lock (_closing)
            {
                _closed.AddRange(closed);
                _hasClosed = true;
            }
        }
        _open = [.. open];
        (_seen, _seenTerm) = (seen, term);
        if (closed.Count > 0)
            Closed?.Invoke();
        return closed;
    }

    /// <summary>The open window of that name, or null.</summary>
    public Window? Find(ReadOnlySpan<byte> name)
    {
        foreach (Window window in _open)
        {
            if (name.SequenceEqual(window.Name))
                return window;
        }
        return null;
    }

    /// <summary>The open window with that node id, or null.</summary>
    public Window? Find(ulong node)
    {
        foreach (Window window in _open)
        {
            if (window.Node == node)
                return window;
        }
        return null;
    }
}
