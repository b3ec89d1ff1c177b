using System.Globalization;
using Famfs.V1;

namespace Famfs.Core.Format;

/// <summary>A device of a mount: its uuid, and its path on the mount's host.</summary>
public readonly record struct MountDevice(Guid Uuid, string Path);

/// <summary>The attribute <c>user.famfs.devices</c> of a mount's root: a line <c>INDEX UUID PATH</c> per device of its host.</summary>
public static class DeviceListText
{
    /// <summary>Reads the text. A line of another form throws WRONG_FILESYSTEM; <paramref name="mountPoint"/> is
    /// named in it.</summary>
    public static Dictionary<uint, MountDevice> Parse(string text, string mountPoint)
    {
        Dictionary<uint, MountDevice> devices = [];
        foreach (string line in text.Split('\n', StringSplitOptions.RemoveEmptyEntries))
        {
            string[] words = line.Split(' ', 3);
            if (words.Length != 3 || !uint.TryParse(words[0], NumberStyles.None, CultureInfo.InvariantCulture, out uint index) || !Guid.TryParse(words[1], out Guid uuid))
                throw new FamfsException(ErrorReason.WrongFilesystem, $"{mountPoint}: user.famfs.devices says '{line}', not 'index uuid path'") { Path = mountPoint };
            devices[index] = new(uuid, words[2]);
        }
        return devices;
    }

    /// <summary>Reads the attribute <c>user.famfs.missing-devices</c>: a line <c>INDEX UUID</c> per device that the mount's host lacks.
    /// A line of another form throws WRONG_FILESYSTEM; <paramref name="mountPoint"/> is named in it.</summary>
    public static Dictionary<uint, Guid> ParseMissing(string text, string mountPoint)
    {
        Dictionary<uint, Guid> devices = [];
        foreach (string line in text.Split('\n', StringSplitOptions.RemoveEmptyEntries))
        {
            string[] words = line.Split(' ');
            if (words.Length != 2 || !uint.TryParse(words[0], NumberStyles.None, CultureInfo.InvariantCulture, out uint index) || !Guid.TryParse(words[1], out Guid uuid))
                throw new FamfsException(ErrorReason.WrongFilesystem, $"{mountPoint}: user.famfs.missing-devices says '{line}', not 'index uuid'") { Path = mountPoint };
            devices[index] = uuid;
        }
        return devices;
    }
}
