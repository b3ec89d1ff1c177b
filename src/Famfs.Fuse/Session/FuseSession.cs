using System.Globalization;
using System.Runtime.CompilerServices;
using Famfs.Core;
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
/// <param name="Forbidden">Replies of EPERM.</param>
/// <param name="Rejected">Messages that were no valid request.</param>
/// <param name="Failures">Requests that failed unexpectedly: by a mistake of this server, or no reply could be sent.</param>
/// <param name="Pending">Requests that wait for the end of a change now.</param>
/// <param name="Faults">Reads and writes that met unreadable memory.</param>
/// <param name="MissingDevice">Reads and writes that met a device this host does not have.</param>
/// <param name="ReadBytes">Bytes given to readers.</param>
/// <param name="WrittenBytes">Bytes taken from writers.</param>
/// <param name="Forgotten">Lookups given back.</param>
/// <param name="Fmaps">Maps given to the kernel.</param>
/// <param name="RefusedFmaps">Maps found bad, at OPEN or GET_FMAP.</param>
/// <param name="InexpressibleFmaps">Maps that this dialect cannot express.</param>
/// <param name="ForeignFmaps">Requests for maps in the form of another dialect.</param>
public readonly record struct FuseMountStatistics(
    long Requests,
    long Errors,
    long Forbidden,
    long Rejected,
    long Failures,
    long Pending,
    long Faults,
    long MissingDevice,
    long ReadBytes,
    long WrittenBytes,
    long Forgotten,
    long Fmaps,
    long RefusedFmaps,
    long InexpressibleFmaps,
    long ForeignFmaps);

/// <summary>
/// The talk with one kernel: agrees on a dialect, then serves until the connection ends or <see cref="Dispose"/>. Knows
/// nothing of mounting, so that a test can be the kernel.
/// <para>Threads: <c>fuse-N</c>, each with a transport of its own, and <c>fuse-notify</c>.</para>
/// </summary>
public sealed class FuseSession : IDisposable
{
    private readonly IFuseConnection _connection;
    private readonly FuseOperations _operations;
    private readonly List<Server> _servers = [];
    private readonly TaskCompletionSource _completion = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private int _running;
    private volatile bool _stopping;
    private volatile bool _leaving;

    private FuseSession(FuseMountOptions options, IFuseConnection connection, Negotiated negotiated, OperationDependencies dependencies)
    {
        _connection = connection;
        Negotiated = negotiated;
        KernelPresence presence = Presence = new();
        _operations = new FuseOperations(dependencies, presence, options.Cache, negotiated);
        Notifier = new KernelNotifier(connection.First, presence, dependencies.Tree, negotiated, options.NotificationLimitBytes);
    }

    private sealed class Server(RequestReader requests, FuseWorker worker, TreeReader reader)
    {
        public RequestReader Requests => requests;

        public FuseWorker Worker => worker;

        public TreeReader Reader => reader;

        public required Thread Thread { get; init; }

        private readonly Lock _interrupting = new(); // guards the block below
        private ThreadInterrupt? _interrupt; // of the thread, from before its first read until it ends

        /// <summary>The thread has begun, or ends.</summary>
        public void SetInterrupt(ThreadInterrupt? interrupt)
        {
            lock (_interrupting)
                _interrupt = interrupt;
        }

        /// <summary>Gets the thread out of its read, if it is in one. No signal is sent to a thread that has ended.</summary>
        public void Interrupt()
        {
            lock (_interrupting)
                _interrupt?.Send();
        }
    }

    /// <summary>What was agreed on with the kernel.</summary>
    public Negotiated Negotiated { get; }

    /// <summary>What the kernel may have.</summary>
    public KernelPresence Presence { get; }

    /// <summary>Files of which the kernel may have the content.</summary>
    public KernelPresence Mapped => _operations.Mapped;

    /// <summary>Where replay says what it has changed.</summary>
    public KernelNotifier Notifier { get; }

