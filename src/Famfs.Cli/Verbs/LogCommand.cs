using System.CommandLine;
using System.Globalization;
using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.V1;
using Google.Protobuf;

namespace Famfs.Cli.Verbs;

/// <summary><c>famfs log dump DEVICE…</c> or <c>MOUNT</c>: reads the log from the memory, without a master.</summary>
internal static class LogCommand
{
    // Chosen: how often an unsettled log (somebody is taking over) is looked at again before giving up.
    private const int MaxUnsettled = 100;
    private static readonly TimeSpan s_unsettledPause = TimeSpan.FromMilliseconds(50);

    public static Command Build(CliContext context)
    {
        Argument<string[]> devices = new("DEVICE") { Description = "The devices of a file system, the first one at least; or its mount point", Arity = ArgumentArity.OneOrMore };
        Command dump = new("dump", "Print every record") { devices };
        dump.SetAction(async (parsed, cancel) =>
        {
            using DevicePool pool = new DeviceSearch(await context.ResolveDevicesAsync(parsed, parsed.GetValue(devices)!, cancel).ConfigureAwait(false), context.Environment.Formats, context.Environment.Clock).Open(readOnly: true);
            ILogReader reader = pool.Format.OpenReader(pool, context.Environment.Clock);
            if (context.IsJson(parsed))
                await DumpJsonAsync(context, reader, cancel).ConfigureAwait(false);
            else
                await ReadAllAsync(context, reader, (in RecordFrame frame) => context.Out.WriteLine(TextOf(frame)), cancel).ConfigureAwait(false);
            return (int)ExitCode.Ok;
        });
        return new("log", "The log: print, save, restore, shorten") { dump, LogExportCommand.Build(context), LogImportCommand.Build(context), LogCompactCommand.Build(context) };
    }

    private delegate void FrameSink(in RecordFrame frame);

    private static Task ReadAllAsync(CliContext context, ILogReader reader, FrameSink sink, CancellationToken cancel) =>
        ReadBlocksAsync(context, reader, block => Give(block, reader.Position.FileSystem, sink), cancel);

    /// <summary>Reads the log to its end. Throws TIMEOUT when a master has claimed it and does not become active.</summary>
    internal static async Task ReadBlocksAsync(CliContext context, ILogReader reader, Action<LogBlock> give, CancellationToken cancel)
    {
        int unsettled = 0;
        while (true)
        {
            cancel.ThrowIfCancellationRequested();
            switch (reader.PollSettled(out LogBlock block))
            {
                case PollVerdict.Records:
                    give(block);
                    break;
                case PollVerdict.UpToDate:
                case PollVerdict.TailLost when reader.TailMayBeRight:
                    return;
                case PollVerdict.TailLost:
                    throw new FamfsException(ErrorReason.MediaCorrupt, reader.TailDamage);
                case PollVerdict.Diverged:
                    throw new FamfsException(ErrorReason.StaleGeneration, $"the log changed its history behind {reader.Position}; run it again");
                default:
                    if (++unsettled > MaxUnsettled)
                        throw new FamfsException(ErrorReason.Timeout, $"a master has claimed the log and is not active yet; records behind {reader.Position} are not settled");
                    await Task.Delay(s_unsettledPause, context.Environment.Clock, cancel).ConfigureAwait(false);
                    break;
            }
        }
    }

    private static void Give(in LogBlock block, Guid fileSystem, FrameSink sink)
    {
        ReadOnlySpan<byte> bytes = block.Frames.Span;
        uint seed = Crc32C.Seed(fileSystem, block.Generation, block.SegmentId);
        while (!bytes.IsEmpty && RecordFrame.Parse(bytes, seed, out RecordFrame frame) == FrameVerdict.Good)
        {
            sink(frame);
            bytes = bytes[frame.PaddedBytes..];
        }
    }

