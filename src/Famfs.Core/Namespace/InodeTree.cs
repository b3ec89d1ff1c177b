using System.Runtime.CompilerServices;
using Famfs.V1;

namespace Famfs.Core.Namespace;

/// <summary>
/// The namespace: every inode of one file system, in native memory. One writer thread changes it, any number
/// of registered readers read it meanwhile; neither waits for the other.
/// <para>Where things are: inodes in pages of 64 by number (<see cref="NativePageTable"/>,
/// <see cref="InodeRecord"/>), names in blocks of their length, the children of a directory in a list in the
/// order they were linked, (parent, name) in a hash table (<see cref="NameTable"/>).</para>
/// <para>What a reader sees: an inode appears with all its attributes, attributes and name change as one set
/// (a version per inode), memory it has found stays as it is until its scope ends
/// (<see cref="ReaderEpochs"/>). A rename is atomic for lookups of the new name: it leads to the replaced or
/// to the moved inode, never to nothing.</para>
/// <para>Errors: a change that contradicts the tree (parent unknown, name taken, inode in use, bad name, number
/// or extent) throws MEDIA_CORRUPT and changes nothing.</para>
/// </summary>
public sealed unsafe partial class InodeTree : IDisposable
{
    /// <summary>Longest name in bytes.</summary>
    public const int MaxNameBytes = 255;

    /// <summary>Longest target of a symbolic link in bytes (PATH_MAX less its end).</summary>
    public const int MaxSymlinkTargetBytes = 4095;

    /// <summary>Most extents or strips of a file (chosen).</summary>
    public const int MaxExtentsPerFile = Format.FileCreatedRecord.MaxExtentsPerFile;

    /// <summary>Longest value of an extended attribute in bytes (the kernel's limit).</summary>
    public const int MaxExtendedAttributeValueBytes = 65536;

    /// <summary>Most memory of the extended attributes of one inode in bytes: names, values and 5 bytes for each
    /// (chosen).</summary>
    public const int MaxExtendedAttributesBytes = 131072;

    /// <summary>What the attributes of an inode take of that besides the attributes, bytes.</summary>
    public const int ExtendedAttributesHeaderBytes = AttributeBlock.HeaderBytes;

    /// <summary>What each attribute takes of it besides its name and value, bytes.</summary>
    public const int ExtendedAttributeHeaderBytes = AttributeBlock.EntryHeaderBytes;

    internal const int InodesPerPage = NativePageTable.PageBytes / InodeRecord.SizeBytes;

    private readonly NativeHeap _heap = new();
    private readonly ReaderEpochs _epochs;
    private readonly NameHash _hash;

    // Writer thread; read by any.
    private long _files;
    private long _directories;
    private long _inodes;
    private ulong _root;

    private bool _disposed;

    /// <summary>Makes an empty tree. <paramref name="hashKey"/>: random and secret, so that nobody can choose
    /// names that collide.</summary>
    public InodeTree(UInt128 hashKey)
    {
        OwnerTable? owners = null;
        _epochs = new ReaderEpochs(_heap, index => owners!.Recycle(index));
        Owners = owners = new OwnerTable(_heap, _epochs);
        Inodes = new NativePageTable(_heap, _epochs);
        _hash = new NameHash(hashKey);
        Names = new NameTable(_heap, _epochs, HashOfInode);
    }

    /// <summary>Files with a name.</summary>
    public long FileCount => Volatile.Read(ref _files);

    /// <summary>Directories, the root included.</summary>
    public long DirectoryCount => Volatile.Read(ref _directories);

    /// <summary>Inodes of every kind and status.</summary>
    public long InodeCount => Volatile.Read(ref _inodes);

    /// <summary>Bytes taken from the operating system: regions of 1 MiB, tables, large blocks. What is not yet
    /// touched of them is not resident.</summary>
    public long NativeBytes => _heap.Bytes;

    /// <summary>Bytes of native memory in use, rounded up to the allocator's size classes, retired memory
    /// included.</summary>
    public long UsedNativeBytes => _heap.UsedBytes;

    /// <summary>The root directory; <see cref="InodeNumber.None"/> before <see cref="MakeRoot"/>.</summary>
    public InodeNumber Root => new(Volatile.Read(ref _root));

    internal bool IsDisposed => _disposed;

    internal NativePageTable Inodes { get; }

    internal NameTable Names { get; }

    internal OwnerTable Owners { get; }

