using System.CommandLine;
using System.Globalization;
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
        Option<string?> reclaim = new("--reclaim")
        {
            Description = "What ends the wait for a silent mount before space of removed files is used again: confirmed (proof only) or lease (also its lease and the grace, which have passed)",
            HelpName = "POLICY",
        };
        Option<TimeSpan> lease = GlobalOptions.Duration("--lease", "With --reclaim lease: within which time a mount that begins now gives up its files when it cannot write its line; 5s to 1h, 30s when not said");
        Option<TimeSpan> grace = GlobalOptions.Duration("--grace", "With --reclaim lease: how much longer its line must stand still; 1s to 1h, 10s when not said");
        Command command = new("policy", "Show or change what holds for the whole file system") { path, floor, reclaim, lease, grace };
        command.SetAction(async (parsed, cancel) =>
        {
            SetPolicyRequest wanted = new();
            if (parsed.GetValue(floor) is { } dialect)
                wanted.DialectFloor = dialect;
            if (parsed.GetValue(reclaim) is { } policy)
                wanted.Reclaim = ParseReclaim(policy);
            if (parsed.GetResult(lease) is not null)
                wanted.LeaseMs = (uint)parsed.GetValue(lease).TotalMilliseconds;
            if (parsed.GetResult(grace) is not null)
                wanted.LeaseGraceMs = (uint)parsed.GetValue(grace).TotalMilliseconds;
            CliTarget target = await context.ResolveFileSystemAsync(parsed, parsed.GetValue(path), cancel).ConfigureAwait(false);
            SetPolicyReply inForce;
            if (!wanted.Equals(new SetPolicyRequest()))
            {
                inForce = await target.Client.SetPolicyAsync(wanted, context.TimeoutOf(parsed), cancel).ConfigureAwait(false);
                // An older master does not know these fields, and sets the floor alone.
                if ((wanted.HasReclaim && inForce.Reclaim != wanted.Reclaim) || (wanted.HasLeaseMs && inForce.LeaseMs != wanted.LeaseMs) || (wanted.HasLeaseGraceMs && inForce.LeaseGraceMs != wanted.LeaseGraceMs))
                    throw new Core.FamfsException(ErrorReason.NotImplemented, $"the master's version has no policy of reuse that could be set{(wanted.HasDialectFloor ? $"; the dialect floor is {inForce.DialectFloor} now" : "")}");
                foreach (string warning in inForce.Warnings)
                    context.Remark($"warning: {LsCommand.Printable(warning)}");
            }
            else
            {
                GetStatusReply status = await target.Client.GetStatusAsync(context.TimeoutOf(parsed), cancel).ConfigureAwait(false);
                inForce = new() { DialectFloor = status.DialectFloor, Reclaim = status.Reclaim, LeaseMs = status.LeaseMs, LeaseGraceMs = status.LeaseGraceMs };
            }
            if (context.IsJson(parsed))
            {
                context.WriteJson(json =>
                {
                    json.WriteStartObject();
                    json.WriteString("dialect_floor", inForce.DialectFloor);
                    json.WriteString("reclaim", JsonShapes.Word(inForce.Reclaim));
                    json.WriteNumber("lease_ms", inForce.LeaseMs);
                    json.WriteNumber("lease_grace_ms", inForce.LeaseGraceMs);
                    json.WriteEndObject();
                });
            }
            else
            {
                context.Out.WriteLine($"dialect floor  {inForce.DialectFloor}");
                context.Out.WriteLine($"reuse          {NameOf(inForce.Reclaim, inForce.LeaseMs, inForce.LeaseGraceMs)}");
            }
            return (int)ExitCode.Ok;
        });
        return command;
    }

    /// <summary>A policy of reuse for people, with its times.</summary>
    public static string NameOf(ReclaimPolicy policy, uint leaseMs, uint graceMs) => policy == ReclaimPolicy.Lease
        ? string.Create(CultureInfo.InvariantCulture, $"lease of {leaseMs / 1000.0:0.###} s, grace {graceMs / 1000.0:0.###} s")
        : JsonShapes.Word(policy);

    private static ReclaimPolicy ParseReclaim(string text) => text.ToLowerInvariant() switch
    {
        "confirmed" => ReclaimPolicy.Confirmed,
        "lease" => ReclaimPolicy.Lease,
        _ => throw new Core.FamfsException(ErrorReason.BadRequest, $"policy of reuse '{LsCommand.Printable(text)}' is not known; confirmed or lease"),
    };
}
