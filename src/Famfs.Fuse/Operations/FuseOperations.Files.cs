using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Namespace;
using Famfs.Fuse.Protocol;

namespace Famfs.Fuse.Operations;

// OPEN, READ, WRITE, RELEASE, FALLOCATE, SETLK and SETLKW.
public sealed partial class FuseOperations
{
    private FuseReply Open(in FuseRequest request, WorkerState worker)
    {
        // The kernel does it by SETATTR, as long as nobody asks for ATOMIC_O_TRUNC.
        if ((request.Fixed<OpenIn>().Flags & FuseConstants.O_TRUNC) != 0)
            return Errno.EPERM;
        var inode = new InodeNumber(request.NodeId);
        bool own;
        IMutation? awaited = null;
        using (TreeScope scope = worker.Reader.Enter())
        {
            if (_flushDoor?.IsVisited(inode, request.Header.Pid) == true)
                return OpenToFlush(inode, scope, worker);
            // A deleted file keeps its extents until every holder has let go, and may get no new holder (S12).
            if (!TryGetNode(request.NodeId, scope, out InodeAttributes attributes) || attributes.Status != InodeStatus.Published)
                return Errno.ESTALE;
            if (!HasContent(attributes))
                return attributes.Kind == InodeKind.Directory ? Errno.EISDIR : Errno.EINVAL;
            own = attributes.Kind == InodeKind.System;
            if (!own && _isRevoked())
                return _gate.Admit(inode) == OpenVerdict.Open ? Errno.ESTALE : Errno.EHOSTDOWN;
            if (!own && (request.Fixed<OpenIn>().Flags & FuseConstants.O_ACCMODE) != 0 && !_mayWrite())
                return Errno.EROFS;
            if (_dialect.Fmaps is not null && CheckFmap(inode, scope, worker, out _, out _) is { } refusal)
                return refusal;
            if (!own && _openDelay is not null && TryGetMap(request.NodeId, scope, out MapView map))
                awaited = _openDelay.Find(inode, map);
            if (!own && awaited is null && (_openDelay is null || _dialect.Fmaps is null) && !TryRefresh(request.NodeId, scope, worker))
                return Errno.EIO;
        }

        // What the file system has for itself is opened before the gate is: the daemon writes this mount's line through
        // it, and a master registers the host through it.
        if (!own && _gate.Admit(inode) != OpenVerdict.Open)
            return Errno.EHOSTDOWN;
        return awaited is null
            ? worker.Reply.Ok(new OpenOut { OpenFlags = _fileOpenFlags })
            : Pending.Begin(request, PendingBody.Open, awaited, worker);
    }

    // By a thread of the daemon, which closes it before anybody waits for it no longer.
    private FuseReply OpenToFlush(InodeNumber inode, in TreeScope scope, WorkerState worker) =>
        _dialect.Fmaps is not null && CheckFmap(inode, scope, worker, out _, out _) is { } refusal
            ? refusal
            : worker.Reply.Ok(new OpenOut { OpenFlags = _fileOpenFlags });

    // What was another file's before may be in this host's caches.
    private bool TryRefresh(ulong node, in TreeScope scope, WorkerState worker)
    {
        try
        {
            return _reused is null || !TryGetMap(node, scope, out MapView map) || _reused.TryRefresh(map, _devices);
        }
        catch (DeviceFaultException)
        {
            worker.Counters.Faults++;
            return false;
        }
    }

    // A file of a mount that may have none any more. What the file system has for itself the daemon goes on with.
    private bool IsTakenAway(ulong node, in TreeScope scope) =>
        _isRevoked() && node < MediaLayout.FirstPrivateNode && scope.TryGet(new(node), out InodeAttributes attributes) && attributes.Kind == InodeKind.File;

