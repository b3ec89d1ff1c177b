namespace Famfs.Core.Log;

/// <summary>The part of a writer whose log grows by segments, which it reserves by records of its own.</summary>
public interface ISegmentedLog
{
    /// <summary>Segments of the generation.</summary>
    int SegmentCount { get; }

    /// <summary>Bytes of frames that still fit in the segment being written.</summary>
    long RemainingBytes { get; }

    /// <summary>Bytes of frames that the segment being written can hold in all.</summary>
    long SegmentCapacityBytes { get; }

    /// <summary>Space that earlier terms reserved and left empty, when the term began: the place for the next segment. Null:
    /// there is none worth it.</summary>
    SegmentSpace? Spare { get; }

    /// <summary>Goes on in a reserved extent, which a published and checked record gave to this term (SAFETY S7).</summary>
    void Advance(SegmentSpace extent);
}

/// <summary>Space for a segment: a range of one device, bytes.</summary>
public readonly record struct SegmentSpace(DeviceIndex Device, long Offset, long LengthBytes);
