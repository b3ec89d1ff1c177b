using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Famfs.Fuse.Protocol;

/// <summary>Packs messages to the kernel that answer no request: <see cref="OutHeader"/> with unique 0 and the
/// code in place of the error, then the body. Each method returns the bytes written.</summary>
public static class Notification
{
    /// <summary>Longest message: DELETE with a name of 255 bytes.</summary>
    public static readonly int MaxBytes = Unsafe.SizeOf<OutHeader>() + Unsafe.SizeOf<NotifyDeleteOut>() + FuseConstants.NAME_MAX + 1;

    /// <summary>Attributes of an inode, and pages from <paramref name="offset"/> on unless it is −1.</summary>
    public static int InvalidateInode(Span<byte> buffer, ulong nodeId, long offset, long lengthBytes) =>
        Write(buffer, FuseConstants.FUSE_NOTIFY_INVAL_INODE, new NotifyInvalInodeOut { NodeId = nodeId, Offset = offset, LengthBytes = lengthBytes }, default, named: false);

    /// <summary>A name in a directory, negative or not.</summary>
    public static int InvalidateEntry(Span<byte> buffer, ulong parent, ReadOnlySpan<byte> name, uint flags = 0) =>
        Write(buffer, FuseConstants.FUSE_NOTIFY_INVAL_ENTRY, new NotifyInvalEntryOut { Parent = parent, NameBytes = (uint)name.Length, Flags = flags }, name, named: true);

    /// <summary>A name that is gone: as <see cref="InvalidateEntry"/>, and watchers are told.</summary>
    public static int Delete(Span<byte> buffer, ulong parent, ulong child, ReadOnlySpan<byte> name) =>
        Write(buffer, FuseConstants.FUSE_NOTIFY_DELETE, new NotifyDeleteOut { Parent = parent, Child = child, NameBytes = (uint)name.Length }, name, named: true);

    /// <summary>The directory of a message that <see cref="InvalidateEntry"/> or <see cref="Delete"/> has made.</summary>
    public static ulong ParentOf(ReadOnlySpan<byte> message) => MemoryMarshal.Read<ulong>(message[Unsafe.SizeOf<OutHeader>()..]);

    /// <summary>Every name, at its next use.</summary>
    public static int IncrementEpoch(Span<byte> buffer)
    {
        var header = new OutHeader { LengthBytes = (uint)Unsafe.SizeOf<OutHeader>(), Error = FuseConstants.FUSE_NOTIFY_INC_EPOCH };
        MemoryMarshal.Write(buffer, in header);
        return Unsafe.SizeOf<OutHeader>();
    }

    /// <summary>Every request that was read and not answered is to be sent again.</summary>
    public static int Resend(Span<byte> buffer)
    {
        var header = new OutHeader { LengthBytes = (uint)Unsafe.SizeOf<OutHeader>(), Error = FuseConstants.FUSE_NOTIFY_RESEND };
        MemoryMarshal.Write(buffer, in header);
        return Unsafe.SizeOf<OutHeader>();
    }

    /// <summary>One inode that is in no use: out of the cache.</summary>
    public static int Prune(Span<byte> buffer, ulong nodeId)
    {
        int length = Write(buffer, FuseConstants.FUSE_NOTIFY_PRUNE, new NotifyPruneOut { Count = 1 }, default, named: false);
        MemoryMarshal.Write(buffer[length..], in nodeId);
        length += sizeof(ulong);
        MemoryMarshal.Write(buffer, in length);
        return length;
    }

    private static int Write<T>(Span<byte> buffer, int code, in T body, ReadOnlySpan<byte> name, bool named)
        where T : unmanaged
    {
        int length = Unsafe.SizeOf<OutHeader>() + Unsafe.SizeOf<T>() + (named ? name.Length + 1 : 0);
        var header = new OutHeader { LengthBytes = (uint)length, Error = code };
        MemoryMarshal.Write(buffer, in header);
        MemoryMarshal.Write(buffer[Unsafe.SizeOf<OutHeader>()..], in body);
        if (named)
        {
            Span<byte> target = buffer.Slice(Unsafe.SizeOf<OutHeader>() + Unsafe.SizeOf<T>(), name.Length + 1);
            name.CopyTo(target);
            target[^1] = 0;
        }
        return length;
    }
}