    // The reply's body is the device's memory itself: the kernel copies from the mapping to the reader's pages.
    // All or nothing up to the end of the file, because a short reply means end of file to the page cache.
    private FuseReply Read(in FuseRequest request, WorkerState worker)
    {
        ref readonly ReadIn wish = ref request.Fixed<ReadIn>();
        using TreeScope scope = worker.Reader.Enter();
        if (IsTakenAway(request.NodeId, scope) || !TryGetMap(request.NodeId, scope, out MapView map))
            return Errno.ESTALE;
        if (wish.Offset >= map.SizeBytes)
            return worker.Reply.Ok();
        long offset = (long)wish.Offset;
        int length = (int)Math.Min(Math.Min(wish.SizeBytes, (uint)_maxReadBytes), map.SizeBytes - wish.Offset);

        worker.Reply.ClearPieces();
        for (int done = 0; done < length;)
        {
            if (!TryLocate(map, offset + done, length - done, worker, out DaxDevice? device, out long deviceOffset, out int pieceBytes))
                return Errno.EIO;
            if (!device.TryGetAddress(deviceOffset, pieceBytes, out nint address) || !worker.Reply.TryAddPiece(address, pieceBytes))
                return ReadByCopy(map, offset, length, worker);
            try
            {
                if (!device.Coherent)
                    device.Invalidate(deviceOffset, pieceBytes);
            }
            catch (DeviceFaultException)
            {
                worker.Counters.Faults++;
                return Errno.EIO;
            }
            done += pieceBytes;
        }
        worker.Counters.ReadBytes += length;
        return worker.Reply.OkPieces();
    }

    // For devices without a mapping.
    private FuseReply ReadByCopy(in MapView map, long offset, int length, WorkerState worker)
    {
        Span<byte> body = worker.Reply.RequireBody(length);
        for (int done = 0; done < length;)
        {
            if (!TryLocate(map, offset + done, length - done, worker, out DaxDevice? device, out long deviceOffset, out int pieceBytes))
                return Errno.EIO;
            try
            {
                if (!device.Coherent)
                    device.Invalidate(deviceOffset, pieceBytes);
                device.Read(deviceOffset, body.Slice(done, pieceBytes));
            }
            catch (DeviceFaultException)
            {
                worker.Counters.Faults++;
                return Errno.EIO;
            }
            done += pieceBytes;
        }
        worker.Counters.ReadBytes += length;
        return worker.Reply.Ok(length);
    }

    // Up to the end of the file a write is cut short, as at the end of a block device, and like there a write
    // that starts at the end is ENOSPC: write(2) returning 0 would make many programs try for ever. With
    // O_APPEND every write starts at the end.
    private FuseReply Write(in FuseRequest request, WorkerState worker)
    {
        ref readonly WriteIn wish = ref request.Fixed<WriteIn>();
        ReadOnlySpan<byte> data = request.Payload;
        if (wish.SizeBytes != (uint)data.Length)
            return Errno.EINVAL;
        var inode = new InodeNumber(request.NodeId);
        using TreeScope scope = worker.Reader.Enter();
        if (IsTakenAway(request.NodeId, scope) || !TryGetMap(request.NodeId, scope, out MapView map))
            return Errno.ESTALE;

        // A handle that was open for writing before, or pages of a mapping. The daemon's own line goes on moving.
        if (!_mayWrite() && !(scope.TryGet(inode, out InodeAttributes attributes) && attributes.Kind == InodeKind.System))
            return Errno.EROFS;

        // Changing the mode is the master's business, and a set-uid program may not be changed without.
        if ((wish.WriteFlags & FuseConstants.FUSE_WRITE_KILL_SUIDGID) != 0 && HasPrivilegeBits(inode, scope))
            return Errno.EPERM;
        if (data.IsEmpty)
            return worker.Reply.Ok(new WriteOut());
        if (wish.Offset >= map.SizeBytes)
            return Errno.ENOSPC;
        long offset = (long)wish.Offset;
        int length = (int)Math.Min((ulong)data.Length, map.SizeBytes - wish.Offset);

        try
        {
            for (int done = 0; done < length;)
            {
                if (!TryLocate(map, offset + done, length - done, worker, out DaxDevice? device, out long deviceOffset, out int pieceBytes))
                    return Errno.EIO;
                device.Write(deviceOffset, data.Slice(done, pieceBytes), worker.Requests);
                if (!device.Coherent)
                    device.WriteBack(deviceOffset, pieceBytes);
                device.Fence();
                done += pieceBytes;
            }
        }
        catch (DeviceFaultException)
        {
            worker.Counters.Faults++;
            NoteWritten(inode, scope); // a part of it may be there
            return Errno.EIO;
        }
        worker.Counters.WrittenBytes += length;
        NoteWritten(inode, scope);
        return worker.Reply.Ok(new WriteOut { SizeBytes = (uint)length });
    }

