using System.ComponentModel;
using System.Text;
using Famfs.CommandLine;

namespace Famfs.Cli.Tests;

/// <summary>What the programs look at before they start, and what they say when they end against their will.</summary>
public sealed class StartConditionsTests
{
    private static readonly ProgramNeeds s_needs = new("famfsd", OpenFiles: 256, Threads: 16, DataBytes: 512 << 20, LogsToOutput: true);

    [Theory]
    [InlineData("Max open files            255                  4096                 files", "255 files may be open, 256 are needed; raise the limit (ulimit -n, ")]
    [InlineData("Max address space         209715200            unlimited            bytes", "the address space is limited to 204800 KiB, 4194304 KiB are needed; raise the limit (ulimit -v, ")]
    [InlineData("Max data size             1048576              unlimited            bytes", "the memory for data is limited to 1024 KiB, 524288 KiB are needed; raise the limit (ulimit -d, ")]
    [InlineData("Max stack size            65536                unlimited            bytes", "the stack of a thread is limited to 64 KiB, 512 KiB are needed; raise the limit (ulimit -s, ")]
    public void A_limit_that_is_too_low_is_named_with_what_is_needed(string row, string fault)
    {
        Assert.StartsWith(fault, ProcessLimits.FindFault(s_needs, ["Limit                     Soft Limit           Hard Limit           Units", row]), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("Max open files            256                  256                  files")]
    [InlineData("Max address space         unlimited            unlimited            bytes")]
    [InlineData("Max stack size            524288               524288               bytes")]
    [InlineData("Max file size             0                    0                    bytes")]
    public void Enough_no_limit_and_other_limits_are_no_fault(string row)
    {
        Assert.Null(ProcessLimits.FindFault(s_needs, [row]));
        Assert.Null(ProcessLimits.FindFault(s_needs, []));
    }

    [Fact]
    public void This_process_has_the_limits_that_the_kernel_shows_and_may_start_threads()
    {
        Assert.NotNull(ProcessLimits.FindSoft(ProcessLimits.Read(), ProcessLimits.OpenFiles));
        Assert.Equal(OpenFileLimit.Find(), ProcessLimits.FindSoft(ProcessLimits.Read(), ProcessLimits.OpenFiles));
        Assert.Null(ThreadLimit.FindFault(s_needs));
    }

    [Fact]
    public void What_cannot_be_written_is_counted_and_said_later()
    {
        FullableStream disk = new();
        LossyStream log = new(disk, (entries, cause) => $"[{entries} lost: {cause}]");
        log.Write("a"u8);
        disk.IsFull = true;
        log.Write("b"u8);
        log.Write("c"u8);
        disk.IsFull = false;
        log.Write("d"u8);
        log.Write("e"u8);
        Assert.Equal("a[2 lost: full]de", Encoding.UTF8.GetString(disk.ToArray()));
    }

    [Fact]
    public void Last_words_are_one_line()
    {
        Assert.StartsWith("no more memory or threads", LastWords.Describe(new TypeInitializationException("T", new OutOfMemoryException())), StringComparison.Ordinal);
        Assert.StartsWith("no more memory or threads", LastWords.Describe(new Win32Exception(11)), StringComparison.Ordinal);
        string words = LastWords.Describe(new InvalidOperationException("a\nmistake", new IOException("its cause")));
        Assert.StartsWith("unexpected error, please report it: System.InvalidOperationException: a | mistake", words, StringComparison.Ordinal);
        Assert.Contains("its cause", words, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', words);
    }

    private sealed class FullableStream : MemoryStream
    {
        public bool IsFull { get; set; }

        public override void Write(ReadOnlySpan<byte> buffer)
        {
            if (IsFull)
                throw new IOException("full");
            base.Write(buffer);
        }
    }
}
