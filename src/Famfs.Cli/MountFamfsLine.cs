using System.Text;
using Famfs.CommandLine;

namespace Famfs.Cli;

/// <summary>
/// The command line of a helper program of mount(8):
/// <code>mount.famfs SPEC DIR [-sfnv] [-o WORD,WORD=VALUE,…] [-t TYPE] [-N NAMESPACE]</code>
/// in this order from mount(8), in any order from people.
/// </summary>
internal sealed class MountFamfsLine
{
    // What is for mount(8) and umount(8) alone.
    private static readonly string[] s_droppedBeginnings = ["helper=", "uhelper="];

    // What the kernel's table shows of a FUSE mount, which mount(8) hands over for a remount.
    private static readonly string[] s_ofTable = ["default_permissions", "user_id", "group_id", "max_read", "rootmode", "blksize"];

    /// <summary>Words that have a value, with the option of <c>famfs mount</c> or <c>famfsd</c> that each stands for.</summary>
    private static readonly string[] s_valued =
        ["master", "device", "file-system", "ca-file", "certificate-file", "key-file", "host-state", "config-dir", "dialect", "push-ioctl", "workers", "timeout", "log"];

    private readonly List<(string Key, string Value)> _values = [];
    private readonly List<string> _mountWords = [];

    /// <summary>What to mount; empty when none was given.</summary>
    public string Spec { get; private set; } = "";

    /// <summary>Where.</summary>
    public string Directory { get; private set; } = "";

    /// <summary>-s: unknown words are dropped.</summary>
    public bool IsSloppy { get; private set; }

    /// <summary>-f: all but the mount.</summary>
    public bool IsFake { get; private set; }

    /// <summary>-v: tell what is done.</summary>
    public bool IsVerbose { get; private set; }

    /// <summary>--help or -h.</summary>
    public bool WantsHelp { get; private set; }

    /// <summary>--version or -V.</summary>
    public bool WantsVersion { get; private set; }

    /// <summary>The word <c>remount</c>.</summary>
    public bool IsRemount { get; private set; }

    /// <summary>The word <c>no-wait</c>.</summary>
    public bool NoWait { get; private set; }

    /// <summary>The last of <c>ro</c> and <c>rw</c> is <c>ro</c>.</summary>
    public bool IsReadOnly { get; private set; }

    /// <summary>The words of <see cref="MountOptionWords"/>.</summary>
    public IReadOnlyList<string> MountWords => IsReadOnly ? [.. _mountWords, "ro"] : _mountWords;

    /// <summary>Words that a remount leaves as they are.</summary>
    public IReadOnlyList<string> Others => [.. _mountWords, .. _values.Where(v => v.Key is not "config-dir" and not "timeout").Select(v => v.Key)];

    /// <summary>All values of a word.</summary>
    public IReadOnlyList<string> All(string key) => [.. _values.Where(v => v.Key == key).Select(v => v.Value)];

    /// <summary>The last value of a word, or null.</summary>
    public string? Last(string key) => All(key).LastOrDefault();

    /// <summary>Reads a line; gives what is wrong with it, or null.</summary>
    public string? Parse(string[] args)
    {
        List<string> positions = [];
        List<(char Letter, string Value)> options = [];
        for (int i = 0; i < args.Length; i++)
        {
            string arg = args[i];
            if (arg is "--help" or "--version")
            {
                WantsHelp |= arg == "--help";
                WantsVersion |= arg == "--version";
                continue;
            }
            if (arg is not ['-', _, ..])
            {
                positions.Add(arg);
                continue;
            }
            for (int at = 1; at < arg.Length; at++)
            {
                char letter = arg[at];
                if (letter is 'o' or 't' or 'N')
                {
                    string? value = at + 1 < arg.Length ? arg[(at + 1)..] : i + 1 < args.Length ? args[++i] : null;
                    if (value is null)
                        return $"-{letter}: its value is missing";
                    options.Add((letter, value));
                    break;
                }
                IsSloppy |= letter == 's';
                IsFake |= letter == 'f';
                IsVerbose |= letter == 'v';
                WantsHelp |= letter == 'h';
                WantsVersion |= letter == 'V';
                // n: there is no table of mounts beside the kernel's.
                if (letter is not ('s' or 'f' or 'v' or 'h' or 'V' or 'n'))
                    return $"{arg}: unknown option; see mount.famfs --help";
            }
        }
        return WantsHelp || WantsVersion ? null : Take(positions, options);
    }

    private string? Take(List<string> positions, List<(char Letter, string Value)> options)
    {
        IsRemount = options.Any(o => o.Letter == 'o' && SplitWords(o.Value).Contains("remount"));
        foreach ((char letter, string value) in options)
        {
            string? fault = letter switch
            {
                't' => value is "famfs" or "fuse.famfs" ? null : $"-t {value}: is not famfs",
                'N' => $"-N {value}: mounting in another name space is not done; enter it first (nsenter -m)",
                _ => SplitWords(value).Select(TakeWord).FirstOrDefault(f => f is not null),
            };
            if (fault is not null)
                return fault;
        }
        if (positions.Count != 2)
            return positions.Count < 2 ? "what to mount or the directory is missing; see mount.famfs --help" : $"{positions[2]}: unknown argument; see mount.famfs --help";
        (Spec, Directory) = (positions[0], positions[1]);
        return Spec.Length == 0 || Directory.Length == 0 ? "what to mount or the directory is empty" : null;
    }

    private string? TakeWord(string word)
    {
        int at = word.IndexOf('=', StringComparison.Ordinal);
        string key = at < 0 ? word : word[..at];
        if (word.Length == 0 || s_droppedBeginnings.Any(b => word.StartsWith(b, StringComparison.Ordinal)))
            return null;
        if (word is "ro" or "rw")
            IsReadOnly = word == "ro";
        else if (word == "remount" || (IsRemount && s_ofTable.Contains(key, StringComparer.Ordinal)))
            return null;
        else if (word == "no-wait")
            NoWait = true;
        else if (s_valued.Contains(key, StringComparer.Ordinal))
        {
            if (at < 0 || at + 1 == word.Length)
                return $"-o {key}: its value is missing";
            _values.Add((key, word[(at + 1)..]));
        }
        else if (MountOptionWords.FindFault([word]) is null)
            _mountWords.AddRange(MountOptionWords.Split([word]).Where(MountOptionWords.IsForDaemon));
        else if (!IsSloppy)
            return $"-o {word.ReplaceLineEndings(" ")}: unknown mount option; known are {MountOptionWords.Known}, remount, no-wait, {string.Join(", ", s_valued.Select(v => v + "="))}";
        return null;
    }

    /// <summary>Commas within double quotes are no separators, as for mount(8).</summary>
    private static IEnumerable<string> SplitWords(string text)
    {
        StringBuilder word = new();
        bool quoted = false;
        foreach (char c in text)
        {
            if (c == '"')
                quoted = !quoted;
            else if (c == ',' && !quoted)
            {
                yield return word.ToString();
                word.Clear();
            }
            else
                word.Append(c);
        }
        yield return word.ToString();
    }
}
