using Famfs.Fuse.Operations;
using Famfs.Fuse.Protocol;

namespace Famfs.Fuse.Session;

/// <summary>Reads a request, has it answered, sends the reply, and so on. One thread. It waits for nothing but the
/// kernel: never for the master, never for a notification (SAFETY S21, S22).</summary>
public sealed class FuseWorker(RequestReader reader, FuseOperations operations, ReplyWriter writer, WorkerState state)
{
    /// <summary>What this worker has done.</summary>
    public WorkerCounters Counters => state.Counters;

    /// <summary>Error number of a reader that broke.</summary>
    public Errno ReadError => reader.LastError;

    /// <summary>One turn.</summary>
    public ReadOutcome Step()
    {
        ReadOutcome outcome = reader.Read(out FuseRequest request, out ParseVerdict verdict);
        if (outcome != ReadOutcome.Message)
            return outcome;
        state.Counters.Requests++;
        if (verdict == ParseVerdict.NoHeader)
        {
            state.Counters.Rejected++;
            return outcome;
        }
        writer.Send(request, Answer(request, verdict), state);
        return outcome;
    }

    private FuseReply Answer(in FuseRequest request, ParseVerdict verdict)
    {
        switch (verdict)
        {
            case ParseVerdict.Ok:
                break;
            case ParseVerdict.UnknownOpcode:
                return Errno.ENOSYS;
            case ParseVerdict.WrongLength:
                state.Counters.Rejected++;
                return Errno.EIO;
            default:
                if (operations.IsForMaps(request.Header.Opcode))
                    state.Counters.ForeignFmaps++;
                state.Counters.Rejected++;
                return Errno.EINVAL;
        }
        try
        {
            return operations.Handle(request, state);
        }
        catch (Exception exception)
        {
            // A mistake of this server costs one request its answer, not every program the mount.
            state.Fail(exception);
            return Errno.EIO;
        }
    }
}
