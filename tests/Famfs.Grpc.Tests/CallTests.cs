using Famfs.Testing.Rpc;
using Google.Protobuf;
using Grpc.Core;
using Xunit;

namespace Famfs.Grpc.Tests;

public class CallTests
{
    [Theory]
    [InlineData(Transport.Tcp)]
    [InlineData(Transport.Unix)]
    [InlineData(Transport.Tls)]
    public async Task Unary_call_returns_what_the_handler_returns(Transport transport)
    {
        await using TestServer server = await TestServer.StartAsync(transport);
        Scripted.ScriptedClient client = server.CreateClient();

        using AsyncUnaryCall<Answer> call = client.UnaryAsync(new Ask { Text = "hello", Number = 7 });
        Answer answer = await call.ResponseAsync.WaitAsync(TestServer.Patience);

        Assert.Equal("hello", answer.Text);
        Assert.Equal(7, answer.Number);
        Assert.Equal(Status.DefaultSuccess, call.GetStatus());
        Assert.Empty(call.GetTrailers());
    }

    [Theory]
    [InlineData(Transport.Tcp)]
    [InlineData(Transport.Unix)]
    public async Task Blocking_unary_call_returns_what_the_handler_returns(Transport transport)
    {
        await using TestServer server = await TestServer.StartAsync(transport);
        Answer answer = server.CreateClient().Unary(new Ask { Text = "hello" });
        Assert.Equal("hello", answer.Text);
    }

    [Theory]
    [InlineData(Transport.Tcp)]
    [InlineData(Transport.Unix)]
    [InlineData(Transport.Tls)]
    public async Task Client_stream_reaches_the_handler_in_order(Transport transport)
    {
        await using TestServer server = await TestServer.StartAsync(transport);
        using AsyncClientStreamingCall<Ask, Answer> call = server.CreateClient().ClientStream();

        string expected = string.Empty;
        for (int i = 0; i < 200; i++)
        {
            expected += $"{i},";
            await call.RequestStream.WriteAsync(new Ask { Text = $"{i}," });
        }

        await call.RequestStream.CompleteAsync();
        Answer answer = await call.ResponseAsync.WaitAsync(TestServer.Patience);

        Assert.Equal(expected, answer.Text);
        Assert.Equal(200, answer.Number);
    }

    [Theory]
    [InlineData(Transport.Tcp)]
    [InlineData(Transport.Unix)]
    [InlineData(Transport.Tls)]
    public async Task Server_stream_reaches_the_client_in_order_and_ends(Transport transport)
    {
        await using TestServer server = await TestServer.StartAsync(transport);
        using AsyncServerStreamingCall<Answer> call = server.CreateClient().ServerStream(new Ask { Number = 1000, Text = "x" });

        List<int> numbers = [];
        await foreach (Answer answer in call.ResponseStream.ReadAllAsync())
        {
            numbers.Add(answer.Number);
        }

        Assert.Equal(Enumerable.Range(0, 1000), numbers);
        Assert.Equal(StatusCode.OK, call.GetStatus().StatusCode);
        Assert.False(await call.ResponseStream.MoveNext());
    }

    [Fact]
    public async Task Server_stream_without_messages_ends_at_once()
    {
        await using TestServer server = await TestServer.StartAsync();
        using AsyncServerStreamingCall<Answer> call = server.CreateClient().ServerStream(new Ask());
        Assert.False(await call.ResponseStream.MoveNext().WaitAsync(TestServer.Patience));
        Assert.Equal(StatusCode.OK, call.GetStatus().StatusCode);
    }

    [Theory]
    [InlineData(Transport.Tcp)]
    [InlineData(Transport.Unix)]
    [InlineData(Transport.Tls)]
    public async Task Duplex_messages_go_back_and_forth_one_by_one(Transport transport)
    {
        await using TestServer server = await TestServer.StartAsync(transport);
        using AsyncDuplexStreamingCall<Ask, Answer> call = server.CreateClient().Duplex();

        for (int i = 0; i < 50; i++)
        {
            await call.RequestStream.WriteAsync(new Ask { Number = i });
            Assert.True(await call.ResponseStream.MoveNext().WaitAsync(TestServer.Patience));
            Assert.Equal(i, call.ResponseStream.Current.Number);
        }

        await call.RequestStream.CompleteAsync();
        Assert.False(await call.ResponseStream.MoveNext().WaitAsync(TestServer.Patience));
    }

    [Fact]
    public async Task Duplex_messages_flow_both_ways_at_once()
    {
        await using TestServer server = await TestServer.StartAsync(Transport.Unix);
        using AsyncDuplexStreamingCall<Ask, Answer> call = server.CreateClient().Duplex();
        const int Count = 20_000;

        Task writing = Task.Run(async () =>
        {
            for (int i = 0; i < Count; i++)
            {
                call.RequestStream.WriteOptions = i % 10 == 9 ? null : new WriteOptions(WriteFlags.BufferHint);
                await call.RequestStream.WriteAsync(new Ask { Number = i, Text = "twenty bytes of text" });
            }

            await call.RequestStream.CompleteAsync();
        });
        int expected = 0;
        while (await call.ResponseStream.MoveNext().WaitAsync(TestServer.Patience))
        {
            Assert.Equal(expected++, call.ResponseStream.Current.Number);
        }

        await writing;
        Assert.Equal(Count, expected);
    }

