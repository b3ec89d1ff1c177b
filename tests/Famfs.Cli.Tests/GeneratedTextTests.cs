using System.CommandLine;
using System.Diagnostics;
using Famfs.CommandLine;

namespace Famfs.Cli.Tests;

public sealed class GeneratedTextTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-text-").FullName;
    private readonly Command _root = new("tool", "A tool: it does things.")
    {
        new Option<string?>("--where", "-w") { Description = "Where it's done, e.g. a\\b", HelpName = "DIR", Recursive = true },
        new Command("make", "Make one") { new Argument<string>("NAME") { Description = ".of what" }, new Option<bool>("--all") { Description = "Everything" } },
        new Command("list", "List") { new Command("old", "Old ones") { new Option<int>("--age") } },
        new Command("secret", "No") { Hidden = true },
    };

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Fact]
    public void A_manual_page_has_every_verb_argument_and_option()
    {
        string page = Generate("man");
        Assert.StartsWith(".TH TOOL 1 \"\" \"famfs.net 1.2.3\"\n.SH NAME\ntool \\- a tool\n", page, StringComparison.Ordinal);
        Assert.Contains(".TP\n\\fB\\-\\-where, \\-w\\fR DIR\nWhere it's done, e.g. a\\eb\n", page, StringComparison.Ordinal);
        Assert.Contains(".SS tool make NAME\nMake one\n.TP\nNAME\n\\&.of what\n.TP\n\\fB\\-\\-all\\fR\nEverything\n", page, StringComparison.Ordinal);
        Assert.Contains(".SS tool list old\nOld ones\n.TP\n\\fB\\-\\-age\\fR AGE\n", page, StringComparison.Ordinal);
        Assert.DoesNotContain("secret", page, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("tool", "m", "make")]
    [InlineData("tool", "", "make list --where --help")]
    [InlineData("tool make", "--", "--all --where --help")]
    [InlineData("tool --where /x list", "o", "old")]
    [InlineData("tool list old", "--a", "--age")]
    public void Bash_completes_verbs_and_options(string before, string word, string expected)
    {
        string script = Path.Combine(_directory, "tool");
        File.WriteAllText(script, Generate("bash"));
        using Process bash = Start("bash", "-c", $". {script}; COMP_WORDS=({before} '{word}'); COMP_CWORD={before.Split(' ').Length}; _tool; echo ${{COMPREPLY[*]}}");
        Assert.Equal(expected + "\n", bash.StandardOutput.ReadToEnd());
    }

    [Fact]
    public async Task Texts_of_the_real_command_are_of_every_verb()
    {
        foreach (string kind in (string[])["man", "bash", "zsh", "fish"])
        {
            using StringWriter output = new();
            CliEnvironment environment = new() { Formats = Famfs.TestSupport.TestFormats.All, Out = output, Error = output, Variable = _ => null };
            Assert.Equal(ExitCode.Ok, await FamfsCommand.RunAsync([GeneratedText.Word, kind], environment, TestContext.Current.CancellationToken));
            foreach (string text in (string[])["mkfs", "devices", "config", "Mount a file system", "file-system".Replace("-", kind == "man" ? "\\-" : "-", StringComparison.Ordinal)])
                Assert.True(kind == "bash" && text.Contains(' ', StringComparison.Ordinal) || output.ToString().Contains(text, StringComparison.Ordinal), $"{kind} has no {text}");
        }
        using StringWriter none = new();
        Assert.Equal(1, GeneratedText.Write(["pdf"], _root, "tool", 1, "1", none));
        Assert.Empty(none.ToString());
    }

    [Theory]
    [InlineData("zsh")]
    [InlineData("fish")]
    public void Other_shells_read_their_texts(string shell)
    {
        Assert.SkipUnless(File.Exists($"/usr/bin/{shell}"), $"{shell} is not on this host");
        string script = Path.Combine(_directory, "script");
        File.WriteAllText(script, Generate(shell));
        using Process process = Start(shell, "-n", script);
        string error = process.StandardError.ReadToEnd();
        process.WaitForExit();
        Assert.Equal((0, ""), (process.ExitCode, error));
    }

    private string Generate(string kind)
    {
        using StringWriter output = new() { NewLine = "\n" };
        Assert.Equal(0, GeneratedText.Write([kind], _root, "tool", 1, "1.2.3", output));
        return output.ToString();
    }

    private static Process Start(string program, params string[] arguments) =>
        Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardOutput = true, RedirectStandardError = true })!;
}
