using Famfs.Core;
using Famfs.Core.Interop;
using Famfs.V1;

namespace Famfs.Client;

/// <summary>Where a file system may be mounted: not over what its daemon, or this host, cannot do without.</summary>
public static class MountPlace
{
    // What the kernel shows of mounts, connections and devices, and who this host is.
    private static readonly string[] s_ofHost = ["/proc", "/sys", "/dev", new HostIdentitySources().MachineIdPath];

    /// <summary>Throws BAD_REQUEST when a mount at <paramref name="place"/> (as <see cref="MountEntry.PlaceOf"/> names it) would hide the
    /// root of this host.</summary>
    public static void RequireBelowRoot(string place)
    {
        if (place == "/")
            throw new FamfsException(ErrorReason.BadRequest, "/: is the root of this host; mount on a directory below it") { Path = place };
    }

    /// <summary>Throws BAD_REQUEST when a mount at <paramref name="place"/> would hide something of this host or of the daemon.</summary>
    /// <param name="place">As <see cref="MountEntry.PlaceOf"/> names it.</param>
    /// <param name="devices">Devices as programs are given them: paths, patterns, directories.</param>
    /// <param name="masters">Addresses; of these a unix socket is a file.</param>
    /// <param name="files">Files and directories that the daemon uses, there or not; null: none.</param>
    public static void RequireHidesNothing(string place, IEnumerable<string> devices, IEnumerable<string> masters, params IEnumerable<string?> files)
    {
        RequireBelowRoot(place);
        const string Socket = MasterSocket.Prefix;
        IEnumerable<string> sockets = masters.Where(m => m.StartsWith(Socket, StringComparison.Ordinal)).Select(m => m[Socket.Length..]);
        foreach (string needed in s_ofHost.Append(AppContext.BaseDirectory).Concat(devices.Select(FixedPartOf)).Concat(sockets).Concat(files.OfType<string>()))
        {
            string path = Path.TrimEndingDirectorySeparator(Path.GetFullPath(needed));
            if (IsIn(path, place) || (PathAttributes.Resolve(path, out _) is { } resolved && IsIn(resolved, place)))
                throw new FamfsException(ErrorReason.BadRequest, $"{place}: a mount there would hide {path}, which is needed") { Path = place };
        }
    }

    private static bool IsIn(string path, string place) => path == place || path.StartsWith(place + "/", StringComparison.Ordinal);

    /// <summary>A pattern's part before its first wildcard, up to a directory.</summary>
    private static string FixedPartOf(string device) =>
        device.AsSpan().IndexOfAny('*', '?', '[') is >= 0 and int at ? device[..(device.LastIndexOf('/', at) + 1)] is { Length: > 0 } directory ? directory : "." : device;
}
