using System.Buffers.Binary;
using System.Net.Sockets;
using System.Runtime.InteropServices;

namespace Famfs.Core.Interop;

/// <summary>Who is at the other end of a unix socket: <c>struct ucred</c> of sys/socket.h, 12 bytes, as the kernel took them when
/// the peer connected.</summary>
/// <param name="Pid">pid; 0 when it is not in this pid namespace.</param>
/// <param name="Uid">uid, the effective one.</param>
/// <param name="Gid">gid, the effective one.</param>
public readonly record struct PeerCredentials(int Pid, uint Uid, uint Gid)
{
    // asm-generic/socket.h, as on x86-64 and arm64
    private const int SOL_SOCKET = 1;
    private const int SO_PEERCRED = 17;
    private const int SO_PEERGROUPS = 59;
    private const int Size = 12;

    // linux/limits.h: a process has at most so many.
    private const int NGROUPS_MAX = 65536;

    // What nearly every process has less than.
    private const int FewGroups = 64;

    /// <summary>Asks the kernel. Throws <see cref="SocketException"/> when it does not say.</summary>
    public static PeerCredentials Read(Socket socket)
    {
        Span<byte> bytes = stackalloc byte[Size];
        int length = socket.GetRawSocketOption(SOL_SOCKET, SO_PEERCRED, bytes);
        if (length != Size)
            throw new SocketException((int)SocketError.ProtocolOption);
        // The kernel's own byte order, which is little-endian on what this runs on.
        return new(
            BinaryPrimitives.ReadInt32LittleEndian(bytes),
            BinaryPrimitives.ReadUInt32LittleEndian(bytes[4..]),
            BinaryPrimitives.ReadUInt32LittleEndian(bytes[8..]));
    }

    /// <summary>Its supplementary groups, as the kernel took them when it connected. Throws <see cref="SocketException"/> when the
    /// kernel does not say.</summary>
    public static uint[] ReadGroups(Socket socket)
    {
        try
        {
            return ReadGroups(socket, FewGroups);
        }
        catch (SocketException)
        {
            // ERANGE: it has more.
            return ReadGroups(socket, NGROUPS_MAX);
        }
    }

    private static uint[] ReadGroups(Socket socket, int most)
    {
        byte[] bytes = new byte[most * sizeof(uint)];
        int length = socket.GetRawSocketOption(SOL_SOCKET, SO_PEERGROUPS, bytes);
        return MemoryMarshal.Cast<byte, uint>(bytes.AsSpan(0, length)).ToArray();
    }
}
