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
/// <para>Threads: <see cref="Update"/> is called by whoever applies records; the rest by any thread, without lock.</para>
/// </summary>
public sealed class WindowTable
{
    /// <summary>Node id of the directory; those of windows are above it.</summary>
    public const ulong DirectoryNode = MediaLayout.FirstPrivateNode;

    // Chosen: a window is opened for gigabytes, so no daemon opens as many.
    private const ulong NodesOfDaemon = 1UL << 24;

    // Replaced whole by the applying thread.
    private volatile Window[] _open = [];

    // Owner: the applying thread.
    private ulong _nextNode = DirectoryNode + 1;
    private ImmutableArray<Reservation> _seen = [];
    private Term _seenTerm;

    /// <summary>Windows that are open now, by node id ascending.</summary>
    public ReadOnlySpan<Window> Open => _open;

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
        _open = [.. open];
        (_seen, _seenTerm) = (seen, term);
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
