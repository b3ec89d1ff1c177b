namespace Famfs.EndToEnd;

/// <summary>A host with a mount, its daemon, and its keeper if it has one.</summary>
internal sealed class KeptHost : IDisposable
{
    private KeptHost(Cluster cluster)
    {
        Cluster = cluster;
        Address = cluster.StartMaster("a").Address;
        Path = cluster.NewDirectory("a");
    }

    public Cluster Cluster { get; }

    public string Address { get; }

    public string Path { get; }

    public ServerProcess? Keeper { get; private set; }

    public ServerProcess Daemon { get; private set; } = null!;

    public static KeptHost Begin(bool kept = true, long deviceBytes = 64L << 20)
    {
        KeptHost host = new(Cluster.Create(deviceBytes));
        host.Keeper = kept ? host.Cluster.StartKeeper("a") : null;
        host.Daemon = host.Launch();
        host.Daemon.Await("registered in the host table");
        if (kept)
            host.Daemon.Await("is kept");
        return host;
    }

    public ServerProcess Launch() => Cluster.LaunchDaemonAt("a", Path, Address);

    public ServerProcess TakeOver()
    {
        Daemon = Launch();
        Daemon.Await("took over");
        return Daemon;
    }

    public void Kill()
    {
        Daemon.Signal("KILL");
        Daemon.AwaitExit();
    }

    public void Dispose() => Cluster.Dispose();
}
