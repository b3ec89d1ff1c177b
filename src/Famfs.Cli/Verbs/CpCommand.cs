using System.CommandLine;
using System.Globalization;
using System.Runtime.CompilerServices;
using Famfs.Client;
using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Interop;
using Famfs.V1;
using Spectre.Console;

namespace Famfs.Cli.Verbs;

/// <summary><c>famfs cp [-r] SOURCE… DESTINATION</c>: host files into famfs. Run again after an interruption it
/// goes on: what is there with the same size is compared and only what differs is written.</summary>
internal sealed class CpCommand
{
    private readonly Argument<string[]> _paths = new("SOURCE… DESTINATION") { Description = "Files (with -r also directories), then a path on a mount: an existing directory, which gets them under their names, or the new name of a single one", Arity = new ArgumentArity(2, 100_000) };
    private readonly Option<bool> _recursive = new("--recursive", "-r", "-R") { Description = "Directories with all below them" };
    private readonly Option<bool> _preserve = new("--preserve", "-p") { Description = "Keep mode, times and user attributes, and as root the owner" };
    private readonly Option<bool> _archive = new("--archive", "-a") { Description = "As -r -p -P" };
    private readonly Option<bool> _follow = new("--dereference", "-L") { Description = "Follow symbolic links, also below a directory to other directories" };
    private readonly Option<bool> _noFollow = new("--no-dereference", "-P") { Description = "Follow no symbolic link; each is named and left out" };
    private readonly Option<bool> _asDestination = new("--no-target-directory", "-T") { Description = "DESTINATION is the name of the copy, also where a directory has it: a tree can be copied again" };
    private readonly Option<bool> _skipEmpty = new("--skip-empty") { Description = "Leave empty files out, which famfs cannot hold, in place of naming each" };
    private readonly Option<bool> _waitSpace = new("--wait-space") { Description = "Wait for space of removed files that is not free yet, for each file up to --timeout" };
    private readonly Option<bool> _dryRun = new("--dry-run") { Description = "Say what would be copied, and what cannot be, and change nothing" };
    private readonly Option<bool> _noProgress = new("--no-progress") { Description = "No bar, which a terminal gets otherwise" };
    private readonly Option<int> _jobs = new("--jobs", "-j") { Description = "Ranges copied at a time", DefaultValueFactory = _ => Math.Clamp(System.Environment.ProcessorCount, 1, 16) };
    private readonly Option<uint?> _mode = CliOptions.Mode();
    private readonly Option<uint?> _uid = CliOptions.Uid();
    private readonly Option<uint?> _gid = CliOptions.Gid();
    private readonly LayoutOptions _layout = new();
    private readonly CliContext _context;

    private CpCommand(CliContext context) => _context = context;

    public static Command Build(CliContext context)
    {
        CpCommand cp = new(context);
        Command command = new("cp", "Copy files into famfs")
        {
            cp._paths, cp._recursive, cp._preserve, cp._archive, cp._follow, cp._noFollow, cp._asDestination, cp._skipEmpty, cp._waitSpace, cp._dryRun, cp._noProgress, cp._jobs, cp._mode, cp._uid, cp._gid,
        };
        cp._layout.AddTo(command);
        command.SetAction((parsed, cancel) => context.RunApartAsync(parsed, parsed.GetValue(cp._paths)!, () => cp.RunAsync(parsed, cancel), cancel));
        return command;
    }

    private async Task<int> RunAsync(ParseResult parsed, CancellationToken cancel)
    {
        string[] given = parsed.GetValue(_paths)!;
        bool archive = parsed.GetValue(_archive);
        if (parsed.GetValue(_follow) && (parsed.GetValue(_noFollow) || archive))
            throw CliOptions.Usage($"-L excludes {(archive ? "-a" : "-P")}");
        if (parsed.GetValue(_jobs) is < 1 or > 256)
            throw CliOptions.Usage("--jobs: 1 to 256");
        await RequireIntoMountAsync(parsed, given, cancel).ConfigureAwait(false);
        CliTarget target = await _context.ResolveAsync(parsed, given[^1], cancel).ConfigureAwait(false);
        string destination = target.RequireWritablePath("the destination of cp");
        if (given[^1].EndsWith('/') && !destination.EndsWith('/'))
            destination += '/';
        LinkChoice links = parsed.GetValue(_follow) ? LinkChoice.Follow : archive || parsed.GetValue(_noFollow) ? LinkChoice.Never : LinkChoice.Files;
        CopyPlan plan = CopyPlan.Make(given[..^1], destination, archive || parsed.GetValue(_recursive), links, parsed.GetValue(_skipEmpty), parsed.GetValue(_asDestination));
        TreeCopyResult result = new();
        if (parsed.GetValue(_dryRun))
            PrintPlan(parsed, plan);
        else
        {
            TimeSpan timeout = _context.TimeoutOf(parsed);
            CopyAttributeChoices attributes = await ChooseAttributesAsync(parsed, target, timeout, archive, cancel).ConfigureAwait(false);
            MountFileMaker maker = new(target.Client, target.Mount!, timeout, _layout.Read(parsed), parsed.GetValue(_waitSpace));
            TreeCopy copy = new(maker, parsed.GetValue(_jobs), attributes);
            result = _context.Environment.IsTerminal && !_context.IsJson(parsed) && !parsed.GetValue(_noProgress)
                ? await RunWithProgressAsync(copy, plan, cancel).ConfigureAwait(false)
                : await copy.RunAsync(plan.Items, null, cancel).ConfigureAwait(false);
            foreach (string warning in maker.Warnings)
                _context.Remark(LsCommand.Printable(warning));
            Print(parsed, plan, result);
        }
        foreach (Exception e in result.Errors.Concat(plan.Problems))
            _context.Refuse(e);
        if (result.NotTried > 0)
            _context.Remark($"{result.NotTried} more were not copied for the same cause");
        return (int)ExitOf(plan, result);
    }

