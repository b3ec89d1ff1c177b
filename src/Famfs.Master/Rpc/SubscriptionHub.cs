using System.Diagnostics.CodeAnalysis;
using System.Threading.Channels;
using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Master.Engine;
using Famfs.Master.State;
using Famfs.V1;
using Google.Protobuf;

namespace Famfs.Master.Rpc;

/// <summary>
/// Hands published and checked records to the subscribers. The engine's thread only ever tries to put a
/// block into a bounded queue: a slow host loses its queue, not the others' time, and catches up by reading
/// the log (PROTOCOL, subscriber rule 3). Guard: <c>_gate</c>.
/// </summary>
internal sealed class SubscriptionHub(DevicePool pool, LogIndex index, TimeProvider clock) : IRecordFeed
{
    /// <summary>Most bytes that wait for one subscriber (chosen: twice the largest batch).</summary>
    private const long MaxQueuedBytes = 2L * MediaLayout.MaxBatchBytes;

    /// <summary>Most bytes of frames in a message (chosen: a caller that does not read holds twice that, and a few messages more or
    /// less cost nothing).</summary>
    private const int MessageBytes = 256 << 10;

    // How long a stream may have a place without taking a message (chosen: many times what a host needs for one).
    private static readonly TimeSpan s_patience = TimeSpan.FromMilliseconds(250);

    // Streams that are sent what the memory holds. Each has a reader with a buffer.
    private readonly SemaphoreSlim _catchUps = new(CallLimits.CatchUps);

    // Streams that are sent a snapshot. Each has a reader with a buffer until all of it is taken.
    private readonly SemaphoreSlim _snapshots = new(CallLimits.CatchUps);

    private readonly Lock _gate = new();
    private readonly List<Subscription> _live = [];
    private LogPosition _published = new(pool.Primary.FileSystem, pool.Primary.Generation, default, default);
    private long _publishedOffset;
    private Exception? _ended;

    /// <summary>Last record that may be shown. Any thread.</summary>
    public LogPosition Published
    {
        get
        {
            lock (_gate)
                return _published;
        }
    }

    /// <summary>Streams that are up to date now. Any thread.</summary>
    public int LiveCount
    {
        get
        {
            lock (_gate)
                return _live.Count;
        }
    }

    /// <summary>Sets where a recovered log ends.</summary>
    public void Recovered(LogPosition position, long offset)
    {
        lock (_gate)
        {
            _published = position;
            _publishedOffset = offset;
        }
    }

    /// <inheritdoc/>
    public void Publish(RecordBatch batch, LogPosition position, ulong segmentId, long tail)
    {
        lock (_gate)
        {
            index.Add(_published, _publishedOffset);
            if (_live.Count > 0)
            {
                Records whole = new()
                {
                    FirstSequence = _published.Sequence.Value + 1,
                    Generation = position.Generation,
                    SegmentId = segmentId,
                    EndOffset = (ulong)tail,
                    Frames = ByteString.CopyFrom(batch.Frames),
                };
                foreach (Records part in Split(whole))
                {
                    SubscribeReply reply = new() { Records = part };
                    LogPosition end = EndOf(part, position);
                    _live.RemoveAll(subscription => !subscription.TryPush(reply, part.Frames.Length, end));
                }
            }
            _published = position;
            _publishedOffset = tail;
        }
    }

    /// <inheritdoc/>
    public void Entered(LogPosition position, long tail, LogPosition snapshotLast, long snapshotEnd)
    {
        lock (_gate)
        {
            index.Enter(snapshotLast, snapshotEnd);
            _published = position;
            _publishedOffset = tail;
        }
    }

    /// <summary>The master is over; every stream ends. Any thread.</summary>
    public void End(Exception error)
    {
        lock (_gate)
        {
            _ended ??= error;
            foreach (Subscription subscription in _live)
                subscription.Drop();
            _live.Clear();
        }
    }

