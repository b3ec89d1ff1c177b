using System.CommandLine;
using Famfs.Core;
using Famfs.V1;

namespace Famfs.Cli.Verbs;

/// <summary><c>famfs mv [-n] [-T] OLD NEW</c>, or <c>OLD… DIRECTORY</c>.</summary>
internal static class MvCommand
{
    public static Command Build(CliContext context)
    {
        Argument<string[]> paths = new("OLD… NEW") { Description = "Files and directories, then the new name of a single one, or a directory to move them into", Arity = new ArgumentArity(2, 100_000) };
        Option<bool> keep = new("--no-clobber", "-n") { Description = "A new name that is taken is an error; without this it is replaced" };
        Option<bool> whole = new("--no-target-directory", "-T") { Description = "The last path is the new name, also when a directory has it" };
        Option<WaitChoice> wait = CliOptions.Wait();
        Command command = new("mv", "Rename or move files and directories") { paths, keep, whole, wait };
        command.SetAction(async (parsed, cancel) =>
        {
            string[] given = parsed.GetValue(paths)!;
            string[] old = given[..^1];
            (CliTarget target, bool isDirectory) = await FindTargetAsync(context, parsed, given[^1], parsed.GetValue(whole), cancel).ConfigureAwait(false);
            if (old.Length > 1 && !isDirectory)
                throw CliOptions.Usage($"{given[^1]}: is no directory, and {old.Length} paths are to be moved{(parsed.GetValue(whole) ? " to one name" : " into it")}");
            MutationReply? last = null;
            ExitCode code = await context.ForEachAsync(old, async path =>
            {
                CliTarget source = await context.ResolveNameAsync(parsed, path, cancel).ConfigureAwait(false);
                if (source.Mount?.MountPoint != target.Mount?.MountPoint)
                    throw CliOptions.Usage($"{given[^1]}: is not on the same mount as {path}");
                string name = source.Path[(source.Path.LastIndexOf('/') + 1)..];
                last = await target.Client.RenameAsync(new RenameRequest
                {
                    OldPath = source.Path,
                    NewPath = !isDirectory ? target.Path : target.Path.Length == 0 ? name : $"{target.Path}/{name}",
                    Replace = !parsed.GetValue(keep),
                    Wait = CliContext.WaitOf(target, parsed.GetValue(wait)),
                }, context.TimeoutOf(parsed), cancel).ConfigureAwait(false);
            }).ConfigureAwait(false);
            if (last is not null)
                MutationText.Print(context, parsed, last);
            return (int)code;
        });
        return command;
    }

    /// <summary>What the last path means: a directory to move into, or a name.</summary>
    private static async Task<(CliTarget Target, bool IsDirectory)> FindTargetAsync(CliContext context, ParseResult parsed, string path, bool whole, CancellationToken cancel)
    {
        if (!whole)
        {
            CliTarget found = await context.ResolveAsync(parsed, path, cancel).ConfigureAwait(false);
            try
            {
                GetFileReply reply = await found.Client.GetFileAsync(new GetFileRequest { Path = found.Path }, context.TimeoutOf(parsed), cancel).ConfigureAwait(false);
                if (reply.File.Kind == FileKind.Directory)
                    return (found, true);
            }
            catch (FamfsException e) when (e.Reason is ErrorReason.NotFound or ErrorReason.NotADirectory)
            {
                // It is a new name, or the master will say what is wrong with it.
            }
        }
        return (await context.ResolveNameAsync(parsed, path, cancel).ConfigureAwait(false), false);
    }
}
