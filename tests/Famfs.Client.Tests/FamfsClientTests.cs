using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using Famfs.Core;
using Famfs.Core.Format;
using Famfs.ScriptedMaster;
using Famfs.V1;
using Google.Protobuf;
using Grpc.Core;

namespace Famfs.Client.Tests;

public sealed class FamfsClientTests
{
    private static readonly TimeSpan s_long = TimeSpan.FromMinutes(1);

    [Fact]
    public async Task Unavailable_is_repeated_with_the_same_request_id()
    {
        ConcurrentQueue<ByteString> ids = new();
        await using FakeMaster master = await FakeMaster.StartAsync(new()
        {
            CreateFile = (request, _) =>
            {
                ids.Enqueue(request.RequestId);
                return ids.Count < 4 ? throw new RpcException(new Status(StatusCode.Unavailable, "starting")) : FakeMaster.Reply(request);
            },
        });
        using FamfsClient client = ClientOf(master.Address);

        CreateFileReply reply = await client.CreateFileAsync(new CreateFileRequest { Path = "a" }, s_long, TestContext.Current.CancellationToken);

        Assert.Equal("a", reply.File.Path);
        Assert.Equal(4, ids.Count);
        ByteString id = Assert.Single(ids.Distinct());
        Assert.Equal(16, id.Length);
        Assert.Equal(7, id[6] >> 4);
    }

    [Fact]
    public async Task One_message_used_twice_is_two_requests_and_is_not_changed()
    {
        ConcurrentQueue<ByteString> ids = new();
        await using FakeMaster master = await FakeMaster.StartAsync(new()
        {
            CreateFile = (request, _) =>
            {
                ids.Enqueue(request.RequestId);
                return FakeMaster.Reply(request);
            },
        });
        using FamfsClient client = ClientOf(master.Address);
        CreateFileRequest request = new() { Path = "a" };

        await client.CreateFileAsync(request, s_long, TestContext.Current.CancellationToken);
        await client.CreateFileAsync(request, s_long, TestContext.Current.CancellationToken);

        Assert.Equal(2, ids.Distinct().Count());
        Assert.True(request.RequestId.IsEmpty);
    }

    [Fact]
    public async Task The_callers_own_request_id_is_kept()
    {
        ByteString? seen = null;
        await using FakeMaster master = await FakeMaster.StartAsync(new()
        {
            CreateFile = (request, _) =>
            {
                seen = request.RequestId;
                return FakeMaster.Reply(request);
            },
        });
        using FamfsClient client = ClientOf(master.Address);
        ByteString id = FamfsClient.NewRequestId(TimeProvider.System);

        await client.CreateFileAsync(new CreateFileRequest { Path = "a", RequestId = id }, s_long, TestContext.Current.CancellationToken);

        Assert.Equal(id, seen);
    }

    [Fact]
    public async Task An_id_refused_for_its_time_is_replaced_by_one_of_the_masters_time_and_the_next_fits_at_once()
    {
        ConcurrentQueue<ByteString> ids = new();
        await using FakeMaster master = await FakeMaster.StartAsync(new()
        {
            CreateFile = (request, _) =>
            {
                ids.Enqueue(request.RequestId);
                return Untimely.Of(request.RequestId) is { } late ? throw FakeMaster.Error(StatusCode.InvalidArgument, late) : FakeMaster.Reply(request);
            },
        });
        using FamfsClient client = ClientOf(master.Address);

        await client.CreateFileAsync(new CreateFileRequest { Path = "a" }, s_long, TestContext.Current.CancellationToken);
        await client.CreateFileAsync(new CreateFileRequest { Path = "b" }, s_long, TestContext.Current.CancellationToken);

        Assert.Equal([true, false, false], ids.Select(id => Untimely.Of(id) is not null));
        Assert.Equal(3, ids.Distinct().Count());
    }

