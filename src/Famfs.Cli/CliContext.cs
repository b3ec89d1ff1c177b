using System.CommandLine;
using System.Text;
using System.Text.Json;
using Famfs.Client;
using Famfs.CommandLine;
using Famfs.Core;
using Famfs.Core.Format;
using Famfs.V1;
using Google.Protobuf;

namespace Famfs.Cli;

/// <summary>Options that every verb takes.</summary>
internal sealed class GlobalOptions
{
    public const string MasterVariable = "FAMFS_MASTER";

    public Option<string[]> Master { get; } = new("--master")
    {
        Description = $"Address of the master (http://host:port, https://host:port or unix:/path, several with commas); paths are then relative to the file system's root. Also {MasterVariable}.",
        HelpName = "ADDRESS",
        Recursive = true,
        AllowMultipleArgumentsPerToken = false,
    };

    public Option<string?> CaFile { get; } = File("--ca-file", $"PEM file of the authorities that an https master's certificate must come from; those of this host when not said. Also {ClientTls.CaFileVariable}");

    public Option<string?> CertificateFile { get; } = File("--certificate-file", $"PEM file of the certificate to show to a master that asks for one. Also {ClientTls.CertificateFileVariable}");

    public Option<string?> KeyFile { get; } = File("--key-file", $"PEM file of its private key. Also {ClientTls.KeyFileVariable}");

    public Option<bool> Json { get; } = new("--json") { Description = "Print results and errors as JSON", Recursive = true, Arity = ArgumentArity.Zero };

    /// <summary>The older way to say it. Of <c>mount</c>, -o is something else.</summary>
    public Option<string> Output { get; } = new("--output", "-o")
    {
        Description = "text or json; json is the same as --json",
        HelpName = "text|json",
        Recursive = true,
        DefaultValueFactory = _ => "text",
    };

    public Option<TimeSpan> Timeout { get; } = Duration("--timeout", "How long to try, and to wait: 30, 1.5, 500ms, 2m; 30 seconds when not said");

    /// <summary>Of <c>mount</c> alone; there the nearer option of this letter counts.</summary>
    public Option<string[]> MountOptions { get; } = new("--options", "-o") { Description = MountOptionWords.Description, HelpName = "OPTIONS" };

    public GlobalOptions()
    {
        MountOptions.Validators.Add(result =>
        {
            // -o json was there first.
            if (MountOptionWords.FindFault(result.Tokens.Select(t => t.Value).Where(word => word is not ("json" or "text"))) is { } fault)
                result.AddError(fault);
        });
        CommandLineFault.RequireOneOf(Output, "", "text", "json");
        Master.Validators.Add(result =>
        {
            if (result.Tokens.Any(t => t.Value.AsSpan().Trim(" ,").IsEmpty))
                result.AddError($"{Master.Name}: is empty");
        });
        Timeout.Recursive = true;
    }

    private static Option<string?> File(string name, string description) => new(name) { Description = description, HelpName = "FILE", Recursive = true };

    /// <summary>An option that is a time.</summary>
    public static Option<TimeSpan> Duration(string name, string description) => new(name)
    {
        Description = description,
        HelpName = "TIME",
        CustomParser = result =>
        {
            if (QuantityText.TryParseDuration(result.Tokens[0].Value, out TimeSpan time, out string error))
                return time;
            result.AddError($"{name}: {error}");
            return default;
        },
    };
}

/// <summary>What one verb works on: a path of a file system, and how to reach its master.</summary>
/// <param name="Master">Reaches the master; null only for a verb that the mount can answer. Owned by the context.</param>
/// <param name="Path">From the root, without a leading slash; the root is empty.</param>
/// <param name="Shown">As the user wrote it.</param>
/// <param name="Mount">The local mount, when there is one.</param>
/// <param name="LocalPath">The path through it.</param>
internal sealed record CliTarget(FamfsClient? Master, string Path, string Shown, FamfsMount? Mount, string? LocalPath)
{
    /// <summary>Reaches the master; throws NOT_MASTER where none is known.</summary>
    public FamfsClient Client => Master ?? throw new FamfsException(ErrorReason.NotMaster, $"{Mount!.MountPoint}: the mount knows no master");

