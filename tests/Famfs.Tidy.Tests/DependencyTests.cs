using System.Text.RegularExpressions;
using System.Xml.Linq;
using Xunit;

namespace Famfs.Tidy.Tests;

/// <summary>Who may use whom: projects, folders of Core and of the daemon, unsafe code, clocks. The tables here
/// are those of ARCHITECTURE.md.</summary>
public sealed partial class DependencyTests
{
    private static readonly Dictionary<string, string[]> Projects = new()
    {
        ["Famfs.Core"] = [],
        ["Famfs.CommandLine"] = [],
        ["Famfs.Master"] = ["Famfs.CommandLine", "Famfs.Core"],
        ["Famfs.Client"] = ["Famfs.Core"],
        ["Famfs.Cli"] = ["Famfs.Client", "Famfs.CommandLine", "Famfs.Core"],
        ["Famfs.Fuse"] = ["Famfs.Client", "Famfs.CommandLine", "Famfs.Core"],
    };

    /// <summary>Each folder with all that it may use, of its own project. Files beside the folders are the words
    /// that all share; they use no folder but <c>Format</c> and <c>Interop</c>.</summary>
    private static readonly Dictionary<string, string[]> Folders = new()
    {
        ["Famfs.Core/"] = ["Format", "Interop"],
        ["Famfs.Core/Format"] = [],
        ["Famfs.Core/Interop"] = ["Format"],
        ["Famfs.Core/Dax"] = ["Format", "Interop"],
        ["Famfs.Core/Log"] = ["Format", "Interop", "Dax"],
        ["Famfs.Core/Namespace"] = ["Format"],
        ["Famfs.Core/Allocation"] = ["Format", "Namespace"],
        ["Famfs.Core/Famfs2"] = ["Format", "Interop", "Dax", "Log", "Namespace", "Allocation"],
        ["Famfs.Core/Check"] = ["Format", "Interop", "Dax", "Log", "Namespace", "Allocation", "Famfs2"],
        ["Famfs.Fuse/Protocol"] = [],
        ["Famfs.Fuse/Dialects"] = ["Protocol"],
        ["Famfs.Fuse/Operations"] = ["Protocol", "Dialects"],
        ["Famfs.Fuse/Session"] = ["Protocol", "Dialects", "Operations"],
        ["Famfs.Fuse/Daemon"] = ["Protocol", "Dialects", "Operations", "Session"],
    };

    public static TheoryData<string> FolderNames => [.. Folders.Keys];

    [Fact]
    public void Projects_depend_only_on_those_below_them()
    {
        Assert.Equal(Projects.Keys.Order(), SourceTree.FindFiles("src", "*.csproj").Select(f => Path.GetFileNameWithoutExtension(f)).Order());
        foreach ((string project, string[] allowed) in Projects)
        {
            XDocument file = XDocument.Parse(SourceTree.Read($"src/{project}/{project}.csproj"));
            IEnumerable<string> references = [.. file.Descendants("ProjectReference").Select(r => Path.GetFileNameWithoutExtension(r.Attribute("Include")!.Value.Replace('\\', '/')))];
            Assert.Empty(references.Except(allowed));
            // A namespace brought in for the whole project would be seen by no test of folders.
            Assert.DoesNotContain(file.Descendants("Using"), u => u.Attribute("Include")?.Value.StartsWith("Famfs", StringComparison.Ordinal) == true);
        }
    }

    [Fact]
    public void Every_folder_of_Core_and_of_the_daemon_has_its_place()
    {
        foreach (string project in (string[])["Famfs.Core", "Famfs.Fuse"])
        {
            IEnumerable<string> folders = SourceTree.FindFiles("src/" + project, "*.cs").Select(f => f.Split('/')).Where(p => p.Length > 3).Select(p => p[2]).Distinct();
            Assert.Empty(folders.Except(Folders.Keys.Where(k => k.StartsWith(project + "/", StringComparison.Ordinal)).Select(k => k[(project.Length + 1)..])));
        }
    }