    [Fact]
    public async Task Messages_larger_than_every_window_pass_whole()
    {
        await using TestServer server = await TestServer.StartAsync(grpc: options => options.MaxReceiveMessageSize = null);
        byte[] data = new byte[9 * 1024 * 1024 + 3];
        new Random(1).NextBytes(data);
        Scripted.ScriptedClient client = server.CreateClient(new() { MaxReceiveMessageSize = null });

        Answer answer = await client.UnaryAsync(new Ask { Data = ByteString.CopyFrom(data) }).ResponseAsync.WaitAsync(TestServer.Patience);
        Assert.True(answer.Data.Span.SequenceEqual(data));

        using AsyncDuplexStreamingCall<Ask, Answer> call = client.Duplex();
        for (int i = 0; i < 2; i++)
        {
            await call.RequestStream.WriteAsync(new Ask { Data = ByteString.CopyFrom(data) }).WaitAsync(TestServer.Patience);
            Assert.True(await call.ResponseStream.MoveNext().WaitAsync(TestServer.Patience));
            Assert.True(call.ResponseStream.Current.Data.Span.SequenceEqual(data));
        }
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(4086)]
    [InlineData(4087)]
    [InlineData(4088)]
    [InlineData(4091)]
    [InlineData(16379)]
    [InlineData(70_000)]
    public async Task Messages_around_the_sizes_of_blocks_and_frames_pass_whole(int length)
    {
        await using TestServer server = await TestServer.StartAsync(Transport.Unix);
        byte[] data = new byte[length];
        new Random(length).NextBytes(data);
        Ask ask = new() { Data = ByteString.CopyFrom(data) };
        Scripted.ScriptedClient client = server.CreateClient();

        Assert.Equal(ask.Data, (await client.UnaryAsync(ask)).Data);
        using AsyncDuplexStreamingCall<Ask, Answer> call = client.Duplex();
        for (int i = 0; i < 5; i++)
        {
            await call.RequestStream.WriteAsync(ask);
            Assert.True(await call.ResponseStream.MoveNext().WaitAsync(TestServer.Patience));
            Assert.Equal(ask.Data, call.ResponseStream.Current.Data);
        }
    }

    [Fact]
    public async Task Buffered_requests_leave_when_the_client_waits_for_responses()
    {
        await using TestServer server = await TestServer.StartAsync();
        using AsyncDuplexStreamingCall<Ask, Answer> call = server.CreateClient().Duplex();
        call.RequestStream.WriteOptions = new WriteOptions(WriteFlags.BufferHint);

        await call.RequestStream.WriteAsync(new Ask { Number = 1 });
        await call.RequestStream.WriteAsync(new Ask { Number = 2 });

        Assert.True(await call.ResponseStream.MoveNext().WaitAsync(TestServer.Patience));
        Assert.True(await call.ResponseStream.MoveNext().WaitAsync(TestServer.Patience));
        Assert.Equal(2, call.ResponseStream.Current.Number);
    }

    [Fact]
    public async Task Buffered_responses_leave_when_the_handler_waits_for_requests()
    {
        await using TestServer server = await TestServer.StartAsync();
        server.Service.OnDuplex = async (asks, answers, _) =>
        {
            answers.WriteOptions = new WriteOptions(WriteFlags.BufferHint);
            await foreach (Ask ask in asks.ReadAllAsync())
            {
                await answers.WriteAsync(ScriptedService.Echo(ask));
            }
        };
        using AsyncDuplexStreamingCall<Ask, Answer> call = server.CreateClient().Duplex();

        await call.RequestStream.WriteAsync(new Ask { Number = 5 });

        Assert.True(await call.ResponseStream.MoveNext().WaitAsync(TestServer.Patience));
        Assert.Equal(5, call.ResponseStream.Current.Number);
    }

    [Fact]
    public async Task Buffered_responses_leave_when_the_call_ends()
    {
        await using TestServer server = await TestServer.StartAsync();
        server.Service.OnServerStream = async (_, answers, _) =>
        {
            answers.WriteOptions = new WriteOptions(WriteFlags.BufferHint);
            await answers.WriteAsync(new Answer { Number = 1 });
            throw new RpcException(new Status(StatusCode.Aborted, "after one"));
        };
        using AsyncServerStreamingCall<Answer> call = server.CreateClient().ServerStream(new Ask());

        Assert.True(await call.ResponseStream.MoveNext().WaitAsync(TestServer.Patience));
        RpcException e = await Assert.ThrowsAsync<RpcException>(() => call.ResponseStream.MoveNext());
        Assert.Equal(StatusCode.Aborted, e.StatusCode);
    }

