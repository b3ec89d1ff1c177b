namespace Famfs.Fuse.Protocol;

/// <summary>Numbers of include/uapi/linux/fuse.h as of interface 7.45, under their C names.</summary>
public static class FuseConstants
{
    public const uint FUSE_KERNEL_VERSION = 7;
    public const uint FUSE_KERNEL_MINOR_VERSION = 45;
    public const ulong FUSE_ROOT_ID = 1;
    public const int FUSE_MIN_READ_BUFFER = 8192;

    /// <summary>Longest name that a listing or an entry may have (FUSE_NAME_MAX is 1024, NAME_MAX is 255).</summary>
    public const int NAME_MAX = 255;

    // fuse_getattr_in.getattr_flags
    public const uint FUSE_GETATTR_FH = 1 << 0;

    // fuse_setattr_in.valid
    public const uint FATTR_MODE = 1 << 0;
    public const uint FATTR_UID = 1 << 1;
    public const uint FATTR_GID = 1 << 2;
    public const uint FATTR_SIZE = 1 << 3;
    public const uint FATTR_ATIME = 1 << 4;
    public const uint FATTR_MTIME = 1 << 5;
    public const uint FATTR_FH = 1 << 6;
    public const uint FATTR_ATIME_NOW = 1 << 7;
    public const uint FATTR_MTIME_NOW = 1 << 8;
    public const uint FATTR_LOCKOWNER = 1 << 9;
    public const uint FATTR_CTIME = 1 << 10;
    public const uint FATTR_KILL_SUIDGID = 1 << 11;

    // fuse_open_out.open_flags
    public const uint FOPEN_DIRECT_IO = 1 << 0;
    public const uint FOPEN_KEEP_CACHE = 1 << 1;
    public const uint FOPEN_NONSEEKABLE = 1 << 2;
    public const uint FOPEN_CACHE_DIR = 1 << 3;
    public const uint FOPEN_STREAM = 1 << 4;
    public const uint FOPEN_NOFLUSH = 1 << 5;
    public const uint FOPEN_PARALLEL_DIRECT_WRITES = 1 << 6;
    public const uint FOPEN_PASSTHROUGH = 1 << 7;

    // fuse_write_in.write_flags
    public const uint FUSE_WRITE_CACHE = 1 << 0;
    public const uint FUSE_WRITE_LOCKOWNER = 1 << 1;
    public const uint FUSE_WRITE_KILL_SUIDGID = 1 << 2;

    // fuse_notify_inval_entry_out.flags
    public const uint FUSE_EXPIRE_ONLY = 1 << 0;

    // enum fuse_notify_code
    public const int FUSE_NOTIFY_INVAL_INODE = 2;
    public const int FUSE_NOTIFY_INVAL_ENTRY = 3;
    public const int FUSE_NOTIFY_DELETE = 6;
    public const int FUSE_NOTIFY_RESEND = 7;
    public const int FUSE_NOTIFY_INC_EPOCH = 8;
    public const int FUSE_NOTIFY_PRUNE = 9;

    /// <summary>In the unique of a request that is sent again (fuse_in_header).</summary>
    public const ulong FUSE_UNIQUE_RESEND = 1UL << 63;

    /// <summary>First minor version whose kernel knows FUSE_NOTIFY_INC_EPOCH.</summary>
    public const uint MinorWithEpoch = 44;

    /// <summary>First minor version whose kernel knows FUSE_NOTIFY_PRUNE.</summary>
    public const uint MinorWithPrune = 45;

    // sys/stat.h, dirent.h
    public const uint S_IFMT = 0xF000;
    public const uint S_IFDIR = 0x4000;
    public const uint S_IFREG = 0x8000;
    public const uint S_IFLNK = 0xA000;
    public const uint S_ISUID = 0x800;
    public const uint S_ISGID = 0x400;
    public const uint S_IXGRP = 0x8;
    public const uint DT_DIR = 4;
    public const uint DT_REG = 8;
    public const uint DT_LNK = 10;
    public const uint STATX_BASIC_STATS = 0x7FF;

    // linux/falloc.h
    public const uint FALLOC_FL_KEEP_SIZE = 1;

    // fcntl.h
    public const uint F_UNLCK = 2;
    public const uint O_TRUNC = 0x200;
    public const uint O_ACCMODE = 3;

    /// <summary>FUSE_DAX_FMAP of dialect A. The same bit as <see cref="InitFlags.FUSE_REQUEST_TIMEOUT"/>, which mainline has
    /// from 7.43 on: only the minor version tells which is meant.</summary>
    public const ulong FUSE_DAX_FMAP_A = 1UL << 42;

    // Opcodes of the famfs dialects; numbers of their own there, and not values of FuseOpcode, because from 7.45 on
    // mainline's 53 is COPY_FILE_RANGE_64.
    public const uint FUSE_GET_FMAP_A = 53; // A, B0
    public const uint FUSE_GET_DAXDEV_A = 54; // A, B0
    public const uint FUSE_GET_FMAP = 54; // B, D
    public const uint FUSE_GET_DAXDEV = 55; // B

    /// <summary>fuse_famfs_fmap_header.fmap_version (FAMFS_FMAP_VERSION), the same in every dialect.</summary>
    public const ushort FAMFS_FMAP_VERSION = 1;

    /// <summary>Bytes that the kernels of dialects B0 and B have room for in the reply to a first GET_FMAP.</summary>
    public const int FirstFmapRoomBytes = 4096;
}

