using Famfs.Core.Format;
using Famfs.V1;
using Google.Protobuf;

namespace Famfs.Core.Log;

/// <summary>Frames that will be published together. Owned by the thread of its writer; reused.</summary>
/// <param name="capacityBytes">Most bytes of all frames together.</param>
public sealed class RecordBatch(int capacityBytes = MediaLayout.MaxBatchBytes)
{
    private readonly byte[] _buffer = new byte[capacityBytes];
    private uint _seed;
    private Term _term;
    private LogSequence _before;

    /// <summary>Frames so far.</summary>
    public ReadOnlySpan<byte> Frames => _buffer.AsSpan(0, LengthBytes);

    /// <summary>Frames so far, as memory that is valid until the next <see cref="Start"/>.</summary>
    public ReadOnlyMemory<byte> Memory => _buffer.AsMemory(0, LengthBytes);

    /// <summary>Bytes of the frames so far.</summary>
    public int LengthBytes { get; private set; }

    /// <summary>Number of frames.</summary>
    public int Count { get; private set; }

    /// <summary>Sequence of the last frame, or of the record before the batch.</summary>
    public LogSequence Last { get; private set; }

    /// <summary>Empties the batch for records that follow <paramref name="last"/>.</summary>
    public void Start(LogSequence last, Term term, uint seed)
    {
        Last = last;
        _before = last;
        _term = term;
        _seed = seed;
        LengthBytes = 0;
        Count = 0;
    }

    /// <summary>True when the frames were made to stand behind <paramref name="last"/> in that segment.</summary>
    public bool Continues(LogSequence last, Term term, uint seed) => _before == last && _term == term && _seed == seed;

    /// <summary>Room for a payload of at most <paramref name="maxBytes"/>; follow with <see cref="Commit"/>.</summary>
    public Span<byte> Reserve(int maxBytes)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(maxBytes, RecordFrame.MaxPayloadBytes);
        return _buffer.AsSpan(LengthBytes + RecordFrame.HeaderBytes, maxBytes);
    }

    /// <summary>Ends a record whose payload is in the reserved room; gives its whole frame.</summary>
    public ReadOnlySpan<byte> Commit(int payloadBytes, RecordType type, FrameFlags flags = FrameFlags.None)
    {
        int padded = RecordFrame.PaddedLength(RecordFrame.HeaderBytes + payloadBytes);
        Last = Last.Next;
        Span<byte> frame = _buffer.AsSpan(LengthBytes, padded);
        RecordFrame.Seal(frame, payloadBytes, type, flags, Last, _term, _seed);
        LengthBytes += padded;
        Count++;
        return frame;
    }

    /// <summary>Adds a record; gives its whole frame.</summary>
    public ReadOnlySpan<byte> Add(RecordType type, IMessage payload, FrameFlags flags = FrameFlags.None)
    {
        int size = payload.CalculateSize();
        if (size > RecordFrame.MaxPayloadBytes)
            throw new FamfsException(ErrorReason.BadRequest, $"a {type} record would take {size} bytes, the limit is {RecordFrame.MaxPayloadBytes}") { Limit = RecordFrame.MaxPayloadBytes };
        payload.WriteTo(Reserve(size));
        return Commit(size, type, flags);
    }

    /// <summary>Bytes that a record of this payload size takes in the batch.</summary>
    public static int FrameBytes(int payloadBytes) => RecordFrame.PaddedLength(RecordFrame.HeaderBytes + payloadBytes);
}
