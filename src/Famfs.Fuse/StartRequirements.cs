using System.Runtime.CompilerServices;
using Famfs.CommandLine;

namespace Famfs.Fuse;

/// <summary>What must be there before the program's own code runs.</summary>
internal static class StartRequirements
{
    /// <summary>Files that it may need to have open before it serves anybody (chosen).</summary>
    private const int OpenFiles = 256;

    [ModuleInitializer]
    internal static void Require()
    {
        ProcessFiles.Require("famfsd");
        OpenFileLimit.Require("famfsd", OpenFiles);
    }
}
