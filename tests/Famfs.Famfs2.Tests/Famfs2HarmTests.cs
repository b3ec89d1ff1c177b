using Famfs.Core;
using Famfs.Core.Check;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Famfs2.Codec;
using Famfs.TestSupport;
using Famfs.TestSupport.Dax;
using Famfs.TestSupport.Famfs2;
using Famfs.V1;
using Xunit;

namespace Famfs.Famfs2.Tests;

/// <summary>Whatever a log holds, replay takes what is sound, harms nothing and says what it passed over.</summary>
public sealed class Famfs2HarmTests
{
    private const ulong Unit = Famfs2Image.Unit;

    /// <summary>Code of the finding → the entry that causes it. Behind a directory "d" and a file "f" in the first free
    /// unit of 64; another file follows.</summary>
    private static readonly Dictionary<string, (string Code, Action<Famfs2Image> Add)> s_entries = new()
    {
        ["a component of two dots"] = ("path-component", i => i.Add(Famfs2Image.File("d/../x", 1, Famfs2Image.Extent(10)))),
        ["a component of one dot"] = ("path-component", i => i.Directory("d/.")),
        ["an empty component"] = ("path-component", i => i.Add(Famfs2Image.File("d//x", 1, Famfs2Image.Extent(10)))),
        ["a slash at the end"] = ("path-component", i => i.Directory("d/x/")),
        ["an absolute path"] = ("path-absolute", i => i.Directory("/x")),
        ["an empty path"] = ("path-empty", i => i.Directory("")),
        ["a path without NUL"] = ("path-unterminated", i => i.Add(Famfs2Image.File(new string('x', 80), 1, Famfs2Image.Extent(10)))),
        ["a directory's path without NUL"] = ("path-unterminated", i => i.Directory(new string('x', 80))),
        ["the hidden directory"] = ("path-reserved", i => i.Add(Famfs2Image.File(".meta/x", 1, Famfs2Image.Extent(10)))),
        ["the hidden directory itself"] = ("path-reserved", i => i.Directory(".meta")),
        ["the staging directory"] = ("path-reserved", i => i.Directory(".staged")),
        ["a parent never made"] = ("parent-missing", i => i.Add(Famfs2Image.File("no/x", 1, Famfs2Image.Extent(10)))),
        ["a parent that is a file"] = ("parent-not-directory", i => i.Directory("f/x")),
        ["a file's path again"] = ("path-taken", i => i.Add(Famfs2Image.File("f", 1, Famfs2Image.Extent(10)))),
        ["a directory's path again"] = ("path-taken", i => i.Directory("d")),
        ["no bytes"] = ("size", i => i.Add(Famfs2Image.File("x", 0, Famfs2Image.Extent(10)))),
        ["more bytes than numbers"] = ("size", i => i.Add(Famfs2Image.File("x", 1UL << 63, Famfs2Image.Extent(10)))),
        ["an extent past the device"] = ("extent-range", i => i.Add(Famfs2Image.File("x", 1, Famfs2Image.Extent(63, 2)))),
        ["an extent that overflows"] = ("extent-range", i => i.Add(Famfs2Image.File("x", 1, new Famfs2Extent(0, 10 * Unit, ulong.MaxValue - Unit + 1)))),
        ["an extent behind the end of numbers"] = ("extent-range", i => i.Add(Famfs2Image.File("x", 1, new Famfs2Extent(0, ulong.MaxValue - Unit + 1, Unit)))),
        ["an extent of another file"] = ("extent-overlap", i => i.Add(Famfs2Image.File("x", 1, Famfs2Image.Extent(Famfs2Image.FirstFreeUnit)))),
        ["an extent over another file's end"] = ("extent-overlap", i => i.Add(Famfs2Image.File("x", 1, Famfs2Image.Extent(10), Famfs2Image.Extent(Famfs2Image.FirstFreeUnit, 2)))),
        ["the superblock"] = ("extent-overlap", i => i.Add(Famfs2Image.File("x", 1, Famfs2Image.Extent(0)))),
        ["the log"] = ("extent-overlap", i => i.Add(Famfs2Image.File("x", 1, Famfs2Image.Extent(4)))),
        ["an extent twice in one file"] = ("extent-overlap", i => i.Add(Famfs2Image.File("x", 3 * Unit, Famfs2Image.Extent(10, 2), Famfs2Image.Extent(11)))),
        ["two strips of one place"] = ("extent-overlap", i => i.Add(Famfs2Image.Interleaved("x", 2 * Unit, Unit, Famfs2Image.Extent(10), Famfs2Image.Extent(10)))),
        ["a strip over the log"] = ("extent-overlap", i => i.Add(Famfs2Image.Interleaved("x", 2 * Unit, Unit, Famfs2Image.Extent(10), Famfs2Image.Extent(4)))),
        ["an unaligned offset"] = ("extent-unaligned", i => i.Add(Famfs2Image.File("x", 1, new Famfs2Extent(0, (10 * Unit) + 4096, Unit)))),
        ["an unaligned length"] = ("extent-unaligned", i => i.Add(Famfs2Image.File("x", 1, new Famfs2Extent(0, 10 * Unit, Unit + 4096)))),
        ["an empty extent"] = ("extent-empty", i => i.Add(Famfs2Image.File("x", 1, Famfs2Image.Extent(10, 0)))),
        ["extents shorter than the file"] = ("extent-short", i => i.Add(Famfs2Image.File("x", (2 * Unit) + 1, Famfs2Image.Extent(10, 2)))),
        ["a strip too short"] = ("extent-short", i => i.Add(Famfs2Image.Interleaved("x", (2 * Unit) + 1, Unit, Famfs2Image.Extent(10), Famfs2Image.Extent(11)))),
        ["a later strip too short"] = ("extent-short", i => i.Add(Famfs2Image.Interleaved("x", 4 * Unit, Unit, Famfs2Image.Extent(10, 2), Famfs2Image.Extent(12)))),
        ["an unknown device"] = ("extent-device", i => i.Add(Famfs2Image.File("x", 1, Famfs2Image.Extent(10, 1, device: 1)))),
        ["a device beyond all numbers"] = ("extent-device", i => i.Add(Famfs2Image.File("x", 1, Famfs2Image.Extent(10, 1, device: 1UL << 32)))),
        ["no extents"] = ("extent-count", i => i.Add(Famfs2Image.File("x", 1))),
        ["seventeen extents"] = ("extent-count", i => i.AddChanged(Famfs2Image.File("x", 1, Famfs2Image.Extent(10)), b => BitConverter.TryWriteBytes(b.AsSpan(128), 17UL))),
        ["no interleaved extent"] = ("extent-count", i => i.AddChanged(Famfs2Image.Interleaved("x", 1, Unit, Famfs2Image.Extent(10)), b => b[128] = 0)),
        ["two interleaved extents"] = ("extent-count", i => i.AddChanged(Famfs2Image.Interleaved("x", 1, Unit, Famfs2Image.Extent(10)), b => BitConverter.TryWriteBytes(b.AsSpan(128), 2UL))),
        ["no strips"] = ("strips", i => i.Add(Famfs2Image.Interleaved("x", 1, Unit))),
        ["seventeen strips"] = ("strips", i => i.AddChanged(Famfs2Image.Interleaved("x", 1, Unit, Famfs2Image.Extent(10)), b => BitConverter.TryWriteBytes(b.AsSpan(136), 17UL))),
        ["extent type 2"] = ("extent-type", i => i.AddChanged(Famfs2Image.File("x", 1, Famfs2Image.Extent(10)), b => b[120] = 2)),
        ["a chunk that is no power of two"] = ("chunk", i => i.Add(Famfs2Image.Interleaved("x", 1, 3 * Unit, Famfs2Image.Extent(10, 3)))),
        ["a chunk of zero"] = ("chunk", i => i.Add(Famfs2Image.Interleaved("x", 1, 0, Famfs2Image.Extent(10)))),
        ["a chunk beyond all numbers"] = ("chunk", i => i.Add(Famfs2Image.Interleaved("x", 1, 1UL << 63, Famfs2Image.Extent(10)))),
        ["a device out of order"] = ("device-index", i => i.Add(new Famfs2Device(64 * Unit, Guid.NewGuid(), 2))),
        ["the first device again"] = ("device-uuid", i => i.Add(new Famfs2Device(64 * Unit, i.Superblock.Device, 1))),
        ["a device of no size"] = ("device-size", i => i.Add(new Famfs2Device(4096, Guid.NewGuid(), 1))),
        ["a device of all sizes"] = ("device-size", i => i.Add(new Famfs2Device(long.MaxValue, Guid.NewGuid(), 1))),
    };

