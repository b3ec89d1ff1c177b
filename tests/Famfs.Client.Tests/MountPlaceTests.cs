using Famfs.Core;
using Famfs.V1;

namespace Famfs.Client.Tests;

/// <summary>What a mount must not hide.</summary>
public sealed class MountPlaceTests
{
    [Theory]
    [InlineData("/", "is the root of this host")]
    [InlineData("/proc", "would hide /proc")]
    [InlineData("/sys", "would hide /sys")]
    [InlineData("/dev", "would hide /dev")]
    [InlineData("/etc", "would hide /etc/machine-id")]
    [InlineData("/d/pool", "would hide /d/pool/0")]
    [InlineData("/e", "would hide /e/pool")]
    [InlineData("/f", "would hide /f")]
    [InlineData("/s", "would hide /s/state")]
    [InlineData("/s/state", "would hide /s/state")]
    [InlineData("/r", "would hide /r/famfs/socket")]
    public void It_is_refused_over_what_is_needed(string place, string cause)
    {
        FamfsException error = Assert.Throws<FamfsException>(() => Require(place));
        Assert.Equal(ErrorReason.BadRequest, error.Reason);
        Assert.StartsWith($"{place}: ", error.Message, StringComparison.Ordinal);
        Assert.Contains(cause, error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("/mnt")]
    [InlineData("/dev/shm/mount")]
    [InlineData("/d/poo")]
    [InlineData("/d/pool/00")]
    [InlineData("/s/state/mount")]
    [InlineData("/s/stat")]
    public void Elsewhere_it_may_be(string place) => Require(place);

    [Fact]
    public void A_link_hides_nothing_by_another_name()
    {
        string root = Directory.CreateTempSubdirectory("famfs-place-").FullName;
        try
        {
            string real = Directory.CreateDirectory(Path.Combine(root, "real")).FullName;
            string link = Path.Combine(root, "link");
            File.CreateSymbolicLink(link, real);
            Assert.Throws<FamfsException>(() => MountPlace.RequireHidesNothing(real, [], [], link));
        }
        finally
        {
            Directory.Delete(root, recursive: true);
        }
    }

    private static void Require(string place) =>
        MountPlace.RequireHidesNothing(place, ["/d/pool/0:offset=8M", "/e/pool/*", "/f/x[12]/y"], ["http://127.0.0.1:1", "unix:/r/famfs/socket"], "/s/state", null);
}
