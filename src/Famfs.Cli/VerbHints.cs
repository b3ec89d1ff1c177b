using System.Collections.Frozen;
using System.CommandLine;

namespace Famfs.Cli;

/// <summary>What to use in place of verbs that other tools have and this one has not. People come from those tools.</summary>
internal static class VerbHints
{
    private static readonly FrozenDictionary<string, string> s_hints = new Dictionary<string, string>
    {
        // The existing C tools.
        ["fsck"] = "`famfs check` looks for damage and repairs it",
        ["logplay"] = "nothing is played by hand, a mount follows the log by itself; `famfs log dump` prints it",
        ["mkmeta"] = "a mount has its metadata without a step of its own: `famfs mount`",
        ["chkread"] = "`famfs verify` compares files with the content of a seed, `famfs check` looks at the file system",
        ["flush"] = "nothing is to be flushed: see docs/library.md for memory that is not coherent",
        ["clone"] = "two files never share bytes: `famfs cp` makes a copy",
        ["list"] = "`famfs ls` lists a directory, `famfs devices list` the devices, `famfs hosts` the mounts",

        // JuiceFS and other file systems with a metadata service.
        ["format"] = "`famfs mkfs` makes a file system",
        ["info"] = "`famfs stat` shows a file, `famfs getmap` where its bytes are, `famfs status` the file system",
        ["summary"] = "`famfs df` shows space, `famfs ls -lR` all files",
        ["dump"] = "`famfs log dump` prints the log, `famfs log export` saves it",
        ["load"] = "`famfs log import` makes a file system of an exported log",
        ["restore"] = "`famfs log import` makes a file system of an exported log",
        ["destroy"] = "`famfs mkfs --force` makes a new file system over an old one",
        ["sync"] = "`famfs cp -rT` copies a tree, and continues when it is run again; `famfs wait` waits until all mounts show everything",
        ["rmr"] = "`famfs rm -r` will remove a directory with all below it",
        ["sessions"] = "`famfs hosts` shows the mounts of all hosts",
        ["session"] = "`famfs hosts` shows the mounts of all hosts",
        ["stats"] = "`famfs status` shows the file system and its master",
        ["debug"] = "`famfs doctor` says what this host's kernel speaks and what is missing",
        ["compact"] = "`famfs log compact` shortens the log",
        ["gc"] = "there is nothing to collect: space that was given to a file is not reused yet",

        // What a shell has.
        ["unmount"] = "`famfs umount` unmounts",
        ["cat"] = "plain cat reads a file of a mount",
        ["create"] = "`famfs creat` creates a file",
        ["remove"] = "`famfs rm`",
        ["delete"] = "`famfs rm`",
        ["rename"] = "`famfs mv`",
        ["copy"] = "`famfs cp`",
        ["move"] = "`famfs mv`",
        ["truncate"] = "the size of a file is fixed when `famfs creat` makes it",
        ["ln"] = "there are no hard links, and symbolic ones cannot be made yet",
        ["mounts"] = "`famfs hosts` shows the mounts of all hosts",
        ["nodes"] = "`famfs hosts` shows the mounts of all hosts",
        ["device"] = "`famfs devices list` and `famfs devices add`",
    }.ToFrozenDictionary(StringComparer.Ordinal);

    /// <summary>A sentence about a first word that is no verb here and is one elsewhere; null for any other line.</summary>
    public static string? Find(Command root, ParseResult parsed) =>
        parsed.CommandResult.Command == root && parsed.UnmatchedTokens.Count > 0 && s_hints.TryGetValue(parsed.UnmatchedTokens[0], out string? hint)
            ? $"{parsed.UnmatchedTokens[0]}: no verb of famfs; {hint}"
            : null;

    /// <summary><c>help VERB</c> as the option that it means, and <c>--version</c> as the verb, which knows JSON.</summary>
    public static string[] AsOption(string[] args) => args switch
    {
        ["help", .. string[] verb] => [.. verb, "--help"],
        _ when args.Contains("--version") && args.All(word => word is "--version" or "--json") => [Verbs.VersionCommand.Name, .. args.Where(word => word != "--version")],
        _ => args,
    };
}
