using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Parsing;

namespace Famfs.CommandLine;

/// <summary>What is wrong with a command line, in one line that names the word and what would be right.</summary>
public static class CommandLineFault
{
    /// <summary>The first fault of a line that was parsed from <paramref name="words"/>; null when there is none. A word with a
    /// dash that is no option is one, and so is an unknown letter behind known ones, although the parser takes both for arguments:
    /// everything behind <c>--</c>, and <c>./-x</c>, still is.</summary>
    public static string? Find(ParseResult parsed, IReadOnlyList<string> words)
    {
        string help = HelpOf(parsed);
        // A help text may be asked for on any line, but -h is an option of many commands, with which they would do nothing.
        if (parsed.Action is HelpAction && parsed.Tokens.Any(IsShortHelp) && !parsed.Tokens.All(t => t.Type == TokenType.Command || IsShortHelp(t)))
            return $"-h: is help only alone behind a command; {help}";
        if (parsed.Action is HelpAction || parsed.Action?.ClearsParseErrors == true)
            return null;
        if (FindMisread(parsed, words) is { } misread)
            return $"{misread}; {help}";
        if (FindUnknownOption(parsed) is { } option)
            return $"{option}: unknown option; {help}";
        if (parsed.UnmatchedTokens.Count > 0)
            return $"{OneLine(parsed.UnmatchedTokens[0])}: unknown command or argument; {help}";
        if (parsed.Errors.Count > 0)
            return Describe(parsed, parsed.Errors[0]);
        return FindEmpty(parsed) is { } empty ? $"{empty}: is empty; {help}" : null;
    }

    /// <summary>What one error of the parser means, in one line.</summary>
    internal static string Describe(ParseResult line, ParseError error)
    {
        string help = HelpOf(line);
        Symbol? named = error.SymbolResult switch
        {
            OptionResult result => result.Option,
            ArgumentResult { Parent: OptionResult result } => result.Option,
            ArgumentResult result => result.Argument,
            _ => null,
        };
        string message = OneLine(error.Message);
        IReadOnlyList<Token> tokens = error.SymbolResult?.Tokens ?? [];
        // The program's own words begin with the option.
        if (named is not null && message.StartsWith(named is Option ? "-" : named.Name, StringComparison.Ordinal))
            return message;
        if (error.SymbolResult is OptionResult { IdentifierToken: not null, Tokens.Count: 0 } bare)
            return $"{bare.Option.Name}: its value is missing; {help}";
        if (named is Option { Required: true } missing && tokens.Count == 0)
            return $"{missing.Name} is missing; {help}";
        if (error.SymbolResult is CommandResult command)
        {
            if (command.Command.Options.FirstOrDefault(o => o.Required && line.GetResult(o) is null or { Implicit: true }) is { } required)
                return $"{required.Name} is missing; {help}";
            if (command.Command.Arguments.FirstOrDefault(a => a.Arity.MinimumNumberOfValues > (line.GetResult(a)?.Tokens.Count ?? 0)) is { } argument)
                return $"{argument.Name} is missing; {help}";
            if (command.Command.Subcommands.Count > 0)
                return $"a command is missing; {help}";
        }
        if (named is Argument positional && tokens.Count < positional.Arity.MinimumNumberOfValues)
            return $"{positional.Name} is missing; {help}";
        if (named is not Option typed)
            return message;
        return tokens.Count > 0 && IntegerOf(typed.ValueType) is { } range
            ? $"{typed.Name}: '{OneLine(tokens[^1].Value)}' is not a whole number{range}"
            : $"{typed.Name}: {message}";
    }

    /// <summary>Makes an option take one of a few words only.</summary>
    public static void RequireOneOf(Option<string> option, string hint, params string[] words) => option.Validators.Add(result =>
    {
        if (result.Tokens.FirstOrDefault(t => !words.Contains(t.Value, StringComparer.Ordinal)) is { } other)
            result.AddError($"{option.Name}: '{OneLine(other.Value)}' is not {string.Join(" or ", words)}{hint}");
    });