    /// <summary>Ends when the last worker has. Fails with the reason when the connection broke.</summary>
    public Task Completion => _completion.Task;

    /// <summary>The last map that was not given to the kernel.</summary>
    public RefusedFmap? LastRefusedFmap => _operations.LastRefusedFmap;

    /// <summary>Devices that this host lacks and requests needed.</summary>
    public MissedDevices MissedDevices => _operations.MissedDevices;

    /// <summary>What the workers have done.</summary>
    public FuseMountStatistics Statistics
    {
        get
        {
            PendingReplies pending = _operations.Pending;
            var sum = default(FuseMountStatistics) with { Errors = pending.Errors, Failures = pending.Failures, Pending = pending.Count };
            foreach (Server server in _servers)
            {
                WorkerCounters c = server.Worker.Counters;
                sum = new FuseMountStatistics(
                    sum.Requests + Volatile.Read(ref c.Requests),
                    sum.Errors + Volatile.Read(ref c.Errors),
                    sum.Forbidden + Volatile.Read(ref c.Forbidden),
                    sum.Rejected + Volatile.Read(ref c.Rejected),
                    sum.Failures + Volatile.Read(ref c.Failures),
                    sum.Pending,
                    sum.Faults + Volatile.Read(ref c.Faults),
                    sum.MissingDevice + Volatile.Read(ref c.MissingDevice),
                    sum.ReadBytes + Volatile.Read(ref c.ReadBytes),
                    sum.WrittenBytes + Volatile.Read(ref c.WrittenBytes),
                    sum.Forgotten + Volatile.Read(ref c.Forgotten),
                    sum.Fmaps + Volatile.Read(ref c.Fmaps),
                    sum.RefusedFmaps + Volatile.Read(ref c.RefusedFmaps),
                    sum.InexpressibleFmaps + Volatile.Read(ref c.InexpressibleFmaps),
                    sum.ForeignFmaps + Volatile.Read(ref c.ForeignFmaps));
            }
            return sum;
        }
    }

    /// <summary>The last of <see cref="FuseMountStatistics.Failures"/>, for the log of the daemon; null while there is none.</summary>
    public Exception? LastFailure => _operations.Failures.Last;

    /// <summary>
    /// Agrees with the kernel, gives it devices if it wants them pushed, and starts serving. Owns
    /// <paramref name="connection"/> once it returns; when it throws, the caller still does.
    /// <para>Errors: <see cref="IOException"/> when the connection fails, <see cref="NotSupportedException"/> when the
    /// kernel is too old or does not speak the dialect that was asked for, <see cref="FamfsException"/> when it does not
    /// take a device.</para>
    /// </summary>
    public static FuseSession Start(FuseMountOptions options, IFuseConnection connection, OperationDependencies dependencies)
    {
        Negotiated negotiated = AnswerInit(connection.First, options);
        negotiated = PushDevices(negotiated, options.Dialect, connection.Push, dependencies.KernelDevices);
        FuseSession session = Create(options, connection, negotiated, dependencies);
        session.Serve();
        return session;
    }

    /// <summary>
    /// Goes on with a kernel that another daemon served, as <paramref name="negotiated"/> was agreed on then. Nothing is served
    /// before <see cref="ServeResent"/>; <see cref="Notifier"/> may be used at once, and may wait for that. Owns
    /// <paramref name="connection"/> once it returns. Throws <see cref="IOException"/> when the connection is over.
    /// </summary>
    public static FuseSession Resume(FuseMountOptions options, IFuseConnection connection, Negotiated negotiated, OperationDependencies dependencies)
    {
        if (negotiated.Dialect.PushesDevices && connection.Push is { } push)
            dependencies.KernelDevices.ContinuePushing(push, negotiated.Dialect.Fmaps!.MaxDevices);
        FuseSession session = Create(options, connection, negotiated, dependencies);
        session.Presence.MarkAll();
        session.Mapped.MarkAll();
        return session;
    }

