using Famfs.CommandLine;

namespace Famfs.Cli.Tests;

/// <summary>The lines that the programs log, on a terminal and in the journal.</summary>
public sealed class LogLineTests
{
    private static readonly DateTimeOffset s_time = new(2026, 11, 28, 17, 4, 5, 678, TimeSpan.FromHours(2));

    [Theory]
    [InlineData(0, "trace", 7)]
    [InlineData(2, "info", 6)]
    [InlineData(3, "warning", 4)]
    [InlineData(4, "error", 3)]
    [InlineData(5, "critical", 2)]
    [InlineData(99, "critical", 2)]
    public void A_line_has_time_level_and_words(int level, string word, int priority)
    {
        Assert.Equal($"2026-11-28T15:04:05.678Z {word}: mounted at /mnt", new LogLine(isForJournal: false).Format(s_time, level, "mounted at /mnt"));
        Assert.Equal($"<{priority}>{word}: mounted at /mnt", new LogLine(isForJournal: true).Format(s_time, level, "mounted at /mnt"));
    }

    [Fact]
    public void What_comes_from_elsewhere_makes_no_second_line_and_reaches_no_terminal()
    {
        InvalidOperationException error;
        try
        {
            throw new InvalidOperationException("a\nmistake");
        }
        catch (InvalidOperationException caught)
        {
            error = caught;
        }
        string line = new LogLine(isForJournal: false).Format(s_time, 4, "host 'a\n2026 info: b\u001b[2J'\n", error);

        Assert.StartsWith("2026-11-28T15:04:05.678Z error: host 'a\\x0a2026 info: b\\x1b[2J' | System.InvalidOperationException: a | mistake | at Famfs", line, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', line);
    }

    [Theory]
    [InlineData("8:4711", "socket:[4711]", true)]
    [InlineData("8:4711", "socket:[14711]", false)]
    [InlineData("8:4711", "/var/log/famfs.log", false)]
    [InlineData("8:4711", null, false)]
    [InlineData("8:", "socket:[]", false)]
    [InlineData("", "socket:[4711]", false)]
    [InlineData(null, "socket:[4711]", false)]
    public void The_journal_is_known_by_the_socket_that_systemd_names(string? stream, string? file, bool isJournal) => Assert.Equal(isJournal, LogLine.IsJournal(stream, file));
}
