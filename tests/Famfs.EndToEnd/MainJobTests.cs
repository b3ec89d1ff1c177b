using System.Buffers.Binary;
using System.Globalization;
using Famfs.Client;
using Famfs.Core;
using Famfs.Core.Check;
using Famfs.V1;
using Xunit;

namespace Famfs.EndToEnd;

/// <summary>The main job with real masters, daemons, mounts and faults.</summary>
[Trait("Programs", "Both")]
public sealed class MainJobTests
{
    private const int FileBytes = 4096;

    [Fact]
    public async Task Ten_thousand_files_of_four_clients_are_on_both_hosts_with_their_content_and_without_overlap()
    {
        const int Clients = 4;
        const int FilesEach = 2500;
        using Cluster cluster = Cluster.Create(deviceBytes: 16L << 30);
        string master = cluster.StartMaster("a").Address;
        string a = cluster.Mount("a", master).Path;
        string b = cluster.Mount("b", master).Path;

        await Parallel.ForAsync(0, Clients, TestContext.Current.CancellationToken, async (c, cancel) =>
        {
            using FamfsClient client = Cluster.Connect(master);
            await client.MakeDirectoryAsync(new() { Path = $"c{c}" }, cancel: cancel);
            for (int i = 0; i < FilesEach; i++)
                await client.CreateFileAsync(new() { Path = $"c{c}/f{i}", SizeBytes = FileBytes, Layout = new() { Kind = i % 8 == 0 ? LayoutKind.Interleaved : LayoutKind.Auto } }, cancel: cancel);
        });
        using (FamfsClient client = Cluster.Connect(master))
            Assert.Equal(2u, (await client.BarrierAsync(new(), cancel: TestContext.Current.CancellationToken)).MountCount);

        for (int c = 0; c < Clients; c++)
        {
            for (int i = 0; i < FilesEach; i++)
                Write(Path.Combine(a, $"c{c}", $"f{i}"), (c * FilesEach) + i);
        }
        for (int c = 0; c < Clients; c++)
        {
            Assert.Equal(FilesEach, Directory.GetFiles(Path.Combine(b, $"c{c}")).Length);
            for (int i = 0; i < FilesEach; i++)
                Assert.Equal((c * FilesEach) + i, Read(Path.Combine(b, $"c{c}", $"f{i}")));
        }
        CheckResult check = cluster.Check();
        Assert.Empty(check.Findings);
        Assert.Equal(Clients * FilesEach, check.Files);
    }

