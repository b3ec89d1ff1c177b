using System.Diagnostics;
using System.Globalization;
using System.Text;
using Xunit;

namespace Famfs.EndToEnd;

/// <summary>A process that this test started, with all it has said. Killed at the end if it still runs.</summary>
internal sealed class ServerProcess : IDisposable
{
    // A program that starts with a signal ignored leaves it ignored, as nohup(1) and a shell's & want it. Whoever tells a program of
    // a test to end by one does not want that, however the test itself was started.
    private const string HeedSignals = "--default-signal=HUP,INT,QUIT";

    private readonly Process _process;
    private readonly Lock _gate = new();
    private readonly StringBuilder _output = new();
    private readonly string _name;

    public ServerProcess(string program, IEnumerable<string> arguments, Dictionary<string, string>? environment = null, bool redirectInput = false)
    {
        _name = Path.GetFileName(program);
        _process = new()
        {
            StartInfo = new("env", [HeedSignals, "--", program, .. arguments]) { RedirectStandardInput = redirectInput, RedirectStandardOutput = true, RedirectStandardError = true },
        };
        foreach ((string name, string value) in environment ?? [])
            _process.StartInfo.Environment[name] = value;
        _process.OutputDataReceived += (_, line) => Keep(line.Data);
        _process.ErrorDataReceived += (_, line) => Keep(line.Data);
        _process.Start();
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
    }

    /// <summary>Everything said so far, both streams.</summary>
    public string Output
    {
        get
        {
            lock (_gate)
                return _output.ToString();
        }
    }

    public int Id => _process.Id;

    public bool HasExited => _process.HasExited;

    /// <summary>Waits until it has said <paramref name="text"/>; fails when it ends before.</summary>
    public void Await(string text)
    {
        long start = Stopwatch.GetTimestamp();
        Cluster.Await($"{_name} saying '{text}'", () =>
        {
            if (Output.Contains(text, StringComparison.Ordinal))
                return true;
            // What it says instead tells why.
            Assert.True(Stopwatch.GetElapsedTime(start) < Cluster.Patience - TimeSpan.FromSeconds(1), $"{_name} does not say '{text}': {Output}");
            if (_process.HasExited)
            {
                _process.WaitForExit(); // the streams too
                Assert.True(Output.Contains(text, StringComparison.Ordinal), $"{_name} exited with {_process.ExitCode}: {Output}");
            }
            return false;
        });
    }

    /// <summary>Waits for its end; gives the exit status.</summary>
    public int AwaitExit()
    {
        Assert.True(_process.WaitForExit(Cluster.Patience), $"{_name} did not end: {Output}");
        _process.WaitForExit();
        return _process.ExitCode;
    }

    /// <summary>Ends its input, which was redirected.</summary>
    public void CloseInput() => _process.StandardInput.Close();

    /// <summary>Sends a signal by name, e.g. KILL, STOP, CONT, TERM. After STOP no thread of it runs any more: one of them takes the
    /// signal, and the others go on until it has been given a processor.</summary>
    public void Signal(string name)
    {
        using Process kill = Process.Start("kill", [$"-{name}", _process.Id.ToString(CultureInfo.InvariantCulture)]);
        kill.WaitForExit();
        if (name == "STOP")
            Cluster.Await($"process {_process.Id} has stopped", () => _process.HasExited || !RunsAnyThread());
    }

    // A thread that waits in the kernel for what cannot be interrupted does not run either.
    private bool RunsAnyThread()
    {
        try
        {
            return Directory.EnumerateDirectories($"/proc/{_process.Id}/task").Any(task =>
            {
                string status = File.ReadAllText(Path.Combine(task, "stat"));
                return status[status.LastIndexOf(')') + 2] is 'R' or 'S';
            });
        }
        catch (IOException)
        {
            return true; // a thread that has just ended
        }
    }

    public void Dispose()
    {
        if (!_process.HasExited)
        {
            Signal("CONT");
            _process.Kill();
            _process.WaitForExit(Cluster.Patience);
        }
        _process.Dispose();
    }

    private void Keep(string? line)
    {
        if (line is null)
            return;
        lock (_gate)
            _output.AppendLine(line);
    }
}
