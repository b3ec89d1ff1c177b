using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.TestSupport.Dax;
using Famfs.TestSupport.Log;
using Famfs.V1;
using Xunit;

namespace Famfs.Core.Tests.Log;

/// <summary>One line of an anchor slot is damaged, at the worst moments (SAFETY S24 to S26).</summary>
public sealed class OneDamagedLineTests
{
    private const int LineBytes = DaxDevice.LineBytes;

    public static TheoryData<string> Kinds => ["zeros", "ones", "flip", "neighbour"];

    /// <summary>Another host has claimed and read; one line of its claim is lost before it becomes active.</summary>
    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public void A_claim_that_lost_one_line_deposes_all_the_same(int line)
    {
        LogBench bench = new();
        TestMaster first = bench.StartFirst();
        Mastership claim = Mastership.Claim(bench.OpenPool("b"), 1, LogBench.HostB, Guid.NewGuid(), new HastyClock());
        LogHistory read = TestMaster.Replay(claim.Reader, bench.OpenPool("b"));
        Spoil(bench, LogBench.SlotOffset(1) + line * LineBytes, "zeros");
        Assert.Equal(ErrorReason.NotMaster, Assert.Throws<FamfsException>(() => first.PublishValues(3, 4)).Reason);
        TestMaster second = TestMaster.Activate(claim, read);
        second.PublishValues(5);
        LogBench.RequireSame(second.History, bench.ReadAll("c"));
    }

    [Fact]
    public void A_master_whose_own_claim_is_gone_acknowledges_nothing()
    {
        LogBench bench = new();
        TestMaster master = bench.StartFirst();
        bench.Memory.Settle();
        bench.Memory.WriteMemory(LogBench.SlotOffset(0), new byte[2 * LineBytes]);
        Assert.Throws<FamfsException>(() => master.PublishValues(3));
        Assert.Throws<FamfsException>(master.Writer.Check);
    }

    /// <summary>With its claim another one may be gone that came later: a claimant reads no further, and adopts nothing.</summary>
    [Fact]
    public void A_claimant_whose_own_claim_is_gone_reads_no_further()
    {
        LogBench bench = new(accidentOneIn: 0);
        bench.StartFirst().PublishValues(3);
        Mastership claim = Mastership.Claim(bench.OpenPool("b"), 1, LogBench.HostB, Guid.NewGuid(), new HastyClock());
        bench.Memory.Settle();
        bench.Memory.WriteMemory(LogBench.SlotOffset(1), new byte[2 * LineBytes]);
        FamfsException ended = Assert.Throws<FamfsException>(() => claim.Reader.Poll(out _));
        Assert.Equal(ErrorReason.NotMaster, ended.Reason);
        Assert.Null(claim.Reader.AdoptedFrom);
    }

    /// <summary>Whatever becomes of one line of claims or active copies, everybody goes on with the whole history.</summary>
    [Theory]
    [MemberData(nameof(Kinds))]
    public void Any_line_of_claims_and_active_copies_may_be_lost(string kind)
    {
        long[] places = [0, LineBytes, .. Enumerable.Range(0, 2 * ActiveAnchor.Size / LineBytes).Where(i => i % 32 is 0 or 1 or 3 or 31).Select(i => 2048L + i * LineBytes)];
        foreach (int slot in new[] { 0, 1 })
        {
            foreach (long place in places)
            {
                LogBench bench = new(accidentOneIn: 0);
                bench.StartFirst();
                TestMaster master = bench.StartMaster("b", 1);
                master.PublishValues(7, 8);
                Spoil(bench, LogBench.SlotOffset(slot) + place, kind);
                LogBench.RequireSame(master.History, bench.ReadAll("c"));
                master.PublishValues(9);
                TestMaster next = bench.StartMaster("a", 0);
                Assert.Equal(master.History.Records, next.History.Records);
            }
        }
    }

