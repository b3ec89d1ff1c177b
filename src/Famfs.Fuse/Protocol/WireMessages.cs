using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Famfs.Fuse.Protocol;

// Every message of include/uapi/linux/fuse.h (interface 7.45) that this server reads or writes: little
// endian, naturally aligned, no gaps. The comment at a field is its C name. tests/Famfs.Fuse.Tests/Protocol/
// WireMessageTests checks size and gaps of each; a struct added here is added there.

/// <summary>struct fuse_in_header, 40 bytes. Head of every request.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct InHeader
{
    public uint LengthBytes; // len: of the whole message, header included
    public uint Opcode; // opcode
    public ulong Unique; // unique: names the request; the reply repeats it
    public ulong NodeId; // nodeid
    public uint Uid; // uid
    public uint Gid; // gid
    public uint Pid; // pid
    public ushort ExtensionWords; // total_extlen: length of the extensions at the end, in units of 8 bytes
    public ushort Padding; // padding
}

/// <summary>struct fuse_out_header, 16 bytes. Head of every reply and notification.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct OutHeader
{
    public uint LengthBytes; // len: of the whole message, header included
    public int Error; // error: 0, a negative error number, or (with unique 0) a notification code
    public ulong Unique; // unique
}

/// <summary>struct fuse_attr, 88 bytes. Attributes of an inode.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct NodeAttributes
{
    public ulong Inode; // ino
    public ulong SizeBytes; // size
    public ulong Blocks; // blocks: of 512 bytes
    public ulong AccessSeconds; // atime
    public ulong ModifySeconds; // mtime
    public ulong ChangeSeconds; // ctime
    public uint AccessNanoseconds; // atimensec
    public uint ModifyNanoseconds; // mtimensec
    public uint ChangeNanoseconds; // ctimensec
    public uint Mode; // mode: with the file type
    public uint LinkCount; // nlink
    public uint Uid; // uid
    public uint Gid; // gid
    public uint Rdev; // rdev
    public uint BlockSizeBytes; // blksize
    public uint Flags; // flags
}

/// <summary>struct fuse_entry_out, 128 bytes. Reply to LOOKUP; node id 0 is a negative entry.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct EntryOut
{
    public ulong NodeId; // nodeid
    public ulong Generation; // generation
    public ulong EntryValidSeconds; // entry_valid
    public ulong AttributesValidSeconds; // attr_valid
    public uint EntryValidNanoseconds; // entry_valid_nsec
    public uint AttributesValidNanoseconds; // attr_valid_nsec
    public NodeAttributes Attributes; // attr
}

/// <summary>struct fuse_forget_in, 8 bytes. FORGET.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct ForgetIn
{
    public ulong LookupCount; // nlookup
}

/// <summary>struct fuse_forget_one, 16 bytes. One element of BATCH_FORGET.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct ForgetOne
{
    public ulong NodeId; // nodeid
    public ulong LookupCount; // nlookup
}

/// <summary>struct fuse_batch_forget_in, 8 bytes. BATCH_FORGET; <see cref="Count"/> elements of <see cref="ForgetOne"/> follow.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct BatchForgetIn
{
    public uint Count; // count
    public uint Dummy; // dummy
}

/// <summary>struct fuse_getattr_in, 16 bytes. GETATTR.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct GetAttrIn
{
    public uint Flags; // getattr_flags
    public uint Dummy; // dummy
    public ulong Handle; // fh
}

/// <summary>struct fuse_attr_out, 104 bytes. Reply to GETATTR and SETATTR.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct AttrOut
{
    public ulong ValidSeconds; // attr_valid
    public uint ValidNanoseconds; // attr_valid_nsec
    public uint Dummy; // dummy
    public NodeAttributes Attributes; // attr
}