    /// <summary>The path through the mount; throws BAD_REQUEST without one.</summary>
    public string RequireLocalPath(string what) => LocalPath
        ?? throw new FamfsException(ErrorReason.BadRequest, $"{Shown}: {what} needs a path on a mount") { Path = Shown };

    /// <summary>The path through a mount that can be written through; throws READ_ONLY before a file is made that nobody
    /// here could fill.</summary>
    public string RequireWritablePath(string what)
    {
        string path = RequireLocalPath(what);
        return Mount!.IsReadOnly ? throw new FamfsException(ErrorReason.ReadOnly, $"{Mount.MountPoint}: is mounted read-only; {what} needs a mount to write through") { Path = Mount.MountPoint } : path;
    }
}

/// <summary>One run of the command: its streams, what was given to it, and the verbs' common work.</summary>
internal sealed class CliContext(CliEnvironment environment)
{
    private static readonly TimeSpan s_poll = TimeSpan.FromMilliseconds(100);

    // Each place where the master may be once, and once more for one that restarts; then the mount answers. Chosen.
    private const int ReadingAttempts = 4;

    // Chosen: far above what a mount takes that can answer.
    private static readonly TimeSpan s_answerTime = TimeSpan.FromSeconds(5);

    private readonly Dictionary<string, FamfsClient> _clients = [];

    public CliEnvironment Environment { get; private set; } = environment;

    /// <summary>The environment without what files say.</summary>
    public Func<string, string?> ProcessVariable { get; } = environment.Variable;

    /// <summary>What configuration files say of <c>famfs</c>; known once the line has been parsed.</summary>
    public CliConfiguration Configuration { get; } = new();

    /// <summary>From here on the environment says what the files say where it says nothing itself.</summary>
    public void Configure(string? directory)
    {
        IReadOnlyDictionary<string, string> configured = Configuration.Read(directory, ProcessVariable);
        Environment = Environment with { Variable = name => ProcessVariable(name) is { Length: > 0 } said ? said : configured.GetValueOrDefault(name) };
    }

    public GlobalOptions Options { get; } = new();

    /// <summary>Arguments behind <c>--</c> of <c>famfs mount</c>.</summary>
    public IReadOnlyList<string> PassThrough { get; set; } = [];

    /// <summary>The whole command line.</summary>
    public IReadOnlyList<string> Arguments { get; init; } = [];

    public TextWriter Out => Environment.Out;

    /// <summary>The files of TLS by name: option, else environment, else null.</summary>
    public (string? Ca, string? Certificate, string? Key) TlsFilesOf(ParseResult parsed) => (
        parsed.GetValue(Options.CaFile) ?? Environment.Variable(ClientTls.CaFileVariable),
        parsed.GetValue(Options.CertificateFile) ?? Environment.Variable(ClientTls.CertificateFileVariable),
        parsed.GetValue(Options.KeyFile) ?? Environment.Variable(ClientTls.KeyFileVariable));

    /// <summary>Trust and identity of this run; throws BAD_REQUEST for files that cannot be used.</summary>
    public ClientTls TlsOf(ParseResult parsed)
    {
        (string? ca, string? certificate, string? key) = TlsFilesOf(parsed);
        return ClientTls.Load(ca, certificate, key);
    }

    /// <summary>Results and errors are JSON. Can be asked of a line that has faults.</summary>
    public bool IsJson(ParseResult parsed) => parsed.GetResult(Options.Json) is { Implicit: false } || SaysJson(parsed, Options.Output) || SaysJson(parsed, Options.MountOptions);

    private static bool SaysJson(ParseResult parsed, Option option) => parsed.GetResult(option)?.Tokens.Any(t => t.Value == "json") == true;

    /// <summary>What the run's errors and remarks are written as; known once the line has been parsed.</summary>
    public bool SaysErrorsAsJson { get; set; }

    /// <summary>One line on stderr that says why something was not done, or one JSON object there.</summary>
    public void Refuse(Exception error) => Refuse(error, ExitCodes.Of(error));

