using System.Net;
using System.Net.Sockets;
using Famfs.Testing.Rpc;
using Grpc.Core;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http.Features;
using Xunit;

namespace Famfs.Grpc.Tests;

public class StatusTests
{
    public static TheoryData<StatusCode> AllErrors => new(Enum.GetValues<StatusCode>().Where(code => code != StatusCode.OK));

    [Theory]
    [MemberData(nameof(AllErrors))]
    public async Task Every_status_a_handler_throws_reaches_the_client(StatusCode code)
    {
        await using TestServer server = await TestServer.StartAsync();
        server.Service.OnUnary = (_, _) => throw new RpcException(new Status(code, $"because {code}"));

        RpcException e = await Assert.ThrowsAsync<RpcException>(() => server.CreateClient().UnaryAsync(new Ask()).ResponseAsync.WaitAsync(TestServer.Patience));

        Assert.Equal(code, e.StatusCode);
        Assert.Equal($"because {code}", e.Status.Detail);
    }

    [Theory]
    [InlineData("plain")]
    [InlineData("100 % of ümlauts, 漢字 and 🐟")]
    [InlineData("line\r\nbreak\tand\0zero")]
    [InlineData("%41 is not decoded twice")]
    public async Task Detail_survives_the_way_whatever_its_characters(string detail)
    {
        await using TestServer server = await TestServer.StartAsync();
        server.Service.OnUnary = (_, _) => throw new RpcException(new Status(StatusCode.NotFound, detail));
        RpcException e = await Assert.ThrowsAsync<RpcException>(() => server.CreateClient().UnaryAsync(new Ask()).ResponseAsync);
        Assert.Equal(detail, e.Status.Detail);
    }

    [Fact]
    public async Task Status_set_on_the_context_ends_the_call_without_a_message()
    {
        await using TestServer server = await TestServer.StartAsync();
        server.Service.OnUnary = (_, context) =>
        {
            context.Status = new Status(StatusCode.FailedPrecondition, "set");
            return Task.FromResult(new Answer());
        };
        RpcException e = await Assert.ThrowsAsync<RpcException>(() => server.CreateClient().UnaryAsync(new Ask()).ResponseAsync);
        Assert.Equal(new Status(StatusCode.FailedPrecondition, "set"), e.Status);
    }

