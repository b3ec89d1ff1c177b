using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Famfs.Core.Format;
using Famfs.Famfs2.Codec;
using Xunit;

namespace Famfs.Famfs2.Tests.Codec;

/// <summary>Images of the existing tools decode to exactly what they hold, and encode to the same bytes.</summary>
public sealed class Famfs2ImageTests
{
    public static TheoryData<string> Names => [.. Famfs2SharedImages.Names];

    /// <summary>Both ways: nothing that the description has is left out, and nothing is there beside it.</summary>
    [Theory]
    [MemberData(nameof(Names))]
    public void An_image_of_the_existing_tools_decodes_to_exactly_its_content(string name)
    {
        using JsonDocument content = Famfs2SharedImages.ReadContent(name);
        JsonNode expected = JsonSerializer.SerializeToNode(content.RootElement)!;
        JsonNode decoded = Describe(Famfs2SharedImages.ReadImage(name));
        Assert.Equal(Lines(expected), Lines(decoded));
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
        Assert.Equal(SuperblockVerdict.Good, Famfs2Superblock.Parse(block, out Famfs2Superblock? parsed, out _));
        byte[] again = new byte[block.Length];
        (parsed! with { System = Guid.NewGuid() }).Format(again);
        Assert.Equal(block[104..], again[104..]);
        Assert.Equal(block[..80], again[..80]);
        Assert.Equal(SuperblockVerdict.Good, Famfs2Superblock.Parse(again, out _, out _));
    }

    private static JsonObject Describe(byte[] image)
    {
        Assert.Equal(SuperblockVerdict.Good, Famfs2Superblock.Parse(image, out Famfs2Superblock? superblock, out _));
        Assert.Equal(Famfs2HeaderVerdict.Good, Famfs2LogHeader.Parse(Log(image), superblock!.LogLengthBytes, out Famfs2LogHeader header, out _));
        // What parsing accepts as the one possible value is read from the bytes here.
        JsonArray entries = [];
        for (ulong index = 0; index < header.NextIndex; index++)
            entries.Add(Describe(EntryOf(image, index), index));
        return new()
        {
            ["superblock"] = new JsonObject
            {
                ["magic"] = $"0x{BitConverter.ToUInt64(image, 0):x}",
                ["version"] = BitConverter.ToUInt64(image, 8),
                ["log_offset"] = Famfs2Layout.LogOffset,
                ["log_len"] = superblock.LogLengthBytes,
                ["alloc_unit"] = superblock.UnitBytes,
                ["omf_major"] = BitConverter.ToUInt32(image, 40),
                ["omf_minor"] = BitConverter.ToUInt32(image, 44),
                ["uuid"] = superblock.FileSystem.ToString(),
                ["dev_uuid"] = superblock.Device.ToString(),
                ["system_uuid"] = superblock.System.ToString(),
                ["crc"] = Hex(BitConverter.ToUInt64(image, 96)),
                ["crc_computed"] = Hex(Crc32.Compute(image.AsSpan(0, 96))),
                ["sb_flags"] = superblock.Flags,
                ["dd_size"] = superblock.DeviceLengthBytes,
                ["dd_uuid"] = superblock.DeviceCopy.ToString(),
                ["dd_daxdev"] = superblock.DeviceName,
            },
            ["log"] = new JsonObject
            {
                ["magic"] = $"0x{BitConverter.ToUInt64(Log(image)):x}",
                ["len"] = header.LengthBytes,
                ["last_index"] = header.LastIndex,
                ["crc"] = Hex(BitConverter.ToUInt64(Log(image)[24..])),
                ["crc_computed"] = Hex(Crc32.Compute(Log(image)[..24])),
                ["next_seqnum"] = header.NextSequence,
                ["next_index"] = header.NextIndex,
            },
            ["entries"] = entries,
        };
    }

    private static JsonObject Describe(Famfs2Entry entry, ulong index)
    {
        JsonObject described = new()
        {
            ["index"] = index,
            ["image_offset"] = Famfs2Layout.EntryOffset(index),
            ["seqnum"] = entry.Sequence,
            ["type"] = (uint)entry.Type,
            ["type_name"] = entry.Type switch { Famfs2EntryType.File => "FILE", Famfs2EntryType.Directory => "MKDIR", _ => "ADD_DAXDEV" },
            ["crc"] = Hex(entry.StoredCrc),
            ["crc_ok"] = entry.Judge(index) == Famfs2EntryVerdict.Good,
        };
        switch (entry.Type)
        {
            case Famfs2EntryType.File:
                Famfs2File file = Famfs2File.Parse(entry);
                (described["path"], described["size"], described["flags"]) = (PathText(file.Path), file.SizeBytes, file.Flags);
                (described["uid"], described["gid"], described["mode"]) = (file.Uid, file.Gid, Octal(file.Mode));
                (described["ext_type"], described["nextents"]) = (file.ExtentType, file.Count);
                bool interleaved = file.ExtentType == Famfs2File.Interleaved;
                if (interleaved)
                    (described["nstrips"], described["chunk_size"]) = (file.StripCount, file.ChunkBytes);
                described[interleaved ? "strips" : "extents"] = new JsonArray([.. file.Extents.Select(e => new JsonObject { ["devindex"] = e.Device, ["offset"] = e.OffsetBytes, ["len"] = e.LengthBytes })]);
                break;
            case Famfs2EntryType.Directory:
                Famfs2Directory directory = Famfs2Directory.Parse(entry);
                described["path"] = PathText(directory.Path);
                (described["uid"], described["gid"], described["mode"]) = (directory.Uid, directory.Gid, Octal(directory.Mode));
                break;
            default:
                Famfs2Device device = Famfs2Device.Parse(entry);
                (described["dd_size"], described["dd_uuid"], described["dd_index"]) = (device.LengthBytes, device.Device.ToString(), device.Index);
                break;
        }
        return described;
    }

    /// <summary>Every value with its place, sorted: the order of fields in an object means nothing.</summary>
    private static IEnumerable<string> Lines(JsonNode? node) => node switch
    {
        JsonObject parts => parts.SelectMany(part => Lines(part.Value).Select(line => $".{part.Key}{line}")).Order(StringComparer.Ordinal),
        JsonArray items => items.SelectMany((item, i) => Lines(item).Select(line => $"[{i}]{line}")).Prepend($" has {items.Count}").Order(StringComparer.Ordinal),
        _ => [$" = {node?.ToJsonString()}"],
    };

    private static ReadOnlySpan<byte> Log(byte[] image) => image.AsSpan((int)Famfs2Layout.LogOffset);

    private static Famfs2Entry EntryOf(byte[] image, ulong index) => new(image.AsSpan((int)Famfs2Layout.EntryOffset(index)));

    // The description gives each byte of a path as one character.
    private static string PathText(ReadOnlyMemory<byte> path) => Encoding.Latin1.GetString(path.Span);

    private static string Hex(ulong value) => $"0x{value:x16}";

    private static string Octal(uint mode) => "0" + Convert.ToString(mode, 8);
}
