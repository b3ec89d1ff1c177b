using Famfs.Core;

namespace Famfs.Famfs2.Codec;

/// <summary>
/// Where things are on the media of famfs-2, the format of the existing C tools (docs/format.md draws it).
/// <code>
/// device 0                                         every further device
/// 0x000000  superblock, 200 bytes                  0x000000  superblock (written by this project; the log
/// 0x200000  log header, 48 bytes                             knows a device by its uuid)
/// 0x200030  entries of 544 bytes                   0x200000  extents
/// then      extents, from 0x200000 + log length
/// </code>
/// All integers are little endian; checksums are zlib's CRC-32, zero-extended to 64 bits.
/// </summary>
public static class Famfs2Layout
{
    /// <summary>Version word of the superblock.</summary>
    public const ulong Version = 48;

    /// <summary>Format major.</summary>
    public const uint Major = 2;

    /// <summary>Format minor.</summary>
    public const uint Minor = 2;

    /// <summary>The superblock's own unit; the log follows.</summary>
    public const long LogOffset = 0x200000;

    /// <summary>Smallest log (specified).</summary>
    public const long MinLogBytes = 8L << 20;

    /// <summary>Largest log (chosen: two thousand million entries; their numbers stay far below the node ids that
    /// <see cref="Famfs2Inodes"/> keeps).</summary>
    public const long MaxLogBytes = 1L << 40;

    /// <summary>Bytes of the log header.</summary>
    public const int HeaderBytes = 48;

    /// <summary>Bytes of an entry.</summary>
    public const int EntryBytes = 544;

    /// <summary>Offset of an entry's checksum.</summary>
    public const int EntryCrcOffset = 536;

    /// <summary>Room for a path; a NUL ends it.</summary>
    public const int PathBytes = 80;

    /// <summary>Longest path.</summary>
    public const int MaxPathBytes = PathBytes - 1;

    /// <summary>Most extents, or strips, of a file.</summary>
    public const int MaxExtents = 16;

    /// <summary>Inode number of what the entry with index 0 makes; the root has 1.</summary>
    public const ulong FirstInode = 2;

    /// <summary>True for a length that a log can have.</summary>
    public static bool IsLogLength(long lengthBytes) => lengthBytes is >= MinLogBytes and <= MaxLogBytes && long.IsPow2(lengthBytes);

    /// <summary>Index of the last entry that a log of that length can hold.</summary>
    public static ulong LastIndexOf(long logLengthBytes) => ((ulong)logLengthBytes - HeaderBytes) / EntryBytes - 1;

    /// <summary>Device offset of an entry.</summary>
    public static long EntryOffset(ulong index) => LogOffset + HeaderBytes + ((long)index * EntryBytes);

    /// <summary>Inode number of what an entry makes.</summary>
    public static InodeNumber InodeOf(ulong index) => new(FirstInode + index);
}