    // After the content has changed: who sees the new time reads the new content. What the daemon has for itself is nobody's file.
    private void NoteWritten(InodeNumber inode, in TreeScope scope)
    {
        if (_written is not null && scope.TryGet(inode, out InodeAttributes attributes) && attributes.Kind == InodeKind.File)
            _written.OnWritten(inode, attributes.ModifyTimeNs);
    }

    private FuseReply Release(in FuseRequest request, WorkerState worker)
    {
        _written?.OnClosed(new(request.NodeId));
        return worker.Reply.Ok();
    }

    private static bool HasPrivilegeBits(InodeNumber inode, in TreeScope scope) =>
        scope.TryGet(inode, out InodeAttributes attributes)
        && ((attributes.Mode & FuseConstants.S_ISUID) != 0
            || (attributes.Mode & (FuseConstants.S_ISGID | FuseConstants.S_IXGRP)) == (FuseConstants.S_ISGID | FuseConstants.S_IXGRP));

    // A lock of one host would protect nothing from the others. To give back one that nobody has is no error.
    private static FuseReply SetLock(in FuseRequest request, WorkerState worker) =>
        request.Fixed<LockIn>().Type == FuseConstants.F_UNLCK ? worker.Reply.Ok() : Errno.ENOLCK;

    // All space inside the size is allocated already; nothing can be given back or added.
    private FuseReply Fallocate(in FuseRequest request, WorkerState worker)
    {
        ref readonly FallocateIn wish = ref request.Fixed<FallocateIn>();
        if ((wish.Mode & ~FuseConstants.FALLOC_FL_KEEP_SIZE) != 0)
            return Errno.EOPNOTSUPP;
        using TreeScope scope = worker.Reader.Enter();
        if (!TryGetMap(request.NodeId, scope, out MapView map))
            return Errno.ESTALE;
        bool inside = wish.Offset <= map.SizeBytes && wish.LengthBytes <= map.SizeBytes - wish.Offset;
        return inside ? worker.Reply.Ok() : Errno.EPERM;
    }

    // Where a byte of the file is, and how many from there on are in one piece, at most `wanted`. False, and
    // counted, when the map leads nowhere on this host.
    private bool TryLocate(
        in MapView map,
        long offset,
        int wanted,
        WorkerState worker,
        [System.Diagnostics.CodeAnalysis.NotNullWhen(true)] out DaxDevice? device,
        out long deviceOffset,
        out int pieceBytes)
    {
        device = null;
        pieceBytes = 0;
        if (!map.TryResolve(offset, out DeviceIndex index, out deviceOffset, out long contiguousBytes) || contiguousBytes <= 0)
        {
            worker.Counters.Faults++;
            return false;
        }
        device = _devices.Resolve(index);
        if (device is null)
        {
            MissedDevices.Mark(index);
            worker.Counters.MissingDevice++;
            return false;
        }
        pieceBytes = (int)Math.Min(wanted, contiguousBytes);
        if (deviceOffset >= 0 && deviceOffset <= device.LengthBytes - pieceBytes)
            return true;
        worker.Counters.Faults++;
        return false;
    }
}