    /// <summary>Sends records behind <paramref name="from"/> until cancelled or the master ends: from memory
    /// until it is up to date, then as they are published, and again from memory when it was too slow.
    /// <paramref name="takesSnapshot"/>: who has nothing, or needs records that are gone, is sent the newest snapshot; else such a one
    /// gets STALE_GENERATION.</summary>
    public async Task RunAsync(LogPosition from, Func<SubscribeReply, ValueTask> send, CancellationToken cancel, bool takesSnapshot = false)
    {
        LogPosition sent = from;
        if (takesSnapshot && sent.Sequence.Value == 0 && Published.Generation > pool.Primary.Generation)
            sent = await SendSnapshotAsync(send, cancel).ConfigureAwait(false);
        while (true)
        {
            Subscription subscription;
            try
            {
                (subscription, sent) = await CatchUpAsync(sent, send, cancel).ConfigureAwait(false);
            }
            catch (FamfsException error) when (takesSnapshot && error.Reason == ErrorReason.StaleGeneration)
            {
                sent = await SendSnapshotAsync(send, cancel).ConfigureAwait(false);
                continue;
            }
            try
            {
                while (await subscription.Queue.Reader.WaitToReadAsync(cancel).ConfigureAwait(false))
                {
                    while (subscription.TryTake(out SubscribeReply? reply, out int bytes, out LogPosition position))
                    {
                        await send(reply).ConfigureAwait(false);
                        subscription.Sent(bytes);
                        sent = position;
                    }
                }
            }
            finally
            {
                lock (_gate)
                    _live.Remove(subscription);
            }
        }
    }

    /// <summary>Sends what the memory holds until all that is published is sent, and goes live. The reader is gone
    /// afterwards. Who does not take what it is sent gives up its place, and asks for another when it has taken it.</summary>
    private async Task<(Subscription Subscription, LogPosition Sent)> CatchUpAsync(LogPosition sent, Func<SubscribeReply, ValueTask> send, CancellationToken cancel)
    {
        while (true)
        {
            (LogPosition before, long offset) = index.Find(sent.Sequence);
            if (before.Sequence == sent.Sequence)
                RequireSameTerm(sent, before.Term);
            Task? slow;
            await _catchUps.WaitAsync(cancel).ConfigureAwait(false);
            try
            {
                ILogReader reader = pool.Format.OpenReader(pool, clock, wholeAfter: sent.Sequence);
                reader.Resume(before, offset);
                do
                {
                    cancel.ThrowIfCancellationRequested();
                    (sent, slow) = await CatchUpAsync(reader, sent, send, cancel).ConfigureAwait(false);
                    if (slow is null && TryGoLive(sent) is { } subscription)
                        return (subscription, sent);
                    // Its host has read from memory what the engine has not published yet.
                    if (slow is null && sent.Sequence.Value > Published.Sequence.Value)
                        await LookAgainAsync(cancel).ConfigureAwait(false);
                }
                while (slow is null);
            }
            finally
            {
                _catchUps.Release();
            }
            await slow.ConfigureAwait(false);
        }
    }

    private Task LookAgainAsync(CancellationToken cancel) => Task.Delay(LogPolling.LookAgainInterval, clock, cancel);

    /// <summary>Sends the snapshot that the log begins with, whole; gives the position that it stands for. What the master publishes
    /// meanwhile comes after it. A part of it is of no use: who is slow and would need another place for the rest gets OVERLOADED.</summary>
    private async Task<LogPosition> SendSnapshotAsync(Func<SubscribeReply, ValueTask> send, CancellationToken cancel)
    {
        Task? slow = null;
        TimeSpan waited = TimeSpan.Zero;
        await _snapshots.WaitAsync(cancel).ConfigureAwait(false);
        try
        {
            ILogReader reader = pool.Format.OpenReader(pool, clock);
            while (slow is null)
            {
                cancel.ThrowIfCancellationRequested();
                PollVerdict verdict = reader.Poll(out LogBlock block);
                if (verdict == PollVerdict.TakeoverPending)
                    throw new FamfsException(ErrorReason.NotMaster, "another master is taking over");
                if (verdict == PollVerdict.LookAgain)
                {
                    await LookAgainAsync(cancel).ConfigureAwait(false);
                    continue;
                }
                if (verdict != PollVerdict.Records || !block.IsSnapshot)
                    throw new FamfsException(ErrorReason.MediaCorrupt, $"the log in memory ends inside its snapshot, or has none ({verdict} at {reader.Position})");
                // Within it there is no position.
                bool isWhole = reader.Position.Sequence.Value != 0;
                foreach (SnapshotChunk chunk in Split(block, isWhole ? reader.Position : null))
                {
                    Task taken = send(new() { Snapshot = chunk }).AsTask();
                    while (slow is null && !await IsTakenAsync(taken).ConfigureAwait(false))
                    {
                        // While there are places nobody is told to hurry.
                        if ((waited += s_patience) >= CallLimits.Deafness && _snapshots.CurrentCount == 0)
                            slow = taken;
                    }
                    if (slow is not null)
                        break;
                }
                if (isWhole && slow is null)
                    return reader.Position;
            }
        }
        finally
        {
            _snapshots.Release();
        }
        await slow!.ConfigureAwait(false);
        throw new FamfsException(ErrorReason.Overloaded, $"{CallLimits.CatchUps} callers are sent a snapshot, and this one took its parts {CallLimits.Deafness.TotalSeconds} s late") { Limit = CallLimits.CatchUps };
    }

