using System.CommandLine;
using Famfs.Core.Format;
using Famfs.V1;

namespace Famfs.Cli.Verbs;

/// <summary><c>famfs getmap PATH</c>: where a file's bytes are; as text the same as the attribute
/// <c>user.famfs.map</c>.</summary>
internal static class GetmapCommand
{
    public static Command Build(CliContext context)
    {
        Argument<string> path = CliOptions.Path();
        Command command = new("getmap", "Show where a file's bytes are") { path };
        command.SetAction(async (parsed, cancel) =>
        {
            CliTarget target = await context.ResolveAsync(parsed, parsed.GetValue(path)!, cancel, reading: true).ConfigureAwait(false);
            GetMapReply reply = await context.AskMasterOrMountAsync(
                parsed, target, master => master.GetMapAsync(new GetMapRequest { Path = target.Path }, context.TimeoutOf(parsed), cancel),
                GetMapReply.Parser, ["map", target.LocalPath ?? ""], cancel).ConfigureAwait(false);
            if (!context.IsJson(parsed))
            {
                context.Out.Write(MapText.Format(reply.SizeBytes, reply.Map ?? new FileMap()));
                return (int)ExitCode.Ok;
            }
            context.WriteJson(json =>
            {
                json.WriteStartObject();
                json.WriteNumber("inode", reply.Inode);
                json.WriteNumber("size_bytes", reply.SizeBytes);
                json.WritePropertyName("map");
                json.WriteMap(reply.Map ?? new FileMap());
                json.WriteDevices("devices", reply.Devices);
                json.WritePosition("position", reply.Position);
                json.WriteEndObject();
            });
            return (int)ExitCode.Ok;
        });
        return command;
    }
}
