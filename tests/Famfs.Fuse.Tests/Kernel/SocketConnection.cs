using System.Net.Sockets;
using Famfs.Core.Interop;
using Famfs.Fuse.Dialects;
using Famfs.Fuse.Session;
using Errno = Famfs.Fuse.Protocol.Errno;

namespace Famfs.Fuse.Tests.Kernel;

/// <summary>Two ends of a local SOCK_SEQPACKET connection: a message stays a message, as with /dev/fuse.</summary>
internal static class SocketPair
{
    // Chosen: the largest that any user may have by default is less, and the kernel then takes that.
    private const int BufferBytes = 1 << 20;

    public static (Socket Server, Socket Kernel) Make()
    {
        string path = Path.Combine(Path.GetTempPath(), $"famfs-double-{Guid.NewGuid():N}");
        using var listener = NewSocket();
        try
        {
            listener.Bind(new UnixDomainSocketEndPoint(path));
            listener.Listen(1);
            Socket server = NewSocket();
            server.Connect(new UnixDomainSocketEndPoint(path));
            Socket kernel = listener.Accept();
            kernel.SendBufferSize = BufferBytes;
            return (server, kernel);
        }
        finally
        {
            File.Delete(path);
        }
    }

    private static Socket NewSocket() =>
        new(AddressFamily.Unix, SocketType.Seqpacket, ProtocolType.Unspecified) { SendBufferSize = BufferBytes, ReceiveBufferSize = BufferBytes };
}

/// <summary>The daemon's end of one pair.</summary>
internal sealed class SocketTransport(Socket socket, KernelDouble kernel) : IFuseTransport
{
    public int Read(Span<byte> buffer)
    {
        try
        {
            int count = socket.Receive(buffer);
            if (kernel.BreaksReads)
                return -(int)Errno.EIO;
            return count > 0 ? count : -(int)Errno.ENODEV; // the kernel's end is closed: unmounted
        }
        catch (Exception error) when (error is SocketException or ObjectDisposedException)
        {
            return -(int)Errno.ENODEV;
        }
    }

    public unsafe int Write(ReadOnlySpan<byte> head, ReadOnlySpan<MemoryPiece> pieces)
    {
        using var message = new MemoryStream();
        message.Write(head);
        foreach (MemoryPiece piece in pieces)
            message.Write(new ReadOnlySpan<byte>((void*)piece.Address, (int)piece.LengthBytes));
        try
        {
            return socket.Send(message.GetBuffer().AsSpan(0, (int)message.Length));
        }
        catch (Exception error) when (error is SocketException or ObjectDisposedException)
        {
            return -(int)Errno.ENODEV;
        }
    }
}

/// <summary>A connection with a <see cref="KernelDouble"/> instead of a kernel.</summary>
internal sealed class SocketConnection(KernelDouble kernel, bool knowsPushIoctl) : IFuseConnection, IDevicePush
{
    private readonly List<Socket> _sockets = [];

    public IFuseTransport First => field ??= AddTransport();

    public IDevicePush? Push => knowsPushIoctl ? this : null;

    public IFuseTransport AddTransport()
    {
        (Socket server, Socket other) = SocketPair.Make();
        _sockets.Add(server);
        kernel.Attach(other);
        return new SocketTransport(server, kernel);
    }

    Errno IDevicePush.Push(string path, uint index) => kernel.TakePushedDevice(path, index);

    public void Dispose()
    {
        foreach (Socket socket in _sockets)
            socket.Dispose();
    }
}
