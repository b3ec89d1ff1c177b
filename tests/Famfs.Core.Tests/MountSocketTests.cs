using System.Text;
using Famfs.V1;
using Xunit;

namespace Famfs.Core.Tests;

public sealed class MountSocketTests
{
    [Fact]
    public void Requests_and_answers_come_back_as_they_were()
    {
        const string Path = "/dev/odd\nname";
        Assert.Equal(Path, MountSocket.ParseAttach(MountSocket.FormatAttach(Path)));
        Assert.Equal(new DeviceIndex(300), MountSocket.ParseAnswer(MountSocket.FormatDone(new(300)), Path));
        FamfsException error = Assert.Throws<FamfsException>(() => MountSocket.ParseAnswer(MountSocket.FormatRefusal(new(ErrorReason.WrongFilesystem, "of another\none")), Path));
        Assert.Equal((ErrorReason.WrongFilesystem, "of another\none", Path), (error.Reason, error.Message, error.Path));
        Assert.Equal(MountSocket.MaxBytes, MountSocket.FormatRefusal(new(ErrorReason.Exists, new string('x', 10_000))).Length);
    }

    [Theory]
    [InlineData("")]
    [InlineData("attach")]
    [InlineData("detach\n/dev/dax0.0")]
    [InlineData("attach\n")]
    [InlineData("attach\ndev/dax0.0")]
    [InlineData("attach\n/dev/dax\0")]
    public void Anything_else_is_refused(string request) =>
        Assert.Equal(ErrorReason.BadRequest, Assert.Throws<FamfsException>(() => MountSocket.ParseAttach(Encoding.UTF8.GetBytes(request))).Reason);

    [Theory]
    [InlineData("", ErrorReason.HostGone)]
    [InlineData("ok", ErrorReason.HostGone)]
    [InlineData("ok\nx", ErrorReason.Unspecified)]
    [InlineData("?\nwords", ErrorReason.Unspecified)]
    public void An_answer_that_is_none_is_an_error(string answer, ErrorReason reason) =>
        Assert.Equal(reason, Assert.Throws<FamfsException>(() => MountSocket.ParseAnswer(Encoding.UTF8.GetBytes(answer), "/dev/dax0.0")).Reason);
}
