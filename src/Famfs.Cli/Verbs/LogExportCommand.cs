using System.CommandLine;
using System.Globalization;
using Famfs.Core;
using Famfs.Core.Log;
using Famfs.V1;

namespace Famfs.Cli.Verbs;

/// <summary><c>famfs log export FILE DEVICE…</c>: writes all records, as frames, into a file (<see cref="LogExport"/>).</summary>
internal static class LogExportCommand
{
    public static Command Build(CliContext context)
    {
        Argument<string> target = new("FILE") { Description = "A new file" };
        Argument<string[]> devices = new("DEVICE") { Description = "The devices of a file system, the first one at least; or its mount point", Arity = ArgumentArity.OneOrMore };
        Command command = new("export", "Write every record into a file") { target, devices };
        command.SetAction(async (parsed, cancel) =>
        {
            string path = parsed.GetValue(target)!;
            using DevicePool pool = new DeviceSearch(await context.ResolveDevicesAsync(parsed, parsed.GetValue(devices)!, cancel).ConfigureAwait(false), context.Environment.Formats, context.Environment.Clock).Open(readOnly: true);
            ILogReader reader = pool.Format.OpenReader(pool, context.Environment.Clock);
            long records = 0;
            if (Path.Exists(path))
                throw new FamfsException(ErrorReason.Exists, $"{path}: exists") { Path = path };
            using (FileStream file = new(path, FileMode.CreateNew, FileAccess.Write, FileShare.None))
            {
                try
                {
                    LogExport.WriteHeader(file, reader.Position.FileSystem, reader.Position.Generation);
                    await LogCommand.ReadBlocksAsync(context, reader, block =>
                    {
                        LogExport.WriteBlock(file, block.SegmentId, block.Frames.Span);
                        records += block.Count;
                    }, cancel).ConfigureAwait(false);
                    LogExport.WriteEnd(file);
                    file.Flush(flushToDisk: true);
                }
                catch
                {
                    // A part of a log is worth nothing under the name of the whole.
                    File.Delete(path);
                    throw;
                }
            }
            if (context.IsJson(parsed))
            {
                context.WriteJson(json =>
                {
                    json.WriteStartObject();
                    json.WriteString("file", path);
                    json.WriteString("file_system_uuid", reader.Position.FileSystem);
                    json.WriteNumber("records", records);
                    json.WriteEndObject();
                });
            }
            else
            {
                context.Out.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{path}: {records} record(s) of {reader.Position.FileSystem}"));
            }
            return (int)ExitCode.Ok;
        });
        return command;
    }
}
