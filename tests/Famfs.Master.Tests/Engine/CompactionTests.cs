using System.Collections.Immutable;
using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.Core.Namespace;
using Famfs.Master.Changes;
using Famfs.Master.Engine;
using Famfs.Master.Holders;
using Famfs.Master.Role;
using Famfs.TestSupport;
using Famfs.TestSupport.Dax;
using Famfs.V1;
using Microsoft.Extensions.Logging.Abstractions;
using Xunit;

namespace Famfs.Master.Tests.Engine;

/// <summary>The engine goes on in another generation of its log, under load.</summary>
public sealed class CompactionTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-compaction-").FullName;
    private readonly HostIdentity _host = new(Guid.NewGuid(), Guid.NewGuid(), new byte[32], "test");
    private readonly string _path;
    private IReadOnlyList<string> _stay = [];
    private Action _look = static () => { };

    public CompactionTests() => _path = Path.Combine(_directory, "0");

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Fact]
    public async Task A_log_is_compacted_under_load_and_nothing_is_lost()
    {
        Format(4L << 30);
        Guid id = Guid.CreateVersion7();
        List<string> names = [];
        CreateFileReply made;
        await using (RunningMaster master = await StartAsync(out LogCompaction compaction))
        {
            LogPosition start = new(master.State.FileSystem, 1, default, default);
            using ReplayState follower = new(start, default);
            using CancellationTokenSource over = new();
            Task running = master.Hub.RunAsync(start, reply => Follow(follower, reply.Records), over.Token);
            made = await master.CreateAsync(new() { Path = "first", SizeBytes = 1, RequestId = id.ToByteString() });
            for (int i = 0; i < 2000; i++)
                await master.MakeDirectoryAsync($"d{i}");
            for (int i = 0; i < 1900; i++)
                await master.RunAsync(new Removal(new() { Path = $"d{i}" }));
            names.AddRange(Enumerable.Range(1900, 100).Select(i => $"d{i}"));
            long before = await master.QueryAsync(_ => master.Engine.LogBytes);

            Task<CompactReply> compacting = compaction.RunAsync();
            Assert.Same(compacting, compaction.RunAsync());
            for (int i = 0; !compacting.IsCompleted || i < 50; i++)
            {
                await master.MakeDirectoryAsync($"while{i}");
                names.Add($"while{i}");
            }
            CompactReply compacted = await compacting;
            Assert.Equal(2UL, compacted.Position.Generation);
            Assert.True(compacted.RecordsBefore > 3900 && compacted.RecordsAfter < compacted.RecordsBefore - 3000, $"{compacted}");
            Assert.True(compacted.LogBytesBefore > (ulong)before && compacted.LogBytesAfter < (ulong)before, $"{compacted}");
            await master.MakeDirectoryAsync("after");
            names.Add("after");
            LogPosition end = await master.PositionAsync();
            Assert.Equal(2UL, end.Generation);
            Assert.True(await master.QueryAsync(_ => master.Engine.LogBytes) < before);
            // A repeated request finds what it made.
            Assert.Equal(made.File.Inode, (await master.CreateAsync(new() { Path = "first", SizeBytes = 1, RequestId = id.ToByteString() })).File.Inode);

            await WaitAsync(() => follower.Position.Sequence == end.Sequence, running);
            Assert.Equal(end, follower.Position);
            Assert.Equal([.. names.Append("first").Order(StringComparer.Ordinal)], Names(follower));
            await over.CancelAsync();

            // A second time, and a stream that begins between the two.
            Assert.Equal(3UL, (await compaction.RunAsync()).Position.Generation);
        }
        await using (RunningMaster again = await StartAsync(out _))
        {
            Assert.Equal(3UL, (await again.PositionAsync()).Generation);
            Assert.Equal([.. names.Append("first").Order(StringComparer.Ordinal)], await again.QueryAsync(_ => Names(again.State.Replay)));
            Assert.Equal(made.File.Inode, (await again.CreateAsync(new() { Path = "first", SizeBytes = 1, RequestId = id.ToByteString() })).File.Inode);
            Assert.Equal(ErrorReason.Exists, (await Assert.ThrowsAsync<FamfsException>(() => again.CreateAsync(new() { Path = "first", SizeBytes = 1, RequestId = Guid.CreateVersion7().ToByteString() }))).Reason);
        }
    }

    [Fact]
    public async Task The_answer_counts_what_a_reader_reads_and_a_repeated_request_gets_it_again()
    {
        Format(1L << 30);
        await using RunningMaster master = await StartAsync(out LogCompaction compaction);
        for (int i = 0; master.State.Replay.Segments.Length < 4; i++)
        {
            await master.MakeDirectoryAsync($"{i}-{new string('d', 200)}");
            await master.RunAsync(new Removal(new() { Path = $"{i}-{new string('d', 200)}" }));
        }
        Guid request = Guid.CreateVersion7();
        (long records, long bytes) = ReadAll(1, 1);
        CompactReply reply = await compaction.RunAsync(request);
        // With the record that ends it, and those that give it space.
        Assert.InRange((long)reply.RecordsBefore, records + 2, records + 5);
        Assert.InRange((long)reply.LogBytesBefore, bytes + 80, bytes + 1000);
        while (master.State.Replay.FormerSegments.IsEmpty)
            await master.PositionAsync();
        Assert.Equal((ulong)master.State.Replay.FormerSegments.Length, reply.SegmentsFreed);
        Assert.Equal((ulong)master.State.Replay.FormerSegments.Sum(s => s.Extent.LengthBytes), reply.SegmentBytesFreed);
        (records, bytes) = ReadAll(2, 2);
        // With the records that delete segments, and perhaps one that reserves the next.
        Assert.InRange(records - (long)reply.RecordsAfter, (long)reply.SegmentsFreed, (long)reply.SegmentsFreed + 1);
        Assert.InRange((long)reply.LogBytesAfter, 500, bytes - 40);
        Assert.Same(reply, await compaction.RunAsync(request));
        Assert.Equal(2UL, (await master.PositionAsync()).Generation);
        Assert.Equal(3UL, (await compaction.RunAsync(Guid.CreateVersion7())).Position.Generation);
    }

    [Fact]
    public async Task A_mount_that_comes_while_a_log_is_compacted_and_would_not_follow_ends_that()
    {
        Format(64 << 20);
        await using RunningMaster master = await StartAsync(out LogCompaction compaction);
        int looks = 0;
        _look = () =>
        {
            if (++looks == 2)
                _stay = ["a mount of an old version"];
        };
        FamfsException error = await Assert.ThrowsAsync<FamfsException>(() => compaction.RunAsync());
        Assert.Contains("a mount of an old version", error.Message, StringComparison.Ordinal);
        Assert.Equal((2, 1UL), (looks, (await master.PositionAsync()).Generation));
        _stay = [];
        Assert.Equal(2UL, (await compaction.RunAsync()).Position.Generation);
    }

    /// <summary>SAFETY S8: the end of a term proves that nobody stores to its spaces.</summary>
    [Fact]
    public async Task A_term_ends_after_its_compaction()
    {
        Format(64 << 20);
        RunningMaster master = await StartAsync(out LogCompaction compaction);
        using ManualResetEventSlim reached = new();
        using ManualResetEventSlim closed = new();
        bool endedBefore = false;
        int looks = 0;
        _look = () =>
        {
            // The second one comes when the snapshot is written.
            if (++looks < 2)
                return;
            reached.Set();
            closed.Wait();
            Assert.True(SpinWait.SpinUntil(() => compaction.IsStopping || master.Engine.Completion.IsCompleted, TimeSpan.FromSeconds(60)));
            // It has as long as it needs to end before this one does.
            endedBefore = SpinWait.SpinUntil(() => master.Engine.Completion.IsCompleted, TimeSpan.FromMilliseconds(500));
        };
        Task<CompactReply> running = compaction.RunAsync();
        await Task.Run(reached.Wait, TestContext.Current.CancellationToken);
        master.Engine.Close();
        closed.Set();
        await master.Engine.Completion;
        Assert.True(running.IsCompleted);
        Assert.False(endedBefore);
        Assert.Equal(ErrorReason.NotMaster, (await Assert.ThrowsAsync<FamfsException>(() => running)).Reason);
        Assert.Equal(ErrorReason.NotMaster, (await Assert.ThrowsAsync<FamfsException>(() => compaction.RunAsync())).Reason);
        await master.DisposeAsync();
        await using RunningMaster again = await StartAsync(out _);
        Assert.Equal(1UL, (await again.PositionAsync()).Generation);
    }

    private const long Plenty = 1L << 50;

    [Theory]
    [InlineData(100, 1, 0, 0, Plenty, 1000, false)]
    [InlineData(1000, 1, 0, 0, Plenty, 1000, true)]
    // Four times what it comes to.
    [InlineData((4 * 128 * 100) - 1, 1, 0, 100, Plenty, 1000, false)]
    [InlineData(4 * 128 * 100, 1, 0, 100, Plenty, 1000, true)]
    [InlineData(3999, 1, 1000, 1, Plenty, 1000, false)]
    [InlineData(4000, 1, 1000, 1, Plenty, 1000, true)]
    // Many segments, of which the snapshot does not need as many.
    [InlineData(100, 255, 0, 0, Plenty, 1000, false)]
    [InlineData(100, 256, 0, 0, Plenty, 1000, true)]
    [InlineData(70L << 30, 300, 64L << 30, 0, Plenty, 1000, false)]
    [InlineData(70L << 30, 256 + (4 * 1024), 64L << 30, 0, Plenty, 1000, true)]
    // As long as what is free, and no shorter than two units.
    [InlineData(8L << 20, 1, 0, 100, 9L << 20, 64L << 20, false)]
    [InlineData(8L << 20, 1, 0, 100, 8L << 20, 64L << 20, true)]
    [InlineData(8L << 20, 1, 3L << 20, 100, 0, 64L << 20, false)]
    [InlineData(4L << 20, 1, 0, 100, 0, 64L << 20, true)]
    [InlineData((4L << 20) - 1, 1, 0, 100, 0, 64L << 20, false)]
    public void A_log_is_due_when_it_is_much_longer_than_what_it_comes_to(long bytes, int segments, long snapshot, long live, long free, long least, bool isDue) =>
        Assert.Equal(isDue, CompactionWatch.IsDue(bytes, segments, snapshot, live, free, least));

    [Fact]
    public async Task A_log_that_is_due_is_compacted_by_itself_and_one_that_fails_is_tried_again_later()
    {
        Format(64 << 20);
        DevicePool pool = TestFormats.All.Open([DaxDevice.Open(_path)]);
        Recovery.Result recovered = await Recovery.RunAsync(pool, _host, takeOver: true, "", TimeProvider.System, new Random(1), TestContext.Current.CancellationToken);
        await using RunningMaster master = new(recovered, addressLength: 10);
        LogCompaction compaction = new(master.Engine, recovered.Writer.Segments!, pool, TimeProvider.System, new Random(2), () => _stay, NullLogger<LogCompaction>.Instance);
        const long Least = 40_000;
        using CompactionWatch watch = new(master.Engine, compaction, recovered.Index, TimeProvider.System, NullLogger<CompactionWatch>.Instance, Least);
        Assert.Equal(CompactionWatch.Interval, await watch.RunTurnAsync());
        Assert.Equal(1UL, (await master.PositionAsync()).Generation);
        for (int i = 0; await master.QueryAsync(_ => master.Engine.LogBytes) < Least; i++)
        {
            await master.MakeDirectoryAsync($"{i}");
            await master.RunAsync(new Removal(new() { Path = $"{i}" }));
        }
        _stay = ["a mount stays"];
        Assert.Equal(CompactionWatch.FirstPause, await watch.RunTurnAsync());
        Assert.Equal(2 * CompactionWatch.FirstPause, await watch.RunTurnAsync());
        for (int i = 0; i < 20; i++)
            Assert.InRange(await watch.RunTurnAsync(), CompactionWatch.FirstPause, CompactionWatch.LongestPause);
        Assert.Equal(1UL, (await master.PositionAsync()).Generation);
        _stay = [];
        Assert.Equal(CompactionWatch.Interval, await watch.RunTurnAsync());
        Assert.Equal(2UL, (await master.PositionAsync()).Generation);
        Assert.NotEqual(0, recovered.Index.FirstOffset);
        Assert.Equal(CompactionWatch.Interval, await watch.RunTurnAsync());
        Assert.Equal(2UL, (await master.PositionAsync()).Generation);
    }

    [Fact]
    public async Task Without_space_for_it_the_log_stays_where_it_is()
    {
        Format(16 << 20);
        await using RunningMaster master = await StartAsync(out LogCompaction compaction);
        for (int i = 0; await master.FreeBytesAsync() > 0; i++)
            await master.CreateAsync(new() { Path = $"f{i}", SizeBytes = 1 });
        FamfsException error = await Assert.ThrowsAsync<FamfsException>(() => compaction.RunAsync());
        Assert.Equal(ErrorReason.NoSpace, error.Reason);
        Assert.Equal(1UL, (await master.PositionAsync()).Generation);
        await master.MakeDirectoryAsync("d");
    }

    [Fact]
    public async Task A_log_stays_where_it_is_while_a_mount_would_not_follow()
    {
        Format(64 << 20);
        await using RunningMaster master = await StartAsync(out LogCompaction compaction);
        MountRegistry mounts = new(master.State, new(master.State.Pool), TimeProvider.System);
        Guid old = Guid.NewGuid();
        Guid host = Guid.NewGuid();
        mounts.Subscribed(old, host, Guid.NewGuid(), "stock", "1.2.3");
        mounts.Subscribed(Guid.NewGuid(), Guid.NewGuid(), Guid.NewGuid(), "stock", "1.3.0", followsGenerations: true);
        _stay = mounts.FindThoseThatStay();
        Assert.Contains($"mount {old}, of version 1.2.3, does not", Assert.Single(_stay), StringComparison.Ordinal);
        LogPosition before = await master.PositionAsync();
        FamfsException error = await Assert.ThrowsAsync<FamfsException>(() => compaction.RunAsync());
        Assert.Equal(ErrorReason.NotSupportedByFormat, error.Reason);
        Assert.Contains("of version 1.2.3", error.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', error.Message);
        Assert.Equal(before, await master.PositionAsync());
        // Its daemon is updated.
        mounts.Subscribed(old, host, Guid.NewGuid(), "stock", "1.3.0", followsGenerations: true);
        mounts.Unsubscribed(old);
        _stay = mounts.FindThoseThatStay();
        Assert.Empty(_stay);
        Assert.Equal(2UL, (await compaction.RunAsync()).Position.Generation);
    }

    [Fact]
    public async Task A_snapshot_that_memory_does_not_give_back_is_not_entered_and_its_space_is_used_by_the_next()
    {
        FakeSharedMemory memory = new(64L << 20, seed: 1, coherent: true) { AccidentOneIn = 0 };
        using (DaxDevice device = memory.Attach("master"))
            NativeFormatter.Format([device], new() { Host = _host.Host, Clock = TimeProvider.System });
        await using RunningMaster master = Start(TestFormats.All.Open([memory.Attach("master")]), out LogCompaction compaction);
        for (int i = 0; i < 200; i++)
            await master.MakeDirectoryAsync($"d{i}");
        int spaces = master.State.Replay.Segments.Length;
        bool damaged = false;
        memory.BeforeAccess = (_, operation, offset) =>
        {
            // What was written is read again, from the header on.
            ImmutableArray<OwnedSegment> segments = master.State.Replay.Segments;
            if (damaged || operation != FakeOperation.Load || segments.Length == spaces || offset != segments[^1].Extent.OffsetBytes)
                return;
            damaged = true;
            memory.WriteMemory(offset + MediaLayout.SegmentHeaderBytes + 2048, [0xEE, 0xEE]);
        };
        FamfsException error = await Assert.ThrowsAsync<FamfsException>(() => compaction.RunAsync());
        memory.BeforeAccess = null;
        Assert.Equal(ErrorReason.MediaCorrupt, error.Reason);
        Assert.Contains("is not what was written", error.Message, StringComparison.Ordinal);
        Assert.Equal((true, 1UL), (damaged, (await master.PositionAsync()).Generation));
        spaces = master.State.Replay.Segments.Length;
        Assert.Equal(2UL, (await compaction.RunAsync()).Position.Generation);
        Assert.Equal(spaces, master.State.Replay.Segments.Length);
        Assert.Equal(200, Names(master.State.Replay).Count);
    }

    /// <summary>The record that ends a compaction is in the log, and then there is no room to copy what came with it.</summary>
    [Theory]
    [InlineData(2)]
    [InlineData(5)]
    public async Task Records_that_come_faster_than_they_are_copied_are_copied_in_another_round(int tight)
    {
        Format(1L << 30);
        CancellationToken cancel = TestContext.Current.CancellationToken;
        DevicePool pool = TestFormats.All.Open([DaxDevice.Open(_path)]);
        Recovery.Result recovered = await Recovery.RunAsync(pool, _host, takeOver: true, "", TimeProvider.System, new Random(1), cancel);
        TightLog log = new(recovered.Writer.Segments!, tight);
        await using (RunningMaster master = new(recovered, addressLength: 10, new TightWriter(recovered.Writer, log)))
        {
            LogCompaction compaction = new(master.Engine, log, pool, TimeProvider.System, new Random(2), () => [], NullLogger<LogCompaction>.Instance);
            for (int i = 0; i < 20; i++)
                await master.MakeDirectoryAsync($"d{i}");
            if (tight < 5)
                Assert.Equal(2UL, (await compaction.RunAsync()).Position.Generation);
            else
                Assert.Equal(ErrorReason.Overloaded, (await Assert.ThrowsAsync<FamfsException>(() => compaction.RunAsync())).Reason);
            await master.MakeDirectoryAsync("after");
            Assert.Equal(tight < 5 ? 2UL : 1, (await master.PositionAsync()).Generation);
        }
        await using RunningMaster again = await StartAsync(out _);
        Assert.Equal(21, Names(again.State.Replay).Count);
        Assert.Equal(tight < 5 ? 2UL : 1, (await again.PositionAsync()).Generation);
    }

    /// <summary>SAFETY S9: a mount that has not released them may still read them.</summary>
    [Fact]
    public async Task Segments_of_a_former_generation_are_given_back_when_every_mount_has_released_them()
    {
        Format(1L << 30);
        await using RunningMaster master = await StartAsync(out LogCompaction compaction);
        await master.DecideAsync(context =>
        {
            context.Append(RecordType.HostRegistered, new HostRegistered { HostId = _host.Host.ToByteString(), HostSlot = 0, Name = "alpha" });
            return true;
        });
        MountLineTable table = new(master.State.Pool);
        MountLine line = new() { Counter = 1, State = MountState.Live, Host = _host.Host, Boot = Guid.NewGuid(), Mount = Guid.NewGuid() };
        table.Write(0, line);
        // Into several segments.
        for (int i = 0; master.State.Replay.Segments.Length < 4; i++)
        {
            await master.MakeDirectoryAsync($"{i}-{new string('d', 200)}");
            await master.RunAsync(new Removal(new() { Path = $"{i}-{new string('d', 200)}" }));
        }
        OwnedSegment[] before = [.. master.State.Replay.Segments];
        await compaction.RunAsync();
        await compaction.RunAsync();
        OwnedSegment[] after = [.. await master.QueryAsync(_ => master.State.Replay.Segments)];
        // The first one of the slot stays, and what the log is in, or will be.
        Assert.Contains(before[0], after);
        OwnedSegment[] over = [.. before.Except(after)];
        Assert.NotEmpty(over);
        HashSet<InodeNumber> deleted = await master.QueryAsync(_ => master.State.Replay.Tree.EnumerateDeleted().ToHashSet());
        Assert.All(over, segment => Assert.Contains(segment.Inode, deleted));

        MountRegistry mounts = new(master.State, table, TimeProvider.System);
        using SpaceReclaimer reclaimer = new(master.Engine, master.State, mounts, new SpaceZeroing(master.State.Pool), TimeProvider.System, NullLogger<SpaceReclaimer>.Instance);
        for (int i = 0; i < 5; i++)
            _ = await reclaimer.RunTurnAsync();
        Assert.True(master.State.Replay.Tree.DeletedCount >= over.Length);
        Assert.Empty(master.State.Replay.Reservations);
        long free = await master.FreeBytesAsync();
        table.Write(0, line with { Counter = 2, ReleasedWatermark = (await master.PositionAsync()).Sequence });
        for (int i = 0; i < 1000 && master.State.Replay.Tree.DeletedCount > 0; i++)
            _ = await reclaimer.RunTurnAsync();
        Assert.Equal(0, master.State.Replay.Tree.DeletedCount);
        Assert.True(await master.FreeBytesAsync() >= free + over.Sum(s => s.Extent.LengthBytes));
        // The log goes on, also with a third generation.
        await master.MakeDirectoryAsync("after");
        Assert.Equal(4UL, (await compaction.RunAsync()).Position.Generation);
    }

    /// <summary>SAFETY S8: who has claimed the slot, and was not heard of since, may have read the log when they were its own.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Segments_of_another_slot_are_given_back_when_no_master_of_it_may_store_to_them(bool isClaimed)
    {
        Format(1L << 30);
        HostIdentity other = new(Guid.NewGuid(), Guid.NewGuid(), new byte[32], "other");
        OwnedSegment[] first;
        await using (RunningMaster master = await StartAsync(out _))
        {
            await master.DecideAsync(context =>
            {
                Assert.True(context.TryAllocateRun(MediaLayout.UnitBytes, out MapExtent extent));
                context.Append(RecordType.MasterSlotGranted, new MasterSlotGranted
                {
                    Slot = 1,
                    HostId = other.Host.ToByteString(),
                    SegmentInode = context.NextInode.Value,
                    Segment = new() { Device = extent.Device.Value, OffsetBytes = (ulong)extent.OffsetBytes, LengthBytes = (ulong)extent.LengthBytes },
                });
                return true;
            });
            for (int i = 0; SegmentsOf(master, 0).Length < 4; i++)
            {
                await master.MakeDirectoryAsync($"{i}-{new string('d', 200)}");
                await master.RunAsync(new Removal(new() { Path = $"{i}-{new string('d', 200)}" }));
            }
            first = SegmentsOf(master, 0);
        }
        for (int i = 0; i < 2; i++)
        {
            await using RunningMaster master = Start(TestFormats.All.Open([DaxDevice.Open(_path)]), out LogCompaction compaction, other);
            if (i == 0)
                continue;
            // Below this term, as one that was stopped before this one claimed.
            if (isClaimed)
                new AnchorArea(master.State.Pool.PrimaryDevice, master.State.FileSystem).WriteClaim(0, new(master.Engine.Term.Value - 1), Guid.NewGuid(), _host.Host, 1);
            await compaction.RunAsync();
            await master.PositionAsync();
            // Its first one, the newest in the log, and one that was never used: its next master has room.
            Assert.Equal([first[0], .. first[2..]], SegmentsOf(master, 0));
            InodeNumber[] deleted = [first[1].Inode];
            long free = await master.FreeBytesAsync();
            MountRegistry mounts = new(master.State, new(master.State.Pool), TimeProvider.System);
            using SpaceReclaimer reclaimer = new(master.Engine, master.State, mounts, new SpaceZeroing(master.State.Pool), TimeProvider.System, NullLogger<SpaceReclaimer>.Instance);
            for (int turn = 0; turn < 100 && await master.QueryAsync(_ => master.State.Replay.Tree.DeletedCount) > 0; turn++)
                _ = await reclaimer.RunTurnAsync();
            HashSet<InodeNumber> left = await master.QueryAsync(_ => master.State.Replay.Tree.EnumerateDeleted().ToHashSet());
            Assert.Equal(isClaimed ? [.. deleted] : [], left);
            Assert.Equal(isClaimed, master.State.ReclaimWaits.Any(wait => wait.Contains("a former master", StringComparison.Ordinal)));
            Assert.Equal(isClaimed ? free : free + first[1].Extent.LengthBytes, await master.FreeBytesAsync());
        }
        // Its next master has room, and when that has ended, nobody is left.
        await using (RunningMaster master = await StartAsync(out _))
            await master.MakeDirectoryAsync("after");
        await using RunningMaster last = Start(TestFormats.All.Open([DaxDevice.Open(_path)]), out _, other);
        MountRegistry none = new(last.State, new(last.State.Pool), TimeProvider.System);
        using SpaceReclaimer rest = new(last.Engine, last.State, none, new SpaceZeroing(last.State.Pool), TimeProvider.System, NullLogger<SpaceReclaimer>.Instance);
        for (int turn = 0; turn < 100 && await last.QueryAsync(_ => last.State.Replay.Tree.DeletedCount) > 0; turn++)
            _ = await rest.RunTurnAsync();
        Assert.Equal(0, last.State.Replay.Tree.DeletedCount);
        Assert.Empty(last.State.Replay.FormerSegments);
        Assert.Equal("after", Assert.Single(Names(last.State.Replay)));
    }

    private static OwnedSegment[] SegmentsOf(RunningMaster master, int slot) => [.. master.State.Replay.Segments.Where(s => s.Slot == slot)];

    private static ValueTask Follow(ReplayState state, Records records)
    {
        uint seed = Crc32C.Seed(state.Position.FileSystem, records.Generation, records.SegmentId);
        for (ReadOnlySpan<byte> rest = records.Frames.Span; !rest.IsEmpty;)
        {
            Assert.Equal(FrameVerdict.Good, RecordFrame.Parse(rest, seed, out RecordFrame frame));
            rest = rest[frame.PaddedBytes..];
        }
        state.ApplyFrames(records.Generation, records.Frames.Span);
        return default;
    }

    private static List<string> Names(ReplayState state)
    {
        List<string> names = [];
        using TreeReader reader = state.Tree.RegisterReader();
        using TreeScope scope = reader.Enter();
        DirectoryEntries entries = scope.List(InodeNumber.Root, 0);
        while (entries.MoveNext())
            names.Add(System.Text.Encoding.UTF8.GetString(entries.Name));
        names.Sort(StringComparer.Ordinal);
        return names;
    }

    private void Format(long bytes)
    {
        using (FileStream file = File.Create(_path))
            file.SetLength(bytes);
        using DaxDevice device = DaxDevice.Open(_path);
        NativeFormatter.Format([device], new() { Host = _host.Host, Clock = TimeProvider.System });
    }

    private Task<RunningMaster> StartAsync(out LogCompaction compaction)
    {
        return Task.FromResult(Start(TestFormats.All.Open([DaxDevice.Open(_path)]), out compaction));
    }

    private RunningMaster Start(DevicePool pool, out LogCompaction compaction, HostIdentity? host = null)
    {
        Recovery.Result recovered = Recovery.RunAsync(pool, host ?? _host, takeOver: true, "", TimeProvider.System, new Random(1), TestContext.Current.CancellationToken).GetAwaiter().GetResult();
        RunningMaster master = new(recovered, addressLength: 10);
        compaction = new(master.Engine, recovered.Writer.Segments!, pool, TimeProvider.System, new Random(2), FindThoseThatStay, NullLogger<LogCompaction>.Instance);
        return master;
    }

    private IReadOnlyList<string> FindThoseThatStay()
    {
        _look();
        return _stay;
    }

    /// <summary>What a reader that has nothing reads: records, those of a snapshot among them, and the bytes of the log.</summary>
    private (long Records, long Bytes) ReadAll(ulong first, ulong last)
    {
        using DevicePool pool = TestFormats.All.Open([DaxDevice.Open(_path, readOnly: true)]);
        ILogReader reader = pool.Format.OpenReader(pool, TimeProvider.System);
        long records = 0;
        while (reader.Poll(out LogBlock block) == PollVerdict.Records)
        {
            Assert.InRange(block.Generation, first, last);
            records += block.Count;
        }
        return (records, reader.Offset);
    }

    private static async Task WaitAsync(Func<bool> condition, Task running)
    {
        while (!condition())
        {
            if (running.IsCompleted)
                await running;
            await Task.Delay(5, TestContext.Current.CancellationToken);
        }
    }

    /// <summary>A log whose next generation has no room when the engine asks, so many times.</summary>
    private sealed class TightLog(ISegmentedLog inner, int tight) : ISegmentedLog
    {
        public SegmentSpace? Spare => inner.Spare;

        public long RemainingBytes => inner.RemainingBytes;

        public long SegmentCapacityBytes => inner.SegmentCapacityBytes;

        public int SegmentCount => inner.SegmentCount;

        public void Advance(SegmentSpace extent) => inner.Advance(extent);

        public bool Uses(SegmentSpace space) => inner.Uses(space);

        public Term? ReadClaim(int slot) => inner.ReadClaim(slot);

        public INextGeneration BeginGeneration(ILogReader reader, Func<long, SegmentSpace> takeSpace) => new TightGeneration(inner.BeginGeneration(reader, takeSpace), tight);

        public void Enter(INextGeneration next) => inner.Enter(((TightGeneration)next).Inner);
    }

    private sealed class TightGeneration(INextGeneration inner, int tight) : INextGeneration
    {
        private int _tight = tight;

        public INextGeneration Inner => inner;

        public ulong Generation => inner.Generation;

        public LogSequence SnapshotLast => inner.SnapshotLast;

        public LogSequence Last => inner.Last;

        public IReadOnlyList<SegmentSpace> Spaces => inner.Spaces;

        public long RemainingBytes => _tight-- > 0 ? 0 : inner.RemainingBytes;

        public long FrameCount => inner.FrameCount;

        public (LogPosition Last, long Offset) AfterSnapshot => inner.AfterSnapshot;

        public Span<byte> Reserve(int maxBytes) => inner.Reserve(maxBytes);

        public void Commit(int payloadBytes, RecordType type, FrameFlags flags, LogSequence sequence, Term term) => inner.Commit(payloadBytes, type, flags, sequence, term);

        public void EndSnapshot() => inner.EndSnapshot();

        public void Add(in LogBlock records) => inner.Add(records);

        public void RequireRoom(long bytes) => inner.RequireRoom(bytes);

        public void Complete() => inner.Complete();
    }

    private sealed class TightWriter(ILogWriter inner, ISegmentedLog log) : ILogWriter
    {
        public Term Term => inner.Term;

        public LogPosition Position => inner.Position;

        public long Tail => inner.Tail;

        public ulong SegmentId => inner.SegmentId;

        public long RemainingRecords => inner.RemainingRecords;

        public ISegmentedLog Segments => log;

        public void Publish(RecordBatch batch) => inner.Publish(batch);

        public void Check() => inner.Check();

        public void Tick(ulong counter) => inner.Tick(counter);
    }
}
