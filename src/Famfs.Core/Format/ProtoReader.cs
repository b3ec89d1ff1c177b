using System.Buffers.Binary;
using System.Runtime.CompilerServices;

namespace Famfs.Core.Format;

/// <summary>Reads the protobuf wire format from a span. Every method returns false, and never reads past the
/// end, when the bytes are not what it expects.</summary>
internal ref struct ProtoReader(ReadOnlySpan<byte> bytes)
{
    public const uint Varint = 0;
    public const uint Fixed64 = 1;
    public const uint Delimited = 2;
    public const uint StartGroup = 3;
    public const uint EndGroup = 4;
    public const uint Fixed32 = 5;

    // Depth of groups inside an unknown field; the generated code's limit.
    private const int MaxGroupDepth = 100;

    private ReadOnlySpan<byte> _rest = bytes;

    public readonly bool AtEnd => _rest.IsEmpty;

    /// <summary>Bytes that are not read yet.</summary>
    public readonly int RestBytes => _rest.Length;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool TryReadVarint(out ulong value)
    {
        if (!_rest.IsEmpty && _rest[0] < 0x80)
        {
            value = _rest[0];
            _rest = _rest[1..];
            return true;
        }

        return TryReadLongVarint(out value);
    }

    /// <summary>Field number and wire type; false for field number 0 too. Bits above 32 are ignored, as in the
    /// generated code.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool TryReadTag(out uint tag)
    {
        bool read = TryReadVarint(out ulong value);
        tag = (uint)value;
        return read && tag >= 8;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool TryReadFixed64(out ulong value)
    {
        if (!BinaryPrimitives.TryReadUInt64LittleEndian(_rest, out value))
            return false;
        _rest = _rest[sizeof(ulong)..];
        return true;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool TryReadBytes(out ReadOnlySpan<byte> value)
    {
        if (!TryReadVarint(out ulong length) || (uint)length > (uint)_rest.Length)
        {
            value = default;
            return false;
        }

        value = _rest[..(int)(uint)length];
        _rest = _rest[(int)(uint)length..];
        return true;
    }

    /// <summary>Skips the value of an unknown field.</summary>
    public bool TrySkip(uint tag)
    {
        // Groups nest; their field numbers must match, so they are kept.
        Span<uint> groups = stackalloc uint[MaxGroupDepth];
        int depth = 0;
        while (true)
        {
            switch (tag & 7)
            {
                case Varint:
                    if (!TryReadVarint(out _))
                        return false;
                    break;
                case Fixed64:
                    if (!TryReadFixed64(out _))
                        return false;
                    break;
                case Delimited:
                    if (!TryReadBytes(out _))
                        return false;
                    break;
                case Fixed32:
                    if (_rest.Length < sizeof(uint))
                        return false;
                    _rest = _rest[sizeof(uint)..];
                    break;
                case StartGroup:
                    if (depth == MaxGroupDepth)
                        return false;
                    groups[depth++] = tag >> 3;
                    break;
                case EndGroup:
                    if (depth == 0 || groups[--depth] != tag >> 3)
                        return false;
                    break;
                default:
                    return false;
            }

            if (depth == 0)
                return true;
            if (!TryReadTag(out tag))
                return false;
        }
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private bool TryReadLongVarint(out ulong value)
    {
        value = 0;
        int count = Math.Min(_rest.Length, 10);
        for (int i = 0; i < count; i++)
        {
            ulong part = _rest[i];
            value |= (part & 0x7F) << (7 * i);
            if (part < 0x80)
            {
                _rest = _rest[(i + 1)..];
                return true;
            }
        }

        return false;
    }
}

/// <summary>Writes the protobuf wire format into a span that is long enough.</summary>
internal ref struct ProtoWriter(Span<byte> target)
{
    private readonly Span<byte> _target = target;

    public int Written { get; private set; }

    public static int VarintBytes(ulong value) => (70 - System.Numerics.BitOperations.LeadingZeroCount(value | 1)) / 7;

    /// <summary>Bytes of a varint field with a one-byte tag, 0 for the default.</summary>
    public static int VarintFieldBytes(ulong value) => value == 0 ? 0 : 1 + VarintBytes(value);

    /// <summary>Bytes of an 8-byte field with a one-byte tag, 0 for the default.</summary>
    public static int Fixed64FieldBytes(ulong value) => value == 0 ? 0 : 9;

    /// <summary>Bytes of a length-delimited field with a one-byte tag.</summary>
    public static int DelimitedFieldBytes(int length) => 1 + VarintBytes((uint)length) + length;

    /// <summary>Bytes of a bytes field with a one-byte tag, 0 for the default.</summary>
    public static int BytesFieldBytes(int length) => length == 0 ? 0 : DelimitedFieldBytes(length);

    public void VarintField(uint number, ulong value)
    {
        if (value == 0)
            return;
        Varint((number << 3) | ProtoReader.Varint);
        Varint(value);
    }

    public void Fixed64Field(uint number, ulong value)
    {
        if (value != 0)
            OptionalFixed64Field(number, value);
    }

    /// <summary>A field whose presence says something.</summary>
    public void OptionalFixed64Field(uint number, ulong value)
    {
        Varint((number << 3) | ProtoReader.Fixed64);
        BinaryPrimitives.WriteUInt64LittleEndian(_target[Written..], value);
        Written += sizeof(ulong);
    }

    public void BytesField(uint number, ReadOnlySpan<byte> value)
    {
        if (value.IsEmpty)
            return;
        DelimitedField(number, value.Length);
        value.CopyTo(_target[Written..]);
        Written += value.Length;
    }

    /// <summary>Tag and length; the content follows.</summary>
    public void DelimitedField(uint number, int length)
    {
        Varint((number << 3) | ProtoReader.Delimited);
        Varint((uint)length);
    }

    private void Varint(ulong value)
    {
        while (value >= 0x80)
        {
            _target[Written++] = (byte)(value | 0x80);
            value >>= 7;
        }

        _target[Written++] = (byte)value;
    }
}