    /// <summary>Two lines that are stored together may both be torn by one crash.</summary>
    [Fact]
    public void The_second_claim_line_and_active_copy_are_stored_when_the_first_is_in_memory()
    {
        LogBench bench = new(accidentOneIn: 0);
        bench.StartFirst();
        List<string> looks = [];
        bench.Memory.BeforeAccess = (host, operation, offset) =>
        {
            if (host != "b" || operation != FakeOperation.Store)
                return;
            byte[] first = new byte[ActiveAnchor.Size];
            if (offset == LogBench.SlotOffset(1) + LineBytes)
            {
                bench.Memory.ReadMemory(LogBench.SlotOffset(1), first);
                looks.Add($"claim {AnchorClaim.TryParse(first, bench.Superblock.FileSystem, 1, out _)}");
            }
            else if (offset == LogBench.SlotOffset(1) + 2048 + ActiveAnchor.Size)
            {
                bench.Memory.ReadMemory(LogBench.SlotOffset(1) + 2048, first);
                looks.Add($"active copy {ActiveAnchor.TryParse(first, bench.Superblock.FileSystem, 1, out _)}");
            }
        };
        bench.StartMaster("b", 1);
        Assert.Equal(["claim True", "active copy True"], looks);
    }

    /// <summary>Most of the area belongs to slots that were never used. What one line of them holds means nothing.</summary>
    [Theory]
    [InlineData("ones")]
    [InlineData("flip")]
    public void Any_line_of_a_slot_that_was_never_used_may_be_damaged(string kind)
    {
        foreach (long place in (long[])[0, LineBytes, 2 * LineBytes, 2048, 2048 + LineBytes, 2048 + ActiveAnchor.Size, 2048 + (2 * ActiveAnchor.Size) - LineBytes])
        {
            LogBench bench = new(accidentOneIn: 0);
            TestMaster master = bench.StartFirst();
            bench.Memory.Settle();
            byte[] line = new byte[LineBytes];
            if (kind == "flip")
                line[1] = 1; // of the tail: of its offset
            else
                line.AsSpan().Fill(0xFF);
            bench.Memory.WriteMemory(LogBench.SlotOffset(5) + place, line);
            LogBench.RequireSame(master.History, bench.ReadAll("c"));
            master.PublishValues(9);
            master.Writer.Tick(7);
            AnchorArea anchors = new(bench.OpenPool("c").PrimaryDevice, bench.Superblock.FileSystem);
            Assert.NotEmpty(anchors.FindLostCopy(5));
            master.Grant(5, LogBench.HostB);
            TestMaster next = bench.StartMaster("b", 5);
            Assert.Equal(master.History.Records, next.History.Records.Take(master.History.Records.Count));
            next.PublishValues(11);
            Assert.Empty(anchors.FindLostCopy(5));
            LogBench.RequireSame(next.History, bench.ReadAll("c"));
        }
    }

    /// <summary>A tail of before is then known to be lost, and a slot with a tail is known to have been active.</summary>
    [Fact]
    public void A_tail_of_each_active_copy_is_in_memory_at_once()
    {
        LogBench bench = new(accidentOneIn: 0);
        RequireTail(0);
        TestMaster master = bench.StartMaster("a", 0);
        RequireTail(0);
        master.GoOn(MediaLayout.UnitBytes);
        RequireTail(0);
        master.Grant(1, LogBench.HostB);
        bench.StartMaster("b", 1);
        RequireTail(1);

        void RequireTail(int slot)
        {
            byte[] word = new byte[8];
            byte[] copy = new byte[ActiveAnchor.Size];
            ActiveAnchor? newest = null;
            bench.Memory.ReadMemory(LogBench.TailLine(slot), word);
            for (int i = 1; i <= 2; i++)
            {
                bench.Memory.ReadMemory(LogBench.SlotOffset(slot) + i * ActiveAnchor.Size, copy);
                Assert.True(ActiveAnchor.TryParse(copy, bench.Superblock.FileSystem, slot, out ActiveAnchor? parsed));
                newest = newest is null || parsed!.Counter > newest.Counter ? parsed : newest;
            }
            Assert.Equal((ushort)(newest!.Counter - 1), new TailWord(BitConverter.ToUInt64(word)).Tag);
        }
    }

