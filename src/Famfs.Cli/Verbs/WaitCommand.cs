using System.CommandLine;
using System.Globalization;
using Famfs.Client;
using Famfs.Core;
using Famfs.Core.Format;
using Famfs.V1;

namespace Famfs.Cli.Verbs;

/// <summary><c>famfs wait</c>: returns when the mounts show what the master has (Barrier). With a timeout it
/// lists those that do not.</summary>
internal static class WaitCommand
{
    public static Command Build(CliContext context)
    {
        Argument<string?> path = CliOptions.OptionalPath();
        Option<string[]> mounts = new("--mount") { Description = "A mount id to wait for; repeat for several, every mount that is not gone by default", HelpName = "UUID" };
        Option<string?> position = new("--position") { Description = "Up to where; the master's own position by default", HelpName = "GENERATION:SEQUENCE@TERM" };
        Command command = new("wait", "Wait until all mounts show what the master has") { path, mounts, position };
        command.SetAction(async (parsed, cancel) =>
        {
            CliTarget target = await context.ResolveFileSystemAsync(parsed, parsed.GetValue(path), cancel).ConfigureAwait(false);
            BarrierRequest request = new();
            foreach (string mount in parsed.GetValue(mounts) ?? [])
                request.MountIds.Add(Guid.TryParse(mount, out Guid id) ? id.ToByteString() : throw CliOptions.Usage($"--mount: '{mount}' is not a uuid"));
            if (parsed.GetValue(position) is { } text)
                request.Position = await ParsePositionAsync(target.Client, text, context.TimeoutOf(parsed), cancel).ConfigureAwait(false);
            BarrierReply reply = await target.Client.BarrierAsync(request, context.TimeoutOf(parsed), cancel).ConfigureAwait(false);
            if (context.IsJson(parsed))
            {
                context.WriteJson(json =>
                {
                    json.WriteStartObject();
                    json.WriteNumber("mount_count", reply.MountCount);
                    json.WritePosition("position", reply.Position);
                    json.WriteEndObject();
                });
            }
            else
                context.Out.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{reply.MountCount} mount(s) at {JsonShapes.Text(reply.Position)}"));
            return (int)ExitCode.Ok;
        });
        return command;
    }

    private static async Task<Position> ParsePositionAsync(FamfsClient client, string text, TimeSpan timeout, CancellationToken cancel)
    {
        string[] parts = text.Split(':', '@');
        if (parts.Length != 3 || !text.Contains('@', StringComparison.Ordinal)
            || !ulong.TryParse(parts[0], NumberStyles.None, CultureInfo.InvariantCulture, out ulong generation)
            || !ulong.TryParse(parts[1], NumberStyles.None, CultureInfo.InvariantCulture, out ulong sequence)
            || !ulong.TryParse(parts[2], NumberStyles.None, CultureInfo.InvariantCulture, out ulong term))
            throw CliOptions.Usage($"--position: '{text}' is not GENERATION:SEQUENCE@TERM");
        GetStatusReply status = await client.GetStatusAsync(timeout, cancel).ConfigureAwait(false);
        return new() { FileSystemUuid = status.FileSystemUuid, Generation = generation, Sequence = sequence, Term = term };
    }
}
