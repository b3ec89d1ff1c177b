using System.Reflection;
using Famfs.Core.Interop;

namespace Famfs.CommandLine;

/// <summary>What a program must have before its own code runs. What is less is refused at the start: the runtime fails without it
/// somewhere in the middle, in ways that say nothing, or hangs.</summary>
/// <param name="Program">Its name.</param>
/// <param name="OpenFiles">Files that it may have open.</param>
/// <param name="Threads">Threads that it starts before it serves anybody.</param>
/// <param name="DataBytes">Memory of its own.</param>
/// <param name="LogsToOutput">Its output is a log: what cannot be written there is lost and the work goes on.</param>
public sealed record ProgramNeeds(string Program, long OpenFiles, int Threads, long DataBytes, bool LogsToOutput);

/// <summary>The start of a program, the same for all three.</summary>
public static class StartConditions
{
    /// <summary>Puts in order what its starter left out, and ends the process with one line and status 1 where that cannot be done.
    /// Called before anything else is. Where another than <paramref name="program"/> runs, nothing happens: it is being tested.</summary>
    public static void Require(ProgramNeeds needs, Assembly program)
    {
        // A native program may not know it yet.
        if (Assembly.GetEntryAssembly() is { } running && running != program)
            return;
        StandardDescriptors.RequireGiven();
        ProcessSignals.IgnoreThoseOfWriting();
        StandardWriters.Use(needs.LogsToOutput);
        LastWords.SayThemFor(needs.Program);
        if ((ProcessFiles.FindFault() ?? ProcessLimits.FindFault(needs, ProcessLimits.Read()) ?? ThreadLimit.FindFault(needs)) is not { } fault)
            return;
        Console.Error.WriteLine($"{needs.Program}: {fault}");
        ProcessEnd.AtOnce(1);
    }
}
