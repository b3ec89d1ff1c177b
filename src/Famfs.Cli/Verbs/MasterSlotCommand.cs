using System.CommandLine;
using Famfs.Core;
using Famfs.Core.Format;
using Famfs.V1;

namespace Famfs.Cli.Verbs;

/// <summary><c>famfs master-slot</c>: asks the running master for a master slot for this host, so that a
/// master can be started here later. A host that has one gets the same again.</summary>
internal static class MasterSlotCommand
{
    public static Command Build(CliContext context)
    {
        Argument<string?> path = CliOptions.OptionalPath();
        Option<string?> state = CliOptions.HostState();
        Command command = new("master-slot", "Ask the running master for a master slot for this host") { path, state };
        command.SetAction(async (parsed, cancel) =>
        {
            CliTarget target = await context.ResolveFileSystemAsync(parsed, parsed.GetValue(path), cancel).ConfigureAwait(false);
            HostIdentity host = HostIdentity.Load(HostIdentity.StateDirectoryOf(parsed.GetValue(state), context.Environment.Variable(HostIdentity.StateDirectoryVariable)), new());
            GrantMasterSlotReply reply = await target.Client.GrantMasterSlotAsync(new() { HostId = host.Host.ToByteString() }, context.TimeoutOf(parsed), cancel).ConfigureAwait(false);
            if (context.IsJson(parsed))
            {
                context.WriteJson(json =>
                {
                    json.WriteStartObject();
                    json.WriteString("host_id", host.Host.ToString());
                    json.WriteNumber("slot", reply.Slot);
                    json.WriteEndObject();
                });
            }
            else
            {
                context.Out.WriteLine($"host {host.Host}: master slot {reply.Slot}");
            }
            return (int)ExitCode.Ok;
        });
        return command;
    }
}
