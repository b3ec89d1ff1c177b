using System.Reflection;
using Famfs.Client;
using Famfs.CommandLine;
using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Interop;
using Famfs.Core.Log;
using Famfs.V1;

namespace Famfs.Cli;

/// <summary>
/// <c>mount.famfs</c>, what mount(8) runs for <c>-t famfs</c>: this program by another name. Exit bits as of mount(8).
/// </summary>
internal static class MountFamfs
{
    private const string Name = "mount.famfs";

    // By this one mount(8) calls for the type that the kernel's table shows, for a remount for one.
    private const string KernelTypeName = "mount.fuse.famfs";

    private const string Daemon = "famfsd";
    private const string UsualPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    private const string UsualPlace = "/dev/dax*";

    // mount(8), "EXIT STATUS".
    private const int Success = 0;
    private const int BadInvocation = 1;
    private const int SystemError = 2;
    private const int InternalBug = 4;
    private const int Interrupted = 8;
    private const int MountFailure = 32;

    private const string Help = """
        mount.famfs SPEC DIR [-sfnv] [-o OPTIONS] [-t TYPE]

        Called by mount(8) for file systems of type famfs.

          SPEC   a label, a uuid, or where the devices are: a path, a pattern like '/dev/dax*', a directory
          DIR    an existing directory
          -s     drop options that are not known
          -f     look for the devices, mount nothing
          -v     tell what is done
          -n     nothing

        OPTIONS, with commas between them:
          ro, rw, remount                    remount changes ro and rw alone
          cache=direct, cache=close-to-open  what the page cache is for
          allow-other, no-allow-other        who may use the mount
          locks=local, locks=refuse          what locks do
          master=ADDRESS                     repeat for several
          device=PLACE                       a further place of devices; of a label or uuid where to look, '/dev/dax*' when not said
          file-system=LABEL|UUID             which one, where SPEC finds several
          ca-file=, certificate-file=, key-file=, host-state=, config-dir=, dialect=, push-ioctl=, workers=, log=
                                             as the options of famfs mount and famfsd
          timeout=TIME, no-wait              how long to wait until files can be opened

        Exit status: 0 mounted; 1 wrong command line or no permission; 2 a program is missing or no memory; 4 a fault of this program;
        8 interrupted; 32 not mounted.
        """;

    /// <summary>Its manual page.</summary>
    public static string ManualPage =>
        $".TH MOUNT.FAMFS 8\n.SH NAME\nmount.famfs \\- mount a famfs file system\n.SH DESCRIPTION\n.nf\n{Help.Replace("-", "\\-", StringComparison.Ordinal).Replace("\n'", "\n\\&'", StringComparison.Ordinal)}\n.fi\n.SH SEE ALSO\n.BR mount (8),\n.BR famfsd (8),\n.BR famfs (1)\n";

    /// <summary>Whether a process that was called so is the helper.</summary>
    public static bool IsCalled(string? name) => Path.GetFileName(name) is Name or KernelTypeName;

    /// <summary>The name that this process was called by; null where it cannot be read.</summary>
    public static string? ReadOwnName()
    {
        try
        {
            string line = File.ReadAllText("/proc/self/cmdline");
            return line[..Math.Max(0, line.IndexOf('\0', StringComparison.Ordinal))];
        }
        catch (IOException)
        {
            return null;
        }
    }

