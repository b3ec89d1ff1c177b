using System.Buffers;

namespace Grpc.Net.Client;

/// <summary>Bytes of requests on their way to the handler, in one growing array.</summary>
internal sealed class RequestBuffer(int initialBytes) : IBufferWriter<byte>
{
    private byte[] _array = [];
    private int _length;

    public int Length => _length;

    public ReadOnlyMemory<byte> Written => _array.AsMemory(0, _length);

    /// <summary>Forgets the bytes; an array grown beyond the limit is let go.</summary>
    public void Clear(int keepBytes)
    {
        _length = 0;
        if (_array.Length > keepBytes)
        {
            _array = [];
        }
    }

    /// <summary>Takes back what was written behind the first <paramref name="length"/> bytes.</summary>
    public void Truncate(int length)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan((uint)length, (uint)_length, nameof(length));
        _length = length;
    }

    public void Advance(int count)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(count);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(count, _array.Length - _length);
        _length += count;
    }

    public Memory<byte> GetMemory(int sizeHint = 0)
    {
        Reserve(sizeHint);
        return _array.AsMemory(_length);
    }

    public Span<byte> GetSpan(int sizeHint = 0)
    {
        Reserve(sizeHint);
        return _array.AsSpan(_length);
    }

    // Fails on messages beyond what an array can hold.
    private void Reserve(int sizeHint)
    {
        int needed = checked(_length + Math.Max(sizeHint, 1));
        if (needed > _array.Length)
        {
            long doubled = Math.Min(2L * _array.Length, Array.MaxLength);
            Array.Resize(ref _array, (int)Math.Max(Math.Max(needed, initialBytes), doubled));
        }
    }
}
