using System.Text.RegularExpressions;
using Xunit;

namespace Famfs.Conventions.Tests;

/// <summary>What can be counted of the rule for prose: a stranger understands each sentence at first reading.
/// Decision records are excluded, they are not rewritten.</summary>
public sealed partial class ProseTests
{
    // Chosen: what a reader holds in mind at once, and what two windows beside each other show.
    private const int MaxSentenceWords = 25;
    private const int MaxCellWords = 15;
    private const int MaxLineWidth = 120;

    /// <summary>Words in other than their plain meaning, with the plain word for each.</summary>
    private static readonly Dictionary<string, string> PlainWords = new(StringComparer.OrdinalIgnoreCase)
    {
        ["anew"] = "again",
        ["behind"] = "after; that lags",
        ["beside"] = "next to; in addition to",
        ["further"] = "additional, other",
        ["go on"] = "continue",
        ["goes on"] = "continues",
        ["going on"] = "continuing",
        ["went on"] = "continued",
        ["for ever"] = "permanently",
        ["in vain"] = "without success",
        ["let go"] = "release",
        ["lets go"] = "releases",
        ["letting go"] = "releasing",
        ["passed over"] = "skipped, ignored",
        ["passes over"] = "skips, ignores",
        ["say"] = "report, state",
        ["says"] = "reports, states",
        ["said"] = "reported, given",
        ["whoever"] = "the one who",
    };

    private static readonly Regex s_notPlain = new($@"(?<![\w-])({string.Join('|', PlainWords.Keys)})(?![\w-])", RegexOptions.IgnoreCase);

    /// <summary>Documents that do not keep the rule yet, with the findings that each may have. It only shrinks.</summary>
    private static readonly Dictionary<string, int> Exceptions = [];

    public static TheoryData<string> Documents =>
        [.. new[] { "README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md" }.Concat(Directory.EnumerateFiles(Path.Combine(SourceTree.Root, "docs"), "*.md").Select(f => Path.GetRelativePath(SourceTree.Root, f))).Order(StringComparer.Ordinal)];

    [Theory]
    [MemberData(nameof(Documents))]
    public void A_document_keeps_what_can_be_counted(string document)
    {
        List<string> findings = Judge(SourceTree.Read(document));
        int allowed = Exceptions.GetValueOrDefault(document);
        Assert.True(findings.Count <= allowed, $"{document}: {string.Join("\n", findings)}");
        Assert.True(findings.Count == allowed, $"{document}: {findings.Count} findings, {allowed} are excepted; lower the number");
    }

    [Theory]
    [InlineData("a b c d e f g h i j k l m n o p q r s t u v w x y z.", "1: a sentence of 26 words")]
    [InlineData("a b c d e f g h i j k l m\nn o p q r s t u v w x y z.", "1: a sentence of 26 words")]
    [InlineData("* a b c d e f g h i j k l m n o p q r s t u v w x y\n* z", "")]
    [InlineData("a b c d e f g h i j k l m. n o p q r s t u v w x y z `a b`", "")]
    [InlineData("```\na b c d e f g h i j k l m n o p q r s t u v w x y z\n```", "")]
    [InlineData("| a | b c d e f g h i j k l m n o p q |\n|---|---|", "1: a cell of 16 words")]
    [InlineData("a\nIt Says so, as `says` and essays do not.", "2: 'Says': reports, states")]
    [InlineData("[a b c d e f g h i j k l m](x.md) n o p q r s t u v w x y z", "1: a sentence of 26 words")]
    public void What_is_counted(string text, string expected) => Assert.Equal(expected, string.Join(";", Judge(text)));

    [Fact]
    public void A_line_that_is_too_wide_is_found_also_in_code()
    {
        string wide = new('x', MaxLineWidth + 1);
        Assert.Equal([$"2: a line of {MaxLineWidth + 1} characters"], Judge($"```\n{wide}\n```"));
        Assert.Empty(Judge(wide[1..]));
    }

    private static List<string> Judge(string text)
    {
        List<string> findings = [];
        List<string> paragraph = [];
        int start = 0;
        bool code = false;
        string[] lines = text.Split('\n');
        for (int i = 0; i < lines.Length; i++)
        {
            string line = lines[i];
            bool row = line.StartsWith('|');
            // A row of a table cannot be wrapped; its cells are counted.
            if (line.Length > MaxLineWidth && !row)
                findings.Add($"{i + 1}: a line of {line.Length} characters");
            bool fence = line.TrimStart().StartsWith("```", StringComparison.Ordinal);
            code ^= fence;
            if (fence || code || row || line.Trim().Length == 0 || line.StartsWith('#') || ListItem().IsMatch(line))
                EndParagraph();
            if (fence || code)
                continue;
            string words = Plain(line);
            foreach (Match word in s_notPlain.Matches(words))
                findings.Add($"{i + 1}: '{word.Value}': {PlainWords[word.Value]}");
            if (row)
            {
                foreach (string cell in words.Trim().Trim('|').Split('|'))
                {
                    if (CountWords(cell) is > MaxCellWords and int count)
                        findings.Add($"{i + 1}: a cell of {count} words");
                }
            }
            else if (!line.StartsWith('#'))
            {
                if (paragraph.Count == 0)
                    start = i + 1;
                paragraph.Add(ListItem().Replace(line, "").Trim());
            }
        }
        EndParagraph();
        return findings;

        void EndParagraph()
        {
            foreach (string sentence in SentenceEnd().Split(Plain(string.Join(' ', paragraph))))
            {
                if (CountWords(sentence) is > MaxSentenceWords and int count)
                    findings.Add($"{start}: a sentence of {count} words");
            }
            paragraph.Clear();
        }
    }

    /// <summary>Code counts as one word and a link as its text.</summary>
    private static string Plain(string text) => Link().Replace(CodeSpan().Replace(text, "code"), "$1");

    private static int CountWords(string text) => text.Split(' ', StringSplitOptions.RemoveEmptyEntries).Count(w => w.Any(char.IsLetterOrDigit));

    [GeneratedRegex(@"^\s*([*-]|\d+\.)\s")]
    private static partial Regex ListItem();

    [GeneratedRegex(@"(?<=[.!?][)""*]*)\s+")]
    private static partial Regex SentenceEnd();

    [GeneratedRegex("`[^`]*`")]
    private static partial Regex CodeSpan();

    [GeneratedRegex(@"!?\[([^\]]*)\]\([^)]*\)")]
    private static partial Regex Link();
}
