using System.Runtime.CompilerServices;
using Famfs.Fuse.Dialects;
using Famfs.Fuse.Protocol;

namespace Famfs.Fuse.Operations;

/// <summary>Answers one kind of request.</summary>
public delegate FuseReply RequestHandler(FuseOperations operations, in FuseRequest request, WorkerState worker);

// One kind of request: its bytes, and who answers it. Refusal is the answer when that is always the same error.
internal sealed record RequestRow(
    uint Opcode, string Name, Type? In, int InBytes, PayloadKind Payload, int? OutBytes, bool Replies, RequestHandler Handler, Errno Refusal)
    : OpcodeRow(Opcode, Name, In, InBytes, Payload, OutBytes, Replies);

// Every request of every dialect, in one table: opcode, what is read, what is written, who answers.
public sealed partial class FuseOperations
{
    /// <summary>
    /// The requests of mainline Linux up to 7.45.
    /// <para>Of refusals: the kernel remembers ENOSYS to FLUSH, FSYNC, FSYNCDIR, ACCESS, POLL, LSEEK,
    /// COPY_FILE_RANGE, FALLOCATE, TMPFILE, STATX and the xattr operations, never asks again, and shows the
    /// program success or a fallback (EOPNOTSUPP for FALLOCATE, TMPFILE and xattrs). ENOSYS to CREATE makes it
    /// use MKNOD and OPEN instead, and ENOSYS to RENAME2 becomes EINVAL; ENOSYS to any other mutation would reach the
    /// program as "Function not implemented". So what this server does not let a program do gets EPERM.</para>
    /// </summary>
    public static readonly OpcodeTable StockRequests = new(StockRows());

    /// <summary>The requests of a dialect: mainline's, with the numbers that mean something else there.</summary>
    public static OpcodeTable RequestsOf(Dialect dialect)
    {
        if (dialect.Fmaps is null)
            return StockRequests;
        List<RequestRow> own = [];
        if (dialect.FmapOpcode is { } fmap)
        {
            Part room = dialect.Sizing switch { FmapSizing.RoomInRequest => Of<GetFmapIn>(), FmapSizing.HeaderFirst => Of<GetXattrIn>(), _ => None };
            own.Add(Row(fmap, "GET_FMAP", room, PayloadKind.None, Any, static (o, in r, w) => o.GetFmap(r, w)));
        }
        if (dialect.DaxDeviceOpcode is { } device)
            own.Add(Row(device, "GET_DAXDEV", None, PayloadKind.None, Of<DaxDeviceOut>(), static (o, in r, w) => o.GetDaxDevice(r, w)));
        return new([.. StockRequests.Rows.ExceptBy(own.Select(row => row.Opcode), row => row.Opcode), .. own]);
    }

