using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using Famfs.Client;
using Famfs.Core;
using Famfs.Core.Check;
using Famfs.Core.Dax;
using Famfs.Core.Log;
using Famfs.V1;

namespace Famfs.Cli.Verbs;

/// <summary><c>famfs check DEVICE…|PATH</c>: checks a file system on its devices, or through its master. Exit codes of
/// its own: 0 no errors, 1 errors were there and are repaired, 4 errors are left, 8 the check could not be
/// made.</summary>
internal static class CheckCommand
{
    private const int Clean = 0;
    private const int Repaired = 1;
    private const int ErrorsLeft = 4;
    private const int Operational = 8;

    // Chosen: a master moves its counter several times a second.
    private static readonly TimeSpan s_watch = TimeSpan.FromSeconds(2);

    public static Command Build(CliContext context)
    {
        Argument<string[]> places = new("DEVICE…|PATH") { Description = "All devices of a file system; or a path on its mount, or nothing with --master, for a check by the master", Arity = ArgumentArity.ZeroOrMore };
        Option<bool> repair = new("--repair") { Description = "Make good what can be without guessing; on devices only, while no master runs" };
        Option<string?> backup = new("--backup") { Description = "File for what --repair changes; by default famfs-repair-TIME.json here", HelpName = "FILE" };
        Option<string?> state = CliOptions.HostState();
        Option<string> systemUuid = CliOptions.SystemUuidFile(context.Environment.Formats);
        Command command = new("check", "Check a file system: exit code 0 no errors, 1 repaired, 4 errors left, 8 could not check") { places, repair, backup, state, systemUuid };
        command.SetAction(async (parsed, cancel) =>
        {
            bool online = false;
            try
            {
                string[] given = parsed.GetValue(places) ?? [];
                if (given.Length == 0 || await IsOnMountAsync(context, parsed, given, cancel).ConfigureAwait(false) || context.IsMasterGiven(parsed))
                {
                    online = true;
                    if (parsed.GetValue(repair))
                        throw CliOptions.Usage("--repair works on devices, not through a master");
                    return await CheckOnlineAsync(context, parsed, given, cancel).ConfigureAwait(false);
                }
                return await CheckDevicesAsync(context, parsed, given, parsed.GetValue(repair), parsed.GetValue(backup), HostIdentity.StateDirectoryOf(parsed.GetValue(state), context.Environment.Variable(HostIdentity.StateDirectoryVariable)), parsed.GetValue(systemUuid)!, cancel).ConfigureAwait(false);
            }
            catch (Exception error) when (error is FamfsException or OutOfMemoryException or IOException or UnauthorizedAccessException or DeviceFaultException)
            {
                // Beside a master only the command line itself can be wrong; on devices also files that it names.
                int code = online && ExitCodes.Of(error) == ExitCode.Usage ? (int)ExitCode.Usage : Operational;
                context.Refuse(error, (ExitCode)code);
                return code;
            }
        });
        return command;
    }

    private static async Task<bool> IsOnMountAsync(CliContext context, ParseResult parsed, string[] given, CancellationToken cancel) =>
        given.Length == 1 && (await context.AskMountAsync(parsed, given[0], cancel).ConfigureAwait(false)).Mount is not null;

    private static async Task<int> CheckOnlineAsync(CliContext context, ParseResult parsed, string[] given, CancellationToken cancel)
    {
        CliTarget target = await context.ResolveFileSystemAsync(parsed, given.Length == 0 ? null : given[0], cancel).ConfigureAwait(false);
        List<Finding> findings = [];
        string phase = "";
        await foreach (CheckReply reply in target.Client.CheckAsync(context.TimeoutOf(parsed), cancel).ConfigureAwait(false))
        {
            if (reply.MessageCase == CheckReply.MessageOneofCase.Finding)
                findings.Add(new(reply.Finding.Code, reply.Finding.Where, reply.Finding.What, reply.Finding.Severity == "warning" ? FindingSeverity.Warning : FindingSeverity.Error));
            else if (reply.MessageCase == CheckReply.MessageOneofCase.Progress)
                phase = reply.Progress.Phase;
        }
        // A stream that just ends has not checked everything.
        if (phase != "done")
            throw new FamfsException(ErrorReason.NotMaster, $"the check ended in phase \"{phase}\" before it was complete");
        Print(context, parsed, findings, [], null, null);
        return findings.Any(f => f.Severity == FindingSeverity.Error) ? ErrorsLeft : Clean;
    }

