using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Famfs.Core;
using Famfs.Core.Namespace;
using Famfs.Fuse.Protocol;

namespace Famfs.Fuse.Operations;

/// <summary>Writes the body of a pending reply from the tree; gives its bytes, or an error.</summary>
internal delegate Errno PendingBodyWriter(PendingBody body, InodeNumber inode, in TreeScope scope, Span<byte> target, out int bytes);

/// <summary>
/// The requests of one session that are answered later than they were read, so that no worker waits for the master
/// (SAFETY S22). At most <see cref="Limit"/> at a time; beyond that a program gets EAGAIN, and its change is not begun.
/// <para>The table holds the replies weakly: the one who answers holds them. So what is lost is found by the collector, and
/// answered EIO. A request that is answered at once never comes here, and allocates nothing.</para>
/// <para>Locks: <c>_gate</c> for the table, held for a few instructions; <c>_sending</c> while an answer is made and sent,
/// which does not wait for anything. They are never held together, nor while an <see cref="IMutation"/> is called. Who
/// applies records may answer from there (<c>Replica._applying</c> → either).</para>
/// </summary>
public sealed class PendingReplies
{
    /// <summary>Most requests that wait at a time. Chosen: each is a program's thread in a call of its own.</summary>
    public const int Limit = 1024;

    // Chosen. The kernel says INTERRUPT once, and another worker may read it before the request's own worker has put the
    // request here. Beyond this many others in between, the program waits for the change to end.
    private const int EarlyLimit = 64;

    private static readonly int HeaderBytes = Unsafe.SizeOf<OutHeader>();

    private readonly InodeTree _tree;
    private readonly PendingBodyWriter _writeBody;
    private readonly FailureSlot _lastFailure;

    private readonly Lock _gate = new(); // guards the block below
    private readonly Dictionary<ulong, WeakReference<PendingReply>> _pending = [];
    private readonly ulong[] _early = new ulong[EarlyLimit]; // uniques of INTERRUPTs that found nothing; the oldest is overwritten
    private int _nextEarly;
    private bool _ended;

    private readonly Lock _sending = new(); // guards the block below
    private readonly byte[] _message = GC.AllocateArray<byte>(HeaderBytes + Unsafe.SizeOf<CreateOut>(), pinned: true);
    private TreeReader? _reader;
    private bool _closed;
    private long _errors;
    private long _failures;

    internal PendingReplies(InodeTree tree, PendingBodyWriter writeBody, FailureSlot lastFailure)
    {
        _lastFailure = lastFailure;
        _tree = tree;
        _writeBody = writeBody;
    }

    /// <summary>Requests that wait now.</summary>
    public int Count
    {
        get
        {
            lock (_gate)
                return _pending.Count;
        }
    }

    /// <summary>Late answers that were errors.</summary>
    public long Errors => Volatile.Read(ref _errors);

    /// <summary>Requests whose answer was lost, or could not be made or sent.</summary>
    public long Failures => Volatile.Read(ref _failures);

    /// <summary>Begins a change whose reply is owed from now on. On a worker.</summary>
    internal FuseReply Begin(in FuseRequest request, PendingBody body, IMutation mutation, WorkerState worker)
    {
        PendingReply? reply = Take(request, body, mutation, worker, out Errno refusal);
        if (reply is null)
            return refusal;
        try
        {
            mutation.Begin(reply);
        }
        catch (Exception exception)
        {
            worker.Fail(exception);
            _ = reply.Fail(Errno.EIO); // false: it has been answered
            return FuseReply.Later;
        }
        bool interrupted, abandoned;
        lock (_gate)
        {
            reply.Begun = true;
            abandoned = reply.AbandonedEarly;
            interrupted = reply.InterruptedEarly && _pending.ContainsKey(reply.Unique);
        }
        if (abandoned)
            mutation.Abandon();
        else if (interrupted)
            Interrupt(reply);
        return FuseReply.Later;
    }

    /// <summary>INTERRUPT of the request of that name, which may be answered, about to be put here, or here. On a worker.</summary>
    internal void Interrupt(ulong unique)
    {
        PendingReply? reply;
        lock (_gate)
        {
            if (!_pending.TryGetValue(unique, out WeakReference<PendingReply>? held) || !held.TryGetTarget(out reply))
            {
                _early[_nextEarly] = unique;
                _nextEarly = (_nextEarly + 1) % EarlyLimit;
                return;
            }
            if (!reply.Begun)
            {
                reply.InterruptedEarly = true;
                return;
            }
        }
        Interrupt(reply);
    }

