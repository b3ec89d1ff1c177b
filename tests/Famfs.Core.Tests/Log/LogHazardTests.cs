using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.TestSupport.Dax;
using Famfs.TestSupport.Log;
using Famfs.V1;
using Xunit;

namespace Famfs.Core.Tests.Log;

/// <summary>What happens at the worst moment, staged with the hook of the fake memory.</summary>
public sealed class LogHazardTests
{
    /// <summary>A master stores its tail between a local reader's invalidation and load of the line and is stopped
    /// before it writes it back: the reader finds the tail in the cache they share. A claimant elsewhere would
    /// not, unless the reader makes it land: it would take a damaged record for one that nobody has published.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_reader_relies_on_no_tail_that_only_its_own_host_can_see(bool isDamaged)
    {
        LogBench bench = new(accidentOneIn: 0);
        TestMaster first = bench.StartFirst();
        LogReader local = bench.NewReader("a");
        LogHistory seen = TestMaster.Replay(local, bench.OpenPool("a"));
        long place = first.Writer.Segment.DeviceOffsetOf(first.Writer.Tail);
        using SemaphoreSlim stored = new(0);
        using SemaphoreSlim goOn = new(0);
        Task<FamfsException>? publishing = null;
        On(bench.Memory, "a", FakeOperation.Load, LogBench.TailLine(0), () =>
        {
            On(bench.Memory, "a", FakeOperation.WriteBack, LogBench.TailLine(0), () =>
            {
                stored.Release();
                goOn.Wait();
            });
            publishing = Task.Run(() => Assert.Throws<FamfsException>(() => first.PublishValues(100)));
            Assert.True(stored.Wait(TimeSpan.FromMinutes(1)));
        });
        try
        {
            Assert.Equal(PollVerdict.Records, local.Poll(out LogBlock block));
            seen.Apply(block);
            if (isDamaged)
            {
                bench.Memory.WriteMemory(place, new byte[DaxDevice.LineBytes]);
                Assert.Equal(ErrorReason.MediaCorrupt, Assert.Throws<FamfsException>(() => bench.StartMaster("b", 1)).Reason);
            }
            else
            {
                TestMaster second = bench.StartMaster("b", 1);
                second.PublishValues(500);
                Assert.Equal(PollVerdict.UpToDate, LogBench.Drain(local, seen));
                LogBench.RequireSame(second.History, seen);
            }
        }
        finally
        {
            goOn.Release();
        }
        Assert.Equal(ErrorReason.NotMaster, (await publishing!).Reason);
    }

    /// <summary>Bytes that stop being records while somebody else takes over are judged again under the new master.</summary>
    [Fact]
    public void Damage_that_comes_with_a_takeover_is_not_called_corrupt_yet()
    {
        LogBench bench = new(accidentOneIn: 0);
        TestMaster first = bench.StartFirst();
        LogReader reader = bench.NewReader("c");
        TestMaster.Replay(reader, bench.OpenPool("c"));
        long place = first.Mastership.Reader.Chain[^1].DeviceOffsetOf(first.Writer.Tail);
        first.PublishValues(100);
        On(bench.Memory, "c", FakeOperation.Invalidate, place, () =>
        {
            bench.Memory.WriteMemory(place, new byte[64]);
            Mastership.Claim(bench.OpenPool("b"), 1, LogBench.HostB, Guid.NewGuid(), new HastyClock());
        });
        Assert.Equal(PollVerdict.TakeoverPending, reader.Poll(out _));
    }

