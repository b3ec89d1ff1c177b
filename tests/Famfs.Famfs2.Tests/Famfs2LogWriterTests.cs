using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Famfs2.Tests.Codec;
using Famfs.Famfs2.Codec;
using Famfs.TestSupport;
using Famfs.TestSupport.Dax;
using Famfs.TestSupport.Famfs2;
using Famfs.V1;
using Xunit;

namespace Famfs.Famfs2.Tests;

public sealed class Famfs2LogWriterTests
{
    private const int Unit = Famfs2Image.Unit;

    private static readonly Guid s_system = new("99999999-1111-4222-8333-444444444444");

    public static TheoryData<string> Images => [.. Famfs2SharedImages.Names];

    [Fact]
    public void A_formatted_device_is_what_the_format_says_with_zero_padding_over_any_older_bytes()
    {
        FakeSharedMemory[] memories = [Dirty(32), Dirty(16)];
        Famfs2Superblock made = Famfs2Formatter.Format([.. memories.Select(m => m.Attach("a"))], new() { System = s_system, LogLengthBytes = 16 << 20, Force = true });
        byte[] log = new byte[Famfs2Layout.LogOffset + (16 << 20)];
        memories[0].Settle();
        memories[0].ReadMemory(0, log);
        byte[] expected = new byte[log.Length];
        made.Format(expected);
        Assert.Equal((Famfs2Superblock.PrimaryFlag, 32L * Unit, s_system), (made.Flags, made.DeviceLengthBytes, made.System));
        new Famfs2LogHeader(16 << 20, 1, 1).Format(expected.AsSpan((int)Famfs2Layout.LogOffset));
        using DevicePool pool = TestFormats.All.Open([.. memories.Select(m => m.Attach("b"))]);
        new Famfs2Device(16 * Unit, pool.FindUuid(new(1))!.Value, 1).Format(expected.AsSpan((int)Famfs2Layout.EntryOffset(0)), 0);
        Assert.Equal(log.Length, log.AsSpan().CommonPrefixLength(expected));
        Assert.Null(Famfs2Replay.Of(pool).Error);
    }

    [Theory]
    [InlineData(4L << 20)]
    [InlineData(12L << 20)]
    [InlineData(1L << 41)]
    public void A_log_length_out_of_the_rules_is_refused_before_any_change(long length)
    {
        FakeSharedMemory memory = new(32L * Unit, 1) { AccidentOneIn = 0 };
        Assert.Equal(ErrorReason.BadRequest, Assert.Throws<FamfsException>(() => Famfs2Formatter.Format([memory.Attach("a")], new() { System = s_system, LogLengthBytes = length })).Reason);
        Assert.Equal(0, memory.AllocatedBytes);
    }

    [Fact]
    public void What_is_there_already_or_too_small_is_refused()
    {
        Famfs2Image image = new();
        Assert.Equal(ErrorReason.Exists, Assert.Throws<FamfsException>(() => Famfs2Formatter.Format([image.Memory.Attach("a")], new() { System = s_system })).Reason);
        Assert.Equal(ErrorReason.BadSize, Assert.Throws<FamfsException>(() => Famfs2Formatter.Format([new FakeSharedMemory(5L * Unit, 1).Attach("a")], new() { System = s_system })).Reason);
    }

    [Fact]
    public void Published_records_are_entries_that_every_reader_sees_and_new_files_are_zero()
    {
        Writer writer = new(Dirty(64), coherent: false);
        writer.Publish(writer.Directory(InodeNumber.Root, "d"), writer.File(new(2), "f", 8 * Unit, new MapExtent(new(0), 8L * Unit, 8L * Unit)));
        writer.Publish(writer.File(InodeNumber.Root, "g", 1, new MapExtent(new(0), 20L * Unit, Unit)));
        using DevicePool other = writer.Open("b");
        Famfs2Replay replay = Famfs2Replay.Of(other);
        Assert.Null(replay.Error);
        Assert.Equal(["2 d 0755 0:0", $"3 d/f 0644 0:0 {8 * Unit} chunk 0 0:{8 * Unit}+{8 * Unit}", $"4 g 0644 0:0 1 chunk 0 0:{20 * Unit}+{Unit}"], replay.Tree);
        Assert.Equal(writer.Log.Position, replay.Position);
        byte[] content = new byte[Unit];
        foreach (int unit in new[] { 8, 15, 20 })
        {
            writer.Memory.ReadMemory((long)unit * Unit, content);
            Assert.False(content.AsSpan().ContainsAnyExcept((byte)0), $"unit {unit}");
        }
        writer.Memory.ReadMemory(21L * Unit, content);
        Assert.True(content.AsSpan().ContainsAnyExcept((byte)0));
    }

