using Famfs.Core;
using Famfs.Core.Allocation;
using Famfs.Core.Dax;
using Famfs.Core.Famfs2;
using Famfs.Core.Format;
using Famfs.Core.Format.Famfs2;
using Famfs.Core.Namespace;
using Famfs.V1;

namespace Famfs.Master.State;

/// <summary>What the media format of a file system can express. The native format can everything; what famfs-2
/// cannot is refused here, before anything changes, with the format that can.</summary>
internal sealed class FormatRules(DevicePool pool)
{
    private static readonly string[] s_famfs2Limits =
    [
        "famfs-2: one writer is the operator's discipline; two masters at once are noticed at best",
        "famfs-2: request ids are forgotten at a restart; repeat with OPEN_IF_SAME",
        "famfs-2: nothing is deleted, renamed, staged or compacted, and no time or attribute is kept",
        "famfs-2: no host table; a wait for all covers the mounts that are subscribed now",
    ];

    private readonly bool _native = pool.Format == FileSystemFormat.Native;

    /// <summary>Name of the format.</summary>
    public string Name => _native ? "native" : "famfs-2";

    /// <summary>Records have times.</summary>
    public bool HasTimes => _native;

    /// <summary>New files are zeroed before they are made (SAFETY, last section).</summary>
    public bool ZeroesNewFiles => !_native;

    /// <summary>Masters announce themselves in the log.</summary>
    public bool HasTerms => _native;

    /// <summary>Mounts register in memory.</summary>
    public bool HasHostTable => _native;

    /// <summary>What the format cannot promise, for an operator.</summary>
    public IReadOnlyList<string> Limits => _native ? [] : s_famfs2Limits;

    /// <summary>Number of the inode that the record behind <paramref name="state"/> makes.</summary>
    public InodeNumber NextInode(ReplayState state) =>
        _native ? state.NextInode : Famfs2Layout.InodeOf(Famfs2Translator.EntriesUpTo(state.Position.Sequence));

    /// <summary>The refusal of something that only the native format has, or null.</summary>
    public FamfsException? FindRefusal(string what) =>
        _native ? null : new(ErrorReason.NotSupportedByFormat, $"{what}: not in the famfs-2 format; the native format has it");

    /// <summary>Throws NOT_SUPPORTED_BY_FORMAT unless the format has <paramref name="what"/>.</summary>
    public void Require(string what)
    {
        if (FindRefusal(what) is { } refusal)
            throw refusal;
    }

    /// <summary>Throws NOT_SUPPORTED_BY_FORMAT for a path that does not fit.</summary>
    public void RequirePath(List<byte[]> components, string path)
    {
        int bytes = components.Sum(c => c.Length) + components.Count - 1;
        if (!_native && bytes > Famfs2Layout.MaxPathBytes)
        {
            throw new FamfsException(ErrorReason.NotSupportedByFormat, $"path \"{FileSystemPath.Show(path)}\" is {bytes} bytes long, the limit of famfs-2 is {Famfs2Layout.MaxPathBytes}; the native format has {FileSystemPath.MaxPathBytes}")
            { Path = FileSystemPath.Show(path), Limit = Famfs2Layout.MaxPathBytes };
        }
    }

    /// <summary>The layout within what the format can map.</summary>
    public AllocationRequest RequireLayout(AllocationRequest request, DevicePool devices, ReplayState state)
    {
        if (_native)
            return request;
        if (request.Strips is > Famfs2Layout.MaxExtents and <= AllocationRequest.KernelMaxExtents)
            throw new FamfsException(ErrorReason.NotSupportedByFormat, $"{request.Strips} strips: the limit of famfs-2 is {Famfs2Layout.MaxExtents}; the native format has {AllocationRequest.KernelMaxExtents}") { Limit = Famfs2Layout.MaxExtents };
        // New files are zeroed by the master, so only devices that it has will do.
        List<DeviceIndex> present = [.. devices.Present];
        foreach (DeviceIndex wished in request.Devices ?? [])
        {
            if (wished.Value < state.Devices.Length)
                devices.Require(wished);
        }
        return request with
        {
            ChunkBytes = request.ChunkBytes == 0 ? MediaLayout.UnitBytes : request.ChunkBytes,
            MaxExtents = Famfs2Layout.MaxExtents,
            MaxStrips = Famfs2Layout.MaxExtents,
            Devices = request.Devices is { Count: > 0 } ? request.Devices : present,
        };
    }

    /// <summary>famfs-2: writes the superblock of a device that is about to join, and gives its record.</summary>
    public DeviceAdded PrepareDevice(DevicePool devices, DaxDevice device, DeviceIndex index, AddDeviceRequest request)
    {
        if (device.Coherent != devices.PrimaryDevice.Coherent)
            throw new FamfsException(ErrorReason.NotSupportedByFormat, $"{device.Path}: coherent and other devices cannot be in one famfs-2 pool, which does not say which is which; the native format does") { Path = device.Path };
        Famfs2Superblock superblock = Famfs2Formatter.FormatFurther(device, devices.Famfs2!, request.Force);
        return Famfs2Translator.RecordOf(devices, index, superblock.Device, superblock.DeviceLengthBytes / devices.UnitBytes * devices.UnitBytes);
    }
}
