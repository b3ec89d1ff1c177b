using System.Runtime.InteropServices;
using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Interop;
using Famfs.Core.Log;
using Famfs.Core.Namespace;
using Famfs.Fuse.Dialects;
using Famfs.Fuse.Session;
using Famfs.V1;
using Microsoft.Extensions.Logging;
using Microsoft.Win32.SafeHandles;

namespace Famfs.Fuse.Memory;

/// <summary>
/// Devices that the kernel holds for its famfs. Their memory is read through a private mount first
/// (<see cref="KernelHeldDevices"/>), then through the <c>.meta</c> of the mount itself, by threads that do not serve it, and
/// in the end, when the mount is gone and its line has to say so, through a private one again.
/// </summary>
internal sealed class KernelHeldMemory(
    IReadOnlyList<string> places, MediaFormats formats, FileSystemName? wanted, DeviceSearch devices, IReadOnlyList<string> held, Dialect? forced, uint? pushIoctl, ILogger log) : HostMemory, IDevicePieces
{
    private readonly Dictionary<string, DeviceIdentity> _givenLate = []; // by path; whoever calls Look
    private bool _isResumed; // the mount was another daemon's, and its kernel has the devices
    private IReadOnlyList<string> _held = held; // from TryLetGo on those of this file system, its first device first
    private KernelHeldDevices? _before;
    private MetaFiles? _files; // set before the mount
    private FuseMount? _mount; // set before _inside

    // The way into the mount. Set before upkeep starts, taken away by it or after it; read by whoever reaches a device.
    private DetachedMount? _inside;

    /// <inheritdoc/>
    public override bool IsHeldByKernel => true;

    /// <inheritdoc/>
    public override string? FindRoot() => _inside?.Path;

    /// <inheritdoc/>
    public override DevicePool Open()
    {
        _before = KernelHeldDevices.Open(_held, devices.Required.Count, forced, pushIoctl);
        return _before.OpenPool(formats, wanted);
    }

    /// <inheritdoc/>
    public override bool TryLetGo(DevicePool pool, MetaFiles files, out DevicePool lasting)
    {
        _files = files;
        _held = [.. pool.Present.Select(index => pool.Require(index).Path)];
        lasting = pool.Reopen(device => NewDevice(Path.GetFullPath(pool.Require(device.Index).Path), device));

        // Before the mount: the kernel gives a device to one mount at a time.
        Dispose();

        // In the order of the pool, so that a kernel's index is never above the pool's.
        foreach (DeviceIndex index in lasting.Present)
        {
            DaxDevice device = lasting.Require(index);
            KernelDevices.Add(device.Path, device.LengthBytes, index);
        }
        return true;
    }

    /// <inheritdoc/>
    public override DevicePool Resume(KeptDevices kept, IReadOnlyDictionary<InodeNumber, SafeFileHandle> files)
    {
        List<PiecewiseDaxDevice> opened = [];
        try
        {
            foreach (KeptDevice device in kept.Devices)
            {
                KernelDevices.Add(device.Path, device.LengthBytes, device.Pool);
                PiecewiseDaxDevice made = new(device.Path, device.Pool, device.LengthBytes, coherent: false, readOnly: false, this);
                opened.Add(made);
                foreach (KeptPiece piece in kept.Pieces.Where(p => p.Device == device.Pool))
                {
                    if (files.TryGetValue(piece.Inode, out SafeFileHandle? file))
                        made.Adopt(new(piece.OffsetBytes, piece.LengthBytes, $"{device.Path}: the kept file {piece.Inode}"), file);
                }
            }
            // Of one whose superblock is not open nothing is known. It is looked for later, as one that the kernel has.
            foreach (PiecewiseDaxDevice lacking in opened.Where(d => d.OpenPieces.All(p => p.Place.OffsetBytes != 0)).ToList())
            {
                opened.Remove(lacking);
                lacking.Dispose();
            }
            DevicePool pool = formats.Open(opened);
            _held = [.. pool.Present.Select(index => pool.Require(index).Path)];
            _isResumed = true;
            return pool;
        }
        catch
        {
            opened.ForEach(d => d.Dispose());
            throw;
        }
    }

    /// <inheritdoc/>
    public override void Know(MetaFiles files) => _files = files;

    /// <inheritdoc/>
    public override (KeptDevices Devices, IReadOnlyList<SafeHandle> Files)? DescribeKept(DevicePool pool, LogSequence refreshedTo, bool isServed)
    {
        if (isServed)
            OpenAll(pool);
        List<KeptPiece> pieces = [];
        List<SafeHandle> open = [];
        foreach (DeviceIndex index in pool.Present)
        {
            foreach ((DevicePiece place, SafeHandle file) in ((PiecewiseDaxDevice)pool.Require(index)).OpenPieces)
            {
                if (!_files!.TryFindCovering(index, place.OffsetBytes, out MetaFile known, out _))
                    continue;
                pieces.Add(new(known.Inode, index, place.OffsetBytes, place.LengthBytes));
                open.Add(file);
            }
        }
        return (new([.. KernelDevices.All.Select(d => new KeptDevice(d.Pool, d.LengthBytes, d.Path))], pieces, refreshedTo), open);
    }

    // Before they are used: the daemon that comes next reads the log by them, and has nobody whom it could ask to open them.
    private void OpenAll(DevicePool pool)
    {
        Span<byte> name = stackalloc byte[MetaNames.MaxBytes];
        MetaFile file = default;
        while (_files!.TryGetNext(file.Inode, name, out _, out file))
        {
            if (pool.Find(file.Extent.Device) is PiecewiseDaxDevice device)
                device.RequireOpen(file.Extent.OffsetBytes);
        }
    }

    /// <summary>Opens the way to the log and the host table through the mount itself, and waits until the kernel lets go of
    /// the private mount by which they were read before.</summary>
    public override void Enter(FuseMount mount, DevicePool pool, bool readOnly)
    {
        _mount = mount;
        _inside = mount.OpenInside();
        if (readOnly)
            mount.MakeReadOnly(); // before any file can be opened: the gate is shut
        // Of a mount that is taken over, these files are open, and nobody would answer.
        foreach (DeviceIndex index in _isResumed ? [] : pool.Present)
        {
            try
            {
                // The kernel looks a device's path up as the process that opens the first file on it sees it: this one, and
                // not a program in a container that has no such path.
                KernelHeldDevices.RetryWhileHeld(() => pool.Require(index).Invalidate(0, DaxDevice.LineBytes));
            }
            catch (Exception error) when (index.Value != 0 && error is FamfsException or DeviceFaultException)
            {
                MemoryLog.NotTaken(log, error.Message);
            }
        }
    }

    /// <inheritdoc/>
    public override DeviceSearchResult Look(DevicePool pool, IReadOnlyList<DeviceAdded> known) => devices.Look(pool, known, Attach);

    /// <inheritdoc/>
    public override bool IsAllThatIsLeft => _inside is not null && !_mount!.IsAttached;

    /// <inheritdoc/>
    public override void Leave(DevicePool pool)
    {
        if (Interlocked.Exchange(ref _inside, null) is not { } inside)
            return;
        pool.Dispose();
        inside.Dispose();
    }

    /// <inheritdoc/>
    public override void UseAfterwards(DevicePool pool, Action<DevicePool> use)
    {
        using KernelHeldDevices after = KernelHeldDevices.Open(_held, 1, forced, pushIoctl);
        use(after.OpenPool(formats, wanted));
    }

    /// <summary>None: the kernel reads and writes by itself, and a worker that touched a file of its own mount would wait for
    /// itself.</summary>
    public override DaxDevice? Resolve(DeviceIndex index) => null;

    /// <inheritdoc/>
    public override void Dispose() => Interlocked.Exchange(ref _before, null)?.Dispose();

    bool IDevicePieces.TryFind(DeviceIndex device, long offset, out DevicePiece piece)
    {
        piece = default;
        if (_inside is not { } inside || !_files!.TryFindCovering(device, offset, out MetaFile file, out string name))
            return false;
        piece = new(file.Extent.OffsetBytes, file.Extent.LengthBytes, Path.Combine(inside.Path, MetaNames.Directory, name));
        return true;
    }

    string IDevicePieces.DescribeAbsence(DeviceIndex device, long offset) => _inside is null
        ? $"the mount{(_mount is null ? "" : $" at {_mount.MountPointPath}")} is not there (any more)"
        : $"no replayed record gives the space at offset {offset} of device {device} to the log";

    private PiecewiseDaxDevice NewDevice(string path, DeviceIdentity device) =>
        new(path, device.Index, device.DeviceLengthBytes, device.Coherent, readOnly: false, this);

    /// <summary>Finds out, each through a private mount that ends at once, which of the devices bound for the kernel's famfs are wanted;
    /// gives those to the kernel of this mount, under its next index, and to the pool. Nothing else is taken from whoever
    /// else may want it.</summary>
    private List<DeviceIndex> Attach(DevicePool pool, IReadOnlyList<DeviceAdded> wanted, IReadOnlyList<string> paths, Dictionary<Guid, string> causes)
    {
        List<DeviceIndex> attached = [];
        List<string> ignored = [];
        List<(string Path, DeviceIdentity Identity)> found = [];
        var binding = new DaxBinding();
        foreach (string path in paths.Select(Path.GetFullPath).Distinct())
        {
            if (_inside is null)
                break;
            if (binding.FindName(path) is not { } name || pool.Present.Any(index => binding.FindName(pool.Require(index).Path) == name) || found.Any(f => binding.FindName(f.Path) == name))
                continue;
            if (binding.ReadDriver(name) != DaxBinding.FsDev)
            {
                ignored.Add($"{path} is not bound to {DaxBinding.FsDev} (`famfs dax-mode famfs {path}`)");
                continue;
            }
            try
            {
                if (Identify(path) is { } identity && identity.FileSystem == pool.Primary.FileSystem
                    && wanted.Any(d => d.DeviceUuid.ToGuid("device_uuid") == identity.Device && d.Index == identity.Index.Value))
                    found.Add((path, identity));
            }
            catch (Exception error) when (error is FamfsException or DeviceFaultException or IOException or NotSupportedException)
            {
                ignored.Add(error.Message);
            }
        }
        foreach (IGrouping<DeviceIndex, (string Path, DeviceIdentity Identity)> copies in found.GroupBy(f => f.Identity.Index))
        {
            if (devices.ChooseNamed([.. copies.Select(c => c.Path)]) is not { } path)
            {
                Guid uuid = copies.First().Identity.Device;
                causes[uuid] = DeviceSearch.ExplainCopies(copies.Select(c => c.Path), copies.Key.Value, uuid);
                continue;
            }
            try
            {
                Give(pool, path, copies.First(c => c.Path == path).Identity);
                attached.Add(copies.Key);
            }
            catch (Exception error) when (error is FamfsException or DeviceFaultException or IOException or NotSupportedException)
            {
                ignored.Add(error.Message);
            }
        }
        if (ignored.Count > 0)
        {
            foreach (DeviceAdded device in wanted.Where(d => !causes.ContainsKey(d.DeviceUuid.ToGuid("device_uuid"))))
                causes[device.DeviceUuid.ToGuid("device_uuid")] = $"not found at {string.Join(", ", places)}; {string.Join("; ", ignored)}";
        }
        return attached;
    }

    /// <inheritdoc/>
    public override DeviceIndex Attach(DevicePool pool, IReadOnlyList<DeviceAdded> known, string path)
    {
        var binding = new DaxBinding();
        string name = binding.RequireName(path);
        if (binding.ReadDriver(name) != DaxBinding.FsDev)
            throw new FamfsException(ErrorReason.BadRequest, $"{path}: is not bound to {DaxBinding.FsDev}, as the devices of this mount are; `famfs dax-mode famfs {path}` binds it") { Path = path };
        if (_inside is null)
            throw new FamfsException(ErrorReason.HostGone, $"{path}: the mount is ending") { Path = path };
        foreach (DeviceIndex index in pool.Present.Where(index => binding.FindName(pool.Require(index).Path) == name))
            throw new FamfsException(ErrorReason.Exists, $"{path}: is device {index} of this mount already") { Path = path };
        DeviceIdentity identity = Identify(path) ?? throw new FamfsException(ErrorReason.WrongFilesystem, $"{path}: has no superblock of a file system") { Path = path };
        DeviceIndex wanted = DeviceSearch.RequireWanted(pool, known, identity.FileSystem, identity.Device, path, _ => false);
        Give(pool, path, identity);
        return wanted;
    }

    /// <summary>What the device bound for the kernel's famfs says it is, as a private mount that ends at once shows it.</summary>
    private DeviceIdentity? Identify(string path)
    {
        if (KernelDevices.All.Any(device => device.Path == path))
            return _givenLate.GetValueOrDefault(path); // given to the kernel before, when it did not take it yet
        using KernelHeldDevices found = KernelHeldDevices.Open([path], required: 0, forced, pushIoctl);
        DeviceIdentity? identity = found.ReadIdentity(formats);
        if (identity is null && found.FirstCause.Length > 0)
            throw new FamfsException(ErrorReason.DeviceMissing, found.FirstCause) { Path = path };
        return identity;
    }

    private void Give(DevicePool pool, string path, DeviceIdentity identity)
    {
        if (KernelDevices.All.All(device => device.Path != path))
        {
            // In dialect D the kernel takes it here; in the others it asks when the first file is opened, which is below.
            KernelHeldDevices.RetryWhileHeld(() => KernelDevices.Add(path, identity.DeviceLengthBytes, identity.Index));
            _givenLate[path] = identity;
        }
        PiecewiseDaxDevice device = NewDevice(path, identity);
        try
        {
            KernelHeldDevices.RetryWhileHeld(() => device.Invalidate(0, DaxDevice.LineBytes));
            pool.Attach(device);
        }
        catch
        {
            device.Dispose();
            throw;
        }
    }
}

/// <summary>What this room tells the operator.</summary>
internal static partial class MemoryLog
{
    [LoggerMessage(Level = LogLevel.Error, Message = "{Cause}")]
    public static partial void NotTaken(ILogger logger, string cause);
}
