using System.Globalization;
using Famfs.Client;
using Famfs.Core.Interop;
using Famfs.Fuse.Dialects;
using Famfs.Fuse.Operations;
using Famfs.Fuse.Protocol;
using Errno = Famfs.Fuse.Protocol.Errno;

namespace Famfs.Fuse.Session;

/// <summary>
/// A mounted file system and the threads that serve it, from <see cref="Start"/> until the kernel or the
/// caller ends it.
/// <para>No thread of this object or its <see cref="FuseSession"/> ever touches a path of the mount.</para>
/// </summary>
public sealed class FuseMount : IDisposable
{
    // Measured in the prototype: sequential cached reads gain up to here (PLATFORM). The kernel's own is 128.
    private const int ReadAheadKibibytes = 1024;

    private readonly FuseMountOptions _options;
    private readonly FuseSession _session;
    private readonly DeviceConnection _connection;
    private readonly (uint Major, uint Minor) _device;
    private readonly Lock _gate = new();
    private bool _disposed; // guarded by _gate
    private bool _isKept; // not served yet: whoever kept it still does

    private FuseMount(FuseMountOptions options, FuseSession session, DeviceConnection connection, (uint Major, uint Minor) device)
    {
        _options = options;
        _connection = connection;
        _session = session;
        _device = device;
    }

    /// <summary>What was agreed on with the kernel.</summary>
    public Negotiated Negotiated => _session.Negotiated;

    /// <summary>What the kernel may have.</summary>
    public KernelPresence Presence => _session.Presence;

    /// <summary>Files of which the kernel may have the content.</summary>
    public KernelPresence Mapped => _session.Mapped;

    /// <summary>Where replay says what it has changed.</summary>
    public KernelNotifier Notifier => _session.Notifier;

    /// <summary>Ends when the last worker has: after an unmount by anyone, <see cref="Stop"/>, or
    /// <see cref="Abort"/>. Fails with the reason when /dev/fuse broke.</summary>
    public Task Completion => _session.Completion;

    /// <summary>Number of the connection in /sys/fs/fuse/connections: the minor number of st_dev, whose major number
    /// is 0. Its disappearance proves that the superblock is gone (SAFETY S14).</summary>
    public uint ConnectionNumber => _device.Minor;

    /// <summary>The mounted directory.</summary>
    public string MountPointPath => _options.MountPoint;

    /// <summary>What the workers have done.</summary>
    public FuseMountStatistics Statistics => _session.Statistics;

    /// <summary>Devices that this host lacks and requests needed, for the log of the daemon.</summary>
    public MissedDevices MissedDevices => _session.MissedDevices;

    /// <summary>The last of <see cref="FuseMountStatistics.Failures"/>, for the log of the daemon.</summary>
    public Exception? LastFailure => _session.LastFailure;

    /// <summary>The last map that was not given to the kernel, for the log of the daemon.</summary>
    public RefusedFmap? LastRefusedFmap => _session.LastRefusedFmap;

    /// <summary>
    /// Mounts, agrees with the kernel, and starts serving. The tree may be empty but for its root, and may be
    /// changed by its one writer meanwhile.
    /// <para>Throws <see cref="IOException"/> (HResult is the error number) when /dev/fuse cannot be opened or the
    /// mount fails, <see cref="NotSupportedException"/> when the kernel is too old or does not speak the dialect that was
    /// asked for, <see cref="Core.FamfsException"/> when it does not take a device; nothing stays mounted then.</para>
    /// <para>Not at the root: no path leads to a mount there, so it could be found and taken away by nobody.</para>
    /// </summary>
    public static FuseMount Start(FuseMountOptions options, OperationDependencies dependencies)
    {
        options = options with { MountPoint = Path.GetFullPath(options.MountPoint) }; // unmounted by that name, from wherever
        if (options.MountPoint == "/")
            throw new IOException("/: is the root of this host; mount on a directory below it", (int)Errno.EINVAL);
        (uint Major, uint Minor)? covered = FuseChannel.TryGetDevice(options.MountPoint, out uint oldMajor, out uint oldMinor) ? (oldMajor, oldMinor) : null;
        FuseChannel channel = FuseChannel.Open();
        using var connecting = new Connecting(new DeviceConnection(channel, options.PushIoctl), options.MountPoint);
        MountPoint.Mount(options, channel.Descriptor, options.RequireMaxPages() * InitNegotiation.PageBytes);
        if (!FuseChannel.TryGetDevice(options.MountPoint, out uint major, out uint minor))
            throw new IOException($"{options.MountPoint} is gone", (int)Errno.ENOENT);
        // FUSE has a number of no device, and one of its own. What else is there is not ours to take away.
        if (major != 0 || (major, minor) == covered)
            throw new IOException($"{options.MountPoint}: does not lead to what was mounted there; has somebody unmounted it, or mounted over it?", (int)Errno.EINVAL);
        connecting.Mounted = true;
        FuseSession session = FuseSession.Start(options, connecting.Connection, dependencies);
        connecting.Succeeded = true;
        if (options.Cache.Mode == CacheMode.CloseToOpen && session.Negotiated.Dialect.Fmaps is null)
            _ = MountPoint.TrySetReadAhead(minor, ReadAheadKibibytes); // a matter of speed
        return new FuseMount(options, session, connecting.Connection, (major, minor));
    }

