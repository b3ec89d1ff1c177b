using Famfs.Core;

namespace Famfs.Fuse.Operations;

/// <summary>
/// For each open directory, the child at which its last listing stopped: with it the tree goes on from there
/// at once. Only a hint: a handle that is unknown (of a former daemon) lists all the same.
/// <code>
///  63         32 31          0
///  +------------+------------+
///  | generation | slot + 1   |      0: a handle without memory
///  +------------+------------+
/// </code>
/// </summary>
/// <param name="generation">Of the daemon, so that no handle of another is taken for one of its own.</param>
public sealed class DirectoryHandles(uint generation = 0)
{
    private readonly ulong _generation = (ulong)generation << 32;

    // Chosen; beyond it directories are opened without a hint.
    private const int MaxHandles = 1 << 20;
    private readonly Lock _gate = new(); // guards everything below; held for a few instructions
    private Slot[] _slots = new Slot[64];
    private int _used;
    private int _free = EndOfList;

    private const int InUse = -1;
    private const int EndOfList = -2;

    private struct Slot
    {
        public ulong Offset;
        public InodeNumber Child;
        public int NextFree; // InUse, EndOfList, or an index
    }

    /// <summary>A new handle; 0 is one without memory.</summary>
    public ulong Open()
    {
        lock (_gate)
        {
            int index = _free;
            if (index >= 0)
            {
                _free = _slots[index].NextFree;
            }
            else
            {
                if (_used == MaxHandles)
                    return 0;
                if (_used == _slots.Length)
                    Array.Resize(ref _slots, _used * 2);
                index = _used++;
            }
            _slots[index] = new Slot { NextFree = InUse };
            return _generation | ((ulong)index + 1);
        }
    }

    /// <summary>Forgets a handle.</summary>
    public void Close(ulong handle)
    {
        lock (_gate)
        {
            if (!TryFind(handle, out int slot))
                return;
            _slots[slot].NextFree = _free;
            _free = slot;
        }
    }

    /// <summary>The child after which <paramref name="offset"/> goes on, if that is where the last listing stopped.</summary>
    public InodeNumber Hint(ulong handle, ulong offset)
    {
        lock (_gate)
            return TryFind(handle, out int slot) && _slots[slot].Offset == offset ? _slots[slot].Child : default;
    }

    /// <summary>Remembers where a listing stopped.</summary>
    public void Remember(ulong handle, ulong offset, InodeNumber child)
    {
        lock (_gate)
        {
            if (!TryFind(handle, out int slot))
                return;
            _slots[slot].Offset = offset;
            _slots[slot].Child = child;
        }
    }

    // Under _gate.
    private bool TryFind(ulong handle, out int slot)
    {
        ulong number = handle - _generation;
        slot = (int)number - 1;
        return number != 0 && number <= (ulong)_used && _slots[slot].NextFree == InUse;
    }
}
