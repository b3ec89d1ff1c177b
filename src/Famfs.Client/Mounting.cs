using System.Globalization;
using System.Text;
using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Interop;
using Famfs.Core.Log;
using Famfs.V1;

namespace Famfs.Client;

/// <summary>What is to be mounted, and how.</summary>
public sealed record MountOptions
{
    /// <summary>The file system's devices on this host: paths, patterns like <c>/dev/dax*</c>, directories. One at least is
    /// its first device, or leads to it.</summary>
    public required IReadOnlyList<string> Devices { get; init; }

    /// <summary>Label or uuid of the file system that is meant, where several may be found; null: the only one.</summary>
    public FileSystemName? FileSystem { get; init; }

    /// <summary>An existing directory that no famfs is mounted on.</summary>
    public required string MountPoint { get; init; }

    /// <summary>Addresses of masters; when empty, the last one that the log names.</summary>
    public IReadOnlyList<string> Masters { get; init; } = [];

    /// <summary>PEM file of the authorities that an <c>https</c> master's certificate must come from; null: those of this
    /// host.</summary>
    public string? CaFile { get; init; }

    /// <summary>PEM file of the certificate to show to a master that asks for one, or null.</summary>
    public string? CertificateFile { get; init; }

    /// <summary>PEM file of its private key, or null.</summary>
    public string? KeyFile { get; init; }

    /// <summary>Generation of the famfs kernel to speak: A, B0, B, D, or stock to use none; null: the daemon finds out.</summary>
    public string? Dialect { get; init; }

    /// <summary>Directory with this host's identity; null: <c>$FAMFS_STATE_DIR</c>, else /var/lib/famfs.</summary>
    public string? HostState { get; init; }

    /// <summary>More arguments for <c>famfsd</c>, as it takes them.</summary>
    public IReadOnlyList<string> DaemonArguments { get; init; } = [];

    /// <summary>File that the daemon's output is appended to; null: one in the directory of the host's identity.</summary>
    public string? LogPath { get; init; }

    /// <summary>How long to wait for the mount.</summary>
    public TimeSpan Timeout { get; init; } = FamfsClientOptions.DefaultTimeout;

    /// <summary>Where <c>famfsd</c> is looked for first: the directory of this program unless said otherwise.</summary>
    public string ProgramDirectory { get; init; } = AppContext.BaseDirectory;

    /// <summary>Where it is looked for next: directories with colons between them, those of PATH unless said otherwise.</summary>
    public string? SearchPath { get; init; } = Environment.GetEnvironmentVariable("PATH");

    /// <summary>The kernel's table of mounts.</summary>
    public string MountTablePath { get; init; } = MountEntry.TablePath;

    /// <summary>Asks what is mounted at a place; its attributes are those of that moment. Unless said otherwise a thread of this
    /// process asks, which a daemon that is stopped holds for as long as it is (<see cref="MountAnswer"/>). Throws TIMEOUT
    /// when it gives up.</summary>
    public Func<string, CancellationToken, Task<FamfsMount?>>? AskMount { get; init; }

    /// <summary>Return as soon as the mount answers, also when files cannot be opened yet.</summary>
    public bool NoWait { get; init; }

    /// <summary>End the daemon again when it does not mount in time, so that nothing is mounted after this failed.</summary>
    public bool EndsLateDaemon { get; init; }

    /// <summary>The drivers of dax devices.</summary>
    public DaxBinding DaxBinding { get; init; } = new();

    /// <summary>Clock of the time-out.</summary>
    public TimeProvider Clock { get; init; } = TimeProvider.System;
}

/// <summary>A mount that answers.</summary>
/// <param name="Mount">The mount.</param>
/// <param name="DaemonProcessId">Process of its daemon.</param>
/// <param name="LogPath">File with the daemon's output.</param>
/// <param name="TookDeadAway">A mount whose daemon is gone was there, and was unmounted first.</param>
/// <param name="NotRegistered">Why files cannot be opened yet; null when they can, or when nobody waited for that.</param>
/// <param name="TookOver">The mount was there, kept and without a daemon; the new one continues.</param>
/// <param name="Keeper">What keeps it beyond the death of its daemon; null: nothing does.</param>
/// <param name="MissingDevices">Devices of the pool that this host lacks, by index, each with its uuid; files on them answer EIO.</param>
public sealed record StartedMount(FamfsMount Mount, int DaemonProcessId, string LogPath, bool TookDeadAway, string? NotRegistered, bool TookOver, string? Keeper, IReadOnlyDictionary<uint, Guid> MissingDevices)
{
    /// <summary>Why no master answered at the addresses that were given; null when one is reached now, or when none was given.</summary>
    public string? MasterProblem { get; init; }
}