    public static TheoryData<string> Names => [.. s_entries.Keys];

    [Theory]
    [MemberData(nameof(Names))]
    public void A_bad_entry_is_found_and_has_no_effect_and_what_follows_is_applied(string name)
    {
        Famfs2Image image = Start();
        s_entries[name].Add(image);
        image.Add(Famfs2Image.File("after", 1, Famfs2Image.Extent(20)));
        using DevicePool pool = image.Open();
        Famfs2Replay replay = Famfs2Replay.Of(pool);
        Assert.Null(replay.Error);
        Famfs2Finding finding = Assert.Single(replay.Findings);
        Assert.Equal((2UL, s_entries[name].Code, true), (finding.Index, finding.Code, finding.Ignored));
        Assert.DoesNotContain('\n', finding.Cause);
        // The inode number of what follows is its own: 2 + index.
        Assert.Equal([.. Good(), "5 after 0644 0:0 1 chunk 0 0:41943040+2097152"], replay.Tree);
        Assert.Equal(Famfs2Translator.SequenceOf(3), replay.Position.Sequence);
        CheckResult check = FileSystemCheck.Run(pool, TimeProvider.System);
        Finding found = Assert.Single(check.Findings, f => f.Code != "padding");
        Assert.Equal((s_entries[name].Code, "entry 2", FindingSeverity.Error), (found.Code, found.Where, found.Severity));
        Assert.Empty(check.Repairs);
        Assert.Equal(2, check.Files);
    }

