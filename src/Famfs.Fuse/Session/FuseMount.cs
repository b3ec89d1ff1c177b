using System.Globalization;
using System.Runtime.CompilerServices;
using Famfs.Core.Interop;
using Famfs.Core.Namespace;
using Famfs.Fuse.Dialects;
using Famfs.Fuse.Operations;
using Famfs.Fuse.Protocol;
using Errno = Famfs.Fuse.Protocol.Errno;

namespace Famfs.Fuse.Session;

/// <summary>Sums over all workers, approximate while they run.</summary>
/// <param name="Requests">Messages read.</param>
/// <param name="Errors">Replies that carried an error.</param>
/// <param name="Rejected">Messages that were no valid request.</param>
/// <param name="Failures">Requests whose handler failed unexpectedly.</param>
/// <param name="Faults">Reads and writes that met unreadable memory.</param>
/// <param name="MissingDevice">Reads and writes that met a device this host does not have.</param>
/// <param name="ReadBytes">Bytes given to readers.</param>
/// <param name="WrittenBytes">Bytes taken from writers.</param>
/// <param name="Forgotten">Lookups given back.</param>
public readonly record struct FuseMountStatistics(
    long Requests, long Errors, long Rejected, long Failures, long Faults, long MissingDevice, long ReadBytes, long WrittenBytes, long Forgotten);

/// <summary>
/// A mounted file system and the threads that serve it, from <see cref="Start"/> until the kernel or the
/// caller ends it.
/// <para>Threads: <c>fuse-N</c>, each with a descriptor of its own, and <c>fuse-notify</c>. No thread of this
/// object ever touches a path of the mount.</para>
/// </summary>
public sealed class FuseMount : IDisposable
{
    // Measured in the prototype: sequential cached reads gain up to here (PLATFORM). The kernel's own is 128.
    private const int ReadAheadKibibytes = 1024;

    private readonly FuseMountOptions _options;
    private readonly FuseChannel _channel;
    private readonly (uint Major, uint Minor) _device;
    private readonly List<Server> _servers = [];
    private readonly TaskCompletionSource _completion = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly Lock _gate = new();
    private int _running;
    private volatile bool _stopping;
    private bool _disposed; // guarded by _gate

    private FuseMount(
        FuseMountOptions options, FuseChannel channel, (uint Major, uint Minor) device, Negotiated negotiated, KernelPresence presence, OperationDependencies dependencies)
    {
        _options = options;
        _device = device;
        _channel = channel;
        Negotiated = negotiated;
        Notifier = new KernelNotifier(new DeviceTransport(channel), presence, dependencies.Tree, negotiated, options.NotificationLimitBytes);
    }

    private sealed class Server(FuseChannel channel, FuseWorker worker, TreeReader reader)
    {
        public FuseChannel Channel => channel;

        public FuseWorker Worker => worker;

        public TreeReader Reader => reader;

        public required Thread Thread { get; init; }

        public ThreadInterrupt? Interrupt { get; set; } // set by the thread before its first read
    }

    /// <summary>What was agreed on with the kernel.</summary>
    public Negotiated Negotiated { get; }

    /// <summary>Where replay says what it has changed.</summary>
    public KernelNotifier Notifier { get; }

    /// <summary>Ends when the last worker has: after an unmount by anyone, <see cref="Stop"/>, or
    /// <see cref="Abort"/>. Fails with the reason when /dev/fuse broke.</summary>
    public Task Completion => _completion.Task;

    /// <summary>Number of the connection in /sys/fs/fuse/connections: the minor number of st_dev, whose major number
    /// is 0. Its disappearance proves that the superblock is gone (SAFETY S14).</summary>
    public uint ConnectionNumber => _device.Minor;

    /// <summary>The mounted directory.</summary>
    public string MountPointPath => _options.MountPoint;

    /// <summary>What the workers have done.</summary>
    public FuseMountStatistics Statistics
    {
        get
        {
            FuseMountStatistics sum = default;
            foreach (Server server in _servers)
            {
                WorkerCounters c = server.Worker.Counters;
                sum = new FuseMountStatistics(
                    sum.Requests + Volatile.Read(ref c.Requests),
                    sum.Errors + Volatile.Read(ref c.Errors),
                    sum.Rejected + Volatile.Read(ref c.Rejected),
                    sum.Failures + Volatile.Read(ref c.Failures),
                    sum.Faults + Volatile.Read(ref c.Faults),
                    sum.MissingDevice + Volatile.Read(ref c.MissingDevice),
                    sum.ReadBytes + Volatile.Read(ref c.ReadBytes),
                    sum.WrittenBytes + Volatile.Read(ref c.WrittenBytes),
                    sum.Forgotten + Volatile.Read(ref c.Forgotten));
            }
            return sum;
        }
    }