    /// <summary>Goes on with a mount that another daemon served (<see cref="FuseSession.Resume"/>); nothing is served before
    /// <see cref="ServeResent"/>. Owns <paramref name="connection"/> once it returns. Throws <see cref="IOException"/>.</summary>
    /// <param name="options">Those of the mount itself were said when it was made.</param>
    /// <param name="connection">Its descriptors.</param>
    /// <param name="number">Its <see cref="ConnectionNumber"/>.</param>
    /// <param name="negotiated">What was agreed on with the kernel.</param>
    /// <param name="dependencies">As of <see cref="Start"/>.</param>
    public static FuseMount Resume(FuseMountOptions options, DeviceConnection connection, uint number, Negotiated negotiated, OperationDependencies dependencies) =>
        new(options, FuseSession.Resume(options, connection, negotiated, dependencies), connection, (0, number)) { _isKept = true };

    /// <summary>After <see cref="Resume"/>: begins to serve, first what the former daemon had not answered. Throws
    /// <see cref="IOException"/>.</summary>
    public void ServeResent()
    {
        _session.ServeResent();
        _isKept = false;
    }

    /// <summary>Copies of all descriptors, for a process that keeps them. Throws <see cref="IOException"/>.</summary>
    public IReadOnlyList<System.Runtime.InteropServices.SafeHandle> DuplicateDescriptors() => _connection.Duplicate();

    /// <summary>Ends serving and leaves the mount to another daemon (<see cref="FuseSession.Leave"/>).</summary>
    public void Leave(TimeSpan patience, Action leaving)
    {
        lock (_gate)
        {
            if (_disposed)
                return;
            _disposed = true;
        }
        _session.Leave(patience, leaving);
    }

    /// <summary>Whether anybody in this process's mount namespace can still find the mount. Somewhere else it may go on.</summary>
    public bool IsAttached
    {
        get
        {
            if (IsMounted())
                return true;
            string device = string.Create(CultureInfo.InvariantCulture, $"{_device.Major}:{_device.Minor}");
            return !Completion.IsCompleted && MountEntry.ReadTable().Any(entry => entry.DeviceNumber == device);
        }
    }

    /// <summary>A way into the mount for this process, from threads that do not serve it, which does not keep it from being
    /// unmounted by anybody. The caller disposes it, when <see cref="IsAttached"/> ends at the latest, or the file system
    /// stays alive.</summary>
    public DetachedMount OpenInside() => DetachedMount.CloneOf(_options.MountPoint);

    /// <summary>Forbids writing to whoever uses the mount at its place; <see cref="OpenInside"/>, made before, may still write.
    /// Throws <see cref="IOException"/>.</summary>
    public void MakeReadOnly() => MountPoint.MakeReadOnly(_options);

    /// <summary>Takes <see cref="MakeReadOnly"/> back. Throws <see cref="IOException"/>.</summary>
    public void MakeWritable() => MountPoint.MakeWritable(_options);

    /// <summary>Unmounts if nothing is open, and ends serving. Throws <see cref="IOException"/> with EBUSY otherwise,
    /// and goes on serving.</summary>
    public void Unmount()
    {
        if (IsMounted())
            _ = MountPoint.UnmountIdle(_options.MountPoint); // false: someone else was faster
        Completion.Wait();
        Stop();
    }

    /// <summary>Takes the mount away from programs, answers what is being answered, and ends. Files that are still
    /// open fail from then on.</summary>
    public void Stop() => End(abort: false);

    /// <summary>Unmounts if no file is open, while it is still served; false when it is busy or not there. The kernel
    /// then ends the connection (<see cref="Completion"/>), unless another mount name space has a copy of the mount.</summary>
    public bool TryUnmount()
    {
        try
        {
            return IsMounted() && MountPoint.UnmountIdle(_options.MountPoint);
        }
        catch (IOException error) when (error.HResult == (int)Errno.EBUSY)
        {
            return false;
        }
    }

    /// <summary>Ends the connection at once; every request that waits fails.</summary>
    public void Abort() => End(abort: true);

    /// <summary>As <see cref="Stop"/>.</summary>
    public void Dispose() => Stop();

    private void End(bool abort)
    {
        lock (_gate)
        {
            if (_disposed)
                return;
            _disposed = true;
        }
        if (_isKept)
        {
            _session.Leave(TimeSpan.Zero, static () => { });
            return;
        }
        if (IsMounted())
        {
            // Workers that broke answer nothing any more, and the notifier may wait for a request of theirs.
            _ = abort || Completion.IsFaulted ? MountPoint.Abort(_options.MountPoint) : MountPoint.Detach(_options.MountPoint);
        }

        _session.Dispose();
    }

    // Whether what is at the mount point is this mount: someone may have unmounted it, and mounted another.
    internal bool IsMounted() =>
        !Completion.IsCompletedSuccessfully && FuseChannel.TryGetDevice(_options.MountPoint, out uint major, out uint minor) && (major, minor) == _device;

    // Takes everything back when a mount does not come about.
    private sealed class Connecting(DeviceConnection connection, string mountPoint) : IDisposable
    {
        public DeviceConnection Connection => connection;

        public bool Mounted { get; set; }

        public bool Succeeded { get; set; }

        public void Dispose()
        {
            if (Succeeded)
                return;
            if (Mounted)
                _ = MountPoint.Abort(mountPoint);
            connection.Dispose();
        }
    }
}
