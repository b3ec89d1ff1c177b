using Famfs.Testing.Rpc;
using Google.Protobuf;
using Grpc.Core;
using Grpc.Net.Client;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Xunit;

namespace Famfs.Grpc.Tests;

/// <summary>What the client makes of replies no gRPC server sends, and of its own limits.</summary>
public class ClientProtocolTests
{
    private static readonly byte[] Message = RawRequest.Frame(new Answer { Text = "four", Number = 300 }.ToByteArray());

    [Fact]
    public async Task Request_is_the_bytes_of_the_protocol()
    {
        byte[]? body = null;
        IHeaderDictionary? headers = null;
        string? path = null;
        await using TestServer server = await TestServer.StartRawAsync(async http =>
        {
            using MemoryStream copy = new();
            await http.Request.Body.CopyToAsync(copy);
            body = copy.ToArray();
            headers = new HeaderDictionary(http.Request.Headers.ToDictionary(h => h.Key, h => h.Value, StringComparer.OrdinalIgnoreCase));
            path = $"{http.Request.Method} {http.Request.Path} {http.Request.Protocol}";
            http.Response.Headers["grpc-status"] = "5";
        });
        using AsyncUnaryCall<Answer> call = server.CreateClient().UnaryAsync(new Ask { Number = 1 }, new Metadata { { "x-bin", [255] } }, DateTime.UtcNow.AddSeconds(100));
        await Assert.ThrowsAsync<RpcException>(() => call.ResponseAsync.WaitAsync(TestServer.Patience));

        Assert.Equal("POST /famfs.grpc.testing.Scripted/Unary HTTP/2", path);
        Assert.Equal([0, 0, 0, 0, 2, 0x18, 1], body!);
        Assert.Equal("application/grpc", headers!.ContentType);
        Assert.Equal("trailers", headers!.TE);
        Assert.Equal("/w", headers!["x-bin"]);
        Assert.Matches("^[0-9]{1,8}[um]$", headers!["grpc-timeout"].ToString());
        Assert.False(headers!.ContainsKey("content-length"));
        Assert.False(headers!.ContainsKey("grpc-encoding"));
    }

    [Fact]
    public async Task Reply_cut_at_every_byte_is_an_error()
    {
        int length = 0;
        await using TestServer server = await TestServer.StartRawAsync(http => ReplyAsync(http, Message[..length], "0"));
        Scripted.ScriptedClient client = server.CreateClient();
        for (length = 0; length < Message.Length; length++)
        {
            RpcException e = await Assert.ThrowsAsync<RpcException>(() => client.UnaryAsync(new Ask()).ResponseAsync.WaitAsync(TestServer.Patience));
            Assert.Equal(StatusCode.Internal, e.StatusCode);
            if (length > 0)
            {
                using AsyncServerStreamingCall<Answer> stream = client.ServerStream(new Ask());
                e = await Assert.ThrowsAsync<RpcException>(() => stream.ResponseStream.MoveNext().WaitAsync(TestServer.Patience));
                Assert.Equal(StatusCode.Internal, e.StatusCode);
            }
        }

        Assert.Equal(300, (await client.UnaryAsync(new Ask())).Number);
    }

    [Fact]
    public async Task Two_messages_for_a_unary_call_are_an_error()
    {
        await using TestServer server = await TestServer.StartRawAsync(http => ReplyAsync(http, [.. Message, .. Message], "0"));
        RpcException e = await Assert.ThrowsAsync<RpcException>(() => server.CreateClient().UnaryAsync(new Ask()).ResponseAsync.WaitAsync(TestServer.Patience));
        Assert.Equal(StatusCode.Internal, e.StatusCode);
    }

    [Fact]
    public async Task Compressed_reply_is_an_error()
    {
        await using TestServer server = await TestServer.StartRawAsync(http => ReplyAsync(http, RawRequest.Frame([1], flag: 1), "0"));
        RpcException e = await Assert.ThrowsAsync<RpcException>(() => server.CreateClient().UnaryAsync(new Ask()).ResponseAsync.WaitAsync(TestServer.Patience));
        Assert.Equal(StatusCode.Internal, e.StatusCode);
    }

