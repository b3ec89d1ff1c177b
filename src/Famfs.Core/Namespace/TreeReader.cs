using System.Runtime.CompilerServices;

namespace Famfs.Core.Namespace;

/// <summary>One thread's access to an <see cref="InodeTree"/>. Not for two threads at once.</summary>
public sealed unsafe class TreeReader : IDisposable
{
    internal readonly InodeTree Tree;

    private readonly ReaderEpochs _epochs;
    private ulong* _slot;
    private int _depth;

    internal TreeReader(InodeTree tree, ReaderEpochs epochs)
    {
        Tree = tree;
        _epochs = epochs;
        _slot = epochs.Register();
    }

    /// <summary>Begins a scope; what it finds stays valid until its Dispose. Scopes may be nested; memory
    /// the writer retires is kept while one is open, so keep it short.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public TreeScope Enter()
    {
        ObjectDisposedException.ThrowIf(_slot == null || Tree.IsDisposed, this);
        if (_depth++ == 0)
            _epochs.Enter(_slot);
        return new TreeScope(this);
    }

    /// <summary>Unregisters. No scope may be open.</summary>
    public void Dispose()
    {
        if (_slot == null)
            return;
        if (_depth != 0)
            throw new InvalidOperationException("a scope of this reader is open");
        _epochs.Unregister(_slot);
        _slot = null;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal void Leave()
    {
        if (--_depth == 0)
            ReaderEpochs.Exit(_slot);
    }
}

/// <summary>A short time in which a reader sees the tree: spans, maps and enumerators taken from it are
/// valid until its Dispose. Allocates nothing. Each call sees the state of its own moment.</summary>
public readonly unsafe ref struct TreeScope : IDisposable
{
    private readonly TreeReader _reader;
    private readonly InodeTree _tree;

    internal TreeScope(TreeReader reader)
    {
        _reader = reader;
        _tree = reader.Tree;
    }

    /// <summary>Ends the scope. Once.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Dispose() => _reader.Leave();

    /// <summary>Attributes of an inode of any kind and status.</summary>
    public bool TryGet(InodeNumber inode, out InodeAttributes attributes)
    {
        Unsafe.SkipInit(out attributes);
        InodeRecord* record = Find(inode);
        return record != null && InodeReading.TryRead(_tree, record, inode.Value, out _, out attributes);
    }

    /// <summary>The first inode with a number above <paramref name="after"/>, of any kind and status; for walks
    /// over everything, nameless inodes included. Inodes that come or go meanwhile may be missed.</summary>
    public bool TryGetNext(InodeNumber after, out InodeAttributes attributes)
    {
        Unsafe.SkipInit(out attributes);
        if (after.Value >= InodeNumber.Max)
            return false;
        ulong number = after.Value + 1;
        ulong page = number / InodeTree.InodesPerPage;
        ulong index = number % InodeTree.InodesPerPage;
        for (byte* found = _tree.Inodes.FindFrom(ref page); found != null; found = _tree.Inodes.FindFrom(ref page))
        {
            if (page != number / InodeTree.InodesPerPage)
                index = 0;
            for (; index < InodeTree.InodesPerPage; index++)
            {
                if (InodeReading.TryRead(_tree, (InodeRecord*)found + index, (page * InodeTree.InodesPerPage) + index, out _, out attributes))
                    return true;
            }

            page++;
        }

        return false;
    }

    /// <summary>The child of a directory with this name.</summary>
    public bool TryLookup(InodeNumber parent, ReadOnlySpan<byte> name, out InodeAttributes child) =>
        TryLookup(_tree.Names.Current, parent, name, out child);

    /// <summary>The same, beginning with a table that was current at some moment of this scope.</summary>
    internal bool TryLookup(byte* table, InodeNumber parent, ReadOnlySpan<byte> name, out InodeAttributes child)
    {
        Unsafe.SkipInit(out child);
        if (name.Length is 0 or > InodeTree.MaxNameBytes)
            return false;
        ulong hash = _tree.HashOf(parent.Value, name);
        while (true)
        {
            ulong* places = NameTable.Places(table);
            ulong mask = NameTable.MaskOf(table);
            ulong place = hash & mask;
            ulong entry = Volatile.Read(ref places[place]);
            while (entry != NameTable.Empty)
            {
                if (NameTable.MayBe(entry, hash))
                {
                    ulong inode = entry & NameTable.InodeMask;
                    InodeRecord* record = _tree.Find(inode);
                    if (record != null
                        && InodeReading.TryRead(_tree, record, inode, parent.Value, name, out child))
                    {
                        return true;
                    }

                    // The inode has another name now. If this place has been handed to the inode that
                    // replaced it, that is what the name means: the hand-over is stored before the replaced
                    // inode loses the name. Ends because every turn is one hand-over by the writer.
                    Volatile.ReadBarrier();
                    ulong again = Volatile.Read(ref places[place]);
                    if (again != entry)
                    {
                        entry = again;
                        continue;
                    }
                }

                place = (place + 1) & mask;
                entry = Volatile.Read(ref places[place]);
            }

            // A hand-over after the table was replaced is only in the new one.
            Volatile.ReadBarrier();
            byte* current = _tree.Names.Current;
            if (current == table)
                return false;
            table = current;
        }
    }

    /// <summary>The map of a file or system inode.</summary>
    public bool TryGetMap(InodeNumber inode, out MapView map) => TryGetMap(inode, out map, out _);

    /// <summary>The map of a file or system inode, and whether it is deleted.</summary>
    public bool TryGetMap(InodeNumber inode, out MapView map, out InodeStatus status)
    {
        map = default;
        status = InodeStatus.None;
        InodeRecord* record = Find(inode);
        if (record == null)
            return false;
        InodeVersion.Read(record, out InodeSnapshot snapshot);
        if (snapshot.Kind is not (InodeKind.File or InodeKind.System))
            return false;
        map = new MapView(snapshot.Size, snapshot.MapWord);
        status = snapshot.Status;
        return true;
    }

    /// <summary>Where an inode is linked; false for nameless ones (the root, staged, deleted, system).</summary>
    public bool TryGetName(InodeNumber inode, out InodeNumber parent, out ReadOnlySpan<byte> name)
    {
        parent = default;
        name = default;
        InodeRecord* record = Find(inode);
        if (record == null)
            return false;
        InodeVersion.Read(record, out InodeSnapshot snapshot);
        if (snapshot.NameWord == 0)
            return false;
        parent = new InodeNumber(snapshot.Parent);
        name = InodeWords.Bytes(snapshot.NameWord);
        return true;
    }

    /// <summary>The target of a symbolic link.</summary>
    public bool TryGetSymlinkTarget(InodeNumber inode, out ReadOnlySpan<byte> target)
    {
        target = default;
        InodeRecord* record = Find(inode);
        if (record == null)
            return false;
        InodeVersion.Read(record, out InodeSnapshot snapshot);
        if (snapshot.Kind != InodeKind.Symlink)
            return false;
        target = InodeWords.Bytes(snapshot.MapWord);
        return true;
    }

    /// <summary>The mount that owns a staged file; false for every other inode.</summary>
    public bool TryGetOwnerMount(InodeNumber inode, out Guid ownerMount)
    {
        ownerMount = default;
        InodeRecord* record = Find(inode);
        if (record == null)
            return false;
        InodeSnapshot snapshot;
        do
        {
            InodeVersion.Read(record, out snapshot);
            if (snapshot.Status != InodeStatus.Staged)
                return false;
            if (snapshot.Shape == ExtensionShape.Full)
                ownerMount = ((InodeExtension*)snapshot.TimeWord)->OwnerMount;
        }
        while (!InodeVersion.StillAt(record, snapshot));
        return true;
    }

    /// <summary>The children of a directory in the order they were linked, after the one with cookie
    /// <paramref name="afterCookie"/> (0: all). Cookies are above 0, grow, and stay with a child while it is
    /// linked. A child that is there throughout is seen exactly once; what is linked after this call is not
    /// seen by this enumeration. <paramref name="hint"/>: the child that had the cookie; makes going on
    /// independent of the size of the directory while that child is still linked, a walk from the first child
    /// otherwise. Not a directory: empty.</summary>
    public DirectoryEntries List(InodeNumber directory, ulong afterCookie, InodeNumber hint = default) =>
        new(_tree, directory.Value, Find(directory), afterCookie, hint.Value, Find(hint));

    /// <summary>The extended attributes of an inode.</summary>
    public ExtendedAttributes ListExtendedAttributes(InodeNumber inode) => new(AttributesOf(inode));

    /// <summary>One extended attribute.</summary>
    public bool TryGetExtendedAttribute(InodeNumber inode, ReadOnlySpan<byte> name, out ReadOnlySpan<byte> value) =>
        AttributeBlock.TryFind(AttributesOf(inode), name, out value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private InodeRecord* Find(InodeNumber inode) => inode.Value > InodeNumber.Max ? null : _tree.Find(inode.Value);

    private byte* AttributesOf(InodeNumber inode)
    {
        InodeRecord* record = Find(inode);
        if (record == null)
            return null;
        InodeSnapshot snapshot;
        byte* block;
        do
        {
            InodeVersion.Read(record, out snapshot);
            block = snapshot.Shape == ExtensionShape.Full && snapshot.Kind != InodeKind.None
                ? (byte*)((InodeExtension*)snapshot.TimeWord)->Attributes
                : null;
        }
        while (!InodeVersion.StillAt(record, snapshot));
        return block;
    }
}

/// <summary>Attributes from a record, at one version.</summary>
internal static unsafe class InodeReading
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool TryRead(InodeTree tree, InodeRecord* record, ulong inode, out InodeSnapshot snapshot, out InodeAttributes attributes)
    {
        Unsafe.SkipInit(out attributes);
        bool looksUp = tree.HasRemovedDirectories;
        do
        {
            InodeVersion.Read(record, out snapshot);
            if (snapshot.Kind == InodeKind.None)
                return false;
        }
        while (!TryComplete(tree, record, inode, snapshot, looksUp, out attributes));
        return true;
    }

    /// <summary>The same, if the inode is <paramref name="name"/> in <paramref name="parent"/> at that version, and that is not
    /// removed.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool TryRead(InodeTree tree, InodeRecord* record, ulong inode, ulong parent, ReadOnlySpan<byte> name, out InodeAttributes attributes)
    {
        Unsafe.SkipInit(out attributes);
        InodeSnapshot snapshot;
        bool looksUp = tree.HasRemovedDirectories;
        do
        {
            InodeVersion.Read(record, out snapshot);
            if (snapshot.Parent != parent || !InodeWords.Bytes(snapshot.NameWord).SequenceEqual(name))
                return false;
        }
        while (!TryComplete(tree, record, inode, snapshot, looksUp, out attributes));
        return !looksUp || attributes.Status == InodeStatus.Published;
    }

    /// <summary>Adds what is behind the record's pointers. They are followed only from a consistent copy: they
    /// then lead to blocks of the right kind, which the scope keeps; what is read there counts only if the
    /// version is still the same. <paramref name="looksUp"/>: a directory above it may be removed; then it is deleted for
    /// everybody, although it was not taken apart yet.</summary>
    private static bool TryComplete(InodeTree tree, InodeRecord* record, ulong inode, in InodeSnapshot snapshot, bool looksUp, out InodeAttributes attributes)
    {
        uint flags = snapshot.Flags;
        attributes.Inode = new InodeNumber(inode);
        attributes.Parent = new InodeNumber(snapshot.Parent);
        attributes.Kind = InodeWords.KindOf(flags);
        attributes.Status = InodeWords.StatusOf(flags);
        attributes.Mode = InodeWords.ModeOf(flags);
        tree.Owners.Read(snapshot.Owner, out attributes.Uid, out attributes.Gid);
        attributes.SizeBytes = snapshot.Size;
        bool isRemoved = looksUp && tree.IsRemoved(attributes.Kind, snapshot.Parent);
        if (isRemoved)
            attributes.Status = InodeStatus.Deleted;
        attributes.LinkCount = attributes.Status is InodeStatus.Deleted or InodeStatus.Zeroing ? 0u : 1u;
        attributes.AccessTimeNs = attributes.ModifyTimeNs = attributes.ChangeTimeNs = snapshot.TimeWord;
        if (attributes.Kind != InodeKind.Directory && snapshot.Shape == ExtensionShape.None)
            return !isRemoved || InodeVersion.StillAt(record, snapshot);
        if (attributes.Kind == InodeKind.Directory && !isRemoved)
            attributes.LinkCount = (uint)(2 + ((DirectoryBlock*)snapshot.MapWord)->Subdirectories);
        if (snapshot.Shape != ExtensionShape.None)
        {
            InodeExtension* extension = (InodeExtension*)snapshot.TimeWord;
            attributes.AccessTimeNs = extension->AccessTimeNs;
            attributes.ModifyTimeNs = extension->ModifyTimeNs;
            attributes.ChangeTimeNs = extension->ChangeTimeNs;
        }

        return InodeVersion.StillAt(record, snapshot);
    }
}