/// <summary>struct fuse_setattr_in, 88 bytes. SETATTR.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct SetAttrIn
{
    public uint Valid; // valid: FATTR_…
    public uint Padding; // padding
    public ulong Handle; // fh
    public ulong SizeBytes; // size
    public ulong LockOwner; // lock_owner
    public ulong AccessSeconds; // atime
    public ulong ModifySeconds; // mtime
    public ulong ChangeSeconds; // ctime
    public uint AccessNanoseconds; // atimensec
    public uint ModifyNanoseconds; // mtimensec
    public uint ChangeNanoseconds; // ctimensec
    public uint Mode; // mode
    public uint Unused4; // unused4
    public uint Uid; // uid
    public uint Gid; // gid
    public uint Unused5; // unused5
}

/// <summary>struct fuse_mkdir_in, 8 bytes. MKDIR; the name follows.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct MakeDirectoryIn
{
    public uint Mode; // mode: without the file type, umask applied
    public uint Umask; // umask
}

/// <summary>struct fuse_create_in, 16 bytes. CREATE; the name follows.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct CreateIn
{
    public uint Flags; // flags: of open(2)
    public uint Mode; // mode: with the file type, umask applied
    public uint Umask; // umask
    public uint OpenFlags; // open_flags: FUSE_OPEN_…
}

/// <summary>Reply to CREATE, 144 bytes: struct fuse_entry_out, then struct fuse_open_out.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct CreateOut
{
    public EntryOut Entry;
    public OpenOut Open;
}

/// <summary>struct fuse_rename_in, 8 bytes. RENAME; the old name and the new one follow.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct RenameIn
{
    public ulong NewParent; // newdir
}

/// <summary>struct fuse_rename2_in, 16 bytes. RENAME2; the old name and the new one follow.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct Rename2In
{
    public ulong NewParent; // newdir
    public uint Flags; // flags: RENAME_…
    public uint Padding; // padding
}

/// <summary>struct fuse_setxattr_in up to FUSE_COMPAT_SETXATTR_IN_SIZE, 8 bytes: what is sent where FUSE_SETXATTR_EXT was not
/// agreed on. SETXATTR; the name and the value follow.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct SetXattrIn
{
    public uint SizeBytes; // size: of the value
    public uint Flags; // flags: XATTR_…
}

/// <summary>struct fuse_statx_in, 24 bytes. STATX.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct StatxIn
{
    public uint Flags; // getattr_flags
    public uint Reserved; // reserved
    public ulong Handle; // fh
    public uint StatxFlags; // sx_flags
    public uint Mask; // sx_mask
}

/// <summary>struct fuse_sx_time, 16 bytes. A time of STATX.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct StatxTime
{
    public long Seconds; // tv_sec
    public uint Nanoseconds; // tv_nsec
    public int Reserved; // __reserved
}

/// <summary>struct fuse_statx, 256 bytes. Attributes of an inode as statx(2) has them.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct StatxBody
{
    public uint Mask; // mask
    public uint BlockSizeBytes; // blksize
    public ulong AttributeBits; // attributes
    public uint LinkCount; // nlink
    public uint Uid; // uid
    public uint Gid; // gid
    public ushort Mode; // mode
    public ushort Spare0; // __spare0
    public ulong Inode; // ino
    public ulong SizeBytes; // size
    public ulong Blocks; // blocks
    public ulong AttributesMask; // attributes_mask
    public StatxTime AccessTime; // atime
    public StatxTime BirthTime; // btime
    public StatxTime ChangeTime; // ctime
    public StatxTime ModifyTime; // mtime
    public uint RdevMajor; // rdev_major
    public uint RdevMinor; // rdev_minor
    public uint DeviceMajor; // dev_major
    public uint DeviceMinor; // dev_minor
    public Reserved14Words Spare2; // __spare2
}

/// <summary>struct fuse_statx_out, 288 bytes. Reply to STATX.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct StatxOut
{
    public ulong ValidSeconds; // attr_valid
    public uint ValidNanoseconds; // attr_valid_nsec
    public uint Flags; // flags
    public ulong Spare0; // spare[0]
    public ulong Spare1; // spare[1]
    public StatxBody Stat; // stat
}

