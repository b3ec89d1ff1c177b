using System.CommandLine;
using Famfs.Cli.Verbs;
using Famfs.CommandLine;
using Famfs.Core;
using Famfs.V1;

namespace Famfs.Cli;

/// <summary>The <c>famfs</c> command: parses, runs one verb, turns what went wrong into one line on stderr and
/// an exit code.</summary>
public static class FamfsCommand
{
    private const string Name = "famfs";

    /// <summary>Runs the command line.</summary>
    public static async Task<ExitCode> RunAsync(string[] args, CliEnvironment environment, CancellationToken cancel = default)
    {
        CliContext context = new(environment) { Arguments = args };
        try
        {
            // What follows `master`, and what follows -- of `mount`, is for another program and must not be parsed by this one.
            if (args.Length > 0 && args[0] == MasterCommand.Name && !args.Skip(1).Any(a => a is "--help" or "-h" or "-?"))
                return MasterCommand.Run(context, args is [_, "--", ..] ? args[2..] : args[1..]);
            Command root = Build(context);
            if (args is [GeneratedText.Word, .. string[] kind])
                return (ExitCode)GeneratedText.Write(kind, root, Name, section: 1, version: typeof(FamfsCommand).Assembly.GetName().Version!.ToString(3), environment.Out);
            args = VerbHints.AsOption(args);
            int separator = Array.IndexOf(args, "--");
            string[] words = separator < 0 ? args : args[..separator];
            ParseResult parsed = CommandLineWords.Parse(root, words);
            if (parsed.CommandResult.Command.Name == MountCommand.Name)
                context.PassThrough = separator < 0 ? [] : args[(separator + 1)..];
            else if (separator >= 0)
                parsed = CommandLineWords.Parse(root, words = args);
            context.SaysErrorsAsJson = context.IsJson(parsed);
            if ((VerbHints.Find(root, parsed) ?? CommandLineFault.Find(parsed, words)) is { } fault)
            {
                context.Refuse(ExitCode.Usage, ErrorReason.BadRequest, fault);
                return ExitCode.Usage;
            }
            // A help text is had whatever the files are like.
            if (parsed.Action is not System.CommandLine.Help.HelpAction && parsed.Action?.ClearsParseErrors != true)
                context.Configure(parsed.GetValue(context.Configuration.DirectoryOption));
            context.Take(parsed);
            InvocationConfiguration invocation = new() { EnableDefaultExceptionHandler = false, Output = environment.Out, Error = environment.Error };
            return (ExitCode)await parsed.InvokeAsync(invocation, cancel).ConfigureAwait(false);
        }
        catch (ConfigurationException e)
        {
            context.Refuse(ExitCode.Usage, ErrorReason.BadRequest, e.Message);
            return ExitCode.Usage;
        }
        catch (OperationCanceledException)
        {
            context.Refuse(ExitCode.Failed, ErrorReason.Unspecified, "interrupted");
            return ExitCode.Failed;
        }
        catch (Exception e) when (e is FamfsException or OutOfMemoryException or IOException or UnauthorizedAccessException or Famfs.Core.Dax.DeviceFaultException)
        {
            context.Refuse(e);
            return ExitCodes.Of(e);
        }
    }

    /// <summary>One line: the thing, then the cause.</summary>
    internal static string Describe(Exception error)
    {
        string message = OneLine(error.Message);
        return error is FamfsException { Path.Length: > 0 } famfs && !message.Contains(famfs.Path, StringComparison.Ordinal)
            ? $"{famfs.Path}: {message}"
            : message;
    }

    private static Command Build(CliContext context)
    {
        // Not a RootCommand: that one calls itself after the assembly.
        Command root = new(Name, "Files in memory that many hosts share.")
        {
            new System.CommandLine.Help.HelpOption { Recursive = true },
            new VersionOption(),
            context.Options.Master,
            context.Options.CaFile,
            context.Options.CertificateFile,
            context.Options.KeyFile,
            context.Options.Json,
            context.Options.Output,
            context.Options.Timeout,
            context.Configuration.DirectoryOption,
        };
        root.Add(MkfsCommand.Build(context));
        root.Add(MountCommand.Build(context));
        root.Add(UmountCommand.Build(context));
        root.Add(DaxModeCommand.Build(context));
        root.Add(DoctorCommand.Build(context));
        root.Add(HealthCommand.Build(context));
        root.Add(ConfigCommand.Build(context));
        root.Add(MasterCommand.Build(context));
        root.Add(MasterSlotCommand.Build(context));
        root.Add(CreatCommand.Build(context));
        root.Add(VerifyCommand.Build(context));
        root.Add(CpCommand.Build(context));
        root.Add(MkdirCommand.Build(context));
        root.Add(RmCommand.Build(context));
        root.Add(MvCommand.Build(context));
        root.Add(AttributeCommands.BuildChmod(context));
        root.Add(AttributeCommands.BuildChown(context));
        root.Add(AttributeCommands.BuildTouch(context));
        root.Add(LsCommand.Build(context));
        root.Add(StatCommand.Build(context));
        root.Add(GetmapCommand.Build(context));
        root.Add(DfCommand.Build(context));
        root.Add(StatusCommand.Build(context));
        root.Add(PolicyCommand.Build(context));
        root.Add(HostsCommand.Build(context));
        root.Add(DevicesCommand.Build(context));
        root.Add(WaitCommand.Build(context));
        root.Add(LogCommand.Build(context));
        root.Add(CheckCommand.Build(context));
        root.Add(VersionCommand.Build(context));
        if (context.Environment.Formats.All.FirstOrDefault(f => f.Migration is not null) is { } old)
            root.Add(MigrateCommand.Build(context, old));
        return root;
    }

    private static string OneLine(string text) => text.ReplaceLineEndings(" ").Trim();
}
