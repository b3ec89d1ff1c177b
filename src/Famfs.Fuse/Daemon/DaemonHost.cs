using System.Reflection;
using System.Runtime.InteropServices;
using Famfs.Client;
using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
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
/// </summary>
internal sealed class DaemonHost : IDeviceResolver, ICapacity
{
    /// <summary>Exit status of a daemon that could not mount.</summary>
    private const int Failed = 1;

    private static readonly TimeSpan MinPoll = TimeSpan.FromMilliseconds(1);
    private static readonly TimeSpan MaxPoll = TimeSpan.FromMilliseconds(100);

    private readonly DaemonOptions _options;
    private readonly HostIdentity _host;
    private readonly Replica _replica;
    private readonly ILogger _log;
    private readonly Guid _mountId = Guid.NewGuid();
    private readonly MountRegistration _registration;
    private readonly MountDescription _description;
    private readonly Subscription _subscription;
    private readonly KernelDevices _kernelDevices = new();
    private FuseMount _mount = null!;
    private long _loggedRefusedMaps; // upkeep thread
    private bool _loggedForeignMaps; // upkeep thread

    private DaemonHost(DaemonOptions options, HostIdentity host, Replica replica, ILogger log)
    {
        _options = options;
        _host = host;
        _replica = replica;
        _log = log;
        _registration = new(replica, host, _mountId);
        _description = new(replica, _mountId);
        _subscription = new(replica, _registration, _description, Identify, log);
    }

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
            HostIdentity host = HostIdentity.Load(options.StateDirectory, new HostIdentitySources());
            using Replica replica = new(OpenPool(options.Devices), new UInt128((ulong)Random.Shared.NextInt64(), (ulong)Random.Shared.NextInt64()));
            Bootstrap(replica);
            DaemonHost daemon = new(options, host, replica, logging.CreateLogger("Famfs.Fuse"));
            return await daemon.ServeAsync(cancel).ConfigureAwait(false);
        }
        catch (Exception error) when (error is FamfsException or DeviceFaultException or IOException or NotSupportedException or UnauthorizedAccessException)
        {
            await Console.Error.WriteLineAsync($"famfsd: {error.Message}").ConfigureAwait(false);
            return Failed;
        }
    }

    public DaxDevice? Resolve(DeviceIndex index) => _replica.Pool.Find(index);

    private static DevicePool OpenPool(IReadOnlyList<string> paths)
    {
        List<DaxDevice> devices = [];
        try
        {
            foreach (string path in paths)
                devices.Add(DaxDevice.Open(path));
            return DevicePool.Open(devices);
        }
        catch
        {
            foreach (DaxDevice device in devices)
                device.Dispose();
            throw;
        }
    }

    /// <summary>Replays what memory holds; a log that is unsettled at its end is served up to there.</summary>
    private static void Bootstrap(Replica replica)
    {
        while (replica.PollMemory() == PollVerdict.Records)
        {
        }
        if (replica.State.FileSystem is null)
            throw new FamfsException(ErrorReason.MediaCorrupt, $"{replica.Pool.PrimaryDevice.Path}: a master is taking over and the log cannot be read yet, or it is damaged; try again");
    }

    private async Task<int> ServeAsync(CancellationToken cancel)
    {
        GiveDevices();
        _mount = FuseMount.Start(
            new FuseMountOptions(_options.MountPoint)
            {
                Source = "famfs",
                Cache = _options.Cache,
                WorkerCount = _options.Workers,
                ReadOnly = _options.ReadOnly,
                AllowOther = _options.AllowOther,
                Dialect = new DialectWish(_options.ForcedDialect, WantsFmaps: _kernelDevices.All.Count > 0),
                PushIoctl = _options.PushIoctl,
            },
            new OperationDependencies(_replica.Tree, this, _registration, this, _description) { KernelDevices = _kernelDevices });
        using FuseMount mount = _mount;
        _description.Dialect = mount.Negotiated.Dialect.Name;
        _replica.Attach(mount.Notifier);
        uint connection = mount.ConnectionNumber;
        bool canSee = MountRecord.CanSeeConnections(connection);
        MountRecord record = MountRecord.Create(_options.StateDirectory, _replica.Pool.Primary.FileSystem, _host, _mountId, connection);
        DaemonLog.Mounted(_log, _replica.Pool.Primary.FileSystem, _options.MountPoint, _mountId, _description.Dialect, _replica.Position.ToString());
        if (!_replica.State.Hosts.ContainsKey(_host.Host))
            DaemonLog.Unregistered(_log);

        using CancellationTokenSource ending = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        Task upkeep = Task.Factory.StartNew(() => KeepUp(ending.Token), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
        Task subscribing = SubscribeAsync(ending.Token);
        Task ended = await Task.WhenAny(mount.Completion, Task.Delay(Timeout.Infinite, ending.Token)).ConfigureAwait(false);
        bool asked = ended != mount.Completion;
        if (asked)
            mount.Stop();
        await ending.CancelAsync().ConfigureAwait(false);
        await upkeep.ConfigureAwait(false);
        await subscribing.ConfigureAwait(false);

        // The line ends only on proof that this kernel has no superblock of ours any more.
        if (canSee ? MountRecord.IsGone(connection) : mount.Completion.IsCompletedSuccessfully && !asked)
        {
            _registration.End();
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

    /// <summary>Lists the devices that the kernel is to take, in the order of the pool, so that a kernel's index is never
    /// above the pool's. A device that this process has mapped is not bound to the driver that gives it to a kernel, so
    /// they are listed only when a dialect is forced.</summary>
    private void GiveDevices()
    {
        if (_options.ForcedDialect?.Fmaps is null)
            return;
        foreach (DeviceIndex index in _replica.Pool.Present)
        {
            DaxDevice device = _replica.Pool.Require(index);
            string path = Path.GetFullPath(device.Path);
            if (new System.IO.FileInfo(path).Length > 0) // of these two kinds only a regular file has a length
                throw new FamfsException(ErrorReason.BadRequest, $"{path}: is a regular file; the kernel of dialect {_options.ForcedDialect.Name} takes dax character devices only") { Path = path };
            _kernelDevices.Add(path, device.LengthBytes, index);
        }
    }

    /// <summary>Tails the memory while no stream does it, and keeps the line moving.</summary>
    private void KeepUp(CancellationToken cancel)
    {
        TimeSpan pause = MinPoll;
        string lastProblem = "";
        while (!cancel.IsCancellationRequested)
        {
            try
            {
                bool found = !_subscription.Connected && _replica.Corruption is null && _replica.PollMemory() == PollVerdict.Records;
                pause = found || _subscription.Connected ? MinPoll : TimeSpan.FromTicks(Math.Min(pause.Ticks * 2, MaxPoll.Ticks));
                bool wasOpen = _registration.IsOpen;
                _registration.Advance();
                if (!wasOpen && _registration.IsOpen)
                    DaemonLog.Registered(_log);
                LogRefusedMaps();
                if (found)
                    continue;
            }
            catch (Exception error) when (error is FamfsException or DeviceFaultException)
            {
                // What is served stays served; the same trouble is said once.
                if (error.Message != lastProblem)
                    DaemonLog.Problem(_log, lastProblem = error.Message);
                pause = MaxPoll;
            }
            cancel.WaitHandle.WaitOne(_subscription.Connected ? TimeSpan.FromMilliseconds(20) : pause);
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
            using FamfsClient client = new(new FamfsClientOptions { Addresses = addresses });
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
        hello.OlderMounts.AddRange(MountRecord.FindGone(_options.StateDirectory, _replica.Pool.Primary.FileSystem, _host, _mountId, _mount.ConnectionNumber));
        return hello;
    }
}
