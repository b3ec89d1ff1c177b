using System.Threading.Channels;
using Famfs.Core;
using Famfs.Core.Check;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Namespace;
using Famfs.Master.Changes;
using Famfs.Master.Engine;
using Famfs.Master.Holders;
using Famfs.Master.Queries;
using Famfs.Master.Role;
using Famfs.Master.State;
using Famfs.V1;
using Google.Protobuf;
using Grpc.Core;
using FileInfo = Famfs.V1.FileInfo;

namespace Famfs.Master.Rpc;

/// <summary>The gRPC face of the engine: takes requests apart, queues them, waits as they wish, and turns
/// errors into statuses. Holds no state of the file system.</summary>
internal sealed class MasterService(
    MasterRole role, MasterEngine engine, MasterState state, SubscriptionHub hub, MountRegistry mounts, DevicePlaces places, MasterInfo info, TimeProvider clock) : V1.Master.MasterBase
{
    private const int ListChunk = 256;
    private const int MaxBulkFiles = 65536;

    /// <summary>Bulk messages of one stream that may be decided ahead of the one that is answered.</summary>
    private const int BulkAhead = 8;

    private const string MadeNotSeen = "made, and not yet seen by: ";

    public override Task<CreateFileReply> CreateFile(CreateFileRequest request, ServerCallContext context) => GuardAsync(async () =>
    {
        RequireWait(request.Wait);
        CreateFileReply reply = await engine.RunAsync(new FileCreation(request), CallerIdentity.Of(context)).ConfigureAwait(false);
        reply.Waited = await WaitAsync(request.Wait, reply.Position, context).ConfigureAwait(false);
        return reply;
    });

    public override Task CreateFiles(IAsyncStreamReader<CreateFilesRequest> requestStream, IServerStreamWriter<CreateFilesReply> responseStream, ServerCallContext context) => GuardAsync(async () =>
    {
        // Results go back in the order of the requests while later ones are being decided.
        Channel<ChangeOperation<CreateFilesReply>> decided = Channel.CreateBounded<ChangeOperation<CreateFilesReply>>(BulkAhead);
        using CancellationTokenSource ending = CancellationTokenSource.CreateLinkedTokenSource(context.CancellationToken);
        Task answering = AnswerAsync(decided.Reader, responseStream, ending);
        try
        {
            await foreach (CreateFilesRequest request in requestStream.ReadAllAsync(ending.Token).ConfigureAwait(false))
            {
                if (request.Files.Count > MaxBulkFiles)
                    throw new FamfsException(ErrorReason.BadRequest, $"{request.Files.Count} files in one message, the limit is {MaxBulkFiles}") { Limit = MaxBulkFiles };
                ChangeOperation<CreateFilesReply> bulk = new(new FilesCreation(request), CallerIdentity.Of(context));
                engine.Enqueue(bulk);
                await decided.Writer.WriteAsync(bulk, ending.Token).ConfigureAwait(false);
            }
            decided.Writer.Complete();
        }
        catch (Exception error)
        {
            // What was decided before is still answered. Nothing writes to the call after this method has ended.
            decided.Writer.TryComplete();
            await answering.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            // An answer that failed ended the reading, too, and says why.
            if (answering.IsFaulted && error is OperationCanceledException)
                await answering.ConfigureAwait(false);
            throw;
        }
        await answering.ConfigureAwait(false);
        return true;
    });

    public override Task<MakeDirectoryReply> MakeDirectory(MakeDirectoryRequest request, ServerCallContext context) => GuardAsync(async () =>
    {
        RequireWait(request.Wait);
        MakeDirectoryReply reply = await engine.RunAsync(new DirectoryCreation(request), CallerIdentity.Of(context)).ConfigureAwait(false);
        reply.Waited = await WaitAsync(request.Wait, reply.Position, context).ConfigureAwait(false);
        return reply;
    });

    public override Task<GetFileReply> GetFile(GetFileRequest request, ServerCallContext context) => GuardAsync(() => engine.QueryAsync(CallerIdentity.Of(context), reader =>
    {
        InodeAttributes found = FileQueries.Find(reader, PathOrNull(request.WhichCase == GetFileRequest.WhichOneofCase.Inode, request.Path), request.Inode);
        return new GetFileReply { File = FileQueries.Describe(reader, found, request.Path, true), Position = reader.Position.ToMessage() };
    }));

    public override Task<GetMapReply> GetMap(GetMapRequest request, ServerCallContext context) => GuardAsync(() => engine.QueryAsync(CallerIdentity.Of(context), reader =>
    {
        InodeAttributes found = FileQueries.Find(reader, PathOrNull(request.WhichCase == GetMapRequest.WhichOneofCase.Inode, request.Path), request.Inode);
        return FileQueries.GetMap(reader, found, request.Path);
    }));

    public override Task ListDirectory(ListDirectoryRequest request, IServerStreamWriter<ListDirectoryReply> responseStream, ServerCallContext context) => GuardAsync(async () =>
    {
        InodeAttributes start = await engine.QueryAsync(CallerIdentity.Of(context), reader => FileQueries.Find(reader, request.Path, 0)).ConfigureAwait(false);
        if (start.Kind != InodeKind.Directory)
        {
            FileInfo single = await engine.QueryAsync(CallerIdentity.Of(context), reader => FileQueries.Describe(reader, start, request.Path, request.WithMaps)).ConfigureAwait(false);
            await responseStream.WriteAsync(new ListDirectoryReply { Entries = { single } }, context.CancellationToken).ConfigureAwait(false);
            return true;
        }
        Queue<(InodeNumber Inode, string Path)> directories = new([(start.Inode, "")]);
        while (directories.TryDequeue(out (InodeNumber Inode, string Path) directory))
        {
            ulong cookie = 0;
            InodeNumber hint = default;
            List<FileInfo> entries;
            do
            {
                (ulong after, InodeNumber last) = (cookie, hint);
                (entries, cookie, hint) = await engine.QueryAsync(CallerIdentity.Of(context), reader => FileQueries.ListSome(reader, directory.Inode, after, last, ListChunk, request.WithMaps)).ConfigureAwait(false);
                if (entries.Count == 0)
                    break;
                foreach (FileInfo entry in entries)
                {
                    entry.Path = directory.Path.Length == 0 ? entry.Path : $"{directory.Path}/{entry.Path}";
                    if (request.Recursive && entry.Kind == FileKind.Directory)
                        directories.Enqueue((new(entry.Inode), entry.Path));
                }
                foreach (Range part in ReplyLimits.Split(entries))
                    await responseStream.WriteAsync(new ListDirectoryReply { Entries = { entries.Take(part) } }, context.CancellationToken).ConfigureAwait(false);
            }
            while (entries.Count == ListChunk);
        }
        return true;
    });

    public override Task<ListDevicesReply> ListDevices(ListDevicesRequest request, ServerCallContext context) =>
        GuardAsync(() => engine.QueryAsync(CallerIdentity.Of(context), reader => DeviceQueries.List(reader.State)));

    public override Task<AddDeviceReply> AddDevice(AddDeviceRequest request, ServerCallContext context) => GuardAsync(async () =>
    {
        Caller caller = CallerIdentity.Of(context);
        DaxDevice? zeroed = request.Zero ? await engine.RunAsync(new DevicePreparation(request, places), caller).ConfigureAwait(false) : null;
        try
        {
            // Minutes for a large device, which the engine has not: it beats ten times a second.
            if (zeroed is not null)
                await Task.Run(() => SpaceZeroing.ZeroDevice(zeroed, context.CancellationToken)).ConfigureAwait(false);
            return await engine.RunAsync(new DeviceAddition(request, places, zeroed), caller).ConfigureAwait(false);
        }
        finally
        {
            if (zeroed is not null && !DeviceQueries.IsInPool(state, zeroed))
                zeroed.Dispose();
        }
    });

    public override Task<GrantMasterSlotReply> GrantMasterSlot(GrantMasterSlotRequest request, ServerCallContext context) =>
        GuardAsync(() => engine.RunAsync(new MasterSlotGrant(request), CallerIdentity.Of(context)));

    public override Task<SetPolicyReply> SetPolicy(SetPolicyRequest request, ServerCallContext context) => GuardAsync(async () =>
    {
        SetPolicyReply reply = await engine.RunAsync(new PolicyChange(request), CallerIdentity.Of(context)).ConfigureAwait(false);
        reply.Warnings.AddRange(ReplyLimits.Shorten(mounts.FindGaps()));
        return reply;
    });

    public override Task<GetStatusReply> GetStatus(GetStatusRequest request, ServerCallContext context) => GuardAsync(() => engine.QueryAsync(CallerIdentity.Of(context), reader =>
    {
        GetStatusReply reply = StatusQueries.Describe(reader.State);
        reply.Slot = (uint)engine.Term.Slot;
        reply.MasterId = info.Master.ToByteString();
        reply.HostId = info.Host.Host.ToByteString();
        reply.Address = info.Address;
        reply.Version = info.Version;
        reply.LogBytes = (ulong)engine.LogBytes;
        reply.SegmentCount = (uint)engine.SegmentCount;
        reply.UptimeMs = (ulong)clock.GetElapsedTime(info.StartedTimestamp).TotalMilliseconds;
        reply.SubscriberCount = (uint)hub.LiveCount;
        reply.Warnings.AddRange(ReplyLimits.Shorten(mounts.FindGaps()));
        reply.Warnings.AddRange(StatusQueries.FindMissing(reply));
        return reply;
    }));

    public override Task<ListHostsReply> ListHosts(ListHostsRequest request, ServerCallContext context) => GuardAsync(async () =>
    {
        mounts.Scan();
        return await engine.QueryAsync(CallerIdentity.Of(context), reader =>
        {
            ListHostsReply reply = new() { Position = reader.Position.ToMessage() };
            reply.Hosts.AddRange(mounts.Describe(reader.Position));
            return reply;
        }).ConfigureAwait(false);
    });

    public override Task<BarrierReply> Barrier(BarrierRequest request, ServerCallContext context) => GuardAsync(async () =>
    {
        LogPosition target = await engine.QueryAsync(CallerIdentity.Of(context), reader => request.Position is null ? reader.Position : Positions.Require(reader.State, request.Position)).ConfigureAwait(false);
        List<Guid> named = [.. request.MountIds.Select(m => m.ToGuid("mount id"))];
        mounts.Scan();
        int count = await WaitForMountsAsync(target.Sequence, named, request.TimeoutMs, "not yet seen by: ", context).ConfigureAwait(false);
        // An answer from a master that has been deposed meanwhile would speak for another history.
        await engine.QueryAsync(CallerIdentity.Of(context), _ => true).ConfigureAwait(false);
        return new BarrierReply { Position = target.ToMessage(), MountCount = (uint)count };
    });

    public override Task Subscribe(IAsyncStreamReader<SubscribeRequest> requestStream, IServerStreamWriter<SubscribeReply> responseStream, ServerCallContext context) => GuardAsync(async () =>
    {
        if (!await requestStream.MoveNext(context.CancellationToken).ConfigureAwait(false) || requestStream.Current.MessageCase != SubscribeRequest.MessageOneofCase.Hello)
            throw new FamfsException(ErrorReason.BadRequest, "the first message of a subscription must be Hello");
        Hello hello = requestStream.Current.Hello;
        LogPosition from = await WelcomeAsync(hello, CallerIdentity.Of(context), responseStream, context.CancellationToken).ConfigureAwait(false);
        Guid mount = hello.MountId.ToGuid("mount_id");
        Guid host = hello.HostId.ToGuid("host_id");
        if (mount != Guid.Empty)
            mounts.Subscribed(mount, host, hello.BootId.ToGuid("boot_id"), hello.Dialect, hello.Version, hello.MountPoint);
        using CancellationTokenSource ended = CancellationTokenSource.CreateLinkedTokenSource(context.CancellationToken);
        Task acknowledging = ReadAcksAsync(requestStream, mount, ended);
        try
        {
            // A write that is cancelled resets the call, and no status could follow: one that has begun ends.
            await hub.RunAsync(from, reply => new ValueTask(responseStream.WriteAsync(reply, context.CancellationToken)), ended.Token).ConfigureAwait(false);
        }
        catch (FamfsException error) when (error.Reason == ErrorReason.NotMaster)
        {
            await responseStream.WriteAsync(new SubscribeReply { Goaway = new() { Reason = error.Message, MasterAddress = error.MasterAddress } }, context.CancellationToken).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (!context.CancellationToken.IsCancellationRequested)
        {
            // The reader of acknowledgements ended it; what was wrong with the host's side is thrown below.
        }
        finally
        {
            if (mount != Guid.Empty)
                mounts.Unsubscribed(mount);
            await ended.CancelAsync().ConfigureAwait(false);
        }
        await acknowledging.ConfigureAwait(false);
        return true;
    });

    public override Task<MutationReply> PublishFile(PublishFileRequest request, ServerCallContext context) => throw NotServed("PublishFile", byNative: true);

    public override Task<MutationReply> Remove(RemoveRequest request, ServerCallContext context) => throw NotServed("Remove", byNative: true);

    public override Task<MutationReply> Rename(RenameRequest request, ServerCallContext context) => throw NotServed("Rename", byNative: true);

    public override Task<MutationReply> SetAttributes(SetAttributesRequest request, ServerCallContext context) => GuardAsync(async () =>
    {
        RequireWait(request.Wait);
        MutationReply reply = await engine.RunAsync(new AttributeChange(request), CallerIdentity.Of(context)).ConfigureAwait(false);
        reply.Waited = await WaitAsync(request.Wait, reply.Position, context).ConfigureAwait(false);
        return reply;
    });

    public override Task<CompactReply> Compact(CompactRequest request, ServerCallContext context) => throw NotServed("Compact", byNative: true);

    public override Task Check(CheckRequest request, IServerStreamWriter<CheckReply> responseStream, ServerCallContext context) => GuardAsync(async () =>
    {
        // Reads the memory with a reader of its own, beside the engine; what it sees is a prefix.
        Channel<CheckReply> replies = Channel.CreateUnbounded<CheckReply>();
        Task checking = Task.Run(() =>
        {
            try
            {
                CheckResult result = FileSystemCheck.Run(state.Pool, phase => replies.Writer.TryWrite(ProgressOf(phase)));
                foreach (Finding finding in result.Findings)
                {
                    replies.Writer.TryWrite(new()
                    {
                        Finding = new()
                        {
                            Severity = finding.Severity == FindingSeverity.Error ? "error" : "warning",
                            Code = finding.Code,
                            Where = finding.Where,
                            What = finding.What,
                        },
                    });
                }
                replies.Writer.TryWrite(ProgressOf("done"));
                replies.Writer.Complete();
            }
            catch (Exception error)
            {
                replies.Writer.Complete(error);
            }
        }, context.CancellationToken);
        await foreach (CheckReply reply in replies.Reader.ReadAllAsync(context.CancellationToken).ConfigureAwait(false))
            await responseStream.WriteAsync(reply, context.CancellationToken).ConfigureAwait(false);
        await checking.ConfigureAwait(false);
        return true;
    });

    private static CheckReply ProgressOf(string phase) => new() { Progress = new() { Phase = phase } };

    /// <summary>The refusal of a call. <paramref name="byNative"/>: the native format can express it, others never.</summary>
    private RpcException NotServed(string method, bool byNative = false) =>
        StatusMap.ToRpc(byNative && state.Format.FindRefusal(method) is { } refusal
            ? refusal
            : new FamfsException(ErrorReason.NotImplemented, $"{method} is not served by this version"));

    private static string? PathOrNull(bool byInode, string path) => byInode ? null : path;

    private async Task<T> GuardAsync<T>(Func<Task<T>> call)
    {
        try
        {
            role.RequireActive();
            return await call().ConfigureAwait(false);
        }
        catch (Exception error)
        {
            throw StatusMap.ToRpc(error);
        }
    }

    /// <summary>Answers what was decided, in order. An answer that cannot be given ends the reading of requests, too.</summary>
    private static async Task AnswerAsync(ChannelReader<ChangeOperation<CreateFilesReply>> decided, IServerStreamWriter<CreateFilesReply> responses, CancellationTokenSource ending)
    {
        try
        {
            await foreach (ChangeOperation<CreateFilesReply> bulk in decided.ReadAllAsync(ending.Token).ConfigureAwait(false))
            {
                CreateFilesReply all = await bulk.Task.ConfigureAwait(false);
                foreach (Range part in ReplyLimits.Split(all.Results))
                {
                    CreateFilesReply reply = part.Start.Value == 0 && part.End.Value == all.Results.Count ? all : new() { Results = { all.Results.Take(part) } };
                    await responses.WriteAsync(reply, ending.Token).ConfigureAwait(false);
                }
            }
        }
        catch
        {
            await ending.CancelAsync().ConfigureAwait(false);
            throw;
        }
    }

    /// <summary>Before anything is changed: a wait that cannot be served is no reason to fail afterwards.</summary>
    private static void RequireWait(Wait? wait)
    {
        if (wait is null)
            return;
        if (!Enum.IsDefined(wait.Kind))
            throw new FamfsException(ErrorReason.BadRequest, $"wait.kind {(int)wait.Kind} is not one that this master knows (0 to {(int)Enum.GetValues<WaitKind>().Max()})");
        _ = wait.MountId.ToGuid("wait.mount_id");
    }

    private async Task<WaitKind> WaitAsync(Wait? wait, Position position, ServerCallContext context)
    {
        switch (wait?.Kind ?? WaitKind.None)
        {
            case WaitKind.Mount when !wait!.MountId.IsEmpty:
                await WaitForMountsAsync(new(position.Sequence), [wait.MountId.ToGuid("mount_id")], wait.TimeoutMs, MadeNotSeen, context).ConfigureAwait(false);
                return WaitKind.Mount;
            case WaitKind.All:
                mounts.Scan();
                await WaitForMountsAsync(new(position.Sequence), [], wait!.TimeoutMs, MadeNotSeen, context).ConfigureAwait(false);
                return WaitKind.All;
            default:
                return WaitKind.None;
        }
    }

    /// <summary>Waits as long as the caller asks for, and at most until shortly before its deadline, so that the answer which names the
    /// missing mounts still reaches it.</summary>
    private async Task<int> WaitForMountsAsync(LogSequence sequence, IReadOnlyList<Guid> named, uint timeoutMs, string what, ServerCallContext context)
    {
        using CancellationTokenSource ending = CancellationTokenSource.CreateLinkedTokenSource(context.CancellationToken);
        TimeSpan asked = timeoutMs > 0 ? TimeSpan.FromMilliseconds(Math.Min(timeoutMs, int.MaxValue)) : Timeout.InfiniteTimeSpan;
        if (context.Deadline < DateTime.MaxValue)
        {
            TimeSpan left = context.Deadline - clock.GetUtcNow().UtcDateTime;
            TimeSpan wait = left - TimeSpan.FromTicks(Math.Min(left.Ticks / 10, TimeSpan.TicksPerSecond / 4));
            wait = wait > TimeSpan.Zero ? wait : TimeSpan.Zero;
            asked = timeoutMs == 0 || wait < asked ? wait : asked;
        }
        ending.CancelAfter(asked);
        try
        {
            return await mounts.WaitAsync(sequence, named, ending.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (!context.CancellationToken.IsCancellationRequested)
        {
            HashSet<Guid> missing = mounts.Missing(sequence, named);
            List<HostStatus> lagging = [.. mounts.Describe(hub.Published).Where(h => missing.Contains(h.MountId.ToGuid("mount id"))).Take(ReplyLimits.ListedItems)];
            throw new FamfsException(ErrorReason.Timeout, what + ReplyLimits.Name(missing, lagging)) { Lagging = lagging, LaggingCount = missing.Count };
        }
    }

    private async Task<LogPosition> WelcomeAsync(Hello hello, Caller caller, IServerStreamWriter<SubscribeReply> responses, CancellationToken cancel)
    {
        Guid host = hello.HostId.ToGuid("host_id");
        Guid mount = hello.MountId.ToGuid("mount_id");
        Position at = hello.Position ?? new();
        // What the lines say is needed to believe a host about its older mounts; a thousand hosts that come back at once have none.
        if (hello.OlderMounts.Count > 0)
            mounts.Scan();
        MountClaim claim = new(new(host, hello.MachineDigest, hello.HostName), mount, at);
        (int slot, LogPosition position) = await engine.RunAsync(new MountAdmission(claim, info.HostCapacity, GoneMounts.Accept(host, hello.OlderMounts, mounts)), caller).ConfigureAwait(false);
        await responses.WriteAsync(new SubscribeReply
        {
            Welcome = new()
            {
                Position = position.ToMessage(),
                HostSlot = (uint)Math.Max(slot, 0),
                Registered = slot >= 0,
                MasterId = info.Master.ToByteString(),
                Address = info.Address,
            },
        }, cancel).ConfigureAwait(false);
        return position with { Sequence = new(at.Sequence), Term = new(at.Term) };
    }

    /// <summary>Counts acknowledgements until the caller's side of the stream is closed or <paramref name="ended"/>. What is wrong
    /// with one ends the subscription; a caller that closes its side has no more to say, and goes on listening.</summary>
    private async Task ReadAcksAsync(IAsyncStreamReader<SubscribeRequest> requests, Guid mount, CancellationTokenSource ended)
    {
        try
        {
            while (await requests.MoveNext(ended.Token).ConfigureAwait(false))
            {
                if (requests.Current.MessageCase != SubscribeRequest.MessageOneofCase.Ack)
                    throw new FamfsException(ErrorReason.BadRequest, "only Ack may follow Hello");
                Position position = requests.Current.Ack.Position ?? new();
                // What is not in the log cannot have been replayed; counting it would end waits too early.
                Positions.RequireInHistory(state.Replay, position, hub.Published);
                if (mount != Guid.Empty)
                    mounts.Acknowledged(mount, new(state.FileSystem, position.Generation, new(position.Sequence), new(position.Term)));
            }
        }
        catch (OperationCanceledException)
        {
            // The stream is over from our side.
        }
        catch
        {
            await ended.CancelAsync().ConfigureAwait(false);
            throw;
        }
    }
}

/// <summary>What does not change while a master runs.</summary>
internal sealed record MasterInfo(Guid Master, HostIdentity Host, string Address, string Version, long StartedTimestamp, int HostCapacity);
