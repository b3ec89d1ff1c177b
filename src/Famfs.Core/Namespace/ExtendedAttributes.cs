using System.Runtime.InteropServices;

namespace Famfs.Core.Namespace;

/// <summary>The extended attributes of one inode, in no order. Valid inside the <see cref="TreeScope"/> it
/// came from.</summary>
public unsafe ref struct ExtendedAttributes
{
    private readonly byte* _end;
    private byte* _next;

    internal ExtendedAttributes(byte* block)
    {
        if (block == null)
            return;
        _next = block + AttributeBlock.HeaderBytes;
        _end = block + *(int*)block;
    }

    /// <summary>Name of the current attribute.</summary>
    public ReadOnlySpan<byte> Name { get; private set; }

    /// <summary>Value of the current attribute.</summary>
    public ReadOnlySpan<byte> Value { get; private set; }

    /// <summary>For foreach.</summary>
    public readonly ExtendedAttributes GetEnumerator() => this;

    /// <summary>For foreach.</summary>
    public readonly ExtendedAttributes Current => this;

    /// <summary>Goes to the next attribute; false after the last.</summary>
    public bool MoveNext()
    {
        if (_next == _end)
            return false;
        _next += AttributeBlock.ReadEntry(_next, out ReadOnlySpan<byte> name, out ReadOnlySpan<byte> value);
        Name = name;
        Value = value;
        return true;
    }
}

/// <summary>
/// All extended attributes of an inode in one block that never changes; a change makes a new block.
/// <code>
/// 0  length of the block, 4 bytes
/// 4  entries: length of the value (4), length of the name (1), name, value
/// </code>
/// </summary>
internal static unsafe class AttributeBlock
{
    public const int HeaderBytes = 4;

    public const int EntryHeaderBytes = 5;

    public static int BytesOf(byte* block) => *(int*)block;

    public static int ReadEntry(byte* at, out ReadOnlySpan<byte> name, out ReadOnlySpan<byte> value)
    {
        int valueBytes = MemoryMarshal.Read<int>(new ReadOnlySpan<byte>(at, 4));
        int nameBytes = at[4];
        name = new(at + EntryHeaderBytes, nameBytes);
        value = new(at + EntryHeaderBytes + nameBytes, valueBytes);
        return EntryHeaderBytes + nameBytes + valueBytes;
    }

    public static bool TryFind(byte* block, ReadOnlySpan<byte> name, out ReadOnlySpan<byte> value)
    {
        ExtendedAttributes entries = new(block);
        while (entries.MoveNext())
        {
            if (entries.Name.SequenceEqual(name))
            {
                value = entries.Value;
                return true;
            }
        }

        value = default;
        return false;
    }

    /// <summary>Length of a block with one attribute changed.</summary>
    public static long BytesWith(byte* block, ReadOnlySpan<byte> name, ReadOnlySpan<byte> value) =>
        BytesWithout(block, name) + EntryHeaderBytes + name.Length + value.Length;

    /// <summary>Length of a block without one attribute; <see cref="HeaderBytes"/> when none is left.</summary>
    public static long BytesWithout(byte* block, ReadOnlySpan<byte> name)
    {
        long bytes = HeaderBytes;
        ExtendedAttributes entries = new(block);
        while (entries.MoveNext())
        {
            if (!entries.Name.SequenceEqual(name))
                bytes += EntryHeaderBytes + entries.Name.Length + entries.Value.Length;
        }

        return bytes;
    }

    /// <summary>Fills a new block with the entries of the old one but for <paramref name="name"/>.</summary>
    public static byte* CopyWithout(byte* target, byte* block, ReadOnlySpan<byte> name)
    {
        byte* at = target + HeaderBytes;
        ExtendedAttributes entries = new(block);
        while (entries.MoveNext())
        {
            if (!entries.Name.SequenceEqual(name))
                at = Write(at, entries.Name, entries.Value);
        }

        return at;
    }

    public static byte* Write(byte* at, ReadOnlySpan<byte> name, ReadOnlySpan<byte> value)
    {
        MemoryMarshal.Write(new Span<byte>(at, 4), value.Length);
        at[4] = (byte)name.Length;
        name.CopyTo(new Span<byte>(at + EntryHeaderBytes, name.Length));
        value.CopyTo(new Span<byte>(at + EntryHeaderBytes + name.Length, value.Length));
        return at + EntryHeaderBytes + name.Length + value.Length;
    }
}
