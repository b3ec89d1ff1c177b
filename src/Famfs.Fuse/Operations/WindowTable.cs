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
/// <para>Beside these the daemon opens windows of its own, to have this host's caches drop lines of space that no file has
/// (S12, S18). They are found by their name and listed nowhere.</para>
/// <para>Threads: <see cref="Update"/> is called by whoever applies records. What finds a window takes no lock. The guard
/// <c>_gate</c> is for what opens and closes one.</para>
/// </summary>
public sealed class WindowTable
{
    /// <summary>Node id of the directory; those of windows are above it.</summary>
    public const ulong DirectoryNode = MediaLayout.FirstPrivateNode;

    // Chosen: a window for each microsecond, for twelve days.
    private const ulong NodesOfDaemon = 1UL << 40;

    private readonly Lock _gate = new(); // guards the block below
    private volatile Window[] _open = []; // replaced whole
    private volatile Window[] _own = []; // replaced whole
    private readonly List<Window> _closed = [];
    private ulong _nextNode = DirectoryNode + 1;

    // Owner: the applying thread.
    private ImmutableArray<Reservation> _seen = [];
    private Term _seenTerm;

    /// <summary>Windows of writers that are open now, by node id ascending.</summary>
    public ReadOnlySpan<Window> Open => _open;

    /// <summary>Whether <see cref="TakeClosed"/> is called.</summary>
    public bool RemembersClosed { get; set; }

    /// <summary>Windows that were closed since the last call, of which the kernel may have the inode.</summary>
    public IReadOnlyList<Window> TakeClosed()
    {
        lock (_gate)
        {
            if (_closed.Count == 0)
                return [];
            List<Window> closed = [.. _closed];
            _closed.Clear();
            return closed;
        }
    }

    /// <summary>Opens a window of the daemon's own. Any thread but a worker.</summary>
    public Window OpenOwn(MapExtent extent)
    {
        lock (_gate)
        {
            ulong node = _nextNode++;
            Window window = new(node, extent, default, System.Text.Encoding.UTF8.GetBytes(MetaNames.OfFlushWindow(node)));
            _own = [.. _own, window];
            return window;
        }
    }

    /// <summary>Whether that node id is an open window of the daemon's own.</summary>
    public bool IsOwn(ulong node) => Array.Exists(_own, w => w.Node == node);

    /// <summary>Closes a window of the daemon's own, which the kernel must be told.</summary>
    public void CloseOwn(Window window)
    {
        lock (_gate)
        {
            _own = [.. _own.Where(w => w != window)];
            _closed.Add(window);
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
        lock (_gate)
            return Replace(wanted, term, seen);
    }

    private List<Window> Replace(List<MapExtent> wanted, Term term, ImmutableArray<Reservation> seen)
    {
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
        _open = [.. open];
        (_seen, _seenTerm) = (seen, term);
        if (RemembersClosed)
            _closed.AddRange(closed);
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
        foreach (Window window in _own)
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
        foreach (Window window in _own)
        {
            if (window.Node == node)
                return window;
        }
        return null;
    }
}
