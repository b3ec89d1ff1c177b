using System.Text;
using System.Text.Json;
using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Namespace;
using Famfs.Famfs2.Tests.Codec;
using Famfs.Famfs2.Codec;
using Famfs.TestSupport;
using Famfs.TestSupport.Dax;
using Famfs.TestSupport.Famfs2;
using Famfs.V1;
using Xunit;

namespace Famfs.Famfs2.Tests;

public sealed class Famfs2LogReaderTests
{
    public static TheoryData<string> Names => [.. Famfs2SharedImages.Names];

    [Theory]
    [MemberData(nameof(Names))]
    public void An_image_of_the_existing_tools_replays_to_exactly_its_files(string name)
    {
        byte[] image = Famfs2SharedImages.ReadImage(name);
        using JsonDocument content = Famfs2SharedImages.ReadContent(name);
        FakeSharedMemory memory = new(content.RootElement.GetProperty("superblock").GetProperty("dd_size").GetInt64(), seed: 1, coherent: true) { AccidentOneIn = 0 };
        memory.WriteMemory(0, image);
        using DevicePool pool = TestFormats.All.Open([memory.Attach("a")]);
        Famfs2Replay replay = Famfs2Replay.Of(pool);
        Assert.Null(replay.Error);
        Assert.Empty(replay.Findings);
        List<string> expected = [];
        foreach (JsonElement entry in content.RootElement.GetProperty("entries").EnumerateArray())
        {
            uint type = entry.GetProperty("type").GetUInt32();
            if (type == 3)
                continue;
            StringBuilder line = new($"{entry.GetProperty("index").GetUInt64() + 2} {entry.GetProperty("path").GetString()} 0{Convert.ToString(Convert.ToInt32(entry.GetProperty("mode").GetString(), 8), 8)} {entry.GetProperty("uid")}:{entry.GetProperty("gid")}");
            if (type == 0)
            {
                bool interleaved = entry.GetProperty("ext_type").GetInt32() == 1;
                line.Append($" {entry.GetProperty("size")} chunk {(interleaved ? entry.GetProperty("chunk_size").GetUInt64() : 0)}");
                foreach (JsonElement extent in entry.GetProperty(interleaved ? "strips" : "extents").EnumerateArray())
                    line.Append($" {extent.GetProperty("devindex")}:{extent.GetProperty("offset")}+{extent.GetProperty("len")}");
            }
            expected.Add(line.ToString());
        }
        Assert.Equal(expected, replay.Tree);
    }

    [Fact]
    public void The_state_says_what_superblock_and_log_say()
    {
        Famfs2Image image = new Famfs2Image().Add(new Famfs2Device(100 * Famfs2Image.Unit + 5, new("12345678-1111-4222-8333-444444444444"), 1));
        using DevicePool pool = image.Open();
        Assert.Equal((Famfs2Format.Instance, Famfs2Inodes.System), (pool.Format, pool.Format.SystemInodes));
        ILogReader reader = pool.Format.OpenReader(pool, TimeProvider.System);
        using ReplayState state = new(new(pool.Primary.FileSystem, 0, default, default), default);
        while (reader.Poll(out LogBlock block) == PollVerdict.Records)
            state.ApplyFrames(block.Frames.Span);
        Assert.Equal(reader.Position, state.Position);
        Assert.Equal(image.Superblock.FileSystem, state.FileSystem!.FileSystemUuid.ToGuid("uuid"));
        Assert.Equal([64UL * Famfs2Image.Unit, 100UL * Famfs2Image.Unit], state.Devices.Select(d => d.LengthBytes));
        // Superblock unit and log of the first device, superblock unit of the second.
        Assert.Equal((long)Famfs2Image.Unit + (8 << 20) + Famfs2Image.Unit, state.UsedBytes);
        Assert.Equal(Famfs2Inodes.System.Log, Assert.Single(state.Segments).Inode);
    }

    [Fact]
    public void Inode_numbers_of_the_file_systems_own_things_are_beyond_those_of_any_log()
    {
        ulong last = Famfs2Layout.InodeOf(Famfs2Layout.LastIndexOf(Famfs2Layout.MaxLogBytes)).Value;
        SystemInodes own = Famfs2Inodes.System;
        ulong[] numbers = [own.Meta.Value, own.Staged.Value, own.Log.Value, .. Enumerable.Range(0, MediaLayout.MaxDevices).Select(d => Famfs2Inodes.SuperblockOf(new((ushort)d)).Value)];
        Assert.All(numbers, n => Assert.InRange(n, last + 1, InodeNumber.Max));
        Assert.Equal(numbers.Length, numbers.Distinct().Count());
        using InodeTree tree = new(default);
        tree.MakeRoot(InodeNumber.Root, 0, 0, 0, 0);
        foreach (ulong number in numbers)
            tree.MakeSystem(new(number), 0, 0, [new(new(0), 0, Famfs2Image.Unit)]);
    }

