using System.Text.Json;
using Famfs.Cli.Verbs;
using Famfs.Client;
using Famfs.Core;
using Famfs.Core.Format;
using Famfs.ScriptedMaster;
using Famfs.TestSupport;
using Famfs.V1;
using Google.Protobuf;
using Grpc.Core;

namespace Famfs.Cli.Tests;

public sealed class FamfsCommandTests : IDisposable
{
    private static readonly Guid s_uuid = Guid.Parse("0d2f9c1a-5a0e-4c57-9d3e-0123456789ab");
    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-cli-test-").FullName;

    [Theory]
    [InlineData("", "a command is missing; see famfs --help")]
    [InlineData("nonsense", "nonsense")]
    [InlineData("creat a", "--size is missing; see famfs creat --help")]
    [InlineData("creat a --size", "--size: its value is missing")]
    [InlineData("creat --size 1", "PATH is missing; see famfs creat --help")]
    [InlineData("creat a --size 1 --uid joe", "--uid: 'joe' is not a whole number from 0 to 4294967295")]
    [InlineData("creat a --size 1 --device -1", "--device: '-1' is not a whole number from 0 to 4294967295")]
    [InlineData("creat a b --size 1", "b: unknown command or argument; see famfs creat --help")]
    [InlineData("status --mastre x", "--mastre: unknown option; see famfs status --help")]
    [InlineData("cp -q a b", "-q: unknown option; see famfs cp --help")]
    [InlineData("cp -e a b", "-e: unknown option; see famfs cp --help")]
    [InlineData("mkfs --lable x", "--lable: unknown option; see famfs mkfs --help")]
    [InlineData("mkfs --max-hosts many x", "--max-hosts: 'many' is not a whole number")]
    [InlineData("mkfs --format famfs x", "--format: 'famfs' is not native or famfs-2")]
    [InlineData("mount -o quota /x /y", "-o quota: unknown mount option; known are ro, rw, noexec, exec, cache=direct")]
    [InlineData("cp -rq a b", "-rq: unknown option -q; see famfs cp --help")]
    [InlineData("cp -rq q b", "-rq: unknown option -q")]
    [InlineData("ls -ltr a", "-ltr: unknown option -t; see famfs ls --help")]
    [InlineData("chmod -Rx 755 a", "-Rx: unknown option -x")]
    [InlineData("mkdir -p=x a", "-p=x: --parents takes no value")]
    [InlineData("mkdir --parents=no a", "--parents=no: --parents takes no value")]
    [InlineData("ls --long=x a", "--long=x: --long takes no value")]
    [InlineData("mkdir -1 a", "-1: unknown option; see famfs mkdir --help")]
    [InlineData("chown -h 0 a", "-h: is help only alone behind a command; see famfs chown --help")]
    [InlineData("ls -lh", "-h: is help only alone behind a command")]
    [InlineData("ls -- -lh", "-lh: not on a famfs mount")]
    [InlineData("ls @x", "@x: not on a famfs mount")]
    [InlineData("ls /h", "/h: not on a famfs mount")]
    [InlineData("touch -d @0 a", "a: not on a famfs mount")]
    [InlineData("mkdir -pv true", "true: not on a famfs mount")]
    [InlineData("ls -l1 a", "a: not on a famfs mount")]
    [InlineData("cp -rj4 a b", "b: not on a famfs mount")]
    [InlineData("cp -rj=4 a b", "b: not on a famfs mount")]
    [InlineData("touch -ad2026-01-01 a", "a: not on a famfs mount")]
    [InlineData("creat a --size 1 --master unix:/12345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567", "has at most 107 bytes")]
    [InlineData("ls --master ,", "--master: is empty")]
    [InlineData("sync a b", "`famfs cp -rT`")]
    [InlineData("mount -o ro,syncc /x /y", "-o syncc: unknown mount option")]
    [InlineData("fsck /x", "fsck: no verb of famfs; `famfs check`")]
    [InlineData("logplay -n /x", "logplay: no verb of famfs; ")]
    [InlineData("--master unix:/x info a", "info: no verb of famfs; `famfs stat`")]
    [InlineData("unmount /x", "`famfs umount`")]
    [InlineData("devices add /dev/x /a --on /b", "PATH and --on say the same")]
    [InlineData("creat a --size 1MB", "powers of 1024")]
    [InlineData("ls -- -x", "-x: not on a famfs mount")]
    [InlineData("mkfs --label -x", "DEVICE is missing")]
    [InlineData("creat a --size 0", "at least 1 byte")]
    [InlineData("creat a --size -1", "at least 1 byte")]
    [InlineData("creat a --size 8388608T", "2^63 - 1")]
    [InlineData("creat a --size 1 --mode 9", "octal")]
    [InlineData("creat a --size 1 --wait soon", "none, mount or all")]
    [InlineData("creat a --size 1 --interleave 0", "--interleave")]
    [InlineData("creat a --size 1 --interleave 2:3M", "power of two")]
    [InlineData("creat a --size 1 --interleave 2:2M:1", "--interleave")]
    [InlineData("creat a --size 1 --contiguous --interleave 2 --master unix:/x", "exclude")]
    [InlineData("creat a --size 1 --randomize --master unix:/x", "needs a path on a mount")]
    [InlineData("creat a --size 1 --wait mount --master unix:/x", "needs a path on a mount")]
    [InlineData("creat a --size 1 --master nonsense", "not an address")]
    [InlineData("creat a --size 1", "not on a famfs mount")]
    [InlineData("cp a", "SOURCE… DESTINATION is missing")]
    [InlineData("cp a b", "not on a famfs mount")]
    [InlineData("cp a b --master unix:/x", "needs a path on a mount")]
    [InlineData("ls -o yaml", "yaml")]
    [InlineData("ls --timeout 0", "at least 1 ms")]
    [InlineData("status", "no famfs is mounted here")]
    [InlineData("wait --position 1 --master unix:/x", "GENERATION:SEQUENCE@TERM")]
    [InlineData("wait --mount x --master unix:/x", "not a uuid")]
    [InlineData("mkfs", "DEVICE is missing; see famfs mkfs --help")]
    [InlineData("mount /x", "DEVICE… MOUNTPOINT is missing")]
    [InlineData("mount --dialect C /x /y", "--dialect C: must be auto, A, B0, B, D, stock")]
    [InlineData("log", "a command is missing; see famfs log --help")]
    public async Task A_wrong_command_line_is_one_line_and_exit_code_2(string line, string text)
    {
        (ExitCode code, string output, string error) = await RunAsync(line);

        Assert.Equal(ExitCode.Usage, code);
        Assert.StartsWith("famfs: ", error, StringComparison.Ordinal);
        Assert.Contains(text, error, StringComparison.Ordinal);
        Assert.Single(error.TrimEnd('\n').Split('\n'));
        Assert.Empty(output);
    }

