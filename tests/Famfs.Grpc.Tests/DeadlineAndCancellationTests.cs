using Famfs.Testing.Rpc;
using Google.Protobuf;
using Grpc.Core;
using Grpc.Net.Client;
using Xunit;

namespace Famfs.Grpc.Tests;

public class DeadlineAndCancellationTests
{
    private static DateTime Soon => DateTime.UtcNow.AddMilliseconds(150);

    [Fact]
    public async Task Deadline_reaches_the_handler()
    {
        await using TestServer server = await TestServer.StartAsync();
        DateTime seen = default;
        server.Service.OnUnary = (ask, context) =>
        {
            seen = context.Deadline;
            return Task.FromResult(ScriptedService.Echo(ask));
        };
        DateTime deadline = DateTime.UtcNow.AddHours(5);
        await server.CreateClient().UnaryAsync(new Ask(), deadline: deadline);
        Assert.InRange(seen, deadline.AddMinutes(-1), deadline.AddMinutes(1));
    }

    [Fact]
    public async Task A_connection_that_is_not_made_in_time_means_that_nobody_was_reached()
    {
        using SocketsHttpHandler handler = new()
        {
            ConnectTimeout = TimeSpan.FromMilliseconds(50),
            ConnectCallback = async (_, cancel) =>
            {
                await Task.Delay(Timeout.Infinite, cancel);
                return Stream.Null;
            },
        };
        using GrpcChannel channel = GrpcChannel.ForAddress("http://localhost", new() { HttpHandler = handler });
        RpcException error = await Assert.ThrowsAsync<RpcException>(async () => await new Scripted.ScriptedClient(channel).UnaryAsync(new Ask()));
        Assert.Equal(StatusCode.Unavailable, error.StatusCode);
    }

    [Fact]
    public async Task Deadline_ends_every_kind_of_call_on_the_client()
    {
        // This server knows no deadlines, so the client is on its own.
        await using TestServer server = await TestServer.StartRawAsync(async http =>
        {
            http.Response.ContentType = "application/grpc";
            await http.Response.StartAsync();
            await http.Response.Body.FlushAsync();
            await Task.Delay(Timeout.Infinite, http.RequestAborted).ContinueWith(_ => { }, TaskScheduler.Default);
        });
        Scripted.ScriptedClient client = server.CreateClient();

        await AssertDeadline(client.UnaryAsync(new Ask(), deadline: Soon).ResponseAsync);
        using AsyncClientStreamingCall<Ask, Answer> clientStream = client.ClientStream(deadline: Soon);
        await AssertDeadline(clientStream.ResponseAsync);
        await Assert.ThrowsAsync<RpcException>(() => clientStream.RequestStream.WriteAsync(new Ask()));
        using AsyncServerStreamingCall<Answer> serverStream = client.ServerStream(new Ask(), deadline: Soon);
        await AssertDeadline(serverStream.ResponseStream.MoveNext());
        using AsyncDuplexStreamingCall<Ask, Answer> duplex = client.Duplex(deadline: Soon);
        await AssertDeadline(duplex.ResponseStream.MoveNext());

        static async Task AssertDeadline(Task call)
        {
            RpcException e = await Assert.ThrowsAsync<RpcException>(() => call.WaitAsync(TestServer.Patience));
            Assert.Equal(StatusCode.DeadlineExceeded, e.StatusCode);
        }
    }

    [Fact]
    public async Task Deadline_in_the_past_sends_nothing()
    {
        int requests = 0;
        await using TestServer server = await TestServer.StartRawAsync(_ =>
        {
            Interlocked.Increment(ref requests);
            return Task.CompletedTask;
        });
        using AsyncUnaryCall<Answer> call = server.CreateClient().UnaryAsync(new Ask(), deadline: DateTime.UtcNow.AddSeconds(-1));
        RpcException e = await Assert.ThrowsAsync<RpcException>(() => call.ResponseAsync.WaitAsync(TestServer.Patience));
        Assert.Equal(StatusCode.DeadlineExceeded, e.StatusCode);
        Assert.Equal(0, Volatile.Read(ref requests));
    }