    /// <summary>The records of a log of the existing tools, published by this writer into a log that was made over older bytes.</summary>
    [Theory]
    [MemberData(nameof(Images))]
    public void A_log_that_is_written_record_by_record_has_the_bytes_of_the_existing_tools_with_all_padding_zero(string name)
    {
        byte[] image = Famfs2SharedImages.ReadImage(name);
        Assert.Equal(SuperblockVerdict.Good, Famfs2Superblock.Parse(image, out Famfs2Superblock? theirs, out _));
        FakeSharedMemory from = new(theirs!.DeviceLengthBytes, seed: 1) { AccidentOneIn = 0 };
        from.WriteMemory(0, image);
        FakeSharedMemory into = new(theirs.DeviceLengthBytes, seed: 1) { AccidentOneIn = 0 };
        byte[] noise = new byte[image.Length];
        new Random(1).NextBytes(noise);
        into.WriteMemory(0, noise);
        Famfs2Formatter.Format([into.Attach("a")], new() { System = s_system, LogLengthBytes = theirs.LogLengthBytes, Force = true });
        using DevicePool source = TestFormats.All.Open([from.Attach("a")]);
        using DevicePool pool = TestFormats.All.Open([into.Attach("a")]);
        Famfs2Mastership mastership = Famfs2Mastership.Take(pool, s_system, takeOver: false);
        while (mastership.Reader.Poll(out _) == PollVerdict.Records)
        {
        }
        Famfs2LogWriter log = mastership.Activate();
        Famfs2LogReader reader = new(source);
        RecordBatch batch = new();
        while (reader.Poll(out LogBlock block) == PollVerdict.Records)
        {
            ReadOnlySpan<byte> frames = block.Frames.Span;
            while (!frames.IsEmpty)
            {
                RecordFrame frame = RecordFrame.ReadVerified(frames);
                frames = frames[frame.PaddedBytes..];
                if (frame.Sequence.Value <= Famfs2Translator.PrologueRecords)
                    continue;
                batch.Start(log.Position.Sequence, log.Term, log.Seed);
                frame.Payload.CopyTo(batch.Reserve(frame.Payload.Length));
                batch.Commit(frame.Payload.Length, frame.Type);
                log.Publish(batch);
            }
        }
        into.Settle();
        byte[] written = new byte[theirs.LogLengthBytes];
        into.ReadMemory(Famfs2Layout.LogOffset, written);
        Assert.Equal(written.Length, written.AsSpan().CommonPrefixLength(image.AsSpan((int)Famfs2Layout.LogOffset, written.Length)));
        // Of the superblock, which names other uuids, what is unused.
        byte[] unit = new byte[Famfs2Layout.LogOffset];
        into.ReadMemory(0, unit);
        Assert.False(unit.AsSpan(Famfs2Superblock.Size).ContainsAnyExcept((byte)0));
        Assert.Equal(0, BitConverter.ToInt32(unit, 108));
    }

    /// <summary>The order of stores: a reader at any moment finds what is whole and zeroed, or nothing.</summary>
    [Fact]
    public void At_every_moment_of_an_append_other_hosts_read_a_whole_log_and_zeroed_files()
    {
        Writer writer = new(Dirty(64), coherent: false);
        writer.Publish(writer.Directory(InodeNumber.Root, "d"));
        int looks = 0;
        byte[] content = new byte[64];
        bool looking = false;
        writer.Memory.AccidentOneIn = 3;
        writer.Memory.BeforeAccess = (host, operation, _) =>
        {
            if (looking || host != "a" || operation is FakeOperation.Load)
                return;
            looking = true;
            using DevicePool other = writer.Open($"reader {looks++}");
            Famfs2Replay replay = Famfs2Replay.Of(other);
            Assert.Null(replay.Error);
            Assert.Empty(replay.Findings);
            if (replay.Tree.Count > 1)
            {
                Assert.Equal(3, replay.Tree.Count);
                other.PrimaryDevice.Invalidate(10L * Unit, 64);
                other.PrimaryDevice.Read(10L * Unit, content);
                Assert.False(content.AsSpan().ContainsAnyExcept((byte)0));
            }
            looking = false;
        };
        writer.Publish(writer.File(new(2), "f", 1, new MapExtent(new(0), 10L * Unit, Unit)), writer.Directory(InodeNumber.Root, "e"));
        writer.Memory.BeforeAccess = null;
        Assert.InRange(looks, 20, int.MaxValue);
    }