    [Fact]
    public async Task An_id_that_was_sent_and_not_answered_is_never_replaced()
    {
        ConcurrentQueue<ByteString> ids = new();
        await using FakeMaster master = await FakeMaster.StartAsync(new()
        {
            CreateFile = (request, _) =>
            {
                ids.Enqueue(request.RequestId);
                throw ids.Count == 1 ? new RpcException(new Status(StatusCode.Unavailable, "dies")) : FakeMaster.Error(StatusCode.InvalidArgument, Untimely.Of(request.RequestId)!);
            },
        });
        using FamfsClient client = ClientOf(master.Address);

        FamfsException e = await Assert.ThrowsAsync<FamfsException>(() => client.CreateFileAsync(new CreateFileRequest { Path = "a" }, s_long, TestContext.Current.CancellationToken));

        Assert.Equal(ErrorReason.Unspecified, e.Reason);
        Assert.StartsWith("perhaps made", e.Message, StringComparison.Ordinal);
        Assert.Equal(2, ids.Count);
        Assert.Single(ids.Distinct());
    }

    [Fact]
    public async Task The_callers_own_id_is_not_replaced_when_it_is_refused_for_its_time()
    {
        int calls = 0;
        await using FakeMaster master = await FakeMaster.StartAsync(new()
        {
            CreateFile = (request, _) =>
            {
                calls++;
                throw FakeMaster.Error(StatusCode.InvalidArgument, Untimely.Of(request.RequestId)!);
            },
        });
        using FamfsClient client = ClientOf(master.Address);
        CreateFileRequest request = new() { Path = "a", RequestId = FamfsClient.NewRequestId(TimeProvider.System) };

        FamfsException e = await Assert.ThrowsAsync<FamfsException>(() => client.CreateFileAsync(request, s_long, TestContext.Current.CancellationToken));

        Assert.Equal((ErrorReason.BadRequest, 1), (e.Reason, calls));
        Assert.NotEqual(0u, e.MasterTimeMs);
    }

    [Fact]
    public async Task A_standby_is_left_for_the_master_it_names_with_the_same_request_id()
    {
        ConcurrentQueue<ByteString> ids = new();
        await using FakeMaster master = await FakeMaster.StartAsync(new()
        {
            CreateFile = (request, _) =>
            {
                ids.Enqueue(request.RequestId);
                return FakeMaster.Reply(request);
            },
        });
        await using FakeMaster standby = await FakeMaster.StartAsync(new()
        {
            CreateFile = (request, _) =>
            {
                ids.Enqueue(request.RequestId);
                throw FakeMaster.Error(StatusCode.FailedPrecondition, new() { Reason = ErrorReason.NotMaster, MasterAddress = master.Address });
            },
        });
        using FamfsClient client = ClientOf(standby.Address);

        await client.CreateFileAsync(new CreateFileRequest { Path = "a" }, s_long, TestContext.Current.CancellationToken);

        Assert.Equal(2, ids.Count);
        Assert.Single(ids.Distinct());
        Assert.Equal(master.Address, client.CurrentAddress);
    }

    [Fact]
    public async Task The_next_address_is_tried_when_nobody_answers_at_the_first()
    {
        await using FakeMaster master = await FakeMaster.StartAsync(new() { CreateFile = (request, _) => FakeMaster.Reply(request) });
        using FamfsClient client = ClientOf("unix:/nowhere/at/all", master.Address);

        CreateFileReply reply = await client.CreateFileAsync(new CreateFileRequest { Path = "a" }, s_long, TestContext.Current.CancellationToken);

        Assert.Equal("a", reply.File.Path);
    }

    [Fact]
    public async Task A_deposed_master_that_knows_no_other_is_left_for_the_next_address()
    {
        await using FakeMaster master = await FakeMaster.StartAsync(new() { CreateFile = (request, _) => FakeMaster.Reply(request) });
        await using FakeMaster deposed = await FakeMaster.StartAsync(new()
        {
            CreateFile = (_, _) => throw FakeMaster.Error(StatusCode.FailedPrecondition, new() { Reason = ErrorReason.NotMaster }),
        });
        using FamfsClient client = ClientOf(deposed.Address, master.Address);

        CreateFileReply reply = await client.CreateFileAsync(new CreateFileRequest { Path = "a" }, s_long, TestContext.Current.CancellationToken);

        Assert.Equal("a", reply.File.Path);
    }

