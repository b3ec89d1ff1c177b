using System.Reflection;
using System.Text.RegularExpressions;
using System.Xml.Linq;
using Xunit;

namespace Famfs.EndToEnd;

/// <summary>The rules of the source tree: who may depend on whom, where unsafe code may be, what nothing is
/// called.</summary>
public sealed partial class TreeTests
{
    private static readonly string Root = Assembly.GetExecutingAssembly().GetCustomAttributes<AssemblyMetadataAttribute>().First(a => a.Key == "RepositoryRoot").Value!;

    private static readonly Dictionary<string, string[]> Allowed = new()
    {
        ["Famfs.Core"] = [],
        ["Famfs.Grpc"] = [],
        ["Famfs.Master"] = ["Famfs.Core", "Famfs.Grpc"],
        ["Famfs.Client"] = ["Famfs.Core", "Famfs.Grpc"],
        ["Famfs.Fuse"] = ["Famfs.Core", "Famfs.Client"],
    };

    [Fact]
    public void Projects_depend_only_on_those_below_them()
    {
        foreach ((string project, string[] allowed) in Allowed)
        {
            IEnumerable<string> references = XDocument.Load(Path.Combine(Root, "src", project, project + ".csproj"))
                .Descendants("ProjectReference").Select(r => Path.GetFileNameWithoutExtension(r.Attribute("Include")!.Value.Replace('\\', '/')));
            Assert.Empty(references.Except(allowed));
        }
    }

    [Theory]
    [InlineData("Famfs.Core", "Format", "Famfs.Core.(Log|Dax|Namespace|Allocation|Check|Interop)")]
    [InlineData("Famfs.Core", "Namespace", "Famfs.Core.(Log|Dax|Allocation|Check)")]
    [InlineData("Famfs.Core", "Log", "Famfs.Core.(Namespace|Allocation|Check)")]
    [InlineData("Famfs.Core", "Dax", "Famfs.Core.(Log|Namespace|Allocation|Check)")]
    [InlineData("Famfs.Fuse", "Protocol", "(Famfs.Fuse.(Dialects|Session|Operations|Daemon)|Famfs.Client|System.IO|Microsoft.Extensions.Logging)")]
    [InlineData("Famfs.Fuse", "Dialects", "(Famfs.Fuse.(Session|Operations|Daemon)|Famfs.Client)")]
    [InlineData("Famfs.Fuse", "Operations", "(Famfs.Fuse.(Session|Daemon)|Famfs.Client)")]
    public void Folders_use_only_what_is_below_them(string project, string folder, string forbidden)
    {
        Regex pattern = new($@"^using (static )?{forbidden}\b", RegexOptions.Multiline);
        foreach (string path in Sources(Path.Combine("src", project, folder)))
            Assert.False(pattern.IsMatch(File.ReadAllText(path)), $"{path} uses {pattern.Match(File.ReadAllText(path)).Value}");
    }

    [Fact]
    public void Unsafe_code_and_foreign_calls_are_in_Core_alone()
    {
        foreach (string project in Allowed.Keys.Where(p => p != "Famfs.Core"))
        {
            Assert.DoesNotContain("AllowUnsafeBlocks", File.ReadAllText(Path.Combine(Root, "src", project, project + ".csproj")), StringComparison.Ordinal);
            foreach (string path in Sources(Path.Combine("src", project)))
                Assert.False(ForeignCall().IsMatch(File.ReadAllText(path)), $"{path} calls foreign code");
        }
    }

    [Fact]
    public void Nothing_is_named_after_nothing()
    {
        // Famfs.Grpc has the names of the official packages.
        foreach (string path in Sources("src").Where(p => !p.Contains("/Famfs.Grpc/", StringComparison.Ordinal)))
            Assert.False(VagueName().IsMatch(Path.GetFileNameWithoutExtension(path)), path);
    }

    private static IEnumerable<string> Sources(string folder) =>
        Directory.EnumerateFiles(Path.Combine(Root, folder), "*.cs", SearchOption.AllDirectories)
            .Where(p => !p.Contains("/obj/", StringComparison.Ordinal) && !p.Contains("/bin/", StringComparison.Ordinal));

    [GeneratedRegex(@"\[(DllImport|LibraryImport)\b")]
    private static partial Regex ForeignCall();

    [GeneratedRegex("(Utils?|Helpers?|Common|Manager|Base)$")]
    private static partial Regex VagueName();
}
