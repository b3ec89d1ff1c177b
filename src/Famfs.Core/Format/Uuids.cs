using System.Diagnostics.CodeAnalysis;
using Google.Protobuf;

namespace Famfs.Core.Format;

/// <summary>Uuids as the records and the wire carry them: 16 raw bytes in text order.</summary>
public static class Uuids
{
    /// <summary>The 16 bytes.</summary>
    public static ByteString ToByteString(this Guid uuid)
    {
        Span<byte> bytes = stackalloc byte[16];
        uuid.TryWriteBytes(bytes, bigEndian: true, out _);
        return ByteString.CopyFrom(bytes);
    }

    /// <summary>Reads 16 bytes; empty is <see cref="Guid.Empty"/>; any other length is false.</summary>
    public static bool TryToGuid(this ByteString? bytes, [NotNullWhen(true)] out Guid uuid)
    {
        uuid = Guid.Empty;
        if (bytes is null || bytes.IsEmpty)
            return true;
        if (bytes.Length != 16)
            return false;
        uuid = new(bytes.Span, bigEndian: true);
        return true;
    }

    /// <summary>Reads 16 bytes, or empty; any other length throws with the field's name.</summary>
    public static Guid ToGuid(this ByteString? bytes, string field) =>
        bytes.TryToGuid(out Guid uuid) ? uuid : throw new FamfsException(V1.ErrorReason.BadRequest, $"{field} has {bytes!.Length} bytes, 16 are needed") { Limit = 16 };
}