    /// <summary>An error of the copy has its own code. What cannot be copied is code 1, unless there was nothing else.</summary>
    private static ExitCode ExitOf(CopyPlan plan, TreeCopyResult result) => (result.Errors, plan.Problems) switch
    {
        ({ Count: > 0 }, _) => ExitCodes.Of(result.Errors[0]),
        (_, { Count: 0 }) => ExitCode.Ok,
        (_, { Count: 1 }) when plan.Items.Count == 0 => ExitCodes.Of(plan.Problems[0]),
        _ => ExitCode.Failed,
    };

    /// <summary>Files come out of famfs by any program.</summary>
    private async Task RequireIntoMountAsync(ParseResult parsed, string[] given, CancellationToken cancel)
    {
        string table = _context.Environment.MountTablePath;
        if (!_context.IsMasterGiven(parsed) && given[..^1].Any(source => FamfsMount.FindByName(source, table) is not null)
            && (await _context.AskMountAsync(parsed, given[^1], cancel).ConfigureAwait(false)).Mount is null)
            throw CliOptions.Usage($"{given[^1]}: is not on a famfs mount; to copy out of one, plain cp does it");
    }

    private async Task<CopyAttributeChoices> ChooseAttributesAsync(ParseResult parsed, CliTarget target, TimeSpan timeout, bool archive, CancellationToken cancel)
    {
        GetStatusReply status = await target.Client.GetStatusAsync(timeout, cancel).ConfigureAwait(false);
        bool complete = KnownFormats.All.All.FirstOrDefault(f => f.Name == status.Format)?.Limits.IsComplete ?? true;
        bool preserve = archive || parsed.GetValue(_preserve);
        if (preserve && !complete)
            throw new FamfsException(ErrorReason.NotSupportedByFormat, $"{target.Shown}: {status.Format} has neither times nor user attributes, which -p would keep") { Path = target.Shown };
        return new()
        {
            Mode = parsed.GetValue(_mode),
            Uid = parsed.GetValue(_uid),
            Gid = parsed.GetValue(_gid),
            Preserve = preserve,
            Umask = ProcessOwner.Umask,
            CanSetLater = complete,
        };
    }

    private static async Task<TreeCopyResult> RunWithProgressAsync(TreeCopy copy, CopyPlan plan, CancellationToken cancel)
    {
        TreeCopyResult? result = null;
        await AnsiConsole.Progress()
            .Columns(new TaskDescriptionColumn(), new ProgressBarColumn(), new PercentageColumn(), new TransferSpeedColumn(), new RemainingTimeColumn())
            .StartAsync(async progress =>
            {
                ProgressTask bar = progress.AddTask(string.Create(CultureInfo.InvariantCulture, $"{plan.Items.Count} item(s)"), maxValue: Math.Max(1, plan.Bytes));
                result = await copy.RunAsync(plan.Items, bytes => bar.Increment(bytes), cancel).ConfigureAwait(false);
            }).ConfigureAwait(false);
        return result!;
    }

    private void PrintPlan(ParseResult parsed, CopyPlan plan)
    {
        if (!_context.IsJson(parsed))
        {
            foreach (CopyItem item in plan.Items)
                _context.Out.WriteLine($"{item.Source} -> {item.Destination}{(item.IsDirectory ? "/" : "")}");
            _context.Out.WriteLine(string.Create(CultureInfo.InvariantCulture, $"would copy {plan.Items.Count(i => !i.IsDirectory)} file(s), {plan.Items.Count(i => i.IsDirectory)} directories, {plan.Bytes} bytes"));
            return;
        }
        _context.WriteJson(json =>
        {
            json.WriteStartObject();
            json.WriteStartArray("would_copy");
            foreach (CopyItem item in plan.Items)
            {
                json.WriteStartObject();
                json.WriteString("source", item.Source);
                json.WriteString("destination", item.Destination);
                json.WriteBoolean("directory", item.IsDirectory);
                json.WriteNumber("size_bytes", item.IsDirectory ? 0 : item.Status.SizeBytes);
                json.WriteEndObject();
            }
            json.WriteEndArray();
            WriteErrors(json, plan.Problems);
            json.WriteEndObject();
        });
    }