    /// <summary>A reader is stopped between its look at the claims and at the tail; in between, somebody takes
    /// over, replays another tail, and the old master's last one lands.</summary>
    [Fact]
    public void A_reader_applies_nothing_when_a_claim_appears_while_it_reads()
    {
        LogBench bench = new(accidentOneIn: 0);
        TestMaster first = bench.StartFirst();
        LogReader reader = bench.NewReader("c");
        LogHistory seen = TestMaster.Replay(reader, bench.OpenPool("c"));
        int before = seen.Records.Count;
        Mastership? claim = null;
        LogHistory? replayed = null;
        On(bench.Memory, "c", FakeOperation.Invalidate, LogBench.TailLine(0), () =>
        {
            On(bench.Memory, "a", FakeOperation.Store, LogBench.TailLine(0), () =>
            {
                claim = Mastership.Claim(bench.OpenPool("b"), 1, LogBench.HostB, Guid.NewGuid(), new HastyClock());
                replayed = TestMaster.Replay(claim.Reader, bench.OpenPool("b"));
            });
            Assert.Throws<FamfsException>(() => first.PublishValues(100));
        });
        PollVerdict polled = reader.Poll(out _);
        Assert.Equal(PollVerdict.TakeoverPending, polled);
        Assert.Equal((ulong)before, reader.Position.Sequence.Value);
        TestMaster second = TestMaster.Activate(claim!, replayed!);
        second.PublishValues(700);
        Assert.Equal(PollVerdict.UpToDate, LogBench.Drain(reader, seen));
        LogBench.RequireSame(second.History, seen);
    }

    /// <summary>A reader that is stopped while its master restarts and publishes finds an anchor of another term;
    /// that is a takeover and not damage.</summary>
    [Fact]
    public void A_slot_that_was_restarted_during_a_poll_is_not_called_corrupt()
    {
        LogBench bench = new(accidentOneIn: 0);
        TestMaster first = bench.StartFirst();
        LogReader reader = bench.NewReader("c");
        LogHistory seen = TestMaster.Replay(reader, bench.OpenPool("c"));
        TestMaster? again = null;
        On(bench.Memory, "c", FakeOperation.Invalidate, LogBench.TailLine(0), () =>
        {
            again = bench.StartMaster("a", 0);
            again.PublishValues(8);
        });
        Assert.Equal(PollVerdict.TakeoverPending, reader.Poll(out _));
        Assert.Equal(PollVerdict.UpToDate, LogBench.Drain(reader, seen));
        LogBench.RequireSame(again!.History, seen);
        Assert.True(again.Writer.Term > first.Writer.Term);
    }

    /// <summary>The same for a claimant: the older claimant's anchor is below its own term, so it goes on behind it.</summary>
    [Fact]
    public void A_claimant_goes_on_behind_an_older_claimant_that_becomes_active_late()
    {
        LogBench bench = new(accidentOneIn: 0);
        bench.StartFirst();
        Mastership older = Mastership.Claim(bench.OpenPool("a"), 0, LogBench.HostA, Guid.NewGuid(), new HastyClock());
        LogHistory olderHistory = TestMaster.Replay(older.Reader, bench.OpenPool("a"));
        Mastership? newer = null;
        TestMaster master = TestMaster.Activate(older, olderHistory);
        On(bench.Memory, "a", FakeOperation.Store, LogBench.TailLine(0), () => newer = Mastership.Claim(bench.OpenPool("b"), 1, LogBench.HostB, Guid.NewGuid(), new HastyClock()));
        Assert.Throws<FamfsException>(() => master.PublishValues(1));
        LogHistory history = TestMaster.Replay(newer!.Reader, bench.OpenPool("b"));
        TestMaster second = TestMaster.Activate(newer, history);
        second.PublishValues(2);
        LogBench.RequireSame(second.History, bench.ReadAll("d"));
    }

