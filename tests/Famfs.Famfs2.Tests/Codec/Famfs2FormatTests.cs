using Famfs.Core.Format;
using Famfs.Famfs2.Codec;
using Famfs.TestSupport;
using Xunit;

namespace Famfs.Famfs2.Tests.Codec;

public sealed class Famfs2FormatTests
{
    public static TheoryData<string> Names => [.. Famfs2Samples.All.Keys];

    [Theory]
    [MemberData(nameof(Names))]
    public void Every_structure_has_its_frozen_bytes(string name) =>
        GoldenFile.RequireSame("famfs-2/" + name, Famfs2Samples.All[name]());

    [Fact]
    public void Frozen_bytes_give_back_every_field()
    {
        byte[] superblock = GoldenFile.Read("famfs-2/superblock");
        Assert.Equal(SuperblockVerdict.Good, Famfs2Superblock.Parse(superblock, out Famfs2Superblock? parsed, out _));
        Assert.True(parsed!.RawName.Span.SequenceEqual(Famfs2Samples.Superblock.RawName.Span));
        Assert.Equal("/dev/dax1.0", parsed.DeviceName);
        Assert.Equal(Famfs2Samples.Superblock, parsed with { RawName = Famfs2Samples.Superblock.RawName });

        // The counters differ on purpose, so that a field read for the other shows.
        Assert.Equal(Famfs2HeaderVerdict.Skewed, Famfs2LogHeader.Parse(GoldenFile.Read("famfs-2/log-header"), 16L << 20, out Famfs2LogHeader header, out _));
        Assert.Equal(Famfs2Samples.Header, header);

        RequireSame(Famfs2Samples.Simple, Famfs2File.Parse(Entry("entry-file-simple", 0x81, Famfs2EntryType.File)));
        RequireSame(Famfs2Samples.Interleaved, Famfs2File.Parse(Entry("entry-file-interleaved", 0x82, Famfs2EntryType.File)));
        Famfs2Directory directory = Famfs2Directory.Parse(Entry("entry-directory", 0x83, Famfs2EntryType.Directory));
        Assert.Equal(Famfs2Samples.Directory.Path.ToArray(), directory.Path.ToArray());
        Assert.Equal(Famfs2Samples.Directory, directory with { Path = Famfs2Samples.Directory.Path });
        Assert.Equal(Famfs2Samples.Device, Famfs2Device.Parse(Entry("entry-device", 0x84, Famfs2EntryType.AddDevice)));
    }

    [Fact]
    public void Every_flipped_bit_under_a_checksum_is_rejected()
    {
        byte[] superblock = Famfs2Samples.All["superblock"]();
        ForEachBit(superblock, 104, () => Famfs2Superblock.Parse(superblock, out _, out _) != SuperblockVerdict.Good);
        byte[] header = Famfs2Samples.All["log-header"]();
        ForEachBit(header, 32, () => Famfs2LogHeader.Parse(header, 16L << 20, out _, out _) == Famfs2HeaderVerdict.Damaged);
        foreach ((string name, ulong index) in new[] { ("entry-file-simple", 0x81UL), ("entry-file-interleaved", 0x82UL), ("entry-directory", 0x83UL), ("entry-device", 0x84UL) })
        {
            byte[] entry = Famfs2Samples.All[name]();
            Assert.Equal(Famfs2EntryVerdict.Good, new Famfs2Entry(entry).Judge(index));
            Assert.Equal(Famfs2EntryVerdict.BadSequence, new Famfs2Entry(entry).Judge(index + 1));
            ForEachBit(entry, entry.Length, () => new Famfs2Entry(entry).Judge(index) == Famfs2EntryVerdict.BadChecksum);
        }
    }

    [Fact]
    public void Unused_bytes_are_written_as_zero()
    {
        byte[] entry = Famfs2Samples.All["entry-directory"]();
        Assert.False(entry.AsSpan(28 + Famfs2Samples.Directory.Path.Length, 536 - 28 - Famfs2Samples.Directory.Path.Length).ContainsAnyExcept((byte)0));
        Assert.Equal(0, BitConverter.ToInt32(entry, 12));
        Assert.Equal(0, BitConverter.ToInt32(entry, 540));
    }

    [Theory]
    [InlineData("minor")]
    [InlineData("version")]
    public void A_later_version_is_told_from_damage(string what)
    {
        byte[] block = Famfs2Samples.All["superblock"]();
        block[what == "minor" ? 44 : 8]++;
        BitConverter.TryWriteBytes(block.AsSpan(96), (ulong)Crc32.Compute(block.AsSpan(0, 96)));
        Assert.Equal(SuperblockVerdict.Unsupported, Famfs2Superblock.Parse(block, out _, out string cause));
        Assert.NotEmpty(cause);
    }

