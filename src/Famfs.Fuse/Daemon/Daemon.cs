using System.Text;
using Famfs.Client;
using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Interop;
using Famfs.Core.Log;
using Famfs.Core.Namespace;
using Famfs.Fuse.Dialects;
using Famfs.Fuse.Keeper;
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
    private readonly Guid _mountId;
    private readonly HostMemory _memory;
    private readonly Replica _replica;
    private readonly MountRegistration _registration;
    private readonly MasterLink _link;
    private readonly WrittenFiles? _written;
    private readonly MountChanges _changes;
    private readonly MountDescription _description;
    private readonly MountKeeper _keeper;
    private readonly ILogger _log;

    // Of a mount that is taken over: before the rest of the log is read.
    private (FuseMount Mount, HeldFiles Held)? _taken;

    // Where the kernel holds the devices; null elsewhere, where workers reach the memory.
    private readonly FileFlusher? _flusher;
    private readonly OpenDelay _opens;

    private Daemon(DaemonOptions options, HostIdentity host, HostMemory memory, Replica replica, MountKeeper keeper, ILogger log)
    {
        _mountId = keeper.State?.Mount.Mount ?? Guid.NewGuid();
        _keeper = keeper;
        _options = options;
        _host = host;
        _memory = memory;
        _replica = replica;
        _log = log;
        // A lease runs on while the machine is suspended.
        _registration = new(replica, host, _mountId, BootClock.Instance);
        // A format without times has none to move.
        _written = options.NoTimes || !replica.Pool.Format.Limits.HasTimes ? null : new(TimeProvider.System);
        _link = new(replica, _registration, _written, log);
        _changes = new(replica, () => _link.Client, TimeProvider.System, log);
        _link.Lost = _changes.AwaitMaster;
        _description = new(replica, _registration, _link, keeper, _mountId);
        _flusher = memory.IsHeldByKernel ? new(memory.FindRoot, replica.Files.Directory, log) : null;
        _opens = _flusher is not null
            ? new(replica.Reused, replica.Windows, _flusher.TryFlush)
            : new(replica.Reused, replica.Windows, (inode, use) => replica.TryUse(inode, memory.Resolve, use), OpenDelay.MappedInlineBytes);
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
            using MountKeeper keeper = new(options, log);
            TakenMount? taken = await keeper.TakeAsync(cancel).ConfigureAwait(false);
            if (taken is not null)
                return await TakeOverAsync(options, keeper, taken, log, cancel).ConfigureAwait(false);
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
            {
                replica.Reused.RefreshAll(replica.Pool); // files' memory is not reached afterwards
                replica.RefreshedTo = replica.Position.Sequence;
            }
            if (memory.TryLetGo(replica.Pool, replica.Files, out DevicePool lasting))
                replica.SwitchPool(lasting);
            cancel.ThrowIfCancellationRequested();
            return await new Daemon(options, host, memory, replica, keeper, log).ServeAsync(tls, cancel).ConfigureAwait(false);
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

    // No path of the mount is looked at: nobody serves it.
    private static async Task<int> TakeOverAsync(DaemonOptions options, MountKeeper keeper, TakenMount taken, ILogger log, CancellationToken cancel)
    {
        bool isServed = false;
        try
        {
            KeptMount kept = taken.State.Mount;
            ClientTls tls = ClientTls.Load(options.CaFile, options.CertificateFile, options.KeyFile, cause => DaemonLog.CertificatesKept(log, cause));
            HostIdentity host = HostIdentity.Load(options.StateDirectory, new HostIdentitySources());
            using HostMemory memory = HostMemory.Choose(options.Devices, options.Formats, options.FileSystem, options.ForcedDialect, options.PushIoctl, log);
            if (memory.IsHeldByKernel != (kept.Devices is not null))
                throw new FamfsException(ErrorReason.BadRequest, $"{options.MountPoint}: {(memory.IsHeldByKernel ? "its kernel holds no devices, and those given are bound for one that does" : "its kernel holds its devices, and those given are not bound for it")}; bind them as they were (`famfs dax-mode`)") { Path = options.MountPoint };
            using Replica replica = new(kept.Devices is { } devices ? memory.Resume(devices, taken.Files) : memory.Open(), host.Host, new UInt128((ulong)Random.Shared.NextInt64(), (ulong)Random.Shared.NextInt64()), TimeProvider.System);
            if (replica.Pool.Primary.FileSystem != kept.FileSystem)
                throw new FamfsException(ErrorReason.WrongFilesystem, $"{options.MountPoint}: is a mount of file system {kept.FileSystem}, and {replica.Pool.PrimaryDevice.Path} is of {replica.Pool.Primary.FileSystem}") { Path = options.MountPoint };
            memory.Know(replica.Files);
            replica.RefreshedTo = kept.Devices?.RefreshedTo ?? default;
            Daemon daemon = new(options, host, memory, replica, keeper, log);
            daemon.TakeOver(taken);
            // Where the kernel holds the devices, the former daemon did so when it had mounted.
            if (!memory.IsHeldByKernel && replica.PurgeDeleted() is { } unpurged)
                DaemonLog.Problem(log, unpurged);
            // Told to end meanwhile, it ends in order, which takes the mount away.
            isServed = true;
            return await daemon.ServeAsync(tls, cancel).ConfigureAwait(false);
        }
        finally
        {
            // Still kept for another: only these descriptors are closed.
            if (!isServed)
                taken.Dispose();
        }
    }

    /// <summary>Reads the log: up to where the mount's line says its kernel knows it, then the rest, which is told (SAFETY S29).</summary>
    private void TakeOver(TakenMount taken)
    {
        KeptMount kept = taken.State.Mount;
        _replica.Windows.ContinueAfter(kept.Generation);
        bool hasLine = _registration.TryResume(kept.Entry);
        ReadLog(_replica, _log, hasLine ? _registration.Line!.ReplayedSequence : default, () =>
        {
            FuseMount mount = FuseMount.Resume(MountOptionsOf(), taken.Connection, kept.Connection, kept.Negotiated, Dependencies(kept.Generation));
            HeldFiles held = NewHeldFiles(mount, hasLine ? Unreleased(_registration.Line!) : [.. _replica.Tree.EnumerateDeleted().Select(inode => (inode, new LogSequence(1)))]);
            _registration.MayAcknowledge = () => held.HasAsked;
            _replica.Attach(mount.Notifier, _written, held, _changes);
            _taken = (mount, held);
        });
    }

    /// <summary>Deleted files that the line does not say are released, as far as the log has been read: those that it names, then those
    /// that were deleted after its watermark.</summary>
    private List<(InodeNumber, LogSequence)> Unreleased(MountLine line)
    {
        List<InodeNumber> deleted = [.. _replica.Tree.EnumerateDeleted()];
        // Which of the others were deleted up to the watermark, and so are released, is not in the tree: all are asked for.
        return
        [
            .. deleted.Where(inode => Array.IndexOf(line.Exceptions, inode) >= 0).Select(inode => (inode, new LogSequence(1))),
            .. deleted.Where(inode => Array.IndexOf(line.Exceptions, inode) < 0).Select(inode => (inode, line.ReleasedWatermark.Next)),
        ];
    }

    private static FamfsException? ReadLog(Replica replica, ILogger log, LogSequence told = default, Action? beginTelling = null)
    {
        FamfsException? damage = beginTelling is null ? replica.Bootstrap() : replica.Bootstrap(told, beginTelling);
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
        DaemonSteps steps = new(_options, _memory, _replica, _registration, _link, _written, _keeper, _log);
        _ = steps.LookForDevices();
        _replica.Windows.RemembersClosed = _flusher is not null;
        using FuseMount mount = _taken?.Mount ?? Mount();
        _memory.Enter(mount, _replica.Pool, _options.ReadOnly);
        _description.Attach(mount);
        _registration.DialectNumber = mount.Negotiated.Dialect.Fmaps?.FloorNumber ?? 0;
        using HeldFiles held = _taken?.Held ?? NewHeldFiles(mount, null);
        _registration.Releases = () => held.Describe();
        _registration.TakeOver = () => _replica.TryTakeOver(held, PurgeOf(mount));
        // A famfs kernel reaches memory by itself, and a kept mount has nobody while its daemon is dead (docs/decisions/0077).
        _replica.BetweenPurges = _registration.RenewLease;
        _registration.MayGiveLease = () => mount.Negotiated.Dialect.Fmaps is null && !_keeper.IsKept;
        _link.Held = held;
        held.Released += () => _link.LineFirst.Set();
        if (_taken is null)
            _replica.Attach(mount.Notifier, _written, held, _changes);
        Keep(mount);
        using GoneMounts gone = GoneMounts.Begin(_options.StateDirectory, _replica.Pool.Primary.FileSystem, _host, _mountId, mount.ConnectionNumber);
        _registration.LeaveReceipt = gone.LeaveReceipt;
        _registration.OlderMounts = gone.FindReceipts;
        _registration.GoneMountsOfHost = () => [.. gone.FindOlder().Select(o => o.MountId.ToGuid("mount_id"))];
        if (_taken is not null)
            ServeTaken(mount);
        // What a former daemon has closed, this one may not know of.
        if (_taken is not null && _flusher is not null)
            mount.Notifier.DropEntry(_replica.Files.Directory, Encoding.UTF8.GetBytes(MetaNames.Windows));
        _flusher?.Begin(mount.Notifier);
        Revocation revocation = new(_memory.IsHeldByKernel ? _memory.FindRoot : null, _replica.Files.Directory, mount.Mapped, mount.Notifier, _log);
        _opens.Start(mount.Notifier);
        SayMounted(mount);
        using DeathGuard? guard = DeathGuard.TryStart(mount, _log);
        guard?.Tell(_keeper.IsKept);

        FaultReport faults = new(mount, TimeProvider.System, _log, device => device.Value < _replica.State.Devices.Length ? _replica.State.Devices[device.Value].DeviceUuid.ToGuid("device_uuid") : null);
        ControlSocket? control = ControlSocket.TryStart(_mountId, _log);
        bool asked;
        bool leaving;
        using (CancellationTokenSource ending = new())
        {
            IReadOnlyList<UpkeepStep> upkeeping = [.. steps.ListOf(mount, faults, control, guard), new("take files away when the mount is over", () => Revoke(revocation))];
            int line = upkeeping.TakeWhile(s => s.Name != DaemonSteps.LineStep).Count();
            Task upkeep = new Upkeep(upkeeping, () => _link.Connected, _log, _link.LineFirst, line).RunAsync(ending.Token);
            Task following = _link.RunAsync(
                new(_host, _mountId, mount.Negotiated.Dialect.Name, _options.MountPoint, gone), new() { Addresses = _options.Masters, Tls = tls }, ending.Token);
            Task ended = await Task.WhenAny(mount.Completion, _keeper.LeaveAsked, Task.Delay(Timeout.Infinite, cancel)).ConfigureAwait(false);
            asked = ended != mount.Completion;
            leaving = asked && (ended == _keeper.LeaveAsked || _options.LeaveAtEnd || _options.Leave.IsCancellationRequested) && await _keeper.AwaitKeptAsync().ConfigureAwait(false);
            _options.Service.Stopping();
            await _link.ReportLastAsync(LastReport).ConfigureAwait(false);
            if (leaving)
            {
                // While records are still applied and the line moves: who waits for a change may have its answer yet.
                revocation.Stop();
                EndFlushing(held);
                mount.Leave(LastReport, _changes.Leave);
            }
            await ending.CancelAsync().ConfigureAwait(false);
            await upkeep.ConfigureAwait(false);
            revocation.Stop();
            control?.Dispose();
            await following.ConfigureAwait(false);
        }
        if (leaving)
        {
            _registration.ReleaseLock();
            if (await _keeper.StillKeepsAsync(mount).ConfigureAwait(false))
                DaemonLog.Left(_log, _options.MountPoint);
            else
                EndUnkept(mount);
            return 0;
        }
        if (_flusher is not null)
            EndFlushing(held);
        steps.LeaveMemory();
        if (asked && await TryUnmountAsync(mount).ConfigureAwait(false))
        {
            // Ended by the kernel itself, as by umount(8): that is proof, and what follows need not be taken for less.
            await Task.WhenAny(mount.Completion, Task.Delay(KernelEnd, CancellationToken.None)).ConfigureAwait(false);
            asked = !mount.Completion.IsCompleted;
        }
        // These threads send to the kernel, and the connection is closed below.
        EndFlushing(held);
        // Programs that have files open are to be told that nobody serves them.
        _keeper.Drop();
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

    // As `famfs umount` does it, but only while what is there is this mount.
    private static async Task<bool> TryUnmountAsync(FuseMount mount) =>
        mount.IsMounted() && await Unmounting.TryAsync(mount.MountPointPath, () => mount.TryUnmount() ? 0 : Errno.EBUSY, MountEntry.TablePath, TimeProvider.System, CancellationToken.None).ConfigureAwait(false) is null;

    /// <summary>The keeper has ended while this daemon left: nobody has the mount, and its programs are to be told.</summary>
    private void EndUnkept(FuseMount mount)
    {
        try
        {
            if (FuseChannel.TryGetDevice(_options.MountPoint, out uint major, out uint minor) && (major, minor) == (0, mount.ConnectionNumber))
                _ = MountPoint.Detach(_options.MountPoint);
        }
        catch (IOException error)
        {
            DaemonLog.Problem(_log, error.Message);
        }
        DaemonLog.Unmounted(_log, _options.MountPoint);
    }

    private void Keep(FuseMount mount)
    {
        _keeper.Begin(mount, () => new(_replica.Pool.Primary.FileSystem, _mountId, mount.ConnectionNumber, mount.Negotiated, Entry: -1, Generation: 0), isServed => _memory.DescribeKept(_replica.Pool, _replica.RefreshedTo, isServed));
        if (_keeper.State is not { } state)
            return;
        _registration.EntryTaken = state.SetEntry;
        _changes.Remember(new(state));
    }

    private void ServeTaken(FuseMount mount)
    {
        _registration.OpenResumed();
        _changes.AwaitMaster();
        mount.ServeResent();
        KeptMount kept = _keeper.State!.Mount;
        DaemonLog.TookOver(_log, _options.MountPoint, kept.Mount, kept.Generation, _replica.Position.ToString());
    }

    // Of another history, or gone as the log has it: in either case its files may be others'.
    private bool IsRevoked => _replica.IsOfOtherHistory || _registration.IsOver;

    private StepOutcome Revoke(Revocation revocation)
    {
        if (IsRevoked)
            revocation.Begin(_replica.State.NextInode);
        return StepOutcome.Done;
    }

    private HeldFiles NewHeldFiles(FuseMount mount, IEnumerable<(InodeNumber, LogSequence)>? before) =>
        HeldFiles.Of(_replica, mount.Notifier, mount.Presence, _memory.Resolve, PurgeOf(mount), before: before, mapped: mount.Mapped);

    // Null: a worker could do it.
    private Func<InodeNumber, bool>? PurgeOf(FuseMount mount) => _flusher is not { } flusher ? null : inode =>
        _replica.TryPurge(inode, flusher.TryFlush) && flusher.AwaitGone(inode, mount.Notifier);

    // While workers answer: these threads are programs of this mount.
    private void EndFlushing(HeldFiles held)
    {
        _flusher?.Stop();
        held.Dispose();
        _opens.Dispose();
    }

    private FuseMount Mount()
    {
        FuseMountOptions options = MountOptionsOf();
        OperationDependencies dependencies = Dependencies(generation: 0);
        FuseMount? mount = null;

        // A kernel to which devices are pushed says at this place that it has not let go of one yet.
        KernelHeldDevices.RetryWhileHeld(() => mount = FuseMount.Start(options, dependencies));
        return mount!;
    }

    private FuseMountOptions MountOptionsOf() =>
        new(_options.MountPoint)
        {
            Source = MountSource.Of(_replica.Pool.Primary),
            Cache = _options.Cache,
            WorkerCount = _options.Workers,
            // The daemon writes its line through the mount itself where the kernel holds the devices.
            ReadOnly = _options.ReadOnly && !_memory.IsHeldByKernel,
            AllowOther = _options.AllowOther,
            NoExec = _options.NoExec,
            Dialect = new DialectWish(_options.ForcedDialect, WantsFmaps: _memory.KernelDevices.All.Count > 0) { RefusesLocks = _options.RefuseLocks, TakesResent = _options.UseKeeper },
            PushIoctl = _options.PushIoctl,
        };

    private OperationDependencies Dependencies(uint generation) =>
        new(_replica.Tree, _memory, _registration, _replica, _description)
        {
            Generation = generation,
            KernelDevices = _memory.KernelDevices,
            MayWrite = () => _replica.Damage is null,
            IsRevoked = () => IsRevoked,
            Mutations = _changes,
            Meta = _replica.Files,
            Windows = _replica.Windows,
            Reused = _replica.Reused,
            OpenDelay = _opens,
            FlushDoor = _flusher?.Door,
            Written = _written,
        };

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
            bool hasEnded = false;
            _memory.UseAfterwards(_replica.Pool, pool =>
            {
                _replica.PurgeAtEnd(held, pool);
                hasEnded = _registration.End(pool);
            });
            return hasEnded;
        }
        catch (Exception error) when (error is FamfsException or DeviceFaultException or IOException or NotSupportedException)
        {
            DaemonLog.Problem(_log, $"the end of this mount is not in the host table: {error.Message}");
            return false;
        }
    }
}
