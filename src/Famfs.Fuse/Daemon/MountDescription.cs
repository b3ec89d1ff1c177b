using System.Reflection;
using System.Text.Unicode;
using Famfs.Client;
using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Fuse.Operations;
using Famfs.Fuse.Replication;
using Famfs.Fuse.Session;
using Famfs.V1;

namespace Famfs.Fuse.Daemon;

/// <summary>The root's attributes that describe the mount. Called on workers: no allocation, no lock.</summary>
internal sealed class MountDescription(Replica replica, MountRegistration registration, MasterLink link, MountKeeper keeper, Guid mount) : IMountDescription
{
    private readonly string _version = typeof(MountDescription).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion ?? "";

    // Set once, when the kernel has been agreed with; a worker may run before.
    private volatile FuseMount? _mount;

    /// <summary>The mount is there.</summary>
    public void Attach(FuseMount mount) => _mount = mount;

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
                LogPosition position = replica.Gate.Notified;
                return Utf8.TryWrite(destination, $"{position.Generation}:{position.Sequence.Value}@{position.Term.Value}", out bytes);
            case MountAttribute.Master:
                return link.MasterAddress is { Length: > 0 } address && Utf8.TryWrite(destination, $"{address}", out bytes);
            case MountAttribute.LogMaster:
                return link.LogAddress is { Length: > 0 } named && Utf8.TryWrite(destination, $"{named}", out bytes);
            case MountAttribute.Registration:
                return Utf8.TryWrite(destination, $"{(registration.IsOpen ? FamfsMount.Registered : registration.Problem ?? link.Problem ?? FamfsMount.RegistrationPending)}", out bytes);
            case MountAttribute.Dialect:
                return _mount is { } spoken && Utf8.TryWrite(destination, $"{spoken.Negotiated.Dialect.Name}", out bytes);
            case MountAttribute.Requests:
                return _mount is { } served && served.Statistics.Requests.TryFormat(destination, out bytes);
            case MountAttribute.Failures:
                return _mount is { } met && met.Statistics.Failures.TryFormat(destination, out bytes);
            case MountAttribute.Damage:
                return replica.Damage is { } damage && Utf8.TryWrite(destination, $"{damage.Message}", out bytes);
            case MountAttribute.Devices:
                return TryWriteDevices(destination, out bytes);
            case MountAttribute.MissingDevices:
                return TryWriteMissing(destination, out bytes) && bytes > 0;
            case MountAttribute.Version:
                return Utf8.TryWrite(destination, $"{_version}", out bytes);
            case MountAttribute.Keeper:
                return keeper.KeptBy is { } kept && Utf8.TryWrite(destination, $"{kept}", out bytes);
            case MountAttribute.Lease:
                return registration.LeaseMs > 0 && registration.LeaseMs.TryFormat(destination, out bytes);
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

    /// <summary>One line per device of the pool that is not on this host: index, uuid.</summary>
    private bool TryWriteMissing(Span<byte> destination, out int bytes)
    {
        bytes = 0;
        foreach (DeviceAdded device in replica.State.Devices)
        {
            if (replica.Pool.Find(new((ushort)device.Index)) is not null)
                continue;
            // What has no room is left out: the first ones tell that there is something to do.
            if (!Utf8.TryWrite(destination[bytes..], $"{device.Index} {device.DeviceUuid.ToGuid("device_uuid")}\n", out int written))
                break;
            bytes += written;
        }
        return true;
    }
}
