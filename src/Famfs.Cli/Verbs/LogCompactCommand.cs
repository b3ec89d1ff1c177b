using System.CommandLine;
using System.Globalization;
using Famfs.V1;

namespace Famfs.Cli.Verbs;

/// <summary><c>famfs log compact</c>: asks the running master to write the log again, without what later changes made void.</summary>
internal static class LogCompactCommand
{
    public static Command Build(CliContext context)
    {
        Argument<string?> path = CliOptions.OptionalPath();
        Command command = new("compact", "Have the running master shorten the log; mounts follow while they serve") { path };
        command.SetAction(async (parsed, cancel) =>
        {
            CliTarget target = await context.ResolveFileSystemAsync(parsed, parsed.GetValue(path), cancel).ConfigureAwait(false);
            CompactReply reply = await target.Client.CompactAsync(new(), context.TimeoutOf(parsed), cancel).ConfigureAwait(false);
            if (context.IsJson(parsed))
            {
                context.WriteJson(json =>
                {
                    json.WriteStartObject();
                    json.WriteNumber("generation", reply.Position.Generation);
                    json.WriteNumber("records_before", reply.RecordsBefore);
                    json.WriteNumber("log_bytes_before", reply.LogBytesBefore);
                    json.WriteNumber("records_after", reply.RecordsAfter);
                    json.WriteNumber("log_bytes_after", reply.LogBytesAfter);
                    json.WriteNumber("segments_freed", reply.SegmentsFreed);
                    json.WriteNumber("segment_bytes_freed", reply.SegmentBytesFreed);
                    json.WriteEndObject();
                });
            }
            else
            {
                context.Out.WriteLine(string.Create(CultureInfo.InvariantCulture, $"before     {reply.RecordsBefore} records, {QuantityText.FormatSize(reply.LogBytesBefore)}"));
                context.Out.WriteLine(string.Create(CultureInfo.InvariantCulture, $"after      {reply.RecordsAfter} records, {QuantityText.FormatSize(reply.LogBytesAfter)}, generation {reply.Position.Generation}"));
                context.Out.WriteLine(string.Create(CultureInfo.InvariantCulture, $"set free   {reply.SegmentsFreed} segments, {QuantityText.FormatSize(reply.SegmentBytesFreed)}, once no mount reads them"));
            }
            return (int)ExitCode.Ok;
        });
        return command;
    }
}
