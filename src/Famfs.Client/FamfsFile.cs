using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Interop;
using Famfs.V1;

namespace Famfs.Client;

/// <summary>A file's memory in this process (SAFETY S13).</summary>
public static class FamfsFile
{
    /// <summary>
    /// Maps a whole file of a mounted famfs, shared and coherent with every other mapping of it on this host.
    /// On a famfs kernel that is mmap of the file; elsewhere the extents are mapped from the devices behind
    /// each other, with one page of the mounted file beside them that keeps the file held for as long as the
    /// range lives. Dispose the range to let go.
    /// <para>Errors: BAD_REQUEST without a famfs mount on this host; DEVICE_MISSING, WRONG_FILESYSTEM for devices that
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
        string text = file.ReadAttribute("user.famfs.map")
            ?? throw new FamfsException(ErrorReason.WrongFilesystem, $"{path}: the mount does not say where the file is") { Path = path };
        FileMap map = MapText.Parse(text, out ulong sizeBytes);
        List<MapPiece> pieces = MapPieces.Of(map, sizeBytes, Environment.SystemPageSize);
        return MappedRange.MapDevices(pieces, (long)sizeBytes, RequireDevices(mount, pieces), writable, file);
    }

    private static Dictionary<uint, string> RequireDevices(FamfsMount mount, List<MapPiece> pieces)
    {
        IReadOnlyDictionary<uint, MountDevice> known = mount.ReadDevices();
        Guid fileSystem = mount.RequireFileSystem();
        Dictionary<uint, string> paths = [];
        foreach (uint index in pieces.Select(p => p.Device).Distinct())
        {
            if (!known.TryGetValue(index, out MountDevice device))
                throw new FamfsException(ErrorReason.DeviceMissing, $"{mount.MountPoint}: device {index} is not on this host") { Path = mount.MountPoint };
            RequireSame(device, fileSystem);
            paths.Add(index, device.Path);
        }
        return paths;
    }

    /// <summary>A path may name another device by now; storing there would destroy somebody's data.</summary>
    private static void RequireSame(MountDevice device, Guid fileSystem)
    {
        using MappedDaxDevice opened = MappedDaxDevice.Open(device.Path, readOnly: true, coherent: true);
        SuperblockVerdict verdict = DevicePool.ReadSuperblock(opened, out Superblock? superblock, out string cause);
        // The parser of the other format is the daemon's; its superblock at least is sound.
        if (verdict == SuperblockVerdict.Famfs2)
            return;
        if (verdict != SuperblockVerdict.Native)
            throw Superblock.ErrorOf(verdict, device.Path, cause);
        if (superblock!.FileSystem != fileSystem || superblock.Device != device.Uuid)
            throw new FamfsException(ErrorReason.WrongFilesystem, $"{device.Path}: is device {superblock.Device} of file system {superblock.FileSystem}, not {device.Uuid} of {fileSystem}") { Path = device.Path };
    }
}
