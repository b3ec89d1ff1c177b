namespace Famfs.Cli.Tests;

public sealed class ModeTextTests
{
    // As chmod of coreutils has them, umask 0.
    [Theory]
    [InlineData("640", "0", false, "640")]
    [InlineData("7777", "0", false, "7777")]
    [InlineData("u+x", "644", false, "744")]
    [InlineData("+x", "644", false, "755")]
    [InlineData("a-w", "666", false, "444")]
    [InlineData("go=", "755", false, "700")]
    [InlineData("u=rw,go=r", "777", false, "644")]
    [InlineData("ug+rX", "600", false, "640")]
    [InlineData("a+X", "600", true, "711")]
    [InlineData("a+X", "610", false, "711")]
    [InlineData("u+s", "755", false, "4755")]
    [InlineData("g+s", "755", false, "2755")]
    [InlineData("o+s", "755", false, "755")]
    [InlineData("+t", "777", true, "1777")]
    [InlineData("u=rx", "4755", false, "555")]
    [InlineData("=r", "7777", false, "444")]
    [InlineData("u+r-w", "200", false, "400")]
    public void A_mode_comes_of_what_is_there(string text, string present, bool directory, string expected)
    {
        Assert.True(ModeText.TryParse(text, out ModeText? mode));
        Assert.Equal(Convert.ToUInt32(expected, 8), mode.Apply(Convert.ToUInt32(present, 8), directory));
    }

    [Theory]
    [InlineData("")]
    [InlineData("8")]
    [InlineData("10000")]
    [InlineData("u")]
    [InlineData("u+y")]
    [InlineData("z+x")]
    [InlineData("u+x,")]
    [InlineData("rwxr-xr-x")]
    public void Other_text_is_no_mode(string text) => Assert.False(ModeText.TryParse(text, out _));
}
