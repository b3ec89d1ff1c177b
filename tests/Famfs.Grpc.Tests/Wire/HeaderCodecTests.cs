using FsCheck;
using FsCheck.Fluent;
using Grpc.Core;
using Grpc.Wire;
using Xunit;

namespace Famfs.Grpc.Tests.Wire;

public class HeaderCodecTests
{
    [Theory]
    [InlineData(0L, "1n")]
    [InlineData(-5L, "1n")]
    [InlineData(1L, "1u")]
    [InlineData(10L, "1u")]
    [InlineData(11L, "2u")]
    [InlineData(TimeSpan.TicksPerSecond, "1000000u")]
    [InlineData(TimeSpan.TicksPerSecond * 100, "100000m")]
    [InlineData(TimeSpan.TicksPerDay * 2, "172800S")]
    [InlineData(TimeSpan.TicksPerDay * 10000, "14400000M")]
    [InlineData(long.MaxValue, "256204779H")]
    public void Timeout_is_written_in_the_finest_unit_that_fits(long ticks, string expected)
    {
        string text = GrpcTimeout.Encode(new TimeSpan(ticks));
        Assert.Equal(expected.Length > 9 ? "99999999H" : expected, text);
    }

    [Fact]
    public void Timeout_never_comes_back_shorter()
    {
        Prop.ForAll<long>(ticks =>
        {
            TimeSpan timeout = new(Math.Abs(ticks % TimeSpan.TicksPerDay) + 1);
            Assert.True(GrpcTimeout.TryDecode(GrpcTimeout.Encode(timeout), out TimeSpan decoded));
            Assert.True(decoded >= timeout);
        }).QuickCheckThrowOnFailure();
    }

    [Theory]
    [InlineData("1H", TimeSpan.TicksPerHour)]
    [InlineData("2M", TimeSpan.TicksPerMinute * 2)]
    [InlineData("3S", TimeSpan.TicksPerSecond * 3)]
    [InlineData("4m", TimeSpan.TicksPerMillisecond * 4)]
    [InlineData("5u", TimeSpan.TicksPerMicrosecond * 5)]
    [InlineData("600n", 6)]
    [InlineData("1n", 1)]
    [InlineData("99999999H", TimeSpan.TicksPerHour * 99999999)]
    public void Timeout_is_read_in_every_unit(string text, long ticks)
    {
        Assert.True(GrpcTimeout.TryDecode(text, out TimeSpan timeout));
        Assert.Equal(ticks, timeout.Ticks);
    }

    [Theory]
    [InlineData("plain text ~!", "plain text ~!")]
    [InlineData("100%", "100%25")]
    [InlineData("\u00fc", "%C3%BC")]
    [InlineData("\n", "%0A")]
    [InlineData("\u007f", "%7F")]
    [InlineData("🐟", "%F0%9F%90%9F")]
    public void Detail_is_percent_encoded(string text, string encoded)
    {
        Assert.Equal(encoded, PercentEncoding.Encode(text));
        Assert.Equal(text, PercentEncoding.Decode(encoded));
    }

    [Theory]
    [InlineData("%", "%")]
    [InlineData("%4", "%4")]
    [InlineData("%zz", "%zz")]
    [InlineData("%c3%bc", "ü")]
    public void Broken_escapes_decode_as_they_are(string encoded, string text)
    {
        Assert.Equal(text, PercentEncoding.Decode(encoded));
    }

    [Theory]
    [InlineData("AQID", "010203")]
    [InlineData("AQI=", "0102")]
    [InlineData("AQI", "0102")]
    [InlineData("", "")]
    public void Binary_values_are_read_with_and_without_padding(string text, string hex)
    {
        Metadata metadata = [];
        MetadataCodec.Decode(metadata, "X-Bin", text);
        Assert.Equal("x-bin", metadata[0].Key);
        Assert.Equal(hex, Convert.ToHexString(metadata[0].ValueBytes));
    }

    [Fact]
    public void Binary_values_are_written_without_padding()
    {
        Assert.Equal("AQI", MetadataCodec.Encode(new Metadata.Entry("x-bin", [1, 2])));
    }

    [Theory]
    [InlineData("A")]
    [InlineData("AQID*")]
    [InlineData("AQID,?")]
    public void Binary_values_that_are_not_base64_are_refused(string text)
    {
        Assert.Throws<FormatException>(() => MetadataCodec.Decode([], "x-bin", text));
    }

    [Theory]
    [InlineData("application/grpc", true)]
    [InlineData("Application/GRPC", true)]
    [InlineData("application/grpc+proto", true)]
    [InlineData("application/grpc;charset=utf-8", true)]
    [InlineData("application/grpc-web", false)]
    [InlineData("application/grpcx", false)]
    [InlineData("application/json", false)]
    [InlineData("", false)]
    public void Content_type_is_recognised(string contentType, bool expected)
    {
        Assert.Equal(expected, GrpcHeaders.IsGrpcContentType(contentType));
    }

    [Theory]
    [InlineData("te", true)]
    [InlineData("TE", true)]
    [InlineData("grpc-timeout", true)]
    [InlineData("grpc-accept-encoding", true)]
    [InlineData(":path", true)]
    [InlineData("user-agent", false)]
    [InlineData("grpc-status-details-bin", false)]
    [InlineData("x", false)]
    public void Headers_of_the_protocol_are_not_metadata(string name, bool isProtocol)
    {
        Assert.Equal(isProtocol, GrpcHeaders.IsProtocolHeader(name));
    }
}