    [Fact]
    public void A_refused_file_gives_back_the_extents_it_had_taken()
    {
        Famfs2Image image = Start();
        image.Add(Famfs2Image.File("x", 1, Famfs2Image.Extent(10), Famfs2Image.Extent(Famfs2Image.FirstFreeUnit)));
        image.Add(Famfs2Image.File("y", 1, Famfs2Image.Extent(10)));
        using DevicePool pool = image.Open();
        Assert.Equal([.. Good(), "5 y 0644 0:0 1 chunk 0 0:20971520+2097152"], Famfs2Replay.Of(pool).Tree);
    }

    [Fact]
    public void Sixteen_extents_and_sixteen_strips_are_applied()
    {
        Famfs2Image image = Start();
        image.Add(Famfs2Image.File("x", 16 * Unit, [.. Enumerable.Range(10, 16).Select(unit => Famfs2Image.Extent(unit))]));
        image.Add(Famfs2Image.Interleaved("y", 16 * Unit, Unit, [.. Enumerable.Range(30, 16).Select(unit => Famfs2Image.Extent(unit))]));
        using DevicePool pool = image.Open();
        Famfs2Replay replay = Famfs2Replay.Of(pool);
        Assert.Empty(replay.Findings);
        string Map(int first) => string.Join(' ', Enumerable.Range(first, 16).Select(unit => $"0:{(ulong)unit * Unit}+{Unit}"));
        Assert.Equal([.. Good(), $"4 x 0644 0:0 {16 * Unit} chunk 0 {Map(10)}", $"5 y 0644 0:0 {16 * Unit} chunk {Unit} {Map(30)}"], replay.Tree);
        Assert.Empty(FileSystemCheck.Run(pool, TimeProvider.System).Findings);
    }

