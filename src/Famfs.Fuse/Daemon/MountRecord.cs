using System.Globalization;
using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Interop;
using Famfs.V1;

namespace Famfs.Fuse.Daemon;

/// <summary>
/// What a daemon leaves in the state directory about its mount, so that a successor can report with evidence
/// that an older mount of the same boot is gone (SAFETY S14): its superblock's connection has disappeared.
/// The kernel gives the lowest free number, so this very mount often has the number of the one before: that is
/// evidence too, because no two superblocks have one. A number that lives again elsewhere only delays the report.
/// </summary>
internal sealed class MountRecord
{
    private readonly string _path;

    private MountRecord(string path) => _path = path;

    /// <summary>Writes the record of a mount.</summary>
    public static MountRecord Create(string stateDirectory, Guid fileSystem, HostIdentity host, Guid mount, uint connection)
    {
        string directory = DirectoryOf(stateDirectory, fileSystem);
        Directory.CreateDirectory(directory);
        string path = Path.Combine(directory, mount.ToString());
        File.WriteAllText(path, string.Create(CultureInfo.InvariantCulture, $"{host.Boot}\n{connection}\n"));
        return new(path);
    }

    /// <summary>Older mounts of this boot whose superblock is gone. <paramref name="living"/> is the connection of
    /// this mount.</summary>
    public static List<OlderMount> FindGone(string stateDirectory, Guid fileSystem, HostIdentity host, Guid mount, FuseConnections connections, uint living)
    {
        List<OlderMount> gone = [];
        string directory = DirectoryOf(stateDirectory, fileSystem);
        if (!Directory.Exists(directory))
            return gone;
        foreach (string path in Directory.EnumerateFiles(directory))
        {
            if (!Guid.TryParse(Path.GetFileName(path), out Guid older) || older == mount)
                continue;
            string[] lines = File.ReadAllLines(path);
            if (lines.Length < 2 || !Guid.TryParse(lines[0], out Guid boot) || !uint.TryParse(lines[1], CultureInfo.InvariantCulture, out uint connection))
                continue;
            if (boot != host.Boot)
                File.Delete(path); // another boot's mounts are gone with it; the new boot id says so
            else if (connection == living || connections.IsGone(connection))
                gone.Add(new() { MountId = older.ToByteString(), Evidence = GoneEvidence.SuperblockGone, Detail = $"connection {connection} disappeared{(connection == living ? " and is another mount's now" : "")}" });
        }
        return gone;
    }

    /// <summary>Removes the record of a mount whose end is in the host table.</summary>
    public void Delete() => File.Delete(_path);

    private static string DirectoryOf(string stateDirectory, Guid fileSystem) => Path.Combine(stateDirectory, "mounts", fileSystem.ToString());
}
