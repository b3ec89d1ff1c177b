using System.Buffers.Binary;

namespace Famfs.Core.Format;

/// <summary>Puts fields at stated offsets of a zeroed block.</summary>
public readonly ref struct FieldWriter(Span<byte> block)
{
    private readonly Span<byte> _block = block;

    public void U32(int offset, uint value) => BinaryPrimitives.WriteUInt32LittleEndian(_block[offset..], value);

    public void U64(int offset, ulong value) => BinaryPrimitives.WriteUInt64LittleEndian(_block[offset..], value);

    public void I64(int offset, long value) => BinaryPrimitives.WriteInt64LittleEndian(_block[offset..], value);

    public void Uuid(int offset, Guid value) => value.TryWriteBytes(_block.Slice(offset, 16), bigEndian: true, out _);

    /// <summary>UTF-8, cut at a character boundary to fit <paramref name="size"/> − 1, zero filled.</summary>
    public void Text(int offset, int size, string value)
    {
        Span<byte> place = _block.Slice(offset, size - 1);
        System.Text.Unicode.Utf8.FromUtf16(value, place, out _, out _);
    }
}

/// <summary>Takes fields from stated offsets of a block.</summary>
public readonly ref struct FieldReader(ReadOnlySpan<byte> block)
{
    private readonly ReadOnlySpan<byte> _block = block;

    public uint U32(int offset) => BinaryPrimitives.ReadUInt32LittleEndian(_block[offset..]);

    public ulong U64(int offset) => BinaryPrimitives.ReadUInt64LittleEndian(_block[offset..]);

    public long I64(int offset) => BinaryPrimitives.ReadInt64LittleEndian(_block[offset..]);

    public Guid Uuid(int offset) => new(_block.Slice(offset, 16), bigEndian: true);

    /// <summary>Bytes up to the first NUL or <paramref name="size"/>; bad UTF-8 shows as replacement characters.</summary>
    public string Text(int offset, int size)
    {
        ReadOnlySpan<byte> field = _block.Slice(offset, size);
        int end = field.IndexOf((byte)0);
        return System.Text.Encoding.UTF8.GetString(end < 0 ? field : field[..end]);
    }

    public bool IsZero(int offset, int length) => !_block.Slice(offset, length).ContainsAnyExcept((byte)0);
}
