using Famfs.Testing.Rpc;
using Grpc.Core;
using Microsoft.AspNetCore.Http;
using Xunit;

namespace Famfs.Grpc.Tests;

public class MetadataTests
{
    [Fact]
    public async Task Headers_and_trailers_go_both_ways_text_and_binary()
    {
        await using TestServer server = await TestServer.StartAsync();
        byte[] binary = [0, 1, 2, 250, 255];
        Metadata? received = null;
        server.Service.OnUnary = async (ask, context) =>
        {
            received = context.RequestHeaders;
            await context.WriteResponseHeadersAsync(new Metadata { { "answer-header", "h" }, { "answer-bytes-bin", binary } });
            context.ResponseTrailers.Add("answer-trailer", "t");
            context.ResponseTrailers.Add("trailer-bytes-bin", binary);
            return ScriptedService.Echo(ask);
        };
        using AsyncUnaryCall<Answer> call = server.CreateClient().UnaryAsync(
            new Ask(), new Metadata { { "Ask-Text", "a, b" }, { "ask-bytes-bin", binary }, { "ask-empty-bin", [] } });

        Metadata headers = await call.ResponseHeadersAsync.WaitAsync(TestServer.Patience);
        await call.ResponseAsync;

        Assert.Equal("a, b", received!.GetValue("ask-text"));
        Assert.Equal(binary, received!.GetValueBytes("ask-bytes-bin"));
        Assert.Equal([], received!.GetValueBytes("ask-empty-bin")!);
        Assert.Null(received!.Get("te"));
        Assert.Null(received!.Get("content-type"));
        Assert.Equal("h", headers.GetValue("answer-header"));
        Assert.Equal(binary, headers.GetValueBytes("answer-bytes-bin"));
        Assert.Equal("t", call.GetTrailers().GetValue("answer-trailer"));
        Assert.Equal(binary, call.GetTrailers().GetValueBytes("trailer-bytes-bin"));
        Assert.Null(call.GetTrailers().Get("grpc-status"));
    }

    [Fact]
    public async Task Status_details_travel_as_a_binary_trailer_of_an_exception()
    {
        await using TestServer server = await TestServer.StartAsync();
        byte[] details = [8, 5, 18, 3, 97, 98, 99];
        server.Service.OnUnary = (_, context) =>
        {
            context.ResponseTrailers.Add("own", "1");
            throw new RpcException(new Status(StatusCode.NotFound, "n"), new Metadata { { "grpc-status-details-bin", details } });
        };
        RpcException e = await Assert.ThrowsAsync<RpcException>(() => server.CreateClient().UnaryAsync(new Ask()).ResponseAsync);
        Assert.Equal(details, e.Trailers.GetValueBytes("grpc-status-details-bin"));
        Assert.Equal("1", e.Trailers.GetValue("own"));
    }

    [Fact]
    public async Task Reply_without_messages_is_trailers_only_and_has_no_headers()
    {
        await using TestServer server = await TestServer.StartAsync();
        server.Service.OnUnary = (_, _) => throw new RpcException(new Status(StatusCode.NotFound, "n"), new Metadata { { "x", "1" } });
        using AsyncUnaryCall<Answer> call = server.CreateClient().UnaryAsync(new Ask());
        Assert.Empty(await call.ResponseHeadersAsync.WaitAsync(TestServer.Patience));
        await Assert.ThrowsAsync<RpcException>(() => call.ResponseAsync);
        Assert.Equal("1", call.GetTrailers().GetValue("x"));
    }

    [Fact]
    public async Task Headers_of_a_stream_arrive_before_its_first_message()
    {
        await using TestServer server = await TestServer.StartAsync();
        server.Service.OnDuplex = async (asks, answers, context) =>
        {
            await context.WriteResponseHeadersAsync(new Metadata { { "ready", "yes" } });
            while (await asks.MoveNext())
            {
                await answers.WriteAsync(ScriptedService.Echo(asks.Current));
            }
        };
        using AsyncDuplexStreamingCall<Ask, Answer> call = server.CreateClient().Duplex();
        Assert.Equal("yes", (await call.ResponseHeadersAsync.WaitAsync(TestServer.Patience)).GetValue("ready"));
    }

    [Fact]
    public async Task Response_headers_can_be_sent_only_once_and_first()
    {
        await using TestServer server = await TestServer.StartAsync();
        Exception? twice = null;
        Exception? late = null;
        server.Service.OnServerStream = async (_, answers, context) =>
        {
            await context.WriteResponseHeadersAsync([]);
            twice = await Record.ExceptionAsync(() => context.WriteResponseHeadersAsync([]));
            await answers.WriteAsync(new Answer());
            late = await Record.ExceptionAsync(() => context.WriteResponseHeadersAsync([]));
        };
        using AsyncServerStreamingCall<Answer> call = server.CreateClient().ServerStream(new Ask());
        while (await call.ResponseStream.MoveNext())
        {
        }

        Assert.IsType<InvalidOperationException>(twice);
        Assert.IsType<InvalidOperationException>(late);
    }

