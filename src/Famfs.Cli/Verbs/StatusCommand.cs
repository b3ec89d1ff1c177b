using System.CommandLine;
using System.Globalization;
using Famfs.Client;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.V1;

namespace Famfs.Cli.Verbs;

/// <summary><c>famfs status</c>: the file system and its master.</summary>
internal static class StatusCommand
{
    public static Command Build(CliContext context)
    {
        Argument<string?> path = CliOptions.OptionalPath();
        Command command = new("status", "Show the state of a file system and its master") { path };
        command.SetAction(async (parsed, cancel) =>
        {
            CliTarget target = await context.ResolveFileSystemAsync(parsed, parsed.GetValue(path), cancel, reading: true).ConfigureAwait(false);
            GetStatusReply? said = await context.AskMasterAloneAsync(parsed, target, cancel).ConfigureAwait(false);
            GetStatusReply status = said ?? await DescribeMountAsync(context, parsed, target.Mount!, cancel).ConfigureAwait(false);
            // The mount is looked at also when the master is named by its address: the mount may know no other.
            FamfsMount? seen = target.Mount ?? (parsed.GetValue(path) is { } local ? (await context.AskMountAsync(parsed, local, cancel).ConfigureAwait(false)).Mount : null);
            if (seen is { } mount && mount.ReadDamage() is { } damage)
                status.Warnings.Add($"{mount.MountPoint} is read-only: {damage}");
            if (context.IsJson(parsed))
                context.WriteJson(json => Write(json, status));
            else
                Print(context.Out, status);
            // What was asked for is the master, too.
            return (int)(said is null ? ExitCode.MasterUnreachable : ExitCode.Ok);
        });
        return command;
    }

    /// <summary>What a mount knows of its file system. What only a master knows is left out.</summary>
    private static async Task<GetStatusReply> DescribeMountAsync(CliContext context, ParseResult parsed, FamfsMount mount, CancellationToken cancel)
    {
        GetStatusReply status = await context.AskMountAloneAsync(parsed, mount, GetStatusReply.Parser, ["space", mount.MountPoint], cancel).ConfigureAwait(false);
        status.FileSystemUuid = mount.RequireFileSystem().ToByteString();
        status.Position = mount.ReadPosition()?.ToMessage();
        foreach ((uint index, MountDevice device) in mount.ReadDevices().OrderBy(d => d.Key))
            status.Devices.Add(new DeviceInfo { Index = index, DeviceUuid = device.Uuid.ToByteString(), Path = device.Path });
        return status;
    }

    private static void Write(System.Text.Json.Utf8JsonWriter json, GetStatusReply status)
    {
        json.WriteStartObject();
        json.WriteString("file_system_uuid", JsonShapes.Uuid(status.FileSystemUuid));
        json.WriteString("label", status.Label);
        json.WriteString("format", status.Format);
        json.WritePosition("position", status.Position);
        json.WriteNumber("slot", status.Slot);
        json.WriteString("master_id", JsonShapes.Uuid(status.MasterId));
        json.WriteString("host_id", JsonShapes.Uuid(status.HostId));
        json.WriteString("address", status.Address);
        json.WriteString("version", status.Version);
        json.WriteNumber("capacity_bytes", status.CapacityBytes);
        json.WriteNumber("free_bytes", status.FreeBytes);
        json.WriteNumber("largest_free_bytes", status.LargestFreeBytes);
        json.WriteNumber("file_count", status.FileCount);
        json.WriteNumber("directory_count", status.DirectoryCount);
        json.WriteNumber("pending_reclaim_bytes", status.PendingReclaimBytes);
        json.WriteNumber("log_bytes", status.LogBytes);
        json.WriteNumber("log_reserved_bytes", status.LogReservedBytes);
        json.WriteNumber("segment_count", status.SegmentCount);
        json.WriteNumber("uptime_ms", status.UptimeMs);
        json.WriteNumber("host_count", status.HostCount);
        json.WriteNumber("subscriber_count", status.SubscriberCount);
        json.WriteString("reclaim", JsonShapes.Word(status.Reclaim));
        json.WriteNumber("lease_ms", status.LeaseMs);
        json.WriteNumber("lease_grace_ms", status.LeaseGraceMs);
        json.WriteString("dialect_floor", status.DialectFloor);
        json.WriteDevices("devices", status.Devices);
        json.WriteStartArray("reclaim_waits");
        foreach (string wait in status.ReclaimWaits)
            json.WriteStringValue(wait);
        json.WriteEndArray();
        json.WriteStartArray("warnings");
        foreach (string warning in status.Warnings)
            json.WriteStringValue(warning);
        json.WriteEndArray();
        json.WriteEndObject();
    }

    private static void Print(TextWriter output, GetStatusReply status)
    {
        CultureInfo invariant = CultureInfo.InvariantCulture;
        // Of a mount that no master answers.
        bool alone = status.Address.Length == 0 && status.MasterId.IsEmpty;
        output.WriteLine(string.Create(invariant, $"file system  {JsonShapes.Uuid(status.FileSystemUuid)}{(status.Label.Length == 0 ? "" : $" '{status.Label}'")}{(alone ? "" : $", {status.Format}")}"));
        output.WriteLine(alone ? "master       none answers" : string.Create(invariant, $"master       {status.Address}, slot {status.Slot}, version {status.Version}, up {TimeSpan.FromSeconds(status.UptimeMs / 1000):c}"));
        output.WriteLine($"position     {(status.Position is null ? "-" : JsonShapes.Text(status.Position))}");
        output.WriteLine(string.Create(invariant, $"space        {QuantityText.FormatSize(status.CapacityBytes)}, free {QuantityText.FormatSize(status.FreeBytes)}{(alone ? "" : $", largest run {QuantityText.FormatSize(status.LargestFreeBytes)}, pending reclaim {QuantityText.FormatSize(status.PendingReclaimBytes)}")}"));
        if (alone)
        {
            output.WriteLine(string.Create(invariant, $"devices      {status.Devices.Count} on this host"));
        }
        else
        {
            output.WriteLine(string.Create(invariant, $"files        {status.FileCount}, directories {status.DirectoryCount}, devices {status.Devices.Count}"));
            output.WriteLine(string.Create(invariant, $"log          {QuantityText.FormatSize(status.LogBytes)} of {QuantityText.FormatSize(status.LogReservedBytes)} in {status.SegmentCount} segment(s)"));
            output.WriteLine(string.Create(invariant, $"hosts        {status.HostCount}, subscribed {status.SubscriberCount}, reuse {PolicyCommand.NameOf(status.Reclaim, status.LeaseMs, status.LeaseGraceMs)}, dialect floor {status.DialectFloor}"));
        }
        foreach (string wait in status.PendingReclaimBytes > 0 ? status.ReclaimWaits : [])
            output.WriteLine($"waits for    {LsCommand.Printable(wait)}");
        foreach (string warning in status.Warnings)
            output.WriteLine($"warning      {LsCommand.Printable(warning)}");
    }
}
