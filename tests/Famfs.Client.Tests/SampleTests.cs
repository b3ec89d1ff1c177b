using System.Diagnostics;
using System.Reflection;
using System.Text.RegularExpressions;

namespace Famfs.Client.Tests;

/// <summary>What the documents show in C# compiles as it stands there: each <c>```csharp</c> block is the whole of a console
/// project that references Famfs.Client alone.</summary>
public sealed partial class SampleTests : IDisposable
{
    /// <summary>What ImplicitUsings brings into a console project.</summary>
    private const string ImplicitUsings = """
        global using System;
        global using System.Collections.Generic;
        global using System.IO;
        global using System.Linq;
        global using System.Net.Http;
        global using System.Threading;
        global using System.Threading.Tasks;
        """;

    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-samples-").FullName;

    public static TheoryData<string, int> Samples
    {
        get
        {
            TheoryData<string, int> samples = [];
            foreach (string document in Documents())
            {
                foreach (int line in Blocks(File.ReadAllText(document)).Keys)
                    samples.Add(Path.GetRelativePath(Fact("RepositoryRoot"), document), line);
            }
            return samples;
        }
    }

    [Fact]
    public void README_shows_the_library() =>
        Assert.Contains(Samples, s => s.Data.Item1 == "README.md");

    [Theory]
    [MemberData(nameof(Samples))]
    public async Task A_sample_compiles_as_shown(string document, int line)
    {
        string code = Blocks(await File.ReadAllTextAsync(Path.Combine(Fact("RepositoryRoot"), document), TestContext.Current.CancellationToken))[line];
        string sample = Path.Combine(_directory, "Sample.cs");
        // A fault is reported where the document has it.
        await File.WriteAllTextAsync(sample, $"#line {line} \"{document}\"\n{code}", TestContext.Current.CancellationToken);
        string usings = Path.Combine(_directory, "Usings.cs");
        await File.WriteAllTextAsync(usings, ImplicitUsings, TestContext.Current.CancellationToken);
        // 1701 and 1702 are off in every project of the SDK.
        string[] options =
        [
            "-noconfig", "-nologo", "-nostdlib", "-target:exe", "-nullable:enable", "-warnaserror", "-nowarn:1701,1702", $"-out:{_directory}/Sample.dll",
            .. References().Select(r => $"-reference:{r}"), usings, sample,
        ];
        await File.WriteAllLinesAsync(Path.Combine(_directory, "options"), options.Select(o => $"\"{o}\""), TestContext.Current.CancellationToken);
        ProcessStartInfo start = new(Fact("DotnetPath"), [Fact("CompilerPath"), $"@{_directory}/options"]) { RedirectStandardOutput = true };
        using Process compiler = Process.Start(start)!;
        string said = await compiler.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
        await compiler.WaitForExitAsync(TestContext.Current.CancellationToken);
        Assert.True(compiler.ExitCode == 0, said);
    }

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    private static IEnumerable<string> Documents() =>
        Directory.EnumerateFiles(Fact("RepositoryRoot"), "*.md").Concat(Directory.EnumerateFiles(Path.Combine(Fact("RepositoryRoot"), "docs"), "*.md"));

    /// <summary>The runtime, the library, and what comes with the library.</summary>
    private static IEnumerable<string> References()
    {
        HashSet<string> library = [];
        Queue<string> found = new(["Famfs.Client"]);
        while (found.TryDequeue(out string? name))
        {
            string path = Path.Combine(AppContext.BaseDirectory, name + ".dll");
            if (!File.Exists(path) || !library.Add(path))
                continue;
            foreach (AssemblyName reference in Assembly.Load(name).GetReferencedAssemblies())
                found.Enqueue(reference.Name!);
        }
        // Beside the managed assemblies of the runtime lie native ones, which are not called *.dll here.
        return Directory.EnumerateFiles(Path.GetDirectoryName(typeof(object).Assembly.Location)!, "*.dll").Concat(library);
    }

    /// <summary>The blocks of C# in a document, by the number of their first line.</summary>
    private static Dictionary<int, string> Blocks(string text) =>
        Block().Matches(text).ToDictionary(b => text.AsSpan(0, b.Index).Count('\n') + 2, b => b.Groups["code"].Value);

    private static string Fact(string key) =>
        Assembly.GetExecutingAssembly().GetCustomAttributes<AssemblyMetadataAttribute>().Single(a => a.Key == key).Value!;

    [GeneratedRegex("^```csharp\n(?<code>.*?)^```$", RegexOptions.Multiline | RegexOptions.Singleline)]
    private static partial Regex Block();
}
