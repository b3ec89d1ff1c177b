using System.Reflection;
using System.Runtime.InteropServices;
using Famfs.Client;
using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Interop;
using Famfs.Core.Log;
using Famfs.Core.Namespace;
using Famfs.Fuse.Dialects;
using Famfs.Fuse.Operations;
using Famfs.Fuse.Session;
using Famfs.V1;
using Microsoft.Extensions.Logging;

namespace Famfs.Fuse.Daemon;

/// <summary>
/// One mount from start to end: open the devices, replay the memory, mount, register, subscribe, keep up.
/// Threads: the FUSE workers and the notifier are the mount's; the stream runs on the thread pool; the
/// upkeep thread tails the memory while there is no stream, and writes the host line.
/// <para>Where the kernel holds the devices for its famfs, the memory is read through a private mount first, then
/// through the <c>.meta</c> of the mount itself, by those threads and never by a worker, and in the end, when the
/// mount is gone and its line has to say so, through a private one again.</para>
/// </summary>
internal sealed class DaemonHost : IDeviceResolver, ICapacity, IDevicePieces
{
    /// <summary>Exit status of a daemon that could not mount.</summary>
    private const int Failed = 1;

    // Chosen: the kernel takes milliseconds; a copy of the mount in another name space may take for ever.
    private static readonly TimeSpan KernelEnd = TimeSpan.FromSeconds(5);

    private static readonly TimeSpan MinPoll = TimeSpan.FromMilliseconds(1);
    private static readonly TimeSpan MaxPoll = TimeSpan.FromMilliseconds(100);

    private readonly DaemonOptions _options;
    private readonly HostIdentity _host;
    private readonly ClientTls _tls;
    private readonly DeviceSearch _devices;
    private readonly Replica _replica;
    private readonly ILogger _log;
    private readonly Guid _mountId = Guid.NewGuid();
    private readonly MountRegistration _registration;
    private readonly MountDescription _description;
    private readonly Subscription _subscription;
    private readonly KernelDevices _kernelDevices = new();
    // The devices that the kernel holds for its famfs; empty when this process maps them.
    private readonly IReadOnlyList<string> _heldPaths;
    private FuseMount _mount = null!;
    private FuseConnections _connections = null!;
    private readonly Dictionary<string, DeviceIdentity> _givenLate = []; // upkeep thread
    private long _loggedRefusedMaps; // upkeep thread
    private bool _loggedForeignMaps; // upkeep thread
    private bool _loggedDamage; // upkeep thread
    private bool _readOnly; // upkeep thread, once it runs

    // The way into the own mount, where the kernel holds the devices. Set before the upkeep thread starts, taken away by
    // it or after it.
    private DetachedMount? _inside;

    private DaemonHost(DaemonOptions options, HostIdentity host, ClientTls tls, DeviceSearch devices, Replica replica, IReadOnlyList<string> heldPaths, ILogger log)
    {
        // From here on only those of this file system, its first device first.
        _heldPaths = heldPaths.Count == 0 ? [] : [.. replica.Pool.Present.Select(index => replica.Pool.Require(index).Path)];
        if (KernelHolds)
            replica.Rehost(replica.Pool.Reopen(device => new MountedDaxDevice(Path.GetFullPath(replica.Pool.Require(device.Index).Path), device.Index, device.DeviceLengthBytes, device.Coherent, readOnly: false, this)));

        _options = options;
        _readOnly = options.ReadOnly;
        _host = host;
        _tls = tls;
        _devices = devices;
        _replica = replica;
        _log = log;
        _registration = new(replica, host, _mountId);
        _description = new(replica, _mountId);
        _subscription = new(replica, _registration, _description, Identify, log);
    }

    private bool KernelHolds => _heldPaths.Count > 0;

    public PoolCapacity Capacity
    {
        get
        {
            long total = _replica.State.CapacityBytes;
            return new((ulong)total, (ulong)Math.Max(0, total - _replica.State.UsedBytes));
        }
    }