/// <summary>Flags of INIT; bits 32 to 63 travel in flags2.</summary>
[Flags]
public enum InitFlags : ulong
{
    None = 0,
    FUSE_ASYNC_READ = 1UL << 0,
    FUSE_POSIX_LOCKS = 1UL << 1,
    FUSE_FILE_OPS = 1UL << 2,
    FUSE_ATOMIC_O_TRUNC = 1UL << 3,
    FUSE_EXPORT_SUPPORT = 1UL << 4,
    FUSE_BIG_WRITES = 1UL << 5,
    FUSE_DONT_MASK = 1UL << 6,
    FUSE_SPLICE_WRITE = 1UL << 7,
    FUSE_SPLICE_MOVE = 1UL << 8,
    FUSE_SPLICE_READ = 1UL << 9,
    FUSE_FLOCK_LOCKS = 1UL << 10,
    FUSE_HAS_IOCTL_DIR = 1UL << 11,
    FUSE_AUTO_INVAL_DATA = 1UL << 12,
    FUSE_DO_READDIRPLUS = 1UL << 13,
    FUSE_READDIRPLUS_AUTO = 1UL << 14,
    FUSE_ASYNC_DIO = 1UL << 15,
    FUSE_WRITEBACK_CACHE = 1UL << 16,
    FUSE_NO_OPEN_SUPPORT = 1UL << 17,
    FUSE_PARALLEL_DIROPS = 1UL << 18,
    FUSE_HANDLE_KILLPRIV = 1UL << 19,
    FUSE_POSIX_ACL = 1UL << 20,
    FUSE_ABORT_ERROR = 1UL << 21,
    FUSE_MAX_PAGES = 1UL << 22,
    FUSE_CACHE_SYMLINKS = 1UL << 23,
    FUSE_NO_OPENDIR_SUPPORT = 1UL << 24,
    FUSE_EXPLICIT_INVAL_DATA = 1UL << 25,
    FUSE_MAP_ALIGNMENT = 1UL << 26,
    FUSE_SUBMOUNTS = 1UL << 27,
    FUSE_HANDLE_KILLPRIV_V2 = 1UL << 28,
    FUSE_SETXATTR_EXT = 1UL << 29,
    FUSE_INIT_EXT = 1UL << 30,
    FUSE_INIT_RESERVED = 1UL << 31,
    FUSE_SECURITY_CTX = 1UL << 32,
    FUSE_HAS_INODE_DAX = 1UL << 33,
    FUSE_CREATE_SUPP_GROUP = 1UL << 34,
    FUSE_HAS_EXPIRE_ONLY = 1UL << 35,
    FUSE_DIRECT_IO_ALLOW_MMAP = 1UL << 36,
    FUSE_PASSTHROUGH = 1UL << 37,
    FUSE_NO_EXPORT_SUPPORT = 1UL << 38,
    FUSE_HAS_RESEND = 1UL << 39,
    FUSE_ALLOW_IDMAP = 1UL << 40,
    FUSE_OVER_IO_URING = 1UL << 41,
    FUSE_REQUEST_TIMEOUT = 1UL << 42,

    /// <summary>FUSE_DAX_FMAP of the dialects from B0 on.</summary>
    FUSE_DAX_FMAP = 1UL << 43,
}

/// <summary>enum fuse_opcode.</summary>
public enum FuseOpcode : uint
{
    FUSE_LOOKUP = 1,
    FUSE_FORGET = 2,
    FUSE_GETATTR = 3,
    FUSE_SETATTR = 4,
    FUSE_READLINK = 5,
    FUSE_SYMLINK = 6,
    FUSE_MKNOD = 8,
    FUSE_MKDIR = 9,
    FUSE_UNLINK = 10,
    FUSE_RMDIR = 11,
    FUSE_RENAME = 12,
    FUSE_LINK = 13,
    FUSE_OPEN = 14,
    FUSE_READ = 15,
    FUSE_WRITE = 16,
    FUSE_STATFS = 17,
    FUSE_RELEASE = 18,
    FUSE_FSYNC = 20,
    FUSE_SETXATTR = 21,
    FUSE_GETXATTR = 22,
    FUSE_LISTXATTR = 23,
    FUSE_REMOVEXATTR = 24,
    FUSE_FLUSH = 25,
    FUSE_INIT = 26,
    FUSE_OPENDIR = 27,
    FUSE_READDIR = 28,
    FUSE_RELEASEDIR = 29,
    FUSE_FSYNCDIR = 30,
    FUSE_GETLK = 31,
    FUSE_SETLK = 32,
    FUSE_SETLKW = 33,
    FUSE_ACCESS = 34,
    FUSE_CREATE = 35,
    FUSE_INTERRUPT = 36,
    FUSE_BMAP = 37,
    FUSE_DESTROY = 38,
    FUSE_IOCTL = 39,
    FUSE_POLL = 40,
    FUSE_NOTIFY_REPLY = 41,
    FUSE_BATCH_FORGET = 42,
    FUSE_FALLOCATE = 43,
    FUSE_READDIRPLUS = 44,
    FUSE_RENAME2 = 45,
    FUSE_LSEEK = 46,
    FUSE_COPY_FILE_RANGE = 47,
    FUSE_SETUPMAPPING = 48,
    FUSE_REMOVEMAPPING = 49,
    FUSE_SYNCFS = 50,
    FUSE_TMPFILE = 51,
    FUSE_STATX = 52,
    FUSE_COPY_FILE_RANGE_64 = 53,
}
