using System.Numerics;
using System.Runtime.CompilerServices;

namespace Famfs.Core.Namespace;

/// <summary>
/// Finds the candidates for a (parent, name): open addressing with linear probing, eight bytes per entry,
/// the low 24 bits of the hash above 40 bits of inode number. An entry says only "maybe": the name itself is
/// compared with the inode's record, which is what makes a rename one atomic change.
/// <para>The home of an entry is its hash modulo the capacity. Up to 2^24 places the home is therefore part
/// of the tag: a new table is built from the old one alone, in two sequential streams, and entries of
/// another home never look like candidates. Above that the hash is computed again from the name.</para>
/// <para>Readers: an entry that is never removed never leaves its place within one table, and no place between
/// its home and itself ever becomes empty; so one pass finds it. A replaced table is never changed again; a
/// reader that misses in it and sees that another is published looks there.</para>
/// </summary>
internal sealed unsafe class NameTable
{
    public const ulong Empty = 0;

    /// <summary>A place whose entry is gone but which probes must pass: inode 0 under a tag.</summary>
    public const ulong Gone = 1UL << InodeBits;

    public const int InodeBits = 40;
    public const ulong InodeMask = (1UL << InodeBits) - 1;

    private const int TagBits = 24;
    private const ulong TagMask = (1UL << TagBits) - 1;
    // Above 4 KiB with its header, so that every table is a large block of the heap.
    private const long LeastCapacity = 1024;
    private const int HeaderBytes = 64;

    private readonly NativeHeap _heap;
    private readonly ReaderEpochs _epochs;
    private readonly Func<ulong, ulong> _hashOfInode;

    // Writer stores, readers load: pointer to the capacity − 1, followed (after 64 bytes) by the entries.
    private nint _table;

    // Writer thread: entries, and places that are not empty.
    private long _live;
    private long _used;

    public NameTable(NativeHeap heap, ReaderEpochs epochs, Func<ulong, ulong> hashOfInode)
    {
        _heap = heap;
        _epochs = epochs;
        _hashOfInode = hashOfInode;
        _table = (nint)NewTable(LeastCapacity);
    }

    public long Capacity => (long)MaskOf(Current) + 1;

    public long Count => _live;

    /// <summary>The table of this moment, for one pass of a reader.</summary>
    public byte* Current
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => (byte*)Volatile.Read(ref _table);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong MaskOf(byte* table) => *(ulong*)table;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong* Places(byte* table) => (ulong*)(table + HeaderBytes);

    /// <summary>Whether the entry could be that of a name with this hash.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool MayBe(ulong entry, ulong hash) => entry >> InodeBits == (hash & TagMask) && (entry & InodeMask) != 0;

    public static ulong EntryOf(ulong hash, ulong inode) => ((hash & TagMask) << InodeBits) | inode;

    /// <summary>Writer: makes room for one more entry, by a new table if need be. Places known before are void.</summary>
    public void RequireRoom()
    {
        if ((_used + 1) * 4 > Capacity * 3)
            Rebuild();
    }

    /// <summary>Writer: adds an entry. <see cref="RequireRoom"/> came before. The release store makes everything
    /// the entry leads to visible before the entry.</summary>
    public void Insert(ulong hash, ulong inode)
    {
        ulong* places = Places(Current);
        ulong mask = MaskOf(Current);
        for (ulong place = hash & mask; ; place = (place + 1) & mask)
        {
            ulong entry = places[place];
            if ((entry & InodeMask) != 0)
                continue;
            if (entry == Empty)
                _used++;
            _live++;
            Volatile.Write(ref places[place], EntryOf(hash, inode));
            return;
        }
    }

    /// <summary>Writer: the place of the entry of an inode under the name it has now.</summary>
    public long RequirePlace(ulong hash, ulong inode)
    {
        ulong* places = Places(Current);
        ulong mask = MaskOf(Current);
        ulong wanted = EntryOf(hash, inode);
        for (ulong place = hash & mask; places[place] != Empty; place = (place + 1) & mask)
        {
            if (places[place] == wanted)
                return (long)place;
        }

        throw new InvalidOperationException($"inode {inode} is missing in the name table");
    }

    /// <summary>Writer: one store gives the place, and so the name, to another inode.</summary>
    public void Replace(long place, ulong hash, ulong inode) =>
        Volatile.Write(ref Places(Current)[place], EntryOf(hash, inode));

    /// <summary>Writer: removes the entry at a place; a table that has become far too large shrinks.</summary>
    public void Remove(long place)
    {
        ulong* places = Places(Current);
        ulong mask = MaskOf(Current);
        ulong at = (ulong)place;
        _live--;
        if (places[(at + 1) & mask] != Empty)
        {
            Volatile.Write(ref places[at], Gone);
        }
        else
        {
            // Nothing lies beyond: this place and the gone ones before it end no probe too early.
            do
            {
                Volatile.Write(ref places[at], Empty);
                _used--;
                at = (at - 1) & mask;
            }
            while (places[at] == Gone);
        }

        if (Capacity > LeastCapacity && _live * 8 < Capacity)
            Rebuild();
    }

    /// <summary>Frees the table without asking the readers.</summary>
    public void Dispose()
    {
        byte* table = Current;
        _heap.FreeTable(table, BytesOf(Capacity));
        _table = 0;
    }

    private static long BytesOf(long capacity) => HeaderBytes + (capacity * sizeof(ulong));

    private byte* NewTable(long capacity)
    {
        byte* table = _heap.AllocateTable(BytesOf(capacity));
        *(ulong*)table = (ulong)capacity - 1;
        return table;
    }

    /// <summary>Twice the entries and more, so that the next rebuilding is far away in either direction.</summary>
    private void Rebuild()
    {
        byte* old = Current;
        long capacity = Math.Max(LeastCapacity, (long)BitOperations.RoundUpToPowerOf2((ulong)(_live + 1) * 2));
        byte* table = NewTable(capacity);
        ulong* places = Places(table);
        ulong mask = (ulong)capacity - 1;
        ulong* oldPlaces = Places(old);
        long oldCapacity = (long)MaskOf(old) + 1;
        bool tagHasHome = mask <= TagMask;
        for (long i = 0; i < oldCapacity; i++)
        {
            ulong entry = oldPlaces[i];
            if ((entry & InodeMask) == 0)
                continue;
            ulong place = (tagHasHome ? entry >> InodeBits : _hashOfInode(entry & InodeMask)) & mask;
            while (places[place] != Empty)
                place = (place + 1) & mask;
            places[place] = entry;
        }

        _used = _live;
        // The release store: a reader that sees the new table sees its entries.
        Volatile.Write(ref _table, (nint)table);
        _epochs.Retire(old, BytesOf(oldCapacity));
    }
}
