using Famfs.Client;
using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Log;
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
    DaemonOptions options, HostMemory memory, Replica replica, MountRegistration registration, MasterLink link, WrittenFiles? written, ILogger log)
{
    /// <summary>Name of the step that may be due at once.</summary>
    public const string LineStep = "keep the line in the host table";

    private bool _isReadOnly = options.ReadOnly;
    private bool _saidReadOnly;
    private bool _saidTooManyWritten;
    private LogPosition _acknowledged; // last one of which the line was written

    /// <summary>The steps of upkeep, in their order.</summary>
    public IReadOnlyList<UpkeepStep> ListOf(FuseMount mount, FaultReport faults) =>
    [
        new("leave a mount that is unmounted", LeaveWhenUnmounted),
        new("look for devices", LookForDevices),
        new("stop writing beside damage", () => StopWriting(mount)),
        new("follow the log in memory", FollowMemory),
        new(LineStep, KeepLine),
        new("report files that were written", ReportWritten),
        new("report older mounts that have ended", ReportEnded),
        new("say what failed", () => SayFaults(faults)),
    ];

    /// <summary>Lets go of what this process has of its own mount.</summary>
    public void LeaveMemory()
    {
        if (memory.IsHeldByKernel)
            registration.ReleaseLock(); // an open file of the mount
        memory.Leave(replica.Pool);
    }

    /// <summary>Attaches what the log names and this host did not have so far. Reads superblocks: on the upkeep
    /// thread or before serving, never on a worker and never while records are applied.</summary>
    public StepOutcome LookForDevices()
    {
        LogPosition position = replica.Position;
        DeviceSearchResult result;
        try
        {
            result = memory.Look(replica.Pool, replica.State.Devices);
        }
        finally
        {
            replica.Gate.DevicesLookedFor(position);
        }
        foreach (DeviceIndex index in result.Attached)
            DaemonLog.DeviceAttached(log, index.Value, replica.Pool.Require(index).Path);
        foreach ((DeviceAdded device, string cause) in result.Missing)
            DaemonLog.DeviceMissing(log, device.Index, device.DeviceUuid.ToGuid("device_uuid"), cause);
        return StepOutcome.Done;
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

    private StepOutcome ReportEnded()
    {
        link.ReportEnded();
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

    private static StepOutcome SayFaults(FaultReport faults)
    {
        faults.Say();
        return StepOutcome.Done;
    }
}
