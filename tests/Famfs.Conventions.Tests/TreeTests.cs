using System.Collections.Concurrent;
using System.Reflection;
using System.Runtime.CompilerServices;
using System.Text;
using System.Text.RegularExpressions;
using Xunit;

namespace Famfs.Conventions.Tests;

/// <summary>What nothing is called, what nothing keeps, what no file names.</summary>
public sealed partial class TreeTests
{
    private static readonly string[] Assemblies = ["Famfs.Core", "Famfs.Famfs2", "Famfs.Client", "Famfs.CommandLine", "famfs", "famfs-master", "famfsd"];

    /// <summary>Where packages and images come from is the machine's business. In two parts, as this file is
    /// looked at, too.</summary>
    private static readonly string[] RegistryHosts =
    [
        "nuget" + ".org", "pypi" + ".org", "pythonhosted" + ".org", "npmjs" + ".org", "npmjs" + ".com", "crates" + ".io", "rubygems" + ".org", "docker" + ".io",
        "docker" + ".com", "ghcr" + ".io", "gcr" + ".io", "quay" + ".io", "mcr.microsoft" + ".com", "pkg.github" + ".com", "proxy.golang" + ".org", "deb.debian" + ".org",
        "archive.ubuntu" + ".com", "pkgs.dev.azure" + ".com", "maven" + ".org",
    ];

    private static readonly Type[] Changeable =
    [
        typeof(List<>), typeof(Dictionary<,>), typeof(HashSet<>), typeof(Queue<>), typeof(Stack<>), typeof(SortedDictionary<,>), typeof(ConcurrentDictionary<,>),
        typeof(ConcurrentQueue<>), typeof(ConcurrentBag<>), typeof(ConditionalWeakTable<,>), typeof(AsyncLocal<>), typeof(ThreadLocal<>), typeof(StringBuilder), typeof(Lock),
        typeof(SemaphoreSlim), typeof(Random), typeof(Timer), typeof(CancellationTokenSource), typeof(object),
    ];

    [Fact]
    public void Nothing_static_changes()
    {
        List<string> found = [];
        foreach (Type type in Types())
        {
            foreach (FieldInfo field in type.GetFields(BindingFlags.Static | BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.DeclaredOnly))
            {
                // The compiler keeps its own delegates; a property's field is ours.
                if (field.IsLiteral || (field.IsDefined(typeof(CompilerGeneratedAttribute)) && !field.Name.EndsWith("k__BackingField", StringComparison.Ordinal)))
                    continue;
                Type kind = field.FieldType.IsGenericType ? field.FieldType.GetGenericTypeDefinition() : field.FieldType;
                if (!field.IsInitOnly || Changeable.Contains(kind) || field.IsDefined(typeof(ThreadStaticAttribute)))
                    found.Add($"{type.FullName}.{field.Name}");
            }
        }
        Assert.Empty(found);
    }

    [Fact]
    public void Nothing_is_named_after_nothing()
    {
        foreach (Type type in Types())
            Assert.False(VagueName().IsMatch(type.Name), type.FullName);
        foreach (string file in SourceTree.FindFiles("src").Concat(SourceTree.FindFiles("tests")).Concat(SourceTree.FindFiles("bench")))
            Assert.DoesNotContain(file.Split('/'), part => VagueName().IsMatch(part.Split('.')[0]));
    }

    [Fact]
    public void No_file_names_a_registry()
    {
        foreach (string file in SourceTree.FindFiles(""))
        {
            string text = SourceTree.Read(file);
            Assert.False(RegistryHosts.Any(h => text.Contains(h, StringComparison.OrdinalIgnoreCase)), $"{file} names {RegistryHosts.FirstOrDefault(h => text.Contains(h, StringComparison.OrdinalIgnoreCase))}");
        }
    }

    [Fact]
    public void Every_skip_says_what_is_missing()
    {
        foreach (string file in SourceTree.FindFiles("tests", "*.cs").Where(f => !f.Contains("/Famfs.Conventions.Tests/", StringComparison.Ordinal)))
        {
            string text = SourceTree.Read(file);
            foreach (Match skip in SkipCall().Matches(text))
            {
                string reason = LastArgument(text, skip.Index + skip.Length).Trim();
                Assert.True(ReasonText().IsMatch(reason) || reason == "reason", $"{file}: {skip.Value}…{reason}) gives no reason");
            }
            foreach (Match skip in SkipProperty().Matches(text))
                Assert.True(ReasonText().IsMatch(skip.Groups[1].Value), $"{file}: {skip.Value} gives no reason");
        }
    }

    [Theory]
    [InlineData("a // b.C(\n d", "a  \n d")]
    [InlineData("x(\"y \\\" z\", '\"', 'q')", "x(\"\", \"\", \"\")")]
    [InlineData("@\"a\\\" + $\"{b}\" /* c\n */ + \"\"\"d \" e\"\"\" + f", "\"\" + \"\"  \n + \"\" + f")]
    public void Comments_and_text_are_not_code(string source, string code) => Assert.Equal(code, SourceTree.StripProse(source));

    private static IEnumerable<Type> Types() => Assemblies.Select(Assembly.Load).SelectMany(a => a.GetTypes())
        // Generated from protos/, or by the compiler.
        .Where(t => !IsGenerated(t) && (t.Namespace ?? "") != "Famfs.V1");

    private static bool IsGenerated(Type type) =>
        type.IsDefined(typeof(CompilerGeneratedAttribute)) || type.Name.StartsWith('<') || (type.DeclaringType is { } outer && IsGenerated(outer));

    private static string LastArgument(string text, int at)
    {
        int depth = 0;
        int start = at;
        bool quoted = false;
        for (int i = at; i < text.Length; i++)
        {
            char c = text[i];
            if (c == '"' && text[i - 1] != '\\')
                quoted = !quoted;
            else if (quoted)
                continue;
            else if (c is '(' or '[' or '{')
                depth++;
            else if (c is ')' or ']' or '}' && depth-- == 0)
                return text[start..i];
            else if (c == ',' && depth == 0)
                start = i + 1;
        }
        return "";
    }

    [GeneratedRegex("(?<![a-z])(Utils?|Utilit(y|ies)|Helpers?|Common|Manager|Base)(?![a-z])")]
    private static partial Regex VagueName();

    [GeneratedRegex(@"Assert\.Skip(Unless|When)?\(")]
    private static partial Regex SkipCall();

    [GeneratedRegex(@"\[(?:Fact|Theory|InlineData)\([^\]]*\bSkip = ([^,)\]]*)")]
    private static partial Regex SkipProperty();

    [GeneratedRegex("""^\$?".{8,}"$""")]
    private static partial Regex ReasonText();
}
