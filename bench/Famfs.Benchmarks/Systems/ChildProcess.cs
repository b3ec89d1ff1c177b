using System.Diagnostics;
using System.Globalization;

namespace Famfs.Benchmarks.Systems;

/// <summary>A process that this run started; ends with it.</summary>
internal sealed class ChildProcess : IAsyncDisposable
{
    private const int KeptLines = 20;
    private static readonly TimeSpan s_termTimeOut = TimeSpan.FromSeconds(10);

    private readonly Process _process;
    private readonly Lock _linesLock = new();

    // Guard: _linesLock. The last lines of output, for the error that says why the process ended.
    private readonly Queue<string> _lines = new();

    private ChildProcess(string name, Process process)
    {
        Name = name;
        _process = process;
    }

    public string Name { get; }

    public int Id => _process.Id;

    public bool HasExited => _process.HasExited;

    /// <summary>Starts a server process and records it in the scratch directory, so that a later run finds it
    /// should this one be killed.</summary>
    public static ChildProcess Start(Scratch scratch, string path, IEnumerable<string> arguments)
    {
        Process process = new() { StartInfo = StartInfo(path, arguments) };
        ChildProcess child = new(Path.GetFileName(path), process);
        process.OutputDataReceived += (_, line) => child.Keep(line.Data);
        process.ErrorDataReceived += (_, line) => child.Keep(line.Data);
        process.Start();
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
        scratch.RecordProcess(process.Id);
        return child;
    }

    /// <summary>Runs a program to its end and returns its standard output. Throws when its status is not 0.</summary>
    public static async Task<string> ReadAllAsync(string path, IEnumerable<string> arguments, CancellationToken cancellation)
    {
        using Process process = new() { StartInfo = StartInfo(path, arguments) };
        process.Start();
        Task<string> output = process.StandardOutput.ReadToEndAsync(CancellationToken.None);
        Task<string> errors = process.StandardError.ReadToEndAsync(CancellationToken.None);
        try
        {
            await process.WaitForExitAsync(cancellation);
        }
        catch (OperationCanceledException)
        {
            // Waited for, because what it holds open would keep a mount busy.
            process.Kill();
            await process.WaitForExitAsync(CancellationToken.None);
            throw;
        }
        if (process.ExitCode != 0)
            throw new InvalidOperationException($"{Path.GetFileName(path)} ended with status {process.ExitCode}: {(await errors).Trim()} {(await output).Trim()}".TrimEnd());
        return await output;
    }

    /// <summary>Waits until <paramref name="ready"/> holds. A process that ends by itself with status 0 before
    /// is one that is not written yet; any other end is a failure.</summary>
    public async Task WaitUntilAsync(Func<Task<bool>> ready, string what, CancellationToken cancellation)
    {
        long begin = Stopwatch.GetTimestamp();
        while (!await ready())
        {
            if (_process.HasExited)
            {
                string message = $"{Name} ended with status {_process.ExitCode} before {what}: {LastLines()}";
                throw _process.ExitCode == 0 ? new NotAvailableException(message) : new InvalidOperationException(message);
            }
            if (Stopwatch.GetElapsedTime(begin) > TimeSpan.FromSeconds(30))
                throw new TimeoutException($"{Name}: no {what} within 30 s: {LastLines()}");
            await Task.Delay(10, cancellation);
        }
    }

    public string LastLines()
    {
        lock (_linesLock)
            return _lines.Count == 0 ? "(no output)" : string.Join(" | ", _lines);
    }

    /// <summary>Asks the process to end, and kills it when it does not within ten seconds.</summary>
    public async ValueTask DisposeAsync()
    {
        if (!_process.HasExited)
        {
            try
            {
                await ReadAllAsync("/bin/kill", ["-TERM", Id.ToString(CultureInfo.InvariantCulture)], CancellationToken.None);
            }
            catch (InvalidOperationException) when (_process.HasExited)
            {
                // It ended between the two calls, which is what was wanted.
            }
            using CancellationTokenSource timeOut = new(s_termTimeOut);
            try
            {
                await _process.WaitForExitAsync(timeOut.Token);
            }
            catch (OperationCanceledException)
            {
                Console.Error.WriteLine($"famfs-bench: {Name} ({Id}) ignored SIGTERM for {s_termTimeOut.TotalSeconds} s and was killed");
                _process.Kill();
                await _process.WaitForExitAsync(CancellationToken.None);
            }
        }
        _process.Dispose();
    }

    private static ProcessStartInfo StartInfo(string path, IEnumerable<string> arguments) => new(path, arguments)
    {
        RedirectStandardOutput = true,
        RedirectStandardError = true,
        RedirectStandardInput = false,
    };

    private void Keep(string? line)
    {
        if (string.IsNullOrWhiteSpace(line))
            return;
        lock (_linesLock)
        {
            if (_lines.Count == KeptLines)
                _lines.Dequeue();
            _lines.Enqueue(line);
        }
    }
}