    /// <summary>Whether a message is taken in time. Throws what became of it.</summary>
    private async Task<bool> IsTakenAsync(Task taken)
    {
        try
        {
            await taken.WaitAsync(s_patience, clock).ConfigureAwait(false);
            return true;
        }
        catch (TimeoutException) when (!taken.IsFaulted)
        {
            return taken.IsCompletedSuccessfully;
        }
    }

    /// <summary>Parts of a block of a snapshot, each of whole frames that fit a message; the last one with <paramref name="end"/>.</summary>
    private static IEnumerable<SnapshotChunk> Split(LogBlock block, LogPosition? end)
    {
        int start = 0;
        while (start < block.Frames.Length)
        {
            int length = 0;
            int next;
            while (start + length < block.Frames.Length
                && (length + (next = RecordFrame.ReadVerified(block.Frames.Span[(start + length)..]).PaddedBytes) <= MessageBytes || length == 0))
            {
                length += next;
            }
            bool isLast = end is not null && start + length == block.Frames.Length;
            yield return new()
            {
                Generation = block.Generation,
                SegmentId = block.SegmentId,
                EndOffset = (ulong)(block.EndOffset - (block.Frames.Length - start - length)),
                Frames = ByteString.CopyFrom(block.Frames.Span.Slice(start, length)),
                Last = isLast,
                Position = isLast ? end!.Value.ToMessage() : null,
            };
            start += length;
        }
    }

    private Subscription? TryGoLive(LogPosition sent)
    {
        lock (_gate)
        {
            if (_ended is not null)
                throw new FamfsException(ErrorReason.NotMaster, _ended.Message, _ended);
            if (sent.Sequence != _published.Sequence)
                return null;
            Subscription subscription = new();
            _live.Add(subscription);
            return subscription;
        }
    }

    /// <summary>Sends what the memory holds behind <paramref name="sent"/>, up to what the engine has
    /// published; beyond that the engine's own check has not been made. Ends early with a message that is not taken in time: the
    /// position counts it as sent.</summary>
    private async Task<(LogPosition Sent, Task? Slow)> CatchUpAsync(ILogReader reader, LogPosition sent, Func<SubscribeReply, ValueTask> send, CancellationToken cancel)
    {
        while (sent.Sequence.Value < Published.Sequence.Value)
        {
            PollVerdict verdict = reader.Poll(out LogBlock block);
            if (verdict == PollVerdict.Diverged)
                throw new FamfsException(ErrorReason.StaleGeneration, reader.Divergence.Length > 0 ? reader.Divergence : $"position {sent} is not in this master's history");
            if (verdict == PollVerdict.TakeoverPending)
                throw new FamfsException(ErrorReason.NotMaster, "another master is taking over");
            if (verdict == PollVerdict.LookAgain)
            {
                await LookAgainAsync(cancel).ConfigureAwait(false);
                continue;
            }
            if (verdict is PollVerdict.UpToDate or PollVerdict.TailLost)
                throw new FamfsException(ErrorReason.MediaCorrupt, $"the log in memory ends before {Published}");
            // It stands for nothing that is to be sent.
            if (block.IsSnapshot)
                continue;
            int skip = SkipUpTo(block, sent);
            if (skip == block.Frames.Length)
                continue;
            Records rest = new()
            {
                FirstSequence = Math.Max(block.FirstSequence.Value, sent.Sequence.Value + 1),
                Generation = block.Generation,
                SegmentId = block.SegmentId,
                EndOffset = (ulong)block.EndOffset,
                Frames = ByteString.CopyFrom(block.Frames.Span[skip..]),
            };
            foreach (Records part in Split(rest))
            {
                ValueTask sending = send(new SubscribeReply { Records = part });
                sent = EndOf(part, reader.Position);
                if (sending.IsCompletedSuccessfully)
                    continue;
                Task taken = sending.AsTask();
                if (!await IsTakenAsync(taken).ConfigureAwait(false))
                    return (sent, taken);
            }
        }
        return (sent, null);
    }

    /// <summary>Parts that each fit a message.</summary>
    private IEnumerable<Records> Split(Records whole) => whole.Frames.Length <= MessageBytes ? [whole] : ReplyLimits.Split(whole, pool.Format, MessageBytes);