    /// <summary>
    /// Term A publishes a record that only claimant C finds; claimant B, who looked earlier, becomes active
    /// without it. A's slot starts anew behind B and dies before it is active. C's anchor lands last of all and
    /// is the highest active one: what it adopted must still be there.
    /// </summary>
    [Fact]
    public void A_restarted_slot_overwrites_nothing_that_another_claimant_may_have_adopted()
    {
        LogBench bench = new(accidentOneIn: 0);
        TestMaster a = bench.StartFirst();
        a.Grant(2, LogBench.HostB);
        Mastership? b = null;
        LogHistory? historyB = null;
        // Before the first frame is stored: frames that are there are adopted.
        On(bench.Memory, "a", FakeOperation.Store, a.Mastership.Reader.Chain[^1].DeviceOffsetOf(a.Writer.Tail), () =>
        {
            b = Mastership.Claim(bench.OpenPool("b"), 1, LogBench.HostB, Guid.NewGuid(), new HastyClock());
            historyB = TestMaster.Replay(b.Reader, bench.OpenPool("b"));
        });
        // Long enough to reach behind the page in which the restarted term would begin.
        Assert.Throws<FamfsException>(() => a.PublishValues([.. Enumerable.Range(0, 400).Select(i => (ulong)i)]));

        Mastership c = Mastership.Claim(bench.OpenPool("c"), 2, LogBench.HostB, Guid.NewGuid(), new HastyClock());
        LogHistory historyC = TestMaster.Replay(c.Reader, bench.OpenPool("c"));
        Assert.Equal(historyB!.Records.Count + 400, historyC.Records.Count);
        Assert.Throws<FamfsException>(() => TestMaster.Activate(b!, historyB));

        // A's slot follows B and dies when its new segment's header is in memory and its anchor is not.
        Mastership again = Mastership.Claim(bench.OpenPool("a"), 0, LogBench.HostA, Guid.NewGuid(), new HastyClock());
        LogHistory historyA = TestMaster.Replay(again.Reader, bench.OpenPool("a"));
        Assert.Equal(historyB.Records.Count, historyA.Records.Count);
        bench.Memory.BeforeAccess = (host, operation, offset) =>
        {
            if (operation == FakeOperation.Store && offset >= LogBench.SlotOffset(0) + 2048 && offset < LogBench.SlotOffset(1))
                throw new TimeoutException("dead");
        };
        Assert.Throws<TimeoutException>(() => TestMaster.Activate(again, historyA));
        bench.Memory.BeforeAccess = null;

        Assert.Throws<FamfsException>(() => TestMaster.Activate(c, historyC));
        TestMaster last = bench.StartMaster("b", 1);
        Assert.Equal(historyC.Records, last.History.Records);
        last.PublishValues(900);
        LogBench.RequireSame(last.History, bench.ReadAll("d"));
    }

    /// <summary>
    /// A claimant adopts frames and dies between its two active copies; then a line of the first one is lost. An older claimant,
    /// which had looked before those frames were there, has become active in between: the next one goes on behind it. Nobody may
    /// have relied on what only the lost copy told.
    /// </summary>
    [Fact]
    public void A_reader_follows_no_term_whose_active_copy_is_in_memory_once()
    {
        LogBench bench = new(accidentOneIn: 0);
        TestMaster first = bench.StartFirst();
        first.Grant(2, LogBench.HostB);
        Mastership older = Mastership.Claim(bench.OpenPool("d"), 2, LogBench.HostB, Guid.NewGuid(), new HastyClock());
        LogHistory olderHistory = TestMaster.Replay(older.Reader, bench.OpenPool("d"));
        long place = first.Mastership.Reader.Chain[^1].DeviceOffsetOf(first.Writer.Tail);
        RecordBatch batch = first.StartBatch();
        batch.Add(RecordType.TermStarted, new TermStarted { Address = "stored and never published" });
        bench.Memory.Settle();
        bench.Memory.WriteMemory(place, batch.Frames);

        Mastership claim = Mastership.Claim(bench.OpenPool("b"), 1, LogBench.HostB, Guid.NewGuid(), new HastyClock());
        LogHistory adopted = TestMaster.Replay(claim.Reader, bench.OpenPool("b"));
        Assert.Equal(olderHistory.Records.Count + 1, adopted.Records.Count);
        bench.Memory.BeforeAccess = (host, operation, offset) =>
        {
            if (operation == FakeOperation.Store && offset == LogBench.SlotOffset(1) + 2048 + ActiveAnchor.Size)
                throw new TimeoutException("dead");
        };
        Assert.Throws<TimeoutException>(() => TestMaster.Activate(claim, adopted));
        bench.Memory.BeforeAccess = null;
        Assert.Throws<FamfsException>(() => TestMaster.Activate(older, olderHistory));

        LogReader reader = bench.NewReader("c");
        LogHistory seen = new(bench.Superblock.FileSystem);
        Assert.Equal(PollVerdict.TakeoverPending, LogBench.Drain(reader, seen));
        bench.Damage(LogBench.SlotOffset(1) + 2048);
        TestMaster next = bench.StartMaster("a", 0);
        Assert.Equal(PollVerdict.UpToDate, LogBench.Drain(reader, seen));
        LogBench.RequireSame(next.History, seen);
    }

