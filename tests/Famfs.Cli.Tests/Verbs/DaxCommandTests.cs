using System.Text.Json;
using Famfs.Cli.Verbs;
using Famfs.Core.Dax;
using Famfs.TestSupport;
using Famfs.TestSupport.Dax;

namespace Famfs.Cli.Tests.Verbs;

/// <summary>dax-mode, doctor, and mkfs of devices that cannot be mapped, on a host that a directory pretends to be.</summary>
public sealed class DaxCommandTests : IDisposable
{
    private readonly FakeDaxBus _bus = new("dax0.0", "dax1.0");
    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-dax-cli-").FullName;

    public DaxCommandTests()
    {
        File.WriteAllText(Path.Combine(_directory, "mounts"), "1 0 8:1 / / rw - ext4 /dev/sda rw\n");
        Directory.CreateDirectory(Path.Combine(_directory, "proc", "self"));
        Directory.CreateDirectory(Path.Combine(_directory, "proc", "sys", "kernel"));
        File.WriteAllText(Path.Combine(_directory, "proc", "sys", "kernel", "osrelease"), "7.2.13\n");
        File.WriteAllText(Path.Combine(_directory, "proc", "cpuinfo"), "processor : 0\nflags : fpu clflush clflushopt clwb\n");
        SetCapabilities("000001ffffffffff");
    }

    public void Dispose()
    {
        _bus.Dispose();
        Directory.Delete(_directory, recursive: true);
    }

    [Fact]
    public async Task The_mode_is_shown_changed_and_changed_back()
    {
        Assert.Equal((ExitCode.Ok, "dax0.0: devdax (device_dax), 266338304 bytes\ndax1.0: devdax (device_dax), 266338304 bytes\n", ""), await RunAsync("dax-mode dax0.0 dax1.0"));
        Assert.Equal((ExitCode.Ok, "dax0.0: famfs (fsdev_dax), 266338304 bytes\n", ""), await RunAsync("dax-mode famfs dax0.0"));
        (_, string json, _) = await RunAsync("dax-mode dax0.0 -o json");
        JsonElement shown = JsonDocument.Parse(json).RootElement[0];
        Assert.Equal(("famfs", "fsdev_dax", 266338304), (shown.GetProperty("mode").GetString(), shown.GetProperty("driver").GetString(), shown.GetProperty("length_bytes").GetInt64()));
        Assert.Equal(ExitCode.Ok, (await RunAsync("dax-mode devdax dax0.0")).Code);
        Assert.Equal(DaxBinding.DevDax, _bus.Binding.ReadDriver("dax0.0"));
    }

    [Theory]
    [InlineData("dax-mode famfs", ExitCode.Usage, "name a device")]
    [InlineData("dax-mode dax7.0", ExitCode.NotFound, "dax7.0: no such dax device")]
    [InlineData("dax-mode famfs dax0.0 /dev/null", ExitCode.Usage, "/dev/null: is not a dax device")]
    public async Task What_is_no_dax_device_has_no_mode_and_nothing_is_changed(string line, ExitCode expected, string text)
    {
        (ExitCode code, _, string error) = await RunAsync(line);
        Assert.Equal(expected, code);
        Assert.Contains(text, error, StringComparison.Ordinal);
        Assert.Empty(_bus.Writes);
    }

    [Fact]
    public async Task A_device_that_a_process_has_open_is_not_taken_from_it()
    {
        string process = Path.Combine(_directory, "proc", "4711");
        Directory.CreateDirectory(Path.Combine(process, "fd"));
        File.WriteAllText(Path.Combine(process, "comm"), "holder\n");
        File.WriteAllText(Path.Combine(process, "maps"), "");
        File.CreateSymbolicLink(Path.Combine(process, "fd", "5"), "/dev/dax0.0");

        (ExitCode code, _, string error) = await RunAsync("dax-mode famfs dax1.0 dax0.0");

        Assert.Equal((ExitCode.Failed, "famfs: dax0.0: in use by holder (4711); end it first\n"), (code, error));
        Assert.Empty(_bus.Writes);
    }

    [Fact]
    public async Task Of_several_devices_all_change_their_mode_or_none()
    {
        _bus.Unfit.Add("dax1.0");

        (ExitCode code, _, string error) = await RunAsync("dax-mode famfs dax0.0 dax1.0");

        Assert.Equal(ExitCode.BadMedia, code);
        Assert.Contains("dax1.0: cannot be bound to fsdev_dax", error, StringComparison.Ordinal);
        Assert.Contains("dax0.0: is bound to device_dax again", error, StringComparison.Ordinal);
        Assert.Equal((DaxBinding.DevDax, DaxBinding.DevDax), (_bus.Binding.ReadDriver("dax0.0"), _bus.Binding.ReadDriver("dax1.0")));
        Assert.Empty(_bus.Ids);
    }