    private static async Task DumpJsonAsync(CliContext context, ILogReader reader, CancellationToken cancel)
    {
        FamfsException? broken = null;
        List<string> records = [];
        try
        {
            await ReadAllAsync(context, reader, (in RecordFrame frame) => records.Add(JsonOf(frame)), cancel).ConfigureAwait(false);
        }
        catch (FamfsException e)
        {
            // What was readable is printed, then the command fails with the cause.
            broken = e;
        }
        context.WriteJson(json =>
        {
            json.WriteStartObject();
            json.WriteString("file_system_uuid", reader.Position.FileSystem);
            json.WriteNumber("generation", reader.Position.Generation);
            json.WriteStartArray("records");
            foreach (string record in records)
                json.WriteRawValue(record);
            json.WriteEndArray();
            if (broken is null)
                json.WriteNull("error");
            else
                json.WriteString("error", broken.Message);
            json.WriteEndObject();
        });
        if (broken is not null)
            throw broken;
    }

    private static string TextOf(in RecordFrame frame) => string.Create(CultureInfo.InvariantCulture,
        $"{(IsOfSnapshot(frame) ? "snapshot " : "")}{frame.Sequence} term {frame.Term} {JsonShapes.Word(frame.Type)} {PayloadOf(frame)}");

    private static string JsonOf(in RecordFrame frame) => string.Create(CultureInfo.InvariantCulture,
        $$"""{"sequence":{{frame.Sequence}},"term":{{frame.Term}},"type":"{{JsonShapes.Word(frame.Type)}}","flags":{{(ushort)frame.Flags}},"snapshot":{{(IsOfSnapshot(frame) ? "true" : "false")}},"payload":{{PayloadOf(frame)}}}""");

    // Those of a snapshot number themselves, from 0 on.
    private static bool IsOfSnapshot(in RecordFrame frame) => frame.Flags.HasFlag(FrameFlags.Snapshot);

    private static string PayloadOf(in RecordFrame frame)
    {
        if (ParserOf(frame.Type) is not { } parser)
            return $"\"{Convert.ToHexStringLower(frame.Payload)}\"";
        try
        {
            return RecordJson.Format(parser.ParseFrom(frame.Payload.ToArray()));
        }
        catch (InvalidProtocolBufferException)
        {
            return $"\"{Convert.ToHexStringLower(frame.Payload)}\"";
        }
    }

    private static MessageParser? ParserOf(RecordType type) => type switch
    {
        RecordType.FileSystemCreated => FileSystemCreated.Parser,
        RecordType.MasterSlotGranted => MasterSlotGranted.Parser,
        RecordType.TermStarted => TermStarted.Parser,
        RecordType.TermEnded => TermEnded.Parser,
        RecordType.SegmentReserved => SegmentReserved.Parser,
        RecordType.DeviceAdded => DeviceAdded.Parser,
        RecordType.HostRegistered => HostRegistered.Parser,
        RecordType.HostGone => HostGone.Parser,
        RecordType.HostForgotten => HostForgotten.Parser,
        RecordType.DirectoryMade => DirectoryMade.Parser,
        RecordType.SymlinkMade => SymlinkMade.Parser,
        RecordType.FileCreated => FileCreated.Parser,
        RecordType.FilePublished => FilePublished.Parser,
        RecordType.Renamed => Renamed.Parser,
        RecordType.AttributesSet => AttributesSet.Parser,
        RecordType.Deleted => Deleted.Parser,
        RecordType.ZeroingStarted => ZeroingStarted.Parser,
        RecordType.ExtentsReclaimed => ExtentsReclaimed.Parser,
        RecordType.PolicySet => PolicySet.Parser,
        RecordType.GenerationChanged => GenerationChanged.Parser,
        RecordType.SnapshotBegin => SnapshotBegin.Parser,
        RecordType.SnapshotState => SnapshotState.Parser,
        RecordType.SnapshotHostForgotten => SnapshotHostForgotten.Parser,
        RecordType.SnapshotInode => SnapshotInode.Parser,
        RecordType.SnapshotRequest => SnapshotRequest.Parser,
        RecordType.SnapshotRequests => SnapshotRequests.Parser,
        RecordType.SnapshotEnd => SnapshotEnd.Parser,
        RecordType.EntryIgnored => EntryIgnored.Parser,
        RecordType.FilesWritten => FilesWritten.Parser,
        RecordType.Unspecified => null,
        _ => null,
    };
}
