using System.Runtime.CompilerServices;
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
using Microsoft.Extensions.Logging;
using FileInfo = Famfs.V1.FileInfo;

namespace Famfs.Master.Rpc;

/// <summary>The gRPC face of the engine: takes requests apart, queues them, waits as they wish, and turns
/// errors into statuses. Holds no state of the file system.</summary>
internal sealed class MasterService(
    MasterRole role, MasterEngine engine, LogCompaction compaction, MasterState state, SubscriptionHub hub, MountRegistry mounts, DevicePlaces places, PatientWriter patient, MasterInfo info, Refusals refusals, ILogger<MasterService> log, TimeProvider clock) : V1.Master.MasterBase
{
    private const int ListChunk = 256;

    /// <summary>Most mounts of an answer of ListHosts (chosen: below a MiB whatever the texts).</summary>
    private const int ListedHosts = 2048;

    /// <summary>The same of one that names held files: of those, and of mounts (chosen: below two MiB whatever the texts).</summary>
    private const int ListedHeldFiles = 1024;

    /// <inheritdoc cref="ListedHeldFiles"/>
    private const int ListedHolders = 256;

    /// <summary>Most devices that are being opened at a time, each by a thread of its own (chosen).</summary>
    private const int OpeningDevices = 4;

    // What callers that nobody knows make happen with streams (chosen: a cluster's start is seen).
    private readonly EntryBudget _streamEntries = new(clock, 120);

    // Touched by changes alone, on the engine's thread.
    private readonly RegistrationLimit _registrations = new();
    private readonly WrittenLimit _written = new();

    // 1 while a check runs: it has a tree of its own.
    private int _checking;

    // Devices that are being opened.
    private int _opening;

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
        BulkCall call = new(engine, patient, CallerIdentity.Of(context), CallerIdentity.BudgetOf(context), CallerIdentity.BodyOf(context), context);
        await call.RunAsync(requestStream, responseStream).ConfigureAwait(false);
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
        Credentials? user = CallerIdentity.Of(context).User;
        InodeAttributes found = FileQueries.Find(reader, PathOrNull(request.WhichCase == GetFileRequest.WhichOneofCase.Inode, request.Path), request.Inode, user);
        return new GetFileReply { File = FileQueries.Describe(reader, found, request.Path, Permissions.MayRead(user, found)), Position = reader.Position.ToMessage() };
    }));

    public override Task<GetMapReply> GetMap(GetMapRequest request, ServerCallContext context) => GuardAsync(() => engine.QueryAsync(CallerIdentity.Of(context), reader =>
    {
        Credentials? user = CallerIdentity.Of(context).User;
        InodeAttributes found = FileQueries.Find(reader, PathOrNull(request.WhichCase == GetMapRequest.WhichOneofCase.Inode, request.Path), request.Inode, user);
        Permissions.Require(user, found, Access.Read, request.WhichCase == GetMapRequest.WhichOneofCase.Inode ? $"inode {found.Inode}" : request.Path);
        return FileQueries.GetMap(reader, found, request.Path);
    }));

    public override Task ListDirectory(ListDirectoryRequest request, IServerStreamWriter<ListDirectoryReply> responseStream, ServerCallContext context) => GuardAsync(async () =>
    {
        Caller caller = CallerIdentity.Of(context);
        InodeAttributes start = await engine.QueryAsync(caller, reader => FileQueries.Find(reader, request.Path, 0, caller.User)).ConfigureAwait(false);
        if (start.Kind != InodeKind.Directory)
        {
            bool withMap = request.WithMaps && Permissions.MayRead(caller.User, start);
            FileInfo single = await engine.QueryAsync(caller, reader => FileQueries.Describe(reader, start, request.Path, withMap)).ConfigureAwait(false);
            await patient.WriteAsync(responseStream, new ListDirectoryReply { Entries = { single } }, context).ConfigureAwait(false);
            return true;
        }
        // Deepest first, and of each directory some entries at a time: what waits grows with the depth, not with the directories,
        // and is charged.
        const Access Listed = Access.Read | Access.Search;
        Permissions.Require(caller.User, start, Listed, request.Path);
        Stack<Listing> open = new([new(start.Inode, "", 0, default)]);
        MeteredBody body = CallerIdentity.BodyOf(context);
        body.Hold(open.Peek().Bytes);
        FamfsException? unlisted = null;
        while (open.TryPop(out Listing at))
        {
            (List<FileInfo> entries, ulong cookie, InodeNumber hint) = await engine.QueryAsync(caller, reader => FileQueries.ListSome(reader, at.Directory, at.Cookie, at.Hint, ListChunk, request.WithMaps, caller.User)).ConfigureAwait(false);
            if (entries.Count == ListChunk)
                open.Push(at with { Cookie = cookie, Hint = hint });
            else
                body.Hold(-at.Bytes);
            for (int i = entries.Count - 1; i >= 0; i--)
            {
                FileInfo entry = entries[i];
                entry.Path = at.Path.Length == 0 ? entry.Path : $"{at.Path}/{entry.Path}";
                if (!request.Recursive || entry.Kind != FileKind.Directory)
                    continue;
                // What may not be listed is said when the rest has been.
                if (caller.User?.May(new() { Kind = InodeKind.Directory, Mode = entry.Mode, Uid = entry.Uid, Gid = entry.Gid }, Listed) == false)
                    unlisted ??= new(ErrorReason.NotPermitted, $"{FileSystemPath.Show(entry.Path)}: user {caller.User.Uid} may not read and search it") { Path = entry.Path };
                else
                {
                    Listing below = new(new(entry.Inode), entry.Path, 0, default);
                    body.Hold(below.Bytes);
                    open.Push(below);
                }
            }
            if (entries.Count == 0)
                continue;
            // A caller may take nothing of it.
            long charge = entries.Sum(e => (long)e.CalculateSize()) * CallLimits.AnswerPerByte;
            body.Hold(charge);
            foreach (Range part in ReplyLimits.Split(entries))
                await patient.WriteAsync(responseStream, new ListDirectoryReply { Entries = { entries.Take(part) } }, context).ConfigureAwait(false);
            body.Hold(-charge);
        }
        return unlisted is null ? true : throw unlisted;
    });

    public override Task<ListDevicesReply> ListDevices(ListDevicesRequest request, ServerCallContext context) =>
        GuardAsync(() => engine.QueryAsync(CallerIdentity.Of(context), reader => DeviceQueries.List(reader.State)));

    public override Task<AddDeviceReply> AddDevice(AddDeviceRequest request, ServerCallContext context) => GuardAsync(async () =>
    {
        Caller caller = CallerIdentity.Of(context);
        if (await engine.RunAsync(new DeviceAdmission(request), caller).ConfigureAwait(false) is { } added)
            return added;
        DaxDevice device = await OpenAsync(request.Path).ConfigureAwait(false);
        try
        {
            if (request.Zero)
            {
                await engine.RunAsync(new DevicePreparation(request, device), caller).ConfigureAwait(false);
                // Minutes for a large device, which the engine has not: it beats ten times a second.
                await Task.Run(() => SpaceZeroing.ZeroDevice(device, context.CancellationToken)).ConfigureAwait(false);
            }
            AddDeviceReply reply = await engine.RunAsync(new DeviceAddition(request, device), caller).ConfigureAwait(false);
            // Who creates a file next may have it there, if no mount lacks it.
            mounts.ScanOnce();
            mounts.Refresh(hub.Published.Sequence);
            return reply;
        }
        finally
        {
            if (!DeviceQueries.IsInPool(state, device))
                device.Dispose();
        }
    });

    public override Task<GrantMasterSlotReply> GrantMasterSlot(GrantMasterSlotRequest request, ServerCallContext context) =>
        GuardAsync(() => engine.RunAsync(new MasterSlotGrant(request), CallerIdentity.Of(context)));

    public override Task<SetPolicyReply> SetPolicy(SetPolicyRequest request, ServerCallContext context) => GuardAsync(async () =>
    {
        SetPolicyReply reply = await engine.RunAsync(new PolicyChange(request), CallerIdentity.Of(context)).ConfigureAwait(false);
        mounts.ScanOnce(); // what has registered since the last look is named, too
        reply.Warnings.AddRange(ReplyLimits.Shorten(mounts.FindGaps()));
        if (reply.Reclaim == ReclaimPolicy.Lease)
            reply.Warnings.AddRange(ReplyLimits.Shorten(mounts.FindThoseWithoutLease()));
        return reply;
    });

    public override Task<GetStatusReply> GetStatus(GetStatusRequest request, ServerCallContext context) => GuardAsync(async () =>
    {
        GetStatusReply reply = await engine.QueryAsync(CallerIdentity.Of(context), reader => Describe(reader.State)).ConfigureAwait(false);
        // Of all mounts and devices: not on the engine's thread.
        reply.Warnings.AddRange(ReplyLimits.Shorten(mounts.FindGaps()));
        reply.Warnings.AddRange(ReplyLimits.Shorten([.. StatusQueries.FindMissing(reply, state.Pool)]));
        reply.Warnings.AddRange(ReplyLimits.Shorten([.. mounts.Absences.Select(a => a.ToString())]));
        return reply;
    });

    public override Task<ListHostsReply> ListHosts(ListHostsRequest request, ServerCallContext context) => GuardAsync(async () =>
    {
        Guid after = request.AfterMountId.ToGuid("after_mount_id");
        if (request.HeldLimit > ListedHeldFiles)
            throw new FamfsException(ErrorReason.BadRequest, $"held_limit is {request.HeldLimit}, the limit is {ListedHeldFiles}") { Limit = ListedHeldFiles };
        mounts.ScanOnce();
        Caller caller = CallerIdentity.Of(context);
        LogPosition position = await engine.QueryAsync(caller, reader => reader.Position).ConfigureAwait(false);
        ListHostsReply reply = new() { Position = position.ToMessage() };
        int most = request.HeldLimit > 0 ? ListedHolders : ListedHosts;
        reply.Hosts.AddRange(mounts.Describe(position, after, most, (int)request.HeldLimit, ListedHeldFiles));
        reply.More = reply.Hosts.Count > 0 && mounts.HasAfter(reply.Hosts[^1].MountId.ToGuid("mount id"));
        if (request.HeldLimit > 0)
            await engine.QueryAsync(caller, reader => HeldFileQueries.Complete(reader, reply.Hosts.SelectMany(h => h.HeldFiles), withNames: caller.User is null)).ConfigureAwait(false);
        CallerIdentity.BodyOf(context).Hold((long)reply.CalculateSize() * CallLimits.AnswerPerByte);
        return reply;
    });

    public override Task<EvictHostReply> EvictHost(EvictHostRequest request, ServerCallContext context) => GuardAsync(async () =>
    {
        Caller caller = CallerIdentity.Of(context);
        HostEviction eviction = new(request, caller);
        state.Format.Require("a host table");
        eviction.SetHost(await mounts.RequireStillAsync(eviction.Host, eviction.Mount, context.CancellationToken).ConfigureAwait(false));
        return await engine.RunAsync(eviction, caller).ConfigureAwait(false);
    });

    public override Task<ForgetHostReply> ForgetHost(ForgetHostRequest request, ServerCallContext context) => GuardAsync(async () =>
    {
        Caller caller = CallerIdentity.Of(context);
        HostForgetting forgetting = new(request, caller) { FindStream = mounts.FindStream };
        state.Format.Require("a host table");
        ForgetHostReply reply = await engine.RunAsync(forgetting, caller).ConfigureAwait(false);
        // A mount may have written its line between the look and the record, and have opened files. Its block is kept from others all the
        // same, and it is a mount of a host that everybody knows. A request that is repeated may be of a master that died before this look.
        if (forgetting.Block is { } block && state.Replay.FindBlockOwner(block.Slot) == Guid.Empty && !HostForgetting.IsUntouched(state.Pool, block))
        {
            if (!state.Replay.Hosts.ContainsKey(block.Host))
                await engine.RunAsync(new HostRegistration(new(block.Host, forgetting.Forgotten?.MachineDigest ?? ByteString.Empty, forgetting.Forgotten?.Name ?? ""), info.HostCapacity, _registrations), caller).ConfigureAwait(false);
            throw new FamfsException(ErrorReason.HostConflict, $"host {block.Host} cannot be forgotten: it was mounting, and is registered again");
        }
        if (forgetting.Forgotten is { } host)
            MasterLog.HostForgotten(log, host.Host, host.Name, host.Slot);
        return reply;
    });

    public override Task<BarrierReply> Barrier(BarrierRequest request, ServerCallContext context) => GuardAsync(async () =>
    {
        if (request.MountIds.Count > CallLimits.BarrierMounts)
            throw new FamfsException(ErrorReason.BadRequest, $"mount_ids has {request.MountIds.Count} mounts, the limit is {CallLimits.BarrierMounts}") { Limit = CallLimits.BarrierMounts };
        LogPosition target = await engine.QueryAsync(CallerIdentity.Of(context), reader => request.Position is null ? reader.Position : Positions.Require(reader.State, request.Position)).ConfigureAwait(false);
        List<Guid> named = [.. request.MountIds.Select(m => m.ToGuid("mount id"))];
        mounts.ScanOnce();
        int count = await WaitForMountsAsync(target.Sequence, named, request.TimeoutMs, "not yet seen by: ", context).ConfigureAwait(false);
        // An answer from a master that has been deposed meanwhile would speak for another history.
        await engine.QueryAsync(CallerIdentity.Of(context), _ => true).ConfigureAwait(false);
        return new BarrierReply { Position = target.ToMessage(), MountCount = (uint)count };
    });

    public override Task Subscribe(IAsyncStreamReader<SubscribeRequest> requestStream, IServerStreamWriter<SubscribeReply> responseStream, ServerCallContext context) => GuardAsync(async () =>
    {
        if (!await requestStream.MoveNext(context.CancellationToken).ConfigureAwait(false) || requestStream.Current.MessageCase != SubscribeRequest.MessageOneofCase.Hello)
            throw new FamfsException(ErrorReason.BadRequest, "the first message of a subscription must be Hello");
        // Records name everything, and a mount's word is taken.
        Caller caller = CallerIdentity.Of(context);
        caller.RequireAdministrator("following the log");
        Hello hello = requestStream.Current.Hello;
        if (hello.OlderMounts.Count > CallLimits.OlderMounts)
            throw new FamfsException(ErrorReason.BadRequest, $"older_mounts has {hello.OlderMounts.Count} mounts, the limit is {CallLimits.OlderMounts}") { Limit = CallLimits.OlderMounts };
        // Without a host table there is nothing that could say it in a caller's place, and nothing that it would protect.
        bool known = caller.Kind != CallerKind.Unknown || !state.Format.HasHostTable;
        Guid mount = hello.MountId.ToGuid("mount_id");
        Guid host = hello.HostId.ToGuid("host_id");
        // Kept as long as the stream lasts; what a mount says of its host is judged when it is admitted.
        HostClaim named = mount == Guid.Empty ? new(host, ByteString.Empty, "") : new(host, hello.MachineDigest, Cut(hello.HostName));
        MountClaim claim = new(named, mount, hello.Position ?? new());
        LogPosition from = await WelcomeAsync(hello, claim, known, caller, responseStream, context.CancellationToken).ConfigureAwait(false);
        // Now that it is known to be of this history, whose devices it counts.
        DevicesSaid? devices = hello.MissingDevices is { } missing ? DevicesSaid.Parse(missing, state.Replay.Devices.Length) : null;
        string at = CallerIdentity.AddressOf(context);
        string name = hello.HostName.Length > 0 ? Cut(hello.HostName) : host.ToString();
        bool isSaid = IsStreamSaid(caller);
        if (mount == Guid.Empty)
        {
            if (isSaid)
                MasterLog.ReaderCame(log, at);
        }
        else
        {
            if (isSaid)
                MasterLog.MountCame(log, mount, name, at, hello.MountPoint.Length > 0 ? Cut(hello.MountPoint) : "mount point not known", Cut(hello.Version), Cut(hello.Dialect));
            mounts.Subscribed(mount, host, hello.BootId.ToGuid("boot_id"), Cut(hello.Dialect), Cut(hello.Version), hello.MountPoint, at, known, devices, hello.FollowsGenerations);
        }
        // Nothing of it is kept for as long as the stream lasts.
        hello = new();
        using CancellationTokenSource ended = CancellationTokenSource.CreateLinkedTokenSource(context.CancellationToken);
        // Answers to what the mount asks go between the records.
        using SemaphoreSlim turn = new(1);
        async ValueTask SendAsync(SubscribeReply reply)
        {
            await turn.WaitAsync(context.CancellationToken).ConfigureAwait(false);
            try
            {
                // A write that is cancelled resets the call, and no status could follow: one that has begun ends.
                await patient.WriteAsync(responseStream, reply, context).ConfigureAwait(false);
            }
            finally
            {
                turn.Release();
            }
        }
        Task acknowledging = ReadAcksAsync(requestStream, claim, known, SendAsync, ended, context);
        try
        {
            // A mount reads the memory, which tells it more: whether what it has is still true.
            await hub.RunAsync(from, SendAsync, ended.Token, takesSnapshot: mount == Guid.Empty).ConfigureAwait(false);
        }
        catch (FamfsException error) when (error.Reason == ErrorReason.NotMaster)
        {
            await SendAsync(new() { Goaway = new() { Reason = error.Message, MasterAddress = error.MasterAddress } }).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (!context.CancellationToken.IsCancellationRequested)
        {
            // The reader of acknowledgements ended it; what was wrong with the host's side is thrown below.
        }
        finally
        {
            if (mount != Guid.Empty)
            {
                mounts.Unsubscribed(mount, known);
                if (isSaid)
                    MasterLog.MountWent(log, mount, name);
            }
            else if (isSaid)
            {
                MasterLog.ReaderWent(log, at);
            }
            await ended.CancelAsync().ConfigureAwait(false);
            // It may be writing. What was wrong with it is thrown below.
            await acknowledging.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
        await acknowledging.ConfigureAwait(false);
        return true;
    });

    public override Task<MutationReply> PublishFile(PublishFileRequest request, ServerCallContext context) => throw NotServed("PublishFile", byNative: true);

    public override Task<MakeSymlinkReply> MakeSymlink(MakeSymlinkRequest request, ServerCallContext context) => GuardAsync(async () =>
    {
        RequireWait(request.Wait);
        MakeSymlinkReply reply = await engine.RunAsync(new SymlinkCreation(request), CallerIdentity.Of(context)).ConfigureAwait(false);
        reply.Waited = await WaitAsync(request.Wait, reply.Position, context).ConfigureAwait(false);
        return reply;
    });

    public override Task<MutationReply> Remove(RemoveRequest request, ServerCallContext context) => MutateAsync(new Removal(request), request.Wait, context);

    public override Task<MutationReply> Rename(RenameRequest request, ServerCallContext context) => MutateAsync(new Renaming(request), request.Wait, context);

    public override Task<MutationReply> SetAttributes(SetAttributesRequest request, ServerCallContext context) => MutateAsync(new AttributeChange(request), request.Wait, context);

    public override Task<CompactReply> Compact(CompactRequest request, ServerCallContext context) => GuardAsync(async () =>
    {
        CallerIdentity.Of(context).RequireAdministrator("a compaction");
        state.Format.Require("a compaction of the log");
        // It is not this call's alone, and continues when the caller leaves.
        return await compaction.RunAsync(request.RequestId.ToGuid("request_id")).WaitAsync(context.CancellationToken).ConfigureAwait(false);
    });

    public override Task Check(CheckRequest request, IServerStreamWriter<CheckReply> responseStream, ServerCallContext context) => GuardAsync(async () =>
    {
        CallerIdentity.Of(context).RequireAdministrator("a check");
        if (Interlocked.Exchange(ref _checking, 1) == 1)
            throw new FamfsException(ErrorReason.Overloaded, "a check is running already; one runs at a time") { Limit = 1 };
        try
        {
            // Reads the memory with a reader of its own, beside the engine; what it sees is a prefix.
            Channel<string> phases = Channel.CreateUnbounded<string>();
            Task<CheckResult> checking = Task.Run(() =>
            {
                try
                {
                    return FileSystemCheck.Run(state.Pool, clock, phase => phases.Writer.TryWrite(phase));
                }
                finally
                {
                    phases.Writer.Complete();
                }
            });
            try
            {
                await foreach (string phase in phases.Reader.ReadAllAsync(context.CancellationToken).ConfigureAwait(false))
                    await patient.WriteAsync(responseStream, ProgressOf(phase), context).ConfigureAwait(false);
            }
            finally
            {
                // It cannot be stopped; the next one waits for its end.
                await ((Task)checking).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
            foreach (Finding finding in (await checking.ConfigureAwait(false)).Findings)
            {
                CheckFinding found = new()
                {
                    Severity = finding.Severity == FindingSeverity.Error ? "error" : "warning",
                    Code = finding.Code,
                    Where = finding.Where,
                    What = finding.What,
                };
                await patient.WriteAsync(responseStream, new CheckReply { Finding = found }, context).ConfigureAwait(false);
            }
            await patient.WriteAsync(responseStream, ProgressOf("done"), context).ConfigureAwait(false);
            return true;
        }
        finally
        {
            Volatile.Write(ref _checking, 0);
        }
    });

    /// <summary>Opens a device beside the engine: whoever follows a path below a mount that does not answer waits for ever.</summary>
    private async Task<DaxDevice> OpenAsync(string path)
    {
        if (Interlocked.Increment(ref _opening) > OpeningDevices)
        {
            Interlocked.Decrement(ref _opening);
            throw new FamfsException(ErrorReason.Overloaded, $"{OpeningDevices} devices are being opened, the limit") { Limit = OpeningDevices };
        }
        return await Task.Factory.StartNew(Open, CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default).ConfigureAwait(false);

        DaxDevice Open()
        {
            try
            {
                return places.Open(path);
            }
            finally
            {
                Interlocked.Decrement(ref _opening);
            }
        }
    }

    // The engine's thread.
    private GetStatusReply Describe(MasterState of)
    {
        GetStatusReply reply = StatusQueries.Describe(of);
        reply.Slot = (uint)engine.Term.Slot;
        reply.MasterId = info.Master.ToByteString();
        reply.HostId = info.Host.Host.ToByteString();
        reply.Address = info.Address;
        reply.Version = info.Version;
        reply.LogBytes = (ulong)engine.LogBytes;
        reply.SegmentCount = (uint)engine.SegmentCount;
        reply.UptimeMs = (ulong)clock.GetElapsedTime(info.StartedTimestamp).TotalMilliseconds;
        reply.SubscriberCount = (uint)hub.LiveCount;
        return reply;
    }

    /// <summary>Whether the log has an entry when a stream of this caller comes, and one when it goes.</summary>
    private bool IsStreamSaid(Caller caller)
    {
        if (caller is { Kind: CallerKind.Certificate } or { IsPrivileged: true })
            return true;
        bool may = _streamEntries.May(out long leftOut);
        if (leftOut > 0)
            MasterLog.StreamsLeftOut(log, leftOut);
        return may;
    }

    private static string Cut(string text) => text.Length > CallLimits.HelloText ? text[..CallLimits.HelloText] : text;

    private static CheckReply ProgressOf(string phase) => new() { Progress = new() { Phase = phase } };

    /// <summary>The refusal of a call. <paramref name="byNative"/>: the native format can express it, others never.</summary>
    private RpcException NotServed(string method, bool byNative = false) =>
        StatusMap.ToRpc(byNative && state.Format.FindRefusal(method) is { } refusal
            ? refusal
            : new FamfsException(ErrorReason.NotImplemented, $"{method} is not served by this version"));

    private static string? PathOrNull(bool byInode, string path) => byInode ? null : path;

    private async Task<T> GuardAsync<T>(Func<Task<T>> call, [CallerMemberName] string method = "")
    {
        try
        {
            role.RequireActive();
            return await call().ConfigureAwait(false);
        }
        catch (Exception error)
        {
            refusals.Count(method, error);
            throw StatusMap.ToRpc(error);
        }
    }

    private Task<MutationReply> MutateAsync(Change<MutationReply> change, Wait? wait, ServerCallContext context, [CallerMemberName] string method = "") => GuardAsync(async () =>
    {
        RequireWait(wait);
        MutationReply reply = await engine.RunAsync(change, CallerIdentity.Of(context)).ConfigureAwait(false);
        reply.Waited = await WaitAsync(wait, reply.Position, context).ConfigureAwait(false);
        return reply;
    }, method);

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
                mounts.ScanOnce();
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
            return await mounts.WaitAsync(sequence, named, ending.Token, CallerIdentity.Of(context).Name).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (!context.CancellationToken.IsCancellationRequested)
        {
            HashSet<Guid> missing = mounts.Missing(sequence, named);
            List<HostStatus> lagging = [.. mounts.Describe(hub.Published).Where(h => missing.Contains(h.MountId.ToGuid("mount id"))).Take(ReplyLimits.ListedItems)];
            throw new FamfsException(ErrorReason.Timeout, what + ReplyLimits.Name(missing, lagging)) { Lagging = lagging, LaggingCount = missing.Count };
        }
    }

    private async Task<LogPosition> WelcomeAsync(Hello hello, MountClaim claim, bool known, Caller caller, IServerStreamWriter<SubscribeReply> responses, CancellationToken cancel)
    {
        // What the lines say is needed to believe a host about its older mounts; a thousand hosts that come back at once have none.
        // A caller that is not known is not believed: its host ends their lines itself.
        bool believed = known && hello.OlderMounts.Count > 0;
        if (believed)
            mounts.ScanOnce();
        IReadOnlyList<MountEnd> ends = believed ? GoneMounts.Accept(claim.Host.Host, hello.OlderMounts, mounts) : [];
        (int slot, LogPosition position) = await engine.RunAsync(new MountAdmission(claim, ends), caller).ConfigureAwait(false);
        await responses.WriteAsync(new SubscribeReply
        {
            Welcome = new()
            {
                Position = position.ToMessage(),
                HostSlot = (uint)Math.Max(slot, 0),
                Registered = slot >= 0,
                MasterId = info.Master.ToByteString(),
                Address = info.Address,
                LinesCount = !known,
                TakesWritten = state.Format.HasTimes,
                TakesReleased = known && state.Format.HasHostTable,
            },
        }, cancel).ConfigureAwait(false);
        return position with { Sequence = new(claim.Position.Sequence), Term = new(claim.Position.Term) };
    }

    /// <summary>Registers a mount's host, or says why not. A mount that gets no block goes on listening.</summary>
    private async Task<SubscribeReply> RegisterAsync(HostClaim host, Caller caller)
    {
        Registration registration = new();
        try
        {
            registration.HostSlot = (uint)await engine.RunAsync(new HostRegistration(host, info.HostCapacity, _registrations), caller).ConfigureAwait(false);
        }
        catch (FamfsException error) when (error.Reason is not ErrorReason.NotMaster)
        {
            registration.Refusal = ErrorDetails.Of(error);
        }
        return new() { Registration = registration };
    }

    /// <summary>Records what a mount's programs have written, or says why not. A mount without a line has opened nothing.</summary>
    private async Task<SubscribeReply> RecordWrittenAsync(MountClaim claim, Written written, Caller caller)
    {
        WrittenAnswer answer = new();
        try
        {
            if (!mounts.HasLine(claim.Mount, claim.Host.Host))
                throw new FamfsException(ErrorReason.NotPermitted, $"mount {claim.Mount} has no line in the host table, so it has written nothing");
            answer.Sequence = await engine.RunAsync(new FilesWrittenChange(claim.Mount, written, _written), caller).ConfigureAwait(false);
        }
        catch (FamfsException error) when (error.Reason is not (ErrorReason.NotMaster or ErrorReason.BadRequest))
        {
            answer.Refusal = ErrorDetails.Of(error);
        }
        return new() { WrittenAnswer = answer };
    }

    /// <summary>What a mount says that it has released. Of a caller that is not known only its line counts (SAFETY S28).</summary>
    private void TakeReleased(MountClaim claim, Released released, bool known)
    {
        Position watermark = released.Watermark ?? new();
        // What was not published cannot have been released; counting it would give away what is deleted later.
        Positions.RequireInHistory(state, watermark, hub.Published);
        if (released.HeldInodes.Count > CallLimits.HeldInodes)
            throw new FamfsException(ErrorReason.BadRequest, $"held_inodes has {released.HeldInodes.Count} inodes, the limit is {CallLimits.HeldInodes}") { Limit = CallLimits.HeldInodes };
        if (known)
            mounts.SaidReleased(claim.Mount, claim.Host.Host, new(watermark.Sequence), [.. released.HeldInodes.Select(inode => new InodeNumber(inode))]);
    }

    /// <summary>Counts acknowledgements until the caller's side of the stream is closed or <paramref name="ended"/>. What is wrong
    /// with one ends the subscription; a caller that closes its side has no more to say, and goes on listening.</summary>
    private async Task ReadAcksAsync(
        IAsyncStreamReader<SubscribeRequest> requests, MountClaim claim, bool known, Func<SubscribeReply, ValueTask> send, CancellationTokenSource ended, ServerCallContext context)
    {
        Guid mount = claim.Mount;
        MeteredBody body = CallerIdentity.BodyOf(context);
        CallBudget.Connection budget = CallerIdentity.BudgetOf(context);
        try
        {
            // The library keeps the Hello until an Ack comes, and so does its charge.
            while (await requests.MoveNext(ended.Token).ConfigureAwait(false))
            {
                budget.Return(body.TakeCharge());
                if (requests.Current.MessageCase == SubscribeRequest.MessageOneofCase.Register && mount != Guid.Empty)
                {
                    await send(await RegisterAsync(claim.Host, CallerIdentity.Of(context)).ConfigureAwait(false)).ConfigureAwait(false);
                    continue;
                }
                if (requests.Current.MessageCase == SubscribeRequest.MessageOneofCase.Written && mount != Guid.Empty)
                {
                    Written written = requests.Current.Written;
                    Positions.RequireInHistory(state, written.Position ?? new(), hub.Published);
                    await send(await RecordWrittenAsync(claim, written, CallerIdentity.Of(context)).ConfigureAwait(false)).ConfigureAwait(false);
                    continue;
                }
                if (requests.Current.MessageCase == SubscribeRequest.MessageOneofCase.Released && mount != Guid.Empty)
                {
                    TakeReleased(claim, requests.Current.Released, known);
                    continue;
                }
                if (requests.Current.MessageCase != SubscribeRequest.MessageOneofCase.Ack)
                    throw new FamfsException(ErrorReason.BadRequest, "only Ack, and Register, Written and Released of a mount, may follow Hello");
                Position position = requests.Current.Ack.Position ?? new();
                // What is not in the log cannot have been replayed; counting it would end waits too early.
                Positions.RequireInHistory(state, position, hub.Published);
                if (mount != Guid.Empty && requests.Current.Ack.MissingDevices is { } missing)
                    mounts.SaidDevices(mount, claim.Host.Host, DevicesSaid.Parse(missing, state.Replay.Devices.Length));
                if (mount != Guid.Empty && !known)
                    await mounts.HintedAsync(claim.Host.Host).ConfigureAwait(false);
                else if (mount != Guid.Empty)
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

/// <summary>A directory that is being listed, and how far.</summary>
internal readonly record struct Listing(InodeNumber Directory, string Path, ulong Cookie, InodeNumber Hint)
{
    /// <summary>What it is charged.</summary>
    public long Bytes => 128 + (2L * Path.Length);
}

/// <summary>What does not change while a master runs.</summary>
internal sealed record MasterInfo(Guid Master, HostIdentity Host, string Address, string Version, long StartedTimestamp, int HostCapacity);
