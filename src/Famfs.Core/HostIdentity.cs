using System.Globalization;
using System.Text;
using Famfs.Core.Format;
using Famfs.Core.Interop;
using Famfs.V1;

namespace Famfs.Core;

/// <summary>Where a host says who it is. Paths; the defaults are Linux's.</summary>
public sealed record HostIdentitySources
{
    public string MachineIdPath { get; init; } = "/etc/machine-id";
    public string BootIdPath { get; init; } = "/proc/sys/kernel/random/boot_id";

    /// <summary>An id of the hardware; readable by root, absent on some machines.</summary>
    public string HardwareIdPath { get; init; } = "/sys/class/dmi/id/product_uuid";

    /// <summary>For people: what <see cref="NameVariable"/> says, because the name of a container is none of its host, else the name of
    /// this machine.</summary>
    public string HostName { get; init; } = Environment.GetEnvironmentVariable(NameVariable) is { Length: > 0 } given ? given : Environment.MachineName;

    /// <summary>Environment variable that names this host.</summary>
    public const string NameVariable = "FAMFS_HOST_NAME";
}

/// <summary>
/// Who this host is (SAFETY S14). The host id is random, made once and kept in <c>host-id</c> of the state
/// directory together with digests of the machine id and, where it can be read, of a hardware id: a state
/// directory that was copied to another machine is refused, because two hosts with one id would each take
/// the other's statements for their own.
/// <code>
/// HOST-UUID
/// machine SHA-256-HEX
/// hardware SHA-256-HEX           absent when the hardware id could not be read
/// </code>
/// </summary>
/// <param name="Host">Random, made once.</param>
/// <param name="Boot">Of the running kernel.</param>
/// <param name="MachineDigest">SHA-256 over the machine id.</param>
/// <param name="Name">For people.</param>
public sealed record HostIdentity(Guid Host, Guid Boot, byte[] MachineDigest, string Name)
{
    /// <summary>State directory when nothing else is said.</summary>
    public const string DefaultStateDirectory = "/var/lib/famfs";

    /// <summary>Environment variable that names the state directory.</summary>
    public const string StateDirectoryVariable = "FAMFS_STATE_DIR";

    private const string FileName = "host-id";

    /// <summary>The locks of this host, next to its identity; none for an identity that was not loaded.</summary>
    public HostLocks Locks { get; init; } = HostLocks.None;

    /// <summary>Reads the identity, making it at the first use. <paramref name="adopt"/>: a host id bound to
    /// another machine is taken over and bound to this one (its old machine must be gone). Errors:
    /// HOST_CONFLICT for a copied id, MEDIA_CORRUPT for a damaged file, READ_ONLY where it cannot be kept.</summary>
    public static HostIdentity Load(string stateDirectory, HostIdentitySources sources, bool adopt = false)
    {
        byte[] machine = Digest("machine", RequireText(sources.MachineIdPath, "this host has no machine id; a container needs its host's"));
        byte[]? hardware = TryReadText(sources.HardwareIdPath) is { } id ? Digest("hardware", id) : null;
        string bootText = RequireText(sources.BootIdPath, "the kernel gives no boot id");
        if (!Guid.TryParse(bootText, out Guid boot))
            throw new FamfsException(ErrorReason.BadRequest, $"{sources.BootIdPath}: '{bootText}' is not a boot id") { Path = sources.BootIdPath };

        string path = Path.Combine(stateDirectory, FileName);
        try
        {
            if (!File.Exists(path))
                Create(stateDirectory, path, Format(Guid.NewGuid(), machine, hardware));
            (Guid host, byte[] boundMachine, byte[]? boundHardware) = Parse(path, File.ReadAllText(path));
            bool bound = boundMachine.AsSpan().SequenceEqual(machine)
                && (hardware is null || boundHardware is null || boundHardware.AsSpan().SequenceEqual(hardware));
            if (!bound && !adopt)
                throw new FamfsException(ErrorReason.HostConflict, $"{path}: this host id was made on another machine; remove the file for a new one, or use --adopt when that machine is gone for good") { Path = path };
            if (!bound || (boundHardware is null && hardware is not null))
                Replace(path, Format(host, machine, hardware));
            return new(host, boot, machine, sources.HostName) { Locks = HostLocks.In(stateDirectory) };
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new FamfsException(ErrorReason.ReadOnly, $"{path}: the host id cannot be kept: {e.Message}", e) { Path = path };
        }
    }

