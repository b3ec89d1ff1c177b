using Famfs.Core;
using Famfs.Core.Check;
using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.Core.Namespace;
using Famfs.Core.Tests.Log;
using Famfs.TestSupport;
using Famfs.TestSupport.Dax;
using Famfs.TestSupport.Log;
using Famfs.V1;
using Xunit;

namespace Famfs.Core.Tests.Check;

/// <summary>The end of a log that nobody publishes is made good by a take-over, and by no store to another slot.</summary>
public sealed class TailRepairTests
{
    private static readonly Guid s_nobody = new("99999999-1111-4111-8111-111111111111");

    /// <summary>The last term is slot 1's, of host B.</summary>
    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public async Task A_lost_tail_is_made_good_from_the_own_slot_and_everything_is_there(int slot)
    {
        DamageImage image = new(2);
        PlainMemory memory = new(image.Whole);
        LoseTail(memory);
        CheckResult before = Check(memory);
        Assert.NotNull(before.TailFinding);
        byte[] foreign = Read(memory, LogBench.SlotOffset(1 - slot), MediaLayout.AnchorStride);

        LogPosition end = await RepairAsync(memory, slot == 0 ? LogBench.HostA : LogBench.HostB);

        Assert.Equal(slot, end.Term.Slot);
        CheckResult after = Check(memory);
        Assert.Empty(after.Findings);
        // Behind everything that the lost tail covered are the start and the end of the term, and nothing else.
        Assert.Equal(end, after.Position);
        Assert.Equal(image.Master.Writer.Position.Sequence.Value + 2, end.Sequence.Value);
        using DevicePool pool = Open(memory);
        using ReplayState state = image.NewState();
        DamageImage.Replay(new LogReader(pool, new HastyClock()), state);
        Assert.True(state.TermHasEnded);
        Assert.Equal(slot, (int)state.LastTermStarted!.Slot);
        Assert.NotEqual(0ul, state.LastTermStarted.AdoptedFrom);
        Assert.Equal(foreign, Read(memory, LogBench.SlotOffset(1 - slot), MediaLayout.AnchorStride));
    }

    [Fact]
    public async Task A_host_without_a_slot_a_host_whose_slot_is_locked_and_one_beside_a_living_master_store_nothing()
    {
        DamageImage image = new(2);
        PlainMemory memory = new(image.Whole);
        LoseTail(memory);
        byte[] before = Read(memory, 0, MediaLayout.HostTableOffset);

        Assert.Contains("no master slot", (await Assert.ThrowsAsync<FamfsException>(() => RepairAsync(memory, s_nobody))).Message, StringComparison.Ordinal);
        using (DaxDevice device = memory.Attach())
        {
            Assert.True(device.TryLockByte(1, out IDisposable? held));
            Assert.Contains("is locked", (await Assert.ThrowsAsync<FamfsException>(() => RepairAsync(memory, LogBench.HostB))).Message, StringComparison.Ordinal);
            held.Dispose();
        }
        Assert.Equal(before, Read(memory, 0, MediaLayout.HostTableOffset));

        using DaxDevice living = memory.Attach();
        using CancellationTokenSource stop = new();
        Task heart = Task.Run(() =>
        {
            for (ulong i = 1; !stop.IsCancellationRequested; i++)
                living.WriteWord(LogBench.TailLine(1) + 8, i);
        }, TestContext.Current.CancellationToken);
        Assert.Contains("is running", (await Assert.ThrowsAsync<FamfsException>(() => RepairAsync(memory, LogBench.HostA))).Message, StringComparison.Ordinal);
        await stop.CancelAsync();
        await heart;
        living.WriteWord(LogBench.TailLine(1) + 8, BitConverter.ToUInt64(before, (int)LogBench.TailLine(1) + 8));
        Assert.Equal(before, Read(memory, 0, MediaLayout.HostTableOffset));
    }

