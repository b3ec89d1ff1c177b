using System.Threading.Channels;
using Famfs.Core;
using Famfs.Core.Allocation;
using Famfs.Core.Check;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Namespace;
using Famfs.Master.Rpc;
using Famfs.V1;
using Google.Protobuf;
using Grpc.Core;
using FileInfo = Famfs.V1.FileInfo;

namespace Famfs.Master;

/// <summary>The gRPC face of the engine: takes requests apart, queues them, waits as they wish, and turns
/// errors into statuses. Holds no state of the file system.</summary>
internal sealed class MasterService(
    MasterEngine engine, MasterOperations operations, SubscriptionHub hub, MountTable mounts, MasterInfo info, TimeProvider clock) : V1.Master.MasterBase
{
    private const int ListChunk = 256;
    private const int MaxBulkFiles = 65536;

    /// <summary>Bulk messages of one stream that may be decided ahead of the one that is answered.</summary>
    private const int BulkAhead = 8;

    public override Task<CreateFileReply> CreateFile(CreateFileRequest request, ServerCallContext context) => GuardAsync(async () =>
    {
        RequireWait(request.Wait);
        CreateFileReply reply = await engine.RunAsync(_ => operations.CreateFile(request)).ConfigureAwait(false);
        reply.Waited = await WaitAsync(request.Wait, reply.Position, context).ConfigureAwait(false);
        return reply;
    });

    public override Task CreateFiles(IAsyncStreamReader<CreateFilesRequest> requestStream, IServerStreamWriter<CreateFilesReply> responseStream, ServerCallContext context) => GuardAsync(async () =>
    {
        // Results go back in the order of the requests while later ones are being decided.
        Channel<BulkCreate> decided = Channel.CreateBounded<BulkCreate>(BulkAhead);
        using CancellationTokenSource ending = CancellationTokenSource.CreateLinkedTokenSource(context.CancellationToken);
        Task answering = AnswerAsync(decided.Reader, responseStream, ending);
        try
        {
            await foreach (CreateFilesRequest request in requestStream.ReadAllAsync(ending.Token).ConfigureAwait(false))
            {
                if (request.Files.Count > MaxBulkFiles)
                    throw new FamfsException(ErrorReason.BadRequest, $"{request.Files.Count} files in one message, the limit is {MaxBulkFiles}") { Limit = MaxBulkFiles };
                BulkCreate bulk = new(request, operations);
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
        MakeDirectoryReply reply = await engine.RunAsync(_ => operations.MakeDirectory(request)).ConfigureAwait(false);
        reply.Waited = await WaitAsync(request.Wait, reply.Position, context).ConfigureAwait(false);
        return reply;
    });

    public override Task<GetFileReply> GetFile(GetFileRequest request, ServerCallContext context) => GuardAsync(() => engine.RunAsync(e =>
    {
        InodeAttributes found = operations.Find(PathOrNull(request.WhichCase == GetFileRequest.WhichOneofCase.Inode, request.Path), request.Inode);
        return new GetFileReply { File = operations.Describe(found, request.Path, true), Position = MountTable.PositionOf(e.Position) };
    }));

    public override Task<GetMapReply> GetMap(GetMapRequest request, ServerCallContext context) => GuardAsync(() => engine.RunAsync(_ =>
    {
        InodeAttributes found = operations.Find(PathOrNull(request.WhichCase == GetMapRequest.WhichOneofCase.Inode, request.Path), request.Inode);
        return operations.GetMap(found, request.Path, DescribeDevice);
    }));

    public override Task ListDirectory(ListDirectoryRequest request, IServerStreamWriter<ListDirectoryReply> responseStream, ServerCallContext context) => GuardAsync(async () =>
    {
        InodeAttributes start = await engine.RunAsync(_ => operations.Find(request.Path, 0)).ConfigureAwait(false);
        if (start.Kind != InodeKind.Directory)
        {
            FileInfo single = await engine.RunAsync(_ => operations.Describe(start, request.Path, request.WithMaps)).ConfigureAwait(false);
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
                (entries, cookie, hint) = await engine.RunAsync(_ => operations.ListSome(directory.Inode, after, last, ListChunk, request.WithMaps)).ConfigureAwait(false);
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

    public override Task<ListDevicesReply> ListDevices(ListDevicesRequest request, ServerCallContext context) => GuardAsync(() => engine.RunAsync(e =>
    {
        ListDevicesReply reply = new();
        for (uint i = 0; i < e.State.Devices.Length; i++)
            reply.Devices.Add(DescribeDevice(i));
        return reply;
    }));

    public override Task<AddDeviceReply> AddDevice(AddDeviceRequest request, ServerCallContext context) => GuardAsync(async () =>
    {
        DaxDevice? zeroed = request.Zero ? await engine.RunAsync(_ => operations.OpenToZero(request)).ConfigureAwait(false) : null;
        try
        {
            // Minutes for a large device, which the engine has not: it beats ten times a second.
            if (zeroed is not null)
                await Task.Run(() => Zero(zeroed, context.CancellationToken)).ConfigureAwait(false);
            return await engine.RunAsync(_ =>
            {
                (uint index, LogPosition position) = operations.AddDevice(request, clock, zeroed);
                return new AddDeviceReply { Device = DescribeDevice(index), Position = MountTable.PositionOf(position) };
            }).ConfigureAwait(false);
        }
        finally
        {
            if (zeroed is not null && !operations.IsInPool(zeroed))
                zeroed.Dispose();
        }
    });

    private static void Zero(DaxDevice device, CancellationToken cancel)
    {
        const long Step = 1L << 30;
        for (long at = 0; at < device.LengthBytes; at += Step)
        {
            cancel.ThrowIfCancellationRequested();
            device.Zero(at, Math.Min(Step, device.LengthBytes - at));
        }
        device.Fence();
    }

    public override Task<GrantMasterSlotReply> GrantMasterSlot(GrantMasterSlotRequest request, ServerCallContext context) => GuardAsync(() => engine.RunAsync(e =>
        new GrantMasterSlotReply
        {
            Slot = (uint)operations.GrantMasterSlot(request),
            Position = MountTable.PositionOf(e.Position),
        }));

    public override Task<SetPolicyReply> SetPolicy(SetPolicyRequest request, ServerCallContext context) =>
        GuardAsync(() => engine.RunAsync(e =>
        {
            SetPolicyReply reply = operations.SetPolicy(request);
            reply.Warnings.AddRange(ReplyLimits.Shorten(mounts.FindGaps(e.State)));
            return reply;
        }));

    public override Task<GetStatusReply> GetStatus(GetStatusRequest request, ServerCallContext context) => GuardAsync(() => engine.RunAsync(e =>
    {
        GetStatusReply reply = new()
        {
            FileSystemUuid = e.Pool.Primary.FileSystem.ToByteString(),
            Label = e.Pool.Primary.Label,
            Format = e.Format.Name,
            Position = MountTable.PositionOf(e.Position),
            Slot = (uint)e.Term.Slot,
            MasterId = info.Master.ToByteString(),
            HostId = info.Host.Host.ToByteString(),
            Address = info.Address,
            Version = info.Version,
            CapacityBytes = (ulong)e.Allocator.CapacityBytes,
            FreeBytes = (ulong)e.Allocator.FreeBytes,
            LargestFreeBytes = (ulong)e.Allocator.LargestFreeRunBytes,
            FileCount = (ulong)e.State.Tree.FileCount,
            DirectoryCount = (ulong)e.State.Tree.DirectoryCount,
            PendingReclaimBytes = (ulong)e.State.PendingReclaimBytes,
            LogBytes = (ulong)e.LogBytes,
            LogReservedBytes = (ulong)e.State.Segments.Sum(s => s.Extent.LengthBytes),
            SegmentCount = (uint)e.SegmentCount,
            UptimeMs = (ulong)clock.GetElapsedTime(info.StartedTimestamp).TotalMilliseconds,
            HostCount = (uint)e.State.Hosts.Count,
            SubscriberCount = (uint)hub.LiveCount,
            Reclaim = e.State.Policy.Reclaim,
            DialectFloor = FmapLimits.NameOfFloor(e.State.Policy.DialectFloor),
        };
        reply.Warnings.AddRange(e.Format.Limits);
        reply.Warnings.AddRange(ReplyLimits.Shorten(mounts.FindGaps(e.State)));
        for (uint i = 0; i < e.State.Devices.Length; i++)
        {
            DeviceInfo device = DescribeDevice(i);
            reply.Devices.Add(device);
            if (device.Path.Length == 0)
                reply.Warnings.Add($"device {i} ({(device.Name.Length > 0 ? device.Name : e.State.Devices[(int)i].DeviceUuid.ToGuid("device uuid"))}) is missing on the master's host");
        }
        return reply;
    }));

    public override Task<ListHostsReply> ListHosts(ListHostsRequest request, ServerCallContext context) => GuardAsync(async () =>
    {
        mounts.Scan(engine.Pool.Primary.FileSystem, engine.State.HostSlots);
        return await engine.RunAsync(e =>
        {
            ListHostsReply reply = new() { Position = MountTable.PositionOf(e.Position) };
            reply.Hosts.AddRange(mounts.Describe(e.Position, e.State));
            return reply;
        }).ConfigureAwait(false);
    });

    public override Task<BarrierReply> Barrier(BarrierRequest request, ServerCallContext context) => GuardAsync(async () =>
    {
        LogPosition target = await engine.RunAsync(e => request.Position is null ? e.Position : RequirePosition(request.Position, e)).ConfigureAwait(false);
        List<Guid> named = [.. request.MountIds.Select(m => m.ToGuid("mount id"))];
        mounts.Scan(engine.Pool.Primary.FileSystem, engine.State.HostSlots);
        int count = await WaitForMountsAsync(target.Sequence, named, context).ConfigureAwait(false);
        // An answer from a master that has been deposed meanwhile would speak for another history.
        await engine.RunAsync(_ => true).ConfigureAwait(false);
        return new BarrierReply { Position = MountTable.PositionOf(target), MountCount = (uint)count };
    });

    public override Task Subscribe(IAsyncStreamReader<SubscribeRequest> requestStream, IServerStreamWriter<SubscribeReply> responseStream, ServerCallContext context) => GuardAsync(async () =>
    {
        if (!await requestStream.MoveNext(context.CancellationToken).ConfigureAwait(false) || requestStream.Current.MessageCase != SubscribeRequest.MessageOneofCase.Hello)
            throw new FamfsException(ErrorReason.BadRequest, "the first message of a subscription must be Hello");
        Hello hello = requestStream.Current.Hello;
        LogPosition from = await WelcomeAsync(hello, responseStream, context.CancellationToken).ConfigureAwait(false);
        Guid mount = hello.MountId.ToGuid("mount_id");
        Guid host = hello.HostId.ToGuid("host_id");
        if (mount != Guid.Empty)
            mounts.Subscribed(mount, host, hello.BootId.ToGuid("boot_id"), hello.Dialect, hello.Version);
        using CancellationTokenSource ended = CancellationTokenSource.CreateLinkedTokenSource(context.CancellationToken);
        Task acknowledging = ReadAcksAsync(requestStream, mount, ended);
        try
        {
            await hub.RunAsync(from, reply => new ValueTask(responseStream.WriteAsync(reply, ended.Token)), ended.Token).ConfigureAwait(false);
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

    public override Task<MutationReply> SetAttributes(SetAttributesRequest request, ServerCallContext context) => throw NotServed("SetAttributes", byNative: true);

    public override Task<CompactReply> Compact(CompactRequest request, ServerCallContext context) => throw NotServed("Compact", byNative: true);

    public override Task Check(CheckRequest request, IServerStreamWriter<CheckReply> responseStream, ServerCallContext context) => GuardAsync(async () =>
    {
        // Reads the memory with a reader of its own, beside the engine; what it sees is a prefix.
        Channel<CheckReply> replies = Channel.CreateUnbounded<CheckReply>();
        Task checking = Task.Run(() =>
        {
            try
            {
                CheckResult result = FileSystemCheck.Run([.. engine.Pool.Present.Select(engine.Pool.Require)], phase => replies.Writer.TryWrite(ProgressOf(phase)));
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

    /// <summary>The refusal of a call. <paramref name="byNative"/>: the native format can express it, famfs-2 never.</summary>
    private RpcException NotServed(string method, bool byNative = false) =>
        StatusMap.ToRpc(byNative && engine.Format.FindRefusal(method) is { } refusal
            ? refusal
            : new FamfsException(ErrorReason.NotImplemented, $"{method} is not served by this version"));

    private static string? PathOrNull(bool byInode, string path) => byInode ? null : path;

    private static async Task<T> GuardAsync<T>(Func<Task<T>> call)
    {
        try
        {
            return await call().ConfigureAwait(false);
        }
        catch (Exception error)
        {
            throw StatusMap.ToRpc(error);
        }
    }

    private static LogPosition RequirePosition(Position position, MasterEngine e)
    {
        if (position.FileSystemUuid.ToGuid("file_system_uuid") != e.Pool.Primary.FileSystem)
            throw new FamfsException(ErrorReason.WrongFilesystem, $"this is file system {e.Pool.Primary.FileSystem}");
        RequireInHistory(position, e.State, e.Position);
        return e.Position with { Sequence = new(position.Sequence), Term = new(position.Term) };
    }

    /// <summary>A position is a place in one history: its sequence with the term of that very record
    /// (SAFETY S5). Sequence 0 is before every history. Any thread.</summary>
    private static void RequireInHistory(Position position, ReplayState state, LogPosition end)
    {
        if (position.Sequence == 0)
            return;
        if (position.Generation != end.Generation || state.FindTerm(new(position.Sequence)) != new Term(position.Term))
            throw new FamfsException(ErrorReason.StaleGeneration, $"position {position.Generation}:{position.Sequence}@{position.Term} is not in this master's history, which ends at {end}");
    }

    /// <summary>Answers what was decided, in order. An answer that cannot be given ends the reading of requests, too.</summary>
    private static async Task AnswerAsync(ChannelReader<BulkCreate> decided, IServerStreamWriter<CreateFilesReply> responses, CancellationTokenSource ending)
    {
        try
        {
            await foreach (BulkCreate bulk in decided.ReadAllAsync(ending.Token).ConfigureAwait(false))
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

    private bool IsGone(Guid mount) => engine.State.Gone.ContainsKey(mount);

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
                await WaitForMountsAsync(new(position.Sequence), [wait.MountId.ToGuid("mount_id")], context).ConfigureAwait(false);
                return WaitKind.Mount;
            case WaitKind.All:
                mounts.Scan(engine.Pool.Primary.FileSystem, engine.State.HostSlots);
                await WaitForMountsAsync(new(position.Sequence), [], context).ConfigureAwait(false);
                return WaitKind.All;
            default:
                return WaitKind.None;
        }
    }

    /// <summary>Waits until shortly before the caller's deadline, so that the answer which names the missing
    /// mounts still reaches it.</summary>
    private async Task<int> WaitForMountsAsync(LogSequence sequence, IReadOnlyList<Guid> named, ServerCallContext context)
    {
        using CancellationTokenSource ending = CancellationTokenSource.CreateLinkedTokenSource(context.CancellationToken);
        if (context.Deadline < DateTime.MaxValue)
        {
            TimeSpan left = context.Deadline - clock.GetUtcNow().UtcDateTime;
            TimeSpan wait = left - TimeSpan.FromTicks(Math.Min(left.Ticks / 10, TimeSpan.TicksPerSecond / 4));
            ending.CancelAfter(wait > TimeSpan.Zero ? wait : TimeSpan.Zero);
        }
        try
        {
            return await mounts.WaitAsync(sequence, named, IsGone, ending.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (!context.CancellationToken.IsCancellationRequested)
        {
            HashSet<Guid> missing = mounts.Missing(sequence, named, IsGone);
            LogPosition position = hub.Published;
            List<HostStatus> lagging = [.. mounts.Describe(position, engine.State).Where(h => missing.Contains(h.MountId.ToGuid("mount id"))).Take(ReplyLimits.ListedItems)];
            IEnumerable<string> some = missing.Take(ReplyLimits.ListedItems).Select(m => m == Guid.Empty ? "an unreadable line of the host table" : $"mount {m}");
            string others = missing.Count > ReplyLimits.ListedItems ? $" and {missing.Count - ReplyLimits.ListedItems} others" : "";
            throw new FamfsException(ErrorReason.Timeout, $"record {sequence} is not acknowledged by {string.Join(", ", some)}{others}") { Lagging = lagging, LaggingCount = missing.Count };
        }
    }

    private DeviceInfo DescribeDevice(uint index)
    {
        DeviceAdded added = engine.State.Devices[(int)index];
        DeviceIndex i = new((ushort)index);
        return new()
        {
            Index = index,
            DeviceUuid = added.DeviceUuid,
            LengthBytes = added.LengthBytes,
            FreeBytes = (ulong)engine.Allocator.DeviceFreeBytes(i),
            LargestFreeBytes = (ulong)engine.Allocator.DeviceLargestFreeRunBytes(i),
            Coherent = added.Coherent,
            Name = added.Name,
            Path = engine.Pool.Find(i)?.Path ?? "",
        };
    }

    private async Task<LogPosition> WelcomeAsync(Hello hello, IServerStreamWriter<SubscribeReply> responses, CancellationToken cancel)
    {
        Guid host = hello.HostId.ToGuid("host_id");
        Guid mount = hello.MountId.ToGuid("mount_id");
        Position at = hello.Position ?? new();
        // What the lines say is needed to believe a host about its older mounts; a thousand hosts that come back at once have none.
        if (hello.OlderMounts.Count > 0)
            mounts.Scan(engine.Pool.Primary.FileSystem, engine.State.HostSlots);
        Guid fileSystem = at.FileSystemUuid.ToGuid("file_system_uuid");
        (int slot, LogPosition position) = await engine.RunAsync(e =>
        {
            if (fileSystem != Guid.Empty && fileSystem != e.Pool.Primary.FileSystem)
                throw new FamfsException(ErrorReason.WrongFilesystem, $"this is file system {e.Pool.Primary.FileSystem}, not {fileSystem}");
            if (at.Sequence > 0)
                RequirePosition(at, e);
            if (mount == Guid.Empty)
                return (-1, e.Position);
            if (host == Guid.Empty)
                throw new FamfsException(ErrorReason.BadRequest, "host_id is empty");
            if (e.State.Gone.ContainsKey(mount))
                throw new FamfsException(ErrorReason.HostGone, $"mount {mount} was declared gone; mount anew");
            if (!e.Format.HasHostTable)
                return (-1, e.Position);
            int granted = operations.RegisterHost(new(host, hello.MachineDigest, hello.HostName), info.HostCapacity);
            foreach (OlderMount older in hello.OlderMounts)
            {
                // Only what a host itself may say, and of its own mounts; everything else needs an operator.
                Guid gone = older.MountId.ToGuid("older mount_id");
                if (older.Evidence is GoneEvidence.CleanUnmount or GoneEvidence.SuperblockGone && mounts.IsOf(gone, host))
                    operations.RecordGone(host, gone, older.Evidence, older.Detail);
            }
            return (granted, e.Position);
        }).ConfigureAwait(false);
        await responses.WriteAsync(new SubscribeReply
        {
            Welcome = new()
            {
                Position = MountTable.PositionOf(position),
                HostSlot = (uint)Math.Max(slot, 0),
                Registered = slot >= 0,
                MasterId = info.Master.ToByteString(),
                Address = info.Address,
            },
        }, cancel).ConfigureAwait(false);
        return position with { Sequence = new(at.Sequence), Term = new(at.Term) };
    }

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
                RequireInHistory(position, engine.State, hub.Published);
                if (mount != Guid.Empty)
                    mounts.Acknowledged(mount, new(engine.Pool.Primary.FileSystem, position.Generation, new(position.Sequence), new(position.Term)));
            }
        }
        catch (OperationCanceledException)
        {
            // The stream is over from our side.
        }
        finally
        {
            await ended.CancelAsync().ConfigureAwait(false);
        }
    }

    /// <summary>All files of one bulk message. It may be decided over several batches; what was decided before
    /// one filled up is not decided again.</summary>
    internal sealed class BulkCreate(CreateFilesRequest request, MasterOperations operations) : EngineOperation
    {
        private readonly TaskCompletionSource<CreateFilesReply> _completion = new(TaskCreationOptions.RunContinuationsAsynchronously);
        private readonly CreateFilesReply _reply = new();

        public Task<CreateFilesReply> Task => _completion.Task;

        protected override void Decide(MasterEngine engine)
        {
            while (_reply.Results.Count < request.Files.Count)
            {
                CreateFileRequest file = request.Files[_reply.Results.Count];
                CreateFileResult result = new();
                try
                {
                    if (file.Wait is { Kind: not WaitKind.None })
                        throw new FamfsException(ErrorReason.BadRequest, "a file of a bulk request cannot wait; call Barrier after the stream");
                    result.Reply = operations.CreateFile(file, request.OmitMaps);
                }
                catch (FamfsException error) when (error.Reason is not ErrorReason.MediaCorrupt)
                {
                    result.Error = StatusMap.DetailOf(error);
                }
                _reply.Results.Add(result);
            }
        }

        protected override void Complete(Exception? error)
        {
            // What was decided before the log was full is published; the others are refused one by one.
            if (error is FamfsException { Reason: ErrorReason.LogFull })
            {
                while (_reply.Results.Count < request.Files.Count)
                    _reply.Results.Add(new CreateFileResult { Error = StatusMap.DetailOf(error) });
                error = null;
            }
            if (error is null)
                _completion.TrySetResult(_reply);
            else
                _completion.TrySetException(error);
        }
    }
}

/// <summary>What does not change while a master runs.</summary>
internal sealed record MasterInfo(Guid Master, HostIdentity Host, string Address, string Version, long StartedTimestamp, int HostCapacity);
