using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.TestSupport;
using Famfs.TestSupport.Dax;
using Famfs.TestSupport.Log;
using Xunit;

namespace Famfs.Core.Tests.Log;

/// <summary>A formatted file system in fake shared memory, with hosts that have their own caches.</summary>
internal sealed class LogBench
{
    public static readonly Guid HostA = new("aaaaaaaa-1111-4111-8111-111111111111");
    public static readonly Guid HostB = new("bbbbbbbb-2222-4222-8222-222222222222");

    public LogBench(bool coherent = false, int seed = 1, int accidentOneIn = 8)
    {
        Memory = new(64L * MediaLayout.UnitBytes, seed, coherent) { AccidentOneIn = accidentOneIn };
        using DaxDevice device = Memory.Attach("mkfs");
        Superblock = NativeFormatter.Format([device], new()
        {
            Host = HostA,
            Clock = TimeProvider.System,
            FileSystem = new("00112233-4455-4677-8899-aabbccddeeff"),
            MaxHosts = 1,
        });
    }

    public FakeSharedMemory Memory { get; }

    public NativeSuperblock Superblock { get; }

    public DevicePool OpenPool(string host) => TestFormats.All.Open([Memory.Attach(host)]);

    public TestMaster StartMaster(string host, int slot) => TestMaster.Start(OpenPool(host), slot, slot == 0 ? HostA : HostB);

    /// <summary>A master in slot 0 that has granted slot 1.</summary>
    public TestMaster StartFirst()
    {
        TestMaster master = StartMaster("a", 0);
        master.Grant(1, HostB);
        master.PublishValues(1, 2, 3);
        return master;
    }

    public LogReader NewReader(string host) => new(OpenPool(host), clock: new HastyClock());

    public LogHistory ReadAll(string host) => TestMaster.Replay(NewReader(host), OpenPool(host));

    /// <summary>Polls until nothing more comes.</summary>
    public static PollVerdict Drain(LogReader reader, LogHistory into)
    {
        PollVerdict verdict;
        while ((verdict = reader.Poll(out LogBlock block)) == PollVerdict.Records)
            into.Apply(block);
        return verdict;
    }

    public static void RequireSame(LogHistory expected, LogHistory actual) => Assert.Equal(expected.Records, actual.Records);

    public static long SlotOffset(int slot) => MediaLayout.AnchorOffset + (long)slot * MediaLayout.AnchorStride;

    public static long TailLine(int slot) => SlotOffset(slot) + 128;

    /// <summary>Flips one bit of memory behind all caches.</summary>
    public void Damage(long offset, byte mask = 1)
    {
        Memory.Settle();
        byte[] one = new byte[1];
        Memory.ReadMemory(offset, one);
        one[0] ^= mask;
        Memory.WriteMemory(offset, one);
    }
}