    /// <summary>Nothing waits any longer: every program that does gets ECONNABORTED, which is also what the kernel says when
    /// a connection ends, its change is told, and no change is begun any more. Any thread, more than once.</summary>
    internal void End()
    {
        List<PendingReply> ended = [];
        List<IMutation> told = [];
        lock (_gate)
        {
            _ended = true;
            foreach (WeakReference<PendingReply> held in _pending.Values)
            {
                if (!held.TryGetTarget(out PendingReply? reply))
                    continue; // lost: its finalizer is about to answer it
                ended.Add(reply);
                if (reply.Begun)
                    told.Add(reply.Mutation);
                else
                    reply.AbandonedEarly = true;
            }
            foreach (PendingReply reply in ended)
                _pending.Remove(reply.Unique);
        }
        foreach (PendingReply reply in ended)
            Send(reply, Errno.ECONNABORTED, default);
        foreach (IMutation mutation in told)
            mutation.Abandon();
    }

    /// <summary>After <see cref="End"/>: nothing is sent any more, because the transports are about to be closed.</summary>
    internal void Close()
    {
        lock (_sending)
        {
            _closed = true;
            _reader?.Dispose();
            _reader = null;
        }
    }

    internal bool Answer(PendingReply reply, Errno errno, InodeNumber made)
    {
        if (!TryRemove(reply))
            return false;
        Send(reply, errno, made);
        return true;
    }

    // On the finalizer's thread.
    internal void Drop(PendingReply reply)
    {
        if (!TryRemove(reply))
            return;
        Send(reply, Errno.EIO, default);
        lock (_sending)
            Failed(new InvalidOperationException($"the answer to {reply.Name} was lost"));
    }

    private PendingReply? Take(in FuseRequest request, PendingBody body, IMutation mutation, WorkerState worker, out Errno refusal)
    {
        ulong unique = request.Header.Unique;
        lock (_gate)
        {
            refusal = _ended ? Errno.ECONNABORTED : _pending.Count >= Limit ? Errno.EAGAIN : Errno.None;
            if (refusal != Errno.None)
                return null;
            var reply = new PendingReply(this, worker.Sink, request.Header, body, request.Row!.Name, mutation)
            {
                InterruptedEarly = _early.AsSpan().Contains(unique),
            };
            _pending[unique] = new WeakReference<PendingReply>(reply);
            return reply;
        }
    }

    private void Interrupt(PendingReply reply)
    {
        if (reply.Mutation.TryWithdraw())
            _ = Answer(reply, Errno.EINTR, default); // false: it ended by itself meanwhile
    }

    // Whoever removes it answers it.
    private bool TryRemove(PendingReply reply)
    {
        lock (_gate)
        {
            if (!_pending.Remove(reply.Unique))
                return false;
        }
        GC.SuppressFinalize(reply);
        return true;
    }

    private void Send(PendingReply reply, Errno errno, InodeNumber made)
    {
        lock (_sending)
        {
            if (_closed)
                return;
            int bodyBytes = 0;
            try
            {
                if (errno == Errno.None && reply.Body != PendingBody.None)
                {
                    _reader ??= _tree.RegisterReader();
                    using TreeScope scope = _reader.Enter();
                    InodeNumber inode = reply.Body == PendingBody.Attributes ? reply.Node : made;
                    errno = _writeBody(reply.Body, inode, scope, _message.AsSpan(HeaderBytes), out bodyBytes);
                }
            }
            catch (Exception exception)
            {
                // As in a worker: a mistake of this server costs one request its answer.
                Failed(exception);
                errno = Errno.EIO;
            }
            if (errno != Errno.None)
            {
                bodyBytes = 0;
                Volatile.Write(ref _errors, _errors + 1);
            }
            var header = new OutHeader { LengthBytes = (uint)(HeaderBytes + bodyBytes), Error = -(int)errno, Unique = reply.Unique };
            MemoryMarshal.Write(_message, in header);
            int count = reply.Sink.SendLate(_message.AsSpan(0, HeaderBytes + bodyBytes));

            // As for any reply: withdrawn meanwhile, or the connection is over.
            if (count < 0 && (Errno)(-count) is not (Errno.ENOENT or Errno.ENODEV or Errno.ECONNABORTED))
                Failed(new IOException($"late reply to {reply.Name}: {(Errno)(-count)}", -count));
        }
    }

    // Under _sending.
    private void Failed(Exception exception)
    {
        Volatile.Write(ref _failures, _failures + 1);
        _lastFailure.Set(exception);
    }
}
