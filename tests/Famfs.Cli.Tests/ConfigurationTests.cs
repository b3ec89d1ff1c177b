using System.CommandLine;
using System.Text;
using System.Text.Json;
using Famfs.CommandLine;
using Famfs.TestSupport;

namespace Famfs.Cli.Tests;

public sealed class ConfigurationTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-config-").FullName;

    private readonly Option<string[]> _device = new("--device", "-d") { Required = true };
    private readonly Option<int> _workers = new("--workers");
    private readonly Option<string?> _state = new("--host-state");
    private readonly Option<bool> _once = new("--once");
    private readonly Argument<string> _place = new("mountpoint");
    private readonly RootCommand _root = new("A daemon.");
    private readonly ProgramConfiguration _daemon;
    private readonly Dictionary<string, string> _environment = [];

    public ConfigurationTests()
    {
        _workers.Validators.Add(result =>
        {
            if (result.Tokens.Any(t => !int.TryParse(t.Value, out int count) || count > 256))
                result.AddError("--workers: must be 0 to 256");
        });
        _daemon = new("famfsd", _root, [new(_place), new(_device), new(_workers), new(_state, "FAMFS_STATE_DIR", IsOfHost: true)]);
        _root.Add(_place);
        foreach (Option option in (Option[])[_device, _workers, _state, _once, _daemon.InstanceOption, _daemon.DirectoryOption])
            _root.Add(option);
    }

    [Fact]
    public void The_command_line_comes_before_the_environment_and_that_before_the_files()
    {
        Write("a.conf", "host-state = /of/file\n[famfsd]\nworkers = 3\ndevice = /dev/one\ndevice = /dev/two\nmountpoint = /mnt/a\n");

        Assert.Equal(["--device=/dev/one", "--device=/dev/two", "--workers=3", "--host-state=/of/file", "/mnt/a"], Complete());
        // An option that is given replaces all lines of its key.
        Assert.Equal(["--workers=3", "--host-state=/of/file", "-d", "/dev/x", "/mnt/a"], Complete("-d", "/dev/x"));
        Assert.Equal(["--device=/dev/one", "--device=/dev/two", "--host-state=/of/file", "/here", "--workers", "7"], Complete("/here", "--workers", "7"));
        _environment["FAMFS_STATE_DIR"] = "/of/environment";
        Assert.Equal(["--workers=3", "-d", "/dev/x", "/mnt/a"], Complete("-d", "/dev/x"));
        ParseResult line = _root.Parse(Complete());
        Assert.Empty(line.Errors);
        Assert.Equal(["/dev/one", "/dev/two"], line.GetValue(_device)!);
        Assert.Equal("/mnt/a", line.GetValue(_place));
    }

    [Fact]
    public void The_last_file_counts_with_all_its_lines_and_an_instance_before_its_program()
    {
        Write("10.conf", "[famfsd]\ndevice = /dev/one\ndevice = /dev/two\nworkers = 3\n[famfsd models]\nmountpoint = /mnt/models\nworkers = 5\n");
        Write("20.conf", "[famfsd]\ndevice = /dev/three\n");
        Write(".30.conf", "[famfsd]\ndevice = /dev/hidden\n");
        Write("40.conf~", "[famfsd]\ndevice = /dev/old\n");

        Assert.Equal(["--device=/dev/three", "--workers=3"], Complete());
        Assert.Equal(["--device=/dev/three", "--workers=5", "--instance", "models", "/mnt/models"], Complete("--instance", "models"));
        Assert.Equal("--instance other: there is no section [famfsd other] in " + Path.Combine(_directory, "*.conf"), Fault("--instance", "other"));
    }

    [Theory]
    [InlineData("workers = 3", "1: workers: is not for every program; write it in a section, [famfsd] for example")]
    [InlineData("[famfsd]\nhost-state = /x", "2: host-state: is the same for every program of a host; write it before the first section")]
    [InlineData("[famfsd]\n\n# c\nwokers = 3", "4: wokers: unknown key; in [famfsd] are known mountpoint, device, workers")]
    [InlineData("hoststate = /x", "1: hoststate: unknown key; before the first section are known host-state")]
    [InlineData("[famfsd]\nonce = true", "2: once: unknown key")]
    [InlineData("[famfsd]\nworkers = 300", "2: workers: must be 0 to 256")]
    [InlineData("[famfsd]\nworkers = many", "2: workers: ")]
    [InlineData("[famfsd other]\nworkers = many", "2: workers: ")] // not this time's instance
    [InlineData("[famfsd]\nworkers = 3\nworkers = 4", "3: workers: stands in line 2 already, and has one value")]
    [InlineData("[famfsd]\nmountpoint = --once", "2: mountpoint: --once: begins with a dash, as an option does")]
    [InlineData("[famfsd]\nworkers", "2: workers: is neither KEY = VALUE nor [SECTION]")]
    [InlineData("[famfsd]\nworkers =", "2: workers: its value is missing")]
    [InlineData("[famfsd]\ndevice = '/dev/dax*'", "2: device: '/dev/dax*': write the value without quotes")]
    [InlineData("[famfsd]\n--device = /dev/x", "2: --device: is no key")]
    [InlineData("[famfsx]", "1: [famfsx]: unknown section; known are [famfs], [famfsd], [famfs-master]")]
    [InlineData("[famfsd models", "1: [famfsd models: is no head of a section")]
    [InlineData("[famfsd a b]", "1: [famfsd a b]: is no head of a section")]
    [InlineData("[famfsd a/b]", "1: a/b: a name has at most 64")]
    [InlineData("[famfs a]", "1: [famfs a]: famfs has no instances")]
    [InlineData("[famfsd]\ndevice = /dev/\u0007x", "2: has the control character 7")]
    public void A_fault_is_one_line_with_file_line_and_key(string text, string expected)
    {
        Write("a.conf", text + "\n");
        Assert.StartsWith(Path.Combine(_directory, "a.conf") + ":" + expected, Fault(), StringComparison.Ordinal);
        Assert.DoesNotContain("\n", Fault(), StringComparison.Ordinal);
    }

    [Fact]
    public void What_is_for_another_program_is_left_to_it()
    {
        Write("a.conf", "[famfs-master]\nnonsense = 1\n[famfs]\nmaster = nonsense\n[famfsd]\nworkers = 2\n");
        Assert.Equal(["--workers=2"], Complete());
    }

    [Fact]
    public void Values_are_taken_as_they_are()
    {
        Write("a.conf", "\uFEFF[famfsd]\r\n ; a comment\r\ndevice=/dev/a b#c = d\t\r\n");
        Assert.Equal(["--device=/dev/a b#c = d"], Complete());
        Assert.Equal(["/dev/a b#c = d"], _root.Parse(Complete()).GetValue(_device)!);
    }

    [Fact]
    public void A_named_directory_must_be_there_and_the_usual_one_need_not()
    {
        Assert.EndsWith("there is no such directory of configuration files", Assert.Throws<ConfigurationException>(() => Configuration.Read("/nowhere", _ => null)).Message, StringComparison.Ordinal);
        Assert.EndsWith("there is no such directory of configuration files", Assert.Throws<ConfigurationException>(() => Configuration.Read(null, _ => "/nowhere")).Message, StringComparison.Ordinal);
        Assert.Empty(Configuration.Read(_directory, _ => "/nowhere").Files); // the option comes first
        Assert.Equal(["--help"], _daemon.Complete(["--help"], _ => "/nowhere"));
        Assert.Equal("/etc/famfs", Configuration.DefaultDirectory);
    }

    [Fact]
    public void Files_that_are_no_text_or_too_long_are_refused()
    {
        File.WriteAllBytes(Path.Combine(_directory, "a.conf"), [0xFF, (byte)'\n']);
        Assert.Equal(Path.Combine(_directory, "a.conf") + ": is not text in UTF-8", Fault());
        Write("a.conf", new string('#', 65537));
        Assert.Equal(Path.Combine(_directory, "a.conf") + ": is longer than 65536 bytes", Fault());
        Write("a.conf", new string('#', 65536));
        Assert.Empty(Complete());
    }

    [Fact]
    public void A_program_tells_what_holds_and_why()
    {
        Write("a.conf", "host-state = /s\n[famfsd]\ndevice = /dev/one\ndevice = /dev/two\n[famfsd models]\nworkers = 5\n");
        _environment["FAMFS_STATE_DIR"] = "/of/environment";
        using MemoryStream output = new();

        Assert.Equal(0, _daemon.Explain([], Variable, output));
        string file = Path.Combine(_directory, "a.conf");
        Assert.Equal(
            [
                " mountpoint= default", $" device=/dev/one {file}:3", $" device=/dev/two {file}:4", " workers= default", " host-state=/of/environment FAMFS_STATE_DIR",
                $"models device=/dev/one {file}:3", $"models device=/dev/two {file}:4", $"models workers=5 {file}:6", "models host-state=/of/environment FAMFS_STATE_DIR",
            ], JsonDocument.Parse(output.ToArray()).RootElement.EnumerateArray().Select(e =>
                $"{e.GetProperty("instance")} {e.GetProperty("key")}={e.GetProperty("value")} {(e.TryGetProperty("file", out JsonElement f) ? $"{f}:{e.GetProperty("line")}" : e.TryGetProperty("variable", out JsonElement v) ? v : e.GetProperty("from"))}"));
    }

    [Fact]
    public async Task Config_shows_all_programs_and_says_what_is_wrong_where()
    {
        Write("a.conf", "[famfs]\nmaster = http://10.0.0.1:7733\n");
        string programs = Directory.CreateDirectory(Path.Combine(_directory, "programs")).FullName;
        Script(programs, "famfsd", """echo '[{"program":"famfsd","instance":"models","key":"device","value":"/dev/dax*","from":"file","file":"/x.conf","line":3}]'""");
        (ExitCode code, string output, string error) = await RunAsync("config", programs);

        Assert.Equal((ExitCode.Ok, $"famfs: famfs-master: not beside famfs ({programs}) and not in PATH; what the files say of it is not checked\n"), (code, error));
        string[] lines = [.. output.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(l => string.Join(' ', l.Split(' ', StringSplitOptions.RemoveEmptyEntries)))];
        Assert.Equal("PROGRAM KEY VALUE FROM", lines[0]);
        Assert.Contains($"famfs master http://10.0.0.1:7733 {Path.Combine(_directory, "a.conf")}:2", lines);
        Assert.Contains("famfs ca-file - default", lines);
        Assert.Contains("famfsd models device /dev/dax* /x.conf:3", lines);

        _environment["FAMFS_MASTER"] = "unix:/x";
        Script(programs, "famfs-master", "echo 'famfs-master: /x.conf:9: listen: no' >&2; exit 1");
        (code, output, error) = await RunAsync("config --json", programs);
        Assert.Equal(ExitCode.Usage, code);
        Assert.Contains("/x.conf:9: listen: no", error, StringComparison.Ordinal);
        JsonElement json = JsonDocument.Parse(output).RootElement;
        Assert.Equal(_directory, json.GetProperty("directory").GetString());
        Assert.Equal("FAMFS_MASTER", json.GetProperty("settings").EnumerateArray().First(s => s.GetProperty("key").GetString() == "master").GetProperty("variable").GetString());
    }

    [Fact]
    public async Task Famfs_takes_the_master_of_a_file_as_that_of_the_environment()
    {
        Write("a.conf", "[famfs]\nmaster = unix:/of/file\n");
        (ExitCode code, _, string error) = await RunAsync("status --timeout 2");
        Assert.Equal(ExitCode.MasterUnreachable, code);
        Assert.Contains("/of/file", error, StringComparison.Ordinal);
        // A path on no mount is from the root of that master's file system, and nothing is different with a file that has a fault.
        Write("a.conf", "[famfs]\nmaster = nonsense\n");
        Assert.Equal((ExitCode.Usage, "", $"famfs: {Path.Combine(_directory, "a.conf")}:2: master: 'nonsense' is not an address of a master; write http://host:port, https://host:port or unix:/path\n"), await RunAsync("status"));
        (code, string help, _) = await RunAsync("status --help");
        Assert.Equal(ExitCode.Ok, code);
        Assert.Contains("--config-dir", help, StringComparison.Ordinal);
    }

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    private void Write(string name, string text) => File.WriteAllText(Path.Combine(_directory, name), text, new UTF8Encoding(encoderShouldEmitUTF8Identifier: false));

    private string? Variable(string name) => name == Configuration.DirectoryVariable ? _directory : _environment.GetValueOrDefault(name);

    private string[] Complete(params string[] args) => _daemon.Complete(args, Variable);

    private string Fault(params string[] args) => Assert.Throws<ConfigurationException>(() => Complete(args)).Message;

    private static void Script(string directory, string name, string body)
    {
        string path = Path.Combine(directory, name);
        File.WriteAllText(path, "#!/bin/sh\n" + body + "\n");
        if (!OperatingSystem.IsWindows())
            File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
    }

    private async Task<(ExitCode Code, string Output, string Error)> RunAsync(string line, string programs = "/nowhere")
    {
        string table = Path.Combine(_directory, "no-mounts");
        await File.WriteAllTextAsync(table, "1 0 8:1 / / rw - ext4 /dev/sda rw\n", TestContext.Current.CancellationToken);
        using StringWriter output = new() { NewLine = "\n" };
        using StringWriter error = new() { NewLine = "\n" };
        CliEnvironment environment = new() { Formats = TestFormats.All, Out = output, Error = error, Variable = Variable, MountTablePath = table, ProgramDirectory = programs };
        ExitCode code = await FamfsCommand.RunAsync(line.Split(' '), environment, TestContext.Current.CancellationToken);
        return (code, output.ToString(), error.ToString());
    }
}