    [Fact]
    public async Task Without_any_master_the_call_ends_at_its_deadline_and_says_where_it_looked()
    {
        using FamfsClient client = ClientOf("unix:/nowhere/at/all", "unix:/nowhere/else");

        FamfsException e = await Assert.ThrowsAsync<FamfsException>(() => client.GetStatusAsync(TimeSpan.FromSeconds(3), TestContext.Current.CancellationToken));

        Assert.Equal(ErrorReason.NotMaster, e.Reason);
        Assert.Contains("unix:/nowhere/at/all, unix:/nowhere/else", e.Message, StringComparison.Ordinal);
        Assert.Contains("3 s", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_master_that_does_not_answer_is_a_timeout()
    {
        await using FakeMaster master = await FakeMaster.StartAsync(new() { Unary = async (_, context) => { await Task.Delay(Timeout.Infinite, context.CancellationToken); return new GetStatusReply(); } });
        using FamfsClient client = ClientOf(master.Address);

        FamfsException e = await Assert.ThrowsAsync<FamfsException>(() => client.GetStatusAsync(TimeSpan.FromMilliseconds(200), TestContext.Current.CancellationToken));

        Assert.Equal(ErrorReason.Timeout, e.Reason);
    }

    [Fact]
    public async Task Every_call_carries_a_deadline()
    {
        DateTime deadline = DateTime.MaxValue;
        await using FakeMaster master = await FakeMaster.StartAsync(new()
        {
            Unary = (_, context) =>
            {
                deadline = context.Deadline;
                return Task.FromResult<IMessage>(new GetStatusReply());
            },
        });
        using FamfsClient client = ClientOf(master.Address);

        await client.GetStatusAsync(cancel: TestContext.Current.CancellationToken);

        Assert.True(deadline < DateTime.UtcNow + FamfsClientOptions.DefaultTimeout + TimeSpan.FromSeconds(1));
    }

    [Fact]
    public async Task A_callers_cancellation_is_no_error_of_the_domain()
    {
        TaskCompletionSource arrived = new(TaskCreationOptions.RunContinuationsAsynchronously);
        await using FakeMaster master = await FakeMaster.StartAsync(new()
        {
            Unary = async (_, context) =>
            {
                arrived.SetResult();
                await Task.Delay(Timeout.Infinite, context.CancellationToken);
                return new GetStatusReply();
            },
        });
        using FamfsClient client = ClientOf(master.Address);
        using CancellationTokenSource cancel = new();

        Task call = client.GetStatusAsync(s_long, cancel.Token);
        await arrived.Task.WaitAsync(s_long, TestContext.Current.CancellationToken);
        await cancel.CancelAsync();

        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => call);
    }

    [Fact]
    public async Task The_detail_of_an_error_arrives_whole_and_ends_the_call_at_once()
    {
        int calls = 0;
        await using FakeMaster master = await FakeMaster.StartAsync(new()
        {
            CreateFile = (request, _) =>
            {
                calls++;
                throw FakeMaster.Error(StatusCode.ResourceExhausted, new() { Reason = ErrorReason.NoSpace, Path = request.Path, Limit = 4096, Message = "a: no run of that size", Lagging = { new HostStatus { Name = "slow" } }, LaggingCount = 17 });
            },
        });
        using FamfsClient client = ClientOf(master.Address);

        FamfsException e = await Assert.ThrowsAsync<FamfsException>(() => client.CreateFileAsync(new CreateFileRequest { Path = "a" }, s_long, TestContext.Current.CancellationToken));

        Assert.Equal((ErrorReason.NoSpace, "a", 4096UL, "a: no run of that size"), (e.Reason, e.Path, e.Limit, e.Message));
        Assert.Equal(("slow", 17), (Assert.Single(e.Lagging).Name, e.LaggingCount));
        Assert.Equal(4096UL, FamfsClient.DetailOf(e)!.Limit);
        Assert.Equal(1, calls);
    }

    [Fact]
    public async Task A_connection_that_is_not_made_in_time_is_tried_again()
    {
        // Nobody accepts, and the queue is full: the kernel drops what asks for a connection.
        using Socket deaf = new(SocketType.Stream, ProtocolType.Tcp);
        deaf.Bind(new IPEndPoint(IPAddress.IPv6Loopback, 0));
        deaf.Listen(1);
        List<Socket> waiting = [];
        try
        {
            for (int i = 0; i < 8; i++)
            {
                waiting.Add(new(SocketType.Stream, ProtocolType.Tcp));
                _ = waiting[^1].ConnectAsync(deaf.LocalEndPoint!, TestContext.Current.CancellationToken).AsTask().ContinueWith(t => t.Exception, TaskScheduler.Default);
            }
            using FamfsClient client = new(new FamfsClientOptions
            {
                Addresses = [$"http://[::1]:{((IPEndPoint)deaf.LocalEndPoint!).Port}"],
                Timeout = TimeSpan.FromSeconds(3),
                ConnectTimeout = TimeSpan.FromMilliseconds(200),
            });
            FamfsException e = await Assert.ThrowsAsync<FamfsException>(() => client.GetStatusAsync(cancel: TestContext.Current.CancellationToken));
            Assert.Equal(ErrorReason.NotMaster, e.Reason);
            Assert.Contains("within 3 s", e.Message, StringComparison.Ordinal);
        }
        finally
        {
            waiting.ForEach(s => s.Dispose());
        }
    }

    [Fact]
    public async Task An_address_that_accepts_and_does_not_answer_is_left()
    {
        await using FakeMaster master = await FakeMaster.StartAsync(new() { CreateFile = (request, _) => FakeMaster.Reply(request) });
        // The kernel takes the connection, as it does for a process that is stopped.
        using Socket mute = new(SocketType.Stream, ProtocolType.Tcp);
        mute.Bind(new IPEndPoint(IPAddress.IPv6Loopback, 0));
        mute.Listen(8);
        using FamfsClient client = ClientOf($"http://[::1]:{((IPEndPoint)mute.LocalEndPoint!).Port}", master.Address);

        CreateFileReply reply = await client.CreateFileAsync(new CreateFileRequest { Path = "a" }, s_long, TestContext.Current.CancellationToken);

        Assert.Equal("a", reply.File.Path);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Where_a_master_is_newly_said_to_be_is_tried_when_it_serves_the_file_system(bool right)
    {
        Guid fileSystem = Guid.NewGuid();
        int made = 0;
        await using FakeMaster moved = await FakeMaster.StartAsync(new()
        {
            Unary = (_, _) => Task.FromResult<IMessage>(new GetStatusReply { FileSystemUuid = (right ? fileSystem : Guid.NewGuid()).ToByteString() }),
            CreateFile = (request, _) =>
            {
                made++;
                return FakeMaster.Reply(request);
            },
        });
        using FamfsClient client = new(new FamfsClientOptions
        {
            Addresses = ["unix:/nowhere"],
            FindMaster = () => moved.Address,
            FileSystem = fileSystem,
            RetryDelay = TimeSpan.FromMilliseconds(1),
        });
        Task<CreateFileReply> call = client.CreateFileAsync(new CreateFileRequest { Path = "a" }, right ? s_long : TimeSpan.FromSeconds(2), TestContext.Current.CancellationToken);
        if (right)
            Assert.Equal("a", (await call).File.Path);
        else
            Assert.Equal(ErrorReason.WrongFilesystem, (await Assert.ThrowsAsync<FamfsException>(() => call)).Reason);
        Assert.Equal(right ? 1 : 0, made);
    }

    [Fact]
    public async Task A_wait_is_given_less_time_than_its_call_and_the_callers_message_is_not_changed()
    {
        (uint Ms, TimeSpan Left) seen = default;
        await using FakeMaster master = await FakeMaster.StartAsync(new()
        {
            CreateFile = (request, context) =>
            {
                seen = (request.Wait.TimeoutMs, context.Deadline - DateTime.UtcNow);
                return FakeMaster.Reply(request);
            },
        });
        using FamfsClient client = ClientOf(master.Address);
        CreateFileRequest request = new() { Path = "a", RequestId = FamfsClient.NewRequestId(TimeProvider.System), Wait = new() { Kind = WaitKind.All } };

        await client.CreateFileAsync(request, s_long, TestContext.Current.CancellationToken);

        Assert.InRange(seen.Ms, 1u, (uint)s_long.TotalMilliseconds);
        Assert.True(seen.Left.TotalMilliseconds > seen.Ms, $"{seen}");
        Assert.Equal(0u, request.Wait.TimeoutMs);
    }

    [Fact]
    public void A_socket_that_may_not_be_used_is_not_tried_again()
    {
        HttpRequestException cause = new("connecting failed", new SocketException((int)SocketError.AccessDenied));
        CallFailure failure = RpcErrors.Judge(new RpcException(new Status(StatusCode.Unavailable, "x", cause)), "unix:/there");

        Assert.False(failure.Repeatable);
        Assert.Equal((ErrorReason.ReadOnly, "no master answers at unix:/there: Permission denied"), (failure.Error.Reason, failure.Error.Message));
    }

    [Fact]
    public async Task A_missing_device_is_unavailable_but_not_repeated()
    {
        int calls = 0;
        await using FakeMaster master = await FakeMaster.StartAsync(new()
        {
            Unary = (_, _) =>
            {
                calls++;
                throw FakeMaster.Error(StatusCode.Unavailable, new() { Reason = ErrorReason.DeviceMissing, Message = "device 1: missing" });
            },
        });
        using FamfsClient client = ClientOf(master.Address);

        FamfsException e = await Assert.ThrowsAsync<FamfsException>(() => client.GetStatusAsync(s_long, TestContext.Current.CancellationToken));

        Assert.Equal(ErrorReason.DeviceMissing, e.Reason);
        Assert.Equal(1, calls);
    }

    [Theory]
    [InlineData(StatusCode.NotFound, ErrorReason.NotFound)]
    [InlineData(StatusCode.AlreadyExists, ErrorReason.Exists)]
    [InlineData(StatusCode.InvalidArgument, ErrorReason.BadRequest)]
    [InlineData(StatusCode.OutOfRange, ErrorReason.BadRequest)]
    [InlineData(StatusCode.Unimplemented, ErrorReason.NotImplemented)]
    [InlineData(StatusCode.DataLoss, ErrorReason.MediaCorrupt)]
    [InlineData(StatusCode.ResourceExhausted, ErrorReason.Overloaded)]
    [InlineData(StatusCode.PermissionDenied, ErrorReason.NotPermitted)]
    [InlineData(StatusCode.Unauthenticated, ErrorReason.NotPermitted)]
    [InlineData(StatusCode.DeadlineExceeded, ErrorReason.Timeout)]
    [InlineData(StatusCode.Unavailable, ErrorReason.NotMaster)]
    [InlineData(StatusCode.Internal, ErrorReason.Unspecified)]
    [InlineData(StatusCode.Unknown, ErrorReason.Unspecified)]
    [InlineData(StatusCode.FailedPrecondition, ErrorReason.Unspecified)]
    [InlineData(StatusCode.Aborted, ErrorReason.Unspecified)]
    public void A_status_without_detail_still_has_a_reason(StatusCode status, ErrorReason reason)
    {
        CallFailure failure = RpcErrors.Judge(new RpcException(new Status(status, "two\nlines")), "http://there:1");

        Assert.Equal(reason, failure.Error.Reason);
        Assert.DoesNotContain('\n', failure.Error.Message);
        Assert.Equal(status == StatusCode.Unavailable, failure.Repeatable);
    }

    [Fact]
    public void A_detail_that_cannot_be_read_leaves_the_status()
    {
        RpcException e = new(new Status(StatusCode.NotFound, "gone"), new Metadata { { "famfs-error-bin", new byte[] { 0xFF, 0xFF } } });

        Assert.Equal(ErrorReason.NotFound, RpcErrors.Judge(e, "x").Error.Reason);
    }

    [Fact]
    public void Standbys_that_name_each_other_are_not_asked_without_pause()
    {
        CallRetries retries = RetriesOf(out MasterConnections connections);
        using MasterConnections owned = connections;
        CallProgress progress = new(TimeProvider.System.GetTimestamp(), s_long);
        RepeatableException redirected = new(new(new(ErrorReason.NotMaster, "x"), true, false, 0), redirected: true);

        Assert.Equal([TimeSpan.Zero, TimeSpan.Zero], [retries.NextDelay(progress, redirected), retries.NextDelay(progress, redirected)]);
        Assert.True(retries.NextDelay(progress, redirected) > TimeSpan.Zero);
    }

    [Fact]
    public void Pauses_grow_to_their_limit_and_never_reach_past_the_deadline()
    {
        CallRetries retries = RetriesOf(out MasterConnections connections);
        using MasterConnections owned = connections;
        RepeatableException failure = new(new(new(ErrorReason.NotMaster, "x"), true, true, 0), redirected: false);
        CallProgress progress = new(TimeProvider.System.GetTimestamp(), TimeSpan.FromHours(1));

        double[] pauses = [.. Enumerable.Range(0, 12).Select(_ => retries.NextDelay(progress, failure).TotalMilliseconds)];

        Assert.Equal([10, 20, 40, 80], pauses[..4]);
        Assert.Equal(500, pauses[^1]);
        CallProgress late = new(TimeProvider.System.GetTimestamp(), TimeSpan.FromMilliseconds(5)) { Failures = 10 };
        Assert.True(retries.NextDelay(late, failure) <= TimeSpan.FromMilliseconds(5));
    }

    [Fact]
    public void A_master_that_asks_for_a_pause_gets_it()
    {
        CallRetries retries = RetriesOf(out MasterConnections connections);
        using MasterConnections owned = connections;
        CallProgress progress = new(TimeProvider.System.GetTimestamp(), TimeSpan.FromHours(1));
        RepeatableException busy = new(new(new(ErrorReason.Overloaded, "x"), true, false, 1500), redirected: false);

        Assert.Equal(TimeSpan.FromMilliseconds(1500), retries.NextDelay(progress, busy));
    }

    [Theory]
    [InlineData("")]
    [InlineData("nonsense")]
    [InlineData("ftp://x")]
    [InlineData("unix:")]
    [InlineData("unix:relative")]
    [InlineData("http://")]
    public void What_is_no_address_is_refused(string address)
    {
        FamfsException e = Assert.Throws<FamfsException>(() => new FamfsClient(address));
        Assert.Equal(ErrorReason.BadRequest, e.Reason);
    }

    [Fact]
    public async Task A_redirection_to_nonsense_is_not_followed()
    {
        int calls = 0;
        await using FakeMaster master = await FakeMaster.StartAsync(new()
        {
            CreateFile = (request, _) => ++calls == 1
                ? throw FakeMaster.Error(StatusCode.FailedPrecondition, new() { Reason = ErrorReason.NotMaster, MasterAddress = "not an address" })
                : FakeMaster.Reply(request),
        });
        using FamfsClient client = ClientOf(master.Address);

        await client.CreateFileAsync(new CreateFileRequest { Path = "a" }, s_long, TestContext.Current.CancellationToken);

        Assert.Equal(2, calls);
    }

    [Fact]
    public async Task A_listing_is_repeated_until_its_first_message_only()
    {
        int calls = 0;
        await using FakeMaster master = await FakeMaster.StartAsync(new()
        {
            ListDirectory = async (_, stream) =>
            {
                if (++calls == 1)
                    throw new RpcException(new Status(StatusCode.Unavailable, "starting"));
                await stream.WriteAsync(new ListDirectoryReply { Entries = { new V1.FileInfo { Path = "a" }, new V1.FileInfo { Path = "b" } } });
                throw new RpcException(new Status(StatusCode.Unavailable, "stopping"));
            },
        });
        using FamfsClient client = ClientOf(master.Address);
        List<string> seen = [];

        FamfsException e = await Assert.ThrowsAsync<FamfsException>(async () =>
        {
            await foreach (V1.FileInfo entry in client.ListDirectoryAsync(new ListDirectoryRequest(), s_long, TestContext.Current.CancellationToken))
                seen.Add(entry.Path);
        });

        Assert.Equal(ErrorReason.NotMaster, e.Reason);
        Assert.Equal(["a", "b"], seen);
        Assert.Equal(2, calls);
    }

    internal static FamfsClient ClientOf(params string[] addresses) =>
        new(new FamfsClientOptions { Addresses = addresses, RetryDelay = TimeSpan.FromMilliseconds(1), MaxRetryDelay = TimeSpan.FromMilliseconds(20) });

    private static CallRetries RetriesOf(out MasterConnections connections)
    {
        FamfsClientOptions options = new() { Addresses = ["unix:/nowhere"], Jitter = () => 0 };
        connections = new(options);
        return new(options, connections);
    }
}
