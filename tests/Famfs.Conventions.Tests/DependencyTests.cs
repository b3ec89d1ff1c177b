using System.Text.RegularExpressions;
using System.Xml.Linq;
using Xunit;

namespace Famfs.Conventions.Tests;

/// <summary>Who may use whom: projects, folders of Core and of the programs, unsafe code, clocks. The tables here
/// are those of ARCHITECTURE.md.</summary>
public sealed partial class DependencyTests
{
    private static readonly Dictionary<string, string[]> Projects = new()
    {
        ["Famfs.Core"] = [],
        ["Famfs.Famfs2"] = ["Famfs.Core"],
        ["Famfs.CommandLine"] = ["Famfs.Core"],
        ["Famfs.Master"] = ["Famfs.CommandLine", "Famfs.Core", "Famfs.Famfs2"],
        ["Famfs.Client"] = ["Famfs.Core", "Famfs.Famfs2"],
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
        ["Famfs.Core/Dialects"] = ["Format", "Allocation"],
        ["Famfs.Core/Check"] = ["Format", "Interop", "Dax", "Log", "Namespace", "Allocation"],
        ["Famfs.Master/State"] = [],
        ["Famfs.Master/Queries"] = ["State"],
        ["Famfs.Master/Changes"] = ["State", "Queries"],
        ["Famfs.Master/Engine"] = ["State", "Queries", "Changes"],
        ["Famfs.Master/Holders"] = ["State", "Queries", "Changes", "Engine"],
        ["Famfs.Master/Role"] = ["State"],
        ["Famfs.Master/Rpc"] = ["State", "Queries", "Changes", "Engine", "Holders", "Role"],
        ["Famfs.Fuse/Protocol"] = [],
        ["Famfs.Fuse/Dialects"] = ["Protocol"],
        ["Famfs.Fuse/Operations"] = ["Protocol", "Dialects"],
        ["Famfs.Fuse/Session"] = ["Protocol", "Dialects", "Operations"],
        ["Famfs.Fuse/Keeper"] = ["Protocol", "Dialects"],
        ["Famfs.Fuse/Replication"] = ["Protocol", "Dialects", "Operations", "Session", "Keeper"],
        ["Famfs.Fuse/Memory"] = ["Protocol", "Dialects", "Operations", "Session"],
        ["Famfs.Fuse/Daemon"] = ["Protocol", "Dialects", "Operations", "Session", "Keeper", "Replication", "Memory"],
    };

    /// <summary>Files beside <c>Famfs.Famfs2</c> that may name its format, each with its reason. The list only shrinks.</summary>
    private static readonly Dictionary<string, string> NamesFamfs2 = new()
    {
        ["src/Famfs.Client/Famfs.Client.csproj"] = "references the project of the format",
        ["src/Famfs.Client/KnownFormats.cs"] = "registers the format for library, command and daemon",
        ["src/Famfs.Master/Famfs.Master.csproj"] = "references the project of the format",
        ["src/Famfs.Master/Program.cs"] = "registers the format for the master",
        ["protos/famfs/v1/api.proto"] = "says which names a reply may have for the format",
        ["protos/famfs/v1/log.proto"] = "says whose entries a frozen type of record stands for",
    };

