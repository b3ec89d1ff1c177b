namespace Famfs.Fuse.Protocol;

/// <summary>What a request asks for, whatever number the kernel's dialect gives it.</summary>
public enum Operation : byte
{
    /// <summary>Answered with the row's <see cref="OpcodeRow.Refusal"/>.</summary>
    Refused = 0,
    Init,
    Destroy,
    Interrupt,
    Forget,
    BatchForget,
    NotifyReply,
    Lookup,
    GetAttributes,
    SetAttributes,
    Statx,
    Access,
    ReadLink,
    Open,
    Read,
    Write,
    Flush,
    Fsync,
    Fallocate,
    Release,
    OpenDirectory,
    ReadDirectory,
    ReadDirectoryPlus,
    FsyncDirectory,
    ReleaseDirectory,
    StatFileSystem,
    GetExtendedAttribute,
    ListExtendedAttributes,
    GetFmap,
    GetDaxDevice,
}

/// <summary>What follows the fixed part of a request.</summary>
public enum PayloadKind : byte
{
    /// <summary>Nothing: the length must match exactly, so that a layout this server does not know is rejected
    /// and not misread.</summary>
    None = 0,

    /// <summary>One NUL-terminated name.</summary>
    Name,

    /// <summary>Bytes that the operation checks itself.</summary>
    Data,
}

/// <summary>One kind of request.</summary>
/// <param name="Opcode">Number on the wire.</param>
/// <param name="Name">C name without prefix, for messages and statistics.</param>
/// <param name="Operation">What it asks for.</param>
/// <param name="InBytes">Bytes of the fixed part after the header.</param>
/// <param name="Payload">What follows that.</param>
/// <param name="Replies">False for the few that the kernel expects no reply to.</param>
/// <param name="Refusal">For <see cref="Operation.Refused"/>: the answer.</param>
public sealed record OpcodeRow(
    uint Opcode, string Name, Operation Operation, int InBytes, PayloadKind Payload = PayloadKind.None, bool Replies = true, Errno Refusal = Errno.None);

/// <summary>The opcodes of one dialect. Lookup by number is an array access.</summary>
public sealed class OpcodeTable
{
    private readonly OpcodeRow?[] _rows;

    /// <summary>Makes a table; opcodes are below 256 and distinct.</summary>
    public OpcodeTable(IEnumerable<OpcodeRow> rows)
    {
        _rows = new OpcodeRow?[256];
        foreach (OpcodeRow row in rows)
        {
            if (_rows[row.Opcode] is not null)
                throw new ArgumentException($"opcode {row.Opcode} is twice in the table", nameof(rows));
            _rows[row.Opcode] = row;
        }
    }

    /// <summary>The row of an opcode, null for one that this dialect does not have.</summary>
    public OpcodeRow? Find(uint opcode) => opcode < (uint)_rows.Length ? _rows[opcode] : null;

    /// <summary>Every row, by opcode.</summary>
    public IEnumerable<OpcodeRow> Rows => _rows.Where(row => row is not null)!;

    /// <summary>
    /// The requests of mainline Linux up to 7.45.
    /// <para>Of refusals: the kernel remembers ENOSYS to FLUSH, FSYNC, FSYNCDIR, ACCESS, POLL, LSEEK,
    /// COPY_FILE_RANGE, FALLOCATE, TMPFILE, STATX and the xattr operations, never asks again, and shows the
    /// program success or a fallback (EOPNOTSUPP for FALLOCATE, TMPFILE and xattrs). ENOSYS to CREATE makes it
    /// use MKNOD and OPEN instead, and ENOSYS to RENAME2 becomes EINVAL, so both get EPERM here; ENOSYS to any
    /// other mutation would reach the program as "Function not implemented".</para>
    /// </summary>
    public static readonly OpcodeTable Stock = new(StockRows());

    /// <summary>The same with some numbers meaning something else.</summary>
    public OpcodeTable With(params OpcodeRow[] rows) => new([.. Rows.ExceptBy(rows.Select(row => row.Opcode), row => row.Opcode), .. rows]);