    /// <summary>The reproduction of the tail that fell back to an earlier term: each bit of the word, and the line as a whole.</summary>
    [Fact]
    public void A_tail_is_healed_by_its_master_or_the_next_one_or_said()
    {
        List<string> silent = [];
        for (int bit = -1; bit < 64; bit++)
        {
            LogBench bench = new(accidentOneIn: 0);
            TestMaster master = bench.StartFirst();
            TestMaster again = bench.StartMaster("a", 0);
            again.PublishValues([.. Enumerable.Range(0, 100).Select(i => (ulong)i)]);
            Assert.NotNull(master);
            if (bit < 0)
                Spoil(bench, LogBench.TailLine(0), "zeros");
            else
                bench.Damage(LogBench.TailLine(0) + bit / 8, (byte)(1 << (bit % 8)));
            LogReader reader = bench.NewReader("c");
            LogHistory seen = new(bench.Superblock.FileSystem);
            string met = DrainSettled(reader, seen);
            if (seen.Records.Count < again.History.Records.Count && met == nameof(PollVerdict.UpToDate))
                silent.Add($"bit {bit}");

            // A master that lives stores its tail at each tick, and readers go on by themselves.
            LogBench living = new(accidentOneIn: 0);
            TestMaster alive = living.StartFirst();
            if (bit < 0)
                Spoil(living, LogBench.TailLine(0), "zeros");
            else
                living.Damage(LogBench.TailLine(0) + bit / 8, (byte)(1 << (bit % 8)));
            alive.Writer.Tick(1);
            LogBench.RequireSame(alive.History, living.ReadAll("c"));

            // A claimant adopts what is there, or says that it cannot.
            try
            {
                TestMaster next = bench.StartMaster("b", 1);
                Assert.Equal(again.History.Records, next.History.Records);
                next.PublishValues(1000);
                Assert.Equal(nameof(PollVerdict.UpToDate), DrainSettled(reader, seen));
                LogBench.RequireSame(next.History, seen);
            }
            catch (FamfsException error) when (error.Reason == ErrorReason.MediaCorrupt)
            {
                Assert.Equal(nameof(ErrorReason.MediaCorrupt), met);
            }
        }
        Assert.Empty(silent);
    }

    [Fact]
    public void A_tail_that_goes_back_is_lost_and_never_another_history()
    {
        LogBench bench = new(accidentOneIn: 0);
        TestMaster master = bench.StartFirst();
        bench.Memory.Settle();
        byte[] before = new byte[8];
        bench.Memory.ReadMemory(LogBench.TailLine(0), before);
        master.PublishValues(5, 6);
        LogReader reader = bench.NewReader("c");
        LogHistory seen = new(bench.Superblock.FileSystem);
        DrainSettled(reader, seen);
        bench.Memory.Settle();
        bench.Memory.WriteMemory(LogBench.TailLine(0), before);
        Assert.Equal(PollVerdict.LookAgain, reader.Poll(out _));
        Assert.Equal(PollVerdict.TailLost, reader.PollSettled(out _));
        master.Writer.Tick(1);
        Assert.Equal(PollVerdict.UpToDate, reader.PollSettled(out _));
        LogBench.RequireSame(master.History, seen);
    }

    /// <summary>A term that has published nothing yet: its tail hides no record, and the claimant after it is told nothing by it.</summary>
    [Theory]
    [InlineData(5, 0x80)] // an offset after the segment
    [InlineData(6, 0x08)] // the counter of a later active copy
    public void A_tail_that_no_master_stores_is_lost_also_where_it_hides_nothing(int byteAt, byte mask)
    {
        LogBench bench = new(accidentOneIn: 0);
        bench.StartFirst();
        TestMaster master = bench.StartMaster("a", 0);
        LogReader reader = bench.NewReader("c");
        LogHistory seen = new(bench.Superblock.FileSystem);
        Assert.Equal(nameof(PollVerdict.UpToDate), DrainSettled(reader, seen));
        LogBench.RequireSame(master.History, seen);
        bench.Damage(LogBench.TailLine(0) + byteAt, mask);
        Assert.Equal(nameof(PollVerdict.TailLost), DrainSettled(reader, seen));
        Assert.Contains("is none that a master stores", reader.TailDamage, StringComparison.Ordinal);
        master.Writer.Tick(1);
        Assert.Equal(nameof(PollVerdict.UpToDate), DrainSettled(reader, seen));
    }

