using System.Text.Json;
using Famfs.Core;
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
using Famfs.TestSupport.Log;
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

    /// <summary>The newest headers are known from the anchor; older ones are found by looking for them.</summary>
    [Theory]
    [InlineData(2)]
    [InlineData(40)]
    public void Each_damaged_segment_header_is_found_and_written_as_it_was(int segments)
    {
        DamageImage image = new(segments);
        using DevicePool pool = image.OpenPool("c");
        LogReader reader = new(pool, new HastyClock());
        DamageImage.Replay(reader, image.NewState());
        Assert.Equal(segments, reader.Chain.Count);
        (int Offset, byte[] Bytes)[] kinds = [(0, new byte[64]), (64, new byte[64]), (MediaLayout.SegmentHeaderBytes - 1, [0x55])];
        for (int i = 0; i < segments; i++)
        {
            SegmentRef segment = reader.Chain[i];
            byte[] before = Bytes(image.Memory, segment.Offset);
            foreach ((int offset, byte[] damage) in segments > 3 ? [kinds[i % kinds.Length]] : kinds)
            {
                image.Memory.WriteMemory(segment.Offset + offset, damage);
                if (before.SequenceEqual(Bytes(image.Memory, segment.Offset)))
                    continue;
                CheckResult result = Run(image.Memory);
                Assert.Contains(result.Findings, f => f.Code == "segment-header" && f.Where.Contains($"segment {segment.Id:x},", StringComparison.Ordinal));
                Repair(result, image.Memory);
                Assert.Equal(before, Bytes(image.Memory, segment.Offset));
            }
        }
    }

    [Fact]
    public void Three_damaged_headers_of_older_segments_are_found_in_one_check()
    {
        DamageImage image = new(40);
        using DevicePool pool = image.OpenPool("c");
        LogReader reader = new(pool, new HastyClock());
        DamageImage.Replay(reader, image.NewState());
        foreach (int index in new[] { 4, 6, 8 })
            image.Memory.WriteMemory(reader.Chain[index].Offset + 40, [0x55, 0x55]);
        CheckResult result = Run(image.Memory);
        Assert.Equal(3, result.Repairs.Count);
        Repair(result, image.Memory);
    }

    [Fact]
    public void A_line_that_contradicts_the_history_is_an_error_that_names_the_mount()
    {
        DamageImage image = new(1);
        LogPosition end = image.Master.Writer.Position;
        foreach (LogPosition wrong in new[] { end with { Sequence = end.Sequence.Next }, end with { Term = new(end.Term.Value + 64) }, end with { Sequence = new(2), Term = new(end.Term.Value + 64) } })
        {
            for (ulong counter = 3; counter <= 4; counter++)
                image.WriteLine(counter, wrong);
            Finding finding = Assert.Single(Run(image.Memory).Findings);
            Assert.Equal("host-history", finding.Code);
            Assert.Contains($"{DamageImage.Mount}", finding.What, StringComparison.Ordinal);
        }
        image.WriteLine(5, end with { Generation = end.Generation + 1, Sequence = end.Sequence.Next });
        Assert.Equal("host-position", Assert.Single(Run(image.Memory).Findings).Code);
    }

    /// <summary>The mount beside it goes on while a check runs: its line, read after the log, would be ahead of what was read.</summary>
    [Fact]
    public void A_living_mount_is_never_ahead_of_what_a_check_has_read()
    {
        DamageImage image = new(1);
        int looks = 0;
        image.Memory.BeforeAccess = (host, operation, offset) =>
        {
            if (host != "c" || operation != FakeOperation.Invalidate || offset < MediaLayout.HostTableOffset || offset >= MediaLayout.HostTableOffset + MediaLayout.HostEntryBytes)
                return;
            looks++;
            image.MakeDirectories(1);
            image.WriteLine(4 + (ulong)looks, image.Master.Writer.Position);
        };
        Assert.Empty(Run(image.Memory).Findings);
        Assert.True(looks > 0);
    }

    /// <summary>One line of what is in memory twice: everybody goes on, and a check says that it is in memory once.</summary>
    [Theory]
    [InlineData("flip")]
    [InlineData("zeros")]
    [InlineData("ones")]
    [InlineData("neighbour")]
    public void A_damaged_copy_beside_a_whole_one_is_a_warning_until_its_owner_writes_again(string kind)
    {
        DamageImage image = new(2);
        Assert.Empty(Run(image.Memory).Findings);
        foreach (int slot in new[] { 0, 1 })
        {
            foreach ((string name, long start, int length) in new[] { ("claim line 1", 0L, 64), ("claim line 2", 64, 64), ("active copy 1", 2048, ActiveAnchor.Size), ("active copy 2", 2048 + ActiveAnchor.Size, ActiveAnchor.Size) })
            {
                for (long offset = start; offset < start + length; offset += 64)
                {
                    if (!Spoil(image, LogBench.SlotOffset(slot) + offset, kind))
                        continue;
                    Finding finding = Assert.Single(Run(image.Memory).Findings);
                    Assert.Equal(("anchor-copy", $"anchor slot {slot}", FindingSeverity.Warning), (finding.Code, finding.Where, finding.Severity));
                    Assert.StartsWith(name, finding.What, StringComparison.Ordinal);
                    image.Restore(LogBench.SlotOffset(slot) + offset, 64);
                }
            }
        }
        for (int copy = 0; copy < 2; copy++)
        {
            if (!Spoil(image, MediaLayout.HostTableOffset + copy * MountLine.Size, kind))
                continue;
            Finding finding = Assert.Single(Run(image.Memory).Findings);
            Assert.Equal(("host-copy", "host table entry 0", FindingSeverity.Warning), (finding.Code, finding.Where, finding.Severity));
            for (ulong counter = 3; counter <= 4; counter++)
                image.WriteLine(counter, image.Master.Writer.Position);
            Assert.Empty(Run(image.Memory).Findings);
            image.Restore(MediaLayout.HostTableOffset, 2 * MountLine.Size);
        }
        // The next term of the slot writes all four again.
        Assert.True(Spoil(image, LogBench.SlotOffset(0), kind));
        using DevicePool pool = image.OpenPool("a");
        TestMaster.Start(pool, 0, LogBench.HostA);
        image.Memory.Settle();
        Assert.Empty(Run(image.Memory).Findings);
    }

    /// <summary>A stale tail, and the stores of a master that died before it published.</summary>
    [Fact]
    public void Whole_records_behind_the_tail_are_told_of()
    {
        DamageImage image = new(1, withLine: false);
        byte[] tail = new byte[8];
        image.Memory.ReadMemory(LogBench.TailLine(0), tail);
        image.MakeDirectories(3);
        image.Memory.WriteMemory(LogBench.TailLine(0), tail);
        CheckResult result = Run(image.Memory);
        Finding finding = Assert.Single(result.Findings);
        Assert.Equal(("unpublished", FindingSeverity.Warning), (finding.Code, finding.Severity));
        Assert.Contains("3 whole record(s)", finding.What, StringComparison.Ordinal);
        image.WriteLine(1, image.Master.Writer.Position);
        Assert.Contains(Run(image.Memory).Findings, f => f.Code == "host-history");
    }

    /// <summary>False: the line is what it would become.</summary>
    private static bool Spoil(DamageImage image, long offset, string kind)
    {
        byte[] before = new byte[64];
        byte[] after = new byte[64];
        image.Memory.ReadMemory(offset, before);
        image.Memory.ReadMemory(kind == "neighbour" ? offset + 64 : offset, after);
        if (kind == "flip")
            after[9] ^= 16;
        else if (kind is "zeros" or "ones")
            after.AsSpan().Fill(kind == "ones" ? (byte)0xFF : (byte)0);
        image.Memory.WriteMemory(offset, after);
        return !after.AsSpan().SequenceEqual(before);
    }

    [Theory]
    [InlineData("native")]
    [InlineData("famfs-2")]
    public void What_the_check_itself_is_short_of_is_no_finding(string format)
    {
        PlainMemory memory = new(20L * Unit);
        if (format == "native")
            NativeFormatter.Format([memory.Attach()], new() { Host = LogBench.HostA, Clock = TimeProvider.System });
        else
            Famfs2Formatter.Format([memory.Attach()], new() { System = LogBench.HostA });
        int reads = 0;
        int shortAt = 0;
        memory.Reading = () =>
        {
            if (++reads == shortAt)
                throw new FamfsException(ErrorReason.Overloaded, "no room");
        };
        Assert.Empty(Check().Findings);
        int all = reads;
        Assert.InRange(all, 10, 100_000);
        for (shortAt = 1; shortAt <= all; shortAt += Math.Max(1, all / 200))
        {
            reads = 0;
            FamfsException error = Assert.Throws<FamfsException>(() => Check());
            Assert.Equal(ErrorReason.Overloaded, error.Reason);
        }

        CheckResult Check() => FileSystemCheck.Run([memory.Attach()], TestFormats.All, new HastyClock());
    }

    private static FakeSharedMemory[] Native()
    {
        FakeSharedMemory[] memories = [new(8L * Unit, 1, coherent: true) { AccidentOneIn = 0, Name = "first" }, new(4L * Unit, 1, coherent: true) { AccidentOneIn = 0, Name = "second" }];
        NativeFormatter.Format([.. memories.Select(m => m.Attach("a"))], new() { Host = LogBench.HostA, Clock = TimeProvider.System });
        foreach (FakeSharedMemory memory in memories)
            memory.Settle();
        return memories;
    }

    private static CheckResult Run(params FakeSharedMemory[] memories) => FileSystemCheck.Run([.. memories.Select(m => m.Attach("c"))], TestFormats.All, new HastyClock());

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