    private static OpcodeRow[] StockRows()
    {
        static OpcodeRow Row(FuseOpcode opcode, Operation operation, int inBytes, PayloadKind payload = PayloadKind.None, bool replies = true) =>
            new((uint)opcode, NameOf(opcode), operation, inBytes, payload, replies);
        static OpcodeRow Refuse(FuseOpcode opcode, Errno errno) =>
            new((uint)opcode, NameOf(opcode), Operation.Refused, 0, PayloadKind.Data, true, errno);

        return
        [
            Row(FuseOpcode.FUSE_INIT, Operation.Init, 16, PayloadKind.Data), // grows with the kernel's minor version
            Row(FuseOpcode.FUSE_DESTROY, Operation.Destroy, 0),
            Row(FuseOpcode.FUSE_INTERRUPT, Operation.Interrupt, 8, replies: false),
            Row(FuseOpcode.FUSE_FORGET, Operation.Forget, 8, replies: false),
            Row(FuseOpcode.FUSE_BATCH_FORGET, Operation.BatchForget, 8, PayloadKind.Data, replies: false),
            Row(FuseOpcode.FUSE_NOTIFY_REPLY, Operation.NotifyReply, 0, PayloadKind.Data, replies: false),

            Row(FuseOpcode.FUSE_LOOKUP, Operation.Lookup, 0, PayloadKind.Name),
            Row(FuseOpcode.FUSE_GETATTR, Operation.GetAttributes, 16),
            Row(FuseOpcode.FUSE_SETATTR, Operation.SetAttributes, 88),
            Row(FuseOpcode.FUSE_STATX, Operation.Statx, 24),
            Row(FuseOpcode.FUSE_ACCESS, Operation.Access, 8),
            Row(FuseOpcode.FUSE_READLINK, Operation.ReadLink, 0),
            Row(FuseOpcode.FUSE_STATFS, Operation.StatFileSystem, 0),
            Row(FuseOpcode.FUSE_GETXATTR, Operation.GetExtendedAttribute, 8, PayloadKind.Name),
            Row(FuseOpcode.FUSE_LISTXATTR, Operation.ListExtendedAttributes, 8),

            Row(FuseOpcode.FUSE_OPEN, Operation.Open, 8),
            Row(FuseOpcode.FUSE_READ, Operation.Read, 40),
            Row(FuseOpcode.FUSE_WRITE, Operation.Write, 40, PayloadKind.Data),
            Row(FuseOpcode.FUSE_FLUSH, Operation.Flush, 24),
            Row(FuseOpcode.FUSE_FSYNC, Operation.Fsync, 16),
            Row(FuseOpcode.FUSE_FALLOCATE, Operation.Fallocate, 32),
            Row(FuseOpcode.FUSE_RELEASE, Operation.Release, 24),

            Row(FuseOpcode.FUSE_OPENDIR, Operation.OpenDirectory, 8),
            Row(FuseOpcode.FUSE_READDIR, Operation.ReadDirectory, 40),
            Row(FuseOpcode.FUSE_READDIRPLUS, Operation.ReadDirectoryPlus, 40),
            Row(FuseOpcode.FUSE_FSYNCDIR, Operation.FsyncDirectory, 16),
            Row(FuseOpcode.FUSE_RELEASEDIR, Operation.ReleaseDirectory, 24),

            // The namespace is changed by the master.
            Refuse(FuseOpcode.FUSE_SYMLINK, Errno.EPERM),
            Refuse(FuseOpcode.FUSE_MKNOD, Errno.EPERM),
            Refuse(FuseOpcode.FUSE_MKDIR, Errno.EPERM),
            Refuse(FuseOpcode.FUSE_UNLINK, Errno.EPERM),
            Refuse(FuseOpcode.FUSE_RMDIR, Errno.EPERM),
            Refuse(FuseOpcode.FUSE_RENAME, Errno.EPERM),
            Refuse(FuseOpcode.FUSE_RENAME2, Errno.EPERM),
            Refuse(FuseOpcode.FUSE_LINK, Errno.EPERM),
            Refuse(FuseOpcode.FUSE_CREATE, Errno.EPERM),
            Refuse(FuseOpcode.FUSE_SETXATTR, Errno.EPERM),
            Refuse(FuseOpcode.FUSE_REMOVEXATTR, Errno.EPERM),

            // The kernel has a good fallback of its own and does not ask again.
            Refuse(FuseOpcode.FUSE_POLL, Errno.ENOSYS),
            Refuse(FuseOpcode.FUSE_LSEEK, Errno.ENOSYS),
            Refuse(FuseOpcode.FUSE_COPY_FILE_RANGE, Errno.ENOSYS),
            Refuse(FuseOpcode.FUSE_COPY_FILE_RANGE_64, Errno.ENOSYS),
            Refuse(FuseOpcode.FUSE_TMPFILE, Errno.ENOSYS),
            Refuse(FuseOpcode.FUSE_SYNCFS, Errno.ENOSYS),

            // Only sent when asked for at INIT, or to block-device file systems; ENOTTY is what ioctl(2) says.
            Refuse(FuseOpcode.FUSE_IOCTL, Errno.ENOTTY),
            Refuse(FuseOpcode.FUSE_GETLK, Errno.ENOSYS),
            Refuse(FuseOpcode.FUSE_SETLK, Errno.ENOSYS),
            Refuse(FuseOpcode.FUSE_SETLKW, Errno.ENOSYS),
            Refuse(FuseOpcode.FUSE_BMAP, Errno.ENOSYS),
            Refuse(FuseOpcode.FUSE_SETUPMAPPING, Errno.ENOSYS),
            Refuse(FuseOpcode.FUSE_REMOVEMAPPING, Errno.ENOSYS),
        ];
    }

    private static string NameOf(FuseOpcode opcode) => opcode.ToString()["FUSE_".Length..];
}
