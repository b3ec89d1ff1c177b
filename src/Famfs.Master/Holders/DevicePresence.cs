using Famfs.Core;
using Famfs.Core.Namespace;
using Famfs.Master.State;
using Famfs.V1;

namespace Famfs.Master.Holders;

/// <summary>A mount that lacks a device, or has not told that it has it.</summary>
/// <param name="Device">Index of the device.</param>
/// <param name="Mount">The mount.</param>
/// <param name="Lacks">It has said that it lacks it.</param>
/// <param name="Released">What it has been for so long that new files use the device all the same: "silent", "lagging" or
/// "without a stream"; null: new files avoid it.</param>
/// <param name="Name">Host and mount point, for people.</param>
internal sealed record DeviceAbsence(int Device, Guid Mount, bool Lacks, string? Released, string Name)
{
    /// <summary>One line for an operator.</summary>
    public override string ToString()
    {
        string what = Lacks ? $"lacks device {Device}: files on it answer EIO there" : $"has not told whether it has device {Device}";
        string follows = Released is null
            ? Lacks ? "new files avoid it; `famfs devices attach` gives it to the mount" : $"new files avoid it for up to {DevicePresence.Patience.TotalSeconds:0} s"
            : $"it has been {Released} for {DevicePresence.Patience.TotalSeconds:0} s, so new files use the device";
        return $"{Name} {what}; {follows}";
    }
}

/// <summary>
/// Decides which devices new files avoid (docs/decisions/0057): those that a live mount lacks, or may lack. A mount that has been
/// lagging, silent or without a stream for <see cref="Patience"/> keeps no device from being used. Guard: that of the
/// registry, whose views it is given.
/// </summary>
internal sealed class DevicePresence(MasterState state, TimeProvider clock)
{
    /// <summary>How long a mount that does not keep up holds a device back (chosen: a restart of a daemon is over by then).</summary>
    public static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private const string Silent = "silent";
    private const string Lagging = "lagging";

    // Mounts that a cause names; others are counted.
    private const int Named = 3;

    private readonly int _before = Math.Max(1, state.Replay.Devices.Length);

    // When each device after those was seen first.
    private readonly List<long> _joined = [];

    private List<DeviceAbsence> _absences = [];
    private LogSequence _newest;
    private int _lookedFor = Math.Max(1, state.Replay.Devices.Length);

    /// <summary>The devices that mounts lack or may lack, device by device, as of the last look. A new list after each.</summary>
    public IReadOnlyList<DeviceAbsence> Absences => _absences;

    /// <summary>Looks at all mounts. To be called regularly, and when a device has joined.</summary>
    /// <param name="views">All mounts that count and are not gone.</param>
    /// <param name="newest">Last published record.</param>
    /// <returns>What new files avoid now.</returns>
    public DeviceAvoidance LookAtAll(IEnumerable<MountView> views, LogSequence newest)
    {
        _newest = newest;
        _lookedFor = state.Replay.Devices.Length;
        while (_before + _joined.Count < _lookedFor)
            _joined.Add(clock.GetTimestamp());
        List<DeviceAbsence> absences = [];
        foreach (MountView view in views)
            AddAbsences(view, absences);
        return Take(absences);
    }

    /// <summary>Looks at one mount, of which something is known newly.</summary>
    /// <param name="view">The mount.</param>
    /// <param name="counts">It counts and is not gone.</param>
    /// <returns>What new files avoid now; null: as before.</returns>
    public DeviceAvoidance? LookAt(MountView view, bool counts)
    {
        List<DeviceAbsence> absences = [.. _absences.Where(a => a.Mount != view.Mount)];
        int others = absences.Count;
        if (counts)
            AddAbsences(view, absences);
        return others == _absences.Count && absences.Count == others ? null : Take(absences);
    }

    private DeviceAvoidance Take(List<DeviceAbsence> absences)
    {
        absences.Sort((a, b) => a.Device != b.Device ? a.Device.CompareTo(b.Device) : string.CompareOrdinal(a.Name, b.Name));
        _absences = absences;
        return new(_lookedFor, absences.Where(a => a.Released is null).GroupBy(a => a.Device).ToDictionary(g => g.Key, g => Explain(g.Key, [.. g])));
    }

    private void AddAbsences(MountView view, List<DeviceAbsence> absences)
    {
        string? release = FindRelease(view, _newest);
        // Who has told nothing may have had for long what was there before; of what is new it is waited for.
        int told = view.Devices?.Count ?? _before;
        foreach (ushort device in view.Devices?.Missing ?? [])
            absences.Add(new(device, view.Mount, true, release, NameOf(view)));
        for (int device = told; device < _lookedFor; device++)
            absences.Add(new(device, view.Mount, false, FindReleaseOfUntold(view, device, release), NameOf(view)));
    }

    // A mount that nothing is heard of may still find a device that has just joined.
    private string? FindReleaseOfUntold(MountView view, int device, string? release)
    {
        bool isNew = device >= _before && clock.GetElapsedTime(_joined[device - _before]) < Patience;
        if (release is Silent or Lagging || (release is not null && !isNew))
            return release;
        return view.Devices is null && !isNew ? "without a word of its devices" : null;
    }

    /// <summary>What a mount has been for so long that nothing waits for it; null when it keeps up.</summary>
    private string? FindRelease(MountView view, LogSequence newest)
    {
        long now = clock.GetTimestamp();
        if (view.Acknowledged.Sequence.Value >= view.Target.Value)
            (view.Target, view.TargetTimestamp) = (newest, now);
        bool lags = view.Acknowledged.Sequence.Value < view.Target.Value;
        if ((view.InTable || lags) && clock.GetElapsedTime(view.LastMovedTimestamp, now) >= Patience)
            return Silent;
        if (lags && clock.GetElapsedTime(view.TargetTimestamp, now) >= Patience)
            return Lagging;
        return view.Streams == 0 && view.Devices is not null && clock.GetElapsedTime(view.StreamlessTimestamp, now) >= Patience ? "without a stream" : null;
    }

    private string Explain(int device, List<DeviceAbsence> holding)
    {
        string lacking = string.Join(", ", holding.Where(a => a.Lacks).Take(Named).Select(a => a.Name));
        string silent = string.Join(", ", holding.Where(a => !a.Lacks).Take(Named).Select(a => a.Name));
        string more = holding.Count > Named ? $" ({holding.Count} mounts in all)" : "";
        string said = lacking.Length > 0 ? $"device {device} is missing at {lacking}" : $"device {device}";
        return silent.Length == 0 ? $"{said}{more}" : $"{said}{(lacking.Length > 0 ? "," : "")} is not known to be at {silent}{more}";
    }

    private string NameOf(MountView view) => NameOf(state, view);

    /// <summary>Host and mount point, for people.</summary>
    public static string NameOf(MasterState state, MountView view)
    {
        string host = state.Replay.Hosts.TryGetValue(view.Host, out HostRecord? record) && record.Name.Length > 0 ? record.Name : view.Host.ToString();
        return view.MountPoint.Length > 0 ? $"{host} {view.MountPoint}" : $"{host} mount {view.Mount}";
    }
}
