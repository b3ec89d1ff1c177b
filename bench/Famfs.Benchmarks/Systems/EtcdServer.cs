using System.Diagnostics;
using System.Text;
using Famfs.Benchmarks.Etcd;
using Google.Protobuf;
using Grpc.Core;
using Grpc.Net.Client;

namespace Famfs.Benchmarks.Systems;

/// <summary>A single etcd with its data in /dev/shm. Called through the same gRPC runtime as the master, so
/// that the client's cost is the same on both sides.</summary>
internal sealed class EtcdServer(Scratch scratch, string program = "/usr/bin/etcd") : IMasterUnderTest
{
    // What etcd accepts in one transaction unless told otherwise (--max-txn-ops).
    private const int OperationsPerTransaction = 128;

    // About what a FileCreated record takes besides the name.
    private static readonly ByteString s_value = ByteString.CopyFrom(Enumerable.Range(0, 100).Select(i => (byte)(i * 37)).ToArray());

    private ChildProcess? _server;
    private GrpcChannel? _channel;
    private KV.KVClient? _keys;
    private Connections<KV.KVClient>? _others;

    public string Name => "etcd";

    public async Task StartAsync(CancellationToken cancellation)
    {
        if (!File.Exists(program))
            throw new NotAvailableException($"{program} is not installed");
        string data = scratch.MakeDirectory("etcd");
        string clients = $"http://127.0.0.1:{LocalPort.Free()}";
        string peers = $"http://127.0.0.1:{LocalPort.Free()}";
        _server = ChildProcess.Start(scratch, program,
        [
            "--data-dir", data, "--logger", "zap", "--log-level", "error",
            "--listen-client-urls", clients, "--advertise-client-urls", clients,
            "--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers, "--initial-cluster", $"default={peers}",
        ]);
        _channel = GrpcChannel.ForAddress(clients);
        _keys = new(_channel);
        _others = new(clients, channel => new(channel));
        await _server.WaitUntilAsync(() => AnswersAsync(cancellation), "it answered", cancellation);
    }

    public Task MakeDirectoryAsync(string name, CancellationToken cancellation) => Task.CompletedTask;

    public async Task CreateAsync(string path, int connection, CancellationToken cancellation) =>
        await (connection == 0 ? _keys! : _others![connection]).PutAsync(Put(path), cancellationToken: cancellation);

    public async Task<(long Count, double Seconds)> CreateInBulkAsync(string directory, double seconds, CancellationToken cancellation)
    {
        // Several transactions are under way at once, as the stream of the master has several messages.
        const int InFlight = 4;
        long next = 0, done = 0;
        long begin = Stopwatch.GetTimestamp();
        await Task.WhenAll(Enumerable.Range(0, InFlight).Select(async _ =>
        {
            while (Stopwatch.GetElapsedTime(begin).TotalSeconds < seconds)
            {
                long first = Interlocked.Add(ref next, OperationsPerTransaction) - OperationsPerTransaction;
                TxnRequest transaction = new();
                for (int i = 0; i < OperationsPerTransaction; i++)
                    transaction.Success.Add(new RequestOp { RequestPut = Put($"{directory}/{MountContent.FileName(first + i)}") });
                TxnResponse response = await _keys!.TxnAsync(transaction, cancellationToken: cancellation);
                if (!response.Succeeded)
                    throw new InvalidOperationException("etcd refused a transaction of puts");
                Interlocked.Add(ref done, OperationsPerTransaction);
            }
        }));
        return (done, Stopwatch.GetElapsedTime(begin).TotalSeconds);
    }

    /// <summary>Watches every key that starts with <paramref name="prefix"/>; returns once the watch stands.</summary>
    public async Task<AsyncDuplexStreamingCall<WatchRequest, WatchResponse>> WatchAsync(string prefix, CancellationToken cancellation)
    {
        Watch.WatchClient client = new(_channel!);
        AsyncDuplexStreamingCall<WatchRequest, WatchResponse> call = client.Watch(cancellationToken: cancellation);
        byte[] end = Encoding.UTF8.GetBytes(prefix);
        end[^1]++;
        await call.RequestStream.WriteAsync(new WatchRequest
        {
            CreateRequest = new() { Key = ByteString.CopyFromUtf8(prefix), RangeEnd = ByteString.CopyFrom(end) },
        }, cancellation);
        if (!await call.ResponseStream.MoveNext(cancellation) || !call.ResponseStream.Current.Created)
            throw new InvalidOperationException("etcd did not create the watch");
        return call;
    }

    public async ValueTask DisposeAsync()
    {
        _channel?.Dispose();
        _others?.Dispose();
        if (_server is not null)
            await _server.DisposeAsync();
    }

    private static PutRequest Put(string path) => new() { Key = ByteString.CopyFromUtf8(path), Value = s_value };

    private async Task<bool> AnswersAsync(CancellationToken cancellation)
    {
        try
        {
            await CreateAsync("ready", 0, cancellation);
            return true;
        }
        catch (RpcException error) when (error.StatusCode is StatusCode.Unavailable or StatusCode.DeadlineExceeded)
        {
            return false;
        }
    }
}
