using System.Collections.Concurrent;
using Famfs.Core;
using Famfs.Core.Allocation;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Namespace;
using Famfs.V1;
using Google.Protobuf;

namespace Famfs.Master;

/// <summary>
/// THE single writer: one thread drains a queue of operations; what has gathered becomes one append, one
/// flush, one publish, one check; then all of it is answered and pushed. State is nothing but replay(log):
/// each record is applied the moment it is appended, and nothing of it is shown before the check.
/// <para>Fields of the engine are touched by its thread alone, but for the queue and what is marked.</para>
/// </summary>
internal sealed class MasterEngine : IAsyncDisposable
{
    /// <summary>Most operations that wait (chosen: 64 Ki × ~1 KiB bounds memory; callers beyond get OVERLOADED).</summary>
    private const int MaxQueued = 65536;

    /// <summary>Most operations of a batch (chosen: bounds the latency of the first).</summary>
    private const int MaxBatchOperations = 4096;

    /// <summary>Bytes of a segment that only the records which reserve the next one may use.</summary>
    private const int ReservationMargin = 2 * MediaLayout.MaxRecordBytes;

    /// <summary>Room for a record that adds a device, and the one that reserves a segment there, generously.</summary>
    private const int GrowthBytes = 4096;

    private static readonly TimeSpan TickInterval = TimeSpan.FromMilliseconds(100);

    private readonly BlockingCollection<EngineOperation> _queue = new(MaxQueued);
    private readonly RecoveredState _recovered;
    private readonly ILogWriter _writer;
    private readonly ISegmentedLog? _segments; // null: the log does not grow
    private readonly RecordBatch _batch = new();
    private readonly SubscriptionHub _hub;
    private readonly TimeProvider _clock;
    private readonly Random _random;
    private readonly Thread _thread;
    private readonly TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly List<EngineOperation> _deciding = [];
    private readonly List<MapExtent> _extents = [];

    // Any thread: set once, read by all.
    private volatile Exception? _failure;

    private ulong _ticks;
    private SegmentSpace? _reserved;
    private SegmentSpace? _pendingReservation;
    private TreeReader _reader = null!;

    // Operations that go on before any of the queue.
    private readonly Queue<EngineOperation> _resumed = new();

    // Request ids of operations whose space is being zeroed, and who waits for them.
    private readonly Dictionary<Guid, List<EngineOperation>> _zeroingIds = [];

    private readonly SpaceZeroing _zeroing;
    private EngineOperation? _running;

    // The operation that begins the batch at hand: it is settled by the batch or, when that fails, by the end.
    private EngineOperation? _next;

    /// <summary>Takes over a recovered state; <see cref="Start"/> sets it to work.</summary>
    public MasterEngine(RecoveredState recovered, ILogWriter writer, SubscriptionHub hub, TimeProvider clock, Random random)
    {
        _recovered = recovered;
        _writer = writer;
        _segments = writer.Segments;
        _reserved = _segments?.Spare;
        Format = new(recovered.Pool);
        _hub = hub;
        _clock = clock;
        _random = random;
        _zeroing = new(recovered.Pool, GiveBack);
        _thread = new(Run) { Name = "master-engine", IsBackground = true };
    }

    /// <summary>Ends when the engine stops; faulted when it was deposed or broke.</summary>
    public Task Completion => _ended.Task;

    /// <summary>The replayed state. Engine's thread, but for what it marks.</summary>
    public ReplayState State => _recovered.State;

    /// <summary>Free space. Engine's thread.</summary>
    public ExtentAllocator Allocator => _recovered.Allocator;

    /// <summary>Known request ids. Engine's thread.</summary>
    public RequestWindow Requests => _recovered.Requests;

    /// <summary>The devices.</summary>
    public DevicePool Pool => _recovered.Pool;

    /// <summary>What the media format can express. Any thread.</summary>
    public FormatRules Format { get; }

    /// <summary>The term.</summary>
    public Term Term => _writer.Term;

    /// <summary>Number of the inode that the next record makes. Engine's thread.</summary>
    public InodeNumber NextInode => Format.NextInode(State);

    /// <summary>Position that an operation's own records end at. Engine's thread.</summary>
    public LogPosition Position => State.Position;

    /// <summary>Reader of the tree for the engine's thread.</summary>
    public TreeReader Reader => _reader;

    /// <summary>Time of a record: the clock, nanoseconds since 1970; 0 in a format without times.</summary>
    public long NowNs => Format.HasTimes ? (_clock.GetUtcNow().UtcTicks - DateTime.UnixEpoch.Ticks) * 100 : 0;

    /// <summary>Log bytes of this generation. Engine's thread.</summary>
    public long LogBytes => _writer.Tail;

    /// <summary>Segments of this generation. Engine's thread.</summary>
    public int SegmentCount => _segments?.SegmentCount ?? 1;

