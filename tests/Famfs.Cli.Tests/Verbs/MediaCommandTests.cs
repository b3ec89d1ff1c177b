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
        Assert.Equal(3, records[4].GetProperty("payload").GetProperty("inode").GetInt64());
    }

    [Fact]
    public async Task A_dump_has_names_as_text_and_ids_as_uuids_by_the_names_of_the_records()
    {
        string label = Path.Combine(_directory, "native");
        File.WriteAllBytes(label, new byte[Units * Famfs2Image.Unit]);
        using JsonDocument made = JsonDocument.Parse(await RequireAsync(0, "mkfs", "--label", "a label", "--host-state", _directory, "--json", label));
        string uuid = made.RootElement.GetProperty("file_system_uuid").GetString()!;

        using JsonDocument dump = JsonDocument.Parse(await RequireAsync(0, "log", "dump", "--json", label));
        JsonElement first = dump.RootElement.GetProperty("records")[0].GetProperty("payload");
        Assert.Equal(uuid, first.GetProperty("file_system_uuid").GetString());
        Assert.Equal(made.RootElement.GetProperty("host_id").GetString(), first.GetProperty("host_id").GetString());
        foreach (JsonElement record in dump.RootElement.GetProperty("records").EnumerateArray())
        {
            foreach (JsonProperty field in record.GetProperty("payload").EnumerateObject())
                Assert.Matches("^[a-z][a-z0-9_]*$", field.Name);
        }
        Assert.Contains($"\"file_system_uuid\":\"{uuid}\"", await RequireAsync(0, "log", "dump", label), StringComparison.Ordinal);

        // Names are bytes; what is no UTF-8 is shown as it is written in a shell.
        using JsonDocument old = JsonDocument.Parse(await RequireAsync(0, "log", "dump", "--json", _device));
        Assert.Contains("d", old.RootElement.GetProperty("records").EnumerateArray().Select(r => r.GetProperty("payload").TryGetProperty("name", out JsonElement name) ? name.GetString() : ""));
        Assert.Equal("""{"name":"a\\xff/é","mode":420}""", RecordJson.Format(new V1.DirectoryMade { Name = Google.Protobuf.ByteString.CopyFrom([(byte)'a', 0xff, (byte)'/', 0xc3, 0xa9]), Mode = 420 }));
        Assert.Equal("""{"evidence":"clean_unmount"}""", RecordJson.Format(new V1.HostGone { Evidence = V1.GoneEvidence.CleanUnmount }));
    }

    /// <summary>A mount in a container, say, whose lock on its own node of the device is not seen here.</summary>
    [Fact]
    public async Task Mkfs_writes_over_no_file_system_that_a_lock_of_this_host_says_is_in_use()
    {
        string native = Path.Combine(_directory, "native");
        File.WriteAllBytes(native, new byte[Units * Famfs2Image.Unit]);
        using JsonDocument made = JsonDocument.Parse(await RequireAsync(0, "mkfs", "--host-state", _directory, "--json", native));
        Core.HostLocks locks = Core.HostLocks.In(_directory);
        Assert.True(locks.TryLock(made.RootElement.GetProperty("file_system_uuid").GetGuid(), Core.Term.SlotCount + 7, 1, out IDisposable? held));
        byte[] before = await File.ReadAllBytesAsync(native, TestContext.Current.CancellationToken);
        await RequireAsync(4, "mkfs", "--force", "--host-state", _directory, native);
        Assert.Equal(before, await File.ReadAllBytesAsync(native, TestContext.Current.CancellationToken));
        held.Dispose();
        await RequireAsync(0, "mkfs", "--force", "--host-state", _directory, native);
    }

    [Fact]
    public async Task Several_devices_of_famfs_2_are_warned_of()
    {
        string[] devices = [Path.Combine(_directory, "first"), Path.Combine(_directory, "second")];
        foreach (string device in devices)
            File.WriteAllBytes(device, new byte[Units * Famfs2Image.Unit]);

        string several = await RequireAsync(0, ["mkfs", "--format", "famfs-2", "--force", .. Identity("famfs-2"), .. devices]);
        string single = await RequireAsync(0, ["mkfs", "--format", "famfs-2", "--force", .. Identity("famfs-2"), devices[0]]);
        string native = await RequireAsync(0, ["mkfs", "--force", .. Identity("native"), .. devices]);

        Assert.Contains("famfs: warning: famfs-2: several devices are of no use to the existing tools", several, StringComparison.Ordinal);
        Assert.DoesNotContain("warning", single, StringComparison.Ordinal);
        Assert.DoesNotContain("warning", native, StringComparison.Ordinal);
        Assert.Single(Famfs2Format.Instance.FindWarnings(2).Except(Famfs2Format.Instance.FindWarnings(1)));
    }

    [Fact]
    public async Task What_a_full_file_system_does_not_take_is_said_and_nothing_is_left_there()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "mounting a small file system needs root");
        string small = Directory.CreateDirectory(Path.Combine(_directory, "small")).FullName;
        using (System.Diagnostics.Process mounting = System.Diagnostics.Process.Start("mount", ["-t", "tmpfs", "-o", "size=64k", "none", small]))
            await mounting.WaitForExitAsync(TestContext.Current.CancellationToken);
        try
        {
            // A device with holes that its file system has no room for.
            string holes = Path.Combine(small, "holes");
            using (FileStream file = File.Create(holes))
                file.SetLength(32L << 20);
            string fault = await RequireAsync(7, "mkfs", "--host-state", _directory, holes);
            Assert.Contains("is full", fault, StringComparison.Ordinal);
            Assert.Contains("poisoned or gone", fault, StringComparison.Ordinal);
            Assert.Single(fault.TrimEnd('\n').Split('\n'));

            // A state directory.
            File.Delete(holes);
            using (FileStream filler = new(Path.Combine(small, "filler"), FileMode.CreateNew, FileAccess.Write, FileShare.None, bufferSize: 0))
                Assert.Throws<IOException>(() => filler.Write(new byte[1 << 20]));
            string blank = Path.Combine(_directory, "blank");
            File.WriteAllBytes(blank, new byte[Units * Famfs2Image.Unit]);
            Assert.Contains("the host id cannot be kept", await RequireAsync(8, "mkfs", "--host-state", small, blank), StringComparison.Ordinal);
            Assert.Contains("the system uuid cannot be kept", await RequireAsync(2, "mkfs", "--format", "famfs-2", "--system-uuid-file", Path.Combine(small, "system_uuid"), blank), StringComparison.Ordinal);
            Assert.Equal(["filler"], Directory.GetFileSystemEntries(small).Select(Path.GetFileName));
        }
        finally
        {
            using System.Diagnostics.Process unmounting = System.Diagnostics.Process.Start("umount", [small]);
            await unmounting.WaitForExitAsync(CancellationToken.None);
        }
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
        string imported = await RequireAsync(0, "log", "import", export, _device, "--host-state", _directory);
        Assert.Contains("the bytes of 2 file(s) are whatever the memory holds", imported, StringComparison.Ordinal);
        Assert.Contains("1 of 1 device(s) had nothing of this file system before", imported, StringComparison.Ordinal);
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
