using System.CommandLine;
using System.CommandLine.Help;

namespace Famfs.CommandLine;

/// <summary>How the programs of famfs read the words of a command line: each word is what it is. No word is replaced by the content of
/// a file, and no flag takes the word behind it.</summary>
public static class CommandLineWords
{
    /// <summary>Parses <paramref name="words"/> for a command, whose flags and help option it settles first.</summary>
    public static ParseResult Parse(Command root, IReadOnlyList<string> words)
    {
        Settle(root);
        // A name of a file may begin with @: such a word would be taken for a file of options.
        return root.Parse(words, new ParserConfiguration { ResponseFileTokenReplacer = null });
    }

    private static void Settle(Command command)
    {
        foreach (Option option in command.Options.ToArray())
        {
            // The parser's own help option has the names /h and /?, which are paths here.
            if (option is HelpOption help && help.Aliases.Any(a => a.StartsWith('/')))
            {
                int place = command.Options.IndexOf(help);
                command.Options.RemoveAt(place);
                command.Options.Insert(place, new HelpOption("--help", "-h", "-?") { Recursive = true });
            }
            // Otherwise `mkdir -p true` makes nothing.
            else if (option.ValueType == typeof(bool))
                option.Arity = ArgumentArity.Zero;
        }
        foreach (Command below in command.Subcommands)
            Settle(below);
    }
}
