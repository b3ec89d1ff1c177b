using System.Collections.Concurrent;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.V1;

namespace Famfs.Core.Log;

/// <summary>
/// The devices of one file system on this host, by index. A device is found by reading its superblock, so
/// that index → uuid → path is resolved anew on every host. Reading is lock-free; attaching is serialised.
/// </summary>
public sealed class DevicePool : IDisposable
{
    private readonly Lock _attaching = new();

    // Guard: written under _attaching, published whole; readers take the reference once.
    private volatile DaxDevice?[] _devices = [];
    private volatile DeviceIdentity?[] _identities = [];
    private readonly ConcurrentDictionary<DeviceIndex, string> _absences = new(); // any thread

    /// <summary>An empty pool of the file system whose device 0 is <paramref name="primary"/>; its format attaches devices,
    /// that one first.</summary>
    public DevicePool(MediaFormat format, DeviceIdentity primary, long unitBytes)
    {
        Format = format;
        Primary = primary;
        UnitBytes = unitBytes;
    }

    /// <summary>Format of the media.</summary>
    public MediaFormat Format { get; }

    /// <summary>What device 0 is.</summary>
    public DeviceIdentity Primary { get; }

    /// <summary>Bytes of the allocation unit.</summary>
    public long UnitBytes { get; }

    /// <summary>Device 0.</summary>
    public DaxDevice PrimaryDevice => _devices[0]!;

    /// <summary>Indices of the devices that this host has.</summary>
    public IEnumerable<DeviceIndex> Present
    {
        get
        {
            DaxDevice?[] devices = _devices;
            for (int i = 0; i < devices.Length; i++)
            {
                if (devices[i] is not null)
                    yield return new((ushort)i);
            }
        }
    }

    /// <summary>The same pool with its devices reached in another way, made by <paramref name="open"/>; owns those. This
    /// pool stays the caller's.</summary>
    public DevicePool Reopen(Func<DeviceIdentity, DaxDevice> open)
    {
        DaxDevice?[] devices = new DaxDevice?[_devices.Length];
        for (int i = 0; i < devices.Length; i++)
            devices[i] = _identities[i] is { } identity ? open(identity) : null;
        return new(Format, Primary, UnitBytes) { _devices = devices, _identities = [.. _identities] };
    }

    /// <summary>A pool of devices whose superblocks are about to be written. Does not own the devices.</summary>
    internal static DevicePool OfFormatted(MediaFormat format, IReadOnlyList<DaxDevice> devices, IReadOnlyList<DeviceIdentity> identities, long unitBytes) =>
        new(format, identities[0], unitBytes) { _devices = [.. devices], _identities = [.. identities] };

    /// <summary>Adds a further device of this file system, which its superblock or the log names.</summary>
    public DeviceIndex Attach(DaxDevice device) => Attach(device, Format.Identify(this, device));

    /// <summary>Adds a device of which the caller knows what it is.</summary>
    public DeviceIndex Attach(DaxDevice device, DeviceIdentity identity)
    {
        if (identity.FileSystem != Primary.FileSystem)
            throw new FamfsException(ErrorReason.WrongFilesystem, $"{device.Path}: belongs to file system {identity.FileSystem}, not {Primary.FileSystem}") { Path = device.Path };
        lock (_attaching)
        {
            int index = identity.Index.Value;
            if (index < _devices.Length && _devices[index] is { } other)
                throw new FamfsException(ErrorReason.WrongFilesystem, $"{device.Path}: device {index} is already here as {other.Path}") { Path = device.Path };
            if (!device.TryUse(alone: false))
                throw new FamfsException(ErrorReason.Exists, $"{device.Path}: is being formatted by another process of this host") { Path = device.Path };
            DaxDevice?[] devices = new DaxDevice?[Math.Max(_devices.Length, index + 1)];
            DeviceIdentity?[] identities = new DeviceIdentity?[devices.Length];
            _devices.CopyTo(devices, 0);
            _identities.CopyTo(identities, 0);
            devices[index] = device;
            identities[index] = identity;
            device.Coherent = identity.Coherent;
            _identities = identities;
            _devices = devices;
            return identity.Index;
        }
    }

    /// <summary>Lets go of devices that <paramref name="known"/> (the log's) does not have: an addition that
    /// stopped before its record leaves such a superblock. Only while nobody uses them, before serving begins.
    /// Gives their paths.</summary>
    public IReadOnlyList<string> KeepOnly(IReadOnlyList<DeviceAdded> known)
    {
        List<string> dropped = [];
        lock (_attaching)
        {
            DaxDevice?[] devices = [.. _devices];
            DeviceIdentity?[] identities = [.. _identities];
            for (int i = 1; i < devices.Length; i++)
            {
                if (devices[i] is not { } device || (i < known.Count && known[i].DeviceUuid.ToGuid("device_uuid") == identities[i]!.Device))
                    continue;
                dropped.Add(device.Path);
                devices[i] = null;
                identities[i] = null;
                device.Dispose();
            }
            _identities = identities;
            _devices = devices;
        }
        return dropped;
    }

    /// <summary>The device, or null when this host does not have it.</summary>
    public DaxDevice? Find(DeviceIndex index)
    {
        DaxDevice?[] devices = _devices;
        return index.Value < devices.Length ? devices[index.Value] : null;
    }

    /// <summary>The uuid of a present device, or null.</summary>
    public Guid? FindUuid(DeviceIndex index)
    {
        DeviceIdentity?[] identities = _identities;
        return index.Value < identities.Length ? identities[index.Value]?.Device : null;
    }

    /// <summary>The device; throws DEVICE_MISSING when this host does not have it.</summary>
    public DaxDevice Require(DeviceIndex index) =>
        Find(index) ?? throw new FamfsException(ErrorReason.DeviceMissing, $"device {index} of file system {Primary.FileSystem} is not among the devices given on this host{(FindAbsence(index) is { } cause ? $": {cause}" : "")}");

    /// <summary>Whoever looks for the devices tells why one is not here.</summary>
    public void ExplainAbsence(DeviceIndex index, string cause) => _absences[index] = cause;

    /// <summary>Why a device is not here; null when it is, or when nothing is known.</summary>
    public string? FindAbsence(DeviceIndex index) => Find(index) is null ? _absences.GetValueOrDefault(index) : null;

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (DaxDevice? device in _devices)
            device?.Dispose();
    }
}