/// <summary>
/// Mounts a file system: looks at the devices and asks the master first, so that what is wrong has its own error; then
/// starts <c>famfsd</c>, which outlives this program, and waits until the mount answers. famfsd gets <c>MOUNTPOINT
/// --device DEVICE… [--master ADDRESS]… [--dialect D] [--ca-file FILE …] --host-state DIR ARGUMENT…</c>.
/// <para>Errors are <see cref="FamfsException"/>: NOT_FOUND without such a directory, device or program; EXISTS where a
/// famfs is mounted, or about to be, or where one whose daemon is gone is in use (one that nobody uses is unmounted, one that is kept is
/// taken over); those of devices that are no file system; WRONG_FILESYSTEM when the master serves
/// another one; TIMEOUT, after which the daemon goes on trying; without a reason when the daemon ended.</para>
/// </summary>
public static class Mounting
{
    private const string ProgramName = "famfsd";

    private const string AutomountType = "autofs";

    // Chosen: room in the log for what a daemon says before it has mounted.
    private const int FirstWordsBytes = 16 << 10;

    // NAME_MAX of limits.h.
    private const int LongestName = 255;

    private static readonly TimeSpan s_poll = TimeSpan.FromMilliseconds(20);

    // Chosen: what a master needs that was started just before, on a machine with other work.
    private static readonly TimeSpan s_masterStarts = TimeSpan.FromSeconds(5);

    // Chosen: far above what an answer takes; a master that is down refuses at once.
    private static readonly TimeSpan s_greeting = TimeSpan.FromSeconds(10);

    /// <summary>Starts the daemon and returns when the mount answers.</summary>
    public static async Task<StartedMount> StartAsync(MountOptions options, CancellationToken cancel = default)
    {
        using Plan plan = await PrepareAsync(options, cancel).ConfigureAwait(false);
        string logPath = options.LogPath ?? Path.Combine(plan.StateDirectory, LogNameOf(plan.MountPoint));
        Directory.CreateDirectory(Path.GetDirectoryName(Path.GetFullPath(logPath))!);
        DetachedProgram daemon;
        long begin;
        using (AppendedFile log = AppendedFile.Open(logPath))
        {
            // A daemon that cannot say what is wrong is not started.
            log.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{options.Clock.GetUtcNow().UtcDateTime:yyyy-MM-ddTHH:mm:ss.fffZ} info: {ProgramName} is started"), FirstWordsBytes);
            begin = log.LengthBytes;
            // To whoever is in its process group, an automounter's place is a directory. Others wait there for the mount, and so would its daemon.
            bool isAutomounted = MountEntry.ReadTable(options.MountTablePath).LastOrDefault(e => e.MountPoint == plan.MountPoint)?.FileSystemType == AutomountType;
            daemon = ProgramStart.StartDetached(plan.Program, plan.Arguments, log, keepsGroup: isAutomounted);
        }
        FamfsMount mount;
        try
        {
            mount = await WaitUntilMountedAsync(options, daemon, plan.MountPoint, logPath, begin, cancel).ConfigureAwait(false);
        }
        catch when (options.EndsLateDaemon)
        {
            daemon.Terminate();
            throw;
        }
        string registration = mount.ReadRegistration();
        string? problem = options.NoWait || registration == FamfsMount.Registered ? null : registration;
        return new(mount, daemon.ProcessId, logPath, plan.TookDeadAway, problem, plan.TakesOver, mount.ReadKeeper(), mount.ReadMissingDevices()) { MasterProblem = mount.ReadMasterAddress() is null ? plan.MasterProblem : null };
    }

