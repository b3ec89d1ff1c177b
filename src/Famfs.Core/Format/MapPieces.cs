using Famfs.V1;

namespace Famfs.Core.Format;

/// <summary>A range of a file that is one range of one device. Bytes.</summary>
public readonly record struct MapPiece(uint Device, long DeviceOffset, long FileOffset, long LengthBytes);

/// <summary>Cuts a file into the pieces that its map places, in file order.</summary>
public static class MapPieces
{
    /// <summary>The pieces of the first <paramref name="sizeBytes"/> bytes, neighbours in file and device joined.
    /// The last one is rounded up to <paramref name="granuleBytes"/> (a power of two) where its extent goes
    /// that far: pages are mapped whole. A map that does not place every byte, or places one outside the
    /// range of numbers, throws BAD_LAYOUT.</summary>
    public static List<MapPiece> Of(FileMap map, ulong sizeBytes, long granuleBytes)
    {
        if (sizeBytes is 0 or > (ulong)long.MaxValue / 2)
            throw Bad($"size {sizeBytes} is not 1 to {long.MaxValue / 2}");
        foreach (Extent extent in map.Extents)
        {
            if (extent.LengthBytes == 0 || extent.LengthBytes > long.MaxValue || extent.OffsetBytes > long.MaxValue - extent.LengthBytes)
                throw Bad($"extent {extent.Device} {extent.OffsetBytes} {extent.LengthBytes} is out of range");
            if (extent.OffsetBytes % (ulong)granuleBytes != 0)
                throw Bad($"extent offset {extent.OffsetBytes} is not a multiple of {granuleBytes}");
        }
        long wanted = ((long)sizeBytes + granuleBytes - 1) / granuleBytes * granuleBytes;
        List<MapPiece> pieces = [];
        if (map.ChunkBytes == 0)
            AddExtents(pieces, map, (long)sizeBytes, wanted, granuleBytes);
        else
            AddChunks(pieces, map, (long)sizeBytes, wanted, granuleBytes);
        return pieces;
    }

    private static void AddExtents(List<MapPiece> pieces, FileMap map, long size, long wanted, long granule)
    {
        long at = 0;
        foreach (Extent extent in map.Extents)
        {
            if (at >= size)
                return;
            // Between two extents every page is whole, or the next one could not be mapped behind it.
            if (at % granule != 0)
                throw Bad($"an extent ends at file offset {at}, not at a multiple of {granule}");
            long length = Math.Min((long)extent.LengthBytes, wanted - at);
            Add(pieces, new(extent.Device, (long)extent.OffsetBytes, at, length));
            at += length;
        }
        if (at < size)
            throw Bad($"extents hold {at} bytes of {size}");
    }

    private static void AddChunks(List<MapPiece> pieces, FileMap map, long size, long wanted, long granule)
    {
        long chunk = map.ChunkBytes <= long.MaxValue ? (long)map.ChunkBytes : 0;
        if (!long.IsPow2(chunk) || chunk % granule != 0 || map.Extents.Count == 0)
            throw Bad($"chunk {map.ChunkBytes} over {map.Extents.Count} strips is not a power of two that is a multiple of {granule}");
        long strips = map.Extents.Count;
        for (long number = 0, at = 0; at < size; number++, at += chunk)
        {
            Extent strip = map.Extents[(int)(number % strips)];
            long inStrip = number / strips * chunk;
            long length = Math.Min(chunk, wanted - at);
            long present = (long)strip.LengthBytes - inStrip;
            if (present < Math.Min(length, size - at))
                throw Bad($"strip {number % strips} of {strip.LengthBytes} bytes ends inside the file of {size}");
            Add(pieces, new(strip.Device, (long)strip.OffsetBytes + inStrip, at, Math.Min(length, present)));
        }
    }

    private static void Add(List<MapPiece> pieces, MapPiece piece)
    {
        if (pieces.Count > 0)
        {
            MapPiece last = pieces[^1];
            if (last.Device == piece.Device && last.DeviceOffset + last.LengthBytes == piece.DeviceOffset && last.FileOffset + last.LengthBytes == piece.FileOffset)
            {
                pieces[^1] = last with { LengthBytes = last.LengthBytes + piece.LengthBytes };
                return;
            }
        }
        pieces.Add(piece);
    }

    private static FamfsException Bad(string what) => new(ErrorReason.BadLayout, $"file map: {what}");
}
