using Famfs.Fuse.Protocol;

namespace Famfs.Fuse.Keeper;

/// <summary>Under which request id a change that the kernel asked for went to the master, remembered beyond the death of the daemon: a
/// request that is sent again is the same change. Any thread. Guard: <c>_gate</c>, held for a call that stores 32 bytes.</summary>
internal sealed class RequestMemory
{
    private readonly KeptState _state;
    private readonly Lock _gate = new(); // guards the block below, and the slots
    private readonly Dictionary<ulong, int> _slots = []; // by unique
    private readonly Stack<int> _free = [];
    private readonly Queue<ulong> _inherited = []; // uniques of former daemons, which may never come again

    /// <summary>Begins with what former daemons have left.</summary>
    public RequestMemory(KeptState state)
    {
        _state = state;
        for (int slot = KeptState.SlotCount - 1; slot >= 0; slot--)
        {
            if (state.ReadSlot(slot).Unique is > 0 and ulong unique && _slots.TryAdd(unique, slot))
                _inherited.Enqueue(unique);
            else
                _free.Push(slot);
        }
    }

    /// <summary>What was remembered of a request that is sent again; false for one that is new, or was never sent to a master.</summary>
    public bool TryFind(ulong unique, out Guid id, out long timeNs)
    {
        (id, timeNs) = (default, 0);
        if ((unique & FuseConstants.FUSE_UNIQUE_RESEND) == 0)
            return false;
        lock (_gate)
        {
            if (!_slots.TryGetValue(unique & ~FuseConstants.FUSE_UNIQUE_RESEND, out int slot))
                return false;
            (_, id, timeNs) = _state.ReadSlot(slot);
            return true;
        }
    }

    /// <summary>Before the change is sent under that id. A request has one at a time.</summary>
    public void Remember(ulong unique, Guid id, long timeNs)
    {
        unique &= ~FuseConstants.FUSE_UNIQUE_RESEND;
        lock (_gate)
        {
            if (!_slots.TryGetValue(unique, out int slot))
            {
                while (!_free.TryPop(out slot))
                {
                    // More slots than requests that may wait: one of a former daemon is there.
                    if (_slots.Remove(_inherited.Dequeue(), out slot))
                        break;
                }
                _slots.Add(unique, slot);
            }
            _state.WriteSlot(slot, unique, id, timeNs);
        }
    }

    /// <summary>The request is answered.</summary>
    public void Forget(ulong unique)
    {
        lock (_gate)
        {
            if (!_slots.Remove(unique & ~FuseConstants.FUSE_UNIQUE_RESEND, out int slot))
                return;
            _state.WriteSlot(slot, 0, default, 0);
            _free.Push(slot);
        }
    }
}
