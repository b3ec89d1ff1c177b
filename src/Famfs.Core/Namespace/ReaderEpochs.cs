using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Famfs.V1;

namespace Famfs.Core.Namespace;

/// <summary>
/// Decides when memory that the writer has unlinked can be used again: when every reader that could have
/// found it has left.
/// <para>There is one epoch number. A reader that enters stores the number into its own slot, leaves by
/// storing 0. The writer unlinks a block, retires it with the current number T, and raises the number from
/// time to time. A block retired at T is free once every slot is 0 or above T.</para>
/// <para>Why that holds. A slot above T: the reader loaded a number that the writer stored after it had
/// unlinked the block (release store, acquire load), so its later loads see the unlinking. A slot seen as 0
/// while its reader is about to enter: the reader stores its slot, then a full fence, then loads pointers;
/// the writer unlinks, then a full fence, then loads the slots. One of the two must see the other's store
/// (store-load order is the one order that neither x86-64 nor arm64 gives without a fence): either the
/// writer sees the slot, or the reader sees the unlinking.</para>
/// <para>Cost: one full fence per scope; per retirement at most <see cref="FreedPerRetirement"/> blocks freed,
/// per <see cref="RetirementsPerScan"/> retirements one look at the slots. A reader that stays inside keeps
/// what was retired since; nothing waits for it.</para>
/// </summary>
internal sealed unsafe class ReaderEpochs : IDisposable
{
    /// <summary>Readers that can be registered at once (chosen).</summary>
    public const int MaxReaders = 1024;

    private const int SlotBytes = 128; // two lines: the adjacent-line prefetcher pairs them
    private const int RetirementsPerScan = 256;
    private const int FreedPerRetirement = 4;
    private const int EntriesPerChunk = 170; // 16 + 170 · 24 = 4096

    private readonly NativeHeap _heap;
    private readonly Action<uint> _recycleOwner;

    // Slot 0 is the epoch number, in a line that only the writer stores to.
    private readonly byte* _slots;

    // Guard of registration: _registered.
    private readonly bool[] _registered = new bool[MaxReaders + 1];
    private bool _disposed;

    // Highest slot ever registered; stored under the guard, read by the writer.
    private int _highestSlot;

    // Writer thread.
    private Chunk* _head;
    private Chunk* _tail;
    private int _sinceScan;
    private ulong _freeBelow;
    private long _waiting;

    public ReaderEpochs(NativeHeap heap, Action<uint> recycleOwner)
    {
        _heap = heap;
        _recycleOwner = recycleOwner;
        _slots = heap.AllocateTable(SlotTableBytes);
        *(ulong*)_slots = 1;
    }

    private static long SlotTableBytes => (MaxReaders + 1) * (long)SlotBytes;

    /// <summary>Blocks retired and not yet free.</summary>
    public long Waiting => _waiting;

    /// <summary>Any thread: a slot for a reader.</summary>
    /// <exception cref="FamfsException">OVERLOADED: <see cref="MaxReaders"/> readers are registered.</exception>
    public ulong* Register()
    {
        lock (_registered)
        {
            for (int slot = 1; slot <= MaxReaders; slot++)
            {
                if (_registered[slot])
                    continue;
                _registered[slot] = true;
                if (slot > _highestSlot)
                    Volatile.Write(ref _highestSlot, slot);
                // The writer must not miss this slot once its reader has entered: Enter's fence orders the
                // store above before the reader's loads, as it does for the slot itself.
                return (ulong*)(_slots + (slot * (long)SlotBytes));
            }
        }

        throw new FamfsException(ErrorReason.Overloaded, $"more than {MaxReaders} readers of the inode tree") { Limit = MaxReaders };
    }

    /// <summary>Any thread: gives a slot back; its reader is outside.</summary>
    public void Unregister(ulong* slot)
    {
        lock (_registered)
        {
            if (_disposed)
                return;
            Volatile.Write(ref *slot, 0);
            _registered[(int)(((byte*)slot - _slots) / SlotBytes)] = false;
        }
    }

    /// <summary>Reader: from here on nothing it finds is freed. The exchange is the full fence.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Enter(ulong* slot) => Interlocked.Exchange(ref *slot, Volatile.Read(ref *(ulong*)_slots));