    [Fact]
    public async Task Many_calls_share_a_channel_beyond_the_limit_of_streams()
    {
        await using TestServer server = await TestServer.StartAsync(kestrel: options => options.Limits.Http2.MaxStreamsPerConnection = 4);
        int running = 0;
        TaskCompletionSource all = new(TaskCreationOptions.RunContinuationsAsynchronously);
        server.Service.OnUnary = async (ask, _) =>
        {
            if (Interlocked.Increment(ref running) == 10)
            {
                all.SetResult();
            }

            // Ends only if ten calls run at once, which takes three connections of four streams.
            await all.Task;
            return ScriptedService.Echo(ask);
        };
        Scripted.ScriptedClient client = server.CreateClient();

        Answer[] answers = await Task.WhenAll(Enumerable.Range(0, 10).Select(i => client.UnaryAsync(new Ask { Number = i }).ResponseAsync)).WaitAsync(TestServer.Patience);

        Assert.Equal(Enumerable.Range(0, 10), answers.Select(answer => answer.Number));
    }

    [Fact]
    public async Task Second_write_while_one_is_under_way_is_refused()
    {
        await using TestServer server = await TestServer.StartAsync();
        TaskCompletionSource release = new();
        server.Service.OnDuplex = (_, _, _) => release.Task;
        using AsyncDuplexStreamingCall<Ask, Answer> call = server.CreateClient().Duplex();
        using CancellationTokenSource source = new();

        // The handler does not read, so this write fills every window and waits.
        Task first = call.RequestStream.WriteAsync(new Ask { Data = ByteString.CopyFrom(new byte[8 * 1024 * 1024]) }, source.Token);
        InvalidOperationException e = await Assert.ThrowsAsync<InvalidOperationException>(() => call.RequestStream.WriteAsync(new Ask(), CancellationToken.None));
        Assert.Contains("in progress", e.Message, StringComparison.Ordinal);

        source.Cancel();
        RpcException cancelled = await Assert.ThrowsAsync<RpcException>(() => first.WaitAsync(TestServer.Patience));
        Assert.Equal(StatusCode.Cancelled, cancelled.StatusCode);
        release.SetResult();
    }

    [Fact]
    public async Task Write_after_completion_is_refused()
    {
        await using TestServer server = await TestServer.StartAsync();
        using AsyncClientStreamingCall<Ask, Answer> call = server.CreateClient().ClientStream();
        await call.RequestStream.CompleteAsync();
        await Assert.ThrowsAsync<InvalidOperationException>(() => call.RequestStream.WriteAsync(new Ask()));
        await call.RequestStream.CompleteAsync();
        Assert.Equal(0, (await call.ResponseAsync.WaitAsync(TestServer.Patience)).Number);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Message_whose_serializer_throws_leaves_nothing_in_the_stream(bool afterSome)
    {
        await using TestServer server = await TestServer.StartAsync(Transport.Tcp);
        Method<Ask, Answer> method = new(
            MethodType.DuplexStreaming,
            "famfs.grpc.testing.Scripted",
            "Duplex",
            Marshallers.Create<Ask>(
                (ask, context) =>
                {
                    context.SetPayloadLength(ask.CalculateSize());
                    System.Buffers.IBufferWriter<byte> writer = context.GetBufferWriter();
                    if (ask.Number < 0)
                    {
                        writer.GetSpan(1)[0] = 1;
                        writer.Advance(afterSome ? 1 : 0);
                        throw new NotSupportedException("This number is not sent.");
                    }

                    ask.WriteTo(writer);
                    context.Complete();
                },
                _ => throw new NotSupportedException()),
            Marshallers.Create<Answer>((_, _) => throw new NotSupportedException(), context => Answer.Parser.ParseFrom(context.PayloadAsReadOnlySequence())));
        using AsyncDuplexStreamingCall<Ask, Answer> call = server.CreateChannel().CreateCallInvoker().AsyncDuplexStreamingCall(method, null, default);
        ByteString large = ByteString.CopyFrom(new byte[5000]);

        call.RequestStream.WriteOptions = new WriteOptions(WriteFlags.BufferHint);
        await call.RequestStream.WriteAsync(new Ask { Number = 1 });
        await Assert.ThrowsAsync<NotSupportedException>(() => call.RequestStream.WriteAsync(new Ask { Number = -1, Data = large }));
        call.RequestStream.WriteOptions = null;
        await call.RequestStream.WriteAsync(new Ask { Number = 2, Data = large });
        await call.RequestStream.CompleteAsync();

        List<int> numbers = [];
        while (await call.ResponseStream.MoveNext(CancellationToken.None).WaitAsync(TestServer.Patience))
        {
            numbers.Add(call.ResponseStream.Current.Number);
        }

        Assert.Equal([1, 2], numbers);
    }
}
