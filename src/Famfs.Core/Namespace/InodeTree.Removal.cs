using System.Runtime.CompilerServices;

namespace Famfs.Core.Namespace;

/// <summary>Is told each inode of a removed subtree, after it was taken out.</summary>
/// <param name="parent">The directory that it was in.</param>
/// <param name="inode">The inode. A file is deleted now and stays; anything else is gone.</param>
/// <param name="kind">What it is.</param>
/// <param name="name">The name that it had, valid during the call.</param>
public delegate void SubtreeEntryRemoved(InodeNumber parent, InodeNumber inode, InodeKind kind, ReadOnlySpan<byte> name);

/// <summary>
/// What leaves the tree. A directory leaves it with all below it in one step: its record loses its name and its parent.
/// From that store on whoever looks anything up below it finds nothing, and finds files there deleted. The inodes below are taken
/// apart afterwards, some at a time.
/// <para>How a reader knows that an inode lies below a removed directory: while there is such a directory, and only then, it
/// goes up from the inode, and arrives at the root or at a directory without a parent. It loads the number of removed
/// directories before it loads the inode: a directory that is removed later was removed after this look.</para>
/// </summary>
public sealed unsafe partial class InodeTree
{
    // Writer thread: both ends of the list of deleted files, which uses the words that link siblings.
    private ulong _firstDeleted;
    private ulong _lastDeleted;
    private long _deleted;

    // Writer thread: directories that have been removed, in that order, and where the first of them is being taken apart; 0: not begun.
    private readonly Queue<ulong> _removedDirectories = new();
    private ulong _takingApart;

    // Writer thread stores, any loads: those directories, and how often a directory began or ended to move to another one.
    private long _removed;
    private long _moves;

    /// <summary>Files that have lost their name and are not reclaimed.</summary>
    public long DeletedCount => Volatile.Read(ref _deleted);

    /// <summary>Directories that are removed and not taken apart whole. Any thread.</summary>
    public long RemovedDirectoryCount => Volatile.Read(ref _removed);

    /// <summary>Writer: takes the inode out of the namespace; a directory takes its subtree. Files (also staged
    /// and system ones) become <see cref="InodeStatus.Deleted"/>, nameless, their map kept;
    /// <paramref name="deletedFile"/> is told each, and must not change the tree. Directories and symbolic
    /// links vanish. Costs the same for every inode taken, whatever the shape of the tree.</summary>
    public void Delete(InodeNumber inode, long timeNs, Action<InodeNumber>? deletedFile)
    {
        Remove(inode, timeNs);
        InodeRecord* record = Find(inode.Value);
        if (record != null && StatusOf(record) == InodeStatus.Deleted)
            deletedFile?.Invoke(inode);
        while (RemovedDirectoryCount != 0)
        {
            TakeApart(int.MaxValue, (_, below, kind, _) =>
            {
                if (kind == InodeKind.File)
                    deletedFile?.Invoke(below);
            });
        }
    }

    /// <summary>Writer: as <see cref="Delete"/>, but what is below a directory is only out of the namespace: the caller goes on
    /// with <see cref="TakeApart"/> until <see cref="RemovedDirectoryCount"/> is 0. Costs the same whatever is below.</summary>
    public void Remove(InodeNumber inode, long timeNs)
    {
        InodeRecord* record = Require(inode);
        if (inode.Value == _root)
            throw Corrupt("the root directory is deleted");
        InodeKind kind = KindOf(record);
        ulong parent = ParentOf(record);
        if (StatusOf(record) is InodeStatus.Deleted or InodeStatus.Zeroing || (kind == InodeKind.Directory && parent == 0))
            throw Corrupt($"inode {inode} is deleted twice");
        RequireInTree(inode);

        if (parent != 0)
        {
            InodeRecord* directory = Find(parent);
            Names.Remove(Names.RequirePlace(HashOfInode(inode.Value), inode.Value));
            Unlink(record, directory);
            Changed(directory, -1, kind == InodeKind.Directory ? -1 : 0, timeNs);
        }

        if (kind != InodeKind.Directory)
        {
            RemoveNameless(record, inode.Value, kind);
            return;
        }

        if (BlockOf(record)->First == 0)
        {
            Vanish(record, inode.Value);
            Count(ref _directories, -1);
            return;
        }

        _removedDirectories.Enqueue(inode.Value);
        // The count comes first: who finds the directory without a parent must know what that means.
        Volatile.Write(ref _removed, _removed + 1);
        Volatile.WriteBarrier();
        Detach(record);
    }

