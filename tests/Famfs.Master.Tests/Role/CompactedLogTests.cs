using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.Core.Namespace;
using Famfs.Master.Queries;
using Famfs.Master.Role;
using Famfs.Master.Rpc;
using Famfs.TestSupport;
using Famfs.TestSupport.Log;
using Famfs.V1;
using Google.Protobuf;
using Xunit;

namespace Famfs.Master.Tests.Role;

/// <summary>A master that starts on a log which an earlier one has compacted.</summary>
public sealed class CompactedLogTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-compacted-").FullName;
    private readonly HostIdentity _host = new(Guid.NewGuid(), Guid.NewGuid(), new byte[32], "test");
    private readonly string _path;
    private readonly DevicePool _pool;
    private readonly TestMaster _before;
    private LogPosition _early;
    private LogSequence _snapshotLast;

    public CompactedLogTests()
    {
        _path = Path.Combine(_directory, "0");
        using (FileStream file = File.Create(_path))
            file.SetLength(64 << 20);
        using (DaxDevice device = DaxDevice.Open(_path))
            NativeFormatter.Format([device], new() { Host = _host.Host, Clock = TimeProvider.System });
        _pool = Open();
        _before = TestMaster.Start(_pool, 0, _host.Host);
    }

    public void Dispose()
    {
        _pool.Dispose();
        Directory.Delete(_directory, recursive: true);
    }

    [Fact]
    public async Task It_knows_what_the_snapshot_has_and_what_was_forgotten_before()
    {
        Guid known = Guid.CreateVersion7();
        long made = DateTimeOffset.UtcNow.ToUnixTimeMilliseconds();
        RequestTrace trace = new(known, 7, made * 1_000_000, RecordType.DirectoryMade, new(1001), new(3), new(64));
        Compact(new([trace], made - 60_000));
        Recovery.Result recovered = await StartAsync();
        await using RunningMaster master = new(recovered);

        Assert.Equal("d1001", (await master.DescribeAsync("d1001")).Path);
        Assert.Equal("d1030", (await master.DescribeAsync("d1030")).Path);
        Assert.True(recovered.State.TryFindRequest(known, 7, out RequestTrace found));
        Assert.Equal(trace, found);
        Guid forgotten = Guid.CreateVersion7(DateTimeOffset.FromUnixTimeMilliseconds(made - 60_000));
        Assert.Equal(ErrorReason.RequestExpired, Assert.Throws<FamfsException>(() => recovered.State.TryFindRequest(forgotten, 1, out _)).Reason);
        Assert.False(recovered.State.TryFindRequest(Guid.CreateVersion7(DateTimeOffset.FromUnixTimeMilliseconds(made - 59_000)), 1, out _));
        // A time that a record before the snapshot has set may be newer than what a mount says of before.
        Assert.Equal(_snapshotLast, recovered.State.SetTimes.KnownAfter);
    }

    [Fact]
    public async Task Positions_of_every_generation_are_of_one_history()
    {
        Compact(RememberedRequests.None);
        Recovery.Result recovered = await StartAsync();
        using MasterOwner owner = new(recovered);
        ReplayState replay = recovered.State.Replay;
        Assert.Equal(2UL, replay.Position.Generation);
        Positions.RequireInHistory(recovered.State, _early.ToMessage(), replay.Position);
        Positions.RequireInHistory(recovered.State, (_early with { Generation = 2 }).ToMessage(), replay.Position);
        foreach (LogPosition other in new[] { _early with { Generation = 0 }, _early with { Generation = 4 }, _early with { Term = new(130) } })
            Assert.Equal(ErrorReason.StaleGeneration, Assert.Throws<FamfsException>(() => Positions.RequireInHistory(recovered.State, other.ToMessage(), replay.Position)).Reason);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_subscriber_gets_every_record_once_wherever_it_was(bool early)
    {
        Compact(RememberedRequests.None);
        Recovery.Result recovered = await StartAsync();
        using MasterOwner owner = new(recovered);
        SubscriptionHub hub = HubOf(recovered, out LogPosition end);
        LogPosition from = early ? _early with { Sequence = default, Term = default } : _early;
        LogPosition sent = from;
        using CancellationTokenSource over = new();
        TaskCompletionSource done = new();
        Task running = hub.RunAsync(from, reply =>
        {
            Records records = reply.Records;
            Assert.Equal(sent.Sequence.Next.Value, records.FirstSequence);
            Assert.True(records.Generation >= sent.Generation);
            uint seed = Crc32C.Seed(end.FileSystem, records.Generation, records.SegmentId);
            for (ReadOnlySpan<byte> rest = records.Frames.Span; !rest.IsEmpty;)
            {
                Assert.Equal(FrameVerdict.Good, RecordFrame.Parse(rest, seed, out RecordFrame frame));
                Assert.Equal((sent.Sequence.Next, FrameFlags.None), (frame.Sequence, frame.Flags & FrameFlags.Snapshot));
                sent = sent with { Generation = records.Generation, Sequence = frame.Sequence, Term = frame.Term };
                rest = rest[frame.PaddedBytes..];
            }
            if (sent.Sequence == end.Sequence)
                done.TrySetResult();
            return default;
        }, over.Token);
        Task first = await Task.WhenAny(done.Task, running).WaitAsync(TimeSpan.FromSeconds(60), TestContext.Current.CancellationToken);
        if (first == running)
            await running;
        Assert.Equal(end, sent);
        await over.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => running);
    }

    /// <summary>Whose records are gone from the memory, or who has none.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_reader_without_a_mount_gets_the_snapshot_and_then_every_record_after_it(bool hasNone)
    {
        // More than a message, and than a reader hands out at once.
        MakeDirectories(2000, 14000);
        SegmentRef old = _before.Writer.Segment;
        Compact(RememberedRequests.None);
        using (DaxDevice device = DaxDevice.Open(_path))
            device.Zero(old.Offset, old.LengthBytes);
        Recovery.Result recovered = await StartAsync();
        using MasterOwner owner = new(recovered);
        SubscriptionHub hub = HubOf(recovered, out LogPosition end);
        LogPosition from = hasNone ? _early with { Sequence = default, Term = default } : _early;
        Assert.Equal(ErrorReason.StaleGeneration, (await Assert.ThrowsAsync<FamfsException>(() => hub.RunAsync(from, _ => default, TestContext.Current.CancellationToken))).Reason);

        using ReplayState state = new(_early with { Sequence = default, Term = default }, default);
        using CancellationTokenSource over = new();
        TaskCreationOptions options = TaskCreationOptions.RunContinuationsAsynchronously;
        TaskCompletionSource done = new(options);
        int chunks = 0;
        Position? whole = null;
        Task running = hub.RunAsync(from, reply =>
        {
            (ByteString frames, ulong generation, ulong segment) = reply.Snapshot is { } chunk
                ? (chunk.Frames, chunk.Generation, chunk.SegmentId)
                : (reply.Records.Frames, reply.Records.Generation, reply.Records.SegmentId);
            uint seed = Crc32C.Seed(end.FileSystem, generation, segment);
            for (ReadOnlySpan<byte> rest = frames.Span; !rest.IsEmpty;)
            {
                Assert.Equal(FrameVerdict.Good, RecordFrame.Parse(rest, seed, out RecordFrame frame));
                rest = rest[frame.PaddedBytes..];
            }
            Assert.InRange(frames.Length, 1, 256 << 10);
            state.ApplyFrames(generation, frames.Span);
            if (reply.Snapshot is { } part)
            {
                chunks++;
                Assert.Equal(!state.IsInSnapshot, part.Last);
                Assert.Null(whole);
                whole = part.Last ? part.Position : null;
            }
            if (state.Position.Sequence == end.Sequence)
                done.TrySetResult();
            return default;
        }, over.Token, takesSnapshot: true);
        Task first = await Task.WhenAny(done.Task, running).WaitAsync(TimeSpan.FromSeconds(60), TestContext.Current.CancellationToken);
        if (first == running)
            await running;
        Assert.InRange(chunks, 3, 100);
        Assert.Equal((_snapshotLast.Value, 2UL), (whole!.Sequence, whole.Generation));
        Assert.Equal(end, state.Position);
        Assert.Equal(recovered.State.Replay.Tree.DirectoryCount, state.Tree.DirectoryCount);
        await over.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => running);
    }

    private void Compact(RememberedRequests requests)
    {
        MakeDirectories(1000, 10);
        _early = _before.Writer.Position;
        MakeDirectories(1010, 10);
        _snapshotLast = _before.Writer.Position.Sequence;
        Assert.True(_before.TryCompact(Open(), new HastyClock(), static _ => 2 * MediaLayout.UnitBytes, () => MakeDirectories(1020, 5), requests));
        MakeDirectories(1025, 10);
        _before.Publish(RecordType.TermEnded, new TermEnded());
    }

    private void MakeDirectories(ulong first, int count)
    {
        for (ulong inode = first; inode < first + (ulong)count; inode++)
            _before.Publish(RecordType.DirectoryMade, new DirectoryMade { Inode = inode, Parent = InodeNumber.Root.Value, Name = ByteString.CopyFromUtf8($"d{inode}"), Mode = 0x1ED });
    }

    private DevicePool Open() => TestFormats.All.Open([DaxDevice.Open(_path)]);

    private static SubscriptionHub HubOf(Recovery.Result recovered, out LogPosition end)
    {
        SubscriptionHub hub = new(recovered.State.Pool, recovered.Index, TimeProvider.System);
        end = recovered.State.Replay.Position;
        hub.Recovered(end, recovered.Writer.Tail);
        return hub;
    }

    private Task<Recovery.Result> StartAsync() =>
        Recovery.RunAsync(Open(), _host, takeOver: true, "", TimeProvider.System, new Random(1), TestContext.Current.CancellationToken);

    private sealed class MasterOwner(Recovery.Result recovered) : IDisposable
    {
        public void Dispose()
        {
            recovered.Claim.Dispose();
            recovered.State.Dispose();
        }
    }
}
