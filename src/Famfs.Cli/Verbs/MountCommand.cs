using System.CommandLine;
using System.CommandLine.Parsing;
using Famfs.Client;
using Famfs.Core;
using Famfs.Core.Allocation;
using Famfs.Core.Dax;
using Famfs.Core.Interop;
using Famfs.V1;

namespace Famfs.Cli.Verbs;

/// <summary><c>famfs mount DEVICE… MOUNTPOINT [-- ARGUMENT…]</c>: starts <c>famfsd</c> and waits until the
/// mount answers. famfsd gets <c>MOUNTPOINT --device DEVICE… [--master ADDRESS]… [--dialect D] --host-state DIR
/// ARGUMENT…</c>.</summary>
internal static class MountCommand
{
    public const string Name = "mount";
    private const string ProgramName = "famfsd";
    private static readonly TimeSpan s_poll = TimeSpan.FromMilliseconds(20);

    // Chosen: far above what an answer takes; a master that is down refuses at once.
    private static readonly TimeSpan s_greeting = TimeSpan.FromSeconds(10);

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
        Command command = new(Name, "Mount a file system") { places, foreground, log, state, dialect };
        command.SetAction(async (parsed, cancel) =>
        {
            string[] given = parsed.GetValue(places)!;
            string mountPoint = Path.GetFullPath(given[^1]);
            if (!Directory.Exists(mountPoint))
                throw new FamfsException(ErrorReason.NotFound, $"{mountPoint}: no such directory to mount on") { Path = mountPoint };
            RequireNotMounted(context, mountPoint);
            // Two at once would both find nothing there and mount one over the other.
            using IDisposable turn = DirectoryTurn.TryTake(mountPoint)
                ?? throw new FamfsException(ErrorReason.Exists, $"{mountPoint}: another famfs mount is at work there") { Path = mountPoint };
            RequireNotMounted(context, mountPoint);
            string program = ProgramFinder.Require(context.Environment, ProgramName);
            await RequireSoundAsync(context, parsed, given[..^1], cancel).ConfigureAwait(false);
            string directory = HostIdentity.StateDirectoryOf(parsed.GetValue(state), context.Environment.Variable(HostIdentity.StateDirectoryVariable));
            List<string> arguments = [mountPoint];
            foreach (string device in given[..^1])
                arguments.AddRange(["--device", Path.GetFullPath(device)]);
            foreach (string master in context.MastersOf(parsed))
                arguments.AddRange(["--master", master]);
            if (parsed.GetValue(dialect) is { } name)
                arguments.AddRange(["--dialect", name]);
            (string? ca, string? certificate, string? key) = context.TlsFilesOf(parsed);
            foreach ((string option, string? file) in ((string, string?)[])[("--ca-file", ca), ("--certificate-file", certificate), ("--key-file", key)])
            {
                if (file is not null)
                    arguments.AddRange([option, Path.GetFullPath(file)]);
            }
            arguments.AddRange(["--host-state", directory, .. context.PassThrough]);
            if (parsed.GetValue(foreground))
                ProgramStart.Replace(program, arguments);

            string logPath = parsed.GetValue(log) ?? Path.Combine(directory, $"famfsd{mountPoint.Replace('/', '-')}.log");
            Directory.CreateDirectory(Path.GetDirectoryName(Path.GetFullPath(logPath))!);
            DetachedProgram daemon = ProgramStart.StartDetached(program, arguments, logPath);
            await WaitUntilMountedAsync(context, daemon, mountPoint, logPath, context.TimeoutOf(parsed), cancel).ConfigureAwait(false);
            if (context.IsJson(parsed))
            {
                context.WriteJson(json =>
                {
                    json.WriteStartObject();
                    json.WriteString("mount_point", mountPoint);
                    json.WriteNumber("process_id", daemon.ProcessId);
                    json.WriteString("log", logPath);
                    json.WriteEndObject();
                });
            }
            else
                context.Out.WriteLine(mountPoint);
            return (int)ExitCode.Ok;
        });
        return command;
    }

    private static void RequireNotMounted(CliContext context, string mountPoint)
    {
        if (FamfsMount.FindAll(context.Environment.MountTablePath).Any(m => m.MountPoint == mountPoint))
            throw new FamfsException(ErrorReason.Exists, $"{mountPoint}: a famfs is mounted there") { Path = mountPoint };
    }

    /// <summary>Looks at the devices and asks the master before anything is started, so that what is wrong has its
    /// own exit code.</summary>
    private static async Task RequireSoundAsync(CliContext context, ParseResult parsed, string[] devices, CancellationToken cancel)
    {
        // What the kernel holds for its famfs, only the daemon can look at.
        DeviceSearch search = new(devices, context.Environment.Clock);
        DaxBinding binding = context.Environment.DaxBinding;
        if (search.Required.Concat(search.Found).Any(d => binding.FindName(d) is { } name && binding.ReadDriver(name) == DaxBinding.FsDev))
            return;
        Guid fileSystem;
        using (DevicePool pool = search.Open(readOnly: true))
            fileSystem = pool.Primary.FileSystem;
        if (context.MastersOf(parsed) is not { Length: > 0 } masters)
            return;
        // Each address once: mounting needs no master.
        using FamfsClient client = new(new FamfsClientOptions { Addresses = masters, MaxAttempts = masters.Length, Tls = context.TlsOf(parsed), Clock = context.Environment.Clock });
        try
        {
            await CliContext.RequireFileSystemAsync(client, fileSystem, s_greeting, cancel).ConfigureAwait(false);
        }
        catch (FamfsException error) when (error.Reason is ErrorReason.NotMaster or ErrorReason.Timeout)
        {
            // The daemon finds it when it is there.
        }
    }

    private static async Task WaitUntilMountedAsync(CliContext context, DetachedProgram daemon, string mountPoint, string logPath, TimeSpan timeout, CancellationToken cancel)
    {
        TimeProvider clock = context.Environment.Clock;
        long start = clock.GetTimestamp();
        Task<bool>? asking = null;
        while (true)
        {
            if (daemon.ReadExitCode() is { } code)
                throw new FamfsException(ErrorReason.Unspecified, $"{mountPoint}: {ProgramName} ended with code {code}: {LastLine(logPath)}") { Path = mountPoint };
            // Asked from another thread: a daemon that hangs must not take this command with it.
            asking ??= Task.Run(() => Answers(context, mountPoint), cancel);
            if (asking.IsCompleted)
            {
                if (await asking.ConfigureAwait(false))
                    return;
                asking = null;
            }
            if (clock.GetElapsedTime(start) > timeout)
                throw new FamfsException(ErrorReason.Timeout, $"{mountPoint}: not mounted within {timeout.TotalSeconds:0.###} s; {ProgramName} (process {daemon.ProcessId}) goes on trying, its output is in {logPath}") { Path = mountPoint };
            await Task.Delay(s_poll, clock, cancel).ConfigureAwait(false);
        }
    }

    private static bool Answers(CliContext context, string mountPoint)
    {
        FamfsMount? mount = FamfsMount.FindAll(context.Environment.MountTablePath).FirstOrDefault(m => m.MountPoint == mountPoint);
        return mount?.ReadAttribute("user.famfs.uuid") is not null;
    }

    private static string LastLine(string logPath)
    {
        try
        {
            return File.ReadLines(logPath).LastOrDefault(l => l.Length != 0) ?? $"it said nothing; see {logPath}";
        }
        catch (IOException)
        {
            return $"see {logPath}";
        }
    }
}
