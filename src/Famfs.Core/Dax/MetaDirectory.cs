using System.Globalization;
using Famfs.Core.Format;
using Famfs.Core.Interop;
using Famfs.V1;

namespace Famfs.Core.Dax;

/// <summary>
/// The directory <c>.meta</c> of a famfs mount, as a process that is not the mount's daemon uses it in place of devices
/// which it cannot map: each file there is a range of a device, which the file's <c>user.famfs.map</c> names.
/// </summary>
internal sealed class MetaDirectory : IDevicePieces
{
    /// <summary>How long the mount may take to learn of space that the caller knows from the log. Chosen: the daemon
    /// follows the log within 100 ms; a stopped one is noticed here.</summary>
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(10);

    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(10);

    private readonly string _mountPoint;
    private readonly string _directory;
    private readonly Func<string, string?> _readMap;
    private readonly TimeProvider _clock;
    private readonly Lock _gate = new();

    // Guard: _gate. Files never change what they cover; names are not given to others.
    private readonly Dictionary<string, MapExtent> _known = [];

    /// <summary>Looks at <paramref name="directory"/>. <paramref name="readMap"/> gives the map of a file as text, null when
    /// it has none.</summary>
    internal MetaDirectory(string mountPoint, string directory, Func<string, string?> readMap, TimeProvider clock)
    {
        _mountPoint = mountPoint;
        _directory = directory;
        _readMap = readMap;
        _clock = clock;
    }

    /// <summary>True for the root of a famfs mount, also of one whose daemon is gone.</summary>
    public static bool IsMount(string path)
    {
        if (!PathAttributes.IsMountPointArgument(path))
            return false;
        try
        {
            return PathAttributes.Read(path, "user.famfs.dialect") is not null;
        }
        catch (FamfsException)
        {
            return true; // a dead mount: opening it says so
        }
    }

    /// <summary>Opens the devices of a mount. On a kernel without famfs they are the ones its root names, mapped as
    /// ever: the mount's own files would be page cache there. Errors: as of a lookup (a mount without daemon says
    /// so), WRONG_FILESYSTEM for a directory that is no mount, DEVICE_MISSING.</summary>
    public static List<DaxDevice> OpenDevices(string mountPoint, bool readOnly, TimeProvider clock)
    {
        string? dialect = PathAttributes.Read(mountPoint, "user.famfs.dialect");
        string? list = PathAttributes.Read(mountPoint, "user.famfs.devices");
        if (dialect is null || list is null)
            throw new FamfsException(ErrorReason.WrongFilesystem, $"{mountPoint}: is a directory, but not the root of a famfs mount") { Path = mountPoint };
        Dictionary<uint, MountDevice> devices = DeviceListText.Parse(list, mountPoint);
        string directory = System.IO.Path.Combine(mountPoint, MetaNames.Directory);
        return dialect == "stock"
            ? OpenAll(devices, device => DaxDevice.Open(device.Value.Path, readOnly))
            : new MetaDirectory(mountPoint, directory, path => PathAttributes.Read(path, "user.famfs.map"), clock).Open(devices, readOnly);
    }

    /// <summary>Opens every device of the list through the directory.</summary>
    internal List<DaxDevice> Open(IReadOnlyDictionary<uint, MountDevice> devices, bool readOnly) => OpenAll(devices, device =>
    {
        DeviceIndex index = new((ushort)device.Key);
        string path = System.IO.Path.Combine(_directory, MetaNames.OfSuperblock(index));
        using MappedDaxDevice unit = MappedDaxDevice.OpenFile(path, path, readOnly: true, coherent: false);
        Superblock superblock = DevicePool.RequireSuperblock(unit, wholeDevice: false);
        if (superblock.Index != index || superblock.Device != device.Value.Uuid)
            throw new FamfsException(ErrorReason.WrongFilesystem, $"{path}: is device {superblock.Index} ({superblock.Device}), the mount says {index} ({device.Value.Uuid})") { Path = path };
        return new MountedDaxDevice(path, index, superblock.DeviceLengthBytes, superblock.Coherent, readOnly, this);
    });

    /// <inheritdoc/>
    /// <remarks>Waits for the daemon to replay the record that gives the space.</remarks>
    public bool TryFind(DeviceIndex device, long offset, out DevicePiece piece)
    {
        long start = _clock.GetTimestamp();
        while (true)
        {
            lock (_gate)
            {
                if (TryFindKnown(device, offset, out piece))
                    return true;
                Scan();
                if (TryFindKnown(device, offset, out piece))
                    return true;
            }
            if (_clock.GetElapsedTime(start) >= Patience)
                return false;
            Thread.Sleep(Pause);
        }
    }

    /// <inheritdoc/>
    public string DescribeAbsence(DeviceIndex device, long offset) => string.Create(CultureInfo.InvariantCulture,
        $"no file of {_directory} covers offset {offset} of device {device}; the daemon of mount {_mountPoint} did not learn of it within {Patience.TotalSeconds} s: is it running and following the log?");

    private static List<DaxDevice> OpenAll(IReadOnlyDictionary<uint, MountDevice> devices, Func<KeyValuePair<uint, MountDevice>, DaxDevice> open)
    {
        List<DaxDevice> opened = [];
        try
        {
            foreach (KeyValuePair<uint, MountDevice> device in devices)
                opened.Add(open(device));
            return opened;
        }
        catch
        {
            foreach (DaxDevice device in opened)
                device.Dispose();
            throw;
        }
    }

    private bool TryFindKnown(DeviceIndex device, long offset, out DevicePiece piece)
    {
        foreach ((string path, MapExtent extent) in _known)
        {
            if (extent.Device == device && offset >= extent.OffsetBytes && offset - extent.OffsetBytes < extent.LengthBytes)
            {
                piece = new(extent.OffsetBytes, extent.LengthBytes, path);
                return true;
            }
        }
        piece = default;
        return false;
    }

    private void Scan()
    {
        foreach (string path in Directory.EnumerateFiles(_directory))
        {
            if (_known.ContainsKey(path) || _readMap(path) is not { } text)
                continue;
            FileMap map = MapText.Parse(text, out ulong sizeBytes);
            if (map.ChunkBytes != 0 || map.Extents.Count != 1 || map.Extents[0].LengthBytes != sizeBytes || map.Extents[0].OffsetBytes > long.MaxValue || sizeBytes > long.MaxValue)
                throw new FamfsException(ErrorReason.WrongFilesystem, $"{path}: is not one range of a device") { Path = path };
            _known.Add(path, new(new((ushort)map.Extents[0].Device), (long)map.Extents[0].OffsetBytes, (long)sizeBytes));
        }
    }
}
