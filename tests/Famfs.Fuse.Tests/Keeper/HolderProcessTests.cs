using Famfs.Fuse.Keeper;
using Xunit;

namespace Famfs.Fuse.Tests.Keeper;

/// <summary>When a process counts as gone although its files are open.</summary>
public sealed class HolderProcessTests : IDisposable
{
    private const string Killed = "0000000000000100";
    private const string Nothing = "0000000000000000";

    private readonly string _proc = Directory.CreateTempSubdirectory("famfs-proc-").FullName;

    public void Dispose() => Directory.Delete(_proc, recursive: true);

    [Theory]
    [InlineData(false, "S", Nothing)]
    [InlineData(false, "R", Killed)] // on its way, perhaps with a request in its hands
    [InlineData(false, "D", Nothing)] // it waits for a disk
    [InlineData(true, "D", Killed)]
    [InlineData(true, "Z", Nothing)]
    [InlineData(true, "X", Killed)]
    [InlineData(true, "Z", Nothing, "D", Killed)]
    [InlineData(false, "Z", Nothing, "R", Killed)]
    [InlineData(false, "D", Killed, "S", Nothing)]
    public void All_its_threads_are_gone_or_killed_where_nothing_wakes_them(bool dying, params string[] threads)
    {
        for (int i = 0; i < threads.Length; i += 2)
        {
            string thread = Directory.CreateDirectory(Path.Combine(_proc, "77", "task", $"{77 + i}")).FullName;
            File.WriteAllText(Path.Combine(thread, "status"), $"Name:\tfamfsd\nState:\t{threads[i]} (state)\nPid:\t77\nSigPnd:\t{threads[i + 1]}\nShdPnd:\t{Killed}\n");
        }
        Assert.Equal(dying, HolderProcess.IsDying(77, _proc));
    }

    [Fact]
    public void A_process_that_is_not_there_is_gone_and_one_that_cannot_be_named_is_not()
    {
        Assert.True(HolderProcess.IsDying(78, _proc));
        Assert.False(HolderProcess.IsDying(0, _proc));
        Assert.False(HolderProcess.IsDying(Environment.ProcessId));
    }
}
