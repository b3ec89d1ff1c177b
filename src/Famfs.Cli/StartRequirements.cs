using System.Runtime.CompilerServices;
using Famfs.CommandLine;

namespace Famfs.Cli;

/// <summary>What must be there before the program's own code runs.</summary>
internal static class StartRequirements
{
    // Chosen, above what it has before it serves anybody.
    private const int OpenFiles = 128;
    private const int Threads = 8;
    private const long DataBytes = 256L << 20;

    [ModuleInitializer]
    internal static void Require() =>
        StartConditions.Require(new("famfs", OpenFiles, Threads, DataBytes, LogsToOutput: false), typeof(StartRequirements).Assembly);
}