    /// <summary>Writer: takes up to <paramref name="most"/> inodes of removed directories apart; gives how many.
    /// <paramref name="removed"/> is told each but the removed directories themselves, and must not change the tree.</summary>
    public int TakeApart(int most, SubtreeEntryRemoved? removed)
    {
        Span<byte> name = stackalloc byte[MaxNameBytes];
        int taken = 0;
        while (taken < most && _removedDirectories.TryPeek(out ulong top))
        {
            // Depth first along the tree itself, always the first child: no stack, whatever the depth. The way
            // back is kept in the directories' blocks, because a directory's record no longer says it once the
            // directory is out of the namespace.
            if (_takingApart == 0)
            {
                BlockOf(Find(top))->Reserved = 0;
                _takingApart = top;
            }

            InodeRecord* directory = Find(_takingApart);
            DirectoryBlock* block = BlockOf(directory);
            ulong first = block->First;
            if (first == 0)
            {
                ulong gone = _takingApart;
                _takingApart = block->Reserved;
                Vanish(directory, gone);
                Count(ref _directories, -1);
                taken++;
                if (gone == top)
                {
                    _removedDirectories.Dequeue();
                    Volatile.Write(ref _removed, _removed - 1);
                }

                continue;
            }

            InodeRecord* child = Find(first);
            InodeKind kind = KindOf(child);
            ReadOnlySpan<byte> had = InodeWords.Bytes(child->NameWord);
            had.CopyTo(name);
            int nameBytes = had.Length;
            Names.Remove(Names.RequirePlace(HashOfInode(first), first));
            Unlink(child, directory);
            InodeNumber parent = new(_takingApart);
            if (kind == InodeKind.Directory)
            {
                BlockOf(child)->Reserved = _takingApart;
                Detach(child);
                _takingApart = first;
            }
            else
            {
                RemoveNameless(child, first, kind);
                taken++;
            }

            removed?.Invoke(parent, new(first), kind, name[..nameBytes]);
        }

        return taken;
    }

    /// <summary>Writer: a deleted file is released by every holder and is being zeroed.</summary>
    public void StartZeroing(InodeNumber inode)
    {
        InodeRecord* record = Require(inode);
        if (StatusOf(record) != InodeStatus.Deleted)
            throw Corrupt($"inode {inode} is zeroed but was not deleted");
        SetStatus(record, InodeStatus.Zeroing);
    }

    /// <summary>Writer: a zeroed file is gone.</summary>
    public void Reclaim(InodeNumber inode)
    {
        InodeRecord* record = Require(inode);
        if (StatusOf(record) != InodeStatus.Zeroing)
            throw Corrupt($"inode {inode} is reclaimed but was not zeroed");
        ulong next = record->NextWord >> InodeWords.LowBits;
        ulong previous = record->PreviousWord >> InodeWords.LowBits;
        if (previous == 0)
            _firstDeleted = next;
        else
            SetNext(Find(previous), next);
        if (next == 0)
            _lastDeleted = previous;
        else
            SetPrevious(Find(next), previous);
        Count(ref _deleted, -1);
        Vanish(record, inode.Value);
    }

    /// <summary>Writer: the file that was deleted last and is not reclaimed; none: <see cref="InodeNumber.None"/>.</summary>
    public InodeNumber LastDeleted => new(_lastDeleted);

