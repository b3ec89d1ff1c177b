using System.CommandLine;
using System.Text;

namespace Famfs.CommandLine;

/// <summary>Texts that packages carry and that are made of a program's own command line, so that they say what <c>--help</c> says: manual pages
/// and completions of shells. A program writes one when it is called as <c>PROGRAM --generate KIND</c>.</summary>
public static class GeneratedText
{
    /// <summary>The first word.</summary>
    public const string Word = "--generate";

    private static readonly string[] s_kinds = ["man", "bash", "zsh", "fish"];

    /// <summary>Writes the text of a kind; gives the exit status.</summary>
    /// <param name="arguments">What follows <see cref="Word"/>.</param>
    /// <param name="root">The command line; its description becomes the page's.</param>
    /// <param name="name">Name of the program.</param>
    /// <param name="section">Section of the manual.</param>
    /// <param name="version">Of the program.</param>
    /// <param name="output">Where.</param>
    public static int Write(string[] arguments, Command root, string name, int section, string version, TextWriter output)
    {
        string? text = arguments switch
        {
            ["man"] => ManualPage(root, name, section, version),
            ["bash"] => Bash(root, name),
            ["zsh"] => Zsh(root, name),
            ["fish"] => Fish(root, name),
            _ => null,
        };
        if (text is null)
        {
            Console.Error.WriteLine($"{name}: {Word}: must be {string.Join(", ", s_kinds)}");
            return 1;
        }
        output.Write(text);
        return 0;
    }

    private static string ManualPage(Command root, string name, int section, string version)
    {
        StringBuilder page = new();
        page.Append($".TH {name.ToUpperInvariant()} {section} \"\" \"famfs.net {Roff(version)}\"\n");
        page.Append($".SH NAME\n{Roff(name)} \\- {Roff(FirstSentence(root.Description))}\n");
        page.Append($".SH SYNOPSIS\n.B {Roff(name)}\n{(Verbs(root).Any() ? "COMMAND " : "")}[OPTIONS]{Roff(Positions(root))}\n");
        page.Append($".SH DESCRIPTION\n{Roff(root.Description)}\n");
        WriteSymbols(page, root, ".SH OPTIONS\n");
        if (Verbs(root).Any())
        {
            page.Append(".SH COMMANDS\n");
            foreach (Command verb in Verbs(root))
                WriteVerb(page, verb, $"{name} {verb.Name}");
        }
        page.Append($".SH FILES\n.TP\n{Configuration.DefaultDirectory}/*.conf\nconfiguration; \\fBfamfs config\\fR shows what holds and where it comes from\n");
        page.Append(".SH SEE ALSO\n.BR famfs (1),\n.BR famfsd (8),\n.BR famfs-master (8),\n.BR mount.famfs (8)\n");
        return page.ToString();
    }

    private static void WriteVerb(StringBuilder page, Command verb, string path)
    {
        page.Append($".SS {Roff(path)}{Roff(Positions(verb))}\n{Roff(verb.Description)}\n");
        WriteSymbols(page, verb, "");
        foreach (Command below in Verbs(verb))
            WriteVerb(page, below, $"{path} {below.Name}");
    }

    private static void WriteSymbols(StringBuilder page, Command command, string head)
    {
        page.Append(head);
        foreach (Argument argument in command.Arguments.Where(a => !a.Hidden))
            page.Append($".TP\n{Roff(argument.Name)}\n{Roff(argument.Description)}\n");
        foreach (Option option in Shown(command))
            page.Append($".TP\n\\fB{Roff(string.Join(", ", Names(option)))}\\fR{Roff(ValueOf(option))}\n{Roff(option.Description)}\n");
    }

    private static string Bash(Command root, string name)
    {
        StringBuilder script = new();
        string function = "_" + name.Replace('-', '_');
        script.Append($"# bash completion of {name}, made from its command line\n{function}() {{\n");
        script.Append("    local word=${COMP_WORDS[COMP_CWORD]} path='' i options\n");
        script.Append("    for ((i = 1; i < COMP_CWORD; i++)); do\n        case \"$path ${COMP_WORDS[i]}\" in\n");
        foreach ((string path, Command _) in AllVerbs(root, "").Where(v => v.Path.Length > 0))
            script.Append($"            '{ParentOf(path)} {NameOf(path)}') path='{path}' ;;\n");
        script.Append("        esac\n    done\n    case $path in\n");
        foreach ((string path, Command verb) in AllVerbs(root, ""))
            script.Append($"        '{path}') options='{string.Join(' ', Words(root, verb))}' ;;\n");
        script.Append("    esac\n    COMPREPLY=($(compgen -W \"$options\" -- \"$word\"))\n");
        script.Append($"    [ ${{#COMPREPLY[@]}} -gt 0 ] || COMPREPLY=($(compgen -f -- \"$word\"))\n}}\ncomplete -o filenames -F {function} {name}\n");
        return script.ToString();
    }

