using System.Diagnostics.CodeAnalysis;
using Famfs.Core;
using Famfs.Core.Log;
using Famfs.Core.Namespace;
using Famfs.Master.Changes;
using Famfs.Master.Queries;
using Famfs.Master.State;
using Famfs.V1;

namespace Famfs.Master.Engine;

/// <summary>
/// THE single writer: one thread drains a queue of operations; what has gathered becomes one append, one
/// flush, one publish, one check; then all of it is answered and brought to the feed. State is nothing but replay(log):
/// each record is applied the moment it is appended, and nothing of it is shown before the check.
/// <para>What operations decide is theirs; where space is zeroed, and who is subscribed, is not known here. Fields are touched by
/// the engine's thread alone, but for the queue and what is marked.</para>
/// </summary>
internal sealed class MasterEngine : IEngine, IAsyncDisposable
{
    /// <summary>Most operations that wait (chosen: 64 Ki × ~1 KiB bounds memory; callers beyond get OVERLOADED).</summary>
    private const int MaxQueued = 65536;

    /// <summary>Most operations of a batch (chosen: bounds the latency of the first).</summary>
    private const int MaxBatchOperations = 4096;

    private static readonly TimeSpan TickInterval = TimeSpan.FromMilliseconds(100);

    /// <summary>After this a batch takes no other operation (chosen: who comes now is answered with the next one, and many files
    /// share the cost of publishing).</summary>
    private static readonly TimeSpan BatchTime = TimeSpan.FromMilliseconds(10);

