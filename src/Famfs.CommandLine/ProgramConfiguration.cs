using System.CommandLine;
using System.CommandLine.Parsing;
using System.Text.Json;

namespace Famfs.CommandLine;

/// <summary>An option, or an argument, that may also stand in a configuration file.</summary>
/// <param name="Symbol">Its definition: the key is its name, the value is checked as on the command line.</param>
/// <param name="Variable">Environment variable that says the same and comes before the files; null: none.</param>
/// <param name="IsOfHost">It is the same for every program of a host, so it stands before the first section.</param>
public sealed record ConfigurableKey(Symbol Symbol, string? Variable = null, bool IsOfHost = false)
{
    /// <summary>Its name in a file.</summary>
    public string Name => Symbol.Name.TrimStart('-');

    internal bool IsList => (Symbol is Option option ? option.Arity : ((Argument)Symbol).Arity).MaximumNumberOfValues > 1;
}

/// <summary>What holds for a key, and why.</summary>
/// <param name="Instance">Of which instance of the program; empty: of all that say nothing else.</param>
/// <param name="Key">Name of the key.</param>
/// <param name="Value">The value; null: nothing says one.</param>
/// <param name="Variable">The environment variable that says it, or null.</param>
/// <param name="Setting">The line that says it, or null.</param>
public sealed record HeldValue(string Instance, string Key, string? Value, string? Variable, Setting? Setting);

/// <summary>
/// The configuration of one program: what its command line leaves open comes from the environment, then from the files, then
/// from the program. Every line for the program is checked, also those that do not count this time.
/// </summary>
/// <param name="program">Name of its sections.</param>
/// <param name="command">Its command line.</param>
/// <param name="keys">What may be configured.</param>
public sealed class ProgramConfiguration(string program, Command command, IReadOnlyList<ConfigurableKey> keys)
{
    // With nothing but the keys: what else a line would need is no fault of a file.
    private readonly Command _values = ValuesOf(program, keys);

    /// <summary>First word of a program that then prints as JSON what holds for it (<see cref="WriteHeld"/>), for <c>famfs config</c>.</summary>
    public const string ExplainWord = "--explain-config";

    /// <summary>Names the directory of the files.</summary>
    public Option<string?> DirectoryOption { get; } = new("--config-dir")
    {
        Description = $"Directory of configuration files *.conf; also {Configuration.DirectoryVariable}, default {Configuration.DefaultDirectory}",
        HelpName = "DIR",
        Recursive = true,
    };

    /// <summary>Chooses one of the program's named sections.</summary>
    public Option<string?> InstanceOption { get; } = new("--instance")
    {
        Description = $"Take what the section [{program} NAME] of the configuration says, too",
        HelpName = "NAME",
    };

    /// <summary>Adds to a command line what the environment does not say and the files do. Throws <see cref="ConfigurationException"/>.</summary>
    public string[] Complete(string[] args, Func<string, string?> variable)
    {
        ParseResult parsed = command.Parse(args);
        if (parsed.Action?.ClearsParseErrors == true || parsed.Action is System.CommandLine.Help.HelpAction)
            return args;
        // What is wrong with them is said where all of the line is judged.
        if (parsed.GetResult(DirectoryOption)?.Errors.Any() == true || parsed.GetResult(InstanceOption)?.Errors.Any() == true)
            return args;
        string instance = parsed.GetValue(InstanceOption) ?? "";
        Configuration configuration = Read(parsed.GetValue(DirectoryOption), variable);
        if (instance.Length > 0 && !configuration.FindInstances(program).Contains(instance))
            throw new ConfigurationException($"--instance {instance}: there is no section [{program} {instance}] in {Path.Combine(configuration.Directory, "*.conf")}");
        List<string> options = [], arguments = [];
        foreach (HeldValue held in Find(configuration, instance, variable))
        {
            Symbol symbol = keys.First(k => k.Name == held.Key).Symbol;
            if (held.Setting is null)
                continue;
            if (symbol is Option option && parsed.GetResult(option) is null or { Implicit: true })
                options.Add(OptionText(option, held.Value!));
            else if (symbol is Argument argument && parsed.GetResult(argument)?.Tokens.Count is null or 0)
                arguments.Add(held.Value!);
        }
        return [.. options, .. args, .. arguments];
    }

    /// <summary>Reads the files and checks what is for this program. Throws <see cref="ConfigurationException"/>.</summary>
    public Configuration Read(string? directory, Func<string, string?> variable)
    {
        Configuration configuration = Configuration.Read(directory, variable);
        Dictionary<(string, string, string), Setting> first = [];
        foreach (Setting setting in configuration.Settings.Where(s => s.Program == program || s.Program.Length == 0))
        {
            ConfigurableKey key = keys.FirstOrDefault(k => k.Name == setting.Key)
                ?? throw Fault(setting, $"unknown key; {(setting.Program.Length == 0 ? "before the first section" : $"in [{program}]")} are known {string.Join(", ", keys.Where(k => k.IsOfHost == (setting.Program.Length == 0)).Select(k => k.Name))}");
            if (key.IsOfHost && setting.Program.Length > 0)
                throw Fault(setting, "is the same for every program of a host; write it before the first section");
            if (!key.IsOfHost && setting.Program.Length == 0)
                throw Fault(setting, $"is not for every program; write it in a section, [{program}] for example");
            if (!first.TryAdd((setting.Program, setting.Instance, setting.Key), setting) && !key.IsList)
                throw Fault(setting, $"stands in line {first[(setting.Program, setting.Instance, setting.Key)].Line} already, and has one value");
            if (FindFault(key, setting.Value) is { } fault)
                throw Fault(setting, fault);
        }
        return configuration;
    }

