using Famfs.Core;
using Famfs.V1;

namespace Famfs.Client;

/// <summary>Finds the programs of famfs.</summary>
public static class ProgramFinder
{
    /// <summary>Path of the program <paramref name="name"/>: in <paramref name="programDirectory"/>, else in a directory of
    /// <paramref name="searchPath"/>, which has colons between them. Throws NOT_FOUND when it is in none, or cannot be
    /// executed there.</summary>
    public static string Require(string name, string programDirectory, string? searchPath)
    {
        IEnumerable<string> directories = [programDirectory, .. (searchPath ?? "").Split(':', StringSplitOptions.RemoveEmptyEntries)];
        foreach (string directory in directories)
        {
            string path = Path.Combine(directory, name);
            // The analyzer wants to hear that this is no Windows.
            if (!OperatingSystem.IsWindows() && File.Exists(path) && (File.GetUnixFileMode(path) & (UnixFileMode.UserExecute | UnixFileMode.GroupExecute | UnixFileMode.OtherExecute)) != 0)
                return path;
        }
        throw new FamfsException(ErrorReason.NotFound, $"{name}: not beside famfs ({programDirectory}) and not in PATH") { Path = name };
    }
}
