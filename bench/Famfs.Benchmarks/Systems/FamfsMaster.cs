using System.Diagnostics;
using Famfs.V1;
using Grpc.Core;

namespace Famfs.Benchmarks.Systems;

/// <summary>The product's master, without mounts.</summary>
internal sealed class FamfsMaster(Scratch scratch, FamfsInstallation installation) : IMasterUnderTest
{
    private const ulong FileBytes = 4096;
    private const int FilesPerMessage = 256;

    // Sparse: only the log is ever written. Room for four million files of one unit.
    private const long DeviceBytes = 8L << 40;

    // Messages sent and not yet answered in the bulk stream.
    private const int MessagesInFlight = 8;

    private FamfsCluster? _cluster;
    private Connections<Master.MasterClient>? _others;

    public string Name => "famfs-master";

    public async Task StartAsync(CancellationToken cancellation)
    {
        _cluster = await FamfsCluster.StartAsync(scratch, installation, DeviceBytes, cancellation);
        _others = new(_cluster.Address, channel => new(channel));
    }

    public async Task MakeDirectoryAsync(string name, CancellationToken cancellation) =>
        await _cluster!.Client.MakeDirectoryAsync(new MakeDirectoryRequest { Path = name, Parents = true }, cancellationToken: cancellation);

    public async Task CreateAsync(string path, int connection, CancellationToken cancellation) =>
        await (connection == 0 ? _cluster!.Client : _others![connection]).CreateFileAsync(FamfsCluster.Create(path, FileBytes), cancellationToken: cancellation);

    public async Task<(long Count, double Seconds)> CreateInBulkAsync(string directory, double seconds, CancellationToken cancellation)
    {
        using AsyncDuplexStreamingCall<CreateFilesRequest, CreateFilesReply> call = _cluster!.Client.CreateFiles(cancellationToken: cancellation);
        using SemaphoreSlim window = new(MessagesInFlight);
        long done = 0;
        long begin = Stopwatch.GetTimestamp();
        Task reading = ReadAsync();
        for (long next = 0; Stopwatch.GetElapsedTime(begin).TotalSeconds < seconds && !reading.IsCompleted; next += FilesPerMessage)
        {
            CreateFilesRequest request = new() { OmitMaps = true };
            for (int i = 0; i < FilesPerMessage; i++)
                request.Files.Add(FamfsCluster.Create($"{directory}/{MountContent.FileName(next + i)}", FileBytes));
            // A stream that broke releases nothing any more; its error is in `reading`.
            if (await Task.WhenAny(window.WaitAsync(cancellation), reading) == reading)
                break;
            await call.RequestStream.WriteAsync(request, cancellation);
        }
        await call.RequestStream.CompleteAsync();
        await reading;
        return (done, Stopwatch.GetElapsedTime(begin).TotalSeconds);

        async Task ReadAsync()
        {
            while (await call.ResponseStream.MoveNext(cancellation))
            {
                FamfsCluster.RequireCreated(call.ResponseStream.Current);
                done += call.ResponseStream.Current.Results.Count;
                window.Release();
            }
        }
    }

    public async ValueTask DisposeAsync()
    {
        _others?.Dispose();
        if (_cluster is not null)
            await _cluster.DisposeAsync();
    }
}
