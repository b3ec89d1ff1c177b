using System.Runtime.CompilerServices;
using Famfs.Core;
using Famfs.Core.Format;
using Famfs.V1;
using Google.Protobuf;
using Grpc.Core;
using Grpc.Health.V1;
using Polly;
using Polly.Retry;

namespace Famfs.Client;

/// <summary>
/// A file system's master, wherever it runs at the moment. Thread safe; one client serves a whole program.
/// <para>Requests and replies are the messages of famfs.v1. Every mutation without a request id gets one
/// (UUIDv7), which stays the same while the call is repeated; the caller's message is not changed. Only an id that
/// the first attempt was refused for, because it is ahead of the master's clock, is replaced. A call that
/// meets no master, or one that is not the master any more, is repeated with growing pauses, at the address
/// that was named, until its time-out (30 s unless said otherwise) is over.</para>
/// <para>Errors are <see cref="FamfsException"/>: the master's reason; NOT_MASTER when none was reached in
/// time; TIMEOUT when the master did not answer in time. A caller's cancellation is an
/// <see cref="OperationCanceledException"/>.</para>
/// </summary>
public sealed class FamfsClient : IDisposable
{
    // Chosen: a master frees what nobody has in tens of milliseconds.
    private static readonly TimeSpan s_spacePause = TimeSpan.FromMilliseconds(50);

    private readonly FamfsClientOptions _options;
    private readonly MasterConnections _connections;
    private readonly CallRetries _retries;

    // Master's clock less ours, milliseconds; 0 until a master has refused an id. Any thread.
    private long _aheadMs;

    /// <summary>Makes a client; connections are made when calls need them. Throws BAD_REQUEST for an address
    /// that is none.</summary>
    public FamfsClient(FamfsClientOptions options)
    {
        _options = options;
        _connections = new(options);
        _retries = new(options, _connections);
    }

    /// <summary>A client of the master at one of <paramref name="addresses"/>.</summary>
    public FamfsClient(params string[] addresses)
        : this(new FamfsClientOptions { Addresses = addresses })
    {
    }

    /// <summary>Where the next call goes.</summary>
    public string CurrentAddress => _connections.Current.Address;

    internal FamfsClientOptions Options => _options;

    internal MasterConnections Connections => _connections;

    internal CallRetries Retries => _retries;

    /// <summary>True for a text that is an address of a master, as <see cref="FamfsClientOptions.Addresses"/> has them.</summary>
    public static bool IsAddress(string address) => MasterConnections.IsAddress(address);

    /// <summary>A request id as the master wants it.</summary>
    public static ByteString NewRequestId(TimeProvider clock) => Guid.CreateVersion7(clock.GetUtcNow()).ToByteString();

    /// <summary>A request id by the clock of the master, as far as this client knows how far that is from its own.</summary>
    public ByteString NewRequestId() => NewId();

    /// <summary>The whole detail behind an error that a master gave (who lags behind a wait, say); null when
    /// the error is of another origin.</summary>
    public static ErrorDetail? DetailOf(FamfsException error)
    {
        for (Exception? e = error; e is not null; e = e.InnerException)
        {
            if (e is RpcException rpc)
                return RpcErrors.DetailOf(rpc);
        }
        return null;
    }

    /// <summary>Creates a file.</summary>
    public Task<CreateFileReply> CreateFileAsync(CreateFileRequest request, TimeSpan? timeout = null, CancellationToken cancel = default) =>
        ChangeAsync(static (m, r, o) => m.CreateFileAsync(r, o), static (r, id) => new(r) { RequestId = id }, request.RequestId, request, timeout, cancel, Waits(request.Wait) ? static (r, ms) => r.Wait.TimeoutMs = ms : null);

