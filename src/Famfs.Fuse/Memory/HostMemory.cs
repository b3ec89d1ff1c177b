using System.Runtime.InteropServices;
using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Interop;
using Famfs.Core.Log;
using Famfs.Core.Namespace;
using Famfs.Fuse.Dialects;
using Famfs.Fuse.Operations;
using Famfs.Fuse.Session;
using Famfs.V1;
using Microsoft.Extensions.Logging;
using Microsoft.Win32.SafeHandles;

namespace Famfs.Fuse.Memory;

/// <summary>
/// How this process reaches the memory of its file system, from before its mount exists until after that is gone. Either it
/// maps the devices (<see cref="MappedMemory"/>), or the kernel holds them for its famfs and this process goes through
/// mounts (<see cref="KernelHeldMemory"/>).
/// <para>In this order: <see cref="Open"/>, <see cref="TryLetGo"/> when the log has been read, <see cref="Enter"/> with the
/// mount, <see cref="Look"/> as long as it serves, <see cref="Leave"/>, and <see cref="UseAfterwards"/> when it is gone. One
/// thread at a time: the starting one, then upkeep, then the ending one. <see cref="Resolve"/> is for workers. Of a mount
/// that is taken over: <see cref="Resume"/> in place of the first two.</para>
/// </summary>
internal abstract class HostMemory : IDeviceResolver, IDisposable
{
    /// <summary>The devices that the kernel of the mount is given; empty where this process maps them.</summary>
    public KernelDevices KernelDevices { get; } = new();

    /// <summary>The kernel holds the devices, and this process is a user of its own mount.</summary>
    public virtual bool IsHeldByKernel => false;

    /// <summary>A path by which this process alone reaches the root of its mount; null: it does not go through the mount, or not
    /// now.</summary>
    public virtual string? FindRoot() => null;

    /// <summary>Finds out which way it is. Errors: BAD_REQUEST when only some devices are bound for the kernel's famfs, or when
    /// they are bound for another dialect than <paramref name="forced"/>.</summary>
    public static HostMemory Choose(IReadOnlyList<string> places, MediaFormats formats, FileSystemName? wanted, Dialect? forced, uint? pushIoctl, ILogger log)
    {
        DeviceSearch devices = new(places, formats, TimeProvider.System, wanted);
        IReadOnlyList<string> held = FindHeldByKernel(places, devices, forced);
        return held.Count == 0 ? new MappedMemory(devices) : new KernelHeldMemory(places, formats, wanted, devices, held, forced, pushIoctl, log);
    }

    /// <summary>The devices as they are reached before there is a mount. Errors as of <see cref="DeviceSearch.Open"/>.</summary>
    public abstract DevicePool Open();

    /// <summary>In place of <see cref="Open"/> and <see cref="TryLetGo"/>, for a mount that another daemon served and its kernel still has:
    /// the devices as that kernel knows them, and <paramref name="files"/> that are open on them, which are this object's from then
    /// on. Errors as of <see cref="Open"/>.</summary>
    public virtual DevicePool Resume(KeptDevices kept, IReadOnlyDictionary<InodeNumber, SafeFileHandle> files) => throw new NotSupportedException("the kernel holds no devices");

    /// <summary>After <see cref="Resume"/>: which files there are, as the log says.</summary>
    public virtual void Know(MetaFiles files)
    {
    }

    /// <summary>What the next daemon of this mount needs, where the kernel holds the devices, with the open files of it; null where this
    /// process maps them.</summary>
    /// <param name="pool">The devices.</param>
    /// <param name="refreshedTo">As of <see cref="KeptDevices"/>.</param>
    /// <param name="isServed">Files that are not open can be opened.</param>
    public virtual (KeptDevices Devices, IReadOnlyList<SafeHandle> Files)? DescribeKept(DevicePool pool, LogSequence refreshedTo, bool isServed) => null;

    /// <summary>The log has been read, and a mount comes next. True: the devices are reached through
    /// <paramref name="lasting"/> from now on, and <paramref name="pool"/> is closed.</summary>
    public virtual bool TryLetGo(DevicePool pool, MetaFiles files, out DevicePool lasting)
    {
        lasting = pool;
        return false;
    }

    /// <summary>The mount is there. Throws when its first device cannot be reached through it.</summary>
    public virtual void Enter(FuseMount mount, DevicePool pool, bool readOnly)
    {
    }