    [Fact]
    public void Entries_appended_later_are_found_by_the_next_poll()
    {
        Famfs2Image image = new Famfs2Image(coherent: false).Directory("a");
        using DevicePool pool = image.Open("reader");
        Famfs2LogReader reader = new(pool);
        Assert.Equal(Famfs2Translator.PrologueRecords, Drain(reader).Prologue);
        Assert.True(reader.CaughtUp);
        Assert.Equal(PollVerdict.UpToDate, reader.Poll(out _));
        image.Directory("a/b").Directory("a/b/c");
        (_, List<RecordType> types) = Drain(reader);
        Assert.Equal([RecordType.DirectoryMade, RecordType.DirectoryMade], types);
        Assert.Equal(Famfs2Translator.SequenceOf(2), reader.Position.Sequence);
        image.WriteHeader(1, 1);
        Assert.Equal(PollVerdict.Diverged, reader.Poll(out _));
    }

    [Fact]
    public void Entries_of_a_file_system_that_is_made_over_this_one_are_never_taken_for_its_own()
    {
        Famfs2Image image = new Famfs2Image().Directory("a");
        using DevicePool pool = image.Open("reader");
        Famfs2LogReader reader = new(pool);
        Drain(reader);
        image.Superblock = image.Superblock with { FileSystem = Guid.NewGuid() };
        image.WriteSuperblock();
        image.Directory("b"); // at the index that is read next
        Assert.Equal(ErrorReason.WrongFilesystem, Assert.Throws<FamfsException>(() => reader.Poll(out _)).Reason);
        image.Flip(20, 1);
        Assert.Equal(ErrorReason.MediaCorrupt, Assert.Throws<FamfsException>(() => reader.Poll(out _)).Reason);
    }

    [Fact]
    public void Readers_that_resume_anywhere_give_the_same_frames()
    {
        Famfs2Image image = new();
        image.Directory("d");
        for (int i = 0; i < 600; i++)
            image.Directory(i % 3 == 0 ? $"d/{i}" : $"{i}").Directory("bad/x");
        using DevicePool pool = image.Open();
        List<(LogSequence Sequence, byte[] Frame)> all = Frames(new Famfs2LogReader(pool));
        Assert.Equal(1201 + Famfs2Translator.PrologueRecords, all.Count);
        Assert.Equal(Enumerable.Range(1, all.Count), all.Select(f => (int)f.Sequence.Value));
        Famfs2LogReader resumed = new(pool);
        foreach (int at in new[] { 700, 3, 1203, 5, 0, 1, 2, 260 })
        {
            resumed.Resume(new(pool.Primary.FileSystem, 0, new((ulong)at), default), 0);
            Assert.Equal(all.Skip(at).Select(f => Convert.ToHexString(f.Frame)), Frames(resumed).Select(f => Convert.ToHexString(f.Frame)));
        }
    }

    [Fact]
    public void Every_record_goes_back_to_the_entry_it_came_from()
    {
        Famfs2Image image = new Famfs2Image().Directory("d", 0x1C0)
            .Add(Famfs2Image.File("d/f", 3 * Famfs2Image.Unit, Famfs2Image.Extent(10), Famfs2Image.Extent(20, 2)) with { Uid = 7, Gid = 8 })
            .Add(new Famfs2Device(100 * Famfs2Image.Unit, Guid.NewGuid(), 1))
            .Add(Famfs2Image.Interleaved("d/" + new string('n', 77), 4 * Famfs2Image.Unit, Famfs2Image.Unit, Famfs2Image.Extent(30, 2), Famfs2Image.Extent(1, 2, device: 1)));
        using DevicePool pool = image.Open();
        Famfs2LogReader reader = new(pool);
        List<(LogSequence Sequence, byte[] Frame)> all = Frames(reader);
        byte[] stored = new byte[Famfs2Entry.Size];
        byte[] entry = new byte[Famfs2Entry.Size];
        for (ulong index = 0; index < image.Count; index++)
        {
            image.Memory.ReadMemory(Famfs2Layout.EntryOffset(index), stored);
            reader.Translator.Encode(RecordFrame.ReadVerified(all[(int)index + Famfs2Translator.PrologueRecords].Frame), entry);
            Assert.Equal(stored, entry);
        }
    }

    [Fact]
    public void Units_of_4_KiB_are_read()
    {
        Famfs2Image image = new(unitBytes: 4096);
        image.Add(Famfs2Image.File("f", 4096, new Famfs2Extent(0, (10 << 20) + 4096, 4096)));
        image.Add(Famfs2Image.File("g", 4096, new Famfs2Extent(0, (10 << 20) + 2048, 4096)));
        using DevicePool pool = image.Open();
        Famfs2Replay replay = Famfs2Replay.Of(pool);
        Assert.Equal(["2 f 0644 0:0 4096 chunk 0 0:10489856+4096"], replay.Tree);
        Assert.Equal("extent-unaligned", Assert.Single(replay.Findings).Code);
    }