    /// <summary>Writer: every file that is deleted or being zeroed, the one deleted first comes first. The tree may be changed
    /// after the walk, not during it.</summary>
    public IEnumerable<InodeNumber> EnumerateDeleted()
    {
        for (ulong inode = _firstDeleted; inode != 0; inode = NextOf(inode))
            yield return new(inode);
    }

    /// <summary>Reader: whether <see cref="IsRemoved"/> must be asked about what is loaded after this.</summary>
    internal bool HasRemovedDirectories
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => Volatile.Read(ref _removed) != 0;
    }

    /// <summary>Reader: whether an inode with this parent lies below a removed directory, or is one.</summary>
    internal bool IsRemoved(InodeKind kind, ulong parent)
    {
        if (parent == 0)
            return kind == InodeKind.Directory;
        SpinWait spin = default;
        while (true)
        {
            // A directory that moves meanwhile can lead from the place that it left, which is removed next, and does not concern it.
            long moves = Volatile.Read(ref _moves);
            bool isBelowRoot = LeadsToRoot(parent);
            Volatile.ReadBarrier();
            if (isBelowRoot || ((moves & 1) == 0 && Volatile.Read(ref _moves) == moves))
                return !isBelowRoot;
            spin.SpinOnce(sleep1Threshold: -1);
        }
    }

    private bool LeadsToRoot(ulong at)
    {
        while (at != Volatile.Read(ref _root))
        {
            InodeRecord* record = at == 0 ? null : Find(at);
            if (record == null)
                return false;
            InodeVersion.Read(record, out InodeSnapshot snapshot);
            if (snapshot.Kind != InodeKind.Directory)
                return false;
            at = snapshot.Parent;
        }

        return true;
    }

    private void RequireInTree(InodeNumber inode)
    {
        InodeRecord* record = Find(inode.Value);
        if (HasRemovedDirectories && IsRemoved(KindOf(record), ParentOf(record)))
            throw Corrupt($"inode {inode} is used below a removed directory");
    }

    private void BeginMoveOfDirectory()
    {
        Volatile.Write(ref _moves, _moves + 1);
        Volatile.WriteBarrier();
    }

    private void EndMoveOfDirectory() => Volatile.Write(ref _moves, _moves + 1);

    /// <summary>A file that has lost its name stays as a deleted one, a symbolic link goes. The times stay: no name is left that could
    /// tell them to anybody, and they take no memory (unlink(3p) asks for a new one only where a link is left).</summary>
    private void RemoveNameless(InodeRecord* record, ulong inode, InodeKind kind)
    {
        if (kind == InodeKind.Symlink)
        {
            Vanish(record, inode);
            return;
        }

        if (record->NameWord != 0)
            Count(ref _files, -1);
        Extras extras = ReadExtras(record);
        extras.OwnerMount = Guid.Empty;
        ExtensionChange change = Prepare(record, extras);
        ulong name = record->NameWord;
        uint flags = FlagsOf(record);
        InodeVersion.Begin(record);
        record->NameWord = 0;
        record->ParentWord = 0;
        record->NextWord = 0;
        record->PreviousWord = InodeWords.Word(_lastDeleted, InodeWords.Flags(kind, InodeStatus.Deleted, InodeWords.ModeOf(flags), InodeWords.ShapeOf(flags)));
        Apply(record, change, extras);
        InodeVersion.End(record);
        if (_lastDeleted == 0)
            _firstDeleted = inode;
        else
            SetNext(Find(_lastDeleted), inode);
        _lastDeleted = inode;
        Count(ref _deleted, 1);
        Retire(change);
        if (name != 0)
            RetireBytes(name);
    }

    /// <summary>A directory of a subtree that goes has lost its name, but not yet its children.</summary>
    private void Detach(InodeRecord* record)
    {
        ulong name = record->NameWord;
        InodeVersion.Begin(record);
        record->NameWord = 0;
        record->ParentWord = 0;
        record->NextWord = 0;
        record->PreviousWord = FlagsOf(record);
        InodeVersion.End(record);
        RetireBytes(name);
    }

    private ulong NextOf(ulong inode) => Find(inode)->NextWord >> InodeWords.LowBits;
}