    private static RequestRow[] StockRows() =>
    [
        // INIT grows with the kernel's minor version. The session answers the first one, and there is no second.
        Refuse(FuseOpcode.FUSE_INIT, Errno.EPROTO) with { In = typeof(InitIn), InBytes = 16, OutBytes = Unsafe.SizeOf<InitOut>() },
        Row(FuseOpcode.FUSE_DESTROY, None, PayloadKind.None, None, static (o, in r, w) => w.Reply.Ok()),
        Silent(FuseOpcode.FUSE_INTERRUPT, Of<InterruptIn>(), PayloadKind.None, static (o, in r, w) => o.Interrupt(r)),
        Silent(FuseOpcode.FUSE_FORGET, Of<ForgetIn>(), PayloadKind.None, static (o, in r, w) => Forget(r, w)),
        Silent(FuseOpcode.FUSE_BATCH_FORGET, Of<BatchForgetIn>(), PayloadKind.Data, static (o, in r, w) => BatchForget(r, w)),
        Silent(FuseOpcode.FUSE_NOTIFY_REPLY, None, PayloadKind.Data, static (o, in r, w) => FuseReply.None),

        Row(FuseOpcode.FUSE_LOOKUP, None, PayloadKind.Name, Of<EntryOut>(), static (o, in r, w) => o.Lookup(r, w)),
        Row(FuseOpcode.FUSE_GETATTR, Of<GetAttrIn>(), PayloadKind.None, Of<AttrOut>(), static (o, in r, w) => o.GetAttributes(r, w)),
        Row(FuseOpcode.FUSE_STATX, Of<StatxIn>(), PayloadKind.None, Of<StatxOut>(), static (o, in r, w) => o.Statx(r, w)),
        Row(FuseOpcode.FUSE_ACCESS, Of<AccessIn>(), PayloadKind.None, None, static (o, in r, w) => o.Access(r, w)),
        Row(FuseOpcode.FUSE_READLINK, None, PayloadKind.None, Any, static (o, in r, w) => ReadLink(r, w)),
        Row(FuseOpcode.FUSE_STATFS, None, PayloadKind.None, Of<StatfsOut>(), static (o, in r, w) => o.StatFileSystem(w)),
        Row(FuseOpcode.FUSE_GETXATTR, Of<GetXattrIn>(), PayloadKind.AttributeName, Any, static (o, in r, w) => o.GetExtendedAttribute(r, w)),
        Row(FuseOpcode.FUSE_LISTXATTR, Of<GetXattrIn>(), PayloadKind.None, Any, static (o, in r, w) => o.ListExtendedAttributes(r, w)),

        Row(FuseOpcode.FUSE_OPEN, Of<OpenIn>(), PayloadKind.None, Of<OpenOut>(), static (o, in r, w) => o.Open(r, w)),
        Row(FuseOpcode.FUSE_READ, Of<ReadIn>(), PayloadKind.None, Any, static (o, in r, w) => o.Read(r, w)),
        Row(FuseOpcode.FUSE_WRITE, Of<WriteIn>(), PayloadKind.Data, Of<WriteOut>(), static (o, in r, w) => o.Write(r, w)),
        Row(FuseOpcode.FUSE_FALLOCATE, Of<FallocateIn>(), PayloadKind.None, None, static (o, in r, w) => o.Fallocate(r, w)),
        Row(FuseOpcode.FUSE_RELEASE, Of<ReleaseIn>(), PayloadKind.None, None, static (o, in r, w) => o.Release(r, w)),

        // Data is in the memory, and on a non-coherent device written back and fenced, before its WRITE is answered;
        // dirty pages of a mapping come as WRITE before these requests are sent. So there is nothing to do for any of
        // them, and ENOSYS makes the kernel succeed without asking again.
        Refuse(FuseOpcode.FUSE_FLUSH, Errno.ENOSYS, Of<FlushIn>()),
        Refuse(FuseOpcode.FUSE_FSYNC, Errno.ENOSYS, Of<FsyncIn>()),
        Refuse(FuseOpcode.FUSE_FSYNCDIR, Errno.ENOSYS, Of<FsyncIn>()),

        Row(FuseOpcode.FUSE_OPENDIR, Of<OpenIn>(), PayloadKind.None, Of<OpenOut>(), static (o, in r, w) => o.OpenDirectory(r, w)),
        Row(FuseOpcode.FUSE_READDIR, Of<ReadIn>(), PayloadKind.None, Any, static (o, in r, w) => o.ReadDirectory(r, w, plus: false)),
        Row(FuseOpcode.FUSE_READDIRPLUS, Of<ReadIn>(), PayloadKind.None, Any, static (o, in r, w) => o.ReadDirectory(r, w, plus: true)),
        Row(FuseOpcode.FUSE_RELEASEDIR, Of<ReleaseIn>(), PayloadKind.None, None, static (o, in r, w) => o.ReleaseDirectory(r, w)),

        // The namespace is changed by the master, so these go through the port (IMutations).
        Row(FuseOpcode.FUSE_SETATTR, Of<SetAttrIn>(), PayloadKind.None, Of<AttrOut>(), static (o, in r, w) => o.SetAttributes(r, w)),
        Row(FuseOpcode.FUSE_MKDIR, Of<MakeDirectoryIn>(), PayloadKind.Name, Of<EntryOut>(), static (o, in r, w) => o.MakeDirectory(r, w)),
        Row(FuseOpcode.FUSE_SYMLINK, None, PayloadKind.NameAndTarget, Of<EntryOut>(), static (o, in r, w) => o.MakeSymlink(r, w)),
        Row(FuseOpcode.FUSE_CREATE, Of<CreateIn>(), PayloadKind.Name, Of<CreateOut>(), static (o, in r, w) => o.CreateFile(r, w)),
        Row(FuseOpcode.FUSE_UNLINK, None, PayloadKind.Name, None, static (o, in r, w) => o.Unlink(r, w)),
        Row(FuseOpcode.FUSE_RMDIR, None, PayloadKind.Name, None, static (o, in r, w) => o.RemoveDirectory(r, w)),
        Row(FuseOpcode.FUSE_RENAME, Of<RenameIn>(), PayloadKind.TwoNames, None, static (o, in r, w) => o.Rename(r, r.Fixed<RenameIn>().NewParent, 0, w)),
        Row(FuseOpcode.FUSE_RENAME2, Of<Rename2In>(), PayloadKind.TwoNames, None, static (o, in r, w) => o.Rename(r, r.Fixed<Rename2In>().NewParent, r.Fixed<Rename2In>().Flags, w)),
        Row(FuseOpcode.FUSE_SETXATTR, Of<SetXattrIn>(), PayloadKind.AttributeNameAndValue, None, static (o, in r, w) => o.SetExtendedAttribute(r, w)),
        Row(FuseOpcode.FUSE_REMOVEXATTR, None, PayloadKind.AttributeName, None, static (o, in r, w) => o.RemoveExtendedAttribute(r, w)),

        // There are no device nodes and no hard links.
        Refuse(FuseOpcode.FUSE_MKNOD, Errno.EPERM),
        Refuse(FuseOpcode.FUSE_LINK, Errno.EPERM),

        // The kernel has a good fallback of its own and does not ask again.
        Refuse(FuseOpcode.FUSE_POLL, Errno.ENOSYS),
        Refuse(FuseOpcode.FUSE_LSEEK, Errno.ENOSYS),
        Refuse(FuseOpcode.FUSE_COPY_FILE_RANGE, Errno.ENOSYS),
        Refuse(FuseOpcode.FUSE_COPY_FILE_RANGE_64, Errno.ENOSYS),
        Refuse(FuseOpcode.FUSE_TMPFILE, Errno.ENOSYS),
        Refuse(FuseOpcode.FUSE_SYNCFS, Errno.ENOSYS),

        // Only sent when asked for at INIT, or to block-device file systems; ENOTTY is what ioctl(2) says.
        Refuse(FuseOpcode.FUSE_IOCTL, Errno.ENOTTY),

        // Only sent when locks are refused (DialectWish.RefusesLocks); else the kernel keeps them, for this host alone.
        Refuse(FuseOpcode.FUSE_GETLK, Errno.ENOLCK, Of<LockIn>()),
        Row(FuseOpcode.FUSE_SETLK, Of<LockIn>(), PayloadKind.None, None, static (o, in r, w) => SetLock(r, w)),
        Row(FuseOpcode.FUSE_SETLKW, Of<LockIn>(), PayloadKind.None, None, static (o, in r, w) => SetLock(r, w)),
        Refuse(FuseOpcode.FUSE_BMAP, Errno.ENOSYS),
        Refuse(FuseOpcode.FUSE_SETUPMAPPING, Errno.ENOSYS),
        Refuse(FuseOpcode.FUSE_REMOVEMAPPING, Errno.ENOSYS),
    ];

