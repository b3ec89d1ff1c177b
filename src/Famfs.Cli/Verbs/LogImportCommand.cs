using System.CommandLine;
using System.Globalization;
using Famfs.Core;
using Famfs.Core.Check;
using Famfs.Core.Dax;
using Famfs.Core.Log;
using Famfs.Core.Namespace;
using Famfs.V1;

namespace Famfs.Cli.Verbs;

/// <summary><c>famfs log import FILE DEVICE…</c>: makes a native file system of an exported log, the bytes of its files
/// where they are on the devices.</summary>
internal static class LogImportCommand
{
    private static readonly TimeSpan s_watch = TimeSpan.FromSeconds(2);

    public static Command Build(CliContext context)
    {
        Argument<string> source = new("FILE") { Description = "An exported log" };
        Argument<string[]> devices = new("DEVICE") { Description = "All devices that the log names, in the order of their indices", Arity = ArgumentArity.OneOrMore };
        Option<bool> force = new("--force", "-f") { Description = "Overwrite the metadata that is on the devices" };
        Option<string?> state = CliOptions.HostState();
        Option<string> systemUuid = CliOptions.SystemUuidFile(context.Environment.Formats);
        Command command = new("import", "Make a native file system of an exported log, over files that are there") { source, devices, force, state, systemUuid };
        command.SetAction(async (parsed, cancel) =>
        {
            string path = parsed.GetValue(source)!;
            string directory = HostIdentity.StateDirectoryOf(parsed.GetValue(state), context.Environment.Variable(HostIdentity.StateDirectoryVariable));
            List<DaxDevice> opened = [];
            List<IDisposable> mounts = [];
            try
            {
                foreach (string device in parsed.GetValue(devices)!)
                    opened.Add(MappedDaxDevice.Open(device));
                using ReplayState replayed = Replay(path);
                HostIdentity host = HostIdentity.Load(directory, new());
                using MaintenanceLock held = await MaintenanceLock.HoldAsync(opened, context.Environment.Formats, new(parsed.GetValue(systemUuid)!, s_watch, context.Environment.Clock, HostLocks.OfTool(directory)), cancel).ConfigureAwait(false);
                // As for mkfs, whatever --force says: a mount that goes on would store its line into what has that place now.
                foreach (DaxDevice device in opened)
                {
                    foreach (MediaFormat old in context.Environment.Formats.All)
                        await old.RequireIdleAsync(device, s_watch, context.Environment.Clock, cancel).ConfigureAwait(false);
                }
                // Those below are held already.
                DeviceLock.TakeAll(opened, context.Environment.Formats, HostLocks.OfTool(directory), Term.SlotCount, mounts);
                LogImport.Result result = LogImport.Run(opened, replayed, new() { Host = host.Host, Clock = context.Environment.Clock, Force = parsed.GetValue(force) });
                if (context.IsJson(parsed))
                {
                    context.WriteJson(json =>
                    {
                        json.WriteStartObject();
                        json.WriteString("file_system_uuid", result.Superblock.FileSystem);
                        json.WriteNumber("files", result.Files);
                        json.WriteNumber("directories", result.Directories);
                        json.WriteNumber("symlinks", result.Symlinks);
                        json.WriteNumber("extended_attributes", result.Attributes);
                        json.WriteNumber("fresh_devices", result.FreshDevices);
                        json.WriteNumber("left_out", result.LeftOut);
                        json.WriteNumber("left_out_entries", result.Ignored);
                        json.WriteNumber("left_out_hosts", result.Hosts);
                        json.WriteNumber("left_out_master_slots", result.MasterSlots);
                        json.WriteEndObject();
                    });
                }
                else
                {
                    context.Out.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{result.Superblock.FileSystem}: native, {result.Files} file(s), {result.Directories} directories beside the root, {result.Symlinks} symbolic link(s), {result.Attributes} extended attribute(s)"));
                    context.Out.WriteLine(string.Create(CultureInfo.InvariantCulture, $"the bytes of {result.Files} file(s) are whatever the memory holds: an exported log has names and places, no content{(result.FreshDevices > 0 ? $"; {result.FreshDevices} of {opened.Count} device(s) had nothing of this file system before" : "")}"));
                    (long Count, string What)[] leftOut =
                    [
                        (result.LeftOut, "staged or deleted file(s): nobody holds them any more"),
                        (result.Ignored, "entries of another format that mean nothing here: read what existing tools saw there before new files are made, which may get that space"),
                        (result.Hosts, "registered host(s): each registers again when it mounts"),
                        (result.MasterSlots, "master slot(s) of other hosts: ask again with `famfs master-slot` there"),
                    ];
                    foreach ((long count, string what) in leftOut.Where(l => l.Count > 0))
                        context.Out.WriteLine(string.Create(CultureInfo.InvariantCulture, $"not carried over: {count} {what}"));
                }
                return (int)ExitCode.Ok;
            }
            finally
            {
                foreach (IDisposable mount in mounts)
                    mount.Dispose();
                foreach (DaxDevice device in opened)
                    device.Dispose();
            }
        });
        return command;
    }

    private static ReplayState Replay(string path)
    {
        using FileStream file = new(path, FileMode.Open, FileAccess.Read, FileShare.Read);
        (Guid fileSystem, ulong first, ulong generation) = LogExport.ReadHeader(file, path);
        ReplayState state = new(new(fileSystem, first, default, default), default);
        try
        {
            while (LogExport.ReadBlock(file, fileSystem, generation, path) is { } block)
                state.ApplyFrames(generation, block.Frames);
            if (state.IsInSnapshot)
                throw new FamfsException(ErrorReason.BadRequest, $"{path}: ends inside a snapshot") { Path = path };
            return state;
        }
        catch (FamfsException error) when (error.Reason == ErrorReason.MediaCorrupt)
        {
            // Whole blocks that do not fit together.
            state.Dispose();
            throw new FamfsException(ErrorReason.BadRequest, $"{path}: {error.Message}") { Path = path };
        }
        catch
        {
            state.Dispose();
            throw;
        }
    }
}
