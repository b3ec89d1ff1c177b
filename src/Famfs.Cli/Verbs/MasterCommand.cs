using System.CommandLine;
using Famfs.Core.Interop;

namespace Famfs.Cli.Verbs;

/// <summary><c>famfs master …</c>: becomes <c>famfs-master</c> with the same arguments.</summary>
internal static class MasterCommand
{
    public const string Name = "master";
    private const string ProgramName = "famfs-master";

    /// <summary>For the help; the arguments are famfs-master's, so they do not come here.</summary>
    public static Command Build(CliContext context)
    {
        Command command = new(Name, "Run a master: becomes famfs-master, with the arguments that follow; `famfs-master --help` lists them") { TreatUnmatchedTokensAsErrors = false };
        command.SetAction(_ => (int)Run(context, []));
        return command;
    }

    public static ExitCode Run(CliContext context, string[] arguments)
    {
        ProgramStart.Replace(ProgramFinder.Require(context.Environment, ProgramName), arguments);
        return ExitCode.Failed;
    }
}
