using System.Buffers;
using System.Net;
using System.Net.Http.Headers;
using Famfs.Testing.Rpc;
using Google.Protobuf;
using Grpc.Core;
using Grpc.Net.Client;
using Grpc.Wire;
using Xunit;

namespace Famfs.Grpc.Tests;

/// <summary>
/// Writers that hold messages back, against readers that flush them before they wait. Every message carries its place
/// in its stream, so one that is lost, doubled or overtaken shows at once.
/// </summary>
public class StreamStressTests
{
    private const int Calls = 4;

    // No network between the two, only a thread each: the flushes the reader starts end within the time one write
    // takes, now a bit earlier, now later, so that every order of the two comes up many times.
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Every_request_reaches_the_handler_once_whenever_a_flush_by_the_reader_ends(bool withToken)
    {
        const int Count = 100_000;
        using CancellationTokenSource never = new();
        CancellationToken cancellationToken = withToken ? never.Token : CancellationToken.None;
        using RecordingHandler handler = new();
        using GrpcChannel channel = GrpcChannel.ForAddress("http://localhost", new GrpcChannelOptions { HttpHandler = handler });
        using AsyncDuplexStreamingCall<Ask, Answer> call = new Scripted.ScriptedClient(channel).Duplex();
        Task writing = Task.Run(async () =>
        {
            for (int i = 0; i < Count; i++)
            {
                call.RequestStream.WriteOptions = i % 10 == 9 ? null : new WriteOptions(WriteFlags.BufferHint);
                Task write = call.RequestStream.WriteAsync(new Ask { Number = i }, cancellationToken);
                if (!write.IsCompletedSuccessfully)
                {
                    await write;

                    // Off the thread of the reader, which has ended the flush this write waited for.
                    await Task.Yield();
                }
            }

            await call.RequestStream.CompleteAsync();
        });
        Task reading = Task.Run(async () =>
        {
            while (await call.ResponseStream.MoveNext(CancellationToken.None))
            {
            }
        });
        try
        {
            await writing.WaitAsync(TestServer.Patience);
            await reading.WaitAsync(TestServer.Patience);
        }
        finally
        {
            // A reader left behind by a writer that failed would go on for ever.
            call.Dispose();
        }

        Assert.Equal(Enumerable.Range(0, Count), handler.Requests.Numbers());
    }

    [Theory]
    [InlineData(Transport.Tcp)]
    [InlineData(Transport.Unix)]
    public async Task No_request_is_lost_between_a_hinted_write_and_a_flush_by_the_reader(Transport transport)
    {
        await using TestServer server = await TestServer.StartAsync(transport);
        Scripted.ScriptedClient client = server.CreateClient();
        for (int round = 0; round < 10; round++)
        {
            await Task.WhenAll(Enumerable.Range(0, Calls).Select(call => Task.Run(() => EchoAsync(client, 4_000, hintEvery: 2 + call)))).WaitAsync(TestServer.Patience);
        }
    }

    [Theory]
    [InlineData(Transport.Tcp)]
    [InlineData(Transport.Unix)]
    public async Task No_response_is_lost_between_a_hinted_write_and_a_flush_by_the_reader(Transport transport)
    {
        await using TestServer server = await TestServer.StartAsync(transport);
        const int Count = 4_000;
        server.Service.OnDuplex = async (asks, answers, _) =>
        {
            // The writer does not wait for the reader, so that both reach the response at once.
            Task writing = Task.Run(async () =>
            {
                for (int i = 0; i < Count; i++)
                {
                    answers.WriteOptions = i % 3 == 0 ? null : new WriteOptions(WriteFlags.BufferHint);
                    await answers.WriteAsync(new Answer { Number = i });
                }
            });
            int expected = 0;
            while (await asks.MoveNext(CancellationToken.None))
            {
                Assert.Equal(expected++, asks.Current.Number);
            }

            Assert.Equal(Count, expected);
            await writing;
        };
        Scripted.ScriptedClient client = server.CreateClient();
        for (int round = 0; round < 10; round++)
        {
            await Task.WhenAll(Enumerable.Range(0, Calls).Select(call => Task.Run(() => EchoAsync(client, Count, hintEvery: 2 + call)))).WaitAsync(TestServer.Patience);
        }
    }