    [Theory]
    [InlineData(StatusCode.NotFound, ErrorReason.NotFound, ExitCode.NotFound)]
    [InlineData(StatusCode.AlreadyExists, ErrorReason.ExistsDifferent, ExitCode.Exists)]
    [InlineData(StatusCode.ResourceExhausted, ErrorReason.NoSpace, ExitCode.NoSpace)]
    [InlineData(StatusCode.PermissionDenied, ErrorReason.HostGone, ExitCode.NotPermitted)]
    [InlineData(StatusCode.Unimplemented, ErrorReason.NotSupportedByFormat, ExitCode.NotSupported)]
    [InlineData(StatusCode.DataLoss, ErrorReason.MediaCorrupt, ExitCode.BadMedia)]
    public async Task The_masters_error_is_the_commands(StatusCode status, ErrorReason reason, ExitCode expected)
    {
        await using FakeMaster master = await FakeMaster.StartAsync(new()
        {
            Unary = (_, _) => throw FakeMaster.Error(status, new() { Reason = reason, Path = "a/b", Message = "the cause" }),
        });

        (ExitCode code, string output, string error) = await RunAsync($"stat /a/b --master {master.Address}");

        Assert.Equal(expected, code);
        Assert.Equal("famfs: a/b: the cause\n", error);
        Assert.Empty(output);
    }

    [Fact]
    public void Every_reason_has_the_exit_code_that_scripts_know()
    {
        Dictionary<ErrorReason, int> table = new()
        {
            [ErrorReason.Unspecified] = 1,
            [ErrorReason.Exists] = 4,
            [ErrorReason.ExistsDifferent] = 4,
            [ErrorReason.NotFound] = 3,
            [ErrorReason.NotADirectory] = 1,
            [ErrorReason.IsADirectory] = 1,
            [ErrorReason.NotEmpty] = 1,
            [ErrorReason.NoSpace] = 5,
            [ErrorReason.LogFull] = 5,
            [ErrorReason.Quota] = 5,
            [ErrorReason.BadPath] = 2,
            [ErrorReason.BadSize] = 2,
            [ErrorReason.BadLayout] = 2,
            [ErrorReason.BadRequest] = 2,
            [ErrorReason.NotSupportedByFormat] = 10,
            [ErrorReason.NotMaster] = 6,
            [ErrorReason.StaleGeneration] = 1,
            [ErrorReason.WrongFilesystem] = 7,
            [ErrorReason.HostGone] = 8,
            [ErrorReason.HostConflict] = 8,
            [ErrorReason.RequestExpired] = 1,
            [ErrorReason.DeviceMissing] = 7,
            [ErrorReason.MediaCorrupt] = 7,
            [ErrorReason.Timeout] = 9,
            [ErrorReason.Overloaded] = 1,
            [ErrorReason.NotImplemented] = 10,
            [ErrorReason.ReadOnly] = 8,
            [ErrorReason.NotPermitted] = 8,
        };
        foreach (ErrorReason reason in Enum.GetValues<ErrorReason>())
            Assert.Equal(table[reason], (int)ExitCodes.Of(reason));
    }

    [Fact]
    public async Task Without_a_master_the_exit_code_is_6()
    {
        (ExitCode code, _, string error) = await RunAsync("status --master unix:/nowhere/at/all --timeout 3");

        Assert.Equal(ExitCode.MasterUnreachable, code);
        Assert.Equal("famfs: no master answers at unix:/nowhere/at/all within 3 s: No such socket\n", error);
    }

    [Fact]
    public async Task Creat_sends_what_the_options_say()
    {
        CreateFileRequest? seen = null;
        await using FakeMaster master = await FakeMaster.StartAsync(new()
        {
            CreateFile = (request, _) =>
            {
                seen = request;
                return FakeMaster.Reply(request);
            },
        });

        (ExitCode code, string output, _) = await RunAsync($"creat /a/b --size 6M --mode 600 --uid 7 --gid 8 --interleave 3:4M --device 1 --device 2 --if-same --wait all --master {master.Address}");

        Assert.Equal(ExitCode.Ok, code);
        Assert.Equal("/a/b: inode 16, 6291456 bytes\n", output);
        CreateFileRequest expected = new()
        {
            RequestId = seen!.RequestId,
            Path = "a/b",
            SizeBytes = 6291456,
            Mode = 384,
            ModeSet = true,
            Uid = 7,
            Gid = 8,
            Layout = new() { Kind = LayoutKind.Interleaved, Strips = 3, ChunkBytes = 4194304, Devices = { 1, 2 } },
            IfExists = IfExists.OpenIfSame,
            Wait = new() { Kind = WaitKind.All, TimeoutMs = seen.Wait.TimeoutMs },
        };
        Assert.Equal(expected, seen);
        Assert.InRange(seen.Wait.TimeoutMs, 1u, 30_000u);
    }

    [Fact]
    public async Task The_environments_master_serves_when_no_other_is_named()
    {
        await using FakeMaster master = await FakeMaster.StartAsync(new() { CreateFile = (request, _) => FakeMaster.Reply(request) });

        (ExitCode code, _, string error) = await RunAsync("creat /a --size 1", master.Address);

        Assert.True(code == ExitCode.Ok, error);
    }

