using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Namespace;
using Famfs.Master.Changes;
using Famfs.Master.Engine;
using Famfs.Master.State;
using Famfs.V1;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace Famfs.Master.Holders;

/// <summary>Looks at the memory regularly: at the host table, for acknowledgements of hosts without a stream and for mounts that
/// are gone; for devices that the log names and this host lacks; and at what the log has got, for the operator.</summary>
internal sealed class HostWatch(MasterEngine engine, MasterState state, MountRegistry mounts, Func<LogPosition> published, DeviceSearch devices, TimeProvider clock, ILogger<HostWatch> log) : BackgroundService
{
    private static readonly TimeSpan Interval = TimeSpan.FromMilliseconds(250);

    // Owner: the watch's own loop.
    private readonly HashSet<string> _gaps = [];
    private readonly HashSet<string> _absences = [];
    private readonly HashSet<int> _avoided = [];
    private readonly HashSet<Guid> _hosts = [.. state.Replay.Hosts.Keys];
    private readonly HashSet<int> _slots = [.. state.Replay.MasterSlots.Keys];
    private int _devices = state.Replay.Devices.Length;
    private string _lastProblem = "";

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using PeriodicTimer timer = new(Interval, clock);
        while (await timer.WaitForNextTickAsync(stoppingToken).ConfigureAwait(false))
        {
            try
            {
                SayWhatIsNew();
                LookForDevices();
                IReadOnlyList<MountEnd> gone = mounts.LookForGone();
                SayAbsences(mounts.Refresh(published().Sequence));
                foreach (MountEnd end in gone)
                {
                    await engine.RunAsync(new MountGone(end), Caller.Master).ConfigureAwait(false);
                    MasterLog.MountGone(log, end.Mount, end.Host, end.Detail);
                }
                IReadOnlyList<string> gaps = mounts.FindGaps();
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

    /// <summary>Hosts, master slots and devices come by calls of different kinds; the log has them all.</summary>
    private void SayWhatIsNew()
    {
        foreach (DeviceAdded device in state.Replay.Devices.Skip(_devices))
        {
            MasterLog.DeviceAdded(log, device.Index, device.DeviceUuid.ToGuid("device_uuid"), device.LengthBytes);
            _devices++;
        }
        _hosts.IntersectWith(state.Replay.Hosts.Keys); // one that was forgotten may come again
        foreach (HostRecord host in state.Replay.Hosts.Values.Where(h => _hosts.Add(h.Host)).OrderBy(h => h.Slot))
            MasterLog.HostRegistered(log, host.Host, host.Name, host.Slot);
        foreach ((int slot, Guid host) in state.Replay.MasterSlots.Where(s => _slots.Add(s.Key)))
            MasterLog.SlotGranted(log, host, slot);
    }

    /// <summary>A mount that is about to look for a new device is no news.</summary>
    private void SayAbsences(IReadOnlyList<DeviceAbsence> absences)
    {
        List<DeviceAbsence> told = [.. absences.Where(a => a.Lacks || a.Released is not null)];
        foreach (DeviceAbsence absence in told.Where(a => _absences.Add(a.ToString())))
            MasterLog.DeviceAbsent(log, absence.ToString());
        _absences.IntersectWith(told.Select(a => a.ToString()));
        HashSet<int> avoided = [.. told.Where(a => a.Released is null).Select(a => a.Device)];
        foreach (int device in _avoided.Except(absences.Where(a => a.Released is null).Select(a => a.Device)).ToList())
        {
            MasterLog.DeviceUsed(log, device);
            _avoided.Remove(device);
        }
        _avoided.UnionWith(avoided);
    }

    private void LookForDevices()
    {
        DeviceSearchResult result = devices.Look(state.Pool, state.Replay.Devices);
        foreach (DeviceIndex index in result.Attached)
            MasterLog.DeviceAttached(log, index.Value, state.Pool.Require(index).Path);
        foreach ((DeviceAdded device, string cause) in result.Missing)
            MasterLog.DeviceMissing(log, device.Index, device.DeviceUuid.ToGuid("device_uuid"), cause);
    }
}