    [Fact]
    public async Task A_device_that_cannot_go_back_to_its_mode_is_named()
    {
        _bus.Unfit.Add("dax1.0");
        _bus.Refused.Add("fsdev_dax/unbind dax0.0");

        (ExitCode code, _, string error) = await RunAsync("dax-mode famfs dax0.0 dax1.0");

        Assert.Equal(ExitCode.BadMedia, code);
        Assert.Contains("dax0.0: cannot be bound to device_dax", error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_device_bound_for_famfs_is_not_formatted_unless_it_may_be_rebound()
    {
        _bus.Binding.Bind("dax0.0", DaxBinding.FsDev);
        _bus.Writes.Clear();

        (ExitCode code, _, string error) = await RunAsync($"mkfs --host-state {_directory} dax0.0");

        Assert.Equal(ExitCode.BadMedia, code);
        Assert.Contains("--rebind", error, StringComparison.Ordinal);
        Assert.Empty(_bus.Writes);
    }

    [Fact]
    public async Task A_device_that_was_rebound_for_mkfs_is_bound_back_when_mkfs_fails()
    {
        _bus.Binding.Bind("dax0.0", DaxBinding.FsDev);
        _bus.Writes.Clear();

        // The name on the bus is no path, so opening it fails.
        (ExitCode code, _, string error) = await RunAsync($"mkfs --rebind --host-state {_directory} dax0.0");

        Assert.Equal((ExitCode.NotFound, "famfs: dax0.0: no such file or device\n"), (code, error));
        Assert.Contains("device_dax/bind dax0.0", _bus.Writes);
        Assert.Equal(DaxBinding.FsDev, _bus.Binding.ReadDriver("dax0.0"));
    }

    [Fact]
    public async Task A_healthy_famfs_host_misses_nothing()
    {
        _bus.Binding.Bind("dax0.0", DaxBinding.FsDev);
        FakeDaemon("""{"fuse_minor":46,"offered":"0x80040000000","dialect":"B","devices":[{"path":"/dev/dax0.0","cause":""}]}""");

        (ExitCode code, string output, string error) = await RunAsync("doctor");

        Assert.Equal((ExitCode.Ok, ""), (code, error));
        foreach (string line in (string[])[
            "kernel        7.2.13\n", "FUSE          7.46, offers 0x80040000000 (INIT_EXT, DAX_FMAP)\n", "dialect       B (the kernel has famfs; one of D, which takes devices by --push-ioctl, looks the same)\n",
            "capabilities  CAP_SYS_ADMIN yes, CAP_SYS_RAWIO yes\n", "dax drivers   device_dax yes, fsdev_dax yes\n", "write-back    clwb\n",
            "device        /dev/dax0.0: 254.0M, famfs (fsdev_dax)\n", "device        /dev/dax1.0: 254.0M, devdax (device_dax)\n",
            "note          /dev/dax1.0: is bound to device_dax", "nothing is missing\n"])
            Assert.Contains(line, output, StringComparison.Ordinal);
        Assert.Equal("--probe /dev/dax0.0", File.ReadAllText(Path.Combine(_directory, "arguments")).Trim());
    }

    [Fact]
    public async Task What_is_missing_is_named_with_its_remedy_and_is_exit_code_1()
    {
        _bus.Binding.Bind("dax0.0", DaxBinding.FsDev);
        SetCapabilities("0000000000200000");
        FakeDaemon("""{"fuse_minor":46,"offered":"0x40000000","dialect":"stock","devices":[{"path":"/dev/dax0.0","cause":""}]}""");

        (ExitCode code, string output, _) = await RunAsync("doctor dax0.0 -o json");

        Assert.Equal(ExitCode.Failed, code);
        JsonElement report = JsonDocument.Parse(output).RootElement;
        Assert.False(report.GetProperty("capabilities").GetProperty("cap_sys_rawio").GetBoolean());
        JsonElement missing = Assert.Single(report.GetProperty("missing").EnumerateArray());
        Assert.Contains("fsdev_dax, and the kernel offers no famfs", missing.GetProperty("what").GetString(), StringComparison.Ordinal);
        Assert.Contains("CAP_SYS_RAWIO", missing.GetProperty("fix").GetString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_held_device_an_absent_program_and_no_privilege_are_told_apart()
    {
        _bus.Binding.Bind("dax0.0", DaxBinding.FsDev);
        FakeDaemon("""{"fuse_minor":46,"offered":"0x80040000000","dialect":"B","devices":[{"path":"/dev/dax0.0","cause":"/dev/dax0.0: is held by another mount"}]}""");
        Assert.Contains("MISSING       /dev/dax0.0: is held by another mount", (await RunAsync("doctor dax0.0")).Output, StringComparison.Ordinal);

        File.Delete(Path.Combine(_directory, "famfsd"));
        Assert.Contains("MISSING       famfsd: not beside famfs", (await RunAsync("doctor dax0.0")).Output, StringComparison.Ordinal);

        SetCapabilities("0");
        Assert.Contains("MISSING       CAP_SYS_ADMIN is missing", (await RunAsync("doctor dax0.0")).Output, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("")]
    [InlineData("not json")]
    [InlineData("[]")]
    [InlineData("{}")]
    [InlineData("""{"error":5}""")]
    [InlineData("""{"fuse_minor":-1,"offered":"0x0","dialect":"B","devices":[]}""")]
    [InlineData("""{"fuse_minor":46,"offered":"","dialect":"B","devices":[]}""")]
    [InlineData("""{"fuse_minor":46,"offered":"0xzz","dialect":"B","devices":[]}""")]
    [InlineData("""{"fuse_minor":46,"offered":"0x0","dialect":null,"devices":[]}""")]
    [InlineData("""{"fuse_minor":46,"offered":"0x0","dialect":"B","devices":[{"path":1}]}""")]
    public async Task An_answer_that_is_none_is_complained_of_and_the_rest_is_said(string answer)
    {
        FakeDaemon(answer);
        (ExitCode code, string output, string error) = await RunAsync("doctor");
        Assert.Equal((ExitCode.Failed, ""), (code, error));
        Assert.Contains("--probe ended with 0", output, StringComparison.Ordinal);
        Assert.Contains("device        /dev/dax0.0: 254.0M", output, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("whole")]
    [InlineData("whole/sub")]
    [InlineData("bound")]
    [InlineData("bound/file")]
    public async Task Any_path_on_a_mount_stands_for_it(string path)
    {
        FakeDaemon("""{"fuse_minor":46,"offered":"0x80040000000","dialect":"B","devices":[]}""");
        Directory.CreateDirectory(Path.Combine(_directory, "whole", "sub"));
        Directory.CreateDirectory(Path.Combine(_directory, "bound"));
        File.WriteAllText(Path.Combine(_directory, "bound", "file"), "x");
        File.AppendAllText(Path.Combine(_directory, "mounts"), $"2 1 0:50 / {_directory}/whole rw - fuse.famfs famfs rw\n3 1 0:50 /sub {_directory}/bound rw - fuse.famfs famfs rw\n");

        (ExitCode code, string output, string error) = await RunAsync($"doctor {_directory}/{path}");

        Assert.Equal((ExitCode.Ok, ""), (code, error));
        Assert.Contains($"mount         {_directory}/{path.Split('/')[0]}, dialect stock\n", output, StringComparison.Ordinal);
        Assert.DoesNotContain("device        ", output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_mount_that_cannot_be_looked_at_is_noted_and_no_complaint()
    {
        FakeDaemon("""{"fuse_minor":46,"offered":"0x80040000000","dialect":"B","devices":[]}""");
        File.AppendAllText(Path.Combine(_directory, "mounts"), $"2 1 0:50 / {_directory}/not-there rw - fuse.famfs famfs rw\n");
        (ExitCode code, string output, string error) = await RunAsync("doctor");
        Assert.Equal((ExitCode.Ok, ""), (code, error));
        Assert.Contains("which devices that mount has is not known", output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_program_that_cannot_be_run_is_complained_of()
    {
        FakeDaemon("{}");
        File.WriteAllText(Path.Combine(_directory, "famfsd"), "no program");
        (ExitCode code, string output, string error) = await RunAsync("doctor");
        Assert.Equal((ExitCode.Failed, ""), (code, error));
        Assert.Contains("famfsd: cannot be run", output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_host_that_shows_nothing_of_itself_gets_an_answer()
    {
        Directory.Delete(Path.Combine(_directory, "proc"), recursive: true);
        Directory.CreateDirectory(Path.Combine(_directory, "proc"));
        Directory.Delete(Path.Combine(_bus.Root, "bus"), recursive: true);
        (ExitCode code, string output, string error) = await RunAsync("doctor");
        Assert.Equal((ExitCode.Failed, ""), (code, error));
        Assert.Contains("no dax device on this host", output, StringComparison.Ordinal);
        Assert.Contains("CAP_SYS_ADMIN is missing", output, StringComparison.Ordinal);
        Directory.CreateDirectory(Path.Combine(_bus.Root, "bus")); // for its end
    }

    private void SetCapabilities(string bits) => File.WriteAllText(Path.Combine(_directory, "proc", "self", "status"), $"Name:\tfamfs\nCapEff:\t{bits}\n");

    private void FakeDaemon(string answer)
    {
        string path = Path.Combine(_directory, "famfsd");
        File.WriteAllText(path, $"#!/bin/sh\necho \"$@\" > {_directory}/arguments\necho '{answer}'\n");
        if (!OperatingSystem.IsWindows())
            File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
    }

    private async Task<(ExitCode Code, string Output, string Error)> RunAsync(string line)
    {
        using StringWriter output = new() { NewLine = "\n" };
        using StringWriter error = new() { NewLine = "\n" };
        CliEnvironment environment = new()
        {
            Formats = TestFormats.All,
            Out = output,
            Error = error,
            Variable = _ => null,
            MountTablePath = Path.Combine(_directory, "mounts"),
            ProcPath = Path.Combine(_directory, "proc"),
            RunPath = Path.Combine(_directory, "run"),
            DaxBinding = _bus.Binding,
            ProgramDirectory = _directory,
        };
        ExitCode code = await FamfsCommand.RunAsync(line.Split(' ', StringSplitOptions.RemoveEmptyEntries), environment, TestContext.Current.CancellationToken);
        return (code, output.ToString(), error.ToString());
    }
}