    /// <summary>Position after the last frame of <paramref name="records"/>.</summary>
    private static LogPosition EndOf(Records records, LogPosition history)
    {
        ReadOnlySpan<byte> frames = records.Frames.Span;
        RecordFrame last;
        do
        {
            last = RecordFrame.ReadVerified(frames);
            frames = frames[last.PaddedBytes..];
        }
        while (frames.Length > 0);
        return history with { Sequence = last.Sequence, Term = last.Term };
    }

    private static int SkipUpTo(LogBlock block, LogPosition sent)
    {
        int skip = 0;
        ReadOnlySpan<byte> frames = block.Frames.Span;
        while (skip < frames.Length)
        {
            RecordFrame frame = RecordFrame.ReadVerified(frames[skip..]);
            if (frame.Sequence.Value > sent.Sequence.Value)
                break;
            if (frame.Sequence == sent.Sequence)
                RequireSameTerm(sent, frame.Term);
            skip += frame.PaddedBytes;
        }
        return skip;
    }

    private static void RequireSameTerm(LogPosition sent, Term term)
    {
        if (sent.Sequence.Value != 0 && sent.Term != term)
            throw new FamfsException(ErrorReason.StaleGeneration, $"position {sent} is not in this master's history: record {sent.Sequence} is of term {term}");
    }

    /// <summary>The queue of one stream that is up to date.</summary>
    private sealed class Subscription
    {
        // Guards taking: the engine's thread empties the queue of a slow host.
        private readonly Lock _taking = new();
        private readonly List<ByteString> _merged = []; // guarded by _taking
        private bool _dropped; // guarded by _taking
        private long _queuedBytes;

        public Channel<(SubscribeReply Reply, int Bytes, LogPosition Position)> Queue { get; } =
            Channel.CreateUnbounded<(SubscribeReply, int, LogPosition)>(new() { SingleReader = false, SingleWriter = true });

        /// <summary>False: too much waits; the queue is closed and its reader catches up from memory.</summary>
        public bool TryPush(SubscribeReply reply, int bytes, LogPosition position)
        {
            if (Interlocked.Add(ref _queuedBytes, bytes) > MaxQueuedBytes)
            {
                Queue.Writer.TryComplete();
                Empty();
                return false;
            }
            return Queue.Writer.TryWrite((reply, bytes, position));
        }

        /// <summary>Everything that waits and can be one message: a host that is busy, or a connection that is, costs fewer of
        /// them. Frames of one segment only, whose id is in their checksums.</summary>
        public bool TryTake([NotNullWhen(true)] out SubscribeReply? reply, out int bytes, out LogPosition position)
        {
            lock (_taking)
                return TryTakeLocked(out reply, out bytes, out position);
        }

        private bool TryTakeLocked([NotNullWhen(true)] out SubscribeReply? reply, out int bytes, out LogPosition position)
        {
            if (_dropped || !Queue.Reader.TryRead(out (SubscribeReply Reply, int Bytes, LogPosition Position) first))
            {
                (reply, bytes, position) = (null, 0, default);
                return false;
            }
            (reply, bytes, position) = first;
            _merged.Clear();
            Records last = reply.Records;
            while (Queue.Reader.TryPeek(out (SubscribeReply Reply, int Bytes, LogPosition Position) next)
                && next.Reply.Records.SegmentId == last.SegmentId && next.Reply.Records.Generation == last.Generation
                && bytes + next.Bytes <= MessageBytes && Queue.Reader.TryRead(out next))
            {
                _merged.Add(next.Reply.Records.Frames);
                bytes += next.Bytes;
                (last, position) = (next.Reply.Records, next.Position);
            }
            if (_merged.Count > 0)
                reply = new() { Records = Merge(first.Reply.Records, last.EndOffset, bytes) };
            return true;
        }

        // What was queued is shared by all subscribers and stays as it is.
        private Records Merge(Records first, ulong endOffset, int bytes)
        {
            byte[] frames = new byte[bytes];
            first.Frames.CopyTo(frames, 0);
            int at = first.Frames.Length;
            foreach (ByteString more in _merged)
            {
                more.CopyTo(frames, at);
                at += more.Length;
            }
            return new()
            {
                FirstSequence = first.FirstSequence,
                Generation = first.Generation,
                SegmentId = first.SegmentId,
                EndOffset = endOffset,
                Frames = UnsafeByteOperations.UnsafeWrap(frames),
            };
        }

        // What waits for somebody who takes nothing is memory; it is in the log. Nothing that comes later may follow what was taken.
        private void Empty()
        {
            lock (_taking)
            {
                _dropped = true;
                while (Queue.Reader.TryRead(out _))
                {
                }
            }
        }

        public void Sent(int bytes) => Interlocked.Add(ref _queuedBytes, -bytes);

        public void Drop() => Queue.Writer.TryComplete();
    }
}