    [Theory]
    [InlineData(null, StatusCode.Unknown)]
    [InlineData("abc", StatusCode.Unknown)]
    [InlineData("-1", StatusCode.Unknown)]
    [InlineData("17", StatusCode.Unknown)]
    [InlineData("16", StatusCode.Unauthenticated)]
    public async Task Status_that_is_missing_or_odd_is_unknown(string? status, StatusCode expected)
    {
        await using TestServer server = await TestServer.StartRawAsync(http => ReplyAsync(http, Message, status));
        RpcException e = await Assert.ThrowsAsync<RpcException>(() => server.CreateClient().UnaryAsync(new Ask()).ResponseAsync.WaitAsync(TestServer.Patience));
        Assert.Equal(expected, e.StatusCode);
    }

    [Fact]
    public async Task Reply_of_another_content_type_is_an_error()
    {
        await using TestServer server = await TestServer.StartRawAsync(http => http.Response.WriteAsync("<html>"));
        RpcException e = await Assert.ThrowsAsync<RpcException>(() => server.CreateClient().UnaryAsync(new Ask()).ResponseAsync.WaitAsync(TestServer.Patience));
        Assert.Equal(StatusCode.Unknown, e.StatusCode);
    }

    [Fact]
    public async Task Server_without_http_2_is_an_error()
    {
        await using TestServer server = await TestServer.StartRawAsync(_ => Task.CompletedTask, protocols: HttpProtocols.Http1);
        RpcException e = await Assert.ThrowsAsync<RpcException>(() => server.CreateClient().UnaryAsync(new Ask()).ResponseAsync.WaitAsync(TestServer.Patience));
        Assert.True(e.StatusCode is StatusCode.Internal or StatusCode.Unavailable, e.Status.ToString());
    }

    [Fact]
    public async Task Request_beyond_the_send_limit_is_not_sent()
    {
        int requests = 0;
        await using TestServer server = await TestServer.StartAsync();
        server.Service.OnUnary = (ask, _) =>
        {
            requests++;
            return Task.FromResult(ScriptedService.Echo(ask));
        };
        Scripted.ScriptedClient client = server.CreateClient(new() { MaxSendMessageSize = 1000 });
        Ask large = new() { Data = ByteString.CopyFrom(new byte[1001]) };
        using AsyncUnaryCall<Answer> unary = client.UnaryAsync(large);
        RpcException e = await Assert.ThrowsAsync<RpcException>(() => unary.ResponseAsync.WaitAsync(TestServer.Patience));
        Assert.Equal(StatusCode.ResourceExhausted, e.StatusCode);
        Assert.Equal(StatusCode.ResourceExhausted, unary.GetStatus().StatusCode);
        Assert.Equal(0, requests);

        using AsyncServerStreamingCall<Answer> stream = client.ServerStream(large);
        e = await Assert.ThrowsAsync<RpcException>(() => stream.ResponseStream.MoveNext().WaitAsync(TestServer.Patience));
        Assert.Equal(StatusCode.ResourceExhausted, e.StatusCode);

        // The stream can go on without the message that was too long.
        using AsyncDuplexStreamingCall<Ask, Answer> duplex = client.Duplex();
        e = await Assert.ThrowsAsync<RpcException>(() => duplex.RequestStream.WriteAsync(large));
        Assert.Equal(StatusCode.ResourceExhausted, e.StatusCode);
        await duplex.RequestStream.WriteAsync(new Ask { Number = 1 });
        Assert.True(await duplex.ResponseStream.MoveNext().WaitAsync(TestServer.Patience));
    }

    [Fact]
    public async Task Response_beyond_the_receive_limit_is_resource_exhausted()
    {
        await using TestServer server = await TestServer.StartAsync();
        server.Service.OnUnary = (_, _) => Task.FromResult(new Answer { Data = ByteString.CopyFrom(new byte[1001]) });
        Scripted.ScriptedClient client = server.CreateClient(new() { MaxReceiveMessageSize = 1000 });
        RpcException e = await Assert.ThrowsAsync<RpcException>(() => client.UnaryAsync(new Ask()).ResponseAsync.WaitAsync(TestServer.Patience));
        Assert.Equal(StatusCode.ResourceExhausted, e.StatusCode);

        using AsyncServerStreamingCall<Answer> stream = client.ServerStream(new Ask { Number = 1, Data = ByteString.CopyFrom(new byte[1001]) });
        e = await Assert.ThrowsAsync<RpcException>(() => stream.ResponseStream.MoveNext().WaitAsync(TestServer.Patience));
        Assert.Equal(StatusCode.ResourceExhausted, e.StatusCode);
    }

