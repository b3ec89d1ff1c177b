using System.Net.Sockets;
using Famfs.Core;
using Famfs.Core.Interop;
using Famfs.V1;

namespace Famfs.Client;

/// <summary>Asks the daemon of a mount of this host, which takes it from root and from its own user.</summary>
public static class MountControl
{
    /// <summary>Gives a mount a device of its pool that it lacks; returns the device's index. Errors are
    /// <see cref="FamfsException"/>: those of a device that cannot be opened, WRONG_FILESYSTEM, EXISTS when the mount has it, BAD_REQUEST for
    /// one that the log does not have, NOT_PERMITTED, HOST_GONE when no daemon takes requests for the mount, TIMEOUT.</summary>
    /// <param name="mount">The mount's id.</param>
    /// <param name="path">The device, as the daemon finds it.</param>
    /// <param name="timeout">How long to wait for the answer.</param>
    /// <param name="cancel">Ends the wait; the daemon may carry the request out all the same.</param>
    public static async Task<DeviceIndex> AttachAsync(Guid mount, string path, TimeSpan timeout, CancellationToken cancel = default)
    {
        using CancellationTokenSource over = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        over.CancelAfter(timeout);
        try
        {
            using Socket socket = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
            await socket.ConnectAsync(new UnixDomainSocketEndPoint(MountSocket.AddressOf(mount)), over.Token).ConfigureAwait(false);
            // Whoever has the name now may be somebody else: an ordinary user believes only root and itself.
            if (PeerCredentials.Read(socket).Uid is not 0 and var peer && ProcessOwner.Uid is not 0 and var own && peer != own)
                throw new FamfsException(ErrorReason.NotPermitted, $"the socket of mount {mount} belongs to user {peer}, who is neither root nor you");
            byte[] answer = new byte[MountSocket.MaxBytes];
            int length = 0;
            SocketException? broken = null;
            try
            {
                await socket.SendAsync(MountSocket.FormatAttach(Path.GetFullPath(path)), over.Token).ConfigureAwait(false);
                socket.Shutdown(SocketShutdown.Send);
            }
            catch (SocketException error)
            {
                broken = error; // a caller that is refused is not listened to; the answer is there
            }
            try
            {
                while (length < answer.Length && await socket.ReceiveAsync(answer.AsMemory(length), over.Token).ConfigureAwait(false) is > 0 and int more)
                    length += more;
            }
            catch (SocketException) when (length > 0)
            {
                // What was not listened to ends the connection in this way.
            }
            return length > 0 || broken is null ? MountSocket.ParseAnswer(answer.AsSpan(0, length), path) : throw broken;
        }
        catch (OperationCanceledException) when (!cancel.IsCancellationRequested)
        {
            throw new FamfsException(ErrorReason.Timeout, $"{path}: the daemon of mount {mount} did not answer within {timeout.TotalSeconds:0.###} s; it may attach the device all the same") { Path = path };
        }
        catch (SocketException error)
        {
            throw new FamfsException(ErrorReason.HostGone, $"the daemon of mount {mount} takes no requests: {error.Message}; it has ended, is of an older version, or is in another network namespace", error);
        }
    }
}
