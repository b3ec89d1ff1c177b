using System.Diagnostics;

namespace Famfs.Cli.Tests;

public sealed class ModeTextTests
{
    // As chmod of coreutils has them.
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
    [InlineData("u+t", "777", true, "777")]
    [InlineData("g=u", "741", false, "771")]
    [InlineData("o=g-w,u+o", "073", false, "575")]
    [InlineData("-rwx", "777", false, "000")]
    [InlineData("+w", "444", false, "644", "022")]
    [InlineData("-rwx", "777", false, "022", "022")]
    [InlineData("=rwX", "4700", false, "755", "022")]
    [InlineData("755", "2700", true, "2755")]
    [InlineData("00755", "2700", true, "755")]
    [InlineData("u=rwx,go=rx", "6777", true, "6755")]
    [InlineData("ug-s", "6777", true, "777")]
    [InlineData("u=rx", "4755", false, "555")]
    [InlineData("=r", "7777", false, "444")]
    [InlineData("u+r-w", "200", false, "400")]
    public void A_mode_comes_of_what_is_there(string text, string present, bool directory, string expected, string umask = "0")
    {
        Assert.True(ModeText.TryParse(text, out ModeText? mode));
        Assert.Equal(Convert.ToUInt32(expected, 8), mode.Apply(Octal(present), directory, Octal(umask)));
    }

    [Theory]
    [InlineData(false, "022")]
    [InlineData(true, "022")]
    [InlineData(false, "077")]
    [InlineData(true, "0")]
    public void It_does_what_the_chmod_of_this_host_does(bool directory, string umask)
    {
        Assert.SkipUnless(Output("chmod --version").Contains("GNU coreutils", StringComparison.Ordinal), "the chmod of this host is not that of coreutils");
        string place = Directory.CreateTempSubdirectory("famfs-mode-").FullName;
        try
        {
            string[] texts =
            [
                "640", "4711", "00700", "0", "u+x", "+x", "+w", "-w", "a-w", "go=", "=", "=r", "=rX", "u=rw,go=r", "ug+rX", "a+X", "u+s", "g+s", "o+s", "+s", "-s", "ug-s",
                "=s", "u=s", "+t", "u+t", "o+t", "-t", "o=t", "u=rx", "g=rx", "u+r-w", "g=u", "o=u", "u=o", "g+o", "go-u", "+u", "=g", "-rwx", "-rwxs", "ugo=rwx", "a=rwxst", "g=u-w,o=",
            ];
            string[] modes = ["0", "644", "755", "711", "460", "2755", "4644", "1777", "7777", "6070"];
            string made = directory ? "mkdir -p" : "touch";
            // One shell for all of them: NUMBER OF TEXT, MODE, RESULT.
            string script = $"cd '{place}'; mkdir of; for m in {string.Join(' ', modes)}; do {made} of/$m; chmod 0$m of/$m; done; umask {umask}; i=0; "
                + $"for t in {string.Join(' ', texts)}; do cp -a of now; cd now; chmod -- $t * 2>/dev/null; stat -c \"$i %n %a\" *; cd ..; rm -r now; i=$((i+1)); done";
            string[] lines = Output(script).Split('\n', StringSplitOptions.RemoveEmptyEntries);
            Assert.Equal(texts.Length * modes.Length, lines.Length);
            foreach (string line in lines)
            {
                string[] words = line.Split(' ');
                string text = texts[int.Parse(words[0], System.Globalization.CultureInfo.InvariantCulture)];
                Assert.True(ModeText.TryParse(text, out ModeText? mode), text);
                string result = Convert.ToString(mode.Apply(Octal(words[1]), directory, Octal(umask)), 8);
                Assert.True(result == words[2], $"{text} of {words[1]}: {result}, and chmod makes {words[2]}");
            }
        }
        finally
        {
            Directory.Delete(place, recursive: true);
        }
    }

    private static uint Octal(string text) => Convert.ToUInt32(text, 8);

    private static string Output(string script)
    {
        using Process shell = Process.Start(new ProcessStartInfo("/bin/sh", ["-c", script]) { RedirectStandardOutput = true })!;
        string output = shell.StandardOutput.ReadToEnd();
        shell.WaitForExit();
        return output;
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
    [InlineData("g=ux")]
    [InlineData("g=uo")]
    [InlineData("--json")]
    [InlineData("-R")]
    public void Other_text_is_no_mode(string text) => Assert.False(ModeText.TryParse(text, out _));
}
