using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.Famfs2;
using Famfs.Master.Changes;
using Famfs.Master.Role;
using Famfs.Master.State;
using Famfs.TestSupport;
using Famfs.TestSupport.Dax;
using Famfs.V1;

namespace Famfs.Master.Tests.Changes;

/// <summary>A state and a batch to decide changes on: no thread, no network, no writer. The devices are memory.</summary>
internal sealed class Deciding : IDisposable
{
    public const long Room = 3L << 20;

    private static readonly Term s_term = new(64);

    public Deciding(int devices = 2, bool famfs2 = false)
    {
        List<DaxDevice> memory = [.. Enumerable.Range(0, devices).Select(i => new FakeSharedMemory(64L << 20, seed: i + 1, coherent: true) { AccidentOneIn = 0, Name = $"fake{i}" }.Attach("master"))];
        if (famfs2)
            Famfs2Formatter.Format(memory, new() { System = Guid.NewGuid() });
        else
            NativeFormatter.Format(memory, new() { Host = Host, Clock = Clock });
        DevicePool pool = TestFormats.All.Open(memory);
        State = new(pool, Clock, new Random(1));
        Recovery.Replay(pool.Format.OpenReader(pool, Clock), State.Replay, new LogIndex());
        State.GoLive();
        Context = new(State, Batch, Clock, new Random(1));
        Begin();
    }

    public Guid Host { get; } = Guid.NewGuid();

    public ManualClock Clock { get; } = new();

    public MasterState State { get; }

    public RecordBatch Batch { get; } = new();

    public ChangeContext Context { get; }

    /// <summary>Begins a batch and a turn.</summary>
    public void Begin(long roomBytes = Room, long roomRecords = long.MaxValue, long logBytes = 0)
    {
        Context.Begin(s_term, seed: 7, roomBytes, roomRecords, logBytes);
        Context.BeginTurn(long.MaxValue);
    }

    /// <summary>Decides a change that has a reply at once.</summary>
    public T Decide<T>(Change<T> change)
    {
        Xunit.Assert.Equal(VerdictKind.Done, change.Decide(Context).Kind);
        return change.Reply;
    }

    /// <summary>The error of a change that is refused; the state is as it was.</summary>
    public FamfsException Refuse<T>(Change<T> change)
    {
        (LogPosition position, long free) = (Context.Position, State.Allocator.FreeBytes);
        FamfsException error = Xunit.Assert.Throws<FamfsException>(() => change.Decide(Context));
        Xunit.Assert.Equal((position, free), (Context.Position, State.Allocator.FreeBytes));
        return error;
    }

    /// <summary>Types of the batch's records, in order.</summary>
    public List<RecordType> Types()
    {
        List<RecordType> types = [];
        ReadOnlySpan<byte> frames = Batch.Frames;
        while (!frames.IsEmpty)
        {
            RecordFrame frame = RecordFrame.ReadVerified(frames);
            types.Add(frame.Type);
            frames = frames[frame.PaddedBytes..];
        }
        return types;
    }

    public void Dispose()
    {
        Context.Dispose();
        State.Dispose();
    }

    public sealed class ManualClock : TimeProvider
    {
        public DateTimeOffset Now { get; set; } = new(2030, 1, 2, 3, 4, 5, TimeSpan.Zero);

        public override DateTimeOffset GetUtcNow() => Now;

        public override long TimestampFrequency => TimeSpan.TicksPerSecond;

        public override long GetTimestamp() => Now.Ticks;
    }
}