    [Theory]
    [InlineData("uuid")]
    [InlineData("superblock")]
    [InlineData("counters")]
    [InlineData("header")]
    [InlineData("file system")]
    public void Any_surprise_before_an_append_ends_mastership_for_good_and_nothing_is_written(string what)
    {
        Writer writer = new(new(64L * Unit, 1) { AccidentOneIn = 0 }, coherent: false);
        writer.Publish(writer.Directory(InodeNumber.Root, "d"));
        DaxDevice other = writer.Memory.Attach("b");
        Famfs2Media.ReadSuperblock(other, out Famfs2Superblock? superblock, out _);
        byte[] header = new byte[Famfs2LogHeader.Size];
        switch (what)
        {
            case "uuid":
                using (DevicePool pool = writer.Open("b"))
                    Famfs2Mastership.Take(pool, Guid.NewGuid(), takeOver: true);
                break;
            case "superblock":
                writer.Memory.WriteMemory(90, [1]);
                break;
            case "file system":
                Famfs2Formatter.Format([other], new() { System = s_system, Force = true });
                break;
            case "counters":
                new Famfs2LogHeader(superblock!.LogLengthBytes, 2, 2).Format(header);
                writer.Memory.WriteMemory(Famfs2Layout.LogOffset, header);
                break;
            default:
                writer.Memory.WriteMemory(Famfs2Layout.LogOffset + 5, [0x77]);
                break;
        }
        byte[] before = new byte[2000];
        writer.Memory.ReadMemory(Famfs2Layout.LogOffset, before);
        for (int i = 0; i < 2; i++)
            Assert.Equal(ErrorReason.NotMaster, Assert.Throws<FamfsException>(() => writer.Publish(writer.Directory(InodeNumber.Root, "e"))).Reason);
        Assert.Equal(ErrorReason.NotMaster, Assert.Throws<FamfsException>(writer.Log.Check).Reason);
        byte[] after = new byte[2000];
        writer.Memory.Settle();
        writer.Memory.ReadMemory(Famfs2Layout.LogOffset, after);
        Assert.Equal(before, after);
    }

    [Fact]
    public void Adoption_keeps_everything_of_the_superblock_but_the_system_and_needs_to_be_asked_for()
    {
        Famfs2Image image = new();
        image.Superblock = image.Superblock with { Gap = 7, DeviceCopy = Guid.NewGuid() };
        image.WriteSuperblock();
        using DevicePool pool = image.Open();
        Assert.Equal(ErrorReason.NotMaster, Assert.Throws<FamfsException>(() => Famfs2Mastership.Take(pool, s_system, takeOver: false)).Reason);
        Famfs2Mastership.Take(pool, s_system, takeOver: true);
        Famfs2Media.ReadSuperblock(image.Memory.Attach("b"), out Famfs2Superblock? adopted, out _);
        Assert.Equal(image.Superblock with { System = s_system, RawName = default }, adopted! with { RawName = default });
        Famfs2Mastership.Take(pool, s_system, takeOver: false);
    }

    [Fact]
    public void A_log_whose_counters_differ_gets_no_writer()
    {
        Famfs2Image image = new Famfs2Image().Directory("d").Directory("e");
        image.WriteHeader(2, 1);
        using DevicePool pool = image.Open();
        Famfs2Mastership mastership = Famfs2Mastership.Take(pool, image.Superblock.System, takeOver: false);
        while (mastership.Reader.Poll(out _) == PollVerdict.Records)
        {
        }
        Assert.Equal(ErrorReason.MediaCorrupt, Assert.Throws<FamfsException>(mastership.Activate).Reason);
    }

    [Fact]
    public void A_record_that_every_reader_would_pass_over_is_never_stored()
    {
        Writer writer = new(new(64L * Unit, 1) { AccidentOneIn = 0 }, coherent: false);
        writer.Publish(writer.File(InodeNumber.Root, "f", 1, new MapExtent(new(0), 10L * Unit, Unit)));
        Assert.Equal(ErrorReason.MediaCorrupt, Assert.Throws<FamfsException>(() => writer.Publish(writer.File(InodeNumber.Root, "g", 1, new MapExtent(new(0), 10L * Unit, Unit)))).Reason);
        using DevicePool other = writer.Open("b");
        Assert.Single(Famfs2Replay.Of(other).Tree);
    }