    /// <summary>Runs it; gives the exit status.</summary>
    public static async Task<int> RunAsync(string[] args, CliEnvironment environment, CancellationToken cancel)
    {
        int Refuse(int status, string message)
        {
            environment.Error.WriteLine($"{Name}: {message}");
            return status;
        }
        if (args is [GeneratedText.Word, "man"])
        {
            environment.Out.Write(ManualPage);
            return Success;
        }
        MountFamfsLine line = new();
        if (line.Parse(args) is { } fault)
            return Refuse(BadInvocation, fault);
        if (line.WantsHelp || line.WantsVersion)
        {
            environment.Out.WriteLine(line.WantsHelp ? Help : $"{Name} {typeof(MountFamfs).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion}");
            return Success;
        }
        try
        {
            CliContext context = new(environment);
            context.Configure(line.Last("config-dir"));
            return line.IsRemount
                ? await RemountAsync(line, context, cancel).ConfigureAwait(false)
                : await MountAsync(line, context, cancel).ConfigureAwait(false);
        }
        catch (ConfigurationException error)
        {
            return Refuse(BadInvocation, error.Message);
        }
        catch (OperationCanceledException)
        {
            return Refuse(Interrupted, "interrupted");
        }
        catch (FamfsException error)
        {
            int status = error.Reason switch
            {
                ErrorReason.BadRequest or ErrorReason.NotPermitted => BadInvocation,
                ErrorReason.NotFound when error.Path == Daemon => SystemError,
                _ => MountFailure,
            };
            return Refuse(status, FamfsCommand.Describe(error));
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException or DeviceFaultException)
        {
            return Refuse(MountFailure, FamfsCommand.Describe(error));
        }
        catch (OutOfMemoryException error)
        {
            return Refuse(SystemError, error.Message);
        }
        catch (Exception error)
        {
            return Refuse(InternalBug, FamfsCommand.Describe(error));
        }
    }

    private static async Task<int> MountAsync(MountFamfsLine line, CliContext context, CancellationToken cancel)
    {
        CliEnvironment environment = context.Environment;
        MountOptions options = OptionsOf(line, context);
        if (line.IsVerbose)
            environment.Out.WriteLine($"{Name}: {line.Spec} at {line.Directory}, devices at {string.Join(", ", options.Devices)}, {(options.Masters.Count == 0 ? "the master that the log names" : $"master {string.Join(", ", options.Masters)}")}");
        if (line.IsFake)
        {
            string found = Mounting.RequireFound(options);
            if (line.IsVerbose)
                environment.Out.WriteLine($"{Name}: found {found}; nothing is mounted (-f)");
            return Success;
        }
        if (MountOptionWords.FindRemark(line.MountWords) is { } remark)
            environment.Error.WriteLine($"{Name}: {remark}");
        StartedMount started = await Mounting.StartAsync(options, cancel).ConfigureAwait(false);
        if (started.TookDeadAway)
            environment.Error.WriteLine($"{Name}: {started.Mount.MountPoint}: a famfs whose daemon is gone was mounted there; it was unmounted");
        // It is mounted, and mount(8) must hear that.
        if (started.NotRegistered is { } cause)
            environment.Error.WriteLine($"{Name}: {started.Mount.MountPoint}: names are served, files cannot be opened: {cause}");
        else if (started.MasterProblem is { } problem)
            environment.Error.WriteLine($"{Name}: {Mounting.ExplainMasterProblem(started.Mount.MountPoint, problem)}");
        foreach ((uint index, Guid uuid) in started.MissingDevices)
            environment.Error.WriteLine($"{Name}: {started.Mount.MountPoint}: device {index} ({uuid}) of the pool is not on this host; files on it answer EIO until `famfs devices attach DEVICE {started.Mount.MountPoint}`");
        if (line.IsVerbose)
            environment.Out.WriteLine($"{Name}: mounted; the daemon is process {started.DaemonProcessId}, its output is in {started.LogPath}");
        return Success;
    }

