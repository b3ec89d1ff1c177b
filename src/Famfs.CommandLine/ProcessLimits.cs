using System.Globalization;

namespace Famfs.CommandLine;

/// <summary>Limits of this process (getrlimit(2)), by the rows of its own file: proc_pid_limits(5).</summary>
public static class ProcessLimits
{
    /// <summary>Row of RLIMIT_NOFILE.</summary>
    public const string OpenFiles = "Max open files";

    /// <summary>Row of RLIMIT_NPROC.</summary>
    public const string Processes = "Max processes";

    // Chosen, about twice what has been seen to be too little: below 2 GB a server does not start, and a thread with 128 KiB hangs.
    private const long AddressBytes = 4L << 30;
    private const long StackBytes = 512L << 10;

    private const string LimitsFile = "/proc/self/limits";

    /// <summary>The rows, none where they cannot be read.</summary>
    public static IReadOnlyList<string> Read()
    {
        try
        {
            return File.ReadAllLines(LimitsFile);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            return [];
        }
    }

    /// <summary>The soft limit of a row. Null: there is none, or it cannot be read.</summary>
    public static long? FindSoft(IReadOnlyList<string> rows, string name)
    {
        string? row = rows.FirstOrDefault(line => line.StartsWith(name, StringComparison.Ordinal));
        // Name, soft limit, hard limit, unit.
        string? soft = row?[name.Length..].Split(' ', StringSplitOptions.RemoveEmptyEntries).FirstOrDefault();
        return long.TryParse(soft, NumberStyles.None, CultureInfo.InvariantCulture, out long limit) ? limit : null;
    }

    /// <summary>Says which limit is too low for a program, and how it is raised; null when none is.</summary>
    public static string? FindFault(ProgramNeeds needs, IReadOnlyList<string> rows)
    {
        if (FindSoft(rows, OpenFiles) is { } files && files < needs.OpenFiles)
            return $"{files} files may be open, {needs.OpenFiles} are needed; raise the limit (ulimit -n, LimitNOFILE= of a systemd unit)";
        (string Row, string What, long Needed, string How)[] sizes =
        [
            ("Max address space", "the address space", AddressBytes, "ulimit -v, LimitAS="),
            ("Max data size", "the memory for data", needs.DataBytes, "ulimit -d, LimitDATA="),
            ("Max stack size", "the stack of a thread", StackBytes, "ulimit -s, LimitSTACK="),
        ];
        foreach ((string row, string what, long needed, string how) in sizes)
        {
            if (FindSoft(rows, row) is { } limit && limit < needed)
                return $"{what} is limited to {limit >> 10} KiB, {needed >> 10} KiB are needed; raise the limit ({how} of a systemd unit)";
        }
        return null;
    }
}
