using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.TestSupport;
using Famfs.TestSupport.Log;
using Famfs.V1;
using Xunit;

namespace Famfs.Core.Tests.Log;

/// <summary>What happens when nothing is hit at a bad moment.</summary>
public sealed class LogTests
{
    private const long SmallSegment = 3 * MediaLayout.SegmentHeaderBytes;

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_new_file_system_has_its_first_records_on_every_host(bool coherent)
    {
        LogBench bench = new(coherent);
        LogHistory history = bench.ReadAll("b");
        Assert.Equal([RecordType.FileSystemCreated, RecordType.DeviceAdded, RecordType.MasterSlotGranted, RecordType.TermEnded], history.Records.Select(r => r.Type));
        Assert.Equal([1UL, 2, 3, 4], history.Records.Select(r => r.Sequence));
        SegmentSpace space = Assert.Single(history.SpacesOf(0));
        Assert.Equal(new(new(0), bench.Superblock.FirstSegmentOffset, MediaLayout.UnitBytes), space);
    }

    [Theory]
    [InlineData(false, 1)]
    [InlineData(false, 2)]
    [InlineData(true, 3)]
    public void A_tailing_reader_sees_exactly_what_is_published_over_many_segments(bool coherent, int seed)
    {
        LogBench bench = new(coherent, seed);
        TestMaster master = bench.StartMaster("a", 0);
        LogReader tailing = bench.NewReader("b");
        LogHistory seen = new(bench.Superblock.FileSystem);
        Random random = new(seed);
        ulong value = 0;
        for (int segment = 0; segment < 40; segment++)
        {
            for (int batch = random.Next(1, 4); batch > 0; batch--)
            {
                master.PublishValues([.. Enumerable.Range(0, random.Next(1, 20)).Select(_ => ++value)]);
                if (random.Next(3) == 0)
                {
                    Assert.Equal(PollVerdict.UpToDate, LogBench.Drain(tailing, seen));
                    LogBench.RequireSame(master.History, seen);
                    Assert.Equal(master.Writer.Tail, tailing.Offset);
                    Assert.Equal(master.Writer.Position, tailing.Position);
                }
            }
            master.GoOn(SmallSegment);
        }
        Assert.Equal(41, master.Writer.SegmentCount);
        master.PublishValues(++value);

        LogBench.Drain(tailing, seen);
        LogBench.RequireSame(master.History, seen);
        Assert.Equal(41, tailing.Chain.Count);
        Assert.Equal(MediaLayout.MaxChainInAnchor, tailing.Anchor!.Chain.Length);

        // The older segments are found through the headers.
        LogReader late = bench.NewReader("c");
        LogHistory all = TestMaster.Replay(late, bench.OpenPool("c"));
        LogBench.RequireSame(master.History, all);
        Assert.Equal(tailing.Chain, late.Chain);
    }

