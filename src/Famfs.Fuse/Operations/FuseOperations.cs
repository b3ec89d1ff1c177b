using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Namespace;
using Famfs.Fuse.Dialects;
using Famfs.Fuse.Protocol;

namespace Famfs.Fuse.Operations;

/// <summary>What belongs to one worker's thread: its view of the tree, its reply, its counters.</summary>
/// <param name="reader">Pins what the worker reads from the tree.</param>
/// <param name="reply">Where the reply is built.</param>
/// <param name="requests">Where its requests are read to.</param>
/// <param name="sink">Where the replies go that it does not send itself.</param>
/// <param name="failures">Where its failures are kept, with those of all others.</param>
public sealed class WorkerState(TreeReader reader, ReplyBuffer reply, StagingBuffer requests, IReplySink sink, FailureSlot failures)
{
    internal TreeReader Reader => reader;

    internal ReplyBuffer Reply => reply;

    internal StagingBuffer Requests => requests;

    internal IReplySink Sink => sink;

    /// <summary>What the worker has done.</summary>
    public WorkerCounters Counters { get; } = new();

    /// <summary>A request failed for a reason that is this server's, or nobody's that is known.</summary>
    internal void Fail(Exception failure)
    {
        Counters.Failures++;
        failures.Set(failure);
    }
}

/// <summary>The last failure of a session, whichever thread met it. Any thread.</summary>
public sealed class FailureSlot
{
    private volatile Exception? _last;

    /// <summary>Null while there is none.</summary>
    public Exception? Last => _last;

    internal void Set(Exception failure) => _last = failure;
}

/// <summary>
/// Answers requests from the tree and the devices: no I/O on the FUSE side, no clock, no waiting. Shared by all
/// workers; everything mutable is in <see cref="WorkerState"/>, <see cref="KernelPresence"/>,
/// <see cref="DirectoryHandles"/> and <see cref="PendingReplies"/>. Nothing here allocates per request, but for those
/// that wait for the master.
/// <para>A node id is an inode number, which is never reused, so the server counts no lookups and FORGET is
/// only counted. A node that is gone answers ESTALE, which makes the kernel look the path up again.</para>
/// </summary>
public sealed partial class FuseOperations
{
    private readonly InodeTree _tree;
    private readonly IDeviceResolver _devices;
    private readonly IOpenGate _gate;
    private readonly ICapacity _capacity;
    private readonly IMountDescription _description;
    private readonly KernelPresence _presence;
    private readonly CachePolicy _cache;
    private readonly uint _fileOpenFlags;
    private readonly uint _directoryOpenFlags;
    private readonly int _maxReadBytes;
    private readonly Dialect _dialect;
    private readonly KernelDevices _kernelDevices;
    private readonly Func<bool> _mayWrite;
    private readonly Func<bool> _isRevoked;
    private readonly HiddenDirectory[] _hidden;
    private readonly IMutations _mutations;
    private readonly IWrittenFiles? _written;
    private readonly ReusedSpace? _reused;
    private readonly IOpenDelay? _openDelay;
    private readonly FlushDoor? _flushDoor;
    private readonly DirectoryHandles _directories;
    private volatile RefusedFmap? _lastRefused;

    /// <summary>Makes the operations of one mount.</summary>
    public FuseOperations(OperationDependencies dependencies, KernelPresence presence, CachePolicy cache, Negotiated negotiated)
    {
        _tree = dependencies.Tree;
        _devices = dependencies.Devices;
        _gate = dependencies.Gate;
        _capacity = dependencies.Capacity;
        _description = dependencies.Description;
        _presence = presence;
        _cache = cache;
        _dialect = negotiated.Dialect;
        _kernelDevices = dependencies.KernelDevices;
        _mayWrite = dependencies.MayWrite;
        _isRevoked = dependencies.IsRevoked;
        _hidden = HiddenOf(dependencies);
        _maxReadBytes = negotiated.MaxPages * InitNegotiation.PageBytes;
        _fileOpenFlags = negotiated.Dialect.OpenFlags ?? (cache.Mode == CacheMode.Direct
            ? FuseConstants.FOPEN_DIRECT_IO | FuseConstants.FOPEN_PARALLEL_DIRECT_WRITES
            : 0);
        _directoryOpenFlags = cache.CacheListings ? FuseConstants.FOPEN_CACHE_DIR | FuseConstants.FOPEN_KEEP_CACHE : 0;
        _directories = new(dependencies.Generation);
        _mutations = dependencies.Mutations;
        _reused = dependencies.Reused;
        _openDelay = dependencies.OpenDelay;
        _flushDoor = dependencies.FlushDoor;
        _written = negotiated.Dialect.Fmaps is null ? dependencies.Written : null;
        Requests = RequestsOf(negotiated.Dialect);
        Pending = new PendingReplies(_tree, WritePendingBody, Failures);
        _presence.Mark(InodeNumber.Root);
        Mapped = negotiated.Dialect.Fmaps is null ? presence : new();
    }

    /// <summary>Files of which the kernel may have the content: on a famfs kernel those whose map it was given.</summary>
    public KernelPresence Mapped { get; }

    /// <summary>The last request that failed by a mistake of this server, or whose reply could not be sent.</summary>
    public FailureSlot Failures { get; } = new();

    /// <summary>Devices that this host lacks and requests needed.</summary>
    public MissedDevices MissedDevices { get; } = new();

    /// <summary>What this mount's kernel may ask, and who answers.</summary>
    public OpcodeTable Requests { get; }

    /// <summary>The requests that are answered later than they were read.</summary>
    public PendingReplies Pending { get; }

    /// <summary>Answers one request that <see cref="FuseRequest.Parse"/> accepted. Errors of the memory are replies;
    /// anything else thrown is a mistake of this server, which its caller answers with EIO.</summary>
    public FuseReply Handle(in FuseRequest request, WorkerState worker) => ((RequestRow)request.Row!).Handler(this, request, worker);

    private static HiddenDirectory[] HiddenOf(OperationDependencies dependencies)
    {
        if (dependencies.Meta is null)
            return [];
        MetaDirectory meta = new(dependencies.Meta);
        return [meta, new WindowDirectory(meta, dependencies.Windows)];
    }

    private FuseReply Interrupt(in FuseRequest request)
    {
        Pending.Interrupt(request.Fixed<InterruptIn>().Unique);
        return FuseReply.None;
    }

    private static FuseReply Forget(in FuseRequest request, WorkerState worker)
    {
        worker.Counters.Forgotten += (long)request.Fixed<ForgetIn>().LookupCount;
        return FuseReply.None;
    }

    private static FuseReply BatchForget(in FuseRequest request, WorkerState worker)
    {
        uint count = request.Fixed<BatchForgetIn>().Count;
        ReadOnlySpan<ForgetOne> list = System.Runtime.InteropServices.MemoryMarshal.Cast<byte, ForgetOne>(request.Payload);
        for (int i = 0; i < list.Length && i < count; i++)
            worker.Counters.Forgotten += (long)list[i].LookupCount;
        return FuseReply.None;
    }
}