    private readonly TurnQueue _queue = new(MaxQueued);
    private readonly ILogWriter _writer;
    private readonly IRecordFeed _feed;
    private readonly ISpaceZeroing _zeroing;
    private readonly TimeProvider _clock;
    private readonly RecordBatch _batch = new();
    private readonly ChangeContext _context;
    private readonly SegmentSupply _segments;
    private readonly Thread _thread;
    private readonly TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);

    // Operations of the batch at hand.
    private readonly List<EngineOperation> _inFlight = [];

    // Operations whose space is being zeroed, or that wait for such a one.
    private readonly HashSet<EngineOperation> _aside = [];

    // Operations that go on before any of the queue.
    private readonly Queue<EngineOperation> _resumed = new();

    // Any thread: set once, read by all.
    private volatile Exception? _failure;

    // Takes removed directories apart; null: there is none.
    private ChangeOperation<bool>? _disassembly;

    private ulong _ticks;
    private long _nextTick;

    // The operation that begins the batch at hand: it is completed by the batch or, when that fails, by the end.
    private EngineOperation? _next;

    // Bytes that it needs, when it is there because a batch had no room for it.
    private long _needed;

    /// <summary>Takes over a recovered state; <see cref="Start"/> sets it to work.</summary>
    public MasterEngine(MasterState state, ILogWriter writer, IRecordFeed feed, ISpaceZeroing zeroing, TimeProvider clock, Random random)
    {
        _writer = writer;
        _feed = feed;
        _zeroing = zeroing;
        _clock = clock;
        _context = new(state, _batch, clock, random, writer.Segments);
        _segments = new(writer.Segments, _context);
        _thread = new(Run) { Name = "master-engine", IsBackground = true };
    }

    /// <summary>Ends when the engine stops; faulted when it was deposed or broke.</summary>
    public Task Completion => _ended.Task;

    /// <summary>The term.</summary>
    public Term Term => _writer.Term;

    /// <summary>Stops what else stores to space of this term, and waits for it: before the term ends in order, which proves that nobody
    /// does (SAFETY S8). Set before <see cref="Start"/>; called by the engine's thread when it has answered everything.</summary>
    public Action StopOthers { get; set; } = static () => { };

    /// <summary>Log bytes of this generation. Engine's thread.</summary>
    public long LogBytes => _writer.Tail;

    /// <summary>Segments of this generation. Engine's thread.</summary>
    public int SegmentCount => _writer.Segments?.SegmentCount ?? 1;

    /// <summary>Starts the thread; the first batch announces the term.</summary>
    public void Start(TermStarted announcement)
    {
        Announce(announcement);
        _thread.Start();
    }

    /// <summary>Queues what the first batch announces. For who runs the turns on a thread of his own.</summary>
    internal void Announce(TermStarted announcement)
    {
        announcement.TimeNs = _context.NowNs;
        Enqueue(new ChangeOperation<bool>(new TermStart(announcement), Caller.Master));
    }

    /// <inheritdoc/>
    public Task<T> RunAsync<T>(Change<T> change, Caller caller)
    {
        ChangeOperation<T> operation = new(change, caller);
        Enqueue(operation);
        return operation.Task;
    }

    /// <inheritdoc/>
    public Task<T> QueryAsync<T>(Caller caller, Func<StateReader, T> query)
    {
        QueryOperation<T> operation = new(query, caller);
        Enqueue(operation);
        return operation.Task;
    }

    /// <summary>Queues an operation. Any thread. Throws NOT_MASTER when the engine has ended, OVERLOADED when
    /// the queue is full.</summary>
    public void Enqueue(EngineOperation operation)
    {
        if (_failure is { } failure)
            throw EndedError(failure);
        try
        {
            if (!_queue.TryAdd(operation))
                throw new FamfsException(ErrorReason.Overloaded, $"the master has {MaxQueued} requests waiting") { Limit = MaxQueued };
        }
        catch (InvalidOperationException)
        {
            throw EndedError(_failure ?? Stopping());
        }
    }

    /// <summary>Queues the end of a compaction. The task gives the position of its record; its errors leave the log where it is, but for
    /// NOT_MASTER. Any thread.</summary>
    public Task<LogPosition> EnterAsync(GenerationSwitch change)
    {
        Enqueue(change);
        return change.Task;
    }

    /// <summary>Takes no more: what waits is done, and the term ends. Any thread.</summary>
    internal void Close() => _queue.CompleteAdding();

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        Close();
        if (_thread.ThreadState.HasFlag(ThreadState.Unstarted))
        {
            _context.Dispose();
            _ended.TrySetResult();
        }
        await _ended.Task.ContinueWith(static _ => { }, TaskScheduler.Default).ConfigureAwait(false);
    }

    private static FamfsException EndedError(Exception failure) =>
        new(ErrorReason.NotMaster, $"this is not the master any more: {failure.Message}", failure);

    private static FamfsException Stopping() => new(ErrorReason.NotMaster, "the master is stopping");

    private void Run()
    {
        try
        {
            using (_context)
            {
                while (RunTurn(TickInterval))
                {
                }
                EndInOrder();
            }
            _ended.TrySetResult();
        }
        catch (Exception error)
        {
            Break(error);
        }
    }

    /// <summary>One turn of the engine's thread: a batch, if something comes within <paramref name="patience"/>, and the tick when it is
    /// due. False when nothing is left and nothing more will come.</summary>
    internal bool RunTurn(TimeSpan patience)
    {
        if (_next is null && _queue.IsCompleted)
            return false;
        if (_next is not null || TryTakeNext(out _next, patience))
            RunBatch(_next);
        if (_clock.GetTimestamp() >= _nextTick)
        {
            _writer.Tick(++_ticks);
            _nextTick = _clock.GetTimestamp() + (long)(TickInterval.TotalSeconds * _clock.TimestampFrequency);
        }
        return true;
    }

    /// <summary>Ends the term: nothing is zeroed any more when its end is recorded (SAFETY S8). Engine's thread, after the last turn.</summary>
    internal void EndInOrder()
    {
        EndAside(Stopping());
        StopOthers();
        EndTerm();
    }

    /// <summary>Ends after a turn has failed. Whatever broke it, the memory is the truth and this process is not its master any more.
    /// Engine's thread.</summary>
    internal void Break(Exception error)
    {
        _failure = error;
        _queue.CompleteAdding();
        foreach (EngineOperation operation in _inFlight)
            operation.Complete(EndedError(error));
        _next?.Complete(EndedError(error));
        EndAside(error);
        while (_queue.TryTake(out EngineOperation? left, TimeSpan.Zero))
            left.Complete(EndedError(error));
        _feed.End(error);
        _ended.TrySetException(error);
    }

    /// <summary>Runs one batch that begins with <paramref name="first"/>; an operation that did not fit begins the next one.</summary>
    private void RunBatch(EngineOperation first)
    {
        StartBatch(_needed);
        bool tried = _needed > 0;
        _needed = 0;
        long before = _clock.GetTimestamp();
        long end = before + (long)(BatchTime.TotalSeconds * _clock.TimestampFrequency);
        int turns = 0;
        EngineOperation? next = first;
        while (next is not null)
        {
            _inFlight.Add(next);
            _context.Caller = next.Caller;
            _context.BeginTurn(end);
            Verdict verdict = next.Run(_context);
            long after = _clock.GetTimestamp();
            _queue.Charge(next, _clock.GetElapsedTime(before, after));
            before = after;
            bool isDecided = verdict.Kind is VerdictKind.Done or VerdictKind.Last;
            if (!isDecided)
                _inFlight.RemoveAt(_inFlight.Count - 1); // what it has appended is published with this batch
            if (verdict.Kind == VerdictKind.NextBatch)
            {
                // A batch that holds something makes room by being published; so does a segment in reserve, or one
                // that will be reserved for what is needed.
                if (_batch.Count > 0 || _segments.HasReserve || !tried)
                    _needed = verdict.Bytes;
                else
                    next.GiveUp(_context, new FamfsException(ErrorReason.LogFull, $"the log is full: {verdict.Bytes} bytes are needed and no device has space for another segment"));
                break;
            }
            if (verdict.Kind == VerdictKind.NextTurn)
                _queue.EndTurn(next);
            else if (!isDecided)
                PutAside(next, verdict);
            bool full = ++turns >= MaxBatchOperations || after >= end || verdict.Kind == VerdictKind.Last;
            next = !full && TryTakeNext(out EngineOperation? another, TimeSpan.Zero) ? another : null;
        }
        // Also where this batch fails: then the end completes it.
        _next = _needed > 0 ? next : null;
        EndBatch();
    }

    private bool TryTakeNext([NotNullWhen(true)] out EngineOperation? next, TimeSpan patience)
    {
        if (!_resumed.TryDequeue(out next) && !_queue.TryTake(out next, patience))
            return false;
        if (_aside.Count > 0)
            _aside.Remove(next);
        return true;
    }

    private void PutAside(EngineOperation operation, in Verdict verdict)
    {
        _aside.Add(operation);
        if (verdict.Kind == VerdictKind.Zero)
            _zeroing.Start(verdict.Space!, () => GiveBack(operation));
        else
            verdict.Space!.Over += () => _resumed.Enqueue(operation);
    }

    // A zeroing thread.
    private void GiveBack(EngineOperation operation)
    {
        // Where the queue is closed the engine ends, and completes what is aside.
        _queue.TryReturn(operation);
    }

    private void EndAside(Exception failure)
    {
        _zeroing.Stop();
        foreach (EngineOperation waiting in _aside.Concat(_resumed))
            waiting.Complete(EndedError(failure));
        _aside.Clear();
        _resumed.Clear();
    }

    private void StartBatch(long needed)
    {
        _segments.Advance(needed);
        _context.Begin(Term, _writer.Seed, _segments.RoomBytes, _writer.RemainingRecords, _writer.Tail);
        _segments.ReserveIfNeeded(needed);
    }

    private void EndBatch()
    {
        if (_batch.Count > 0)
        {
            _writer.Publish(_batch);
            _feed.Publish(_batch, _writer.Position, _writer.SegmentId, _writer.Tail);
        }
        else
        {
            _writer.Check();
        }
        // It is the last one, and the others need not wait for it.
        GenerationSwitch? change = _inFlight.Count > 0 && _inFlight[^1] is GenerationSwitch { IsRecorded: true } last ? last : null;
        foreach (EngineOperation operation in _inFlight)
        {
            if (operation != change)
                operation.Complete(null);
        }
        if (change is not null)
        {
            Enter(change);
            change.Complete(null);
        }
        _inFlight.Clear();
        _segments.Confirm();
        TakeSubtreesApart();
    }

    /// <summary>Goes on in another generation of the log, which has every record when the last ones are copied. Where they cannot be, the
    /// log stays where it is.</summary>
    private void Enter(GenerationSwitch change)
    {
        if (!change.TryCatchUp(_writer.Position))
            return;
        List<OwnedSegment> left = [.. _context.State.Replay.Segments.Where(segment => _writer.Segments!.Uses(SpaceOf(segment)))];
        long before = _writer.Tail;
        _writer.Segments!.Enter(change.Next);
        change.LogBytes = (before, _writer.Tail);
        _context.State.Replay.EnterGeneration(change.Next.Generation);
        (LogPosition last, long offset) = change.Next.AfterSnapshot;
        _feed.Entered(_writer.Position, _writer.Tail, last, offset);
        change.Freed = ReleaseSegments(left);
    }

    /// <summary>Deletes segments that the log does not have any more. The first one of each slot stays, which is named by the superblock or
    /// granted with the slot. Of other slots only those go that were in the log, but for the newest: there, or in one that was never used,
    /// their next master has room to begin. Space is given back when no mount reads it and no master of its slot may store to it
    /// (SAFETY S8, S9): <see cref="ZeroingStart"/>.</summary>
    /// <param name="left">Those that were in the log, oldest first.</param>
    private (int Count, long Bytes) ReleaseSegments(List<OwnedSegment> left)
    {
        List<InodeNumber> over = [];
        long bytes = 0;
        foreach (OwnedSegment segment in _context.State.Replay.Segments)
        {
            int place = left.IndexOf(segment);
            bool isNeeded = segment.Slot == Term.Slot
                ? _segments.Holds(SpaceOf(segment))
                : place < 0 || !left.Skip(place + 1).Any(later => later.Slot == segment.Slot);
            if (segment.Term.Value != 0 && !isNeeded && !_writer.Segments!.Uses(SpaceOf(segment)))
            {
                over.Add(segment.Inode);
                bytes += segment.Extent.LengthBytes;
            }
        }
        // Where the queue is closed the engine ends, and they stay until the log is compacted again.
        if (over.Count > 0)
            _queue.TryReturn(new ChangeOperation<int>(new SegmentRelease(over), Caller.Master));
        return (over.Count, bytes);
    }

    private static SegmentSpace SpaceOf(in OwnedSegment segment) => new(segment.Extent.Device, segment.Extent.OffsetBytes, segment.Extent.LengthBytes);

    /// <summary>What was removed with all below it is answered by now; the rest of the work takes turns with other callers'.</summary>
    private void TakeSubtreesApart()
    {
        if (_disassembly is { Task.IsCompleted: true })
            _disassembly = null;
        if (_disassembly is not null || !_context.State.Replay.HasSubtrees)
            return;
        _disassembly = new(new SubtreeDisassembly(), Caller.Master);
        // Where the queue is closed the engine ends, and the next start takes them apart.
        _queue.TryReturn(_disassembly);
    }

    private void EndTerm()
    {
        if (_context.State.Format.HasTerms)
        {
            StartBatch(0);
            TermStart.AppendEnd(_context);
            EndBatch();
        }
        _feed.End(new FamfsException(ErrorReason.NotMaster, "the master has stopped"));
    }
}
