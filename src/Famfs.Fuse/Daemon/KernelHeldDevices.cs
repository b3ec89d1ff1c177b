using System.Globalization;
using System.Text;
using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Interop;
using Famfs.Core.Namespace;
using Famfs.Fuse.Dialects;
using Famfs.Fuse.Operations;
using Famfs.Fuse.Session;
using Famfs.V1;

namespace Famfs.Fuse.Daemon;

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
    private readonly List<string> _paths = [];
    private PrivateMount? _mount;

    private KernelHeldDevices() => _tree = new InodeTree(default);

    /// <summary>Opens one of the devices; it must not outlive this object. A device that a mount still holds is waited for,
    /// a bounded time. Errors: DEVICE_MISSING for one that the kernel does not take, or that is not among the paths, or
    /// when this object is gone.</summary>
    public DaxDevice OpenDevice(string path, bool readOnly, bool? coherent)
    {
        int number = _paths.IndexOf(path);
        if (number < 0 || _mount is not { } mount)
            throw new FamfsException(ErrorReason.DeviceMissing, $"{path}: is bound to {DaxBinding.FsDev}; a mount takes it when it is mounted anew") { Path = path };
        DaxDevice? device = null;
        RetryWhileHeld(() => device = MappedDaxDevice.OpenFile($"{mount.Path}/{NameOf(number)}", path, readOnly, coherent ?? false));
        return device!;
    }

    /// <summary>What the kernel speaks.</summary>
    public Negotiated Negotiated => _mount!.Negotiated;

    PoolCapacity ICapacity.Capacity => default;

    /// <summary>Opens devices that are bound to fsdev_dax. Errors: NOT_SUPPORTED_BY_FORMAT when the kernel offers no famfs to
    /// this process; DEVICE_MISSING for a device that it does not take, which another mount holds, for one.</summary>
    public static KernelHeldDevices Open(IReadOnlyList<string> paths, Dialect? forced, uint? pushIoctl)
    {
        var held = new KernelHeldDevices();
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
        Interlocked.Exchange(ref _mount, null)?.Dispose();
        _tree.Dispose();
    }

    private void Start(IReadOnlyList<string> paths, Dialect? forced, uint? pushIoctl)
    {
        var binding = new DaxBinding();
        var kernelDevices = new KernelDevices();
        _paths.AddRange(paths);
        _tree.MakeRoot(InodeNumber.Root, OwnerOnly, 0, 0, 0);
        for (int k = 0; k < paths.Count; k++)
        {
            var index = new DeviceIndex((ushort)k);
            long length = binding.ReadLengthBytes(binding.RequireName(paths[k])) / MediaLayout.UnitBytes * MediaLayout.UnitBytes;
            if (length == 0)
                throw new FamfsException(ErrorReason.BadRequest, $"{paths[k]}: is smaller than one unit of {MediaLayout.UnitBytes} bytes") { Path = paths[k] };
            kernelDevices.Add(Path.GetFullPath(paths[k]), length, index);
            _tree.CreateFile(
                new InodeNumber(InodeNumber.Root.Value + 1 + (ulong)k), InodeNumber.Root, Encoding.UTF8.GetBytes(NameOf(k)),
                OwnerOnly, 0, 0, (ulong)length, 0, [new MapExtent(index, 0, length)], 0);
        }
        _mount = PrivateMount.Start(
            new DialectWish(forced, WantsFmaps: true), pushIoctl,
            new OperationDependencies(_tree, this, this, this, this) { KernelDevices = kernelDevices });
        if (_mount.Negotiated.Dialect.Fmaps is null)
            throw new FamfsException(ErrorReason.NotSupportedByFormat, $"{paths[0]}: is bound to {DaxBinding.FsDev}, but the kernel offers no famfs to this process (no such kernel, or no CAP_SYS_RAWIO; `famfs doctor` says more)") { Path = paths[0] };
    }

    private static string NameOf(int number) => number.ToString(CultureInfo.InvariantCulture);
}
