namespace Famfs.CommandLine;

/// <summary>The proc file system, from which a program knows mounts, processes and itself.</summary>
public static class ProcessFiles
{
    /// <summary>Ends the process with one line and status 1 if it is not mounted. Called before anything else is.</summary>
    public static void Require(string program, string path = "/proc/self/mountinfo")
    {
        if (File.Exists(path))
            return;
        Console.Error.WriteLine($"{program}: /proc is not mounted; mount it (mount -t proc proc /proc), also in a container or chroot");
        Environment.Exit(1);
    }
}
