using System.CommandLine;
using System.Globalization;
using Famfs.Core.Interop;
using Famfs.V1;

namespace Famfs.Cli.Verbs;

/// <summary><c>famfs mkdir [-p] PATH…</c>.</summary>
internal static class MkdirCommand
{
    public static Command Build(CliContext context)
    {
        Argument<string[]> paths = CliOptions.Paths();
        Option<bool> parents = new("--parents", "-p") { Description = "Make missing parents too; a directory that exists is fine" };
        Option<bool> verbose = new("--verbose", "-v") { Description = "Print what was made, which is printed anyway" };
        Option<uint?> mode = CliOptions.Mode();
        Option<uint?> uid = CliOptions.Uid();
        Option<uint?> gid = CliOptions.Gid();
        Option<WaitChoice> wait = CliOptions.Wait();
        Command command = new("mkdir", "Make directories") { paths, parents, verbose, mode, uid, gid, wait };
        command.SetAction(async (parsed, cancel) =>
        {
            string[] given = parsed.GetValue(paths)!;
            List<MakeDirectoryReply> made = [];
            ExitCode code = await context.ForEachAsync(given, async path =>
            {
                CliTarget target = await context.ResolveAsync(parsed, path, cancel).ConfigureAwait(false);
                (uint owner, uint group) = (parsed.GetValue(uid) ?? ProcessOwner.Uid, parsed.GetValue(gid) ?? ProcessOwner.Gid);
                MakeDirectoryReply reply = await target.Client.MakeDirectoryAsync(new MakeDirectoryRequest
                {
                    Path = target.Path,
                    Mode = parsed.GetValue(mode) ?? 0,
                    ModeSet = parsed.GetValue(mode) is not null,
                    Uid = owner,
                    Gid = group,
                    OwnerIsCaller = ProcessOwner.Is(owner, group),
                    Parents = parsed.GetValue(parents),
                    Wait = CliContext.WaitOf(target, parsed.GetValue(wait)),
                }, context.TimeoutOf(parsed), cancel).ConfigureAwait(false);
                made.Add(reply);
                if (!context.IsJson(parsed))
                    context.Out.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{target.Shown}: inode {reply.Directory.Inode}{(reply.Existed ? ", existed" : "")}"));
            }).ConfigureAwait(false);
            if (context.IsJson(parsed))
            {
                context.WriteOneOrMany(given.Length, "directories", made, static (json, reply) =>
                {
                    json.WriteStartObject();
                    json.WritePropertyName("directory");
                    json.WriteFile(reply.Directory);
                    json.WriteBoolean("existed", reply.Existed);
                    json.WriteString("waited", JsonShapes.Word(reply.Waited));
                    json.WritePosition("position", reply.Position);
                    json.WriteEndObject();
                });
            }
            return (int)code;
        });
        return command;
    }
}
