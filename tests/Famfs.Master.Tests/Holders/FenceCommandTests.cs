using System.Globalization;
using System.Runtime.Versioning;
using Famfs.Master.Holders;
using Xunit;

namespace Famfs.Master.Tests.Holders;

[SupportedOSPlatform("linux")]
public sealed class FenceCommandTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-fence-").FullName;
    private readonly Guid _fileSystem = Guid.NewGuid();
    private readonly SilentHost _host = new(Guid.NewGuid(), "node7\n", Guid.NewGuid(), TimeSpan.FromSeconds(61.9), [new(Guid.NewGuid(), "/mnt/a b\n", 1), new(Guid.NewGuid(), "", 2)]);

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Fact]
    public async Task It_learns_whom_by_its_environment_and_code_0_is_success()
    {
        FenceOutcome outcome = await RunAsync("echo $#; env | grep ^FAMFS_FENCE_ | sort; echo \"$FAMFS_FENCE_MOUNTS\" | wc -l; echo oops >&2; cat; [ $PWD = / ]");
        Assert.Null(outcome.Failure);
        string[] expected =
        [
            "0",
            $"FAMFS_FENCE_BOOT_ID={_host.Boot}",
            $"FAMFS_FENCE_FILE_SYSTEM={_fileSystem}",
            $"FAMFS_FENCE_HOST_ID={_host.Host}",
            "FAMFS_FENCE_HOST_NAME=node7\\x0a",
            $"FAMFS_FENCE_MOUNTS={_host.Mounts[0].Mount} /mnt/a b\\x0a",
            "FAMFS_FENCE_SILENT_SECONDS=61",
        ];
        Assert.Equal([.. expected, "2", "oops"], outcome.Output.ToArray());
    }

    [Theory]
    [InlineData("exit 3", "ended with code 3")]
    [InlineData("kill -9 $$", "ended with code 137")]
    [InlineData("echo half; exit 255", "ended with code 255")]
    public async Task Any_other_end_proves_nothing(string script, string failure) => Assert.Equal(failure, (await RunAsync(script)).Failure);

    [Fact]
    public async Task What_cannot_be_started_proves_nothing()
    {
        string missing = Path.Combine(_directory, "missing");
        Assert.Equal("is not there", FenceCommand.FindFault(missing));
        Assert.StartsWith("cannot be started", (await Command(missing).RunAsync(_host, Cancel)).Failure, StringComparison.Ordinal);
        string plain = Path.Combine(_directory, "plain");
        await File.WriteAllTextAsync(plain, "#!/bin/sh\n", Cancel);
        Assert.Equal("is not executable", FenceCommand.FindFault(plain));
        Assert.Equal("is a directory", FenceCommand.FindFault(_directory));
        Assert.StartsWith("cannot be started", (await Command(_directory).RunAsync(_host, Cancel)).Failure, StringComparison.Ordinal);
        Assert.Null(FenceCommand.FindFault("/bin/sh"));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task It_ends_with_its_children_after_its_time_and_with_the_master(bool cancelled)
    {
        string pids = Path.Combine(_directory, "pids");
        string script = Write($"sleep 1000 & echo $! $$ > {pids}.new; mv {pids}.new {pids}; wait");
        using CancellationTokenSource stop = CancellationTokenSource.CreateLinkedTokenSource(Cancel);
        Task<FenceOutcome> run = Command(script, TimeSpan.FromSeconds(cancelled ? 1000 : 2)).RunAsync(_host, stop.Token);
        await AwaitAsync(() => File.Exists(pids) || run.IsCompleted);
        int[] ids = [.. (await File.ReadAllTextAsync(pids, Cancel)).Split().Where(w => w.Length > 0).Select(w => int.Parse(w, CultureInfo.InvariantCulture))];
        if (cancelled)
        {
            await stop.CancelAsync();
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => run);
        }
        else
        {
            Assert.Equal("did not end within 2 s", (await run).Failure);
        }
        foreach (int id in ids)
            await AwaitAsync(() => !Runs(id));
    }

    [Fact]
    public async Task So_much_of_its_output_is_kept_and_all_is_read()
    {
        FenceOutcome outcome = await RunAsync("yes 0123456789 | head -c 1000000; echo end >&2");
        Assert.Null(outcome.Failure);
        Assert.Equal(FenceCommand.MaxOutputLines + 1, outcome.Output.Count);
        Assert.Equal("… (cut)", outcome.Output[^1]);
        outcome = await RunAsync("head -c 1000000 /dev/zero | tr '\\0' x");
        Assert.Equal([new string('x', FenceCommand.MaxOutputBytes), "… (cut)"], outcome.Output);
    }

    [Fact]
    public async Task A_process_that_it_leaves_holds_nothing_up()
    {
        string pid = Path.Combine(_directory, "pid");
        FenceOutcome outcome = await RunAsync($"echo off; setsid sleep 1000 & echo $! > {pid}");
        Assert.Null(outcome.Failure);
        Assert.Equal(["off"], outcome.Output);
        int id = int.Parse(await File.ReadAllTextAsync(pid, Cancel), CultureInfo.InvariantCulture);
        using System.Diagnostics.Process left = System.Diagnostics.Process.GetProcessById(id);
        left.Kill();
    }

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    private static bool Runs(int id)
    {
        try
        {
            string stat = File.ReadAllText($"/proc/{id}/stat");
            return stat[stat.LastIndexOf(')') + 2] != 'Z';
        }
        catch (IOException)
        {
            return false;
        }
    }

    private static async Task AwaitAsync(Func<bool> condition)
    {
        long start = TimeProvider.System.GetTimestamp();
        while (!condition())
        {
            Assert.True(TimeProvider.System.GetElapsedTime(start) < TimeSpan.FromSeconds(60), "it does not happen");
            await Task.Delay(5, Cancel);
        }
    }

    private FenceCommand Command(string program, TimeSpan? timeout = null) => new(program, timeout ?? TimeSpan.FromMinutes(1), _fileSystem, TimeProvider.System);

    private Task<FenceOutcome> RunAsync(string script) => Command(Write(script)).RunAsync(_host, Cancel);

    private string Write(string script)
    {
        string path = Path.Combine(_directory, $"{Guid.NewGuid():N}.sh");
        // Written by another process: a file that is open for writing while this one starts a program cannot be executed.
        using System.Diagnostics.Process write = System.Diagnostics.Process.Start("/bin/sh", ["-c", "printf '#!/bin/sh\\n%s\\n' \"$1\" > \"$2\" && chmod 755 \"$2\"", "sh", script, path]);
        write.WaitForExit();
        Assert.Equal(0, write.ExitCode);
        return path;
    }
}