    // A struct of the interface, or nothing, or (of a reply) as many bytes as there are.
    private readonly record struct Part(Type? Struct, int? Bytes);

    private static Part None => new(null, 0);

    private static Part Any => new(null, null);

    private static Part Of<T>()
        where T : unmanaged => new(typeof(T), Unsafe.SizeOf<T>());

    private static RequestRow Row(FuseOpcode opcode, Part input, PayloadKind payload, Part output, RequestHandler handler) =>
        Row((uint)opcode, NameOf(opcode), input, payload, output, handler);

    private static RequestRow Row(uint opcode, string name, Part input, PayloadKind payload, Part output, RequestHandler handler) =>
        new(opcode, name, input.Struct, input.Bytes!.Value, payload, output.Bytes, Replies: true, handler, Errno.None);

    private static RequestRow Silent(FuseOpcode opcode, Part input, PayloadKind payload, RequestHandler handler) =>
        Row(opcode, input, payload, None, handler) with { Replies = false };

    private static RequestRow Refuse(FuseOpcode opcode, Errno errno) =>
        Row(opcode, None, PayloadKind.Data, None, (o, in r, w) => errno) with { Refusal = errno };

    private static RequestRow Refuse(FuseOpcode opcode, Errno errno, Part input) =>
        Row(opcode, input, PayloadKind.None, None, (o, in r, w) => errno) with { Refusal = errno };

    private static string NameOf(FuseOpcode opcode) => opcode.ToString()["FUSE_".Length..];
}