    [Fact]
    public void A_writer_that_has_ended_stores_no_tail_at_a_tick()
    {
        LogBench bench = new(accidentOneIn: 0);
        TestMaster master = bench.StartFirst();
        bench.StartMaster("b", 1);
        bench.Memory.Settle();
        byte[] before = new byte[LineBytes];
        bench.Memory.ReadMemory(LogBench.TailLine(0), before);
        Assert.Throws<FamfsException>(() => master.Writer.Tick(77));
        bench.Memory.Settle();
        byte[] after = new byte[LineBytes];
        bench.Memory.ReadMemory(LogBench.TailLine(0), after);
        Assert.Equal(before, after);
    }

    /// <summary>A batch was stored and never published; another slot takes over, then the first slot starts again.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_slot_stores_nothing_over_frames_that_its_former_term_left(bool headerLost)
    {
        LogBench bench = new(accidentOneIn: 0);
        TestMaster first = bench.StartFirst();
        SegmentRef segment = first.Mastership.Reader.Chain[^1];
        long place = segment.DeviceOffsetOf(first.Writer.Tail);
        RecordBatch batch = first.StartBatch();
        for (int i = 0; i < 300; i++)
            batch.Add(RecordType.TermStarted, new TermStarted { Address = new string('x', 200) });
        byte[] stored = batch.Frames.ToArray();
        bench.Memory.Settle();
        // What only half of the memory has: the second claimant finds the first frames, and later all of them are there.
        bench.Memory.WriteMemory(place, stored.AsSpan(0, stored.Length / 2));
        TestMaster second = bench.StartMaster("b", 1);
        Assert.True(second.Mastership.Reader.AdoptedFrom is not null);
        bench.Memory.Settle();
        bench.Memory.WriteMemory(place, stored);
        if (headerLost)
            Spoil(bench, segment.Offset, "zeros");
        TestMaster again = bench.StartMaster("a", 0);
        again.PublishValues(1);
        bench.Memory.Settle();
        byte[] now = new byte[stored.Length];
        bench.Memory.ReadMemory(place, now);
        Assert.Equal(stored, now);
        LogBench.RequireSame(again.History, bench.ReadAll("c"));
    }

    /// <summary>Power fails in the middle of a batch: a frame in between did not land. The slot has no other space, and starts
    /// behind the last whole frame.</summary>
    [Fact]
    public void A_slot_with_one_broken_space_goes_on_behind_its_last_whole_frame()
    {
        LogBench bench = new(accidentOneIn: 0);
        TestMaster first = bench.StartFirst();
        LogHistory published = bench.ReadAll("c");
        long place = first.Mastership.Reader.Chain[^1].DeviceOffsetOf(first.Writer.Tail);
        RecordBatch batch = first.StartBatch();
        for (int i = 0; i < 100; i++)
            batch.Add(RecordType.TermStarted, new TermStarted { Address = new string('x', 200) });
        byte[] stored = batch.Frames.ToArray();
        stored.AsSpan(0, LineBytes).Clear();
        bench.Memory.Settle();
        bench.Memory.WriteMemory(place, stored);
        TestMaster again = bench.StartMaster("a", 0);
        Assert.Equal(published.Records, again.History.Records);
        again.PublishValues(1, 2);
        bench.Memory.Settle();
        byte[] now = new byte[stored.Length];
        bench.Memory.ReadMemory(place, now);
        Assert.Equal(stored, now);
        LogBench.RequireSame(again.History, bench.ReadAll("d"));
    }

    /// <summary>The rest of a broken space may be frames of somebody's history: it is no place to go on in, and no spare one.</summary>
    [Fact]
    public void A_slot_with_another_space_leaves_a_broken_one_alone()
    {
        LogBench bench = new(accidentOneIn: 0);
        TestMaster first = bench.StartFirst();
        SegmentSpace other = new(new(0), first.History.FreeOffset, MediaLayout.UnitBytes / 4);
        first.Publish(RecordType.SegmentReserved, new SegmentReserved { Extent = new() { OffsetBytes = (ulong)other.Offset, LengthBytes = (ulong)other.LengthBytes } });
        long place = first.Writer.Segment.DeviceOffsetOf(first.Writer.Tail);
        RecordBatch batch = first.StartBatch();
        for (int i = 0; i < 100; i++)
            batch.Add(RecordType.TermStarted, new TermStarted { Address = new string('x', 200) });
        byte[] stored = batch.Frames.ToArray();
        stored.AsSpan(0, LineBytes).Clear();
        bench.Memory.Settle();
        bench.Memory.WriteMemory(place, stored);
        TestMaster again = bench.StartMaster("a", 0);
        Assert.Equal(other.Offset, again.Writer.Segment.Offset);
        Assert.Null(again.Writer.Spare);
    }

