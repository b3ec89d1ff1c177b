using System.CommandLine;
using System.Globalization;
using Famfs.V1;

namespace Famfs.Cli.Verbs;

/// <summary><c>famfs stat PATH…</c>.</summary>
internal static class StatCommand
{
    public static Command Build(CliContext context)
    {
        Argument<string[]> paths = CliOptions.Paths();
        Command command = new("stat", "Show files and directories") { paths };
        command.SetAction(async (parsed, cancel) =>
        {
            string[] given = parsed.GetValue(paths)!;
            List<GetFileReply> found = [];
            ExitCode code = await context.ForEachAsync(given, async path =>
            {
                CliTarget target = await context.ResolveAsync(parsed, path, cancel, reading: true).ConfigureAwait(false);
                GetFileReply reply = await context.AskMasterOrMountAsync(
                    parsed, target, master => master.GetFileAsync(new GetFileRequest { Path = target.Path }, context.TimeoutOf(parsed), cancel),
                    GetFileReply.Parser, ["stat", target.LocalPath ?? ""], cancel).ConfigureAwait(false);
                // The mount was asked by its own path.
                if (reply.Position is null)
                    reply.File.Path = target.Path;
                if (!context.IsJson(parsed))
                {
                    if (found.Count > 0)
                        context.Out.WriteLine();
                    Print(context.Out, reply);
                }
                found.Add(reply);
            }).ConfigureAwait(false);
            if (context.IsJson(parsed))
            {
                context.WriteOneOrMany(given.Length, "files", found, static (json, reply) =>
                {
                    json.WriteStartObject();
                    json.WritePropertyName("file");
                    json.WriteFile(reply.File);
                    json.WritePosition("position", reply.Position);
                    json.WriteEndObject();
                });
            }
            return (int)code;
        });
        return command;
    }

    private static void Print(TextWriter output, GetFileReply reply)
    {
        V1.FileInfo file = reply.File;
        output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"path      {LsCommand.Printable(file.Path)}"));
        output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"kind      {JsonShapes.Word(file.Kind)}, {JsonShapes.Word(file.State)}"));
        output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"inode     {file.Inode}"));
        output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"mode      {QuantityText.FormatMode(file.Mode)}  uid {file.Uid}  gid {file.Gid}"));
        output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"size      {file.SizeBytes}{(file.Kind == FileKind.Directory ? " entries" : " bytes")}"));
        output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"modified  {LsCommand.Time(file.ModifyTimeNs)}"));
        if (file.Map is { } map)
            output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"layout    {(map.ChunkBytes == 0 ? $"{map.Extents.Count} extent(s)" : $"{map.Extents.Count} strips in chunks of {map.ChunkBytes}")}"));
        if (reply.Position is not null)
            output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"position  {JsonShapes.Text(reply.Position)}"));
    }
}
