using System.Buffers;
using System.Diagnostics.CodeAnalysis;
using Grpc.Core;
using Grpc.Wire;

namespace Grpc.Net.Client;

/// <summary>
/// Bytes of a response not yet taken as messages, in one array from the shared pool. One read of the stream fills it
/// with whatever has arrived, often many messages.
/// </summary>
internal sealed class ResponseBuffer(int initialBytes, int? maxMessageBytes)
{
    // Chosen: large enough that a full buffer means the peer is far ahead, small enough for one subscriber to keep.
    private const int GrowLimitBytes = 256 * 1024;

    private readonly SequenceDeserializationContext _context = new();
    private byte[] _array = ArrayPool<byte>.Shared.Rent(initialBytes);
    private int _start;
    private int _end;
    private bool _filled;

    /// <summary>Takes the next whole message, if there is one.</summary>
    public bool TryTake<T>(Marshaller<T> marshaller, [NotNullWhen(true)] out T? message)
        where T : class
    {
        message = null;
        int available = _end - _start;
        if (available < MessageReader.HeaderLengthBytes)
        {
            return false;
        }

        int length = MessageReader.ReadLength(_array.AsSpan(_start, MessageReader.HeaderLengthBytes), maxMessageBytes);
        if (available - MessageReader.HeaderLengthBytes < length)
        {
            return false;
        }

        ReadOnlySequence<byte> payload = new(_array, _start + MessageReader.HeaderLengthBytes, length);
        _start += MessageReader.HeaderLengthBytes + length;
        message = _context.Deserialize(marshaller, payload);
        return true;
    }

    /// <summary>Adds what the stream has; false at its end.</summary>
    public async ValueTask<bool> ReadAsync(Stream body, CancellationToken cancellationToken)
    {
        MakeRoom();
        int read = await body.ReadAsync(_array.AsMemory(_end), cancellationToken).ConfigureAwait(false);
        _end += read;
        _filled = _end == _array.Length;
        return read != 0;
    }

    /// <summary>At the end of the stream nothing may be left.</summary>
    public void RequireEmpty()
    {
        if (_start != _end)
        {
            throw MessageReader.Truncated();
        }
    }

    /// <summary>Gives the array back; the buffer is empty and unusable afterwards.</summary>
    public void Release()
    {
        byte[] array = _array;
        _array = [];
        _start = _end = 0;
        if (array.Length != 0)
        {
            ArrayPool<byte>.Shared.Return(array);
        }
    }

    // A message that does not fit decides the size; else an array that filled up doubles.
    private void MakeRoom()
    {
        int left = _end - _start;
        long needed = left + 1;
        if (left >= MessageReader.HeaderLengthBytes)
        {
            // TryTake has checked this prefix.
            needed = MessageReader.HeaderLengthBytes + (long)MessageReader.ReadLength(_array.AsSpan(_start, MessageReader.HeaderLengthBytes), maxMessageBytes);
        }

        long wanted = _filled && _array.Length < GrowLimitBytes ? _array.Length * 2L : _array.Length;
        if (needed > wanted)
        {
            // A liar may announce a long message and send none of it: grow as bytes arrive.
            wanted = Math.Min(needed, Math.Max(wanted, 2L * Math.Max(left, initialBytes)));
        }

        if (wanted > _array.Length)
        {
            byte[] larger = ArrayPool<byte>.Shared.Rent((int)Math.Min(wanted, Array.MaxLength));
            _array.AsSpan(_start, left).CopyTo(larger);
            ArrayPool<byte>.Shared.Return(_array);
            _array = larger;
        }
        else if (_start != 0 && left != 0)
        {
            _array.AsSpan(_start, left).CopyTo(_array);
        }

        _start = 0;
        _end = left;
    }
}
