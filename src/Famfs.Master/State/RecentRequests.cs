using Famfs.Core;
using Famfs.Core.Namespace;
using Famfs.V1;

namespace Famfs.Master.State;

/// <summary>
/// Request ids of the last 15 minutes, at most one million (PROTOCOL): a repeated id finds the first
/// successful result, also after a restart, because the id travels in the record. Owned by the engine's
/// thread.
///
/// <para>A ring of the records, oldest first, and a table of places in it: an id that is new, as nearly all are, costs one
/// look into the table, and one that is forgotten another. The table is twice the ring, is probed in line, and holds
/// seeded hashes beside the places, because callers choose the ids.</para>
/// </summary>
internal sealed class RecentRequests(TimeProvider clock, int capacity = 1_000_000, long firstPosition = 0)
{
    /// <summary>How long an id is remembered.</summary>
    public static readonly TimeSpan Span = TimeSpan.FromMinutes(15);

    /// <summary>How far an id may be ahead of the master's clock. An id that is pushed out refuses every id made before it, so
    /// ids from far ahead would lock everybody out.</summary>
    public static readonly TimeSpan MaxAhead = TimeSpan.FromSeconds(2);

    private const uint InUse = 1u << 31;

    // A trace at position p is at p & (length − 1); what is remembered is [_first, _end).
    private RequestTrace[] _ring = new RequestTrace[1024];
    private long _first = firstPosition;
    private long _end = firstPosition;

    // Hash of the id × 2³² + InUse + low bits of the position; 0 is free.
    private ulong[] _table = new ulong[2048];

    // Ids made at or before this may have been dropped.
    private long _droppedMs;

    /// <summary>Ids remembered.</summary>
    public int Count => (int)(_end - _first);

    /// <summary>Remembers the id of a record.</summary>
    public void Add(in RequestTrace trace)
    {
        if (Contains(trace.RequestId, out RequestTrace _))
            return;
        if (Count == _ring.Length)
            Grow();
        At(_end) = trace;
        Insert(_table, EntryOf(trace.RequestId, _end));
        _end++;
        Trim();
    }

    /// <summary>Finds the record that the id made. Throws INVALID_ARGUMENT (other content, malformed id) or
    /// REQUEST_EXPIRED.</summary>
    public bool TryFind(Guid id, ulong digest, out RequestTrace trace)
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
        long nowMs = clock.GetUtcNow().ToUnixTimeMilliseconds();
        if (madeMs < nowMs - (long)Span.TotalMilliseconds || madeMs <= _droppedMs)
            throw new FamfsException(ErrorReason.RequestExpired, $"request id {id} is older than what the master remembers ({(long)Span.TotalMinutes} minutes)");
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
        long nowMs = clock.GetUtcNow().ToUnixTimeMilliseconds();
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

    private static long TimeOf(Guid id)
    {
        Span<byte> bytes = stackalloc byte[16];
        id.TryWriteBytes(bytes, bigEndian: true, out _);
        return (long)(System.Buffers.Binary.BinaryPrimitives.ReadUInt64BigEndian(bytes) >> 16);
    }

    private void Trim()
    {
        // A caller may be ahead by MaxAhead, and its id lives for Span by its own clock.
        long oldest = clock.GetUtcNow().ToUnixTimeMilliseconds() - (long)(Span + MaxAhead).TotalMilliseconds;
        while (_first < _end && (At(_first).TimeNs / 1_000_000 < oldest || Count > capacity))
        {
            // Also what was dropped for its age: the clock may go back to before that.
            Guid id = At(_first).RequestId;
            _droppedMs = Math.Max(_droppedMs, TimeOf(id));
            Remove(EntryOf(id, _first));
            _first++;
        }
    }

    private ref RequestTrace At(long position) => ref _ring[position & (_ring.Length - 1)];

    // With the process's random seed.
    private static uint HashOf(Guid id)
    {
        UInt128 bits = System.Runtime.CompilerServices.Unsafe.BitCast<Guid, UInt128>(id);
        return (uint)HashCode.Combine((ulong)bits, (ulong)(bits >> 64));
    }

    private static ulong EntryOf(Guid id, long position) => ((ulong)HashOf(id) << 32) | InUse | (uint)position;

    private bool Contains(Guid id, out RequestTrace trace)
    {
        uint hash = HashOf(id);
        int mask = _table.Length - 1;
        for (int i = (int)(hash & (uint)mask); _table[i] is var entry and not 0; i = (i + 1) & mask)
        {
            if ((uint)(entry >> 32) == hash && At((uint)entry & ~InUse) is var found && found.RequestId == id)
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
        RequestTrace[] ring = new RequestTrace[_ring.Length * 2];
        for (long position = _first; position < _end; position++)
            ring[position & (ring.Length - 1)] = At(position);
        ulong[] table = new ulong[_table.Length * 2];
        foreach (ulong entry in _table)
        {
            if (entry != 0)
                Insert(table, entry);
        }
        (_ring, _table) = (ring, table);
    }
}