    private static string Zsh(Command root, string name)
    {
        StringBuilder script = new();
        script.Append($"#compdef {name}\n# zsh completion of {name}, made from its command line\nlocal chosen='' word\nlocal -a options\n");
        script.Append("for word in ${words[2,CURRENT-1]}; do\n    case \"$chosen $word\" in\n");
        foreach ((string path, Command _) in AllVerbs(root, "").Where(v => v.Path.Length > 0))
            script.Append($"        '{ParentOf(path)} {NameOf(path)}') chosen='{path}' ;;\n");
        script.Append("    esac\ndone\ncase $chosen in\n");
        foreach ((string path, Command verb) in AllVerbs(root, ""))
        {
            script.Append($"    '{path}') options=(\n");
            foreach (Command below in Verbs(verb))
                script.Append($"        {Quoted($"{below.Name}:{OneLine(below.Description)}")}\n");
            foreach (Option option in OptionsOf(root, verb))
                script.Append($"        {Quoted($"{option.Name}:{OneLine(option.Description)}")}\n");
            script.Append("    ) ;;\n");
        }
        script.Append("esac\n_describe -o option options\n_files\n");
        return script.ToString();
    }

    private static string Fish(Command root, string name)
    {
        StringBuilder script = new();
        script.Append($"# fish completion of {name}, made from its command line\n");
        string[] verbs = [.. Verbs(root).Select(v => v.Name)];
        string none = verbs.Length == 0 ? "" : $" -n 'not __fish_seen_subcommand_from {string.Join(' ', verbs)}'";
        foreach (Command verb in Verbs(root))
            script.Append($"complete -c {name}{none} -a {verb.Name} -d {Quoted(OneLine(verb.Description))}\n");
        foreach (Option option in Shown(root))
            script.Append(FishOption(name, "", option));
        foreach (Command verb in Verbs(root))
        {
            foreach (Option option in AllVerbs(verb, "").SelectMany(v => Shown(v.Verb)).DistinctBy(o => o.Name))
                script.Append(FishOption(name, $" -n '__fish_seen_subcommand_from {verb.Name}'", option));
            foreach (Command below in Verbs(verb))
                script.Append($"complete -c {name} -n '__fish_seen_subcommand_from {verb.Name}' -a {below.Name} -d {Quoted(OneLine(below.Description))}\n");
        }
        return script.ToString();
    }

    private static string FishOption(string name, string when, Option option)
    {
        string letters = string.Concat(Names(option).Where(n => n.Length == 2).Select(n => $" -s {n[1]}"));
        return $"complete -c {name}{when} -l {option.Name.TrimStart('-')}{letters}{(TakesValue(option) ? " -r" : "")} -d {Quoted(OneLine(option.Description))}\n";
    }

    private static IEnumerable<Command> Verbs(Command command) => command.Subcommands.Where(c => !c.Hidden);

    /// <summary>The command itself, by its path, and all below it.</summary>
    private static IEnumerable<(string Path, Command Verb)> AllVerbs(Command command, string path) =>
        [(path, command), .. Verbs(command).SelectMany(v => AllVerbs(v, path.Length == 0 ? v.Name : $"{path} {v.Name}"))];

    private static IEnumerable<Option> Shown(Command command) => command.Options.Where(o => !o.Hidden && o is not VersionOption and not System.CommandLine.Help.HelpOption);

    private static IEnumerable<Option> OptionsOf(Command root, Command verb) =>
        Shown(verb).Concat(verb == root ? [] : Shown(root).Where(o => o.Recursive)).DistinctBy(o => o.Name);

    private static IEnumerable<string> Words(Command root, Command verb) => [.. Verbs(verb).Select(v => v.Name), .. OptionsOf(root, verb).Select(o => o.Name), "--help"];

    private static IEnumerable<string> Names(Option option) => option.Aliases.Where(a => a != option.Name).Prepend(option.Name);

    private static bool TakesValue(Option option) => option.ValueType != typeof(bool);

    private static string ValueOf(Option option) => TakesValue(option) ? " " + (option.HelpName ?? option.Name.TrimStart('-').ToUpperInvariant()) : "";

    private static string Positions(Command command) => string.Concat(command.Arguments.Where(a => !a.Hidden).Select(a => a.Arity.MinimumNumberOfValues == 0 ? $" [{a.Name}]" : $" {a.Name}"));

    private static string ParentOf(string path) => path.LastIndexOf(' ') is > 0 and int at ? path[..at] : "";

    private static string NameOf(string path) => path[(path.LastIndexOf(' ') + 1)..];

    private static string FirstSentence(string? text) => OneLine(text).Split(": ")[0].TrimEnd('.') is { Length: > 0 } first ? char.ToLowerInvariant(first[0]) + first[1..] : "";

    private static string OneLine(string? text) => (text ?? "").ReplaceLineEndings(" ").Trim();

    private static string Quoted(string text) => "'" + text.Replace("'", "'\\''", StringComparison.Ordinal) + "'";

    /// <summary>A dash is a minus sign, so that it can be copied; a line must not begin as a request.</summary>
    private static string Roff(string? text)
    {
        string plain = (text ?? "").ReplaceLineEndings(" ").Replace("\\", "\\e", StringComparison.Ordinal).Replace("-", "\\-", StringComparison.Ordinal);
        return plain is ['.' or '\'', ..] ? "\\&" + plain : plain;
    }
}