    /// <summary>Runs until the mount ends or <paramref name="cancel"/>; gives the exit status.</summary>
    public static async Task<int> RunAsync(DaemonOptions options, CancellationToken cancel)
    {
        using ILoggerFactory logging = LoggerFactory.Create(logging => logging.AddSimpleConsole(console => console.SingleLine = true).SetMinimumLevel(LogLevel.Information));
        try
        {
            if (!Directory.Exists(options.MountPoint))
                throw new FamfsException(ErrorReason.NotFound, $"{options.MountPoint}: is not a directory") { Path = options.MountPoint };
            ClientTls tls = ClientTls.Load(options.CaFile, options.CertificateFile, options.KeyFile);
            HostIdentity host = HostIdentity.Load(options.StateDirectory, new HostIdentitySources());
            DeviceSearch devices = new(options.Devices, options.Formats, TimeProvider.System);
            ILogger log = logging.CreateLogger("Famfs.Fuse");
            IReadOnlyList<string> heldPaths = FindHeldByKernel(options, devices);
            KernelHeldDevices? held = heldPaths.Count == 0 ? null : KernelHeldDevices.Open(heldPaths, devices.Required.Count, options.ForcedDialect, options.PushIoctl);
            Replica replica;
            DaemonHost daemon;
            try
            {
                DevicePool pool = held is null ? devices.Open() : held.OpenPool(options.Formats);
                replica = new(pool, host.Host, new UInt128((ulong)Random.Shared.NextInt64(), (ulong)Random.Shared.NextInt64()));
                if (replica.Bootstrap() is { } damage)
                {
                    // Names and content up to the damage are good; writing beside a log that is not whole is not.
                    DaemonLog.ReadOnly(log, damage.Message);
                    options = options with { ReadOnly = true };
                }
                if (replica.State.PassedOverCount is > 0 and long passedOver)
                    DaemonLog.PassedOver(log, passedOver);
                foreach (string path in replica.Pool.KeepOnly(replica.State.Devices))
                    DaemonLog.UnknownDevice(log, path);
                daemon = new(options, host, tls, devices, replica, heldPaths, log);
            }
            finally
            {
                // Before the mount: the kernel gives a device to one mount at a time.
                held?.Dispose();
            }
            daemon.LookForDevices();
            using (replica)
                return await daemon.ServeAsync(cancel).ConfigureAwait(false);
        }
        catch (Exception error) when (error is FamfsException or DeviceFaultException or IOException or NotSupportedException or UnauthorizedAccessException)
        {
            await Console.Error.WriteLineAsync($"famfsd: {error.Message}").ConfigureAwait(false);
            return Failed;
        }
    }

    /// <summary>For workers: none where the kernel holds the devices. It reads and writes by itself there, and a worker that
    /// touched a file of its own mount would wait for itself.</summary>
    public DaxDevice? Resolve(DeviceIndex index) => KernelHolds ? null : _replica.Pool.Find(index);

    bool IDevicePieces.TryFind(DeviceIndex device, long offset, out DevicePiece piece)
    {
        piece = default;
        if (_inside is not { } inside || !_replica.Files.TryFindCovering(device, offset, out MetaFile file, out string name))
            return false;
        piece = new(file.Extent.OffsetBytes, file.Extent.LengthBytes, Path.Combine(inside.Path, MetaNames.Directory, name));
        return true;
    }

    string IDevicePieces.DescribeAbsence(DeviceIndex device, long offset) => _inside is null
        ? $"the mount at {_options.MountPoint} is not there (any more)"
        : $"no replayed record gives the space at offset {offset} of device {device} to the log";

