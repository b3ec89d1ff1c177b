using System.Globalization;
using System.Text;
using Famfs.V1;

namespace Famfs.Core.Format;

/// <summary>
/// A file's map as the text of the attribute <c>user.famfs.map</c>: written by the daemon, read by whoever
/// maps the file's memory himself. Decimal numbers, one space between words, a newline after each line.
/// <code>
/// size BYTES chunk BYTES            chunk 0: the extents follow each other in file order
/// DEVICE OFFSET LENGTH              one line per extent, or per strip of an interleaved file
/// </code>
/// </summary>
public static class MapText
{
    private const int MaxExtents = 65536;

    /// <summary>The text of a whole map.</summary>
    public static string Format(ulong sizeBytes, FileMap map)
    {
        StringBuilder text = new();
        text.Append(CultureInfo.InvariantCulture, $"size {sizeBytes} chunk {map.ChunkBytes}\n");
        foreach (Extent extent in map.Extents)
            text.Append(CultureInfo.InvariantCulture, $"{extent.Device} {extent.OffsetBytes} {extent.LengthBytes}\n");
        return text.ToString();
    }

    /// <summary>Reads the text. Anything but what <see cref="Format"/> writes throws BAD_LAYOUT with the line.</summary>
    public static FileMap Parse(string text, out ulong sizeBytes)
    {
        string[] lines = text.Split('\n');
        // The text ends with a newline, so the last piece is empty.
        if (lines.Length < 2 || lines[^1].Length != 0 || lines.Length - 2 > MaxExtents)
            throw Bad(lines.Length, $"is not a map of at most {MaxExtents} whole lines");
        string[] header = lines[0].Split(' ');
        if (header.Length != 4 || header[0] != "size" || header[2] != "chunk"
            || !TryParseNumber(header[1], out sizeBytes) || !TryParseNumber(header[3], out ulong chunk))
            throw Bad(1, "is not 'size BYTES chunk BYTES'");
        FileMap map = new() { ChunkBytes = chunk };
        for (int i = 1; i < lines.Length - 1; i++)
        {
            string[] words = lines[i].Split(' ');
            if (words.Length != 3 || !TryParseNumber(words[0], out ulong device) || device > ushort.MaxValue
                || !TryParseNumber(words[1], out ulong offset) || !TryParseNumber(words[2], out ulong length))
                throw Bad(i + 1, "is not 'DEVICE OFFSET LENGTH'");
            map.Extents.Add(new Extent { Device = (uint)device, OffsetBytes = offset, LengthBytes = length });
        }
        return map;
    }

    private static bool TryParseNumber(string word, out ulong value) =>
        ulong.TryParse(word, NumberStyles.None, CultureInfo.InvariantCulture, out value)
        && (word.Length == 1 || word[0] != '0');

    private static FamfsException Bad(int line, string what) => new(ErrorReason.BadLayout, $"file map: line {line} {what}");
}
