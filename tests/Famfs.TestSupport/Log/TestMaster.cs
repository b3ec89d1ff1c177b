using System.Buffers.Binary;
using Famfs.Core;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.Core.Namespace;
using Famfs.V1;
using Google.Protobuf;

namespace Famfs.TestSupport.Log;

/// <summary>The least master there is: claims, replays, activates and publishes values.</summary>
public sealed class TestMaster
{
    /// <summary>Polls without records (chosen: more than the longest pause of a simulation).</summary>
    private const int MostPollsWithout = 10_000;

    /// <summary>Bytes that a generation has room for when it is entered: for some records, and one that reserves more.</summary>
    private const int LeastRoomBytes = 4096;

    private readonly RecordBatch _batch = new();
    private bool _spareTaken;

    private TestMaster(Mastership mastership, LogHistory history, LogWriter writer)
    {
        Mastership = mastership;
        History = history;
        Writer = writer;
    }

    /// <summary>How it became master.</summary>
    public Mastership Mastership { get; }

    /// <summary>Everything it replayed and everything it published and may acknowledge.</summary>
    public LogHistory History { get; }

    /// <summary>The writer of its term.</summary>
    public LogWriter Writer { get; }

    /// <summary>Takes over.</summary>
    public static TestMaster Start(DevicePool pool, int slot, Guid host, Guid id = default, TimeProvider? clock = null)
    {
        Mastership mastership = Mastership.Claim(pool, slot, host, id == default ? Guid.NewGuid() : id, clock ?? new HastyClock());
        return Activate(mastership, Replay(mastership.Reader, pool));
    }

    /// <summary>Becomes active behind what was replayed.</summary>
    public static TestMaster Activate(Mastership mastership, LogHistory history) =>
        new(mastership, history, mastership.Activate(history.SpacesOf(mastership.Term.Slot)));

    /// <summary>Applies until nothing more is there. <paramref name="seen"/>: is given each block before it is applied.</summary>
    public static LogHistory Replay(LogReader reader, DevicePool pool, Action<LogBlock>? seen = null)
    {
        LogHistory history = new(pool.Primary.FileSystem);
        PollVerdict verdict = default;
        // A claimant may be told "unsettled" while an older claimant makes an anchor slot its own.
        for (int without = 0; without < MostPollsWithout; without++)
        {
            switch (verdict = reader.Poll(out LogBlock block))
            {
                case PollVerdict.Records:
                    without = 0;
                    seen?.Invoke(block);
                    history.Apply(block);
                    break;
                case PollVerdict.UpToDate or PollVerdict.TailLost:
                    return history;
                case PollVerdict.Diverged when reader.Divergence.Contains("is over and cannot be read any more", StringComparison.Ordinal):
                    throw new FamfsException(ErrorReason.MediaCorrupt, reader.Divergence);
                case PollVerdict.Diverged:
                    throw new InvalidOperationException("what was applied is not in the history any more");
            }
        }
        throw new InvalidOperationException($"replay does not end: {verdict} at {reader.Position}");
    }

    /// <summary>Publishes records that carry one value each and padding, some of it unaligned.</summary>
    public void PublishValues(params ulong[] values)
    {
        StartBatch();
        foreach (ulong value in values)
        {
            int bytes = 8 + (int)(value % 23);
            Span<byte> payload = _batch.Reserve(bytes);
            payload.Fill((byte)value);
            BinaryPrimitives.WriteUInt64BigEndian(payload, value);
            _batch.Commit(bytes, RecordType.DirectoryMade);
        }
        PublishBatch();
    }

    /// <summary>Publishes one record.</summary>
    public void Publish(RecordType type, IMessage payload)
    {
        StartBatch();
        _batch.Add(type, payload);
        PublishBatch();
    }

    /// <summary>Gives a slot its first segment.</summary>
    public void Grant(int slot, Guid host, long lengthBytes = MediaLayout.UnitBytes) => Publish(RecordType.MasterSlotGranted, new MasterSlotGranted
    {
        Slot = (uint)slot,
        HostId = host.ToByteString(),
        Segment = new() { OffsetBytes = (ulong)History.FreeOffset, LengthBytes = (ulong)lengthBytes },
    });

    /// <summary>Reserves space and goes on in it.</summary>
    public void GoOn(long lengthBytes)
    {
        Writer.Advance(Reserve(lengthBytes));
    }