    /// <summary>The same. While the only space for it is still pending, of files that were removed, it is asked again until
    /// <paramref name="timeout"/> is over; then NO_SPACE names whom the space waits for.</summary>
    public async Task<CreateFileReply> CreateFileWaitingForSpaceAsync(CreateFileRequest request, TimeSpan? timeout = null, CancellationToken cancel = default)
    {
        TimeSpan limit = timeout ?? _options.Timeout;
        long start = _options.Clock.GetTimestamp();
        TimeSpan Left() => limit - _options.Clock.GetElapsedTime(start);
        TimeSpan longest = limit / 10 < _options.MaxRetryDelay ? limit / 10 : _options.MaxRetryDelay;
        ResiliencePipeline<CreateFileReply> pipeline = new ResiliencePipelineBuilder<CreateFileReply> { TimeProvider = _options.Clock }
            .AddRetry(new RetryStrategyOptions<CreateFileReply>
            {
                MaxRetryAttempts = int.MaxValue,
                Delay = s_spacePause,
                MaxDelay = longest,
                BackoffType = DelayBackoffType.Exponential,
                UseJitter = true,
                Randomizer = _options.Jitter,
                // A call that has no time left would hide why.
                ShouldHandle = args => ValueTask.FromResult(args.Outcome.Exception is FamfsException { Reason: ErrorReason.NoSpace, PendingBytes: > 0 } && Left() > 2 * longest),
            })
            .Build();
        return await pipeline.ExecuteAsync(async token => await CreateFileAsync(request, Left(), token).ConfigureAwait(false), cancel).ConfigureAwait(false);
    }

    /// <summary>Creates many files over one stream; results come in the order of the files, one bad request
    /// does not end it. A stream that breaks is made anew and what was not answered is sent again under the
    /// same ids. <see cref="CreateFilesOptions.StallTimeout"/> bounds the time without any answer.</summary>
    public IAsyncEnumerable<CreateFileResult> CreateFilesAsync(IAsyncEnumerable<CreateFileRequest> files, CreateFilesOptions? options = null, CancellationToken cancel = default) =>
        new FileCreationStream(this, files, options ?? new()).RunAsync(cancel);

    /// <inheritdoc cref="CreateFilesAsync(IAsyncEnumerable{CreateFileRequest}, CreateFilesOptions?, CancellationToken)"/>
    public IAsyncEnumerable<CreateFileResult> CreateFilesAsync(IEnumerable<CreateFileRequest> files, CreateFilesOptions? options = null, CancellationToken cancel = default) =>
        CreateFilesAsync(files.ToAsyncEnumerable(), options, cancel);

    /// <summary>As <see cref="CreateFilesAsync(IEnumerable{CreateFileRequest}, CreateFilesOptions?, CancellationToken)"/>, for a group that
    /// fits into memory. When all are answered, each file whose only space is still pending is asked for alone, in order, as
    /// <see cref="CreateFileWaitingForSpaceAsync"/> does for up to <paramref name="timeout"/>. After one that has waited in vain the others
    /// are not waited for. Results come in the order of the files.</summary>
    public async IAsyncEnumerable<CreateFileResult> CreateFilesWaitingForSpaceAsync(IReadOnlyList<CreateFileRequest> files, CreateFilesOptions? options = null, TimeSpan? timeout = null, [EnumeratorCancellation] CancellationToken cancel = default)
    {
        List<CreateFileResult> results = [];
        await foreach (CreateFileResult result in CreateFilesAsync(files, options, cancel).ConfigureAwait(false))
            results.Add(result);
        bool waits = true;
        for (int i = 0; i < results.Count; i++)
        {
            CreateFileResult result = results[i];
            if (waits && result is { ResultCase: CreateFileResult.ResultOneofCase.Error, Error: { Reason: ErrorReason.NoSpace, PendingBytes: > 0 } })
            {
                try
                {
                    result = new() { Reply = await CreateFileWaitingForSpaceAsync(files[i], timeout, cancel).ConfigureAwait(false) };
                }
                catch (FamfsException error)
                {
                    waits = false;
                    result = new() { Error = new() { Reason = error.Reason, Message = error.Message, Path = error.Path, Limit = error.Limit, PendingBytes = error.PendingBytes } };
                }
            }
            yield return result;
        }
    }

