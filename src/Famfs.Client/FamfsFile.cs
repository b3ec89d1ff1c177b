using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Interop;
using Famfs.Core.Log;
using Famfs.V1;

namespace Famfs.Client;

/// <summary>A file's memory in this process (SAFETY S13).</summary>
public static class FamfsFile
{
    /// <summary>
    /// Maps a whole file of a mounted famfs, shared and coherent with every other mapping of it on this host.
    /// On a famfs kernel that is mmap of the file; elsewhere the extents are mapped from the devices one after
    /// the other, with one page of the mounted file beside them that keeps the file held for as long as the
    /// range lives. Dispose the range to let go.
    /// <para>Errors: BAD_REQUEST without a famfs mount on this host, or without a famfs kernel on a mount that has a lease (policy
    /// <c>lease</c>); DEVICE_MISSING, WRONG_FILESYSTEM for devices that
    /// are not what the mount says; as of open(2).</para>
    /// </summary>
    public static MappedRange Map(string path, bool writable = false)
    {
        FamfsMount mount = FamfsMount.Find(path, out string resolved)
            ?? throw new FamfsException(ErrorReason.BadRequest, $"{path}: not on a famfs mount of this host; its memory is mapped through a mount only") { Path = path };
        // Held from here on: what its attribute says stays true while it is open.
        using MountedFile file = MountedFile.Open(resolved, writable);
        if (mount.ReadDialect() != FamfsMount.StockDialect)
            return MappedRange.MapFile(file);
        // Open, so the mount has decided by now. It could not take a mapping of the devices away.
        if (file.ReadAttribute("user.famfs.lease") is { Length: > 0 } lease)
            throw new FamfsException(ErrorReason.BadRequest, $"{path}: the mount {mount.MountPoint} has a lease of {lease} ms (policy lease), and without a famfs kernel no file of such a mount is mapped from the devices; use mmap of the file, or policy confirmed") { Path = path };
        string text = file.ReadAttribute("user.famfs.map")
            ?? throw new FamfsException(ErrorReason.WrongFilesystem, $"{path}: the mount does not say where the file is") { Path = path };
        FileMap map = MapText.Parse(text, out ulong sizeBytes);
        List<MapPiece> pieces = MapPieces.Of(map, sizeBytes, Environment.SystemPageSize);
        Dictionary<uint, MappedDaxDevice> devices = [];
        try
        {
            OpenDevices(mount, pieces, writable, devices);
            return MappedRange.MapDevices(pieces, (long)sizeBytes, devices.ToDictionary(d => d.Key, d => d.Value.Source), writable, file);
        }
        finally
        {
            foreach (MappedDaxDevice device in devices.Values)
                device.Dispose();
        }
    }

    private static void OpenDevices(FamfsMount mount, List<MapPiece> pieces, bool writable, Dictionary<uint, MappedDaxDevice> opened)
    {
        IReadOnlyDictionary<uint, MountDevice> known = mount.ReadDevices();
        Guid fileSystem = mount.RequireFileSystem();
        foreach (uint index in pieces.Select(p => p.Device).Distinct())
        {
            if (!known.TryGetValue(index, out MountDevice device))
                throw new FamfsException(ErrorReason.DeviceMissing, $"{mount.MountPoint}: device {index} is not on this host") { Path = mount.MountPoint };
            opened.Add(index, MountDevices.Open(device, fileSystem, KnownFormats.All, readOnly: !writable, coherent: true));
        }
    }
}