    private void Print(ParseResult parsed, CopyPlan plan, TreeCopyResult result)
    {
        if (!_context.IsJson(parsed))
        {
            string empty = plan.SkippedEmpty == 0 ? "" : string.Create(CultureInfo.InvariantCulture, $"; {plan.SkippedEmpty} empty file(s) left out");
            _context.Out.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{result.Files} file(s), {result.Directories} directories; {result.WrittenBytes} bytes written, {result.SameBytes} were there already{empty}"));
            return;
        }
        _context.WriteJson(json =>
        {
            json.WriteStartObject();
            json.WriteNumber("files", result.Files);
            json.WriteNumber("directories", result.Directories);
            json.WriteNumber("written_bytes", result.WrittenBytes);
            json.WriteNumber("same_bytes", result.SameBytes);
            json.WriteNumber("skipped_empty", plan.SkippedEmpty);
            json.WriteNumber("not_tried", result.NotTried);
            WriteErrors(json, result.Errors.Concat(plan.Problems));
            json.WriteEndObject();
        });
    }

    private static void WriteErrors(System.Text.Json.Utf8JsonWriter json, IEnumerable<Exception> errors)
    {
        json.WriteStartArray("errors");
        foreach (Exception e in errors)
            json.WriteStringValue(FamfsCommand.Describe(e));
        json.WriteEndArray();
    }

    /// <summary>Makes files and directories through the master, and waits until the mount shows them.</summary>
    private sealed class MountFileMaker(FamfsClient client, FamfsMount mount, TimeSpan timeout, LayoutWish layout, bool waitsForSpace) : IFileMaker
    {
        private readonly Google.Protobuf.ByteString _mount = mount.RequireMountId().ToByteString();

        /// <summary>What the master warned of, each once. Read when all is made.</summary>
        public HashSet<string> Warnings { get; } = [];

        // The last thing made that the mount may not show yet.
        private Position? _made;

        public async IAsyncEnumerable<(bool Made, FamfsException? Error)> MakeFilesAsync(IReadOnlyList<NewFile> files, [EnumeratorCancellation] CancellationToken cancel)
        {
            List<CreateFileRequest> requests = [.. files.Select(file => new CreateFileRequest
            {
                Path = mount.ToFileSystemPath(file.Path),
                SizeBytes = (ulong)file.SizeBytes,
                Mode = file.Mode,
                ModeSet = true,
                Uid = file.Uid,
                Gid = file.Gid,
                OwnerIsCaller = ProcessOwner.Is(file.Uid, file.Gid),
                Layout = layout,
                // Somebody else may make the same one meanwhile; then content decides.
                IfExists = IfExists.OpenIfSame,
            })];
            CreateFilesOptions options = new() { OmitMaps = true, StallTimeout = timeout };
            IAsyncEnumerable<CreateFileResult> results = waitsForSpace
                ? client.CreateFilesWaitingForSpaceAsync(requests, options, timeout, cancel)
                : client.CreateFilesAsync(requests, options, cancel);
            await foreach (CreateFileResult result in results.ConfigureAwait(false))
            {
                if (result.ResultCase == CreateFileResult.ResultOneofCase.Error)
                {
                    ErrorDetail error = result.Error;
                    yield return (false, new FamfsException(error.Reason, error.Message) { Path = error.Path, Limit = error.Limit });
                    continue;
                }
                _made = result.Reply.Position;
                Warnings.UnionWith(result.Reply.Warnings);
                yield return (!result.Reply.Existed, null);
            }
        }

        public async Task MakeDirectoryAsync(string path, uint mode, uint uid, uint gid, CancellationToken cancel) => _made = (await client.MakeDirectoryAsync(new MakeDirectoryRequest
        {
            Path = mount.ToFileSystemPath(path),
            Mode = mode,
            ModeSet = true,
            Uid = uid,
            Gid = gid,
            OwnerIsCaller = ProcessOwner.Is(uid, gid),
            // One that the mount does not show yet is fine.
            Parents = true,
        }, timeout, cancel).ConfigureAwait(false)).Position;

        public async Task AwaitMadeAsync(CancellationToken cancel)
        {
            if (_made is { } position)
                await client.BarrierAsync(new BarrierRequest { Position = position, MountIds = { _mount } }, timeout, cancel).ConfigureAwait(false);
            _made = null;
        }

        public async Task SetAttributesAsync(string path, SetAttributesRequest attributes, CancellationToken cancel)
        {
            attributes.Path = mount.ToFileSystemPath(path);
            attributes.Wait = new() { Kind = WaitKind.Mount, MountId = _mount };
            await client.SetAttributesAsync(attributes, timeout, cancel).ConfigureAwait(false);
        }
    }
}
