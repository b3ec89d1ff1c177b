using System.CommandLine;
using Famfs.Client;
using Famfs.Core;
using Famfs.Core.Interop;
using Famfs.V1;

namespace Famfs.Cli.Verbs;

/// <summary><c>famfs umount MOUNTPOINT</c>. A mount whose daemon died is taken away even when busy: nobody can
/// use it any more. Not one that is kept: its programs wait for the next daemon.</summary>
internal static class UmountCommand
{
    public static Command Build(CliContext context)
    {
        Argument<string> place = new("MOUNTPOINT") { Description = "Where it is mounted" };
        Option<bool> force = new("--force", "-f") { Description = "Detach it now even when it is busy; its memory stays held until its users are gone" };
        Option<string?> state = CliOptions.HostState();
        Command command = new("umount", "Unmount a file system") { place, force, state };
        command.SetAction(async (parsed, cancel) =>
        {
            string mountPoint = MountEntry.PlaceOf(parsed.GetValue(place)!, context.Environment.MountTablePath);
            MountEntry entry = MountEntry.ReadTable(context.Environment.MountTablePath).LastOrDefault(e => e.MountPoint == mountPoint)
                ?? throw new FamfsException(ErrorReason.NotFound, $"{mountPoint}: nothing is mounted there") { Path = mountPoint };
            if (entry.FileSystemType != FamfsMount.FileSystemType)
                throw new FamfsException(ErrorReason.WrongFilesystem, $"{mountPoint}: is a mount of type {entry.FileSystemType}, not {FamfsMount.FileSystemType}") { Path = mountPoint };
            string directory = HostIdentity.StateDirectoryOf(parsed.GetValue(state), context.Environment.Variable(HostIdentity.StateDirectoryVariable));
            bool isWithoutDaemon = HostKeeper.HasWithoutDaemon(directory, mountPoint);
            // Who asks a kept mount without a daemon waits for the next one.
            TimeSpan patience = isWithoutDaemon || parsed.GetValue(force) ? TimeSpan.Zero : Unmounting.Patience;
            if (await Unmounting.TryAsync(mountPoint, context.Environment.MountTablePath, context.Environment.Clock, cancel, patience).ConfigureAwait(false) is { } use)
            {
                if (isWithoutDaemon && !parsed.GetValue(force))
                    throw new FamfsException(ErrorReason.Unspecified, $"{mountPoint}: busy, and kept without a daemon{use.Used}; mount it again and its programs continue, or detach it with --force, which fails them") { Path = mountPoint };
                if (!parsed.GetValue(force) && (await context.AskMountAsync(parsed, mountPoint, cancel).ConfigureAwait(false)).Mount is not { IsDead: true })
                    throw new FamfsException(ErrorReason.Unspecified, $"{mountPoint}: busy{use.Used}; end its users, or detach it with --force") { Path = mountPoint };
                int errno = MountCalls.Unmount(mountPoint, lazily: true);
                if (errno != 0)
                    throw PathErrors.Of(mountPoint, errno);
            }
            if (isWithoutDaemon)
                HostKeeper.Drop(directory, mountPoint);
            return (int)ExitCode.Ok;
        });
        return command;
    }
}