    [Fact]
    public async Task A_killed_master_loses_nothing_acknowledged_and_the_mounts_go_on_serving()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 8L << 30);
        (ServerProcess process, string address) = cluster.StartMaster("a");
        string a = cluster.Mount("a", address).Path;
        List<string> acknowledged = [];
        using (FamfsClient client = new(new FamfsClientOptions { Addresses = [address], Timeout = TimeSpan.FromSeconds(5) }))
        {
            Task killing = Task.CompletedTask;
            try
            {
                for (int i = 0; i < 100_000; i++)
                {
                    await client.CreateFileAsync(new() { Path = $"f{i}", SizeBytes = FileBytes }, cancel: TestContext.Current.CancellationToken);
                    acknowledged.Add($"f{i}");
                    if (i == 300)
                        killing = Task.Run(() => process.Signal("KILL"), TestContext.Current.CancellationToken);
                }
                Assert.Fail("the master survived its kill");
            }
            catch (FamfsException)
            {
                await killing;
            }
        }
        process.AwaitExit();
        Write(Path.Combine(a, "f0"), 17);
        Assert.Equal(17, Read(Path.Combine(a, "f0")));

        string second = cluster.StartMaster("a").Address;
        using FamfsClient again = Cluster.Connect(second);
        foreach (string path in acknowledged)
            Assert.Equal((ulong)FileBytes, (await again.GetFileAsync(new() { Path = path }, cancel: TestContext.Current.CancellationToken)).File.SizeBytes);
        await again.CreateFileAsync(new() { Path = "after", SizeBytes = FileBytes }, cancel: TestContext.Current.CancellationToken);
        // The daemon knows only the old address; it follows the log in memory.
        Cluster.Await("the file of the second master", () => File.Exists(Path.Combine(a, "after")));
        Assert.All(acknowledged, path => Assert.True(File.Exists(Path.Combine(a, path))));
        Assert.Empty(cluster.Check().Findings);
    }

    [Fact]
    public async Task A_second_master_refuses_and_with_take_over_deposes_the_first_for_good()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 1L << 30);
        (ServerProcess first, string firstAddress) = cluster.StartMaster("a");
        string a = cluster.Mount("a", firstAddress).Path;
        cluster.Famfs("master-slot", "--master", firstAddress, "--host-state", cluster.StateOf("b"));
        using FamfsClient toFirst = new(new FamfsClientOptions { Addresses = [firstAddress], Timeout = TimeSpan.FromSeconds(10) });
        await toFirst.CreateFileAsync(new() { Path = "before", SizeBytes = FileBytes }, cancel: TestContext.Current.CancellationToken);

        ServerProcess refused = cluster.LaunchMaster("b").Process;
        Assert.Equal(1, refused.AwaitExit());
        Assert.Contains("is running", refused.Output, StringComparison.Ordinal);
        Assert.Contains("--take-over", refused.Output, StringComparison.Ordinal);
        await toFirst.CreateFileAsync(new() { Path = "still", SizeBytes = FileBytes }, cancel: TestContext.Current.CancellationToken);

        first.Signal("STOP");
        string secondAddress = cluster.StartMaster("b", "--take-over").Address;
        using FamfsClient toSecond = Cluster.Connect(secondAddress);
        await toSecond.CreateFileAsync(new() { Path = "second", SizeBytes = FileBytes }, cancel: TestContext.Current.CancellationToken);
        Task<CreateFileReply> late = toFirst.CreateFileAsync(new() { Path = "late", SizeBytes = FileBytes }, cancel: TestContext.Current.CancellationToken);
        first.Signal("CONT");
        await Assert.ThrowsAsync<FamfsException>(() => late);
        Assert.Equal(1, first.AwaitExit());

        await toSecond.CreateFileAsync(new() { Path = "third", SizeBytes = FileBytes }, cancel: TestContext.Current.CancellationToken);
        Cluster.Await("the second master's files on the mount", () => File.Exists(Path.Combine(a, "third")));
        foreach (string path in (string[])["before", "still", "second", "third"])
            Assert.Equal(path, (await toSecond.GetFileAsync(new() { Path = path }, cancel: TestContext.Current.CancellationToken)).File.Path);
        Assert.False(File.Exists(Path.Combine(a, "late")));
        Assert.Empty(cluster.Check().Findings);
    }

    [Fact]
    public async Task A_master_told_to_stop_ends_its_term_and_its_streams_in_order()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 256L << 20);
        (ServerProcess process, string address) = cluster.StartMaster("a");
        string a = cluster.Mount("a", address).Path;
        using (FamfsClient client = Cluster.Connect(address))
            await client.CreateFileAsync(new() { Path = "f", SizeBytes = FileBytes }, cancel: TestContext.Current.CancellationToken);
        process.Signal("TERM");
        Assert.Equal(0, process.AwaitExit());
        Assert.Contains("term_ended", cluster.Famfs(["log", "dump", .. cluster.Devices]).Split('\n', StringSplitOptions.RemoveEmptyEntries)[^1], StringComparison.Ordinal);
        Cluster.Await("the file on the mount", () => File.Exists(Path.Combine(a, "f")));
    }

    [Fact]
    public void A_daemon_told_to_stop_unmounts_and_is_gone_from_the_table()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        string master = cluster.StartMaster("a").Address;
        (ServerProcess daemon, string path) = cluster.Mount("a", master);
        daemon.Signal("TERM");
        Assert.Equal(0, daemon.AwaitExit());
        Assert.DoesNotContain($" {path} ", File.ReadAllText("/proc/self/mounts"), StringComparison.Ordinal);
        Cluster.Await("the end of the mount in the table", () => cluster.Famfs("hosts", "--all", "--master", master).Contains("gone", StringComparison.Ordinal));
        Assert.StartsWith("0 mount(s)", cluster.Famfs("wait", "--master", master), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("Famfs.Cli", "famfs")]
    [InlineData("Famfs.Master", "famfs-master")]
    [InlineData("Famfs.Fuse", "famfsd")]
    public void Each_program_says_its_version_and_its_options(string project, string name)
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        ServerProcess version = cluster.Launch(project, name, ["--version"]);
        Assert.Equal(0, version.AwaitExit());
        Assert.StartsWith("0.1.0", version.Output, StringComparison.Ordinal);
        ServerProcess help = cluster.Launch(project, name, ["--help"]);
        Assert.Equal(0, help.AwaitExit());
        Assert.Contains($"  {name} ", help.Output, StringComparison.Ordinal);
        ServerProcess wrong = cluster.Launch(project, name, ["--no-such-option"]);
        Assert.NotEqual(0, wrong.AwaitExit());
    }

    [Theory]
    [InlineData("Famfs.Cli", "famfs", 64)]
    [InlineData("Famfs.Cli", "famfs", 100)]
    [InlineData("Famfs.Master", "famfs-master", 64)]
    [InlineData("Famfs.Fuse", "famfsd", 64)]
    [InlineData("Famfs.Fuse", "famfsd", 200)]
    public void Too_few_files_that_may_be_open_are_one_line(string project, string name, int files)
    {
        using ServerProcess limited = new("/bin/sh", ["-c", "ulimit -n $0; exec \"$1\" --version", files.ToString(CultureInfo.InvariantCulture), Cluster.Program(project, name)]);
        Assert.Equal(1, limited.AwaitExit());
        Assert.Equal($"{name}: {files} files may be open, ", Assert.Single(limited.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries))[..$"{name}: {files} files may be open, ".Length]);
    }

    [Fact]
    public void A_killed_daemon_leaves_a_mount_that_umount_cleans()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 256L << 20);
        string master = cluster.StartMaster("a").Address;
        (ServerProcess daemon, string path) = cluster.Mount("a", master);
        daemon.Signal("KILL");
        daemon.AwaitExit();
        Assert.Contains($" {path} ", File.ReadAllText("/proc/self/mounts"), StringComparison.Ordinal);
        cluster.Famfs("umount", path);
        Assert.DoesNotContain($" {path} ", File.ReadAllText("/proc/self/mounts"), StringComparison.Ordinal);
        Assert.True(Directory.Exists(cluster.Mount("a", master).Path));
    }

    [Theory]
    [InlineData(3, "devices list --master http://127.0.0.1:1 --timeout 1")]
    public void Errors_are_one_line(int lines, string arguments)
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        (int exit, string output) = cluster.TryFamfs(arguments.Split(' '));
        Assert.NotEqual(0, exit);
        Assert.StartsWith("famfs: ", output, StringComparison.Ordinal);
        Assert.InRange(output.Split('\n', StringSplitOptions.RemoveEmptyEntries).Length, 1, lines);
    }

    [Fact]
    public void Mkfs_refuses_a_valid_file_system_and_changes_nothing()
    {
        using Cluster cluster = Cluster.Create(deviceBytes: 64L << 20);
        byte[] before = Head(cluster.Devices[0]);
        (int exit, string output) = cluster.TryFamfs(["mkfs", "--host-state", cluster.StateOf("a"), .. cluster.Devices]);
        Assert.Equal(4, exit);
        Assert.Contains("--force", output, StringComparison.Ordinal);
        Assert.Equal(before, Head(cluster.Devices[0]));
    }

    private static byte[] Head(string path)
    {
        using FileStream file = File.OpenRead(path);
        byte[] head = new byte[8 << 20];
        file.ReadExactly(head);
        return head;
    }

    private static void Write(string path, int value)
    {
        byte[] content = new byte[FileBytes];
        BinaryPrimitives.WriteInt32LittleEndian(content.AsSpan(FileBytes - 8), value);
        using FileStream file = new(path, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite, bufferSize: 0);
        file.Write(content);
    }

    private static int Read(string path)
    {
        byte[] content = new byte[FileBytes];
        using FileStream file = new(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite, bufferSize: 0);
        file.ReadExactly(content);
        return BinaryPrimitives.ReadInt32LittleEndian(content.AsSpan(FileBytes - 8));
    }
}
