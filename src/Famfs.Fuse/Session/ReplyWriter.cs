using Famfs.Core.Interop;
using Famfs.Fuse.Operations;
using Famfs.Fuse.Protocol;
using Errno = Famfs.Fuse.Protocol.Errno;

namespace Famfs.Fuse.Session;

/// <summary>Sends the one reply of each request: <see cref="Send"/> on its worker's thread, and those that come later on any.</summary>
public sealed class ReplyWriter(IFuseTransport transport) : IReplySink
{
    /// <inheritdoc/>
    public int SendLate(ReadOnlySpan<byte> message) => transport.Write(message, default);

    /// <summary>Sends <paramref name="reply"/> unless the kernel expects none to this request, or another owes it.</summary>
    public void Send(in FuseRequest request, FuseReply reply, WorkerState worker)
    {
        if (!request.Replies || reply.Outcome == FuseReply.Kind.Later)
            return;
        ReadOnlySpan<byte> head = worker.Reply.Frame(request.Header.Unique, reply, out ReadOnlySpan<MemoryPiece> pieces);
        int error = head.Length >= 8 ? -BitConverter.ToInt32(head[4..]) : 0;
        if (error != 0)
            worker.Counters.Errors++;
        if (error == (int)Errno.EPERM)
            worker.Counters.Forbidden++;
        int count = transport.Write(head, pieces);
        if (count >= 0)
            return;
        switch ((Errno)(-count))
        {
            // Withdrawn meanwhile, or the connection is over: nobody waits for this reply.
            case Errno.ENOENT or Errno.ENODEV or Errno.ECONNABORTED:
                return;

            // A page of the device cannot be read. The kernel has then failed the request by itself, unless it
            // had not even found it; a second answer is ENOENT and does no harm.
            case Errno.EFAULT:
                worker.Counters.Faults++;
                break;
            default:
                worker.Fail(new IOException($"reply to {request.Row?.Name}: {(Errno)(-count)}", -count));
                break;
        }
        worker.Counters.Errors++;
        _ = transport.Write(worker.Reply.Frame(request.Header.Unique, Errno.EIO, out _), default); // ENOENT, as said
    }
}