    /// <summary>What holds for the program, or for an instance of it, when its command line says nothing.</summary>
    public IEnumerable<HeldValue> Find(Configuration configuration, string instance, Func<string, string?> variable)
    {
        ILookup<string, Setting> set = configuration.Find(program, instance).ToLookup(s => s.Key);
        foreach (ConfigurableKey key in keys)
        {
            if (key.Variable is { } name && variable(name) is { Length: > 0 } said)
                yield return new(instance, key.Name, said, name, null);
            else if (set.Contains(key.Name))
            {
                foreach (Setting setting in set[key.Name])
                    yield return new(instance, key.Name, setting.Value, null, setting);
            }
            else
                yield return new(instance, key.Name, DefaultOf(key.Symbol), null, null);
        }
    }

    /// <summary>Runs the program's part of <c>famfs config</c>; gives the exit status.</summary>
    /// <param name="args">What follows <see cref="ExplainWord"/>: nothing, or the directory.</param>
    /// <param name="variable">The environment.</param>
    /// <param name="output">Takes one JSON document.</param>
    public int Explain(string[] args, Func<string, string?> variable, Stream output)
    {
        try
        {
            Configuration configuration = Read(args.FirstOrDefault(), variable);
            using Utf8JsonWriter json = new(output, new JsonWriterOptions { Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping });
            json.WriteStartArray();
            WriteHeld(json, configuration, variable);
            json.WriteEndArray();
            return 0;
        }
        catch (ConfigurationException error)
        {
            Console.Error.WriteLine($"{program}: {error.Message}");
            return 1;
        }
    }

    /// <summary>Writes an object for each value that holds: of the program, then of each instance.</summary>
    public void WriteHeld(Utf8JsonWriter json, Configuration configuration, Func<string, string?> variable)
    {
        foreach (string instance in (string[])["", .. configuration.FindInstances(program)])
        {
            // Of an instance, what nothing says is as of the program.
            foreach (HeldValue held in Find(configuration, instance, variable).Where(h => instance.Length == 0 || h.Setting is not null || h.Variable is not null))
            {
                json.WriteStartObject();
                json.WriteString("program", program);
                json.WriteString("instance", held.Instance);
                json.WriteString("key", held.Key);
                json.WriteString("value", held.Value);
                json.WriteString("from", held.Setting is not null ? "file" : held.Variable is not null ? "environment" : "default");
                if (held.Setting is { } setting)
                {
                    json.WriteString("file", setting.File);
                    json.WriteNumber("line", setting.Line);
                }
                if (held.Variable is { } name)
                    json.WriteString("variable", name);
                json.WriteEndObject();
            }
        }
    }

    private static string? DefaultOf(Symbol symbol) => symbol switch
    {
        Option { HasDefaultValue: true } option when option.ValueType == typeof(string) => option.GetDefaultValue() as string,
        _ => null,
    };

    /// <summary>What the command line would say about the value.</summary>
    private string? FindFault(ConfigurableKey key, string value)
    {
        string[] line = key.Symbol is Option option ? [OptionText(option, value)] : [value];
        ParseResult parsed = _values.Parse(line);
        SymbolResult? result = parsed.GetResult(key.Symbol);
        if (key.Symbol is Argument && value.StartsWith('-'))
            return $"{value}: begins with a dash, as an option does";
        return parsed.Errors.FirstOrDefault(e => e.SymbolResult is not null && (e.SymbolResult == result || e.SymbolResult.Parent == result)) is { } error
            ? CommandLineFault.Describe(parsed, error)
            : null;
    }

    private static Command ValuesOf(string name, IReadOnlyList<ConfigurableKey> keys)
    {
        Command values = new(name);
        foreach (ConfigurableKey key in keys)
        {
            if (key.Symbol is Option option)
                values.Add(option);
            else
                values.Add((Argument)key.Symbol);
        }
        return values;
    }

    private static string OptionText(Option option, string value) => $"{option.Name}={value}";

    private static ConfigurationException Fault(Setting setting, string text)
    {
        // Of a command line it would begin with the option.
        string own = "--" + setting.Key;
        string rest = text.StartsWith(own, StringComparison.Ordinal) ? text[own.Length..].TrimStart(':', ' ') : text;
        return new($"{setting.Place}: {setting.Key}: {rest}");
    }
}