    /// <summary>Starts the thread; the first batch announces the term.</summary>
    public void Start(TermStarted announcement)
    {
        _queue.Add(new EngineOperation<bool>(engine =>
        {
            if (Format.HasTerms && CanRecordTerm)
                engine.Append(RecordType.TermStarted, announcement);
            return true;
        }));
        _thread.Start();
    }

    /// <summary>Queues an operation; its task ends when the outcome is settled. Any thread.</summary>
    public Task<T> RunAsync<T>(Func<MasterEngine, T> decide)
    {
        EngineOperation<T> operation = new(decide);
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
            throw EndedError(_failure ?? new FamfsException(ErrorReason.NotMaster, "the master is stopping"));
        }
    }

    /// <summary>Appends a record and applies it. Engine's thread. The payload's size is checked first.</summary>
    public void Append(RecordType type, IMessage payload) => ApplyFrame(_batch.Add(type, payload));

    /// <summary>Ends a record written into <see cref="ReservePayload"/>'s room, and applies it.</summary>
    public void AppendReserved(int payloadBytes, RecordType type) => ApplyFrame(_batch.Commit(payloadBytes, type));

    /// <summary>Room for a payload.</summary>
    public Span<byte> ReservePayload(int maxBytes) => _batch.Reserve(maxBytes);

    /// <summary>Takes space for the file of a request; throws NO_SPACE, BAD_LAYOUT or BAD_SIZE. Gives the chunk, 0 for simple
    /// extents. In a format that promises zeros the operation is put aside first, until they are there: it comes back here
    /// with the same <paramref name="owner"/>. Engine's thread.</summary>
    public long Allocate(in AllocationRequest request, List<MapExtent> extents, object owner, Guid requestId)
    {
        if (!Format.ZeroesNewFiles)
            return Allocator.Allocate(request, _random, extents);
        if (_running!.Space is { } space && ReferenceEquals(space.Owner, owner))
        {
            if (space.Failure is { } failure)
                throw failure;
            extents.AddRange(space.Extents);
            space.Used = true; // the record's from now on
            return space.ChunkBytes;
        }
        Release(_running);
        List<MapExtent> taken = [];
        long chunkBytes = Allocator.Allocate(request, _random, taken);
        throw new NeedsZeroingException(new(owner, requestId, taken, chunkBytes));
    }

    /// <summary>Puts the operation aside while the space of an equal request is zeroed, so that a caller that repeats itself does
    /// not take more and more of it. Engine's thread.</summary>
    public void WaitForEqual(object owner, Guid requestId)
    {
        if (requestId != Guid.Empty && _zeroingIds.ContainsKey(requestId) && !ReferenceEquals(_running!.Space?.Owner, owner))
            throw new NeedsZeroingException(null, requestId);
    }

    /// <summary>Takes one run for the log, on device 0 if it has one: bootstrap then needs no other device.
    /// Else on any device that this host has and, under a dialect floor, every kernel can map: a host that cannot open a
    /// segment cannot follow the log.
    /// Engine's thread.</summary>
    public bool TryAllocateRun(long lengthBytes, out MapExtent extent)
    {
        extent = default;
        uint floor = State.Policy.DialectFloor;
        int reach = floor > 0 && floor <= FmapLimits.All.Count ? FmapLimits.OfFloor(floor)!.MaxDevices : MediaLayout.MaxDevices;
        foreach (IReadOnlyList<DeviceIndex> devices in (ReadOnlySpan<IReadOnlyList<DeviceIndex>>)[[new DeviceIndex(0)], [.. Pool.Present.Where(index => index.Value < reach)]])
        {
            AllocationRequest request = new(lengthBytes) { Kind = LayoutKind.Contiguous, MaxExtents = 1, Devices = devices };
            _extents.Clear();
            if (Allocator.TryAllocate(request, _random, _extents, out _) && _extents.Count == 1)
            {
                extent = _extents[0];
                return true;
            }
        }
        return false;
    }

    /// <summary>Makes sure that <paramref name="records"/> more records of <paramref name="payloadBytes"/> in all
    /// fit; ends in LOG_FULL otherwise. Call before any allocation.</summary>
    public void RequireLogSpace(int records, long payloadBytes)
    {
        RequireRecords(records);
        long needed = payloadBytes + (long)records * RecordBatch.FrameBytes(RecordFrame.Alignment - 1);
        if (needed > SpaceForOperations() - _batch.LengthBytes)
            throw new NeedsNextBatchException(needed);
    }

    /// <summary>As <see cref="RequireLogSpace"/>, for one small record that makes room for more: it may use half of
    /// what others leave alone, so that a full log is no reason against it.</summary>
    public void RequireLogSpaceForGrowth(int payloadBytes)
    {
        RequireRecords(1);
        if (RecordBatch.FrameBytes(payloadBytes) > SpaceForOperations() + MediaLayout.MaxRecordBytes - _batch.LengthBytes)
            throw new NeedsNextBatchException(RecordBatch.FrameBytes(payloadBytes));
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        _queue.CompleteAdding();
        if (_thread.ThreadState.HasFlag(ThreadState.Unstarted))
            _ended.TrySetResult();
        await _ended.Task.ContinueWith(static _ => { }, TaskScheduler.Default).ConfigureAwait(false);
        _queue.Dispose();
    }

    private void RequireRecords(int records)
    {
        if (records > _writer.RemainingRecords - _batch.Count)
            throw new FamfsException(ErrorReason.LogFull, $"the log is full: {records} more entries are needed, it has room for {_writer.RemainingRecords - _batch.Count}") { Limit = (ulong)(_writer.RemainingRecords - _batch.Count) };
    }

    private static FamfsException EndedError(Exception failure) =>
        new(ErrorReason.NotMaster, $"this is not the master any more: {failure.Message}", failure);

    private void Run()
    {
        try
        {
            using (_reader = State.Tree.RegisterReader())
            {
                long nextTick = 0;
                while (!_queue.IsCompleted)
                {
                    if (TryTakeNext(out EngineOperation? first, TickInterval))
                        RunBatches(first);
                    if (_clock.GetTimestamp() >= nextTick)
                    {
                        _writer.Tick(++_ticks);
                        nextTick = _clock.GetTimestamp() + (long)(TickInterval.TotalSeconds * _clock.TimestampFrequency);
                    }
                }
                EndZeroing(new FamfsException(ErrorReason.NotMaster, "the master is stopping"));
                EndTerm();
            }
            _ended.TrySetResult();
        }
        catch (Exception error)
        {
            // Whatever broke the loop, the memory is the truth and this process is not its master any more.
            _failure = error;
            _queue.CompleteAdding();
            foreach (EngineOperation operation in _deciding)
                operation.Settle(EndedError(error));
            _next?.Settle(EndedError(error));
            EndZeroing(error);
            while (_queue.TryTake(out EngineOperation? left))
                left.Settle(EndedError(error));
            _hub.End(error);
            _ended.TrySetException(error);
        }
    }

    private void RunBatches(EngineOperation first)
    {
        long needed = 0;
        _next = first;
        while (_next is not null)
            _next = RunBatch(_next, ref needed);
    }

    /// <summary>Runs one batch that begins with <paramref name="first"/>; gives an operation that must begin the
    /// next one because it did not fit, and the bytes it needs.</summary>
    private EngineOperation? RunBatch(EngineOperation first, ref long needed)
    {
        StartBatch(needed);
        bool tried = needed > 0;
        needed = 0;
        EngineOperation? postponed = null;
        EngineOperation? next = first;
        while (next is not null)
        {
            _deciding.Add(next);
            _running = next;
            try
            {
                next.Run(this);
                Release(next);
            }
            catch (NeedsZeroingException wish)
            {
                // What it has appended is published with this batch; it is answered with one to come.
                _deciding.RemoveAt(_deciding.Count - 1);
                Release(next);
                PutAside(next, wish);
            }
            catch (NeedsNextBatchException more)
            {
                _deciding.RemoveAt(_deciding.Count - 1);
                // A batch that holds something makes room by being published; so does a segment in reserve, or one
                // that will be reserved for what is needed. An operation may also have been decided in part.
                if (_batch.Count > 0 || _reserved is not null || !tried)
                {
                    postponed = next;
                    needed = more.Bytes;
                }
                else
                {
                    Release(next);
                    next.Settle(new FamfsException(ErrorReason.LogFull, $"the log is full: {more.Bytes} bytes are needed and no device has space for another segment"));
                }
                break;
            }
            next = _deciding.Count < MaxBatchOperations && TryTakeNext(out EngineOperation? another, TimeSpan.Zero) ? another : null;
        }
        EndBatch();
        return postponed;
    }

    private bool TryTakeNext([System.Diagnostics.CodeAnalysis.NotNullWhen(true)] out EngineOperation? next, TimeSpan patience) =>
        _resumed.TryDequeue(out next) || _queue.TryTake(out next, patience);

    private void PutAside(EngineOperation operation, NeedsZeroingException wish)
    {
        if (wish.Space is not { } space)
        {
            _zeroingIds[wish.WaitFor].Add(operation);
            return;
        }
        operation.Space = space;
        if (space.RequestId != Guid.Empty)
            _zeroingIds.TryAdd(space.RequestId, []);
        _zeroing.Start(operation);
    }

    /// <summary>The operation has had its turn with the space it came back with: what no record names is free again, and those
    /// who waited for it have theirs.</summary>
    private void Release(EngineOperation operation)
    {
        if (operation.Space is not { } space)
            return;
        operation.Space = null;
        if (!space.Used)
        {
            foreach (MapExtent extent in space.Extents)
                Allocator.Free(extent);
        }
        if (_zeroingIds.Remove(space.RequestId, out List<EngineOperation>? waiting))
            waiting.ForEach(_resumed.Enqueue);
    }

    // A zeroing thread: waits for room in the queue.
    private void GiveBack(EngineOperation operation)
    {
        try
        {
            _queue.Add(operation);
        }
        catch (InvalidOperationException)
        {
            operation.Settle(EndedError(_failure ?? new FamfsException(ErrorReason.NotMaster, "the master is stopping")));
        }
    }

    private void EndZeroing(Exception failure)
    {
        _zeroing.Stop();
        foreach (EngineOperation waiting in _zeroingIds.Values.SelectMany(w => w).Concat(_resumed))
            waiting.Settle(EndedError(failure));
        _zeroingIds.Clear();
        _resumed.Clear();
    }

    private void StartBatch(long needed)
    {
        if (_reserved is { } space && SpaceForOperations() < Math.Max(needed, ReservationMargin))
        {
            _segments!.Advance(space);
            _reserved = null;
        }
        _batch.Start(State.Position.Sequence, Term, _writer.Seed);
        ReserveSegmentIfNeeded(needed);
    }

    private void EndBatch()
    {
        if (_batch.Count > 0)
        {
            _writer.Publish(_batch);
            _hub.Publish(_batch, _writer.Position, _writer.SegmentId, _writer.Tail);
        }
        else
        {
            _writer.Check();
        }
        foreach (EngineOperation operation in _deciding)
            operation.Settle(null);
        _deciding.Clear();
        if (_pendingReservation is { } space)
        {
            // Published and checked: from now on it is this term's to write (SAFETY S7).
            _reserved = space;
            _pendingReservation = null;
        }
    }

    /// <summary>Half way through a segment the next one is reserved, so that one is always there; at once when there is
    /// less than half a unit, because a term may go on in the small rest of an older segment, and the slot must
    /// have room for a next term; and when an operation needs more than is left.</summary>
    private void ReserveSegmentIfNeeded(long needed)
    {
        if (_segments is null || _reserved is not null || _pendingReservation is not null || (_segments.RemainingBytes > Math.Max(_segments.SegmentCapacityBytes, MediaLayout.UnitBytes) / 2 && SpaceForOperations() >= needed))
            return;
        if (needed > MediaLayout.MaxBatchBytes - ReservationMargin)
            return;
        long least = (needed + ReservationMargin + MediaLayout.SegmentHeaderBytes + MediaLayout.UnitBytes - 1) / MediaLayout.UnitBytes * MediaLayout.UnitBytes;
        long length = Math.Max(least, Math.Min(64L << 20, MediaLayout.UnitBytes * (long)Math.Max(1, _segments.SegmentCount)));
        while (length >= least)
        {
            if (TryAllocateRun(length, out MapExtent extent))
            {
                SegmentReserved record = new()
                {
                    TimeNs = NowNs,
                    Inode = State.NextInode.Value,
                    Extent = new() { Device = extent.Device.Value, OffsetBytes = (ulong)extent.OffsetBytes, LengthBytes = (ulong)extent.LengthBytes },
                };
                Append(RecordType.SegmentReserved, record);
                _pendingReservation = new(extent.Device, extent.OffsetBytes, extent.LengthBytes);
                return;
            }
            length = length / 2 / MediaLayout.UnitBytes * MediaLayout.UnitBytes;
        }
    }

    private long RemainingBytes => _segments?.RemainingBytes ?? long.MaxValue;

    private long SpaceForOperations() =>
        Math.Min(MediaLayout.MaxBatchBytes, RemainingBytes) - ReservationMargin;

    /// <summary>Starts and ends of terms are good to know and not needed: in a log that is full they stop where they
    /// would take the room of the record that ends its being full.</summary>
    private bool CanRecordTerm => RemainingBytes - _batch.LengthBytes > MediaLayout.MaxRecordBytes + GrowthBytes;

    private void ApplyFrame(ReadOnlySpan<byte> frame) => State.Apply(RecordFrame.ReadVerified(frame));

    private void EndTerm()
    {
        if (Format.HasTerms)
        {
            StartBatch(0);
            if (CanRecordTerm)
                Append(RecordType.TermEnded, new TermEnded { TimeNs = NowNs });
            EndBatch();
        }
        _hub.End(new FamfsException(ErrorReason.NotMaster, "the master has stopped"));
    }
}

/// <summary>The operation does not fit into the batch any more; it has changed nothing.</summary>
internal sealed class NeedsNextBatchException(long bytes) : Exception
{
    public long Bytes { get; } = bytes;
}