/// <summary>struct fuse_open_in, 8 bytes. OPEN and OPENDIR.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct OpenIn
{
    public uint Flags; // flags: of open(2)
    public uint OpenFlags; // open_flags: FUSE_OPEN_…
}

/// <summary>struct fuse_open_out, 16 bytes. Reply to OPEN and OPENDIR.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct OpenOut
{
    public ulong Handle; // fh
    public uint OpenFlags; // open_flags: FOPEN_…
    public int BackingId; // backing_id
}

/// <summary>struct fuse_release_in, 24 bytes. RELEASE and RELEASEDIR.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct ReleaseIn
{
    public ulong Handle; // fh
    public uint Flags; // flags
    public uint ReleaseFlags; // release_flags
    public ulong LockOwner; // lock_owner
}

/// <summary>struct fuse_flush_in, 24 bytes. FLUSH.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct FlushIn
{
    public ulong Handle; // fh
    public uint Unused; // unused
    public uint Padding; // padding
    public ulong LockOwner; // lock_owner
}

/// <summary>struct fuse_lk_in with its struct fuse_file_lock, 48 bytes. GETLK, SETLK and SETLKW.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct LockIn
{
    public ulong Handle; // fh
    public ulong Owner; // owner
    public ulong Start; // lk.start
    public ulong End; // lk.end
    public uint Type; // lk.type: F_RDLCK, F_WRLCK or F_UNLCK
    public uint Pid; // lk.pid
    public uint LockFlags; // lk_flags
    public uint Padding; // padding
}

/// <summary>struct fuse_read_in, 40 bytes. READ, READDIR and READDIRPLUS.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct ReadIn
{
    public ulong Handle; // fh
    public ulong Offset; // offset
    public uint SizeBytes; // size
    public uint ReadFlags; // read_flags
    public ulong LockOwner; // lock_owner
    public uint Flags; // flags
    public uint Padding; // padding
}

/// <summary>struct fuse_write_in, 40 bytes. WRITE; the data follows.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct WriteIn
{
    public ulong Handle; // fh
    public ulong Offset; // offset
    public uint SizeBytes; // size
    public uint WriteFlags; // write_flags
    public ulong LockOwner; // lock_owner
    public uint Flags; // flags
    public uint Padding; // padding
}

/// <summary>struct fuse_write_out, 8 bytes. Reply to WRITE.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct WriteOut
{
    public uint SizeBytes; // size
    public uint Padding; // padding
}

/// <summary>struct fuse_kstatfs, 80 bytes. Reply to STATFS (fuse_statfs_out is this and nothing else).</summary>
[StructLayout(LayoutKind.Sequential)]
public struct StatfsOut
{
    public ulong Blocks; // blocks: of frsize
    public ulong FreeBlocks; // bfree
    public ulong AvailableBlocks; // bavail
    public ulong Files; // files
    public ulong FreeFiles; // ffree
    public uint BlockSizeBytes; // bsize
    public uint NameMaxBytes; // namelen
    public uint FragmentSizeBytes; // frsize
    public uint Padding; // padding
    public Reserved6Halves Spare; // spare
}

/// <summary>struct fuse_fsync_in, 16 bytes. FSYNC and FSYNCDIR.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct FsyncIn
{
    public ulong Handle; // fh
    public uint FsyncFlags; // fsync_flags
    public uint Padding; // padding
}

/// <summary>struct fuse_getxattr_in, 8 bytes. GETXATTR, LISTXATTR; size 0 asks for the size only.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct GetXattrIn
{
    public uint SizeBytes; // size
    public uint Padding; // padding
}

/// <summary>struct fuse_getxattr_out, 8 bytes. Reply to GETXATTR and LISTXATTR with size 0.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct GetXattrOut
{
    public uint SizeBytes; // size
    public uint Padding; // padding
}

