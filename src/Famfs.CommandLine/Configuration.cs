using System.Globalization;
using System.Text;

namespace Famfs.CommandLine;

/// <summary>One line of a configuration file.</summary>
/// <param name="Program">Whose section it is in; empty: before the first section, for every program of the host.</param>
/// <param name="Instance">Name in the section's head; empty: for all instances of the program.</param>
/// <param name="Key">Name of an option without its dashes, or of an argument.</param>
/// <param name="Value">Without white space around it; never empty.</param>
/// <param name="File">Path of the file.</param>
/// <param name="Line">From 1.</param>
public sealed record Setting(string Program, string Instance, string Key, string Value, string File, int Line)
{
    /// <summary>For messages: <c>FILE:LINE</c>.</summary>
    public string Place => string.Create(CultureInfo.InvariantCulture, $"{File}:{Line}");
}

/// <summary>A configuration that cannot be used. The message is one line with file, line and key.</summary>
public sealed class ConfigurationException(string message) : Exception(message);

/// <summary>
/// The files <c>*.conf</c> of one directory, in the order of their names' bytes:
/// <code>
/// # a comment has a line of its own
/// host-state = /var/lib/famfs      before the first section: for every program
/// [famfsd]                         for each daemon
/// master = http://10.0.0.1:7733
/// [famfsd models]                  for the daemon that is started with --instance models
/// device = /dev/dax*               a key that may stand for several values is repeated
/// </code>
/// A key that stands in several files counts as the last file has it, with all its lines there; one of an instance comes before one of
/// its program. Values are taken as they are: no quotes, no variables, no continued lines. Which keys there are and what
/// they may hold is the programs' business (<see cref="ProgramConfiguration"/>).
/// </summary>
public sealed class Configuration
{
    /// <summary>Where the files are when nothing else is said. Need not be there.</summary>
    public const string DefaultDirectory = "/etc/famfs";

    /// <summary>Environment variable that names another directory, which must be there.</summary>
    public const string DirectoryVariable = "FAMFS_CONFIG_DIR";

    // Chosen: far above what people write, far below what costs memory.
    private const int MaxFileBytes = 64 * 1024;
    private const int MaxFiles = 256;

    private static readonly string[] s_programs = ["famfs", "famfsd", "famfs-master"];
    private static readonly UTF8Encoding s_strict = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    private readonly IReadOnlySet<(string Program, string Instance)> _sections;

    private Configuration(string directory, IReadOnlyList<string> files, IReadOnlyList<Setting> settings, IReadOnlySet<(string, string)> sections)
    {
        Directory = directory;
        Files = files;
        Settings = settings;
        _sections = sections;
    }

    /// <summary>Where was looked.</summary>
    public string Directory { get; }

    /// <summary>Paths of the files that were read, in their order.</summary>
    public IReadOnlyList<string> Files { get; }

    /// <summary>All that stands in them and that no later file replaces.</summary>
    public IReadOnlyList<Setting> Settings { get; }

    /// <summary>Reads the directory that is said (an option, which comes first, or the environment), or the usual one. Throws
    /// <see cref="ConfigurationException"/> for one that is named and not there, and for what is not of this format.</summary>
    public static Configuration Read(string? option, Func<string, string?> variable)
    {
        string? said = string.IsNullOrEmpty(option) ? variable(DirectoryVariable) : option;
        string directory = string.IsNullOrEmpty(said) ? DefaultDirectory : said;
        if (!System.IO.Directory.Exists(directory))
        {
            return string.IsNullOrEmpty(said)
                ? new(directory, [], [], new HashSet<(string, string)>())
                : throw new ConfigurationException($"{directory}: there is no such directory of configuration files");
        }
        try
        {
            // A name that begins with a dot is an editor's, or what a mounted ConfigMap keeps its files in.
            string[] files = [.. System.IO.Directory.EnumerateFiles(directory, "*.conf").Where(f => !Path.GetFileName(f).StartsWith('.')).Order(StringComparer.Ordinal)];
            if (files.Length > MaxFiles)
                throw new ConfigurationException($"{directory}: has {files.Length} files of configuration; {MaxFiles} may be there");
            HashSet<(string, string)> sections = [];
            List<List<Setting>> read = [.. files.Select(f => ReadFile(f, sections))];
            return new(directory, files, Merge(read), sections);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new ConfigurationException(error.Message.ReplaceLineEndings(" "));
        }
    }

    /// <summary>The names in the heads of a program's sections, in their order.</summary>
    public IReadOnlyList<string> FindInstances(string program) =>
        [.. _sections.Where(s => s.Program == program && s.Instance.Length > 0).Select(s => s.Instance).Order(StringComparer.Ordinal)];