    [Theory]
    [InlineData("Unary")]
    [InlineData("Duplex")]
    public async Task Server_ends_the_call_at_the_deadline_even_if_the_handler_does_not(string method)
    {
        await using TestServer server = await TestServer.StartAsync();
        TaskCompletionSource<CancellationToken> entered = new(TaskCreationOptions.RunContinuationsAsynchronously);
        TaskCompletionSource release = new(TaskCreationOptions.RunContinuationsAsynchronously);
        TaskCompletionSource<Exception?> late = new(TaskCreationOptions.RunContinuationsAsynchronously);
        server.Service.OnUnary = async (ask, context) =>
        {
            entered.SetResult(context.CancellationToken);
            await release.Task;
            late.SetResult(null);
            return ScriptedService.Echo(ask);
        };
        server.Service.OnDuplex = async (_, answers, context) =>
        {
            entered.SetResult(context.CancellationToken);
            await release.Task;
            late.SetResult(await Record.ExceptionAsync(() => answers.WriteAsync(new Answer())));
        };

        // A client below gRPC waits for ever by itself.
        HttpClient http = server.CreateHttpClient();
        using HttpRequestMessage request = RawRequest.Create(method, RawRequest.Frame([]));
        request.Headers.TryAddWithoutValidation("grpc-timeout", "150m");
        using HttpResponseMessage response = await http.SendAsync(request).WaitAsync(TestServer.Patience);

        Assert.Equal("4", await RawRequest.StatusAsync(response));
        CancellationToken token = await entered.Task;
        using CancellationTokenSource patience = new(TestServer.Patience);
        while (!token.IsCancellationRequested)
        {
            await Task.Delay(1, patience.Token);
        }

        release.SetResult();
        Exception? failure = await late.Task.WaitAsync(TestServer.Patience);
        Assert.True(method == "Unary" || failure is InvalidOperationException, $"{failure}");

        // The connection goes on working.
        using HttpRequestMessage next = RawRequest.Create("ClientStream", RawRequest.Frame([]));
        using HttpResponseMessage reply = await http.SendAsync(next).WaitAsync(TestServer.Patience);
        Assert.Equal("0", await RawRequest.StatusAsync(reply));
    }

    [Fact]
    public async Task Server_resets_a_call_whose_client_reads_nothing_until_the_deadline()
    {
        await using TestServer server = await TestServer.StartAsync();
        TaskCompletionSource<Exception?> failure = new(TaskCreationOptions.RunContinuationsAsynchronously);
        server.Service.OnServerStream = async (_, answers, _) =>
        {
            Answer answer = new() { Data = ByteString.CopyFrom(new byte[100_000]) };
            failure.SetResult(await Record.ExceptionAsync(async () =>
            {
                while (true)
                {
                    await answers.WriteAsync(answer);
                }
            }));
        };
        using HttpRequestMessage request = RawRequest.Create("ServerStream", RawRequest.Frame([]));
        request.Headers.TryAddWithoutValidation("grpc-timeout", "300m");
        using HttpResponseMessage response = await server.CreateHttpClient().SendAsync(request, HttpCompletionOption.ResponseHeadersRead).WaitAsync(TestServer.Patience);

        Assert.NotNull(await failure.Task.WaitAsync(TestServer.Patience));
        HttpIOException e = await Assert.ThrowsAnyAsync<HttpIOException>(() => response.Content.ReadAsStream().CopyToAsync(Stream.Null).WaitAsync(TestServer.Patience));
        Assert.Equal(8, Assert.IsType<HttpProtocolException>(e.InnerException ?? e).ErrorCode);
    }