    [Fact]
    public async Task Repeated_binary_entries_arrive_as_several()
    {
        await using TestServer server = await TestServer.StartAsync();
        byte[][]? received = null;
        server.Service.OnUnary = (ask, context) =>
        {
            received = [.. context.RequestHeaders.GetAll("many-bin").Select(entry => entry.ValueBytes)];
            return Task.FromResult(ScriptedService.Echo(ask));
        };
        await server.CreateClient().UnaryAsync(new Ask(), new Metadata { { "many-bin", [1] }, { "many-bin", [2, 3] }, { "many-bin", [4, 5, 6] } });
        Assert.Equal([[1], [2, 3], [4, 5, 6]], received!);
    }

    [Fact]
    public async Task Broken_base64_in_a_request_fails_the_call_not_the_server()
    {
        await using TestServer server = await TestServer.StartAsync();
        server.Service.OnUnary = (ask, context) => Task.FromResult(new Answer { Number = context.RequestHeaders.Count });
        HttpClient http = server.CreateHttpClient();
        using HttpRequestMessage request = RawRequest.Create("Unary", RawRequest.Frame([]));
        request.Headers.TryAddWithoutValidation("broken-bin", "***");
        using HttpResponseMessage response = await http.SendAsync(request);
        Assert.Equal("13", await RawRequest.StatusAsync(response));
        Assert.Equal("x", (await server.CreateClient().UnaryAsync(new Ask { Text = "x" }, new Metadata { { "fine-bin", [1] } })).Text + "x");
    }

    [Fact]
    public async Task Broken_base64_in_a_reply_fails_the_call()
    {
        await using TestServer server = await TestServer.StartRawAsync(http =>
        {
            http.Response.ContentType = "application/grpc";
            http.Response.Headers["grpc-status"] = "5";
            http.Response.Headers["broken-bin"] = "A";
            return Task.CompletedTask;
        });
        RpcException e = await Assert.ThrowsAsync<RpcException>(() => server.CreateClient().UnaryAsync(new Ask()).ResponseAsync.WaitAsync(TestServer.Patience));
        Assert.Equal(StatusCode.Internal, e.StatusCode);
    }

    [Fact]
    public async Task Context_tells_method_host_and_peer()
    {
        List<string> seen = [];
        foreach (Transport transport in new[] { Transport.Tcp, Transport.Unix })
        {
            await using TestServer server = await TestServer.StartAsync(transport);
            server.Service.OnUnary = (ask, context) =>
            {
                seen.Add(context.Method);
                seen.Add(context.Peer);
                Assert.Equal(DateTime.MaxValue, context.Deadline);
                Assert.False(context.AuthContext.IsPeerAuthenticated);
                Assert.Equal("/famfs.grpc.testing.Scripted/Unary", context.GetHttpContext().Request.Path);
                context.UserState["k"] = "v";
                return Task.FromResult(ScriptedService.Echo(ask));
            };
            await server.CreateClient().UnaryAsync(new Ask());
        }

        Assert.Equal("/famfs.grpc.testing.Scripted/Unary", seen[0]);
        Assert.StartsWith("ipv4:127.0.0.1:", seen[1], StringComparison.Ordinal);
        Assert.Equal("unix:", seen[3]);
    }

    [Fact]
    public async Task Host_of_a_call_can_be_set()
    {
        await using TestServer server = await TestServer.StartAsync();
        string? host = null;
        server.Service.OnUnary = (ask, context) =>
        {
            host = context.Host;
            return Task.FromResult(ScriptedService.Echo(ask));
        };
        await server.CreateClient().WithHost("famfs.example").UnaryAsync(new Ask());
        Assert.Equal("famfs.example", host);
    }

    [Fact]
    public async Task Call_credentials_add_headers_where_they_may()
    {
        await using TestServer server = await TestServer.StartAsync();
        string? authorization = null;
        server.Service.OnUnary = (ask, context) =>
        {
            authorization = context.RequestHeaders.GetValue("authorization");
            return Task.FromResult(ScriptedService.Echo(ask));
        };
        CallCredentials credentials = CallCredentials.FromInterceptor((context, metadata) =>
        {
            metadata.Add("authorization", $"token for {context.MethodName}");
            return Task.CompletedTask;
        });
        await server.CreateClient(new() { UnsafeUseInsecureChannelCallCredentials = true }).UnaryAsync(new Ask(), new CallOptions(credentials: credentials));
        Assert.Equal("token for Unary", authorization);

        RpcException e = await Assert.ThrowsAsync<RpcException>(() => server.CreateClient().UnaryAsync(new Ask(), new CallOptions(credentials: credentials)).ResponseAsync);
        Assert.Equal(StatusCode.Unauthenticated, e.StatusCode);
    }

    [Theory]
    [InlineData("")]
    [InlineData("with space")]
    [InlineData("ümlaut")]
    [InlineData("colon:")]
    public void Invalid_names_are_refused(string name)
    {
        Assert.Throws<ArgumentException>(() => new Metadata.Entry(name, "v"));
    }

    [Fact]
    public void Names_decide_between_text_and_bytes()
    {
        Assert.Throws<ArgumentException>(() => new Metadata.Entry("x-bin", "text"));
        Assert.Throws<ArgumentException>(() => new Metadata.Entry("x", [1]));
        Assert.Equal("upper-case", new Metadata.Entry("Upper-Case", "v").Key);
    }

    [Fact]
    public void Empty_metadata_refuses_changes()
    {
        Assert.True(Metadata.Empty.IsReadOnly);
        Assert.Throws<InvalidOperationException>(() => Metadata.Empty.Add("a", "b"));
    }
}
