using System.Reflection;
using System.Text;

namespace Famfs.Conventions.Tests;

/// <summary>The repository's files as they lie in the working tree. Paths are relative to its root, with
/// slashes.</summary>
internal static class SourceTree
{
    private static readonly string[] Made = ["bin", "obj", "artifacts", ".git", ".vs", ".idea", "TestResults", "BenchmarkDotNet.Artifacts"];

    public static string Root { get; } = Assembly.GetExecutingAssembly().GetCustomAttributes<AssemblyMetadataAttribute>().First(a => a.Key == "RepositoryRoot").Value!;

    /// <summary>Every file below <paramref name="folder"/> that nobody built.</summary>
    public static IEnumerable<string> FindFiles(string folder, string pattern = "*")
    {
        foreach (string file in Directory.EnumerateFiles(Path.Combine(Root, folder), pattern))
            yield return Path.GetRelativePath(Root, file);
        foreach (string directory in Directory.EnumerateDirectories(Path.Combine(Root, folder)))
        {
            if (Made.Contains(Path.GetFileName(directory)))
                continue;
            foreach (string file in FindFiles(Path.GetRelativePath(Root, directory), pattern))
                yield return file;
        }
    }

    public static string Read(string file) => File.ReadAllText(Path.Combine(Root, file));

    /// <summary>A source file without its comments and without what its strings say; as many lines as before.</summary>
    public static string ReadCode(string file) => StripProse(Read(file));

    /// <summary>Takes comments and the inside of literals out of C#. Interpolated strings go with their
    /// expressions: what hides in them is not found.</summary>
    public static string StripProse(string source)
    {
        StringBuilder code = new(source.Length);
        int i = 0;
        while (i < source.Length)
        {
            int end = EndOfProse(source, i);
            if (end == i)
            {
                code.Append(source[i++]);
                continue;
            }
            code.Append(source[i] == '/' ? " " : "\"\"");
            code.Append('\n', source.AsSpan(i, end - i).Count('\n'));
            i = end;
        }
        return code.ToString();
    }

    private static int EndOfProse(string s, int i)
    {
        if (Is(s, i, "//"))
            return OrEnd(s, s.IndexOf('\n', i));
        if (Is(s, i, "/*"))
            return OrEnd(s, s.IndexOf("*/", i, StringComparison.Ordinal), 2);
        if (s[i] == '\'')
            return EndOfQuoted(s, i + 1, '\'', escapes: true);
        int quote = i;
        while (quote < s.Length && s[quote] is '$' or '@')
            quote++;
        if (quote >= s.Length || s[quote] != '"')
            return i;
        int quotes = 0;
        while (quote + quotes < s.Length && s[quote + quotes] == '"')
            quotes++;
        if (quotes >= 3)
            return OrEnd(s, s.IndexOf(new string('"', quotes), quote + quotes, StringComparison.Ordinal), quotes);
        if (quotes == 2)
            return quote + 2;
        return EndOfQuoted(s, quote + 1, '"', escapes: !s.AsSpan(i, quote - i).Contains('@'));
    }

    private static int EndOfQuoted(string s, int i, char quote, bool escapes)
    {
        while (i < s.Length && s[i] != quote)
            i += escapes && s[i] == '\\' ? 2 : 1;
        return Math.Min(i + 1, s.Length);
    }

    private static bool Is(string s, int at, string what) => string.CompareOrdinal(s, at, what, 0, what.Length) == 0;

    private static int OrEnd(string s, int at, int more = 0) => at < 0 ? s.Length : at + more;
}
