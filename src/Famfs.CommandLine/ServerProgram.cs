using System.CommandLine;
using System.Reflection;

namespace Famfs.CommandLine;

/// <summary>What the programs that serve do with their command line.</summary>
public static class ServerProgram
{
    /// <summary>Answers the hidden words of the build, adds what the configuration files have, and runs. A wrong line or file is one line
    /// on standard error and status 1. Told to end, it ends in order, however long the machine makes that take.</summary>
    /// <param name="name">The program.</param>
    /// <param name="root">Its options, with its action.</param>
    /// <param name="configuration">Which of them files may have.</param>
    /// <param name="args">What was typed.</param>
    /// <param name="program">Whose version its manual page has.</param>
    /// <param name="signals">That tell it to end.</param>
    public static async Task<int> RunAsync(string name, RootCommand root, ProgramConfiguration configuration, string[] args, Assembly program, TerminationSignals signals)
    {
        if (args is [GeneratedText.Word, .. string[] kind])
            return GeneratedText.Write(kind, root, name, section: 8, version: program.GetName().Version!.ToString(3), Console.Out);
        if (args is [ProgramConfiguration.ExplainWord, .. string[] where])
        {
            using Stream output = Console.OpenStandardOutput();
            return configuration.Explain(where, Environment.GetEnvironmentVariable, output);
        }
        try
        {
            args = configuration.Complete(args, Environment.GetEnvironmentVariable);
        }
        catch (ConfigurationException error)
        {
            await Console.Error.WriteLineAsync($"{name}: {error.Message}").ConfigureAwait(false);
            return 1;
        }
        ParseResult line = CommandLineWords.Parse(root, args);
        if (CommandLineFault.Find(line, args) is { } fault)
        {
            await Console.Error.WriteLineAsync($"{name}: {fault}").ConfigureAwait(false);
            return 1;
        }
        int exit = await line.InvokeAsync(new InvocationConfiguration { ProcessTerminationTimeout = null, EnableDefaultExceptionHandler = false }, signals.Token).ConfigureAwait(false);
        GC.KeepAlive(signals);
        return exit;
    }
}