    /// <summary>Whether the master serves, as it says by grpc.health.v1. False: it is there and its engine does not answer, or it is
    /// ending. Errors: as any call.</summary>
    public Task<bool> IsServingAsync(TimeSpan? timeout = null, CancellationToken cancel = default) =>
        _retries.RunAsync(
            static async (endpoint, _, options) =>
            {
                using AsyncUnaryCall<HealthCheckResponse> running = endpoint.Health.CheckAsync(new() { Service = Master.Descriptor.FullName }, options);
                return (await running.ResponseAsync.ConfigureAwait(false)).Status == HealthCheckResponse.Types.ServingStatus.Serving;
            },
            0, timeout, cancel);

    /// <summary>Gives a staged file its name.</summary>
    public Task<MutationReply> PublishFileAsync(PublishFileRequest request, TimeSpan? timeout = null, CancellationToken cancel = default) =>
        ChangeAsync(static (m, r, o) => m.PublishFileAsync(r, o), static (r, id) => new(r) { RequestId = id }, request.RequestId, request, timeout, cancel);

    /// <summary>Makes a directory.</summary>
    public Task<MakeDirectoryReply> MakeDirectoryAsync(MakeDirectoryRequest request, TimeSpan? timeout = null, CancellationToken cancel = default) =>
        ChangeAsync(static (m, r, o) => m.MakeDirectoryAsync(r, o), static (r, id) => new(r) { RequestId = id }, request.RequestId, request, timeout, cancel, Waits(request.Wait) ? static (r, ms) => r.Wait.TimeoutMs = ms : null);

    /// <summary>Makes a symbolic link.</summary>
    public Task<MakeSymlinkReply> MakeSymlinkAsync(MakeSymlinkRequest request, TimeSpan? timeout = null, CancellationToken cancel = default) =>
        ChangeAsync(static (m, r, o) => m.MakeSymlinkAsync(r, o), static (r, id) => new(r) { RequestId = id }, request.RequestId, request, timeout, cancel, Waits(request.Wait) ? static (r, ms) => r.Wait.TimeoutMs = ms : null);

    /// <summary>Removes a file, a symbolic link or an empty directory; recursive: a directory with all below it, at once. Who has a file
    /// open keeps it. Throws NOT_FOUND, NOT_EMPTY, NOT_PERMITTED; that with a limit where a directory has too much below it to find out in
    /// one go whether an ordinary user may remove it all, who then removes parts of it first.</summary>
    public Task<MutationReply> RemoveAsync(RemoveRequest request, TimeSpan? timeout = null, CancellationToken cancel = default) =>
        ChangeAsync(static (m, r, o) => m.RemoveAsync(r, o), static (r, id) => new(r) { RequestId = id }, request.RequestId, request, timeout, cancel, Waits(request.Wait) ? static (r, ms) => r.Wait.TimeoutMs = ms : null);

    /// <summary>Gives a file or directory another name, by the rules of rename(2); one that is taken only with
    /// <see cref="RenameRequest.Replace"/>. Throws NOT_FOUND, EXISTS, NOT_A_DIRECTORY, IS_A_DIRECTORY, NOT_EMPTY, NOT_PERMITTED, and
    /// BAD_PATH for a directory that would be below itself.</summary>
    public Task<MutationReply> RenameAsync(RenameRequest request, TimeSpan? timeout = null, CancellationToken cancel = default) =>
        ChangeAsync(static (m, r, o) => m.RenameAsync(r, o), static (r, id) => new(r) { RequestId = id }, request.RequestId, request, timeout, cancel, Waits(request.Wait) ? static (r, ms) => r.Wait.TimeoutMs = ms : null);

    /// <summary>Changes mode, owner, times or extended attributes.</summary>
    public Task<MutationReply> SetAttributesAsync(SetAttributesRequest request, TimeSpan? timeout = null, CancellationToken cancel = default) =>
        ChangeAsync(static (m, r, o) => m.SetAttributesAsync(r, o), static (r, id) => new(r) { RequestId = id }, request.RequestId, request, timeout, cancel, Waits(request.Wait) ? static (r, ms) => r.Wait.TimeoutMs = ms : null);

