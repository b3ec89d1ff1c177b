using System.Globalization;
using System.Text;
using Famfs.Core;
using Famfs.Core.Interop;

namespace Famfs.Fuse.Replication;

/// <summary>
/// What a daemon leaves in the state directory about its mount, for a successor: a file named by the mount's id, in it the
/// boot id and the number of the kernel's connection, a line each.
/// </summary>
/// <param name="Mount">The mount.</param>
/// <param name="Boot">The boot of this host that it belongs to.</param>
/// <param name="Connection">Number of its connection in that kernel.</param>
internal sealed record MountReceipt(Guid Mount, Guid Boot, uint Connection)
{
    private string _path = "";

    /// <summary>Leaves the receipt of a mount.</summary>
    public static MountReceipt Leave(string stateDirectory, Guid fileSystem, Guid boot, Guid mount, uint connection)
    {
        string directory = DirectoryOf(stateDirectory, fileSystem);
        Directory.CreateDirectory(directory);
        string path = Path.Combine(directory, mount.ToString());
        WholeFile.WriteNew(path, Encoding.ASCII.GetBytes(string.Create(CultureInfo.InvariantCulture, $"{boot}\n{connection}\n")));
        return new(mount, boot, connection) { _path = path };
    }

    /// <summary>All receipts there are; what is none is skipped.</summary>
    public static IEnumerable<MountReceipt> ReadAll(string stateDirectory, Guid fileSystem)
    {
        string directory = DirectoryOf(stateDirectory, fileSystem);
        if (!Directory.Exists(directory))
            yield break;
        foreach (string path in Directory.EnumerateFiles(directory))
        {
            if (!Guid.TryParse(Path.GetFileName(path), out Guid mount))
                continue;
            string[] lines = File.ReadAllLines(path);
            if (lines.Length >= 2 && Guid.TryParse(lines[0], out Guid boot) && uint.TryParse(lines[1], CultureInfo.InvariantCulture, out uint connection))
                yield return new(mount, boot, connection) { _path = path };
        }
    }

    /// <summary>Takes it away.</summary>
    public void Delete() => File.Delete(_path);

    private static string DirectoryOf(string stateDirectory, Guid fileSystem) => Path.Combine(stateDirectory, "mounts", fileSystem.ToString());
}
