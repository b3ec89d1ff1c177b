using System.CommandLine;
using Famfs.Client;
using Famfs.Core;
using Famfs.V1;

namespace Famfs.Cli.Verbs;

/// <summary><c>famfs rm [-r] [-f] PATH…</c>: removes names. Who has a file open keeps it.</summary>
internal static class RmCommand
{
    public static Command Build(CliContext context)
    {
        Argument<string[]> paths = new("PATH") { Description = "Files, links or empty directories", Arity = ArgumentArity.OneOrMore };
        Option<bool> recursive = new("--recursive", "-r", "-R") { Description = "Directories with all below them" };
        Option<bool> force = new("--force", "-f") { Description = "What does not exist is fine" };
        Option<WaitChoice> wait = CliOptions.Wait();
        Command command = new("rm", "Remove files and directories") { paths, recursive, force, wait };
        command.SetAction(async (parsed, cancel) =>
        {
            MutationReply? last = null;
            ExitCode code = await context.ForEachAsync(parsed.GetValue(paths)!, async path =>
            {
                CliTarget target = await context.ResolveNameAsync(parsed, path, cancel).ConfigureAwait(false);
                RemoveRequest request = new() { Path = target.Path, Recursive = parsed.GetValue(recursive), Wait = CliContext.WaitOf(target, parsed.GetValue(wait)) };
                try
                {
                    last = await RemoveAsync(target.Client, request, context.TimeoutOf(parsed), cancel).ConfigureAwait(false);
                }
                catch (FamfsException e) when (e.Reason == ErrorReason.NotFound && parsed.GetValue(force))
                {
                    // It is what was asked for.
                }
            }).ConfigureAwait(false);
            if (last is not null)
                MutationText.Print(context, parsed, last);
            return (int)code;
        });
        return command;
    }

    /// <summary>A master judges the rights of an ordinary user in so many inodes at a time: a larger directory goes in parts.</summary>
    private static async Task<MutationReply> RemoveAsync(FamfsClient client, RemoveRequest request, TimeSpan timeout, CancellationToken cancel)
    {
        try
        {
            return await client.RemoveAsync(request, timeout, cancel).ConfigureAwait(false);
        }
        catch (FamfsException e) when (e is { Reason: ErrorReason.NotPermitted, Limit: > 0 } && request.Recursive)
        {
            List<V1.FileInfo> entries = await client.ListDirectoryAsync(new ListDirectoryRequest { Path = request.Path }, timeout, cancel).ToListAsync(cancel).ConfigureAwait(false);
            foreach (V1.FileInfo entry in entries)
            {
                RemoveRequest part = new() { Path = $"{request.Path}/{entry.Path}", Recursive = true };
                try
                {
                    await RemoveAsync(client, part, timeout, cancel).ConfigureAwait(false);
                }
                catch (FamfsException gone) when (gone.Reason == ErrorReason.NotFound)
                {
                    // Somebody else was faster.
                }
            }
        }
        return await client.RemoveAsync(request, timeout, cancel).ConfigureAwait(false);
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
