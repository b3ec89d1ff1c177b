using System.CommandLine;
using System.Globalization;
using Famfs.Core.Format;
using Famfs.V1;

namespace Famfs.Cli.Verbs;

/// <summary><c>famfs df</c>: space, per device and in all.</summary>
internal static class DfCommand
{
    public static Command Build(CliContext context)
    {
        Argument<string?> path = CliOptions.OptionalPath();
        Command command = new("df", "Show space") { path };
        command.SetAction(async (parsed, cancel) =>
        {
            CliTarget target = await context.ResolveFileSystemAsync(parsed, parsed.GetValue(path), cancel, reading: true).ConfigureAwait(false);
            GetStatusReply status = await context.AskMasterOrMountAsync(
                parsed, target, master => master.GetStatusAsync(context.TimeoutOf(parsed), cancel),
                GetStatusReply.Parser, ["space", target.Mount?.MountPoint ?? ""], cancel).ConfigureAwait(false);
            if (status.FileSystemUuid.IsEmpty && target.Mount is { } mount)
                status.FileSystemUuid = mount.RequireFileSystem().ToByteString();
            if (context.IsJson(parsed))
            {
                context.WriteJson(json =>
                {
                    json.WriteStartObject();
                    json.WriteString("file_system_uuid", JsonShapes.Uuid(status.FileSystemUuid));
                    json.WriteNumber("capacity_bytes", status.CapacityBytes);
                    json.WriteNumber("free_bytes", status.FreeBytes);
                    json.WriteNumber("largest_free_bytes", status.LargestFreeBytes);
                    json.WriteNumber("pending_reclaim_bytes", status.PendingReclaimBytes);
                    json.WriteStartArray("reclaim_waits");
                    foreach (string wait in status.ReclaimWaits)
                        json.WriteStringValue(wait);
                    json.WriteEndArray();
                    json.WriteDevices("devices", status.Devices);
                    json.WriteEndObject();
                });
                return (int)ExitCode.Ok;
            }
            List<IReadOnlyList<string>> rows = [.. status.Devices.Select(d => (IReadOnlyList<string>)
                [d.Index.ToString(CultureInfo.InvariantCulture), .. Space(d.LengthBytes, d.FreeBytes, d.LargestFreeBytes), d.Path.Length == 0 ? $"{d.Name} (missing at the master)" : d.Path])];
            rows.Add(["all", .. Space(status.CapacityBytes, status.FreeBytes, status.LargestFreeBytes), JsonShapes.Uuid(status.FileSystemUuid)]);
            context.WriteTable(["DEVICE", "SIZE", "USED", "FREE", "LARGEST", "USE%", "PATH"], rows, 1, 2, 3, 4, 5);
            // A device's part of it is not known.
            if (status.PendingReclaimBytes > 0)
            {
                context.Out.WriteLine($"{QuantityText.FormatSize(status.PendingReclaimBytes)} of USED are pending: of files that were removed, and not free yet");
                foreach (string wait in status.ReclaimWaits)
                    context.Out.WriteLine($"  waits for {LsCommand.Printable(wait)}");
            }
            return (int)ExitCode.Ok;
        });
        return command;
    }

    private static string[] Space(ulong size, ulong free, ulong largest)
    {
        ulong used = size - Math.Min(free, size);
        return [QuantityText.FormatSize(size), QuantityText.FormatSize(used), QuantityText.FormatSize(free), QuantityText.FormatSize(largest),
            size == 0 ? "-" : string.Create(CultureInfo.InvariantCulture, $"{100.0 * used / size:0}%")];
    }
}
