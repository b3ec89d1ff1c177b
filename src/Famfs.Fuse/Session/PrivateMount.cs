using System.Globalization;
using Famfs.Core.Interop;
using Famfs.Fuse.Dialects;
using Famfs.Fuse.Operations;

namespace Famfs.Fuse.Session;

/// <summary>
/// A FUSE file system that is attached nowhere: this process serves it and, from other threads than those that serve,
/// opens its files through <see cref="Path"/>. No program can see it. It is how the memory of devices that only the
/// kernel's famfs may map is read before there is a mount, and how a kernel is asked what it speaks.
/// </summary>
public sealed class PrivateMount : IDisposable
{
    private readonly DetachedMount _mount;
    private readonly FuseSession _session;

    private PrivateMount(DetachedMount mount, FuseSession session)
    {
        _mount = mount;
        _session = session;
    }

    /// <summary>Directory by which this process reaches it.</summary>
    public string Path => _mount.Path;

    /// <summary>What was agreed on with the kernel.</summary>
    public Negotiated Negotiated => _session.Negotiated;

    /// <summary>The last map that was not given to the kernel.</summary>
    public RefusedFmap? LastRefusedFmap => _session.LastRefusedFmap;

    /// <summary>Makes it and starts serving. Errors as of <see cref="FuseMount.Start"/>; nothing is left then.</summary>
    public static PrivateMount Start(DialectWish dialect, uint? pushIoctl, OperationDependencies dependencies)
    {
        var options = new FuseMountOptions("") { Dialect = dialect, PushIoctl = pushIoctl, WorkerCount = 1 };
        FuseChannel channel = FuseChannel.Open();
        var connection = new DeviceConnection(channel, pushIoctl);
        DetachedMount? mount = null;
        try
        {
            mount = DetachedMount.Create("fuse",
            [
                new("source", "famfs"), new("subtype", "famfs"), new("fd", channel.Descriptor.ToString(CultureInfo.InvariantCulture)),
                new("rootmode", "40000"), new("user_id", "0"), new("group_id", "0"), new("default_permissions", null),
                new("max_read", (options.RequireMaxPages() * InitNegotiation.PageBytes).ToString(CultureInfo.InvariantCulture)),
            ]);
            return new PrivateMount(mount, FuseSession.Start(options, connection, dependencies));
        }
        catch
        {
            // In this order: the kernel may be waiting for the answer to INIT, and closing its connection is one.
            connection.Dispose();
            mount?.Dispose();
            throw;
        }
    }

    /// <summary>Ends it. Every file of it is closed and unmapped by then, or the kernel keeps the devices.</summary>
    public void Dispose()
    {
        _mount.Dispose();
        _session.Dispose();
    }
}