    [Theory]
    [InlineData("the superblock's unit", 0, 1, "extent-overlap")]
    [InlineData("another file", 3, 2, "extent-overlap")]
    [InlineData("the device's end", 7, 2, "extent-range")]
    [InlineData("what only the first device has", 20, 1, "extent-range")]
    public void Extents_of_a_further_device_are_judged_by_what_it_has(string over, int unit, int units, string code)
    {
        Famfs2Image image = new Famfs2Image().Add(new Famfs2Device(8 * Unit, Guid.NewGuid(), 1));
        image.Add(Famfs2Image.File("f", 1, Famfs2Image.Extent(4, device: 1)));
        image.Add(Famfs2Image.File("x", 1, Famfs2Image.Extent(unit, units, device: 1)));
        image.Add(Famfs2Image.File("after", 1, Famfs2Image.Extent(1, device: 1)));
        using DevicePool pool = image.Open();
        Famfs2Replay replay = Famfs2Replay.Of(pool);
        Assert.Null(replay.Error);
        Assert.True(replay.Findings.Select(f => (f.Index, f.Code)).SequenceEqual([(2UL, code)]), over);
        Assert.Equal(["3 f 0644 0:0 1 chunk 0 1:8388608+2097152", "5 after 0644 0:0 1 chunk 0 1:2097152+2097152"], replay.Tree);
        Assert.Contains(FileSystemCheck.Run(pool, TimeProvider.System).Findings, f => f.Code == code && f.Where == "entry 2" && f.Severity == FindingSeverity.Error);
    }

    [Fact]
    public void Type_bits_in_a_mode_are_found_and_ignored()
    {
        Famfs2Image image = Start();
        image.Add(Famfs2Image.File("x", 1, Famfs2Image.Extent(10)) with { Mode = 0x81A4 });
        image.Directory("y", 0x41ED);
        using DevicePool pool = image.Open();
        Famfs2Replay replay = Famfs2Replay.Of(pool);
        Assert.Equal([("mode", false), ("mode", false)], replay.Findings.Select(f => (f.Code, f.Ignored)));
        Assert.Equal([("mode", "entry 2", FindingSeverity.Warning), ("mode", "entry 3", FindingSeverity.Warning)], FileSystemCheck.Run(pool, TimeProvider.System).Findings.Select(f => (f.Code, f.Where, f.Severity)));
        Assert.Equal([.. Good(), "4 x 0644 0:0 1 chunk 0 0:20971520+2097152", "5 y 0755 0:0"], replay.Tree);
        // Nor do records have them, which go to streams, exports and migration.
        Famfs2LogReader reader = new(pool);
        List<uint> modes = [];
        while (reader.Poll(out LogBlock block) == PollVerdict.Records)
        {
            ReadOnlySpan<byte> frames = block.Frames.Span;
            while (!frames.IsEmpty)
            {
                RecordFrame frame = RecordFrame.ReadVerified(frames);
                frames = frames[frame.PaddedBytes..];
                if (frame.Type == RecordType.FileCreated)
                    modes.Add(FileCreated.Parser.ParseFrom(frame.Payload).Mode);
                else if (frame.Type == RecordType.DirectoryMade)
                    modes.Add(DirectoryMade.Parser.ParseFrom(frame.Payload).Mode);
            }
        }
        Assert.Equal([0x1EDu, 0x1A4u, 0x1A4u, 0x1EDu], modes);
    }

