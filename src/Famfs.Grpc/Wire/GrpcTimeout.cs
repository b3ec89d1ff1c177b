using System.Globalization;

namespace Grpc.Wire;

/// <summary>The grpc-timeout header: at most eight digits and a unit, one of H M S m u n.</summary>
internal static class GrpcTimeout
{
    private const long MaxDigits = 99_999_999;

    /// <summary>Text of a timeout in the finest unit that fits; a timeout that is over becomes one nanosecond.</summary>
    public static string Encode(TimeSpan timeout)
    {
        long ticks = timeout.Ticks;
        if (ticks <= 0)
        {
            return "1n";
        }

        // Rounded up, so that the server never gives up before its client.
        (long value, char unit) = DivideUp(ticks, TimeSpan.TicksPerMicrosecond) switch
        {
            <= MaxDigits and long micros => (micros, 'u'),
            _ when DivideUp(ticks, TimeSpan.TicksPerMillisecond) is <= MaxDigits and long millis => (millis, 'm'),
            _ when DivideUp(ticks, TimeSpan.TicksPerSecond) is <= MaxDigits and long seconds => (seconds, 'S'),
            _ when DivideUp(ticks, TimeSpan.TicksPerMinute) is <= MaxDigits and long minutes => (minutes, 'M'),
            _ => (Math.Min(MaxDigits, DivideUp(ticks, TimeSpan.TicksPerHour)), 'H'),
        };
        return string.Create(CultureInfo.InvariantCulture, $"{value}{unit}");

        static long DivideUp(long ticks, long unit) => (ticks / unit) + (ticks % unit == 0 ? 0 : 1);
    }

    /// <summary>Reads a timeout; false if the text is not one. A value beyond <see cref="TimeSpan.MaxValue"/> becomes that.</summary>
    public static bool TryDecode(ReadOnlySpan<char> text, out TimeSpan timeout)
    {
        timeout = default;
        if (text.Length is < 2 or > 9)
        {
            return false;
        }

        long value = 0;
        foreach (char c in text[..^1])
        {
            if (!char.IsAsciiDigit(c))
            {
                return false;
            }

            value = (value * 10) + (c - '0');
        }

        long ticksPerUnit;
        switch (text[^1])
        {
            case 'H': ticksPerUnit = TimeSpan.TicksPerHour; break;
            case 'M': ticksPerUnit = TimeSpan.TicksPerMinute; break;
            case 'S': ticksPerUnit = TimeSpan.TicksPerSecond; break;
            case 'm': ticksPerUnit = TimeSpan.TicksPerMillisecond; break;
            case 'u': ticksPerUnit = TimeSpan.TicksPerMicrosecond; break;
            case 'n':
                timeout = new TimeSpan((value + 99) / 100);
                return true;
            default:
                return false;
        }

        // Eight digits of hours are 3.6e18 ticks, inside the range of a long.
        timeout = new TimeSpan(value * ticksPerUnit);
        return true;
    }
}
