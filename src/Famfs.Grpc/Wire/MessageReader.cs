using System.Buffers;
using System.Buffers.Binary;
using Google.Protobuf;
using Grpc.Core;

namespace Grpc.Wire;

/// <summary>
/// Cuts length-prefixed messages out of a byte sequence.
/// <code>
///  0       1               5                 5+length
///  +-------+---------------+-----------------+
///  | flag  | length (BE)   | message         |
///  +-------+---------------+-----------------+
/// </code>
/// flag 1 says compressed, which nothing here ever negotiates.
/// </summary>
internal static class MessageReader
{
    public const int HeaderLengthBytes = 5;

    /// <summary>
    /// Takes the first whole message off the buffer; false if more bytes are needed.
    /// </summary>
    /// <param name="buffer">Unread bytes; shortened by what is taken.</param>
    /// <param name="maxLengthBytes">Largest message accepted; null for no limit.</param>
    /// <param name="message">The message without its prefix.</param>
    /// <exception cref="RpcException">INTERNAL for a broken prefix or a compressed message, RESOURCE_EXHAUSTED for a too long one.</exception>
    public static bool TryRead(ref ReadOnlySequence<byte> buffer, int? maxLengthBytes, out ReadOnlySequence<byte> message)
    {
        message = default;
        if (buffer.Length < HeaderLengthBytes)
        {
            return false;
        }

        ReadOnlySpan<byte> first = buffer.FirstSpan;
        if (first.Length < HeaderLengthBytes)
        {
            Span<byte> header = stackalloc byte[HeaderLengthBytes];
            buffer.Slice(0, HeaderLengthBytes).CopyTo(header);
            return TryTake(ref buffer, ReadLength(header, maxLengthBytes), out message);
        }

        return TryTake(ref buffer, ReadLength(first, maxLengthBytes), out message);
    }

    /// <summary>Length of the message a prefix announces, checked.</summary>
    public static int ReadLength(ReadOnlySpan<byte> header, int? maxLengthBytes)
    {
        if (header[0] != 0)
        {
            throw new RpcException(new Status(
                StatusCode.Internal,
                header[0] == 1 ? "A message is marked as compressed, but no compression is in use." : "A message has an unknown flag in its prefix."));
        }

        uint length = BinaryPrimitives.ReadUInt32BigEndian(header[1..]);
        if (length > (maxLengthBytes is { } max ? (uint)max : int.MaxValue))
        {
            throw new RpcException(new Status(
                StatusCode.ResourceExhausted,
                $"A received message of {length} bytes exceeds the limit of {maxLengthBytes ?? int.MaxValue} bytes."));
        }

        return (int)length;
    }

    public static RpcException Truncated() =>
        new(new Status(StatusCode.Internal, "The stream ended inside a message."));

    private static bool TryTake(ref ReadOnlySequence<byte> buffer, int length, out ReadOnlySequence<byte> message)
    {
        if (buffer.Length < HeaderLengthBytes + (long)length)
        {
            message = default;
            return false;
        }

        message = buffer.Slice(HeaderLengthBytes, length);
        buffer = buffer.Slice(message.End);
        return true;
    }
}

/// <summary>One message for a deserializer; reused for every message of a call.</summary>
internal sealed class SequenceDeserializationContext : DeserializationContext
{
    private ReadOnlySequence<byte> _payload;

    public override int PayloadLength => (int)_payload.Length;

    /// <summary>Parses one message.</summary>
    /// <exception cref="RpcException">INTERNAL if the bytes are not one.</exception>
    public T Deserialize<T>(Marshaller<T> marshaller, in ReadOnlySequence<byte> payload)
    {
        _payload = payload;
        try
        {
            return marshaller.ContextualDeserializer(this);
        }
        catch (InvalidProtocolBufferException e)
        {
            throw new RpcException(new Status(StatusCode.Internal, $"A received message of {payload.Length} bytes cannot be parsed.", e));
        }
    }

    public override byte[] PayloadAsNewBuffer() => _payload.ToArray();

    public override ReadOnlySequence<byte> PayloadAsReadOnlySequence() => _payload;
}