    [Fact]
    public void A_damaged_header_of_an_old_segment_is_corruption()
    {
        LogBench bench = new();
        TestMaster master = bench.StartMaster("a", 0);
        for (int i = 0; i < 40; i++)
        {
            master.PublishValues((ulong)i);
            master.GoOn(SmallSegment);
        }
        bench.Damage(master.Mastership.Reader.Chain[0].Offset + (5L * SmallSegment) + MediaLayout.UnitBytes + 40);
        FamfsException error = Assert.Throws<FamfsException>(() => bench.ReadAll("b"));
        Assert.Equal(ErrorReason.MediaCorrupt, error.Reason);
        Assert.Contains("header of log segment", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Nothing_is_seen_before_it_is_published()
    {
        LogBench bench = new();
        TestMaster master = bench.StartFirst();
        LogHistory before = bench.ReadAll("b");
        RecordBatch batch = master.StartBatch();
        batch.Add(RecordType.TermEnded, new TermEnded { TimeNs = 1 });
        LogBench.RequireSame(before, bench.ReadAll("b"));
        master.PublishBatch();
        Assert.Equal(before.Records.Count + 1, bench.ReadAll("b").Records.Count);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_takeover_deposes_the_old_writer_for_good_and_readers_follow(bool coherent)
    {
        LogBench bench = new(coherent);
        TestMaster first = bench.StartFirst();
        LogReader tailing = bench.NewReader("c");
        LogHistory seen = TestMaster.Replay(tailing, bench.OpenPool("c"));
        long sealedAt = first.Writer.Tail;
        ulong before = first.Writer.Position.Sequence.Value;

        Mastership claim = Mastership.Claim(bench.OpenPool("b"), 1, LogBench.HostB, Guid.NewGuid(), new HastyClock());
        Assert.Equal(PollVerdict.TakeoverPending, LogBench.Drain(tailing, seen));
        FamfsException deposed = Assert.Throws<FamfsException>(() => first.PublishValues(100));
        Assert.Equal(ErrorReason.NotMaster, deposed.Reason);
        Assert.Throws<FamfsException>(first.Writer.Check);

        // The unacknowledged record was in memory before the claimant looked, so it is part of the history.
        TestMaster second = TestMaster.Activate(claim, TestMaster.Replay(claim.Reader, bench.OpenPool("b")));
        long adoptedTail = second.Mastership.Reader.Offset;
        Assert.True(adoptedTail > sealedAt);
        Assert.Equal(before + 1, second.Writer.Position.Sequence.Value);
        second.PublishValues(200, 201);
        Assert.Equal(PollVerdict.UpToDate, LogBench.Drain(tailing, seen));
        LogBench.RequireSame(second.History, seen);
        Assert.Equal(2, tailing.Chain.Count);
        Assert.Equal(adoptedTail - tailing.Chain[0].AbsoluteStart, tailing.Chain[0].SealedBytes);
        Assert.Equal(1, tailing.Chain[1].Term.Slot);

        foreach (Action late in new Action[] { () => first.PublishValues(101), () => first.Writer.Check(), () => first.Writer.Advance(new(new(0), 40 << 20, SmallSegment)) })
            Assert.Equal(ErrorReason.NotMaster, Assert.Throws<FamfsException>(late).Reason);
        LogBench.Drain(tailing, seen);
        LogBench.RequireSame(second.History, seen);
        LogBench.RequireSame(second.History, bench.ReadAll("d"));
    }

    [Fact]
    public void A_restart_in_the_same_slot_goes_on_in_the_same_segment()
    {
        LogBench bench = new();
        LogReader tailing = bench.NewReader("c");
        LogHistory seen = new(bench.Superblock.FileSystem);
        Term term = default;
        for (int start = 1; start <= 5; start++)
        {
            TestMaster master = bench.StartMaster("a", 0);
            Assert.True(master.Writer.Term > term);
            Assert.Equal(0, master.Writer.Term.Slot);
            term = master.Writer.Term;
            master.PublishValues((ulong)start, 77);
            Assert.Equal(1, master.Writer.SegmentCount);
            LogBench.Drain(tailing, seen);
            LogBench.RequireSame(master.History, seen);
        }
        LogBench.RequireSame(seen, bench.ReadAll("b"));
    }

    [Fact]
    public void Slots_that_take_turns_share_no_bytes()
    {
        LogBench bench = new();
        TestMaster master = bench.StartFirst();
        LogReader tailing = bench.NewReader("c");
        LogHistory seen = new(bench.Superblock.FileSystem);
        for (int turn = 0; turn < 36; turn++)
        {
            master = bench.StartMaster(turn % 2 == 0 ? "b" : "a", (turn + 1) % 2);
            master.PublishValues((ulong)turn, 1000);
            LogBench.Drain(tailing, seen);
        }
        LogBench.RequireSame(master.History, seen);
        LogBench.RequireSame(master.History, bench.ReadAll("d"));
        Assert.Equal(37, tailing.Chain.Count);
        SegmentRef[] byPlace = [.. tailing.Chain.OrderBy(s => s.Offset)];
        for (int i = 1; i < byPlace.Length; i++)
            Assert.True(byPlace[i - 1].DeviceOffsetOf(byPlace[i - 1].AbsoluteStart) + Math.Max(0, byPlace[i - 1].SealedBytes) <= byPlace[i].Offset);
    }

    [Fact]
    public void A_slot_without_space_is_told_so_before_anything_becomes_active()
    {
        LogBench bench = new();
        TestMaster first = bench.StartFirst();
        Mastership claim = Mastership.Claim(bench.OpenPool("b"), 2, LogBench.HostB, Guid.NewGuid(), new HastyClock());
        LogHistory history = TestMaster.Replay(claim.Reader, bench.OpenPool("b"));
        Assert.Equal(ErrorReason.LogFull, Assert.Throws<FamfsException>(() => TestMaster.Activate(claim, history)).Reason);
        TestMaster again = bench.StartMaster("a", 0);
        Assert.Equal(first.History.Records.Count, again.History.Records.Count);
    }

    [Fact]
    public void A_restart_whose_segment_is_nearly_full_moves_to_other_own_space()
    {
        LogBench bench = new();
        TestMaster master = bench.StartMaster("a", 0);
        master.Publish(RecordType.SegmentReserved, new SegmentReserved { Extent = new() { OffsetBytes = (ulong)master.History.FreeOffset, LengthBytes = MediaLayout.UnitBytes } });
        while (master.Writer.RemainingBytes > 100_000)
        {
            RecordBatch batch = master.StartBatch();
            batch.Commit(60_000, RecordType.DirectoryMade);
            master.PublishBatch();
        }
        TestMaster again = bench.StartMaster("a", 0);
        Assert.Equal(2, again.Writer.SegmentCount);
        again.PublishValues(1);
        LogBench.RequireSame(again.History, bench.ReadAll("b"));
    }

    [Fact]
    public void A_restart_with_no_other_space_goes_on_in_what_is_left()
    {
        LogBench bench = new();
        TestMaster master = bench.StartMaster("a", 0);
        while (master.Writer.RemainingBytes > 100_000)
        {
            RecordBatch batch = master.StartBatch();
            batch.Commit(60_000, RecordType.DirectoryMade);
            master.PublishBatch();
        }
        TestMaster again = bench.StartMaster("a", 0);
        Assert.Equal(1, again.Writer.SegmentCount);
        again.GoOn(MediaLayout.UnitBytes);
        again.PublishValues(1);
        LogBench.RequireSame(again.History, bench.ReadAll("b"));
    }

    [Fact]
    public void An_empty_batch_only_checks()
    {
        LogBench bench = new();
        TestMaster first = bench.StartFirst();
        LogPosition position = first.Writer.Position;
        first.StartBatch();
        first.PublishBatch();
        Assert.Equal(position, first.Writer.Position);
        bench.StartMaster("b", 1);
        first.StartBatch();
        Assert.Throws<FamfsException>(first.PublishBatch);
    }

    [Fact]
    public void A_batch_made_for_another_place_or_too_large_is_refused_and_changes_nothing()
    {
        LogBench bench = new();
        TestMaster master = bench.StartFirst();
        RecordBatch batch = new();
        foreach ((LogSequence last, Term term, uint seed) in new[]
        {
            (master.Writer.Position.Sequence.Next, master.Writer.Term, master.Writer.Seed),
            (master.Writer.Position.Sequence, new(master.Writer.Term.Value + 64), master.Writer.Seed),
            (master.Writer.Position.Sequence, master.Writer.Term, master.Writer.Seed + 1),
        })
        {
            batch.Start(last, term, seed);
            batch.Add(RecordType.TermEnded, new TermEnded());
            Assert.Throws<InvalidOperationException>(() => master.Writer.Publish(batch));
        }
        batch.Start(master.Writer.Position.Sequence, master.Writer.Term, master.Writer.Seed);
        while (batch.LengthBytes <= master.Writer.RemainingBytes)
            batch.Commit(60_000, RecordType.DirectoryMade);
        Assert.Throws<InvalidOperationException>(() => master.Writer.Publish(batch));
        Assert.Throws<FamfsException>(() => batch.Add(RecordType.FileSystemCreated, new FileSystemCreated { Label = new string('x', 70_000) }));
        master.PublishValues(9);
        LogBench.RequireSame(master.History, bench.ReadAll("b"));
    }

    [Fact]
    public void A_reader_resumes_where_pushed_records_have_brought_it()
    {
        LogBench bench = new();
        TestMaster master = bench.StartFirst();
        LogReader reader = bench.NewReader("b");
        reader.Resume(master.Writer.Position, master.Writer.Tail);
        Assert.Equal(PollVerdict.UpToDate, reader.Poll(out _));
        master.PublishValues(50);
        Assert.Equal(PollVerdict.Records, reader.Poll(out LogBlock block));
        Assert.Equal(1, block.Count);
        Assert.Equal(master.Writer.Position.Sequence, block.FirstSequence);
    }

    [Theory]
    [InlineData(8, 0, 0)]
    [InlineData(0, 0, 64)]
    [InlineData(8, 1, 0)]
    public void A_reader_with_another_past_is_told_to_resync(int moreOffset, int moreSequence, int moreTerm)
    {
        LogBench bench = new();
        TestMaster first = bench.StartFirst();
        LogPosition position = first.Writer.Position;
        LogReader reader = bench.NewReader("c");
        TestMaster second = bench.StartMaster("b", 1);
        second.PublishValues(1, 2);
        reader.Resume(position with { Sequence = new(position.Sequence.Value + (ulong)moreSequence), Term = new(position.Term.Value + (ulong)moreTerm) }, second.Mastership.Reader.Offset + moreOffset);
        Assert.Equal(PollVerdict.Diverged, reader.Poll(out _));
    }

    [Fact]
    public async Task A_heartbeat_that_moves_shows_a_live_master_and_the_own_slot_is_not_watched()
    {
        LogBench bench = new();
        TestMaster master = bench.StartFirst();
        DevicePool pool = bench.OpenPool("b");
        ulong beats = 0;
        SteppingClock clock = new(() => master.Writer.Tick(++beats));
        CancellationToken cancel = TestContext.Current.CancellationToken;
        Assert.Equal(0, await Mastership.DetectLiveMasterAsync(pool, 1, TimeSpan.FromSeconds(3), clock, cancel));
        Assert.Null(await Mastership.DetectLiveMasterAsync(pool, 0, TimeSpan.FromSeconds(3), clock, cancel));
        Assert.Null(await Mastership.DetectLiveMasterAsync(pool, 1, TimeSpan.FromSeconds(3), new SteppingClock(() => { }), cancel));
        // The heartbeat shares the tail's line and must not disturb it.
        master.PublishValues(5);
        LogBench.RequireSame(master.History, bench.ReadAll("c"));
    }

    /// <summary>What repair, import and migrate do before they change anything.</summary>
    [Fact]
    public async Task The_masters_place_is_not_given_while_a_heartbeat_moves_or_any_slot_of_this_host_is_locked()
    {
        LogBench bench = new();
        TestMaster master = bench.StartFirst();
        DaxDevice device = bench.OpenPool("b").PrimaryDevice;
        ulong beats = 0;
        CancellationToken cancel = TestContext.Current.CancellationToken;
        Task<MaintenanceLock> Hold(Action step) => MaintenanceLock.HoldAsync([device], TestFormats.All, new("no such file", TimeSpan.FromSeconds(3), new SteppingClock(step), HostLocks.None), cancel);

        FamfsException living = await Assert.ThrowsAsync<FamfsException>(() => Hold(() => master.Writer.Tick(++beats)));
        Assert.Equal((ErrorReason.Exists, "the master of slot 0 is running"), (living.Reason, living.Message[(living.Message.IndexOf(':', StringComparison.Ordinal) + 2)..]));
        foreach (int slot in new[] { 0, 1, Term.SlotCount - 1 })
        {
            Assert.True(bench.OpenPool("b").PrimaryDevice.TryLockByte(slot, out IDisposable? held));
            Assert.Contains($"slot {slot} is locked", (await Assert.ThrowsAsync<FamfsException>(() => Hold(() => { }))).Message, StringComparison.Ordinal);
            held.Dispose();
        }
        using (await Hold(() => { }))
        {
            foreach (int slot in new[] { 0, 1, Term.SlotCount - 1 })
                Assert.False(bench.OpenPool("b").PrimaryDevice.TryLockByte(slot, out _));
        }
        Assert.True(bench.OpenPool("b").PrimaryDevice.TryLockByte(0, out _));
    }

    /// <summary>A clock whose waits end at once, after something has happened.</summary>
    private sealed class SteppingClock(Action step) : TimeProvider
    {
        private long _now;

        public override long TimestampFrequency => TimeSpan.TicksPerSecond;

        public override long GetTimestamp() => _now;

        public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
        {
            _now += Math.Max(dueTime.Ticks, 0);
            step();
            return System.CreateTimer(callback, state, TimeSpan.Zero, Timeout.InfiniteTimeSpan);
        }
    }
}