    /// <summary>Any thread: a reader, for one thread at a time.</summary>
    /// <exception cref="FamfsException">OVERLOADED: too many readers.</exception>
    public TreeReader RegisterReader()
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        return new TreeReader(this, _epochs);
    }

    /// <summary>Frees all memory. No reader may be inside a scope.</summary>
    public void Dispose()
    {
        if (_disposed)
            return;
        _disposed = true;
        // Large blocks are not part of a region and have to be found.
        ulong page = 0;
        for (byte* found = Inodes.FindFrom(ref page); found != null; page++, found = Inodes.FindFrom(ref page))
        {
            for (int i = 0; i < InodesPerPage; i++)
                FreeLargeBlocks((InodeRecord*)found + i);
        }

        _epochs.Dispose();
        Names.Dispose();
        Owners.Dispose();
        _heap.Dispose();
    }

    /// <summary>Writer: frees the retired memory that no reader can hold any more. Changes do that by
    /// themselves; this is for when they cease.</summary>
    public void ReleaseRetired() => _epochs.ReleaseAll();

    /// <summary>Writer: makes the root directory, once.</summary>
    public void MakeRoot(InodeNumber root, uint mode, uint uid, uint gid, long timeNs)
    {
        if (_root != 0)
            throw Corrupt($"inode {root} would be a second root");
        RequireFree(root);
        InodeRecord* record = Take(root);
        Fill(record, InodeKind.Directory, InodeStatus.Published, mode, uid, gid, 0, 0, NewDirectoryBlock(), timeNs, root.Value, 0);
        Volatile.Write(ref _root, root.Value);
        Count(ref _directories, 1);
    }

    /// <summary>Writer: makes an inode for memory the file system uses itself; its size is the sum of the
    /// extents.</summary>
    public void MakeSystem(InodeNumber inode, long timeNs, ulong chunkBytes, ReadOnlySpan<MapExtent> extents)
    {
        RequireFree(inode);
        ulong size = RequireMap(chunkBytes, extents);
        InodeRecord* record = Take(inode);
        ulong map = InodeMap.Store(_heap, size, chunkBytes, extents);
        Fill(record, InodeKind.System, InodeStatus.Published, 0x180, 0, 0, size, 0, map, timeNs, 0, 0);
    }

    /// <summary>Writer: makes a directory.</summary>
    public void MakeDirectory(InodeNumber inode, InodeNumber parent, ReadOnlySpan<byte> name, uint mode, uint uid, uint gid, long timeNs)
    {
        InodeRecord* directory = RequireNew(inode, parent, name, out ulong hash);
        InodeRecord* record = Take(inode);
        Fill(record, InodeKind.Directory, InodeStatus.Published, mode, uid, gid, 0, StoreBytes(name), NewDirectoryBlock(), timeNs,
            parent.Value, NextCookie(directory));
        Enter(record, inode.Value, directory, hash);
        Changed(directory, 1, 1, timeNs);
        Count(ref _directories, 1);
    }

    /// <summary>Writer: makes a symbolic link of mode 0777.</summary>
    public void MakeSymlink(InodeNumber inode, InodeNumber parent, ReadOnlySpan<byte> name, ReadOnlySpan<byte> target, uint uid, uint gid, long timeNs)
    {
        if (target.Length is 0 or > MaxSymlinkTargetBytes || target.Contains((byte)0))
            throw Corrupt($"inode {inode} has a bad symbolic link target of {target.Length} bytes");
        InodeRecord* directory = RequireNew(inode, parent, name, out ulong hash);
        InodeRecord* record = Take(inode);
        Fill(record, InodeKind.Symlink, InodeStatus.Published, 0x1FF, uid, gid, (ulong)target.Length, StoreBytes(name), StoreBytes(target), timeNs,
            parent.Value, NextCookie(directory));
        Enter(record, inode.Value, directory, hash);
        Changed(directory, 1, 0, timeNs);
    }

    /// <summary>Writer: makes a file with its name.</summary>
    public void CreateFile(InodeNumber inode, InodeNumber parent, ReadOnlySpan<byte> name, uint mode, uint uid, uint gid, ulong sizeBytes, ulong chunkBytes, ReadOnlySpan<MapExtent> extents, long timeNs)
    {
        RequireMap(chunkBytes, extents);
        InodeRecord* directory = RequireNew(inode, parent, name, out ulong hash);
        InodeRecord* record = Take(inode);
        ulong map = InodeMap.Store(_heap, sizeBytes, chunkBytes, extents);
        Fill(record, InodeKind.File, InodeStatus.Published, mode, uid, gid, sizeBytes, StoreBytes(name), map, timeNs, parent.Value, NextCookie(directory));
        Enter(record, inode.Value, directory, hash);
        Changed(directory, 1, 0, timeNs);
        Count(ref _files, 1);
    }

    /// <summary>Writer: makes a nameless file that only <paramref name="ownerMount"/> reaches.</summary>
    public void CreateStaged(InodeNumber inode, Guid ownerMount, uint mode, uint uid, uint gid, ulong sizeBytes, ulong chunkBytes, ReadOnlySpan<MapExtent> extents, long timeNs)
    {
        RequireFree(inode);
        RequireMap(chunkBytes, extents);
        InodeRecord* record = Take(inode);
        ulong map = InodeMap.Store(_heap, sizeBytes, chunkBytes, extents);
        Fill(record, InodeKind.File, InodeStatus.Staged, mode, uid, gid, sizeBytes, 0, map, timeNs, 0, 0);
        WriteExtras(record, new Extras { AccessTimeNs = timeNs, ModifyTimeNs = timeNs, ChangeTimeNs = timeNs, OwnerMount = ownerMount });
    }

    /// <summary>Writer: gives a staged file its name. <paramref name="replaced"/>: the file or symbolic link that
    /// has the name now and loses it, or none.</summary>
    public void Publish(InodeNumber inode, InodeNumber parent, ReadOnlySpan<byte> name, InodeNumber replaced, long timeNs)
    {
        InodeRecord* record = Require(inode);
        if (StatusOf(record) != InodeStatus.Staged)
            throw Corrupt($"inode {inode} is published but was not staged");
        InodeRecord* directory = RequireDirectory(parent);
        RequireName(name);
        ulong hash = _hash.Compute(parent.Value, name);
        InodeRecord* existing = RequireReplaceable(record, parent, hash, name, replaced);
        Names.RequireRoom();
        Move(record, inode.Value, null, directory, parent.Value, StoreBytes(name), -1, hash, existing, replaced.Value, timeNs);
        Count(ref _files, 1);
    }

    /// <summary>Writer: gives a named inode another name. <paramref name="replaced"/>: what has that name now
    /// (a directory: empty, and only for a directory), or none. An inode renamed inside its directory keeps
    /// its place there and its cookie, so that a listing sees it once. Renaming to the same name changes only
    /// the time.</summary>
    public void Rename(InodeNumber inode, InodeNumber newParent, ReadOnlySpan<byte> newName, InodeNumber replaced, long timeNs)
    {
        InodeRecord* record = Require(inode);
        if (record->NameWord == 0)
            throw Corrupt($"inode {inode} is renamed but has no name");
        RequireInTree(inode);
        InodeRecord* directory = RequireDirectory(newParent);
        RequireName(newName);
        ulong oldParent = ParentOf(record);
        if (KindOf(record) == InodeKind.Directory && oldParent != newParent.Value)
            RequireOutside(inode, newParent);
        ulong hash = _hash.Compute(newParent.Value, newName);
        if (oldParent == newParent.Value && InodeWords.Bytes(record->NameWord).SequenceEqual(newName))
        {
            if (replaced != InodeNumber.None)
                throw Corrupt($"inode {inode} is renamed to its own name but replaces {replaced}");
            SetChangeTime(record, timeNs);
            return;
        }

        InodeRecord* existing = RequireReplaceable(record, newParent, hash, newName, replaced);
        Names.RequireRoom();
        long oldPlace = Names.RequirePlace(HashOfInode(inode.Value), inode.Value);
        Move(record, inode.Value, Find(oldParent), directory, newParent.Value, StoreBytes(newName), oldPlace, hash, existing, replaced.Value, timeNs);
    }

    /// <summary>Writer: changes the attributes that are given, and the change time.</summary>
    public void SetAttributes(InodeNumber inode, uint? mode, uint? uid, uint? gid, long? accessTimeNs, long? modifyTimeNs, long changeTimeNs)
    {
        InodeRecord* record = Require(inode);
        Extras extras = ReadExtras(record);
        extras.AccessTimeNs = accessTimeNs ?? extras.AccessTimeNs;
        extras.ModifyTimeNs = modifyTimeNs ?? extras.ModifyTimeNs;
        extras.ChangeTimeNs = changeTimeNs;
        uint oldOwner = record->Owner;
        uint owner = oldOwner;
        if (uid.HasValue || gid.HasValue)
        {
            Owners.Read(oldOwner, out uint oldUid, out uint oldGid);
            owner = Owners.Acquire(uid ?? oldUid, gid ?? oldGid);
        }

        ExtensionChange change = Prepare(record, extras);
        uint flags = FlagsOf(record);
        flags = InodeWords.Flags(InodeWords.KindOf(flags), InodeWords.StatusOf(flags), mode ?? InodeWords.ModeOf(flags), InodeWords.ShapeOf(flags));
        InodeVersion.Begin(record);
        record->Owner = owner;
        SetFlags(record, flags);
        Apply(record, change, extras);
        InodeVersion.End(record);
        Retire(change);
        if (uid.HasValue || gid.HasValue)
            Owners.Release(oldOwner);
    }

    /// <summary>Writer: the content was changed at <paramref name="timeNs"/>. Times of modification and of change that are later
    /// stay.</summary>
    public void MoveTimes(InodeNumber inode, long timeNs)
    {
        Extras extras = ReadExtras(Require(inode));
        if (timeNs > extras.ModifyTimeNs || timeNs > extras.ChangeTimeNs)
            SetAttributes(inode, null, null, null, null, Math.Max(timeNs, extras.ModifyTimeNs), Math.Max(timeNs, extras.ChangeTimeNs));
    }

    /// <summary>Writer: sets one extended attribute (name 1 to 255 bytes without NUL). The times stay.</summary>
    public void SetExtendedAttribute(InodeNumber inode, ReadOnlySpan<byte> name, ReadOnlySpan<byte> value)
    {
        InodeRecord* record = Require(inode);
        if (name.Length is 0 or > MaxNameBytes || name.Contains((byte)0) || value.Length > MaxExtendedAttributeValueBytes)
            throw Corrupt($"inode {inode} has a bad extended attribute: name of {name.Length} bytes, value of {value.Length}");
        Extras extras = ReadExtras(record);
        byte* old = (byte*)extras.Attributes;
        long bytes = AttributeBlock.BytesWith(old, name, value);
        if (bytes > MaxExtendedAttributesBytes)
            throw Corrupt($"inode {inode} has more than {MaxExtendedAttributesBytes} bytes of extended attributes");
        byte* block = _heap.Allocate((int)bytes);
        *(int*)block = (int)bytes;
        AttributeBlock.Write(AttributeBlock.CopyWithout(block, old, name), name, value);
        extras.Attributes = (ulong)block;
        WriteExtras(record, extras);
        if (old != null)
            _epochs.Retire(old, AttributeBlock.BytesOf(old));
    }

    /// <summary>Writer: removes one extended attribute; false when there is none of that name.</summary>
    public bool RemoveExtendedAttribute(InodeNumber inode, ReadOnlySpan<byte> name)
    {
        InodeRecord* record = Require(inode);
        Extras extras = ReadExtras(record);
        byte* old = (byte*)extras.Attributes;
        if (!AttributeBlock.TryFind(old, name, out _))
            return false;
        long bytes = AttributeBlock.BytesWithout(old, name);
        extras.Attributes = 0;
        if (bytes > AttributeBlock.HeaderBytes)
        {
            byte* block = _heap.Allocate((int)bytes);
            *(int*)block = (int)bytes;
            AttributeBlock.CopyWithout(block, old, name);
            extras.Attributes = (ulong)block;
        }

        WriteExtras(record, extras);
        _epochs.Retire(old, AttributeBlock.BytesOf(old));
        return true;
    }

    private static void SetNext(InodeRecord* record, ulong next) => Volatile.Write(ref record->NextWord, InodeWords.Word(next, record->NextWord));

    private static void SetPrevious(InodeRecord* record, ulong previous) => record->PreviousWord = InodeWords.Word(previous, FlagsOf(record));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal InodeRecord* Find(ulong inode)
    {
        byte* page = Inodes.Find(inode / InodesPerPage);
        return page == null ? null : (InodeRecord*)page + (inode % InodesPerPage);
    }

    internal ulong HashOf(ulong parent, ReadOnlySpan<byte> name) => _hash.Compute(parent, name);

    private static FamfsException Corrupt(string message) => new(ErrorReason.MediaCorrupt, message);

    private static uint FlagsOf(InodeRecord* record) => (uint)record->PreviousWord & InodeWords.LowMask;

    private static InodeKind KindOf(InodeRecord* record) => InodeWords.KindOf(FlagsOf(record));

    private static InodeStatus StatusOf(InodeRecord* record) => InodeWords.StatusOf(FlagsOf(record));

    private static ulong ParentOf(InodeRecord* record) => record->ParentWord >> InodeWords.LowBits;

    private static DirectoryBlock* BlockOf(InodeRecord* directory) => (DirectoryBlock*)directory->MapWord;

    private static void SetFlags(InodeRecord* record, uint flags) =>
        record->PreviousWord = (record->PreviousWord & ~(ulong)InodeWords.LowMask) | flags;

    private static void SetStatus(InodeRecord* record, InodeStatus status)
    {
        uint flags = FlagsOf(record);
        InodeVersion.Begin(record);
        SetFlags(record, InodeWords.Flags(InodeWords.KindOf(flags), status, InodeWords.ModeOf(flags), InodeWords.ShapeOf(flags)));
        InodeVersion.End(record);
    }

    private static void Count(ref long counter, long change) => Volatile.Write(ref counter, counter + change);

    private static void RequireName(ReadOnlySpan<byte> name)
    {
        if (name.Length is 0 or > MaxNameBytes || name.ContainsAny((byte)'/', (byte)0)
            || (name[0] == '.' && (name.Length == 1 || (name.Length == 2 && name[1] == '.'))))
        {
            throw Corrupt($"bad name of {name.Length} bytes");
        }
    }

    /// <summary>Returns the sum of the extents.</summary>
    private static ulong RequireMap(ulong chunkBytes, ReadOnlySpan<MapExtent> extents)
    {
        if (extents.Length > MaxExtentsPerFile)
            throw new FamfsException(ErrorReason.MediaCorrupt, $"a map of {extents.Length} extents") { Limit = MaxExtentsPerFile };
        if (chunkBytes > long.MaxValue || (chunkBytes != 0 && extents.IsEmpty))
            throw Corrupt($"a map of {extents.Length} extents in chunks of {chunkBytes} bytes");
        long sum = 0;
        foreach (ref readonly MapExtent extent in extents)
        {
            if (extent.OffsetBytes < 0 || extent.LengthBytes < 0 || extent.OffsetBytes > long.MaxValue - extent.LengthBytes
                || sum > long.MaxValue - extent.LengthBytes)
            {
                throw Corrupt($"a map has an extent at {extent.OffsetBytes} of {extent.LengthBytes} bytes");
            }

            sum += extent.LengthBytes;
        }

        return (ulong)sum;
    }

    private InodeRecord* Require(InodeNumber inode)
    {
        InodeRecord* record = inode.Value > InodeNumber.Max ? null : Find(inode.Value);
        if (record == null || KindOf(record) == InodeKind.None)
            throw Corrupt($"inode {inode} is unknown");
        return record;
    }

    private InodeRecord* RequireDirectory(InodeNumber inode)
    {
        InodeRecord* record = Require(inode);
        if (KindOf(record) != InodeKind.Directory)
            throw Corrupt($"inode {inode} is not a directory");
        RequireInTree(inode);
        return record;
    }

    private void RequireFree(InodeNumber inode)
    {
        if (inode.Value is 0 or > InodeNumber.Max)
            throw Corrupt($"inode number {inode} is out of range");
        InodeRecord* record = Find(inode.Value);
        if (record != null && KindOf(record) != InodeKind.None)
            throw Corrupt($"inode {inode} is made twice");
    }

    /// <summary>Everything a new named inode needs; nothing is changed but the room in the name table.</summary>
    private InodeRecord* RequireNew(InodeNumber inode, InodeNumber parent, ReadOnlySpan<byte> name, out ulong hash)
    {
        RequireFree(inode);
        InodeRecord* directory = RequireDirectory(parent);
        RequireName(name);
        hash = _hash.Compute(parent.Value, name);
        ulong existing = Lookup(parent.Value, hash, name);
        if (existing != 0)
            throw Corrupt($"the name of inode {inode} belongs to {existing}");
        Names.RequireRoom();
        return directory;
    }

    private InodeRecord* RequireReplaceable(InodeRecord* record, InodeNumber parent, ulong hash, ReadOnlySpan<byte> name, InodeNumber replaced)
    {
        ulong existing = Lookup(parent.Value, hash, name);
        if (existing != replaced.Value)
            throw Corrupt($"the name in directory {parent} belongs to {existing}, the record replaces {replaced}");
        if (existing == 0)
            return null;
        InodeRecord* old = Find(existing);
        bool oldIsDirectory = KindOf(old) == InodeKind.Directory;
        if (oldIsDirectory != (KindOf(record) == InodeKind.Directory))
            throw Corrupt($"inode {replaced} is replaced by one of another kind");
        if (oldIsDirectory && old->Size != 0)
            throw Corrupt($"directory {replaced} is replaced but is not empty");
        return old;
    }

    private void RequireOutside(InodeNumber inode, InodeNumber newParent)
    {
        for (ulong at = newParent.Value; at != _root; at = ParentOf(Find(at)))
        {
            if (at == inode.Value)
                throw Corrupt($"directory {inode} is moved below itself");
        }
    }

    /// <summary>The writer's own lookup: nothing changes under it.</summary>
    private ulong Lookup(ulong parent, ulong hash, ReadOnlySpan<byte> name)
    {
        byte* table = Names.Current;
        ulong* places = NameTable.Places(table);
        ulong mask = NameTable.MaskOf(table);
        for (ulong place = hash & mask; places[place] != NameTable.Empty; place = (place + 1) & mask)
        {
            if (!NameTable.MayBe(places[place], hash))
                continue;
            ulong inode = places[place] & NameTable.InodeMask;
            InodeRecord* record = Find(inode);
            if (ParentOf(record) == parent && InodeWords.Bytes(record->NameWord).SequenceEqual(name))
                return inode;
        }

        return 0;
    }

    private ulong HashOfInode(ulong inode)
    {
        InodeRecord* record = Find(inode);
        return _hash.Compute(ParentOf(record), InodeWords.Bytes(record->NameWord));
    }

    private InodeRecord* Take(InodeNumber inode)
    {
        // A replay that only creates retires little but large name tables; it too lets go of them.
        if ((_inodes & 255) == 0 && _epochs.Waiting != 0)
            _epochs.ReleaseSome();
        byte* page = Inodes.Acquire(inode.Value / InodesPerPage);
        Count(ref _inodes, 1);
        return (InodeRecord*)page + (inode.Value % InodesPerPage);
    }

    private ulong StoreBytes(ReadOnlySpan<byte> bytes)
    {
        byte* block = _heap.Allocate(bytes.Length);
        bytes.CopyTo(new Span<byte>(block, bytes.Length));
        return InodeWords.Pack(block, bytes.Length);
    }

    private void RetireBytes(ulong packed) => _epochs.Retire(InodeWords.Pointer(packed), InodeWords.Upper(packed));

    private ulong NewDirectoryBlock()
    {
        DirectoryBlock* block = (DirectoryBlock*)_heap.Allocate(DirectoryBlock.SizeBytes);
        *block = default;
        return (ulong)block;
    }

    private static ulong NextCookie(InodeRecord* directory) => BlockOf(directory)->LastCookie + 1;

    /// <summary>Makes an inode appear, complete, linked to nothing yet: whoever finds it by number sees what
    /// everyone sees a moment later.</summary>
    private void Fill(InodeRecord* record, InodeKind kind, InodeStatus status, uint mode, uint uid, uint gid, ulong size, ulong name, ulong map, long timeNs, ulong parent, ulong cookie)
    {
        uint owner = Owners.Acquire(uid, gid);
        InodeVersion.Begin(record);
        record->Owner = owner;
        record->Size = size;
        record->ParentWord = InodeWords.Word(parent, cookie >> InodeWords.LowBits);
        record->NextWord = InodeWords.Word(0, cookie);
        record->PreviousWord = InodeWords.Word(0, InodeWords.Flags(kind, status, mode, ExtensionShape.None));
        record->NameWord = name;
        record->MapWord = map;
        record->TimeWord = timeNs;
        InodeVersion.End(record);
    }

    /// <summary>Makes a filled inode reachable by its name, then in its directory's list.</summary>
    private void Enter(InodeRecord* record, ulong inode, InodeRecord* directory, ulong hash)
    {
        Names.Insert(hash, inode);
        Link(record, inode, directory);
    }

    /// <summary>Appends to the list of a directory. The record carries its parent and its cookie, one above
    /// the directory's last, already. The cookie is in the block before the record is in the list: a listing
    /// that has loaded the last cookie has a bound for everything linked until then.</summary>
    private void Link(InodeRecord* record, ulong inode, InodeRecord* directory)
    {
        DirectoryBlock* block = BlockOf(directory);
        Volatile.Write(ref block->LastCookie, InodeWords.Cookie(record->ParentWord, record->NextWord));
        ulong last = block->Last;
        record->PreviousWord = InodeWords.Word(last, FlagsOf(record));
        block->Last = inode;
        if (last == 0)
        {
            Volatile.Write(ref block->First, inode);
        }
        else
        {
            SetNext(Find(last), inode);
        }
    }

    /// <summary>Takes out of the list. The record keeps its own next sibling: a reader that stands on it
    /// notices by the record's parent and cookie, which change in the same operation, that it must look
    /// elsewhere.</summary>
    private void Unlink(InodeRecord* record, InodeRecord* directory)
    {
        DirectoryBlock* block = BlockOf(directory);
        ulong next = record->NextWord >> InodeWords.LowBits;
        ulong previous = record->PreviousWord >> InodeWords.LowBits;
        if (previous == 0)
        {
            Volatile.Write(ref block->First, next);
        }
        else
        {
            SetNext(Find(previous), next);
        }

        if (next == 0)
        {
            block->Last = previous;
        }
        else
        {
            SetPrevious(Find(next), previous);
        }
    }

    /// <summary>
    /// Gives a record another parent and name, replacing what has them. The order for lookups:
    /// nothing replaced: entry of the new name (it does not fit the record yet), record, removal of the old
    /// entry; so the record's version is the instant of the rename. Something replaced: record, then one store
    /// that hands the place of the replaced entry over, then the replaced inode; a reader that has loaded the
    /// old entry and finds its inode nameless loads the place again and finds the new one.
    /// </summary>
    private void Move(InodeRecord* record, ulong inode, InodeRecord* oldDirectory, InodeRecord* directory, ulong parent, ulong name, long oldPlace, ulong hash, InodeRecord* existing, ulong replaced, long timeNs)
    {
        bool isDirectory = KindOf(record) == InodeKind.Directory;
        bool relink = oldDirectory != directory;
        if (relink && oldDirectory != null)
            Unlink(record, oldDirectory);
        if (relink && isDirectory)
            BeginMoveOfDirectory();

        // Publishing a staged file ends its mount's ownership.
        Extras extras = ReadExtras(record);
        extras.ChangeTimeNs = timeNs;
        extras.OwnerMount = Guid.Empty;
        ExtensionChange change = Prepare(record, extras);
        ulong oldName = record->NameWord;
        ulong cookie = relink ? NextCookie(directory) : 0;
        long existingPlace = existing == null ? -1 : Names.RequirePlace(hash, replaced);
        if (existing == null)
            Names.Insert(hash, inode);

        InodeVersion.Begin(record);
        record->NameWord = name;
        if (relink)
        {
            record->ParentWord = InodeWords.Word(parent, cookie >> InodeWords.LowBits);
            record->NextWord = InodeWords.Word(0, cookie);
        }

        uint flags = FlagsOf(record);
        SetFlags(record, InodeWords.Flags(InodeWords.KindOf(flags), InodeStatus.Published, InodeWords.ModeOf(flags), InodeWords.ShapeOf(flags)));
        Apply(record, change, extras);
        InodeVersion.End(record);
        if (relink && isDirectory)
            EndMoveOfDirectory();
        Retire(change);

        if (existing != null)
            Names.Replace(existingPlace, hash, inode);
        if (relink)
            Link(record, inode, directory);
        if (oldName != 0)
            RetireBytes(oldName);

        int subdirectory = isDirectory ? 1 : 0;
        if (existing != null)
        {
            InodeKind kind = KindOf(existing);
            Unlink(existing, directory);
            if (kind == InodeKind.Directory)
            {
                Vanish(existing, replaced);
                Count(ref _directories, -1);
                Changed(directory, -1, -1, timeNs);
            }
            else
            {
                RemoveNameless(existing, replaced, kind);
                Changed(directory, -1, 0, timeNs);
            }
        }

        if (relink)
            Changed(directory, 1, subdirectory, timeNs);
        else
            Changed(directory, 0, 0, timeNs);
        if (relink && oldDirectory != null)
            Changed(oldDirectory, -1, -subdirectory, timeNs);

        // Last, because a table that shrinks voids every place.
        if (oldPlace >= 0)
            Names.Remove(oldPlace);
    }

    /// <summary>The inode is gone. It is in no list and under no name.</summary>
    private void Vanish(InodeRecord* record, ulong inode)
    {
        InodeKind kind = KindOf(record);
        ulong name = record->NameWord;
        ulong map = record->MapWord;
        uint owner = record->Owner;
        ExtensionShape shape = InodeWords.ShapeOf(FlagsOf(record));
        InodeExtension* extension = shape == ExtensionShape.None ? null : (InodeExtension*)record->TimeWord;
        byte* attributes = shape == ExtensionShape.Full ? (byte*)extension->Attributes : null;

        InodeVersion.Begin(record);
        record->PreviousWord = 0;
        record->ParentWord = 0;
        record->NextWord = 0;
        record->NameWord = 0;
        record->MapWord = 0;
        record->TimeWord = 0;
        InodeVersion.End(record);

        if (name != 0)
            RetireBytes(name);
        if (attributes != null)
            _epochs.Retire(attributes, AttributeBlock.BytesOf(attributes));
        if (extension != null)
            _epochs.Retire((byte*)extension, BytesOf(shape));
        if (kind == InodeKind.Directory)
            _epochs.Retire((byte*)map, DirectoryBlock.SizeBytes);
        else if (kind == InodeKind.Symlink)
            RetireBytes(map);
        else
            InodeMap.Retire(_epochs, map);
        Owners.Release(owner);
        Inodes.Release(inode / InodesPerPage);
        Count(ref _inodes, -1);
    }

    /// <summary>Entries came to or left a directory.</summary>
    private void Changed(InodeRecord* directory, int entries, int subdirectories, long timeNs)
    {
        Extras extras = default;
        ExtensionChange change = default;
        bool inPlace = InodeWords.ShapeOf(FlagsOf(directory)) != ExtensionShape.None;
        if (!inPlace)
        {
            extras = ReadExtras(directory);
            extras.ModifyTimeNs = extras.ChangeTimeNs = timeNs;
            change = Prepare(directory, extras);
        }

        InodeVersion.Begin(directory);
        directory->Size += (ulong)entries;
        BlockOf(directory)->Subdirectories += (ulong)subdirectories;
        if (inPlace)
        {
            InodeExtension* extension = (InodeExtension*)directory->TimeWord;
            extension->ModifyTimeNs = timeNs;
            extension->ChangeTimeNs = timeNs;
        }
        else
        {
            Apply(directory, change, extras);
        }

        InodeVersion.End(directory);
        Retire(change);
    }

    private void SetChangeTime(InodeRecord* record, long timeNs)
    {
        Extras extras = ReadExtras(record);
        extras.ChangeTimeNs = timeNs;
        WriteExtras(record, extras);
    }

    private static int BytesOf(ExtensionShape shape) => shape == ExtensionShape.Full ? InodeExtension.FullBytes : InodeExtension.TimesBytes;

    private static Extras ReadExtras(InodeRecord* record)
    {
        ExtensionShape shape = InodeWords.ShapeOf(FlagsOf(record));
        long time = record->TimeWord;
        if (shape == ExtensionShape.None)
            return new Extras { AccessTimeNs = time, ModifyTimeNs = time, ChangeTimeNs = time };
        InodeExtension* extension = (InodeExtension*)time;
        Extras extras = new() { AccessTimeNs = extension->AccessTimeNs, ModifyTimeNs = extension->ModifyTimeNs, ChangeTimeNs = extension->ChangeTimeNs };
        if (shape == ExtensionShape.Full)
        {
            extras.Attributes = extension->Attributes;
            extras.OwnerMount = extension->OwnerMount;
        }

        return extras;
    }

    private void WriteExtras(InodeRecord* record, in Extras extras)
    {
        ExtensionChange change = Prepare(record, extras);
        InodeVersion.Begin(record);
        Apply(record, change, extras);
        InodeVersion.End(record);
        Retire(change);
    }

    /// <summary>Decides the smallest shape that holds the extras and allocates what it needs, before the version
    /// turns odd.</summary>
    private ExtensionChange Prepare(InodeRecord* record, in Extras extras)
    {
        ExtensionShape old = InodeWords.ShapeOf(FlagsOf(record));
        ExtensionShape shape = extras.Attributes != 0 || extras.OwnerMount != Guid.Empty ? ExtensionShape.Full
            : extras.AccessTimeNs != extras.ModifyTimeNs || extras.ModifyTimeNs != extras.ChangeTimeNs ? ExtensionShape.Times
            : ExtensionShape.None;
        InodeExtension* oldBlock = old == ExtensionShape.None ? null : (InodeExtension*)record->TimeWord;
        if (shape == old)
            return new ExtensionChange { Shape = shape, Block = oldBlock };
        return new ExtensionChange
        {
            Shape = shape,
            Block = shape == ExtensionShape.None ? null : (InodeExtension*)_heap.Allocate(BytesOf(shape)),
            Retired = oldBlock,
            RetiredBytes = BytesOf(old),
        };
    }

    /// <summary>Stores the extras; the version is odd.</summary>
    private static void Apply(InodeRecord* record, in ExtensionChange change, in Extras extras)
    {
        if (change.Shape == ExtensionShape.None)
        {
            record->TimeWord = extras.ChangeTimeNs;
        }
        else
        {
            InodeExtension* extension = change.Block;
            extension->AccessTimeNs = extras.AccessTimeNs;
            extension->ModifyTimeNs = extras.ModifyTimeNs;
            extension->ChangeTimeNs = extras.ChangeTimeNs;
            if (change.Shape == ExtensionShape.Full)
            {
                extension->Attributes = extras.Attributes;
                extension->OwnerMount = extras.OwnerMount;
            }

            record->TimeWord = (long)extension;
        }

        uint flags = FlagsOf(record);
        SetFlags(record, InodeWords.Flags(InodeWords.KindOf(flags), InodeWords.StatusOf(flags), InodeWords.ModeOf(flags), change.Shape));
    }

    private void Retire(in ExtensionChange change)
    {
        if (change.Retired != null)
            _epochs.Retire((byte*)change.Retired, change.RetiredBytes);
    }

    private void FreeLargeBlocks(InodeRecord* record)
    {
        InodeKind kind = KindOf(record);
        if (kind is InodeKind.File or InodeKind.System && !InodeMap.IsInline(record->MapWord))
        {
            int bytes = InodeMap.BlockBytes(InodeMap.Count(record->MapWord));
            if (bytes > NativeHeap.LargestSlabBlockBytes)
                _heap.Free(InodeMap.Block(record->MapWord), bytes);
        }

        if (kind != InodeKind.None && InodeWords.ShapeOf(FlagsOf(record)) == ExtensionShape.Full)
        {
            byte* attributes = (byte*)((InodeExtension*)record->TimeWord)->Attributes;
            if (attributes != null && AttributeBlock.BytesOf(attributes) > NativeHeap.LargestSlabBlockBytes)
                _heap.Free(attributes, AttributeBlock.BytesOf(attributes));
        }
    }

    /// <summary>What <see cref="InodeExtension"/> can hold, on the stack of the writer.</summary>
    private struct Extras
    {
        public long AccessTimeNs;
        public long ModifyTimeNs;
        public long ChangeTimeNs;
        public ulong Attributes;
        public Guid OwnerMount;
    }

    private struct ExtensionChange
    {
        public ExtensionShape Shape;
        public InodeExtension* Block;
        public InodeExtension* Retired;
        public int RetiredBytes;
    }
}
