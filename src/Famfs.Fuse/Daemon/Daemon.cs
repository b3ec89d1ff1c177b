using Famfs.Client;
using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Namespace;
using Famfs.Fuse.Dialects;
using Famfs.Fuse.Memory;
using Famfs.Fuse.Operations;
using Famfs.Fuse.Replication;
using Famfs.Fuse.Session;
using Famfs.V1;
using Microsoft.Extensions.Logging;

namespace Famfs.Fuse.Daemon;

/// <summary>
/// One mount from start to end: open the memory, replay it, mount, keep up, unmount, say so. What is done again and again in
/// between is in <see cref="DaemonSteps"/>.
/// </summary>
internal sealed class Daemon
{
    /// <summary>Exit status of a daemon that could not mount.</summary>
    private const int Failed = 1;

    // Chosen: the kernel takes milliseconds; a copy of the mount in another name space may take for ever.
    private static readonly TimeSpan KernelEnd = TimeSpan.FromSeconds(5);

    // Chosen: a master answers in milliseconds. One that does not keeps no mount from ending.
    private static readonly TimeSpan LastReport = TimeSpan.FromSeconds(2);

    private readonly DaemonOptions _options;
    private readonly HostIdentity _host;
    private readonly Guid _mountId = Guid.NewGuid();
    private readonly HostMemory _memory;
    private readonly Replica _replica;
    private readonly MountRegistration _registration;
    private readonly MasterLink _link;
    private readonly WrittenFiles? _written;
    private readonly MountChanges _changes;
    private readonly MountDescription _description;
    private readonly ILogger _log;

    private Daemon(DaemonOptions options, HostIdentity host, HostMemory memory, Replica replica, ILogger log)
    {
        _options = options;
        _host = host;
        _memory = memory;
        _replica = replica;
        _log = log;
        _registration = new(replica, host, _mountId, TimeProvider.System);
        // A format without times has none to move.
        _written = options.NoTimes || !replica.Pool.Format.Limits.HasTimes ? null : new(TimeProvider.System);
        _link = new(replica, _registration, _written, log);
        _changes = new(replica, () => _link.Client, TimeProvider.System, log);
        _description = new(replica, _registration, _link, _mountId);
    }

