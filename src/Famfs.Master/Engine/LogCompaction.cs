using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Namespace;
using Famfs.Master.Changes;
using Famfs.Master.State;
using Famfs.V1;
using Microsoft.Extensions.Logging;

namespace Famfs.Master.Engine;

/// <summary>
/// Compacts the log (docs/decisions/0068-a-compacted-log-is-another-generation.md, 0069): reads it a second time, writes what it
/// comes to as the beginning of another generation, copies the records since, and asks the engine to go on there. All but the last
/// step is done by a thread of its own. Whatever fails before that step leaves the log where it is. To be disposed of before the
/// devices are closed: it reads them.
/// </summary>
internal sealed class LogCompaction : IAsyncDisposable
{
    /// <summary>Bytes of an inode or of a request in a snapshot, about (chosen: a file with a short name and one extent).</summary>
    public const long InodeBytes = 128;

    /// <summary>Bytes that must still fit in the generation when it is entered: the last records, and what the log needs to reserve the
    /// next segment (chosen: a unit has room for it).</summary>
    private const long RoomBytes = (1L << 20) + GenerationSwitch.MarginBytes;

    /// <summary>Most bytes of one space (chosen: as of other segments).</summary>
    public const long LargestSpaceBytes = 64L << 20;

    /// <summary>Records that the engine's thread may be left to copy (chosen: a millisecond).</summary>
    private const ulong FewRecords = 1000;

    /// <summary>How often the switch is tried: in between, more records came than had room.</summary>
    private const int Tries = 5;

    private readonly MasterEngine _engine;
    private readonly ISegmentedLog? _log;
    private readonly DevicePool _pool;
    private readonly TimeProvider _clock;
    private readonly Random _random;
    private readonly Func<IReadOnlyList<string>> _findThoseThatStay;
    private readonly ILogger<LogCompaction> _logger;

    private readonly Lock _gate = new();
    private readonly CancellationTokenSource _over = new();
    private Task<CompactReply>? _running; // guarded by _gate
    private Guid _request; // that of _running; guarded by _gate
    private bool _isOver; // guarded by _gate

    // The engine's thread has the generation, and must not wait for itself.
    private bool _isHandedOver;

    // Reserved to this term for a generation that was never entered. The compacting thread's.
    private readonly List<SegmentSpace> _leftOver = [];

    // Records of the log that were read. The compacting thread's.
    private long _read;

    /// <summary>One for an engine that is not started yet, and stops it before its term ends.</summary>
    /// <param name="engine">The engine.</param>
    /// <param name="log">Its log; null: one that does not grow by segments, which is not compacted.</param>
    /// <param name="pool">The devices.</param>
    /// <param name="clock">The engine's.</param>
    /// <param name="random">For this object alone.</param>
    /// <param name="findThoseThatStay">Names the mounts that would not follow. Any thread.</param>
    /// <param name="logger">Told of each that is done.</param>
    public LogCompaction(MasterEngine engine, ISegmentedLog? log, DevicePool pool, TimeProvider clock, Random random, Func<IReadOnlyList<string>> findThoseThatStay, ILogger<LogCompaction> logger)
    {
        _engine = engine;
        _log = log;
        _pool = pool;
        _clock = clock;
        _random = random;
        _findThoseThatStay = findThoseThatStay;
        _logger = logger;
        engine.StopOthers = Stop;
    }

    /// <summary>The log can be compacted at all.</summary>
    public bool IsPossible => _log is not null && _pool.Format.EntersGenerations;

