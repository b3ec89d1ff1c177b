using System.Runtime.CompilerServices;

namespace Famfs.Core.Namespace;

/// <summary>
/// The distinct (uid, gid) pairs in use, counted: a file system has few, and four bytes per inode instead of
/// eight is what makes an inode fit a cache line. An index whose pair is used no more is recycled after the
/// readers have moved on; the table's own pages stay (16 bytes per pair at the highest count).
/// </summary>
internal sealed unsafe class OwnerTable
{
    private const int EntriesPerPage = NativePageTable.PageBytes / 16;

    private readonly ReaderEpochs _epochs;
    private readonly NativePageTable _pages;

    // Writer thread.
    private readonly Dictionary<ulong, uint> _indexes = [];
    private readonly Stack<uint> _free = [];
    private uint _next;
    private ulong _lastKey;
    private Entry* _lastEntry;
    private uint _lastIndex;

    public OwnerTable(NativeHeap heap, ReaderEpochs epochs)
    {
        _epochs = epochs;
        _pages = new NativePageTable(heap, epochs);
    }

    /// <summary>Any thread (readers inside a scope): the pair of an index found in a record.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Read(uint index, out uint uid, out uint gid)
    {
        Entry* entry = (Entry*)_pages.Find(index / EntriesPerPage) + (index % EntriesPerPage);
        uid = entry->Uid;
        gid = entry->Gid;
    }

    /// <summary>Writer: the index of a pair, one use more.</summary>
    public uint Acquire(uint uid, uint gid)
    {
        ulong key = ((ulong)uid << 32) | gid;
        if (_lastEntry == null || key != _lastKey)
        {
            if (!_indexes.TryGetValue(key, out uint index))
            {
                if (!_free.TryPop(out index))
                {
                    index = _next++;
                    if (index % EntriesPerPage == 0)
                        _pages.Acquire(index / EntriesPerPage);
                }

                Entry* entry = (Entry*)_pages.Find(index / EntriesPerPage) + (index % EntriesPerPage);
                *entry = new Entry { Uid = uid, Gid = gid };
                _indexes.Add(key, index);
            }

            _lastKey = key;
            _lastIndex = index;
            _lastEntry = (Entry*)_pages.Find(index / EntriesPerPage) + (index % EntriesPerPage);
        }

        _lastEntry->Uses++;
        return _lastIndex;
    }

    /// <summary>Writer: one use less; no record names the index any more when it was the last.</summary>
    public void Release(uint index)
    {
        Entry* entry = (Entry*)_pages.Find(index / EntriesPerPage) + (index % EntriesPerPage);
        if (--entry->Uses > 0)
            return;
        _indexes.Remove(((ulong)entry->Uid << 32) | entry->Gid);
        if (_lastEntry == entry)
            _lastEntry = null;
        _epochs.RetireOwner(index);
    }

    /// <summary>Writer: no reader holds the index any more.</summary>
    public void Recycle(uint index) => _free.Push(index);

    private struct Entry
    {
        public uint Uid;
        public uint Gid;
        public long Uses;
    }
}
