using System.Text;
using Famfs.Client;
using Famfs.Core;
using Famfs.Core.Check;
using Famfs.Core.Dax;
using Famfs.Core.Dialects;
using Famfs.Core.Format;
using Famfs.Core.Interop;
using Famfs.Core.Log;
using Famfs.V1;
using Google.Protobuf;

namespace Famfs.Cli;

/// <summary>
/// Questions to mounts. A daemon that is stopped answers none, and who waits for one that it has read cannot even be killed, because
/// the kernel holds him (docs/decisions/0048). So the process that the user started never asks: another one of the same
/// program does (<see cref="MountAskers"/>), which is left behind when it does not answer.
/// <code>
/// find PATH MOUNT-TABLE     the mount that the path is on (MountAnswer)
/// stat PATH                 GetFileReply          list PATH RECURSIVE    ListDirectoryReply
/// map PATH                  GetMapReply           space PATH             GetStatusReply
/// hosts MOUNT-POINT         ListHostsReply, of the memory
/// </code>
/// An answer is a byte 0 and what was asked for, or a byte 1 and an error.
/// </summary>
internal static class MountQuestions
{
    /// <summary>First argument of the process that asks.</summary>
    public const string Verb = "--ask-mount";

    /// <summary>Asks in this process, which hangs when the mount does.</summary>
    public static Task<byte[]> AskHereAsync(IReadOnlyList<string> question, CancellationToken cancel) => Task.Run(() => Answer(question), cancel);

    /// <summary>What follows the first byte; throws the error that the answer is.</summary>
    public static MemoryStream Open(byte[] answer)
    {
        MemoryStream stream = new(answer);
        if (stream.ReadByte() == 0)
            return stream;
        using BinaryReader reader = new(stream, Encoding.UTF8);
        (int reason, string message, string path) = (reader.ReadInt32(), reader.ReadString(), reader.ReadString());
        throw new FamfsException((ErrorReason)reason, message) { Path = path };
    }

    /// <summary>Answers one question, in this process.</summary>
    public static byte[] Answer(IReadOnlyList<string> question)
    {
        using MemoryStream answer = new();
        try
        {
            answer.WriteByte(0);
            switch (question)
            {
                case ["find", string path, string table]:
                    MountAnswer.Ask(path, table).Write(answer);
                    break;
                case ["stat", string path]:
                    new GetFileReply { File = Describe(path, path) }.WriteTo(answer);
                    break;
                case ["list", string path, string recursive]:
                    List(path, recursive == bool.TrueString).WriteTo(answer);
                    break;
                case ["map", string path]:
                    Map(path).WriteTo(answer);
                    break;
                case ["space", string path]:
                    DriveInfo drive = new(path);
                    new GetStatusReply
                    {
                        CapacityBytes = (ulong)drive.TotalSize,
                        FreeBytes = (ulong)drive.AvailableFreeSpace,
                        PendingReclaimBytes = (ulong)Math.Max(0, drive.TotalFreeSpace - drive.AvailableFreeSpace),
                    }.WriteTo(answer);
                    break;
                case ["hosts", string mountPoint]:
                    using (DevicePool pool = OpenMemory(mountPoint))
                        MountsInMemory.Read(pool, FmapLimits.NameOfDialect, TimeProvider.System, MountsInMemory.Watch).WriteTo(answer);
                    break;
                default:
                    throw new FamfsException(ErrorReason.BadRequest, $"{Verb}: no such question");
            }
        }
        catch (Exception error) when (error is FamfsException or IOException or UnauthorizedAccessException or DeviceFaultException)
        {
            answer.SetLength(0);
            answer.WriteByte(1);
            using BinaryWriter writer = new(answer, Encoding.UTF8, leaveOpen: true);
            FamfsException said = error as FamfsException ?? new(error is UnauthorizedAccessException ? ErrorReason.ReadOnly : ErrorReason.Unspecified, error.Message);
            writer.Write((int)said.Reason);
            writer.Write(said.Message);
            writer.Write(said.Path);
        }
        return answer.ToArray();
    }

    private static V1.FileInfo Describe(string path, string shown)
    {
        FileStatus facts = FileStatus.Read(path, followLinks: false);
        V1.FileInfo file = new()
        {
            Inode = facts.Inode,
            Path = shown,
            Kind = facts.Type switch { FileType.Directory => FileKind.Directory, FileType.SymbolicLink => FileKind.Symlink, _ => FileKind.File },
            Mode = facts.Mode,
            Uid = facts.Uid,
            Gid = facts.Gid,
            SizeBytes = (ulong)facts.SizeBytes,
            ModifyTimeNs = facts.ModifyTimeNs,
            State = InodeState.Published,
        };
        if (file.Kind == FileKind.Symlink)
            file.SymlinkTarget = new System.IO.FileInfo(path).LinkTarget ?? "";
        return file;
    }

    private static ListDirectoryReply List(string path, bool recursive)
    {
        ListDirectoryReply reply = new();
        if (!System.IO.Directory.Exists(path))
        {
            reply.Entries.Add(Describe(path, path));
            return reply;
        }
        EnumerationOptions all = new() { AttributesToSkip = 0, RecurseSubdirectories = recursive, IgnoreInaccessible = false };
        foreach (string entry in System.IO.Directory.EnumerateFileSystemEntries(path, "*", all))
            reply.Entries.Add(Describe(entry, Path.GetRelativePath(path, entry)));
        return reply;
    }

    /// <summary>The memory of a mount. Of a single file that is bound to another place it is the devices that the file names.</summary>
    private static DevicePool OpenMemory(string mountPoint)
    {
        if (System.IO.Directory.Exists(mountPoint))
            return new DeviceSearch([mountPoint], KnownFormats.All, TimeProvider.System).Open(readOnly: true);
        FamfsMount mount = FamfsMount.Require(mountPoint, out _);
        Guid fileSystem = mount.RequireFileSystem();
        return KnownFormats.All.Open([.. mount.ReadDevices().Values.Select(d => MountDevices.Open(d, fileSystem, KnownFormats.All, readOnly: true))]);
    }

    private static GetMapReply Map(string path)
    {
        string? text = PathAttributes.Read(path, "user.famfs.map");
        if (text is null && PathAttributes.Read(path, "user.famfs.lease") is { Length: > 0 })
            throw new FamfsException(ErrorReason.BadRequest, $"{path}: its mount has a lease (policy lease), and tells of no file where it is; the master does") { Path = path };
        if (text is null)
            throw new FamfsException(ErrorReason.IsADirectory, $"{path}: is no file with a map") { Path = path };
        FileMap map = MapText.Parse(text, out ulong size);
        return new() { Inode = FileStatus.Read(path, followLinks: false).Inode, SizeBytes = size, Map = map };
    }
}
