using System.CommandLine;
using System.Globalization;
using Famfs.V1;

namespace Famfs.Cli.Verbs;

/// <summary><c>famfs hosts</c>: every mount, how far it is, what it holds.</summary>
internal static class HostsCommand
{
    public static Command Build(CliContext context)
    {
        Argument<string?> path = CliOptions.OptionalPath();
        Command command = new("hosts", "Show the mounts of all hosts") { path };
        command.SetAction(async (parsed, cancel) =>
        {
            CliTarget target = await context.ResolveFileSystemAsync(parsed, parsed.GetValue(path), cancel).ConfigureAwait(false);
            ListHostsReply reply = await target.Client.ListHostsAsync(context.TimeoutOf(parsed), cancel).ConfigureAwait(false);
            if (context.IsJson(parsed))
            {
                context.WriteJson(json =>
                {
                    json.WriteStartObject();
                    json.WriteHosts("hosts", reply.Hosts);
                    json.WritePosition("position", reply.Position);
                    json.WriteEndObject();
                });
            }
            else
                PrintTable(context, reply.Hosts);
            return (int)ExitCode.Ok;
        });
        return command;
    }

    public static void PrintTable(CliContext context, IEnumerable<HostStatus> hosts) =>
        context.WriteTable(["NAME", "STATE", "POSITION", "LAG", "SILENT", "HELD", "DIALECT", "MOUNT", "MOUNT POINT"], hosts.Select(h => (IReadOnlyList<string>)
        [
            h.Name.Length > 0 ? LsCommand.Printable(h.Name) : JsonShapes.Uuid(h.HostId),
            JsonShapes.Word(h.State) + (h.Evidence == GoneEvidence.Unspecified ? "" : $" ({JsonShapes.Word(h.Evidence)})"),
            JsonShapes.Text(h.Position),
            h.LagRecords.ToString(CultureInfo.InvariantCulture),
            string.Create(CultureInfo.InvariantCulture, $"{h.SilentMs / 1000.0:0.0}s"),
            h.HeldInodes.ToString(CultureInfo.InvariantCulture),
            LsCommand.Printable(h.Dialect),
            JsonShapes.Uuid(h.MountId),
            LsCommand.Printable(h.MountPoint),
        ]), 3, 4, 5);
}
