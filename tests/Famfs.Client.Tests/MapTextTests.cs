using Famfs.Core;
using Famfs.Core.Format;
using Famfs.V1;
using FsCheck;
using FsCheck.Fluent;

namespace Famfs.Client.Tests;

public sealed class MapTextTests
{
    private const long Unit = 2L << 20;

    [Fact]
    public void The_text_is_what_the_daemon_and_the_library_agreed_on()
    {
        FileMap map = new() { ChunkBytes = 4194304, Extents = { new Extent { Device = 0, OffsetBytes = 2097152, LengthBytes = 4194304 }, new Extent { Device = 7, OffsetBytes = 0, LengthBytes = 2097152 } } };

        Assert.Equal("size 5000000 chunk 4194304\n0 2097152 4194304\n7 0 2097152\n", MapText.Format(5000000, map));
    }

    [Fact]
    public void What_is_written_is_read_back()
    {
        Gen<Extent> extents = from device in Gen.Choose(0, ushort.MaxValue)
                              from offset in ArbMap.Default.GeneratorFor<ulong>()
                              from length in ArbMap.Default.GeneratorFor<ulong>()
                              select new Extent { Device = (uint)device, OffsetBytes = offset, LengthBytes = length };
        Gen<(ulong, FileMap)> maps = from size in ArbMap.Default.GeneratorFor<ulong>()
                                     from chunk in ArbMap.Default.GeneratorFor<ulong>()
                                     from list in extents.ListOf()
                                     select (size, new FileMap { ChunkBytes = chunk, Extents = { list } });
        Prop.ForAll(maps.ToArbitrary(), m => MapText.Parse(MapText.Format(m.Item1, m.Item2), out ulong size).Equals(m.Item2) && size == m.Item1)
            .QuickCheckThrowOnFailure();
    }

    [Theory]
    [InlineData("")]
    [InlineData("\n")]
    [InlineData("size 1 chunk 0")]
    [InlineData("size 1\n")]
    [InlineData("size  1 chunk 0\n")]
    [InlineData("size 01 chunk 0\n")]
    [InlineData("size -1 chunk 0\n")]
    [InlineData("size 1 chunk x\n")]
    [InlineData("chunk 0 size 1\n")]
    [InlineData("size 1 chunk 0\n0 0\n")]
    [InlineData("size 1 chunk 0\n0 0 1 2\n")]
    [InlineData("size 1 chunk 0\n65536 0 1\n")]
    [InlineData("size 1 chunk 0\n0 0 18446744073709551616\n")]
    [InlineData("size 1 chunk 0\n0 0 1")]
    [InlineData("size 1 chunk 0\n\n0 0 1\n")]
    [InlineData("size 1 chunk 0\r\n0 0 1\r\n")]
    public void Anything_else_is_refused(string text)
    {
        FamfsException e = Assert.Throws<FamfsException>(() => MapText.Parse(text, out _));
        Assert.Equal(ErrorReason.BadLayout, e.Reason);
    }

    [Fact]
    public void Every_byte_of_a_file_is_where_the_layouts_arithmetic_says()
    {
        Random random = new(20260101);
        for (int round = 0; round < 300; round++)
        {
            bool interleaved = random.Next(2) == 0;
            int count = random.Next(1, 5);
            long chunk = interleaved ? Unit << random.Next(2) : 0;
            FileMap map = new() { ChunkBytes = (ulong)chunk };
            long capacity = 0;
            long stripBytes = interleaved ? chunk * random.Next(1, 4) : 0;
            for (int i = 0; i < count; i++)
            {
                long length = interleaved ? stripBytes : Unit * random.Next(1, 4);
                map.Extents.Add(new Extent { Device = (uint)random.Next(2), OffsetBytes = (ulong)(Unit * random.Next(1, 50)), LengthBytes = (ulong)length });
                capacity += length;
            }
            ulong size = (ulong)random.NextInt64(1, capacity + 1);

            List<MapPiece> pieces = MapPieces.Of(map, size, 4096);

            long end = 0;
            foreach (MapPiece piece in pieces)
            {
                Assert.Equal(end, piece.FileOffset);
                end += piece.LengthBytes;
            }
            Assert.InRange(end, (long)size, ((long)size + 4095) / 4096 * 4096);
            for (int probe = 0; probe < 50; probe++)
            {
                long offset = random.NextInt64((long)size);
                MapPiece piece = pieces.Last(p => p.FileOffset <= offset);
                Assert.Equal(Place(map, offset), (piece.Device, piece.DeviceOffset + offset - piece.FileOffset));
            }
        }
    }

    [Fact]
    public void Neighbours_in_file_and_device_are_one_piece()
    {
        FileMap map = new() { ChunkBytes = (ulong)Unit, Extents = { new Extent { Device = 1, OffsetBytes = (ulong)Unit, LengthBytes = (ulong)(64 * Unit) } } };

        MapPiece piece = Assert.Single(MapPieces.Of(map, (ulong)(63 * Unit + 1), 4096));
        Assert.Equal(new MapPiece(1, Unit, 0, 63 * Unit + 4096), piece);
    }

    [Theory]
    [InlineData(0, 0, "0 2097152 2097152")]                             // size 0
    [InlineData(2097153, 0, "0 2097152 2097152")]                       // shorter than the file
    [InlineData(1, 0, "0 2097152 0")]                                   // empty extent
    [InlineData(1, 0, "0 100 2097152")]                                 // offset inside a page
    [InlineData(4097, 0, "0 0 100;0 4096 8192")]                        // hole between extents
    [InlineData(1, 0, "0 18446744073709551600 2097152")]                // wraps
    [InlineData(1, 3000000, "0 0 2097152")]                             // chunk no power of two
    [InlineData(1, 1024, "0 0 2097152")]                                // chunk smaller than a page
    [InlineData(1, 2097152, "")]                                        // no strips
    [InlineData(6291456, 2097152, "0 0 2097152;1 0 2097152")]           // strips shorter than the file
    public void A_map_that_does_not_hold_the_file_is_refused(ulong size, ulong chunk, string extents)
    {
        FileMap map = new() { ChunkBytes = chunk };
        foreach (string[] words in extents.Split(';', StringSplitOptions.RemoveEmptyEntries).Select(e => e.Split(' ')))
            map.Extents.Add(new Extent { Device = uint.Parse(words[0]), OffsetBytes = ulong.Parse(words[1]), LengthBytes = ulong.Parse(words[2]) });

        FamfsException e = Assert.Throws<FamfsException>(() => MapPieces.Of(map, size, 4096));
        Assert.Equal(ErrorReason.BadLayout, e.Reason);
    }

    private static (uint Device, long Offset) Place(FileMap map, long offset)
    {
        if (map.ChunkBytes == 0)
        {
            foreach (Extent extent in map.Extents)
            {
                if (offset < (long)extent.LengthBytes)
                    return (extent.Device, (long)extent.OffsetBytes + offset);
                offset -= (long)extent.LengthBytes;
            }
            throw new InvalidOperationException();
        }
        long chunk = (long)map.ChunkBytes;
        long number = offset / chunk;
        Extent strip = map.Extents[(int)(number % map.Extents.Count)];
        return (strip.Device, (long)strip.OffsetBytes + number / map.Extents.Count * chunk + offset % chunk);
    }
}