    [Fact]
    public async Task Token_that_has_fired_already_ends_the_call_at_once()
    {
        await using TestServer server = await TestServer.StartAsync();
        Scripted.ScriptedClient client = server.CreateClient();
        CancellationToken fired = new(canceled: true);
        using AsyncUnaryCall<Answer> unary = client.UnaryAsync(new Ask(), cancellationToken: fired);
        Assert.Equal(StatusCode.Cancelled, unary.GetStatus().StatusCode);
        await Assert.ThrowsAsync<RpcException>(() => unary.ResponseAsync.WaitAsync(TestServer.Patience));
        using AsyncDuplexStreamingCall<Ask, Answer> duplex = client.Duplex(cancellationToken: fired);
        await Assert.ThrowsAsync<RpcException>(() => duplex.RequestStream.WriteAsync(new Ask()).WaitAsync(TestServer.Patience));
        await Assert.ThrowsAsync<RpcException>(() => duplex.ResponseStream.MoveNext().WaitAsync(TestServer.Patience));
    }

    [Theory]
    [InlineData("")]
    [InlineData("5")]
    [InlineData("m")]
    [InlineData("123456789m")]
    [InlineData("5x")]
    [InlineData("-5m")]
    [InlineData("+5m")]
    [InlineData("5 m")]
    public async Task Malformed_timeout_is_refused(string timeout)
    {
        await using TestServer server = await TestServer.StartAsync();
        using HttpRequestMessage request = RawRequest.Create("Unary", RawRequest.Frame([]));
        request.Headers.TryAddWithoutValidation("grpc-timeout", timeout);
        using HttpResponseMessage response = await server.CreateHttpClient().SendAsync(request).WaitAsync(TestServer.Patience);
        Assert.Equal("13", await RawRequest.StatusAsync(response));
    }