    /// <summary>The record may have been applied by readers although its writer could not check: nothing else may
    /// take its place.</summary>
    [Fact]
    public void A_writer_whose_check_failed_publishes_nothing_more()
    {
        LogBench bench = new();
        TestMaster master = bench.StartFirst();
        LogReader reader = bench.NewReader("b");
        LogHistory seen = TestMaster.Replay(reader, bench.OpenPool("b"));
        bench.Memory.Poison(LogBench.SlotOffset(7), 64, "a");
        Assert.Throws<DeviceFaultException>(() => master.PublishValues(100));
        bench.Memory.ClearPoison();
        Assert.Equal(PollVerdict.UpToDate, LogBench.Drain(reader, seen));
        ulong applied = reader.Position.Sequence.Value;
        Assert.Equal(ErrorReason.MediaCorrupt, Assert.Throws<FamfsException>(() => master.PublishValues(200)).Reason);
        Assert.Throws<FamfsException>(master.Writer.Check);
        TestMaster again = bench.StartMaster("a", 0);
        Assert.Equal(applied, (ulong)again.History.Records.Count);
        again.PublishValues(300);
        LogBench.Drain(reader, seen);
        LogBench.RequireSame(again.History, seen);
    }

    [Fact]
    public void A_failed_advance_ends_the_writer()
    {
        LogBench bench = new();
        TestMaster master = bench.StartFirst();
        bench.Memory.Poison(LogBench.SlotOffset(0) + 2048, 4096, "a");
        Assert.Throws<DeviceFaultException>(() => master.GoOn(MediaLayout.UnitBytes));
        bench.Memory.ClearPoison();
        Assert.Throws<FamfsException>(() => master.PublishValues(1));
        TestMaster again = bench.StartMaster("a", 0);
        again.PublishValues(2);
        LogBench.RequireSame(again.History, bench.ReadAll("b"));
    }

    [Fact]
    public void A_claimant_that_sees_a_higher_claim_stops()
    {
        LogBench bench = new();
        bench.StartFirst();
        Mastership lower = Mastership.Claim(bench.OpenPool("a"), 0, LogBench.HostA, Guid.NewGuid(), new HastyClock());
        LogHistory history = TestMaster.Replay(lower.Reader, bench.OpenPool("a"));
        Mastership higher = Mastership.Claim(bench.OpenPool("b"), 1, LogBench.HostB, Guid.NewGuid(), new HastyClock());
        Assert.True(higher.Term > lower.Term);
        Assert.Equal(ErrorReason.NotMaster, Assert.Throws<FamfsException>(() => lower.Reader.Poll(out _)).Reason);
        Assert.Throws<InvalidOperationException>(() => TestMaster.Activate(lower, history));
    }

    [Fact]
    public void A_claim_that_memory_does_not_give_back_is_no_claim()
    {
        LogBench bench = new(accidentOneIn: 0);
        bench.StartFirst();
        bool stored = false;
        bench.Memory.BeforeAccess = (host, operation, offset) =>
        {
            stored |= host == "b" && operation == FakeOperation.Store && offset >= LogBench.SlotOffset(1) && offset < LogBench.SlotOffset(1) + 64;
            if (stored && operation == FakeOperation.Load && offset == LogBench.SlotOffset(1))
                bench.Memory.WriteMemory(offset, new byte[64]);
        };
        Assert.Equal(ErrorReason.NotMaster, Assert.Throws<FamfsException>(() => bench.StartMaster("b", 1)).Reason);
    }