    /// <summary>The last unexpected failure of a handler, for the log of the daemon.</summary>
    public Exception? LastFailure => _servers.Select(server => server.Worker.LastFailure).FirstOrDefault(failure => failure is not null);

    /// <summary>
    /// Mounts, agrees with the kernel, and starts serving. The tree may be empty but for its root, and may be
    /// changed by its one writer meanwhile.
    /// <para>Throws <see cref="IOException"/> (HResult is the error number) when /dev/fuse cannot be opened or the
    /// mount fails, <see cref="NotSupportedException"/> when the kernel is too old; nothing stays mounted then.</para>
    /// </summary>
    public static FuseMount Start(FuseMountOptions options, OperationDependencies dependencies)
    {
        int workers = options.RequireWorkerCount();
        options = options with { MountPoint = Path.GetFullPath(options.MountPoint) }; // unmounted by that name, from wherever
        int maxPages = options.MaxPages != 0 ? options.MaxPages : DetectMaxPages();
        FuseChannel channel = FuseChannel.Open();
        bool mounted = false;
        (uint Major, uint Minor) device = default;
        FuseMount? mount = null;
        try
        {
            MountPoint.Mount(options, channel.Descriptor, Math.Clamp(maxPages, 1, InitNegotiation.MaxPagesLimit) * InitNegotiation.PageBytes);
            mounted = true;
            if (!FuseChannel.TryGetDevice(options.MountPoint, out device.Major, out device.Minor))
                throw new IOException($"{options.MountPoint} is gone", (int)Errno.ENOENT);
            Negotiated negotiated = AnswerInit(new DeviceTransport(channel), maxPages);
            if (options.Cache.Mode == CacheMode.CloseToOpen)
                _ = MountPoint.TrySetReadAhead(device.Minor, ReadAheadKibibytes); // a matter of speed
            var presence = new KernelPresence();
            var operations = new FuseOperations(dependencies, presence, options.Cache, negotiated);
            mount = new FuseMount(options, channel, device, negotiated, presence, dependencies);
            for (int i = 0; i < workers; i++)
                mount.AddServer(channel.Clone(), operations, dependencies.Tree, i);
            mount._running = workers;
            foreach (Server server in mount._servers)
                server.Thread.Start(server);
            return mount;
        }
        catch
        {
            if (mounted)
                _ = MountPoint.Abort(options.MountPoint);
            if (mount is not null)
            {
                mount.Notifier.Dispose();
                mount.Release();
            }
            else
                channel.Dispose();
            throw;
        }
    }

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
        if (IsMounted())
        {
            // Workers that broke answer nothing any more, and the notifier may wait for a request of theirs.
            _ = abort || Completion.IsFaulted ? MountPoint.Abort(_options.MountPoint) : MountPoint.Detach(_options.MountPoint);
        }

