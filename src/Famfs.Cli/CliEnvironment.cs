using Famfs.Client;
using Famfs.Core.Log;

namespace Famfs.Cli;

/// <summary>What the command gets from the process it runs in.</summary>
public sealed record CliEnvironment
{
    public required TextWriter Out { get; init; }
    public required TextWriter Error { get; init; }

    /// <summary>The formats of the media.</summary>
    public required MediaFormats Formats { get; init; }

    /// <summary>Environment variables.</summary>
    public required Func<string, string?> Variable { get; init; }

    /// <summary>Standard output is a terminal: progress is drawn.</summary>
    public bool IsTerminal { get; init; }

    /// <summary>Standard error is a terminal: somebody reads while a verb waits.</summary>
    public bool IsErrorTerminal { get; init; }
    public TimeProvider Clock { get; init; } = TimeProvider.System;

    /// <summary>The kernel's table of mounts.</summary>
    public string MountTablePath { get; init; } = MountEntry.TablePath;

    /// <summary>Asks mounts (<see cref="MountQuestions"/>).</summary>
    internal Func<IReadOnlyList<string>, CancellationToken, Task<byte[]>> AskMount { get; init; } = MountQuestions.AskHereAsync;

    /// <summary>Ends the processes that asked.</summary>
    internal Action EndAsking { get; init; } = () => { };

    /// <summary>Starts a verb that touches content in another process; null: it is run in this one.</summary>
    internal Func<IReadOnlyList<string>, ApartProcess>? StartApart { get; init; }

    /// <summary>Where the caller stands; null when that directory is no more.</summary>
    public string? WorkingDirectory { get; init; } = FindWorkingDirectory();

    /// <summary>Where processes can be looked at.</summary>
    public string ProcPath { get; init; } = "/proc";

    /// <summary>Where running services leave what others may look for.</summary>
    public string RunPath { get; init; } = "/run";

    /// <summary>The drivers of dax devices.</summary>
    public Famfs.Core.Dax.DaxBinding DaxBinding { get; init; } = new();

    /// <summary>Directory of this executable: other programs of famfs are looked for beside it first.</summary>
    public string ProgramDirectory { get; init; } = AppContext.BaseDirectory;

    /// <summary>Path of another program of famfs; throws NOT_FOUND when it is neither beside this one nor in PATH.</summary>
    public string RequireProgram(string name) => ProgramFinder.Require(name, ProgramDirectory, Variable("PATH"));

    private static string? FindWorkingDirectory()
    {
        try
        {
            return Environment.CurrentDirectory;
        }
        catch (IOException)
        {
            return null;
        }
    }

    /// <summary>That of the running process.</summary>
    public static CliEnvironment OfProcess()
    {
        MountAskers askers = new();
        return new()
        {
            Formats = KnownFormats.All,
            Out = Console.Out,
            Error = Console.Error,
            Variable = Environment.GetEnvironmentVariable,
            IsTerminal = !Console.IsOutputRedirected,
            AskMount = askers.AskAsync,
            EndAsking = askers.End,
            StartApart = ApartProcess.Start,
            IsErrorTerminal = !Console.IsErrorRedirected,
        };
    }
}
