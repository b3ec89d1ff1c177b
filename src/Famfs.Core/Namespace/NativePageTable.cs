using System.Runtime.CompilerServices;

namespace Famfs.Core.Namespace;

/// <summary>
/// Pages of 4 KiB by number: a radix tree of nodes of 512 entries that is as high as the largest number
/// needs. Dense small numbers cost two loads (16 M inodes), a single huge one costs at most four nodes
/// (20 KiB), whatever the number. Empty pages and nodes are retired; the root node stays.
/// <para>An entry is a packed pointer; its upper 16 bits count what is in use below it (writer only).
/// Readers find pages without locks: a page is zeroed before the store that makes it reachable, and retired
/// after the store that makes it unreachable.</para>
/// </summary>
internal sealed unsafe class NativePageTable
{
    public const int PageBytes = 4096;

    private const int BitsPerLevel = 9;
    private const int EntriesPerNode = 1 << BitsPerLevel;
    private const int MaxLevels = 4;

    private readonly NativeHeap _heap;
    private readonly ReaderEpochs _epochs;

    // Packed pointer to the root node, its height in the upper bits; 0: nothing yet. Writer stores, readers load.
    private ulong _root;

    // Writer thread: entries in use in the root node; the entry of the page used last.
    private int _rootCount;
    private ulong _lastPage = ulong.MaxValue;
    private ulong* _lastEntry;

    public NativePageTable(NativeHeap heap, ReaderEpochs epochs)
    {
        _heap = heap;
        _epochs = epochs;
    }

    /// <summary>Any thread (readers inside a scope): the page, or null.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public byte* Find(ulong page)
    {
        ulong root = Volatile.Read(ref _root);
        int level = InodeWords.Upper(root);
        if (root == 0 || page >> (BitsPerLevel * level) != 0)
            return null;
        byte* node = InodeWords.Pointer(root);
        do
        {
            level--;
            ulong entry = Volatile.Read(ref ((ulong*)node)[(page >> (BitsPerLevel * level)) & (EntriesPerNode - 1)]);
            node = InodeWords.Pointer(entry);
        }
        while (level > 0 && node != null);
        return node;
    }

    /// <summary>Any thread: the first page at or after <paramref name="page"/>, or null.</summary>
    public byte* FindFrom(ref ulong page)
    {
        ulong root = Volatile.Read(ref _root);
        int height = InodeWords.Upper(root);
        while (root != 0 && page >> (BitsPerLevel * height) == 0)
        {
            byte* node = InodeWords.Pointer(root);
            int level = height;
            do
            {
                level--;
                ulong entry = Volatile.Read(ref ((ulong*)node)[(page >> (BitsPerLevel * level)) & (EntriesPerNode - 1)]);
                node = InodeWords.Pointer(entry);
            }
            while (level > 0 && node != null);
            if (node != null)
                return node;
            page = ((page >> (BitsPerLevel * level)) + 1) << (BitsPerLevel * level);
        }

        return null;
    }

    /// <summary>Writer: one more thing is in use in <paramref name="page"/>; makes it when it is missing.</summary>
    public byte* Acquire(ulong page)
    {
        if (page != _lastPage)
        {
            _lastEntry = RequireEntry(page);
            _lastPage = page;
        }

        *_lastEntry += 1UL << InodeWords.PointerBits;
        return InodeWords.Pointer(*_lastEntry);
    }

    /// <summary>Writer: one thing less is in use in <paramref name="page"/>; retires it when it was the last.</summary>
    public void Release(ulong page)
    {
        ulong** path = stackalloc ulong*[MaxLevels];
        int height = InodeWords.Upper(_root);
        byte* node = InodeWords.Pointer(_root);
        for (int level = height - 1; level >= 0; level--)
        {
            path[level] = (ulong*)node + ((page >> (BitsPerLevel * level)) & (EntriesPerNode - 1));
            node = InodeWords.Pointer(*path[level]);
        }

        for (int level = 0; level < height; level++)
        {
            *path[level] -= 1UL << InodeWords.PointerBits;
            if (InodeWords.Upper(*path[level]) > 0)
                return;
            byte* empty = InodeWords.Pointer(*path[level]);
            Volatile.Write(ref *path[level], 0);
            _lastPage = ulong.MaxValue;
            _epochs.Retire(empty, PageBytes);
        }

        _rootCount--;
    }

    private ulong* RequireEntry(ulong page)
    {
        if (_root == 0)
            Volatile.Write(ref _root, InodeWords.Pack(NewPage(), 1));
        while (page >> (BitsPerLevel * InodeWords.Upper(_root)) != 0)
        {
            // One level more: the old root becomes entry 0. Readers that still hold it find what they seek
            // there, because every number it covers is below entry 0.
            int height = InodeWords.Upper(_root);
            byte* higher = NewPage();
            byte* old = InodeWords.Pointer(_root);
            if (_rootCount > 0)
                *(ulong*)higher = InodeWords.Pack(old, _rootCount);
            Volatile.Write(ref _root, InodeWords.Pack(higher, height + 1));
            if (_rootCount == 0)
                _epochs.Retire(old, PageBytes);
            _rootCount = _rootCount > 0 ? 1 : 0;
        }

        byte* node = InodeWords.Pointer(_root);
        ulong* above = null;
        for (int level = InodeWords.Upper(_root) - 1; ; level--)
        {
            ulong* entry = (ulong*)node + ((page >> (BitsPerLevel * level)) & (EntriesPerNode - 1));
            if (*entry == 0)
            {
                byte* child = NewPage();
                if (above == null)
                    _rootCount++;
                else
                    *above += 1UL << InodeWords.PointerBits;
                Volatile.Write(ref *entry, (ulong)child);
            }

            if (level == 0)
                return entry;
            above = entry;
            node = InodeWords.Pointer(*entry);
        }
    }

    private byte* NewPage()
    {
        byte* page = _heap.Allocate(PageBytes);
        new Span<byte>(page, PageBytes).Clear();
        return page;
    }
}