    /// <summary>The end of the log is known once it was adopted: what becomes of the tail afterwards is another one's doing.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_claimant_that_has_adopted_does_not_read_the_tail_again(bool isTailDamaged)
    {
        LogBench bench = new(accidentOneIn: 0);
        TestMaster first = bench.StartFirst();
        long place = first.Writer.Segment.DeviceOffsetOf(first.Writer.Tail);
        RecordBatch batch = first.StartBatch();
        batch.Add(RecordType.TermStarted, new TermStarted { Address = new string('x', 500) });
        batch.Add(RecordType.TermStarted, new TermStarted { Address = new string('y', 500) });
        byte[] frames = batch.Frames.ToArray();
        bench.Memory.Settle();
        // The slot's next term looks before the frames are there.
        Mastership less = Mastership.Claim(bench.OpenPool("a"), 0, LogBench.HostA, Guid.NewGuid(), new HastyClock());
        LogHistory lessHistory = TestMaster.Replay(less.Reader, bench.OpenPool("a"));
        bench.Memory.WriteMemory(place, frames);
        Mastership claim = Mastership.Claim(bench.OpenPool("b"), 1, LogBench.HostB, Guid.NewGuid(), new HastyClock());
        LogHistory history = new(bench.Superblock.FileSystem);
        while (claim.Reader.AdoptedFrom is null)
        {
            Assert.Equal(PollVerdict.Records, claim.Reader.Poll(out LogBlock block));
            history.Apply(block);
        }
        Assert.Equal(lessHistory.Records.Count + 2, history.Records.Count);
        if (isTailDamaged)
            bench.Damage(LogBench.TailLine(0) + 2, 1);
        else
            Assert.Throws<FamfsException>(() => TestMaster.Activate(less, lessHistory));
        Assert.Equal(PollVerdict.UpToDate, claim.Reader.Poll(out _));
        TestMaster second = TestMaster.Activate(claim, history);
        second.PublishValues(1);
        LogBench.RequireSame(second.History, bench.ReadAll("c"));
    }

    /// <summary>The end of a term that was stored and not published is adopted by the next one, whose master lives and has published
    /// nothing yet: the last record says an end, and that master is to be looked for all the same (SAFETY S4, S26).</summary>
    [Fact]
    public async Task An_adopted_end_of_a_term_proves_nothing_about_the_master_that_adopted_it()
    {
        LogBench bench = new(accidentOneIn: 0);
        TestMaster first = bench.StartFirst();
        long place = first.Writer.Segment.DeviceOffsetOf(first.Writer.Tail);
        RecordBatch batch = first.StartBatch();
        batch.Add(RecordType.TermEnded, new TermEnded { TimeNs = 1 });
        byte[] frames = batch.Frames.ToArray();
        bench.Memory.Settle();
        bench.Memory.WriteMemory(place, frames);
        TestMaster second = bench.StartMaster("b", 1);
        Assert.Equal(RecordType.TermEnded, second.History.Records[^1].Type);
        ulong ticks = 0;
        bench.Memory.BeforeAccess = (host, operation, offset) =>
        {
            if (host == "a" && operation == FakeOperation.Load && offset == LogBench.TailLine(1) + sizeof(ulong))
                second.Writer.Tick(++ticks);
        };
        DevicePool pool = bench.OpenPool("a");
        FamfsException refused = await Assert.ThrowsAsync<FamfsException>(() => pool.Format.ClaimAsync(pool, new()
        {
            Host = new(LogBench.HostA, Guid.NewGuid(), new byte[32], "a"),
            SystemUuidFile = "",
            Clock = TimeProvider.System,
            Survey = reader =>
            {
                LogHistory history = new(bench.Superblock.FileSystem);
                PollVerdict verdict;
                while ((verdict = reader.PollSettled(out LogBlock block)) == PollVerdict.Records)
                    history.Apply(block);
                return new(verdict == PollVerdict.UpToDate, new Dictionary<int, Guid> { [0] = LogBench.HostA, [1] = LogBench.HostB }, null, history.Records[^1].Type == RecordType.TermEnded);
            },
        }, TestContext.Current.CancellationToken));
        Assert.Equal(ErrorReason.NotMaster, refused.Reason);
        Assert.Contains("slot 1 is running", refused.Message, StringComparison.Ordinal);
    }

