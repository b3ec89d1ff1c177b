using System.Buffers;
using Famfs.Core.Format;
using Famfs.Core.Namespace;
using Famfs.V1;
using Google.Protobuf;
using Xunit;

namespace Famfs.Core.Tests.Format;

public sealed class FrequentRecordTests
{
    private const int Rounds = 3000;

    [Fact]
    public void A_file_record_is_written_as_the_generated_code_writes_it()
    {
        Random random = new(1);
        for (int i = 0; i < Rounds; i++)
        {
            FileCreated message = AnyFile(random);
            byte[] expected = message.ToByteArray();
            Assert.Equal(Convert.ToHexString(expected), Convert.ToHexString(Encode(message)));
        }
    }

    [Fact]
    public void A_file_record_is_read_as_the_generated_code_reads_it()
    {
        Random random = new(2);
        for (int i = 0; i < Rounds; i++)
        {
            FileCreated message = AnyFile(random);
            AssertReadsAs(message, message.ToByteArray());
        }
    }

    [Fact]
    public void A_directory_record_is_written_and_read_as_by_the_generated_code()
    {
        Random random = new(3);
        for (int i = 0; i < Rounds; i++)
        {
            DirectoryMade message = AnyDirectory(random);
            byte[] bytes = message.ToByteArray();
            Assert.True(DirectoryMadeRecord.TryRead(bytes, out DirectoryMadeRecord record));
            AssertSame(message, record);
            ArrayBufferWriter<byte> buffer = new();
            Assert.Equal(bytes.Length, record.GetByteCount());
            Assert.Equal(bytes.Length, record.Write(buffer));
            Assert.Equal(bytes, buffer.WrittenSpan.ToArray());
        }
    }

    [Fact]
    public void Fields_out_of_order_repeated_and_unknown_are_read_as_by_the_generated_code()
    {
        Random random = new(4);
        for (int i = 0; i < Rounds; i++)
        {
            // Concatenated messages merge: later fields win, maps join.
            ArrayBufferWriter<byte> buffer = new();
            for (int part = random.Next(1, 5); part > 0; part--)
            {
                buffer.Write(AnyFile(random).ToByteArray());
                buffer.Write(AnyUnknownField(random));
            }

            byte[] bytes = buffer.WrittenSpan.ToArray();
            AssertReadsAs(FileCreated.Parser.ParseFrom(bytes), bytes);
            Assert.True(DirectoryMadeRecord.TryRead(bytes, out DirectoryMadeRecord record));
            AssertSame(DirectoryMade.Parser.ParseFrom(bytes), record);
        }
    }

    [Fact]
    public void A_record_cut_anywhere_is_judged_as_by_the_generated_code()
    {
        Random random = new(5);
        for (int i = 0; i < 200; i++)
        {
            byte[] bytes = AnyFile(random).ToByteArray();
            for (int length = 0; length < bytes.Length; length++)
                AssertJudgedAlike(bytes[..length]);
        }
    }

    [Fact]
    public void Flipped_bits_are_judged_as_by_the_generated_code()
    {
        Random random = new(6);
        for (int i = 0; i < 200; i++)
        {
            byte[] bytes = AnyFile(random).ToByteArray();
            for (int bit = 0; bit < bytes.Length * 8; bit++)
            {
                bytes[bit / 8] ^= (byte)(1 << (bit % 8));
                AssertJudgedAlike(bytes);
                bytes[bit / 8] ^= (byte)(1 << (bit % 8));
            }
        }
    }

    [Fact]
    public void Random_bytes_are_judged_as_by_the_generated_code()
    {
        Random random = new(7);
        byte[] tags = [0x09, 0x12, 0x19, 0x20, 0x28, 0x32, 0x38, 0x40, 0x48, 0x50, 0x5A, 0x60, 0x6A, 0x0B, 0x0C, 0x13, 0x14, 0x0D, 0x80, 0xFF, 0x00];
        for (int i = 0; i < 100_000; i++)
        {
            byte[] bytes = new byte[random.Next(40)];
            random.NextBytes(bytes);
            for (int k = 0; k < bytes.Length; k++)
            {
                bytes[k] = random.Next(3) switch { 0 => bytes[k], 1 => (byte)random.Next(5), _ => tags[random.Next(tags.Length)] };
            }

            AssertJudgedAlike(bytes);
        }
    }

    [Fact]
    public void Values_an_extent_cannot_hold_are_refused()
    {
        Assert.True(Reads(new Extent { Device = 65535, OffsetBytes = long.MaxValue, LengthBytes = long.MaxValue }));
        Assert.False(Reads(new Extent { Device = 65536 }));
        Assert.False(Reads(new Extent { OffsetBytes = 1UL << 63 }));
        Assert.False(Reads(new Extent { LengthBytes = ulong.MaxValue }));
    }

