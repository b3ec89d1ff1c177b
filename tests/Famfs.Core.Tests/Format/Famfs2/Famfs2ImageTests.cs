using System.Globalization;
using System.Text;
using System.Text.Json;
using Famfs.Core.Format;
using Famfs.Core.Format.Famfs2;
using Xunit;

namespace Famfs.Core.Tests.Format.Famfs2;

/// <summary>Images of the existing tools decode to exactly what they hold, and encode to the same bytes.</summary>
public sealed class Famfs2ImageTests
{
    public static TheoryData<string> Names => [.. Famfs2SharedImages.Names];

    [Theory]
    [MemberData(nameof(Names))]
    public void An_image_of_the_existing_tools_decodes_to_exactly_its_content(string name)
    {
        byte[] image = Famfs2SharedImages.ReadImage(name);
        using JsonDocument content = Famfs2SharedImages.ReadContent(name);
        JsonElement root = content.RootElement;

        JsonElement sb = root.GetProperty("superblock");
        Assert.Equal(SuperblockVerdict.Famfs2, Famfs2Superblock.Parse(image, out Famfs2Superblock? superblock, out _));
        Assert.Equal(sb.GetProperty("uuid").GetGuid(), superblock!.FileSystem);
        Assert.Equal(sb.GetProperty("dev_uuid").GetGuid(), superblock.Device);
        Assert.Equal(sb.GetProperty("system_uuid").GetGuid(), superblock.System);
        Assert.Equal(sb.GetProperty("log_len").GetInt64(), superblock.LogLengthBytes);
        Assert.Equal(sb.GetProperty("alloc_unit").GetInt64(), superblock.UnitBytes);
        Assert.Equal(sb.GetProperty("sb_flags").GetUInt32(), superblock.Flags);
        Assert.Equal(sb.GetProperty("dd_size").GetInt64(), superblock.DeviceLengthBytes);
        Assert.Equal(sb.GetProperty("dd_uuid").GetGuid(), superblock.DeviceCopy);
        Assert.Equal(sb.GetProperty("dd_daxdev").GetString(), superblock.DeviceName);
        Assert.Equal(Hex(sb, "crc"), BitConverter.ToUInt64(image, 96));

        JsonElement log = root.GetProperty("log");
        Assert.Equal(Famfs2Layout.LogOffset, sb.GetProperty("log_offset").GetInt64());
        Assert.Equal(Famfs2HeaderVerdict.Good, Famfs2LogHeader.Parse(Log(image), superblock.LogLengthBytes, out Famfs2LogHeader header, out _));
        Assert.Equal(log.GetProperty("len").GetInt64(), header.LengthBytes);
        Assert.Equal(log.GetProperty("last_index").GetUInt64(), header.LastIndex);
        Assert.Equal(log.GetProperty("next_seqnum").GetUInt64(), header.NextSequence);
        Assert.Equal(log.GetProperty("next_index").GetUInt64(), header.NextIndex);
        Assert.Equal(Hex(log, "crc"), BitConverter.ToUInt64(Log(image)[24..32]));

        JsonElement entries = root.GetProperty("entries");
        Assert.Equal(header.NextIndex, (ulong)entries.GetArrayLength());
        foreach (JsonElement expected in entries.EnumerateArray())
        {
            ulong index = expected.GetProperty("index").GetUInt64();
            Assert.Equal(expected.GetProperty("image_offset").GetInt64(), Famfs2Layout.EntryOffset(index));
            Famfs2Entry entry = EntryOf(image, index);
            Assert.Equal(Famfs2EntryVerdict.Good, entry.Judge(index));
            Assert.Equal(expected.GetProperty("seqnum").GetUInt64(), entry.Sequence);
            Assert.Equal(expected.GetProperty("type").GetUInt32(), (uint)entry.Type);
            Assert.Equal(Hex(expected, "crc"), entry.StoredCrc);
            RequirePayload(expected, entry);
        }
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void An_image_of_the_existing_tools_encodes_to_the_same_bytes(string name)
    {
        byte[] image = Famfs2SharedImages.ReadImage(name);
        byte[] again = new byte[image.Length];
        Famfs2Superblock.Parse(image, out Famfs2Superblock? superblock, out _);
        superblock!.Format(again);
        Famfs2LogHeader.Parse(Log(image), superblock.LogLengthBytes, out Famfs2LogHeader header, out _);
        header.Format(again.AsSpan((int)Famfs2Layout.LogOffset));
        for (ulong index = 0; index < header.NextIndex; index++)
        {
            Famfs2Entry entry = EntryOf(image, index);
            Span<byte> place = again.AsSpan((int)Famfs2Layout.EntryOffset(index), Famfs2Entry.Size);
            switch (entry.Type)
            {
                case Famfs2EntryType.File:
                    Famfs2File.Parse(entry).Format(place, index);
                    break;
                case Famfs2EntryType.Directory:
                    Famfs2Directory.Parse(entry).Format(place, index);
                    break;
                default:
                    Famfs2Device.Parse(entry).Format(place, index);
                    break;
            }
        }
        Assert.True(image.AsSpan().SequenceEqual(again), $"{name} differs at byte {image.AsSpan().CommonPrefixLength(again)}");
    }

    [Fact]
    public void Stale_bytes_behind_the_superblocks_checksum_are_kept_when_it_is_written_anew()
    {
        byte[] block = new byte[Famfs2Superblock.Size];
        Famfs2Samples.Superblock.Format(block);
        new Random(1).NextBytes(block.AsSpan(104));
        Assert.Equal(SuperblockVerdict.Famfs2, Famfs2Superblock.Parse(block, out Famfs2Superblock? parsed, out _));
        byte[] again = new byte[block.Length];
        (parsed! with { System = Guid.NewGuid() }).Format(again);
        Assert.Equal(block[104..], again[104..]);
        Assert.Equal(block[..80], again[..80]);
        Assert.Equal(SuperblockVerdict.Famfs2, Famfs2Superblock.Parse(again, out _, out _));
    }

    // The description gives each byte of a path as one character.
    private static void RequirePayload(JsonElement expected, Famfs2Entry entry)
    {
        switch (entry.Type)
        {
            case Famfs2EntryType.File:
                Famfs2File file = Famfs2File.Parse(entry);
                Assert.Equal(expected.GetProperty("path").GetString(), Encoding.Latin1.GetString(file.Path.Span));
                Assert.Equal(expected.GetProperty("size").GetUInt64(), file.SizeBytes);
                Assert.Equal(expected.GetProperty("flags").GetUInt32(), file.Flags);
                Assert.Equal((expected.GetProperty("uid").GetUInt32(), expected.GetProperty("gid").GetUInt32(), Octal(expected)), (file.Uid, file.Gid, file.Mode));
                Assert.Equal(expected.GetProperty("ext_type").GetUInt32(), file.ExtentType);
                Assert.Equal(expected.GetProperty("nextents").GetUInt64(), file.Count);
                bool interleaved = file.ExtentType == Famfs2File.Interleaved;
                if (interleaved)
                    Assert.Equal((expected.GetProperty("nstrips").GetUInt64(), expected.GetProperty("chunk_size").GetUInt64()), (file.StripCount, file.ChunkBytes));
                Assert.Equal(
                    expected.GetProperty(interleaved ? "strips" : "extents").EnumerateArray().Select(e => new Famfs2Extent(e.GetProperty("devindex").GetUInt64(), e.GetProperty("offset").GetUInt64(), e.GetProperty("len").GetUInt64())),
                    file.Extents);
                break;
            case Famfs2EntryType.Directory:
                Famfs2Directory directory = Famfs2Directory.Parse(entry);
                Assert.Equal(expected.GetProperty("path").GetString(), Encoding.Latin1.GetString(directory.Path.Span));
                Assert.Equal((expected.GetProperty("uid").GetUInt32(), expected.GetProperty("gid").GetUInt32(), Octal(expected)), (directory.Uid, directory.Gid, directory.Mode));
                break;
            case Famfs2EntryType.AddDevice:
                Assert.Equal(
                    new Famfs2Device(expected.GetProperty("dd_size").GetUInt64(), expected.GetProperty("dd_uuid").GetGuid(), expected.GetProperty("dd_index").GetUInt32()),
                    Famfs2Device.Parse(entry));
                break;
            default:
                Assert.Fail($"type {entry.Type}");
                break;
        }
    }

    private static ReadOnlySpan<byte> Log(byte[] image) => image.AsSpan((int)Famfs2Layout.LogOffset);

    private static Famfs2Entry EntryOf(byte[] image, ulong index) => new(image.AsSpan((int)Famfs2Layout.EntryOffset(index)));

    private static ulong Hex(JsonElement element, string name) =>
        ulong.Parse(element.GetProperty(name).GetString()!.AsSpan(2), NumberStyles.HexNumber, CultureInfo.InvariantCulture);

    private static uint Octal(JsonElement element) => Convert.ToUInt32(element.GetProperty("mode").GetString(), 8);
}
