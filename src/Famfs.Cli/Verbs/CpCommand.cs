using System.CommandLine;
using System.Globalization;
using Famfs.Client;
using Famfs.Core;
using Famfs.Core.Interop;
using Famfs.V1;
using Spectre.Console;

namespace Famfs.Cli.Verbs;

/// <summary><c>famfs cp [-r] SOURCE… DESTINATION</c>: host files into famfs. Run again after an interruption it
/// goes on: what is there with the same size is compared and only what differs is written.</summary>
internal static class CpCommand
{
    public static Command Build(CliContext context)
    {
        Argument<string[]> paths = new("SOURCE… DESTINATION") { Description = "Files (with -r also directories), then a path on a mount: an existing directory, which gets them under their names, or the new name of a single one", Arity = new ArgumentArity(2, 100_000) };
        Option<bool> recursive = new("--recursive", "-r") { Description = "Directories with all below them" };
        Option<int> jobs = new("--jobs", "-j") { Description = "Ranges copied at a time", DefaultValueFactory = _ => Math.Clamp(System.Environment.ProcessorCount, 1, 16) };
        Option<uint?> mode = CliOptions.Mode();
        Option<uint?> uid = CliOptions.Uid();
        Option<uint?> gid = CliOptions.Gid();
        LayoutOptions layout = new();
        Command command = new("cp", "Copy files into famfs") { paths, recursive, jobs, mode, uid, gid };
        layout.AddTo(command);
        command.SetAction(async (parsed, cancel) =>
        {
            string[] given = parsed.GetValue(paths)!;
            CliTarget target = await context.ResolveAsync(parsed, given[^1], cancel).ConfigureAwait(false);
            string destination = target.RequireWritablePath("the destination of cp");
            if (parsed.GetValue(jobs) is < 1 or > 256)
                throw CliOptions.Usage("--jobs: 1 to 256");
            MountFileMaker maker = new(target.Client, target.Mount!, context.TimeoutOf(parsed))
            {
                Mode = parsed.GetValue(mode),
                Uid = parsed.GetValue(uid) ?? ProcessOwner.Uid,
                Gid = parsed.GetValue(gid) ?? ProcessOwner.Gid,
                Layout = layout.Read(parsed),
            };
            TreeCopy copy = new(maker, parsed.GetValue(jobs));
            List<CopyItem> items = TreeCopy.Plan(given[..^1], destination, parsed.GetValue(recursive));
            TreeCopyResult result = context.Environment.IsTerminal && !context.IsJson(parsed)
                ? await RunWithProgressAsync(copy, items, cancel).ConfigureAwait(false)
                : await copy.RunAsync(items, null, cancel).ConfigureAwait(false);
            foreach (Exception e in result.Errors)
                context.Environment.Error.WriteLine($"famfs: {FamfsCommand.Describe(e)}");
            Print(context, parsed, result);
            return (int)(result.Errors.Count == 0 ? ExitCode.Ok : ExitCodes.Of(result.Errors[0]));
        });
        return command;
    }

    private static async Task<TreeCopyResult> RunWithProgressAsync(TreeCopy copy, List<CopyItem> items, CancellationToken cancel)
    {
        TreeCopyResult? result = null;
        await AnsiConsole.Progress()
            .Columns(new TaskDescriptionColumn(), new ProgressBarColumn(), new PercentageColumn(), new TransferSpeedColumn(), new RemainingTimeColumn())
            .StartAsync(async progress =>
            {
                ProgressTask bar = progress.AddTask(string.Create(CultureInfo.InvariantCulture, $"{items.Count} item(s)"), maxValue: Math.Max(1, items.Sum(i => i.SizeBytes)));
                result = await copy.RunAsync(items, bytes => bar.Increment(bytes), cancel).ConfigureAwait(false);
            }).ConfigureAwait(false);
        return result!;
    }

    private static void Print(CliContext context, ParseResult parsed, TreeCopyResult result)
    {
        if (!context.IsJson(parsed))
        {
            context.Out.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{result.Files} file(s), {result.Directories} directories; {result.WrittenBytes} bytes written, {result.SameBytes} were there already"));
            return;
        }
        context.WriteJson(json =>
        {
            json.WriteStartObject();
            json.WriteNumber("files", result.Files);
            json.WriteNumber("directories", result.Directories);
            json.WriteNumber("written_bytes", result.WrittenBytes);
            json.WriteNumber("same_bytes", result.SameBytes);
            json.WriteStartArray("errors");
            foreach (Exception e in result.Errors)
                json.WriteStringValue(FamfsCommand.Describe(e));
            json.WriteEndArray();
            json.WriteEndObject();
        });
    }

    /// <summary>Makes files and directories through the master, and waits until the mount shows them.</summary>
    private sealed class MountFileMaker(FamfsClient client, FamfsMount mount, TimeSpan timeout) : IFileMaker
    {
        private readonly Wait _wait = new() { Kind = WaitKind.Mount, MountId = Core.Format.Uuids.ToByteString(mount.RequireMountId()) };

        public uint? Mode { get; init; }
        public required uint Uid { get; init; }
        public required uint Gid { get; init; }
        public required LayoutWish Layout { get; init; }

        public async Task<bool> MakeFileAsync(string path, long sizeBytes, UnixFileMode mode, CancellationToken cancel)
        {
            CreateFileReply reply = await client.CreateFileAsync(new CreateFileRequest
            {
                Path = mount.ToFileSystemPath(path),
                SizeBytes = (ulong)sizeBytes,
                Mode = Mode ?? (uint)mode,
                ModeSet = true,
                Uid = Uid,
                Gid = Gid,
                Layout = Layout,
                Wait = _wait,
            }, timeout, cancel).ConfigureAwait(false);
            return !reply.Existed;
        }

        public Task MakeDirectoryAsync(string path, UnixFileMode mode, CancellationToken cancel) => client.MakeDirectoryAsync(new MakeDirectoryRequest
        {
            Path = mount.ToFileSystemPath(path),
            Mode = (uint)mode,
            ModeSet = true,
            Uid = Uid,
            Gid = Gid,
            Wait = _wait,
        }, timeout, cancel);
    }
}