    /// <summary>The devices that are bound for the kernel's famfs, those that must be of the file system first; none when
    /// devices are to be mapped. Errors: BAD_REQUEST when only some are, or when they are bound for another dialect than is
    /// asked for.</summary>
    private static IReadOnlyList<string> FindHeldByKernel(DaemonOptions options, DeviceSearch devices)
    {
        var binding = new DaxBinding();
        bool IsHeld(string path) => binding.FindName(path) is { } name && binding.ReadDriver(name) == DaxBinding.FsDev;
        IReadOnlyList<string> required = devices.Required;
        List<string> held = [.. required.Where(IsHeld)];
        if (held.Count > 0 && held.Count < required.Count)
            throw new FamfsException(ErrorReason.BadRequest, $"{held[0]}: is bound to {DaxBinding.FsDev}, and {required.First(path => !held.Contains(path))} is not; bind all to one driver (`famfs dax-mode`)") { Path = held[0] };
        if (held.Count == required.Count)
            held = [.. held.Concat(devices.Found.Where(IsHeld)).DistinctBy(binding.FindName)]; // one device may have several paths
        if (held.Count > 0 && options.ForcedDialect == DialectTable.Stock)
            throw new FamfsException(ErrorReason.BadRequest, $"{held[0]}: is bound to {DaxBinding.FsDev}, which the stock dialect cannot use; `famfs dax-mode devdax` binds it back") { Path = held[0] };
        if (held.Count == 0 && options.ForcedDialect?.Fmaps is not null)
            throw new FamfsException(ErrorReason.BadRequest, $"{options.Devices[0]}: is not bound to {DaxBinding.FsDev}, which dialect {options.ForcedDialect.Name} needs; `famfs dax-mode famfs` binds a dax device to it") { Path = options.Devices[0] };
        return held;
    }

