using System.CommandLine;
using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text;
using System.Text.Json;
using Famfs.V1;

namespace Famfs.Cli.Verbs;

/// <summary><c>famfs ls [-l] [-R] [PATH…]</c>: what the master has, whatever this host's mount shows yet.</summary>
internal static class LsCommand
{
    public static Command Build(CliContext context)
    {
        Argument<string[]> paths = new("PATH") { Description = "Directories on a mount, or with --master from the root; the root by default", Arity = ArgumentArity.ZeroOrMore };
        Option<bool> longOption = new("--long", "-l") { Description = "Mode, owner, size and time too" };
        Option<bool> recursive = new("--recursive", "-R") { Description = "All below" };
        Option<bool> all = new("--all", "-a") { Description = "Names that begin with a dot too, which are shown anyway" };
        Option<bool> unsorted = new("--unsorted", "-U") { Description = $"As they come; sorted by name up to {MaxSorted} entries when not said" };
        Option<bool> one = new("-1") { Description = "One name a line, as always" };
        Command command = new("ls", "List directories") { paths, longOption, recursive, all, unsorted, one };
        command.SetAction(async (parsed, cancel) =>
        {
            string[] given = parsed.GetValue(paths) ?? [];
            if (given.Length > 1 && context.IsJson(parsed))
                throw CliOptions.Usage("ls: JSON is of one directory; give one PATH");
            int shown = 0;
            return (int)await context.ForEachAsync(given.Length == 0 ? [""] : given, async path =>
            {
                CliTarget target = await context.ResolveFileSystemAsync(parsed, path.Length == 0 ? null : path, cancel, reading: true).ConfigureAwait(false);
                if (given.Length > 1)
                    context.Out.WriteLine($"{(shown++ == 0 ? "" : "\n")}{Printable(path)}:");
                ListDirectoryRequest request = new() { Path = target.Path, Recursive = parsed.GetValue(recursive) };
                IListing listing = context.IsJson(parsed) ? new JsonListing(context, target.Path) : new TextListing(context, parsed.GetValue(longOption));
                await PrintAsync(EntriesOf(context, parsed, target, request, cancel), listing, sorts: !parsed.GetValue(unsorted)).ConfigureAwait(false);
            }).ConfigureAwait(false);
        });
        return command;
    }

    // Chosen: more than somebody reads, and a few megabytes. A larger directory is printed while it comes.
    private const int MaxSorted = 10_000;

    /// <summary>What the master says as it comes, or what the mount shows when no master answers, which is said.</summary>
    private static async IAsyncEnumerable<V1.FileInfo> EntriesOf(CliContext context, ParseResult parsed, CliTarget target, ListDirectoryRequest request, [EnumeratorCancellation] CancellationToken cancel)
    {
        TimeSpan timeout = context.TimeoutOf(parsed);
        IAsyncEnumerator<V1.FileInfo>? entries = null;
        bool more = false;
        ListDirectoryReply? shown = await context.AskMasterOrMountAsync(
            parsed, target,
            async master =>
            {
                // With the first entry it is known that this master answers.
                entries = master.ListDirectoryAsync(request, timeout, cancel).GetAsyncEnumerator(cancel);
                more = await entries.MoveNextAsync().ConfigureAwait(false);
                return new ListDirectoryReply();
            },
            ListDirectoryReply.Parser, ["list", target.LocalPath ?? "", request.Recursive.ToString()], cancel).ConfigureAwait(false);
        foreach (V1.FileInfo entry in shown.Entries)
            yield return entry;
        if (entries is null)
            yield break;
        await using (entries.ConfigureAwait(false))
        {
            for (; more; more = await entries.MoveNextAsync().ConfigureAwait(false))
                yield return entries.Current;
        }
    }

    private static async Task PrintAsync(IAsyncEnumerable<V1.FileInfo> entries, IListing listing, bool sorts)
    {
        List<V1.FileInfo> first = [];
        bool begun = false;
        await foreach (V1.FileInfo entry in entries.ConfigureAwait(false))
        {
            if (begun)
                listing.Add(entry);
            else
                first.Add(entry);
            if (!begun && first.Count > (sorts ? MaxSorted : 0))
                Begin();
        }
        if (!begun)
        {
            if (sorts)
                first.Sort(static (a, b) => string.CompareOrdinal(a.Path, b.Path));
            Begin();
        }
        listing.End();

        void Begin()
        {
            listing.Begin(first);
            foreach (V1.FileInfo entry in first)
                listing.Add(entry);
            begun = true;
        }
    }

    /// <summary>Prints entries one after the other. Begin has some that will be added, for the widths of columns.</summary>
    private interface IListing
    {
        void Begin(IReadOnlyList<V1.FileInfo> some);

        void Add(V1.FileInfo entry);

        void End();
    }

    private sealed class TextListing(CliContext context, bool isLong) : IListing
    {
        private static readonly int[] s_numbers = [1, 2, 3];
        private static readonly string[] s_head = ["MODE", "UID", "GID", "SIZE", "MODIFIED", "NAME"];
        private int[] _widths = [];

        public void Begin(IReadOnlyList<V1.FileInfo> some)
        {
            if (!isLong)
                return;
            _widths = CliContext.WidthsOf([s_head, .. some.Select(RowOf)]);
            context.WriteRow(_widths, s_head, s_numbers);
        }

        public void Add(V1.FileInfo entry)
        {
            if (isLong)
                context.WriteRow(_widths, RowOf(entry), s_numbers);
            else
                context.Out.WriteLine(Printable(entry));
        }

        public void End()
        {
        }

        private static IReadOnlyList<string> RowOf(V1.FileInfo e) =>
            [TypeLetter(e.Kind) + QuantityText.FormatMode(e.Mode), Number(e.Uid), Number(e.Gid), Number(e.SizeBytes), Time(e.ModifyTimeNs), Printable(e)];
    }

    /// <summary>One document, written in parts.</summary>
    private sealed class JsonListing(CliContext context, string path) : IListing
    {
        // Chosen: a part is written to the output when it has this many bytes.
        private const int PartBytes = 64 * 1024;
        private readonly MemoryStream _part = new();
        private Utf8JsonWriter? _json;

        public void Begin(IReadOnlyList<V1.FileInfo> some)
        {
            _json = CliContext.JsonOn(_part);
            _json.WriteStartObject();
            _json.WriteString("path", path);
            _json.WriteStartArray("entries");
        }

        public void Add(V1.FileInfo entry)
        {
            Utf8JsonWriter json = _json!;
            json.WriteFile(entry);
            if (json.BytesPending >= PartBytes)
                WritePart();
        }

        public void End()
        {
            Utf8JsonWriter json = _json!;
            json.WriteEndArray();
            json.WriteEndObject();
            WritePart();
            json.Dispose();
            context.Out.WriteLine();
        }

        private void WritePart()
        {
            _json!.Flush();
            context.Out.Write(Encoding.UTF8.GetString(_part.GetBuffer(), 0, (int)_part.Length));
            _part.SetLength(0);
        }
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
