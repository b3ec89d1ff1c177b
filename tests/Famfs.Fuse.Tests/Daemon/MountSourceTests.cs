using Famfs.Core.Format;
using Famfs.Fuse.Daemon;
using Xunit;

namespace Famfs.Fuse.Tests.Daemon;

/// <summary>What findmnt(8) and df(1) show as the source of a mount.</summary>
public sealed class MountSourceTests
{
    [Theory]
    [InlineData("models", "models")]
    [InlineData("two\nlines", "two?lines")]
    [InlineData("", "0d2f9c1a")]
    public void The_source_is_the_label_or_the_short_uuid(string label, string source) => Assert.Equal(source, MountSource.Of(new DeviceIdentity
    {
        FileSystem = Guid.Parse("0d2f9c1a-5a0e-4c57-9d3e-0123456789ab"),
        Device = Guid.NewGuid(),
        Index = default,
        DeviceLengthBytes = 0,
        Coherent = true,
        Label = label,
    }));
}