    /// <summary>Adds a device to the pool.</summary>
    public Task<AddDeviceReply> AddDeviceAsync(AddDeviceRequest request, TimeSpan? timeout = null, CancellationToken cancel = default) =>
        ChangeAsync(static (m, r, o) => m.AddDeviceAsync(r, o), static (r, id) => new(r) { RequestId = id }, request.RequestId, request, timeout, cancel);

    /// <summary>Lets a host run a master.</summary>
    public Task<GrantMasterSlotReply> GrantMasterSlotAsync(GrantMasterSlotRequest request, TimeSpan? timeout = null, CancellationToken cancel = default) =>
        ChangeAsync(static (m, r, o) => m.GrantMasterSlotAsync(r, o), static (r, id) => new(r) { RequestId = id }, request.RequestId, request, timeout, cancel);

    /// <summary>Changes a policy of the file system.</summary>
    public Task<SetPolicyReply> SetPolicyAsync(SetPolicyRequest request, TimeSpan? timeout = null, CancellationToken cancel = default) =>
        ChangeAsync(static (m, r, o) => m.SetPolicyAsync(r, o), static (r, id) => new(r) { RequestId = id }, request.RequestId, request, timeout, cancel);

    /// <summary>Writes a snapshot of the log into fresh segments.</summary>
    public Task<CompactReply> CompactAsync(CompactRequest request, TimeSpan? timeout = null, CancellationToken cancel = default) =>
        ChangeAsync(static (m, r, o) => m.CompactAsync(r, o), static (r, id) => new(r) { RequestId = id }, request.RequestId, request, timeout, cancel);

    /// <summary>Looks a file or directory up.</summary>
    public Task<GetFileReply> GetFileAsync(GetFileRequest request, TimeSpan? timeout = null, CancellationToken cancel = default) =>
        UnaryAsync(static (m, r, o) => m.GetFileAsync(r, o), request, timeout, cancel);

    /// <summary>Where a file's bytes are.</summary>
    public Task<GetMapReply> GetMapAsync(GetMapRequest request, TimeSpan? timeout = null, CancellationToken cancel = default) =>
        UnaryAsync(static (m, r, o) => m.GetMapAsync(r, o), request, timeout, cancel);

    /// <summary>The devices of the pool.</summary>
    public Task<ListDevicesReply> ListDevicesAsync(TimeSpan? timeout = null, CancellationToken cancel = default) =>
        UnaryAsync(static (m, r, o) => m.ListDevicesAsync(r, o), new ListDevicesRequest(), timeout, cancel);

    /// <summary>State of the file system and its master.</summary>
    public Task<GetStatusReply> GetStatusAsync(TimeSpan? timeout = null, CancellationToken cancel = default) =>
        UnaryAsync(static (m, r, o) => m.GetStatusAsync(r, o), new GetStatusRequest(), timeout, cancel);

    /// <summary>Throws WRONG_FILESYSTEM when the master is one of another file system.</summary>
    public async Task RequireFileSystemAsync(Guid fileSystem, TimeSpan? timeout = null, CancellationToken cancel = default)
    {
        GetStatusReply status = await GetStatusAsync(timeout, cancel).ConfigureAwait(false);
        Guid served = status.FileSystemUuid.ToGuid("file_system_uuid");
        if (served != fileSystem)
            throw new FamfsException(ErrorReason.WrongFilesystem, $"the master at {CurrentAddress} is one of file system {served}, not {fileSystem}");
    }

    /// <summary>State of every mount, in the order of their ids. Of many mounts several calls are made; each has the time-out.</summary>
    public Task<ListHostsReply> ListHostsAsync(TimeSpan? timeout = null, CancellationToken cancel = default) => ListHostsAsync(0, timeout, cancel);

    /// <summary>The same, with up to <paramref name="heldLimit"/> of the removed files that each mount has not released, at most 1024.</summary>
    public async Task<ListHostsReply> ListHostsAsync(int heldLimit, TimeSpan? timeout = null, CancellationToken cancel = default)
    {
        ListHostsRequest first = new() { HeldLimit = (uint)heldLimit };
        ListHostsReply all = await UnaryAsync(static (m, r, o) => m.ListHostsAsync(r, o), first, timeout, cancel).ConfigureAwait(false);
        bool more = all.More;
        while (more)
        {
            ListHostsRequest next = new() { AfterMountId = all.Hosts[^1].MountId, HeldLimit = first.HeldLimit };
            ListHostsReply part = await UnaryAsync(static (m, r, o) => m.ListHostsAsync(r, o), next, timeout, cancel).ConfigureAwait(false);
            all.Hosts.Add(part.Hosts);
            more = part.More && part.Hosts.Count > 0;
        }
        all.More = false;
        return all;
    }

