using Famfs.Core.Dialects;
using Famfs.Core;
using Famfs.Core.Allocation;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Namespace;
using Famfs.Master.Queries;
using Famfs.Master.State;
using Famfs.V1;
using Google.Protobuf;

namespace Famfs.Master.Changes;

/// <summary>
/// What changes are decided on, and where their records go: the state, the clock, chance, who asks, and the batch at hand. A
/// record is applied to the state the moment it is appended, so the next change sees it. For one thread.
/// </summary>
internal sealed class ChangeContext : IDisposable
{
    /// <summary>Most files of one turn, refused ones included (chosen: about 6 ms).</summary>
    public const int FilesPerTurn = 1000;

    /// <summary>Bytes of a batch that only the records which reserve the next segment may use.</summary>
    public const int ReservationMargin = 2 * MediaLayout.MaxRecordBytes;

    /// <summary>Room for a record that adds a device, and the one that reserves a segment there, generously.</summary>
    private const int GrowthBytes = 4096;

    private readonly RecordBatch _batch;
    private readonly ISegmentedLog? _log;
    private readonly List<MapExtent> _runs = [];

    // Requests whose space is being zeroed, by request id.
    private readonly Dictionary<Guid, NewSpace> _underway = [];

    // The turn at hand: files it may still make, and when it ends.
    private int _filesLeft;
    private long _turnEnd;

    private Caller _caller = Caller.Master;
    private long _roomBytes;
    private long _roomRecords;
    private long _logBytes;

    /// <summary>Decides on a state; its records go into <paramref name="batch"/>, which stays the caller's. <paramref name="log"/>: where
    /// claims can be read; null: nowhere.</summary>
    public ChangeContext(MasterState state, RecordBatch batch, TimeProvider clock, Random random, ISegmentedLog? log = null)
    {
        _log = log;
        State = state;
        Reader = new(state);
        Clock = clock;
        Random = random;
        _batch = batch;
    }

    /// <summary>The state.</summary>
    public MasterState State { get; }

    /// <summary>What is there, for looking at it.</summary>
    public StateReader Reader { get; }

    /// <summary>The clock.</summary>
    public TimeProvider Clock { get; }

    /// <summary>Chance, for placing files.</summary>
    public Random Random { get; }

    /// <summary>Who asks for the change at hand.</summary>
    public Caller Caller
    {
        get => _caller;
        set
        {
            if (ReferenceEquals(_caller, value))
                return;
            _caller = value;
            State.RequestShare = value.Kind == CallerKind.Master ? RecentRequests.LogShare : RecentRequests.ShareOf(value.Name);
        }
    }

    /// <summary>Position that the records so far end at.</summary>
    public LogPosition Position => State.Replay.Position;

    /// <summary>The last record before the batch at hand: it was published and checked.</summary>
    public LogSequence Published { get; private set; }

    /// <summary>Every record of the batch was applied. When one was not, for want of memory, the state is not what the log would
    /// say, and nothing may be decided or published any more.</summary>
    public bool IsWhole { get; private set; } = true;

    /// <summary>Number of the inode that the next record makes.</summary>
    public InodeNumber NextInode => State.NextInode;

    /// <summary>Time of a record: the clock, nanoseconds since 1970; 0 in a format without times.</summary>
    public long NowNs => State.Format.HasTimes ? (Clock.GetUtcNow().UtcTicks - DateTime.UnixEpoch.Ticks) * 100 : 0;

    /// <summary>Extents of the file at hand; a change empties it before use.</summary>
    public List<MapExtent> Extents { get; } = [];

    /// <summary>Starts and ends of terms are good to know and not needed: in a log that is full they stop where they
    /// would take the room of the record that ends its being full.</summary>
    public bool HasRoomForTerm => _roomBytes + MediaLayout.MaxRecordBytes - _batch.LengthBytes > GrowthBytes;

