using System.Net.Sockets;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Famfs.Core.Interop;

/// <summary>Messages over a unix socket that carry open files (SCM_RIGHTS of unix(7)). What is sent stays open here; what comes is
/// closed by whoever it is given to. No call waits longer than the socket's own time-outs.</summary>
public static unsafe partial class DescriptorSocket
{
    /// <summary>Most files of one message: SCM_MAX_FD of the kernel.</summary>
    public const int MaxDescriptors = 253;

    private const string Library = "libc";

    // bits/socket.h
    private const int SOL_SOCKET = 1;
    private const int SCM_RIGHTS = 1;
    private const int F_SETFD = 2;
    private const int MSG_CTRUNC = 8;
    private const int MSG_TRUNC = 0x20;
    private const int MSG_DONTWAIT = 0x40;
    private const int MSG_NOSIGNAL = 0x4000;
    private const int MSG_CMSG_CLOEXEC = 0x40000000;

    private static readonly int s_controlBytes = sizeof(ControlHeader) + (MaxDescriptors * sizeof(int)) + sizeof(long);

    /// <summary>Sends one message whole. Throws <see cref="SocketException"/>, also when the peer takes nothing now and
    /// <paramref name="wait"/> is false.</summary>
    /// <param name="socket">A connected socket that keeps messages apart, or a datagram socket that is connected.</param>
    /// <param name="message">At least a byte.</param>
    /// <param name="descriptors">At most <see cref="MaxDescriptors"/>.</param>
    /// <param name="wait">Waits as long as the socket's time-out.</param>
    public static void Send(Socket socket, ReadOnlySpan<byte> message, IReadOnlyList<SafeHandle> descriptors, bool wait = true)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(descriptors.Count, MaxDescriptors);
        ArgumentOutOfRangeException.ThrowIfZero(message.Length);
        byte* control = stackalloc byte[s_controlBytes];
        int length = sizeof(ControlHeader) + (descriptors.Count * sizeof(int));
        *(ControlHeader*)control = new() { Length = (nuint)length, Level = SOL_SOCKET, Type = SCM_RIGHTS };
        int held = 0;
        try
        {
            for (; held < descriptors.Count; held++)
            {
                bool added = false;
                descriptors[held].DangerousAddRef(ref added);
                ((int*)(control + sizeof(ControlHeader)))[held] = (int)descriptors[held].DangerousGetHandle();
            }
            fixed (byte* bytes = message)
            {
                MemoryPiece piece = new((nint)bytes, message.Length);
                MessageHeader header = new() { Pieces = &piece, PieceCount = 1 };
                if (descriptors.Count > 0)
                {
                    header.Control = control;
                    header.ControlBytes = (nuint)((length + sizeof(long) - 1) & -sizeof(long));
                }
                int flags = MSG_NOSIGNAL | (wait ? 0 : MSG_DONTWAIT);
                while (SendMessage((int)socket.Handle, &header, flags) < 0)
                {
                    if (Errno.Last != Errno.EINTR)
                        throw Failure();
                }
            }
        }
        finally
        {
            for (int i = 0; i < held; i++)
                descriptors[i].DangerousRelease();
        }
    }

    /// <summary>Receives one message and the files that came with it; 0 bytes: the peer has closed its side. Throws
    /// <see cref="SocketException"/>, and MessageSize when the message or its files were more than there was room for; no file
    /// is left open then.</summary>
    public static int Receive(Socket socket, Span<byte> message, out SafeFileHandle[] descriptors, bool wait = true)
    {
        byte* control = stackalloc byte[s_controlBytes];
        fixed (byte* bytes = message)
        {
            MemoryPiece piece = new((nint)bytes, message.Length);
            MessageHeader header = new() { Pieces = &piece, PieceCount = 1, Control = control, ControlBytes = (nuint)s_controlBytes };
            nint count;
            while ((count = ReceiveMessage((int)socket.Handle, &header, MSG_CMSG_CLOEXEC | (wait ? 0 : MSG_DONTWAIT))) < 0)
            {
                if (Errno.Last != Errno.EINTR)
                    throw Failure();
            }
            descriptors = Read(control, (int)header.ControlBytes);
            if ((header.Flags & (MSG_CTRUNC | MSG_TRUNC)) == 0)
                return (int)count;
            foreach (SafeFileHandle descriptor in descriptors)
                descriptor.Dispose();
            throw new SocketException((int)SocketError.MessageSize);
        }
    }

    /// <summary>Keeps a file that this process was started with from programs that it starts.</summary>
    public static void CloseOnExec(int descriptor) => _ = Libc.fcntl_int(descriptor, F_SETFD, LibcMap.FD_CLOEXEC); // of a number that is none nothing is kept

    // A message has one list at most; what is of another kind was not asked for.
    private static SafeFileHandle[] Read(byte* control, int length)
    {
        ControlHeader* first = (ControlHeader*)control;
        if (length < sizeof(ControlHeader) || first->Level != SOL_SOCKET || first->Type != SCM_RIGHTS)
            return [];
        int count = ((int)first->Length - sizeof(ControlHeader)) / sizeof(int);
        SafeFileHandle[] descriptors = new SafeFileHandle[count];
        for (int i = 0; i < count; i++)
            descriptors[i] = new SafeFileHandle(((int*)(control + sizeof(ControlHeader)))[i], ownsHandle: true);
        return descriptors;
    }

    private static SocketException Failure()
    {
        int errno = Errno.Last;
        return new((int)(errno == Errno.EAGAIN ? SocketError.TimedOut : SocketError.ConnectionReset), Errno.Describe(errno));
    }

    [LibraryImport(Library, EntryPoint = "sendmsg", SetLastError = true)]
    private static partial nint SendMessage(int socket, MessageHeader* message, int flags);

    [LibraryImport(Library, EntryPoint = "recvmsg", SetLastError = true)]
    private static partial nint ReceiveMessage(int socket, MessageHeader* message, int flags);

    /// <summary>struct cmsghdr of 64-bit Linux, 16 bytes; data follows at once.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct ControlHeader
    {
        /// <summary>cmsg_len, this header included.</summary>
        public nuint Length;

        /// <summary>cmsg_level.</summary>
        public int Level;

        /// <summary>cmsg_type.</summary>
        public int Type;
    }

    /// <summary>struct msghdr of 64-bit Linux, 56 bytes.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct MessageHeader
    {
        /// <summary>msg_name.</summary>
        public void* Name;

        /// <summary>msg_namelen; 4 bytes follow that nobody reads.</summary>
        public ulong NameBytes;

        /// <summary>msg_iov.</summary>
        public MemoryPiece* Pieces;

        /// <summary>msg_iovlen.</summary>
        public nuint PieceCount;

        /// <summary>msg_control.</summary>
        public byte* Control;

        /// <summary>msg_controllen.</summary>
        public nuint ControlBytes;

        /// <summary>msg_flags.</summary>
        public int Flags;
    }
}
