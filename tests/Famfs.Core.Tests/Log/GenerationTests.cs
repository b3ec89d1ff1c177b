using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.Core.Namespace;
using Famfs.TestSupport;
using Famfs.TestSupport.Dax;
using Famfs.TestSupport.Log;
using Famfs.V1;
using Google.Protobuf;
using Xunit;

namespace Famfs.Core.Tests.Log;

/// <summary>The log goes on in another generation, whose snapshot stands for what was before.</summary>
public sealed class GenerationTests
{
    private const long SmallSegment = 5 * MediaLayout.SegmentHeaderBytes;

    [Theory]
    [InlineData(false, false)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    public void Readers_that_are_new_up_to_date_and_late_come_to_the_same_records(bool coherent, bool small)
    {
        LogBench bench = new(coherent);
        TestMaster master = bench.StartFirst();
        (LogReader live, LogHistory liveSeen) = (bench.NewReader("b"), new(bench.Superblock.FileSystem));
        (LogReader late, LogHistory lateSeen) = (bench.NewReader("c"), new(bench.Superblock.FileSystem));
        (LogReader latest, LogHistory latestSeen) = (bench.NewReader("d"), new(bench.Superblock.FileSystem));
        LogBench.Drain(latest, latestSeen);
        Publish(master, 4, 400);
        master.GoOn(4 * MediaLayout.UnitBytes);
        Publish(master, 404, 200);
        LogBench.Drain(late, lateSeen);
        Publish(master, 604, 20);
        LogBench.Drain(live, liveSeen);

        Assert.True(Compact(bench, master, small));
        Assert.Equal(2UL, master.Writer.Position.Generation);
        Publish(master, 1000, 3);
        foreach ((LogReader reader, LogHistory seen) in new[] { (live, liveSeen), (late, lateSeen) })
        {
            Assert.Equal(PollVerdict.UpToDate, LogBench.Drain(reader, seen));
            LogBench.RequireSame(master.History, seen);
            Assert.Equal(master.Writer.Position, reader.Position);
            Assert.Equal(master.Writer.Tail, reader.Offset);
        }
        LogBench.RequireSame(master.History, bench.ReadAll("e"));

        // And once more: the last one passes two switches.
        Publish(master, 1003, 50);
        Assert.True(Compact(bench, master, small));
        Assert.Equal(3UL, master.Writer.Position.Generation);
        Publish(master, 1100, 3);
        foreach ((LogReader reader, LogHistory seen) in new[] { (live, liveSeen), (latest, latestSeen) })
        {
            Assert.Equal(PollVerdict.UpToDate, LogBench.Drain(reader, seen));
            LogBench.RequireSame(master.History, seen);
            Assert.Equal(master.Writer.Position, reader.Position);
        }
        LogBench.RequireSame(master.History, bench.ReadAll("f"));

        // Whoever must see each record as a record begins where it is one.
        LogReader whole = new(bench.OpenPool("g"), new HastyClock()) { WholeAfter = new(20) };
        LogHistory records = new(bench.Superblock.FileSystem);
        while (whole.Poll(out LogBlock block) == PollVerdict.Records)
        {
            Assert.False(block.IsSnapshot);
            records.Apply(block);
        }
        LogBench.RequireSame(master.History, records);
        Assert.Equal(master.Writer.Position, whole.Position);
    }

    [Fact]
    public void The_next_masters_of_either_slot_go_on_in_the_new_generation()
    {
        LogBench bench = new();
        TestMaster first = bench.StartFirst();
        Publish(first, 10, 30);
        Assert.True(Compact(bench, first, small: false));
        Publish(first, 100, 3);
        TestMaster other = bench.StartMaster("b", 1);
        LogBench.RequireSame(first.History, other.History);
        Assert.Equal(2UL, other.Writer.Position.Generation);
        Publish(other, 200, 3);
        Assert.Throws<FamfsException>(() => first.PublishValues(300));
        TestMaster again = bench.StartMaster("a", 0);
        LogBench.RequireSame(other.History, again.History);
        Assert.True(Compact(bench, again, small: true));
        Assert.Equal(3UL, again.Writer.Position.Generation);
        LogBench.RequireSame(again.History, bench.ReadAll("c"));
        // What earlier generations have in a slot's spaces is read by those who are late: nothing was stored over it.
        Assert.Equal(0, Overlaps(again.Mastership.Reader.Chain));
    }

    /// <summary>The roomiest of its spaces is the one that the former generation is in.</summary>
    [Fact]
    public void A_slot_that_starts_again_stores_nothing_over_what_late_readers_need()
    {
        LogBench bench = new();
        TestMaster master = bench.StartFirst();
        (LogReader late, LogHistory lateSeen) = (bench.NewReader("b"), new(bench.Superblock.FileSystem));
        LogBench.Drain(late, lateSeen);
        SegmentRef first = master.Writer.Segment;
        Publish(master, 10, 30);
        Assert.True(Compact(bench, master, small: true));
        TestMaster next = bench.StartMaster("a", 0);
        Assert.InRange(next.Writer.Segment.Offset, first.Offset + MediaLayout.SegmentHeaderBytes, first.Offset + MediaLayout.UnitBytes);
        Publish(next, 500, 30);
        Assert.Equal(PollVerdict.UpToDate, LogBench.Drain(late, lateSeen));
        LogBench.RequireSame(next.History, lateSeen);
    }

    [Fact]
    public void A_slot_that_starts_again_goes_on_after_a_snapshot()
    {
        LogBench bench = new();
        TestMaster master = bench.StartFirst();
        Publish(master, 10, 30);
        Assert.True(Compact(bench, master, small: false));
        TestMaster next = bench.StartMaster("a", 0);
        Assert.Equal((master.Writer.SegmentId, 2UL), (next.Writer.SegmentId, next.Writer.Position.Generation));
        next.PublishValues(100);
        LogBench.RequireSame(next.History, bench.ReadAll("b"));
    }

    /// <summary>Where they lie in the former generation says nothing of the new one.</summary>
    [Fact]
    public void A_late_reader_reads_the_terms_of_a_former_generation_as_they_were()
    {
        LogBench bench = new();
        TestMaster master = bench.StartMaster("a", 0);
        (LogReader late, LogHistory lateSeen) = (bench.NewReader("b"), new(bench.Superblock.FileSystem));
        LogBench.Drain(late, lateSeen);
        MakeAndRemove(master, 1000, 200);
        TestMaster next = bench.StartMaster("a", 0);
        MakeAndRemove(next, 1200, 100);
        long longTail = next.Writer.Tail;
        Assert.True(next.TryCompact(bench.OpenPool("a"), new HastyClock(), least => MediaLayout.UnitBytes, null, RememberedRequests.None));
        Assert.True(longTail > 2 * next.Writer.Tail);
        Assert.Equal(PollVerdict.UpToDate, LogBench.Drain(late, lateSeen));
        LogBench.RequireSame(next.History, lateSeen);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_reader_whose_record_is_another_one_in_the_new_generation_is_told_so(bool last)
    {
        LogBench bench = new();
        TestMaster master = bench.StartFirst();
        Publish(master, 10, 30);
        LogReader reader = bench.NewReader("b");
        LogBench.Drain(reader, new(bench.Superblock.FileSystem));
        (LogPosition position, long offset) = (reader.Position, reader.Offset);
        Assert.True(Compact(bench, master, small: false));
        if (!last)
        {
            // Behind the snapshot's end.
            LogReader further = bench.NewReader("c");
            further.Resume(position, offset);
            Assert.Equal(PollVerdict.UpToDate, LogBench.Drain(further, new(bench.Superblock.FileSystem)));
            position = further.Position with { Generation = 1 };
        }
        // Of a history that is not this one.
        reader.Resume(position with { Term = new(1) }, offset);
        PollVerdict verdict;
        while ((verdict = reader.Poll(out _)) == PollVerdict.LookAgain)
        {
        }
        Assert.Equal(PollVerdict.Diverged, verdict);
        Assert.Contains("is of term", reader.Divergence, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public void A_master_that_dies_at_any_store_of_a_switch_leaves_one_generation_whole(int seed)
    {
        int accesses = CountStores(seed);
        Assert.InRange(accesses, 30, 10_000);
        HashSet<ulong> generations = [];
        for (int at = seed; at < accesses; at += at < accesses - 60 ? 13 : 1)
        {
            foreach (bool power in new[] { false, true })
            {
                LogBench bench = new(seed: seed);
                TestMaster master = bench.StartFirst();
                Publish(master, 10, 20);
                (LogReader live, LogHistory liveSeen) = (bench.NewReader("b"), new(bench.Superblock.FileSystem));
                LogBench.Drain(live, liveSeen);
                int left = at;
                bench.Memory.BeforeAccess = (host, operation, _) =>
                {
                    if (host == "a" && operation is FakeOperation.Store or FakeOperation.WriteBack && left-- == 0)
                        throw new OperationCanceledException("dies here");
                };
                Assert.ThrowsAny<Exception>(() =>
                {
                    Compact(bench, master, small: true);
                    Publish(master, 500, 1);
                });
                bench.Memory.BeforeAccess = null;
                if (power)
                    bench.Memory.Crash("a");
                HistoryRecord[] acknowledged = [.. master.History.Records];

                TestMaster next = bench.StartMaster("c", 1);
                generations.Add(next.Writer.Position.Generation);
                Assert.Equal(acknowledged, next.History.Records.Take(acknowledged.Length));
                next.PublishValues(1000);
                Assert.Equal(PollVerdict.UpToDate, LogBench.Drain(live, liveSeen));
                LogBench.RequireSame(next.History, liveSeen);
                LogBench.RequireSame(next.History, bench.ReadAll("d"));
                Assert.True(Compact(bench, next, small: true, "c"), "the next one compacts");
                LogBench.RequireSame(next.History, bench.ReadAll("e"));
            }
        }
        Assert.Equal([1UL, 2UL], generations.Order());
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public void A_deposed_master_that_wakes_at_any_store_of_a_switch_changes_nothing(int seed)
    {
        int accesses = CountStores(seed);
        for (int at = seed; at < accesses; at += at < accesses - 60 ? 13 : 1)
        {
            LogBench bench = new(seed: seed);
            TestMaster master = bench.StartFirst();
            Publish(master, 10, 20);
            (LogReader live, LogHistory liveSeen) = (bench.NewReader("b"), new(bench.Superblock.FileSystem));
            LogBench.Drain(live, liveSeen);
            TestMaster? other = null;
            int left = at;
            bench.Memory.BeforeAccess = (host, operation, _) =>
            {
                if (host != "a" || operation is not (FakeOperation.Store or FakeOperation.WriteBack) || left-- != 0)
                    return;
                other = bench.StartMaster("c", 1);
                other.PublishValues(1000);
            };
            FamfsException error = Assert.Throws<FamfsException>(() =>
            {
                Compact(bench, master, small: true);
                Publish(master, 500, 1);
            });
            Assert.Equal(ErrorReason.NotMaster, error.Reason);
            bench.Memory.BeforeAccess = null;
            Assert.NotNull(other);
            Assert.Equal(master.History.Records, other.History.Records.Take(master.History.Records.Count));
            bench.Memory.Settle();
            other.PublishValues(1001);
            Assert.Equal(PollVerdict.UpToDate, LogBench.Drain(live, liveSeen));
            LogBench.RequireSame(other.History, liveSeen);
            LogBench.RequireSame(other.History, bench.ReadAll("d"));
            // Its own next start meets what it has left.
            LogBench.RequireSame(other.History, bench.StartMaster("a", 0).History);
        }
    }

    /// <summary>The tail is stored last. Until then the slot has the one of the generation before, which is at another offset.</summary>
    [Fact]
    public void A_tail_of_the_generation_before_is_none_of_the_next_one()
    {
        LogBench bench = new();
        TestMaster master = bench.StartMaster("a", 0);
        MakeAndRemove(master, 1000, 300);
        long longTail = master.Writer.Tail;
        AnchorArea anchors = new(bench.OpenPool("c").PrimaryDevice, bench.Superblock.FileSystem);
        LogReader fresh = bench.NewReader("d");
        List<(PollVerdict, LogPosition)> found = [];
        bench.Memory.BeforeAccess = (host, operation, offset) =>
        {
            if (host != "a" || operation != FakeOperation.Store || offset != LogBench.TailLine(0) || found.Count > 0 || anchors.ReadSlot(0).Active!.Generation == 1)
                return;
            PollVerdict verdict;
            while ((verdict = fresh.Poll(out _)) is PollVerdict.Records or PollVerdict.LookAgain)
            {
            }
            found.Add((verdict, fresh.Position));
        };
        Assert.True(master.TryCompact(bench.OpenPool("a"), new HastyClock(), least => MediaLayout.UnitBytes, null, RememberedRequests.None));
        bench.Memory.BeforeAccess = null;
        Assert.True(longTail > master.Writer.Tail + MediaLayout.SegmentHeaderBytes);
        Assert.Equal([(PollVerdict.UpToDate, master.Writer.Position)], found);
    }

    /// <summary>A claimant has read the log before the switch, which its master makes all the same, deposed.</summary>
    [Fact]
    public void A_reader_enters_no_generation_that_a_claimant_has_not_seen()
    {
        LogBench bench = new();
        TestMaster master = bench.StartFirst();
        Publish(master, 10, 20);
        (LogReader live, LogHistory liveSeen) = (bench.NewReader("b"), new(bench.Superblock.FileSystem));
        LogBench.Drain(live, liveSeen);
        TestMaster? other = null;
        bool begun = false;
        bench.Memory.BeforeAccess = (host, operation, offset) =>
        {
            // The reader has looked at the claims.
            if (host == "b" && !begun && offset == LogBench.TailLine(0))
            {
                begun = true;
                Assert.Equal(ErrorReason.NotMaster, Assert.Throws<FamfsException>(() => Compact(bench, master, small: false)).Reason);
            }
            // The first store of the switch.
            else if (host == "a" && begun && other is null && operation == FakeOperation.Store && offset >= LogBench.SlotOffset(0) + 2048 && offset < LogBench.SlotOffset(1))
            {
                other = bench.StartMaster("c", 1);
            }
        };
        Assert.Equal(PollVerdict.TakeoverPending, live.Poll(out _));
        bench.Memory.BeforeAccess = null;
        Assert.Equal(1UL, other!.Writer.Position.Generation);
        Assert.Equal(2UL, new AnchorArea(bench.OpenPool("d").PrimaryDevice, bench.Superblock.FileSystem).ReadSlot(0).Active!.Generation);
        other.PublishValues(1000);
        Assert.Equal(PollVerdict.UpToDate, LogBench.Drain(live, liveSeen));
        LogBench.RequireSame(other.History, liveSeen);
    }

    [Fact]
    public void A_reader_whose_generation_is_gone_is_told_so()
    {
        LogBench bench = new();
        TestMaster master = bench.StartFirst();
        (LogReader late, LogHistory lateSeen) = (bench.NewReader("b"), new(bench.Superblock.FileSystem));
        LogBench.Drain(late, lateSeen);
        Publish(master, 10, 30);
        SegmentRef old = master.Writer.Segment;
        Assert.True(Compact(bench, master, small: false));
        // Whoever was given the space stores something else there.
        bench.Memory.Settle();
        bench.Memory.WriteMemory(old.Offset, new byte[64 * 1024]);

        PollVerdict verdict;
        while ((verdict = late.Poll(out _)) == PollVerdict.LookAgain)
        {
        }
        Assert.Equal(PollVerdict.Diverged, verdict);
        Assert.StartsWith("generation 1 of the log", late.Divergence, StringComparison.Ordinal);
        LogBench.RequireSame(master.History, bench.ReadAll("c"));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(64)]
    [InlineData(1024)]
    public void A_damaged_line_of_a_snapshot_stops_those_who_need_it_until_it_is_right(int at)
    {
        LogBench bench = new();
        TestMaster master = bench.StartFirst();
        (LogReader late, LogHistory lateSeen) = (bench.NewReader("b"), new(bench.Superblock.FileSystem));
        (LogReader live, LogHistory liveSeen) = (bench.NewReader("c"), new(bench.Superblock.FileSystem));
        LogBench.Drain(late, lateSeen);
        Publish(master, 10, 30);
        Assert.True(Compact(bench, master, small: false));
        LogBench.Drain(live, liveSeen);
        SegmentRef first = Chain(bench)[0];
        bench.Memory.Settle();
        byte[] line = new byte[64];
        bench.Memory.ReadMemory(first.DeviceOffsetOf(at), line);
        bench.Memory.WriteMemory(first.DeviceOffsetOf(at), [.. line.Select(b => (byte)~b)]);
        Publish(master, 100, 3);

        Assert.Equal(PollVerdict.UpToDate, LogBench.Drain(live, liveSeen));
        LogBench.RequireSame(master.History, liveSeen);
        LogReader fresh = bench.NewReader("d");
        LogHistory freshSeen = new(bench.Superblock.FileSystem);
        Assert.Equal(ErrorReason.MediaCorrupt, FindDamage(fresh, freshSeen)?.Reason);
        // One that is late needs its first frames alone.
        Assert.Equal(at < 1024 ? ErrorReason.MediaCorrupt : null, FindDamage(late, lateSeen)?.Reason);
        FamfsException claim = Assert.Throws<FamfsException>(() => bench.StartMaster("e", 1));
        Assert.Equal(ErrorReason.MediaCorrupt, claim.Reason);

        bench.Memory.Settle();
        bench.Memory.WriteMemory(first.DeviceOffsetOf(at), line);
        TestMaster next = bench.StartMaster("e", 1);
        foreach ((LogReader reader, LogHistory seen) in new[] { (fresh, freshSeen), (late, lateSeen) })
        {
            Assert.Null(FindDamage(reader, seen));
            LogBench.RequireSame(next.History, seen);
        }
    }

    [Fact]
    public void A_term_that_has_no_more_segment_ids_says_so()
    {
        Assert.Equal((130UL << 16) + ushort.MaxValue, LogWriter.SegmentIdOf(new(130), ushort.MaxValue));
        Assert.Equal(ErrorReason.LogFull, Assert.Throws<FamfsException>(() => LogWriter.SegmentIdOf(new(130), ushort.MaxValue + 1)).Reason);
    }

    [Theory]
    [InlineData(8)]
    [InlineData(1024)]
    public void A_generation_that_memory_does_not_give_back_is_not_entered(int place)
    {
        LogBench bench = new();
        TestMaster master = bench.StartFirst();
        Publish(master, 10, 30);
        long at = -1;
        bool damaged = false;
        bench.Memory.BeforeAccess = (host, operation, offset) =>
        {
            // The header of its first space; it is read again when all is written.
            if (host == "a" && operation == FakeOperation.Store && at < 0 && offset >= master.History.FreeOffset - MediaLayout.UnitBytes && master.History.Records[^1].Type == RecordType.SegmentReserved)
                at = offset;
            if (host != "a" || operation != FakeOperation.Load || offset != at || damaged)
                return;
            damaged = true;
            bench.Memory.Settle();
            bench.Memory.WriteMemory(at + MediaLayout.SegmentHeaderBytes + place, [1, 2, 3, 4]);
        };
        Assert.False(master.TryCompact(bench.OpenPool("a"), new HastyClock(), least => MediaLayout.UnitBytes));
        bench.Memory.BeforeAccess = null;
        Assert.True(damaged);
        Assert.Equal(1UL, master.Writer.Position.Generation);
        Publish(master, 100, 3);
        LogBench.RequireSame(master.History, bench.ReadAll("c"));
    }

    [Fact]
    public void A_reader_that_knows_no_snapshots_stops_at_the_notice()
    {
        LogBench bench = new();
        TestMaster master = bench.StartFirst();
        Publish(master, 10, 3);
        Assert.True(Compact(bench, master, small: false));
        bench.Memory.Settle();
        // As such a reader looks: the first frame of the first segment, record 1 of the generation of mkfs.
        SegmentRef first = Chain(bench)[0];
        byte[] bytes = new byte[4096];
        bench.Memory.ReadMemory(first.DeviceOffsetOf(0), bytes);
        Assert.Equal(FrameVerdict.Good, RecordFrame.Parse(bytes, Crc32C.Seed(bench.Superblock.FileSystem, 1, first.Id), out RecordFrame notice));
        Assert.Equal(1UL, notice.Sequence.Value);
        Assert.Equal(RecordType.GenerationChanged, notice.Type);
        Assert.Equal(FrameFlags.None, notice.Flags);
    }

    [Fact]
    public void A_program_that_enters_no_generation_says_so()
    {
        LogBench bench = new();
        TestMaster master = bench.StartFirst();
        ILogReader live = NativeFormat.OfOneGeneration.OpenReader(bench.OpenPool("b"), new HastyClock());
        while (live.Poll(out _) == PollVerdict.Records)
        {
        }
        Assert.True(Compact(bench, master, small: false));
        foreach (ILogReader reader in new[] { live, NativeFormat.OfOneGeneration.OpenReader(bench.OpenPool("c"), new HastyClock()) })
        {
            FamfsException? error = null;
            for (int polls = 0; polls < 10 && error is null; polls++)
                error = Record.Exception(() => reader.Poll(out _)) as FamfsException;
            Assert.Equal(ErrorReason.NotSupportedByFormat, error?.Reason);
            Assert.Contains("compacted, to generation 2", error!.Message, StringComparison.Ordinal);
        }
        FamfsException claim = Assert.Throws<FamfsException>(() => Mastership.Claim(bench.OpenPool("d"), 1, LogBench.HostB, Guid.NewGuid(), new HastyClock(), entersGenerations: false).Reader.Poll(out _));
        Assert.Equal(ErrorReason.NotSupportedByFormat, claim.Reason);
    }

    [Fact]
    public void The_first_frames_of_a_generation_are_frozen()
    {
        Guid fileSystem = new("00112233-4455-4677-8899-aabbccddeeff");
        SnapshotBegin begin = new()
        {
            FileSystemUuid = fileSystem.ToByteString(), Generation = 2, Sequence = 1001, LastTerm = 130, EndOffset = 0x123450,
            Previous = new()
            {
                Generation = 1, SegmentCount = 3, Term = 130, StartTail = 0x8000, StartSequence = 500, StartTerm = 65,
                Last = new() { Id = (130UL << 16) + 2, Term = 130, Device = 1, OffsetBytes = 0x600000, LengthBytes = 0x200000, AbsoluteStart = 0x9000, EndOffset = 0xA008 },
            },
        };
        byte[] frames = GenerationOrigin.Format(fileSystem, 1, (130UL << 16) + 3, begin, new(130), out int noticeBytes);
        GoldenFile.RequireSame("generation-origin", frames);
        RecordFrame.Parse(frames.AsSpan(noticeBytes), Crc32C.Seed(fileSystem, 2, (130UL << 16) + 3), out RecordFrame frame);
        Assert.Equal(begin, SnapshotBegin.Parser.ParseFrom(frame.Payload));
        ActiveAnchor former = new GenerationOrigin(begin, new(130), noticeBytes).DescribePrevious()!;
        Assert.Equal(new SegmentRef((130UL << 16) + 2, new(130), new(1), 0x600000, 0x200000, 0x9000, 0x1008), Assert.Single(former.Chain));
        begin.Previous.Last.EndOffset = 0x8FF8;
        Assert.Null(new GenerationOrigin(begin, new(130), noticeBytes).DescribePrevious());
    }

    // Reads to the end, or to damage.
    private static FamfsException? FindDamage(LogReader reader, LogHistory seen)
    {
        try
        {
            while (true)
            {
                switch (reader.Poll(out LogBlock block))
                {
                    case PollVerdict.Records:
                        seen.Apply(block);
                        break;
                    case PollVerdict.UpToDate:
                        return null;
                    case PollVerdict.LookAgain:
                        break;
                    case PollVerdict verdict:
                        throw new InvalidOperationException($"{verdict}: {reader.Divergence}");
                }
            }
        }
        catch (FamfsException error)
        {
            return error;
        }
    }

    private static IReadOnlyList<SegmentRef> Chain(LogBench bench)
    {
        LogReader reader = bench.NewReader("z");
        while (reader.Poll(out _) == PollVerdict.Records)
        {
        }
        return reader.Chain;
    }

    private static int CountStores(int seed)
    {
        LogBench bench = new(seed: seed);
        TestMaster master = bench.StartFirst();
        Publish(master, 10, 20);
        // As in those tests: what the memory does by chance is the same then.
        LogBench.Drain(bench.NewReader("b"), new(bench.Superblock.FileSystem));
        int count = 0;
        bench.Memory.BeforeAccess = (host, operation, _) => count += host == "a" && operation is FakeOperation.Store or FakeOperation.WriteBack ? 1 : 0;
        Assert.True(Compact(bench, master, small: true));
        return count;
    }

    private static bool Compact(LogBench bench, TestMaster master, bool small, string host = "a") =>
        master.TryCompact(bench.OpenPool(host), new HastyClock(), least => small ? SmallSegment : least, () => Publish(master, 5000, 5));

    private static void MakeAndRemove(TestMaster master, ulong first, ulong count)
    {
        for (ulong inode = first; inode < first + count; inode++)
        {
            ByteString name = ByteString.CopyFromUtf8($"{inode}");
            master.Publish(RecordType.DirectoryMade, new DirectoryMade { Inode = inode, Parent = InodeNumber.Root.Value, Name = name });
            master.Publish(RecordType.Deleted, new Deleted { Inode = inode, Parent = InodeNumber.Root.Value, Name = name });
        }
    }

    private static void Publish(TestMaster master, ulong first, int count)
    {
        for (int done = 0; done < count; done += 50)
        {
            if (master.Writer.RemainingBytes < 8000)
                master.GoOn(MediaLayout.UnitBytes);
            master.PublishValues([.. Enumerable.Range(done, Math.Min(50, count - done)).Select(i => first + (ulong)i)]);
        }
    }

    private static int Overlaps(IReadOnlyList<SegmentRef> chain) =>
        chain.Sum(a => chain.Count(b => b != a && b.Offset > a.Offset && b.Offset < a.Offset + MediaLayout.SegmentHeaderBytes + Math.Max(0, a.SealedBytes)));
}
