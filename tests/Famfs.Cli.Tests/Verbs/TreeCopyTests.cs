using Famfs.Cli.Verbs;
using Famfs.Core;
using Famfs.V1;

namespace Famfs.Cli.Tests.Verbs;

public sealed class TreeCopyTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-copy-test-").FullName;

    [Fact]
    public async Task A_tree_arrives_whole()
    {
        Write("src/a", 5 << 20, 1);
        Write("src/sub/b", 100, 2);
        Directory.CreateDirectory(At("src/empty"));
        PlainMaker maker = new();

        TreeCopyResult result = await CopyAsync(maker, At("src"), At("dst"));

        Assert.Empty(result.Errors);
        Assert.Equal((2L, 3L, (5L << 20) + 100, 0L), (result.Files, result.Directories, result.WrittenBytes, result.SameBytes));
        Assert.Equal(File.ReadAllBytes(At("src/a")), File.ReadAllBytes(At("dst/a")));
        Assert.Equal(File.ReadAllBytes(At("src/sub/b")), File.ReadAllBytes(At("dst/sub/b")));
        Assert.True(Directory.Exists(At("dst/empty")));
    }

    [Fact]
    public async Task A_second_run_writes_only_what_differs()
    {
        Write("src/a", 9 << 20, 1);
        PlainMaker maker = new();
        await CopyAsync(maker, At("src"), At("dst"));
        using (FileStream torn = File.OpenWrite(At("dst/a")))
        {
            torn.Seek((4 << 20) + 17, SeekOrigin.Begin);
            torn.Write(new byte[100]);
        }

        // The destination exists now, so the same command copies into it: the plan is made by hand.
        TreeCopyResult result = await new TreeCopy(maker, 3).RunAsync([new(At("src/a"), At("dst/a"), false, 9 << 20, default)], null, TestContext.Current.CancellationToken);

        Assert.Equal((2L << 20, 7L << 20), (result.WrittenBytes, result.SameBytes));
        Assert.Equal(File.ReadAllBytes(At("src/a")), File.ReadAllBytes(At("dst/a")));
        Assert.Equal(1, maker.FilesMade);
    }

    [Fact]
    public async Task A_copy_that_was_cut_off_goes_on()
    {
        Write("src/a", 20 << 20, 1);
        PlainMaker maker = new();
        using CancellationTokenSource cut = new();
        long seen = 0;

        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => new TreeCopy(maker, 1).RunAsync(
            TreeCopy.Plan([At("src/a")], At("a"), false),
            bytes =>
            {
                if ((seen += bytes) >= 6 << 20)
                    cut.Cancel();
            },
            cut.Token));
        TreeCopyResult result = await CopyAsync(maker, At("src/a"), At("a"));

        Assert.Equal(File.ReadAllBytes(At("src/a")), File.ReadAllBytes(At("a")));
        Assert.Equal(1, maker.FilesMade);
        Assert.True(result.SameBytes >= 6 << 20);
        Assert.Equal(20L << 20, result.SameBytes + result.WrittenBytes);
    }

    [Fact]
    public async Task A_file_of_another_size_in_the_way_is_left_alone_and_the_rest_is_copied()
    {
        Write("src/a", 100, 1);
        Write("src/b", 100, 2);
        Write("dst/src/a", 99, 3);
        byte[] before = File.ReadAllBytes(At("dst/src/a"));

        TreeCopyResult result = await CopyAsync(new PlainMaker(), At("src"), At("dst"));

        Assert.Equal(ErrorReason.ExistsDifferent, Assert.IsType<FamfsException>(Assert.Single(result.Errors)).Reason);
        Assert.Equal(before, File.ReadAllBytes(At("dst/src/a")));
        Assert.Equal(File.ReadAllBytes(At("src/b")), File.ReadAllBytes(At("dst/src/b")));
    }

    [Fact]
    public async Task An_empty_file_is_an_error_of_its_own()
    {
        Write("src/a", 0, 1);
        Write("src/b", 10, 1);

        TreeCopyResult result = await CopyAsync(new PlainMaker(), At("src"), At("dst"));

        Assert.Equal(ErrorReason.BadSize, Assert.IsType<FamfsException>(Assert.Single(result.Errors)).Reason);
        Assert.Equal(1, result.Files);
    }

    [Fact]
    public async Task Without_space_the_copy_stops()
    {
        Write("src/a", 10, 1);
        Write("src/b", 10, 1);
        PlainMaker maker = new() { Fails = new(ErrorReason.NoSpace, "full") };

        TreeCopyResult result = await CopyAsync(maker, At("src"), At("dst"));

        Assert.Single(result.Errors);
        Assert.Equal(0, result.Files);
    }

    [Fact]
    public async Task A_file_that_somebody_else_made_at_the_same_time_is_compared()
    {
        Write("src/a", 3 << 20, 1);
        PlainMaker maker = new() { BeforeMaking = path => File.Copy(At("src/a"), path) };

        TreeCopyResult result = await CopyAsync(maker, At("src/a"), At("a"));

        Assert.Empty(result.Errors);
        Assert.Equal((0L, 3L << 20), (result.WrittenBytes, result.SameBytes));
    }

    [Fact]
    public void A_plan_that_cannot_work_is_refused()
    {
        Write("a", 1, 1);
        Write("b", 1, 1);
        Directory.CreateDirectory(At("dir"));

        Assert.Equal(ErrorReason.NotFound, Assert.Throws<FamfsException>(() => TreeCopy.Plan([At("none")], At("x"), false)).Reason);
        Assert.Equal(ErrorReason.BadRequest, Assert.Throws<FamfsException>(() => TreeCopy.Plan([At("dir")], At("x"), false)).Reason);
        Assert.Equal(ErrorReason.NotADirectory, Assert.Throws<FamfsException>(() => TreeCopy.Plan([At("a"), At("b")], At("x"), false)).Reason);
        Assert.Equal([At("dir/a"), At("dir/b")], TreeCopy.Plan([At("a"), At("b")], At("dir"), false).Select(i => i.Destination));
    }

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    private static Task<TreeCopyResult> CopyAsync(PlainMaker maker, string source, string destination) =>
        new TreeCopy(maker, 2).RunAsync(TreeCopy.Plan([source], destination, recursive: true), null, TestContext.Current.CancellationToken);

    private string At(string path) => Path.Combine(_directory, path);

    private void Write(string path, int bytes, int seed)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(At(path))!);
        byte[] content = new byte[bytes];
        new Random(seed).NextBytes(content);
        File.WriteAllBytes(At(path), content);
    }

    /// <summary>A directory of the host in place of a mount.</summary>
    private sealed class PlainMaker : IFileMaker
    {
        public int FilesMade { get; private set; }

        public FamfsException? Fails { get; init; }

        public Action<string>? BeforeMaking { get; init; }

        public Task<bool> MakeFileAsync(string path, long sizeBytes, UnixFileMode mode, CancellationToken cancel)
        {
            if (Fails is not null)
                throw Fails;
            BeforeMaking?.Invoke(path);
            if (File.Exists(path))
                return Task.FromResult(false);
            using FileStream file = new(path, FileMode.CreateNew);
            file.SetLength(sizeBytes);
            FilesMade++;
            return Task.FromResult(true);
        }

        public Task MakeDirectoryAsync(string path, UnixFileMode mode, CancellationToken cancel)
        {
            Directory.CreateDirectory(path);
            return Task.CompletedTask;
        }
    }
}
