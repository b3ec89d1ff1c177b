using System.CommandLine;
using Famfs.Client;
using Famfs.Core;
using Famfs.V1;

namespace Famfs.Cli.Verbs;

/// <summary><c>famfs health [MASTER|MOUNTPOINT]</c>: asks one master or one mount how it is, once, for those who ask every few seconds:
/// probes of containers and of balancers. Exit code 0 when it is well, another one says what is not (docs/operations.md).</summary>
internal static class HealthCommand
{
    // Chosen: both answer in milliseconds. A probe has a time-out of its own, which ought to be longer.
    private static readonly TimeSpan s_answer = TimeSpan.FromSeconds(5);

    private sealed record Health(string Target, bool Ready, string State);

    public static Command Build(CliContext context)
    {
        Argument<string?> what = new("MASTER | MOUNTPOINT") { Description = "Address of a master, or where a famfs is mounted; the master that is configured, or that of this host, when not said", Arity = ArgumentArity.ZeroOrOne };
        Option<bool> live = new("--live") { Description = "Only whether it answers at all: what does not is to be started again" };
        Option<bool> ready = new("--ready") { Description = "Also whether it does its work: the master serves, files of the mount can be opened (default)" };
        Command command = new("health", "Ask a master or a mount whether it is well, once") { what, live, ready };
        command.Validators.Add(result =>
        {
            if (result.GetValue(live) && result.GetValue(ready))
                result.AddError("--live and --ready exclude each other");
        });
        command.SetAction(async (parsed, cancel) =>
        {
            TimeSpan timeout = context.IsTimeoutGiven(parsed) ? context.TimeoutOf(parsed) : s_answer;
            string? given = parsed.GetValue(what);
            Health health = given is null || FamfsClient.IsAddress(given)
                ? await AskMasterAsync(context, parsed, given, timeout, cancel).ConfigureAwait(false)
                : await AskMountAsync(context, given, timeout, cancel).ConfigureAwait(false);
            if (context.IsJson(parsed))
            {
                context.WriteJson(json =>
                {
                    json.WriteStartObject();
                    json.WriteString("target", health.Target);
                    json.WriteBoolean("live", true);
                    json.WriteBoolean("ready", health.Ready);
                    json.WriteString("state", health.State);
                    json.WriteEndObject();
                });
            }
            else
                context.Out.WriteLine($"{health.Target}: {health.State}");
            return (int)(health.Ready || parsed.GetValue(live) ? ExitCode.Ok : ExitCode.Failed);
        });
        return command;
    }

    private static async Task<Health> AskMasterAsync(CliContext context, ParseResult parsed, string? given, TimeSpan timeout, CancellationToken cancel)
    {
        // One that is asked for is asked, and no other that it or the log names.
        string[] addresses = given is null ? context.MastersOf(parsed) : [given];
        using FamfsClient client = new(new FamfsClientOptions { Addresses = addresses, MaxAttempts = Math.Max(1, addresses.Length), Timeout = timeout, Tls = context.TlsOf(parsed), Clock = context.Environment.Clock });
        bool serves = await client.IsServingAsync(timeout, cancel).ConfigureAwait(false);
        return new(client.CurrentAddress, serves, serves ? "serving" : "there, and not serving: its engine does not answer, or it is ending");
    }

    private static async Task<Health> AskMountAsync(CliContext context, string given, TimeSpan timeout, CancellationToken cancel)
    {
        string place = MountEntry.PlaceOf(given, context.Environment.MountTablePath);
        if (!FamfsMount.FindAll(context.Environment.MountTablePath).Any(m => m.MountPoint == place))
            throw new FamfsException(ErrorReason.NotFound, $"{given}: no famfs is mounted there") { Path = given };
        FamfsMount mount = (await context.AskMountAsync(place, timeout, cancel).ConfigureAwait(false)).Mount
            ?? throw new FamfsException(ErrorReason.NotFound, $"{given}: no famfs is mounted there any more") { Path = given };
        // Throws HOST_GONE where the daemon is.
        string registration = mount.ReadRegistration();
        return registration == FamfsMount.Registered ? new(place, true, "files can be opened") : new(place, false, $"names are served, files cannot be opened: {registration}");
    }
}
