using System.Globalization;
using System.Text;
using Famfs.Core;
using Famfs.Fuse.Protocol;
using Famfs.V1;

namespace Famfs.Fuse.Dialects;

/// <summary>Gives one device to a kernel that does not ask for devices (dialect D).</summary>
public interface IDevicePush
{
    /// <summary>Pushes the character device at <paramref name="path"/> under <paramref name="index"/>.
    /// <see cref="Errno.None"/>, or what the kernel said, or why the device could not be opened.</summary>
    Errno Push(string path, uint index);
}

/// <summary>A device as this mount's kernel knows it.</summary>
/// <param name="Index">The kernel's index.</param>
/// <param name="Path">Where it is on this host.</param>
/// <param name="LengthBytes">Usable bytes; no map reaches beyond.</param>
/// <param name="Pool">Its index in the pool.</param>
public sealed record KernelDevice(uint Index, string Path, long LengthBytes, DeviceIndex Pool)
{
    /// <summary>May be left out when a kernel to which devices are pushed refuses it at the start.</summary>
    public bool Optional { get; init; }

    /// <summary>The path as GET_DAXDEV gives it, without a NUL.</summary>
    internal byte[] Name { get; } = Encoding.UTF8.GetBytes(Path);
}

/// <summary>
/// The devices of this host as its kernel counts them: from 0, densely, in the order the daemon learned of them. These
/// are not the pool's indices, which a host may learn late, or have gaps in; every map is translated. A device is never
/// removed and never gets another index, because the kernel never asks again.
/// <para>Threads: reading takes no lock and may be done by any thread; a device that a reader sees is known to the kernel
/// or can be asked for by it. Adding is serialised.</para>
/// </summary>
public sealed class KernelDevices
{
    private readonly Lock _adding = new();

    // Written under _adding, published whole; readers take the reference once.
    private volatile Table _table = new([], []);

    // Guard: _adding.
    private IDevicePush? _push;
    private uint _pushLimit;

    private sealed record Table(KernelDevice[] Devices, KernelDevice?[] ByPoolIndex);

    /// <summary>All devices, by the kernel's index.</summary>
    public IReadOnlyList<KernelDevice> All => _table.Devices;

    /// <summary>Adds a device; gives the kernel's index. In dialect D the kernel has it before any reader sees it.</summary>
    /// <param name="path">The character device; absolute.</param>
    /// <param name="lengthBytes">Usable bytes.</param>
    /// <param name="pool">Its index in the pool.</param>
    /// <param name="optional">Listed before there is a kernel, and left out when that refuses it.</param>
    /// <exception cref="FamfsException">BAD_REQUEST: no absolute path, or longer than 255 bytes; EXISTS: the path or
    /// the pool's index is there already; DEVICE_MISSING: the kernel did not take it. Nothing has changed then.</exception>
    public uint Add(string path, long lengthBytes, DeviceIndex pool, bool optional = false)
    {
        if (!path.StartsWith('/') || path.Contains('\0') || Encoding.UTF8.GetByteCount(path) >= DaxDeviceName.Bytes)
            throw Error(ErrorReason.BadRequest, path, $"{path}: the kernel takes an absolute path of at most {DaxDeviceName.Bytes - 1} bytes", DaxDeviceName.Bytes - 1);
        lock (_adding)
        {
            Table table = _table;
            if (table.Devices.FirstOrDefault(device => device.Path == path) is { } same)
                throw Error(ErrorReason.Exists, path, $"{path}: is the kernel's device {same.Index} already", 0);
            if (Find(table, pool) is { } other)
                throw Error(ErrorReason.Exists, path, $"{path}: device {pool} of the pool is here already as {other.Path}", 0);
            var added = new KernelDevice((uint)table.Devices.Length, path, lengthBytes, pool) { Optional = optional };
            if (Push(added) is var errno and not Errno.None)
                throw PushError(path, errno);
            _table = new([.. table.Devices, added], WithPool(table.ByPoolIndex, added));
            return added.Index;
        }
    }

    /// <summary>The kernel's device that is this one of the pool; null when this host has not given it.</summary>
    public KernelDevice? Find(DeviceIndex pool) => Find(_table, pool);

