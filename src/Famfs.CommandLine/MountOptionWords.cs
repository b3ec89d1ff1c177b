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

    // What holds for every mount of famfs, and what is for whoever reads a table of mounts.
    private static readonly string[] s_others = ["defaults", "nosuid", "nodev", "noatime", "nodiratime", "async", "auto", "noauto", "nofail", "_netdev", "user", "users", "nouser", "owner", "group"];

    /// <summary>The single words.</summary>
    public static IEnumerable<string> Split(IEnumerable<string>? options) =>
        (options ?? []).SelectMany(o => o.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries)).Select(word => word == "allow_other" ? "allow-other" : word);

    /// <summary>Whether a word is there and its opposite does not follow: of two that exclude each other the last counts.</summary>
    public static bool IsSet(IReadOnlyList<string> words, string word, params string[] opposites) =>
        words.LastOrDefault(w => w == word || opposites.Contains(w, StringComparer.Ordinal)) == word;

    /// <summary>Whether no program of the mount may be executed. A mount that users may make is one, unless exec follows (mount(8)).</summary>
    public static bool IsNoExec(IReadOnlyList<string> words) =>
        words.LastOrDefault(w => w is "exec" or "noexec" or "user" or "users") is not (null or "exec");

    /// <summary>What is wrong with the first word that is no option of a mount; null when all are.</summary>
    public static string? FindFault(IEnumerable<string>? options) =>
        Split(options).FirstOrDefault(word => !s_own.Contains(word, StringComparer.Ordinal) && !s_others.Contains(word, StringComparer.Ordinal) && !word.StartsWith("x-", StringComparison.Ordinal)) is { } unknown
            ? $"-o {unknown.ReplaceLineEndings(" ")}: unknown mount option; known are {Known}"
            : null;
}