    [Fact]
    public async Task Announced_length_alone_takes_no_memory()
    {
        // A prefix of almost 2 GiB, then nothing: the client must not make room before bytes arrive.
        await using TestServer server = await TestServer.StartRawAsync(http => ReplyAsync(http, [0, 0x7F, 0xFF, 0xFF, 0x00, 1, 2, 3], "0"));
        Scripted.ScriptedClient client = server.CreateClient(new() { MaxReceiveMessageSize = null });
        long before = GC.GetAllocatedBytesForCurrentThread() + GC.GetTotalMemory(false);
        RpcException e = await Assert.ThrowsAsync<RpcException>(() => client.UnaryAsync(new Ask()).ResponseAsync.WaitAsync(TestServer.Patience));
        Assert.Equal(StatusCode.Internal, e.StatusCode);
        Assert.True(GC.GetTotalMemory(false) - before < 512 * 1024 * 1024);
    }

    [Fact]
    public async Task Keep_alive_pings_find_a_peer_that_answers_nothing()
    {
        // Reads and never writes: no settings acknowledgement would be missed, pings are.
        using System.Net.Sockets.Socket listener = new(System.Net.Sockets.AddressFamily.InterNetwork, System.Net.Sockets.SocketType.Stream, System.Net.Sockets.ProtocolType.Tcp);
        listener.Bind(new System.Net.IPEndPoint(System.Net.IPAddress.Loopback, 0));
        listener.Listen();
        Task serving = Task.Run(async () =>
        {
            using System.Net.Sockets.Socket peer = await listener.AcceptAsync();
            await peer.SendAsync(new byte[] { 0, 0, 0, 4, 0, 0, 0, 0, 0 }); // an empty SETTINGS frame
            byte[] sink = new byte[4096];
            while (await peer.ReceiveAsync(sink) > 0)
            {
            }
        });
        GrpcChannelOptions options = new()
        {
            HttpHandler = new SocketsHttpHandler { KeepAlivePingDelay = TimeSpan.FromSeconds(1), KeepAlivePingTimeout = TimeSpan.FromSeconds(1) },
            DisposeHttpClient = true,
        };
        using (GrpcChannel channel = GrpcChannel.ForAddress($"http://{listener.LocalEndPoint}", options))
        {
            RpcException e = await Assert.ThrowsAsync<RpcException>(() => new Scripted.ScriptedClient(channel).UnaryAsync(new Ask()).ResponseAsync.WaitAsync(TestServer.Patience));
            Assert.True(e.StatusCode is StatusCode.Unavailable or StatusCode.Internal, e.Status.ToString());
        }

        await serving.WaitAsync(TestServer.Patience).ContinueWith(_ => { }, TaskScheduler.Default);
    }

    [Theory]
    [InlineData("ftp://host")]
    [InlineData("host:80")]
    [InlineData("")]
    [InlineData("unix:")]
    public void Other_addresses_are_refused(string address)
    {
        Assert.Throws<ArgumentException>(() => GrpcChannel.ForAddress(address));
    }

    [Fact]
    public async Task Unix_address_may_have_slashes()
    {
        await using TestServer server = await TestServer.StartAsync(Transport.Unix);
        using GrpcChannel channel = GrpcChannel.ForAddress("unix://" + server.Address["unix:".Length..]);
        Assert.Equal("x", (await new Scripted.ScriptedClient(channel).UnaryAsync(new Ask { Text = "x" })).Text);
    }

    [Fact]
    public async Task Channel_can_use_a_client_that_is_given()
    {
        await using TestServer server = await TestServer.StartAsync();
        using GrpcChannel channel = GrpcChannel.ForAddress(server.Address, new GrpcChannelOptions { HttpClient = server.CreateHttpClient() });
        Assert.Equal("x", (await new Scripted.ScriptedClient(channel).UnaryAsync(new Ask { Text = "x" })).Text);
    }

    [Fact]
    public void Credentials_must_fit_the_address()
    {
        Assert.Throws<InvalidOperationException>(() => GrpcChannel.ForAddress("http://localhost", new GrpcChannelOptions { Credentials = ChannelCredentials.SecureSsl }));
        Assert.Throws<InvalidOperationException>(() => GrpcChannel.ForAddress("https://localhost", new GrpcChannelOptions { Credentials = ChannelCredentials.Insecure }));
    }

    private static async Task ReplyAsync(HttpContext http, byte[] body, string? status)
    {
        http.Response.ContentType = "application/grpc";
        await http.Response.StartAsync();
        await http.Response.Body.WriteAsync(body);
        if (status is not null)
        {
            http.Response.AppendTrailer("grpc-status", status);
        }
    }
}
