using System.Diagnostics;
using System.Text.Json;
using Xunit;

namespace Famfs.EndToEnd;

/// <summary>What a <see cref="SoakWorker"/> is asked: one line. <paramref name="Low"/> and <paramref name="High"/>: the generations of
/// writing that the file may have in any of its blocks, 0 for zeros.</summary>
internal sealed record SoakRequest(string Op, string Path, ulong Inode = 0, long Bytes = 0, int Low = 0, int High = 0, bool Mapped = false, string? Key = null, string? To = null);

/// <summary>What came of it. Nothing set: it was done.</summary>
internal sealed record SoakAnswer(string? Wrong = null, string? Other = null, int? Errno = null, string? Call = null)
{
    private const int NoEntry = 2;
    private const int HostDown = 112;

    /// <summary>The program ended before it answered.</summary>
    public bool Died { get; init; }

    public bool IsDone => Wrong is null && Other is null && Errno is null && !Died;

    /// <summary>The mount has not followed yet: no such name, the name of the file that was replaced, or it has not heard yet that the master
    /// takes it, which the master knows before.</summary>
    public bool IsEarly => Other is not null || Errno is NoEntry or HostDown;

    public override string ToString() => Died ? "the program ended" : Wrong ?? Other ?? Call ?? "done";
}

/// <summary>A program of its own that uses files of mounts (Python/soak.py), which may be killed at any time. One caller asks; another may
/// kill.</summary>
internal sealed class SoakWorker : IDisposable
{
    private static readonly JsonSerializerOptions s_json = new() { PropertyNamingPolicy = JsonNamingPolicy.CamelCase };

    private readonly Process _process;

    public SoakWorker() => _process = Process.Start(new ProcessStartInfo("python3", ["-B", Path.Combine(AppContext.BaseDirectory, "Python", "soak.py")])
    {
        RedirectStandardInput = true,
        RedirectStandardOutput = true,
    })!;

    public async Task<SoakAnswer> AskAsync(SoakRequest request)
    {
        try
        {
            await _process.StandardInput.WriteLineAsync(JsonSerializer.Serialize(request, s_json));
            await _process.StandardInput.FlushAsync();
        }
        catch (IOException)
        {
            return new() { Died = true };
        }
        string? line = await _process.StandardOutput.ReadLineAsync().WaitAsync(Cluster.Patience, TestContext.Current.CancellationToken);
        return line is null ? new() { Died = true } : JsonSerializer.Deserialize<SoakAnswer>(line, s_json)!;
    }

    public void Kill() => _process.Kill();

    public void Dispose()
    {
        _process.Kill();
        _process.WaitForExit(Cluster.Patience);
        _process.Dispose();
    }
}
