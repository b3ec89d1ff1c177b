using System.CommandLine;
using System.Globalization;
using Famfs.Client;
using Famfs.V1;

namespace Famfs.Cli.Verbs;

/// <summary><c>famfs ls [-l] [-R] PATH</c>: what the master has, whatever this host's mount shows yet.</summary>
internal static class LsCommand
{
    public static Command Build(CliContext context)
    {
        Argument<string?> path = new("PATH") { Description = "A directory on a mount, or with --master from the root; the root by default", Arity = ArgumentArity.ZeroOrOne };
        Option<bool> longOption = new("--long", "-l") { Description = "Mode, owner, size and time too" };
        Option<bool> recursive = new("--recursive", "-R") { Description = "All below" };
        Command command = new("ls", "List a directory") { path, longOption, recursive };
        command.SetAction(async (parsed, cancel) =>
        {
            CliTarget target = await context.ResolveFileSystemAsync(parsed, parsed.GetValue(path), cancel, reading: true).ConfigureAwait(false);
            ListDirectoryRequest request = new() { Path = target.Path, Recursive = parsed.GetValue(recursive) };
            ListDirectoryReply all = await context.AskMasterOrMountAsync(
                parsed, target, master => ListAsync(master, request, context.TimeoutOf(parsed), cancel),
                ListDirectoryReply.Parser, ["list", target.LocalPath ?? "", request.Recursive.ToString()], cancel).ConfigureAwait(false);
            List<V1.FileInfo> entries = [.. all.Entries];
            entries.Sort(static (a, b) => string.CompareOrdinal(a.Path, b.Path));
            if (context.IsJson(parsed))
            {
                context.WriteJson(json =>
                {
                    json.WriteStartObject();
                    json.WriteString("path", target.Path);
                    json.WriteStartArray("entries");
                    foreach (V1.FileInfo entry in entries)
                        json.WriteFile(entry);
                    json.WriteEndArray();
                    json.WriteEndObject();
                });
            }
            else if (parsed.GetValue(longOption))
            {
                context.WriteTable(["MODE", "UID", "GID", "SIZE", "MODIFIED", "NAME"], entries.Select(e => (IReadOnlyList<string>)
                    [TypeLetter(e.Kind) + QuantityText.FormatMode(e.Mode), Number(e.Uid), Number(e.Gid), Number(e.SizeBytes), Time(e.ModifyTimeNs), Printable(e)]), 1, 2, 3);
            }
            else
            {
                foreach (V1.FileInfo entry in entries)
                    context.Out.WriteLine(Printable(entry));
            }
            return (int)ExitCode.Ok;
        });
        return command;
    }

    private static async Task<ListDirectoryReply> ListAsync(FamfsClient master, ListDirectoryRequest request, TimeSpan timeout, CancellationToken cancel)
    {
        ListDirectoryReply all = new();
        await foreach (V1.FileInfo entry in master.ListDirectoryAsync(request, timeout, cancel).ConfigureAwait(false))
            all.Entries.Add(entry);
        return all;
    }

    public static string Time(long ns) =>
        DateTimeOffset.UnixEpoch.AddTicks(ns / 100).ToString("yyyy-MM-ddTHH:mm:ssZ", CultureInfo.InvariantCulture);

    /// <summary>Names may hold anything but a slash: control characters do not reach the terminal.</summary>
    public static string Printable(string name) => string.Concat(name.Select(c => char.IsControl(c) ? $"\\x{(int)c:x2}" : c.ToString()));

    private static string Printable(V1.FileInfo entry) =>
        Printable(entry.Path) + (entry.Kind == FileKind.Directory ? "/" : entry.SymlinkTarget.Length != 0 ? $" -> {Printable(entry.SymlinkTarget)}" : "");

    private static string TypeLetter(FileKind kind) => kind switch { FileKind.Directory => "d", FileKind.Symlink => "l", _ => "-" };

    private static string Number(ulong value) => value.ToString(CultureInfo.InvariantCulture);
}
