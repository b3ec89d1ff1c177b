using Famfs.V1;
using Xunit;

namespace Famfs.Core.Tests;

public sealed class RenewedFilesTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-renewed-").FullName;
    private readonly List<string> _refused = [];
    private int _reads;
    private int _renewed;

    private string Certificate => Path.Combine(_directory, "a");

    private string Key => Path.Combine(_directory, "b");

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Fact]
    public void Files_are_read_once_until_one_of_them_changes()
    {
        RenewedFiles<string> files = Start();
        Assert.Equal(("one 1", 1), (files.Current, _reads));
        Assert.Equal(("one 1", 1), (files.Current, _reads));
        Replace(Key, "2");
        Assert.Equal(("one 2", 2), (files.Current, _reads));
        File.AppendAllText(Certificate, "s");
        Assert.Equal(("ones 2", 3, 2), (files.Current, _reads, _renewed));
        Assert.Empty(_refused);
    }

    [Fact]
    public void What_cannot_be_used_leaves_the_former_content_and_is_told_once()
    {
        RenewedFiles<string> files = Start();
        Replace(Key, "bad");
        for (int i = 0; i < 3; i++)
            Assert.Equal("one 1", files.Current);
        Assert.Equal(("bad key", 2), (string.Join(", ", _refused), _reads));
        File.Delete(Key);
        for (int i = 0; i < 2; i++)
            Assert.Equal("one 1", files.Current);
        Assert.Equal(("bad key, no key", 3), (string.Join(", ", _refused), _reads));
        Replace(Key, "3");
        Assert.Equal(("one 3", 1), (files.Current, _renewed));
    }

    /// <summary>As Kubernetes replaces the files of a Secret: each is a link through one to a directory, which is moved.</summary>
    [Fact]
    public void A_link_that_leads_to_other_files_is_a_change()
    {
        string data = Path.Combine(_directory, "..data");
        void Point(string version, string certificate, string key)
        {
            string folder = Directory.CreateDirectory(Path.Combine(_directory, version)).FullName;
            File.WriteAllText(Path.Combine(folder, "a"), certificate);
            File.WriteAllText(Path.Combine(folder, "b"), key);
            File.Delete(data);
            File.CreateSymbolicLink(data, folder);
        }
        Point("1", "one", "1");
        File.CreateSymbolicLink(Certificate, Path.Combine(data, "a"));
        File.CreateSymbolicLink(Key, Path.Combine(data, "b"));
        RenewedFiles<string> files = new([Certificate, Key], Read);
        Point("2", "two", "2");
        Assert.Equal("two 2", files.Current);
    }

    [Fact]
    public void Files_that_cannot_be_used_at_first_are_an_error() =>
        Assert.Equal("no key", Assert.Throws<FamfsException>(() => new RenewedFiles<string>([Certificate, Key], Read)).Message);

    private RenewedFiles<string> Start()
    {
        File.WriteAllText(Certificate, "one");
        File.WriteAllText(Key, "1");
        return new([Certificate, Key], Read) { Refused = _refused.Add, Renewed = () => _renewed++ };
    }

    private static void Replace(string path, string text)
    {
        File.WriteAllText(path + ".new", text);
        File.Move(path + ".new", path, overwrite: true);
    }

    private string Read()
    {
        _reads++;
        string key = File.Exists(Key) ? File.ReadAllText(Key) : throw new FamfsException(ErrorReason.BadRequest, "no key");
        return key == "bad" ? throw new FamfsException(ErrorReason.BadRequest, "bad key") : $"{File.ReadAllText(Certificate)} {key}";
    }
}