    [Fact]
    public async Task Unexpected_exception_is_unknown_and_tells_nothing()
    {
        await using TestServer server = await TestServer.StartAsync();
        server.Service.OnUnary = (_, _) => throw new InvalidDataException("secret");
        RpcException e = await Assert.ThrowsAsync<RpcException>(() => server.CreateClient().UnaryAsync(new Ask()).ResponseAsync);
        Assert.Equal(StatusCode.Unknown, e.StatusCode);
        Assert.DoesNotContain("secret", e.Status.Detail, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Unexpected_exception_tells_its_message_where_details_are_enabled()
    {
        await using TestServer server = await TestServer.StartAsync(grpc: options => options.EnableDetailedErrors = true);
        server.Service.OnUnary = (_, _) => throw new InvalidDataException("not secret");
        RpcException e = await Assert.ThrowsAsync<RpcException>(() => server.CreateClient().UnaryAsync(new Ask()).ResponseAsync);
        Assert.Contains("InvalidDataException: not secret", e.Status.Detail, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Missing_message_from_a_handler_is_an_error()
    {
        await using TestServer server = await TestServer.StartAsync();
        server.Service.OnUnary = (_, _) => Task.FromResult<Answer>(null!);
        RpcException e = await Assert.ThrowsAsync<RpcException>(() => server.CreateClient().UnaryAsync(new Ask()).ResponseAsync);
        Assert.Equal(StatusCode.Cancelled, e.StatusCode);
    }

    [Fact]
    public async Task Method_without_an_override_is_unimplemented()
    {
        await using TestServer server = await TestServer.StartAsync(map: application => application.MapGrpcService<EmptyService>());
        RpcException e = await Assert.ThrowsAsync<RpcException>(() => server.CreateClient().UnaryAsync(new Ask()).ResponseAsync);
        Assert.Equal(StatusCode.Unimplemented, e.StatusCode);
    }

    [Fact]
    public async Task Unknown_method_and_unknown_service_are_unimplemented()
    {
        await using TestServer server = await TestServer.StartAsync();
        CallInvoker invoker = server.CreateChannel().CreateCallInvoker();
        Marshaller<byte[]> bytes = Marshallers.Create(x => x, x => x);
        foreach (string service in new[] { "famfs.grpc.testing.Scripted", "no.such.Service" })
        {
            Method<byte[], byte[]> method = new(MethodType.Unary, service, "NoSuchMethod", bytes, bytes);
            RpcException e = await Assert.ThrowsAsync<RpcException>(() => invoker.AsyncUnaryCall(method, null, default, [1]).ResponseAsync.WaitAsync(TestServer.Patience));
            Assert.Equal(StatusCode.Unimplemented, e.StatusCode);
        }
    }

    [Fact]
    public async Task Stream_that_ends_badly_delivers_its_messages_first()
    {
        await using TestServer server = await TestServer.StartAsync();
        server.Service.OnServerStream = async (_, answers, _) =>
        {
            await answers.WriteAsync(new Answer { Number = 1 });
            await answers.WriteAsync(new Answer { Number = 2 });
            throw new RpcException(new Status(StatusCode.DataLoss, "torn"));
        };
        using AsyncServerStreamingCall<Answer> call = server.CreateClient().ServerStream(new Ask());
        Assert.True(await call.ResponseStream.MoveNext());
        Assert.True(await call.ResponseStream.MoveNext());
        RpcException e = await Assert.ThrowsAsync<RpcException>(() => call.ResponseStream.MoveNext());
        Assert.Equal(new Status(StatusCode.DataLoss, "torn"), e.Status);
        Assert.Equal(e.Status, call.GetStatus());
        await Assert.ThrowsAsync<RpcException>(() => call.ResponseStream.MoveNext());
    }

    [Fact]
    public async Task Handler_may_end_a_client_stream_before_it_is_complete()
    {
        await using TestServer server = await TestServer.StartAsync();
        server.Service.OnClientStream = async (asks, _) =>
        {
            await asks.MoveNext();
            throw new RpcException(new Status(StatusCode.ResourceExhausted, "enough"));
        };
        using AsyncClientStreamingCall<Ask, Answer> call = server.CreateClient().ClientStream();
        await call.RequestStream.WriteAsync(new Ask());

        RpcException e = await Assert.ThrowsAsync<RpcException>(() => call.ResponseAsync.WaitAsync(TestServer.Patience));
        Assert.Equal(new Status(StatusCode.ResourceExhausted, "enough"), e.Status);
        RpcException late = await Assert.ThrowsAsync<RpcException>(() => call.RequestStream.WriteAsync(new Ask()));
        Assert.Equal(e.Status, late.Status);
    }

    [Fact]
    public async Task Status_of_a_duplex_call_survives_writes_that_fail()
    {
        await using TestServer server = await TestServer.StartAsync();
        server.Service.OnDuplex = (_, _, _) => throw new RpcException(new Status(StatusCode.PermissionDenied, "go away"));
        using AsyncDuplexStreamingCall<Ask, Answer> call = server.CreateClient().Duplex();

        // Writes into a call that the server has ended fail sooner or later; none of them may hide the status.
        using CancellationTokenSource patience = new(TestServer.Patience);
        Exception? failure = null;
        while (failure is null && !patience.IsCancellationRequested)
        {
            failure = await Record.ExceptionAsync(() => call.RequestStream.WriteAsync(new Ask { Text = "x" }));
        }

        Assert.NotNull(failure);
        RpcException e = await Assert.ThrowsAsync<RpcException>(() => call.ResponseStream.MoveNext().WaitAsync(TestServer.Patience));
        Assert.Equal(new Status(StatusCode.PermissionDenied, "go away"), e.Status);
    }

    [Theory]
    [InlineData(400, StatusCode.Internal)]
    [InlineData(401, StatusCode.Unauthenticated)]
    [InlineData(403, StatusCode.PermissionDenied)]
    [InlineData(404, StatusCode.Unimplemented)]
    [InlineData(418, StatusCode.Unknown)]
    [InlineData(429, StatusCode.Unavailable)]
    [InlineData(500, StatusCode.Unknown)]
    [InlineData(502, StatusCode.Unavailable)]
    [InlineData(503, StatusCode.Unavailable)]
    [InlineData(504, StatusCode.Unavailable)]
    public async Task Http_error_without_grpc_status_maps_to_its_status(int httpStatus, StatusCode expected)
    {
        await using TestServer server = await TestServer.StartRawAsync(http =>
        {
            http.Response.StatusCode = httpStatus;
            return Task.CompletedTask;
        });
        RpcException e = await Assert.ThrowsAsync<RpcException>(() => server.CreateClient().UnaryAsync(new Ask()).ResponseAsync.WaitAsync(TestServer.Patience));
        Assert.Equal(expected, e.StatusCode);
    }

    [Theory]
    [InlineData(0x1, StatusCode.Internal)]
    [InlineData(0x2, StatusCode.Internal)]
    [InlineData(0x3, StatusCode.Internal)]
    [InlineData(0x8, StatusCode.Cancelled)]
    [InlineData(0x9, StatusCode.Internal)]
    [InlineData(0xB, StatusCode.ResourceExhausted)]
    [InlineData(0xC, StatusCode.PermissionDenied)]
    public async Task Reset_stream_maps_to_its_status(int http2Error, StatusCode expected)
    {
        await using TestServer server = await TestServer.StartRawAsync(async http =>
        {
            http.Response.ContentType = "application/grpc";
            await http.Response.StartAsync();
            http.Features.Get<IHttpResetFeature>()!.Reset(http2Error);
        });
        RpcException e = await Assert.ThrowsAsync<RpcException>(() => server.CreateClient().UnaryAsync(new Ask()).ResponseAsync.WaitAsync(TestServer.Patience));
        Assert.Equal(expected, e.StatusCode);
    }

    [Fact]
    public async Task Server_that_goes_silent_is_unavailable_once_a_ping_is_lost()
    {
        using TcpListener listener = new(IPAddress.Loopback, 0);
        listener.Start();
        Task<TcpClient> accepting = listener.AcceptTcpClientAsync(TestContext.Current.CancellationToken).AsTask();
        using SocketsHttpHandler handler = new() { KeepAlivePingDelay = TimeSpan.FromSeconds(1), KeepAlivePingTimeout = TimeSpan.FromSeconds(1) };
        using global::Grpc.Net.Client.GrpcChannel channel = global::Grpc.Net.Client.GrpcChannel.ForAddress($"http://{listener.LocalEndpoint}", new() { HttpHandler = handler });
        Task<Answer> answer = new Scripted.ScriptedClient(channel).UnaryAsync(new Ask()).ResponseAsync;
        using TcpClient silent = await accepting.WaitAsync(TestServer.Patience, TestContext.Current.CancellationToken);
        await silent.GetStream().WriteAsync(new byte[] { 0, 0, 0, 4, 0, 0, 0, 0, 0 }, TestContext.Current.CancellationToken); // SETTINGS, and no more
        RpcException e = await Assert.ThrowsAsync<RpcException>(() => answer.WaitAsync(TestServer.Patience));
        Assert.Equal(StatusCode.Unavailable, e.StatusCode);
    }

    [Fact]
    public async Task Server_that_is_not_there_is_unavailable()
    {
        string address;
        await using (TestServer server = await TestServer.StartAsync())
        {
            address = server.Address;
        }

        foreach (string target in new[] { address, "unix:/nonexistent/famfs.sock" })
        {
            using global::Grpc.Net.Client.GrpcChannel channel = global::Grpc.Net.Client.GrpcChannel.ForAddress(target);
            Scripted.ScriptedClient client = new(channel);
            RpcException e = await Assert.ThrowsAsync<RpcException>(() => client.UnaryAsync(new Ask()).ResponseAsync.WaitAsync(TestServer.Patience));
            Assert.Equal(StatusCode.Unavailable, e.StatusCode);

            using AsyncDuplexStreamingCall<Ask, Answer> call = client.Duplex();
            RpcException write = await Assert.ThrowsAsync<RpcException>(() => call.RequestStream.WriteAsync(new Ask()).WaitAsync(TestServer.Patience));
            Assert.Equal(StatusCode.Unavailable, write.StatusCode);
            RpcException read = await Assert.ThrowsAsync<RpcException>(() => call.ResponseStream.MoveNext().WaitAsync(TestServer.Patience));
            Assert.Equal(StatusCode.Unavailable, read.StatusCode);
            RpcException headers = await Assert.ThrowsAsync<RpcException>(() => call.ResponseHeadersAsync.WaitAsync(TestServer.Patience));
            Assert.Equal(StatusCode.Unavailable, headers.StatusCode);
        }
    }

    [Fact]
    public async Task Call_under_way_when_the_server_dies_is_unavailable_or_reset()
    {
        TestServer server = await TestServer.StartAsync();
        TaskCompletionSource arrived = new(TaskCreationOptions.RunContinuationsAsynchronously);
        server.Service.OnUnary = async (_, context) =>
        {
            arrived.SetResult();
            await Task.Delay(Timeout.Infinite, context.CancellationToken);
            return new Answer();
        };

        // The channel outlives the server here.
        using global::Grpc.Net.Client.GrpcChannel channel = global::Grpc.Net.Client.GrpcChannel.ForAddress(server.Address);
        using AsyncUnaryCall<Answer> call = new Scripted.ScriptedClient(channel).UnaryAsync(new Ask());
        await arrived.Task.WaitAsync(TestServer.Patience);
        await server.DisposeAsync();

        RpcException e = await Assert.ThrowsAsync<RpcException>(() => call.ResponseAsync.WaitAsync(TestServer.Patience));
        Assert.True(e.StatusCode is StatusCode.Unavailable or StatusCode.Internal or StatusCode.Cancelled, e.Status.ToString());
    }

    internal sealed class EmptyService : Scripted.ScriptedBase
    {
    }
}
