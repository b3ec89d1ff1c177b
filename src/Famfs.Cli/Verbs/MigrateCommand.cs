using System.CommandLine;
using System.Globalization;
using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Log;

namespace Famfs.Cli.Verbs;

/// <summary><c>famfs migrate DEVICE…</c>: makes a file system of another format native, its files where they are. Run again
/// after a crash: it goes on or begins anew.</summary>
internal static class MigrateCommand
{
    // Chosen: a master moves its counter several times a second.
    private static readonly TimeSpan s_watch = TimeSpan.FromSeconds(2);

    /// <param name="context">What the command runs in.</param>
    /// <param name="format">The format that is migrated from.</param>
    public static Command Build(CliContext context, MediaFormat format)
    {
        Argument<string[]> places = new("DEVICE") { Description = $"All devices of a {format.Name} file system, mounted nowhere", Arity = ArgumentArity.OneOrMore };
        Option<string?> state = CliOptions.HostState();
        Option<string> systemUuid = CliOptions.SystemUuidFile(context.Environment.Formats);
        Command command = new("migrate", $"Make a {format.Name} file system native, in place; this host gets master slot 0") { places, state, systemUuid };
        command.SetAction(async (parsed, cancel) =>
        {
            string directory = HostIdentity.StateDirectoryOf(parsed.GetValue(state), context.Environment.Variable(HostIdentity.StateDirectoryVariable));
            List<DaxDevice> devices = [];
            try
            {
                foreach (string path in parsed.GetValue(places)!)
                    devices.Add(MappedDaxDevice.Open(path));
                using MaintenanceLock held = await MaintenanceLock.HoldAsync(devices, context.Environment.Formats, new(parsed.GetValue(systemUuid)!, s_watch, context.Environment.Clock, HostLocks.OfTool(directory)), cancel).ConfigureAwait(false);
                MigrationResult result = format.Migration!.Run(devices, () => HostIdentity.Load(directory, new()).Host, context.Environment.Clock);
                if (context.IsJson(parsed))
                {
                    context.WriteJson(json =>
                    {
                        json.WriteStartObject();
                        json.WriteString("file_system_uuid", result.FileSystem);
                        json.WriteBoolean("completed", result.Completed);
                        json.WriteNumber("files", result.Files);
                        json.WriteNumber("directories", result.Directories);
                        json.WriteEndObject();
                    });
                }
                else
                {
                    context.Out.WriteLine(result.Completed
                        ? $"{result.FileSystem}: an interrupted migration is complete; native"
                        : string.Create(CultureInfo.InvariantCulture, $"{result.FileSystem}: native, {result.Files} file(s), {result.Directories} directories beside the root"));
                }
                return (int)ExitCode.Ok;
            }
            finally
            {
                foreach (DaxDevice device in devices)
                    device.Dispose();
            }
        });
        return command;
    }
}
