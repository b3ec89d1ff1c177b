using System.Collections.Immutable;
using System.Diagnostics;
using System.Reflection;
using Famfs.Client;
using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.V1;
using Google.Protobuf;
using Microsoft.Extensions.Logging;

namespace Famfs.Fuse.Replication;

/// <summary>Who this mount is, as its master is told.</summary>
/// <param name="Host">The machine.</param>
/// <param name="Mount">The mount.</param>
/// <param name="Dialect">What its kernel speaks.</param>
/// <param name="MountPoint">Where it is on its host, for people.</param>
/// <param name="Gone">What it knows of older mounts.</param>
internal sealed record Introduction(HostIdentity Host, Guid Mount, string Dialect, string MountPoint, GoneMounts Gone)
{
    /// <summary>A Hello for a stream that is about to start. Evidence of older mounts is repeated in each.</summary>
    /// <param name="position">Replayed up to.</param>
    /// <param name="ended">Older mounts whose line this one has ended.</param>
    public Hello CreateHello(LogPosition position, ImmutableHashSet<Guid> ended)
    {
        Hello hello = new()
        {
            HostId = Host.Host.ToByteString(),
            BootId = Host.Boot.ToByteString(),
            MountId = Mount.ToByteString(),
            Dialect = Dialect,
            Version = typeof(Introduction).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion ?? "",
            HostName = Host.Name,
            MountPoint = MountPoint,
            MachineDigest = ByteString.CopyFrom(Host.MachineDigest),
            Position = position.ToMessage(),
        };
        // Whose daemon may still live, or has left lines in the caches, is not reported.
        hello.OlderMounts.AddRange(Gone.FindOlder().Where(older => ended.Contains(older.MountId.ToGuid("mount_id"))));
        return hello;
    }
}

/// <summary>The link to the master: its stream goes into the replica, acknowledgements go back. On the thread pool, but for
/// what other threads read.</summary>
/// <param name="replica">What is replayed here.</param>
/// <param name="registration">This mount's line.</param>
/// <param name="written">Files that were written; null: writing moves no times.</param>
/// <param name="log">For the operator.</param>
internal sealed class MasterLink(Replica replica, MountRegistration registration, WrittenFiles? written, ILogger log) : ISubscriptionHandler, IAcknowledgements
{
    // Chosen: how soon a mount that knows no master finds the one that the log names.
    private static readonly TimeSpan s_lookAgain = TimeSpan.FromSeconds(1);

    // Chosen: the log comes back by the stream in milliseconds.
    private static readonly TimeSpan s_lookWhileEnding = TimeSpan.FromMilliseconds(5);

    // Chosen: how soon a host that got no block asks again.
    private static readonly TimeSpan s_askAgain = TimeSpan.FromSeconds(10);

    // Chosen: how soon a master that did not record the times of written files is asked again.
    private static readonly TimeSpan s_reportAgain = TimeSpan.FromMinutes(1);

    // Chosen: so often it is told how far the releases of many files are, and what each name adds to that.
    private static readonly TimeSpan s_releases = TimeSpan.FromMilliseconds(100);
    private static readonly TimeSpan s_releasesOfName = TimeSpan.FromMicroseconds(50);

    // What a master takes of one message (docs/protocol.md).
    private const int MostHeld = 4096;

    private Introduction _introduction = null!; // set before the stream starts
    private LogSubscriber? _subscriber; // set before the gate is told of this link

    // Any thread: set by the stream.
    private volatile bool _connected;
    private volatile string _address = "";
    private volatile FamfsClient? _client;
    private volatile string? _problem;
    private volatile bool _renewing;
    private volatile HashSet<ByteString> _told = [];
    private long _looked; // the upkeep thread's
    private volatile string? _blockRefusal; // why the host got no block; stands until the answer to the next try
    private volatile bool _linesCount;
    private long _asked; // the upkeep thread's: when for a block; 0: not of this stream
    private volatile bool _takesWritten;
    private volatile bool _welcomed; // set by the stream, taken by the upkeep thread
    private volatile bool _takesReleased;
    private volatile bool _releasedAnew; // set by the stream, taken by the upkeep thread
    private ReleaseStatement _saidReleased; // the upkeep thread's
    private long _saidReleasedTimestamp; // the upkeep thread's; 0: nothing on this stream
    private MissingDevices? _devices; // set by the upkeep thread, or before there is a stream
    private bool _saidWithout; // the stream's
    private string _saidRefusal = ""; // the stream's
    private readonly HashSet<string> _tried = []; // the stream's: addresses without success, until there is one
    private string _trying = ""; // the stream's
    private string _saidNotRecorded = ""; // the stream's

