using Famfs.Core.Interop;
using Famfs.V1;
using Xunit;

namespace Famfs.Core.Tests.Dax;

public sealed class FileNamesTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-names-").FullName;

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Fact]
    public void A_name_is_given_once_and_what_has_it_stays_as_it_is()
    {
        (string first, string second, string name) = (Path.Combine(_directory, "1"), Path.Combine(_directory, "2"), Path.Combine(_directory, "name"));
        File.WriteAllText(first, "first");
        File.WriteAllText(second, "second");

        Assert.True(FileNames.TryLink(first, name));
        Assert.False(FileNames.TryLink(second, name));

        Assert.Equal("first", File.ReadAllText(name));
        FamfsException error = Assert.Throws<FamfsException>(() => FileNames.TryLink(first, Path.Combine(_directory, "no", "name")));
        Assert.Equal(ErrorReason.NotFound, error.Reason);
        Assert.StartsWith(Path.Combine(_directory, "no", "name"), error.Message, StringComparison.Ordinal);
    }
}
