using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Xunit;

namespace Famfs.Core.Tests.Log;

public sealed class MountLineTableTests
{
    [Fact]
    public void Lines_of_other_hosts_are_seen_as_they_were_last_written()
    {
        LogBench bench = new();
        using DevicePool here = bench.OpenPool("a");
        using DevicePool there = bench.OpenPool("b");
        MountLineTable writer = new(here);
        MountLineTable reader = new(there);
        Assert.Equal(MediaLayout.UnitBytes / MediaLayout.HostEntryBytes, writer.EntryCount);
        Assert.Empty(reader.ReadInUse());
        int last = writer.EntryCount - 1;
        for (ulong counter = 1; counter <= 5; counter++)
        {
            foreach (int entry in new[] { 0, 9, last })
                writer.Write(entry, Line(counter));
            List<HostEntry> entries = reader.ReadInUse();
            Assert.Equal([0, 9, last], entries.Select(e => e.Index));
            Assert.All(entries, e => Assert.Equal(counter, e.Line!.Counter));
            Assert.All(entries, e => Assert.False(e.Unreadable));
        }
        Assert.Equal([0, 9], reader.ReadInUse(hostSlots: 2).Select(e => e.Index));
        Assert.Equal([0], reader.ReadInUse(hostSlots: 1).Select(e => e.Index));
        Assert.Empty(reader.ReadInUse(hostSlots: 0));
        Assert.Equal([0, 9, last], reader.ReadInUse(hostSlots: int.MaxValue).Select(e => e.Index));
        Assert.Equal([9], reader.ReadBlock(1).Select(e => e.Index));
        Assert.Equal(1, reader.ReadBlock(1)[0].HostSlot);
        Assert.Throws<ArgumentOutOfRangeException>(() => writer.Write(last + 1, Line(1)));
        Assert.Throws<ArgumentOutOfRangeException>(() => writer.Write(-1, Line(1)));
        foreach (int slot in new[] { reader.HostCapacity, -1, int.MaxValue })
            Assert.Contains($"host slot {(uint)slot} is beyond", Assert.Throws<FamfsException>(() => reader.ReadBlock(slot)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_line_is_in_memory_when_everybody_reads_it_as_it_was_written()
    {
        LogBench bench = new();
        using DevicePool pool = bench.OpenPool("a");
        MountLineTable table = new(pool);
        MountLine[] lines = [.. ((ulong[])[1, 2]).Select(counter => Line(counter) with { LeaseMs = 30_000 })];
        foreach (MountLine line in lines)
        {
            Assert.False(table.IsInMemory(3, line));
            table.Write(3, line);
            Assert.True(table.IsInMemory(3, line));
            Assert.False(table.IsInMemory(3, line with { LeaseMs = 0 }));
        }
        bench.Damage(MediaLayout.HostTableOffset + (3 * MediaLayout.HostEntryBytes) + MountLine.Size + 200);
        Assert.False(table.IsInMemory(3, lines[1]));
        Assert.True(table.IsInMemory(3, lines[0]));
    }

    [Fact]
    public void A_torn_write_leaves_the_line_before_it_and_bytes_that_are_no_line_are_a_holder()
    {
        LogBench bench = new();
        using DevicePool pool = bench.OpenPool("a");
        MountLineTable table = new(pool);
        table.Write(3, Line(1));
        table.Write(3, Line(2));
        long place = MediaLayout.HostTableOffset + (3 * MediaLayout.HostEntryBytes);
        bench.Damage(place + MountLine.Size + 40);
        Assert.Equal(1UL, Assert.Single(table.ReadInUse()).Line!.Counter);
        bench.Damage(place + 40);
        HostEntry entry = Assert.Single(table.ReadInUse());
        Assert.True(entry.Unreadable);
        Assert.Null(entry.Line);
        // Two damaged copies are of anybody.
        Assert.False(entry.IsUnfinished);
    }

    [Fact]
    public void A_first_write_that_tore_is_a_holder_to_others_and_unfinished_to_its_host()
    {
        LogBench bench = new();
        using DevicePool pool = bench.OpenPool("a");
        MountLineTable table = new(pool);
        table.Write(3, Line(1));
        Assert.False(Assert.Single(table.ReadInUse()).IsUnfinished);
        bench.Damage(MediaLayout.HostTableOffset + (3 * MediaLayout.HostEntryBytes) + 40);
        HostEntry entry = Assert.Single(table.ReadInUse());
        Assert.Equal((true, true, 0UL), (entry.Unreadable, entry.IsUnfinished, entry.FormerCounter));
    }

    /// <summary>The entry of an ended mount was taken by another one, and a line of what that one wrote is damaged.</summary>
    [Fact]
    public void Damage_beside_the_end_of_a_former_mount_is_a_holder_of_unknown_identity()
    {
        LogBench bench = new();
        using DevicePool pool = bench.OpenPool("a");
        MountLineTable table = new(pool);
        table.Write(3, Line(2) with { State = MountState.Ended });
        Assert.Equal(MountState.Ended, Assert.Single(table.ReadInUse()).Line!.State);
        table.Write(3, Line(3));
        bench.Damage(MediaLayout.HostTableOffset + (3 * MediaLayout.HostEntryBytes) + 40);
        HostEntry entry = Assert.Single(table.ReadInUse());
        Assert.True(entry.Unreadable);
        Assert.Null(entry.Line);
        Assert.Equal((true, 2UL), (entry.IsUnfinished, entry.FormerCounter));
        // The second write of a mount makes good for it.
        table.Write(3, Line(4));
        Assert.Equal(4UL, Assert.Single(table.ReadInUse()).Line!.Counter);
    }

    private static MountLine Line(ulong counter) => new() { Counter = counter, State = MountState.Live, Host = LogBench.HostA, Boot = Guid.NewGuid(), Mount = Guid.NewGuid() };
}
