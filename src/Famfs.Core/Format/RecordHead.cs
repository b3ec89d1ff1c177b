namespace Famfs.Core.Format;

/// <summary>The fields that every record begins with, read without decoding the rest.</summary>
public static class RecordHead
{
    // Tags of field 1, sfixed64, and of field 2, bytes; both are left out where they have nothing (log.proto).
    private const byte TimeTag = (1 << 3) | 1;
    private const byte RequestIdTag = (2 << 3) | 2;
    private const int RequestIdBytes = 16;

    /// <summary>The request id of a payload as this program's writers and the protobuf library lay it out; empty: there is none, or it
    /// lies elsewhere.</summary>
    public static ReadOnlySpan<byte> RequestIdOf(ReadOnlySpan<byte> payload)
    {
        if (payload is [TimeTag, ..] && payload.Length >= 1 + sizeof(long))
            payload = payload[(1 + sizeof(long))..];
        return payload is [RequestIdTag, RequestIdBytes, ..] && payload.Length >= 2 + RequestIdBytes ? payload.Slice(2, RequestIdBytes) : default;
    }
}
