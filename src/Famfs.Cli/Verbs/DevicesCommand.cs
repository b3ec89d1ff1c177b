using System.CommandLine;
using System.Globalization;
using Famfs.V1;

namespace Famfs.Cli.Verbs;

/// <summary><c>famfs devices list [PATH]</c> and <c>famfs devices add DEVICE [PATH]</c>.</summary>
internal static class DevicesCommand
{
    public static Command Build(CliContext context) => new("devices", "The devices of a file system") { BuildList(context), BuildAdd(context) };

    private static Option<string?> On() => new("--on") { Description = "The same as PATH", HelpName = "PATH" };

    private static string? WhereOf(ParseResult parsed, Argument<string?> path, Option<string?> on) => (parsed.GetValue(path), parsed.GetValue(on)) switch
    {
        ({ }, { }) => throw CliOptions.Usage("PATH and --on say the same; give one"),
        (string place, null) => place,
        (null, var place) => place,
    };

    private static Command BuildList(CliContext context)
    {
        Argument<string?> path = CliOptions.OptionalPath();
        Option<string?> on = On();
        Command command = new("list", "Show the devices") { path, on };
        command.SetAction(async (parsed, cancel) =>
        {
            CliTarget target = await context.ResolveFileSystemAsync(parsed, WhereOf(parsed, path, on), cancel).ConfigureAwait(false);
            ListDevicesReply reply = await target.Client.ListDevicesAsync(context.TimeoutOf(parsed), cancel).ConfigureAwait(false);
            if (context.IsJson(parsed))
            {
                context.WriteJson(json =>
                {
                    json.WriteStartObject();
                    json.WriteDevices("devices", reply.Devices);
                    json.WriteEndObject();
                });
                return (int)ExitCode.Ok;
            }
            context.WriteTable(["INDEX", "UUID", "SIZE", "FREE", "COHERENT", "PATH"], reply.Devices.Select(d => (IReadOnlyList<string>)
            [
                d.Index.ToString(CultureInfo.InvariantCulture), JsonShapes.Uuid(d.DeviceUuid), QuantityText.FormatSize(d.LengthBytes), QuantityText.FormatSize(d.FreeBytes),
                d.Coherent ? "yes" : "no", d.Path.Length == 0 ? $"{d.Name} (missing at the master)" : d.Path,
            ]), 0, 2, 3);
            return (int)ExitCode.Ok;
        });
        return command;
    }

    // Chosen: 64 TiB at 1 GB/s.
    private static readonly TimeSpan s_zeroing = TimeSpan.FromDays(1);

    private static Command BuildAdd(CliContext context)
    {
        Argument<string> device = new("DEVICE") { Description = "Its path on the master's host" };
        Argument<string?> path = CliOptions.OptionalPath();
        Option<string?> on = On();
        Option<bool> force = new("--force", "-f") { Description = "Overwrite what is on it" };
        Option<bool> zero = new("--zero") { Description = "Write zeros over it first; waits for up to a day unless --timeout says less" };
        Option<bool?> coherent = new("--coherent") { Description = "Whether stores of one host are seen by the others; by kind when not said" };
        Command command = new("add", "Add a device") { device, path, on, force, zero, coherent };
        command.SetAction(async (parsed, cancel) =>
        {
            CliTarget target = await context.ResolveFileSystemAsync(parsed, WhereOf(parsed, path, on), cancel).ConfigureAwait(false);
            AddDeviceRequest request = new() { Path = parsed.GetValue(device)!, Force = parsed.GetValue(force), Zero = parsed.GetValue(zero) };
            if (parsed.GetValue(coherent) is { } said)
                request.Coherent = said;
            TimeSpan timeout = request.Zero && !context.IsTimeoutGiven(parsed) ? s_zeroing : context.TimeoutOf(parsed);
            AddDeviceReply reply = await target.Client.AddDeviceAsync(request, timeout, cancel).ConfigureAwait(false);
            if (context.IsJson(parsed))
            {
                context.WriteJson(json =>
                {
                    json.WriteStartObject();
                    json.WritePropertyName("device");
                    json.WriteDevice(reply.Device);
                    json.WritePosition("position", reply.Position);
                    json.WriteEndObject();
                });
            }
            else
                context.Out.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{request.Path}: device {reply.Device.Index}, {reply.Device.LengthBytes} bytes"));
            return (int)ExitCode.Ok;
        });
        return command;
    }
}
