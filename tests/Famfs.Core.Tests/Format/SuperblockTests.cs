using System.Buffers.Binary;
using Famfs.Core.Format;
using Famfs.V1;
using Xunit;

namespace Famfs.Core.Tests.Format;

public sealed class SuperblockTests
{
    [Fact]
    public void Verdicts_tell_blank_foreign_other_majors_damaged_and_newer_apart()
    {
        byte[] block = new byte[MediaLayout.SuperblockBytes];
        Assert.Equal(SuperblockVerdict.Blank, Parse(block));
        block[2000] = 1;
        Assert.Equal(SuperblockVerdict.Foreign, Parse(block));

        byte[] other = new byte[MediaLayout.SuperblockBytes];
        BinaryPrimitives.WriteUInt64LittleEndian(other, SuperblockHead.Magic);
        BinaryPrimitives.WriteUInt64LittleEndian(other.AsSpan(8), 48);
        BinaryPrimitives.WriteUInt32LittleEndian(other.AsSpan(40), 2);
        BinaryPrimitives.WriteUInt64LittleEndian(other.AsSpan(96), Crc32.Compute(other.AsSpan(0, 96)));
        Assert.Equal(SuperblockVerdict.OtherMajor, Parse(other));
        other[20] ^= 1;
        Assert.Equal(SuperblockVerdict.Damaged, Parse(other));

        Assert.Equal(SuperblockVerdict.Unsupported, Parse(Format(NativeSamples.Primary with { IncompatibleFeatures = 1 })));
        Assert.Equal(SuperblockVerdict.Good, Parse(Format(NativeSamples.Primary with { CompatibleFeatures = ulong.MaxValue })));
    }

    [Fact]
    public void A_feature_for_writers_makes_it_read_only()
    {
        Assert.Equal(SuperblockVerdict.Good, NativeSuperblock.Parse(Format(NativeSamples.Primary with { ReadOnlyCompatibleFeatures = 4 }), out NativeSuperblock? superblock, out _));
        Assert.True(superblock!.ReadOnly);
        Assert.False(NativeSamples.Primary.ReadOnly);
    }

    [Fact]
    public void A_damaged_magic_over_an_intact_extension_is_damage_and_not_a_foreign_device()
    {
        byte[] block = Format(NativeSamples.Primary);
        for (int bit = 0; bit < 64; bit++)
        {
            block[bit / 8] ^= (byte)(1 << (bit % 8));
            Assert.Equal(SuperblockVerdict.Damaged, Parse(block));
            block[bit / 8] ^= (byte)(1 << (bit % 8));
        }
    }

    [Fact]
    public void Fields_out_of_range_are_damage()
    {
        NativeSuperblock good = NativeSamples.Primary;
        foreach (NativeSuperblock bad in new[]
        {
            good with { FileSystem = Guid.Empty },
            good with { Device = Guid.Empty },
            good with { DeviceLengthBytes = good.DeviceLengthBytes + 1 },
            good with { DeviceLengthBytes = MediaLayout.MinPrimaryBytes - MediaLayout.UnitBytes },
            good with { HostTableLengthBytes = 0 },
            good with { HostTableLengthBytes = good.HostTableLengthBytes + MediaLayout.UnitBytes },
            good with { HostTableOffset = 0 },
            good with { HostTableOffset = good.HostTableOffset + 4096 },
            good with { HostTableOffset = good.DeviceLengthBytes },
            good with { HostTableOffset = good.FirstSegmentOffset },
            good with { FirstSegmentOffset = 0 },
            good with { FirstSegmentOffset = good.FirstSegmentOffset + 4096 },
            good with { FirstSegmentOffset = good.HostTableOffset },
            good with { FirstSegmentLengthBytes = good.DeviceLengthBytes },
            good with { FirstSegmentLengthBytes = 0 },
            NativeSamples.Further with { DeviceLengthBytes = MediaLayout.UnitBytes },
            NativeSamples.Further with { Index = new(MediaLayout.MaxDevices) },
        })
        {
            Assert.Equal(SuperblockVerdict.Damaged, Parse(Format(bad)));
        }
    }

    [Fact]
    public void Names_are_cut_at_a_character_to_fit()
    {
        byte[] block = Format(NativeSamples.Primary with { Label = new string('ä', 40), DeviceName = new string('x', 100) });
        Assert.Equal(SuperblockVerdict.Good, NativeSuperblock.Parse(block, out NativeSuperblock? read, out _));
        Assert.Equal(new string('ä', 31), read!.Label);
        Assert.Equal(new string('x', 63), read.DeviceName);
    }

    [Theory]
    [InlineData(SuperblockVerdict.Blank, ErrorReason.WrongFilesystem)]
    [InlineData(SuperblockVerdict.Foreign, ErrorReason.WrongFilesystem)]
    [InlineData(SuperblockVerdict.OtherMajor, ErrorReason.NotSupportedByFormat)]
    [InlineData(SuperblockVerdict.Unsupported, ErrorReason.NotSupportedByFormat)]
    [InlineData(SuperblockVerdict.Damaged, ErrorReason.MediaCorrupt)]
    public void Every_verdict_has_its_error(SuperblockVerdict verdict, ErrorReason reason)
    {
        FamfsException error = NativeSuperblock.ErrorOf(verdict, "/dev/dax9.9", "cause");
        Assert.Equal(reason, error.Reason);
        Assert.Contains("/dev/dax9.9", error.Message, StringComparison.Ordinal);
    }

    private static SuperblockVerdict Parse(byte[] block) => NativeSuperblock.Parse(block, out _, out _);

    private static byte[] Format(NativeSuperblock superblock)
    {
        byte[] block = new byte[MediaLayout.SuperblockBytes];
        superblock.Format(block);
        return block;
    }
}
