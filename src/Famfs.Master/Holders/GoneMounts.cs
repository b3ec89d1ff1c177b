using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Namespace;
using Famfs.Master.Changes;
using Famfs.Master.State;
using Famfs.V1;

namespace Famfs.Master.Holders;

/// <summary>
/// Decides which mounts are gone, and by which evidence: the one place. Silence proves nothing (SAFETY S12, S14). What proves
/// it is a record in the log, a line that its own mount has ended, what a host says of its own older mounts, and a line that
/// stands still while its host has booted anew. Under policy <c>lease</c> also one that stands still for longer than its mount
/// has stated (<see cref="MountRegistry.FindExpired"/>).
/// </summary>
internal sealed class GoneMounts(MasterState state, TimeProvider clock)
{
    /// <summary>How long a line of an earlier boot must stand still (chosen: ten of its ticks).</summary>
    private static readonly TimeSpan Still = TimeSpan.FromSeconds(10);

    // Owner: whoever calls FindEarlierBoots, one at a time.
    private readonly Dictionary<Guid, (ulong Counter, long Since, bool Moved)> _seen = [];

    /// <summary>How it is known that a mount is gone; null: it counts. Any thread.</summary>
    public GoneEvidence? Find(MountView mount)
    {
        // A mount with a stream has been admitted: what ended all mounts of its host was before it.
        LogSequence replayed = mount.KnownStreams > 0 ? new(ulong.MaxValue) : mount.Acknowledged.Sequence;
        if (state.FindGone(mount.Host, mount.Mount, replayed) is { } record)
            return record.Evidence;
        return mount.Ended ? GoneEvidence.CleanUnmount : null;
    }

    /// <summary>Whether a mount is gone. Any thread.</summary>
    public bool IsGone(MountView mount) => Find(mount) is not null;

    /// <summary>What a host may say itself, and of its own mounts only; everything else needs an operator. Any thread.</summary>
    public static IReadOnlyList<MountEnd> Accept(Guid host, IReadOnlyCollection<OlderMount> said, MountRegistry registry)
    {
        if (said.Count == 0)
            return [];
        List<MountEnd> ends = [];
        foreach (OlderMount older in said)
        {
            Guid mount = older.MountId.ToGuid("older mount_id");
            if (older.Evidence is GoneEvidence.CleanUnmount or GoneEvidence.SuperblockGone && registry.IsOf(mount, host))
                ends.Add(new(host, mount, older.Evidence, older.Detail));
        }
        return ends;
    }

    /// <summary>Takes the lines as they are now; gives the mounts of an earlier boot whose lines have stood still for long enough
    /// while their host has booted anew. To be called regularly.</summary>
    public List<MountEnd> FindEarlierBoots(IReadOnlyList<HostEntry> entries)
    {
        List<MountLine> lines = [.. entries.Select(e => e.Line).OfType<MountLine>()];
        foreach (MountLine line in lines)
        {
            // A line that is seen for the first time may have stood still for long.
            if (!_seen.TryGetValue(line.Mount, out (ulong Counter, long Since, bool Moved) known))
                _seen[line.Mount] = (line.Counter, clock.GetTimestamp(), false);
            // One that goes back has lost its newer copy to damage: that is no sign of life, and its boot is not the host's.
            else if (line.Counter > known.Counter)
                _seen[line.Mount] = (line.Counter, clock.GetTimestamp(), true);
        }
        // Entries are written anew by later mounts.
        if (_seen.Count > lines.Count)
        {
            HashSet<Guid> there = [.. lines.Select(line => line.Mount)];
            foreach (Guid mount in _seen.Keys.Where(mount => !there.Contains(mount)).ToList())
                _seen.Remove(mount);
        }
        List<MountEnd> gone = [];
        foreach (MountLine line in lines)
        {
            if (line.State != MountState.Live || state.FindGone(line.Host, line.Mount, line.ReplayedSequence) is { Evidence: not GoneEvidence.LossAccepted } || clock.GetElapsedTime(_seen[line.Mount].Since) < Still)
                continue;
            // The boot whose line moves is the one the host is in.
            bool bootedAnew = lines.Any(other => other.Host == line.Host && other.Boot != line.Boot && other.State == MountState.Live
                && _seen[other.Mount].Moved && clock.GetElapsedTime(_seen[other.Mount].Since) < Still);
            if (bootedAnew)
                gone.Add(new(line.Host, line.Mount, GoneEvidence.NewBoot, "the host has booted anew"));
        }
        return gone;
    }
}
