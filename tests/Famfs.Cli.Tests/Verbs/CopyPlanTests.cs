using System.Diagnostics;
using System.Text;
using Famfs.Cli.Verbs;
using Famfs.Core;
using Famfs.V1;

namespace Famfs.Cli.Tests.Verbs;

public sealed class CopyPlanTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-plan-test-").FullName;

    [Fact]
    public void Everything_that_can_be_copied_is_planned_and_each_other_thing_is_named()
    {
        Write("src/a");
        Write("src/sub/b");
        Write("src/empty", 0);
        Write("elsewhere/c");
        Run("mkfifo", At("src/fifo"));
        File.CreateSymbolicLink(At("src/to-file"), At("src/a"));
        File.CreateSymbolicLink(At("src/to-directory"), At("elsewhere"));
        File.CreateSymbolicLink(At("src/dangling"), At("nowhere"));
        File.CreateSymbolicLink(At("src/sub/cycle"), At("src"));
        Run("python3", "-c", $"import os; os.close(os.open(os.fsencode('{At("src")}') + b'/not-\\xff-utf8', os.O_CREAT | os.O_WRONLY))");

        CopyPlan plan = CopyPlan.Make([At("src")], At("dst"), recursive: true);

        Assert.Equal(["dst", "dst/a", "dst/sub", "dst/sub/b", "dst/to-file"], Destinations(plan));
        Assert.Equal(6, plan.Problems.Count);
        foreach (string name in new[] { "src/fifo", "src/to-directory", "src/dangling", "src/sub/cycle", "src/empty", "-utf8" })
            Assert.Single(plan.Problems, p => p.Message.Contains(name, StringComparison.Ordinal));
    }

    [Fact]
    public void A_file_whose_size_is_not_known_is_not_called_empty()
    {
        CopyPlan plan = CopyPlan.Make(["/proc/version"], At("dst"), recursive: false, skipEmpty: true);

        Assert.Contains("/proc/version: is a file of proc, whose size nobody knows before it is read", Assert.Single(plan.Problems).Message, StringComparison.Ordinal);
        Assert.Empty(plan.Items);
    }

    [Fact]
    public void A_tree_can_be_copied_again_under_its_new_name()
    {
        Write("src/a");
        Directory.CreateDirectory(At("dst"));

        Assert.Equal(["dst/src", "dst/src/a"], Destinations(CopyPlan.Make([At("src")], At("dst"), recursive: true)));
        Assert.Equal(["dst", "dst/a"], Destinations(CopyPlan.Make([At("src")], At("dst"), recursive: true, asDestination: true)));
        Assert.Throws<FamfsException>(() => CopyPlan.Make([At("src"), At("src/a")], At("dst"), recursive: true, asDestination: true));
    }

    [Fact]
    public void Followed_links_to_directories_end_at_a_cycle()
    {
        Write("src/sub/b");
        Write("elsewhere/c");
        File.CreateSymbolicLink(At("src/to-directory"), At("elsewhere"));
        File.CreateSymbolicLink(At("src/sub/cycle"), At("src"));

        CopyPlan plan = CopyPlan.Make([At("src")], At("dst"), recursive: true, LinkChoice.Follow);

        Assert.Equal(["dst", "dst/sub", "dst/sub/b", "dst/to-directory", "dst/to-directory/c"], Destinations(plan));
        Assert.Contains("cycle", Assert.Single(plan.Problems).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Links_that_are_not_followed_are_named_the_given_one_too()
    {
        Write("a");
        File.CreateSymbolicLink(At("link"), At("a"));
        Assert.Equal([], Destinations(CopyPlan.Make([At("link")], At("dst"), false, LinkChoice.Never)));
        Assert.Equal(["dst"], Destinations(CopyPlan.Make([At("link")], At("dst"), false)));
        Assert.Single(CopyPlan.Make([At("link")], At("dst"), false, LinkChoice.Never).Problems);
    }

    [Fact]
    public void Empty_files_can_be_left_out_without_a_word()
    {
        Write("src/a");
        Write("src/empty", 0);
        CopyPlan plan = CopyPlan.Make([At("src")], At("dst"), true, skipEmpty: true);
        Assert.Empty(plan.Problems);
        Assert.Equal((1L, 2), (plan.SkippedEmpty, plan.Items.Count));
    }

    [Fact]
    public void The_second_source_of_a_name_does_not_replace_the_first_and_directories_become_one()
    {
        Write("x/f");
        Write("y/f");
        Write("x/d/a");
        Write("y/d/a");
        Write("y/d/b");
        Directory.CreateDirectory(At("dst"));

        CopyPlan plan = CopyPlan.Make([At("x/f"), At("x/d"), At("y/f"), At("y/d"), At("x/f")], At("dst"), true);

        Assert.Equal(["dst/d", "dst/d/a", "dst/d/b", "dst/f"], Destinations(plan).Order());
        Assert.Equal(3, plan.Problems.Count);
        Assert.All(plan.Problems, p => Assert.Contains("will not overwrite just-created", p.Message, StringComparison.Ordinal));
        Assert.Contains(At("y/f"), plan.Problems[0].Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_destination_that_must_be_a_directory_and_is_none_is_refused()
    {
        Write("a");
        Write("b");
        Write("d/c");
        Assert.Equal(ErrorReason.NotADirectory, Assert.Throws<FamfsException>(() => CopyPlan.Make([At("a")], At("new/"), false)).Reason);
        Assert.Equal(ErrorReason.NotADirectory, Assert.Throws<FamfsException>(() => CopyPlan.Make([At("a"), At("b")], At("x"), false)).Reason);
        Assert.Equal(["new", "new/c"], Destinations(CopyPlan.Make([At("d")], At("new/"), true)));
    }

    [Fact]
    public void A_directory_is_not_copied_into_itself_and_a_file_not_onto_itself()
    {
        Write("d/sub/c");
        Write("a");
        File.CreateSymbolicLink(At("same"), At("d"));
        Assert.Contains("into itself", Assert.Single(CopyPlan.Make([At("d")], At("d/sub"), true).Problems).Message, StringComparison.Ordinal);
        Assert.Contains("into itself", Assert.Single(CopyPlan.Make([At("d")], At("d/new"), true).Problems).Message, StringComparison.Ordinal);
        Assert.Contains("into itself", Assert.Single(CopyPlan.Make([At("d")], At("same/sub"), true).Problems).Message, StringComparison.Ordinal);
        Assert.Contains("same file", Assert.Single(CopyPlan.Make([At("a")], _directory, true).Problems).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void The_content_of_a_directory_goes_into_another()
    {
        Write("d/c");
        Directory.CreateDirectory(At("dst"));
        Assert.Equal(["dst", "dst/c"], Destinations(CopyPlan.Make([At("d/.")], At("dst"), true)));
        Assert.Equal(["dst/d", "dst/d/c"], Destinations(CopyPlan.Make([At("d/")], At("dst"), true)));
    }

    [Fact]
    public void What_is_not_there_and_a_directory_without_r_do_not_stop_the_others()
    {
        Write("a");
        Directory.CreateDirectory(At("dst"));
        CopyPlan plan = CopyPlan.Make([At("none"), At("dst"), At("a")], At("dst"), false);
        Assert.Equal(["dst/a"], Destinations(plan));
        Assert.Equal([ErrorReason.NotFound, ErrorReason.IsADirectory], plan.Problems.Select(p => p.Reason));
    }

    public void Dispose()
    {
        // A name that is no UTF-8 cannot be told to .NET.
        Run("rm", "-rf", _directory);
    }

    private static void Run(string program, params string[] arguments)
    {
        using Process process = Process.Start(program, arguments);
        process.WaitForExit();
        Assert.Equal(0, process.ExitCode);
    }

    private IEnumerable<string> Destinations(CopyPlan plan) => plan.Items.Select(i => Path.GetRelativePath(_directory, i.Destination));

    private string At(string path) => Path.Combine(_directory, path);

    private void Write(string path, int bytes = 3)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(At(path))!);
        File.WriteAllText(At(path), new string('x', bytes), Encoding.ASCII);
    }
}
