using Famfs.Core;
using Famfs.Core.Namespace;
using Famfs.V1;

namespace Famfs.Master;

/// <summary>
/// Request ids of the last 15 minutes, at most one million (PROTOCOL): a repeated id finds the first
/// successful result, also after a restart, because the id travels in the record. Owned by the engine's
/// thread.
/// </summary>
internal sealed class RequestWindow(TimeProvider clock, int capacity = 1_000_000)
{
    /// <summary>How long an id is remembered.</summary>
    public static readonly TimeSpan Span = TimeSpan.FromMinutes(15);

    /// <summary>How far a caller's clock may be ahead: an id from further ahead would outlive its memory.</summary>
    public static readonly TimeSpan MaxAhead = TimeSpan.FromMinutes(5);

    private readonly Dictionary<Guid, RequestTrace> _traces = [];
    private readonly Queue<(Guid Id, long TimeMs)> _order = new();

    // Ids made at or before this may have been dropped.
    private long _droppedMs;

    /// <summary>Ids remembered.</summary>
    public int Count => _traces.Count;

    /// <summary>Remembers the id of a record.</summary>
    public void Add(in RequestTrace trace)
    {
        if (!_traces.TryAdd(trace.RequestId, trace))
            return;
        _order.Enqueue((trace.RequestId, trace.TimeNs / 1_000_000));
        Trim();
    }

    /// <summary>Finds the record that the id made. Throws INVALID_ARGUMENT (other content, malformed id) or
    /// REQUEST_EXPIRED.</summary>
    public bool TryFind(Guid id, ulong digest, out RequestTrace trace)
    {
        trace = default;
        if (id == Guid.Empty)
            return false;
        if (_traces.TryGetValue(id, out trace))
        {
            return trace.Digest == digest
                ? true
                : throw new FamfsException(ErrorReason.BadRequest, $"request id {id} was used before with other content");
        }
        if (id.Version != 7)
            throw new FamfsException(ErrorReason.BadRequest, $"request id {id} is not a version 7 uuid");
        long madeMs = TimeOf(id);
        long nowMs = clock.GetUtcNow().ToUnixTimeMilliseconds();
        if (madeMs > nowMs + (long)MaxAhead.TotalMilliseconds)
            throw new FamfsException(ErrorReason.BadRequest, $"request id {id} is from {madeMs - nowMs} ms ahead of the master's clock, the limit is {(long)MaxAhead.TotalMilliseconds} ms") { Limit = (ulong)MaxAhead.TotalMilliseconds };
        if (madeMs < nowMs - (long)Span.TotalMilliseconds || madeMs <= _droppedMs)
            throw new FamfsException(ErrorReason.RequestExpired, $"request id {id} is older than what the master remembers ({(long)Span.TotalMinutes} minutes)");
        return false;
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
        while (_order.TryPeek(out (Guid Id, long TimeMs) first) && (first.TimeMs < oldest || _traces.Count > capacity))
        {
            // Also what was dropped for its age: the clock may go back to before that.
            _droppedMs = Math.Max(_droppedMs, TimeOf(first.Id));
            _order.Dequeue();
            _traces.Remove(first.Id);
        }
    }
}