    [Fact]
    public async Task Cancelling_the_token_cancels_the_handler()
    {
        await using TestServer server = await TestServer.StartAsync();
        TaskCompletionSource entered = new(TaskCreationOptions.RunContinuationsAsynchronously);
        TaskCompletionSource cancelled = new(TaskCreationOptions.RunContinuationsAsynchronously);
        server.Service.OnUnary = async (ask, context) =>
        {
            context.CancellationToken.Register(cancelled.SetResult);
            entered.SetResult();
            await cancelled.Task;
            throw new OperationCanceledException();
        };
        using CancellationTokenSource source = new();
        using AsyncUnaryCall<Answer> call = server.CreateClient().UnaryAsync(new Ask(), cancellationToken: source.Token);
        await entered.Task.WaitAsync(TestServer.Patience);
        source.Cancel();

        RpcException e = await Assert.ThrowsAsync<RpcException>(() => call.ResponseAsync.WaitAsync(TestServer.Patience));
        Assert.Equal(StatusCode.Cancelled, e.StatusCode);
        await cancelled.Task.WaitAsync(TestServer.Patience);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Disposing_a_stream_cancels_the_handler(bool withDeadline)
    {
        await using TestServer server = await TestServer.StartAsync();
        TaskCompletionSource cancelled = new(TaskCreationOptions.RunContinuationsAsynchronously);
        server.Service.OnServerStream = async (_, answers, context) =>
        {
            context.CancellationToken.Register(cancelled.SetResult);
            await answers.WriteAsync(new Answer());
            await cancelled.Task;
        };
        AsyncServerStreamingCall<Answer> call = server.CreateClient().ServerStream(new Ask(), deadline: withDeadline ? DateTime.UtcNow.AddHours(1) : null);
        Assert.True(await call.ResponseStream.MoveNext().WaitAsync(TestServer.Patience));
        call.Dispose();

        await cancelled.Task.WaitAsync(TestServer.Patience);
        Assert.Equal(StatusCode.Cancelled, call.GetStatus().StatusCode);
        await Assert.ThrowsAsync<RpcException>(() => call.ResponseStream.MoveNext());
    }

    [Fact]
    public async Task Cancelling_a_read_cancels_the_call()
    {
        await using TestServer server = await TestServer.StartAsync();
        using AsyncDuplexStreamingCall<Ask, Answer> call = server.CreateClient().Duplex();
        using CancellationTokenSource source = new();
        Task<bool> reading = call.ResponseStream.MoveNext(source.Token);
        source.Cancel();
        RpcException e = await Assert.ThrowsAsync<RpcException>(() => reading.WaitAsync(TestServer.Patience));
        Assert.Equal(StatusCode.Cancelled, e.StatusCode);
    }

    [Fact]
    public async Task Handler_that_waits_for_requests_learns_that_the_client_has_gone()
    {
        await using TestServer server = await TestServer.StartAsync();
        TaskCompletionSource<Exception> failure = new(TaskCreationOptions.RunContinuationsAsynchronously);
        server.Service.OnDuplex = async (asks, answers, _) =>
        {
            await asks.MoveNext();
            await answers.WriteAsync(new Answer());
            failure.SetResult((await Record.ExceptionAsync(() => asks.MoveNext()))!);
        };
        AsyncDuplexStreamingCall<Ask, Answer> call = server.CreateClient().Duplex();
        await call.RequestStream.WriteAsync(new Ask());
        Assert.True(await call.ResponseStream.MoveNext().WaitAsync(TestServer.Patience));
        call.Dispose();
        Exception e = await failure.Task.WaitAsync(TestServer.Patience);
        Assert.True(e is IOException or OperationCanceledException, $"{e}");
    }

    [Fact]
    public async Task Cancellation_throws_its_own_exception_where_the_channel_says_so()
    {
        await using TestServer server = await TestServer.StartAsync();
        server.Service.OnUnary = async (ask, context) =>
        {
            await Task.Delay(Timeout.Infinite, context.CancellationToken);
            return ScriptedService.Echo(ask);
        };
        Scripted.ScriptedClient client = server.CreateClient(new() { ThrowOperationCanceledOnCancellation = true });
        using CancellationTokenSource source = new();
        AsyncUnaryCall<Answer> call = client.UnaryAsync(new Ask(), cancellationToken: source.Token);
        source.Cancel();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => call.ResponseAsync.WaitAsync(TestServer.Patience));
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => client.UnaryAsync(new Ask(), deadline: Soon).ResponseAsync.WaitAsync(TestServer.Patience));
    }

    [Fact]
    public async Task Disposing_the_channel_cancels_its_calls()
    {
        await using TestServer server = await TestServer.StartAsync();
        GrpcChannel channel = server.CreateChannel();
        using AsyncDuplexStreamingCall<Ask, Answer> call = new Scripted.ScriptedClient(channel).Duplex();
        await call.RequestStream.WriteAsync(new Ask());
        Assert.True(await call.ResponseStream.MoveNext().WaitAsync(TestServer.Patience));
        Task<bool> reading = call.ResponseStream.MoveNext();
        channel.Dispose();
        RpcException e = await Assert.ThrowsAsync<RpcException>(() => reading.WaitAsync(TestServer.Patience));
        Assert.Equal(StatusCode.Cancelled, e.StatusCode);
        Assert.Throws<ObjectDisposedException>(channel.CreateCallInvoker);
    }

    [Fact]
    public async Task Calls_made_for_a_call_inherit_its_deadline_and_cancellation()
    {
        await using TestServer back = await TestServer.StartAsync();
        TaskCompletionSource<DateTime> deadline = new(TaskCreationOptions.RunContinuationsAsynchronously);
        TaskCompletionSource cancelled = new(TaskCreationOptions.RunContinuationsAsynchronously);
        back.Service.OnUnary = async (ask, context) =>
        {
            context.CancellationToken.Register(cancelled.SetResult);
            deadline.SetResult(context.Deadline);
            await cancelled.Task;
            return ScriptedService.Echo(ask);
        };
        Scripted.ScriptedClient backClient = back.CreateClient();
        await using TestServer front = await TestServer.StartAsync();
        front.Service.OnUnary = async (ask, context) =>
            await backClient.UnaryAsync(ask, new CallOptions(propagationToken: context.CreatePropagationToken()));
        using CancellationTokenSource source = new();
        using AsyncUnaryCall<Answer> call = front.CreateClient().UnaryAsync(new Ask(), deadline: DateTime.UtcNow.AddHours(1), cancellationToken: source.Token);

        Assert.InRange(await deadline.Task.WaitAsync(TestServer.Patience), DateTime.UtcNow.AddMinutes(50), DateTime.UtcNow.AddMinutes(70));
        source.Cancel();
        await cancelled.Task.WaitAsync(TestServer.Patience);
    }
}
