using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Famfs.Core;
using Famfs.Core.Namespace;
using Famfs.Fuse.Protocol;

namespace Famfs.Fuse.Operations;

// SETATTR, MKDIR, SYMLINK, CREATE, UNLINK, RMDIR, RENAME, RENAME2, SETXATTR, REMOVEXATTR: what can be said here is said
// here, the rest by the port, which knows the master.
public sealed partial class FuseOperations
{
    // A size that stays is no change, so it is answered; no other is taken.
    private FuseReply SetAttributes(in FuseRequest request, WorkerState worker)
    {
        ref readonly SetAttrIn wish = ref request.Fixed<SetAttrIn>();

        // With a size the kernel sends the times that truncate(2) implies.
        const uint Implied = FuseConstants.FATTR_FH | FuseConstants.FATTR_LOCKOWNER | FuseConstants.FATTR_KILL_SUIDGID
            | FuseConstants.FATTR_SIZE | FuseConstants.FATTR_MTIME | FuseConstants.FATTR_MTIME_NOW | FuseConstants.FATTR_CTIME;
        if ((wish.Valid & FuseConstants.FATTR_SIZE) != 0)
        {
            using TreeScope scope = worker.Reader.Enter();
            if (!TryGetNode(request.NodeId, scope, out InodeAttributes attributes))
                return Errno.ESTALE;
            if (attributes.Kind != InodeKind.File || wish.SizeBytes != attributes.SizeBytes)
                return Errno.EPERM;
            if ((wish.Valid & ~Implied) == 0)
                return worker.Reply.Ok(AttrOf(attributes, scope));
        }
        return IsHidden(request.NodeId)
            ? Errno.EPERM
            : Answer(_mutations.SetAttributes(CallerOf(request), new InodeNumber(request.NodeId), wish), PendingBody.Attributes, request, worker);
    }

    private FuseReply MakeDirectory(in FuseRequest request, WorkerState worker) =>
        RefuseName(request.NodeId, request.Name) is var errno and not Errno.None
            ? errno
            : Answer(_mutations.MakeDirectory(CallerOf(request), new InodeNumber(request.NodeId), request.Name, request.Fixed<MakeDirectoryIn>().Mode), PendingBody.Entry, request, worker);

    private FuseReply MakeSymlink(in FuseRequest request, WorkerState worker) =>
        RefuseName(request.NodeId, request.First) is var errno and not Errno.None
            ? errno
            : Answer(_mutations.MakeSymlink(CallerOf(request), new InodeNumber(request.NodeId), request.First, request.Second), PendingBody.Entry, request, worker);

    private FuseReply CreateFile(in FuseRequest request, WorkerState worker)
    {
        ref readonly CreateIn wish = ref request.Fixed<CreateIn>();
        return RefuseName(request.NodeId, request.Name) is var errno and not Errno.None
            ? errno
            : Answer(_mutations.CreateFile(CallerOf(request), new InodeNumber(request.NodeId), request.Name, wish.Mode, wish.Flags), PendingBody.OpenEntry, request, worker);
    }

    private FuseReply Unlink(in FuseRequest request, WorkerState worker) =>
        RefuseName(request.NodeId, request.Name) is var errno and not Errno.None
            ? errno
            : Answer(_mutations.Unlink(CallerOf(request), new InodeNumber(request.NodeId), request.Name), PendingBody.None, request, worker);

    private FuseReply RemoveDirectory(in FuseRequest request, WorkerState worker) =>
        RefuseName(request.NodeId, request.Name) is var errno and not Errno.None
            ? errno
            : Answer(_mutations.RemoveDirectory(CallerOf(request), new InodeNumber(request.NodeId), request.Name), PendingBody.None, request, worker);

    private FuseReply Rename(in FuseRequest request, ulong newParent, uint flags, WorkerState worker)
    {
        if (RefuseName(request.NodeId, request.First) is var old and not Errno.None)
            return old;
        return RefuseName(newParent, request.Second) is var errno and not Errno.None
            ? errno
            : Answer(_mutations.Rename(CallerOf(request), new InodeNumber(request.NodeId), request.First, new InodeNumber(newParent), request.Second, flags), PendingBody.None, request, worker);
    }

    private FuseReply SetExtendedAttribute(in FuseRequest request, WorkerState worker)
    {
        ref readonly SetXattrIn wish = ref request.Fixed<SetXattrIn>();
        if (wish.SizeBytes != (uint)request.Value.Length)
            return Errno.EINVAL;
        return IsHidden(request.NodeId)
            ? Errno.EPERM
            : Answer(_mutations.SetExtendedAttribute(CallerOf(request), new InodeNumber(request.NodeId), request.First, request.Value, wish.Flags), PendingBody.None, request, worker);
    }

    private FuseReply RemoveExtendedAttribute(in FuseRequest request, WorkerState worker) => IsHidden(request.NodeId)
        ? Errno.EPERM
        : Answer(_mutations.RemoveExtendedAttribute(CallerOf(request), new InodeNumber(request.NodeId), request.Name), PendingBody.None, request, worker);

    private FuseReply Answer(MutationAnswer answer, PendingBody body, in FuseRequest request, WorkerState worker) =>
        answer.Mutation is { } mutation ? Pending.Begin(request, body, mutation, worker)
        : answer.Refusal == Errno.None ? Errno.EIO
        : answer.Refusal;

    // Nothing in a hidden directory is a program's to change, and no name of one.
    private Errno RefuseName(ulong directory, ReadOnlySpan<byte> name) =>
        name.Length > FuseConstants.NAME_MAX ? Errno.ENAMETOOLONG
        : IsHidden(directory) || IsHiddenName(directory, name) ? Errno.EPERM
        : Errno.None;

    private static Caller CallerOf(in FuseRequest request) => new(request.Header.Uid, request.Header.Gid);

    // On the thread that completes the change, which has been applied to the tree. ESTALE when that is gone again: the
    // kernel then looks the path up anew.
    private Errno WritePendingBody(PendingBody body, InodeNumber inode, in TreeScope scope, Span<byte> target, out int bytes)
    {
        bytes = 0;

        // KernelPresence: mark first, then read what is told.
        _presence.Mark(inode);
        if (!TryGetNode(inode.Value, scope, out InodeAttributes attributes) || attributes.Status != InodeStatus.Published)
            return Errno.ESTALE;
        switch (body)
        {
            case PendingBody.Open:
                return _gate.Admit(inode) != OpenVerdict.Open ? Errno.EHOSTDOWN
                    : _isRevoked() ? Errno.ESTALE
                    : Write(new OpenOut { OpenFlags = _fileOpenFlags }, target, out bytes);
            case PendingBody.Attributes:
                return Write(AttrOf(attributes, scope), target, out bytes);
            case PendingBody.Entry:
                return Write(EntryOf(attributes, scope, _cache.AttributesValidSeconds), target, out bytes);
            default:
                if (_gate.Admit(inode) != OpenVerdict.Open)
                    return Errno.EHOSTDOWN;
                if (_isRevoked())
                    return Errno.ESTALE;
                var created = new CreateOut { Entry = EntryOf(attributes, scope, _cache.AttributesValidSeconds), Open = new OpenOut { OpenFlags = _fileOpenFlags } };
                return Write(created, target, out bytes);
        }
    }

    private static Errno Write<T>(in T value, Span<byte> target, out int bytes)
        where T : unmanaged
    {
        MemoryMarshal.Write(target, in value);
        bytes = Unsafe.SizeOf<T>();
        return Errno.None;
    }
}
