using Famfs.Core;
using Famfs.V1;

namespace Famfs.Cli;

/// <summary>Finds the other programs of famfs: beside this one, else in PATH.</summary>
internal static class ProgramFinder
{
    public static string Require(CliEnvironment environment, string name)
    {
        IEnumerable<string> directories = [environment.ProgramDirectory, .. (environment.Variable("PATH") ?? "").Split(':', StringSplitOptions.RemoveEmptyEntries)];
        foreach (string directory in directories)
        {
            string path = Path.Combine(directory, name);
            // The analyzer wants to hear that this is no Windows.
            if (!OperatingSystem.IsWindows() && File.Exists(path) && (File.GetUnixFileMode(path) & (UnixFileMode.UserExecute | UnixFileMode.GroupExecute | UnixFileMode.OtherExecute)) != 0)
                return path;
        }
        throw new FamfsException(ErrorReason.NotFound, $"{name}: not beside famfs ({environment.ProgramDirectory}) and not in PATH") { Path = name };
    }
}
