using Famfs.Core;
using Famfs.Core.Format;
using Famfs.V1;

namespace Famfs.Fuse.Replication;

/// <summary>Tells whether another machine lives under this host's id (SAFETY S14): a line of this host with another boot id
/// that moves is a copied identity. Upkeep thread.</summary>
internal sealed class TwinWatch(HostIdentity host, TimeProvider clock)
{
    /// <summary>How long lines of another boot are watched (chosen: lines move every second).</summary>
    private static readonly TimeSpan Watched = TimeSpan.FromSeconds(2.5);

    private Dictionary<int, ulong>? _counters; // by entry, at the first look
    private long _since;

    /// <summary>True when no line of another boot has moved for long enough, or there is none; false while that is not
    /// known. Throws HOST_CONFLICT for a twin.</summary>
    public bool StandStill(IReadOnlyList<HostEntry> block)
    {
        Dictionary<int, ulong> now = [];
        foreach (HostEntry entry in block)
        {
            // A line of a host that was forgotten may be in the block still.
            if (entry.Line is { State: MountState.Live } line && line.Host == host.Host && line.Boot != host.Boot)
                now[entry.Index] = line.Counter;
        }
        if (now.Count == 0)
            return true;
        if (_counters is null)
        {
            _counters = now;
            _since = clock.GetTimestamp();
            return false;
        }
        foreach ((int entry, ulong counter) in now)
        {
            // One that goes back has lost its newer copy to damage.
            if (_counters.TryGetValue(entry, out ulong before) && counter > before)
                throw new FamfsException(ErrorReason.HostConflict, $"another machine is mounted under this host's id {host.Host}; its state directory was copied");
        }
        return clock.GetElapsedTime(_since) >= Watched;
    }
}