    [Fact]
    public async Task Ls_is_sorted_and_shows_no_control_characters()
    {
        await using FakeMaster master = await FakeMaster.StartAsync(new()
        {
            ListDirectory = async (request, stream) =>
            {
                Assert.Equal(("d", true), (request.Path, request.Recursive));
                await stream.WriteAsync(new() { Entries = { new V1.FileInfo { Path = "z", Kind = FileKind.File, Mode = 420, SizeBytes = 5 }, new V1.FileInfo { Path = "a\u001b[2J", Kind = FileKind.Directory, Mode = 493 } } });
            },
        });

        (ExitCode code, string output, _) = await RunAsync($"ls -R d/ --master {master.Address}");
        (_, string longOutput, _) = await RunAsync($"ls -l -R d --master {master.Address}");

        Assert.Equal(ExitCode.Ok, code);
        Assert.Equal("a\\x1b[2J/\nz\n", output);
        Assert.Contains("-0644", longOutput, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Hosts_has_what_tells_mounts_apart_and_hides_those_that_ended_in_order()
    {
        HostStatus live = new() { Name = "h", MountId = s_uuid.ToByteString(), State = HostState.Live, MountPoint = "/mnt/a", Version = "1.2.3", Dialect = "stock", Address = "10.0.0.7", LeaseMs = 30_000, LeaseRemainingMs = 12_500, MissingDevices = new() { DeviceCount = 4, Indices = { 1, 3 } } };
        HostStatus unknown = new() { Name = "u", MountId = Guid.NewGuid().ToByteString(), State = HostState.Live };
        HostStatus ended = new() { Name = "e", MountId = Guid.NewGuid().ToByteString(), State = HostState.Gone, Evidence = GoneEvidence.CleanUnmount };
        HostStatus crashed = new() { Name = "c", MountId = Guid.NewGuid().ToByteString(), State = HostState.Gone, Evidence = GoneEvidence.NewBoot };
        await using FakeMaster master = await FakeMaster.StartAsync(new() { Unary = (_, _) => Task.FromResult<IMessage>(new ListHostsReply { Hosts = { live, ended, crashed, unknown } }) });

        (_, string output, _) = await RunAsync($"hosts --master {master.Address}");
        (_, string all, _) = await RunAsync($"hosts --all --master {master.Address}");
        (_, string json, _) = await RunAsync($"hosts --json --master {master.Address}");

        string[] lines = output.TrimEnd('\n').Split('\n');
        Assert.Equal(["HOST", "MOUNT", "POINT", "STATE", "POSITION", "LAG", "SILENT", "LEASE", "HELD", "LACKS", "VERSION", "DIALECT", "ADDRESS", "MOUNT"], lines[0].Split(' ', StringSplitOptions.RemoveEmptyEntries));
        Assert.Equal(["h", "/mnt/a", "live", "-", "0", "0.0s", "12.5s", "0", "1,3", "1.2.3", "stock", "10.0.0.7", s_uuid.ToString()], lines[1].Split(' ', StringSplitOptions.RemoveEmptyEntries));
        Assert.StartsWith("c ", lines[2], StringComparison.Ordinal);
        Assert.Equal("-", lines[2].Split(' ', StringSplitOptions.RemoveEmptyEntries)[9]); // after "gone (new_boot)"; it lacks nothing any more
        Assert.Equal("?", lines[3].Split(' ', StringSplitOptions.RemoveEmptyEntries)[8]);
        Assert.Equal(4, lines.Length);
        Assert.Equal(5, all.TrimEnd('\n').Split('\n').Length);
        Assert.Equal(["[1,3]", "null", "null"], JsonDocument.Parse(json).RootElement.GetProperty("hosts").EnumerateArray().Select(h => h.GetProperty("missing_devices").GetRawText().Replace("\n", "", StringComparison.Ordinal).Replace(" ", "", StringComparison.Ordinal)));
        Assert.Equal(["10.0.0.7", "", ""], JsonDocument.Parse(json).RootElement.GetProperty("hosts").EnumerateArray().Select(h => h.GetProperty("address").GetString()));
    }

    [Fact]
    public async Task Hosts_shows_each_removed_file_that_a_mount_has_and_counts_the_others()
    {
        HostStatus many = new()
        {
            Name = "h", MountId = s_uuid.ToByteString(), State = HostState.Live, MountPoint = "/mnt/a", HeldInodes = 40, HoldsSpace = true,
            HeldFiles = { new HeldFile { Inode = 7, SpaceBytes = 2097152, Path = "d/f\n", Name = "f\n", RemoveTimeNs = 1_700_000_000_000_000_000 }, new HeldFile { Inode = 8, SpaceBytes = 4194304, Name = "g" }, new HeldFile { Inode = 9 } },
        };
        HostStatus untold = new() { Name = "u", MountId = Guid.NewGuid().ToByteString(), State = HostState.Silent, MountPoint = "/mnt/b", HoldsSpace = true };
        HostStatus older = new() { Name = "o", MountId = Guid.NewGuid().ToByteString(), State = HostState.Live, MountPoint = "/mnt/c", HeldInodes = 3, HoldsSpace = true };
        List<uint> limits = [];
        await using FakeMaster master = await FakeMaster.StartAsync(new()
        {
            Unary = (request, _) =>
            {
                limits.Add(((ListHostsRequest)request).HeldLimit);
                return Task.FromResult<IMessage>(new ListHostsReply { Hosts = { many, untold, older } });
            },
        });

        (_, string output, _) = await RunAsync($"hosts --held --master {master.Address}");
        (_, string two, _) = await RunAsync($"hosts --held --limit 2 --master {master.Address}");
        (_, string json, _) = await RunAsync($"hosts --held --limit 2 --json --master {master.Address}");
        (_, string without, _) = await RunAsync($"hosts --master {master.Address}");
        (ExitCode code, _, string error) = await RunAsync($"hosts --limit 2 --master {master.Address}");
        (ExitCode beyond, _, string limit) = await RunAsync($"hosts --held --limit 1025 --master {master.Address}");

        Assert.Equal([16u, 2, 2, 0], limits);
        string[] lines = output[output.IndexOf("HELD BY", StringComparison.Ordinal)..].TrimEnd('\n').Split('\n');
        Assert.Equal("HELD BY   INODE    BYTES  REMOVED               PATH", lines[0]);
        Assert.Equal("h /mnt/a      7  2097152  2023-11-14T22:13:20Z  d/f\\x0a", lines[1]);
        Assert.Equal("h /mnt/a      8  4194304  -                     …/g", lines[2]);
        Assert.Equal("h /mnt/a      9        0  -                     -", lines[3]);
        Assert.Equal(["h /mnt/a: and 37 more (--limit 40)", "u /mnt/b: has not told which removed files it has, so it may have any of the latest", "o /mnt/c: has 3 removed files, which this master does not name"], lines[4..]);
        Assert.Contains("h /mnt/a: and 38 more", two, StringComparison.Ordinal);
        JsonElement[] files = [.. JsonDocument.Parse(json).RootElement.GetProperty("hosts")[0].GetProperty("held_files").EnumerateArray()];
        Assert.Equal(["d/f\n", null], files.Select(f => f.GetProperty("path").GetString()));
        Assert.Equal([1_700_000_000_000_000_000L, null], files.Select(f => f.GetProperty("remove_time_ns") is { ValueKind: JsonValueKind.Number } time ? time.GetInt64() : (long?)null));
        Assert.DoesNotContain("HELD BY", without, StringComparison.Ordinal);
        Assert.Equal(ExitCode.Usage, code);
        Assert.Contains("--held", error, StringComparison.Ordinal);
        Assert.Equal(ExitCode.Usage, beyond);
        Assert.Contains("--limit 1025: must be 1 to 1024", limit, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("--json")]
    [InlineData("-o json")]
    [InlineData("--output json")]
    public async Task What_is_refused_is_one_json_object_on_stderr_when_results_are_json(string option)
    {
        await using FakeMaster master = await FakeMaster.StartAsync(new()
        {
            Unary = (_, _) => throw FakeMaster.Error(StatusCode.NotFound, new() { Reason = ErrorReason.NotFound, Path = "a/b", Message = "the \"cause\"" }),
        });

        foreach ((string line, string reason, ExitCode expected, string part) in ((string, string, ExitCode, string)[])
        [
            ($"stat /a/b --master {master.Address} {option}", "not_found", ExitCode.NotFound, "a/b: the \"cause\""),
            ($"{option} fsck /x", "bad_request", ExitCode.Usage, "famfs check"),
            ($"ls --nonsense {option}", "bad_request", ExitCode.Usage, "--nonsense"),
            ($"mount /dev/null /nowhere/mountpoint {option}", "not_found", ExitCode.NotFound, "/nowhere/mountpoint"),
            ($"mount -o quota /dev/null /nowhere/mountpoint {option}", "bad_request", ExitCode.Usage, "quota"),
        ])
        {
            (ExitCode code, string output, string error) = await RunAsync(line);

            Assert.Equal(expected, code);
            Assert.Empty(output);
            Assert.Single(error.TrimEnd('\n').Split('\n'));
            using JsonDocument document = JsonDocument.Parse(error);
            JsonElement refusal = document.RootElement.GetProperty("error");
            Assert.Equal(reason, refusal.GetProperty("reason").GetString());
            Assert.Equal((int)expected, refusal.GetProperty("exit_code").GetInt32());
            Assert.Contains(part, refusal.GetProperty("message").GetString(), StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData("mkdir a b c")]
    [InlineData("stat a b c")]
    [InlineData("rm a b c")]
    public async Task Of_several_paths_what_fails_is_named_and_the_others_are_done(string line)
    {
        List<string> asked = [];
        await using FakeMaster master = await FakeMaster.StartAsync(new()
        {
            Unary = (request, context) =>
            {
                string path = request switch { MakeDirectoryRequest make => make.Path, GetFileRequest get => get.Path, RemoveRequest remove => remove.Path, _ => "" };
                lock (asked)
                    asked.Add(path);
                return path == "b" ? throw FakeMaster.Error(StatusCode.NotFound, new() { Reason = ErrorReason.NotFound, Path = "b", Message = "is not there" }) : AnswerAsync(request, context);
            },
        });

        (ExitCode code, string output, string error) = await RunAsync($"{line} --master {master.Address}");
        (_, string json, _) = await RunAsync($"{line} --json --master {master.Address}");

        Assert.Equal((ExitCode.NotFound, "famfs: b: is not there\n"), (code, error));
        Assert.Equal(["a", "b", "c", "a", "b", "c"], asked);
        Assert.DoesNotContain("{", output, StringComparison.Ordinal);
        using JsonDocument document = JsonDocument.Parse(json);
        if (!line.StartsWith("rm", StringComparison.Ordinal))
            Assert.Equal(2, Assert.Single(document.RootElement.EnumerateObject()).Value.GetArrayLength());
    }

    [Theory]
    [InlineData("", 100_000)]
    [InlineData("-l", 100_000)]
    [InlineData("--json", 100_000)]
    [InlineData("-U", 1)]
    public async Task Of_a_large_directory_names_are_printed_while_they_come(string options, int count)
    {
        using StringWriter output = new() { NewLine = "\n" };
        int printedBeforeTheEnd = 0;
        await using FakeMaster master = await FakeMaster.StartAsync(new()
        {
            ListDirectory = async (_, stream) =>
            {
                for (int i = 0; i < count; i += 1000)
                    await stream.WriteAsync(new() { Entries = { Enumerable.Range(i, Math.Min(1000, count)).Select(n => new V1.FileInfo { Path = $"name-{n}", Kind = FileKind.File, SizeBytes = (ulong)n }) } });
                // It ends only when it was seen that something is printed before.
                using CancellationTokenSource patience = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
                patience.CancelAfter(TimeSpan.FromMinutes(1));
                while ((printedBeforeTheEnd = Length(output)) == 0)
                    await Task.Delay(5, patience.Token);
            },
        });

        (ExitCode code, _, string error) = await RunAsync($"ls {options} --timeout 5m --master {master.Address}", output: TextWriter.Synchronized(output));

        Assert.True(code == ExitCode.Ok, error);
        Assert.True(printedBeforeTheEnd > 0);
        string text = output.ToString();
        Assert.Contains($"name-{count - 1}", text, StringComparison.Ordinal);
        if (options == "--json")
            Assert.Equal(count, JsonDocument.Parse(text).RootElement.GetProperty("entries").GetArrayLength());
        else
            Assert.Equal(count + (options == "-l" ? 1 : 0), text.TrimEnd('\n').Split('\n').Length);

        static int Length(StringWriter writer) => writer.GetStringBuilder().Length;
    }

    [Fact]
    public async Task Ls_takes_what_other_ls_take_and_several_directories()
    {
        await using FakeMaster master = await FakeMaster.StartAsync(new()
        {
            ListDirectory = (request, stream) => stream.WriteAsync(new() { Entries = { new V1.FileInfo { Path = ".hidden", Kind = FileKind.File, Mode = 420 } } }),
        });

        Assert.Equal((ExitCode.Ok, "d:\n.hidden\n\ne:\n.hidden\n", ""), await RunAsync($"ls d e --master {master.Address}"));
        (ExitCode code, string output, _) = await RunAsync($"ls -la --master {master.Address}");
        Assert.Equal(ExitCode.Ok, code);
        Assert.Contains("-0644", output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Devices_are_listed_and_added_with_one_grammar()
    {
        await using FakeMaster master = await FakeMaster.StartAsync(new() { Unary = AnswerAsync });

        foreach (string where in (string[])["/", "--on /"])
        {
            (ExitCode listed, _, string error) = await RunAsync($"devices list {where} --master {master.Address}");
            Assert.True(listed == ExitCode.Ok, error);
            (ExitCode added, _, error) = await RunAsync($"devices add /dev/x {where} --master {master.Address}");
            Assert.True(added == ExitCode.Ok, error);
        }
    }

    [Theory]
    [InlineData("help", "famfs [command]")]
    [InlineData("help creat", "strips share a device")]
    [InlineData("help mount", "cache=close-to-open")]
    [InlineData("mount -h", "cache=close-to-open")]
    [InlineData("--version", ".")]
    [InlineData("version --json", "{ \"version\": \"")]
    [InlineData("--version --json", "{ \"version\": \"")]
    [InlineData("version", ".")]
    public async Task Help_and_version_are_verbs_too(string line, string part)
    {
        (ExitCode code, string output, string error) = await RunAsync(line);

        Assert.True(code == ExitCode.Ok, error);
        // Wrapped to a width of its own.
        Assert.Contains(part, string.Join(' ', output.Split((char[])[' ', '\n'], StringSplitOptions.RemoveEmptyEntries)), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Getmap_as_text_is_the_attribute_of_a_mount()
    {
        await using FakeMaster master = await FakeMaster.StartAsync(new() { Unary = AnswerAsync });

        (_, string output, _) = await RunAsync($"getmap a --master {master.Address}");

        Assert.Equal("size 100 chunk 0\n1 2097152 2097152\n", output);
    }

    [Fact]
    public async Task Policy_shows_what_is_in_force_and_sets_it()
    {
        await using FakeMaster master = await FakeMaster.StartAsync(new() { Unary = AnswerAsync });

        Assert.Equal((ExitCode.Ok, "dialect floor  none\nreuse          confirmed\n", ""), await RunAsync($"policy --master {master.Address}"));
        Assert.Equal((ExitCode.Ok, "dialect floor  B0\nreuse          confirmed\n", ""), await RunAsync($"policy --dialect-floor B0 --master {master.Address}"));
        Assert.Equal((ExitCode.Ok, "dialect floor  D\nreuse          confirmed\n", "famfs: warning: mount m speaks dialect B\n"), await RunAsync($"policy --dialect-floor D --master {master.Address}"));
        Assert.Equal((ExitCode.Ok, "dialect floor  \nreuse          lease of 6.5 s, grace 2 s\n", ""), await RunAsync($"policy --reclaim LEASE --lease 6500ms --grace 2 --master {master.Address}"));
        (ExitCode code, string output, string error) = await RunAsync($"policy --reclaim never --master {master.Address}");
        Assert.Equal((ExitCode.Usage, "", "famfs: policy of reuse 'never' is not known; confirmed or lease\n"), (code, output, error));
        Assert.Contains("dialect floor none", (await RunAsync($"status --master {master.Address}")).Output, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("stat a", "file,position")]
    [InlineData("getmap a", "devices,inode,map,position,size_bytes")]
    [InlineData("df", "capacity_bytes,devices,file_system_uuid,free_bytes,largest_free_bytes,pending_reclaim_bytes,reclaim_waits")]
    [InlineData("status", "address,capacity_bytes,devices,dialect_floor,directory_count,file_count,file_system_uuid,format,free_bytes,host_count,host_id,label,largest_free_bytes,lease_grace_ms,lease_ms,log_bytes,log_reserved_bytes,master_id,pending_reclaim_bytes,position,reclaim,reclaim_waits,segment_count,slot,subscriber_count,uptime_ms,version,warnings")]
    [InlineData("policy", "dialect_floor,lease_grace_ms,lease_ms,reclaim")]
    [InlineData("policy --dialect-floor B", "dialect_floor,lease_grace_ms,lease_ms,reclaim")]
    [InlineData("hosts", "hosts,position")]
    [InlineData("devices list", "devices")]
    [InlineData("devices add /dev/x", "device,missing_at,not_known_at,position")]
    [InlineData("wait", "mount_count,position")]
    [InlineData("wait --position 1:2@64", "mount_count,position")]
    [InlineData("mkdir -p a/b", "directory,existed,position,waited")]
    [InlineData("rm -r a b", "position,waited")]
    [InlineData("mv a b", "position,waited")]
    public async Task Json_output_is_one_document_of_a_frozen_shape_and_text_is_for_people(string line, string keys)
    {
        await using FakeMaster master = await FakeMaster.StartAsync(new() { Unary = AnswerAsync });

        (ExitCode code, string json, string error) = await RunAsync($"{line} -o json --master {master.Address}");
        Assert.Equal((ExitCode.Ok, json, ""), await RunAsync($"{line} --json --master {master.Address}"));
        (ExitCode textCode, string text, string textError) = await RunAsync($"{line} --master {master.Address}");

        Assert.True(code == ExitCode.Ok, error);
        Assert.True(textCode == ExitCode.Ok, textError);
        using JsonDocument document = JsonDocument.Parse(json);
        Assert.Equal(keys, string.Join(',', document.RootElement.EnumerateObject().Select(p => p.Name).Order(StringComparer.Ordinal)));
        Assert.DoesNotContain("{", text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_wait_that_times_out_names_who_lags()
    {
        await using FakeMaster master = await FakeMaster.StartAsync(new()
        {
            Unary = (_, _) => throw FakeMaster.Error(StatusCode.DeadlineExceeded, new()
            {
                Reason = ErrorReason.Timeout,
                Message = "not yet seen by: slow /mnt/a (lagging)",
                Lagging = { new HostStatus { Name = "slow", MountPoint = "/mnt/a", State = HostState.Lagging, LagRecords = 12 } },
            }),
        });

        (ExitCode code, _, string error) = await RunAsync($"wait --master {master.Address}");

        Assert.Equal(ExitCode.Timeout, code);
        Assert.Equal("famfs: not yet seen by: slow /mnt/a (lagging)\n", error);
    }

    [Fact]
    public async Task Mkfs_makes_a_file_system_whose_log_can_be_dumped()
    {
        string device = MakeDevice();

        (ExitCode made, string json, string error) = await RunAsync($"mkfs {device} --label hello --host-state {_directory}/state -o json");
        (ExitCode again, _, string refused) = await RunAsync($"mkfs {device} --host-state {_directory}/state");
        (ExitCode dumped, string text, _) = await RunAsync($"log dump {device}");
        (_, string records, _) = await RunAsync($"log dump {device} -o json");

        Assert.True(made == ExitCode.Ok, error);
        using JsonDocument document = JsonDocument.Parse(json);
        Assert.Equal("hello", document.RootElement.GetProperty("label").GetString());
        Assert.Equal(ExitCode.Exists, again);
        Assert.Contains("use --force", refused, StringComparison.Ordinal);
        Assert.Equal(ExitCode.Ok, dumped);
        Assert.StartsWith("1 term 64 file_system_created {", text, StringComparison.Ordinal);
        using JsonDocument log = JsonDocument.Parse(records);
        Assert.Equal(["file_system_created", "device_added", "master_slot_granted", "term_ended"], log.RootElement.GetProperty("records").EnumerateArray().Select(r => r.GetProperty("type").GetString()));
        Assert.Equal(JsonValueKind.Null, log.RootElement.GetProperty("error").ValueKind);
    }

    [Fact]
    public async Task A_dump_of_a_damaged_log_shows_what_is_good_and_fails()
    {
        string device = MakeDevice();
        await RunAsync($"mkfs {device} --max-hosts 1 --host-state {_directory}/state");
        using (FileStream file = File.OpenWrite(device))
        {
            // Device 0: superblock unit, one unit of host table, the first segment with its header.
            file.Seek(2 * MediaLayout.UnitBytes + MediaLayout.SegmentHeaderBytes + RecordFrame.HeaderBytes + 3, SeekOrigin.Begin);
            file.Write([0xFF, 0xFE]);
        }

        (ExitCode code, string output, string error) = await RunAsync($"log dump {device} -o json");

        Assert.Equal(ExitCode.BadMedia, code);
        Assert.Contains("checksum is wrong", error, StringComparison.Ordinal);
        using JsonDocument document = JsonDocument.Parse(output);
        Assert.Contains("checksum is wrong", document.RootElement.GetProperty("error").GetString(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("mkfs /nowhere/device", ExitCode.NotFound)]
    [InlineData("log dump /nowhere/device", ExitCode.NotFound)]
    [InlineData("umount /nowhere/mounted", ExitCode.NotFound)]
    [InlineData("verify /nowhere/file", ExitCode.NotFound)]
    [InlineData("mount /dev/null /nowhere/mountpoint", ExitCode.NotFound)]
    [InlineData("mount /dev/null /tmp", ExitCode.NotFound)] // famfsd is not beside this test
    [InlineData("master --device x", ExitCode.NotFound)]
    public async Task What_is_not_there_is_named(string line, ExitCode expected)
    {
        (ExitCode code, _, string error) = await RunAsync(line);

        Assert.Equal(expected, code);
        Assert.StartsWith("famfs: ", error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("mount /dev/null /nowhere/mountpoint -- -o ro")]
    [InlineData("mount -o ro,noatime,x-systemd.automount /dev/null /nowhere/mountpoint -- --workers 2")]
    [InlineData("--timeout 3 mount /dev/null /nowhere/mountpoint -- -o ro")]
    [InlineData("--master unix:/x mount /dev/null /nowhere/mountpoint -- --workers 2")]
    public async Task What_is_behind_two_dashes_of_mount_is_the_daemons_wherever_the_verb_is(string line)
    {
        (ExitCode code, _, string error) = await RunAsync(line);

        Assert.Equal((ExitCode.NotFound, "famfs: /nowhere/mountpoint: no such directory to mount on\n"), (code, error));
    }

    [Fact]
    public async Task A_mount_of_another_type_is_not_unmounted()
    {
        string table = Path.Combine(_directory, "mounts");
        File.WriteAllText(table, "10 1 0:40 / /mnt rw - tmpfs tmpfs rw\n");

        (ExitCode code, _, string error) = await RunAsync("umount /mnt/", table: table);

        Assert.Equal(ExitCode.BadMedia, code);
        Assert.Contains("tmpfs", error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Mount_gives_the_daemon_its_arguments_and_tells_what_it_said_when_it_ends()
    {
        string program = Path.Combine(_directory, "famfsd");
        File.WriteAllText(program, "#!/bin/sh\necho \"$@\" >&2\nexit 3\n");
        if (!OperatingSystem.IsWindows())
            File.SetUnixFileMode(program, (UnixFileMode)493);
        Directory.CreateDirectory(Path.Combine(_directory, "mnt"));

        string device = MakeDevice();
        Assert.Equal(ExitCode.Ok, (await RunAsync($"mkfs {device} --host-state {_directory}/state")).Code);

        (ExitCode code, _, string error) = await RunAsync($"mount {device} {_directory}/nothing* {_directory}/mnt --master unix:/m1,unix:/m2 --host-state {_directory}/state -o ro,cache=direct -o allow_other -- --workers 2", programs: _directory);

        Assert.Equal(ExitCode.Failed, code);
        Assert.Contains($"famfsd ended with code 3: {_directory}/mnt --device {device} --device {_directory}/nothing* --master unix:/m1 --master unix:/m2 --host-state {_directory}/state -o ro,cache=direct,allow-other --workers 2", error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("--master unix:/nowhere/socket", true)]
    [InlineData("", false)]
    public async Task A_mount_waits_a_while_for_a_named_master_that_is_starting(string master, bool waits)
    {
        const string Unreached = "no master is reached: Connection refused";
        string table = Path.Combine(_directory, "table");
        string place = Directory.CreateDirectory(Path.Combine(_directory, "mnt")).FullName;
        File.WriteAllText(table, "1 0 8:1 / / rw - ext4 /dev/sda rw\n");
        string program = Path.Combine(_directory, "famfsd");
        File.WriteAllText(program, $"#!/bin/sh\necho '2 1 0:50 / {place} rw - fuse.famfs famfs rw' >> {table}\nexec sleep 600\n");
        if (!OperatingSystem.IsWindows())
            File.SetUnixFileMode(program, (UnixFileMode)493);
        string device = MakeDevice();
        Assert.Equal(ExitCode.Ok, (await RunAsync($"mkfs {device} --host-state {_directory}/state")).Code);
        int asked = 0;

        (ExitCode code, string output, string error) = await RunAsync(
            $"mount {device} {place} {master} --host-state {_directory}/state --json", table: table, programs: _directory,
            answer: () => AnswerOf(place, ++asked < 4 ? Unreached : "registered"));
        using JsonDocument started = JsonDocument.Parse(output);
        using (System.Diagnostics.Process daemon = System.Diagnostics.Process.GetProcessById(started.RootElement.GetProperty("process_id").GetInt32()))
            daemon.Kill();

        Assert.Equal(ExitCode.Ok, code);
        Assert.Equal(waits ? 4 : 1, asked);
        if (waits)
            Assert.Empty(error);
        else
            Assert.Contains(Unreached, error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("mkdir -p /mnt/models/new")]
    [InlineData("ls typo")]
    [InlineData("stat /mnt/models/new")]
    public async Task A_path_on_no_mount_is_none_from_the_root_because_a_master_runs_here(string line)
    {
        string socket = Path.Combine(_directory, "master.sock");
        File.WriteAllText(socket, "");

        (ExitCode code, _, string error) = await RunAsync(line, runDirectory: _directory);

        string path = line.Split(' ')[^1];
        Assert.Equal((ExitCode.Usage, $"famfs: {path}: not on a famfs mount; for a path from the root say --master unix:{socket} or set FAMFS_MASTER\n"), (code, error));
    }

    [Fact]
    public async Task Of_a_bound_part_of_a_mount_the_log_is_that_of_its_file_system()
    {
        string table = Path.Combine(_directory, "table");
        string bound = Directory.CreateDirectory(Path.Combine(_directory, "bound")).FullName;
        string whole = Directory.CreateDirectory(Path.Combine(_directory, "whole")).FullName;
        File.WriteAllText(table, $"1 0 8:1 / / rw - ext4 /dev/sda rw\n2 1 0:50 / {whole} rw - fuse.famfs famfs rw\n3 1 0:50 /sub {bound} rw - fuse.famfs famfs rw\n");

        // The table pretends, and a directory in which devices are found stands for the mount.
        File.Move(MakeDevice(), Path.Combine(whole, "device"));
        Assert.Equal(ExitCode.Ok, (await RunAsync($"mkfs {whole}/device --host-state {_directory}/state")).Code);
        foreach (string path in (string[])[bound, $"{bound}/file", $"{whole}/a/b"])
        {
            (ExitCode code, string output, string error) = await RunAsync($"log dump {path}", table: table);
            Assert.True(code == ExitCode.Ok, error);
            Assert.StartsWith("1 term 64 file_system_created {", output, StringComparison.Ordinal);
        }
        Assert.Equal(ExitCode.Ok, (await RunAsync($"log export {_directory}/log {bound}/file", table: table)).Code);
    }

    [Fact]
    public async Task A_check_that_could_not_be_made_says_the_code_it_ends_with()
    {
        (ExitCode code, _, string error) = await RunAsync("check /nowhere/device --json");

        Assert.Equal(8, (int)code);
        using JsonDocument document = JsonDocument.Parse(error);
        Assert.Equal(8, document.RootElement.GetProperty("error").GetProperty("exit_code").GetInt32());
    }

    [Theory]
    [InlineData("-rwx", 0)]
    [InlineData("-x,go-r", 384)]
    [InlineData("g=u", 436)]
    public async Task Chmod_takes_a_mode_that_begins_with_a_dash(string mode, uint expected)
    {
        SetAttributesRequest? seen = null;
        await using FakeMaster master = await FakeMaster.StartAsync(new()
        {
            Unary = (request, context) =>
            {
                if (request is not SetAttributesRequest set)
                    return AnswerAsync(request, context);
                seen = set;
                return Task.FromResult<IMessage>(new MutationReply { Position = new() { FileSystemUuid = s_uuid.ToByteString(), Generation = 1, Sequence = 9, Term = 64 } });
            },
        });

        (ExitCode code, _, string error) = await RunAsync($"chmod {mode} a --master {master.Address}");

        // What is there is 0644, and what the umask of this process has cannot be taken by a change that names nobody.
        Assert.True(code == ExitCode.Ok, error);
        Assert.Equal(expected, seen!.Mode & ~(mode == "-rwx" ? 420 & Core.Interop.ProcessOwner.Umask : 0));
        Assert.Contains("-q: unknown option", (await RunAsync($"chmod 644 a -q --master {master.Address}")).Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("1", "@0", 0)]
    [InlineData("1", "@-5", -5_000_000_000)]
    public async Task Touch_takes_seconds_since_1970(string file, string date, long expected)
    {
        SetAttributesRequest? seen = null;
        await using FakeMaster master = await FakeMaster.StartAsync(new()
        {
            Unary = (request, context) =>
            {
                if (request is not SetAttributesRequest set)
                    return AnswerAsync(request, context);
                seen = set;
                return Task.FromResult<IMessage>(new MutationReply { Position = new() { FileSystemUuid = s_uuid.ToByteString(), Generation = 1, Sequence = 9, Term = 64 } });
            },
        });

        (ExitCode code, _, string error) = await RunAsync($"touch -d {date} {file} --master {master.Address}");

        Assert.True(code == ExitCode.Ok, error);
        Assert.Equal((expected, expected), (seen!.AccessTimeNs, seen.ModifyTimeNs));
        Assert.Contains("outside of 1677 to 2262", (await RunAsync($"touch -d @9999999999999 {file} --master {master.Address}")).Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_flag_takes_no_word_behind_it()
    {
        List<string> made = [];
        await using FakeMaster master = await FakeMaster.StartAsync(new()
        {
            Unary = (request, context) =>
            {
                if (request is MakeDirectoryRequest make)
                    made.Add($"{make.Path} {make.Parents}");
                return AnswerAsync(request, context);
            },
        });

        (ExitCode code, _, string error) = await RunAsync($"mkdir -pv true @x --master {master.Address}");

        Assert.True(code == ExitCode.Ok, error);
        Assert.Equal(["true True", "@x True"], made);
    }

    [Fact]
    public async Task Help_names_the_command_famfs()
    {
        (ExitCode code, string output, _) = await RunAsync("--help");

        Assert.Equal(ExitCode.Ok, code);
        Assert.Contains("famfs [command]", output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Content_of_a_seed_is_verified_and_a_changed_byte_is_named()
    {
        string path = Path.Combine(_directory, "file");
        File.WriteAllBytes(path, new byte[(3 << 20) + 5]);
        PatternContent.Write(path, (3 << 20) + 5, 42, TestContext.Current.CancellationToken);

        Assert.Equal(ExitCode.Ok, (await RunAsync($"verify {path} --seed 42")).Code);
        (ExitCode otherSeed, _, string first) = await RunAsync($"verify {path} --seed 43");
        Assert.Equal(ExitCode.Failed, otherSeed);
        Assert.Contains("byte 0 ", first, StringComparison.Ordinal);
        using (FileStream file = File.Open(path, FileMode.Open))
        {
            file.Seek((2 << 20) + 3, SeekOrigin.Begin);
            int was = file.ReadByte();
            file.Seek(-1, SeekOrigin.Current);
            file.WriteByte((byte)(was ^ 1));
        }
        (ExitCode changed, _, string error) = await RunAsync($"verify {path} --seed 42");
        Assert.Equal(ExitCode.Failed, changed);
        Assert.Contains("byte 2097155 ", error, StringComparison.Ordinal);
    }

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    private static Task<IMessage> AnswerAsync(IMessage request, ServerCallContext context)
    {
        ByteString uuid = s_uuid.ToByteString();
        Position position = new() { FileSystemUuid = uuid, Generation = 1, Sequence = 9, Term = 64 };
        DeviceInfo device = new() { Index = 1, DeviceUuid = uuid, LengthBytes = 1 << 30, FreeBytes = 1 << 29, Name = "d", Path = "/dev/d" };
        FileMap map = new() { Extents = { new Extent { Device = 1, OffsetBytes = 2097152, LengthBytes = 2097152 } } };
        V1.FileInfo file = new() { Inode = 20, Path = "a", Kind = FileKind.File, Mode = 420, SizeBytes = 100, Map = map };
        return Task.FromResult<IMessage>(request switch
        {
            GetFileRequest => new GetFileReply { File = file, Position = position },
            GetMapRequest => new GetMapReply { Inode = 20, SizeBytes = 100, Map = map, Devices = { device }, Position = position },
            GetStatusRequest => new GetStatusReply { FileSystemUuid = uuid, MasterId = uuid, CapacityBytes = 1 << 30, FreeBytes = 1 << 29, Devices = { device }, Position = position, DialectFloor = "none", Reclaim = ReclaimPolicy.Confirmed, Warnings = { "device 2 is missing" } },
            ListHostsRequest => new ListHostsReply { Hosts = { new HostStatus { HostId = uuid, Name = "h", MountId = uuid, State = HostState.Live, Position = position } }, Position = position },
            ListDevicesRequest => new ListDevicesReply { Devices = { device } },
            AddDeviceRequest => new AddDeviceReply { Device = device, Position = position },
            SetPolicyRequest policy => new SetPolicyReply { DialectFloor = policy.DialectFloor, Reclaim = policy.HasReclaim ? policy.Reclaim : ReclaimPolicy.Confirmed, LeaseMs = policy.LeaseMs, LeaseGraceMs = policy.LeaseGraceMs, Position = position, Warnings = { (string[])(policy.DialectFloor == "D" ? ["mount m speaks dialect B"] : []) } },
            BarrierRequest barrier => new BarrierReply { MountCount = 2, Position = barrier.Position ?? position },
            MakeDirectoryRequest make => new MakeDirectoryReply { Directory = new() { Path = make.Path, Kind = FileKind.Directory }, Position = position },
            RemoveRequest or RenameRequest => new MutationReply { Position = position },
            _ => throw new InvalidOperationException(request.Descriptor.Name),
        });
    }

    /// <summary>What a mount of this state answers to the question where a path is.</summary>
    private static byte[] AnswerOf(string place, string registration)
    {
        using MemoryStream stream = new();
        using BinaryWriter writer = new(stream);
        writer.Write((byte)0);
        writer.Write(place);
        writer.Write(true);
        writer.Write(place);
        writer.Write("/");
        writer.Write(false);
        writer.Write(0);
        writer.Write("");
        writer.Write(3);
        foreach (string text in (string[])["user.famfs.uuid", s_uuid.ToString(), "user.famfs.registration", registration, "user.famfs.master", registration == "registered" ? "unix:/found" : ""])
            writer.Write(text);
        writer.Flush();
        return stream.ToArray();
    }

    private string MakeDevice()
    {
        string device = Path.Combine(_directory, "device");
        using FileStream file = File.Create(device);
        file.SetLength(32L << 20);
        return device;
    }

    private async Task<(ExitCode Code, string Output, string Error)> RunAsync(string line, string? master = null, string? table = null, string? programs = null, TextWriter? output = null, string? runDirectory = null, Func<byte[]>? answer = null)
    {
        if (table is null)
        {
            table = Path.Combine(_directory, "no-mounts");
            File.WriteAllText(table, "1 0 8:1 / / rw - ext4 /dev/sda rw\n");
        }
        using StringWriter own = new() { NewLine = "\n" };
        using StringWriter error = new() { NewLine = "\n" };
        CliEnvironment environment = new()
        {
            Formats = TestFormats.All,
            Out = output ?? own,
            Error = error,
            Variable = name => name switch { "FAMFS_MASTER" => master, "FAMFS_RUN_DIR" => runDirectory, _ => null },
            MountTablePath = table,
            ProgramDirectory = programs ?? "/nowhere",
        };
        if (answer is not null)
            environment = environment with { AskMount = (_, _) => Task.FromResult(answer()) };
        ExitCode code = await FamfsCommand.RunAsync(line.Split(' ', StringSplitOptions.RemoveEmptyEntries), environment, TestContext.Current.CancellationToken);
        return (code, own.ToString(), error.ToString());
    }
}
