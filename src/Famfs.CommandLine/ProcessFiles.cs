namespace Famfs.CommandLine;

/// <summary>The proc file system, from which a program knows mounts, processes and itself.</summary>
public static class ProcessFiles
{
    /// <summary>Says that it is not mounted; null when it is.</summary>
    public static string? FindFault(string path = "/proc/self/mountinfo") =>
        File.Exists(path) ? null : "/proc is not mounted; mount it (mount -t proc proc /proc), also in a container or chroot";
}