    /// <summary><see cref="StartedMount.MasterProblem"/> as a sentence.</summary>
    public static string ExplainMasterProblem(string mountPoint, string problem) =>
        $"{mountPoint}: {problem}; the mount follows the log in memory, and looks for a master";

    /// <summary>Unmounts what daemons that are gone left at a place, if nobody uses it. Throws EXISTS, with the holders, when it is busy.</summary>
    public static Task RequireNoDeadMountAsync(string mountPoint, CancellationToken cancel = default) =>
        TakeDeadAwayAsync(new() { Devices = [], MountPoint = mountPoint }, mountPoint, cancel);

    /// <summary>Looks at the devices as a mount does, and gives the label of the file system, or its uuid. Mounts nothing; errors as of
    /// <see cref="StartAsync"/>.</summary>
    public static string RequireFound(MountOptions options)
    {
        if (!Directory.Exists(options.MountPoint))
            throw new FamfsException(ErrorReason.NotFound, $"{options.MountPoint}: no such directory to mount on") { Path = options.MountPoint };
        using DevicePool pool = new DeviceSearch(options.Devices, KnownFormats.All, options.Clock, options.FileSystem).Open(readOnly: true);
        return pool.Primary.Label.Length > 0 ? pool.Primary.Label : pool.Primary.FileSystem.ToString();
    }

    /// <summary>Becomes the daemon: this process is it from then on. Returns only by throwing.</summary>
    public static async Task BecomeAsync(MountOptions options, CancellationToken cancel = default)
    {
        using Plan plan = await PrepareAsync(options, cancel).ConfigureAwait(false);
        ProgramStart.Replace(plan.Program, plan.Arguments);
    }

    private static async Task<Plan> PrepareAsync(MountOptions options, CancellationToken cancel)
    {
        string mountPoint = MountEntry.PlaceOf(options.MountPoint, options.MountTablePath);
        if (options.Masters.Select(FamfsClientOptions.FindAddressFault).FirstOrDefault(fault => fault is not null) is { } wrong)
            throw new FamfsException(ErrorReason.BadRequest, wrong);
        MountPlace.RequireBelowRoot(mountPoint);
        // The daemon is started elsewhere.
        string state = Path.GetFullPath(HostIdentity.StateDirectoryOf(options.HostState, Environment.GetEnvironmentVariable(HostIdentity.StateDirectoryVariable)));
        if (IsMounted(options, mountPoint) && HostKeeper.HasWithoutDaemon(state, mountPoint))
            return PrepareTakeOver(options, mountPoint, state);
        bool tookDead = await TakeDeadAwayAsync(options, mountPoint, cancel).ConfigureAwait(false);
        // First what the table says: to look at the directory is to ask the mount.
        RequireNotMounted(options, mountPoint);
        if (!Directory.Exists(mountPoint))
            throw new FamfsException(ErrorReason.NotFound, $"{mountPoint}: no such directory to mount on") { Path = mountPoint };
        // Two at once would both find nothing there and mount one over the other.
        IDisposable turn = DirectoryTurn.TryTake(mountPoint)
            ?? throw new FamfsException(ErrorReason.Exists, $"{mountPoint}: another famfs mount is at work there") { Path = mountPoint };
        try
        {
            RequireNotMounted(options, mountPoint);
            string program = Path.GetFullPath(ProgramFinder.Require(ProgramName, options.ProgramDirectory, options.SearchPath));
            string? masterProblem = await RequireSoundAsync(options, cancel).ConfigureAwait(false);
            MountPlace.RequireHidesNothing(mountPoint, options.Devices, options.Masters, state, options.LogPath, options.CaFile, options.CertificateFile, options.KeyFile);
            return new(turn, program, mountPoint, state, ArgumentsOf(options, mountPoint, state), tookDead, TakesOver: false) { MasterProblem = masterProblem };
        }
        catch
        {
            turn.Dispose();
            throw;
        }
    }

    // No path of the mount is looked at: nobody serves it. Of two daemons that start, the keeper lets the second wait for the first.
    private static Plan PrepareTakeOver(MountOptions options, string mountPoint, string state) =>
        new(null, Path.GetFullPath(ProgramFinder.Require(ProgramName, options.ProgramDirectory, options.SearchPath)), mountPoint, state, ArgumentsOf(options, mountPoint, state), TookDeadAway: false, TakesOver: true);