    /// <summary>After <see cref="Resume"/>: has the kernel send again what the former daemon had read and not answered, and begins to
    /// serve. Throws <see cref="IOException"/> when the kernel refuses.</summary>
    public void ServeResent()
    {
        // Before anything is read here, which must not be sent again.
        if (Negotiated.Resends)
        {
            Span<byte> message = stackalloc byte[Notification.MaxBytes];
            int result = _connection.First.Write(message[..Notification.Resend(message)], default);
            if (result < 0)
                throw new IOException($"asking the kernel to send its requests again: {(Errno)(-result)}", -result);
        }
        Serve();
    }

    /// <summary>Ends serving and leaves the connection to another daemon: what was read is answered, but for changes that the master
    /// has not answered within <paramref name="patience"/>; these are sent again to the other. <paramref name="leaving"/>: called when no more of
    /// them is to be answered.</summary>
    public void Leave(TimeSpan patience, Action leaving)
    {
        // The notifier may wait in the kernel for a directory's lock that a request holds.
        Notifier.Dispose();
        _leaving = true;
        _stopping = true;
        Quiesce();
        _ = SpinWait.SpinUntil(() => _operations.Pending.Count == 0, patience);
        leaving();
        ReleaseReaders();
        _connection.Dispose();
        _completion.TrySetResult();
    }

    private static FuseSession Create(FuseMountOptions options, IFuseConnection connection, Negotiated negotiated, OperationDependencies dependencies)
    {
        int workers = options.RequireWorkerCount();
        var session = new FuseSession(options, connection, negotiated, dependencies);
        try
        {
            for (int i = 0; i < workers; i++)
                session.AddServer(connection.AddTransport(), dependencies.Tree, i);
            return session;
        }
        catch
        {
            session.Notifier.Dispose();
            session.ReleaseReaders();
            throw;
        }
    }

    private void Serve()
    {
        _running = _servers.Count;
        foreach (Server server in _servers)
            server.Thread.Start(server);
    }

    /// <summary>Ends serving and the connection. Whoever holds the mount has detached it before, or the kernel waits for
    /// answers that do not come.</summary>
    public void Dispose()
    {
        // In this order: the notifier may be inside the kernel, waiting for a directory's lock that a request
        // holds, and only an answer lets it go on: that of a pending one, or of a worker that still serves.
        _operations.Pending.End();
        Notifier.Dispose();
        _stopping = true;
        Quiesce();
        ReleaseReaders();
        _connection.Dispose();
        _completion.TrySetResult();
    }

    // Reads and answers the first request, which is INIT. A kernel with a higher major version asks again when it
    // has seen ours.
    private static Negotiated AnswerInit(IFuseTransport transport, FuseMountOptions options)
    {
        using var reader = new RequestReader(transport, FuseOperations.StockRequests, maxWriteBytes: 0);
        var reply = new ReplyBuffer();
        Span<byte> padded = stackalloc byte[Unsafe.SizeOf<InitIn>()]; // older kernels send less
        while (true)
        {
            switch (reader.Read(out FuseRequest request, out ParseVerdict verdict))
            {
                case ReadOutcome.Again:
                    continue;
                case ReadOutcome.Message when verdict == ParseVerdict.Ok && request.Header.Opcode == (uint)FuseOpcode.FUSE_INIT:
                    padded.Clear();
                    request.Body[..Math.Min(request.Body.Length, padded.Length)].CopyTo(padded);
                    InitIn offer = System.Runtime.InteropServices.MemoryMarshal.Read<InitIn>(padded);
                    if (offer.Major > FuseConstants.FUSE_KERNEL_VERSION)
                    {
                        var ours = new InitOut { Major = FuseConstants.FUSE_KERNEL_VERSION, Minor = FuseConstants.FUSE_KERNEL_MINOR_VERSION };
                        _ = transport.Write(reply.Frame(request.Header.Unique, reply.Ok(ours), out _), default); // an error shows at the next read
                        continue;
                    }
                    if (!InitNegotiation.TryNegotiate(offer, options.RequireMaxPages(), options.Dialect, out InitOut answer, out Negotiated? negotiated, out string? cause))
                    {
                        _ = transport.Write(reply.Frame(request.Header.Unique, Errno.EPROTO, out _), default); // giving up anyway
                        throw new NotSupportedException(cause);
                    }
                    int written = transport.Write(reply.Frame(request.Header.Unique, reply.Ok(answer), out _), default);
                    return written >= 0 ? negotiated : throw new IOException($"reply to INIT: {(Errno)(-written)}", -written);
                case ReadOutcome.Ended:
                    throw new IOException("the connection ended before INIT", (int)Errno.ENODEV);
                default:
                    throw new IOException($"expected INIT from the kernel: {reader.LastError}", (int)Errno.EPROTO);
            }
        }
    }