    /// <summary>Goes on in another generation of the log. False: somebody is taking over or the memory is damaged, and the log stays
    /// where it is.</summary>
    /// <param name="pool">The devices, as the master has them.</param>
    /// <param name="clock">Of its reader.</param>
    /// <param name="spaceBytes">Bytes of each space, or the least that is asked for.</param>
    /// <param name="meanwhile">Called when the snapshot is written, before the records after it are.</param>
    /// <param name="requests">The snapshot is one of the state that the records make, with these requests. Null: it has each record.</param>
    public bool TryCompact(DevicePool pool, TimeProvider clock, Func<long, long> spaceBytes, Action? meanwhile = null, RememberedRequests? requests = null)
    {
        if (Writer.Position.Term != Writer.Term)
            Publish(RecordType.TermStarted, new TermStarted());
        LogReader reader = new(pool, clock);
        LogHistory replayed = new(pool.Primary.FileSystem);
        using ReplayState state = new(new(pool.Primary.FileSystem, pool.Primary.Generation, default, default), default);
        if (!TryRead(reader, block =>
            {
                if (requests is not null)
                    state.ApplyFrames(block.Generation, block.Frames.Span);
                else
                    replayed.Apply(block);
            }))
        {
            return false;
        }
        INextGeneration next = Writer.BeginGeneration(reader, least => Reserve(spaceBytes(least)));
        if (requests is not null)
            state.WriteSnapshot(next, Writer.Term, requests, CancellationToken.None);
        else
            replayed.WriteSnapshot(next, Writer.Term);
        next.EndSnapshot();
        meanwhile?.Invoke();
        try
        {
            next.Complete();
            // Records may take another space, which takes another record.
            while (next.Last != Writer.Position.Sequence)
            {
                if (!TryRead(reader, block => next.Add(block)))
                    return false;
                next.RequireRoom(LeastRoomBytes);
            }
            Publish(RecordType.GenerationChanged, new GenerationChanged { NewGeneration = next.Generation, SnapshotSequence = next.SnapshotLast.Next.Value });
            if (!TryRead(reader, block => next.Add(block)))
                return false;
            next.Complete();
        }
        catch (FamfsException error) when (error.Reason == ErrorReason.MediaCorrupt && error.Message.Contains("is not what was written", StringComparison.Ordinal))
        {
            return false;
        }
        Writer.Enter(next);
        return true;
    }

    // To the last record that is published.
    private bool TryRead(LogReader reader, Action<LogBlock> take)
    {
        for (int polls = 0; reader.Position.Sequence != Writer.Position.Sequence; polls++)
        {
            if (polls == MostPollsWithout)
                return false;
            Writer.Check();
            try
            {
                PollVerdict verdict = reader.Poll(out LogBlock block);
                if (verdict is PollVerdict.TailLost or PollVerdict.Diverged)
                    return false;
                if (verdict == PollVerdict.Records)
                    take(block);
            }
            catch (FamfsException error) when (error.Reason == ErrorReason.MediaCorrupt)
            {
                return false;
            }
        }
        return true;
    }

    // Above those of tests.
    private ulong ReservedInode() => 500_000 + Writer.Position.Sequence.Value;

    private SegmentSpace Reserve(long lengthBytes)
    {
        SegmentSpace space = new(new(0), History.FreeOffset, lengthBytes);
        Publish(RecordType.SegmentReserved, new SegmentReserved { Inode = ReservedInode(), Extent = new() { OffsetBytes = (ulong)space.Offset, LengthBytes = (ulong)lengthBytes } });
        return space;
    }

    /// <summary>Goes on in a space that the slot has in reserve since its start. False: it has none.</summary>
    public bool TryGoOnInSpare()
    {
        if (_spareTaken || Writer.Spare is not { } space)
            return false;
        _spareTaken = true;
        Writer.Advance(space);
        return true;
    }

    /// <summary>Starts a batch behind what is published.</summary>
    public RecordBatch StartBatch()
    {
        _batch.Start(Writer.Position.Sequence, Writer.Term, Writer.Seed);
        return _batch;
    }

    /// <summary>Publishes what was started.</summary>
    public void PublishBatch()
    {
        ulong segment = Writer.SegmentId;
        Writer.Publish(_batch);
        History.Apply(_batch.Frames, Writer.Position.Generation, segment);
    }
}
