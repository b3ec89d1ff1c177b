using Famfs.Cli.Verbs;
using System.Runtime.CompilerServices;
using Famfs.Core;
using Famfs.Core.Interop;
using Famfs.V1;

namespace Famfs.Cli.Tests.Verbs;

[System.Runtime.Versioning.SupportedOSPlatform("linux")]
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
        TreeCopyResult result = await new TreeCopy(maker, 3, new()).RunAsync([new(At("src/a"), At("dst/a"), FileStatus.Read(At("src/a"), true))], null, TestContext.Current.CancellationToken);

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

        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => new TreeCopy(maker, 1, new()).RunAsync(
            CopyPlan.Make([At("src/a")], At("a"), false).Items,
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
    public async Task Content_comes_before_a_mode_that_would_be_in_its_way()
    {
        foreach (string mode in new[] { "444", "400", "555", "4755", "0" })
        {
            Write($"src/{mode}", 100, 1);
            File.SetUnixFileMode(At($"src/{mode}"), (UnixFileMode)Convert.ToInt32(mode, 8));
        }
        PlainMaker maker = new();
        // As an ordinary user: nobody may write into what has no w.
        CopyAttributeChoices choices = new() { ProcessUid = 1000, ProcessGid = 1000, Umask = 0x12 };

        TreeCopyResult result = await CopyAsync(maker, At("src"), At("dst"), choices);

        Assert.Empty(result.Errors);
        Assert.All(maker.Initial.Values, initial => Assert.Equal(0x180u, initial.Mode & 0x180));
        Assert.All(maker.Initial.Values, initial => Assert.Equal(0u, initial.Mode & ~0x1FFu));
        Assert.Equal(0x124u, maker.Set[At("dst/444")].Mode);
        Assert.Equal(0x100u, maker.Set[At("dst/400")].Mode);
        Assert.Equal(0x16Du, maker.Set[At("dst/555")].Mode);
        Assert.False(maker.Set.ContainsKey(At("dst/4755")));
        Assert.Equal(0u, maker.Set[At("dst/0")].Mode);
        Assert.All(new[] { "444", "400", "555" }, mode => Assert.Equal(File.ReadAllBytes(At($"src/{mode}")), File.ReadAllBytes(At($"dst/{mode}"))));
    }

    [Fact]
    public void Where_no_mode_can_be_set_later_an_ordinary_user_is_refused_before_the_name_is_taken()
    {
        Write("a", 1, 1);
        File.SetUnixFileMode(At("a"), UnixFileMode.UserRead);
        CopyItem item = new(At("a"), At("b"), FileStatus.Read(At("a"), true));
        FamfsException error = Assert.Throws<FamfsException>(() => new CopyAttributeChoices { ProcessUid = 1000, CanSetLater = false }.Initial(item));
        Assert.Equal(ErrorReason.NotSupportedByFormat, error.Reason);
        Assert.Equal(0x100u, new CopyAttributeChoices { ProcessUid = 0, CanSetLater = false }.Initial(item).Mode);
        Assert.Equal(0x180u, new CopyAttributeChoices { ProcessUid = 1000, CanSetLater = false, Mode = 0x180 }.Initial(item).Mode);
    }

    [Fact]
    public async Task Preserved_are_mode_times_and_owner_as_far_as_the_user_may()
    {
        Write("src/a", 100, 1);
        File.SetUnixFileMode(At("src/a"), (UnixFileMode)0x9A4);
        File.SetLastWriteTimeUtc(At("src/a"), new DateTime(2001, 2, 3, 4, 5, 6, DateTimeKind.Utc));
        PlainMaker maker = new();

        await CopyAsync(maker, At("src"), At("dst"), new() { Preserve = true, ProcessUid = ProcessOwner.Uid, ProcessGid = ProcessOwner.Gid });
        SetAttributesRequest set = maker.Set[At("dst/a")];
        Assert.Equal((0x9A4u, 981173106_000_000_000L), (set.Mode, set.ModifyTimeNs));
        Assert.True(maker.Set[At("dst")].HasModifyTimeNs);

        CopyItem item = new(At("src/a"), At("x"), FileStatus.Read(At("src/a"), true) with { Uid = 5, Gid = 6 });
        Assert.Equal((0x9A4u, 5u, 6u), new CopyAttributeChoices { Preserve = true, ProcessUid = 0, ProcessGid = 0 }.Final(item));
        Assert.Equal((0x1A4u, 1000u, 1000u), new CopyAttributeChoices { Preserve = true, ProcessUid = 1000, ProcessGid = 1000, ProcessGroups = [7] }.Final(item));
        Assert.Equal((0x1A4u, 1000u, 6u), new CopyAttributeChoices { Preserve = true, ProcessUid = 1000, ProcessGid = 1000, ProcessGroups = [6, 7] }.Final(item));
        Assert.Equal(1000u, new CopyAttributeChoices { ProcessUid = 1000, ProcessGid = 1000, ProcessGroups = [6, 7] }.Final(item).Gid);
    }

    [Theory]
    [InlineData("longer", "has 101 bytes now and had 100 when the copy began")]
    [InlineData("shorter", "has 99 bytes now and had 100")]
    [InlineData("gone", "src/a")]
    public async Task Of_a_source_that_cannot_be_copied_as_planned_nothing_is_made(string what, string cause)
    {
        Write("src/a", 100, 1);
        Write("src/b", 100, 2);
        CopyPlan plan = CopyPlan.Make([At("src")], At("dst"), recursive: true);
        if (what == "gone")
            File.Delete(At("src/a"));
        else
            Write("src/a", what == "longer" ? 101 : 99, 1);
        PlainMaker maker = new();

        TreeCopyResult result = await new TreeCopy(maker, 2, new()).RunAsync(plan.Items, null, TestContext.Current.CancellationToken);

        Assert.Contains(cause, Assert.Single(result.Errors).Message, StringComparison.Ordinal);
        Assert.Equal(At("dst/b"), Assert.Single(maker.Initial.Keys));
        Assert.Equal(File.ReadAllBytes(At("src/b")), File.ReadAllBytes(At("dst/b")));
    }

    [Fact]
    public async Task Of_a_source_with_less_content_than_its_size_nothing_is_made()
    {
        const string Source = "/sys/kernel/mm/transparent_hugepage/enabled";
        Assert.SkipUnless(File.Exists(Source), $"there is no {Source}");
        PlainMaker maker = new();

        TreeCopyResult result = await CopyAsync(maker, Source, At("a"));

        Assert.Contains($"{Source}: has less content than the 4096 bytes that it says", Assert.Single(result.Errors).Message, StringComparison.Ordinal);
        Assert.Empty(maker.Initial);
    }

    [Theory]
    [InlineData(150, "grew from 100 to 150 bytes while it was copied; DST has the first 100, for good")]
    [InlineData(50, "became shorter while it was copied; DST stays, with its 100 bytes, and is not whole")]
    public async Task A_source_whose_size_changes_during_its_copy_is_an_error_that_says_what_is_left(int bytes, string cause)
    {
        Write("src", 100, 1);
        PlainMaker maker = new() { BeforeMaking = _ => Write("src", bytes, 1) };

        TreeCopyResult result = await CopyAsync(maker, At("src"), At("dst"));

        FamfsException error = Assert.IsType<FamfsException>(Assert.Single(result.Errors));
        Assert.Equal((ErrorReason.Unspecified, $"{At("src")}: {cause.Replace("DST", At("dst"), StringComparison.Ordinal)}", 0L), (error.Reason, error.Message, result.Files));
        Assert.Equal(100, new System.IO.FileInfo(At("dst")).Length);
    }

    [Fact]
    public async Task Set_id_bits_that_may_not_be_given_are_named_and_all_else_is_set()
    {
        Write("src", 100, 1);
        File.SetUnixFileMode(At("src"), (UnixFileMode)0x9ED);
        PlainMaker maker = new() { Refuses = set => (set.Mode & 0xC00) != 0 ? new(ErrorReason.NotPermitted, "not by you") : null };

        TreeCopyResult result = await CopyAsync(maker, At("src"), At("dst"), new() { Preserve = true });

        Assert.Equal($"{At("dst")}: has all attributes but the set-id bits: not by you", Assert.Single(result.Errors).Message);
        SetAttributesRequest set = maker.Set[At("dst")];
        Assert.Equal((0x1EDu, true), (set.Mode, set.HasModifyTimeNs));
    }

    [Fact]
    public async Task Attributes_of_a_file_that_was_there_stay_unless_an_interrupted_copy_made_it()
    {
        Write("src/a", 100, 1);
        File.SetUnixFileMode(At("src/a"), UnixFileMode.UserRead);
        Write("dst/a", 100, 2);
        File.SetUnixFileMode(At("dst/a"), (UnixFileMode)0x1B4);
        PlainMaker maker = new();
        CopyItem item = new(At("src/a"), At("dst/a"), FileStatus.Read(At("src/a"), true));

        await new TreeCopy(maker, 1, new()).RunAsync([item], null, TestContext.Current.CancellationToken);
        Assert.Empty(maker.Set);
        File.SetUnixFileMode(At("dst/a"), (UnixFileMode)new CopyAttributeChoices().Initial(item).Mode);
        await new TreeCopy(maker, 1, new()).RunAsync([item], null, TestContext.Current.CancellationToken);
        Assert.Equal(0x100u, maker.Set[At("dst/a")].Mode);
    }

    [Fact]
    public async Task A_directory_that_was_there_keeps_its_attributes()
    {
        Write("src/a", 100, 1);
        File.SetUnixFileMode(At("src"), (UnixFileMode)0x16D);
        Directory.CreateDirectory(At("dst"));
        File.SetUnixFileMode(At("dst"), (UnixFileMode)0x1C0);
        PlainMaker maker = new();
        CopyItem[] items = [new(At("src"), At("dst"), FileStatus.Read(At("src"), true)), new(At("src/a"), At("dst/a"), FileStatus.Read(At("src/a"), true))];

        TreeCopyResult result = await new TreeCopy(maker, 1, new()).RunAsync(items, null, TestContext.Current.CancellationToken);

        Assert.Equal((1L, 1L), (result.Files, result.Directories));
        Assert.DoesNotContain(At("dst"), maker.Set.Keys);
    }

    [Fact]
    public async Task Many_small_files_are_made_in_few_calls()
    {
        for (int i = 0; i < 600; i++)
            Write($"src/{i}", 10 + i, i);
        PlainMaker maker = new();

        TreeCopyResult result = await CopyAsync(maker, At("src"), At("dst"));

        Assert.Empty(result.Errors);
        Assert.Equal((600L, 600, 3), (result.Files, maker.FilesMade, maker.Calls));
        for (int i = 0; i < 600; i++)
            Assert.Equal(File.ReadAllBytes(At($"src/{i}")), File.ReadAllBytes(At($"dst/{i}")));
    }

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    private static Task<TreeCopyResult> CopyAsync(PlainMaker maker, string source, string destination, CopyAttributeChoices? attributes = null) =>
        new TreeCopy(maker, 2, attributes ?? new()).RunAsync(CopyPlan.Make([source], destination, recursive: true).Items, null, TestContext.Current.CancellationToken);

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

        public int Calls { get; private set; }

        public FamfsException? Fails { get; init; }

        public Action<string>? BeforeMaking { get; init; }

        public Func<SetAttributesRequest, FamfsException?>? Refuses { get; init; }

        public Dictionary<string, NewFile> Initial { get; } = [];

        public System.Collections.Concurrent.ConcurrentDictionary<string, SetAttributesRequest> Set { get; } = [];

        public async IAsyncEnumerable<(bool Made, FamfsException? Error)> MakeFilesAsync(IReadOnlyList<NewFile> files, [EnumeratorCancellation] CancellationToken cancel)
        {
            Calls++;
            foreach (NewFile file in files)
            {
                await Task.Yield();
                BeforeMaking?.Invoke(file.Path);
                if (Fails is null && !File.Exists(file.Path))
                {
                    using FileStream made = new(file.Path, FileMode.CreateNew);
                    made.SetLength(file.SizeBytes);
                    File.SetUnixFileMode(file.Path, (UnixFileMode)file.Mode);
                    Initial.Add(file.Path, file);
                    FilesMade++;
                    yield return (true, null);
                }
                else
                    yield return (false, Fails);
            }
        }

        public Task MakeDirectoryAsync(string path, uint mode, uint uid, uint gid, CancellationToken cancel)
        {
            Directory.CreateDirectory(path);
            return Task.CompletedTask;
        }

        public Task AwaitMadeAsync(CancellationToken cancel) => Task.CompletedTask;

        public Task SetAttributesAsync(string path, SetAttributesRequest attributes, CancellationToken cancel)
        {
            if (Refuses?.Invoke(attributes) is { } refusal)
                throw refusal;
            Set[path] = attributes;
            return Task.CompletedTask;
        }
    }
}
