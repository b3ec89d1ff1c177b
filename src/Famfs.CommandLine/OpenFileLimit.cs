using System.Globalization;

namespace Famfs.CommandLine;

/// <summary>The number of files that a program may have open (RLIMIT_NOFILE). With too few the runtime fails somewhere in the middle,
/// in ways that say nothing.</summary>
public static class OpenFileLimit
{
    // The process's own limits: proc_pid_limits(5).
    private const string LimitsFile = "/proc/self/limits";
    private const string Row = "Max open files";

    /// <summary>Ends the process with one line and status 1 if fewer than <paramref name="needed"/> files may be open. Called before
    /// anything else is.</summary>
    public static void Require(string program, int needed)
    {
        if (Find() is { } limit && limit < needed)
        {
            Console.Error.WriteLine($"{program}: {limit} files may be open, {needed} are needed; raise the limit (ulimit -n, LimitNOFILE= of a systemd unit)");
            Environment.Exit(1);
        }
    }

    /// <summary>Null: none, or it cannot be read.</summary>
    private static long? Find()
    {
        try
        {
            string? row = File.ReadLines(LimitsFile).FirstOrDefault(line => line.StartsWith(Row, StringComparison.Ordinal));
            // Name, soft limit, hard limit, unit. The runtime has raised the soft one to the hard one.
            string? soft = row?[Row.Length..].Split(' ', StringSplitOptions.RemoveEmptyEntries).FirstOrDefault();
            return long.TryParse(soft, NumberStyles.None, CultureInfo.InvariantCulture, out long limit) ? limit : null;
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }
}