    /// <summary>The fault of a word out of which the parser made options and a rest that is the value of none. It takes the rest for
    /// an argument.</summary>
    private static string? FindMisread(ParseResult parsed, IReadOnlyList<string> words)
    {
        int at = 0;
        foreach (string word in words)
        {
            if (at == parsed.Tokens.Count || parsed.Tokens[at].Type == TokenType.DoubleDash)
                return null;
            if (parsed.Tokens[at].Value == word)
            {
                at++;
                continue;
            }
            if (word.Length < 2)
                return null;
            // --name=value, or letters behind one dash, of which the last may have its value behind it.
            Option? last = null;
            int length = word.StartsWith("--", StringComparison.Ordinal) ? 0 : 1;
            while (at < parsed.Tokens.Count && length < word.Length && parsed.Tokens[at] is { Type: TokenType.Option } token
                && (length == 0 ? word.StartsWith(token.Value, StringComparison.Ordinal) : token.Value == $"-{word[length]}"))
            {
                last = FindOption(parsed.CommandResult, token.Value);
                length += length == 0 ? token.Value.Length : 1;
                at++;
                if (word.StartsWith("--", StringComparison.Ordinal))
                    break;
            }
            string rest = word[length..];
            if (last is null || rest.Length == 0)
                return null;
            if (last.Arity.MaximumNumberOfValues == 0)
                return rest[0] is '=' or ':' ? $"{OneLine(word)}: {last.Name} takes no value" : $"{OneLine(word)}: unknown option -{rest[0]}";
            if (at < parsed.Tokens.Count && word.EndsWith(parsed.Tokens[at].Value, StringComparison.Ordinal))
                at++;
        }
        return null;
    }

    private static Option? FindOption(CommandResult command, string name)
    {
        for (CommandResult? at = command; at is not null; at = at.Parent as CommandResult)
        {
            if (at.Command.Options.FirstOrDefault(o => o.Name == name || o.Aliases.Contains(name)) is { } found)
                return found;
        }
        return null;
    }

    private static bool IsShortHelp(Token token) => token is { Type: TokenType.Option, Value: "-h" };

    private static string? FindUnknownOption(ParseResult parsed)
    {
        HashSet<Token> sure = new(parsed.Tokens.SkipWhile(t => t.Type != TokenType.DoubleDash), ReferenceEqualityComparer.Instance);
        IEnumerable<Token> words = parsed.CommandResult.Children.SelectMany(child => child switch
        {
            ArgumentResult { Argument: ITakesDashes taking } argument => argument.Tokens.Where(t => !taking.Takes(t.Value)),
            ArgumentResult argument => argument.Tokens,
            OptionResult { Option.AllowMultipleArgumentsPerToken: true } option => option.Tokens,
            _ => [],
        }).Concat(parsed.UnmatchedTokens.Select(t => new Token(t, TokenType.Argument, null!)));
        return words.FirstOrDefault(t => t.Value is ['-', _, ..] && !sure.Contains(t)) is { } found ? OneLine(found.Value) : null;
    }

    /// <summary>The name of a place on the command line that holds an empty word where only a path can be.</summary>
    private static string? FindEmpty(ParseResult parsed) => parsed.CommandResult.Children.Select(child => child switch
    {
        ArgumentResult argument when HasEmpty(argument) => argument.Argument.Name,
        OptionResult { Option.HelpName: "FILE" or "DIR" } option when HasEmpty(option) => option.Option.Name,
        _ => null,
    }).FirstOrDefault(name => name is not null);

    private static bool HasEmpty(SymbolResult result) => result.Tokens.Any(t => t.Value.Length == 0);

    private static string? IntegerOf(Type type)
    {
        type = type.IsArray ? type.GetElementType()! : Nullable.GetUnderlyingType(type) ?? type;
        return type == typeof(int) ? $" up to {int.MaxValue}"
            : type == typeof(uint) ? $" from 0 to {uint.MaxValue}"
            : type == typeof(ulong) ? $" from 0 to {ulong.MaxValue}"
            : null;
    }

    private static string HelpOf(ParseResult parsed) => $"see {PathOf(parsed.CommandResult)} --help";

    private static string PathOf(CommandResult command) =>
        command.Parent is CommandResult above ? $"{PathOf(above)} {command.Command.Name}" : command.Command.Name;

    private static string OneLine(string text) => text.ReplaceLineEndings(" ").Trim();
}

/// <summary>An argument of which some values begin with a dash, and are no options then.</summary>
public interface ITakesDashes
{
    /// <summary>Whether the word is one of its values.</summary>
    bool Takes(string word);
}
