using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.TestSupport;
using Famfs.TestSupport.Dax;
using Famfs.TestSupport.Log;
using Famfs.V1;
using Xunit;

namespace Famfs.Core.Tests.Log;

public sealed class NativeFormatterTests
{
    private const int Unit = MediaLayout.UnitBytes;

    public static TheoryData<string> BadInputs => ["no device", "no hosts", "too many hosts", "host table does not fit", "too small", "further too small", "not blank", "the same device twice", "label too long", "a device is of a file system"];

    [Theory]
    [MemberData(nameof(BadInputs))]
    public void Bad_input_is_refused_and_changes_no_byte(string what)
    {
        FakeSharedMemory[] memories = [Memory(what == "too small" ? 3 : 8), Memory(what == "further too small" ? 1 : 4)];
        byte[] noise = new byte[3 * 4096];
        new Random(1).NextBytes(noise);
        foreach (FakeSharedMemory memory in memories)
            memory.WriteMemory(Unit + 4096, noise);
        if (what == "not blank")
            memories[1].WriteMemory(1000, noise.AsSpan(0, 1));
        if (what == "a device is of a file system")
            NativeFormatter.Format([memories[1].Attach("m")], Options());
        DaxDevice[] devices = [memories[0].Attach("a"), memories[1].Attach("a")];
        FormatOptions options = what switch
        {
            "no hosts" => Options() with { MaxHosts = 0 },
            "too many hosts" => Options() with { MaxHosts = 65537 },
            "host table does not fit" => Options() with { MaxHosts = 4096 },
            "label too long" => Options() with { Label = new string('ä', 32) },
            _ => Options(),
        };
        if (what == "no device")
            devices = [];
        if (what == "the same device twice")
            devices = [devices[0], memories[0].Attach("a")];
        memories[0].Settle();
        memories[1].Settle();
        byte[][] before = [.. memories.Select(Bytes)];
        FamfsException error = Assert.Throws<FamfsException>(() => NativeFormatter.Format(devices, options));
        Assert.DoesNotContain('\n', error.Message);
        for (int i = 0; i < memories.Length; i++)
        {
            memories[i].Settle();
            Assert.True(before[i].AsSpan().SequenceEqual(Bytes(memories[i])), $"device {i} was changed");
        }
    }

    [Fact]
    public void Force_overwrites_and_nothing_of_the_old_file_system_shows()
    {
        FakeSharedMemory memory = Memory(16);
        for (int i = 0; i < 3; i++)
        {
            NativeFormatter.Format([memory.Attach("a")], Options() with { Force = true });
            using DevicePool pool = TestFormats.All.Open([memory.Attach("b")]);
            LogReader reader = new(pool, new HastyClock());
            LogHistory history = TestMaster.Replay(reader, pool);
            Assert.Equal(4, history.Records.Count);
            TestMaster master = TestMaster.Start(pool, 0, LogBench.HostA);
            Assert.Equal(128UL, master.Writer.Term.Value);
            master.PublishValues(1, 2, 3);
        }
        Assert.Equal(ErrorReason.Exists, Assert.Throws<FamfsException>(() => NativeFormatter.Format([memory.Attach("a")], Options())).Reason);
    }

    [Fact]
    public void Many_devices_belong_to_one_file_system_in_their_order()
    {
        FakeSharedMemory[] memories = [Memory(8), Memory(4), Memory(2)];
        NativeSuperblock made = NativeFormatter.Format([.. memories.Select(m => m.Attach("a"))], Options() with { Label = "three" });
        using DevicePool pool = TestFormats.All.Open([memories[2].Attach("b"), memories[0].Attach("b"), memories[1].Attach("b")]);
        Assert.Equal([0, 1, 2], pool.Present.Select(i => (int)i.Value));
        Assert.Equal(made, pool.Primary);
        LogHistory history = TestMaster.Replay(new(pool, new HastyClock()), pool);
        Assert.Equal(3, history.Records.Count(r => r.Type == RecordType.DeviceAdded));
        for (ushort i = 0; i < 3; i++)
            Assert.Equal(memories[i].LengthBytes, pool.Require(new(i)).LengthBytes);
    }

    [Fact]
    public void Zero_clears_what_files_will_get()
    {
        FakeSharedMemory[] memories = [Memory(8), Memory(4)];
        foreach (FakeSharedMemory memory in memories)
            memory.WriteMemory(memory.LengthBytes - 5000, Enumerable.Repeat((byte)7, 5000).ToArray());
        NativeFormatter.Format([.. memories.Select(m => m.Attach("a"))], Options() with { Zero = true });
        foreach (FakeSharedMemory memory in memories)
            Assert.False(Bytes(memory).AsSpan((int)memory.LengthBytes - Unit).ContainsAnyExcept((byte)0));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public void A_crash_at_any_store_leaves_an_old_a_new_or_no_file_system_and_never_half_a_one(int seed)
    {
        bool finished = false;
        for (int crashAt = 0; !finished; crashAt += crashAt < 40 ? 1 : 17)
        {
            FakeSharedMemory memory = new(8L * Unit, seed + crashAt);
            NativeFormatter.Format([memory.Attach("a")], Options() with { Label = "old" });
            memory.Settle();
            int left = crashAt;
            memory.BeforeAccess = (_, operation, _) =>
            {
                if (operation is FakeOperation.Store or FakeOperation.Land or FakeOperation.Zero && left-- == 0)
                    memory.Crash("a");
            };
            try
            {
                NativeFormatter.Format([memory.Attach("a")], Options() with { Label = "new", Force = true });
                finished = true;
            }
            catch (FakeHostCrashedException)
            {
            }
            memory.BeforeAccess = null;
            using DaxDevice device = memory.Attach("b");
            SuperblockVerdict verdict = NativeMedia.ReadSuperblock(device, out NativeSuperblock? superblock, out _);
            if (verdict != SuperblockVerdict.Good)
                continue;
            Assert.True(superblock!.Label == "new" || crashAt == 0, $"crash at {crashAt}: {superblock.Label}");
            using DevicePool pool = TestFormats.All.Open([memory.Attach("b")]);
            Assert.Equal(4, TestMaster.Replay(new(pool, new HastyClock()), pool).Records.Count);
        }
    }

    [Fact]
    public void A_further_device_is_made_for_its_index_only_when_it_is_blank()
    {
        LogBench bench = new();
        FakeSharedMemory more = Memory(3);
        NativeSuperblock superblock = NativeFormatter.FormatFurther(more.Attach("a"), bench.Superblock, new(1), force: false, TimeProvider.System);
        Assert.Equal(bench.Superblock.FileSystem, superblock.FileSystem);
        using DevicePool pool = bench.OpenPool("b");
        Assert.Equal(new DeviceIndex(1), pool.Attach(more.Attach("b")));
        Assert.Equal(superblock.Device, pool.FindUuid(new(1)));
        Assert.Equal(ErrorReason.Exists, Assert.Throws<FamfsException>(() => NativeFormatter.FormatFurther(more.Attach("a"), bench.Superblock, new(2), force: false, TimeProvider.System)).Reason);
    }

    private static FakeSharedMemory Memory(int units) => new((long)units * Unit, 1) { Name = $"dax{units}" };

    private static FormatOptions Options() => new() { Host = LogBench.HostA, Clock = TimeProvider.System, MaxHosts = 1 };

    private static byte[] Bytes(FakeSharedMemory memory)
    {
        byte[] bytes = new byte[memory.LengthBytes];
        memory.ReadMemory(0, bytes);
        return bytes;
    }
}
