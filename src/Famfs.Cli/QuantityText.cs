using System.Globalization;
using System.Numerics;

namespace Famfs.Cli;

/// <summary>Sizes and times as people write them.</summary>
public static class QuantityText
{
    private const string Suffixes = "KMGT";

    /// <summary>Largest size: 2^63 − 1 bytes.</summary>
    public const long MaxSize = long.MaxValue;

    private static readonly TimeSpan s_maxDuration = TimeSpan.FromDays(7);

    /// <summary>A count of bytes, 1 to <see cref="MaxSize"/>: digits, then K, M, G or T for powers of 1024, also written Ki or KiB.
    /// Not KB, which is 1000 elsewhere. The error names the limit.</summary>
    public static bool TryParseSize(string text, out long bytes, out string error)
    {
        bytes = 0;
        ReadOnlySpan<char> digits = text;
        int shift = 0;
        ReadOnlySpan<char> letter = text.EndsWith("iB", StringComparison.OrdinalIgnoreCase) ? text.AsSpan(0, text.Length - 2)
            : text.EndsWith('i') ? text.AsSpan(0, text.Length - 1)
            : text;
        if (letter.Length > 0 && Suffixes.IndexOf(char.ToUpperInvariant(letter[^1]), StringComparison.Ordinal) is >= 0 and int index)
        {
            shift = 10 * (index + 1);
            digits = letter[..^1];
        }
        if (!BigInteger.TryParse(digits, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out BigInteger number))
        {
            error = $"'{text}' is not a size; write bytes, or a number with K, M, G or T (also Ki, KiB: powers of 1024)";
            return false;
        }
        BigInteger value = number << shift;
        error = value < 1 ? $"size {text} is too small; at least 1 byte"
            : value > MaxSize ? $"size {text} is too large; at most {MaxSize} bytes (2^63 - 1)" : "";
        if (error.Length != 0)
            return false;
        bytes = (long)value;
        return true;
    }

    /// <summary>A time: seconds, or a number with ms, s, m or h; above 0, at most a week.</summary>
    public static bool TryParseDuration(string text, out TimeSpan time, out string error)
    {
        time = default;
        (string unit, double seconds)[] units = [("ms", 0.001), ("s", 1), ("m", 60), ("h", 3600)];
        (string unit, double seconds) found = units.FirstOrDefault(u => text.EndsWith(u.unit, StringComparison.Ordinal), ("", 1));
        if (!double.TryParse(text.AsSpan(0, text.Length - found.unit.Length), NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out double number) || !double.IsFinite(number))
        {
            error = $"'{text}' is not a time; write seconds, or a number with ms, s, m or h";
            return false;
        }
        double value = number * found.seconds;
        error = value < 0.001 ? $"time {text} is too short; at least 1 ms" : value > s_maxDuration.TotalSeconds ? $"time {text} is too long; at most 7 days" : "";
        if (error.Length != 0)
            return false;
        time = TimeSpan.FromSeconds(value);
        return true;
    }

    /// <summary>Permission bits in octal, 0 to 7777.</summary>
    public static bool TryParseMode(string text, out uint mode)
    {
        mode = 0;
        if (text.Length is 0 or > 5)
            return false;
        foreach (char c in text)
        {
            if (c is < '0' or > '7')
                return false;
            mode = (mode << 3) | (uint)(c - '0');
        }
        return mode <= 0b111_111_111_111;
    }

    /// <summary>Bytes for people, exact where that is short: <c>2.0M</c>.</summary>
    public static string FormatSize(ulong bytes)
    {
        if (bytes < 1024)
            return bytes.ToString(CultureInfo.InvariantCulture);
        double value = bytes;
        int unit = -1;
        while (value >= 1024 && unit < 5)
        {
            value /= 1024;
            unit++;
        }
        return string.Create(CultureInfo.InvariantCulture, $"{value:0.0}{"KMGTPE"[unit]}");
    }

    /// <summary>Permission bits as <c>0644</c>.</summary>
    public static string FormatMode(uint mode) => "0" + Convert.ToString(mode & 0b111_111_111_111, 8);
}
