using Famfs.Core.Format;
using Famfs.V1;

namespace Famfs.Core.Namespace;

/// <summary>How inodes come back from a snapshot: as they were, each child after its directory and after the children that were linked
/// before it, deleted files in the order in which they were deleted.</summary>
public sealed unsafe partial class InodeTree
{
    /// <summary>The highest cookie that a directory has given. Writer's thread; the inode is a directory.</summary>
    internal ulong LastCookieOf(InodeNumber directory) => BlockOf(Find(directory.Value))->LastCookie;

    /// <summary>Writer: makes an inode as a snapshot has it, but for its extended attributes. MEDIA_CORRUPT, and nothing is changed,
    /// where it does not follow what is there.</summary>
    internal void Restore(in SnapshotInodeRecord r)
    {
        InodeNumber inode = r.Inode;
        InodeKind kind = (r.Mode & SnapshotInodeRecord.TypeBits) switch
        {
            SnapshotInodeRecord.DirectoryType => InodeKind.Directory,
            SnapshotInodeRecord.FileType => InodeKind.File,
            SnapshotInodeRecord.SymlinkType => InodeKind.Symlink,
            SnapshotInodeRecord.SystemType => InodeKind.System,
            _ => throw Corrupt($"inode {inode} has mode {r.Mode:x}"),
        };
        InodeStatus status = r.State switch
        {
            InodeState.Published => InodeStatus.Published,
            InodeState.Staged => InodeStatus.Staged,
            InodeState.Deleted => InodeStatus.Deleted,
            InodeState.Zeroing => InodeStatus.Zeroing,
            _ => throw Corrupt($"inode {inode} has state {r.State}"),
        };
        bool isRoot = r.Parent == inode;
        bool isNamed = r.Parent != InodeNumber.None && !isRoot;
        RequireFree(inode);
        bool hasPlace = kind switch
        {
            InodeKind.Directory => status == InodeStatus.Published && (isNamed || (isRoot && _root == 0)),
            InodeKind.Symlink => status == InodeStatus.Published && isNamed,
            InodeKind.System => status != InodeStatus.Staged && r.Parent == InodeNumber.None,
            _ => (status == InodeStatus.Published) == isNamed && (isNamed || r.Parent == InodeNumber.None),
        };
        if (!hasPlace || (status == InodeStatus.Staged) != (r.OwnerMount.Length == 16))
            throw Corrupt($"inode {inode}, a {kind}, is {status} in directory {r.Parent}");
        if (kind == InodeKind.Symlink && (r.Target.Length is 0 or > MaxSymlinkTargetBytes || r.Target.Contains((byte)0)))
            throw Corrupt($"inode {inode} has a bad symbolic link target of {r.Target.Length} bytes");
        if (r.LastCookie >> (2 * InodeWords.LowBits) != 0)
            throw Corrupt($"inode {inode} has given place {r.LastCookie} of its directory, the limit is {(1UL << (2 * InodeWords.LowBits)) - 1}");
        ulong extentBytes = RequireMap(r.ChunkBytes, r.Extents);
        InodeRecord* directory = null;
        ulong hash = 0;
        if (isNamed)
        {
            directory = RequireNew(inode, r.Parent, r.Name, out hash);
            ulong last = BlockOf(directory)->Last;
            if (r.Cookie == 0 || r.Cookie > BlockOf(directory)->LastCookie || (last != 0 && r.Cookie <= CookieOf(Find(last))))
                throw Corrupt($"inode {inode} is at place {r.Cookie} of its directory, which has given {BlockOf(directory)->LastCookie}");
        }

        InodeRecord* record = Take(inode);
        ulong map = kind switch
        {
            InodeKind.Directory => NewDirectoryBlock(),
            InodeKind.Symlink => StoreBytes(r.Target),
            _ => InodeMap.Store(_heap, kind == InodeKind.System ? extentBytes : r.SizeBytes, r.ChunkBytes, r.Extents),
        };
        ulong size = kind switch
        {
            InodeKind.Directory => 0,
            InodeKind.Symlink => (ulong)r.Target.Length,
            InodeKind.System => extentBytes,
            _ => r.SizeBytes,
        };
        Fill(record, kind, status, r.Mode & ~SnapshotInodeRecord.TypeBits, r.Uid, r.Gid, size, isNamed ? StoreBytes(r.Name) : 0, map, r.ChangeTimeNs, r.Parent.Value, r.Cookie);
        if (kind == InodeKind.Directory)
        {
            BlockOf(record)->LastCookie = r.LastCookie;
            Count(ref _directories, 1);
        }
        if (r.AccessTimeNs != r.ChangeTimeNs || r.ModifyTimeNs != r.ChangeTimeNs || status == InodeStatus.Staged)
        {
            WriteExtras(record, new Extras
            {
                AccessTimeNs = r.AccessTimeNs,
                ModifyTimeNs = r.ModifyTimeNs,
                ChangeTimeNs = r.ChangeTimeNs,
                OwnerMount = status == InodeStatus.Staged ? new Guid(r.OwnerMount, bigEndian: true) : Guid.Empty,
            });
        }
        if (isRoot)
            Volatile.Write(ref _root, inode.Value);
        if (isNamed)
            EnterRestored(record, inode.Value, kind, directory, hash);
        if (status is InodeStatus.Deleted or InodeStatus.Zeroing)
            AppendDeleted(record, inode.Value);
    }

    private static ulong CookieOf(InodeRecord* record) => InodeWords.Cookie(record->ParentWord, record->NextWord);

    private void EnterRestored(InodeRecord* record, ulong inode, InodeKind kind, InodeRecord* directory, ulong hash)
    {
        // Linking takes the child's cookie for the highest.
        ulong lastCookie = BlockOf(directory)->LastCookie;
        Enter(record, inode, directory, hash);
        InodeVersion.Begin(directory);
        directory->Size++;
        BlockOf(directory)->LastCookie = lastCookie;
        BlockOf(directory)->Subdirectories += kind == InodeKind.Directory ? 1u : 0;
        InodeVersion.End(directory);
        if (kind == InodeKind.File)
            Count(ref _files, 1);
    }

    private void AppendDeleted(InodeRecord* record, ulong inode)
    {
        SetPrevious(record, _lastDeleted);
        if (_lastDeleted == 0)
            _firstDeleted = inode;
        else
            SetNext(Find(_lastDeleted), inode);
        _lastDeleted = inode;
        Count(ref _deleted, 1);
    }
}