    private static MountOptions OptionsOf(MountFamfsLine line, CliContext context)
    {
        CliEnvironment environment = context.Environment;
        bool isPlace = line.Spec.Contains('/', StringComparison.Ordinal);
        IReadOnlyList<string> places = isPlace ? [line.Spec, .. line.All("device")] : line.All("device") is { Count: > 0 } said ? said : FindConfiguredPlaces(line, context);
        string? name = isPlace ? line.Last("file-system") : line.Spec;
        TimeSpan timeout = FamfsClientOptions.DefaultTimeout;
        if (line.Last("timeout") is { } text && !QuantityText.TryParseDuration(text, out timeout, out string fault))
            throw CliOptions.Usage($"-o timeout={text}: {fault}");
        IReadOnlyList<string> masters = line.All("master") is { Count: > 0 } given ? [.. given.SelectMany(m => m.Split(',', StringSplitOptions.RemoveEmptyEntries))] : context.MastersOfEnvironment;
        foreach (string master in masters)
        {
            if (FamfsClientOptions.FindAddressFault(master) is { } wrong)
                throw CliOptions.Usage($"-o master: {wrong}");
        }
        return new()
        {
            Devices = places,
            FileSystem = name is null ? null : FileSystemName.Parse(name),
            MountPoint = line.Directory,
            Masters = masters,
            CaFile = line.Last("ca-file") ?? environment.Variable(ClientTls.CaFileVariable),
            CertificateFile = line.Last("certificate-file") ?? environment.Variable(ClientTls.CertificateFileVariable),
            KeyFile = line.Last("key-file") ?? environment.Variable(ClientTls.KeyFileVariable),
            Dialect = line.Last("dialect"),
            HostState = HostIdentity.StateDirectoryOf(line.Last("host-state"), environment.Variable(HostIdentity.StateDirectoryVariable)),
            DaemonArguments =
            [
                .. ((string[])["workers", "push-ioctl", "config-dir"]).Where(o => line.Last(o) is not null).SelectMany(o => (string[])["--" + o, line.Last(o)!]),
                .. line.MountWords.Count == 0 ? (string[])[] : ["-o", string.Join(',', line.MountWords)],
            ],
            LogPath = line.Last("log"),
            Timeout = timeout,
            ProgramDirectory = environment.ProgramDirectory,
            // mount(8) takes PATH out of the environment.
            SearchPath = environment.Variable("PATH") ?? UsualPath,
            MountTablePath = environment.MountTablePath,
            NoWait = line.NoWait,
            EndsLateDaemon = true,
            AskMount = async (place, end) => (await context.AskMountAsync(place, context.AnswerTime, end).ConfigureAwait(false)).Mount,
            DaxBinding = environment.DaxBinding,
            Clock = environment.Clock,
        };
    }

    private static IReadOnlyList<string> FindConfiguredPlaces(MountFamfsLine line, CliContext context)
    {
        IReadOnlyList<string> places = [.. Configuration.Read(line.Last("config-dir"), context.ProcessVariable).Find(Daemon, "").Where(s => s.Key == "device").Select(s => s.Value)];
        return places.Count > 0 ? places : [UsualPlace];
    }

    private static async Task<int> RemountAsync(MountFamfsLine line, CliContext context, CancellationToken cancel)
    {
        CliEnvironment environment = context.Environment;
        string place = MountEntry.PlaceOf(line.Directory, environment.MountTablePath);
        FamfsMount mount = (await context.AskMountAsync(place, context.AnswerTime, cancel).ConfigureAwait(false)).Mount is { } found && found.MountPoint == place
            ? found
            : throw new FamfsException(ErrorReason.NotFound, $"{place}: no famfs is mounted there") { Path = place };
        // The daemon writes its line of the host table through such a mount.
        if (mount.ReadDevices().Values.Select(d => d.Path).FirstOrDefault(d => environment.DaxBinding.FindName(d) is { } name && environment.DaxBinding.ReadDriver(name) == DaxBinding.FsDev) is { } held)
            throw new FamfsException(ErrorReason.Unspecified, $"{place}: cannot be remounted, because its daemon reaches {held} through it; unmount and mount again") { Path = place };
        if (!line.IsReadOnly && mount.ReadDamage() is { } damage)
            throw new FamfsException(ErrorReason.ReadOnly, $"{place}: stays read-only: {damage}") { Path = place };
        // Most of them were not written for this time: mount(8) adds those of fstab and of the kernel's table.
        if (line.IsVerbose && line.Others.Count > 0)
            environment.Out.WriteLine($"{Name}: {place}: a remount changes ro and rw alone; {string.Join(", ", line.Others)} as mounted");
        if (line.IsFake)
            return Success;
        bool forbidsPrograms = MountEntry.ReadTable(environment.MountTablePath).Last(e => e.MountPoint == place).ForbidsPrograms;
        int errno = MountCalls.Remount(place, line.IsReadOnly, forbidsPrograms);
        if (errno == Errno.EBUSY)
            throw new FamfsException(ErrorReason.Unspecified, $"{place}: stays writable: files are open for writing") { Path = place };
        return errno == 0 ? Success : throw PathErrors.Of(place, errno);
    }
}