    /// <summary>The same for a verb that ends with a code of its own.</summary>
    public void Refuse(Exception error, ExitCode code)
    {
        string message = FamfsCommand.Describe(error);
        Refuse(code, error is FamfsException { Reason: var reason } ? reason : ErrorReason.Unspecified, message, (error as FamfsException)?.Path ?? "");
    }

    /// <inheritdoc cref="Refuse(Exception)"/>
    public void Refuse(ExitCode code, ErrorReason reason, string message, string path = "")
    {
        if (!SaysErrorsAsJson)
        {
            Environment.Error.WriteLine($"famfs: {message}");
            return;
        }
        WriteErrorLine(json =>
        {
            json.WriteStartObject("error");
            json.WriteString("reason", JsonShapes.Word(reason));
            json.WriteString("message", message);
            if (path.Length > 0)
                json.WriteString("path", path);
            json.WriteNumber("exit_code", (int)code);
            json.WriteEndObject();
        });
    }

    /// <summary>One line on stderr beside what is done, or one JSON object there.</summary>
    public void Remark(string text)
    {
        if (SaysErrorsAsJson)
            WriteErrorLine(json => json.WriteString("remark", text));
        else
            Environment.Error.WriteLine($"famfs: {text}");
    }

    private void WriteErrorLine(Action<Utf8JsonWriter> write)
    {
        using MemoryStream stream = new();
        using (Utf8JsonWriter json = new(stream, new JsonWriterOptions { Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            json.WriteStartObject();
            write(json);
            json.WriteEndObject();
        }
        Environment.Error.WriteLine(Encoding.UTF8.GetString(stream.GetBuffer(), 0, (int)stream.Length));
    }

    /// <summary>Does the same to each of several paths: what fails is said and the others are done. A single one throws as it
    /// would alone, and so does a master that does not answer, which would be waited for each time.</summary>
    public async Task<ExitCode> ForEachAsync(string[] paths, Func<string, Task> act)
    {
        ExitCode first = ExitCode.Ok;
        foreach (string path in paths)
        {
            try
            {
                await act(path).ConfigureAwait(false);
            }
            catch (FamfsException e) when (paths.Length > 1 && e.Reason is not (ErrorReason.NotMaster or ErrorReason.Timeout))
            {
                Refuse(e);
                first = first == ExitCode.Ok ? ExitCodes.Of(e) : first;
            }
        }
        return first;
    }

    /// <summary>Prints one object when there was one path, as it was before there could be several, else an array of them.</summary>
    public void WriteOneOrMany<T>(int paths, string name, IReadOnlyList<T> items, Action<Utf8JsonWriter, T> write)
    {
        if (paths == 1)
        {
            WriteJson(json => write(json, items[0]));
            return;
        }
        WriteJson(json =>
        {
            json.WriteStartObject();
            json.WriteStartArray(name);
            foreach (T item in items)
                write(json, item);
            json.WriteEndArray();
            json.WriteEndObject();
        });
    }

    public TimeSpan TimeoutOf(ParseResult parsed) =>
        parsed.GetValue(Options.Timeout) is { Ticks: > 0 } said ? said : FamfsClientOptions.DefaultTimeout;

    /// <summary>--timeout was given on the command line.</summary>
    public bool IsTimeoutGiven(ParseResult parsed) => parsed.GetResult(Options.Timeout) is { Implicit: false };

    /// <summary>What a mount gets to answer a verb that is not about it alone: 5 s, or --timeout.</summary>
    public TimeSpan AnswerTime { get; private set; } = s_answerTime;

    /// <summary>Takes what a command line says of times, before its verb runs.</summary>
    public void Take(ParseResult parsed) => AnswerTime = parsed.Errors.Count == 0 && IsTimeoutGiven(parsed) ? TimeoutOf(parsed) : s_answerTime;

    /// <summary>--master was given on the command line.</summary>
    public bool IsMasterGiven(ParseResult parsed) => GivenMasters(parsed).Length > 0;

    /// <summary>The addresses of --master, else of the environment; empty when neither says one.</summary>
    public string[] MastersOf(ParseResult parsed) =>
        GivenMasters(parsed) is { Length: > 0 } given ? given : MastersOfEnvironment;

    /// <summary>The addresses of the environment, or of the files.</summary>
    public string[] MastersOfEnvironment => Split(Environment.Variable(GlobalOptions.MasterVariable));

    /// <summary>What a PATH argument means: with --master a path from the root, else a path on a mount, else
    /// with the environment's master a path from the root. Throws BAD_REQUEST for any other.
    /// <paramref name="reading"/>: the mount can answer, so nobody waits for a master (<see cref="AskMasterOrMountAsync"/>).</summary>
    public async Task<CliTarget> ResolveAsync(ParseResult parsed, string path, CancellationToken cancel, bool reading = false)
    {
        if (GivenMasters(parsed) is { Length: > 0 } given)
            return new(ClientOf(parsed, given), FromRoot(path), path, null, null);
        MountAnswer answer = await AskMountAsync(parsed, path, cancel).ConfigureAwait(false);
        if (answer.Mount is { } mount)
        {
            string resolved = answer.Resolved;
            Guid fileSystem = mount.RequireFileSystem();
            string? own = mount.ReadMasterAddress();
            string? address = own ?? Environment.Variable(GlobalOptions.MasterVariable);
            if (address is null && mount.ReadLogMasterAddress() is null)
                address = FindSocket();
            if (address is null && mount.ReadLogMasterAddress() is null)
            {
                if (reading)
                    return new(null, mount.ToFileSystemPath(resolved), path, mount, resolved);
                address = await WaitForMasterAsync(parsed, mount, cancel).ConfigureAwait(false);
            }
            // The mount has met its own master. Who is named by the log or by the environment may serve another file system by now.
            FamfsClient client = ClientOf(parsed, Split(address), new(fileSystem, IsMet: own is not null, new MasterSearch(this, mount).Find), reading);
            return new(client, mount.ToFileSystemPath(resolved), path, mount, resolved);
        }
        if (Split(Environment.Variable(GlobalOptions.MasterVariable)) is { Length: > 0 } usual)
            return new(ClientOf(parsed, usual), FromRoot(path), path, null, null);
        // A master of this host is none that was named: a path of a mount that is not there would be one from its root.
        string known = FindSocket() ?? "ADDRESS";
        throw new FamfsException(ErrorReason.BadRequest, $"{path}: not on a famfs mount; for a path from the root say --master {known} or set {GlobalOptions.MasterVariable}") { Path = path };
    }

    /// <summary>As <see cref="ResolveAsync"/>, of a name and not of what it leads to: a link at the end of the path is what is meant. Throws
    /// BAD_PATH for a path that ends in no name.</summary>
    public async Task<CliTarget> ResolveNameAsync(ParseResult parsed, string path, CancellationToken cancel)
    {
        string trimmed = path.TrimEnd('/');
        string name = trimmed[(trimmed.LastIndexOf('/') + 1)..];
        if (name is "" or "." or "..")
            throw new FamfsException(ErrorReason.BadPath, $"{path}: does not end in the name of a file or directory") { Path = path };
        if (GivenMasters(parsed) is { Length: > 0 })
            return await ResolveAsync(parsed, path, cancel).ConfigureAwait(false);
        string directory = trimmed[..^name.Length];
        CliTarget parent = await ResolveAsync(parsed, directory.Length == 0 ? "." : directory, cancel).ConfigureAwait(false);
        return parent with
        {
            Path = parent.Path.Length == 0 ? name : $"{parent.Path}/{name}",
            Shown = path,
            LocalPath = parent.LocalPath is { } local ? Path.Combine(local, name) : null,
        };
    }

    /// <summary>The file system when no path need be given: --master, the path's, the mount that the caller stands in, the
    /// environment's, or the only mount there is.</summary>
    public async Task<CliTarget> ResolveFileSystemAsync(ParseResult parsed, string? path, CancellationToken cancel, bool reading = false)
    {
        if (path is not null)
            return await ResolveAsync(parsed, path, cancel, reading).ConfigureAwait(false);
        if (!IsMasterGiven(parsed) && Environment.WorkingDirectory is { } standing && FamfsMount.FindByName(standing, Environment.MountTablePath) is { } here)
            return await ResolveAsync(parsed, here.MountPoint, cancel, reading).ConfigureAwait(false);
        string[] masters = MastersOf(parsed);
        if (masters.Length > 0)
            return new(ClientOf(parsed, masters), "", "/", null, null);
        IReadOnlyList<FamfsMount> mounts = FamfsMount.FindDistinct(Environment.MountTablePath);
        return mounts.Count switch
        {
            1 => await ResolveAsync(parsed, mounts[0].MountPoint, cancel, reading).ConfigureAwait(false),
            0 when FindSocket() is { } socket => new(ClientOf(parsed, [socket]), "", "/", null, null),
            0 => throw new FamfsException(ErrorReason.BadRequest, $"no famfs is mounted here; say --master ADDRESS or set {GlobalOptions.MasterVariable}"),
            _ => throw new FamfsException(ErrorReason.BadRequest, $"several famfs are mounted ({string.Join(", ", mounts.Select(m => m.MountPoint))}); name one"),
        };
    }

    /// <summary>Asks the path which mount it is on, and the mount what it says. Throws TIMEOUT when it does not answer in the verb's time.</summary>
    public Task<MountAnswer> AskMountAsync(ParseResult parsed, string path, CancellationToken cancel) => AskMountAsync(path, TimeoutOf(parsed), cancel);

    /// <inheritdoc cref="AskMountAsync(ParseResult, string, CancellationToken)"/>
    public async Task<MountAnswer> AskMountAsync(string path, TimeSpan timeout, CancellationToken cancel)
    {
        // Where no famfs is mounted, none can hang.
        if (FamfsMount.FindAll(Environment.MountTablePath).Count == 0)
            return MountAnswer.Ask(path, Environment.MountTablePath);
        using MemoryStream answer = await AskAsync(path, ["find", path, Environment.MountTablePath], timeout, cancel).ConfigureAwait(false);
        return MountAnswer.Read(answer);
    }

    /// <summary>The devices, or the mount that stands for all of them, that were given. A path on a mount, also one that shows a part of
    /// the file system only, means the whole of it.</summary>
    public async Task<string[]> ResolveDevicesAsync(ParseResult parsed, string[] given, CancellationToken cancel)
    {
        if (given is not [string path] || (await AskMountAsync(parsed, path, cancel).ConfigureAwait(false)).Mount is not { } mount)
            return given;
        FamfsMount? whole = mount.FindWhole(Environment.MountTablePath);
        return whole is not null ? [whole.MountPoint] : [.. mount.ReadDevices().Values.Select(d => d.Path)];
    }

    /// <summary>Runs a verb that reads or writes files of a mount: in a process of its own where a famfs is mounted, which is left
    /// behind when a mount among <paramref name="paths"/> stops to answer. Throws TIMEOUT then, within the verb's time.</summary>
    public async Task<int> RunApartAsync(ParseResult parsed, IReadOnlyList<string> paths, Func<Task<int>> run, CancellationToken cancel)
    {
        HashSet<string> watched = [.. paths.Select(path => FamfsMount.FindByName(path, Environment.MountTablePath)?.MountPoint).OfType<string>()];
        if (Environment.StartApart is not { } start || FamfsMount.FindAll(Environment.MountTablePath).Count == 0)
            return await run().ConfigureAwait(false);
        // By a link, names do not tell.
        if (!IsMasterGiven(parsed) && (await AskMountAsync(parsed, paths[^1], cancel).ConfigureAwait(false)).Mount is { } meant)
            watched.Add(meant.MountPoint);
        if (watched.Count == 0)
            return await run().ConfigureAwait(false);
        using ApartProcess other = start(Arguments);
        Task<int> ending = other.WaitAsync();
        try
        {
            await WatchAsync(ending, watched, TimeoutOf(parsed) / 2, cancel).ConfigureAwait(false);
            return await ending.ConfigureAwait(false);
        }
        catch (OperationCanceledException)
        {
            other.EndInput();
            if (await Task.WhenAny(ending, Task.Delay(s_answerTime, Environment.Clock, CancellationToken.None)).ConfigureAwait(false) == ending)
                return await ending.ConfigureAwait(false);
            other.Abandon();
            throw;
        }
        catch (FamfsException)
        {
            other.Abandon();
            throw;
        }
    }

    /// <summary>Returns when the task has ended. Asks the mounts now and then; throws when one does not answer.</summary>
    private async Task WatchAsync(Task ending, IReadOnlyCollection<string> mounts, TimeSpan interval, CancellationToken cancel)
    {
        while (true)
        {
            using (CancellationTokenSource over = CancellationTokenSource.CreateLinkedTokenSource(cancel))
            {
                Task first = await Task.WhenAny(ending, Task.Delay(interval, Environment.Clock, over.Token)).ConfigureAwait(false);
                await over.CancelAsync().ConfigureAwait(false);
                if (first == ending)
                    return;
            }
            cancel.ThrowIfCancellationRequested();
            foreach (string mount in mounts)
            {
                Task asking = AskMountAsync(mount, interval, cancel);
                if (await Task.WhenAny(ending, asking).ConfigureAwait(false) == ending)
                    return;
                await asking.ConfigureAwait(false);
            }
        }
    }

    /// <summary>The mounts of this host, each with what it says or why it says nothing.</summary>
    public Task<IReadOnlyList<FamfsMount>> AskMountsAsync(CancellationToken cancel) => AskMountsAsync(static _ => true, cancel);

    /// <inheritdoc cref="AskMountsAsync(CancellationToken)"/>
    /// <param name="which">False for one that is left out.</param>
    /// <param name="cancel">Ends the wait.</param>
    public async Task<IReadOnlyList<FamfsMount>> AskMountsAsync(Func<FamfsMount, bool> which, CancellationToken cancel)
    {
        List<FamfsMount> asked = [];
        foreach (FamfsMount mount in FamfsMount.FindDistinct(Environment.MountTablePath).Where(which))
        {
            try
            {
                asked.Add((await AskMountAsync(mount.MountPoint, AnswerTime, cancel).ConfigureAwait(false)).Mount ?? mount);
            }
            catch (FamfsException error) when (error.Reason == ErrorReason.Timeout)
            {
                asked.Add(mount.Refusing(error));
            }
        }
        return asked;
    }

    /// <summary>What the master says, or what the mount shows when no master answers, which is said.</summary>
    public async Task<T> AskMasterOrMountAsync<T>(ParseResult parsed, CliTarget target, Func<FamfsClient, Task<T>> ask, MessageParser<T> parser, string[] question, CancellationToken cancel)
        where T : IMessage<T>
    {
        try
        {
            return await ask(target.Client).ConfigureAwait(false);
        }
        catch (FamfsException error) when (target.Mount is not null && error.Reason is ErrorReason.NotMaster or ErrorReason.Timeout)
        {
            using MemoryStream answer = await AskAsync(target.LocalPath!, question, TimeoutOf(parsed), cancel).ConfigureAwait(false);
            T shown = parser.ParseFrom(answer);
            SayMountAnswers(error, target.Mount);
            return shown;
        }
    }

    /// <summary>What the master says of itself; null when it does not answer and the mount is there to be looked at, which is
    /// said.</summary>
    public async Task<GetStatusReply?> AskMasterAloneAsync(ParseResult parsed, CliTarget target, CancellationToken cancel)
    {
        try
        {
            return await target.Client.GetStatusAsync(TimeoutOf(parsed), cancel).ConfigureAwait(false);
        }
        catch (FamfsException error) when (target.Mount is not null && error.Reason is ErrorReason.NotMaster or ErrorReason.Timeout)
        {
            SayMountAnswers(error, target.Mount);
            return null;
        }
    }

    /// <summary>Asks a mount about itself. Errors as <see cref="AskMountAsync(ParseResult, string, CancellationToken)"/>, and the
    /// question's.</summary>
    public async Task<T> AskMountAloneAsync<T>(ParseResult parsed, FamfsMount mount, MessageParser<T> parser, string[] question, CancellationToken cancel)
        where T : IMessage<T>
    {
        using MemoryStream answer = await AskAsync(mount.MountPoint, question, TimeoutOf(parsed), cancel).ConfigureAwait(false);
        return parser.ParseFrom(answer);
    }

    private void SayMountAnswers(FamfsException error, FamfsMount mount) => Remark($"{error.Message}; what follows is what the mount at {mount.MountPoint} shows");

    private async Task<MemoryStream> AskAsync(string path, string[] question, TimeSpan timeout, CancellationToken cancel)
    {
        using CancellationTokenSource over = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        Task<byte[]> asking = Environment.AskMount(question, over.Token);
        try
        {
            return MountQuestions.Open(await asking.WaitAsync(timeout, Environment.Clock, cancel).ConfigureAwait(false));
        }
        catch (TimeoutException)
        {
            string place = FamfsMount.FindByName(path, Environment.MountTablePath)?.MountPoint ?? path;
            throw new FamfsException(ErrorReason.Timeout, string.Create(System.Globalization.CultureInfo.InvariantCulture, $"the mount at {place} does not answer within {timeout.TotalSeconds:0.###} s; its daemon is stopped or hangs")) { Path = place };
        }
        finally
        {
            await over.CancelAsync().ConfigureAwait(false);
        }
    }

    /// <summary>Who a mutation waits for: what was asked, else the local mount when the path is on one.</summary>
    public static Wait WaitOf(CliTarget target, WaitChoice choice)
    {
        WaitChoice meant = choice != WaitChoice.Default ? choice : target.Mount is null ? WaitChoice.None : WaitChoice.Mount;
        return meant switch
        {
            WaitChoice.All => new() { Kind = WaitKind.All },
            WaitChoice.Mount when target.Mount is null => throw new FamfsException(ErrorReason.BadRequest, $"{target.Shown}: --wait mount needs a path on a mount") { Path = target.Shown },
            WaitChoice.Mount => new() { Kind = WaitKind.Mount, MountId = target.Mount!.RequireMountId().ToByteString() },
            _ => new() { Kind = WaitKind.None },
        };
    }

    /// <summary>A writer of JSON as this command prints it.</summary>
    public static Utf8JsonWriter JsonOn(Stream stream) => new(stream, new JsonWriterOptions { Indented = true, Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping });

    /// <summary>Prints one JSON document.</summary>
    public void WriteJson(Action<Utf8JsonWriter> write)
    {
        using MemoryStream stream = new();
        using (Utf8JsonWriter json = JsonOn(stream))
            write(json);
        Out.WriteLine(Encoding.UTF8.GetString(stream.GetBuffer(), 0, (int)stream.Length));
    }

    /// <summary>Prints rows under each other, columns aligned, the numeric ones to the right.</summary>
    public void WriteTable(IReadOnlyList<string> head, IEnumerable<IReadOnlyList<string>> rows, params int[] rightAligned)
    {
        List<IReadOnlyList<string>> all = [head, .. rows];
        int[] widths = WidthsOf(all);
        foreach (IReadOnlyList<string> row in all)
            WriteRow(widths, row, rightAligned);
    }

    /// <summary>The widest cell of each column.</summary>
    public static int[] WidthsOf(IReadOnlyList<IReadOnlyList<string>> rows) => [.. rows[0].Select((_, column) => rows.Max(row => row[column].Length))];

    /// <summary>Prints a row of a table whose columns have these widths at least.</summary>
    public void WriteRow(int[] widths, IReadOnlyList<string> row, params int[] rightAligned)
    {
        StringBuilder line = new();
        for (int i = 0; i < row.Count; i++)
        {
            string cell = rightAligned.Contains(i) ? row[i].PadLeft(widths[i]) : i == row.Count - 1 ? row[i] : row[i].PadRight(widths[i]);
            line.Append(i == 0 ? "" : "  ").Append(cell);
        }
        Out.WriteLine(line.ToString().TrimEnd());
    }

    /// <summary>A mount serves before it has found its master: that may come in a moment.</summary>
    private async Task<string> WaitForMasterAsync(ParseResult parsed, FamfsMount mount, CancellationToken cancel)
    {
        TimeSpan timeout = TimeoutOf(parsed);
        long start = Environment.Clock.GetTimestamp();
        while (Environment.Clock.GetElapsedTime(start) < timeout)
        {
            await Task.Delay(s_poll, Environment.Clock, cancel).ConfigureAwait(false);
            FamfsMount? now = (await AskMountAsync(parsed, mount.MountPoint, cancel).ConfigureAwait(false)).Mount;
            if ((now?.ReadMasterAddress() ?? now?.ReadLogMasterAddress()) is { } address)
                return address;
        }
        throw new FamfsException(ErrorReason.NotMaster, $"{mount.MountPoint}: the mount found no master within {timeout.TotalSeconds:0.###} s; use --master") { Path = mount.MountPoint };
    }

    private static string FromRoot(string path) => path is "/" or "." ? "" : path.TrimStart('/').TrimEnd('/');

    private string? FindSocket() => MasterSocket.FindAddress(MasterSocket.FindPlaces(Environment.Variable, System.Environment.IsPrivilegedProcess));

    private string[] GivenMasters(ParseResult parsed) => [.. (parsed.GetValue(Options.Master) ?? []).SelectMany(Split)];

    private static string[] Split(string? addresses) => (addresses ?? "").Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);

    private FamfsClient ClientOf(ParseResult parsed, string[] addresses, MountView? mount = null, bool reading = false)
    {
        string key = $"{mount?.FileSystem} {reading} {string.Join(',', addresses)}";
        if (!_clients.TryGetValue(key, out FamfsClient? client))
        {
            client = new(new FamfsClientOptions
            {
                Addresses = addresses,
                FindMaster = mount?.FindMaster,
                FileSystem = mount?.FileSystem,
                TrustAddresses = mount?.IsMet ?? true,
                MaxAttempts = reading ? ReadingAttempts : int.MaxValue,
                OnUnreachable = Environment.IsErrorTerminal && !reading ? SayUnreachable : null,
                Timeout = TimeoutOf(parsed),
                Tls = TlsOf(parsed),
                Clock = Environment.Clock,
            });
            _clients.Add(key, client);
        }
        return client;
    }

    /// <summary>What a mount knows of its master.</summary>
    /// <param name="FileSystem">What it must serve.</param>
    /// <param name="IsMet">The addresses come from a mount that is connected there.</param>
    /// <param name="FindMaster">Asks the mount again.</param>
    private sealed record MountView(Guid FileSystem, bool IsMet, Func<string?> FindMaster);

    /// <summary>Where a mount says that its master is by now, asked at most once a second.</summary>
    private sealed class MasterSearch(CliContext context, FamfsMount mount)
    {
        private static readonly TimeSpan s_interval = TimeSpan.FromSeconds(1);

        private readonly Lock _guard = new();

        // Guarded by _guard.
        private FamfsMount _last = mount;
        private long _asked = context.Environment.Clock.GetTimestamp();

        public string? Find()
        {
            lock (_guard)
            {
                if (context.Environment.Clock.GetElapsedTime(_asked) >= s_interval)
                {
                    try
                    {
                        _last = context.AskMountAsync(_last.MountPoint, s_answerTime, CancellationToken.None).GetAwaiter().GetResult().Mount ?? _last;
                    }
                    catch (FamfsException)
                    {
                        // A mount that says nothing leaves what it said before.
                    }
                    _asked = context.Environment.Clock.GetTimestamp();
                }
                try
                {
                    return _last.ReadMasterAddress() ?? _last.ReadLogMasterAddress();
                }
                catch (FamfsException)
                {
                    return null; // its daemon has gone since
                }
            }
        }
    }

    // Somebody who looks on need not wait for the end of the time to know why nothing happens.
    private void SayUnreachable(FamfsException error) => Remark($"{error.Message}; trying on");
}

/// <summary>The choices of --wait.</summary>
internal enum WaitChoice
{
    Default,
    None,
    Mount,
    All,
}
