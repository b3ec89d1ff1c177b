using System.Globalization;
using System.Text;

namespace Famfs.CommandLine;

/// <summary>
/// One line of a program's log: <c>2026-11-28T15:04:05.678Z warning: WORDS</c>, the time in UTC by ISO 8601. The journal of systemd has
/// times and levels of its own, so there it is <c>&lt;4&gt;warning: WORDS</c> (sd-daemon(3)).
/// </summary>
public sealed class LogLine(bool isForJournal)
{
    // Each level's word, with its number for the journal, in the order of Microsoft.Extensions.Logging.LogLevel.
    private static readonly (string Word, int Priority)[] s_levels = [("trace", 7), ("debug", 7), ("info", 6), ("warning", 4), ("error", 3), ("critical", 2)];

    /// <summary>That of this process: systemd names the socket of the journal, which standard output is if it was not redirected.</summary>
    public static LogLine OfProcess() => new(IsJournal(Environment.GetEnvironmentVariable("JOURNAL_STREAM"), TryReadLink("/proc/self/fd/1")));

    /// <summary>Whether an open file (<c>socket:[INODE]</c>) is the journal that the environment names (<c>DEVICE:INODE</c>).</summary>
    public static bool IsJournal(string? stream, string? file) =>
        stream?.Split(':') is [_, { Length: > 0 } inode] && file is not null && file.EndsWith($"[{inode}]", StringComparison.Ordinal);

    /// <summary>The line, without its end. What is not to be printed is shown as \xNN: names come from other hosts. An exception follows on
    /// the same line.</summary>
    public string Format(DateTimeOffset now, int level, string words, Exception? error = null)
    {
        (string word, int priority) = s_levels[Math.Clamp(level, 0, s_levels.Length - 1)];
        StringBuilder line = new();
        if (isForJournal)
            line.Append(CultureInfo.InvariantCulture, $"<{priority}>");
        else
            line.Append(now.UtcDateTime.ToString("yyyy-MM-ddTHH:mm:ss.fffZ ", CultureInfo.InvariantCulture));
        line.Append(word).Append(": ");
        Append(line, words);
        foreach (string part in error?.ToString().Split('\n', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries) ?? [])
            Append(line.Append(" | "), part);
        return line.ToString();
    }

    private static void Append(StringBuilder line, string text)
    {
        foreach (char c in text.Trim())
        {
            if (char.IsControl(c))
                line.Append(CultureInfo.InvariantCulture, $"\\x{(int)c:x2}");
            else
                line.Append(c);
        }
    }

    private static string? TryReadLink(string path)
    {
        try
        {
            return new FileInfo(path).LinkTarget;
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }
}
