using System.Globalization;
using System.Text.Json;
using Famfs.Benchmarks.Systems;

namespace Famfs.Benchmarks.Measurement;

/// <summary>One kind of load of bench/baseline/load.c.</summary>
internal sealed record MountLoad(string Mode, string Target, int Threads, int BlockBytes = 4096);

/// <summary>Runs the C load program; a .NET caller would add its own cost, and its jitter, to every call.</summary>
internal sealed class LoadProgram(string path)
{
    /// <summary>Runs one load on what is mounted at <paramref name="mountPoint"/> for the given time.
    /// PerSecond counts operations.</summary>
    public async Task<Sample> RunAsync(MountLoad load, string mountPoint, double seconds, CancellationToken cancellation)
    {
        string[] arguments =
        [
            load.Mode, Path.Combine(mountPoint, load.Target),
            "--threads", load.Threads.ToString(CultureInfo.InvariantCulture),
            "--seconds", seconds.ToString("0.###", CultureInfo.InvariantCulture),
            "--block", load.BlockBytes.ToString(CultureInfo.InvariantCulture),
        ];
        string line = await ChildProcess.ReadAllAsync(path, arguments, cancellation);
        using JsonDocument parsed = JsonDocument.Parse(line);
        JsonElement root = parsed.RootElement;
        return new(
            root.GetProperty("ops").GetDouble() / root.GetProperty("seconds").GetDouble(),
            root.GetProperty("p50_ns").GetDouble() / 1000,
            root.GetProperty("p99_ns").GetDouble() / 1000,
            root.GetProperty("max_ns").GetDouble() / 1000);
    }
}