    /// <summary>What only this machine's cache has would be gone with the machine. A process of the claimant's own machine stores it and
    /// does not write it back: before the claimant looks, or between the claimant's invalidation and its load.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void What_a_claimant_adopts_is_in_memory_before_it_is_active(bool meanwhile)
    {
        LogBench bench = new(accidentOneIn: 0);
        TestMaster first = bench.StartFirst();
        SegmentRef segment = first.Mastership.Reader.Chain[^1];
        long place = segment.DeviceOffsetOf(first.Writer.Tail);
        RecordBatch batch = first.StartBatch();
        batch.Add(RecordType.TermStarted, new TermStarted { Address = new string('x', 500) });
        byte[] frames = batch.Frames.ToArray();
        bench.Memory.Settle();
        using DaxDevice same = bench.Memory.Attach("b");
        if (meanwhile)
        {
            bench.Memory.BeforeAccess = (host, operation, offset) =>
            {
                if (host != "b" || operation != FakeOperation.Load || offset != place)
                    return;
                bench.Memory.BeforeAccess = null;
                same.Write(place, frames);
            };
        }
        else
        {
            same.Write(place, frames);
        }
        TestMaster second = bench.StartMaster("b", 1);
        Assert.Equal(first.History.Records.Count + 1, second.History.Records.Count);
        bench.Memory.Crash("b");
        LogBench.RequireSame(second.History, bench.ReadAll("c"));
    }

    /// <summary>An image of an earlier version, which wrote one active copy: it is not taken for a slot that was never active.</summary>
    [Fact]
    public void A_slot_with_a_tail_and_no_readable_active_copy_is_damage()
    {
        LogBench bench = new(accidentOneIn: 0);
        bench.StartFirst();
        TestMaster master = bench.StartMaster("b", 1);
        master.PublishValues(1);
        bench.Memory.Settle();
        bench.Memory.WriteMemory(LogBench.SlotOffset(1) + 2048 + ActiveAnchor.Size, new byte[ActiveAnchor.Size]);
        bench.Damage(LogBench.SlotOffset(1) + 2048 + 300, 4);
        foreach (Action look in new Action[] { () => bench.ReadAll("c"), () => bench.StartMaster("a", 0), () => master.Writer.Tick(10) })
            Assert.Equal(ErrorReason.MediaCorrupt, Assert.Throws<FamfsException>(look).Reason);
    }

    /// <summary>A dead host's last stores land when the slot's next term, which found nothing there, has become active: they are whole
    /// frames that continue the log, of a term that is over.</summary>
    [Fact]
    public void Frames_of_a_term_that_is_over_are_not_adopted_and_tell_of_no_lost_tail()
    {
        LogBench bench = new(accidentOneIn: 0);
        TestMaster first = bench.StartFirst();
        RecordBatch batch = first.StartBatch();
        batch.Add(RecordType.TermStarted, new TermStarted { Address = "lands late" });
        byte[] late = batch.Frames.ToArray();
        long place = first.Writer.Segment.DeviceOffsetOf(first.Writer.Tail);
        TestMaster again = bench.StartMaster("a", 0);
        Assert.Equal(place, again.Writer.Segment.DeviceOffsetOf(again.Writer.Tail));
        bench.Memory.Settle();
        bench.Memory.WriteMemory(place, late);
        LogReader reader = bench.NewReader("c");
        LogHistory seen = new(bench.Superblock.FileSystem);
        Assert.Equal(nameof(PollVerdict.UpToDate), DrainSettled(reader, seen));
        TestMaster next = bench.StartMaster("b", 1);
        Assert.Null(next.Mastership.Reader.AdoptedFrom);
        Assert.Equal(again.History.Records, next.History.Records);
    }

