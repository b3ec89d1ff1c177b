using System.Globalization;
using Famfs.Core;
using Famfs.Core.Format;
using Famfs.V1;

namespace Famfs.Fuse.Daemon;

/// <summary>
/// What a daemon leaves in the state directory about its mount, so that a successor can report with evidence
/// that an older mount of the same boot is gone (SAFETY S14): its superblock's connection has disappeared.
/// A connection number that lives again under another mount only delays that.
/// </summary>
internal sealed class MountRecord
{
    private const string Connections = "/sys/fs/fuse/connections";

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

    /// <summary>True when the kernel shows connections here at all, which <paramref name="connection"/>, known
    /// to live, proves; only then does absence mean anything.</summary>
    public static bool CanSeeConnections(uint connection) => Exists(connection);

    /// <summary>True when the superblock of a connection is gone.</summary>
    public static bool IsGone(uint connection) => !Exists(connection);

    /// <summary>Older mounts of this boot whose superblock is gone, while <paramref name="living"/> is a
    /// connection that lives.</summary>
    public static List<OlderMount> FindGone(string stateDirectory, Guid fileSystem, HostIdentity host, Guid mount, uint living)
    {
        List<OlderMount> gone = [];
        string directory = DirectoryOf(stateDirectory, fileSystem);
        if (!Directory.Exists(directory) || !CanSeeConnections(living))
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
            else if (connection != living && IsGone(connection))
                gone.Add(new() { MountId = older.ToByteString(), Evidence = GoneEvidence.SuperblockGone, Detail = $"connection {connection} disappeared" });
        }
        return gone;
    }

    /// <summary>Removes the record of a mount whose end is in the host table.</summary>
    public void Delete() => File.Delete(_path);

    private static string DirectoryOf(string stateDirectory, Guid fileSystem) => Path.Combine(stateDirectory, "mounts", fileSystem.ToString());

    private static bool Exists(uint connection) => Directory.Exists(Path.Combine(Connections, connection.ToString(CultureInfo.InvariantCulture)));
}
