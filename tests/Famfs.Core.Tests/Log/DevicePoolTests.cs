using Famfs.Core.Dax;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.TestSupport;
using Famfs.TestSupport.Dax;
using Famfs.V1;
using Xunit;

namespace Famfs.Core.Tests.Log;

public sealed class DevicePoolTests
{
    private readonly FakeSharedMemory[] _memories = [new(8L << 21, 1) { Name = "zero" }, new(4L << 21, 2) { Name = "one" }];
    private readonly FakeSharedMemory _foreign = new(8L << 21, 3) { Name = "foreign" };

    public DevicePoolTests()
    {
        FormatOptions options = new() { Host = LogBench.HostA, Clock = TimeProvider.System, MaxHosts = 1 };
        NativeFormatter.Format([.. _memories.Select(m => m.Attach("m"))], options);
        NativeFormatter.Format([_foreign.Attach("m")], options with { FileSystem = Guid.NewGuid() });
        foreach (FakeSharedMemory memory in (FakeSharedMemory[])[.. _memories, _foreign])
            memory.Settle();
    }

    [Fact]
    public void Wrong_sets_of_devices_are_refused_with_their_cause()
    {
        DaxDevice zero = _memories[0].Attach("a");
        DaxDevice one = _memories[1].Attach("a");
        Assert.Equal(ErrorReason.DeviceMissing, Refused(one));
        Assert.Equal(ErrorReason.DeviceMissing, Refused());
        Assert.Equal(ErrorReason.WrongFilesystem, Refused(zero, _foreign.Attach("a")));
        Assert.Equal(ErrorReason.WrongFilesystem, Refused(zero, one, _memories[1].Attach("a")));
        Assert.Equal(ErrorReason.WrongFilesystem, Refused(_foreign.Attach("a"), one));
        Assert.Equal(ErrorReason.WrongFilesystem, Refused(zero, new FakeSharedMemory(4L << 21, 1).Attach("a")));
        Assert.Equal(ErrorReason.WrongFilesystem, Refused(new FakeSharedMemory(4096, 1).Attach("a")));
        // They are the caller's still.
        Assert.Equal(SuperblockHead.Magic, one.ReadWord(0));
        Assert.Equal(SuperblockHead.Magic, zero.ReadWord(0));
    }

    [Fact]
    public void A_device_that_is_not_here_is_named_when_it_is_needed()
    {
        using DevicePool pool = TestFormats.All.Open([_memories[0].Attach("a")]);
        Assert.Null(pool.Find(new(1)));
        Assert.Null(pool.FindUuid(new(1)));
        Assert.Null(pool.Find(new(ushort.MaxValue)));
        FamfsException error = Assert.Throws<FamfsException>(() => pool.Require(new(1)));
        Assert.Equal(ErrorReason.DeviceMissing, error.Reason);
        pool.Attach(_memories[1].Attach("a"));
        Assert.NotNull(pool.Require(new(1)));
        Assert.Equal(ErrorReason.WrongFilesystem, Assert.Throws<FamfsException>(() => pool.Attach(_foreign.Attach("a"))).Reason);
    }

    [Fact]
    public void A_truncated_device_is_refused()
    {
        FakeSharedMemory small = new(7L << 21, 1);
        byte[] block = new byte[MediaLayout.SuperblockBytes];
        _memories[0].ReadMemory(0, block);
        small.WriteMemory(0, block);
        FamfsException error = Assert.Throws<FamfsException>(() => TestFormats.All.Open([small.Attach("a")]));
        Assert.Equal(ErrorReason.MediaCorrupt, error.Reason);
        Assert.Contains("truncated", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void The_second_superblock_stands_in_for_a_damaged_first_and_not_for_a_wiped_one()
    {
        byte[] block = new byte[MediaLayout.SuperblockBytes];
        _memories[0].ReadMemory(0, block);
        foreach (int at in new[] { 0, 50, 97, 600, 3000 })
        {
            block[at] ^= 4;
            _memories[0].WriteMemory(0, block);
            using (DevicePool pool = TestFormats.All.Open([_memories[0].Attach($"a{at}")]))
                Assert.True(pool.Primary.Index.Value == 0);
            block[at] ^= 4;
        }
        _memories[0].WriteMemory(0, new byte[MediaLayout.SuperblockBytes]);
        Assert.Equal(ErrorReason.WrongFilesystem, Assert.Throws<FamfsException>(() => TestFormats.All.Open([_memories[0].Attach("b")])).Reason);
        block[97] ^= 4;
        _memories[0].WriteMemory(0, block);
        _memories[0].WriteMemory(MediaLayout.SuperblockCopyOffset, block);
        Assert.Equal(ErrorReason.MediaCorrupt, Assert.Throws<FamfsException>(() => TestFormats.All.Open([_memories[0].Attach("c")])).Reason);
    }

    [Fact]
    public void Coherence_is_what_the_superblock_declares()
    {
        DaxDevice device = _memories[0].Attach("a");
        device.Coherent = true;
        using DevicePool pool = TestFormats.All.Open([device]);
        Assert.False(device.Coherent);
    }

    private static ErrorReason Refused(params DaxDevice[] devices) => Assert.Throws<FamfsException>(() => TestFormats.All.Open(devices)).Reason;
}
