using System.Net;
using Famfs.Testing.Rpc;
using Google.Protobuf;
using Grpc.Core;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;
using Xunit;

namespace Famfs.Grpc.Tests;

/// <summary>What the server makes of requests no gRPC client sends.</summary>
public class ServerProtocolTests
{
    private static readonly byte[] Message = RawRequest.Frame(new Ask { Text = "four", Number = 300 }.ToByteArray());

    [Fact]
    public async Task Request_and_reply_are_the_bytes_of_the_protocol()
    {
        await using TestServer server = await TestServer.StartAsync();
        byte[] golden =
        [
            0, 0, 0, 0, 9,                      // not compressed, nine bytes
            0x0A, 4, 0x66, 0x6F, 0x75, 0x72,    // field 1: "four"
            0x18, 0xAC, 0x02,                   // field 3: 300
        ];
        Assert.Equal(golden, Message);

        using HttpRequestMessage request = RawRequest.Create("Unary", golden);
        using HttpResponseMessage response = await server.CreateHttpClient().SendAsync(request);

        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        Assert.Equal("application/grpc", response.Content.Headers.ContentType!.ToString());
        Assert.False(response.Headers.Contains("grpc-status"));
        Assert.Equal(golden, await response.Content.ReadAsByteArrayAsync());
        Assert.Equal("0", response.TrailingHeaders.GetValues("grpc-status").Single());
        Assert.False(response.TrailingHeaders.Contains("grpc-message"));
    }

    [Fact]
    public async Task Request_cut_at_every_byte_is_an_error_of_the_call()
    {
        await using TestServer server = await TestServer.StartAsync();
        HttpClient http = server.CreateHttpClient();
        foreach (string method in new[] { "Unary", "ServerStream" })
        {
            for (int length = 0; length < Message.Length; length++)
            {
                using HttpRequestMessage request = RawRequest.Create(method, Message[..length]);
                using HttpResponseMessage response = await http.SendAsync(request);
                Assert.Equal("13", await RawRequest.StatusAsync(response));
            }
        }

        for (int length = 1; length < Message.Length; length++)
        {
            using HttpRequestMessage request = RawRequest.Create("ClientStream", [.. Message, .. Message[..length]]);
            using HttpResponseMessage response = await http.SendAsync(request);
            Assert.Equal("13", await RawRequest.StatusAsync(response));
        }
    }

    [Fact]
    public async Task Stream_that_ends_inside_a_message_after_a_pause_is_an_error()
    {
        await using TestServer server = await TestServer.StartAsync();
        TaskCompletionSource first = new(TaskCreationOptions.RunContinuationsAsynchronously);
        server.Service.OnClientStream = async (asks, _) =>
        {
            Assert.True(await asks.MoveNext());
            Task<bool> next = asks.MoveNext();
            first.SetResult();
            await next;
            return new Answer();
        };
        using HttpRequestMessage request = RawRequest.Create("ClientStream", []);
        request.Content = new PausingContent([.. Message, .. Message[..7]], first.Task);
        request.Content.Headers.TryAddWithoutValidation("Content-Type", "application/grpc");
        using HttpResponseMessage response = await server.CreateHttpClient().SendAsync(request).WaitAsync(TestServer.Patience);
        Assert.Equal("13", await RawRequest.StatusAsync(response));
    }

    [Fact]
    public async Task Stream_of_requests_may_be_longer_than_a_request_of_http()
    {
        await using TestServer server = await TestServer.StartAsync();
        using AsyncClientStreamingCall<Ask, Answer> call = server.CreateClient().ClientStream();
        Ask ask = new() { Data = ByteString.CopyFrom(new byte[1024 * 1024]) };
        for (int i = 0; i < 32; i++)
        {
            await call.RequestStream.WriteAsync(ask).WaitAsync(TestServer.Patience);
        }

        await call.RequestStream.CompleteAsync();
        Assert.Equal(32, (await call.ResponseAsync.WaitAsync(TestServer.Patience)).Number);
    }

    [Theory]
    [InlineData("/famfs.grpc.testing.Scripted/NoSuchMethod")]
    [InlineData("/no.such.Service/Unary")]
    public async Task Unknown_path_is_answered_by_grpc_not_by_http(string path)
    {
        await using TestServer server = await TestServer.StartAsync();
        using HttpRequestMessage request = RawRequest.Create("Unary", Message);
        request.RequestUri = new Uri(path, UriKind.Relative);
        using HttpResponseMessage response = await server.CreateHttpClient().SendAsync(request);
        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        Assert.Equal("12", await RawRequest.StatusAsync(response));
    }

    [Fact]
    public async Task More_than_one_message_for_a_unary_method_is_an_error()
    {
        await using TestServer server = await TestServer.StartAsync();
        using HttpRequestMessage request = RawRequest.Create("Unary", [.. Message, .. Message]);
        using HttpResponseMessage response = await server.CreateHttpClient().SendAsync(request);
        Assert.Equal("13", await RawRequest.StatusAsync(response));
    }

