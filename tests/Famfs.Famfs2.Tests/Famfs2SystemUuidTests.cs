using Famfs.Core;
using Famfs.V1;
using Xunit;

namespace Famfs.Famfs2.Tests;

public sealed class Famfs2SystemUuidTests : IDisposable
{
    private const string Text = "6f1c2d3e-4a5b-4c6d-8e7f-001122334455";

    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-system-").FullName;

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Theory]
    [InlineData(Text)]
    [InlineData(Text + "\n")]
    [InlineData(Text + "\0")]
    public void The_file_of_the_existing_tools_is_read_with_or_without_an_end(string content) =>
        Assert.Equal(Guid.Parse(Text), Famfs2SystemUuid.Read(Write(content)));

    [Theory]
    [InlineData("")]
    [InlineData("\n")]
    [InlineData("6f1c2d3e4a5b4c6d8e7f001122334455")]
    [InlineData("00000000-0000-0000-0000-000000000000")]
    [InlineData(Text + Text)]
    [InlineData(Text + "                                                                                                            ")]
    public void Anything_else_is_refused_and_left_as_it_is(string content)
    {
        string path = Write(content);
        foreach (Action use in (Action[])[() => Famfs2SystemUuid.Read(path), () => Famfs2SystemUuid.ReadOrMake(path)])
        {
            FamfsException error = Assert.Throws<FamfsException>(use);
            Assert.Equal((ErrorReason.BadRequest, path), (error.Reason, error.Path));
            Assert.DoesNotContain('\n', error.Message);
        }
        Assert.Equal(content, File.ReadAllText(path));
    }

    [Fact]
    public void What_is_not_there_is_made_once_and_what_is_no_file_is_an_error()
    {
        string path = Path.Combine(_directory, "opt", "system_uuid");
        Assert.Null(Famfs2SystemUuid.Read(path));
        Guid made = Famfs2SystemUuid.ReadOrMake(path);
        Assert.Equal(made, Famfs2SystemUuid.ReadOrMake(path));
        Assert.Equal(ErrorReason.BadRequest, Assert.Throws<FamfsException>(() => Famfs2SystemUuid.Read(_directory)).Reason);
        Assert.Equal(ErrorReason.BadRequest, Assert.Throws<FamfsException>(() => Famfs2SystemUuid.ReadOrMake(Path.Combine(path, "below-a-file"))).Reason);
    }

    [Fact]
    public void A_link_is_followed_and_a_pipe_is_not_waited_for()
    {
        string link = Path.Combine(_directory, "link");
        File.CreateSymbolicLink(link, Write(Text));
        Assert.Equal(Guid.Parse(Text), Famfs2SystemUuid.Read(link));
        File.Delete(link);
        string pipe = Path.Combine(_directory, "pipe");
        using (System.Diagnostics.Process made = System.Diagnostics.Process.Start("mkfifo", [pipe]))
            made.WaitForExit();
        File.CreateSymbolicLink(link, pipe);
        foreach (string path in (string[])[pipe, link, "/dev/zero"])
            Assert.Equal(ErrorReason.BadRequest, Assert.Throws<FamfsException>(() => Famfs2SystemUuid.Read(path)).Reason);
    }

    private string Write(string content)
    {
        string path = Path.Combine(_directory, "system_uuid");
        File.WriteAllText(path, content);
        return path;
    }
}
