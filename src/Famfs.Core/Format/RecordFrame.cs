using System.Buffers.Binary;
using Famfs.V1;

namespace Famfs.Core.Format;

/// <summary>Bits of a frame's flags.</summary>
[Flags]
public enum FrameFlags : ushort
{
    None = 0,

    /// <summary>A reader that does not know the type may go on behind the record.</summary>
    Skippable = 1,

    /// <summary>Part of a snapshot; its sequence counts the snapshot's frames from 0.</summary>
    Snapshot = 2,
}

/// <summary>What a reader finds at a frame's place.</summary>
public enum FrameVerdict
{
    /// <summary>A whole frame with the right checksum.</summary>
    Good,

    /// <summary>The bytes end before the frame does.</summary>
    Torn,

    /// <summary>Length, reserved bytes or checksum are wrong.</summary>
    Corrupt,
}

/// <summary>
/// The frame around a record, the same on the media, on the wire and in an exported log. Frames start at
/// multiples of 8.
/// <code>
///  0  4  length: header and payload, without padding
///  4  2  type (famfs.v1.RecordType)
///  6  2  flags
///  8  8  sequence
/// 16  8  term
/// 24  4  CRC-32C of [0, 24) and [28, length), seeded with (file system, generation, segment id)
/// 28  4  reserved, zero
/// 32     payload: the protobuf message of the type
///        zero padding to a multiple of 8
/// </code>
/// </summary>
public readonly ref struct RecordFrame
{
    /// <summary>Bytes of the header.</summary>
    public const int HeaderBytes = 32;

    /// <summary>Frames start at multiples of this.</summary>
    public const int Alignment = 8;

    /// <summary>Largest payload.</summary>
    public const int MaxPayloadBytes = MediaLayout.MaxRecordBytes - HeaderBytes;

    private RecordFrame(RecordType type, FrameFlags flags, LogSequence sequence, Term term, ReadOnlySpan<byte> payload)
    {
        Type = type;
        Flags = flags;
        Sequence = sequence;
        Term = term;
        Payload = payload;
    }

    public RecordType Type { get; }
    public FrameFlags Flags { get; }
    public LogSequence Sequence { get; }
    public Term Term { get; }
    public ReadOnlySpan<byte> Payload { get; }

    /// <summary>Bytes that the frame takes, padding included.</summary>
    public int PaddedBytes => PaddedLength(HeaderBytes + Payload.Length);

    /// <summary>Bytes of a frame with padding.</summary>
    public static int PaddedLength(int length) => (length + Alignment - 1) & ~(Alignment - 1);

    /// <summary>Completes a frame whose payload is already at <see cref="HeaderBytes"/> of
    /// <paramref name="frame"/>, which has exactly the padded length. Returns nothing, changes the header
    /// and the padding.</summary>
    public static void Seal(Span<byte> frame, int payloadBytes, RecordType type, FrameFlags flags, LogSequence sequence, Term term, uint seed)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(payloadBytes, MaxPayloadBytes);
        int length = HeaderBytes + payloadBytes;
        BinaryPrimitives.WriteUInt32LittleEndian(frame, (uint)length);
        BinaryPrimitives.WriteUInt16LittleEndian(frame[4..], (ushort)type);
        BinaryPrimitives.WriteUInt16LittleEndian(frame[6..], (ushort)flags);
        BinaryPrimitives.WriteUInt64LittleEndian(frame[8..], sequence.Value);
        BinaryPrimitives.WriteUInt64LittleEndian(frame[16..], term.Value);
        BinaryPrimitives.WriteUInt32LittleEndian(frame[28..], 0);
        frame[length..PaddedLength(length)].Clear();
        BinaryPrimitives.WriteUInt32LittleEndian(frame[24..], ComputeCrc(frame[..length], seed));
    }

    /// <summary>Reads the frame at the start of <paramref name="bytes"/>.</summary>
    public static FrameVerdict Parse(ReadOnlySpan<byte> bytes, uint seed, out RecordFrame frame)
    {
        frame = default;
        if (bytes.Length < HeaderBytes)
            return FrameVerdict.Torn;
        uint length = BinaryPrimitives.ReadUInt32LittleEndian(bytes);
        if (length is < HeaderBytes or > MediaLayout.MaxRecordBytes)
            return FrameVerdict.Corrupt;
        int padded = PaddedLength((int)length);
        if (bytes.Length < padded)
            return FrameVerdict.Torn;
        if (BinaryPrimitives.ReadUInt32LittleEndian(bytes[24..]) != ComputeCrc(bytes[..(int)length], seed)
            || BinaryPrimitives.ReadUInt32LittleEndian(bytes[28..]) != 0
            || bytes[(int)length..padded].ContainsAnyExcept((byte)0))
            return FrameVerdict.Corrupt;
        frame = new(
            (RecordType)BinaryPrimitives.ReadUInt16LittleEndian(bytes[4..]),
            (FrameFlags)BinaryPrimitives.ReadUInt16LittleEndian(bytes[6..]),
            new(BinaryPrimitives.ReadUInt64LittleEndian(bytes[8..])),
            new(BinaryPrimitives.ReadUInt64LittleEndian(bytes[16..])),
            bytes[HeaderBytes..(int)length]);
        return FrameVerdict.Good;
    }

    /// <summary>Reads a frame whose checksum has been verified before, in the same buffer.</summary>
    public static RecordFrame ReadVerified(ReadOnlySpan<byte> bytes)
    {
        int length = (int)BinaryPrimitives.ReadUInt32LittleEndian(bytes);
        return new(
            (RecordType)BinaryPrimitives.ReadUInt16LittleEndian(bytes[4..]),
            (FrameFlags)BinaryPrimitives.ReadUInt16LittleEndian(bytes[6..]),
            new(BinaryPrimitives.ReadUInt64LittleEndian(bytes[8..])),
            new(BinaryPrimitives.ReadUInt64LittleEndian(bytes[16..])),
            bytes[HeaderBytes..length]);
    }

    private static uint ComputeCrc(ReadOnlySpan<byte> frame, uint seed) =>
        ~Crc32C.Append(Crc32C.Append(seed, frame[..24]), frame[28..]);
}
