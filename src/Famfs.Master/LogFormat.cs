using Famfs.CommandLine;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Logging.Console;

namespace Famfs.Master;

/// <summary>Writes the log to standard output, one <see cref="LogLine"/> for each entry.</summary>
internal sealed class LogFormat(LogLine line, TimeProvider clock) : ConsoleFormatter(FormatName)
{
    private const string FormatName = "famfs";
    private const string OwnCategory = "Famfs";

    /// <summary>Has all that is logged written so.</summary>
    public static void AddTo(ILoggingBuilder logging, TimeProvider clock)
    {
        logging.AddConsole(console => console.FormatterName = FormatName);
        logging.Services.AddSingleton<ConsoleFormatter>(new LogFormat(LogLine.OfProcess(), clock));
    }

    /// <inheritdoc/>
    public override void Write<TState>(in LogEntry<TState> logEntry, IExternalScopeProvider? scopeProvider, TextWriter textWriter)
    {
        string words = logEntry.Formatter(logEntry.State, logEntry.Exception);
        if (!logEntry.Category.StartsWith(OwnCategory, StringComparison.Ordinal))
            words = $"{logEntry.Category}: {words}";
        textWriter.Write(line.Format(clock.GetUtcNow(), (int)logEntry.LogLevel, words, logEntry.Exception) + "\n");
    }
}