    [Fact]
    public void More_extents_than_the_limit_or_the_buffer_are_refused()
    {
        FileCreated message = new() { Map = new FileMap() };
        for (int i = 0; i < FileCreatedRecord.MaxExtentsPerFile; i++)
            message.Map.Extents.Add(new Extent { OffsetBytes = (ulong)i });
        byte[] most = message.ToByteArray();
        Assert.True(FileCreatedRecord.TryRead(most, new MapExtent[2000], out FileCreatedRecord record));
        Assert.Equal(FileCreatedRecord.MaxExtentsPerFile, record.Extents.Length);
        Assert.False(FileCreatedRecord.TryRead(most, new MapExtent[FileCreatedRecord.MaxExtentsPerFile - 1], out _));
        message.Map.Extents.Add(new Extent());
        Assert.False(FileCreatedRecord.TryRead(message.ToByteArray(), new MapExtent[2000], out _));
        Assert.Throws<ArgumentException>(() => new FileCreatedRecord { HasMap = true, Extents = new MapExtent[FileCreatedRecord.MaxExtentsPerFile + 1] }.Write(new byte[100_000]));
    }

    [Fact]
    public void A_target_that_is_too_short_is_refused()
    {
        byte[] bytes = AnyFile(new Random(8)).ToByteArray();
        Assert.Throws<ArgumentException>(() =>
        {
            Assert.True(FileCreatedRecord.TryRead(bytes, new MapExtent[64], out FileCreatedRecord record));
            record.Write(new byte[bytes.Length - 1]);
        });
    }

