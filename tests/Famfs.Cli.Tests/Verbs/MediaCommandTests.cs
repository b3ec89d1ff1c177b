using System.Text;
using System.Text.Json;
using Famfs.Cli.Verbs;
using Famfs.Core.Dax;
using Famfs.Famfs2;
using Famfs.Famfs2.Codec;
using Famfs.TestSupport;
using Famfs.TestSupport.Famfs2;
using Xunit;

namespace Famfs.Cli.Tests.Verbs;

/// <summary>The verbs that read and change media, on files.</summary>
public sealed class MediaCommandTests : IDisposable
{
    private const int Units = 16;

    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-media-").FullName;
    private readonly string _device;
    private readonly string _system;

    public MediaCommandTests()
    {
        _device = Path.Combine(_directory, "device");
        _system = Path.Combine(_directory, "system_uuid");
        Famfs2Image image = new Famfs2Image(Units).Directory("d")
            .Add(Famfs2Image.File("d/f", 100, Famfs2Image.Extent(6)))
            .Add(Famfs2Image.Interleaved("d/s", 2 * Famfs2Image.Unit, Famfs2Image.Unit, Famfs2Image.Extent(8), Famfs2Image.Extent(10)));
        image.Memory.WriteMemory(6L * Famfs2Image.Unit, "content"u8);
        byte[] bytes = new byte[image.Memory.LengthBytes];
        image.Memory.ReadMemory(0, bytes);
        File.WriteAllBytes(_device, bytes);
        File.WriteAllText(_system, $"{image.Superblock.System}\n");
    }

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Fact]
    public async Task A_famfs_2_log_is_dumped_as_records()
    {
        using JsonDocument dump = JsonDocument.Parse(await RequireAsync(0, "log", "dump", "-o", "json", _device));
        JsonElement[] records = [.. dump.RootElement.GetProperty("records").EnumerateArray()];
        Assert.Equal(Famfs2Translator.PrologueRecords + 3, records.Length);
        Assert.Equal(["file_system_created", "device_added", "segment_reserved", "directory_made", "file_created", "file_created"], records.Select(r => r.GetProperty("type").GetString()));
        Assert.Equal("3", records[4].GetProperty("payload").GetProperty("inode").GetString());
    }

    [Fact]
    public async Task Migrate_makes_it_native_with_its_files_and_once_only()
    {
        string before = await TreeAsync();
        string other = Path.Combine(_directory, "other");
        Famfs2SystemUuid.ReadOrMake(other);
        Assert.Contains("the file system belongs to system", await RequireAsync(8, "migrate", "--host-state", _directory, "--system-uuid-file", other, _device), StringComparison.Ordinal);
        await RequireAsync(0, "migrate", "--host-state", _directory, "--system-uuid-file", _system, _device);
        await RequireAsync(0, "check", _device);
        Assert.Equal(before, await TreeAsync());
        Assert.Equal("content", ReadAt(6));
        await RequireAsync(4, "migrate", "--host-state", _directory, "--system-uuid-file", _system, _device);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task An_exported_log_brings_the_files_back_over_lost_metadata(bool native)
    {
        string before = await TreeAsync();
        if (native)
            await RequireAsync(0, "migrate", "--host-state", _directory, "--system-uuid-file", _system, _device);
        string export = Path.Combine(_directory, "log");
        await RequireAsync(0, "log", "export", export, _device);
        await RequireAsync(4, "log", "export", export, _device); // never over a file
        await RequireAsync(4, "log", "import", export, _device, "--host-state", _directory, "--system-uuid-file", _system);

        byte[] lost = File.ReadAllBytes(_device);
        lost.AsSpan(0, 6 * Famfs2Image.Unit).Clear();
        File.WriteAllBytes(_device, lost);
        await RequireAsync(0, "log", "import", export, _device, "--host-state", _directory);
        await RequireAsync(0, "check", _device);
        Assert.Equal(before, await TreeAsync());
        Assert.Equal("content", ReadAt(6));
    }

    [Fact]
    public async Task A_damaged_or_cut_export_is_refused_and_the_device_stays_as_it_is()
    {
        string export = Path.Combine(_directory, "log");
        await RequireAsync(0, "log", "export", export, _device);
        byte[] whole = File.ReadAllBytes(export);
        byte[] device = File.ReadAllBytes(_device);
        for (int cut = 0; cut < whole.Length; cut += 13)
        {
            File.WriteAllBytes(export, whole[..cut]);
            await RequireAsync(2, "log", "import", "--force", export, _device, "--host-state", _directory, "--system-uuid-file", _system);
        }
        for (int at = LogExport.HeaderBytes; at < whole.Length; at += 29)
        {
            byte[] bad = [.. whole];
            bad[at] ^= 0x10;
            File.WriteAllBytes(export, bad);
            await RequireAsync(2, "log", "import", "--force", export, _device, "--host-state", _directory, "--system-uuid-file", _system);
        }
        Assert.True(device.AsSpan().SequenceEqual(File.ReadAllBytes(_device)));
    }

    [Fact]
    public async Task Migrate_and_import_leave_alone_what_a_master_of_this_host_has()
    {
        string export = Path.Combine(_directory, "log");
        await RequireAsync(0, "log", "export", export, _device);
        using DaxDevice master = DaxDevice.Open(_device);
        Assert.True(master.TryLockByte(0, out IDisposable? held));
        foreach (string[] verb in (string[][])[["migrate"], ["log", "import", "--force", export]])
            Assert.Contains("a master of this host is running", await RequireAsync(4, [.. verb, _device, "--host-state", _directory, "--system-uuid-file", _system]), StringComparison.Ordinal);
        held.Dispose();
    }

    [Theory]
    [InlineData("native")]
    [InlineData("famfs-2")]
    public async Task Devices_in_another_order_than_the_exported_log_are_not_imported_whatever_force_says(string format)
    {
        string[] devices = [Path.Combine(_directory, "first"), Path.Combine(_directory, "second")];
        foreach (string device in devices)
            File.WriteAllBytes(device, new byte[Units * Famfs2Image.Unit]);
        await RequireAsync(0, ["mkfs", "--format", format, .. Identity(format), .. devices]);
        string export = Path.Combine(_directory, "log");
        await RequireAsync(0, ["log", "export", export, .. devices]);
        byte[][] before = [.. devices.Select(File.ReadAllBytes)];

        string refused = await RequireAsync(2, ["log", "import", "--force", export, devices[1], devices[0], "--host-state", _directory, "--system-uuid-file", _system]);

        Assert.Contains($"{devices[1]}: is device 1 of the exported log, and given as device 0", refused, StringComparison.Ordinal);
        Assert.Equal(before, devices.Select(File.ReadAllBytes));
        await RequireAsync(0, ["log", "import", "--force", export, .. devices, "--host-state", _directory, "--system-uuid-file", _system]);
    }

    [Theory]
    [InlineData("native", "--max-hosts", "0")]
    [InlineData("famfs-2", "--loglen", "9M")]
    public async Task A_refused_mkfs_makes_no_identity(string format, string option, string value)
    {
        string state = Path.Combine(_directory, "state");
        string uuid = Path.Combine(state, "system_uuid");
        string[] identity = format == "native" ? ["--host-state", state] : ["--system-uuid-file", uuid];
        string blank = Path.Combine(_directory, "blank");
        File.WriteAllBytes(blank, new byte[Units * Famfs2Image.Unit]);

        await RequireAsync(4, ["mkfs", "--format", format, .. identity, _device]);
        await RequireAsync(2, ["mkfs", "--format", format, .. identity, option, value, blank]);

        Assert.False(Directory.Exists(state));
        await RequireAsync(0, ["mkfs", "--format", format, .. identity, blank]);
        Assert.Single(Directory.GetFiles(state));
    }

    [Fact]
    public async Task Migrate_leaves_alone_what_this_host_has_mounted()
    {
        byte[] before = File.ReadAllBytes(_device);
        using (TestFormats.All.Open([DaxDevice.Open(_device, readOnly: true)]))
            Assert.Contains("is in use by a master, a mount or a tool of this host", await RequireAsync(4, "migrate", "--host-state", _directory, "--system-uuid-file", _system, _device), StringComparison.Ordinal);
        Assert.True(before.AsSpan().SequenceEqual(File.ReadAllBytes(_device)));
        await RequireAsync(0, "migrate", "--host-state", _directory, "--system-uuid-file", _system, _device);
    }

    [Fact]
    public async Task A_refused_migration_makes_no_identity()
    {
        string state = Path.Combine(_directory, "state");
        string other = Path.Combine(_directory, "other");
        Famfs2SystemUuid.ReadOrMake(other);
        await RequireAsync(8, "migrate", "--host-state", state, "--system-uuid-file", other, _device);
        byte[] bytes = File.ReadAllBytes(_device);
        byte[] bad = [.. bytes];
        bad[(int)Famfs2Layout.EntryOffset(1) + 300] ^= 1;
        File.WriteAllBytes(_device, bad);
        await RequireAsync(7, "migrate", "--host-state", state, "--system-uuid-file", _system, _device);
        Assert.False(Directory.Exists(state));
        File.WriteAllBytes(_device, bytes);
        await RequireAsync(0, "migrate", "--host-state", state, "--system-uuid-file", _system, _device);
        Assert.Single(Directory.GetFiles(state));
    }

    private string[] Identity(string format) => format == "native" ? ["--host-state", _directory] : ["--system-uuid-file", _system];

    private string ReadAt(int unit) => Encoding.ASCII.GetString(File.ReadAllBytes(_device).AsSpan(unit * Famfs2Image.Unit, 7));

    /// <summary>Names and maps as the log has them, without inode numbers and times.</summary>
    private async Task<string> TreeAsync()
    {
        using JsonDocument dump = JsonDocument.Parse(await RequireAsync(0, "log", "dump", "-o", "json", _device));
        List<string> lines = [];
        foreach (JsonElement record in dump.RootElement.GetProperty("records").EnumerateArray())
        {
            JsonElement payload = record.GetProperty("payload");
            if (record.GetProperty("type").GetString() is "directory_made" or "file_created")
                lines.Add($"{payload.GetProperty("name")} {payload.GetProperty("mode")} {(payload.TryGetProperty("map", out JsonElement map) ? map.GetRawText() : "")}");
        }
        Assert.Equal(3, lines.Count);
        return string.Join('\n', lines);
    }

    private static async Task<string> RequireAsync(int code, params string[] arguments)
    {
        using StringWriter output = new();
        ExitCode exit = await FamfsCommand.RunAsync(arguments, new() { Formats = TestFormats.All, Out = output, Error = output, Variable = _ => null }, TestContext.Current.CancellationToken);
        Assert.True(code == (int)exit, $"{string.Join(' ', arguments)} exited with {(int)exit}: {output}");
        return output.ToString();
    }
}
