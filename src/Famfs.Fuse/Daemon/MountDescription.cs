using System.Text.Unicode;
using Famfs.Core;
using Famfs.Fuse.Operations;

namespace Famfs.Fuse.Daemon;

/// <summary>The root's attributes that describe the mount. Called on workers: no allocation, no lock.</summary>
internal sealed class MountDescription(Replica replica, Guid mount) : IMountDescription
{
    // Replaced whole when the master changes.
    private volatile string _master = "";

    // Set once, when the kernel has been agreed with; a worker may run before.
    private volatile string _dialect = "";

    /// <summary>Address of the master; empty when none is known.</summary>
    public string Master
    {
        get => _master;
        set => _master = value;
    }

    /// <summary>Name of the dialect spoken; empty until it is known.</summary>
    public string Dialect
    {
        get => _dialect;
        set => _dialect = value;
    }

    /// <summary>Counts the messages read; null until there is a mount. Set once.</summary>
    public Func<long>? CountRequests { get; set; }

    public bool TryWrite(MountAttribute attribute, Span<byte> destination, out int bytes)
    {
        bytes = 0;
        switch (attribute)
        {
            case MountAttribute.Uuid:
                return Utf8.TryWrite(destination, $"{replica.Pool.Primary.FileSystem}", out bytes);
            case MountAttribute.Mount:
                return Utf8.TryWrite(destination, $"{mount}", out bytes);
            case MountAttribute.Position:
                LogPosition position = replica.Notified;
                return Utf8.TryWrite(destination, $"{position.Generation}:{position.Sequence.Value}@{position.Term.Value}", out bytes);
            case MountAttribute.Master:
                return _master.Length > 0 && Utf8.TryWrite(destination, $"{_master}", out bytes);
            case MountAttribute.Dialect:
                return _dialect.Length > 0 && Utf8.TryWrite(destination, $"{_dialect}", out bytes);
            case MountAttribute.Requests:
                return CountRequests is { } count && count().TryFormat(destination, out bytes);
            case MountAttribute.Damage:
                return replica.Damage is { } damage && Utf8.TryWrite(destination, $"{damage.Message}", out bytes);
            case MountAttribute.Devices:
                return TryWriteDevices(destination, out bytes);
            default:
                return false;
        }
    }

    /// <summary>One line per device of this host: index, uuid, path.</summary>
    private bool TryWriteDevices(Span<byte> destination, out int bytes)
    {
        bytes = 0;
        foreach (DeviceIndex index in replica.Pool.Present)
        {
            if (!Utf8.TryWrite(destination[bytes..], $"{index.Value} {replica.Pool.FindUuid(index)} {Path.GetFullPath(replica.Pool.Require(index).Path)}\n", out int written))
                return false;
            bytes += written;
        }
        return true;
    }
}
