using System.CommandLine;
using Famfs.V1;

namespace Famfs.Cli.Verbs;

/// <summary><c>famfs policy</c>: shows what holds for the whole file system, or changes it.</summary>
internal static class PolicyCommand
{
    public static Command Build(CliContext context)
    {
        Argument<string?> path = CliOptions.OptionalPath();
        Option<string?> floor = new("--dialect-floor")
        {
            Description = "The least capable famfs kernel that must be able to map every new file: none, A, B0, B or D",
            HelpName = "DIALECT",
        };
        Command command = new("policy", "Show or change what holds for the whole file system") { path, floor };
        command.SetAction(async (parsed, cancel) =>
        {
            CliTarget target = await context.ResolveFileSystemAsync(parsed, parsed.GetValue(path), cancel).ConfigureAwait(false);
            string inForce;
            if (parsed.GetValue(floor) is { } wanted)
            {
                SetPolicyReply reply = await target.Client.SetPolicyAsync(new() { DialectFloor = wanted }, context.TimeoutOf(parsed), cancel).ConfigureAwait(false);
                inForce = reply.DialectFloor;
                foreach (string warning in reply.Warnings)
                    context.Remark($"warning: {LsCommand.Printable(warning)}");
            }
            else
            {
                inForce = (await target.Client.GetStatusAsync(context.TimeoutOf(parsed), cancel).ConfigureAwait(false)).DialectFloor;
            }
            if (context.IsJson(parsed))
            {
                context.WriteJson(json =>
                {
                    json.WriteStartObject();
                    json.WriteString("dialect_floor", inForce);
                    json.WriteEndObject();
                });
            }
            else
            {
                context.Out.WriteLine($"dialect floor  {inForce}");
            }
            return (int)ExitCode.Ok;
        });
        return command;
    }
}