    private static List<string> ArgumentsOf(MountOptions options, string mountPoint, string state)
    {
        List<string> arguments = [mountPoint];
        foreach (string device in options.Devices)
            arguments.AddRange(["--device", Path.GetFullPath(device)]);
        if (options.FileSystem is { } named)
            arguments.AddRange(["--file-system", named.Text]);
        foreach (string master in options.Masters)
            arguments.AddRange(["--master", master]);
        if (options.Dialect is { } dialect)
            arguments.AddRange(["--dialect", dialect]);
        foreach ((string option, string? file) in ((string, string?)[])[("--ca-file", options.CaFile), ("--certificate-file", options.CertificateFile), ("--key-file", options.KeyFile)])
        {
            if (file is not null)
                arguments.AddRange([option, Path.GetFullPath(file)]);
        }
        arguments.AddRange(["--host-state", state, .. options.DaemonArguments]);
        return arguments;
    }

    /// <summary>Unmounts what daemons that are gone left there. Never lazily: a mount that is in use holds its memory, and hiding it
    /// would hide the holder (SAFETY S14). True when there was one; throws EXISTS, with the holders, when it is busy.</summary>
    private static async Task<bool> TakeDeadAwayAsync(MountOptions options, string mountPoint, CancellationToken cancel)
    {
        bool any = false;
        while (await IsDeadAsync(options, mountPoint, cancel).ConfigureAwait(false))
        {
            if (await Unmounting.TryAsync(mountPoint, options.MountTablePath, options.Clock, cancel).ConfigureAwait(false) is { } use)
                throw new FamfsException(ErrorReason.Exists, $"{mountPoint}: a famfs whose daemon is gone is mounted there and in use{use.Words}; end its users first") { Path = mountPoint };
            any = true;
        }
        return any;
    }

    private static async Task<bool> IsDeadAsync(MountOptions options, string mountPoint, CancellationToken cancel)
    {
        try
        {
            return await FindAsync(options, mountPoint, cancel).ConfigureAwait(false) is { IsDead: true };
        }
        catch (FamfsException error) when (error.Reason == ErrorReason.Timeout)
        {
            return false; // what does not answer is not gone
        }
    }

    /// <summary>Asks only where something is mounted.</summary>
    private static async Task<FamfsMount?> FindAsync(MountOptions options, string mountPoint, CancellationToken cancel)
    {
        if (!IsMounted(options, mountPoint))
            return null;
        return options.AskMount is { } ask
            ? await ask(mountPoint, cancel).ConfigureAwait(false)
            : await Task.Run(() => MountAnswer.Ask(mountPoint, options.MountTablePath).Mount, cancel).ConfigureAwait(false);
    }

    private static void RequireNotMounted(MountOptions options, string mountPoint)
    {
        if (IsMounted(options, mountPoint))
            throw new FamfsException(ErrorReason.Exists, $"{mountPoint}: a famfs is mounted there") { Path = mountPoint };
    }

    private static bool IsMounted(MountOptions options, string mountPoint) => FamfsMount.FindAll(options.MountTablePath).Any(m => m.MountPoint == mountPoint);

    // Gives why no master answers.
    private static async Task<string?> RequireSoundAsync(MountOptions options, CancellationToken cancel)
    {
        // What the kernel holds for its famfs, only the daemon can look at.
        DeviceSearch search = new(options.Devices, KnownFormats.All, options.Clock, options.FileSystem);
        DaxBinding binding = options.DaxBinding;
        if (search.Required.Concat(search.Found).Any(d => binding.FindName(d) is { } name && binding.ReadDriver(name) == DaxBinding.FsDev))
            return null;
        Guid fileSystem;
        using (DevicePool pool = search.Open(readOnly: true))
            fileSystem = pool.Primary.FileSystem;
        if (options.Masters.Count == 0)
            return null;
        // Each address once: mounting needs no master.
        ClientTls tls = ClientTls.Load(options.CaFile, options.CertificateFile, options.KeyFile);
        using FamfsClient client = new(new FamfsClientOptions { Addresses = options.Masters, MaxAttempts = options.Masters.Count, Tls = tls, Clock = options.Clock });
        try
        {
            await client.RequireFileSystemAsync(fileSystem, s_greeting, cancel).ConfigureAwait(false);
            return null;
        }
        catch (FamfsException error) when (error.Reason is ErrorReason.NotMaster or ErrorReason.Timeout)
        {
            // The daemon finds it when it is there.
            return error.Message;
        }
    }

