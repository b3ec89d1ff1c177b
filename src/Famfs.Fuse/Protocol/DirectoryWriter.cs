using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Famfs.Fuse.Protocol;

/// <summary>
/// Packs entries into the reply of READDIR or READDIRPLUS:
/// <code>
/// READDIR      | ino 8 | off 8 | namelen 4 | type 4 | name, zero-padded to a multiple of 8 |
/// READDIRPLUS  | fuse_entry_out 128 | the same                                             |
/// </code>
/// An entry is written whole or not at all.
/// </summary>
public ref struct DirectoryWriter(Span<byte> buffer, bool plus)
{
    private readonly Span<byte> _buffer = buffer;

    /// <summary>Bytes written.</summary>
    public int LengthBytes { get; private set; }

    /// <summary>Adds an entry; false when it does not fit. <paramref name="offset"/> is where the listing goes on
    /// after it; <paramref name="entry"/> is used by READDIRPLUS only, and one with node id 0 counts as no
    /// lookup.</summary>
    public bool TryAdd(scoped ReadOnlySpan<byte> name, ulong inode, ulong offset, uint type, in EntryOut entry)
    {
        int headBytes = plus ? Unsafe.SizeOf<DirentPlusHead>() : Unsafe.SizeOf<DirentHead>();
        int size = (headBytes + name.Length + 7) & ~7;
        if (size > _buffer.Length - LengthBytes)
            return false;
        Span<byte> target = _buffer.Slice(LengthBytes, size);
        target[(headBytes + name.Length)..].Clear();
        if (plus)
        {
            MemoryMarshal.Write(target, in entry);
            target = target[Unsafe.SizeOf<EntryOut>()..];
        }
        var dirent = new DirentHead { Inode = inode, Offset = offset, NameBytes = (uint)name.Length, Type = type };
        MemoryMarshal.Write(target, in dirent);
        name.CopyTo(target[Unsafe.SizeOf<DirentHead>()..]);
        LengthBytes += size;
        return true;
    }
}
