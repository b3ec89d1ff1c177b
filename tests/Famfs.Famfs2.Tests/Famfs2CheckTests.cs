using System.Text.Json;
using Famfs.Core;
using Famfs.Core.Check;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.Famfs2;
using Famfs.Famfs2.Codec;
using Famfs.TestSupport;
using Famfs.TestSupport.Dax;
using Famfs.TestSupport.Famfs2;
using Famfs.V1;
using Xunit;

namespace Famfs.Famfs2.Tests;

public sealed class Famfs2CheckTests : IDisposable
{
    private const int Unit = MediaLayout.UnitBytes;

    private readonly string _directory = Directory.CreateTempSubdirectory("famfs-check-").FullName;

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Fact]
    public void Sound_file_systems_of_both_formats_have_no_findings()
    {
        FakeSharedMemory[] native = Native();
        CheckResult result = Run(native);
        Assert.Empty(result.Findings);
        Assert.Equal((NativeFormat.Instance, 0L, 1L), (result.Format, result.Files, result.Directories));
        Famfs2Image image = Start();
        result = Run(image.Memory);
        Assert.Empty(result.Findings);
        Assert.Equal((Famfs2Format.Instance, 1L, 2L), (result.Format, result.Files, result.Directories));
        Assert.Equal(Unit + Famfs2Layout.MinLogBytes + Unit, result.UsedBytes);
    }

    [Theory]
    [InlineData("checksum", "entry-checksum")]
    [InlineData("sequence", "entry-sequence")]
    [InlineData("type", "entry-type")]
    public void A_bad_entry_before_good_ones_is_found_and_not_repaired(string what, string code)
    {
        Famfs2Image image = Start();
        image.AddChanged(Famfs2Image.File("x", 1, Famfs2Image.Extent(10)), bytes => bytes[what switch { "sequence" => 0, "type" => 8, _ => 300 }] = what == "type" ? (byte)2 : (byte)7);
        if (what == "checksum")
            image.Flip(Famfs2Layout.EntryOffset(2) + 301, 1);
        image.Directory("after");
        CheckResult result = Run(image.Memory);
        Assert.Equal([code], result.Findings.Where(f => f.Severity == FindingSeverity.Error).Select(f => f.Code));
        Assert.Contains("entry 2", result.Findings[0].Where, StringComparison.Ordinal);
        Assert.Empty(result.Repairs);
        Assert.Equal(2, result.Directories);
    }

    [Fact]
    public void Bytes_in_the_padding_are_a_warning()
    {
        Famfs2Image image = Start().AddChanged(Famfs2Image.File("x", 1, Famfs2Image.Extent(10)), bytes => bytes[500] = 1);
        CheckResult result = Run(image.Memory);
        Assert.Equal([("padding", FindingSeverity.Warning)], result.Findings.Select(f => (f.Code, f.Severity)));
        Assert.Equal((0, 2L), (result.ErrorCount, result.Files));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public void A_torn_tail_is_cut_off_by_repair(int torn)
    {
        Famfs2Image image = Start();
        for (int i = 0; i < torn; i++)
        {
            image.Directory($"torn{i}");
            image.Flip(Famfs2Layout.EntryOffset(image.Count - 1) + 60, 0xFF);
        }
        CheckResult result = Run(image.Memory);
        Assert.Contains("torn-tail", result.Findings.Select(f => f.Code));
        Repair(result, image.Memory);
        Assert.Equal(new Famfs2LogHeader(Famfs2Layout.MinLogBytes, 2, 2), HeaderOf(image));
    }

    [Theory]
    // Entries 0 to 3 are good, 4 is not.
    [InlineData(3UL, 4UL, 4UL)]
    [InlineData(4UL, 3UL, 4UL)]
    [InlineData(2UL, 4UL, 4UL)]
    [InlineData(3UL, 5UL, 4UL)]
    [InlineData(4UL, ulong.MaxValue, 4UL)]
    public void Counters_that_differ_are_joined_behind_the_last_good_entry_that_one_of_them_covers(ulong sequence, ulong index, ulong joined)
    {
        Famfs2Image image = Start().Directory("a").Directory("b");
        image.WriteHeader(sequence, index);
        CheckResult result = Run(image.Memory);
        Assert.Equal(["index-skew"], result.Findings.Select(f => f.Code));
        Repair(result, image.Memory);
        Assert.Equal(new Famfs2LogHeader(Famfs2Layout.MinLogBytes, joined, joined), HeaderOf(image));
    }

    [Fact]
    public void Counters_that_differ_over_a_bad_entry_are_left_alone()
    {
        Famfs2Image image = Start().Directory("a");
        image.WriteHeader(2, 3);
        image.Flip(Famfs2Layout.EntryOffset(1) + 60, 1);
        CheckResult result = Run(image.Memory);
        Assert.Equal(["entry-checksum", "index-skew"], result.Findings.Select(f => f.Code));
        Assert.Empty(result.Repairs);
    }

    /// <summary>The next append would lie over it.</summary>
    [Theory]
    [InlineData(2UL, 5UL)]
    [InlineData(5UL, 1UL)]
    public void Counters_that_differ_are_left_alone_when_one_of_them_covers_a_good_entry_behind_a_bad_one(ulong sequence, ulong index)
    {
        Famfs2Image image = Start().Directory("a").Directory("b").Directory("c");
        image.WriteHeader(sequence, index);
        image.Flip(Famfs2Layout.EntryOffset(3) + 60, 1);
        CheckResult result = Run(image.Memory);
        Assert.Equal(["index-skew"], result.Findings.Select(f => f.Code));
        Assert.Empty(result.Repairs);
    }

    /// <summary>The header shares its cache line with the start of entry 0.</summary>
    [Fact]
    public void A_log_header_is_never_written_anew_when_a_good_entry_is_anywhere_behind_what_its_counters_cover()
    {
        Famfs2Image image = Start().Directory("a");
        image.WriteHeader(0, 0);
        image.Flip(Famfs2Layout.LogOffset + 1, 4);
        image.Flip(Famfs2Layout.EntryOffset(0) + 1, 4);
        CheckResult result = Run(image.Memory);
        Assert.Equal(["unusable", "log-header"], result.Findings.Select(f => f.Code));
        Assert.Empty(result.Repairs);
    }

    /// <summary>At the log's place of a further device are bytes of a file, which may be a copy of a log.</summary>
    [Theory]
    [InlineData(Famfs2Superblock.PrimaryFlag, Famfs2Superblock.SecondaryFlag, false)]
    [InlineData(0U, Famfs2Superblock.SecondaryFlag, false)]
    [InlineData(Famfs2Superblock.PrimaryFlag, 0U, false)]
    [InlineData(0U, 0U, false)]
    [InlineData(Famfs2Superblock.SecondaryFlag, 0U, false)]
    [InlineData(0U, Famfs2Superblock.SecondaryFlag, true)]
    [InlineData(Famfs2Superblock.PrimaryFlag, 0U, true)]
    public void A_log_in_a_file_of_a_further_device_is_neither_read_nor_repaired(uint flags, uint furtherFlags, bool damaged)
    {
        foreach (bool own in new[] { false, true })
        {
            (Famfs2Image image, FakeSharedMemory further) = WithFurther(flags, furtherFlags);
            Famfs2Image other = own ? image : Start();
            byte[] copy = new byte[Famfs2Layout.HeaderBytes + (3 * Famfs2Layout.EntryBytes)];
            other.Memory.ReadMemory(Famfs2Layout.LogOffset, copy);
            further.WriteMemory(Famfs2Layout.LogOffset, copy);
            if (!damaged)
            {
                foreach (FakeSharedMemory[] order in (FakeSharedMemory[][])[[image.Memory, further], [further, image.Memory]])
                {
                    CheckResult sound = Run(order);
                    Assert.Empty(sound.Findings);
                    Assert.Equal(1, sound.Files);
                }
                // Counters of the file's bytes that differ are its own business.
                further.WriteMemory(Famfs2Layout.LogOffset + Famfs2LogHeader.CountersOffset, [1]);
                Assert.Empty(Run(image.Memory, further).Findings);
                continue;
            }
            further.WriteMemory(Famfs2Layout.LogOffset + Famfs2LogHeader.CountersOffset, [1]);
            image.Flip(Famfs2Layout.LogOffset + 1, 4);
            CheckResult result = Run(further, image.Memory);
            Assert.Equal(["unusable", "log-header"], result.Findings.Select(f => f.Code));
            Repair repair = Assert.Single(result.Repairs);
            Assert.Equal(("log-header", $"{image.Memory.Name}@c"), (repair.Code, repair.Device.Path));
            Repair(result, image.Memory, further);
        }
    }

    [Fact]
    public void A_superblock_that_names_no_system_is_told()
    {
        Famfs2Image image = Start();
        image.Superblock = image.Superblock with { System = Guid.Empty };
        image.WriteSuperblock();
        Assert.Equal([("system-uuid", FindingSeverity.Warning)], Run(image.Memory).Findings.Select(f => (f.Code, f.Severity)));
    }

    [Fact]
    public void Of_devices_that_a_search_has_opened_those_of_one_famfs_2_file_system_are_taken()
    {
        (Famfs2Image image, FakeSharedMemory further) = WithFurther(0, 0);
        FakeSharedMemory stranger = Further(image, Guid.NewGuid(), 0, "stranger");
        FakeSharedMemory[] native = Native();
        Famfs2Image other = Start();
        other.Superblock = other.Superblock with { FileSystem = Guid.NewGuid() };
        other.WriteSuperblock();
        DaxDevice Device(FakeSharedMemory memory) => memory.Attach("s");
        DaxDevice[] mine = [Device(stranger), Device(further), Device(image.Memory), Device(new(8L * Unit, 1))];
        Assert.Equal([mine[1], mine[2]], TestFormats.All.SelectOwn(mine, 0));
        Assert.Equal([mine[2], mine[1]], TestFormats.All.SelectOwn([mine[2], mine[0], mine[1], Device(other.Memory), Device(native[0]), Device(native[1])], 1));
        Assert.Equal(ErrorReason.WrongFilesystem, Assert.Throws<FamfsException>(() => TestFormats.All.SelectOwn([.. mine, Device(native[0])], 0)).Reason);
        Assert.Equal(ErrorReason.WrongFilesystem, Assert.Throws<FamfsException>(() => TestFormats.All.SelectOwn([.. mine, Device(other.Memory)], 0)).Reason);
        DaxDevice[] both = [Device(native[1]), Device(native[0])];
        Assert.Equal(both, TestFormats.All.SelectOwn([both[0], mine[1], both[1], mine[0]], 0));
        Assert.Equal(both, TestFormats.All.SelectOwn([both[0], mine[2], both[1]], 1));
        Assert.Empty(TestFormats.All.SelectOwn([mine[3], both[0]], 0));
        image.Flip(Famfs2Layout.LogOffset + 1, 4);
        Assert.Contains("log header magic is wrong", Assert.Throws<FamfsException>(() => TestFormats.All.Open(TestFormats.All.SelectOwn([mine[1], mine[2], mine[3]], 0))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void What_a_repair_leaves_uncovered_is_in_the_backup_before_the_next_append_writes_over_it()
    {
        Famfs2Image image = Start();
        foreach (int _ in Enumerable.Range(0, 2))
        {
            image.Directory("torn");
            image.Flip(Famfs2Layout.EntryOffset(image.Count - 1) + 60, 0xFF);
        }
        image.WriteHeader(6, 6);
        byte[] torn = new byte[2 * Famfs2Layout.EntryBytes];
        image.Memory.ReadMemory(Famfs2Layout.EntryOffset(2), torn);
        string path = Path.Combine(_directory, "uncovered");
        FileSystemRepair.Apply(Run(image.Memory).Repairs, path);
        using JsonDocument backup = JsonDocument.Parse(File.ReadAllText(path));
        JsonElement one = Assert.Single(backup.RootElement.EnumerateArray());
        Assert.Equal(
            [
                (Famfs2Layout.EntryOffset(2), Convert.ToHexStringLower(torn.AsSpan(0, Famfs2Layout.EntryBytes))),
                (Famfs2Layout.EntryOffset(3), Convert.ToHexStringLower(torn.AsSpan(Famfs2Layout.EntryBytes))),
            ],
            one.GetProperty("uncovered").EnumerateArray().Select(e => (e.GetProperty("offset").GetInt64(), e.GetProperty("bytes").GetString()!)));
    }

    [Fact]
    public void A_backup_that_memory_does_not_give_leaves_no_part_of_one()
    {
        Famfs2Image image = Start().Directory("a");
        image.WriteHeader(2, 3);
        CheckResult result = Run(image.Memory);
        image.Memory.Poison(Famfs2Layout.LogOffset, 64);
        string path = Path.Combine(_directory, "part");
        Assert.Throws<DeviceFaultException>(() => FileSystemRepair.Apply(result.Repairs, path));
        Assert.False(File.Exists(path));
    }

    [Fact]
    public void A_damaged_log_header_is_written_anew_when_nothing_of_it_must_be_guessed()
    {
        Famfs2Image image = Start();
        image.Flip(Famfs2Layout.LogOffset + 17, 4);
        CheckResult result = Run(image.Memory);
        Assert.Equal(["unusable", "log-header"], result.Findings.Select(f => f.Code));
        Repair(result, image.Memory);

        image.WriteHeader(1, 2);
        image.Flip(Famfs2Layout.LogOffset + 17, 4);
        Assert.Empty(Run(image.Memory).Repairs);
    }

    /// <summary>Both checksums are good, so neither length is more likely; the longer log would lie over files.</summary>
    [Theory]
    [InlineData(Famfs2Layout.MinLogBytes, Famfs2Layout.MinLogBytes * 2)]
    [InlineData(Famfs2Layout.MinLogBytes * 2, Famfs2Layout.MinLogBytes)]
    public void A_whole_log_header_of_another_length_is_found_and_never_written_over(long superblockSays, long headerSays)
    {
        Famfs2Image image = new() { Superblock = Start().Superblock with { LogLengthBytes = headerSays } };
        image.WriteHeader(0, 0);
        image.Superblock = image.Superblock with { LogLengthBytes = superblockSays };
        image.WriteSuperblock();
        CheckResult result = Run(image.Memory);
        Assert.Equal(["unusable", "log-header"], result.Findings.Select(f => f.Code));
        Assert.Empty(result.Repairs);
    }

    /// <summary>Existing tools do not always mark a further device as one; at the log's place it has bytes of a file.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_further_device_never_gets_a_log_header(bool withFirst)
    {
        Famfs2Image image = Start();
        FakeSharedMemory further = new(8L * Unit, 1, coherent: true) { AccidentOneIn = 0, Name = "further" };
        byte[] block = new byte[Famfs2Superblock.Size];
        (image.Superblock with { Device = Guid.NewGuid(), DeviceLengthBytes = further.LengthBytes, LogLengthBytes = Famfs2Layout.MinLogBytes }).Format(block);
        further.WriteMemory(0, block);
        // A device that the log does not name: it is given in error, or its entry is not settled yet.
        CheckResult result = withFirst ? Run(image.Memory, further) : Run(further);
        Assert.Equal(["unusable"], result.Findings.Select(f => f.Code));
        Assert.Empty(result.Repairs);
    }

    [Fact]
    public void A_log_header_of_which_the_counters_are_lost_too_is_never_written_anew()
    {
        Famfs2Image image = Start();
        image.Memory.WriteMemory(Famfs2Layout.LogOffset, new byte[Famfs2LogHeader.Size]);
        CheckResult result = Run(image.Memory);
        Assert.Equal(["unusable"], result.Findings.Select(f => f.Code));
        Assert.Empty(result.Repairs);

        image.WriteHeader(0, 0);
        image.Flip(Famfs2Layout.LogOffset + 17, 4);
        result = Run(image.Memory);
        Assert.Equal(["unusable", "log-header"], result.Findings.Select(f => f.Code));
        Assert.Empty(result.Repairs);
    }

    [Fact]
    public void A_repair_that_memory_does_not_keep_is_an_error_that_names_the_backup()
    {
        Famfs2Image image = Start().Directory("a");
        image.WriteHeader(2, 3);
        CheckResult result = Run(image.Memory);
        bool stored = false;
        image.Memory.BeforeAccess = (_, operation, _) =>
        {
            if (stored && operation == FakeOperation.Load)
                image.WriteHeader(2, 3);
            stored |= operation == FakeOperation.Fence;
        };
        string backup = Path.Combine(_directory, "backup");
        FamfsException error = Assert.Throws<FamfsException>(() => FileSystemRepair.Apply(result.Repairs, backup));
        Assert.Equal(ErrorReason.MediaCorrupt, error.Reason);
        Assert.Contains(backup, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Counters_that_cover_a_log_never_written_give_a_bounded_number_of_findings()
    {
        Famfs2Image image = Start();
        image.WriteHeader(15_000, 15_000);
        CheckResult result = Run(image.Memory);
        Assert.Equal(Famfs2LogCheck.MaxFindings, result.Findings.Count(f => f.Code == "entry-checksum"));
        Assert.Contains(new Finding("more", "log", $"{15_000 - 2 - Famfs2LogCheck.MaxFindings} more entries are bad"), result.Findings);
    }

    [Fact]
    public void Any_number_of_warnings_hides_no_error()
    {
        Famfs2Image image = new();
        for (int i = 0; i <= Famfs2Translator.MaxFindings; i++)
            image.Directory($"{i}", 0x41ED);
        image.Directory("../x");
        CheckResult result = Run(image.Memory);
        Assert.Equal(1, result.ErrorCount);
        Assert.Contains(result.Findings, f => f.Code == "path-component" && f.Where == $"entry {image.Count - 1}");
        Assert.Contains(new Finding("more", "log", "1 more remarks on entries", FindingSeverity.Warning), result.Findings);
    }

    [Fact]
    public void A_repair_that_is_cut_off_at_any_access_can_be_made_again()
    {
        for (int at = 1, cuts = 0; ; at++)
        {
            Famfs2Image image = Start().Directory("a");
            image.WriteHeader(2, 3);
            CheckResult result = Run(image.Memory);
            int accesses = 0;
            image.Memory.BeforeAccess = (_, operation, _) =>
            {
                if (operation is FakeOperation.Store or FakeOperation.WriteBack or FakeOperation.Fence && ++accesses == at)
                    throw new OperationCanceledException();
            };
            try
            {
                FileSystemRepair.Apply(result.Repairs, Path.Combine(_directory, $"cut{at}"));
                image.Memory.BeforeAccess = null;
                Assert.NotEqual(0, cuts);
                break;
            }
            catch (OperationCanceledException)
            {
                cuts++;
            }
            image.Memory.BeforeAccess = null;
            // The backup was whole before the first store.
            JsonDocument.Parse(File.ReadAllText(Path.Combine(_directory, $"cut{at}"))).Dispose();
            image.Memory.Crash("c");
            CheckResult after = Run(image.Memory);
            if (after.Repairs.Count > 0)
                Repair(after, image.Memory);
            Assert.Empty(Run(image.Memory).Findings);
            Assert.Equal(new Famfs2LogHeader(Famfs2Layout.MinLogBytes, 3, 3), HeaderOf(image));
        }
    }

    [Fact]
    public void Repair_writes_down_what_it_changes_and_does_nothing_when_it_cannot()
    {
        Famfs2Image image = Start().Directory("a");
        image.WriteHeader(2, 3);
        CheckResult result = Run(image.Memory);
        string taken = Path.Combine(_directory, "taken");
        File.WriteAllText(taken, "");
        Assert.Equal(ErrorReason.BadRequest, Assert.Throws<FamfsException>(() => FileSystemRepair.Apply(result.Repairs, taken)).Reason);
        Assert.Equal(2UL, HeaderOf(image).NextSequence);
        byte[] before = new byte[Famfs2LogHeader.Size];
        image.Memory.ReadMemory(Famfs2Layout.LogOffset, before);
        string path = Path.Combine(_directory, "backup");
        FileSystemRepair.Apply(result.Repairs, path);
        using JsonDocument backup = JsonDocument.Parse(File.ReadAllText(path));
        JsonElement one = Assert.Single(backup.RootElement.EnumerateArray());
        Assert.Equal(Convert.ToHexStringLower(before), one.GetProperty("before").GetString());
        Assert.Equal(Famfs2Layout.LogOffset, one.GetProperty("offset").GetInt64());
    }

    /// <summary>Both copies of two devices' superblocks and of a famfs-2 header: wherever a repair is killed, the next one ends it.</summary>
    /// <summary>Existing tools write 200 bytes of superblock and leave what a native file system had behind them.</summary>
    [Theory]
    [InlineData(0, DaxDevice.LineBytes)]
    [InlineData(0, 2 * DaxDevice.LineBytes)]
    public void A_famfs_2_superblock_that_lost_lines_does_not_become_the_native_file_system_that_was_there_before(int offset, int lengthBytes)
    {
        FakeSharedMemory memory = Native()[0];
        Famfs2Image image = Start();
        byte[] bytes = new byte[Famfs2Superblock.Size];
        image.Memory.ReadMemory(0, bytes);
        memory.WriteMemory(0, bytes);
        memory.WriteMemory(offset, new byte[lengthBytes]);
        CheckResult result = Run(memory);
        Assert.Equal(["superblock", "unusable"], result.Findings.Select(f => f.Code));
        Assert.Empty(result.Repairs);
        Assert.Throws<FamfsException>(() => TestFormats.All.Open([memory.Attach("c")]));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_repair_that_is_killed_anywhere_is_completed_by_the_next_one(bool native)
    {
        int crashes = 0;
        for (int at = 1; ; at++)
        {
            FakeSharedMemory[] memories = native ? Native() : [Start().Directory("a").Directory("b").Memory];
            if (native)
            {
                memories[0].WriteMemory(700, [0x55]);
                memories[1].WriteMemory(MediaLayout.SuperblockCopyOffset + 700, [0x55]);
            }
            else
            {
                byte[] header = new byte[Famfs2LogHeader.Size];
                new Famfs2LogHeader(Famfs2Layout.MinLogBytes, 4, 3).Format(header);
                memories[0].WriteMemory(Famfs2Layout.LogOffset, header);
            }
            int accesses = 0;
            foreach (FakeSharedMemory memory in memories)
            {
                memory.BeforeAccess = (host, operation, _) =>
                {
                    if (host == "repairing" && operation is FakeOperation.Store or FakeOperation.WriteBack or FakeOperation.Fence && ++accesses == at)
                        throw new PowerLoss();
                };
            }
            bool crashed = false;
            try
            {
                FileSystemRepair.Apply(FileSystemCheck.Run([.. memories.Select(m => m.Attach("repairing"))], TestFormats.All, TimeProvider.System).Repairs, Path.Combine(_directory, $"{native}{at}"));
            }
            catch (PowerLoss)
            {
                crashed = true;
                crashes++;
            }
            foreach (FakeSharedMemory memory in memories)
            {
                memory.BeforeAccess = null;
                memory.Crash("repairing");
            }
            CheckResult after = Run(memories);
            if (after.Findings.Count > 0)
                Repair(after, memories);
            if (!crashed)
                break;
        }
        Assert.InRange(crashes, 3, int.MaxValue);
    }

    [Fact]
    public void Devices_that_are_no_file_system_are_findings_and_no_crash()
    {
        FakeSharedMemory blank = new(8L * Unit, 1);
        Assert.Equal(["superblock", "unusable"], Run(blank).Findings.Select(f => f.Code));
        Assert.Equal(["unusable"], Run(new FakeSharedMemory(4096, 1)).Findings.Select(f => f.Code));
        Famfs2Image image = Start();
        image.Flip(50, 1);
        CheckResult damaged = Run(image.Memory);
        Assert.Equal(["superblock", "unusable"], damaged.Findings.Select(f => f.Code));
        Assert.Empty(damaged.Repairs);
        image.Flip(50, 1);
        image.Memory.Poison(Famfs2Layout.EntryOffset(0), 64);
        Assert.Contains("device-fault", Run(image.Memory).Findings.Select(f => f.Code));
    }

    [Fact]
    public void No_flipped_bit_makes_the_check_or_its_repair_fail()
    {
        Famfs2Image image = Start().Directory("a");
        int number = 0;
        foreach (long offset in (long[])[.. Range(0, Famfs2Superblock.Size), .. Range(Famfs2Layout.LogOffset, 48 + (3 * 544))])
        {
            byte bit = (byte)(1 << (int)(offset % 8));
            byte[] before = Bytes(image.Memory, Famfs2Layout.LogOffset);
            image.Flip(offset, bit);
            CheckResult result = Run(image.Memory);
            if (result.Repairs.Count > 0)
            {
                FileSystemRepair.Apply(result.Repairs, Path.Combine(_directory, $"{number++}"));
                Assert.DoesNotContain(Run(image.Memory).Findings, f => result.Repairs.Any(r => r.Code == f.Code));
                image.Memory.WriteMemory(Famfs2Layout.LogOffset, before);
            }
            else
            {
                image.Flip(offset, bit);
            }
        }
        Assert.NotEqual(0, number);
    }

    private sealed class PowerLoss : Exception;

    private static IEnumerable<long> Range(long start, int count) => Enumerable.Range(0, count).Select(i => start + i);

    private static Famfs2Image Start() => new Famfs2Image().Directory("d").Add(Famfs2Image.File("d/f", 1, Famfs2Image.Extent(Famfs2Image.FirstFreeUnit)));

    /// <summary>A file system of two devices.</summary>
    private static (Famfs2Image Image, FakeSharedMemory Further) WithFurther(uint flags, uint furtherFlags)
    {
        Famfs2Image image = Start();
        image.Superblock = image.Superblock with { Flags = flags };
        image.WriteSuperblock();
        Guid device = Guid.NewGuid();
        FakeSharedMemory further = Further(image, device, furtherFlags, "further");
        image.Add(new Famfs2Device((ulong)further.LengthBytes, device, 1));
        return (image, further);
    }

    private static FakeSharedMemory Further(Famfs2Image image, Guid device, uint flags, string name)
    {
        FakeSharedMemory further = new(16L * Unit, 1, coherent: true) { AccidentOneIn = 0, Name = name };
        byte[] block = new byte[Famfs2Superblock.Size];
        (image.Superblock with { Device = device, DeviceLengthBytes = further.LengthBytes, Flags = flags }).Format(block);
        further.WriteMemory(0, block);
        return further;
    }

    private static FakeSharedMemory[] Native()
    {
        FakeSharedMemory[] memories = [new(8L * Unit, 1, coherent: true) { AccidentOneIn = 0, Name = "first" }, new(4L * Unit, 1, coherent: true) { AccidentOneIn = 0, Name = "second" }];
        NativeFormatter.Format([.. memories.Select(m => m.Attach("a"))], new() { Host = Guid.NewGuid(), Clock = TimeProvider.System });
        foreach (FakeSharedMemory memory in memories)
            memory.Settle();
        return memories;
    }

    private static CheckResult Run(params FakeSharedMemory[] memories) => FileSystemCheck.Run([.. memories.Select(m => m.Attach("c"))], TestFormats.All, TimeProvider.System);

    private static byte[] Bytes(FakeSharedMemory memory, long offset)
    {
        byte[] bytes = new byte[MediaLayout.SuperblockBytes];
        memory.ReadMemory(offset, bytes);
        return bytes;
    }

    private static Famfs2LogHeader HeaderOf(Famfs2Image image)
    {
        byte[] bytes = new byte[Famfs2LogHeader.Size];
        image.Memory.ReadMemory(Famfs2Layout.LogOffset, bytes);
        Famfs2LogHeader.Parse(bytes, image.Superblock.LogLengthBytes, out Famfs2LogHeader header, out _);
        return header;
    }

    private void Repair(CheckResult result, params FakeSharedMemory[] memories)
    {
        FileSystemRepair.Apply(result.Repairs, Path.Combine(_directory, Guid.NewGuid().ToString()));
        foreach (FakeSharedMemory memory in memories)
            memory.Settle();
        Assert.Empty(Run(memories).Findings);
    }
}