    private static async Task<FamfsMount> WaitUntilMountedAsync(MountOptions options, DetachedProgram daemon, string mountPoint, string logPath, long logBegin, CancellationToken cancel)
    {
        long start = options.Clock.GetTimestamp();
        long? answered = null;
        Task<FamfsMount?>? asking = null;
        FamfsMount? answering = null;
        while (true)
        {
            if (daemon.ReadExitCode() is { } code)
                throw new FamfsException(ErrorReason.Unspecified, $"{mountPoint}: {ProgramName} ended with code {code}: {LastLine(logPath, logBegin)}") { Path = mountPoint };
            // Asked from another thread: a daemon that hangs must not take this program with it.
            asking ??= FindAsync(options, mountPoint, cancel);
            if (asking.IsCompleted)
            {
                try
                {
                    if (await asking.ConfigureAwait(false) is { IsDead: false } mount && mount.ReadAttribute("user.famfs.uuid") is not null)
                        (answering, answered) = (mount, answered ?? options.Clock.GetTimestamp());
                }
                catch (FamfsException error) when (error.Reason == ErrorReason.Timeout)
                {
                    // Asked again as long as there is time.
                }
                asking = null;
            }
            if (answering is not null && (options.NoWait || IsSettled(answering.ReadRegistration()) || options.Clock.GetElapsedTime(start) > options.Timeout))
                return answering;
            if (options.Clock.GetElapsedTime(start) > options.Timeout)
                throw new FamfsException(ErrorReason.Timeout, $"{mountPoint}: not mounted within {options.Timeout.TotalSeconds:0.###} s; {ProgramName} (process {daemon.ProcessId}) goes on trying, its output is in {logPath}") { Path = mountPoint };
            await Task.Delay(s_poll, options.Clock, cancel).ConfigureAwait(false);
        }

        // A master that was named and is not reached yet may be starting.
        bool IsSettled(string registration) => registration != FamfsMount.RegistrationPending
            && (registration == FamfsMount.Registered || registration.StartsWith(FamfsMount.RegistrationRefused, StringComparison.Ordinal)
                || options.Masters.Count == 0 || options.Clock.GetElapsedTime(answered!.Value) > s_masterStarts);
    }

    /// <summary>The name of a daemon's log in the state directory: that of the mount point, or its digest where that is no name.</summary>
    private static string LogNameOf(string mountPoint)
    {
        string name = $"{ProgramName}{mountPoint.Replace('/', '-')}.log";
        return Encoding.UTF8.GetByteCount(name) <= LongestName ? name : $"{ProgramName}-{Convert.ToHexStringLower(Sha256.Hash(Encoding.UTF8.GetBytes(mountPoint)))}.log";
    }

    /// <summary>The last that was written to a log behind an offset.</summary>
    private static string LastLine(string logPath, long begin)
    {
        try
        {
            using FileStream log = new(logPath, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
            if (log.CanSeek)
                log.Position = Math.Min(begin, log.Length);
            using StreamReader reader = new(log);
            string? last = null;
            while (log.CanSeek && reader.ReadLine() is { } line)
                last = line.Length == 0 ? last : line;
            return last ?? $"it said nothing; see {logPath}";
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            return $"see {logPath}";
        }
    }

    /// <summary>A daemon that can be started; holds the turn at its mount point until it is disposed.</summary>
    private sealed record Plan(IDisposable? Turn, string Program, string MountPoint, string StateDirectory, List<string> Arguments, bool TookDeadAway, bool TakesOver) : IDisposable
    {
        public string? MasterProblem { get; init; }

        public void Dispose() => Turn?.Dispose();
    }
}