        // In this order: the notifier may be inside the kernel, waiting for a directory's lock that a request
        // holds, and only a worker that still answers lets it go on.
        Notifier.Dispose();
        _stopping = true;
        Quiesce();
        Release();
    }

    // Whether what is at the mount point is this mount: someone may have unmounted it, and mounted another.
    private bool IsMounted() =>
        !Completion.IsCompletedSuccessfully && FuseChannel.TryGetDevice(_options.MountPoint, out uint major, out uint minor) && (major, minor) == _device;

    // Reads and answers the first request, which is INIT. A kernel with a higher major version asks again when it
    // has seen ours.
    private static Negotiated AnswerInit(IFuseTransport transport, int maxPages)
    {
        var reader = new RequestReader(transport, OpcodeTable.Stock, maxWriteBytes: 0);
        var reply = new ReplyBuffer();
        Span<byte> padded = stackalloc byte[Unsafe.SizeOf<InitIn>()]; // older kernels send less
        while (true)
        {
            switch (reader.Read(out FuseRequest request, out ParseVerdict verdict))
            {
                case ReadOutcome.Again:
                    continue;
                case ReadOutcome.Message when verdict == ParseVerdict.Ok && request.Row!.Operation == Operation.Init:
                    padded.Clear();
                    request.Body[..Math.Min(request.Body.Length, padded.Length)].CopyTo(padded);
                    InitIn offer = System.Runtime.InteropServices.MemoryMarshal.Read<InitIn>(padded);
                    if (offer.Major > FuseConstants.FUSE_KERNEL_VERSION)
                    {
                        var ours = new InitOut { Major = FuseConstants.FUSE_KERNEL_VERSION, Minor = FuseConstants.FUSE_KERNEL_MINOR_VERSION };
                        _ = transport.Write(reply.Frame(request.Header.Unique, reply.Ok(ours), out _), default); // an error shows at the next read
                        continue;
                    }
                    if (!InitNegotiation.TryNegotiate(offer, maxPages, out InitOut answer, out Negotiated? negotiated))
                    {
                        _ = transport.Write(reply.Frame(request.Header.Unique, Errno.EPROTO, out _), default); // giving up anyway
                        throw new NotSupportedException(string.Create(
                            CultureInfo.InvariantCulture,
                            $"the kernel's FUSE interface is {offer.Major}.{offer.Minor}; 7.{DialectTable.MinMinor} or later is needed"));
                    }
                    int written = transport.Write(reply.Frame(request.Header.Unique, reply.Ok(answer), out _), default);
                    return written >= 0 ? negotiated! : throw new IOException($"reply to INIT: {(Errno)(-written)}", -written);
                case ReadOutcome.Ended:
                    throw new IOException("the connection ended before INIT", (int)Errno.ENODEV);
                default:
                    throw new IOException($"expected INIT from the kernel: {reader.LastError}", (int)Errno.EPROTO);
            }
        }
    }

    // fs.fuse.max_pages_limit exists since 6.13; what is there may be raised by the operator.
    private static int DetectMaxPages()
    {
        const string LimitPath = "/proc/sys/fs/fuse/max_pages_limit";
        return File.Exists(LimitPath) && int.TryParse(File.ReadAllText(LimitPath), CultureInfo.InvariantCulture, out int pages)
            ? Math.Clamp(pages, 1, InitNegotiation.MaxPagesLimit)
            : InitNegotiation.DefaultMaxPages;
    }

    private void AddServer(FuseChannel channel, FuseOperations operations, InodeTree tree, int number)
    {
        var transport = new DeviceTransport(channel);
        TreeReader reader = tree.RegisterReader();
        var worker = new FuseWorker(
            new RequestReader(transport, Negotiated), operations, new ReplyWriter(transport), new WorkerState(reader, new ReplyBuffer(), new WorkerCounters()));
        _servers.Add(new Server(channel, worker, reader)
        {
            Thread = new Thread(Serve) { IsBackground = true, Name = string.Create(CultureInfo.InvariantCulture, $"fuse-{number}") },
        });
    }

    private void Serve(object? argument)
    {
        var server = (Server)argument!;
        Exception? failure = null;
        try
        {
            server.Interrupt = ThreadInterrupt.ForCurrentThread();
            ReadOutcome outcome = ReadOutcome.Again;
            while (!_stopping && outcome is ReadOutcome.Message or ReadOutcome.Again)
                outcome = server.Worker.Step();
            if (outcome == ReadOutcome.Broken)
                failure = new IOException($"reading /dev/fuse: {server.Worker.ReadError}", (int)server.Worker.ReadError);
        }
        catch (Exception exception)
        {
            failure = exception; // kept in Completion
        }
        if (failure is not null)
            _completion.TrySetException(failure);
        if (Interlocked.Decrement(ref _running) == 0)
            _completion.TrySetResult();
    }

    // Gets every worker out of its read. Signals are repeated because one that comes just before the read is lost.
    private void Quiesce()
    {
        foreach (Server server in _servers)
        {
            while (!server.Thread.Join(millisecondsTimeout: 5))
                server.Interrupt?.Send();
        }
    }

    private void Release()
    {
        foreach (Server server in _servers)
        {
            server.Channel.Dispose();
            server.Reader.Dispose();
        }
        _channel.Dispose();
        _completion.TrySetResult();
    }
}
