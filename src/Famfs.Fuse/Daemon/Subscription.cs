using Famfs.Client;
using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.V1;
using Microsoft.Extensions.Logging;

namespace Famfs.Fuse.Daemon;

/// <summary>Carries the master's stream into the replica, and the replica's acknowledgements back.</summary>
internal sealed class Subscription(Replica replica, MountRegistration registration, MountDescription description, Func<Hello> identify, ILogger log) : ISubscriptionHandler
{
    // Any thread: set by the stream, read by the upkeep thread.
    private volatile bool _connected;

    /// <summary>True while the stream brings the records, so that memory need not be polled.</summary>
    public bool Connected => _connected;

    public Hello CreateHello()
    {
        Hello hello = identify();
        LogPosition position = replica.Position;
        hello.Position = new()
        {
            FileSystemUuid = position.FileSystem.ToByteString(),
            Generation = position.Generation,
            Sequence = position.Sequence.Value,
            Term = position.Term.Value,
        };
        return hello;
    }

    public void OnWelcome(Welcome welcome)
    {
        if (welcome.Registered)
            registration.GrantedSlot = (int)welcome.HostSlot;
        description.Master = welcome.Address;
        _connected = true;
        DaemonLog.Subscribed(log, welcome.Address);
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
        if (was)
            DaemonLog.Degraded(log, error?.Message ?? "the master said goodbye");
    }
}
