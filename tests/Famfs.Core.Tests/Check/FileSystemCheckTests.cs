using System.Text.Json;
using Famfs.Core.Check;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.Core.Tests.Log;
using Famfs.Famfs2;
using Famfs.Famfs2.Codec;
using Famfs.TestSupport;
using Famfs.TestSupport.Dax;
using Famfs.TestSupport.Famfs2;
using Famfs.V1;
using Xunit;

namespace Famfs.Core.Tests.Check;

public sealed class FileSystemCheckTests : IDisposable
{
    private const int Unit = MediaLayout.UnitBytes;

    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-check-").FullName;

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Theory]
    [InlineData(0L, "superblock")]
    [InlineData(MediaLayout.SuperblockCopyOffset, "superblock-copy")]
    public void A_damaged_native_superblock_is_written_from_its_other_copy(long offset, string code)
    {
        FakeSharedMemory[] memories = Native();
        foreach (FakeSharedMemory memory in memories)
        {
            byte[] before = Bytes(memory, offset);
            memory.WriteMemory(offset + 700, [0x55]);
            CheckResult result = Run(memories);
            Assert.Equal([code], result.Findings.Select(f => f.Code));
            Repair(result, memories);
            Assert.Equal(before, Bytes(memory, offset));
        }
    }

    [Theory]
    [InlineData(0, DaxDevice.LineBytes)]
    [InlineData(DaxDevice.LineBytes, DaxDevice.LineBytes)]
    [InlineData(2 * DaxDevice.LineBytes, 30 * DaxDevice.LineBytes)]
    public void A_native_superblock_that_lost_lines_is_written_from_its_second_copy(int offset, int lengthBytes)
    {
        FakeSharedMemory[] memories = Native();
        byte[] before = Bytes(memories[0], 0);
        memories[0].WriteMemory(offset, new byte[lengthBytes]);
        Repair(Run(memories), memories);
        Assert.Equal(before, Bytes(memories[0], 0));
    }

    [Fact]
    public void Damage_of_anchors_hosts_and_devices_is_found()
    {
        FakeSharedMemory[] memories = Native();
        byte[] noise = new byte[256];
        new Random(3).NextBytes(noise);
        memories[0].WriteMemory(MediaLayout.AnchorOffset + (9 * MediaLayout.AnchorStride), noise.AsSpan(0, 128));
        memories[0].WriteMemory(MediaLayout.HostTableOffset + (3 * MediaLayout.HostEntryBytes), noise);
        CheckResult result = Run(memories[0]);
        Assert.Equal(["anchor", "log", "host-unreadable"], result.Findings.Select(f => f.Code));
        Assert.Contains("slot 9", result.Findings[0].Where, StringComparison.Ordinal);
        Assert.Contains("entry 3", result.Findings[2].Where, StringComparison.Ordinal);
    }

    [Fact]
    public void Devices_that_are_no_file_system_are_findings_and_no_crash()
    {
        FakeSharedMemory blank = new(8L * Unit, 1);
        Assert.Equal(["superblock", "unusable"], Run(blank).Findings.Select(f => f.Code));
        Assert.Equal(["unusable"], Run(new FakeSharedMemory(4096, 1)).Findings.Select(f => f.Code));
    }

    private static FakeSharedMemory[] Native()
    {
        FakeSharedMemory[] memories = [new(8L * Unit, 1, coherent: true) { AccidentOneIn = 0, Name = "first" }, new(4L * Unit, 1, coherent: true) { AccidentOneIn = 0, Name = "second" }];
        NativeFormatter.Format([.. memories.Select(m => m.Attach("a"))], new() { Host = LogBench.HostA, Clock = TimeProvider.System });
        foreach (FakeSharedMemory memory in memories)
            memory.Settle();
        return memories;
    }

    private static CheckResult Run(params FakeSharedMemory[] memories) => FileSystemCheck.Run([.. memories.Select(m => m.Attach("c"))], TestFormats.All);

    private static byte[] Bytes(FakeSharedMemory memory, long offset)
    {
        byte[] bytes = new byte[MediaLayout.SuperblockBytes];
        memory.ReadMemory(offset, bytes);
        return bytes;
    }

    private void Repair(CheckResult result, params FakeSharedMemory[] memories)
    {
        FileSystemRepair.Apply(result.Repairs, Path.Combine(_directory, Guid.NewGuid().ToString()));
        foreach (FakeSharedMemory memory in memories)
            memory.Settle();
        Assert.Empty(Run(memories).Findings);
    }
}
