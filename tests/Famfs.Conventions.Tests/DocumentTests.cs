using System.Text.RegularExpressions;
using Xunit;

namespace Famfs.Conventions.Tests;

/// <summary>What the documents point at is there.</summary>
public sealed partial class DocumentTests
{
    [Fact]
    public void Links_lead_to_files_and_headings()
    {
        foreach (string document in SourceTree.FindFiles("", "*.md"))
        {
            foreach (Match link in Link().Matches(SourceTree.Read(document)))
            {
                string target = link.Groups[1].Value;
                if (target.Contains("://", StringComparison.Ordinal))
                    continue;
                string[] parts = target.Split('#');
                string path = parts[0].Length == 0 ? document : Path.GetRelativePath(SourceTree.Root, Path.GetFullPath(parts[0], Path.Combine(SourceTree.Root, Path.GetDirectoryName(document)!)));
                Assert.True(Path.Exists(Path.Combine(SourceTree.Root, path)), $"{document}: {target} is not there");
                Assert.False(path.StartsWith("..", StringComparison.Ordinal), $"{document}: {target} is outside the repository");
                if (parts.Length > 1)
                    Assert.Contains(parts[1], Headings(path));
            }
        }
    }

    /// <summary>ARCHITECTURE leads by the names of files and folders; a renamed one must take its document along.</summary>
    [Fact]
    public void Files_that_ARCHITECTURE_names_are_there()
    {
        HashSet<string> known = [];
        foreach (string file in SourceTree.FindFiles("src", "*.cs").Concat(SourceTree.FindFiles("tests", "*.cs")))
        {
            string path = file[(file.IndexOf('/', StringComparison.Ordinal) + 1)..^3].Replace("Famfs.", "", StringComparison.Ordinal);
            for (string at = path; at.Length > 0; at = Path.GetDirectoryName(at)!)
                known.Add(at);
        }
        List<string> missing = [];
        foreach (Match code in CodeSpan().Matches(SourceTree.Read("ARCHITECTURE.md")))
        {
            string name = code.Groups[1].Value.Replace(".cs", "", StringComparison.Ordinal);
            if (!SourcePath().IsMatch(name))
                continue;
            // A member may follow: FuseOperations.Files.Read, MasterOperations.CreateFile.
            string[] candidates = [name, name[..Math.Max(0, name.LastIndexOf('.'))]];
            if (!candidates.Any(c => c.Length > 0 && known.Any(k => k == c || k.EndsWith("/" + c, StringComparison.Ordinal))))
                missing.Add(name);
        }
        Assert.Empty(missing);
    }

