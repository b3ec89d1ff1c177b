using System.Globalization;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Interop;
using Famfs.V1;

namespace Famfs.Core.Log;

/// <summary>
/// The directory <c>.meta</c> of a famfs mount, as a process that is not the mount's daemon uses it in place of devices
/// which it cannot map: each file there is a range of a device, which the file's <c>user.famfs.map</c> names.
/// </summary>
internal sealed class MetaDirectory : IDevicePieces
{
    private const string DialectAttribute = "user.famfs.dialect";

    /// <summary>How long the mount may take to learn of space that the caller knows from the log. Chosen: the daemon
    /// follows the log within 100 ms; a stopped one is noticed here.</summary>
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(10);

    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(10);

    private readonly string _mountPoint;
    private readonly string _directory;
    private readonly bool _readOnly;
    private readonly MediaFormats _formats;
    private readonly Func<string, string, string?> _readAttribute;
    private readonly TimeProvider _clock;
    private readonly Lock _gate = new();

    // Guard: _gate. Files never change what they cover; names are not given to others.
    private readonly Dictionary<string, MapExtent> _known = [];

    /// <summary>Looks at a mount.</summary>
    public MetaDirectory(string mountPoint, bool readOnly, MediaFormats formats, TimeProvider clock)
        : this(mountPoint, readOnly, formats, PathAttributes.Read, clock)
    {
    }

    /// <summary>The same with a given way to read an extended attribute of a path.</summary>
    internal MetaDirectory(string mountPoint, bool readOnly, MediaFormats formats, Func<string, string, string?> readAttribute, TimeProvider clock)
    {
        _mountPoint = mountPoint;
        _directory = System.IO.Path.Combine(mountPoint, MetaNames.Directory);
        _readOnly = readOnly;
        _formats = formats;
        _readAttribute = readAttribute;
        _clock = clock;
    }

    /// <summary>True for the root of a famfs mount. Throws HOST_GONE for a mount whose daemon is gone.</summary>
    public static bool IsMountPoint(string place) =>
        PathAttributes.IsDirectoryOrDead(place) && PathAttributes.Read(place, DialectAttribute) is not null;

    /// <summary>Opens the devices that the mount's daemon has, all or those with the given uuids. On a kernel without famfs they
    /// are the ones its root names, mapped as ever: the mount's own files would be page cache there. Errors: as of a
    /// lookup, WRONG_FILESYSTEM, DEVICE_MISSING.</summary>
    public List<DaxDevice> OpenDevices(IEnumerable<Guid>? uuids = null)
    {
        HashSet<Guid>? wanted = uuids?.ToHashSet();
        bool stock = _readAttribute(_mountPoint, DialectAttribute) == "stock";
        Guid fileSystem = Guid.TryParse(_readAttribute(_mountPoint, "user.famfs.uuid"), out Guid uuid)
            ? uuid
            : throw new FamfsException(ErrorReason.WrongFilesystem, $"{_mountPoint}: does not say which file system it is of") { Path = _mountPoint };
        Dictionary<uint, MountDevice> devices = DeviceListText.Parse(_readAttribute(_mountPoint, "user.famfs.devices") ?? "", _mountPoint);
        List<DaxDevice> opened = [];
        try
        {
            foreach ((uint index, MountDevice device) in devices)
            {
                if (wanted?.Contains(device.Uuid) != false)
                    opened.Add(stock ? MountDevices.Open(device, fileSystem, _formats, _readOnly) : OpenThrough(new((ushort)index), device.Uuid, fileSystem));
            }
            return opened;
        }
        catch
        {
            foreach (DaxDevice device in opened)
                device.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    /// <remarks>Waits for the daemon to replay the record that gives the space.</remarks>
    public bool TryFind(DeviceIndex device, long offset, out DevicePiece piece) => TryFind(device, offset, toZero: false, out piece, out _);

    /// <inheritdoc/>
    public bool TryFindToZero(DeviceIndex device, long offset, out DevicePiece piece, out bool isWindow) => TryFind(device, offset, toZero: true, out piece, out isWindow);

    private bool TryFind(DeviceIndex device, long offset, bool toZero, out DevicePiece piece, out bool isWindow)
    {
        isWindow = false;
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
            if (toZero && TryFindWindow(device, offset, out piece))
                return isWindow = true;
            if (_clock.GetElapsedTime(start) >= Patience)
                return false;
            Thread.Sleep(Pause);
        }
    }

    /// <inheritdoc/>
    public string DescribeAbsence(DeviceIndex device, long offset) => string.Create(CultureInfo.InvariantCulture,
        $"no file of {_directory} covers offset {offset} of device {device}; the daemon of mount {_mountPoint} did not learn of it within {Patience.TotalSeconds} s: is it running and following the log?");

    private PiecewiseDaxDevice OpenThrough(DeviceIndex index, Guid uuid, Guid fileSystem)
    {
        string path = System.IO.Path.Combine(_directory, MetaNames.OfSuperblock(index));
        using MappedDaxDevice unit = MappedDaxDevice.OpenFile(path, path, readOnly: true, coherent: false);
        DeviceClaim claim = _formats.Recognize(unit) ?? throw _formats.Default.Explain(unit);
        if (claim.Identity is not { } identity)
            throw new FamfsException(ErrorReason.NotSupportedByFormat, $"{path}: a superblock of format {claim.Format.Name} does not say which device it is of; name the devices") { Path = path };
        return identity.Index == index && identity.Device == uuid && identity.FileSystem == fileSystem
            ? new PiecewiseDaxDevice(path, index, identity.DeviceLengthBytes, identity.Coherent, _readOnly, this)
            : throw new FamfsException(ErrorReason.WrongFilesystem, $"{path}: is device {identity.Index} ({identity.Device}) of file system {identity.FileSystem}, the mount says {index} ({uuid}) of {fileSystem}") { Path = path };
    }

    // Windows come and go, and another may cover a part of what one covered: they are looked for each time.
    private bool TryFindWindow(DeviceIndex device, long offset, out DevicePiece piece)
    {
        piece = default;
        DirectoryInfo windows = new(System.IO.Path.Combine(_directory, MetaNames.Windows));
        if (!windows.Exists) // a daemon that has none
            return false;
        foreach (string path in Directory.EnumerateFiles(windows.FullName))
        {
            if (!MetaNames.TryParseWindow(System.IO.Path.GetFileName(path), out MapExtent extent) || !extent.Overlaps(new(device, offset, 1)))
                continue;
            piece = new(extent.OffsetBytes, extent.LengthBytes, path);
            return true;
        }
        return false;
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
            if (_known.ContainsKey(path) || _readAttribute(path, "user.famfs.map") is not { } text)
                continue;
            FileMap map = MapText.Parse(text, out ulong sizeBytes);
            if (map.ChunkBytes != 0 || map.Extents.Count != 1 || map.Extents[0].LengthBytes != sizeBytes || map.Extents[0].OffsetBytes > long.MaxValue || sizeBytes > long.MaxValue)
                throw new FamfsException(ErrorReason.WrongFilesystem, $"{path}: is not one range of a device") { Path = path };
            _known.Add(path, new(new((ushort)map.Extents[0].Device), (long)map.Extents[0].OffsetBytes, (long)sizeBytes));
        }
    }
}
