using System.Runtime.InteropServices;
using Famfs.Core.Dax;
using Xunit;

namespace Famfs.Core.Tests.Dax;

public sealed class LineFlushTests
{
    [Fact]
    public void A_processor_offers_its_flushes_best_first()
    {
        string[] found = LineFlush.Detect();
        Assert.SkipWhen(RuntimeInformation.ProcessArchitecture != Architecture.X64, "flush instructions are known for x86-64 only");
        Assert.Equal(new[] { "clwb", "clflushopt", "clflush" }.Where(found.Contains), found);
        Assert.Contains("clflush", found);
    }

    [Theory]
    [InlineData("clwb")]
    [InlineData("clflushopt")]
    [InlineData("clflush")]
    public unsafe void Every_flush_leaves_the_bytes_as_they_are_and_ends(string instruction)
    {
        Assert.SkipUnless(LineFlush.Detect().Contains(instruction), $"this processor has no {instruction}");
        Assert.True(LineFlush.TryCreate(instruction, allowCode: true, out LineFlush? flush, out string reason), reason);
        using (flush)
        {
            Assert.Equal(instruction, flush!.Name);
            byte* memory = (byte*)NativeMemory.AlignedAlloc(1 << 20, 64);
            try
            {
                var bytes = new Span<byte>(memory, 1 << 20);
                new Random(1).NextBytes(bytes);
                byte[] before = bytes.ToArray();
                foreach (var (offset, length) in new[] { (0, 1), (63, 2), (64, 64), (1, 4096), (0, 1 << 20), (100, 0) })
                {
                    flush.WriteBack((nint)memory + offset, length);
                    flush.Invalidate((nint)memory + offset, length);
                }

                Assert.True(bytes.SequenceEqual(before));
            }
            finally
            {
                NativeMemory.AlignedFree(memory);
            }
        }
    }

    /// <summary>A wrong byte would flush nothing, or another thing, and no test that looks at memory would
    /// see it: the code is frozen, each byte as in the Intel SDM volume 2.</summary>
    [Theory]
    [InlineData("clwb", "660FAE37")]
    [InlineData("clflushopt", "660FAE3F")]
    [InlineData("clflush", "3E0FAE3F")]
    public void The_machine_code_is_as_frozen_and_its_jump_goes_to_its_flush(string instruction, string flush)
    {
        byte[] code = LineFlush.Assemble(instruction);
        Assert.Equal(flush + "4883C740" + "4839F7" + "72F3" + "C3", Convert.ToHexString(code));
        int jump = Array.IndexOf(code, (byte)0x72);
        Assert.Equal(0, jump + 2 + (sbyte)code[jump + 1]);
    }

    [Fact]
    public unsafe void Without_executable_pages_libpmem_flushes_or_the_reason_is_given()
    {
        Assert.SkipWhen(LineFlush.Detect().Length == 0, "no flush instruction here");
        bool made = LineFlush.TryCreate("clflushopt", allowCode: false, out LineFlush? flush, out string reason);
        Assert.SkipUnless(made || reason.Contains("cannot be loaded", StringComparison.Ordinal), reason);
        Assert.SkipUnless(made, "libpmem.so.1 is not installed");
        using (flush)
        {
            Assert.Equal("libpmem", flush!.Name);
            byte* memory = stackalloc byte[4096];
            memory[100] = 7;
            flush.WriteBack((nint)memory, 4096);
            flush.Invalidate((nint)memory, 4096);
            Assert.Equal(7, memory[100]);
        }
    }

    [Fact]
    public void Libpmem_that_would_keep_flushed_lines_is_refused()
    {
        Assert.SkipUnless(LineFlush.Detect() is ["clwb", ..], "this processor has no clwb");
        Assert.SkipWhen(Environment.GetEnvironmentVariable("PMEM_NO_CLWB") == "1", "PMEM_NO_CLWB is set");
        Assert.False(LineFlush.TryCreate("clwb", allowCode: false, out LineFlush? flush, out string reason));
        Assert.Null(flush);
        Assert.Matches("PMEM_NO_CLWB=1|cannot be loaded", reason);
    }

    [Fact]
    public void A_processor_without_a_flush_is_told_apart()
    {
        Assert.False(LineFlush.TryCreate("", allowCode: true, out _, out string reason));
        Assert.Contains("no cache-line flush", reason, StringComparison.Ordinal);
    }
}
