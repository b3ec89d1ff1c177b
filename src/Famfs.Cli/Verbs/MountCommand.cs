using System.CommandLine;
using Famfs.Client;
using Famfs.CommandLine;
using Famfs.Core.Dialects;
using Famfs.Core;
using Famfs.Core.Allocation;
using Famfs.Core.Log;

namespace Famfs.Cli.Verbs;

/// <summary><c>famfs mount DEVICE… MOUNTPOINT [-- ARGUMENT…]</c>: starts <c>famfsd</c> and waits until the
/// mount answers (<see cref="Mounting"/>).</summary>
internal static class MountCommand
{
    public const string Name = "mount";

    public static Command Build(CliContext context)
    {
        Argument<string[]> places = new("DEVICE… MOUNTPOINT") { Description = "The devices (one at least is the first; also a pattern like '/dev/dax*' or a directory), then where to mount; arguments behind -- go to famfsd", Arity = new ArgumentArity(2, 100_000) };
        Option<bool> foreground = new("--foreground") { Description = "Become the daemon instead of starting it" };
        Option<string?> log = new("--log") { Description = "File for the daemon's output; by default in the state directory", HelpName = "FILE" };
        Option<string?> state = CliOptions.HostState();
        Option<string?> dialect = new("--dialect") { Description = "Generation of the famfs kernel to speak: auto (default), A, B0, B, D, or stock to use none", HelpName = "DIALECT" };
        dialect.Validators.Add(result =>
        {
            // famfsd says the same, but only into its log.
            string[] known = ["auto", .. FmapLimits.All.Select(limits => limits.Dialect), "stock"];
            if (result.GetValueOrDefault<string?>() is { } name && !known.Contains(name, StringComparer.OrdinalIgnoreCase))
                result.AddError($"--dialect {name}: must be {string.Join(", ", known)}");
        });
        Option<string?> fileSystem = new("--file-system") { Description = "Label or uuid of the file system that is meant, where several are found", HelpName = "LABEL|UUID" };
        Option<bool> noWait = new("--no-wait") { Description = "Return when the mount answers, not when files can be opened" };
        Command command = new(Name, "Mount a file system") { places, context.Options.MountOptions, foreground, log, state, dialect, fileSystem, noWait };
        command.SetAction(async (parsed, cancel) =>
        {
            string[] given = parsed.GetValue(places)!;
            (string? ca, string? certificate, string? key) = context.TlsFilesOf(parsed);
            MountOptions options = new()
            {
                Devices = given[..^1],
                FileSystem = parsed.GetValue(fileSystem) is { } name ? FileSystemName.Parse(name) : null,
                MountPoint = given[^1],
                Masters = context.MastersOf(parsed),
                CaFile = ca,
                CertificateFile = certificate,
                KeyFile = key,
                Dialect = parsed.GetValue(dialect),
                HostState = HostIdentity.StateDirectoryOf(parsed.GetValue(state), context.Environment.Variable(HostIdentity.StateDirectoryVariable)),
                DaemonArguments = [.. ConfigurationOf(context, parsed), .. DaemonOptionsOf(parsed.GetValue(context.Options.MountOptions)), .. context.PassThrough],
                LogPath = parsed.GetValue(log),
                Timeout = context.TimeoutOf(parsed),
                ProgramDirectory = context.Environment.ProgramDirectory,
                SearchPath = context.Environment.Variable("PATH"),
                MountTablePath = context.Environment.MountTablePath,
                NoWait = parsed.GetValue(noWait),
                AskMount = async (place, end) =>
                {
                    FamfsMount? found = (await context.AskMountAsync(place, context.AnswerTime, end).ConfigureAwait(false)).Mount;
                    // In the foreground this process becomes the daemon, which waits for no children.
                    context.Environment.EndAsking();
                    return found;
                },
                DaxBinding = context.Environment.DaxBinding,
                Clock = context.Environment.Clock,
            };
            if (MountOptionWords.FindRemark([.. MountOptionWords.Split(parsed.GetValue(context.Options.MountOptions))]) is { } remark)
                context.Remark(remark);
            if (parsed.GetValue(foreground))
                await Mounting.BecomeAsync(options, cancel).ConfigureAwait(false);
            StartedMount started = await Mounting.StartAsync(options, cancel).ConfigureAwait(false);
            if (started.TookDeadAway)
                context.Remark($"{started.Mount.MountPoint}: a famfs whose daemon is gone was mounted there; it was unmounted");
            if (started.TookOver)
                context.Remark($"{started.Mount.MountPoint}: was kept without a daemon; the new one continues");
            if (started.Keeper is { } keeper)
                context.Remark($"{started.Mount.MountPoint}: is kept by {keeper}: it outlives its daemon");
            if (started.NotRegistered is { } cause)
                context.Remark($"{started.Mount.MountPoint}: names are served, files cannot be opened: {cause}");
            else if (started.MasterProblem is { } problem)
                context.Remark(Mounting.ExplainMasterProblem(started.Mount.MountPoint, problem));
            foreach ((uint index, Guid uuid) in started.MissingDevices)
                context.Remark($"{started.Mount.MountPoint}: device {index} ({uuid}) of the pool is not on this host; files on it answer EIO until `famfs devices attach DEVICE {started.Mount.MountPoint}`");
            if (context.IsJson(parsed))
            {
                context.WriteJson(json =>
                {
                    json.WriteStartObject();
                    json.WriteString("mount_point", started.Mount.MountPoint);
                    json.WriteNumber("process_id", started.DaemonProcessId);
                    json.WriteString("log", started.LogPath);
                    json.WriteBoolean("took_over", started.TookOver);
                    if (started.Keeper is { } by)
                        json.WriteString("keeper", by);
                    json.WriteStartArray("missing_devices");
                    foreach (uint index in started.MissingDevices.Keys)
                        json.WriteNumberValue(index);
                    json.WriteEndArray();
                    json.WriteEndObject();
                });
            }
            else
                context.Out.WriteLine(started.Mount.MountPoint);
            return (int)(started.NotRegistered?.StartsWith(FamfsMount.RegistrationRefused, StringComparison.Ordinal) == true ? ExitCode.Failed : ExitCode.Ok);
        });
        return command;
    }

    private static IEnumerable<string> ConfigurationOf(CliContext context, ParseResult parsed) =>
        parsed.GetValue(context.Configuration.DirectoryOption) is { } directory ? ["--config-dir", Path.GetFullPath(directory)] : [];

    private static IEnumerable<string> DaemonOptionsOf(string[]? options)
    {
        string[] words = [.. MountOptionWords.Split(options).Where(word => word is not ("json" or "text"))];
        return words.Length == 0 ? [] : ["-o", string.Join(',', words)];
    }
}
