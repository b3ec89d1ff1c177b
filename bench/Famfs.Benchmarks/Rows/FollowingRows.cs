using System.Diagnostics;
using System.Globalization;
using Famfs.Benchmarks.Measurement;
using Famfs.Benchmarks.Report;
using Famfs.Benchmarks.Systems;
using Famfs.V1;
using Google.Protobuf;
using Grpc.Core;

namespace Famfs.Benchmarks.Rows;

/// <summary>P16: what a program notices of the changes that its mount follows. The same changes are made elsewhere for the baseline, so
/// that what they take of the processor is not what is measured.</summary>
internal sealed class FollowingRows(BenchmarkRun run, Scratch scratch)
{
    private const int ChangesPerSecond = 10_000;
    private const int Callers = 16;

    // Each is opened once, so that the kernel looks its name up.
    private const int Directories = 900;
    private const int FilesPerDirectory = 1000;
    private const long DeviceBytes = 64L << 40;

    // Of a round: less of it is noise on a machine with few processors.
    private const double LeastSeconds = 2;
    private static readonly TimeSpan s_pause = TimeSpan.FromMilliseconds(5);

    private readonly double _seconds = Math.Max(run.Options.RoundSeconds, LeastSeconds);
    private string _mount = "";
    private int _opened;
    private int _round;

    public async Task MeasureAsync()
    {
        RowDefinition opens = new("P16", $"lookup and open while the mount follows {ChangesPerSecond:N0} changes/s", "files/s", "idle mount", [Goal.RatioAtLeast(0.9)], [Goal.RatioAtLeast(0.9)]);
        await using Side<FamfsCluster> followed = await run.StartClusterAsync(scratch, DeviceBytes);
        await using Side<FamfsCluster> elsewhere = await run.StartClusterAsync(scratch, DeviceBytes);
        await run.AddAsync(opens, [followed, elsewhere], async () =>
        {
            if (followed.System is not { } cluster || elsewhere.System is not { } other)
                return new Row(opens);
            await cluster.CreateFilesAsync(["probe"], 4096, run.Cancellation);
            _mount = await cluster.MountAsync("follower", "probe", [], run.Cancellation);
            for (int d = 0; d < Directories; d++)
                await cluster.Client.MakeDirectoryAsync(new MakeDirectoryRequest { Path = DirectoryName(d) }, cancellationToken: run.Cancellation);
            await cluster.CreateFilesAsync(Enumerable.Range(0, Directories * FilesPerDirectory).Select(PathOf), 4096, run.Cancellation);
            await cluster.Client.BarrierAsync(new BarrierRequest(), cancellationToken: run.Cancellation);
            // What was never run is compiled first, which takes a processor.
            for (int i = 0; i < 2; i++)
            {
                await RoundAsync(other, isFollowed: false, isMeasured: false);
                await RoundAsync(cluster, isFollowed: true, isMeasured: false);
            }
            return Row.OfRates(opens, await run.PairAsync(_ => RoundAsync(other, isFollowed: false), _ => RoundAsync(cluster, isFollowed: true)));
        });
    }

    private async Task<Sample> RoundAsync(FamfsCluster changed, bool isFollowed, bool isMeasured = true)
    {
        int files = (int)(ChangesPerSecond / 2 * _seconds);
        string known = $"known-{_round}", made = $"made-{_round++}";
        foreach (string folder in (string[])[known, made])
            await changed.Client.MakeDirectoryAsync(new MakeDirectoryRequest { Path = folder }, cancellationToken: run.Cancellation);
        await changed.CreateFilesAsync(Enumerable.Range(0, files).Select(i => $"{known}/{i}"), 4096, run.Cancellation);
        if (isFollowed)
        {
            await changed.Client.BarrierAsync(new BarrierRequest(), cancellationToken: run.Cancellation);
            for (int i = 0; i < files; i++)
            {
                if (!File.Exists(Path.Combine(_mount, known, i.ToString(CultureInfo.InvariantCulture))))
                    throw new InvalidOperationException($"{known}/{i} is not there");
            }
        }

        using CancellationTokenSource over = CancellationTokenSource.CreateLinkedTokenSource(run.Cancellation);
        long begin = Stopwatch.GetTimestamp();
        Task<int>[] loads = [CreateAsync(changed, made, files, begin, over.Token), .. Enumerable.Range(0, Callers).Select(caller => ChangeAsync(changed, known, made, files, caller, begin, over.Token))];
        double perSecond = await Task.Run(() => Open(begin));
        await over.CancelAsync();
        int changes = (await Task.WhenAll(loads)).Sum();
        double rate = changes / Stopwatch.GetElapsedTime(begin).TotalSeconds;
        return !isMeasured || rate >= ChangesPerSecond * 0.9 ? new(perSecond) : throw new InvalidOperationException($"{rate:0} changes a second were made, and {ChangesPerSecond} are meant");
    }

