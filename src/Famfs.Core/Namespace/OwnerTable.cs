using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Famfs.Core.Namespace;

/// <summary>
/// The distinct (uid, gid) pairs in use, counted: a file system has few, and four bytes per inode instead of
/// eight is what makes an inode fit a cache line. An index whose pair is used no more is recycled after the
/// readers have moved on; the memory stays (16 bytes per pair at the highest count, rounded up to a power of
/// two).
/// <para>Entries never move: chunk c holds <see cref="FirstChunk"/> · 2^c of them, so that every index has one
/// place for good and a chunk, once stored, needs no further synchronisation. The chunks come from the
/// operating system, not from the slabs, where pages that stay would pin slabs of pages that go.</para>
/// </summary>
internal sealed unsafe class OwnerTable : IDisposable
{
    private const int FirstChunk = 256;
    private const int Chunks = 24; // 256 · (2^24 − 1) pairs: 4 billion

    private readonly NativeHeap _heap;
    private readonly ReaderEpochs _epochs;

    // Writer stores an element before any record names an index in it; readers load.
    private readonly nint[] _chunks = new nint[Chunks];

    // Writer thread.
    private readonly Dictionary<ulong, uint> _indexes = [];
    private readonly Stack<uint> _free = [];
    private uint _next;
    private ulong _lastKey;
    private Entry* _lastEntry;
    private uint _lastIndex;

    public OwnerTable(NativeHeap heap, ReaderEpochs epochs)
    {
        _heap = heap;
        _epochs = epochs;
    }

    /// <summary>Any thread (readers inside a scope): the pair of an index found in a record.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Read(uint index, out uint uid, out uint gid)
    {
        Entry* entry = Find(index);
        uid = entry->Uid;
        gid = entry->Gid;
    }

    /// <summary>Writer: the index of a pair, one use more.</summary>
    public uint Acquire(uint uid, uint gid)
    {
        ulong key = ((ulong)uid << 32) | gid;
        if (_lastEntry == null || key != _lastKey)
        {
            ref uint index = ref CollectionsMarshal.GetValueRefOrAddDefault(_indexes, key, out bool known);
            if (!known)
            {
                index = TakeIndex();
                *Find(index) = new Entry { Uid = uid, Gid = gid };
            }

            _lastKey = key;
            _lastIndex = index;
            _lastEntry = Find(index);
        }

        _lastEntry->Uses++;
        return _lastIndex;
    }

    /// <summary>Writer: one use less; no record names the index any more when it was the last.</summary>
    public void Release(uint index)
    {
        Entry* entry = Find(index);
        if (--entry->Uses > 0)
            return;
        _indexes.Remove(((ulong)entry->Uid << 32) | entry->Gid);
        if (_lastEntry == entry)
            _lastEntry = null;
        _epochs.RetireOwner(index);
    }

    /// <summary>Writer: no reader holds the index any more.</summary>
    public void Recycle(uint index) => _free.Push(index);

    /// <summary>Frees the chunks.</summary>
    public void Dispose()
    {
        for (int chunk = 0; chunk < Chunks; chunk++)
        {
            if (_chunks[chunk] != 0)
                _heap.FreeTable((byte*)_chunks[chunk], BytesOf(chunk));
            _chunks[chunk] = 0;
        }
    }

    private static long BytesOf(int chunk) => ((long)FirstChunk << chunk) * sizeof(Entry);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private Entry* Find(uint index)
    {
        ulong shifted = (ulong)index + FirstChunk;
        int log = BitOperations.Log2(shifted);
        return (Entry*)_chunks[log - 8] + (shifted - (1UL << log));
    }

    private uint TakeIndex()
    {
        if (_free.TryPop(out uint index))
            return index;
        index = _next++;
        int chunk = BitOperations.Log2((ulong)index + FirstChunk) - 8;
        if (_chunks[chunk] == 0)
            _chunks[chunk] = (nint)_heap.AllocateTable(BytesOf(chunk));
        return index;
    }

    private struct Entry
    {
        public uint Uid;
        public uint Gid;
        public long Uses;
    }
}