    [Fact]
    public void The_last_entry_fits_and_then_the_log_is_full()
    {
        Famfs2Image image = new();
        byte[] entries = new byte[Famfs2Layout.MinLogBytes - Famfs2Layout.HeaderBytes];
        ulong all = Famfs2Layout.LastIndexOf(Famfs2Layout.MinLogBytes) + 1;
        for (ulong i = 0; i < all - 1; i++)
            new Famfs2Directory { Path = System.Text.Encoding.ASCII.GetBytes($"{i}") }.Format(entries.AsSpan((int)i * Famfs2Layout.EntryBytes), i);
        image.Memory.WriteMemory(Famfs2Layout.EntryOffset(0), entries);
        image.WriteHeader(all - 1, all - 1);
        using DevicePool pool = image.Open();
        Famfs2Mastership mastership = Famfs2Mastership.Take(pool, image.Superblock.System, takeOver: false);
        while (mastership.Reader.Poll(out _) == PollVerdict.Records)
        {
        }
        Famfs2LogWriter log = mastership.Activate();
        Assert.Equal(1, log.RemainingRecords);
        RecordBatch batch = new();
        batch.Start(log.Position.Sequence, log.Term, log.Seed);
        batch.Add(RecordType.DirectoryMade, new DirectoryMade { Inode = all + 1, Parent = 1, Name = Google.Protobuf.ByteString.CopyFromUtf8("last") });
        log.Publish(batch);
        Assert.Equal(0, log.RemainingRecords);
        using DevicePool other = image.Open("b");
        Assert.Equal((int)all, Famfs2Replay.Of(other).Tree.Count);
    }

    private static FakeSharedMemory Dirty(int units)
    {
        FakeSharedMemory memory = new((long)units * Unit, 1) { AccidentOneIn = 0, Name = $"{units} units" };
        byte[] noise = new byte[Unit];
        new Random(1).NextBytes(noise);
        for (int unit = 0; unit < units; unit++)
            memory.WriteMemory((long)unit * Unit, noise);
        return memory;
    }

    /// <summary>The least master there is.</summary>
    private sealed class Writer
    {
        private readonly RecordBatch _batch = new();
        private readonly DaxDevice _device;
        private ulong _next = 2;

        public Writer(FakeSharedMemory memory, bool coherent)
        {
            Memory = memory;
            DaxDevice device = _device = memory.Attach("a");
            device.Coherent = coherent;
            Famfs2Formatter.Format([device], new() { System = s_system, Force = true });
            DevicePool pool = TestFormats.All.Open([device]);
            Famfs2Mastership mastership = Famfs2Mastership.Take(pool, s_system, takeOver: false);
            while (mastership.Reader.Poll(out _) == PollVerdict.Records)
            {
            }
            Log = mastership.Activate();
        }

        public FakeSharedMemory Memory { get; }

        public Famfs2LogWriter Log { get; }

        public DevicePool Open(string host) => TestFormats.All.Open([Memory.Attach(host)]);

        public (RecordType, Google.Protobuf.IMessage) Directory(InodeNumber parent, string name) =>
            (RecordType.DirectoryMade, new DirectoryMade { Inode = _next++, Parent = parent.Value, Name = Google.Protobuf.ByteString.CopyFromUtf8(name), Mode = 0x1ED });

        public (RecordType, Google.Protobuf.IMessage) File(InodeNumber parent, string name, int size, MapExtent extent)
        {
            FileCreated file = new() { Inode = _next++, Parent = parent.Value, Name = Google.Protobuf.ByteString.CopyFromUtf8(name), Mode = 0x1A4, SizeBytes = (ulong)size, Map = new() };
            file.Map.Extents.Add(new Extent { Device = extent.Device.Value, OffsetBytes = (ulong)extent.OffsetBytes, LengthBytes = (ulong)extent.LengthBytes });
            return (RecordType.FileCreated, file);
        }

        public void Publish(params (RecordType Type, Google.Protobuf.IMessage Payload)[] records)
        {
            _batch.Start(Log.Position.Sequence, Log.Term, Log.Seed);
            foreach ((RecordType type, Google.Protobuf.IMessage payload) in records)
            {
                // As a master does, before a record names the space.
                foreach (Extent extent in (payload as FileCreated)?.Map.Extents ?? [])
                    _device.Zero((long)extent.OffsetBytes, (long)extent.LengthBytes);
                _batch.Add(type, payload);
            }
            _device.Fence();
            Log.Publish(_batch);
        }
    }
}