    // On one thread, which nothing else is done on.
    private double Open(long begin)
    {
        int opened = 0;
        for (; Stopwatch.GetElapsedTime(begin).TotalSeconds < _seconds; opened++)
        {
            if (_opened == Directories * FilesPerDirectory)
                throw new InvalidOperationException($"all {_opened} files have been opened: fewer or shorter rounds");
            using (File.OpenHandle(Path.Combine(_mount, PathOf(_opened++))))
            {
            }
        }
        return opened / Stopwatch.GetElapsedTime(begin).TotalSeconds;
    }

    // Half of the changes.
    private static async Task<int> CreateAsync(FamfsCluster cluster, string made, int files, long begin, CancellationToken over)
    {
        using AsyncDuplexStreamingCall<CreateFilesRequest, CreateFilesReply> call = cluster.Client.CreateFiles(cancellationToken: CancellationToken.None);
        int done = 0;
        while (done < files && !over.IsCancellationRequested)
        {
            int due = Math.Min(files, (int)(Stopwatch.GetElapsedTime(begin).TotalSeconds * ChangesPerSecond / 2));
            if (due > done)
            {
                CreateFilesRequest request = new() { OmitMaps = true };
                request.Files.AddRange(Enumerable.Range(done, due - done).Select(i => FamfsCluster.Create($"{made}/new-{i}", 4096)));
                await call.RequestStream.WriteAsync(request, CancellationToken.None);
                for (int answered = done; answered < due; answered += call.ResponseStream.Current.Results.Count)
                {
                    if (!await call.ResponseStream.MoveNext(CancellationToken.None))
                        throw new InvalidOperationException("the stream of creates has ended");
                    FamfsCluster.RequireCreated(call.ResponseStream.Current);
                }
                done = due;
            }
            await Task.Delay(s_pause, CancellationToken.None);
        }
        await call.RequestStream.CompleteAsync();
        return done;
    }

    // The other half: known files are removed and renamed in turn.
    private static async Task<int> ChangeAsync(FamfsCluster cluster, string known, string made, int files, int caller, long begin, CancellationToken over)
    {
        int done = 0;
        for (int i = caller; i < files && !over.IsCancellationRequested; i += Callers)
        {
            while (Stopwatch.GetElapsedTime(begin).TotalSeconds * ChangesPerSecond / 2 < i && !over.IsCancellationRequested)
                await Task.Delay(s_pause, CancellationToken.None);
            ByteString id = ByteString.CopyFrom(Guid.CreateVersion7().ToByteArray(bigEndian: true));
            if (i / Callers % 2 == 0)
                await cluster.Client.RemoveAsync(new RemoveRequest { RequestId = id, Path = $"{known}/{i}" }, cancellationToken: CancellationToken.None);
            else
                await cluster.Client.RenameAsync(new RenameRequest { RequestId = id, OldPath = $"{known}/{i}", NewPath = $"{made}/{i}" }, cancellationToken: CancellationToken.None);
            done++;
        }
        return done;
    }

    private static string PathOf(int file) => $"{DirectoryName(file / FilesPerDirectory)}/{MountContent.FileName(file % FilesPerDirectory)}";

    private static string DirectoryName(int number) => string.Create(CultureInfo.InvariantCulture, $"stable-{number:D3}");
}
