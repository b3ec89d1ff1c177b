using System.CommandLine;
using System.Globalization;
using Famfs.Core;
using Famfs.Core.Log;
using Famfs.V1;

namespace Famfs.Cli.Verbs;

/// <summary><c>famfs log export FILE DEVICE…</c>: writes all records, as frames, into a file (<see cref="LogExport"/>).</summary>
internal static class LogExportCommand
{
    // Chosen: a compaction takes much longer than the reading of what it left.
    private const int Tries = 5;

    public static Command Build(CliContext context)
    {
        Argument<string> target = new("FILE") { Description = "A new file" };
        Argument<string[]> devices = new("DEVICE") { Description = "The devices of a file system, the first one at least; or its mount point", Arity = ArgumentArity.OneOrMore };
        Command command = new("export", "Write every record into a file") { target, devices };
        command.SetAction(async (parsed, cancel) =>
        {
            string path = parsed.GetValue(target)!;
            using DevicePool pool = new DeviceSearch(await context.ResolveDevicesAsync(parsed, parsed.GetValue(devices)!, cancel).ConfigureAwait(false), context.Environment.Formats, context.Environment.Clock).Open(readOnly: true);
            long records = 0;
            if (Path.Exists(path))
                throw new FamfsException(ErrorReason.Exists, $"{path}: exists") { Path = path };
            using (FileStream file = new(path, FileMode.CreateNew, FileAccess.Write, FileShare.None))
            {
                try
                {
                    int tries = 0;
                    long? written;
                    while ((written = await TryWriteAsync(context, pool, file, cancel).ConfigureAwait(false)) is null)
                    {
                        if (++tries == Tries)
                            throw new FamfsException(ErrorReason.StaleGeneration, $"the log was compacted each of the {Tries} times that it was read; run it again");
                    }
                    records = written.Value;
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
                    json.WriteString("file_system_uuid", pool.Primary.FileSystem);
                    json.WriteNumber("records", records);
                    json.WriteEndObject();
                });
            }
            else
            {
                context.Out.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{path}: {records} record(s) of {pool.Primary.FileSystem}"));
            }
            return (int)ExitCode.Ok;
        });
        return command;
    }

    /// <summary>Writes the whole file; gives the count of records. Null: the log was compacted while it was read, and is to be read again.</summary>
    private static async Task<long?> TryWriteAsync(CliContext context, DevicePool pool, FileStream file, CancellationToken cancel)
    {
        file.SetLength(0);
        ILogReader reader = pool.Format.OpenReader(pool, context.Environment.Clock);
        ulong first = reader.Position.Generation;
        ulong? generation = null;
        long records = 0;
        try
        {
            await LogCommand.ReadBlocksAsync(context, reader, block =>
            {
                if (generation is null)
                    LogExport.WriteHeader(file, pool.Primary.FileSystem, first, block.Generation);
                generation ??= block.Generation;
                if (block.Generation != generation)
                    throw new FamfsException(ErrorReason.StaleGeneration, $"the log went on in generation {block.Generation}");
                LogExport.WriteBlock(file, block.SegmentId, block.Frames.Span);
                records += block.Count;
            }, cancel).ConfigureAwait(false);
        }
        catch (FamfsException error) when (error.Reason == ErrorReason.StaleGeneration)
        {
            // Or the rest of what it read is gone: nobody keeps it for a tool.
            return null;
        }
        if (generation is null)
            LogExport.WriteHeader(file, pool.Primary.FileSystem, first, first);
        LogExport.WriteEnd(file);
        return records;
    }
}
