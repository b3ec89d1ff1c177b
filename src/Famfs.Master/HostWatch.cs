using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.V1;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace Famfs.Master;

/// <summary>Looks at the memory regularly: at the host table for acknowledgements of hosts without a stream and for lines of an
/// earlier boot that stand still while their host has booted anew (SAFETY S14); for devices that the log names
/// and this host lacks.</summary>
internal sealed class HostWatch(MasterEngine engine, MasterOperations operations, MountTable mounts, DeviceSearch devices, TimeProvider clock, ILogger<HostWatch> log) : BackgroundService
{
    /// <summary>How long a line of an earlier boot must stand still (chosen: ten of its ticks).</summary>
    private static readonly TimeSpan Lease = TimeSpan.FromSeconds(10);

    private static readonly TimeSpan Interval = TimeSpan.FromMilliseconds(250);

    // Owner: the watch's own loop.
    private readonly Dictionary<Guid, (ulong Counter, long Since, bool Moved)> _seen = [];
    private readonly HashSet<string> _gaps = [];
    private string _lastProblem = "";

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using PeriodicTimer timer = new(Interval, clock);
        while (await timer.WaitForNextTickAsync(stoppingToken).ConfigureAwait(false))
        {
            try
            {
                LookForDevices();
                foreach (HostLine line in FindEarlierBoots(mounts.Scan(engine.Pool.Primary.FileSystem, engine.State.HostSlots)))
                {
                    await engine.RunAsync(_ => operations.RecordGone(line.Host, line.Mount, GoneEvidence.NewBoot, "the host has booted anew")).ConfigureAwait(false);
                    MasterLog.MountGone(log, line.Mount, line.Host);
                }
                IReadOnlyList<string> gaps = mounts.FindGaps(engine.State);
                foreach (string gap in gaps.Where(_gaps.Add))
                    MasterLog.DialectGap(log, gap);
                _gaps.IntersectWith(gaps);
            }
            catch (Exception error) when (error is not OperationCanceledException)
            {
                // A full log or a busy master today is looked at again next time; a deposed one ends by itself.
                if (error.Message != _lastProblem)
                    MasterLog.WatchFails(log, _lastProblem = error.Message);
            }
        }
    }

    private void LookForDevices()
    {
        DeviceSearchResult result = devices.Look(engine.Pool, engine.State.Devices);
        foreach (DeviceIndex index in result.Attached)
            MasterLog.DeviceAttached(log, index.Value, engine.Pool.Require(index).Path);
        foreach ((DeviceAdded device, string cause) in result.Missing)
            MasterLog.DeviceMissing(log, device.Index, device.DeviceUuid.ToGuid("device_uuid"), cause);
    }

    /// <summary>Takes the lines as they are now; gives those of an earlier boot that have stood still for long enough.</summary>
    internal List<HostLine> FindEarlierBoots(IReadOnlyList<HostEntry> entries)
    {
        List<HostLine> lines = [.. entries.Select(e => e.Line).OfType<HostLine>()];
        foreach (HostLine line in lines)
        {
            // A line that is seen for the first time may have stood still for long.
            if (!_seen.TryGetValue(line.Mount, out (ulong Counter, long Since, bool Moved) known))
                _seen[line.Mount] = (line.Counter, clock.GetTimestamp(), false);
            else if (known.Counter != line.Counter)
                _seen[line.Mount] = (line.Counter, clock.GetTimestamp(), true);
        }
        List<HostLine> gone = [];
        foreach (HostLine line in lines)
        {
            if (line.State != MountState.Live || engine.State.Gone.ContainsKey(line.Mount) || clock.GetElapsedTime(_seen[line.Mount].Since) < Lease)
                continue;
            // The boot whose line moves is the one the host is in.
            bool bootedAnew = lines.Any(other => other.Host == line.Host && other.Boot != line.Boot && other.State == MountState.Live
                && _seen[other.Mount].Moved && clock.GetElapsedTime(_seen[other.Mount].Since) < Lease);
            if (bootedAnew)
                gone.Add(line);
        }
        return gone;
    }
}