    /// <summary>The log has half of what it can ever have: of the space that it has reserved and that is free.</summary>
    public bool IsLogHalfFull => _logBytes * 2 >= State.Replay.Segments.Sum(s => s.Extent.LengthBytes) + State.Allocator.FreeBytes;

    /// <summary>Begins the turn of one operation, which ends when <see cref="Clock"/> shows <paramref name="end"/>.</summary>
    public void BeginTurn(long end) => (_filesLeft, _turnEnd) = (FilesPerTurn, end);

    /// <summary>A change of many files has decided some: whether it must let others have their turn.</summary>
    public bool EndsTurn(int files = 1) => (_filesLeft -= files) <= 0 || Clock.GetTimestamp() >= _turnEnd;

    /// <summary>Begins a batch. <paramref name="roomBytes"/>: bytes of frames that operations may append, without
    /// <see cref="ReservationMargin"/>; negative in a log that is nearly full.
    /// <paramref name="logBytes"/>: of the log so far.</summary>
    public void Begin(Term term, uint seed, long roomBytes, long roomRecords, long logBytes)
    {
        Published = Position.Sequence;
        _batch.Start(Position.Sequence, term, seed);
        (_roomBytes, _roomRecords, _logBytes) = (roomBytes, roomRecords, logBytes);
    }

    /// <summary>Finds the record of <paramref name="type"/> that an equal request of the caller has made. Throws BAD_REQUEST (another
    /// request, or another kind of it, had the id; malformed id) or REQUEST_EXPIRED.</summary>
    public bool TryFindMade(Guid id, ulong digest, RecordType type, out RequestTrace trace)
    {
        if (!State.TryFindRequest(id, digest, out trace))
            return false;
        return trace.Type == type ? true : throw new FamfsException(ErrorReason.BadRequest, $"request id {id} was used before by another kind of request");
    }

    /// <summary>The position of a record that a request has made.</summary>
    public Position PositionOf(in RequestTrace trace) => Positions.ToMessage(trace, Position);

    /// <summary>Whether <paramref name="records"/> more records of <paramref name="payloadBytes"/> in all fit; if not,
    /// <paramref name="otherwise"/> is the change's verdict. Throws LOG_FULL when no batch will have them. Ask before any
    /// allocation.</summary>
    public bool HasRoom(int records, long payloadBytes, out Verdict otherwise)
    {
        RequireRecords(records);
        long needed = payloadBytes + (long)records * RecordBatch.FrameBytes(RecordFrame.Alignment - 1);
        bool fits = needed <= _roomBytes - _batch.LengthBytes;
        otherwise = fits ? default : new(VerdictKind.NextBatch, needed);
        return fits;
    }

    /// <summary>As <see cref="HasRoom"/>, for one small record that makes room for more: it may use half of what others leave
    /// alone, so that a full log is no reason against it.</summary>
    public bool HasRoomForGrowth(int payloadBytes, out Verdict otherwise)
    {
        RequireRecords(1);
        int needed = RecordBatch.FrameBytes(payloadBytes);
        bool fits = needed <= _roomBytes + MediaLayout.MaxRecordBytes - _batch.LengthBytes;
        otherwise = fits ? default : new(VerdictKind.NextBatch, needed);
        return fits;
    }

    /// <summary>Appends a record and applies it.</summary>
    public void Append(RecordType type, IMessage payload, FrameFlags flags = FrameFlags.None) => ApplyFrame(_batch.Add(type, payload, flags));

    /// <summary>Takes up to <paramref name="most"/> inodes of removed directories apart.</summary>
    public void TakeApart(int most)
    {
        IsWhole = false;
        State.Replay.TakeApart(most);
        IsWhole = true;
    }

    /// <summary>Room for a payload; follow with <see cref="AppendReserved"/>.</summary>
    public Span<byte> ReservePayload(int maxBytes) => _batch.Reserve(maxBytes);