    /// <summary>Files beside <c>Famfs.Core/Log/Native</c> that may name what is in it, each with its reason. The list only shrinks.</summary>
    private static readonly Dictionary<string, string> NamesNative = new()
    {
        ["src/Famfs.Client/KnownFormats.cs"] = "registers the format for library, command and daemon",
        ["src/Famfs.Core/Check/FileSystemCheck.cs"] = "reads the host table",
        ["src/Famfs.Core/Check/LogImport.cs"] = "makes a native file system of an exported log",
        ["src/Famfs.Famfs2/Famfs2Formatter.cs"] = "asks whether a device is blank, also of a native superblock",
        ["src/Famfs.Famfs2/Famfs2Migration.cs"] = "makes a native file system of one in its own format",
        ["src/Famfs.Fuse/Replication/MountRegistration.cs"] = "writes this mount's line of the host table",
        ["src/Famfs.Master/Holders/MountRegistry.cs"] = "reads the host table",
        ["src/Famfs.Master/MasterProcess.cs"] = "has the host table's capacity told to those who register",
        ["src/Famfs.Master/Program.cs"] = "registers the format for the master",
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
    public void Every_folder_of_Core_and_of_the_programs_has_its_place()
    {
        foreach (string project in (string[])["Famfs.Core", "Famfs.Master", "Famfs.Fuse"])
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
    public void Changes_know_no_queue_no_thread_and_no_network()
    {
        foreach (string file in SourceTree.FindFiles("src/Famfs.Master/Changes", "*.cs"))
        {
            Match use = QueueOrThread().Match(SourceTree.ReadCode(file));
            Assert.False(use.Success, $"{file} uses {use.Value}");
        }
    }

    [Fact]
    public void Calls_are_made_in_the_callers_name_and_no_room_names_what_puts_it_together()
    {
        foreach (string file in SourceTree.FindFiles("src/Famfs.Master", "*.cs").Where(f => f.Split('/').Length > 3))
        {
            string code = SourceTree.ReadCode(file);
            Assert.DoesNotContain("MasterProcess", code, StringComparison.Ordinal);
            if (file.StartsWith("src/Famfs.Master/Rpc/", StringComparison.Ordinal) && !file.EndsWith("/CallerIdentity.cs", StringComparison.Ordinal))
                Assert.False(InvokedAsNobody().IsMatch(code), $"{file} does not say who calls");
        }
    }

    [Fact]
    public void The_seam_of_the_formats_names_none_of_them()
    {
        foreach (string file in SourceTree.FindFiles("src/Famfs.Core/Log", "*.cs").Where(f => !f.StartsWith("src/Famfs.Core/Log/Native/", StringComparison.Ordinal)))
            Assert.DoesNotContain("Native", SourceTree.ReadCode(file), StringComparison.Ordinal);
    }

    [Fact]
    public void The_native_format_is_named_by_who_registers_it_and_for_its_host_table()
    {
        string[] naming = [.. SourceTree.FindFiles("src", "*.cs")
            .Where(f => !f.StartsWith("src/Famfs.Core/Log/Native/", StringComparison.Ordinal) && SourceTree.ReadCode(f).Contains("Log.Native", StringComparison.Ordinal)).Order(StringComparer.Ordinal)];
        Assert.Equal(NamesNative.Keys.Order(StringComparer.Ordinal), naming);
    }

    [Fact]
    public void Only_the_master_needs_AspNetCore_on_its_host()
    {
        foreach (string project in Projects.Keys.Where(p => p != "Famfs.Master"))
        {
            XDocument file = XDocument.Parse(SourceTree.Read($"src/{project}/{project}.csproj"));
            Assert.Empty(file.Descendants("FrameworkReference").Select(r => r.Attribute("Include")!.Value));
            Assert.Equal("Microsoft.NET.Sdk", file.Root!.Attribute("Sdk")!.Value);
            Assert.DoesNotContain(file.Descendants("PackageReference"), r => r.Attribute("Include")!.Value.Contains("AspNetCore", StringComparison.Ordinal));
        }
    }

    [Fact]
    public void The_tables_of_the_documents_are_those_of_these_tests()
    {
        Dictionary<string, string[]> rooms = Folders.Where(f => f.Key.StartsWith("Famfs.Core/", StringComparison.Ordinal) && !f.Key.EndsWith('/'))
            .ToDictionary(f => f.Key["Famfs.Core/".Length..], f => f.Value);
        string architecture = SourceTree.Read("ARCHITECTURE.md");
        RequireSame(Projects.ToDictionary(p => p.Key["Famfs.".Length..], p => p.Value.Select(u => u["Famfs.".Length..]).ToArray()), architecture, @"`src/Famfs\.(\w+)`");
        RequireSame(rooms, architecture, @"`Core/(\w+)`");
        RequireSame(rooms, SourceTree.Read("src/Famfs.Core/README.md"), @"\[?`(\w+)`(?:\]\([^)]*\))?");

        static void RequireSame(Dictionary<string, string[]> expected, string document, string name)
        {
            Dictionary<string, string> rows = Regex.Matches(document, $@"^\| {name} \| [^|]* \| ([^|]*) \|$", RegexOptions.Multiline).ToDictionary(m => m.Groups[1].Value, m => m.Groups[2].Value);
            Assert.Equal(expected.Keys.Order(), rows.Keys.Order());
            foreach ((string room, string[] uses) in expected)
                Assert.Equal((room, uses.Length == 0 ? "–" : string.Join(", ", uses.Order())), (room, string.Join(", ", rows[room].Split(", ").Order())));
        }
    }

    [Fact]
    public void One_project_and_who_registers_it_name_famfs_2()
    {
        string[] naming = [.. SourceTree.FindFiles("src").Concat(SourceTree.FindFiles("protos"))
            .Where(f => !f.StartsWith("src/Famfs.Famfs2/", StringComparison.Ordinal) && Famfs2Name().IsMatch(SourceTree.Read(f))).Order(StringComparer.Ordinal)];
        Assert.Equal(NamesFamfs2.Keys.Order(StringComparer.Ordinal), naming);
    }

    [Fact]
    public void What_answers_the_kernel_does_not_know_the_client()
    {
        foreach (string file in ((string[])["Protocol", "Dialects", "Operations", "Memory"]).SelectMany(f => SourceTree.FindFiles("src/Famfs.Fuse/" + f, "*.cs")))
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
        foreach (string file in SourceTree.FindFiles("src/Famfs.Core", "*.cs").Concat(SourceTree.FindFiles("src/Famfs.Famfs2", "*.cs")).Concat(SourceTree.FindFiles("src/Famfs.Master", "*.cs")))
        {
            // The one place of each program that composes it.
            if (file == "src/Famfs.Master/MasterProcess.cs")
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

    // In code, strings and comments.
    [GeneratedRegex("famfs-?2", RegexOptions.IgnoreCase)]
    private static partial Regex Famfs2Name();

    [GeneratedRegex(@"^namespace ([\w.]+)", RegexOptions.Multiline)]
    private static partial Regex NamespaceName();

    [GeneratedRegex(@"\b(System\.(IO|Net)\b|Microsoft\.Extensions\.|File\.|FileStream|Stream\b|Socket\b|Process\b|Console\.|Environment\.|DateTime|TimeProvider|Stopwatch|ILogger)")]
    private static partial Regex Outside();

    [GeneratedRegex(@"\b(DateTime(Offset)?\.(Utc)?Now|TimeProvider\.System|Stopwatch|Environment\.TickCount|Random\.Shared)")]
    private static partial Regex OwnClock();

    [GeneratedRegex(@"\bCaller\.(Unknown|Master)\b")]
    private static partial Regex InvokedAsNobody();

    [GeneratedRegex(@"\b(System\.(Net|Threading)\b|Grpc\.|Microsoft\.|Task\b|Thread\b|Lock\b|Interlocked|Channel|BlockingCollection|await\b)")]
    private static partial Regex QueueOrThread();

    [GeneratedRegex(@"\[(DllImport|LibraryImport)\b|NativeLibrary\.|GetDelegateForFunctionPointer|\bunsafe\b")]
    private static partial Regex ForeignCall();
}
