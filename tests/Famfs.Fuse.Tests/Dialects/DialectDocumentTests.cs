using System.Globalization;
using System.Numerics;
using Famfs.Core.Allocation;
using Famfs.Core.Dialects;
using Famfs.Fuse.Dialects;
using Famfs.Fuse.Protocol;
using Xunit;

namespace Famfs.Fuse.Tests.Dialects;

/// <summary>The tables of docs/kernel-dialects.md say what the code does.</summary>
public sealed class DialectDocumentTests
{
    [Fact]
    public void The_table_of_generations_is_the_table_of_dialects()
    {
        IEnumerable<string> expected = DialectTable.All.Select(d => string.Join(" | ",
            d.Name,
            d.MinMinor == d.MaxMinor ? Text(d.MinMinor) : $"{Text(d.MinMinor)} and later",
            d.FmapFlag == 0 ? "–" : $"bit {Text(BitOperations.TrailingZeroCount(d.FmapFlag))}",
            OpcodeOf(d.FmapOpcode),
            OpcodeOf(d.DaxDeviceOpcode),
            d.Fmaps is null ? "–" : d.Sizing == FmapSizing.FixedRoom ? Text(FuseConstants.FirstFmapRoomBytes) : "in the request"));

        Assert.Equal(expected, Rows("| dialect | published ").Select(row => string.Join(" | ", row.Where((_, column) => column != 1))));
        Assert.All(DialectTable.All, d => Assert.Equal(d.PushesDevices, d.Fmaps is not null && OpcodeOf(d.DaxDeviceOpcode) == "–"));
    }

    [Fact]
    public void The_table_of_limits_is_that_of_the_code()
    {
        IEnumerable<string> expected = FmapLimits.All.Select(l => string.Join(" | ",
            l.Dialect, Text(l.FloorNumber), Text(l.MaxExtents), l.MaxStrips == int.MaxValue ? "any" : Text(l.MaxStrips), Text(l.MaxDevices), Text(l.MaxMessageBytes), l.TakesInterleaved ? "yes" : "unrolled"));

        Assert.Equal(expected, Rows("| dialect | floor number ").Select(row => string.Join(" | ", row)));
    }

    private static string OpcodeOf(uint? opcode) => opcode is { } number ? Text(number) : "–";

    private static string Text(IFormattable number) => number.ToString(null, CultureInfo.InvariantCulture);

    // Cells of the rows below the one that starts with `head`.
    private static IEnumerable<string[]> Rows(string head)
    {
        DirectoryInfo? directory = new(AppContext.BaseDirectory);
        while (directory is not null && !File.Exists(Path.Combine(directory.FullName, "Famfs.sln")))
            directory = directory.Parent;
        Assert.NotNull(directory);
        return File.ReadLines(Path.Combine(directory.FullName, "docs", "kernel-dialects.md"))
            .SkipWhile(line => !line.StartsWith(head, StringComparison.Ordinal))
            .Skip(2)
            .TakeWhile(line => line.StartsWith('|'))
            .Select(line => line.Trim('|', ' ').Split('|', StringSplitOptions.TrimEntries));
    }
}
