using System.CommandLine;
using System.Globalization;
using Famfs.Core.Format;
using Famfs.V1;

namespace Famfs.Cli.Verbs;

/// <summary><c>famfs hosts</c>: every mount, how far it is, what it holds; without those that ended in order, unless asked for.</summary>
internal static class HostsCommand
{
    public static Command Build(CliContext context)
    {
        Argument<string?> path = CliOptions.OptionalPath();
        Option<bool> all = new("--all", "-a") { Description = "Also mounts that ended in order" };
        Command command = new("hosts", "Show the mounts of all hosts") { path, all };
        command.SetAction(async (parsed, cancel) =>
        {
            CliTarget target = await context.ResolveFileSystemAsync(parsed, parsed.GetValue(path), cancel, reading: true).ConfigureAwait(false);
            ListHostsReply reply = await context.AskMasterOrMountAsync(
                parsed, target, master => master.ListHostsAsync(context.TimeoutOf(parsed), cancel),
                ListHostsReply.Parser, ["hosts", target.Mount?.MountPoint ?? ""], cancel).ConfigureAwait(false);
            // The memory knows no places. Of this one the host knows it.
            if (target.Mount is { } here && reply.Hosts.FirstOrDefault(h => h.MountPoint.Length == 0 && h.MountId == here.RequireMountId().ToByteString()) is { } own)
                own.MountPoint = here.MountPoint;
            IEnumerable<HostStatus> shown = reply.Hosts.Where(h => parsed.GetValue(all) || h.State != HostState.Gone || h.Evidence != GoneEvidence.CleanUnmount);
            if (context.IsJson(parsed))
            {
                context.WriteJson(json =>
                {
                    json.WriteStartObject();
                    json.WriteHosts("hosts", shown);
                    json.WritePosition("position", reply.Position);
                    json.WriteEndObject();
                });
            }
            else
                PrintTable(context, shown);
            return (int)ExitCode.Ok;
        });
        return command;
    }

    public static void PrintTable(CliContext context, IEnumerable<HostStatus> hosts) =>
        context.WriteTable(["HOST", "MOUNT POINT", "STATE", "POSITION", "LAG", "SILENT", "HELD", "VERSION", "DIALECT", "ADDRESS", "MOUNT"], hosts.Select(h => (IReadOnlyList<string>)
        [
            h.Name.Length > 0 ? LsCommand.Printable(h.Name) : JsonShapes.Uuid(h.HostId),
            OrDash(h.MountPoint),
            JsonShapes.Word(h.State) + (h.Evidence == GoneEvidence.Unspecified ? "" : $" ({JsonShapes.Word(h.Evidence)})"),
            JsonShapes.Text(h.Position),
            h.LagRecords.ToString(CultureInfo.InvariantCulture),
            string.Create(CultureInfo.InvariantCulture, $"{h.SilentMs / 1000.0:0.0}s"),
            h.HeldInodes.ToString(CultureInfo.InvariantCulture),
            OrDash(h.Version),
            OrDash(h.Dialect),
            OrDash(h.Address),
            JsonShapes.Uuid(h.MountId),
        ]), 4, 5, 6);

    /// <summary>A mount says these when it subscribes; of one that has not, they are not known.</summary>
    private static string OrDash(string text) => text.Length > 0 ? LsCommand.Printable(text) : "-";
}