    // Before any worker runs, so before any map can name a device. Answering INIT has made the kernel ready for the
    // ioctl: it handles that reply inside our write.
    private static Negotiated PushDevices(Negotiated negotiated, DialectWish wish, IDevicePush? push, KernelDevices devices)
    {
        Errno? first = null;
        if (negotiated.Dialect == DialectTable.B && wish.Forced is null && push is not null && devices.TryPushFirst(push, out Errno errno))
        {
            _ = DialectTable.ResolveFromPush(errno, out Dialect resolved);
            negotiated = negotiated with { Dialect = resolved };
            first = errno;
        }
        if (!negotiated.Dialect.PushesDevices)
            return negotiated;
        if (push is null)
            throw new NotSupportedException($"dialect {negotiated.Dialect.Name} needs the number of the ioctl that pushes a device (--push-ioctl)");
        IReadOnlyList<FamfsException> leftOut = devices.StartPushing(push, negotiated.Dialect.Fmaps!.MaxDevices, first);
        return negotiated with { DevicesLeftOut = leftOut };
    }

    private void AddServer(IFuseTransport transport, InodeTree tree, int number)
    {
        TreeReader reader = tree.RegisterReader();
        var requests = new RequestReader(transport, _operations.Requests, Negotiated.MaxWriteBytes);
        // A daemon that is killed while it reads into a page that is not there yet costs the request an answer.
        if (Negotiated.Resends)
            requests.Buffer.Bytes.Clear();
        var replies = new ReplyWriter(transport);
        var worker = new FuseWorker(requests, _operations, replies, new WorkerState(reader, new ReplyBuffer(), requests.Buffer, replies, _operations.Failures));
        _servers.Add(new Server(requests, worker, reader)
        {
            Thread = new Thread(Work) { IsBackground = true, Name = string.Create(CultureInfo.InvariantCulture, $"fuse-{number}") },
        });
    }

    private void Work(object? argument)
    {
        var server = (Server)argument!;
        Exception? failure = null;
        try
        {
            server.SetInterrupt(ThreadInterrupt.ForCurrentThread());
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
        server.SetInterrupt(null);
        if (failure is not null)
            _completion.TrySetException(failure);
        // What waits when a daemon leaves has its answer from the next one.
        if (Interlocked.Decrement(ref _running) != 0 || _leaving)
            return;
        _operations.Pending.End(); // nobody reads an INTERRUPT any more, and most likely nobody waits
        _completion.TrySetResult();
    }

    // Gets every worker out of its read. Signals are repeated because one that comes just before the read is lost.
    private void Quiesce()
    {
        foreach (Server server in _servers.Where(s => !s.Thread.ThreadState.HasFlag(ThreadState.Unstarted)))
        {
            while (!server.Thread.Join(millisecondsTimeout: 5))
                server.Interrupt();
        }
    }

    private void ReleaseReaders()
    {
        foreach (Server server in _servers)
        {
            server.Reader.Dispose();
            server.Requests.Dispose();
        }
        _operations.Pending.Close();
    }
}
