using System.Globalization;
using System.Text;
using Famfs.Core;
using Famfs.Core.Interop;

namespace Famfs.Fuse.Replication;

/// <summary>
/// What a daemon leaves in the state directory about its mount before it writes the mount's line, for a successor: a file named
/// by the mount's id, in it the boot id and the number of the kernel's connection, a line each. A mount without a line holds
/// nothing that anybody would have to prove.
/// </summary>
/// <param name="Mount">The mount.</param>
/// <param name="Boot">The boot of this host that it belongs to.</param>
/// <param name="Connection">Number of its connection in that kernel.</param>
internal sealed record MountReceipt(Guid Mount, Guid Boot, uint Connection)
{
    private string _path = "";

    /// <summary>The receipt of a mount, which is not there yet.</summary>
    public static MountReceipt Of(string stateDirectory, Guid fileSystem, Guid boot, Guid mount, uint connection) =>
        new(mount, boot, connection) { _path = Path.Combine(DirectoryOf(stateDirectory, fileSystem), mount.ToString()) };

    /// <summary>It lies there.</summary>
    public bool IsLeft => File.Exists(_path);

    /// <summary>Leaves it. Throws IOException when the directory cannot take it.</summary>
    public void Leave()
    {
        Directory.CreateDirectory(Path.GetDirectoryName(_path)!);
        WholeFile.WriteNew(_path, Encoding.ASCII.GetBytes(string.Create(CultureInfo.InvariantCulture, $"{Boot}\n{Connection}\n")));
    }

    /// <summary>All receipts there are; what is none, or is taken away meanwhile, is skipped.</summary>
    public static IEnumerable<MountReceipt> ReadAll(string stateDirectory, Guid fileSystem)
    {
        string directory = DirectoryOf(stateDirectory, fileSystem);
        if (!Directory.Exists(directory))
            yield break;
        foreach (string path in Directory.EnumerateFiles(directory))
        {
            if (!Guid.TryParse(Path.GetFileName(path), out Guid mount))
                continue;
            string[] lines = ReadLines(path);
            if (lines.Length >= 2 && Guid.TryParse(lines[0], out Guid boot) && uint.TryParse(lines[1], CultureInfo.InvariantCulture, out uint connection))
                yield return new(mount, boot, connection) { _path = path };
        }
    }

    // Other threads, and other daemons of this host, take receipts away.
    private static string[] ReadLines(string path)
    {
        try
        {
            return File.ReadAllLines(path);
        }
        catch (FileNotFoundException)
        {
            return [];
        }
    }

    /// <summary>Takes it away, if it is there.</summary>
    public void Delete()
    {
        if (File.Exists(_path))
            File.Delete(_path);
    }

    private static string DirectoryOf(string stateDirectory, Guid fileSystem) => Path.Combine(stateDirectory, "mounts", fileSystem.ToString());
}