    [Fact]
    public async Task Compressed_flag_without_an_encoding_is_an_error()
    {
        await using TestServer server = await TestServer.StartAsync();
        using HttpRequestMessage request = RawRequest.Create("Unary", RawRequest.Frame([1, 2, 3], flag: 1));
        using HttpResponseMessage response = await server.CreateHttpClient().SendAsync(request);
        Assert.Equal("13", await RawRequest.StatusAsync(response));
    }

    [Fact]
    public async Task Message_that_does_not_parse_fails_the_call()
    {
        await using TestServer server = await TestServer.StartAsync();
        using HttpRequestMessage request = RawRequest.Create("Unary", RawRequest.Frame([0x0A, 200, 1]));
        using HttpResponseMessage response = await server.CreateHttpClient().SendAsync(request);
        Assert.Equal("13", await RawRequest.StatusAsync(response));
    }

    [Fact]
    public async Task Unsupported_encoding_is_unimplemented_and_tells_what_is()
    {
        await using TestServer server = await TestServer.StartAsync();
        using HttpRequestMessage request = RawRequest.Create("Unary", Message);
        request.Headers.TryAddWithoutValidation("grpc-encoding", "gzip");
        using HttpResponseMessage response = await server.CreateHttpClient().SendAsync(request);
        Assert.Equal("12", await RawRequest.StatusAsync(response));
        Assert.Equal("identity", response.Headers.GetValues("grpc-accept-encoding").Single());

        using HttpRequestMessage identity = RawRequest.Create("Unary", Message);
        identity.Headers.TryAddWithoutValidation("grpc-encoding", "identity");
        using HttpResponseMessage accepted = await server.CreateHttpClient().SendAsync(identity);
        Assert.Equal("0", await RawRequest.StatusAsync(accepted));
    }

    [Theory]
    [InlineData("application/json")]
    [InlineData("application/grpc-web")]
    [InlineData(null)]
    public async Task Other_content_types_are_refused(string? contentType)
    {
        await using TestServer server = await TestServer.StartAsync();
        using HttpRequestMessage request = RawRequest.Create("Unary", Message, contentType);
        using HttpResponseMessage response = await server.CreateHttpClient().SendAsync(request);
        Assert.Equal(HttpStatusCode.UnsupportedMediaType, response.StatusCode);
        Assert.Equal("13", await RawRequest.StatusAsync(response));
    }

    [Fact]
    public async Task Content_type_with_a_format_is_accepted()
    {
        await using TestServer server = await TestServer.StartAsync();
        using HttpRequestMessage request = RawRequest.Create("Unary", Message, "application/grpc+proto");
        using HttpResponseMessage response = await server.CreateHttpClient().SendAsync(request);
        Assert.Equal("0", await RawRequest.StatusAsync(response));
    }

    [Fact]
    public async Task Http_1_is_refused()
    {
        await using TestServer server = await TestServer.StartAsync(protocols: HttpProtocols.Http1);
        using HttpRequestMessage request = RawRequest.Create("Unary", Message);
        request.Version = HttpVersion.Version11;
        using HttpResponseMessage response = await server.CreateHttpClient().SendAsync(request);
        Assert.Equal(HttpStatusCode.UpgradeRequired, response.StatusCode);
    }

    [Fact]
    public async Task Only_post_is_a_call()
    {
        await using TestServer server = await TestServer.StartAsync();
        using HttpRequestMessage request = new(HttpMethod.Get, "/famfs.grpc.testing.Scripted/Unary") { Version = HttpVersion.Version20, VersionPolicy = HttpVersionPolicy.RequestVersionExact };
        using HttpResponseMessage response = await server.CreateHttpClient().SendAsync(request);
        Assert.True(response.StatusCode is HttpStatusCode.MethodNotAllowed or HttpStatusCode.NotFound);
    }

    [Fact]
    public async Task Other_endpoints_live_beside_grpc()
    {
        await using TestServer server = await TestServer.StartAsync(map: application =>
        {
            application.MapGrpcService<ScriptedService>();
            application.MapGet("/a/b", () => "hello");
        });
        using HttpRequestMessage request = new(HttpMethod.Get, "/a/b") { Version = HttpVersion.Version20, VersionPolicy = HttpVersionPolicy.RequestVersionExact };
        using HttpResponseMessage response = await server.CreateHttpClient().SendAsync(request);
        Assert.Equal("hello", await response.Content.ReadAsStringAsync());
    }

    [Fact]
    public async Task Request_beyond_the_limit_is_resource_exhausted()
    {
        await using TestServer server = await TestServer.StartAsync(grpc: options => options.MaxReceiveMessageSize = 1000);
        Scripted.ScriptedClient client = server.CreateClient();
        Ask large = new() { Data = ByteString.CopyFrom(new byte[1001]) };
        RpcException e = await Assert.ThrowsAsync<RpcException>(() => client.UnaryAsync(large).ResponseAsync.WaitAsync(TestServer.Patience));
        Assert.Equal(StatusCode.ResourceExhausted, e.StatusCode);

        using AsyncClientStreamingCall<Ask, Answer> call = client.ClientStream();
        await call.RequestStream.WriteAsync(large);
        e = await Assert.ThrowsAsync<RpcException>(() => call.ResponseAsync.WaitAsync(TestServer.Patience));
        Assert.Equal(StatusCode.ResourceExhausted, e.StatusCode);
    }

