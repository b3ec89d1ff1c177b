namespace Famfs.CommandLine;

/// <summary>The words of <c>-o</c> of a mount, with commas between them as for mount(8). One table for the command that starts the
/// daemon and for the daemon, so that a wrong word is an error of the command line and no line in a log.</summary>
public static class MountOptionWords
{
    /// <summary>For helps.</summary>
    public const string Description = "Mount options with commas between them, as of mount(8): ro, rw, noexec, exec, cache=direct, cache=close-to-open, allow-other, no-allow-other, locks=local, locks=refuse, notime";

    // What the daemon does something about.
    private static readonly string[] s_own = ["ro", "rw", "noexec", "exec", "cache=direct", "cache=close-to-open", "allow-other", "no-allow-other", "locks=local", "locks=refuse", "notime"];

    /// <summary>Those that the daemon does something about, with commas.</summary>
    public static string Known => string.Join(", ", s_own);

    // What mount(8) has for every file system and famfs does nothing about: it holds for every mount, a file system without a disk has
    // no use for it, or it is for whoever reads a table of mounts.
    private static readonly string[] s_others =
    [
        "defaults", "suid", "nosuid", "dev", "nodev", "atime", "noatime", "diratime", "nodiratime", "relatime", "norelatime", "strictatime", "nostrictatime", "lazytime", "nolazytime",
        "async", "sync", "dirsync", "mand", "nomand", "iversion", "noiversion", "silent", "loud",
        "auto", "noauto", "nofail", "_netdev", "user", "nouser", "users", "nousers", "owner", "noowner", "group", "nogroup",
    ];

    private static readonly string[] s_otherBeginnings = ["x-", "X-", "comment="];

    // Each lets whom the line names mount, without set-id bits, devices and programs where nothing else follows (mount(8)).
    private static readonly string[] s_ofUsers = ["user", "users"];
    private static readonly string[] s_harmless = ["user", "users", "owner", "group"];

    /// <summary>The single words.</summary>
    public static IEnumerable<string> Split(IEnumerable<string>? options) =>
        (options ?? []).SelectMany(o => o.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries)).Select(word => word == "allow_other" ? "allow-other" : word);

    /// <summary>Whether a word is there and its opposite does not follow: of two that exclude each other the last counts.</summary>
    public static bool IsSet(IReadOnlyList<string> words, string word, params string[] opposites) =>
        words.LastOrDefault(w => w == word || opposites.Contains(w, StringComparer.Ordinal)) == word;

    /// <summary>Whether no program of the mount may be executed. A mount that users may make is one, unless exec follows (mount(8)).</summary>
    public static bool IsNoExec(IReadOnlyList<string> words) =>
        words.LastOrDefault(w => w is "exec" or "noexec" || s_ofUsers.Contains(w, StringComparer.Ordinal)) is not (null or "exec");

    /// <summary>Whether the daemon must hear of the word.</summary>
    public static bool IsForDaemon(string word) => s_own.Contains(word, StringComparer.Ordinal) || s_ofUsers.Contains(word, StringComparer.Ordinal) || word is "suid" or "dev";

    /// <summary>What somebody may expect of these words and does not get; null when there is no such thing.</summary>
    public static string? FindRemark(IReadOnlyList<string> words) =>
        IsSet(words, "suid", ["nosuid", .. s_harmless]) ? "-o suid: has no effect, a mount of famfs is nosuid"
        : IsSet(words, "dev", ["nodev", .. s_harmless]) ? "-o dev: has no effect, a mount of famfs is nodev"
        : null;

    /// <summary>What is wrong with the first word that is no option of a mount; null when all are.</summary>
    public static string? FindFault(IEnumerable<string>? options) =>
        Split(options).FirstOrDefault(word => !s_own.Contains(word, StringComparer.Ordinal) && !s_others.Contains(word, StringComparer.Ordinal) && !s_otherBeginnings.Any(b => word.StartsWith(b, StringComparison.Ordinal))) is { } unknown
            ? $"-o {unknown.ReplaceLineEndings(" ")}: unknown mount option; known are {Known}"
            : null;
}
