using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Famfs.Core.Interop;

namespace Famfs.Fuse.Protocol;

/// <summary>
/// The outcome of one request. A handler must return one, and can get one only from a
/// <see cref="ReplyBuffer"/>, as an error, or by handing the request to a pending reply, so "exactly one reply" is a
/// matter of types; the default value, which a handler returns only by mistake, answers EIO.
/// </summary>
public readonly struct FuseReply
{
    internal enum Kind : byte
    {
        Dropped = 0,
        Error,
        Body,
        Pieces,
        None,
        Later,
    }

    internal FuseReply(Kind outcome, Errno errno = Errno.None, int lengthBytes = 0, int pieceCount = 0)
    {
        Outcome = outcome;
        Errno = errno;
        LengthBytes = lengthBytes;
        PieceCount = pieceCount;
    }

    internal Kind Outcome { get; }

    /// <summary>The error, <see cref="Protocol.Errno.None"/> on success.</summary>
    public Errno Errno { get; }

    /// <summary>Bytes after the header.</summary>
    public int LengthBytes { get; }

    internal int PieceCount { get; }

    /// <summary>An error and nothing else.</summary>
    public static FuseReply Error(Errno errno)
    {
        Debug.Assert(errno != Errno.None, "success is not an error");
        return new FuseReply(Kind.Error, errno);
    }

    /// <summary>For requests the kernel expects no reply to; for any other it answers EIO.</summary>
    public static FuseReply None => new(Kind.None);

    /// <summary>A pending reply owes the answer; nothing is sent now.</summary>
    internal static FuseReply Later => new(Kind.Later);

    public static implicit operator FuseReply(Errno errno) => Error(errno);
}

/// <summary>
/// Where one worker builds its replies: a header, a body after it, and a list of memory pieces that the
/// kernel copies instead of a body. Allocated once; <see cref="RequireBody"/> may grow it once more.
/// Owned by its worker's thread.
/// </summary>
public sealed class ReplyBuffer
{
    /// <summary>Room for the body before it ever grows. Chosen: the largest xattr value Linux has (64 KiB), and a
    /// listing of some hundred entries.</summary>
    public const int BodyBytes = 64 * 1024;

    private static readonly int HeaderBytes = Unsafe.SizeOf<OutHeader>();
    private readonly MemoryPiece[] _pieces = new MemoryPiece[FuseChannel.MaxPieces];
    private byte[] _message = Allocate(BodyBytes);
    private int _pieceCount;
    private long _pieceBytes;

    /// <summary>The body, after the header.</summary>
    public Span<byte> Body => _message.AsSpan(HeaderBytes);

    /// <summary>The body, at least <paramref name="bytes"/> long: grown on first need and kept.</summary>
    public Span<byte> RequireBody(int bytes)
    {
        if (Body.Length < bytes)
            _message = Allocate(bytes);
        return Body;
    }

    /// <summary>Success without a body.</summary>
    public FuseReply Ok() => Ok(0);

    /// <summary>Success with the first <paramref name="bytes"/> bytes of <see cref="Body"/>.</summary>
    public FuseReply Ok(int bytes)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan((uint)bytes, (uint)Body.Length);
        return new FuseReply(FuseReply.Kind.Body, lengthBytes: bytes);
    }

    /// <summary>Success with a struct as body.</summary>
    public FuseReply Ok<T>(in T body)
        where T : unmanaged
    {
        MemoryMarshal.Write(Body, in body);
        return new FuseReply(FuseReply.Kind.Body, lengthBytes: Unsafe.SizeOf<T>());
    }

    /// <summary>Success with these bytes as body.</summary>
    public FuseReply Ok(ReadOnlySpan<byte> body)
    {
        body.CopyTo(RequireBody(body.Length));
        return Ok(body.Length);
    }

    /// <summary>Starts a list of pieces.</summary>
    public void ClearPieces()
    {
        _pieceCount = 0;
        _pieceBytes = 0;
    }

    /// <summary>Adds a piece; false when there are too many.</summary>
    public bool TryAddPiece(nint address, int lengthBytes)
    {
        if (_pieceCount == _pieces.Length)
            return false;
        _pieces[_pieceCount++] = new MemoryPiece(address, lengthBytes);
        _pieceBytes += lengthBytes;
        return true;
    }

    /// <summary>Success with the pieces as body, copied by the kernel when the reply is sent.</summary>
    public FuseReply OkPieces() =>
        new(FuseReply.Kind.Pieces, lengthBytes: checked((int)_pieceBytes), pieceCount: _pieceCount);

    /// <summary>Writes the header of <paramref name="reply"/> and gives the two parts of the message.</summary>
    internal ReadOnlySpan<byte> Frame(ulong unique, FuseReply reply, out ReadOnlySpan<MemoryPiece> pieces)
    {
        Errno errno = reply.Outcome switch
        {
            FuseReply.Kind.Body or FuseReply.Kind.Pieces => Errno.None,
            FuseReply.Kind.Error when reply.Errno != Errno.None => reply.Errno,
            _ => Errno.EIO,
        };
        int bodyBytes = errno == Errno.None ? reply.LengthBytes : 0;
        var header = new OutHeader { LengthBytes = (uint)(HeaderBytes + bodyBytes), Error = -(int)errno, Unique = unique };
        MemoryMarshal.Write(_message, in header);
        if (reply.Outcome == FuseReply.Kind.Pieces)
        {
            pieces = _pieces.AsSpan(0, reply.PieceCount);
            return _message.AsSpan(0, HeaderBytes);
        }
        pieces = default;
        return _message.AsSpan(0, HeaderBytes + bodyBytes);
    }

    // Pinned, so that handing it to the kernel moves and marks nothing.
    private static byte[] Allocate(int bodyBytes) => GC.AllocateArray<byte>(HeaderBytes + bodyBytes, pinned: true);
}