    /// <summary>What holds for a program, or for one of its instances: for each key the nearest lines.</summary>
    public IReadOnlyList<Setting> Find(string program, string instance)
    {
        List<Setting> found = [];
        foreach ((string ofProgram, string ofInstance) in ((string, string)[])[(program, instance), (program, ""), ("", "")])
        {
            HashSet<string> nearer = [.. found.Select(s => s.Key)];
            found.AddRange(Settings.Where(s => s.Program == ofProgram && s.Instance == ofInstance && !nearer.Contains(s.Key)));
        }
        return found;
    }

    private static List<Setting> Merge(List<List<Setting>> files)
    {
        List<Setting> merged = [];
        foreach (List<Setting> file in files)
        {
            HashSet<(string, string, string)> later = [.. file.Select(s => (s.Program, s.Instance, s.Key))];
            merged.RemoveAll(s => later.Contains((s.Program, s.Instance, s.Key)));
            merged.AddRange(file);
        }
        return merged;
    }

    private static List<Setting> ReadFile(string path, HashSet<(string, string)> sections)
    {
        byte[] bytes = ReadBytes(path);
        string text;
        try
        {
            text = s_strict.GetString(bytes).TrimStart('\uFEFF');
        }
        catch (DecoderFallbackException)
        {
            throw new ConfigurationException($"{path}: is not text in UTF-8");
        }
        List<Setting> settings = [];
        string program = "", instance = "";
        int number = 0;
        foreach (string raw in text.Split('\n'))
        {
            number++;
            string line = raw.Trim();
            if (line.Length == 0 || line[0] is '#' or ';')
                continue;
            if (line.FirstOrDefault(char.IsControl) is not '\0' and char control)
                throw Fault(path, number, string.Create(CultureInfo.InvariantCulture, $"has the control character {(int)control}"));
            if (line[0] == '[')
            {
                (program, instance) = ParseHead(path, number, line);
                sections.Add((program, instance));
            }
            else
                settings.Add(ParseSetting(path, number, line, program, instance));
        }
        return settings;
    }

    private static byte[] ReadBytes(string path)
    {
        using FileStream file = File.OpenRead(path);
        byte[] bytes = new byte[MaxFileBytes + 1];
        int count = file.ReadAtLeast(bytes, bytes.Length, throwOnEndOfStream: false);
        return count <= MaxFileBytes ? bytes[..count] : throw new ConfigurationException($"{path}: is longer than {MaxFileBytes} bytes");
    }

    private static (string Program, string Instance) ParseHead(string path, int number, string line)
    {
        string[] words = line.EndsWith(']') ? line[1..^1].Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries) : [];
        if (words.Length is not (1 or 2))
            throw Fault(path, number, $"{line}: is no head of a section; write [PROGRAM] or [PROGRAM NAME]");
        if (!s_programs.Contains(words[0], StringComparer.Ordinal))
            throw Fault(path, number, $"[{words[0]}]: unknown section; known are {string.Join(", ", s_programs.Select(p => $"[{p}]"))}");
        if (words.Length == 1)
            return (words[0], "");
        if (words[0] == s_programs[0])
            throw Fault(path, number, $"{line}: famfs has no instances; write [famfs]");
        // What a unit of systemd may be called after @ without any escape.
        return words[1].All(c => char.IsAsciiLetterOrDigit(c) || c is '.' or '_' or '-') && words[1].Length <= 64
            ? (words[0], words[1])
            : throw Fault(path, number, $"{words[1]}: a name has at most 64 letters, digits, dots, underscores and dashes");
    }

    private static Setting ParseSetting(string path, int number, string line, string program, string instance)
    {
        int at = line.IndexOf('=', StringComparison.Ordinal);
        if (at < 0)
            throw Fault(path, number, $"{line}: is neither KEY = VALUE nor [SECTION]; a comment begins with #");
        string key = line[..at].TrimEnd(), value = line[(at + 1)..].TrimStart();
        if (key.Length == 0 || !key.All(c => char.IsAsciiLetterLower(c) || char.IsAsciiDigit(c) || c == '-') || key[0] == '-')
            throw Fault(path, number, $"{key}: is no key; a key is the name of an option without its dashes");
        if (value.Length == 0)
            throw Fault(path, number, $"{key}: its value is missing");
        if (value[0] is '"' or '\'' && value[^1] == value[0])
            throw Fault(path, number, $"{key}: {value}: write the value without quotes");
        return new(program, instance, key, value, path, number);
    }

    private static ConfigurationException Fault(string path, int line, string text) => new(string.Create(CultureInfo.InvariantCulture, $"{path}:{line}: {text}"));
}
