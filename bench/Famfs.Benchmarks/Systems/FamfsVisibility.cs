using System.Diagnostics;
using Famfs.V1;

namespace Famfs.Benchmarks.Systems;

/// <summary>The product: a CreateFile answered by the master, seen by stat on another host's mount that keeps
/// names and their absence as long as the kernel may.</summary>
internal sealed class FamfsVisibility(Scratch scratch, FamfsInstallation installation) : IVisibilityUnderTest
{
    private const string Folder = "visible";
    private static readonly TimeSpan s_timeOut = TimeSpan.FromSeconds(30);

    private FamfsCluster? _cluster;
    private string _mountPoint = "";

    public string Name => "famfs";

    public async Task StartAsync(CancellationToken cancellation)
    {
        _cluster = await FamfsCluster.StartAsync(scratch, installation, 256L << 30, cancellation);
        await _cluster.Client.MakeDirectoryAsync(new MakeDirectoryRequest { Path = Folder }, cancellationToken: cancellation);
        string first = $"{Folder}/first";
        await _cluster.CreateFilesAsync([first], 4096, cancellation);
        _mountPoint = await _cluster.MountAsync("reader", first, [], cancellation);
    }

    public async Task<Visibility> MeasureAsync(long number, CancellationToken cancellation)
    {
        string name = $"{Folder}/{MountContent.FileName(number)}";
        string path = Path.Combine(_mountPoint, name);
        // The kernel must hold that the name is absent, or the first stat would ask the daemon anyway.
        if (File.Exists(path))
            throw new InvalidOperationException($"{path} exists before it was created");
        long begin = Stopwatch.GetTimestamp();
        await _cluster!.Client.CreateFileAsync(FamfsCluster.Create(name, 4096), cancellationToken: cancellation);
        double acknowledged = Stopwatch.GetElapsedTime(begin).TotalMicroseconds;
        while (!File.Exists(path))
        {
            if (Stopwatch.GetElapsedTime(begin) > s_timeOut)
                throw new TimeoutException($"{path} was not seen within {s_timeOut.TotalSeconds} s of its creation");
        }
        return new(acknowledged, Stopwatch.GetElapsedTime(begin).TotalMicroseconds);
    }

    public async ValueTask DisposeAsync()
    {
        if (_cluster is not null)
            await _cluster.DisposeAsync();
    }
}