    /// <summary>A tail that cannot be is replaced by what the newest segment's start says: all before it was published.</summary>
    [Theory]
    [InlineData("zeros")]
    [InlineData("ones")]
    [InlineData("flip")]
    public void A_tail_that_cannot_be_read_hides_nothing_of_sealed_segments_from_a_claimant(string kind)
    {
        LogBench bench = new(accidentOneIn: 0);
        TestMaster master = bench.StartFirst();
        // More than a reader reads at a time: it comes to its second block behind where the term began.
        for (int i = 0; i < 25; i++)
            master.Publish(RecordType.TermStarted, new TermStarted { Address = new string('x', 30_000) });
        master.GoOn(MediaLayout.UnitBytes);
        master.PublishValues(4, 5);
        if (kind == "flip")
            bench.Damage(LogBench.TailLine(0) + 7, 0x40);
        else
            Spoil(bench, LogBench.TailLine(0), kind);
        TestMaster next = bench.StartMaster("b", 1);
        Assert.Equal(master.History.Records, next.History.Records);
        next.PublishValues(6);
        LogBench.RequireSame(next.History, bench.ReadAll("c"));
    }

    /// <summary>A term that is hidden does not show in the claims. Who follows another one looks at all slots once a second.</summary>
    [Fact]
    public void Damage_of_another_slot_is_said_by_who_has_read_everything_already()
    {
        LogBench bench = new(accidentOneIn: 0);
        bench.StartFirst();
        bench.StartMaster("b", 1);
        TestMaster master = bench.StartMaster("a", 0);
        LogReader reader = bench.NewReader("c");
        LogHistory seen = TestMaster.Replay(reader, bench.OpenPool("c"));
        LogBench.RequireSame(master.History, seen);
        bench.Damage(LogBench.SlotOffset(1) + 2048 + 300);
        Assert.Equal(nameof(PollVerdict.UpToDate), DrainSettled(reader, seen));
        bench.Damage(LogBench.SlotOffset(1) + 2048 + ActiveAnchor.Size + 300);
        string met = "";
        for (int i = 0; i < 100 && met != nameof(ErrorReason.MediaCorrupt); i++)
            met = DrainSettled(reader, seen);
        Assert.Equal(nameof(ErrorReason.MediaCorrupt), met);
        Assert.Equal(ErrorReason.MediaCorrupt, Assert.Throws<FamfsException>(() => master.Writer.Tick(10)).Reason);
    }

    /// <summary>An image of an earlier version, which wrote one active copy at a time: the other one is of before.</summary>
    [Fact]
    public void A_damaged_active_copy_is_not_taken_for_the_older_one_beside_it()
    {
        LogBench bench = new(accidentOneIn: 0);
        TestMaster master = bench.StartFirst();
        bench.Memory.Settle();
        byte[] before = new byte[ActiveAnchor.Size];
        bench.Memory.ReadMemory(LogBench.SlotOffset(0) + 2048, before);
        master.GoOn(MediaLayout.UnitBytes);
        master.PublishValues(4);
        bench.Memory.Settle();
        bench.Memory.WriteMemory(LogBench.SlotOffset(0) + 2048, before);
        LogBench.RequireSame(master.History, bench.ReadAll("c"));
        bench.Damage(LogBench.SlotOffset(0) + 2048 + ActiveAnchor.Size + 300);
        foreach (Action look in new Action[] { () => bench.ReadAll("d"), () => bench.StartMaster("b", 1) })
            Assert.Equal(ErrorReason.MediaCorrupt, Assert.Throws<FamfsException>(look).Reason);
    }

    private static string DrainSettled(LogReader reader, LogHistory into)
    {
        try
        {
            PollVerdict verdict;
            while ((verdict = reader.PollSettled(out LogBlock block)) == PollVerdict.Records)
                into.Apply(block);
            return verdict.ToString();
        }
        catch (FamfsException error)
        {
            return error.Reason.ToString();
        }
    }

    private static void Spoil(LogBench bench, long place, string kind)
    {
        bench.Memory.Settle();
        byte[] line = new byte[LineBytes];
        bench.Memory.ReadMemory(kind == "neighbour" ? place + LineBytes : place, line);
        switch (kind)
        {
            case "zeros":
                line.AsSpan().Clear();
                break;
            case "ones":
                line.AsSpan().Fill(0xFF);
                break;
            case "flip":
                line[21] ^= 4;
                break;
        }
        bench.Memory.WriteMemory(place, line);
    }
}
