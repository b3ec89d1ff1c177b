using System.Diagnostics;
using System.Globalization;

namespace Famfs.Benchmarks.Systems;

/// <summary>A mount that was listed once as soon as it was there.</summary>
internal sealed class ListedMount : IAsyncDisposable
{
    private readonly ChildProcess _daemon;
    private readonly string _mountPoint;

    private ListedMount(ChildProcess daemon, string mountPoint, TimeSpan untilListed, int entries)
    {
        _daemon = daemon;
        _mountPoint = mountPoint;
        UntilListed = untilListed;
        Entries = entries;
    }

    /// <summary>From the start of the daemon's process.</summary>
    public TimeSpan UntilListed { get; }

    public int Entries { get; }

    /// <summary>VmRSS: shared pages, such as those of the programs' own files, included.</summary>
    public long ResidentBytes
    {
        get
        {
            string line = File.ReadLines(string.Create(CultureInfo.InvariantCulture, $"/proc/{_daemon.Id}/status")).First(l => l.StartsWith("VmRSS:", StringComparison.Ordinal));
            return long.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture) * 1024;
        }
    }

    public static async Task<ListedMount> StartAsync(Scratch scratch, string daemon, IEnumerable<string> arguments, string mountPoint, CancellationToken cancellation)
    {
        long begin = Stopwatch.GetTimestamp();
        ChildProcess process = ChildProcess.Start(scratch, daemon, arguments);
        try
        {
            await process.WaitUntilAsync(() => Task.FromResult(MountTable.IsMounted(mountPoint)), "it mounted", cancellation);
            int entries = Directory.GetFileSystemEntries(mountPoint).Length;
            return new(process, mountPoint, Stopwatch.GetElapsedTime(begin), entries);
        }
        catch
        {
            await Scratch.UnmountAsync(mountPoint);
            await process.DisposeAsync();
            throw;
        }
    }

    public async ValueTask DisposeAsync()
    {
        await Scratch.UnmountAsync(_mountPoint);
        await _daemon.DisposeAsync();
    }
}
