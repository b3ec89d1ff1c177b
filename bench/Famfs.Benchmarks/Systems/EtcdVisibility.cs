using System.Diagnostics;
using Famfs.Benchmarks.Etcd;
using Grpc.Core;

namespace Famfs.Benchmarks.Systems;

/// <summary>etcd: a put, seen as the event of a watch that stood before.</summary>
internal sealed class EtcdVisibility(Scratch scratch) : IVisibilityUnderTest
{
    private const string Prefix = "visible/";

    private readonly EtcdServer _server = new(scratch);
    private AsyncDuplexStreamingCall<WatchRequest, WatchResponse>? _watch;

    public string Name => "etcd";

    public async Task StartAsync(CancellationToken cancellation)
    {
        await _server.StartAsync(cancellation);
        _watch = await _server.WatchAsync(Prefix, cancellation);
    }

    public async Task<Visibility> MeasureAsync(long number, CancellationToken cancellation)
    {
        string path = Prefix + MountContent.FileName(number);
        long begin = Stopwatch.GetTimestamp();
        Task<double> seen = SeeAsync(path, begin, cancellation);
        await _server.CreateAsync(path, 0, cancellation);
        double acknowledged = Stopwatch.GetElapsedTime(begin).TotalMicroseconds;
        return new(acknowledged, await seen);
    }

    public async ValueTask DisposeAsync()
    {
        _watch?.Dispose();
        await _server.DisposeAsync();
    }

    private async Task<double> SeeAsync(string path, long begin, CancellationToken cancellation)
    {
        while (await _watch!.ResponseStream.MoveNext(cancellation))
        {
            if (_watch.ResponseStream.Current.Events.Any(e => e.Kv.Key.ToStringUtf8() == path))
                return Stopwatch.GetElapsedTime(begin).TotalMicroseconds;
        }
        throw new InvalidOperationException("etcd ended the watch");
    }
}