    [Theory]
    [InlineData(2u)]
    [InlineData(4u)]
    [InlineData(5u)]
    [InlineData(uint.MaxValue)]
    public void Replay_stops_before_an_unknown_type_and_says_so(uint type)
    {
        Famfs2Image image = Start();
        image.AddChanged(Famfs2Image.File("x", 1, Famfs2Image.Extent(10)), b => BitConverter.TryWriteBytes(b.AsSpan(8), type));
        image.Add(Famfs2Image.File("after", 1, Famfs2Image.Extent(20)));
        using DevicePool pool = image.Open();
        Famfs2Replay replay = Famfs2Replay.Of(pool);
        Assert.Equal(ErrorReason.NotSupportedByFormat, replay.Error!.Reason);
        Assert.Contains("entry 2", replay.Error.Message, StringComparison.Ordinal);
        Assert.Equal(Good(), replay.Tree);
        CheckResult check = FileSystemCheck.Run(pool, TimeProvider.System);
        Assert.Equal(["entry-type"], check.Findings.Where(f => f.Severity == FindingSeverity.Error).Select(f => f.Code));
        Assert.Empty(check.Repairs);
    }

    [Theory]
    [InlineData("checksum")]
    [InlineData("sequence")]
    public void Replay_stops_before_a_damaged_entry_keeps_what_came_before_and_says_so(string what)
    {
        Famfs2Image image = Start();
        if (what == "checksum")
        {
            image.Add(Famfs2Image.File("x", 1, Famfs2Image.Extent(10)));
            image.Flip(Famfs2Layout.EntryOffset(2) + 300, 1);
        }
        else
        {
            image.Add((entry, index) => Famfs2Image.File("x", 1, Famfs2Image.Extent(10)).Format(entry, index + 1));
        }
        image.Add(Famfs2Image.File("after", 1, Famfs2Image.Extent(20)));
        using DevicePool pool = image.Open();
        Famfs2Replay replay = Famfs2Replay.Of(pool);
        Assert.Equal(ErrorReason.MediaCorrupt, replay.Error!.Reason);
        Assert.Contains($"entry 2 of the log at offset {Famfs2Layout.EntryOffset(2)}", replay.Error.Message, StringComparison.Ordinal);
        Assert.Equal(Good(), replay.Tree);
        Assert.Equal(Famfs2Translator.SequenceOf(1), replay.Position.Sequence);
        CheckResult check = FileSystemCheck.Run(pool, TimeProvider.System);
        Assert.Equal([$"entry-{what}"], check.Findings.Where(f => f.Severity == FindingSeverity.Error).Select(f => f.Code));
        Assert.Empty(check.Repairs);
    }

    [Theory]
    [InlineData(3UL, 2UL)]
    [InlineData(2UL, 3UL)]
    [InlineData(2UL, ulong.MaxValue)]
    public void Only_entries_that_both_counters_cover_are_applied(ulong nextSequence, ulong nextIndex)
    {
        Famfs2Image image = Start();
        image.Add(Famfs2Image.File("x", 1, Famfs2Image.Extent(10)));
        image.WriteHeader(nextSequence, nextIndex);
        using DevicePool pool = image.Open();
        Famfs2Replay replay = Famfs2Replay.Of(pool);
        Assert.Null(replay.Error);
        Assert.Equal(Good(), replay.Tree);
        Assert.Equal(["index-skew"], FileSystemCheck.Run(pool, TimeProvider.System).Findings.Select(f => f.Code));
    }

    [Fact]
    public void Counters_beyond_the_log_are_not_followed_behind_its_end()
    {
        Famfs2Image image = Start();
        image.WriteHeader(ulong.MaxValue, ulong.MaxValue);
        using DevicePool pool = image.Open();
        Famfs2Replay replay = Famfs2Replay.Of(pool);
        Assert.Equal(ErrorReason.MediaCorrupt, replay.Error!.Reason);
        Assert.Equal(Good(), replay.Tree);
    }