    [Fact]
    public void A_second_device_is_known_by_its_uuid_and_a_stranger_is_refused()
    {
        Guid second = Guid.NewGuid();
        Famfs2Image image = new Famfs2Image().Add(new Famfs2Device(8 * Famfs2Image.Unit, second, 1));
        DaxDevice Further(Guid fileSystem, Guid device, int units)
        {
            FakeSharedMemory memory = new((long)units * Famfs2Image.Unit, 1, coherent: true) { AccidentOneIn = 0 };
            byte[] block = new byte[Famfs2Superblock.Size];
            (image.Superblock with { FileSystem = fileSystem, Device = device, Flags = Famfs2Superblock.SecondaryFlag }).Format(block);
            memory.WriteMemory(0, block);
            return memory.Attach("a");
        }
        using (DevicePool pool = TestFormats.All.Open([Further(image.Superblock.FileSystem, second, 8), image.Memory.Attach("a")]))
            Assert.Equal((2, second), (pool.Present.Count(), pool.FindUuid(new(1))));
        foreach ((DaxDevice other, ErrorReason reason) in new[]
        {
            (Further(image.Superblock.FileSystem, Guid.NewGuid(), 8), ErrorReason.WrongFilesystem),
            (Further(Guid.NewGuid(), second, 8), ErrorReason.WrongFilesystem),
            (Further(image.Superblock.FileSystem, second, 7), ErrorReason.MediaCorrupt),
        })
            Assert.Equal(reason, Assert.Throws<FamfsException>(() => TestFormats.All.Open([image.Memory.Attach("a"), other])).Reason);
        Assert.Equal(ErrorReason.DeviceMissing, Assert.Throws<FamfsException>(() => TestFormats.All.Open([Further(image.Superblock.FileSystem, second, 8)])).Reason);
        Assert.Equal(ErrorReason.WrongFilesystem, Assert.Throws<FamfsException>(() => TestFormats.All.Open([image.Memory.Attach("a"), image.Memory.Attach("a")])).Reason);
    }

    [Fact]
    public void A_version_of_the_format_that_is_not_known_is_named()
    {
        Famfs2Image image = new();
        byte[] block = new byte[Famfs2Superblock.Size];
        image.Superblock.Format(block);
        block[44]++;
        BitConverter.TryWriteBytes(block.AsSpan(96), (ulong)Crc32.Compute(block.AsSpan(0, 96)));
        image.Memory.WriteMemory(0, block);
        FamfsException error = Assert.Throws<FamfsException>(() => image.Open());
        Assert.Equal(ErrorReason.NotSupportedByFormat, error.Reason);
        Assert.Contains("minor 3 is not famfs-2", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_native_superblock_copy_under_a_damaged_famfs2_superblock_is_not_believed()
    {
        Famfs2Image image = new();
        byte[] native = new byte[MediaLayout.SuperblockBytes];
        new NativeSuperblock
        {
            FileSystem = image.Superblock.FileSystem,
            Device = image.Superblock.Device,
            MkfsHost = Guid.NewGuid(),
            Index = default,
            DeviceLengthBytes = image.Memory.LengthBytes,
            Coherent = true,
            HostTableLengthBytes = MediaLayout.UnitBytes,
            FirstSegmentOffset = 4L * MediaLayout.UnitBytes,
            FirstSegmentLengthBytes = MediaLayout.UnitBytes,
        }.Format(native);
        image.Memory.WriteMemory(MediaLayout.SuperblockCopyOffset, native);
        for (int bit = 0; bit < 104 * 8; bit++)
        {
            image.Flip(bit / 8, (byte)(1 << (bit % 8)));
            Assert.ThrowsAny<FamfsException>(() => image.Open());
            image.Flip(bit / 8, (byte)(1 << (bit % 8)));
        }
    }

    private static (int Prologue, List<RecordType> Types) Drain(Famfs2LogReader reader)
    {
        int before = (int)Math.Min(reader.Position.Sequence.Value, Famfs2Translator.PrologueRecords);
        List<RecordType> types = [.. Frames(reader).Select(f => RecordFrame.ReadVerified(f.Frame).Type)];
        int prologue = Famfs2Translator.PrologueRecords - before;
        return (prologue, types[prologue..]);
    }

    private static List<(LogSequence Sequence, byte[] Frame)> Frames(Famfs2LogReader reader)
    {
        List<(LogSequence, byte[])> frames = [];
        while (reader.Poll(out LogBlock block) == PollVerdict.Records)
        {
            Assert.Equal((0UL, 0UL), (block.Generation, block.SegmentId));
            uint seed = Crc32C.Seed(reader.Position.FileSystem, block.Generation, block.SegmentId);
            ReadOnlySpan<byte> bytes = block.Frames.Span;
            LogSequence expected = block.FirstSequence;
            while (!bytes.IsEmpty)
            {
                Assert.Equal(FrameVerdict.Good, RecordFrame.Parse(bytes, seed, out RecordFrame frame));
                Assert.Equal(expected, frame.Sequence);
                frames.Add((frame.Sequence, bytes[..frame.PaddedBytes].ToArray()));
                bytes = bytes[frame.PaddedBytes..];
                expected = expected.Next;
            }
            Assert.Equal(reader.Position.Sequence.Next, expected);
        }
        return frames;
    }
}