    [Fact]
    public void Every_test_project_is_in_the_document_and_in_the_solution()
    {
        string document = SourceTree.Read("docs/testing.md");
        string solution = SourceTree.Read("Famfs.sln");
        foreach (string project in SourceTree.FindFiles("tests", "*.csproj").Select(f => Path.GetFileNameWithoutExtension(f)))
        {
            Assert.Contains($"`{project}`", document, StringComparison.Ordinal);
            Assert.Contains($"\"{project}\"", solution, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void The_exit_codes_of_README_are_those_of_the_command()
    {
        string source = SourceTree.Read(SourceTree.FindFiles("src", "ExitCode.cs").Single());
        Assert.Equal(EnumValue().Matches(source).Select(m => m.Groups[1].Value), FirstCells("README.md", "| code | meaning |"));
    }

    [Fact]
    public void Every_error_reason_has_its_row_in_the_protocol()
    {
        IEnumerable<string> declared = ReasonName().Matches(SourceTree.Read("protos/famfs/v1/api.proto")).Select(m => m.Groups[1].Value).Where(r => r != "UNSPECIFIED");
        IEnumerable<string> told = FirstCells("docs/protocol.md", "| reason | status |").SelectMany(c => UpperWord().Matches(c)).Select(m => m.Value);
        Assert.Equal(declared.Order(), told.Order());
    }

    [Fact]
    public void Every_verb_is_in_the_operations()
    {
        string spans = string.Join(' ', CodeSpan().Matches(SourceTree.Read("docs/operations.md")).Select(m => m.Groups[1].Value));
        IEnumerable<string> files = SourceTree.FindFiles("src", "*Command.cs").Where(f => f.Contains("Cli/", StringComparison.Ordinal));
        IEnumerable<string> verbs = files.SelectMany(f => Verb().Matches(SourceTree.Read(f))).Select(m => m.Groups[1].Value).ToHashSet();
        Assert.Contains("creat", verbs);
        Assert.All(verbs, v => Assert.Matches($@"(?<![\w-]){v}(?![\w-])", spans));
    }

    /// <summary>A rule that leads nowhere is not checked by anybody.</summary>
    [Fact]
    public void Types_that_the_safety_rules_name_are_there()
    {
        HashSet<string> declared = [.. SourceTree.FindFiles("src", "*.cs").SelectMany(f => TypeName().Matches(SourceTree.Read(f)))
            .Concat(SourceTree.FindFiles("protos", "*.proto").SelectMany(f => TypeName().Matches(SourceTree.Read(f)))).Select(m => m.Groups[1].Value)];
        IEnumerable<string> named = CodeSpan().Matches(SourceTree.Read("docs/safety.md")).Select(m => m.Groups[1].Value).Where(n => TypeSpan().IsMatch(n)).Select(n => n.Split('.')[0]);
        Assert.Contains("LogWriter", named);
        Assert.Empty(named.Except(declared));
    }

    [Fact]
    public void Every_decision_is_in_the_index()
    {
        string index = SourceTree.Read("docs/decisions/README.md");
        Assert.All(SourceTree.FindFiles("docs/decisions", "0*.md"), f => Assert.Contains($"({Path.GetFileName(f)})", index, StringComparison.Ordinal));
    }

    /// <summary>The first cells of the table that begins with <paramref name="head"/>.</summary>
    private static IEnumerable<string> FirstCells(string document, string head) => SourceTree.Read(document).Split('\n')
        .SkipWhile(line => !line.StartsWith(head, StringComparison.Ordinal)).Skip(2).TakeWhile(line => line.StartsWith('|'))
        .Select(line => line.Split('|')[1].Trim());

    private static IEnumerable<string> Headings(string document) =>
        Heading().Matches(SourceTree.Read(document)).Select(m => NotInAnchor().Replace(m.Groups[1].Value.Trim().ToLowerInvariant(), "").Replace(' ', '-'));

    [GeneratedRegex(@"\[[^\]]*\]\(([^)\s]+)\)")]
    private static partial Regex Link();

    [GeneratedRegex("`([^`]+)`")]
    private static partial Regex CodeSpan();

    [GeneratedRegex(@"^    \w+ = (\d+),", RegexOptions.Multiline)]
    private static partial Regex EnumValue();

    [GeneratedRegex(@"\b(?:class|struct|record|interface|enum|message) ([A-Z]\w*)")]
    private static partial Regex TypeName();

    [GeneratedRegex(@"^[A-Z][a-z]\w*(\.\w+)*$")]
    private static partial Regex TypeSpan();

    [GeneratedRegex(@"ERROR_REASON_(\w+) = ")]
    private static partial Regex ReasonName();

    [GeneratedRegex(@"(?<!\w)[A-Z][A-Z_]+(?!\w)")]
    private static partial Regex UpperWord();

    [GeneratedRegex("""new\("([a-z][a-z-]*)",""")]
    private static partial Regex Verb();

    [GeneratedRegex(@"^[A-Z]\w+(/[A-Z]\w+)+(\.\w+)*$")]
    private static partial Regex SourcePath();

    [GeneratedRegex("^#+ (.+)$", RegexOptions.Multiline)]
    private static partial Regex Heading();

    [GeneratedRegex(@"[^\w\- ]")]
    private static partial Regex NotInAnchor();
}
