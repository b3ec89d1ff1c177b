using System.Net.Sockets;
using Famfs.Core.Format;
using Famfs.V1;
using Google.Protobuf;
using Grpc.Core;
using Grpc.Net.Client;

namespace Famfs.Benchmarks.Systems;

/// <summary>What a master sees of a host with one mount: a connection of its own, a subscription, an acknowledgement of
/// every message. There is no memory and no kernel behind it.</summary>
internal sealed class SimulatedHost : IAsyncDisposable
{
    private readonly GrpcChannel _channel;
    private readonly AsyncDuplexStreamingCall<SubscribeRequest, SubscribeReply> _call;
    private readonly Guid _fileSystem;
    private Task _reading = Task.CompletedTask;

    private SimulatedHost(GrpcChannel channel, AsyncDuplexStreamingCall<SubscribeRequest, SubscribeReply> call, Guid fileSystem)
    {
        _channel = channel;
        _call = call;
        _fileSystem = fileSystem;
    }

    public ByteString MountId { get; } = NewId();

    /// <summary>Called with the sequence of the last record of each message, before it is acknowledged.</summary>
    public event Action<ulong>? Received;

    /// <summary>Subscribes at <paramref name="position"/> over a unix socket, and waits until the master has taken the stream. There a
    /// caller is known, so acknowledgements count without a line in memory. One that is
    /// <paramref name="deaf"/> never reads again. Hosts of one
    /// <paramref name="number"/> are one host that mounts anew.</summary>
    public static async Task<SimulatedHost> StartAsync(string socketPath, int number, Position position, bool deaf, CancellationToken cancellation)
    {
        SocketsHttpHandler handler = new()
        {
            ConnectCallback = async (_, cancel) =>
            {
                Socket socket = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
                try
                {
                    await socket.ConnectAsync(new UnixDomainSocketEndPoint(socketPath), cancel);
                    return new NetworkStream(socket, ownsSocket: true);
                }
                catch
                {
                    socket.Dispose();
                    throw;
                }
            },
        };
        GrpcChannel channel = GrpcChannel.ForAddress("http://localhost", new GrpcChannelOptions { HttpHandler = handler, DisposeHttpClient = true });
        SimulatedHost host = new(channel, new Master.MasterClient(channel).Subscribe(cancellationToken: cancellation), new(position.FileSystemUuid.Span, bigEndian: true));
        try
        {
            await host._call.RequestStream.WriteAsync(new SubscribeRequest
            {
                Hello = new() { HostId = HostId(number), BootId = NewId(), MountId = host.MountId, HostName = "simulated", Position = position, Dialect = "stock" },
            }, cancellation);
            if (!await host._call.ResponseStream.MoveNext(cancellation) || host._call.ResponseStream.Current.Welcome is null)
                throw new InvalidOperationException($"the master did not welcome a simulated host: {host._call.ResponseStream.Current}");
            if (!deaf)
                host._reading = host.ReadAsync(cancellation);
            return host;
        }
        catch
        {
            await host.DisposeAsync();
            throw;
        }
    }

    public async ValueTask DisposeAsync()
    {
        _call.Dispose();
        try
        {
            await _reading;
        }
        catch (RpcException error) when (error.StatusCode == StatusCode.Cancelled)
        {
            // What Dispose has just done.
        }
        _channel.Dispose();
    }

    private static ByteString HostId(int number) => ByteString.CopyFrom(new Guid(number + 1, 0, 0, new byte[8]).ToByteArray(bigEndian: true));

    private static ByteString NewId() => ByteString.CopyFrom(Guid.NewGuid().ToByteArray(bigEndian: true));

    private async Task ReadAsync(CancellationToken cancellation)
    {
        while (await _call.ResponseStream.MoveNext(cancellation))
        {
            if (_call.ResponseStream.Current.Records is not { } records)
                continue;
            Position last = LastOf(records);
            Received?.Invoke(last.Sequence);
            await _call.RequestStream.WriteAsync(new SubscribeRequest { Ack = new() { Position = last } }, cancellation);
        }
    }

    private Position LastOf(Records records)
    {
        ReadOnlySpan<byte> frames = records.Frames.Span;
        ulong sequence = 0, term = 0;
        while (!frames.IsEmpty)
        {
            RecordFrame frame = RecordFrame.ReadVerified(frames);
            (sequence, term) = (frame.Sequence.Value, frame.Term.Value);
            frames = frames[frame.PaddedBytes..];
        }
        return new() { FileSystemUuid = ByteString.CopyFrom(_fileSystem.ToByteArray(bigEndian: true)), Generation = records.Generation, Sequence = sequence, Term = term };
    }
}