    [Fact]
    public void Fields_out_of_range_are_damage()
    {
        foreach (Famfs2Superblock bad in new[]
        {
            Famfs2Samples.Superblock with { LogLengthBytes = 4 << 20 },
            Famfs2Samples.Superblock with { LogLengthBytes = 12 << 20 },
            Famfs2Samples.Superblock with { LogLengthBytes = long.MinValue },
            Famfs2Samples.Superblock with { LogLengthBytes = 1L << 41 },
            Famfs2Samples.Superblock with { UnitBytes = 8192 },
            Famfs2Samples.Superblock with { FileSystem = Guid.Empty },
            Famfs2Samples.Superblock with { Device = Guid.Empty },
        })
        {
            byte[] block = new byte[Famfs2Superblock.Size];
            bad.Format(block);
            Assert.Equal(SuperblockVerdict.Damaged, Famfs2Superblock.Parse(block, out Famfs2Superblock? parsed, out string cause));
            Assert.Null(parsed);
            Assert.NotEmpty(cause);
        }
        byte[] small = new byte[Famfs2Superblock.Size];
        (Famfs2Samples.Superblock with { UnitBytes = MediaLayout.SmallUnitBytes }).Format(small);
        Assert.Equal(SuperblockVerdict.Good, Famfs2Superblock.Parse(small, out _, out _));
    }

    /// <summary>Whoever made the checksum made it over nonsense.</summary>
    [Theory]
    [InlineData(0, 0UL, "magic")]
    [InlineData(8, 8UL << 20, "length")]
    [InlineData(8, ulong.MaxValue, "length")]
    [InlineData(16, 0UL, "last index")]
    [InlineData(16, ulong.MaxValue, "last index")]
    public void A_log_header_whose_checksum_covers_a_wrong_field_is_damage(int offset, ulong value, string what)
    {
        byte[] block = Famfs2Samples.All["log-header"]();
        BitConverter.TryWriteBytes(block.AsSpan(offset), value);
        BitConverter.TryWriteBytes(block.AsSpan(24), (ulong)Crc32.Compute(block.AsSpan(0, 24)));
        Assert.Equal(Famfs2HeaderVerdict.Damaged, Famfs2LogHeader.Parse(block, Famfs2Samples.Header.LengthBytes, out _, out string cause));
        Assert.Contains(what, cause, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(0UL)]
    [InlineData(0x400000UL)]
    [InlineData(ulong.MaxValue)]
    public void A_superblock_that_puts_its_log_elsewhere_is_damage(ulong offset)
    {
        byte[] block = Famfs2Samples.All["superblock"]();
        BitConverter.TryWriteBytes(block.AsSpan(16), offset);
        BitConverter.TryWriteBytes(block.AsSpan(96), (ulong)Crc32.Compute(block.AsSpan(0, 96)));
        Assert.Equal(SuperblockVerdict.Damaged, Famfs2Superblock.Parse(block, out _, out string cause));
        Assert.Equal($"log offset {offset} is not {Famfs2Layout.LogOffset}", cause);
    }

    [Fact]
    public void Counts_beyond_the_room_give_no_extents_and_the_count_as_it_is()
    {
        byte[] entry = Famfs2Samples.All["entry-file-simple"]();
        BitConverter.TryWriteBytes(entry.AsSpan(128), ulong.MaxValue);
        Famfs2File file = Famfs2File.Parse(new(entry));
        Assert.Equal((ulong.MaxValue, 0), (file.Count, file.Extents.Count));
        entry = Famfs2Samples.All["entry-file-interleaved"]();
        BitConverter.TryWriteBytes(entry.AsSpan(136), 17UL);
        file = Famfs2File.Parse(new(entry));
        Assert.Equal((17UL, 0), (file.StripCount, file.Extents.Count));
    }

    [Fact]
    public void The_last_index_is_what_the_length_has_room_for()
    {
        Assert.Equal(15419UL, Famfs2Layout.LastIndexOf(8L << 20));
        foreach (long length in new[] { 8L << 20, 16L << 20, 1L << 30 })
            Assert.InRange(Famfs2Layout.LogOffset + length - Famfs2Layout.EntryOffset(Famfs2Layout.LastIndexOf(length)), Famfs2Entry.Size, 2 * Famfs2Entry.Size - 1);
    }

    private static void RequireSame(Famfs2File expected, Famfs2File actual)
    {
        Assert.Equal(expected.Path.ToArray(), actual.Path.ToArray());
        Assert.Equal(expected.Extents, actual.Extents);
        Assert.Equal(expected, actual with { Path = expected.Path, Extents = expected.Extents });
    }

    private static Famfs2Entry Entry(string name, ulong sequence, Famfs2EntryType type)
    {
        Famfs2Entry entry = new(GoldenFile.Read("famfs-2/" + name));
        Assert.Equal(Famfs2EntryVerdict.Good, entry.Judge(sequence));
        Assert.Equal(type, entry.Type);
        return entry;
    }

    private static void ForEachBit(byte[] bytes, int length, Func<bool> isRejected)
    {
        for (int bit = 0; bit < length * 8; bit++)
        {
            bytes[bit / 8] ^= (byte)(1 << (bit % 8));
            Assert.True(isRejected(), $"bit {bit % 8} of byte {bit / 8}");
            bytes[bit / 8] ^= (byte)(1 << (bit % 8));
        }
    }
}