    [Fact]
    public void Reading_and_writing_allocate_nothing()
    {
        byte[] bytes = AnyFile(new Random(9)).ToByteArray();
        byte[] target = new byte[bytes.Length];
        MapExtent[] extents = new MapExtent[64];
        long sum = 0;
        long before = 0;
        for (int i = 0; i < 2000; i++)
        {
            if (i == 1000)
                before = GC.GetAllocatedBytesForCurrentThread();
            Assert.True(FileCreatedRecord.TryRead(bytes, extents, out FileCreatedRecord record));
            sum += record.Write(target);
        }

        Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());
        Assert.Equal(2000L * bytes.Length, sum);
    }

    private static bool Reads(Extent extent)
    {
        FileCreated message = new() { Map = new FileMap { Extents = { extent } } };
        return FileCreatedRecord.TryRead(message.ToByteArray(), new MapExtent[4], out _);
    }

    /// <summary>Accepts exactly what the generated parser accepts, but for the documented narrowing.</summary>
    private static void AssertJudgedAlike(byte[] bytes)
    {
        FileCreated? expected = null;
        try
        {
            expected = FileCreated.Parser.ParseFrom(bytes);
        }
        catch (InvalidProtocolBufferException)
        {
        }

        if (expected?.Map is not null && expected.Map.Extents.Any(extent => extent.Device > ushort.MaxValue || extent.OffsetBytes > long.MaxValue || extent.LengthBytes > long.MaxValue))
            expected = null;
        bool read = FileCreatedRecord.TryRead(bytes, new MapExtent[1024], out _);
        Assert.True(read == expected is not null, $"{Convert.ToHexString(bytes)}: read {read}");
        if (expected is not null)
            AssertReadsAs(expected, bytes);
    }

    private static void AssertReadsAs(FileCreated message, byte[] bytes)
    {
        Assert.True(FileCreatedRecord.TryRead(bytes, new MapExtent[1024], out FileCreatedRecord record), Convert.ToHexString(bytes));
        Assert.Equal(message.TimeNs, record.TimeNs);
        Assert.Equal(message.RequestId.ToByteArray(), record.RequestId.ToArray());
        Assert.Equal(message.RequestDigest, record.RequestDigest);
        Assert.Equal(message.Inode, record.Inode.Value);
        Assert.Equal(message.Parent, record.Parent.Value);
        Assert.Equal(message.Name.ToByteArray(), record.Name.ToArray());
        Assert.Equal(message.Mode, record.Mode);
        Assert.Equal(message.Uid, record.Uid);
        Assert.Equal(message.Gid, record.Gid);
        Assert.Equal(message.SizeBytes, record.SizeBytes);
        Assert.Equal(message.Map is not null, record.HasMap);
        Assert.Equal(message.Map?.ChunkBytes ?? 0, record.ChunkBytes);
        Assert.Equal(message.Map?.Extents.Select(ToMapExtent).ToArray() ?? [], record.Extents.ToArray());
        Assert.Equal(message.Staged, record.Staged);
        Assert.Equal(message.OwnerMount.ToByteArray(), record.OwnerMount.ToArray());
    }

    private static void AssertSame(DirectoryMade message, DirectoryMadeRecord record)
    {
        Assert.Equal(message.TimeNs, record.TimeNs);
        Assert.Equal(message.RequestId.ToByteArray(), record.RequestId.ToArray());
        Assert.Equal(message.RequestDigest, record.RequestDigest);
        Assert.Equal(message.Inode, record.Inode.Value);
        Assert.Equal(message.Parent, record.Parent.Value);
        Assert.Equal(message.Name.ToByteArray(), record.Name.ToArray());
        Assert.Equal(message.Mode, record.Mode);
        Assert.Equal(message.Uid, record.Uid);
        Assert.Equal(message.Gid, record.Gid);
    }

    private static byte[] Encode(FileCreated message)
    {
        FileCreatedRecord record = new()
        {
            TimeNs = message.TimeNs,
            RequestId = message.RequestId.Span,
            RequestDigest = message.RequestDigest,
            Inode = new(message.Inode),
            Parent = new(message.Parent),
            Name = message.Name.Span,
            Mode = message.Mode,
            Uid = message.Uid,
            Gid = message.Gid,
            SizeBytes = message.SizeBytes,
            HasMap = message.Map is not null,
            ChunkBytes = message.Map?.ChunkBytes ?? 0,
            Extents = message.Map?.Extents.Select(ToMapExtent).ToArray() ?? [],
            Staged = message.Staged,
            OwnerMount = message.OwnerMount.Span,
        };
        ArrayBufferWriter<byte> buffer = new();
        Assert.Equal(record.GetByteCount(), record.Write(buffer));
        return buffer.WrittenSpan.ToArray();
    }

    private static MapExtent ToMapExtent(Extent extent) => new(new DeviceIndex((ushort)extent.Device), (long)extent.OffsetBytes, (long)extent.LengthBytes);

    private static FileCreated AnyFile(Random random)
    {
        FileCreated message = new()
        {
            TimeNs = (long)AnyNumber(random),
            RequestId = AnyBytes(random, 17),
            RequestDigest = AnyNumber(random),
            Inode = AnyNumber(random),
            Parent = AnyNumber(random),
            Name = AnyBytes(random, 300),
            Mode = (uint)AnyNumber(random),
            Uid = (uint)AnyNumber(random),
            Gid = (uint)AnyNumber(random),
            SizeBytes = AnyNumber(random),
            Staged = random.Next(2) == 0,
            OwnerMount = AnyBytes(random, 17),
        };
        if (random.Next(4) > 0)
        {
            message.Map = new FileMap { ChunkBytes = AnyNumber(random) };
            for (int i = random.Next(6); i > 0; i--)
                message.Map.Extents.Add(new Extent { Device = (ushort)AnyNumber(random), OffsetBytes = AnyNumber(random) >> 1, LengthBytes = AnyNumber(random) >> 1 });
        }

        return message;
    }

    private static DirectoryMade AnyDirectory(Random random) => new()
    {
        TimeNs = (long)AnyNumber(random),
        RequestId = AnyBytes(random, 17),
        RequestDigest = AnyNumber(random),
        Inode = AnyNumber(random),
        Parent = AnyNumber(random),
        Name = AnyBytes(random, 300),
        Mode = (uint)AnyNumber(random),
        Uid = (uint)AnyNumber(random),
        Gid = (uint)AnyNumber(random),
    };

    /// <summary>Every length of a varint occurs, and the defaults.</summary>
    private static ulong AnyNumber(Random random) =>
        random.Next(5) == 0 ? 0 : (ulong)random.NextInt64(long.MinValue, long.MaxValue) >> random.Next(64);

    private static ByteString AnyBytes(Random random, int limit)
    {
        byte[] bytes = new byte[random.Next(3) == 0 ? 0 : random.Next(limit)];
        random.NextBytes(bytes);
        return ByteString.CopyFrom(bytes);
    }

    private static byte[] AnyUnknownField(Random random)
    {
        using MemoryStream stream = new();
        using (CodedOutputStream output = new(stream))
        {
            int number = random.Next(2) == 0 ? random.Next(14, 20) : random.Next(1000, 1 << 29);
            switch (random.Next(6))
            {
                case 0:
                    output.WriteTag(number, WireFormat.WireType.Varint);
                    output.WriteUInt64(AnyNumber(random));
                    break;
                case 1:
                    output.WriteTag(number, WireFormat.WireType.Fixed64);
                    output.WriteFixed64(AnyNumber(random));
                    break;
                case 2:
                    output.WriteTag(number, WireFormat.WireType.Fixed32);
                    output.WriteFixed32((uint)AnyNumber(random));
                    break;
                case 3:
                    output.WriteTag(number, WireFormat.WireType.LengthDelimited);
                    output.WriteBytes(AnyBytes(random, 40));
                    break;
                case 4:
                    output.WriteTag(number, WireFormat.WireType.StartGroup);
                    output.WriteTag(3, WireFormat.WireType.StartGroup);
                    output.WriteTag(3, WireFormat.WireType.EndGroup);
                    output.WriteTag(7, WireFormat.WireType.Varint);
                    output.WriteUInt64(AnyNumber(random));
                    output.WriteTag(number, WireFormat.WireType.EndGroup);
                    break;
                default:
                    // A known field of another wire type is unknown.
                    output.WriteTag(4, WireFormat.WireType.Fixed32);
                    output.WriteFixed32(77);
                    break;
            }
        }

        return stream.ToArray();
    }
}