    /// <summary>Ends a record written into the room of <see cref="ReservePayload"/>, and applies it.</summary>
    public void AppendReserved(int payloadBytes, RecordType type) => ApplyFrame(_batch.Commit(payloadBytes, type));

    /// <summary>No process but this one stores to the log segments of a slot any more, whatever it has read of the log (SAFETY S8): the
    /// highest claim of the slot, as the memory has it now, is this term's, or the log proves its end. Who claims after this look reads
    /// every record that was published before it, so it knows which segments are deleted.</summary>
    public bool IsSlotAtRest(int slot) =>
        _log?.ReadClaim(slot) is { } claimed && (claimed == State.Replay.HighestTerm || State.Replay.IsSlotAtRest(claimed));

    /// <summary>Takes one run for the log, on device 0 if it has one: bootstrap then needs no other device.
    /// Else on any device that this host has and, under a dialect floor, every kernel can map, those last that mounts lack: a
    /// host that cannot open a segment cannot follow the log.</summary>
    public bool TryAllocateRun(long lengthBytes, out MapExtent extent)
    {
        extent = default;
        uint floor = State.Replay.Policy.DialectFloor;
        int reach = floor > 0 && floor <= FmapLimits.All.Count ? FmapLimits.OfFloor(floor)!.MaxDevices : MediaLayout.MaxDevices;
        DeviceAvoidance avoidance = State.Avoidance;
        List<DeviceIndex> here = [.. State.Pool.Present.Where(index => index.Value < reach)];
        // Who lacks a device cannot follow the log there either; better there than nowhere.
        foreach (IReadOnlyList<DeviceIndex> devices in (ReadOnlySpan<IReadOnlyList<DeviceIndex>>)[[new DeviceIndex(0)], [.. here.Where(d => !avoidance.Avoids(d.Value))], here])
        {
            AllocationRequest request = new(lengthBytes) { Kind = LayoutKind.Contiguous, MaxExtents = 1, Devices = devices };
            _runs.Clear();
            if (State.Allocator.TryAllocate(request, Random, _runs, out _) && _runs.Count == 1)
            {
                extent = _runs[0];
                return true;
            }
        }
        return false;
    }

    /// <summary>The space of an equal request that is being zeroed: a caller that repeats itself must not take more and more.</summary>
    public bool TryFindUnderway(Guid requestId, [System.Diagnostics.CodeAnalysis.NotNullWhen(true)] out NewSpace? space)
    {
        space = null;
        return _underway.Count > 0 && _underway.TryGetValue(requestId, out space);
    }

    /// <summary>Takes space that is to be zeroed; follow with <see cref="EndSpace"/>.</summary>
    public NewSpace BeginSpace(in AllocationRequest request, Guid requestId)
    {
        List<MapExtent> extents = [];
        long chunkBytes = State.Allocator.Allocate(request, Random, extents);
        NewSpace space = new(requestId, extents, chunkBytes);
        if (requestId != Guid.Empty)
            _underway.Add(requestId, space);
        return space;
    }

    /// <summary>A change has had its turn with its space: it is free again unless a record names it, and those who waited for it
    /// have their turn.</summary>
    public void EndSpace(NewSpace space, bool used)
    {
        if (!used)
        {
            foreach (MapExtent extent in space.Extents)
                State.Allocator.Free(extent);
        }
        _underway.Remove(space.RequestId);
        space.Over?.Invoke();
    }

    /// <inheritdoc/>
    public void Dispose() => Reader.Dispose();

    private void RequireRecords(int records)
    {
        long left = _roomRecords - _batch.Count;
        if (records > left)
            throw new FamfsException(ErrorReason.LogFull, $"the log is full: {records} more entries are needed, it has room for {left}") { Limit = (ulong)left };
    }

    private void ApplyFrame(ReadOnlySpan<byte> frame)
    {
        IsWhole = false;
        State.Replay.Apply(RecordFrame.ReadVerified(frame));
        IsWhole = true;
    }
}