    /// <summary>Reader: it holds nothing any more. A release store: its loads come before it.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Exit(ulong* slot) => Volatile.Write(ref *slot, 0);

    /// <summary>Writer: <paramref name="block"/> is unlinked; free it when no reader can hold it.</summary>
    public void Retire(byte* block, long bytes) => Retire((ulong)block, bytes);

    /// <summary>Writer: the owner index is used by no record any more; recycle it likewise.</summary>
    public void RetireOwner(uint index) => Retire(index, -1);

    /// <summary>Writer: frees everything that can be freed now.</summary>
    public void ReleaseAll()
    {
        Scan();
        while (FreeOldest())
        {
        }
    }

    /// <summary>Writer: one look at the slots, and a bounded number of blocks freed.</summary>
    public void ReleaseSome()
    {
        Scan();
        for (int i = 0; i < FreedPerRetirement && FreeOldest(); i++)
        {
        }
    }

    /// <summary>Frees everything, without asking the readers.</summary>
    public void Dispose()
    {
        lock (_registered)
            _disposed = true;
        _freeBelow = ulong.MaxValue;
        while (FreeOldest())
        {
        }

        if (_head != null)
            _heap.Free((byte*)_head, sizeof(Chunk));
        _head = _tail = null;
        _heap.FreeTable(_slots, SlotTableBytes);
    }

    private void Retire(ulong item, long bytes)
    {
        Chunk* tail = _tail;
        if (tail == null || tail->End == EntriesPerChunk)
        {
            Chunk* chunk = (Chunk*)_heap.Allocate(sizeof(Chunk));
            chunk->Next = null;
            chunk->Start = chunk->End = 0;
            if (tail == null)
                _head = chunk;
            else
                tail->Next = chunk;
            _tail = tail = chunk;
        }

        Entry* entry = (Entry*)tail->Entries + tail->End++;
        entry->Item = item;
        entry->Bytes = bytes;
        entry->Epoch = *(ulong*)_slots;
        _waiting++;
        if (++_sinceScan >= RetirementsPerScan)
            Scan();
        for (int i = 0; i < FreedPerRetirement && FreeOldest(); i++)
        {
        }
    }

    private void Scan()
    {
        _sinceScan = 0;
        ulong safe = *(ulong*)_slots + 1;
        Volatile.Write(ref *(ulong*)_slots, safe);
        Interlocked.MemoryBarrier();
        int highest = Volatile.Read(ref _highestSlot);
        for (int slot = 1; slot <= highest; slot++)
        {
            ulong entered = Volatile.Read(ref *(ulong*)(_slots + (slot * (long)SlotBytes)));
            if (entered != 0 && entered < safe)
                safe = entered;
        }

        // A reader's slot can be older than an earlier scan's result when it loaded the number, paused, and
        // entered late; it then sees everything unlinked before that earlier scan.
        if (safe > _freeBelow)
            _freeBelow = safe;
    }

    private bool FreeOldest()
    {
        Chunk* head = _head;
        if (head == null || head->Start == head->End)
            return false;
        Entry* entry = (Entry*)head->Entries + head->Start;
        if (entry->Epoch >= _freeBelow)
            return false;
        ulong item = entry->Item;
        long bytes = entry->Bytes;
        head->Start++;
        _waiting--;
        if (head->Start == head->End)
        {
            if (head->Next == null)
            {
                head->Start = head->End = 0;
            }
            else
            {
                _head = head->Next;
                _heap.Free((byte*)head, sizeof(Chunk));
            }
        }

        if (bytes < 0)
            _recycleOwner((uint)item);
        else if (bytes > NativeHeap.LargestSlabBlockBytes)
            _heap.FreeTable((byte*)item, bytes);
        else
            _heap.Free((byte*)item, (int)bytes);
        return true;
    }

    private struct Entry
    {
        public ulong Item;
        public long Bytes;
        public ulong Epoch;
    }

    private struct Chunk
    {
        public Chunk* Next;
        public int Start;
        public int End;
        public fixed byte Entries[EntriesPerChunk * 24];
    }
}