/// <summary>struct fuse_access_in, 8 bytes. ACCESS.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct AccessIn
{
    public uint Mask; // mask: of access(2)
    public uint Padding; // padding
}

/// <summary>struct fuse_init_in, 64 bytes. INIT.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct InitIn
{
    public uint Major; // major
    public uint Minor; // minor
    public uint MaxReadaheadBytes; // max_readahead
    public uint Flags; // flags
    public uint Flags2; // flags2
    public Reserved11Words Unused; // unused
}

/// <summary>struct fuse_init_out, 64 bytes. Reply to INIT.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct InitOut
{
    public uint Major; // major
    public uint Minor; // minor
    public uint MaxReadaheadBytes; // max_readahead
    public uint Flags; // flags
    public ushort MaxBackground; // max_background
    public ushort CongestionThreshold; // congestion_threshold
    public uint MaxWriteBytes; // max_write
    public uint TimeGranularityNs; // time_gran
    public ushort MaxPages; // max_pages
    public ushort MapAlignment; // map_alignment
    public uint Flags2; // flags2
    public uint MaxStackDepth; // max_stack_depth
    public ushort RequestTimeoutSeconds; // request_timeout
    public Reserved11Halves Unused; // unused
}

/// <summary>struct fuse_interrupt_in, 8 bytes. INTERRUPT.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct InterruptIn
{
    public ulong Unique; // unique: of the request
}

/// <summary>struct fuse_fallocate_in, 32 bytes. FALLOCATE.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct FallocateIn
{
    public ulong Handle; // fh
    public ulong Offset; // offset
    public ulong LengthBytes; // length
    public uint Mode; // mode
    public uint Padding; // padding
}

/// <summary>struct fuse_dirent, 24 bytes. Head of one entry of READDIR; the name follows, padded to 8 bytes.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct DirentHead
{
    public ulong Inode; // ino
    public ulong Offset; // off: of the entry after this one
    public uint NameBytes; // namelen
    public uint Type; // type: DT_…
}

/// <summary>struct fuse_direntplus, 152 bytes. Head of one entry of READDIRPLUS; the name follows, padded to 8 bytes.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct DirentPlusHead
{
    public EntryOut Entry; // entry_out
    public DirentHead Dirent; // dirent
}

/// <summary>struct fuse_notify_inval_inode_out, 24 bytes. INVAL_INODE; offset −1 leaves the pages alone, length 0 is to the end.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct NotifyInvalInodeOut
{
    public ulong NodeId; // ino
    public long Offset; // off
    public long LengthBytes; // len
}

/// <summary>struct fuse_notify_inval_entry_out, 16 bytes. INVAL_ENTRY; the name and a NUL follow.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct NotifyInvalEntryOut
{
    public ulong Parent; // parent
    public uint NameBytes; // namelen
    public uint Flags; // flags
}

/// <summary>struct fuse_notify_delete_out, 24 bytes. DELETE; the name and a NUL follow.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct NotifyDeleteOut
{
    public ulong Parent; // parent
    public ulong Child; // child
    public uint NameBytes; // namelen
    public uint Padding; // padding
}

/// <summary>struct fuse_notify_prune_out, 16 bytes. PRUNE; <see cref="Count"/> node ids of 8 bytes follow.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct NotifyPruneOut
{
    public uint Count; // count
    public uint Padding; // padding
    public ulong Spare; // spare
}

/// <summary>fuse_statx.__spare2: zero.</summary>
[InlineArray(14)]
public struct Reserved14Words
{
    private ulong _first;
}

/// <summary>fuse_kstatfs.spare: zero.</summary>
[InlineArray(6)]
public struct Reserved6Halves
{
    private uint _first;
}

/// <summary>fuse_init_in.unused: zero.</summary>
[InlineArray(11)]
public struct Reserved11Words
{
    private uint _first;
}

/// <summary>fuse_init_out.unused: zero.</summary>
[InlineArray(11)]
public struct Reserved11Halves
{
    private ushort _first;
}
