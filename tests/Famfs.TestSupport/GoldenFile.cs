using System.Globalization;
using System.Text;
using Xunit;

namespace Famfs.TestSupport;

/// <summary>Frozen bytes under tests/golden; a name without a folder is in native. Text: the length, then one line per 16 bytes that are
/// not all zero, so that a change shows as a readable difference. FAMFS_REGENERATE_GOLDEN=1 rewrites the
/// files instead of comparing; the media format is frozen, so a rewritten file is a format change.</summary>
public static class GoldenFile
{
    private const int RowBytes = 16;

    public static bool Regenerating => Environment.GetEnvironmentVariable("FAMFS_REGENERATE_GOLDEN") == "1";

    public static byte[] Read(string name)
    {
        string[] lines = File.ReadAllLines(PathOf(name));
        byte[] bytes = new byte[int.Parse(lines[0].Split(' ')[1], CultureInfo.InvariantCulture)];
        foreach (string line in lines.Skip(1))
        {
            string[] parts = line.Split(' ', 2);
            Convert.FromHexString(parts[1].Replace(" ", "", StringComparison.Ordinal)).CopyTo(bytes, int.Parse(parts[0], NumberStyles.HexNumber, CultureInfo.InvariantCulture));
        }
        return bytes;
    }

    public static void RequireSame(string name, ReadOnlySpan<byte> bytes)
    {
        if (Regenerating)
            File.WriteAllText(PathOf(name), Render(bytes));
        Assert.True(File.Exists(PathOf(name)), $"{PathOf(name)} is missing; FAMFS_REGENERATE_GOLDEN=1 makes it");
        Assert.Equal(File.ReadAllText(PathOf(name)), Render(bytes));
    }

    private static string PathOf(string name)
    {
        DirectoryInfo? directory = new(AppContext.BaseDirectory);
        while (directory is not null && !File.Exists(Path.Combine(directory.FullName, "Famfs.sln")))
            directory = directory.Parent;
        Assert.NotNull(directory);
        return Path.Combine(directory.FullName, "tests", "golden", name.Contains('/') ? name + ".hex" : $"native/{name}.hex");
    }

    private static string Render(ReadOnlySpan<byte> bytes)
    {
        StringBuilder text = new();
        text.Append(CultureInfo.InvariantCulture, $"length {bytes.Length}\n");
        for (int at = 0; at < bytes.Length; at += RowBytes)
        {
            ReadOnlySpan<byte> row = bytes[at..Math.Min(at + RowBytes, bytes.Length)];
            if (!row.ContainsAnyExcept((byte)0))
                continue;
            text.Append(CultureInfo.InvariantCulture, $"{at:x4}");
            foreach (byte value in row)
                text.Append(CultureInfo.InvariantCulture, $" {value:x2}");
            text.Append('\n');
        }
        return text.ToString();
    }
}
