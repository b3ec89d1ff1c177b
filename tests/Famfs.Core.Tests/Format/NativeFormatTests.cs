using System.Buffers.Binary;
using Famfs.Core.Format;
using Famfs.TestSupport;
using Xunit;

namespace Famfs.Core.Tests.Format;

public sealed class NativeFormatTests
{
    public static TheoryData<string> Names => [.. NativeSamples.All.Select(s => s.Name)];

    [Theory]
    [MemberData(nameof(Names))]
    public void Every_structure_has_its_frozen_bytes(string name) =>
        GoldenFile.RequireSame(name, Sample(name).Format());

    [Theory]
    [MemberData(nameof(Names))]
    public void Frozen_bytes_give_back_every_field(string name)
    {
        NativeSample sample = Sample(name);
        byte[] bytes = GoldenFile.Read(name);
        Assert.Equal(sample.SizeBytes, bytes.Length);
        NativeSamples.RequireEqual(sample.Value, sample.Parse(bytes));
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void Every_flipped_bit_is_rejected(string name)
    {
        NativeSample sample = Sample(name);
        byte[] bytes = sample.Format();
        for (int bit = 0; bit < bytes.Length * 8; bit++)
        {
            bytes[bit / 8] ^= (byte)(1 << (bit % 8));
            Assert.True(sample.Parse(bytes) is null, $"bit {bit % 8} of byte {bit / 8}");
            bytes[bit / 8] ^= (byte)(1 << (bit % 8));
        }
        Assert.NotNull(sample.Parse(bytes));
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void A_write_torn_at_any_byte_is_rejected_over_zeros_and_over_older_bytes(string name)
    {
        NativeSample sample = Sample(name);
        byte[] whole = sample.Format();
        byte[] older = [.. whole.Select(b => (byte)(b ^ 0x5A))];
        foreach (byte[] before in new[] { new byte[whole.Length], older })
        {
            for (int cut = 0; cut < whole.Length; cut++)
            {
                byte[] headNew = [.. whole[..cut], .. before[cut..]];
                byte[] tailNew = [.. before[..cut], .. whole[cut..]];
                foreach (byte[] torn in new[] { headNew, tailNew })
                {
                    if (!torn.AsSpan().SequenceEqual(whole))
                        Assert.True(sample.Parse(torn) is null, $"cut at {cut}");
                }
            }
        }
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void Zeros_and_ones_are_nothing(string name)
    {
        NativeSample sample = Sample(name);
        byte[] bytes = new byte[sample.SizeBytes];
        Assert.Null(sample.Parse(bytes));
        bytes.AsSpan().Fill(0xFF);
        Assert.Null(sample.Parse(bytes));
    }

    // A reserved byte that is set says that a newer version wrote something this one would lose: the checksum
    // is made right again, so that only the check of reserved bytes can reject it.
    [Theory]
    [InlineData("anchor-claim", 56, 60)]
    [InlineData("active-anchor", 96, 192)]
    [InlineData("active-anchor", 192 + 20, 192 + 24)]
    [InlineData("active-anchor", 192 + 18, 192 + 20)]
    [InlineData("active-anchor", 192 + 2 * 56, 2044)]
    [InlineData("segment-header", 32 + 20, 32 + 24)]
    [InlineData("segment-header", 96 + 20, 96 + 24)]
    [InlineData("segment-header", 152, 4092)]
    [InlineData("host-line", 112 + 2 * 8, 252)]
    [InlineData("superblock-primary", 108, 112)]
    [InlineData("superblock-primary", 120, 136)]
    [InlineData("superblock-primary", 200, 512)]
    [InlineData("superblock-primary", 512 + 192, 512 + 508)]
    [InlineData("superblock-primary", 1024, 4096)]
    [InlineData("superblock-further", 512 + 56, 512 + 112)]
    [InlineData("record-frame", 28, 32)]
    [InlineData("record-frame", 45, 48)]
    public void A_reserved_byte_that_is_set_is_rejected_though_the_checksum_is_right(string name, int from, int to)
    {
        NativeSample sample = Sample(name);
        for (int at = from; at < to; at++)
        {
            byte[] bytes = sample.Format();
            bytes[at] = 1;
            Reseal(name, bytes);
            Assert.True(sample.Parse(bytes) is null, $"byte {at}");
        }
        byte[] untouched = sample.Format();
        Reseal(name, untouched);
        Assert.Equal(sample.Format(), untouched);
    }

    [Fact]
    public void Structures_of_another_place_or_file_system_are_rejected()
    {
        byte[] claim = Sample("anchor-claim").Format();
        Assert.False(AnchorClaim.TryParse(claim, NativeSamples.FileSystem, NativeSamples.Slot + 1, out _));
        Assert.False(AnchorClaim.TryParse(claim, NativeSamples.Host, NativeSamples.Slot, out _));
        byte[] active = Sample("active-anchor").Format();
        Assert.False(ActiveAnchor.TryParse(active, NativeSamples.FileSystem, NativeSamples.Slot + 1, out _));
        Assert.False(ActiveAnchor.TryParse(active, NativeSamples.Host, NativeSamples.Slot, out _));
        byte[] line = Sample("host-line").Format();
        Assert.False(MountLine.TryParse(line, NativeSamples.FileSystem, NativeSamples.HostEntry + 1, out _));
        Assert.False(MountLine.TryParse(line, NativeSamples.Host, NativeSamples.HostEntry, out _));
        byte[] frame = Sample("record-frame").Format();
        foreach (uint seed in new[]
        {
            Crc32C.Seed(NativeSamples.Host, NativeSamples.Generation, NativeSamples.OpenOne.Id),
            Crc32C.Seed(NativeSamples.FileSystem, NativeSamples.Generation + 1, NativeSamples.OpenOne.Id),
            Crc32C.Seed(NativeSamples.FileSystem, NativeSamples.Generation, NativeSamples.OpenOne.Id + 1),
        })
        {
            Assert.Equal(FrameVerdict.Corrupt, RecordFrame.Parse(frame, seed, out _));
        }
    }

    [Fact]
    public void A_frame_cut_at_any_length_is_torn_and_bytes_behind_it_are_not_read()
    {
        byte[] frame = Sample("record-frame").Format();
        for (int length = 0; length < frame.Length; length++)
            Assert.Equal(FrameVerdict.Torn, RecordFrame.Parse(frame.AsSpan(0, length), NativeSamples.FrameSeed, out _));
        byte[] more = [.. frame, 1, 2, 3];
        Assert.Equal(FrameVerdict.Good, RecordFrame.Parse(more, NativeSamples.FrameSeed, out _));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(RecordFrame.HeaderBytes - 1)]
    [InlineData(MediaLayout.MaxRecordBytes + 1)]
    [InlineData(int.MaxValue)]
    [InlineData(-1)]
    public void A_frame_length_out_of_range_is_corrupt_and_never_torn(int length)
    {
        byte[] frame = Sample("record-frame").Format();
        BinaryPrimitives.WriteInt32LittleEndian(frame, length);
        Assert.Equal(FrameVerdict.Corrupt, RecordFrame.Parse(frame, NativeSamples.FrameSeed, out _));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(7)]
    [InlineData(8)]
    [InlineData(RecordFrame.MaxPayloadBytes)]
    public void A_frame_of_any_allowed_size_is_read_back(int payload)
    {
        byte[] frame = new byte[RecordFrame.PaddedLength(RecordFrame.HeaderBytes + payload)];
        RecordFrame.Seal(frame, payload, V1.RecordType.Deleted, FrameFlags.None, new(1), new(64), 99);
        Assert.Equal(FrameVerdict.Good, RecordFrame.Parse(frame, 99, out RecordFrame read));
        Assert.Equal(payload, read.Payload.Length);
        Assert.Equal(frame.Length, read.PaddedBytes);
        Assert.Throws<ArgumentOutOfRangeException>(() => RecordFrame.Seal(new byte[70_000], RecordFrame.MaxPayloadBytes + 1, V1.RecordType.Deleted, FrameFlags.None, new(1), new(64), 99));
    }

    [Fact]
    public void Checksums_have_their_check_values()
    {
        Assert.Equal(0xCBF43926, Crc32.Compute("123456789"u8));
        Assert.Equal(0xE3069283, Crc32C.Compute("123456789"u8));
        Assert.Equal(0u, Crc32.Compute([]));
        Assert.Equal(0u, Crc32C.Compute([]));
        // From RFC 3720 appendix B.4: 32 bytes of zeros, of ones, and counting up.
        Assert.Equal(0x8A9136AAu, Crc32C.Compute(new byte[32]));
        Assert.Equal(0x62A8AB43u, Crc32C.Compute(Enumerable.Repeat((byte)0xFF, 32).ToArray()));
        Assert.Equal(0x46DD794Eu, Crc32C.Compute(Enumerable.Range(0, 32).Select(i => (byte)i).ToArray()));
        byte[] bytes = new byte[100];
        new Random(1).NextBytes(bytes);
        uint inPieces = uint.MaxValue;
        foreach (int cut in Enumerable.Range(0, 25))
            inPieces = Crc32C.Append(inPieces, bytes.AsSpan(cut * 4, 4));
        Assert.Equal(Crc32C.Compute(bytes), ~inPieces);
    }

    [Fact]
    public void Seeds_differ_by_file_system_generation_and_segment()
    {
        uint[] seeds =
        [
            Crc32C.Seed(NativeSamples.FileSystem, 1, 1),
            Crc32C.Seed(NativeSamples.FileSystem, 1, 2),
            Crc32C.Seed(NativeSamples.FileSystem, 2, 1),
            Crc32C.Seed(NativeSamples.Host, 1, 1),
        ];
        Assert.Equal(seeds.Length, seeds.Distinct().Count());
    }

    private static NativeSample Sample(string name) => NativeSamples.All.Single(s => s.Name == name);

    private static void Reseal(string name, byte[] bytes)
    {
        void Put(int at, uint start) => BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(at), ~Crc32C.Append(start, bytes.AsSpan(0, at)));
        switch (name)
        {
            case "anchor-claim":
                Put(60, Crc32C.Seed(NativeSamples.FileSystem, 0, NativeSamples.Slot));
                break;
            case "active-anchor":
                Put(2044, Crc32C.Seed(NativeSamples.FileSystem, 1, NativeSamples.Slot));
                break;
            case "segment-header":
                Put(4092, Crc32C.Seed(NativeSamples.FileSystem, NativeSamples.Generation, NativeSamples.OpenOne.Id));
                break;
            case "host-line" or "host-line-of-lease":
                Put(252, Crc32C.Seed(NativeSamples.FileSystem, 2, NativeSamples.HostEntry));
                break;
            case "record-frame":
                BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(24), ~Crc32C.Append(Crc32C.Append(NativeSamples.FrameSeed, bytes.AsSpan(0, 24)), bytes.AsSpan(28, 17)));
                break;
            default:
                BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(96), Crc32.Compute(bytes.AsSpan(0, 96)));
                BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(512 + 508), ~Crc32C.Append(Crc32C.Append(uint.MaxValue, bytes.AsSpan(0, 200)), bytes.AsSpan(512, 508)));
                break;
        }
    }
}
