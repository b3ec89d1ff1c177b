using System.CommandLine;
using System.Globalization;
using Famfs.Client;
using Famfs.Core;
using Famfs.V1;

namespace Famfs.Cli.Verbs;

/// <summary><c>famfs devices list [PATH]</c>, <c>famfs devices add DEVICE [PATH]</c> and <c>famfs devices attach DEVICE… MOUNTPOINT</c>.</summary>
internal static class DevicesCommand
{
    public static Command Build(CliContext context) => new("devices", "The devices of a file system") { BuildList(context), BuildAdd(context), BuildAttach(context) };

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
            (List<HostStatus> lacking, List<HostStatus> unknown) = await FindLackingAsync(context, parsed, target, reply, cancel).ConfigureAwait(false);
            if (context.IsJson(parsed))
            {
                context.WriteJson(json =>
                {
                    json.WriteStartObject();
                    json.WritePropertyName("device");
                    json.WriteDevice(reply.Device);
                    json.WritePosition("position", reply.Position);
                    json.WriteHosts("missing_at", lacking);
                    json.WriteHosts("not_known_at", unknown);
                    json.WriteEndObject();
                });
            }
            else
            {
                context.Out.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{request.Path}: device {reply.Device.Index}, {reply.Device.LengthBytes} bytes"));
                foreach (HostStatus host in lacking)
                    context.Out.WriteLine($"missing at {HostsCommand.NameOf(host)}: new files avoid the device, files on it answer EIO there; `famfs devices attach DEVICE MOUNTPOINT` on that host gives it to the mount");
                foreach (HostStatus host in unknown)
                    context.Out.WriteLine($"not known at {HostsCommand.NameOf(host)}: it has not told whether it has the device");
            }
            return (int)ExitCode.Ok;
        });
        return command;
    }

    // Chosen: a mount looks at once for a device that has joined; one that is slow is named as not known.
    private static readonly TimeSpan s_looking = TimeSpan.FromSeconds(5);

    private static readonly TimeSpan s_poll = TimeSpan.FromMilliseconds(50);

    /// <summary>The mounts that lack a device that has just joined, and those that do not tell.</summary>
    private static async Task<(List<HostStatus> Lacking, List<HostStatus> Unknown)> FindLackingAsync(CliContext context, ParseResult parsed, CliTarget target, AddDeviceReply added, CancellationToken cancel)
    {
        uint index = added.Device.Index;
        long start = context.Environment.Clock.GetTimestamp();
        try
        {
            while (true)
            {
                List<HostStatus> hosts = [.. (await target.Client.ListHostsAsync(context.TimeoutOf(parsed), cancel).ConfigureAwait(false)).Hosts.Where(h => h.State != HostState.Gone)];
                List<HostStatus> unknown = [.. hosts.Where(h => h.MissingDevices is not { } said || said.DeviceCount <= index)];
                // Only who has a stream can tell.
                if (unknown.All(h => !h.Subscribed || h.State == HostState.Silent) || context.Environment.Clock.GetElapsedTime(start) >= s_looking)
                    return ([.. hosts.Where(h => h.MissingDevices?.Indices.Contains(index) == true)], unknown);
                await Task.Delay(s_poll, context.Environment.Clock, cancel).ConfigureAwait(false);
            }
        }
        catch (FamfsException error)
        {
            // The device has been added, whatever fails here.
            context.Remark($"device {index} is added; which mounts lack it is not known: {error.Message}");
            return ([], []);
        }
    }

    private static Command BuildAttach(CliContext context)
    {
        Argument<string[]> places = new("DEVICE… MOUNTPOINT") { Description = "Devices of the pool that the mount lacks, then the mount", Arity = new ArgumentArity(2, 100_000) };
        Command command = new("attach", "Give a running mount of this host devices that it lacks; for root and the user of its daemon") { places };
        command.SetAction(async (parsed, cancel) =>
        {
            string[] given = parsed.GetValue(places)!;
            string place = given[^1];
            FamfsMount mount = (await context.AskMountAsync(parsed, place, cancel).ConfigureAwait(false)).Mount
                ?? throw new FamfsException(ErrorReason.BadRequest, $"{place}: not on a famfs mount") { Path = place };
            Guid id = mount.RequireMountId();
            List<(string Path, DeviceIndex Index)> attached = [];
            ExitCode exit = await context.ForEachAsync(given[..^1], async device =>
            {
                DeviceIndex index = await MountControl.AttachAsync(id, device, context.TimeoutOf(parsed), cancel).ConfigureAwait(false);
                attached.Add((device, index));
                if (!context.IsJson(parsed))
                    context.Out.WriteLine($"{device}: device {index} of {mount.MountPoint}");
            }).ConfigureAwait(false);
            if (context.IsJson(parsed))
            {
                context.WriteJson(json =>
                {
                    json.WriteStartObject();
                    json.WriteString("mount_point", mount.MountPoint);
                    json.WriteStartArray("attached");
                    foreach ((string path, DeviceIndex index) in attached)
                    {
                        json.WriteStartObject();
                        json.WriteString("path", path);
                        json.WriteNumber("index", index.Value);
                        json.WriteEndObject();
                    }
                    json.WriteEndArray();
                    json.WriteEndObject();
                });
            }
            return (int)exit;
        });
        return command;
    }
}