    /// <summary>The device that the kernel asks for by its own index; null when there is none.</summary>
    public KernelDevice? FindByKernelIndex(ulong index)
    {
        KernelDevice[] devices = _table.Devices;
        return index < (ulong)devices.Length ? devices[index] : null;
    }

    /// <summary>Tries, once and right after INIT, whether the kernel takes devices: pushes the first one. False when there
    /// is none to try with.</summary>
    internal bool TryPushFirst(IDevicePush push, out Errno errno)
    {
        lock (_adding)
        {
            errno = Errno.None;
            if (_table.Devices.Length == 0)
                return false;
            errno = push.Push(_table.Devices[0].Path, 0);
            return true;
        }
    }

    /// <summary>From now on every device is pushed as it is added; those that are there are pushed now, in order. An optional
    /// one that the kernel refuses is left out, and those behind it move up: nobody has been told an index yet.</summary>
    /// <param name="push">The kernel.</param>
    /// <param name="limit">Indices are below this.</param>
    /// <param name="first">What the kernel said to the first device when it has been tried (<see cref="TryPushFirst"/>).</param>
    /// <returns>The devices left out, with what the kernel said.</returns>
    /// <exception cref="FamfsException">DEVICE_MISSING, with the error number: the kernel did not take one that must be. Nothing
    /// is pushed from then on; the devices stay as they were.</exception>
    internal IReadOnlyList<FamfsException> StartPushing(IDevicePush push, int limit, Errno? first)
    {
        List<FamfsException> leftOut = [];
        lock (_adding)
        {
            _push = push;
            _pushLimit = (uint)limit;
            KernelDevice[] listed = _table.Devices;
            List<KernelDevice> taken = [];
            foreach (KernelDevice device in listed)
            {
                KernelDevice next = device with { Index = (uint)taken.Count };
                Errno errno = first is { } known && device.Index == 0 ? known : Push(next);
                if (errno == Errno.None)
                {
                    taken.Add(next);
                    continue;
                }
                leftOut.Add(PushError(device.Path, errno));
                if (device.Optional)
                    continue;
                _push = null;
                throw leftOut[^1];
            }
            if (leftOut.Count > 0)
                _table = new([.. taken], taken.Aggregate<KernelDevice, KernelDevice?[]>([], WithPool));
        }
        return leftOut;
    }

    /// <summary>The kernel has what is listed, of a former daemon: only what is added from now on is pushed.</summary>
    internal void ContinuePushing(IDevicePush push, int limit)
    {
        lock (_adding)
            (_push, _pushLimit) = (push, (uint)limit);
    }

    internal static FamfsException PushError(string path, Errno errno) =>
        new(ErrorReason.DeviceMissing, $"{path}: the kernel does not take this device: {errno} ({Explain(errno)})") { Path = path, ErrorNumber = (int)errno };

    // Beyond the kernel's limit a device only waits here, so that its files are refused with the right cause.
    private Errno Push(KernelDevice device) =>
        _push is null || device.Index >= _pushLimit ? Errno.None : _push.Push(device.Path, device.Index);

    private static string Explain(Errno errno) => errno switch
    {
        Errno.EBUSY => "another mount holds it",
        Errno.EOPNOTSUPP => "it must be bound to the driver fsdev_dax",
        Errno.ENODEV => "no driver is bound to it, or it is no dax device",
        Errno.ENOENT => "there is no such file",
        Errno.ENOTTY => "it has no such ioctl: another number, or another dialect",
        Errno.EACCES or Errno.EPERM => "not permitted",
        _ => "see the kernel's log",
    };

    private static KernelDevice? Find(Table table, DeviceIndex pool) =>
        pool.Value < table.ByPoolIndex.Length ? table.ByPoolIndex[pool.Value] : null;

    private static KernelDevice?[] WithPool(KernelDevice?[] byPoolIndex, KernelDevice device)
    {
        var grown = new KernelDevice?[Math.Max(byPoolIndex.Length, device.Pool.Value + 1)];
        byPoolIndex.CopyTo(grown, 0);
        grown[device.Pool.Value] = device;
        return grown;
    }

    private static FamfsException Error(ErrorReason reason, string path, FormattableString what, int limit) =>
        new(reason, what.ToString(CultureInfo.InvariantCulture)) { Path = path, Limit = (ulong)limit };
}
