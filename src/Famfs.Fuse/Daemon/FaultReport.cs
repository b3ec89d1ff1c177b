using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Fuse.Session;
using Microsoft.Extensions.Logging;

namespace Famfs.Fuse.Daemon;

/// <summary>
/// Says what the threads that serve the kernel can only count: requests that failed, memory that could not be read, maps and
/// notifications that were refused, changes that a mount does not do. One line for however many since the last, at most one per kind and
/// <see cref="Interval"/>, and of changes per <see cref="ForbiddenInterval"/>. Upkeep thread, and in the end whoever ends it.
/// </summary>
internal sealed class FaultReport(FuseMount mount, TimeProvider clock, ILogger log, Func<DeviceIndex, Guid?>? findUuid = null)
{
    /// <summary>Least time between two lines of a kind. Chosen.</summary>
    public static readonly TimeSpan Interval = TimeSpan.FromSeconds(1);

    /// <summary>Least time between two lines about changes that are refused. Chosen: each program of a host learns by its error; the line
    /// is for who looks into the log.</summary>
    public static readonly TimeSpan ForbiddenInterval = TimeSpan.FromHours(1);

    private readonly Kind _forbidden = new();
    private readonly Kind _failures = new();
    private readonly Kind _refusedMaps = new();
    private readonly Kind _faults = new();
    private readonly Kind _rejected = new();
    private readonly Kind _refusedNotices = new();
    private readonly HashSet<DeviceIndex> _saidMissing = [];
    private long _seenMissing;
    private bool _saidForeignMaps;

    /// <summary>Says what is new; with <paramref name="last"/> also what was said a moment ago.</summary>
    public void Say(bool last = false)
    {
        FuseMountStatistics now = mount.Statistics;
        if (now.ForeignFmaps != 0 && !_saidForeignMaps)
        {
            DaemonLog.ForeignMaps(log, mount.Negotiated.Dialect.Name);
            _saidForeignMaps = true;
        }
        if (mount.LastFailure is { } failure && _failures.TryTake(now.Failures, clock, last, out long count))
            DaemonLog.Failures(log, count, failure.GetType().Name, failure.Message, failure);
        if (mount.LastRefusedFmap is { } map && _refusedMaps.TryTake(now.RefusedFmaps + now.InexpressibleFmaps, clock, last, out count))
            DaemonLog.RefusedMaps(log, count, map.ToString());
        if (_faults.TryTake(now.Faults, clock, last, out count))
            DaemonLog.Faults(log, count);
        if (now.MissingDevice + now.RefusedFmaps != _seenMissing)
        {
            _seenMissing = now.MissingDevice + now.RefusedFmaps;
            SayMissing();
        }
        if (_forbidden.TryTake(now.Forbidden, clock, last: false, out count, ForbiddenInterval))
            DaemonLog.Forbidden(log, count);
        if (_rejected.TryTake(now.Rejected, clock, last, out count))
            DaemonLog.Rejected(log, count);
        if (_refusedNotices.TryTake(mount.Notifier.Refused, clock, last, out count))
            DaemonLog.RefusedNotifications(log, count, mount.Notifier.LastRefusal.ToString());
    }

    /// <summary>One line for each device, not for each read.</summary>
    private void SayMissing()
    {
        for (int i = 0; i < MediaLayout.MaxDevices; i++)
        {
            DeviceIndex device = new((ushort)i);
            if (mount.MissedDevices.IsMarked(device) && _saidMissing.Add(device))
                DaemonLog.MissingDevice(log, device.Value, findUuid?.Invoke(device)?.ToString() ?? "its uuid is not known", mount.MountPointPath);
        }
    }

    private sealed class Kind
    {
        private long _said;
        private long? _at;

        public bool TryTake(long now, TimeProvider clock, bool last, out long count, TimeSpan? interval = null)
        {
            count = now - _said;
            if (count <= 0 || (!last && _at is { } at && clock.GetElapsedTime(at) < (interval ?? Interval)))
                return false;
            _said = now;
            _at = clock.GetTimestamp();
            return true;
        }
    }
}