    [Fact]
    public void A_good_entry_behind_the_last_place_of_a_full_log_is_no_entry()
    {
        Famfs2Image image = new();
        ulong room = Famfs2Layout.LastIndexOf(Famfs2Layout.MinLogBytes) + 1;
        byte[] entries = new byte[(int)(room + 1) * Famfs2Layout.EntryBytes];
        for (ulong i = 0; i <= room; i++)
            new Famfs2Directory { Path = System.Text.Encoding.ASCII.GetBytes($"{i}") }.Format(entries.AsSpan((int)i * Famfs2Layout.EntryBytes), i);
        image.Memory.WriteMemory(Famfs2Layout.EntryOffset(0), entries);
        image.WriteHeader(room + 1, room + 1);
        using DevicePool pool = image.Open();
        Assert.Equal((int)room, Famfs2Replay.Of(pool).Tree.Count);
        CheckResult check = FileSystemCheck.Run(pool, TimeProvider.System);
        Assert.Equal(["index-skew"], check.Findings.Select(f => f.Code));
        Assert.Equal((long)room + 1, check.Directories);
    }

    [Theory]
    [InlineData(8, 16L << 20, "log header has length")]
    [InlineData(16, 15420L, "log header has last index")]
    [InlineData(16, -1L, "log header has last index")]
    [InlineData(0, 1L, "log header magic is wrong")]
    public void A_log_header_that_lies_with_a_good_checksum_is_found_and_not_followed(int offset, long value, string cause)
    {
        Famfs2Image image = Start();
        byte[] header = new byte[Famfs2LogHeader.Size];
        image.Memory.ReadMemory(Famfs2Layout.LogOffset, header);
        BitConverter.TryWriteBytes(header.AsSpan(offset), value);
        BitConverter.TryWriteBytes(header.AsSpan(24), (ulong)Crc32.Compute(header.AsSpan(0, 24)));
        image.Memory.WriteMemory(Famfs2Layout.LogOffset, header);
        FamfsException error = Assert.Throws<FamfsException>(() => image.Open());
        Assert.Equal(ErrorReason.MediaCorrupt, error.Reason);
        Assert.Contains(cause, error.Message, StringComparison.Ordinal);
        DaxDevice device = image.Memory.Attach("a");
        IReadOnlyList<Finding> findings = FileSystemCheck.Run([device], TestFormats.All, TimeProvider.System).Findings;
        Assert.Contains(findings, f => f.Code == "log-header" && f.What.Contains(cause, StringComparison.Ordinal));
        Finding unusable = Assert.Single(findings, f => f.Code == "unusable");
        Assert.Equal(device.Path, unusable.Where);
        Assert.StartsWith(cause, unusable.What, StringComparison.Ordinal);
        Assert.DoesNotContain("run `famfs check`", unusable.What, StringComparison.Ordinal);
    }

    /// <summary>Lengths that the superblock's checksum covers or not: none leads behind the device.</summary>
    [Theory]
    [InlineData(Famfs2Layout.MaxLogBytes, 128L << 20)]
    [InlineData(256L << 20, 128L << 20)]
    [InlineData(8L << 20, long.MaxValue)]
    [InlineData(8L << 20, -1L)]
    [InlineData(8L << 20, 0L)]
    [InlineData(8L << 20, 10L << 20)]
    public void A_superblock_that_lies_about_lengths_is_refused(long logLength, long deviceLength)
    {
        Famfs2Image image = Start();
        image.Superblock = image.Superblock with { LogLengthBytes = logLength, DeviceLengthBytes = deviceLength };
        image.WriteSuperblock();
        image.WriteHeader(2, 2);
        if (deviceLength == 10L << 20)
        {
            // Room for the log and for no file: what the entries say is outside.
            using DevicePool pool = image.Open();
            Assert.Equal(["extent-range"], Famfs2Replay.Of(pool).Findings.Select(f => f.Code));
            return;
        }
        Assert.Equal(ErrorReason.MediaCorrupt, Assert.Throws<FamfsException>(() => image.Open()).Reason);
        Assert.Contains(FileSystemCheck.Run([image.Memory.Attach("a")], TestFormats.All, TimeProvider.System).Findings, f => f.Code == "unusable");
    }