    /// <summary>Attaches what <paramref name="known"/> names and the pool lacks, as far as it is found. Reads superblocks, so it
    /// is not called by a worker, nor while records are applied.</summary>
    public abstract DeviceSearchResult Look(DevicePool pool, IReadOnlyList<DeviceAdded> known);

    /// <summary>Attaches a device that somebody names. Errors as of <see cref="DeviceSearch.Attach"/>; nothing has changed then. As
    /// <see cref="Look"/>, not called by a worker.</summary>
    public abstract DeviceIndex Attach(DevicePool pool, IReadOnlyList<DeviceAdded> known, string path);

    /// <summary>Somebody has unmounted the mount, and what this process has open of it is all that keeps it alive.</summary>
    public virtual bool IsAllThatIsLeft => false;

    /// <summary>Lets go of everything that this process has of its own mount. More than once.</summary>
    public virtual void Leave(DevicePool pool)
    {
    }

    /// <summary>The mount is gone, and something has to be said in the memory. Errors as of <see cref="Open"/>.</summary>
    public abstract void UseAfterwards(DevicePool pool, Action<DevicePool> use);

    /// <inheritdoc/>
    public abstract DaxDevice? Resolve(DeviceIndex index);

    /// <inheritdoc/>
    public abstract void Dispose();

    // Those bound for the kernel's famfs, first those that must be of the file system; none when devices are to be mapped.
    private static IReadOnlyList<string> FindHeldByKernel(IReadOnlyList<string> places, DeviceSearch devices, Dialect? forced)
    {
        var binding = new DaxBinding();
        bool IsHeld(string path) => binding.FindName(path) is { } name && binding.ReadDriver(name) == DaxBinding.FsDev;
        IReadOnlyList<string> required = devices.Required;
        List<string> held = [.. required.Where(IsHeld)];
        if (held.Count > 0 && held.Count < required.Count)
            throw new FamfsException(ErrorReason.BadRequest, $"{held[0]}: is bound to {DaxBinding.FsDev}, and {required.First(path => !held.Contains(path))} is not; bind all to one driver (`famfs dax-mode`)") { Path = held[0] };
        if (held.Count == required.Count)
            held = [.. held.Concat(devices.Found.Where(IsHeld)).DistinctBy(binding.FindName)]; // one device may have several paths
        if (held.Count > 0 && forced == DialectTable.Stock)
            throw new FamfsException(ErrorReason.BadRequest, $"{held[0]}: is bound to {DaxBinding.FsDev}, which the stock dialect cannot use; `famfs dax-mode devdax` binds it back") { Path = held[0] };
        if (held.Count == 0 && forced?.Fmaps is not null)
            throw new FamfsException(ErrorReason.BadRequest, $"{places[0]}: is not bound to {DaxBinding.FsDev}, which dialect {forced.Name} needs; `famfs dax-mode famfs` binds a dax device to it") { Path = places[0] };
        return held;
    }
}

/// <summary>Devices that this process maps, and workers read and write.</summary>
internal sealed class MappedMemory(DeviceSearch devices) : HostMemory
{
    private DevicePool? _pool;

    /// <inheritdoc/>
    public override DevicePool Open() => _pool = devices.Open();

    /// <inheritdoc/>
    public override DeviceSearchResult Look(DevicePool pool, IReadOnlyList<DeviceAdded> known) => devices.Look(pool, known);

    /// <inheritdoc/>
    public override DeviceIndex Attach(DevicePool pool, IReadOnlyList<DeviceAdded> known, string path)
    {
        var binding = new DaxBinding();
        if (binding.FindName(path) is { } name && binding.ReadDriver(name) == DaxBinding.FsDev)
            throw new FamfsException(ErrorReason.BadRequest, $"{path}: is bound to {DaxBinding.FsDev}, and the devices of this mount are not; `famfs dax-mode devdax {path}` binds it as they are") { Path = path };
        return devices.Attach(pool, known, path);
    }

    /// <inheritdoc/>
    public override void UseAfterwards(DevicePool pool, Action<DevicePool> use) => use(pool);

    /// <inheritdoc/>
    public override DaxDevice? Resolve(DeviceIndex index) => _pool!.Find(index);

    /// <summary>Nothing: the pool is the replica's.</summary>
    public override void Dispose()
    {
    }
}