    /// <summary>States that a mount or a host can touch the memory no more. Errors: NOT_FOUND, HOST_CONFLICT when it moves, NOT_PERMITTED.
    /// Takes seconds.</summary>
    public Task<EvictHostReply> EvictHostAsync(EvictHostRequest request, TimeSpan? timeout = null, CancellationToken cancel = default) =>
        UnaryAsync(static (m, r, o) => m.EvictHostAsync(r, o), request, timeout, cancel);

    /// <summary>Takes the block of the host table from a host of which nothing is left. Errors: NOT_FOUND, HOST_CONFLICT with what is left,
    /// NOT_PERMITTED.</summary>
    public Task<ForgetHostReply> ForgetHostAsync(ForgetHostRequest request, TimeSpan? timeout = null, CancellationToken cancel = default) =>
        ChangeAsync(static (m, r, o) => m.ForgetHostAsync(r, o), static (r, id) => new(r) { RequestId = id }, request.RequestId, request, timeout, cancel);

    /// <summary>Returns when the mounts have acknowledged a position. TIMEOUT when some have not in time;
    /// <see cref="DetailOf"/> then lists them.</summary>
    public Task<BarrierReply> BarrierAsync(BarrierRequest request, TimeSpan? timeout = null, CancellationToken cancel = default) =>
        ChangeAsync(
            static (m, r, o) => m.BarrierAsync(r, o), static (r, _) => new(r), ByteString.Empty, request, timeout, cancel, request.TimeoutMs == 0 ? static (r, ms) => r.TimeoutMs = ms : null);

    /// <summary>The entries of a directory as of one position; <see cref="V1.FileInfo.Path"/> is the component, or
    /// the path below the directory when recursive. The time-out bounds the whole listing.</summary>
    public async IAsyncEnumerable<V1.FileInfo> ListDirectoryAsync(ListDirectoryRequest request, TimeSpan? timeout = null, [EnumeratorCancellation] CancellationToken cancel = default)
    {
        await foreach (ListDirectoryReply reply in ServerStreamAsync(static (m, r, o) => m.ListDirectory(r, o), request, timeout, cancel).ConfigureAwait(false))
        {
            foreach (V1.FileInfo entry in reply.Entries)
                yield return entry;
        }
    }

    /// <summary>Checks the file system online: progress, then findings. The time-out bounds the whole check.</summary>
    public IAsyncEnumerable<CheckReply> CheckAsync(TimeSpan? timeout = null, CancellationToken cancel = default) =>
        ServerStreamAsync(static (m, r, o) => m.Check(r, o), new CheckRequest(), timeout, cancel);

    /// <inheritdoc/>
    public void Dispose() => _connections.Dispose();

    /// <summary>The request itself when it names an id, else a copy with a fresh one: a message that the caller
    /// uses twice is two requests.</summary>
    internal CreateFileRequest WithId(CreateFileRequest request) => request.RequestId.Length != 0 ? request : new(request) { RequestId = NewId() };

    private static bool Waits(Wait? wait) => wait is { Kind: not WaitKind.None, TimeoutMs: 0 };

    /// <summary>A master has refused an id for its time: ids are made by that master's clock from here on.</summary>
    internal void Learn(ulong masterTimeMs) =>
        Volatile.Write(ref _aheadMs, (long)masterTimeMs - _options.Clock.GetUtcNow().ToUnixTimeMilliseconds());

    private ByteString NewId() => Guid.CreateVersion7(_options.Clock.GetUtcNow().AddMilliseconds(Volatile.Read(ref _aheadMs))).ToByteString();

