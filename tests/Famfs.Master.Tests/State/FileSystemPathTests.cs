using System.Text;
using Famfs.Core;
using Famfs.Master.State;
using Famfs.V1;
using Xunit;

namespace Famfs.Master.Tests.State;

public sealed class FileSystemPathTests
{
    [Theory]
    [InlineData("a", "a")]
    [InlineData("a/b/c", "a|b|c")]
    [InlineData("...", "...")]
    [InlineData("é/\t", "é|\t")]
    public void Good_paths_are_their_components(string path, string components) =>
        Assert.Equal(components, string.Join('|', FileSystemPath.Parse(path, allowRoot: false).Select(Encoding.UTF8.GetString)));

    [Theory]
    [InlineData("")]
    [InlineData(".")]
    [InlineData("/a")]
    [InlineData("a/")]
    [InlineData("a//b")]
    [InlineData("./a")]
    [InlineData("a/../b")]
    [InlineData("..")]
    [InlineData("a\0b")]
    [InlineData(".meta")]
    [InlineData(".meta/x")]
    [InlineData(".staged/x")]
    [InlineData("bytes that were no UTF-8: \uFFFD")]
    public void Bad_paths_are_refused_in_one_line(string path)
    {
        FamfsException error = Assert.Throws<FamfsException>(() => FileSystemPath.Parse(path, allowRoot: false));
        Assert.Equal(ErrorReason.BadPath, error.Reason);
        Assert.DoesNotContain('\n', error.Message);
    }

    [Fact]
    public void Half_a_character_is_refused() =>
        Assert.Equal(ErrorReason.BadPath, Assert.Throws<FamfsException>(() => FileSystemPath.Parse("a\ud800", allowRoot: false)).Reason);

    [Fact]
    public void Limits_are_exact_and_named()
    {
        Assert.Single(FileSystemPath.Parse(new string('x', 255), allowRoot: false));
        Assert.Equal(255u, Assert.Throws<FamfsException>(() => FileSystemPath.Parse(new string('x', 256), allowRoot: false)).Limit);
        string longest = string.Join('/', Enumerable.Repeat("a", 2048));
        Assert.Equal(4095, longest.Length);
        Assert.Equal(2048, FileSystemPath.Parse(longest, allowRoot: false).Count);
        Assert.Equal(4095u, Assert.Throws<FamfsException>(() => FileSystemPath.Parse(longest + "b", allowRoot: false)).Limit);
    }

    [Fact]
    public void Root_is_a_path_only_where_it_makes_sense()
    {
        Assert.Empty(FileSystemPath.Parse("", allowRoot: true));
        Assert.Empty(FileSystemPath.Parse(".", allowRoot: true));
    }
}
