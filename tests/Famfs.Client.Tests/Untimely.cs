using System.Buffers.Binary;
using Famfs.V1;
using Google.Protobuf;

namespace Famfs.Client.Tests;

/// <summary>A master whose clock is an hour behind.</summary>
internal static class Untimely
{
    /// <summary>What it answers to an id; null: the id is of its time.</summary>
    public static ErrorDetail? Of(ByteString id)
    {
        long madeMs = (long)(BinaryPrimitives.ReadUInt64BigEndian(id.Span) >> 16);
        long nowMs = DateTimeOffset.UtcNow.AddHours(-1).ToUnixTimeMilliseconds();
        return madeMs <= nowMs + 2000 ? null : new() { Reason = ErrorReason.BadRequest, Message = "ahead", MasterTimeMs = (ulong)nowMs };
    }
}
