using System.Collections.Immutable;
using Famfs.Core.Format;
using Famfs.V1;

namespace Famfs.Core.Namespace;

/// <summary>One of the file system's own inodes, with the range of a device that it is.</summary>
public readonly record struct MetaFile(InodeNumber Inode, MapExtent Extent);

/// <summary>
/// What lies in <c>.meta</c> (names: <see cref="MetaNames"/>), as the log says at this moment: the superblock unit of every
/// device, the host table, the space of every segment. A function of the state's tables, which are replaced whole, so
/// any thread may ask, without a lock and without allocation.
/// </summary>
/// <param name="state">What the log says.</param>
/// <param name="directory">Inode number of the directory itself, which is in no record.</param>
public sealed class MetaFiles(ReplayState state, InodeNumber directory)
{
    /// <summary>Inode number of the directory itself.</summary>
    public InodeNumber Directory => directory;

    /// <summary>The file of that name.</summary>
    public bool TryFind(ReadOnlySpan<byte> name, out InodeNumber inode)
    {
        Span<byte> candidate = stackalloc byte[MetaNames.MaxBytes];
        inode = InodeNumber.None;
        while (TryGetNext(inode, candidate, out int length, out MetaFile file))
        {
            inode = file.Inode;
            if (name.SequenceEqual(candidate[..length]))
                return true;
        }
        return false;
    }

    /// <summary>The file whose inode number is the least above <paramref name="after"/>, with its name, for which
    /// <paramref name="name"/> has <see cref="MetaNames.MaxBytes"/>.</summary>
    public bool TryGetNext(InodeNumber after, Span<byte> name, out int nameBytes, out MetaFile file)
    {
        file = default;
        nameBytes = 0;
        ImmutableArray<DeviceAdded> devices = state.Devices;
        for (int i = 0; i < devices.Length; i++)
        {
            if (IsNearer(devices[i].SuperblockInode, after, file))
            {
                file = new(new(devices[i].SuperblockInode), new(new((ushort)i), 0, MediaLayout.UnitBytes));
                nameBytes = MetaNames.FormatSuperblock(new((ushort)i), name);
            }
        }
        if (state.FileSystem is { HostTable: not null } created && devices.Length > 0 && IsNearer(created.HostTableInode, after, file))
        {
            file = new(new(created.HostTableInode), new(new((ushort)created.HostTable.Device), (long)created.HostTable.OffsetBytes, (long)created.HostTable.LengthBytes));
            nameBytes = System.Text.Encoding.UTF8.GetBytes(MetaNames.Hosts, name);
        }
        foreach (OwnedSegment segment in state.Segments)
        {
            if (IsNearer(segment.Inode.Value, after, file))
            {
                file = new(segment.Inode, segment.Extent);
                nameBytes = MetaNames.FormatSegment(segment.Inode, name);
            }
        }
        return file.Inode != InodeNumber.None;
    }

    /// <summary>The file that covers a byte of a device, with its name.</summary>
    public bool TryFindCovering(DeviceIndex device, long offset, out MetaFile file, out string name)
    {
        Span<byte> bytes = stackalloc byte[MetaNames.MaxBytes];
        file = default;
        while (TryGetNext(file.Inode, bytes, out int length, out file))
        {
            if (file.Extent.Device == device && offset >= file.Extent.OffsetBytes && offset - file.Extent.OffsetBytes < file.Extent.LengthBytes)
            {
                name = System.Text.Encoding.UTF8.GetString(bytes[..length]);
                return true;
            }
        }
        name = "";
        return false;
    }

    private static bool IsNearer(ulong inode, InodeNumber after, in MetaFile nearest) =>
        inode > after.Value && (nearest.Inode == InodeNumber.None || inode < nearest.Inode.Value);
}
