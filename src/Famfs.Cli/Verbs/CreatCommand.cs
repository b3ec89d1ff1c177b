using System.CommandLine;
using System.Globalization;
using Famfs.Core;
using Famfs.Core.Interop;
using Famfs.V1;

namespace Famfs.Cli.Verbs;

/// <summary><c>famfs creat PATH --size BYTES</c>: creates a file, everywhere.</summary>
internal static class CreatCommand
{
    public static Command Build(CliContext context)
    {
        Argument<string> path = CliOptions.Path();
        Option<long?> size = CliOptions.Size("--size", "Size, with K, M, G or T");
        size.Aliases.Add("-s");
        size.Required = true;
        Option<uint?> mode = CliOptions.Mode();
        Option<uint?> uid = CliOptions.Uid();
        Option<uint?> gid = CliOptions.Gid();
        LayoutOptions layout = new();
        Option<bool> ifSame = new("--if-same") { Description = "A file of the same size and layout that exists is fine" };
        Option<bool> randomize = new("--randomize") { Description = "Fill it through the mount with the content of --seed" };
        Option<ulong> seed = new("--seed") { Description = "Seed of the content", DefaultValueFactory = _ => 0 };
        Option<bool> waitSpace = new("--wait-space") { Description = "Wait for space of removed files that is not free yet" };
        Option<WaitChoice> wait = CliOptions.Wait();
        Command command = new("creat", "Create a file") { path, size, mode, uid, gid, ifSame, randomize, seed, waitSpace, wait };
        layout.AddTo(command);
        command.SetAction((parsed, cancel) => parsed.GetValue(randomize) ? context.RunApartAsync(parsed, [parsed.GetValue(path)!], () => CreateAsync(parsed, cancel), cancel) : CreateAsync(parsed, cancel));
        return command;

        async Task<int> CreateAsync(ParseResult parsed, CancellationToken cancel)
        {
            CliTarget target = await context.ResolveAsync(parsed, parsed.GetValue(path)!, cancel).ConfigureAwait(false);
            string? local = parsed.GetValue(randomize) ? target.RequireWritablePath("--randomize") : null;
            long bytes = parsed.GetValue(size)!.Value;
            (uint owner, uint group) = (parsed.GetValue(uid) ?? ProcessOwner.Uid, parsed.GetValue(gid) ?? ProcessOwner.Gid);
            CreateFileRequest request = new()
            {
                Path = target.Path,
                SizeBytes = (ulong)bytes,
                Mode = parsed.GetValue(mode) ?? 0,
                ModeSet = parsed.GetValue(mode) is not null,
                Uid = owner,
                Gid = group,
                OwnerIsCaller = ProcessOwner.Is(owner, group),
                Layout = layout.Read(parsed),
                IfExists = parsed.GetValue(ifSame) ? IfExists.OpenIfSame : IfExists.Fail,
                Wait = CliContext.WaitOf(target, parsed.GetValue(wait)),
            };
            CreateFileReply reply = await (parsed.GetValue(waitSpace)
                ? target.Client.CreateFileWaitingForSpaceAsync(request, context.TimeoutOf(parsed), cancel)
                : target.Client.CreateFileAsync(request, context.TimeoutOf(parsed), cancel)).ConfigureAwait(false);
            foreach (string warning in reply.Warnings)
                context.Remark(LsCommand.Printable(warning));
            if (local is not null)
                PatternContent.Write(local, bytes, parsed.GetValue(seed), cancel);
            Print(context, parsed, target, reply);
            return (int)ExitCode.Ok;
        }
    }

    private static void Print(CliContext context, ParseResult parsed, CliTarget target, CreateFileReply reply)
    {
        if (!context.IsJson(parsed))
        {
            context.Out.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{target.Shown}: inode {reply.File.Inode}, {reply.File.SizeBytes} bytes{(reply.Existed ? ", existed" : "")}"));
            return;
        }
        context.WriteJson(json =>
        {
            json.WriteStartObject();
            json.WritePropertyName("file");
            json.WriteFile(reply.File);
            json.WriteBoolean("existed", reply.Existed);
            json.WriteString("waited", JsonShapes.Word(reply.Waited));
            json.WritePosition("position", reply.Position);
            json.WriteEndObject();
        });
    }
}