    [Theory]
    [MemberData(nameof(FolderNames))]
    public void Folders_use_only_what_is_below_them(string folder)
    {
        (string project, string own) = (folder.Split('/')[0], folder.Split('/')[1]);
        string[] forbidden = [.. Folders.Keys.Where(k => k.StartsWith(project + "/", StringComparison.Ordinal)).Select(k => k.Split('/')[1])
            .Except(Folders[folder]).Where(f => f.Length > 0 && f != own)];
        Regex pattern = new($@"(?<![\w.])((Famfs\.)?{project[6..]}\.)?({string.Join('|', forbidden)})(\.[A-Z]\w*|;)");
        IEnumerable<string> files = SourcesOf(project, own);
        Assert.NotEmpty(files);
        foreach (string file in forbidden.Length > 0 ? files : [])
        {
            Match use = pattern.Match(SourceTree.ReadCode(file));
            Assert.False(use.Success, $"{file} uses {use.Value}");
        }
    }

    [Fact]
    public void What_answers_the_kernel_does_not_know_the_client()
    {
        foreach (string file in ((string[])["Protocol", "Dialects", "Operations"]).SelectMany(f => SourceTree.FindFiles("src/Famfs.Fuse/" + f, "*.cs")))
            Assert.DoesNotContain("Famfs.Client", SourceTree.ReadCode(file), StringComparison.Ordinal);
    }

    [Fact]
    public void A_namespace_is_the_folder_it_lies_in()
    {
        foreach (string file in SourceTree.FindFiles("src", "*.cs"))
        {
            // What folders may use is found by namespaces, so these must not lie.
            string expected = Path.GetDirectoryName(file)![4..].Replace('/', '.');
            Match named = NamespaceName().Match(SourceTree.ReadCode(file));
            Assert.True(!named.Success || named.Groups[1].Value == expected, $"{file} is in {named.Groups[1].Value}");
        }
    }

    [Fact]
    public void The_wire_layer_has_no_input_no_output_no_clock_and_no_log()
    {
        foreach (string file in SourceTree.FindFiles("src/Famfs.Fuse/Protocol", "*.cs"))
        {
            Match use = Outside().Match(SourceTree.ReadCode(file));
            Assert.False(use.Success, $"{file} uses {use.Value}");
        }
    }

    [Fact]
    public void Clock_and_chance_are_given_to_Core_and_master()
    {
        foreach (string file in SourceTree.FindFiles("src/Famfs.Core", "*.cs").Concat(SourceTree.FindFiles("src/Famfs.Master", "*.cs")))
        {
            // The one place of each program that composes it.
            if (file == "src/Famfs.Master/MasterHost.cs")
                continue;
            Match use = OwnClock().Match(SourceTree.ReadCode(file));
            Assert.False(use.Success, $"{file} uses {use.Value}");
        }
    }

    [Fact]
    public void Unsafe_code_and_foreign_calls_are_in_Core_alone()
    {
        Assert.DoesNotContain("AllowUnsafeBlocks", SourceTree.Read("Directory.Build.props"), StringComparison.Ordinal);
        foreach (string project in Projects.Keys.Where(p => p != "Famfs.Core"))
        {
            Assert.DoesNotContain("AllowUnsafeBlocks", SourceTree.Read($"src/{project}/{project}.csproj"), StringComparison.Ordinal);
            foreach (string file in SourceTree.FindFiles("src/" + project, "*.cs"))
                Assert.False(ForeignCall().IsMatch(SourceTree.ReadCode(file)), $"{file} calls foreign code");
        }
    }

    private static IEnumerable<string> SourcesOf(string project, string folder) => folder.Length > 0
        ? SourceTree.FindFiles($"src/{project}/{folder}", "*.cs")
        : SourceTree.FindFiles("src/" + project, "*.cs").Where(f => f.Split('/').Length == 3);

    [GeneratedRegex(@"^namespace ([\w.]+)", RegexOptions.Multiline)]
    private static partial Regex NamespaceName();

    [GeneratedRegex(@"\b(System\.(IO|Net)\b|Microsoft\.Extensions\.|File\.|FileStream|Stream\b|Socket\b|Process\b|Console\.|Environment\.|DateTime|TimeProvider|Stopwatch|ILogger)")]
    private static partial Regex Outside();

    [GeneratedRegex(@"\b(DateTime(Offset)?\.(Utc)?Now|TimeProvider\.System|Stopwatch|Environment\.TickCount|Random\.Shared)")]
    private static partial Regex OwnClock();

    [GeneratedRegex(@"\[(DllImport|LibraryImport)\b|NativeLibrary\.|GetDelegateForFunctionPointer|\bunsafe\b")]
    private static partial Regex ForeignCall();
}
