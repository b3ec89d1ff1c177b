using Famfs.Core.Check;
using Famfs.Core.Format;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.TestSupport;
using Famfs.TestSupport.Dax;
using Famfs.TestSupport.Famfs2;
using Famfs.V1;
using Xunit;

namespace Famfs.Core.Tests.Check;

public sealed class MountsInMemoryTests
{
    private static readonly MountLine s_line = new() { Counter = 5, State = MountState.Live, Host = Guid.NewGuid(), Boot = Guid.NewGuid(), Mount = Guid.NewGuid(), Dialect = 3, ReplayedSequence = new(2), ReplayedTerm = new(64), Exceptions = [new(9000), new(SystemInode)] };

    // Of mkfs: it has a map.
    private const ulong SystemInode = 4;

    [Fact]
    public void Each_line_is_a_mount_and_one_that_stands_still_is_silent()
    {
        FakeSharedMemory memory = new(64L << 20, seed: 1) { AccidentOneIn = 0 };
        NativeFormatter.Format([memory.Attach("a")], new() { Host = Guid.NewGuid(), Clock = TimeProvider.System });
        using DevicePool pool = TestFormats.All.Open([memory.Attach("b")]);
        MountLineTable table = new(pool);
        MountLine ended = s_line with { Mount = Guid.NewGuid(), State = MountState.Ended };
        table.Write(0, s_line);
        table.Write(1, ended);

        ListHostsReply reply = MountsInMemory.Read(pool, number => $"dialect {number}", TimeProvider.System, TimeSpan.Zero);

        HostStatus silent = Assert.Single(reply.Hosts, h => h.State == HostState.Silent);
        Assert.Equal((s_line.Mount, s_line.Host, "dialect 3", 2UL), (silent.MountId.ToGuid("mount"), silent.HostId.ToGuid("host"), silent.Dialect, silent.Position.Sequence));
        Assert.Equal(reply.Position.Sequence - 2, silent.LagRecords);
        Assert.Equal([SystemInode, 9000], silent.HeldFiles.Select(f => f.Inode));
        Assert.Equal((true, 0UL), (silent.HeldFiles[0].SpaceBytes > 0, silent.HeldFiles[1].SpaceBytes));
        HostStatus gone = Assert.Single(reply.Hosts, h => h.State == HostState.Gone);
        Assert.Equal((ended.Mount, GoneEvidence.CleanUnmount, 0UL), (gone.MountId.ToGuid("mount"), gone.Evidence, gone.LagRecords));
        Assert.Equal(2, reply.Hosts.Count);
        Assert.Empty(gone.HeldFiles);
    }

    [Fact]
    public void A_format_without_lines_has_only_a_master_to_tell()
    {
        using DevicePool pool = new Famfs2Image().Open();
        Assert.Equal(ErrorReason.NotMaster, Assert.Throws<FamfsException>(() => MountsInMemory.Read(pool, _ => "", TimeProvider.System, TimeSpan.Zero)).Reason);
    }
}
