using System.Text.RegularExpressions;
using Xunit;

namespace Famfs.Tidy.Tests;

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

    private static IEnumerable<string> Headings(string document) =>
        Heading().Matches(SourceTree.Read(document)).Select(m => NotInAnchor().Replace(m.Groups[1].Value.Trim().ToLowerInvariant(), "").Replace(' ', '-'));

    [GeneratedRegex(@"\[[^\]]*\]\(([^)\s]+)\)")]
    private static partial Regex Link();

    [GeneratedRegex("`([^`]+)`")]
    private static partial Regex CodeSpan();

    [GeneratedRegex(@"^[A-Z]\w+(/[A-Z]\w+)+(\.\w+)*$")]
    private static partial Regex SourcePath();

    [GeneratedRegex("^#+ (.+)$", RegexOptions.Multiline)]
    private static partial Regex Heading();

    [GeneratedRegex(@"[^\w\- ]")]
    private static partial Regex NotInAnchor();
}
