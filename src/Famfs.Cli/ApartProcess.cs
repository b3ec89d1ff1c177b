using System.Diagnostics;
using Famfs.CommandLine;
using Famfs.Core;
using Famfs.Core.Interop;
using Famfs.V1;

namespace Famfs.Cli;

/// <summary>
/// Another process of this program that runs a verb which touches the content of files on a mount. It can be left behind: who waits
/// for a daemon that is stopped may be held by the kernel, SIGKILL or not (docs/decisions/0048).
/// <para>It has this process's terminal. What goes elsewhere goes through this process, so that nobody who waits for the end of this
/// process's output waits for it. It is told to end by the end of its input, also when this process is killed.</para>
/// </summary>
internal sealed class ApartProcess : IDisposable
{
    /// <summary>First argument of the process.</summary>
    public const string Verb = "--apart";

    private readonly Process _process;
    private readonly Task _output;

    private ApartProcess(Process process, Task output) => (_process, _output) = (process, output);

    /// <summary>Starts it with a command line of famfs.</summary>
    public static ApartProcess Start(IReadOnlyList<string> arguments)
    {
        string program = Environment.ProcessPath ?? throw new FamfsException(ErrorReason.Unspecified, "the path of this program is not known; is /proc mounted?");
        Process process = new()
        {
            StartInfo = new(program, [Verb, .. arguments])
            {
                RedirectStandardInput = true,
                RedirectStandardOutput = Console.IsOutputRedirected,
                RedirectStandardError = Console.IsErrorRedirected,
            },
        };
        process.Start();
        return new(process, Task.WhenAll(
            process.StartInfo.RedirectStandardOutput ? RelayAsync(process.StandardOutput.BaseStream, StandardStream.OpenOutput()) : Task.CompletedTask,
            process.StartInfo.RedirectStandardError ? RelayAsync(process.StandardError.BaseStream, StandardWriters.OpenError()) : Task.CompletedTask));
    }

    /// <summary>In the other process: cancelled when the first one wants it to end, or is no more.</summary>
    public static CancellationToken WatchInput()
    {
        CancellationTokenSource over = new();
        Thread watch = new(() =>
        {
            using Stream input = Console.OpenStandardInput();
            while (input.ReadByte() >= 0)
            {
            }
            over.Cancel();
        })
        { IsBackground = true, Name = "apart" };
        watch.Start();
        return over.Token;
    }

    /// <summary>Ends with it; gives its exit code when all that it wrote has been handed on.</summary>
    public async Task<int> WaitAsync()
    {
        await _process.WaitForExitAsync().ConfigureAwait(false);
        await _output.ConfigureAwait(false);
        return _process.ExitCode;
    }

    /// <summary>Tells it to end.</summary>
    public void EndInput() => _process.StandardInput.Close();

    /// <summary>Kills it, as far as it can be. Nobody waits for it any more.</summary>
    public void Abandon()
    {
        try
        {
            _process.Kill();
        }
        catch (InvalidOperationException)
        {
            // It has ended.
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _process.Dispose();

    private static async Task RelayAsync(Stream from, Stream to)
    {
        byte[] buffer = new byte[16384];
        int read;
        IOException? failure = null;
        while ((read = await from.ReadAsync(buffer).ConfigureAwait(false)) > 0)
        {
            try
            {
                to.Write(buffer.AsSpan(0, read));
            }
            catch (IOException error)
            {
                failure = error; // read on: a pipe that nobody empties would hold up who writes into it
            }
        }
        if (failure is not null)
            throw failure;
    }
}