    /// <summary>A bit of the offset that makes the tail higher looks like damage below it.</summary>
    [Fact]
    public async Task A_tail_that_is_too_high_stops_a_start_and_is_made_good_by_a_repair()
    {
        DamageImage image = new(2);
        PlainMemory memory = new(image.Whole);
        using (DaxDevice device = memory.Attach())
            device.WriteWord(LogBench.TailLine(1), device.ReadWord(LogBench.TailLine(1)) + 4096);
        CheckResult before = Check(memory);
        Assert.Equal(["log", "log-end"], before.Findings.Select(f => f.Code));
        Assert.Equal("log-end", before.TailFinding);
        using (DevicePool pool = Open(memory))
        {
            Mastership mastership = Mastership.Claim(pool, 0, LogBench.HostA, Guid.NewGuid(), new HastyClock(2000));
            using ReplayState state = image.NewState();
            Assert.Equal(ErrorReason.MediaCorrupt, Assert.Throws<FamfsException>(() => DamageImage.Replay(mastership.Reader, state)).Reason);
        }

        LogPosition end = await RepairAsync(memory, LogBench.HostB);

        Assert.Empty(Check(memory).Findings);
        Assert.Equal(image.Master.Writer.Position.Sequence.Value + 2, end.Sequence.Value);
    }

    [Fact]
    public async Task Damage_that_whole_records_follow_is_never_an_end()
    {
        // No line of a mount, which would contradict such an end.
        DamageImage image = new(2, withLine: false);
        PlainMemory memory = new(image.Whole);
        long place;
        using (DevicePool pool = Open(memory))
        {
            LogReader reader = new(pool, new HastyClock());
            using ReplayState state = image.NewState();
            DamageImage.Replay(reader, state);
            place = reader.Chain[^1].DeviceOffsetOf(reader.Offset - 400);
        }
        using (DaxDevice device = memory.Attach())
        {
            byte[] line = new byte[8];
            device.Read(place, line);
            line[3] ^= 1;
            device.Write(place, line);
        }
        CheckResult before = Check(memory);
        Assert.NotEmpty(before.Findings);
        Assert.Null(before.TailFinding);
        Assert.Equal(ErrorReason.MediaCorrupt, (await Assert.ThrowsAsync<FamfsException>(() => RepairAsync(memory, LogBench.HostB))).Reason);
    }

    [Fact]
    public async Task A_log_that_a_mount_is_ahead_of_is_not_ended()
    {
        DamageImage image = new(2, withLine: false);
        LogPosition end = image.Master.Writer.Position;
        image.WriteLine(1, end with { Sequence = new(end.Sequence.Value + 5) });
        byte[] whole = new byte[image.Memory.LengthBytes];
        image.Memory.ReadMemory(0, whole);
        PlainMemory memory = new(whole);
        LoseTail(memory);

        FamfsException error = await Assert.ThrowsAsync<FamfsException>(() => RepairAsync(memory, LogBench.HostB));
        Assert.Equal(ErrorReason.MediaCorrupt, error.Reason);
        Assert.Contains($"{DamageImage.Mount}", error.Message, StringComparison.Ordinal);
    }

    /// <summary>The tail word of slot 1 becomes one that no master stores.</summary>
    private static void LoseTail(PlainMemory memory)
    {
        using DaxDevice device = memory.Attach();
        device.WriteWord(LogBench.TailLine(1), ulong.MaxValue);
    }

    private static DevicePool Open(PlainMemory memory) => TestFormats.All.Open([memory.Attach()]);

    private static async Task<LogPosition> RepairAsync(PlainMemory memory, Guid host)
    {
        using DevicePool pool = Open(memory);
        return await TailRepair.RunAsync(pool, new(host, Guid.NewGuid(), new byte[32], "test"), TimeProvider.System, TestContext.Current.CancellationToken);
    }

    private static CheckResult Check(PlainMemory memory)
    {
        using DaxDevice device = memory.Attach();
        return FileSystemCheck.Run([device], TestFormats.All, new HastyClock(2000));
    }

    private static byte[] Read(PlainMemory memory, long offset, long length)
    {
        using DaxDevice device = memory.Attach();
        byte[] bytes = new byte[length];
        device.Read(offset, bytes);
        return bytes;
    }
}