    /// <summary>Every way in which a crash can tear the first claim of a slot, or damage can, leaves everybody else working: its
    /// claimant reads nothing before the second line is there.</summary>
    [Fact]
    public void A_first_claim_that_is_torn_or_damaged_stops_nobody_until_the_second_line_is_there()
    {
        LogBench bench = new();
        TestMaster master = bench.StartFirst();
        byte[] line = new byte[AnchorClaim.Size];
        new AnchorClaim(1, new(10 * 64 + 9), Guid.NewGuid(), Guid.NewGuid(), 1).Format(line, bench.Superblock.FileSystem, 9);
        for (int missing = 1; missing < 255; missing++)
        {
            byte[] torn = [.. line];
            for (int word = 0; word < 8; word++)
            {
                if ((missing & (1 << word)) != 0)
                    torn.AsSpan(word * 8, 8).Clear();
            }
            bench.Memory.WriteMemory(LogBench.SlotOffset(9), torn);
            master.Writer.Check();
        }
        master.PublishValues(1);
        Assert.Equal(master.History.Records, bench.ReadAll("b").Records);

        line[20] ^= 1;
        bench.Memory.WriteMemory(LogBench.SlotOffset(9), line);
        LogBench.RequireSame(master.History, bench.ReadAll("b"));
        master.PublishValues(2);
        AnchorClaim second = new(2, new(10 * 64 + 9), Guid.NewGuid(), Guid.NewGuid(), 1);
        byte[] other = new byte[AnchorClaim.Size];
        second.Format(other, bench.Superblock.FileSystem, 9);
        bench.Memory.WriteMemory(LogBench.SlotOffset(9) + AnchorClaim.Size, other);
        Assert.Equal(ErrorReason.NotMaster, Assert.Throws<FamfsException>(() => master.PublishValues(3)).Reason);

        // What both lines held cannot be known.
        other[20] ^= 1;
        bench.Memory.WriteMemory(LogBench.SlotOffset(9) + AnchorClaim.Size, other);
        Assert.Equal(ErrorReason.MediaCorrupt, Assert.Throws<FamfsException>(() => bench.ReadAll("b")).Reason);
        Assert.Equal(ErrorReason.MediaCorrupt, Assert.Throws<FamfsException>(() => bench.StartMaster("b", 1)).Reason);
    }

    [Fact]
    public void One_torn_active_copy_is_survived_and_two_are_damage()
    {
        LogBench bench = new();
        bench.StartFirst();
        TestMaster again = bench.StartMaster("a", 0);
        again.PublishValues(1);
        AnchorArea anchors = new(bench.Memory.Attach("x"), bench.Superblock.FileSystem);
        ActiveAnchor active = anchors.ReadSlot(0).Active!;
        long older = LogBench.SlotOffset(0) + 2048 + (active.Counter % 2 == 1 ? ActiveAnchor.Size : 0);
        bench.Damage(older + 300);
        Assert.Equal(active.Counter, anchors.ReadSlot(0).Active!.Counter);
        LogBench.RequireSame(again.History, bench.ReadAll("b"));
        bench.Damage(LogBench.SlotOffset(0) + 2048 + (active.Counter % 2 == 1 ? 0 : ActiveAnchor.Size) + 300);
        Assert.True(anchors.ReadSlot(0).Unreadable);
        Assert.Equal(ErrorReason.MediaCorrupt, Assert.Throws<FamfsException>(() => bench.StartMaster("b", 1)).Reason);
    }

    [Fact]
    public void An_active_term_whose_claim_is_gone_is_damage()
    {
        LogBench bench = new();
        bench.StartFirst();
        TestMaster master = bench.StartMaster("b", 1);
        master.PublishValues(1);
        bench.Memory.Settle();
        bench.Memory.WriteMemory(LogBench.SlotOffset(1), new byte[128]);
        foreach (Action look in new Action[] { () => bench.ReadAll("c"), () => bench.StartMaster("a", 0), () => master.PublishValues(2) })
            Assert.NotNull(Assert.Throws<FamfsException>(look));
        Assert.Equal(ErrorReason.MediaCorrupt, Assert.Throws<FamfsException>(() => bench.ReadAll("c")).Reason);
    }

