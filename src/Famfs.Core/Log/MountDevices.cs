using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.V1;

namespace Famfs.Core.Log;

/// <summary>Opens devices by what a mount says of them (<c>user.famfs.devices</c>). A path may name another device by now:
/// who stores there destroys somebody's data.</summary>
public static class MountDevices
{
    /// <summary>Opens the device that a mount of <paramref name="fileSystem"/> calls <paramref name="named"/>, and compares
    /// the uuids in its superblock, of whichever of <paramref name="formats"/>. Errors: WRONG_FILESYSTEM when it is another
    /// device, or none; MEDIA_CORRUPT when its superblock is damaged; as of <see cref="DaxDevice.Open"/>.</summary>
    public static MappedDaxDevice Open(MountDevice named, Guid fileSystem, MediaFormats formats, bool readOnly, bool? coherent = null)
    {
        MappedDaxDevice device = MappedDaxDevice.Open(named.Path, readOnly, coherent);
        try
        {
            (Guid itsFileSystem, Guid itsUuid) = formats.ReadUuids(device) ?? throw formats.Default.Explain(device);
            if (itsFileSystem != fileSystem || itsUuid != named.Uuid)
                throw new FamfsException(ErrorReason.WrongFilesystem, $"{named.Path}: is device {itsUuid} of file system {itsFileSystem}, not {named.Uuid} of {fileSystem}") { Path = named.Path };
            return device;
        }
        catch
        {
            device.Dispose();
            throw;
        }
    }
}