    /// <summary>Calls the master that has the stream; null while none has it. Any thread.</summary>
    public FamfsClient? Client => _connected ? _client : null;

    /// <summary>True while the stream brings the records, so that memory need not be polled.</summary>
    public bool Connected => _connected;

    /// <summary>Address at which the master that has the stream was reached; empty while none has it.</summary>
    public string MasterAddress => _connected ? _address : "";

    /// <summary>What the master refused this mount for, or why there is none; null while neither is known.</summary>
    public string? Problem => _problem ?? _blockRefusal;

    /// <summary>Address of the master that began the newest term, as the log has it; empty when it names none.</summary>
    public string LogAddress => replica.State.LastTermStarted?.Address ?? "";

    /// <summary>Follows a master until cancelled, or until it refuses this host for good. Tried in turn: the one that the log
    /// names, those that a master named, those of <see cref="FamfsClientOptions.Addresses"/>; again and again, because what the
    /// log says moves on. Where the log names none and none is given, a master of this host is looked for at its
    /// socket.</summary>
    public async Task RunAsync(Introduction introduction, FamfsClientOptions options, CancellationToken cancel)
    {
        _introduction = introduction;
        try
        {
            Func<string?> find = options.Addresses.Count > 0 ? () => LogAddress : () => FamfsClient.IsAddress(LogAddress) ? LogAddress : options.FindSocket();
            while (options.Addresses.Count == 0 && find() is null)
            {
                if (!_saidWithout)
                    ReplicationLog.Degraded(log, "none is known");
                _saidWithout = true;
                _problem = "no master is known; say --master";
                await Task.Delay(s_lookAgain, options.Clock, cancel).ConfigureAwait(false);
            }
            using FamfsClient client = new(options with { FindMaster = find });
            _client = client;
            _subscriber = new(client);
            replica.Gate.SendTo(this);
            await _subscriber.RunAsync(this, cancel).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (cancel.IsCancellationRequested)
        {
            // The mount has ended.
        }
        catch (Exception error)
        {
            // The mount goes on with what memory says.
            _problem = $"{FamfsMount.RegistrationRefused}{error.Message}";
            ReplicationLog.Refused(log, error.Message);
        }
    }

    /// <summary>Set when the mount's line is to be written before a position is acknowledged.</summary>
    public AutoResetEvent LineFirst { get; } = new(false);

    public void Acknowledge(LogPosition position)
    {
        // Where the line counts, its look at a line that has not been written yet would tell the master nothing.
        if (_linesCount && registration.HasLine)
            LineFirst.Set();
        else
            _subscriber!.Acknowledge(position);
    }

    /// <summary>The line has been written as far as <see cref="AckGate.Acknowledged"/> was before. Upkeep thread.</summary>
    public void LineWritten(LogPosition position)
    {
        if (_linesCount && _connected)
            _subscriber!.Acknowledge(position);
    }

    /// <summary>Which devices of the pool this host lacks has changed. Before the positions behind it are acknowledged. Upkeep
    /// thread, or before there is a stream.</summary>
    public void ReportDevices(MissingDevices devices)
    {
        // Whoever makes the next Hello has it, if nobody takes it here.
        Interlocked.Exchange(ref _devices, devices);
        _subscriber?.ReportDevices(devices, replica.Gate.Acknowledged);
    }

    /// <summary>Asks the master for a block of the host table when the mount is about to write its line and has none. Upkeep
    /// thread.</summary>
    public void AskForBlock()
    {
        if (_welcomed)
            (_welcomed, _asked) = (false, 0);
        if (!_connected || !registration.WantsBlock || (_asked != 0 && Stopwatch.GetElapsedTime(_asked) < s_askAgain))
            return;
        if (_subscriber!.Register())
            _asked = Stopwatch.GetTimestamp();
    }

    /// <summary>Called when a master is lost that had the stream. Set before the stream starts.</summary>
    public Action? Lost { get; set; }

    /// <summary>Deleted files that this mount has. Set before the stream starts.</summary>
    public HeldFiles? Held { get; set; }

    /// <summary>Tells the master what this mount has released, when it has more files than its line can name. Upkeep thread.</summary>
    public void ReportReleased()
    {
        if (_releasedAnew)
            (_releasedAnew, _saidReleasedTimestamp) = (false, 0);
        if (!_connected || !_takesReleased || Held is not { } held || held.Count <= MountLine.MaxExceptions)
        {
            return;
        }
        if (_saidReleasedTimestamp != 0 && Stopwatch.GetElapsedTime(_saidReleasedTimestamp) < s_releases + (s_releasesOfName * _saidReleased.Exceptions.Length))
            return;
        ReleaseStatement now = held.Describe(MostHeld);
        if ((_saidReleasedTimestamp != 0 && now.Watermark == _saidReleased.Watermark && now.Exceptions.AsSpan().SequenceEqual(_saidReleased.Exceptions))
            || replica.State.FindTerm(now.Watermark) is not { } term)
        {
            return;
        }
        LogPosition watermark = replica.Position with { Sequence = now.Watermark, Term = term };
        if (_subscriber!.Report(new Released { Watermark = watermark.ToMessage(), HeldInodes = { now.Exceptions.Select(inode => inode.Value) } }))
            (_saidReleased, _saidReleasedTimestamp) = (now, Stopwatch.GetTimestamp());
    }

    /// <summary>Tells the master when files were written, as far as it is due, and shows as the log has them those that it has recorded.
    /// <paramref name="all"/>: due or not. Any thread.</summary>
    public void ReportWritten(bool all = false)
    {
        if (written is null || written.IsEmpty)
            return;
        replica.Settle(written);
        if (!_connected || !_takesWritten)
            return;
        // Before the list is made: what the log sets later came after what is in it.
        LogPosition position = replica.Position;
        if (written.TakeDue(position, all) is { } report && !_subscriber!.Report(report))
            written.OnRefused(TimeSpan.Zero);
    }

    /// <summary>Tells the master everything that waits, until it is in the log here or <paramref name="patience"/> is over: the mount
    /// ends.</summary>
    public async Task ReportLastAsync(TimeSpan patience)
    {
        long start = Stopwatch.GetTimestamp();
        while (written is { IsEmpty: false } && _connected && _takesWritten && Stopwatch.GetElapsedTime(start) < patience)
        {
            ReportWritten(all: true);
            await Task.Delay(s_lookWhileEnding).ConfigureAwait(false);
        }
    }

    public void OnWrittenAnswer(WrittenAnswer answer)
    {
        if (answer.Refusal is not { } refusal)
        {
            written?.OnRecorded(new(answer.Sequence));
            _saidNotRecorded = "";
            return;
        }
        bool isLate = refusal.Reason == ErrorReason.RequestExpired;
        written?.OnRefused(isLate ? s_lookAgain : s_reportAgain);
        if (!isLate && _saidNotRecorded != refusal.Message)
            ReplicationLog.NotRecorded(log, _saidNotRecorded = refusal.Message);
    }

    public void OnRegistration(Registration answer)
    {
        if (answer.Refusal is not { } refusal)
        {
            registration.GrantedSlot = (int)answer.HostSlot;
            _blockRefusal = null;
            return;
        }
        string cause = $"{FamfsMount.RegistrationRefused}{refusal.Message}";
        if (_blockRefusal != cause)
            ReplicationLog.NotRegistered(log, refusal.Message);
        _blockRefusal = cause;
    }

    public Hello CreateHello()
    {
        _trying = _subscriber!.MasterAddress;
        _introduction.Gone.ForgetRecorded(replica.State, _introduction.Host.Host);
        Hello hello = _introduction.CreateHello(replica.Position, registration.Ended);
        hello.MissingDevices = Volatile.Read(ref _devices);
        hello.FollowsGenerations = replica.Pool.Format.EntersGenerations;
        _told = [.. hello.OlderMounts.Select(o => o.MountId)];
        return hello;
    }

    /// <summary>Ends the lines of older mounts of this host whose superblock has gone. Where that cannot be done, a new stream tells the
    /// master: evidence goes out with its Hello alone. Looks once a second. Upkeep thread.</summary>
    public void ReportEnded()
    {
        if (_introduction is not { } introduction || Stopwatch.GetElapsedTime(_looked) < s_lookAgain)
            return;
        _looked = Stopwatch.GetTimestamp();
        HashSet<Guid> gone = [.. introduction.Gone.FindOlder().Select(o => o.MountId.ToGuid("mount_id"))];
        IReadOnlyList<Guid> over = registration.EndOlder(gone);
        introduction.Gone.Forget(over);
        HashSet<ByteString> told = _told;
        if (!_connected || gone.Except(over).Intersect(registration.Ended).All(mount => told.Contains(mount.ToByteString())))
            return;
        _renewing = true;
        _subscriber!.Renew();
    }

    public void OnWelcome(Welcome welcome)
    {
        if (welcome.Registered)
            registration.GrantedSlot = (int)welcome.HostSlot;
        _address = _subscriber!.MasterAddress;
        _linesCount = welcome.LinesCount;
        _takesWritten = welcome.TakesWritten;
        _takesReleased = welcome.TakesReleased;
        _releasedAnew = true;
        _connected = true;
        _problem = null;
        _tried.Clear();
        _welcomed = true;
        _saidWithout = false;
        ReplicationLog.Subscribed(log, _address);
    }

    public void OnRecords(in LogBlock block, LogPosition position) => replica.ApplyPushed(block);

    public void OnSnapshot(in LogBlock block, bool last, LogPosition position) =>
        throw new FamfsException(ErrorReason.NotImplemented, "a mount reads the snapshot of the log from memory, and a master has sent one");

    public void OnLease(TimeSpan timeToLive)
    {
        // The line in memory renews the lease, and no master does.
    }

    public void OnDisconnected(Exception? error)
    {
        bool was = _connected;
        if (was)
            Lost?.Invoke();
        _connected = false;
        written?.OnRefused(TimeSpan.Zero); // what it had is told the next one
        bool renewing = _renewing;
        _renewing = false;
        if (renewing && error is null)
            return; // our own doing; the next stream begins at once
        // A refusal is news whenever its words are; that nobody answers is news once.
        string cause = error?.Message ?? "the master said goodbye";
        bool isRefusal = error is FamfsException { Reason: not (ErrorReason.NotMaster or ErrorReason.Timeout) };
        if (was || !_saidWithout || (isRefusal && cause != _saidRefusal))
            ReplicationLog.Degraded(log, cause);
        _tried.Add(_trying);
        // While there is an address that nobody has tried, it is not known that there is no master.
        if (isRefusal)
            _problem = $"{FamfsMount.RegistrationRefused}{cause}";
        else if (_tried.Contains(_subscriber!.MasterAddress))
            _problem = $"no master is reached: {cause}";
        if (isRefusal)
            _saidRefusal = cause;
        _saidWithout = true; // the next attempts are no news
    }
}

/// <summary>What the link tells the operator.</summary>
internal static partial class ReplicationLog
{
    [LoggerMessage(Level = LogLevel.Information, Message = "subscribed to the master at {Address}")]
    public static partial void Subscribed(ILogger logger, string address);

    [LoggerMessage(Level = LogLevel.Warning, Message = "no master: following the log in memory ({Cause})")]
    public static partial void Degraded(ILogger logger, string cause);

    [LoggerMessage(Level = LogLevel.Warning, Message = "times of written files are shown here only, the log has not got them: {Cause}")]
    public static partial void NotRecorded(ILogger logger, string cause);

    [LoggerMessage(Level = LogLevel.Warning, Message = "files cannot be opened: this host is not registered: {Cause}")]
    public static partial void NotRegistered(ILogger logger, string cause);

    [LoggerMessage(Level = LogLevel.Warning, Message = "programs that change names or attributes get EHOSTDOWN: {Cause}")]
    public static partial void NoChanges(ILogger logger, string cause);

    [LoggerMessage(Level = LogLevel.Warning, Message = "a change through the mount had no answer within its time, and was perhaps made: {Cause}")]
    public static partial void PerhapsMade(ILogger logger, string cause);

    [LoggerMessage(Level = LogLevel.Error, Message = "the master refuses this host: {Cause}")]
    public static partial void Refused(ILogger logger, string cause);
}