    /// <summary>A change. An id that was made here and sent nowhere before may be replaced when the master refuses it for its time.
    /// One that was sent and not answered may be in the log: replaced, the change would be made twice.</summary>
    private Task<TReply> ChangeAsync<TRequest, TReply>(
        Func<Master.MasterClient, TRequest, CallOptions, AsyncUnaryCall<TReply>> call, Func<TRequest, ByteString, TRequest> withId, ByteString id, TRequest request, TimeSpan? timeout, CancellationToken cancel, Action<TRequest, uint>? setWait = null)
    {
        // A caller's message is not changed.
        TRequest identified = id.IsEmpty ? withId(request, NewId()) : setWait is null ? request : withId(request, id);
        TimeSpan grace = setWait is null ? default : _options.WaitGrace;
        int sent = 0;
        return _retries.RunAsync(
            async (endpoint, _, options) =>
            {
                try
                {
                    setWait?.Invoke(identified, LeftForWait(options, grace));
                    using AsyncUnaryCall<TReply> running = call(endpoint.Master, identified, options);
                    return await running.ResponseAsync.ConfigureAwait(false);
                }
                catch (RpcException e) when (RpcErrors.DetailOf(e) is { MasterTimeMs: > 0 } detail)
                {
                    Learn(detail.MasterTimeMs);
                    if (sent > 0)
                        throw new FamfsException(ErrorReason.Unspecified, FileCreationStream.PerhapsMade + detail.Message, e);
                    if (!id.IsEmpty)
                        throw;
                    identified = withId(request, NewId());
                }
                finally
                {
                    sent++;
                }
                setWait?.Invoke(identified, LeftForWait(options, grace));
                using AsyncUnaryCall<TReply> second = call(endpoint.Master, identified, options);
                return await second.ResponseAsync.ConfigureAwait(false);
            },
            0, timeout, cancel, grace);
    }

    /// <summary>What a wait is given is what is left of the time; the call itself gets a little more, so that the answer of a wait that
    /// was in vain comes before its end.</summary>
    private uint LeftForWait(CallOptions options, TimeSpan grace) =>
        (uint)Math.Clamp((options.Deadline!.Value - _options.Clock.GetUtcNow().UtcDateTime - grace).TotalMilliseconds, 1, uint.MaxValue);

    private Task<TReply> UnaryAsync<TRequest, TReply>(Func<Master.MasterClient, TRequest, CallOptions, AsyncUnaryCall<TReply>> call, TRequest request, TimeSpan? timeout, CancellationToken cancel) =>
        _retries.RunAsync(
            static async (endpoint, s, options) =>
            {
                using AsyncUnaryCall<TReply> running = s.call(endpoint.Master, s.request, options);
                return await running.ResponseAsync.ConfigureAwait(false);
            },
            (call, request), timeout, cancel);

    /// <summary>Repeats until the first message is there; what breaks later is the caller's to see, who has
    /// consumed a part already.</summary>
    private async IAsyncEnumerable<TReply> ServerStreamAsync<TRequest, TReply>(Func<Master.MasterClient, TRequest, CallOptions, AsyncServerStreamingCall<TReply>> call, TRequest request, TimeSpan? timeout, [EnumeratorCancellation] CancellationToken cancel)
    {
        (AsyncServerStreamingCall<TReply> stream, bool more, string address) = await _retries.RunAsync(
            static async (endpoint, s, options) =>
            {
                AsyncServerStreamingCall<TReply> running = s.call(endpoint.Master, s.request, options);
                try
                {
                    bool first = await running.ResponseStream.MoveNext(options.CancellationToken).ConfigureAwait(false);
                    return (running, first, endpoint.Address);
                }
                catch
                {
                    running.Dispose();
                    throw;
                }
            },
            (call, request), timeout, cancel).ConfigureAwait(false);
        using (stream)
        {
            while (more)
            {
                yield return stream.ResponseStream.Current;
                try
                {
                    more = await stream.ResponseStream.MoveNext(cancel).ConfigureAwait(false);
                }
                catch (RpcException e)
                {
                    cancel.ThrowIfCancellationRequested();
                    throw RpcErrors.Judge(e, address).Error;
                }
            }
        }
    }
}