    /// <summary>Runs until the mount ends or <paramref name="cancel"/>; gives the exit status.</summary>
    public static async Task<int> RunAsync(DaemonOptions options, CancellationToken cancel)
    {
        using ILoggerFactory logging = LoggerFactory.Create(logging =>
        {
            LogFormat.AddTo(logging, TimeProvider.System);
            logging.SetMinimumLevel(LogLevel.Information);
        });
        ILogger log = logging.CreateLogger("Famfs.Fuse");
        try
        {
            if (options.ReplaceDead)
                await Mounting.RequireNoDeadMountAsync(options.MountPoint, cancel).ConfigureAwait(false);
            // Over a live one, two daemons would serve one place; over a dead one, its holders would be hidden. It is not asked
            // which it is: one that hangs would take this process with it.
            if (FamfsMount.FindAll().Any(m => m.MountPoint == options.MountPoint))
                throw new FamfsException(ErrorReason.Exists, $"{options.MountPoint}: a famfs is mounted there; when its daemon is gone, `famfs umount` takes it away") { Path = options.MountPoint };
            if (options.MakeMountPoint)
                Directory.CreateDirectory(options.MountPoint);
            if (!Directory.Exists(options.MountPoint))
                throw new FamfsException(ErrorReason.NotFound, $"{options.MountPoint}: is not a directory") { Path = options.MountPoint };
            MountPlace.RequireHidesNothing(options.MountPoint, options.Devices, options.Masters, options.StateDirectory, options.CaFile, options.CertificateFile, options.KeyFile);
            ClientTls tls = ClientTls.Load(options.CaFile, options.CertificateFile, options.KeyFile, cause => DaemonLog.CertificatesKept(log, cause));
            HostIdentity host = HostIdentity.Load(options.StateDirectory, new HostIdentitySources());
            using HostMemory memory = HostMemory.Choose(options.Devices, options.Formats, options.FileSystem, options.ForcedDialect, options.PushIoctl, log);
            using Replica replica = new(memory.Open(), host.Host, new UInt128((ulong)Random.Shared.NextInt64(), (ulong)Random.Shared.NextInt64()), TimeProvider.System);
            if (ReadLog(replica, log) is not null && replica.DamageIsFinal)
                options = options with { ReadOnly = true }; // writing beside a log that is not whole is not good
            if (replica.PurgeDeleted() is { } unpurged)
                DaemonLog.Problem(log, unpurged);
            if (memory.IsHeldByKernel)
                replica.Reused.RefreshAll(replica.Pool); // files' memory is not reached afterwards
            if (memory.TryLetGo(replica.Pool, replica.Files, out DevicePool lasting))
                replica.SwitchPool(lasting);
            cancel.ThrowIfCancellationRequested();
            return await new Daemon(options, host, memory, replica, log).ServeAsync(tls, cancel).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (cancel.IsCancellationRequested)
        {
            return 0; // told to end before there was a mount
        }
        catch (Exception error) when (error is FamfsException or DeviceFaultException or IOException or NotSupportedException or UnauthorizedAccessException)
        {
            await Console.Error.WriteLineAsync($"famfsd: {error.Message}").ConfigureAwait(false);
            return Failed;
        }
    }

    private static FamfsException? ReadLog(Replica replica, ILogger log)
    {
        FamfsException? damage = replica.Bootstrap();
        if (damage is not null)
            DaemonLog.ReadOnly(log, damage.Message);
        if (replica.State.IgnoredCount is > 0 and long ignored)
            DaemonLog.Ignored(log, ignored);
        foreach (string path in replica.Pool.KeepOnly(replica.State.Devices))
            DaemonLog.UnknownDevice(log, path);
        return damage;
    }

    private async Task<int> ServeAsync(ClientTls tls, CancellationToken cancel)
    {
        DaemonSteps steps = new(_options, _memory, _replica, _registration, _link, _written, _log);
        _ = steps.LookForDevices();
        using FuseMount mount = Mount();
        _memory.Enter(mount, _replica.Pool, _options.ReadOnly);
        _description.Attach(mount);
        _registration.DialectNumber = mount.Negotiated.Dialect.Fmaps?.FloorNumber ?? 0;
        using HeldFiles held = HeldFiles.Of(_replica, mount.Notifier, mount.Presence, _memory.Resolve, _memory.IsHeldByKernel);
        _registration.Releases = () => held.Describe();
        _registration.TakeOver = () => _memory.IsHeldByKernel || _replica.TryTakeOver(held);
        _link.Held = held;
        held.Released += () => _link.LineFirst.Set();
        _replica.Attach(mount.Notifier, _written, held, _changes);
        using GoneMounts gone = GoneMounts.Begin(_options.StateDirectory, _replica.Pool.Primary.FileSystem, _host, _mountId, mount.ConnectionNumber);
        _registration.LeaveReceipt = gone.LeaveReceipt;
        SayMounted(mount);

        FaultReport faults = new(mount, TimeProvider.System, _log, device => device.Value < _replica.State.Devices.Length ? _replica.State.Devices[device.Value].DeviceUuid.ToGuid("device_uuid") : null);
        ControlSocket? control = ControlSocket.TryStart(_mountId, _log);
        bool asked;
        using (CancellationTokenSource ending = new())
        {
            IReadOnlyList<UpkeepStep> upkeeping = steps.ListOf(mount, faults, control);
            int line = upkeeping.TakeWhile(s => s.Name != DaemonSteps.LineStep).Count();
            Task upkeep = new Upkeep(upkeeping, () => _link.Connected, _log, _link.LineFirst, line).RunAsync(ending.Token);
            Task following = _link.RunAsync(
                new(_host, _mountId, mount.Negotiated.Dialect.Name, _options.MountPoint, gone), new() { Addresses = _options.Masters, Tls = tls }, ending.Token);
            asked = await Task.WhenAny(mount.Completion, Task.Delay(Timeout.Infinite, cancel)).ConfigureAwait(false) != mount.Completion;
            _options.Service.Stopping();
            await _link.ReportLastAsync(LastReport).ConfigureAwait(false);
            await ending.CancelAsync().ConfigureAwait(false);
            await upkeep.ConfigureAwait(false);
            control?.Dispose();
            await following.ConfigureAwait(false);
        }
        steps.LeaveMemory();
        if (asked && mount.TryUnmount())
        {
            // Ended by the kernel itself, as by umount(8): that is proof, and what follows need not be taken for less.
            await Task.WhenAny(mount.Completion, Task.Delay(KernelEnd, CancellationToken.None)).ConfigureAwait(false);
            asked = !mount.Completion.IsCompleted;
        }
        mount.Stop();
        faults.Say(last: true);

        // The line ends only on proof that this kernel has no superblock of ours any more.
        if (gone.IsOwnGone(endedByKernel: mount.Completion.IsCompletedSuccessfully && !asked) && TryEndLine(held))
            gone.Forget();
        DaemonLog.Unmounted(_log, _options.MountPoint);
        if (!mount.Completion.IsFaulted)
            return 0;
        DaemonLog.Problem(_log, mount.Completion.Exception!.InnerException!.Message);
        return Failed;
    }

    private FuseMount Mount()
    {
        var options = new FuseMountOptions(_options.MountPoint)
        {
            Source = MountSource.Of(_replica.Pool.Primary),
            Cache = _options.Cache,
            WorkerCount = _options.Workers,
            // The daemon writes its line through the mount itself where the kernel holds the devices.
            ReadOnly = _options.ReadOnly && !_memory.IsHeldByKernel,
            AllowOther = _options.AllowOther,
            NoExec = _options.NoExec,
            Dialect = new DialectWish(_options.ForcedDialect, WantsFmaps: _memory.KernelDevices.All.Count > 0) { RefusesLocks = _options.RefuseLocks },
            PushIoctl = _options.PushIoctl,
        };
        var dependencies = new OperationDependencies(_replica.Tree, _memory, _registration, _replica, _description)
        {
            KernelDevices = _memory.KernelDevices,
            MayWrite = () => _replica.Damage is null,
            IsOfOtherHistory = () => _replica.IsOfOtherHistory,
            Mutations = _changes,
            Meta = _replica.Files,
            Windows = _replica.Windows,
            Reused = _replica.Reused,
            Written = _written,
        };
        FuseMount? mount = null;

        // A kernel to which devices are pushed says at this place that it has not let go of one yet.
        KernelHeldDevices.RetryWhileHeld(() => mount = FuseMount.Start(options, dependencies));
        return mount!;
    }

    private void SayMounted(FuseMount mount)
    {
        DaemonLog.Mounted(_log, _replica.Pool.Primary.FileSystem, _options.MountPoint, _mountId, mount.Negotiated.Dialect.Name, _replica.Position.ToString());
        if (_options.Remark is { } remark)
            DaemonLog.Remark(_log, remark);
        if (_options.RefuseLocks)
            DaemonLog.LocksRefused(_log);
        else
            DaemonLog.LocksAreLocal(_log);
        if (mount.Negotiated.Dialect.Fmaps is not null)
            DaemonLog.WritingIsTheKernels(_log);
        if (!_registration.IsNeeded)
            DaemonLog.NoHostTable(_log);
        else if (!_replica.State.Hosts.ContainsKey(_host.Host))
            DaemonLog.Unregistered(_log);
    }

    /// <summary>Says in the host table that this mount has ended. False when the memory cannot be reached: then a later daemon
    /// proves it (<see cref="GoneMounts"/>).</summary>
    private bool TryEndLine(HeldFiles held)
    {
        if (!_registration.HasLine)
            return true;
        try
        {
            held.Dispose();
            _memory.UseAfterwards(_replica.Pool, pool =>
            {
                _replica.PurgeAtEnd(held, pool);
                _registration.End(pool);
            });
            return true;
        }
        catch (Exception error) when (error is FamfsException or DeviceFaultException or IOException or NotSupportedException)
        {
            DaemonLog.Problem(_log, $"the end of this mount is not in the host table: {error.Message}");
            return false;
        }
    }
}
