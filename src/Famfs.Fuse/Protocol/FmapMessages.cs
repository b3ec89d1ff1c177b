using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Famfs.Fuse.Protocol;

// Messages of the famfs kernel interface, all its generations: little endian, naturally aligned, no gaps. Which
// generation uses which is in Dialects/Dialect.cs and docs/kernel-dialects.md. A reply to GET_FMAP:
//
//   simple                          interleaved                        short (A, B0, B)     short (D)
//   0   FmapHeader                  0   FmapHeader, ExtentCount 1      0  FmapSizeOut       0  FmapHeader
//   32  FmapSimpleExtent × count    32  FmapInterleavedExtent
//                                   56  FmapSimpleExtent × StripCount

/// <summary>What a file is to the kernel: fuse_famfs_fmap_header.file_type.</summary>
public enum FmapFileType : byte
{
    Regular = 0, // FUSE_FAMFS_FILE_REG
    Superblock = 1, // FUSE_FAMFS_FILE_SUPERBLOCK
    Log = 2, // FUSE_FAMFS_FILE_LOG
}

/// <summary>fuse_famfs_fmap_header.ext_type.</summary>
public enum FmapExtentType : uint
{
    Simple = 0, // FUSE_FAMFS_EXT_SIMPLE
    Interleaved = 1, // FUSE_FAMFS_EXT_INTERLEAVE
}

/// <summary>struct fuse_famfs_fmap_header, 32 bytes. Head of the reply to GET_FMAP.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct FmapHeader
{
    public FmapFileType FileType; // file_type
    public byte Reserved; // reserved
    public ushort Version; // fmap_version: 1
    public FmapExtentType ExtentType; // ext_type
    public uint ExtentCount; // nextents
    public uint MessageBytes; // reserved0; dialect D: bytes of the whole message, this header included
    public ulong FileBytes; // file_size
    public ulong Reserved1; // reserved1
}

/// <summary>struct fuse_famfs_simple_ext, 24 bytes. An extent or a strip.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct FmapSimpleExtent
{
    public uint Device; // se_devindex: the kernel's index
    public uint Reserved; // reserved
    public ulong OffsetBytes; // se_offset
    public ulong LengthBytes; // se_len
}

/// <summary>struct fuse_famfs_iext, 24 bytes. An interleaved extent; its strips follow.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct FmapInterleavedExtent
{
    public uint StripCount; // ie_nstrips
    public uint ChunkBytes; // ie_chunk_size
    public ulong FileBytes; // ie_nbytes: file bytes in this extent
    public ulong Reserved; // reserved
}

/// <summary>Input of GET_FMAP in dialect A, 8 bytes.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct GetFmapIn
{
    public uint RoomBytes; // size: of the kernel's buffer
    public uint Padding; // padding
}

/// <summary>Reply to GET_FMAP of dialects A, B0 and B when the map does not fit the kernel's buffer, 4 bytes.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct FmapSizeOut
{
    public uint MessageBytes; // size: to ask again with
}

/// <summary>struct fuse_daxdev_out, 280 bytes. Reply to GET_DAXDEV.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct DaxDeviceOut
{
    public ushort Index; // index
    public ushort Reserved; // reserved
    public uint Reserved2; // reserved2
    public ulong Reserved3; // reserved3
    public ulong Reserved4; // reserved4
    public DaxDeviceName Name; // name: path of the character device, NUL-terminated
}

/// <summary>fuse_daxdev_out.name.</summary>
[InlineArray(Bytes)]
public struct DaxDeviceName
{
    /// <summary>DAXDEV_NAME_MAX, the NUL included.</summary>
    public const int Bytes = 256;

    private byte _first;
}

/// <summary>struct fuse_backing_map as dialect D uses it, 16 bytes. Argument of the ioctl that pushes a device.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct BackingMap
{
    public int Descriptor; // fd: of the character device
    public uint Flags; // flags: 0
    public ulong DeviceIndex; // daxdev_index
}
