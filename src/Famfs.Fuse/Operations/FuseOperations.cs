using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Namespace;
using Famfs.Fuse.Dialects;
using Famfs.Fuse.Protocol;

namespace Famfs.Fuse.Operations;

/// <summary>What belongs to one worker's thread: its view of the tree, its reply, its counters.</summary>
/// <param name="Reader">Pins what the worker reads from the tree.</param>
/// <param name="Reply">Where the reply is built.</param>
/// <param name="Counters">What the worker has done.</param>
/// <param name="Requests">Where its requests are read to.</param>
public sealed record WorkerState(TreeReader Reader, ReplyBuffer Reply, WorkerCounters Counters, StagingBuffer Requests);

/// <summary>
/// Answers requests from the tree and the devices: no I/O on the FUSE side, no clock, no waiting. Shared by all
/// workers; everything mutable is in <see cref="WorkerState"/>, <see cref="KernelPresence"/> and
/// <see cref="DirectoryHandles"/>. Nothing here allocates per request.
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
    private readonly MetaFiles? _meta;
    private readonly WindowTable _windows;
    private readonly DirectoryHandles _directories = new();
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
        _meta = dependencies.Meta;
        _windows = dependencies.Windows;
        _maxReadBytes = negotiated.MaxPages * InitNegotiation.PageBytes;
        _fileOpenFlags = negotiated.Dialect.OpenFlags ?? (cache.Mode == CacheMode.Direct
            ? FuseConstants.FOPEN_DIRECT_IO | FuseConstants.FOPEN_PARALLEL_DIRECT_WRITES
            : 0);
        _directoryOpenFlags = cache.CacheListings ? FuseConstants.FOPEN_CACHE_DIR | FuseConstants.FOPEN_KEEP_CACHE : 0;
        _presence.Mark(InodeNumber.Root);
    }

    /// <summary>Answers one request that <see cref="FuseRequest.Parse"/> accepted. Errors of the memory are replies;
    /// anything else thrown is a mistake of this server, which its caller answers with EIO.</summary>
    public FuseReply Handle(in FuseRequest request, WorkerState worker)
    {
        OpcodeRow row = request.Row!;
        switch (row.Operation)
        {
            case Operation.Lookup: return Lookup(request, worker);
            case Operation.GetAttributes: return GetAttributes(request, worker);
            case Operation.Read: return Read(request, worker);
            case Operation.Write: return Write(request, worker);
            case Operation.Open: return Open(request, worker);
            case Operation.Release: return worker.Reply.Ok();
            case Operation.ReadDirectory: return ReadDirectory(request, worker, plus: false);
            case Operation.ReadDirectoryPlus: return ReadDirectory(request, worker, plus: true);
            case Operation.OpenDirectory: return OpenDirectory(request, worker);
            case Operation.ReleaseDirectory: return ReleaseDirectory(request, worker);
            case Operation.Statx: return Statx(request, worker);
            case Operation.SetAttributes: return SetAttributes(request, worker);
            case Operation.Access: return Access(request, worker);
            case Operation.ReadLink: return ReadLink(request, worker);
            case Operation.StatFileSystem: return StatFileSystem(worker);
            case Operation.GetExtendedAttribute: return GetExtendedAttribute(request, worker);
            case Operation.ListExtendedAttributes: return ListExtendedAttributes(request, worker);
            case Operation.Fallocate: return Fallocate(request, worker);
            case Operation.GetFmap: return GetFmap(request, worker);
            case Operation.GetDaxDevice: return GetDaxDevice(request, worker);

            // Data is in the memory, and on a non-coherent device written back and fenced, before its WRITE is
            // answered; dirty pages of a mapping come as WRITE before these requests are sent. So there is
            // nothing to do for any of them, and ENOSYS makes the kernel succeed without asking again.
            case Operation.Flush:
            case Operation.Fsync:
            case Operation.FsyncDirectory:
                return Errno.ENOSYS;

            case Operation.Forget:
                worker.Counters.Forgotten += (long)request.Fixed<ForgetIn>().LookupCount;
                return FuseReply.None;
            case Operation.BatchForget: return BatchForget(request, worker);

            // Nothing here waits, so the request to be interrupted is answered or about to be.
            case Operation.Interrupt:
            case Operation.NotifyReply:
                return FuseReply.None;

            case Operation.Destroy: return worker.Reply.Ok();

            // The session answers the first INIT; there is no second.
            case Operation.Init: return Errno.EPROTO;

            default: return row.Refusal == Errno.None ? Errno.ENOSYS : row.Refusal;
        }
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
