using System.Collections.Immutable;
using System.Diagnostics;
using Famfs.Client;
using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Namespace;
using Famfs.Fuse.Memory;
using Famfs.Fuse.Protocol;
using Famfs.Fuse.Replication;
using Famfs.Fuse.Session;
using Famfs.V1;
using Microsoft.Extensions.Logging;

namespace Famfs.Fuse.Daemon;

/// <summary>What a daemon does again and again while its mount serves. On the upkeep thread, but for what the daemon itself
/// calls before that starts or after it has ended.</summary>
internal sealed class DaemonSteps(
    DaemonOptions options, HostMemory memory, Replica replica, MountRegistration registration, MasterLink link, WrittenFiles? written, MountKeeper keeper, ILogger log)
{
    /// <summary>Name of the step that may be due at once.</summary>
    public const string LineStep = "keep the line in the host table";

    // Chosen: a master that is there registers a host in milliseconds.
    private static readonly TimeSpan ReadyPatience = TimeSpan.FromSeconds(10);
    // What a master takes of one message (docs/protocol.md).
    private const int MaxMissing = 256;

    private bool _isReadOnly = options.ReadOnly;
    private bool _saidReadOnly;
    private readonly long _began = Stopwatch.GetTimestamp();
    private bool _saidReady;
    private (bool, string?) _toldStatus;
    private long _toldAlive;
    private bool _saidTooManyWritten;
    private LogPosition _acknowledged; // last one of which the line was written
    private (int Count, int Missing)? _reported; // devices of the log, and those that are not here, as last reported

    /// <summary>The steps of upkeep, in their order.</summary>
    public IReadOnlyList<UpkeepStep> ListOf(FuseMount mount, FaultReport faults, ControlSocket? control, DeathGuard? guard) =>
    [
        new("leave a mount that is unmounted", LeaveWhenUnmounted),
        new("let go of former segments of the log", LetGoOfFormerSegments),
        new("have the mount kept", () => HaveKept(mount, guard)),
        new("attach devices that are given", () => AttachGiven(control)),
        new("look for devices", LookForDevices),
        new("stop writing beside damage", () => StopWriting(mount)),
        new("follow the log in memory", FollowMemory),
        new(LineStep, KeepLine),
        new("report what was released", ReportReleased),
        new("report files that were written", ReportWritten),
        new("report older mounts that have ended", ReportEnded),
        new("say what failed", () => SayFaults(faults)),
        new("tell the service manager", TellService),
    ];

    /// <summary>Lets go of what this process has of its own mount.</summary>
    public void LeaveMemory()
    {
        if (memory.IsHeldByKernel)
        {
            // Open files of the mount, which keep it alive.
            registration.ReleaseLock();
            keeper.Drop();
        }
        memory.Leave(replica.Pool);
    }

    /// <summary>Attaches what the log names and this host did not have so far. Reads superblocks: on the upkeep
    /// thread or before serving, never on a worker and never while records are applied.</summary>
    public StepOutcome LookForDevices()
    {
        LogPosition position = replica.Position;
        ImmutableArray<DeviceAdded> known = replica.State.Devices;
        DeviceSearchResult result;
        try
        {
            result = memory.Look(replica.Pool, known);
        }
        finally
        {
            ReportDevices(known);
            replica.Gate.DevicesLookedFor(position);
        }
        foreach (DeviceIndex index in result.Attached)
            DaemonLog.DeviceAttached(log, index.Value, replica.Pool.Require(index).Path);
        foreach ((DeviceAdded device, string cause) in result.Missing)
            DaemonLog.DeviceMissing(log, device.Index, device.DeviceUuid.ToGuid("device_uuid"), cause);
        return StepOutcome.Done;
    }

    private StepOutcome LetGoOfFormerSegments()
    {
        replica.LetGoOfFormerSegments();
        return StepOutcome.Done;
    }

    private StepOutcome HaveKept(FuseMount mount, DeathGuard? guard)
    {
        ImmutableArray<OwnedSegment> segments = replica.State.Segments;
        KeptScope scope = new(replica.State.Devices.Length, segments.Length, segments.IsEmpty ? InodeNumber.None : segments[^1].Inode, replica.Pool.Present.Count());
        keeper.Advance(mount, scope, mayBeKept: registration.HasLease is { } hasLease ? !hasLease : mount.Negotiated.Dialect.Fmaps is not null || replica.State.Policy.Reclaim != ReclaimPolicy.Lease);
        guard?.Tell(keeper.IsKept);
        return StepOutcome.Done;
    }

    private StepOutcome AttachGiven(ControlSocket? control)
    {
        control?.Perform(path =>
        {
            DeviceIndex index = memory.Attach(replica.Pool, replica.State.Devices, path);
            DaemonLog.DeviceAttached(log, index.Value, path);
            return index;
        });
        return StepOutcome.Done;
    }

    /// <summary>The master keeps new files off what is missing here, so it learns of it before it hears that this mount has the record
    /// of the device.</summary>
    private void ReportDevices(ImmutableArray<DeviceAdded> known)
    {
        // Asked every few milliseconds. A device that is here stays, so the numbers tell each change.
        int missing = 0;
        for (int i = 0; i < known.Length; i++)
            missing += replica.Pool.Find(new((ushort)i)) is null ? 1 : 0;
        if (_reported == (known.Length, missing))
            return;
        MissingDevices now = new() { DeviceCount = (uint)known.Length };
        now.Indices.AddRange(Enumerable.Range(0, known.Length).Where(i => replica.Pool.Find(new((ushort)i)) is null).Take(MaxMissing).Select(i => (uint)i));
        if (missing > MaxMissing)
            now.DeviceCount = now.Indices[^1] + 1;
        _reported = (known.Length, missing);
        link.ReportDevices(now);
    }

    private StepOutcome LeaveWhenUnmounted()
    {
        if (!memory.IsAllThatIsLeft)
            return StepOutcome.Done;
        LeaveMemory();
        return StepOutcome.End;
    }

    // A log that is not whole is nothing to write beside. The operations refuse already; the mount is made read-only for
    // what does not ask them, and to show in the table of mounts, as soon as no file is open for writing. When the log is
    // whole again, so is the mount.
    private StepOutcome StopWriting(FuseMount mount)
    {
        if (replica.Damage is not { } damage)
        {
            if (_saidReadOnly)
                DaemonLog.WritableAgain(log);
            _saidReadOnly = false;
            if (_isReadOnly && !options.ReadOnly)
                mount.MakeWritable();
            _isReadOnly = options.ReadOnly;
            return StepOutcome.Done;
        }
        if (_isReadOnly)
            return StepOutcome.Done;
        if (!_saidReadOnly)
            DaemonLog.ReadOnlyNow(log, damage.Message);
        _saidReadOnly = true;
        try
        {
            mount.MakeReadOnly();
            _isReadOnly = true;
        }
        catch (IOException error) when (error.HResult == (int)Errno.EBUSY)
        {
            // Tried again at the next turn.
        }
        return StepOutcome.Done;
    }

    private StepOutcome FollowMemory() =>
        (!link.Connected || replica.Damage is not null) && !replica.DamageIsFinal && replica.PollMemory() == PollVerdict.Records ? StepOutcome.More : StepOutcome.Done;

    private StepOutcome KeepLine()
    {
        bool wasOpen = registration.IsOpen;
        try
        {
            LogPosition position = replica.Gate.Acknowledged;
            registration.Advance();
            registration.Problem = null;
            if (position != _acknowledged && registration.HasLine)
                link.LineWritten(_acknowledged = position);
            link.AskForBlock();
        }
        catch (Exception error)
        {
            registration.Problem = FamfsMount.RegistrationRefused + error.Message;
            throw;
        }
        if (!wasOpen && registration.IsOpen && registration.IsNeeded)
            DaemonLog.Registered(log);
        return StepOutcome.Done;
    }

    private StepOutcome ReportReleased()
    {
        link.ReportReleased();
        return StepOutcome.Done;
    }

    private StepOutcome ReportEnded()
    {
        link.ReportEnded();
        return StepOutcome.Done;
    }

    // From this thread, because a mount is as good as its upkeep: without that it shows old names, and its line stands still.
    private StepOutcome TellService()
    {
        bool isOpen = registration.IsOpen;
        string? problem = registration.Problem;
        // Who waits for this service wants to open files; a master that is not reached is not waited for long.
        if (!_saidReady && (isOpen || problem is not null || Stopwatch.GetElapsedTime(_began) > ReadyPatience))
        {
            options.Service.Ready(StatusOf(isOpen, problem));
            _saidReady = true;
        }
        else if (_saidReady && (isOpen, problem) != _toldStatus)
            options.Service.Status(StatusOf(isOpen, problem));
        _toldStatus = (isOpen, problem);
        if (options.Service.WatchdogInterval is { } interval && (_toldAlive == 0 || Stopwatch.GetElapsedTime(_toldAlive) >= interval))
        {
            options.Service.Alive();
            _toldAlive = Stopwatch.GetTimestamp();
        }
        return StepOutcome.Done;
    }

    private StepOutcome ReportWritten()
    {
        link.ReportWritten();
        if (written is { HasSkipped: true } && !_saidTooManyWritten)
        {
            _saidTooManyWritten = true;
            DaemonLog.TooManyWritten(log, WrittenFiles.MostFiles);
        }
        return StepOutcome.Done;
    }

    private string StatusOf(bool isOpen, string? problem) => isOpen
        ? $"{options.MountPoint}: mounted"
        : $"{options.MountPoint}: names are served, files cannot be opened: {problem ?? "no master has registered this host yet"}";

    private static StepOutcome SayFaults(FaultReport faults)
    {
        faults.Say();
        return StepOutcome.Done;
    }
}