    /// <summary>Whether this host has an identity in a state directory already.</summary>
    public static bool IsMade(string stateDirectory) => File.Exists(Path.Combine(stateDirectory, FileName));

    /// <summary>The state directory: the option, else the environment's, else <see cref="DefaultStateDirectory"/>.</summary>
    public static string StateDirectoryOf(string? option, string? environment) =>
        !string.IsNullOrEmpty(option) ? option : !string.IsNullOrEmpty(environment) ? environment : DefaultStateDirectory;

    private static void Create(string directory, string path, string text)
    {
        Directory.CreateDirectory(directory);
        string fresh = WriteAside(path, text);
        try
        {
            // Two starters at once: whoever is late takes what the first made. File.Move looks first and renames then, over what
            // came in between.
            FileNames.TryLink(fresh, path);
        }
        finally
        {
            File.Delete(fresh);
        }
    }

    private static void Replace(string path, string text)
    {
        string fresh = WriteAside(path, text);
        try
        {
            File.Move(fresh, path, overwrite: true);
        }
        catch
        {
            File.Delete(fresh);
            throw;
        }
    }

    private static string WriteAside(string path, string text)
    {
        string fresh = $"{path}.{Guid.NewGuid():N}";
        WholeFile.WriteNew(fresh, Encoding.UTF8.GetBytes(text));
        return fresh;
    }

    private static string Format(Guid host, byte[] machine, byte[]? hardware)
    {
        StringBuilder text = new();
        text.Append(CultureInfo.InvariantCulture, $"{host:D}\nmachine {Convert.ToHexStringLower(machine)}\n");
        if (hardware is not null)
            text.Append(CultureInfo.InvariantCulture, $"hardware {Convert.ToHexStringLower(hardware)}\n");
        return text.ToString();
    }

    private static (Guid Host, byte[] Machine, byte[]? Hardware) Parse(string path, string text)
    {
        string[] lines = text.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        if (lines.Length is not (2 or 3) || !Guid.TryParseExact(lines[0], "D", out Guid host) || host == Guid.Empty
            || !TryParseDigest(lines[1], "machine ", out byte[]? machine))
            throw Damaged(path);
        byte[]? hardware = null;
        if (lines.Length == 3 && !TryParseDigest(lines[2], "hardware ", out hardware))
            throw Damaged(path);
        return (host, machine!, hardware);
    }

    private static bool TryParseDigest(string line, string name, out byte[]? digest)
    {
        digest = null;
        if (!line.StartsWith(name, StringComparison.Ordinal) || line.Length != name.Length + 2 * Sha256.SizeInBytes)
            return false;
        digest = new byte[Sha256.SizeInBytes];
        return Convert.FromHexString(line.AsSpan(name.Length), digest, out _, out _) == System.Buffers.OperationStatus.Done;
    }

    private static FamfsException Damaged(string path) =>
        new(ErrorReason.MediaCorrupt, $"{path}: is not a host id; remove it for a new one") { Path = path };

    private static byte[] Digest(string what, string id) => Sha256.Hash(Encoding.UTF8.GetBytes($"famfs {what}\n{id.ToLowerInvariant()}"));

    private static string RequireText(string path, string without) => TryReadText(path)
        ?? throw new FamfsException(ErrorReason.BadRequest, $"{path}: {without}") { Path = path };

    private static string? TryReadText(string path)
    {
        try
        {
            string text = File.ReadAllText(path).Trim();
            return text.Length == 0 ? null : text;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }
}
