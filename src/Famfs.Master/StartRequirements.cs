using System.Runtime.CompilerServices;
using Famfs.CommandLine;

namespace Famfs.Master;

/// <summary>What must be there before the program's own code runs.</summary>
internal static class StartRequirements
{
    // Chosen, above what it has before it serves anybody.
    private const int OpenFiles = 256;
    private const int Threads = 16;
    private const long DataBytes = 512L << 20;

    [ModuleInitializer]
    internal static void Require() =>
        StartConditions.Require(new("famfs-master", OpenFiles, Threads, DataBytes, LogsToOutput: true), typeof(StartRequirements).Assembly);
}
