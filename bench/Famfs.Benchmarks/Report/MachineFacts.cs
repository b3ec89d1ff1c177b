using System.Globalization;
using Famfs.Benchmarks.Systems;

namespace Famfs.Benchmarks.Report;

/// <summary>What a figure depends on besides the code.</summary>
internal sealed record MachineFacts(
    string Name, string Date, string Commit, string Cpu, int Cores, long MemoryMiB, string Kernel, string Dotnet, string LoadAverage, string Fuse, string Etcd, int Rounds, double RoundSeconds)
{
    /// <summary>Something else was running when the run began.</summary>
    public bool IsBusy => double.Parse(LoadAverage.Split(' ')[0], CultureInfo.InvariantCulture) > Cores / 2.0;

    public static async Task<MachineFacts> ReadAsync(BenchmarkOptions options, TimeProvider clock, CancellationToken cancellation) => new(
        options.Name,
        clock.GetUtcNow().ToString("yyyy-MM-ddTHH:mm:ssZ", CultureInfo.InvariantCulture),
        await FirstLineAsync("/usr/bin/git", ["-C", AppContext.BaseDirectory, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"], cancellation),
        Field("/proc/cpuinfo", "model name"),
        Environment.ProcessorCount,
        long.Parse(Field("/proc/meminfo", "MemTotal").Split(' ')[0], CultureInfo.InvariantCulture) / 1024,
        File.ReadAllText("/proc/sys/kernel/osrelease").Trim(),
        Environment.Version.ToString(),
        string.Join(' ', File.ReadAllText("/proc/loadavg").Split(' ')[..3]),
        await FirstLineAsync("/usr/bin/fusermount3", ["--version"], cancellation),
        await FirstLineAsync("/usr/bin/etcd", ["--version"], cancellation),
        options.Rounds,
        options.RoundSeconds);

    private static string Field(string file, string name) =>
        File.ReadLines(file).FirstOrDefault(line => line.StartsWith(name, StringComparison.Ordinal))?.Split(':', 2)[1].Trim() ?? "unknown 0";

    private static async Task<string> FirstLineAsync(string program, string[] arguments, CancellationToken cancellation)
    {
        if (!File.Exists(program))
            return "not installed";
        try
        {
            return (await ChildProcess.ReadAllAsync(program, arguments, cancellation)).Split('\n')[0].Trim();
        }
        catch (InvalidOperationException error)
        {
            return $"unknown ({error.Message})";
        }
    }
}
