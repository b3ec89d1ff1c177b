using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using Famfs.Core;
using Famfs.Core.Namespace;
using Famfs.V1;

namespace Famfs.Master.State;

/// <summary>
/// Request ids of the last 15 minutes, at most one million (PROTOCOL): a repeated id finds the first
/// successful result, also after a restart, because the id travels in the record. Owned by the engine's
/// thread.
///
/// <para>Callers have shares, and each of their ids is in one. When there is room for no more ids, the largest share loses its
/// oldest: whoever asks for much pushes out his own. Ids that the log had at the start are a share, too. An id that is not
/// known is new unless its share, or that of the log, has dropped one as young.</para>
///
/// <para>A slab of records, each with the place of the next of its share, and a table of places: an id that is new, as nearly
/// all are, costs one look into the table, and one that is forgotten another. The table is twice the slab, is probed in line,
/// and holds seeded hashes beside the places, because callers choose the ids. Callers share a fixed number of shares by a
/// seeded hash, so that what is kept does not grow with them.</para>
/// </summary>
internal sealed class RecentRequests(TimeProvider clock, int capacity = 1_000_000)
{
    /// <summary>How long an id is remembered.</summary>
    public static readonly TimeSpan Span = TimeSpan.FromMinutes(15);

    /// <summary>How far an id may be ahead of the master's clock. A caller that pushes out its own ids refuses itself every id
    /// made before those.</summary>
    public static readonly TimeSpan MaxAhead = TimeSpan.FromSeconds(2);

    /// <summary>The share of what the log had at the start, and of the master itself.</summary>
    public const int LogShare = 0;

    /// <summary>Shares (chosen: two callers meet in one rarely, and the largest is found in a microsecond).</summary>
    public const int ShareCount = 1024;

    private const uint InUse = 1u << 31;
    private const int None = -1;

    /// <summary>Ids that the largest share loses before the largest is looked for again (chosen).</summary>
    private const int DroppedAtOnce = 256;

    // Place p: a record, and the next younger one of its share, or the next free place.
    private RequestTrace[] _slab = new RequestTrace[1024];
    private int[] _next = new int[1024];
    private int _used;
    private int _free = None;
    private int _count;

    // Hash of the id × 2³² + InUse + place; 0 is free.
    private ulong[] _table = new ulong[2048];

    private readonly Share[] _shares = NewShares();

    // Share that loses ids, and how many more until it is looked for again.
    private int _largest;
    private int _largestLeft;

    // Share that is looked at for ids that are too old.
    private int _hand;

    /// <summary>Everything that is remembered of the log, the oldest first. It holds until the next is remembered.</summary>
    public RememberedRequests Remembered => new(List(), _shares[LogShare].DroppedMs);

    /// <summary>Ids remembered.</summary>
    public int Count => _count;

    /// <summary>The share of a caller. The process's random seed is in it.</summary>
    public static int ShareOf(string caller) => 1 + (int)((uint)HashCode.Combine(caller) % (ShareCount - 1));

    /// <summary>Remembers the id of a record that somebody with this share has made.</summary>
    public void Add(in RequestTrace trace, int share = LogShare)
    {
        if (Contains(trace.RequestId, out RequestTrace _))
            return;
        if (_count == capacity)
            DropOfLargest();
        int place = TakePlace();
        _slab[place] = trace;
        _next[place] = None;
        ref Share own = ref _shares[share];
        if (own.Count == 0)
            own.First = place;
        else
            _next[own.Last] = place;
        own.Last = place;
        own.Count++;
        Insert(_table, EntryOf(trace.RequestId, place));
        _count++;
        DropOld(share);
        // The shares of callers that are silent now.
        _hand = (_hand + 1) % ShareCount;
        DropOld(_hand);
    }

    /// <summary>What the log had of ids made up to this time, ms since 1970, was forgotten before this master began.</summary>
    public void DroppedUpTo(long madeMs) => _shares[LogShare].DroppedMs = Math.Max(_shares[LogShare].DroppedMs, madeMs);

    /// <summary>Finds the record that the id made, whoever asked for it. Throws INVALID_ARGUMENT (other content, malformed id) or
    /// REQUEST_EXPIRED.</summary>
    public bool TryFind(Guid id, ulong digest, out RequestTrace trace, int share = LogShare)
    {
        trace = default;
        if (id == Guid.Empty)
            return false;
        if (Contains(id, out trace))
        {
            return trace.Digest == digest
                ? true
                : throw new FamfsException(ErrorReason.BadRequest, $"request id {id} was used before with other content");
        }
        RequireTimely(id);
        long madeMs = TimeOf(id);
        if (madeMs < NowMs - (long)Span.TotalMilliseconds)
            throw new FamfsException(ErrorReason.RequestExpired, $"request id {id} is older than what the master remembers ({(long)Span.TotalMinutes} minutes)");
        if (madeMs <= Math.Max(_shares[share].DroppedMs, _shares[LogShare].DroppedMs))
            throw new FamfsException(ErrorReason.RequestExpired, $"request id {id} is older than what the master remembers of its caller ({capacity} ids in all)");
        return false;
    }