    /// <summary>Compacts the log, or joins the compaction that is under way. Errors: NOT_SUPPORTED_BY_FORMAT where the format has no
    /// generations, or a mount would not follow; NOT_MASTER when the term is over; NO_SPACE when no device has room for it; LOG_FULL;
    /// MEDIA_CORRUPT when the log, or what was written, cannot be read; OVERLOADED when records come faster than they are copied. Any
    /// thread.</summary>
    /// <param name="request">Id of the request, which gets the same answer as long as it is the last one that was done; none: always
    /// another one.</param>
    public Task<CompactReply> RunAsync(Guid request = default)
    {
        if (!IsPossible)
            throw new FamfsException(ErrorReason.NotSupportedByFormat, $"a compaction of the log: not in the {_pool.Format.Name} format");
        lock (_gate)
        {
            if (_isOver)
                throw new FamfsException(ErrorReason.NotMaster, "the master is stopping");
            bool isRepeated = request != Guid.Empty && request == _request && _running is { IsCompletedSuccessfully: true };
            if (_running is not { IsCompleted: false } && !isRepeated)
            {
                _request = request;
                _running = Task.Factory.StartNew(() => RunAndTell(_log!), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
            }
            return _running!;
        }
    }

    /// <summary>It is told to stop.</summary>
    internal bool IsStopping => _over.IsCancellationRequested;

    /// <summary>Has one end that is under way, which leaves the log where it is, unless it is at its last step. None begins any
    /// more.</summary>
    public void Cancel()
    {
        lock (_gate)
            _isOver = true;
        _over.Cancel();
    }

    /// <summary>As <see cref="Cancel"/>, and waits for its end. The engine must be able to answer it, or have ended.</summary>
    public void Stop()
    {
        Cancel();
        Task? running;
        lock (_gate)
            running = _running;
        // What came of it is its callers'.
        if (running is not null)
            Task.WaitAny(running);
    }

    /// <inheritdoc/>
    public ValueTask DisposeAsync()
    {
        Stop();
        _over.Dispose();
        return default;
    }

    private CompactReply RunAndTell(ISegmentedLog segments)
    {
        try
        {
            CompactReply reply = Run(segments, _over.Token);
            MasterLog.Compacted(_logger, reply.Position.Generation, reply.RecordsBefore, reply.LogBytesBefore, reply.RecordsAfter, reply.LogBytesAfter);
            return reply;
        }
        catch (OperationCanceledException)
        {
            throw new FamfsException(ErrorReason.NotMaster, "the master is stopping");
        }
    }

    private CompactReply Run(ISegmentedLog segments, CancellationToken cancel)
    {
        RequireFollowers();
        _read = 0;
        // After the batch that begins the term.
        LogPosition until = Await(_engine.QueryAsync(Caller.Master, reader => reader.Position));
        ILogReader reader = _pool.Format.OpenReader(_pool, _clock);
        RecentRequests requests = new(_clock);
        List<SegmentSpace> taken = [];
        bool isEntered = false;
        try
        {
            INextGeneration next;
            using (ReplayState state = new(new(_pool.Primary.FileSystem, _pool.Primary.Generation, default, default), MasterState.RandomKey(_random), new Remembered(requests)))
            {
                Read(reader, until.Sequence, cancel, block => state.ApplyFrames(block.Generation, block.Frames.Span));
                long estimate = (state.Tree.InodeCount + requests.Count) * InodeBytes;
                next = segments.BeginGeneration(reader, least => TakeSpace(least, estimate, taken));
                state.WriteSnapshot(next, _engine.Term, requests.Remembered, cancel);
            }
            next.EndSnapshot();
            for (int attempt = 1; ; attempt++)
            {
                // The last time there is room for a whole batch.
                CatchUp(reader, next, attempt == Tries ? MediaLayout.MaxBatchBytes + RoomBytes : RoomBytes, cancel);
                // One may have come meanwhile.
                RequireFollowers();
                GenerationSwitch last = new(next, reader, _clock);
                try
                {
                    Volatile.Write(ref _isHandedOver, true);
                    LogPosition entered = Await(_engine.EnterAsync(last));
                    isEntered = true;
                    // Those of earlier attempts are given back with the other segments that are over.
                    _leftOver.Clear();
                    return new()
                    {
                        Position = entered.ToMessage(),
                        RecordsBefore = (ulong)(_read + last.Copied),
                        LogBytesBefore = (ulong)last.LogBytes.Before,
                        RecordsAfter = (ulong)next.FrameCount,
                        LogBytesAfter = (ulong)last.LogBytes.After,
                        SegmentsFreed = (ulong)last.Freed.Count,
                        SegmentBytesFreed = (ulong)last.Freed.Bytes,
                    };
                }
                catch (FamfsException error) when (error.Reason == ErrorReason.Overloaded && last.Left is not null && attempt < Tries)
                {
                    // More came than had room.
                    Volatile.Write(ref _isHandedOver, false);
                    next.Add(last.Left.Value);
                    _read += last.Copied + last.Left.Value.Count;
                }
            }
        }
        finally
        {
            Volatile.Write(ref _isHandedOver, false);
            if (!isEntered)
                _leftOver.AddRange(taken);
        }
    }

    private void RequireFollowers()
    {
        IReadOnlyList<string> stay = _findThoseThatStay();
        if (stay.Count > 0)
            throw new FamfsException(ErrorReason.NotSupportedByFormat, $"the log is not compacted: {stay[0]}{(stay.Count > 1 ? $", and {stay.Count - 1} more" : "")}; update its daemon, or unmount it");
    }

    /// <summary>Copies records until few are left, and there is room for those.</summary>
    private void CatchUp(ILogReader reader, INextGeneration next, long roomBytes, CancellationToken cancel)
    {
        while (true)
        {
            LogPosition until = Await(_engine.QueryAsync(Caller.Master, state => state.Position));
            ulong behind = until.Sequence.Value - next.Last.Value;
            Read(reader, until.Sequence, cancel, block => next.Add(block));
            // It may take space, which makes another record.
            next.RequireRoom(roomBytes);
            next.Complete();
            if (behind <= FewRecords)
                return;
        }
    }

    private void Read(ILogReader reader, LogSequence until, CancellationToken cancel, Action<LogBlock> take)
    {
        while (reader.Position.Sequence.Value < until.Value)
        {
            cancel.ThrowIfCancellationRequested();
            switch (reader.PollSettled(out LogBlock block))
            {
                case PollVerdict.Records:
                    take(block);
                    _read += block.Count;
                    break;
                case PollVerdict.TakeoverPending:
                    throw new FamfsException(ErrorReason.NotMaster, "another master is taking over");
                case PollVerdict.TailLost:
                    throw new FamfsException(ErrorReason.MediaCorrupt, reader.TailDamage);
                case PollVerdict verdict:
                    throw new FamfsException(ErrorReason.MediaCorrupt, $"the log in memory ends at {reader.Position} ({verdict}), before record {until}");
            }
        }
    }

    // The compacting thread.
    private SegmentSpace TakeSpace(long leastBytes, long estimateBytes, List<SegmentSpace> taken)
    {
        if (Volatile.Read(ref _isHandedOver))
            throw new InvalidOperationException("a generation takes space while it is entered");
        long least = Math.Max(leastBytes, RoomBytes + MediaLayout.SegmentHeaderBytes);
        int left = _leftOver.FindIndex(space => space.LengthBytes >= least);
        SegmentSpace space;
        if (left >= 0)
        {
            space = _leftOver[left];
            _leftOver.RemoveAt(left);
        }
        else
        {
            long wish = Math.Clamp(estimateBytes - taken.Sum(t => t.LengthBytes), least, LargestSpaceBytes);
            space = Await(_engine.RunAsync(new SegmentReservation(least, wish), Caller.Master));
        }
        taken.Add(space);
        return space;
    }

    private static T Await<T>(Task<T> task) => task.GetAwaiter().GetResult();

    /// <summary>Remembers the requests of a replay.</summary>
    private sealed class Remembered(RecentRequests requests) : IReplayObserver
    {
        public void EntryChanged(InodeNumber parent, ReadOnlySpan<byte> name)
        {
        }

        public void InodeChanged(InodeNumber inode)
        {
        }

        public void FileDeleted(InodeNumber inode)
        {
        }

        public void ExtentsTaken(InodeNumber inode, ReadOnlySpan<MapExtent> extents)
        {
        }

        public void ExtentsFreed(InodeNumber inode, ReadOnlySpan<MapExtent> extents)
        {
        }

        public void DeviceAdded(DeviceAdded device)
        {
        }

        public void RequestSeen(in RequestTrace request) => requests.Add(request);

        public void RequestsDropped(long madeMs) => requests.DroppedUpTo(madeMs);
    }
}
