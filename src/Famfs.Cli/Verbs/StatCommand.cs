using System.CommandLine;
using System.Globalization;
using Famfs.V1;

namespace Famfs.Cli.Verbs;

/// <summary><c>famfs stat PATH</c>.</summary>
internal static class StatCommand
{
    public static Command Build(CliContext context)
    {
        Argument<string> path = CliOptions.Path();
        Command command = new("stat", "Show a file or directory") { path };
        command.SetAction(async (parsed, cancel) =>
        {
            CliTarget target = await context.ResolveAsync(parsed, parsed.GetValue(path)!, cancel, reading: true).ConfigureAwait(false);
            GetFileReply reply = await context.AskMasterOrMountAsync(
                parsed, target, master => master.GetFileAsync(new GetFileRequest { Path = target.Path }, context.TimeoutOf(parsed), cancel),
                GetFileReply.Parser, ["stat", target.LocalPath ?? ""], cancel).ConfigureAwait(false);
            // The mount was asked by its own path.
            if (reply.Position is null)
                reply.File.Path = target.Path;
            if (context.IsJson(parsed))
            {
                context.WriteJson(json =>
                {
                    json.WriteStartObject();
                    json.WritePropertyName("file");
                    json.WriteFile(reply.File);
                    json.WritePosition("position", reply.Position);
                    json.WriteEndObject();
                });
                return (int)ExitCode.Ok;
            }
            V1.FileInfo file = reply.File;
            context.Out.WriteLine(string.Create(CultureInfo.InvariantCulture, $"path      {LsCommand.Printable(file.Path)}"));
            context.Out.WriteLine(string.Create(CultureInfo.InvariantCulture, $"kind      {JsonShapes.Word(file.Kind)}, {JsonShapes.Word(file.State)}"));
            context.Out.WriteLine(string.Create(CultureInfo.InvariantCulture, $"inode     {file.Inode}"));
            context.Out.WriteLine(string.Create(CultureInfo.InvariantCulture, $"mode      {QuantityText.FormatMode(file.Mode)}  uid {file.Uid}  gid {file.Gid}"));
            context.Out.WriteLine(string.Create(CultureInfo.InvariantCulture, $"size      {file.SizeBytes}{(file.Kind == FileKind.Directory ? " entries" : " bytes")}"));
            context.Out.WriteLine(string.Create(CultureInfo.InvariantCulture, $"modified  {LsCommand.Time(file.ModifyTimeNs)}"));
            if (file.Map is { } map)
                context.Out.WriteLine(string.Create(CultureInfo.InvariantCulture, $"layout    {(map.ChunkBytes == 0 ? $"{map.Extents.Count} extent(s)" : $"{map.Extents.Count} strips in chunks of {map.ChunkBytes}")}"));
            if (reply.Position is not null)
                context.Out.WriteLine(string.Create(CultureInfo.InvariantCulture, $"position  {JsonShapes.Text(reply.Position)}"));
            return (int)ExitCode.Ok;
        });
        return command;
    }
}