    private static async Task<int> CheckDevicesAsync(CliContext context, ParseResult parsed, string[] given, bool repair, string? backup, string stateDirectory, string systemUuidFile, CancellationToken cancel)
    {
        List<DaxDevice> devices = [];
        try
        {
            foreach (string path in given)
            {
                if (Directory.Exists(path))
                    throw new FamfsException(ErrorReason.BadRequest, $"{path}: is a directory and not on a famfs mount; mount the file system there, or name its devices") { Path = path };
                devices.Add(MappedDaxDevice.Open(path, readOnly: !repair, coherent: null));
            }
            CheckResult result = FileSystemCheck.Run(devices, context.Environment.Formats, context.Environment.Clock);
            if (!repair || (result.Repairs.Count == 0 && result.TailFinding is null))
                return PrintUnchanged(result);
            string backupPath = backup ?? $"famfs-repair-{context.Environment.Clock.GetUtcNow().ToString("yyyyMMdd-HHmmss", CultureInfo.InvariantCulture)}.json";
            IReadOnlyList<Repair> repairs = [];
            CheckResult after;
            using (await MaintenanceLock.HoldAsync(devices, context.Environment.Formats, new(systemUuidFile, s_watch, context.Environment.Clock, HostLocks.OfTool(stateDirectory)), cancel).ConfigureAwait(false))
            {
                // What was seen before the place was held may have been a master's doing.
                after = result = FileSystemCheck.Run(devices, context.Environment.Formats, context.Environment.Clock);
                if (result.Repairs.Count > 0)
                {
                    repairs = result.Repairs;
                    FileSystemRepair.Apply(repairs, backupPath);
                    after = FileSystemCheck.Run(devices, context.Environment.Formats, context.Environment.Clock);
                }
            }
            // A take-over holds the lock of the own slot itself.
            if (after.TailFinding is { } tail)
            {
                LogPosition end;
                try
                {
                    if (!HostIdentity.IsMade(stateDirectory))
                        throw new FamfsException(ErrorReason.NotMaster, $"{stateDirectory}: has no identity of this host, so it has no master slot; start a master, or repair on a host that has a slot") { Path = stateDirectory };
                    HostIdentity host = HostIdentity.Load(stateDirectory, new());
                    end = await TailRepair.RunAsync(context.Environment.Formats.Open(devices), host, context.Environment.Clock, cancel).ConfigureAwait(false);
                }
                catch (FamfsException)
                {
                    Print(context, parsed, result.Findings, repairs, repairs.Count > 0 ? backupPath : null, after);
                    throw;
                }
                repairs = [.. repairs, new(tail, devices[0], 0, [], $"a term of this host took over and ended; the log ends at {end}")];
                after = FileSystemCheck.Run(devices, context.Environment.Formats, context.Environment.Clock);
            }
            if (repairs.Count == 0)
                return PrintUnchanged(after);
            Print(context, parsed, result.Findings, repairs, backupPath, after);
            return after.ErrorCount > 0 ? ErrorsLeft : Repaired;
        }
        finally
        {
            foreach (DaxDevice device in devices)
                device.Dispose();
        }

        int PrintUnchanged(CheckResult seen)
        {
            IReadOnlyList<Repair> possible = seen.TailFinding is { } tail
                ? [.. seen.Repairs, new(tail, devices[0], 0, [], "a term of this host takes over and ends")]
                : seen.Repairs;
            Print(context, parsed, seen.Findings, possible, null, seen);
            return seen.ErrorCount > 0 ? ErrorsLeft : Clean;
        }
    }

    private static void Print(CliContext context, ParseResult parsed, IReadOnlyList<Finding> findings, IReadOnlyList<Repair> repairs, string? backup, CheckResult? result)
    {
        int errors = findings.Count(f => f.Severity == FindingSeverity.Error);
        int left = backup is null ? errors : result!.ErrorCount;
        if (context.IsJson(parsed))
        {
            context.WriteJson(json =>
            {
                json.WriteStartObject();
                json.WriteNumber("errors", errors);
                json.WriteNumber("warnings", findings.Count - errors);
                json.WriteNumber("errors_left", left);
                if (result is not null)
                {
                    json.WriteString("format", NameOf(result.Format));
                    json.WriteNumber("files", result.Files);
                    json.WriteNumber("directories", result.Directories);
                    json.WriteNumber("used_bytes", result.UsedBytes);
                }
                json.WriteStartArray("findings");
                foreach (Finding finding in findings)
                {
                    json.WriteStartObject();
                    json.WriteString("severity", SeverityOf(finding));
                    json.WriteString("code", finding.Code);
                    json.WriteString("where", finding.Where);
                    json.WriteString("what", finding.What);
                    json.WriteEndObject();
                }
                json.WriteEndArray();
                json.WriteStartArray(backup is null ? "repairable" : "repaired");
                foreach (Repair repair in repairs)
                {
                    json.WriteStartObject();
                    json.WriteString("code", repair.Code);
                    json.WriteString("device", repair.Device.Path);
                    json.WriteNumber("offset", repair.Offset);
                    json.WriteNumber("bytes", repair.Bytes.Length);
                    json.WriteString("what", repair.What);
                    json.WriteEndObject();
                }
                json.WriteEndArray();
                if (backup is null || repairs.All(r => r.Bytes.Length == 0))
                    json.WriteNull("backup");
                else
                    json.WriteString("backup", backup);
                json.WriteEndObject();
            });
            return;
        }
        foreach (Finding finding in findings)
            context.Out.WriteLine($"{SeverityOf(finding)} {finding.Code}: {LsCommand.Printable(finding.Where)}: {LsCommand.Printable(finding.What)}");
        foreach (Repair repair in repairs)
            context.Out.WriteLine($"{(backup is null ? "repairable" : "repaired")} {repair.Code}: {repair.Device.Path}{(repair.Bytes.Length > 0 ? $" at {repair.Offset}" : "")}: {repair.What}");
        if (backup is not null && repairs.Any(r => r.Bytes.Length > 0))
            context.Out.WriteLine($"backup of what was changed: {backup}");
        string what = result is null ? "" : string.Create(CultureInfo.InvariantCulture, $"{NameOf(result.Format)}, {result.Files} file(s), {result.Directories} directories, {QuantityText.FormatSize((ulong)result.UsedBytes)} used: ");
        context.Out.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{what}{errors} error(s), {findings.Count - errors} warning(s){(backup is null ? "" : $", {left} error(s) left")}"));
    }

    private static string SeverityOf(Finding finding) => finding.Severity == FindingSeverity.Error ? "error" : "warning";

    private static string NameOf(MediaFormat? format) => format?.Name ?? "unknown";
}
