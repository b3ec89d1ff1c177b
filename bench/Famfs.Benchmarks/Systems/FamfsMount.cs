using Famfs.V1;

namespace Famfs.Benchmarks.Systems;

/// <summary>The product's mount on a stock kernel.</summary>
internal sealed class FamfsMount(Scratch scratch, FamfsInstallation installation) : IMountUnderTest
{
    private const long UnitBytes = 2 << 20;

    private FamfsCluster? _cluster;

    public string Name => "famfsd";

    public async Task<string> StartAsync(MountContent content, CancellationToken cancellation)
    {
        // One unit per file, the data file, and room for the file system's own areas and the log.
        long bytes = (content.TreeFiles * UnitBytes) + content.DataBytes + (1L << 30);
        _cluster = await FamfsCluster.StartAsync(scratch, installation, bytes, cancellation);
        await _cluster.Client.MakeDirectoryAsync(new MakeDirectoryRequest { Path = MountContent.Tree }, cancellationToken: cancellation);
        await _cluster.CreateFilesAsync(Enumerable.Range(0, content.TreeFiles).Select(i => $"{MountContent.Tree}/{MountContent.FileName(i)}"), 4096, cancellation);
        await _cluster.CreateFilesAsync([MountContent.Data], (ulong)content.DataBytes, cancellation);
        string mountPoint = await _cluster.MountAsync("famfsd", MountContent.Data, ["--entry-timeout-ms", "0", "--attr-timeout-ms", "0"], cancellation);
        await PassthroughMount.WriteDataAsync(Path.Combine(mountPoint, MountContent.Data), content.DataBytes, cancellation);
        return mountPoint;
    }

    public async ValueTask DisposeAsync()
    {
        if (_cluster is not null)
            await _cluster.DisposeAsync();
    }
}