    [Fact]
    public void No_flipped_bit_of_the_superblock_crashes_or_maps_a_file_elsewhere()
    {
        Famfs2Image image = Start();
        image.Add(Famfs2Image.Interleaved("d/strips", 4 * Unit, Unit, Famfs2Image.Extent(30, 2), Famfs2Image.Extent(60, 2)));
        RequireHarmlessFlips(image, Enumerable.Range(0, Famfs2Superblock.Size * 8).Select(bit => (long)bit), refused: 104 * 8);
    }

    [Fact]
    public void No_flipped_bit_of_a_further_devices_superblock_makes_it_another_device()
    {
        Famfs2Device added = new(8 * Unit, Guid.NewGuid(), 1);
        Famfs2Image image = new Famfs2Image().Add(added).Add(Famfs2Image.File("f", 1, Famfs2Image.Extent(4, device: 1)));
        FakeSharedMemory second = new(8L * Famfs2Image.Unit, 1, coherent: true) { AccidentOneIn = 0 };
        byte[] block = new byte[Famfs2Superblock.Size];
        (image.Superblock with { Device = added.Device, Flags = Famfs2Superblock.SecondaryFlag, DeviceLengthBytes = second.LengthBytes }).Format(block);
        int accepted = 0;
        for (int bit = 0; bit < block.Length * 8; bit++)
        {
            byte[] flipped = [.. block];
            flipped[bit / 8] ^= (byte)(1 << (bit % 8));
            second.WriteMemory(0, flipped);
            try
            {
                using DevicePool pool = TestFormats.All.Open([image.Memory.Attach("a"), second.Attach("a")]);
                Assert.Equal((added.Device, second.LengthBytes), (pool.FindUuid(new(1)), pool.Require(new(1)).LengthBytes));
                Assert.Equal(["3 f 0644 0:0 1 chunk 0 1:8388608+2097152"], Famfs2Replay.Of(pool).Tree);
                // Checksums cover what says which device it is.
                Assert.InRange(bit, 104 * 8, int.MaxValue);
                accepted++;
            }
            catch (FamfsException error)
            {
                Assert.True(error.Reason is ErrorReason.MediaCorrupt or ErrorReason.WrongFilesystem or ErrorReason.DeviceMissing, error.Message);
            }
        }
        Assert.NotEqual(0, accepted);
    }

    [Fact]
    public void No_flipped_bit_of_header_and_entries_crashes_or_maps_a_file_elsewhere()
    {
        Famfs2Image image = Start();
        image.Add(Famfs2Image.Interleaved("d/strips", 4 * Unit, Unit, Famfs2Image.Extent(30, 2), Famfs2Image.Extent(60, 2)));
        IEnumerable<long> header = Enumerable.Range(0, Famfs2LogHeader.Size * 8).Select(bit => (Famfs2Layout.LogOffset * 8) + bit);
        IEnumerable<long> sample = Enumerable.Range(0, (int)image.Count * Famfs2Entry.Size * 8).Where(bit => bit % 7 == 0).Select(bit => (Famfs2Layout.EntryOffset(0) * 8) + bit);
        RequireHarmlessFlips(image, header.Concat(sample));
    }