    [Theory]
    [InlineData(Transport.Tcp)]
    [InlineData(Transport.Unix)]
    public async Task No_message_of_concurrent_server_streams_is_lost(Transport transport)
    {
        await using TestServer server = await TestServer.StartAsync(transport);
        server.Service.OnServerStream = async (ask, answers, _) =>
        {
            for (int i = 0; i < ask.Number; i++)
            {
                answers.WriteOptions = i % 7 == 0 ? null : new WriteOptions(WriteFlags.BufferHint);
                await answers.WriteAsync(new Answer { Number = i });
            }
        };
        Scripted.ScriptedClient client = server.CreateClient();
        for (int round = 0; round < 10; round++)
        {
            await Task.WhenAll(Enumerable.Range(0, Calls).Select(_ => Task.Run(async () =>
            {
                using AsyncServerStreamingCall<Answer> call = client.ServerStream(new Ask { Number = 4_000 });
                await ExpectAsync(call.ResponseStream, 4_000);
            }))).WaitAsync(TestServer.Patience);
        }
    }

    private static async Task EchoAsync(Scripted.ScriptedClient client, int count, int hintEvery)
    {
        using AsyncDuplexStreamingCall<Ask, Answer> call = client.Duplex();
        Task writing = Task.Run(async () =>
        {
            for (int i = 0; i < count; i++)
            {
                call.RequestStream.WriteOptions = i % hintEvery == 0 ? null : new WriteOptions(WriteFlags.BufferHint);
                await call.RequestStream.WriteAsync(new Ask { Number = i });
            }

            await call.RequestStream.CompleteAsync();
        });
        await ExpectAsync(call.ResponseStream, count);
        await writing;
    }

    private static async Task ExpectAsync(IAsyncStreamReader<Answer> answers, int count)
    {
        int expected = 0;
        while (await answers.MoveNext(CancellationToken.None))
        {
            Assert.Equal(expected++, answers.Current.Number);
        }

        Assert.Equal(count, expected);
    }

    /// <summary>Keeps the requests of one call, and answers with empty messages for as long as requests come.</summary>
    private sealed class RecordingHandler : HttpMessageHandler
    {
        public RecordingStream Requests { get; } = new();

        public Task Sent { get; private set; } = Task.CompletedTask;

        protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            Sent = request.Content!.CopyToAsync(Requests, cancellationToken);
            HttpResponseMessage response = new(HttpStatusCode.OK) { Version = HttpVersion.Version20, Content = new StreamContent(new TickingStream(Sent, Requests)) };
            response.Content.Headers.ContentType = new MediaTypeHeaderValue("application/grpc");
            response.TrailingHeaders.Add("grpc-status", "0");
            return Task.FromResult(response);
        }
    }

    /// <summary>Keeps what is written. A flush lasts until it is told to end; until then the bytes must not change.</summary>
    private sealed class RecordingStream : TestStream
    {
        private readonly MemoryStream _bytes = new();
        private ReadOnlyMemory<byte> _written;
        private TaskCompletionSource? _flush;

        public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
        {
            Assert.Null(Volatile.Read(ref _flush));
            _bytes.Write(buffer.Span);
            _written = buffer;
            return ValueTask.CompletedTask;
        }

        public override Task FlushAsync(CancellationToken cancellationToken)
        {
            TaskCompletionSource flush = new();
            Assert.Null(Interlocked.Exchange(ref _flush, flush));
            return flush.Task;
        }

        public void EndFlush()
        {
            if (Volatile.Read(ref _flush) is { } flush)
            {
                bool same = _written.Span.SequenceEqual(_bytes.GetBuffer().AsSpan((int)_bytes.Length - _written.Length, _written.Length));
                Volatile.Write(ref _flush, null);
                if (same)
                {
                    flush.SetResult();
                }
                else
                {
                    flush.SetException(new InvalidDataException("The bytes changed while they were sent."));
                }
            }
        }

        public IEnumerable<int> Numbers()
        {
            ReadOnlySequence<byte> rest = new(_bytes.ToArray());
            while (MessageReader.TryRead(ref rest, null, out ReadOnlySequence<byte> message))
            {
                yield return Ask.Parser.ParseFrom(message).Number;
            }

            Assert.True(rest.IsEmpty);
        }
    }

    /// <summary>One empty message per read, until a task is done. Reading is what ends the flushes of the requests.</summary>
    private sealed class TickingStream(Task until, RecordingStream requests) : TestStream
    {
        private int _reads;

        public override bool CanRead => true;

        public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
        {
            Thread.SpinWait(_reads++ % 16);
            requests.EndFlush();
            if (until.IsCompleted)
            {
                return ValueTask.FromResult(0);
            }

            buffer.Span[..MessageReader.HeaderLengthBytes].Clear();
            return ValueTask.FromResult(MessageReader.HeaderLengthBytes);
        }
    }

    private abstract class TestStream : Stream
    {
        public override bool CanRead => false;

        public override bool CanSeek => false;

        public override bool CanWrite => true;

        public override long Length => throw new NotSupportedException();

        public override long Position
        {
            get => throw new NotSupportedException();
            set => throw new NotSupportedException();
        }

        public override void Flush() => throw new NotSupportedException();

        public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
    }
}
