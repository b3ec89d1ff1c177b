using System.Security.Cryptography;
using System.Text;
using Famfs.V1;

namespace Famfs.Core;

/// <summary>
/// Who this host is: an id that is random, made once, kept in a state directory, and bound to the machine
/// (SAFETY S14), so that a copied state directory is noticed.
/// </summary>
public sealed record HostIdentity(Guid Host, Guid Boot, Guid MachineDigest, string Name)
{
    /// <summary>Where the identity is kept unless told otherwise.</summary>
    public const string DefaultStateDirectory = "/var/lib/famfs";

    /// <summary>Environment variable that names another state directory.</summary>
    public const string StateDirectoryVariable = "FAMFS_STATE_DIR";

    private const string FileName = "host-id";
    private const string MachineIdFile = "/etc/machine-id";
    private const string HardwareIdFile = "/sys/class/dmi/id/product_uuid";
    private const string Unknown = "-";

    /// <summary>The state directory to use: as given, from the environment, or the default.</summary>
    public static string StateDirectory(string? given) =>
        given ?? Environment.GetEnvironmentVariable(StateDirectoryVariable) ?? DefaultStateDirectory;

    /// <summary>Reads the identity, making it on first use. Throws HOST_CONFLICT when it was made on another
    /// machine and <paramref name="adopt"/> is false.</summary>
    public static HostIdentity Load(string stateDirectory, bool adopt = false)
    {
        string path = Path.Combine(stateDirectory, FileName);
        try
        {
            Directory.CreateDirectory(stateDirectory);
            if (!File.Exists(path))
                Create(path, Guid.NewGuid());
            string[] lines = File.ReadAllLines(path);
            if (lines.Length < 3 || !Guid.TryParse(lines[0], out Guid host) || host == Guid.Empty)
                throw new FamfsException(ErrorReason.BadRequest, $"{path}: is not a host identity (host, machine and hardware, one a line)") { Path = path };
            // The hardware id is readable by root only; unknown on either side proves nothing.
            string machine = ReadDigest(MachineIdFile);
            string hardware = ReadDigest(HardwareIdFile);
            bool moved = Differ(lines[1], machine) || Differ(lines[2], hardware);
            if (moved && !adopt)
                throw new FamfsException(ErrorReason.HostConflict, $"{path}: was made on another machine; remove it to make a new identity") { Path = path };
            if (moved)
            {
                File.Delete(path);
                Create(path, host);
            }
            Guid digest = machine == Unknown ? host : new(Convert.FromHexString(machine), bigEndian: true);
            return new(host, ReadBootId(), digest, Environment.MachineName);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new FamfsException(ErrorReason.BadRequest, $"{path}: {error.Message}", error) { Path = path };
        }
    }

    /// <summary>The id of this boot.</summary>
    public static Guid ReadBootId() =>
        Guid.TryParse(File.ReadAllText("/proc/sys/kernel/random/boot_id"), out Guid boot)
            ? boot
            : throw new FamfsException(ErrorReason.BadRequest, "/proc/sys/kernel/random/boot_id: is not a uuid");

    private static bool Differ(string recorded, string now) => recorded != Unknown && now != Unknown && recorded != now;

    private static void Create(string path, Guid host)
    {
        // Written whole under another name and linked, so that two first users agree on one identity.
        string temporary = $"{path}.{Guid.NewGuid():N}";
        File.WriteAllText(temporary, $"{host}\n{ReadDigest(MachineIdFile)}\n{ReadDigest(HardwareIdFile)}\n");
        try
        {
            File.Move(temporary, path, overwrite: false);
        }
        catch (IOException) when (File.Exists(path))
        {
            File.Delete(temporary);
        }
    }

    private static string ReadDigest(string source)
    {
        try
        {
            return Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(File.ReadAllText(source).Trim())).AsSpan(0, 16));
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            return Unknown;
        }
    }
}