    /// <summary>Throws INVALID_ARGUMENT for an id that is not of version 7 or from too far ahead; then the error has the master's
    /// time, by which a caller can make another. An empty one passes.</summary>
    public void RequireTimely(Guid id)
    {
        if (id == Guid.Empty)
            return;
        if (id.Version != 7)
            throw new FamfsException(ErrorReason.BadRequest, $"request id {id} is not a version 7 uuid");
        long nowMs = NowMs;
        long aheadMs = TimeOf(id) - nowMs;
        if (aheadMs > (long)MaxAhead.TotalMilliseconds)
        {
            throw new FamfsException(ErrorReason.BadRequest, $"request id {id} is from {aheadMs} ms ahead of the master's clock, the limit is {(long)MaxAhead.TotalMilliseconds} ms")
            {
                Limit = (ulong)MaxAhead.TotalMilliseconds,
                MasterTimeMs = (ulong)nowMs,
            };
        }
    }

    private IEnumerable<RequestTrace> List()
    {
        int place = _shares[LogShare].Count == 0 ? None : _shares[LogShare].First;
        for (; place != None; place = _next[place])
            yield return _slab[place];
    }

    private long NowMs => clock.GetUtcNow().ToUnixTimeMilliseconds();

    private static long TimeOf(Guid id)
    {
        Span<byte> bytes = stackalloc byte[16];
        id.TryWriteBytes(bytes, bigEndian: true, out _);
        return (long)(BinaryPrimitives.ReadUInt64BigEndian(bytes) >> 16);
    }

    private static Share[] NewShares()
    {
        Share[] shares = new Share[ShareCount];
        // Nothing was dropped: the earliest id there can be is new.
        Array.Fill(shares, new Share { DroppedMs = -1 });
        return shares;
    }

    // A caller may be ahead by MaxAhead, and its id lives for Span by its own clock.
    private void DropOld(int share)
    {
        long oldest = NowMs - (long)(Span + MaxAhead).TotalMilliseconds;
        ref Share own = ref _shares[share];
        // Also what is dropped for its age counts as dropped: the clock may go back to before that.
        while (own.Count > 0 && _slab[own.First].TimeNs / 1_000_000 < oldest)
            DropFirst(ref own);
    }

    private void DropOfLargest()
    {
        if (_largestLeft == 0 || _shares[_largest].Count == 0)
        {
            for (int share = 0; share < ShareCount; share++)
            {
                if (_shares[share].Count > _shares[_largest].Count)
                    _largest = share;
            }
            // Not so many that another would be the largest long before.
            _largestLeft = Math.Clamp(_shares[_largest].Count / 16, 1, DroppedAtOnce);
        }
        _largestLeft--;
        DropFirst(ref _shares[_largest]);
    }

    private void DropFirst(ref Share share)
    {
        int place = share.First;
        Guid id = _slab[place].RequestId;
        share.DroppedMs = Math.Max(share.DroppedMs, TimeOf(id));
        Remove(EntryOf(id, place));
        share.First = _next[place];
        share.Count--;
        _next[place] = _free;
        _free = place;
        _count--;
    }

    private int TakePlace()
    {
        if (_free != None)
        {
            int place = _free;
            _free = _next[place];
            return place;
        }
        if (_used == _slab.Length)
            Grow();
        return _used++;
    }

    // With the process's random seed.
    private static uint HashOf(Guid id)
    {
        UInt128 bits = Unsafe.BitCast<Guid, UInt128>(id);
        return (uint)HashCode.Combine((ulong)bits, (ulong)(bits >> 64));
    }

    private static ulong EntryOf(Guid id, int place) => ((ulong)HashOf(id) << 32) | InUse | (uint)place;

    private bool Contains(Guid id, out RequestTrace trace)
    {
        uint hash = HashOf(id);
        int mask = _table.Length - 1;
        for (int i = (int)(hash & (uint)mask); _table[i] is var entry and not 0; i = (i + 1) & mask)
        {
            if ((uint)(entry >> 32) == hash && _slab[(int)((uint)entry & ~InUse)] is var found && found.RequestId == id)
            {
                trace = found;
                return true;
            }
        }
        trace = default;
        return false;
    }

    private static void Insert(ulong[] table, ulong entry)
    {
        int mask = table.Length - 1;
        int i = (int)(entry >> 32) & mask;
        while (table[i] != 0)
            i = (i + 1) & mask;
        table[i] = entry;
    }

    // What was put further along because this place was taken moves up, so that no gap ends a search early.
    private void Remove(ulong entry)
    {
        int mask = _table.Length - 1;
        int gap = (int)(entry >> 32) & mask;
        while (_table[gap] != entry)
            gap = (gap + 1) & mask;
        for (int i = (gap + 1) & mask; _table[i] is var next and not 0; i = (i + 1) & mask)
        {
            int home = (int)(next >> 32) & mask;
            if (((i - home) & mask) >= ((i - gap) & mask))
            {
                _table[gap] = next;
                gap = i;
            }
        }
        _table[gap] = 0;
    }

    private void Grow()
    {
        Array.Resize(ref _slab, _slab.Length * 2);
        Array.Resize(ref _next, _next.Length * 2);
        ulong[] table = new ulong[_table.Length * 2];
        foreach (ulong entry in _table)
        {
            if (entry != 0)
                Insert(table, entry);
        }
        _table = table;
    }

    private struct Share
    {
        // Oldest and youngest; of no meaning in an empty share.
        public int First;
        public int Last;
        public int Count;

        // Ids made at or before this may have been dropped from here.
        public long DroppedMs;
    }
}