    private async Task<int> ServeAsync(CancellationToken cancel)
    {
        GiveDevices();
        // A kernel to which devices are pushed says at this place that it has not let go of one yet.
        KernelHeldDevices.RetryWhileHeld(() => _mount = FuseMount.Start(
            new FuseMountOptions(_options.MountPoint)
            {
                Source = "famfs",
                Cache = _options.Cache,
                WorkerCount = _options.Workers,
                // The daemon writes its line through the mount itself where the kernel holds the devices.
                ReadOnly = _options.ReadOnly && !KernelHolds,
                AllowOther = _options.AllowOther,
                Dialect = new DialectWish(_options.ForcedDialect, WantsFmaps: _kernelDevices.All.Count > 0),
                PushIoctl = _options.PushIoctl,
            },
            new OperationDependencies(_replica.Tree, this, _registration, this, _description)
            {
                KernelDevices = _kernelDevices,
                MayWrite = () => _replica.Damage is null,
                Meta = _replica.Files,
                Windows = _replica.Windows,
            }));
        using FuseMount mount = _mount;
        if (KernelHolds)
            EnterOwnMount();
        _description.Dialect = mount.Negotiated.Dialect.Name;
        _registration.DialectNumber = mount.Negotiated.Dialect.Fmaps?.FloorNumber ?? 0;
        _description.CountRequests = () => mount.Statistics.Requests;
        _replica.Attach(mount.Notifier);
        uint connection = mount.ConnectionNumber;
        using FuseConnections connections = _connections = FuseConnections.Open(connection);
        MountRecord record = MountRecord.Create(_options.StateDirectory, _replica.Pool.Primary.FileSystem, _host, _mountId, connection);
        DaemonLog.Mounted(_log, _replica.Pool.Primary.FileSystem, _options.MountPoint, _mountId, _description.Dialect, _replica.Position.ToString());
        if (!_registration.IsNeeded)
            DaemonLog.NoHostTable(_log);
        else if (!_replica.State.Hosts.ContainsKey(_host.Host))
            DaemonLog.Unregistered(_log);

        using CancellationTokenSource ending = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        Task upkeep = Task.Factory.StartNew(() => KeepUp(ending.Token), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
        Task subscribing = SubscribeAsync(ending.Token);
        Task ended = await Task.WhenAny(mount.Completion, Task.Delay(Timeout.Infinite, ending.Token)).ConfigureAwait(false);
        bool asked = ended != mount.Completion;
        await ending.CancelAsync().ConfigureAwait(false);
        await upkeep.ConfigureAwait(false);
        await subscribing.ConfigureAwait(false);
        LeaveOwnMount();
        if (asked && mount.TryUnmount())
        {
            // Ended by the kernel itself, as by umount(8): that is proof, and what follows need not be taken for less.
            await Task.WhenAny(mount.Completion, Task.Delay(KernelEnd, CancellationToken.None)).ConfigureAwait(false);
            asked = !mount.Completion.IsCompleted;
        }
        mount.Stop();

        // The line ends only on proof that this kernel has no superblock of ours any more.
        if (connections.Visible ? connections.IsGone(connection) : mount.Completion.IsCompletedSuccessfully && !asked)
        {
            if (EndLine())
                record.Delete();
        }
        DaemonLog.Unmounted(_log, _options.MountPoint);
        if (mount.Completion.IsFaulted)
        {
            DaemonLog.Problem(_log, mount.Completion.Exception!.InnerException!.Message);
            return Failed;
        }
        return 0;
    }

    /// <summary>Attaches what the log names and this host did not have so far. Reads superblocks: on the upkeep
    /// thread or before serving, never on a worker and never while records are applied.</summary>
    private void LookForDevices()
    {
        LogPosition position = _replica.Position;
        DeviceSearchResult result;
        try
        {
            result = _devices.Look(_replica.Pool, _replica.State.Devices, KernelHolds ? AttachHeld : null);
        }
        finally
        {
            _replica.DevicesLookedFor(position);
        }
        foreach (DeviceIndex index in result.Attached)
            DaemonLog.DeviceAttached(_log, index.Value, _replica.Pool.Require(index).Path);
        foreach ((DeviceAdded device, string cause) in result.Missing)
            DaemonLog.DeviceMissing(_log, device.Index, device.DeviceUuid.ToGuid("device_uuid"), cause);
    }

    /// <summary>Finds out, each through a private mount that ends at once, which of the devices bound for the kernel's famfs are wanted;
    /// gives those to the kernel of this mount, under its next index, and to the pool. Nothing else is taken from whoever
    /// else may want it. Upkeep thread.</summary>
    private List<DeviceIndex> AttachHeld(DevicePool pool, IReadOnlyList<DeviceAdded> wanted, IReadOnlyList<string> paths, Dictionary<Guid, string> causes)
    {
        List<DeviceIndex> attached = [];
        List<string> passedOver = [];
        var binding = new DaxBinding();
        foreach (string path in paths.Select(Path.GetFullPath).Distinct())
        {
            if (_inside is null || wanted.All(d => pool.Find(new((ushort)d.Index)) is not null))
                break;
            if (binding.FindName(path) is not { } name || pool.Present.Any(index => binding.FindName(pool.Require(index).Path) == name))
                continue;
            if (binding.ReadDriver(name) != DaxBinding.FsDev)
            {
                passedOver.Add($"{path} is not bound to {DaxBinding.FsDev} (`famfs dax-mode famfs {path}`)");
                continue;
            }
            try
            {
                if (TryAttachHeld(pool, wanted, path, out DeviceIndex index))
                    attached.Add(index);
            }
            catch (Exception error) when (error is FamfsException or DeviceFaultException or IOException or NotSupportedException)
            {
                passedOver.Add(error.Message);
            }
        }
        if (passedOver.Count > 0)
        {
            foreach (DeviceAdded device in wanted)
                causes[device.DeviceUuid.ToGuid("device_uuid")] = $"not found at {string.Join(", ", _options.Devices)}; {string.Join("; ", passedOver)}";
        }
        return attached;
    }

    private bool TryAttachHeld(DevicePool pool, IReadOnlyList<DeviceAdded> wanted, string path, out DeviceIndex index)
    {
        DeviceIdentity? identity;
        KernelDevice? given = _kernelDevices.All.FirstOrDefault(device => device.Path == path);
        if (given is null)
        {
            using KernelHeldDevices held = KernelHeldDevices.Open([path], required: 0, _options.ForcedDialect, _options.PushIoctl);
            identity = held.ReadIdentity(_options.Formats);
            if (identity is null && held.FirstCause.Length > 0)
                throw new FamfsException(ErrorReason.DeviceMissing, held.FirstCause) { Path = path };
        }
        else
        {
            // Given to the kernel before, when it did not take it yet.
            identity = _givenLate.GetValueOrDefault(path);
        }
        index = identity?.Index ?? default;
        if (identity is null || identity.FileSystem != pool.Primary.FileSystem
            || !wanted.Any(d => d.DeviceUuid.ToGuid("device_uuid") == identity.Device && d.Index == identity.Index.Value))
            return false;
        if (given is null)
        {
            // In dialect D the kernel takes it here; in the others it asks when the first file is opened, which is below.
            KernelHeldDevices.RetryWhileHeld(() => _kernelDevices.Add(path, identity.DeviceLengthBytes, identity.Index));
            _givenLate[path] = identity;
        }
        var device = new MountedDaxDevice(path, identity.Index, identity.DeviceLengthBytes, identity.Coherent, readOnly: false, this);
        try
        {
            KernelHeldDevices.RetryWhileHeld(() => device.Invalidate(0, DaxDevice.LineBytes));
            pool.Attach(device);
            return true;
        }
        catch
        {
            device.Dispose();
            throw;
        }
    }

    /// <summary>Lists the devices that the kernel is to take, in the order of the pool, so that a kernel's index is never
    /// above the pool's.</summary>
    private void GiveDevices()
    {
        if (!KernelHolds)
            return;
        foreach (DeviceIndex index in _replica.Pool.Present)
        {
            DaxDevice device = _replica.Pool.Require(index);
            _kernelDevices.Add(device.Path, device.LengthBytes, index);
        }
    }

    /// <summary>Opens the way to the log and the host table through the mount itself, and waits until the kernel lets go of
    /// the private mount by which they were read before.</summary>
    private void EnterOwnMount()
    {
        _inside = _mount.OpenInside();
        if (_options.ReadOnly)
            _mount.MakeReadOnly(); // before any file can be opened: the gate is shut
        foreach (DeviceIndex index in _replica.Pool.Present)
        {
            try
            {
                // The kernel looks a device's path up as the process that opens the first file on it sees it: this one, and
                // not a program in a container that has no such path.
                KernelHeldDevices.RetryWhileHeld(() => _replica.Pool.Require(index).Invalidate(0, DaxDevice.LineBytes));
            }
            catch (Exception error) when (index.Value != 0 && error is FamfsException or DeviceFaultException)
            {
                DaemonLog.Problem(_log, error.Message);
            }
        }
    }

    /// <summary>Lets go of everything that this process has of its own mount. Upkeep thread, or after it.</summary>
    private void LeaveOwnMount()
    {
        if (Interlocked.Exchange(ref _inside, null) is not { } inside)
            return;
        _registration.ReleaseLock();
        _replica.Pool.Dispose();
        inside.Dispose();
    }

    /// <summary>Says in the host table that this mount has ended. False when the memory cannot be reached: then a later daemon
    /// proves it (<see cref="MountRecord"/>).</summary>
    private bool EndLine()
    {
        if (!_registration.HasLine)
            return true;
        try
        {
            if (!KernelHolds)
            {
                _registration.End(_replica.Pool);
                return true;
            }
            using KernelHeldDevices held = KernelHeldDevices.Open(_heldPaths, 1, _options.ForcedDialect, _options.PushIoctl);
            _registration.End(held.OpenPool(_options.Formats));
            return true;
        }
        catch (Exception error) when (error is FamfsException or DeviceFaultException or IOException or NotSupportedException)
        {
            DaemonLog.Problem(_log, $"the end of this mount is not in the host table: {error.Message}");
            return false;
        }
    }

    /// <summary>Tails the memory while no stream does it, attaches devices, and keeps the line moving.</summary>
    private void KeepUp(CancellationToken cancel)
    {
        TimeSpan pause = MinPoll;
        string lastProblem = "";
        while (!cancel.IsCancellationRequested)
        {
            try
            {
                if (_inside is not null && !_mount.IsAttached)
                {
                    // Unmounted: what this thread has open would be all that keeps it alive.
                    LeaveOwnMount();
                    return;
                }
                LookForDevices();
                if (_replica.Damage is { } damage)
                    ForbidWriting(damage);
                bool found = !_subscription.Connected && _replica.Damage is null && _replica.PollMemory() == PollVerdict.Records;
                pause = found || _subscription.Connected ? MinPoll : TimeSpan.FromTicks(Math.Min(pause.Ticks * 2, MaxPoll.Ticks));
                bool wasOpen = _registration.IsOpen;
                _registration.Advance();
                if (!wasOpen && _registration.IsOpen && _registration.IsNeeded)
                    DaemonLog.Registered(_log);
                LogRefusedMaps();
                if (found)
                    continue;
            }
            catch (Exception error)
            {
                // What is served stays served, and the line goes on moving; the same trouble is said once.
                if (error.Message != lastProblem)
                    DaemonLog.Problem(_log, lastProblem = error.Message);
                pause = MaxPoll;
            }
            cancel.WaitHandle.WaitOne(_subscription.Connected ? TimeSpan.FromMilliseconds(20) : pause);
        }
    }

    /// <summary>A log that is not whole is nothing to write beside. The operations refuse already; the mount is made read-only
    /// for what does not ask them, and to show in the table of mounts, as soon as no file is open for writing.</summary>
    private void ForbidWriting(FamfsException damage)
    {
        if (_readOnly)
            return;
        if (!_loggedDamage)
            DaemonLog.ReadOnlyNow(_log, damage.Message);
        _loggedDamage = true;
        try
        {
            _mount.MakeReadOnly();
            _readOnly = true;
        }
        catch (IOException error) when (error.HResult == (int)Protocol.Errno.EBUSY)
        {
            // Tried again at the next turn.
        }
    }

    // One line for however many since the last.
    private void LogRefusedMaps()
    {
        FuseMountStatistics statistics = _mount.Statistics;
        if (statistics.ForeignFmaps != 0 && !_loggedForeignMaps)
        {
            DaemonLog.ForeignMaps(_log, _mount.Negotiated.Dialect.Name);
            _loggedForeignMaps = true;
        }
        long refused = statistics.RefusedFmaps + statistics.InexpressibleFmaps;
        if (refused == _loggedRefusedMaps || _mount.LastRefusedFmap is not { } last)
            return;
        DaemonLog.RefusedMaps(_log, refused - _loggedRefusedMaps, last.ToString());
        _loggedRefusedMaps = refused;
    }

    private async Task SubscribeAsync(CancellationToken cancel)
    {
        IReadOnlyList<string> addresses = _options.Masters;
        if (addresses.Count == 0 && _replica.State.LastTermStarted is { Address.Length: > 0 } last)
            addresses = [last.Address];
        if (addresses.Count == 0)
        {
            DaemonLog.Degraded(_log, "none is known");
            return;
        }
        try
        {
            using FamfsClient client = new(new FamfsClientOptions { Addresses = addresses, Tls = _tls });
            LogSubscriber subscriber = new(client);
            _replica.Acknowledgeable += position => subscriber.Acknowledge(position);
            await subscriber.RunAsync(_subscription, cancel).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (cancel.IsCancellationRequested)
        {
            // The mount has ended.
        }
        catch (Exception error)
        {
            // The mount goes on with what memory says.
            DaemonLog.Problem(_log, $"the master refuses this host: {error.Message}");
        }
    }

    private Hello Identify()
    {
        Hello hello = new()
        {
            HostId = _host.Host.ToByteString(),
            BootId = _host.Boot.ToByteString(),
            MountId = _mountId.ToByteString(),
            Dialect = _description.Dialect,
            Version = typeof(DaemonHost).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion ?? "",
            HostName = _host.Name,
            MachineDigest = Google.Protobuf.ByteString.CopyFrom(_host.MachineDigest),
        };
        hello.OlderMounts.AddRange(MountRecord.FindGone(_options.StateDirectory, _replica.Pool.Primary.FileSystem, _host, _mountId, _connections, _mount.ConnectionNumber));
        return hello;
    }
}
