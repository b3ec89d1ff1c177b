using System.Diagnostics;
using System.Text.Json;
using Famfs.Cli.Verbs;
using Famfs.Core;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Famfs2;
using Famfs.Famfs2.Codec;
using Famfs.TestSupport;
using Xunit;

namespace Famfs.Cli.Tests.Verbs;

public sealed class CheckCommandTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-check-").FullName;
    private readonly string _device;
    private readonly string _system;

    public CheckCommandTests()
    {
        _device = Path.Combine(_directory, "device");
        _system = Path.Combine(_directory, "system_uuid");
        using (FileStream file = File.Create(_device))
            file.SetLength(32 << 20);
    }

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Fact]
    public async Task Exit_codes_tell_clean_repaired_left_and_impossible_apart()
    {
        await RequireAsync(0, "mkfs", "--format", "famfs-2", "--system-uuid-file", _system, _device);
        await RequireAsync(0, "check", _device);
        WriteCounters(0, 1);
        await RequireAsync(4, "check", _device);
        string backup = Path.Combine(_directory, "backup.json");
        string repaired = await RequireAsync(1, "check", "--repair", "--backup", backup, "--system-uuid-file", _system, "-o", "json", _device);
        using (JsonDocument json = JsonDocument.Parse(repaired))
        {
            Assert.Equal(0, json.RootElement.GetProperty("errors_left").GetInt32());
            Assert.Equal("index-skew", json.RootElement.GetProperty("repaired")[0].GetProperty("code").GetString());
            Assert.Equal("error", json.RootElement.GetProperty("findings")[0].GetProperty("severity").GetString());
        }
        Assert.True(File.Exists(backup));
        await RequireAsync(0, "check", _device);
        await RequireAsync(8, "check", Path.Combine(_directory, "not-there"));
    }

    [Fact]
    public async Task Without_a_whole_backup_nothing_is_repaired_and_no_part_of_one_stays()
    {
        await RequireAsync(0, "mkfs", "--host-state", _directory, _device);
        using (FileStream file = File.OpenWrite(_device))
        {
            file.Position = 700;
            file.WriteByte(0x55);
        }
        byte[] before = File.ReadAllBytes(_device);
        string taken = Path.Combine(_directory, "taken");
        File.WriteAllText(taken, "somebody's");
        Assert.Contains("nothing is repaired", await RequireAsync(8, "check", "--repair", "--backup", taken, _device), StringComparison.Ordinal);
        Assert.Equal("somebody's", File.ReadAllText(taken));
        foreach (string place in (string[])[_device, _directory, Path.Combine(_directory, "not-there", "backup"), "/proc/backup"])
            Assert.Contains("nothing is repaired", await RequireAsync(8, "check", "--repair", "--backup", place, _device), StringComparison.Ordinal);

        // A full disk: a file system of one page, and a backup of four.
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "mounting a small file system needs root");
        string small = Directory.CreateDirectory(Path.Combine(_directory, "small")).FullName;
        Run("mount", "-t", "tmpfs", "-o", "size=4k", "none", small);
        try
        {
            Assert.Contains("nothing is repaired", await RequireAsync(8, "check", "--repair", "--backup", Path.Combine(small, "backup"), _device), StringComparison.Ordinal);
            Assert.Empty(Directory.GetFiles(small));
        }
        finally
        {
            Run("umount", small);
        }
        Assert.True(before.AsSpan().SequenceEqual(File.ReadAllBytes(_device)));
        await RequireAsync(1, "check", "--repair", "--backup", Path.Combine(_directory, "backup"), _device);
        await RequireAsync(0, "check", "--repair", "--backup", Path.Combine(_directory, "unused"), _device);
        Assert.False(File.Exists(Path.Combine(_directory, "unused")));
    }

    [Fact]
    public async Task Errors_that_cannot_be_repaired_stay_errors_and_json_has_what_operations_says()
    {
        await RequireAsync(0, "mkfs", "--format", "famfs-2", "--system-uuid-file", _system, _device);
        using (FileStream file = File.OpenWrite(_device))
        {
            byte[] entry = new byte[Famfs2Entry.Size];
            new Famfs2Directory { Path = "no/x"u8.ToArray() }.Format(entry, 0);
            file.Position = Famfs2Layout.EntryOffset(0);
            file.Write(entry);
        }
        WriteCounters(1, 0);
        string output = await RequireAsync(4, "check", "--repair", "--backup", Path.Combine(_directory, "backup"), "--system-uuid-file", _system, "-o", "json", _device);
        using JsonDocument json = JsonDocument.Parse(output);
        Assert.Equal(
            ["errors", "warnings", "errors_left", "format", "files", "directories", "used_bytes", "findings", "repaired", "backup"],
            json.RootElement.EnumerateObject().Select(p => p.Name));
        Assert.Equal(["severity", "code", "where", "what"], json.RootElement.GetProperty("findings")[0].EnumerateObject().Select(p => p.Name));
        Assert.Equal(["code", "device", "offset", "bytes", "what"], json.RootElement.GetProperty("repaired")[0].EnumerateObject().Select(p => p.Name));
        Assert.Equal(1, json.RootElement.GetProperty("errors_left").GetInt32());
        Assert.Contains("parent-missing", await RequireAsync(4, "check", _device), StringComparison.Ordinal);
        // Nothing of what is left can be repaired, and no backup is made of nothing.
        string none = Path.Combine(_directory, "none");
        output = await RequireAsync(4, "check", "--repair", "--backup", none, "--system-uuid-file", _system, "-o", "json", _device);
        using JsonDocument left = JsonDocument.Parse(output);
        Assert.Equal(0, left.RootElement.GetProperty("repairable").GetArrayLength());
        Assert.False(File.Exists(none));
    }

    [Fact]
    public async Task Repair_refuses_while_a_master_lives_and_on_another_system()
    {
        await RequireAsync(0, "mkfs", "--format", "famfs-2", "--system-uuid-file", _system, _device);
        WriteCounters(0, 1);
        string other = Path.Combine(_directory, "other");
        Famfs2SystemUuid.ReadOrMake(other);
        Assert.Contains("the file system belongs to system", await RequireAsync(8, "check", "--repair", "--system-uuid-file", other, _device), StringComparison.Ordinal);
        using (DaxDevice master = DaxDevice.Open(_device))
        {
            Assert.True(master.TryLockByte(0, out IDisposable? held));
            Assert.Contains("a master of this host is running", await RequireAsync(8, "check", "--repair", "--system-uuid-file", _system, _device), StringComparison.Ordinal);
            held.Dispose();
        }
        await RequireAsync(4, "check", _device);
    }

    [Fact]
    public async Task A_lost_tail_is_repaired_by_a_take_over_of_a_host_that_has_a_slot_and_by_nobody_else()
    {
        await RequireAsync(0, "mkfs", "--host-state", _directory, _device);
        // A bit of the tag in the tail word of slot 0.
        byte[] sound = File.ReadAllBytes(_device);
        using (FileStream file = File.OpenWrite(_device))
        {
            file.Position = MediaLayout.AnchorOffset + 128 + 6;
            file.WriteByte((byte)(sound[file.Position] ^ 4));
        }
        byte[] damaged = File.ReadAllBytes(_device);
        Assert.Contains("repairable tail-lost", await RequireAsync(4, "check", _device), StringComparison.Ordinal);
        string nobody = Path.Combine(_directory, "nobody");
        Assert.Contains("no master slot", await RequireAsync(8, "check", "--repair", "--host-state", nobody, _device), StringComparison.Ordinal);
        Assert.False(Directory.Exists(nobody));
        string other = Path.Combine(_directory, "other");
        HostIdentity.Load(other, new());
        Assert.Contains("no master slot", await RequireAsync(8, "check", "--repair", "--host-state", other, _device), StringComparison.Ordinal);
        Assert.True(damaged.AsSpan().SequenceEqual(File.ReadAllBytes(_device)));

        string output = await RequireAsync(1, "check", "--repair", "--host-state", _directory, "-o", "json", _device);
        using JsonDocument json = JsonDocument.Parse(output);
        Assert.Equal("tail-lost", json.RootElement.GetProperty("repaired")[0].GetProperty("code").GetString());
        Assert.Equal(JsonValueKind.Null, json.RootElement.GetProperty("backup").ValueKind);
        Assert.Equal(0, json.RootElement.GetProperty("errors_left").GetInt32());
        Assert.Contains("0 error(s), 0 warning(s)", await RequireAsync(0, "check", _device), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_first_device_whose_flags_say_that_it_is_a_further_one_belongs_to_its_system_all_the_same()
    {
        await RequireAsync(0, "mkfs", "--format", "famfs-2", "--system-uuid-file", _system, _device);
        WriteCounters(0, 1);
        using (FileStream file = File.OpenWrite(_device))
        {
            file.Position = 104;
            file.WriteByte((byte)Famfs2Superblock.SecondaryFlag);
        }
        string other = Path.Combine(_directory, "other");
        Famfs2SystemUuid.ReadOrMake(other);
        Assert.Contains("the file system belongs to system", await RequireAsync(8, "check", "--repair", "--backup", Path.Combine(_directory, "b"), "--system-uuid-file", other, _device), StringComparison.Ordinal);
        await RequireAsync(1, "check", "--repair", "--backup", Path.Combine(_directory, "b"), "--system-uuid-file", _system, _device);
    }

    [Theory]
    [InlineData("garbage")]
    [InlineData("")]
    [InlineData("00000000-0000-0000-0000-000000000000")]
    [InlineData("directory")]
    [InlineData("/dev/zero")]
    public async Task A_system_uuid_file_that_holds_something_else_is_named_and_nothing_is_repaired(string what)
    {
        await RequireAsync(0, "mkfs", "--format", "famfs-2", "--system-uuid-file", _system, _device);
        WriteCounters(0, 1);
        string file = what switch { "/dev/zero" => what, "directory" => _directory, _ => Path.Combine(_directory, "bad") };
        if (file.EndsWith("bad", StringComparison.Ordinal))
            File.WriteAllText(file, what);
        foreach (string[] verb in (string[][])[["check", "--repair"], ["migrate", "--host-state", _directory]])
            Assert.Contains($"{file}: is not a system uuid", await RequireAsync(verb[0] == "check" ? 8 : 2, [.. verb, "--system-uuid-file", file, _device]), StringComparison.Ordinal);
        await RequireAsync(4, "check", _device);
    }

    [Theory]
    [InlineData("check", "")]
    [InlineData("check", "--repair", "--master", "http://127.0.0.1:1")]
    [InlineData("check", "--master", "nonsense://x")]
    [InlineData("check", "--repair", "--backup", "", "device")]
    [InlineData("check", "--system-uuid-file", "", "device")]
    [InlineData("migrate", "")]
    [InlineData("migrate", "--host-state", "", "device")]
    [InlineData("log", "export", "", "device")]
    [InlineData("log", "dump", "")]
    public async Task A_wrong_command_line_is_2(params string[] line) => await RequireAsync(2, line);

    [Theory]
    [InlineData("the native format has it", "--format", "famfs-2", "--label", "x")]
    [InlineData("not a power of two", "--format", "famfs-2", "--loglen", "12M")]
    [InlineData("is for --format famfs-2", "--loglen", "8M")]
    [InlineData("famfs-3", "--format", "famfs-3")]
    public async Task Mkfs_refuses_options_that_the_format_does_not_have_and_says_which_has(string cause, params string[] options)
    {
        // Without a directory of this host's own, since that option would be refused first.
        Assert.Contains(cause, await RequireAsync(2, ["mkfs", .. options, _device]), StringComparison.Ordinal);
        Assert.False(File.ReadAllBytes(_device).AsSpan().ContainsAnyExcept((byte)0));
    }

    [Fact]
    public async Task Without_memory_it_could_not_check_and_says_so_in_one_line()
    {
        await RequireAsync(0, "mkfs", "--format", "famfs-2", "--system-uuid-file", _system, _device);
        using StringWriter error = new();
        using FullMemory output = new();
        ExitCode code = await FamfsCommand.RunAsync(["check", _device], new() { Formats = TestFormats.All, Out = output, Error = error, Variable = _ => null }, TestContext.Current.CancellationToken);
        Assert.Equal(8, (int)code);
        Assert.Equal($"famfs: {new OutOfMemoryException().Message}\n", error.ToString());
    }

    private async Task<string> RequireAsync(int code, params string[] arguments)
    {
        using StringWriter output = new();
        ExitCode exit = await FamfsCommand.RunAsync(arguments, new() { Formats = TestFormats.All, Out = output, Error = output, Variable = _ => null }, TestContext.Current.CancellationToken);
        Assert.True(code == (int)exit, $"{string.Join(' ', arguments)} exited with {(int)exit}: {output}");
        return output.ToString();
    }

    private static void Run(string program, params string[] arguments)
    {
        using Process process = Process.Start(program, arguments);
        process.WaitForExit();
        Assert.True(process.ExitCode == 0, $"{program} exited with {process.ExitCode}");
    }

    private void WriteCounters(ulong sequence, ulong index)
    {
        byte[] header = new byte[Famfs2LogHeader.Size];
        new Famfs2LogHeader(Famfs2Layout.MinLogBytes, sequence, index).Format(header);
        using FileStream file = File.OpenWrite(_device);
        file.Position = Famfs2Layout.LogOffset;
        file.Write(header);
    }

    /// <summary>There is no memory for what is written.</summary>
    private sealed class FullMemory : StringWriter
    {
        public override void Write(char value) => throw new OutOfMemoryException();

        public override void Write(string? value) => throw new OutOfMemoryException();

        public override void WriteLine(string? value) => throw new OutOfMemoryException();
    }
}