    [Theory]
    [InlineData("flipped bit")]
    [InlineData("cut")]
    [InlineData("another file system")]
    [InlineData("older term")]
    [InlineData("another sequence")]
    public void Bytes_below_the_tail_that_are_no_record_are_corruption_with_their_place(string what)
    {
        LogBench bench = new();
        TestMaster master = bench.StartFirst();
        TestMaster again = bench.StartMaster("a", 0);
        LogBench.RequireSame(again.History, bench.ReadAll("b"));
        SegmentRef segment = again.Mastership.Reader.Chain[^1];
        long place = segment.DeviceOffsetOf(again.Writer.Tail);
        ulong sequence = again.Writer.Position.Sequence.Value + 1;
        again.PublishValues(5);
        bench.Memory.Settle();
        int payload = 8 + (5 % 23);
        byte[] frame = new byte[RecordBatch.FrameBytes(payload)];
        bench.Memory.ReadMemory(place, frame);
        switch (what)
        {
            case "flipped bit":
                frame[^20] ^= 16;
                break;
            case "cut":
                frame.AsSpan(24).Clear();
                break;
            case "another file system":
                RecordFrame.Seal(frame, payload, RecordType.DirectoryMade, FrameFlags.None, new(sequence), again.Writer.Term, Crc32C.Seed(LogBench.HostA, 1, segment.Id));
                break;
            case "older term":
                // What the term before published here and nobody adopted has the same seed and sequence.
                RecordFrame.Seal(frame, payload, RecordType.DirectoryMade, FrameFlags.None, new(sequence), master.Writer.Term, again.Writer.Seed);
                break;
            default:
                RecordFrame.Seal(frame, payload, RecordType.DirectoryMade, FrameFlags.None, new(sequence + 1), again.Writer.Term, again.Writer.Seed);
                break;
        }
        bench.Memory.WriteMemory(place, frame);
        LogReader reader = bench.NewReader("b");
        LogHistory seen = new(bench.Superblock.FileSystem);
        FamfsException error = Assert.Throws<FamfsException>(() => { while (reader.PollSettled(out LogBlock block) == PollVerdict.Records) seen.Apply(block); });
        Assert.Equal(ErrorReason.MediaCorrupt, error.Reason);
        Assert.Contains($"offset {place}", error.Message, StringComparison.Ordinal);
        Assert.Equal(ErrorReason.MediaCorrupt, Assert.Throws<FamfsException>(() => bench.StartMaster("b", 1)).Reason);
    }

    [Fact]
    public void A_tail_inside_a_record_is_lost_until_a_master_starts()
    {
        LogBench bench = new();
        TestMaster master = bench.StartFirst();
        bench.Memory.Settle();
        byte[] word = new byte[8];
        bench.Memory.ReadMemory(LogBench.TailLine(0), word);
        bench.Memory.WriteMemory(LogBench.TailLine(0), BitConverter.GetBytes(BitConverter.ToUInt64(word) - 8));
        LogReader reader = bench.NewReader("b");
        LogHistory seen = new(bench.Superblock.FileSystem);
        PollVerdict verdict;
        while ((verdict = reader.PollSettled(out LogBlock block)) == PollVerdict.Records)
            seen.Apply(block);
        Assert.Equal(PollVerdict.TailLost, verdict);
        Assert.Equal(master.History.Records.Count - 1, seen.Records.Count);
        TestMaster again = bench.StartMaster("b", 1);
        Assert.Equal(master.History.Records, again.History.Records);
        Assert.Equal(PollVerdict.UpToDate, LogBench.Drain(reader, seen));
        LogBench.RequireSame(again.History, seen);
    }

    [Fact]
    public void Records_beyond_one_block_of_the_reader_arrive_whole()
    {
        LogBench bench = new();
        TestMaster master = bench.StartMaster("a", 0);
        Random random = new(7);
        for (int i = 0; i < 30; i++)
        {
            RecordBatch batch = master.StartBatch();
            int bytes = random.Next(30_000, RecordFrame.MaxPayloadBytes);
            random.NextBytes(batch.Reserve(bytes));
            batch.Commit(bytes, RecordType.DirectoryMade);
            master.PublishBatch();
        }
        LogBench.RequireSame(master.History, bench.ReadAll("b"));
    }

    private static void On(FakeSharedMemory memory, string host, string operation, long offset, Action act, Action? then = null)
    {
        bool done = false;
        memory.BeforeAccess = (atHost, atOperation, at) =>
        {
            if (done || atHost != host || atOperation != operation || at != offset)
                return;
            done = true;
            memory.BeforeAccess = null;
            act();
            then?.Invoke();
        };
    }
}
