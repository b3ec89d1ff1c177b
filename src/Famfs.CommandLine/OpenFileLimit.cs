namespace Famfs.CommandLine;

/// <summary>The number of files that a program may have open (RLIMIT_NOFILE).</summary>
public static class OpenFileLimit
{
    /// <summary>How many files this process may have open. Null: there is no limit, or it cannot be read.</summary>
    // The runtime has raised the soft limit to the hard one.
    public static long? Find() => ProcessLimits.FindSoft(ProcessLimits.Read(), ProcessLimits.OpenFiles);
}
