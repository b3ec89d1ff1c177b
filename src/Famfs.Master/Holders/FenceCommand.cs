using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;
using System.Text;

namespace Famfs.Master.Holders;

/// <summary>What a run of a fence command came to.</summary>
/// <param name="Failure">Why it proves nothing, as a phrase; null: it ended with 0.</param>
/// <param name="Took">How long it ran.</param>
/// <param name="Output">Its lines, standard output first, cut to <see cref="FenceCommand.MaxOutputBytes"/> of each.</param>
internal sealed record FenceOutcome(string? Failure, TimeSpan Took, IReadOnlyList<string> Output);

/// <summary>
/// The program that an operator gave for cutting a host off (SAFETY S14, docs/decisions/0075). It learns by its environment whom, and
/// its exit code 0 states that no process and no mapping of that boot of the host can reach the memory any more.
/// </summary>
/// <param name="program">Path of the program.</param>
/// <param name="timeout">How long it may take.</param>
/// <param name="fileSystem">Uuid of the file system.</param>
/// <param name="clock">The clock.</param>
internal sealed class FenceCommand(string program, TimeSpan timeout, Guid fileSystem, TimeProvider clock)
{
    /// <summary>Most bytes that are kept of what it writes to each of standard output and standard error (chosen).</summary>
    public const int MaxOutputBytes = 4096;

    /// <summary>Most lines that are kept of both (chosen).</summary>
    public const int MaxOutputLines = 32;

    // A process that it left may have its output open for good.
    private static readonly TimeSpan s_outputPatience = TimeSpan.FromSeconds(1);

    // What tells this process of its service manager is not for others.
    private static readonly string[] s_own = ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "JOURNAL_STREAM"];

    /// <summary>Why the program cannot be run as things are, as a phrase; null: nothing is seen.</summary>
    public static string? FindFault(string program)
    {
        try
        {
            FileInfo file = new(program);
            if (Directory.Exists(program))
                return "is a directory";
            if (!file.Exists)
                return "is not there";
            return !OperatingSystem.IsWindows() && (File.GetUnixFileMode(program) & (UnixFileMode.UserExecute | UnixFileMode.GroupExecute | UnixFileMode.OtherExecute)) == 0 ? "is not executable" : null;
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            return error.Message;
        }
    }

    /// <summary>The variables that tell it whom. Texts of other hosts have no control characters here: each mount has one line.</summary>
    public IReadOnlyDictionary<string, string> Describe(SilentHost host) => new Dictionary<string, string>
    {
        ["FAMFS_FENCE_FILE_SYSTEM"] = fileSystem.ToString(),
        ["FAMFS_FENCE_HOST_ID"] = host.Host.ToString(),
        ["FAMFS_FENCE_HOST_NAME"] = Printable(host.Name),
        ["FAMFS_FENCE_BOOT_ID"] = host.Boot.ToString(),
        ["FAMFS_FENCE_MOUNTS"] = string.Join('\n', host.Mounts.Select(m => $"{m.Mount} {Printable(m.MountPoint)}".TrimEnd())),
        ["FAMFS_FENCE_SILENT_SECONDS"] = ((long)host.Silent.TotalSeconds).ToString(CultureInfo.InvariantCulture),
    };

    /// <summary>Runs it once. Ends it, with its children, after the time-out and when cancelled: then throws OperationCanceledException.</summary>
    public async Task<FenceOutcome> RunAsync(SilentHost host, CancellationToken cancel)
    {
        long began = clock.GetTimestamp();
        using Process process = new() { StartInfo = new(program) { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true, WorkingDirectory = "/" } };
        foreach (string name in s_own)
            process.StartInfo.Environment.Remove(name);
        foreach ((string name, string value) in Describe(host))
            process.StartInfo.Environment[name] = value;
        try
        {
            process.Start();
        }
        catch (Exception error) when (error is Win32Exception or IOException or UnauthorizedAccessException)
        {
            return new($"cannot be started: {error.Message}", clock.GetElapsedTime(began), []);
        }
        process.StandardInput.Close();
        Stream[] streams = [process.StandardOutput.BaseStream, process.StandardError.BaseStream];
        Kept[] kept = [new(), new()];
        Task read = Task.WhenAll(streams.Zip(kept, ReadAsync));
        bool inTime = true;
        using CancellationTokenSource over = new(timeout, clock);
        using CancellationTokenSource either = CancellationTokenSource.CreateLinkedTokenSource(over.Token, cancel);
        try
        {
            await process.WaitForExitAsync(either.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException)
        {
            inTime = false;
            process.Kill(entireProcessTree: true);
            // It cannot refuse; one that the kernel holds is left behind.
            await process.WaitForExitAsync(CancellationToken.None).WaitAsync(s_outputPatience, clock, CancellationToken.None).ContinueWith(_ => { }, TaskScheduler.Default).ConfigureAwait(false);
        }
        cancel.ThrowIfCancellationRequested();
        await read.WaitAsync(s_outputPatience, clock, cancel).ContinueWith(_ => { }, TaskScheduler.Default).ConfigureAwait(false);
        TimeSpan took = clock.GetElapsedTime(began);
        List<string> lines = [.. kept.SelectMany(k => k.Lines()).Take(MaxOutputLines + 1)];
        if (lines.Count > MaxOutputLines)
            lines[MaxOutputLines] = "… (cut)";
        string? failure = !inTime ? $"did not end within {timeout.TotalSeconds:0} s" : process.ExitCode != 0 ? $"ended with code {process.ExitCode}" : null;
        return new(failure, took, lines);
    }

    private static async Task ReadAsync(Stream stream, Kept kept)
    {
        byte[] piece = new byte[MaxOutputBytes];
        try
        {
            // To its end: a pipe that nobody reads would stop the program.
            for (int count; (count = await stream.ReadAsync(piece).ConfigureAwait(false)) > 0;)
                kept.Add(piece.AsSpan(0, count));
        }
        catch (Exception error) when (error is IOException or ObjectDisposedException)
        {
            // Closed with the process.
        }
    }

    private static string Printable(string text) => string.Concat(text.Select(c => char.IsControl(c) ? $"\\x{(int)c:x2}" : c.ToString()));

    /// <summary>The first bytes of a stream. Any thread.</summary>
    private sealed class Kept
    {
        private readonly Lock _gate = new();
        private readonly byte[] _bytes = new byte[MaxOutputBytes]; // guarded by _gate
        private int _count; // guarded by _gate
        private bool _isCut; // guarded by _gate

        public void Add(ReadOnlySpan<byte> piece)
        {
            lock (_gate)
            {
                int room = Math.Min(piece.Length, _bytes.Length - _count);
                piece[..room].CopyTo(_bytes.AsSpan(_count));
                _count += room;
                _isCut |= room < piece.Length;
            }
        }

        public List<string> Lines()
        {
            lock (_gate)
            {
                List<string> lines = [.. Encoding.UTF8.GetString(_bytes, 0, _count).Split('\n', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries)];
                if (_isCut)
                    lines.Add("… (cut)");
                return lines;
            }
        }
    }
}
