using System.CommandLine;
using Famfs.V1;

namespace Famfs.Cli.Verbs;

/// <summary><c>famfs rm [-r] PATH…</c>: removes names; memory is reused when every holder has let go.</summary>
internal static class RmCommand
{
    public static Command Build(CliContext context)
    {
        Argument<string[]> paths = new("PATH") { Description = "Files or empty directories", Arity = ArgumentArity.OneOrMore };
        Option<bool> recursive = new("--recursive", "-r") { Description = "Directories with all below them" };
        Option<WaitChoice> wait = CliOptions.Wait();
        Command command = new("rm", "Remove files and directories") { paths, recursive, wait };
        command.SetAction(async (parsed, cancel) =>
        {
            MutationReply? last = null;
            ExitCode code = await context.ForEachAsync(parsed.GetValue(paths)!, async path =>
            {
                CliTarget target = await context.ResolveAsync(parsed, path, cancel).ConfigureAwait(false);
                last = await target.Client.RemoveAsync(new RemoveRequest
                {
                    Path = target.Path,
                    Recursive = parsed.GetValue(recursive),
                    Wait = CliContext.WaitOf(target, parsed.GetValue(wait)),
                }, context.TimeoutOf(parsed), cancel).ConfigureAwait(false);
            }).ConfigureAwait(false);
            if (last is not null)
                MutationText.Print(context, parsed, last);
            return (int)code;
        });
        return command;
    }
}

/// <summary>Answer of a change that has nothing else to say.</summary>
internal static class MutationText
{
    public static void Print(CliContext context, ParseResult parsed, MutationReply reply)
    {
        if (!context.IsJson(parsed))
            return;
        context.WriteJson(json =>
        {
            json.WriteStartObject();
            json.WriteString("waited", JsonShapes.Word(reply.Waited));
            json.WritePosition("position", reply.Position);
            json.WriteEndObject();
        });
    }
}
