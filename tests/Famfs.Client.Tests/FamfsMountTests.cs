namespace Famfs.Client.Tests;

public sealed class FamfsMountTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-mount-test-").FullName;

    [Fact]
    public void The_mount_that_covers_a_path_most_closely_is_found()
    {
        string table = Table("/mnt", "fuse.famfs", "/mnt/inner", "ext4", "/mnt/inner/deep", "fuse.famfs");

        Assert.Equal("/mnt", FamfsMount.Find("/mnt/a/b", out _, table)!.MountPoint);
        Assert.Equal("/mnt", FamfsMount.Find("/mnt", out _, table)!.MountPoint);
        Assert.Null(FamfsMount.Find("/mnt/inner/x", out _, table));
        Assert.Equal("/mnt/inner/deep", FamfsMount.Find("/mnt/inner/deep/x", out _, table)!.MountPoint);
        Assert.Null(FamfsMount.Find("/mnt2", out _, table));
        Assert.Null(FamfsMount.Find("/", out _, table));
    }

    [Fact]
    public void The_later_of_two_mounts_at_one_place_is_what_is_seen()
    {
        Assert.Null(FamfsMount.Find("/mnt/a", out _, Table("/mnt", "fuse.famfs", "/mnt", "tmpfs")));
        Assert.NotNull(FamfsMount.Find("/mnt/a", out _, Table("/mnt", "tmpfs", "/mnt", "fuse.famfs")));
    }

    [Fact]
    public void Paths_become_relative_to_the_file_systems_root()
    {
        string table = Table("/mnt/f", "fuse.famfs");
        FamfsMount mount = FamfsMount.Find("/mnt/f/./a//b/../c/", out string resolved, table)!;

        Assert.Equal("a/c", mount.ToFileSystemPath(resolved));
        Assert.Equal("", mount.ToFileSystemPath("/mnt/f"));
    }

    [Fact]
    public void A_bind_mount_of_a_directory_adds_that_directory()
    {
        string table = WriteTable("40 1 0:50 /sub/dir /mnt/b rw - fuse.famfs famfs rw\n");
        FamfsMount mount = FamfsMount.Find("/mnt/b/x", out string resolved, table)!;

        Assert.Equal("sub/dir/x", mount.ToFileSystemPath(resolved));
        Assert.Equal("sub/dir", mount.ToFileSystemPath("/mnt/b"));
    }

    [Fact]
    public void Escaped_characters_and_optional_fields_are_understood()
    {
        string table = WriteTable("40 1 0:50 / /mnt/a\\040b\\134c rw,nosuid shared:5 master:2 - fuse.famfs famfs rw\ngarbage\n\n");

        MountEntry entry = Assert.Single(MountEntry.ReadTable(table));
        Assert.Equal(new MountEntry("0:50", "/", "/mnt/a b\\c", "fuse.famfs", ReadOnly: false) { IsShared = true }, entry);
    }

    [Theory]
    [InlineData("rw,nosuid", false)]
    [InlineData("ro", true)]
    [InlineData("nosuid,ro,relatime", true)]
    [InlineData("rw,errors=ro", false)]
    public void A_mount_that_is_read_only_at_its_place_is_known(string options, bool readOnly) =>
        Assert.Equal(readOnly, FamfsMount.Find("/mnt/b", out _, WriteTable($"40 1 0:50 / /mnt/b {options} - fuse.famfs famfs rw\n"))!.IsReadOnly);

    [Fact]
    public void Links_on_the_way_are_followed_and_the_last_names_need_not_exist()
    {
        string real = Path.Combine(_directory, "real");
        Directory.CreateDirectory(real);
        File.CreateSymbolicLink(Path.Combine(_directory, "link"), real);
        string table = Table(real, "fuse.famfs");

        FamfsMount mount = FamfsMount.Find(Path.Combine(_directory, "link", "new", "file"), out string resolved, table)!;
        Assert.Equal("new/file", mount.ToFileSystemPath(resolved));
    }

    [Fact]
    public void Parts_that_are_bound_elsewhere_are_no_further_file_systems()
    {
        string table = WriteTable("""
            40 1 0:50 /sub /mnt/bound rw - fuse.famfs famfs rw
            41 1 0:50 / /mnt/a rw - fuse.famfs famfs rw
            42 1 0:50 /sub/file /mnt/file rw - fuse.famfs famfs rw
            43 1 0:51 /x /mnt/x rw - fuse.famfs famfs rw
            44 1 0:52 / /mnt/other rw - ext4 /dev/sda rw

            """);

        Assert.Equal(["/mnt/a", "/mnt/x"], FamfsMount.FindDistinct(table).Select(m => m.MountPoint));
        Assert.Equal("sub/file", FamfsMount.Find("/mnt/file", out string resolved, table)!.ToFileSystemPath(resolved));
    }

    [Fact]
    public void A_place_to_mount_on_has_one_name()
    {
        string real = Path.Combine(_directory, "real");
        string place = Path.Combine(real, "m");
        Directory.CreateDirectory(place);
        File.CreateSymbolicLink(Path.Combine(_directory, "parent"), real);
        File.CreateSymbolicLink(Path.Combine(_directory, "link"), "parent/m/");
        File.CreateSymbolicLink(Path.Combine(_directory, "round"), Path.Combine(_directory, "round"));
        string table = Table();

        foreach (string name in (string[])["real/m", "real/m/", "real/m//", "real/../real/./m", "parent/m", "link", "link/"])
            Assert.Equal(place, MountEntry.PlaceOf(_directory + "/" + name, table));
        Assert.Equal(Path.Combine(real, "new"), MountEntry.PlaceOf(_directory + "/parent/new/", table));
        Assert.Equal(Path.Combine(_directory, "round"), MountEntry.PlaceOf(_directory + "/round", table));
        Assert.Equal("/", MountEntry.PlaceOf("/", table));
    }

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    private string Table(params string[] pointsAndTypes) => WriteTable("1 0 8:1 / / rw - ext4 /dev/sda rw\n"
        + string.Concat(pointsAndTypes.Chunk(2).Select((m, i) => $"{i + 10} 1 0:{i + 40} / {m[0]} rw - {m[1]} famfs rw\n")));

    private string WriteTable(string text)
    {
        string path = Path.Combine(_directory, Path.GetRandomFileName());
        File.WriteAllText(path, text);
        return path;
    }
}
