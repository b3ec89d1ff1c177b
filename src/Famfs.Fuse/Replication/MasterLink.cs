using System.Reflection;
using Famfs.Client;
using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.V1;
using Microsoft.Extensions.Logging;

namespace Famfs.Fuse.Replication;

/// <summary>Who this mount is, as its master is told.</summary>
/// <param name="Host">The machine.</param>
/// <param name="Mount">The mount.</param>
/// <param name="Dialect">What its kernel speaks.</param>
/// <param name="Gone">What it knows of older mounts.</param>
internal sealed record Introduction(HostIdentity Host, Guid Mount, string Dialect, GoneMounts Gone)
{
    /// <summary>A Hello for a stream that is about to start. Evidence of older mounts is repeated in each.</summary>
    public Hello CreateHello(LogPosition position)
    {
        Hello hello = new()
        {
            HostId = Host.Host.ToByteString(),
            BootId = Host.Boot.ToByteString(),
            MountId = Mount.ToByteString(),
            Dialect = Dialect,
            Version = typeof(Introduction).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion ?? "",
            HostName = Host.Name,
            MachineDigest = Google.Protobuf.ByteString.CopyFrom(Host.MachineDigest),
            Position = position.ToMessage(),
        };
        hello.OlderMounts.AddRange(Gone.FindOlder());
        return hello;
    }
}

/// <summary>The link to the master: its stream goes into the replica, acknowledgements go back. On the thread pool, but for
/// what other threads read.</summary>
internal sealed class MasterLink(Replica replica, MountRegistration registration, ILogger log) : ISubscriptionHandler, IAcknowledgements
{
    private Introduction _introduction = null!; // set before the stream starts
    private LogSubscriber? _subscriber; // set before the gate is told of this link

    // Any thread: set by the stream.
    private volatile bool _connected;
    private volatile string _address = "";
    private bool _saidWithout; // the stream's

    /// <summary>True while the stream brings the records, so that memory need not be polled.</summary>
    public bool Connected => _connected;

    /// <summary>Address of the master that took the stream last; empty while none has.</summary>
    public string MasterAddress => _address;

    /// <summary>Follows a master until cancelled, or until it refuses this host for good. Without an
    /// <see cref="FamfsClientOptions.Addresses"/> the last master that the log names is the one.</summary>
    public async Task RunAsync(Introduction introduction, FamfsClientOptions options, CancellationToken cancel)
    {
        _introduction = introduction;
        if (options.Addresses.Count == 0 && replica.State.LastTermStarted is { Address.Length: > 0 } last)
            options = options with { Addresses = [last.Address] };
        if (options.Addresses.Count == 0)
        {
            ReplicationLog.Degraded(log, "none is known");
            return;
        }
        try
        {
            using FamfsClient client = new(options);
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
            ReplicationLog.Refused(log, error.Message);
        }
    }

    public void Acknowledge(LogPosition position) => _subscriber!.Acknowledge(position);

    public Hello CreateHello()
    {
        _introduction.Gone.ForgetRecorded(replica.State, _introduction.Host.Host);
        return _introduction.CreateHello(replica.Position);
    }

    public void OnWelcome(Welcome welcome)
    {
        if (welcome.Registered)
            registration.GrantedSlot = (int)welcome.HostSlot;
        _address = welcome.Address;
        _connected = true;
        ReplicationLog.Subscribed(log, welcome.Address);
    }

    public void OnRecords(in LogBlock block, LogPosition position) => replica.ApplyPushed(block);

    public void OnSnapshot(in LogBlock block, bool last, LogPosition position) =>
        throw new FamfsException(ErrorReason.NotImplemented, "snapshots are not applied by this version");

    public void OnLease(TimeSpan timeToLive)
    {
        // The line in memory renews the lease under policy `confirmed`, the only one this version grants.
    }

    public void OnDisconnected(Exception? error)
    {
        bool was = _connected;
        _connected = false;
        if (was || !_saidWithout)
            ReplicationLog.Degraded(log, error?.Message ?? "the master said goodbye");
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

    [LoggerMessage(Level = LogLevel.Error, Message = "the master refuses this host: {Cause}")]
    public static partial void Refused(ILogger logger, string cause);
}
