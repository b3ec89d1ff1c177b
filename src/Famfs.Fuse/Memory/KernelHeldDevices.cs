using System.Globalization;
using System.Text;
using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Interop;
using Famfs.Core.Log;
using Famfs.Core.Namespace;
using Famfs.Fuse.Dialects;
using Famfs.Fuse.Operations;
using Famfs.Fuse.Session;
using Famfs.V1;

namespace Famfs.Fuse.Memory;

/// <summary>
/// Devices that only the kernel's famfs may map, each as one file of a private mount, for as long as this object lives: the
/// memory as a daemon needs it before it has a mount, and after. The kernel gives a device to one mount at a time, so
/// this must be gone before another may begin.
/// </summary>
internal sealed class KernelHeldDevices : IDeviceResolver, IOpenGate, ICapacity, IMountDescription, IDisposable
{
    /// <summary>How long a device may be held by a mount that is ending. Chosen.</summary>
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(10);

    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(20);

    // Nobody but this process gets here; still.
    private const uint OwnerOnly = 0x1C0; // 0700

    private readonly InodeTree _tree;
    private readonly List<DaxDevice> _devices = [];
    private readonly List<string> _causes = [];
    private PrivateMount? _mount;
    private int _required;

    private KernelHeldDevices() => _tree = new InodeTree(default);

    /// <summary>Why the first device that was not taken was not; empty when all were.</summary>
    public string FirstCause => _causes.Count == 0 ? "" : _causes[0];

    PoolCapacity ICapacity.Capacity => default;

    /// <summary>Opens devices that are bound to fsdev_dax, of which the first <paramref name="required"/> must open and the others
    /// may. Errors: NOT_SUPPORTED_BY_FORMAT when the kernel offers no famfs to this process; DEVICE_MISSING for a device
    /// that it does not take, which another mount holds, for one.</summary>
    public static KernelHeldDevices Open(IReadOnlyList<string> paths, int required, Dialect? forced, uint? pushIoctl)
    {
        var held = new KernelHeldDevices { _required = required };
        try
        {
            held.Start(paths, forced, pushIoctl);
            return held;
        }
        catch
        {
            held.Dispose();
            throw;
        }
    }

    /// <summary>The pool of the file system that the required devices belong to, or the only one of which a first device is
    /// here; other devices are ignored. Its devices stay this object's. Errors as of <see cref="MediaFormats.Open"/>.</summary>
    public DevicePool OpenPool(MediaFormats formats, FileSystemName? wanted)
    {
        IReadOnlyList<DaxDevice> own = _required == _devices.Count ? _devices : formats.SelectOwn(_devices, _required, wanted);
        DevicePool pool = own.Count > 0 ? formats.Open(own) : throw new FamfsException(ErrorReason.DeviceMissing, $"none of the devices bound to {DaxBinding.FsDev} is the first device of a file system{(_causes.Count == 0 ? "" : $" ({string.Join("; ", _causes)})")}");
        wanted?.Require(pool, own[0].Path);
        return pool;
    }

    /// <summary>What the one device that was opened says it is; null when it was not taken or does not say.</summary>
    public DeviceIdentity? ReadIdentity(MediaFormats formats) => _devices is [var only] ? formats.Recognize(only)?.Identity : null;

    /// <summary>Repeats <paramref name="open"/> while the kernel says that a device is held, a bounded time.</summary>
    public static void RetryWhileHeld(Action open)
    {
        long start = TimeProvider.System.GetTimestamp();
        while (true)
        {
            try
            {
                open();
                return;
            }
            catch (FamfsException error) when (error.ErrorNumber == (int)Protocol.Errno.EBUSY && TimeProvider.System.GetElapsedTime(start) < Patience)
            {
                Thread.Sleep(Pause);
            }
        }
    }

    DaxDevice? IDeviceResolver.Resolve(DeviceIndex index) => null;

    OpenVerdict IOpenGate.Admit(InodeNumber inode) => OpenVerdict.Open;

    bool IMountDescription.TryWrite(MountAttribute attribute, Span<byte> destination, out int bytes)
    {
        bytes = 0;
        return false;
    }

    public void Dispose()
    {
        foreach (DaxDevice device in _devices)
            device.Dispose();
        _mount?.Dispose();
        _tree.Dispose();
    }

    private void Start(IReadOnlyList<string> paths, Dialect? forced, uint? pushIoctl)
    {
        var binding = new DaxBinding();
        var kernelDevices = new KernelDevices();
        _tree.MakeRoot(InodeNumber.Root, OwnerOnly, 0, 0, 0);
        List<int> listed = [];
        for (int k = 0; k < paths.Count; k++)
        {
            try
            {
                List(paths[k], k, binding, kernelDevices);
                listed.Add(k);
            }
            catch (FamfsException error) when (k >= _required)
            {
                // It went away, or cannot be a device of any file system.
                _causes.Add(error.Message);
            }
        }
        RetryWhileHeld(() => _mount = PrivateMount.Start(
            new DialectWish(forced, WantsFmaps: true), pushIoctl,
            new OperationDependencies(_tree, this, this, this, this) { KernelDevices = kernelDevices }));
        if (_mount!.Negotiated.Dialect.Fmaps is null)
            throw new FamfsException(ErrorReason.NotSupportedByFormat, $"{paths[0]}: is bound to {DaxBinding.FsDev}, but the kernel offers no famfs to this process (no such kernel, or no CAP_SYS_RAWIO; `famfs doctor` says more)") { Path = paths[0] };
        _causes.AddRange(_mount.Negotiated.DevicesLeftOut.Select(error => error.Message));
        foreach (int k in listed.Where(k => kernelDevices.Find(new((ushort)k)) is not null))
        {
            string file = $"{_mount.Path}/{NameOf(k)}";
            string path = Path.GetFullPath(paths[k]);
            try
            {
                void Take() => _devices.Add(MappedDaxDevice.OpenFile(file, path, readOnly: false, coherent: false));
                if (k < _required)
                    RetryWhileHeld(Take);
                else
                    Take();
            }
            catch (FamfsException error) when (k >= _required)
            {
                // Somebody else's, probably.
                _causes.Add(error.Message);
            }
        }
    }

    // Makes device k known to the kernel's side, and a file of its length.
    private void List(string path, int k, DaxBinding binding, KernelDevices kernelDevices)
    {
        var index = new DeviceIndex((ushort)k);
        long length = binding.ReadLengthBytes(binding.RequireName(path)) / MediaLayout.UnitBytes * MediaLayout.UnitBytes;
        if (length == 0)
            throw new FamfsException(ErrorReason.BadRequest, $"{path}: is smaller than one unit of {MediaLayout.UnitBytes} bytes") { Path = path };
        kernelDevices.Add(Path.GetFullPath(path), length, index, optional: k >= _required);
        _tree.CreateFile(
            new InodeNumber(InodeNumber.Root.Value + 1 + (ulong)k), InodeNumber.Root, Encoding.UTF8.GetBytes(NameOf(k)),
            OwnerOnly, 0, 0, (ulong)length, 0, [new MapExtent(index, 0, length)], 0);
    }

    private static string NameOf(int number) => number.ToString(CultureInfo.InvariantCulture);
}
