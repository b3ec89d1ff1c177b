namespace Famfs.Cli.Tests;

public sealed class QuantityTextTests
{
    [Theory]
    [InlineData("1", 1L)]
    [InlineData("4096", 4096L)]
    [InlineData("2M", 2L << 20)]
    [InlineData("3g", 3L << 30)]
    [InlineData("7K", 7L << 10)]
    [InlineData("1T", 1L << 40)]
    [InlineData("1GiB", 1L << 30)]
    [InlineData("16Gi", 16L << 30)]
    [InlineData("16gib", 16L << 30)]
    [InlineData("9223372036854775807", long.MaxValue)]
    [InlineData("8388607T", 8388607L << 40)]
    public void Sizes_are_read(string text, long bytes)
    {
        Assert.True(QuantityText.TryParseSize(text, out long parsed, out string error), error);
        Assert.Equal(bytes, parsed);
    }

    [Theory]
    [InlineData("0", "at least 1 byte")]
    [InlineData("0M", "at least 1 byte")]
    [InlineData("-1", "at least 1 byte")]
    [InlineData("-5G", "at least 1 byte")]
    [InlineData("9223372036854775808", "at most 9223372036854775807")]
    [InlineData("8388608T", "2^63 - 1")]
    [InlineData("99999999999999999999999999999999T", "2^63 - 1")]
    [InlineData("", "is not a size")]
    [InlineData("M", "is not a size")]
    [InlineData("1.5M", "is not a size")]
    [InlineData("1 M", "is not a size")]
    [InlineData("1MB", "powers of 1024")]
    [InlineData("iB", "is not a size")]
    [InlineData("1i", "is not a size")]
    [InlineData("1iB", "is not a size")]
    [InlineData("0x10", "is not a size")]
    [InlineData("1P", "is not a size")]
    public void What_is_no_size_is_refused_with_the_limit(string text, string why)
    {
        Assert.False(QuantityText.TryParseSize(text, out _, out string error));
        Assert.Contains(why, error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("30", 30_000)]
    [InlineData("1.5", 1_500)]
    [InlineData("500ms", 500)]
    [InlineData("2m", 120_000)]
    [InlineData("1h", 3_600_000)]
    [InlineData("10s", 10_000)]
    public void Times_are_read(string text, int ms)
    {
        Assert.True(QuantityText.TryParseDuration(text, out TimeSpan time, out string error), error);
        Assert.Equal(TimeSpan.FromMilliseconds(ms), time);
    }

    [Theory]
    [InlineData("0")]
    [InlineData("-1")]
    [InlineData("x")]
    [InlineData("")]
    [InlineData("ms")]
    [InlineData("0.1ms")]
    [InlineData("1000h")]
    [InlineData("NaN")]
    public void What_is_no_time_is_refused(string text) => Assert.False(QuantityText.TryParseDuration(text, out _, out _));

    [Theory]
    [InlineData("644", 420u, true)]
    [InlineData("0", 0u, true)]
    [InlineData("7777", 4095u, true)]
    [InlineData("00644", 420u, true)]
    [InlineData("10000", 0u, false)]
    [InlineData("8", 0u, false)]
    [InlineData("", 0u, false)]
    [InlineData("-1", 0u, false)]
    [InlineData("rw", 0u, false)]
    public void Modes_are_octal(string text, uint mode, bool good)
    {
        Assert.Equal(good, QuantityText.TryParseMode(text, out uint parsed));
        if (good)
            Assert.Equal(mode, parsed);
    }
}
