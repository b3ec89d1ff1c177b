using System.Text;
using Famfs.Core.Interop;
using Famfs.V1;

namespace Famfs.Core;

/// <summary>The socket that a master listens on when nothing else is said, and that its callers of the same host look for.</summary>
public static class MasterSocket
{
    /// <summary>Environment variable that names the directory.</summary>
    public const string DirectoryVariable = "FAMFS_RUN_DIR";

    /// <summary>Its directory where a privileged master runs.</summary>
    public const string DefaultDirectory = "/run/famfs";

    /// <summary>What an address of a unix socket begins with.</summary>
    public const string Prefix = "unix:";

    /// <summary>sun_path of sys/un.h without its NUL.</summary>
    public const int MaxPathBytes = 107;

    private const string UserDirectoryVariable = "XDG_RUNTIME_DIR";
    private const string FileName = "master.sock";

    /// <summary>Where the socket may be, the first choice first: in the directory that the environment names, else in
    /// <see cref="DefaultDirectory"/> and in the user's own, which an ordinary user prefers.</summary>
    public static IReadOnlyList<string> FindPlaces(Func<string, string?> variable, bool privileged)
    {
        if (variable(DirectoryVariable) is { Length: > 0 } said)
            return [Path.Combine(Path.GetFullPath(said), FileName)];
        string shared = Path.Combine(DefaultDirectory, FileName);
        if (variable(UserDirectoryVariable) is not { Length: > 0 } own || !Path.IsPathRooted(own))
            return [shared];
        string users = Path.Combine(own, "famfs", FileName);
        return privileged ? [shared, users] : [users, shared];
    }

    /// <summary>The same for this process.</summary>
    public static IReadOnlyList<string> FindPlaces() => FindPlaces(Environment.GetEnvironmentVariable, Environment.IsPrivilegedProcess);

    /// <summary>Address of a socket that is there, or null. Nobody need listen on it.</summary>
    public static string? FindAddress(IReadOnlyList<string> places) => places.FirstOrDefault(File.Exists) is { } path ? Prefix + path : null;

    /// <summary>The same for this process.</summary>
    public static string? FindAddress() => FindAddress(FindPlaces());

    /// <summary>Address to listen on: the first of the places whose directory can be written to, or made by
    /// <see cref="MakeDirectory"/>. Throws NOT_PERMITTED when there is none. Changes nothing.</summary>
    public static string Choose(IReadOnlyList<string> places)
    {
        string cause = "";
        foreach (string path in places)
        {
            string directory = Path.GetDirectoryName(path)!;
            if (Encoding.UTF8.GetByteCount(path) > MaxPathBytes)
                cause = $"{path}: is longer than {MaxPathBytes} bytes";
            else if (Libc.access(Directory.Exists(directory) ? directory : Path.GetDirectoryName(directory) ?? directory, Libc.W_OK | Libc.X_OK) == 0)
                return Prefix + path;
            else
                cause = $"{directory}: this user can neither make it nor write to it";
        }
        throw new FamfsException(ErrorReason.NotPermitted, $"no place for the socket to listen on: {cause}; say --listen or set {DirectoryVariable}");
    }

    /// <summary>Makes the directory of a socket if it is not there: others look the socket up, and only its owner puts sockets
    /// there. Throws <see cref="IOException"/> or <see cref="UnauthorizedAccessException"/>.</summary>
    public static void MakeDirectory(string address)
    {
        const uint Mode = 0x1ED; // 0755
        string directory = Path.GetDirectoryName(address[Prefix.Length..])!;
        if (Directory.Exists(directory))
            return;
        Directory.CreateDirectory(directory);
        // The process's umask may be narrower than others need.
        RequireMode(directory, Mode);
    }

    /// <summary>Lets everybody connect to a socket: who calls is known there. Throws <see cref="IOException"/>.</summary>
    public static void Open(string path) => RequireMode(path, 0x1B6); // 0666

    private static void RequireMode(string path, uint mode)
    {
        if (Libc.chmod(path, mode) != 0)
            throw new IOException($"{path}: its mode cannot be set: {Errno.Describe(Errno.Last)}");
    }
}