    /// <summary>Every entry that checks well however its payload is made: replay must take or leave it.</summary>
    [Fact]
    public void Random_payloads_with_good_checksums_never_crash_replay_or_overlap()
    {
        Random random = new(4711);
        for (int round = 0; round < 40; round++)
        {
            Famfs2Image image = Start();
            for (int i = 0; i < 50; i++)
            {
                Famfs2File file = Famfs2Image.File($"r{i}", (ulong)random.Next(1, 1 << 22), Famfs2Image.Extent(random.Next(5, 62), 2));
                image.AddChanged(file, bytes =>
                {
                    for (int n = random.Next(4); n > 0; n--)
                        bytes[random.Next(16, Famfs2Layout.EntryCrcOffset)] = (byte)random.Next(256);
                    bytes[8] = (byte)(random.Next(10) switch { 0 => 1, 1 => 3, _ => 0 });
                });
            }
            using DevicePool pool = image.Open();
            Famfs2Replay replay = Famfs2Replay.Of(pool);
            Assert.Null(replay.Error);
            HashSet<string> used = [];
            foreach (string extent in replay.Tree.SelectMany(line => line.Split(" chunk ")[1..]).SelectMany(maps => maps.Split(' ')[1..]))
            {
                long[] parts = [.. extent.Split(':', '+').Select(long.Parse)];
                for (long at = parts[1]; at < parts[1] + parts[2]; at += Famfs2Image.Unit)
                    Assert.True(used.Add($"{parts[0]}:{at}"), $"unit {at} of device {parts[0]} is in two files");
            }
        }
    }

    [Fact]
    public void An_entry_that_is_whole_a_moment_later_is_not_called_corrupt()
    {
        Famfs2Image image = Start();
        using DevicePool pool = image.Open("reader");
        image.Flip(Famfs2Layout.EntryOffset(1) + 300, 1);
        int looks = 0;
        image.Memory.BeforeAccess = (_, operation, offset) =>
        {
            if (operation == "load" && offset / 64 == (Famfs2Layout.EntryOffset(1) + 300) / 64 && ++looks == 3)
                image.Flip(Famfs2Layout.EntryOffset(1) + 300, 1);
        };
        Famfs2Replay replay = Famfs2Replay.Of(pool);
        Assert.True(looks >= 3);
        Assert.Null(replay.Error);
        Assert.Equal(Good(), replay.Tree);
    }

    private static Famfs2Image Start() => new Famfs2Image().Directory("d").Add(Famfs2Image.File("f", 1, Famfs2Image.Extent(Famfs2Image.FirstFreeUnit)));

    private static string[] Good() => ["2 d 0755 0:0", "3 f 0644 0:0 1 chunk 0 0:10485760+2097152"];

    private static void RequireHarmlessFlips(Famfs2Image image, IEnumerable<long> bits, long refused = 0)
    {
        string[] whole;
        using (DevicePool pool = image.Open())
            whole = [.. Famfs2Replay.Of(pool).Tree];
        Assert.Equal(3, whole.Length);
        int same = 0;
        foreach (long bit in bits)
        {
            image.Flip(bit / 8, (byte)(1 << (int)(bit % 8)));
            try
            {
                using DevicePool pool = image.Open();
                Assert.True(bit >= refused, $"bit {bit % 8} of byte {bit / 8} is not noticed");
                Famfs2Replay replay = Famfs2Replay.Of(pool);
                Assert.True(replay.Tree.All(whole.Contains), $"bit {bit % 8} of byte {bit / 8}: {string.Join("; ", replay.Tree)}");
                // What is missing is told.
                Assert.True(replay.Tree.Count == 3 || FileSystemCheck.Run(pool, TimeProvider.System).ErrorCount > 0, $"bit {bit % 8} of byte {bit / 8}: {string.Join("; ", replay.Tree)}");
                same += replay.Tree.Count == 3 ? 1 : 0;
            }
            catch (FamfsException error)
            {
                Assert.True(error.Reason is ErrorReason.MediaCorrupt or ErrorReason.WrongFilesystem or ErrorReason.DeviceMissing, error.Message);
                Assert.DoesNotContain('\n', error.Message);
            }
            image.Flip(bit / 8, (byte)(1 << (int)(bit % 8)));
        }
        // Bits that nothing depends on do no harm at all.
        Assert.NotEqual(0, same);
    }
}
