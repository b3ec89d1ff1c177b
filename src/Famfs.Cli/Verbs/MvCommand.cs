using System.CommandLine;
using Famfs.V1;

namespace Famfs.Cli.Verbs;

/// <summary><c>famfs mv OLD NEW</c>.</summary>
internal static class MvCommand
{
    public static Command Build(CliContext context)
    {
        Argument<string> from = new("OLD") { Description = "The name it has" };
        Argument<string> to = new("NEW") { Description = "The name it gets, whole (not a directory to move into)" };
        Option<bool> replace = new("--replace") { Description = "Take the place of what has that name" };
        Option<WaitChoice> wait = CliOptions.Wait();
        Command command = new("mv", "Rename a file or directory") { from, to, replace, wait };
        command.SetAction(async (parsed, cancel) =>
        {
            CliTarget source = await context.ResolveAsync(parsed, parsed.GetValue(from)!, cancel).ConfigureAwait(false);
            CliTarget target = await context.ResolveAsync(parsed, parsed.GetValue(to)!, cancel).ConfigureAwait(false);
            if (source.Mount?.MountPoint != target.Mount?.MountPoint)
                throw CliOptions.Usage($"{target.Shown}: is on another file system than {source.Shown}");
            MutationReply reply = await target.Client.RenameAsync(new RenameRequest
            {
                OldPath = source.Path,
                NewPath = target.Path,
                Replace = parsed.GetValue(replace),
                Wait = CliContext.WaitOf(target, parsed.GetValue(wait)),
            }, context.TimeoutOf(parsed), cancel).ConfigureAwait(false);
            MutationText.Print(context, parsed, reply);
            return (int)ExitCode.Ok;
        });
        return command;
    }
}