    [Fact]
    public async Task Response_beyond_the_limit_is_resource_exhausted()
    {
        await using TestServer server = await TestServer.StartAsync(grpc: options => options.MaxSendMessageSize = 1000);
        server.Service.OnUnary = (_, _) => Task.FromResult(new Answer { Data = ByteString.CopyFrom(new byte[1001]) });
        RpcException e = await Assert.ThrowsAsync<RpcException>(() => server.CreateClient().UnaryAsync(new Ask()).ResponseAsync.WaitAsync(TestServer.Patience));
        Assert.Equal(StatusCode.ResourceExhausted, e.StatusCode);
    }

    [Fact]
    public async Task Four_mebibytes_is_the_limit_where_none_is_set()
    {
        await using TestServer server = await TestServer.StartAsync();
        Scripted.ScriptedClient client = server.CreateClient();
        Ask fits = new() { Data = ByteString.CopyFrom(new byte[(4 * 1024 * 1024) - 5]) };
        Assert.Equal(4 * 1024 * 1024, fits.CalculateSize());
        Assert.Equal(fits.Data, (await client.UnaryAsync(fits)).Data);

        Ask large = new() { Data = ByteString.CopyFrom(new byte[4 * 1024 * 1024]) };
        RpcException e = await Assert.ThrowsAsync<RpcException>(() => client.UnaryAsync(large).ResponseAsync.WaitAsync(TestServer.Patience));
        Assert.Equal(StatusCode.ResourceExhausted, e.StatusCode);
    }

    [Fact]
    public async Task Options_of_one_service_start_from_those_of_all()
    {
        await using TestServer server = await TestServer.StartAsync(
            grpc: options =>
            {
                options.MaxReceiveMessageSize = 10;
                options.EnableDetailedErrors = true;
            },
            services: services => services.AddGrpc().AddServiceOptions<ScriptedService>(options => options.MaxReceiveMessageSize = 1000));
        server.Service.OnUnary = (ask, _) => throw new InvalidDataException(ask.Text);
        RpcException e = await Assert.ThrowsAsync<RpcException>(() => server.CreateClient().UnaryAsync(new Ask { Text = "longer than ten bytes" }).ResponseAsync);
        Assert.Contains("longer than ten bytes", e.Status.Detail, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Service_that_is_not_registered_is_made_and_disposed_per_call()
    {
        DisposalCount count = new();
        await using TestServer server = await TestServer.StartAsync(
            services: services => services.AddSingleton(count),
            map: application => application.MapGrpcService<PerCallService>());
        Scripted.ScriptedClient client = server.CreateClient();
        Assert.Equal(1, (await client.UnaryAsync(new Ask())).Number);
        Assert.Equal(1, (await client.UnaryAsync(new Ask())).Number);
        Assert.Equal(2, Volatile.Read(ref count.Disposed));
    }

    [Fact]
    public async Task Scoped_service_is_made_per_call_and_singleton_once()
    {
        DisposalCount count = new();
        foreach (bool singleton in new[] { false, true })
        {
            await using TestServer server = await TestServer.StartAsync(
                services: services =>
                {
                    services.AddSingleton(count);
                    _ = singleton ? services.AddSingleton<PerCallService>() : services.AddScoped<PerCallService>();
                },
                map: application => application.MapGrpcService<PerCallService>());
            Scripted.ScriptedClient client = server.CreateClient();
            Assert.Equal(1, (await client.UnaryAsync(new Ask())).Number);
            Assert.Equal(singleton ? 2 : 1, (await client.UnaryAsync(new Ask())).Number);
        }
    }

    [Fact]
    public async Task Mapping_without_registration_or_of_something_else_is_refused()
    {
        await using WebApplication bare = WebApplication.CreateSlimBuilder().Build();
        Assert.Throws<InvalidOperationException>(() => bare.MapGrpcService<ScriptedService>());
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder();
        builder.Services.AddGrpc();
        await using WebApplication application = builder.Build();
        Assert.Throws<InvalidOperationException>(() => application.MapGrpcService<DisposalCount>());
        Assert.Throws<InvalidOperationException>(() => application.MapGrpcReflectionService());
    }

    private sealed class PausingContent(byte[] body, Task end) : HttpContent
    {
        protected override async Task SerializeToStreamAsync(Stream stream, TransportContext? context)
        {
            await stream.WriteAsync(body);
            await stream.FlushAsync();
            await end;
        }

        protected override bool TryComputeLength(out long length)
        {
            length = -1;
            return false;
        }
    }

    internal sealed class DisposalCount
    {
        public int Disposed;
    }

    internal sealed class PerCallService(DisposalCount count) : Scripted.ScriptedBase, IDisposable
    {
        private int _calls;

        public override Task<Answer> Unary(Ask request, ServerCallContext context) => Task.FromResult(new Answer { Number = ++_calls });

        public void Dispose() => Interlocked.Increment(ref count.Disposed);
    }
}
